"""The figure of a sweep: a metric over one parameter as a line, over two as a heat map."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.runs.parameters import distinct, form_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_Row = tuple[dict[str, Any], float]  # parameters, and the metric


def draw_heat_map(rows: Sequence[_Row], names: Sequence[str], label: str, best: dict[str, Any]) -> Figure:
    """
    Return the figure of a metric over one or two parameters; a cross marks the best trial.

    If more parameters vary, a cell shows the median of its trials, so that a lucky one does not stand out.

    Args:
        rows: the parameters and the metric of each trial, NaN if undefined.
        names: one or two parameters: on the x-axis, and on the y-axis.
        label: the label of the metric, with its unit.
        best: the parameters of the best trial.
    """
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(7.0, 4.5), layout="constrained")
    axes = canvas.add_subplot()
    across = _values_of(rows, names[0])
    axes.set_xlabel(names[0])
    if len(names) == 1:
        axes.plot(range(len(across)), medians(rows, names)[0], marker="o", color="#1f5fa8")
        axes.axvline(across.index(best[names[0]]), color="#777777", linestyle=":")
        axes.set_ylabel(label)
    else:
        _draw_map(canvas, axes, rows, names, label)
        upwards = _values_of(rows, names[1])
        place = across.index(best[names[0]]), upwards.index(best[names[1]])
        axes.plot(*place, marker="x", color="black", markersize=10, markeredgewidth=2)
    _tick(axes.set_xticks, across)
    return canvas


def _values_of(rows: Sequence[_Row], name: str) -> list[Any]:
    """Return the values of a parameter, in order if they have one."""
    values = distinct(params[name] for params, _ in rows)
    try:
        return sorted(values)
    except TypeError:
        return values


def medians(rows: Sequence[_Row], names: Sequence[str]) -> np.ndarray:
    """Return the median of the metric in each cell, shape (upwards, across) or (1, across); NaN for an empty cell."""
    found: dict[str, list[float]] = {}  # by the values, which may be such as no dict has as keys
    for params, value in rows:
        if not math.isnan(value):
            found.setdefault(_place([params[name] for name in names]), []).append(value)
    across, *more = (_values_of(rows, name) for name in names)
    upwards = more[0] if more else [None]
    places = [[_place([x, y] if more else [x]) for x in across] for y in upwards]
    return np.array([[median(found[one]) if one in found else math.nan for one in row] for row in places])


def _place(values: list[Any]) -> str:
    return json.dumps(form_of(values), sort_keys=True)


def _draw_map(canvas: Any, axes: Any, rows: Sequence[_Row], names: Sequence[str], label: str) -> None:
    cells = np.ma.masked_invalid(medians(rows, names))
    # Colours that the colour-blind can tell and that survive a grey print.
    image = axes.imshow(cells, origin="lower", aspect="auto", cmap="cividis")
    canvas.colorbar(image, ax=axes, label=label)
    axes.set_ylabel(names[1])
    _tick(axes.set_yticks, _values_of(rows, names[1]))


def _tick(set_ticks: Any, values: list[Any]) -> None:
    step = -(-len(values) // 12)  # more would run into each other
    places = range(0, len(values), step)
    set_ticks(list(places), [str(values[n]) for n in places])
