"""
Answer a reader's questions on each page, of runs, sweeps, walk-forwards and folders, in at most three actions.

    python tests/soak/page_tasks.py

A script does it in a real browser with mouse and keys; what it reads is compared with the tables of the run. An action
is a click, a typed word, or a place to point at; scrolling does not count. Runs are on 1, 4 and 50 series of 3,270 days
and on 100,000 minutes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import backtrader as bt
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import browser
import prices
import tasks
from places import ROOT
from task_checks import check_loss, check_month, check_trade

from backtest import RunResult, compare, run, sweep, walk_forward
from backtest.market.series import Series
from backtest.report.comparison_page import comparison_page
from backtest.report.run_page import write_page
from backtest.report.server import PageServer
from backtest.store.store import Store

MOST = 3
MINUTES = "MADE/1min"
DAYS, BARS = 3_270, 100_000
GRID = {"fast": [5, 10, 15], "slow": [20, 30]}


class LongAndShort(bt.Strategy):
    """Long where the fast average is above the slow one, otherwise short, in each series."""

    params = (("fast", 10), ("slow", 40))

    def __init__(self) -> None:
        self.fast = {data: bt.ind.SMA(data, period=self.p.fast) for data in self.datas}
        self.slow = {data: bt.ind.SMA(data, period=self.p.slow) for data in self.datas}

    def next(self) -> None:
        for data in self.datas:
            side = 1 if self.fast[data][0] > self.slow[data][0] else -1
            if side != np.sign(self.getposition(data).size):
                self.order_target_percent(data, side * 0.5 / len(self.datas))


@dataclass(frozen=True)
class Done:
    """The outcome of a task on a page."""

    page: str
    task: str
    actions: int
    fault: str

    @property
    def fits(self) -> bool:
        """Whether it succeeded, within the allowed number of actions."""
        return not self.fault and self.actions <= MOST


def main() -> int:
    """Do all tasks; return 1 if one failed."""
    if not browser.installed():
        print(browser.MISSING)
        return 1
    found = []
    with tempfile.TemporaryDirectory() as folder, browser.started(Path(folder) / "browser") as tab:
        for one in done(tasks.Hand(tab), Path(folder)):
            print(f"{one.page:<28} {one.task:<58} {one.actions} {one.fault}", flush=True)
            found.append(one)
    failed = [one for one in found if not one.fits]
    print(f"{len(found)} tasks, {len(failed)} not done in {MOST} actions")
    return int(bool(failed))


def done(hand: tasks.Hand, folder: Path) -> Iterator[Done]:
    """Yield the tasks of each page."""
    store, kept = filled(folder / "store"), folder / "runs"
    days = [f"{name}/1day" for name in prices.symbols(50)]
    wanted = {"one": days[:1], "four": days[:4], "fifty": days, "minutes": [MINUTES]}
    for name, series in wanted.items():
        params = {"fast": 60, "slow": 240} if name == "minutes" else {}
        result = run(LongAndShort, series, store=store, params=params)
        result.save(kept / name)
        page = write_page(result, kept / name, store)
        hand.open(page, ".chart")
        yield task(
            hand, f"run, {name}", "worst trade, its entry, averages and profit", tasks.worst_trade, check_trade, result
        )
        yield task(
            hand, f"run, {name}", "month of the worst drawdown, its positions", tasks.worst_month, check_month, result
        )
        yield task(hand, f"run, {name}", "series and side that lost most", tasks.lost_most, check_loss, result)
    yield from of_others(hand, kept, store, days[0])


def of_others(hand: tasks.Hand, kept: Path, store: Store, day: str) -> Iterator[Done]:
    """Yield the tasks of the pages that show more than one run."""
    code = str(ROOT / "strategies" / "sma_cross.py")
    for name, series in (("days", day), ("minutes", MINUTES)):
        trials = sweep(code, series, GRID, store=store, folder=kept / f"grid-{name}")
        hand.open(trials.explore().save(kept.parent / f"{name}.html"), ".curves")
        yield task(
            hand, f"sweep, {name}", "best trial's neighbours and its equity", tasks.neighbours, check_best, trials
        )
    walk = walk_forward(code, day, GRID, store=store, train=504, test=252, folder=kept / "grid-days")
    hand.open(walk.explore().save(kept.parent / "walk.html"), ".curves")
    yield task(hand, "walk-forward", "equity and parameters of a day", tasks.on_one_axis, check_walk, walk)
    both = ["first", "second"]
    for name, params in zip(both, ({}, {"slow": 100}), strict=True):
        run(code, day, store=store, params=params).save(kept / name)

    def side_by_side(folders: list[Path]) -> str:
        return comparison_page(compare([RunResult.load(one) for one in folders], 10))

    with PageServer(kept, lambda one: one / "index.html", side_by_side) as served:
        hand.open(served.address)
        yield task(hand, "gallery", "two runs on one axis", partial(tasks.compared, names=both), check_both, both)
        yield task(hand, "comparison", "what both were worth on a day", tasks.on_one_axis, check_both, both)
        hand.open(served.address)
        by_sharpe = partial(tasks.by_sharpe, strategy="LongAndShort")
        yield task(hand, "gallery", "runs of a strategy by Sharpe ratio", by_sharpe, check_sorted, 4)


def task(
    hand: tasks.Hand,
    page: str,
    name: str,
    do: Callable[[tasks.Hand], Any],
    check: Callable[[Any, Any], None],
    told: Any,
) -> Done:
    """Do a task; return how many actions it took, and what was wrong."""
    hand.actions = 0
    try:
        check(told, do(hand))
    except AssertionError as error:
        return Done(page, name, hand.actions, f"FALSE: {error}")
    return Done(page, name, hand.actions, "")


def filled(folder: Path) -> Store:
    """Return a store of fifty daily series and one of minutes."""
    store = Store(folder)
    for seed, name in enumerate(prices.symbols(50), 1):
        prices.fill(store, Series.parse(f"{name}/1day"), prices.daily_bars(DAYS, seed))
    prices.fill(store, Series.parse(MINUTES), prices.minute_bars(BARS))
    return store


def check_best(trials: Any, seen: dict[str, Any]) -> None:
    """Fail unless the trials around the best one are named, and its equity ends where it should."""
    best = trials.point(trials.best)
    places = {name: values.index(best[name]) for name, values in GRID.items()}
    near = {
        f"fast={one['fast']}, slow={one['slow']}"
        for one in map(trials.point, trials.ranked)
        if one != best and all(abs(values.index(one[name]) - places[name]) <= 1 for name, values in GRID.items())
    }
    assert set(seen["neighbours"]) == near
    assert seen["end"] == f"{100 * (1 + trials.best.metrics['total_return']):,.2f}"


def check_walk(walk: Any, told: str) -> None:
    """Fail unless the page shows a day of the tests with its equity."""
    (day,) = [one for one in walk.equity.index if f"{one:%Y-%m-%d}" in told]
    assert f"{walk.equity[day]:,.2f}" in told


def check_both(names: list[str], told: str) -> None:
    """Fail unless the page shows both runs."""
    assert all(name in told for name in names), (names, told)


def check_sorted(count: int, rows: list[list[str]]) -> None:
    """Fail unless all runs of the strategy are listed, the highest ratio first."""
    ratios = [float(text.replace("−", "-")) for _, text in rows]
    assert [name for name, _ in rows] == ["LongAndShort"] * count
    assert ratios == sorted(ratios, reverse=True)


if __name__ == "__main__":
    sys.exit(main())
