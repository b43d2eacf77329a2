"""`plotted_lines`: the lines that Backtrader would plot after a run, as a table; see `runs.lines`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from backtrader.linebuffer import LineActions, LineBuffer
from backtrader.lineiterator import MultiCoupler
from backtrader.lineroot import LineRoot
from backtrader.lineseries import LineSeriesStub
from backtrader.metabase import AutoInfoClass

from backtest.engine.code.failures import code_of_others, said
from backtest.engine.recorder import times_of_stamps
from backtest.errors import StrategyError
from backtest.market import arrays
from backtest.market.series import Series
from backtest.runs.lines import lines_table

if TYPE_CHECKING:
    import pyarrow as pa

_FILLS = ("_fill", "_fill_gt", "_fill_lt")


def plotted_lines(strategy: Any, series: list[Series], begins: float = 0.0) -> pa.Table:
    """
    Return the lines that `cerebro.plot()` would draw for a strategy that ran on these series.

    They are the lines of the strategy's own indicators and observers, not of indicators inside these, and not of those
    with plot=False or plotskip in their `plotinfo`, or on a series or an indicator that is not drawn. Bars up to
    `begins`, in Backtrader's days, are omitted.
    """
    all_drawn = _all_drawn(strategy)
    numbers = {id(drawn.owner): number for number, drawn in enumerate(all_drawn)}
    places = {id(data): number for number, data in enumerate(strategy.datas)}
    clocks = _Clocks(strategy, series, begins)
    lines: dict[str, tuple[Any, int]] = {}
    plots = []
    for number, drawn in enumerate(all_drawn):
        clock = clocks.number_of(drawn.clock)
        columns = _columns(drawn.owner, number)
        lines |= {column: (line, clock) for column, _, line, _ in columns}
        plot = {
            **_described(drawn),
            "clock": clock,
            "pane": drawn.pane,
            "on_series": places.get(id(drawn.on)),
            "on_plot": numbers.get(id(drawn.on)),
            "lines": [{"alias": alias, "column": column, "style": style} for column, alias, _, style in columns],
        }
        plots.append(plot)
    layout = {"plots": plots, "clocks": clocks.rows(), "series": clocks.series(places), "steps": clocks.find(strategy)}
    values = {name: clocks.padded(clocks.values(line, clock)) for name, (line, clock) in lines.items()}
    return lines_table({**clocks.columns(), **{name: _floats(numbers) for name, numbers in values.items()}}, layout)


# --- what is drawn, and on what


class _Drawn(NamedTuple):
    """An indicator or an observer that is drawn: on what (None: at the top), in which pane, and whose bars it has."""

    owner: Any
    kind: str
    on: Any
    pane: str
    clock: Any


def _all_drawn(strategy: Any) -> list[_Drawn]:
    """Return what is drawn and on what, by the rules of Backtrader's `Plot.sortdataindicators`."""
    feeds = set(map(id, strategy.datas))  # a feed is found by what it is: `in` would compare values
    candidates = [
        *(_indicator(indicator, strategy, feeds) for indicator in strategy.getindicators() if _is_shown(indicator)),
        *(_observer(observer, strategy, feeds) for observer in strategy.getobservers() if _is_shown(observer)),
    ]
    reached = {id(None), *(id(data) for data in strategy.datas if _plotinfo(data)["plot"])}
    while fresh := {id(drawn.owner) for drawn in candidates if id(drawn.on) in reached} - reached:
        reached |= fresh
    return [drawn for drawn in candidates if id(drawn.on) in reached]


def _is_shown(owner: Any) -> bool:
    # Operations on lines have no plotinfo. A coupler of a feed has the feed's, for which Backtrader's plot fails.
    info = _plotinfo(owner) if hasattr(owner, "plotinfo") else {}
    if not info.get("plot", False) or info.get("plotskip", True):
        return False
    return all(line.mode == LineBuffer.UnBounded for line in owner.lines.lines)  # else most values are dropped


def _indicator(indicator: Any, strategy: Any, feeds: set[int]) -> _Drawn:
    info, clock = _plotinfo(indicator), _clock_of(indicator, strategy, feeds)
    data = strategy.datas[0] if clock is strategy else clock
    on = getattr(indicator._clock, "owner", indicator._clock)  # the owner of a single line
    if on is strategy or (info.get("plotforce", False) and id(on) not in feeds):
        on = data  # an operation on lines is not drawn, the data that it reads is
    master = info.get("plotmaster")
    if master is not None and master is not indicator:
        return _Drawn(indicator, "indicator", master, "overlay", clock)
    pane = ("above" if info.get("plotabove", False) else "below") if info.get("subplot", True) else "overlay"
    return _Drawn(indicator, "indicator", on, pane, clock)


def _observer(observer: Any, strategy: Any, feeds: set[int]) -> _Drawn:
    # With `runonce` observers move with the strategy, without it the observer of a feed moves with the feed.
    clock = strategy if len(observer) == len(strategy) else _clock_of(observer, strategy, feeds)
    if _plotinfo(observer).get("subplot", True):
        return _Drawn(observer, "observer", None, "top", clock)
    return _Drawn(observer, "observer", getattr(observer._clock, "owner", observer._clock), "overlay", clock)


def _clock_of(owner: Any, strategy: Any, feeds: set[int]) -> Any:
    """Return the feed whose bars an indicator or observer has values for, or the strategy: it moves with any feed."""
    clock, seen = owner._clock, set()
    while clock is not strategy and id(clock) not in feeds:
        if id(clock) in seen or not isinstance(clock, LineRoot):
            return strategy
        seen.add(id(clock))
        if isinstance(clock, LineSeriesStub):
            clock = clock.lines.lines[0]
        elif isinstance(clock, LineBuffer) and not isinstance(clock, LineActions):
            clock = clock._owner
        else:
            clock = getattr(clock, "_clock", None)
    return clock


# --- how it is drawn


def _described(drawn: _Drawn) -> dict[str, Any]:
    """Return class, label, parameters and plotinfo of what is drawn, as JSON."""
    owner, cls = drawn.owner, type(drawn.owner)
    name = "LinesCoupler" if isinstance(owner, MultiCoupler) else cls.__name__  # each has its own class, numbered
    label, problem = str(_plotinfo(owner).get("plotname") or name), ""
    try:
        with code_of_others(said):
            owner._plotinit()
            label = owner.plotlabel().replace(cls.__name__, name, 1)
    except StrategyError as error:  # it decides nothing but a caption
        problem = str(error)
        import logging

        logging.getLogger(__name__).warning("%s has no label of its own, as its code raised %s", name, problem)
    return {
        "kind": drawn.kind,
        "name": name,
        "module": cls.__module__,
        "label": label,
        "params": _plain(owner.params._getkwargs()),
        "plotinfo": _plain_settings(_plotinfo(owner)),
        "problem": problem,
    }


def _plotinfo(owner: Any) -> dict[str, Any]:
    """Return the plotinfo of an indicator, an observer or a feed; a dict in its place changes what it names."""
    defaults = type(owner).plotinfo._getkwargsdefault() if isinstance(owner.plotinfo, Mapping) else {}
    return {**defaults, **_settings(owner.plotinfo)}


def _settings(info: Any) -> dict[str, Any]:
    """Return what plotinfo, or plotlines of one line, declare, and what was set on them later."""
    if isinstance(info, Mapping):
        return dict(info)
    return {**info._getkwargs(), **vars(info)} if isinstance(info, AutoInfoClass) else {}


def _plain_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings as JSON, without the master: the plot says what it is drawn on."""
    return {str(name): _plain(value) for name, value in settings.items() if name != "plotmaster"}


def _columns(owner: Any, number: int) -> list[tuple[str, str, Any, dict[str, Any]]]:
    """Return column, alias, line and style of each line that is drawn, or that another is filled up to."""
    styles = _settings(owner.plotlines)
    styled = []
    for row in range(owner.lines.size()):
        alias = owner.lines._getlinealias(row) or str(row)
        style = _settings(styles.get(f"_{row}") or styles.get(alias))
        styled.append((alias, owner.lines[row], _plain_settings(style)))
    fills = [style[name] for _, _, style in styled if _is_line_shown(style) for name in _FILLS if name in style]
    targets = {fill[0] for fill in fills if isinstance(fill, list) and fill and isinstance(fill[0], str)}
    aliases = [alias for alias, _, _ in styled]
    return [
        (f"{number}.{alias}" if aliases.index(alias) == row else f"{number}.{alias}.{row}", alias, line, style)
        for row, (alias, line, style) in enumerate(styled)
        if _is_line_shown(style) or alias in targets
    ]


def _is_line_shown(style: dict[str, Any]) -> bool:
    return not style.get("_plotskip", False)


def _plain(value: Any) -> Any:
    """Return a value as JSON, other objects by their names alone, so that equal runs keep equal files."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(name): _plain(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    return getattr(value, "__name__", None) or f"<{type(value).__name__}>"


# --- values and clocks


class _Clocks:
    """The clocks of the lines: a feed's or the strategy's; those with equal stamps share one."""

    def __init__(self, strategy: Any, series: list[Series], begins: float) -> None:
        self._strategy, self._series, self._begins = strategy, series, begins
        self._stamps: list[np.ndarray] = []
        self._left_out: list[int] = []  # of each clock, bars before it begins
        self._numbers: dict[bytes, int] = {}
        self._known: dict[int, bytes] = {}
        self._longest = 0
        self._by_dates = all(one.size.daily for one in series)

    def number_of(self, mover: Any) -> int:
        """Return the clock number of a feed or the strategy, a new one if none is equal."""
        stamps = _values(mover.lines.datetime, len(mover))
        number = self._numbers.setdefault(self._key(mover), len(self._stamps))
        if number == len(self._stamps):
            self._left_out.append(int(np.searchsorted(stamps, self._begins, side="right")))
            self._stamps.append(stamps[self._left_out[number] :])
            self._longest = max(self._longest, len(self._stamps[number]))
        return number

    def find(self, mover: Any) -> int | None:
        """Return the clock number of a feed or the strategy; None if no line is on it."""
        return self._numbers.get(self._key(mover))

    def values(self, line: Any, clock: int) -> np.ndarray:
        """Return the values of a line at the bars of a clock."""
        left_out = self._left_out[clock]
        return _values(line, left_out + len(self._stamps[clock]))[left_out:]

    def rows(self) -> list[dict[str, Any]]:
        """Return the layout's description of the clocks."""
        return [{"column": f"time.{number}", "rows": len(stamps)} for number, stamps in enumerate(self._stamps)]

    def series(self, places: dict[int, int]) -> list[dict[str, Any]]:
        """Return the layout's description of the series."""
        return [
            {
                "key": series.key,
                "clock": self.find(data),
                "plotinfo": _plain_settings(_plotinfo(data)),
                "on_series": places.get(id(_plotinfo(data).get("plotmaster"))),
            }
            for series, data in zip(self._series, self._strategy.datas, strict=True)
        ]

    def columns(self) -> dict[str, pa.Array]:
        """Return the column of each clock's times, null after its last bar."""
        columns = {}
        for number, stamps in enumerate(self._stamps):
            times, lacking = times_of_stamps(stamps, self._by_dates), self._longest - len(stamps)
            if lacking:
                times = np.concatenate([times, np.zeros(lacking, times.dtype)])
            present = np.arange(len(times)) < len(stamps) if lacking else None
            columns[f"time.{number}"] = arrays.stamps(times, present)
        return columns

    def padded(self, values: np.ndarray) -> np.ndarray:
        """Return values padded with NaN to the length of the longest clock."""
        lacking = self._longest - len(values)
        return np.concatenate([values, np.full(lacking, np.nan)]) if lacking else values

    def _key(self, mover: Any) -> bytes:
        if id(mover) not in self._known:
            self._known[id(mover)] = hashlib.blake2b(_values(mover.lines.datetime, len(mover)).data).digest()
        return self._known[id(mover)]


def _values(line: Any, size: int) -> np.ndarray:
    """Return the first values of a line, without a copy, NaN for those that it does not have."""
    values = np.frombuffer(line.array)[:size]
    return values if len(values) == size else np.concatenate([values, np.full(size - len(values), np.nan)])


def _floats(values: np.ndarray) -> pa.Array:
    present = ~np.isnan(values)
    return arrays.floats(values, None if present.all() else present)
