from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from exchange_calendars import calendar_utils

from backtest.emulator.contracts import hours_text, listing_of
from backtest.errors import UsageError
from backtest.market.calendars import exact, fallback, known_dates, sessions, sessions_a_year, time_zone
from backtest.market.checks import session_edges
from backtest.market.hours import EXCHANGES, WEEKS, Hours, Session, StatedHours, hours_of, stated_hours
from backtest.market.series import ContractDetails, Instrument, Series
from backtest.market.span import Span
from backtest.store.reader import hours_in
from backtest.store.store import Store

AAPL = Instrument("AAPL")


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)


def hours(text, **details):
    return hours_of(Instrument.parse(text), ContractDetails(**details) if details else None)


# --- by the exchange


def test_instruments_of_one_calendar_have_equal_hours():
    assert hours("AAPL") == hours("MSFT-STK-NASDAQ") == Hours("XNYS", "America/New_York")
    assert hours("AAPL") != hours("ASML-STK-AEB-EUR")


def test_equal_hours_share_what_is_laid_out_once():
    first, second = Series.parse("AAPL/1min"), Series.parse("MSFT-STK-NASDAQ/5mins")

    assert session_edges(first, hours("AAPL"))[0] is session_edges(second, hours("MSFT-STK-NASDAQ"))[0]


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_the_zone_is_that_of_the_calendar(exchange):
    found = hours_of(Instrument("ANY", exchange=exchange, currency="EUR"))

    # Of the class: to lay out a calendar takes up to two seconds.
    calendar = calendar_utils._default_calendar_factories.get(found.calendar)
    assert found.zone == str(calendar.tz) if calendar else found.calendar in WEEKS


def test_details_without_hours_change_nothing():
    assert hours("AAPL", con_id=265598, time_zone="US/Eastern") == hours("AAPL")


def test_of_an_unknown_exchange_the_instrument_is_named():
    unknown = hours("ROCK-STK-MARS-USD")

    assert (exact(unknown), sessions_a_year(unknown)) == (False, 252)
    assert fallback(unknown, date(2024, 1, 2), date(2024, 1, 3)) == (
        "weekdays; no holidays known for the exchange 'MARS' of ROCK-STK-MARS-USD"
    )
    with pytest.raises(UsageError, match="no calendar is known for the exchange 'MARS' of ROCK-STK-MARS-USD; known"):
        time_zone(unknown)


def test_new_york_closes_early_on_the_day_after_thanksgiving():
    assert sessions(hours("AAPL"), date(2024, 11, 28), date(2024, 11, 29)) == [
        Session(date(2024, 11, 29), utc(2024, 11, 29, 14, 30), utc(2024, 11, 29, 18))
    ]


def test_a_forex_week_is_five_sessions_from_the_evening_before():
    week = sessions(hours("EUR-CASH"), date(2024, 1, 6), date(2024, 1, 12))

    assert [session.day.day for session in week] == [8, 9, 10, 11, 12]
    assert (week[0].open, week[-1].close) == (utc(2024, 1, 7, 22, 15), utc(2024, 1, 12, 22))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:DatetimeIndex.weekday is deprecated")  # which its calendar calls
def test_hong_kong_has_a_break_at_noon_but_on_half_days():
    found = sessions(hours("700-STK-SEHK-HKD"), date(2024, 2, 8), date(2024, 2, 9))

    noon = Span(utc(2024, 2, 8, 4), utc(2024, 2, 8, 5))
    assert found == [
        Session(date(2024, 2, 8), utc(2024, 2, 8, 1, 30), utc(2024, 2, 8, 8), (noon,)),
        Session(date(2024, 2, 9), utc(2024, 2, 9, 1, 30), utc(2024, 2, 9, 4)),
    ]


# --- as IB states them


def test_a_half_day_and_a_holiday_as_ib_states_them():
    stated = stated_hours("20241128:CLOSED;20241129:0930-20241129:1300;20241130:CLOSED", "US/Eastern")

    half = Session(date(2024, 11, 29), utc(2024, 11, 29, 14, 30), utc(2024, 11, 29, 18))
    assert stated == StatedHours(date(2024, 11, 28), date(2024, 11, 30), (half,))


def test_the_session_moves_with_the_clocks():
    stated = stated_hours("20240308:0930-20240308:1600;20240311:0930-20240311:1600", "US/Eastern")

    assert [session.open for session in stated.sessions] == [utc(2024, 3, 8, 14, 30), utc(2024, 3, 11, 13, 30)]
    assert (stated.since, stated.until) == (date(2024, 3, 8), date(2024, 3, 11))  # and nothing on the weekend


def test_a_session_of_chicago_has_a_break_in_the_afternoon():
    text = "20240106:CLOSED;20240107:1700-20240108:1515;20240108:1530-20240108:1600"

    (monday,) = stated_hours(text, "US/Central").sessions

    assert (monday.day, monday.open, monday.close) == (date(2024, 1, 8), utc(2024, 1, 7, 23), utc(2024, 1, 8, 22))
    assert monday.breaks == (Span(utc(2024, 1, 8, 21, 15), utc(2024, 1, 8, 21, 30)),)


@pytest.mark.parametrize(
    "text",
    [
        "20240104:0900-20240104:1130;20240104:1230-20240104:1500",
        "20240104:0900-20240104:1130,20240104:1230-20240104:1500",
        "20240104:0900-1130,1230-1500",
        " 20240104:1230-1500 ; 20240104:0900-1130 ;",
        "20240104:0900-1130,0900-1130,1230-1500",
    ],
)
def test_ranges_of_a_day_are_one_session_with_a_break(text):
    (session,) = stated_hours(text, "Japan").sessions

    noon = Span(utc(2024, 1, 4, 2, 30), utc(2024, 1, 4, 3, 30))
    assert session == Session(date(2024, 1, 4), utc(2024, 1, 4), utc(2024, 1, 4, 6), (noon,))


def test_a_first_range_over_midnight_of_an_old_version_begins_the_evening_before():
    (session,) = stated_hours("20130114:1700-1515,1530-1615", "US/Central").sessions

    pause = Span(utc(2013, 1, 14, 21, 15), utc(2013, 1, 14, 21, 30))
    assert session == Session(date(2013, 1, 14), utc(2013, 1, 13, 23), utc(2013, 1, 14, 22, 15), (pause,))


def test_a_later_range_over_midnight_of_an_old_version_ends_on_the_day_after():
    (session,) = stated_hours("20181217:0915-1200,1300-1630,1715-0100", "Asia/Hong_Kong").sessions

    assert (session.day, session.close) == (date(2018, 12, 17), utc(2018, 12, 17, 17))
    assert len(session.breaks) == 2


def test_the_evening_of_a_friday_belongs_to_monday():
    text = (
        "20181213:1715-20181214:0100;20181214:0915-20181214:1630;20181215:CLOSED;20181216:CLOSED;"
        "20181214:1715-20181215:0100;20181217:0915-20181217:1630"
    )

    friday, monday = stated_hours(text, "Asia/Hong_Kong", regular_hours=False).sessions

    assert (friday.day.day, friday.open, friday.close) == (14, utc(2018, 12, 13, 9, 15), utc(2018, 12, 14, 8, 30))
    weekend = Span(utc(2018, 12, 14, 17), utc(2018, 12, 17, 1, 15))
    assert monday == Session(date(2018, 12, 17), utc(2018, 12, 14, 9, 15), utc(2018, 12, 17, 8, 30), (weekend,))


def test_an_evening_whose_day_is_not_stated_is_left_out():
    stated = stated_hours("20181214:0915-20181214:1630;20181214:1715-20181215:0100;20181215:CLOSED", "Asia/Hong_Kong")

    (friday,) = stated.sessions
    assert (friday.day, friday.close) == (date(2018, 12, 14), utc(2018, 12, 14, 8, 30))
    assert stated.until == date(2018, 12, 15)


@pytest.mark.parametrize("text", ["20240102:0000-20240103:0000", "20240102:0000-2400", "20240102:0000-0000"])
def test_a_session_that_ends_at_midnight_is_of_the_day_before_it(text):
    assert stated_hours(text, "UTC").sessions == (Session(date(2024, 1, 2), utc(2024, 1, 2), utc(2024, 1, 3)),)


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("", "US/Eastern"),
        ("0930-1600", "US/Eastern"),
        ("CLOSED", "US/Eastern"),
        ("20240102:0930", "US/Eastern"),
        ("20240102:0930-1600,", "US/Eastern"),
        ("20241301:0930-1600", "US/Eastern"),
        ("20240102:0930-2500", "US/Eastern"),
        ("99991231:0930-2400", "US/Eastern"),
        ("20240102:1600-20240102:0930", "US/Eastern"),
        ("20240102:0930-20240102:1600", "MARS/Olympus"),
        ("20240102:0930-20240102:1600", ""),
    ],
)
def test_what_ib_would_not_write_is_refused_and_quoted(text, zone):
    with pytest.raises(UsageError, match="cannot be read as hours of IB") as refused:
        stated_hours(text, zone)

    assert repr(text) in str(refused.value)


@pytest.mark.parametrize("text", ["AAPL", "EUR-CASH", "ES-FUT-CME-USD-202412"])
def test_what_the_emulator_states_are_the_sessions_of_the_calendar(text):
    instrument, week = Instrument.parse(text), [date(2024, 3, 7 + n) for n in range(7)]  # the clocks change
    found = sessions(hours_of(instrument), week[0], week[-1])
    listing = listing_of(instrument, None)

    stated = stated_hours(hours_text(found, week, listing), listing.facts.time_zone)

    assert list(stated.sessions) == found


# --- both


def test_what_is_stated_goes_before_the_calendar_on_its_dates_only():
    own = hours("AAPL", liquid_hours="20240103:CLOSED;20240104:0930-20240104:1200", time_zone="US/Eastern")

    found = sessions(own, date(2024, 1, 2), date(2024, 1, 5))

    assert [(session.day.day, session.close.hour) for session in found] == [(2, 21), (4, 17), (5, 21)]
    assert sessions(own, date(2024, 1, 3), date(2024, 1, 3)) == []


def test_trading_hours_are_all_hours_and_liquid_hours_the_regular_ones():
    own = hours(
        "AAPL", trading_hours="20240103:0700-20240103:1800", liquid_hours="20240103:1000-20240103:1500",
        time_zone="US/Eastern",
    )  # fmt: skip
    day = date(2024, 1, 3)

    assert sessions(own, day, day) == [Session(day, utc(2024, 1, 3, 15), utc(2024, 1, 3, 20))]
    assert sessions(own, day, day, regular_hours=False) == [Session(day, utc(2024, 1, 3, 12), utc(2024, 1, 3, 23))]


def test_of_two_statements_the_later_counts():
    first = stated_hours("20240102:CLOSED;20240103:0930-20240103:1200", "US/Eastern")
    second = stated_hours("20240103:0930-20240103:1500", "US/Eastern")
    own = Hours("XNYS", "America/New_York", (first, second))

    (session,) = sessions(own, date(2024, 1, 2), date(2024, 1, 3))

    assert session.close == utc(2024, 1, 3, 20)


def test_an_unknown_exchange_trades_when_its_contract_says_and_else_on_weekdays():
    own = hours("ROCK-STK-MARS-USD", liquid_hours="20240102:0930-20240102:1600;20240103:CLOSED", time_zone="US/Eastern")

    assert [session.day.day for session in sessions(own, date(2024, 1, 2), date(2024, 1, 3))] == [2]
    assert time_zone(own) == "US/Eastern"
    assert fallback(own, date(2024, 1, 2), date(2024, 1, 3)) == ""
    assert [session.day.day for session in sessions(own, date(2024, 1, 2), date(2024, 1, 8))] == [2, 4, 5, 8]
    assert fallback(own, date(2024, 1, 2), date(2024, 1, 4)).startswith("weekdays; no holidays known")


def test_stated_hours_are_kept_beside_the_bars_and_say_nothing_where_there_are_none(tmp_path):
    series, store = Series.parse("AAPL/1day"), Store(tmp_path)
    plain = ContractDetails(265598, "AAPL")
    stating = ContractDetails(265598, "AAPL", liquid_hours="20240102:CLOSED", trading_hours="20240103:CLOSED")

    for contract in (plain, stating):
        store.write(series, Span.of_dates(date(2024, 1, 1), date(2024, 1, 1)), _nothing(), contract=contract)
        text = (store.folder(series) / "manifest.json").read_text()

        assert store.manifest(series).contract == contract
        assert ("_hours" in text) == (contract is stating)


def test_the_store_has_the_hours_of_the_exchange_yet(tmp_path):
    series, store = Series.parse("AAPL/1day"), Store(tmp_path)
    contract = ContractDetails(265598, "AAPL", time_zone="US/Eastern", liquid_hours="20240103:CLOSED")
    store.write(series, Span.of_dates(date(2024, 1, 1), date(2024, 1, 1)), _nothing(), contract=contract)

    assert hours_in(store, series) == hours("AAPL")


def _nothing():
    from backtest.market.bars import schema

    return schema().empty_table()


@pytest.mark.parametrize("exchange", ["NYSE", "TSEJ", "NSE", "SGX", "SEHKNTL", "KSE", "SEHK", "LSE"])
def test_a_calendar_is_taken_for_no_date_that_the_library_does_not_have(exchange):
    found = hours_of(Instrument("ANY", exchange=exchange))
    library = calendar_utils._default_calendar_factories[found.calendar]

    first, last = known_dates(found)

    assert library.bound_min() is None or library.bound_min().date() <= first
    assert library.bound_max() is None or last <= library.bound_max().date()


@pytest.mark.parametrize(
    ("exchange", "since", "until", "rule"),
    [
        ("TSEJ", "1996-12-31", "1997-01-06", "before 1997-01-01 weekdays; no holidays known"),
        ("TSEJ", "1997-01-01", "2026-01-06", ""),
        ("NYSE", "1970-01-02", "2026-01-06", ""),
        ("NYSE", "1969-12-31", "2026-01-06", "before 1970-01-01 weekdays; no holidays known"),
        ("TASE", "2020-01-01", "2020-01-02", "Sunday to Thursday, from 2026-01-05 weekdays; no holidays known"),
        ("OSE.JPN", "2020-01-01", "2020-01-02", "weekdays; no holidays known"),
        ("IBIS", "2039-12-30", "2040-01-02", "after 2039-12-31 weekdays; no holidays known"),
    ],
)
def test_the_rule_is_named_where_a_date_has_no_calendar(exchange, since, until, rule):
    found = hours_of(Instrument("ANY", exchange=exchange))

    assert fallback(found, date.fromisoformat(since), date.fromisoformat(until)) == rule
    assert exact(found, date.fromisoformat(since), date.fromisoformat(until)) is (rule == "")


def test_forex_and_crypto_need_no_rule():
    assert {fallback(hours(text), date(1950, 1, 1), date(2090, 1, 1)) for text in ("EUR-CASH", "BTC-CRYPTO")} == {""}


def test_a_product_with_hours_of_its_own_has_a_rule_but_for_the_dates_that_ib_states():
    week = date(2024, 6, 3), date(2024, 6, 7)
    future = hours("FDAX-FUT-EUREX-EUR-202406")
    stated = stated_hours("20240603:0115-20240603:2200;20240604:CLOSED;20240607:0115-20240607:2200", "Europe/Berlin")

    assert fallback(future, *week) == "weekdays; no holidays known"
    assert fallback(replace(future, stated=(stated,)), *week) == ""
    assert [one.day.day for one in sessions(replace(future, stated=(stated,)), *week)] == [3, 7]


@pytest.mark.parametrize(
    ("text", "calendar"),
    [
        ("7203-STK-SMART-JPY", "XTKS"),
        ("VOLV%20B-STK-SMART-SEK", "XSTO"),
        ("MC-STK-SMART-EUR", "XETR"),
        ("MC-STK-SMART-EUR+primary=SBF", "XPAR"),
        ("TEVA-STK-SMART-ILS", "TASE"),
        ("FPH-STK-SMART-NZD", ""),
    ],
)
def test_smart_goes_by_the_primary_exchange_or_the_currency(text, calendar):
    assert hours(text).calendar == calendar


def test_a_night_session_belongs_to_the_next_day():
    found = sessions(hours("NK225M-FUT-OSE.JPN-JPY-202409"), date(2024, 7, 5), date(2024, 7, 8))

    # From 16:00 to 16:00 in Tokyo: the night of a Friday counts for Monday, as what lies between two sessions does.
    assert [(one.day.day, one.open, one.close) for one in found] == [
        (5, utc(2024, 7, 4, 7), utc(2024, 7, 5, 7)),
        (8, utc(2024, 7, 7, 7), utc(2024, 7, 8, 7)),
    ]
