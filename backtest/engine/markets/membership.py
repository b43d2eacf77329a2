"""`members`: the members of a run's market at a bar; `FinalSales`: sales of positions whose bars end."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import backtrader as bt
import numpy as np

from backtest import _arguments
from backtest.engine.account.borrowing import fill_at_last_close
from backtest.engine.feed import close_stamps
from backtest.errors import NoBars
from backtest.market import arrays
from backtest.market.calendars import span_asked
from backtest.market.hours import Hours
from backtest.market.series import Instrument, Series, few
from backtest.market.session_days import session_days
from backtest.market.span import Sessions, Span
from backtest.market.universe import Membership, Universe, memberships_in_order
from backtest.runs.spec import ALLOW
from backtest.store.reader import Reader, bars_if_any, hours_in

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.engine.warm_up import BarsBefore


def members(strategy: Any) -> list[Any]:
    """
    Return the feeds of a strategy that belong to the universe of its run and have a bar now, in their own order.

    Without a universe, and under a bare Cerebro, return all feeds that have a bar now.

    Args:
        strategy: the strategy itself; call it in `next`.

    Raises:
        UsageError: the argument is not a strategy.
    """
    _arguments.instance(strategy, "strategy", bt.Strategy, "write backtest.members(self), in next()")
    now = strategy.datetime[0]
    return _Feeds(feed for feed in strategy.datas if len(feed) and feed.datetime[0] == now and _belongs(feed, now))


class _Feeds(list[Any]):
    """A list of feeds in which `in` compares by identity: == of two feeds returns a line operation."""

    def __contains__(self, feed: object) -> bool:
        return any(one is feed for one in self)


def _belongs(feed: Any, now: float) -> bool:
    bounds = getattr(feed, "_belongs", None)
    if now in getattr(feed, "_made_up", ()):
        return False  # a bar that replaces a missing one
    return bounds is None or bisect_right(bounds, now) % 2 == 1


def with_bars(
    universe: Universe | None,
    store: Reader,
    series: Sequence[Series],
    span: Span | Sessions | None,
    before: BarsBefore | None,
) -> list[Series]:
    """
    Return the series of a run without the members of its universe that have no bar in its time.

    Raises:
        NoBars: no series is left.
    """
    if universe is None:
        return list(series)
    known = _by_instrument(universe, store)
    found = [one for one in series if one.instrument not in known or _has_bars(store, one, span, before)]
    if not found:
        raise NoBars(
            f"no series of the universe has a bar during the run: {few([one.short for one in series])}; "
            "download them, or name a longer span"
        )
    return found


def _has_bars(store: Reader, series: Series, span: Span | Sessions | None, before: BarsBefore | None) -> bool:
    bars = bars_if_any(store, series, span_asked(series, hours_in(store, series), span))
    return bars is not None and len(before.part(bars) if before else bars) > 0


def _by_instrument(universe: Universe, store: Reader) -> dict[Instrument, tuple[Membership, ...]]:
    """Return the memberships of each name, by the store's instrument: a name may have several spellings."""
    found: dict[Instrument, list[Membership]] = {}
    for rows in universe.by_instrument.values():
        found.setdefault(store.named(rows[0].series).instrument, []).extend(rows)
    return {instrument: memberships_in_order(rows) for instrument, rows in found.items()}


@dataclass(frozen=True, slots=True)
class Roster:
    """
    The members of a run's market.

    Attributes:
        bounds: for each series the timestamps of its bars at which membership begins and ends, alternately.
        ends: for each series the timestamp of its last bar, and the fraction of the last close for which it is sold;
            None if it trades to the end of the run, or never belonged.
        document: the entry in the manifest.
    """

    bounds: list[list[float]]
    ends: list[tuple[float, float] | None]
    document: dict[str, Any]


def roster_of(
    universe: Universe,
    missing: str,
    store: Reader,
    own: Mapping[Series, pa.Table],
    aligned: Mapping[Series, pa.Table],
    before: BarsBefore | None,
) -> Roster:
    """
    Return the members of a run's market.

    Args:
        missing: whether to "allow" or "refuse" names without bars.
        own: the stored bars of the run's series.
        aligned: the bars of its feeds.
        before: its warm-up, whose sessions do not count.

    Raises:
        NoBars: a name that belongs during the run has no bars, and that is not allowed.
    """
    known, hours = _by_instrument(universe, store), {one: hours_in(store, one) for one in own}
    days = {one: _days(table, one, hours[one]) for one, table in aligned.items()}
    traded = {one: _days(table, one, hours[one], before) for one, table in own.items()}
    sessions = _by_calendar(traded, hours)
    counts = _counted(known, store, traded, hours, sessions)
    document = {**universe.document, **counts}
    if counts["absent"] and missing != ALLOW:
        raise NoBars(_refusal(counts, universe))
    last = {calendar: every[-1] for calendar, every in _by_calendar(days, hours).items()}
    bounds, ends = [], []
    for one, table in aligned.items():
        rows, stamps = known.get(one.instrument, ()), close_stamps(table, one.size)
        bounds.append(_bounds(rows, days[one], stamps))
        ended = bool(rows) and days[one][-1] < last[hours[one].calendar]
        ends.append((float(stamps[-1]), 1 + _return(rows)) if ended else None)
    return Roster(bounds, ends, document)


def _days(bars: pa.Table, series: Series, hours: Hours, before: BarsBefore | None = None) -> np.ndarray:
    """Return the session of each bar, rising; without those of a warm-up."""
    opened = arrays.numbers(bars["time"]).astype("datetime64[us]")
    if before is not None:
        opened = opened[np.searchsorted(opened, np.datetime64(before.begins.replace(tzinfo=None), "us")) :]
    return session_days(opened, series, hours)


def _by_calendar(days: Mapping[Series, np.ndarray], hours: Mapping[Series, Hours]) -> dict[str, np.ndarray]:
    """Return the sessions in which any series of a calendar has a bar; those of all series under ""."""
    every: dict[str, list[np.ndarray]] = {"": list(days.values())}
    for one, its in days.items():
        every.setdefault(hours[one].calendar, []).append(its)
    return {calendar: np.unique(np.concatenate(its)) for calendar, its in every.items()}


def _counted(
    known: Mapping[Instrument, Sequence[Membership]],
    store: Reader,
    traded: Mapping[Series, np.ndarray],
    hours: Mapping[Series, Hours],
    sessions: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """Return how many names belong during the run, on how many days, and on how many of these they have no bar."""
    series = {one.instrument: one for one in traded}
    total, lacking, absent, count = 0, dict[str, int](), list[str](), 0
    for instrument, rows in known.items():
        one = series.get(instrument)
        its = hours[one] if one else hours_in(store, store.named(rows[0].series))
        due = _within(rows, sessions.get(its.calendar, sessions[""]))
        if not len(due):
            continue
        there = np.unique(traded[one]) if one else due[:0]
        missing = len(due) - int(np.isin(due, there).sum())
        total, count = total + len(due), count + 1
        name = one.short if one else rows[0].series.short
        if missing:
            lacking[name] = missing
        if one is None:
            absent.append(name)
    return {"members": count, "member_days": total, "without_bars": lacking, "absent": absent}


def _within(rows: Iterable[Membership], days: np.ndarray) -> np.ndarray:
    """Return the days on which a name belongs."""
    parts = [days[slice(*_edges(one, days))] for one in rows]
    return np.concatenate(parts) if parts else days[:0]


def _edges(stretch: Membership, days: np.ndarray) -> tuple[int, int]:
    """Return the first row of a membership, and the first row after it."""
    first = 0 if stretch.first is None else int(np.searchsorted(days, np.datetime64(stretch.first)))
    last = stretch.last
    return first, len(days) if last is None else int(np.searchsorted(days, np.datetime64(last), side="right"))


def _bounds(rows: Iterable[Membership], days: np.ndarray, stamps: np.ndarray) -> list[float]:
    found: list[float] = []
    for first, after in (_edges(one, days) for one in rows):
        if first < after:
            found += [float(stamps[first]), float(np.nextafter(stamps[after - 1], np.inf))]
    return found


def _return(rows: Sequence[Membership]) -> float:
    """Return the delisting return of a name, from the last row that has one."""
    return next((one.delisting_return for one in reversed(rows) if one.delisting_return is not None), 0.0)


def _refusal(counts: Mapping[str, Any], universe: Universe) -> str:
    absent, lacking = counts["absent"], counts["without_bars"]
    names = few([f"{name} ({lacking[name]:,})" for name in absent])
    days = sum(lacking[name] for name in absent)
    whole = f"{len(absent):,} of the {counts['members']:,} members of the universe{f' {universe.name}'.rstrip()}"
    return (
        f"{whole} are not among the series, or have no bars while they are members, on {days:,} of "
        f"{counts['member_days']:,} member-days: {names}. Without them the result may have survivorship bias: "
        "download and "
        'name them, or run without them: --missing-members allow (missing_members="allow"); the result then says how '
        "many are missing"
    )


class FinalSales:
    """
    Sells positions in a universe when their bars have ended, at the last close with the delisting return.

    A sale belongs to the last bar: it happens before anything else at the run's next bar, with the costs of an order at
    the close, and without slippage. Open orders for the name are cancelled.

    Attributes:
        sold: the dates of the last bars of sold positions, by the names of the feeds.
    """

    def __init__(self, cerebro: Any, feeds: Sequence[Any], ends: Sequence[tuple[float, float] | None]) -> None:
        every = [(*end, feed) for feed, end in zip(feeds, ends, strict=True) if end is not None]
        self._due = sorted(every, key=lambda one: one[0])
        self._cerebro, self._done = cerebro, 0
        self.sold: dict[str, str] = {}

    @property
    def stamps(self) -> list[float]:
        """When something is due, in order: right after the last bars."""
        return [float(np.nextafter(stamp, np.inf)) for stamp, *_ in self._due]

    def pay(self, broker: Any, stamp: float, known: Any = None) -> None:
        """Let the broker sell ended positions before the bar of a timestamp, as its first work."""
        ended = []
        while self._done < len(self._due) and self._due[self._done][0] < stamp:
            ended.append(self._due[self._done][1:])
            self._done += 1
        if ended:
            # Backtrader activates what is here, mostly the children of brackets, as a bar begins, in each of its loops.
            broker._toactivate.append(_Ended(self, broker, ended))

    def sell(self, broker: Any, feed: Any, worth: float) -> None:
        """Sell a long position in a feed, or cover a short one."""
        held = broker.positions[feed].size if feed in broker.positions else 0
        if not held:
            return
        give = broker.sell if held > 0 else broker.buy
        owner = self._cerebro.runningstrats[0]
        order = give(owner, feed, abs(held), exectype=bt.Order.Close, _checksubmit=False)
        broker.pending.remove(order)
        if hasattr(broker, "as_priced"):
            broker.as_priced.add(order.ref)
        filler, broker.p.filler = broker.p.filler, None
        try:
            broker._execute(order, ago=0, price=feed.close[0] * worth)
        finally:
            broker.p.filler = filler
        broker._bracketize(order)
        self.sold[feed._name] = _date(feed)


def _date(feed: Any) -> str:
    found: datetime = bt.num2date(feed.datetime[0])
    return found.date().isoformat()


class _Ended:
    """Feeds that have ended, in a broker's list of what it activates as its work of a bar begins."""

    def __init__(self, sales: FinalSales, broker: Any, ended: Sequence[tuple[float, Any]]) -> None:
        self._sales, self._broker, self._ended = sales, broker, ended

    def activate(self) -> None:
        """Fill orders for the last close, sell the rest, and cancel what can no longer fill."""
        broker = self._broker
        if broker.p.coc:
            self._fill_at_the_close()
        for worth, feed in self._ended:
            self._sales.sell(broker, feed, worth)
        if broker.p.checksubmit:  # which comes next anyway
            broker.check_submitted()
        for order in self._own_orders():
            broker.cancel(order)

    def _fill_at_the_close(self) -> None:
        if self._broker.p.checksubmit:
            self._broker.check_submitted()
        fill_at_last_close(self._broker, self._own_orders())

    def _own_orders(self) -> list[Any]:
        ended = {id(feed) for _, feed in self._ended}
        return [order for order in self._broker.get_orders_open() if id(order.data) in ended]
