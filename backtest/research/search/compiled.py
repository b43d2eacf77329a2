"""
`compiled`: trials that the compiled engine makes at once, as far as the event engine agrees.

Of each block of trials the event engine makes the first, the last, the best and two that are drawn, too. Where one of
them differs in anything, none of the block counts, and all trials are left to the event engine.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from backtest.research.search.job import Job, Point, bars_of, trials_at_once, trials_of
from backtest.research.search.trials import Trial
from backtest.runs.parameters import words_of

FEWEST = 32  # trials that it pays to make at once: what a bar costs hardly depends on their number
_LARGEST = 500
_ROOM = 200_000_000  # bytes of the accounts of a block, bar by bar
_FOR_A_BAR = 40  # bytes of each column of an account while it is collected, as measured
_DRAWN = 2


ENGINES = ("compiled", "event")


@dataclass(frozen=True, slots=True)
class Engines:
    """Which engine makes trials, and what came of the choice."""

    asked: str = ""  # one of ENGINES; "" for the compiled one where it can, and where it pays
    rank: str = "sharpe"  # by which the best of the trials is known, which both engines make
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ENGINES, 0))  # trials by engine
    why_not: list[str] = field(default_factory=list)  # reasons of the compiled one

    @property
    def words(self) -> str:
        """Which engine made the trials, in a line; "" where there was nothing to choose."""
        by_compiled, by_events = (self.counts[name] for name in ENGINES)
        if by_compiled:
            return (
                f"compiled (numpy): {by_compiled:,} trials{f', {by_events:,} by the event engine' if by_events else ''}"
            )
        if not by_events or not self.why_not:
            return f"event engine: {by_events:,} trials" if self.asked and by_events else ""
        return f"event engine: {self.why_not[0].replace(f'{Path.cwd()}/', '')}"


@dataclass(frozen=True)
class Block:
    """
    What came of some points.

    Attributes:
        trials: those that were made.
        left: those that the event engine is to make.
        why_not: why it is to make all that are left; "" where it is about single ones.
        differs: whether the reason is that the engines do not agree, so that no trial of a block before counts.
    """

    trials: list[Trial]
    left: list[Point] = field(default_factory=list)
    why_not: str = ""
    differs: bool = False


def compiled(job: Job, points: Sequence[Point], rank: str, fewest: int = FEWEST) -> Iterator[Block]:
    """
    Yield what comes of points, block by block; all of them are among the trials or left.

    Args:
        rank: a metric, by which the best of a block is checked; "-NAME" for the lowest.
        fewest: so many points are worth it.
    """
    points = list(points)
    if any(point.window for point in points):
        yield Block([], points, "trials in a window of sessions are not compiled")
        return
    if len(points) < fewest:
        yield Block([], points)
        return
    (first,) = trials_of(job, points[:1])
    if first.error:
        yield Block([first], points[1:], f"the first trial fails: {first.error}")
        return
    size = min(_LARGEST, _ROOM // (bars_of(job) * (2 + len(job.series)) * _FOR_A_BAR))
    if size < fewest:
        yield Block([first], points[1:], f"{bars_of(job):,} bars are too many to make trials at once")
        return
    known = {first.key: first}
    for start in range(0, len(points), size):
        block = _block(job, points[start : start + size], rank, known)
        if block.why_not:
            rest = points[start + size :]
            yield Block(block.trials, [*block.left, *rest], block.why_not, block.differs)
            return
        yield block


def _block(job: Job, points: Sequence[Point], rank: str, known: dict[str, Trial]) -> Block:
    """Return what comes of a block, of which some trials may be known from the event engine."""
    made, why_not = trials_at_once(job, points)
    places = [place for place, trial in enumerate(made) if trial is not None]
    checked: dict[int, Trial] = {}
    for place in [] if why_not else _checked(job, points, made, rank):
        (trial,) = (
            [known[job.key(points[place])]] if job.key(points[place]) in known else trials_of(job, [points[place]])
        )
        checked[place] = trial
        if not _same(trial, made[place]):
            why_not = f"the engines differ in {words_of(points[place].params)}; please report it"
            break
    if why_not:
        own = {job.key(point): known[job.key(point)] for point in points if job.key(point) in known}
        own |= {trial.key: trial for trial in checked.values()}
        left = [point for point in points if job.key(point) not in own]
        return Block(list(own.values()), left, why_not, differs=bool(checked))
    found = {place: made[place] for place in places} | checked
    left = [point for place, point in enumerate(points) if place not in found]
    return Block([trial for _, trial in sorted(found.items()) if trial is not None], left)


def _checked(job: Job, points: Sequence[Point], made: Sequence[Trial | None], rank: str) -> list[int]:
    """Return the places of trials that the event engine makes too."""
    places = [place for place, trial in enumerate(made) if trial is not None]
    if not places:
        return []
    name, sign = rank.lstrip("-"), -1.0 if rank.startswith("-") else 1.0
    ranks = np.array([sign * _metric(made[place], name) for place in places])
    best = [places[int(np.nanargmax(ranks))]] if not np.isnan(ranks).all() else []
    drawn = random.Random(f"{job.case}{job.key(points[0])}").sample(places, min(_DRAWN, len(places)))
    return list(dict.fromkeys([places[0], places[-1], *best, *drawn]))


def _metric(trial: Trial | None, name: str) -> float:
    return trial.metrics.get(name, float("nan")) if trial is not None else float("nan")


def _same(one: Trial, other: Trial | None) -> bool:
    """Return whether two trials are the same to the last bit."""
    if other is None or (one.key, one.error) != (other.key, other.error):
        return False
    arrays = ((one.sessions, other.sessions), (one.returns, other.returns))
    same = all(own.tobytes() == its.tobytes() for own, its in arrays)
    return same and repr(one.metrics) == repr(other.metrics)
