"""The sessions of an instrument: holidays, half days, daylight saving, 24x5 weeks."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache, lru_cache
from itertools import repeat
from typing import TYPE_CHECKING, Any

from backtest.errors import UsageError
from backtest.market.hours import ALWAYS, EXCHANGES, FOREX, FUTURES, WEEKDAYS, WEEKS, Hours, Session, Week
from backtest.market.series import Series
from backtest.market.span import Sessions, Span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backtest.market.series import BarSize

_ROUGH = (FOREX, ALWAYS, *FUTURES)  # exchanges whose holidays or daily breaks are not known
_PERIODS_A_YEAR = {FOREX: 260.0, ALWAYS: 365.0}  # sessions per year
_EXTENDED = (time(4), time(20))  # US stocks outside regular hours, New York time
_AFTER_THE_CLOSE = timedelta(minutes=30)
_DAY, _SECOND = timedelta(days=1), timedelta(seconds=1)
# Calendar -> the first date for which exchange_calendars is right, or has sessions at all; before it a rule applies.
_SINCE = {
    "XNYS": date(1970, 1, 1),  # from there to 1995 it equals pandas_market_calendars, before that it does not
    "XTKS": date(1997, 1, 1), "XBOM": date(1997, 1, 1), "XSHG": date(1990, 12, 3), "XKRX": date(1998, 12, 7),
}  # fmt: skip
_SINCE_OTHERS, _UNTIL_OTHERS = date(1990, 1, 1), date(2039, 12, 31)
_BOUNDED = ("XBOM", "XSES", "XSHG")  # whose holidays exchange_calendars knows only a year ahead
# While pandas computes holidays it silences a warning of the whole process, which another thread would turn on again.
_one_at_a_time = threading.Lock()
_FEW = 16  # days, in which most exchanges have a session
_FIRST, _LAST = date(1900, 1, 1), date(2100, 1, 1)  # of a span that is open at an end


def time_zone(hours: Hours) -> str:
    """
    Return the IANA time zone in which the sessions are defined.

    Raises:
        UsageError: the exchange has no known calendar.
    """
    if not hours.zone:
        raise _no_calendar(hours)
    return hours.zone


def sessions_a_year(hours: Hours) -> float:
    """
    Return the sessions per year as version 0.1.0 computed them, for hashes: 252, forex 260, crypto 365.

    It is also 252 if no calendar is known. Figures are annualised by `periods.periods_of`.
    """
    return _PERIODS_A_YEAR.get(hours.calendar, 252.0)


def exact(hours: Hours, since: date | None = None, until: date | None = None) -> bool:
    """
    Return whether the sessions are known to the minute; the hours of forex and futures are only approximate.

    Args:
        since: the first date that counts; `until` is the last. By default the years that a calendar covers.
    """
    known = known_dates(hours)
    if known is None or since is None or until is None:
        return known is not None
    return known[0] <= since and until <= known[1]


def known_dates(hours: Hours) -> tuple[date, date] | None:
    """Return the first and last date whose sessions are known to the minute; None if there is none."""
    return None if not _listed(hours) or hours.own or rough(hours) else _bounds(hours.calendar)


def rough(hours: Hours) -> bool:
    """Return whether a calendar or a clock knows the sessions' holidays or daily breaks only approximately."""
    return hours.calendar in _ROUGH


def week_of(hours: Hours) -> Week | None:
    """Return the rule for dates without a calendar; None for forex and crypto, which have no other."""
    if hours.calendar in (FOREX, ALWAYS):
        return None
    return WEEKS.get(hours.calendar, WEEKDAYS)


def fallback(hours: Hours, since: date, until: date) -> str:
    """
    Return the rule that stands in for a calendar from `since` to `until`; "" if a calendar covers them.

    Dates with hours stated by a vendor need no rule, nor do forex and crypto, which open by the clock.
    """
    week = week_of(hours)
    made_up = Span.of_dates(since, until).minus(
        [*(Span.of_dates(one.since, one.until) for one in hours.stated), *_spans_known(hours)]
    )
    if week is None or not made_up:
        return ""
    if not _listed(hours) or hours.own:
        return f"{week.rule} for {hours.unknown}" if hours.unknown else week.rule
    first, last = _bounds(hours.calendar)
    when = [f"before {first}"] * (made_up[0].start.date() < first) + [f"after {last}"] * (made_up[-1].end.date() > last)
    return f"{' and '.join(when)} {week.rule}"


def sessions(hours: Hours, since: date, until: date, regular_hours: bool = True) -> list[Session]:
    """
    Return the sessions known by the dates from `since` to `until`, both included, in order.

    Without a calendar they follow the rule that `fallback` names, and are whole days.
    """
    stated = [one for one in hours.stated if one.regular_hours == regular_hours]
    found = _of_calendar(hours, since, until, regular_hours)
    for one in stated:
        kept = [session for session in found if not one.since <= session.day <= one.until]
        found = sorted([*kept, *(session for session in one.sessions if since <= session.day <= until)], key=_day)
    return found


def span_of_sessions(series: Series, hours: Hours, since: date, until: date) -> Span:
    """
    Return the span of timestamps of a series' bars in the sessions from `since` to `until`, both included.

    Daily and longer bars are stamped with dates, so theirs is a span of dates; for shorter ones it runs from the
    opening of the first session to the close of the last.

    Raises:
        UsageError: the first date is after the last, or there is no session between them.
    """
    dates = _dates(since, min(until, max(since, _LAST)))
    if series.size.daily:
        return dates
    ends = _first_and_last(hours, max(since, _FIRST), min(until, _LAST), series.regular_hours)
    if not ends:
        raise UsageError(f"{series.instrument} has no session from {since} to {until}; name a longer span")
    return Span(ends[0].open, ends[1].close + after_the_close(series, hours))


@lru_cache(maxsize=64)
def _dates(since: date, until: date) -> Span:
    return Span.of_dates(since, until)


def _first_and_last(hours: Hours, since: date, until: date, regular_hours: bool) -> tuple[Session, Session] | None:
    """Return the ends of `sessions` without creating those between, which takes a tenth of a second for a century."""
    days, whole = _FEW, (until - since).days
    while days < whole:
        first = sessions(hours, since, since + days * _DAY, regular_hours)
        last = sessions(hours, until - days * _DAY, until, regular_hours)
        if first and last:
            return first[0], last[-1]
        days *= 8
    found = sessions(hours, since, until, regular_hours)
    return (found[0], found[-1]) if found else None


def after_the_close(series: Series, hours: Hours) -> timedelta:
    """
    Return for how long after its session's close a series may have bars.

    The reason is the closing auctions of stocks, which end within half an hour; in New York the auction is at the
    close. Options on indices, and some indices, trade there until 16:15.
    """
    listed = series.regular_hours and exact(hours)
    auction = hours.calendar != "XNYS" or series.instrument.kind in ("OPT", "IND", "CFD")
    return _AFTER_THE_CLOSE if listed and auction and not series.size.daily else timedelta()


def span_asked(series: Series, hours: Hours, asked: Span | Sessions | None) -> Span | None:
    """
    Return the span of timestamps of a series' bars that `span.asked_span` refers to; None for all.

    Raises:
        UsageError: there is no session between the dates.
    """
    if asked is None or isinstance(asked, Span):
        return asked
    since, until = asked
    if since is None and until is None:
        return None
    return span_of_sessions(series, hours, since or _FIRST, until or _LAST)


def bar_start(series: Series, hours: Hours, moment: datetime) -> datetime:
    """
    Return the start of the bar that contains a moment, as if its session were always open.

    A week starts on its Monday, a month on its first day, both as dates. Shorter bars are counted from midnight on the
    exchange's clock, with its daylight saving time, or in UTC if its zone is unknown.
    """
    return _bar_around(series.size, "" if series.size.daily else hours.zone, moment)[0]


def utc_offset(hours: Hours, moment: datetime) -> float:
    """Return how far the exchange's clock is ahead of UTC at a moment, in seconds."""
    offset = moment.astimezone(_zone_of(hours.zone)).utcoffset()
    return offset.total_seconds() if offset else 0.0


def whole_bars(series: Series, hours: Hours, span: Span) -> Span:
    """Return the span, widened to whole bars if an end is within one, so that no bar is cut."""
    if series.size.daily:
        (start, _), (last, end) = (_bar_around(series.size, "", moment) for moment in (span.start, span.end))
        return Span(start, end if last < span.end else span.end)
    first, after = (_inside(series, hours, moment) for moment in (span.start, span.end))
    return Span(first.start if first else span.start, after.end if after else span.end)


def _inside(series: Series, hours: Hours, moment: datetime) -> Span | None:
    """Return the bar that contains a moment, as its session cuts it; None between bars and outside sessions."""
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
    """Return the start and end of the bar that contains a moment, by the clock and calendar of a zone alone."""
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


def _of_calendar(hours: Hours, since: date, until: date, regular_hours: bool) -> list[Session]:
    if hours.calendar in (FOREX, ALWAYS):
        return list(_round_the_clock(hours.calendar, since, until))
    if hours.own and _listed(hours):
        return list(_whole_days(hours, since, until))
    week = WEEKS.get(hours.calendar, WEEKDAYS)
    if not _listed(hours):
        return list(_by_week(week, hours.zone, since, until))
    first, last = _bounds(hours.calendar)
    return [
        *_by_week(week, hours.zone, since, min(until, first - _DAY)),
        *_listed_sessions(hours, since, until, regular_hours),
        *_by_week(week, hours.zone, max(since, last + _DAY), until),
    ]


def _listed(hours: Hours) -> bool:
    """Return whether exchange_calendars has the calendar."""
    return hours.calendar not in ("", FOREX, ALWAYS, *WEEKS)


def _spans_known(hours: Hours) -> list[Span]:
    return [Span.of_dates(*_bounds(hours.calendar))] if _listed(hours) and not hours.own else []


def _by_week(week: Week, zone: str, since: date, until: date) -> Iterator[Session]:
    """Yield a whole day for each date with a session; it ends by midnight UTC, as daily bars do."""
    before = _DAY if week.begins > time() else timedelta()
    where = _zone_of(zone)
    for number in range((until - since).days + 1):
        day = since + number * _DAY
        if week.opens(day):
            start, end = (datetime.combine(one - before, week.begins, where) for one in (day, day + _DAY))
            midnight = datetime.combine(day + _DAY, time(), UTC)
            yield Session(day, start.astimezone(UTC), min(end, midnight).astimezone(UTC))


def _no_calendar(hours: Hours) -> UsageError:
    return UsageError(f"no calendar is known for {hours.unknown}; known are {', '.join(EXCHANGES)}")


def _whole_days(hours: Hours, since: date, until: date) -> Iterator[Session]:
    """
    Yield a session from midnight to midnight of the exchange for each weekday, holidays too.

    Such a session contains all trading of that day, and midnight does not cut a bar.
    """
    for number in range((until - since).days + 1):
        day = since + number * _DAY
        if WEEKDAYS.opens(day):
            yield _whole_day(hours, day)


def _whole_day(hours: Hours, day: date) -> Session:
    zone = _zone_of(hours.zone)
    start, end = (datetime.combine(one, time(), zone).astimezone(UTC) for one in (day, day + _DAY))
    return Session(day, start, end)


def _listed_sessions(hours: Hours, since: date, until: date, regular_hours: bool) -> list[Session]:
    name = hours.calendar
    first, last = _bounds(name)
    if until < first or last < since:
        return []
    every = _every_session(name)
    found = every[bisect_left(every, since, key=_day) : bisect_right(every, until, key=_day)]
    if regular_hours or name in FUTURES:
        return found
    # Only for New York is it known when trading outside of regular hours begins and ends.
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
    """Yield the break of each session; most have none."""
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
def _bounds(name: str) -> tuple[date, date]:
    """Return the first and last date for which a calendar is used."""
    if name not in _BOUNDED:
        return _SINCE.get(name, _SINCE_OTHERS), _UNTIL_OTHERS
    import exchange_calendars

    with _one_at_a_time:
        last = exchange_calendars.get_calendar(name).bound_max()
    return _SINCE.get(name, _SINCE_OTHERS), last.date() if last else _UNTIL_OTHERS


@lru_cache
def _calendar(name: str) -> Any:
    import exchange_calendars

    since, until = _bounds(name)
    try:
        with _one_at_a_time:
            return exchange_calendars.get_calendar(name, start=since.isoformat(), end=until.isoformat())
    except ValueError as error:
        raise UsageError(
            f"exchange_calendars {exchange_calendars.__version__} has no sessions of {name} from {since} to {until} "
            f"({str(error)[:200]}); install another version of it"
        ) from error


def _new_york() -> tzinfo:
    return _zone_of("America/New_York")


@cache  # imported when needed: runs on daily bars need only dates
def _zone_of(name: str) -> tzinfo:
    """Return the time zone of a name; UTC if there is none."""
    if not name:
        return UTC
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)
