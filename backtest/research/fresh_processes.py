"""`fresh_processes`: run each piece of work in a process that has not run any of it before."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from backtest._processes import spawned
from backtest._system import COPIES, copied
from backtest.engine.code.parcels import Parcel
from backtest.errors import BacktestError, StrategyError, UsageError
from backtest.research.search.executors import Work

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@contextmanager
def fresh_processes(work: Work[_Item, _Result]) -> Iterator[Callable[[_Item], _Result]]:
    """
    Yield a function that does the work of one item in its own process.

    A server process is spawned that imports the libraries, but nothing of the work, and stays. A fork of it loads what
    the work needs, and its own forks do the items. So caches of modules, functions and classes are empty for each item.
    Without fork (on Windows) each process is spawned. Work that cannot be sent to another process, or imported there,
    is done in forks of this one.

    Raises (the function):
        BacktestError: the work raised it.
    """
    parcel = Parcel(work.content, work.modules)
    try:
        parcel.pack()
    except UsageError:
        if not COPIES:
            raise
        yield lambda item: _answer_of(_in_a_copy(work.function, work.content, item))
        return
    if not COPIES:
        yield lambda item: _spawned_for(work.function, parcel, item)
        return
    with _server() as server:
        ready = _answer_of(server.ask(_Surroundings(), (work.function, parcel)))

        def done(item: _Item) -> _Result:
            if not ready:
                return cast("_Result", _answer_of(_in_a_copy(work.function, work.content, item)))
            return cast("_Result", _answer_of(server.ask((item,))))

        yield done


_DIED = "a process that ran the strategy died; is there enough memory? backtest run shows how it ends"
_NO_MORE = ()


class _Server:
    """The process whose forks do the work, one item after the other."""

    def __init__(self) -> None:
        from multiprocessing import Pipe

        self.owner = os.getpid()
        self.lock = threading.Lock()
        self.waits = False  # for an answer
        self.connection, theirs = Pipe()
        self.process = spawned(_serve, (theirs,))
        theirs.close()

    @property
    def usable(self) -> bool:
        """Whether it belongs to this process, is alive, and has no pending answer."""
        return self.owner == os.getpid() and not self.waits and self.process.is_alive()

    def ask(self, *questions: Any) -> Any:
        """Send a message and return the answer; a StrategyError if a process died of it."""
        self.waits = True
        try:
            for question in questions:
                self.connection.send(question)
            answer = self.connection.recv()
        except (EOFError, OSError):
            return StrategyError(_DIED)
        self.waits = False
        return answer

    def end(self) -> None:
        """End the process."""
        self.connection.close()
        self.process.terminate()
        self.process.join()


_kept: list[_Server] = []


@contextmanager
def _server() -> Iterator[_Server]:
    """Yield a server for exclusive use: the permanent one, or an additional one."""
    server = _kept[0] if _kept else None
    if server is None or not server.usable or not server.lock.acquire(blocking=False):
        busy = server is not None and server.owner == os.getpid() and server.lock.locked()
        server = _Server()
        server.lock.acquire()
        if not busy:
            _kept[:] = [server]
    try:
        yield server
    finally:
        if server.usable:
            with contextlib.suppress(OSError):
                server.connection.send(_NO_MORE)
        if not (server.usable and server in _kept):
            server.end()
        server.lock.release()


class _Surroundings:
    """What a spawned process would inherit from this one at the moment."""

    def __init__(self) -> None:
        self.folder = str(Path.cwd())
        self.environment = dict(os.environ)  # noqa: TID251 - as any process that begins has it
        self.path, self.arguments = list(sys.path), list(sys.argv)

    def take(self) -> None:
        """Reserve it for this process."""
        os.chdir(self.folder)
        os.environ.clear()  # noqa: TID251
        os.environ.update(self.environment)  # noqa: TID251
        sys.path[:], sys.argv[:] = self.path, self.arguments
        if sys.platform != "win32":
            time.tzset()


def _serve(connection: Any) -> None:
    """Give each incoming work to a fork of this process, until the connection ends."""
    _load_libraries()
    with contextlib.suppress(OSError):
        while (said := _said_by_a_copy(connection)) != _CLOSED:
            if said != _DONE:
                connection.send(StrategyError(_DIED))


_DONE, _CLOSED = b"d", b"c"


def _said_by_a_copy(connection: Any) -> bytes:
    """Let a fork of this process do the incoming work; return whether it finished, so that more may come."""
    if sys.platform == "win32":
        raise OSError("Windows copies no process")
    connection.poll(None)  # what came is for the copy to read
    reading, writing = os.pipe()
    os.set_blocking(reading, False)  # what the strategy left running may hold the other end
    child = copied()
    if not child:
        try:
            _serve_one(connection)
            os.write(writing, _DONE)
        except EOFError:
            os.write(writing, _CLOSED)
        finally:
            os._exit(0)  # the copy must not run what this process would run at its end
    os.close(writing)
    os.waitpid(child, 0)
    try:
        return os.read(reading, 1)
    except BlockingIOError:
        return b""
    finally:
        os.close(reading)


def _load_libraries() -> None:
    """Import what any run needs, our own modules among it, once for all copies."""
    for name in ("pandas", "pyarrow.dataset", "pyarrow.parquet", "concurrent.futures.thread", "backtest.api"):
        importlib.import_module(name)
    gc.freeze()  # a copy that collects garbage would copy all that it shares with this process


def _serve_one(connection: Any) -> None:
    """Load a work, then do each incoming item in a fork of this process, until there are no more."""
    surroundings = connection.recv()
    if surroundings == _NO_MORE:
        return  # of a work that could not be loaded
    try:
        surroundings.take()
        function, parcel = connection.recv()
        content = parcel.content
    except (UsageError, ImportError, AttributeError):  # a module that cannot be imported here
        connection.send(False)
        return
    connection.send(True)
    while (asked := connection.recv()) != _NO_MORE:
        connection.send(_in_a_copy(function, content, asked[0]))


def _in_a_copy(function: Callable[..., Any], content: Any, item: Any) -> Any:
    """Return the answer of a fork of this process."""
    from multiprocessing import Pipe

    reading, writing = Pipe(duplex=False)
    child = copied()
    if not child:
        try:
            reading.close()
            writing.send(_answer(function, content, item))
        finally:
            os._exit(0)  # the copy must not run what this process would run at its end
    writing.close()
    try:
        return reading.recv()
    except EOFError:
        return StrategyError(_DIED)
    finally:
        os.waitpid(child, 0)


def _spawned_for(function: Callable[..., Any], parcel: Parcel, item: Any) -> Any:
    from multiprocessing import Pipe

    ours, theirs = Pipe()
    process = spawned(_answer_into, (function, parcel, item, theirs))
    theirs.close()
    try:
        return _answer_of(ours.recv())
    except EOFError as error:
        raise StrategyError(_DIED) from error
    finally:
        process.join()


def _answer_into(function: Callable[..., Any], parcel: Parcel, item: Any, connection: Any) -> None:
    connection.send(_answer(function, parcel.content, item))


def _answer(function: Callable[..., Any], content: Any, item: Any) -> Any:
    try:
        (found,) = function(content, [item])
    except BacktestError as error:
        error.__cause__ = None  # which may be of a class that no other process has
        return error
    return found


def _answer_of(found: Any) -> Any:
    if isinstance(found, BacktestError):
        raise found
    return found
