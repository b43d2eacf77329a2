import asyncio
import json
import socket
from datetime import UTC, date, datetime, timedelta

import pytest
from market import store_with
from places import ROOT

from backtest.downloads.downloader import download
from backtest.downloads.retry import Persistence
from backtest.emulator.faults import Faults
from backtest.emulator.server import Gateway
from backtest.errors import (
    AmbiguousContract,
    BadRequest,
    NoBars,
    NoConnection,
    NoData,
    NoPermission,
    Refused,
    Unanswered,
    UnknownContract,
    UsageError,
)
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.sources.base import Patience
from backtest.sources.connect import connect
from backtest.store.store import Store

AAPL = Series.parse("AAPL/1day")
SUMMER = datetime(2024, 7, 15, tzinfo=UTC)  # before the future of June has been expired for long
YEARS = (date(2000, 3, 1), date(2013, 3, 1))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "bars")


@pytest.fixture
def source(gateway):
    with connect(gateway.address) as opened:
        yield opened


def script(tmp_path, *entries):
    path = tmp_path / "faults.json"
    path.write_text(json.dumps(list(entries)))
    return Faults.load(path)


@pytest.mark.second_client
@pytest.mark.parametrize("text", ["AAPL/1day", "GOOG/1day", "IBM/1day/ADJUSTED_LAST"])
def test_daily_bars_come_back_from_the_socket_bit_for_bit(sample, store, source, text):
    series = Series.parse(text)

    report = download(store, source, series, YEARS)

    assert report.complete
    assert store.read(series).equals(sample.read(series))
    assert store.manifest(series).content == sample.manifest(series).content


@pytest.mark.slow
@pytest.mark.parametrize("text", ["AAPL/1min", "AAPL/1min/TRADES/all", "EUR-CASH/1min", "ES-FUT-CME-USD-202406/1min"])
def test_minutes_come_back_bit_for_bit_across_a_change_of_the_clocks(intraday, store, text):
    series = Series.parse(text)
    dates = (date(2024, 3, 4), date(2024, 3, 15))

    with Gateway(intraday, clock=lambda: SUMMER) as gateway, connect(gateway.address) as source:
        report = download(store, source, series, dates if "FUT" not in text else (date(2024, 3, 8), date(2024, 3, 12)))

    assert report.complete
    assert store.read(series).equals(intraday.read(series))
    assert store.manifest(series).content == intraday.manifest(series).content


@pytest.mark.second_client
def test_a_half_day_comes_back_bit_for_bit(intraday, store):
    series = Series.parse("MSFT/1min/TRADES/all")

    with Gateway(intraday) as gateway, connect(gateway.address) as source:
        download(store, source, series, (date(2024, 7, 1), date(2024, 7, 5)))

    assert store.read(series).equals(intraday.read(series))


@pytest.mark.second_client
def test_the_second_download_asks_for_nothing(store, source):
    download(store, source, [AAPL, Series.parse("AAPL/1day/ADJUSTED_LAST")], YEARS)

    again = download(store, source, [AAPL, Series.parse("AAPL/1day/ADJUSTED_LAST")], YEARS)

    assert (again.requests, again.complete) == (0, True)


def test_only_what_is_missing_is_asked_for(sample, store, source):
    download(store, source, AAPL, (date(2001, 1, 2), date(2005, 12, 30)))

    report = download(store, source, AAPL, YEARS)

    assert report.requests == 2  # before and after
    assert store.read(AAPL).equals(sample.read(AAPL))


def test_a_span_without_bars_is_remembered_as_answered_and_is_not_complete(store, source):
    span = (date(2020, 1, 2), date(2020, 1, 10))

    first, again = (download(store, source, AAPL, span) for _ in range(2))

    assert [(one.complete, one.exit_code) for one in (first, again)] == [(False, 3)] * 2
    assert first.series[0].confirmed_empty == (Span.of_dates(*span),)
    assert again.requests == 0
    with pytest.raises(NoBars):
        store.read(AAPL)


def test_history_that_changes_with_dividends_is_replaced_whole(sample, store, source):
    series = Series.parse("IBM/1day/ADJUSTED_LAST")
    download(store, source, series, (date(2000, 3, 1), date(2005, 12, 30)))

    report = download(store, source, series, YEARS)

    assert report.requests == 1
    assert store.read(series).equals(sample.read(series))


@pytest.mark.second_client
def test_the_contract_is_stored_beside_the_bars(store, source):
    download(store, source, AAPL, YEARS)

    assert store.manifest(AAPL).contract.con_id == 265598


def test_one_series_that_fails_does_not_stop_the_others(store, source):
    report = download(store, source, [Series.parse("NOPE/1day"), AAPL], YEARS)

    assert [one.status for one in report.series] == ["failed", "complete"]
    assert "error 200" in report.series[0].errors[0]
    assert not report.complete


@pytest.mark.slow
def test_a_timeout_is_not_an_empty_market(sample, store, tmp_path):
    faults = script(tmp_path, {"when": {"request": 1}, "do": "silence"})
    span = (date(2001, 1, 2), date(2001, 2, 1))

    with Gateway(sample, faults=faults) as gateway, connect(gateway.address, patience=Patience(answer=0.2)) as source:
        source.know(AAPL.instrument, sample.manifest(AAPL).contract)  # which is no matter of the bars' patience
        first = download(store, source, AAPL, span, persistence=Persistence(tries=1))
        again = download(store, source, AAPL, span)

    assert (first.series[0].status, first.exit_code) == ("failed", 4)
    assert "does not mean that there are none" in first.series[0].errors[0]
    assert again.complete
    assert again.series[0].bars == 22


@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        ({"do": "error", "code": 162, "text": "HMDS query returned no data: AAPL"}, NoData, "162"),
        ({"do": "error", "code": 162, "text": "Query failed"}, Refused, "Query failed"),
        ({"do": "error", "code": 321, "text": "Error validating request"}, BadRequest, "321"),
        ({"do": "error", "code": 354, "text": "not subscribed"}, NoPermission, "subscribe"),
        ({"do": "empty"}, Unanswered, "no bars and no response"),
    ],
)
def test_each_kind_of_answer_is_told_apart(sample, tmp_path, fault, error, text):
    faults = script(tmp_path, {"when": {"request": 1}, **fault})
    window = Span.of_dates(date(2001, 1, 2), date(2001, 2, 1))

    with (
        Gateway(sample, faults=faults) as gateway,
        connect(gateway.address) as source,
        pytest.raises(error, match=text) as caught,
    ):
        source.fetch(AAPL, window)

    assert caught.type is error


@pytest.mark.second_client
def test_an_unknown_contract_is_refused(source):
    with pytest.raises(UnknownContract, match="check symbol"):
        source.qualify(Series.parse("NOPE/1day").instrument)


def test_an_ambiguous_contract_lists_its_candidates(tmp_path):
    futures = {f"ES-FUT-CME-USD-2024{month}/1day": ("2024-03-04", "2024-03-08") for month in ("06", "09")}
    with (
        Gateway(store_with(tmp_path, futures)) as gateway,
        connect(gateway.address) as source,
        pytest.raises(AmbiguousContract, match=r"2 contracts.*202406.*202409"),
    ):
        source.qualify(Series.parse("ES-FUT-CME-USD/1day").instrument)


def test_a_port_nobody_listens_on_says_what_to_start():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    found = rf"nothing is listening on 127.0.0.1:{port}.*Enable ActiveX.*backtest import .*backtest demo"
    with pytest.raises(NoConnection, match=found):
        connect(f"ib://127.0.0.1:{port}")


@pytest.mark.parametrize(
    "address", ["csv", "ib://127.0.0.1:abc", "ib://127.0.0.1:1?client=2", "emulator:", "gateway:", "tws://x"]
)
def test_an_address_of_no_known_form_is_refused(address):
    with pytest.raises(UsageError, match=r"ib://|client_id"):
        connect(address)


def test_a_span_in_the_future_is_refused(sample, store):
    tomorrow = SUMMER.date() + timedelta(days=1)

    with Gateway(sample, clock=lambda: SUMMER) as gateway, connect(gateway.address) as source:
        report = download(store, source, AAPL, (tomorrow, tomorrow))

    assert (report.requests, report.exit_code) == (0, 2)
    assert "no finished bar" in report.series[0].errors[0]


def test_trades_of_forex_are_refused_before_anything_is_sent(store, gateway, source):
    report = download(store, source, Series.parse("EUR-CASH/1day/TRADES"), YEARS)

    assert "IB has no TRADES for CASH" in report.series[0].errors[0]
    assert report.exit_code == 2
    assert not [record for record in gateway.requests if record.kind == "bars"]


def test_progress_is_told_window_by_window(store, source):
    told = []

    download(store, source, AAPL, YEARS, tell=told.append)

    assert [(one.series, one.done, one.windows, one.bars) for one in told] == [(AAPL, 1, 1, 3270)]


@pytest.mark.slow
def test_the_source_works_in_a_thread_and_inside_a_running_loop(gateway):
    async def cell():
        with connect(gateway.address) as opened:
            return opened.now()

    assert asyncio.run(cell()).tzinfo is UTC
    assert asyncio.run(asyncio.to_thread(lambda: asyncio.run(cell()))).tzinfo is UTC


def test_no_order_can_be_placed_by_our_code():
    package = ROOT / "backtest"
    client = "".join(path.read_text() for path in (package / "sources").rglob("*.py"))

    assert "readonly=True" in client
    assert not any(word in client for word in ("placeOrder", "cancelOrder", "exerciseOptions"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "since", "until"),
    [
        ("AAPL/1min", "2024-10-31", "2024-11-05"),  # clocks go back on 2024-11-03
        ("AAPL/5mins/TRADES/all", "2024-10-31", "2024-11-05"),
        ("EUR-CASH/5mins", "2024-10-31", "2024-11-05"),
        ("EUR-CASH/5mins/BID", "2024-03-07", "2024-03-12"),  # and forward on 2024-03-10
        ("ES-FUT-CME-USD-202412/5mins", "2024-10-31", "2024-11-05"),
        ("AAPL/1hour", "2024-10-31", "2024-11-05"),
        ("AAPL/30mins", "2024-11-27", "2024-12-02"),  # a holiday and a half-day
        ("AAPL/1min", "2024-02-28", "2024-03-01"),  # a leap day
        ("AAPL/1day", "2024-02-26", "2024-03-04"),
        ("EUR-CASH/1day", "2024-02-26", "2024-03-04"),
        ("ES-FUT-CME-USD-202412/1day", "2024-02-26", "2024-03-04"),
        ("SPX-IND-CBOE-USD/1min", "2024-03-08", "2024-03-11"),
        ("ASML-STK-AEB-EUR/5mins", "2024-03-28", "2024-04-02"),  # Easter, and clocks forward on 2024-03-31
        ("AAPL/1week", "2024-01-02", "2024-03-28"),
    ],
)
def test_bars_of_odd_days_come_back_value_by_value(tmp_path, store, text, since, until):
    series, dates = Series.parse(text), (date.fromisoformat(since), date.fromisoformat(until))
    upstream = store_with(tmp_path / "upstream", {text: (since, until)})

    winter = datetime(2024, 12, 15, tzinfo=UTC)
    with Gateway(upstream, clock=lambda: winter) as gateway, connect(gateway.address) as source:
        report = download(store, source, series, dates)

    assert report.complete, report.series[0]
    assert store.read(series).to_pylist() == upstream.read(series).to_pylist()
