"""
Universes: how the cost of a job grows with the number of its series, from 50 to 2,000 with ten years of daily bars.

Run:  python tests/benchmarks/universes.py [--counts 50 200 500 1000 2000] [--bars 2520] [--repeats 3]

The results are processor time, the least of the repeats, and the exponent: the slope of the least-squares line through
the logarithms of times and counts; 1 is a job that takes twice as long for twice as many series. A third of the series
end early and a third begin late, like real listings; the strategies submit orders for ended series too.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import backtrader as bt
import numpy as np
import prices
import pyarrow as pa
from timing import exponent

from backtest.api import RunResult, run
from backtest.market.series import Series
from backtest.report.run_page import write_report
from backtest.store.audit.listing import list_series
from backtest.store.audit.verification import verify
from backtest.store.store import Store

COUNTS = (50, 200, 500, 1_000, 2_000)
MOST = 1.15  # an exponent
LIMITS = {"statistics": 1.5, "report": 8.0}  # processor seconds of 2,000 series


class Monthly(bt.Strategy):
    """Act on the first bar of each month, even if some series have not begun."""

    month = 0

    def prenext(self) -> None:
        self.next()

    def next(self) -> None:
        month = self.datetime.date(0).month
        if month != self.month:
            self.month = month
            self.act()


class EqualWeights(Monthly):
    """Hold all series at equal weights, rebalanced each month."""

    def act(self) -> None:
        there = [data for data in self.datas if len(data)]
        for data in there:
            self.order_target_percent(data, 0.95 / len(there))


class Momentum(Monthly):
    """Hold the tenth of the series that rose most in half a year at equal weights, chosen each month."""

    def act(self) -> None:
        there = [data for data in self.datas if len(data) > 126]
        best = sorted(there, key=lambda data: data.close[0] / data.close[-126], reverse=True)[: len(there) // 10]
        chosen = set(map(id, best))
        for data in there:
            if id(data) not in chosen and self.getposition(data).size:
                self.order_target_percent(data, 0.0)
        for data in best:
            self.order_target_percent(data, 0.95 / len(best))


class SmaEach(bt.Strategy):
    """Buy each series when its fast average crosses above the slow one, and sell when it crosses below."""

    def __init__(self) -> None:
        averages = ([bt.ind.SMA(data, period=period) for data in self.datas] for period in (20, 100))
        self.crosses = [bt.ind.CrossOver(*pair) for pair in zip(*averages, strict=True)]

    def prenext(self) -> None:
        self.next()

    def next(self) -> None:
        for data, cross in zip(self.datas, self.crosses, strict=True):
            if len(data) < 101:
                continue
            if cross[0] > 0:
                self.buy(data=data, size=10)
            elif cross[0] < 0 and self.getposition(data).size:
                self.close(data=data)


STRATEGIES: dict[str, type[bt.Strategy]] = {
    "equal weights": EqualWeights, "momentum": Momentum, "SMA each": SmaEach
}  # fmt: skip


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--counts", type=int, nargs="+", default=list(COUNTS))
    words.add_argument("--bars", type=int, default=2_520)
    words.add_argument("--repeats", type=int, default=3)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(table(measured(Path(folder), asked.counts, asked.bars, asked.repeats)))


def measured(folder: Path, counts: list[int], bars: int, repeats: int) -> dict[str, dict[int, float]]:
    """Return the processor seconds of each job by the number of series, printed as they come."""
    seconds: dict[str, dict[int, float]] = {}
    for count in counts:
        store = Store(folder / f"bars-{count}")
        fill(store, count, bars)
        for name, took in seconds_of_jobs(store, count, folder / f"runs-{count}", repeats):
            seconds.setdefault(name, {})[count] = took
            print(f"{name}, {count:,} series: {took:.3f} s", flush=True)
    return seconds


def seconds_of_jobs(store: Store, count: int, folder: Path, repeats: int) -> list[tuple[str, float]]:
    """Return the least processor seconds of each job on a store of this many series."""
    series, found = names(count), list[tuple[str, float]]()
    for name, strategy in STRATEGIES.items():
        asked = {"store": store, "cash": 10_000.0 * count}
        found.append((f"run, {name}", least(lambda: run(strategy, series, **asked), repeats)))  # noqa: B023 - called at once
    result: RunResult = run(EqualWeights, series, store=store, cash=10_000.0 * count)
    assert len(result.fills_table) > count, "nothing to measure"
    jobs: dict[str, Callable[[], object]] = {
        "statistics": lambda: replace(result).stats,  # nothing computed before
        "report": lambda: write_report(replace(result), folder / f"{time.process_time()}", store=store),
        "ls": lambda: list_series(store),
        "verify": lambda: list(verify(store.root)),
        "panel": lambda: store.panel(series),
    }
    return [*found, *((name, least(job, repeats)) for name, job in jobs.items())]


def least(job: Callable[[], object], repeats: int) -> float:
    """Return the least processor seconds that a job takes."""
    took = []
    for _ in range(repeats):
        gc.collect()
        started = time.process_time()
        job()
        took.append(time.process_time() - started)
    return min(took)


def table(seconds: dict[str, dict[int, float]]) -> str:
    """Return the times and exponents as a Markdown table, and whether each goal is reached."""
    counts = list(next(iter(seconds.values())))
    lines = [
        f"| job | {' | '.join(f'{count:,}' for count in counts)} | exponent | met |",
        f"|---|{'---:|' * (len(counts) + 1)}---|",
    ]
    for name, own in seconds.items():
        slope = exponent(own)
        met = slope <= MOST and own.get(2_000, 0.0) <= LIMITS.get(name, np.inf)
        lines.append(
            f"| {name} | {' | '.join(f'{own[one]:.2f}' for one in counts)} | {slope:.2f} | {'yes' if met else 'NO'} |"
        )
    return "\n".join(lines)


def names(count: int) -> list[str]:
    """Return the spellings of this many made-up series."""
    return [f"U{number:04}/1day" for number in range(count)]


def fill(store: Store, count: int, bars: int) -> None:
    """Write this many series into a store: of every three, one ends early and one begins late."""
    for number, name in enumerate(names(count)):
        prices.fill(store, Series.parse(name), bars_of(number, bars))


def bars_of(number: int, bars: int) -> pa.Table:
    """Return the bars of a series by its number."""
    own, cut = prices.daily_bars(bars, number), bars // 4 + (number * 37) % (bars // 2)
    return (own, own.slice(0, cut), own.slice(cut))[number % 3]


if __name__ == "__main__":
    main()
