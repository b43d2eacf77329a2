"""The manifest of a series: its current and former segments, and the record of requests and answers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from backtest import _arguments
from backtest.errors import NoBars
from backtest.market.series import ContractDetails, Series
from backtest.market.span import Span, union

FORMAT = 2  # of a store, and of a series that has no extra columns
EXTRA_FORMAT = 3  # of a series that has some: a version that would drop them has to refuse it
FORMATS = (1, 2, 3)  # of a series, that can be read
REPAIR = "restore it from a backup, or remove the folder of the series and download it again"
CHANGED_LINES = (
    "has Windows line endings, which Git writes where core.autocrlf is true; run: backtest verify --repair, "
    "which fixes them and keeps Git from changing them again"
)
RESCALED = "prices were rescaled, such as by a split"  # the reason of a revision after a change of scale
LARGEST = 64 << 20  # bytes of a manifest; one of ten years of minutes has 30,000
LARGEST_SEGMENT = 256 << 20  # bytes of a segment
MOST_ROWS = 4_000_000  # of a segment; a month of seconds has 2.7 million
NAME_LENGTHS = {"day": 10, "month": 7, "year": 4, "": 0}  # of 2024-03-28
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Segment:
    """
    A file of bars: its name, rows, first and last timestamp, size in bytes, hash of the file and of its values.

    `extra` are the extra columns that have a number in this file; the file has no others.
    """

    file: str
    rows: int
    first: str
    last: str
    bytes: int
    sha256: str
    rows_sha256: str
    extra: tuple[str, ...] = ()

    @property
    def period(self) -> str:
        """The period that the file covers, such as 2024-03."""
        return self.file.split(".")[0]


@dataclass(frozen=True, slots=True)
class Answer:
    """
    A vendor's answer to a request for a span: how many bars (0 means "no data"), when, and from whom.

    `since` is when the vendor first reported no bars, if it repeated that at `at`; None if it reported it once.
    """

    span: Span
    bars: int
    at: datetime
    source: str = ""
    text: str = ""
    since: datetime | None = None

    @property
    def first_said(self) -> datetime:
        """When the vendor first gave this answer."""
        return self.since or self.at


@dataclass(frozen=True, slots=True)
class Revision:
    """
    A change of stored bars: when it came, from whom, why, and how many bars it changed or removed.

    `replaced` are the archived segments that `periods` had before. A later write that appends bars to a further period
    adds the old segment of that period, so that the series can be read as it was.
    """

    number: int
    at: datetime
    bars: int
    source: str = ""
    why: str = ""
    periods: tuple[str, ...] = ()
    replaced: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """
    The files and the ledger of a series; `generation` counts its commits, `pruned` the revisions that were deleted.

    `earlier` are archived segments of format 1, which does not give their revision; `aside` are the files of
    quarantined answers, sorted; `extra` are the names of the extra columns, in the order in which they were added.
    """

    series: str
    generation: int = 0
    contract: ContractDetails | None = None
    segments: tuple[Segment, ...] = ()
    answers: tuple[Answer, ...] = ()
    revisions: tuple[Revision, ...] = ()
    pruned: int = 0
    earlier: tuple[Segment, ...] = ()
    aside: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """How many bars the series has."""
        return sum(segment.rows for segment in self.segments)

    @property
    def content(self) -> str:
        """SHA-256 of the values of all bars: equal for equal bars, whatever wrote the files."""
        return hashlib.sha256("\n".join(segment.rows_sha256 for segment in self.segments).encode()).hexdigest()

    @property
    def coverage(self) -> list[Span]:
        """The spans that were requested and answered."""
        return union(answer.span for answer in self.answers)

    @property
    def archived(self) -> tuple[Segment, ...]:
        """The segments that are kept in the archive."""
        replaced = [segment for revision in self.revisions for segment in revision.replaced]
        return tuple({segment.file: segment for segment in [*self.earlier, *replaced]}.values())

    def before(self, number: int) -> tuple[Segment, ...]:
        """
        Return the segments as they were before a revision.

        Raises:
            NoBars: there is no such revision, or it was pruned.
        """
        number = _arguments.whole(number, "the number of a revision")
        segments = {segment.period: segment for segment in self.segments}
        for revision in reversed(self.revisions):
            segments = {period: one for period, one in segments.items() if period not in revision.periods}
            segments |= {segment.period: segment for segment in revision.replaced}
            if revision.number == number:
                return in_order(segments.values())
        known = ", ".join(str(revision.number) for revision in self.revisions) or "none"
        pruned = " (it was pruned)" if 1 <= number <= self.pruned else ""
        raise NoBars(f"{self.series} has no revision {number}{pruned}; choose from {known}")


def period_unit(series: Series) -> str:
    """Return the period of a segment, so that it has 2,000 to 30,000 bars of a liquid instrument; "" for all."""
    seconds = series.size.seconds
    if seconds < 60:
        return "day"
    if seconds < 600:
        return "month"
    return "year" if seconds < 86_400 else ""


def period_of(series: Series, moment: datetime) -> str:
    """Return the name of the period whose segment holds a bar."""
    return moment.isoformat()[: NAME_LENGTHS[period_unit(series)]] or "all"


def in_order(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """Return the segments by time."""
    return tuple(sorted(segments, key=lambda segment: segment.first))


def remembering(old: Manifest, changed: Iterable[str]) -> tuple[Revision, ...]:
    """Return the revisions; the last one keeps the old segments of these periods, if it has none of them yet."""
    if not old.revisions:
        return ()
    last = old.revisions[-1]
    fresh = tuple(period for period in changed if period not in last.periods)
    lost = tuple(segment for segment in old.segments if segment.period in fresh)
    return (*old.revisions[:-1], replace(last, periods=last.periods + fresh, replaced=last.replaced + lost))


def recorded(answers: tuple[Answer, ...], new: Answer, silent: Sequence[Answer] = ()) -> tuple[Answer, ...]:
    """
    Return the answers with the new one; successive answers with bars are merged, so the ledger stays short.

    If a vendor repeats that there are no bars, the time of its first such answer is kept.

    Args:
        silent: the parts of earlier empty answers in which the new one, which has bars, has none either.
    """
    empties = [answer for answer in answers if not answer.bars and answer.span.common(new.span)]
    outside = [replace(answer, span=part) for answer in empties for part in answer.span.minus([new.span])]
    kept = [
        a for a in answers if a not in empties and not (new.span.start <= a.span.start and a.span.end <= new.span.end)
    ]
    added = [new, *silent] if new.bars else _said_again(empties, new)
    merged: list[Answer] = []
    for answer in sorted([*kept, *outside, *added], key=lambda a: a.span):
        last = merged[-1] if merged else None
        if last and last.bars and answer.bars and last.source == answer.source and last.span.end >= answer.span.start:
            whole = Span(last.span.start, max(last.span.end, answer.span.end))
            merged[-1] = Answer(whole, last.bars + answer.bars, max(last.at, answer.at), answer.source, answer.text)
        else:
            merged.append(answer)
    return tuple(merged)


def _said_again(empties: Sequence[Answer], new: Answer) -> list[Answer]:
    """Return the parts of an empty answer: those that repeat earlier ones, and the others."""
    again = [
        replace(new, span=common, since=None if old.first_said == new.at else old.first_said)
        for old in empties
        if (common := old.span.common(new.span))
    ]
    return [*again, *(replace(new, span=part) for part in new.span.minus(one.span for one in again))]


def remembered(old: Iterable[Answer], new: Iterable[Answer]) -> tuple[Answer, ...]:
    """Return the answers of a series read again; answers without bars keep their first date."""
    empties = [answer for answer in old if not answer.bars]
    return tuple(part for answer in new for part in ([answer] if answer.bars else _said_again(empties, answer)))
