"""
`walk_forward`: choose parameters on some sessions, and test them on later ones that the choice did not see.

Each window is a separate run: it begins with cash alone, and the bars before it only warm up its indicators.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from backtest import _arguments
from backtest._notebook import html_lines, html_table, progress_bar
from backtest.api import RunResult, takes_frames
from backtest.engine.account.dividends import kept_dividends
from backtest.engine.account.margin.tables import with_kept_account
from backtest.engine.code.strategy import Strategy, load_strategy, names_of_texts, typed_values
from backtest.errors import BadStore, DamagedStore, StrategyError, UsageError, unsaved
from backtest.market import arrays
from backtest.market.periods import Periods
from backtest.market.series import Series
from backtest.market.session_days import session_days
from backtest.market.span import Sessions, Span
from backtest.metrics.measurement import Stats, measured
from backtest.metrics.returns import Undefined, equity_of
from backtest.metrics.table import METRICS
from backtest.report.gallery import thinned_line
from backtest.research.out_of_sample.folds import session_count, walk_forward_folds
from backtest.research.out_of_sample.steps import KEPT_STEP, Step, kept_step, read_steps
from backtest.research.out_of_sample.window import Window
from backtest.research.search import grid as grids
from backtest.research.search.compiled import engines_of
from backtest.research.search.grid import Condition, Grid
from backtest.research.search.job import Job, Point, cash_of, digest_of, job_of
from backtest.research.search.sweeps import Sweep, Tell, check_ways, complete, folder_of, rank_of, ranked
from backtest.research.search.trials import Trial, Trials
from backtest.runs.currencies import base_currency
from backtest.runs.parameters import distinct, form_of, in_words, read_params
from backtest.runs.spec import RunOptions, takes_run_options, with_kept_universe
from backtest.store.documents import ANYTHING, NUMBER, TEXT, TRUTH, keyed, list_of, mapped, one_of, read_document
from backtest.store.reader import Reader, hours_in
from backtest.store.replacement import replace_file

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from backtest.report.charts.chart_view import ChartView
    from backtest.report.walk_forward_page import ShownWalkForward


@dataclass(frozen=True)
class WalkForward:
    """The outcome of a walk-forward: parameters chosen repeatedly, each time on past sessions only."""

    steps: list[Step]
    values: dict[str, list[Any]]  # that each parameter was chosen from
    rank: str
    anchored: bool
    cash: float
    risk_free: float
    periods: float  # sessions per year
    unit: str = "sessions"  # see `Periods`
    whose: str = ""
    strategy: str = ""
    series: tuple[str, ...] = ()
    currency: str = ""  # of the account
    folder: Path = field(default=Path(), compare=False)  # where it is kept, below that of its trials

    @classmethod
    def load(cls, folder: str | Path) -> WalkForward:
        """
        Return the walk-forward saved in a folder.

        Raises:
            BadStore: there is none, or it was changed after it was written.
        """
        folder = _arguments.path(folder, "folder")
        path = folder / DOCUMENT
        try:
            kept = read_document(path, _SHAPE)
            steps = read_steps(kept["steps"], Trials(folder.parent))
            values = {name: list(own) for name, own in read_params(kept["values"]).items()}
            rank, series = rank_of(kept["rank"]), tuple(Series.parse(key).key for key in kept["series"])
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BadStore(
                f"{folder} holds no walk-forward ({DOCUMENT} is not there); make one: backtest validate ... "
                "--walk-forward TRAIN/TEST"
            ) from error
        except (OSError, DamagedStore, UsageError, ValueError) as error:
            where = "" if str(path) in str(error) else f"{path}: "
            raise BadStore(f"{where}{error}; run the walk-forward again") from error
        plain = {name: kept[name] for name in _PLAIN}
        return cls(**plain | {"steps": steps, "values": values, "rank": rank, "series": series, "folder": folder})

    def report(self, folder: str | Path = "") -> Path:
        """
        Write the page of the walk-forward, and return its path.

        Args:
            folder: for the page. Default: that of the walk-forward.

        Raises:
            UsageError: the folder holds a run, or cannot be written.
        """
        from backtest.report.walk_forward_page import write_walk_forward_page

        place = self.folder if folder == "" else _arguments.path(folder, "folder")
        return write_walk_forward_page(self._shown(), place)

    def explore(self) -> ChartView:
        """Return the page of the walk-forward for a notebook: equity out of sample, windows, parameter drift."""
        from backtest.report.charts.chart_view import ChartView
        from backtest.report.walk_forward_page import walk_forward_page

        return ChartView(f"the walk-forward of {self.strategy}", walk_forward_page(self._shown()))

    def _shown(self) -> ShownWalkForward:
        """Return the walk-forward as a page shows it."""
        from backtest.report.walk_forward_page import ShownStep, ShownWalkForward

        steps = [
            ShownStep(
                (step.train.first, step.train.last), (step.test.first, step.test.last), step.params, step.cash,
                step.inside.metrics, step.outside.metrics, step.outside.sessions, step.outside.returns,
            )
            for step in self.steps
        ]  # fmt: skip
        series = [Series.parse(key).short for key in self.series]
        return ShownWalkForward(
            self.strategy, series, self.currency, steps, self.values, self.rank, self.anchored, self.cash, self.unit,
            self.stats, self.efficiency, self.drift, self.summary,
        )  # fmt: skip

    def _keep(self) -> None:
        """
        Write it into its folder, with the summary that lists show.

        Raises:
            UsageError: the folder cannot be written.
        """
        plain = {name: getattr(self, name) for name in _PLAIN}
        document = {
            "format": FORMAT,
            **plain,
            "series": list(self.series),
            "values": {name: form_of(values) for name, values in self.values.items()},
            "steps": list(map(kept_step, self.steps)),
            "headline": {name: json_value(self.stats[name]) for name in _HEADLINE},
            "equity": thinned_line(equity_of(self.returns, self.cash)).tolist(),
        }
        try:
            text = json.dumps(document, indent=1, allow_nan=False)
            replace_file(self.folder / DOCUMENT, f"{text}\n".encode(), folders=True)
        except OSError as error:
            raise unsaved("walk-forward", self.folder, error) from error

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
        return measured(returns, self.risk_free, Periods(self.periods, self.unit, self.whose))

    @cached_property
    def made_by(self) -> str:
        """Which engine ran the trials, and why, in a line; "" if they were few, or saved before."""
        return ""

    @property
    def efficiency(self) -> float:
        """
        The mean out-of-sample return per session over the in-sample one; undefined if nothing was earned in sample.

        1 means as good as in sample; below 0.5 is a common sign of overfitting.

        Source: Pardo (2008), "The Evaluation and Optimization of Trading Strategies", annual returns compared.
        """
        inside = float(np.concatenate([step.inside.returns for step in self.steps]).mean())
        return float(self.returns.mean()) / inside if inside > 0 else Undefined("nothing earned in sample")

    @property
    def drift(self) -> dict[str, float]:
        """The mean move of each parameter per step: 0 means none, 1 from one end of its values to the other."""
        return {name: self._drift(name, values) for name, values in self.values.items() if len(values) > 1}

    def to_frame(self) -> pd.DataFrame:
        """Return a row per step: windows, parameters, Sharpe ratio and return in sample and out of sample."""
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
        """The outcome, in a few sentences."""
        drift = ", ".join(f"{name} {share:.2f}" for name, share in self.drift.items()) or "nothing was chosen"
        return (
            f"{'Anchored' if self.anchored else 'Rolling'} walk-forward, {len(self.steps)} steps, "
            f"{len(self.returns):,} {self.unit} out of sample: return {self.stats.text('total_return')}, "
            f"Sharpe ratio {self.stats.text('sharpe')}, efficiency {_number(self.efficiency)}. "
            f"Parameter drift per step (1 is from one end of the grid to the other): {drift}.{self._in_cash}"
        )

    @property
    def _in_cash(self) -> str:
        count = sum(step.cash for step in self.steps)
        return f" Steps in cash, because no parameters traded in sample: {count:,}." if count else ""

    def to_dict(self) -> dict[str, Any]:
        """Return all values as JSON types: None where a number is not defined."""
        return {
            "anchored": self.anchored,
            "steps": [{name: json_value(value) for name, value in row.items()} for row in self.rows],
            "efficiency": json_value(self.efficiency),
            "drift": self.drift,
            "stats": self.stats.to_dict(),
        }

    def __repr__(self) -> str:
        return self.summary

    def _repr_html_(self) -> str:
        shown = ("sharpe", "total_return")
        numbers = [f"{METRICS[name].label}, {where}" for where in ("in sample", "out of sample") for name in shown]
        heads = ["In-sample window", "Out-of-sample window", *self.values, *numbers]
        rows = [
            [
                str(step.train), str(step.test), *map(in_words, step.params.values()),
                *(METRICS[name].text(trial.metrics[name]) for trial in (step.inside, step.outside) for name in shown),
            ]
            for step in self.steps
        ]  # fmt: skip
        return html_table(heads, rows) + html_lines(self.summary)

    def _drift(self, name: str, values: list[Any]) -> float:
        places = [values.index(step.params[name]) for step in self.steps if not step.cash]
        return float(np.abs(np.diff(places)).mean() / (len(values) - 1)) if len(places) > 1 else 0.0


DOCUMENT = "walk_forward.json"
FORMAT = 1
_PLAIN = ("strategy", "currency", "rank", "anchored", "cash", "risk_free", "periods", "unit", "whose")
_SHAPE = keyed(
    {
        "format": one_of(FORMAT),
        **dict.fromkeys(("strategy", "currency", "rank", "unit", "whose"), TEXT),
        **dict.fromkeys(("cash", "risk_free", "periods"), NUMBER),
        "anchored": TRUTH,
        "series": list_of(TEXT),
        "values": mapped(list_of(ANYTHING)),
        "steps": list_of(KEPT_STEP),
        "headline": ANYTHING,  # what a list shows; computed again from the steps
        "equity": ANYTHING,
    }
)
_HEADLINE = ("total_return", "cagr", "sharpe", "max_drawdown")


@takes_frames
@takes_run_options
def walk_forward(
    strategy: str | Path | type[Any],
    series: Series | str | Iterable[Series | str] | Mapping[str, Any] | pd.DataFrame | pa.Table,
    grid: Grid | Mapping[str, Any] | Sequence[dict[str, Any]] | Sequence[str] | str,
    *,
    train: int | str,
    test: int | str,
    store: Reader | str | Path | None = None,
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
    engine: str = "",
    tz: str = "",
    **asked: Unpack[RunOptions],
) -> WalkForward:
    """
    Choose the best parameters in one window, test them in the next, and move on until the bars end.

    If no parameters traded in a window, the next one stays in cash.

    Args:
        grid: see `sweep`; or a list of points.
        train: in-sample sessions: 504, or "2y", "6m", "3w" of 252, 21 and 5 sessions each in New York.
        test: out-of-sample sessions.
        anchored: start every in-sample window at the first session, instead of `train` sessions before its end.
        purge: the number of sessions dropped between the two.
        folder: for the trials, which count as in `sweep`; the walk-forward itself is saved in a subfolder.

    The other arguments and the errors are those of `sweep`.
    """
    rank, jobs = rank_of(rank), _arguments.whole(jobs, "jobs", 1)
    anchored = _arguments.truth(anchored, "anchored")
    check_ways(executor, tell)
    engines = engines_of(engine, rank)
    loaded = load_strategy(strategy)
    points = points_of(loaded, grid, where, random, seed)
    dates: dict[str, Any] = {"span": span, "start": start, "end": end}
    job = job_of(loaded, series, store=store, params=params, swept=values_of(points), **dates, **asked)
    yearly, days = job.yearly, days_with_bars(job)
    given = {"train": train, "test": test, "purge": purge}
    train, test, purge = (session_count(one, name, yearly.count) for name, one in given.items())
    folds = walk_forward_folds(len(days), train, test, anchored=anchored, purge=purge)
    windows = [(window_of(days, fold.train), window_of(days, fold.test)) for fold in folds]
    trials = Trials(folder_of(folder, job))
    inside = [Point(point, window) for window, _ in windows for point in points]
    with progress_bar(tell, "trials") as told:
        kept = complete(job, inside, trials, executor=executor, jobs=jobs, tell=told, engines=engines)
    chosen = [_best(job, points, window, kept, rank) for window, _ in windows]
    outside = [Point(point, window) for point, (_, window) in zip(chosen, windows, strict=True) if point is not None]
    complete(job, outside, trials, executor=executor, jobs=jobs, engines=engines)
    into = f"walk-forward-{train}-{test}{f'-purge-{purge}' if purge else ''}{'-anchored' if anchored else ''}"
    finished = WalkForward(
        _steps(job, windows, points, chosen, trials), values_of(points), rank, anchored, float(job.asked["cash"]),
        float(job.asked["risk_free"]), yearly.count, yearly.unit, yearly.whose, job.name.rpartition(":")[2],
        tuple(one.key for one in job.series), base_currency(job.series, job.brokerage.currency),
        trials.folder.parent / into,
    )  # fmt: skip
    vars(finished)["made_by"] = engines.words
    finished._keep()
    return finished


def walk_forward_again(
    tried: Sweep | RunResult, train: int | str, test: int | str, *, grid: Grid, where: Condition | None, **more: Any
) -> WalkForward:
    """
    Return the walk-forward of a sweep's points, by its rank, or of a saved run's strategy.

    Args:
        grid: the grid to choose from, if it is not empty; otherwise the points of the sweep, or the run's parameters
            alone.
        more: further arguments of `walk_forward`.
    """
    asked = request_of(tried, grid, where)
    return walk_forward(train=train, test=test, **asked, **more)


def request_of(tried: Sweep | RunResult, grid: Grid, where: Condition | None) -> dict[str, Any]:
    """Return the settings of a sweep or a run, with the points to choose from."""
    if isinstance(tried, Sweep):
        asked = tried.asked
        known = {"strategy": tried.strategy, "rank": asked["rank"], **asked["asked"]}
        if known.get("universe"):
            kept = with_kept_universe(tried.best_run.spec.brokerage, tried.best_run.manifest)
            known["universe"] = kept.universe
        series, params = asked["series"], read_params(asked["params"])
        span: Sessions = (_date(asked["since"]), _date(asked["until"]))
        points = [{name: trial.params[name] for name in asked["grid"]} for trial in tried.trials]
    else:
        spec = tried.spec
        if spec.rates:
            raise UsageError(
                f"{spec.name} was run with a risk-free return per session, but trials need an annual rate; run it "
                "with an annual rate first"
            )
        account = {"cash": spec.cash, "benchmark": spec.benchmark, "risk_free": spec.risk_free, "periods": spec.periods}
        brokerage = with_kept_account(kept_dividends(spec, tried.manifest), tried.manifest)
        known = {"strategy": spec.strategy, "brokerage": brokerage, **account}
        series, span, params, points = list(spec.series), _sessions_in(spec.span), spec.params, [{}]
    if grid:
        params, points = {name: value for name, value in params.items() if name not in grid}, grids.points(grid, where)
    return {**known, "series": series, "span": span, "params": params, "grid": points}


def _date(text: str) -> date | None:
    return date.fromisoformat(text) if text else None


def _sessions_in(span: Span | Sessions) -> Sessions:
    if not isinstance(span, Span):
        return span
    return span.start.date(), (span.end - timedelta(microseconds=1)).date()  # the end itself is not in the span


def points_of(strategy: Strategy, grid: Any, where: Any, random: int, seed: int) -> list[dict[str, Any]]:
    """Return the points of a grid, all or a random sample; a list of points unchanged."""
    condition, draws = grids.condition_given(where), _arguments.whole(random, "random")
    seed, words = _arguments.seed_of(seed), isinstance(grid, str | Mapping)
    given = grid if words else _arguments.several(grid, "the grid", "write values by name, or a list of points")
    if words or (given and all(isinstance(one, str) for one in given)):
        values = typed_values(strategy, grids.grid_given(given, names_of_texts(strategy)))
        return grids.points(values, condition, draws, seed)
    points = [_arguments.mapping(one, "a point", 'write, for example, {"fast": 10, "slow": 50}') for one in given]
    if not points or any(point.keys() != points[0].keys() for point in points):
        raise UsageError("the points do not all have the same parameters, or there are none; give each the same")
    every = typed_values(strategy, {name: [point[name] for point in points] for name in points[0]})
    return [{name: values[number] for name, values in every.items()} for number in range(len(points))]


def values_of(points: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return the values of each parameter in the points."""
    return {name: distinct(point[name] for point in points) for name in points[0]}


def days_with_bars(job: Job) -> np.ndarray:
    """Return the sessions with bars, among those that measure a run, datetime64[D]."""
    return np.unique(np.concatenate([_days_of(job, series) for series in job.clocks]))


def _days_of(job: Job, series: Series) -> np.ndarray:
    _, bars = digest_of(job.store, series, job.since, job.until)
    return session_days(arrays.numbers(bars["time"]).astype("datetime64[us]"), series, hours_in(job.store, series))


def window_of(days: np.ndarray, rows: np.ndarray) -> Window:
    """Return the window from the first to the last of some rows of days."""
    return Window(days[rows[0]].astype(date), days[rows[-1]].astype(date))


def _best(
    job: Job, points: Sequence[dict[str, Any]], window: Window, kept: Mapping[str, Trial], rank: str
) -> dict[str, Any] | None:
    """Return the best point in a window; None if none traded, so that none can be chosen."""
    known = {job.key(Point(point, window)): point for point in points}
    if not any(kept[key].error or _traded(kept[key]) for key in known):
        return None
    order = ranked((kept[key] for key in known), rank)
    if not order:
        error = next((kept[key].error for key in known if kept[key].error), "it is not defined")
        raise StrategyError(
            f"no point has a value for {rank.lstrip('-')} from {window.first} to {window.last}: {error}"
        )
    return known[order[0].key]


def _traded(trial: Trial) -> bool:
    return any(trial.metrics[name] > 0 for name in ("turnover", "trades", "open_trades"))


def _steps(
    job: Job,
    windows: Sequence[tuple[Window, Window]],
    points: Sequence[dict[str, Any]],
    chosen: Sequence[dict[str, Any] | None],
    trials: Trials,
) -> list[Step]:
    keys = [
        [job.key(Point(points[0] if point is None else point, window)) for window in pair[: 1 if point is None else 2]]
        for point, pair in zip(chosen, windows, strict=True)
    ]
    kept = trials.read((key for pair in keys for key in pair), returns=True)
    for _, *after in keys:
        for key in after:
            if kept[key].error:
                raise StrategyError(f"the chosen parameters fail in {kept[key].window}: {kept[key].error}")
    return [
        Step(*pair, dict.fromkeys(points[0]), kept[inside], cash_of(job, pair[1]), cash=True)
        if point is None
        else Step(*pair, point, kept[inside], kept[after[0]])
        for pair, point, (inside, *after) in zip(windows, chosen, keys, strict=True)
    ]


def json_value(value: Any) -> Any:
    """Return a value for JSON: None for a number that is not finite, a parameter in its stored form."""
    return None if isinstance(value, float) and not math.isfinite(value) else form_of(value)


def _number(value: float) -> str:
    return "not defined" if math.isnan(value) else f"{value:.2f}"
