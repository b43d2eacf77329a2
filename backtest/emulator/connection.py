"""
A client's connection to the gateway, and what all connections share: requests, answers, refusals and records.

A request to keep bars up to date is answered with its bars, stays open, and gets no updates. Where the real gateway is
undocumented, this one does as follows: a message above the rate is dropped with error 100, and the third one closes the
connection; refused requests count as requests; all limits apply to all connections together; an order is refused with
error 321.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TextIO

from backtest.emulator import protocol
from backtest.emulator.archive import Archive
from backtest.emulator.faults import Fault, Faults, spoilt
from backtest.emulator.limiter import Limiter
from backtest.emulator.protocol import BarsRequest, DetailsRequest, HeadRequest, PlainRequest, Request, StartApi
from backtest.errors import BacktestError, LinkLost, NoConnection, Refused

SERVICE = "Historical Market Data Service error message:"

_log = logging.getLogger(__name__)
_UNANSWERED = -1
_ENDINGS = ("lost", "refuse")  # follow an error in a script: they happen after it is sent
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_BETWEEN_LINES = timedelta(minutes=1)
_AFTER_NOTICE = 0.01  # seconds, so that an answer comes after the notice that releases it
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
_PACING = f"{SERVICE}Historical data request pacing violation"


Served = BarsRequest | HeadRequest | DetailsRequest  # from the archive


@dataclass(frozen=True, slots=True)
class Reply:
    """The messages sent for a request; `stays_open` if it lasts until it is cancelled."""

    frames: list[bytes]
    code: int = 0
    bars: int = 0
    stays_open: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """A request and its outcome: code 0 and bars, the code of an error, or -1 for no answer."""

    at: datetime
    client_id: int
    kind: str  # that of the request, or dropped
    request: Request
    code: int = 0
    bars: int = 0
    faults: tuple[str, ...] = ()


class Desk:
    """
    The state that all connections of a gateway share; used on the gateway's own thread only.

    Args:
        handle: handles a message, given its fields.
    """

    def __init__(
        self,
        archive: Archive,
        limiter: Limiter,
        faults: Faults,
        clock: Callable[[], datetime],
        log: TextIO | None,
        handle: Callable[[Connection, list[str]], None],
    ) -> None:
        self.handle = handle
        self.archive, self.limiter, self.faults, self.clock = archive, limiter, faults, clock
        self.connections: set[Connection] = set()
        self.requests: list[Record] = []
        self.violations = self.most_open = 0
        self.orders = 0
        self._log = log
        self._told: datetime | None = None  # when it was last logged that the limit leaves nothing for another client
        self._refused_until = 0.0
        self._link: tuple[float, int] | None = None  # until when it is lost, and the code of its return; None while up

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a new connection until it ends."""
        connection = Connection(self, reader, writer)
        self.connections.add(connection)
        try:
            await connection.run(self.faults.of_connection())
        finally:
            self.connections.discard(connection)

    def record(self, record: Record) -> None:
        """Record the outcome of a request, and log it."""
        self.requests.append(record)
        if self._log:
            line = asdict(record) | {"at": record.at.isoformat(), "request": _without_account(record.request)}
            print(json.dumps(line), file=self._log, flush=True)

    def tell_shortage(self, error: OSError) -> None:
        """Log once a minute that the system has no resources for another client or file."""
        now = self.clock()
        if self._told is not None and timedelta(0) <= now - self._told < _BETWEEN_LINES:
            return
        self._told = now
        _log.warning(
            "no file handle is left for more clients (%s): %d connections are open, and others wait until some have "
            "ended; raise the limit of open files, for example: ulimit -n 4096",
            error.strerror or error,
            len(self.connections),
        )

    def broadcast(self, code: int) -> None:
        """Send a notice to every client."""
        for connection in self.connections:
            connection.notice(code)

    def hang_up(self) -> None:
        """Break every connection."""
        for connection in self.connections:
            connection.abort()

    def refuse(self, seconds: float) -> None:
        """Break every connection and accept none for a while."""
        self._refused_until = asyncio.get_running_loop().time() + seconds
        self.hang_up()

    @property
    def refusing(self) -> bool:
        """Whether the gateway closes new connections at once."""
        return asyncio.get_running_loop().time() < self._refused_until

    def lose_link(self, seconds: float, code: int) -> None:
        """Lose the link to IB, with code 1100, and restore it after a while, with the given code."""
        loop = asyncio.get_running_loop()
        self._link = lost = loop.time() + seconds, code
        self.broadcast(1100)
        loop.call_later(seconds, self._restore_link, lost)

    def _restore_link(self, lost: tuple[float, int]) -> None:
        if self._link is lost:  # otherwise it was lost once more meanwhile
            self._link = None
        self.broadcast(lost[1])

    def link(self) -> tuple[float, bool]:
        """Return for how many seconds the link stays lost, and whether requests survive it."""
        if not self._link:
            return 0.0, True
        until, code = self._link  # on a busy machine this may have passed before the notice is sent
        return max(until - asyncio.get_running_loop().time(), 0.0) + _AFTER_NOTICE, code == 1102


def is_shortage(error: BaseException | None) -> bool:
    """Return whether the system lacks file handles or memory for the moment."""
    return isinstance(error, OSError) and error.errno in _SHORTAGES


class Connection:
    """A client's connection: reads its requests, and writes what the gateway answers."""

    def __init__(self, desk: Desk, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.desk, self._reader, self._writer = desk, reader, writer
        self.client_id: int | None = None
        self.open: dict[int, asyncio.TimerHandle | None] = {}  # requests under way by id, with the answer to come
        self.greeting: list[Fault] = []
        self.version = 0
        self._excesses = 0

    async def run(self, faults: list[Fault]) -> None:
        """Serve the client until either side hangs up."""
        try:
            await self._open(faults)
            while True:
                self._handle(await protocol.read_fields(self._reader))
                await self._writer.drain()
        except (NoConnection, LinkLost) as error:
            _log.warning("disconnecting a client: %s", error)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has hung up
        except OSError as error:  # of the store's files; a client that is disconnected asks again
            if not is_shortage(error):
                raise
            self.desk.tell_shortage(error)
        finally:
            for answer in self.open.values():
                if answer:
                    answer.cancel()
            self._writer.close()

    async def _open(self, faults: list[Fault]) -> None:
        for fault in faults:
            if fault.do == "refuse":
                self.desk.refuse(fault.seconds)
            elif fault.do == "delay":
                await asyncio.sleep(fault.seconds)
            elif fault.do == "silence":
                await self._reader.read(-1)
        if self.desk.refusing:
            raise NoConnection("the gateway takes no connections for a while")
        self.greeting = faults
        version = await protocol.read_version(self._reader)
        self._writer.write(protocol.handshake(version, self.desk.clock()))
        self.version = version

    def abort(self) -> None:
        """Break the connection."""
        self._writer.transport.abort()

    def error(self, req_id: int, code: int, text: str) -> None:
        """Send an error or a notice, once the handshake is over."""
        if self.version:
            self._send([protocol.error(req_id, code, text, self.version, self.desk.clock())])

    def _send(self, frames: list[bytes]) -> None:
        if not self._writer.is_closing():
            self._writer.write(b"".join(frames))

    def _handle(self, fields: list[str]) -> None:
        if self.desk.limiter.too_many_messages():
            self._complain(fields)
            return
        self.desk.handle(self, fields)

    def _complain(self, fields: list[str]) -> None:
        self.desk.violations += 1
        number = int(fields[0]) if fields[0].isdigit() else 0
        self.desk.record(Record(self.desk.clock(), self._client_number(), "dropped", PlainRequest(number), 100))
        self._excesses += 1
        self.error(-1, 100, f"Max rate of messages per second has been exceeded:max=50 rec=51 ({self._excesses})")
        if self._excesses == 3:
            raise LinkLost("it exceeded the limit of messages per second three times")

    def _client_number(self) -> int:
        return -1 if self.client_id is None else self.client_id

    def notice(self, code: int) -> None:
        """Send a notice about the gateway's links."""
        self.error(-1, code, _NOTICES[code])

    def refusal(self, req_id: int, error: Refused) -> Reply:
        """Return the answer that refuses a request."""
        return Reply([protocol.error(req_id, error.code, str(error), self.version, self.desk.clock())], error.code)

    def reply(self, request: Request, answer: Reply, played: tuple[str, ...] = ()) -> None:
        """Send an answer and record the request; `played` are the faults that it met."""
        record = Record(
            self.desk.clock(),
            request.client_id if isinstance(request, StartApi) else self._client_number(),
            request.kind,
            request,
            answer.code,
            answer.bars,
            played,
        )
        self.desk.record(record)
        self._send(answer.frames)

    # --- historical requests and contract details

    def serve(self, request: Served, find: Callable[[Connection, Any], Reply]) -> None:
        """Answer a request from the archive, with its faults and, but for contract details, within the limits."""
        others = sum(len(connection.open) for connection in self.desk.connections)
        duration = request.duration if isinstance(request, BarsRequest) else ""
        faults = self.desk.faults.of_request(request.kind, request.contract.symbol, duration)
        if isinstance(request, BarsRequest) and any(fault.do == "clip" for fault in faults):
            request = replace(request, cut=True)
        if not isinstance(request, DetailsRequest):
            if request.req_id in self.open:
                cause = Refused("Error processing request.-'bX' : cause - Duplicate ticker id", 322)
                self.reply(request, self.refusal(request.req_id, cause))
                return
            self.open[request.req_id] = None
            self.desk.most_open = max(self.desk.most_open, others + 1)
            if self.desk.limiter.too_many_open(others):
                self.desk.violations += 1
                self.reply(request, Reply([], _UNANSWERED))
                return
        self._deliver(request, self._answer(request, find), faults)

    def _answer(self, request: Served, find: Callable[[Connection, Any], Reply]) -> Reply:
        if not isinstance(request, DetailsRequest) and self.desk.limiter.violated(request):
            self.desk.violations += 1
            return self.refusal(request.req_id, Refused(_PACING, 162))
        try:
            return find(self, request)
        except Refused as error:
            return self.refusal(request.req_id, error)
        except BacktestError as error:  # a damaged store must not look like an empty market, or like one that is closed
            _log.error("request %s failed: %s", request.req_id, error)
            return self.refusal(request.req_id, Refused(f"Server error when reading the store: {error}", 320))

    # --- sending, and what goes wrong then

    def _deliver(self, request: Served, answer: Reply, faults: list[Fault]) -> None:
        for fault in sorted(faults, key=lambda fault: fault.do == "drop"):  # which leaves half a message
            if fault.do in _ENDINGS and "error" in (earlier.do for earlier in faults[: faults.index(fault)]):
                self._finish(request, answer, tuple(fault.do for fault in faults))
                self.play(fault)
                return
            self.play(fault)
            if fault.do == "error":
                answer = self.refusal(request.req_id, Refused(fault.text, fault.code))
            elif fault.do == "drop":
                answer = replace(answer, frames=[b"".join(answer.frames)[: fault.bytes]])
            else:
                answer = replace(answer, frames=spoilt(fault, answer.frames, self.version))
        played = tuple(fault.do for fault in faults)
        lost, survives = self.desk.link()
        gone = any(fault.do == "lost" and fault.code == 1101 for fault in faults)
        if "silence" in played or gone or not survives:
            self.reply(request, Reply([], _UNANSWERED), played)
            return
        wait = max([lost, *(fault.seconds for fault in faults if fault.do == "delay")])
        if wait:
            later = asyncio.get_running_loop().call_later(wait, self._finish, request, answer, played)
            self.open[request.req_id] = later
        else:
            self._finish(request, answer, played)

    def play(self, fault: Fault) -> None:
        """Apply a fault that concerns the gateway, not an answer."""
        if fault.do == "refuse":
            self.desk.refuse(fault.seconds)
        elif fault.do == "lost":
            self.desk.lose_link(fault.seconds, fault.code)
        elif fault.do == "notice":
            self.desk.broadcast(fault.code)

    def _finish(self, request: Served, answer: Reply, played: tuple[str, ...]) -> None:
        self.open.pop(request.req_id, None)
        if not answer.code and answer.stays_open:
            self.open[request.req_id] = None
        self.reply(request, answer, played)
        if "drop" in played:
            self._writer.close()


def _without_account(request: Request) -> dict[str, Any]:
    """Return the fields of a request for the log; a client may ask for an account by its real number."""
    told = asdict(request)
    return told | {"text": "(account)"} if isinstance(request, PlainRequest) and request.text else told
