"""
`ingest`: store bars of frames and files after the checks of a download; report everything that is skipped.

An import first reads the file and shows how; only then does it write.
"""

from __future__ import annotations

import math
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest import _arguments
from backtest.downloads.downloader import DownloadReport
from backtest.downloads.file_names import EVERY, bar_size_of, series_in
from backtest.downloads.report import SeriesReport
from backtest.errors import BacktestError, BadBars, Conflict, NoBars, UsageError
from backtest.market import arrays
from backtest.market.checks import ImpossibleBar, check_answer, compare_bars, impossible_bars, missing_sessions
from backtest.market.extra import extra_names, problem_of, suggested_name
from backtest.market.hours import Hours
from backtest.market.series import (
    BAR_SIZES,
    CONTRACT_KINDS,
    NO_CURRENCY,
    ContractDetails,
    Instrument,
    Series,
    refuse_made,
    series_of,
    several_series,
)
from backtest.market.span import Span
from backtest.sources.files.columns import numeric_extras
from backtest.sources.files.export import span_of_bars
from backtest.sources.files.frames import is_frame
from backtest.sources.files.reading import FileOptions, ReadBars, only_symbol, read_bars, read_table, symbols_in
from backtest.sources.files.table import Note, Table
from backtest.store.audit.findings import likely_splits
from backtest.store.reader import hours_in
from backtest.store.store import Store, open_folder

if TYPE_CHECKING:
    import pyarrow as pa

LEAVABLE = ("bad", "outside")
FRAME = "FRAME"  # the name of the instrument for a frame without one
_LISTED = 5  # gaps listed in a note
_NAMED = 50  # bars that were left out
_FRAMES = "write a pandas or polars data frame, a pyarrow table, or a dict of them keyed by series"
# The Python names of command-line options.
_WORDS = (
    (r"--tz ZONE, such as --tz (\S+), or --tz exchange", r'tz="\1", or tz="exchange"'),
    (r" \(in --source, write csv:FOLDER\?tz=ZONE\)", ""),
    (r"--day-first or --month-first", "day_first=True or day_first=False"),
    (r"--(adjusted|accept-split|accept-revision)\b", lambda found: f"{found[1].replace('-', '_')}=True"),
    (r"--all-hours, or name the series", "name the series"),
    (r"run this again with ", "write "),
    (r"--columns ([\w-]+(?:,[\w-]+)+)", lambda found: f"columns={found[1].split(',')}"),
    (
        r"--(stamped|leave-out|decimal|symbol|extra) ([\w.,]+)",
        lambda found: f'{found[1].replace("-", "_")}="{found[2]}"',
    ),
    (r"--(\w+)(-(\w+))?", lambda found: f"{found[1]}{'_' + found[3] if found[3] else ''}="),
)


@dataclass(frozen=True, slots=True)
class Intake:
    """
    The bars of a series to write, and the notes to show first.

    `new` is the number of bars that the store lacks; `notes` say how the file was read, what was skipped and what is
    missing.
    """

    series: Series
    bars: pa.Table
    what: str
    mapping: dict[str, str | None]
    how: tuple[str, ...]
    notes: tuple[str, ...]
    left_out: int
    new: int


# Arguments that a run does not have.
_WORDS_OF_RUNS = (
    (r"(.*\b(stamped|accept_split|leave_out|adjusted|day_first|columns)=.*)", r"\1; `ingest` takes that, into a store"),
)


def ingest(
    frame: Any,
    series: Series | str | Iterable[Series | str] | None,
    store: Store | str | Path,
    *,
    tz: str = "",
    extra: Iterable[str] | str | None = None,
    columns: Sequence[str] | str = (),
    symbol: str = "",
    adjusted: bool = False,
    stamped: str = "",
    day_first: bool | None = None,
    leave_out: str = "",
    accept_revision: bool = False,
    accept_split: bool = False,
    multiplier: float = 0.0,
) -> DownloadReport:
    """
    Store the bars of a frame, after the checks of a download; if one series fails, nothing is written.

    Columns are recognised by their names; times may be a column or the index. yfinance's frames work as they are, with
    one ticker or several. `report.series[0].notes` says what was read as what, and what was skipped.

    Args:
        frame: a pandas or polars frame, an Arrow table, or the path of a file; or a dict of these, by series.
        series: the series of the bars, such as "AAPL/1day"; several, or "*/1day", for a frame with several symbols;
            None for a dict.
        store: a store, or its folder.
        tz: zone of times that have none, such as "America/New_York"; "exchange" for the instrument's own.
        extra: columns to store besides those of a bar. Default: all numeric ones whose name can be that of a line.
        columns: the meaning of each column, in order: time, open, high, low, close, volume, average, trades; "-" skips
            one.
        symbol: the symbol whose rows to take, if the frame's name for it differs from the series.
        adjusted: take the vendor's prices adjusted for splits and dividends.
        stamped: whether bars shorter than a day are stamped with their "open" or their "close"; of weeks and months,
            with their first or last day. Default: derived from the times; if they are ambiguous, an error asks for it.
        day_first: whether 03/04/2024 is in April.
        leave_out: "bad" skips invalid bars, "outside" those outside of the exchange's sessions.
        accept_revision: accept values that differ from stored ones; the old bars are archived.
        accept_split: accept a price jump that looks like a split.
        multiplier: the contract multiplier of futures and options, such as 50 for the E-mini S&P 500; 0 if it is
            already stored, or part of the spelling.

    Raises:
        UsageError: an argument or the frame is invalid or ambiguous; the text says what to write.
        BadBars: a bar is invalid.
        Conflict: stored bars are different.
    """
    options = FileOptions(
        tz=_arguments.text(tz, "tz", "write an IANA zone, such as America/New_York, or leave it out"),
        extra=extra_names(extra) if extra is not None else (),
        columns=tuple(_listed(columns, "columns", "write names, such as time,open,high,low,close,volume")),
        adjusted=_arguments.truth(adjusted, "adjusted"),
        symbol=_arguments.text(symbol, "symbol", "write one of the symbols of the frame, or leave it out"),
        stamped=_arguments.text(stamped, "stamped", "write open or close, or leave it out"),
        day_first=None if day_first is None else _arguments.truth(day_first, "day_first"),
    )
    left = _listed(leave_out, "leave_out", "write bad or outside, or leave it out")
    revises, splits = (
        _arguments.truth(accept_revision, "accept_revision"),
        _arguments.truth(accept_split, "accept_split"),
    )
    target, started = store if isinstance(store, Store) else open_folder(store), time.monotonic()
    with _in_python():
        intakes = [
            plan_intake(table, one, target, own, leave_out=left, accept_revision=revises, accept_split=splits)
            for table, one, own in _asked(frame, series, options, every_extra=extra is None)
        ]
        worth = _arguments.number(multiplier, "multiplier", "write a number such as 50, or leave it out")
        contracts = [contract_told(one.series, target, worth) for one in intakes]
        reports = tuple(_stored(target, *pair, revises) for pair in zip(intakes, contracts, strict=True))
    return DownloadReport(reports, len(reports), 0, time.monotonic() - started)


@contextmanager
def stored_frames(frames: Any, tz: str = "") -> Iterator[tuple[Store, list[Series]]]:
    """
    Yield a store with the bars of a frame, or of a dict of frames by series, and these series.

    A frame without a name gets its bar size from its times, and the instrument FRAME, which has no currency. The store
    is deleted when the block ends; the digest identifies its bars.

    Args:
        tz: zone of times that have none; see `ingest`.

    Raises:
        UsageError, BadBars: as `ingest`.
    """
    with tempfile.TemporaryDirectory(prefix="backtest-frame-") as folder:
        store = Store(Path(folder).resolve())  # an absolute path: workers in other folders open it
        store.of_frames = True
        with _in_python(_WORDS_OF_RUNS):
            wanted = _stored_frames(frames, store, tz)
        yield store, wanted


def _stored_frames(frames: Any, store: Store, tz: str) -> list[Series]:
    if are_frames(frames):
        ingest(frames, None, store, tz=tz)
        return [series_of(one) for one in frames]
    with _in_python():
        table = read_table(frames)
        symbol = _symbol_alone(table)
        series = _series_of_frame(table, FileOptions(symbol=symbol, tz=tz))
    ingest(frames, series, store, symbol=symbol, tz=tz)
    return [series]


def are_frames(given: Any) -> bool:
    """Return whether an object is a dict of frames by series."""
    return isinstance(given, Mapping) and bool(given) and all(is_frame(one) for one in given.values())


def plan_intake(
    table: Table,
    series: Series,
    store: Store,
    options: FileOptions,
    *,
    leave_out: Iterable[str] = (),
    accept_revision: bool = False,
    accept_split: bool = False,
) -> Intake:
    """
    Return what an import of a table would write: read, checked bar by bar, and compared with stored bars.

    Args:
        leave_out: bars to skip instead of refusing the file: "bad" for invalid ones, "outside" for those outside the
            exchange's sessions.
        accept_revision: accept values that differ from stored ones.
        accept_split: accept prices that jump as at a split for which they were not adjusted.

    Raises:
        UsageError, BadBars: the table cannot be read, or has an invalid bar; the text names the line.
        Conflict: stored bars are different.
        NoBars: no bar is left.
    """
    refuse_made(series.instrument)
    hours = hours_in(store, series)
    read = read_bars(table, series, options, hours)
    if not len(read.bars):
        raise NoBars(f"{table.what} holds no bars of {series.short}; name a file that does")
    count = len(read.bars)
    read = _without_unfinished(read, series, store)
    read = _without_faults(read, table.what, series, hours, set(leave_out))
    if not len(read.bars):
        raise NoBars(f"{table.what} holds no valid bar of {series.short}: {read.notes[-1]}")
    check_answer(read.bars, series, hours)
    if not accept_split:
        _ask_about_splits(read, table.what, series, hours)
    new = _new_bars(read, table.what, series, store, accept_revision)
    notes = [*map(str, read.notes), *_gaps(read.bars, series, hours)]
    return Intake(series, read.bars, table.what, read.mapping, read.how, tuple(notes), count - len(read.bars), new)


def write_intake(
    store: Store,
    intake: Intake,
    accept_revision: bool = False,
    source: str = "csv",
    contract: ContractDetails | None = None,
) -> int:
    """Write the bars, and contract details if there are any, and return how many bars are new."""
    why = "imported again" if accept_revision else ""
    span = span_of_bars(intake.bars, intake.series)
    return store.write(
        intake.series, span, intake.bars, source=source, contract=contract, revise=accept_revision, why=why
    )


def contract_told(series: Series, store: Store, multiplier: float) -> ContractDetails | None:
    """
    Return the contract details of a series with the user's multiplier; None for 0, which means that none was given.

    Raises:
        UsageError: it is below 0, or the instrument has no multiplier, or a different one.
    """
    if not multiplier:
        return None
    if not 0 < multiplier < math.inf:
        raise UsageError(f"the multiplier is {multiplier}; it must be above 0, such as 50 for the E-mini S&P 500")
    if series.instrument.kind not in CONTRACT_KINDS:
        raise UsageError(
            f"a multiplier only applies to futures and options, and {series.short} is neither; leave it out"
        )
    spelled = series.instrument.qualifier("multiplier")
    if spelled and not math.isclose(float(spelled), multiplier):
        raise UsageError(
            f"{series.short} names the multiplier {spelled}, but --multiplier names {multiplier:g}; give one"
        )
    known = store.manifest_or_empty(series).contract
    if known and known.con_id and known.multiplier and not math.isclose(float(known.multiplier), multiplier):
        raise UsageError(
            f"the contract details of {series.short} have the multiplier {known.multiplier}, not {multiplier:g}; "
            "leave --multiplier out"
        )
    return replace(known or ContractDetails(min_tick=0.0), multiplier=f"{multiplier:.12g}")  # its tick is not known


# --- frames


def _listed(given: Any, name: str, example: str) -> list[str]:
    words = given.split(",") if isinstance(given, str) and given else given or []
    return [_arguments.text(one, name, example).strip() for one in _arguments.several(words, name, example)]


def _asked(
    frame: Any, series: Any, options: FileOptions, every_extra: bool
) -> Iterator[tuple[Table, Series, FileOptions]]:
    """Yield the table of each requested series, and the options for reading it."""
    if are_frames(frame):
        if series is not None:
            _arguments.refuse("series", series, "write None, since the keys of the dict are the series")
        for key, one in frame.items():
            wanted = series_of(key)
            table = read_table(one, f"the frame of {wanted.short}")
            yield table, wanted, _with_extra(table, wanted, options, every_extra)
        return
    if series is None:
        _arguments.refuse("series", series, f'write, for example, "AAPL/1day", or pass a dict as frame; {_FRAMES}')
    table = read_table(frame)
    if isinstance(series, str) and series.startswith(EVERY):
        pairs = series_in(table, Path(FRAME), series, options)
    else:
        pairs = [(one, options) for one in several_series(series)]
    for one, own in pairs:
        yield table, one, _with_extra(table, one, own, every_extra)


def _with_extra(table: Table, series: Series, options: FileOptions, every: bool) -> FileOptions:
    """Return the options with the names of all numeric columns that are not part of a bar, if these are to be kept."""
    if not every:
        return options
    found: list[str] = []
    own = only_symbol(table, series, options)
    for name in numeric_extras(own, series, options.columns, options.adjusted):
        fitting = suggested_name(name) if own.names.count(name) < 2 else ""
        if fitting and not problem_of([*found, fitting]):
            found.append(fitting)
    return replace(options, extra=tuple(found))


def _stored(store: Store, intake: Intake, contract: ContractDetails | None, accept_revision: bool) -> SeriesReport:
    added = write_intake(store, intake, accept_revision, source="frame", contract=contract)
    first, last = (intake.bars["time"][n].as_py() for n in (0, -1))
    rows = store.manifest(intake.series).rows
    notes = (*intake.how, *intake.notes)
    return SeriesReport(intake.series, "complete", added, rows, 1, 1, first, last, notes=notes)


def _symbol_alone(table: Table) -> str:
    """Return the symbol of a frame with a single one, "" if it names none."""
    symbols = symbols_in(table, FileOptions())
    if len(symbols) > 1:
        raise UsageError(
            f"the frame has bars of {', '.join(symbols)}; pass a dict of frames keyed by series: "
            f'{{"{symbols[0]}/1day": frame, "{symbols[1]}/1day": frame}}'
        )
    return symbols[0] if symbols else ""


def _series_of_frame(table: Table, options: FileOptions) -> Series:
    """Return the series of a frame without a name: its instrument has no currency, its exchange no known hours."""
    daily = Series(Instrument(FRAME, "STK", FRAME, NO_CURRENCY), BAR_SIZES["1day"])
    size = bar_size_of(table, daily, options)
    probe = replace(daily, size=size)
    bars = read_bars(table, probe, replace(options, stamped="" if size.daily else "open")).bars
    days = bars["time"].to_numpy().astype("datetime64[D]").astype(np.int64)
    if size.period not in ("week", "month") and ((days + 3) % 7 == 5).any():  # trades on Saturdays, as coins do
        return Series(Instrument(FRAME, "CRYPTO", FRAME, NO_CURRENCY), size)
    return probe


@contextmanager
def _in_python(words: Sequence[tuple[str, Any]] = _WORDS) -> Iterator[None]:
    """Make errors name Python's arguments instead of command-line options."""
    try:
        yield
    except BacktestError as error:
        text = str(error)
        for pattern, word in words:
            text = re.sub(pattern, word, text)
        if text == str(error):
            raise
        raise type(error)(text) from error


def _without_unfinished(read: ReadBars, series: Series, store: Store) -> ReadBars:
    """Return the bars without an unfinished week or month: a run would take it for a complete one."""
    if series.size.period not in ("week", "month"):
        return read
    today = np.datetime64(store.clock().replace(tzinfo=None), "us").astype("datetime64[D]")
    late = read.bars["time"].to_numpy().astype("datetime64[D]") > today
    if not late.any():
        return read
    named = tuple(read.where(int(row)) for row in np.flatnonzero(late))
    return read.without(
        late, Note(f"left out {len(named):,} unfinished {series.size.period}{'s' * (len(named) > 1)}", named)
    )


def _without_faults(read: ReadBars, what: str, series: Series, hours: Hours, leave_out: set[str]) -> ReadBars:
    """Return the valid bars; refuse all of them if one is invalid, unless invalid ones are to be skipped."""
    if unknown := leave_out - {*LEAVABLE}:
        raise UsageError(f"unknown kind of bars for --leave-out: {min(unknown)!r}; write bad or outside")
    wrong = impossible_bars(read.bars, series, hours)
    left = [fault for fault in wrong if "bad" in leave_out or (fault.outside and "outside" in leave_out)]
    kept = [fault for fault in wrong if fault not in left] if left else wrong
    if kept:
        raise _refusal(kept, read, what, series, hours)
    if not left:
        return read
    mask = np.zeros(len(read.bars), bool)
    mask[[fault.row for fault in left]] = True
    named = tuple(_placed(read.where(fault.row), fault) for fault in left)
    return read.without(mask, Note(f"left out {len(left):,} of {len(read.bars):,} bars", named, _NAMED))


def _refusal(wrong: Sequence[ImpossibleBar], read: ReadBars, what: str, series: Series, hours: Hours) -> BadBars:
    first, more = wrong[0], len(wrong) - 1
    time_of = read.bars["time"][first.row].as_py()
    stamp = f"{time_of:%Y-%m-%d}" if series.size.daily else f"{time_of:%Y-%m-%d %H:%M:%S}Z"
    others = f"; {more:,} more of {len(read.bars):,} bars {'are' if more > 1 else 'is'} invalid too" if more else ""
    cure = "fix it, or skip such bars with --leave-out bad"
    if all(fault.outside for fault in wrong):
        cure = "remove them, or skip them with --leave-out outside"
        whole = replace(series, regular_hours=False)
        if (
            series.regular_hours
            and not series.size.daily
            and not any(f.outside for f in impossible_bars(read.bars, whole, hours))
        ):
            cure = (
                f"to store all hours: --all-hours, or name the series {whole.short}; to skip these bars: --leave-out "
                "outside"
            )
    return BadBars(f"{what}, {_placed(f'{read.where(first.row)} ({stamp})', first)}{others}; {cure}")


def _placed(place: str, fault: ImpossibleBar) -> str:
    """Return a sentence on an invalid bar: the place is its subject unless the reason has one of its own."""
    return f"{place}{' ' if fault.text.startswith(('has ', 'lies ')) else ': '}{fault.text}"


def _ask_about_splits(read: ReadBars, what: str, series: Series, hours: Hours) -> None:
    if splits := likely_splits(read.bars, series, hours):
        more = f", and so do {len(splits) - 1:,} more" if len(splits) > 1 else ""
        raise BadBars(
            f"{what}: {splits[0].text}{more}; if the file is not adjusted for it, use adjusted columns with "
            "--adjusted, or an adjusted file; if the price did move that much, accept it with --accept-split"
        )


def _new_bars(read: ReadBars, what: str, series: Series, store: Store, accept_revision: bool) -> int:
    """Return how many bars the store lacks; raise Conflict if stored bars differ, unless they may be replaced."""
    if not store.manifest_or_empty(series).rows:
        return len(read.bars)
    try:
        stored = store.read(series, span_of_bars(read.bars, series))
    except NoBars:  # the stored bars are on other days
        return len(read.bars)
    change = compare_bars(stored, read.bars)
    if change and not accept_revision:
        raise _conflict(change.times, stored, read, what, series)
    return int(np.isin(arrays.numbers(read.bars["time"]), arrays.numbers(stored["time"]), invert=True).sum())


def _conflict(times: Sequence[Any], stored: pa.Table, read: ReadBars, what: str, series: Series) -> Conflict:
    import pyarrow.compute as pc

    moment = times[0]
    (old,) = stored.filter(pc.equal(stored["time"], moment)).to_pylist()
    places = [row for row, one in enumerate(read.bars["time"].to_pylist()) if one == moment]
    stamp = f"{moment:%Y-%m-%d}" if series.size.daily else f"{moment:%Y-%m-%d %H:%M:%S}Z"
    if not places:
        text = f"{stamp} is stored, and {what} has no bar there"
    else:
        (new,) = read.bars.slice(places[0], 1).to_pylist()
        names = [name for name in old if name in new and old[name] != new[name] and name != "time"]
        values = ", ".join(f"{name} {_shown(old[name])} stored, {_shown(new[name])} in the file" for name in names)
        text = f"{what}, {read.where(places[0])} ({stamp}): {values}"
    return Conflict(
        f"{text}; {len(times):,} of {len(stored):,} stored bars of {series.short} are different; the stored bars were "
        "kept; to take those of the file, run this again with --accept-revision"
    )


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)


def _gaps(bars: pa.Table, series: Series, hours: Hours) -> list[str]:
    """Return the note on sessions without a bar between the first bar and the last."""
    spans = missing_sessions(series, hours, bars, span_of_bars(bars, series))
    if not spans:
        return []
    shown = ", ".join(_days(span) for span in spans[:_LISTED])
    more = f" and {len(spans) - _LISTED:,} more spans" if len(spans) > _LISTED else ""
    return [f"sessions without a bar: {shown}{more}"]


def _days(span: Span) -> str:
    first, last = span.start.date(), (span.end - (span.end - span.start) / 10**6).date()
    return f"{first}" if first == last else f"{first} to {last}"
