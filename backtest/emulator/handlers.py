"""
How the gateway handles each message: `HANDLERS`, one row per message id.

A new message takes a function that reads its fields, a function that answers, and a row here. Its request is a frozen
dataclass, defined here unless the archive uses it. Connections send the answers and apply the faults.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from backtest.emulator import protocol
from backtest.emulator.connection import SERVICE, Connection, Reply
from backtest.emulator.contracts import parts_of
from backtest.emulator.protocol import (
    BarsRequest,
    CancelRequest,
    DetailsRequest,
    Fields,
    HeadRequest,
    OrderRequest,
    PlainRequest,
    Request,
    SearchRequest,
    StartApi,
)
from backtest.errors import LinkLost, Refused

_FARMS = (2104, 2106, 2158)  # the notices that greet a client: every farm works
_READ_ONLY = "Error validating request.-'bW' : cause - The API interface is currently in Read-Only mode."
_NO_ZONE = (
    "Warning: You submitted request with date-time attributes without explicit time zone. Please switch to use "
    "yyyymmdd-hh:mm:ss in UTC or use instrument time zone, like US/Eastern. Implied time zone functionality will be "
    "removed in the next API release"
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Handler:
    """How to read the fields of a message, and how to handle the request."""

    read: Callable[[Fields, int], Request]
    act: Callable[[Connection, Any], None]


def handle(connection: Connection, fields: list[str]) -> None:
    """Read a client's message and handle it as its row says; refuse one that cannot be read."""
    try:
        request = decode_request(fields, connection.version)
    except Refused as error:
        connection.error(-1, error.code, str(error))
        return
    if connection.client_id is None and not isinstance(request, StartApi):
        _log.warning("message %s comes before the start of the client", fields[0])
        return
    _handler(int(fields[0])).act(connection, request)


def decode_request(fields: list[str], version: int) -> Request:
    """
    Return the request in the fields of a frame, at a server version.

    Raises:
        Refused: 320, a field is missing or is not a number.
        LinkLost: the first field is not a number, so this is not a message.
    """
    try:
        number = int(fields[0])
    except ValueError as error:
        raise LinkLost(f"a message begins with {fields[0][:20]!r}, which is not a message id") from error
    try:
        return _handler(number).read(Fields(fields[1:], version), number)
    except StopIteration:
        raise Refused(f"Error reading request: message {number} has too few fields", 320) from None
    except ValueError as error:
        raise Refused(f"Error reading request: message {number}: {error}", 320) from error


def _handler(number: int) -> _Handler:
    return HANDLERS.get(number, _UNKNOWN)


def _read_start(fields: Fields, number: int) -> Request:
    fields.skip(1)
    return StartApi(fields.integer())


def _start(connection: Connection, request: StartApi) -> None:
    others = {other.client_id for other in connection.desk.connections - {connection}}
    if request.client_id in others or any(fault.do == "taken" for fault in connection.greeting):
        connection.reply(request, connection.refusal(-1, Refused(protocol.TAKEN, 326)))
        raise LinkLost(f"client id {request.client_id} is in use")
    connection.client_id = request.client_id
    connection.reply(request, Reply([protocol.message(15, 1, protocol.ACCOUNT), protocol.message(9, 1, 1)]))
    for code in _FARMS:
        connection.notice(code)
    for fault in connection.greeting:
        connection.play(fault)


def _read_bars(fields: Fields, number: int) -> Request:
    if fields.version < 124:
        fields.skip(1)
    req_id, contract = fields.integer(), fields.contract()
    end, size, duration, regular_hours = fields.text(), fields.text(), fields.text(), fields.flag()
    prices, format_date = fields.text(), fields.integer()
    if contract.kind == "BAG":
        fields.skip(4 * fields.integer())
    keep = fields.flag() if fields.version >= 124 else False
    return BarsRequest(req_id, contract, end, size, duration, regular_hours, prices, format_date, keep)


def _bars(connection: Connection, request: BarsRequest) -> None:
    find = _found_schedule if request.prices == "SCHEDULE" else _found_bars
    connection.serve(request, find)


def _found_bars(connection: Connection, request: BarsRequest) -> Reply:
    now, version = connection.desk.clock(), connection.version
    found = connection.desk.archive.bars(request, now)
    zone = found.listing.facts.time_zone
    times = protocol.stamp_texts(found.bars, found.size.daily, request.format_date, zone, version)
    start, end = (protocol.moment(time, zone, version) for time in (found.start, found.end))
    warning = [protocol.error(request.req_id, 2174, _NO_ZONE, version, now)] if found.zoneless else []
    frames = protocol.bars_answer(request.req_id, times, found.bars, start, end, version)
    return Reply(warning + frames, bars=len(found.bars), stays_open=request.keep_up_to_date)


def _found_schedule(connection: Connection, request: BarsRequest) -> Reply:
    plan = connection.desk.archive.schedule(request, connection.desk.clock())
    rows = [(part.start, part.end, f"{session.day:%Y%m%d}") for session in plan.sessions for part in parts_of(session)]
    frame = protocol.schedule(request.req_id, plan.start, plan.end, plan.listing.facts.time_zone, rows)
    return Reply([frame], stays_open=request.keep_up_to_date)


def _read_head(fields: Fields, number: int) -> Request:
    return HeadRequest(fields.integer(), fields.contract(), fields.flag(), fields.text(), fields.integer())


def _head(connection: Connection, request: HeadRequest) -> None:
    connection.serve(request, _found_head)


def _found_head(connection: Connection, request: HeadRequest) -> Reply:
    first = connection.desk.archive.head(request, connection.desk.clock())
    return Reply([protocol.head(request.req_id, first, request.format_date)], stays_open=True)


def _read_details(fields: Fields, number: int) -> Request:
    fields.skip(1)
    number, contract = fields.integer(), fields.contract()
    return DetailsRequest(number, replace(contract, sec_id_type=fields.text(), sec_id=fields.text()))


def _details(connection: Connection, request: DetailsRequest) -> None:
    connection.serve(request, _found_details)


def _found_details(connection: Connection, request: DetailsRequest) -> Reply:
    archive, now = connection.desk.archive, connection.desk.clock()
    frames = [
        protocol.details(request.req_id, found.instrument, found.facts, archive.hours(found, now), connection.version)
        for found in archive.listings(request.contract, now)
    ]
    return Reply([*frames, protocol.message(52, 1, request.req_id)])


def _read_search(fields: Fields, number: int) -> Request:
    return SearchRequest(fields.integer(), fields.text())


def _search(connection: Connection, request: SearchRequest) -> None:
    found = connection.desk.archive.search(request.pattern)
    pairs = [(listing.instrument, listing.facts) for listing in found]
    connection.reply(request, Reply([protocol.samples(request.req_id, pairs, connection.version)]))


def _read_cancel(fields: Fields, number: int) -> Request:
    if number == 25:
        fields.skip(1)
    return CancelRequest(fields.integer(), "bars" if number == 25 else "head")


def _cancel(connection: Connection, request: CancelRequest) -> None:
    known = request.req_id in connection.open
    answer = connection.open.pop(request.req_id, None)
    if answer:
        answer.cancel()
    refusals = {
        True: Refused(f"{SERVICE}API historical data query cancelled: {request.req_id}", 162),
        False: Refused(f"No historical data query found for ticker id:{request.req_id}", 366),
    }
    echo = connection.refusal(request.req_id, refusals[known]) if request.what == "bars" else Reply([])
    connection.reply(request, echo)


def _read_order(fields: Fields, number: int) -> Request:
    if number in (4, 21):
        fields.skip(1)
    return OrderRequest(-1 if number == 58 else fields.integer())


def _order(connection: Connection, request: OrderRequest) -> None:
    connection.desk.orders += 1
    connection.reply(request, connection.refusal(request.order_id, Refused(_READ_ONLY, 321)))


def _read_with_id(fields: Fields, number: int) -> Request:
    fields.skip(1)
    return PlainRequest(number, fields.integer())


def _read_account(fields: Fields, number: int) -> Request:
    fields.skip(1)
    return PlainRequest(number, int(fields.flag()), fields.text())


def _read_plain(fields: Fields, number: int) -> Request:
    return PlainRequest(number)


def _says(*fields: object) -> Callable[[Connection, PlainRequest], None]:
    """Return a handler that answers with one message, for an account without orders, positions or money."""

    def say(connection: Connection, request: PlainRequest) -> None:
        connection.reply(request, Reply([protocol.message(*fields)]))

    return say


def _ends(number: int) -> Callable[[Connection, PlainRequest], None]:
    """Return a handler that answers with the message that ends the answer to a request id."""

    def end(connection: Connection, request: PlainRequest) -> None:
        connection.reply(request, Reply([protocol.message(number, 1, request.req_id)]))

    return end


def _clock(connection: Connection, request: PlainRequest) -> None:
    now = int(connection.desk.clock().timestamp())
    connection.reply(request, Reply([protocol.message(49, 1, now)]))


def _account(connection: Connection, request: PlainRequest) -> None:
    subscribes = bool(request.req_id)
    connection.reply(request, Reply([protocol.message(54, 1, protocol.ACCOUNT)] if subscribes else []))


def _ignore(connection: Connection, request: PlainRequest) -> None:
    _log.info("message %d is ignored", request.number)
    connection.reply(request, Reply([]))


HANDLERS = {
    71: _Handler(_read_start, _start),
    20: _Handler(_read_bars, _bars),
    87: _Handler(_read_head, _head),
    9: _Handler(_read_details, _details),
    81: _Handler(_read_search, _search),
    25: _Handler(_read_cancel, _cancel),
    90: _Handler(_read_cancel, _cancel),
    3: _Handler(_read_order, _order),
    4: _Handler(_read_order, _order),
    21: _Handler(_read_order, _order),
    58: _Handler(_read_order, _order),
    5: _Handler(_read_plain, _says(53, 1)),
    6: _Handler(_read_account, _account),
    7: _Handler(_read_with_id, _ends(55)),
    8: _Handler(_read_plain, _says(9, 1, 1)),
    16: _Handler(_read_plain, _says(53, 1)),
    17: _Handler(_read_plain, _says(15, 1, protocol.ACCOUNT)),
    49: _Handler(_read_plain, _clock),
    61: _Handler(_read_plain, _says(62, 1)),
    62: _Handler(_read_with_id, _ends(64)),
    74: _Handler(_read_with_id, _ends(72)),
    76: _Handler(_read_with_id, _ends(74)),
    99: _Handler(_read_plain, _says(102)),
}
_UNKNOWN = _Handler(_read_plain, _ignore)
