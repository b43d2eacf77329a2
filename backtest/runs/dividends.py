"""The dividends in a run's record: a column of amounts for each series, and what its positions received."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from backtest.market import arrays
from backtest.market.series import Series
from backtest.runs.round_trips import RATES

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.runs.spec import RunSpec

BESIDE = "dividend.benchmark"


def dividend_column(n: int) -> str:
    """Return the name of the column with the dividend per share of the n-th series."""
    return f"dividend.{n}"


def with_amounts(
    record: pa.Table,
    stamps: np.ndarray,
    paid: Sequence[tuple[np.ndarray, np.ndarray]],
    beside: tuple[np.ndarray, np.ndarray],
) -> pa.Table:
    """
    Return a record with the dividends per share of each series, paid to positions held after the previous row.

    Args:
        stamps: the timestamps of the rows.
        paid: for each series the timestamps of its ex-dividend bars, and the amounts.
        beside: ex-dates and amounts of the benchmark, which count from the first row with its price on.
    """
    summed = [_summed(len(record), np.searchsorted(stamps, due), amounts) for due, amounts in paid]
    record = arrays.with_columns(record, {dividend_column(n): arrays.floats(one) for n, one in enumerate(summed)})
    if "benchmark" in record.column_names:
        priced = np.flatnonzero(np.isfinite(arrays.numbers(record["benchmark"])))
        sessions = arrays.numbers(record["session"]).astype("datetime64[D]")[priced]
        rows = np.append(priced, len(record))[np.searchsorted(sessions, beside[0])]
        record = record.append_column(BESIDE, arrays.floats(_summed(len(record), rows, beside[1])))
    return record


def with_bookings(record: pa.Table, stamps: np.ndarray, booked: Sequence[tuple[float, float]]) -> pa.Table:
    """Return a record with the interest booked with each row."""
    due, money = (np.array([one[n] for one in booked]) for n in (0, 1))
    return record.append_column("interest", arrays.floats(_summed(len(record), np.searchsorted(stamps, due), money)))


def _summed(length: int, rows: np.ndarray, amounts: np.ndarray) -> np.ndarray:
    found = np.zeros(length)
    within = rows < length
    np.add.at(found, rows[within], amounts[within])
    return found


def has_dividends(record: pa.Table) -> bool:
    """Return whether a run includes dividends, even if none of its series paid any."""
    return dividend_column(0) in record.column_names


def dividends_received(record: pa.Table, spec: RunSpec) -> np.ndarray:
    """
    Return the money that positions in each series received with each row, negative if short, shape (rows, n).

    Withholding tax is deducted.
    """
    columns = []
    for n in range(len(spec.series)):
        held = np.append(0.0, arrays.numbers(record[f"position.{n}"])[:-1])
        columns.append(held * arrays.numbers(record[dividend_column(n)]) * _kept(held, spec))
    return np.column_stack(columns)


def dividends_while_held(
    record: pa.Table,
    spec: RunSpec,
    names: Sequence[str],
    entries: np.ndarray,
    exits: np.ndarray | None,
    sizes: np.ndarray,
) -> np.ndarray:
    """
    Return the money that lots received in dividends.

    Args:
        names: the series of each lot.
        entries: the time of each entry in microseconds; an entry with a row is too late for the row's dividend.
        exits: the time of each exit; None for lots that are still open.
        sizes: the size of each lot, negative if it is short.
    """
    times, found = arrays.numbers(record["time"]), np.zeros(len(sizes))
    numbers = {Series.parse(key): n for n, key in enumerate(spec.series)}
    for name, lots in arrays.rows_by_text(names).items():
        n = numbers[Series.parse(name)]
        paid = np.append(0.0, np.cumsum(arrays.numbers(record[dividend_column(n)])))
        first = np.searchsorted(times, entries[lots], side="right")
        last = len(times) if exits is None else np.searchsorted(times, exits[lots], side="right")
        found[lots] = sizes[lots] * (paid[last] - paid[first]) * _kept(sizes[lots], spec)
    return found


def _kept(held: np.ndarray, spec: RunSpec) -> np.ndarray:
    return np.where(held > 0, 1 - spec.brokerage.withholding, 1.0)


def with_dividends_of_trips(trades: pa.Table, record: pa.Table, spec: RunSpec) -> pa.Table:
    """Return round trips with the dividends of each, as a column and in the net result."""
    entries, exits, sizes = (arrays.numbers(trades[name]) for name in ("entry", "exit", "size"))
    money = dividends_while_held(record, spec, trades["series"].to_pylist(), entries, exits, sizes)
    net = arrays.numbers(trades["net"]) + money
    points = spec.points_by_name
    worth = np.array([points.get(name, 1.0) for name in trades["series"].to_pylist()])
    paid = np.abs(arrays.numbers(trades["entry_price"]) * sizes) * worth
    if RATES[0] in trades.column_names:
        paid *= arrays.numbers(trades[RATES[0]])
    growth = np.divide(net, paid, out=np.full(len(net), np.nan), where=paid != 0)
    for name, values in (("net", net), ("return", growth)):
        trades = trades.set_column(trades.column_names.index(name), name, arrays.floats(values))
    return trades.append_column("dividends", arrays.floats(money))
