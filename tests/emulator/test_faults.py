"""Each scripted fault reaches the client as it is written, once, and a script that is off is refused by its entry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from rawclient import RawClient, rows

from backtest.emulator.faults import Fault, Faults, _changed
from backtest.emulator.server import Gateway
from backtest.errors import UsageError
from backtest.store.store import Store

DAYS = ["20130227", "20130228", "20130301"]


@contextmanager
def client_of(
    store: Store, *entries: dict[str, Any], versions: str = "v157..176"
) -> Iterator[tuple[RawClient, Gateway]]:
    with Gateway(store, faults=Faults.of(list(entries))) as gateway, RawClient(gateway.port, versions) as client:
        yield client, gateway


def played(store: Store, do: str, **words: Any) -> list[list[str]]:
    """Return the bars of an answer with a fault."""
    with client_of(store, {"when": {}, "do": do, **words}) as (client, _):
        client.ask_bars(7, duration="3 D")
        return rows(client.answer(7))


# --- faults in the bars


def test_without_a_fault_the_bars_are_whole(sample: Store) -> None:
    with client_of(sample) as (client, _):
        client.ask_bars(7, duration="3 D")

        assert [row[0] for row in rows(client.answer(7))] == DAYS


def test_duplicate_sends_each_bar_twice(sample: Store) -> None:
    assert [row[0] for row in played(sample, "duplicate")] == sorted(DAYS * 2)


def test_disorder_sends_the_last_bar_first(sample: Store) -> None:
    assert [row[0] for row in played(sample, "disorder")] == DAYS[::-1]


def test_empty_sends_no_bars(sample: Store) -> None:
    assert played(sample, "empty") == []


@pytest.mark.parametrize(("place", "left"), [("first", DAYS[1:]), ("middle", [DAYS[0], DAYS[2]]), ("last", DAYS[:2])])
def test_cut_leaves_bars_out(sample: Store, place: str, left: list[str]) -> None:
    assert [row[0] for row in played(sample, "cut", place=place, bars=1)] == left


def test_cut_of_more_bars_than_there_are_leaves_none(sample: Store) -> None:
    assert [played(sample, "cut", place=place, bars=4) for place in ("first", "middle", "last")] == [[], [], []]


def test_lack_has_no_bars_of_some_time(sample: Store) -> None:
    assert [row[0] for row in played(sample, "lack", since="20130228-00:00:00", until="20130301-00:00:00")] == [
        DAYS[0], DAYS[2]
    ]  # fmt: skip


def test_lack_of_all_bars_is_no_data(sample: Store) -> None:
    lack = {"when": {}, "do": "lack", "since": "20130227-00:00:00", "until": "20130302-00:00:00"}
    with client_of(sample, lack) as (client, _):
        client.ask_bars(7, duration="3 D")

        assert client.answer(7)[2:5] == [
            "7", "162", "Historical Market Data Service error message:HMDS query returned no data: by a script"
        ]  # fmt: skip


@pytest.mark.parametrize(("format_date", "answer"), [(1, "20240308-14:30:00"), (2, "1709908200")])
def test_head_is_what_the_script_says(sample: Store, format_date: int, answer: str) -> None:
    head = {"when": {"kind": "head"}, "do": "head", "since": "20240308-14:30:00"}
    with client_of(sample, head) as (client, _):
        contract = ["0", "AAPL", "STK", "", "0.0", "", "", "SMART", "", "USD", "", "", "0"]
        client.send(87, 7, *contract, "1", "TRADES", format_date)

        assert client.until("88")[-1][1:] == ["7", answer]


def test_shift_leaves_days_as_they_are_and_moves_minutes() -> None:
    minute, day = (["1709562600", "1"], ["20240304", "1"])

    assert _changed(Fault("shift", "request", seconds=3600), [minute, day]) == [["1709566200", "1"], day]


def test_unfinished_adds_a_bar_after_the_last(sample: Store) -> None:
    bars = played(sample, "unfinished")

    assert [row[0] for row in bars] == [*DAYS, "20130302"]
    assert bars[3][1:5] == [bars[2][4]] * 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value", "place", "text"),
    [
        ("nan", 4, "nan"),
        ("huge", 1, "1.7976931348623157E308"),
        ("huge", 4, "1.7976931348623157E308"),
        ("high", 2, "1.7976931348623157E308"),
        ("infinity", 4, "Infinity"),
        ("text", 4, "abc"),
        ("minus", 1, "-1"),
        ("zero", 3, "0"),
        ("off_grid", 0, "20130302"),
    ],
)
def test_bad_spoils_the_bar_in_the_middle(sample: Store, value: str, place: int, text: str) -> None:
    bars = played(sample, "bad", value=value)

    assert bars[1][place] == text
    assert [bars[0][0], bars[2][0]] == [DAYS[0], DAYS[2]]


def test_unset_leaves_the_prices_and_no_other_number(sample: Store) -> None:
    whole, bars = played(sample, "twice"), played(sample, "unset")

    assert [row[:5] for row in bars] == [row[:5] for row in whole]
    assert [row[5] for row in bars] == [
        "2147483647", "170141183460469231731687303715884105727", "9223372036854775807"
    ]  # fmt: skip
    assert {row[6] for row in bars} == {"1.7976931348623157E308"}
    assert {row[7] for row in bars} == {"2147483647"}


def test_rescale_divides_prices_and_multiplies_volumes(sample: Store) -> None:
    whole, bars = played(sample, "twice"), played(sample, "rescale", ratio=0.25)

    assert [[float(text) for text in row[1:5]] for row in bars] == [
        [round(float(text) / 4, 2) for text in row[1:5]] for row in whole
    ]
    assert [float(row[5]) for row in bars] == [float(row[5]) * 4 for row in whole]


def test_recount_counts_in_lots(sample: Store) -> None:
    whole, bars = played(sample, "twice"), played(sample, "recount", ratio=0.01)

    assert [row[5] for row in bars] == [str(int(float(row[5])) // 100) for row in whole]


@pytest.mark.parametrize(("column", "place"), [("high", 2), ("volume", 5)])
def test_revise_adds_to_a_number_of_one_bar_from_the_end(sample: Store, column: str, place: int) -> None:
    whole, bars = played(sample, "twice"), played(sample, "revise", bar=2, column=column, add=1)

    assert float(bars[1][place]) == float(whole[1][place]) + 1
    assert [bars[0], bars[2]] == [whole[0], whole[2]]
    assert played(sample, "revise", bar=4, column=column, add=1) == whole


def test_bad_crossed_puts_the_high_below_the_low(sample: Store) -> None:
    bar = played(sample, "bad", value="crossed")[1]

    assert float(bar[2]) == float(bar[3]) - 1


@pytest.mark.parametrize(("format_date", "stamp"), [("1", "20240312 12:45:07 US/Eastern"), ("2", "1710261907")])
def test_bad_off_grid_moves_a_stamp_by_seconds(intraday: Store, format_date: str, stamp: str) -> None:
    with client_of(intraday, {"when": {}, "do": "bad", "value": "off_grid"}) as (client, _):
        client.ask_bars(7, end="20240312-22:00:00", duration="1 D", size="1 min", format=format_date)

        assert rows(client.answer(7))[195][0] == stamp


@pytest.mark.parametrize("version", [100, 200])
def test_bars_are_spoilt_at_every_version(sample: Store, version: int) -> None:
    with client_of(sample, {"when": {}, "do": "disorder"}, versions=f"v100..{version}") as (client, _):
        client.ask_bars(7, duration="3 D")

        assert [row[0] for row in rows(client.answer(7), version)] == DAYS[::-1]


# --- faults in the frames


def test_twice_sends_the_answer_twice(sample: Store) -> None:
    with client_of(sample, {"when": {}, "do": "twice"}) as (client, _):
        client.ask_bars(7)

        assert client.answer(7) == client.answer(7)


def test_garbage_comes_in_front_of_the_answer(sample: Store) -> None:
    with client_of(sample, {"when": {}, "do": "garbage"}) as (client, _):
        client.until("4")
        client.ask_bars(7)

        messages = client.until("17")

    assert messages[-2][0] == "%noise%"


def test_length_promises_two_billion_bytes(sample: Store) -> None:
    with client_of(sample, {"when": {}, "do": "length"}) as (client, _):
        for _ in range(3):
            client.receive()  # the notices after the start
        client.ask_bars(7)

        assert client.receive_bytes(4) == (2_000_000_000).to_bytes(4, "big")


@pytest.mark.parametrize("versions", ["v100..100", "v157..176", "v100..200"])
def test_foreign_answers_a_request_of_nobody(sample: Store, versions: str) -> None:
    with client_of(sample, {"when": {}, "do": "foreign"}, versions=versions) as (client, _):
        client.ask_bars(7)

        assert "100007" in client.answer(100_007)[1:3]


def test_drop_hangs_up_after_so_many_bytes(sample: Store) -> None:
    with client_of(sample, {"when": {}, "do": "drop", "bytes": 25}) as (client, _):
        for _ in range(3):
            client.receive()
        client.ask_bars(7)

        assert len(client.receive_bytes(1000)) == 25


# --- faults in time


def test_silence_leaves_the_request_open(sample: Store) -> None:
    with client_of(sample, {"when": {}, "do": "silence"}) as (client, gateway):
        client.ask_bars(7)
        client.ask_bars(8)

        assert client.until("17")[-1][1] == "8"
        assert [record.code for record in gateway.requests if record.kind == "bars"] == [-1, 0]


def test_error_comes_instead_of_the_answer(sample: Store) -> None:
    with client_of(sample, {"when": {}, "do": "error", "code": 162, "text": "Query failed"}) as (client, _):
        client.ask_bars(7)

        assert client.answer(7) == ["4", "2", "7", "162", "Query failed", ""]


@pytest.mark.slow
def test_delay_answers_later_and_lets_others_pass(sample: Store) -> None:
    with client_of(sample, {"when": {}, "do": "delay", "seconds": 1.0}) as (client, _):
        started = monotonic()
        client.ask_bars(7)
        client.ask_bars(8)

        order = [client.until("17")[-1][1] for _ in range(2)]

    assert order == ["8", "7"]
    assert monotonic() - started >= 1.0


def test_a_delayed_answer_can_be_cancelled(sample: Store) -> None:
    with client_of(sample, {"when": {}, "do": "delay", "seconds": 60}) as (client, _):
        client.ask_bars(7)
        client.send(25, 1, 7)

        assert client.answer(7)[3:5] == [
            "162", "Historical Market Data Service error message:API historical data query cancelled: 7"
        ]  # fmt: skip


@pytest.mark.slow
def test_refuse_closes_everything_for_a_while(sample: Store) -> None:
    with client_of(sample, {"when": {}, "do": "refuse", "seconds": 1.0}) as (client, gateway):
        started = monotonic()
        client.ask_bars(7)
        assert client.answer(7) == []
        attempts = 0
        while not _greets(gateway.port):
            attempts += 1

    assert attempts > 0
    assert monotonic() - started >= 1.0


def _greets(port: int) -> bool:
    try:
        with RawClient(port, client_id=None) as client:
            return bool(client.receive())
    except OSError:
        return False


@pytest.mark.parametrize("seconds", [0.1, 1e-6])  # the second is over before there is an answer, as on a busy machine
def test_lost_and_kept_answers_when_the_link_is_back(sample: Store, seconds: float) -> None:
    with client_of(sample, {"when": {}, "do": "lost", "seconds": seconds, "code": 1102}) as (client, _):
        client.ask_bars(7)

        messages = client.until("17")

    assert [message[3] for message in messages[-3:-1]] == ["1100", "1102"]


@pytest.mark.slow
@pytest.mark.parametrize(("error_first", "codes"), [(True, ["200", "1100", "1102"]), (False, ["1100", "1102", "200"])])
def test_an_error_before_the_loss_of_the_link_is_sent_before_it_is_said(sample: Store, error_first, codes) -> None:
    error = {"when": {}, "do": "error", "code": 200, "text": "No security definition has been found for the request"}
    lost = {"when": {}, "do": "lost", "seconds": 0.1, "code": 1102}
    with client_of(sample, *((error, lost) if error_first else (lost, error))) as (client, _):
        client.ask_bars(7)
        messages = [client.receive() for _ in range(6)]

    assert [message[3] for message in messages if message[0] == "4" and message[3] in codes] == codes


@pytest.mark.slow
def test_lost_for_good_answers_only_what_comes_later(sample: Store) -> None:
    with client_of(sample, {"when": {}, "do": "lost", "seconds": 1.0, "code": 1101}) as (client, _):
        client.ask_bars(7)
        client.ask_bars(8)
        back = client.answer(-1)
        while back[3] != "1101":
            back = client.answer(-1)
        client.ask_bars(9)

        assert client.until("17")[-1][1] == "9"


def test_notice_is_said_to_everybody(sample: Store) -> None:
    with (
        client_of(sample, {"when": {}, "do": "notice", "code": 2105}) as (client, gateway),
        RawClient(gateway.port, client_id=2) as other,
    ):
        client.ask_bars(7)

        codes = [client.until("17")[-2][3], [other.receive() for _ in range(4)][3][3]]

    assert codes == ["2105", "2105"]


# --- faults of connections


def test_taken_refuses_the_client_id(sample: Store) -> None:
    faults = Faults.of([{"when": {"connection": 1}, "do": "taken"}])
    with Gateway(sample, faults=faults) as gateway, RawClient(gateway.port, client_id=None) as client:
        client.receive()
        client.send(71, 2, 1, "")

        assert client.receive()[3] == "326"
        assert client.receive() == []


def test_a_refused_connection_is_closed_and_the_next_ones_too(sample: Store) -> None:
    faults = Faults.of([{"when": {"connection": 1}, "do": "refuse", "seconds": 60}])
    with Gateway(sample, faults=faults) as gateway:
        assert [_greets(gateway.port) for _ in range(3)] == [False, False, False]


@pytest.mark.slow
def test_a_silent_connection_never_greets(sample: Store) -> None:
    faults = Faults.of([{"when": {"connection": 1}, "do": "silence"}])
    with Gateway(sample, faults=faults) as gateway, RawClient(gateway.port, client_id=None) as client:
        client.socket.settimeout(0.2)

        with pytest.raises(TimeoutError):
            client.receive()


# --- scripts


def test_a_fault_counts_the_requests_of_its_kind_and_symbol() -> None:
    faults = Faults([Fault("silence", "request", nth=2, kind="bars", symbol="AAPL", times=2)])
    asked = [("bars", "AAPL"), ("bars", "MSFT"), ("head", "AAPL"), *[("bars", "AAPL")] * 3]

    assert [bool(faults.of_request(*request)) for request in asked] == [False, False, False, True, True, False]


def test_any_kind_counts_all_requests() -> None:
    faults = Faults([Fault("silence", "request", nth=3, kind="any")])

    assert [bool(faults.of_request(kind, "X")) for kind in ("details", "head", "bars")] == [False, False, True]


def test_a_script_is_loaded_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text(json.dumps([{"when": {"request": 3, "symbol": "AAPL"}, "do": "drop", "bytes": 400}]))

    faults = Faults.load(path)

    assert [len(faults.of_request("bars", "AAPL")) for _ in range(4)] == [0, 0, 1, 0]


@pytest.mark.parametrize(
    "entry",
    [
        "silence",
        {"do": "silence"},
        {"when": {}, "do": "explode"},
        {"when": {}, "do": "drop"},
        {"when": {}, "do": "silence", "seconds": 3},
        {"when": {}, "do": "delay", "seconds": "3"},
        {"when": {}, "do": "delay", "seconds": -3},
        {"when": {}, "do": "drop", "bytes": True},
        {"when": {}, "do": "bad", "value": "odd"},
        {"when": {}, "do": "notice", "code": 162},
        {"when": {}, "do": "rescale", "ratio": 0},
        {"when": {}, "do": "revise", "bar": 0, "column": "volume", "add": 1},
        {"when": {}, "do": "revise", "bar": 1, "column": "vwap", "add": 1},
        {"when": {}, "do": "cut", "place": "second", "bars": 1},
        {"when": {}, "do": "lack", "since": "20240308-15:00:00", "until": "20240308"},
        {"when": {"kind": "head"}, "do": "head", "since": "20241308-15:00:00"},
        {"when": {"request": 0}, "do": "silence"},
        {"when": {"request": 1, "times": 0}, "do": "silence"},
        {"when": {"kind": "ticks"}, "do": "silence"},
        {"when": {"request": 1, "connection": 1}, "do": "silence"},
        {"when": {"connection": 1}, "do": "empty"},
        {"when": {}, "do": "taken"},
        {"when": {}, "do": {}},
        {"when": {"kind": []}, "do": "silence"},
    ],
)
def test_an_entry_that_is_off_is_named(tmp_path: Path, entry: Any) -> None:
    path = tmp_path / "faults.json"
    path.write_text(json.dumps([{"when": {}, "do": "silence"}, entry]))

    with pytest.raises(UsageError, match=r"faults\.json, entry 2"):
        Faults.load(path)


@pytest.mark.parametrize("text", [None, "{", '{"when": {}}'])
def test_a_file_that_is_no_script_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "faults.json"
    if text:
        path.write_text(text)

    with pytest.raises(UsageError, match=r"faults\.json"):
        Faults.load(path)
