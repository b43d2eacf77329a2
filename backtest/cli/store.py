"""Commands about stored bars: download, import, export, list, verify, pin and publish them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backtest.cli.hook import check_command, command_of, run_command
from backtest.cli.options import (
    STORE,
    AnySeriesArgument,
    JsonOption,
    ListedSeriesArgument,
    LockOption,
    SinceOption,
    SourceOption,
    StoreOption,
    UntilOption,
    WrittenStoreOption,
    state_folder,
    stored_series,
)
from backtest.cli.parse import date_of, one_series_of, parse_series
from backtest.cli.progress import progress, start_logging, watched
from backtest.cli.store_tables import (
    give_download,
    give_intake,
    give_listing,
    give_pins,
    give_plan,
    give_verdicts,
    give_verdicts_json,
)
from backtest.cli.terminal import failure_of, give, give_json, say, stopped_by_term
from backtest.errors import BacktestError, DataError, NoBars, UsageError

if TYPE_CHECKING:
    from backtest.downloads.report import Progress
    from backtest.market.series import Series
    from backtest.sources.files.reading import FileOptions
    from backtest.sources.files.table import Table
    from backtest.store.store import Store


def download(
    context: typer.Context,
    series: ListedSeriesArgument,
    since: Annotated[
        str, typer.Option("--since", help="First session, YYYY-MM-DD, or 'head': the earliest bar available.")
    ],
    until: UntilOption = "",
    source: SourceOption = "ib://127.0.0.1:7497",
    store: WrittenStoreOption = STORE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the requests without sending them.")] = False,
    recheck: Annotated[
        bool, typer.Option("--recheck", help="Request again the spans that the vendor reported as empty.")
    ] = False,
    accept_revision: Annotated[
        bool,
        typer.Option(
            "--accept-revision", help="Accept changed prices of stored, final bars; the old bars are archived."
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only errors and the summary line.")] = False,
    on_problem: Annotated[
        str,
        typer.Option(
            metavar="COMMAND", help="Run COMMAND at the end if the exit code is not 0; it gets a JSON report on stdin."
        ),
    ] = "",
    as_json: JsonOption = False,
    log_format: Annotated[str, typer.Option(help="Format of log records on stderr: text or json.")] = "text",
) -> None:
    """
    Download the bars that the store lacks. Safe to interrupt; run it again to resume.

    Example: backtest download AAPL/1day EUR-CASH/1hour --since 2020-01-02 --source ib://127.0.0.1:4002
    """
    from backtest.downloads.downloader import HEAD, plan_download
    from backtest.downloads.downloader import download as fill
    from backtest.sources.connect import connect
    from backtest.store.store import open_folder

    command = command_of(on_problem)
    with _attended(command, as_json):
        start_logging(log_format)
        check_command(command)
        wanted, target = parse_series(series), open_folder(store, context.obj)
        first = HEAD if since.lower() == HEAD else date_of(since, "--since")
        last = date_of(until, "--until") or context.obj().date()
        if first is None:
            raise UsageError("--since is empty; write YYYY-MM-DD, or head")
        with (
            connect(source, state=state_folder(), clock=context.obj) as opened,
            nullcontext(_unseen) if quiet else progress(len(wanted), lambda: opened.waiting_for, context.obj) as tell,
        ):
            if dry_run:
                give_plan(plan_download(target, opened, wanted, start=first, end=last), as_json)
                return
            report = fill(
                target,
                opened,
                wanted,
                start=first,
                end=last,
                tell=tell,
                recheck=recheck,
                accept_revision=accept_revision,
            )
    give_download(report, as_json, quiet)
    if report.ended_by:
        say(f"error: {report.ended_by}")
    if report.exit_code:
        run_command(command, report.to_dict())
        raise typer.Exit(report.exit_code)


@contextmanager
def _attended(command: list[str], as_json: bool) -> Iterator[None]:
    """If the block fails, run the command of --on-problem and, with --json, print a document."""
    try:
        with stopped_by_term():
            yield
    except (Exception, KeyboardInterrupt) as error:
        text, code = failure_of(error)
        facts = {
            "series": {},
            "summary": {"text": f"the download ended early: {text}"},
            "error": text,
            "exit_code": code,
        }
        if as_json:
            give_json(facts)
        run_command(command, facts)
        raise


def _unseen(_: Progress) -> None:
    """Show nothing."""


def import_(
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE... [SERIES]",
            help="Files with one bar per row, folders or '*.csv'; then the series, such as AAPL/1day. In the series "
            "'*/1day', * stands for each symbol in the file or, if it has none, for the file's name.",
        ),
    ],
    store: WrittenStoreOption = STORE,
    tz: Annotated[
        str,
        typer.Option(help="Time zone of times that have none: an IANA name, or 'exchange' for the instrument's own."),
    ] = "",
    columns: Annotated[
        str,
        typer.Option(
            metavar="NAME,NAME",
            help="Meaning of each column, in order: time, open, high, low, close, volume, or - to skip it.",
        ),
    ] = "",
    symbol: Annotated[
        str, typer.Option(help="Symbol to import if the file has several; 'all' imports each as a separate series.")
    ] = "",
    adjusted: Annotated[
        bool,
        typer.Option(
            "--adjusted",
            help="Read the columns that the vendor adjusted for splits and dividends, such as 'Adj Close', instead of "
            "the raw ones.",
        ),
    ] = False,
    all_hours: Annotated[
        bool, typer.Option("--all-hours", help="Import bars outside regular hours too; the series then ends in /all.")
    ] = False,
    stamped: Annotated[
        str, typer.Option(metavar="open|close", help="Whether timestamps mark the open or the close of a bar.")
    ] = "",
    day_first: Annotated[
        bool | None,
        typer.Option("--day-first/--month-first", help="Read 03/04/2024 as 3 April; --month-first reads 4 March."),
    ] = None,
    decimal: Annotated[str, typer.Option(metavar="MARK", help="Decimal separator: . or ,")] = "",
    extra: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,NAME", help="Further numeric columns to import; strategies read them as lines of these names."
        ),
    ] = None,
    leave_out: Annotated[
        str,
        typer.Option(
            metavar="bad|outside", help="Skip bars with invalid prices (bad), or outside of sessions (outside)."
        ),
    ] = "",
    accept_split: Annotated[
        bool, typer.Option("--accept-split", help="Accept a price jump that looks like a split.")
    ] = False,
    revise: Annotated[
        bool,
        typer.Option(
            "--accept-revision", help="Where stored bars differ, take those of the file; the old bars are archived."
        ),
    ] = False,
    multiplier: Annotated[
        float, typer.Option(help="Contract multiplier of futures and options, such as 50.", show_default=False)
    ] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show how the file is read without storing it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """
    Import bars from CSV, Excel, JSON or Parquet files, and show which column was read as what.

    Bars that are already stored must match the file, and all bars must pass the checks of a download; otherwise
    nothing is written. New values in extra columns are stored with the existing bars. Without a series argument, the
    file name gives the series: AAPL_1day.csv, or AAPL.csv, whose bar size is the usual interval between its times.

    Example: backtest import aapl.csv AAPL/1min --tz America/New_York
    """
    from backtest.downloads.file_names import files_meant, names_series
    from backtest.market.extra import extra_names
    from backtest.sources.files.reading import FileOptions
    from backtest.store.store import open_folder

    series = words[-1] if len(words) > 1 and names_series(words[-1]) else ""
    if series and not series.startswith("*"):
        series = str(one_series_of(series))
    options = FileOptions(
        tz=tz,
        extra=extra_names(",".join(extra or [])),
        columns=tuple(columns.split(",")) if columns else (),
        adjusted=adjusted,
        symbol=symbol,
        stamped=stamped,
        day_first=day_first,
        decimal=decimal,
    )
    names = words[:-1] if series else words
    request = _Import(open_folder(store, context.obj), series, options, all_hours, set(leave_out.split(",")) - {""},
                      accept_split, revise, dry_run, multiplier)  # fmt: skip
    done: dict[str, dict[str, object]] = {}
    failed: list[tuple[str, BacktestError]] = []
    files = files_meant(names)
    for file in files:
        for key, facts in _imported(str(file), request, failed if len(files) > 1 else None):
            done[key] = facts
            if not as_json:
                give(str(facts["text"]))
    if as_json:
        shown = {key: {name: value for name, value in facts.items() if name != "text"} for key, facts in done.items()}
        give_json({"series": shown, **({"errors": {file: str(error) for file, error in failed}} if failed else {})})
    for _, error in failed:
        say(f"error: {error}")
    if failed:
        say(f"{len(failed):,} of {len(files):,} files were not stored")
        raise typer.Exit(failed[0][1].exit_code)


@dataclass(frozen=True, slots=True)
class _Import:
    """The options of an import, the same for every file."""

    store: Store
    series: str
    options: FileOptions
    all_hours: bool
    leave_out: set[str]
    accept_split: bool
    revise: bool
    dry_run: bool
    multiplier: float


def _imported(
    file: str, asked: _Import, failed: list[tuple[str, BacktestError]] | None
) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield what was stored of each series in a file; collect errors in `failed`, or raise them without it."""
    from backtest.downloads.file_names import series_in
    from backtest.sources.files.reading import read_table

    try:
        table = read_table(file)
        wanted = series_in(table, Path(file), asked.series, asked.options)
    except BacktestError as error:
        if failed is None:
            raise
        failed.append((file, error))
        return
    for series, options in wanted:
        one = replace(series, regular_hours=False) if asked.all_hours else series
        try:
            yield str(one), _import_series(table, one, options, asked)
        except BacktestError as error:
            if failed is None and len(wanted) == 1:
                raise
            if failed is None:
                raise type(error)(f"{one.short}: {error}") from error
            failed.append((file, error))


def _import_series(table: Table, series: Series, options: FileOptions, asked: _Import) -> dict[str, object]:
    """Show how a series was read, and store it unless the user only wants to see that."""
    from backtest.downloads.ingestion import contract_told, plan_intake, write_intake

    contract = contract_told(series, asked.store, asked.multiplier)
    intake = plan_intake(
        table,
        series,
        asked.store,
        options,
        leave_out=asked.leave_out,
        accept_revision=asked.revise,
        accept_split=asked.accept_split,
    )
    give_intake(intake)
    added = intake.new if asked.dry_run else write_intake(asked.store, intake, asked.revise, contract=contract)
    first, last = (intake.bars["time"][n].as_py().isoformat() for n in (0, -1))
    count, bars = ("would be new" if asked.dry_run else "new"), len(intake.bars)
    text = f"{series.short}: {bars:,} bar{'s' * (bars != 1)} ({added:,} {count}), {first[:10]} to {last[:10]}"
    return {
        "text": f"{text}; nothing is written" if asked.dry_run else text,
        "bars_added": 0 if asked.dry_run else added,
        "bars": bars,
        "from": first,
        "to": last,
        "left_out": intake.left_out,
        "understood": list(intake.how),
        "notes": list(intake.notes),
        "mapping": intake.mapping,
    }


def export(
    series: Annotated[
        str,
        typer.Argument(metavar="SERIES", help="Stored series, such as AAPL/1day.", autocompletion=stored_series),
    ],
    file: Annotated[str, typer.Argument(metavar="FILE", help="Output file, ending in .csv or .parquet.")],
    store: StoreOption = STORE,
    since: SinceOption = "",
    until: UntilOption = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """
    Export the bars of a series to a CSV or Parquet file. Times are in UTC.

    Example: backtest export AAPL/1day aapl.csv --store sample
    """
    from backtest.market.calendars import span_of_sessions
    from backtest.sources.files.export import write_bars
    from backtest.store.reader import hours_in
    from backtest.store.store import open_store

    one = one_series_of(series)
    first, last = date_of(since, "--since"), date_of(until, "--until")
    opened, dates = open_store(store), (first or date(1900, 1, 1), last or date(2100, 1, 1))
    bars = opened.read(one, span_of_sessions(one, hours_in(opened, one), *dates) if first or last else None)
    write_bars(bars, file, one, overwrite=force)
    give(f"{one.short}: {len(bars):,} bar{'s' * (len(bars) != 1)} exported to {file}")


def ls(
    series: AnySeriesArgument = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """
    List the series in a store: dates, bars, sessions (covered and missing), size on disk, last update.

    Example: backtest ls --store sample
    """
    from backtest.store.audit.listing import list_series
    from backtest.store.reader import nothing_in
    from backtest.store.store import open_store

    opened = open_store(store)
    entries = list_series(opened, parse_series(series or []))
    if entries or as_json:
        give_listing(entries, as_json, store)
    if not entries:
        say(nothing_in(opened))
    if any(one.problem for one in entries):
        raise typer.Exit(DataError.exit_code)


def verify(
    context: typer.Context,
    series: AnySeriesArgument = None,
    store: StoreOption = STORE,
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair what can be repaired without a source; no bar is lost.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Treat warnings as failures.")] = False,
    png: Annotated[str, typer.Option(help="Write a calendar of the stored bars to this .png, .svg or .pdf file.")] = "",
    as_json: JsonOption = False,
) -> None:
    """
    Verify a store: the checksum of every file, the validity of every bar, and that no session is missing.

    Exit code 0: no problems. 1: bars are missing, in conflict or invalid. 3: files are damaged or missing.

    Example: backtest verify AAPL/1day --store sample
    """
    from backtest.store.audit.repairs import repair as put_right
    from backtest.store.audit.verification import verify as check_store
    from backtest.store.reader import nothing_in
    from backtest.store.store import open_folder, open_local

    wanted = parse_series(series or [])
    if repair:
        open_folder(store)  # refuses a store that can only be read
    verdicts = watched(check_store(store, wanted))
    repairs = list(put_right(store, verdicts, context.obj)) if repair else []
    if repairs:
        verdicts = watched(check_store(store, wanted))
    if not any(one.series or one.findings for one in verdicts):
        raise NoBars(f"there is nothing to verify: {nothing_in(open_local(store))}")
    if as_json:
        give_verdicts_json(verdicts, repairs, store, strict)
    else:
        give_verdicts(verdicts, repairs, store)
    if png:
        from backtest.store.audit.coverage import draw_coverage

        draw_coverage([one.coverage for one in verdicts if one.coverage], png)
        say(f"Drawn: {png}")
    if code := max(one.exit_code(strict) for one in verdicts):
        raise typer.Exit(code)


def prune(
    series: ListedSeriesArgument,
    keep: Annotated[int, typer.Option(min=0, help="Number of latest revisions to keep.")] = 0,
    quarantine: Annotated[bool, typer.Option(help="Also delete quarantined responses.")] = False,
    store: WrittenStoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """
    Delete old revisions of bars; the current bars are kept.

    Example: backtest prune AAPL/1day --keep 2
    """
    from backtest.store.store import open_folder

    opened, freed = open_folder(store), {}
    for one in map(opened.named, parse_series(series)):
        freed[str(one)] = opened.prune(one, keep) + (opened.discard_aside(one) if quarantine else 0)
        if not as_json:
            give(f"{one.short}: {freed[str(one)]:,} bytes freed, {len(opened.revisions(one)):,} revisions kept")
    if as_json:
        give_json({"series": {key: {"bytes_freed": size} for key, size in freed.items()}})


def pin(
    series: AnySeriesArgument = None,
    lock: LockOption = "data.lock",
    check: Annotated[bool, typer.Option("--check", help="Only check the pins; exit code 1 if one is broken.")] = False,
    update: Annotated[
        bool,
        typer.Option(
            "--update",
            help="Show what changed and accept it; the pin keeps its dates unless --since or --until changes them.",
        ),
    ] = False,
    since: SinceOption = "",
    until: UntilOption = "",
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """
    Record digests of stored bars in a lock file for version control, so that a run or a test fails if they changed.

    A pin covers the bars that were stored when it was made: a changed value breaks it, later bars do not. Exit code 1
    if one is broken.

    Example: backtest pin AAPL/1day --store sample --lock data.lock
    """
    from backtest.store import pins
    from backtest.store.store import open_store

    target, named, dates = (
        open_store(store),
        parse_series(series or []),
        (date_of(since, "--since"), date_of(until, "--until")),
    )
    if check and update:
        raise UsageError("--check and --update cannot be combined; give one of them")
    if check and (since or until):
        raise UsageError("--check examines all dates of a pin; leave out --since and --until")
    if check:
        reports = pins.examine(target, lock, named)
    elif update:
        reports = pins.update(target, lock, named, dates)
    else:
        reports = pins.add(target, lock, named or target.series(), dates)
    give_pins(reports, lock, as_json)
    if (since or until) and not update:
        for report in reports:
            if report.status != "new":
                say(
                    f"note: {report.series.short}: the pin already exists, so --since and --until had no effect; add "
                    "--update to change its dates"
                )
    if any(report.status == "broken" for report in reports):
        say(
            f"error: stored bars differ from the pins in {lock}; accept the stored bars: backtest pin --update --lock "
            f"{lock}"
        )
        raise typer.Exit(1)


def publish(
    url: Annotated[str, typer.Argument(metavar="URL", help="s3://BUCKET/PREFIX, or file:///FOLDER.")],
    series: AnySeriesArgument = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """
    Publish a store to a bucket or a folder for others to read. Only new files are sent.

    Reads credentials from the environment. Never removes bars that somebody else published and this store lacks.

    Example: backtest publish s3://bucket/bars --store sample
    """
    from backtest.store.publishing import publish as send
    from backtest.store.store import open_local

    done = send(
        open_local(store), url, parse_series(series or []), tell=lambda one: None if as_json else give(str(one))
    )
    if as_json:
        give_json({"bytes": sum(one.bytes for one in done), "series": {str(one.series): one.to_dict() for one in done}})
        return
    say(f"{sum(one.bytes for one in done):,} bytes sent; read it with: --store {url.partition('?')[0]}")
