"""
`Week`: on which days of the week an exchange opens, where no calendar of its holidays is known.

A row that no public source could be found for is marked unconfirmed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, time

_EVER = date.min
_MONDAY_TO_FRIDAY, _SUNDAY_TO_THURSDAY = (0, 1, 2, 3, 4), (0, 1, 2, 3, 6)
_SATURDAY, _SUNDAY = 5, 6


@dataclass(frozen=True, slots=True)
class Week:
    """
    The days of the week with a session, Monday is 0, and when sessions begin.

    Args:
        days: the first date of each rule, in order, and its days.
        begins: when a session begins, on the clock of the exchange: at midnight, or at that time of the day before.
        rule: the rule in words, for messages.
    """

    days: tuple[tuple[date, tuple[int, ...]], ...] = ((_EVER, _MONDAY_TO_FRIDAY),)
    begins: time = time()
    rule: str = "weekdays; no holidays known"

    def opens(self, day: date) -> bool:
        """Return whether a session is known by the date, as far as the rule says."""
        return day.weekday() in [days for since, days in self.days if since <= day][-1]


WEEKDAYS = Week()
# As `Hours.calendar` has them. A night session belongs to the next day: a session begins when the day's has ended.
WEEKS = {
    "weekdays": WEEKDAYS,
    **{f"weekdays {hour}:00": Week(begins=time(hour)) for hour in (12, 16, 17, 18)},
    # Source: exchange_calendars 4.13.2, which cannot lay it out with pandas 3.
    "TASE": Week(
        ((_EVER, _SUNDAY_TO_THURSDAY), (date(2026, 1, 5), _MONDAY_TO_FRIDAY)),
        rule="Sunday to Thursday, from 2026-01-05 weekdays; no holidays known",
    ),
    "Sunday to Thursday": Week(
        ((_EVER, _SUNDAY_TO_THURSDAY),), rule="Sunday to Thursday; no holidays known"
    ),
}  # fmt: skip

# Calendar -> on which days of a weekend, and until when, an exchange had sessions that exchange_calendars lacks. Bars
# of those days are taken, and not missed where there are none.
WEEKEND_SESSIONS: dict[str, tuple[tuple[int, ...], date]] = {
    "XNYS": ((_SATURDAY,), date(1952, 9, 30)),  # unconfirmed
    "XTKS": ((_SATURDAY,), date(1989, 1, 31)),  # unconfirmed
    "XKRX": ((_SATURDAY,), date(1998, 12, 6)),  # its mask in exchange_calendars, without effect with pandas 3
    "XTAI": ((_SATURDAY,), date(2018, 12, 31)),  # made-up working days: Taipei Times, 2018-07-04
    "XBOM": ((_SATURDAY, _SUNDAY), date.max),  # budgets, festivals and drills; exchange_calendars has some
}
