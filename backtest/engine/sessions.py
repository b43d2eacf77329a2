"""
Orders and timers by an exchange's sessions; Backtrader uses a time of day, by default midnight in UTC.

An order at the close fills at the last close of its session, and a day order ends with its session. For a feed without
sessions, such as one of daily bars, both remain as in Backtrader. No order fills in a bar that replaces a missing one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import date, datetime
from functools import cache
from types import new_class
from typing import Any, NamedTuple

import backtrader as bt
from backtrader.timer import Timer
from backtrader.utils.date import date2num, num2date

_MILLISECOND = 1 / 86_400_000  # more than stamps and their conversions are rounded by
_OF_SESSIONS = (bt.timer.SESSION_START, bt.timer.SESSION_END)


class SessionTimes(NamedTuple):
    """
    The sessions of a feed's bars: their dates, their opening times, and the timestamps at which they end.

    A session ends with its last bar, or at its close if the last bars are missing. If a calendar has only approximate
    closes, as for futures, the close is the time at which the last bars usually end.
    """

    days: list[date]
    opens: list[float]
    lasts: list[float]  # the stamps of their last bars
    ends: list[float]


def know_any(datas: list[Any]) -> bool:
    """Return whether any of some feeds knows its sessions, or has bars that replace missing ones."""
    return any(_knows_sessions(data) or getattr(data, "_made_up", None) for data in datas)


def given(order: Any, at_the_close: bool) -> None:
    """
    Make a new order end with the session in which it can fill, if its feed knows sessions.

    Args:
        at_the_close: whether market orders fill at the close of the bar in which they are submitted.
    """
    data = order.data
    if order.p.simulated:
        return
    if at_the_close and _stands_still(data):
        order.addinfo(coc=False)  # Backtrader's word for: not this one, of which there was no such close
    if not _knows_sessions(data):
        return
    times: SessionTimes = data._session_times()
    following = bisect_right(times.lasts, order.created.dt)  # the session of the first bar in which it can be filled
    order.dteos = times.ends[min(following, len(times.ends) - 1)]
    valid = order.p.valid
    if valid is not None and not valid:  # DAY, timedelta() and, by Backtrader's documentation, 0
        order.valid = order.dteos


def waits(order: Any, at_the_close: bool) -> bool:
    """
    Return whether an order must wait, since the current bar replaces a missing one.

    Args:
        at_the_close: see `given`: such an order fills in the previous bar, not in this one.
    """
    before = at_the_close and order.exectype == bt.Order.Market and order.info.get("coc", True)
    return _stands_still(order.data) and not before


def go_by_sessions(broker: Any, datas: list[Any]) -> None:
    """Make a broker of Backtrader's own loops follow the feeds' sessions; the broker of a lean run does so itself."""
    if know_any(datas):
        kind: Any = type(broker)
        broker.__class__ = _of_sessions(kind)
        for order in (*broker.submitted, *broker.pending):
            given(order, broker.p.coc)


def _knows_sessions(data: Any) -> bool:
    return getattr(type(data), "_session_hours", "") is None and data._session_hours is not None


def _stands_still(data: Any) -> bool:
    made_up: frozenset[float] = getattr(data, "_made_up", frozenset())
    return bool(made_up) and data.datetime[0] in made_up


class _OfSessions:
    """A broker whose orders end with the sessions of their feeds, and fill only in real bars."""

    p: Any

    def submit(self, order: Any, check: Any = True) -> Any:
        given(order, self.p.coc)
        return super().submit(order, check)  # type: ignore[misc]  # of Backtrader's broker

    def _try_exec(self, order: Any) -> None:
        if not waits(order, self.p.coc):
            super()._try_exec(order)  # type: ignore[misc]


@cache  # Backtrader keeps each class that is ever made
def _of_sessions(kind: Any) -> Any:
    return new_class(kind.__name__, (_OfSessions, kind), exec_body=lambda body: body.update(__module__=__name__))


class SessionTimer(Timer):
    """A timer at the start or the end of sessions, which goes off once in each, and again by `repeat` until its end."""

    _at = -1  # the session that it waits in
    _waits = False
    _target: datetime

    def check(self, dt: float) -> bool:
        """Return whether it goes off at a bar with this timestamp."""
        times: SessionTimes = self._tzdata._session_times()
        at = bisect_left(times.ends, dt - _MILLISECOND)
        if at == len(times.ends):
            return False
        if at != self._at:
            self._begin(at, times)
        if not self._waits or dt < date2num(self._target) - _MILLISECOND:
            return False
        self.lastwhen = self._target
        while self.p.repeat and date2num(self._target) <= dt + _MILLISECOND:
            self._target += self.p.repeat
        self._waits = bool(self.p.repeat) and date2num(self._target) <= times.ends[at] + _MILLISECOND
        return True

    def _begin(self, at: int, times: SessionTimes) -> None:
        day, edges = times.days[at], times.opens if self.p.when == bt.timer.SESSION_START else times.ends
        self._at, self._target = at, num2date(edges[at]) + self.p.offset
        self._waits = self._check_month(day) and self._check_week(day) and (not self.p.allow or self.p.allow(day))


def time_by_sessions(timers: list[Any]) -> None:
    """Make the session timers of a run follow the sessions of their feeds, if these know them."""
    for timer in timers:
        if type(timer) is Timer and timer.p.when in _OF_SESSIONS and _knows_sessions(timer._tzdata):
            timer.__class__ = SessionTimer
