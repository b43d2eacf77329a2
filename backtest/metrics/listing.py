"""Saved runs with their metrics and the settings in which they differ; sorted, and filtered by conditions."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from backtest._suggest import there_are
from backtest.errors import BacktestError, StrategyError, UsageError
from backtest.market.series import Series
from backtest.metrics.measurement import Measured, Stats
from backtest.metrics.table import METRICS, metric_named
from backtest.runs.differences import Difference, differences, seen_of
from backtest.runs.kept import (
    WORDS,
    Kept,
    Labels,
    RunSummary,
    keep_summary,
    labels_of,
    read_summary,
    state_if_kept,
    state_of,
)
from backtest.runs.parameters import in_words
from backtest.runs.spec import RunSpec

_T = TypeVar("_T")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "=": operator.eq,
    "!=": operator.ne,
}  # fmt: skip
_WORDS = ("run", "strategy", "series", "tag", "note", "saved")  # what is known of a run beside numbers and parameters
_EARLIER = "kept"  # what "saved" was called; scripts may still write it
_KNOWN_OF_ALL = ("run", "saved", _EARLIER)  # also of one that cannot be read
_WHERE = "write one such as 'sharpe>1', 'max_drawdown>-0.2', 'fast>=20', 'strategy==SmaCross' or 'tag==best'"


@dataclass(frozen=True)
class Listed:
    """
    A saved run in a list.

    Attributes:
        series: the short spelling of each series.
        seen: digests of its inputs: see `differences.seen_of`.
        difference: its difference from the other runs of its strategy in the list.
        error: why it cannot be read; then it has nothing else.
    """

    kept: Kept
    spec: RunSpec | None = None
    series: tuple[str, ...] = ()
    stats: Stats | None = None
    seen: Mapping[str, str] = field(default_factory=dict)
    labels: Labels = field(default_factory=Labels)
    difference: Difference = field(default_factory=Difference)
    error: str = ""

    @property
    def strategy(self) -> str:
        """The strategy's own name."""
        return self.spec.name if self.spec else ""

    def values(self, name: str) -> list[Any]:
        """Return the run's values under a name: a number, texts, a parameter; none if it has no such name."""
        at = [self.kept.at.isoformat()]
        words: dict[str, list[Any]] = {
            "run": [self.kept.name], "strategy": [self.strategy], "series": list(self.series),
            "tag": list(self.labels.tags), "note": [self.labels.note], "saved": at, _EARLIER: at,
        }  # fmt: skip
        if name in words:
            return words[name]
        if self.spec is not None and name in self.spec.params:
            return [self.spec.params[name]]
        metric = metric_named(name)
        return [self.stats[metric]] if metric and self.stats is not None and metric in self.stats else []


def listed(runs: Iterable[Kept], where: Sequence[str] = (), sort: str = "") -> list[Listed]:
    """
    Return saved runs with their numbers.

    Args:
        where: comparisons of a metric, a parameter, or one of run, strategy, series, tag, note and saved with a value,
            such as "sharpe>1"; only runs that match all of them are returned. A run that cannot be read is excluded
            only by conditions on its name or time, since nothing else is known.
        sort: one of the same names: the highest number first, texts in alphabetical order; "-" in front reverses it.
            Runs without a value come last. If it is empty, the order stays.

    Raises:
        UsageError: a comparison cannot be read, or no run has that name.
    """
    conditions = [_condition(word) for word in where]
    rows = [_row(run) for run in runs]
    _check_names([*(name for name, _, _ in conditions), *([sort.removeprefix("-")] if sort else [])], rows)
    rows = [row for row in rows if all(_may_fulfil(row, *one) for one in conditions)]
    rows = _sorted(rows, sort) if sort else rows
    known = [(row.spec, row.seen) for row in rows if row.spec is not None]
    told = iter(differences(known))
    return [row if row.spec is None else replace(row, difference=next(told)) for row in rows]


def _row(run: Kept) -> Listed:
    try:
        summary = read_summary(run.folder, run.state) or _summary_made_again(run.folder)
        return Listed(run, summary.spec, summary.series, _stats_in(summary), summary.seen, _labels(run, summary))
    except BacktestError as error:
        return Listed(run, error=str(error))


def run_summary_of(result: Measured) -> RunSummary:
    """
    Return the summary of a run for lists.

    Raises:
        StrategyError: its metrics cannot be computed: see `measure`.
    """
    stats = result.stats
    words = {name: getattr(stats, name) for name in WORDS}
    numbers = {name: value for name, value in stats.items() if name in METRICS}
    reasons = {name: reason for name, reason in stats.reasons.items() if name in numbers}
    seen = seen_of(result.manifest)
    return RunSummary(result.name, result.spec, tuple(result.series), seen, numbers, reasons, words, stats.notes)


def keep_summary_of(result: Measured, folder: Path) -> None:
    """Write the summary of a run beside it; a run whose metrics cannot be computed has none."""
    with suppress(StrategyError):
        keep_summary(run_summary_of(result), folder, state_if_kept(result, folder))


def _stats_in(summary: RunSummary) -> Stats:
    conventions, extent, currency, unit = (summary.words[name] for name in WORDS)
    numbers, reasons = _in_order(summary.numbers), _in_order(summary.reasons)
    return Stats(numbers, conventions, extent, currency, reasons, unit, summary.notes)


def _in_order(said: Mapping[str, _T]) -> dict[str, _T]:
    """Return what is said by the names of metrics in their order, which a summary does not keep."""
    return {name: said[name] for name in METRICS if name in said}


def _summary_made_again(folder: Path) -> RunSummary:
    before = state_of(folder)
    summary = run_summary_of(Measured.load(folder))
    if state_of(folder) == before:  # else it was replaced meanwhile
        keep_summary(summary, folder, before)
    return summary


def _labels(run: Kept, summary: RunSummary) -> Labels:
    return labels_of(summary, run.folder) if run.has_labels else Labels()


def _condition(word: str) -> tuple[str, str, str]:
    found = re.fullmatch(r"\s*([\w.-]+?)\s*(<=|>=|==|!=|=|<|>)\s*(.*?)\s*", word)
    if not found:
        raise UsageError(f"--where {word!r} is not a valid comparison; {_WHERE}")
    name, sign, value = found.groups()
    if metric_named(name) and _number(value) is None:
        raise UsageError(f"--where {word!r} compares the number {name} with {value!r}; {_WHERE}")
    return name, sign, value


def _check_names(names: Iterable[str], rows: Sequence[Listed]) -> None:
    params = {name for row in rows if row.spec for name in row.spec.params}
    for name in names:
        if name not in (*_WORDS, _EARLIER) and name not in params and metric_named(name) is None:
            known = [*_WORDS, *sorted(params), *METRICS]
            raise UsageError(f"no run here has {name!r}; {there_are(name, known)}")


def _may_fulfil(row: Listed, name: str, sign: str, wanted: str) -> bool:
    if row.spec is None and name not in _KNOWN_OF_ALL:
        return True
    values = list(_spellings(name, row.values(name)))
    if sign == "!=":
        return bool(values) and not any(_compared(value, "==", wanted) for value in values)
    return any(_compared(value, sign, wanted) for value in values)


def _spellings(name: str, values: Sequence[Any]) -> Iterator[Any]:
    """Yield values as they may be written in a condition: a series also by its symbol."""
    for value in values:
        yield value
        if name == "series":
            yield Series.parse(value).instrument.symbol


def _compared(value: Any, sign: str, wanted: str) -> bool:
    number = _number(wanted)
    if isinstance(value, int | float) and not isinstance(value, bool) and number is not None:
        return _COMPARISONS[sign](value, number)
    return _COMPARISONS[sign](in_words(value).casefold(), wanted.casefold())


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _sorted(rows: Sequence[Listed], sort: str) -> list[Listed]:
    name, turned = sort.removeprefix("-"), sort.startswith("-")
    values = {row.kept.name: _sortable(row, name) for row in rows}
    known = [row for row in rows if values[row.kept.name] is not None]
    numbers = all(isinstance(values[row.kept.name], int | float) for row in known)
    newest = numbers or name in ("saved", _EARLIER)

    def key(row: Listed) -> Any:
        value = values[row.kept.name]
        return value if numbers else in_words(value).casefold()

    ordered = sorted(known, key=key, reverse=newest != turned)
    return [*ordered, *(row for row in rows if values[row.kept.name] is None)]


def _sortable(row: Listed, name: str) -> Any:
    values = row.values(name) if row.spec is not None or name in _KNOWN_OF_ALL else []
    value = values[0] if values else None
    return None if isinstance(value, float) and math.isnan(value) else value
