"""`Span`: a half-open time range in UTC."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from backtest import _arguments
from backtest.errors import UsageError

_MOMENT = "write a time-zone-aware datetime, such as datetime(2024, 1, 2, tzinfo=UTC)"
_SPAN = "write a Span, such as Span.of_dates('2024-01-02', '2024-03-28')"


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """
    The time from `start` (inclusive) to `end` (exclusive), both with a zone; converted to UTC.

    Raises:
        UsageError: a time has no zone, or the span is empty.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            moment = getattr(self, name)
            if not isinstance(moment, datetime) or moment != moment:  # pandas' NaT
                _arguments.refuse(f"the {name} of a span", moment, _MOMENT)
            if moment.tzinfo is None:
                raise UsageError(f"{moment} has no time zone; give one, such as datetime(..., tzinfo=UTC)")
            try:
                object.__setattr__(self, name, moment.astimezone(UTC))
            except OverflowError as error:
                raise UsageError(f"{moment} is out of range as a time in UTC ({error}); {_MOMENT}") from error
        if self.start >= self.end:
            raise UsageError(f"the span from {self.start} to {self.end} is empty; it must end after it starts")

    @classmethod
    def of_dates(cls, since: date | str, until: date | str) -> Span:
        """
        Return the span of the stamps of daily bars, both dates included.

        Raises:
            UsageError: the first date is after the last.
        """
        since, until = session_of(since, "since"), session_of(until, "until")
        if since > until:
            raise UsageError(f"{since} to {until} is empty; the first date must not be after the last")
        midnight = datetime(since.year, since.month, since.day, tzinfo=UTC)
        return cls(midnight, midnight + timedelta(days=min((until - since).days + 1, (date.max - since).days)))

    def __str__(self) -> str:
        return f"{_moment(self.start)} to before {_moment(self.end)}"

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end

    def common(self, other: Span) -> Span | None:
        """Return the intersection of both spans, None if it is empty."""
        _arguments.instance(other, "the other span", Span, _SPAN)
        start, end = max(self.start, other.start), min(self.end, other.end)
        return Span(start, end) if start < end else None

    def minus(self, others: Iterable[Span]) -> list[Span]:
        """Return what remains of this span without the others, in order."""
        taken = _arguments.several(others, "the other spans", "write a list of Spans")
        gaps, start = [], self.start
        for other in sorted(_arguments.instance(one, "another span", Span, _SPAN) for one in taken):
            if other.end <= start or other.start >= self.end:
                continue
            if other.start > start:
                gaps.append(Span(start, other.start))
            start = other.end
        if start < self.end:
            gaps.append(Span(start, self.end))
        return gaps


Sessions = tuple[date | None, date | None]
"""The first session and the last, both included; None for as far as there are bars."""


def session_of(given: date | str, name: str) -> date:
    """
    Return the date of a session that was given as a date, a time at midnight (pandas', numpy's), or text of either,
    such as "2024-03-28" or "2024-03-28 00:00:00+00:00".

    Raises:
        UsageError: it is none of these, or has a time of day other than midnight.
    """
    example = "write the date of a session, such as '2024-03-28'"
    found: Any = given.item() if type(given).__module__ == "numpy" and hasattr(given, "item") else given
    if isinstance(found, str):
        try:
            return date.fromisoformat(found.strip())
        except ValueError as error:
            try:
                found = datetime.fromisoformat(found.strip())
            except ValueError:
                _arguments.refuse(name, given, f"it is not a date ({error}); {example}", error)
    if not isinstance(found, date) or found != found:  # pandas' NaT
        _arguments.refuse(name, given, example)
    if not isinstance(found, datetime):
        return found
    if found.time() != time():
        raise UsageError(f"{name} is {found}, and sessions have no time of day; {example}, or a Span of moments")
    return found.date()


def asked_span(
    span: Span | Sequence[date | str | None] | None,
    start: date | str | None = None,
    end: date | str | None = None,
) -> Span | Sessions | None:
    """
    Return the requested bars: a span of timestamps, or the first and last session; None for all.

    Args:
        span: a `Span`, or a pair of sessions, both included.
        start: the first session.
        end: the last session, included.

    Raises:
        UsageError: a date cannot be read, or both ways are used at once.
    """
    if span is not None and not (start is None and end is None):
        raise UsageError("span and start or end are both given; write start='2020-01-02', end='2024-03-28' alone")
    if span is None and start is None and end is None:
        return None
    if isinstance(span, Span):
        return span
    example = "write a pair of sessions such as ('2020-01-02', '2024-03-28'), or a Span"
    pair = [start, end] if span is None else _arguments.several(span, "span", example)
    if len(pair) != 2:
        _arguments.refuse("span", span, example)
    names = ("start", "end")
    first, last = (None if one is None else session_of(one, name) for one, name in zip(pair, names, strict=True))
    if first and last and first > last:
        raise UsageError(
            f"the first session, {first}, is after the last, {last}; name an earlier first or a later last session"
        )
    return first, last


def union(spans: Iterable[Span]) -> list[Span]:
    """Return the spans in order, with those that touch or overlap joined."""
    merged: list[Span] = []
    for span in sorted(spans):
        if merged and span.start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged


_OPEN = 1900, 2100  # years in which a span starts or ends of which one end was not given


def bounds_of(span: Span | None) -> str:
    """Return the ends of a span for a sentence, such as "on or after 2024-01-02"; an open end is omitted."""
    if span is None:
        return "at any time"
    since = f"on or after {_moment(span.start)}" if span.start.year > _OPEN[0] else ""
    until = f"before {_moment(span.end)}" if span.end.year < _OPEN[1] else ""
    return " and ".join(filter(None, (since, until))) or "at any time"


def _moment(moment: datetime) -> str:
    return (
        f"{moment:%Y-%m-%d}"
        if moment == moment.replace(hour=0, minute=0, second=0, microsecond=0)
        else (f"{moment:%Y-%m-%d %H:%M:%S}Z")
    )
