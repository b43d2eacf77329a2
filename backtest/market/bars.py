"""
The columns and rules of a bar.

A bar is stamped with its opening in UTC, a daily or longer bar with the date of its session at 00:00 UTC. Extra columns
follow those of a bar: numbers under the user's names, null if there is none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from backtest.errors import BadBars
from backtest.market import arrays
from backtest.market.extra import problem_of
from backtest.market.series import Series
from backtest.market.span import Span

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("time", "open", "high", "low", "close", "volume", "average", "trades")
PRICES = COLUMNS[1:5]
# IB's words for "no such number" are the largest of a type: of an int (also as a float, which rounds it), of an
# unsigned one, and, above any price or count, of a long, a double, and 2**127 - 1 for a decimal.
_UNSET = (2147483647.0, 2147483648.0, 4294967295.0)
_DEAREST = 1e12  # no price; a bitcoin in rials is 1e11
_MOST = 1e18  # no count; a long's largest is 9.2e18
_AT_A_TIME = 1_000_000  # bars that are checked at once: of 50,000,000 an array is 400 MB

"""In place of an expiry: the continuous future that we make from stored contracts; IB's own is of the kind CONTFUT."""


"""What may follow an instrument's words as +KEY=VALUE, by key, in the order of the canonical spelling."""


# --- as people write them


def schema(extra: Iterable[str] = ()) -> pa.Schema:
    """Return the schema of a table of bars with these extra columns; null means that there is no such number."""
    return _schema(tuple(extra))


@lru_cache(maxsize=64)
def _schema(extra: tuple[str, ...]) -> pa.Schema:
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
    """Return the bars with exactly these extra columns, in this order; columns they lack are null."""
    import pyarrow as pa

    names, own = tuple(extra), extra_of(bars)
    if names == own:
        return bars
    nothing = pa.chunked_array([pa.nulls(len(bars), pa.float64())])
    columns = [*bars.columns[: len(COLUMNS)], *(bars[name] if name in own else nothing for name in names)]
    return pa.Table.from_arrays(columns, schema=schema(names))


def without_empty(bars: pa.Table) -> pa.Table:
    """Return the bars without the extra columns that hold no number."""
    return with_extra(bars, [name for name in extra_of(bars) if bars[name].null_count < len(bars)])


def within(bars: pa.Table, span: Span) -> pa.Table:
    """Return the bars that start in a span."""
    import pyarrow as pa
    import pyarrow.compute as pc

    start, end = (pa.scalar(moment, bars.schema.field("time").type) for moment in (span.start, span.end))
    return bars.filter(pc.and_(pc.greater_equal(bars["time"], start), pc.less(bars["time"], end)))


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
    Raise BadBars unless the table obeys the rules of a bar; the error names at most three bars.

    The rules: our schema, times strictly increasing, prices finite, low <= open, close <= high, volume not
    negative, daily bars stamped at 00:00 UTC. Prices need not be positive (crude oil, spreads). An extra column has
    a name that a line can have, and finite numbers.
    """
    _check_columns(bars, series)
    broken = _broken_rules(bars, series)
    problems = [f"{problem} at {_named(bars, rows)}" for problem, rows in broken.items() if rows]
    if problems:
        raise BadBars(f"bars of {series.short} break the rules of a bar: {'; '.join(problems)}")


def check_unset(bars: pa.Table, series: Series) -> None:
    """
    Raise BadBars if a price is implausibly high, or another number is a vendor's placeholder for "no such number".

    This is not a rule of `check_bars`, since bars that 0.1.0 stored may break it.
    """
    _check_columns(bars, series)
    for name in COLUMNS[1:]:
        if rows := _unset_rows(bars[name], name):
            value = float(bars[name][rows[0]].as_py())
            raise BadBars(f"{name} of {series.short} is implausible, {value:g}, at {_named(bars, rows)}")


def known_numbers(column: pa.ChunkedArray | pa.Array, name: str) -> pa.Array:
    """
    Return volume, average or trades as float64, with null for a placeholder that means "no such number".

    Placeholders are IB's -1 ("does not apply"), the largest number of a type ("unset"), NaN and infinity.
    """
    values, present = arrays.numbers(column), np.empty(len(column), bool)
    for part in arrays.blocks(len(values)):
        some = values[part]
        present[part] = ~(np.isnan(some) | (some == -1) | _unset(some, name))
    return arrays.floats(values, present)


def known_counts(bars: pa.Table) -> pa.Table:
    """Return bars with null for placeholders in volume, average and trades; 0.1.0 may have stored them."""
    for place, name in enumerate(COLUMNS[5:], 5):
        field = bars.schema.field(name)
        bars = bars.set_column(place, field, known_numbers(bars[name].cast("float64"), name).cast(field.type))
    return bars


def unset_prices(bars: pa.Table) -> np.ndarray:
    """Return which bars have a placeholder as a price; 0.1.0 may have stored some."""
    return np.asarray(np.any([_unset(arrays.numbers(bars[name]), name) for name in PRICES], axis=0))


def _unset_rows(column: pa.ChunkedArray, name: str) -> list[int]:
    rows: list[int] = []
    for part in arrays.blocks(len(column), _AT_A_TIME):
        values = arrays.numbers(column.slice(part.start, part.stop - part.start), missing=0).astype(float)
        rows += (np.flatnonzero(_unset(values, name)) + part.start).tolist()
    return rows


def _unset(values: np.ndarray, name: str) -> np.ndarray:
    size = np.abs(values)
    large = np.asarray(size >= _UNSET[0])
    if not large.any():  # as nearly always, and np.isin is slow
        return large
    most = _MOST if name in ("volume", "trades") else _DEAREST
    return np.asarray((size >= most) | np.isin(size, _UNSET))


def rows_digest(bars: pa.Table) -> str:
    """
    Return the SHA-256 of the values, column by column in schema order, whatever file holds them.

    An extra column counts with its name, but only if it has a number: so bars keep their digest when other bars of
    their series get an extra column.
    """
    return digest_of_columns(zip(bars.column_names, bars.columns, strict=True))


def digest_of_columns(columns: Iterable[tuple[str, pa.ChunkedArray]]) -> str:
    """Return `rows_digest` of bars whose columns come one at a time, in schema order."""
    digest = hashlib.sha256()
    for name, column in columns:
        _add_column(digest, name, column)
        del column  # which may be the only reference, while the next one is made
    return digest.hexdigest()


def _add_column(digest: hashlib._Hash, name: str, column: pa.ChunkedArray) -> None:
    if name not in COLUMNS:
        if column.null_count == len(column):
            return
        digest.update(f"\0{name}\0".encode())
    chunks = column.chunks
    for chunk in chunks:
        digest.update(_true(len(chunk)) if not chunk.null_count else arrays.valid(chunk).data)
    for chunk in chunks:
        digest.update(arrays.numbers(chunk, missing=0).data)


@lru_cache(maxsize=4)  # the columns of a table, and mostly those of many series, are of one length
def _true(count: int) -> bytes:
    """Return so many flags that are set, as `arrays.valid` has them of values of which none is null."""
    return b"\1" * count


def _broken_rules(bars: pa.Table, series: Series) -> dict[str, list[int]]:
    """Return the rows that break each rule, computed a part of many bars at a time."""
    broken: dict[str, list[int]] = {}
    for part in arrays.blocks(len(bars), _AT_A_TIME):
        first = max(part.start - 1, 0)  # with the bar before, which times have to come after
        for problem, rows in _broken_in(bars.slice(first, part.stop - first), series):
            broken.setdefault(problem, []).extend(first + row for row in rows if first + row >= part.start)
    return broken


def _broken_in(bars: pa.Table, series: Series) -> Iterator[tuple[str, list[int]]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    def where(mask: pa.ChunkedArray) -> list[int]:
        return [i for i, broken in enumerate(mask.to_pylist()) if broken] if pc.any(mask).as_py() else []

    for name in COLUMNS[:5]:
        yield f"{name} missing", where(pc.is_null(bars[name]))
    times = pc.cast(bars["time"], pa.int64())
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


def _check_columns(bars: pa.Table, series: Series) -> None:
    extra = extra_of(bars)
    if not bars.schema.equals(schema(extra)):
        expected = f"{_columns(schema())}, and extra ones of double"
        raise BadBars(f"bars of {series.short} have columns {_columns(bars.schema)}; expected {expected}")
    if problem := problem_of(extra):
        raise BadBars(f"bars of {series.short}: {problem}")


def _named(bars: pa.Table, rows: list[int]) -> str:
    shown = [f"{bars['time'][i].as_py()}" for i in rows[:3]]
    return ", ".join(shown) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")


def _columns(columns: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in columns)
