from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime

import exchange_calendars
import pytest

from backtest.errors import UsageError
from backtest.market import calendars
from backtest.market.calendars import bar_start, sessions, span_of_sessions, whole_bars
from backtest.market.hours import hours_of
from backtest.market.series import Instrument, Series
from backtest.market.span import Span


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment", "start"),
    [
        ("AAPL/1hour", "2024-03-07T15:59", "2024-03-07T15:00"),
        ("AAPL/2hours", "2024-03-07T18:59", "2024-03-07T17:00"),  # 13:59 in New York, of the bar from 12:00 on
        ("AAPL/2hours", "2024-03-12T17:59", "2024-03-12T16:00"),  # after the change of the clocks
        ("AAPL/8hours", "2024-03-10T11:30", "2024-03-10T05:00"),  # 07:30 on a day without an hour from 02:00 on
        ("AAPL/8hours", "2024-11-03T12:30", "2024-11-03T04:00"),  # 07:30 on a day of 25 hours
        ("RELIANCE-STK-NSE-INR/1hour", "2024-03-07T05:10", "2024-03-07T04:30"),  # 10:40 in Mumbai
        ("AAPL/1week", "2024-03-07T15:00", "2024-03-04T00:00"),
        ("AAPL/1month", "2024-03-31T23:59", "2024-03-01T00:00"),
    ],
)
def test_a_bar_starts_at_a_multiple_of_its_size_on_the_clock_of_the_exchange(text, moment, start):
    series = Series.parse(text)

    assert bar_start(series, hours_of(series.instrument), utc(moment)) == utc(start)


@pytest.mark.parametrize(
    ("text", "asked", "whole"),
    [
        ("AAPL/1week", ("2024-03-06", "2024-03-13"), ("2024-03-04", "2024-03-18")),
        ("AAPL/1week", ("2024-03-04", "2024-03-11"), ("2024-03-04", "2024-03-11")),
        ("AAPL/1month", ("2024-01-31", "2024-02-02"), ("2024-01-01", "2024-03-01")),
        ("AAPL/1day", ("2024-03-06T12:00", "2024-03-07T12:00"), ("2024-03-06", "2024-03-08")),
        ("AAPL/1hour", ("2024-03-06T14:40", "2024-03-06T20:10"), ("2024-03-06T14:30", "2024-03-06T21:00")),
        ("AAPL/2hours", ("2024-03-06T14:30", "2024-03-06T21:00"), ("2024-03-06T14:30", "2024-03-06T21:00")),
        ("AAPL/2hours", ("2024-03-05T23:40", "2024-03-06T22:10"), ("2024-03-05T23:40", "2024-03-06T22:10")),  # closed
    ],
)
def test_a_span_is_widened_to_whole_bars(text, asked, whole):
    series = Series.parse(text)

    widened = whole_bars(series, hours_of(series.instrument), Span(*(utc(moment) for moment in asked)))

    assert widened == Span(*(utc(moment) for moment in whole))


@pytest.mark.slow
@pytest.mark.parametrize("exchange", ["TSEJ", "NSE", "SEHKNTL"])
def test_calendars_that_do_not_go_back_to_1990_are_known_as_far_as_they_go(exchange):
    found = sessions(hours_of(Instrument.parse(f"A-STK-{exchange}-USD")), date(2024, 3, 4), date(2024, 3, 7))

    assert [session.day for session in found] == [date(2024, 3, day) for day in (4, 5, 6, 7)]


SERIES = (
    "AAPL",
    "7203-STK-TSEJ-JPY",
    "ES-FUT-CME-USD-202406",
    "EUR-CASH",
    "BTC-CRYPTO",
    "X-STK-TASE-ILS",
    "NOKIA-STK-NO",
)
DATES = (
    (date(1900, 1, 1), date(2024, 3, 10)), (date(2024, 3, 9), date(2100, 1, 1)), (date(2024, 3, 7), date(2024, 3, 7)),
    (date(2001, 9, 11), date(2001, 9, 29)), (date(1914, 7, 31), date(1914, 12, 12)),
    (date(2024, 3, 9), date(2024, 3, 28)),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("since", "until"), DATES)
@pytest.mark.parametrize("name", SERIES)
def test_a_span_of_sessions_is_from_the_first_to_the_last_of_them(name, since, until):
    series = Series.parse(f"{name}/1hour")
    hours = hours_of(series.instrument)
    every = sessions(hours, since, until)

    span = span_of_sessions(series, hours, since, until)

    assert (span.start, span.end) == (every[0].open, every[-1].close + calendars.after_the_close(series, hours))


def test_no_session_between_two_dates_is_said():
    series = Series.parse("AAPL/1hour")

    with pytest.raises(
        UsageError, match="AAPL-STK-SMART-USD has no session from 2024-03-09 to 2024-03-10; name a longer span"
    ):
        span_of_sessions(series, hours_of(series.instrument), date(2024, 3, 9), date(2024, 3, 10))


def test_the_sessions_between_the_first_and_the_last_are_not_laid_out(monkeypatch):
    series, days = Series.parse("AAPL/1hour"), []

    def counted(hours, since, until, regular_hours=True):
        days.append((until - since).days)
        return sessions(hours, since, until, regular_hours)

    monkeypatch.setattr(calendars, "sessions", counted)
    span_of_sessions(series, hours_of(series.instrument), date(1900, 1, 1), date(2024, 3, 8))

    assert sum(days) < 100


def test_threads_build_calendars_one_at_a_time(monkeypatch):
    build = exchange_calendars.get_calendar

    def alone(*words, **named):
        assert calendars._one_at_a_time.locked()  # pandas silences warnings meanwhile, of all threads
        return build(*words, **named)

    monkeypatch.setattr(exchange_calendars, "get_calendar", alone)
    for cached in (calendars._calendar, calendars._bounds):
        cached.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        names = ["XNYS", "XBOM", "XNYS", "XBOM"]  # of XBOM its bounds are asked for, too
        assert [one.name for one in pool.map(calendars._calendar, names)] == names
