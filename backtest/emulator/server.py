"""
The gateway's end of the socket: an emulator of TWS that answers any TWS client from a store.

It listens only on 127.0.0.1, enforces IB's pacing, and never places an order.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Collection, Mapping
from datetime import date
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from backtest._clock import Clock, utc_now
from backtest.emulator.archive import Archive
from backtest.emulator.connection import Desk, Record, is_shortage
from backtest.emulator.faults import Faults
from backtest.emulator.handlers import handle
from backtest.emulator.limiter import Limiter
from backtest.errors import UsageError

if TYPE_CHECKING:
    from backtest.market.series import Instrument
    from backtest.store.reader import Reader


class Gateway:
    """
    A gateway on 127.0.0.1 that answers from a store; it runs between `start` and `stop`, or in a `with`.

    Args:
        port: the port to listen on; 0 for any free one.
        pacing: "strict" keeps IB's limits, "off" has none.
        time_scale: how much faster than the clock the windows of the limits pass.
        faults: the faults to simulate, and when.
        clock: the gateway's clock; later bars are not served.
        log: where to write one line of JSON per request.
        shut: days that the schedule omits although the calendars have them.
        dividends: amounts by ex-date, of instruments whose ADJUSTED_LAST is computed from TRADES if it is not stored.
    """

    def __init__(
        self,
        store: Reader,
        *,
        port: int = 0,
        pacing: str = "strict",
        time_scale: float = 1.0,
        faults: Faults | None = None,
        clock: Clock = utc_now,
        log: TextIO | None = None,
        shut: Collection[date] = (),
        dividends: Mapping[Instrument, Mapping[date, float]] | None = None,
    ) -> None:
        if pacing not in ("strict", "off"):
            raise UsageError(f"unknown pacing {pacing!r}; choose strict or off")
        if not time_scale > 0:
            raise UsageError(f"invalid time scale {time_scale}; write a positive number")
        self.port = port
        limiter = Limiter(time_scale, pacing == "strict")
        self._desk = Desk(Archive(store, shut, dividends), limiter, faults or Faults(), clock, log, handle)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._clients: dict[asyncio.Future[None], asyncio.StreamWriter] = {}

    def __enter__(self) -> Gateway:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """The address by which `connect` finds the gateway."""
        return f"ib://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[Record]:
        """The requests so far, of all clients, with the outcome of each."""
        return self._desk.requests

    @property
    def open_requests(self) -> int:
        """Return how many historical requests are unanswered now."""
        return sum(len(connection.open) for connection in tuple(self._desk.connections))

    @property
    def most_open(self) -> int:
        """Return the largest number of historical requests that were open at once."""
        return self._desk.most_open

    @property
    def violations(self) -> int:
        """How many messages and requests exceeded a limit."""
        return self._desk.violations

    @property
    def orders(self) -> int:
        """How many messages would have moved an order."""
        return self._desk.orders

    def start(self) -> None:
        """
        Listen, and answer on a separate thread from now on.

        Raises:
            UsageError: the port is in use, or the gateway is already running.
        """
        if self._thread:
            raise UsageError(f"the gateway is already running on port {self.port}")
        listener = _listener(self.port)
        self.port = listener.getsockname()[1]
        ready = threading.Event()
        serving = self._serve(listener, ready)
        # A daemon thread, so that a notebook that leaves it running can end.
        self._thread = threading.Thread(target=asyncio.run, args=[serving], name="gateway", daemon=True)
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        """Close every connection and stop listening; on return the thread is gone."""
        if self._thread and self._loop and self._stopping:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
        self._thread = self._loop = None

    async def _serve(self, listener: socket.socket, ready: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(self._failed)
        server = await asyncio.start_server(self._accept, sock=listener)
        ready.set()
        await self._stopping.wait()
        with contextlib.suppress(NotImplementedError):  # as of Windows' loop, which cancels what it is accepting
            self._loop.remove_reader(listener)  # asyncio leaks what it is accepting while a server closes,
        await asyncio.sleep(0.01)  # so this ends before
        server.close()
        while self._clients:
            for client, writer in self._clients.items():
                client.cancel()  # it may be waiting for a delay to pass
                writer.transport.abort()
            await asyncio.sleep(0)
        await server.wait_closed()

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Report errors that asyncio would log: without file handles, that is a traceback per client and attempt."""
        error = context.get("exception")
        if isinstance(error, OSError) and is_shortage(error):
            self._desk.tell_shortage(error)  # asyncio tries to accept again after a second
        elif not (self._stopping and self._stopping.is_set()):
            loop.default_exception_handler(context)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.ensure_future(self._desk.accept(reader, writer))
        self._clients[client] = writer
        await asyncio.wait([client])  # unlike `await client` not cancelled with it, which asyncio would log
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        del self._clients[client]


def _listener(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"the emulator cannot listen on 127.0.0.1:{port} ({error}); name another port, or 0"
        ) from error
