"""`write_sweep_page`: the trials of a sweep on a page, one file that loads nothing from the network."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.market.series import few
from backtest.metrics.account import hold, hold_name, session_ends
from backtest.metrics.returns import REASONS
from backtest.metrics.sharpe_tests import BLOCKS
from backtest.metrics.table import METRICS
from backtest.report.charts.chart_view import ChartView
from backtest.report.charts.curves import Curve, Curves, Pane
from backtest.report.charts.packing import rounded
from backtest.report.figures import svg
from backtest.report.rendering import json_in_page, own_script, rendered, shown_verdict, typeset, write_page_beside
from backtest.runs.parameters import distinct, form_of, in_words, words_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from backtest.metrics.measurement import Measured
    from backtest.validity.verdict import Verdict

_SHOWN = (
    "total_return", "cagr", "volatility", "sharpe", "sortino", "max_drawdown", "calmar", "exposure", "turnover",
    "trades", "win_rate", "profit_factor", "costs",
)  # fmt: skip  # metrics of each trial, beside the one it is ranked by
_BESIDE = ("total_return", "sharpe", "max_drawdown", "trades")  # in tables, after the rank
_SHORT = {"total_return": "Return", "sharpe": "Sharpe", "max_drawdown": "Drawdown", "cagr": "CAGR"}  # narrow columns
_MOST = 20_000  # trials on the page: the best ones, where there are more
_ROWS = 2_000  # of them in the table
_POINTS = 400  # of the equity of a trial, at most
_MOST_POINTS = 400_000  # of all of them
_FEWEST_POINTS = 60  # of one: where there are more trials, the best have some
_FROM = 100.0  # the amount whose growth is drawn
_FAILED = 20  # errors that are shown


@dataclass(frozen=True, eq=False, slots=True)
class ShownTrial:
    """
    A trial as a page shows it.

    Attributes:
        params: the values of the parameters that vary.
        metrics: its metrics, NaN if undefined; empty if it failed.
        returns: its returns in the sessions of the sweep; empty if unknown.
    """

    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    error: str = ""
    returns: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, eq=False)
class ShownSweep:
    """
    A sweep as a page shows it.

    Attributes:
        trials: all trials; a position refers to this list.
        order: the positions of those that have a rank, the best first.
        rank: a name in METRICS; with "-" in front the lowest is the best.
        best_run: the run of the best trial.
        best_page: the relative link to its page; "" if there is none.
        recorded: how many trials count against the best one: all ever run in the folder.
        luck: the annual Sharpe ratio that the best of so many trials is expected to have by luck alone; NaN for one
            trial.
        picture: a figure for print, and for pages without scripts.
        asked: the settings, as rows of a label and a text.
    """

    trials: Sequence[ShownTrial]
    order: Sequence[int]
    rank: str
    best_run: Measured
    best_page: str
    recorded: int
    deflated_sharpe: float
    luck: float
    overfitting: float
    verdict: Verdict
    picture: Canvas
    asked: Sequence[tuple[str, str]]

    @property
    def best(self) -> int:
        """The position of the best trial."""
        return self.order[0]

    @property
    def rank_metric(self) -> str:
        """The name of the metric that ranks the trials."""
        return self.rank.lstrip("-")

    @cached_property
    def values(self) -> dict[str, list[Any]]:
        """The values of each parameter that varies, sorted if possible; those of the first if none varies."""
        every = {name: _in_order(trial.params[name] for trial in self.trials) for name in self.trials[0].params}
        return {name: values for name, values in every.items() if len(values) > 1} or dict(list(every.items())[:1])

    @cached_property
    def steps(self) -> np.ndarray:
        """The position of each trial's parameters among their values, shape (trials, parameters)."""
        places = [{_key(value): place for place, value in enumerate(values)} for values in self.values.values()]
        rows = [
            [known[_key(trial.params[name])] for name, known in zip(self.values, places, strict=True)]
            for trial in self.trials
        ]
        return np.array(rows, int).reshape(len(self.trials), len(self.values))

    def neighbours(self, place: int) -> list[int]:
        """Return the ranked trials at most one step away in each parameter, the best first."""
        near = (np.abs(self.steps - self.steps[place]) <= 1).all(axis=1)
        return [other for other in self.order if near[other] and other != place]

    def words(self, place: int) -> str:
        """Return the parameters of a trial that vary, as text for people."""
        return words_of({name: self.trials[place].params[name] for name in self.values})


def write_sweep_page(sweep: ShownSweep, folder: Path) -> Path:
    """
    Write the page of a sweep into a folder as index.html, and return its path.

    Raises:
        UsageError: the folder cannot be written, or holds a run.
    """
    return write_page_beside(sweep_page(sweep), folder, "that of the sweep")


def sweep_view(sweep: ShownSweep) -> ChartView:
    """Return the page of a sweep for a notebook."""
    run = sweep.best_run
    return ChartView(f"the trials of {run.spec.name} on {few(run.series)}", sweep_page(sweep))


def sweep_page(sweep: ShownSweep) -> str:
    """Return the page of a sweep, HTML."""
    run, shown = sweep.best_run, _columns(sweep)
    (curves, step), picture = _equity(sweep), svg(sweep.picture)
    return rendered(
        "sweep.html",
        {
            "name": run.spec.name,
            "series": few(run.series),
            "count": len(sweep.trials),
            "failed": [(words_of(trial.params), trial.error) for trial in sweep.trials if trial.error],
            "most_failed": _FAILED,
            "best": sweep.words(sweep.best),
            "best_page": sweep.best_page,
            "kept": words_of(_kept_params(sweep)),
            "verdict": shown_verdict(sweep.verdict),
            "rank": METRICS[sweep.rank_metric],
            "cards": list(_cards(sweep)),
            "recorded": sweep.recorded,
            "luck": typeset(METRICS["sharpe"].text(sweep.luck)),
            "deflated": typeset(_probability(sweep.deflated_sharpe)),
            "pbo": "–" if math.isnan(sweep.overfitting) else typeset(f"{sweep.overfitting:.0%}".replace("%", " %")),
            "why_no_pbo": _why(sweep.overfitting),
            "why_no_deflated": _why(sweep.deflated_sharpe),
            "blocks": BLOCKS,
            "halves": math.comb(BLOCKS, BLOCKS // 2),
            "stability": stability(sweep),
            "about": json_in_page(_about(sweep)),
            "curves": curves,
            "step": step,
            "curves_id": "equity",
            "hold_name": hold_name(run),
            "figure": {"title": "Map", "alt": stability(sweep), "wide": picture, "narrow": picture},
            "columns": [(METRICS[name].label, name) for name in shown],
            "varied": list(sweep.values),
            "rows": list(_rows(sweep)),
            "most_rows": _ROWS,
            "asked": sweep.asked,
            "script": own_script("parts.js", "curves.js", "sweep.js", "table.js"),
            "basis": run.stats.basis,
        },
    )


def stability(sweep: ShownSweep) -> str:
    """Return a sentence about the results of the best trial's neighbours."""
    metric, near = METRICS[sweep.rank_metric], sweep.neighbours(sweep.best)
    if not near:
        return "No neighbour of the best trial was tried: no other trial has each parameter at most one step away."
    values = [sweep.trials[place].metrics[metric.name] for place in near]
    lowest, highest, middle = (metric.text(one) for one in (min(values), max(values), median(values)))
    best = metric.text(sweep.trials[sweep.best].metrics[metric.name])
    if len(near) == 1:
        whose, have = "The one neighbour", f"has {metric.label} {middle}"
    else:
        whose, have = f"The {len(near)} neighbours", f"have {metric.label} from {lowest} to {highest}, median {middle}"
    told = f"{whose} of the best trial, each parameter at most one step away, {have}; the best trial has {best}."
    return typeset(told)


def _in_order(values: Any) -> list[Any]:
    found = distinct(values)
    try:
        return sorted(found)
    except TypeError:
        return found


def _key(value: Any) -> str:
    return json.dumps(form_of([value]), sort_keys=True)


def _columns(sweep: ShownSweep) -> list[str]:
    return list(dict.fromkeys([sweep.rank_metric, *_BESIDE]))


def _cards(sweep: ShownSweep) -> Iterator[dict[str, str]]:
    metric, best, near = METRICS[sweep.rank_metric], sweep.trials[sweep.best], sweep.neighbours(sweep.best)
    ranked = [sweep.trials[place].metrics[metric.name] for place in sweep.order]
    yield {
        "label": f"{metric.label} of the best",
        "text": typeset(metric.text(best.metrics[metric.name])),
        "note": f"median of all {typeset(metric.text(median(ranked)))}",
    }
    middle = [sweep.trials[place].metrics[metric.name] for place in near]
    yield {
        "label": f"{metric.label} of its neighbours",
        "text": typeset(metric.text(median(middle) if middle else math.nan)),
        "note": f"median of {len(near)}" if near else "not tried",
    }
    yield {
        "label": "Deflated Sharpe ratio",
        "text": _probability(sweep.deflated_sharpe),
        "note": f"counting {sweep.recorded:,} trials",
    }
    yield {
        "label": "Probability of overfitting",
        "text": _probability(sweep.overfitting),
        "note": _why(sweep.overfitting) or "PBO of choosing the best trial",
    }


def _probability(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _why(value: float) -> str:
    reason = getattr(value, "reason", "") if math.isnan(value) else ""
    return REASONS.get(reason, reason)


def _shown_places(sweep: ShownSweep) -> list[int]:
    """Return the trials on the page: all, or the best if there are too many."""
    if len(sweep.trials) <= _MOST:
        return list(range(len(sweep.trials)))
    return sorted(sweep.order[:_MOST])


def _about(sweep: ShownSweep) -> dict[str, Any]:
    """Return what `templates/scripts/sweep.js` takes, as plain data."""
    names = list(dict.fromkeys([*_SHOWN, sweep.rank_metric]))
    places = _shown_places(sweep)
    new = {place: number for number, place in enumerate(places)}
    return {
        "varied": [{"name": name, "values": list(map(in_words, values))} for name, values in sweep.values.items()],
        "metrics": [_metric(name, sweep.best_run.currency) for name in names],
        "rank": names.index(sweep.rank_metric),
        "beside": [names.index(name) for name in _BESIDE],
        "best": new[sweep.best],
        "order": [new[place] for place in sweep.order if place in new],
        "trials": [_trial(sweep, place, names) for place in places],
        "lines": [
            _line(f"best, {sweep.words(sweep.best)}", f"trial.{new[sweep.best]}", "loss", 1),
            *([_line(f"buy and hold {hold_name(sweep.best_run)}", "hold", "hold", 2)] if _held(sweep) else []),
        ],
    }  # fmt: skip


def _line(name: str, column: str, colour: str, dash: int) -> dict[str, Any]:
    return {"name": name, "column": column, "colour": colour, "dash": dash}


def _kept_params(sweep: ShownSweep) -> dict[str, Any]:
    return {name: one for name, one in sweep.best_run.spec.params.items() if name not in sweep.trials[0].params}


def _metric(name: str, currency: str) -> dict[str, Any]:
    metric = METRICS[name]
    sample = metric.text(0.0).removesuffix(" %")  # "0", "0.00" or "0.000"
    unit = "%" if metric.unit == "%" else ""
    return {
        "name": name,
        "label": f"{metric.label}, {currency}" if metric.unit == "money" else metric.label,
        "short": _SHORT.get(name, metric.label),
        "unit": unit,
        "scale": 100 if unit else 1,
        "digits": len(sample.partition(".")[2]),
    }


def _trial(sweep: ShownSweep, place: int, names: Sequence[str]) -> dict[str, Any]:
    trial = sweep.trials[place]
    numbers = [trial.metrics.get(name, math.nan) for name in names]
    about: dict[str, Any] = {
        "places": sweep.steps[place].tolist(),
        "numbers": [float(f"{one:.9g}") if math.isfinite(one) else None for one in numbers],
        "texts": [typeset(METRICS[name].text(one)) for name, one in zip(names, numbers, strict=True)],
    }
    return {**about, "error": trial.error} if trial.error else about


def _rows(sweep: ShownSweep) -> Iterator[dict[str, Any]]:
    shown, new = _columns(sweep), {place: number for number, place in enumerate(_shown_places(sweep))}
    for rank, place in enumerate(sweep.order[:_ROWS], 1):
        trial = sweep.trials[place]
        yield {
            "place": new[place],
            "rank": f"{rank:,}",
            "params": [in_words(trial.params[name]) for name in sweep.values],
            "metrics": [typeset(METRICS[name].text(trial.metrics[name])) for name in shown],
        }


def _held(sweep: ShownSweep) -> bool:
    return not sweep.best_run.account.held_since and bool((hold(sweep.best_run) > 0).all())


def _equity(sweep: ShownSweep) -> tuple[Curves, int]:
    """Return the growth of 100 in each trial, at every n-th session, and n; the last session is always included."""
    run = sweep.best_run
    days, count = run.account.days, len(run.account.days)
    most = max(_MOST_POINTS // max(len(sweep.order), 1), _FEWEST_POINTS)
    step = -(-count // min(most, _POINTS))
    rows = np.arange(count - 1, -1, -step)[::-1]
    more, left = {}, _MOST_POINTS
    new = {place: number for number, place in enumerate(_shown_places(sweep))}
    for place in sweep.order:
        returns = sweep.trials[place].returns
        if len(returns) == count and left > 0:
            more[f"trial.{new[place]}"] = rounded(_FROM * np.cumprod(1 + returns)[rows], 2)
            left -= len(rows)
    if _held(sweep):
        more["hold"] = rounded(_FROM / run.spec.cash * hold(run)[session_ends(run.record)][rows], 2)
    words = f"Growth of {_FROM:.0f} in the selected trial and in the best one, from {days[0]} to {days[-1]}."
    best = Curve("best", _FROM * np.cumprod(1 + run.account.returns)[rows])
    return Curves(words, days[rows], [Pane(f"Growth of {_FROM:.0f}", "money", [best], 240)], more), step
