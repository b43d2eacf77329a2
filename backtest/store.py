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
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backtest.bars import ContractDetails, Series, Span, check_bars, rows_digest, schema
from backtest.errors import BadBars, BadStore, Conflict, DamagedStore, NoBars
from backtest.manifest import FORMAT, REPAIR, Answer, Manifest, Segment, of_bytes, recorded, to_bytes

if TYPE_CHECKING:
    import pyarrow as pa

_MARK = "STORE.json"


class Store:
    """
    Bars on disk below a root folder; the folder is made by the first write.

    Raises:
        BadStore: the folder holds something else, or a store of a newer format.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._check_mark()

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    def series(self) -> list[Series]:
        """Return every series of the store, in the order of their spelling."""
        keys = [path.parent.relative_to(self.root).as_posix() for path in self.root.glob("*/*/*/*/manifest.json")]
        return sorted((Series.parse(key) for key in keys), key=str)

    def manifest(self, series: Series) -> Manifest:
        """
        Return what the store knows of a series; of an unknown one an empty manifest.

        Raises:
            DamagedStore: the manifest is not what was written, or is lost while its segments are there.
        """
        return self._read_manifest(series) or Manifest(str(series))

    def gaps(self, series: Series, span: Span) -> list[Span]:
        """Return the parts of the span that were never asked for and answered."""
        return span.minus(self.manifest(series).coverage)

    def read(self, series: Series, span: Span | None = None) -> pa.Table:
        """
        Return the stored bars, verified against their hashes, columns as in `bars.schema()`.

        Raises:
            NoBars: the store does not know the series, or has no bar of it in the span.
            DamagedStore: a file is not what was written.
        """
        bars = self._read_if_any(series, span)
        if bars is None or not len(bars):
            where = f" from {span}" if span and self.manifest(series).rows else ""
            raise NoBars(
                f"{series.short}{where} is not in {self.root}; run: backtest download {series.short} --since DATE"
            )
        return bars

    def write(
        self,
        series: Series,
        span: Span,
        bars: pa.Table,
        *,
        source: str = "",
        text: str = "",
        contract: ContractDetails | None = None,
        at: datetime | None = None,
        revise: bool = False,
    ) -> int:
        """
        Record that asking for the span was answered with these bars, and return how many of them are new.

        A bar that is stored already must be the same again, and none may have gone; with `revise` the new
        answer wins and the old segments go to the archive.

        Args:
            span: what was asked for; every bar lies in it.
            bars: the whole answer, columns as in `bars.schema()`; an empty table where the vendor has none.
            source: who answered, without account, host or user names.
            text: what the vendor said, where it matters ("no data").
            at: when the answer came, now if not given.

        Raises:
            BadBars: a bar breaks the rules of a bar or lies outside the span; nothing is written.
            Conflict: stored bars disagree; nothing is written.
        """
        check_bars(bars, series)
        _check_inside(bars, span, series)
        with self._lock(series):
            old = self.manifest(series)
            stored = self._read_segments(series, old, span)
            if not revise:
                _check_agreement(stored, bars, series)
            periods = [] if stored.equals(bars) else sorted({*_periods(bars, series), *_periods(stored, series)})
            written = [self._write_segment(series, old, period, span, bars) for period in periods]
            kept = [segment for segment in old.segments if segment.period not in periods]
            answer = Answer(span, len(bars), at or datetime.now(UTC), source, text)
            new = replace(
                old,
                generation=old.generation + 1,
                contract=contract or old.contract,
                segments=tuple(sorted([*kept, *filter(None, written)], key=lambda segment: segment.first)),
                answers=recorded(old.answers, answer),
                archived=old.archived if _agree(stored, bars) else (*old.archived, *_superseded(old, periods)),
            )
            self._commit(series, old, new)
        return new.rows - old.rows

    def quarantine(self, series: Series, span: Span, bars: pa.Table, reason: str) -> Path:
        """Put an answer aside, with the reason in its metadata, and return its file; nothing else changes."""
        with self._lock(series):
            folder = self.folder(series) / "quarantine"
            _make_folders(folder)
            note = {"series": str(series), "span": str(span), "reason": reason, "at": datetime.now(UTC).isoformat()}
            data = _parquet(bars.replace_schema_metadata({"quarantine": json.dumps(note)}))
            path = folder / f"{span.start:%Y-%m-%d}.{hashlib.sha256(data).hexdigest()[:12]}.parquet"
            _write_file(path, data)
        return path

    def staging(self) -> Store:
        """Return the store beside this one in which series are read anew."""
        return Store(self.root / ".staging")

    def drop(self, series: Series) -> None:
        """Remove a series and all that was kept of it."""
        shutil.rmtree(self.folder(series), ignore_errors=True)

    def folder(self, series: Series) -> Path:
        """Return the folder of a series; `folder / "bars"` is plain Parquet for any reader."""
        return self.root / str(series)

    # --- the protocol: lock, segments, manifest, sweep

    def _check_mark(self) -> None:
        mark = self.root / _MARK
        if not mark.exists():
            if self.root.exists() and not _empty(self.root):
                raise BadStore(f"{self.root} is not a store (it has no {_MARK}); name another folder with --store")
            return
        try:
            number = json.loads(mark.read_text())["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedStore(f"{mark} cannot be read; it should say {_mark_text()!r}") from error
        if number != FORMAT:
            raise BadStore(f"{self.root} has format {number}, this version knows {FORMAT}; install a newer ib-backtest")

    def _create(self, series: Series) -> Path:
        folder = self.folder(series)
        _make_folders(self.root)
        if not (self.root / _MARK).exists():
            _write_file(self.root / _MARK, _mark_text().encode())  # first: a folder without it is no store
        _make_folders(folder / "bars")
        return folder

    @contextlib.contextmanager
    def _lock(self, series: Series) -> Iterator[None]:
        import fcntl

        folder = self._create(series)
        with (folder / ".lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)  # the kernel frees it with the process: never stale
            if self._read_manifest(series) is None:
                # Born with an empty manifest: segments without a manifest are then always damage.
                _write_file(folder / "manifest.json", to_bytes(Manifest(str(series))))
            yield

    def _read_manifest(self, series: Series) -> Manifest | None:
        path = self.folder(series) / "manifest.json"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            if any(self.folder(series).glob("bars/*.parquet")):
                raise DamagedStore(f"{path} is lost while its bars are there; restore it from a backup") from None
            return None
        except NotADirectoryError:
            return None
        return of_bytes(data, path, series)

    def _read_if_any(self, series: Series, span: Span | None) -> pa.Table | None:
        manifest = self._read_manifest(series)
        while manifest is not None:
            try:
                return self._read_segments(series, manifest, span)
            except FileNotFoundError as error:
                newer = self._read_manifest(series)
                if newer is None or newer.generation == manifest.generation:
                    raise DamagedStore(f"{error.filename} is lost; {REPAIR}") from error
                manifest = newer  # a writer moved on while we read
        return None

    def _read_segments(self, series: Series, manifest: Manifest, span: Span | None) -> pa.Table:
        import pyarrow as pa

        wanted = [segment for segment in manifest.segments if span is None or _overlaps(segment, span)]
        tables = [_read_segment(self.folder(series) / "bars" / segment.file, segment) for segment in wanted]
        bars = pa.concat_tables(tables) if tables else schema().empty_table()
        return bars if span is None else _between(bars, span)

    def _write_segment(self, series: Series, old: Manifest, period: str, span: Span, bars: pa.Table) -> Segment | None:
        import pyarrow as pa

        before = [segment for segment in old.segments if segment.period == period]
        stored = self._read_segments(series, replace(old, segments=tuple(before)), None)
        fresh = bars.filter(pa.array([p == period for p in _period_of_each(bars, series)], pa.bool_()))
        merged = pa.concat_tables([_outside(stored, span), fresh]).sort_by("time").combine_chunks()
        return _store_segment(self.folder(series) / "bars", period, merged) if len(merged) else None

    def _commit(self, series: Series, old: Manifest, new: Manifest) -> None:
        folder = self.folder(series)
        gone = {segment.file for segment in old.segments} - {segment.file for segment in new.segments}
        for name in sorted(gone & {segment.file for segment in new.archived}):
            _make_folders(folder / "archive")
            with contextlib.suppress(FileExistsError):
                os.link(folder / "bars" / name, folder / "archive" / name)
            _sync_folder(folder / "archive")
        _write_file(folder / "manifest.json", to_bytes(new))
        known = {segment.file for segment in new.segments}
        for path in (folder / "bars").iterdir():
            if path.name not in known:
                path.unlink()  # superseded, or left behind by a writer that was killed
        for path in folder.glob(".tmp-*"):
            path.unlink()


def _empty(folder: Path) -> bool:
    # What a writer that was killed left behind does not count.
    return folder.is_dir() and all(path.name.startswith(".tmp-") for path in folder.iterdir())


def _mark_text() -> str:
    return json.dumps({"format": FORMAT})


def _check_inside(bars: pa.Table, span: Span, series: Series) -> None:
    if len(bars) and (bars["time"][0].as_py() not in span or bars["time"][-1].as_py() not in span):
        first, last = bars["time"][0].as_py(), bars["time"][-1].as_py()
        raise BadBars(f"bars of {series.short} from {first} to {last} lie outside what was asked for: {span}")


def _agree(stored: pa.Table, bars: pa.Table) -> bool:
    """Return whether every stored bar is in the answer, unchanged."""
    import pyarrow.compute as pc

    again: pa.Table = bars.filter(pc.is_in(bars["time"], value_set=stored["time"].combine_chunks()))
    return bool(again.equals(stored))


def _check_agreement(stored: pa.Table, bars: pa.Table, series: Series) -> None:
    if _agree(stored, bars):
        return
    known = {row["time"]: row for row in bars.to_pylist()}
    differing = [row for row in stored.to_pylist() if known.get(row["time"]) != row]
    first = differing[0]
    raise Conflict(
        f"{len(differing)} of {len(stored)} stored bars of {series.short} are different in the new answer, "
        f"the first at {first['time']}: stored {_prices(first)}, new {_prices(known.get(first['time']))}; "
        "the stored bars were kept"
    )


def _prices(row: dict[str, Any] | None) -> str:
    return "none" if row is None else " ".join(f"{row[name]:g}" for name in ("open", "high", "low", "close"))


def _superseded(old: Manifest, periods: list[str]) -> list[Segment]:
    known = {segment.file for segment in old.archived}
    return [segment for segment in old.segments if segment.period in periods and segment.file not in known]


# --- periods: a segment holds 2,000 to 30,000 bars of a liquid instrument


def _period_format(series: Series) -> str:
    seconds = series.size.seconds
    if seconds < 60:
        return "%Y-%m-%d"
    if seconds < 600:
        return "%Y-%m"
    return "%Y" if seconds < 86_400 else "all"


def _period_of_each(bars: pa.Table, series: Series) -> list[str]:
    import pyarrow.compute as pc

    form = _period_format(series)
    if form == "all":
        return ["all"] * len(bars)
    names: list[str] = pc.strftime(bars["time"], format=form).to_pylist()
    return names


def _periods(bars: pa.Table, series: Series) -> list[str]:
    return sorted(set(_period_of_each(bars, series)))


# --- segments


def _store_segment(folder: Path, period: str, bars: pa.Table) -> Segment:
    data = _parquet(bars)
    sha = hashlib.sha256(data).hexdigest()
    name = f"{period}.{sha[:12]}.parquet"
    _write_file(folder / name, data)
    first, last = (bars["time"][i].as_py().isoformat() for i in (0, -1))
    return Segment(name, len(bars), first, last, len(data), sha, rows_digest(bars))


def _parquet(bars: pa.Table) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(
        bars,
        sink,
        compression="zstd",
        compression_level=3,
        write_page_checksum=True,
        write_statistics=["time"],
    )
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _read_segment(path: Path, segment: Segment) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != segment.sha256:
        raise DamagedStore(f"{path} is not what was written (its SHA-256 differs); {REPAIR}")
    # One thread, no read-ahead: Arrow's pool has been seen to abort the interpreter at exit.
    return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False).read(use_threads=False).cast(schema())


def _overlaps(segment: Segment, span: Span) -> bool:
    return datetime.fromisoformat(segment.first) < span.end and datetime.fromisoformat(segment.last) >= span.start


def _between(bars: pa.Table, span: Span) -> pa.Table:
    import pyarrow.compute as pc

    return bars.filter(pc.and_(*_inside(bars, span)))


def _outside(bars: pa.Table, span: Span) -> pa.Table:
    import pyarrow.compute as pc

    return bars.filter(pc.invert(pc.and_(*_inside(bars, span))))


def _inside(bars: pa.Table, span: Span) -> tuple[Any, Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    stamp = pa.timestamp("us", tz="UTC")
    start, end = pa.scalar(span.start, stamp), pa.scalar(span.end, stamp)
    return pc.greater_equal(bars["time"], start), pc.less(bars["time"], end)


# --- files: written beside, synced, renamed, the folder synced


def _write_file(path: Path, data: bytes) -> None:
    # Outside bars/, so that a reader of that folder never sees an unfinished file; named for its writer alone.
    folder = path.parent.parent if path.parent.name == "bars" else path.parent
    beside = folder / f".tmp-{os.getpid()}-{threading.get_ident()}-{path.name}"
    with beside.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    beside.replace(path)
    _sync_folder(path.parent)


def _make_folders(folder: Path) -> None:
    missing = [path for path in [folder, *folder.parents] if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in reversed(missing):
        _sync_folder(path.parent)  # a new folder is only durable once its parent is synced


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
