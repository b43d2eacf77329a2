"""
`repair`: repair a damaged store as far as possible without a source, and report what was done.

Only unfinished files and copies of stored bars are deleted. Damaged files go to quarantine, and lost bars are removed
from the ledger, so that the next download requests them again.
"""

from __future__ import annotations

import json
from calendar import monthrange
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import date
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backtest._clock import Clock, utc_now
from backtest._system import is_running, is_there
from backtest.errors import BadBars, BadStore, DamagedStore, UsageError
from backtest.market.bars import check_bars
from backtest.market.checks import compare_bars, seconds
from backtest.market.extra import united
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.store.audit.findings import sessions_inside
from backtest.store.audit.verification import (
    DAMAGED,
    UNLISTED,
    SeriesAudit,
    decode_parquet,
    read_aside,
    read_plain,
    read_segment,
)
from backtest.store.files import TEMPORARY, Unreadable, locked, make_folders, sync_folder, unreadable, write_file
from backtest.store.layout import MARK, files_in, write_attributes, write_mark
from backtest.store.manifest import LARGEST, LARGEST_SEGMENT, Answer, Manifest, Segment, in_order, period_of
from backtest.store.manifest_json import ANSWER_NAME, of_bytes, to_bytes, unix_lines
from backtest.store.segments import segment_of
from backtest.store.store import Store
from backtest.store.tables import joined

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Repair:
    """What was done to a series, or to the store as a whole (`series` is ""), and the command that completes it."""

    series: str
    did: str
    complete: str = ""


def repair(root: str | Path, verdicts: Iterable[SeriesAudit], clock: Clock = utc_now) -> Iterator[Repair]:
    """
    Yield each repair, for verdicts that report something damaged or left over.

    Args:
        clock: the clock for the time recorded with losses.

    Raises:
        Unreadable: a file cannot be read, so that its state is unknown; the rest stays unchanged.
    """
    for verdict in verdicts:
        if not any(one.level in ("damage", "note") for one in verdict.findings):
            continue
        if not verdict.series:
            yield from _repair_mark(Path(root))
        elif _is_spelling(verdict.series):
            yield from _Repairing(Path(root), Series.parse(verdict.series), clock).run()


def _is_spelling(key: str) -> bool:
    try:
        return Series.parse(key).key == key
    except UsageError:
        return False


def _repair_mark(root: Path) -> Iterator[Repair]:
    try:
        Store(root)
    except (DamagedStore, BadStore):
        if not (root / MARK).is_symlink():
            write_mark(root)
            sync_folder(root)
            yield Repair("", f"wrote {root / MARK} again")
    for left in root.glob(f"{TEMPORARY}*"):
        if not _alive(left):
            left.unlink(missing_ok=True)
            yield Repair("", f"removed {left}, which a killed writer had left")


def _alive(path: Path) -> bool:
    """Return whether the writer of an unfinished file is still running, as far as this machine can tell."""
    number = path.name.removeprefix(TEMPORARY).partition("-")[0]
    return number.isascii() and number.isdigit() and is_running(int(number))


class _Repairing:
    """One series under repair, its writers locked out."""

    def __init__(self, root: Path, series: Series, clock: Clock) -> None:
        self._root, self._series, self._folder = root, series, root / series.key
        self._clock = clock
        self._bars: list[pa.Table] = []

    def run(self) -> Iterator[Repair]:
        """Yield what was repaired."""
        with locked(self._folder / ".lock"):
            manifest = self._manifest()
            if manifest is None and (manifest := self._with_unix_lines()) is not None:
                yield Repair(str(self._series), f"restored the line endings of {self._folder / 'manifest.json'}")
            elif manifest is None:
                yield self._put_away(self._folder / "manifest.json", "the manifest")
                manifest, told = self._rebuilt()
                yield from told
            whole, told = self._without_damaged(manifest)
            yield from told
            whole, told = self._without_damaged_aside(whole)
            yield from told
            if whole != manifest:
                self._write(replace(whole, generation=whole.generation + 1))
            yield from self._sweep(whole)

    def _manifest(self) -> Manifest | None:
        path = self._folder / "manifest.json"
        try:
            return of_bytes(read_plain(path, LARGEST), path, self._series)
        except Unreadable:
            raise
        except DamagedStore:
            return None

    def _with_unix_lines(self) -> Manifest | None:
        """Return the manifest whose line ends Git has changed, repaired on disk; None for other damage."""
        path = self._folder / "manifest.json"
        try:
            data = unix_lines(read_plain(path, LARGEST))
            manifest = of_bytes(data, path, self._series)
        except Unreadable:
            raise
        except DamagedStore:
            return None
        write_attributes(self._root)
        write_file(path, data)
        sync_folder(self._folder)
        return manifest

    def _write(self, manifest: Manifest) -> None:
        write_file(self._folder / "manifest.json", to_bytes(manifest))
        sync_folder(self._folder)

    # --- a manifest that is lost

    def _rebuilt(self) -> tuple[Manifest, list[Repair]]:
        """Write a manifest of the intact segments, with an empty ledger, so that everything is requested again."""
        told: list[Repair] = []
        chosen: dict[str, tuple[Segment, pa.Table]] = {}
        for path in sorted(_tables_in(self._folder / "bars"), key=_age):
            found = self._segment(path)
            if found is None:
                told.append(self._put_away(path, "a segment"))
                continue
            other = chosen.get(found[0].period)
            if other and len(compare_bars(other[1], found[1]).times):
                told.append(self._put_away(self._folder / "bars" / other[0].file, "an older segment", UNLISTED))
            chosen[found[0].period] = found
        segments = in_order(segment for segment, _ in chosen.values())
        archived = [found[0] for path in _tables_in(self._folder / "archive") if (found := self._segment(path))]
        extra = _in_one_order(segment.extra for segment in (*segments, *archived))
        manifest = Manifest(str(self._series), 1, segments=segments, earlier=tuple(archived), extra=extra)
        self._write(manifest)
        told.append(
            self._told(
                f"rebuilt the manifest from {len(segments)} segment{'s' if len(segments) != 1 else ''}", manifest
            )
        )
        return manifest, told

    def _segment(self, path: Path) -> tuple[Segment, pa.Table] | None:
        """Return a manifest's entry for a file, and its bars; None if the file differs from what was written."""
        try:
            data = read_plain(path, LARGEST_SEGMENT)
            bars = decode_parquet(path, data)
            check_bars(bars, self._series)
        except Unreadable:
            raise
        except (DamagedStore, BadBars):
            return None
        period = path.name.partition(".")[0]
        found = segment_of(period, bars, data) if len(bars) else None
        ends = {period_of(self._series, bars["time"][row].as_py()) for row in (0, -1)} if len(bars) else set()
        return (found, bars) if found and found.file == path.name and ends == {period} else None

    def _told(self, did: str, manifest: Manifest) -> Repair:
        if not manifest.segments:
            return Repair(str(self._series), did)
        return Repair(str(self._series), did, self._command(manifest.segments[0].first, manifest.segments[-1].last))

    def _command(self, first: str, last: str) -> str:
        days = f"--since {first[:10]} --until {last[:10]}"
        return f"backtest download {self._series.quoted} {days} --store {self._root}"

    # --- segments that are damaged or lost

    def _without_damaged(self, manifest: Manifest) -> tuple[Manifest, list[Repair]]:
        told: list[Repair] = []
        lost: list[Segment] = []
        for segment in manifest.segments:
            path = self._folder / "bars" / segment.file
            try:
                self._bars.append(read_segment(path, segment))
            except Unreadable:
                raise
            except DamagedStore as error:
                lost.append(segment)
                self._note(segment, str(error))
                told.append(
                    replace(self._put_away(path, "a segment"), complete=self._command(segment.first, segment.last))
                )
        stale = [one for one in manifest.archived if not self._is_whole(self._folder / "archive" / one.file, one)]
        told += [self._put_away(self._folder / "archive" / one.file, "an archived segment") for one in stale]
        segments = tuple(one for one in manifest.segments if one not in lost)
        answers = self._asked_without(manifest, [_period(one) for one in lost])
        kept = _without_revisions(manifest, {one.file for one in (*lost, *stale)})
        if kept.pruned > manifest.pruned:
            told.append(
                Repair(str(self._series), f"deleted revision {kept.pruned} and earlier, parts of which were missing")
            )
        return replace(kept, segments=segments, answers=answers), told

    def _without_damaged_aside(self, manifest: Manifest) -> tuple[Manifest, list[Repair]]:
        """Return the manifest with the intact answers in quarantine; damaged ones are marked."""
        place = self._folder / "quarantine"
        there = {path.name for path in _tables_in(place) if ANSWER_NAME.fullmatch(path.name)}
        names = sorted(there | set(manifest.aside))
        whole = [name for name in names if self._is_whole_aside(place / name)]
        told = [self._put_away(place / name, "an answer quarantined") for name in names if name not in whole]
        return replace(manifest, aside=tuple(whole)), told

    def _is_whole_aside(self, path: Path) -> bool:
        try:
            read_aside(path)
        except Unreadable:
            raise
        except DamagedStore:
            return False
        return True

    def _is_whole(self, path: Path, segment: Segment) -> bool:
        try:
            read_segment(path, segment)
        except Unreadable:
            raise
        except DamagedStore:
            return False
        return True

    def _asked_without(self, manifest: Manifest, lost: list[Span]) -> tuple[Answer, ...]:
        """Return the ledger without lost bars; spans confirmed empty stay."""
        if not lost:
            return manifest.answers
        kept: list[Answer] = []
        for answer in manifest.answers:
            parts = answer.span.minus(lost) if answer.bars else [answer.span]
            for part in parts if parts != [answer.span] else ():
                count = self._count(part)
                kept += [replace(answer, span=part, bars=count)] if count else []
            kept += [answer] if parts == [answer.span] else []
        return tuple(kept)

    def _count(self, span: Span) -> int:
        stamps = [seconds(bars) for bars in self._bars]
        return sum(int(np.count_nonzero(sessions_inside([span], one, one))) for one in stamps)

    def _note(self, segment: Segment, reason: str) -> None:
        """Record what is lost, so that `verify` reports it until it is stored again."""
        place = self._folder / "quarantine"
        make_folders(place, self._root)
        record = {name: value for name, value in asdict(segment).items() if name != "extra" or value}
        note = {"segment": record, "reason": reason, "at": self._clock().isoformat()}
        write_file(place / f"{segment.file}.json", json.dumps(note, indent=1).encode())
        sync_folder(place)

    def _put_away(self, path: Path, what: str, ending: str = DAMAGED) -> Repair:
        """Move a file into quarantine, if it exists."""
        if not is_there(path):
            return Repair(str(self._series), f"{what} is lost: {path}")
        place = self._folder / "quarantine"
        make_folders(place, self._root)
        target, number = place / f"{path.name}{ending}", 2
        while is_there(target):
            target, number = place / f"{path.name}.{number}{ending}", number + 1
        path.rename(target)
        sync_folder(place)
        sync_folder(path.parent)
        return Repair(str(self._series), f"{what} is in quarantine: {target}")

    # --- what killed writers left

    def _sweep(self, manifest: Manifest) -> Iterator[Repair]:
        for left in sorted(self._folder.rglob(f"{TEMPORARY}*")):
            left.unlink(missing_ok=True)
            yield Repair(str(self._series), f"removed {left}, which a killed writer had left")
        listed = {one.file for one in manifest.segments}
        for path in _tables_in(self._folder / "bars"):
            if path.name not in listed:
                yield self._sweep_segment(path)

    def _sweep_segment(self, path: Path) -> Repair:
        """Remove a segment that no manifest names if all of its bars are stored; otherwise quarantine it."""
        found = self._segment(path)
        stored = joined(self._bars).combine_chunks()
        if found is None or compare_bars(found[1], stored):
            return self._put_away(path, "a segment that no manifest names", UNLISTED)
        path.unlink()
        return Repair(str(self._series), f"removed {path}, all of whose bars are stored")


def _tables_in(folder: Path) -> list[Path]:
    """Return the Parquet files in a folder; one that cannot be listed is not taken for empty, as by `Path.glob`."""
    try:
        return [path for path in files_in(folder) if path.suffix == ".parquet"]
    except PermissionError as error:
        raise unreadable(folder, error) from error


def _in_one_order(names: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Return all names in the order of the series, which the names of each segment follow."""
    orders = list(names)
    sorter = TopologicalSorter(dict.fromkeys(united(orders), ()))
    for order in orders:
        for before, name in pairwise(order):
            sorter.add(name, before)
    try:
        return tuple(sorter.static_order())
    except CycleError:  # files of two series
        return united(orders)


def _without_revisions(manifest: Manifest, gone: set[str]) -> Manifest:
    """Return the manifest without the revisions that need these files; other revisions are kept."""
    if not gone:
        return manifest
    broken = [
        one.number for one in manifest.revisions if any(each.file in gone for each in manifest.before(one.number))
    ]
    last = max(broken, default=manifest.pruned)
    kept = tuple(one for one in manifest.revisions if one.number > last)
    named = {each.file for one in kept for each in one.replaced} | gone
    earlier = tuple(one for one in manifest.archived if one.file not in named)
    return replace(manifest, revisions=kept, pruned=last, earlier=earlier)


def _age(path: Path) -> tuple[float, str]:
    return path.lstat().st_mtime, path.name


def _period(segment: Segment) -> Span:
    """Return the time range of a segment, from the name of its period."""
    if segment.period == "all":
        return Span.of_dates(date(1, 1, 2), date(9999, 12, 30))
    year, month, day = (*map(int, segment.period.split("-")), 0, 0)[:3]
    last = date(year, month or 12, day or monthrange(year, month or 12)[1])
    return Span.of_dates(date(year, month or 1, day or 1), last)
