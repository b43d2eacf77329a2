"""Bars before a run begins, which only its indicators see: nothing is traded or measured there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from types import new_class
from typing import TYPE_CHECKING, Any, NamedTuple

import backtrader as bt
import numpy as np

from backtest.engine.code.strategy import Strategy
from backtest.errors import StrategyError, UsageError
from backtest.market import arrays
from backtest.market.calendars import span_asked, span_of_sessions
from backtest.market.periods import clock_of
from backtest.market.series import Series
from backtest.market.span import Sessions, Span
from backtest.runs.spec import AUTO, span_read
from backtest.store.reader import Reader, hours_in

if TYPE_CHECKING:
    import pyarrow as pa

_begins: ContextVar[float] = ContextVar("begins")  # Backtrader's number; a bar that closes later is in the run
_LAST = date(2100, 1, 1)


class BarsBefore(NamedTuple):
    """The bars that a run reads before it begins."""

    begins: datetime  # the start of the run's own bars
    read: Span | Sessions  # what is read, a little more than it takes
    earliest: datetime | None = None  # bars before are left out; None for none

    def part(self, bars: pa.Table) -> pa.Table:
        """Return the bars of a series that the run uses."""
        if self.earliest is None:
            return bars
        times = arrays.numbers(bars["time"]).astype("datetime64[us]")
        return bars.slice(int(np.searchsorted(times, _plain(self.earliest))))


def warm_up_of(asked: str, store: Reader, wanted: list[Series], span: Span | Sessions | None) -> BarsBefore | None:
    """
    Return the warm-up of a run on some series, None for none.

    Args:
        asked: the text that `spec.warm_up_text` returns; a number counts bars of the first series.
        span: the span of the run.

    Raises:
        UsageError: the run has no start, or too few bars are stored before it.
    """
    if not asked:
        return None
    begins, series = _start(store, wanted, span), wanted[0]
    read = span_read(span)
    if asked == AUTO or read is None:
        return BarsBefore(begins, read or (None, None))
    bars = store.read(series, span_asked(series, hours_in(store, series), read))
    times = arrays.numbers(bars["time"]).astype("datetime64[us]")
    before = int(np.searchsorted(times, _plain(begins)))
    if before < int(asked):
        raise UsageError(
            f"a warm-up of {int(asked):,} bars is requested, but {series.short} has only {before:,} before "
            f"{begins:%Y-%m-%d}; request fewer, or all of them with {AUTO}, or begin later"
        )
    earliest = times[before - int(asked)].astype(datetime).replace(tzinfo=UTC)
    end = read.end if isinstance(read, Span) else read[1]
    early = earliest - timedelta(days=1)  # the date of a session may be the one before that of its bars, in UTC
    return BarsBefore(begins, Span(early, end) if isinstance(end, datetime) else (early.date(), end), earliest)


def _start(store: Reader, wanted: list[Series], span: Span | Sessions | None) -> datetime:
    if isinstance(span, Span):
        return span.start
    since, until = span or (None, None)
    if since is None:
        raise UsageError("a warm-up uses the bars before the run, which needs a first session: --since, or start=")
    return measured_from(wanted, store, since, until or _LAST)


def measured_from(wanted: list[Series], store: Reader, since: date, until: date) -> datetime:
    """
    Return the start of the first session, by the series that measures a run: see `periods.clock_of`.

    Raises:
        UsageError: there is no session.
    """
    hours = [hours_in(store, one) for one in wanted]
    place = clock_of(wanted, hours)
    return span_of_sessions(wanted[place], hours[place], since, until).start


@contextmanager
def waiting(begins: datetime | None) -> Iterator[None]:
    """Make `gated` strategies that start within the block begin at a moment; None sets none."""
    if begins is None:
        yield
        return
    token = _begins.set(stamp_of(begins))
    try:
        yield
    finally:
        _begins.reset(token)


def window_begins() -> float:
    """Return the moment that `waiting` sets, as Backtrader's number; 0 if it sets none."""
    return _begins.get(0.0)


def gated(strategy: Strategy) -> Strategy:
    """Return a strategy that is not called before the moment that `waiting` sets."""
    own: Any = strategy.cls
    return replace(strategy, cls=_gated(own))


@cache  # Backtrader keeps each class that is ever made
def _gated(strategy: Any) -> Any:
    """Return the strategy with nothing called before the window: neither `next` nor methods used instead of it."""

    def is_open(self: Any) -> bool:
        if not self._window_order and self.datetime[0] > self._window_begins:
            self._window_order = next(bt.Order.refbasis)
        return bool(self._window_order)

    def start(self: Any) -> None:
        self._window_begins, self._window_begun, self._window_order = _begins.get(), False, 0
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


class Cash(bt.Strategy):
    """Trades nothing, for windows in which no parameters can be chosen."""

    def next(self) -> None:
        """Do nothing."""


def check_orders(strategy: Any, orders: pa.Table, first: int, name: str) -> None:
    """
    Refuse a run of a `gated` strategy with orders from before its start.

    An order has the time of the last bar of its series, which may be before the start; so its number is checked, too.

    Args:
        strategy: the strategy after its run.
        first: the number that Backtrader gave to the first order.

    Raises:
        StrategyError: there is such an order.
    """
    if not hasattr(strategy, "_window_order"):
        return
    begins = np.datetime64(bt.num2date(strategy._window_begins), "us").astype(np.int64)
    numbers, opened = arrays.numbers(orders["ref"]) + first - 1, strategy._window_order or math.inf
    if ((arrays.numbers(orders["created"]) < begins) & (numbers < opened)).any():
        raise StrategyError(
            f"{name} places orders outside of next(), before its window begins; place them in next() only"
        )


def without_first(record: pa.Table, first: int) -> pa.Table:
    """Return the rows from the first on; cash added before, such as in `__init__`, counts with the first."""
    rows = record.slice(first)
    if "flow" not in record.column_names:
        return rows
    flows = arrays.numbers(record["flow"])
    own = flows[first:].copy()
    own[0] += flows[:first].sum()
    return rows.set_column(rows.column_names.index("flow"), "flow", arrays.floats(own))


def bars_waited(strategy: Any, own: type[Any], stamps: Any) -> int:
    """
    Return how many bars passed before a strategy was first called, all of them if it never was.

    Args:
        own: the class as its author wrote it; if it acts while it waits, or by timers, the result is 0.
        stamps: the timestamps of all bars, in Backtrader's days.
    """
    if own.prenext is not bt.Strategy.prenext or own.notify_timer is not bt.Strategy.notify_timer:
        return 0
    counts = zip(strategy.datas, strategy._minperiods, strict=True)  # Backtrader's own, a number for each feed
    ready = [data.datetime.array[count - 1] if 0 < count <= data.buflen() else np.inf for data, count in counts]
    return int(np.searchsorted(np.asarray(stamps), max(ready)))


def stamp_of(moment: datetime) -> float:
    """Return a moment in Backtrader's time format."""
    return float(bt.date2num(moment.astimezone(UTC).replace(tzinfo=None)))


def _plain(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")
