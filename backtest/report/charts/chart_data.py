"""The data of a run's interactive chart, as columns of one clock: one row for each bar of the run's record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.errors import BacktestError
from backtest.market import arrays
from backtest.market.hours import hours_of
from backtest.market.series import Series
from backtest.metrics.account import column, growth_of_cash, hold, session_ends
from backtest.metrics.drawdown import underwater
from backtest.report.figure_data import times_of
from backtest.runs.record import computed_once
from backtest.store.reader import Reader, columns_of_then

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.metrics.measurement import Measured
    from backtest.runs.lines import Line, Plot
    from backtest.runs.record import RunRecord

_CHOSEN = {"open": "first", "high": "highest", "low": "lowest", "close": "last", "volume": "sum"}
_DAY, _SECOND = np.timedelta64(1, "D"), np.timedelta64(1, "s")
_DASHES = {"--": 2, "dashed": 2, ":": 1, "dotted": 1, "-.": 3, "dashdot": 3}  # the library's numbers of styles
_NO_LINE = ("", " ", "None", "none")  # Matplotlib's words for none


@dataclass(frozen=True, slots=True)
class SeriesBars:
    """
    The bars of a series of a run: one value per row of its record, NaN where the series has no bar.

    Attributes:
        columns: open, high, low, close and volume; or close alone.
        why_closes: why there are only closes; "" if there are all columns.
        step: how many rows each price stands for; volume has a value per row, since its sums depend on their order.
    """

    columns: Mapping[str, np.ndarray]
    why_closes: str = ""
    step: int = 1

    def at(self, step: int) -> dict[str, np.ndarray]:
        """Return each column with one value per `step` rows, a multiple of what its prices stand for."""
        steps = {name: step if name == "volume" else step // self.step for name in self.columns}
        return {name: coarser(values, steps[name], _CHOSEN[name]) for name, values in self.columns.items()}


def bars_by_row(result: RunRecord, number: int, readers: Iterable[Reader], step: int = 1) -> SeriesBars:
    """
    Return the bars of a series that a run saw, by their digest, from the first reader that has them.

    Args:
        step: how many rows each price is to stand for.
    """
    closes, key = column(result.record, f"close.{number}"), result.spec.series[number]
    known, series = result.manifest.get("series", {}).get(key, {}), Series.parse(key)
    if not {"rows_sha256", "from", "to"} <= known.keys():
        return SeriesBars({"close": closes}, "the run did not save which bars it used")
    for reader in readers:
        fitting = _Fitting(result, series, closes, step)
        if _has_bars(reader, series, known, fitting):
            if fitting.fits:
                return SeriesBars(fitting.columns, step=step)
            return SeriesBars({"close": closes}, "the bars found do not match the closes that the run saved")
    return SeriesBars({"close": closes}, "the bars of the run were not found")


def _has_bars(reader: Reader, series: Series, known: Mapping[str, Any], fitting: _Fitting) -> bool:
    """Return whether a reader has the bars of a run, after they were put into the rows of its record."""
    try:
        return columns_of_then(reader, series, known, fitting.add) is not None
    except (BacktestError, OSError):  # a page can be written without a store; other checks report what is wrong with it
        return False


@dataclass(slots=True)
class _Fitting:
    """
    The columns of bars, one after the other, in the rows of a record.

    Attributes:
        closes: those of the record.
        rows: the row of each bar, and whether it has one; None where the bars are the rows.
        fits: whether the closes are those of the record.
        columns: those that a chart shows.
    """

    result: RunRecord
    series: Series
    closes: np.ndarray
    step: int
    rows: tuple[np.ndarray, np.ndarray] | None = None
    fits: bool = False
    columns: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, name: str, column: pa.ChunkedArray) -> None:
        """Put a column into its rows, the times first."""
        if name == "time":
            self.rows = _rows_of(times_of(self.result), _closed(column, self.series, self.result))
        elif name in _CHOSEN:
            values = np.asarray(arrays.numbers(column), float)
            if self.rows is not None:
                values = _placed(values, *self.rows, len(self.result.record))
            if name == "close":
                fits = np.isnan(values) | (values == self.closes)
                self.fits = bool(fits.all() and np.isfinite(values).any())
            self.columns[name] = values if name == "volume" else coarser(values, self.step, _CHOSEN[name])


def _rows_of(clock: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the row of each time, and whether the clock has that time; None where both are the same."""
    return None if np.array_equal(clock, times) else rows_at(clock, times)


def _placed(values: np.ndarray, rows: np.ndarray, there: np.ndarray, count: int) -> np.ndarray:
    """Return values by row, NaN in rows without one."""
    placed = np.full(count, np.nan)
    placed[rows[there]] = values[there]
    return placed


def _closed(times: pa.ChunkedArray, series: Series, result: RunRecord) -> np.ndarray:
    """Return when each bar is complete, as a record has it: by dates if all series of the run are daily."""
    opened = arrays.numbers(times).view("datetime64[us]")
    if not series.size.daily:
        return opened + series.size.seconds * _SECOND
    days = opened.astype("datetime64[D]").astype("datetime64[us]")
    return days if is_daily(result) else days + _DAY


def is_daily(result: RunRecord) -> bool:
    """Return whether all series of a run have daily or longer bars, so that sessions date it."""
    return computed_once(result, "is_daily", lambda: all(Series.parse(key).size.daily for key in result.spec.series))


def rows_at(clock: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the row of each time in an ascending clock, and whether the clock has that time."""
    rows = np.minimum(np.searchsorted(clock, times), len(clock) - 1)
    return rows, np.asarray(clock[rows] == times)


def drawdowns_by_row(result: Measured, step: int = 1) -> np.ndarray:
    """Return the drawdown at the last session's end up to each row, as a fraction; the lowest of every `step` rows."""
    ends, depths = session_ends(result.record), underwater(result.account.equity)  # 0 before the first

    def of_block(rows: slice) -> np.ndarray:
        return np.asarray(depths[np.searchsorted(ends, np.arange(rows.start, rows.stop), side="right")])

    return _coarser_by_block(len(result.record), step, "lowest", of_block)


def money_by_row(result: Measured) -> tuple[np.ndarray, np.ndarray]:
    """Return the value of the account after each row, in the run and in buy and hold."""
    return growth_of_cash(result), hold(result)


def zone_of(result: RunRecord) -> str:
    """Return the time zone of the first series' exchange; "UTC" for runs dated by sessions, and where none is known."""
    return "UTC" if is_daily(result) else hours_of(Series.parse(result.spec.series[0]).instrument).zone or "UTC"


def offsets(times: np.ndarray, zone: str) -> list[tuple[int, int]]:
    """Return the rows from which a zone's clock is ahead of UTC by which number of seconds."""
    if zone == "UTC":
        return [(0, 0)]
    import pandas as pd

    local = pd.DatetimeIndex(times).tz_localize("UTC").tz_convert(zone).tz_localize(None).to_numpy()
    seconds, there = (np.asarray(one, "datetime64[s]").astype(np.int64) for one in (times, local))
    ahead = (there - seconds).astype(float)
    starts = np.flatnonzero(np.diff(ahead, prepend=np.nan) != 0)
    return [(int(row), int(ahead[row])) for row in starts]


def coarser(values: np.ndarray, step: int, choose: str) -> np.ndarray:
    """
    Return one value per group of `step` rows; the last group may be shorter; NaN for a group without values.

    Args:
        choose: "first", "last", "lowest", "highest" or "sum".
    """
    return _coarser_by_block(len(values), step, choose, values.__getitem__)


def _coarser_by_block(count: int, step: int, choose: str, values: Callable[[slice], np.ndarray]) -> np.ndarray:
    """Return one value per `step` rows of so many, given the values of a slice of rows."""
    if step == 1 or not count:
        return values(slice(0, count))
    blocks = arrays.blocks(count, step * max(1, arrays.BLOCK // step))
    return np.concatenate([_chosen(values(rows), step, choose) for rows in blocks])


def _chosen(values: np.ndarray, step: int, choose: str) -> np.ndarray:
    starts = np.arange(0, len(values), step)
    if choose == "sum":
        known = np.add.reduceat(np.isfinite(values).astype(int), starts)
        return np.where(known, np.add.reduceat(np.nan_to_num(values), starts), np.nan)
    if choose in ("lowest", "highest"):
        return np.asarray((np.fmin if choose == "lowest" else np.fmax).reduceat(values, starts))
    if choose == "first":
        padding = -len(values) % step
        return _chosen(np.append(values, np.full(padding, np.nan))[::-1], step, "last")[::-1]
    ends = np.minimum(starts + step, len(values)) - 1
    places = np.maximum.accumulate(np.where(np.isfinite(values), np.arange(len(values)), -1))[ends]
    return np.where(places >= starts, values[np.maximum(places, 0)], np.nan)


@dataclass(frozen=True, slots=True)
class ShownLine:
    """A line of an indicator: values by every `step` rows, how to draw it: kind is "line", "points" or "bars"."""

    name: str
    values: np.ndarray
    kind: str
    colour: str  # "" for one of the page's own
    width: int
    dash: int


@dataclass(frozen=True, slots=True)
class ShownPlot:
    """
    An indicator or observer on the chart.

    Attributes:
        number: its position among the plots of the run.
        label: Backtrader's label.
        series: the position of the series with which it is shown; None if it is always shown.
        pane: -1 on the prices, otherwise the number of the plot whose pane it shares, its own number for a separate
            pane.
        levels: the values at which Backtrader draws a horizontal line.
    """

    number: int
    label: str
    series: int | None
    pane: int
    levels: tuple[float, ...]
    lines: tuple[ShownLine, ...]


def plots_of(result: RunRecord, step: int = 1) -> list[ShownPlot]:
    """Return what Backtrader would plot of a run, aligned with the rows of its record, the last of every `step`."""
    plots, found = result.lines.plots, []
    for number, plot in enumerate(plots):
        series, pane = _place(plots, number)
        lines = tuple(_shown_lines(result, number, plot, step))
        if lines:
            found.append(ShownPlot(number, plot.label, series, pane, tuple(_levels(plot)), lines))
    return found


def _place(plots: Sequence[Plot], number: int) -> tuple[int | None, int]:
    """Return the series that a plot belongs to, if any, and its pane, by the plots that it is drawn on."""
    pane, seen = number, {number}
    while plots[pane].pane == "overlay" and plots[pane].on_plot is not None and plots[pane].on_plot not in seen:
        pane = int(plots[pane].on_plot or 0)
        seen.add(pane)
    on_prices = plots[pane].pane == "overlay" and plots[pane].on_series is not None
    root = pane
    while plots[root].on_series is None and plots[root].on_plot is not None and plots[root].on_plot not in seen:
        root = int(plots[root].on_plot or 0)
        seen.add(root)
    return plots[root].on_series, -1 if on_prices else pane


def _shown_lines(result: RunRecord, number: int, plot: Plot, step: int) -> Iterator[ShownLine]:
    rows = _rows_of(times_of(result), result.lines.times(plot.clock))
    for place, line in enumerate(plot.lines):
        if line.style.get("_plotskip"):
            continue
        values = result.lines.values(number, place)
        if rows is not None:
            values = _placed(values, *rows, len(result.record))
        name = str(line.style.get("_name") or line.alias)
        yield ShownLine(name, coarser(values, step, "last"), *_look(line))


def _look(line: Line) -> tuple[str, str, int, int]:
    style = line.style
    dash = style.get("ls", style.get("linestyle", "-"))
    width = style.get("lw", style.get("linewidth", 1))
    kind = "bars" if style.get("_method") == "bar" else "line"
    if kind == "line" and (dash is None or dash in _NO_LINE or (style.get("marker") and "ls" not in style)):
        kind = "points"
    thick = int(min(max(round(width), 1), 4)) if isinstance(width, int | float) and width == width else 1
    return kind, _colour(style.get("color", style.get("c"))), thick, _DASHES.get(str(dash), 0)


def _colour(word: Any) -> str:
    """Return a Matplotlib colour in CSS; "" if it is not a colour."""
    if not isinstance(word, str):
        return ""
    from matplotlib.colors import to_hex

    try:
        return to_hex(word)
    except ValueError:
        return ""


def _levels(plot: Plot) -> Iterator[float]:
    for name in ("plotyhlines", "plothlines", "plotyticks"):
        given = plot.plotinfo.get(name)
        for level in given if isinstance(given, list) else []:
            if isinstance(level, int | float) and level == level and abs(level) < np.inf:
                yield float(level)
