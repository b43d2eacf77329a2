"""`write_comparison`: runs side by side on a page, one file that asks the network for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest import _arguments
from backtest.errors import UsageError
from backtest.metrics.table import METRICS
from backtest.report.figures import NARROW, WIDE, draw_growth, svg
from backtest.report.rendering import GROUP_TITLES, rendered, typeset
from backtest.runs.record import refuse_another
from backtest.store.replacement import replace_file

if TYPE_CHECKING:
    from backtest.validity.comparison import Comparison

_COMPARED = ("return", "risk", "drawdown")  # groups of what can be said of some of a run's sessions


def write_comparison(found: Comparison, folder: str | Path, *, force: bool = False) -> Path:
    """
    Write the page of runs side by side into a folder as index.html, and return its path.

    Args:
        force: whether the page of a run that the folder holds is replaced.

    Raises:
        UsageError: the folder holds a run, or cannot be written.
    """
    from backtest.validity.comparison import Comparison

    _arguments.instance(found, "the comparison", Comparison, "write what compare() returns")
    folder = _arguments.path(folder, "folder")
    refuse_another(folder, None, _arguments.truth(force, "force"))
    text = rendered("comparison.html", _comparison(found))
    try:
        replace_file(folder / "index.html", text.encode(), folders=True)
    except OSError as error:
        raise UsageError(f"no comparison can be written into {folder} ({error}); name another folder") from error
    return folder / "index.html"


def _comparison(found: Comparison) -> dict[str, Any]:
    names = {group: [name for name, metric in METRICS.items() if metric.group == group] for group in _COMPARED}
    return {
        "runs": found.runs,
        "legend": found.legend,
        "differences": [str(one).replace(" -", " −") for one in found.differences],
        "differ": any(one.differ for one in found.differences),
        "basis": found.basis,
        "figure": _growth(found),
        "groups": [
            {"title": GROUP_TITLES[group], "metrics": [_compared(found, name) for name in own]}
            for group, own in names.items()
        ],
    }


def _compared(found: Comparison, name: str) -> dict[str, Any]:
    texts = [typeset(stats.text(name)) for stats in found.stats]
    return {"name": name, "label": METRICS[name].label, "definition": METRICS[name].definition, "texts": texts}


def _growth(found: Comparison) -> dict[str, str]:
    wide, narrow = (svg(draw_growth(found.runs, found.days, found.returns, width)) for width in (WIDE, NARROW))
    money = 100 * np.prod(1 + found.returns, axis=1)
    ends = [f"{end:,.0f} in {run}" for run, end in zip(found.runs, money, strict=True)]
    return {"title": "Growth", "alt": f"What 100 became: {'; '.join(ends)}.", "wide": wide, "narrow": narrow}
