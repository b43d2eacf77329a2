"""Commands about runs: make one or many, report, compare, judge and repeat them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from backtest.cli.options import (
    RUNS,
    STORE,
    AlignOption,
    BenchmarkOption,
    BorrowOption,
    CashOption,
    CashRateOption,
    CostsOption,
    FillsOption,
    JsonOption,
    RiskFreeOption,
    RunArgument,
    SeriesArgument,
    SinceOption,
    SizeOption,
    SlippageOption,
    StoreOption,
    StrategyArgument,
    UntilOption,
    VolumeCapOption,
    runs_here,
)
from backtest.cli.parse import date_of, factors_of, group_counts_of, lengths_of, series_of, settings_of
from backtest.cli.progress import sweeping
from backtest.cli.run_tables import (
    give_baselines,
    give_comparison,
    give_kept,
    give_kept_run,
    give_more,
    give_reproduced,
    give_saved,
    give_sweep,
    give_validity,
)
from backtest.cli.terminal import give, give_json, say
from backtest.errors import UsageError


def run(
    strategy: StrategyArgument,
    series: SeriesArgument,
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
    from backtest.engine.simulation import run as simulate

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
    context: typer.Context,
    strategy: StrategyArgument,
    series: SeriesArgument,
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

    \f
    Long by its options alone: each is named here and handed on.
    """
    from contextlib import nullcontext

    from backtest.research.search.executors import dask_executor
    from backtest.research.search.grid import condition_of, grid_of
    from backtest.research.search.sweeps import sweep as search

    try:
        with dask_executor(dask) if dask else nullcontext() as executor, sweeping(context.obj) as tell:
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


class RunsAction(StrEnum):
    """What `runs` does."""

    ls = "ls"
    show = "show"
    rm = "rm"


def runs(
    action: Annotated[
        RunsAction, typer.Argument(metavar="ACTION", help="ls: list; show: a run's numbers; rm: remove it.")
    ],
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Names, or their beginnings.", autocompletion=runs_here),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """
    List the kept runs, show the numbers of some again, or remove some.

    Example: backtest runs show SmaCross-AAPL
    """
    from backtest.runs.kept import kept, locate, remove
    from backtest.runs.record import RunResult

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


def report(
    run_name: RunArgument,
    out: Annotated[str, typer.Option(help="Folder of the page; the run's own if not given.")] = "",
    png: Annotated[str, typer.Option(help="Folder for the figures as PNG files too.")] = "",
    pdf: Annotated[str, typer.Option(help="File for numbers and figures as a PDF too.")] = "",
    as_json: JsonOption = False,
) -> None:
    """
    Write the page of a kept run: verdict, numbers, pictures, trades, definitions, manifest.

    Example: backtest report SmaCross-AAPL --pdf sma.pdf
    """
    from backtest.report.run_page import write_figures, write_report
    from backtest.runs.kept import locate
    from backtest.runs.record import RunResult

    folder = locate(RUNS, run_name)
    result = RunResult.load(folder)
    paths = [write_report(result, Path(out) if out else folder), *write_figures(result, png, pdf)]
    if as_json:
        give_kept_run(result, folder, as_json, paths)
        return
    for path in paths:
        give(str(path))


def compare(
    run_names: Annotated[
        list[str],
        typer.Argument(metavar="RUN", help="Folders of kept runs, or their names.", autocompletion=runs_here),
    ],
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
    from backtest.report.run_page import write_comparison
    from backtest.runs.kept import locate
    from backtest.runs.record import RunResult
    from backtest.validity.comparison import compare as put_side_by_side

    found = put_side_by_side([RunResult.load(locate(RUNS, name)) for name in run_names], bootstrap, seed)
    give_comparison(found, as_json)
    if out:
        say(f"Its page: {write_comparison(found, out)}")


def validate(
    context: typer.Context,
    run_name: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="Folder of a kept run or a sweep, or its name in runs/.", autocompletion=runs_here
        ),
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

    \f
    Long by its options alone: each is named here and handed on.
    """
    from backtest.research.lookahead import look_ahead_of
    from backtest.research.out_of_sample.walk_forward import cross_validate_again, walk_forward_again
    from backtest.research.search.grid import condition_of, grid_of
    from backtest.research.search.sweeps import sweep_of
    from backtest.runs.kept import locate
    from backtest.runs.record import RunResult
    from backtest.validity.regimes import regimes as slices
    from backtest.validity.validation import validate as examine_run

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
    with sweeping(context.obj) as tell:
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


class BaselineAction(StrEnum):
    """What `baseline` does."""

    save = "save"
    check = "check"
    diff = "diff"
    accept = "accept"


def baseline(
    action: Annotated[
        BaselineAction,
        typer.Argument(
            metavar="ACTION", help="save: of kept runs; check: run again; diff: say all that moved; accept: take it."
        ),
    ],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Runs to save, or baselines; all if none is named.")
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
    from backtest.baselines.drift import accept_kept, check_kept, save_runs
    from backtest.baselines.drift import markdown as summary
    from backtest.runs.kept import locate
    from backtest.runs.record import RunResult
    from backtest.store.remote import open_store

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
    run_name: RunArgument,
    strategy: Annotated[str, typer.Option(help="file.py:Name, where it is not where the run found it.")] = "",
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """
    Run a kept run again and say whether the result is equal, and if not, from which date on and why.

    Exit code 0: equal. 1: not, or the run fails now.

    Example: backtest reproduce SmaCross-AAPL --store data/sample
    """
    from backtest.baselines.drift import reproduce as run_again
    from backtest.runs.kept import locate
    from backtest.runs.record import RunResult
    from backtest.store.remote import open_store

    result = RunResult.load(locate(RUNS, run_name))
    judgement = run_again(result, result.run, open_store(store), strategy)
    give_reproduced(judgement, as_json)
    if not judgement.fine:
        raise typer.Exit(1)
