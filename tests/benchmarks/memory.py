"""
Memory: the peak of one long run, ours against stock Backtrader, and whether ten times the bars take ten times as much.

Run:  python tests/benchmarks/memory.py [--bars 1000000]      (Linux: it reads /proc)

Each run is a process of its own: read one-minute bars, run an SMA cross, save the result; another process writes the
page of ours. Ours: the store, our engine with its recorder; theirs: `pandas.read_parquet`, `bt.feeds.PandasData`, stock
Cerebro without observers or recorder. Both must end with the same cash; otherwise no row is printed. Time and memory
that should grow with the bars exclude what a run over a hundred bars takes, mostly imports. Time is processor time,
since these runs are minutes apart, and the machine may become busy in between.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import backtrader as bt
import prices
import running
import timing

from backtest.market.series import Series
from backtest.store.store import Store

MINUTES = Series.parse("EUR-CASH-IDEALPRO-USD/1min/MIDPOINT")  # trades around the clock
HERE = Path(__file__).parent
FEW = 100  # bars that take hardly more than the imports
CASH = 1_000_000.0
HALF = 2.0  # of what stock Backtrader takes
LINEAR = 1 / 1.2  # within 20 %
MOST = 140.0  # bytes that a page takes for each of 10,000,000 bars: 60 the lines and the record, 25 the chart itself


@dataclass(frozen=True, slots=True)
class Cost:
    """The time and memory of a run, and its final cash."""

    seconds: float
    megabytes: float
    cash: float


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--bars", type=int, default=1_000_000)
    words.add_argument("--alone", nargs=2, metavar=("KIND", "PATH"), help="run one, and print its cost")
    asked = words.parse_args()
    if asked.alone:
        print(json.dumps(alone(*asked.alone)))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(timing.table(rows(Path(folder), asked.bars)))


def rows(folder: Path, bars: int) -> list[timing.Row]:
    """Return the rows of a run over this many bars against Backtrader's, and of one over ten times as many."""
    none, some, many = (made(folder / str(count), count) for count in (FEW, bars, bars * 10))
    base, ours, ten_times = (cost("ours", place / "store") for place in (none, some, many))
    theirs = cost("stock", some / "bars.parquet")
    assert ours.cash == theirs.cash != CASH, f"ours ended with {ours.cash}, stock Backtrader with {theirs.cash}"
    return [
        against_stock(f"peak memory of a run, {bars:,} bars", ours.megabytes, theirs.megabytes),
        ten_times_as_many("processor time", bars, ours.seconds, ten_times.seconds, "s", base.seconds),
        ten_times_as_many("memory", bars, ours.megabytes, ten_times.megabytes, "MB", base.megabytes),
        of_page(cost("page", none / "store").megabytes, cost("page", many / "store").megabytes, bars * 10),
    ]


def of_page(base: float, whole: float, bars: int) -> timing.Row:
    """Return the row of the page of a run over this many bars, against the most that a bar may take."""
    taken = (whole - base) * 2**20 / bars
    job = f"memory of a run's page, {bars:,} bars"
    return timing.Row(job, "the most", f"{taken:,.0f} bytes a bar", f"{MOST:,.0f} bytes a bar", MOST / taken, 1.0)


def against_stock(job: str, ours: float, theirs: float) -> timing.Row:
    return timing.Row(job, running.STOCK, f"{ours:,.0f} MB", f"{theirs:,.0f} MB", theirs / ours, HALF)


def ten_times_as_many(what: str, bars: int, one: float, ten: float, unit: str, base: float) -> timing.Row:
    """Return the row of ten times as many bars; `base` is the cost of hardly any."""
    job = f"{what} of a run, {bars * 10:,} bars"
    ratio = 10 * (one - base) / (ten - base)
    return timing.Row(job, f"10 × {bars:,} bars", f"{ten:,.1f} {unit}", f"{one:,.1f} {unit}", ratio, LINEAR)


def made(folder: Path, count: int) -> Path:
    """Make this many bars, in a store and in a file for pandas, and return their folder."""
    bars = prices.minute_bars(count, a_day=1440)
    store = Store(folder / "store")
    prices.fill(store, MINUTES, bars)
    prices.write_frame(folder / "bars.parquet", bars, MINUTES)
    return folder


def cost(kind: str, path: Path) -> Cost:
    """Return the cost of a run in a process of its own."""
    command = [sys.executable, __file__, "--alone", kind, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"the run of {kind} failed:\n{done.stderr}"
    return Cost(**json.loads(done.stdout))


def alone(kind: str, path: str) -> dict[str, float]:
    """Run in this process, and return the cost."""
    started = time.process_time()
    cash = {"ours": run_ours, "stock": run_stock, "page": make_page}[kind](path)
    return {"seconds": time.process_time() - started, "megabytes": peak(), "cash": cash}


def run_ours(store: str) -> float:
    from backtest import run

    result = run(running.SmaCross, str(MINUTES), store=store, cash=CASH, costs="none")
    result.save(run_beside(store))
    cash: float = result.record["cash"][-1].as_py()
    return cash


def make_page(store: str) -> float:
    from backtest.api import RunResult
    from backtest.report.run_page import write_page

    result = RunResult.load(run_beside(store))
    write_page(result, run_beside(store), store)
    cash: float = result.record["cash"][-1].as_py()
    return cash


def run_beside(store: str) -> Path:
    """Return the folder of the run on the bars of a store."""
    return Path(store).with_name("run")


def run_stock(path: str) -> float:
    import pandas as pd

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=pd.read_parquet(path)))
    cerebro.addstrategy(running.SmaCross)
    cerebro.broker.setcash(CASH)
    cerebro.run()
    cash: float = cerebro.broker.getcash()
    return cash


def peak() -> float:
    """Return the peak memory of this process, in MB."""
    # Not getrusage: a child begins there with the peak of the process that made it.
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
