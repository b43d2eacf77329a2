"""The wire has the shapes of IB's messages at each server version, and no digit of a price is lost on it."""

from __future__ import annotations

import struct
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

import pytest
from rawclient import RawClient, rows

from backtest.emulator import handlers, protocol
from backtest.emulator.server import Gateway
from backtest.errors import LinkLost, Refused
from backtest.market.bars import table_of
from backtest.market.series import ContractDetails, Instrument

NOON = datetime(2024, 3, 4, 17, tzinfo=UTC)
APPLE = Instrument("AAPL")
FACTS = ContractDetails(265598, "AAPL", "NMS", "APPLE INC", "NASDAQ", "SMART", "US/Eastern")


def fields_of(frame: bytes) -> list[str]:
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    return frame[4:].decode().split("\0")[:-1]


def bars_message(version: int, *bars: tuple[float | int | None, ...], format_date: int = 2) -> list[str]:
    table = table_of((NOON, 1.0, 1.0, 1.0, *bar) for bar in bars)
    times = protocol.stamp_texts(table, False, format_date, "US/Eastern", version)
    return fields_of(protocol.bars_answer(7, times, table, "S", "E", version)[0])


# --- conversations in bytes written by hand


def test_the_first_bytes_of_the_gateway_are_a_frame_of_version_and_time(gateway: Gateway) -> None:
    with RawClient(gateway.port, "v100..157", client_id=None) as client:
        size = struct.unpack(">I", client.receive_bytes(4))[0]
        greeting = client.receive_bytes(size)

    assert greeting.startswith(b"157\x00")
    assert greeting.count(b"\x00") == 2
    assert greeting.endswith(b"\x00")


def test_a_start_in_bytes_brings_account_and_next_id(gateway: Gateway) -> None:
    with RawClient(gateway.port, "v157..176", client_id=None) as client:
        client.receive()
        client.send_bytes(b"\x00\x00\x00\x0971\x002\x0033\x00\x00")

        answer = client.receive_bytes(19), client.receive_bytes(10)

    assert answer == (b"\x00\x00\x00\x0f15\x001\x00DU0000000\x00", b"\x00\x00\x00\x069\x001\x001\x00")


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [("v100..157", 157), ("v157..176", 176), ("v157..178", 178), ("v100..100", 100), ("v100..222", 200), ("v157", 157)],
)
def test_the_version_is_the_lower_of_both_highest(gateway: Gateway, offered: str, chosen: int) -> None:
    with RawClient(gateway.port, offered) as client:
        assert client.version == chosen


@pytest.mark.parametrize("offered", ["v50..99", "v201..222", "157", "vx", ""])
def test_versions_that_do_not_meet_are_hung_up_on(gateway: Gateway, offered: str) -> None:
    with RawClient(gateway.port, offered, client_id=None) as client:
        assert client.receive() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ((5, 1), ["53", "1"]),
        ((6, 2, 1, "DU0000000"), ["54", "1", "DU0000000"]),
        ((7, 3, 11), ["55", "1", "11"]),
        ((8, 1, 1), ["9", "1", "1"]),
        ((16, 1), ["53", "1"]),
        ((17, 1), ["15", "1", "DU0000000"]),
        ((61, 1), ["62", "1"]),
        ((62, 1, 12, "All", "NetLiquidation"), ["64", "1", "12"]),
        ((74, 1, 13, "DU0000000", ""), ["72", "1", "13"]),
        ((76, 1, 14, "DU0000000", "", 1), ["74", "1", "14"]),
        ((99, 1), ["102"]),
    ],
)
def test_an_account_without_orders_or_positions_is_told_by_its_ends(
    gateway: Gateway, asked: tuple[object, ...], answered: list[str]
) -> None:
    with RawClient(gateway.port) as client:
        client.send(*asked)

        assert client.until(answered[0])[-1] == answered


def test_what_nobody_knows_has_no_answer(gateway: Gateway) -> None:
    with RawClient(gateway.port) as client:
        client.until("4")
        client.send(12345, "a", "b")
        client.send(6, 2, 0, "DU0000000")
        client.send(49, 1)

        assert {message[0] for message in client.until("49")} == {"4", "49"}  # notices of the farms, and the clock


def test_bars_at_version_100_have_a_version_and_gaps(gateway: Gateway) -> None:
    with RawClient(gateway.port, "v100..100") as client:
        client.ask_bars(7, duration="1 D")

        answer = client.answer(7)

    assert answer[:3] == ["17", "3", "7"]
    assert answer[5:] == ["1", "20130301", "438", "438.1799", "429.98", "430.47", "19730300", "-1", "false", "-1"]


@pytest.mark.parametrize("version", [157, 176, 178])
def test_bars_at_the_versions_of_clients_have_eight_fields_each(gateway: Gateway, version: int) -> None:
    with RawClient(gateway.port, f"v100..{version}") as client:
        client.ask_bars(7, duration="1 D")

        answer = client.answer(7)

    assert answer[:2] == ["17", "7"]
    assert answer[4:] == ["1", "20130301", "438", "438.1799", "429.98", "430.47", "19730300", "-1", "-1"]


def test_bars_from_version_196_end_with_a_message_of_their_own(gateway: Gateway) -> None:
    with RawClient(gateway.port, "v100..200") as client:
        client.ask_bars(7, duration="1 D")

        bars, end = client.answer(7), client.receive()

    assert bars == ["17", "7", "1", "20130301", "438", "438.1799", "429.98", "430.47", "19730300", "-1", "-1"]
    assert end == ["108", "7", "20130228 19:00:00 US/Eastern", "20130301 19:00:00 US/Eastern"]


# --- messages


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        (157, ["4", "2", "7", "200", "No"]),
        (166, ["4", "2", "7", "200", "No", ""]),
        (194, ["4", "7", "200", "No", "", "1709571600000"]),
    ],
)
def test_an_error_grows_with_the_version(version: int, fields: list[str]) -> None:
    assert fields_of(protocol.error(7, 200, "No", version, NOON)) == fields


@pytest.mark.parametrize(
    # 32 at first, as IB's own client reads them; each of these versions added some, and 164 took two away.
    ("version", "count"), [(100, 32), (110, 33), (121, 34), (122, 36), (126, 37), (134, 38), (152, 39), (163, 40),
                           (164, 40), (182, 41), (186, 42)],
)  # fmt: skip
def test_details_have_the_fields_of_their_version(version: int, count: int) -> None:
    fields = fields_of(protocol.details(7, APPLE, FACTS, ("", ""), version))

    assert len(fields) == count
    assert fields[:3] == (["10", "8", "7"] if version < 164 else ["10", "7", "AAPL"])


def test_a_name_beyond_ascii_is_escaped_where_clients_unescape_it() -> None:
    facts = replace(FACTS, name="Nestlé \\ Ko")

    new, old = (fields_of(protocol.details(7, APPLE, facts, ("", ""), version)) for version in (157, 152))

    assert "Nestl\\xe9 \\\\ Ko" in new
    assert "Nestlé \\ Ko" in old


def test_a_price_reads_back_as_the_same_double() -> None:
    chance = Random(1)
    prices = [chance.uniform(-1, 1) * 10.0 ** chance.randint(-8, 12) for _ in range(2000)]

    message = bars_message(176, *((price, None, None, None) for price in prices))

    assert [float(row[4]) for row in rows(message)] == prices


@pytest.mark.parametrize(
    ("version", "volume", "text"),
    [
        (157, 1e6, "1000000"),
        (157, 2.5, "2"),
        (163, 2.5, "2.5"),
        (163, 12e9, "12000000000"),
        (176, None, "-1"),
        (176, 0.0, "0"),
    ],
)
def test_a_volume_is_an_integer_where_it_can_be(version: int, volume: float | None, text: str) -> None:
    assert rows(bars_message(version, (1.0, volume, None, None)))[0][5] == text


def test_what_a_bar_does_not_have_is_minus_one() -> None:
    assert rows(bars_message(176, (1.0, None, None, None)))[0][5:] == ["-1", "-1", "-1"]


@pytest.mark.parametrize(
    ("version", "format_date", "text"),
    [(176, 2, "1709571600"), (174, 1, "20240304 12:00:00 US/Eastern"), (157, 1, "20240304  12:00:00")],
)
def test_a_stamp_is_epoch_or_a_text_of_its_version(version: int, format_date: int, text: str) -> None:
    assert rows(bars_message(version, (1.0, None, None, None), format_date=format_date))[0][0] == text


def test_stamps_as_text_follow_daylight_saving() -> None:
    times = [datetime(2024, 3, day, 14, tzinfo=UTC) for day in (8, 11)]
    table = table_of((time, 1.0, 1.0, 1.0, 1.0, None, None, None) for time in times)

    texts = protocol.stamp_texts(table, False, 1, "US/Eastern", 176).to_pylist()

    assert texts == ["20240308 09:00:00 US/Eastern", "20240311 10:00:00 US/Eastern"]


# --- requests

CONTRACT = ["0", "ES", "FUT", "202406", "0.0", "", "50", "CME", "", "USD", "", ""]
WISH = ["1", "20240304-00:00:00", "1 min", "1 D", "0", "TRADES", "2"]


@pytest.mark.parametrize(("version", "before", "after"), [(100, ["6"], [""]), (157, [], ["1", ""])])
def test_a_request_for_bars_is_read_at_old_and_new_versions(version: int, before: list[str], after: list[str]) -> None:
    request = handlers.decode_request(["20", *before, "7", *CONTRACT, *WISH, *after], version)

    assert isinstance(request, protocol.BarsRequest)
    assert (request.req_id, request.size, request.duration, request.format_date) == (7, "1 min", "1 D", 2)
    assert (request.regular_hours, request.keep_up_to_date) == (False, version == 157)
    assert (request.contract.expiry, request.contract.exchange, request.contract.include_expired) == (
        "202406",
        "CME",
        True,
    )


def test_the_legs_of_a_combination_are_passed_over() -> None:
    contract = ["0", "XY", "BAG", *CONTRACT[3:]]

    request = handlers.decode_request(["20", "7", *contract, *WISH, "1", "11", "1", "BUY", "SMART", "1", ""], 157)

    assert isinstance(request, protocol.BarsRequest)
    assert request.keep_up_to_date


@pytest.mark.parametrize(
    "fields", [["20", "7"], ["20", "seven", *CONTRACT, *WISH, "0", ""], ["25", "1"], ["9", "8", "x"]]
)
def test_a_request_that_cannot_be_read_is_refused(fields: list[str]) -> None:
    with pytest.raises(Refused, match="Error reading request") as caught:
        handlers.decode_request(fields, 176)

    assert caught.value.code == 320


def test_an_unknown_request_is_read_as_plain() -> None:
    assert handlers.decode_request(["12345", "a", "b"], 176) == protocol.PlainRequest(12345)


def test_what_begins_with_no_number_is_no_message() -> None:
    with pytest.raises(LinkLost, match="not a message id"):
        handlers.decode_request(["hello"], 176)
