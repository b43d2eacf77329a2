"""
An account for tests, kept without Backtrader: fills at the next open of the series, IB's fixed commission.

Prices may be in other currencies than the account, and of contracts that have a multiplier and bind a margin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import pandas as pd

Bars = dict[str, pd.DataFrame]
Order = tuple[str, int]
Rates = Mapping[str, pd.DataFrame]  # by series and day: opening, for its fills, and row, after all bars of the day


def bars_of(store, names: Iterable[str]) -> Bars:
    """Return open and close of series, by day."""
    return {name: store.read(_series(name)).to_pandas().set_index("time")[["open", "close"]] for name in names}


def commission(size: int, price: float) -> float:
    """Return what IB's fixed pricing charges: 0.005 a share, at least 1, at most 1 % of the value."""
    return min(max(0.005 * abs(size), 1.0), 0.01 * abs(size) * price)


class Ledger:
    """
    Cash and shares over all days that any series has; `decide` is asked at each close for the orders of the next.

    Args:
        rates: money of the account per unit of price; 1 for series that are not there.
        contracts: multiplier, and margin in the currency of the account, of what is no share.
        charge: the commission of a series' fill in the currency of the account: of name, size, price and rate.
    """

    def __init__(
        self,
        bars: Bars,
        cash: float = 100_000.0,
        rates: Rates | None = None,
        contracts: Mapping[str, tuple[float, float]] | None = None,
        charge: Callable[[str, int, float, float], float] | None = None,
    ) -> None:
        self.bars, self.cash = bars, cash
        self.rates, self.contracts = rates or {}, contracts or {}
        self.charge = charge or (lambda name, size, price, rate: commission(size, price) * rate)
        self.held = dict.fromkeys(bars, 0)
        self.settled = dict.fromkeys(bars, float("nan"))  # the price up to which a contract's gains are in the cash
        self.days = sorted(set().union(*(frame.index for frame in bars.values())))
        self.fills: list[tuple[pd.Timestamp, str, int, float]] = []
        self.equity: list[float] = []

    def run(self, decide: Callable[[Ledger, int, pd.Timestamp], Iterable[Order]]) -> Ledger:
        waiting: list[Order] = []
        last = dict.fromkeys(self.bars, float("nan"))
        for number, day in enumerate(self.days):
            waiting = self._fill(waiting, day)
            last |= {name: frame.at[day, "close"] for name, frame in self.bars.items() if day in frame.index}
            for name, (multiplier, _) in self.contracts.items():
                if self.held[name]:
                    points = self.held[name] * (last[name] - self.settled[name])
                    self.cash += points * multiplier * self._rate(name, day, "row")
                    self.settled[name] = last[name]
            self.equity.append(self.cash + sum(self._worth(name, day, last[name]) for name in self.bars))
            waiting += [(name, size) for name, size in decide(self, number, day) if size]
        return self

    def _worth(self, name: str, day: pd.Timestamp, price: float) -> float:
        if not self.held[name]:
            return 0.0
        if name in self.contracts:
            return abs(self.held[name]) * self.contracts[name][1]
        return self.held[name] * price * self._rate(name, day, "row")

    def _rate(self, name: str, day: pd.Timestamp, when: str) -> float:
        return self.rates[name].at[day, when] if name in self.rates else 1.0

    def _fill(self, orders: list[Order], day: pd.Timestamp) -> list[Order]:
        """Fill orders at the open of a day, and return those whose series has no bar then."""
        for name, size in orders:
            if day not in self.bars[name].index:
                continue
            price, rate = self.bars[name].at[day, "open"], self._rate(name, day, "opening")
            left = self._cash_after(name, size, price, rate)
            if left < 0 and self.held[name] * size >= 0:
                continue  # refused: the price has jumped beyond what can be paid
            self.cash = left
            self._settle(name, size, price)
            self.held[name] += size
            self.fills.append((day, name, size, price))
        return [(name, size) for name, size in orders if day not in self.bars[name].index]

    def _cash_after(self, name: str, size: int, price: float, rate: float) -> float:
        left = self.cash - self._commission(name, size, price, rate)
        if name not in self.contracts:
            return left - size * price * rate
        (multiplier, margin), held = self.contracts[name], self.held[name]
        settled = -self._closed(name, size) if held * size < 0 else held  # what closes, and what was there before more
        gained = settled * (price - self.settled[name]) * multiplier * rate if held else 0.0
        return left + gained - (abs(held + size) - abs(held)) * margin

    def _settle(self, name: str, size: int, price: float) -> None:
        held = self.held[name]
        if not held or held * size > 0 or held * (held + size) < 0:
            self.settled[name] = price

    def _closed(self, name: str, size: int) -> int:
        """Return the part of an order that closes what is held."""
        held = self.held[name]
        return (size if abs(size) <= abs(held) else -held) if held * size < 0 else 0

    def _commission(self, name: str, size: int, price: float, rate: float) -> float:
        return self.charge(name, size, price, rate)

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
    booked = record["interest"] if "interest" in record else [0.0] * len(days)
    for row, day in enumerate(days):
        cash += booked[row]
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


def assert_margin(result) -> int:
    """
    Assert that a margin account required what Regulation T and IB's table say, sold what was too much, and no more.

    Args:
        result: a run on daily bars of US stocks in an account reg-t, whose series have the same days.

    Returns:
        How many orders it gave.
    """
    record, orders, called = result.record.to_pandas(), result.orders_table.to_pylist(), 0
    given = [one for one in orders if one["reason"].startswith("margin call")]
    filled = {fill["ref"]: fill["time"] for fill in result.fills_table.to_pylist()}
    for row, time in enumerate(record["time"]):
        held = {name: (record[f"position.{n}"][row], record[f"close.{n}"][row]) for n, name in enumerate(result.series)}
        each = {name: 0.25 * close if size > 0 else max(0.3 * close, min(close, 5.0), 2.5)
                for name, (size, close) in held.items()}  # fmt: skip
        required = {name: abs(size) * each[name] for name, (size, _) in held.items() if size}
        assert abs(record["margin"][row] - sum(required.values())) <= 1e-9 * result.spec.cash, time
        waiting = [one for one in given if one["created"] < time and filled.get(one["ref"], time) > time]
        own = {one["series"]: one["size"] for one in given if one["created"] == time}
        left = sum(required.values()) - record["equity"][row]
        assert bool(own) or waiting or left <= 1e-9 * result.spec.cash, (time, left)
        if waiting or not own:
            assert not own
            continue
        for name in sorted(required, key=lambda one: -required[one]):
            shares = min(math.ceil(round(left / each[name], 9)), abs(held[name][0])) if left > 0 else 0
            assert abs(own.pop(name, 0)) == shares, (time, name, left)
            left -= shares * each[name]
            called += bool(shares)
        assert own == {}
    return called


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


def known_at(known: pd.Series, moments: pd.DatetimeIndex) -> pd.Series:
    """Return the last value at each moment, of values by the moments since which they are known, in order."""
    return known.reindex(known.index.union(moments)).ffill().reindex(moments)


def _series(name: str):
    from backtest.market.series import Series

    return Series.parse(name)
