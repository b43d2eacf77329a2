"""
A run within a window of sessions; the bars before it only warm up the indicators.

Until the window begins the strategy is not called, so that it can neither trade nor decide; its indicators see the bars
before as in live trading, and nothing sees a bar after the window.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import numpy as np

from backtest.api import RunResult, run
from backtest.engine.code.strategy import Strategy
from backtest.engine.warm_up import gated, measured_from, waiting, without_first
from backtest.errors import UsageError
from backtest.market import arrays
from backtest.market.series import Series
from backtest.runs.batch import RunBatch
from backtest.runs.record import RunRecord
from backtest.runs.spec import RunOptions, RunSpec
from backtest.store.reader import Reader

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Window:
    """A range of sessions by their dates, both included."""

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
    Return a run that trades and is measured only in the window.

    It begins with cash alone and decides for the first time at the close of the window's first bar. Positions that are
    open at the end are valued at the last close.

    Args:
        since: the first session of the warm-up; by default all stored bars.
        asked: further arguments of `run`.

    Raises:
        UsageError: no session is in the window.
        StrategyError: it submitted orders before the window all the same, or failed.
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
    first, days = _first_row(window, result.record)
    manifest = {**result.manifest, "warm_up": {"bars": first, "from": str(days[0])}}
    record = without_first(result.record, first)
    return replace(result, spec=_within(window, result.spec), record=record, manifest=manifest)


def cut_batch(window: Window, batch: RunBatch) -> RunBatch:
    """
    Return runs that were made at once, each cut as by `cut_to`; none has a fill before the window.

    Raises:
        UsageError: no session is in the window.
    """
    first, _ = _first_row(window, batch.record)
    return replace(
        batch, spec=_within(window, batch.spec), record=batch.record.slice(first), equity=batch.equity[:, first:],
        positions=[held[:, first:] for held in batch.positions],
    )  # fmt: skip


def _first_row(window: Window, record: pa.Table) -> tuple[int, np.ndarray]:
    """Return the first row of a window, and the sessions of all rows."""
    days = arrays.numbers(record["session"]).astype("datetime64[D]")
    first = int(np.searchsorted(days, np.datetime64(window.first)))
    if first == len(days):
        raise UsageError(f"there is no session from {window.first} to {window.last}; name others")
    return first, days


def _within(window: Window, spec: RunSpec) -> RunSpec:
    return replace(spec, since=window.first.isoformat(), until=window.last.isoformat())
