"""Lines that move together: one cursor for all lines of a feed and its indicators, and `once` in bulk; hot."""

from __future__ import annotations

import operator
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
from backtrader import indicators
from backtrader.functions import And
from backtrader.indicator import Indicator
from backtrader.linebuffer import LineActions, LineBuffer, LinesOperation, _LineDelay
from backtrader.lineiterator import LineIterator
from backtrader.lineseries import LineSeries

_NOTHING = float("nan")
_EXACT = 2**53  # whole numbers up to here are float64 exactly
_BLOCK = 2**16  # bars that are reckoned at once: what fits the processor's cache


class Cursor:
    """Where a group of lines stands: the index of their current bar, -1 before the first."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = -1


# --- lines that read their place from a cursor


def _own_move(_line: Any, _value: Any) -> None:
    raise RuntimeError("a line was moved by hand during a run; run with runonce=False to do so")


# In C, without a frame of Python: Backtrader's own methods read these two on each access.
_PLACE = property(operator.attrgetter("_cursor.at"), _own_move)
_LENGTH = property(lambda line: line._cursor.at + 1, _own_move)


def _line_item(line: Any, ago: int) -> Any:
    return line.array[line._cursor.at + ago]


def _line_get(line: Any, ago: int = 0, size: int = 1) -> Any:
    end = line._cursor.at + ago + 1
    return line.array[end - size : end]


def _length(lines: Any) -> int:
    place: int = lines._cursor.at
    return place + 1


def _first_item(series: Any, ago: int) -> Any:
    return series._first.array[series._cursor.at + ago]


_LINE = {"_idx": _PLACE, "lencount": _LENGTH, "__getitem__": _line_item, "__len__": _length, "get": _line_get}
_SERIES = {"__getitem__": _first_item, "__len__": _length}
_CLASSES: dict[tuple[type, bool], type] = {}  # one for each of Backtrader's classes, not one a run


def _class(cls: Any, members: dict[str, Any]) -> Any:
    # Past Backtrader's metaclass: it is to look like the class it stands in for, and be listed nowhere.
    key = cls, members is _LINE
    if key not in _CLASSES:
        named = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
        _CLASSES[key] = type.__new__(type(cls), cls.__name__, (cls,), {**members, **named})
    return _CLASSES[key]


def is_plain(line: Any) -> bool:
    """Return whether a line is a growing array that reads and moves as Backtrader's own do."""
    cls = type(line)
    own = any(getattr(cls, name) is not getattr(LineBuffer, name) for name in ("__getitem__", "__len__", "get", "idx"))
    return not own and line.mode == LineBuffer.UnBounded and isinstance(line.array, array)


class Coupling:
    """Couples lines to cursors by giving them classes that read their place from one; `undo` takes all of it back."""

    def __init__(self) -> None:
        self._lines: list[tuple[Any, Any]] = []
        self._owners: list[tuple[Any, Any, dict[str, Any]]] = []
        self._ticks: list[tuple[Any, dict[str, Any]]] = []

    def couple_feed(self, feed: Any, cursor: Cursor) -> None:
        """Let a feed stand where the cursor stands; its tick_ attributes follow, read from the bar when asked for."""
        names = [f"tick_{name}" for name in feed.getlinealiases() if name != "datetime"]
        ticks = {name: property(_tick(row)) for row, name in enumerate(names)}
        kept = {name: feed.__dict__.pop(name) for name in [*names, "tick_last"] if name in feed.__dict__}
        self._ticks.append((feed, kept))
        self.couple(feed, cursor, {**ticks, "tick_last": property(_tick(0))})

    def couple(self, owner: Any, cursor: Cursor, members: dict[str, Any] | None = None) -> None:
        """Let all lines of a feed, an indicator or a strategy stand where the cursor stands."""
        if isinstance(owner, LineBuffer):
            self._couple_line(owner, cursor)
            return
        for line in owner.lines.lines:
            self._couple_line(line, cursor)
        self._dress(owner.lines, {"__len__": _length, **(members or {})}, {"_cursor": cursor})
        named, cls = _unnamed_lines(owner), type(owner)
        if issubclass(cls, Indicator) and (cls.__getitem__, cls.__len__) == (
            LineSeries.__getitem__,
            LineSeries.__len__,
        ):
            self._dress(owner, _SERIES, {**named, "_cursor": cursor, "_first": owner.lines.lines[0]})
        else:
            self._dress(owner, {}, named)

    def _couple_line(self, line: Any, cursor: Cursor) -> None:
        self._lines.append((line, type(line)))
        line._cursor = cursor
        line.__class__ = _class(type(line), _LINE)

    def _dress(self, thing: Any, members: dict[str, Any], attributes: dict[str, Any]) -> None:
        self._owners.append((thing, type(thing), attributes))
        vars(thing).update(attributes)
        if members:
            thing.__class__ = _class(type(thing), members)

    def undo(self, ahead: tuple[Cursor, ...] = ()) -> None:
        """
        Leave all lines as Backtrader would have left them there.

        Args:
            ahead: the cursors of a step that an exception ended when the feeds had moved, and no other line yet.
        """
        feeds = {id(line) for feed, _ in self._ticks for line in feed.lines.lines}
        for line, cls in self._lines:
            cursor = line.__dict__.pop("_cursor")
            at = cursor.at - (cursor in ahead and id(line) not in feeds)
            line.__class__ = cls
            line._idx, line.lencount = at, at + 1
        for thing, cls, attributes in self._owners:
            thing.__class__ = cls
            for name, value in attributes.items():
                if vars(thing).get(name) is value:
                    del vars(thing)[name]
        for feed, kept in self._ticks:
            _leave_ticks(feed, kept)


def _unnamed_lines(owner: Any) -> dict[str, Any]:
    """Return lines by names such as `close`, which an owner finds last, by way of two descriptors."""
    named = zip(owner.lines.getlinealiases(), owner.lines.lines, strict=False)
    return {name: line for name, line in named if name not in vars(owner) and not hasattr(type(owner), name)}


def _tick(row: int) -> Callable[[Any], Any]:
    def look(lines: Any) -> Any:
        line = lines.lines[row]
        at = line._cursor.at
        if at < 0:
            raise AttributeError("tick")  # there is none before the first bar
        return line.array[at] if at + 1 < line.buflen() else None  # none on the last bar either

    return look


def _leave_ticks(feed: Any, kept: dict[str, Any]) -> None:
    if not len(feed):
        feed.__dict__.update(kept)
        return
    feed._tick_nullify()
    if len(feed) < feed.buflen():
        feed._tick_fill()


# --- indicators over all bars at once, as LineIterator._once does


def once(iterator: Any, sparing: bool = False) -> None:
    """
    Do what `iterator._once()` does: lines grow in bulk, and some indicators are reckoned in bulk.

    Args:
        sparing: whether Backtrader's own indicators let go of what they reckoned with inside, which nothing names:
            thirteen of a crossover's fourteen lines. The last value stays, the one that could be read.
    """
    if type(iterator)._once is LineActions._once:
        _forward(iterator, iterator._clock.buflen())
        iterator.home()
    elif type(iterator)._once is LineIterator._once:
        _once_of_children(iterator, sparing)
    else:
        iterator._once()
        return
    _reckon(iterator)
    if sparing and type(iterator).__module__.startswith("backtrader."):
        _shrink_inside(iterator)


def _shrink_inside(indicator: Any) -> None:
    named = {id(value) for value in vars(indicator).values()}
    for child in getattr(indicator, "_lineiterators", {}).get(LineIterator.IndType, ()):
        lines = [child] if isinstance(child, LineBuffer) else child.lines.lines
        if not named & {id(child), *map(id, lines)}:
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


def _reckon(iterator: Any) -> None:
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


# Each returns whether it did the work; what it leaves is equal, bit by bit, to Backtrader's own loop.


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
    Return `math.fsum` of each window of a block, or None where this way cannot.

    In units of the smallest's last bit the values are whole numbers; cut in halves of 32 bits, their running sums
    are exact in int64, as is each half of a window's sum in float64. Adding the two rounds once, as fsum does.
    """
    if not np.isfinite(values).all():
        return None
    _, exponents = np.frexp(values[values != 0])
    if not len(exponents):
        return np.zeros(len(values) - period + 1)
    low, high = int(exponents.min()), int(exponents.max())
    if high - low > 9 or abs(low) > 900:  # 53 bits and 9 are all that int64 holds; and no subnormal numbers
        return None
    whole = np.ldexp(values, 53 - low).astype(np.int64)
    upper, lower = _running(whole >> 32, period), _running(whole & 0xFFFFFFFF, period)
    upper += lower >> 32
    summed: np.ndarray = np.ldexp(upper * 2.0**32 + (lower & 0xFFFFFFFF), low - 53)
    return summed


def _running(values: np.ndarray, period: int) -> np.ndarray:
    sums = np.concatenate([[0], np.cumsum(values)])
    windows: np.ndarray = sums[period:] - sums[:-period]
    return windows


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
    operands = [_operand(one, start, end) for one in line.args]
    if type(line).flogic is not And.flogic or line.flogic.keywords or len(operands) != 2:
        return False  # `Or` and others share the function; a keyword is an initial value
    if any(one is None for one in operands):
        return False
    _view(line.array)[start:end] = (operands[0] != 0) & (operands[1] != 0)  # type: ignore[index]
    return True


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
    And.once: _both,
}
