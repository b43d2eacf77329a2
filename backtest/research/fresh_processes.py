"""`fresh_processes`: work that is done anew each time, in a process in which nothing of it was ever done before."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from backtest._system import COPIES, copied
from backtest.engine.code.parcels import Parcel
from backtest.errors import BacktestError, StrategyError, UsageError
from backtest.research.search.executors import Work, spawned

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@contextmanager
def fresh_processes(work: Work[_Item, _Result]) -> Iterator[Callable[[_Item], _Result]]:
    """
    Yield a function that does the work of one item in a process of its own.

    One process is spawned, which loads what the work needs and does none of it: its copies do. So caches in modules, of
    functions and of classes begin empty each time. Where a process has no copies (on Windows) each is spawned. What
    cannot be sent to another process, or not be imported there, is done in copies of this one.

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
    with _server(work.function, parcel) as (connection, ready):

        def done(item: _Item) -> _Result:
            if not ready:
                return cast("_Result", _answer_of(_in_a_copy(work.function, work.content, item)))
            connection.send(item)
            try:
                found: _Result = _answer_of(connection.recv())
            except EOFError as error:
                raise StrategyError(_DIED) from error
            return found

        yield done


_DIED = "a process that ran the strategy died; is there memory enough? backtest run shows how it ends"


@contextmanager
def _server(function: Callable[..., Any], parcel: Parcel) -> Iterator[tuple[Any, bool]]:
    """Yield the way to a process that does the work, and whether it could load what that needs."""
    from multiprocessing import Pipe

    ours, theirs = Pipe()
    process = spawned(_serve, (theirs,))
    theirs.close()
    try:
        ours.send((function, parcel))
        yield ours, ours.recv()
    finally:
        ours.close()  # upon which it ends
        process.join()


def _serve(connection: Any) -> None:
    """Do each item that comes in a copy of this process, until none can come any more."""
    with contextlib.suppress(EOFError, OSError):
        try:
            function, parcel = connection.recv()
        except (
            UsageError,
            ImportError,
            AttributeError,
        ):  # a module that is loaded where it comes from, and cannot be imported here
            connection.send(False)
            return
        connection.send(True)
        while True:
            connection.send(_in_a_copy(function, parcel.content, connection.recv()))


def _in_a_copy(function: Callable[..., Any], content: Any, item: Any) -> Any:
    """Return the answer of a copy of this process."""
    from multiprocessing import Pipe

    reading, writing = Pipe(duplex=False)
    child = copied()
    if not child:
        try:
            reading.close()
            writing.send(_answer(function, content, item))
        finally:
            os._exit(0)  # nothing of what this process would do at its end is the copy's to do
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
