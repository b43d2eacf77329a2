"""
A nightly update of many series: one new bar each, from an emulator that enforces IB's limits.

Run:  python tests/benchmarks/nightly.py [--counts 50 200 500 1000 2000] [--years 10]

It prints the requests, the processor seconds of the client and of the emulator, which is a process of its own, and the
elapsed time, with the exponent of growth as in universes.py. A download on the evening before filled the store. Bars of
more than 30 seconds wait only for answers and for the limit of messages. The time that a night of smaller ones takes
under IB's pacing is computed with the client's budget and a clock of its own; it is checked against an emulator whose
limits elapse faster than real time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from downloads import UNTIL, daily_bars, made_up
from timing import exponent

from backtest.downloads.downloader import download
from backtest.emulator.server import Gateway
from backtest.market.calendars import sessions
from backtest.market.hours import hours_of
from backtest.market.series import Series
from backtest.sources.connect import connect
from backtest.sources.ib.pacing import MARGIN, Ask, Budget
from backtest.store.store import Store

COUNTS = (50, 200, 500, 1_000, 2_000)
EVENING = timedelta(hours=23)  # UTC, after the close in New York
SCALE = 100.0  # how much faster the limits of the check pass
CHECKED = 130  # series of it: two waits for the window of ten minutes
SMALL = "30secs"


Costs = Callable[[], tuple[int, int, float]]  # requests, violations, processor seconds of an emulator


@dataclass(frozen=True, slots=True)
class Night:
    """The cost of a night: requests as the emulator saw them, processor seconds, and elapsed seconds."""

    requests: int
    violations: int
    client: float
    emulator: float
    wall: float


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--counts", type=int, nargs="+", default=list(COUNTS))
    words.add_argument("--years", type=int, default=10)
    asked = words.parse_args()
    print(
        "| series | requests | violations | client, CPU s | emulator, CPU s | wall s |\n|---:|---:|---:|---:|---:|---:|"
    )
    nights: dict[int, Night] = {}
    for count in asked.counts:
        with tempfile.TemporaryDirectory() as folder:
            nights[count] = one = night(Path(folder), count, asked.years)
        numbers = f"{one.requests:,} | {one.violations} | {one.client:.2f} | {one.emulator:.2f} | {one.wall:.1f}"
        print(f"| {count:,} | {numbers} |", flush=True)
    if len(nights) > 1:
        print(f"exponent of the client: {exponent({n: one.client for n, one in nights.items()}):.2f}")
    with tempfile.TemporaryDirectory() as folder:
        took = seconds_of_small_bars(Path(folder), CHECKED, SCALE)
    computed = paced_seconds(CHECKED, SCALE)
    print(f"{CHECKED} series of {SMALL} at {SCALE:.0f} times the pace: computed {computed:.1f} s, took {took:.1f} s")
    for count in asked.counts:
        print(f"{count:,} series of {SMALL}, computed: {timedelta(seconds=round(paced_seconds(count)))}")


def night(folder: Path, count: int, years: int) -> Night:
    """Store all sessions but the last on the evening after them, then measure the update after the last."""
    bars, series = daily_bars(date(UNTIL.year - years + 1, 1, 2)), several(count, "1day")
    first, before, last = (bars["time"][row].as_py() for row in (0, -2, -1))
    upstream, store = Store(folder / "upstream"), Store(folder / "bars")
    for one in series:
        upstream.write(one, (first.date(), last.date()), bars)
    with serving(upstream.root, before + EVENING) as (address, _), connect(address) as source:
        report = download(store, source, series, start=first.date())
        assert report.complete, report
    with serving(upstream.root, last + EVENING) as (address, costs), connect(address) as source:
        began, at = time.process_time(), time.perf_counter()
        report = download(store, source, series, start=first.date())
        client, wall = time.process_time() - began, time.perf_counter() - at
        assert report.complete, report
        assert all(one.bars_added == 1 for one in report.series)
        return Night(*costs()[:2], client, costs()[2], wall)


def paced_seconds(count: int, scale: float = 1.0) -> float:
    """Return how long this many paced requests, each of a different series, wait for the budget."""
    budget, now = Budget(MARGIN * scale), 0.0
    for number in range(count):
        ask = Ask(f"{number}", f"{number}")
        now += budget.delay(ask, now)
        budget.spend(ask, now)
    return now / scale


def seconds_of_small_bars(folder: Path, count: int, scale: float) -> float:
    """Return how long it takes to download one session of small bars of this many series."""
    series = several(count, SMALL)
    (session,) = sessions(hours_of(series[0].instrument), UNTIL, UNTIL)
    seconds = np.arange(int(session.open.timestamp()), int(session.close.timestamp()), series[0].size.seconds)
    bars, evening = made_up(seconds * 1_000_000), session.open.replace(hour=23)
    upstream, store = Store(folder / "upstream"), Store(folder / "bars")
    for one in series:
        upstream.write(one, (UNTIL, UNTIL), bars)
    with (
        serving(upstream.root, evening, scale) as (address, costs),
        connect(address, time_scale=scale, clock=lambda: evening) as source,
    ):
        at = time.perf_counter()
        report = download(store, source, series, start=UNTIL, end=UNTIL)
        assert report.complete, report
        assert costs()[:2] == (count, 0)
        return time.perf_counter() - at


def several(count: int, size: str) -> list[Series]:
    """Return this many made-up series of a bar size."""
    return [Series.parse(f"U{number:04}/{size}") for number in range(count)]


@contextmanager
def serving(folder: Path, now: datetime, scale: float = 1.0) -> Iterator[tuple[str, Costs]]:
    """Run the emulator in a process of its own; yield its address, and a function that returns its costs."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(folder, now, scale, theirs))
    process.start()

    def costs() -> tuple[int, int, float]:
        ours.send("costs")
        told: tuple[int, int, float] = ours.recv()
        return told

    try:
        yield ours.recv(), costs
    finally:
        ours.send("")
        process.join()


def serve(folder: Path, now: datetime, scale: float, pipe: Connection) -> None:
    """Serve a store as of a moment until the pipe says to stop."""
    with Gateway(Store(folder), clock=lambda: now, time_scale=scale) as gateway:
        pipe.send(gateway.address)
        began = time.process_time()
        while pipe.recv():
            bars = sum(one.kind == "bars" for one in gateway.requests)
            pipe.send((bars, gateway.violations, time.process_time() - began))


if __name__ == "__main__":
    main()
