"""Orders, trades and positions of a lean run are Backtrader's own in all that a strategy can ask of them."""

import backtrader as bt
from parity_check import Cerebro
from parity_markets import market, rows

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


def ran(make, strategy, **params):
    cerebro = make(stdstats=False)
    cerebro.adddata(rows(BARS))
    cerebro.addstrategy(strategy, **params)
    (strategy,) = cerebro.run()
    return strategy
