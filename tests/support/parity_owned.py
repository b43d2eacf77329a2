"""What a strategy owns that moves: lines of its own, what is made of them, and what has no clock but the strategy."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import backtrader as bt
from parity_indicators import ByBar, ByStart, Make, Nested
from parity_markets import rows
from parity_strategies import LOUD, Act, Watcher, everything, watcher
from parity_trading import BARS, ready

LINES = ("own", "other")  # of a strategy that the constructs are for


class Steps(bt.Indicator):
    """Moves in a way of its own: by nothing but the length of the strategy's first feed."""

    lines = ("step",)

    def __init__(self):
        self.lines.step = self.data - self.data(-1)

    def advance(self, size=1):
        """Move when the feed is two bars ahead."""
        if len(self._owner.datas[0]) > len(self) + 1:
            self.lines.advance(size=size)


class Long(bt.Indicator):
    """Says that it is a bar longer than it is."""

    lines = ("half",)

    def __init__(self):
        self.lines.half = self.data / 2.0

    def __len__(self):
        return len(self.lines[0]) + 1


class Loose(bt.LineSeries):
    """Lines that belong to no indicator; nobody moves them."""

    lines = ("x",)


class Sees(bt.Observer):
    """Keeps what a strategy's own line and the indicators over it are at each bar."""

    lines = ("seen", "above")

    def next(self):
        strategy = self._owner
        self.lines.seen[0] = strategy.lines.own[0]
        for one in strategy.getindicators()[-1:]:
            self.lines.above[0] = one[0] if len(one) else -1.0


class Notes(bt.Analyzer):
    """Notes the same, and how long everything is, at each of its calls."""

    def start(self):
        self.rows = []

    def next(self):
        strategy = self.strategy
        lengths = [len(one) for one in strategy.getindicators()]
        self.rows.append((len(strategy), lengths, [line[0] for line in strategy.lines], strategy.lines.own[-1]))

    def notify_order(self, order):
        self.rows.append((order.ref, order.status, [one[0] for one in self.strategy.getindicators() if len(one)]))

    def get_analysis(self):
        return {"rows": self.rows}


class Nosy(bt.CommInfoBase):
    """Charges by what it sees of the strategy when the broker works: lengths, own lines, indicators."""

    params = (("strategy", None), ("commtype", bt.CommInfoBase.COMM_FIXED), ("stocklike", True))

    def _getcommission(self, size, price, pseudoexec):
        strategy = self.p.strategy
        shown = [one[0] for one in strategy.getindicators() if len(one)]
        lengths = [len(one) for one in strategy.getindicators()]
        strategy.cerebro.log.append(("asked", len(strategy), lengths, shown, strategy.broker.getvalue()))
        return 0.25 * len(strategy) + 0.001 * sum(value for value in shown if value == value)


def bound(strategy: Any, value: Any) -> Any:
    """Bind a value to the strategy's own line, as `self.lines.own = value` does, and return the line."""
    strategy.lines.own = value
    return strategy.lines.own


# A value is bound to the line before each: what is read of one is then more than NaN.
OWNED: Mapping[str, Callable[[Any, Any], Any]] = {
    "an average": lambda own, data: bt.ind.SMA(own, period=3),
    "an average of one bar": lambda own, data: bt.ind.SMA(own, period=1),
    "an average of an average": lambda own, data: bt.ind.EMA(bt.ind.SMA(own, period=2), period=3),
    "an oscillator": lambda own, data: bt.ind.RSI(own, period=4, safediv=True),
    "several lines": lambda own, data: bt.ind.BollingerBands(own, period=4),
    "a crossing of the data": lambda own, data: bt.ind.CrossOver(own, data.close),
    "a crossing by the data": lambda own, data: bt.ind.CrossOver(data.close, own),
    "an operation": lambda own, data: own + data.close,
    "an operation the other way": lambda own, data: data.close - own,
    "a number first": lambda own, data: 1.0 / (own + 1.0),
    "an average of an operation": lambda own, data: bt.ind.SMA(own * 2.0, period=2),
    "an average of the operation on data": lambda own, data: bt.ind.SMA(data.close - own, period=2),
    "a delay": lambda own, data: own(-1),
    "no delay": lambda own, data: own(0),
    "a delay ahead": lambda own, data: own(2),
    "an average of a delay": lambda own, data: bt.ind.SMA(own(-2), period=2),
    "a change": lambda own, data: own / own(-1) - 1.0,
    "a condition": lambda own, data: bt.If(own > data.close, own, -data.close),
    "both": lambda own, data: bt.And(own > 1.0, data.close > own),
    "the larger": lambda own, data: bt.Max(own, data.close),
    "the absolute": lambda own, data: abs(own - data.close),
    "bar by bar": lambda own, data: ByBar(own, period=2),
    "bar by bar with a start": lambda own, data: ByStart(own),
    "nested": lambda own, data: Nested(own),
    "inside a nested one": lambda own, data: bt.ind.SMA(Nested(own).fast, period=2),
    "a period and a highest": lambda own, data: bt.ind.Highest(own, period=5) - bt.ind.Lowest(own, period=2),
}
# What has the strategy as its clock though it reads no line of it, and lines that are bound in other ways.
CLOCKED: Mapping[str, Callable[[Any, Any], Any]] = {
    "a number before a line": lambda strategy, data: bt.Max(0.0, data.close - data.open),
    "a sum that begins with a number": lambda strategy, data: bt.Sum(1.0, data.close, data.open),
    "an average of what begins with a number": lambda strategy, data: bt.ind.SMA(bt.Min(2.0, data.close), period=2),
    "its stamps": lambda strategy, data: bt.ind.Highest(strategy.lines.datetime, period=2),
    "a line that nobody writes": lambda strategy, data: bt.ind.SMA(strategy.lines.other, period=2),
    "bound by name": lambda strategy, data: [data.close(-1).bind2line("own"), bt.ind.SMA(strategy.lines.own, period=2)],
    "an indicator bound by name": lambda strategy, data: [
        bt.ind.EMA(data, period=3).bind2line("own", "ema"),
        bt.ind.SMA(strategy.lines.own, period=2),
    ],
    "an indicator bound": lambda strategy, data: bt.ind.SMA(bound(strategy, bt.ind.EMA(data, period=3)), period=2),
    "a line of the data bound": lambda strategy, data: bt.ind.SMA(bound(strategy, data.high), period=2),
    "a line of a line": lambda strategy, data: [
        bound(strategy, data.close - 1.0),
        setattr(strategy.lines, "other", bt.ind.SMA(strategy.lines.own, period=2)),
        bt.ind.EMA(strategy.lines.other, period=2),
    ],
    "a coupler": lambda strategy, data: data.close(),
    "a coupled feed": lambda strategy, data: data(),
    "its own way to move": lambda strategy, data: [Steps(data), bt.ind.SMA(data, period=2)],
    "a length of its own": lambda strategy, data: [Long(data), bt.ind.SMA(data, period=2)],
}


def owned(name: str) -> Make:
    """Return what makes one of OWNED, over a line that something is bound to."""

    def make(strategy: Any, data: Any, chance: random.Random) -> Any:
        return OWNED[name](bound(strategy, (data.high + data.low) / 2.0), data)

    return make


def clocked(name: str) -> Make:
    """Return what makes one of CLOCKED."""
    return lambda strategy, data, chance: CLOCKED[name](strategy, data)


BY_NAME: Mapping[str, Make] = {name: owned(name) for name in OWNED} | {name: clocked(name) for name in CLOCKED}
MAKES: list[Make] = list(BY_NAME.values())


# -- Cerebros with a strategy that owns something ----------------------------------------------------------------


def trade(strategy, where):
    """Trade by the newest indicator: whatever it shows decides, and so its bar does."""
    if where not in ("next", "prenext"):
        return
    newest = strategy.getindicators()[-1]
    seen = newest[0] if len(newest) else 0.0
    strategy.note(len(strategy), [len(one) for one in strategy.getindicators()], seen, strategy.lines.own[0])
    side = strategy.buy if seen > newest[-1] or seen > strategy.data.close[0] else strategy.sell
    side(size=1 + len(strategy) % 3, data=strategy.datas[len(strategy) % len(strategy.datas)])


def owning(make, *bars, act=None, prepare=lambda cerebro: None, look=everything, lines=LINES, **options):
    """Return what makes a Cerebro with a strategy that has lines, and indicators made of them."""

    def build(cls):
        cerebro = ready(cls, *(rows(each) for each in bars or [BARS]), **options)
        prepare(cerebro)
        strategy = watcher("next", "prenext", "notify_order", lines=lines)
        cerebro.addstrategy(strategy, make=make, look=look, act=act or trade)
        return cerebro

    build.eyes = LOUD
    return build


def of_class(strategy, *bars):
    """Return what makes a Cerebro with a strategy of this class, and an average of its own line."""

    def build(cls):
        cerebro = ready(cls, *(rows(each) for each in bars))
        cerebro.addstrategy(strategy, make=lambda strategy: [bt.ind.SMA(strategy.lines.own, period=2)])
        return cerebro

    build.eyes = LOUD
    return build


def made(name: str) -> Callable[[Any], list[Any]]:
    """Return what makes the indicators of this name."""
    return lambda strategy: [BY_NAME[name](strategy, strategy.data, random.Random(1))]


def charging(scheme: Any, when: Any = "init", **words: Any) -> Act:
    """Return an `act` that trades, and charges by a scheme that looks, from the beginning or from a bar on."""

    def act(strategy, where):
        if where == when or (where == "next" and len(strategy) == when):
            strategy.broker.addcommissioninfo(scheme(strategy=strategy, **words))
        trade(strategy, where)

    return act


def make_late(strategy: Any, where: str) -> None:
    """Make indicators in mid-run, and note how long all are."""
    if where == "next" and len(strategy) in (9, 14):
        strategy.late = bt.ind.SMA(strategy.data, period=2)
    strategy.note([len(one) for one in strategy.getindicators()])


def clocked_by_a_later(strategy: Any) -> list[Any]:
    """Return indicators of which the first goes by the second."""
    first = bt.ind.SMA(strategy.data, period=2)
    second = bt.ind.EMA(strategy.data, period=3)
    first._clock = second
    return [first, second, bt.ind.SMA(first, period=2)]


class Ends(Nosy):
    """A commission scheme that ends the run at the ninth bar, in one way or another."""

    params = (("way", None),)

    def _getcommission(self, size, price, pseudoexec):
        if len(self.p.strategy) == 9:
            self.p.way(self.p.strategy)
        return super()._getcommission(size, price, pseudoexec)


class Mixin(bt.LineSeries):
    """Lines that a strategy inherits before Backtrader's own."""

    lines = ("own", "other")


class Mixed(Mixin, Watcher):
    """A strategy whose stamps are not its first line."""

    def next(self):
        self.note(self.lines.getlinealiases(), [line[0] for line in self.lines], self.datetime.date())
        self.lines.own[0] = len(self)
