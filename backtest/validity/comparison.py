"""`compare`: runs side by side on their common sessions, and whether their Sharpe ratios differ."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest import _arguments
from backtest._notebook import html_lines, html_table
from backtest.errors import UsageError
from backtest.market.periods import Periods
from backtest.market.series import Series, few
from backtest.metrics.account import Account, session_ends
from backtest.metrics.benchmark import common_places, compounded, periods_at
from backtest.metrics.measurement import Measured, Stats, measured
from backtest.metrics.returns import Undefined, excess_returns, long_run_variance_of_sum, why_no_deviation
from backtest.metrics.sharpe_tests import CONFIDENCE, sharpe_influence
from backtest.metrics.table import METRICS
from backtest.runs.differences import Difference, differences, seen_of
from backtest.runs.kept import locate
from backtest.runs.record import RunRecord
from backtest.runs.spec import RunSpec
from backtest.validity.bootstrap import SAMPLES, block_length, block_rows, block_variance

if TYPE_CHECKING:
    import pandas as pd

_GROUPS = ("return", "risk", "drawdown")  # metrics that are defined for some of a run's sessions
_KEY = re.compile(r"(?<=.)-[0-9a-f]{10}$")  # at the end of a run's own name
COLUMNS = ("total_return", "cagr", "volatility", "sharpe", "max_drawdown")  # of the short table


@dataclass(frozen=True, slots=True)
class SharpeTest:
    """The difference of a run's Sharpe ratio from that of the first run, and its p value."""

    run: str
    first: str
    sharpe: float  # annual, this run's minus the first run's
    low: float  # the interval of it, by a studentised bootstrap
    high: float
    p: float  # two-sided, by the same: below 0.05 where 0 is outside the interval
    block: float  # mean length of its blocks of sessions

    def __str__(self) -> str:
        if self.sharpe != self.sharpe:
            return f"{self.run} or {self.first} has no Sharpe ratio in these sessions, so no test is possible."
        if self.p != self.p:
            return f"{self.run} and {self.first} have the same Sharpe ratio in every sample, so no test is possible."
        ends = f"{CONFIDENCE:.0%} CI ".replace("%", " %") + f"{_ratio(self.low)} to {_ratio(self.high)}"
        return (
            f"{self.run}: Sharpe difference from {self.first}: {_ratio(self.sharpe)} ({ends}; p {_equal(self.p)}): "
            f"{'significant' if self.differ else 'not significant'}."
        )

    @property
    def differ(self) -> bool:
        """Whether the ratios differ significantly, at 95 %: 0 is outside the interval."""
        return self.p < 1 - CONFIDENCE


@dataclass(frozen=True, repr=False, eq=False)
class Comparison:
    """Runs side by side: their metrics on their common sessions, and the difference of each from the first."""

    runs: tuple[str, ...]  # what each is called: as its folder where its user named that
    names: tuple[str, ...]  # each one's own
    specs: tuple[RunSpec, ...]
    told_apart: tuple[Difference, ...]  # the settings in which each differs from others of its strategy
    stats: tuple[Stats, ...]
    days: np.ndarray  # the sessions that all runs have, datetime64[D], shape (n,)
    returns: np.ndarray  # of each run in these, shape (runs, n)
    differences: tuple[SharpeTest, ...]  # of every run but the first
    left_out: int  # sessions that some run has and some lacks
    samples: int
    seed: int
    between: int = 0  # of those left out: between sessions that all runs have

    @property
    def basis(self) -> str:
        """What the numbers are based on, and how the differences were tested."""
        left_out = f" {self.left_out:,} sessions that not all runs have were left out." if self.left_out else ""
        if self.between:
            left_out += f" What was earned in {self.between:,} of them is part of the next return."
        alone = " The p values are not adjusted for multiple comparisons." if len(self.differences) > 1 else ""
        converted = any(one.brokerage.currency or one.has_several_currencies for one in self.specs)
        account = f" The accounts are in {self.specs[0].base_currency}." if converted else ""
        return (
            f"{self.stats[0].basis}{account}{left_out} Confidence intervals and p values: studentised stationary "
            f"bootstrap of paired sessions, {self.samples:,} samples, seed {self.seed}.{alone}"
        )

    @property
    def descriptions(self) -> list[list[str]]:
        """The strategy and series of each run, and the settings that differ from other runs of its strategy."""
        return [
            [spec.name, few(_series_of(spec)), told.words]
            for spec, told in zip(self.specs, self.told_apart, strict=True)
        ]

    @property
    def legend(self) -> list[str]:
        """Return one line per run: its name, strategy, series, and how it differs."""
        return [
            f"{run}: {strategy} on {series}{f', {words}' if words else ''}"
            for run, (strategy, series, words) in zip(self.runs, self.descriptions, strict=True)
        ]

    def rows(self) -> list[list[str]]:
        """Return a row per run, formatted for people: name, COLUMNS, difference of the Sharpe ratio, and p."""
        tests = [["", ""], *([_ratio(one.sharpe), _probability(one.p)] for one in self.differences)]
        return [
            [run, *(METRICS[name].text(stats[name]) for name in COLUMNS), *test]
            for run, stats, test in zip(_short(self.runs), self.stats, tests, strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return all values as JSON types: None where a number is not defined."""
        rows = [
            {
                "run": run,
                "name": name,
                "strategy": spec.strategy,
                "series": _series_of(spec),
                "params": spec.flat["params"],
                "differs": told.to_dict(),
                "stats": {name: stats.to_dict()[name] for name in _names()},
            }
            for run, name, spec, told, stats in zip(
                self.runs, self.names, self.specs, self.told_apart, self.stats, strict=True
            )
        ]
        differences = [{key: _known(value) for key, value in asdict(one).items()} for one in self.differences]
        definitions = {name: METRICS[name].definition for name in _names()}
        return {"runs": rows, "differences": differences, "basis": self.basis, "definitions": definitions}

    def to_frame(self) -> pd.DataFrame:
        """Return a column per run and a row per number, in the units that the labels name."""
        import pandas as pd

        labels = [METRICS[name].label for name in _names()]
        columns = [stats.to_frame()["value"] for stats in self.stats]
        rows = [index for index in columns[0].index if index.rpartition(" [")[0] in labels or index in labels]
        return pd.concat([column[rows] for column in columns], axis=1, keys=self.runs)

    def __repr__(self) -> str:
        texts = zip(self.legend, self.stats, strict=True)
        lines = [f"{described}: {self._line(stats)}" for described, stats in texts]
        wrapper = textwrap.TextWrapper(80, subsequent_indent="  ", break_on_hyphens=False)
        return "\n".join(map(wrapper.fill, [*lines, *map(str, self.differences), self.basis]))

    def _line(self, stats: Stats) -> str:
        return ", ".join(f"{METRICS[name].label} {METRICS[name].text(stats[name])}" for name in COLUMNS)

    def _repr_html_(self) -> str:
        labels = [METRICS[name].label for name in COLUMNS]
        rows = [
            [run, *described, *numbers]
            for described, (run, *numbers) in zip(self.descriptions, self.rows(), strict=True)
        ]
        table = html_table(["Run", "Strategy", "Series", "Parameters", *labels, "Sharpe vs first", "p"], rows)
        return table + html_lines(*map(str, self.differences), self.basis)


def compare(results: Iterable[RunRecord | str | Path], samples: int = SAMPLES, seed: int = 0) -> Comparison:
    """
    Compare runs on their common sessions, with a test of each one's Sharpe ratio.

    Equity is sampled at these sessions: a daily and a weekly run are compared week by week, and runs on two calendars
    from one common session to the next.

    The test of each run's difference from the first is a studentised bootstrap of pairs of sessions, in blocks whose
    length fits the dependence of returns and their squares: it allows for autocorrelation, changing volatility and
    fat tails.

    Args:
        results: two or more runs, or the folders of saved runs, or their names in runs/; the others are compared with
            the first.
        samples: number of bootstrap samples.
        seed: random seed of the bootstrap.

    Raises:
        BadStore: a folder holds no run.
        UsageError: an argument is invalid, there are fewer than two runs, they have no common session, different
            risk-free rates, or different periods per year for the same sessions.

    Source: Ledoit and Wolf (2008), "Robust Performance Hypothesis Testing with the Sharpe Ratio"; here with blocks of
    random length, whose mean depends on the data, and the error of `long_run_variance_of_sum`.
    """
    example = "name two or more runs, or the folders of saved runs, such as ['runs/sma', 'runs/ema']"
    runs = [_run_of(one, example) for one in _arguments.several(results, "the runs", example)]
    samples, seed = _arguments.whole(samples, "samples", 1), _arguments.seed_of(seed)
    _check(runs)
    common = CommonSessions.of(runs)
    first, *others = (excess_returns(one, common.rates, common.yearly.count) for one in common.returns)
    rate = common.rates if isinstance(common.rates, float) else common.series(common.rates)
    names = labels_of_runs(runs)
    return Comparison(
        tuple(names),
        tuple(result.name for result in runs),
        tuple(result.spec for result in runs),
        tuple(differences([(result.spec, seen_of(result.manifest)) for result in runs])),
        tuple(measured(common.series(one), rate, common.yearly) for one in common.returns),
        common.days,
        common.returns,
        tuple(
            _difference(name, names[0], own, first, common.yearly.count, samples, seed)
            for name, own in zip(names[1:], others, strict=True)
        ),
        common.left_out,
        samples,
        seed,
        common.between,
    )


@dataclass(frozen=True, eq=False)
class CommonSessions:
    """
    Several runs at the sessions that all of them have.

    Equity is sampled there: the gains of a run in sessions that another lacks are part of its next return. All begin
    with the run that begins last; if its first bar is a week or a month, that counts from its first day.
    """

    days: np.ndarray  # datetime64[D], shape (n,)
    returns: np.ndarray  # shape (runs, n)
    rates: float | np.ndarray  # risk-free, annual or of each session
    yearly: Periods
    left_out: int  # sessions that some run has and some lacks
    between: int  # of those: between the sessions of the comparison
    begins: np.datetime64  # the date from which the first return counts

    @classmethod
    def of(cls, runs: Sequence[Measured]) -> CommonSessions:
        """
        Return the common sessions of runs.

        Raises:
            UsageError: they have no session in common, or differ in their periods per year.
        """
        accounts = [result.account for result in runs]
        every = [account.days for account in accounts]
        begins, union = max(map(_began, accounts)), reduce(np.union1d, every)
        days, places = common_places(every, begins)
        if not len(days):
            raise UsageError(f"{_names_of(runs)} have no session in common; name runs of the same period")
        measure = _measure(runs, places)
        rate = accounts[0].risk_free
        return cls(
            days,
            np.array([compounded(one.returns, own) for one, own in zip(accounts, places, strict=True)]),
            compounded(rate, places[0]) if isinstance(rate, np.ndarray) else rate,
            _yearly(runs[measure], places[measure]),
            len(union) - len(days),
            int(((union >= begins) & (union <= days[-1])).sum()) - len(days),
            begins,
        )

    def rows_of(self, run: Measured) -> np.ndarray:
        """Return the rows of a run's record at the ends of these sessions; before them that where all begin, or -1."""
        own, ends = run.account.days, np.append(-1, session_ends(run.record))
        places = np.append(np.searchsorted(own, self.begins), np.searchsorted(own, self.days) + 1)
        return np.asarray(ends[places])

    def series(self, values: np.ndarray) -> pd.Series:
        """Return values of the sessions with their dates."""
        import pandas as pd

        return pd.Series(values, index=pd.DatetimeIndex(self.days))


def _run_of(given: RunRecord | str | Path, example: str) -> Measured:
    if isinstance(given, RunRecord):
        return Measured.of(given)
    return Measured.load(locate("runs", str(_arguments.path(given, "a run", example))))


def _check(results: Sequence[Measured]) -> None:
    if len(results) < 2:
        raise UsageError(f"{len(results)} run is not enough to compare; name two or more")
    if len(currencies := {result.currency for result in results}) > 1:
        raise UsageError(
            f"the runs are in different currencies ({', '.join(sorted(currencies))}), so that their returns are not "
            "comparable; run them with the same --currency"
        )
    rates = {result.spec.rates[:8] or f"{result.spec.risk_free:g}" for result in results}
    if len(rates) > 1:
        raise _different("risk-free rates", rates)


def _began(account: Account) -> np.datetime64:
    """Return the date from which the first return of a run counts; for a session its own date."""
    first: date = account.days[0].item()
    if account.unit == "weeks":
        first -= timedelta(days=first.weekday())
    return np.datetime64(first.replace(day=1) if account.unit == "months" else first)


def _measure(runs: Sequence[Measured], places: Sequence[np.ndarray]) -> int:
    """
    Return the position of the run whose periods per year count the common sessions: the one with the fewest.

    Of several such runs, it is the one that lacks the fewest sessions.

    Raises:
        UsageError: two runs have equally many sessions, but different periods per year.
    """
    counts = [result.spec.yearly.count for result in runs]
    sessions = [int(own[-1] - own[0]) for own in places]
    found = min(range(len(runs)), key=lambda n: (counts[n], -sessions[n]))
    for count, own in zip(counts, sessions, strict=True):
        if count != counts[found] and abs(own - sessions[found] * count / counts[found]) > _AT_ENDS + _ODD * own:
            yearly = {result.spec.yearly for result in runs}
            units = len({one.unit for one in yearly}) > 1
            words = "periods" if units else next(iter(yearly)).unit
            raise _different(f"{words} per year", {str(one) if units else f"{one.count:g}" for one in yearly})
    return found


_AT_ENDS, _ODD = 3, 0.05  # sessions, and share of them, by which a few months may differ from the mean of many years


def _different(words: str, values: set[str]) -> UsageError:
    return UsageError(
        f"the runs were measured with different {words} ({', '.join(sorted(values))}), so "
        "that their Sharpe ratios are not comparable; run them with the same"
    )


def _yearly(run: Measured, places: np.ndarray) -> Periods:
    """Return how many common sessions make a year, by the run with the fewest."""
    yearly = run.spec.yearly
    count = periods_at(yearly.count, places)
    return yearly if count == yearly.count else replace(yearly, count=count, whose="those that all runs have")


def _names_of(results: Sequence[Measured]) -> str:
    return ", ".join(labels_of_runs(results))


def labels_of_runs(results: Sequence[Measured]) -> list[str]:
    """Return display names of runs; runs with equal ones get their own names, if these differ."""
    labels = [result.label for result in results]
    return [label if labels.count(label) == 1 else result.name for label, result in zip(labels, results, strict=True)]


def _series_of(spec: RunSpec) -> list[str]:
    return [Series.parse(key).short for key in spec.series]


def _difference(
    run: str, first: str, own: np.ndarray, other: np.ndarray, periods: float, samples: int, seed: int
) -> SharpeTest:
    block, yearly = max(block_length(one) for one in (own, other, own**2, other**2)), math.sqrt(periods)
    sharpe, values, squares = _estimated(own, other)
    if sharpe != sharpe or np.ptp(values + squares) < _SAME:
        error = sharpe if sharpe != sharpe else Undefined("constant")
        return SharpeTest(run, first, sharpe * yearly, error, error, error, block)
    error = math.sqrt(long_run_variance_of_sum(values, squares) / len(own))
    distances = np.sort(_distances(own, other, sharpe, block, samples, seed))
    # Davison and Hinkley (1997): what was seen is one of the draws, so that no p is 0.
    p = (1 + np.sum(distances >= abs(sharpe) / error)) / (1 + len(distances))
    place = min(math.ceil(CONFIDENCE * (1 + len(distances))), len(distances)) - 1  # so that p and interval agree
    reach = float(distances[place]) * error if len(distances) else math.nan
    return SharpeTest(
        run, first, sharpe * yearly, (sharpe - reach) * yearly, (sharpe + reach) * yearly, float(p), block
    )


_SAME = 1e-6  # in standardised returns: both ratios are the same in whatever sessions


def _estimated(own: np.ndarray, other: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the difference of the ratios per session, and each session's influence: by means, by deviations."""
    if reason := why_no_deviation(own) or why_no_deviation(other):
        return Undefined(reason), np.zeros(len(own)), np.zeros(len(own))
    first, second = (float(one.mean() / one.std(ddof=1)) for one in (own, other))
    (values, squares), (of_other, squares_of_other) = sharpe_influence(own), sharpe_influence(other)
    return first - second, values - of_other, squares - squares_of_other


def _distances(own: np.ndarray, other: np.ndarray, sharpe: float, block: float, samples: int, seed: int) -> np.ndarray:
    """Return the deviation of each draw's difference from the original, in the draw's own standard errors."""
    random = np.random.default_rng(seed)
    drawn = np.full(samples, np.nan)
    for n in range(samples):
        rows = block_rows(len(own), block, random)
        found, values, squares = _estimated(own[rows], other[rows])
        influence = values + squares
        if found == found and np.ptp(influence) >= _SAME:  # else only sessions without a position were drawn
            drawn[n] = abs(found - sharpe) / math.sqrt(block_variance(influence, rows) / len(rows))
    return np.asarray(drawn[np.isfinite(drawn)])


def _names() -> list[str]:
    return [name for name, metric in METRICS.items() if metric.group in _GROUPS]


def _short(runs: Sequence[str]) -> Sequence[str]:
    """Return the names of runs without the keys at their ends, if they still differ."""
    found = [_KEY.sub("", run) for run in runs]
    return found if len(set(found)) == len(runs) else runs


def _ratio(value: float) -> str:
    return METRICS["sharpe"].text(value)


def _probability(value: float) -> str:
    text = METRICS["probabilistic_sharpe"].text(value)
    return "<0.001" if text == "0.000" else text


def _equal(p: float) -> str:
    text = _probability(p)
    return text if text.startswith("<") else f"= {text}"


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
