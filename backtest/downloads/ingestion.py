"""
Bars of files into a store, after the checks of a download; nothing is dropped unsaid.

A file is first understood, which is shown; only then is it written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.errors import BadBars, Conflict, NoBars, UsageError
from backtest.market.checks import ImpossibleBar, check_answer, compare_bars, impossible_bars, missing_sessions
from backtest.market.hours import Hours
from backtest.market.series import Series, refuse_made
from backtest.market.span import Span
from backtest.sources.files.export import span_of_bars
from backtest.sources.files.reading import FileOptions, ReadBars, read_bars
from backtest.sources.files.table import Note, Table
from backtest.store.audit.findings import inspect_bars
from backtest.store.reader import hours_in
from backtest.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

LEAVABLE = ("bad", "outside")
_LISTED = 5  # bars of a note


@dataclass(frozen=True, slots=True)
class Intake:
    """
    The bars of a series as they are to be written, and what is to be said before.

    `new` counts those that the store lacks, `notes` say what was understood, left out, and is missing.
    """

    series: Series
    bars: pa.Table
    what: str
    mapping: dict[str, str | None]
    how: tuple[str, ...]
    notes: tuple[str, ...]
    left_out: int
    new: int


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
    Return what would be written of a table: read, checked bar by bar, and compared with what is stored.

    Args:
        leave_out: bars to keep out instead of refusing all: "bad" those that cannot be true, "outside" those outside of
            the exchange's sessions.
        accept_revision: take values that are different from stored ones.
        accept_split: take prices that step as after a split that nobody has adjusted them for.

    Raises:
        UsageError, BadBars: it cannot be read, or holds a bar that cannot be true; the text names the line.
        Conflict: stored bars are different.
        NoBars: no bar is left.
    """
    refuse_made(series.instrument)
    hours = hours_in(store, series)
    read = read_bars(table, series, options, hours)
    if not len(read.bars):
        raise NoBars(f"{table.what} holds no bars of {series.short}; name a file that does")
    count = len(read.bars)
    read = _without_faults(read, table.what, series, hours, set(leave_out))
    if not len(read.bars):
        raise NoBars(f"{table.what} holds no bar of {series.short} that can be true: {read.notes[-1]}")
    check_answer(read.bars, series, hours)
    if not accept_split:
        _ask_about_splits(read, table.what, series, hours)
    new = _new_bars(read, table.what, series, store, accept_revision)
    notes = [*map(str, read.notes), *_gaps(read.bars, series, hours)]
    return Intake(series, read.bars, table.what, read.mapping, read.how, tuple(notes), count - len(read.bars), new)


def write_intake(store: Store, intake: Intake, accept_revision: bool = False) -> int:
    """Write the bars, and return how many of them are new."""
    why = "imported again" if accept_revision else ""
    span = span_of_bars(intake.bars, intake.series)
    return store.write(intake.series, span, intake.bars, source="csv", revise=accept_revision, why=why)


def _without_faults(read: ReadBars, what: str, series: Series, hours: Hours, leave_out: set[str]) -> ReadBars:
    """Return the bars that can be true; refuse all where one cannot, unless such are to be left out."""
    if unknown := leave_out - {*LEAVABLE}:
        raise UsageError(f"nothing is called {min(unknown)!r} to leave out; write bad or outside")
    wrong = impossible_bars(read.bars, series, hours)
    left = [fault for fault in wrong if "bad" in leave_out or (fault.outside and "outside" in leave_out)]
    kept = [fault for fault in wrong if fault not in left] if left else wrong
    if kept:
        raise _refusal(kept, read, what, series, hours)
    if not left:
        return read
    mask = np.zeros(len(read.bars), bool)
    mask[[fault.row for fault in left]] = True
    named = tuple(f"{read.where(fault.row)} {fault.text}" for fault in left)
    return read.without(mask, Note(f"{len(left):,} of {len(read.bars):,} bars left out", named))


def _refusal(wrong: Sequence[ImpossibleBar], read: ReadBars, what: str, series: Series, hours: Hours) -> BadBars:
    first, more = wrong[0], len(wrong) - 1
    time_of = read.bars["time"][first.row].as_py()
    stamp = f"{time_of:%Y-%m-%d}" if series.size.daily else f"{time_of:%Y-%m-%d %H:%M:%S}Z"
    others = f", and {more:,} more of {len(read.bars):,} bars cannot be true either" if more else ""
    cure = "correct it, or keep such bars out with --leave-out bad"
    if all(fault.outside for fault in wrong):
        cure = "take them out, or keep them out with --leave-out outside"
        whole = replace(series, regular_hours=False)
        if (
            series.regular_hours
            and not series.size.daily
            and not any(f.outside for f in impossible_bars(read.bars, whole, hours))
        ):
            cure = f"to store all hours: --all-hours, or the series {whole.short}; only these: --leave-out outside"
    return BadBars(f"{what}, {read.where(first.row)} ({stamp}): {first.text}{others}; {cure}")


def _ask_about_splits(read: ReadBars, what: str, series: Series, hours: Hours) -> None:
    splits = [one for one in inspect_bars(read.bars, series, hours) if one.check == "split"]
    if splits:
        more = f", and so do {len(splits) - 1:,} more" if len(splits) > 1 else ""
        raise BadBars(
            f"{what}: {splits[0].text}{more}; if the file is not adjusted for it, take adjusted columns with "
            "--adjusted, or get it adjusted; if the price did move so, take it with --accept-split"
        )


def _new_bars(read: ReadBars, what: str, series: Series, store: Store, accept_revision: bool) -> int:
    """Return how many bars the store lacks; raise Conflict where it has others, unless they may be replaced."""
    if not store.manifest_or_empty(series).rows:
        return len(read.bars)
    span = span_of_bars(read.bars, series)
    stored = store.read(series, span)
    times = stored["time"].to_pylist()
    change = compare_bars(stored, read.bars)
    if change and not accept_revision:
        raise _conflict(change.times, stored, read, what, series)
    return len(read.bars) - len({*times} & {*read.bars["time"].to_pylist()})


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
    """Return what is to be said of sessions without a bar between the first and the last."""
    spans = missing_sessions(series, hours, bars, span_of_bars(bars, series))
    if not spans:
        return []
    shown = ", ".join(_days(span) for span in spans[:_LISTED])
    more = f" and {len(spans) - _LISTED:,} more times" if len(spans) > _LISTED else ""
    return [f"sessions without a bar: {shown}{more}"]


def _days(span: Span) -> str:
    first, last = span.start.date(), (span.end - (span.end - span.start) / 10**6).date()
    return f"{first}" if first == last else f"{first} to {last}"
