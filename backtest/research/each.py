"""`run_each`: one strategy on each of many series separately; save every run, and return a table."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from backtest import _arguments
from backtest._notebook import html_lines, html_table, progress_bar
from backtest._suggest import did_you_mean
from backtest.api import RunResult, check_asked, run, takes_frames
from backtest.engine.code.parcels import sent_by_value
from backtest.engine.code.strategy import Strategy, load_strategy, parameters, typed_things
from backtest.engine.compiled.loop import Loop
from backtest.engine.execution import borrow_rules_of, check_borrowed
from backtest.engine.provenance import describe_code
from backtest.errors import BacktestError, BrokenPin, UsageError
from backtest.market.series import Series, several_series
from backtest.metrics.measurement import Stats
from backtest.metrics.table import METRICS
from backtest.research.search.executors import Work, each
from backtest.research.search.job import project_of, sendable, store_with_whole_path
from backtest.research.search.sweeps import SweepProgress, Tell, check_ways
from backtest.runs.spec import RunOptions, brokerage_of, takes_run_options
from backtest.store.reader import Reader

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SHOWN = ("total_return", "cagr", "volatility", "sharpe", "max_drawdown", "trades")  # in the table
_SECONDS = 0.5  # after which a task gives back what it has done


@dataclass(frozen=True)
class SeriesRun:
    """
    The run on one series.

    Attributes:
        series: its short spelling.
        folder: where the run is saved; None if it failed.
        error: why it failed, "" if it did not.
        exit_code: the exit code of the error.
    """

    series: str
    folder: Path | None = None
    stats: Stats | None = None
    error: str = ""
    exit_code: int = 0


@dataclass(frozen=True, repr=False)
class SeriesRuns:
    """The runs of a strategy on each of many series, in the order of the series."""

    name: str  # the strategy's own
    runs: tuple[SeriesRun, ...]

    @cached_property
    def made_by(self) -> str:
        """Which engines ran the series, in a line; "" if there was no choice."""
        return ""

    @property
    def failed(self) -> list[SeriesRun]:
        """The series on which the strategy failed, each with its error."""
        return [one for one in self.runs if one.error]

    @property
    def failures(self) -> list[str]:
        """Why the strategy failed, a line per failed series, which begins with the series."""
        return [_line(one) for one in self.failed]

    def __getitem__(self, series: Series | str) -> RunResult:
        wanted = several_series(series)[0].short
        found = {one.series: one for one in self.runs}
        if wanted not in found:
            raise UsageError(
                f"there is no run on {wanted}; choose from {', '.join(found)}{did_you_mean(wanted, found)}"
            )
        folder = found[wanted].folder
        if folder is None:
            raise UsageError(f"the run on {wanted} failed: {found[wanted].error}")
        return RunResult.load(folder)

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def summary(self) -> str:
        """The number of runs that finished, made money and failed, and their median Sharpe ratio."""
        stats = [one.stats for one in self.runs if one.stats is not None]
        ratios = [one["sharpe"] for one in stats if one["sharpe"] == one["sharpe"]]
        parts = [f"{self.name}: {len(stats):,} of {len(self.runs):,} series ran"]
        if stats:
            parts.append(f"{sum(one['total_return'] > 0 for one in stats):,} profitable")
        if ratios:
            parts.append(f"median Sharpe ratio {METRICS['sharpe'].text(float(np.median(ratios)))}")
        return f"{', '.join(parts)}."

    def rows(self) -> list[list[str]]:
        """Return a row per series, formatted for people: the series, the numbers of SHOWN, and its folder's name."""
        return [
            [
                one.series,
                *(METRICS[name].text(one.stats[name] if one.stats else None) for name in SHOWN),
                one.folder.name if one.folder else "failed",
            ]
            for one in self.runs
        ]

    def to_frame(self) -> pd.DataFrame:
        """Return a row per series with all numbers, in fractions; NaN for a series on which the strategy failed."""
        import pandas as pd

        rows = [dict(one.stats) if one.stats else dict.fromkeys(METRICS, np.nan) for one in self.runs]
        return pd.DataFrame(rows, index=pd.Index([one.series for one in self.runs], name="series"))

    def to_dict(self) -> dict[str, Any]:
        """Return all values as JSON types: None where a number is not defined."""
        made = {one.series: {"folder": str(one.folder), "stats": one.stats.to_dict()} for one in self.runs if one.stats}
        return {"strategy": self.name, "runs": made, "failed": {one.series: one.error for one in self.failed}}

    def __repr__(self) -> str:
        return "\n".join([self.summary, *self.failures])

    def _repr_html_(self) -> str:
        heads = ["Series", *(METRICS[name].label for name in SHOWN), "Saved as"]
        return html_table(heads, self.rows()) + html_lines(self.summary, *self.failures)


def _line(failed: SeriesRun) -> str:
    """Return why the strategy failed on a series, with the series in front, once."""
    return failed.error if failed.error.startswith(f"{failed.series} ") else f"{failed.series}: {failed.error}"


@takes_frames
@takes_run_options
def run_each(
    strategy: str | Path | type[Any],
    series: Series | str | Iterable[Series | str] | Mapping[str, Any] | pd.DataFrame | pa.Table,
    *,
    store: Reader | str | Path | None = None,
    executor: Executor | None = None,
    jobs: int = 1,
    folder: str | Path = "",
    force: bool = False,
    span: Sequence[date | str | None] | None = None,
    start: date | str | None = None,
    end: date | str | None = None,
    params: Mapping[str, Any] | None = None,
    pins: str | Path = "",
    lines: bool = True,
    warm_up: int | str = "",
    engine: str = "",
    tell: Tell | None = None,
    tz: str = "",
    **asked: Unpack[RunOptions],
) -> SeriesRuns:
    """
    Run a strategy on each of many series separately, save every run, and return a table of them.

    Series that fail, or that the store lacks, are reported, and the others still run.

    Args:
        series: series, or their spellings.
        executor: the executor of the runs: any of `concurrent.futures`, or a Dask cluster's
            `client.get_executor()`.
        jobs: number of processes if there is no executor; 1 is this process.
        folder: for the runs, each in a subfolder named after its series. Default: runs/NAME for each.
        force: overwrite other runs in these folders.
        span: first and last session, both included.
        start: the first session, instead of a span.
        end: the last session, included.
        params: the strategy's parameters; the others keep their defaults.
        pins: a file that `backtest pin` made: the run refuses other bars.
        lines: whether to save what Backtrader would plot of indicators and observers.
        warm_up: bars before the first session that only warm up indicators: "auto", or a number.
        engine: the engine of each run, as in `run`.
        tell: called with a `SweepProgress` after each run.
        tz: this and all following arguments are as in `run`; frames instead of series and store also work.

    Raises:
        UsageError: an argument is invalid.
    """
    jobs, force = _arguments.whole(jobs, "jobs", 1), _arguments.truth(force, "force")
    check_ways(executor, tell)
    loaded, wanted = load_strategy(strategy), several_series(series)
    into = None if folder in ("", None) else _arguments.path(folder, "folder")
    if not wanted:
        raise UsageError("no series to run on; name at least one, such as AAPL/1day")
    if len(set(wanted)) < len(wanted):
        raise UsageError(f"a series is named twice in {', '.join(one.short for one in wanted)}; name each once")
    given = parameters(loaded, _arguments.mapping(params, "params", 'write a dict, such as {"fast": 10}'))
    options: dict[str, Any] = dict(asked)
    account = {name: options.pop(name, default) for name, default in _ACCOUNT.items()}
    brokerage = brokerage_of(options.pop("brokerage", None), options)
    check_asked(account["cash"], account["risk_free"], brokerage, account["periods"])
    check_borrowed(brokerage, wanted)
    if brokerage.universe:
        raise UsageError("a universe needs one run on many series, and here each series runs separately; leave it out")
    pinned = _arguments.path(pins, "pins", "write the file of the pins").absolute() if pins else ""
    request: dict[str, Any] = {
        "span": span, "start": start, "end": end, "params": given, "lines": _arguments.truth(lines, "lines"),
        "warm_up": warm_up, "engine": Loop.of(engine).asked, "pins": pinned, "brokerage": brokerage, **account,
    }  # fmt: skip
    common = _Common(
        sendable(loaded), loaded.name, loaded.source, str(Path.cwd()), store_with_whole_path(store), request,
        typed_things(loaded, given.values()),
    )  # fmt: skip
    work = Work(_made_on, common, project_of(loaded), lambda one: one.short)
    kept: dict[str, SeriesRun] = {}
    made_by: Counter[str] = Counter()
    sent, began = sent_by_value(loaded.cls) and (jobs > 1 or executor is not None), time.monotonic()
    with progress_bar(tell, "runs") as told:
        for one in (one for batch in each(work, wanted, executor, jobs) for one in batch):
            if sent and one.result is not None:  # which lacks there what says where its code comes from
                one.result.manifest.update(describe_code(loaded, one.result.spec.params))
            if one.result is not None:
                made_by[one.result.made_by] += 1
            kept[one.series] = _kept(one, into, force)
            if told is not None:
                told(_progress(kept.values(), len(wanted), time.monotonic() - began))
    found = SeriesRuns(loaded.name.rpartition(":")[2], tuple(kept[one.short] for one in wanted))
    vars(found)["made_by"] = _words(made_by)
    return found


def _words(made_by: Mapping[str, int]) -> str:
    """Return a line on the engines of the runs, with the number of runs for each; "" if all used the event engine."""
    if not any(made_by):
        return ""
    return "; ".join(f"{words or 'event engine'}: {count:,} runs" for words, count in sorted(made_by.items()))


_ACCOUNT = {"cash": 100_000.0, "benchmark": "", "risk_free": 0.0, "periods": 0.0}


@dataclass(frozen=True)
class _Common:
    """What all runs have in common."""

    strategy: str | type[Any]
    name: str
    source: str
    root: str
    store: Reader
    request: dict[str, Any]  # what else `run` takes
    typed: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Made:
    """The outcome of one series, where it was made."""

    series: str
    result: RunResult | None = None
    error: str = ""
    exit_code: int = 0


def _made_on(common: _Common, series: Sequence[Series]) -> list[_Made]:
    """Return the outcomes of the first series: as many as half a second allows, but at least one."""
    began, found, strategy = time.monotonic(), list[_Made](), _loaded(common)
    for one in series:
        found.append(_run_on(common, strategy, one))
        if time.monotonic() - began > _SECONDS:
            break
    return found


def _loaded(common: _Common) -> Strategy:
    strategy = load_strategy(common.strategy, common.root)
    if isinstance(common.strategy, str) and strategy.source != common.source:
        raise BrokenPin(f"{common.strategy} differs from the one that was given; give each worker the same")
    return replace(strategy, name=common.name, typed=common.typed)


def _run_on(common: _Common, strategy: Strategy, series: Series) -> _Made:
    try:
        brokerage = common.request["brokerage"]
        own = replace(brokerage, borrow=borrow_rules_of(brokerage, series))
        result = run(strategy, series, store=common.store, **{**common.request, "brokerage": own})
        _ = result.stats  # computed here, and taken along
        return _Made(series.short, result)
    except BacktestError as error:
        return _Made(series.short, error=str(error), exit_code=error.exit_code)


def _kept(made: _Made, folder: Path | None, force: bool) -> SeriesRun:
    """Save the run on a series, in a folder named after the series, or in runs/ under its name, and return it."""
    if made.result is None:
        return SeriesRun(made.series, error=made.error, exit_code=made.exit_code)
    label = re.sub(r"[^A-Za-z0-9]+", "-", Series.parse(made.result.spec.series[0]).short_key)
    place = Path("runs") / made.result.name if folder is None else folder / label
    try:
        return SeriesRun(made.series, made.result.save(place, force=force), made.result.stats)
    except BacktestError as error:
        return SeriesRun(made.series, error=str(error), exit_code=error.exit_code)


def _progress(kept: Collection[SeriesRun], total: int, seconds: float) -> SweepProgress:
    failed = sum(bool(one.error) for one in kept)
    return SweepProgress(len(kept), total, 0, failed, seconds, seconds / len(kept) * (total - len(kept)))
