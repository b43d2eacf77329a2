"""
`GatewaySession`: one gateway over as many sockets as needed; decides when to send, wait and give up.

Everything here runs on one event loop. `tell` wakes everything that waits, which then checks its condition again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, ClassVar

from backtest.errors import LinkLost, NoConnection, Stopped, Unanswered
from backtest.market.ib_limits import MESSAGES_A_SECOND
from backtest.sources.base import Patience
from backtest.sources.ib.address import GatewayAddress, elsewhere, ip_addresses, why_no_connection
from backtest.sources.ib.contracts import client_library
from backtest.sources.ib.decoder import read_columns
from backtest.sources.ib.error_codes import meaning, refusal
from backtest.sources.ib.link import Link

_CLIENT_IDS = 8  # tried one after the other at the start
_MESSAGES = MESSAGES_A_SECOND - 10  # per second; after a stall a gateway counts the waiting messages as one burst
_SAME_ID = 2  # attempts with the same client id while it is in use: an old session lingers
_TIMES_ASKED = 3  # for its time, of a gateway whose connection breaks at once
_log = logging.getLogger(__name__)

_Send = Callable[[Any, int], object]  # with the library's client and the number of the request


class _Taken(NoConnection):
    """Another program has the client id."""


class _Unreadable(ConnectionError):
    """An answer during the handshake cannot be parsed."""


class _Socket:
    """One connection and its pending requests, until it breaks."""

    def __init__(self, heard: Callable[[int, str], object], broke: Callable[[], object]) -> None:
        self.ib = client_library().IB()
        self.ib.client.MaxRequests = _MESSAGES
        self.lost = _future()  # done when what is under way is lost
        self.refused: dict[int, asyncio.Future[tuple[int, str]]] = {}
        self.words: deque[str] = deque(maxlen=5)  # the last errors
        self._heard, self._broke = heard, broke
        self._turned_away = _future()
        self.ib.errorEvent += self._on_error
        self.ib.disconnectedEvent += self._on_disconnected
        self.ib.client.conn.disconnected += self._on_closed

    async def open(self, host: str, port: int, client_id: int, seconds: float) -> None:
        """Connect; raise OSError, TimeoutError or _Taken."""
        # Read-only: the library then does not even request orders.
        opening = _watched(
            asyncio.ensure_future(self.ib.connectAsync(host, port, client_id, timeout=seconds, readonly=True))
        )
        try:
            await asyncio.wait({opening, self._turned_away}, return_when=asyncio.FIRST_COMPLETED)
            if not opening.done():
                raise self._turned_away.result()
            try:
                await opening
            except (OSError, TimeoutError):
                raise
            except Exception as error:  # the library gives a request of the handshake whatever it could not parse
                raise _Unreadable(str(error)) from error
            read_columns(self.ib)
        finally:
            opening.cancel()
            await asyncio.wait({opening})

    @property
    def accepted(self) -> bool:
        """Whether the connection was accepted: then the client begins to speak, or finds it closed again."""
        return bool(self.ib.client.conn.numBytesSent) or self._turned_away.done()

    def lose(self) -> None:
        """End pending requests, and start again."""
        lost, self.lost = self.lost, _future()
        lost.set_result(None)

    def hang_up(self) -> None:
        """Close the connection."""
        with contextlib.suppress(ConnectionError):  # it was not ready yet
            self.ib.disconnect()
        self.ib.client.disconnect()

    def _on_error(self, request: int, code: int, text: str, _: Any) -> None:
        text = self._without_accounts(text)
        _log.info("gateway says", extra={"request": request, "code": code, "text": text})
        if code == 326 and not self._turned_away.done():
            self._turned_away.set_result(_Taken(text))
        refused = self.refused.get(request)
        if meaning(code, text) is not None:
            self.words.append(f"error {code}: {text}")
            if refused and not refused.done():
                refused.set_result((code, text))
        self._heard(code, text)

    def _on_closed(self, _: str) -> None:
        # Before the handshake is over, the library itself waits on until its timeout.
        if not self._turned_away.done():
            self._turned_away.set_result(ConnectionError("hung up"))

    def _on_disconnected(self) -> None:
        self.lose()
        self._broke()

    def _without_accounts(self, text: str) -> str:
        for account in self.ib.client.getAccounts() if self.ib.client.isReady() else ():
            text = text.replace(account, "(account)")
        return text


class GatewaySession:
    """
    A gateway connection that reconnects whenever it breaks.

    Args:
        client_id: the first one to try; if it is in use, the next ones are tried.
    """

    _ended: ClassVar[dict[str, float]] = {}  # when this process last left a gateway

    def __init__(self, address: GatewayAddress, client_id: int, patience: Patience) -> None:
        self.patience = patience
        self.link = Link(patience.belief)
        self._address, self._client_id = address, client_id
        self._loop = asyncio.get_running_loop()
        self._socket: _Socket | None = None
        self._news = _future()
        self._reconnecting: asyncio.Future[None] | None = None
        self._asking_time = asyncio.Lock()
        self._reasons: list[str] = []  # why calls wait
        self._stopped = self._closed = False
        self.identity = ""  # of the gateway and its login, to tell them from others at the same address

    @property
    def waiting_for(self) -> str:
        """Why a call waits without a pending request, or with an overdue answer, "" if neither is the case."""
        return next((why for why in reversed(self._reasons.copy()) if why), "")

    @property
    def server_version(self) -> int:
        """The version of the protocol that the gateway speaks, 0 without a connection."""
        return self._socket.ib.client.serverVersion() if self._socket else 0

    @property
    def login(self) -> str:
        """A text that distinguishes logins without naming an account; "" if it is not known yet."""
        client = self._socket.ib.client if self._socket else None
        accounts = sorted(client.getAccounts()) if client and client.isReady() else []
        return hashlib.sha256(" ".join(accounts).encode()).hexdigest()[:16] if accounts else ""

    async def connect(self) -> None:
        """
        Connect for the first time.

        Raises:
            NoConnection: nothing is listening, the handshake failed, or all tried client ids are in use.
        """
        # The gateway counts the messages per second over all connections, including the last one's.
        await asyncio.sleep(max(0.0, self._ended.get(self._where, 0.0) + 1 - time.monotonic()))
        first = self._client_id
        while True:
            try:
                await self._open()
                return
            except _Taken as error:
                if self._client_id == first + _CLIENT_IDS - 1:
                    raise NoConnection(
                        f"the client ids {first} to {self._client_id} are all in use at {self._where} ({error}); "
                        f"close other programs, or name one: ib://{self._where}?client_id=50"
                    ) from error
                self._next_id()

    async def ready(self, kind: str = "history") -> None:
        """
        Return when a request of a kind may be sent: reconnect if necessary, and wait while a link or farm is down.

        Raises:
            NoConnection: the outage lasted longer than the patience.
            Stopped: `stop` was called.
        """
        began = self.time()
        while why := await self._why_not(kind):
            left = began + self.patience.outage - self.time()
            if left <= 0:
                raise self._out_of_patience(why)
            _log.info("waiting for the gateway", extra={"reason": why})
            await self.news(left, why)

    async def ask(
        self,
        send: _Send,
        what: str,
        seconds: float,
        *,
        kind: str = "history",
        cancel: _Send | None = None,
        cancel_answered: bool = False,
    ) -> Any:
        """
        Send a request, once `ready` has returned, and return its answer.

        Args:
            send: sends it.
            what: names the request in an error's text.
            seconds: the time limit for an answer, without outages.
            cancel: sends the cancellation if no answer came, or always with `cancel_answered`.

        Raises:
            Refused: the gateway answered with an error code.
            LinkLost: the request was lost.
            Unanswered: the time is up.
            NoConnection: an outage lasted longer than the patience.
        """
        socket = self._living()
        client = socket.ib.client
        number = client.getReqId()
        answer, lost = _watched(socket.ib.wrapper.startReq(number)), socket.lost
        refused = socket.refused[number] = _future()
        cancel_needed = True
        try:
            send(client, number)
            await self._first({refused, answer, lost}, seconds, kind)
            cancel_needed = not refused.done() and (cancel_answered or not answer.done())
            return self._outcome(refused, answer, lost, kind, what)
        finally:
            del socket.refused[number]
            if cancel and cancel_needed and client.isReady():
                cancel(client, number)

    async def time_there(self) -> datetime:
        """
        Return the gateway's time, UTC; disconnect from a gateway that does not give it.

        Raises:
            Unanswered: it did not answer.
            LinkLost: the connection broke.
        """
        for _ in range(_TIMES_ASKED - 1):
            await self._connected()
            with contextlib.suppress(LinkLost):  # as of a gateway that restarts: connect again
                return await self._asked_time()
        await self._connected()
        return await self._asked_time()

    async def deaf(self) -> bool:
        """Return whether the connection is permanently dead: the next request opens a new one."""
        try:
            await self._asked_time()
        except (Unanswered, LinkLost):
            return True
        return False

    async def news(self, seconds: float, why: str) -> None:
        """Return when something changed, or after the timeout; raise Stopped when asked to stop."""
        self._check_stopped()
        await self._any({self._news}, max(0.0, seconds), why)
        self._check_stopped()

    @contextlib.contextmanager
    def saying(self, why: str, seconds: float) -> Iterator[None]:
        """Report why something takes long, once it takes longer than the given seconds."""
        timer = self._loop.call_later(seconds, self._say, why)
        try:
            yield
        finally:
            timer.cancel()
            if why in self._reasons:
                self._reasons.remove(why)

    def _say(self, why: str) -> None:
        self._reasons.append(why)
        _log.warning("%s", why)

    async def pause(self, seconds: float, why: str) -> None:
        """Return after the given seconds; raise Stopped when asked to stop."""
        until = self.time() + seconds
        while (left := until - self.time()) > 0:
            await self.news(left, why)

    def tell(self) -> None:
        """Wake everyone who waits for news."""
        news, self._news = self._news, _future()
        news.set_result(None)

    def stop(self) -> None:
        """Let open requests finish, and send no more."""
        self._stopped = True
        self.tell()

    def close(self) -> None:
        """Disconnect; open requests are lost."""
        self._closed = True
        if self._reconnecting:
            self._reconnecting.cancel()
        if self._socket:
            self._socket.hang_up()
        self._ended[self._where] = time.monotonic()

    def disbelief(self) -> float:
        """Return for how many seconds "no such instrument" is not to be believed; 0 if it is."""
        return self.link.disbelief(self.time())

    def time(self) -> float:
        """Return the seconds of a monotonic clock."""
        return self._loop.time()

    async def _asked_time(self) -> datetime:
        async with self._asking_time:  # the library knows one such request at a time
            socket = self._living()
            answer, lost = _watched(socket.ib.wrapper.startReq("currentTime")), socket.lost
            socket.ib.client.reqCurrentTime()
            await asyncio.wait({answer, lost}, timeout=self.patience.connect, return_when=asyncio.FIRST_COMPLETED)
            if lost.done():
                raise link_lost()
            if not answer.done():
                socket.hang_up()
                raise Unanswered(f"the gateway did not report its time within {self.patience.connect:g} s; restart it")
            moment: datetime = answer.result().astimezone(UTC)
            return moment

    # --- waiting

    async def _why_not(self, kind: str) -> str:
        await self._connected()
        return self.link.why_not(kind)

    async def _first(self, awaited: set[asyncio.Future[Any]], seconds: float, kind: str) -> None:
        """Return when one of them is done or the time is up; the clock stops during an outage."""
        left = {False: seconds, True: self.patience.outage}
        while not any(one.done() for one in awaited):
            why, began = self.link.why_not(kind), self.time()
            if left[bool(why)] <= 0:
                return
            await self._any({*awaited, self._news}, left[bool(why)], why)
            left[bool(why)] -= self.time() - began

    async def _any(self, awaited: set[asyncio.Future[Any]], seconds: float, why: str) -> None:
        """Return when one of them is done, or after the given seconds; `why` is the reason for waiting."""
        self._reasons.append(why)
        try:
            await asyncio.wait(awaited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._reasons.remove(why)

    def _outcome(
        self,
        refused: asyncio.Future[tuple[int, str]],
        answer: asyncio.Future[Any],
        lost: asyncio.Future[None],
        kind: str,
        what: str,
    ) -> Any:
        if refused.done():
            raise refusal(*refused.result(), what)
        if answer.done() and not answer.exception():
            return answer.result()
        if lost.done() or isinstance(_failure(answer), ConnectionError):
            raise link_lost()
        if failure := _failure(answer):
            raise Unanswered(f"the answer to {what} cannot be read ({failure}); run this again") from failure
        if why := self.link.why_not(kind):
            raise self._out_of_patience(why)
        raise Unanswered(f"no response for {what}")

    def _check_stopped(self) -> None:
        if self._stopped:
            raise Stopped("stopped on request, before it was sent; stored bars are kept, run this again to resume")

    # --- connecting

    def _living(self) -> _Socket:
        if self._closed or not self._socket or not self._socket.ib.client.isReady():
            raise link_lost()
        return self._socket

    async def _connected(self) -> None:
        """Return when there is a connection; all callers wait for the same one."""
        self._check_stopped()
        while not self._closed and not (self._socket and self._socket.ib.client.isReady()):
            if self._reconnecting is None or self._reconnecting.done():
                self._reconnecting = _watched(asyncio.ensure_future(self._reconnect()))
            reconnecting = self._reconnecting
            await asyncio.wait({reconnecting, self._news}, return_when=asyncio.FIRST_COMPLETED)
            self._check_stopped()
            if reconnecting.done():
                reconnecting.result()

    async def _reconnect(self) -> None:
        began, backoff, taken = self.time(), self.patience.backoff, 0
        while True:
            try:
                await self._open()
                return
            except NoConnection as error:
                taken += isinstance(error, _Taken)
                if self.time() - began > self.patience.outage:
                    raise self._out_of_patience(str(error)) from error
                _log.info("cannot connect yet", extra={"reason": str(error)})
            if taken and taken % _SAME_ID == 0:
                self._next_id()
                taken = 0
            await self.pause(backoff * random.uniform(0.5, 1.0), "the gateway is out of reach")
            backoff = min(2 * backoff, self.patience.backoff_most)

    async def _open(self) -> None:
        began = self.time()
        self.link.connecting()
        self._socket = await self._first_socket()
        self.identity = _identity(self._socket.ib.client)
        self.link.connected(self.time())
        self.tell()
        version, seconds = self.server_version, round(self.time() - began, 3)
        words = {
            "port": self._address.port,
            "client_id": self._client_id,
            "server_version": version,
            "seconds": seconds,
        }
        _log.info("connected", extra=words)

    async def _first_socket(self) -> _Socket:
        """
        Return a connection to the first of the host's addresses at which a gateway answers.

        Raises:
            NoConnection: no address answers; the text is about one that accepted a connection, if any did.
        """
        failure: Exception | None = None
        why, accepted = "", False
        try:
            addresses = await ip_addresses(self._address, self.patience.connect)
        except (OSError, UnicodeError) as error:
            raise NoConnection(why_no_connection(self._address, error, self.patience.connect)) from error
        for host in addresses:
            socket = _Socket(self._on_heard, self._on_broke)
            try:
                await socket.open(host, self._address.port, self._client_id, self.patience.connect)
                return socket
            except (OSError, TimeoutError) as error:
                if failure is None or socket.accepted > accepted:
                    failure, accepted, why = error, socket.accepted, self._why_no_connection(error, socket)
        raise NoConnection(why) from failure

    def _next_id(self) -> None:
        self._client_id += 1
        _log.warning("the client id is in use; trying the next", extra={"client_id": self._client_id})

    def _on_heard(self, code: int, text: str) -> None:
        losses = self.link.losses
        if self.link.heard(code, text, self.time()):
            if self._socket and self.link.losses > losses:
                self._socket.lose()
            self.tell()

    def _on_broke(self) -> None:
        self.link.disconnected()
        self.tell()

    # --- words

    @property
    def _where(self) -> str:
        return str(self._address)

    def _why_no_connection(self, error: BaseException, socket: _Socket) -> str:
        if not socket.accepted:
            return why_no_connection(self._address, error, self.patience.connect)
        said = f" It said: {'; '.join(socket.words)}." if socket.words else ""
        late = f"did not finish the handshake within {self.patience.connect:g} s"
        how = late if isinstance(error, TimeoutError) else "closed the connection during the handshake"
        if isinstance(error, _Unreadable):
            how = f"sent an answer that cannot be read ({error})"
        return (
            f"{self._where} accepts connections but {how}.{said} Is it a TWS or IB Gateway, is a window waiting there "
            f"for a click, is client id {self._client_id} "
            f"in use (another is ib://{self._where}?client_id={self._client_id + 1})?"
            + ("" if self._address.loopback else f" If not, {elsewhere()}.")
        )

    def _out_of_patience(self, why: str) -> NoConnection:
        return NoConnection(
            f"{why}; this has lasted {self.patience.outage:g} s; check TWS or IB Gateway, then run this again: "
            "stored bars are kept"
        )


def _identity(client: Any) -> str:
    # Short enough that no account can be guessed from it.
    accounts = hashlib.sha256(" ".join(sorted(client.getAccounts())).encode()).hexdigest()[:6]
    return f"{client.serverVersion()} {accounts}"


def link_lost() -> LinkLost:
    """Return the error of a request that was lost with the connection."""
    return LinkLost("the connection to the gateway broke; stored bars are kept, run this again to resume")


def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


def _watched(future: asyncio.Future[Any]) -> asyncio.Future[Any]:
    """Return the future; its failure is not logged when nothing waits for it any longer."""
    future.add_done_callback(_failure)
    return future


def _failure(future: asyncio.Future[Any]) -> BaseException | None:
    return future.exception() if future.done() and not future.cancelled() else None
