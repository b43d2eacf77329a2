"""
The columns and rules of a bar.

A bar is stamped with its opening in UTC; a daily or longer bar with the date of its session at 00:00 UTC. Extra columns
follow those of every bar: numbers under names of the user's, null where there is none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from backtest.errors import BadBars
from backtest.market.extra import problem_of
from backtest.market.series import Series

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("time", "open", "high", "low", "close", "volume", "average", "trades")

"""In place of an expiry: the continuous future that we make from stored contracts; IB's own is of the kind CONTFUT."""


"""What may follow an instrument's words as +KEY=VALUE, by key, in the order of the canonical spelling."""


# --- as people write them


def schema(extra: Iterable[str] = ()) -> pa.Schema:
    """Return the schema of a table of bars with these extra columns; null means that there is no such number."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
            *(pa.field(name, pa.float64(), nullable=False) for name in ("open", "high", "low", "close")),
            pa.field("volume", pa.float64()),
            pa.field("average", pa.float64()),
            pa.field("trades", pa.int64()),
            *(pa.field(name, pa.float64()) for name in extra),
        ]
    )


def extra_of(bars: pa.Table) -> tuple[str, ...]:
    """Return the names of the extra columns of a table of bars."""
    return tuple(bars.column_names[len(COLUMNS) :])


def with_extra(bars: pa.Table, extra: Iterable[str]) -> pa.Table:
    """Return the bars with exactly these extra columns, in this order; null where they had none of that name."""
    import pyarrow as pa

    names, own = tuple(extra), extra_of(bars)
    if names == own:
        return bars
    nothing = pa.chunked_array([pa.nulls(len(bars), pa.float64())])
    columns = [*bars.columns[: len(COLUMNS)], *(bars[name] if name in own else nothing for name in names)]
    return pa.Table.from_arrays(columns, schema=schema(names))


def without_empty(bars: pa.Table) -> pa.Table:
    """Return the bars without the extra columns in which there is no number."""
    return with_extra(bars, [name for name in extra_of(bars) if bars[name].null_count < len(bars)])


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
    negative, daily bars stamped at 00:00 UTC. Prices need not be positive (crude oil, spreads). An extra column has
    a name that a line can have, and finite numbers.
    """
    extra = extra_of(bars)
    if not bars.schema.equals(schema(extra)):
        expected = f"{_columns(schema())}, and extra ones of double"
        raise BadBars(f"bars of {series.short} have columns {_columns(bars.schema)}; expected {expected}")
    if problem := problem_of(extra):
        raise BadBars(f"bars of {series.short}: {problem}")
    problems = [f"{problem} at {_named(bars, rows)}" for problem, rows in _broken_rules(bars, series) if rows]
    if problems:
        raise BadBars(f"bars of {series.short} break the rules of a bar: {'; '.join(problems)}")


def rows_digest(bars: pa.Table) -> str:
    """
    Return the SHA-256 of the values, column by column in schema order, whatever the file that held them.

    An extra column counts with its name, and not at all where there is no number in it: so bars keep their digest
    when others of their series get one.
    """
    from backtest.market import arrays

    digest = hashlib.sha256()
    for place, (name, column) in enumerate(zip(bars.column_names, bars.columns, strict=True)):
        if place >= len(COLUMNS):
            if column.null_count == len(column):
                continue
            digest.update(f"\0{name}\0".encode())
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
    for name in ("open", "high", "low", "close", "volume", "average", *extra_of(bars)):
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
