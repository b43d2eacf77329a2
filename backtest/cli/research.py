"""Commands about many runs of a strategy: sweeps, and whether a result is skill or luck."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Unpack

import typer

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
from backtest.cli.parse import date_of, factors_of, group_counts_of, lengths_of, parse_series, settings_of
from backtest.cli.progress import sweeping
from backtest.cli.run_tables import give_kept_run, give_more, give_next_orders, give_sweep, give_validity
from backtest.cli.terminal import give, give_json, say
from backtest.errors import BacktestError, UsageError
from backtest.runs.spec import BrokerageOptions, with_kept_universe

if TYPE_CHECKING:
    from pathlib import Path

    from backtest.api import RunResult


@takes_brokerage
def sweep(
    context: typer.Context,
    strategy: StrategyArgument,
    series: SeriesArgument,
    grid: Annotated[
        list[str],
        typer.Option("--grid", help="Values of a parameter: fast=5:20:5 (start:stop:step) or kind=a,b. Repeatable."),
    ],
    where: Annotated[
        list[str] | None,
        typer.Option("--where", help="Keep only points that satisfy a condition, such as fast<slow. Repeatable."),
    ] = None,
    random: Annotated[int, typer.Option(min=0, help="Run a random sample of this many grid points; 0 runs all.")] = 0,
    optuna: Annotated[int, typer.Option(min=0, help="Let Optuna choose this many grid points.")] = 0,
    seed: Annotated[int, typer.Option(help="Random seed of --random and --optuna.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
    dask: Annotated[
        str, typer.Option(help="Run the trials on this Dask cluster instead of --jobs: tcp://HOST:PORT.")
    ] = "",
    rank: Annotated[str, typer.Option(help="Metric to rank by; the highest is best.")] = "sharpe",
    engine: Annotated[str, typer.Option(help="compiled or event. Default: the faster one.")] = "",
    settings: Annotated[list[str] | None, typer.Option("--set", help="Fixed parameter, such as invest=0.5.")] = None,
    since: SinceOption = "",
    until: UntilOption = "",
    cash: CashOption = 100_000.0,
    benchmark: BenchmarkOption = "",
    risk_free: RiskFreeOption = 0.0,
    periods: PeriodsOption = 0.0,
    store: StoreOption = STORE,
    out: Annotated[str, typer.Option(help="Folder for the trials. Default: runs/NAME-sweep.")] = "",
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the sweep in --out; refuse to start a new one.")
    ] = False,
    as_json: JsonOption = False,
    **brokerage: Unpack[BrokerageOptions],
) -> None:
    """
    Run a strategy at each point of a parameter grid, save every trial, and judge the best one for overfitting.

    Trials already in the folder are not repeated, so a sweep can be stopped and resumed. The verdict on the best
    trial is corrected for the number of trials in the folder.

    Example: backtest sweep sma_cross AAPL/1day --grid fast=5:20:5 --grid slow=20:60:10 --jobs 2 --store sample

    \f
    Long by its options alone: each is named here and handed on.
    """
    from contextlib import nullcontext
    from functools import partial

    from backtest.research.search.executors import dask_executor
    from backtest.research.search.grid import condition_of
    from backtest.research.search.sweeps import sweep as search
    from backtest.store.replacement import replace_file

    try:
        with dask_executor(dask) if dask else nullcontext() as executor, sweeping(context.obj) as tell:
            found = search(
                strategy,
                parse_series(series),
                grid,
                store=store,
                executor=executor,
                jobs=jobs,
                where=condition_of(where or []),
                random=random,
                optuna=optuna,
                seed=seed,
                rank=rank,
                engine=engine,
                folder=out,
                resume=resume,
                span=(date_of(since, "--since"), date_of(until, "--until")),
                params=settings_of(settings or []),
                tell=tell,
                cash=cash,
                benchmark=benchmark,
                risk_free=risk_free,
                periods=periods,
                **brokerage,
            )
    except KeyboardInterrupt:
        say("Stopped; the finished trials are saved. To resume, run the same command again.")
        raise
    give_sweep(found, as_json)
    if not as_json:
        picture = found.folder / "heatmap.png"
        replace_file(picture, partial(found.plot().savefig, format="png"))
        say(
            f"Saved to {found.folder}. Heat map: {picture}. HTML report: backtest report {found.folder}. "
            f"Next: backtest validate {found.folder}"
        )


@takes_brokerage
def next_(
    context: typer.Context,
    strategy: StrategyArgument,
    series: SeriesArgument,
    settings: SettingsOption = None,
    since: SinceOption = "",
    until: UntilOption = "",
    cash: CashOption = 100_000.0,
    pin: Annotated[str, typer.Option("--pin", help="Lock file with pins; refuse bars that do not match them.")] = "",
    warm_up: Annotated[
        str,
        typer.Option("--warm-up", metavar="auto|BARS", help="Bars before --since that only warm up the indicators."),
    ] = "",
    store: StoreOption = STORE,
    as_json: JsonOption = False,
    **brokerage: Unpack[BrokerageOptions],
) -> None:
    """
    Show the orders a strategy would place at the open after the last stored bar, and the position it assumes.

    No order is placed. The assumed position is the one the strategy would hold if all its orders had been real.

    Example: backtest next sma_cross AAPL/1day --set fast=20 --set slow=50 --store sample
    """
    from backtest.research.next_orders import next_orders

    found = next_orders(
        strategy,
        parse_series(series),
        store=store,
        span=(date_of(since, "--since"), date_of(until, "--until")),
        params=settings_of(settings or []),
        cash=cash,
        pins=pin,
        warm_up=warm_up,
        **brokerage,
    )
    give_next_orders(found, None if until else context.obj(), as_json)


def combine(
    run_names: Annotated[
        list[str],
        typer.Argument(metavar="RUN", help="Folders of saved runs, or their names in runs/.", autocompletion=runs_here),
    ],
    weights: Annotated[
        str, typer.Option(help="equal, vol (inverse volatility), or a CSV file with the columns run,weight.")
    ] = "equal",
    rebalance: Annotated[
        str,
        typer.Option(help="When to rebalance to the weights: never, weekly, monthly, quarterly or yearly."),
    ] = "monthly",
    costs: Annotated[
        str,
        typer.Option(help="Costs of rebalancing: as-run (each run's own), or any value of --costs in 'backtest run'."),
    ] = "as-run",
    cash: Annotated[float, typer.Option("--cash", min=0, help="Initial cash; 0 uses the total of the runs.")] = 0.0,
    out: Annotated[str, typer.Option(help="Folder for the combination. Default: runs/NAME.")] = "",
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """
    Combine saved runs into a portfolio, and save it as a run that can be passed to report, compare and validate.

    The account is valued on the sessions that all runs share. The contributions of the runs add up to the
    change in its equity.

    Example: backtest combine SmaCross-AAPL BuyAndHold-AAPL --weights equal --rebalance quarterly
    """
    from pathlib import Path

    from backtest.api import RunResult
    from backtest.research.combination import combine as make_one
    from backtest.runs.kept import locate

    runs = [RunResult.load(locate(RUNS, name)) for name in run_names]
    result = make_one(runs, weights=weights, rebalance=rebalance, costs=costs, cash=cash or None)
    folder = Path(out) if out else Path(RUNS) / result.name
    result.save(folder, force=force)
    give_kept_run(result, folder, as_json)
    if not as_json:
        say(f"Saved to {folder}. HTML report: backtest report {folder}")


def validate(
    context: typer.Context,
    run_name: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="Saved run or sweep: its folder, or its name in runs/.", autocompletion=runs_here
        ),
    ],
    bootstrap: Annotated[int, typer.Option(min=10, help="Bootstrap and Monte Carlo samples.")] = 1000,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    cost_cases: Annotated[
        str, typer.Option(metavar="0,1,2", help="Run again at these multiples of the costs, on the bars in --store.")
    ] = "",
    costs: Annotated[str, typer.Option("--costs", hidden=True, help="Old name of --cost-cases.")] = "",
    lookahead: Annotated[
        bool, typer.Option("--lookahead", help="Test for look-ahead bias: run again with later bars changed.")
    ] = False,
    regimes: Annotated[
        bool,
        typer.Option("--regimes", help="Break the result down by market regime: bull, bear, high and low volatility."),
    ] = False,
    walk_forward: Annotated[
        str,
        typer.Option(
            "--walk-forward",
            metavar="TRAIN/TEST",
            help="Walk-forward: lengths of the in-sample and out-of-sample windows, in sessions (504/126) or as 3y/6m.",
        ),
    ] = "",
    anchored: Annotated[
        bool, typer.Option("--anchored", help="Start every in-sample window at the first session.")
    ] = False,
    cpcv: Annotated[
        str,
        typer.Option(
            "--cpcv",
            metavar="N,K",
            help="Combinatorial purged cross-validation: N groups of sessions, K of them tested.",
        ),
    ] = "",
    purge: Annotated[int, typer.Option(min=0, help="Sessions to drop between in-sample and out-of-sample data.")] = 0,
    embargo: Annotated[int, typer.Option(min=0, help="Further sessions to drop after each test group of --cpcv.")] = 0,
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", help="Parameter grid to choose from. Default: the trials of the sweep."),
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option("--where", help="Keep only points that satisfy a condition, such as fast<slow.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
    engine: Annotated[
        str, typer.Option(help="Engine for the trials of --walk-forward and --cpcv: compiled or event.")
    ] = "",
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """
    Judge whether a saved run, or the best trial of a sweep, is skill or luck: verdict, intervals, Monte Carlo, costs.

    The verdict on the best trial of a sweep is corrected for the number of trials in its folder. --walk-forward and
    --cpcv run the strategy again on parts of the bars. These two and --lookahead need the bars, and the strategy's
    file at its original path. Exit code 1: --lookahead found a decision that depends on later bars. If --cost-cases
    cannot run the strategy again, the exit code is that of the reason: 3 if bars are missing.

    Example: backtest validate SmaCross-AAPL --bootstrap 2000 --lookahead --store sample

    \f
    Long by its options alone: each is named here and handed on.
    """
    from backtest.api import RunResult
    from backtest.research.lookahead import look_ahead_of
    from backtest.research.out_of_sample.cross_validation import cross_validate_again
    from backtest.research.out_of_sample.walk_forward import walk_forward_again
    from backtest.research.search.grid import condition_of, grid_of
    from backtest.research.search.sweeps import sweep_of
    from backtest.runs.kept import locate
    from backtest.validity.regimes import regimes as slices
    from backtest.validity.validation import validate as examine_run

    steps, groups = lengths_of(walk_forward), group_counts_of(cpcv)
    _refuse_without_effect(
        bool(steps), bool(groups), {"grid": grid, "where": where, "purge": purge, "engine": engine}, anchored, embargo
    )
    factors = factors_of(cost_cases or costs or "0,1,2")
    folder = locate(RUNS, run_name)
    tried = sweep_of(folder)
    result = tried.best_run if tried else RunResult.load(folder)
    again: dict[str, Any] = {
        "store": store, "folder": tried.folder if tried else folder, "jobs": jobs, "purge": purge,
        "engine": engine,
        "grid": grid_of(grid or []), "where": condition_of(where or []),
    }  # fmt: skip
    unread: BacktestError | None = None
    if cost_cases or costs:  # the strategy that a saved run names is not run unless the user requests it
        result, unread = _at_costs(result, factors, tried.best_folder if tried else folder, store)
    spec = replace(result.spec, brokerage=with_kept_universe(result.spec.brokerage, result.manifest))
    leaks = look_ahead_of(spec, store) if lookahead else []
    ratios = tried.ratios.tolist() if tried else []
    found = examine_run(result, samples=bootstrap, seed=seed, factors=factors, trials=ratios, looks_ahead=leaks)
    with sweeping(context.obj) as tell:
        more: dict[str, Any] = {
            "sweep": tried,
            "regimes": slices(result) if regimes else None,
            "walk_forward": walk_forward_again(tried or result, *steps, anchored=anchored, tell=tell, **again)
            if steps
            else None,
            "cpcv": cross_validate_again(tried or result, *groups, embargo=embargo, tell=tell, **again)
            if groups
            else None,
        }
    for tested in (more["walk_forward"], more["cpcv"]):
        if tested is not None and tested.made_by:
            say(tested.made_by)
    if as_json:
        known = {"run": result.name, "label": result.label}
        give_json({**known, **found.to_dict(), **{name: one.to_dict() for name, one in more.items() if one}})
    else:
        give_validity(result, found)
        if lookahead and not leaks:
            give("No look-ahead bias found: no decision changed when later bars were changed.")
        give_more(more)
    if unread:
        say(f"error: the run could not be repeated at other costs: {unread}")
    if unread and cost_cases:  # version 0.1.0 never ran a strategy for its --costs
        raise typer.Exit(unread.exit_code)
    if leaks:
        raise typer.Exit(1)


def _refuse_without_effect(walks: bool, cross: bool, of_both: dict[str, Any], anchored: bool, embargo: int) -> None:
    for name, given in of_both.items():
        if given and not (walks or cross):
            raise UsageError(f"--{name} only works with --walk-forward or --cpcv; add one of them, or leave it out")
    if anchored and not walks:
        raise UsageError("--anchored only works with --walk-forward; add it, or leave out --anchored")
    if embargo and not cross:
        raise UsageError("--embargo only works with --cpcv; add it, or leave out --embargo")


def _at_costs(
    result: RunResult, factors: list[float], folder: Path, store: str
) -> tuple[RunResult, BacktestError | None]:
    """Return a run with its results at other costs, saved in its folder; or the run unchanged, and the error."""
    from backtest.research.cost_cases import run_at_costs
    from backtest.runs.record import keep_cost_table

    try:
        found = run_at_costs(result, factors, store=store)
    except BacktestError as error:
        return result, error
    if found is not result:
        keep_cost_table(found, folder)
    return found, None
