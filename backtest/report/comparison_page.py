"""`write_comparison`: runs side by side on a page, one file that loads nothing from the network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest import _arguments
from backtest.errors import unsaved
from backtest.metrics.drawdown import underwater
from backtest.metrics.table import METRICS
from backtest.report.charts.curves import Curve, Curves, Pane, look_of
from backtest.report.figures import NARROW, WIDE, draw_growth, svg
from backtest.report.rendering import GROUP_TITLES, own_script, rendered, typeset
from backtest.runs.parameters import in_words
from backtest.runs.record import refuse_another
from backtest.store.replacement import replace_file

if TYPE_CHECKING:
    from backtest.validity.comparison import Comparison

_WIDTH = 220  # pixels of the picture of an interval
_FROM = 100.0  # the amount whose growth is drawn
_COMPARED = ("return", "risk", "drawdown")  # groups of metrics that are defined for some of a run's sessions


def write_comparison(found: Comparison, folder: str | Path, *, force: bool = False) -> Path:
    """
    Write the page of runs side by side into a folder as index.html, and return its path.

    Args:
        force: whether to replace the page of a run in the folder.

    Raises:
        UsageError: the folder holds a run, or cannot be written.
    """
    from backtest.validity.comparison import Comparison

    _arguments.instance(found, "the comparison", Comparison, "write what compare() returns")
    folder = _arguments.path(folder, "folder")
    refuse_another(folder, None, _arguments.truth(force, "force"))
    text = comparison_page(found)
    try:
        replace_file(folder / "index.html", text.encode(), folders=True)
    except OSError as error:
        raise unsaved("comparison", folder, error) from error
    return folder / "index.html"


def comparison_page(found: Comparison) -> str:
    """Return the page of runs side by side, HTML."""
    return rendered("comparison.html", _comparison(found))


def _comparison(found: Comparison) -> dict[str, Any]:
    differ = any(one.differ for one in found.differences)
    names = {group: [name for name, metric in METRICS.items() if metric.group == group] for group in _COMPARED}
    return {
        "runs": found.runs,
        "asked": _asked(found),
        "tests": list(_tests(found)),
        "verdict": {
            "words": "At least one differs significantly." if differ else "No significant difference.",
            "reasons": [typeset(str(one)) for one in found.differences],
            "good": differ,
        },
        "basis": found.basis,
        "figure": _growth(found),
        "curves": _curves(found),
        "curves_id": "curves",
        "script": own_script("parts.js", "curves.js"),
        "groups": [
            {"title": GROUP_TITLES[group], "metrics": [_compared(found, name) for name in own]}
            for group, own in names.items()
        ],
    }


def _asked(found: Comparison) -> list[tuple[str, list[str]]]:
    """Return a row per run: its strategy and series, and the settings in which it differs from others."""
    described = [["strategy", "series"], *(words[:2] for words in found.descriptions)]
    rows = [(head, list(words)) for head, *words in zip(*described, strict=True)]
    params = [{name: in_words(one) for name, one in told.params.items()} for told in found.told_apart]
    others = [dict(told.others) for told in found.told_apart]
    for every in (params, others):
        for name in dict.fromkeys(name for own in every for name in own):
            rows.append((name, [own.get(name, "–") for own in every]))
    return rows


def _tests(found: Comparison) -> Iterator[dict[str, str]]:
    """Yield the test of each run but the first: its difference in numbers, and as a picture of the interval."""
    text = METRICS["sharpe"].text
    known = [end for one in found.differences for end in (one.low, one.high) if math.isfinite(end)]
    low, high = min([0.0, *known]), max([0.0, *known])
    for one in found.differences:
        known_ends = math.isfinite(one.low) and math.isfinite(one.high)
        yield {
            "run": one.run,
            "difference": typeset(text(one.sharpe)),
            "low": typeset(text(one.low)),
            "high": typeset(text(one.high)),
            "p": _probability(one.p),
            "words": "significant" if one.differ else "not significant" if known_ends else "no test",
            "picture": _interval(one.low, one.sharpe, one.high, low, high) if known_ends else "",
        }


def _probability(p: float) -> str:
    text = METRICS["probabilistic_sharpe"].text(p)
    return "<0.001" if text == "0.000" else text


def _interval(low: float, middle: float, high: float, least: float, most: float) -> str:
    """Return an interval with its middle beside a line at 0, as an SVG element."""

    def across(value: float) -> str:
        return f"{8 + (_WIDTH - 16) * (value - least) / ((most - least) or 1.0):.1f}"

    return (
        f'<svg class="interval" width="{_WIDTH}" height="20" viewBox="0 0 {_WIDTH} 20" aria-hidden="true">'
        f'<line class="zero" x1="{across(0)}" x2="{across(0)}" y1="1" y2="19"/>'
        f'<line x1="{across(low)}" x2="{across(high)}" y1="10" y2="10"/>'
        f'<circle cx="{across(middle)}" cy="10" r="4"/></svg>'
    )


def _curves(found: Comparison) -> Curves:
    """Return the growth of 100 in each run, its drawdown, and its lead over the first run, on one axis."""
    growth = _FROM * np.cumprod(1 + found.returns, axis=1)
    looks = [look_of(place) for place in range(len(found.runs))]
    named = list(zip(found.runs, growth, looks, strict=True))
    worth = [np.append(_FROM, one) for one in growth]
    falls = [underwater(one)[1:] for one in worth]
    first, last = found.days[0], found.days[-1]
    words = (
        f"Growth of {_FROM:.0f} in {len(found.runs)} runs from {first} to {last}, how far each was below its peak, "
        f"and how far the others were ahead of {found.runs[0]}, on one time axis."
    )
    panes = [
        Pane(f"Growth of {_FROM:.0f}", "money", [Curve(name, one, **look) for name, one, look in named], 260),
        Pane("Drawdown", "percent", [Curve("", one, **look) for one, look in zip(falls, looks, strict=True)], 110),
        Pane(
            f"Ahead of {found.runs[0]}", "percent",
            [Curve(name, one / growth[0] - 1, **look) for name, one, look in named[1:]], 110,
        ),
    ]  # fmt: skip
    return Curves(words, found.days, panes)


def _compared(found: Comparison, name: str) -> dict[str, Any]:
    texts = [typeset(stats.text(name)) for stats in found.stats]
    return {"name": name, "label": METRICS[name].label, "definition": METRICS[name].definition, "texts": texts}


def _growth(found: Comparison) -> dict[str, str]:
    wide, narrow = (svg(draw_growth(found.runs, found.days, found.returns, width)) for width in (WIDE, NARROW))
    money = 100 * np.prod(1 + found.returns, axis=1)
    ends = [f"{end:,.0f} in {run}" for run, end in zip(found.runs, money, strict=True)]
    return {"title": "Growth", "alt": f"What 100 became: {'; '.join(ends)}.", "wide": wide, "narrow": narrow}
