"""Indicators with `next` alone: walked without Backtrader's detours, some in one loop, the same to the last bit."""

import sys

import backtrader as bt
import pytest
from parity_indicators import ByBar, ByStart, Early
from parity_markets import market, quick_rows
from parity_strategies import QUIET
from parity_trading import BARS, OTHER, assert_lean_and_same, trading

from backtest.engine.lean.cerebro import Cerebro

MARKETS = {
    "plain": market(1, 60),
    "equal prices": market(2, 60, tick=1.0, flat=0.3),
    "jumps": market(3, 60, jump=0.2, start=431.7),
    "holes": market(4, 60, hole=0.1),
    "small": market(5, 60, start=1e-9),
    "large": market(6, 60, start=1e13),
}
MADE = {
    "error correcting": lambda data: bt.ind.ErrorCorrecting(data, period=5),
    "of few gains": lambda data: bt.ind.ZeroLagIndicator(data, period=3, gainlimit=2),
    "of no gain": lambda data: bt.ind.ZeroLagIndicator(data, period=3, gainlimit=-1),
    "of one": lambda data: bt.ind.ZeroLagIndicator(data, period=1, gainlimit=400),
    "of a line": lambda data: bt.ind.ErrorCorrecting(data.high - data.low, period=4),
    "of an indicator": lambda data: bt.ind.ErrorCorrecting(bt.ind.SMA(data, period=3), period=4),
    "of its line": lambda data: bt.ind.ErrorCorrecting(bt.ind.SMA(data, period=3).sma, period=4),
    "dickson": lambda data: bt.ind.DicksonMA(data, period=5),
    "envelope": lambda data: bt.ind.ErrorCorrectingEnvelope(data, period=5),
    "laguerre rsi": lambda data: bt.ind.LaguerreRSI(data),
    "laguerre rsi of volume": lambda data: bt.ind.LaguerreRSI(data.volume, gamma=0.2),
    "laguerre filter": lambda data: bt.ind.LaguerreFilter(data.low, gamma=0.8, period=4),
    "laguerre by whole": lambda data: bt.ind.LaguerreFilter(data, gamma=1),
    "parabolic": lambda data: bt.ind.ParabolicSAR(data),
    "parabolic late": lambda data: bt.ind.ParabolicSAR(data, period=7, af=0.05, afmax=0.1),
    "dv2": lambda data: bt.ind.DV2(data, period=9),
    "rank": lambda data: bt.ind.PercentRank(data, period=5),
    "rank of a line": lambda data: bt.ind.PercentRank(data.close - data.open, period=1),
    "rank by another": lambda data: bt.ind.PercentRank(data, period=5, func=lambda values: values[0] - values[-1]),
}


class Together(bt.Indicator):
    """Holds others, of which a bar is made by hand: their lines, some before, and how far they are."""

    lines = ("mixed", "length")

    def __init__(self):
        self.average, self.spread = bt.ind.EMA(self.data, period=3), self.data.high - self.data.low
        self.delayed = self.data.close(-2)

    def next(self):
        self.lines.mixed[0] = self.average[0] + self.spread[0] - self.delayed[0] + self.data.get(size=2)[0]
        self.lines.length[0] = len(self) + len(self.average) / 8 + len(self.data) / 64 + self.data.datetime[0]


class Two(bt.Indicator):
    """Reads two feeds."""

    _mindatas = 2
    lines = ("spread",)

    def next(self):
        self.lines.spread[0] = self.data0.close[0] - self.data1[0] + (self.data.tick_open or 0.0)


class Later(bt.ind.ParabolicSAR):
    """Starts in another way."""

    def nextstart(self):
        self.started = len(self)
        super().nextstart()


MADE |= {"together": Together, "by bar": ByBar, "by start": ByStart, "early": Early, "another start": Later}


@pytest.mark.parametrize("bars", MARKETS.values(), ids=MARKETS)
def test_indicators_that_are_walked_leave_what_backtrader_leaves(bars):
    def make(strategy):
        return [make(strategy.data) for make in MADE.values()]

    assert_lean_and_same(trading({}, bars, eyes=QUIET, indicators=make))


@pytest.mark.parametrize("feeds", [(0, 1), (0, 0)], ids=["two feeds", "one twice"])
@pytest.mark.parametrize("other", [market(7, 30, gap=0), OTHER], ids=["one calendar", "a shorter one"])
def test_an_indicator_over_two_feeds_is_walked_in_step(feeds, other):
    def make(strategy):
        return [Two(*(strategy.datas[n] for n in feeds)), bt.ind.ParabolicSAR(strategy.data)]

    assert_lean_and_same(trading({}, market(6, 30, gap=0), other, eyes=QUIET, indicators=make), ended=None)


def test_an_error_in_a_walked_indicator_comes_out_as_it_is():
    class Fails(bt.Indicator):
        lines = ("out",)

        def next(self):
            self.lines.out[0] = 1 / (len(self) - 20)

    def make(strategy):
        return [Fails(strategy.data)]

    build = trading({}, BARS, eyes=QUIET, indicators=make)

    assert_lean_and_same(build, ended="raised")


def ran(make, cls=Cerebro, bars=BARS):
    cerebro = cls(stdstats=False)
    cerebro.adddata(quick_rows(bars))

    class Makes(bt.Strategy):
        def __init__(self):
            self.made = make(self.data)

    cerebro.addstrategy(Makes)
    return cerebro.run()[0]


STATES = {
    "parabolic": ("_status",),
    "parabolic late": ("_status",),
    "laguerre rsi": ("l0", "l1", "l2", "l3"),
    "laguerre filter": ("l0", "l1", "l2", "l3"),
}


@pytest.mark.parametrize("count", [20, 21])
@pytest.mark.parametrize("name", STATES)
def test_what_an_indicator_goes_on_from_is_left_in_it(name, count):
    left = []
    for cls in (bt.Cerebro, Cerebro):
        made = ran(MADE[name], cls, BARS[:count]).made
        states = [getattr(made, state) for state in STATES[name]]
        left.append([[sorted(vars(one).items()) for one in state] if isinstance(state, list) else state
                     for state in states])  # fmt: skip

    assert repr(left[0]) == repr(left[1])


def calls_of(function, make):
    """Return how often a function of Backtrader's is called while a strategy runs."""
    seen = []

    def profile(frame, event, _):
        if event == "call" and frame.f_code is function.__code__:
            seen.append(frame)

    sys.setprofile(profile)
    try:
        ran(make)
    finally:
        sys.setprofile(None)
    return len(seen)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (bt.ind.ZeroLagIndicator.next, "error correcting"),
        (bt.ind.ZeroLagIndicator.next, "of a line"),
        (bt.ind.ZeroLagIndicator.next, "dickson"),
        (bt.ind.LaguerreRSI.next, "laguerre rsi"),
        (bt.ind.LaguerreFilter.next, "laguerre filter"),
        (bt.ind.ParabolicSAR.next, "parabolic"),
        (bt.ind.PercentRank.params._getpairs()["func"], "dv2"),
        (bt.Indicator.once_via_next, "together"),
        (bt.feed.AbstractDataBase.advance, "by bar"),
    ],
)
def test_the_lean_way_is_taken(function, name):
    assert calls_of(function, MADE[name]) <= 1  # for the first value


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (bt.ind.ZeroLagIndicator.next, "of an indicator"),
        (bt.ind.LaguerreFilter.next, "laguerre by whole"),
        (bt.ind.ParabolicSAR.next, "another start"),
    ],
)
def test_what_is_unlike_it_goes_bar_by_bar(function, name):
    assert calls_of(function, MADE[name]) > 15
