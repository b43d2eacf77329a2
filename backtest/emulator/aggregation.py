"""When bars start and end: the window that a request means, and larger bars built from smaller ones."""

from __future__ import annotations

import calendar
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np

from backtest.errors import UsageError
from backtest.market import arrays, calendars
from backtest.market.bars import COLUMNS, schema, table_of
from backtest.market.hours import Hours, Session
from backtest.market.series import BarSize, Series
from backtest.market.session_days import session_days
from backtest.market.span import Span

if TYPE_CHECKING:
    import pyarrow as pa

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_LONGEST_CLOSURE = timedelta(days=12)  # days between two sessions; NYSE was closed for six in September 2001
_SESSIONS_A_DAY = 0.5  # fewer than any market has
ONE_KIND_OF_HOURS = ("CASH", "CRYPTO", "IND", "OPT")


@dataclass(frozen=True, slots=True)
class Bucket:
    """The time range whose bars become one bar, and the timestamp of that bar."""

    stamp: datetime
    span: Span


# --- windows


def known_sessions(hours: Hours, since: date, until: date, regular_hours: bool) -> list[Session]:
    """Return the sessions by date, both included; none without a calendar."""
    try:
        return calendars.sessions(hours, since, until, regular_hours)
    except UsageError:
        return []


def sessions_before(hours: Hours, regular_hours: bool, end: datetime, count: int, unit: str) -> list[Session]:
    """Return the sessions within a duration before the end: the last ones for days, otherwise by calendar."""
    start = back(end, count, unit)
    days = _LONGEST_CLOSURE + timedelta(days=count / _SESSIONS_A_DAY)
    first = end - days if unit == "D" else start
    found = known_sessions(hours, (first - _DAY).date(), (end + _DAY).date(), regular_hours)
    opened = [session for session in found if session.open < end]
    return opened[-count:] if unit == "D" else [session for session in opened if session.open >= start]


def window(wanted: Series, hours: Hours, end: datetime, count: int, unit: str) -> Span | None:
    """Return the span of timestamps that a request means, None if it is empty."""
    start = back(end, count, unit)
    if unit == "D":
        last = sessions_before(hours, wanted.regular_hours, end, count, unit)
        start = last[0].open if last else start
    if wanted.size.daily:
        start, end = _day_opened(wanted, hours, start), _day_not_closed(wanted, hours, end)
    return Span(start, end) if start < end else None


def back(end: datetime, count: int, unit: str) -> datetime:
    """Return the time a duration before the end, by clock and calendar, but not before the year 1900."""
    if unit in "SDW":
        return end - count * {"S": timedelta(seconds=1), "D": _DAY, "W": 7 * _DAY}[unit]
    month = end.year * 12 + end.month - 1 - count * (12 if unit == "Y" else 1)
    year, month = max(month // 12, 1900), month % 12 + 1
    return end.replace(year=year, month=month, day=min(end.day, calendar.monthrange(year, month)[1]))


def opening(series: Series, hours: Hours, first: datetime) -> datetime:
    """Return the start of a series' first bar; for daily bars the opening of its session."""
    if not series.size.daily:
        return first
    found = known_sessions(hours, first.date(), first.date(), series.regular_hours)
    return found[0].open if found else first


def _day_opened(wanted: Series, hours: Hours, moment: datetime) -> datetime:
    """Return the stamp of the first session that opens at the moment or later."""
    around = known_sessions(hours, (moment - _DAY).date(), (moment + _LONGEST_CLOSURE).date(), wanted.regular_hours)
    later = [session.day for session in around if session.open >= moment]
    return _midnight(later[0] if later else moment.date())


def _day_not_closed(wanted: Series, hours: Hours, moment: datetime) -> datetime:
    """Return the stamp of the first session that closes after the moment."""
    around = known_sessions(hours, (moment - _DAY).date(), (moment + _LONGEST_CLOSURE).date(), wanted.regular_hours)
    later = [session.day for session in around if session.close > moment]
    return _midnight(later[0] if later else moment.date())


def _midnight(day: date) -> datetime:
    """Return the stamp of a daily bar."""
    return datetime.combine(day, time(), UTC)


# --- buckets


def divides(small: BarSize, large: BarSize) -> bool:
    """Return whether bars of a size can be built from a smaller one, or have that size."""
    if large.seconds > 86_400:
        return small == large or small.period == "session"
    return small.seconds <= large.seconds and large.seconds % small.seconds == 0


def usable_hours(size: BarSize, wanted: Series) -> list[bool]:
    """Return which stored hours of a size can serve the wanted series, the best first."""
    if wanted.instrument.kind in ONE_KIND_OF_HOURS:
        return [wanted.regular_hours, not wanted.regular_hours]
    # Sessions open and close on half hours, so a longer bar lies across the opening.
    return [True, False] if wanted.regular_hours and 1800 % size.seconds == 0 else [wanted.regular_hours]


def session_spans(wanted: Series, hours: Hours, window: Span) -> list[Span]:
    """Return the sessions of a series that overlap the window."""
    found = known_sessions(hours, (window.start - _DAY).date(), (window.end + _DAY).date(), wanted.regular_hours)
    spans = [Span(session.open, session.close) for session in found]
    return [span for span in spans if span.common(window)]


def buckets(wanted: Series, hours: Hours, zone: ZoneInfo, window: Span) -> list[Bucket]:
    """Return the buckets of the wanted bars in the window, in order."""
    margin = timedelta(days=31) if wanted.size.seconds > 86_400 else _DAY
    since, until = (window.start - margin).date(), (window.end + margin).date()
    found = known_sessions(hours, since, until, wanted.regular_hours)
    if wanted.size.seconds > 86_400:
        every = _periods(found, wanted.size)
    elif wanted.size.daily:
        every = (Bucket(_midnight(session.day), Span(session.open, session.close)) for session in found)
    else:
        every = (bucket for session in found for bucket in _of_session(session, wanted.size, zone))
        return [bucket for bucket in every if bucket.stamp in window and bucket.span.end <= window.end]
    return [bucket for bucket in every if bucket.stamp in window]


def cut_buckets(wanted: Series, hours: Hours, zone: ZoneInfo, window: Span) -> list[Bucket]:
    """Return the buckets of the wanted bars; the first and the last have only their part inside the window."""
    found = known_sessions(hours, (window.start - _DAY).date(), (window.end + _DAY).date(), wanted.regular_hours)
    if wanted.size.daily:
        within = [session for session in found if _midnight(session.day) in window]
        return [_bucket_of(days) for days in _grouped(within, wanted.size)]
    parts = (bucket.span.common(window) for session in found for bucket in _of_session(session, wanted.size, zone))
    return [Bucket(part.start, part) for part in parts if part]


def _grouped(found: list[Session], size: BarSize) -> list[list[date]]:
    """Return the dates of the sessions of each week or month, or of each session."""
    keys: dict[str, Callable[[date], Any]] = {
        "week": lambda day: day.isocalendar()[:2], "month": lambda day: (day.year, day.month)
    }  # fmt: skip
    days = [session.day for session in found]
    return [list(group) for _, group in groupby(days, keys.get(size.period))]


def _bucket_of(days: list[date]) -> Bucket:
    return Bucket(_midnight(days[-1]), Span(_midnight(days[0]), _midnight(days[-1]) + _DAY))


def _periods(found: list[Session], size: BarSize) -> Iterator[Bucket]:
    """Yield the weeks or months of the sessions, without the first and last, which may be cut; spans are of dates."""
    for days in _grouped(found, size)[1:-1]:
        yield _bucket_of(days)


def _of_session(session: Session, size: BarSize, zone: ZoneInfo) -> Iterator[Bucket]:
    start = session.open
    while start < session.close:
        end = min(_bar_end(start, size, zone), session.close)
        yield Bucket(start, Span(start, end))
        start = end


def _bar_end(start: datetime, size: BarSize, zone: ZoneInfo) -> datetime:
    """Return the end of a bar that starts at a moment: the next multiple of its size on the zone's clock."""
    local = start.astimezone(zone)
    seconds = local.hour * 3600 + local.minute * 60 + local.second
    if size.seconds > 3600:  # by local time: on days on which clocks change, some bars have an hour more or less
        return (local + timedelta(seconds=size.seconds - seconds % size.seconds)).astimezone(UTC)
    return start + timedelta(seconds=size.seconds - seconds % size.seconds)


def finished(bars: pa.Table, wanted: Series, hours: Hours, zone: ZoneInfo, end: datetime) -> pa.Table:
    """Return the bars without those in progress at the end; daily ones as in the window."""
    count = len(bars)
    while count and not wanted.size.daily and _over(bars["time"][count - 1].as_py(), wanted, hours, zone) > end:
        count -= 1
    return bars.slice(0, count)


def _over(start: datetime, wanted: Series, hours: Hours, zone: ZoneInfo) -> datetime:
    end = _bar_end(start, wanted.size, zone)
    around = known_sessions(hours, (start - _DAY).date(), (start + _DAY).date(), wanted.regular_hours)
    return min([end, *(session.close for session in around if session.open <= start < session.close)])


# --- larger bars from smaller ones


def bars_inside(bars: pa.Table, spans: list[Span]) -> pa.Table:
    """Return the bars that start in one of the spans, which are in order."""
    import pyarrow as pa

    parts = [bars.slice(first, last - first) for first, last in _rows(bars, spans) if last > first]
    return pa.concat_tables(parts) if parts else schema().empty_table()


def merged_bars(bars: pa.Table, found: list[Bucket]) -> pa.Table:
    """Return one bar for each bucket that has bars."""
    columns = {name: bars[name].to_pylist() for name in COLUMNS[1:]}
    rows = _rows(bars, [bucket.span for bucket in found])
    return table_of(
        (bucket.stamp, *_merged({name: column[first:last] for name, column in columns.items()}))
        for bucket, (first, last) in zip(found, rows, strict=True)
        if last > first
    )


def without_dividends(
    bars: pa.Table, series: Series, hours: Hours, closes: pa.Table, paid: Mapping[date, float]
) -> pa.Table:
    """
    Return bars adjusted for dividends: prices before each are multiplied by 1 - amount / close before it.

    Args:
        closes: daily bars of the same series, up to the end of the adjusted bars.
        paid: amounts by ex-date; an amount changes nothing if no bar is before its ex-date, or none is on or after it.
    """
    import pyarrow as pa

    opened = [arrays.numbers(one["time"]).astype("datetime64[us]") for one in (bars, closes)]
    days, known = session_days(opened[0], series, hours), opened[1].astype("datetime64[D]")
    prices, factors = arrays.numbers(closes["close"]), np.ones(len(bars))
    for day, amount in paid.items():
        row = int(np.searchsorted(known, np.datetime64(day)))
        if 0 < row < len(known):
            factors[days < np.datetime64(day)] *= 1 - amount / prices[row - 1]
    for name in ("open", "high", "low", "close", "average"):
        column = pa.array(arrays.numbers(bars[name]) * factors, from_pandas=True)
        bars = bars.set_column(bars.column_names.index(name), bars.schema.field(name), column)
    return bars


def _rows(bars: pa.Table, spans: list[Span]) -> list[tuple[int, int]]:
    import pyarrow as pa

    times: list[int] = bars["time"].cast(pa.int64()).to_pylist()  # far faster than as datetimes
    return [(bisect_left(times, _stamp(span.start)), bisect_left(times, _stamp(span.end))) for span in spans]


def _stamp(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _merged(part: dict[str, list[Any]]) -> tuple[Any, ...]:
    prices = part["open"][0], max(part["high"]), min(part["low"]), part["close"][-1]
    return (
        *prices,
        _total(part["volume"]),
        _average(part["average"], part["volume"]),
        _total(part["trades"]),
    )


def _total(values: list[Any]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _average(averages: list[float | None], volumes: list[float | None]) -> float | None:
    pairs = [(average, volume or 0.0) for average, volume in zip(averages, volumes, strict=True) if average is not None]
    total = sum(volume for _, volume in pairs)
    if not total:
        return sum(average for average, _ in pairs) / len(pairs) if pairs else None
    return sum(average * volume for average, volume in pairs) / total
