"""Lines that advance together: one cursor for all lines of a feed and its indicators; hot."""

from __future__ import annotations

import operator
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from backtrader.feed import AbstractDataBase
from backtrader.indicator import Indicator
from backtrader.linebuffer import LineBuffer


class Cursor:
    """
    The position of a group of lines: the index of their current bar, -1 before the first.

    Attributes:
        release: returns growing lines to Backtrader, which then appends the remaining values.
    """

    __slots__ = ("at", "release")

    release: Callable[[], None]

    def __init__(self) -> None:
        self.at = -1

    def step(self) -> None:
        """Advance to the next bar."""
        self.at += 1


# --- lines that read their place from a cursor


def _own_move(_line: Any, _value: Any) -> None:
    raise RuntimeError("a line was moved by hand during a run; run with runonce=False to do so")


# In C, without a Python frame: Backtrader's own methods read these two at each access.
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


def _as_stock(thing: Any, protocol: int) -> Any:
    """Return the Backtrader object as which a line, or the lines of a feed or an indicator, is pickled and copied."""
    reduced: Any = object.__reduce_ex__(thing, max(protocol, 2))
    (_, arguments, state, *more), stock = reduced, type(thing).__base__
    if isinstance(state, dict):
        state = {name: value for name, value in state.items() if name != "_cursor"}
        if isinstance(thing, LineBuffer):
            state |= {"_idx": thing._idx, "lencount": thing.lencount}
            if state.pop("_values", None) is not None:
                state["array"] = thing.array
        ticks = [name for name in vars(type(thing)) if name.startswith("tick_")]
        state |= {name: getattr(thing, name) for name in ticks if hasattr(thing, name)}
    return object.__new__, (stock, *arguments[1:]), state, *more


class _Place:
    """The place from which an indicator reads its values; absent in a copy, whose lines are Backtrader's own."""

    __slots__ = ("array", "cursor")

    def __init__(self, line: Any, cursor: Cursor) -> None:
        self.array, self.cursor = line.array, cursor

    def __reduce__(self) -> Any:
        return type(None), ()


def _indicator_item(indicator: Any, ago: Any) -> Any:
    place = indicator._place_in_run
    return indicator.lines[0][ago] if place is None else place.array[place.cursor.at + ago]


def _length_in_run(thing: Any) -> int:
    place = thing._place_in_run
    return len(thing.lines) if place is None else place.cursor.at + 1


_QUICK: dict[str, Any] = {"__getitem__": _indicator_item, "__len__": _length_in_run}
_STOCK = {base: {name: getattr(base, name) for name in names} for base, names in (
    (Indicator, ("__getitem__", "__len__")), (AbstractDataBase, ("__len__",)),
)}  # fmt: skip
_lock = threading.Lock()  # guards what follows: runs may overlap in threads
_entered: dict[type, tuple[int, list[str]]] = {}  # how many runs use a class, and what was set in it


@contextmanager
def quick_indicators(classes: Iterable[type] = (Indicator,)) -> Iterator[None]:
    """
    Let indicators find value and length in one step instead of three, which is most of the cost of reading; feeds
    their length.

    They keep their classes, which strategies may ask for: it is classes of Backtrader's, and the base of its feeds,
    that have such methods of their own for as long as a lean run lasts. They do the same, for those of other runs too,
    and go with the last run.

    Args:
        classes: Backtrader's, of which the indicators are. To put methods into the base of all indicators takes as
            long as to read a thousand values: Python updates each class below it.
    """
    own = {AbstractDataBase, *classes}
    with _lock:
        for cls in own:
            runs, names = _entered.get(cls) or (0, _make_quick(cls))
            _entered[cls] = runs + 1, names
    try:
        yield
    finally:
        with _lock:
            for cls in own:
                runs, names = _entered.pop(cls)
                if runs > 1:
                    _entered[cls] = runs - 1, names
                    continue
                for name in names:
                    delattr(cls, name)


def _make_quick(cls: Any) -> list[str]:
    """Put quick methods into a class in place of Backtrader's, but not of others; return their names."""
    stock = _STOCK[AbstractDataBase if issubclass(cls, AbstractDataBase) else Indicator]
    names = [name for name, method in stock.items() if getattr(cls, name) is method]
    for name in names:
        setattr(cls, name, _QUICK[name])
    if names:
        cls._place_in_run = None
    return [*names, "_place_in_run"] if names else []


def stock_class(indicator: Any) -> type:
    """Return the class of Backtrader's that an indicator is of."""
    return next(cls for cls in type(indicator).__mro__ if cls.__module__.startswith("backtrader."))


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
    line._cursor.release()  # values derived from this one are not known yet
    line[ago] = value


_LINE = {"_idx": _PLACE, "lencount": _LENGTH, "__getitem__": _line_item, "__len__": _length, "get": _line_get}
_GROWING_LINE = {
    **_LINE,
    "array": property(lambda line: line._values[: line._cursor.at + 1]),
    "__getitem__": _shown_item,
    "get": _shown_get,
    "__setitem__": _put,
    "set": lambda line, value, ago=0: _put(line, ago, value),
}
_CLASSES: dict[tuple[type, str], type] = {}  # one for each of Backtrader's classes, not one per run


def _class(cls: Any, members: dict[str, Any], kind: str) -> Any:
    # Bypasses Backtrader's metaclass: it has to look like the class that it replaces, and must not be registered.
    key = cls, kind
    if key not in _CLASSES:
        named = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
        _CLASSES[key] = type.__new__(type(cls), cls.__name__, (cls,), {**members, **named, "__reduce_ex__": _as_stock})
    return _CLASSES[key]


_READS = ("__getitem__", "__len__", "get", "idx")


def is_plain(line: Any) -> bool:
    """Return whether a line is a growing array that reads and moves as Backtrader's own do."""
    cls = type(line)
    own = cls is not LineBuffer and any(getattr(cls, name) is not getattr(LineBuffer, name) for name in _READS)
    return not own and line.mode == LineBuffer.UnBounded and isinstance(line.array, array)


class Coupling:
    """
    Couples lines to cursors by classes that read their position from one; `undo` reverses it.

    Args:
        growing: whether the run goes bar by bar, so that lines grow, and the last bar has ticks like any other.
    """

    def __init__(self, growing: bool = False) -> None:
        self._lines: list[tuple[Any, Any]] = []
        self._owners: list[tuple[Any, Any, dict[str, Any]]] = []
        self._ticks: list[tuple[Any, dict[str, Any]]] = []
        self._growing = growing
        self.quick = set[type]()  # of the indicators that find their value in one step: see `quick_indicators`

    def couple_feed(self, feed: Any, cursor: Cursor) -> None:
        """Make a feed follow the cursor, with its tick_ attributes, which are read from the bar on access."""
        tick = partial(_tick, last=self._growing)
        rows = {f"tick_{name}": row for row, name in enumerate(feed.getlinealiases()) if name != "datetime"}
        ticks = {name: property(tick(row)) for name, row in rows.items()}
        kept = {name: feed.__dict__.pop(name) for name in [*rows, "tick_last"] if name in feed.__dict__}
        self._ticks.append((feed, kept))
        self.couple(feed, cursor, {**ticks, "tick_last": property(tick(0))})

    def couple(self, owner: Any, cursor: Cursor, members: dict[str, Any] | None = None) -> None:
        """Make all lines of a feed, an indicator or a strategy follow the cursor."""
        if isinstance(owner, LineBuffer):
            self._couple_line(owner, cursor)
            return
        for line in owner.lines.lines:
            self._couple_line(line, cursor)
        kind = "growing" if members and self._growing else ""
        self._dress(owner.lines, {"__len__": _length, **(members or {})}, {"_cursor": cursor}, kind)
        if isinstance(owner, Indicator):
            self.quick.add(stock_class(owner))
        found = isinstance(owner, Indicator | AbstractDataBase)
        place = {"_place_in_run": _Place(owner.lines.lines[0], cursor)} if found else {}
        self._dress(owner, {}, {**_unnamed_lines(owner), **place})

    def couple_growing(self, indicator: Any, cursor: Cursor) -> None:
        """Make an indicator that has all its values, and those below it, show only the values up to the cursor."""
        single = isinstance(indicator, LineBuffer)
        for line in [indicator] if single else indicator.lines.lines:
            self._lines.append((line, type(line)))
            vars(line).update(_cursor=cursor, _values=vars(line).pop("array"))
            line.__class__ = _class(type(line), _GROWING_LINE, "growing line")
        if single:
            return
        self._dress(indicator.lines, {"__len__": _length}, {"_cursor": cursor})
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
        """Leave all lines as Backtrader would have left them at this point."""
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


# --- indicators over all bars at once, as in LineIterator._once


# Each returns whether it did the work; what it leaves is equal, bit by bit, to Backtrader's own loop.
