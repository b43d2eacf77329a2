"""Indicators over all bars at once: operations of others, and lines that several read."""

import operator

import backtrader as bt
import pytest
from parity_check import Cerebro
from parity_markets import market, rows

BARS = market(3, 60)


class OwnLogic(bt.And):
    """Another logic, which is none of Backtrader's."""

    def __init__(self, *lines):
        super().__init__(*lines)
        self.flogic = sum


class NoLogicOfTheClass(bt.functions.MultiLogic):
    def __init__(self, *lines):
        super().__init__(*lines)
        self.flogic = max


def close_and_open(strategy):
    return strategy.data.close, strategy.data.open


LOGICS = {
    "Reduce": lambda strategy: bt.Reduce(operator.mul, *close_and_open(strategy)),
    "Reduce by And's logic": lambda strategy: bt.Reduce(bt.And.flogic, *close_and_open(strategy)),
    "Reduce below an average": lambda strategy: bt.ind.SMA(bt.Reduce(max, *close_and_open(strategy)), period=3),
    "Reduce with a number": lambda strategy: bt.Reduce(max, strategy.data.close, 100.0),
    "Reduce of operations": lambda strategy: bt.Reduce(min, strategy.data.close + 1, strategy.data.open),
    "And": lambda strategy: bt.And(*close_and_open(strategy)),
    "a logic of the instance": lambda strategy: OwnLogic(*close_and_open(strategy)),
    "a class without a logic": lambda strategy: NoLogicOfTheClass(*close_and_open(strategy)),
}


class Makes(bt.Strategy):
    params = (("logic", None),)

    def __init__(self):
        self.made = self.p.logic(self)


@pytest.mark.parametrize("logic", LOGICS)
def test_an_operation_with_a_function_of_its_own_has_backtraders_values(logic):
    stock, ours = (ran(make, Makes, logic=LOGICS[logic]) for make in (bt.Cerebro, Cerebro))

    assert ours.env.lean
    assert values(ours.made) == values(stock.made)


class OwnAverage(bt.indicators.MovingAverageBase):
    """An average of a user's, who holds on to each that is made."""

    lines = ("own",)
    made = []  # noqa: RUF012 - as users write

    def __init__(self):
        self.lines.own = bt.ind.SMA(self.data, period=self.p.period)
        self.made.append(self)


class Shares(bt.Strategy):
    """Read indicators that are equal inside, and what another class made inside of one of Backtrader's."""

    def __init__(self):
        OwnAverage.made.clear()
        self.seen = []
        self.all = [bt.ind.BollingerBands(period=5, devfactor=factor) for factor in (1.0, 2.0)]
        self.all += [bt.ind.StdDev(period=5), bt.ind.MACD(), bt.ind.MACDHisto(), bt.ind.MACD(movav=OwnAverage)]
        self.all += [bt.ind.CrossOver(self.data.close, bt.ind.SMA(period=period)) for period in (5, 5, 7)]

    def next(self):
        lines = [line for one in self.all + OwnAverage.made for line in one.lines]
        self.seen.append(repr([[line[0], line[-1]] for line in lines]))


@pytest.mark.parametrize("objcache", [False, True])
def test_a_run_that_forgets_keeps_what_several_read_and_what_others_made(objcache):
    stock, ours = (ran(make, Shares, forgets=True, objcache=objcache) for make in (bt.Cerebro, Cerebro))

    assert ours.env.lean
    assert ours.seen == stock.seen != []


def ran(make, strategy, forgets=False, objcache=False, **params):
    cerebro = make(stdstats=False, objcache=objcache)
    cerebro.forgets = forgets
    cerebro.adddata(rows(BARS))
    cerebro.addstrategy(strategy, **params)
    (strategy,) = cerebro.run()
    return strategy


def values(indicator):
    return repr([list(line.array) for line in indicator.lines])
