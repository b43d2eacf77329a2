"""
A run inside a window of sessions, with the bars before it as warm-up only.

Until the window begins the strategy is not called, so that it can neither trade nor decide; its indicators see the bars
before as they would in life, and nothing sees a bar after the window.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, TypeVar, Unpack

import numpy as np

from backtest.api import RunResult, run
from backtest.engine.code.strategy import Strategy
from backtest.engine.warm_up import gated, measured_from, waiting, without_first
from backtest.errors import UsageError
from backtest.market import arrays
from backtest.market.series import Series
from backtest.runs.record import RunRecord
from backtest.runs.spec import RunOptions
from backtest.store.reader import Reader


@dataclass(frozen=True, slots=True)
class Window:
    """Sessions by their dates, both included."""

    first: date
    last: date

    def __str__(self) -> str:
        return f"{self.first}..{self.last}"


def run_window(
    strategy: Strategy,
    series: Iterable[Series],
    window: Window,
    *,
    store: Reader,
    since: date | None = None,
    params: Mapping[str, Any] | None = None,
    **asked: Unpack[RunOptions],
) -> RunResult:
    """
    Return a run that trades and is measured in the window only.

    It begins with cash alone and decides for the first time at the close of the window's first bar. What is open at
    the end is valued at the last close.

    Args:
        since: the first session of the warm-up; all that the store has if not given.
        asked: what else `run` takes.

    Raises:
        UsageError: no session is in the window.
        StrategyError: it ordered before the window all the same, or failed.
    """
    wanted = list(series)
    start = measured_from(wanted, store, window.first, window.last)
    with waiting(start):
        span = (since, window.last)
        result = run(gated(strategy), wanted, store=store, span=span, params=params, lines=False, **asked)
    return cut_to(window, result)


_Run = TypeVar("_Run", bound=RunRecord)


def cut_to(window: Window, result: _Run) -> _Run:
    """
    Return a run without the rows before a window.

    Raises:
        UsageError: no session is in the window.
    """
    days = arrays.numbers(result.record["session"]).astype("datetime64[D]")
    first = int(np.searchsorted(days, np.datetime64(window.first)))
    if first == len(days):
        raise UsageError(f"there is no session from {window.first} to {window.last}; name others")
    spec = replace(result.spec, since=window.first.isoformat(), until=window.last.isoformat())
    manifest = {**result.manifest, "warm_up": {"bars": first, "from": str(days[0])}}
    record = without_first(result.record, first)
    return replace(result, spec=spec, record=record, manifest=manifest)
