import itertools
from datetime import UTC, date, datetime, timedelta

import exchange_calendars
import pytest
from market import span_of_sessions
from places import TESTS

from backtest.errors import UsageError
from backtest.market.calendars import exact, sessions, sessions_a_year, time_zone, whole_bars
from backtest.market.hours import EXCHANGES, WEEKS, hours_of
from backtest.market.ib_limits import LEGACY
from backtest.market.series import Instrument, Series
from backtest.market.span import Span
from backtest.sources.files.folder import FileSource
from backtest.sources.ib import requests

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
MINUTES = Series.parse("AAPL/1min")
DAILY = Series.parse("AAPL/1day")
NYSE = hours_of(MINUTES.instrument)
FILES = FileSource(TESTS)


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)


def test_a_half_day_closes_early_and_a_holiday_is_no_session():
    found = sessions(NYSE, date(2024, 7, 3), date(2024, 7, 5))

    assert [(s.day, s.open, s.close) for s in found] == [
        (date(2024, 7, 3), utc(2024, 7, 3, 13, 30), utc(2024, 7, 3, 17)),
        (date(2024, 7, 5), utc(2024, 7, 5, 13, 30), utc(2024, 7, 5, 20)),
    ]


def test_the_session_moves_an_hour_with_daylight_saving():
    friday, monday = sessions(NYSE, date(2024, 3, 8), date(2024, 3, 11))

    assert (friday.open.hour, monday.open.hour) == (14, 13)


def test_a_forex_session_begins_on_the_evening_before():
    (monday,) = sessions(hours_of(Series.parse("EUR-CASH/1min").instrument), date(2024, 1, 6), date(2024, 1, 8))

    assert (monday.day, monday.open, monday.close) == (date(2024, 1, 8), utc(2024, 1, 7, 22, 15), utc(2024, 1, 8, 22))


def test_a_future_trades_from_the_evening_before():
    (monday,) = sessions(
        hours_of(Series.parse("ES-FUT-CME-USD-202412/1min").instrument), date(2024, 1, 8), date(2024, 1, 8)
    )

    assert monday.open == utc(2024, 1, 7, 23)


def test_each_market_has_its_own_zone_and_sessions_a_year():
    assert time_zone(NYSE) == "America/New_York"
    assert time_zone(hours_of(Series.parse("ASML-STK-AEB-EUR/1day").instrument)) == "Europe/Amsterdam"
    assert sessions_a_year(NYSE) == 252
    assert sessions_a_year(hours_of(Series.parse("EUR-CASH/1day").instrument)) == 260
    assert sessions_a_year(hours_of(Series.parse("BTC-CRYPTO/1day").instrument)) == 365


def test_every_exchange_of_the_table_has_a_calendar_that_exists():
    names = {hours_of(Instrument("ANY", "STK", exchange, "EUR")).calendar for exchange in EXCHANGES}

    assert names <= {*exchange_calendars.get_calendar_names(), *WEEKS}


def test_a_market_of_unknown_hours_counts_as_others_do():
    assert sessions_a_year(hours_of(Instrument("ROCK", "STK", "MARS", "USD"))) == 252


@pytest.mark.parametrize(("text", "known"), [("AAPL", True), ("EUR-CASH", False), ("ES-FUT-CME-USD-202612", False)])
def test_hours_of_forex_and_futures_are_known_only_roughly(text, known):
    assert exact(hours_of(Instrument.parse(text))) is known


def test_an_exchange_without_a_calendar_has_a_session_each_weekday():
    series = Series.parse("ROCK-STK-MARS-USD/1min")

    found = sessions(hours_of(series.instrument), date(2024, 1, 5), date(2024, 1, 9))

    assert [session.day.day for session in found] == [5, 8, 9]


def test_a_sunday_is_asked_for_where_it_has_a_session():
    sunday = Span.of_dates(date(2025, 3, 2), date(2025, 3, 2))

    for text, windows in (("TEVA-STK-TASE-ILS/1day", [sunday]), ("AAPL/1day", [])):
        series = Series.parse(text)
        assert requests.windows(series, hours_of(series.instrument), sunday) == windows


def test_twenty_years_of_daily_bars_are_one_request():
    span = Span.of_dates(date(2004, 1, 2), date(2023, 12, 29))

    assert requests.windows(DAILY, NYSE, span) == [span]
    assert requests.duration(DAILY, NYSE, span, NOW) == "21 Y"  # 20 years have leap days: 7,302 days are over 20 x 365
    assert requests.end_text(DAILY, NYSE, span) == "20231230-00:00:00"


def test_a_few_daily_bars_are_asked_for_by_days():
    assert requests.duration(DAILY, NYSE, Span.of_dates(date(2024, 1, 2), date(2024, 1, 5)), NOW) == "4 D"


def test_a_weekend_needs_no_request():
    assert requests.windows(DAILY, NYSE, Span.of_dates(date(2024, 1, 6), date(2024, 1, 7))) == []
    assert requests.windows(MINUTES, NYSE, Span(utc(2024, 1, 6), utc(2024, 1, 8))) == []


def test_a_year_of_minutes_takes_twelve_requests_that_end_with_sessions():
    span = span_of_sessions(MINUTES, date(2023, 1, 3), date(2023, 12, 29))
    closes = {s.close for s in sessions(NYSE, date(2023, 1, 3), date(2023, 12, 29))}

    windows = requests.windows(MINUTES, NYSE, span)

    assert len(windows) == 12  # 250 sessions, 21 at once
    assert {w.end for w in windows} <= closes
    assert windows[0].start == span.start
    assert windows[-1].end == span.end
    assert all(a.end == b.start for a, b in itertools.pairwise(windows))
    assert requests.duration(MINUTES, NYSE, windows[0], NOW) == "21 D"


def test_a_window_of_one_half_day_is_one_session():
    span = span_of_sessions(MINUTES, date(2024, 7, 3), date(2024, 7, 4))

    (window,) = requests.windows(MINUTES, NYSE, span)

    assert requests.duration(MINUTES, NYSE, window, NOW) == "1 D"
    assert requests.end_text(MINUTES, NYSE, window) == "20240703-17:00:00"


def test_seconds_are_asked_for_within_a_session():
    series = Series.parse("AAPL/1secs")
    span = span_of_sessions(series, date(2024, 7, 3), date(2024, 7, 3))

    windows = requests.windows(series, NYSE, span)

    assert len(windows) == 7  # 12,600 s, 2,000 at once
    assert requests.duration(series, NYSE, windows[0], NOW) == "2000 S"
    assert requests.duration(series, NYSE, windows[-1], NOW) == "600 S"


def test_adjusted_prices_are_one_request_up_to_now():
    series = Series.parse("AAPL/1day/ADJUSTED_LAST")
    span = Span.of_dates(date(2000, 3, 1), date(2013, 3, 1))

    assert requests.windows(series, NYSE, span) == [span]
    assert requests.end_text(series, NYSE, span) == ""
    assert requests.duration(series, NYSE, span, NOW) == "27 Y"


@pytest.mark.parametrize(
    "text",
    [
        "EUR-CASH/1day/TRADES",
        "SPX-IND-CBOE/1day/BID",
        "AAPL/1week/ADJUSTED_LAST",
        "SPY-OPT-SMART-USD-20241218-500-C/1day",
        "AAPL/30secs",
        "ES-FUT-CME-USD-202309/1day",
    ],
)
def test_what_ib_never_serves_is_refused_before_it_is_asked_for(text):
    with pytest.raises(UsageError, match="IB"):
        requests.refuse_impossible(Series.parse(text), Span.of_dates(date(2024, 1, 2), date(2024, 1, 5)), NOW)


def test_a_daily_bar_is_finished_half_an_hour_after_its_session():
    days = Span.of_dates(date(2026, 11, 18), date(2026, 11, 20))
    yesterday = Span.of_dates(date(2026, 11, 18), date(2026, 11, 19))

    assert FILES.finished(DAILY, days, utc(2026, 11, 20, 21, 29)) == yesterday
    assert FILES.finished(DAILY, days, utc(2026, 11, 20, 21, 30)) == days
    assert FILES.finished(DAILY, Span.of_dates(date(2026, 11, 20), date(2026, 11, 20)), NOW) is None


def test_a_daily_bar_of_all_hours_grows_until_the_evening():
    days = Span.of_dates(date(2026, 11, 18), date(2026, 11, 20))
    series = Series.parse("AAPL/1day/TRADES/all")

    assert FILES.finished(series, days, utc(2026, 11, 21, 1, 29)) == Span.of_dates(
        date(2026, 11, 18), date(2026, 11, 19)
    )
    assert FILES.finished(series, days, utc(2026, 11, 21, 1, 30)) == days


def test_a_half_day_is_finished_early():
    days = Span.of_dates(date(2026, 11, 25), date(2026, 11, 27))

    assert FILES.finished(DAILY, days, utc(2026, 11, 27, 18, 30)) == days


def test_the_bar_under_way_is_not_asked_for():
    hour = Span(NOW - timedelta(hours=1), NOW + timedelta(hours=1))

    assert FILES.finished(MINUTES, hour, NOW + timedelta(seconds=59)) == Span(NOW - timedelta(hours=1), NOW)


@pytest.mark.parametrize(("text", "last"), [("AAPL/1week", date(2026, 11, 15)), ("AAPL/1month", date(2026, 10, 31))])
def test_a_week_and_a_month_are_finished_when_the_next_has_begun(text, last):
    span = Span.of_dates(date(2026, 1, 1), date(2026, 11, 20))

    assert FILES.finished(Series.parse(text), span, NOW) == Span.of_dates(date(2026, 1, 1), last)


@pytest.mark.parametrize(("text", "most"), [("AAPL/1week", 358), ("AAPL/1month", 334), ("AAPL/1day", 365)])
def test_no_request_for_whole_weeks_or_months_is_longer_than_a_step(text, most):
    series = Series.parse(text)

    found = requests.windows(series, NYSE, Span.of_dates(date(2001, 1, 3), date(2020, 5, 14)), LEGACY)

    assert all(earlier.end == later.start for earlier, later in itertools.pairwise(found))
    assert all((window.end - window.start).days <= most for window in found)
    assert all(int(requests.duration(series, NYSE, window, NOW).removesuffix(" D")) <= 365 for window in found)
    assert all(whole_bars(series, NYSE, window) == window for window in found)


@pytest.mark.parametrize(
    ("text", "step", "half"),
    [
        ("AAPL/1min", "21 D", "10 D"),
        ("AAPL/1min", "1 D", "14400 S"),
        ("AAPL/1secs", "2000 S", "1000 S"),
        ("AAPL/1secs", "50 S", None),
        ("AAPL/1day", "68 Y", "34 Y"),
        ("AAPL/1day", "1 Y", "182 D"),
        ("AAPL/1day", "1 D", None),
        ("AAPL/1hour", "5 Y", "2 Y"),
    ],
)
def test_a_step_is_halved_down_to_the_least_that_ib_takes(text, step, half):
    assert requests.halved(step, Series.parse(text).size) == half


def test_part_of_a_session_is_asked_for_by_seconds():
    window = Span(utc(2024, 7, 1, 10), utc(2024, 7, 1, 15, 30))

    assert requests.duration(MINUTES, NYSE, window, NOW) == "7200 S"  # from the opening at 13:30
    assert requests.end_text(MINUTES, NYSE, window) == "20240701-15:30:00"
