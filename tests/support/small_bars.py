"""Random orders on bars that are made of smaller ones, and a walk over these in plain Python."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import backtrader as bt

from backtest.market.bars import table_of
from backtest.market.calendars import sessions
from backtest.market.hours import hours_of
from backtest.market.series import Series
from backtest.store.reader import HeldReader

SINGLE = ("Market", "Limit", "Stop", "StopLimit", "StopTrail")
Bar = tuple[float, float, float, float]  # open, high, low, close


@dataclass
class Feed:
    """Bars of a series, each with its small ones, by when these opened; none where there are none."""

    series: Series
    small: Series
    opened: list[datetime]
    bars: list[Bar]
    parts: list[list[tuple[datetime, Bar]]]


@dataclass
class Ordered:
    """What is asked at the close of a bar of a feed."""

    row: int
    feed: int
    what: str  # one of SINGLE, "oco", "bracket" or "cancel"
    side: int
    size: int
    prices: tuple[float, ...] = ()
    days: int = 0  # until it expires; 0 for never
    entry: str = "Market"  # of a bracket


@dataclass
class Case:
    """Feeds, and what is ordered on them."""

    feeds: list[Feed]
    orders: list[Ordered]
    size: str  # of the small bars

    @property
    def store(self) -> HeldReader:
        """Return a reader of all bars."""
        tables = {}
        for one in self.feeds:
            tables[one.series] = table_of(
                [(t, *bar, 100.0, None, 1) for t, bar in zip(one.opened, one.bars, strict=True)]
            )
            rows = [(t, *bar, 10.0, None, 1) for parts in one.parts for t, bar in parts]
            if rows:
                tables[one.small] = table_of(rows)
        return HeldReader("made up", tables)


def case_of(seed: int) -> Case:
    """Return a random case: daily bars on half hours, or half hours on five minutes; one feed or two."""
    chance = Random(seed)
    daily = chance.random() < 0.6
    large, small, length, days = ("1day", "30mins", 1800, 25) if daily else ("30mins", "5mins", 300, 3)
    feeds = [_feed(chance, f"S{n}", large, small, length, days) for n in range(chance.choice((1, 1, 2)))]
    orders = [_ordered(chance, feeds, row, n) for row in range(len(feeds[0].bars) - 1) for n in range(len(feeds))
              if chance.random() < 0.5]  # fmt: skip
    return Case(feeds, orders, small)


def _feed(chance: Random, name: str, large: str, small: str, length: int, days: int) -> Feed:
    series, parts = Series.parse(f"{name}/{large}"), Series.parse(f"{name}/{small}")
    every = sessions(hours_of(series.instrument), date(2021, 3, 1), date(2021, 12, 31))[:days]
    price, opened, bars, known = 100.0, list[datetime](), list[Bar](), list[list[tuple[datetime, Bar]]]()
    for session in every:
        times = [session.open + timedelta(seconds=length * n)
                 for n in range(int((session.close - session.open).total_seconds()) // length)]  # fmt: skip
        size = len(times) if series.size.daily else series.size.seconds // length
        for group in (times[at : at + size] for at in range(0, len(times), size)):
            rows = []
            for time in group:
                bar = _bar(chance, price)
                price = bar[3]
                rows.append((time, bar))
            lows, highs = ([bar[n] for _, bar in rows] for n in (2, 1))
            day = session.day
            opened.append(datetime(day.year, day.month, day.day, tzinfo=UTC) if series.size.daily else group[0])
            bars.append((rows[0][1][0], max(highs), min(lows), rows[-1][1][3]))
            kept = [row for row in rows if chance.random() < 0.9]  # not every small bar has a trade
            known.append([] if chance.random() < 0.2 else kept)
    return Feed(series, parts, opened, bars, known)


def _bar(chance: Random, before: float) -> Bar:
    opened = before + chance.randint(-4, 4) * 0.05
    closed = opened + chance.randint(-8, 8) * 0.05
    high, low = max(opened, closed) + chance.randint(0, 5) * 0.05, min(opened, closed) - chance.randint(0, 5) * 0.05
    return (round(opened, 2), round(high, 2), round(low, 2), round(closed, 2))


def _ordered(chance: Random, feeds: list[Feed], row: int, feed: int) -> Ordered:
    close, side, size = feeds[feed].bars[row][3], chance.choice((-1, 1)), chance.randint(1, 9)

    def near(sign: int) -> float:
        return round(close + sign * chance.randint(0, 30) * 0.05, 2)

    what = chance.choice((*SINGLE, *SINGLE, "oco", "bracket", "cancel"))
    days = chance.choice((0, 0, 2)) if what in SINGLE[1:] else 0
    if what == "oco":  # a limit and a stop on both sides of the price
        return Ordered(row, feed, what, side, size, (near(-side), near(side)))
    if what == "bracket":  # the entry, the stop and the limit
        entry = chance.choice(("Market", "Limit"))
        return Ordered(row, feed, what, side, size, (near(-side), near(-side), near(side)), entry=entry)
    if what == "StopLimit":
        return Ordered(row, feed, what, side, size, (near(side), near(chance.choice((-1, 1)))), days)
    if what == "StopTrail":
        return Ordered(row, feed, what, side, size, (chance.randint(1, 20) * 0.05,), days)
    prices = () if what in ("Market", "cancel") else (near(chance.choice((-1, 1))),)
    return Ordered(row, feed, what, side, size, prices, days)


def strategy_of(case: Case) -> type[bt.Strategy]:
    """Return a strategy that orders what the case says."""
    due: dict[int, list[Ordered]] = {}
    for one in case.orders:
        due.setdefault(one.row, []).append(one)

    class Orders(bt.Strategy):
        def __init__(self) -> None:
            self.singles: list[Any] = []

        def next(self) -> None:
            for one in due.get(len(self) - 1, ()):
                self.do(one)

        def do(self, one: Ordered) -> None:
            data, give = self.datas[one.feed], self.buy if one.side > 0 else self.sell
            valid = {"valid": data.datetime.datetime(0) + timedelta(days=one.days)} if one.days else {}
            if one.what == "cancel":
                if self.singles:
                    self.cancel(self.singles[one.size % len(self.singles)])
            elif one.what == "oco":
                first = give(data, size=one.size, exectype=bt.Order.Limit, price=one.prices[0])
                give(data, size=one.size, exectype=bt.Order.Stop, price=one.prices[1], oco=first)
            elif one.what == "bracket":
                both = self.buy_bracket if one.side > 0 else self.sell_bracket
                entry = {"price": one.prices[0]} if one.entry == "Limit" else {}
                both(data, size=one.size, exectype=getattr(bt.Order, one.entry), stopprice=one.prices[1],
                     limitprice=one.prices[2], **entry)  # fmt: skip
            else:
                kind = {"exectype": getattr(bt.Order, one.what)}
                if one.what == "StopTrail":
                    kind["trailamount"] = one.prices[0]
                elif one.prices:
                    kind |= dict(zip(("price", "plimit"), one.prices, strict=False))
                self.singles.append(give(data, size=one.size, **kind, **valid))

    return Orders


# --- the walk


@dataclass(eq=False)
class Open:
    """An order of the walk."""

    feed: int
    kind: str
    side: int
    size: int
    level: float = 0.0
    limit: float = 0.0
    trail: float = 0.0
    until: datetime | None = None
    rivals: list[Open] = field(default_factory=list)  # of which one is filled
    children: list[Open] = field(default_factory=list)
    state: str = "open"  # "waiting" for its parent, "called" from the next bar on, or "over"
    triggered: bool = False
    given: int = 0  # in which row

    def price_in(self, bar: Bar) -> float | None:
        """Return what it is filled at in a bar, None for not."""
        if self.kind == "Market":
            return bar[0]
        if self.kind == "Limit" or (self.kind == "StopLimit" and self.triggered):
            return self._by_limit(self.level if self.kind == "Limit" else self.limit, bar)
        if self.kind == "StopLimit":
            return self._by_stop_limit(bar)
        found = self._by_stop(bar)
        if found is None and self.kind == "StopTrail":
            best = min if self.side > 0 else max
            self.level = best(self.level, bar[3] + self.side * self.trail)
        return found

    def _by_limit(self, level: float, bar: Bar) -> float | None:
        opened, high, low, _ = bar
        if (level - opened) * self.side >= 0:
            return opened
        return level if (level >= low if self.side > 0 else level <= high) else None

    def _by_stop(self, bar: Bar) -> float | None:
        opened, high, low, _ = bar
        if (opened - self.level) * self.side >= 0:
            return opened
        return self.level if (high >= self.level if self.side > 0 else low <= self.level) else None

    def _by_stop_limit(self, bar: Bar) -> float | None:
        opened, _, _, closed = bar
        reached = self._by_stop(bar)
        self.triggered = reached is not None
        if reached is None:
            return None
        if (opened - self.level) * self.side >= 0:
            return self._by_limit(self.limit, bar)
        if (self.limit - self.level) * self.side >= 0:
            return self.level
        # Reached on the way, and the limit is behind the stop: it is passed again where the bar turned round.
        turned = opened > closed if self.side > 0 else opened <= closed
        return self.limit if turned and (self.limit - closed) * self.side >= 0 else None


def walk(case: Case) -> list[tuple[int, int, int, float, datetime | None]]:
    """Return the fills in order: row, feed, signed size, price, and when the small bar opened, None for none."""
    queue, singles, fills = list[Open](), list[Open](), list[tuple[int, int, int, float, datetime | None]]()
    due: dict[int, list[Ordered]] = {}
    for one in case.orders:
        due.setdefault(one.row, []).append(one)

    def over(order: Open) -> None:
        order.state = "over"
        if order in queue:
            queue.remove(order)

    def try_all(row: int, bars: dict[int, Bar], opened: datetime | None) -> None:
        for order in queue:
            if order.state == "called":
                order.state = "open"
        for order in [one for one in queue if one.feed in bars]:
            if order.state != "open":
                continue
            price = order.price_in(bars[order.feed])
            if price is None:
                continue
            fills.append((row, order.feed, order.side * order.size, price, opened))
            over(order)
            for rival in order.rivals:
                over(rival)
            for child in order.children:
                child.state = "called"

    for row in range(len(case.feeds[0].bars)):
        for order in [one for one in queue if one.until is not None]:
            feed = case.feeds[order.feed]
            if order.until is not None and closing(feed, row) > order.until:
                over(order)
        whole = {n: feed.bars[row] for n, feed in enumerate(case.feeds) if not feed.parts[row]}
        steps = [(opened, n, bar) for n, feed in enumerate(case.feeds) for opened, bar in feed.parts[row]]
        try_all(row, whole, None)
        for opened, n, bar in sorted(steps, key=lambda one: one[:2]):
            try_all(row, {n: bar}, opened)
        for one in due.get(row, ()):
            _give(one, case, row, queue, singles, over)
    return fills


def closing(feed: Feed, row: int) -> datetime:
    """Return when a bar is complete, as Backtrader has it."""
    if feed.series.size.daily:
        return feed.opened[row] + timedelta(hours=23, minutes=59, seconds=59, microseconds=999990)
    return feed.opened[row] + timedelta(seconds=feed.series.size.seconds)


def _give(one: Ordered, case: Case, row: int, queue: list[Open], singles: list[Open], over: Any) -> None:
    feed = case.feeds[one.feed]
    if one.what == "cancel":
        # Backtrader cancels nothing that was given in the same bar, and has not been looked at by the broker.
        if singles and (chosen := singles[one.size % len(singles)]).state != "over" and chosen.given < row:
            over(chosen)
        return
    if one.what == "oco":
        limit, stop = (Open(one.feed, kind, one.side, one.size, level)
                       for kind, level in zip(("Limit", "Stop"), one.prices, strict=True))  # fmt: skip
        limit.rivals, stop.rivals = [stop], [limit]
        queue += [limit, stop]
        return
    if one.what == "bracket":
        entry = Open(one.feed, one.entry, one.side, one.size, one.prices[0])
        stop, limit = (Open(one.feed, kind, -one.side, one.size, level, state="waiting")
                       for kind, level in zip(("Stop", "Limit"), one.prices[1:], strict=True))  # fmt: skip
        stop.rivals, limit.rivals, entry.children = [limit], [stop], [stop, limit]
        queue += [entry, stop, limit]
        return
    found = Open(one.feed, one.what, one.side, one.size, *(one.prices if one.what != "StopTrail" else ()))
    if one.what == "StopTrail":
        found.trail = one.prices[0]
        found.level = feed.bars[row][3] + one.side * found.trail
    if one.days:
        found.until = closing(feed, row) + timedelta(days=one.days)
    found.given = row
    singles.append(found)
    queue.append(found)
