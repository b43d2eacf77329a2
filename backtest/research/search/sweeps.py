"""`sweep`: run a strategy with many parameters, save and count every trial, and judge the best one."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from backtest import _arguments
from backtest._notebook import html_lines, html_table, progress_bar
from backtest._resources import bundled
from backtest._suggest import there_are
from backtest._system import is_there
from backtest.api import RunResult, takes_frames
from backtest.engine.code.strategy import load_strategy, names_of_texts, typed_values
from backtest.errors import BadStore, DamagedStore, StrategyError, UsageError, unsaved
from backtest.market.series import Series
from backtest.metrics.returns import Undefined
from backtest.metrics.sharpe_tests import BLOCKS, deflated_sharpe, expected_maximum, overfitting_of
from backtest.metrics.table import METRICS, metric_named
from backtest.research.search import grid as grids
from backtest.research.search.compiled import (
    FEWEST,
    FEWEST_IN_WINDOW,
    BlockJob,
    Engines,
    compiled,
    engines_of,
    made_by_worker,
)
from backtest.research.search.executors import Work, each
from backtest.research.search.grid import Condition, Grid
from backtest.research.search.heatmap import draw_heat_map
from backtest.research.search.job import Job, Point, job_of, result_of, trials_of
from backtest.research.search.optuna_search import ROUND, guided_points
from backtest.research.search.trials import WITHOUT_RETURNS, Trial, Trials
from backtest.runs.parameters import distinct, form_of, in_words, kept_params, read_params, words_of
from backtest.runs.spec import RunOptions, takes_run_options
from backtest.store.documents import ANYTHING, TEXT, WHOLE, Misfit, keyed, list_of, mapped, one_of, read_document
from backtest.store.reader import Reader
from backtest.store.replacement import current, replace_file
from backtest.validity.verdict import Verdict, verdict

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas as pd
    import pyarrow as pa

    from backtest.report.charts.chart_view import ChartView
    from backtest.report.sweep_page import ShownSweep

FORMAT = 1
DOCUMENT = "sweep.json"
SHOWN = ("total_return", "sharpe", "max_drawdown", "trades")  # in tables, after the rank
BEST = "best"  # folder of the best trial's run, in that of the sweep

_log = logging.getLogger(__name__)
_SECONDS = 0.5  # after which blocks of trials are kept together; so much work a kill can lose


@dataclass(frozen=True, slots=True)
class SweepProgress:
    """The progress of a sweep."""

    done: int  # of this sweep, those that were kept already among them
    total: int
    kept: int  # that had been made before
    failed: int
    seconds: float  # since it began
    left: float  # seconds, about; NaN until the first is done


Tell = Callable[[SweepProgress], None]


@takes_frames
@takes_run_options
def sweep(
    strategy: str | Path | type[Any],
    series: Series | str | Iterable[Series | str] | Mapping[str, Any] | pd.DataFrame | pa.Table,
    grid: Grid | Mapping[str, Any] | Iterable[str] | str,
    *,
    store: Reader | str | Path | None = None,
    executor: Executor | None = None,
    jobs: int = 1,
    where: Condition | str | Iterable[str] | None = None,
    random: int = 0,
    optuna: int = 0,
    seed: int = 0,
    rank: str = "sharpe",
    folder: str | Path = "",
    resume: bool = False,
    span: Sequence[date | str | None] | None = None,
    start: date | str | None = None,
    end: date | str | None = None,
    params: Mapping[str, Any] | None = None,
    tell: Tell | None = None,
    engine: str = "",
    tz: str = "",
    **asked: Unpack[RunOptions],
) -> Sweep:
    """
    Run a strategy at each point of a parameter grid, save every trial in a folder, and return them.

    Trials already in the folder, with the same code and bars, are not repeated: after a stop at any moment, the same
    call resumes. The verdict on the best trial counts all trials in the folder.

    Args:
        grid: the values of each parameter that varies, such as {"fast": [5, 10], "slow": "20:60:10"}; or words as on
            the command line, "fast=5:20:5".
        executor: where trials run: any executor of `concurrent.futures`, or a Dask cluster's `client.get_executor()`.
        jobs: number of processes if there is no executor; 1 is this process.
        where: a function of a point's parameters, or "fast<slow", or several such conditions; other points are omitted.
        random: number of grid points to sample at random; 0 for all.
        optuna: number of points for Optuna to suggest, in rounds of 16: the same ones for any number of workers.
        seed: random seed of the sample or of Optuna.
        rank: a name in METRICS, whose highest value is the best; with "-NAME" the lowest is.
        folder: for the trials. Default: runs/STRATEGY-SERIES-sweep.
        resume: refuse to start a sweep that differs from the one in the folder.
        span: first and last session, both included.
        start: the first session, instead of a span.
        end: the last session, included.
        params: values of the parameters that do not vary.
        tell: called with a `SweepProgress` now and then. Default: a progress bar in notebooks.
        engine: "compiled" for all trials at once, or "event" for one after the other, bar by bar. Default: the compiled
            engine runs the trials that it can if there are many, and the event engine runs the rest; the results are
            the same to the last bit. `made_by` of the result says which engine ran, and why.
        tz: this and all that follows is as in `run`; frames instead of series and store also work.

    Raises:
        UsageError: an argument is invalid, or the condition leaves no point of the grid.
        NoBars: the store lacks the bars.
        StrategyError: no trial finished.

    If a process pool of `jobs` loses a worker, it is replaced; if your own executor breaks, it raises its own error.
    Finished trials are saved in either case.
    """
    rank, jobs, seed = rank_of(rank), _arguments.whole(jobs, "jobs"), _arguments.seed_of(seed)
    random, optuna = _arguments.whole(random, "random"), _arguments.whole(optuna, "optuna", -1)
    _check(jobs, random, optuna, _arguments.truth(resume, "resume"))
    check_ways(executor, tell)
    engines = engines_of(engine, rank)
    found = load_strategy(strategy)
    grid = typed_values(found, grids.grid_given(grid, names_of_texts(found)))
    where = grids.condition_given(where)
    drawn = grids.points(grid, where, random or min(optuna, 1), seed)
    dates: dict[str, Any] = {"span": span, "start": start, "end": end}
    job = job_of(found, series, store=store, params=params, swept=grid, **dates, **asked)
    into = folder_of(folder, job)
    trials = Trials(into)
    if optuna:
        with progress_bar(tell, "trials") as told:
            by_rounds = replace(engines, fewest=ROUND)  # whose counts and reasons are the same
            rate = partial(_rates, job, trials, by_rounds, executor, jobs, told)
            drawn = guided_points(grid, where, optuna, seed, rate, rank.startswith("-"))
    points = [Point(params) for params in drawn]
    keys = [job.key(point) for point in points]
    asked_for = _document(job, grid, rank, random, seed, points, keys)
    document = {**asked_for, "file": _seen_from(into, job), "optuna": optuna}
    _refuse_known_by_its_text(into, document)
    if resume:
        _check_same(_asked_in(into), document, into)
    _write(into, document)
    with progress_bar(tell, "trials") as told:
        kept = complete(job, points, trials, executor=executor, jobs=jobs, tell=told, engines=engines)
    done = [kept[key] for key in keys]
    best = _best(done, rank)
    run = result_of(job, points[done.index(best)], lines=True)
    run.save(into / BEST, force=True)
    finished = Sweep(into, json.loads(_text(document)), done, _ratios(kept.values()), run)
    vars(finished)["made_by"] = engines.words
    vars(finished)["_kept"] = trials  # which know what `overfitting` takes of those that were made just now
    return finished


@dataclass(frozen=True)
class Sweep:
    """
    The trials of a sweep, and its best one.

    Attributes:
        asked: the settings: strategy, series, grid, rank, ...
        trials: those of this sweep, in the order of the grid, without returns.
        ratios: the annual Sharpe ratios of all trials in the folder that have one, on any bars and code.
        best_run: the run of the best trial.
    """

    folder: Path
    asked: dict[str, Any]
    trials: list[Trial]
    ratios: np.ndarray
    best_run: RunResult

    @classmethod
    def load(cls, folder: str | Path) -> Sweep:
        """
        Return the sweep in a folder.

        Raises:
            BadStore: there is none, or it was stopped before it finished.
        """
        folder = _arguments.path(folder, "folder")
        asked = _asked_in(folder)
        kept = Trials(folder).read()
        done = [kept[key] for key in asked["keys"] if key in kept]
        if len(done) == len(asked["keys"]) and current(folder / BEST, "spec.json").exists():
            run = RunResult.load(folder / BEST)
            if run.spec.params == _best(done, asked["rank"]).params:  # and not of a sweep before
                return cls(folder, asked, done, _ratios(kept.values()), run)
        raise BadStore(
            f"the sweep in {folder} has {len(done):,} of {len(asked['keys']):,} trials and was stopped before its end; "
            "finish it: backtest sweep ... --resume"
        )

    @property
    def name(self) -> str:
        """The strategy's own name."""
        return str(self.asked["strategy"]).rpartition(":")[2]

    @property
    def strategy(self) -> str:
        """The strategy, as it can be run again from here: the path of its file is relative to the folder."""
        file, _, name = str(self.asked["file"]).rpartition(":")
        return f"{self.folder / file}:{name}" if (self.folder / file).is_file() else str(self.asked["file"])

    @cached_property
    def made_by(self) -> str:
        """Which engine ran the trials, and why, in a line; "" if they were few, or saved before."""
        return ""

    @property
    def best_folder(self) -> Path:
        """The folder of the best trial's run."""
        return self.folder / BEST

    @property
    def varied(self) -> list[str]:
        """The names of the parameters that vary."""
        return list(grids.names(self.asked["grid"])) or list(self.asked["grid"])

    @property
    def ranked(self) -> list[Trial]:
        """The finished trials that have a rank, the best first."""
        return ranked(self.trials, self.asked["rank"])

    @property
    def best(self) -> Trial:
        """The best trial."""
        return self.ranked[0]

    @property
    def failed(self) -> list[Trial]:
        """The trials that failed, each with its error."""
        return [trial for trial in self.trials if trial.error]

    def point(self, trial: Trial) -> dict[str, Any]:
        """Return the parameters of a trial that vary."""
        known = _arguments.instance(trial, "trial", Trial, "write one of .trials")
        return {name: known.params.get(name) for name in self.varied}

    @cached_property
    def deflated_sharpe(self) -> float:
        """The probability that the best trial's true Sharpe ratio is above 0, counting every trial in the folder."""
        run = self.best_run.account
        deviation = float(self.ratios.std(ddof=1)) if len(self.ratios) > 1 else 0.0
        return deflated_sharpe(*run.moments, len(self.ratios), deviation / math.sqrt(run.periods))

    @cached_property
    def overfitting(self) -> float:
        """The probability of backtest overfitting (PBO) of choosing the best of these trials by its Sharpe ratio."""
        kept: Trials = vars(self).get("_kept") or Trials(self.folder)
        made = [trial.key for trial in self.trials if not trial.error]
        blocks = kept.blocks_of(made)
        moving = [blocks[key] for key in made if blocks[key].moves]
        if len(moving) < 2 or moving[0].count < BLOCKS:
            return Undefined("too few")
        if len({one.count for one in moving}) > 1:
            return Undefined("other sessions")
        return overfitting_of(moving)

    @cached_property
    def verdict(self) -> Verdict:
        """The verdict on the best trial, with its reasons."""
        found = verdict(self.best_run, self.ratios.tolist())
        overfits = found.words == "no red flags" and self.overfitting > 0.5
        words = "overfitted: out of sample, the best trial is more often below the median than above"
        return Verdict(words if overfits else found.words, (*found.reasons, *self._more_reasons()))

    def to_frame(self) -> pd.DataFrame:
        """Return a row per trial, the best first: the parameters that vary, then the metrics; failed ones last."""
        import pandas as pd

        ordered = [*self.ranked, *(trial for trial in self.trials if trial not in self.ranked)]
        return pd.DataFrame([{**self.point(trial), **trial.metrics} for trial in ordered])

    def plot(self, *names: str) -> matplotlib.figure.Figure:
        """
        Return the figure of the ranked metric over one parameter or two. Default: the first that vary.

        Raises:
            UsageError: a name does not vary.
        """
        chosen = list(names) or self.varied[:2]
        unknown = [name for name in chosen if not isinstance(name, str) or name not in self.asked["grid"]]
        if unknown or len(chosen) > 2:
            raise UsageError(
                f"{', '.join(map(str, chosen))} cannot be drawn; name one or two of {', '.join(self.varied)}"
            )
        metric = METRICS[self.asked["rank"].lstrip("-")]
        rows = [(trial.params, trial.metrics.get(metric.name, math.nan)) for trial in self.trials]
        scale = 100.0 if metric.unit == "%" else 1.0
        label = f"{metric.label} [{metric.unit}]" if metric.unit else metric.label
        return draw_heat_map([(one, value * scale) for one, value in rows], chosen, label, self.best.params)

    def report(self, folder: str | Path = "", *, store: Reader | str | Path | None = None) -> Path:
        """
        Write the page of the sweep and that of its best trial's run, and return the path of the sweep's page.

        Args:
            folder: for the page. Default: that of the sweep.
            store: where the chart of the best run finds its bars: see `RunResult.report`.

        Raises:
            UsageError: the folder holds a run, or cannot be written.
        """
        from backtest.report.rendering import way_to
        from backtest.report.run_page import write_page
        from backtest.report.sweep_page import write_sweep_page

        place = self.folder if folder == "" else _arguments.path(folder, "folder")
        best = write_page(self.best_run, self.best_folder, store)
        return write_sweep_page(self._shown(way_to(best, place)), place)

    def explore(self) -> ChartView:
        """Return the page of the sweep for a notebook: maps, parallel coordinates, each trial's numbers and equity."""
        from backtest.report.sweep_page import sweep_view

        return sweep_view(self._shown(""))

    def _shown(self, best_page: str) -> ShownSweep:
        """Return the sweep as a page shows it."""
        from backtest.report.sweep_page import ShownSweep, ShownTrial

        kept = Trials(self.folder).read((trial.key for trial in self.trials), returns=True)
        trials = [ShownTrial(self.point(one), one.metrics, one.error, kept[one.key].returns) for one in self.trials]
        places = {id(trial): place for place, trial in enumerate(self.trials)}
        count = len(self.ratios)
        luck = float(self.ratios.std(ddof=1)) * expected_maximum(count) if count > 1 else math.nan
        return ShownSweep(
            trials, [places[id(trial)] for trial in self.ranked], self.asked["rank"], self.best_run, best_page, count,
            self.deflated_sharpe, luck, self.overfitting, self.verdict, self.plot(), list(self._asked_rows()),
        )  # fmt: skip

    def _asked_rows(self) -> Iterator[tuple[str, str]]:
        asked = self.asked
        yield "strategy", str(asked["strategy"])
        yield "series", ", ".join(Series.parse(key).short for key in asked["series"])
        days = self.best_run.account.days
        yield self.best_run.account.unit, f"{len(days):,} from {days[0]} to {days[-1]}"
        yield "grid", "; ".join(f"{name} = {in_words(values)}" for name, values in read_params(asked["grid"]).items())
        if params := read_params(asked["params"]):
            yield "fixed parameters", words_of(params)
        if asked["random"]:
            yield "drawn at random", f"{asked['random']:,} points, seed {asked.get('seed', 0)}"
        if asked.get("optuna"):
            yield "proposed by Optuna", f"{asked['optuna']:,} points, seed {asked.get('seed', 0)}"
        yield "rank", asked["rank"]
        yield from ((name.replace("_", " "), _shown(one)) for name, one in asked["asked"].items() if one != "")
        yield "trials on record", f"{len(self.ratios):,}"

    @property
    def summary(self) -> str:
        """The best trial and its verdict, in three sentences."""
        rank, metric = self.asked["rank"], METRICS[self.asked["rank"].lstrip("-")]
        shown = metric.text(self.best.metrics[metric.name])
        counted = f"{len(self.ratios):,} trial{'s' * (len(self.ratios) != 1)} on record"
        if len(self.trials) > len(self.ratios):
            counted += " with a Sharpe ratio"
        return (
            f"Best of {len(self.trials):,} trials by {rank}: {words_of(self.point(self.best))} with {shown}. "
            f"Deflated Sharpe ratio of total returns {_number(self.deflated_sharpe)}, counting {counted}; "
            f"probability of overfitting {_number(self.overfitting)}. Verdict: {self.verdict.words}."
        )

    def to_dict(self, most: int = 10) -> dict[str, Any]:
        """
        Return all values as JSON types: None where a number is not defined.

        Args:
            most: the number of best trials to return.
        """
        most = _arguments.whole(most, "most")
        return {
            "folder": str(self.folder),
            "asked": {name: value for name, value in self.asked.items() if name != "keys"},
            "trials": len(self.trials),
            "failed": len(self.failed),
            "recorded": len(self.ratios),
            **({"made_by": self.made_by} if self.made_by else {}),
            "best": _row(self, self.best),
            "deflated_sharpe": _or_none(self.deflated_sharpe),
            "pbo": _or_none(self.overfitting),
            "verdict": {"words": self.verdict.words, "reasons": list(self.verdict.reasons)},
            "top": [_row(self, trial) for trial in self.ranked[:most]],
        }

    def __repr__(self) -> str:
        return f"{self.name} on {', '.join(self.best_run.series)}\n{self.summary}"

    def _repr_html_(self) -> str:
        rank = self.asked["rank"].lstrip("-")
        shown = list(dict.fromkeys([rank, *SHOWN]))
        rows = [
            [*map(in_words, self.point(trial).values()), *(METRICS[name].text(trial.metrics[name]) for name in shown)]
            for trial in self.ranked[:10]
        ]
        table = html_table([*self.varied, *(METRICS[name].label for name in shown)], rows)
        return table + html_lines(self.summary, *(f"- {reason}" for reason in self.verdict.reasons))

    def _more_reasons(self) -> list[str]:
        metric = self.asked["rank"].lstrip("-")
        again, first = METRICS[metric].function(self.best_run.account), self.best.metrics[metric]
        reasons = [f"probability of overfitting: {_number(self.overfitting)}"]
        if again != first:
            reasons.append(
                f"two runs gave a {metric} of {first:g} and {again:g}: the strategy uses random numbers without a seed"
            )
        return reasons


def sweep_of(folder: Path) -> Sweep | None:
    """Return the sweep in a folder, or the one whose best trial's run the folder holds; None if there is neither."""
    for place in (folder, folder.parent):
        if (place / DOCUMENT).exists() and (place == folder or folder.name == BEST):
            return Sweep.load(place)
    return None


def complete(
    job: Job,
    points: Sequence[Point],
    trials: Trials,
    *,
    executor: Executor | None = None,
    jobs: int = 1,
    tell: Tell | None = None,
    engines: Engines | None = None,
) -> dict[str, Trial]:
    """Run the trials of points that are not saved yet, save each when it finishes, and return all of them."""
    engines = engines or Engines()
    making = _Making(job, points, trials, tell)
    left = making.left
    if engines.asked != "event" and not engines.over:
        left = making.at_once(left, engines) if executor is None else making.by_workers(left, engines, executor)
    work = Work(trials_of, job, job.project, lambda point: words_of(point.params))
    for batch in each(work, left, executor, jobs):
        making.keep(batch)
        engines.counts["event"] += len(batch)
    return making.known


class _Making:
    """Runs the trials of points, saves them and reports the progress."""

    def __init__(self, job: Job, points: Sequence[Point], trials: Trials, tell: Tell | None) -> None:
        self.known, self._trials, self._tell, self._job = trials.read(), trials, tell, job
        keys = [job.key(point) for point in points]
        self.left = [point for key, point in zip(keys, points, strict=True) if key not in self.known]
        self._total, self._kept, self._began = len(points), len(points) - len(self.left), time.monotonic()
        self._failed, self._made = sum(bool(self.known[key].error) for key in keys if key in self.known), 0

    def keep(self, batch: Sequence[Trial]) -> Path:
        """Save trials, and report them."""
        path = self._trials.add(batch)
        self.known |= {trial.key: replace(trial, **WITHOUT_RETURNS) for trial in batch}
        self._made += len(batch)
        self._failed += sum(bool(trial.error) for trial in batch)
        if self._tell is not None:
            seconds, left = time.monotonic() - self._began, self._total - self._kept - self._made
            done = self._kept + self._made
            self._tell(SweepProgress(done, self._total, self._kept, self._failed, seconds, seconds / self._made * left))
        return path

    def at_once(self, points: Sequence[Point], engines: Engines) -> list[Point]:
        """
        Run the trials that the compiled engine can, and return the remaining points.

        Raises:
            UsageError: the compiled engine was requested but cannot run the strategy.
        """
        left = list[Point]()
        fewest = 1 if engines.asked == "compiled" else engines.fewest
        trusted = bool(engines.counts["compiled"])
        waiting = _Waiting(self, engines)
        try:
            for block in compiled(self._job, points, engines.rank, fewest, trusted=trusted):
                if block.why_not and engines.asked == "compiled" and not block.differs:
                    raise UsageError(f"the trials cannot be compiled: {block.why_not}; leave out --engine compiled")
                engines.why_not.extend(filter(None, [block.why_not]))
                engines.over.extend([block.why_not] if block.over else [])
                left += block.left
                if block.why_not:
                    waiting.keep()
                if block.differs:
                    left += self._distrust(block.why_not, engines, points)
                if block.trials and block.why_not:
                    self.keep(block.trials)
                    engines.counts["event"] += len(block.trials)
                elif block.trials:
                    waiting.add(block.trials, block.backend)
        finally:
            waiting.keep()
        return left

    def by_workers(self, points: Sequence[Point], engines: Engines, executor: Executor) -> list[Point]:
        """
        Let workers run blocks of trials, compiled where possible; return the remaining points.

        Raises:
            UsageError: the compiled engine was requested but cannot run the strategy.
        """
        fewest = 1 if engines.asked == "compiled" else engines.fewest
        if len(points) < (fewest or FEWEST_IN_WINDOW):
            return list(points)
        left, of_key, differs = list[Point](), {self._job.key(point): point for point in points}, False
        asked = BlockJob(self._job, engines.rank, fewest)
        work = Work(made_by_worker, asked, self._job.project, lambda point: words_of(point.params))
        for batch in each(work, points, executor, least=2 * FEWEST):
            for one in [made for made in batch if made.over and not engines.over]:
                if engines.asked == "compiled" and not one.differs:
                    raise UsageError(f"the trials cannot be compiled: {one.why_not}; leave out --engine compiled")
                engines.why_not.append(one.why_not)
                engines.over.append(one.why_not)
            if not differs and any(one.differs for one in batch):
                differs = True
                left += self._distrust(engines.over[-1], engines, points)
            for backend in sorted({one.backend for one in batch}):
                trials = [one.trial for one in batch if one.backend == backend]
                if backend and differs:
                    left += [of_key[trial.key] for trial in trials]
                    continue
                file = self.keep(trials)
                engines.files.extend([file] if backend else [])
                engines.counts["compiled" if backend else "event"] += len(trials)
                engines.backends.extend([backend] if backend else [])
        return left

    def _distrust(self, why: str, engines: Engines, points: Sequence[Point]) -> list[Point]:
        """Discard all trials of the compiled engine, and return the points of those that were saved."""
        _log.warning("%s: all trials are made by the event engine", why)
        left = self._forget(engines.files, points)
        engines.files.clear()
        engines.counts["compiled"] = 0
        return left

    def _forget(self, files: Iterable[Path], points: Iterable[Point]) -> list[Point]:
        """Remove files of discarded trials, and return their points."""
        keys = {key for file in files for key in self._trials.forget(file)}
        self.known = {key: trial for key, trial in self.known.items() if key not in keys}
        self._made -= sum(self._job.key(point) in keys for point in points)
        return [point for point in points if self._job.key(point) in keys]


class _Waiting:
    """Trials of compiled blocks that wait to be saved together: blocks of windows have few trials each."""

    def __init__(self, making: _Making, engines: Engines) -> None:
        self._making, self._engines, self._trials, self._since = making, engines, list[Trial](), time.monotonic()

    def add(self, trials: Sequence[Trial], backend: str) -> None:
        """Add the trials of a block, and save all if the first of them has waited for long."""
        self._trials += trials
        self._engines.counts["compiled"] += len(trials)
        self._engines.backends.append(backend)
        if time.monotonic() - self._since > _SECONDS:
            self.keep()

    def keep(self) -> None:
        """Save the waiting trials."""
        if self._trials:
            self._engines.files.append(self._making.keep(self._trials))
        self._trials, self._since = [], time.monotonic()


def _rates(
    job: Job,
    trials: Trials,
    engines: Engines,
    executor: Executor | None,
    jobs: int,
    tell: Tell | None,
    params: list[dict[str, Any]],
) -> list[float]:
    """Return the rank of each set of parameters, NaN for none; run the trials that are not saved yet."""
    points = [Point(one) for one in params]
    kept = complete(job, points, trials, executor=executor, jobs=jobs, tell=tell, engines=engines)
    return [kept[job.key(point)].metrics.get(engines.rank.lstrip("-"), math.nan) for point in points]


def ranked(trials: Iterable[Trial], rank: str) -> list[Trial]:
    """Return the trials that have a rank, the best first; equal ones keep their order."""
    name, sign = rank.lstrip("-"), -1 if rank.startswith("-") else 1
    known = [trial for trial in trials if not math.isnan(trial.metrics.get(name, math.nan))]
    return sorted(known, key=lambda trial: -sign * trial.metrics[name])


def default_folder(job: Job) -> Path:
    """Return the folder for all trials of a strategy on some series, of any version and grid, so that all count."""
    strategy, first = job.name.rpartition(":")[2], job.series[0].short_key
    more = f"-and-{len(job.series) - 1}-more" if len(job.series) > 1 else ""
    return Path("runs") / (re.sub(r"[^A-Za-z0-9]+", "-", f"{strategy}-{first}") + f"{more}-sweep")


def folder_of(given: str | Path, job: Job) -> Path:
    """
    Return the folder of trials that a caller passed; by default that of the job.

    Raises:
        UsageError: it is not a path.
    """
    return default_folder(job) if given in ("", None) else _arguments.path(given, "folder")


def rank_of(given: str) -> str:
    """
    Return a rank: the name of a metric, or its label; with "-" in front the lowest is the best.

    Raises:
        UsageError: there is no such metric.
    """
    text = _arguments.text(given, "rank", "write the name of a metric, such as sharpe")
    name = text.lstrip("-")
    found = metric_named(name)
    if found is None:
        raise UsageError(f"unknown metric {text!r} to rank by; {there_are(name, METRICS)}")
    return text.removesuffix(name) + found


def check_ways(executor: Executor | None, tell: Tell | None) -> None:
    """Raise UsageError for an invalid executor, or a `tell` that cannot be called."""
    if executor is not None:
        _arguments.instance(executor, "executor", Executor, "write one of concurrent.futures, or leave it out")
    if tell is not None:
        _arguments.function(tell, "tell", "write a function that takes a SweepProgress, or leave it out")


def _check(jobs: int, random: int, optuna: int, resume: bool) -> None:
    if optuna < 0:
        raise UsageError(f"Optuna cannot propose {optuna} points; name 1 or more")
    if optuna and random:
        raise UsageError("random and optuna both choose which grid points to run; leave out one of the two")
    if optuna and resume:
        raise UsageError(
            "resume does not work with optuna; leave it out: the same call, repeated, runs the trials that are not "
            "saved yet"
        )
    if jobs < 1:
        raise UsageError(f"{jobs} processes can do nothing; name 1 or more")


def _document(
    job: Job, grid: Grid, rank: str, random: int, seed: int, points: Sequence[Point], keys: list[str]
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "strategy": job.name,
        "source": job.source,
        "modules": job.modules,
        "series": [one.key for one in job.series],
        "since": job.since.isoformat() if job.since else "",
        "until": job.until.isoformat() if job.until else "",
        "params": kept_params(job.params),
        "asked": job.asked,
        "grid": {name: form_of(distinct(point.params[name] for point in points)) for name in grid},
        "rank": rank,
        "random": random,
        "seed": seed,
        "case": job.case,
        "bars": job.digests,
        "keys": keys,
    }


def _seen_from(folder: Path, job: Job) -> str:
    """Return the path of the strategy's file relative to a folder, so that it contains no user name."""
    if isinstance(job.strategy, type):
        return job.name
    file, _, name = job.strategy.rpartition(":")
    if Path(file).is_relative_to(bundled("strategies").resolve()):
        return f"{Path(file).stem}:{name}"
    near = Path(*Path(file).parts[:2]) == Path(*folder.resolve().parts[:2])  # else it is on another drive, or far off
    return f"{Path(os.path.relpath(file, folder.resolve())).as_posix()}:{name}" if near else job.name


def _refuse_known_by_its_text(folder: Path, now: Mapping[str, Any]) -> None:
    """Raise UsageError if version 0.1.0 saved trials of a class from Python: their keys cover only its own text."""
    before = _asked_in(folder) if is_there(folder / DOCUMENT) else {}
    if "modules" in before or before.get("strategy") != now["strategy"] or now["file"] != now["strategy"]:
        return
    raise UsageError(
        f"the sweep in {folder} was made by version 0.1.0, which identified the class {now['strategy']} by its own "
        "source alone, without the constants, helpers and base classes beside it: its trials may come from other code; "
        "sweep into another folder, or remove this one"
    )


def _check_same(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Raise UsageError if the sweep in a folder has other settings."""
    if before.get("keys") == now["keys"]:
        return
    said = {"source": "the strategy's source", "modules": "the modules it imports", "bars": "the bars"}
    ours, theirs = (
        {name: _as_json(value) for name, value in (one.get("asked") or {}).items()} for one in (now, before)
    )
    differing = sorted(name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name))
    said |= {"asked": ", ".join(name.replace("_", " ") for name in differing), "params": "fixed parameters"}
    names = ["strategy", "series", "since", "until", "params", "asked", "grid", "random", "seed", "source", "bars"]
    names += ["modules"] if "modules" in before else []  # which version 0.1.0 did not keep
    # As JSON keeps them: a tuple is a list there.
    changed = [said.get(name, name) for name in names if _as_json(before.get(name)) != _as_json(now[name])]
    raise UsageError(
        f"the sweep in {folder} has other settings ({', '.join(changed) or 'the condition'}); leave out --resume "
        "to add this one to the folder, so that the trials of both count"
    )


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, default=repr) + "\n"


def _as_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=repr)


_SHAPE = keyed(
    {
        **dict.fromkeys(("strategy", "since", "until", "rank", "case", "file"), TEXT),
        **dict.fromkeys(("params", "asked"), mapped(ANYTHING)),
        "grid": mapped(ANYTHING),
        "format": one_of(FORMAT),
        "series": list_of(TEXT),
        "keys": list_of(TEXT),
        "random": WHOLE,
    },
    {"bars": mapped(TEXT), "modules": mapped(TEXT), "optuna": WHOLE},
    ANYTHING,
)


def _asked_in(folder: Path) -> dict[str, Any]:
    """
    Return the settings of the sweep in a folder.

    Raises:
        BadStore: there is none, or its document was changed after it was written; the text names the key.
    """
    path = folder / DOCUMENT
    try:
        found: dict[str, Any] = read_document(path, keyed({"format": WHOLE}, more=ANYTHING))
        if (number := found["format"]) != FORMAT:
            raise BadStore(f"the sweep in {folder} has format {number}, not {FORMAT}; sweep again")
        _SHAPE(found, "")
        _check_parts(found)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadStore(f"{folder} holds no sweep ({DOCUMENT} is not there); make one: backtest sweep") from error
    except (OSError, DamagedStore, Misfit) as error:
        where = "" if str(path) in str(error) else f"{path}: "
        raise BadStore(f"{where}{error}; it is not a sweep; sweep again into the same folder") from error
    return found


def _check_parts(found: Mapping[str, Any]) -> None:
    for key in ("params", "grid"):
        try:
            read_params(found[key])
        except ValueError as error:
            raise Misfit(f"{key}: {error}") from error
    for key, read, values in (
        ("series", Series.parse, found["series"]),
        ("rank", rank_of, [found["rank"]]),
        ("since and until", date.fromisoformat, filter(None, (found["since"], found["until"]))),
    ):
        for value in values:
            try:
                read(value)
            except (UsageError, ValueError) as error:
                raise Misfit(f"{key} is {value!r:.80}: {error}") from error


def _write(folder: Path, document: dict[str, Any]) -> None:
    try:
        replace_file(folder / DOCUMENT, _text(document).encode(), folders=True)
    except OSError as error:
        raise unsaved("sweep", folder, error) from error


def _best(done: Sequence[Trial], rank: str) -> Trial:
    """Return the best trial; raise StrategyError if none has a rank."""
    order = ranked(done, rank)
    if not order:
        reason = done[0].error or "it is not defined"
        raise StrategyError(
            f"none of the {len(done):,} trials has a value for {rank.lstrip('-')}; first trial: {reason}"
        )
    return order[0]


def _ratios(trials: Iterable[Trial]) -> np.ndarray:
    """Return the Sharpe ratios of trials on all bars; those in a window are parts of a walk-forward."""
    ratios = np.array([trial.metrics.get("sharpe", math.nan) for trial in trials if not trial.window])
    return np.asarray(ratios[np.isfinite(ratios)])


def _row(found: Sweep, trial: Trial) -> dict[str, Any]:
    stats = {name: _or_none(value) for name, value in trial.metrics.items()}
    return {"params": kept_params(found.point(trial)), "stats": stats}


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _shown(value: Any) -> str:
    return f"{value:,.10g}" if isinstance(value, int | float) and not isinstance(value, bool) else in_words(value)


def _number(value: float) -> str:
    return "not defined" if math.isnan(value) else f"{value:.2f}"
