"""
The store: bars on disk as Parquet, a folder a series, and what was asked and answered.

    ROOT/STORE.json                                     format of the store
    ROOT/AAPL-STK-SMART-USD/1min/TRADES/rth/            one series, named by its one spelling
        manifest.json                                   the only file that changes; replaced whole, hashed by itself
        bars/2024-03.8139f5ddaac6.parquet               immutable, named by period and content
        archive/                                        segments that a revision replaced
        quarantine/                                     answers that were not believed, and why
    ROOT/.staging/                                      series that are being read anew, themselves a store

A write makes new segments, then swaps the manifest: a kill at any instant leaves the old state or the new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from backtest import _arguments
from backtest._clock import Clock, utc_now
from backtest.errors import BacktestError, BadStore, DamagedStore, DataError, NoBars, UsageError
from backtest.market.bars import check_bars, schema
from backtest.market.calendars import span_asked
from backtest.market.series import ContractDetails, Series, did_you_mean_series, refuse_made, series_of
from backtest.market.span import Span, asked_span
from backtest.store.files import (
    keep_file,
    locked,
    make_folders,
    read_file,
    refuse_links,
    sync_folder,
    write_file,
)
from backtest.store.layout import files_in, format_of, has_bars, mark_store, names_of, strays
from backtest.store.manifest import (
    LARGEST,
    REPAIR,
    Answer,
    Manifest,
    Revision,
    Segment,
    in_order,
    recorded,
    remembering,
)
from backtest.store.manifest_json import ANSWER_NAME, of_bytes, to_bytes
from backtest.store.segments import (
    bars_in,
    download_record,
    downloads_in,
    encode,
    encode_any,
    in_threads,
    masked,
    merged,
    segment_of,
)
from backtest.store.tables import around, between, by_period, check_inside, conflict, differing, joined

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.market.series import Series

_T = TypeVar("_T")


class Store:
    """
    Bars on disk below a root folder; the folder is made by the first write.

    Args:
        clock: what time is written down, where a call does not say when something came.

    Raises:
        BadStore: the folder holds something else, or a store of a newer format.
        UsageError: the root is a URL.
    """

    def __init__(self, root: str | Path, clock: Clock = utc_now) -> None:
        if "://" in str(root):
            raise UsageError(f"{root} is a URL and no folder; to read it: open_store({str(root)!r})")
        self.root = _arguments.path(root, "the store", "write the path of its folder, such as data/bars")
        self.clock: Clock = _arguments.function(
            clock, "clock", "write a function that returns a time in UTC, or leave it out"
        )
        format_of(self.root)

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    def series(self) -> list[Series]:
        """
        Return every series of the store, in the order of their spelling; also one whose manifest is lost.

        Raises:
            BadStore: a folder of bars is named as no series is.
        """
        folders = [folder for folder in self.root.glob("[!.]*/*/*/*") if has_bars(folder)]
        return sorted((self._series_of(folder) for folder in folders), key=lambda one: one.key)

    def manifest(self, series: Series | str) -> Manifest:
        """
        Return what the store knows of a series.

        Raises:
            NoBars: the store does not know the series.
            DamagedStore: the manifest is not what was written, or is lost while its segments are there.
        """
        wanted = series_of(series)
        found = self.manifest_or_empty(wanted)
        if not found.generation:
            raise self._unknown(wanted)
        return found

    def manifest_or_empty(self, series: Series | str) -> Manifest:
        """
        Return what the store knows of a series; of one that it does not know an empty manifest.

        Raises:
            DamagedStore: the manifest is not what was written, or is lost while its segments are there.
        """
        wanted = series_of(series)
        return self._read_manifest(wanted) or Manifest(wanted.key)

    def named(self, series: Series | str) -> Series:
        """
        Return the stored series that a spelling means: a future or option may be named by its month or by its date.

        A contract by its month is the stored one of that contract month, one by its date that which IB said ends on
        it; where there is none, and where the spelling itself is stored, it is returned as it is.

        Raises:
            UsageError: several stored contracts have that month, or the series is one that this version cannot make.
        """
        wanted = series_of(series)
        refuse_made(wanted.instrument)
        if not wanted.instrument.expiry or self.manifest_or_empty(wanted).generation:
            return wanted
        found = [one for one in self.series() if _but_for_expiry(one, wanted) and self._expires(one, wanted)]
        if len(found) > 1:
            raise UsageError(f"{wanted.short} may be {' or '.join(one.short for one in found)}; name one of them")
        return found[0] if found else wanted

    def _expires(self, stored: Series, wanted: Series) -> bool:
        contract, expiry = self.manifest_or_empty(stored).contract, wanted.instrument.expiry
        return contract is not None and expiry in (contract.contract_month, contract.last_trade_date[:8])

    def gaps(self, series: Series | str, span: Span | Sequence[date | str]) -> list[Span]:
        """
        Return the parts of a span, or of the sessions of a pair of dates, that were never asked for and answered.

        Raises:
            UsageError: the span or the pair cannot be read.
        """
        wanted = series_of(series)
        return _known_span(wanted, span).minus(self.manifest_or_empty(wanted).coverage)

    def read(
        self,
        series: Series | str,
        span: Span | Sequence[date | str | None] | None = None,
        *,
        start: date | str | None = None,
        end: date | str | None = None,
        revision: int | None = None,
    ) -> pa.Table:
        """
        Return the stored bars, verified against their hashes.

        The columns are `time` (the bar's opening, UTC; of daily bars the session's date), `open`, `high`, `low` and
        `close` in the instrument's currency, `volume`, `average` and `trades`; null is what the vendor does not know.

        Args:
            series: a series, or its spelling.
            span: a `Span` of stamps, or a pair of sessions, both included; all bars if not given.
            start: the first session, in the place of a span.
            end: the last session, included.
            revision: read the bars exactly as they were before this revision, by its number in `revisions`.

        Raises:
            UsageError: a spelling, a date or a number cannot be read.
            NoBars: the store does not know the series or the revision, or has no bar of it in the span.
            DamagedStore: a file is not what was written.
        """
        wanted = self.named(series)
        stamps = span_asked(wanted, asked_span(span, start, end))
        tables = self._each_segment(wanted, lambda manifest: _wanted(manifest, stamps, revision), bars_in)
        bars = joined(tables)
        if stamps is not None:
            bars = between(bars, stamps)
        if not len(bars):
            known = self.manifest_or_empty(wanted).rows
            where, hint = (
                (f" from {stamps}" if stamps else "", "") if known else ("", did_you_mean_stored(wanted, self))
            )
            raise NoBars(
                f"{wanted.short}{where} is not in {self.root}; "
                f"run: backtest download {wanted.quoted} --since DATE{hint}"
            )
        return bars

    def write(
        self,
        series: Series | str,
        span: Span | Sequence[date | str],
        bars: pa.Table,
        *,
        source: str = "",
        text: str = "",
        contract: ContractDetails | None = None,
        at: datetime | None = None,
        revise: bool = False,
        why: str = "",
        provenance: Mapping[str, str] | None = None,
    ) -> int:
        """
        Record that asking for the span was answered with these bars, and return how many of them are new.

        A bar that is stored already must be the same again, and none may have gone; with `revise` the new
        answer wins, and the old segments go to the archive as a revision.

        Args:
            span: what was asked for, or a pair of sessions; every bar lies in it.
            bars: the whole answer, columns as in `bars.schema()`; an empty table where the vendor has none.
            source: who answered, without account, host or user names.
            text: what the vendor said, where it matters ("no data").
            at: when the answer came; what the store's clock says if not given.
            why: why bars are revised, if they are.
            provenance: what else is known of the download, by the names in `segments.PROVENANCE`.

        Raises:
            UsageError: an argument cannot be read.
            BadBars: a bar breaks the rules of a bar or lies outside the span; nothing is written.
            Conflict: stored bars disagree; nothing is written.
        """
        wanted = series_of(series)
        asked, at = _known_span(wanted, span), self._known_moment(at)
        _check_bars_table(bars, wanted)
        check_inside(bars, asked, wanted)
        source, text, why = (_known_text(name, one) for name, one in (("source", source), ("text", text), ("why", why)))
        if contract is not None:
            _arguments.instance(contract, "contract", ContractDetails, "write a ContractDetails, or leave it out")
        known = _arguments.mapping(provenance, "provenance", "write texts by their names, as in segments.PROVENANCE")
        download = download_record(known, source, asked, at, len(bars))
        revises = _arguments.truth(revise, "revise")
        with self._lock(wanted) as old:
            answers = recorded(old.answers, Answer(asked, len(bars), at, source, text))
            change = _Change(asked, bars, answers, contract or old.contract, (download,), source, why, at)
            return self._put(wanted, old, change, revises)

    def replace(self, series: Series | str, staged: Store, *, why: str = "", at: datetime | None = None) -> int:
        """
        Put the bars of another store in place of all of a series', as one revision; return how many more there are.

        What the other store was answered, and from where, comes along; it is left as it is.

        Raises:
            NoBars: the other store has none of the series.
        """
        _arguments.instance(staged, "staged", Store, "write the Store that has the new bars")
        series, at, why = series_of(series), self._known_moment(at), _known_text("why", why)
        bars, new = staged.read(series), staged.manifest(series)
        covered = [*new.coverage, *self.manifest_or_empty(series).coverage]
        whole = Span(min(span.start for span in covered), max(span.end for span in covered))
        source = new.answers[-1].source
        downloads = tuple(staged.provenance(series))
        with self._lock(series) as old:
            contract = new.contract or old.contract
            change = _Change(whole, bars, new.answers, contract, downloads, source, why, at)
            return self._put(series, old, change, revise=True)

    def revisions(self, series: Series | str) -> list[Revision]:
        """Return the changes of stored bars that can be undone in reading, the oldest first; appends are none."""
        return list(self.manifest_or_empty(series).revisions)

    def provenance(self, series: Series | str) -> list[dict[str, str]]:
        """Return the downloads that the stored bars came from, by time, as far as their files name them."""
        return merged(self._each_segment(series_of(series), lambda manifest: manifest.segments, downloads_in))

    def prune(self, series: Series | str, keep: int = 0) -> int:
        """
        Give up all revisions but the newest few, remove their segments, and return how many bytes that frees.

        Raises:
            NoBars: the store does not know the series.
        """
        series, keep = series_of(series), _arguments.whole(keep, "keep")
        if not self.manifest(series).archived:
            return 0
        with self._lock(series) as old:
            kept = old.revisions[max(len(old.revisions) - keep, 0) :]
            pruned = old.pruned + len(old.revisions) - len(kept)
            new = replace(old, generation=old.generation + 1, revisions=kept, pruned=pruned, earlier=())
            self._commit(series, old, new)
        return sum(segment.bytes for segment in {*old.archived} - {*new.archived})

    def quarantine(self, series: Series | str, span: Span | Sequence[date | str], bars: pa.Table, reason: str) -> Path:
        """Put an answer aside, with the reason in its metadata, and return its file; the bars stay as they are."""
        import pyarrow as pa

        series, reason = series_of(series), _arguments.text(reason, "reason", "write why the answer is not believed")
        span = _known_span(series, span)
        _arguments.instance(bars, "bars", pa.Table, "write a table of Arrow's")
        note = {"series": series.key, "span": str(span), "reason": reason, "at": self.clock().isoformat()}
        data = encode_any(bars, json.dumps(note))
        name = f"{span.start:%Y-%m-%d}.{hashlib.sha256(data).hexdigest()[:12]}.parquet"
        with self._lock(series) as old:
            folder = self.folder(series)
            self._make(folder / "quarantine")
            write_file(folder / "quarantine" / name, data, folder)
            sync_folder(folder / "quarantine")
            aside = tuple(sorted({*old.aside, name}))
            self._commit(series, old, replace(old, generation=old.generation + 1, aside=aside))
        return folder / "quarantine" / name

    def discard_aside(self, series: Series | str) -> int:
        """
        Throw away the answers that were put aside, and return how many bytes that frees.

        Raises:
            NoBars: the store does not know the series.
        """
        series = series_of(series)
        self.manifest(series)  # refuses one that the store does not know
        place = self.folder(series) / "quarantine"
        refuse_links(place, self.root)
        with self._lock(series) as old:
            if old.aside:
                self._commit(series, old, replace(old, generation=old.generation + 1, aside=()))
            answers = [path for path in files_in(place) if ANSWER_NAME.fullmatch(path.name)]
            freed = sum(path.lstat().st_size for path in answers)
            for path in answers:
                path.unlink()
        return freed

    def staging(self) -> Store:
        """Return the store beside this one in which series are read anew."""
        refuse_links(self.root / ".staging", self.root)
        return Store(self.root / ".staging", self.clock)

    def drop(self, series: Series | str) -> None:
        """Remove a series and all that was kept of it."""
        series = series_of(series)
        if not self.folder(series).exists():
            return
        with self._lock(series):
            # Gone at once and for good, then taken apart: a kill midway must not leave half a series.
            gone = self.root / f".trash-{os.getpid()}-{hashlib.sha256(series.key.encode()).hexdigest()[:12]}"
            self.folder(series).rename(gone)
            sync_folder(self.folder(series).parent)
        for trash in self.root.glob(".trash-*"):
            shutil.rmtree(trash, ignore_errors=True)

    def folder(self, series: Series | str) -> Path:
        """Return the folder of a series; `folder / "bars"` is plain Parquet for any reader."""
        wanted = series_of(series)
        refuse_made(wanted.instrument)
        return self.root / wanted.key

    # --- the mark of a store

    def _unknown(self, series: Series) -> NoBars:
        hint = did_you_mean_stored(series, self)
        return NoBars(f"{series.short} is not in {self.root}; see what is: backtest ls --store {self.root}{hint}")

    def _series_of(self, folder: Path) -> Series:
        key = folder.relative_to(self.root).as_posix()
        with contextlib.suppress(UsageError):
            if Series.parse(key).key == key:
                return Series.parse(key)
        raise BadStore(f"{folder} is named as no series is, and so is not of this store; move it elsewhere")

    # --- reading: a manifest, and segments that it names

    def _read_manifest(self, series: Series) -> Manifest | None:
        folder = self.folder(series)
        refuse_links(folder / "bars", self.root)
        path = folder / "manifest.json"
        try:
            data = read_file(path, LARGEST)
        except FileNotFoundError:
            if any(folder.glob("bars/*.parquet")):
                raise DamagedStore(f"{path} is lost while its bars are there; restore it from a backup") from None
            return None
        return of_bytes(data, path, series)

    def _each_segment(
        self,
        series: Series,
        choose: Callable[[Manifest], Sequence[Segment]],
        use: Callable[[Path, Segment], _T],
    ) -> list[_T]:
        """Return what `use` makes of each segment that is chosen, all of one state of the series."""
        manifest = self._read_manifest(series)
        while manifest is not None:
            try:
                segments = choose(manifest)
                return in_threads(use, self._paths(series, manifest, segments), segments)
            except FileNotFoundError as error:
                newer = self._read_manifest(series)
                if newer is None or newer.generation == manifest.generation:
                    raise DamagedStore(f"{error.filename} is lost; {REPAIR}") from error
                manifest = newer  # a writer moved on while we read
        return []

    def _paths(self, series: Series, manifest: Manifest, segments: Iterable[Segment]) -> list[Path]:
        folder, stored = self.folder(series), names_of(manifest.segments)
        refuse_links(folder / "archive", self.root)
        return [folder / ("bars" if one.file in stored else "archive") / one.file for one in segments]

    # --- writing: lock, segments, manifest, sweep

    def _known_moment(self, at: datetime | None) -> datetime:
        if at is None:
            return self.clock()
        example = "write a moment with its time zone, such as datetime(2024, 1, 2, tzinfo=UTC), or leave it out"
        if _arguments.instance(at, "at", datetime, example).tzinfo is None:
            _arguments.refuse("at", at.isoformat(), example)
        return at

    @contextlib.contextmanager
    def _lock(self, series: Series) -> Iterator[Manifest]:
        """Hold the series, and yield its manifest; where the block fails before its commit, nothing stays of it."""
        with contextlib.ExitStack() as held:
            for _ in range(100):  # as often as others drop the series while we wait for it
                mark_store(self.root)
                refuse_links(self.folder(series) / "bars", self.root)
                (self.folder(series) / "bars").mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    held.enter_context(locked(self.folder(series) / ".lock"))
                    break
            manifest = self._read_manifest(series) or self._born(series)
            try:
                yield manifest
            except OSError:
                with contextlib.suppress(OSError, DataError):
                    if self.manifest_or_empty(series).generation == manifest.generation:
                        self._sweep(series, manifest)
                raise

    def _born(self, series: Series) -> Manifest:
        # Born with an empty manifest: segments without a manifest are then always damage.
        folder, manifest = self.folder(series), Manifest(series.key)
        make_folders(folder / "bars", self.root)
        write_file(folder / "manifest.json", to_bytes(manifest))
        sync_folder(folder)
        return manifest

    def _put(self, series: Series, old: Manifest, change: _Change, revise: bool) -> int:
        """Commit a change, and return how many more bars there are."""
        before, fresh = self._before(series, old, change), by_period(change.bars, series)
        stored = between(joined(before.values()), change.span)
        other = differing(stored, change.bars)
        if other and not revise:
            raise conflict(series, stored, change.bars, other)
        empty = schema().empty_table()
        pairs = {period: (before.get(period, empty), fresh.get(period, empty)) for period in {*before, *fresh}}
        changed = {
            period: joined(around(bars, change.span, new))
            for period, (bars, new) in pairs.items()
            if not between(bars, change.span).equals(new)
        }
        kept = [segment for segment in old.segments if segment.period not in changed]
        new = replace(
            old,
            generation=old.generation + 1,
            contract=change.contract,
            segments=in_order([*kept, *self._write_segments(series, old, changed, change)]),
            answers=change.answers,
            revisions=_revised(old, change, changed, len(other)) if other else remembering(old, changed),
        )
        self._commit(series, old, new)
        return new.rows - old.rows

    def _before(self, series: Series, old: Manifest, change: _Change) -> dict[str, pa.Table]:
        """Return the bars of each period that the change may touch."""
        periods = by_period(change.bars, series)
        touched = [one for one in old.segments if one.period in periods or _overlaps(one, change.span)]
        tables = self._use(bars_in, series, old, touched)
        return {segment.period: table for segment, table in zip(touched, tables, strict=True)}

    def _write_segments(
        self, series: Series, old: Manifest, changed: Mapping[str, pa.Table], change: _Change
    ) -> list[Segment]:
        folder, written = self.folder(series), []
        for period, bars in sorted(changed.items()):
            if len(bars):
                data = encode(bars, [*self._downloads(series, old, period, change.span), *change.downloads])
                written.append(segment_of(period, bars, data))
                # Unfinished outside bars/, so that a reader of that folder never sees it.
                write_file(folder / "bars" / written[-1].file, data, folder)
        if written:
            sync_folder(folder / "bars")
        return written

    def _downloads(self, series: Series, old: Manifest, period: str, span: Span) -> list[dict[str, str]]:
        """Return where the bars of a period came from, of which some lie outside the span and so stay."""
        before = [one for one in old.segments if one.period == period and not _inside(one, span)]
        return [one for downloads in self._use(downloads_in, series, old, before) for one in downloads]

    def _use(
        self, use: Callable[[Path, Segment], _T], series: Series, held: Manifest, segments: Sequence[Segment]
    ) -> list[_T]:
        """Return what `use` makes of each segment of a series whose lock we hold: what is gone is lost."""
        try:
            return in_threads(use, self._paths(series, held, segments), segments)
        except FileNotFoundError as error:
            raise DamagedStore(f"{error.filename} is lost; {REPAIR}") from error

    def _commit(self, series: Series, old: Manifest, new: Manifest) -> None:
        folder = self.folder(series)
        leaving = names_of(old.segments) - names_of(new.segments)
        if kept := sorted(leaving & names_of(new.archived)):
            self._make(folder / "archive")
            for name in kept:
                keep_file(folder / "bars" / name, folder / "archive", folder)
            sync_folder(folder / "archive")
        write_file(folder / "manifest.json", to_bytes(new))
        sync_folder(folder)
        self._sweep(series, new)

    def _sweep(self, series: Series, manifest: Manifest) -> None:
        """Remove what the manifest does not name, as far as the disk lets us: the next write sweeps what stays."""
        with contextlib.suppress(OSError):
            for path in strays(self.folder(series), manifest):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _make(self, folder: Path) -> None:
        refuse_links(folder, self.root)
        folder.mkdir(exist_ok=True)


@dataclass(frozen=True, slots=True)
class _Change:
    """What is to be committed: the bars that a span has from now on, and how they came."""

    span: Span
    bars: pa.Table
    answers: tuple[Answer, ...]
    contract: ContractDetails | None
    downloads: tuple[Mapping[str, str], ...]
    source: str
    why: str
    at: datetime


def _revised(old: Manifest, change: _Change, changed: Iterable[str], bars: int) -> tuple[Revision, ...]:
    periods = tuple(sorted(changed))
    replaced = tuple(segment for segment in old.segments if segment.period in periods)
    number = old.pruned + len(old.revisions) + 1
    return (*old.revisions, Revision(number, change.at, bars, change.source, change.why, periods, replaced))


# --- what callers pass


def _known_span(series: Series, span: Span | Sequence[date | str]) -> Span:
    found = span_asked(series, asked_span(span))
    return _arguments.instance(found, "span", Span, "write a Span, or a pair of sessions")


def _known_text(name: str, text: str) -> str:
    return masked(_arguments.text(text, name, "write a text, or leave it out"))


def _check_bars_table(bars: pa.Table, series: Series) -> None:
    import pyarrow as pa

    _arguments.instance(bars, "bars", pa.Table, "write a table of Arrow's with the columns of bars.schema()")
    check_bars(bars, series)


# --- one segment


def _wanted(manifest: Manifest, span: Span | None, revision: int | None) -> list[Segment]:
    segments = manifest.segments if revision is None else manifest.before(revision)
    return [segment for segment in segments if span is None or _overlaps(segment, span)]


def _but_for_expiry(one: Series, other: Series) -> bool:
    return replace(one, instrument=replace(one.instrument, expiry=other.instrument.expiry)) == other


def _overlaps(segment: Segment, span: Span) -> bool:
    return datetime.fromisoformat(segment.first) < span.end and datetime.fromisoformat(segment.last) >= span.start


def _inside(segment: Segment, span: Span) -> bool:
    return datetime.fromisoformat(segment.first) in span and datetime.fromisoformat(segment.last) in span


def did_you_mean_stored(wanted: Series, store: Store) -> str:
    """Return the like of the series of a store that lacks one; what else may be wrong with it is not what is told."""
    with suppress(BacktestError):
        return did_you_mean_series(wanted, store.series())
    return ""
