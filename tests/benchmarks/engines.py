"""
Engines: a walk-forward, and a run over many bars, with the compiled engine against the event engine.

Run:  python tests/benchmarks/engines.py [--bars 1000000] [--years 9] [--repeats 3]

Before timing, all saved trials, and all tables of the run, are compared to the last bit. The run needs numba.
"""

from __future__ import annotations

import argparse
import tempfile
from datetime import date
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import backtrader as bt
import prices
import timing

from backtest import RunResult, run, walk_forward
from backtest.market.series import Series
from backtest.research.search.trials import Trials
from backtest.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
SAMPLE, SMA = ROOT / "data" / "sample", ROOT / "strategies" / "sma_cross.py"
EVENT = "the event engine"
TABLES = ("record", "orders_table", "fills_table", "trades_table", "extremes_table")
GRID = {"fast": list(range(5, 15)), "slow": [20, 30, 40, 50, 60, 80]}


class Turns(bt.Strategy):
    """Submit two orders in ten bars: one with the trend of an average, and one to close the position."""

    params = (("period", 20),)

    def __init__(self) -> None:
        self.average = bt.ind.SMA(period=self.p.period)

    def next(self) -> None:
        if self.position:
            self.close()
        elif len(self) % 10 == 0:
            if self.data.close[0] > self.average[0]:
                self.buy(size=10)
            else:
                self.sell(size=10)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--bars", type=int, default=1_000_000)
    words.add_argument("--years", type=int, default=9)
    words.add_argument("--repeats", type=int, default=3)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(timing.table(rows(Path(folder), asked.bars, asked.years, asked.repeats)))


def rows(folder: Path, bars: int, years: int, repeats: int) -> list[timing.Row]:
    """Return the rows of a walk-forward over this many years, and of a run over this many bars."""
    return [*walked(folder / "walked", years, repeats), *single(folder / "bars", bars, repeats)]


def walked(folder: Path, years: int, repeats: int) -> list[timing.Row]:
    """Return the row of a walk-forward of 60 points, after checking that both engines give the same trials."""
    places = (folder / str(number) for number in count())

    def go(engine: str) -> Path:
        place = next(places)
        span = (date(2003, 1, 2), date(2002 + years, 12, 31))
        walk_forward(str(SMA), "AAPL/1day", GRID, train=252, test=63, span=span, store=SAMPLE, folder=place,
                     engine=engine)  # fmt: skip
        return place

    trials = [_kept(go(engine)) for engine in ("", "event")]
    assert trials[0] == trials[1], "the trials differ"
    job = f"walk-forward, {len(trials[0]):,} runs"
    return timing.race(job, {"ours": lambda: go(""), EVENT: lambda: go("event")}, repeats, {EVENT: 10.0})


def single(folder: Path, bars: int, repeats: int) -> list[timing.Row]:
    """Return the row of one run, after checking that both engines give the same result; no row without numba."""
    if find_spec("numba") is None:
        return []
    store, series = Store(folder), Series.parse("MADE/1min")
    prices.fill(store, series, prices.minute_bars(bars))

    def go(engine: str) -> RunResult:
        return run(Turns, series, store=store, cash=1e9, costs="ib-fixed", lines=False, engine=engine)

    ours, theirs = go("compiled"), go("event")
    assert ours.made_by == "compiled (numba)", ours.made_by
    assert all(getattr(ours, name).equals(getattr(theirs, name)) for name in TABLES), "the runs differ"
    job = f"one run, {bars:,} bars, {len(ours.orders_table):,} orders"
    return timing.race(job, {"ours": lambda: go("compiled"), EVENT: lambda: go("event")}, repeats, {EVENT: 10.0})


def _kept(folder: Path) -> dict[str, tuple[str, str, bytes]]:
    trials = Trials(folder).read(returns=True)
    return {key: (one.error, repr(one.metrics), one.returns.tobytes()) for key, one in trials.items()}


if __name__ == "__main__":
    main()
