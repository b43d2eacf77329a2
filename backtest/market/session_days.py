"""
`session_days`: which session a bar belongs to, for records, windows, folds, benchmarks, orders and checks.

An intraday bar belongs to the session in which it opens, even if the close cuts it short. One that opens between two
sessions belongs to the later; one of the closing auction, or of an index that is quoted for a while after the close, to
the earlier. A daily or longer bar belongs to its own date; but forex and futures have no sessions on Saturdays and
Sundays, so a daily bar with such a date belongs to Monday's.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from backtest.market.calendars import after_the_close, rough, sessions
from backtest.market.hours import ALWAYS, Hours
from backtest.market.series import Series

_AROUND = timedelta(days=31)  # no exchange is closed for longer
_THURSDAY = 3  # 1970-01-01, Monday is 0
_SATURDAY = 5
_BLOCK = 2**16  # moments that are looked up at once: of 10,000,000 an array is 80 MB
_AT_ONCE = np.timedelta64(0, "us")


def session_days(opened: np.ndarray, series: Series, hours: Hours) -> np.ndarray:
    """
    Return the date of the session that each bar of a series belongs to, datetime64[D].

    Args:
        opened: when the bars open, datetime64[us] in UTC, ascending; for daily and longer bars their dates.
        hours: the hours of the series.
    """
    if series.size.daily:
        days = opened.astype("datetime64[D]")
        return _without_weekends(days, hours) if series.size.period == "session" else days
    return days_of_moments(opened, series, hours)


def days_of_moments(moments: np.ndarray, series: Series, hours: Hours, before: np.timedelta64 = _AT_ONCE) -> np.ndarray:
    """
    Return the date of the session of each moment, datetime64[D].

    Args:
        moments: the openings of intraday bars of any series, or times this long after them, datetime64[us] in UTC,
            ascending.
        series: the series whose sessions count, with its hours.
        before: how long before the moments the bars open.
    """
    if not len(moments):
        return moments.astype("datetime64[D]")
    known = sessions_around(moments[0] - before, moments[-1] - before, series, hours)
    found = np.empty(len(moments), "datetime64[D]")
    for start in range(0, len(moments), _BLOCK):
        places = np.searchsorted(known.ends, moments[start : start + _BLOCK] - before, side="right")
        found[start : start + _BLOCK] = known.days[np.minimum(places, len(known.days) - 1)]
    return found


class KnownSessions(NamedTuple):
    """The sessions of a series, in order: a bar belongs to the first one that ends after it opens."""

    days: np.ndarray  # datetime64[D]
    opens: np.ndarray  # datetime64[us], UTC
    closes: np.ndarray
    ends: np.ndarray  # the close, or the end of what is traded after it


def sessions_around(first: np.datetime64, last: np.datetime64, series: Series, hours: Hours) -> KnownSessions:
    """Return the sessions from before the first of some moments, in UTC, until after the last."""
    since, until = (moment.astype("datetime64[us]").astype(datetime).date() for moment in (first, last))
    return _known(since - _AROUND, until + _AROUND, series.regular_hours, after_the_close(series, hours), hours)


@lru_cache(maxsize=64)  # each trial of a sweep asks for the same
def _known(since: date, until: date, regular_hours: bool, after: timedelta, hours: Hours) -> KnownSessions:
    found = sessions(hours, since, until, regular_hours)
    opens, closes = (
        np.array([getattr(session, name).astimezone(UTC).replace(tzinfo=None) for session in found], "datetime64[us]")
        for name in ("open", "close")
    )
    ends = closes + np.timedelta64(after)
    ends[:-1] = np.minimum(ends[:-1], np.maximum(opens[1:], closes[:-1]))
    return KnownSessions(np.array([session.day for session in found], "datetime64[D]"), opens, closes, ends)


def of_one_clock(days: np.ndarray, clock: np.ndarray) -> np.ndarray:
    """
    Return the sessions of one series to which the dates of others belong; it may lack some of these dates.

    A date between two of its sessions belongs to the later; dates before the first and after the last stay unchanged.

    Args:
        clock: the sessions of that series, datetime64[D], ascending.
    """
    within = (days >= clock[0]) & (days <= clock[-1])
    return np.where(within, clock[np.minimum(np.searchsorted(clock, days), len(clock) - 1)], days)


def _without_weekends(days: np.ndarray, hours: Hours) -> np.ndarray:
    if not rough(hours) or hours.calendar == ALWAYS:
        return days
    weekdays = (days.astype(np.int64) + _THURSDAY) % 7
    return np.asarray(days + np.where(weekdays < _SATURDAY, 0, 7 - weekdays).astype("timedelta64[D]"))
