"""The command line: one function a command, listed in `COMMANDS`; it parses, and decides nothing."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backtest.errors import BacktestError, DataError, UsageError
from backtest.terminal import (
    give,
    give_baselines,
    give_comparison,
    give_download,
    give_findings,
    give_json,
    give_kept,
    give_kept_run,
    give_listing,
    give_more,
    give_pins,
    give_plan,
    give_reproduced,
    give_runs,
    give_saved,
    give_sweep,
    give_validity,
    give_verdicts,
    give_verdicts_json,
    progress,
    say,
    start_logging,
    sweeping,
    watched,
)
from backtest.words import (
    date_of,
    factors_of,
    group_counts_of,
    lengths_of,
    one_series_of,
    series_of,
    settings_of,
)

if TYPE_CHECKING:
    import threading

STORE = "data/bars"
RUNS = "runs"
WIDTH = 80

StoreOption = Annotated[
    str, typer.Option("--store", envvar="BACKTEST_STORE", help="Folder of the store; to read, also s3://BUCKET/PREFIX.")
]
SourceOption = Annotated[
    str,
    typer.Option(
        "--source", envvar="BACKTEST_SOURCE", help="ib://HOST:PORT[?client_id=N], gateway:FOLDER, or csv:FOLDER."
    ),
]
SinceOption = Annotated[str, typer.Option("--since", help="First session, YYYY-MM-DD.")]
UntilOption = Annotated[str, typer.Option("--until", help="Last session, YYYY-MM-DD, included.")]
CashOption = Annotated[float, typer.Option("--cash", help="Money at the start.")]
CostsOption = Annotated[
    str,
    typer.Option(
        "--costs",
        help="ib-fixed, ib-fixed-fees, ib-tiered, ib-forex, none, bp:RATE, or futures:FEE:MULTIPLIER:MARGIN.",
    ),
]
SlippageOption = Annotated[str, typer.Option("--slippage", help="5bp, 0.01 (money a share), impact:0.1, or spread.")]
VolumeCapOption = Annotated[
    float, typer.Option("--volume-cap", help="Most of a bar's volume that is traded; 0.1 is a tenth.")
]
FillsOption = Annotated[str, typer.Option("--fills", help="next-bar; or this-close, which nobody gets.")]
BorrowOption = Annotated[
    str, typer.Option("--borrow", help="Fee a year of short shares: 0.01,GME/1day=0.3,GME/1day@DATE=0.8.")
]
CashRateOption = Annotated[float, typer.Option("--cash-rate", help="Interest a year on idle cash; 0.02 is 2 %.")]
AlignOption = Annotated[
    str, typer.Option("--align", help="Of several series: as-is, strict, intersection, forward-fill.")
]
SizeOption = Annotated[
    str, typer.Option("--size", help="shares:100, percent:95, volatility:0.10 or kelly:0.5, and :CAP.")
]
BenchmarkOption = Annotated[str, typer.Option("--benchmark", help="A series to compare with.")]
RiskFreeOption = Annotated[float, typer.Option("--risk-free", help="Return of cash a year; 0.02 is 2 %.")]
LockOption = Annotated[str, typer.Option("--lock", help="The file of pins, to be committed.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else there.")]


class RunsAction(StrEnum):
    """What `runs` does."""

    ls = "ls"
    show = "show"
    rm = "rm"


def demo(
    out: Annotated[str, typer.Option(help="Folder of the pages.")] = "runs/demo",
    store: Annotated[str, typer.Option(help="Folder of the demo's own store.")] = "runs/demo/store",
) -> None:
    """
    Show the whole job on real prices: emulator, ib_insync, Parquet, Backtrader, report.

    Starts the emulator on the sample, downloads four stocks from it through a TCP socket, runs two strategies on
    each and writes a page per run. Needs no account and no network.
    """
    from backtest.demo import run_demo

    shown = run_demo(Path(out), store, tell=say)
    give_runs(shown.results)
    say(f"Pages: {shown.pages[0].parent.parent}/*/index.html, the first one: {shown.pages[0]}")


def download(
    series: Annotated[list[str], typer.Argument(help="Series such as AAPL/1day, or @FILE with one a line.")],
    since: SinceOption,
    until: UntilOption = "",
    source: SourceOption = "ib://127.0.0.1:7497",
    store: StoreOption = STORE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be asked for.")] = False,
    recheck: Annotated[bool, typer.Option("--recheck", help="Ask again for what the vendor said it lacks.")] = False,
    accept_revision: Annotated[
        bool, typer.Option("--accept-revision", help="Take new values of bars that had settled; the old are archived.")
    ] = False,
    as_json: JsonOption = False,
    log_format: Annotated[str, typer.Option(help="text or json: how log records look on stderr.")] = "text",
) -> None:
    """
    Fill the gaps of series in the store. Safe to stop; run it again to go on.

    Example: backtest download AAPL/1day EUR-CASH/1hour --since 2020-01-02 --source ib://127.0.0.1:4002
    """
    from backtest.downloader import download as fill
    from backtest.downloader import plan_download
    from backtest.remote import open_folder
    from backtest.sources import connect

    start_logging(log_format)
    wanted, target = series_of(series), open_folder(store)
    first, last = date_of(since, "--since"), date_of(until, "--until") or datetime.now(UTC).date()
    if first is None:
        raise UsageError("--since names no date; write YYYY-MM-DD")
    with connect(source, state=_state()) as opened, progress(len(wanted), lambda: opened.waiting_for) as tell:
        if dry_run:
            give_plan(plan_download(target, opened, wanted, (first, last)), as_json)
            return
        report = fill(
            target, opened, wanted, (first, last), tell=tell, recheck=recheck, accept_revision=accept_revision
        )
    give_download(report, as_json)
    if report.ended_by:
        say(f"error: {report.ended_by}")
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def ls(
    series: Annotated[list[str] | None, typer.Argument(help="Series to list; all if none is named.")] = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """
    List the series of a store: span, bars, sessions answered for and missing, size on disk, last update.

    Example: backtest ls --store data/sample
    """
    from backtest.listing import list_series
    from backtest.remote import open_store

    entries = list_series(open_store(store), series_of(series or []))
    if entries or as_json:
        give_listing(entries, as_json, store)
    if not entries:
        say(f"{store} is empty; fill it with: backtest download AAPL/1day --since 2020-01-02")
    if any(one.problem for one in entries):
        raise typer.Exit(DataError.exit_code)


def verify(
    series: Annotated[list[str] | None, typer.Argument(help="Series to verify; all if none is named.")] = None,
    store: StoreOption = STORE,
    repair: Annotated[bool, typer.Option("--repair", help="Put right what needs no source; nothing is lost.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings fail, too.")] = False,
    png: Annotated[str, typer.Option(help="File for a picture of what is stored.")] = "",
    as_json: JsonOption = False,
) -> None:
    """
    Check that a store is what was written and has all its bars: every file, every bar.

    Exit code 0: all is well. 1: bars are missing, in conflict, or would be refused. 3: files are damaged or lost.

    Example: backtest verify AAPL/1day --store data/sample
    """
    from backtest.repairs import repair as put_right
    from backtest.verification import verify as check

    wanted = series_of(series or [])
    verdicts = watched(check(store, wanted))
    repairs = list(put_right(store, verdicts)) if repair else []
    if repairs:
        verdicts = watched(check(store, wanted))
    if as_json:
        give_verdicts_json(verdicts, repairs, store, strict)
    else:
        give_verdicts(verdicts, repairs, store)
    if png:
        from backtest.coverage import draw_coverage

        draw_coverage([one.coverage for one in verdicts if one.coverage], png)
        say(f"Drawn: {png}")
    if code := max(one.exit_code(strict) for one in verdicts):
        raise typer.Exit(code)


def import_(
    file: Annotated[str, typer.Argument(help="A CSV or Parquet file with a bar a row.")],
    series: Annotated[str, typer.Argument(help="The series of its bars, such as AAPL/1day.")],
    store: StoreOption = STORE,
    tz: Annotated[str, typer.Option(help="Zone of times without one: IANA name, or exchange.")] = "",
    as_json: JsonOption = False,
) -> None:
    """
    Read bars from a CSV or Parquet file into the store; says which column it takes for what.

    Bars that are stored already must be the same in the file, and all must pass the checks of a download; otherwise
    nothing is written.

    Example: backtest import aapl.csv AAPL/1min --tz America/New_York
    """
    from backtest.quality import check_answer
    from backtest.remote import open_folder
    from backtest.sources.files import bars_of, span_of

    one, target = one_series_of(series), open_folder(store)
    bars, mapping = bars_of(file, one, tz or None)
    check_answer(bars, one)
    say(f"{file}: " + ", ".join(f"{theirs or '(no name)'} = {ours or '–'}" for theirs, ours in mapping.items()))
    span = span_of(bars, one)
    added = target.write(one, span, bars, source="csv")
    first, last = (bars["time"][n].as_py().isoformat() for n in (0, -1))
    if as_json:
        counts = {"bars_added": added, "bars": len(bars), "from": first, "to": last}
        give_json({"series": {str(one): counts | {"mapping": mapping}}})
        return
    give(f"{one.short}: {added:,} new of {len(bars):,} bars, {first[:10]} to {last[:10]}")


def export(
    series: Annotated[str, typer.Argument(help="A series of the store, such as AAPL/1day.")],
    file: Annotated[str, typer.Argument(help="Where to: a file that ends in .csv or .parquet.")],
    store: StoreOption = STORE,
    since: SinceOption = "",
    until: UntilOption = "",
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """
    Write the bars of a series to a CSV or Parquet file; times are UTC.

    Example: backtest export AAPL/1day aapl.csv --store data/sample
    """
    from backtest.calendars import span_of_sessions
    from backtest.remote import open_store
    from backtest.sources.files import write_file

    one = one_series_of(series)
    first, last = date_of(since, "--since"), date_of(until, "--until")
    span = span_of_sessions(one, first or date(1900, 1, 1), last or date(2100, 1, 1)) if first or last else None
    bars = open_store(store).read(one, span)
    write_file(bars, file, one, overwrite=force)
    give(f"{one.short}: {len(bars):,} bars to {file}")


def pin(
    series: Annotated[list[str] | None, typer.Argument(help="Series to pin; all of the store if none.")] = None,
    lock: LockOption = "data.lock",
    check: Annotated[bool, typer.Option("--check", help="Only say whether the pins hold; exit code 1 if not.")] = False,
    update: Annotated[bool, typer.Option("--update", help="Say what changed, and pin what is stored now.")] = False,
    since: SinceOption = "",
    until: UntilOption = "",
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """
    Pin stored bars in a file to commit, so that a test or a run can refuse any others.

    A pin holds for the bars it was made of: later ones do not count, a changed value does. Exit code 1 if one is
    broken.

    Example: backtest pin AAPL/1day --store data/sample --lock data.lock
    """
    from backtest import pins
    from backtest.remote import open_store

    target, named, dates = (
        open_store(store),
        series_of(series or []),
        (date_of(since, "--since"), date_of(until, "--until")),
    )
    if check and update:
        raise UsageError("--check changes nothing and --update does; give one of them")
    if check:
        reports = pins.examine(target, lock, named)
    elif update:
        reports = pins.update(target, lock, named, dates)
    else:
        reports = pins.add(target, lock, named or target.series(), dates)
    give_pins(reports, lock, as_json)
    if any(report.status == "broken" for report in reports):
        say(f"error: bars are not those pinned in {lock}; accept what is stored: backtest pin --update --lock {lock}")
        raise typer.Exit(1)


def prune(
    series: Annotated[list[str], typer.Argument(help="Series such as AAPL/1day, or @FILE with one a line.")],
    keep: Annotated[int, typer.Option(min=0, help="How many of the newest revisions stay.")] = 0,
    quarantine: Annotated[bool, typer.Option(help="Throw away answers that were put aside, too.")] = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """
    Give up what bars were before they were revised; the bars stay as they are.

    Example: backtest prune AAPL/1day --keep 2
    """
    from backtest.remote import open_folder

    opened, freed = open_folder(store), {}
    for one in series_of(series):
        freed[str(one)] = opened.prune(one, keep) + (opened.discard_aside(one) if quarantine else 0)
        if not as_json:
            give(f"{one.short}: {freed[str(one)]:,} bytes freed, {len(opened.revisions(one)):,} revisions kept")
    if as_json:
        give_json({"series": {key: {"bytes_freed": size} for key, size in freed.items()}})


def publish(
    url: Annotated[str, typer.Argument(help="s3://BUCKET/PREFIX, or file:///FOLDER.")],
    series: Annotated[list[str] | None, typer.Argument(help="Series to publish; all of the store if none.")] = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """
    Bring a store to a bucket or a folder for others to read; only what is not there is sent.

    Credentials are taken from the environment. What somebody else published and this store lacks is never undone.

    Example: backtest publish s3://bucket/bars --store data/sample
    """
    from backtest.publishing import publish as send
    from backtest.remote import open_folder

    done = send(open_folder(store), url, series_of(series or []), tell=lambda one: None if as_json else give(str(one)))
    if as_json:
        give_json({"bytes": sum(one.bytes for one in done), "series": {str(one.series): one.to_dict() for one in done}})
        return
    say(f"{sum(one.bytes for one in done):,} bytes sent; read it with: --store {url.partition('?')[0]}")


def doctor(
    source: SourceOption = "ib://127.0.0.1:7497",
    store: StoreOption = STORE,
    series: Annotated[str, typer.Option(help="Ask the source for a few bars of it: may you have them?")] = "",
    as_json: JsonOption = False,
) -> None:
    """
    Say whether everything is in place, and what to do where it is not; exit code 1 if there is a problem.

    Example: backtest doctor --source ib://127.0.0.1:4002 --series AAPL/1day
    """
    from backtest.doctor import examine

    findings = examine(source, store, one_series_of(series) if series else None)
    problems = sum(finding.state == "problem" for finding in findings)
    if as_json:
        give_json({"problems": problems, "findings": [asdict(finding) for finding in findings]})
    else:
        give_findings(findings)
    if problems:
        raise typer.Exit(1)


def run(
    strategy: Annotated[str, typer.Argument(help="file.py:Name, or the name of a strategy that comes along.")],
    series: Annotated[list[str], typer.Argument(help="One series or several, such as AAPL/1day.")],
    settings: Annotated[list[str] | None, typer.Option("--set", help="A parameter: fast=10. Repeatable.")] = None,
    since: SinceOption = "",
    until: UntilOption = "",
    cash: CashOption = 100_000.0,
    costs: CostsOption = "ib-fixed",
    slippage: SlippageOption = "",
    volume_cap: VolumeCapOption = 0.0,
    fills: FillsOption = "next-bar",
    borrow: BorrowOption = "",
    cash_rate: CashRateOption = 0.0,
    align: AlignOption = "as-is",
    size: SizeOption = "",
    benchmark: BenchmarkOption = "",
    risk_free: RiskFreeOption = 0.0,
    pin: Annotated[str, typer.Option("--pin", help="A file of pins: refuse other bars than those.")] = "",
    store: StoreOption = STORE,
    out: Annotated[str, typer.Option(help="Folder of the run; runs/NAME if not given.")] = "",
    as_json: JsonOption = False,
) -> None:
    """
    Run a strategy over stored bars, print its numbers and keep the run.

    Example: backtest run strategies/sma_cross.py AAPL/1day --set fast=20 --set slow=50 --store data/sample
    """
    from backtest.engine import run as simulate

    result = simulate(
        strategy,
        series_of(series),
        store=store,
        span=(date_of(since, "--since"), date_of(until, "--until")),
        params=settings_of(settings or []),
        cash=cash,
        costs=costs,
        benchmark=benchmark,
        risk_free=risk_free,
        pins=pin,
        align=align,
        size=size,
        slippage=slippage,
        volume_cap=volume_cap,
        fills=fills,
        borrow=borrow,
        cash_rate=cash_rate,
    )
    folder = result.save(out or Path(RUNS) / result.run)
    give_kept_run(result, folder, as_json)
    if not as_json:
        say(f"Kept in {folder}; its page: backtest report {folder}")


def sweep(
    strategy: Annotated[str, typer.Argument(help="file.py:Name, or the name of a strategy that comes along.")],
    series: Annotated[list[str], typer.Argument(help="One series or several, such as AAPL/1day.")],
    grid: Annotated[list[str], typer.Option("--grid", help="fast=5:20:5 or kind=a,b. Repeatable.")],
    where: Annotated[list[str] | None, typer.Option("--where", help="Only where fast<slow. Repeatable.")] = None,
    random: Annotated[int, typer.Option(min=0, help="Draw so many points of the grid; 0: all.")] = 0,
    optuna: Annotated[int, typer.Option(min=0, help="Let Optuna propose so many, by what it learns.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the draw, or of the proposals.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    dask: Annotated[str, typer.Option(help="A Dask cluster in their place: tcp://HOST:PORT.")] = "",
    rank: Annotated[str, typer.Option(help="The best has the highest of this metric.")] = "sharpe",
    settings: Annotated[list[str] | None, typer.Option("--set", help="A parameter that stays: invest=0.5.")] = None,
    since: SinceOption = "",
    until: UntilOption = "",
    cash: CashOption = 100_000.0,
    costs: CostsOption = "ib-fixed",
    slippage: SlippageOption = "",
    volume_cap: VolumeCapOption = 0.0,
    fills: FillsOption = "next-bar",
    borrow: BorrowOption = "",
    cash_rate: CashRateOption = 0.0,
    align: AlignOption = "as-is",
    size: SizeOption = "",
    benchmark: BenchmarkOption = "",
    risk_free: RiskFreeOption = 0.0,
    store: StoreOption = STORE,
    out: Annotated[str, typer.Option(help="Folder of the trials; runs/NAME-sweep if not given.")] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the sweep in --out, and with no other.")] = False,
    as_json: JsonOption = False,
) -> None:
    """
    Run a strategy with each point of a grid, keep every trial, and say how far the best one can be believed.

    Trials that the folder has are not made again, so that a sweep can be stopped and run again. All that it ever got
    count when the best is judged.

    Example: backtest sweep sma_cross AAPL/1day --grid fast=5:20:5 --grid slow=20:60:10 --jobs 2 --store data/sample
    """
    from contextlib import nullcontext

    from backtest.grid import condition_of, grid_of
    from backtest.sweeps import sweep as search
    from backtest.workers import dask_executor

    try:
        with dask_executor(dask) if dask else nullcontext() as executor, sweeping() as tell:
            found = search(
                strategy,
                series_of(series),
                grid_of(grid),
                store=store,
                executor=executor,
                jobs=jobs,
                where=condition_of(where or []),
                random=random,
                optuna=optuna,
                seed=seed,
                rank=rank,
                folder=out,
                resume=resume,
                span=(date_of(since, "--since"), date_of(until, "--until")),
                params=settings_of(settings or []),
                tell=tell,
                cash=cash,
                costs=costs,
                benchmark=benchmark,
                risk_free=risk_free,
                align=align,
                size=size,
                slippage=slippage,
                volume_cap=volume_cap,
                fills=fills,
                borrow=borrow,
                cash_rate=cash_rate,
            )
    except KeyboardInterrupt:
        say("Stopped; what was done is kept. To go on, give the same command again.")
        raise
    give_sweep(found, as_json)
    if not as_json:
        picture = found.folder / "heatmap.png"
        found.plot().savefig(picture)
        say(f"Kept in {found.folder}; its picture: {picture}; more: backtest validate {found.folder}")


def report(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a kept run, or its name in runs/.")],
    out: Annotated[str, typer.Option(help="Folder of the page; the run's own if not given.")] = "",
    png: Annotated[str, typer.Option(help="Folder for the figures as PNG files too.")] = "",
    pdf: Annotated[str, typer.Option(help="File for numbers and figures as a PDF too.")] = "",
    as_json: JsonOption = False,
) -> None:
    """
    Write the page of a kept run: verdict, numbers, pictures, trades, definitions, manifest.

    Example: backtest report SmaCross-AAPL-1day-84e4132266 --pdf sma.pdf
    """
    from backtest.report import write_figures, write_report
    from backtest.result import RunResult
    from backtest.runs import locate

    folder = locate(RUNS, run_name)
    result = RunResult.load(folder)
    paths = [write_report(result, Path(out) if out else folder), *write_figures(result, png, pdf)]
    if as_json:
        give_kept_run(result, folder, as_json, paths)
        return
    for path in paths:
        give(str(path))


def compare(
    run_names: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders of kept runs, or their names.")],
    bootstrap: Annotated[int, typer.Option(min=10, help="Samples of the bootstrap.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    out: Annotated[str, typer.Option(help="Folder for a page of it too.")] = "",
    as_json: JsonOption = False,
) -> None:
    """
    Put kept runs side by side, and say whether the Sharpe ratio of each differs from that of the first.

    They are measured on the sessions that all of them have.

    Example: backtest compare SmaCross-AAPL BuyAndHold-AAPL
    """
    from backtest.comparison import compare as put_side_by_side
    from backtest.report import write_comparison
    from backtest.result import RunResult
    from backtest.runs import locate

    found = put_side_by_side([RunResult.load(locate(RUNS, name)) for name in run_names], bootstrap, seed)
    give_comparison(found, as_json)
    if out:
        say(f"Its page: {write_comparison(found, out)}")


def validate(
    run_name: Annotated[
        str, typer.Argument(metavar="RUN", help="Folder of a kept run or a sweep, or its name in runs/.")
    ],
    bootstrap: Annotated[int, typer.Option(min=10, help="Samples of the bootstrap, and of the trades.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    costs: Annotated[str, typer.Option(help="Multiples of the costs paid.")] = "0,1,2",
    lookahead: Annotated[
        bool, typer.Option("--lookahead", help="Run it again on other futures, from --store.")
    ] = False,
    regimes: Annotated[bool, typer.Option("--regimes", help="Slice it by rising, falling, calm, rough.")] = False,
    walk_forward: Annotated[
        str, typer.Option("--walk-forward", metavar="TRAIN/TEST", help="Sessions, or 3y/6m: choose, then test.")
    ] = "",
    anchored: Annotated[bool, typer.Option("--anchored", help="Learn from all before the test.")] = False,
    cpcv: Annotated[
        str, typer.Option("--cpcv", metavar="N,K", help="Cross-validate: N groups of sessions, K of them tested.")
    ] = "",
    purge: Annotated[int, typer.Option(min=0, help="Sessions left out beside a test.")] = 0,
    embargo: Annotated[int, typer.Option(min=0, help="More of them after a test of --cpcv.")] = 0,
    grid: Annotated[
        list[str] | None, typer.Option("--grid", help="To choose from, if not from what a sweep tried.")
    ] = None,
    where: Annotated[list[str] | None, typer.Option("--where", help="Only where fast<slow.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """
    Say whether a kept run, or the best of a sweep, is skill or luck: a verdict, intervals, other orders, other costs.

    All trials that the folder of a sweep ever got count against its best one. --walk-forward and --cpcv run the
    strategy again, on parts of the bars. Ends with 1 where --lookahead finds a decision that changes with bars after
    it. These three need the strategy's file where the run found it, and the bars.

    Example: backtest validate SmaCross-AAPL --bootstrap 2000 --lookahead --store data/sample
    """
    from backtest.grid import condition_of, grid_of
    from backtest.lookahead import look_ahead_of
    from backtest.regime import regimes as slices
    from backtest.result import RunResult
    from backtest.runs import locate
    from backtest.sweeps import sweep_of
    from backtest.unseen import cross_validate_again, walk_forward_again
    from backtest.validity import validate as examine_run

    steps, groups, factors = lengths_of(walk_forward), group_counts_of(cpcv), factors_of(costs)
    folder = locate(RUNS, run_name)
    tried = sweep_of(folder)
    result = tried.best_run if tried else RunResult.load(folder)
    again: dict[str, Any] = {
        "store": store, "folder": tried.folder if tried else folder, "jobs": jobs, "purge": purge,
        "grid": grid_of(grid or []), "where": condition_of(where or []),
    }  # fmt: skip
    leaks = look_ahead_of(result.spec, store) if lookahead else []
    ratios = tried.ratios.tolist() if tried else []
    found = examine_run(result, samples=bootstrap, seed=seed, factors=factors, trials=ratios, looks_ahead=leaks)
    with sweeping() as tell:
        more = {
            "sweep": tried,
            "regimes": slices(result) if regimes else None,
            "walk_forward": walk_forward_again(tried or result, *steps, anchored=anchored, tell=tell, **again)
            if steps
            else None,
            "cpcv": cross_validate_again(tried or result, *groups, embargo=embargo, tell=tell, **again)
            if groups
            else None,
        }
    if as_json:
        give_json({"run": result.run, **found.to_dict(), **{name: one.to_dict() for name, one in more.items() if one}})
    else:
        give_validity(result, found)
        give_more(more)
    if leaks:
        raise typer.Exit(1)


def runs(
    action: Annotated[RunsAction, typer.Argument(help="ls: list; show: a run's numbers; rm: remove it.")],
    names: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Names, or their beginnings.")] = None,
    as_json: JsonOption = False,
) -> None:
    """
    List the kept runs, show the numbers of some again, or remove some.

    Example: backtest runs show SmaCross-AAPL
    """
    from backtest.result import RunResult
    from backtest.runs import kept, locate, remove

    if action is RunsAction.ls:
        give_kept(kept(RUNS), as_json)
        return
    if not names:
        raise UsageError(f"no run to {action.value}; name one, see: backtest runs ls")
    if as_json and len(names) > 1:
        raise UsageError(f"--json gives one document, and {len(names)} runs are named; name one")
    for folder in [locate(RUNS, name) for name in names]:
        if action is RunsAction.rm:
            remove(folder)
            say(f"Removed {folder}")
        else:
            give_kept_run(RunResult.load(folder), folder, as_json)


class BaselineAction(StrEnum):
    """What `baseline` does."""

    save = "save"
    check = "check"
    diff = "diff"
    accept = "accept"


def baseline(
    action: Annotated[
        BaselineAction,
        typer.Argument(help="save: of kept runs; check: run again; diff: say all that moved; accept: take it."),
    ],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Runs to save, or baselines; all if none is named.")
    ] = None,
    folder: Annotated[str, typer.Option(help="Folder of the baselines, to be committed.")] = "strategies/baselines",
    name: Annotated[
        str, typer.Option("--name", help="What a saved baseline is called; as the strategy if not given.")
    ] = "",
    markdown: Annotated[str, typer.Option("--markdown", help="File for a summary, such as of a pull request.")] = "",
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """
    Hold strategies to what they did: say what moved, from which order and date on, and why. Exit code 1 if one moved.

    Example: backtest baseline check sma_cross --store data/sample --markdown summary.md
    """
    from backtest.regression import accept_kept, check_kept, save_runs
    from backtest.regression import markdown as summary
    from backtest.remote import open_store
    from backtest.result import RunResult
    from backtest.runs import locate

    target = open_store(store)
    if action is BaselineAction.save:
        if not names:
            raise UsageError("no run to save; name one, see: backtest runs ls")
        paths = save_runs([RunResult.load(locate(RUNS, one)) for one in names], folder, target, name)
        give_saved(paths, as_json)
        return
    judgements = (accept_kept if action is BaselineAction.accept else check_kept)(names or [], folder, target)
    give_baselines(judgements, action is BaselineAction.diff, as_json)
    if markdown:
        Path(markdown).write_text(summary(judgements), encoding="utf-8")
    if not all(judgement.fine for judgement in judgements):
        say("error: results moved; if that is meant, accept them: backtest baseline accept")
        raise typer.Exit(1)


def reproduce(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a kept run, or its name in runs/.")],
    strategy: Annotated[str, typer.Option(help="file.py:Name, where it is not where the run found it.")] = "",
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """
    Run a kept run again and say whether the result is equal, and if not, from which date on and why.

    Exit code 0: equal. 1: not, or the run fails now.

    Example: backtest reproduce SmaCross-AAPL --store data/sample
    """
    from backtest.regression import reproduce as run_again
    from backtest.remote import open_store
    from backtest.result import RunResult
    from backtest.runs import locate

    result = RunResult.load(locate(RUNS, run_name))
    judgement = run_again(result, result.run, open_store(store), strategy)
    give_reproduced(judgement, as_json)
    if not judgement.fine:
        raise typer.Exit(1)


def gateway(
    store: StoreOption = STORE,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 for any free one.")] = 4002,
    pacing: Annotated[str, typer.Option(help="strict: IB's limits; off: none.")] = "strict",
    time_scale: Annotated[float, typer.Option(help="Pacing windows pass this many times faster.")] = 1.0,
    faults: Annotated[str, typer.Option(help="JSON file of scripted faults.")] = "",
    log: Annotated[str, typer.Option(help="File for a JSON line a request.")] = "",
) -> None:
    """
    Serve a store as a TWS or IB Gateway would, to any TWS client on this machine.

    Example: backtest gateway --store data/sample --port 4002
    """
    from backtest.remote import open_folder
    from backtest.sources.gateway import Gateway
    from backtest.sources.gateway.faults import Faults

    served_store, stopped = open_folder(store), _signalled()
    with (
        Path(log or os.devnull).open("a") as lines,
        Gateway(
            served_store,
            port=port,
            pacing=pacing,
            time_scale=time_scale,
            faults=Faults.load(faults) if faults else None,
            log=lines,
        ) as served,
    ):
        give(f"listening on 127.0.0.1:{served.port}")
        if not served_store.series():
            say(f"{store} holds no bars, so every request will be answered with error 200; fill it, or use --store")
        stopped.wait()


COMMANDS = (
    demo,
    doctor,
    download,
    import_,
    export,
    ls,
    verify,
    prune,
    pin,
    publish,
    run,
    sweep,
    runs,
    report,
    compare,
    validate,
    baseline,
    reproduce,
    gateway,
)

app = typer.Typer(
    help="Backtest on Interactive Brokers' historical bars: download, store, replay, measure, report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
)
for _command in COMMANDS:
    app.command(_command.__name__.rstrip("_"))(_command)


def main(words: list[str] | None = None) -> None:
    """Run the command line, of this process if no words are given; a known error is one sentence and an exit code."""
    try:
        app(words, prog_name="backtest")
    except BacktestError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone: nobody to tell
        sys.exit(0)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}; choose another place or make room, then run this again", 1)


def _fail(text: str, code: int) -> None:
    say(f"error: {text}")
    sys.exit(code)


def _state() -> Path:
    """Return the folder in which request budgets and learnt limits outlive a command."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ib-backtest"


def _signalled() -> threading.Event:
    """Return an event that SIGINT or SIGTERM sets from now on, instead of ending the process."""
    import signal
    import threading

    event = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: event.set())
    return event


if __name__ == "__main__":
    main()
