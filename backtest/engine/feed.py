"""`replay`: stored bars in Backtrader's lines, in bulk, without a line of Python per bar."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from datetime import date, time
from functools import cache
from types import new_class
from typing import TYPE_CHECKING, Any, NoReturn

import backtrader as bt
import numpy as np

from backtest import _arguments
from backtest._suggest import there_are
from backtest.engine.sessions import SessionTimes
from backtest.errors import NoBars, UsageError
from backtest.market import arrays
from backtest.market.bars import schema
from backtest.market.calendars import exact
from backtest.market.extra import problem_of
from backtest.market.series import BarSize, Series, series_of
from backtest.market.session_days import sessions_around

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.market.hours import Hours

SESSION_END = time(23, 59, 59, 999990)  # Backtrader's own end of a day
_DAY = 86_400_000_000  # microseconds
_BLOCK = 2**15  # bars whose timestamps are computed at once: as many as fit into the processor's cache
_RELEASED = 2**17  # bars of feeds of one length after which freed memory is released, once there are many bars
_EPOCH = 719_163  # 1970-01-01 as Backtrader counts days
_MILLISECOND = 1 / 86_400_000  # more than stamps are rounded by
_PREFIX = "ArrowFeed["  # of the name of a class with extra lines, then these
_OWN_LINES = len(bt.feed.DataBase.lines.getlinealiases())
_MADE_OF_BARS = (bt.resamplerfilter.Resampler, bt.resamplerfilter.Replayer)
_FRAMES = {"session": bt.TimeFrame.Days, "week": bt.TimeFrame.Weeks, "month": bt.TimeFrame.Months}


class ArrowFeed(bt.feed.DataBase):
    """
    A Backtrader data feed over a table of bars; `replay` makes one.

    Timestamps are those of the bar's close: Backtrader must not show a bar before it is complete. Times are in UTC; a
    missing volume is NaN, open interest is 0. A feed for a `single` run frees the table once it is loaded.
    """

    params = (("size", None), ("single", False))
    # In a run: for intraday bars the sessions by which orders end, and the times of bars that replace missing ones.
    # Underscored, as an extra column may have any other name.
    _session_hours: tuple[Series, Hours] | None = None
    _made_up: frozenset[float] = frozenset()
    _at_small: int = -1  # the place of the small bar that it has for now, -1 for its own: see `markets.small_bars`
    _belongs: list[float] | None = None  # to the universe of the run, if there is one: see `markets.membership`
    _known_times: SessionTimes | None = None
    _id: int = 1  # Backtrader's number of a feed of a Cerebro, from 1
    _ready: dict[str, Any] | None = None  # the values of lines by name, where many runs read the same bars

    def start(self) -> None:
        """Move the cursor before the first bar."""
        super().start()
        self._columns: dict[str, np.ndarray] = {}
        self._next_row = 0

    def preload(self) -> None:
        """Fill the lines at once, or bar by bar if filters or a time zone may change bars."""
        if self._filters or self._tzinput is not None:
            super().preload()
            return
        rows, every = self._rows_in_range(), len(self.p.dataname)
        whole = rows == slice(0, every)
        bars = self.p.dataname if whole else self.p.dataname.slice(rows.start, rows.stop - rows.start)
        names, count = self.lines.getlinealiases(), len(bars)
        many = self.p.single and count >= arrays.MANY
        if self.p.single:
            self.p.dataname = self._dataname = ()  # Backtrader keeps it in both
        for line, name in zip(self.lines, names, strict=True):
            fresh = self._values_of(bars, name, whole)
            fresh.extend(line.array)  # the slots that extend() reserved
            line.array = fresh
            if many and name != "openinterest":  # no column is kept beside the line that has its values
                bars = bars.drop_columns(["time" if name == "datetime" else name])
                arrays.release_memory()
        del bars
        if self.p.single and _is_release_due(self._id * count, count):
            arrays.release_memory()
        self._next_row = every  # a load() after this finds nothing more
        self.forward_to_end(count)
        self._last()
        self.home()

    def _forget(self) -> None:
        """Release the lines that nothing reads after a single run."""
        for name in ("volume", "openinterest") if self.p.single else ():
            getattr(self.lines, name).array = array("d")

    def _values_of(self, bars: pa.Table, name: str, whole: bool) -> Any:
        """Return a copy of the values of a line in the bars."""
        ready = self._ready if whole else None
        if ready is not None and name in ready:
            return ready[name][:]
        fresh = array("d")
        for part in _parts(bars, name, self.p.size):  # copies of the columns, not of the whole table
            fresh.frombytes(part.data.cast("B"))
        if ready is not None:
            ready[name] = fresh[:]
        return fresh

    def forward_to_end(self, count: int) -> None:
        """Leave the cursor where loading bar by bar would leave it."""
        for line in self.lines:
            line.advance(count)

    def _session_times(self) -> SessionTimes:
        """Return the sessions of the bars, of a feed that has `_session_hours`."""
        if self._known_times is None:
            assert self._session_hours is not None
            stamps = np.frombuffer(self.lines.datetime.array)[: self.buflen()]
            real = stamps[np.isin(stamps, list(self._made_up), invert=True)] if self._made_up else stamps
            self._known_times = _session_times(real, *self._session_hours, filled=bool(self._made_up))
        return self._known_times

    def addfilter(self, p: Any, *args: Any, **kwargs: Any) -> None:
        """
        Add a filter as Backtrader does.

        Raises:
            UsageError: the filter builds new bars, and the feed has extra lines, which Backtrader would leave empty.
        """
        extra = self.lines.getlinealiases()[_OWN_LINES:]
        if extra and isinstance(p, type) and issubclass(p, _MADE_OF_BARS):
            raise UsageError(
                f"Backtrader cannot resample or replay {', '.join(extra)}, which are extra columns: it would leave "
                "these lines empty; read the bars without them, table.select(table.column_names[:8]), or import bars "
                "of that size with columns of their own"
            )
        super().addfilter(p, *args, **kwargs)

    def _rows_in_range(self) -> slice:
        # As load() does: skip bars before fromdate, stop at the first one after todate.
        if (self.fromdate, self.todate) == (float("-inf"), float("inf")):
            return slice(0, len(self.p.dataname))
        stamps = close_stamps(self.p.dataname, self.p.size)
        first = int(np.searchsorted(stamps, self.fromdate, side="left"))
        return slice(first, max(first, int(np.searchsorted(stamps, self.todate, side="right"))))

    def _load(self) -> bool:
        row, bars = self._next_row, self.p.dataname
        if row >= len(bars):
            return False
        if not row:
            names = self.lines.getlinealiases()
            self._columns = {name: np.concatenate([*_parts(bars, name, self.p.size)]) for name in names}
        for line, name in zip(self.lines, self.lines.getlinealiases(), strict=True):
            line[0] = self._columns[name][row]
        self._next_row = row + 1
        return True


def _is_release_due(bars: int, new: int) -> bool:
    """Return whether to release freed memory after so many bars; of few, the run's own arrays take it next."""
    return bars >= arrays.MANY and bars // _RELEASED > (bars - new) // _RELEASED


class _NoLine(AttributeError):
    """A feed has no line of this name; the text is built only if it is read: some code only checks for the line."""

    def __init__(self, name: str, lines: tuple[str, ...]) -> None:
        super().__init__(name, lines)

    def __str__(self) -> str:
        name, lines = self.args
        return f"a feed has no line {name!r}; import a column of a file with --extra, or {there_are(name, lines)}"


def _refuse_line(lines: Any, name: str) -> NoReturn:
    """Raise the error about a missing line; Python calls this when it has found no attribute."""
    if name.startswith("_"):
        raise AttributeError(name)
    raise _NoLine(name, lines.getlinealiases())


ArrowFeed.lines.__getattr__ = _refuse_line  # Backtrader's class of the lines, which a feed asks last


def replay(bars: pa.Table, series: Series | str, **params: Any) -> ArrowFeed:
    """
    Return a Backtrader feed of the bars, usable in any Cerebro.

    An extra column becomes a line of its name, as if added to `PandasData` by `lines` and `params`: `data.signal[0]`,
    NaN for null.

    Args:
        bars: columns as in `bars.schema()`, then extra ones, as `Store.read` returns them.
        series: the series of the bars; it gives the feed its name, time frame and compression.
        params: Backtrader's own feed parameters, such as `fromdate`, `tz`, `sessionend`.

    Raises:
        NoBars: the table is empty.
        UsageError: an extra column cannot be a line by its name or its values, or Backtrader refuses a parameter.
    """
    import pyarrow as pa

    known = series_of(series)
    _arguments.instance(bars, "bars", pa.Table, "write a table of bars, such as Store.read returns")
    there = bars.column_names  # which Arrow lists anew each time
    if missing := [name for name in schema().names if name not in there]:
        raise UsageError(f"the bars have no column {', '.join(missing)}; write a table such as Store.read returns")
    if not len(bars):
        raise NoBars(f"there are no bars of {known.short} to replay; download them, or name a longer span")
    if "name" in params or "dataname" in params:
        raise UsageError("replay sets the feed's name and data itself; leave out name and dataname")
    extra = _extra_lines(bars)
    table = _with_lines(bars, extra)
    frame, compression = _timeframe(known.size)
    params = {"timeframe": frame, "compression": compression, **params}
    try:
        return _class(extra)(dataname=table, size=known.size, name=known.short, **params)
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"a feed of Backtrader does not take these parameters ({error}); see bt.feed.DataBase"
        ) from error


def __getattr__(name: str) -> type[ArrowFeed]:
    # The class of a pickled feed with extra lines may not exist in this process yet.
    if name.startswith(_PREFIX) and name.endswith("]"):
        return _class(tuple(name[len(_PREFIX) : -1].split(",")))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache  # Backtrader keeps each class for good, so there is one for the same lines
def _class(extra: tuple[str, ...]) -> type[ArrowFeed]:
    """Return the class of feeds with these extra lines; a line is made by a class in Backtrader."""
    if not extra:
        return ArrowFeed
    body = {"lines": extra, "__module__": __name__, "__doc__": ArrowFeed.__doc__}
    name = f"{_PREFIX}{','.join(extra)}]"
    return new_class(name, (ArrowFeed,), exec_body=lambda namespace: namespace.update(body))


def _extra_lines(bars: pa.Table) -> tuple[str, ...]:
    """Return the columns that become lines of their names, without an index that pandas wrote."""
    ours = schema().names
    extra = tuple(name for name in bars.column_names if name not in ours and not name.startswith("__index_level_"))
    if problem := problem_of(extra):
        raise UsageError(problem)
    return extra


def _with_lines(bars: pa.Table, extra: tuple[str, ...]) -> pa.Table:
    """Return the bars with the extra columns as float64."""
    import pyarrow as pa

    for name in extra:
        if bars[name].type == pa.float64():
            continue
        place = bars.column_names.index(name)
        try:
            bars = bars.set_column(place, name, bars[name].cast(pa.float64()))
        except pa.ArrowException as error:
            raise UsageError(f"the extra column {name!r} is not numeric ({error}); leave it out") from error
    return bars


def close_stamps(bars: pa.Table, size: BarSize) -> np.ndarray:
    """
    Return when each bar is complete, as Backtrader's numbers (days since 0001-01-01, UTC).

    For an intraday bar that is its opening plus its size, for a daily or longer bar the end of the day of its
    timestamp.
    """
    return np.concatenate([*_parts(bars, "datetime", size)])


def _parts(bars: pa.Table, name: str, size: BarSize) -> Iterator[np.ndarray]:
    """Yield the values of a line chunk by chunk: a stored series has many, which need not be joined."""
    if not len(bars):
        return
    if name == "openinterest":
        yield np.zeros(len(bars))
        return
    for chunk in bars["time" if name == "datetime" else name].chunks:
        if not len(chunk):
            continue
        values = arrays.numbers(chunk)
        yield _closing(values, size) if name == "datetime" else values


def _closing(opened: np.ndarray, size: BarSize) -> np.ndarray:
    """Return the stamps of bars by their openings; those computed last if they have the same, as most feeds do."""
    global _stamped
    if len(opened) > _BLOCK:
        return _closing_stamps(opened, size)
    known_size, known, numbers = _stamped
    if known_size != size or not np.array_equal(known, opened):
        numbers = _closing_stamps(opened, size)
        numbers.flags.writeable = False
        _stamped = size, opened.copy(), numbers
    return numbers


_stamped: tuple[BarSize | None, np.ndarray, np.ndarray] = None, np.zeros(0, np.int64), np.zeros(0)


def _closing_stamps(opened: np.ndarray, size: BarSize) -> np.ndarray:
    lasts = ((SESSION_END.hour * 60 + 59) * 60 + 59) * 1_000_000 + SESSION_END.microsecond
    numbers = np.empty(len(opened))
    for start in range(0, len(opened), _BLOCK):
        _days(opened[start : start + _BLOCK] + (lasts if size.daily else size.seconds * 1_000_000), numbers[start:])
    return numbers


def _days(microseconds: np.ndarray, numbers: np.ndarray) -> None:
    # In floats, which is a third of the time of // and % and as exact: microseconds are below 2**53, and the last of
    # a day is further from the next than a quotient of up to 2**17 days is rounded.
    moments = microseconds.astype(float)
    days = np.floor(moments / _DAY)
    np.add(_EPOCH + days, (moments - days * _DAY) / _DAY, out=numbers[: len(days)])


def _session_times(stamps: np.ndarray, series: Series, hours: Hours, filled: bool) -> SessionTimes:
    """Return the sessions of bars; in a forward-filled feed they end with the last real bar."""
    edges = np.round((stamps[[0, -1]] - _EPOCH) * 86_400).astype("datetime64[s]")
    known = sessions_around(edges[0], edges[1], series, hours)
    over = _stamps_of(known.ends + np.timedelta64(series.size.seconds, "s")) - _MILLISECOND
    counts = np.searchsorted(stamps, over)  # bars up to each session's end
    having = np.flatnonzero(np.diff(counts, prepend=0))
    lasts, opens, closes = stamps[counts[having] - 1], _stamps_of(known.opens[having]), _stamps_of(known.closes[having])
    if not exact(hours):
        closes -= _idle_time(closes, lasts)
    ends = np.where(closes > lasts + _MILLISECOND, closes, lasts)
    if filled:
        ends[:-1] = lasts[:-1]
    days = known.days[having].astype(date).tolist()
    return SessionTimes(days, opens.tolist(), lasts.tolist(), ends.tolist())


def _idle_time(closes: np.ndarray, lasts: np.ndarray) -> float:
    """Return the time, in days, between the last bars and the close of a calendar with approximate hours."""
    known = (closes - lasts)[:-1]  # the bars may end within the last session
    return max(float(np.median(known)), 0.0) if len(known) else 0.0


def _stamps_of(moments: np.ndarray) -> np.ndarray:
    numbers = np.empty(len(moments))
    _days(moments.astype("datetime64[us]").astype(np.int64), numbers)
    return numbers


def _timeframe(size: BarSize) -> tuple[int, int]:
    if size.period:
        return _FRAMES[size.period], 1
    if size.seconds % 60:
        return bt.TimeFrame.Seconds, size.seconds
    return bt.TimeFrame.Minutes, size.seconds // 60
