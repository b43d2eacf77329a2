"""`Bridge`: an event loop on its own thread, to call coroutines from anywhere, also from a running loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Coroutine
from queue import SimpleQueue
from typing import Any, TypeVar

from backtest._system import wait_for
from backtest.errors import LinkLost

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Bridge:
    """A loop that runs from now until `close`."""

    def __init__(self) -> None:
        self._closing, self._closed = threading.Lock(), False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="backtest-ib", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """
        Run a coroutine on the loop and return what it returns.

        Raises:
            LinkLost: the bridge is closed, or was closed before the work was done.
        """
        with self._closing:
            if self._closed:
                work.close()
                raise LinkLost("the source is closed; open another one to go on")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        done: SimpleQueue[concurrent.futures.Future[T]] = SimpleQueue()
        try:
            future.add_done_callback(done.put)
            return wait_for(done).result()
        except concurrent.futures.CancelledError as error:
            raise LinkLost("the source was closed while a call was under way; run this again to go on") from error
        except BaseException:
            future.cancel()  # the caller was interrupted
            raise

    def tell(self, callback: Callable[[], object]) -> None:
        """Run a callback on the loop soon; not at all if the bridge is closed."""
        with self._closing:
            if not self._closed:
                self._loop.call_soon_threadsafe(callback)

    def close(self, last: Callable[[], object] = lambda: None) -> bool:
        """End the loop with a last callback, and whatever waits on it; return whether it was open."""
        with self._closing:
            if self._closed:
                return False
            self._closed = True
        asyncio.run_coroutine_threadsafe(_end(last), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        return True

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)  # eventkit, which ib_insync imports, asks for the thread's loop
        self._loop.set_exception_handler(_log_noise)
        self._loop.run_forever()


async def _end(last: Callable[[], object]) -> None:
    last()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for _ in range(3):
        await asyncio.sleep(0)  # most of them now end by themselves, and sockets are let go
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _log_noise(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # Garbage on the socket makes the library fail inside the loop's callbacks, which closes the socket.
    _log.warning("the gateway sent an unreadable message", extra={"reason": repr(context.get("exception"))})
