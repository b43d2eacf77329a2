"""
Loading: stored bars into the lines of a Backtrader feed, as Cerebro has them before the first `next`.

Run:  python tests/benchmarks/loading.py [--bars 1000000] [--repeats 3]

Ours reads a store with one file per month, each checked against its hash. The others are `pandas.read_parquet` with
`bt.feeds.PandasData`, and a bare `pyarrow.parquet.read_table`, which makes no feed at all; both read the same bars from
one file. Before timing, the lines of both feeds are compared bit by bit.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import backtrader as bt
import pandas as pd
import prices
import pyarrow.parquet as pq
import timing

from backtest.engine.feed import replay
from backtest.market.series import Series
from backtest.store.store import Store

MINUTES = Series.parse("MADE/1min")
LINES = ("datetime", "open", "high", "low", "close", "volume")


class NeverRuns(bt.Strategy):
    """Stop Cerebro when the data is loaded and the first bar would come."""

    def __init__(self) -> None:
        raise bt.errors.StrategySkipError


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--bars", type=int, default=1_000_000)
    words.add_argument("--repeats", type=int, default=3)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(timing.table(rows(Path(folder), asked.bars, asked.repeats)))


def rows(folder: Path, bars: int, repeats: int) -> list[timing.Row]:
    """Return the rows of loading this many bars."""
    made = prices.minute_bars(bars)
    store = Store(folder / "store")
    prices.fill(store, MINUTES, made)
    frame, one_file = (
        prices.write_frame(folder / "frame.parquet", made, MINUTES),
        prices.write_table(folder / "bars.parquet", made),
    )
    check(from_store(store), from_pandas(frame))
    jobs = {"ours": lambda: from_store(store), "read_parquet + PandasData": lambda: from_pandas(frame)}
    jobs["bare pq.read_table"] = lambda: pq.read_table(one_file)
    goals = {"read_parquet + PandasData": 150.0, "bare pq.read_table": 1 / 6}
    return timing.race(f"load {bars:,} bars", jobs, repeats, goals)


def from_store(store: Store) -> Any:
    """Return our feed, loaded."""
    return loaded(replay(store.read(MINUTES), MINUTES))


def from_pandas(path: Path) -> Any:
    """Return Backtrader's feed of a frame, loaded."""
    return loaded(bt.feeds.PandasData(dataname=pd.read_parquet(path)))


def loaded(feed: Any) -> Any:
    """Return the feed as it is when the first strategy is created."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feed)
    cerebro.addstrategy(NeverRuns)
    cerebro.run()
    return feed


def check(ours: Any, theirs: Any) -> None:
    """Fail unless both feeds hold the same bars to the last bit."""
    for name in LINES:
        mine, other = (getattr(feed.lines, name).array for feed in (ours, theirs))
        assert len(mine) > 0, "nothing was loaded"
        assert mine == other, f"the lines {name} differ"


if __name__ == "__main__":
    main()
