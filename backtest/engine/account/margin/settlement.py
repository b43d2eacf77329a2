"""When a sale of US stocks settles: the number of settlement days after it, by date; pure functions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import date, timedelta

from backtest.engine.account.fees import Dated
from backtest.market.calendars import sessions
from backtest.market.hours import Hours

# Settlement days from a trade to its settlement, by the date of the trade.
SETTLEMENT = Dated.of([
    ("1992-01-01", 5),  # NASD Notice to Members 92-54 has a schedule of it; earlier days take this row
    ("1995-06-07", 3),  # SEC Rule 15c6-1; NASD Notice to Members 95-26
    ("2017-09-05", 2),  # SEC Release 34-80295, 82 FR 15564
    ("2024-05-28", 1),  # SEC Release 34-96930, 88 FR 13872
])  # fmt: skip
_MOST = 20  # days of the calendar within which a trade settles


def settlement_day(day: int, days: Sequence[int]) -> int:
    """
    Return the day on which a trade settles; days are counted as `date.toordinal` does.

    Args:
        days: the settlement days, in order, up to some days after the trade.
    """
    place: int = bisect_right(days, day) + SETTLEMENT.on(day) - 1
    return days[min(place, len(days) - 1)]


def settlement_days(hours: Hours, since: date, until: date) -> list[int]:
    """
    Return the settlement days from one date to some days after another: sessions except bank holidays.

    On Columbus Day and Veterans Day exchanges are open but banks are closed, and nothing settles: NASD Notices to
    Members 99-83 and 92-54.
    """
    every = sessions(hours, since, until + timedelta(days=_MOST))
    return [one.day.toordinal() for one in every if not _is_bank_holiday(one.day)]


def _is_bank_holiday(day: date) -> bool:
    columbus = day.month == 10 and day.weekday() == 0 and 8 <= day.day <= 14
    veterans = day.month == 11 and (day.day == 11 or (day.day == 12 and day.weekday() == 0))
    return columbus or veterans
