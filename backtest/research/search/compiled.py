"""
`compiled`: trials that the compiled engine runs at once, checked against the event engine.

The event engine also runs the first trial, the last, two at random, and the best of each thousand; with windows also
the first of each window. If one of them differs in anything, all trials of the compiled engine are discarded, and the
event engine runs them.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from backtest import _arguments
from backtest.engine.compiled.loop import ENGINES
from backtest.research.search.job import Job, Point, bars_in_job, trials_at_once, trials_of
from backtest.research.search.trials import Trial
from backtest.runs.parameters import words_of

FEWEST = 32  # trials worth running together: the cost of a bar hardly depends on their number
FEWEST_IN_WINDOW = 12  # as the bars before a window cost nothing
_LARGEST = 1000
_TOGETHER = 1000  # trials of which the best is checked before any of them counts
_UNCHECKED = 10.0  # seconds of work after which it is checked anyway: a kill loses no more
_ROOM = 250_000_000  # bytes of the accounts of a block, bar by bar
_FOR_A_BAR = 24  # bytes of each column of an account with all that is computed of it, as measured
_DRAWN = 2
_TRIED = 4  # first trials, until one does not fail
_MANY_BARS = 200_000_000  # bars of all trials from which on numba is worth it
_LONG = 50_000  # bars, from which on too few trials fit a block of numpy's
_FEWEST_OF_NUMBA = 8  # in a block
_BARS_OF_NUMBA = 25_000_000  # of all trials of a block, a second or two of work


@dataclass(frozen=True, slots=True)
class Engines:
    """Which engine runs trials, and the outcome of that choice."""

    asked: str = ""  # one of ENGINES; "" for the compiled one where it can, and where it pays
    rank: str = "sharpe"  # the rank that selects the best trial, which both engines run
    fewest: int = 0  # trials on the same bars that are worth it; 0 for what mostly is
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ENGINES, 0))  # trials by engine
    why_not: list[str] = field(default_factory=list)  # reasons of the compiled one
    backends: list[str] = field(default_factory=list)  # the backends that ran them
    files: list[Path] = field(default_factory=list)  # of the trials that it made
    over: list[str] = field(default_factory=list)  # why no more trials are to be compiled

    @property
    def words(self) -> str:
        """Which engine ran the trials, in a line; "" if there was no choice."""
        by_compiled, by_events = (self.counts[name] for name in ENGINES)
        if by_compiled:
            rest = f", {by_events:,} by the event engine" if by_events else ""
            return f"compiled ({' and '.join(dict.fromkeys(self.backends))}): {by_compiled:,} trials{rest}"
        if not by_events or not self.why_not:
            return f"event engine: {by_events:,} trials" if self.asked and by_events else ""
        return f"event engine: {self.why_not[0].replace(f'{Path.cwd()}/', '')}"


def engines_of(asked: str, rank: str) -> Engines:
    """
    Return the choice of an engine, by its name.

    Args:
        asked: one of ENGINES, or "".

    Raises:
        UsageError: there is no such engine.
    """
    return Engines(_arguments.word(asked, "engine", ENGINES) if asked else "", rank)


@dataclass(frozen=True)
class Block:
    """
    The outcome of some points.

    Attributes:
        trials: the trials that were made.
        left: the points that are left to the event engine.
        why_not: why all of these are left; "" if only single ones are.
        over: whether that applies to all other points, too.
        differs: whether the reason is that the engines disagree, so that no trial of an earlier block counts.
        backend: the backend that made the trials.
        points: the points of the trials, in their order.
    """

    trials: list[Trial]
    left: list[Point] = field(default_factory=list)
    why_not: str = ""
    over: bool = False
    differs: bool = False
    backend: str = "numpy"
    points: list[Point] = field(default_factory=list)


def backend_for(bars: int, points: int, numba: bool) -> str:
    """
    Return the faster backend for this many trials: numba compiles each new strategy for 5 to 20 seconds.

    Args:
        numba: whether numba is installed.
    """
    many = bars * points >= _MANY_BARS or (bars >= _LONG and bars * points >= _MANY_BARS // 20)
    return "numba" if numba and many else "numpy"


def compiled(
    job: Job, points: Sequence[Point], rank: str, fewest: int = 0, *, trusted: bool = False
) -> Iterator[Block]:
    """
    Yield the outcomes of points, block by block; each point is among the trials or the rest.

    Args:
        points: the points; those of a window are consecutive.
        rank: a metric, by which the best of a block is checked; "-NAME" for the lowest.
        fewest: the minimum number of points on the same bars; 0 for `FEWEST`, or `FEWEST_IN_WINDOW`.
        trusted: whether the engines agreed on earlier points, so that one random trial is checked besides the best.
    """
    points, known, unchecked, settled = list(points), dict[str, Trial](), list[Block](), set[str]()
    blocks, since, stopped = _blocks(job, points, fewest, trusted, known), time.process_time(), False
    while not stopped:
        try:
            block = next(blocks, None)
        except KeyboardInterrupt:
            if not unchecked:
                raise
            block, stopped = None, True  # what is made is not lost
        done = block is None or block.over
        if block is not None and not block.over:
            unchecked.append(block)
        many = sum(len(one.trials) for one in unchecked) >= _TOGETHER or time.process_time() - since > _UNCHECKED
        if not (done or many):
            continue
        if block is None or not block.differs:
            block = _with_best(job, unchecked, rank, known) or block
        if block is not None and block.differs:
            of_events = {trial.key for trial in block.trials} | settled
            yield replace(block, left=[point for point in points if job.key(point) not in of_events])
            break
        yield from unchecked
        settled |= {trial.key for one in unchecked for trial in one.trials}
        settled |= {job.key(point) for one in unchecked for point in one.left}
        unchecked, since = [], time.process_time()
        if done:
            yield from () if block is None else (block,)
            break
    if stopped:
        raise KeyboardInterrupt


def _with_best(job: Job, blocks: Sequence[Block], rank: str, known: dict[str, Trial]) -> Block | None:
    """Return a block for the best of some trials if the engines differ in it; None if they agree."""
    made = [(trial, point) for block in blocks for trial, point in zip(block.trials, block.points, strict=True)]
    best = _best([trial for trial, _ in made], rank)
    if best is None or made[best][0].key in known:
        return None
    trial, point = made[best]
    known |= _made_alone(job, [point], known)
    if _same(known[trial.key], trial):
        return None
    return Block([known[trial.key]], [], _differing(point), over=True, differs=True)


def _differing(point: Point) -> str:
    return f"the engines differ in {words_of(point.params)}; please report it"


def _blocks(job: Job, points: Sequence[Point], fewest: int, trusted: bool, known: dict[str, Trial]) -> Iterator[Block]:
    """
    Yield the outcomes of points, whose best is not checked yet; after a block that is `over`, the rest is left.

    Args:
        known: collects the trials of the event engine.
    """
    if not points:
        return
    chance = random.Random(f"{job.case}{job.key(points[0])}")
    drawn = chance.sample(range(len(points)), min(1 if trusted else _DRAWN, len(points)))
    sure = {*drawn} if trusted else {len(points) - 1, *drawn}
    begun = 0
    for window, alike in groupby(points, key=lambda point: point.window):
        group = list(alike)
        end = begun + len(group)
        own = {place - begun for place in sure if begun <= place < end}
        for block in _on_same_bars(job, group, own, (fewest or _fewest(window), len(points)), known):
            if block.over:
                yield replace(block, left=[*block.left, *points[end:]])
                return
            yield block
        begun = end


def _fewest(window: Any) -> int:
    return FEWEST if window is None else FEWEST_IN_WINDOW


def _on_same_bars(
    job: Job, points: Sequence[Point], sure: set[int], counts: tuple[int, int], known: dict[str, Trial]
) -> Iterator[Block]:
    """
    Yield the outcomes of points on all bars, or in one window.

    Args:
        sure: places of trials that the event engine makes, too.
        counts: the minimum number of points, and their number including those on other bars.
        known: as of `_blocks`.
    """
    fewest, every = counts
    if len(points) < fewest:
        yield Block([], list(points))
        return
    first, place, said = _first_made(job, points)
    if first is None:
        yield Block([], list(points), f"the first trial fails: {said}")
        return
    known[first.key] = first
    rest = [point for number, point in enumerate(points) if number != place]
    bars = bars_in_job(job, points[0].window)
    backend = backend_for(bars, every, find_spec("numba") is not None)
    room = _ROOM // 2 if backend == "numba" else _ROOM  # its compiler takes room, and small blocks cost it nothing
    size = min(_LARGEST, room // (bars * (2 + len(job.series)) * _FOR_A_BAR))
    if size < min(fewest, _FEWEST_OF_NUMBA if backend == "numba" else FEWEST):
        yield Block([first], rest, f"{bars:,} bars are too many to make trials at once", over=True)
        return
    sure = {place, *sure}
    most = max(size, min(_LARGEST, _BARS_OF_NUMBA // bars)) if backend == "numba" else size
    for start in range(0, len(points), most):
        part = points[start : start + most]
        own = sorted(place - start for place in sure if start <= place < start + most)
        block = _block(job, part, own, known, backend, size)
        if block.over:
            yield replace(block, left=[*block.left, *points[start + most :]])
            return
        yield block


def _first_made(job: Job, points: Sequence[Point]) -> tuple[Trial | None, int, str]:
    """Return the first trial, by the event engine, that does not fail, with its position; or the first one's error."""
    said = ""
    for place, point in enumerate(points[:_TRIED]):
        (trial,) = trials_of(job, [point])
        if not trial.error:
            return trial, place, ""
        said = said or trial.error
    return None, 0, said


@dataclass(frozen=True, slots=True)
class BlockJob:
    """What workers need to run blocks of trials."""

    job: Job
    rank: str
    fewest: int


@dataclass(frozen=True, slots=True)
class Made:
    """A trial that a worker ran; `why_not`, `over` and `differs` are those of its block."""

    trial: Trial
    backend: str = ""  # "" for the event engine
    why_not: str = ""
    over: bool = False
    differs: bool = False


def made_by_worker(asked: BlockJob, points: Sequence[Point]) -> list[Made]:
    """Return the trials of the first points, or of all if the compiled engine runs them."""
    job, made, refusal = asked.job, dict[str, Made](), None
    with _one_block:
        for block in () if job.case in _refused else compiled(job, points, asked.rank, asked.fewest):
            if block.over:
                refusal = block
                break
            made |= {trial.key: Made(trial, block.backend) for trial in block.trials}
            made |= {trial.key: Made(trial) for one in block.left for trial in trials_of(job, [one])}
    if made and refusal is None:
        return [made[job.key(point)] for point in points]
    _refused.add(job.case)
    said = (refusal.why_not, True, refusal.differs) if refusal is not None else ("", False, False)
    return [Made(trial, "", *said) for trial in trials_of(job, points)]


_refused: set[str] = set()  # cases of jobs that this process cannot compile
_one_block = threading.Lock()  # Dask's workers are threads


def _block(
    job: Job, points: Sequence[Point], sure: Sequence[int], known: dict[str, Trial], backend: str, size: int
) -> Block:
    """
    Return the outcome of a block.

    Args:
        sure: places of trials that the event engine makes, too.
        known: as of `_blocks`.
        size: the number of trials whose accounts fit into memory at once.
    """
    made, why_not = trials_at_once(job, points, backend, size)
    places = [] if why_not else [place for place in sure if made[place] is not None]
    known |= _made_alone(job, [points[place] for place in places], known)
    differing = [points[n] for n in places if not _same(known[job.key(points[n])], made[n])]
    if why_not or differing:
        keys = [job.key(point) for point in points]
        own = {key: known[key] for key in keys if key in known}
        left = [point for key, point in zip(keys, points, strict=True) if key not in own]
        return Block(list(own.values()), left, why_not or _differing(differing[0]), True, bool(differing), backend)
    there = [(trial, point) for trial, point in zip(made, points, strict=True) if trial is not None]
    left = [point for point, trial in zip(points, made, strict=True) if trial is None]
    return Block([one for one, _ in there], left, backend=backend, points=[point for _, point in there])


def _made_alone(job: Job, points: Sequence[Point], known: dict[str, Trial]) -> dict[str, Trial]:
    """Return the trials of points that are not known by the event engine, by their keys, measured together."""
    left, found = [point for point in points if job.key(point) not in known], dict[str, Trial]()
    while left:
        trials = trials_of(job, left)
        found |= {trial.key: trial for trial in trials}
        left = left[len(trials) :]
    return found


def _best(trials: Sequence[Trial], rank: str) -> int | None:
    """Return the position of the best trial; None if none has a rank."""
    name, sign = rank.lstrip("-"), -1.0 if rank.startswith("-") else 1.0
    ranks = np.array([sign * trial.metrics.get(name, float("nan")) for trial in trials])
    return None if np.isnan(ranks).all() else int(np.nanargmax(ranks))


def _same(one: Trial, other: Trial | None) -> bool:
    """Return whether two trials are the same to the last bit."""
    if other is None or (one.key, one.error) != (other.key, other.error):
        return False
    arrays = ((one.sessions, other.sessions), (one.returns, other.returns))
    same = all(own.tobytes() == its.tobytes() for own, its in arrays)
    return same and repr(one.metrics) == repr(other.metrics)
