"""
Pins: the bars that a run must use, as a text file to commit (`data.lock`), and how a store differs from it.

A pin covers the bars of a series from `first` to `last`, both included; other stored bars do not count. For each
calendar month in UTC it has the number of bars and their `bars.rows_digest`, and the digest of the series is the
SHA-256 of the lines "YYYY-MM ROWS DIGEST". So it depends on values alone: compression, the division into segments and
the version of pyarrow do not matter. If a segment is a whole month, its digest comes from the manifest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backtest.errors import BadStore, BrokenPin, DamagedStore, NoBars, UsageError, quoted
from backtest.market.bars import rows_digest, schema
from backtest.market.calendars import span_of_sessions
from backtest.market.extra import united
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.store.documents import ANYTHING, MOMENT, TEXT, WHOLE, Misfit, keyed, mapped, read_document
from backtest.store.manifest import Segment
from backtest.store.reader import Reader, hours_in, lacks, manifest_or_empty, nothing_in, outside_of
from backtest.store.replacement import replace_file
from backtest.store.tables import by_date

if TYPE_CHECKING:
    import pyarrow as pa

Dates = tuple[date | None, date | None]

_FORMAT = 1
_MOMENT = timedelta(microseconds=1)  # the step of a stamp


@dataclass(frozen=True, slots=True)
class _Month:
    """The bars of a calendar month: how many, and the digest of their values."""

    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class Pin:
    """The bars of a series from `first` to `last`, both included; `months` by name, such as 2024-03, in order."""

    series: Series
    first: datetime
    last: datetime
    months: Mapping[str, _Month]

    @property
    def rows(self) -> int:
        """How many bars are pinned."""
        return sum(month.rows for month in self.months.values())

    @property
    def digest(self) -> str:
        """SHA-256 of the lines "YYYY-MM ROWS DIGEST" of its months."""
        lines = [f"{name} {month.rows} {month.digest}\n" for name, month in self.months.items()]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def span(self) -> Span:
        """The span of timestamps that it covers, up to the possible start of the bar after `last`."""
        seconds = min(self.series.size.seconds, 86_400)  # longer ones are nominal
        return Span(self.first, self.last + timedelta(seconds=seconds))


@dataclass(frozen=True, slots=True)
class ChangedMonth:
    """
    A month whose stored bars differ from the pinned ones.

    `gone`, `added` and `cells` (values that differ in common bars) are known only if the pinned bars are still in the
    archive; otherwise they are None.
    """

    month: str
    pinned: int
    stored: int
    gone: int | None = None
    added: int | None = None
    cells: int | None = None

    def __str__(self) -> str:
        if self.cells is None:
            counts = "other values" if self.pinned == self.stored else f"{self.stored:,} are stored"
            return f"{self.month}: {self.pinned:,} bars pinned, {counts}"
        counts = f"{self.gone:,} gone, {self.added:,} added, {self.cells:,} cells differ"
        return f"{self.month}: {self.pinned:,} bars pinned, {counts}"


@dataclass(frozen=True, slots=True)
class PinReport:
    """The outcome of a pin: `status` is new, held, broken or updated; `pin` is the pin in the file from now on."""

    pin: Pin
    status: str
    changes: tuple[ChangedMonth, ...] = ()

    @property
    def series(self) -> Series:
        """The pinned series."""
        return self.pin.series

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        entry = _entry(self.pin)
        del entry["months"]
        return {"status": self.status, **entry, "changes": [asdict(change) for change in self.changes]}


def take(store: Reader, series: Series, span: Span | None = None) -> Pin:
    """
    Return a pin on the stored bars of a series, or on those in the span.

    Raises:
        NoBars: there are no such bars.
    """
    months = dict(_months(store, series, span or _all(store, series)))
    if not months:
        raise NoBars(outside_of(store, series, span) if manifest_or_empty(store, series).rows else lacks(store, series))
    if span is None:
        segments = store.manifest(series).segments
        return Pin(series, _moment(segments[0].first), _moment(segments[-1].last), months)
    return Pin(series, *_ends(store, series, span, months), months)


def changed_months(store: Reader, pin: Pin, span: Span | None = None) -> list[ChangedMonth]:
    """
    Return the months whose stored bars differ from the pinned ones, in order; only those in the span, if given.

    Raises:
        NoBars: the store does not have the series.
    """
    if not manifest_or_empty(store, pin.series).rows:
        dates = f"--since {pin.first:%Y-%m-%d} --until {pin.last:%Y-%m-%d}"
        raise NoBars(f"{pin.series.short} is not in {store.name}; run: backtest download {pin.series.quoted} {dates}")
    touched = pin.span if span is None else _whole_months(span).common(pin.span)
    if not touched:
        return []
    stored = dict(_months(store, pin.series, touched))
    asked = [name for name in pin.months if _month_span(name).common(touched)]
    names = sorted({*asked, *stored})
    return [_change(store, pin, name, stored.get(name)) for name in names if stored.get(name) != pin.months.get(name)]


def examine(store: Reader, path: str | Path, series: Iterable[Series] = ()) -> list[PinReport]:
    """Return whether the pin of each pinned series, or of those named, holds; nothing is written."""
    return [_examined(store, pin) for pin in _chosen(load_pins(path), path, map(store.named, series))]


def add(store: Reader, path: str | Path, series: Iterable[Series], dates: Dates = (None, None)) -> list[PinReport]:
    """
    Pin the series as stored, and return whether each is new, or was pinned before and still holds.

    An existing pin stays unchanged: `update` changes it.

    Args:
        dates: first and last session, None for all stored bars.

    Raises:
        NoBars: the store lacks a series, or no series is named, as in an empty store.
    """
    pins, wanted = load_pins(path) if Path(path).exists() else {}, list(map(store.named, series))
    if not wanted:
        raise NoBars(f"there is nothing to pin: {nothing_in(store)}")
    reports = [
        _examined(store, pins[one]) if one in pins else PinReport(take(store, one, _span_if(store, one, dates)), "new")
        for one in wanted
    ]
    save_pins(path, {**pins, **{report.series: report.pin for report in reports}}.values())
    return reports


def update(
    store: Reader, path: str | Path, series: Iterable[Series] = (), dates: Dates = (None, None)
) -> list[PinReport]:
    """
    Pin again the pinned series, or those named, and return what changed in the range pinned before.

    Args:
        dates: first and last session; None to keep the beginning or the end of the pin.
    """
    pins = load_pins(path)
    reports = [_updated(store, pin, dates) for pin in _chosen(pins, path, map(store.named, series))]
    save_pins(path, {**pins, **{report.series: report.pin for report in reports}}.values())
    return reports


def pinned_span(
    store: Reader, path: str | Path, series: Iterable[Series], span: Span | Dates | None = None
) -> Span | Dates | None:
    """
    Return the span of a run over pinned series: the one given, otherwise that of the pins.

    Args:
        path: the lock file.
        series: all that the run reads.
        span: the span of the run, as `api.run` accepts it.

    Raises:
        BrokenPin: a bar that the run would see differs from the pin, or is not pinned; the text names the month.
        NoBars: the store lacks a pinned series.
        UsageError: the file is not a lock file.
    """
    pins = _chosen(load_pins(path), path, series)
    taken = span if span and span != (None, None) else _hull_of(pins)
    for pin in pins:
        _check_one(store, path, pin, _span_of(store, pin.series, taken))
    return taken


def load_pins(path: str | Path) -> dict[Series, Pin]:
    """
    Return the pins in a lock file, by series.

    Raises:
        UsageError: there is no such file.
        BadStore: a later version wrote it.
        DamagedStore: it was not written by `save_pins`; the text names the key.
    """
    try:
        found = read_document(Path(path), keyed({"format": WHOLE}, more=ANYTHING), links=True)
        if found["format"] != _FORMAT:
            raise BadStore(
                f"{path} has format {found['format']}, but this version reads format {_FORMAT}; upgrade ib-backtest"
            )
        _SHAPE(found, "")
        return {pin.series: pin for pin in (_pin_of(key, entry) for key, entry in found["series"].items())}
    except FileNotFoundError:
        raise UsageError(f"no lock file {quoted(path)}; create it: backtest pin --lock {path}") from None
    except (Misfit, DamagedStore) as error:
        cure = f"restore it, or remove it and run: backtest pin --lock {path}"
        why = str(error).removeprefix(f"{path}: ")
        raise DamagedStore(f"{path} is not a lock file: {why}; {cure}") from error


def save_pins(path: str | Path, pins: Iterable[Pin]) -> None:
    """Write a lock file, sorted, so that equal pins give equal bytes; the old file stays until the new one is whole."""
    entries = {pin.series.key: _entry(pin) for pin in sorted(pins, key=lambda pin: pin.series.key)}
    text = json.dumps({"format": _FORMAT, "series": entries}, indent=1) + "\n"
    replace_file(path, text.encode(), named=True)


# --- pins that are there


def _chosen(pins: Mapping[Series, Pin], path: str | Path, series: Iterable[Series]) -> list[Pin]:
    wanted = list(series) or list(pins)
    unpinned = " ".join(one.quoted for one in wanted if one not in pins)
    if unpinned:
        raise BrokenPin(
            f"{unpinned} is not pinned in {path}; pin the stored bars: backtest pin {unpinned} --lock {path}"
        )
    return [pins[one] for one in wanted]


def _examined(store: Reader, pin: Pin) -> PinReport:
    found = tuple(changed_months(store, pin))
    return PinReport(pin, "broken" if found else "held", found)


def _updated(store: Reader, pin: Pin, dates: Dates) -> PinReport:
    found = tuple(changed_months(store, pin))
    since, until = (_span_if(store, pin.series, (first, last)) for first, last in ((dates[0], None), (None, dates[1])))
    span = Span(since.start if since else pin.span.start, until.end if until else pin.span.end)
    fresh = take(store, pin.series, span)
    return PinReport(fresh, "held" if fresh == pin else "updated", found)


# --- what is stored, month by month


def _months(store: Reader, series: Series, span: Span) -> Iterator[tuple[str, _Month]]:
    """Yield the months in which the span has bars: from the manifest if a segment is a month, otherwise from bars."""
    for names, segments in _groups(store.manifest(series).segments, span):
        if len(names) == len(segments) == 1 and _is_month(segments[0], names[0], span):
            yield names[0], _Month(segments[0].rows, segments[0].rows_sha256)
            continue
        part = Span(_month_span(names[0]).start, _month_span(names[-1]).end).common(span)
        bars = _read(store, series, part or span)
        yield from ((name, _Month(len(rows), rows_digest(rows))) for name, rows in by_date(bars, "M"))


def _groups(segments: Iterable[Segment], span: Span) -> Iterator[tuple[list[str], list[Segment]]]:
    """Yield the months that the span's segments touch, those that share a segment together, with the segments."""
    names: list[str] = []
    group: list[Segment] = []
    for segment in segments:
        if not span.common(_span_of_segment(segment)):
            continue
        touched = _names(segment)
        if names and touched[0] > names[-1]:
            yield names, group
            names, group = [], []
        names, group = sorted({*names, *touched}), [*group, segment]
    if names:
        yield names, group


def _is_month(segment: Segment, name: str, span: Span) -> bool:
    whole = _span_of_segment(segment)
    return span.common(whole) == whole and _names(segment) == [name]


def _names(segment: Segment) -> list[str]:
    first, last = _moment(segment.first), _moment(segment.last)
    months = range(first.year * 12 + first.month - 1, last.year * 12 + last.month)
    return [f"{month // 12:04}-{month % 12 + 1:02}" for month in months]


def _span_of_segment(segment: Segment) -> Span:
    return Span(_moment(segment.first), _moment(segment.last) + _MOMENT)


def _month_span(name: str) -> Span:
    year, month = map(int, name.split("-"))
    start = datetime(year, month, 1, tzinfo=UTC)
    if (year, month) == (9999, 12):  # the month after it is beyond all dates
        return Span(start, datetime.max.replace(tzinfo=UTC))
    return Span(start, datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC))


def _whole_months(span: Span) -> Span:
    return Span(_month_span(f"{span.start:%Y-%m}").start, _month_span(f"{span.end - _MOMENT:%Y-%m}").end)


def _read(store: Reader, series: Series, span: Span) -> pa.Table:
    try:
        return store.read(series, span)
    except NoBars:
        return schema().empty_table()


def _all(store: Reader, series: Series) -> Span:
    segments = manifest_or_empty(store, series).segments
    if not segments:
        raise NoBars(lacks(store, series))
    return Span(_moment(segments[0].first), _moment(segments[-1].last) + _MOMENT)


def _ends(store: Reader, series: Series, span: Span, months: Iterable[str]) -> tuple[datetime, datetime]:
    """Return the first and the last stamp that the span has."""
    ends = [_month_span(name).common(span) for name in (min(months), max(months))]
    first, last = (_read(store, series, end)["time"] for end in ends if end)
    return first[0].as_py(), last[-1].as_py()


# --- what changed


def _check_one(store: Reader, path: str | Path, pin: Pin, span: Span) -> None:
    broken = changed_months(store, pin, span)
    if broken:
        more = f" and {len(broken) - 1} more months" if len(broken) > 1 else ""
        look = (
            f"see all: backtest pin --check --lock {path}; accept the stored bars: backtest pin --update --lock {path}"
        )
        raise BrokenPin(f"{pin.series.short} is not as pinned in {path}, {broken[0]}{more}; {look}")
    for part in span.minus([pin.span]):
        beyond = _read(store, pin.series, part)
        if len(beyond):
            raise BrokenPin(
                f"{pin.series.short} is pinned in {path} from {pin.first:%Y-%m-%d} to {pin.last:%Y-%m-%d}, and the "
                f"run would see {len(beyond):,} bars outside, the first in {beyond['time'][0].as_py():%Y-%m}; name "
                "dates inside, or pin more: backtest pin --update --since DATE --until DATE"
            )


def _change(store: Reader, pin: Pin, name: str, stored: _Month | None) -> ChangedMonth:
    pinned = pin.months.get(name, _Month(0, ""))
    plain = ChangedMonth(name, pinned.rows, stored.rows if stored else 0)
    span = _month_span(name).common(pin.span)
    if not span:
        return plain
    now = _read(store, pin.series, span)
    before = next((old for old in _formerly(store, pin.series, span) if rows_digest(old) == pinned.digest), None)
    return plain if before is None else ChangedMonth(name, plain.pinned, plain.stored, *_difference(before, now))


def _formerly(store: Reader, series: Series, span: Span) -> Iterator[pa.Table]:
    """Yield the bars of the span before each revision, the last revision first."""
    for revision in reversed(store.manifest(series).revisions):
        with contextlib.suppress(NoBars):
            yield store.read(series, span, revision=revision.number)


def _difference(before: pa.Table, now: pa.Table) -> tuple[int, int, int]:
    """Return how many bars are gone, how many were added, and how many values of common bars differ."""
    old, new = ({row["time"]: row for row in table.to_pylist()} for table in (before, now))
    both = old.keys() & new.keys()
    names = united([before.column_names, now.column_names])
    cells = sum(old[time].get(name) != new[time].get(name) for time in both for name in names)
    return len(old) - len(both), len(new) - len(both), cells


def _hull_of(pins: list[Pin]) -> Span:
    return Span(min(pin.span.start for pin in pins), max(pin.span.end for pin in pins))


def _span_if(store: Reader, series: Series, dates: Dates) -> Span | None:
    return None if dates == (None, None) else _span_of(store, series, dates)


def _span_of(store: Reader, series: Series, asked: Span | Dates) -> Span:
    if isinstance(asked, Span):
        return asked
    since, until = asked
    return span_of_sessions(series, hours_in(store, series), since or date(1900, 1, 1), until or date(2100, 1, 1))


# --- the file


def _entry(pin: Pin) -> dict[str, Any]:
    return {
        "first": pin.first.isoformat(),
        "last": pin.last.isoformat(),
        "rows": pin.rows,
        "digest": pin.digest,
        "months": {name: f"{month.rows} {month.digest}" for name, month in pin.months.items()},
    }


_SHAPE = keyed(
    {
        "format": WHOLE,
        "series": mapped(
            keyed({"first": MOMENT, "last": MOMENT, "rows": WHOLE, "digest": TEXT, "months": mapped(TEXT)})
        ),
    }
)


def _pin_of(key: str, entry: dict[str, Any]) -> Pin:
    """Return the pin of an entry; raise Misfit if it is not valid."""
    try:
        return _checked_pin(key, entry)
    except (ValueError, UsageError, OverflowError) as error:
        raise Misfit(f"series.{key}: {error}") from error


def _checked_pin(key: str, entry: dict[str, Any]) -> Pin:
    months = {name: _month_of(text) for name, text in sorted(entry["months"].items())}
    pin = Pin(Series.parse(key), _moment(entry["first"]), _moment(entry["last"]), months)
    if (pin.rows, pin.digest) != (entry["rows"], entry["digest"]):
        raise ValueError(f"the digest of {key} is not that of its months")
    for at, name in ((pin.first, min(months)), (pin.last, max(months))):
        if not (at.tzinfo and at in _month_span(name)):
            raise ValueError(f"{key} has no bar at {at}, which should be a moment of {name} in UTC")
    _ = pin.span  # which years near 9999 have not
    return pin


def _month_of(text: str) -> _Month:
    rows, digest = text.split()
    return _Month(int(rows), digest)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
