"""Commands about runs: make, list, report and compare them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Unpack

import typer

from backtest._system import wait_for
from backtest.cli.options import (
    RUNS,
    STORE,
    BenchmarkOption,
    CashOption,
    ForceOption,
    JsonOption,
    PeriodsOption,
    RiskFreeOption,
    SeriesArgument,
    SettingsOption,
    SinceOption,
    StoreOption,
    StrategyArgument,
    UntilOption,
    runs_here,
    takes_brokerage,
)
from backtest.cli.parse import date_of, factors_of, parse_series, settings_of
from backtest.cli.progress import sweeping
from backtest.cli.run_tables import (
    give_comparison,
    give_kept,
    give_kept_run,
    give_labels,
    give_series_runs,
)
from backtest.cli.terminal import give, give_json, say, signalled
from backtest.errors import BadStore, DataError, NoConnection, UsageError
from backtest.runs.spec import BrokerageOptions

if TYPE_CHECKING:
    from backtest.store.reader import Reader


@takes_brokerage
def run(
    context: typer.Context,
    strategy: StrategyArgument,
    series: SeriesArgument,
    settings: SettingsOption = None,
    since: SinceOption = "",
    until: UntilOption = "",
    cash: CashOption = 100_000.0,
    benchmark: BenchmarkOption = "",
    risk_free: RiskFreeOption = 0.0,
    periods: PeriodsOption = 0.0,
    pin: Annotated[str, typer.Option("--pin", help="Lock file with pins; refuse bars that do not match them.")] = "",
    warm_up: Annotated[
        str,
        typer.Option("--warm-up", metavar="auto|BARS", help="Bars before --since that only warm up the indicators."),
    ] = "",
    cost_cases: Annotated[
        str, typer.Option(metavar="0,1,2", help="Also run at these multiples of the costs, and save the results.")
    ] = "",
    no_lines: Annotated[bool, typer.Option("--no-lines", help="Do not save the indicator lines.")] = False,
    engine: Annotated[str, typer.Option(help="compiled or event. Default: the faster one.")] = "",
    store: StoreOption = STORE,
    each: Annotated[bool, typer.Option("--each", help="Run on each series separately, and print a table.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="With --each: number of processes.")] = 1,
    out: Annotated[str, typer.Option(help="Folder for the run; with --each, for all runs. Default: runs/NAME.")] = "",
    force: ForceOption = False,
    as_json: JsonOption = False,
    **brokerage: Unpack[BrokerageOptions],
) -> None:
    """
    Run a strategy on stored bars, print its metrics and save the run.

    With --each, the strategy runs on each series separately, and the command prints a row per series. Series that
    failed are listed at the end, and the exit code is that of the first failure.

    Example: backtest run sma_cross AAPL/1day --set fast=20 --set slow=50 --store sample
    """
    from backtest.api import run as simulate
    from backtest.research.each import run_each

    wanted = parse_series(series)
    asked: dict[str, Any] = {
        "store": store, "span": (date_of(since, "--since"), date_of(until, "--until")),
        "params": settings_of(settings or []), "cash": cash, "benchmark": benchmark, "risk_free": risk_free,
        "periods": periods, "pins": pin, "lines": not no_lines, "warm_up": warm_up, "engine": engine,
        **brokerage,
    }  # fmt: skip
    factors = factors_of(cost_cases) if cost_cases else []
    if each and factors:
        raise UsageError(
            "--cost-cases works on one run; leave it out, and use: backtest validate RUN --cost-cases 0,1,2"
        )
    if each:
        with sweeping(context.obj, "runs") as tell:
            found = run_each(strategy, wanted, folder=out, force=force, jobs=jobs, tell=tell, **asked)
        if found.made_by:
            say(found.made_by)
        give_series_runs(found, as_json)
        if found.failed:
            raise typer.Exit(found.failed[0].exit_code)
        return
    if jobs > 1:
        raise UsageError(f"--jobs {jobs} only works with --each; add --each, or leave it out")
    result = simulate(strategy, wanted, **asked)
    if result.made_by:
        say(result.made_by)
    if factors:
        from backtest.research.cost_cases import run_at_costs

        result = run_at_costs(result, factors, store=store, strategy=strategy, engine=engine)
    folder = Path(out) if out else Path(RUNS) / result.name
    result.save(folder, force=force)
    give_kept_run(result, folder, as_json)
    if not as_json:
        say(f"Saved to {folder}. HTML report: backtest report {folder}")


EXPORTS = "exports"  # the default folder of exported tables


class RunsAction(StrEnum):
    """What `runs` does."""

    ls = "ls"
    show = "show"
    rm = "rm"
    export = "export"
    tag = "tag"
    untag = "untag"
    note = "note"


def runs(
    action: Annotated[
        RunsAction,
        typer.Argument(
            metavar="ACTION",
            help="ls: list; show: print metrics; rm: delete; export: write tables; tag, untag: RUN WORD ...; "
            "note: RUN TEXT.",
        ),
    ],
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Run names, or their first characters.", autocompletion=runs_here),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", help="For ls: sharpe>1, fast>=20, series==AAPL, tag==best. Repeatable."),
    ] = None,
    sort: Annotated[str, typer.Option("--sort", help="For ls: sort by sharpe, fast, run ...; -NAME reverses.")] = "",
    out: Annotated[
        str, typer.Option(help="For export: folder for CSV files, or file.xlsx. Default: exports/NAME.")
    ] = "",
    tz: Annotated[
        str, typer.Option(help="For export: time zone: UTC, an IANA name, or 'exchange' for that of the first series.")
    ] = "UTC",
    force: Annotated[bool, typer.Option("--force", help="For export: overwrite existing files.")] = False,
    as_json: JsonOption = False,
) -> None:
    """
    List saved runs, print their metrics, delete them, export their tables, or label them.

    The list shows the parameters and options that differ between runs of a strategy. Exit code 3: a run is damaged;
    the others are listed anyway.

    Example: backtest runs ls --where series==AAPL --sort sharpe
    """
    from backtest.api import RunResult
    from backtest.metrics.listing import listed
    from backtest.runs.kept import kept, locate, remove, to_remove

    if action is not RunsAction.export and (out or force or tz != "UTC"):
        raise UsageError(f"--out, --tz and --force only apply to export, and this is {action.value}; leave them out")
    if action is RunsAction.ls:
        fitting = [run for run in kept(RUNS) if not names or run.name.startswith(tuple(names))]
        rows = listed(fitting, where or [], sort)
        give_kept(rows, as_json, chosen=bool(names or where))
        if any(row.error for row in rows):
            say("error: damaged runs cannot be read; for the reason: backtest runs show RUN")
            raise typer.Exit(DataError.exit_code)
        return
    if where or sort:
        raise UsageError(f"--where and --sort only apply to ls, not to {action.value}; write: backtest runs ls")
    if not names:
        raise UsageError(f"no run to {action.value}; name one; to list them: backtest runs ls")
    if action in (RunsAction.tag, RunsAction.untag, RunsAction.note):
        _label(action, names[0], names[1:], as_json)
        return
    if as_json and len(names) > 1:
        raise UsageError(f"--json gives one document, and {len(names)} runs are named; name one")
    if action is RunsAction.export:
        _export(names, out, tz, force, as_json)
        return
    find = to_remove if action is RunsAction.rm else locate
    for folder in [find(RUNS, name) for name in names]:
        if action is RunsAction.rm:
            remove(folder)
            say(f"Removed {folder}")
        else:
            give_kept_run(RunResult.load(folder), folder, as_json)


# Endings of files that --out cannot mean: a folder may have a dot in its name, such as v1.2.
_OTHER_FILES = {
    ".csv", ".feather", ".html", ".json", ".ods", ".parquet", ".pdf", ".tsv", ".txt", ".xls", ".xlsb", ".xlsm", ".zip",
}  # fmt: skip


def _export(names: list[str], out: str, tz: str, force: bool, as_json: bool) -> None:
    """Write the tables of saved runs, each of several into its own folder."""
    from backtest.api import RunResult
    from backtest.runs.kept import locate

    book = Path(out).suffix.lower() == ".xlsx"
    if Path(out).suffix.lower() in _OTHER_FILES:
        raise UsageError(
            f"--out {out} names a file, but only .xlsx files are written; name one, or a folder for CSV files"
        )
    if book and len(names) > 1:
        raise UsageError(f"{len(names)} runs are named, and --out is one file; name a folder, or one run")
    several = len(names) > 1 or not out
    paths: list[Path] = []
    for folder in [locate(RUNS, name) for name in names]:
        result, place = RunResult.load(folder), Path(out or EXPORTS)
        if book:
            paths.append(result.to_excel(place, tz=tz, overwrite=force))
        else:
            paths += result.to_csv(place / folder.name if several else place, tz=tz, overwrite=force)
    if as_json:
        give_json({"files": [path.as_posix() for path in paths]})
        return
    for path in paths:
        give(path.as_posix())


def _label(action: RunsAction, name: str, words: list[str], as_json: bool) -> None:
    from backtest.runs.kept import locate, note, tag, untag

    if not words:
        what = "TEXT" if action is RunsAction.note else "WORD"
        raise UsageError(f"{action.value} needs a text for {name}; write: backtest runs {action.value} {name} {what}")
    folder = locate(RUNS, name)
    if action is RunsAction.note:
        labels = note(folder, " ".join(words))
    else:
        labels = (tag if action is RunsAction.tag else untag)(folder, words)
    give_labels(labels, folder, as_json)


def report(
    run_name: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="Saved run, sweep or walk-forward (its folder, or its name in runs/), or a folder of them.",
            autocompletion=runs_here,
        ),
    ],
    out: Annotated[str, typer.Option(help="Folder for the page. Default: the folder of the run.")] = "",
    force: ForceOption = False,
    png: Annotated[str, typer.Option(help="Also write the figures as PNG files to this folder.")] = "",
    pdf: Annotated[
        str,
        typer.Option(
            help="Also print the page to this PDF file with Chromium, Chrome or Edge; if none is installed, the PDF of "
            "a run has its metrics and figures."
        ),
    ] = "",
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """
    Write the HTML page of a saved run, a sweep, a walk-forward, or a folder of them.

    The page of a run shows its verdict, metrics, an interactive chart, figures, trades, definitions and manifest. The
    chart shows the bars of the run if the store or the sample has them, and otherwise the closes. The page of a sweep
    shows heat maps, the metrics and equity of each trial, and the verdict on the best one; the page of a walk-forward
    shows its out-of-sample equity, its steps and the parameters chosen in each. The page of a folder lists its
    runs in a table that you can sort and search, with links to their pages.

    Example: backtest report SmaCross-AAPL --out pages/sma
    """
    from backtest.api import RunResult
    from backtest.report.printing import browser, print_page
    from backtest.report.run_page import write_figures, write_page, write_report

    folder, kind = _what(run_name)
    if kind is not _Kind.run:
        if png:
            raise UsageError(f"--png draws the figures of one run, and {folder} is a {kind.value}; name a run")
        files = [page := _write_page(folder, kind, out, store)]
        if pdf:
            print_page(page, Path(pdf))
            files.append(Path(pdf))
        if as_json:
            give_json({"files": [file.as_posix() for file in files]})
            return
        for file in files:
            give(str(file))
        return
    result = RunResult.load(folder)
    own = not out or Path(out).resolve() == folder.resolve()
    bars_from = _opened(store)
    page = write_page(result, folder, bars_from) if own else write_report(result, out, store=bars_from, force=force)
    printed = bool(pdf and browser())
    paths = [page, *write_figures(result, png, "" if printed else pdf)]
    if printed:
        print_page(page, Path(pdf))
        paths.append(Path(pdf))
    elif pdf:
        say("No browser was found on this machine: the PDF has metrics and figures instead of the page")
    if as_json:
        give_kept_run(result, folder, as_json, paths)
        return
    for path in paths:
        give(str(path))


def show(
    run_name: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="Saved run, sweep or walk-forward, or a folder of them.", autocompletion=runs_here
        ),
    ] = RUNS,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve all pages, updated as runs arrive, on this machine until Ctrl-C.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="With --serve: the port; 0 takes any free port.")] = 0,
    store: StoreOption = STORE,
) -> None:
    """
    Write the HTML page of a saved run, a sweep or a walk-forward, or of all runs, and open it in the browser.

    With --serve a local web server shows all of them: it updates the table as runs arrive, writes each page when you
    open it, and compares the runs that you tick in the table.

    Example: backtest show SmaCross-AAPL
    """
    import webbrowser

    if port and not serve:
        raise UsageError(f"--port {port} only works with --serve; add --serve, or leave it out")
    if serve:
        _serve(run_name, port, store)
        return
    page = _write_page(*_what(run_name), "", store)
    give(str(page))
    if not webbrowser.open(page.resolve().as_uri()):
        say(f"No browser was found on this machine; open {page} yourself")


def _serve(name: str, port: int, store: str) -> None:
    """Serve the pages of a folder of runs until Ctrl-C, and open the requested one."""
    import webbrowser
    from urllib.parse import quote

    from backtest.report.comparison_page import comparison_page
    from backtest.report.server import PageServer
    from backtest.validity.comparison import compare as put_side_by_side

    folder, kind = _what(name)
    root = folder if kind is _Kind.several else Path(RUNS)
    place = "" if kind is _Kind.several else _below(folder, root)

    def write(one: Path) -> Path:
        return _write_page(*_what(str(one)), "", store)

    def compared(runs: Sequence[Path]) -> str:
        return comparison_page(put_side_by_side(runs))

    stopped = signalled()
    with PageServer(root, write, compared, port) as served:
        give(f"serving {root} at {served.address}")
        if not webbrowser.open(f"{served.address}/{quote(place)}"):
            say(f"No browser was found on this machine; open {served.address} yourself")
        wait_for(stopped)


def _below(folder: Path, root: Path) -> str:
    """Return the path of a folder's page relative to the folder of runs; raise UsageError if it is elsewhere."""
    if not folder.resolve().is_relative_to(root.resolve()):
        raise UsageError(f"{folder} is not inside {root}, which is being served; serve a folder that contains it")
    return f"{folder.resolve().relative_to(root.resolve()).as_posix()}/index.html"


class _Kind(Enum):
    """A kind of saved result that has a page."""

    run = "run"
    sweep = "sweep"
    walk_forward = "walk-forward"
    several = "folder of runs"


def _what(name: str) -> tuple[Path, _Kind]:
    """
    Return the folder that a name refers to, and the kind of its content; the name may be of a folder below the runs.

    Raises:
        UsageError: nothing is saved there.
    """
    from backtest.runs.kept import kept, locate

    for folder in (Path(name), Path(RUNS) / name):
        if (folder / "sweep.json").is_file():
            return folder, _Kind.sweep
        if (folder / "walk_forward.json").is_file():
            return folder, _Kind.walk_forward
        runs = kept(folder) if folder.is_dir() else []
        if name == RUNS or (runs and all(run.folder != folder for run in runs)):
            return folder, _Kind.several
        below = list(folder.glob("*/walk_forward.json"))
        if not runs and len(below) == 1:
            return below[0].parent, _Kind.walk_forward
    return locate(RUNS, name), _Kind.run


def _write_page(folder: Path, kind: _Kind, out: str, store: str) -> Path:
    """Write the page of a folder's content into `out`, or into the folder, and return its path."""
    from backtest.api import RunResult
    from backtest.report.gallery import write_gallery
    from backtest.report.run_page import write_page
    from backtest.research.out_of_sample.walk_forward import WalkForward
    from backtest.research.search.sweeps import Sweep

    if kind is _Kind.walk_forward:
        return WalkForward.load(folder).report(out)
    if kind is _Kind.several:
        return write_gallery(folder, out)
    if kind is _Kind.sweep:
        return Sweep.load(folder).report(out, store=_opened(store))
    return write_page(RunResult.load(folder), folder, _opened(store))


def _opened(store: str) -> Reader | None:
    """Return the store for a chart; if it cannot be opened, say why: a page can do without."""
    from backtest.store.store import store_of

    try:
        return store_of(store)
    except (BadStore, NoConnection) as error:
        say(f"The chart cannot show bars of the store: {error}")
        return None


def compare(
    run_names: Annotated[
        list[str],
        typer.Argument(metavar="RUN", help="Folders of saved runs, or their names in runs/.", autocompletion=runs_here),
    ],
    bootstrap: Annotated[int, typer.Option(min=10, help="Bootstrap samples.")] = 1000,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    out: Annotated[str, typer.Option(help="Also write an HTML page to this folder.")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Replace the HTML page of a run in the --out folder; the run is kept.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """
    Compare saved runs, and test whether the Sharpe ratio of each differs from that of the first.

    All runs are measured on their common sessions.

    Example: backtest compare SmaCross-AAPL BuyAndHold-AAPL
    """
    from backtest.api import RunResult
    from backtest.report.comparison_page import write_comparison
    from backtest.runs.kept import locate
    from backtest.runs.record import refuse_another
    from backtest.validity.comparison import compare as put_side_by_side

    if out:
        refuse_another(Path(out), None, force)
    found = put_side_by_side([RunResult.load(locate(RUNS, name)) for name in run_names], bootstrap, seed)
    give_comparison(found, as_json)
    if out:
        say(f"HTML report: {write_comparison(found, out, force=force)}")
