"""Orders that fill on smaller bars of the same instrument, in the order of these bars."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from numbers import Real
from types import MappingProxyType, new_class
from typing import TYPE_CHECKING, Any, NamedTuple

import backtrader as bt
import numpy as np

from backtest.engine.account.borrowing import is_at_last_close
from backtest.errors import DataError, NoBars, UsageError
from backtest.market import arrays
from backtest.market.calendars import span_asked
from backtest.market.hours import Hours
from backtest.market.series import BarSize, Series, few
from backtest.market.session_days import session_days
from backtest.market.span import Sessions, Span
from backtest.runs.currencies import base_currency, currency_of
from backtest.runs.spec import BACKTRADER, Brokerage
from backtest.store.reader import Reader, bars_if_any, hours_in

if TYPE_CHECKING:
    import pyarrow as pa

_PRICES = ("open", "high", "low", "close", "volume")
_LARGE = -1  # in place of a small bar's opening: the fill was in the bar of the run itself
_BY_THE_BAR = (bt.Order.Close, bt.Order.Historical)  # of which the bar of the run has the price
_STOPS = (bt.Order.Stop, bt.Order.StopLimit)


def check_fill_bars(brokerage: Brokerage, series: Sequence[Series]) -> None:
    """
    Refuse an invalid size of smaller bars, or settings that cannot be combined with them.

    Raises:
        UsageError: they are not smaller than the bars of the run, or another option cannot be used with them.
    """
    if not brokerage.fill_bars:
        return
    size = BarSize.parse(brokerage.fill_bars)
    large = [one.short for one in series if one.size.seconds <= size.seconds]
    if large:
        raise UsageError(
            f"fill bars of {size} are not smaller than the bars of {few(large)}; name a smaller size, such as 1min"
        )
    if brokerage.slippage.startswith("spread"):
        raise UsageError(
            "slippage of half the spread needs the quotes at a bar's open, but fill bars fill orders within the bar; "
            "write slippage as 5bp or as money, or leave out --fill-bars"
        )
    if brokerage.account != BACKTRADER:
        _check_account(brokerage, series)


def _check_account(brokerage: Brokerage, series: Sequence[Series]) -> None:
    base = base_currency(series, brokerage.currency) if series else ""
    if any(currency_of(one.instrument) != base for one in series):
        raise UsageError(
            f"account {brokerage.account} does not work with fill bars and several currencies; leave out --account or "
            "--fill-bars, or run the series of each currency separately"
        )
    if brokerage.fills != "next-bar":
        raise UsageError(
            f"account {brokerage.account} with fills {brokerage.fills} does not work with fill bars; leave out --fills "
            "or --fill-bars"
        )


def small_series(brokerage: Brokerage, series: Sequence[Series], store: Reader, span: Any) -> dict[Series, Series]:
    """Return the series of smaller bars for each series that has some in a span; none if they are not requested."""
    found = {}
    for one in series if brokerage.fill_bars else ():
        small = store.named(_small(one, brokerage.fill_bars))
        if _bars_of(store, small, span) is not None:
            found[one] = small
    return found


def _small(series: Series, size: str) -> Series:
    return Series(series.instrument, BarSize.parse(size), series.prices, series.regular_hours)


def _bars_of(store: Reader, series: Series, span: Span | Sessions | None) -> pa.Table | None:
    return bars_if_any(store, series, span_asked(series, hours_in(store, series), span))


class SmallBars(NamedTuple):
    """
    The small bars of one series, grouped by the bars that contain them.

    Attributes:
        starts: the position of the first small bar of each bar, and the position after the last one.
        opened: when each small bar opened, in microseconds since 1970, UTC.
        length: the length of each, in microseconds.
    """

    starts: np.ndarray
    opened: np.ndarray
    length: int
    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray


class SmallMarket(NamedTuple):
    """The small bars of a run, by series, and their description in manifest and summary."""

    bars: dict[Series, SmallBars]
    tables: dict[Series, pa.Table]  # of the small series
    document: dict[str, Any]


def small_market_of(
    size: str, store: Reader, span: Any, aligned: Mapping[Series, pa.Table], hours: Sequence[Hours]
) -> SmallMarket:
    """
    Return the small bars of a run.

    Args:
        aligned: the bars of its feeds, in the order of `hours`.

    Raises:
        NoBars: no series has small bars.
        DataError: their prices do not match the bars that contain them.
    """
    bars, tables, counts = {}, {}, {}
    for (one, table), its in zip(aligned.items(), hours, strict=True):
        small = store.named(_small(one, size))
        found = _bars_of(store, small, span)
        days = _days(table, one, its)
        if found is None:
            counts[one.short] = {"days": len(np.unique(days)), "without": len(np.unique(days))}
            continue
        tables[small] = found
        bars[one] = parts = _parts(table, one, found, small, its)
        lacking = np.setdiff1d(days, days[np.diff(parts.starts) > 0])
        counts[one.short] = {"days": len(np.unique(days)), "without": len(lacking)}
    if not bars:
        names = few([_small(one, size).short for one in aligned])
        raise NoBars(
            f"there are no bars of {names} to fill orders on during the run; download them, or leave out --fill-bars"
        )
    return SmallMarket(bars, tables, counts)


def _days(bars: pa.Table, series: Series, hours: Hours) -> np.ndarray:
    return session_days(arrays.numbers(bars["time"]).astype("datetime64[us]"), series, hours)


def _parts(bars: pa.Table, series: Series, small: pa.Table, size: Series, hours: Hours) -> SmallBars:
    """Return small bars with the bars that they are parts of; those that are part of none are left out."""
    opened = arrays.numbers(small["time"])
    if series.size.daily:
        keys, own = _periods(_days(bars, series, hours), series), _periods(_days(small, size, hours), series)
        rows = np.searchsorted(keys, own)
        within = keys[np.minimum(rows, len(keys) - 1)] == own
    else:
        starts = arrays.numbers(bars["time"])
        rows = np.searchsorted(starts, opened, side="right") - 1
        within = (rows >= 0) & (opened < starts[np.maximum(rows, 0)] + series.size.seconds * 1_000_000)
    columns = [arrays.numbers(small[name])[within] for name in _PRICES]
    first = np.searchsorted(rows[within], np.arange(len(bars) + 1))
    found = SmallBars(first, opened[within], size.size.seconds * 1_000_000, *columns)
    _check_prices(found, bars, series, size)
    return found


def _periods(days: np.ndarray, series: Series) -> np.ndarray:
    """Return a number for the bar of each day, equal within a bar and ascending."""
    if series.size.period == "month":
        return days.astype("datetime64[M]").astype(np.int64)
    numbers: np.ndarray = days.astype("datetime64[D]").astype(np.int64)
    return (numbers + 3) // 7 if series.size.period == "week" else numbers  # 1970-01-01 was a Thursday


def _check_prices(small: SmallBars, bars: pa.Table, series: Series, size: Series) -> None:
    """Raise DataError if small bars and the bar that contains them have disjoint prices: one of them was adjusted."""
    having = np.flatnonzero(np.diff(small.starts))
    if not len(having):
        return
    firsts = small.starts[having]
    lows, highs = np.fmin.reduceat(small.low, firsts), np.fmax.reduceat(small.high, firsts)
    low, high = (arrays.numbers(bars[name])[having] for name in ("low", "high"))
    apart = np.flatnonzero((lows > high) | (highs < low))
    if len(apart):
        n = apart[0]
        day = np.datetime64(int(arrays.numbers(bars["time"])[having[n]]), "us").astype("datetime64[D]")
        raise DataError(
            f"{series.short} and {size.short} have no price in common on {day}, {low[n]:g} to {high[n]:g} and "
            f"{lows[n]:g} to {highs[n]:g}, and likewise on {len(apart):,} bars: one of them was adjusted for a split "
            "and the "
            "other was not; download both again"
        )


# --- the broker


def fill_on_small_bars(broker: Any, feeds: Sequence[Any], series: Sequence[Series], market: SmallMarket) -> None:
    """Let a broker of Backtrader's own loops fill orders on small bars, in place."""
    kind: Any = type(broker)
    broker.__class__ = _on_small_bars(kind)
    broker.small = {id(feed): (feed, market.bars[one]) for feed, one in zip(feeds, series, strict=True)
                    if one in market.bars}  # fmt: skip
    broker.filled_on, broker.lengths = {}, {}


@cache  # Backtrader keeps each class that is ever made
def _on_small_bars(kind: Any) -> Any:
    body = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return new_class(kind.__name__, (_OnSmallBars, kind), exec_body=lambda names: names.update(body))


class _Walk:
    """The small bars of a feed in the current bar; those from `at` on are still to come."""

    def __init__(self, feed: Any, small: SmallBars, row: int) -> None:
        self.feed, self.small = feed, small
        self.at, self.end = int(small.starts[row]), int(small.starts[row + 1])
        self._bar = [getattr(feed.lines, name)[0] for name in _PRICES]
        self._ticks = [getattr(feed, f"tick_{name}", None) for name in _PRICES]
        self._part = slice(self.at, self.end)
        first = float(small.open[self.at])
        self._show([first] * 4 + [0.0])  # so that nothing sees the bar before it is over

    def show(self, place: int) -> None:
        """Give the feed a small bar instead of its own."""
        self._show([float(getattr(self.small, name)[place]) for name in _PRICES])
        self.feed._at_small = place
        self.at = place + 1

    def restore(self) -> None:
        """Give the feed its own bar again."""
        self._show(self._bar)
        for name, tick in zip(_PRICES, self._ticks, strict=True):
            setattr(self.feed, f"tick_{name}", tick)
        self.feed._at_small = -1

    def _show(self, values: Sequence[float]) -> None:
        for name, value in zip(_PRICES, values, strict=True):
            line = getattr(self.feed.lines, name)
            line.array[line.idx] = value
            setattr(self.feed, f"tick_{name}", value)  # which Backtrader's broker asks first

    @property
    def closes(self) -> np.ndarray:
        """When the small bars of the current bar end."""
        return np.asarray(self.small.opened[self._part] + self.small.length)

    def prices_at(self, moments: np.ndarray) -> np.ndarray:
        """Return the last close of a small bar at each moment, before the first that of the bar before."""
        known = np.append(self._close_before(), self.small.close[self._part])
        return np.asarray(known[np.searchsorted(self.closes, moments, side="right")])

    def price(self, moment: float) -> float:
        """Return the last open or close of a small bar at a moment, before the first the close of the bar before."""
        own = self.small.opened[self._part]
        place = int(np.searchsorted(own, moment, side="right")) - 1
        if place < 0:
            return self._close_before()
        is_over = own[place] + self.small.length <= moment
        return float((self.small.close if is_over else self.small.open)[self._part][place])

    def skip(self, moment: int) -> None:
        """Skip the small bars that opened before a moment."""
        self.at = max(self.at, int(self._part.start + np.searchsorted(self.small.opened[self._part], moment)))

    def _close_before(self) -> float:
        return float(self.feed.close[-1]) if len(self.feed) > 1 else float(self.small.open[self._part][0])

    def next_touch(self, orders: Sequence[Any]) -> int | None:
        """Return the position of the next small bar in which an order may fill, or a trailing stop moves."""
        places = [place for order in orders if (place := self._touch(order)) is not None]
        return min(places, default=None)

    def _touch(self, order: Any) -> int | None:
        if self.at >= self.end:
            return None
        is_stop = order.exectype in _STOPS and not order.triggered
        is_limit = order.exectype == bt.Order.Limit or order.triggered
        price = order.created.pricelimit if order.triggered else order.created.price
        if not (is_stop or is_limit) or not isinstance(price, Real):
            return self.at  # at the market, a trailing stop, or a price that is a line
        rest = slice(self.at, self.end)
        from_below = order.isbuy() == is_stop
        touched = self.small.high[rest] >= price if from_below else self.small.low[rest] <= price
        place = int(np.argmax(touched))
        return self.at + place if touched[place] else None


class _OnSmallBars:
    """
    A broker that processes a bar once for each relevant small bar, and once more for the bar itself.

    First come orders of feeds without small bars; then those that small bars touch, by their times; last, orders at the
    close. Cash and value that depend on the bar itself change only then.

    Attributes:
        small: the small bars by the id of their feed.
        filled_on: the fills of each order by its reference: their number among all fills, and when the small bar
            opened.
        lengths: how many bars of each feed have ended.
    """

    small: dict[int, tuple[Any, SmallBars]]
    filled_on: dict[int, list[tuple[int, int]]]
    lengths: dict[int, int]
    _may_try: Callable[[Any], bool] | None = None
    _moment = _LARGE
    _count = 0
    rules: Any = None  # of the account, if it has others than Backtrader's; see `account.margin`
    partial = False  # whether a part of a bar's work is done
    cash: float
    _walks: Mapping[int, _Walk] = MappingProxyType({})  # by the id of their feeds
    _now = -math.inf  # the moment within the bar, in microseconds
    pending: Any
    submitted: Any
    _toactivate: Any
    _cash_addition: Any
    positions: Any
    getcommissioninfo: Callable[[Any], Any]

    def next(self) -> None:
        """Do a bar's work."""
        fresh = list(self._fresh())
        called = self._lends() and any(self._holds(one[0]) for one in fresh)
        if not (self.submitted or self.pending or self._toactivate or called):
            super().next()  # type: ignore[misc]  # of Backtrader's broker
            return
        additions, self._cash_addition = self._cash_addition, deque()  # they come in at the end of a bar
        walks = [_Walk(*one) for one in fresh if self._matters(one[0])]
        walked, known = {id(walk.feed) for walk in walks}, self.small
        self.partial, self._walks, self._now = True, {id(walk.feed): walk for walk in walks}, -math.inf
        try:
            self._may_try = lambda order: (
                order.exectype not in _BY_THE_BAR
                and id(order.data) not in walked
                and (id(order.data) not in known or self._is_new(order.data))
            )
            super().next()  # type: ignore[misc]
            for walk, place in self._touches(walks):
                walk.show(place)
                self._moment = int(walk.small.opened[place])
                feed = walk.feed
                self._may_try = lambda order, feed=feed: order.data is feed and order.exectype not in _BY_THE_BAR
                super().next()  # type: ignore[misc]
        finally:
            self._moment, self._cash_addition, self.partial, self._now = _LARGE, additions, False, math.inf
            for walk in walks:
                walk.restore()
        self._may_try = lambda order: order.exectype in _BY_THE_BAR
        super().next()  # type: ignore[misc]
        self._may_try, self._walks = None, {}

    def price_within(self, data: Any) -> float | None:
        """Return the known price of a feed within the current bar, None if it has no small bars there."""
        walk = self._walks.get(id(data))
        return None if walk is None or self._now == -math.inf else walk.price(self._now)

    def _lends(self) -> bool:
        return hasattr(self.rules, "look_within")

    def _fresh(self) -> Iterator[tuple[Any, SmallBars, int]]:
        """Yield the feeds that have moved and have small bars in this bar, with these and the row of the bar."""
        self._moved = set()
        for key, (feed, small) in self.small.items():
            length = len(feed)
            if self.lengths.get(key, 0) == length:
                continue
            self.lengths[key] = length
            self._moved.add(key)
            if small.starts[length] > small.starts[length - 1]:
                yield feed, small, length - 1

    def _matters(self, feed: Any) -> bool:
        """Return whether a feed has orders, or a position that settles gains in cash, from which orders are paid."""
        every = (*self.pending, *self.submitted, *self._toactivate)
        if any(getattr(order, "data", None) is feed for order in every):
            return True
        return self._holds(feed) and (self.rules is not None or not self.getcommissioninfo(feed).stocklike)

    def _holds(self, feed: Any) -> bool:
        return bool(feed in self.positions and self.positions[feed].size)

    def _is_new(self, feed: Any) -> bool:
        return id(feed) in self._moved

    def _touches(self, walks: Sequence[_Walk]) -> Iterator[tuple[_Walk, int]]:
        """Yield the next small bar among all relevant feeds, while there is one; before each, the account may sell."""
        since = -1
        while True:
            while self._toactivate:
                self._toactivate.popleft().activate()
            active = [order for order in self.pending if order.active() and order.exectype not in _BY_THE_BAR]
            due = []
            for n, walk in enumerate(walks):
                place = walk.next_touch([order for order in active if order.data is walk.feed])
                if place is not None:
                    due.append((int(walk.small.opened[place]), n, place))
            until = min(due)[0] if due else None
            if (called := self._called(walks, since, until)) is not None:
                since = called
                for walk in walks:
                    walk.skip(called)
                continue
            if not due:
                return
            _, n, place = min(due)
            self._now = since = int(walks[n].small.opened[place])
            yield walks[n], place

    def _called(self, walks: Sequence[_Walk], since: int, until: int | None) -> int | None:
        """Let the account sell at the first close of a small bar at which equity is short, and return when that is."""
        if not (self._lends() and walks):
            return None
        moments = np.unique(np.concatenate([walk.closes for walk in walks]))
        moments = moments[(moments > since) & (moments <= (moments[-1] if until is None else until))]
        if not len(moments):
            return None
        prices = {walk.feed: walk.prices_at(moments) for walk in walks}
        place = self.rules.look_within(self, prices, moments)
        return None if place is None else int(moments[place])

    def _try_exec(self, order: Any) -> None:
        # An order for the previous close needs no small bar.
        if self._may_try is None or self._may_try(order) or is_at_last_close(self, order):
            super()._try_exec(order)  # type: ignore[misc]

    def _execute(self, order: Any, ago: Any = None, price: Any = None, *rest: Any, **named: Any) -> Any:
        before = len(order.executed.exbits)
        done = super()._execute(order, ago, price, *rest, **named)  # type: ignore[misc]
        if ago is not None and len(order.executed.exbits) > before:
            self._count += 1
            moment = _LARGE if named.get("dtcoc") else self._moment  # at the close of the bar before
            self.filled_on.setdefault(order.ref, []).append((self._count, moment))
        return done


def in_order_of_small_bars(fills: pa.Table, broker: Any, first: int) -> pa.Table:
    """
    Return fills in their order, with `small_bar`: when that opened, null for a fill in the run's own bar.

    Args:
        first: the number that Backtrader gave to the first order.
    """
    known = {ref: iter(parts) for ref, parts in broker.filled_on.items()}
    told = [next(known[ref]) for ref in (arrays.numbers(fills["ref"]) + first - 1).tolist()]
    count, opened = np.array(told, np.int64).reshape(-1, 2).T
    order = np.lexsort((count, arrays.numbers(fills["time"])))
    column = arrays.stamps(opened[order].astype("datetime64[us]"), opened[order] != _LARGE)
    return fills.take(order).append_column("small_bar", column)
