"""`Coverage`: which sessions of a series are stored, by session, month or year; and the figure of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.errors import UsageError
from backtest.market.checks import seconds
from backtest.market.hours import Hours
from backtest.market.series import Series
from backtest.store.audit.findings import expected_bars, session_bars, session_dates, sessions_inside
from backtest.store.replacement import replace_file

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    from backtest.store.manifest import Answer

STATES = FULL, PARTIAL, EMPTY, MISSING = range(1, 5)
NONE = 0  # no session at all
NAMES = ("", "complete", "partly missing", "empty, confirmed by the vendor", "missing")
COLOURS = ("none", "#2f7ed8", "#f3b893", "#c9ced4", "#d9662b")  # blue and orange, which the colour-blind tell apart

_DAY = 86_400  # seconds
_SHORT = 0.98  # of the bars of a session: one that has fewer is drawn as partial
_INK = "#3d444d"
_MANY = 6  # series with a calendar of their own; more of them are a line each
_ROW = 0.17  # inches
_ENDINGS = (".png", ".svg", ".pdf")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Coverage:
    """The sessions of a series from its first bar to its last: their dates, and how much of each is stored."""

    series: str
    days: np.ndarray
    states: np.ndarray

    def count(self, state: int) -> int:
        """Return how many sessions are in a state."""
        return int(np.count_nonzero(self.states == state))

    def by(self, unit: str) -> dict[str, int]:
        """Return the state of each month ("M") or year ("Y") that has a session."""
        periods = self.days.astype(f"datetime64[{unit}]")
        return {str(period): _of_all(self.states[periods == period]) for period in np.unique(periods)}


def coverage_of(series: Series, hours: Hours, bars: pa.Table, answers: Sequence[Answer]) -> Coverage:
    """Return the coverage of a series, by its bars and its answered requests."""
    starts, ends, counts = session_bars(bars, series, hours)
    if not len(starts):  # weeks, months, or no session: only what is stored is known
        days = np.unique(seconds(bars) // _DAY).astype("datetime64[D]")
        return Coverage(series.short, days, np.full(len(days), FULL, np.int8))
    said_empty = sessions_inside([one.span for one in answers if not one.bars], starts, ends)
    short = counts < _SHORT * expected_bars(series, hours, starts, ends)
    states = np.select([counts == 0, short], [np.where(said_empty, EMPTY, MISSING), PARTIAL], FULL)
    return Coverage(series.short, session_dates(starts, series, hours), states.astype(np.int8))


def strips(coverages: Sequence[Coverage], columns: int) -> tuple[str, list[list[int]]]:
    """Return a line with the years, and for each series a state per month, or per several months to fit the width."""
    months = [{np.datetime64(key, "M").astype(int): state for key, state in one.by("M").items()} for one in coverages]
    first = 12 * (min(min(one) for one in months) // 12)
    count = max(max(one) for one in months) - first + 1
    size = next(size for size in (1, 3, 6, 12, 60, 120, 1200) if count <= size * columns)
    rows = [_grouped(one, first, size, -(-count // size)) for one in months]
    head, every = "", next(every for every in (1, 2, 5, 10, 20, 50, 100) if 12 * every / size >= 5)
    for year in range(0, count // 12 + 1, every):
        head = head.ljust(12 * year // size) + str(1970 + first // 12 + year)
    return head[:columns], rows


def _grouped(months: dict[int, int], first: int, size: int, count: int) -> list[int]:
    states: list[list[int]] = [[] for _ in range(count)]
    for month, state in months.items():
        states[(month - first) // size].append(state)
    return [_of_all(np.array(group)) if group else NONE for group in states]


def draw_coverage(coverages: Sequence[Coverage], path: str | Path) -> None:
    """
    Draw the stored sessions as a picture: a calendar of weeks for each series, or a line of months if there are many.

    Raises:
        UsageError: there is nothing to draw, or the ending is not one of a picture.
    """
    from matplotlib.figure import Figure

    if Path(path).suffix.lower() not in _ENDINGS:
        raise UsageError(f"{path} is not an image file name; end it in {', '.join(_ENDINGS[:-1])} or {_ENDINGS[-1]}")
    shown = [one for one in coverages if len(one.days)]
    if not shown:
        raise UsageError("no series has a bar, so there is nothing to draw")
    panels: list[_Calendar | _Lines] = [_Calendar(one) for one in shown] if len(shown) <= _MANY else [_Lines(shown)]
    heights = [_ROW * panel.rows for panel in panels]
    canvas = Figure(figsize=(10, sum(heights) + 0.62 * len(panels) + 0.4), layout="constrained", facecolor="white")
    places = canvas.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0]
    for axes, panel in zip(places, panels, strict=True):
        panel.draw(axes)
    _explain(canvas)
    replace_file(path, partial(canvas.savefig, dpi=150, format=Path(path).suffix[1:].lower()), named=True)


def _of_all(states: np.ndarray) -> int:
    kinds = set(states.tolist())
    if len(kinds) == 1:
        return int(states[0])
    return FULL if kinds == {FULL, EMPTY} else PARTIAL


class _Calendar:
    """A series: a row per year, a column per week of the year."""

    def __init__(self, one: Coverage) -> None:
        years = one.days.astype("datetime64[Y]")
        weeks = np.minimum((one.days - years.astype("datetime64[D]")).astype(int) // 7, 51)
        self._years = np.arange(int(years[0].astype(int)), int(years[-1].astype(int)) + 1)
        self._grid = np.zeros((len(self._years), 52), np.int8)
        cells = (years.astype(int) - self._years[0]) * 52 + weeks
        for cell in np.unique(cells):
            self._grid.flat[cell] = _of_all(one.states[cells == cell])
        told = [f"{one.count(state):,} {NAMES[state]}" for state in STATES if one.count(state)]
        self._title = f"{one.series}: {len(one.days):,} sessions, {', '.join(told)}"
        self.rows = len(self._years)

    def draw(self, axes: Axes) -> None:
        _paint(axes, self._grid)
        axes.set_title(self._title, loc="left", fontsize=9, color=_INK)
        every = max(1, self.rows // 12)
        axes.set_yticks(np.arange(0, self.rows, every) + 0.5, [str(1970 + year) for year in self._years[::every]])
        axes.set_xticks(np.arange(12) * 52 / 12 + 0.5, _MONTHS)


class _Lines:
    """Many series: a row each, a column per month."""

    def __init__(self, coverages: Sequence[Coverage]) -> None:
        first = min(one.days[0] for one in coverages).astype("datetime64[M]").astype(int)
        last = max(one.days[-1] for one in coverages).astype("datetime64[M]").astype(int)
        self._names = [one.series for one in coverages]
        self._first = int(first)
        self._grid = np.zeros((len(coverages), int(last - first) + 1), np.int8)
        for row, one in enumerate(coverages):
            for month, state in one.by("M").items():
                self._grid[row, int(np.datetime64(month, "M").astype(int) - first)] = state
        self.rows = len(coverages)

    def draw(self, axes: Axes) -> None:
        _paint(axes, self._grid)
        axes.hlines(range(self.rows), 0, self._grid.shape[1], color="white", linewidth=1.5)
        axes.set_yticks(np.arange(self.rows) + 0.5, self._names)
        months = np.arange(self._grid.shape[1]) + self._first
        every = 12 * max(1, len(months) // 240) if len(months) > 24 else 3
        marked = np.flatnonzero(months % every == 0)
        form = "Y" if every >= 12 else "M"
        labels = [str(np.datetime64(int(months[place]), "M").astype(f"datetime64[{form}]")) for place in marked]
        axes.set_xticks(marked, labels, ha="left")


def _paint(axes: Axes, grid: np.ndarray) -> None:
    from matplotlib.colors import ListedColormap

    # As many cells as fit have an edge; of more, the edges would be all that is seen.
    edges: dict[str, Any] = {"edgecolors": "white", "linewidth": 0.8} if grid.shape[1] <= 150 else {}
    axes.pcolormesh(np.ma.masked_equal(grid, NONE), cmap=ListedColormap(COLOURS[1:]), vmin=0.5, vmax=4.5, **edges)
    axes.invert_yaxis()
    axes.tick_params(length=0, labelsize=7.5, labelcolor=_INK)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _explain(canvas: Canvas) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(color=COLOURS[state], label=NAMES[state]) for state in STATES]
    canvas.legend(handles=patches, loc="outside lower left", ncols=4, frameon=False, fontsize=8, labelcolor=_INK)
