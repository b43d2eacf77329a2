"""The clock of a lean run: what advances at each step, and in which order."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import numpy as np

from backtest.engine.lean.lines import Cursor


def feed_stamps(data: Any) -> np.ndarray:
    """Return the timestamps of a preloaded feed, shape (bars,), in Backtrader's days."""
    return np.frombuffer(data.lines.datetime.array)[: data.buflen()]


class FeedClock:
    """
    The steps of a run: timestamps, and the cursors that advance at each; feeds with equal ones share a cursor.

    In Backtrader's loop feeds advance first, then the broker works, then indicators advance, then the strategy; each
    sees what has advanced before it. So each has its own cursors: `cursor_of` a feed, `follower_of` a feed's cursor for
    indicators over it, `own` for the strategy, and `behind` for indicators over the strategy and its lines, which see
    the strategy at the previous step.
    """

    def __init__(self, datas: list[Any]) -> None:
        groups: dict[bytes, Cursor] = {}
        shared: dict[Cursor, np.ndarray] = {}
        self.cursor_of: dict[Any, Cursor] = {}
        before, cursor = np.zeros(0), None
        for data in datas:
            stamps = feed_stamps(data)
            if cursor is None or not np.array_equal(stamps, before):  # most feeds have the stamps of the one before
                cursor = groups.setdefault(_fingerprint(stamps) if len(datas) > 1 else b"", Cursor())
            shared[cursor] = before = stamps
            self.cursor_of[data] = cursor
        self.cursors = list(shared)
        self.follower_of = {cursor: Cursor() for cursor in self.cursors}
        self.own, self.behind = Cursor(), Cursor()
        self.rows: dict[Cursor, Any] = {}
        if len(shared) == 1:
            self.steps = len(next(iter(shared.values())))
            self.stamps: Any = datas[0].lines.datetime.array
            self.rows[self.cursors[0]] = None  # each step is a row
            return
        self._merge(shared)

    def _merge(self, shared: dict[Cursor, np.ndarray]) -> None:
        keys = {cursor: _with_occurrence(stamps) for cursor, stamps in shared.items()}
        steps = np.unique(np.concatenate(list(keys.values())))
        self.steps = len(steps)
        self.stamps = array("d", steps.real.tobytes())
        places = {cursor: np.searchsorted(steps, key) for cursor, key in keys.items()}
        moves = np.zeros((self.steps, len(shared)), bool)
        for column, (cursor, place) in enumerate(places.items()):
            moves[place, column] = True
            self.rows[cursor] = np.cumsum(moves[:, column]) - 1
        self._moves = moves

    def movers(self) -> Iterator[tuple[tuple[Cursor, ...], tuple[Cursor, ...]]]:
        """Yield the cursors of feeds that advance, and of the indicators over these, step by step."""
        if len(self.cursors) == 1:
            return repeat(self._with_followers(self.cursors), self.steps)
        patterns = {}
        for row in np.unique(self._moves, axis=0):
            moving = [cursor for cursor, moves in zip(self.cursors, row, strict=True) if moves]
            patterns[row.tobytes()] = self._with_followers(moving)
        width, packed = self._moves.shape[1], self._moves.tobytes()
        return (patterns[packed[at : at + width]] for at in range(0, len(packed), width))

    def _with_followers(self, cursors: list[Cursor]) -> tuple[tuple[Cursor, ...], tuple[Cursor, ...]]:
        return tuple(cursors), tuple(self.follower_of[cursor] for cursor in cursors)

    def row(self, cursor: Cursor) -> Any:
        """Return the row of a cursor after each step, -1 before its first; a slice where they agree."""
        rows = self.rows[cursor]
        return slice(None) if rows is None else rows

    def phases(self, minimums: dict[Cursor, int]) -> tuple[int, int]:
        """Return for how many steps the longest minimum period is not reached, and for how many it is just reached."""
        if len(self.cursors) == 1:
            (minimum,) = minimums.values()
            return min(minimum - 1, self.steps), int(minimum <= self.steps)
        status = np.max([minimum - 1 - self.row(cursor) for cursor, minimum in minimums.items()], axis=0)
        return int((status > 0).sum()), int((status == 0).sum())


def _fingerprint(stamps: np.ndarray) -> bytes:
    import hashlib

    return hashlib.blake2b(stamps.tobytes()).digest()


def _with_occurrence(stamps: np.ndarray) -> np.ndarray:
    """Return the stamps as complex numbers, the imaginary part the how-many-eth of equal ones: each is a step."""
    keys: np.ndarray = stamps + 1j * (np.arange(len(stamps)) - np.searchsorted(stamps, stamps))
    return keys
