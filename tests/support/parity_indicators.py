"""Indicators of every build: Backtrader's, one on another, over two feeds, and those that users write."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import backtrader as bt


class ByBar(bt.Indicator):
    """Written with `next` alone, which makes vector mode go bar by bar."""

    lines = ("middle", "width")
    params = (("period", 4),)

    def __init__(self):
        self.addminperiod(self.p.period)

    def next(self):
        window = self.data.get(size=self.p.period)
        self.lines.middle[0] = (max(window) + min(window)) / 2
        self.lines.width[0] = max(window) - min(window)


class ByVector(bt.Indicator):
    """Written with `next` and `once`."""

    lines = ("step",)

    def next(self):
        self.lines.step[0] = self.data.high[0] - self.data.low[0]

    def once(self, start, end):
        high, low, step = self.data.high.array, self.data.low.array, self.lines.step.array
        for n in range(start, end):
            step[n] = high[n] - low[n]


class ByStart(bt.Indicator):
    """Written with a start of its own and a value that refers to the one before."""

    lines = ("level",)

    def __init__(self):
        self.addminperiod(3)

    def nextstart(self):
        self.lines.level[0] = sum(self.data.get(size=3)) / 3

    def next(self):
        self.lines.level[0] = self.lines.level[-1] * 0.7 + self.data[0] * 0.3


class Nested(bt.Indicator):
    """Made of others, with an operation, a condition and a plain function between lines."""

    lines = ("signal", "above")

    def __init__(self):
        self.fast = bt.ind.EMA(self.data, period=3)
        self.slow = bt.ind.SMA(self.data, period=6)
        self.lines.signal = self.fast - self.slow
        self.lines.above = bt.If(self.fast > self.slow, bt.Max(self.fast, self.slow), -self.slow)


class Early(bt.Indicator):
    """Keeps what it saw while it was not ready."""

    lines = ("seen",)

    def __init__(self):
        self.addminperiod(5)

    def prenext(self):
        self.lines.seen[0] = -1.0 * len(self)

    def next(self):
        self.lines.seen[0] = self.data[0] - self.data[-4]


Make = Callable[[Any, Any, random.Random], Any]  # (strategy, data, chance) -> indicator


def other(strategy: Any, data: Any) -> Any:
    """Return the next of the strategy's feeds, or this one if there is no other."""
    datas = list(strategy.datas)
    return datas[([one is data for one in datas].index(True) + 1) % len(datas)]


INDICATORS: list[Make] = [
    lambda strategy, data, chance: bt.ind.SMA(data, period=chance.choice([1, 3, 10])),
    lambda strategy, data, chance: bt.ind.SMA(data.close, period=chance.choice([2, 5])),
    lambda strategy, data, chance: bt.ind.EMA(data, period=chance.choice([2, 8])),
    lambda strategy, data, chance: bt.ind.RSI(data, period=chance.choice([3, 9]), safediv=chance.random() < 0.8),
    lambda strategy, data, chance: bt.ind.ATR(data, period=chance.choice([2, 7])),
    lambda strategy, data, chance: bt.ind.MACDHisto(data, period_me1=3, period_me2=7, period_signal=2),
    lambda strategy, data, chance: bt.ind.BollingerBands(data, period=chance.choice([3, 9])),
    lambda strategy, data, chance: bt.ind.CrossOver(bt.ind.SMA(data, period=2), bt.ind.SMA(data, period=5)),
    lambda strategy, data, chance: bt.ind.Stochastic(data, period=5, period_dfast=2, safediv=chance.random() < 0.8),
    lambda strategy, data, chance: bt.ind.SMA(bt.ind.RSI(data, period=4, safediv=True), period=3),
    lambda strategy, data, chance: bt.ind.CrossOver(data.close, other(strategy, data).close),
    lambda strategy, data, chance: data.close - other(strategy, data).close,
    lambda strategy, data, chance: (data.high + data.low) / 2.0,
    lambda strategy, data, chance: data.close(-2),
    lambda strategy, data, chance: bt.And(data.close > data.open, data.close(-1) > 1.0),
    lambda strategy, data, chance: bt.ind.Highest(data.high, period=chance.choice([2, 6])),
    lambda strategy, data, chance: bt.ind.PercentRank(data, period=4),
    lambda strategy, data, chance: bt.ind.WMA(data, period=4),
    lambda strategy, data, chance: bt.ind.KAMA(data, period=3, fast=2, slow=5),
    lambda strategy, data, chance: bt.ind.HMA(data, period=4),
    lambda strategy, data, chance: bt.ind.ADX(data, period=3),
    lambda strategy, data, chance: bt.ind.ParabolicSAR(data),
    lambda strategy, data, chance: bt.ind.HeikinAshi(data),
    lambda strategy, data, chance: bt.ind.haDelta(data),
    lambda strategy, data, chance: bt.ind.Ichimoku(data, tenkan=2, kijun=3, senkou=4, senkou_lead=3, chikou=2),
    lambda strategy, data, chance: bt.ind.Momentum(data, period=3),
    lambda strategy, data, chance: bt.ind.ROC(data, period=3),
    lambda strategy, data, chance: bt.ind.AroonUpDown(data, period=4),
    lambda strategy, data, chance: ByBar(data, period=chance.choice([1, 4])),
    lambda strategy, data, chance: ByVector(data),
    lambda strategy, data, chance: ByStart(data),
    lambda strategy, data, chance: ByStart(ByVector(data)),
    lambda strategy, data, chance: Nested(data),
    lambda strategy, data, chance: Nested(ByBar(data).width),
    lambda strategy, data, chance: Early(data),
    # What strategies in public repositories make, and the ones above are not.
    lambda strategy, data, chance: bt.ind.MACD(
        data, period_me1=3, period_me2=6, period_signal=2, movav=bt.ind.MovAv.SMA
    ),
    lambda strategy, data, chance: chance.choice([bt.ind.CrossUp, bt.ind.CrossDown])(
        data.close, bt.ind.SMA(data, period=3)
    ),
    lambda strategy, data, chance: bt.DivByZero(data.close - data.open, data.high - data.low, zero=0.0),
    lambda strategy, data, chance: bt.Max(0.0, data.close - data.open),
    lambda strategy, data, chance: bt.Sum(data.close, data.open, -data.low),
    lambda strategy, data, chance: chance.choice([bt.Any, bt.All, bt.Or])(data.close > data.open, data.close > 2.0),
    lambda strategy, data, chance: bt.If(data.close > data.open, 1.0, -1.0),
    lambda strategy, data, chance: bt.Cmp(data.close, data.close(-1)),
    lambda strategy, data, chance: abs(1.0 - data.close / data.close(-1)),
    lambda strategy, data, chance: [bt.ind.DEMA(data, period=3), bt.ind.TEMA(data, period=2)],
    lambda strategy, data, chance: (
        bt.ind.WilliamsR(data, period=3) if chance.random() < 0.5 else bt.ind.PctChange(data)
    ),
    lambda strategy, data, chance: bt.ind.Lowest(data.low(-1), period=3),
    lambda strategy, data, chance: bt.ind.StdDev(data, period=4),
    lambda strategy, data, chance: bt.ind.CCI(data, period=3),
    lambda strategy, data, chance: bt.ind.PivotPoint(data),
    lambda strategy, data, chance: bt.ind.UltimateOscillator(data, p1=2, p2=3, p3=5),
    lambda strategy, data, chance: bt.ind.Trix(data, period=2),
    lambda strategy, data, chance: by_data(strategy),
]


def by_data(strategy: Any) -> list[Any]:
    """Keep indicators of all feeds in a dict of dicts, as strategies over many feeds do."""
    strategy.by_data = {
        data: {"mean": bt.ind.SMA(data.close, period=3), "rate": bt.ind.ROC(data, period=2)} for data in strategy.datas
    }
    return [made for mades in strategy.by_data.values() for made in mades.values()]
