"""When within its bar an order filled, and so which prices count for a round trip: `extremes_of`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backtest.engine.recorder import times_of_stamps
from backtest.market import arrays
from backtest.market.series import Series
from backtest.runs.round_trips import Extremes, extremes_between

if TYPE_CHECKING:
    import pyarrow as pa

_AT_OPEN, _WITHIN, _AT_CLOSE = range(3)  # when in its bar an order was filled


def extremes_of(
    fills: pa.Table, orders: pa.Table, feeds: Sequence[Any], series: list[Series], at_close: bool
) -> Extremes:
    """
    Return the data for the lowest and the highest price of round trips.

    They include the prices of both fills and of all bars between them. An entry at the open includes all of its own
    bar, an entry at the close none of it; for exits it is the reverse. A fill within its bar, by a limit or a stop,
    includes only the close after an entry, or the open before an exit, since the order of the bar's low and high is
    unknown.

    Args:
        feeds: the feeds of the run, in the order of `series`.
        at_close: whether market orders fill at the close of the bar in which they are submitted.
    """
    number_of = {feed._name: number for number, feed in enumerate(feeds)}
    codes, names = arrays.numbered_column(fills["series"])
    numbers = np.array([number_of[name] for name in names], np.int64)[codes]
    time, price = (arrays.numbers(fills[name]) for name in ("time", "price"))
    filled = Filled(time, numbers, price, _phases(fills, orders, at_close))
    return partial(extremes_between_fills, filled, feeds, series)


class Filled(NamedTuple):
    """Fills as arrays: when, of which feed, at what price, and when in its bar; of one run or of several."""

    time: np.ndarray  # microseconds
    feed: np.ndarray  # its number
    price: np.ndarray
    phase: np.ndarray


def phases_without_closes(market: np.ndarray) -> np.ndarray:
    """Return when within its bar each fill was, if none was at a close; `market` marks market orders."""
    return np.where(market, _AT_OPEN, _WITHIN)


def _phases(fills: pa.Table, orders: pa.Table, at_close: bool) -> np.ndarray:
    """Return when in its bar each fill was."""
    rows = np.searchsorted(arrays.numbers(orders["ref"]), arrays.numbers(fills["ref"]))
    at_market, closing = (arrays.marked(orders["kind"], kind)[rows] for kind in ("Market", "Close"))
    market = np.full(len(rows), _AT_OPEN)
    if at_close:  # except those that wait for another order, or that exclude it
        market[arrays.numbers(orders["created"])[rows] == arrays.numbers(fills["time"])] = _AT_CLOSE
    return np.where(at_market, market, np.where(closing, _AT_CLOSE, _WITHIN))


def extremes_between_fills(
    filled: Filled, feeds: Sequence[Any], series: list[Series], entries: np.ndarray, exits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest price of round trips, by the positions of their fills: see `extremes_of`."""
    prices, times, phases = filled.price, filled.time, filled.phase
    by_dates = all(one.size.daily for one in series)
    lowest = np.minimum(prices[entries], prices[exits])
    highest = np.maximum(prices[entries], prices[exits])
    own_trips = enumerate(arrays.rows_by_number(filled.feed[entries], len(feeds)))
    traded = [(feeds[number], own) for number, own in own_trips if len(own)]
    size = max(1, _AT_ONCE // max((feed.buflen() for feed, _ in traded), default=1))
    for start in range(0, len(traded), size):
        some, trips = zip(*traded[start : start + size], strict=True)
        begins = np.cumsum([0, *(feed.buflen() for feed in some[:-1])])
        base, own = np.repeat(begins, list(map(len, trips))), np.concatenate(trips)
        first, last = entries[own], exits[own]
        entered, left = _rows_of_fills(some, [(times[entries[one]], times[exits[one]]) for one in trips], by_dates)
        entered, left, opens, closes = entered + base, left + base, _joined(some, "open"), _joined(some, "close")
        whole = (phases[first] == _AT_OPEN) | ((phases[first] == _WITHIN) & (prices[first] == opens[entered]))
        starts, ends = entered + ~whole, left + (phases[last] == _AT_CLOSE)
        seen = [
            np.where((phases[first] == _WITHIN) & (ends > entered), closes[entered], np.nan),
            np.where((phases[last] == _WITHIN) & (left >= starts), opens[left], np.nan),
        ]
        del opens, closes
        for choose, found, line in ((np.fmin, lowest, "low"), (np.fmax, highest, "high")):
            between = extremes_between(choose, _joined(some, line), starts, ends)
            found[own] = choose.reduce([found[own], between, *seen])
    return lowest, highest


_AT_ONCE = 2**18  # bars of feeds that are looked at together: as many as fit into the processor's cache


def _rows_of_fills(
    feeds: Sequence[Any], fills: Sequence[tuple[np.ndarray, np.ndarray]], by_dates: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows in its feed of each round trip's entry and exit, by their times."""
    rows, before = [], np.zeros(0)
    closes = np.zeros(0, np.int64)
    for feed, (entered, left) in zip(feeds, fills, strict=True):
        stamps = _line(feed, "datetime")
        if not np.array_equal(stamps, before):  # most feeds have the stamps of the one before
            closes, before = times_of_stamps(stamps, by_dates).view(np.int64), stamps
        rows.append((np.searchsorted(closes, entered), np.searchsorted(closes, left)))
    entries, exits = (np.concatenate(some) for some in zip(*rows, strict=True))
    return entries, exits


def _joined(feeds: Sequence[Any], name: str) -> np.ndarray:
    """Return a line of feeds, one after another, with NaN after the last; that of a single feed is not copied."""
    lines = [_line(feed, name) for feed in feeds]
    return lines[0] if len(lines) == 1 else np.concatenate([*lines, [np.nan]])


def _line(feed: Any, name: str) -> np.ndarray:
    """Return a line of a feed, without the slots that a run over several clocks appends to it."""
    return np.frombuffer(getattr(feed.lines, name).array)[: feed.buflen()]
