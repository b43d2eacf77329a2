"""The sessions in which an instrument trades: holidays, half-days, daylight saving, 24x5 weeks."""

from __future__ import annotations

import contextlib
from bisect import bisect_left, bisect_right
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache, lru_cache
from itertools import repeat
from typing import TYPE_CHECKING, Any

from backtest.errors import UsageError
from backtest.market.hours import ALWAYS, EXCHANGES, FOREX, FUTURES, Hours, Session
from backtest.market.series import Series
from backtest.market.span import Sessions, Span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backtest.market.hours import StatedHours
    from backtest.market.series import BarSize

_ROUGH = (FOREX, ALWAYS, *FUTURES)  # of them holidays and daily breaks are not known
_PERIODS_A_YEAR = {FOREX: 260.0, ALWAYS: 365.0}  # sessions a year
_EXTENDED = (time(4), time(20))  # US stocks outside regular hours, New York time
_AFTER_THE_CLOSE = timedelta(minutes=30)
_DAY, _SECOND = timedelta(days=1), timedelta(seconds=1)
_SINCE = ("1990-01-01", "1997-01-01")  # as far back as a calendar goes: Tokyo's begins in 1997
_FIRST, _LAST = date(1900, 1, 1), date(2100, 1, 1)  # of a span that is open at an end


def time_zone(hours: Hours) -> str:
    """
    Return the IANA time zone in which the sessions are defined.

    Raises:
        UsageError: no calendar is known.
    """
    if not hours.zone:
        raise _no_calendar(hours)
    return hours.zone


def sessions_a_year(hours: Hours) -> float:
    """
    Return the sessions a year as version 0.1.0 reckoned them, which is hashed: 252, forex 260, crypto 365.

    252 also where no calendar is known. What figures are annualised by is `periods.periods_of`.
    """
    return _PERIODS_A_YEAR.get(hours.calendar, 252.0)


def exact(hours: Hours) -> bool:
    """Return whether the sessions are known to the minute; hours of forex and futures only roughly."""
    return hours.calendar not in ("", *_ROUGH) and not hours.own


def sessions(hours: Hours, since: date, until: date, regular_hours: bool = True) -> list[Session]:
    """
    Return the sessions known by the dates from `since` to `until`, both included, in order.

    Raises:
        UsageError: no calendar is known, and some of the dates are not stated either.
    """
    stated = [one for one in hours.stated if one.regular_hours == regular_hours]
    found = _of_calendar(hours, since, until, regular_hours, stated)
    for one in stated:
        kept = [session for session in found if not one.since <= session.day <= one.until]
        found = sorted([*kept, *(session for session in one.sessions if since <= session.day <= until)], key=_day)
    return found


def span_of_sessions(series: Series, hours: Hours, since: date, until: date) -> Span:
    """
    Return the span of the stamps of a series' bars in the sessions from `since` to `until`, both included.

    Daily and longer bars are stamped with dates, so theirs is a span of dates; for shorter ones it runs from the
    opening of the first session to the close of the last.

    Raises:
        UsageError: the dates are the wrong way round, or no session lies between them.
    """
    dates = Span.of_dates(since, min(until, max(since, _LAST)))
    if series.size.daily:
        return dates
    found = sessions(hours, max(since, _FIRST), min(until, _LAST), series.regular_hours)
    if not found:
        raise UsageError(f"{series.instrument} has no session from {since} to {until}; name a longer time")
    return Span(found[0].open, found[-1].close + after_the_close(series, hours))


def after_the_close(series: Series, hours: Hours) -> timedelta:
    """
    Return how long after the close of its session a series may have bars.

    Of the closing auctions of stocks, which are over within half an hour; New York's is at the close. Options on
    indices, and some indices, trade there until 16:15.
    """
    listed = series.regular_hours and exact(hours)
    auction = hours.calendar != "XNYS" or series.instrument.kind in ("OPT", "IND", "CFD")
    return _AFTER_THE_CLOSE if listed and auction and not series.size.daily else timedelta()


def span_asked(series: Series, hours: Hours, asked: Span | Sessions | None) -> Span | None:
    """
    Return the span of the stamps of a series' bars that `span.asked_span` means; None for all.

    Raises:
        UsageError: no session lies between the dates.
    """
    if asked is None or isinstance(asked, Span):
        return asked
    since, until = asked
    if since is None and until is None:
        return None
    return span_of_sessions(series, hours, since or _FIRST, until or _LAST)


def bar_start(series: Series, hours: Hours, moment: datetime) -> datetime:
    """
    Return when the bar of a series that a moment lies in starts, were its session open all the time.

    A week starts on its Monday, a month on its first, both as dates; shorter bars lie on the clock of the exchange,
    with its daylight saving, from midnight on; where its zone is not known, on that of UTC.
    """
    return _bar_around(series.size, "" if series.size.daily else hours.zone, moment)[0]


def utc_offset(hours: Hours, moment: datetime) -> float:
    """Return how far the clock of the exchange is ahead of UTC then, in seconds."""
    offset = moment.astimezone(_zone_of(hours.zone)).utcoffset()
    return offset.total_seconds() if offset else 0.0


def whole_bars(series: Series, hours: Hours, span: Span) -> Span:
    """Return the span, widened to whole bars where an end lies inside of one: a bar is there or not, never cut."""
    if series.size.daily:
        (start, _), (last, end) = (_bar_around(series.size, "", moment) for moment in (span.start, span.end))
        return Span(start, end if last < span.end else span.end)
    first, after = (_inside(series, hours, moment) for moment in (span.start, span.end))
    return Span(first.start if first else span.start, after.end if after else span.end)


def _inside(series: Series, hours: Hours, moment: datetime) -> Span | None:
    """Return the bar that a moment lies inside of, as its session cuts it; None between two bars and out of session."""
    start, end = _bar_around(series.size, hours.zone, moment)
    if start == moment:
        return None
    try:
        near = sessions(hours, (moment - _DAY).date(), (moment + _DAY).date(), series.regular_hours)
    except UsageError:
        return Span(start, end)
    around = [one for one in near if one.open < moment < one.close]
    return Span(max(start, around[0].open), min(end, around[0].close)) if around else None


def _bar_around(size: BarSize, zone: str, moment: datetime) -> tuple[datetime, datetime]:
    """Return when the bar that a moment lies in starts and ends, by the clock and the calendar of a zone alone."""
    where = _zone_of(zone)
    local = moment.astimezone(where)
    day = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    if size.period == "month":
        start = day.replace(day=1)
        end = (start + 31 * _DAY).replace(day=1)
    elif size.period:
        start = day - (day.weekday() * _DAY if size.period == "week" else 0 * _DAY)
        end = start + size.seconds * _SECOND
    else:
        since = local.hour * 3600 + local.minute * 60 + local.second
        start = day + since // size.seconds * size.seconds * _SECOND
        end = start + size.seconds * _SECOND
        start, end = start.replace(fold=local.fold), end.replace(fold=local.fold)
    return start.replace(tzinfo=where).astimezone(UTC), end.replace(tzinfo=where).astimezone(UTC)


def _of_calendar(
    hours: Hours, since: date, until: date, regular_hours: bool, stated: Sequence[StatedHours]
) -> list[Session]:
    if hours.calendar in (FOREX, ALWAYS):
        return list(_round_the_clock(hours.calendar, since, until))
    if hours.own:
        return list(_whole_days(hours, since, until))
    if hours.calendar:
        return _listed_sessions(hours, since, until, regular_hours)
    if not stated or Span.of_dates(since, until).minus(Span.of_dates(one.since, one.until) for one in stated):
        raise _no_calendar(hours)
    return []


def _no_calendar(hours: Hours) -> UsageError:
    return UsageError(f"no calendar is known for {hours.unknown}; known are {', '.join(EXCHANGES)}")


def _whole_days(hours: Hours, since: date, until: date) -> Iterator[Session]:
    """
    Yield a session from midnight to midnight of the exchange for each date on which it may be open.

    It holds whatever a product trades that day, and midnight is no middle of a bar.
    """
    free = (5,) if hours.calendar == "XTAE" else (5, 6)  # weekdays; Tel Aviv traded on Sundays, and now does on Fridays
    for number in range((until - since).days + 1):
        day = since + number * _DAY
        if day.weekday() not in free:
            yield _whole_day(hours, day)


def _whole_day(hours: Hours, day: date) -> Session:
    zone = _zone_of(hours.zone)
    start, end = (datetime.combine(one, time(), zone).astimezone(UTC) for one in (day, day + _DAY))
    return Session(day, start, end)


def _listed_sessions(hours: Hours, since: date, until: date, regular_hours: bool) -> list[Session]:
    name = hours.calendar
    every = _every_session(name)
    found = every[bisect_left(every, since, key=_day) : bisect_right(every, until, key=_day)]
    if regular_hours or name in FUTURES:
        return found
    # Only of New York it is known when trade outside of regular hours begins and ends.
    return [_extended(session) if name == "XNYS" else _whole_day(hours, session.day) for session in found]


def _day(session: Session) -> date:
    return session.day


@lru_cache
def _every_session(name: str) -> list[Session]:
    schedule = _calendar(name).schedule
    days, opens, closes = schedule.index, schedule["open"].dt, schedule["close"].dt
    moments = zip(days, opens.to_pydatetime(), closes.to_pydatetime(), _breaks(schedule), strict=True)
    return [
        Session(day.date(), start.astimezone(UTC), end.astimezone(UTC), breaks) for day, start, end, breaks in moments
    ]


def _breaks(schedule: Any) -> Iterator[tuple[Span, ...]]:
    """Yield the break of each session, of most there is none."""
    starts, ends = schedule["break_start"], schedule["break_end"]
    if starts.isna().all():
        yield from repeat((), len(schedule))
        return
    for start, end, known in zip(starts, ends, starts.notna(), strict=True):
        yield (Span(start.to_pydatetime(), end.to_pydatetime()),) if known else ()


def _extended(session: Session) -> Session:
    start, end = (datetime.combine(session.day, moment, _new_york()).astimezone(UTC) for moment in _EXTENDED)
    return Session(session.day, start, end)


def _round_the_clock(name: str, since: date, until: date) -> Iterator[Session]:
    for number in range((until - since).days + 1):
        day = since + timedelta(days=number)
        if name == ALWAYS:
            start = datetime.combine(day, time(), UTC)
            yield Session(day, start, start + timedelta(days=1))
        elif day.weekday() < 5:
            # IDEALPRO: 17:15 New York time on the evening before to 17:00 on the day.
            start = datetime.combine(day - timedelta(days=1), time(17, 15), _new_york())
            yield Session(day, start.astimezone(UTC), datetime.combine(day, time(17), _new_york()).astimezone(UTC))


@lru_cache
def _calendar(name: str) -> Any:
    import exchange_calendars

    for since in _SINCE[:-1]:
        with contextlib.suppress(ValueError):
            return exchange_calendars.get_calendar(name, start=since)
    return exchange_calendars.get_calendar(name, start=_SINCE[-1])


def _new_york() -> tzinfo:
    return _zone_of("America/New_York")


@cache  # and imported when it is needed: runs on daily bars are told by dates
def _zone_of(name: str) -> tzinfo:
    """Return the time zone of a name; UTC where there is none."""
    if not name:
        return UTC
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)
