"""A strategy that orders by a small generator of its own, and markets for it; each number is a case."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import time, timedelta
from typing import Any

import backtrader as bt
from compiled_check import COSTS, DATED, MARKETS, differences, named, set_up_of
from parity_markets import DAY, market, quick_rows

MINUTE = timedelta(minutes=1)
CLOCKS = ("same", "gaps", "late", "mixed")
BARS = 60
MANY = 714_025  # the generator's period


class Chance(bt.Strategy):
    """
    Orders of six kinds, cancels and targets by chance.

    Each notification moves the generator: a single one that is missing, late or other changes all that follows.
    """

    params = (("seed", 1), ("busy", 40))

    def __init__(self):
        self.state = self.p.seed
        self.last = dict.fromkeys(self.datas)
        self.average = {data: bt.ind.SMA(data.close, period=3) for data in self.datas}

    def draw(self, count):
        self.state = (self.state * 1366 + 150889) % MANY
        return self.state * count // MANY

    def notify_order(self, order):
        moved = order.status * 31 + int(abs(order.executed.size) * 7) + int(order.executed.price)
        if order.isbuy():
            moved += 5
        self.state = (self.state + moved) % MANY

    def notify_trade(self, trade):
        moved = trade.barlen * 3 + int(abs(trade.pnlcomm)) + int(abs(trade.price))
        if trade.isclosed:
            moved += 11
        elif trade.justopened and trade.long:
            moved += 13
        self.state = (self.state + moved) % MANY

    def prenext(self):
        self.next()

    def next(self):
        for data in self.datas:
            if len(data) < 4:
                continue
            self.state = (self.state + int(self.getposition(data).price)) % MANY
            drawn = self.draw(100)
            if drawn < self.p.busy:
                self.act(data)
            if drawn < self.p.busy // 3:
                self.act(data)

    def act(self, data):
        what = self.draw(12)
        price = data.close[0] * (0.96 + self.draw(9) / 100)
        until = data.datetime[0] + self.draw(5) if self.draw(3) == 0 else 0.0
        size = self.draw(30) - 2
        if what < 4:
            self.order(data, size, self.draw(2), price, until)
        elif what == 4:
            self.close(data=data)
        elif what == 5:
            self.order_target_size(data=data, target=self.draw(41) - 20)
        elif what == 6:
            self.order_target_percent(data=data, target=self.draw(9) / 10 - 0.3)
        elif what == 7:
            self.order_target_value(data=data, target=self.draw(9000) - 3000.0)
        elif what == 8:
            if self.last[data]:
                self.cancel(self.last[data])
        elif what == 9 and data.close[0] > self.average[data][0]:
            self.last[data] = self.buy(data=data, size=size, exectype=bt.Order.StopTrail, trailamount=price / 30)
        elif what == 10:
            self.last[data] = self.sell(data=data, size=size, exectype=bt.Order.StopTrail, trailpercent=0.03)
        else:
            self.buy(data=data)

    def order(self, data, size, side, price, until):
        kind = self.draw(5)
        if kind == 0:
            self.last[data] = self.buy(data=data, size=size) if side else self.sell(data=data, size=size)
        elif kind == 1:
            self.last[data] = (
                self.buy(data=data, size=size, exectype=bt.Order.Close, valid=until)
                if side
                else self.sell(data=data, size=size, exectype=bt.Order.Close, valid=until)
            )
        elif kind == 2:
            self.last[data] = (
                self.buy(data=data, size=size, price=price, exectype=bt.Order.Limit, valid=until)
                if side
                else self.sell(data=data, size=size, price=price, exectype=bt.Order.Limit, valid=until)
            )
        elif kind == 3:
            self.last[data] = (
                self.buy(data=data, size=size, price=price, exectype=bt.Order.Stop, valid=until)
                if side
                else self.sell(data=data, size=size, price=price, exectype=bt.Order.Stop, valid=until)
            )
        else:
            limit = price * (0.98 + self.draw(5) / 100)
            if side:
                self.last[data] = self.buy(
                    data=data, size=size, price=price, plimit=limit, exectype=bt.Order.StopLimit, valid=until
                )
            else:
                self.last[data] = self.sell(
                    data=data, size=size, price=price, plimit=limit, exectype=bt.Order.StopLimit, valid=until
                )


class Linked(Chance):
    """Brackets, orders that wait for their parent, and orders of which one cancels the others, by chance."""

    def act(self, data):
        what = self.draw(10)
        price, size = data.close[0] * (0.97 + self.draw(7) / 100), self.draw(12) + 1
        until = data.datetime[0] + self.draw(6) if self.draw(3) == 0 else 0.0
        near = 0.01 + self.draw(4) / 100
        if what < 2:
            main, stop, limit = self.buy_bracket(
                data=data, size=size, price=price, valid=until, stopprice=price * (1 - near),
                limitprice=price * (1 + near),
            )  # fmt: skip
            self.last[data] = main if self.draw(2) else stop if self.draw(2) else limit
        elif what == 2:
            _, _, limit = self.sell_bracket(
                data=data, size=size, exectype=bt.Order.Market, stopprice=price * (1 + near),
                limitprice=price * (1 - near),
            )  # fmt: skip
            self.last[data] = limit
        elif what == 3:
            self.buy_bracket(data=data, size=size, price=price, stopprice=price * (1 - near), limitexec=None)
        elif what == 4:
            one = self.buy(data=data, size=size, price=price * 0.99, exectype=bt.Order.Limit, valid=until)
            two = self.sell(data=data, size=size, price=price * 0.98, exectype=bt.Order.Stop, oco=one)
            self.last[data] = self.sell(data=data, size=size, price=price * 1.02, exectype=bt.Order.Limit, oco=two)
        elif what == 5:
            self.sell(data=data, size=size, price=price, exectype=bt.Order.Limit, oco=self.last[data])
        elif what == 6:
            main = self.sell(data=data, size=size, price=price, exectype=bt.Order.Stop, transmit=False)
            self.buy(data=data, size=size, price=price * 0.97, exectype=bt.Order.Limit, parent=main, transmit=False)
            self.buy(data=data, size=size, trailpercent=near, exectype=bt.Order.StopTrail, parent=main)
            self.last[data] = main
        elif what == 7:
            if self.last[data]:
                self.cancel(self.last[data])
        elif what == 8:
            self.close(data=data)
        else:
            self.buy(data=data, size=size * 40)


class Rings(Chance):
    """Has timers, and looks when they ring at what has moved already and at what has not."""

    def __init__(self):
        super().__init__()
        self.rung, day = 0, 1 + self.p.seed % 3
        self.add_timer(time(10), weekdays=[day, day + 2], weekcarry=True, name="week")
        self.add_timer(bt.Timer.SESSION_START, monthdays=[3, 17], name="month", more=2)
        self.add_timer(time(9, 30), repeat=timedelta(minutes=7), name="often")

    def notify_timer(self, timer, when, *args, **kwargs):
        self.rung += 1
        if kwargs["name"] == "week":
            self.state = (self.state + len(self) * 17) % MANY
            if len(self) > 2:
                today = self.data.datetime.date(0).day
                self.state = (self.state + self.datetime.date(0).day * 3 + today + int(self.datetime[0])) % MANY
            self.trade(self.datas[0])
        elif kwargs["name"] == "month":
            for data in self.datas:
                if len(data) > 4:
                    self.act(data)
            self.state = (self.state + kwargs["more"] * len(self.datas[0])) % MANY
        elif self.rung % 5 == 0:
            self.trade(self.datas[-1])

    def trade(self, data):
        if len(data) > 4 and len(self) > 4:
            if data.close[0] > self.average[data][0]:
                self.buy(data=data, size=3)
            else:
                self.sell(data=data, size=2 + self.rung % 3)
            if self.average[data][-1] < self.average[data][0]:
                self.act(data)


CLASSES = (Chance, Linked, Rings)


def feeds_of(seed: int, clock: str, count: int, bars: int = BARS) -> Callable[[], list[Any]]:
    """Return what makes the feeds of a number."""
    chance = random.Random(seed)
    tables = []
    for number in range(count):
        step = MINUTE if clock == "mixed" and number % 2 else DAY
        wild = {"tick": chance.choice([0.0, 0.01, 0.25]), "flat": 0.05, "gap": 0.3 if clock == "gaps" else 0.0}
        rows = market(chance.randrange(10**9), bars, step, **wild)
        tables.append(rows[chance.randint(0, bars // 3) :] if clock == "late" and number else rows)
    return lambda: named([quick_rows(one) for one in tables])


def case(seed: int, trials: int, bars: int = BARS, *, wide: bool = False) -> tuple[Any, Any, Any]:
    """Return the parameters, the maker of feeds and the set-up of a case; a wide one has dated costs and slippage."""
    chance = random.Random(seed)
    clock, count = CLOCKS[seed % 4], seed // 4 % 4 + 1
    params = [{"seed": chance.randrange(MANY), "busy": chance.choice([10, 40, 80])} for _ in range(trials)]
    costs, cash = chance.choice(list(COSTS)), chance.choice([2_000.0, 10_000.0, 100_000.0])
    market = ""
    if wide:
        costs, market = chance.choice([*COSTS, *DATED]), chance.choice(list(MARKETS))
    return params, feeds_of(seed, clock, count, bars), set_up_of(costs, cash, market)


def compared(
    seed: int, trials: int, bars: int = BARS, cls: type[Any] = Chance, *, wide: bool = False
) -> tuple[Any, dict[int, str]]:
    """Return the outcomes of a case, and what differs from the event engine."""
    return differences(cls, *case(seed, trials, bars, wide=wide))
