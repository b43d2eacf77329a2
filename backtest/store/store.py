"""
The store: bars on disk as Parquet, one folder per series, and the record of requests and answers.

    ROOT/STORE.json                                     format of the store
    ROOT/AAPL-STK-SMART-USD/1min/TRADES/rth/            one series, named by its one spelling
        manifest.json                                   the only file that changes; replaced whole, hashed by itself
        bars/2024-03.8139f5ddaac6.parquet               immutable, named by period and content
        archive/                                        segments that a revision replaced
        quarantine/                                     answers that were not stored, and why
    ROOT/.staging/                                      a store with the series that are being read again

A write creates new segments, then replaces the manifest: a kill at any instant leaves the old state or the new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from backtest import _arguments
from backtest._clock import Clock, utc_now
from backtest._resources import bundled
from backtest._system import OPEN_FILES_STAY, remove_file
from backtest.errors import BadBars, BadStore, DamagedStore, DataError, UsageError
from backtest.market.bars import check_bars, check_unset, extra_of, schema, with_extra, without_empty
from backtest.market.extra import problem_of, united
from backtest.market.series import ContractDetails, Series, refuse_made, series_of
from backtest.market.span import Span
from backtest.store.files import (
    keep_file,
    locked,
    make_folders,
    read_if_any,
    refuse_links,
    size_if_any,
    sync_folder,
    unreadable,
    write_file,
)
from backtest.store.layout import (
    files_in,
    folders_of_series,
    format_of,
    has_segments,
    instruments_in,
    mark_store,
    names_of,
    strays,
)
from backtest.store.manifest import (
    LARGEST,
    REPAIR,
    Answer,
    Manifest,
    Revision,
    Segment,
    in_order,
    recorded,
    remembered,
    remembering,
)
from backtest.store.manifest_json import ANSWER_NAME, of_bytes, to_bytes
from backtest.store.reader import Reader, SegmentReader, known_span, overlaps
from backtest.store.segments import (
    bars_in,
    download_record,
    downloads_in,
    encode,
    encode_any,
    in_threads,
    masked,
    segment_of,
)
from backtest.store.tables import around, between, by_period, check_inside, completed, conflict, differing, joined

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from backtest.store.remote import RemoteStore

_T = TypeVar("_T")

SAMPLE = "sample"
"""The word for the bundled store, where no folder has that name."""


def open_store(place: str | Path) -> Store | RemoteStore:
    """
    Return the store in a folder, or the one at a URL (s3://BUCKET/PREFIX), which can only be read.

    If there is no folder "sample", that name means the bundled store: daily bars of four stocks.

    Raises:
        UsageError: the URL is not that of a store, or contains credentials.
        BadStore: the folder holds something else, or the URL holds nothing.
        NoConnection: the server cannot be reached, or refuses.
    """
    if isinstance(place, str) and "://" in place:  # never shown: there may be a login in it
        from backtest.store.remote import RemoteStore

        return RemoteStore(place)
    return open_local(place)


def open_local(place: str | Path, clock: Clock = utc_now) -> Store:
    """
    Return the store in a folder of this machine, or the bundled one, for code that reads its files.

    Raises:
        UsageError: it is a URL.
    """
    return Store(local_folder(place), clock)


def local_folder(place: str | Path) -> Path:
    """
    Return the folder of a store on this machine, which need not exist; "sample" means the bundled store.

    Raises:
        UsageError: it is a URL.
    """
    return bundled(SAMPLE) if _is_sample(place) else _on_disk(place)


def open_folder(place: str | Path, clock: Clock = utc_now) -> Store:
    """
    Return the store in a folder, for code that writes, with the time of this clock.

    Raises:
        UsageError: it is a URL, or the bundled store.
    """
    if _is_sample(place):
        raise UsageError(f"{SAMPLE} is the bundled store, which is read-only; name a folder such as data/bars")
    return Store(_on_disk(place), clock)


def _is_sample(place: str | Path) -> bool:
    return str(place) == SAMPLE and not Path(place).exists()


def _on_disk(place: str | Path) -> Path:
    if "://" in str(place):
        raise UsageError("a store at a URL is read-only; write to a folder, then run: backtest publish URL")
    return _arguments.path(place, "the store", "write its folder, such as data/bars, or s3://BUCKET/PREFIX")


def store_of(given: Reader | str | Path | None) -> Reader:
    """
    Return the reader of bars, given as such, for example a store, or by its folder or URL.

    Raises:
        UsageError: none is given.
        UsageError, BadStore, NoConnection: as `open_store`.
    """
    if given is None:
        _arguments.refuse(
            "store", given, "write a store or its folder, such as data/bars, or a frame in place of the series"
        )
    return given if isinstance(given, Reader) else open_store(given)


def panel(
    series: Series | str | Sequence[Series | str],
    field: str = "close",
    *,
    store: Reader | str | Path | None = None,
    start: date | str | None = None,
    end: date | str | None = None,
) -> pd.DataFrame:
    """
    Return one column of many series as a frame: a row per time (UTC; for daily bars the session's date), a column per
    series.

    A value is NaN where a series has no bar, or the vendor does not know the number. `Store.panel` returns an Arrow
    table.

    Args:
        series: a list of series or their spellings, all of one bar size; or one.
        store: the store that holds their bars, or its folder or URL.
        field: "open", "high", "low", "close", "volume", "average", "trades", or the name of an extra column.
        start: the first session.
        end: the last session, included.

    Raises:
        UsageError: an argument is invalid, a series is named twice, or their bars are not of one size.
        NoBars: the store lacks a series, or has no bar of any in these sessions.
    """
    reader = store_of(store)
    if not isinstance(reader, SegmentReader):
        _arguments.refuse("store", reader, "write a store or its folder, such as data/bars")
    table = reader.panel(series, field=field, start=start, end=end)
    frame: pd.DataFrame = table.to_pandas().set_index("time")
    return frame


def instrument_keys(store: Store) -> frozenset[str]:
    """Return the keys of the instruments with folders in a store; one of them may have no series yet."""
    return frozenset(instruments_in(store.root))


def series_of_instrument(store: Store, key: str) -> list[Series]:
    """Return every series of an instrument, named by its key, as `Store.series` does; reads no other folder."""
    return store._begun(folders_of_series(store.root, [key]))


_SHOWN = 20  # series of a store that a notebook names


class Store(SegmentReader):
    """
    Bars on disk below a root folder; the first write creates the folder.

    Args:
        clock: the time to record if a call does not give one.

    Raises:
        BadStore: the folder holds something else, or a store of a newer format.
        UsageError: the root is a URL.
    """

    of_frames = False  # whether a call made it of frames, so that it is gone when the call ends

    def __init__(self, root: str | Path, clock: Clock = utc_now) -> None:
        if "://" in str(root):
            raise UsageError(f"{root} is a URL and no folder; to read it: open_store({str(root)!r})")
        self.root = _arguments.path(root, "the store", "write the path of its folder, such as data/bars")
        self.name = str(self.root)
        self.clock: Clock = _arguments.function(
            clock, "clock", "write a function that returns a time in UTC, or leave it out"
        )
        format_of(self.root)

    def _repr_html_(self) -> str:
        series = self.series()
        more = f"and {len(series) - _SHOWN:,} more" if len(series) > _SHOWN else ""
        from backtest._notebook import html_lines, html_table

        return html_table([f"{len(series):,} series in {self.name}"], [[one.short] for one in series[:_SHOWN]]) + (
            html_lines(more)
        )

    def series(self) -> list[Series]:
        """
        Return every series of the store, sorted by spelling, including one whose manifest is lost.

        A series to which nothing has been committed is omitted: its first bars are being written, or their writer was
        killed.

        Raises:
            BadStore: the name of a folder of bars is not that of a series.
        """
        return self._begun(folders_of_series(self.root))

    def _begun(self, folders: Iterable[Path]) -> list[Series]:
        """Return the series, by folder, to which something was committed."""
        found = [(self._series_of(folder), folder) for folder in folders]
        begun = [one for one, folder in found if not self._is_unborn(one, size_if_any(folder / "manifest.json"))]
        return sorted(begun, key=lambda one: one.key)

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
        Store these bars as the answer to a request for the span, and return how many of them are new.

        Bars that are already stored must be equal and present in the answer; with `revise` the new answer wins, and the
        old segments go to the archive as a revision. Extra columns that the answer lacks keep their stored values, bar
        by bar; those that the series lacks are added to it. A number that was missing before does not count as a
        difference.

        Args:
            span: the requested span, or a pair of sessions; it contains every bar.
            bars: the whole answer, columns as in `bars.schema()`, then extra ones; an empty table if the vendor has
                none.
            source: the source that answered, without account, host or user names.
            text: the vendor's text, if it matters ("no data").
            at: when the answer came. Default: the time of the store's clock.
            why: the reason for a revision, if there is one.
            provenance: further details of the download, by the names in `segments.PROVENANCE`.

        Raises:
            UsageError: an argument is invalid.
            BadBars: a bar breaks the rules of a bar or lies outside the span; nothing is written.
            Conflict: stored bars disagree; nothing is written.
        """
        wanted = series_of(series)
        asked, at = known_span(self, wanted, span), self._known_moment(at)
        _check_bars_table(bars, wanted)
        check_inside(bars, asked, wanted)
        source, text, why = (_known_text(name, one) for name, one in (("source", source), ("text", text), ("why", why)))
        if contract is not None:
            _arguments.instance(contract, "contract", ContractDetails, "write a ContractDetails, or leave it out")
        known = _arguments.mapping(
            provenance, "provenance", "write a dict of strings with the keys of segments.PROVENANCE"
        )
        download = download_record(known, source, asked, at, len(bars))
        revises = _arguments.truth(revise, "revise")
        with self._lock(wanted) as old:
            answers = recorded(
                old.answers, Answer(asked, len(bars), at, source, text), _still_empty(old.answers, asked, bars, at)
            )
            change = _Change(asked, bars, answers, contract or old.contract, (download,), source, why, at)
            return self._put(wanted, old, change, revises)

    def replace(self, series: Series | str, staged: Store, *, why: str = "", at: datetime | None = None) -> int:
        """
        Replace all bars of a series by those of another store, as one revision; return how many bars that adds.

        The other store's record of answers and their sources is copied too; the other store does not change.

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
            change = _Change(whole, bars, remembered(old.answers, new.answers), contract, downloads, source, why, at)
            return self._put(series, old, change, revise=True)

    def prune(self, series: Series | str, keep: int = 0) -> int:
        """
        Delete all revisions and their segments, except the latest few, and return how many bytes that frees.

        Raises:
            NoBars: the store does not know the series.
        """
        series, keep = series_of(series), _arguments.whole(keep, "keep")
        self.manifest(series)  # refuses one that the store does not know
        with self._lock(series) as old:
            if not old.archived:
                self._sweep(series, old)  # a process killed while dropping them may have left segments
                return 0
            kept = old.revisions[max(len(old.revisions) - keep, 0) :]
            pruned = old.pruned + len(old.revisions) - len(kept)
            new = replace(old, generation=old.generation + 1, revisions=kept, pruned=pruned, earlier=())
            self._commit(series, old, new)
            given_up = {*old.archived} - {*new.archived}
            folders = [self.folder(series) / name for name in ("archive", "bars")]
            # Windows keeps a file that another process reads; the next write to the series sweeps it.
            return sum(one.bytes for one in given_up if not any((folder / one.file).exists() for folder in folders))

    def quarantine(self, series: Series | str, span: Span | Sequence[date | str], bars: pa.Table, reason: str) -> Path:
        """Quarantine an answer, with the reason in its metadata, and return its file; the bars do not change."""
        import pyarrow as pa

        series, reason = series_of(series), _arguments.text(reason, "reason", "write why the answer is not believed")
        span = known_span(self, series, span)
        _arguments.instance(bars, "bars", pa.Table, "write a pyarrow table")
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
        Delete the quarantined answers, and return how many bytes that frees.

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
                remove_file(path)
        return freed

    def staging(self) -> Store:
        """Return the store beside this one into which series are re-downloaded."""
        refuse_links(self.root / ".staging", self.root)
        return Store(self.root / ".staging", self.clock)

    def drop(self, series: Series | str) -> None:
        """Remove a series with all its files."""
        series = series_of(series)
        folder = self.folder(series)
        if not folder.exists():
            return
        with self._lock(series) as old:
            # Gone at once and for good, then taken apart: a kill midway must not leave half a series.
            if old != Manifest(series.key):
                self._commit(series, old, Manifest(series.key))
            _take_apart(folder)
            if not OPEN_FILES_STAY:  # now, so that a process waiting for the lock notices that the lock was replaced
                _remove_emptied(folder)
        if OPEN_FILES_STAY:  # the lock among them; if others have opened it by now, they are to use it
            _remove_emptied(folder)
        with contextlib.suppress(FileNotFoundError):
            sync_folder(folder.parent)
        for trash in self.root.glob(".trash-*"):  # of an older version that was killed
            shutil.rmtree(trash, ignore_errors=True)

    def folder(self, series: Series | str) -> Path:
        """Return the folder of a series; `folder / "bars"` is plain Parquet for any reader."""
        wanted = series_of(series)
        refuse_made(wanted.instrument)
        return self.root / wanted.key

    # --- the mark of a store

    def _series_of(self, folder: Path) -> Series:
        key = folder.relative_to(self.root).as_posix()
        with contextlib.suppress(UsageError):
            if Series.parse(key).key == key:
                return Series.parse(key)
        raise BadStore(f"{folder} is not named like a series, so it does not belong to this store; move it elsewhere")

    # --- reading: a manifest, and segments that it names

    def _read_manifest(self, series: Series) -> Manifest | None:
        folder = self._folder_name(series)
        path = f"{folder}{os.sep}manifest.json"
        try:
            refuse_links(self.root, self.root, *series.key.split("/"), "bars")
            data = read_if_any(path, LARGEST)
            if data is None and has_segments(Path(folder)):
                data = read_if_any(path, LARGEST)  # by now: another process may have begun it, its manifest first
                if data is None:
                    raise DamagedStore(f"{path} is missing, but its bars are there; restore it from a backup")
        except PermissionError as error:
            raise unreadable(error.filename, error) from error
        return None if data is None else of_bytes(data, path, series)

    def _paths(self, series: Series, manifest: Manifest, segments: Iterable[Segment]) -> list[str]:
        segments = list(segments)
        folder, stored = self._folder_name(series), names_of(manifest.segments)
        if any(one.file not in stored for one in segments):  # "bars" was looked at when the manifest was read
            refuse_links(Path(folder) / "archive", self.root)
        names = ((one.file, "bars" if one.file in stored else "archive") for one in segments)
        return [f"{folder}{os.sep}{place}{os.sep}{name}" for name, place in names]

    def _folder_name(self, series: Series) -> str:
        """Return the folder of a series as a text: making paths takes a tenth of the time of reading a date of many."""
        refuse_made(series.instrument)
        return f"{self.root}{os.sep}{series.key.replace('/', os.sep)}"

    # --- writing: lock, segments, manifest, sweep

    def _known_moment(self, at: datetime | None) -> datetime:
        if at is None:
            return self.clock()
        example = "write a time-zone-aware datetime, such as datetime(2024, 1, 2, tzinfo=UTC), or leave it out"
        if _arguments.instance(at, "at", datetime, example).tzinfo is None:
            _arguments.refuse("at", at.isoformat(), example)
        return at

    @contextlib.contextmanager
    def _lock(self, series: Series) -> Iterator[Manifest]:
        """Lock the series, and yield its manifest; if the block fails before its commit, nothing of it remains."""
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
        """Commit a change, and return how many bars it adds."""
        extra = united([old.extra, extra_of(change.bars)])
        if problem := problem_of(extra):
            raise BadBars(f"{series.short} is stored with the extra columns {', '.join(old.extra)}, and {problem}")
        before = {period: with_extra(bars, extra) for period, bars in self._before(series, old, change).items()}
        empty = schema(extra).empty_table()
        stored = with_extra(between(joined(before.values()), change.span), extra)
        answer = completed(change.bars, stored)
        other = differing(stored, answer)
        if other and not revise:
            raise conflict(series, stored, answer, other)
        fresh = by_period(answer, series)
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
            extra=extra,
        )
        self._commit(series, old, new)
        return new.rows - old.rows

    def _before(self, series: Series, old: Manifest, change: _Change) -> dict[str, pa.Table]:
        """Return the bars of each period that the change may touch."""
        periods = by_period(change.bars, series)
        touched = [one for one in old.segments if one.period in periods or overlaps(one, change.span)]
        tables = self._use(bars_in, series, old, touched)
        return {segment.period: table for segment, table in zip(touched, tables, strict=True)}

    def _write_segments(
        self, series: Series, old: Manifest, changed: Mapping[str, pa.Table], change: _Change
    ) -> list[Segment]:
        folder, written = self.folder(series), []
        for period, bars in [(period, without_empty(changed[period])) for period in sorted(changed)]:
            if len(bars):
                data = encode(bars, [*self._downloads(series, old, period, change.span), *change.downloads])
                written.append(segment_of(period, bars, data))
                # Unfinished outside bars/, so that a reader of that folder never sees it.
                write_file(folder / "bars" / written[-1].file, data, folder)
        if written:
            sync_folder(folder / "bars")
        return written

    def _downloads(self, series: Series, old: Manifest, period: str, span: Span) -> list[dict[str, str]]:
        """Return the downloads of a period's bars, some of which lie outside the span and so stay."""
        before = [one for one in old.segments if one.period == period and not _inside(one, span)]
        return [one for downloads in self._use(downloads_in, series, old, before) for one in downloads]

    def _use(
        self, use: Callable[[Path | str, Segment], _T], series: Series, held: Manifest, segments: Sequence[Segment]
    ) -> list[_T]:
        """Return the result of `use` for each segment of a locked series, of which a missing file is lost."""
        try:
            return in_threads(use, self._paths(series, held, segments), segments)
        except FileNotFoundError as error:
            raise DamagedStore(f"{error.filename} is missing; {REPAIR}") from error

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
        """Remove files that the manifest does not name, as far as possible: the next write removes the rest."""
        with contextlib.suppress(OSError):
            for path in strays(self.folder(series), manifest):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _make(self, folder: Path) -> None:
        refuse_links(folder, self.root)
        folder.mkdir(exist_ok=True)


def _take_apart(folder: Path) -> None:
    """Remove everything except the lock from the folder of a series without a commit."""
    for name in ("bars", "archive", "quarantine"):
        shutil.rmtree(folder / name, ignore_errors=True)
    left = [path for path in files_in(folder) if path.name not in (".lock", "manifest.json")]
    for path in left if has_segments(folder) else [*left, folder / "manifest.json"]:
        with contextlib.suppress(OSError):
            path.unlink()


def _remove_emptied(folder: Path) -> None:
    with contextlib.suppress(OSError):
        (folder / ".lock").unlink(missing_ok=True)
        folder.rmdir()


class _Change(NamedTuple):
    """A change to commit: the new bars of a span, and their origin."""

    span: Span
    bars: pa.Table
    answers: tuple[Answer, ...]
    contract: ContractDetails | None
    downloads: tuple[Mapping[str, str], ...]
    source: str
    why: str
    at: datetime


def _still_empty(answers: Iterable[Answer], asked: Span, bars: pa.Table, at: datetime) -> list[Answer]:
    """Return the parts of earlier empty answers in a span in which a new answer has no bars either."""
    inside = [(answer, common) for answer in answers if not answer.bars and (common := answer.span.common(asked))]
    return [
        replace(answer, span=common, at=at, since=answer.first_said if answer.first_said != at else None)
        for answer, common in inside
        if not len(between(bars, common))
    ]


def _revised(old: Manifest, change: _Change, changed: Iterable[str], bars: int) -> tuple[Revision, ...]:
    periods = tuple(sorted(changed))
    replaced = tuple(segment for segment in old.segments if segment.period in periods)
    number = old.pruned + len(old.revisions) + 1
    return (*old.revisions, Revision(number, change.at, bars, change.source, change.why, periods, replaced))


# --- what callers pass


def _known_text(name: str, text: str) -> str:
    return masked(_arguments.text(text, name, "write a text, or leave it out"))


def _check_bars_table(bars: pa.Table, series: Series) -> None:
    import pyarrow as pa

    _arguments.instance(bars, "bars", pa.Table, "write a pyarrow table with the columns of bars.schema()")
    check_unset(bars, series)
    check_bars(bars, series)


# --- one segment


def _inside(segment: Segment, span: Span) -> bool:
    return datetime.fromisoformat(segment.first) in span and datetime.fromisoformat(segment.last) in span
