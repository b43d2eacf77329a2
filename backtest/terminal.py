"""How results, progress and logs look in a terminal: people's words on stderr, results on stdout, 80 columns."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from backtest.errors import BacktestError, UsageError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from rich.text import Text

    from backtest.bars import Series
    from backtest.comparison import Comparison
    from backtest.coverage import Coverage
    from backtest.doctor import Finding
    from backtest.downloader import DownloadReport, SeriesPlan
    from backtest.filling import Progress, SeriesReport
    from backtest.findings import Finding as BarFinding
    from backtest.listing import Entry
    from backtest.pins import Pin, PinReport
    from backtest.regime import Regimes
    from backtest.regression import Judgement
    from backtest.repairs import Repair
    from backtest.result import RunResult
    from backtest.runs import Kept
    from backtest.sweeps import Progress as SweepProgress
    from backtest.sweeps import Sweep
    from backtest.unseen import WalkForward
    from backtest.validity import Validity
    from backtest.verification import Verdict

_WIDTH = 80
_LINE_SECONDS = 30.0  # between two lines of progress where there is no terminal
_SHOWN = 3  # findings of a kind in a series
_ROWS = 60  # series in a picture of blocks
_BLOCKS = " █▒·×"  # of the states of a session


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
        # Where the width is short, the first column is folded: it names a thing, and cut off it would name none.
        table.add_column(name, justify="right" if right else "left", no_wrap=n > 0, overflow="fold")
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


def give_kept_run(result: RunResult, folder: Path, as_json: bool, files: Sequence[Path] = ()) -> None:
    """Give the numbers of a run, and what was written of it."""
    if not as_json:
        give(repr(result))
        return
    named = {"files": [str(file) for file in files]} if files else {}
    kept = {"run": result.run, "folder": str(folder), **named}
    give_json({**kept, **result.stats.document, "manifest": result.manifest})


def give_comparison(found: Comparison, as_json: bool) -> None:
    """Give runs side by side, and whether they differ."""
    if as_json:
        give_json(found.to_dict())
        return
    give_table(("run", "return", "CAGR", "volatility", "Sharpe", "drawdown", "− first", "p"), found.rows())
    for one in found.differences:
        give(_wrapped(str(one)))
    give(_wrapped(found.basis))


def give_sweep(found: Sweep, as_json: bool) -> None:
    """Give the best trials of a sweep, and how far the best can be believed."""
    from backtest.metrics import METRICS

    if as_json:
        give_json(found.to_dict())
        return
    rank = found.asked["rank"].lstrip("-")
    shown = list(dict.fromkeys([rank, "total_return", "sharpe", "max_drawdown", "trades"]))
    heads = {"total_return": "return", "sharpe": "Sharpe", "max_drawdown": "drawdown"}
    rows = [
        [*map(str, found.point(trial).values()), *(METRICS[name].text(trial.metrics[name]) for name in shown)]
        for trial in found.ranked[:10]
    ]
    give_table((*found.varied, *(heads.get(name, name) for name in shown)), rows)
    give(_wrapped(found.summary))
    for reason in found.verdict.reasons:
        give(_wrapped(f"- {reason}"))
    if found.failed:
        say(f"{len(found.failed):,} of {len(found.trials):,} trials failed, the first: {found.failed[0].error}")


@contextmanager
def sweeping() -> Iterator[Callable[[SweepProgress], None]]:
    """Yield a function that shows how far a sweep has come: live on a terminal, else a line now and then."""
    from rich.console import Console

    if not sys.stderr.isatty():
        yield _Seldom(_LINE_SECONDS)
        return
    with Console(stderr=True).status("sweeping") as status:
        yield lambda progress: status.update(_sweep_text(progress))


class _Seldom:
    """Says how far a sweep has come, at most once in so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._said = seconds, 0.0

    def __call__(self, progress: SweepProgress) -> None:
        if progress.seconds - self._said >= self._seconds:
            self._said = progress.seconds
            say(_sweep_text(progress))


def _sweep_text(progress: SweepProgress) -> str:
    failed = f", {progress.failed:,} failed" if progress.failed else ""
    before = f" ({progress.kept:,} of them before)" if progress.kept else ""
    return (
        f"{progress.done:,} of {progress.total:,} trials{before}{failed}, about {_time_left(progress.left)} left "
        f"(until {_clock_time(progress.left)})"
    )


def _time_left(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"


def _clock_time(seconds: float) -> str:
    return time.strftime("%H:%M", time.localtime(time.time() + seconds))


def give_validity(result: RunResult, found: Validity) -> None:
    """Give what can be said of a run, and the tables that it rests on."""
    from backtest.metrics import METRICS

    def shown(name: str, *values: float) -> list[str]:
        return [METRICS[name].text(value) for value in values]

    for line in str(found.verdict).splitlines():
        give(_wrapped(line))
    give("")
    intervals = found.intervals.intervals.items()
    rows = [[METRICS[name].label, *shown(name, result.stats[name], *ends)] for name, ends in intervals]
    give_table(("number", "value", "from", "to"), rows)
    rows = [
        [one.method, *shown("costs", *one.end), *shown("max_drawdown", *one.drawdown), *shown("win_rate", one.loss)]
        for one in found.orders
    ]
    if rows:
        give_table(("trades", "end 5 %", "50 %", "95 %", "fall 5 %", "50 %", "95 %", "loses"), rows)
    names = ("total_return", "cagr", "sharpe")
    rows = [[f"{case.factor:g}×", *(METRICS[name].text(getattr(case, name)) for name in names)] for case in found.costs]
    give_table(("costs", "return", "CAGR", "Sharpe"), rows)
    give(_wrapped(found.intervals.basis))


def give_more(found: dict[str, Any]) -> None:
    """Give what else a validation found: a sweep, regimes, a walk forward, a cross-validation, each if there is one."""
    if found["regimes"]:
        _give_regimes(found["regimes"])
    if found["walk_forward"]:
        _give_steps(found["walk_forward"])
    for name in ("walk_forward", "cpcv", "sweep"):
        if found[name]:
            give(_wrapped(found[name].summary))


def _give_regimes(found: Regimes) -> None:
    from backtest.metrics import METRICS

    names = ("total_return", "volatility", "sharpe", "max_drawdown")
    rows = [
        [row.name, f"{row.sessions:,}", *(METRICS[name].text(getattr(row, name)) for name in names),
         METRICS["total_return"].text(row.market)]
        for row in found.rows
    ]  # fmt: skip
    give("")
    give_table(("market", "sessions", "return", "volatility", "Sharpe", "drawdown", "hold"), rows)
    give(_wrapped(found.basis))


def _give_steps(found: WalkForward) -> None:
    from backtest.metrics import METRICS

    def shown(name: str, value: float) -> str:
        return METRICS[name].text(value)

    rows = [
        [
            str(step.train), str(step.test.last), *map(str, step.params.values()),
            shown("sharpe", step.inside.metrics["sharpe"]), shown("sharpe", step.outside.metrics["sharpe"]),
            shown("total_return", step.outside.metrics["total_return"]),
        ]
        for step in found.steps
    ]  # fmt: skip
    give("")
    give_table(("chosen in", "tested to", *found.values, "Sharpe in", "out", "return out"), rows)


def _wrapped(text: str) -> str:
    import textwrap

    return textwrap.fill(text, _WIDTH, break_on_hyphens=False)


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


def give_listing(entries: Sequence[Entry], as_json: bool, store: str) -> None:
    """Give a listing of series, and their sum."""
    total = {
        "series": len(entries),
        "bars": sum(one.bars for one in entries),
        "bytes": sum(one.bytes for one in entries),
    }
    if as_json:
        give_json({"store": store, "series": {str(one.series): one.to_dict() for one in entries}, "total": total})
        return
    columns = ("series", "from", "to", "bars", "sessions", "size", "updated")
    give_table(columns, [[*_row(one), _size(one.bytes), _day(one.updated)] for one in entries])
    give(f"{total['series']:,} series, {total['bars']:,} bars, {_size(total['bytes'])}")
    for one in entries:
        if one.problem:
            say(f"error: {one.problem}")


def _row(one: Entry) -> list[str]:
    return [one.series.short, _day(one.first), _day(one.last), f"{one.bars:,}", _sessions(one)]


def _sessions(one: Entry) -> str:
    """Return how many sessions there are, as 3,250/3,270 where some are missing."""
    if one.expected is None or one.missing is None:
        return "–"
    return f"{one.expected - one.missing:,}/{one.expected:,}" if one.missing else f"{one.expected:,}"


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d}" if moment else "–"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def watched(verdicts: Iterator[Verdict]) -> list[Verdict]:
    """Return the verdicts; on a terminal, show meanwhile how far it has come."""
    from rich.console import Console

    if not sys.stderr.isatty():
        return list(verdicts)
    seen: list[Verdict] = []
    with Console(stderr=True).status("verifying") as status:
        for one in verdicts:
            seen.append(one)
            status.update(f"{len(seen) - 1:,} series, {sum(each.bars for each in seen):,} bars verified: {one.series}")
    return seen


def give_verdicts(verdicts: Sequence[Verdict], repairs: Sequence[Repair], store: str) -> None:
    """Give what a verification found, what a repair did, and which sessions are stored."""
    for verdict in verdicts:
        for line in _finding_lines(verdict):
            give(line)
    for one in repairs:
        give(_hung("repair", one.did))
        if one.complete:
            give(f"           {one.complete}")
    _give_calendar([one.coverage for one in verdicts if one.coverage and len(one.coverage.days)])
    give(_summary(verdicts, store))
    if not repairs and any(one.level == "damage" for verdict in verdicts for one in verdict.findings):
        say(f"To put right what needs no source, run: backtest verify --repair --store {store}")


def give_verdicts_json(verdicts: Sequence[Verdict], repairs: Sequence[Repair], store: str, strict: bool) -> None:
    """Give the same for machines."""
    give_json(
        {
            "store": store,
            "exit_code": max(one.exit_code(strict) for one in verdicts),
            "findings": [_finding_dict(one) for verdict in verdicts if not verdict.series for one in verdict.findings],
            "series": {one.series: _verdict_dict(one, strict) for one in verdicts if one.series},
            "repairs": [asdict(one) for one in repairs],
        }
    )


def _verdict_dict(verdict: Verdict, strict: bool) -> dict[str, Any]:
    from backtest.coverage import STATES

    words = ("complete", "partial", "empty", "missing")
    counts = (
        {word: verdict.coverage.count(state) for word, state in zip(words, STATES, strict=True)}
        if verdict.coverage
        else {}
    )
    return {
        "ok": not verdict.exit_code(strict),
        "bars": verdict.bars,
        "files": verdict.files,
        "sessions": counts,
        "findings": [_finding_dict(one) for one in verdict.findings],
    }


def _finding_dict(one: BarFinding) -> dict[str, Any]:
    return {**asdict(one), "at": one.at.isoformat() if one.at else None}


def _finding_lines(verdict: Verdict) -> Iterator[str]:
    """Yield what was found of a series: all damage, and the first few of each other kind."""
    if verdict.findings and verdict.series:
        yield verdict.series
    kinds: dict[tuple[str, str], list[BarFinding]] = {}
    for one in verdict.findings:
        kinds.setdefault((one.level, one.check), []).append(one)
    for (level, check), found in kinds.items():
        shown = found if level == "damage" else found[:_SHOWN]
        yield from (_hung(level, f"{check}: {one.text}") for one in shown)
        if len(found) > len(shown):
            yield _hung(level, f"{check}: {len(found) - len(shown):,} more (--json lists them)")


def _hung(mark: str, text: str) -> str:
    """Return a text after its mark, wrapped to the width; no path is broken."""
    import textwrap

    head = f"  {mark:<8} "
    shown = text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
    wrapper = textwrap.TextWrapper(_width(), head, " " * len(head), break_long_words=False, break_on_hyphens=False)
    return wrapper.fill(shown)


def _summary(verdicts: Sequence[Verdict], store: str) -> str:
    levels = [one.level for verdict in verdicts for one in verdict.findings]
    told = [
        f"{levels.count(level)} {level}"
        for level in ("damage", "reject", "conflict", "hole", "warn")
        if level in levels
    ]
    count, bars = sum(bool(one.series) for one in verdicts), sum(one.bars for one in verdicts)
    good = "as written" if "damage" not in levels else "not all as written"
    return f"{store}: {count:,} series, {bars:,} bars, {good}; {', '.join(told) or 'nothing found'}"


def _give_calendar(coverages: Sequence[Coverage]) -> None:
    """Give blocks for what is stored: of one series a row a year, of more a row each."""
    from backtest.coverage import NAMES, STATES

    if not coverages:
        return
    lines = _months(coverages[0]) if len(coverages) == 1 else _strips(coverages[:_ROWS])
    for line in lines:
        _give_blocks(line)
    if len(coverages) > _ROWS:
        give(f"and {len(coverages) - _ROWS:,} more series")
    used = {int(state) for one in coverages for state in one.states}
    _give_blocks("  ".join(f"{_BLOCKS[state]} {NAMES[state]}" for state in STATES if state in used))


def _months(one: Coverage) -> Iterator[str]:
    states = one.by("M")
    yield "     Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"
    for year in sorted({month[:4] for month in states}):
        blocks = (_BLOCKS[states.get(f"{year}-{month:02}", 0)] * 3 for month in range(1, 13))
        yield f"{year} {' '.join(blocks)}".rstrip()


def _strips(coverages: Sequence[Coverage]) -> Iterator[str]:
    from backtest.coverage import strips

    names = [one.series for one in coverages]
    wide = min(max(map(len, names)), 40)
    head, rows = strips(coverages, max(_width() - wide - 1, 20))
    yield f"{'':{wide}} {head}"
    for name, row in zip(names, rows, strict=True):
        yield f"{name[:wide]:{wide}} {''.join(_BLOCKS[state] for state in row)}".rstrip()


def _give_blocks(line: str) -> None:
    """Give a line, in colour where there is a terminal: what is missing stands out."""
    from rich.console import Console
    from rich.text import Text

    text = Text(line, no_wrap=True)
    for block, style in (("█", "blue"), ("▒", "yellow"), ("×", "bold red"), ("·", "dim")):
        text.highlight_words([block], style)
    Console(width=_width(), highlight=False).print(text, crop=False)


def _width() -> int:
    import shutil

    return max(shutil.get_terminal_size().columns, 40) if sys.stdout.isatty() else _WIDTH


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


def give_saved(paths: Sequence[Path], as_json: bool) -> None:
    """Write where baselines were saved."""
    if as_json:
        give_json({"saved": {path.stem: path.as_posix() for path in paths}})
        return
    for path in paths:
        give(f"{path.stem}: saved, {path.as_posix()}")


def give_baselines(judgements: Sequence[Judgement], in_full: bool, as_json: bool) -> None:
    """Write what came of each baseline: in full with every metric and order that moved."""
    if as_json:
        give_json({"baselines": {one.name: one.to_dict() for one in judgements}})
        return
    for one in judgements:
        give(one.in_full() if in_full else str(one))


def give_reproduced(judgement: Judgement, as_json: bool) -> None:
    """Write whether a kept run came out equal when it was run again."""
    if as_json:
        give_json({"run": judgement.name, "equal": judgement.fine, **judgement.to_dict()})
        return
    give(str(judgement).replace(f"{judgement.name}: same", f"{judgement.name}: equal", 1))


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
        time_left = _time_left(left)
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
