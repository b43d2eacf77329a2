"""The gateway serves the real clients: ib_insync, ib_async and IB's own, with IB's limits and refusals."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from ib_insync import CFD, IB, Contract, Forex, Future, RequestError, Stock
from market import store_with
from places import ROOT
from rawclient import RawClient, framed, rows

from backtest.emulator.faults import Faults
from backtest.emulator.limiter import Limiter
from backtest.emulator.protocol import BarsRequest, ContractQuery
from backtest.emulator.server import Gateway
from backtest.errors import UsageError
from backtest.market.bars import schema
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.store.store import Store

AAPL = Series.parse("AAPL/1day")
APPLE = Stock("AAPL", "SMART", "USD")
Connect = Callable[..., IB]


@pytest.fixture(autouse=True)
def own_loop() -> Iterator[None]:
    """Give the blocking clients a loop: other tests may have left the thread without one."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.run_until_complete(asyncio.sleep(0.01))  # for the sockets of clients that have just hung up
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Yield a function that connects ib_insync to a gateway."""
    clients = []

    def connected(gateway: Gateway, client_id: int = 1, **words: Any) -> IB:
        client = IB()
        client.RaiseRequestErrors = True
        client.connect("127.0.0.1", gateway.port, client_id, **{"timeout": 60, **words})
        clients.append(client)
        return client

    yield connected
    for client in clients:
        client.disconnect()


@pytest.fixture
def minutes(intraday: Store) -> Iterator[Gateway]:
    """Yield a running gateway on the made-up minutes."""
    with Gateway(intraday) as running:
        yield running


def daily(client: IB, contract: Contract = APPLE, **words: Any) -> Any:
    asked = {"endDateTime": "20130302-00:00:00", "durationStr": "1 Y", "barSizeSetting": "1 day"} | words
    return client.reqHistoricalData(contract, **{"whatToShow": "TRADES", "useRTH": True, "formatDate": 2} | asked)


def values(bars: Any) -> list[tuple[Any, ...]]:
    """Return the bars of a client as rows; what they do not have is -1."""
    return [(bar.date, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.average, bar.barCount) for bar in bars]


def stored(table: pa.Table, daily: bool = False) -> list[tuple[Any, ...]]:
    """Return stored bars as a client should have them."""
    every: list[tuple[Any, ...]] = [
        tuple(-1 if value is None else value for value in row.values()) for row in table.to_pylist()
    ]
    return [(row[0].date() if daily else row[0], *row[1:]) for row in every]


LEAP_NIGHT = datetime(2028, 2, 29, 23, 58, tzinfo=UTC)


@pytest.fixture
def leap_night(sample: Store) -> Iterator[Gateway]:
    with Gateway(sample, clock=lambda: LEAP_NIGHT) as running:
        yield running


# --- ib_insync


def test_ib_insync_connects_and_reads_the_clock(leap_night: Gateway, connect: Connect) -> None:
    client = connect(leap_night)

    assert client.client.serverVersion() == 176
    assert client.managedAccounts() == ["DU0000000"]
    assert client.reqCurrentTime() == LEAP_NIGHT


def test_a_known_contract_is_qualified(gateway: Gateway, connect: Connect) -> None:
    contract = Stock("AAPL", "SMART", "USD")

    connect(gateway).qualifyContracts(contract)

    assert (contract.conId, contract.primaryExchange, contract.localSymbol) == (265598, "NASDAQ", "AAPL")


def test_the_details_of_a_contract_reach_the_client(gateway: Gateway, connect: Connect) -> None:
    (details,) = connect(gateway).reqContractDetails(APPLE)

    assert (details.longName, details.timeZoneId, details.minTick) == ("APPLE INC", "US/Eastern", 0.01)
    assert details.liquidSessions()


def test_an_unknown_contract_is_refused(gateway: Gateway, connect: Connect) -> None:
    with pytest.raises(RequestError, match="No security definition") as caught:
        connect(gateway).qualifyContracts(Stock("NOPE", "SMART", "USD"))

    assert caught.value.code == 200


def test_an_ambiguous_contract_has_several_details(tmp_path: Path, connect: Connect) -> None:
    dates = ("2024-03-04", "2024-03-05")
    store = store_with(tmp_path, {"AAPL/1day": dates, "AAPL-STK-NYSE/1day": dates})
    with Gateway(store) as gateway:
        client = connect(gateway)

        found = client.reqContractDetails(Stock("AAPL"))
        qualified = client.qualifyContracts(Stock("AAPL"), Stock("AAPL", "NYSE"))
        client.disconnect()

    assert [details.contract.exchange for details in found] == ["NYSE", "SMART"]
    assert [contract.exchange for contract in qualified] == ["NYSE"]


def test_symbols_are_searched_by_their_beginning(gateway: Gateway, connect: Connect) -> None:
    found = connect(gateway).reqMatchingSymbols("goo")

    assert [description.contract.symbol for description in found] == ["GOOG"]


def test_daily_bars_are_those_of_the_store(gateway: Gateway, sample: Store, connect: Connect) -> None:
    bars = daily(connect(gateway), durationStr="20 Y")

    assert values(bars) == stored(sample.read(AAPL), daily=True)


def test_adjusted_bars_are_served_without_an_end(gateway: Gateway, sample: Store, connect: Connect) -> None:
    bars = daily(connect(gateway), endDateTime="", durationStr="40 Y", whatToShow="ADJUSTED_LAST")

    assert values(bars) == stored(sample.read(Series.parse("AAPL/1day/ADJUSTED_LAST")), daily=True)


@pytest.mark.slow
@pytest.mark.parametrize("format_date", [1, 2])
def test_minutes_are_those_of_the_store(minutes: Gateway, intraday: Store, connect: Connect, format_date: int) -> None:
    bars = daily(
        connect(minutes),
        endDateTime="20240316-00:00:00",
        durationStr="10 D",
        barSizeSetting="1 min",
        formatDate=format_date,
    )

    assert values(bars) == stored(intraday.read(Series.parse("AAPL/1min")))
    assert bars[0].date.utcoffset().total_seconds() == (-5 * 3600 if format_date == 1 else 0)


@pytest.mark.slow
def test_forex_is_those_of_the_store(minutes: Gateway, intraday: Store, connect: Connect) -> None:
    words = {"endDateTime": "20240316-00:00:00", "durationStr": "20 D", "barSizeSetting": "1 min"}

    bars = daily(connect(minutes), Forex("EURUSD"), whatToShow="MIDPOINT", **words)

    assert values(bars) == stored(intraday.read(Series.parse("EUR-CASH/1min")))


def test_an_expired_future_needs_include_expired(minutes: Gateway, connect: Connect) -> None:
    client = connect(minutes)
    words = {"endDateTime": "20240312-22:00:00", "durationStr": "1 D", "barSizeSetting": "1 hour"}

    bars = daily(client, Future("ES", "202406", "CME", currency="USD", includeExpired=True), **words)
    with pytest.raises(RequestError) as caught:
        daily(client, Future("ES", "202406", "CME", currency="USD"), **words)

    assert len(bars) == 24  # the calendar knows no break before the evening
    assert caught.value.code == 200


def test_a_head_timestamp_is_answered(gateway: Gateway, connect: Connect) -> None:
    head = connect(gateway).reqHeadTimeStamp(APPLE, "TRADES", useRTH=True, formatDate=2)

    assert head == datetime(2000, 3, 1, 14, 30, tzinfo=UTC)


def test_a_schedule_is_answered(gateway: Gateway, connect: Connect) -> None:
    found = connect(gateway).reqHistoricalSchedule(APPLE, 2, "20240706-00:00:00")

    assert found.timeZone == "US/Eastern"
    assert [(session.refDate, session.endDateTime) for session in found.sessions] == [
        ("20240703", "20240703-13:00:00"),
        ("20240705", "20240705-16:00:00"),
    ]


@pytest.mark.parametrize(
    ("contract", "words", "code"),
    [
        (APPLE, {"endDateTime": "19990101-00:00:00"}, 162),
        (APPLE, {"durationStr": "1D"}, 321),
        (APPLE, {"endDateTime": "tomorrow"}, 10314),
        (APPLE, {"whatToShow": "ADJUSTED_LAST"}, 321),
        (Stock("NOPE", "SMART", "USD"), {}, 200),
        (CFD("AAPL", "SMART", "USD"), {}, 200),
    ],
)
def test_a_request_is_refused_with_the_code_of_ib(
    gateway: Gateway, connect: Connect, contract: Contract, words: dict[str, str], code: int
) -> None:
    with pytest.raises(RequestError) as caught:
        daily(connect(gateway), contract, **words)

    assert caught.value.code == code


def test_an_end_without_zone_is_warned_of(gateway: Gateway, connect: Connect) -> None:
    client = connect(gateway)
    codes: list[int] = []
    client.errorEvent += lambda req_id, code, text, contract: codes.append(code)

    bars = daily(client, endDateTime="20130301 23:00:00")

    assert bars[-1].date == date(2013, 3, 1)
    assert codes == [2174]


@pytest.mark.slow
def test_a_request_that_is_never_answered_times_out(sample: Store, connect: Connect) -> None:
    with Gateway(sample, faults=Faults.of([{"when": {"request": 1}, "do": "silence"}])) as gateway:
        client = connect(gateway)

        unanswered, answered = daily(client, timeout=0.1), daily(client)
        client.disconnect()

    assert (len(unanswered), len(answered)) == (0, 250)


def test_a_dropped_socket_ends_the_open_request(sample: Store, connect: Connect) -> None:
    faults = Faults.of([{"when": {}, "do": "drop", "bytes": 1000}])
    with Gateway(sample, faults=faults) as gateway, pytest.raises(ConnectionError):
        daily(connect(gateway))


@pytest.mark.slow
def test_a_client_id_in_use_is_refused(gateway: Gateway, connect: Connect) -> None:
    first = connect(gateway, client_id=5)

    with pytest.raises(TimeoutError):
        connect(gateway, client_id=5, timeout=2.0)

    assert gateway.requests[-1].code == 326
    assert first.isConnected()


def test_several_clients_are_served_at_once(gateway: Gateway, connect: Connect) -> None:
    clients = [connect(gateway, client_id=number) for number in range(3)]

    assert [len(daily(client)) for client in clients] == [250, 250, 250]


# --- IB's own client and ib_async


@pytest.mark.slow
def test_the_client_of_ib_gets_the_bars_of_the_store(minutes: Gateway, intraday: Store) -> None:
    from ibapi.client import EClient
    from ibapi.contract import Contract as IbContract
    from ibapi.wrapper import EWrapper

    class App(EWrapper, EClient):  # type: ignore[misc]
        def __init__(self) -> None:
            EClient.__init__(self, self)
            self.bars: list[Any] = []
            self.ready, self.done = threading.Event(), threading.Event()

        def nextValidId(self, orderId: int) -> None:
            self.ready.set()

        def historicalData(self, reqId: int, bar: Any) -> None:
            self.bars.append(bar)

        def historicalDataEnd(self, reqId: int, start: str, end: str) -> None:
            self.done.set()

    app, contract = App(), IbContract()
    contract.symbol, contract.secType, contract.exchange, contract.currency = "AAPL", "STK", "SMART", "USD"
    app.connect("127.0.0.1", minutes.port, 9)
    version, threads = app.serverVersion(), [threading.Thread(target=app.run), app.reader]
    threads[0].start()
    try:
        assert app.ready.wait(60)
        app.reqHistoricalData(1, contract, "20240316-00:00:00", "10 D", "1 min", "TRADES", 1, 2, False, [])
        assert app.done.wait(60)
    finally:
        minutes.stop()  # closing the socket from this side would hang its reader for a second
        for thread in threads:
            thread.join()

    assert version == 157
    for bar in app.bars:
        bar.date = datetime.fromtimestamp(int(bar.date), UTC)
    assert values(app.bars) == stored(intraday.read(Series.parse("AAPL/1min")))


IB_ASYNC = """
import json, sys
from ib_async import IB, Stock
client = IB()
client.connect("127.0.0.1", int(sys.argv[1]), clientId=8)
bars = client.reqHistoricalData(Stock("AAPL", "SMART", "USD"), "20240316-00:00:00", "10 D", "1 min", "TRADES", True, 2)
rows = [(b.date.timestamp(), b.open, b.high, b.low, b.close, b.volume, b.average, b.barCount) for b in bars]
print(json.dumps([client.client.serverVersion(), rows]))
client.disconnect()
"""


@pytest.mark.slow
def test_ib_async_gets_the_bars_of_the_store(minutes: Gateway, intraday: Store) -> None:
    default = ROOT / ".venv-ib-async" / "bin" / "python"
    python = Path(os.environ.get("BACKTEST_IB_ASYNC_PYTHON", default))
    assert python.exists(), f"{python} with ib_async is missing; run: make test"

    done = subprocess.run(
        [python, "-c", IB_ASYNC, str(minutes.port)], capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stderr
    version, bars = json.loads(done.stdout)
    assert version == 178
    assert [(datetime.fromtimestamp(row[0], UTC), *row[1:]) for row in bars] == stored(
        intraday.read(Series.parse("AAPL/1min"))
    )


# --- limits

PACING = "Historical Market Data Service error message:Historical data request pacing violation"


def codes_of(client: RawClient, count: int) -> list[str]:
    """Return the code of each answer to requests 1 to count, 0 where it has bars."""
    answers = [client.answer(number) for number in range(1, count + 1)]
    return [answer[3] if answer[0] == "4" else "0" for answer in answers]


def test_an_identical_request_within_15_seconds_is_a_violation(gateway: Gateway) -> None:
    with RawClient(gateway.port) as client:
        for number in (1, 2):
            client.ask_bars(number, size="30 secs", duration="1 D")
        first, second = client.answer(1), client.answer(2)

    assert "HMDS query returned no data" in first[4]
    assert second[3:5] == ["162", PACING]
    assert gateway.violations == 1


def test_the_sixth_request_of_a_contract_within_2_seconds_is_a_violation(gateway: Gateway) -> None:
    with RawClient(gateway.port) as client:
        for number in range(1, 7):
            client.ask_bars(number, size="30 secs", duration=f"{number} D")
        texts = [client.answer(number)[4] for number in range(1, 7)]

    assert [text == PACING for text in texts] == [False] * 5 + [True]


def asked_for_at_once(count: int, prices: str) -> list[bool]:
    """Return of requests that all come at one moment, each for another contract, whether they break a limit."""
    limiter = Limiter(now=lambda: 1000.0)
    contracts = [ContractQuery(symbol=f"X{number}") for number in range(count)]
    return [limiter.violated(BarsRequest(1, one, "", "30 secs", "300 S", True, prices)) for one in contracts]


def test_61_requests_in_ten_minutes_are_too_many_and_refused_ones_count() -> None:
    assert asked_for_at_once(62, "TRADES") == [False] * 60 + [True] * 2


def test_bid_ask_counts_twice() -> None:
    assert asked_for_at_once(31, "BID_ASK") == [False] * 30 + [True]


def test_the_first_request_is_forgotten_after_ten_minutes() -> None:
    times = [0.0] * 60 + [599.9, 600.0, 1200.0]
    limiter, clock = Limiter(now=lambda: next(clock)), iter(times)
    contracts = [ContractQuery(symbol=f"X{number}") for number in range(63)]
    asked = [BarsRequest(1, one, "", "30 secs", "300 S", True, "TRADES") for one in contracts]

    assert [limiter.violated(request) for request in asked] == [False] * 60 + [True, False, False]


def test_the_limit_holds_for_all_clients_together(gateway: Gateway) -> None:
    with RawClient(gateway.port, client_id=1) as one, RawClient(gateway.port, client_id=2) as other:
        one.ask_bars(1, size="30 secs")
        one.answer(1)
        other.ask_bars(1, size="30 secs")

        assert other.answer(1)[4] == PACING


def test_the_limit_passes_with_the_time_scale(sample: Store) -> None:
    with Gateway(sample, time_scale=1e6) as gateway, RawClient(gateway.port) as client:
        for number in range(1, 10):
            client.ask_bars(number, size="30 secs")
            client.answer(number)

    assert gateway.violations == 0


def test_larger_bars_are_not_paced(gateway: Gateway) -> None:
    with RawClient(gateway.port) as client:
        for number in range(1, 41):
            client.ask_bars(number)

        assert codes_of(client, 40) == ["0"] * 40


def test_head_timestamps_are_paced_whatever_the_bars(gateway: Gateway) -> None:
    contract = ["0", "AAPL", "STK", "", "0.0", "", "", "SMART", "", "USD", "", "", "0"]
    with RawClient(gateway.port) as client:
        for number in (1, 2):
            client.send(87, number, *contract, "1", "TRADES", "2")

        assert client.answer(1) == ["88", "1", "951921000"]
        assert client.answer(2)[4] == PACING


def test_pacing_off_lets_everything_through(sample: Store) -> None:
    with Gateway(sample, pacing="off") as gateway, RawClient(gateway.port) as client:
        for number in range(1, 71):
            client.ask_bars(number, size="30 secs")
        texts = [client.answer(number)[4] for number in range(1, 71)]

    assert PACING not in texts
    assert gateway.violations == 0


def test_the_51st_open_request_is_not_answered(sample: Store) -> None:
    faults = Faults.of([{"when": {"times": 50}, "do": "silence"}])
    with Gateway(sample, faults=faults, time_scale=100) as gateway, RawClient(gateway.port) as client:
        for number in range(1, 52):
            client.ask_bars(number)
        for number in (1, 2):
            client.send(25, 1, number)
        client.ask_bars(52)

        assert client.until("17")[-1][1] == "52"
        assert [record.code for record in gateway.requests if record.kind == "bars"] == [-1] * 51 + [0]
        assert gateway.violations == 1


def test_over_50_messages_a_second_are_error_100_and_the_third_hangs_up(gateway: Gateway) -> None:
    with RawClient(gateway.port) as client:
        client.send_bytes(framed(b"49\x001\x00") * 60)  # one piece: it hangs up having seen enough
        messages = client.until("never")

    assert [message[3] for message in messages if message and message[0] == "4"][-3:] == ["100"] * 3
    assert gateway.violations == 3
    assert [record.code for record in gateway.requests if record.kind == "dropped"] == [100] * 3


# --- robustness


def test_an_order_is_refused_and_counted(gateway: Gateway) -> None:
    with RawClient(gateway.port) as client:
        for order in ([58, 1], [3, 11, "AAPL"], [4, 1, 11, ""]):
            client.send(*order)
        answers = [client.answer(11), client.answer(11)]

    assert [answer[3] for answer in answers] == ["321", "321"]
    assert "Read-Only mode" in answers[0][4]
    assert gateway.orders == 3


def test_unknown_messages_are_passed_over(gateway: Gateway) -> None:
    with RawClient(gateway.port) as client:
        client.send(9999, "what", "is", "this")
        client.ask_bars(7)

        assert client.answer(7)[0] == "17"


@pytest.mark.parametrize(
    "noise", [b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x03abc", b"\0\0\0\x03\xff\xfe\0", b"\0\0\0\x02x\0"]
)
def test_a_malformed_frame_closes_that_connection_only(gateway: Gateway, noise: bytes) -> None:
    with RawClient(gateway.port, client_id=1) as broken, RawClient(gateway.port, client_id=2) as whole:
        broken.send_bytes(noise)
        assert broken.until("never")[-1] == []

        whole.ask_bars(7)
        assert whole.answer(7)[0] == "17"


def test_a_message_with_too_few_fields_is_error_320(gateway: Gateway) -> None:
    with RawClient(gateway.port) as client:
        client.send(20, 7)
        codes = [client.receive()[3] for _ in range(4)]

    assert codes[3] == "320"


def test_a_request_id_in_use_is_refused(sample: Store) -> None:
    with (
        Gateway(sample, faults=Faults.of([{"when": {}, "do": "silence"}])) as gateway,
        RawClient(gateway.port) as client,
    ):
        client.ask_bars(7)
        client.ask_bars(7)

        assert client.answer(7)[3] == "322"


def test_cancelling_what_is_not_open_is_error_366(gateway: Gateway) -> None:
    with RawClient(gateway.port) as client:
        client.send(25, 1, 7)

        assert client.answer(7)[3] == "366"


def test_bars_to_be_kept_up_to_date_are_answered_once_and_stay_open(gateway: Gateway, sample: Store) -> None:
    with RawClient(gateway.port) as client:
        client.ask_bars(7, end="", duration="68 Y", keep="1")
        bars = client.answer(7)
        client.send(25, 1, 7)

        assert len(rows(bars)) == len(sample.read(AAPL))
        assert client.answer(7)[3] == "162"


def test_a_damaged_store_does_not_look_like_an_empty_market(tmp_path: Path) -> None:
    store = store_with(tmp_path, {"AAPL/1day": ("2013-02-01", "2013-03-01")})
    (segment,) = tmp_path.glob("*/*/*/*/bars/*.parquet")
    segment.write_bytes(b"broken")
    with Gateway(store) as gateway, RawClient(gateway.port) as client:
        client.ask_bars(7)

        answer = client.answer(7)

    assert answer[3] == "320"
    assert "broken" not in answer[4]
    assert str(segment) in answer[4]


def test_a_damaged_series_fails_requests_for_itself_alone(tmp_path: Path) -> None:
    dates = "2013-02-01", "2013-03-01"
    store = store_with(tmp_path, {"AAPL/1day": dates, "MSFT/1day": dates})
    (manifest,) = tmp_path.glob("MSFT*/1day/*/*/manifest.json")
    manifest.write_bytes(b"broken")
    with Gateway(store) as gateway, RawClient(gateway.port) as client:
        client.ask_bars(7)
        good = client.answer(7)
        client.ask_bars(8, symbol="MSFT")
        bad = client.answer(8)

    assert len(rows(good)) == 10
    assert bad[3] == "320"
    assert str(manifest) in bad[4]


def test_bars_stored_while_the_gateway_runs_are_served(tmp_path: Path) -> None:
    store = store_with(tmp_path, {"AAPL/1day": ("2013-02-25", "2013-02-27")})
    with Gateway(store) as gateway, RawClient(gateway.port) as client:
        client.ask_bars(1)
        before = client.answer(1)
        store_with(tmp_path, {"AAPL/1day": ("2013-02-28", "2013-03-01")})
        client.ask_bars(2)
        after = client.answer(2)

    assert [row[0] for row in rows(before)] == ["20130225", "20130226", "20130227"]
    assert [row[0] for row in rows(after)] == ["20130225", "20130226", "20130227", "20130228", "20130301"]


def test_the_log_has_a_line_a_request(sample: Store) -> None:
    log = io.StringIO()
    with Gateway(sample, log=log) as gateway, RawClient(gateway.port, client_id=3) as client:
        client.ask_bars(7)
        client.answer(7)

    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(line["kind"], line["client_id"], line["code"], line["bars"]) for line in lines] == [
        ("start", 3, 0, 0),
        ("bars", 3, 0, 10),
    ]
    assert lines[1]["request"]["duration"] == "10 D"


def test_stopping_leaves_no_thread_and_no_socket(sample: Store) -> None:
    faults = Faults.of([{"when": {"connection": 2}, "do": "delay", "seconds": 60}])
    gateway, before = Gateway(sample, faults=faults), set(threading.enumerate())  # other tests' servers among them
    gateway.start()
    with RawClient(gateway.port), RawClient(gateway.port, client_id=None):
        gateway.stop()

    assert [thread.name for thread in set(threading.enumerate()) - before] == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", gateway.port))


def test_a_port_in_use_is_said_so(gateway: Gateway, sample: Store) -> None:
    with pytest.raises(UsageError, match=rf"127\.0\.0\.1:{gateway.port}.*name another port"):
        Gateway(sample, port=gateway.port).start()


@pytest.mark.parametrize("words", [{"pacing": "loose"}, {"time_scale": 0.0}])
def test_arguments_that_are_off_are_refused(sample: Store, words: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"unknown pacing|invalid time scale"):
        Gateway(sample, **words)


@pytest.mark.slow
def test_a_hundred_thousand_bars_are_one_answer(tmp_path: Path) -> None:
    store = Store(tmp_path)
    series = Series.parse("BTC-CRYPTO/1min")
    stamps = pa.array(range(1_700_000_040_000_000, 1_706_000_040_000_000, 60_000_000), pa.timestamp("us", "UTC"))
    numbers = pa.array([n / 7 for n in range(len(stamps))], pa.float64())
    columns = [stamps, *[numbers] * 6, pa.array(range(len(stamps)), pa.int64())]
    span = Span(stamps[0].as_py(), datetime(2024, 1, 23, 12, tzinfo=UTC))
    store.write(series, span, pa.Table.from_arrays(columns, schema=schema()))
    with Gateway(store) as gateway, RawClient(gateway.port) as client:
        contract = ["0", "BTC", "CRYPTO", "", "0.0", "", "", "PAXOS", "", "USD", "", "", "0"]
        client.send(20, 7, *contract, "20240201-00:00:00", "1 min", "1 Y", "0", "AGGTRADES", "2", "0", "")
        bars = client.answer(7)

    assert len(rows(bars)) == 100_000


def test_the_log_does_not_name_the_account_that_a_client_asks_for(sample: Store) -> None:
    log = io.StringIO()
    with Gateway(sample, log=log) as gateway, RawClient(gateway.port) as client:
        client.send(6, 2, 1, "U7654321")
        client.ask_bars(1)
        client.answer(1)

    assert [json.loads(line)["request"].get("text") for line in log.getvalue().splitlines()][1] == "(account)"
    assert "U7654321" not in log.getvalue()
