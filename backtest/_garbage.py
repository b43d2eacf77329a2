"""`seldom_collected`: delay garbage collection while a run creates many objects that stay."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SELDOM = (50_000, 50, 1000)

_lock = threading.Lock()  # guards the two below: the thresholds are the process's, and runs may overlap in threads
_entered = 0
_before = (0, 0, 0)


@contextmanager
def seldom_collected() -> Iterator[None]:
    """
    Delay collections: each of them walks every long-lived object, such as modules, orders and trades.

    They took nearly half of the time of a run with many orders. They are not switched off: strategies create cycles too
    (each data frame is one), which have to be freed now and then. If blocks overlap, the last one to end restores the
    thresholds.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _entered, _before
    with _lock:
        if not _entered:
            _before = gc.get_threshold()
            if _before[0]:  # 0 means that collections are switched off
                gc.set_threshold(max(_before[0], _SELDOM[0]), *_SELDOM[1:])
        _entered += 1


def _leave() -> None:
    global _entered
    with _lock:
        _entered -= 1
        if not _entered:
            gc.set_threshold(*_before)
