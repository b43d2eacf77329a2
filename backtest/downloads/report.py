"""The plan of a download, its progress, and its result for each series."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import date, datetime, timedelta
from typing import Any

from backtest.downloads.retry import Persistence
from backtest.errors import BacktestError, SourceError
from backtest.market.series import Series
from backtest.market.span import Span


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a download: the series, its finished and total windows, and the bars of the last window."""

    series: Series
    done: int
    windows: int
    bars: int


@dataclass(frozen=True, slots=True)
class Options:
    """
    The options by which a series is downloaded.

    `accept_revision` accepts the vendor's new prices of settled bars; `recheck` requests again the spans that the
    vendor reported as empty.
    """

    persistence: Persistence = field(default_factory=Persistence)
    accept_revision: bool = False
    recheck: bool = False


_NAMED = 3  # series named per reason in a summary
_SPANS = 5  # of the gaps of a series, how many are shown
_MOMENT = timedelta(microseconds=1)  # the step of a stamp
_ALWAYS = ("bars_added", "revisions", "ended")  # counts that a summary shows even if they are 0


def _counted(words: str, of_one: str = "") -> dict[str, str]:
    """Return the mark of a field that lines and summaries count: a number, or the length of a tuple."""
    return {"counted": words, "of_one": of_one or words}


@dataclass(frozen=True, slots=True)
class SeriesReport:
    """
    What a download did for one series; `status` is complete, partial or failed.

    The line of a series and the summary print the fields that are counts, in the order of the fields.
    """

    series: Series
    status: str
    bars_added: int = field(default=0, metadata=_counted("new bars", "new bar"))
    bars: int = 0
    requests: int = 0
    lower_bound: int = 0  # requests that the plan took, before anything went wrong
    first: datetime | None = None
    last: datetime | None = None
    revisions: tuple[datetime, ...] = field(default=(), metadata=_counted("revised"))  # corrected by the vendor
    # Its last session, if the instrument has ended and nothing more is requested.
    ended: date | None = field(default=None, metadata=_counted("ended"))
    quarantined: int = field(default=0, metadata=_counted("quarantined"))  # answers quarantined
    confirmed_empty: tuple[Span, ...] = field(
        default=(), metadata=_counted("spans confirmed empty", "span confirmed empty")
    )
    # Not answered, or sessions without a bar that nobody has confirmed.
    gaps: tuple[Span, ...] = field(default=(), metadata=_counted("gaps open", "gap open"))
    errors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # worth knowing, though nothing went wrong
    exit_code: int = 0  # 4 if trying again in a few minutes may help, otherwise 3 if bars are missing or not available
    reason: str = ""  # why it is not complete, in a few words

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON's types; times are ISO 8601, UTC."""
        return {
            "status": self.status,
            "bars_added": self.bars_added,
            "bars": self.bars,
            "requests": self.requests,
            "lower_bound": self.lower_bound,
            "from": self.first.isoformat() if self.first else None,
            "to": self.last.isoformat() if self.last else None,
            "gaps": [_pair(gap) for gap in self.gaps],
            "confirmed_empty": [_pair(span) for span in self.confirmed_empty],
            "revisions": [moment.isoformat() for moment in self.revisions],
            "quarantined": self.quarantined,
            "ended": self.ended.isoformat() if self.ended else None,
            "errors": list(self.errors),
            "notes": list(self.notes),
            "reason": self.reason,
            "exit_code": self.exit_code,
        }


@dataclass(frozen=True, slots=True)
class Summary:
    """The counts of a download: series by status, their totals, and why some are not complete."""

    series: int
    statuses: dict[str, int]
    counts: dict[str, int]  # by the fields of SeriesReport
    reasons: dict[str, tuple[Series, ...]]

    def __str__(self) -> str:
        some = {name: count for name, count in self.counts.items() if count or name in _ALWAYS}
        first = {name: some.pop(name) for name in _ALWAYS}
        failed = {status: self.statuses[status] for status in ("partial", "failed")}
        parts = [
            f"{self.statuses['complete']:,} complete",
            *(counted(name, count) for name, count in {**first, **some}.items()),
            *(f"{count:,} {status}" for status, count in failed.items() if count or status == "failed"),
        ]
        why = [f"{reason} ({len(them):,}): {_names(them)}" for reason, them in self.reasons.items()]
        return "; ".join([f"{self.series:,} series: {', '.join(parts)}", *why])

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON's types; `text` is the line for people."""
        return {
            "text": str(self),
            "series": self.series,
            **self.statuses,
            **self.counts,
            "reasons": {reason: [str(one) for one in them] for reason, them in self.reasons.items()},
        }


def summary_of(reports: Iterable[SeriesReport]) -> Summary:
    """Return the counts of reports; the most frequent reasons first."""
    known = list(reports)
    reasons: dict[str, list[Series]] = {}
    for report in known:
        if report.reason:
            reasons.setdefault(report.reason, []).append(report.series)
    return Summary(
        len(known),
        {status: sum(one.status == status for one in known) for status in ("complete", "partial", "failed")},
        {name: sum(counts_of(one)[name] for one in known) for name in counted_words()},
        {reason: tuple(reasons[reason]) for reason in sorted(reasons, key=lambda one: -len(reasons[one]))},
    )


def counted_words() -> dict[str, str]:
    """Return the words of the counts, by the fields of SeriesReport."""
    return {one.name: one.metadata["counted"] for one in fields(SeriesReport) if "counted" in one.metadata}


def counted(name: str, count: int) -> str:
    """Return a count in words, by its field of SeriesReport."""
    metadata = next(one.metadata for one in fields(SeriesReport) if one.name == name)
    return f"{count:,} {metadata['of_one' if count == 1 else 'counted']}"


def counts_of(report: SeriesReport) -> dict[str, int]:
    """Return the counts of a series, by the fields of its report."""
    values = {name: getattr(report, name) for name in counted_words()}
    return {name: len(value) if isinstance(value, tuple) else _number(value) for name, value in values.items()}


def _number(value: int | date | None) -> int:
    return value if isinstance(value, int) else int(value is not None)


def reason_of(report: SeriesReport, error: BacktestError | None) -> str:
    """Return briefly why a series is not complete, given the error that ended it, if any; "" if it is complete."""
    if report.status == "complete":
        return ""
    if error:
        return error.brief
    if report.exit_code == SourceError.exit_code:
        return "windows without an answer"
    return "answers in quarantine" if report.quarantined else "sessions missing"


def open_dates(report: SeriesReport) -> str:
    """Return the dates, in UTC, on which a series lacks bars, and what to do; "" if there is no gap."""
    if not report.gaps:
        return ""
    shown = [_dates(gap) for gap in report.gaps[:_SPANS]]
    more = f" and {len(report.gaps) - _SPANS:,} more gaps" if len(report.gaps) > _SPANS else ""
    first, last = _first_last(report.gaps[0])[0], _first_last(report.gaps[-1])[1]
    return (
        f"no bars of {', '.join(dict.fromkeys(shown))}{more}; to request them again: --since {first} --until {last}; "
        "a gap stays open until the source returns bars for it, or reports on another day that it has none"
    )


def _dates(span: Span) -> str:
    first, last = _first_last(span)
    return first if first == last else f"{first} to {last}"


def _first_last(span: Span) -> tuple[str, str]:
    return f"{span.start:%Y-%m-%d}", f"{span.end - _MOMENT:%Y-%m-%d}"


def _names(series: tuple[Series, ...]) -> str:
    more = f" and {len(series) - _NAMED:,} more" if len(series) > _NAMED else ""
    return ", ".join(one.short for one in series[:_NAMED]) + more


def _pair(span: Span) -> list[str]:
    return [span.start.isoformat(), span.end.isoformat()]
