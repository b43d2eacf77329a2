"""
What the gateway does about each message: `HANDLERS`, one row a class of requests.

A new message is a class and a decoder in `protocol.py`, and a function and a row here; a connection reads, sends, and
plays the faults.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backtest.emulator import protocol
from backtest.emulator.protocol import (
    BarsRequest,
    CancelRequest,
    DetailsRequest,
    HeadRequest,
    OrderRequest,
    PlainRequest,
    Request,
    SearchRequest,
    StartApi,
)
from backtest.errors import LinkLost, Refused

if TYPE_CHECKING:
    from backtest.emulator.connection import Connection

SERVICE = "Historical Market Data Service error message:"

_FARMS = (2104, 2106, 2158)  # the notices that greet a client: every farm works
_READ_ONLY = "Error validating request.-'bW' : cause - The API interface is currently in Read-Only mode."
_NO_ZONE = (
    "Warning: You submitted request with date-time attributes without explicit time zone. Please switch to use "
    "yyyymmdd-hh:mm:ss in UTC or use instrument time zone, like US/Eastern. Implied time zone functionality will be "
    "removed in the next API release"
)
_log = logging.getLogger(__name__)

Served = BarsRequest | HeadRequest | DetailsRequest  # from the archive


@dataclass(frozen=True, slots=True)
class Reply:
    """What is sent for a request; `stays_open` where the request is under way until it is cancelled."""

    frames: list[bytes]
    code: int = 0
    bars: int = 0
    stays_open: bool = False


@dataclass(frozen=True, slots=True)
class _Handler:
    """How a class of requests is named in the log and in scripted faults, and what is done about one."""

    kind: str
    act: Callable[[Connection, Any], None]


def kind_of(request: Request) -> str:
    """Return how a request is named in the log and in scripted faults."""
    if isinstance(request, BarsRequest) and request.prices == "SCHEDULE":
        return "schedule"
    return HANDLERS[type(request)].kind


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


def _bars(connection: Connection, request: BarsRequest) -> None:
    find = _found_schedule if request.prices == "SCHEDULE" else _found_bars
    connection.serve(request, lambda: find(connection, request))


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
    rows = [(session.open, session.close, f"{session.day:%Y%m%d}") for session in plan.sessions]
    frame = protocol.schedule(request.req_id, plan.start, plan.end, plan.listing.facts.time_zone, rows)
    return Reply([frame], stays_open=request.keep_up_to_date)


def _head(connection: Connection, request: HeadRequest) -> None:
    connection.serve(request, lambda: _found_head(connection, request))


def _found_head(connection: Connection, request: HeadRequest) -> Reply:
    first = connection.desk.archive.head(request, connection.desk.clock())
    return Reply([protocol.head(request.req_id, first, request.format_date)], stays_open=True)


def _details(connection: Connection, request: DetailsRequest) -> None:
    connection.serve(request, lambda: _found_details(connection, request))


def _found_details(connection: Connection, request: DetailsRequest) -> Reply:
    archive, now = connection.desk.archive, connection.desk.clock()
    frames = [
        protocol.details(request.req_id, found.instrument, found.facts, archive.hours(found, now), connection.version)
        for found in archive.listings(request.contract, now)
    ]
    return Reply([*frames, protocol.message(52, 1, request.req_id)])


def _search(connection: Connection, request: SearchRequest) -> None:
    found = connection.desk.archive.search(request.pattern)
    pairs = [(listing.instrument, listing.facts) for listing in found]
    connection.reply(request, Reply([protocol.samples(request.req_id, pairs, connection.version)]))


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


def _order(connection: Connection, request: OrderRequest) -> None:
    connection.desk.orders += 1
    connection.reply(request, connection.refusal(request.order_id, Refused(_READ_ONLY, 321)))


def _plain(connection: Connection, request: PlainRequest) -> None:
    frame = protocol.plain_answer(request, connection.desk.clock())
    if frame is None:
        _log.info("message %d is ignored", request.number)
    connection.reply(request, Reply([frame] if frame else []))


HANDLERS: dict[type[Request], _Handler] = {
    StartApi: _Handler("start", _start),
    BarsRequest: _Handler("bars", _bars),
    HeadRequest: _Handler("head", _head),
    DetailsRequest: _Handler("details", _details),
    SearchRequest: _Handler("search", _search),
    CancelRequest: _Handler("cancel", _cancel),
    OrderRequest: _Handler("order", _order),
    PlainRequest: _Handler("plain", _plain),
}
