"""When trades settle: by the schedules that NASD and FINRA published, and by the days on which two cycles met."""

from datetime import date

import pytest

from backtest.engine.account.margin.settlement import SETTLEMENT, settlement_day, settlement_days
from backtest.market.hours import hours_of
from backtest.market.series import Series

US = hours_of(Series.parse("AAPL/1day").instrument)
TABLES = {
    # NASD Notice to Members 99-83, around Columbus Day, Monday, October 11, 1999.
    "Columbus Day 1999": (1999, 10, {5: 8, 6: 12, 7: 13, 8: 14, 11: 14, 12: 15}),
    # NASD Notice to Members 92-54, around Veterans Day, Wednesday, November 11, 1992, of five days.
    "Veterans Day 1992": (1992, 11, {2: 9, 3: 10, 4: 12, 5: 13, 6: 16, 9: 17, 10: 18, 11: 18, 12: 19}),
    # From three days to two: trades of the 1st and, after Labor Day, of the 5th settle together.
    "September 2017": (2017, 9, {1: 7, 5: 7, 6: 8, 7: 11}),
    # From two days to one: trades of the 24th and, after Memorial Day, of the 28th settle together.
    "May 2024": (2024, 5, {22: 24, 23: 28, 24: 29, 28: 29, 29: 30}),
    # NASD Notice to Members 95-77, around Columbus Day 1995.
    "Columbus Day 1995": (1995, 10, {2: 5, 3: 6, 4: 10, 5: 11, 6: 12, 9: 12, 10: 13}),
}


@pytest.mark.parametrize("table", TABLES)
def test_trades_settle_as_the_schedule_says(table):
    year, month, schedule = TABLES[table]
    days = settlement_days(US, date(year, month, 1), date(year, month, 28))

    found = {day: date.fromordinal(settlement_day(date(year, month, day).toordinal(), days)).day for day in schedule}

    assert found == schedule


@pytest.mark.parametrize(
    ("day", "count"), [("1995-06-06", 5), ("1995-06-07", 3), ("2017-09-04", 3), ("2017-09-05", 2), ("2024-05-27", 2),
                       ("2024-05-28", 1), ("2030-01-02", 1)],
)  # fmt: skip
def test_the_cycle_is_that_of_the_trade(day, count):
    assert SETTLEMENT.on(date.fromisoformat(day).toordinal()) == count


def test_nothing_settles_on_a_bank_holiday_though_stocks_trade():
    days = settlement_days(US, date(2018, 10, 1), date(2018, 11, 30))

    assert date(2018, 10, 8).toordinal() not in days  # Columbus Day
    assert date(2018, 11, 12).toordinal() not in days  # Veterans Day, which was a Sunday
    assert date(2018, 11, 13).toordinal() in days
