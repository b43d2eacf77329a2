"""Prices in another currency: the lean loop does what Backtrader's does with the same commission models."""

import backtrader as bt
import numpy as np
import pytest
from parity_check import difference

from backtest.engine.account.converted import Converted, PresentRow, convert_orders
from backtest.engine.account.currencies import Conversion
from backtest.engine.feed import close_stamps, replay
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.runs.currencies import PriceUnit

NAMES = ("AAPL/1day", "MSFT/1day")


def bars(seed, days):
    from datetime import UTC, datetime, timedelta

    chance, price, rows = np.random.default_rng(seed), 100.0, []
    for day in days:
        opened = float(np.round(price * (1 + chance.normal(0, 0.02)), 2))
        price = float(np.round(opened * (1 + chance.normal(0, 0.02)), 2))
        high, low = max(opened, price) + 1, min(opened, price) - 1
        rows.append((datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=day), opened, high, low, price, 1e6, None, None))
    return table_of(rows)


class Trades(bt.Strategy):
    """Gives orders of all kinds, too large ones too, and notes what it hears and sees."""

    params = (("seed", 1),)

    def __init__(self):
        self.chance, self.log = np.random.default_rng(self.p.seed), self.cerebro.log

    def note(self, *what):
        self.log.append(what)

    def notify_order(self, order):
        done = order.executed
        self.note("order", order.ref, order.status, done.size, done.price, done.value, done.comm, done.pnl)

    def notify_trade(self, trade):
        self.note("trade", trade.ref, trade.pnl, trade.pnlcomm, trade.value, trade.commission)

    def prenext(self):
        self.next()

    def next(self):
        broker = self.broker
        self.note(broker.getcash(), broker.getvalue(), broker.get_value(lever=True), broker.get_leverage())
        for data in self.datas:
            if not len(data):
                continue
            self.note(data._name, self.getposition(data).size, broker.getvalue([data]))
            draw = self.chance.random()
            if draw < 0.2:
                self.order_target_percent(data=data, target=float(self.chance.normal(0, 0.5)))
            elif draw < 0.3:
                self.buy(data=data, size=10, exectype=bt.Order.Limit, price=data.close[0] * 0.99)
            elif draw < 0.4:
                self.sell(data=data, size=20, exectype=bt.Order.Stop, price=data.close[0] * 0.98)
            elif draw < 0.5:
                self.buy(data=data, size=5, exectype=bt.Order.Close)
            elif draw < 0.55:
                self.buy(data=data, size=100_000)


def case(seed, futures=False, coc=False):
    def build(kind):
        chance = np.random.default_rng(seed)
        cerebro = kind(stdstats=False)
        cerebro.log = []
        tables = [bars(seed * 10 + n, np.flatnonzero(chance.random(60) > 0.2).tolist()) for n in range(len(NAMES))]
        feeds = [replay(table, name) for name, table in zip(NAMES, tables, strict=True)]
        stamps = [close_stamps(table, Series.parse(name).size) for name, table in zip(NAMES, tables, strict=True)]
        row = PresentRow(np.unique(np.concatenate(stamps)), feeds)
        for feed, own in zip(feeds, stamps, strict=True):
            cerebro.adddata(feed)
            inner = (
                bt.CommInfoBase(commission=2.0, mult=5.0, margin=300.0, stocklike=False)
                if futures
                else bt.CommInfoBase(commission=0.001, percabs=True, stocklike=True, leverage=2.0)
            )
            rates = [1.5 + chance.random(len(one)) / 10 for one in (own, own, row.stamps)]
            model = Converted(inner, Conversion(PriceUnit("GBX", "GBP", 0.01), own, *rates), row)
            cerebro.broker.addcommissioninfo(model, name=feed._name)
        cerebro.broker.setcash(10_000.0)
        cerebro.broker.set_coc(coc)
        if kind is bt.Cerebro:
            convert_orders(cerebro.broker)  # a lean broker does so itself
        cerebro.addstrategy(Trades, seed=seed)
        return cerebro

    return build


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 7))])
@pytest.mark.parametrize("options", [{}, {"futures": True}, {"coc": True}], ids=["shares", "futures", "at the close"])
def test_money_of_another_currency_is_the_same_in_both_loops(seed, options):
    assert difference(case(seed, **options)) == ""


def test_another_rate_is_another_run():
    def other(kind):
        cerebro = case(1)(kind)
        if kind is not bt.Cerebro:
            for model in cerebro.broker.comminfo.values():
                if isinstance(model, Converted):
                    model._rows = (model._by_row * 1.001).tolist()
        return cerebro

    assert difference(other)
