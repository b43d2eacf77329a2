"""A figure with nothing in it, for pages that are written where it is not about their figures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from backtest.report import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from backtest.metrics.measurement import Measured


def blank_figures() -> dict[str, figures.Figure]:
    """Return one figure in place of all: a page writes it as each, but drawing it takes no fifth of a second."""
    equity = figures.FIGURES["equity"]
    return {equity.name: replace(equity, draw=_draw_nothing)}


def _draw_nothing(_: Measured, width: float = figures.WIDE) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    return Canvas((width, 1.0), label=f"equity {width}")
