"""The source through the real socket, against the emulator and its faults; with ib_async as with ib_insync."""

import asyncio
import gc
import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from market import span_of_sessions, store_with
from rawclient import RawClient, framed

from backtest.emulator.faults import Faults
from backtest.emulator.server import Gateway
from backtest.errors import (
    AmbiguousContract,
    GivenUp,
    LinkLost,
    NoConnection,
    PacingViolation,
    Refused,
    Stopped,
    Unanswered,
    UnknownContract,
    UsageError,
)
from backtest.market import calendars
from backtest.market.hours import hours_of
from backtest.market.ib_limits import LEGACY, PRACTICAL
from backtest.market.series import BAR_SIZES, Instrument, Series
from backtest.market.span import Span
from backtest.sources.base import Patience
from backtest.sources.connect import connect
from backtest.sources.ib import contracts, lookup
from backtest.sources.ib.session import _Socket
from backtest.sources.ib.source import IbSource

AAPL = Series.parse("AAPL/1day")
HALF_MINUTES = Series.parse("AAPL/30secs")
WINDOW = Span.of_dates(date(2001, 1, 2), date(2001, 2, 1))
# What a test waits for on purpose is short; what must come in spite of a busy machine is given a minute.
QUICK = Patience(answer=60.0, connect=60.0, outage=60.0, backoff=0.05, backoff_most=0.2, belief=0.3)
IMPATIENT = replace(QUICK, answer=0.4)  # for requests that are never answered


def faults(*entries):
    return Faults.of(list(entries))


def on_bars(do, request=1, **words):
    return {"when": {"request": request, **words.pop("when", {})}, "do": do, **words}


def until(true):
    """Wait until it is true, for a minute at most."""
    ends = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.005)


def answered(source, series=AAPL, window=WINDOW):
    """Ask until an answer comes, as a busy machine may take longer for one than an impatient source waits."""
    ends = time.monotonic() + 60
    while True:
        try:
            return source.fetch(series, window)
        except Unanswered:
            assert time.monotonic() < ends


@pytest.fixture(autouse=True, scope="module")
def warm():
    """Load what takes longer than the patience of these tests."""
    for text in ("AAPL", "ES-FUT-CME-USD-202706"):
        calendars.sessions(hours_of(Instrument.parse(text)), date(2024, 1, 2), date(2024, 1, 3))


@pytest.fixture
def serve(sample):
    """Return a function that opens a gateway with faults, and a source on it."""
    opened = []

    def served(*entries, patience=QUICK, store=sample, **words):
        gateway = Gateway(store, faults=faults(*entries), **words)
        gateway.start()
        opened.append(gateway.stop)
        source = connect(gateway.address, patience=patience)
        opened.append(source.close)
        return gateway, source

    yield served
    for close in reversed(opened):
        close()


@pytest.fixture(scope="module")
def half_minutes(tmp_path_factory):
    return store_with(tmp_path_factory.mktemp("half_minutes"), {"AAPL/30secs": ("2024-03-04", "2024-03-05")})


@pytest.fixture(scope="module")
def twelve_stocks(tmp_path_factory):
    symbols = ("AAPL", *(f"STOCK{number}" for number in range(11)))
    series = {f"{symbol}/30secs": ("2024-03-04", "2024-03-04") for symbol in symbols}
    return store_with(tmp_path_factory.mktemp("twelve_stocks"), series)


def five_minutes(count):
    """Return windows of five minutes within two sessions."""
    starts = [datetime(2024, 3, day, 14, 30, tzinfo=UTC) for day in (4, 5)]
    windows = [
        Span(start + timedelta(minutes=5 * number), start + timedelta(minutes=5 * number + 5))
        for start in starts
        for number in range(78)
    ]
    return windows[:count]


def bars_asked(gateway):
    return [record for record in gateway.requests if record.kind == "bars"]


# --- outages


@pytest.mark.second_client
@pytest.mark.slow
def test_a_link_that_comes_back_with_its_requests_brings_the_bars(serve, sample):
    gateway, source = serve(on_bars("lost", seconds=3.0, code=1102), patience=replace(QUICK, answer=1.5))

    bars = source.fetch(AAPL, WINDOW)

    assert len(bars) == 22  # the outage was twice as long as an answer may take
    assert len(bars_asked(gateway)) == 1


@pytest.mark.slow
def test_a_link_that_comes_back_without_its_requests_ends_them_at_once(serve):
    _, source = serve(on_bars("lost", seconds=0.2, code=1101))

    with pytest.raises(LinkLost, match="run this again"):
        source.fetch(AAPL, WINDOW)

    assert len(source.fetch(AAPL, WINDOW)) == 22


@pytest.mark.slow
def test_nothing_is_sent_while_the_link_is_lost(serve):
    gateway, source = serve(on_bars("lost", seconds=2.0, code=1102, when={"kind": "details"}))
    began = datetime.now(UTC)

    with ThreadPoolExecutor(2) as pool:
        pool.submit(source.qualify, AAPL.instrument)
        until(lambda: source.waiting_for)
        second = pool.submit(source.qualify, Instrument.parse("IBM"))

    (asked,) = (r.at for r in gateway.requests if r.kind == "details" and r.request.contract.symbol == "IBM")
    assert asked - began > timedelta(seconds=2)
    assert second.result().con_id


def test_a_broken_farm_is_waited_for(serve):
    broken, mended = (on_bars("notice", n, code=code, when={"kind": "details"}) for n, code in ((1, 2105), (2, 2106)))
    gateway, source = serve(broken, mended)
    source.qualify(AAPL.instrument)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(source.fetch, AAPL, WINDOW)
        until(lambda: source.waiting_for)
        asked = len(bars_asked(gateway))
        source.qualify(Instrument.parse("IBM"))  # brings the news that the farm is back

    assert asked == 0
    assert len(waiting.result()) == 22


@pytest.mark.slow
def test_an_outage_that_lasts_too_long_ends_in_words(serve):
    impatient = replace(QUICK, outage=0.5)
    _, source = serve(on_bars("notice", code=2105, when={"kind": "details"}), patience=impatient)

    with pytest.raises(NoConnection, match=r"farm ushmds is broken; this has lasted 0.5 s"):
        source.fetch(AAPL, WINDOW)


@pytest.mark.second_client
def test_a_socket_that_breaks_is_opened_again_by_the_next_call(serve, sample):
    gateway, source = serve(on_bars("drop", bytes=300))

    with pytest.raises(LinkLost):
        source.fetch(AAPL, WINDOW)
    bars = source.fetch(AAPL, WINDOW)

    assert bars.equals(sample.read(AAPL, WINDOW))
    assert [record.client_id for record in gateway.requests if record.kind == "start"] == [1, 1]


@pytest.mark.slow
def test_a_gateway_that_restarts_is_waited_for(serve):
    _, source = serve(on_bars("refuse", seconds=1))

    began = time.monotonic()
    with pytest.raises(LinkLost):
        source.fetch(AAPL, WINDOW)
    bars = source.fetch(AAPL, WINDOW)

    assert len(bars) == 22
    assert time.monotonic() - began > 0.95


@pytest.mark.slow
def test_a_gateway_that_does_not_come_back_ends_in_words(serve):
    gateway, source = serve(patience=replace(QUICK, outage=0.4))
    gateway.stop()
    until(lambda: not source.server_version)

    with pytest.raises(NoConnection, match=r"nothing is listening.*lasted 0.4 s.*stored bars are kept"):
        source.fetch(AAPL, WINDOW)


@pytest.mark.slow
def test_a_gateway_that_hangs_up_or_is_mute_at_the_start_is_told_at_once(sample):
    script = faults(
        {"when": {"connection": 1}, "do": "refuse", "seconds": 0}, {"when": {"connection": 2}, "do": "silence"}
    )
    said = []

    with Gateway(sample, faults=script) as gateway:
        for seconds in (60.0, 0.3):
            with pytest.raises(NoConnection) as caught:
                connect(gateway.address, patience=Patience(connect=seconds))
            said.append(str(caught.value))

    assert "closed the connection during the handshake" in said[0]
    assert "did not finish the handshake within 0.3 s" in said[1]


def test_a_gateway_whose_answer_at_the_start_cannot_be_read_ends_in_words():
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_answer_executions_with_nonsense, args=(server,), daemon=True).start()

        with pytest.raises(NoConnection, match=r"an answer that cannot be read \(time data '185.5' does not match"):
            IbSource(port=server.getsockname()[1], patience=replace(QUICK, connect=0.3, outage=0.1))


def _answer_executions_with_nonsense(server):
    """Accept one client; answer its request for executions with a head timestamp that is a price."""
    line, _ = server.accept()
    with line, line.makefile("rb") as read:
        assert read.read(4) == b"API\0"
        read.read(int.from_bytes(read.read(4), "big"))
        line.sendall(framed(b"176\x0020240101 12:00:00 EST\0"))
        while head := read.read(4):
            kind, *fields = read.read(int.from_bytes(head, "big")).split(b"\0")
            if kind == b"71":  # the start: accounts, and the first id
                line.sendall(framed(b"15\x001\x00DU1\0") + framed(b"9\x001\x001\0"))
            if kind == b"7":  # executions
                line.sendall(framed(b"\0".join([b"88", fields[1], b"185.5", b""])))


def test_a_gateway_that_hangs_up_before_the_client_has_spoken_accepted_the_connection():
    async def closed_at_once():
        socket = _Socket(lambda code, text: None, lambda: None)
        before = socket.accepted
        socket.ib.client.conn.disconnected.emit("")  # as the connection does when it is lost
        return before, socket.accepted, socket.ib.client.conn.numBytesSent

    assert asyncio.run(closed_at_once()) == (False, True, 0)


@pytest.mark.slow
def test_many_callers_wait_for_one_new_connection(serve):
    gateway, source = serve(on_bars("refuse", seconds=0.4))
    with pytest.raises(LinkLost):
        source.fetch(AAPL, WINDOW)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: source.fetch(AAPL, WINDOW), range(8)))

    assert {len(bars) for bars in answers} == {22}
    assert len([record for record in gateway.requests if record.kind == "start"]) == 2


# --- client ids


@pytest.mark.second_client
def test_a_client_id_in_use_gives_way_to_the_next(sample):
    with Gateway(sample) as gateway, RawClient(gateway.port, client_id=1), RawClient(gateway.port, client_id=2):
        with connect(gateway.address, patience=QUICK) as source:
            source.now()

        asked = [record.client_id for record in gateway.requests if record.kind == "start"]

    assert asked == [1, 2, 1, 2, 3]


def test_no_free_client_id_is_said_at_once(sample):
    taken = {"when": {"connection": 1, "times": 20}, "do": "taken"}

    with Gateway(sample, faults=faults(taken)) as gateway, pytest.raises(NoConnection, match=r"ids 1 to 8.*client_id="):
        connect(gateway.address)

    assert len([record for record in gateway.requests if record.kind == "start"]) == 8


@pytest.mark.slow
def test_an_old_session_that_lingers_is_given_time_before_another_client_id_is_taken(serve):
    gateway, source = serve(on_bars("drop", bytes=10), {"when": {"connection": 2, "times": 2}, "do": "taken"})
    with pytest.raises(LinkLost):
        source.fetch(AAPL, WINDOW)

    source.now()

    assert [record.client_id for record in gateway.requests if record.kind == "start"] == [1, 1, 1, 2]


# --- answers


@pytest.mark.second_client
@pytest.mark.slow
def test_silence_is_no_answer_and_the_request_is_cancelled(serve, sample):
    gateway, source = serve(on_bars("silence"), patience=IMPATIENT)
    source.know(AAPL.instrument, sample.manifest(AAPL).contract)

    with pytest.raises(Unanswered, match="does not mean that there are none"):
        source.fetch(AAPL, WINDOW)

    assert answered(source).equals(sample.read(AAPL, WINDOW))
    assert "cancel" in {record.kind for record in gateway.requests}


def test_an_answer_that_comes_when_nobody_waits_for_it_does_no_harm(serve, sample):
    _, source = serve(on_bars("twice", when={"times": 3}))

    answers = [source.fetch(AAPL, WINDOW) for _ in range(3)]

    assert all(bars.equals(sample.read(AAPL, WINDOW)) for bars in answers)


@pytest.mark.slow
def test_the_third_silence_in_a_row_advises_a_restart(serve, sample):
    _, source = serve(on_bars("silence", when={"times": 3}), patience=replace(QUICK, answer=0.1))
    source.know(AAPL.instrument, sample.manifest(AAPL).contract)
    said = []

    for _ in range(3):
        with pytest.raises(Unanswered) as caught:
            source.fetch(AAPL, WINDOW)
        said.append(str(caught.value))

    assert ["restarted" in text for text in said] == [False, False, True]


@pytest.mark.slow
def test_a_series_that_is_not_answered_says_so_while_it_waits_and_then_gives_up(serve, sample, caplog):
    _, source = serve(on_bars("silence", when={"times": 9}), patience=replace(QUICK, answer=0.4, silence=0.6))
    source.know(AAPL.instrument, sample.manifest(AAPL).contract)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(source.fetch, AAPL, WINDOW)
        until(lambda: source.waiting_for or waiting.done())
        said = source.waiting_for
        assert type(waiting.exception()) is Unanswered
    with pytest.raises(GivenUp, match=r"AAPL/1day is given up for now.*in 1 s"):
        source.fetch(AAPL, WINDOW)

    assert said.startswith("no answer yet to")
    assert source.waiting_for == ""
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warned[1] == "AAPL/1day: no answer for 0 s; given up after 1 s"


@pytest.mark.slow
def test_an_answer_ends_the_silence_of_its_series(serve, sample):
    silent = [on_bars("silence", number) for number in (1, 3)]
    _, source = serve(*silent, patience=replace(QUICK, answer=1.5, silence=2.0))
    source.know(AAPL.instrument, sample.manifest(AAPL).contract)

    for _ in range(2):
        with pytest.raises(Unanswered) as caught:
            source.fetch(AAPL, WINDOW)
        assert type(caught.value) is Unanswered
        assert len(source.fetch(AAPL, WINDOW)) == 22


@pytest.mark.slow
def test_an_answer_to_a_request_that_nobody_made_is_no_answer(serve):
    _, source = serve(on_bars("foreign"), patience=IMPATIENT)

    with pytest.raises(Unanswered):
        source.fetch(AAPL, WINDOW)

    assert len(answered(source)) == 22


def test_a_frame_of_noise_is_passed_over(serve):
    _, source = serve(on_bars("garbage"))

    assert len(source.fetch(AAPL, WINDOW)) == 22


@pytest.mark.slow
def test_a_price_that_is_no_number_is_no_answer(serve):
    _, source = serve(on_bars("bad", value="text"), patience=IMPATIENT)

    with pytest.raises(Unanswered):
        source.fetch(AAPL, WINDOW)

    assert len(answered(source)) == 22


@pytest.mark.slow
def test_a_frame_of_a_wild_length_makes_a_new_connection(serve):
    _, source = serve(on_bars("length"), patience=replace(QUICK, answer=0.3, connect=2.0))

    with pytest.raises(LinkLost):
        source.fetch(AAPL, WINDOW)

    assert len(answered(source)) == 22


def test_an_invalid_request_ends_at_once(serve):
    gateway, source = serve(on_bars("error", code=321, text="Error validating request"))

    with pytest.raises(Refused, match="321"):  # and not Unanswered, a minute later
        source.fetch(AAPL, WINDOW)

    assert len(bars_asked(gateway)) == 1


@pytest.mark.second_client
def test_the_account_is_in_no_log(serve, caplog):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "backtest")
    _, source = serve(on_bars("error", code=321, text="not allowed for account DU0000000"))

    with pytest.raises(Refused) as caught:
        source.fetch(AAPL, WINDOW)
    source.fetch(AAPL, WINDOW)

    said = [str(vars(record)) for record in caplog.records if record.name.startswith("backtest.sources.ib.source")]
    assert said
    assert "DU0000000" not in "".join(str(vars(r)) for r in caplog.records if "gateway.wire" not in r.name)
    assert "DU0000000" not in str(caught.value)


# --- contracts


@pytest.mark.slow
def test_no_such_instrument_is_not_believed_after_an_outage(serve):
    _, source = serve(
        on_bars("lost", seconds=0.1, code=1102, when={"kind": "details"}),
        on_bars("error", 2, code=200, text="No security definition", when={"kind": "details"}),
        patience=replace(QUICK, belief=2.0),
    )
    source.qualify(AAPL.instrument)

    assert source.qualify(Instrument.parse("IBM")).con_id  # 200 first, then the truth


@pytest.mark.second_client
def test_no_such_instrument_names_what_comes_near(serve):
    _, source = serve()

    with pytest.raises(UnknownContract, match=r"error 200.*check symbol.*did you mean AAPL-STK-SMART-USD"):
        source.qualify(Instrument.parse("AAP"))


def test_symbols_are_found_by_a_name(serve):
    _, source = serve()

    assert [found.split()[0] for found in source.near("goo")] == ["GOOG-STK-SMART-USD"]
    assert source.near("zzzz") == []


@pytest.mark.second_client
def test_an_ambiguous_contract_is_a_table_whose_spellings_can_be_used(tmp_path):
    futures = {f"ES-FUT-CME-USD-2027{month}/1day": ("2024-03-04", "2024-03-08") for month in ("03", "06")}
    with Gateway(store_with(tmp_path, futures)) as gateway, connect(gateway.address) as source:
        with pytest.raises(AmbiguousContract) as caught:
            source.qualify(Instrument.parse("ES-FUT-CME-USD"))
        lines = str(caught.value).splitlines()
        ids = [source.qualify(Instrument.parse(line.split()[0])).con_id for line in lines[2:]]

    assert lines[0].startswith("ES-FUT-CME-USD fits 2 contracts")
    assert lines[1].split() == ["write", "conId", "exchange", "currency", "expiry", "name"]
    assert ids == [int(line.split()[1]) for line in lines[2:]]


def test_stocks_that_differ_in_the_primary_exchange_are_spelled_with_it():
    client = contracts.client_library()
    found = [
        client.ContractDetails(
            contract=client.Contract("STK", number, "BB", exchange="SMART", primaryExchange=exchange, currency="USD"),
            longName=name,
        )
        for number, exchange, name in ((1, "NYSE", "BLACKBERRY LTD"), (2, "PINK", "BIG BEAR"))
    ]

    with pytest.raises(AmbiguousContract) as caught:
        lookup.only(Instrument.parse("BB"), found)

    rows = [line.split()[0] for line in str(caught.value).splitlines()[2:]]
    assert rows == ["BB-STK-SMART-USD+primary=NYSE", "BB-STK-SMART-USD+primary=PINK"]
    assert "name one by its primary, such as BB-STK-SMART-USD+primary=NYSE" in str(caught.value)


def test_what_is_known_of_a_contract_is_not_asked_again(serve, sample):
    gateway, source = serve()
    known = sample.manifest(AAPL).contract

    source.know(AAPL.instrument, known)

    assert source.qualify(AAPL.instrument) == known
    assert source.fetch(AAPL, WINDOW).equals(sample.read(AAPL, WINDOW))
    assert [record.kind for record in gateway.requests if record.kind not in ("start", "plain")] == ["bars"]


# --- the budget


@pytest.mark.slow
def test_two_sources_with_one_state_keep_one_budget_across_a_restart(twelve_stocks, tmp_path):
    # Five requests a stock and sixty in all may be sent at once, so that nothing here has to be in time: that the
    # sixty-first waits is all there is to see. What a gateway says of when it comes, test_pacing.py tells.
    windows = five_minutes(5)
    asked = [(series, window) for series in twelve_stocks.series() for window in windows]

    with Gateway(twelve_stocks, pacing="off") as gateway:
        address, words = gateway.address, {"patience": QUICK, "state": tmp_path}
        with connect(address, **words) as one, connect(address, **words) as other, ThreadPoolExecutor(8) as pool:
            answers = [pool.submit((one, other)[n % 2].fetch, *pair) for n, pair in enumerate(asked[:40])]
            assert {len(future.result()) for future in answers} == {10}
        with connect(address, **words) as again, ThreadPoolExecutor(1) as pool:
            assert {len(again.fetch(*pair)) for pair in asked[40:]} == {10}
            waiting = pool.submit(again.fetch, HALF_MINUTES, five_minutes(6)[5])
            until(lambda: again.waiting_for == "the request budget is used up")
            again.stop()

    assert isinstance(waiting.exception(), Stopped)
    assert len(bars_asked(gateway)) == 60
    assert len(json.loads((tmp_path / f"gateway-127.0.0.1-{gateway.port}.json").read_text("utf-8"))["spent"]) == 60


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "error", "violations"),
    [
        ("Historical data request pacing violation", PacingViolation, 1),
        ("Mensaje de error:Se ha superado el ritmo de solicitudes", Refused, 0),  # what else it may be is not known
    ],
)
def test_after_a_violation_nothing_paced_is_sent_for_a_while(half_minutes, text, error, violations):
    refused = on_bars("error", code=162, text=text)
    with (
        Gateway(half_minutes, faults=faults(refused)) as gateway,
        connect(gateway.address, patience=replace(QUICK, answer=1.5)) as source,
    ):
        began = time.monotonic()
        with pytest.raises(error):
            source.fetch(HALF_MINUTES, five_minutes(1)[0])
        source.fetch(HALF_MINUTES, five_minutes(2)[1])

        assert time.monotonic() - began > 1.4
        assert source.violations == violations


@pytest.mark.slow
def test_never_more_than_fifty_requests_are_open(twelve_stocks):
    slow = on_bars("delay", seconds=4.0, when={"times": 60})  # at 40 messages a second all could be sent in 1.5 s
    asked = [(series, window) for series in twelve_stocks.series() for window in five_minutes(5)]
    with (
        Gateway(twelve_stocks, pacing="off", faults=faults(slow)) as gateway,
        IbSource(port=gateway.port, patience=QUICK) as source,
        ThreadPoolExecutor(60) as pool,
    ):
        answers = list(pool.map(lambda pair: source.fetch(*pair), asked))

    assert {len(bars) for bars in answers} == {10}
    assert gateway.most_open == 50


@pytest.mark.slow
def test_eight_threads_share_a_source(serve, sample):
    gateway, source = serve()
    series = [Series.parse(f"{symbol}/1day") for symbol in ("AAPL", "IBM", "MSFT", "GOOG")]
    spans = [Span.of_dates(date(year, 1, 2), date(year, 12, 30)) for year in range(2005, 2012)]
    wanted = [(one, span) for one in series for span in spans]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda pair: source.fetch(*pair), wanted))

    assert all(bars.equals(sample.read(*pair)) for bars, pair in zip(answers, wanted, strict=True))
    assert len(bars_asked(gateway)) == source.requests == 28
    assert len([record for record in gateway.requests if record.kind == "details"]) == 4


# --- what helps to plan


@pytest.mark.second_client
def test_the_first_bar_is_told_and_remembered(serve, sample):
    gateway, source = serve()

    first = source.head(AAPL), source.head(Series.parse("AAPL/1week"))

    assert first[0] == first[1]
    assert first[0].date() == sample.read(AAPL)["time"][0].as_py().date()
    assert len([record for record in gateway.requests if record.kind == "head"]) == 1
    until(lambda: gateway.requests[-1].kind == "cancel")


@pytest.mark.slow
def test_a_gateway_that_does_not_tell_the_first_bar_is_not_waited_for(serve, sample):
    gateway, source = serve(on_bars("silence", when={"kind": "head"}), patience=IMPATIENT)
    source.know(AAPL.instrument, sample.manifest(AAPL).contract)

    first = source.head(AAPL)  # and is back, however long the gateway says nothing

    assert first == datetime(2000, 3, 1, 9, tzinfo=UTC)  # by all daily bars; 04:00 in New York
    assert [record.request.duration for record in bars_asked(gateway)] == ["68 Y"]
    assert first == source.head(AAPL)
    assert len(bars_asked(gateway)) == 1
    source.now()
    assert "cancel" in {record.kind for record in gateway.requests}


def test_ten_minutes_of_first_bars_need_no_more_than_the_budget(sample):
    with Gateway(sample, time_scale=100) as gateway, IbSource(port=gateway.port, time_scale=100) as source:
        kinds = [Series.parse(f"{symbol}/1day") for symbol in ("AAPL", "IBM", "MSFT", "GOOG")]
        told = [source.head(series) for series in kinds]

    assert None not in told
    assert gateway.violations == 0


@pytest.mark.slow
@pytest.mark.second_client
@pytest.mark.parametrize("text", ["AAPL", "EUR-CASH"])
@pytest.mark.parametrize("regular_hours", [True, False])
def test_sessions_are_those_of_the_calendar_in_a_week_when_the_clocks_change(intraday, serve, text, regular_hours):
    instrument, week = Instrument.parse(text), (date(2024, 3, 7), date(2024, 3, 14))
    _, source = serve(store=intraday)

    assert source.sessions(instrument, *week, regular_hours) == calendars.sessions(
        hours_of(instrument), *week, regular_hours
    )


def test_sessions_of_years_are_asked_for_a_year_at_a_time(serve):
    gateway, source = serve()
    years = date(2005, 1, 3), date(2007, 12, 31)

    found = source.sessions(AAPL.instrument, *years)

    assert found == calendars.sessions(hours_of(AAPL.instrument), *years)
    assert len([record for record in gateway.requests if record.kind == "schedule"]) <= 4


@pytest.mark.slow
def test_a_gateway_that_has_no_schedule_says_nothing(serve, sample):
    _, source = serve(on_bars("silence", when={"kind": "schedule", "times": 2}), patience=IMPATIENT)
    source.know(AAPL.instrument, sample.manifest(AAPL).contract)

    assert source.sessions(AAPL.instrument, date(2005, 1, 3), date(2005, 1, 7)) is None


@pytest.mark.slow
def test_a_window_that_was_too_long_teaches_half_of_it(sample, tmp_path):
    series = Series.parse("AAPL/1min")
    window = span_of_sessions(series, date(2024, 2, 5), date(2024, 2, 16))  # ten sessions

    with Gateway(sample) as gateway:
        with connect(gateway.address, state=tmp_path) as source:
            smaller = source.learn(series, window)
            step = source.step(series)
        with connect(gateway.address, state=tmp_path) as later:
            kept = later.step(series), later.windows(series, window)

    assert (PRACTICAL["1 min"], step, len(smaller)) == ("21 D", "5 D", 2)
    assert kept == ("5 D", smaller)


TWELVE_YEARS = Span.of_dates(date(2001, 1, 1), date(2012, 12, 31))
WEEK = timedelta(days=7)


@pytest.fixture
def learn_a_year(sample, tmp_path):
    """Return a function that connects at a time, to a gateway that taught on New Year 2024 that a year is too long."""

    def connected(now, **words):
        return connect(gateway.address, state=tmp_path, clock=lambda: now, **words)

    with Gateway(sample) as gateway:
        with connected(datetime(2024, 1, 1, tzinfo=UTC)) as source:
            source.learn(AAPL, Span.of_dates(date(2011, 1, 1), date(2011, 12, 31)))
        yield connected


def test_many_series_whose_same_request_is_refused_learn_half_of_it_once(serve):
    _, source = serve()
    symbols = ("AAPL", "GOOG", "IBM", "MSFT")

    smaller = [source.learn(Series.parse(f"{symbol}/1day"), TWELVE_YEARS) for symbol in symbols]

    assert source.step(AAPL) == "6 Y"  # and not 9 months
    assert {len(windows) for windows in smaller} == {3}


@pytest.mark.slow
@pytest.mark.parametrize("text", ["AAPL/1day/MIDPOINT", "AAPL/1week", "EUR-CASH/1day", "AAPL/1day/TRADES/all"])
def test_what_one_kind_of_request_teaches_holds_for_no_other(learn_a_year, text):
    with learn_a_year(datetime(2024, 1, 2, tzinfo=UTC)) as source:
        assert source.step(AAPL) == source.step(Series.parse("IBM/1day")) == "182 D"
        assert source.step(Series.parse(text)) == "68 Y"


@pytest.mark.slow
def test_what_was_learnt_long_ago_is_tried_upward_by_one_series(learn_a_year):
    with learn_a_year(datetime(2024, 1, 1, tzinfo=UTC) + WEEK - timedelta(hours=1)) as source:
        before = source.windows(AAPL, TWELVE_YEARS)
    with learn_a_year(datetime(2024, 1, 1, tzinfo=UTC) + WEEK) as source:
        after = source.windows(AAPL, TWELVE_YEARS), source.windows(Series.parse("IBM/1day"), TWELVE_YEARS)

    assert (len(before), len(after[1])) == (25, 25)  # 4383 days, 182 at a time
    assert [(window.end - window.start).days for window in after[0]] == [2912, 728, 728, 15]
    assert Span(after[0][0].start, after[0][-1].end) == TWELVE_YEARS
    assert all(one.end == other.start for one, other in pairwise(after[0]))


@pytest.mark.slow
def test_a_gateway_that_serves_more_than_it_did_is_asked_for_more(learn_a_year):
    with learn_a_year(datetime(2024, 1, 1, tzinfo=UTC) + WEEK) as source:
        for window in reversed(source.windows(AAPL, TWELVE_YEARS)):
            source.fetch(AAPL, window)
        grown = source.step(AAPL)
    with learn_a_year(datetime(2024, 1, 1, tzinfo=UTC) + WEEK) as source:
        once_more = source.windows(AAPL, TWELVE_YEARS)

    assert grown == "8 Y"  # as which 2912 days are asked for
    assert len(once_more) == 1  # 16 years are tried


@pytest.mark.slow
def test_a_larger_step_that_is_refused_is_not_tried_again_for_a_week(learn_a_year):
    trial, soon = (datetime(2024, 1, day, tzinfo=UTC) for day in (8, 14))
    with learn_a_year(trial) as source:
        widest = max(source.windows(AAPL, TWELVE_YEARS), key=lambda window: window.end - window.start)
        smaller = source.learn(AAPL, widest)
    with learn_a_year(soon) as source:
        windows = source.windows(AAPL, TWELVE_YEARS)

    assert (source.step(AAPL), len(windows)) == ("182 D", 25)
    assert max(window.end - window.start for window in smaller) == timedelta(days=182)


def test_small_steps_that_version_010_kept_are_tried_upward_by_all_series(sample, tmp_path):
    with Gateway(sample) as gateway:
        kept = tmp_path / f"gateway-127.0.0.1-{gateway.port}.json"
        kept.write_text('{"steps": {"1 day": "2 D"}}', "utf-8")
        with connect(gateway.address, state=tmp_path) as source:
            windows = [source.windows(Series.parse(f"{symbol}/1day"), TWELVE_YEARS) for symbol in ("AAPL", "IBM")]

    assert source.step(AAPL) == "2 D"
    assert max(len(one) for one in windows) <= 12  # of 4, 8, 16 ... days, and not 2192


@pytest.mark.slow
def test_another_gateway_at_the_same_address_is_not_taken_for_the_one_that_taught(sample, tmp_path):
    with Gateway(sample) as gateway:
        with connect(gateway.address, state=tmp_path / "state") as source:
            source.learn(AAPL, TWELVE_YEARS)
            assert source.step(AAPL) == "6 Y"
        (kept,) = (tmp_path / "state").glob("*.json")
        content = json.loads(kept.read_text("utf-8"))
        (learnt,) = content["learnt"].values()
        content["learnt"] = {"176 another": learnt}
        kept.write_text(json.dumps(content), "utf-8")
        with connect(gateway.address, state=tmp_path / "state") as source:
            assert source.step(AAPL) == "68 Y"


def test_history_that_is_one_request_teaches_nothing(serve):
    _, source = serve()
    series = Series.parse("AAPL/1day/ADJUSTED_LAST")

    assert source.learn(series, WINDOW) == [WINDOW]
    assert source.step(series) == PRACTICAL["1 day"]


def test_a_single_half_hour_session_is_halved_no_further_than_ib_takes(serve):
    _, source = serve()
    smallest = Span(datetime(2024, 3, 4, 14, 30, tzinfo=UTC), datetime(2024, 3, 4, 14, 30, 30, tzinfo=UTC))

    assert source.learn(HALF_MINUTES, smallest) == [smallest]


def test_the_address_chooses_the_older_limits(gateway):
    with connect(f"{gateway.address}?limits=legacy&client_id=5") as source:
        assert {size: source.step(replace(AAPL, size=BAR_SIZES[size.replace(" ", "")])) for size in LEGACY} == LEGACY
    with pytest.raises(UsageError, match="practical, legacy"):
        connect(f"{gateway.address}?limits=none")


# --- threads and the end


def test_closing_ends_what_is_under_way(serve):
    _, source = serve(on_bars("silence", when={"times": 9}), patience=Patience(answer=30.0))

    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(source.fetch, AAPL, WINDOW) for _ in range(3)]
        until(lambda: source.requests == 3)
        source.close()

    assert {type(future.exception()) for future in waiting} == {LinkLost}
    with pytest.raises(LinkLost, match="closed"):
        source.fetch(AAPL, WINDOW)


@pytest.mark.slow
def test_stopping_lets_the_request_under_way_finish_and_sends_no_other(serve):
    gateway, source = serve(on_bars("delay", seconds=0.3))

    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(source.fetch, AAPL, WINDOW)
        until(lambda: source.requests)
        source.stop()
        with pytest.raises(Stopped):
            source.fetch(AAPL, WINDOW)

    assert len(under_way.result()) == 22
    assert len(bars_asked(gateway)) == 1


def test_stopping_ends_the_wait_for_the_budget(half_minutes):
    with Gateway(half_minutes, time_scale=0.1) as gateway, IbSource(port=gateway.port, time_scale=0.1) as source:
        source.fetch(HALF_MINUTES, five_minutes(1)[0])
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(source.fetch, HALF_MINUTES, five_minutes(1)[0])  # identical: 150 s
            until(lambda: source.waiting_for)
            source.stop()

    assert isinstance(waiting.exception(), Stopped)


@pytest.mark.slow
def test_a_source_leaves_no_thread_and_no_noise(sample, caplog, recwarn):
    before = threading.active_count()
    lost = on_bars("lost", seconds=0.1, code=1102)

    with Gateway(sample, faults=faults(lost, on_bars("drop", 2, bytes=9))) as gateway:
        sources = [connect(gateway.address, patience=QUICK) for _ in range(3)]
        sources[0].fetch(AAPL, WINDOW)
        with pytest.raises(LinkLost):
            sources[0].fetch(AAPL, WINDOW)
        for source in sources:
            source.close()
            source.close()
    gc.collect()

    assert threading.active_count() == before
    assert [record.name for record in caplog.records if record.name == "asyncio"] == []
    assert [str(one.message) for one in recwarn] == []
