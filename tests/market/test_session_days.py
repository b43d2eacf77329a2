"""A bar belongs to the session in which it opens, and a daily bar to its date."""

from datetime import date, datetime

import numpy as np
import pytest

from backtest.market.hours import hours_of
from backtest.market.periods import clock_of, of_that_clock
from backtest.market.series import Series
from backtest.market.session_days import of_one_clock, session_days


def days(spelling, *opened):
    series = Series.parse(spelling)
    moments = np.array([datetime.fromisoformat(one) for one in opened], "datetime64[us]")
    return session_days(moments, series, hours_of(series.instrument)).astype(str).tolist()


@pytest.mark.parametrize(
    ("spelling", "opened", "day"),
    [
        ("AAPL/1hour", "2024-01-04 20:30", "2024-01-04"),  # 15:30 in New York: the close at 16:00 cuts it short
        ("AAPL/1hour", "2024-01-04 21:00", "2024-01-05"),  # at the close: nothing is traded any more
        ("AAPL/1hour", "2024-01-05 12:00", "2024-01-05"),  # before the opening
        ("AAPL/1hour/TRADES/all", "2024-01-05 00:30", "2024-01-04"),  # 19:30 in New York, after hours
        ("SPX-IND-CBOE/15mins", "2024-01-04 21:00", "2024-01-04"),  # quoted until 16:15
        ("VOD-STK-LSE-GBP/5mins", "2024-01-04 16:35", "2024-01-04"),  # the closing auction
        ("VOD-STK-LSE-GBP/5mins", "2024-01-05 17:00", "2024-01-08"),
        ("BHP-STK-ASX-AUD/1hour", "2024-01-04 23:00", "2024-01-05"),
        ("ES-FUT-CME-USD-202403/4hours", "2024-01-07 23:00", "2024-01-08"),  # Sunday evening in Chicago
        ("EUR-CASH/1hour", "2024-01-07 22:15", "2024-01-08"),
        ("BTC-CRYPTO/1hour", "2024-01-07 23:00", "2024-01-07"),
    ],
)
def test_an_intraday_bar_belongs_to_the_session_in_which_it_opens(spelling, opened, day):
    assert days(spelling, opened) == [day]


@pytest.mark.parametrize(
    ("spelling", "own", "day"),
    [
        ("EUR-CASH/1day", "2024-01-07", "2024-01-08"),  # a Sunday: the evening is Monday's
        ("EUR-CASH/1day", "2024-01-06", "2024-01-08"),
        ("ES-FUT-CME-USD-202403/1day", "2024-01-07", "2024-01-08"),
        ("EUR-CASH/1day", "2024-01-05", "2024-01-05"),
        ("EUR-CASH/1week", "2024-01-07", "2024-01-07"),  # its own, which stands for the week
        ("BTC-CRYPTO/1day", "2024-01-07", "2024-01-07"),
        ("LUMI-STK-TASE-ILS/1day", "2024-01-07", "2024-01-07"),  # where Sunday was a day of trade
    ],
)
def test_a_daily_bar_belongs_to_its_date_and_to_monday_where_no_weekend_has_a_session(spelling, own, day):
    assert days(spelling, own) == [day]


def test_dates_between_the_sessions_of_a_clock_belong_to_the_later_one():
    clock = np.array(["2024-01-02", "2024-01-04"], "datetime64[D]")

    found = of_one_clock(np.array(["2024-01-01", "2024-01-03", "2024-01-04", "2024-01-05"], "datetime64[D]"), clock)

    assert found.astype(date).tolist() == [date(2024, 1, day) for day in (1, 4, 4, 5)]


@pytest.mark.parametrize(
    ("clock", "others"),
    [
        ("AAPL/1min/TRADES/all", ["AAPL/1day", "AAPL/1min", "MSFT/1min/TRADES/all"]),
        ("BTC-CRYPTO/1day", ["AAPL/1hour", "EUR-CASH/1hour"]),
        ("SAP-STK-IBIS-EUR/1day", ["SAP-STK-FWB-EUR/1day", "AAPL/1min"]),  # as many sessions: by the calendar's name
    ],
)
def test_the_order_of_series_does_not_decide_by_which_a_run_is_measured(clock, others):
    every = [Series.parse(one) for one in [*others, clock]]
    turned = [(every[n:] + every[:n]) for n in range(len(every))]

    places = {turn[clock_of(turn, [hours_of(one.instrument) for one in turn])].short for turn in turned}

    assert places == {Series.parse(clock).short}
    hours = [hours_of(one.instrument) for one in every]
    assert len(of_that_clock(every, hours)) == sum(its.calendar == hours[-1].calendar for its in hours)
