"""`read_bars`: the bars in a file or frame, and notes on how it was read and what was skipped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.errors import BadBars, UsageError
from backtest.market import arrays
from backtest.market.bars import COLUMNS, PRICES, check_bars, check_unset, known_numbers, schema
from backtest.market.calendars import exact, sessions
from backtest.market.extra import extra_names
from backtest.market.hours import Hours, hours_of
from backtest.market.series import BAR_SIZES, Series
from backtest.sources.files.columns import (
    Roles,
    ends_of_bars,
    is_own_symbol,
    mapping_of,
    nearly_fits,
    roles_of,
    symbol_column,
    with_dates,
)
from backtest.sources.files.content import content_of
from backtest.sources.files.currencies import check_currency
from backtest.sources.files.frames import columns_of_frame
from backtest.sources.files.headings import known_words, meanings_of, zone_in
from backtest.sources.files.numbers import as_floats, decimal_mark, floats_of, holds_numbers, is_nothing
from backtest.sources.files.table import Note, Table, parsed_table
from backtest.sources.files.times import is_text, moments_of, stamps_in_one, stamps_of, zone_named

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_DAY = timedelta(days=1)
_ISIN = re.compile(r"[A-Z]{2}[A-Z0-9]{9}\d")
_MOST = 0.9  # of weeks or months that are dated in one way, if all are
_HALF = 0.5
_APART = 5  # bars at least, to see how far apart they are
_MICRO = 1_000_000  # microseconds a second
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class FileOptions:
    """
    The user's settings for a file that does not determine them itself; "" and None: the file decides.

    Args:
        tz: zone of times that have none; "exchange" for the instrument's own.
        extra: columns to keep beside those of every bar.
        columns: the meaning of each column, in order: ours, or - to skip one.
        adjusted: whether to use columns that the vendor adjusted for splits and dividends.
        symbol: the symbol whose rows to take.
        stamped: whether bars are stamped with their "open" or their "close"; weeks and months with their first or last
            day.
        day_first: whether 03/04/2024 is in April.
        decimal: the decimal separator, "." or ",".
    """

    tz: str = ""
    extra: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    adjusted: bool = False
    symbol: str = ""
    stamped: str = ""
    day_first: bool | None = None
    decimal: str = ""

    def __post_init__(self) -> None:
        if self.stamped not in ("", "open", "close"):
            raise UsageError(
                f"unknown time stamp {self.stamped!r}; write open or close: what the times in the file mark"
            )
        if self.decimal not in ("", ".", ","):
            raise UsageError(f"unknown decimal separator {self.decimal!r}; write . or ,")


@dataclass(frozen=True, slots=True)
class ReadBars:
    """
    The bars of a file in order of time, and how it was read.

    `places` are the line (or row) numbers of the bars, `mapping` gives our column for each of the file's, `how` says
    how else the file was read, and `notes` what was skipped.
    """

    bars: pa.Table
    places: np.ndarray
    unit: str
    mapping: dict[str, str | None]
    how: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()

    def where(self, row: int) -> str:
        """Return the name of a bar's row in messages."""
        return f"{self.unit} {self.places[row]:,}"

    def without(self, rows: np.ndarray, note: Note) -> ReadBars:
        """Return the other bars, and a note on those left out."""
        import pyarrow as pa

        kept = ~rows
        return replace(self, bars=self.bars.filter(pa.array(kept)), places=self.places[kept], notes=(*self.notes, note))


def read_table(frame_or_path: Any, what: str = "the frame") -> Table:
    """
    Return the table in a file of any known kind, or in a frame, which errors call `what`.

    Raises:
        UsageError: there is no table.
    """
    if isinstance(frame_or_path, str | Path):
        path = Path(frame_or_path)
        return with_dates(parsed_table(content_of(path, known_words), str(path)))
    return with_dates(parsed_table(columns_of_frame(frame_or_path), what))


def symbols_in(table: Table, options: FileOptions) -> list[str]:
    """Return the symbols in the rows or columns of a table, in order; none if it names none."""
    if table.symbols:
        return sorted({symbol for symbol in table.symbols if symbol})
    place = symbol_column(table, given=options.columns)
    if place is None:
        return []
    return sorted({str(value).strip() for value in table.columns[place].unique().to_pylist() if value})


def bars_of(
    frame_or_path: pd.DataFrame | str | Path, series: Series, tz: str | None = None, extra: Iterable[str] | str = ()
) -> tuple[pa.Table, dict[str, str | None]]:
    """
    Return the bars in a data frame, CSV, Excel, JSON or Parquet file, and the role of each of its columns.

    Columns are found by their names, case-blind. Times with a zone become UTC; daily bars are stamped with dates,
    or with midnight in their own zone or in `tz`. Whole numbers are seconds to nanoseconds since 1970, or YYYYMMDD.
    An empty text and NaN become null; in volume, average and trades also IB's -1 for "does not apply", infinity, and
    the largest number of a type, IB's value for "unset".

    Args:
        tz: IANA zone of times that have none, such as "America/New_York"; "exchange" for the instrument's own.
        extra: columns to keep beside those of every bar, such as ["signal", "score"]: as numbers, in this order. A name
            finds the column with exactly this name, otherwise one that differs only in capitals, blanks and marks.

    Returns:
        The bars in order of time; and for every column of the file our column, None if it is not used.

    Raises:
        UsageError: no such file, columns are missing or ambiguous, intraday times have no zone, or an extra column
            has a name that no line can have.
        BadBars: a value cannot be read, a time is duplicated or missing, or a bar breaks the rules of a bar.
    """
    found = checked_bars(frame_or_path, series, FileOptions(tz=tz or "", extra=extra_names(extra)))
    return found.bars, found.mapping


def checked_bars(frame_or_path: Any, series: Series, options: FileOptions) -> ReadBars:
    """Return the bars as `read_bars` does; raise BadBars if they break the rules of a bar."""
    found = read_bars(read_table(frame_or_path), series, options)
    check_unset(found.bars, series)
    check_bars(found.bars, series)
    return found


def read_bars(table: Table, series: Series, options: FileOptions, hours: Hours | None = None) -> ReadBars:
    """
    Return the bars of a series in a table, without checking whether they are valid.

    Args:
        hours: when the instrument trades; by default from the table of exchanges.

    Raises:
        UsageError: a column or a time is ambiguous, or has no zone; the text names the option that resolves it.
        BadBars: a value cannot be read, or two rows have the same time but different values.
    """
    import pyarrow as pa

    hours = hours or hours_of(series.instrument)
    if any(table.symbols):
        table, options = only_symbol(table, series, options), replace(options, symbol="")
    roles = roles_of(table, series, options.columns, options.extra, options.adjusted)
    table, said = _of_symbol(table, roles, series, options)
    if not options.columns:
        check_currency(table, roles, series)
    numbers, mark = _numbers(table, roles, options)
    table, numbers = _with_prices(table, numbers, roles)
    numbers = _factored(numbers, roles)
    zone_text = options.tz or (zone_in(table.names[roles.places["time"][0]]) if table.headed else "")
    zone = zone_named(zone_text or None, series)
    times, form, without_zone = _times_of(table, roles, series, zone, options)
    how = [*table.how, *roles.how, *said, *([form] if form else [])]
    if mark == ",":
        how.append("decimal commas")
    if zone_text and without_zone:
        how += [f"times in {zone}"] if not series.size.daily else []
    if (times[1:] <= times[:-1]).all() and (times[1:] < times[:-1]).any():
        how.append("newest first")
    columns, places = [numbers.pop(name) for name in (*COLUMNS[1:], *options.extra)], table.places
    if not (times[1:] >= times[:-1]).all():
        order = np.argsort(times, kind="stable")
        times, places = times[order], places[order]
        columns = [column.take(pa.array(order)) for column in columns]
    bars = pa.Table.from_arrays([arrays.stamps(times), *columns], schema=schema(options.extra))
    found = ReadBars(bars, places, table.unit, mapping_of(table, roles), tuple(how), tuple(table.notes))
    found = _without_twins(found, table.what)
    _check_size(found, series, table.what)
    if series.size.period in ("week", "month"):
        return _at_last_sessions(found, series, hours, options, table.what)
    return _at_openings(found, series, hours, options, table.what, ends_of_bars(table, roles) and not options.columns)


def _times_of(
    table: Table, roles: Roles, series: Series, zone: tzinfo | None, options: FileOptions
) -> tuple[np.ndarray, str, bool]:
    """Return the time of each row in UTC, datetime64[us]; its format; and whether it is written without a zone."""
    columns = [table.columns[place] for place in roles.places["time"]]
    if found := stamps_in_one(columns, series, zone):
        return found
    written = moments_of(columns, table.what, table.where, options.day_first)
    stamps = stamps_of(written.moments, series, zone, table.what, table.where)
    times = np.array([stamp.replace(tzinfo=None) for stamp in stamps], "datetime64[us]")
    without_zone = any(isinstance(one, datetime) and one.tzinfo is None for one in written.moments[:1])
    return times, written.form, without_zone


# --- whose rows


def only_symbol(table: Table, series: Series, options: FileOptions) -> Table:
    """Return the table with the columns of one symbol, if each symbol has a block of columns."""
    every = sorted({symbol for symbol in table.symbols if symbol})
    if not every:
        return table
    own = [symbol for symbol in every if _is_wanted(symbol, series, options)]
    if len(every) == 1 and not own and not options.symbol:
        own = every if nearly_fits(every[0], series) else []
    if len(own) != 1:
        raise _no_symbol(table, series, options, every)
    kept = [n for n, symbol in enumerate(table.symbols) if symbol in ("", own[0])]
    return replace(table, names=[table.names[n] for n in kept], columns=[table.columns[n] for n in kept], symbols=[])


def _of_symbol(table: Table, roles: Roles, series: Series, options: FileOptions) -> tuple[Table, list[str]]:
    """Return the rows of one symbol, and the notes on that."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if roles.symbol is None:
        if options.symbol and options.symbol.lower() != "all":
            raise UsageError(
                f"{table.what} has no symbol column in which to find {options.symbol!r}; leave --symbol out"
            )
        return table, []
    written = {value: str(value or "").strip() for value in table.columns[roles.symbol].unique().to_pylist()}
    every = sorted({*written.values()} - {""})
    own = [symbol for symbol in every if _is_wanted(symbol, series, options)]
    certain = not table.headed or any(one.ours == "symbol" and one.rank == 0 for one in _meant(table, roles.symbol))
    certain = certain and not all(_ISIN.fullmatch(symbol) for symbol in every)
    if not own and len(every) == 1 and not options.symbol and (nearly_fits(every[0], series) or not certain):
        return table, [f"symbol {every[0]!r} taken as {series.instrument}"]
    if not every:
        return table, []
    if len(own) != 1:
        raise _no_symbol(table, series, options, every)
    if len(every) == 1:
        return table, []
    chosen = pa.array([value for value, symbol in written.items() if symbol == own[0]], pa.string())
    kept = pc.is_in(table.columns[roles.symbol], value_set=chosen).to_numpy()
    return table.taken(kept), [f"{int(kept.sum()):,} of {len(kept):,} rows, those of {own[0]}"]


def _meant(table: Table, place: int) -> Iterator[Any]:
    yield from meanings_of(table.names[place])


def _is_wanted(symbol: str, series: Series, options: FileOptions) -> bool:
    if options.symbol and options.symbol.lower() != "all":
        return symbol.casefold() == options.symbol.casefold()
    return is_own_symbol(symbol, series)


def _no_symbol(table: Table, series: Series, options: FileOptions, every: list[str]) -> UsageError:
    shown = ", ".join(every[:8]) + (f" and {len(every) - 8:,} more" if len(every) > 8 else "")
    wanted = repr(options.symbol) if options.symbol else f"{series.instrument.symbol} as in {series.short}"
    return UsageError(
        f"{table.what} has bars of {shown}, not of {wanted}; say whose bars to take, such as --symbol {every[0]}"
    )


# --- numbers


def _numbers(table: Table, roles: Roles, options: FileOptions) -> tuple[dict[str, Any], str]:
    """Return the numeric columns, with null for values that mean "none", and the decimal separator."""
    import pyarrow as pa

    fields = {field.name: field for field in list(schema())[1:]}
    places = {name: roles.places[name][0] for name in fields if roles.places[name]}
    if roles.factor:
        places["adjusted"], places["raw"] = roles.factor
    for name, place in places.items():
        if not (is_text(table.columns[place]) or holds_numbers(table.columns[place])):
            raise BadBars(
                f"{table.what} has no plain number as {name}: its column holds {table.columns[place].type}; write "
                "numbers, or name the columns with --columns"
            )
    plain = {name: as_floats(table.columns[place], options.decimal or None) for name, place in places.items()}
    mark = _mark(table, places, [name for name, column in plain.items() if column is None], options)
    found: dict[str, Any] = {}
    for name, place in places.items():
        column = plain[name] if mark != "," else as_floats(table.columns[place], mark)
        if column is None:
            column = pa.chunked_array([_slowly(table, place, name, mark)])
        found[name] = column
    for name, field in fields.items():
        if name not in found:
            found[name] = arrays.nulls(len(table.places), field.type)
        elif field.nullable:
            found[name] = _counts(known_numbers(found[name], name), field, table, places[name])
        else:
            found[name] = _without_nan(found[name])
    for name in ("adjusted", "raw"):
        if name in found:
            found[name] = _without_nan(found[name])
    for name, place in roles.extra.items():
        found[name] = _extra_numbers(table, place, name, mark)
    return {name: _combined(column) for name, column in found.items()}, mark


def _mark(table: Table, places: dict[str, int], odd: list[str], options: FileOptions) -> str:
    """Return the decimal separator, which only numbers that are not plain can leave ambiguous."""
    if options.decimal or not odd:
        return options.decimal or "."

    def texts() -> Iterator[tuple[int, str]]:
        for place in (places[name] for name in places if is_text(table.columns[places[name]])):
            values = table.columns[place].to_pylist()
            yield from ((row, text) for row, text in enumerate(values) if text and not is_nothing(text))

    dotted = bool(table.delimiter in (";", "\t")) and _has_dotted_dates(table)
    return decimal_mark(texts(), "," if dotted else "", table.where, table.what)


def _has_dotted_dates(table: Table) -> bool:
    """Return whether dates are written as 28.03.2024, as in countries with decimal commas."""
    return any(
        is_text(column) and re.match(r"\s*\d\d?\.\d\d?\.\d", (column.slice(0, 1).to_pylist() or [""])[0] or "")
        for column in table.columns
    )


def _slowly(table: Table, place: int, name: str, mark: str) -> Any:
    import pyarrow as pa

    texts = table.columns[place].to_pylist()
    values: list[float | None] = []
    for row, text in enumerate(texts):
        try:
            values += floats_of([text], mark)
        except ValueError as error:
            if name in PRICES and _is_remark(table, row, place):
                values.append(None)
                continue
            raise BadBars(
                f"{table.what} has no plain number as {name} in {table.where(row)}: {str(error)!r}; write, for "
                "example, "
                "1234.5, or nothing where there is none"
            ) from error
    return pa.array(values, pa.float64())


def _is_remark(table: Table, row: int, place: int) -> bool:
    """Return whether a cell is a remark, such as "0.24 Dividend", in a row without prices, which is otherwise empty."""
    cells = [str(column[row].as_py() or "") for column in table.columns[place + 1 :]]
    text = str(table.columns[place][row].as_py())
    words = ("dividend", "split", "holiday", "closed", "no trade", "suspended", "halt")
    return any(word in text.lower() for word in words) and all(is_nothing(cell) for cell in cells)


def _counts(values: Any, field: Any, table: Table, place: int) -> Any:
    import pyarrow as pa

    try:
        return values.cast(field.type)
    except pa.ArrowException as error:
        raise BadBars(
            f"{table.what} has no plain number as {field.name} ({error}); write, for example, 1234.5, or leave the "
            "column out"
        ) from error


def _extra_numbers(table: Table, place: int, name: str, mark: str) -> Any:
    """Return a column as float64, with null for an empty text and NaN; -1 is a number like any other."""
    import pyarrow as pa

    column = table.columns[place]
    if is_text(column):
        cells = [None if text is None or is_nothing(text) else text.strip() for text in column.to_pylist()]
        column = pa.chunked_array([pa.array(cells, pa.string())])
        if mark == ",":
            cells = [text and text.replace(".", "").replace(",", ".") for text in cells]
            column = pa.chunked_array([pa.array(cells, pa.string())])
    try:
        return _without_nan(column.cast(pa.float64()))
    except pa.ArrowException as error:
        raise BadBars(
            f"{table.what} has values other than numbers in the extra column {name} ({error}); write, for example, "
            "1.5, or "
            "nothing where there is none, or do not keep it"
        ) from error


def _without_nan(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    unknown = pc.is_nan(column)
    return pc.if_else(unknown, pa.scalar(None, pa.float64()), column) if pc.any(unknown).as_py() else column


def _combined(column: Any) -> Any:
    import pyarrow as pa

    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # of one chunk, that would be a copy


def _with_prices(table: Table, numbers: dict[str, Any], roles: Roles) -> tuple[Table, dict[str, Any]]:
    """Return only the rows that have a price, and count the others."""
    import pyarrow as pa

    if not all(numbers[name].null_count for name in PRICES):
        return table, numbers
    nothing = np.all([np.asarray(numbers[name].is_null()) for name in PRICES], axis=0)
    if not nothing.any() or nothing.all():
        return table, numbers
    empty = np.flatnonzero(nothing)
    note = Note(
        f"left out {len(empty):,} {table.unit}{'s' * (len(empty) > 1)} without a price",
        tuple(table.where(int(row)) for row in empty),
    )
    chosen = pa.array(np.flatnonzero(~nothing))
    return table.taken(~nothing).with_notes(note), {name: column.take(chosen) for name, column in numbers.items()}


def _factored(numbers: dict[str, Any], roles: Roles) -> dict[str, Any]:
    """Return the prices adjusted by the ratio of the closes, if only the close is given adjusted."""
    import pyarrow.compute as pc

    if not roles.factor:
        return numbers
    factor = pc.divide(numbers["adjusted"], numbers["raw"])
    prices = {name: pc.multiply(numbers[name], factor) for name in PRICES[:3]}
    prices["close"] = numbers["adjusted"]
    # What was equal stays equal: a product may be off by its last bit.
    prices["high"] = pc.max_element_wise(*(prices[name] for name in ("high", "open", "close")))
    prices["low"] = pc.min_element_wise(*(prices[name] for name in ("low", "open", "close")))
    raw_high = pc.greater_equal(numbers["high"], pc.max_element_wise(numbers["open"], numbers["raw"]))
    raw_low = pc.less_equal(numbers["low"], pc.min_element_wise(numbers["open"], numbers["raw"]))
    kept = pc.and_(pc.fill_null(raw_high, True), pc.fill_null(raw_low, True))
    plain = {name: pc.multiply(numbers[name], factor) for name in ("high", "low")}
    for name in ("high", "low"):
        prices[name] = pc.if_else(kept, prices[name], plain[name])
    return {**numbers, **prices}


# --- times


def _without_twins(found: ReadBars, what: str) -> ReadBars:
    """Return bars with one per time: of equal duplicates one is omitted; different ones are refused."""
    times = found.bars["time"].to_numpy()
    again = np.flatnonzero(times[1:] == times[:-1]) + 1
    if not len(again):
        return found
    for row in again.tolist():
        first, second = found.bars.slice(row - 1, 2).to_pylist()
        if other := [name for name in first if first[name] != second[name]]:
            raise BadBars(
                f"{what} has {len(again)} bars with the time of another, the first {second['time']} in "
                f"{found.where(row - 1)} and {found.where(row)}, with {other[0]} {first[other[0]]} and "
                f"{second[other[0]]}; keep one of each"
            )
    mask = np.zeros(len(times), bool)
    mask[again] = True
    note = Note(
        f"left out {len(again):,} repeated {found.unit}{'s' * (len(again) > 1)}",
        tuple(found.where(int(row)) for row in again),
    )
    return found.without(mask, note)


def _check_size(found: ReadBars, series: Series, what: str) -> None:
    """Refuse bars whose intervals all exceed the series' bar size: five minutes in a one-minute series."""
    times = arrays.numbers(found.bars["time"])
    if len(times) <= _APART or (not series.size.daily and _common_step(times) <= series.size.seconds):
        return  # as is nearly always seen without an array of all steps
    seconds = times.view("datetime64[us]").astype("datetime64[s]").astype(np.int64)
    steps: np.ndarray = np.diff(seconds)
    if series.size.seconds < 86_400:
        usual = int(np.median(steps))
        larger = [size for size in BAR_SIZES.values() if not size.daily and size.seconds == usual]
        if larger and usual > series.size.seconds and (steps % usual == 0).all():
            raise UsageError(
                f"the bars of {what} are {larger[0].label} apart, but those of {series.short} are of "
                f"{series.size.label}; name {replace(series, size=larger[0]).short}"
            )
    elif series.size.period == "session" and np.median(steps) >= 5 * 86_400 and steps.min() >= 3 * 86_400:
        other = "1week" if np.median(steps) < 20 * 86_400 else "1month"
        raise UsageError(
            f"the bars of {what} are {int(np.median(steps)) // 86_400} days apart, but those of {series.short} are of "
            f"a day; name {replace(series, size=BAR_SIZES[other]).short}"
        )


def _common_step(times: np.ndarray) -> int:
    """Return the largest number of whole seconds of which all steps between times are multiples; 0 if none is one."""
    found = 0
    for part in arrays.blocks(len(times)):
        some = times[part.start : part.stop + 1].view("datetime64[us]").astype("datetime64[s]").astype(np.int64)
        found = int(np.gcd.reduce(np.diff(some), initial=found))
    return found


def _at_last_sessions(found: ReadBars, series: Series, hours: Hours, options: FileOptions, what: str) -> ReadBars:
    """Return weeks or months dated by their last session, when they are known; move those dated by their first."""
    days = [moment.date() for moment in found.bars["time"].to_pylist()]
    if not days:
        return found
    week = series.size.period == "week"
    known = {session.day for session in _sessions_around(hours, days)}
    if week and not options.stamped and sum(_is_free_sunday(day, known) for day in days) > _HALF * len(days):
        raise UsageError(
            f"{what} dates its weeks by Sundays, the first {days[0]} in {found.where(0)}, but a week may begin "
            "or end on a Sunday; say which: --stamped open or --stamped close"
        )
    if week and options.stamped == "open":
        days = [day + _DAY if day.weekday() == 6 else day for day in days]
    periods = [_period(day, week) for day in days]
    firsts, lasts = zip(*(_edges_of(period, known) for period in periods), strict=True)
    left = np.array([day <= first and day != last for day, first, last in zip(days, firsts, lasts, strict=True)])
    right = np.array([day >= last for day, last in zip(days, lasts, strict=True)])
    sure = slice(None) if len(days) == 1 else slice(0, -1)  # the last may be under way
    if options.stamped == "open" or (not options.stamped and left[sure].mean() >= _MOST):
        word = "first"
    elif options.stamped == "close" or right[sure].mean() >= _MOST:
        word = "last"
    else:
        row = int(np.flatnonzero(~left & ~right)[0]) if (~left & ~right).any() else 0
        raise UsageError(
            f"{what} dates its {series.size.period}s neither by their first day nor by their last, as {days[row]} in "
            f"{found.where(row)}; say which is meant with --stamped open or --stamped close"
        )
    moved = [last if word == "first" or day > last else day for day, last in zip(days, lasts, strict=True)]
    if moved == [moment.date() for moment in found.bars["time"].to_pylist()]:
        return found
    note = f"{series.size.period}s dated by their {word} day, moved to their last session: {days[0]} to {moved[0]}"
    return replace(found, bars=_at_times(found.bars, [_midnight(day) for day in moved]), how=(*found.how, note))


def _is_free_sunday(day: date, known: set[date]) -> bool:
    return day.weekday() == 6 and day not in known


def _period(day: date, week: bool) -> tuple[date, date]:
    """Return the first and last date of the week, from Monday on, or of the month that a date is in."""
    if week:
        monday = day - day.weekday() * _DAY
        return monday, monday + 6 * _DAY
    following = (day.replace(day=28) + 4 * _DAY).replace(day=1)
    return day.replace(day=1), following - _DAY


def _edges_of(period: tuple[date, date], known: set[date]) -> tuple[date, date]:
    """Return the first and last session in a period, or its own ends if it has none."""
    first, last = period
    inside = [day for n in range((last - first).days + 1) if (day := first + n * _DAY) in known]
    return (inside[0], inside[-1]) if inside else period


def _sessions_around(hours: Hours, days: list[date]) -> list[Any]:
    try:
        return sessions(hours, days[0] - 40 * _DAY, days[-1] + 40 * _DAY)
    except UsageError:  # no calendar is known: every day may be one
        return []


def _at_openings(
    found: ReadBars, series: Series, hours: Hours, options: FileOptions, what: str, ends: bool
) -> ReadBars:
    """Return bars stamped with their opening; move those that a file stamps with their close."""
    if series.size.daily or not len(found.bars):
        return found
    if ends and not options.stamped:
        raise UsageError(
            f"{what} has the times at which bars end, according to the column name; --stamped close moves them to "
            "their "
            "opening, --stamped open reads them as the opening"
        )
    if not options.stamped and (why := _doubt(found.bars, series, hours)):
        raise UsageError(
            f"{what} may stamp bars with their end: {why}; say which: --stamped close moves them to their opening, "
            "--stamped open reads the times as the opening"
        )
    if options.stamped != "close":
        return found
    times = found.bars["time"].to_pylist()
    openings = _openings(times, series, hours)
    note = f"stamped with the close, moved to the opening: {times[0]:%H:%M}Z to {openings[0]:%H:%M}Z"
    return replace(found, bars=_at_times(found.bars, openings), how=(*found.how, note))


def _doubt(bars: pa.Table, series: Series, hours: Hours) -> str:
    """Return the evidence that times are the ends of bars; "" if there is none, or it cannot be known."""
    first, last = (bars["time"][n].as_py().date() for n in (0, -1))
    if not series.regular_hours or not exact(hours, first, last):
        return ""
    times = arrays.numbers(bars["time"])
    near = sessions(hours, first - _DAY, last + _DAY)
    opens, closes = (np.array([int(getattr(one, name).timestamp()) for one in near]) for name in ("open", "close"))
    begins, ended = _next_of(times, opens), _next_of(times, closes) == closes
    if (begins == opens).any():
        return ""
    if ended.any():
        return f"none opens with a session, and one is at a close, {_shown(near[int(ended.argmax())].close, hours)}"
    begun = begins <= closes
    late = begun & (begins == opens + series.size.seconds)
    if late.any() and late.sum() > _HALF * begun.sum():
        at = near[int(late.argmax())].open + timedelta(seconds=series.size.seconds)
        return f"the first of a session is at {_shown(at, hours)}, {series.size.label} after it opens"
    return ""


def _next_of(times: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Return the first of ascending times, in microseconds, at or after each moment, both in seconds; or a late one."""
    rows = np.searchsorted(times, moments * _MICRO)
    return np.where(rows < len(times), times[np.minimum(rows, len(times) - 1)] // _MICRO, _NEVER)


def _shown(moment: datetime, hours: Hours) -> str:
    from zoneinfo import ZoneInfo

    return f"{moment.astimezone(ZoneInfo(hours.zone)):%Y-%m-%d %H:%M} in {hours.zone}" if hours.zone else f"{moment}"


def _openings(times: list[datetime], series: Series, hours: Hours) -> list[datetime]:
    """Return the openings of bars, given their ends: a bar has its size, unless another bar or its session cuts it."""
    size = timedelta(seconds=series.size.seconds)
    try:
        near = sessions(hours, times[0].date() - 2 * _DAY, times[-1].date() + 2 * _DAY, series.regular_hours)
    except UsageError:
        near = []
    opens = [session.open for session in near]
    from bisect import bisect_left

    found = []
    for row, end in enumerate(times):
        whole = end - size
        place = bisect_left(opens, end) - 1
        session = near[place].open if place >= 0 and end <= near[place].close else whole
        before = times[row - 1] if row else whole
        found.append(max(whole, session, before if before < end else whole))
    return found


def _at_times(bars: pa.Table, times: list[datetime]) -> pa.Table:
    import pyarrow as pa

    return bars.set_column(0, bars.schema.field("time"), pa.array(times, pa.timestamp("us", tz="UTC")))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
