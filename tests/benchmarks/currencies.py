"""
Currencies: a run with prices in dollars and an account in euros, against the same run with an account in dollars.

Run:  python tests/benchmarks/currencies.py [--bars 100000] [--repeats 5]

Before timing, the ratio of equity in euros to equity in dollars is compared with the stored rates.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import prices
import pyarrow as pa
import running
import timing

from backtest import RunResult, Store, run
from backtest.market.series import Series

ONE = "in one currency"
GOAL = 1 / 1.2
STOCK, PAIR = Series.parse("MADE/1min"), Series.parse("EUR-CASH-IDEALPRO-USD/1hour/MIDPOINT")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--bars", type=int, default=100_000)
    words.add_argument("--repeats", type=int, default=5)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(timing.table(rows(Path(folder), asked.bars, asked.repeats)))


def rows(folder: Path, bars: int, repeats: int) -> list[timing.Row]:
    """Return the row of a run over this many bars in two currencies."""
    store = stored(folder, bars)
    check(in_currency(store, "EUR"), in_currency(store, "USD"))
    jobs = {"ours": lambda: in_currency(store, "EUR"), ONE: lambda: in_currency(store, "USD")}
    return timing.race(f"SMA cross in two currencies, {bars:,} bars", jobs, repeats, {ONE: GOAL})


def stored(folder: Path, bars: int) -> Store:
    """Return a store with minute bars of a stock, and hourly bars of a currency pair from a week before them."""
    store = Store(folder / "bars")
    minutes = prices.minute_bars(bars)
    prices.fill(store, STOCK, minutes)
    first, last = (minutes["time"][row].as_py().timestamp() for row in (0, -1))
    opened = np.arange(first // 3600 * 3600 - 7 * 86_400, last, 3600)
    made = prices.minute_bars(len(opened), 1440)
    stamps = pa.array((opened * 1_000_000).astype(np.int64), pa.timestamp("us")).cast(made.schema.field("time").type)
    prices.fill(store, PAIR, made.set_column(0, made.schema.field("time"), stamps))
    return store


def in_currency(store: Store, currency: str) -> RunResult:
    """Return the run of two averages with an account in a currency, without costs, so that both trade the same."""
    return run(running.SmaCross, STOCK, store=store, cash=1_000_000, costs="none", currency=currency, lines=False)


def check(euros: RunResult, dollars: RunResult) -> None:
    """Fail unless both trade the same, and every position is worth its dollars at the rate known then."""
    assert len(euros.fills), "nothing was traded"
    assert euros.fills["size"].tolist() == dollars.fills["size"].tolist(), "the runs traded differently"
    held = [(run.equity - run.record["cash"].to_numpy()).to_numpy() for run in (euros, dollars)]
    rates = euros.record["rate.0"].to_numpy()
    assert np.allclose(held[0], held[1] * rates, rtol=1e-9, atol=1e-6), "positions are worth something else"


if __name__ == "__main__":
    main()
