"""Orders, trades and positions of a lean run are Backtrader's own in all that a strategy can ask of them."""

import math
from datetime import datetime, time, timedelta
from random import Random
from types import SimpleNamespace

import backtrader as bt
import pytest
from backtrader.utils.date import date2num, num2date
from parity_check import Cerebro
from parity_markets import DAY, DAY_END, Rows, market

from backtest.engine.lean.orders import _session_end

BARS = market(3, 60)


class Desk:
    """Somebody else than the strategy, who gives orders and hears of them."""

    def __init__(self):
        self.heard = []

    def _addnotification(self, order, quicknotify=False):
        self.heard.append((order.getstatusname(), order.size, order.executed.size, quicknotify))


class Delegates(bt.Strategy):
    """Give orders for others and for nobody, and submit orders made by hand."""

    def __init__(self):
        self.desk, self.heard = Desk(), []

    def next(self):
        if len(self) == 5:
            self.broker.buy(owner=self.desk, data=self.data, size=3)
        if len(self) == 7:
            self.broker.sell(None, self.data, 2)
        if len(self) == 9:
            self.broker.buy(self, self.data, 2)
        if len(self) == 11:
            self.submit(bt.order.BuyOrder(owner=self, data=self.data, size=4, price=9.0, simulated=True))
        if len(self) == 13:
            order = bt.order.SellOrder(owner=self, data=self.data, size=4)
            order.owner = self.desk
            self.submit(order)

    def submit(self, order):
        self.broker._ocoize(order, None)
        self.broker.submit(order)

    def notify_order(self, order):
        self.heard.append((len(self), order.getstatusname(), order.size, order.executed.size))

    def notify_trade(self, trade):
        self.heard.append((len(self), trade.size, trade.value))


def test_an_orders_owner_hears_of_it_and_the_strategy_of_those_without_one():
    stock, ours = (ran(make, Delegates) for make in (bt.Cerebro, Cerebro))

    assert ours.env.lean
    assert (ours.heard, ours.desk.heard) == (stock.heard, stock.desk.heard)
    assert [row for row in stock.desk.heard if row[0] == "Completed"] == [
        ("Completed", 3, 3, False),
        ("Completed", -4, -4, False),
    ]
    assert len(stock.heard) > 8


class Often(bt.Strategy):
    """Give an order at each bar, and note until when its session is."""

    def __init__(self):
        self.ends = []

    def next(self):
        orders = [self.buy(size=1, exectype=bt.Order.Close), self.sell(size=1, price=9.0, exectype=bt.Order.Stop)]
        self.ends.append([(order.created.dt, order.dteos, order.clone().dteos) for order in orders])


@pytest.mark.slow
@pytest.mark.parametrize("zone", [None, "US/Eastern", "Europe/Berlin"])
@pytest.mark.parametrize("end", [None, time(1, 30), time(16), time(23, 59, 59)], ids=str)
@pytest.mark.parametrize("step", [timedelta(minutes=45), timedelta(hours=24)], ids=["intraday", "daily"])
def test_the_end_of_the_session_that_an_order_is_given_in_is_backtraders_over_a_change_of_the_clocks(zone, end, step):
    feed = {"tz": zone} | ({} if end is None else {"sessionend": end})
    stamp = datetime(2023, 11, 4) if step < DAY else datetime(2023, 10, 1) + DAY_END  # noqa: DTZ001
    bars = [bar._replace(time=stamp + n * step) for n, bar in enumerate(market(5, 60))]
    stock, ours = (ran(make, Often, bars, feed) for make in (bt.Cerebro, Cerebro))

    assert ours.env.lean
    assert ours.ends == stock.ends
    assert len({ends[0][1] for ends in stock.ends}) > 1


class Feed:
    """What is asked of a feed for the end of its session: no zone, and the time at which it ends."""

    def __init__(self, end):
        self.p, self._tz, self.datetime, self.date2num = SimpleNamespace(sessionend=end), None, self, date2num


@pytest.mark.parametrize(
    "end", [time(0), time(9, 30, 0, 5), time(16), time(23, 59, 59, 999990), time(23, 59, 59, 999999)], ids=str
)
def test_the_end_of_a_session_is_backtraders_however_a_stamp_was_rounded(end):
    rng, feed, sessions = Random(7), Feed(end), {}
    parts = {"hour": end.hour, "minute": end.minute, "second": end.second, "microsecond": end.microsecond}
    for _ in range(1500):
        day = rng.randrange(700_000, 760_000)
        close = date2num(num2date(float(day)).replace(**parts))
        stamp = rng.choice(
            [
                *(close, math.nextafter(close, 0), math.nextafter(close, math.inf), close + rng.uniform(-2e-8, 2e-8)),
                *(float(day), day + rng.random(), day + rng.randrange(1440) / 1440, day + 1 - rng.random() * 1e-9),
            ]
        )
        given = num2date(stamp)
        closes = given.replace(**parts)

        assert _session_end(feed, stamp, sessions) == date2num(closes if closes >= given else closes + DAY)


def ran(make, strategy, bars=BARS, feed=None, **params):
    cerebro = make(stdstats=False)
    cerebro.adddata(Rows(dataname=bars, **(feed or {})))
    cerebro.addstrategy(strategy, **params)
    (strategy,) = cerebro.run()
    return strategy
