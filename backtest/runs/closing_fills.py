"""
`booked_at_close`: the account after each bar, including fills at its close.

Backtrader tries orders as a bar begins: a fill at the previous bar's close reaches its account a bar late.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    positions: dict[str, np.ndarray] = {}
    margins, points = _margins(spec), spec.points  # of all at once: either goes through all series
    own_fills = {n: own for n, own in rows_by_place(fills, spec.series).items() if at_close[own].any()}
    terms = {n: _Terms(points[n], bool(spec.multipliers), margins[n]) for n in own_fills}
    paid = arrays.numbers(fills["costs"]) - (0.0 if borrowed is None else borrowed)
    for some in _in_parts(list(own_fills), max(1, _AT_ONCE // len(record))):
        if (together := _booked_together(record, account, fills, at_close, paid, own_fills, some, terms)) is not None:
            account, more = together
            positions |= more
            continue
        for n in some:
            own = own_fills[n]
            booked = _booked(record, account, n, fills.take(own), at_close[own], terms[n], paid[own])
            positions[f"position.{n}"] = booked.pop("position")
            account = booked
    return arrays.with_columns(record, {name: arrays.floats(values) for name, values in (account | positions).items()})


_AT_ONCE = 2**18  # rows of all series that are computed at once: as many as fit into the processor's cache


def _in_parts(numbers: list[int], size: int) -> Iterator[list[int]]:
    return (numbers[start : start + size] for start in range(0, len(numbers), size))


def _booked_together(
    record: pa.Table,
    account: Mapping[str, np.ndarray],
    fills: pa.Table,
    at_close: np.ndarray,
    paid: np.ndarray,
    rows_of: Mapping[int, np.ndarray],
    numbers: Sequence[int],
    terms: Mapping[int, _Terms],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]] | None:
    """
    Return what `_booked` makes of the account and the positions for each of some series, one after another.

    None if it takes a look at each: fills that share a row or were booked later than in the next one, contracts that
    tie up a margin, prices that are converted. And for a single one, whose rows may be millions.
    """
    if len(numbers) == 1 or "rate" in fills.column_names or any(terms[n].margin is not None for n in numbers):
        return None
    rows, counts = np.concatenate([rows_of[n] for n in numbers]), np.array([len(rows_of[n]) for n in numbers])
    place = np.repeat(np.arange(len(numbers)), counts)
    times, stamps = arrays.numbers(record["time"]), arrays.numbers(fills["time"])[rows]
    size, price = (arrays.numbers(fills[name])[rows] for name in ("size", "price"))
    first = np.searchsorted(times, stamps)
    # Of each series nothing, then what was bought up to each fill, added up in the order in which `_booked` does.
    bought = np.concatenate([np.append(0.0, np.cumsum(part)) for part in np.split(size, np.cumsum(counts)[:-1])])
    begins = np.cumsum(counts + 1) - (counts + 1)
    inside = first < len(times)
    steps = np.zeros((len(numbers), len(times)), np.int64)
    np.add.at(steps, (place[inside], first[inside]), 1)
    filled = bought[np.cumsum(steps, axis=1) + begins[:, None]]
    held = np.array([arrays.numbers(record[f"position.{n}"]) for n in numbers])
    late = np.abs(filled - held) > 1e-9 * np.maximum(np.abs(filled), np.abs(held))
    own = np.flatnonzero(at_close[rows] & inside)
    if len(np.unique(place[own] * len(times) + first[own])) < len(own):
        return None
    own = own[np.abs((filled - held)[place[own], first[own]]) > 1e-9 * np.abs(size[own])]
    at = place[own], first[own]
    after = place[own], np.minimum(first[own] + 1, len(times) - 1)
    again = (after[1] > first[own]) & late[after] & (held[after] == held[at])
    if not (late[at] & ~again).all():
        return None
    rows_at = np.split(first[own], np.searchsorted(place[own], np.arange(1, len(numbers))))
    each = zip(numbers, rows_at, strict=True)
    closes = np.concatenate([arrays.numbers(record[f"close.{n}"])[some] for n, some in each])
    point = np.array([terms[n].point for n in numbers])[place[own]]
    counted = point if terms[numbers[0]].counted else 1.0
    before = begins[place[own]] + own - (np.cumsum(counts) - counts)[place[own]]
    gained = size[own] * (closes - price[own]) * point - paid[rows[own]]
    equity, cash = (np.array(account[name]) for name in ("equity", "cash"))
    np.add.at(equity, first[own], gained)  # in the order of the series, as one after another
    np.add.at(cash, first[own], gained - (bought[before + 1] * closes * counted - bought[before] * closes * counted))
    found = np.where(late, filled, held)
    return {"equity": equity, "cash": cash}, {f"position.{n}": found[k] for k, n in enumerate(numbers)}


def filled_at_close(fills: pa.Table, orders: pa.Table) -> np.ndarray:
    """Return which fills may have been at a close: of close orders, and of market orders in their own bar."""
    rows = np.searchsorted(arrays.numbers(orders["ref"]), arrays.numbers(fills["ref"]))
    closing, market = (arrays.marked(orders["kind"], kind)[rows] for kind in ("Close", "Market"))
    early = arrays.numbers(orders["created"])[rows] == arrays.numbers(fills["time"])
    return np.asarray(closing | market & early, bool)


def _booked(
    record: pa.Table,
    account: Mapping[str, np.ndarray],
    n: int,
    fills: pa.Table,
    at_close: np.ndarray,
    terms: _Terms,
    paid: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return equity, cash and position after each row with the fills of the n-th series in them."""
    times, stamps = arrays.numbers(record["time"]), arrays.numbers(fills["time"])
    size, price = (arrays.numbers(fills[name]) for name in ("size", "price"))
    equity, cash = (np.array(account[name]) for name in ("equity", "cash"))
    held = arrays.numbers(record[f"position.{n}"])
    bought = np.append(0.0, np.cumsum(size))
    filled = bought[np.searchsorted(stamps, times, side="right")]
    late = np.abs(filled - held) > 1e-9 * np.maximum(np.abs(filled), np.abs(held))
    closes = arrays.numbers(record[f"close.{n}"])
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
