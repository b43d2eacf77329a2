"""
Accounts: a run with dividends, interest and a margin account that borrows, against the same run without any of them.

Run:  python tests/benchmarks/accounts.py [--bars 100000] [--repeats 5]

Before timing, the script checks that both trade the same in the lean loop, and that the former borrows.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import prices
import running
import timing

from backtest import RunResult, Store, run
from backtest.engine.account.dividends import Dividends, DividendTable
from backtest.market.series import Series

PLAIN = "without them"
GOAL = 1 / 1.3
STOCK = Series.parse("MADE/1min")
SHARES, LEVERAGE = 100, 1.6


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--bars", type=int, default=100_000)
    words.add_argument("--repeats", type=int, default=5)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(timing.table(rows(Path(folder), asked.bars, asked.repeats)))


def rows(folder: Path, bars: int, repeats: int) -> list[timing.Row]:
    """Return the row of a run over this many bars in an account with IB's rules."""
    store, minutes = Store(folder / "bars"), prices.minute_bars(bars)
    prices.fill(store, STOCK, minutes)
    highest, days = float(np.max(minutes["high"].to_numpy())), minutes["time"].to_numpy().astype("datetime64[D]")
    quarters = np.unique(days)[21::63]
    paid = Dividends("USD", tuple(map(str, quarters)), (0.25,) * len(quarters), "made up")
    # What the highest price of the shares asks for at first, and no less, so that nothing is refused.
    cash = SHARES * highest / LEVERAGE * 2
    as_ib: dict[str, Any] = {"dividends": DividendTable("made up", {STOCK.key: paid}), "interest": "ib"}
    as_ib |= {"account": "reg-t", "cash": cash / 2}
    check(traded(store, **as_ib), traded(store, cash=cash))
    jobs = {"ours": lambda: traded(store, **as_ib), PLAIN: lambda: traded(store, cash=cash)}
    return timing.race(f"SMA cross as an account at IB, {bars:,} bars", jobs, repeats, {PLAIN: GOAL})


def traded(store: Store, **asked: Any) -> RunResult:
    """Return the run of two moving averages with a fixed number of shares."""
    return run(running.SmaCross, STOCK, store=store, params={"size": SHARES}, costs="none", lines=False, **asked)


def check(ours: RunResult, plain: RunResult) -> None:
    """Raise AssertionError unless both have the same fills, and ours borrowed, received dividends and paid interest."""
    assert ours.fills_table.equals(plain.fills_table), "the runs trade differently"
    assert float(np.min(ours.record["cash"].to_numpy())) < 0, "nothing was borrowed"
    assert ours.stats["dividends"] != 0, "no dividend was paid"
    assert ours.manifest["interest"]["booked"] != 0, "no interest was charged"
    assert ours.stats["margin_used"] > 0, "nothing was required"


if __name__ == "__main__":
    main()
