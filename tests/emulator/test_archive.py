"""The archive answers as a gateway would: which contract, which bars of which hours, and which words of refusal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import FrameType, FunctionType
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from market import contract, minute_bars, span_of_sessions, store_with

from backtest.emulator.archive import Archive, end_of
from backtest.emulator.contracts import made_up_number
from backtest.emulator.protocol import BarsRequest, ContractQuery, HeadRequest
from backtest.errors import Refused
from backtest.market.bars import table_of
from backtest.market.series import Instrument, Series
from backtest.market.span import Span
from backtest.store.store import Store, series_of_instrument

NOW = datetime(2025, 1, 2, 15, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")
EURO = ContractQuery(symbol="EUR", kind="CASH", exchange="IDEALPRO", currency="USD")
ES = ContractQuery(symbol="ES", kind="FUT", exchange="CME", currency="USD", expiry="202406", include_expired=True)
Row = tuple[str, float, float, float, float, float | None, float | None, int | None]


def stock(symbol: str, exchange: str = "SMART") -> ContractQuery:
    return ContractQuery(symbol=symbol, kind="STK", exchange=exchange, currency="USD")


def ask(
    store: Store, query: ContractQuery, end: str, duration: str, size: str, rth: bool = True, prices: str = "TRADES"
) -> pa.Table:
    return Archive(store).bars(BarsRequest(1, query, end, size, duration, rth, prices), NOW).bars


def clock(bars: pa.Table) -> list[str]:
    return [f"{time.astimezone(NEW_YORK):%d %H:%M}" for time in bars["time"].to_pylist()]


def days(bars: pa.Table) -> list[str]:
    return [f"{time:%Y-%m-%d}" for time in bars["time"].to_pylist()]


def refusal(action: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(Refused) as caught:
        action()
    return caught.value.code, str(caught.value)


# --- contracts


@pytest.mark.parametrize(
    "query",
    [
        ContractQuery(con_id=265598),
        ContractQuery(con_id=265598, exchange="SMART", symbol="whatever"),
        stock("AAPL"),
        replace(stock("AAPL"), primary_exchange="NASDAQ"),
        ContractQuery(local_symbol="AAPL", kind="STK"),
    ],
)
def test_a_contract_is_found_by_number_or_by_description(sample: Store, query: ContractQuery) -> None:
    found = Archive(sample).listings(query, NOW)

    assert [listing.facts.con_id for listing in found] == [265598]


@pytest.mark.parametrize(
    "query",
    [
        ContractQuery(),
        ContractQuery(con_id=1),
        ContractQuery(con_id=265598, exchange="NYSE"),
        stock("AAPLE"),
        stock("AAPL", "NYSE"),
        replace(stock("AAPL"), kind="OPT"),
        replace(stock("AAPL"), currency="EUR"),
        replace(stock("AAPL"), primary_exchange="NYSE"),
    ],
)
def test_a_contract_that_does_not_fit_is_unknown(sample: Store, query: ContractQuery) -> None:
    code, text = refusal(lambda: Archive(sample).listings(query, NOW))

    assert (code, text) == (200, "No security definition has been found for the request")


def test_two_venues_are_two_contracts_and_ambiguous_for_bars(tmp_path: Path) -> None:
    dates = ("2024-03-04", "2024-03-05")
    archive = Archive(store_with(tmp_path, {"AAPL/1day": dates, "AAPL-STK-SMART-EUR/1day": dates}))
    query = ContractQuery(symbol="AAPL", kind="STK", exchange="SMART")

    found = archive.listings(query, NOW)
    code, text = refusal(lambda: archive.bars(BarsRequest(1, query, "", "1 day", "1 Y", True, "TRADES"), NOW))

    assert [listing.instrument.currency for listing in found] == ["EUR", "USD"]
    assert (code, text) == (200, "The contract description specified for AAPL is ambiguous.")


def test_an_expired_future_is_found_only_when_asked_for(intraday: Store) -> None:
    code, _ = refusal(lambda: Archive(intraday).listings(replace(ES, include_expired=False), NOW))
    found = Archive(intraday).listings(ES, NOW)
    earlier = Archive(intraday).listings(replace(ES, include_expired=False), datetime(2024, 6, 30, tzinfo=UTC))

    assert code == 200
    assert len(found) == len(earlier) == 1


def test_bars_need_an_exchange(sample: Store) -> None:
    code, text = refusal(lambda: ask(sample, ContractQuery(con_id=265598), "", "1 Y", "1 day"))

    assert (code, text) == (321, "Error validating request.-'bW' : cause - Please enter exchange")


def test_a_made_up_contract_number_never_changes() -> None:
    assert made_up_number(Instrument("AAPL")) == 865992070  # clients keep it
    assert made_up_number(Instrument("AAPL", exchange="NYSE")) != made_up_number(Instrument("AAPL"))


def test_a_contract_stored_later_is_found_by_its_number(tmp_path: Path) -> None:
    store = store_with(tmp_path, {"AAPL/1day": ("2024-03-04", "2024-03-05")})
    archive = Archive(store)
    assert archive.listings(stock("AAPL"), NOW)[0].facts.con_id == made_up_number(Instrument("AAPL"))

    series = Series.parse("AAPL/1day")
    bars = minute_bars(series, date(2024, 3, 6), date(2024, 3, 6))
    span = span_of_sessions(series, date(2024, 3, 6), date(2024, 3, 6))
    store.write(series, span, bars, contract=contract(77, "APPLE INC"))

    assert archive.listings(ContractQuery(con_id=77), NOW)[0].instrument == Instrument("AAPL")


def test_an_instrument_stored_later_is_found(tmp_path: Path) -> None:
    archive = Archive(store_with(tmp_path, {"AAPL/1day": ("2024-03-04", "2024-03-05")}))
    assert len(archive.listings(stock("AAPL"), NOW)) == 1

    store_with(tmp_path, {"MSFT/1day": ("2024-03-04", "2024-03-05")})

    assert len(archive.listings(stock("MSFT"), NOW)) == 1


def test_a_size_stored_later_is_served(tmp_path: Path) -> None:
    store = store_with(tmp_path, {"AAPL/1hour": ("2024-03-04", "2024-03-05")})
    archive = Archive(store)
    request = BarsRequest(1, stock("AAPL"), "20240305-23:59:59", "1 day", "2 D", True, "TRADES")
    assert len(archive.bars(request, NOW).bars) == 2  # made of hours

    series, days = Series.parse("AAPL/1day"), ("2024-03-04", "2024-03-05")
    bar = (datetime(2024, 3, 5, tzinfo=UTC), 1.0, 1.0, 1.0, 1.0, None, None, None)
    store.write(series, days, table_of([bar]))

    assert archive.bars(request, NOW).bars["close"].to_pylist() == [1.0]


def test_an_instrument_that_is_dropped_is_unknown(tmp_path: Path) -> None:
    store = store_with(tmp_path, dict.fromkeys(("AAPL/1day", "MSFT/1day"), ("2024-03-04", "2024-03-05")))
    archive = Archive(store)
    assert len(archive.listings(stock("AAPL"), NOW)) == 1

    store.drop("AAPL/1day")

    assert refusal(lambda: archive.listings(stock("AAPL"), NOW))[0] == 200
    assert [one.instrument.symbol for one in archive.search("")] == ["MSFT"]


def calls_during(action: Callable[[], object], *functions: FunctionType) -> int:
    """Return how often functions are called while something is done."""
    codes, calls = {function.__code__ for function in functions}, 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code in codes

    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(None)
    return calls


def test_an_answer_looks_into_the_folders_of_its_instrument_alone(tmp_path: Path) -> None:
    store = store_with(tmp_path, {f"S{n}/1day": ("2024-03-04", "2024-03-05") for n in range(9)})
    request = BarsRequest(1, stock("S1"), "20240305-23:59:59", "1 day", "2 D", True, "TRADES")
    archive = Archive(store)
    archive.bars(request, NOW)

    looked_at = calls_during(lambda: archive.bars(request, NOW), Store.series, series_of_instrument)

    assert 0 < looked_at < 4


def test_a_search_looks_at_the_beginning_of_symbols_and_names(sample: Store) -> None:
    archive = Archive(sample)

    found = [[listing.instrument.symbol for listing in archive.search(text)] for text in ("aa", "apple", "pple")]

    assert found == [["AAPL"], ["AAPL"], []]


def test_the_hours_of_a_week_name_sessions_and_closed_days(sample: Store) -> None:
    archive = Archive(sample)
    listing = archive.listings(stock("AAPL"), NOW)[0]

    _, liquid = archive.hours(listing, datetime(2024, 7, 3, 12, tzinfo=UTC))

    assert liquid.startswith("20240703:0930-20240703:1300;20240704:CLOSED;20240705:0930-20240705:1600;20240706:CLOSED")


# --- ends and durations


@pytest.mark.parametrize(
    ("text", "hour", "zoneless"),
    [
        ("20240304-18:00:00", 18, False),
        ("20240304 18:00:00 UTC", 18, False),
        ("20240304 13:00:00 US/Eastern", 18, False),
        ("20240304 19:00:00 Europe/Berlin", 18, False),
        ("20240304 13:00:00", 18, True),
        ("20240304  13:00:00", 18, True),
    ],
)
def test_an_end_is_read_in_its_zone(text: str, hour: int, zoneless: bool) -> None:
    assert end_of(text, NOW) == (datetime(2024, 3, 4, hour, tzinfo=UTC), zoneless)


def test_no_end_and_an_end_to_come_are_now() -> None:
    assert end_of("", NOW) == end_of("20990101-00:00:00", NOW) == (NOW, False)


@pytest.mark.parametrize(
    "text",
    ["2024-03-04 13:00:00", "20240304", "20240230-10:00:00", "20240304 25:00:00 UTC", "20240304 10:00:00 Mars/Base",
     "20240304-10:00:00 UTC", "20240304 10:00:00 ../etc", "20240304 10:00:00 America", "now"],
)  # fmt: skip
def test_an_end_that_cannot_be_read_is_refused(text: str) -> None:
    assert refusal(lambda: end_of(text, NOW))[0] == 10314


@pytest.mark.parametrize(
    ("size", "duration", "words"),
    [
        ("1 sec", "1 D", "bar size setting is invalid"),
        ("1 mins", "1 D", "bar size setting is invalid"),
        ("1hour", "1 D", "bar size setting is invalid"),
        ("1 day", "1D", "Duration format"),
        ("1 day", "1 X", "Duration format"),
        ("1 day", "0 D", "Duration format"),
        ("1 day", "366 D", "longer than 365 days must be made in years"),
        ("1 day", "53 W", "longer than 52 weeks must be made in years"),
        ("1 day", "13 M", "longer than 12 months must be made in years"),
        ("1 day", "86401 S", "longer than 86400 seconds must be made in days"),
        ("1 day", "29 S", "shorter than 30 seconds"),
    ],
)
def test_sizes_and_durations_are_checked_by_the_gateway(sample: Store, size: str, duration: str, words: str) -> None:
    code, text = refusal(lambda: ask(sample, stock("AAPL"), "", duration, size))

    assert code == 321
    assert text.startswith("Error validating request.-'bW' : cause - ")
    assert words in text


def test_days_count_sessions(intraday: Store) -> None:
    bars = ask(intraday, stock("AAPL"), "20240312 12:00:00 US/Eastern", "3 D", "1 min")

    assert clock(bars)[0] == "08 09:30"
    assert clock(bars)[-1] == "12 11:59"
    assert len(bars) == 390 + 390 + 150


def test_seconds_count_by_the_clock(intraday: Store) -> None:
    bars = ask(intraday, stock("AAPL"), "20240312 12:00:00 US/Eastern", "1800 S", "1 min")

    assert clock(bars) == [f"12 11:{minute}" for minute in range(30, 60)]


def test_weeks_count_by_the_calendar(intraday: Store) -> None:
    bars = ask(intraday, stock("AAPL"), "20240312 12:00:00 US/Eastern", "1 W", "1 min")

    assert (clock(bars)[0], clock(bars)[-1]) == ("05 11:00", "12 11:59")  # 168 hours; winter time then


def test_the_end_is_exclusive_and_no_bar_goes_beyond_it(intraday: Store) -> None:
    bars = ask(intraday, stock("AAPL"), "20240312 11:30:00 US/Eastern", "1 D", "1 hour")

    assert clock(bars) == ["12 09:30", "12 10:00"]


@pytest.mark.parametrize(
    ("end", "last"),
    [
        ("20130302-00:00:00", "2013-03-01"),
        ("20130301 16:00:00 US/Eastern", "2013-03-01"),
        ("20130301 15:59:59 US/Eastern", "2013-02-28"),
        ("20130301-00:00:00", "2013-02-28"),
    ],
)
def test_a_day_is_served_once_its_session_has_closed(sample: Store, end: str, last: str) -> None:
    assert days(ask(sample, stock("AAPL"), end, "1 W", "1 day"))[-1] == last


def test_a_year_of_days_ends_where_the_next_begins(sample: Store) -> None:
    older = ask(sample, stock("AAPL"), "20120302-00:00:00", "1 Y", "1 day")
    newer = ask(sample, stock("AAPL"), "20130302-00:00:00", "1 Y", "1 day")

    assert (days(older)[-1], days(newer)[0]) == ("2012-03-01", "2012-03-02")


def test_all_days_of_a_store_come_in_one_answer(sample: Store) -> None:
    bars = ask(sample, stock("AAPL"), "", "68 Y", "1 day")

    assert bars.equals(sample.read(Series.parse("AAPL/1day")))


# --- hours, and bars made of smaller ones


def test_regular_hours_are_cut_out_of_all_hours(intraday: Store) -> None:
    bars = ask(intraday, stock("MSFT"), "20240706-00:00:00", "2 D", "1 min")

    assert (clock(bars)[0], clock(bars)[-1]) == ("03 09:30", "05 15:59")
    assert len(bars) == 210 + 390


def test_all_hours_are_never_made_of_regular_ones(tmp_path: Path) -> None:
    store = store_with(tmp_path, {"AAPL/1min": ("2024-03-04", "2024-03-05")})

    assert refusal(lambda: ask(store, stock("AAPL"), "20240306-12:00:00", "1 D", "1 min", rth=False))[0] == 162


def test_regular_hours_are_not_cut_out_of_bars_that_cross_the_opening(tmp_path: Path) -> None:
    store = store_with(tmp_path, {"AAPL/1hour/TRADES/all": ("2024-03-04", "2024-03-05")})

    assert refusal(lambda: ask(store, stock("AAPL"), "20240306-00:00:00", "1 D", "1 hour"))[0] == 162


def test_forex_is_served_whatever_the_hours(intraday: Store) -> None:
    regular, every = (
        ask(intraday, EURO, "20240315-21:00:00", "2 D", "1 min", rth, "MIDPOINT") for rth in (True, False)
    )

    assert regular.equals(every)
    assert len(regular) == 2 * (24 * 60 - 15)


def test_hours_of_a_stock_start_with_the_session_and_then_with_the_clock(intraday: Store) -> None:
    bars = ask(intraday, stock("AAPL"), "20240312-00:00:00", "2 D", "1 hour")

    day = ["09:30", "10:00", "11:00", "12:00", "13:00", "14:00", "15:00"]
    assert clock(bars) == [f"08 {hour}" for hour in day] + [f"11 {hour}" for hour in day]  # summer time between them


def test_a_half_day_has_four_hours(intraday: Store) -> None:
    bars = ask(intraday, stock("MSFT"), "20240704-00:00:00", "1 D", "1 hour")

    assert clock(bars) == ["03 09:30", "03 10:00", "03 11:00", "03 12:00"]


def test_bars_are_made_of_smaller_ones(tmp_path: Path) -> None:
    store, series = Store(tmp_path), Series.parse("AAPL/1min")
    rows: list[Row] = [("09:30", 10, 12, 9, 11, 100, 10.5, 3), ("09:31", 11, 15, 10, 14, 300, 12.5, 4)]
    start = datetime(2024, 3, 4, 14, 30, tzinfo=UTC)
    table = table_of((start.replace(minute=int(row[0][3:])), *row[1:]) for row in rows)
    store.write(series, Span(start, start.replace(hour=21, minute=0)), table)

    bars = ask(store, stock("AAPL"), "20240305-00:00:00", "1 D", "5 mins").to_pylist()

    expected = {"open": 10, "high": 15, "low": 9, "close": 14, "volume": 400, "average": 12.0, "trades": 7}
    assert bars == [{"time": start} | expected]


def test_bars_of_quotes_made_of_smaller_ones_have_no_volume(intraday: Store) -> None:
    bars = ask(intraday, EURO, "20240312-00:00:00", "1 D", "1 hour", prices="MIDPOINT")

    assert [bars[name].null_count for name in ("volume", "average", "trades")] == [len(bars)] * 3


def test_a_day_made_of_minutes_is_stamped_with_its_session(intraday: Store) -> None:
    minutes = ask(intraday, ES, "20240311-22:00:00", "1 D", "1 min")
    bars = ask(intraday, ES, "20240311-22:00:00", "1 D", "1 day")

    assert clock(minutes)[0] == "10 18:00"  # Sunday evening belongs to Monday
    assert days(bars) == ["2024-03-11"]
    assert bars["volume"][0].as_py() == sum(minutes["volume"].to_pylist())


def test_bars_are_only_made_where_the_smaller_ones_were_asked_for(tmp_path: Path) -> None:
    store = store_with(tmp_path, {"AAPL/1day": ("2024-03-04", "2024-03-13")})

    bars = ask(store, stock("AAPL"), "20240401-00:00:00", "1 Y", "1 week")

    assert days(bars) == ["2024-03-08"]  # of the week after it three days are stored


def test_a_month_is_stamped_with_its_last_session(sample: Store) -> None:
    bars = ask(sample, stock("AAPL"), "20130301-00:00:00", "1 Y", "1 month")
    daily = ask(sample, stock("AAPL"), "20130301-00:00:00", "1 M", "1 day")

    assert days(bars)[-2:] == ["2013-01-31", "2013-02-28"]
    assert bars["close"][-1] == daily["close"][-1]


def test_the_stored_size_is_served_as_it_is(intraday: Store) -> None:
    bars = ask(intraday, stock("AAPL"), "20240316-12:00:00", "10 D", "1 min")

    assert bars.equals(intraday.read(Series.parse("AAPL/1min")))


def test_an_instrument_without_calendar_still_has_its_stored_days(tmp_path: Path) -> None:
    series = Series.parse("ABC-STK-MOON/1day")
    rows = [(datetime(2024, 3, day, tzinfo=UTC), 1.0, 1.0, 1.0, 1.0, None, None, None) for day in (4, 5, 6)]
    store = Store(tmp_path)
    store.write(series, Span.of_dates(date(2024, 3, 1), date(2024, 3, 31)), table_of(rows))

    bars = ask(store, stock("ABC", "MOON"), "20240306-00:00:00", "1 M", "1 day")

    assert days(bars) == ["2024-03-04", "2024-03-05"]


# --- head, schedule, refusals


def test_the_head_is_the_opening_of_the_first_session(sample: Store) -> None:
    head = Archive(sample).head(HeadRequest(1, stock("AAPL"), True, "TRADES"), NOW)

    assert head == datetime(2000, 3, 1, 14, 30, tzinfo=UTC)


def test_without_bars_there_is_no_head(sample: Store) -> None:
    request = HeadRequest(1, stock("AAPL"), True, "MIDPOINT")

    assert refusal(lambda: Archive(sample).head(request, NOW))[0] == 162


def test_a_schedule_has_the_sessions_with_half_days(sample: Store) -> None:
    request = BarsRequest(1, stock("AAPL"), "20240706-00:00:00", "1 day", "2 D", True, "SCHEDULE")

    found = Archive(sample).schedule(request, NOW)

    assert [session.day.day for session in found.sessions] == [3, 5]
    assert found.sessions[0].close == datetime(2024, 7, 3, 17, tzinfo=UTC)


def test_a_schedule_is_of_days(sample: Store) -> None:
    request = BarsRequest(1, stock("AAPL"), "", "1 hour", "2 D", True, "SCHEDULE")

    assert refusal(lambda: Archive(sample).schedule(request, NOW))[0] == 321


@pytest.mark.parametrize(
    ("prices", "end", "size", "code", "words"),
    [
        ("TRADES", "19990101-00:00:00", "1 day", 162, "HMDS query returned no data: AAPL@SMART Trades"),
        ("BID", "", "1 day", 162, "HMDS query returned no data: AAPL@SMART Bid"),
        ("ADJUSTED_LAST", "20130302-00:00:00", "1 day", 321, "End date not supported with adjusted last"),
        ("ADJUSTED_LAST", "", "1 week", 321, "not supported with adjusted last"),
        ("PRICES", "", "1 day", 321, "What to show field is missing or incorrect"),
        ("TRADES", "nonsense", "1 day", 10314, "time-zone entered is invalid"),
    ],
)
def test_a_stock_is_refused_what_it_does_not_have(
    sample: Store, prices: str, end: str, size: str, code: int, words: str
) -> None:
    refused = refusal(lambda: ask(sample, stock("AAPL"), end, "1 Y", size, prices=prices))

    assert refused[0] == code
    assert words in refused[1]


def test_forex_has_no_trades(intraday: Store) -> None:
    code, text = refusal(lambda: ask(intraday, EURO, "", "1 D", "1 day"))

    words = "Historical Market Data Service error message:No historical market data for EUR/CASH@FXSUBPIP Last 1d"
    assert (code, text) == (162, words)


def test_a_continuous_future_has_no_end_date(tmp_path: Path) -> None:
    store = store_with(tmp_path, {"ES-CONTFUT-CME/1day": ("2024-03-04", "2024-03-05")})
    query = ContractQuery(symbol="ES", kind="CONTFUT", exchange="CME")

    assert refusal(lambda: ask(store, query, "20240306-00:00:00", "1 W", "1 day"))[0] == 10339
    assert len(ask(store, query, "", "5 Y", "1 day")) == 2


def test_a_clock_in_the_past_hides_what_came_later(sample: Store) -> None:
    request = BarsRequest(1, stock("AAPL"), "", "1 day", "3 D", True, "TRADES")

    bars = Archive(sample).bars(request, datetime(2005, 3, 2, 22, tzinfo=UTC)).bars

    assert days(bars) == ["2005-02-28", "2005-03-01", "2005-03-02"]
