"""Plans, downloads, lists, findings and pins of stored bars as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from backtest.cli.terminal import give, give_json, give_table, harmless, say, shortened, width, wrapped
from backtest.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from backtest.downloads.downloader import DownloadReport, SeriesPlan
    from backtest.downloads.ingestion import Intake
    from backtest.downloads.report import SeriesReport
    from backtest.store.audit.coverage import Coverage
    from backtest.store.audit.findings import Finding
    from backtest.store.audit.listing import Entry
    from backtest.store.audit.repairs import Repair
    from backtest.store.audit.verification import SeriesAudit
    from backtest.store.pins import Pin, PinReport

_SHOWN = 3  # findings of one kind shown per series
_ROWS = 60  # series in a picture of blocks
_BLOCKS = " █▒·×"  # of the states of a session


def give_plan(plans: list[SeriesPlan], as_json: bool) -> None:
    """Print the requests that a download would send."""
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
    count = sum(len(plan.windows) for plan in plans)
    say(f"{count:,} request{'s' * (count != 1)} to send; so far only unknown contracts were looked up.")


def _remarks(one: SeriesReport) -> str:
    from backtest.downloads.report import counted, counted_words, counts_of

    words, counts = counted_words(), counts_of(one)
    told = [name for name in words if counts[name] and name not in ("bars_added", "gaps")]
    return "".join(f", {words[name]}" if name == "ended" else f", {counted(name, counts[name])}" for name in told)


def give_download(report: DownloadReport, as_json: bool, quiet: bool = False) -> None:
    """Print the outcome of a download: a line per series and the summary; if quiet, only the summary and the errors."""
    from backtest.downloads.report import open_dates

    if as_json:
        give_json(report.to_dict())
        return
    for one in report.series:
        if not quiet:
            give(_download_line(one))
        for error in one.errors:
            if error != str(report.ended_by):  # printed once, for all series
                say(f"error: {one.series.short}: {error}")
        for note in () if quiet else one.notes:
            say(f"note: {one.series.short}: {note}")
        if one.gaps and not quiet and (one.bars or not one.errors):  # otherwise the errors say everything
            say(f"open: {one.series.short}: {open_dates(one)}")
    if quiet or len(report.series) > 1:
        give(str(report.summary))
    if report.complete and not report.requests and not quiet:
        say("Nothing to download: the store has all these bars.")


def _download_line(one: SeriesReport) -> str:
    span = f", {one.first:%Y-%m-%d} to {one.last:%Y-%m-%d}" if one.first and one.last else ""
    requests = f"{one.requests} request{'s' if one.requests != 1 else ''}"
    counts = f"{one.bars:,} bar{'s' * (one.bars != 1)} ({one.bars_added:,} new)"
    return f"{one.series.short}: {one.status}, {counts}{span}, {requests}{_remarks(one)}"


def give_intake(intake: Intake) -> None:
    """Print how a file was read: the role and form of each column, what was skipped and what is missing."""
    from backtest.market.extra import suggested_name

    what, mapping = intake.what, intake.mapping
    say(f"{what}: " + ", ".join(f"{theirs or '(no name)'} = {ours or '–'}" for theirs, ours in mapping.items()))
    if intake.how:
        say(f"{what}: {'; '.join(intake.how)}")
    for note in intake.notes:
        say(f"{what}: {note}")
    if names := [name for name, ours in mapping.items() if name and ours is None]:
        keep = ",".join(found for name in names if (found := suggested_name(name))) or "NAME"
        say(f"{what}: {', '.join(names)}: not stored; keep with --extra {keep}")


def give_listing(entries: Sequence[Entry], as_json: bool, store: str) -> None:
    """Print a list of series, and their totals."""
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
        if one.extra:
            give(f"{one.series.short} has extra columns: {', '.join(one.extra)}")
        if one.rule:
            give(wrapped(f"{one.series.short}: sessions are assumed: {one.rule}"))
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


def give_verdicts(verdicts: Sequence[SeriesAudit], repairs: Sequence[Repair], store: str) -> None:
    """Print what a verification found, what a repair did, and which sessions are stored."""
    for verdict in verdicts:
        for line in _finding_lines(verdict):
            give(line)
    for one in repairs:
        give(_hung("repair", one.did))
        if one.complete:
            give(f"           {one.complete}")
    _give_calendar([one.coverage for one in verdicts if one.coverage and len(one.coverage.days)])
    give(_summary(verdicts))
    if not repairs and any(one.level == "damage" for verdict in verdicts for one in verdict.findings):
        say(f"To repair what needs no source, run: backtest verify --repair --store {store}")


def give_verdicts_json(verdicts: Sequence[SeriesAudit], repairs: Sequence[Repair], store: str, strict: bool) -> None:
    """Print the same as JSON."""
    give_json(
        {
            "store": store,
            "exit_code": max(one.exit_code(strict) for one in verdicts),
            "findings": [_finding_dict(one) for verdict in verdicts if not verdict.series for one in verdict.findings],
            "series": {_spelled(one.series): _verdict_dict(one, strict) for one in verdicts if one.series},
            "repairs": [asdict(one) for one in repairs],
        }
    )


def _verdict_dict(verdict: SeriesAudit, strict: bool) -> dict[str, Any]:
    from backtest.store.audit.coverage import STATES

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


def _finding_dict(one: Finding) -> dict[str, Any]:
    return {**asdict(one), "at": one.at.isoformat() if one.at else None}


def _finding_lines(verdict: SeriesAudit) -> Iterator[str]:
    """Yield the findings about a series: all damage, and the first few of each other kind."""
    if verdict.findings and verdict.series:
        yield _spelled(verdict.series, short=True)
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for one in verdict.findings:
        kinds.setdefault((one.level, one.check), []).append(one)
    for (level, check), found in kinds.items():
        shown = found if level == "damage" else found[:_SHOWN]
        yield from (_hung(level, f"{check}: {one.text}") for one in shown)
        if len(found) > len(shown):
            yield _hung(level, f"{check}: {len(found) - len(shown):,} more (--json lists them)")


def _spelled(key: str, short: bool = False) -> str:
    """Return a series as people write it, or the folder's name if that is not the name of a series."""
    from backtest.market.series import Series

    with suppress(UsageError):
        if (series := Series.parse(key)).key == key:
            return series.short if short else str(series)
    return key


def _hung(mark: str, text: str) -> str:
    """Return a text after its mark, wrapped to the width without breaking a path."""
    import textwrap

    head = f"  {mark:<8} "
    shown = harmless(shortened(" ".join(text.splitlines())))
    wrapper = textwrap.TextWrapper(width(), head, " " * len(head), break_long_words=False, break_on_hyphens=False)
    return wrapper.fill(shown)


_FINDINGS = {"damage": "damage", "reject": "reject", "conflict": "conflict", "hole": "hole", "warn": "warning"}


def _summary(verdicts: Sequence[SeriesAudit]) -> str:
    levels: list[str] = [one.level for verdict in verdicts for one in verdict.findings]
    told = [_counted(word, levels.count(level)) for level, word in _FINDINGS.items() if level in levels]
    count, bars = sum(bool(one.series) for one in verdicts), sum(one.bars for one in verdicts)
    good = "checksums match" if "damage" not in levels else "some checksums differ"
    return f"{count:,} series, {bars:,} bars: {good}, {', '.join(told) or 'no problems found'}"


def _counted(word: str, count: int) -> str:
    return f"{count:,} {word}{'s' * (count != 1 and word != 'damage')}"


def _give_calendar(coverages: Sequence[Coverage]) -> None:
    """Print blocks for the stored sessions: a row per year for one series, a row each for several."""
    from backtest.store.audit.coverage import NAMES, STATES

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
    from backtest.store.audit.coverage import strips

    names = [one.series for one in coverages]
    wide = min(max(map(len, names)), 40)
    head, rows = strips(coverages, max(width() - wide - 1, 20))
    yield f"{'':{wide}} {head}"
    for name, row in zip(names, rows, strict=True):
        yield f"{name[:wide]:{wide}} {''.join(_BLOCKS[state] for state in row)}".rstrip()


def _give_blocks(line: str) -> None:
    """Print a line, in colour on a terminal, so that missing sessions stand out."""
    from rich.console import Console
    from rich.text import Text

    text = Text(harmless(line), no_wrap=True)
    for block, style in (("█", "blue"), ("▒", "yellow"), ("×", "bold red"), ("·", "dim")):
        text.highlight_words([block], style)
    Console(width=width(), highlight=False).print(text, crop=False)


def give_pins(reports: list[PinReport], lock: str, as_json: bool) -> None:
    """Print the pins, and the months in which the stored bars differ."""
    if as_json:
        give_json({"lock": lock, "series": {str(report.series): report.to_dict() for report in reports}})
        return
    for report in reports:
        status = "unchanged" if report.status == "held" else report.status
        give(f"{report.series.short}: {status}, {_pinned(report.pin)}")
        for change in report.changes:
            give(f"  {change}")


def _pinned(pin: Pin) -> str:
    return f"{pin.rows:,} bars, {pin.first:%Y-%m-%d} to {pin.last:%Y-%m-%d}, digest {pin.digest[:12]}"
