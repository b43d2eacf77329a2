"""
Rebalancing: equal weights over many series, each month, ours against stock Backtrader, bt and vectorbt.

Run:  python tests/benchmarks/rebalancing.py [--series 500] [--bars 2520] [--rivals .venv-rivals/bin/python]

Against stock Backtrader the series are those of `universes.py`, two thirds of which end early or begin late. Before
timing, equity and cash after each bar, and the outcome of each order and of each of its partial fills, are compared to
the last bit. It takes minutes: stock Backtrader tries the orders of ended series at each bar. Against the other two the
series are complete, and all trade at the close of the decision, in whole shares, without costs; their final values
agree within 1 %. bt and vectorbt are timed with closes that are in memory, so beside our run on a store, which reads
and checks all files each time, there is one on tables in memory. The results are processor times, the least of the
repeats; for stock Backtrader, of one run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import backtrader as bt
import prices
import pyarrow.parquet as pq
import running
import timing
import universes

from backtest import run
from backtest.engine.feed import replay
from backtest.engine.lean.cerebro import Cerebro
from backtest.engine.recorder import Recorder
from backtest.errors import UsageError
from backtest.market.series import Series
from backtest.store.reader import HeldReader, Reader
from backtest.store.store import Store

GOALS = {running.STOCK: 10.0, "bt": 2.0, "vectorbt": 1.0}
JOBS = Path(__file__).parent / "jobs"
WITHIN = 0.01  # of the others' final value


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--series", type=int, default=500)
    words.add_argument("--bars", type=int, default=2_520)
    words.add_argument("--repeats", type=int, default=3)
    words.add_argument("--rivals", type=Path, help="the Python that has bt and vectorbt")
    words.add_argument("--without-stock", action="store_true")
    asked = words.parse_args()
    rows: list[timing.Row] = []
    if asked.rivals:
        with tempfile.TemporaryDirectory() as folder:
            rows += against_rivals(Path(folder), asked.rivals, asked.series, asked.bars, asked.repeats)
    if not asked.without_stock:
        rows.append(against_stock(asked.series, asked.bars, asked.repeats))
    print(timing.table(rows))


def against_stock(count: int, bars: int, repeats: int) -> timing.Row:
    """Return the row against stock Backtrader, after checking that both do the same."""
    feeds = {Series.parse(name): universes.bars_of(number, bars) for number, name in enumerate(universes.names(count))}

    def go(kind: Any, witness: Any) -> Any:
        cerebro = kind(stdstats=False)
        for series, table in feeds.items():
            cerebro.adddata(replay(table, series))
        cerebro.addstrategy(universes.EqualWeights)
        cerebro.addanalyzer(witness, _name="seen")
        cerebro.broker.setcash(10_000.0 * count)
        cerebro.broker.setcommission(commission=0.001)
        return cerebro.run()[0]

    mine, *seconds = [_timed(lambda: go(Cerebro, Recorder)) for _ in range(repeats)]
    theirs = _timed(lambda: go(bt.Cerebro, running.Witness))
    running.check(mine[0], theirs[0])
    made, others = parts(mine[0]), parts(theirs[0])
    assert len(made) > count, "nothing was traded"
    assert made == others, "the parts of orders differ"
    print(f"equal to the last bit: {len(theirs[0].analyzers.seen.equity):,} bars, {len(running.orders(mine[0])):,} "
          f"orders, {len(made):,} fills", flush=True)  # fmt: skip
    return _row(
        f"equal weights, {count:,} series", running.STOCK, min([mine[1], *(one[1] for one in seconds)]), theirs[1]
    )


def parts(ran: Any) -> list[tuple[Any, ...]]:
    """Return each partial fill of each order, in the order of creation."""
    kept = sorted([*ran.broker.orders, *ran.broker.pending], key=lambda order: order.ref)
    return [
        (order.data._name, bit.dt, bit.size, bit.price, bit.closed, bit.opened, bit.closedcomm, bit.openedcomm, bit.pnl)
        for order in kept
        for bit in order.executed.exbits
    ]


def against_rivals(folder: Path, rivals: Path, count: int, bars: int, repeats: int) -> list[timing.Row]:
    """Return the rows against bt and vectorbt, after checking that all end with the same value, within 1 %."""
    store, names = Store(folder / "bars"), universes.names(count)
    for number, name in enumerate(names):
        prices.fill(store, Series.parse(name), prices.daily_bars(bars, number))
    closes = folder / "closes.parquet"
    pq.write_table(store.panel(names), closes)
    cash = 10_000.0 * count

    held = HeldReader("memory", {series: store.read(series) for series in map(Series.parse, names)})

    def go(engine: str, reader: Reader = store) -> float:
        result = run(universes.EqualWeights, names, store=reader, cash=cash, fills="this-close", costs="none",
                     lines=False, engine=engine)  # fmt: skip
        return float(result.record["equity"][-1].as_py())

    def least(engine: str, reader: Reader = store) -> float:
        assert go(engine, reader) == final, f"{engine} ends with another value"
        return min(_timed(lambda: go(engine, reader))[1] for _ in range(repeats))

    final, _ = _timed(lambda: go("event"))
    ours = {"event": least("event")}
    try:
        ours["compiled"] = least("compiled")
        ours["in memory, compiled"] = least("compiled", held)
    except UsageError as error:
        print(error, flush=True)
    rows = []
    for name in ("bt", "vectorbt"):
        seconds, value = _theirs(rivals, JOBS / f"rebalance_with_{name}.py", closes, cash, repeats)
        assert abs(value / final - 1) < WITHIN, f"{name} ends with {value:,.2f}, and we with {final:,.2f}"
        rows += [
            _row(f"equal weights, {count:,} whole series, {engine}", name, own, seconds) for engine, own in ours.items()
        ]
    return rows


def _theirs(rivals: Path, script: Path, closes: Path, cash: float, repeats: int) -> tuple[float, float]:
    words = [str(rivals), str(script), str(closes), str(cash), str(repeats)]
    told = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    return float(told["seconds"]), float(told["final"])


def _timed(job: Callable[[], Any]) -> tuple[Any, float]:
    started = time.process_time()
    made = job()
    return made, time.process_time() - started


def _row(job: str, against: str, ours: float, theirs: float) -> timing.Row:
    return timing.Row(job, against, timing.span([ours]), timing.span([theirs]), theirs / ours, GOALS[against])


if __name__ == "__main__":
    main()
