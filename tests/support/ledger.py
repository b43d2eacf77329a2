"""An account for tests, kept without Backtrader: fills at the next open of the series, IB's fixed commission."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pandas as pd

Bars = dict[str, pd.DataFrame]
Order = tuple[str, int]


def bars_of(store, names: Iterable[str]) -> Bars:
    """Return open and close of series, by day."""
    return {name: store.read(_series(name)).to_pandas().set_index("time")[["open", "close"]] for name in names}


def commission(size: int, price: float) -> float:
    """Return what IB's fixed pricing charges: 0.005 a share, at least 1, at most 1 % of the value."""
    return min(max(0.005 * abs(size), 1.0), 0.01 * abs(size) * price)


class Ledger:
    """Cash and shares over all days that any series has; `decide` is asked at each close for the orders of the next."""

    def __init__(self, bars: Bars, cash: float = 100_000.0) -> None:
        self.bars, self.cash = bars, cash
        self.held = dict.fromkeys(bars, 0)
        self.days = sorted(set().union(*(frame.index for frame in bars.values())))
        self.fills: list[tuple[pd.Timestamp, str, int, float]] = []
        self.equity: list[float] = []

    def run(self, decide: Callable[[Ledger, int, pd.Timestamp], Iterable[Order]]) -> Ledger:
        waiting: list[Order] = []
        last = dict.fromkeys(self.bars, float("nan"))
        for number, day in enumerate(self.days):
            self._fill(waiting, day)
            last |= {name: frame.at[day, "close"] for name, frame in self.bars.items() if day in frame.index}
            self.equity.append(self.cash + sum(size * last[name] for name, size in self.held.items() if size))
            waiting = [(name, size) for name, size in decide(self, number, day) if size]
        return self

    def _fill(self, orders: list[Order], day: pd.Timestamp) -> None:
        for name, size in orders:
            price = self.bars[name].at[day, "open"]
            left = self.cash - size * price - self._commission(name, size, price)
            if left < 0 and self.held[name] * size >= 0:
                continue  # refused: the price has jumped beyond what can be paid
            self.cash = left
            self.held[name] += size
            self.fills.append((day, name, size, price))

    def _commission(self, name: str, size: int, price: float) -> float:
        closed = -self.held[name] if self.held[name] * (self.held[name] + size) < 0 else 0  # it turns the position
        return sum(commission(part, price) for part in (closed, size - closed) if part)

    def shares(self, name: str, day: pd.Timestamp, invest: float = 0.95, parts: int = 0) -> int:
        """Return the shares of an equal part of the account at the close, whether there is cash for it or not."""
        return int(self.equity[-1] * invest / (parts or len(self.bars)) / self.bars[name].at[day, "close"])


def assert_reconciled(result, bars: dict[str, list]) -> None:
    """
    Assert that positions, cash and equity after every bar follow from the fills and from the dividends in the manifest.

    Args:
        result: a run on daily bars of stocks.
        bars: the dates of the bars of each series, by its short name.
    """
    record, kept = result.record.to_pandas(), 1 - result.spec.brokerage.withholding
    fills = result.fills_table.to_pylist()
    days = [time.date() for time in record["time"]]
    held, cash, paid = dict.fromkeys(result.series, 0.0), result.spec.cash, _dues(result, bars)
    for row, day in enumerate(days):
        for name, amount in paid.get(day, ()):  # on what was held over the close before
            cash += held[name] * amount * (kept if held[name] > 0 else 1.0)
        for fill in (one for one in fills if one["time"].date() == day):
            held[fill["series"]] += fill["size"]
            cash -= fill["size"] * fill["price"] + fill["costs"]
        worth = sum(size * record[f"close.{n}"][row] for n, (name, size) in enumerate(held.items()) if size)
        for n, name in enumerate(result.series):
            assert record[f"position.{n}"][row] == held[name], (day, name)
        assert abs(record["cash"][row] - cash) <= 1e-9 * result.spec.cash, (day, record["cash"][row], cash)
        assert abs(record["equity"][row] - cash - worth) <= 1e-9 * result.spec.cash, (day, cash, worth)


def _dues(result, bars: dict[str, list]) -> dict:
    """Return what is due with the bar of each date: on an ex-date, or with the first bar of the series after it."""
    found: dict = {}
    for key, paid in result.manifest.get("dividends", {"series": {}})["series"].items():
        name = _series(key).short
        for day, amount in paid["amounts"].items():
            first = next((one for one in bars.get(name, ()) if one.isoformat() >= day), None)
            if first is not None:
                found.setdefault(first, []).append((name, amount))
    return found


def _series(name: str):
    from backtest.market.series import Series

    return Series.parse(name)
