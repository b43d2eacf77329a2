"""
Work on any `concurrent.futures.Executor`: in this process, in a pool of processes, on a Dask cluster.

A worker receives a function of this package, a parcel with what all items have in common, and some items. It opens the
store by its address and reads each series once. Equal items give equal results wherever they run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from backtest._processes import process_pool
from backtest._system import wait_for
from backtest.engine.code.parcels import Parcel
from backtest.errors import NoConnection, StrategyError, UsageError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_CHUNK = 256  # items per task at most; it returns what is done in half a second, and the rest is submitted again
_AT_ONCE = 1000  # tasks that an executor is given before the first is done
_LOSSES = 3  # times in a row that all workers die before anything is done


@dataclass(frozen=True)
class Work(Generic[_Item, _Result]):
    """
    The work to do on each of some items.

    Attributes:
        function: returns the results of the first items passed to it, of at least one; a top-level function of this
            package.
        content: what all items have in common, the first argument of the function.
        modules: names of loaded modules of the strategy's project, to send along if other processes could lack them.
        words: describes an item.
    """

    function: Callable[[Any, Sequence[_Item]], list[_Result]]
    content: Any
    modules: Iterable[str]
    words: Callable[[_Item], str]


def each(
    work: Work[_Item, _Result],
    items: Sequence[_Item],
    executor: Executor | None = None,
    jobs: int = 1,
    least: int = 1,
) -> Iterator[list[_Result]]:
    """
    Yield the results of items as they finish, some at a time, in no order.

    Args:
        executor: what runs them; by default a pool of `jobs` processes, or this process for one job.
        least: the minimum number of items per task, while enough are left.

    Raises:
        UsageError: the work cannot be sent to other processes.
        StrategyError: it kills every process that does it.
    """
    left = deque(items)
    if executor is None and jobs == 1:
        while left:
            yield _taken(left, work.function(work.content, list(islice(left, _CHUNK))))
        return
    task = _Task(work.function, Parcel(work.content, work.modules))
    if executor is not None:
        yield from _through(executor, task, left, max(_size_of_tasks(len(left), 8), least))
    else:
        task.parcel.pack()  # here, where an object that cannot be sent causes a clear error
        yield from _through_pools(task, left, jobs, work.words)


@contextmanager
def dask_executor(address: str) -> Iterator[Executor]:
    """
    Yield the executor of a Dask cluster at tcp://HOST:PORT; its workers need this package and the strategy's file.

    Raises:
        UsageError: Dask is not installed.
        NoConnection: no scheduler answers there.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError("Dask is not installed; install it: pip install 'ib-backtest[dask]'") from error
    try:
        client: Any = Client(address, timeout="10s")  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:  # a timeout is among them
        raise NoConnection(f"no Dask scheduler answers at {address}; start one: dask scheduler") from error
    with client:
        yield client.get_executor()


# --- in the process that waits


@dataclass(frozen=True)
class _Task(Generic[_Item, _Result]):
    function: Callable[[Any, Sequence[_Item]], list[_Result]]
    parcel: Parcel

    def __call__(self, items: Sequence[_Item]) -> list[_Result]:
        return self.function(self.parcel.content, items)


def _taken(left: deque[_Item], results: list[_Result]) -> list[_Result]:
    for _ in results:
        left.popleft()
    return results


def _through_pools(
    task: _Task[_Item, _Result], left: deque[_Item], jobs: int, words: Callable[[_Item], str]
) -> Iterator[list[_Result]]:
    """Yield results from process pools: a pool that lost a worker is replaced by one that repeats its work."""
    losses, size = 0, _size_of_tasks(len(left), jobs)
    while left:
        try:
            with process_pool(min(jobs, len(left))) as pool:
                for results in _through(pool, task, left, size):
                    losses = 0
                    yield results
        except BrokenExecutor as error:
            losses, size = losses + 1, 1  # one by one, so that a faulty one does not lose others
            if losses == _LOSSES:
                suspects = "; ".join(words(item) for item in list(left)[:jobs])
                raise StrategyError(
                    f"the worker processes died {losses} times in a row, at one of: {suspects}; is there enough "
                    "memory? Finished trials are saved; to see it fail, run these with --jobs 1"
                ) from error


def _through(executor: Executor, task: _Task[_Item, _Result], left: deque[_Item], size: int) -> Iterator[list[_Result]]:
    """Yield results from an executor; work that it has not done when it breaks, or when the caller stops, is left."""
    under_way: dict[Future[list[_Result]], list[_Item]] = {}
    done: SimpleQueue[Future[list[_Result]]] = SimpleQueue()
    try:
        while left or under_way:
            while left and len(under_way) < _AT_ONCE:
                items = list(islice(left, size))
                future = executor.submit(task, items)
                under_way[future] = items
                future.add_done_callback(done.put)
                for _ in items:
                    left.popleft()
            future = wait_for(done)
            results = future.result()
            left.extendleft(reversed(under_way.pop(future)[len(results) :]))
            yield results
    finally:
        for future, items in under_way.items():
            future.cancel()
            left.extendleft(reversed(items))


def _size_of_tasks(items: int, jobs: int) -> int:
    return min(max(items // (4 * jobs), 1), _CHUNK)
