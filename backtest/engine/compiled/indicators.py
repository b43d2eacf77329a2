"""`Market`: what all trials share: feeds step by step, and indicators, which Backtrader itself computes."""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache, partial
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
from backtrader.linebuffer import LineBuffer
from backtrader.lineiterator import LineIterator
from backtrader.utils.date import num2date

from backtest.engine.compiled.refusals import NotCompiled
from backtest.engine.lean.clock import FeedClock, feed_stamps
from backtest.engine.lean.indicators import once
from backtest.engine.lean.orders import _session_end

_PRICES = ("open", "high", "low", "close")
_OF_STAMPS = ("stamp", "before")


class Market:
    """
    The feeds of a run, step by step.

    Attributes:
        steps: the number of steps.
        each_step: whether each feed has a bar at each step.
        stamps: the timestamp of each step, in Backtrader's days.
        rows: the row of each feed after each step, -1 before its first; shape (feeds, steps).
    """

    def __init__(self, datas: Sequence[Any]) -> None:
        self.datas = list(datas)
        self._check()
        clock = FeedClock(self.datas)
        self.steps = clock.steps
        self.stamps = np.frombuffer(clock.stamps, count=self.steps).copy() if self.steps else np.zeros(0)
        rows = [clock.row(clock.cursor_of[data]) for data in self.datas]
        self.each_step = all(isinstance(one, slice) for one in rows)  # each feed has a bar at each step
        if self.each_step:  # the same row for all feeds, in memory once
            self.rows = np.broadcast_to(np.arange(self.steps, dtype=np.int64), (len(rows), self.steps))
        else:
            self.rows = np.array([np.arange(self.steps) if isinstance(one, slice) else one for one in rows], np.int64)

    def _check(self) -> None:
        for data in self.datas:
            if data._compensate is not None or getattr(data, "_made_up", None):
                raise NotCompiled(f"the feed {data._name} has bars that replace missing ones, or compensates another")
            if not data.buflen() or not all(
                np.isfinite(np.frombuffer(getattr(data.lines, name).array)).all() for name in _PRICES
            ):
                raise NotCompiled(f"the feed {data._name} has bars without a price")

    def _by_step(self, values: Iterable[np.ndarray], into: np.ndarray | None = None) -> np.ndarray:
        """Return values by step and feed, as an array of their own or in the given one; 0 before a feed's first bar."""
        found, columns = np.empty((self.steps, len(self.datas))) if into is None else into, iter(values)
        for start in range(0, len(self.datas), _LINES):
            part = list(islice(columns, _LINES))
            if not self.each_step:
                rows = self.rows[start : start + _LINES]
                part = [np.where(own < 0, 0.0, one[own]) for one, own in zip(part, rows, strict=True)]
            found[:, start : start + _LINES] = np.array(part).T
        return found

    def columns(self, closes: bool, more: Mapping[str, Sequence[np.ndarray]]) -> MarketColumns:
        """
        Return the columns by step and feed.

        Args:
            closes: whether there are orders at the close, which need session ends.
            more: further columns: the values of the bars of each feed.
        """
        sources: dict[str, Callable[[], Iterator[np.ndarray]]] = {one: partial(self._prices, one) for one in _PRICES}
        sources |= dict(zip(_OF_STAMPS, (self._stamps, self._stamps_before), strict=True))
        sources["ends"] = self._session_ends if closes else self._zeros
        return MarketColumns(self, sources | {name: partial(iter, values) for name, values in more.items()})

    def _prices(self, name: str) -> Iterator[np.ndarray]:
        return (np.frombuffer(getattr(data.lines, name).array)[: data.buflen()] for data in self.datas)

    def _stamps(self) -> Iterator[np.ndarray]:
        return map(feed_stamps, self.datas)

    def _stamps_before(self) -> Iterator[np.ndarray]:
        return (np.concatenate([one[:1], one[:-1]]) for one in self._stamps())

    def _session_ends(self) -> Iterator[np.ndarray]:
        """Yield with which stamp an order at the close ends that is given at a bar."""
        return map(_ends, self.datas)

    def _zeros(self) -> Iterator[np.ndarray]:
        return (np.zeros(data.buflen()) for data in self.datas)

    def clocks(self, lagged: bool) -> np.ndarray:
        """
        Return the rows of all clocks by step: the feeds', and the strategy's.

        Args:
            lagged: whether to include those of the previous step, at which indicators are when a timer goes off.
        """
        count, steps = len(self.rows) + 1, np.arange(self.steps)
        found = np.empty((self.steps, count * (2 if lagged else 1)), np.int64)
        found[:, : count - 1] = steps[:, None] if self.each_step else self.rows.T
        found[:, count - 1] = steps
        if lagged:
            found[:1, count:] = -1
            found[1:, count:] = found[:-1, :count]
        return found

    def tables(
        self, columns: MarketColumns, read: Container[str], lagged: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        Return all columns, shape (columns, steps, feeds), and the rows of clocks, shape (steps, clocks).

        Args:
            read: the names of the columns that are read: the others have room that takes no memory, and no values.
        """
        found = np.empty((len(columns), self.steps, len(self.datas)))
        for name, into in zip(columns, found, strict=True):
            if name in read:
                columns.lay_out(name, into)
        return found, self.clocks(lagged)

    def now(self, columns: Mapping[str, np.ndarray], lagged: bool = False) -> SimpleNamespace:
        """Return the stand-in for the current step; `move` sets it."""
        now = SimpleNamespace(step=-1, reads=0, writes=0)
        now.columns = [(name, f"{name}_all", values) for name, values in columns.items()]
        now.by_step, now.until = self.clocks(lagged), 0
        return now

    def phases(self, minimums: Sequence[int]) -> tuple[int, int]:
        """Return for how many steps the longest minimum period is not reached, and for how many it is just reached."""
        if self.each_step:
            status = max(minimums) - 1 - self.rows[0]
        else:
            status = np.max([least - 1 - rows for least, rows in zip(minimums, self.rows, strict=True)], axis=0)
        return int((status > 0).sum()), int((status == 0).sum())


class MarketColumns(Mapping[str, np.ndarray]):
    """
    The columns of a market by step and feed, each of which is made when it is first read.

    Args:
        sources: for each column what yields the values of the bars of each feed.
    """

    def __init__(self, market: Market, sources: Mapping[str, Callable[[], Iterator[np.ndarray]]]) -> None:
        self._market, self._sources, self._made = market, sources, dict[str, np.ndarray]()

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._made:
            self._made[name] = self._market._by_step(self._sources[name]())
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def lay_out(self, name: str, into: np.ndarray) -> None:
        """Write a column into an array, and keep no other one of it."""
        if self._market.each_step and name in _OF_STAMPS:  # the same for all feeds
            into[:] = next(self._sources[name]())[:, None]
        else:
            self._market._by_step(self._sources[name](), into)


def rings_of(timers: Sequence[Any], market: Market) -> np.ndarray:
    """Return at which steps each of some timers rings, shape (timers, steps); feeds are moved for it, and back."""
    datas, rung = market.datas, np.zeros((len(timers), market.steps), bool)
    for timer in timers:
        timer.start(datas[0])
    moves = np.diff(market.rows, axis=1, prepend=-1)
    for step, stamp in enumerate(market.stamps.tolist()):
        for data in (datas[n] for n in np.flatnonzero(moves[:, step]).tolist()):
            data.advance()
        for number, timer in enumerate(timers):
            rung[number, step] = timer.check(stamp)
    for data in datas:
        data.home()
    return rung


def move(now: SimpleNamespace, step: int) -> None:
    """Let the present step be another."""
    if step >= now.until:  # as numbers of Python's, which are many times as large, a part at a time
        now.since, now.until = step, step + _LISTED
        now.listed = [(name, values[step : now.until].tolist()) for name, _, values in now.columns]
        now.rows_listed = now.by_step[step : now.until].tolist()
    now.step = step
    at = step - now.since
    for name, listed in now.listed:
        setattr(now, name, listed[at])
    for _, name_all, values in now.columns:
        setattr(now, name_all, values[step])
    now.rows = now.at = now.rows_listed[at]
    now.at_all = now.by_step[step]


_LISTED = 1024  # steps
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - Backtrader's times are naive
_MICROSECOND = timedelta(microseconds=1)
_PARTS: dict[str, Callable[[datetime], int]] = {
    "date": lambda moment: moment.toordinal(),
    "moment": lambda moment: (moment - _EPOCH) // _MICROSECOND,
    "clock": lambda moment: (moment - datetime.combine(moment, time())) // _MICROSECOND,
    "year": lambda moment: moment.year,
    "month": lambda moment: moment.month,
    "day": lambda moment: moment.day,
    "hour": lambda moment: moment.hour,
    "minute": lambda moment: moment.minute,
    "second": lambda moment: moment.second,
    "weekday": lambda moment: moment.weekday(),
    "isoweekday": lambda moment: moment.isoweekday(),
    "week": lambda moment: moment.isocalendar()[1],
}


def moment_number(value: Any, kind: str) -> int:
    """Return the whole number that represents a date, a datetime or a time of day."""
    if kind == "date":
        return int(value.toordinal())
    return _PARTS[kind](value if kind == "moment" else datetime.combine(date.min, value))


class MomentLine:
    """A part of the times of a line of timestamps, such as the month, as whole numbers; it behaves like a line."""

    def __init__(self, stamps: np.ndarray, zone: Any, part: str) -> None:
        self.array = _parts_of_moments(stamps.tobytes(), zone, part)


@lru_cache(maxsize=8)  # a program that is translated again reads the same times
def _parts_of_moments(stamps: bytes, zone: Any, part: str) -> np.ndarray:
    of = _PARTS[part]
    found = np.array([of(num2date(one, tz=zone, naive=True)) for one in np.frombuffer(stamps).tolist()], float)
    found.flags.writeable = False
    return found


class OwnLine:
    """The timestamps of a strategy, as numbers; it behaves like a line."""

    def __init__(self, stamps: np.ndarray) -> None:
        self.array = stamps


class ValidLine:
    """
    The time until which an order submitted at a bar is valid, in Backtrader's days; it behaves like a line.

    Args:
        stamps: the timestamps of the bars.
        kind: "date" or "moment": which of the bar's times it is.
        more: the duration added to it.
        data: the feed of the order, whose time zone applies.
    """

    def __init__(self, stamps: np.ndarray, zone: Any, kind: str, more: timedelta, data: Any) -> None:
        every = (num2date(one, tz=zone, naive=True) for one in stamps.tolist())
        self.array = np.array([data.date2num((one.date() if kind == "date" else one) + more) for one in every], float)


def _ends(data: Any) -> np.ndarray:
    if getattr(data, "_session_hours", None) is not None:
        times = data._session_times()
        ends = [times.ends[min(bisect_right(times.lasts, one), len(times.ends) - 1)] for one in feed_stamps(data)]
        return np.array(ends)
    known: dict[Any, Any] = {}
    return np.array([_session_end(data, one, known) for one in feed_stamps(data).tolist()])


def reckon(indicators: Sequence[Any]) -> set[int]:
    """Let Backtrader compute indicators, in the order of their creation; return the ids of those that fail."""
    failed: set[int] = set()
    for one in indicators:
        try:
            once(one, sparing=True)
        except Exception:  # noqa: BLE001 - of whose trials the event engine says what it is
            failed.add(id(one))
    return failed


@dataclass(frozen=True, slots=True)
class Pairs:
    """
    Operations on two lines that are computed where they are read, bar by bar: they have no values of their own.

    Attributes:
        sign: of the operation, the same for all.
        lefts, rights: values of their lines.
        begins: the first bar at which each has a value.
    """

    sign: str
    lefts: list[np.ndarray]
    rights: list[np.ndarray]
    begins: list[int]


_SIGNS: dict[Any, str] = {
    operator.__add__: "+", operator.__sub__: "-", operator.__mul__: "*", operator.__lt__: "<", operator.__gt__: ">",
    operator.__le__: "<=", operator.__ge__: ">=", operator.__eq__: "==", operator.__ne__: "!=",
}  # fmt: skip


def never_raises(operation: Any, bars: int) -> bool:
    """Return whether an operation is one of two lines that `Pairs` may be made of, over so many bars."""
    lines = isinstance(operation.a, LineBuffer) and isinstance(operation.b, LineBuffer)
    return lines and operation.operation in _SIGNS and operation._minperiod <= bars


def pairs_of(operations: Sequence[Any]) -> Pairs | None:
    """Return operations without values as pairs; None where their signs or lengths differ."""
    sign, begins = operations[0].operation, [one._minperiod - 1 for one in operations]
    lefts, rights = ([np.frombuffer(line.array) for line in lines]
                     for lines in zip(*((one.a, one.b) for one in operations), strict=True))  # fmt: skip
    if any(one.operation is not sign for one in operations) or len({*map(len, lefts), *map(len, rights)}) > 1:
        return None
    return Pairs(_SIGNS[sign], lefts, rights, begins)


def bytes_of_indicators(indicators: Sequence[Any], bars: int) -> int:
    """Return how much memory the lines of indicators take over so many bars, once they are computed: see `reckon`."""
    found = 0
    for one in indicators:
        found += 8 * bars * (1 if isinstance(one, LineBuffer) else len(one.lines.lines))
        if not isinstance(one, LineBuffer) and not type(one).__module__.startswith("backtrader."):
            found += bytes_of_indicators(one._lineiterators[LineIterator.IndType], bars)
    return found


def release(indicators: Sequence[Any]) -> None:
    """Release the values of indicators: Backtrader's objects refer to each other, and stay until they are collected."""
    for one in indicators:
        for line in [one] if isinstance(one, LineBuffer) else one.lines.lines:
            line.array = line.array[:0]
        if not isinstance(one, LineBuffer):
            release(one._lineiterators[LineIterator.IndType])


def values_of_lines(lines: Sequence[Any]) -> list[np.ndarray]:
    """Return the values of lines that move together, unchanged."""
    bars = min(len(line.array) for line in lines)
    return [np.frombuffer(line.array)[:bars] for line in lines]


def rows_of_lines(lines: Sequence[Any]) -> np.ndarray:
    """Return the values of lines that move together, shape (lines, bars), laid out bar by bar."""
    values = values_of_lines(lines)
    found = np.empty((len(values[0]), len(lines)))
    for start in range(0, len(lines), _LINES):
        found[:, start : start + _LINES] = np.array(values[start : start + _LINES]).T
    return found.T


_LINES = 16  # lines of which steps are made at a time, which a processor's cache holds better than all


def owners_of(indicators: Sequence[Any]) -> dict[int, Any]:
    """Return the indicator of each line, by the line's id."""
    found: dict[int, Any] = {}
    for one in indicators:
        if not isinstance(one, LineBuffer):
            found.update({id(line): one for line in one.lines.lines})
    return found
