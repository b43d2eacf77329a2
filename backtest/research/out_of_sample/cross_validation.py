"""`cross_validate`: choose and test parameters by purged folds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from backtest import _arguments
from backtest._notebook import html_lines, html_table, progress_bar
from backtest._suggest import there_are
from backtest.api import RunResult, takes_frames
from backtest.engine.code.strategy import load_strategy
from backtest.errors import StrategyError, UsageError
from backtest.market.series import Series
from backtest.metrics.account import Account
from backtest.metrics.ratios import sharpe
from backtest.metrics.returns import equity_of
from backtest.metrics.table import METRICS
from backtest.metrics.trades import Trades
from backtest.research.out_of_sample.folds import group_sizes, paths, purged_folds, session_count
from backtest.research.out_of_sample.walk_forward import (
    days_with_bars,
    json_value,
    points_of,
    request_of,
    values_of,
    window_of,
)
from backtest.research.out_of_sample.window import Window
from backtest.research.search.compiled import engines_of
from backtest.research.search.grid import Condition, Grid
from backtest.research.search.job import Job, Point, job_of
from backtest.research.search.sweeps import Sweep, Tell, check_ways, complete, folder_of, rank_of
from backtest.research.search.trials import Trial, Trials
from backtest.runs.parameters import in_words, kept_params, words_of
from backtest.runs.spec import RunOptions, takes_run_options
from backtest.store.reader import Reader

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_OF_RETURNS = ("return", "risk", "drawdown")  # groups of metrics that need returns alone


@dataclass(frozen=True)
class CrossValidation:
    """
    The outcome of choosing parameters on most groups of sessions and testing them on the rest, for every way to do so.

    A path covers all sessions, with each group out of sample in a different choice.
    """

    groups: list[Window]
    tested: int
    purge: int
    embargo: int
    chosen: list[tuple[tuple[int, ...], dict[str, Any]]]  # the groups tested, and the parameters, fold by fold
    paths: list[np.ndarray]  # returns, shape (sessions,) each
    sessions: np.ndarray
    failed: int  # points that failed in some group, and were not chosen from
    risk_free: float
    periods: float

    @property
    def ratios(self) -> np.ndarray:
        """The annual Sharpe ratio of each path; NaN if its returns do not vary."""
        return np.array([sharpe(path, self.risk_free, self.periods) for path in self.paths])

    @cached_property
    def made_by(self) -> str:
        """Which engine ran the trials, and why, in a line; "" if they were few, or saved before."""
        return ""

    def to_frame(self) -> pd.DataFrame:
        """Return a row per fold: the groups tested, and the parameters chosen without them."""
        import pandas as pd

        return pd.DataFrame([{"tested": groups, **params} for groups, params in self.chosen])

    @property
    def summary(self) -> str:
        """The outcome, in two sentences."""
        known = self.ratios[np.isfinite(self.ratios)]
        spread = f"from {known.min():.2f} to {known.max():.2f}, median {np.median(known):.2f}" if len(known) else "–"
        kinds = len({words_of(params) for _, params in self.chosen})
        return (
            f"{len(self.chosen)} train/test splits of {len(self.groups)} groups, with {self.tested} "
            f"group{'s' * (self.tested > 1)} tested in each, form "
            f"{len(self.paths)} out-of-sample path{'s' * (len(self.paths) > 1)}: Sharpe ratio {spread}, below 0 in "
            f"{(known < 0).mean() * 100 if len(known) else 0:.0f} % of them. {kinds} different parameter sets were "
            "chosen."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all values as JSON types: None where a number is not defined."""
        return {
            "groups": [str(window) for window in self.groups],
            "tested": self.tested,
            "purge": self.purge,
            "embargo": self.embargo,
            "failed": self.failed,
            "folds": [{"tested": list(groups), "params": kept_params(params)} for groups, params in self.chosen],
            "paths": [{"sharpe": json_value(float(ratio))} for ratio in self.ratios],
        }

    def __repr__(self) -> str:
        return self.summary

    def _repr_html_(self) -> str:
        names = list(self.chosen[0][1]) if self.chosen else []
        rows = [
            ["; ".join(str(self.groups[place]) for place in groups), *map(in_words, params.values())]
            for groups, params in self.chosen
        ]
        return html_table(["Tested in", *names], rows) + html_lines(self.summary)


@takes_frames
@takes_run_options
def cross_validate(
    strategy: str | Path | type[Any],
    series: Series | str | Iterable[Series | str] | Mapping[str, Any] | pd.DataFrame | pa.Table,
    grid: Grid | Mapping[str, Any] | Sequence[dict[str, Any]] | Sequence[str] | str,
    *,
    store: Reader | str | Path | None = None,
    groups: int = 6,
    tested: int = 2,
    purge: int | str = 0,
    embargo: int | str = 0,
    rank: str = "sharpe",
    where: Condition | str | Iterable[str] | None = None,
    random: int = 0,
    seed: int = 0,
    executor: Executor | None = None,
    jobs: int = 1,
    folder: str | Path = "",
    span: Sequence[date | str | None] | None = None,
    start: date | str | None = None,
    end: date | str | None = None,
    params: Mapping[str, Any] | None = None,
    tell: Tell | None = None,
    engine: str = "",
    tz: str = "",
    **asked: Unpack[RunOptions],
) -> CrossValidation:
    """
    Choose parameters on all but some groups of sessions and test them on those: combinatorial purged cross-validation.

    With one group tested it is purged k-fold. Every point runs in every group separately; the point whose returns rank
    highest in the in-sample sessions is chosen. Some of these sessions come after the test, so the result shows how far
    a method of choosing parameters can be trusted, while `walk_forward` shows what it would have earned.

    Args:
        groups: N, of about equal length.
        tested: K of them at a time.
        purge: sessions dropped on both sides of a test; at least as many as a position is held.
        embargo: further sessions dropped after a test.
        rank: a metric of returns alone.

    The other arguments and the errors are those of `sweep`.

    Source: López de Prado (2018), "Advances in Financial Machine Learning", chapter 12.
    """
    rank, jobs = _rank_of_returns(rank), _arguments.whole(jobs, "jobs", 1)
    groups, tested = _arguments.whole(groups, "groups"), _arguments.whole(tested, "tested")
    check_ways(executor, tell)
    engines = engines_of(engine, rank)
    loaded = load_strategy(strategy)
    points = points_of(loaded, grid, where, random, seed)
    dates: dict[str, Any] = {"span": span, "start": start, "end": end}
    job = job_of(loaded, series, store=store, params=params, swept=values_of(points), **dates, **asked)
    days, yearly = days_with_bars(job), job.yearly.count
    purge, embargo = session_count(purge, "purge", yearly), session_count(embargo, "embargo", yearly)
    ends = np.cumsum([0, *group_sizes(len(days), groups)])
    windows = [window_of(days, np.arange(*ends[n : n + 2])) for n in range(groups)]
    trials = Trials(folder_of(folder, job))
    every = [Point(point, window) for window in windows for point in points]
    with progress_bar(tell, "trials") as told:
        complete(job, every, trials, executor=executor, jobs=jobs, tell=told, engines=engines)
    kept = trials.read(map(job.key, every), returns=True)
    made = [[kept[job.key(Point(point, window))] for window in windows] for point in points]
    whole = [(point, row) for point, row in zip(points, made, strict=True) if not any(trial.error for trial in row)]
    if not whole:
        raise StrategyError(f"each point fails in some group, the first: {_first_error(made)}")
    found = _validated(job, whole, windows, (tested, purge, embargo), rank, len(points) - len(whole))
    vars(found)["made_by"] = engines.words
    return found


def cross_validate_again(
    tried: Sweep | RunResult, groups: int, tested: int, *, grid: Grid, where: Condition | None, **more: Any
) -> CrossValidation:
    """Return the same as `cross_validate`, for a sweep or a saved run."""
    asked = request_of(tried, grid, where)
    return cross_validate(groups=groups, tested=tested, **asked, **more)


def _rank_of_returns(given: str) -> str:
    rank = rank_of(given)
    names = [name for name, metric in METRICS.items() if metric.group in _OF_RETURNS]
    if rank.lstrip("-") not in names:
        raise UsageError(f"{rank} cannot be computed from returns alone; {there_are(rank, names)}")
    return rank


def _first_error(made: Sequence[Sequence[Trial]]) -> str:
    return next(trial.error for row in made for trial in row if trial.error)


def _validated(
    job: Job,
    whole: Sequence[tuple[dict[str, Any], list[Trial]]],
    windows: list[Window],
    asked: tuple[int, int, int],
    rank: str,
    failed: int,
) -> CrossValidation:
    days = np.concatenate([trial.sessions for trial in whole[0][1]])
    sizes = [len(trial.returns) for trial in whole[0][1]]
    returns = [np.concatenate([trial.returns for trial in row]) for _, row in whole]
    risk_free, periods = float(job.asked["risk_free"]), job.yearly.count
    folds = purged_folds(sizes, *asked)
    best = [_best_of_returns(returns, days, fold.train, rank, risk_free, periods) for fold in folds]
    ends = np.cumsum([0, *sizes])
    ways = [
        np.concatenate([returns[best[fold]][ends[group] : ends[group + 1]] for group, fold in enumerate(path)])
        for path in paths(len(windows), asked[0])
    ]
    chosen = [(fold.groups, whole[place][0]) for fold, place in zip(folds, best, strict=True)]
    return CrossValidation(windows, *asked, chosen, ways, days, failed, risk_free, periods)


def _best_of_returns(
    returns: Sequence[np.ndarray], days: np.ndarray, rows: np.ndarray, rank: str, risk_free: float, periods: float
) -> int:
    """Return the place of the returns that rank highest in the rows; of equal ones the first, or if none has a rank."""
    sign, metric = -1 if rank.startswith("-") else 1, METRICS[rank.lstrip("-")]
    numbers = [sign * metric.function(_account(days[rows], one[rows], risk_free, periods)) for one in returns]
    known = [-math.inf if math.isnan(number) else number for number in numbers]
    return known.index(max(known))


def _account(days: np.ndarray, returns: np.ndarray, risk_free: float, periods: float) -> Account:
    return Account(
        days=days, equity=equity_of(returns), returns=returns, held=np.array([]), trades=Trades.none(), still_open=0,
        traded=0.0, costs=0.0, risk_free=risk_free, periods=periods, span=len(days) / periods,
    )  # fmt: skip
