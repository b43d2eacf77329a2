"""
Trials through any `concurrent.futures.Executor`: in this process, in a pool of processes, on a Dask cluster.

A worker opens the store by its address and reads each series once; what it is sent is a `Job` and some points, and what
it sends back is trials. Equal points give equal trials wherever they run.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

from backtest.errors import NoConnection, StrategyError, UsageError
from backtest.research.search.job import Job, Point, trials_of
from backtest.research.search.trials import Trial
from backtest.runs.parameters import words_of

if TYPE_CHECKING:
    pass

_CHUNK = 16  # points a task at most: a task costs a process pool some 140 µs
_AT_ONCE = 1000  # tasks that an executor is given before the first is done
_LOSSES = 3  # times in a row that all workers die before any trial is done


def each(job: Job, points: Sequence[Point], executor: Executor | None = None, jobs: int = 1) -> Iterator[list[Trial]]:
    """
    Yield the trials of points as they are made, some at a time, in no order.

    Args:
        executor: where they run; a pool of `jobs` processes if not given, or this process for one job.

    Raises:
        UsageError: the strategy cannot be sent to other processes.
        StrategyError: it kills each process that runs it.
    """
    left = deque(points)
    if executor is None and jobs == 1:
        while left:
            yield _taken(left, trials_of(job, list(islice(left, _CHUNK))))
        return
    _check_sendable(job)
    if executor is not None:
        yield from _through(executor, job, left, _size_of_tasks(len(left), 8))
    else:
        yield from _through_pools(job, left, jobs)


@contextmanager
def dask_executor(address: str) -> Iterator[Executor]:
    """
    Yield the executor of a Dask cluster, tcp://HOST:PORT; its workers need this package, and the strategy's file.

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


def _taken(left: deque[Point], trials: list[Trial]) -> list[Trial]:
    for _ in trials:
        left.popleft()
    return trials


def _through_pools(job: Job, left: deque[Point], jobs: int) -> Iterator[list[Trial]]:
    """Yield trials out of pools of processes: one that lost a worker cannot go on, and its successor repeats."""
    losses, size = 0, _size_of_tasks(len(left), jobs)
    while left:
        try:
            with _pool(jobs) as pool:
                for trials in _through(pool, job, left, size):
                    losses = 0
                    yield trials
        except BrokenExecutor as error:
            losses, size = losses + 1, 1  # one by one, so that who is guilty takes no others along
            if losses == _LOSSES:
                suspects = "; ".join(words_of(point.params) for point in list(left)[:jobs])
                raise StrategyError(
                    f"the worker processes died {losses} times in a row, at one of: {suspects}; is there memory "
                    "enough? What was done is kept; to see it fail, run these with --jobs 1"
                ) from error


def _through(executor: Executor, job: Job, left: deque[Point], size: int) -> Iterator[list[Trial]]:
    """Yield trials out of an executor; what it did not do when it breaks, or when nobody wants more, is left."""
    under_way: dict[Future[list[Trial]], list[Point]] = {}
    try:
        while left or under_way:
            while left and len(under_way) < _AT_ONCE:
                points = list(islice(left, size))
                under_way[executor.submit(trials_of, job, points)] = points
                for _ in points:
                    left.popleft()
            done, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                trials = future.result()
                left.extendleft(reversed(under_way.pop(future)[len(trials) :]))
                yield trials
    finally:
        for future, points in under_way.items():
            future.cancel()
            left.extendleft(reversed(points))


def _size_of_tasks(points: int, jobs: int) -> int:
    return min(max(points // (4 * jobs), 1), _CHUNK)


@contextmanager
def _pool(jobs: int) -> Iterator[Executor]:
    # Spawned: a copy of a process with threads, and Arrow has some, may wait for ever for a lock that no one holds.
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_start_worker)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it: a worker whose parent was killed would wait for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _check_sendable(job: Job) -> None:
    try:
        ForkingPickler.dumps(job.brokerage.costs)
    except Exception as error:  # what the object's own class raises, too
        raise UsageError(
            f"the costs cannot be sent to other processes ({error}); write them as text, put their class into a "
            "module, or sweep with one job"
        ) from error
    if not isinstance(job.strategy, type):
        return
    if job.strategy.__module__ == "__main__" or "<locals>" in job.strategy.__qualname__:
        raise UsageError(
            f"{job.strategy.__name__} was defined where other processes cannot find it; put it into a file and name "
            "it as file.py:Name, or sweep with one job"
        )
