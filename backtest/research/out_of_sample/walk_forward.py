"""
`walk_forward`, `cross_validate`: parameters chosen on some sessions, and judged on others that the choice never saw.

Each window is a run of its own: it begins with cash alone, with the bars before it as warm-up of its indicators.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, fields
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest import _arguments
from backtest._suggest import there_are
from backtest.errors import StrategyError, UsageError
from backtest.market import arrays
from backtest.market.bars import Series
from backtest.market.calendars import sessions, sessions_a_year
from backtest.metrics.account import Account
from backtest.metrics.measurement import Stats, measure_returns
from backtest.metrics.returns import Undefined, equity_of, sharpe
from backtest.metrics.table import METRICS
from backtest.metrics.trades import Trades
from backtest.research.out_of_sample.folds import group_sizes, paths, purged_folds, session_count, walk_forward_folds
from backtest.research.out_of_sample.window import Window
from backtest.research.search import grid as grids
from backtest.research.search.executors import Job, Point, asked_names, digest_of, job_of
from backtest.research.search.grid import Condition, Grid, words_of
from backtest.research.search.sweeps import Sweep, Tell, check_ways, complete, folder_of, rank_of, ranked
from backtest.research.search.trials import Trial, Trials
from backtest.runs.record import RunResult
from backtest.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

_OF_RETURNS = ("return", "risk", "drawdown")  # groups of metrics that need returns alone


@dataclass(frozen=True, slots=True)
class Step:
    """A window to learn from, what was chosen there, and what came of it in the window after."""

    train: Window
    test: Window
    params: dict[str, Any]
    inside: Trial  # the chosen one where it was chosen, with returns
    outside: Trial  # the same parameters where nobody had looked


@dataclass(frozen=True)
class WalkForward:
    """What came of choosing parameters again and again, each time on the past alone."""

    steps: list[Step]
    values: dict[str, list[Any]]  # that each parameter was chosen from
    rank: str
    anchored: bool
    cash: float
    risk_free: float
    periods: float  # sessions a year

    @property
    def sessions(self) -> np.ndarray:
        """The sessions of all test windows, datetime64[D]."""
        return np.concatenate([step.outside.sessions for step in self.steps])

    @property
    def returns(self) -> np.ndarray:
        """The return of each of these sessions, out of sample."""
        return np.concatenate([step.outside.returns for step in self.steps])

    @property
    def equity(self) -> pd.Series:
        """Money after each session, the test windows one after another."""
        import pandas as pd

        index = pd.DatetimeIndex(self.sessions, name="session").tz_localize("UTC")
        return pd.Series(equity_of(self.returns, self.cash)[1:], index=index, name="equity")

    @cached_property
    def stats(self) -> Stats:
        """The metrics of the returns out of sample."""
        import pandas as pd

        returns = pd.Series(self.returns, index=pd.DatetimeIndex(self.sessions))
        return measure_returns(returns, risk_free=self.risk_free, periods=self.periods)

    @property
    def efficiency(self) -> float:
        """
        The mean return a session out of sample over that in sample; undefined where nothing was earned in sample.

        1 is as good as where it was chosen; below 0.5 is a usual sign of parameters fitted to noise.

        Source: Pardo (2008), "The Evaluation and Optimization of Trading Strategies", annual returns compared.
        """
        inside = float(np.concatenate([step.inside.returns for step in self.steps]).mean())
        return float(self.returns.mean()) / inside if inside > 0 else Undefined("nothing earned in sample")

    @property
    def drift(self) -> dict[str, float]:
        """How far each parameter moves a step, in the mean: 0 stays, 1 goes from end to end of its values."""
        return {name: self._drift(name, values) for name, values in self.values.items() if len(values) > 1}

    @property
    def frame(self) -> pd.DataFrame:
        """A row a step: windows, parameters, Sharpe ratio and return inside and outside."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The same as dictionaries."""
        return [
            {
                "train": str(step.train),
                "test": str(step.test),
                **step.params,
                "sharpe_inside": step.inside.metrics["sharpe"],
                "sharpe_outside": step.outside.metrics["sharpe"],
                "return_outside": step.outside.metrics["total_return"],
            }
            for step in self.steps
        ]

    @property
    def summary(self) -> str:
        """What came of it, in two sentences."""
        drift = ", ".join(f"{name} {share:.2f}" for name, share in self.drift.items()) or "nothing was chosen"
        return (
            f"{'Anchored' if self.anchored else 'Rolling'} walk forward, {len(self.steps)} steps, "
            f"{len(self.returns):,} sessions out of sample: return {self.stats.text('total_return')}, "
            f"Sharpe {self.stats.text('sharpe')}, efficiency {_number(self.efficiency)}. "
            f"Drift a step: {drift}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON: None where a number is not defined."""
        return {
            "anchored": self.anchored,
            "steps": [{name: _for_json(value) for name, value in row.items()} for row in self.rows],
            "efficiency": _for_json(self.efficiency),
            "drift": self.drift,
            "stats": self.stats.to_dict(),
        }

    def __repr__(self) -> str:
        return self.summary

    def _drift(self, name: str, values: list[Any]) -> float:
        places = [values.index(step.params[name]) for step in self.steps]
        return float(np.abs(np.diff(places)).mean() / (len(values) - 1)) if len(places) > 1 else 0.0


def walk_forward(
    strategy: str | Path | type[Any],
    series: Series | str | Iterable[Series | str],
    grid: Grid | Mapping[str, Any] | Sequence[dict[str, Any]] | Sequence[str] | str,
    *,
    train: int | str,
    test: int | str,
    store: Store | str | Path,
    anchored: bool = False,
    purge: int | str = 0,
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
    **asked: Any,
) -> WalkForward:
    """
    Choose the best parameters in a window, run them in the next, and go on until the bars end.

    Args:
        grid: see `sweep`; or a list of points.
        train: sessions to learn from: 504, or "2y", "6m", "3w" of 252, 21 and 5 sessions each.
        test: sessions to test on.
        anchored: learn from all sessions since the first, instead of the last `train`.
        purge: sessions between the two.
        folder: of the trials, which count as in `sweep`.

    The rest is as in `sweep`, and so is what is raised.
    """
    rank, jobs = rank_of(rank), _arguments.whole(jobs, "jobs", 1)
    anchored = _arguments.truth(anchored, "anchored")
    train, test, purge = session_count(train, "train"), session_count(test, "test"), session_count(purge, "purge")
    check_ways(executor, tell)
    points = _points(grid, where, random, seed)
    dates: dict[str, Any] = {"span": span, "start": start, "end": end}
    job = job_of(strategy, series, store=store, params=params, swept=points[0], **dates, **asked)
    days = _days(job)
    folds = walk_forward_folds(len(days), train, test, anchored=anchored, purge=purge)
    windows = [(_window(days, fold.train), _window(days, fold.test)) for fold in folds]
    trials = Trials(folder_of(folder, job))
    inside = [Point(point, window) for window, _ in windows for point in points]
    kept = complete(job, inside, trials, executor=executor, jobs=jobs, tell=tell)
    chosen = [_best(job, points, window, kept, rank) for window, _ in windows]
    outside = [Point(point, window) for point, (_, window) in zip(chosen, windows, strict=True)]
    complete(job, outside, trials, executor=executor, jobs=jobs)
    return WalkForward(
        _steps(job, windows, chosen, trials), _values(points), rank, anchored, float(job.asked["cash"]),
        float(job.asked["risk_free"]), sessions_a_year(job.series[0].instrument),
    )  # fmt: skip


@dataclass(frozen=True)
class CrossValidation:
    """
    What came of choosing parameters on most groups of sessions and testing them on the rest, for every way to do so.

    A path goes through all sessions, each group out of sample of another choice.
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
        """The Sharpe ratio a year of each path; NaN of one that does not vary."""
        return np.array([sharpe(path, self.risk_free, self.periods) for path in self.paths])

    @property
    def frame(self) -> pd.DataFrame:
        """A row a fold: the groups tested, and the parameters chosen without them."""
        import pandas as pd

        return pd.DataFrame([{"tested": groups, **params} for groups, params in self.chosen])

    @property
    def summary(self) -> str:
        """What came of it, in two sentences."""
        known = self.ratios[np.isfinite(self.ratios)]
        spread = f"from {known.min():.2f} to {known.max():.2f}, median {np.median(known):.2f}" if len(known) else "–"
        kinds = len({words_of(params) for _, params in self.chosen})
        return (
            f"{len(self.chosen)} folds of {len(self.groups)} groups, {self.tested} tested, make {len(self.paths)} "
            f"path{'s' * (len(self.paths) > 1)} out of sample: Sharpe {spread}, below 0 in "
            f"{(known < 0).mean() * 100 if len(known) else 0:.0f} %. {kinds} different parameters were chosen."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON: None where a number is not defined."""
        return {
            "groups": [str(window) for window in self.groups],
            "tested": self.tested,
            "purge": self.purge,
            "embargo": self.embargo,
            "failed": self.failed,
            "folds": [{"tested": list(groups), "params": params} for groups, params in self.chosen],
            "paths": [{"sharpe": _for_json(float(ratio))} for ratio in self.ratios],
        }

    def __repr__(self) -> str:
        return self.summary


def cross_validate(
    strategy: str | Path | type[Any],
    series: Series | str | Iterable[Series | str],
    grid: Grid | Mapping[str, Any] | Sequence[dict[str, Any]] | Sequence[str] | str,
    *,
    store: Store | str | Path,
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
    **asked: Any,
) -> CrossValidation:
    """
    Choose parameters on all but some groups of sessions and test them on those: combinatorial purged cross-validation.

    With one group tested it is purged k-fold. Every point is run in every group by itself; a choice is made by the
    rank of its returns in the sessions to learn from, which may lie after the test: this says how far a way of choosing
    can be trusted, while `walk_forward` says what it would have earned.

    Args:
        groups: N, of about equal length.
        tested: K of them at a time.
        purge: sessions left out on both sides of a test; at least as many as a position is held.
        embargo: sessions more that are left out after a test.
        rank: a metric of returns alone.

    The rest is as in `sweep`, and so is what is raised. Long by its arguments alone: each is named and told.

    Source: López de Prado (2018), "Advances in Financial Machine Learning", chapter 12.
    """
    rank, jobs = _rank_of_returns(rank), _arguments.whole(jobs, "jobs", 1)
    groups, tested = _arguments.whole(groups, "groups"), _arguments.whole(tested, "tested")
    purge, embargo = session_count(purge, "purge"), session_count(embargo, "embargo")
    check_ways(executor, tell)
    points = _points(grid, where, random, seed)
    dates: dict[str, Any] = {"span": span, "start": start, "end": end}
    job = job_of(strategy, series, store=store, params=params, swept=points[0], **dates, **asked)
    days = _days(job)
    ends = np.cumsum([0, *group_sizes(len(days), groups)])
    windows = [_window(days, np.arange(*ends[n : n + 2])) for n in range(groups)]
    trials = Trials(folder_of(folder, job))
    every = [Point(point, window) for window in windows for point in points]
    complete(job, every, trials, executor=executor, jobs=jobs, tell=tell)
    kept = trials.read(map(job.key, every), returns=True)
    made = [[kept[job.key(Point(point, window))] for window in windows] for point in points]
    whole = [(point, row) for point, row in zip(points, made, strict=True) if not any(trial.error for trial in row)]
    if not whole:
        raise StrategyError(f"each point fails in some group, the first: {_first_error(made)}")
    return _validated(job, whole, windows, (tested, purge, embargo), rank, len(points) - len(whole))


def walk_forward_again(
    tried: Sweep | RunResult, train: int, test: int, *, grid: Grid, where: Condition | None, **more: Any
) -> WalkForward:
    """
    Return the walk forward of what a sweep tried, by its rank, or of a kept run's strategy.

    Args:
        grid: to choose from, if it is not empty; else the points of the sweep, or the run's parameters alone.
        more: what else `walk_forward` takes.
    """
    asked = _again(tried, grid, where)
    return walk_forward(train=train, test=test, **asked, **more)


def cross_validate_again(
    tried: Sweep | RunResult, groups: int, tested: int, *, grid: Grid, where: Condition | None, **more: Any
) -> CrossValidation:
    """Return the same as a cross-validation."""
    asked = _again(tried, grid, where)
    return cross_validate(groups=groups, tested=tested, **asked, **more)


def _again(tried: Sweep | RunResult, grid: Grid, where: Condition | None) -> dict[str, Any]:
    """Return what a sweep or a run was asked, with the points to choose from."""
    if isinstance(tried, Sweep):
        asked = tried.asked
        known = {"strategy": tried.strategy, "rank": asked["rank"], **asked["asked"]}
        series, since, until, params = (asked[name] for name in ("series", "since", "until", "params"))
        points = [{name: trial.params[name] for name in asked["grid"]} for trial in tried.trials]
    else:
        spec = tried.spec
        known = {"strategy": spec.strategy}
        known |= {one.name: getattr(spec, one.name) for one in fields(spec) if one.name in asked_names()}
        series, since, until, params, points = list(spec.series), spec.since, spec.until, spec.params, [{}]
    if grid:
        params, points = {name: value for name, value in params.items() if name not in grid}, grids.points(grid, where)
    span = _dates(since), _dates(until)
    return {**known, "series": series, "span": span, "params": params, "grid": points}


def _dates(text: str) -> date | None:
    return date.fromisoformat(text[:10]) if text else None


def _points(grid: Any, where: Any, random: int, seed: int) -> list[dict[str, Any]]:
    condition, draws = grids.condition_given(where), _arguments.whole(random, "random")
    seed = _arguments.seed_of(seed)
    if isinstance(grid, str | Mapping):
        return grids.points(grids.grid_given(grid), condition, draws, seed)
    given = _arguments.several(grid, "the grid", "write values by name, or a list of points")
    if given and all(isinstance(one, str) for one in given):
        return grids.points(grids.grid_given(given), condition, draws, seed)
    points = [_arguments.mapping(one, "a point", 'write such as {"fast": 10, "slow": 50}') for one in given]
    if not points or any(point.keys() != points[0].keys() for point in points):
        raise UsageError("the points have not all the same parameters, or there is none; write the same in each")
    return points


def _values(points: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: list(dict.fromkeys(point[name] for point in points)) for name in points[0]}


def _days(job: Job) -> np.ndarray:
    """Return the sessions of the first series that it has bars of, datetime64[D]."""
    first = job.series[0]
    _, bars = digest_of(job.store, first, job.since, job.until)
    times = arrays.numbers(bars["time"]).astype("datetime64[us]")
    if first.size.daily:
        return np.unique(times.astype("datetime64[D]"))
    ends = [time.astype("datetime64[D]").astype(date) for time in (times[0], times[-1])]
    found = sessions(first.instrument, ends[0], ends[1], first.regular_hours)
    return np.array([session.day for session in found], "datetime64[D]")


def _window(days: np.ndarray, rows: np.ndarray) -> Window:
    return Window(days[rows[0]].astype(date), days[rows[-1]].astype(date))


def _best(
    job: Job, points: Sequence[dict[str, Any]], window: Window, kept: Mapping[str, Trial], rank: str
) -> dict[str, Any]:
    known = {job.key(Point(point, window)): point for point in points}
    order = ranked((kept[key] for key in known), rank)
    if not order:
        error = next((kept[key].error for key in known if kept[key].error), "it is not defined")
        raise StrategyError(f"no point has a {rank.lstrip('-')} from {window.first} to {window.last}: {error}")
    return known[order[0].key]


def _steps(
    job: Job, windows: Sequence[tuple[Window, Window]], chosen: Sequence[dict[str, Any]], trials: Trials
) -> list[Step]:
    keys = [[job.key(Point(point, window)) for window in pair] for point, pair in zip(chosen, windows, strict=True)]
    kept = trials.read((key for pair in keys for key in pair), returns=True)
    for _, key in keys:
        if kept[key].error:
            raise StrategyError(f"the chosen parameters fail in {kept[key].window}: {kept[key].error}")
    rows = zip(windows, chosen, keys, strict=True)
    return [Step(*pair, point, kept[inside], kept[outside]) for pair, point, (inside, outside) in rows]


def _rank_of_returns(given: str) -> str:
    rank = rank_of(given)
    names = [name for name, metric in METRICS.items() if metric.group in _OF_RETURNS]
    if rank.lstrip("-") not in names:
        raise UsageError(f"{rank} cannot be told from returns alone; {there_are(rank, names)}")
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
    risk_free, periods = float(job.asked["risk_free"]), sessions_a_year(job.series[0].instrument)
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
        traded=0.0, costs=0.0, risk_free=risk_free, periods=periods,
    )  # fmt: skip


def _for_json(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float) -> str:
    return "not defined" if math.isnan(value) else f"{value:.2f}"
