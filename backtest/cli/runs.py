"""Commands about runs: make one, list, report and compare them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Unpack

import typer

from backtest._system import HEARD_AFTER
from backtest.cli.options import (
    RUNS,
    STORE,
    BenchmarkOption,
    CashOption,
    ForceOption,
    JsonOption,
    PeriodsOption,
    RiskFreeOption,
    RunArgument,
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
    pin: Annotated[str, typer.Option("--pin", help="A file of pins: refuse other bars than those.")] = "",
    warm_up: Annotated[
        str, typer.Option("--warm-up", metavar="auto|BARS", help="Bars before --since for indicators alone to see.")
    ] = "",
    cost_cases: Annotated[
        str, typer.Option(metavar="0,1,2", help="Run it again at these multiples of its costs, and keep what comes.")
    ] = "",
    no_lines: Annotated[bool, typer.Option("--no-lines", help="Do not keep the lines of indicators.")] = False,
    engine: Annotated[str, typer.Option(help="compiled, or event; if not given, what is quicker.")] = "",
    store: StoreOption = STORE,
    each: Annotated[bool, typer.Option("--each", help="A run on each series by itself, and a table of them.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Of --each: processes on this machine.")] = 1,
    out: Annotated[str, typer.Option(help="Folder of the run, with --each of the runs; runs/NAME if not given.")] = "",
    force: ForceOption = False,
    as_json: JsonOption = False,
    **brokerage: Unpack[BrokerageOptions],
) -> None:
    """
    Run a strategy over stored bars, print its numbers and keep the run.

    With --each it runs on every series by itself, with a row for each; a series on which it fails is named at the end,
    and the exit code is that of the first.

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
            "--cost-cases is of one run; leave it out, and write: backtest validate RUN --cost-cases 0,1,2"
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
        raise UsageError(f"--jobs {jobs} is of runs on each series by itself; write --each, or leave it out")
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


EXPORTS = "exports"  # where tables go that are to go nowhere else


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
            help="ls: list; show: a run's numbers; rm: remove it; export: write its tables; tag, untag: RUN WORD ...; "
            "note: RUN TEXT.",
        ),
    ],
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Names, or their beginnings.", autocompletion=runs_here),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", help="To list: sharpe>1, fast>=20, series==AAPL, tag==best. Repeatable."),
    ] = None,
    sort: Annotated[
        str, typer.Option("--sort", help="To list: by sharpe, fast, run ...; -NAME: the other way round.")
    ] = "",
    out: Annotated[
        str, typer.Option(help="Of export: a folder of CSV files, or a file.xlsx; exports/NAME if not given.")
    ] = "",
    tz: Annotated[str, typer.Option(help="Of export: zone of the times, UTC, exchange or an IANA name.")] = "UTC",
    force: Annotated[bool, typer.Option("--force", help="Of export: replace files that are there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """
    List the kept runs, show the numbers of some again, remove some, export their tables, or label one.

    The list has the parameters, and other options, in which runs of a strategy differ. Exit code 3: a run is damaged;
    the list has the others all the same.

    Example: backtest runs ls --where series==AAPL --sort sharpe
    """
    from backtest.api import RunResult
    from backtest.metrics.listing import listed
    from backtest.runs.kept import kept, locate, remove, to_remove

    if action is not RunsAction.export and (out or force or tz != "UTC"):
        raise UsageError(f"--out, --tz and --force are of export, and this is {action.value}; leave them out")
    if action is RunsAction.ls:
        fitting = [run for run in kept(RUNS) if not names or run.name.startswith(tuple(names))]
        rows = listed(fitting, where or [], sort)
        give_kept(rows, as_json, chosen=bool(names or where))
        if any(row.error for row in rows):
            say("error: what is damaged cannot be read; see why: backtest runs show RUN")
            raise typer.Exit(DataError.exit_code)
        return
    if where or sort:
        raise UsageError(f"--where and --sort are of the list, not of {action.value}; write: backtest runs ls")
    if not names:
        raise UsageError(f"no run to {action.value}; name one, see: backtest runs ls")
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


def _export(names: list[str], out: str, tz: str, force: bool, as_json: bool) -> None:
    """Write the tables of kept runs; of several each into a folder of its own."""
    from backtest.api import RunResult
    from backtest.runs.kept import locate

    book = Path(out).suffix.lower() == ".xlsx"
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
        raise UsageError(f"nothing to {action.value} {name} with; write: backtest runs {action.value} {name} WORD")
    folder = locate(RUNS, name)
    if action is RunsAction.note:
        labels = note(folder, " ".join(words))
    else:
        labels = (tag if action is RunsAction.tag else untag)(folder, words)
    give_labels(labels, folder, as_json)


def report(
    run_name: RunArgument,
    out: Annotated[str, typer.Option(help="Folder of the page; the run's own if not given.")] = "",
    force: ForceOption = False,
    png: Annotated[str, typer.Option(help="Folder for the figures as PNG files too.")] = "",
    pdf: Annotated[
        str,
        typer.Option(help="File for the page as a PDF too, as Chromium prints it; of a run without it the figures."),
    ] = "",
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """
    Write the page of a kept run, a sweep or a walk-forward, or the table of a folder of them.

    Of a run the page has verdict, numbers, a chart to explore, pictures, trades, definitions and manifest. The chart
    has the bars that the run saw, where they are in the store or in the sample; else the closes. Of a sweep the page
    has maps, each trial's numbers and equity, and how far the best one can be believed; of a walk-forward its equity
    out of sample, its windows and what each chose. Of a folder of runs it is a table of all of them, to sort and
    search, with links to their pages.

    Example: backtest report SmaCross-AAPL --out pages/sma
    """
    from backtest.api import RunResult
    from backtest.report.printing import browser, print_page
    from backtest.report.run_page import write_figures, write_page, write_report

    folder, kind = _what(run_name)
    if kind is not _Kind.run:
        if png:
            raise UsageError(f"{folder} is a {kind.value}, and --png is of one run; name that one")
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
        say("No browser was found on this machine: the PDF has numbers and figures in place of the page")
    if as_json:
        give_kept_run(result, folder, as_json, paths)
        return
    for path in paths:
        give(str(path))


def show(
    run_name: Annotated[
        str, typer.Argument(metavar="[RUN]", help="What is kept, or a folder of runs.", autocompletion=runs_here)
    ] = RUNS,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve all pages on this machine, made again as runs arrive, until Ctrl-C.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Of --serve; 0 for any free one.")] = 0,
    store: StoreOption = STORE,
) -> None:
    """
    Write the page of a kept run, a sweep or a walk-forward, or the table of all runs, and open it in the browser.

    With --serve all of them are pages of this machine: the table is made again as runs arrive, the page of each when it
    is looked at, and runs that are ticked in the table are compared.

    Example: backtest show SmaCross-AAPL
    """
    import webbrowser

    if port and not serve:
        raise UsageError(f"--port {port} is of --serve; write that too, or leave it out")
    if serve:
        _serve(run_name, port, store)
        return
    page = _write_page(*_what(run_name), "", store)
    give(str(page))
    if not webbrowser.open(page.resolve().as_uri()):
        say(f"No browser was found on this machine; open {page} in one")


def _serve(name: str, port: int, store: str) -> None:
    """Serve the pages of a folder of runs, and open the one that is meant, until Ctrl-C."""
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
            say(f"No browser was found on this machine; open {served.address} in one")
        while not stopped.wait(HEARD_AFTER):
            pass


def _below(folder: Path, root: Path) -> str:
    """Return the page of a folder as seen from the folder of runs; raise UsageError where it is elsewhere."""
    if not folder.resolve().is_relative_to(root.resolve()):
        raise UsageError(f"{folder} is not in {root}, which is served; name the folder around it")
    return f"{folder.resolve().relative_to(root.resolve()).as_posix()}/index.html"


class _Kind(Enum):
    """What a folder keeps, of which there is a page."""

    run = "run"
    sweep = "sweep"
    walk_forward = "walk-forward"
    several = "folder of runs"


def _what(name: str) -> tuple[Path, _Kind]:
    """
    Return the folder that is meant, and what it keeps; a name may be that of a folder in the folder of runs.

    Raises:
        UsageError: nothing is kept there.
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
    """Write the page of what a folder keeps into `out`, or into the folder, and return its path."""
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
    """Return the store for a chart, which a page can do without: then say why."""
    from backtest.store.store import store_of

    try:
        return store_of(store)
    except (BadStore, NoConnection) as error:
        say(f"The chart has no bars of the store: {error}")
        return None


def compare(
    run_names: Annotated[
        list[str],
        typer.Argument(metavar="RUN", help="Folders of kept runs, or their names.", autocompletion=runs_here),
    ],
    bootstrap: Annotated[int, typer.Option(min=10, help="Samples of the bootstrap.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    out: Annotated[str, typer.Option(help="Folder for a page of it too.")] = "",
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """
    Put kept runs side by side, and say whether the Sharpe ratio of each differs from that of the first.

    They are measured on the sessions that all of them have.

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
        say(f"Its page: {write_comparison(found, out, force=force)}")
