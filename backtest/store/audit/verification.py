"""
`verify`: check that a store is as written and complete. It reads every file and changes nothing.

Writers may be active meanwhile: if a series changes while it is checked, it is checked again, finally under its lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest._system import is_there
from backtest.errors import BadBars, BadStore, DamagedStore, DataError, NoBars, UsageError
from backtest.market.bars import COLUMNS, extra_of, schema, with_extra
from backtest.market.checks import check_answer, compare_bars, seconds
from backtest.market.extra import problem_of
from backtest.market.hours import Hours, hours_of
from backtest.market.series import Series, refuse_made
from backtest.market.span import Span
from backtest.store.audit.coverage import Coverage, coverage_of
from backtest.store.audit.findings import Finding, inspect_bars, sessions_inside
from backtest.store.files import TEMPORARY, locked, read_file, unreadable
from backtest.store.layout import ATTRIBUTES, MARK, folders_of_series
from backtest.store.manifest import LARGEST, LARGEST_SEGMENT, MOST_ROWS, Manifest, Segment
from backtest.store.manifest_json import of_bytes
from backtest.store.reader import lacks, ways_to_fill
from backtest.store.segments import check_values, downloads_of
from backtest.store.segments import decode_segment as decode_segment
from backtest.store.store import Store, local_folder
from backtest.store.tables import joined

if TYPE_CHECKING:
    import pyarrow as pa

DAMAGED, UNLISTED = ".damaged", ".unlisted"  # what a repair adds to the name of a file that it puts in quarantine
SEGMENT = re.compile(r"(all|\d{4}(-\d\d){0,2})\.[0-9a-f]{12}\.parquet")
_FOLDERS = ("bars", "archive", "quarantine")
_STAGING = ".staging"  # a separate store, into which series are being re-downloaded
_TRASH = ".trash-"  # a series that was being dropped when the process was killed
_LARGEST_DECODED = 2 * LARGEST_SEGMENT  # bytes: a small file could unfold to more than fits into memory
_TRIES = 5  # to catch a series between two writes

FAILING = {"damage": 3, "reject": 1, "conflict": 1, "hole": 1}  # exit code of a level


@dataclass(frozen=True, slots=True)
class SeriesAudit:
    """The findings about a series, or about the store as a whole (`series` is ""), and how much was checked."""

    series: str
    findings: tuple[Finding, ...]
    bars: int = 0
    files: int = 0
    coverage: Coverage | None = None  # None where the manifest is damaged

    def exit_code(self, strict: bool = False) -> int:
        """Return 3 if something is damaged, 1 if a check failed, 0 if all is well; `strict` makes warnings fail."""
        codes = [FAILING.get(one.level, int(strict and one.level == "warn")) for one in self.findings]
        return max(codes, default=0)


def verify(root: str | Path, wanted: Sequence[Series] = ()) -> Iterator[SeriesAudit]:
    """
    Yield the findings about the store as a whole, then about each series, or the requested ones.

    Raises:
        UsageError: the root is a URL.
        BadStore: there is no store in the folder, or one of another format.
        NoBars: a requested series is not in it.
    """
    if "://" in str(root):
        raise UsageError(f"{root} is a URL, and only a store on disk can be verified; name its folder with --store")
    for one in wanted:
        refuse_made(one.instrument)
    folder = local_folder(root)
    marked = list(_check_mark(folder))
    keys = _series_keys(folder)
    wanted = [one if one.key in keys else _named(folder, one) for one in wanted]
    missing = [one for one in wanted if one.key not in keys]
    if missing:
        raise NoBars(lacks(Store(folder), *missing))
    yield SeriesAudit("", (*marked, *_strangers(folder, keys)), files=1)
    for key in [one.key for one in wanted] or keys:
        yield verify_series(folder, key)


def _named(root: Path, series: Series) -> Series:
    """Return the stored series that a spelling refers to, as far as damage permits."""
    try:
        return Store(root).named(series)
    except DataError:
        return series


def verify_series(root: Path, key: str) -> SeriesAudit:
    """Return the findings about one series, by its key."""
    try:
        series = Series.parse(key)
        if series.key != key:
            raise UsageError(f"it is spelled {series.key}")
    except UsageError as error:
        return SeriesAudit(key, (Finding("names", "damage", f"{root / key} is not named like a series: {error}"),))
    for _ in range(_TRIES):
        before = _bytes_if_any(root / key / "manifest.json")
        verdict = _verified(root / key, series)
        if before == _bytes_if_any(root / key / "manifest.json"):
            return verdict
    with contextlib.suppress(OSError), locked(root / key / ".lock"):  # busy writers have to wait
        verdict = _verified(root / key, series)
    return verdict


def _series_keys(root: Path) -> list[str]:
    """Return the key of every folder that holds a series, or the remains of one."""
    return sorted(folder.relative_to(root).as_posix() for folder in folders_of_series(root))


def read_segment(path: Path, segment: Segment) -> pa.Table:
    """
    Return the bars of a file after all checks that do not need other files.

    Raises:
        DamagedStore: the file is missing or a link, differs from the manifest, or holds other bars.
        Unreadable: it cannot be read.
    """
    data = read_plain(path, segment.bytes)
    bars = decode_segment(data, segment, path)
    check_values(bars, segment, path)
    downloads_of(data, path)
    return bars


def decode_parquet(path: Path, data: bytes) -> pa.Table:
    """Return the bars of a Parquet file; raise DamagedStore if its footer states other columns, or too many rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # One thread, no read-ahead: Arrow's pool has been seen to abort the interpreter at exit.
        file = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False, page_checksum_verification=True)
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        size, rows = sum(group.total_byte_size for group in groups), file.metadata.num_rows
        extra = file.schema_arrow.names[len(COLUMNS) :]
        ours = file.schema_arrow.equals(schema(extra)) and not problem_of(extra)
        if not ours or not (rows <= MOST_ROWS and 0 <= size <= _LARGEST_DECODED):
            raise DamagedStore(f"{path} has {rows:,} rows of {', '.join(file.schema_arrow.names)[:200]}")
        return file.read(use_threads=False).replace_schema_metadata(None)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedStore(f"{path} cannot be read as Parquet ({str(error)[:200]})") from error


def read_plain(path: Path, limit: int) -> bytes:
    """
    Return what a file holds.

    Raises:
        DamagedStore: it is missing, a symbolic link, not a file, or larger than the limit.
        Unreadable: a disk error or missing permissions prevent reading it.
    """
    try:
        return read_file(path, limit)
    except FileNotFoundError:
        raise DamagedStore(f"{path} is missing") from None
    except OSError as error:
        raise unreadable(path, error) from error


def read_aside(path: Path) -> bytes:
    """
    Return what the file of an answer in quarantine holds.

    Raises:
        DamagedStore: it is missing, or differs from what was quarantined.
        Unreadable: it cannot be read.
    """
    data = read_plain(path, LARGEST_SEGMENT)
    if path.name.split(".")[-2] != hashlib.sha256(data).hexdigest()[:12]:
        raise DamagedStore(f"{path} is not what was written (its SHA-256 differs)")
    return data


def answers_aside(store: Store, series: Series, hours: Hours) -> Iterator[pa.Table]:
    """Yield the bars of the answers in quarantine that can be read and are valid."""
    folder = store.folder(series) / "quarantine"
    for name in store.manifest(series).aside:
        try:
            data = read_aside(folder / name)
        except DamagedStore:
            continue
        bars = _believable(folder / name, data, series, hours)
        if bars is not None and len(bars):
            yield bars


# --- the store as a whole


def _check_mark(root: Path) -> Iterator[Finding]:
    if not root.is_dir():
        raise BadStore(f"there is no store at {root}; name one with --store, or {ways_to_fill(Store(root))}")
    try:
        Store(root)
    except BadStore:
        if is_there(root / MARK) or not _series_keys(root):
            raise
        yield Finding("files", "damage", f"{root / MARK} is missing", path=MARK)
    except DamagedStore as error:
        yield Finding("files", "damage", str(error), path=MARK)


def _strangers(root: Path, keys: list[str]) -> Iterator[Finding]:
    """Yield findings about files outside the folders of the series."""
    hidden: list[OSError] = []
    for folder, folders, files in os.walk(root, onerror=hidden.append):
        for name in sorted([*files, *folders]):
            path = Path(folder, name)
            if path.is_symlink():
                yield Finding(
                    "files",
                    "damage",
                    f"{path} is a symbolic link, which a store must not contain",
                    path=_of(root, path),
                )
            elif name in files and name.startswith(TEMPORARY):
                yield Finding("files", "note", f"{path} was left by a writer that was killed", path=_of(root, path))
            elif name in files and name != ".lock" and path not in (root / MARK, root / ATTRIBUTES):
                yield Finding("files", "warn", f"{path} does not belong to the store", path=_of(root, path))
        folders[:] = [name for name in folders if _is_strange(_of(root, Path(folder, name)), keys)]
    for error in hidden:
        path = Path(str(error.filename))
        yield Finding("files", "damage", str(unreadable(path, error)), path=_of(root, path))


def _is_strange(folder: str, keys: list[str]) -> bool:
    return folder != _STAGING and not folder.startswith(_TRASH) and folder not in keys


def _of(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


# --- a series


def _verified(folder: Path, series: Series) -> SeriesAudit:
    root = folder.parents[3]
    found, manifest = _manifest(folder, series)
    if manifest is None:
        return SeriesAudit(series.key, tuple(_located(root, [*found, *_unlisted(folder, None)])), files=1)
    tables: list[pa.Table] = []
    for segment in manifest.segments:
        path = folder / "bars" / segment.file
        try:
            tables.append(read_segment(path, segment))
        except DamagedStore as error:
            found.append(_damage(error, path))
    found += [*_archive(folder, manifest), *_unlisted(folder, manifest)]
    bars = joined(tables).combine_chunks() if len(tables) == len(manifest.segments) else None
    hours = hours_of(series.instrument)
    if bars is not None:
        found += [*_ledger(folder, manifest, bars), *inspect_bars(bars, series, hours, manifest.answers)]
    found += _quarantine(folder, series, hours, manifest, bars)
    count = 1 + len(manifest.segments) + len(manifest.archived)
    coverage = coverage_of(series, hours, joined(tables).combine_chunks(), manifest.answers)
    return SeriesAudit(series.key, tuple(_located(root, found)), manifest.rows, count, coverage)


def _manifest(folder: Path, series: Series) -> tuple[list[Finding], Manifest | None]:
    path = folder / "manifest.json"
    try:
        return [], of_bytes(read_plain(path, LARGEST), path, series)
    except DamagedStore as error:
        return [_damage(error, path)], None


def _located(root: Path, found: list[Finding]) -> Iterator[Finding]:
    """Yield the findings with paths relative to the root of the store."""
    for one in found:
        yield replace(one, path=_of(root, Path(one.path))) if one.path else one


def _ledger(folder: Path, manifest: Manifest, bars: pa.Table) -> Iterator[Finding]:
    """Yield the bars whose requests are unknown, as after the repair of a lost manifest."""
    stamps = seconds(bars)
    unknown = np.flatnonzero(~sessions_inside(manifest.coverage, stamps, stamps))
    if len(unknown):
        first = bars["time"][int(unknown[0])].as_py()
        text = (
            f"{len(unknown):,} bars from {first:%Y-%m-%d} on are not recorded as requested; a download requests them "
            "again"
        )
        yield Finding("ledger", "warn", text, first, len(unknown), str(folder / "manifest.json"))


def _archive(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    for segment in manifest.archived:
        path = folder / "archive" / segment.file
        try:
            read_segment(path, segment)
        except DamagedStore as error:
            yield _damage(error, path)


def _unlisted(folder: Path, manifest: Manifest | None) -> Iterator[Finding]:
    """Yield files in the folder of a series that are not in its manifest."""
    listed = {
        "bars": {one.file for one in manifest.segments} if manifest else None,
        "archive": {one.file for one in manifest.archived} if manifest else None,
    }
    for path in _inside(folder):
        if isinstance(path, Finding):
            yield path
        elif path.is_symlink():
            yield Finding(
                "files", "damage", f"{path} is a symbolic link, which a store must not contain", path=str(path)
            )
        elif path.name.startswith(TEMPORARY):
            yield Finding("files", "note", f"{path} was left by a writer that was killed", path=str(path))
        elif path.name in _FOLDERS and path.is_dir():
            yield from _unlisted_in(path, listed.get(path.name))
        elif path.name not in ("manifest.json", ".lock"):
            yield Finding("files", "warn", f"{path} does not belong to the store", path=str(path))


def _unlisted_in(folder: Path, listed: set[str] | None) -> Iterator[Finding]:
    for path in _inside(folder):
        if isinstance(path, Finding):
            yield path
        elif path.is_symlink() and not (listed and path.name in listed):
            yield Finding(
                "files", "damage", f"{path} is a symbolic link, which a store must not contain", path=str(path)
            )
        elif folder.name == "quarantine" or listed is None or path.name in listed:
            continue
        elif path.name.startswith(TEMPORARY) or SEGMENT.fullmatch(path.name):
            yield Finding("files", "note", f"{path} was left by a writer that was killed", path=str(path))
        else:
            yield Finding("files", "warn", f"{path} does not belong to the store", path=str(path))


def _inside(folder: Path) -> Sequence[Path | Finding]:
    """Return the content of a folder, or the finding that it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except PermissionError as error:
        return [Finding("files", "damage", str(unreadable(folder, error)), path=str(folder))]


def _damage(error: DamagedStore, path: Path) -> Finding:
    # What the error says after it, to restore a backup, is said once, and there is --repair.
    return Finding("files", "damage", str(error).partition(";")[0], path=str(path))


# --- what was quarantined


def _quarantine(
    folder: Path, series: Series, hours: Hours, manifest: Manifest, bars: pa.Table | None
) -> Iterator[Finding]:
    place = folder / "quarantine"
    for name in manifest.aside:
        if not is_there(place / name):
            yield Finding("files", "damage", f"{place / name} is missing", path=str(place / name))
    for path in _inside(place) if place.is_dir() else []:
        if isinstance(path, Finding):
            yield path
        elif path.suffix == ".parquet" and not path.is_symlink():
            yield from _put_aside(path, series, hours, manifest, bars)
        elif path.name.endswith(".json"):
            yield from _taken_out(path, series, manifest)
        elif path.name.startswith(TEMPORARY):
            yield Finding("files", "note", f"{path} was left by a writer that was killed", path=str(path))
        elif not path.name.endswith((DAMAGED, UNLISTED)) and not path.is_symlink():
            yield Finding("files", "warn", f"{path} does not belong to the store", path=str(path))


def _put_aside(
    path: Path, series: Series, hours: Hours, manifest: Manifest, bars: pa.Table | None
) -> Iterator[Finding]:
    """Yield quarantined answers that still disagree with the stored bars, or whose span has no other answer."""
    try:
        data = read_aside(path)
        note = _note(data)
    except DamagedStore as error:
        yield _damage(error, path)
        return
    reason, span = str(note.get("reason", "(no reason given)")), _span(note)
    answer = _believable(path, data, series, hours)
    if answer is None or bars is None or not len(answer):
        if span is None or span.minus(manifest.coverage):
            yield Finding("quarantine", "warn", f"{path.name} was quarantined: {reason}", path=str(path))
        return
    stored = _between(bars, *(answer["time"][row].as_py() for row in (0, -1)))
    difference = compare_bars(with_extra(stored, extra_of(answer)), answer)
    if difference.moved:  # what else is different may have been revised since
        text = f"{len(difference.moved):,} stored bars are different in {path.name}: {reason}"
        yield Finding("conflict", "conflict", text, difference.moved[0], len(difference.moved), str(path))


def _believable(path: Path, data: bytes, series: Series, hours: Hours) -> pa.Table | None:
    """Return the bars of a quarantined answer; None if a download would refuse them."""
    try:
        bars = decode_parquet(path, data)
        check_answer(bars, series, hours)
    except (DamagedStore, BadBars):
        return None
    return bars


def _span(note: dict[str, Any]) -> Span | None:
    found = re.findall(r"\d{4}-\d\d-\d\d(?: \d\d:\d\d:\d\d)?", str(note.get("span")))
    try:
        start, end = (
            datetime.fromisoformat(f"{text}+00:00" if " " in text else f"{text}T00:00+00:00") for text in found
        )
        return Span(start, end)
    except (ValueError, UsageError):
        return None


def _taken_out(path: Path, series: Series, manifest: Manifest) -> Iterator[Finding]:
    """Yield bars that a repair removed, and that were not downloaded again."""
    try:
        segment = json.loads(read_plain(path, LARGEST))["segment"]
        first, last = (datetime.fromisoformat(segment[name]) for name in ("first", "last"))
        count = int(segment["rows"])
    except (DamagedStore, ValueError, KeyError, TypeError):
        yield Finding("files", "warn", f"{path} does not belong to the store", path=str(path))
        return
    if not any(span.start <= first and last < span.end for span in manifest.coverage):
        text = (
            f"{count:,} bars were damaged and removed, {first:%Y-%m-%d} to {last:%Y-%m-%d}; run: "
            f"backtest download {series.quoted} --since {first:%Y-%m-%d} --until {last:%Y-%m-%d}"
        )
        yield Finding("taken out", "damage", text, first, count, str(path))


def _note(data: bytes) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        words = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False).metadata.metadata or {}
        note = json.loads(words.get(b"quarantine", b"{}"))
    except (pa.ArrowException, OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _between(bars: pa.Table, first: datetime, last: datetime) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    start, end = (pa.scalar(moment, bars["time"].type) for moment in (first, last))
    return bars.filter(pc.and_(pc.greater_equal(bars["time"], start), pc.less_equal(bars["time"], end)))


def _bytes_if_any(path: Path) -> bytes:
    try:
        return read_file(path, LARGEST)
    except (OSError, DamagedStore):
        return b""
