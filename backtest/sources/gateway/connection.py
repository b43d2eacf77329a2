"""
A client's connection to the gateway, and what all connections share: what is asked, answered, refused and recorded.

A request to keep bars up to date is answered with its bars, stays open, and gets no updates. Where the real gateway
is undocumented: a message above the rate is dropped with error 100, the third one closes the connection; requests
that were refused count as requests; all limits hold for all connections together; an order is refused with error 321.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TextIO

from backtest.errors import BacktestError, LinkLost, NoConnection, Refused
from backtest.sources.gateway import wire
from backtest.sources.gateway.archive import Archive
from backtest.sources.gateway.faults import Fault, Faults, spoilt
from backtest.sources.gateway.limiter import Limiter
from backtest.sources.gateway.wire import (
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

_log = logging.getLogger(__name__)
_UNANSWERED = -1
_AFTER_NOTICE = 0.01  # seconds, so that an answer follows the notice that let it through
_KINDS: dict[type, str] = {
    StartApi: "start", BarsRequest: "bars", HeadRequest: "head", DetailsRequest: "details", SearchRequest: "search",
    CancelRequest: "cancel", OrderRequest: "order", PlainRequest: "plain",
}  # fmt: skip
_NOTICES = {
    1100: "Connectivity between IB and Trader Workstation has been lost.",
    1101: "Connectivity between IB and Trader Workstation has been restored - data lost.",
    1102: "Connectivity between IB and Trader Workstation has been restored - data maintained.",
    2103: "Market data farm connection is broken:usfarm",
    2104: "Market data farm connection is OK:usfarm",
    2105: "HMDS data farm connection is broken:ushmds",
    2106: "HMDS data farm connection is OK:ushmds",
    2158: "Sec-def data farm connection is OK:secdefnj",
}
_HMDS = "Historical Market Data Service error message:"
_PACING = f"{_HMDS}Historical data request pacing violation"
_READ_ONLY = "Error validating request.-'bW' : cause - The API interface is currently in Read-Only mode."
_NO_ZONE = (
    "Warning: You submitted request with date-time attributes without explicit time zone. Please switch to use "
    "yyyymmdd-hh:mm:ss in UTC or use instrument time zone, like US/Eastern. Implied time zone functionality will be "
    "removed in the next API release"
)


@dataclass(frozen=True, slots=True)
class Record:
    """A request as it came, and what became of it: code 0 and bars, the code of an error, or -1 for no answer."""

    at: datetime
    client_id: int
    kind: str  # bars, schedule, head, details, search, cancel, order, start, plain, dropped
    request: Request
    code: int = 0
    bars: int = 0
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Answer:
    frames: list[bytes]
    code: int = 0
    bars: int = 0


class Desk:
    """What all connections of a gateway share; used on the gateway's own thread only."""

    def __init__(
        self, archive: Archive, limiter: Limiter, faults: Faults, clock: Callable[[], datetime], log: TextIO | None
    ) -> None:
        self.archive, self.limiter, self.faults, self.clock = archive, limiter, faults, clock
        self.connections: set[Connection] = set()
        self.requests: list[Record] = []
        self.violations = 0
        self.orders = 0
        self._log = log
        self._refused_until = 0.0
        self._link: tuple[float, int] | None = None  # until when it is lost, and with which code it comes back

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a new connection until it ends."""
        connection = Connection(self, reader, writer)
        self.connections.add(connection)
        try:
            await connection.run(self.faults.of_connection())
        finally:
            self.connections.discard(connection)

    def record(self, record: Record) -> None:
        """Keep what became of a request, and log it."""
        self.requests.append(record)
        if self._log:
            line = asdict(record) | {"at": record.at.isoformat(), "request": _without_account(record.request)}
            print(json.dumps(line), file=self._log, flush=True)

    def broadcast(self, code: int) -> None:
        """Send a notice to every client."""
        for connection in self.connections:
            connection.error(-1, code, _NOTICES[code])

    def hang_up(self) -> None:
        """Break every connection."""
        for connection in self.connections:
            connection.abort()

    def refuse(self, seconds: float) -> None:
        """Break every connection and take none for a while."""
        self._refused_until = asyncio.get_running_loop().time() + seconds
        self.hang_up()

    @property
    def refusing(self) -> bool:
        """Whether new connections are closed at once."""
        return asyncio.get_running_loop().time() < self._refused_until

    def lose_link(self, seconds: float, code: int) -> None:
        """Lose the link to IB, said by 1100, and get it back after a while, said by the code."""
        loop = asyncio.get_running_loop()
        self._link = loop.time() + seconds, code
        self.broadcast(1100)
        loop.call_later(seconds, self.broadcast, code)

    def link(self) -> tuple[float, bool]:
        """Return for how many seconds the link stays lost, and whether requests survive it."""
        until, code = self._link or (0.0, 1102)
        seconds = until - asyncio.get_running_loop().time()
        return (seconds + _AFTER_NOTICE, code == 1102) if seconds > 0 else (0.0, True)


class Connection:
    """A client's connection: reads its requests, and writes what the gateway answers."""

    def __init__(self, desk: Desk, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._desk, self._reader, self._writer = desk, reader, writer
        self.client_id: int | None = None
        self.open: dict[int, asyncio.TimerHandle | None] = {}  # requests under way by id, with the answer to come
        self._version = 0
        self._excesses = 0
        self._greeting: list[Fault] = []

    async def run(self, faults: list[Fault]) -> None:
        """Serve the client until either side hangs up."""
        try:
            await self._open(faults)
            while True:
                self._handle(await wire.read_fields(self._reader))
                await self._writer.drain()
        except (NoConnection, LinkLost) as error:
            _log.warning("a client is disconnected: %s", error)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has hung up
        finally:
            for answer in self.open.values():
                if answer:
                    answer.cancel()
            self._writer.close()

    async def _open(self, faults: list[Fault]) -> None:
        for fault in faults:
            if fault.do == "refuse":
                self._desk.refuse(fault.seconds)
            elif fault.do == "delay":
                await asyncio.sleep(fault.seconds)
            elif fault.do == "silence":
                await self._reader.read(-1)
        if self._desk.refusing:
            raise NoConnection("the gateway takes no connections for a while")
        self._greeting = faults
        version = await wire.read_version(self._reader)
        self._writer.write(wire.handshake(version, self._desk.clock()))
        self._version = version

    def abort(self) -> None:
        """Break the connection."""
        self._writer.transport.abort()

    def error(self, req_id: int, code: int, text: str) -> None:
        """Send an error or a notice, once the handshake is over."""
        if self._version:
            self._send([wire.error(req_id, code, text, self._version, self._desk.clock())])

    def _send(self, frames: list[bytes]) -> None:
        if not self._writer.is_closing():
            self._writer.write(b"".join(frames))

    def _handle(self, fields: list[str]) -> None:
        if self._desk.limiter.too_many_messages():
            self._complain(fields)
            return
        try:
            request = wire.decode(fields, self._version)
        except Refused as error:
            self.error(-1, error.code, str(error))
            return
        if self.client_id is None and not isinstance(request, StartApi):
            _log.warning("message %s comes before the start of the client", fields[0])
            return
        self._act(request)

    def _complain(self, fields: list[str]) -> None:
        self._desk.violations += 1
        number = int(fields[0]) if fields[0].isdigit() else 0
        self._desk.record(Record(self._desk.clock(), self._client_number(), "dropped", PlainRequest(number), 100))
        self._excesses += 1
        self.error(-1, 100, f"Max rate of messages per second has been exceeded:max=50 rec=51 ({self._excesses})")
        if self._excesses == 3:
            raise LinkLost("it sent too many messages a second, three times")

    def _client_number(self) -> int:
        return -1 if self.client_id is None else self.client_id

    def _act(self, request: Request) -> None:
        match request:
            case StartApi():
                self._start(request)
            case BarsRequest() | HeadRequest() | DetailsRequest():
                self._serve(request)
            case SearchRequest():
                found = self._desk.archive.search(request.pattern)
                pairs = [(listing.instrument, listing.facts) for listing in found]
                self._reply(request, _Answer([wire.samples(request.req_id, pairs, self._version)]))
            case CancelRequest():
                self._cancel(request)
            case OrderRequest():
                self._desk.orders += 1
                self._reply(request, self._refusal(request.order_id, Refused(_READ_ONLY, 321)))
            case PlainRequest():
                self._plain(request)

    def _start(self, request: StartApi) -> None:
        others = {connection.client_id for connection in self._desk.connections - {self}}
        if request.client_id in others or any(fault.do == "taken" for fault in self._greeting):
            self._reply(request, self._refusal(-1, Refused(wire.TAKEN, 326)))
            raise LinkLost(f"client id {request.client_id} is in use")
        self.client_id = request.client_id
        self._reply(request, _Answer([wire.message(15, 1, wire.ACCOUNT), wire.message(9, 1, 1)]))
        for code in (2104, 2106, 2158):
            self.error(-1, code, _NOTICES[code])
        for fault in self._greeting:
            self._play(fault)

    def _plain(self, request: PlainRequest) -> None:
        frame = wire.plain_answer(request, self._desk.clock())
        if frame is None:
            _log.info("message %d is ignored", request.number)
        self._reply(request, _Answer([frame] if frame else []))

    def _cancel(self, request: CancelRequest) -> None:
        known = request.req_id in self.open
        answer = self.open.pop(request.req_id, None)
        if answer:
            answer.cancel()
        refusals = {
            True: Refused(f"{_HMDS}API historical data query cancelled: {request.req_id}", 162),
            False: Refused(f"No historical data query found for ticker id:{request.req_id}", 366),
        }
        echo = self._refusal(request.req_id, refusals[known]) if request.what == "bars" else _Answer([])
        self._reply(request, echo)

    # --- historical requests and contract details

    def _serve(self, request: BarsRequest | HeadRequest | DetailsRequest) -> None:
        kind = _kind(request)
        others = sum(len(connection.open) for connection in self._desk.connections)
        faults = self._desk.faults.of_request(kind, request.contract.symbol)
        if kind != "details":
            if request.req_id in self.open:
                cause = Refused("Error processing request.-'bX' : cause - Duplicate ticker id", 322)
                self._reply(request, self._refusal(request.req_id, cause))
                return
            self.open[request.req_id] = None
            if self._desk.limiter.too_many_open(others):
                self._desk.violations += 1
                self._reply(request, _Answer([], _UNANSWERED))
                return
        self._deliver(request, self._answer(request), faults)

    def _answer(self, request: BarsRequest | HeadRequest | DetailsRequest) -> _Answer:
        if not isinstance(request, DetailsRequest) and self._desk.limiter.violated(request):
            self._desk.violations += 1
            return self._refusal(request.req_id, Refused(_PACING, 162))
        try:
            return self._found(request)
        except Refused as error:
            return self._refusal(request.req_id, error)
        except BacktestError as error:  # a damaged store must not look like an empty market
            _log.error("request %s failed: %s", request.req_id, error)
            return self._refusal(request.req_id, Refused(f"{_HMDS}Query failed: {error}", 162))

    def _found(self, request: BarsRequest | HeadRequest | DetailsRequest) -> _Answer:
        archive, now = self._desk.archive, self._desk.clock()
        if isinstance(request, DetailsRequest):
            return self._contracts(request, now)
        if isinstance(request, HeadRequest):
            return _Answer([wire.head(request.req_id, archive.head(request, now), request.format_date)])
        if request.prices == "SCHEDULE":
            plan = archive.schedule(request, now)
            rows = [(session.open, session.close, f"{session.day:%Y%m%d}") for session in plan.sessions]
            return _Answer([wire.schedule(request.req_id, plan.start, plan.end, plan.listing.facts.time_zone, rows)])
        return self._bars(request, now)

    def _contracts(self, request: DetailsRequest, now: datetime) -> _Answer:
        archive = self._desk.archive
        frames = [
            wire.details(request.req_id, found.instrument, found.facts, archive.hours(found, now), self._version)
            for found in archive.listings(request.contract, now)
        ]
        return _Answer([*frames, wire.message(52, 1, request.req_id)])

    def _bars(self, request: BarsRequest, now: datetime) -> _Answer:
        found = self._desk.archive.bars(request, now)
        zone, version = found.listing.facts.time_zone, self._version
        times = wire.stamps(found.bars, found.size.daily, request.format_date, zone, version)
        start, end = (wire.moment(time, zone, version) for time in (found.start, found.end))
        warning = [wire.error(request.req_id, 2174, _NO_ZONE, version, now)] if found.zoneless else []
        answer = wire.bars_answer(request.req_id, times, found.bars, start, end, version)
        return _Answer(warning + answer, 0, len(found.bars))

    def _refusal(self, req_id: int, error: Refused) -> _Answer:
        return _Answer([wire.error(req_id, error.code, str(error), self._version, self._desk.clock())], error.code)

    # --- sending, and what goes wrong then

    def _deliver(
        self, request: BarsRequest | HeadRequest | DetailsRequest, answer: _Answer, faults: list[Fault]
    ) -> None:
        for fault in sorted(faults, key=lambda fault: fault.do == "drop"):  # which leaves half a message
            self._play(fault)
            if fault.do == "error":
                answer = self._refusal(request.req_id, Refused(fault.text, fault.code))
            elif fault.do == "drop":
                answer = _Answer([b"".join(answer.frames)[: fault.bytes]], answer.code, answer.bars)
            else:
                answer = _Answer(spoilt(fault, answer.frames, self._version), answer.code, answer.bars)
        played = tuple(fault.do for fault in faults)
        lost, survives = self._desk.link()
        if "silence" in played or not survives:
            self._reply(request, _Answer([], _UNANSWERED), played)
            return
        wait = max([lost, *(fault.seconds for fault in faults if fault.do == "delay")])
        if wait:
            later = asyncio.get_running_loop().call_later(wait, self._finish, request, answer, played)
            self.open[request.req_id] = later
        else:
            self._finish(request, answer, played)

    def _play(self, fault: Fault) -> None:
        """Do what a fault does to the gateway rather than to an answer."""
        if fault.do == "refuse":
            self._desk.refuse(fault.seconds)
        elif fault.do == "lost":
            self._desk.lose_link(fault.seconds, fault.code)
        elif fault.do == "notice":
            self._desk.broadcast(fault.code)

    def _finish(
        self, request: BarsRequest | HeadRequest | DetailsRequest, answer: _Answer, played: tuple[str, ...]
    ) -> None:
        self.open.pop(request.req_id, None)
        if not answer.code and _stays_open(request):
            self.open[request.req_id] = None
        self._reply(request, answer, played)
        if "drop" in played:
            self._writer.close()

    def _reply(self, request: Request, answer: _Answer, played: tuple[str, ...] = ()) -> None:
        record = Record(
            self._desk.clock(),
            request.client_id if isinstance(request, StartApi) else self._client_number(),
            _kind(request),
            request,
            answer.code,
            answer.bars,
            played,
        )
        self._desk.record(record)
        self._send(answer.frames)


def _without_account(request: Request) -> dict[str, Any]:
    """Return the fields of a request for the log; a client may ask for an account by its real number."""
    told = asdict(request)
    return told | {"text": "(account)"} if isinstance(request, PlainRequest) and request.text else told


def _kind(request: Request) -> str:
    return "schedule" if isinstance(request, BarsRequest) and request.prices == "SCHEDULE" else _KINDS[type(request)]


def _stays_open(request: Request) -> bool:
    return isinstance(request, HeadRequest) or (isinstance(request, BarsRequest) and request.keep_up_to_date)
