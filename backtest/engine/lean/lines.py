"""Lines that move together: one cursor for all lines of a feed and its indicators; hot."""

from __future__ import annotations

import operator
from array import array
from collections.abc import Callable
from typing import Any

from backtrader.indicator import Indicator
from backtrader.linebuffer import LineBuffer
from backtrader.lineseries import LineSeries


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
        rows = {f"tick_{name}": row for row, name in enumerate(feed.getlinealiases()) if name != "datetime"}
        ticks = {name: property(_tick(row)) for name, row in rows.items()}
        kept = {name: feed.__dict__.pop(name) for name in [*rows, "tick_last"] if name in feed.__dict__}
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

    def undo(self) -> None:
        """Leave all lines as Backtrader would have left them there."""
        for line, cls in self._lines:
            cursor = line.__dict__.pop("_cursor")
            line.__class__ = cls
            line._idx, line.lencount = cursor.at, cursor.at + 1
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


# Each returns whether it did the work; what it leaves is equal, bit by bit, to Backtrader's own loop.
