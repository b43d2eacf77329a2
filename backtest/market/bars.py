"""
The columns and rules of a bar.

A bar is stamped with its opening in UTC; a daily or longer bar with the date of its session at 00:00 UTC.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from backtest.errors import BadBars
from backtest.market.series import Series

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("time", "open", "high", "low", "close", "volume", "average", "trades")

"""In place of an expiry: the continuous future that we make from stored contracts; IB's own is of the kind CONTFUT."""


"""What may follow an instrument's words as +KEY=VALUE, by key, in the order of the canonical spelling."""


# --- as people write them


def schema() -> pa.Schema:
    """Return the schema of a table of bars; null means that the vendor has no such number."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
            *(pa.field(name, pa.float64(), nullable=False) for name in ("open", "high", "low", "close")),
            pa.field("volume", pa.float64()),
            pa.field("average", pa.float64()),
            pa.field("trades", pa.int64()),
        ]
    )


def table_of(rows: Iterable[tuple[object, ...]]) -> pa.Table:
    """Return a table of bars from rows in the order of COLUMNS; times are aware datetimes."""
    import pyarrow as pa

    columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, schema(), strict=True)],
        schema=schema(),
    )


def check_bars(bars: pa.Table, series: Series) -> None:
    """
    Raise BadBars unless the table keeps the rules of a bar; at most three offending bars are named.

    The rules: our schema, times strictly increasing, prices finite, low <= open, close <= high, volume not
    negative, daily bars stamped at 00:00 UTC. Prices need not be positive (crude oil, spreads).
    """
    if not bars.schema.equals(schema()):
        raise BadBars(f"bars of {series.short} have columns {_columns(bars.schema)}; expected {_columns(schema())}")
    problems = [f"{problem} at {_named(bars, rows)}" for problem, rows in _broken_rules(bars, series) if rows]
    if problems:
        raise BadBars(f"bars of {series.short} break the rules of a bar: {'; '.join(problems)}")


def rows_digest(bars: pa.Table) -> str:
    """Return the SHA-256 of the values, column by column in schema order, whatever the file that held them."""
    from backtest.market import arrays

    digest = hashlib.sha256()
    for column in bars.columns:
        for chunk in column.chunks:
            digest.update(arrays.valid(chunk).data)
        digest.update(arrays.numbers(column, missing=0).data)
    return digest.hexdigest()


def _broken_rules(bars: pa.Table, series: Series) -> Iterator[tuple[str, list[int]]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    def where(mask: pa.ChunkedArray) -> list[int]:
        return [i for i, broken in enumerate(mask.to_pylist()) if broken] if pc.any(mask).as_py() else []

    for name in COLUMNS[:5]:
        yield f"{name} missing", where(pc.is_null(bars[name]))
    times = pc.cast(bars["time"], pa.int64())
    if len(times) > 1:
        steps = pc.subtract(times.slice(1), times.slice(0, len(times) - 1))
        yield "time not after the one before", [i + 1 for i in where(pc.less_equal(steps, 0))]
    if series.size.daily:
        day = 86_400_000_000
        off = pc.not_equal(pc.multiply(pc.divide(times, day), day), times)
        yield "a daily bar not at 00:00 UTC", where(off)
    for name in ("open", "high", "low", "close", "volume", "average"):
        yield f"{name} not finite", where(pc.invert(pc.fill_null(pc.is_finite(bars[name]), True)))
    body_high = pc.max_element_wise(bars["open"], bars["close"], bars["low"])
    body_low = pc.min_element_wise(bars["open"], bars["close"], bars["high"])
    yield "high below another price", where(pc.less(bars["high"], body_high))
    yield "low above another price", where(pc.greater(bars["low"], body_low))
    yield "volume negative", where(pc.fill_null(pc.less(bars["volume"], 0), False))


def _named(bars: pa.Table, rows: list[int]) -> str:
    shown = [f"{bars['time'][i].as_py()}" for i in rows[:3]]
    return ", ".join(shown) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")


def _columns(columns: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in columns)
