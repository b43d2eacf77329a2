"""Round trips: fills matched first in, first out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backtest.market import arrays
from backtest.market.series import Series

if TYPE_CHECKING:
    import pyarrow as pa


# Of the places of the fills by which round trips were entered and left: the lowest and the highest price of each.
Extremes = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def round_trips(
    fills: pa.Table,
    record: pa.Table,
    points: Mapping[str, float] | None = None,
    extremes: Extremes | None = None,
    fees: np.ndarray | None = None,
    reasons: Sequence[str] | None = None,
) -> pa.Table:
    """
    Return the closed round trips of the fills, matched first in, first out.

    Columns: series, entry and exit (times), size (signed: negative is short), entry_price, exit_price, gross and net
    (money), costs (the share of both fills' costs), return (net over the entry's value), bars (held, counted on the
    run's clock) and, if `extremes` are known, lowest and highest (price while it was held, by lows and highs of bars).
    If fills have a `rate`, money of the account per unit of price, entry_rate and exit_rate are theirs. Open positions
    at the end are not round trips. `points` gives the value of a point of each series, by its name in the fills, 1 if
    not given; `fees` the borrow fee in the costs of each fill, which belongs only to the part that closes a position;
    `reasons` the reason of each fill, of which those of exits become a column.
    """
    import pyarrow as pa

    found = _columns_of(fills, points or {}, fees)
    table = pa.table(_trade_columns(found, arrays.numbers(record["time"])), _trade_schema())
    if "rate" in fills.column_names:
        for name, rates in zip(RATES, (found.entry_rate, found.exit_rate), strict=True):
            table = table.append_column(name, arrays.floats(rates))
    if reasons is not None:
        table = table.append_column("reason", arrays.texts([reasons[number] for number in found.exits.tolist()]))
    if extremes is None:
        return table
    for name, prices in zip(EXTREMES, extremes(found.entries, found.exits), strict=True):
        table = table.append_column(name, arrays.floats(prices))
    return table


@dataclass(frozen=True, slots=True, eq=False)
class Trips:
    """Closed round trips as arrays, in the order of the fills that closed them."""

    entries: np.ndarray  # places of the fills by which they were entered
    exits: np.ndarray
    size: np.ndarray  # signed
    net: np.ndarray  # money
    growth: np.ndarray  # net over the value at entry


def trips_of(group: np.ndarray, size: np.ndarray, price: np.ndarray, costs: np.ndarray, points: np.ndarray) -> Trips:
    """
    Return the round trips of many runs' fills, equal to those of `round_trips` to the last bit.

    Args:
        group: a number for each run and series: only fills with the same number are matched, in the given order.
        points: the value of a point, for each fill.
    """
    by_group = np.argsort(group, kind="stable")
    groups, sizes = group[by_group], size[by_group]
    begins = np.flatnonzero(np.append(True, groups[1:] != groups[:-1])) if len(groups) else np.zeros(0, np.int64)
    in_group = np.arange(len(groups)) - np.repeat(begins, np.diff(np.append(begins, len(groups))))
    leaves = np.flatnonzero(in_group % 2)  # where each entry is closed as a whole before the next
    several = np.unique(groups[leaves[sizes[leaves] != -sizes[leaves - 1]]])
    leaves = leaves[~np.isin(groups[leaves], several)]
    entries, exits = by_group[leaves - 1], by_group[leaves]
    matched, owed = size[entries], costs / np.abs(size)
    gross = (price[exits] - price[entries]) * matched * points[exits]
    shared = np.abs(matched) * (owed[entries] + owed[exits])
    paid = np.abs(price[entries] * matched * points[exits])
    if len(several):
        own = np.flatnonzero(np.isin(group, several))
        columns = (one[own].tolist() for one in (group, size, price, costs))
        rows = zip(*columns, repeat(1.0), strict=False)
        worth = dict(zip(group[own].tolist(), points[own].tolist(), strict=True))
        closed = _matched(zip(rows, repeat(0.0), strict=False), worth)
        _, entered, left, more, gained, charged, worths = zip(*closed, strict=True) if closed else [()] * 7
        entries = np.append(entries, own[np.array(entered, np.int64)])
        exits = np.append(exits, own[np.array(left, np.int64)])
        matched, gross, shared, paid = (
            np.append(*pair) for pair in ((matched, more), (gross, gained), (shared, charged), (paid, worths))
        )
    by_exit = np.argsort(exits, kind="stable")
    net = (gross - shared)[by_exit]
    return Trips(entries[by_exit], exits[by_exit], matched[by_exit], net, _growth(net, paid[by_exit]))


CALL = "margin call"  # how the reason of an order begins that the account gave itself
EXTREMES = ("lowest", "highest")
RATES = ("entry_rate", "exit_rate")
# Series, numbers of both fills, size, gross, costs, paid: a bare tuple, which is not walked for garbage.
_RoundTrip = tuple[Any, int, int, float, float, float, float]
_Fill = tuple[Any, float, float, float, float]  # series, size, price, costs and rate
_MOST_WHOLE = 1e9  # shares; of more, `_less` takes one for none


class _Columns(NamedTuple):
    """Closed round trips as columns, in the order of the fills that closed them."""

    series: np.ndarray  # numbers of names
    names: list[str]
    entries: np.ndarray  # places of the fills by which they were entered
    exits: np.ndarray
    entry: np.ndarray  # microseconds
    exit: np.ndarray
    size: np.ndarray  # signed
    entry_price: np.ndarray
    exit_price: np.ndarray
    gross: np.ndarray
    costs: np.ndarray
    paid: np.ndarray
    entry_rate: np.ndarray
    exit_rate: np.ndarray


def _columns_of(fills: pa.Table, points: Mapping[str, float], fees: np.ndarray | None) -> _Columns:
    """Return the closed round trips of fills; `fees` are the borrow fees in their costs."""
    time, size, price, costs = (arrays.numbers(fills[name]) for name in ("time", "size", "price", "costs"))
    rate = arrays.numbers(fills["rate"]) if "rate" in fills.column_names else np.ones(len(fills))
    group, names = arrays.numbered_column(fills["series"])
    pairs = _matched_whole(group, size) if fees is None else None
    if pairs is None:
        rows = zip(fills["series"].to_pylist(), *(one.tolist() for one in (size, price, costs, rate)), strict=True)
        owed_fees = repeat(0.0, len(fills)) if fees is None else fees.tolist()
        closed = _matched(zip(rows, owed_fees, strict=True), points)
        _, *numbers = zip(*closed, strict=True) if closed else [()] * 7
        entries, exits = (np.array(one, np.int64) for one in numbers[:2])
        matched, gross, shared, paid = (np.array(one, np.float64) for one in numbers[2:])
    else:
        entries, exits, matched = pairs
        worth = np.array([points.get(name, 1.0) for name in names], np.float64)[group[exits]]
        shares, owed = np.abs(matched), costs / np.abs(size)
        gross = (price[exits] * rate[exits] - price[entries] * rate[entries]) * matched * worth
        paid = np.abs(price[entries] * rate[entries] * matched * worth)
        shared = shares * (owed[entries] + owed[exits]) + shares * 0.0  # as `_matched` adds fees, none here
    return _Columns(
        group[exits], names, entries, exits, time[entries], time[exits], matched, price[entries], price[exits], gross,
        shared, paid, rate[entries], rate[exits],
    )  # fmt: skip


def _matched_whole(group: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """
    Return the places of both fills, and the signed size, of each round trip: the pairs of `_matched`, all at once.

    Of each group the n-th share that is given back is the n-th that was taken, since a turn leaves none. That is exact
    for whole shares; None for parts of shares.

    Args:
        group: the number of each fill's group: only fills of one group are matched, in the given order.
    """
    if not len(size):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    if not (np.abs(size) < _MOST_WHOLE).all() or (size != np.rint(size)).any() or not size.all():
        return None
    by_group = np.argsort(group, kind="stable")
    groups, sizes = group[by_group], size[by_group].astype(np.int64)
    begins = np.append(True, groups[1:] != groups[:-1])
    of_group, total = np.cumsum(begins) - 1, np.cumsum(sizes)
    held = total - (total - sizes)[begins][of_group]  # after each fill
    if np.abs(held).max() >= _MOST_WHOLE:
        return None
    before = held - sizes
    given = np.where(before * sizes < 0, np.minimum(np.abs(before), np.abs(sizes)), 0)
    taken = np.abs(sizes) - given
    ends_of_taken = np.cumsum(taken)  # shares that were taken are numbered through all groups
    ends = np.cumsum(given)
    ends += ((ends_of_taken - taken) - (ends - given))[begins][of_group]
    entries, exits = np.flatnonzero(taken), np.flatnonzero(given)
    upto, last = ends_of_taken[entries], ends[exits]
    first = last - given[exits]
    lots = np.searchsorted(upto, first, side="right")
    counts = np.searchsorted(upto, last, side="left") - lots + 1
    of_exit = np.repeat(np.arange(len(exits)), counts)
    lot = np.arange(len(of_exit)) - np.repeat(np.cumsum(counts) - counts, counts) + lots[of_exit]
    matched = np.minimum(upto[lot], last[of_exit]) - np.maximum((upto - taken[entries])[lot], first[of_exit])
    signed = (matched * np.sign(sizes[entries[lot]])).astype(np.float64)
    entered, left = by_group[entries[lot]], by_group[exits[of_exit]]
    in_order = np.argsort(left, kind="stable")
    return entered[in_order], left[in_order], signed[in_order]


def _matched(fills: Iterable[tuple[_Fill, float]], worth: Mapping[Any, float]) -> list[_RoundTrip]:
    """Return the closed round trips of fills, each with the borrow fee in its costs."""
    lots: dict[Any, deque[_Lot]] = {}
    closed: list[_RoundTrip] = []
    for number, ((series, size, price, costs, rate), fee) in enumerate(fills):
        left, queue, cost_a_share = size, lots.setdefault(series, deque()), (costs - fee) / abs(size)
        fee_a_share = fee / min(abs(size), abs(sum(lot.size for lot in queue))) if fee and queue else 0.0
        while left and queue and queue[0].size * left < 0:
            lot = queue[0]
            matched = min(abs(lot.size), abs(left)) * (1 if lot.size > 0 else -1)
            multiplier = worth.get(series, 1.0)
            gross = (price * rate - lot.price * lot.rate) * matched * multiplier
            paid = abs(lot.price * lot.rate * matched * multiplier)
            shared = abs(matched) * (lot.cost_a_share + cost_a_share) + abs(matched) * fee_a_share
            closed.append((series, lot.fill, number, matched, gross, shared, paid))
            lot.size, left = _less(lot.size, matched), _less(left, -matched)
            if not lot.size:
                queue.popleft()
        if left:
            queue.append(_Lot(number, left, price, cost_a_share, rate))
    return closed


def extremes_between(choose: Any, prices: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """
    Return the lowest or highest price from each start until before its end; NaN if there is none.

    `choose` is np.fmin or np.fmax.
    """
    if not len(starts):
        return np.array([])
    rows = np.column_stack([starts, np.maximum(starts, ends)]).ravel()
    found = np.asarray(choose.reduceat(prices, np.minimum(rows, len(prices) - 1))[::2])
    # Such a row cannot be past the end, so that the last price is not in what lasts until then.
    found = np.where(ends < len(prices), found, choose(found, prices[-1]))
    return np.where(ends > starts, found, np.nan)


def rows_by_place(table: pa.Table, series: Sequence[str]) -> dict[int, np.ndarray]:
    """
    Return the rows of fills, trades or orders for each series, by its position among the series.

    The names in the table may be short or long; rows of other series are omitted.
    """
    places = {Series.parse(key): place for place, key in enumerate(series)}
    found: dict[int, np.ndarray] = {}
    codes, names = arrays.numbered_column(table["series"])
    for name, rows in zip(names, arrays.rows_by_number(codes, len(names)), strict=True):
        place = places.get(Series.parse(name))
        if place is not None:
            found[place] = np.sort(np.append(found[place], rows)) if place in found else rows
    return dict(sorted(found.items()))


@dataclass(slots=True)
class _Lot:
    fill: int
    size: float
    price: float
    cost_a_share: float
    rate: float


def _less(size: float, matched: float) -> float:
    left = size - matched
    return left if abs(left) > 1e-9 * abs(matched) else 0.0  # 0.3 - 0.1 - 0.2 shares are none


def _trade_columns(found: _Columns, times: np.ndarray) -> dict[str, pa.Array]:
    first, last = (np.searchsorted(times, when, side="right") for when in (found.entry, found.exit))
    net = found.gross - found.costs
    return {
        "series": arrays.texts_by_number(found.series, found.names),
        "entry": arrays.stamps(found.entry.astype("datetime64[us]")),
        "exit": arrays.stamps(found.exit.astype("datetime64[us]")),
        "size": arrays.floats(found.size),
        "entry_price": arrays.floats(found.entry_price),
        "exit_price": arrays.floats(found.exit_price),
        "gross": arrays.floats(found.gross),
        "costs": arrays.floats(found.costs),
        "net": arrays.floats(net),
        "return": arrays.floats(_growth(net, found.paid)),
        "bars": arrays.integers(last - first),
    }


def _growth(net: np.ndarray, paid: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(net, paid, out=np.full(len(net), np.nan), where=paid != 0))


def _trade_schema() -> pa.Schema:
    import pyarrow as pa

    stamp, number = pa.timestamp("us", tz="UTC"), pa.float64()
    columns = {"series": pa.string(), "entry": stamp, "exit": stamp, "size": number, "entry_price": number,
               "exit_price": number, "gross": number, "costs": number, "net": number, "return": number,
               "bars": pa.int64()}  # fmt: skip
    return pa.schema(columns)
