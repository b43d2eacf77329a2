"""Indicators over all bars at once, with the same results to the last bit; hot."""

from __future__ import annotations

import math
import operator
from array import array
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import numpy as np
from backtrader import indicators
from backtrader.functions import And, If, MultiLogic
from backtrader.indicators import HeikinAshi
from backtrader.linebuffer import LineActions, LineBuffer, LinesOperation, PseudoArray, _LineDelay
from backtrader.lineiterator import LineIterator

from backtest.engine.lean.lines import is_plain
from backtest.engine.lean.walks import walk

_NOTHING = float("nan")
_EXACT = 2**53  # whole numbers up to here are float64 exactly
_PERCENT_RANK = indicators.PercentRank.params._getpairs()["func"]
_WIDEST = 1024  # bars of a window of which each is compared
_BLOCK = 2**16  # bars that are computed at once: as many as fit into the processor's cache


def once(iterator: Any, sparing: bool = False) -> None:
    """
    Do what `iterator._once()` does: lines grow in bulk, and some indicators are computed in bulk.

    Args:
        sparing: whether to free intermediate lines of Backtrader's own indicators, to which no name refers: thirteen of
            a crossover's fourteen lines. The last value stays, since it can be read.
    """
    if type(iterator)._once is LineActions._once:
        _forward(iterator, iterator._clock.buflen())
        iterator.home()
    elif isinstance(iterator, HeikinAshi):
        _once_of_heikin_ashi(iterator)
        return
    elif type(iterator)._once is LineIterator._once:
        _once_of_children(iterator, sparing)
    else:
        iterator._once()
        return
    _reckon(iterator)
    is_indicator = getattr(iterator, "_ltype", None) == LineIterator.IndType  # a strategy's indicators are plotted
    if sparing and is_indicator and type(iterator).__module__.startswith("backtrader."):
        _shrink_inside(iterator)


def _shrink_inside(indicator: Any) -> None:
    children = getattr(indicator, "_lineiterators", {}).get(LineIterator.IndType, ())
    if not children:
        return
    named = {id(value) for value in vars(indicator).values()}
    for child in children:
        lines = [child] if isinstance(child, LineBuffer) else child.lines.lines
        own = not type(child).__module__.startswith("backtrader.")  # a user's, such as `movav`: the user may keep it
        if not own and not named & {id(child), *map(id, lines)}:
            for line in filter(is_plain, lines):
                line.array = line.array[-1:]


def _once_of_children(iterator: Any, sparing: bool) -> None:
    _forward(iterator, iterator._clock.buflen())
    children, observers = iterator._lineiterators[LineIterator.IndType], iterator._lineiterators[LineIterator.ObsType]
    for child in children:
        once(child, sparing)
    for observer in observers:
        _forward(observer, iterator.buflen())
    for one in [*iterator.datas, *children, *observers, iterator]:
        one.home()


def _once_of_heikin_ashi(candles: Any) -> None:
    """Do bar by bar, but in one loop, what Backtrader leaves to `next`: each open follows from the candle before."""
    _forward(candles, candles._clock.buflen())
    opened = candles.lines.ha_open
    children = candles._lineiterators[LineIterator.IndType]
    (last,) = (child for child in children if any(line is opened for line in child.bindings))
    total, before = last.a, last.a.a  # (open before + close before) / 2.0
    for child in children:
        if child is before or child is total:
            _forward(child, child._clock.buflen())
            child.home()
        elif child is last:
            _forward(child, child._clock.buflen())
            child.home()
            _open_candles(candles, last)
        else:
            once(child)
    for one in [*candles.datas, candles]:
        one.home()
    for line in candles.lines:
        line.oncebinding()


def _open_candles(candles: Any, last: Any) -> None:
    data, start = candles.data, candles._minperiod - 1
    opens, delayed, totals = candles.lines.ha_open.array, last.a.a.array, last.a.array
    for n in range(start):  # as `prenext` does
        opens[n] = (data.open.array[n] + data.close.array[n]) / 2.0
    value, halves, closes = opens[start - 1], last.array, last.a.b.array
    for n in range(start, len(opens)):
        delayed[n] = value
        totals[n] = total = value + closes[n]
        opens[n] = halves[n] = value = total / 2.0


def _reckon(iterator: Any) -> None:
    if not walk(iterator):
        period, end = iterator._minperiod, iterator.buflen()
        iterator.preonce(0, period - 1)
        iterator.oncestart(period - 1, period)
        in_bulk = _IN_BULK.get(type(iterator).once)
        if in_bulk is None or period >= end or not in_bulk(iterator, period, end):
            iterator.once(period, end)
    for line in [iterator] if isinstance(iterator, LineBuffer) else iterator.lines:
        line.oncebinding()


def _forward(owner: Any, size: int) -> None:
    lines = [owner] if isinstance(owner, LineBuffer) else owner.lines.lines
    if not all(type(line).forward is LineBuffer.forward and is_plain(line) for line in lines):
        owner.forward(size=size)
        return
    for line in lines:
        line._idx += size
        line.lencount += size
        fresh = array("d", [_NOTHING]) * size
        if line.array:
            line.array.extend(fresh)
        else:
            line.array = fresh


def _view(values: Any) -> np.ndarray | None:
    return np.frombuffer(values) if isinstance(values, array) else None


def _average(average: Any, start: int, end: int) -> bool:
    period = average.p.period
    source = _view(average.data.array)
    if source is None or not isinstance(period, int) or not 0 < period < _BLOCK or start < period or len(source) < end:
        return False
    target = _view(average.line.array)
    for first in range(start, end, _BLOCK):
        last = min(first + _BLOCK, end)
        sums = _window_sums(source[first - period + 1 : last], period)
        if sums is None:
            average.once(first, last)
        else:
            np.divide(sums, period, out=target[first:last])  # type: ignore[index]
    return True


def _window_sums(values: np.ndarray, period: int) -> np.ndarray | None:
    """
    Return `math.fsum` of each window of a block, or None if this method does not apply.

    In units of the last bit of the smallest value, the values are whole numbers. Split into halves of 32 bits, their
    running sums are exact in int64, and each half of a window's sum is exact in float64. Adding the two halves rounds
    once, as fsum does.
    """
    if not np.isfinite(values).all():
        return None
    _, exponents = np.frexp(values[values != 0])
    if not len(exponents):
        return np.zeros(len(values) - period + 1)
    low, high = int(exponents.min()), int(exponents.max())
    if low < -900 or high > 900 or high - low > 900:  # no subnormal numbers, and no sum that overflows
        return None
    if high - low > 9:  # 53 bits and 9 are all that int64 holds
        return _wide_window_sums(values, period, high)
    whole = np.ldexp(values, 53 - low).astype(np.int64)
    upper, lower = _running(whole >> 32, period), _running(whole & 0xFFFFFFFF, period)
    upper += lower >> 32
    summed: np.ndarray = np.ldexp(upper * 2.0**32 + (lower & 0xFFFFFFFF), low - 53)
    return summed


def _wide_window_sums(values: np.ndarray, period: int, high: int) -> np.ndarray:
    """
    Return the same for values of many magnitudes, all below 2**high, such as those near zero.

    Each value is split into three digits of 31 bits, whose running sums are exact in float64, and a remainder that
    bounds the error. The sum of the three sums is rounded once; if that may not be the nearest float64, `math.fsum`
    computes it.
    """
    rest, digits = np.ldexp(values, -high), []
    for _ in range(3):
        rest = rest * 2.0**31
        digit = np.trunc(rest)
        rest -= digit
        digits.append(_running(digit, period))
    error = period * 1.0 if rest.any() else 0.0
    lower, first = _two_sum(digits[1] * 2.0**31, digits[2])
    total, second = _two_sum(digits[0] * 2.0**62, lower)
    small, third = _two_sum(second, first)
    nearest, left = _two_sum(total, small)
    left, third = np.abs(left), np.abs(third) + error
    below = np.abs(np.spacing(np.nextafter(nearest, 0.0)))  # the narrower one, at a power of two
    sums: np.ndarray = np.ldexp(nearest + 0.0, high - 93)
    for n in np.flatnonzero((third > 0) & (left + third >= below / 2)):
        sums[n] = math.fsum(values[n : n + period].tolist())
    return sums


def _two_sum(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rounded sums and their exact rounding errors (Knuth, The Art of Computer Programming, 4.2.2)."""
    total = one + other
    part = total - one
    return total, (one - (total - part)) + (other - part)


def _running(values: np.ndarray, period: int) -> np.ndarray:
    sums = np.concatenate([[0], np.cumsum(values)])
    windows: np.ndarray = sums[period:] - sums[:-period]
    return windows


def _rank(indicator: Any, start: int, end: int) -> bool:
    period = indicator.p.period
    source, target = _view(indicator.data.array), _view(indicator.line.array)
    if type(indicator).once is not indicators.PercentRank.once or indicator.func is not _PERCENT_RANK:
        return False  # Highest and others share the function
    if source is None or type(period) is not int or not 0 < period <= min(start + 1, _WIDEST) or len(source) < end:
        return False
    for first in range(start, end, _BLOCK // period + 1):
        last = min(first + _BLOCK // period + 1, end)
        windows = np.lib.stride_tricks.sliding_window_view(source[first - period + 1 : last], period)
        counts = np.count_nonzero(windows < source[first:last, None], axis=1)
        np.divide(counts, period, out=target[first:last])  # type: ignore[index]
    return True


_OPERATIONS: dict[Any, Callable[..., Any]] = {
    operator.__add__: np.add,
    operator.__sub__: np.subtract,
    operator.__mul__: np.multiply,
    operator.__truediv__: np.divide,
    operator.__lt__: np.less,
    operator.__gt__: np.greater,
    operator.__le__: np.less_equal,
    operator.__ge__: np.greater_equal,
    operator.__eq__: np.equal,
    operator.__ne__: np.not_equal,
}


def _operation(line: Any, start: int, end: int) -> bool:
    reckon = _OPERATIONS.get(line.operation)
    left, right = _operand(line.a, start, end), _operand(line.b, start, end)
    if reckon is None or left is None or right is None or line.btime:
        return False
    if reckon is np.divide and not np.all(right):
        return False  # Python raises on zero
    with np.errstate(all="ignore"):
        _view(line.array)[start:end] = reckon(left, right)  # type: ignore[index]
    return True


def _operand(operand: Any, start: int, end: int) -> Any:
    if isinstance(operand, LineBuffer):
        found = _view(operand.array)
        return None if found is None or len(found) < end else found[start:end]
    return float(operand) if type(operand) is float or (type(operand) is int and abs(operand) < _EXACT) else None


def _delay(line: Any, start: int, end: int) -> bool:
    if not isinstance(line.a, LineBuffer) or not isinstance(line.ago, int) or start + line.ago < 0:
        return False
    source = line.a.array[start + line.ago : end + line.ago]
    if len(source) != end - start or line.a is line:
        return False
    line.array[start:end] = source
    return True


def _both(line: Any, start: int, end: int) -> bool:
    logic = line.flogic  # in Reduce and in classes of others it can be anything; `Or` and others share `once`
    if not isinstance(logic, partial) or (logic.func, logic.args, logic.keywords) != (reduce, (And.flogic,), {}):
        return False
    operands = [_operand(one, start, end) for one in line.args]
    if len(operands) != 2 or any(one is None for one in operands):
        return False
    _view(line.array)[start:end] = (operands[0] != 0) & (operands[1] != 0)  # type: ignore[index]
    return True


def _logic(line: Any, start: int, end: int) -> bool:
    if line.flogic not in (max, min):
        return _both(line, start, end)  # whose `once` is the same function
    operands = [_operand(_number(one), start, end) for one in line.args]
    if any(one is None for one in operands):
        return False
    better, best = (np.greater if line.flogic is max else np.less), operands[0]
    for operand in operands[1:]:
        best = np.where(better(operand, best), operand, best)  # the first of equals, and what NaN is compared with
    _view(line.array)[start:end] = best  # type: ignore[index]
    return True


def _choice(line: Any, start: int, end: int) -> bool:
    condition, first, second = (_operand(_number(one), start, end) for one in (line.cond, line.a, line.b))
    if condition is None or first is None or second is None:
        return False
    _view(line.array)[start:end] = np.where(np.not_equal(condition, 0), first, second)  # type: ignore[index]
    return True


def _number(operand: Any) -> Any:
    return operand.wrapped if isinstance(operand, PseudoArray) else operand


def _last_difference(indicator: Any, start: int, end: int) -> bool:
    left, right, target = (_view(one) for one in (indicator.data0.array, indicator.data1.array, indicator.line.array))
    if left is None or right is None or target is None or min(len(left), len(right)) < end:
        return False
    with np.errstate(invalid="ignore"):
        differences = left[start - 1 : end] - right[start - 1 : end]
    differences[0] = target[start - 1]  # the value before, and where there is no difference the last one
    rows = np.where(differences != 0, np.arange(len(differences)), 0)
    target[start:end] = differences[np.maximum.accumulate(rows)][1:]
    return True


_IN_BULK = {
    indicators.Average.once: _average,
    indicators.NonZeroDifference.once: _last_difference,
    LinesOperation.once: _operation,
    _LineDelay.once: _delay,
    MultiLogic.once: _logic,
    indicators.PercentRank.once: _rank,
    If.once: _choice,
}
