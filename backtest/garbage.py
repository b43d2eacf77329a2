"""`seldom_collected`: garbage is looked for now and then only, while much is made that stays."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def seldom_collected() -> Iterator[None]:
    """
    Let collections wait: each walks what is kept, such as modules, orders and trades.

    They came to nearly half of a run with many orders, and to a fortieth of a first run. Not off altogether:
    strategies make cycles too (each data frame is one), and these must go now and then.
    """
    before = gc.get_threshold()
    if before[0]:
        gc.set_threshold(max(before[0], 50_000), 50, 1000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
