"""Random orders on stocks and futures, carried out by a run and by the independent ledger."""

from __future__ import annotations

from pathlib import Path

import backtrader as bt
import numpy as np
from ledger import Ledger, bars_of, commission

from backtest import Series, Span, Store, run
from backtest.market.bars import table_of
from backtest.market.series import ContractDetails

NAMES = ("AAPL/1day", "MSFT/1day", "ES-FUT-CME-USD-202403/1day", "CL-FUT-NYMEX-USD-202403/1day")
CONTRACTS = {NAMES[2]: (50.0, 15_000.0), NAMES[3]: (1_000.0, 6_000.0)}  # what a point is worth, and the margin
FEES = {NAMES[2]: 2.25, NAMES[3]: 2.37}  # of a contract
SESSIONS = 60
CASH = 1e8  # so that nothing is refused


class Given(bt.Strategy):
    """Give the orders of a table at the closes of its bars."""

    params = (("orders", ()),)

    def next(self):
        for bar, place, size in self.p.orders:
            if bar == len(self) - 1:
                (self.buy if size > 0 else self.sell)(data=self.datas[place], size=abs(size))


def random_store(folder: Path, rng: np.random.Generator, days: list) -> Store:
    """Return a store with random bars of each series on some sessions."""
    store = Store(folder)
    for name in NAMES:
        closes = 50 + 100 * rng.random() + rng.normal(0, 1, len(days)).cumsum()
        rows = []
        for day, close in zip(days, np.maximum(closes, 5.0), strict=True):
            opened = float(close + rng.normal(0, 0.5))
            rows.append(
                (day, opened, max(opened, close) + 0.5, min(opened, close) - 0.5, float(close), 1e6, None, None)
            )
        multiplier = f"{CONTRACTS[name][0]:g}" if name in CONTRACTS else ""
        details = ContractDetails(multiplier=multiplier) if multiplier else None
        span = Span(days[0], days[-1].replace(hour=23))
        store.write(Series.parse(name), span, table_of(rows), contract=details)
    return store


def charged(name: str, size: int, price: float, rate: float) -> float:
    """Return what an order costs: IB's commission of shares, or the fee of its contracts."""
    return abs(size) * FEES[name] if name in FEES else commission(size, price)


def both_equities(seed: int, folder: Path, days: list) -> tuple[np.ndarray, np.ndarray]:
    """Return the equity after each bar of a run with random orders, and that of the ledger."""
    rng = np.random.default_rng(seed)
    store = random_store(folder / str(seed), rng, days)
    sizes = (400, 400, 4, 4)
    orders = [
        (bar, place, int(size))
        for bar in range(len(days) - 1)
        for place in range(len(NAMES))
        if rng.random() < 0.25 and (size := rng.integers(-sizes[place], sizes[place] + 1))
    ]
    margin = ",".join(f"{name}={money:g}" for name, (_, money) in CONTRACTS.items())
    result = run(Given, list(NAMES), store=store, params={"orders": orders}, cash=CASH, margin=margin)
    book = Ledger(bars_of(store, NAMES), CASH, contracts=CONTRACTS, charge=charged)
    book.run(lambda _, number, __: [(NAMES[place], size) for bar, place, size in orders if bar == number])
    return result.equity.to_numpy(), np.array(book.equity)
