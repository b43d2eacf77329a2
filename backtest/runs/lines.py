"""
`Lines`: the lines of indicators and observers that Backtrader would plot, and how it would plot them.

In the table, line `alias` of the n-th plot is the column `n.alias`: float64, null where the line is NaN. A clock is the
series of bars for which lines have values; the column `time.k` has their closing times, as in the run's record. A
column of a clock with fewer bars than the longest ends in nulls. The rest is JSON in the metadata of the table's
schema. Prices are not copied: the bars are in the store, by the manifest's digest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from backtest._suggest import there_are
from backtest.errors import DamagedStore, UsageError
from backtest.market import arrays
from backtest.market.series import Series
from backtest.store.documents import ANYTHING, TEXT, WHOLE, document_in, either, keyed, list_of, mapped, one_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

FORMAT = 1
NOT_KEPT = "this run saved no lines: it was made with lines=False or --no-lines, in a sweep, or by version 0.1.0"
_KEY = b"backtest.lines"


@dataclass(frozen=True, slots=True)
class Line:
    """
    One line of a plot.

    Attributes:
        alias: Backtrader's name of the line, such as "signal".
        column: its column in the table.
        style: its `plotlines`: color, ls, marker, _name, _method, _fill_gt, ... A line with _plotskip is not drawn;
            it is saved because another line is filled up to it.
    """

    alias: str
    column: str
    style: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plot:
    """
    An indicator or an observer as Backtrader would plot it.

    Attributes:
        kind: "indicator" or "observer".
        name: the name of its class, which `module` defines.
        label: Backtrader's label of the plot, such as "SMA (30)".
        params: its parameters; a class or another object that JSON cannot hold is given by its name.
        clock: the number of its clock.
        pane: "overlay" on its series or plot, "above" or "below" that in a separate pane, or "top" above all.
        on_series: the series that it is drawn on, by its index in the run's series; None if on a plot or at the top.
        on_plot: the plot that it is drawn on, by its number; None if on a series or at the top.
        plotinfo: Backtrader's, such as plotyhlines, plotymargin, plotlinelabels.
        lines: its lines.
        problem: the error that its own code for plotting raised; "" if none.
    """

    kind: str
    name: str
    module: str
    label: str
    params: Mapping[str, Any]
    clock: int
    pane: str
    on_series: int | None
    on_plot: int | None
    plotinfo: Mapping[str, Any]
    lines: tuple[Line, ...]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class LineClock:
    """The bars that lines have values for: the column of their times, and their number."""

    column: str
    rows: int


@dataclass(frozen=True, slots=True)
class PlottedSeries:
    """
    A series of the run as Backtrader would plot it.

    Attributes:
        key: the series' key, as in the spec.
        clock: the number of its clock; None if no line has values for its bars.
        plotinfo: Backtrader's.
        on_series: the series over whose prices it is drawn, by its index in the run's series; None if over none.
    """

    key: str
    clock: int | None
    plotinfo: Mapping[str, Any]
    on_series: int | None = None


class _Layout(NamedTuple):
    """The metadata of a table of lines; see the properties of `Lines`."""

    plots: tuple[Plot, ...] = ()
    clocks: tuple[LineClock, ...] = ()
    series: tuple[PlottedSeries, ...] = ()
    steps: int | None = None


@dataclass(frozen=True, slots=True)
class Lines:
    """
    The lines of a run's indicators and observers.

    Attributes:
        table: the columns of all lines and clocks; None if the run saved none.
    """

    table: pa.Table | None = None
    _read: _Layout | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def _layout(self) -> _Layout:
        if self._read is None:
            object.__setattr__(self, "_read", _Layout() if self.table is None else _layout_of(self.table))
        assert self._read is not None
        return self._read

    @property
    def why_not(self) -> str:
        """Why no lines were saved; "" if they were, even if the strategy plots nothing."""
        return NOT_KEPT if self.table is None else ""

    @property
    def plots(self) -> tuple[Plot, ...]:
        """The indicators, then the observers, in the order in which the strategy made them."""
        return self._layout.plots

    @property
    def clocks(self) -> tuple[LineClock, ...]:
        """The clocks, by their numbers."""
        return self._layout.clocks

    @property
    def series(self) -> tuple[PlottedSeries, ...]:
        """The series of the run, and how Backtrader would plot them."""
        return self._layout.series

    @property
    def steps(self) -> int | None:
        """The number of the account's clock, whose times are the record's; None if no line is on it."""
        return self._layout.steps

    def times(self, clock: int) -> np.ndarray:
        """Return the times of a clock's bars as datetime64[us], UTC: those of their close, as in the record."""
        return self._column(self.clocks[clock].column, clock).view("datetime64[us]")

    def values(self, plot: int, line: int = 0) -> np.ndarray:
        """Return the values of a line of a plot, one per bar of the plot's clock; NaN where the line has none."""
        column, clock = self.plots[plot].lines[line].column, self.plots[plot].clock
        return self._column(column, clock)

    def to_frame(self, series: Series | str = "") -> pd.DataFrame:
        """
        Return lines with a UTC index of times, and a column per line: the plot's label, then the line's alias.

        Args:
            series: the series for whose bars the lines have values. By default the bars of the account: with one series
                they are the same.

        Returns:
            A frame without columns if the strategy plots nothing.

        Raises:
            UsageError: the run saved no lines, or all of them are on other bars.
        """
        import pandas as pd

        if self.table is None:
            raise UsageError(f"{NOT_KEPT}; run it again to save them")
        if not self.plots:
            return pd.DataFrame(index=pd.DatetimeIndex([], name="time", tz="UTC"))
        clock = self._clock_of(series)
        plots = [(number, plot) for number, plot in enumerate(self.plots) if plot.clock == clock]
        names = [(plot.label, line.alias) for _, plot in plots for line in plot.lines]
        values = [self.values(number, row) for number, plot in plots for row in range(len(plot.lines))]
        index = pd.DatetimeIndex(self.times(clock), name="time").tz_localize("UTC")
        frame = pd.DataFrame(dict(enumerate(values)), index=index)
        return frame.set_axis(pd.MultiIndex.from_tuples(names, names=["plot", "line"]), axis="columns")

    def _clock_of(self, series: Series | str) -> int:
        known = {Series.parse(plotted.key).short: plotted.clock for plotted in self.series}
        wanted = (Series.parse(series) if isinstance(series, str) and series else series) or None
        if isinstance(wanted, Series) and wanted.short not in known:
            raise UsageError(f"the run has no series {wanted.short}; {there_are(wanted.short, known)}")
        clock = known[wanted.short] if isinstance(wanted, Series) else self.steps
        if clock is None:
            place = wanted.short if isinstance(wanted, Series) else "the account"
            others = [name for name, number in known.items() if number is not None]
            raise UsageError(f"no line is on the bars of {place}; name another series: {', '.join(others)}")
        return clock

    def _column(self, name: str, clock: int) -> np.ndarray:
        assert self.table is not None
        return arrays.numbers(self.table[name].slice(0, self.clocks[clock].rows))


def lines_table(columns: Mapping[str, pa.Array], layout: Mapping[str, Any]) -> pa.Table:
    """
    Return the table of lines, with their layout in the metadata of its schema.

    Args:
        columns: the arrays of all clocks and lines, by column, all of one length.
        layout: plots, clocks, series and steps, in the words of the classes of this module.
    """
    import pyarrow as pa

    text = json.dumps({"format": FORMAT, **layout}, sort_keys=True, allow_nan=False)
    return pa.table(dict(columns)).replace_schema_metadata({_KEY: text.encode()})


def with_times_of(record: pa.Table, lines: pa.Table) -> pa.Table:
    """Return a table of lines of which the times that are also those of the run's record are in memory once."""
    for place, name in enumerate(lines.column_names):
        if name.startswith("time.") and lines[name].equals(record["time"]):
            lines = lines.set_column(place, lines.field(place), record["time"])
    return lines


def write_lines(table: pa.Table, path: Path | IO[bytes]) -> None:
    """Write a table of lines as Parquet."""
    import pyarrow.parquet as pq

    # Few values occur twice: without a dictionary writing takes a third less time, and a tenth less space.
    pq.write_table(table, path, compression="zstd", write_page_checksum=True, use_dictionary=False)


def read_lines(path: Path) -> pa.Table:
    """
    Return the table of lines in a file of any origin.

    Raises:
        DamagedStore: it is not a regular file, or not a table of lines.
    """
    from backtest.runs.kept_tables import read_parquet

    table = read_parquet(path, _columns)
    try:
        layout = _layout_of(table)
        _check_columns(layout, table)
    except ValueError as error:
        raise DamagedStore(f"{path}: {error}") from error
    return table


def _columns(types: Mapping[str, str]) -> list[str]:
    for name, kind in types.items():
        if kind not in ("double", "timestamp[us, tz=UTC]"):
            raise ValueError(f"the column {name} has the type {kind[:60]}, not that of a line or of times")
    return list(types)


def _check_columns(layout: _Layout, table: pa.Table) -> None:
    """Raise ValueError if a layout refers to something that does not exist."""
    clocks, plots = range(len(layout.clocks)), range(len(layout.plots))
    of_series = range(len(layout.series))
    columns = {clock.column for clock in layout.clocks} | {line.column for plot in layout.plots for line in plot.lines}
    if lost := sorted(columns - set(table.column_names)):
        raise ValueError(f"the column {lost[0]} is not there")
    if any(clock.rows > len(table) for clock in layout.clocks):
        raise ValueError(f"a clock has more than the {len(table):,} rows of the table")
    numbers = [
        (layout.steps, clocks),
        *(pair for plot in layout.plots
          for pair in ((plot.clock, clocks), (plot.on_plot, plots), (plot.on_series, of_series))),
        *(pair for one in layout.series for pair in ((one.clock, clocks), (one.on_series, of_series))),
    ]  # fmt: skip
    if wrong := [number for number, known in numbers if number is not None and number not in known]:
        raise ValueError(f"it refers to number {wrong[0]} of its clocks, plots or series, which is not there")


_PLACE = either("a NUMBER or null", WHOLE, one_of(None))
_LAYOUT = keyed(
    {
        "format": one_of(FORMAT),
        "plots": list_of(
            keyed(
                {
                    **dict.fromkeys(("kind", "name", "module", "label", "pane"), TEXT),
                    **dict.fromkeys(("params", "plotinfo"), mapped(ANYTHING)),
                    **dict.fromkeys(("on_series", "on_plot"), _PLACE),
                    "clock": WHOLE,
                    "lines": list_of(keyed({"alias": TEXT, "column": TEXT, "style": mapped(ANYTHING)})),
                },
                {"problem": TEXT},
            )
        ),
        "clocks": list_of(keyed({"column": TEXT, "rows": WHOLE})),
        "series": list_of(
            keyed({"key": TEXT, "clock": _PLACE, "plotinfo": mapped(ANYTHING)}, {"on_series": _PLACE}),
        ),
        "steps": _PLACE,
    }
)


def _layout_of(table: pa.Table) -> _Layout:
    """Return the layout in the metadata; raise ValueError if there is none, or it has another format."""
    document = document_in((table.schema.metadata or {}).get(_KEY, b"{}"))
    if isinstance(document, dict) and (number := document.get("format")) != FORMAT:
        raise ValueError(f"its lines have format {number!r:.60}, not {FORMAT}")
    _LAYOUT(document, "")
    plots = [Plot(**{**plot, "lines": tuple(Line(**line) for line in plot["lines"])}) for plot in document["plots"]]
    clocks = [LineClock(**clock) for clock in document["clocks"]]
    series = [PlottedSeries(**plotted) for plotted in document["series"]]
    return _Layout(tuple(plots), tuple(clocks), tuple(series), document["steps"])
