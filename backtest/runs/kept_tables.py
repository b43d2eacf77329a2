"""The tables of a saved run: their columns and types; a file with others is refused unread."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from backtest.errors import DamagedStore, UsageError
from backtest.market import arrays
from backtest.market.series import Series
from backtest.runs.dividends import BESIDE, dividend_column
from backtest.runs.round_trips import EXTREMES, RATES
from backtest.store.documents import LARGEST_TABLE, open_plain

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_STAMP, _DAY, _NUMBER, _COUNT, _TEXT = "timestamp[us, tz=UTC]", "date32[day]", "double", "int64", "string"
_ROWS_FOR_A_BYTE = 16  # at most: the times of a run alone, which never repeat, take some bytes a row


@dataclass(frozen=True, slots=True)
class RunColumns:
    """The column types of a table, as Arrow spells them; which are required, and which have no nulls."""

    types: Mapping[str, str]
    whole: Sequence[str]
    needed: Sequence[str]
    ordered: Sequence[str] = ()  # which never go back


_ORDERS = {"ref": _COUNT, "series": _TEXT, "side": _TEXT, "kind": _TEXT, "size": _NUMBER, "created": _STAMP,
           "status": _TEXT, "filled": _NUMBER, "price": _NUMBER, "costs": _NUMBER, "closed": _STAMP}  # fmt: skip
_FILLS = {"ref": _COUNT, "time": _STAMP, "series": _TEXT, "size": _NUMBER, "price": _NUMBER, "costs": _NUMBER}
_TRADES = {"series": _TEXT, "entry": _STAMP, "exit": _STAMP, "size": _NUMBER, "entry_price": _NUMBER,
           "exit_price": _NUMBER, "gross": _NUMBER, "costs": _NUMBER, "net": _NUMBER, "return": _NUMBER,
           "bars": _COUNT}  # fmt: skip
_EXTREMES = dict.fromkeys(EXTREMES, _NUMBER)


def columns_of_runs(series: int) -> dict[str, RunColumns]:
    """Return the columns of each table of a run on this many series."""
    of_series = {f"{what}.{n}": _NUMBER for n in range(series) for what in ("position", "close")}
    needed = {"time": _STAMP, "session": _DAY, "equity": _NUMBER, "cash": _NUMBER, **of_series}
    paid = dict.fromkeys((*map(dividend_column, range(series)), BESIDE, "interest", "margin"), _NUMBER)
    rates = {f"{what}.{n}": _NUMBER for n in range(series) for what in ("rate", "cash")}  # where money is converted
    more = dict.fromkeys(("benchmark", "flow", "risk_free", "borrow"), _NUMBER)
    record = {**needed, **more, **paid, **rates}
    of_trades = {**_TRADES, "dividends": _NUMBER, **dict.fromkeys(RATES, _NUMBER), "currency": _TEXT, "reason": _TEXT}
    fills = {**_FILLS, **dict.fromkeys(("rate", "unslipped", "borrow"), _NUMBER), "small_bar": _STAMP}
    return {
        "record": RunColumns(record, tuple(needed), tuple(needed), ("time", "session")),
        "orders": RunColumns({**_ORDERS, "reason": _TEXT}, ("ref", "series", "created", "status"), tuple(_ORDERS)),
        "fills": RunColumns(fills, tuple(_FILLS), tuple(_FILLS)),
        "trades": RunColumns(of_trades, tuple(_TRADES), tuple(_TRADES)),
        "extremes": RunColumns(_EXTREMES, (), tuple(_EXTREMES)),
    }


def read_run_table(path: Path, columns: RunColumns, series: Sequence[str]) -> pa.Table:
    """
    Return a table of a saved run, without columns unknown to its kind.

    Raises:
        FileNotFoundError: there is none.
        DamagedStore: it is not a regular file, not Parquet, or has other columns or values; the text says which.
    """
    table = read_parquet(path, partial(_chosen, columns))
    for name in columns.whole:
        if table[name].null_count:
            raise DamagedStore(f"{path}: the column {name} lacks {table[name].null_count:,} values")
    for name, kind in columns.types.items():
        if kind in (_STAMP, _DAY) and name in table.column_names:
            _check_years(path, name, table[name])
    for name in columns.ordered:
        _check_order(path, name, table[name])
    if "series" in table.column_names:
        strange = [name for name in table["series"].unique().to_pylist() if not _is_one_of(name, series)]
        if strange:
            raise DamagedStore(f"{path}: the column series has {strange[0]!r:.60}, which is not in the run")
    return table


def read_parquet(
    path: Path, choose: Callable[[Mapping[str, str]], Sequence[str]], rows_for_a_byte: float = _ROWS_FOR_A_BYTE
) -> pa.Table:
    """
    Return some columns of a Parquet file of any origin.

    Args:
        choose: returns the names of the columns to read, given the types of all, before any is decoded; it raises
            ValueError if the types are not as expected.
        rows_for_a_byte: the maximum number of rows per byte of the file.

    Raises:
        FileNotFoundError: there is none.
        DamagedStore: it is not a regular file, not Parquet, has other columns, or claims implausibly many rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_plain(path, LARGEST_TABLE) as handle:
            file = pq.ParquetFile(handle, page_checksum_verification=True)
            rows, size = file.metadata.num_rows, os.fstat(handle.fileno()).st_size
            if rows > size * rows_for_a_byte:
                raise DamagedStore(f"{path} says that its {size:,} bytes are {rows:,} rows, which is impossible")
            types = {one.name: str(one.type) for one in file.schema_arrow}
            if len(types) < len(file.schema_arrow):
                raise ValueError("two columns have one name")
            names = list(choose(types))
            if rows < arrays.MANY:
                return file.read(columns=names, use_threads=False)
            with arrays.allocated_by_system():
                return _read_by_column(file, names)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedStore(f"{path}: {str(error)[:200]}") from error


def _read_by_column(file: pq.ParquetFile, names: Sequence[str]) -> pa.Table:
    """Return columns of many rows, read one after the other, each in one piece, of which its values are a view."""
    import pyarrow as pa

    columns = []
    for name in names:
        columns.append(file.read(columns=[name], use_threads=False).combine_chunks().column(0))
        arrays.release_memory()
    return pa.Table.from_arrays(columns, schema=file.schema_arrow.empty_table().select(names).schema)


def _chosen(columns: RunColumns, types: Mapping[str, str]) -> list[str]:
    for name in columns.needed:
        if name not in types:
            raise ValueError(f"the column {name} is not there")
    for name, wanted in columns.types.items():
        if types.get(name, wanted) != wanted:
            raise ValueError(f"the column {name} has the type {types[name][:60]}, not {wanted}")
    return [name for name in types if name in columns.types]


def _is_one_of(name: str | None, series: Sequence[str]) -> bool:
    """Return whether a spelling of a series refers to one of some keys."""
    try:
        return Series.parse(name or "").key in series
    except UsageError:
        return False


def _check_order(path: Path, name: str, column: pa.ChunkedArray) -> None:
    values = arrays.numbers(column)
    if (values[1:] < values[:-1]).any():
        raise DamagedStore(f"{path}: the column {name} goes back in time")


def _check_years(path: Path, name: str, column: pa.ChunkedArray) -> None:
    """Raise DamagedStore if a time is in a year that Python does not support."""
    import pyarrow.compute as pc

    days = str(column.type) == _DAY
    least, most = (-719_162, 2_932_896) if days else (-62_135_596_800_000_000, 253_402_300_799_999_999)
    found = pc.min_max(column.cast("int32" if days else "int64")).as_py()
    if found["min"] is not None and not least <= found["min"] <= found["max"] <= most:
        raise DamagedStore(f"{path}: the column {name} has a time before the year 1 or after 9999")
