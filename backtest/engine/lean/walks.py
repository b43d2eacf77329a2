"""Indicators with only a `next`, computed over all bars as Backtrader would, without its overhead; hot."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import backtrader as bt
from backtrader.feed import AbstractDataBase
from backtrader.indicators.psar import _SarStatus
from backtrader.linebuffer import LineActions, LineBuffer
from backtrader.lineiterator import LineIterator
from backtrader.lineseries import LineSeriesStub

from backtest.engine.lean.lines import Coupling, Cursor, is_plain

_MOST, _FAR = 100_000, 1e12  # gains, and distances of prices, of which no error is as large as MAXINT
_FEED_MOVES = ("advance", "_tick_nullify", "_tick_fill")


def walk(indicator: Any) -> bool:
    """
    Do the work of `preonce`, `oncestart` and `once` for an indicator for which Backtrader has only `next`.

    Returns:
        Whether it was done. It is not if feeds, indicator and all indicators below it do not advance in step: only
        Backtrader's own code then gives Backtrader's values.
    """
    cls, bars = type(indicator), indicator.buflen()
    ways = (cls.preonce, cls.oncestart, cls.once) if isinstance(indicator, bt.Indicator) else ()
    known = (bt.Indicator.preonce_via_prenext, bt.Indicator.oncestart_via_nextstart, bt.Indicator.once_via_next)
    if ways != known or not 0 < indicator._minperiod <= bars or not _moves_in_step(indicator):
        return False
    cursor, coupling = Cursor(), Coupling()
    for data in indicator.datas:
        couple = coupling.couple_feed if isinstance(data, AbstractDataBase) else coupling.couple
        couple(data, cursor)
    for one in (*indicator._lineiterators[LineIterator.IndType], indicator):
        coupling.couple(one, cursor)
    try:
        at_once = _at_once(indicator)
        if at_once is not None and at_once(indicator, indicator._minperiod - 1, bars):
            cursor.at = bars - 1
        else:
            _walk(indicator, cursor, bars)
    finally:
        coupling.undo()
    return True


def _at_once(indicator: Any) -> Callable[[Any, int, int], bool] | None:
    """Return a replacement for an indicator's `next`, if that and the methods called before it are Backtrader's."""
    ways, cls = ("prenext", "nextstart", "next"), type(indicator)
    for base, at_once in _AT_ONCE.items():
        if all(getattr(cls, way) is getattr(base, way) and way not in vars(indicator) for way in ways):
            return at_once
    return None


def _walk(indicator: Any, cursor: Cursor, bars: int) -> None:
    for _ in range(indicator._minperiod - 1):
        cursor.at += 1
        indicator.prenext()
    cursor.at += 1
    indicator.nextstart()
    for _ in range(indicator._minperiod, bars):
        cursor.at += 1
        indicator.next()


def _moves_in_step(indicator: Any) -> bool:
    """Return whether feeds or lines, the indicators below and the indicator itself advance once, at each bar."""
    if type(indicator).advance is not bt.Indicator.advance or "advance" in vars(indicator):
        return False
    moving: list[Any] = []
    for data in indicator.datas:
        stub = type(data) is LineSeriesStub and not data.slave
        if not stub and not _is_feed(data):
            return False
        moving += data.lines.lines
    for child in indicator._lineiterators[LineIterator.IndType]:
        single = isinstance(child, LineBuffer)
        clocked = single or any(_line_of(child._clock) is line for line in moving)
        if not clocked or type(child).advance is not (LineBuffer if single else bt.Indicator).advance:
            return False
        moving += [child] if single else child.lines.lines
    moving += indicator.lines.lines
    started = any(line._idx != -1 or line.lencount for line in moving)
    plain = all(is_plain(line) and "_cursor" not in vars(line) for line in moving)
    return plain and not started and len({id(line) for line in moving}) == len(moving)


def _is_feed(data: Any) -> bool:
    base = AbstractDataBase
    return isinstance(data, base) and all(getattr(type(data), name) is getattr(base, name) for name in _FEED_MOVES)


def _line_of(clock: Any) -> Any:
    return clock if isinstance(clock, LineActions) else clock.lines.lines[0]


# Each returns whether it did the work; what it leaves is equal, bit by bit, to its `next` at each bar from `start` on.


def _zero_lag(indicator: Any, start: int, end: int) -> bool:
    """Find the gain with the least error without trying all: the error first falls and then rises with the gain."""
    averages, prices, line = indicator.ema, indicator.data.lines[0].array, indicator.lines.ec
    alpha, alpha1 = averages.alpha, averages.alpha1
    first, after = indicator.limits
    if not 0.0 < alpha <= 1.0 or not all(type(limit) is int and abs(limit) < _MOST for limit in (first, after)):
        return False
    if line.bindings:
        return False
    gains = [value / 10 for value in range(first, after)]
    average, corrected = averages.lines[0].array, line.array
    for n in range(start, end):
        corrected[n] = _corrected(gains, average[n], prices[n], corrected[n - 1], alpha, alpha1)
    return True


def _corrected(gains: list[float], ema: float, price: float, before: float, alpha: float, alpha1: float) -> float:
    apart, kept = price - before, alpha1 * before
    if not math.isfinite(apart) or not math.isfinite(ema) or not gains or abs(apart) > _FAR or abs(ema) > _FAR:
        return _tried(gains, ema, price, before, alpha, alpha1)
    rises = apart >= 0.0
    low, high = 0, len(gains)  # the first gain whose value is beyond the price
    while low < high:
        middle = (low + high) // 2
        value = alpha * (ema + gains[middle] * apart) + kept
        if (value > price) if rises else (value < price):
            high = middle
        else:
            low = middle + 1
    best, least = ema, math.inf
    for place in (low - 1, low):
        if 0 <= place < len(gains):
            value = alpha * (ema + gains[place] * apart) + kept
            error = abs(price - value)
            while place > 0 and error < least:  # of equal errors the first counts
                earlier = alpha * (ema + gains[place - 1] * apart) + kept
                if abs(price - earlier) != error:
                    break
                place, value = place - 1, earlier
            if error < least:
                best, least = value, error
    return best


def _tried(gains: list[float], ema: float, price: float, before: float, alpha: float, alpha1: float) -> float:
    best, least = ema, float(bt.utils.py3.MAXINT)
    for gain in gains:
        value = alpha * (ema + gain * (price - before)) + alpha1 * before
        error = abs(price - value)
        if error < least:
            best, least = value, error
    return best


def _laguerre_filter(indicator: Any, start: int, end: int) -> bool:
    return _laguerre(indicator, start, end, lambda l0, l1, l2, l3: (l0 + (2 * l1) + (2 * l2) + l3) / 6)


def _laguerre_rsi(indicator: Any, start: int, end: int) -> bool:
    return _laguerre(indicator, start, end, _ups_and_downs)


def _laguerre(indicator: Any, start: int, end: int, value: Callable[[float, float, float, float], float]) -> bool:
    line, g = indicator.lines.lines[0], indicator.p.gamma
    if line.bindings or type(g) is not float or indicator.data._opstage != 2:
        return False
    prices, values = indicator.data.lines[0].array, line.array
    l0, l1, l2, l3 = indicator.l0, indicator.l1, indicator.l2, indicator.l3
    for n in range(start, end):
        l0_1, l1_1, l2_1 = l0, l1, l2
        l0 = (1.0 - g) * prices[n] + g * l0_1
        l1 = -g * l0 + l0_1 + g * l1_1
        l2 = -g * l1 + l1_1 + g * l2_1
        l3 = -g * l2 + l2_1 + g * l3
        values[n] = value(l0, l1, l2, l3)
    indicator.l0, indicator.l1, indicator.l2, indicator.l3 = l0, l1, l2, l3
    return True


def _ups_and_downs(l0: float, l1: float, l2: float, l3: float) -> float:
    up = down = 0.0
    if l0 >= l1:
        up = l0 - l1
    else:
        down = l1 - l0
    if l1 >= l2:
        up += l1 - l2
    else:
        down += l2 - l1
    if l2 >= l3:
        up += l2 - l3
    else:
        down += l3 - l2
    both = up + down
    return 1.0 if not both else up / both


def _parabolic(indicator: Any, start: int, end: int) -> bool:
    line, data = indicator.lines.psar, indicator.data
    if start < 1 or line.bindings or not isinstance(data, AbstractDataBase):
        return False
    highs, lows, closes, values = data.high.array, data.low.array, data.close.array, line.array
    step, most = indicator.p.af, indicator.p.afmax
    sar, af = (highs[1] + lows[1]) / 2.0, step
    rising = not closes[1] >= closes[0]  # a trend before the first, which ends at once
    extreme = highs[0] if rising else lows[0]
    kept = (rising, sar, extreme, af)
    for n in range(1, end):
        high, low = highs[n], lows[n]
        before = kept
        if (rising and sar >= low) or (not rising and sar <= high):
            rising, sar, af = not rising, extreme, step
            extreme = high if rising else low
        if n >= start:
            values[n] = sar
        if rising:
            if high > extreme:
                extreme, af = high, min(af + step, most)
        elif low < extreme:
            extreme, af = low, min(af + step, most)
        sar = sar + af * (extreme - sar)
        if rising:
            if sar > low or sar > lows[n - 1]:
                sar = min(low, lows[n - 1])
        elif sar < high or sar < highs[n - 1]:
            sar = max(high, highs[n - 1])
        kept = (rising, sar, extreme, af)
    indicator._status = [_status(*one) for one in ((kept, before) if end % 2 == 0 else (before, kept))]
    return True


def _status(rising: bool, sar: float, extreme: float, af: float) -> Any:
    status = _SarStatus()
    status.tr, status.sar, status.ep, status.af = rising, sar, extreme, af
    return status


_AT_ONCE: dict[Any, Callable[[Any, int, int], bool]] = {
    bt.ind.ZeroLagIndicator: _zero_lag,
    bt.ind.LaguerreFilter: _laguerre_filter,
    bt.ind.LaguerreRSI: _laguerre_rsi,
    bt.ind.ParabolicSAR: _parabolic,
}
