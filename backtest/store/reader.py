"""`Reader`: what code that only reads bars needs, wherever they are; and readers built from others."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from backtest import _arguments
from backtest._resources import bundled
from backtest._suggest import there_are
from backtest._system import one_word
from backtest.errors import BacktestError, DamagedStore, DataError, NoBars, UsageError
from backtest.market import arrays
from backtest.market.bars import COLUMNS, digest_of_columns, rows_digest, schema, with_extra
from backtest.market.calendars import span_asked
from backtest.market.hours import Hours, hours_of
from backtest.market.series import Series, did_you_mean_series, few, refuse_made, series_of, several_series
from backtest.market.span import Sessions, Span, asked_span, bounds_of
from backtest.store.files import unreadable
from backtest.store.layout import MARK
from backtest.store.manifest import REPAIR, Manifest, Revision, Segment
from backtest.store.segments import bars_in, columns_in, downloads_in, in_threads, merged_downloads
from backtest.store.tables import between, joined, microseconds

if TYPE_CHECKING:
    import pyarrow as pa

_T = TypeVar("_T")
_MOMENT = timedelta(microseconds=1)  # the step of a stamp
_THREADS = 4
_PARTS = 8  # of the series for each thread: a turn of the pool for each series takes a twentieth of the time
_NOTHING = np.zeros(0, np.int64), np.zeros(0)
_LARGEST_UNBORN = 512  # bytes of a manifest without segments and answers, beside the name of its series, and some more


@runtime_checkable
class Reader(Protocol):
    """Something to read bars from: a store in a folder, one at a URL, or tables in place of one."""

    @property
    def name(self) -> str:
        """Where the bars are, for messages: a folder, a URL."""

    def series(self) -> list[Series]:
        """Return every series, sorted by spelling."""

    def named(self, series: Series | str) -> Series:
        """Return the series that a spelling refers to; the spelling itself if it is unknown."""

    def manifest(self, series: Series | str) -> Manifest:
        """
        Return the manifest of a series.

        Raises:
            NoBars: there is no such series.
        """

    def read(self, series: Series | str, span: Span | None = None, *, revision: int | None = None) -> pa.Table:
        """
        Return the bars of a series, all or those in the span; as they were before a revision, if one is given.

        Raises:
            NoBars: there is no such series or revision, or no bar in the span.
        """


def manifest_or_empty(reader: Reader, series: Series | str) -> Manifest:
    """Return a reader's manifest of a series; an empty one if the reader does not have the series."""
    if isinstance(reader, SegmentReader):
        return reader.manifest_or_empty(series)
    try:
        return reader.manifest(series)
    except NoBars:
        return Manifest(series_of(series).key)


def bars_if_any(reader: Reader, series: Series, span: Span | None) -> pa.Table | None:
    """
    Return the bars of a series in a span; None if the reader has none.

    For hundreds of series: building the text of an error would compare each missing series with all stored ones.
    """
    if isinstance(reader, SegmentReader):
        _, bars = reader._bars_in(reader.named(series), span, None)
        return bars if len(bars) else None
    try:
        return reader.read(series, span)
    except NoBars:
        return None


def bars_of_then(reader: Reader, series: Series, known: Mapping[str, Any]) -> pa.Table | None:
    """
    Return the bars with the digest in a run's manifest; None if a reader no longer has them.

    They are the current ones, without later bars, or those from before a revision of the store.
    """
    if (bars := bars_as_known(reader, series, known)) is not None:
        return bars
    revisions = reversed(manifest_or_empty(reader, series).revisions)
    candidates = (bars_as_known(reader, series, known, one.number) for one in revisions)
    return next((bars for bars in candidates if bars is not None), None)


def columns_of_then(
    reader: Reader, series: Series, known: Mapping[str, Any], make: Callable[[str, pa.ChunkedArray], _T]
) -> dict[str, _T] | None:
    """
    Return what a function makes of each column of `bars_of_then`, in schema order; None if there are no such bars.

    Of many bars only one column is read at a time. The function is called before the bars are known to match.
    """
    if (found := _columns_as_known(reader, series, known, make, None)) is not None:
        return found
    revisions = reversed(manifest_or_empty(reader, series).revisions)
    candidates = (_columns_as_known(reader, series, known, make, one.number) for one in revisions)
    return next((found for found in candidates if found is not None), None)


def _columns_as_known(
    reader: Reader,
    series: Series,
    known: Mapping[str, Any],
    make: Callable[[str, pa.ChunkedArray], _T],
    revision: int | None,
) -> dict[str, _T] | None:
    made: dict[str, _T] = {}

    def columns() -> Iterator[tuple[str, pa.ChunkedArray]]:
        for name, column in _columns(reader, series, _known_span(known), revision):
            made[name] = make(name, column)
            yield name, column
            del column  # else it is there while the next one is read

    with suppress(DataError):
        return made if digest_of_columns(columns()) == known["rows_sha256"] else None
    return None


def _columns(reader: Reader, series: Series, span: Span, revision: int | None) -> Iterator[tuple[str, pa.ChunkedArray]]:
    if isinstance(reader, SegmentReader):
        return reader._columns_in(reader.named(series), span, revision)
    bars = reader.read(series, span, revision=revision)
    return zip(bars.column_names, bars.columns, strict=True)


def bars_as_known(
    reader: Reader, series: Series, known: Mapping[str, Any], revision: int | None = None
) -> pa.Table | None:
    """Return the bars between the first and the last in a run's manifest, if they match; otherwise None."""
    with suppress(DataError):
        bars = reader.read(series, _known_span(known), revision=revision)
        return bars if rows_digest(bars) == known["rows_sha256"] else None
    return None


def _known_span(known: Mapping[str, Any]) -> Span:
    first, last = (datetime.fromisoformat(known[name]) for name in ("from", "to"))
    return Span(first, last + _MOMENT)


def are_of_frames(reader: Reader) -> bool:
    """Return whether a reader holds the bars of frames, which are not stored."""
    return bool(getattr(reader, "of_frames", False))


def hours_in(reader: Reader, series: Series) -> Hours:
    """Return the trading hours of a reader's series, by the calendar of its exchange."""
    return hours_of(series.instrument)


def lacks(reader: Reader, *series: Series) -> str:
    """Return the message about missing series: how to get the first one, and similar existing ones."""
    names, be = ", ".join(one.short for one in series), "are" if series[1:] else "is"
    if are_of_frames(reader):
        return f"{names} {be} not among the frames; {put_frames_into_a_store(series[0])}"
    hint = did_you_mean_stored(series[0], reader)
    return f"{names} {be} not in {reader.name}; {ways_to_fill(reader, series[0])}{hint}"


def outside_of(reader: Reader, series: Series, span: Span | None) -> str:
    """Return the message about a series that has no bar in a span."""
    return (
        f"{series.short} has no bars {bounds_of(span)} in {reader.name}, where its bars run from "
        f"{stored_dates(reader.manifest(series))}; name other dates, or {ways_to_fill(reader, series)}"
    )


def nothing_in(reader: Reader) -> str:
    """Return the message about a store without series, or a folder that is not one yet, and how to fill it."""
    marked = "://" in reader.name or (Path(reader.name) / MARK).exists()
    return f"{reader.name} {'' if marked else 'is not a store: it '}holds no bars; {ways_to_fill(reader)}"


def ways_to_fill(reader: Reader, series: Series | None = None) -> str:
    """Return the commands that add a series, or any, to a store; for an empty store also that for the sample."""
    if "://" in reader.name:
        return f"see what is: backtest ls --store {reader.name}"
    name, store = series.quoted if series else "AAPL/1day", option_of_store(reader)
    ways = [
        f"backtest download {name} --since DATE{store} (from TWS or IB Gateway)",
        f"backtest import FILE {name}{store} (your own file)",
    ]
    if _is_empty(reader):
        ways.append(f"backtest demo{store} (sample prices)")
    return f"run: {', '.join(ways[:-1])} or {ways[-1]}"


def option_of_store(reader: Reader) -> str:
    """Return the option that names a store to write to; "" for the sample, which is only read."""
    return "" if Path(reader.name) == bundled("sample") else f" --store {one_word(reader.name)}"


def put_frames_into_a_store(lacking: Series) -> str:
    """Return how a run on frames gets bars of another series, which have to be in a store."""
    return (
        f'put each frame, and bars of {lacking.quoted}, into a store: backtest.ingest(frame, "{lacking.quoted}", '
        '"data/bars"); then run on the names of its series, with store="data/bars"'
    )


def stored_dates(manifest: Manifest) -> str:
    """Return the dates of a series' bars, as "2000-03-01 to 2013-03-01"."""
    return f"{manifest.segments[0].first[:10]} to {manifest.segments[-1].last[:10]}"


def _is_empty(reader: Reader) -> bool:
    with suppress(BacktestError):  # anything else that may be wrong with it is not reported
        return not reader.series()
    return False


def did_you_mean_stored(wanted: Series, reader: Reader) -> str:
    """Return the existing series most like the missing one; other faults of the reader are not reported."""
    with suppress(BacktestError):
        return did_you_mean_series(wanted, reader.series())
    return ""


class SegmentReader(ABC):
    """
    Reads series that consist of a manifest and its segments; a subclass says where these are.

    Attributes:
        name: where the series are, for messages.
    """

    name: str

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @abstractmethod
    def series(self) -> list[Series]:
        """Return every series, sorted by spelling."""

    def manifest(self, series: Series | str) -> Manifest:
        """
        Return the manifest of a series.

        Raises:
            NoBars: the store does not know the series.
            DamagedStore: the manifest is not what was written, or is lost while its segments are there.
        """
        wanted = series_of(series)
        found = self.manifest_or_empty(wanted)
        if not found.generation:
            raise NoBars(lacks(self, wanted))
        return found

    def manifest_or_empty(self, series: Series | str) -> Manifest:
        """
        Return the manifest of a series; an empty one if the store does not have the series.

        Raises:
            DamagedStore: the manifest is not what was written, or is lost while its segments are there.
        """
        wanted = series_of(series)
        return self._read_manifest(wanted) or Manifest(wanted.key)

    def named(self, series: Series | str) -> Series:
        """
        Return the stored series that a spelling refers to: a future or option may be named by its month or its date.

        A contract named by its month refers to the stored one of that contract month, one named by its date to the one
        that ends on it according to IB. If there is none, or the spelling itself is stored, it is returned unchanged.

        Raises:
            UsageError: several stored contracts have that month, or this version cannot build the series.
        """
        wanted = series_of(series)
        refuse_made(wanted.instrument)
        if not wanted.instrument.expiry or self.manifest_or_empty(wanted).generation:
            return wanted
        found = [one for one in self.series() if _but_for_expiry(one, wanted) and self._expires(one, wanted)]
        if len(found) > 1:
            raise UsageError(f"{wanted.short} may be {' or '.join(one.short for one in found)}; name one of them")
        return found[0] if found else wanted

    def gaps(self, series: Series | str, span: Span | Sequence[date | str]) -> list[Span]:
        """
        Return the parts of a span, or of the sessions between two dates, that were never requested and answered.

        Raises:
            UsageError: the span or the pair cannot be read.
        """
        wanted = series_of(series)
        return known_span(self, wanted, span).minus(self.manifest_or_empty(wanted).coverage)

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

        The columns are `time` (the bar's opening, UTC; for daily bars the session's date), `open`, `high`, `low` and
        `close` in the instrument's currency, `volume`, `average` and `trades`; null means that the vendor does not know
        the value. The extra columns of the series follow, null where a bar has none.

        Args:
            series: a series, or its spelling.
            span: a `Span` of timestamps, or a pair of sessions, both included; all bars if not given.
            start: the first session, instead of a span.
            end: the last session, included.
            revision: read the bars exactly as they were before this revision, by its number in `revisions`.

        Raises:
            UsageError: a spelling, a date or a number cannot be read.
            NoBars: the store does not know the series or the revision, or has no bar of it in the span.
            DamagedStore: a file is not what was written.
        """
        wanted = self.named(series)
        stamps = span_asked(wanted, hours_in(self, wanted), asked_span(span, start, end))
        state, bars = self._bars_in(wanted, stamps, revision)
        if not len(bars):
            raise NoBars(outside_of(self, wanted, stamps) if state.rows else lacks(self, wanted))
        return bars

    def panel(
        self,
        series: Series | str | Sequence[Series | str],
        field: str = "close",
        *,
        start: date | str | None = None,
        end: date | str | None = None,
    ) -> pa.Table:
        """
        Return one column of many series side by side, verified against their hashes.

        The table has `time`, the openings of all bars of any of the series in order (UTC; for daily bars the session
        dates), and a column for each series, named by its shortest spelling: float64, null where it has no bar or the
        vendor does not know the value.

        Args:
            series: a list of series or their spellings, all of one bar size; or one.
            field: "open", "high", "low", "close", "volume", "average", "trades", or the name of an extra column.
            start: the first session.
            end: the last session, included.

        Raises:
            UsageError: an argument is invalid, a series is named twice, or their bars are not of one size.
            NoBars: the store lacks a series, or has no bar of any in these sessions.
            DamagedStore: a file is not what was written.
        """
        wanted = [self.named(one) for one in several_series(series)]
        _check_panel(wanted, field)
        asked = asked_span(None, start, end)
        columns = _each_in_threads(lambda one: self._column(one, field, asked), wanted)
        return _side_by_side(self, wanted, columns, asked)

    def _bars_in(self, series: Series, stamps: Span | None, revision: int | None) -> tuple[Manifest, pa.Table]:
        """Return the manifest of a series and its bars in a span, possibly none."""
        state, tables = self._each_segment(series, lambda manifest: _chosen(manifest, stamps, revision), bars_in)
        bars = with_extra(joined(tables), state.extra)
        return state, bars if stamps is None else between(bars, stamps)

    def _columns_in(self, series: Series, stamps: Span, revision: int | None) -> Iterator[tuple[str, pa.ChunkedArray]]:
        """Yield name and values of each column of the bars in a span; of many bars, one column is read at a time."""
        state = self.manifest_or_empty(series)
        if sum(segment.rows for segment in _chosen(state, stamps, revision)) < arrays.MANY:
            bars = self._bars_in(series, stamps, revision)[1]
            yield from zip(bars.column_names, bars.columns, strict=True)
            return
        for name in (*COLUMNS, *state.extra):
            yield name, self._chunks_in(series, name, stamps, revision)
            arrays.release_memory()

    def _chunks_in(self, series: Series, name: str, stamps: Span, revision: int | None) -> pa.ChunkedArray:
        """Return a column of the bars in a span, null where a segment lacks it."""
        import pyarrow as pa

        kind = schema((name,) if name not in COLUMNS else ()).field(name).type

        def read(path: Path | str, segment: Segment) -> list[pa.Array]:
            has_column = name in (*COLUMNS, *segment.extra)
            bars = between(columns_in(path, segment, [*{"time": 0, name: 0}] if has_column else ["time"]), stamps)
            chunks: list[pa.Array] = bars[name].chunks if has_column else [pa.nulls(len(bars), kind)]
            return chunks

        _, parts = self._each_segment(series, lambda manifest: _chosen(manifest, stamps, revision), read)
        return pa.chunked_array([chunk for chunks in parts for chunk in chunks], kind)

    def _column(self, series: Series, field: str, asked: Span | Sessions | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the times of the bars of a series, in microseconds, and a value of each, NaN if unknown."""
        try:
            stamps = span_asked(series, hours_in(self, series), asked)
        except UsageError:  # it has no session between the dates
            return _NOTHING
        ends = None if stamps is None else [microseconds(stamps.start), microseconds(stamps.end)]

        def read(path: Path | str, segment: Segment) -> tuple[np.ndarray, np.ndarray]:
            names = ["time", field] if field in (*COLUMNS, *segment.extra) else ["time"]
            bars = columns_in(path, segment, names)
            times = arrays.numbers(bars["time"])
            first, after = (0, len(bars)) if ends is None else map(int, np.searchsorted(times, ends))
            times = times[first:after].copy()  # of a few dates, so that the whole column goes
            if len(names) == 1:
                return times, np.full(len(times), np.nan)
            return times, arrays.numbers(bars[field].slice(first, after - first), np.nan).astype(float)

        state, parts = self._each_segment(series, lambda manifest: _chosen(manifest, stamps, None), read)
        if not state.generation:
            raise NoBars(lacks(self, series))
        if field not in (*COLUMNS, *state.extra):
            raise UsageError(
                f"{series.short} has no column {field!r}; {there_are(field, [*COLUMNS[1:], *state.extra])}"
            )
        if not parts:
            return _NOTHING
        times, values = parts[0] if len(parts) == 1 else tuple(map(np.concatenate, zip(*parts, strict=True)))
        return times, values

    def revisions(self, series: Series | str) -> list[Revision]:
        """Return the changes of stored bars that a read can undo, oldest first; appended bars are not among them."""
        return list(self.manifest_or_empty(series).revisions)

    def provenance(self, series: Series | str) -> list[dict[str, str]]:
        """Return the downloads that the stored bars came from, in order of time, as far as their files name them."""
        _, found = self._each_segment(series_of(series), lambda manifest: manifest.segments, downloads_in)
        return merged_downloads(found)

    def _is_unborn(self, series: Series, size: int | None) -> bool:
        """
        Return whether nothing has been committed to a series yet; a damaged one raises its error when it is read.

        Args:
            size: the size of its manifest in bytes, None if that is missing.
        """
        if size is None or size > _LARGEST_UNBORN + len(series.key):
            return False
        try:
            manifest = self._read_manifest(series)
        except (DataError, OSError):
            return False
        return manifest is None or not manifest.generation

    @abstractmethod
    def _read_manifest(self, series: Series) -> Manifest | None:
        """Return the current manifest of a series; None if there is none."""

    def _read_manifest_again(self, series: Series) -> Manifest | None:
        """Return the manifest of a series that may have changed since it was read."""
        return self._read_manifest(series)

    @abstractmethod
    def _paths(self, series: Series, manifest: Manifest, segments: Iterable[Segment]) -> Sequence[Path | str]:
        """Return the paths, on this machine, of the segments of a state of a series."""

    def _each_segment(
        self,
        series: Series,
        choose: Callable[[Manifest], Sequence[Segment]],
        use: Callable[[Path | str, Segment], _T],
    ) -> tuple[Manifest, list[_T]]:
        """Return one state of the series, and the result of `use` for each chosen segment of it."""
        manifest = self._read_manifest(series)
        while manifest is not None:
            try:
                segments = choose(manifest)
                return manifest, in_threads(use, self._paths(series, manifest, segments), segments)
            except FileNotFoundError as error:
                newer = self._read_manifest_again(series)
                if newer is None or newer.generation == manifest.generation:
                    raise DamagedStore(f"{error.filename} is missing; {REPAIR}") from error
                manifest = newer  # a writer moved on while we read
            except PermissionError as error:
                raise unreadable(error.filename, error) from error
        return Manifest(series.key), []

    def _expires(self, stored: Series, wanted: Series) -> bool:
        contract, expiry = self.manifest_or_empty(stored).contract, wanted.instrument.expiry
        return contract is not None and expiry in (contract.contract_month, contract.last_trade_date[:8])


def _check_panel(series: Sequence[Series], field: str) -> None:
    """
    Refuse series that cannot form a panel.

    Raises:
        UsageError: no series is given, one is given twice, or their bars are not of one size.
    """
    _arguments.text(field, "field", "write the name of a column, such as close")
    if not series:
        raise UsageError('no series is named; write a list of them, such as ["AAPL/1day", "MSFT/1day"]')
    sizes = list(dict.fromkeys(str(one.size) for one in series))
    if len(sizes) > 1:
        raise UsageError(f"bars of {' and '.join(sizes)} have no times in common; name series with the same bar size")
    if len({*series}) < len(series):
        twice = next(one for n, one in enumerate(series) if one in series[:n])
        raise UsageError(f"{twice.short} is named twice; name each series once")


def _each_in_threads(use: Callable[[Series], _T], series: Sequence[Series]) -> list[_T]:
    """Return the result of `use` for each series; reading, hashing and decoding release Python's lock."""
    from concurrent.futures import ThreadPoolExecutor

    threads = min(_THREADS, os.cpu_count() or 1)
    size = max(1, -(-len(series) // (threads * _PARTS)))
    parts = [series[at : at + size] for at in range(0, len(series), size)]
    with ThreadPoolExecutor(threads) as pool:
        return [made for part in pool.map(lambda part: [use(one) for one in part], parts) for made in part]


def _side_by_side(
    reader: Reader,
    series: Sequence[Series],
    columns: Sequence[tuple[np.ndarray, np.ndarray]],
    asked: Span | Sessions | None,
) -> pa.Table:
    """
    Return the table of a panel.

    Args:
        columns: for each series the times of its bars in microseconds, and their numbers.
        asked: the requested sessions, for a message.

    Raises:
        NoBars: there are no bars.
    """
    import pyarrow as pa

    distinct = {times.tobytes(): times for times, _ in columns}  # most have the same ones
    every = np.unique(np.concatenate(list(distinct.values())))
    if not len(every):
        raise NoBars(f"{reader.name} has no bar of {few([one.short for one in series])} {_between(asked)}")
    places = {key: np.searchsorted(every, times) for key, times in distinct.items()}
    table = {"time": arrays.stamps(every.astype("datetime64[us]"))}
    for one, (times, values) in zip(series, columns, strict=True):
        found = np.full(len(every), np.nan)
        found[places[times.tobytes()]] = values
        known = ~np.isnan(found)
        table[one.short] = arrays.floats(found, None if known.all() else known)
    return pa.table(table)


def _between(asked: Span | Sessions | None) -> str:
    if asked is None or isinstance(asked, Span):
        return "at all"
    since, until = asked
    return f"from {since or 'the beginning'} to {until or 'the end'}; name other dates"


def in_one_state(reader: Reader) -> Reader:
    """
    Return a reader that reads the manifest of each series once, and finds its bars by it.

    A run asks for the manifest of each series four times, which takes longer than anything else that it does with few
    bars of many series. Readers that are not stores are returned unchanged.
    """
    return _OneState(reader) if isinstance(reader, SegmentReader) else reader


class _OneState(SegmentReader):
    """A store whose manifests stay as they were when they were first read; if files are missing, as they are then."""

    def __init__(self, behind: SegmentReader) -> None:
        self.name, self.of_frames, self._behind = behind.name, are_of_frames(behind), behind
        self._manifests: dict[Series, Manifest | None] = {}

    def series(self) -> list[Series]:
        """Return every series, sorted by spelling."""
        return self._behind.series()

    def _read_manifest(self, series: Series) -> Manifest | None:
        if series not in self._manifests:
            self._manifests[series] = self._behind._read_manifest(series)
        return self._manifests[series]

    def _read_manifest_again(self, series: Series) -> Manifest | None:
        self._manifests.pop(series, None)
        return self._read_manifest(series)

    def _paths(self, series: Series, manifest: Manifest, segments: Iterable[Segment]) -> Sequence[Path | str]:
        return self._behind._paths(series, manifest, segments)


class CachedReader:
    """A reader that looks up each spelling and each manifest in another reader only once."""

    def __init__(self, behind: Reader) -> None:
        self.name, self.of_frames, self._behind = behind.name, are_of_frames(behind), behind
        self._names: dict[Series, Series] = {}
        self._manifests: dict[Series, Manifest] = {}

    def series(self) -> list[Series]:
        """Return every series, sorted by spelling."""
        return self._behind.series()

    def named(self, series: Series | str) -> Series:
        """Return the series that a spelling referred to when it was first looked up."""
        wanted = series_of(series)
        if wanted not in self._names:
            self._names[wanted] = self._behind.named(wanted)
        return self._names[wanted]

    def manifest(self, series: Series | str) -> Manifest:
        """
        Return the manifest as it was when it was first looked up.

        Raises:
            NoBars: there is no such series.
        """
        wanted = series_of(series)
        if wanted not in self._manifests:
            self._manifests[wanted] = self._behind.manifest(wanted)
        return self._manifests[wanted]

    def read(self, series: Series | str, span: Span | None = None, *, revision: int | None = None) -> pa.Table:
        """
        Return the current bars of a series.

        Raises:
            NoBars: there is no such series or revision, or no bar in the span.
        """
        return self._behind.read(series, span, revision=revision)


class HeldReader:
    """A reader of bars in memory, by series."""

    def __init__(self, name: str, tables: Mapping[Series, pa.Table]) -> None:
        self.name, self._tables = name, tables

    def series(self) -> list[Series]:
        """Return every series, sorted by spelling."""
        return sorted(self._tables, key=lambda series: series.key)

    def named(self, series: Series | str) -> Series:
        """Return the series of a spelling."""
        return series_of(series)

    def manifest(self, series: Series | str) -> Manifest:
        """
        Return a manifest that only says that the series exists.

        Raises:
            NoBars: there is no such series.
        """
        return Manifest(self._known(series).key, 1)

    def read(self, series: Series | str, span: Span | None = None, *, revision: int | None = None) -> pa.Table:
        """
        Return the bars of a series, all or those in the span.

        Raises:
            NoBars: there is no such series, no bar in the span, or a revision is asked for.
        """
        wanted = self._known(series)
        if revision is not None:
            self.manifest(wanted).before(revision)  # refuses: there is none
        bars = self._tables[wanted]
        if span is not None:
            bars = between(bars, span)
        if not len(bars):
            raise NoBars(f"{self.name} has no bars of {wanted.short} {bounds_of(span)}; name other dates")
        return bars

    def _known(self, series: Series | str) -> Series:
        wanted = self.named(series)
        if wanted not in self._tables:
            raise NoBars(
                f"{wanted.short} is not in {self.name}; {there_are(wanted.short, [one.short for one in self._tables])}"
            )
        return wanted


def known_span(reader: Reader, series: Series, span: Span | Sequence[date | str]) -> Span:
    """
    Return the span that a caller passed, as such or as a pair of sessions.

    Raises:
        UsageError: it is neither.
    """
    found = span_asked(series, hours_in(reader, series), asked_span(span))
    return _arguments.instance(found, "span", Span, "write a Span, or a pair of sessions")


def overlaps(segment: Segment, span: Span) -> bool:
    """Return whether a segment may have bars in a span."""
    return datetime.fromisoformat(segment.first) < span.end and datetime.fromisoformat(segment.last) >= span.start


def _chosen(manifest: Manifest, span: Span | None, revision: int | None) -> list[Segment]:
    segments = manifest.segments if revision is None else manifest.before(revision)
    return [segment for segment in segments if span is None or overlaps(segment, span)]


def _but_for_expiry(one: Series, other: Series) -> bool:
    return replace(one, instrument=replace(one.instrument, expiry=other.instrument.expiry)) == other
