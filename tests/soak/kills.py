"""
Kill writers at random moments with SIGKILL: no acknowledged bar is lost, none is there twice, and no repair is needed.

Run:  python tests/soak/kills.py [--kills 10000] [--seed 7] [--writers 2] [--jobs 2]

Writers work on one series at once, each on its own days: it appends, goes back, revises, and acknowledges each step on
a pipe. All are killed at a random moment. The store must then contain the steps that each writer acknowledged, and at
most the one in progress besides; the next writers continue from there.
"""

from __future__ import annotations

import argparse
import gc
import os
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from datetime import UTC, date, datetime
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from operations import by_processes, environment, litter, quick_folder

from backtest.errors import NoBars
from backtest.market.bars import table_of
from backtest.market.calendars import sessions
from backtest.market.hours import hours_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.store.store import Store

SERIES = Series.parse("AAPL/1day")
DAYS = 50  # of each writer; then the next round begins with an empty store
LONGEST = 0.06  # seconds until a kill
Bars = dict[date, float]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--kills", type=int, default=10_000)
    words.add_argument("--seed", type=int, default=7)
    words.add_argument("--writers", type=int, default=2)
    words.add_argument("--jobs", type=int, default=2)
    asked = words.parse_args()
    began = time.monotonic()
    kills, under_way, rounds = run(asked.kills, asked.seed, asked.writers, asked.jobs)
    seconds = time.monotonic() - began
    print(f"{kills} kills, {under_way} during a write that came to be, {rounds} rounds, {seconds:.0f} s: 0 failures")


def run(kills: int, seed: int, writers: int = 2, jobs: int = 2) -> tuple[int, int, int]:
    """Kill writers; return kills, steps that are stored though not acknowledged, and rounds; or raise."""
    shares, seeds = [-(-kills // jobs)] * jobs, range(seed, seed + jobs)
    with environment():
        results = by_processes(jobs, _kill, shares, seeds, [writers] * jobs)
    return tuple(map(sum, zip(*results, strict=True)))  # type: ignore[return-value]


def _kill(kills: int, seed: int, writers: int) -> tuple[int, int, int]:
    chance, killed, under_way, rounds = Random(seed), 0, 0, 0
    with tempfile.TemporaryDirectory(dir=quick_folder()) as folder:
        _write(Path(folder) / "warm", 0, 0)  # so that the children have nothing to import
        gc.freeze()  # and copy nothing for a collection of garbage
        while killed < kills:
            root, done = Path(folder) / f"round-{rounds}", [1, *[0] * (writers - 1)]
            _write(root, 0, 0)
            while killed < kills and min(done) < 2 * DAYS:
                acknowledged = _write_until_killed(root, done, chance.uniform(0, LONGEST))
                killed += writers
                held = _held(root)
                found = [_progress(held, writer, count) for writer, count in enumerate(acknowledged)]
                under_way += sum(found) - sum(acknowledged)
                done = found
            _write(root, 0, min(done[0], 2 * DAYS - 1))
            left = litter(root)
            assert left == [], f"round {rounds} of seed {seed} left {left}"
            shutil.rmtree(root)
            rounds += 1
    return killed, under_way, rounds


def _write_until_killed(root: Path, done: list[int], seconds: float) -> list[int]:
    """Let writers continue from their progress, kill all, and return how many steps each has acknowledged."""
    pipes, children = [], []
    for writer, first in enumerate(done):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            _go_on(root, writer, first, writing)
        os.close(writing)
        pipes.append(reading)
        children.append(child)
    select.select(pipes, [], [], 5)  # a fork takes its time: the moments are counted from a first step
    time.sleep(seconds)
    for child in children:
        os.kill(child, signal.SIGKILL)
    ends = [os.waitpid(child, 0)[1] for child in children]
    said = [_drained(pipe) for pipe in pipes]
    assert all(os.WIFSIGNALED(end) or os.WEXITSTATUS(end) == 0 for end in ends), f"a writer failed: {ends}"
    return [first + count for first, count in zip(done, said, strict=True)]


def _go_on(root: Path, writer: int, first: int, writing: int) -> None:
    code = 1
    try:
        for step in range(first, 2 * DAYS):
            _write(root, writer, step)
            os.write(writing, b".")
        code = 0
    except BaseException:  # noqa: BLE001 - the parent sees the exit code
        traceback.print_exc()
    finally:
        os._exit(code)


def _write(root: Path, writer: int, step: int) -> None:
    """Do a step of a writer; a step that was done before changes nothing."""
    ((day, close),) = _written(writer, step).items()
    row = (datetime(day.year, day.month, day.day, tzinfo=UTC), close, close + 1, close - 1, close, 1.0, None, None)
    Store(root).write(SERIES, Span.of_dates(day, day), table_of([row]), revise=step % 2 == 1)


def _written(writer: int, step: int) -> Bars:
    """Return the bar of a step: alternately one on a new day, at the end or the start, and a revision of a day."""
    place = step // 2 if step % 2 == 0 else (step * 7919) % (step // 2 + 1)
    middle, outwards = 500 + 2 * DAYS * writer + DAYS, (place + 1) // 2
    return {_DAYS[middle + (outwards if place % 2 else -outwards)]: 100.0 + step}


def _progress(held: Bars, writer: int, acknowledged: int) -> int:
    """Return how many steps of a writer the store contains: those acknowledged, or one more."""
    days = {day for step in range(2 * DAYS) for day in _written(writer, step)}
    own = {day: close for day, close in held.items() if day in days}
    for steps in (acknowledged, acknowledged + 1):
        if own == _after(writer, steps):
            return steps
    raise AssertionError(f"writer {writer} acknowledged {acknowledged} steps, and the store holds {own}")


def _after(writer: int, steps: int) -> Bars:
    bars: Bars = {}
    for step in range(min(steps, 2 * DAYS)):
        bars |= _written(writer, step)
    return bars


def _held(root: Path) -> Bars:
    try:
        rows = Store(root).read(SERIES).to_pylist()
    except NoBars:
        return {}
    days = [row["time"].date() for row in rows]
    assert days == sorted(set(days)), "a day is there twice, or not in order"
    return {row["time"].date(): row["close"] for row in rows}


def _drained(pipe: int) -> int:
    count = 0
    while more := os.read(pipe, 65536):
        count += len(more)
    os.close(pipe)
    return count


_DAYS = [session.day for session in sessions(hours_of(SERIES.instrument), date(2010, 1, 1), date(2020, 12, 31))]


if __name__ == "__main__":
    main()
