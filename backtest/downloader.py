"""`download`: fill the gaps of series in a store from a source."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from backtest.bars import Series, Span, schema, union
from backtest.calendars import span_of_sessions
from backtest.errors import BacktestError, LinkLost, NoConnection, NoData, UsageError
from backtest.sources import Source
from backtest.sources.plan import finished, open_ended
from backtest.store import Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a download is: the series, its windows done and in all, and the bars of the last window."""

    series: Series
    done: int
    windows: int
    bars: int


@dataclass(frozen=True, slots=True)
class SeriesReport:
    """What a download did for one series; `status` is complete, partial or failed."""

    series: Series
    status: str
    bars_added: int
    bars: int
    requests: int
    first: datetime | None
    last: datetime | None
    gaps: tuple[Span, ...]
    confirmed_empty: tuple[Span, ...]
    errors: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON's types; times are ISO 8601, UTC."""
        return {
            "status": self.status,
            "bars_added": self.bars_added,
            "bars": self.bars,
            "requests": self.requests,
            "from": self.first.isoformat() if self.first else None,
            "to": self.last.isoformat() if self.last else None,
            "gaps": [_pair(gap) for gap in self.gaps],
            "confirmed_empty": [_pair(span) for span in self.confirmed_empty],
            "errors": list(self.errors),
        }


@dataclass(frozen=True, slots=True)
class DownloadReport:
    """What a download did, series by series, and the error that ended it early, if one did."""

    series: tuple[SeriesReport, ...]
    requests: int
    ended_by: BacktestError | None = None

    @property
    def complete(self) -> bool:
        """Whether all that was asked for is stored, or known not to exist."""
        return self.ended_by is None and all(report.status == "complete" for report in self.series)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON's types."""
        return {"series": {str(one.series): one.to_dict() for one in self.series}, "requests": self.requests}


def download(
    store: Store,
    source: Source,
    series: Series | Iterable[Series],
    span: Span | tuple[date, date],
    *,
    tell: Callable[[Progress], object] = lambda _: None,
) -> DownloadReport:
    """
    Fill what the store lacks of the series in the span; a pair of dates means the sessions known by them.

    Safe to stop at any moment: each window is stored as it arrives, and the next call goes on from there. What is
    stored or known to be empty is not asked for again. A series that fails does not stop the others; a broken
    connection does.

    Raises:
        UsageError: the dates are off, or a series is one that the source never has.
    """
    wanted = [series] if isinstance(series, Series) else list(series)
    if not wanted:
        raise UsageError("no series to download; name at least one, such as AAPL/1day")
    spans = [span if isinstance(span, Span) else span_of_sessions(one, *span) for one in wanted]
    before, now = source.requests, source.now()
    reports: list[SeriesReport] = []
    for one, its_span in zip(wanted, spans, strict=True):
        report, error = _fill(store, source, one, its_span, now, tell)
        reports.append(report)
        if isinstance(error, LinkLost | NoConnection):
            return DownloadReport(tuple(reports), source.requests - before, error)
    return DownloadReport(tuple(reports), source.requests - before)


def _fill(
    store: Store,
    source: Source,
    series: Series,
    span: Span,
    now: datetime,
    tell: Callable[[Progress], object],
) -> tuple[SeriesReport, BacktestError | None]:
    rows, requests = store.manifest(series).rows, source.requests
    error: BacktestError | None = None
    try:
        windows = _missing_windows(store, source, series, span, now)
        for number, window in enumerate(windows, 1):
            bars = _fetch_into(store, source, series, window)
            tell(Progress(series, number, len(windows), bars))
    except UsageError:
        raise
    except BacktestError as caught:
        error = caught
        _log.info("series failed", extra={"series": str(series), "error": str(caught)})
    return _report(store, source, series, span, rows, source.requests - requests, error), error


def _missing_windows(store: Store, source: Source, series: Series, span: Span, now: datetime) -> list[Span]:
    done = finished(series, span, now)
    if done is None:
        raise UsageError(f"{series.short} has no finished bar in {span}; it is {now:%Y-%m-%d %H:%M}Z at the source")
    gaps = store.gaps(series, done)
    if gaps and open_ended(series):
        # History that changes at each dividend cannot be appended to: it is replaced whole.
        stored = store.manifest(series).coverage
        gaps = [Span(min(part.start for part in [done, *stored]), max(part.end for part in [done, *stored]))]
    return [window for gap in gaps for window in source.windows(series, gap)]


def _fetch_into(store: Store, source: Source, series: Series, window: Span) -> int:
    """Fetch a window, store what came of it together with the answer, and return the number of its bars."""
    contract = source.qualify(series.instrument)
    try:
        bars, said = source.fetch(series, window), ""
    except NoData as answer:
        bars, said = schema().empty_table(), str(answer)
    store.write(
        series,
        window,
        bars,
        source=source.name,
        text=said,
        contract=contract,
        revise=open_ended(series) and not said,
    )
    return len(bars)


def _report(
    store: Store,
    source: Source,
    series: Series,
    span: Span,
    rows: int,
    requests: int,
    error: BacktestError | None,
) -> SeriesReport:
    manifest = store.manifest(series)
    gaps = [window for gap in span.minus(manifest.coverage) for window in source.windows(series, gap)]
    empty = [common for answer in manifest.answers if not answer.bars and (common := span.common(answer.span))]
    status = "complete" if error is None else "partial" if manifest.rows else "failed"
    first, last = (manifest.segments[n] for n in (0, -1)) if manifest.segments else (None, None)
    return SeriesReport(
        series,
        status,
        manifest.rows - rows,
        manifest.rows,
        requests,
        datetime.fromisoformat(first.first) if first else None,
        datetime.fromisoformat(last.last) if last else None,
        tuple(gaps),
        tuple(union(empty)),
        (str(error),) if error else (),
    )


def _pair(span: Span) -> list[str]:
    return [span.start.isoformat(), span.end.isoformat()]
