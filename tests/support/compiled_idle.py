"""Strategies that do nothing at most bars, each with conditions of another kind, and random cases of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import backtrader as bt
from compiled_check import COSTS, DATED, MARKETS, differences, set_up_of
from compiled_random import CLOCKS, feeds_of


class Levels(bt.Strategy):
    """Compares lines with parameters."""

    params = (("low", 40.0), ("high", 60.0), ("period", 5))

    def __init__(self):
        self.rsi = bt.ind.RSI(self.data.close, period=self.p.period, safediv=True)

    def next(self):
        if not self.position:
            if self.rsi[0] < self.p.low:
                self.buy(size=20)
        elif self.rsi[0] > self.p.high:
            self.close()


class Stops(bt.Strategy):
    """Compares lines with what it noted when it bought."""

    params = (("loss", 0.03), ("gain", 0.05), ("period", 6))

    def __init__(self):
        self.average = bt.ind.SMA(self.data.close, period=self.p.period)
        self.entry = 0.0

    def next(self):
        if self.position.size == 0:
            if self.data.close[0] > self.average[0] and self.data.close[-1] <= self.average[-1]:
                self.entry = self.data.close[0]
                self.buy(size=15)
        elif self.data.close[0] < self.entry * (1 - self.p.loss) or self.data.close[0] > self.entry * (1 + self.p.gain):
            self.close()


class Waits(bt.Strategy):
    """Counts bars down after each order."""

    params = (("bars", 4), ("period", 4))

    def __init__(self):
        self.average = bt.ind.EMA(self.data.close, period=self.p.period)
        self.left = 0

    def next(self):
        if self.left > 0:
            self.left -= 1
            return
        if self.data.close[0] > self.average[0] * 1.01 and not self.position:
            self.buy(size=9)
            self.left = self.p.bars
        elif self.data.close[0] < self.average[0] * 0.99 and self.position:
            self.sell(size=9)
            self.left = self.p.bars


class Limits(bt.Strategy):
    """Has orders that stay open, expire and are cancelled."""

    params = (("away", 0.02), ("age", 3), ("period", 5))

    def __init__(self):
        self.low = bt.ind.Lowest(self.data.low, period=self.p.period)
        self.order, self.since = None, 0

    def next(self):
        if self.order and len(self) - self.since >= self.p.age:
            self.cancel(self.order)
            self.order = None
        if not self.position and not self.order and self.data.low[0] <= self.low[0]:
            price = self.data.close[0] * (1 - self.p.away)
            self.order = self.buy(size=12, price=price, exectype=bt.Order.Limit, valid=self.data.datetime[0] + 6)
            self.since = len(self)
        elif self.position and self.data.high[0] > self.data.high[-1] * (1 + self.p.away):
            self.sell(size=12, price=self.data.close[0] * 0.99, exectype=bt.Order.Stop)
            self.order = None


class Months(bt.Strategy):
    """Looks at the calendar."""

    params = (("part", 0.5), ("day", 15))

    def next(self):
        today = self.data.datetime.date(0)
        if today.day >= self.p.day and today.month != self.data.datetime.date(-1).month:
            self.order_target_percent(target=self.p.part)
        elif today.weekday() == 4 and today.day > 25:
            self.order_target_percent(target=0.0)


class Every(bt.Strategy):
    """Does something each so many bars."""

    params = (("bars", 7), ("part", 0.4))

    def next(self):
        if len(self) % self.p.bars == 0:
            self.order_target_percent(target=self.p.part if self.data.close[0] > self.data.open[0] else -self.p.part)


class Divides(bt.Strategy):
    """Divides by what may be zero."""

    params = (("least", 0.02), ("period", 3))

    def __init__(self):
        self.high = bt.ind.Highest(self.data.high, period=self.p.period)
        self.low = bt.ind.Lowest(self.data.low, period=self.p.period)

    def next(self):
        span = self.high[0] - self.low[0]
        place = (self.data.close[0] - self.low[0]) / (span + 1.0)
        if place > 1 - self.p.least * 5 and self.position.size <= 0:
            self.order_target_size(target=10)
        elif place < self.p.least * 5 and self.position.size >= 0:
            self.order_target_size(target=-10)


class Flags(bt.Strategy):
    """Writes the same at most bars, and closes what may be closed already."""

    params = (("period", 5),)

    def __init__(self):
        self.above = bt.ind.SMA(self.data.close, period=self.p.period) < self.data.close
        self.armed = False

    def next(self):
        self.armed = self.above[-1] == 0
        if self.armed and self.above[0]:
            self.buy(size=5)
        if not self.above[0]:
            self.close()


class Helps(bt.Strategy):
    """Decides in methods of its own."""

    params = (("fast", 3), ("slow", 8), ("most", 2))

    def __init__(self):
        self.cross = bt.ind.CrossOver(
            bt.ind.SMA(self.data.close, period=self.p.fast), bt.ind.SMA(self.data.close, period=self.p.slow)
        )
        self.bought = 0

    def signal(self):
        if self.cross[0] > 0:
            return 1
        if self.cross[0] < 0:
            return -1
        return 0

    def next(self):
        for way in range(2):
            if self.signal() == 1 - 2 * way:
                self.act(way)

    def act(self, way):
        if way == 0 and self.bought < self.p.most:
            self.bought += 1
            self.buy(size=int(self.broker.getcash() * 0.3 / self.data.close[0]))
        elif way == 1:
            self.bought = 0
            self.close()


class Large(bt.Strategy):
    """Orders more than it can pay, and is refused."""

    params = (("times", 1.2), ("period", 4))

    def __init__(self):
        self.roc = bt.ind.ROC(self.data.close, period=self.p.period)

    def next(self):
        if self.roc[0] > 0.01:
            self.order_target_percent(target=self.p.times)
        elif self.roc[0] < -0.02:
            self.order_target_percent(target=-self.p.times)


class Hears(bt.Strategy):
    """Waits until it has heard of its order, and counts trades."""

    params = (("period", 5), ("most", 6))

    def __init__(self):
        self.above = self.data.close > bt.ind.SMA(self.data.close, period=self.p.period)
        self.order, self.entry, self.losses = None, 0.0, 0

    def notify_order(self, order):
        if order.status in (order.Submitted, order.Accepted):
            return
        if order.status == order.Completed and order.isbuy():
            self.entry = order.executed.price
        self.order = None

    def notify_trade(self, trade):
        if trade.isclosed:
            self.losses += trade.pnlcomm < 0

    def next(self):
        if self.order or self.losses > self.p.most:
            return
        if not self.position:
            if self.above[0] and not self.above[-1]:
                self.order = self.buy(size=11)
        elif not self.above[0] or self.data.close[0] < self.entry * 0.97:
            self.order = self.sell(size=11)


class Each(bt.Strategy):
    """Does the same on each feed, with a part of what the account is worth."""

    params = (("fast", 2), ("slow", 7))

    def __init__(self):
        self.above = {
            data: bt.ind.SMA(data.close, period=self.p.fast) > bt.ind.SMA(data.close, period=self.p.slow)
            for data in self.datas
        }

    def next(self):
        for data in self.datas:
            position = self.getposition(data).size
            if self.above[data][0] and not position:
                self.buy(data=data, size=int(self.broker.getvalue() * 0.9 / len(self.datas) / data.close[0]))
            elif not self.above[data][0] and position:
                self.close(data=data)


class Spread(bt.Strategy):
    """Trades the last feed against the first."""

    params = (("period", 6), ("wide", 1.0))

    def __init__(self):
        ratio = self.datas[0].close / self.datas[-1].close
        self.score = (ratio - bt.ind.SMA(ratio, period=self.p.period)) / bt.ind.StdDev(ratio, period=self.p.period)
        self.side = 0

    def notify_trade(self, trade):
        if trade.isclosed and self.position.size == 0:
            self.side = 0

    def next(self):
        wanted = 0
        if self.score[0] > self.p.wide:
            wanted = -1
        elif self.score[0] < -self.p.wide:
            wanted = 1
        if wanted != 0 and wanted != self.side:
            self.order_target_percent(data=self.datas[0], target=0.3 * wanted)
            self.order_target_percent(data=self.datas[-1], target=-0.3 * wanted)
            self.side = wanted


# The strategies, and what their parameters are drawn from.
CLASSES: dict[type[Any], dict[str, list[Any]]] = {
    Levels: {"low": [25.0, 35.0, 45.0], "high": [55.0, 65.0], "period": [3, 6]},
    Stops: {"loss": [0.01, 0.03], "gain": [0.02, 0.06], "period": [3, 9]},
    Waits: {"bars": [1, 5], "period": [3, 8]},
    Limits: {"away": [0.0, 0.01, 0.03], "age": [1, 4], "period": [3, 7]},
    Months: {"part": [0.3, 0.9], "day": [1, 2]},
    Every: {"bars": [5, 11], "part": [0.2, 0.8]},
    Divides: {"least": [0.005, 0.02], "period": [3, 6]},
    Flags: {"period": [3, 10]},
    Helps: {"fast": [2, 4], "slow": [6, 11], "most": [1, 2]},
    Hears: {"period": [3, 9], "most": [2, 20]},
    Each: {"fast": [1, 3], "slow": [6, 12]},
    Spread: {"period": [4, 8], "wide": [0.8, 1.5]},
    Large: {"times": [0.7, 1.6], "period": [2, 5]},
}


def case(cls: type[Any], seed: int, trials: int, bars: int) -> tuple[list[dict[str, Any]], Any, Callable[[Any], None]]:
    """Return the parameters, the maker of feeds and the set-up of a case."""
    chance = random.Random(f"{cls.__name__} {seed}")
    params = [{name: chance.choice(values) for name, values in CLASSES[cls].items()} for _ in range(trials)]
    clock, count = "same" if cls is Spread else CLOCKS[seed % 4], {Each: 1 + seed % 4, Spread: 2}.get(cls, 1)
    costs, cash = chance.choice([*COSTS, *DATED]), chance.choice([2_000.0, 100_000.0])
    put = set_up_of(costs, cash, chance.choice(list(MARKETS)))
    return params, feeds_of(chance.randrange(10**9), clock, count, bars), put


def compared(cls: type[Any], seed: int, trials: int, bars: int) -> tuple[Any, dict[int, str]]:
    """Return the outcomes of a case, and what differs from the event engine."""
    return differences(cls, *case(cls, seed, trials, bars))
