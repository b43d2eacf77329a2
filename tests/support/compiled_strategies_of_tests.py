"""Strategies whose code is of all kinds that are compiled, and bars for them."""

from __future__ import annotations

import math
import random
from datetime import date, timedelta

import backtrader as bt
from compiled_check import named
from parity_markets import market, quick_rows

TABLES = [market(11 + number, 90, tick=0.01, gap=0.2) for number in range(3)]


def feeds(count):
    return lambda: named([quick_rows(table) for table in TABLES[:count]])


class Monthly(bt.Strategy):
    """Acts on dates, and keeps one."""

    def __init__(self):
        self.month, self.since = -1, None

    def next(self):
        today = self.data.datetime.date(0)
        if today.month != self.month:
            self.month = today.month
            self.since = self.datetime.date()
            self.order_target_percent(target=0.5 if today.weekday() < 3 else 0.1)
        elif (today - self.since).days > 9 and self.position:
            self.close()
        elif self.data.datetime.datetime().day == 20:
            self.buy(size=3)


class Reckons(bt.Strategy):
    """Uses what Python itself reckons: powers, logarithms, rounding, sums of windows."""

    params = (("count", 5), ("power", 1.5))

    def next(self):
        if len(self) < self.p.count:
            return
        assert self.data.high[0] >= self.data.low[0], "a bar upside down"
        print(",".join(map(str, [self.data.num2date(self.data.datetime[0]).date(), self.data.close[0]])))
        recent = sum([self.data.close[-ago] * (0.1 + ago) for ago in range(4)]) / sum([ago + 1 for ago in range(3)])
        if max([self.data.close[0], self.data.open[-1], recent]) == recent and sum([len(self), 1]) % 2:
            self.buy(size=recent / 10)
        closes = self.data.close.get(size=self.p.count)
        mean = sum(closes) / len(closes)
        score = round(math.log(self.data.close[0] / mean) * 100, 2) ** 2 + mean**self.p.power
        size = int(score % 7) - 3 + int((self.data.close[0] - mean) % 0.7 > 0.3)
        if size > 0 and max(self.data.high.get(ago=-1, size=3)) < self.data.high[0]:
            self.buy(size=size)
        elif size < 0:
            self.sell(size=abs(size))


class Ranks(bt.Strategy):
    """Sorts feeds, and keeps sets, dicts and texts."""

    def __init__(self):
        self.seen, self.stops = set(), dict.fromkeys(self.datas, 0.0)
        self.mode = "none"

    def next(self):
        risen = [data for data in self.datas if len(data) > 3 and data.close[0] > data.close[-3]]
        ranked = sorted(risen, key=lambda data: data.close[0] / data.close[-3], reverse=True)
        self.mode = "calm" if len(ranked) < 2 else "wild"
        for data in ranked[:2]:
            if data in self.seen and self.mode == "wild":
                continue
            self.seen.add(data)
            self.stops[data] = data.close[0] * 0.97
            self.buy(data=data, size=5)
        for data in self.datas:
            if self.getposition(data).size and data.close[0] < self.stops[data]:
                self.close(data)
                self.seen.discard(data)


class Draws(bt.Strategy):
    """Draws from a generator of its own, and is silent where nobody asks."""

    params = (("seed", 1), ("loud", False))

    def __init__(self):
        self.coin = random.Random(self.p.seed)
        self.done = 0

    def log(self, text):
        if self.p.loud:
            print(f"{self.data.datetime.date(0).isoformat()} {text}")

    def notify_order(self, order):
        self.log(f"{order.getstatusname()} {order.executed.price:.2f}")

    def next(self):
        self.log("a bar")
        if self.coin.random() < 0.2:
            self.done += 1
            self.buy() if self.coin.uniform(0, 1) < 0.5 else self.sell()
        if any(self.getposition(data).size > 2 for data in self.datas) or not self.done % 5:
            self.close()


class Limits(bt.Strategy):
    """Sets what it looks for later in a method that comes later, and looks at its order."""

    def __init__(self):
        self.order = None

    def notify_order(self, order):
        if order.status in [order.Completed, order.Margin]:
            self.filled_at = len(self)
            self.paid = order.executed.price
            if order.isbuy():
                self.sell(exectype=bt.Order.Stop, price=self.paid * 0.97)
                self.sell(exectype=bt.Order.Limit, price=self.paid * 1.05)
            self.order = None

    def next(self):
        if self.order:
            if self.order.status == bt.Order.Accepted and len(self) % 5 == 0:
                self.cancel(self.order)
                self.order = None
        elif not self.position:
            self.order = self.buy(exectype=bt.Order.Limit, price=self.data.close[0] * 0.995)
        elif len(self) > self.filled_at + 3 or self.data.close[0] < self.paid * 0.98:
            self.order = self.close()


class Crosses(bt.Strategy):
    """Looks at operations on lines now and before, also before they have values; one of them is averaged, too."""

    params = (("fast", 2), ("slow", 5), ("up", True))

    def __init__(self):
        fast, slow = (bt.ind.SMA(period=period) for period in (self.p.fast, self.p.slow))
        self.above = fast > slow if self.p.up else fast < slow
        self.apart, self.rising = fast - slow, fast >= self.data.close
        self.often = bt.ind.SMA(self.rising, period=2)

    def prenext(self):
        self.next()

    def next(self):
        if self.above[0] and not self.above[-1]:
            self.buy(size=1 if self.apart[0] == self.apart[0] else 2)
        elif self.above[-2] and self.often[0] < 1 and not self.rising[0]:
            self.sell(size=3 if self.apart[-1] > 0.1 else 4)


class Dated(bt.Strategy):
    """Gives orders that are valid until a date, a moment, or for a while, and looks which it was that ended."""

    params = (("days", 3),)

    def __init__(self):
        self.bought = self.sold = 0

    def notify_order(self, order):
        if order.status == order.Expired:
            if isinstance(order, bt.BuyOrder):
                self.bought += 1
            elif isinstance(order, bt.SellOrder):
                self.sold += 2

    def next(self):
        way, price = len(self) % 5, self.data.close[0] * (0.98 + self.bought % 3 / 100)
        if way == 0:
            until = self.data.datetime.date(0) + timedelta(days=self.p.days)
            self.buy(size=1 + self.sold, exectype=bt.Order.Limit, price=price, valid=until)
        elif way == 1:
            until = self.data.datetime.datetime(0) - timedelta(hours=-20 * self.p.days)
            self.sell(size=1 + self.bought, exectype=bt.Order.Limit, price=price * 1.04, valid=until)
        elif way == 2:
            self.buy(size=2, exectype=bt.Order.Stop, price=price * 1.05, valid=timedelta(days=self.p.days))
        elif way == 3:
            self.sell(size=2, exectype=bt.Order.Stop, price=price * 0.97, valid=date(2024, 2, 20))


class Guards(bt.Strategy):
    """Waits for all orders of a bracket, whose refs it keeps in a list."""

    params = (("near", 0.02),)

    def __init__(self):
        self.refs = []

    def notify_order(self, order):
        if not order.alive() and order.ref in self.refs:
            self.refs.remove(order.ref)

    def next(self):
        if self.refs:
            return
        price = self.data.close[0]
        if len(self) % 3 == 0:
            one = self.sell(price=price * (1 + self.p.near), exectype=bt.Order.Limit)
            two = self.sell(price=price * (1 - self.p.near), exectype=bt.Order.Stop, oco=one)
            self.refs = [one.ref, two.ref]
        else:
            low, high = price * (1 - self.p.near), price * (1 + self.p.near)
            three = self.buy_bracket(exectype=bt.Order.Market, stopprice=low, limitprice=high)
            self.refs = [one.ref for one in three]


class Collects(bt.Strategy):
    """Keeps orders in a list, cancels those that are left of it, and begins again."""

    params = (("most", 3),)

    def __init__(self):
        self.orders, self.ended = [], 0

    def notify_order(self, order):
        if order in self.orders and order.status in (order.Completed, order.Margin):
            self.orders.remove(order)
            self.ended += 1

    def next(self):
        if len(self) % 7 == 0:
            for order in self.orders:
                if order.status == bt.Order.Accepted:
                    self.cancel(order)
            self.orders.clear()
        if len(self.orders) < self.p.most:
            price = self.data.close[0] * (0.97 + self.ended % 4 / 100)
            self.orders.append(self.buy(size=1 + len(self.orders), price=price, exectype=bt.Order.Limit))
        elif self.orders[0].status == bt.Order.Accepted and len(self) % 5 == 0:
            self.cancel(self.orders[0])
            self.sell(size=3)


class Alternatives(bt.Strategy):
    """Takes the value of `or` and of `and`, of what is no truth, and of calls that change something."""

    params = (("size", None), ("more", 3))

    def __init__(self):
        self.asked, self.order = 0, None

    def asks(self):
        self.asked += 1
        return self.asked % 4 > 1

    def log(self, text, when=None):
        when = when or self.data.datetime[0]
        if isinstance(when, float):
            when = bt.num2date(when)
        return f"{when} {text}"

    def notify_order(self, order):
        self.log("told", order.executed.dt)

    def next(self):
        size = self.position.size or self.p.size or self.asked % 3 or 2
        change = self.position.size and self.data.close[0] - self.position.price
        goes = self.asks() and self.data.close[0] > self.data.open[0]
        if goes:
            self.order = self.buy(size=abs(size)) or self.order
        if (change and change < 0) or self.asked % 11 == 10:
            self.close()


class Pending(bt.Strategy):
    """Waits while it keeps an order as it was notified, and knows it again; its class says what is so at first."""

    order = None
    again = 0

    def notify_order(self, order):
        if order.status in [order.Submitted, order.Accepted]:
            self.order = order
            return
        if self.order is not None and order == self.order and order.ref == self.order.ref:
            self.again += 1
        self.order = None

    def next(self):
        if self.order:
            return
        price = self.data.close[0] * (0.99 + self.again % 3 / 100)
        if self.again % 2:
            self.order = self.buy(
                price=price, exectype=bt.Order.Limit, valid=timedelta(days=3), size=1 + self.again % 5
            )
        else:
            self.sell()


class Readies(bt.Strategy):
    """Makes an indicator when the run starts, and compares lines as they are."""

    def start(self):
        self.highest, self.since = bt.ind.Highest(self.data.high, period=4), 0

    def next(self):
        if not self.position and self.data.high == self.highest:
            self.buy(exectype=bt.Order.Close)
            self.since = len(self)
        elif self.position and len(self) - self.since > sum(len(data) > 3 for data in self.datas):
            self.sell()


class Counts(bt.Strategy):
    """Counts bars and orders, for strategies that build on it."""

    def __init__(self):
        self.bars, self.told = 0, 0

    def notify_order(self, order):
        self.told += order.status

    def next(self):
        self.bars += 1 + self.told % 2

    def sized(self, most):
        return 1 + self.bars % most


class BuildsOn(Counts):
    """Calls what it overrides."""

    def notify_order(self, order):
        super().notify_order(order)
        if order.isbuy():
            self.told += 1

    def next(self):
        super(BuildsOn, self).next()  # noqa: UP008 - older strategies write it so
        if self.bars % 5 == 0:
            self.buy(size=self.sized(4))
        elif self.bars % 7 == 0:
            self.close()

    def sized(self, most):
        return super().sized(most=most) + 2


STRATEGIES = [
    ("builds on", BuildsOn, 1, [{}]),
    ("readies", Readies, 1, [{}]),
    ("monthly", Monthly, 1, [{}]),
    ("monthly on two", Monthly, 2, [{}]),
    ("reckons", Reckons, 1, [{"count": 4}, {"count": 8, "power": 0.5}, {"count": 5, "power": 2}]),
    ("ranks", Ranks, 3, [{}]),
    ("draws", Draws, 1, [{"seed": 1}, {"seed": 2}]),
    ("draws on two", Draws, 2, [{"seed": 3}]),
    ("limits", Limits, 1, [{}]),
    ("crosses", Crosses, 1, [{}, {"slow": 9}, {"up": False}]),
    ("alternatives", Alternatives, 1, [{}, {"size": 4}]),
    ("pending", Pending, 1, [{}]),
    ("guards", Guards, 1, [{}, {"near": 0.01}]),
    ("collects", Collects, 1, [{}, {"most": 5}, {"most": 9}]),
    ("dated", Dated, 1, [{"days": 1}, {"days": 4}]),
]
