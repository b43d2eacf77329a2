"""The steps of a lean run, and what the account was after each; hot."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

import numpy as np

from backtest.engine.lean.lines import Cursor


def stamps_of(data: Any) -> np.ndarray:
    """Return the stamps of a preloaded feed, shape (bars,), in Backtrader's days."""
    return np.frombuffer(data.lines.datetime.array)[: data.buflen()]


class Clock:
    """The steps of a run: stamps, and the cursors that move at each; feeds with equal stamps share a cursor."""

    def __init__(self, datas: list[Any]) -> None:
        groups: dict[bytes, Cursor] = {}
        shared: dict[Cursor, np.ndarray] = {}
        self.cursor_of: dict[Any, Cursor] = {}
        for data in datas:
            stamps = stamps_of(data)
            cursor = groups.setdefault(_fingerprint(stamps) if len(datas) > 1 else b"", Cursor())
            shared[cursor] = stamps
            self.cursor_of[data] = cursor
        self.cursors = list(shared)
        self.rows: dict[Cursor, Any] = {}
        if len(shared) == 1:
            (self.own,) = shared
            self.steps = len(next(iter(shared.values())))
            self.stamps: Any = datas[0].lines.datetime.array
            self.rows[self.own] = None  # each step is a row
            return
        self.own = Cursor()
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

    def movers(self) -> Iterator[tuple[Cursor, ...]]:
        """Yield the cursors that move, step by step; the strategy's own is always among them."""
        if len(self.cursors) == 1:
            return repeat((self.own,), self.steps)
        patterns: dict[bytes, tuple[Cursor, ...]] = {}
        for row in {row.tobytes(): row for row in np.unique(self._moves, axis=0)}.values():
            patterns[row.tobytes()] = (*(c for c, moves in zip(self.cursors, row, strict=True) if moves), self.own)
        width, packed = self._moves.shape[1], self._moves.tobytes()
        return (patterns[packed[at : at + width]] for at in range(0, len(packed), width))

    def row(self, cursor: Cursor) -> Any:
        """Return the row that a cursor stands at after each step, -1 before its first; a slice where they agree."""
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


class History:
    """
    What the account was after each step of a lean run, as arrays.

    Where cash and positions moved with fills only they are made of the fills; from the step on at which something
    else moved them, of what was noted step by step.
    """

    def __init__(self, clock: Clock, broker: Any, datas: list[Any]) -> None:
        self._clock, self._broker, self._datas = clock, broker, datas
        self._first_noted = -1
        self._notes: list[array[float]] = [array("d") for _ in range(2 + len(datas))]

    def note(self, step: int) -> None:
        """Note the account after a step."""
        if self._first_noted < 0:
            self._first_noted = step
        held = self._broker.positions
        sizes = (held[data].size if data in held else 0 for data in self._datas)
        for column, value in zip(
            self._notes, chain((self._broker.getvalue(), self._broker.getcash()), sizes), strict=True
        ):
            column.append(value)

    def close(self, steps: int) -> None:
        """End the history at a number of steps, and make the arrays."""
        clock, quiet = self._clock, steps if self._first_noted < 0 else self._first_noted
        self.stamps = np.frombuffer(clock.stamps, count=steps).copy() if steps else np.zeros(0)
        noted = [np.array(column) for column in self._notes]
        fills: dict[Any, list[tuple[int, Any, float]]] = {data: [] for data in self._datas}
        for step, data, size, price in self._broker.fills:
            fills[data].append((step, size, price))
        held = {data: _held(fills[data], quiet) for data in self._datas}
        cash = _steps_of(self._broker.cashes, quiet)
        self.equity = _joined(cash + self._worth(held, quiet), noted[0])
        self.cash = _joined(cash, noted[1])
        self.positions = [_joined(held[data][0], noted[2 + n]) for n, data in enumerate(self._datas)]
        self.closes = [self._closes(data, steps, missing=float("nan")) for data in self._datas]

    def _worth(self, held: dict[Any, tuple[np.ndarray, np.ndarray]], steps: int) -> np.ndarray:
        """Return the value of all positions, by the arithmetic and the order of `BackBroker._get_value`."""
        total = np.zeros(steps)
        traded = {id(data) for _, data, *_ in self._broker.fills}
        for data in self._broker.positions:
            if id(data) not in traded:
                continue
            (size, price), model = held[data], self._broker.getcommissioninfo(data)
            close = self._closes(data, steps)
            value, unrealized = size * close, size * (close - price) * model.p.mult
            unlevered = total + (value - unrealized) / model.get_leverage() + unrealized
            total = np.where(value > 0, unlevered, total + value)
        return total

    def _closes(self, data: Any, steps: int, missing: float | None = None) -> np.ndarray:
        rows = self._clock.row(self._clock.cursor_of[data])
        if not data.buflen():
            return np.full(steps, np.nan)
        closes: np.ndarray = np.frombuffer(data.lines.close.array)[rows][:steps]
        return closes if missing is None or isinstance(rows, slice) else np.where(rows[:steps] < 0, missing, closes)


def _joined(first: np.ndarray, rest: np.ndarray) -> np.ndarray:
    return np.concatenate([first, rest]) if len(rest) else first  # of 10,000,000 bars a copy is 80 MB


def _held(fills: list[tuple[int, Any, float]], steps: int) -> tuple[np.ndarray, np.ndarray]:
    columns = ([(step, row[n]) for step, *row in [(0, 0, 0.0), *fills]] for n in range(2))
    size, price = (_steps_of(column, steps) for column in columns)
    return size, price


def _steps_of(changes: list[tuple[int, Any]], steps: int) -> np.ndarray:
    """Return the value at each step, of changes in order of steps; the last of a step counts."""
    last = dict(changes)
    if set(last.values()) == {0}:
        return np.zeros(steps)  # which takes memory only where it is written
    at = np.array([step for step in last if step < steps], np.int64)
    values = np.array([float(value) for step, value in last.items() if step < steps])
    return np.repeat(values, np.diff(at, append=steps))
