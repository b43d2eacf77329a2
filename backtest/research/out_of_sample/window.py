"""
A run inside a window of sessions, with the bars before it as warm-up only.

Until the window begins the strategy is not called, so that it can neither trade nor decide; its indicators see the bars
before as they would in life, and nothing sees a bar after the window.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import cache
from types import new_class
from typing import Any, Unpack

import backtrader as bt
import numpy as np
import pyarrow as pa

from backtest.api import RunResult, run
from backtest.engine.code.strategy import Strategy
from backtest.errors import StrategyError, UsageError
from backtest.market import arrays
from backtest.market.calendars import span_of_sessions
from backtest.market.series import Series
from backtest.metrics.account import flows_of
from backtest.runs.spec import RunOptions
from backtest.store.reader import Reader, hours_in

_begins: ContextVar[float] = ContextVar("begins")  # Backtrader's number; a bar that closes later is in the window


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
    start = span_of_sessions(wanted[0], hours_in(store, wanted[0]), window.first, window.last).start
    token = _begins.set(bt.date2num(start.astimezone(UTC).replace(tzinfo=None)))
    try:
        gated: Any = _waiting(strategy)
        span = (since, window.last)
        result = run(gated, wanted, store=store, span=span, params=params, lines=False, **asked)
    finally:
        _begins.reset(token)
    _check_orders(result, start, strategy)
    return _cut(result, window)


def _waiting(strategy: Strategy) -> Strategy:
    own: Any = strategy.cls
    return replace(strategy, cls=_gated(own))


@cache  # Backtrader keeps each class that is ever made
def _gated(strategy: Any) -> Any:
    """Return the strategy with nothing called before the window: not `next`, nor what some use in its place."""

    def is_open(self: Any) -> bool:
        return bool(self.datetime[0] > self._window_begins)

    def start(self: Any) -> None:
        self._window_begins, self._window_begun = _begins.get(), False
        strategy.start(self)

    def prenext(self: Any) -> None:
        if is_open(self):
            strategy.prenext(self)

    def following(self: Any) -> None:
        if not is_open(self):
            return
        if self._window_begun:
            strategy.next(self)
            return
        self._window_begun = True
        strategy.nextstart(self)  # Backtrader's own calls next

    def notify_timer(self: Any, *args: Any, **kwargs: Any) -> None:
        if is_open(self):
            strategy.notify_timer(self, *args, **kwargs)

    body = {
        "start": start, "prenext": prenext, "nextstart": following, "next": following, "notify_timer": notify_timer,
        "__module__": strategy.__module__, "__doc__": strategy.__doc__,
    }  # fmt: skip
    return new_class(strategy.__name__, (strategy,), exec_body=lambda namespace: namespace.update(body))


def _check_orders(result: RunResult, start: datetime, strategy: Strategy) -> None:
    created = arrays.numbers(result.orders_table["created"])
    first = np.datetime64(start.astimezone(UTC).replace(tzinfo=None), "us").astype(np.int64)
    if (created < first).any():
        raise StrategyError(
            f"{strategy.name} gives orders outside of next(), before its window begins; give them in next() only"
        )


def _cut(result: RunResult, window: Window) -> RunResult:
    """Return the run without the rows of the warm-up."""
    days = arrays.numbers(result.record["session"]).astype("datetime64[D]")
    first = int(np.searchsorted(days, np.datetime64(window.first)))
    if first == len(days):
        raise UsageError(f"there is no session from {window.first} to {window.last}; name others")
    spec = replace(result.spec, since=window.first.isoformat(), until=window.last.isoformat())
    manifest = {**result.manifest, "warm_up": {"bars": first, "from": str(days[0])}}
    record: pa.Table = _with_flows_before(result.record, first)
    return replace(result, spec=spec, record=record, manifest=manifest)


def _with_flows_before(record: pa.Table, first: int) -> pa.Table:
    """Return the rows from the first on; what cash came in before, such as in `__init__`, came in with the first."""
    rows, flows = record.slice(first), flows_of(record)
    if flows is None:
        return rows
    own = flows[first:].copy()
    own[0] += flows[:first].sum()
    return rows.set_column(rows.column_names.index("flow"), "flow", arrays.floats(own))
