"""Timers of a lean run: Backtrader's own, checked only at the bars at which they might go off; hot."""

from __future__ import annotations

from typing import Any

from backtrader.timer import Timer
from backtrader.utils.date import date2num, num2date

_MARGIN = 1e-6  # days: more than a stamp is rounded by when it becomes a time


class WatchedTimer:
    """A timer, and the span of timestamps in which its `check` would change nothing and return False."""

    __slots__ = ("_since", "_until", "timer")

    def __init__(self, timer: Any) -> None:
        self.timer, self._since, self._until = timer, 0.0, 0.0

    def goes_off(self, stamp: float) -> bool:
        """Return the result of `check` for a bar with this timestamp."""
        if self._since <= stamp < self._until:
            return False
        gone: bool = self.timer.check(stamp)
        self._since, self._until = stamp, _quiet_until(self.timer, stamp)
        return gone


def watched_timers(timers: list[Any]) -> list[WatchedTimer]:
    """Return the timers of a run in their order."""
    return [WatchedTimer(timer) for timer in timers]


def ring(timers: list[WatchedTimer], stamp: float, strategy: Any) -> None:
    """Notify the owners of the timers that go off at a bar, and the strategy, as `Cerebro._check_timers` does."""
    for watch in timers:
        if watch.goes_off(stamp):
            timer = watch.timer
            timer.params.owner.notify_timer(timer, timer.lastwhen, *timer.args, **timer.kwargs)
            if timer.params.strats:
                strategy.notify_timer(timer, timer.lastwhen, *timer.args, **timer.kwargs)


def _quiet_until(timer: Any, stamp: float) -> float:
    """Return the stamp before which `Timer.check` returns at its first test, or at its last without a change."""
    if type(timer).check is not Timer.check:
        return stamp
    day = num2date(stamp).date()
    midnight: float = day.toordinal() + 1 - _MARGIN
    if timer._lastcall == day:  # once a day
        return midnight
    if timer._dtwhen is None or timer._curdate != day:
        return stamp
    session_end: float = date2num(timer._nexteos) - _MARGIN
    return min(midnight, float(timer._dtwhen), session_end)
