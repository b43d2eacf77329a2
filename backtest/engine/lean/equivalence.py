"""Indicators whose `once` and `next` give the same values, so that a run bar by bar can compute them at once."""

from __future__ import annotations

from typing import Any

import backtrader as bt
from backtrader.functions import CmpEx, Reduce
from backtrader.linebuffer import LineBuffer, _LineForward
from backtrader.lineiterator import LineIterator, MultiCoupler, SingleCoupler
from backtrader.lineseries import LineSeriesStub

from backtest.engine.lean.lines import is_plain

# What Backtrader's indicators do in `next` and `once`; whether a user's own two methods agree is not known.
_WAYS = ("next", "once", "nextstart", "oncestart", "prenext", "preonce", "_next", "_once", "oncebinding")
_MOVES = (*_WAYS, "_clk_update", "forward", "home")
_BY_NEXT = ("once_via_next", "preonce_via_prenext", "oncestart_via_nextstart")  # at another place in its inputs
# The first gives what `next` does not; the second reaches into the future; the rest have functions of the user's.
_UNLIKE = (CmpEx, _LineForward, SingleCoupler, MultiCoupler, Reduce, bt.ind.ReduceN)
_PURE = {"builtins", "math", "functools", "operator", "_operator", "_functools", None}


class Equivalents:
    """The indicators of a strategy, in order, that give the same values either way, as everything they read does."""

    def __init__(self, datas: list[Any]) -> None:
        self._known = {id(one) for data in datas for one in (data, data.lines, *data.lines.lines)}
        self._bars = min(data.buflen() for data in datas)

    def take(self, indicator: Any) -> bool:
        """Return whether an indicator and all below it belong to them; later ones may then read it."""
        known = set(self._known)
        if self._takes(indicator, None):
            return True
        self._known = known
        return False

    def _takes(self, indicator: Any, owner: Any) -> bool:
        single = isinstance(indicator, LineBuffer)
        lines = [indicator] if single else indicator.lines.lines
        bound = {id(line) for line in owner.lines.lines} if owner is not None else set()
        if not all(is_plain(line) and {id(one) for one in line.bindings} <= bound for line in lines):
            return False
        if not _by_once(indicator) or not 0 < indicator._minperiod <= self._bars:
            return False
        inputs = indicator._datas if single else indicator.datas
        clock = indicator._clock
        if not all(map(self._knows, inputs)) or not (clock is owner or self._knows(clock)):
            return False
        if type(indicator) is bt.ind.HeikinAshi:
            self._known.add(id(indicator.lines.ha_open))  # it reads its own line, of the bar before
        below = [] if single else indicator._lineiterators[LineIterator.IndType]
        if not all(self._takes(child, indicator) for child in below):
            return False
        self._known.update({id(indicator), id(indicator.lines), *map(id, lines)})
        return True

    def _knows(self, read: Any) -> bool:
        if isinstance(read, LineSeriesStub):
            read = read.lines.lines[0]
        return id(read) in self._known


def _by_once(indicator: Any) -> bool:
    cls = type(indicator)
    if isinstance(indicator, _UNLIKE) or any(name in vars(indicator) for name in _MOVES):
        return False
    if cls.prenext not in (LineIterator.prenext, LineBuffer.prenext, bt.ind.HeikinAshi.prenext):
        return False  # what happens before the first value is for `next` alone
    ways = [getattr(cls, name, None) for name in _MOVES]
    if any(way is not None and not _of_backtrader(way) for way in ways):
        return False
    return not isinstance(indicator, bt.Indicator) or all(map(_pure, indicator.p._getkwargs().values()))


def _of_backtrader(way: Any) -> bool:
    home = getattr(way, "__module__", "")
    known = home.startswith(
        ("backtrader.indicators", "backtrader.line", "backtrader.functions", "backtrader.indicator")
    )
    return known and way.__name__ not in _BY_NEXT


def _pure(value: Any) -> bool:
    return not callable(value) or isinstance(value, type) or getattr(value, "__module__", None) in _PURE
