"""Round trips: fills matched first in, first out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any

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

    owed = repeat(0.0, len(fills)) if fees is None else fees.tolist()
    closed = _matched(zip(_fills(fills), owed, strict=True), points or {})
    series_of, entered, exited, *rest, bought, sold = zip(*closed, strict=True) if closed else [()] * 13
    table = pa.table(_trade_columns(series_of, rest, arrays.numbers(record["time"])), _trade_schema())
    if "rate" in fills.column_names:
        for name, rates in zip(RATES, (bought, sold), strict=True):
            table = table.append_column(name, arrays.floats(np.array(rates, np.float64)))
    if reasons is not None:
        table = table.append_column("reason", arrays.texts([reasons[number] for number in exited]))
    if extremes is None:
        return table
    for name, prices in zip(EXTREMES, extremes(*(np.array(one, np.int64) for one in (entered, exited))), strict=True):
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
        rows = zip(repeat(0), *columns, repeat(1.0), strict=False)
        worth = dict(zip(group[own].tolist(), points[own].tolist(), strict=True))
        closed = _matched(zip(rows, repeat(0.0), strict=False), worth)
        _, entered, left, _, _, *rest = zip(*closed, strict=True) if closed else [()] * 13
        more, _, _, gained, charged, worths = (np.array(one, np.float64) for one in rest[:6])
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
# Series, numbers of both fills, entry, exit, size, entry price, exit price, gross, costs, paid, rates of both fills: a
# bare tuple, which is not walked for garbage.
_RoundTrip = tuple[Any, int, int, int, int, float, float, float, float, float, float, float, float]
_Fill = tuple[int, Any, float, float, float, float]  # time, series, size, price, costs and rate


def _matched(fills: Iterable[tuple[_Fill, float]], worth: Mapping[Any, float]) -> list[_RoundTrip]:
    """Return the closed round trips of fills, each with the borrow fee in its costs."""
    lots: dict[Any, deque[_Lot]] = {}
    closed: list[_RoundTrip] = []
    for number, ((time, series, size, price, costs, rate), fee) in enumerate(fills):
        left, queue, cost_a_share = size, lots.setdefault(series, deque()), (costs - fee) / abs(size)
        fee_a_share = fee / min(abs(size), abs(sum(lot.size for lot in queue))) if fee and queue else 0.0
        while left and queue and queue[0].size * left < 0:
            lot = queue[0]
            matched = min(abs(lot.size), abs(left)) * (1 if lot.size > 0 else -1)
            multiplier = worth.get(series, 1.0)
            gross = (price * rate - lot.price * lot.rate) * matched * multiplier
            paid = abs(lot.price * lot.rate * matched * multiplier)
            shared = abs(matched) * (lot.cost_a_share + cost_a_share) + abs(matched) * fee_a_share
            closed.append((series, lot.fill, number, lot.time, time, matched, lot.price, price, gross, shared, paid,
                           lot.rate, rate))  # fmt: skip
            lot.size, left = _less(lot.size, matched), _less(left, -matched)
            if not lot.size:
                queue.popleft()
        if left:
            queue.append(_Lot(number, time, left, price, cost_a_share, rate))
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
    for name, rows in arrays.rows_by_text(table["series"].to_pylist()).items():
        place = places.get(Series.parse(name))
        if place is not None:
            found[place] = np.sort(np.append(found[place], rows)) if place in found else rows
    return dict(sorted(found.items()))


@dataclass(slots=True)
class _Lot:
    fill: int
    time: int
    size: float
    price: float
    cost_a_share: float
    rate: float


def _less(size: float, matched: float) -> float:
    left = size - matched
    return left if abs(left) > 1e-9 * abs(matched) else 0.0  # 0.3 - 0.1 - 0.2 shares are none


def _fills(table: pa.Table) -> Iterator[_Fill]:
    """Return time (microseconds), series, size, price, costs and rate of each fill; the rate is 1 if it has none."""
    time, size, price, costs = (arrays.numbers(table[name]).tolist() for name in ("time", "size", "price", "costs"))
    rate = arrays.numbers(table["rate"]).tolist() if "rate" in table.column_names else [1.0] * len(table)
    return zip(time, table["series"].to_pylist(), size, price, costs, rate, strict=True)


def _trade_columns(series: Sequence[str], columns: Sequence[Any], times: np.ndarray) -> dict[str, pa.Array]:
    entries, exits, *amounts = columns
    entry, leave = np.array(entries, np.int64), np.array(exits, np.int64)
    size, entry_price, exit_price, gross, costs, paid = (np.array(one, np.float64) for one in amounts)
    first, last = (np.searchsorted(times, when, side="right") for when in (entry, leave))
    net = gross - costs
    return {
        "series": arrays.texts(list(series)),
        "entry": arrays.stamps(entry.astype("datetime64[us]")),
        "exit": arrays.stamps(leave.astype("datetime64[us]")),
        "size": arrays.floats(size),
        "entry_price": arrays.floats(entry_price),
        "exit_price": arrays.floats(exit_price),
        "gross": arrays.floats(gross),
        "costs": arrays.floats(costs),
        "net": arrays.floats(net),
        "return": arrays.floats(_growth(net, paid)),
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
