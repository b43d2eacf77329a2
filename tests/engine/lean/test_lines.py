"""Lines that move together: feeds with lines of their own."""

import math
from datetime import datetime, timedelta

import backtrader as bt
import pytest
from parity_check import Cerebro

from backtest.engine.recorder import Recorder


class Counting(bt.feed.DataBase):
    """Thirty days of numbers that tell line and bar."""

    def start(self):
        super().start()
        self.bars = 0

    def _load(self):
        for row, name in enumerate(self.lines.getlinealiases()):
            stamp = bt.date2num(datetime(2024, 1, 1) + timedelta(days=self.bars))  # noqa: DTZ001
            self.lines[row][0] = stamp if name == "datetime" else 100.0 + row + self.bars / 100
        self.bars += 1
        return self.bars <= 30


class Extra(Counting):
    lines = ("signal", "score")


class Quotes(Counting):
    linesoverride = True
    lines = ("bid", "ask", "datetime")


class StampFirst(Counting):
    linesoverride = True
    lines = ("datetime", "close", "signal")


class StampOnly(Counting):
    linesoverride = True
    lines = ("datetime",)


class SignalFirst(Counting):
    linesoverride = True
    lines = ("signal", "datetime", "volume", "close", "open", "low", "high", "openinterest")


FEEDS = [Counting, Extra, Quotes, StampFirst, StampOnly, SignalFirst]


class Ticks(bt.Strategy):
    """Note each line and tick, and the account; buy where that is possible."""

    params = (("buys", False), ("looks", False))

    def __init__(self):
        self.seen, self.mean = [], bt.ind.SMA(self.data.lines[0], period=3)

    def next(self):
        names = [*self.data.lines.getlinealiases(), "last"]
        self.seen.append([(name, getattr(self.data, f"tick_{name}", "absent")) for name in names])
        self.seen.append([*(line[0] for line in self.data.lines), self.mean[0]])
        self.seen.append((self.broker.getvalue(), self.broker.getcash()))
        if self.p.looks and len(self) > 8:
            self.seen.append(self.position.size)
        if self.p.buys and len(self) in (5, 9):
            self.buy(exectype=bt.Order.Market if len(self) == 5 else bt.Order.Close)


@pytest.mark.parametrize("params", [{}, {"looks": True}, {"buys": True}], ids=str)
@pytest.mark.parametrize("feed", FEEDS)
def test_a_feed_with_lines_of_its_own_runs_as_in_backtrader(feed, params):
    stock, ours = (outcome(make, feed, **params) for make in (bt.Cerebro, Cerebro))

    assert ours == stock
    assert "signal" not in feed.lines._getlines() or "('signal', 10" in stock or "AttributeError" in stock


@pytest.mark.parametrize("make", [bt.Cerebro, Cerebro])
def test_a_feed_without_closes_is_recorded_without_closes(make):
    cerebro = make(stdstats=False)
    cerebro.adddata(Quotes())
    cerebro.addstrategy(Ticks)
    cerebro.addanalyzer(Recorder, _name="recorder")

    recorder = cerebro.run()[0].analyzers.recorder

    assert list(map(float, recorder.equity)) == [10_000.0] * 30
    assert [math.isnan(close) for close in recorder.closes[0]] == [True] * 30


def outcome(make, feed, **params):
    cerebro = make(stdstats=False)
    cerebro.adddata(feed())
    cerebro.addstrategy(Ticks, **params)
    try:
        (strategy,) = cerebro.run()
    except AttributeError as error:  # Backtrader's, where a price is asked for that there is not
        return repr(error)
    left = {name: value for name, value in vars(strategy.data).items() if name.startswith("tick_")}
    return repr((strategy.seen, sorted(left.items())))
