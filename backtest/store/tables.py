"""Tables of bars in order of time: cut, joined, compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from backtest.errors import BadBars, Conflict
from backtest.market import arrays
from backtest.market.bars import extra_of, schema, with_extra
from backtest.market.extra import united
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.store.manifest import period_unit

if TYPE_CHECKING:
    import pyarrow as pa

_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_UNITS: dict[str, Literal["D", "M", "Y"]] = {"day": "D", "month": "M", "year": "Y"}


def check_inside(bars: pa.Table, span: Span, series: Series) -> None:
    """Raise BadBars if bars lie outside the span."""
    if len(bars) and (bars["time"][0].as_py() not in span or bars["time"][-1].as_py() not in span):
        first, last = bars["time"][0].as_py(), bars["time"][-1].as_py()
        raise BadBars(f"bars of {series.short} from {first} to {last} lie outside the requested span: {span}")


def by_period(bars: pa.Table, series: Series) -> dict[str, pa.Table]:
    """Return the bars of each period."""
    unit = period_unit(series)
    if not unit or not len(bars):
        return {"all": bars} if len(bars) else {}
    return dict(by_date(bars, _UNITS[unit]))


def by_date(bars: pa.Table, unit: Literal["D", "M", "Y"]) -> Iterator[tuple[str, pa.Table]]:
    """
    Yield the bars of each UTC day, month or year, and its name, such as 2024-03 for a month.

    Arrow's date functions are not used: they load the system's time zone database, even for UTC, which Windows and slim
    images lack.
    """
    starts = arrays.numbers(bars["time"]).view("datetime64[us]").astype(f"datetime64[{unit}]")
    edges = (np.flatnonzero(starts[1:] != starts[:-1]) + 1).tolist()
    for first, end in pairwise([0, *edges, len(starts)] if len(starts) else []):
        yield str(starts[first]), bars.slice(first, end - first)


def joined(tables: Iterable[pa.Table]) -> pa.Table:
    """Return all bars as one table, with the extra columns of each, null in the others."""
    import pyarrow as pa

    filled = [table for table in tables if len(table)]
    if len(filled) == 1:
        return filled[0]
    extra = united(map(extra_of, filled))
    return pa.concat_tables(with_extra(table, extra) for table in filled) if filled else schema().empty_table()


def completed(bars: pa.Table, stored: pa.Table) -> pa.Table:
    """
    Return an answer with all extra columns of the stored bars; those that it lacks keep their stored values.

    A source without signals says nothing about them, whatever else it changes in a bar.
    """
    import pyarrow.compute as pc

    own, extra = extra_of(bars), extra_of(stored)
    whole = with_extra(bars, extra)
    lacking = [name for name in extra if name not in own]
    places = pc.index_in(bars["time"], value_set=stored["time"].combine_chunks()) if lacking else None
    for name in lacking:
        place = whole.column_names.index(name)
        whole = whole.set_column(place, whole.schema.field(place), stored[name].take(places))
    return whole


def microseconds(moment: datetime) -> int:
    """Return a time as bars are stamped: microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def between(bars: pa.Table, span: Span) -> pa.Table:
    """Return the bars in the span."""
    start, end = _rows(bars, span)
    return bars.slice(start, end - start)


def around(bars: pa.Table, span: Span, new: pa.Table) -> list[pa.Table]:
    """Return the bars with those in the span replaced by new ones, in three parts."""
    start, end = _rows(bars, span)
    return [bars.slice(0, start), new, bars.slice(end)]


def _rows(bars: pa.Table, span: Span) -> tuple[int, int]:
    """Return the first row in the span and the first after it."""
    times = arrays.numbers(bars["time"])
    start, end = np.searchsorted(times, [microseconds(span.start), microseconds(span.end)])
    return int(start), int(end)


def differing(stored: pa.Table, bars: pa.Table) -> list[int]:
    """
    Return the rows of the stored bars that the answer lacks or has with other values.

    A number in an extra column that had none is an addition, not a difference.
    """
    import pyarrow.compute as pc

    if not len(stored):
        return []
    extra = united([extra_of(stored), extra_of(bars)])
    stored, bars = with_extra(stored, extra), with_extra(bars, extra)
    again = bars.filter(pc.is_in(bars["time"], value_set=stored["time"].combine_chunks()))
    if again.equals(stored):
        return []
    places = pc.index_in(stored["time"], value_set=bars["time"].combine_chunks())
    same = pc.is_valid(places)
    found = bars.take(places)
    for name in stored.column_names[1:]:
        old, new = stored[name], found[name]
        equal, nothing = pc.fill_null(pc.equal(old, new), False), pc.is_null(old)
        same = pc.and_(same, pc.or_(equal, nothing if name in extra else pc.and_(nothing, pc.is_null(new))))
    return [row for row, one in enumerate(same.to_pylist()) if not one]


def conflict(series: Series, stored: pa.Table, bars: pa.Table, differing: list[int]) -> Conflict:
    """Return the error about how stored bars and an answer differ, with the first of these rows."""
    import pyarrow.compute as pc

    (first,) = stored.slice(differing[0], 1).to_pylist()
    (answer,) = bars.filter(pc.equal(bars["time"], stored["time"][differing[0]])).to_pylist() or [None]
    extra = [name for name in extra_of(stored) if answer and first[name] is not None and first[name] != answer[name]]
    new = _told(answer, extra) if answer else "none"
    return Conflict(
        f"{len(differing)} of {len(stored)} stored bars of {series.short} are different in the new answer, "
        f"the first at {first['time']}: stored {_told(first, extra)}, new {new}; "
        "the stored bars were kept"
    )


def _told(row: Mapping[str, Any], extra: Iterable[str]) -> str:
    prices = (f"{row[name]:g}" for name in ("open", "high", "low", "close"))
    return " ".join([*prices, *(f"{name} {_number(row[name])}" for name in extra)])


def _number(value: float | None) -> str:
    return "nothing" if value is None else repr(value)
