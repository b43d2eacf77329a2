"""
A run's tables for other programs: CSV files, or the sheets of an Excel workbook.

Times are in one zone, which is named: in a CSV file by the offset after each time, in a workbook, whose times have no
zone, in the column heading. For runs on daily or longer bars they are the dates of sessions.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from backtest import _arguments
from backtest.errors import UsageError
from backtest.market.hours import hours_of
from backtest.market.series import BarSize, Series
from backtest.metrics.drawdown import underwater
from backtest.metrics.measurement import check_result
from backtest.runs.parameters import in_words
from backtest.store.replacement import replace_file, replace_files

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.metrics.measurement import Measured

_ROWS = 1_048_576  # that a sheet has, its head among them
_EARLIEST = 1900  # the year in which Excel's dates begin
_BATCH = 10_000  # rows that are made at a time
_ZONE = "write UTC, exchange for that of the first series, or an IANA name such as America/New_York"
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # which XML cannot hold


@dataclass(frozen=True, slots=True)
class _Table:
    """A table to write; the values of a column of stamps are aware times in UTC, those of a date are dates."""

    name: str
    table: pa.Table

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield its rows, in batches."""
        for batch in self.table.to_batches(max_chunksize=_BATCH):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def write_csv(result: Measured, folder: str | Path, tz: str = "UTC", overwrite: bool = True) -> list[Path]:
    """
    Write a run as CSV files into a folder, and return their paths.

    They are trades.csv, orders.csv, fills.csv, equity.csv (a row per bar), returns.csv (a row per session), metrics.csv
    and run.csv, which has the settings.

    Args:
        tz: the zone of the times: "UTC", "exchange" for that of the first series, or an IANA name.
        overwrite: whether to replace existing files.

    Raises:
        UsageError: the folder cannot be written, a file exists and may not be replaced, or there is no such zone.
    """
    result, folder = check_result(result, "result"), _arguments.path(folder, "folder")
    zone = _zone(result, tz)
    files = {f"{one.name}.csv": partial(_fill_csv, one, zone, _dated(result, one.table)) for one in _tables(result)}
    paths = [folder / name for name in files]
    _refuse_existing(paths, _arguments.truth(overwrite, "overwrite"))
    with _writing(folder):
        replace_files(folder, files)
    return paths


def _fill_csv(table: _Table, zone: tzinfo, dated: list[bool], handle: IO[bytes]) -> None:
    text = io.TextIOWrapper(handle, "utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.table.column_names)
    # Floats as repr, which reads back the same.
    writer.writerows([_text(*cell, zone) for cell in zip(row, dated, strict=True)] for row in table.rows())
    text.flush()
    text.detach()  # what is below belongs to the caller


def write_excel(result: Measured, file: str | Path, tz: str = "UTC", overwrite: bool = True) -> Path:
    """
    Write a run as an Excel workbook and return its path; it has a sheet for each file of `write_csv`.

    Excel's times have no zone: they are those of `tz`, which the column headings name.

    Raises:
        UsageError: the file cannot be written, exists and may not be replaced, or does not end in .xlsx; a table has
            more rows than a sheet can hold; there is no such zone; or openpyxl is not installed.
    """
    result, file = check_result(result, "result"), _arguments.path(file, "file", "write the path of a file")
    zone = _zone(result, tz)
    if file.suffix.lower() != ".xlsx":
        raise UsageError(f"{file} does not end in .xlsx, as an Excel workbook does; name another file")
    _refuse_long({"equity": result.record, "orders": result.orders_table, "fills": result.fills_table})
    _refuse_existing([file], _arguments.truth(overwrite, "overwrite"))
    workbook, cell_of = _workbook()
    for one in _tables(result):
        sheet = workbook.create_sheet(one.name)
        sheet.freeze_panes = "A2"
        dated = _dated(result, one.table)
        sheet.append([cell_of(sheet, name) for name in _heads(one.table, zone, dated)])
        for row in one.rows():
            sheet.append([cell_of(sheet, _cell(*cell, zone)) for cell in zip(row, dated, strict=True)])
    made = io.BytesIO()
    try:
        workbook.save(made)
    except ValueError as error:  # a workbook is a ZIP file, which has no time before 1980
        raise UsageError(f"{file} cannot be written ({error}); set this machine's clock, or write CSV files") from error
    with _writing(file):
        replace_file(file, made.getvalue(), folders=True, named=True)
    return file


def _refuse_long(tables: Mapping[str, pa.Table]) -> None:
    """Raise UsageError for a table that is longer than a sheet; tables computed from these are not longer."""
    for name, table in tables.items():
        if len(table) >= _ROWS:
            raise UsageError(
                f"the table of {name} has {len(table):,} rows, but an Excel sheet holds {_ROWS - 1:,} below its "
                "header; "
                "write CSV files"
            )


def _workbook() -> tuple[Any, Any]:
    """Return an empty workbook, and a function that creates cells of its sheets."""
    try:
        from openpyxl import Workbook
        from openpyxl.cell import WriteOnlyCell
    except ImportError as error:
        raise UsageError(
            "an Excel workbook is written by openpyxl, which is not installed; install it: pip install "
            "'ib-backtest[excel]', or write CSV files"
        ) from error

    def cell_of(sheet: Any, value: Any) -> Any:
        cell = WriteOnlyCell(sheet, _CONTROLS.sub("\ufffd", value) if isinstance(value, str) else value)
        if isinstance(value, str):
            cell.data_type = "s"  # also one that begins with =, which is not a formula
        return cell

    return Workbook(write_only=True), cell_of


# --- the tables


def _tables(result: Measured) -> Iterator[_Table]:
    yield _Table("trades", _spelled(result.trades_table))
    yield _Table("orders", _spelled(result.orders_table))
    yield _Table("fills", _spelled(result.fills_table))
    yield _Table("equity", _equity(result))
    yield _Table("returns", _returns(result))
    yield _Table("metrics", _metrics(result))
    yield _Table("run", _asked(result))


def _spelled(table: pa.Table) -> pa.Table:
    """Return a table with its series as people spell them."""
    import pyarrow as pa

    names = table["series"].to_pylist()
    short = {name: Series.parse(name).short for name in set(names)}
    place = table.column_names.index("series")
    return table.set_column(place, "series", pa.array([short[name] for name in names], pa.string()))


_BY_SERIES = ("position", "close", "rate")  # columns of the record


def _equity(result: Measured) -> pa.Table:
    """Return the record with its columns named by the series."""
    named = {f"{what}.{n}": f"{what} {name}" for n, name in enumerate(result.series) for what in _BY_SERIES}
    return result.record.rename_columns([named.get(name, name) for name in result.record.column_names])


def _returns(result: Measured) -> pa.Table:
    import pyarrow as pa

    account = result.account
    return pa.table(
        {
            "session": pa.array(account.days.tolist(), pa.date32()),
            "return": pa.array(account.returns),
            "drawdown": pa.array(underwater(account.equity)[1:]),
        }
    )


def _metrics(result: Measured) -> pa.Table:
    import pyarrow as pa

    stats, rows = result.stats, list(result.stats.rows.values())
    units = [stats.currency if row.unit == "money" else "fraction" if row.unit == "%" else "" for row in rows]
    columns: dict[str, list[Any]] = {
        "name": list(stats),
        "label": [row.label for row in rows],
        "value": [None if math.isnan(value) else value for value in stats.values()],
        "unit": units,
        "shown": [stats.text(name) for name in stats],
        "undefined": [stats.reasons.get(name, "") for name in stats],
        "definition": [row.definition for row in rows],
    }
    kinds = {name: pa.float64() if name == "value" else pa.string() for name in columns}
    return pa.table({name: pa.array(column, kinds[name]) for name, column in columns.items()})


def _asked(result: Measured) -> pa.Table:
    """Return the settings of the run by name, and the basis of its metrics."""
    import pyarrow as pa

    spec = result.spec
    params = {f"parameter {name}": in_words(value) for name, value in spec.params.items()}
    asked = {
        "run": result.name, "strategy": spec.strategy, "series": ", ".join(result.series), "since": spec.since,
        "until": spec.until, "currency": result.currency, "cash": f"{spec.cash!r}", **params,
        "broker and market": spec.conditions, "basis": result.stats.basis,
    }  # fmt: skip
    return pa.table({"what": pa.array(list(asked), pa.string()), "value": pa.array(list(asked.values()), pa.string())})


# --- values


def _zone(result: Measured, name: str) -> tzinfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    wanted = _arguments.text(name, "tz", _ZONE)
    if wanted == "exchange":
        wanted = hours_of(Series.parse(result.spec.series[0]).instrument).zone
        if not wanted:
            raise UsageError(f"the zone of the exchange of {result.series[0]} is not known; {_ZONE}")
    try:
        return ZoneInfo(wanted)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(f"unknown time zone {_arguments.shown(wanted)}; {_ZONE}") from error


def _dated(result: Measured, table: pa.Table) -> list[bool]:
    """Return for each column of a table whether its times are the dates of sessions."""
    daily, size = all(Series.parse(key).size.daily for key in result.spec.series), result.spec.brokerage.fill_bars
    timed = {"small_bar"} if size and not BarSize.parse(size).daily else set()
    return [daily and name not in timed for name in table.column_names]


def _heads(table: pa.Table, zone: tzinfo, dated: list[bool]) -> list[str]:
    from pyarrow import types

    return [
        f"{field.name} [{zone}]" if types.is_timestamp(field.type) and not is_date else field.name
        for field, is_date in zip(table.schema, dated, strict=True)
    ]


def _text(value: Any, is_date: bool, zone: tzinfo) -> Any:
    """Return a value as a CSV file has it."""
    if isinstance(value, datetime):
        return _date(value, is_date) or value.astimezone(zone).isoformat().replace("+00:00", "Z")
    return "" if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any, is_date: bool, zone: tzinfo) -> Any:
    """Return a value as a sheet of Excel has it."""
    if isinstance(value, datetime):
        value = _date(value, is_date) or value.astimezone(zone).replace(tzinfo=None)
    if isinstance(value, date) and value.year < _EARLIEST:
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _date(moment: datetime, is_date: bool) -> date | None:
    return moment.date() if is_date else None


# --- files


def _refuse_existing(paths: Any, overwrite: bool) -> None:
    there = next((path for path in paths if path.exists()), None)
    if there and not overwrite:
        raise UsageError(f"{there} exists; name another place, or add --force to replace it")


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"the run cannot be exported to {place} ({error}); name another place") from error
