"""
Worker processes: they do not run the caller's script, and end with it.

They are spawned on every system: a fork of a process with threads, such as Arrow's, may wait indefinitely for a lock
that no thread holds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import spawn
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from backtest._system import write_anything


@contextmanager
def process_pool(jobs: int) -> Iterator[Executor]:
    """
    Yield a process pool; if an error leaves the block, it does not wait for the workers' current items.

    So Ctrl-C ends a command at once, however long an item takes.
    """
    context = _Context()
    pool = ProcessPoolExecutor(jobs, context, initializer=_start_worker)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        context.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def spawned(function: Callable[..., Any], arguments: tuple[Any, ...]) -> SpawnProcess:
    """Start a function in its own process, which does not know the running script, and ends with us."""
    process = _Process(target=_work_alone, args=(function, arguments), daemon=True)
    process.start()
    return process


def _work_alone(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    _start_worker()
    function(*arguments)


class _Process(SpawnProcess):
    """
    A process that does not run the caller's script first.

    Its work arrives as an argument. So a script needs no `if __name__ == "__main__":`, without which each worker would
    run the script again, and no worker waits for the script's imports.
    """

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        with _without_main():
            return SpawnProcess._Popen(process_obj)


class _Context(SpawnContext):
    """Creates such processes, and keeps a list of them."""

    def __init__(self) -> None:
        super().__init__()
        self._made: list[SpawnProcess] = []

    def Process(self, *arguments: Any, **named: Any) -> SpawnProcess:  # type: ignore[override]
        self._made.append(_Process(*arguments, **named))
        return self._made[-1]

    def terminate(self) -> None:
        for process in self._made:
            if process.pid is not None:
                process.terminate()


_starting = threading.Lock()


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the running script from processes that this thread spawns during the block."""
    here = threading.get_ident()
    with _starting:
        prepared = spawn.get_preparation_data

        def without_main(name: str) -> dict[str, Any]:
            found: dict[str, Any] = prepared(name)
            if threading.get_ident() == here:  # processes of another thread are not ours
                for key in ("init_main_from_name", "init_main_from_path"):
                    found.pop(key, None)
            return found

        spawn.get_preparation_data = without_main
        try:
            yield
        finally:
            spawn.get_preparation_data = prepared


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it: otherwise a worker whose parent is killed would wait forever."""
    write_anything(sys.stdout, sys.stderr)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)
