"""Round trips: fills matched first in, first out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from backtest.market import arrays

if TYPE_CHECKING:
    import pyarrow as pa


def round_trips(fills: pa.Table, record: pa.Table, multiplier: float = 1.0) -> pa.Table:
    """
    Return the closed round trips of the fills, matched first in, first out.

    Columns: series, entry and exit (times), size (signed: negative is short), entry_price, exit_price, gross and
    net (money), costs (the share of both fills' costs), return (net over the entry's value), bars (held, counted on
    the run's clock). What is still open at the end is no round trip. `multiplier` is what a point is worth.
    """
    import pyarrow as pa

    times = arrays.numbers(record["time"])
    lots: dict[str, deque[_Lot]] = {}
    closed: list[_RoundTrip] = []
    for fill in _fills(fills):
        left, queue = fill.size, lots.setdefault(fill.series, deque())
        while left and queue and queue[0].size * left < 0:
            lot = queue[0]
            matched = min(abs(lot.size), abs(left)) * (1 if lot.size > 0 else -1)
            closed.append(_round_trip(lot, matched, fill, multiplier))
            lot.size, left = _less(lot.size, matched), _less(left, -matched)
            if not lot.size:
                queue.popleft()
        if left:
            queue.append(_Lot(fill.time, left, fill.price, fill.costs / abs(fill.size)))
    return pa.table(_trade_columns(closed, times), _trade_schema())


@dataclass(slots=True)
class _Fill:
    time: int  # microseconds
    series: str
    size: float
    price: float
    costs: float


@dataclass(slots=True)
class _Lot:
    time: int
    size: float
    price: float
    cost_a_share: float


def _less(size: float, matched: float) -> float:
    left = size - matched
    return left if abs(left) > 1e-9 * abs(matched) else 0.0  # 0.3 - 0.1 - 0.2 shares are none


@dataclass(slots=True)
class _RoundTrip:
    lot: _Lot
    fill: _Fill
    size: float
    paid: float
    gross: float
    costs: float


def _fills(table: pa.Table) -> list[_Fill]:
    names = ("time", "size", "price", "costs")
    time, size, price, costs = (arrays.numbers(table[name]).tolist() for name in names)
    rows = zip(time, table["series"].to_pylist(), size, price, costs, strict=True)
    return [_Fill(*row) for row in rows]


def _round_trip(lot: _Lot, size: float, fill: _Fill, multiplier: float) -> _RoundTrip:
    gross = (fill.price - lot.price) * size * multiplier
    costs = abs(size) * (lot.cost_a_share + fill.costs / abs(fill.size))
    return _RoundTrip(replace(lot), fill, size, abs(lot.price * size * multiplier), gross, costs)


def _trade_columns(closed: list[_RoundTrip], times: np.ndarray) -> dict[str, pa.Array]:
    entry = np.array([trip.lot.time for trip in closed], np.int64)
    leave = np.array([trip.fill.time for trip in closed], np.int64)
    first, last = (np.searchsorted(times, when, side="right") for when in (entry, leave))
    return {
        "series": arrays.texts([trip.fill.series for trip in closed]),
        "entry": arrays.stamps(entry.astype("datetime64[us]")),
        "exit": arrays.stamps(leave.astype("datetime64[us]")),
        "size": arrays.floats([trip.size for trip in closed]),
        "entry_price": arrays.floats([trip.lot.price for trip in closed]),
        "exit_price": arrays.floats([trip.fill.price for trip in closed]),
        "gross": arrays.floats([trip.gross for trip in closed]),
        "costs": arrays.floats([trip.costs for trip in closed]),
        "net": arrays.floats([trip.gross - trip.costs for trip in closed]),
        "return": arrays.floats([(trip.gross - trip.costs) / trip.paid for trip in closed]),
        "bars": arrays.integers(last - first),
    }


def _trade_schema() -> pa.Schema:
    import pyarrow as pa

    stamp, number = pa.timestamp("us", tz="UTC"), pa.float64()
    columns = {"series": pa.string(), "entry": stamp, "exit": stamp, "size": number, "entry_price": number,
               "exit_price": number, "gross": number, "costs": number, "net": number, "return": number,
               "bars": pa.int64()}  # fmt: skip
    return pa.schema(columns)
