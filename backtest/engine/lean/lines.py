"""Lines that move together: one cursor for all lines of a feed and its indicators; hot."""

from __future__ import annotations

import operator
from array import array
from collections.abc import Callable
from functools import partial
from typing import Any

from backtrader.indicator import Indicator
from backtrader.linebuffer import LineBuffer
from backtrader.lineseries import LineSeries


class Cursor:
    """
    Where a group of lines stands: the index of their current bar, -1 before the first.

    Attributes:
        release: gives the lines that grow back to Backtrader, which then appends the values that are still to come.
    """

    __slots__ = ("at", "release")

    release: Callable[[], None]

    def __init__(self) -> None:
        self.at = -1

    def step(self) -> None:
        """Move to the next bar."""
        self.at += 1


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


# --- lines of a run bar by bar, which hold all values and show those up to the current bar, as if they still grew


def _shown(line: Any, ago: int) -> int:
    """Return the place of a value in an array that ends with the current bar; a negative one counts from its end."""
    last = line._cursor.at
    place: int = last + ago
    if place > last or place < -last - 1:
        raise IndexError("array index out of range")
    return place if place >= 0 else place + last + 1


def _shown_item(line: Any, ago: int) -> Any:
    return line._values[_shown(line, ago)]


def _shown_get(line: Any, ago: int = 0, size: int = 1) -> Any:
    end = line._cursor.at + ago + 1
    if ago <= 0 <= end - size:
        return line._values[end - size : end]
    return line.array[end - size : end]


def _put(line: Any, ago: int, value: Any) -> None:
    line._cursor.release()  # what follows from the value is not known yet
    line[ago] = value


def _shown_series_item(series: Any, ago: int) -> Any:
    return series._first[ago]


_LINE = {"_idx": _PLACE, "lencount": _LENGTH, "__getitem__": _line_item, "__len__": _length, "get": _line_get}
_SERIES = {"__getitem__": _first_item, "__len__": _length}
_GROWING_LINE = {
    **_LINE,
    "array": property(lambda line: line._values[: line._cursor.at + 1]),
    "__getitem__": _shown_item,
    "get": _shown_get,
    "__setitem__": _put,
    "set": lambda line, value, ago=0: _put(line, ago, value),
}
_GROWING_SERIES = {"__getitem__": _shown_series_item, "__len__": _length}
_CLASSES: dict[tuple[type, str], type] = {}  # one for each of Backtrader's classes, not one a run


def _class(cls: Any, members: dict[str, Any], kind: str) -> Any:
    # Past Backtrader's metaclass: it is to look like the class it stands in for, and be listed nowhere.
    key = cls, kind
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
    """
    Couples lines to cursors by giving them classes that read their place from one; `undo` takes all of it back.

    Args:
        growing: whether the run is one bar by bar, in which lines grow, and the last bar has ticks like any other.
    """

    def __init__(self, growing: bool = False) -> None:
        self._lines: list[tuple[Any, Any]] = []
        self._owners: list[tuple[Any, Any, dict[str, Any]]] = []
        self._ticks: list[tuple[Any, dict[str, Any]]] = []
        self._growing = growing

    def couple_feed(self, feed: Any, cursor: Cursor) -> None:
        """Let a feed stand where the cursor stands; its tick_ attributes follow, read from the bar when asked for."""
        tick = partial(_tick, last=self._growing)
        rows = {f"tick_{name}": row for row, name in enumerate(feed.getlinealiases()) if name != "datetime"}
        ticks = {name: property(tick(row)) for name, row in rows.items()}
        kept = {name: feed.__dict__.pop(name) for name in [*rows, "tick_last"] if name in feed.__dict__}
        self._ticks.append((feed, kept))
        self.couple(feed, cursor, {**ticks, "tick_last": property(tick(0))})

    def couple(self, owner: Any, cursor: Cursor, members: dict[str, Any] | None = None) -> None:
        """Let all lines of a feed, an indicator or a strategy stand where the cursor stands."""
        if isinstance(owner, LineBuffer):
            self._couple_line(owner, cursor)
            return
        for line in owner.lines.lines:
            self._couple_line(line, cursor)
        kind = "growing" if members and self._growing else ""
        self._dress(owner.lines, {"__len__": _length, **(members or {})}, {"_cursor": cursor}, kind)
        named, cls = _unnamed_lines(owner), type(owner)
        if _reads_first_line(cls):
            self._dress(owner, _SERIES, {**named, "_cursor": cursor, "_first": owner.lines.lines[0]})
        else:
            self._dress(owner, {}, named)

    def couple_growing(self, indicator: Any, cursor: Cursor) -> None:
        """Let an indicator that has all its values, and all below it, show those up to where the cursor stands."""
        single = isinstance(indicator, LineBuffer)
        for line in [indicator] if single else indicator.lines.lines:
            self._lines.append((line, type(line)))
            vars(line).update(_cursor=cursor, _values=vars(line).pop("array"))
            line.__class__ = _class(type(line), _GROWING_LINE, "growing line")
        if single:
            return
        self._dress(indicator.lines, {"__len__": _length}, {"_cursor": cursor})
        if _reads_first_line(type(indicator)):
            first = {"_cursor": cursor, "_first": indicator.lines.lines[0]}
            self._dress(indicator, _GROWING_SERIES, {**_unnamed_lines(indicator), **first}, "growing")
        else:
            self._dress(indicator, {}, _unnamed_lines(indicator))
        for child in indicator._lineiterators[Indicator.IndType]:
            self.couple_growing(child, cursor)

    def _couple_line(self, line: Any, cursor: Cursor) -> None:
        self._lines.append((line, type(line)))
        line._cursor = cursor
        line.__class__ = _class(type(line), _LINE, "line")

    def _dress(self, thing: Any, members: dict[str, Any], attributes: dict[str, Any], kind: str = "") -> None:
        self._owners.append((thing, type(thing), attributes))
        vars(thing).update(attributes)
        if members:
            thing.__class__ = _class(type(thing), members, kind)

    def undo(self) -> None:
        """Leave all lines as Backtrader would have left them there."""
        for line, cls in self._lines:
            cursor = line.__dict__.pop("_cursor")
            line.__class__ = cls
            line._idx, line.lencount = cursor.at, cursor.at + 1
            if "_values" in vars(line):
                line.array = vars(line).pop("_values")[: cursor.at + 1]
        for thing, cls, attributes in self._owners:
            thing.__class__ = cls
            for name, value in attributes.items():
                if vars(thing).get(name) is value:
                    del vars(thing)[name]
        for feed, kept in self._ticks:
            _leave_ticks(feed, kept, self._growing)


def _reads_first_line(cls: Any) -> bool:
    own = (cls.__getitem__, cls.__len__)
    return issubclass(cls, Indicator) and own == (LineSeries.__getitem__, LineSeries.__len__)


def _unnamed_lines(owner: Any) -> dict[str, Any]:
    """Return lines by names such as `close`, which an owner finds last, by way of two descriptors."""
    named = zip(owner.lines.getlinealiases(), owner.lines.lines, strict=False)
    return {name: line for name, line in named if name not in vars(owner) and not hasattr(type(owner), name)}


def _tick(row: int, last: bool = False) -> Callable[[Any], Any]:
    def look(lines: Any) -> Any:
        line = lines.lines[row]
        at = line._cursor.at
        if at < 0:
            raise AttributeError("tick")  # there is none before the first bar
        return line.array[at] if last or at + 1 < line.buflen() else None  # none on the last bar either

    return look


def _leave_ticks(feed: Any, kept: dict[str, Any], last: bool) -> None:
    if not len(feed):
        feed.__dict__.update(kept)
        return
    feed._tick_nullify()
    if last or len(feed) < feed.buflen():
        feed._tick_fill()


# --- indicators over all bars at once, as LineIterator._once does


# Each returns whether it did the work; what it leaves is equal, bit by bit, to Backtrader's own loop.
