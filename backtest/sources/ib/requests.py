"""
Which requests to send: the fewest windows that cover a gap and that IB serves, each a duration and an end.

Windows end at the close of a session, since "N D" counts sessions at IB (see market/ib_limits.py): a window that ended
inside a session would lose bars at its start.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import pairwise

from backtest.errors import UsageError
from backtest.market.calendars import after_the_close, bar_start, exact, sessions, whole_bars
from backtest.market.hours import Hours, Session
from backtest.market.ib_limits import (
    EXPIRED_FUTURE_YEARS,
    LONGEST,
    NEVER_SHOWN,
    OPEN_ENDED,
    PRACTICAL,
    SMALL_BAR_SECONDS,
    SMALL_BARS_MONTHS,
    WINDOW_REQUESTS,
    WINDOW_SECONDS,
)
from backtest.market.series import BAR_SIZES, BarSize, Series
from backtest.market.span import Span
from backtest.sources.base import estimated_bars

ALL_YEARS = timedelta(days=365 * LONGEST["Y"])

_DAY = timedelta(days=1)
_CLOSED = timedelta(days=4)  # a long weekend
_NO_DAYS = ("OPT", "FOP", "WAR")  # of these IB has no daily bars [campus]
_SESSION = 28_800  # seconds: windows that are cut by the clock are halves of it, and a whole one is "1 D"
_BARS_A_SECOND = 2000  # of a gateway that is not slow


def in_long_bars(series: Series) -> Series:
    """Return the series with the longest bars that each give the day of the first bar."""
    return replace(series, size=BAR_SIZES["8hours" if series.instrument.kind in _NO_DAYS else "1day"])


def refuse_impossible(series: Series, span: Span, now: datetime) -> None:
    """Raise UsageError for bars that IB never serves, before any request."""
    kind = series.instrument.kind
    if kind in _NO_DAYS and series.size.daily:
        raise UsageError(f"{series.short} is not available: IB has no daily bars for {kind}; use 8hours or smaller")
    oldest = oldest_small_bar(now)
    if series.size.seconds <= SMALL_BAR_SECONDS and span.start < oldest:
        raise UsageError(
            f"IB has no {series.size} bars older than {SMALL_BARS_MONTHS} months; request {series.short} since "
            f"{oldest:%Y-%m-%d}, or larger bars"
        )
    if kind in ("FUT", "FOP") and series.instrument.expiry and _expired_long_ago(series.instrument.expiry, now):
        raise UsageError(
            f"{series.short} expired more than {EXPIRED_FUTURE_YEARS} years ago, and IB keeps its bars no longer; "
            "name a later expiry"
        )
    if series.prices in NEVER_SHOWN.get(kind, ()):
        raise UsageError(
            f"IB has no {series.prices} for {kind}: {series.short} is not available; use another price type"
        )
    if series.prices in OPEN_ENDED and series.size.seconds > 86_400:
        raise UsageError(f"IB serves {series.prices} up to daily bars, not {series.size.label}; use 1day")


def oldest_small_bar(now: datetime) -> datetime:
    """Return the time from which IB serves bars of 30 seconds or less."""
    return now - timedelta(days=183)


def open_ended(series: Series) -> bool:
    """Return whether IB serves the series only as one request that ends now."""
    return series.prices in OPEN_ENDED or series.instrument.kind == "CONTFUT"


def windows(series: Series, hours: Hours, gap: Span, steps: Mapping[str, str] = PRACTICAL) -> list[Span]:
    """
    Return the windows to request, in order of time; together they cover every session in the gap.

    A gap without a session (a weekend) needs none. `steps` gives the maximum length of one request, by bar size.
    """
    if open_ended(series):
        return [gap]
    number, unit = _step(series, steps)
    if series.size.daily:
        return _by_days(series, hours, gap, number * _DAYS[unit]) if _has_session(series, hours, gap) else []
    inside = _sessions_in(series, hours, gap)
    if unit == "S":
        return [window for session in inside for window in _by_seconds(series, hours, session, gap, number)]
    a_window = max(number - hours.own, 1) if unit == "D" else int(number * 252)
    chunks = [inside[n : n + a_window] for n in range(0, len(inside), a_window)]
    edges = [gap.start, *(chunk[-1].close for chunk in chunks[:-1]), gap.end]
    return [Span(*pair) for pair in pairwise(edges)] if chunks else []


def growing_windows(series: Series, hours: Hours, gap: Span, step: str, most: str) -> list[Span]:
    """
    Return windows as `windows` does, each about twice as long as the next, from twice the step to the maximum.

    Requested from the newest on, they show how much more than the step a gateway serves, at the cost of one refusal.
    """
    found: list[Span] = []
    earlier = [gap]
    while earlier and step != most:
        step = shorter(doubled(step), most, series.size)
        left = Span(gap.start, earlier[-1].end)
        *earlier, last = windows(series, hours, left, {series.size.label: step})
        found.append(last)
    return [*earlier, *reversed(found)]


def duration(series: Series, hours: Hours, window: Span, now: datetime) -> str:
    """Return IB's duration string for a request that covers the window; `now` is the end of an open one."""
    if open_ended(series):
        return _calendar_days(math.ceil((now - window.start) / _DAY) + 1)
    if series.size.daily:
        return _calendar_days(math.ceil((window.end - window.start) / _DAY) + _lead(series))
    inside = _sessions_in(series, hours, window)
    if len(inside) == 1 and (hours.own or window.start > inside[0].open or window.end < inside[0].close):
        part = min(window.end, inside[0].close) - max(window.start, inside[0].open)
        return f"{min(max(30, math.ceil(part.total_seconds())), LONGEST['S'])} S"
    count = len(inside) + hours.own  # with such hours the end may be in the evening that belongs to the next session
    if count <= LONGEST["D"]:
        return f"{max(1, count)} D"
    return _calendar_days(math.ceil((window.end - window.start) / _DAY))


def with_closed_hours(series: Series, hours: Hours, window: Span) -> Span:
    """Return a window widened by adjacent closed hours, which have no bars; itself if hours are approximate."""
    if open_ended(series) or series.size.daily or not series.regular_hours or hours.own or not exact(hours):
        return window
    around = _sessions_in(series, hours, Span(window.start - _CLOSED, window.end + _CLOSED))
    before = [session.close for session in around if session.open < window.start]
    after = [session.open for session in around if session.close > window.end]
    return Span(min(window.start, max(before, default=window.start)), max(window.end, min(after, default=window.end)))


def halved(step: str, size: BarSize) -> str | None:
    """Return half of a request's duration, such as "10 D" for "21 D"; None if it cannot be halved."""
    number, unit = int(step.split()[0]), step.split()[1]
    if unit == "Y" and number == 1:
        number, unit = 364, "D"
    if unit == "D" and number == 1 and not size.daily:
        number, unit = _SESSION, "S"
    least = 2 * max(30, size.seconds) if unit == "S" else 2
    return f"{number // 2} {unit}" if number >= least else None


def doubled(step: str) -> str:
    """Return twice a request's duration."""
    number, unit = int(step.split()[0]), step.split()[1]
    return "1 D" if unit == "S" and number >= _SESSION else f"{2 * number} {unit}"


def shorter(one: str, other: str, size: BarSize) -> str:
    """Return the shorter of two steps."""
    return min(one, other, key=lambda step: seconds_of(step, size))


def seconds_of(step: str, size: BarSize) -> int:
    """Return the length of a step, for comparison: a year has 365 days for daily bars, otherwise 252 sessions."""
    number, unit = step.split()
    if unit == "S":
        return int(number)
    return int(number) * 86_400 * (252 if unit == "Y" and not size.daily else _DAYS[unit])


def end_text(series: Series, hours: Hours, window: Span) -> str:
    """Return IB's end of the request: UTC as text, "" for now."""
    if open_ended(series):
        return ""
    end = window.end
    if not series.size.daily:
        inside = _sessions_in(series, hours, window)
        end = min(end, inside[-1].close) if inside else end
    return f"{end:%Y%m%d-%H:%M:%S}"


def seconds_for(series: Series, windows: Sequence[Span]) -> float:
    """Return roughly how long the windows take: small bars wait for IB's pacing, others for their answers."""
    paced = WINDOW_SECONDS * (max(0, len(windows) - 1) // WINDOW_REQUESTS)
    small = series.size.seconds <= SMALL_BAR_SECONDS
    return estimated_bars(series, windows) / _BARS_A_SECOND + (paced if small else 0.0)


_DAYS = {"Y": 365, "M": 30, "W": 7, "D": 1}


def _expired_long_ago(expiry: str, now: datetime) -> bool:
    year, month = int(expiry[:4]), int(expiry[4:6])
    return (now.year - EXPIRED_FUTURE_YEARS, now.month) > (year, month)


def _step(series: Series, steps: Mapping[str, str]) -> tuple[int, str]:
    number, unit = steps[series.size.label].split()
    return int(number), unit


def _calendar_days(days: int) -> str:
    # "N D" counts sessions, so it reaches at least as far back as N calendar days.
    return f"{max(1, days)} D" if days <= LONGEST["D"] else f"{min(math.ceil(days / 365), LONGEST['Y'])} Y"


def _by_days(series: Series, hours: Hours, gap: Span, days: int) -> list[Span]:
    gap = whole_bars(series, hours, gap)
    step = max(days - _lead(series), _bar_days(series)) * _DAY
    edges = [gap.start]
    while edges[-1] + step < gap.end:
        edges.append(bar_start(series, hours, edges[-1] + step))
    return [Span(*pair) for pair in pairwise([*edges, gap.end])]


def _lead(series: Series) -> int:
    """Return the days to request before the first bar of a window: IB cuts the week in which a request begins."""
    return _bar_days(series) if series.size.seconds > _DAY.total_seconds() else 0


def _bar_days(series: Series) -> int:
    return 31 if series.size.period == "month" else math.ceil(series.size.seconds / _DAY.total_seconds())


def _by_seconds(series: Series, hours: Hours, session: Session, gap: Span, seconds: int) -> list[Span]:
    inside = Span(session.open, session.close).common(gap)
    if inside is None:
        return []
    step = timedelta(seconds=seconds)
    count = math.ceil((inside.end - inside.start) / step)
    # A window that ended inside of a bar would bring a part of it.
    cuts = {bar_start(series, hours, inside.start + n * step) for n in range(1, count)}
    edges = [inside.start, *sorted(cut for cut in cuts if inside.start < cut), inside.end]
    return [Span(*pair) for pair in pairwise(edges)]


def _sessions_in(series: Series, hours: Hours, span: Span) -> list[Session]:
    first, last = span.start.date() - 2 * _DAY, span.end.date() + 2 * _DAY
    found = sessions(hours, first, last, series.regular_hours)
    late = after_the_close(series, hours)
    open_ = [replace(session, close=session.close + late) for session in found] if late else found
    return [session for session in open_ if session.open < span.end and session.close > span.start]


def _has_session(series: Series, hours: Hours, gap: Span) -> bool:
    days = min(7, math.ceil((gap.end - gap.start) / _DAY))
    if any(_weekday(gap.start.date() + n * _DAY) for n in range(days)):
        return True
    weekend = gap.start.date(), (gap.end - _DAY).date()  # of which the Sunday may have a session, as in Tel Aviv
    return bool(sessions(hours, *weekend, series.regular_hours))


def _weekday(day: date) -> bool:
    return day.weekday() < 5
