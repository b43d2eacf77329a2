"""
`booked_at_close`: the account after each bar, including fills at its close.

Backtrader tries orders as a bar begins: a fill at the previous bar's close reaches its account a bar late.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backtest.market import arrays
from backtest.runs.round_trips import rows_by_place

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.runs.spec import RunSpec


def booked_at_close(
    record: pa.Table, fills: pa.Table, orders: pa.Table, spec: RunSpec, borrowed: np.ndarray | None = None
) -> pa.Table:
    """
    Return the record of a run whose position, cash and equity include the fills at each close.

    Only bars change at whose close an order filled, and later ones in which Backtrader had not booked it yet.

    Args:
        borrowed: the borrow fee in the costs of each fill, which was paid from the cash day by day.
    """
    at_close = filled_at_close(fills, orders)
    if not at_close.any():
        return record
    account = {name: arrays.numbers(record[name]) for name in ("equity", "cash")}
    positions = {}
    margins, points = _margins(spec), spec.points  # of all at once: either goes through all series
    for n, own in rows_by_place(fills, spec.series).items():
        if at_close[own].any():
            fees = np.zeros(len(own)) if borrowed is None else borrowed[own]
            terms = _Terms(points[n], bool(spec.multipliers), margins[n])
            booked = _booked(record, account, n, fills.take(own), at_close[own], terms, fees)
            positions[f"position.{n}"] = booked.pop("position")
            account = booked
    return arrays.with_columns(record, {name: arrays.floats(values) for name, values in (account | positions).items()})


def filled_at_close(fills: pa.Table, orders: pa.Table) -> np.ndarray:
    """Return which fills may have been at a close: of close orders, and of market orders in their own bar."""
    rows = np.searchsorted(arrays.numbers(orders["ref"]), arrays.numbers(fills["ref"]))
    kinds = np.asarray(orders["kind"].to_pylist(), dtype=object)[rows]
    early = arrays.numbers(orders["created"])[rows] == arrays.numbers(fills["time"])
    return np.asarray((kinds == "Close") | (kinds == "Market") & early, bool)


def _booked(
    record: pa.Table,
    account: Mapping[str, np.ndarray],
    n: int,
    fills: pa.Table,
    at_close: np.ndarray,
    terms: _Terms,
    fees: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return equity, cash and position after each row with the fills of the n-th series in them."""
    times, stamps = arrays.numbers(record["time"]), arrays.numbers(fills["time"])
    size, price, costs = (arrays.numbers(fills[name]) for name in ("size", "price", "costs"))
    equity, cash = (np.array(account[name]) for name in ("equity", "cash"))
    held = arrays.numbers(record[f"position.{n}"])
    bought = np.append(0.0, np.cumsum(size))
    filled = bought[np.searchsorted(stamps, times, side="right")]
    late = np.abs(filled - held) > 1e-9 * np.maximum(np.abs(filled), np.abs(held))
    closes, paid = arrays.numbers(record[f"close.{n}"]), costs - fees
    rate = 1.0  # money of the account per unit of margin, which is that of the first bar
    if arrays.has_column(record, f"rate.{n}"):
        rates = arrays.numbers(record[f"rate.{n}"])
        closes, price, rate = closes * rates, price * arrays.numbers(fills["rate"]), float(rates[0])
    first = np.searchsorted(times, stamps)
    booked = _booked_late(at_close, first, filled - held, size)
    each: Iterable[tuple[Any, Any]] = ((fill, _rows_until_booked(late, held, int(first[fill]))) for fill in booked)
    if _are_booked_next(late, held, first[booked]):
        each = [(booked, first[booked])]  # all at once
    for fill, rows in each:
        close = closes[rows]
        gained = size[fill] * (close - price[fill]) * terms.point - paid[fill]
        equity[rows] += gained
        held_before, held_after = (_worth(terms, bought[row], close, rate) for row in (fill, fill + 1))
        cash[rows] += gained - (held_after - held_before)
    return {"equity": equity, "cash": cash, "position": np.where(late, filled, held)}


def _booked_late(at_close: np.ndarray, first: np.ndarray, missing: np.ndarray, size: np.ndarray) -> np.ndarray:
    """
    Return which fills at a close Backtrader booked after their row: of several, the last ones that the row lacks.

    Args:
        first: the row of each fill.
        missing: the part of the position that each row lacks.
    """
    fills = np.flatnonzero(at_close & (first < len(missing)))
    if len(np.unique(first[fills])) == len(fills):
        return np.asarray(fills[np.abs(missing[first[fills]]) > 1e-9 * np.abs(size[fills])])
    found, left = list[int](), {int(row): missing[row] for row in first[fills]}
    for fill in np.flatnonzero(at_close)[::-1].tolist():
        row = int(first[fill])
        if abs(left.get(row, 0.0)) > 1e-9 * abs(size[fill]):
            left[row] -= size[fill]
            found.append(fill)
    return np.array(found[::-1], np.int64)


def _are_booked_next(late: np.ndarray, held: np.ndarray, rows: np.ndarray) -> bool:
    """Return whether each fill is alone in its row, and booked in the next."""
    if len(np.unique(rows)) < len(rows):
        return False
    after = np.minimum(rows + 1, len(late) - 1)
    again = (after > rows) & late[after] & (held[after] == held[rows])
    return bool((late[rows] & ~again).all())


def _rows_until_booked(late: np.ndarray, held: np.ndarray, row: int) -> slice:
    """Return the rows from a fill's to the one before it was booked; none if it was booked at once."""
    end = row
    while end < len(late) and late[end] and held[end] == held[row]:
        end += 1
    return slice(row, end)


class _Terms(NamedTuple):
    """The value of a point of a series, whether positions count with it, and the cash that a contract ties up."""

    point: float
    counted: bool
    margin: float | None


def _worth(terms: _Terms, size: np.ndarray, price: np.ndarray, rate: float) -> np.ndarray:
    """Return the part of equity that is not cash: the value of a position, or the margin of contracts at a rate."""
    if terms.margin is not None:
        return np.broadcast_to(abs(size) * terms.margin * rate, price.shape)
    return np.asarray(size * price * (terms.point if terms.counted else 1.0))


def _margins(spec: RunSpec) -> list[float | None]:
    """Return the cash that a contract of each series ties up; None for series that are paid for in full."""
    by_costs = _margin_in(spec.brokerage.costs)
    return [by_costs if margin is None else margin for margin in spec.margins]


def _margin_in(costs: str) -> float | None:
    if costs.startswith("futures:"):
        return float(costs.split(":")[3])
    start, end = costs.find("{"), costs.rfind("}") + 1
    params = json.loads(costs[start:end]) if end else {}
    return None if params.get("stocklike", not params.get("margin")) else float(params.get("margin") or 1.0)
