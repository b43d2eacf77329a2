"""How results, progress and logs look in a terminal: people's words on stderr, results on stdout, 80 columns."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from backtest.errors import BacktestError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.text import Text

    from backtest.bars import Series
    from backtest.doctor import Finding
    from backtest.downloader import DownloadReport, SeriesPlan
    from backtest.filling import Progress, SeriesReport
    from backtest.pins import Pin, PinReport
    from backtest.result import RunResult
    from backtest.runs import Kept
    from backtest.store import Store

_WIDTH = 80
_LINE_SECONDS = 30.0  # between two lines of progress where there is no terminal


def say(text: str) -> None:
    """Tell people something: stderr."""
    print(text, file=sys.stderr, flush=True)


def give(text: str) -> None:
    """Give a result: stdout."""
    print(text, flush=True)


def give_json(value: dict[str, Any]) -> None:
    """Give a result for machines."""
    give(json.dumps(value, indent=1, allow_nan=False))


def give_table(columns: tuple[str, ...], rows: list[list[str]]) -> None:
    """Give a table; columns of numbers are set to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0, collapse_padding=True)
    for n, name in enumerate(columns):
        right = bool(rows) and all(row[n][:1] in "-–0123456789" for row in rows) and "-" not in rows[0][n][1:]
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False).print(table)


def give_runs(results: list[RunResult]) -> None:
    """Give a row a run, and what all of them rest on."""
    from backtest.metrics import METRICS

    names = ("total_return", "cagr", "volatility", "sharpe", "max_drawdown", "trades")
    heads = ("strategy", "series", "return", "CAGR", "volatility", "Sharpe", "drawdown", "trades")
    rows = [
        [result.spec.name, result.series[0], *(METRICS[name].text(result.stats[name]) for name in names)]
        for result in results
    ]
    give_table(heads, rows)
    give(_wrapped(results[0].stats.conventions))


def give_kept(runs: list[Kept], as_json: bool) -> None:
    """Give a row a kept run; one that cannot be read is told as such."""
    rows = [_kept_row(run) for run in runs]
    if as_json:
        give_json({"runs": {run.name: row for run, row in zip(runs, rows, strict=True)}})
        return
    if not runs:
        say("No run is kept here yet; make one with: backtest run")
        return
    heads = ("run", "series", "return", "Sharpe", "kept")
    give_table(heads, [[run.name, *_kept_words(row)] for run, row in zip(runs, rows, strict=True)])


def _kept_row(run: Kept) -> dict[str, Any]:
    from backtest.result import RunResult

    row: dict[str, Any] = {"folder": str(run.folder), "at": run.at.isoformat()}
    try:
        result = RunResult.load(run.folder)
        return {**row, "series": result.series, "stats": result.stats.to_dict()}
    except BacktestError as error:
        return {**row, "error": str(error)}


def _kept_words(row: dict[str, Any]) -> list[str]:
    from backtest.metrics import METRICS

    when = row["at"][:10]
    if "error" in row:
        return ["damaged", "–", "–", when]
    numbers = [METRICS[name].text(row["stats"][name]) for name in ("total_return", "sharpe")]
    return [", ".join(row["series"]), *numbers, when]


def give_kept_run(result: RunResult, folder: Path, as_json: bool) -> None:
    """Give the numbers of a run."""
    if not as_json:
        give(repr(result))
        return
    stats = {"stats": result.stats.to_dict(), "definitions": result.stats.definitions}
    give_json({"run": result.run, "folder": str(folder), **stats, "manifest": result.manifest})


def _wrapped(text: str) -> str:
    import textwrap

    return textwrap.fill(text, _WIDTH)


def give_plan(plans: list[SeriesPlan], as_json: bool) -> None:
    """Give what a download would ask for."""
    if as_json:
        give_json({"series": {str(plan.series): plan.to_dict() for plan in plans}})
        return
    columns = ("series", "contract", "requests", "first window", "bars", "seconds")
    rows = [
        [
            plan.series.short,
            str(plan.con_id or "–"),
            f"{len(plan.windows):,}",
            f"{plan.windows[0].start:%Y-%m-%d}" if plan.windows else "–",
            f"{plan.bars:,}",
            f"{plan.seconds:,.0f}",
        ]
        for plan in plans
    ]
    give_table(columns, rows)
    for plan in plans:
        if plan.error:
            say(f"error: {plan.error}")
    say(f"{sum(len(plan.windows) for plan in plans):,} requests; nothing was asked for but contracts not yet known.")


def _remarks(one: SeriesReport) -> str:
    counts = {
        "revised": len(one.revisions),
        "quarantined": one.quarantined,
        "spans confirmed empty": len(one.confirmed_empty),
        "gaps open": len(one.gaps),
    }
    return "".join(f", {count:,} {what}" for what, count in counts.items() if count)


def give_download(report: DownloadReport, as_json: bool) -> None:
    """Give what a download did."""
    if as_json:
        give_json(report.to_dict())
        return
    for one in report.series:
        first, last = (f"{moment:%Y-%m-%d}" if moment else "–" for moment in (one.first, one.last))
        give(
            f"{one.series.short}: {one.status}, {one.bars_added:,} new of {one.bars:,} bars, {first} to {last}, "
            f"{one.requests} request{'s' if one.requests != 1 else ''}{_remarks(one)}"
        )
        for error in one.errors:
            if error != str(report.ended_by):  # which is said once, for all
                say(f"error: {one.series.short}: {error}")
        for note in one.notes:
            say(f"note: {one.series.short}: {note}")
    if report.complete and not report.requests:
        say("Nothing to download: the store has it all.")


def give_findings(findings: list[Finding]) -> None:
    """Give what a doctor found."""
    from rich.console import Console
    from rich.table import Table

    marks = {"ok": "[green]ok[/]", "warning": "[yellow] ![/]", "problem": "[bold red]!![/]"}
    table = Table.grid("mark", "what", "said", padding=(0, 1))
    for finding in findings:
        said = f"{finding.detail}\nTo do: {finding.fix}" if finding.fix else finding.detail
        table.add_row(marks[finding.state], _unmarked(finding.what), _unmarked(said))
    Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False).print(table)


def _unmarked(text: str) -> Text:
    """Return the text as it is: square brackets in it are no marks for rich."""
    from rich.text import Text

    return Text(text, overflow="fold")


def give_listing(rows: list[dict[str, Any]]) -> None:
    """Give a listing of series."""
    columns = ("series", "from", "to", "bars", "bytes")
    give_table(columns, [[_cell(row[name]) for name in columns] for row in rows])


def ls_row(store: Store, series: Series) -> dict[str, Any]:
    """Return what a listing says of a series."""
    manifest = store.manifest(series)
    if not manifest.generation:
        from backtest.errors import NoBars

        raise NoBars(f"{series.short} is not in {store.root}; see what is: backtest ls --store {store.root}")
    first, last = (manifest.segments[0].first, manifest.segments[-1].last) if manifest.segments else (None, None)
    return {
        "key": str(series),
        "series": series.short,
        "from": first,
        "to": last,
        "bars": manifest.rows,
        "bytes": sum(segment.bytes for segment in manifest.segments),
        "content": manifest.content,
        "covered": [[span.start.isoformat(), span.end.isoformat()] for span in manifest.coverage],
    }


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)[:10] if str(value).endswith("+00:00") else str(value)


def give_pins(reports: list[PinReport], lock: str, as_json: bool) -> None:
    """Give what was pinned, and in which months the stored bars are others."""
    if as_json:
        give_json({"lock": lock, "series": {str(report.series): report.to_dict() for report in reports}})
        return
    for report in reports:
        give(f"{report.series.short}: {report.status}, {_pinned(report.pin)}")
        for change in report.changes:
            give(f"  {change}")


def _pinned(pin: Pin) -> str:
    return f"{pin.rows:,} bars, {pin.first:%Y-%m-%d} to {pin.last:%Y-%m-%d}, digest {pin.digest[:12]}"


@contextmanager
def progress(count: int, waiting_for: Callable[[], str]) -> Iterator[Callable[[Progress], None]]:
    """
    Yield a function that shows the progress of so many series: live on a terminal, else a line now and then.

    `waiting_for` says why nothing is sent just now, such as a used-up request budget.
    """
    from rich.console import Console

    if not sys.stderr.isatty():
        yield _Tally(count, waiting_for, say, _LINE_SECONDS)
        return
    with Console(stderr=True).status("connected") as status:
        yield _Tally(count, waiting_for, status.update, 0.1)


class _Tally:
    """Adds up what is told of the series, and shows it, at most once in so many seconds."""

    def __init__(
        self, count: int, waiting_for: Callable[[], str], show: Callable[[str], object], seconds: float
    ) -> None:
        self._count, self._waiting_for, self._show, self._seconds = count, waiting_for, show, seconds
        self._shares: dict[Series, float] = {}
        self._requests = self._bars = 0
        self._began = self._shown = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self, progress: Progress) -> None:
        with self._lock:
            self._shares[progress.series] = progress.done / progress.windows
            self._requests += 1
            self._bars += progress.bars
            if time.monotonic() - self._shown >= self._seconds:
                self._shown = time.monotonic()
                self._show(self._text(progress))

    def _text(self, progress: Progress) -> str:
        share, seconds = sum(self._shares.values()) / self._count, self._shown - self._began
        done = sum(one == 1 for one in self._shares.values())
        left = seconds / share - seconds if share else 0
        time_left = f"{left:,.0f} s" if left < 120 else f"{left / 60:,.0f} min"
        return (
            f"{done:,} of {self._count:,} series, {self._requests:,} requests, {self._bars:,} bars "
            f"({self._bars / max(seconds, 0.1):,.0f} a second), about {time_left} left; "
            f"{progress.series.short} {progress.done} of {progress.windows}"
            + (f"; waiting: {why}" if (why := self._waiting_for()) else "")
        )


def start_logging(log_format: str) -> None:
    """Send the package's log records to stderr, as text or as JSON lines."""
    if log_format not in ("text", "json"):
        raise UsageError(f"--log-format {log_format!r} is unknown; write text or json")
    handler = logging.StreamHandler()
    if log_format == "json":
        handler.setFormatter(_JsonLines())
    logger = logging.getLogger("backtest")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO if log_format == "json" else logging.WARNING)
    logger.propagate = False


class _JsonLines(logging.Formatter):
    """A JSON object a record: time, level, logger, message, and the fields given with it."""

    _known = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {key: value for key, value in vars(record).items() if key not in self._known}
        at = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        line = {
            "time": at,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **fields,
        }
        return json.dumps(line, default=str)
