"""
`download`: fill the gaps of several series in a store from a source, several at once.

Each window is stored together with the fact that it was answered, so a download can end at any moment.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from zoneinfo import ZoneInfo

from backtest import _arguments
from backtest._notebook import Done, html_lines, html_table, progress_bar
from backtest._system import wait_for
from backtest.downloads.report import Options, Progress, SeriesReport, Summary, reason_of, summary_of
from backtest.downloads.retry import Persistence
from backtest.downloads.series import Filling
from backtest.errors import BacktestError, NoBars, SourceError, Stopped, UsageError
from backtest.market.calendars import span_of_sessions
from backtest.market.hours import Hours
from backtest.market.series import Series, refuse_made, several_series
from backtest.market.span import Sessions, Span, asked_span, session_of
from backtest.sources.base import Source, estimated_bars
from backtest.sources.connect import connect
from backtest.store.reader import hours_in
from backtest.store.store import Store, open_folder

_MONTH = len("YYYYMM")
_WORKERS = 8  # series at once; the source decides how many requests are open
_log = logging.getLogger(__name__)

HEAD = "head"  # instead of a first session: everything available
Result = tuple[SeriesReport, BacktestError | None]


@dataclass(frozen=True, slots=True)
class _FromHead:
    """All sessions from a source's first to the last, today's if that is None."""

    last: date | None


@dataclass(frozen=True, slots=True)
class _Job:
    """A series to fill: its `Filling`, or a function that creates it when its turn comes."""

    series: Series
    store: Store
    begin: Callable[[], Filling]
    filling: Filling | None = None


@dataclass(frozen=True, slots=True)
class DownloadReport:
    """What a download did, series by series, and the error that ended it early, if one did."""

    series: tuple[SeriesReport, ...]
    requests: int
    violations: int  # of IB's pacing
    seconds: float
    ended_by: BacktestError | None = None

    @property
    def complete(self) -> bool:
        """Whether all requested bars are stored, or known not to exist."""
        return self.ended_by is None and all(report.status == "complete" for report in self.series)

    @property
    def exit_code(self) -> int:
        """
        The exit code of a command: 0 if complete, 4 if trying again in a few minutes may help a series.

        Otherwise 3 if bars are missing or not available, and 2 if all that failed is invalid input.
        """
        return SourceError.exit_code if self.ended_by else max((one.exit_code for one in self.series), default=0)

    @property
    def summary(self) -> Summary:
        """The counts of all series; as text it is one line."""
        return summary_of(self.series)

    def _repr_html_(self) -> str:
        heads = ["Series", "Status", "New bars", "Bars", "From", "To", "Why"]
        rows = [
            [
                one.series.short, one.status, f"{one.bars_added:,}", f"{one.bars:,}",
                *(f"{moment:%Y-%m-%d}" if moment else "" for moment in (one.first, one.last)), one.reason,
            ]
            for one in self.series
        ]  # fmt: skip
        return html_table(heads, rows) + html_lines(*repr(self).splitlines())

    def __repr__(self) -> str:
        ended = f"\nEnded early: {self.ended_by}" if self.ended_by else ""
        requests = f"\n{self.requests:,} request{'s' if self.requests != 1 else ''}" if self.requests else ""
        return f"{self.summary}{requests}{ended}"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON's types."""
        return {
            "series": {str(one.series): one.to_dict() for one in self.series},
            "requests": self.requests,
            "violations": self.violations,
            "seconds": round(self.seconds, 3),
            "summary": self.summary.to_dict(),
            "error": str(self.ended_by) if self.ended_by else None,
            "exit_code": self.exit_code,
        }


@dataclass(frozen=True, slots=True)
class SeriesPlan:
    """The requests of a download: windows, one request each; `error` says why there are none."""

    series: Series
    windows: tuple[Span, ...]
    con_id: int
    error: str = ""
    seconds: float = 0.0  # seconds that it takes, roughly

    @property
    def bars(self) -> int:
        """Roughly how many bars they bring."""
        return estimated_bars(self.series, self.windows)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON's types."""
        return {
            "requests": len(self.windows),
            "windows": [[window.start.isoformat(), window.end.isoformat()] for window in self.windows],
            "con_id": self.con_id,
            "bars": self.bars,
            "seconds": round(self.seconds, 1),
            "error": self.error,
        }


def download(
    store: Store | str | Path,
    source: Source | str,
    series: Series | str | Iterable[Series | str],
    span: Span | Sequence[date | str | None] | None = None,
    *,
    start: date | str | None = None,
    end: date | str | None = None,
    tell: Callable[[Progress], object] | None = None,
    persistence: Persistence | None = None,
    accept_revision: bool = False,
    recheck: bool = False,
    workers: int = _WORKERS,
) -> DownloadReport:
    """
    Download the bars of the series that the store lacks, in a span or between two sessions.

    Safe to stop at any moment; the next call resumes from there. A series that fails does not stop the others. The
    first interrupt (Ctrl-C) lets the pending requests finish; the second ends the download at once.

    Args:
        store: a store, or its folder.
        source: an open source, or the address of one, which is then opened and closed here: see `connect`.
        series: one series or several, or their spellings.
        span: a `Span` of timestamps, or a pair of sessions, both included.
        start: the first session, instead of a span; "head" for everything available, from the source's first bar on.
        end: the last session, included; today's by the source's clock if not given.
        tell: called with a Progress after each window, on the thread of its series. Default: a progress bar in
            notebooks.
        persistence: how many times a window is requested.
        accept_revision: take the vendor's new prices for stored bars whose prices were final, and for those of
            quarantined answers.
        recheck: request again the spans that the vendor reported as empty.
        workers: number of series to download at once.

    Raises:
        UsageError: an argument is invalid, the dates are invalid, or nothing is requested.
        SourceError: nothing answers at the address of a source.
        OSError: the store cannot be written; what was stored before stays.
    """
    if persistence is not None:
        _arguments.instance(persistence, "persistence", Persistence, "write a Persistence, or leave it out")
    revises, again = _arguments.truth(accept_revision, "accept_revision"), _arguments.truth(recheck, "recheck")
    options = Options(persistence or Persistence(), revises, again)
    if tell is not None:
        _arguments.function(tell, "tell", "write a function that takes a Progress, or leave it out")
    threads = _arguments.whole(workers, "workers", 1)
    wanted, asked = _distinct(series), _asked(span, start, end)
    target = store if isinstance(store, Store) else open_folder(store)
    with _opened(source) as vendor, progress_bar(None, "series") as bar:
        return _download(target, vendor, wanted, asked, options, tell or _by_series(bar, len(wanted)), threads)


def _by_series(bar: Callable[[Any], None] | None, count: int) -> Callable[[Progress], None]:
    """Return a function that draws the progress of all series, each by its share of windows, if there is a bar."""
    shares: dict[Series, float] = {}
    one_at_a_time = threading.Lock()

    def draw(progress: Progress) -> None:
        if bar is not None:
            with one_at_a_time:
                shares[progress.series] = progress.done / progress.windows
                bar(Done(round(sum(shares.values()), 2), count))

    return draw


def _download(
    store: Store,
    source: Source,
    wanted: list[Series],
    asked: Span | Sessions | _FromHead | None,
    options: Options,
    tell: Callable[[Progress], object],
    workers: int,
) -> DownloadReport:
    wanted = _stored_as(store, source, wanted)
    spans = _spans(store, wanted, asked, source)
    requests, violations, started = source.requests, source.violations, time.monotonic()
    now, stop = source.now(), threading.Event()

    def job(one: Series, its: Span | _FromHead) -> _Job:
        def filling(span: Span) -> Filling:
            return Filling(store, source, one, span, now, options, tell, stop)

        if isinstance(its, Span):
            begun = filling(its)
            return _Job(one, store, lambda: begun, begun)
        # The workers request the heads, which take long for many series.
        return _Job(one, store, lambda: filling(_since_head(store, source, one, its, now)))

    jobs = [job(one, its) for one, its in zip(wanted, spans, strict=True)]
    results = _fill_all(jobs, source, stop, workers)
    return DownloadReport(
        tuple(report for report, _ in results),
        source.requests - requests,
        source.violations - violations,
        time.monotonic() - started,
        next((error for _, error in results if error and error.scope == "all"), None),
    )


def plan_download(
    store: Store | str | Path,
    source: Source | str,
    series: Series | str | Iterable[Series | str],
    span: Span | Sequence[date | str | None] | None = None,
    *,
    start: date | str | None = None,
    end: date | str | None = None,
) -> list[SeriesPlan]:
    """
    Return the requests that `download` would send if nothing failed; only contracts are looked up.

    Raises:
        UsageError: an argument is invalid, the dates are invalid, or nothing is requested.
        SourceError: nothing answers at the address of a source.
    """
    wanted, asked = _distinct(series), _asked(span, start, end)
    target = store if isinstance(store, Store) else open_folder(store)
    with _opened(source) as vendor:
        now, named = vendor.now(), _stored_as(target, vendor, wanted)
        spans = _spans(target, named, asked, vendor)
        return [_plan(target, vendor, one, its, now) for one, its in zip(named, spans, strict=True)]


def _plan(store: Store, source: Source, series: Series, asked: Span | _FromHead, now: datetime) -> SeriesPlan:
    try:
        span = asked if isinstance(asked, Span) else _since_head(store, source, series, asked, now)
        filling = Filling(store, source, series, span, now, Options(), lambda _: None, threading.Event())
        windows = filling.planned()
        con_id = source.qualify(series.instrument).con_id
    except BacktestError as error:
        return SeriesPlan(series, (), 0, str(error))
    return SeriesPlan(series, tuple(windows), con_id, seconds=source.seconds_for(series, windows))


def _opened(source: Source | str) -> AbstractContextManager[Source]:
    """Return a context manager of a source: it closes a source that is opened here, and leaves the caller's open."""
    if isinstance(source, str):
        return connect(source)
    if not hasattr(source, "fetch"):
        _arguments.refuse("source", source, 'write an address such as "ib://127.0.0.1:7497", or what connect() returns')
    return nullcontext(source)


def _asked(
    span: Span | Sequence[date | str | None] | None, start: date | str | None, end: date | str | None
) -> Span | Sessions | _FromHead | None:
    if not isinstance(start, str) or start.strip().lower() != HEAD:
        return asked_span(span, start, end)
    if span is not None:
        asked_span(span, date.max)  # refuses both at once
    return _FromHead(None if end is None else session_of(end, "end"))


def _since_head(store: Store, source: Source, series: Series, asked: _FromHead, now: datetime) -> Span:
    """
    Return the span from the source's first bar or, if the source does not say, from the first stored bar.

    Raises:
        NoBars: neither is known.
        UsageError: it ends before it begins.
    """
    first, hours, last = source.first(series, now), hours_in(store, series), asked.last or now.date()
    if first is None:
        answers = store.manifest_or_empty(series).answers
        if not answers:
            raise NoBars(
                f"{source.name} does not say when the bars of {series.short} begin; name the first session, such as "
                "2010-01-04"
            )
        first = min(answer.span.start for answer in answers)
    day = _session_at(first, series, hours)
    if day > last:
        raise UsageError(f"the bars of {series.short} begin on {day}, after {last}; name a later last session")
    return span_of_sessions(series, hours, day, last)


def _session_at(moment: datetime, series: Series, hours: Hours) -> date:
    """Return the exchange's date; daily bars have a stamp at midnight in UTC that is the date itself."""
    if not hours.zone or (series.size.daily and moment == _midnight(moment)):
        return moment.date()
    return moment.astimezone(ZoneInfo(hours.zone)).date()


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _spans(
    store: Store, wanted: list[Series], asked: Span | Sessions | _FromHead | None, source: Source
) -> Sequence[Span | _FromHead]:
    if isinstance(asked, _FromHead):
        return [asked] * len(wanted)
    if isinstance(asked, Span):
        return [asked] * len(wanted)
    first, last = asked or (None, None)
    if first is None:
        raise UsageError(
            "no first session to download from; write start='2020-01-02', start='head' or span=('2020-01-02', ...)"
        )
    return [span_of_sessions(one, hours_in(store, one), first, last or source.now().date()) for one in wanted]


def _distinct(series: Series | str | Iterable[Series | str]) -> list[Series]:
    wanted = list(dict.fromkeys(several_series(series)))
    if not wanted:
        raise UsageError("no series to download; name at least one, such as AAPL/1day")
    for one in wanted:
        refuse_made(one.instrument)
    return wanted


def _stored_as(store: Store, source: Source, wanted: list[Series]) -> list[Series]:
    return list(dict.fromkeys(_by_last_trade_date(store, source, one) for one in wanted))


def _by_last_trade_date(store: Store, source: Source, series: Series) -> Series:
    """Rename a contract from its month to its last trade date, unless it is already stored by its month."""
    series = store.named(series)
    if len(series.instrument.expiry) != _MONTH or store.manifest_or_empty(series).generation:
        return series
    try:
        day = source.qualify(series.instrument).last_trade_date[:8]
    except BacktestError:
        return series  # the download of the series reports what is wrong
    if not re.fullmatch(r"[0-9]{8}", day):
        return series
    return replace(series, instrument=replace(series.instrument, expiry=day))


def _fill_all(jobs: list[_Job], source: Source, stop: threading.Event, workers: int) -> list[Result]:
    with ThreadPoolExecutor(min(workers, len(jobs)), thread_name_prefix="download") as pool:
        futures = [pool.submit(_fill, job, stop) for job in jobs]
        _await(futures, source, stop)
        return [future.result() for future in futures]


def _fill(job: _Job, stop: threading.Event) -> Result:
    error: BacktestError | None = None
    before: SeriesReport | None = None
    filling = job.filling
    try:
        if stop.is_set():
            raise Stopped("stopped before the download of this series; run this again to resume")
        filling = filling or job.begin()
        filling.fill()
        if job.filling is None and (wider := job.begin()).span.start < filling.span.start:
            before, filling = filling.report(), wider  # an answer showed that the source's first bar is an older one
            filling.fill()
    except BacktestError as caught:
        error = caught
        if error.scope == "all":
            stop.set()
    report = filling.report() if filling else _not_begun(job, error)
    report = _together(before, report) if before else report
    return replace(report, reason=reason_of(report, error)), error


def _together(before: SeriesReport, report: SeriesReport) -> SeriesReport:
    """Return the joint report of a series that was filled twice, the second time from an earlier session on."""
    return replace(
        report,
        bars_added=before.bars_added + report.bars_added,
        requests=before.requests + report.requests,
        lower_bound=before.lower_bound + report.lower_bound,
        revisions=(*before.revisions, *report.revisions),
        quarantined=before.quarantined + report.quarantined,
        notes=tuple(dict.fromkeys((*before.notes, *report.notes))),
    )


def _not_begun(job: _Job, error: BacktestError | None) -> SeriesReport:
    rows, code = job.store.manifest_or_empty(job.series).rows, (error or SourceError()).exit_code
    return SeriesReport(
        job.series, "partial" if rows else "failed", bars=rows, errors=(str(error),) if error else (), exit_code=code
    )


def _await(futures: list[Future[Result]], source: Source, stop: threading.Event) -> None:
    ended: list[Future[Result]] = []
    news: SimpleQueue[None] = SimpleQueue()

    def end(future: Future[Result]) -> None:
        if future.exception():
            stop.set()  # the disk is full, or there is a bug: the other workers stop too
        ended.append(future)
        news.put(None)

    for future in futures:
        future.add_done_callback(end)
    while len(ended) < len(futures):
        try:
            wait_for(news)
        except KeyboardInterrupt:
            if stop.is_set():
                source.close()  # a second interrupt: open requests end now
                raise
            stop.set()
            _log.warning("stopping after the pending requests; interrupt again to stop at once")
