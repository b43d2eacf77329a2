"""`write_walk_forward_page`: the steps of a walk-forward on a page, one file that loads nothing from the network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.market.series import few
from backtest.metrics.drawdown import underwater
from backtest.metrics.returns import REASONS, equity_of
from backtest.metrics.table import METRICS
from backtest.report.charts.curves import Band, Curve, Curves, Pane
from backtest.report.rendering import GROUP_TITLES, own_script, rendered, typeset, write_page_beside
from backtest.runs.parameters import in_words

if TYPE_CHECKING:
    from backtest.metrics.measurement import Stats

_OF_STEPS = ("sharpe", "total_return")  # in and out of sample, in the table, after the rank
_OF_RETURNS = ("return", "risk", "drawdown")  # groups of metrics
_ROW = 18  # pixels of a step in the picture of the windows, where there are few
_LOWEST, _MOST_ROWS = 6, 340  # pixels of one where there are many, and of all
_CHOICES = 6  # values of a parameter that have a pane of the usual height


@dataclass(frozen=True, eq=False, slots=True)
class ShownStep:
    """
    A step as a page shows it; windows are their first and last session.

    Attributes:
        params: the chosen parameters; each is None if the test is in cash.
        inside: the in-sample metrics of the chosen parameters.
        outside: their out-of-sample metrics.
    """

    train: tuple[date, date]
    test: tuple[date, date]
    params: Mapping[str, Any]
    cash: bool
    inside: Mapping[str, float]
    outside: Mapping[str, float]
    sessions: np.ndarray  # of the test, datetime64[D]
    returns: np.ndarray  # of each of these


@dataclass(frozen=True, eq=False)
class ShownWalkForward:
    """
    A walk-forward as a page shows it.

    Attributes:
        name: the strategy's own name.
        values: the values from which each parameter was chosen.
        rank: the metric by which parameters were chosen; with "-" in front the lowest is the best.
        stats: the metrics of the out-of-sample returns, one test after the other.
        efficiency: the walk-forward efficiency, NaN if undefined.
        drift: the mean move of each parameter per step, as a fraction of the range of its values.
    """

    name: str
    series: Sequence[str]
    currency: str
    steps: Sequence[ShownStep]
    values: Mapping[str, Sequence[Any]]
    rank: str
    anchored: bool
    cash: float
    unit: str
    stats: Stats
    efficiency: float
    drift: Mapping[str, float]
    summary: str


def write_walk_forward_page(found: ShownWalkForward, folder: Path) -> Path:
    """
    Write the page of a walk-forward into a folder as index.html, and return its path.

    Raises:
        UsageError: the folder cannot be written, or holds a run.
    """
    return write_page_beside(walk_forward_page(found), folder, "the walk-forward's")


def walk_forward_page(found: ShownWalkForward) -> str:
    """Return the page of a walk-forward, HTML."""
    return rendered(
        "walk_forward.html",
        {
            "name": found.name,
            "series": few(list(found.series)),
            "summary": typeset(found.summary),
            "cards": list(_cards(found)),
            "curves": _curves(found),
            "curves_id": "out-of-sample",
            "rank": METRICS[found.rank.lstrip("-")].label,
            "lowest": found.rank.startswith("-"),
            "anchored": found.anchored,
            "params": list(found.values),
            "heads": [METRICS[name].label for name in _of_steps(found)],
            "rows": list(_rows(found)),
            "drift": [(name, f"{share:.2f}", len(found.values[name])) for name, share in found.drift.items()],
            "groups": list(_groups(found)),
            "basis": found.stats.basis,
            "script": own_script("parts.js", "curves.js", "table.js"),
        },
    )


def _cards(found: ShownWalkForward) -> Iterator[dict[str, str]]:
    steps = len(found.steps)
    for name in ("total_return", "sharpe", "max_drawdown"):
        yield {"label": METRICS[name].label, "text": typeset(found.stats.text(name)), "note": "out of sample"}
    reason = getattr(found.efficiency, "reason", "") if math.isnan(found.efficiency) else ""
    yield {
        "label": "Walk-forward efficiency",
        "text": "–" if math.isnan(found.efficiency) else typeset(f"{found.efficiency:.2f}"),
        "note": REASONS.get(reason, reason) or "mean out-of-sample / in-sample return",
    }
    gained = sum(step.outside["total_return"] > 0 for step in found.steps)
    yield {"label": "Steps that gained", "text": f"{gained:,} of {steps:,}", "note": "out of sample"}
    stayed = sum(
        dict(before.params) == dict(after.params) for before, after in zip(found.steps, found.steps[1:], strict=False)
    )
    yield {
        "label": "Same parameters again",
        "text": f"{stayed:,} of {steps - 1:,}" if steps > 1 else "–",
        "note": "steps with the parameters of the previous step",
    }


def _curves(found: ShownWalkForward) -> Curves:
    days = np.concatenate([step.sessions for step in found.steps])
    equity = equity_of(np.concatenate([step.returns for step in found.steps]), found.cash)
    first, last = days[0], days[-1]
    words = (
        f"Equity of {found.name} out of sample from {first} to {last}, its drawdown, the windows of "
        f"{len(found.steps)} steps, and the parameters that were chosen, on one time axis."
    )
    panes = [
        Pane(f"Equity out of sample, {found.currency}", "money", [Curve("", equity[1:])], 220),
        Pane("Drawdown", "percent", [Curve("", underwater(equity)[1:], "loss")], 80),
        _windows(found),
        *(_parameter(found, name, values) for name, values in found.values.items() if len(values) > 1),
    ]
    return Curves(words, days, panes)


def _windows(found: ShownWalkForward) -> Pane:
    """Return the windows of all steps, a row each, the first on top."""
    bands = []
    for row, step in enumerate(found.steps):
        chosen = "cash" if step.cash else ", ".join(f"{name}={in_words(one)}" for name, one in step.params.items())
        result = METRICS["total_return"].text(step.outside["total_return"])
        inside, outside = (METRICS["sharpe"].text(one["sharpe"]) for one in (step.inside, step.outside))
        kind = "gained" if step.outside["total_return"] > 0 else "lost"
        told = f"{step.train[0]} to {step.train[1]}: chose {chosen}, Sharpe ratio {inside}"
        bands.append(Band(row, *step.train, "learnt", f"chose {chosen}", typeset(f"In sample, {told}")))
        told = f"{step.test[0]} to {step.test[1]}: {result}, Sharpe ratio {outside}"
        bands.append(Band(row, *step.test, kind, typeset(result), typeset(f"Out of sample, {told}")))
    height = max(min(_ROW * len(found.steps), _MOST_ROWS), _LOWEST * len(found.steps))
    return Pane(
        "Windows: in sample grey; out of sample blue where it gained, orange where it lost", "", (), height, bands
    )


def _parameter(found: ShownWalkForward, name: str, values: Sequence[Any]) -> Pane:
    """Return the values of a parameter that the steps chose, in order, by the sessions of the tests."""
    order = _in_order(values)
    places = [math.nan if step.cash else float(order.index(step.params[name])) for step in found.steps]
    own = np.concatenate([np.full(len(step.sessions), place) for step, place in zip(found.steps, places, strict=True)])
    height = 70 if len(order) <= _CHOICES else 110
    return Pane(name, "choice", [Curve("", own, "run", 0, True)], height, (), [in_words(value) for value in order])


def _in_order(values: Sequence[Any]) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:
        return list(values)


def _of_steps(found: ShownWalkForward) -> list[str]:
    return list(dict.fromkeys([found.rank.lstrip("-"), *_OF_STEPS]))


def _rows(found: ShownWalkForward) -> Iterator[dict[str, Any]]:
    for step in found.steps:
        texts = [[typeset(METRICS[name].text(one[name])) for one in (step.inside, step.outside)] for name in _OF_STEPS]
        yield {
            "train": f"{step.train[0]} to {step.train[1]}",
            "test": f"{step.test[0]} to {step.test[1]}",
            "params": ["cash" if step.cash else in_words(one) for one in step.params.values()],
            "texts": [text for pair in texts for text in pair],
        }


def _groups(found: ShownWalkForward) -> Iterator[dict[str, Any]]:
    known = [metric for metric in found.stats.rows.values() if metric.group in _OF_RETURNS]  # there is no benchmark
    rows = sorted(known, key=lambda metric: _OF_RETURNS.index(metric.group))
    for group, metrics in groupby(rows, key=lambda metric: metric.group):
        own = [
            {
                "name": metric.name,
                "label": metric.label,
                "text": typeset(found.stats.text(metric.name)),
                "definition": metric.definition,
            }
            for metric in metrics
        ]
        yield {"title": GROUP_TITLES[group], "metrics": own}
