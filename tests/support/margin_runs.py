"""Runs in accounts with rules, on made-up bars, and what the account allows, worked out without the product's code."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import backtrader as bt
import numpy as np

from backtest import Series, Span, Store, run
from backtest.market.bars import table_of

# The lean loop, Backtrader's own with its own broker, and with ours.
LOOPS = ({}, {"volume_cap": 1.0}, {"slippage": "0.0"})
NAMES = ("AAPL/1day", "MSFT/1day")
FIRST = date(2024, 6, 3)  # a Monday; the first holiday of New York is the 19th
CYCLES = {date(2015, 3, 2): 3, date(2018, 2, 5): 2, FIRST: 1}  # Mondays, and how many days a trade takes to settle then


class Trades(bt.Strategy):
    """Gives orders at bars, the first is 1: {2: 100} is filled at the open of the third; more by tuples."""

    params = (("orders", {}),)

    def __init__(self):
        self.told = []

    def next(self):
        for given in self.p.orders.get(len(self), ()):
            place, size, *stop = given
            kinds = {"exectype": bt.Order.Stop, "price": stop[0]} if stop else {}
            (self.buy if size > 0 else self.sell)(data=self.datas[place], size=abs(size), **kinds)

    def notify_order(self, order):
        if order.status in (order.Margin, order.Rejected):
            self.told.append(order.info.reason)
        self.notes = {"told": self.told}


def weekdays(count, first=FIRST):
    found = [first + timedelta(days=n) for n in range(2 * count)]
    return [day for day in found if day.weekday() < 5][:count]


def store_of(folder, prices, first=FIRST):
    """Return a store of series with bars that open and close at the prices given; a pair is an open and a close."""
    store = Store(folder)
    for name, own in zip(NAMES, prices, strict=False):
        rows = []
        for day, price in zip(weekdays(len(own), first), own, strict=True):
            opened, closed = price if isinstance(price, tuple) else (price, price)
            ends = max(opened, closed), min(opened, closed)
            moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
            rows.append((moment, opened, *ends, closed, 1e6, None, None))
        store.write(Series.parse(name), Span.of_dates(first, day + timedelta(days=1)), table_of(rows))
    return store


def trade(store, orders, account, series=NAMES[:1], **asked):
    """Return a run of orders by bars: sizes, or lists of the place of a series, a size, and the price of a stop."""
    pairs = {bar: [(0, given)] if isinstance(given, int | float) else given for bar, given in orders.items()}
    return run(
        Trades, series, store=store, params={"orders": pairs}, account=account,
        **{"costs": "none", "cash": 10_000, **asked},
    )  # fmt: skip


def statuses(result):
    return result.orders["status"].tolist()


def reasons(result):
    return result.orders_table["reason"].to_pylist()


class Random(bt.Strategy):
    """Gives orders of every kind and either side, far larger than the account allows, and cancels some."""

    params = (("seed", 0), ("largest", 400))

    def __init__(self):
        self.random, self.given = np.random.default_rng(self.p.seed), []

    def next(self):
        for data in self.datas:
            if self.random.random() < 0.5:
                self.give(data)
        if self.given and self.random.random() < 0.1:
            self.cancel(self.given.pop())

    def give(self, data):
        kind = int(self.random.choice([bt.Order.Market, bt.Order.Limit, bt.Order.Stop, bt.Order.Close]))
        side = self.buy if self.random.random() < 0.5 else self.sell
        price = None if kind in (bt.Order.Market, bt.Order.Close) else data.close[0] * self.random.uniform(0.97, 1.03)
        self.given.append(
            side(data=data, size=int(self.random.integers(1, self.p.largest)), price=price, exectype=kind)
        )


def random_bars(rng, count):
    """Return opens and closes of a wild share, which may be a cheap one."""
    price, found = float(rng.choice([1.5, 4.0, 12.0, 60.0])), []
    for _ in range(count):
        opened = price * rng.uniform(0.93, 1.07)
        price = opened * rng.uniform(0.9, 1.1)
        found.append((opened, price))
    return found


def run_with_gaps(folder, seed, account, own, count=50):
    """Return a run of random orders on a share by days and one by hours, of which some are missing."""
    rng, store, names = np.random.default_rng(seed), Store(folder), (NAMES[0], "MSFT/1hour")
    for name in names:
        rows = []
        for day, (opened, closed) in zip(weekdays(count), random_bars(rng, count), strict=True):
            hours = (14, 16, 19) if "hour" in name else (0,)
            prices = np.linspace(opened, closed, len(hours) + 1).tolist()
            for hour, start, end in zip(hours, prices, prices[1:], strict=False):
                if rng.random() > 0.15:
                    moment = datetime(day.year, day.month, day.day, hour, 30 * ("hour" in name), tzinfo=UTC)
                    rows.append((moment, start, max(start, end), min(start, end), end, 1e6, None, None))
        store.write(Series.parse(name), Span.of_dates(FIRST, day + timedelta(days=1)), table_of(rows))
    return run(Random, names, store=store, params={"seed": seed}, account=account, cash=8_000.0, **own)


def random_run(folder, seed, account, count=60, own=None):
    """Return a run of random orders on two wild shares, in a loop of its own or by the seed."""
    rng = np.random.default_rng(seed)
    store = store_of(folder, [random_bars(rng, count) for _ in NAMES], list(CYCLES)[seed % len(CYCLES)])
    return run(
        Random, NAMES, store=store, params={"seed": seed}, account=account, cash=float(rng.choice([3_000, 20_000])),
        **(LOOPS[seed % len(LOOPS)] if own is None else own),
    )  # fmt: skip


def overdrawn(result, account):
    """
    Return the fills after which the account had more leverage than it allows, and how many opened anything.

    Equity is kept from the fills alone, each at its own price and what else is held at the open of the bar. What opens
    must leave equity of half of all positions, of cheap short shares of more; in a cash account no debt, nothing short,
    and no money spent of sales that are fewer weekdays ago than a trade takes to settle. What is filled at the close
    at which it was given comes after the rest of its day, and all else is then held at the close.
    """
    known = {
        when: {name: dict(zip(table["time"].to_pylist(), table[when].to_pylist(), strict=True))
               for name, table in ((name, result.bars_from.read(name)) for name in NAMES)}
        for when in ("open", "close")
    }  # fmt: skip
    given = {one["ref"]: one["created"] for one in result.orders_table.to_pylist() if one["kind"] == "Market"}
    held, cash, found, opened_any = dict.fromkeys(NAMES, 0.0), result.spec.cash, [], 0
    sales: list[tuple[datetime, float]] = []
    cycle = next((days for first, days in CYCLES.items() if first == result.record["session"][0].as_py()), 1)
    fills = result.fills_table.to_pylist()
    for fill in sorted(fills, key=lambda one: (one["time"], given.get(one["ref"]) == one["time"])):
        name, size, price, time = fill["series"], fill["size"], fill["price"], fill["time"]
        begun = known["close" if given.get(fill["ref"]) == time else "open"]
        before = held[name]
        held[name] += size
        cash -= size * price + fill["costs"]
        opens_any = abs(held[name]) > abs(before) or held[name] * before < 0
        if not opens_any:
            sales.append((time, -size * price - fill["costs"]))
            continue
        opened_any += 1
        prices = {one: price if one == name else begun[one][time] for one in NAMES}
        gross = sum(abs(held[one]) * prices[one] for one in NAMES)
        equity = cash + sum(held[one] * prices[one] for one in NAMES)
        if account == "cash":
            spent = sum(money for when, money in sales if np.busday_count(when.date(), time.date()) < cycle)
            if min(held.values()) < 0 or cash - spent < -1e-6:
                found.append((fill, cash, spent, dict(held)))
            continue
        least = sum(abs(held[one]) * max(0.5 * prices[one], max(min(prices[one], 5.0), 2.5) if held[one] < 0 else 0.0)
                    for one in NAMES)  # fmt: skip
        borrows = cash < 0 or min(held.values()) < 0
        if equity < least - 1e-6 or gross > 2 * equity + 1e-6 or (borrows and equity < 2_000 - 1e-6):
            found.append((fill, equity, least, gross))
    return found, opened_any
