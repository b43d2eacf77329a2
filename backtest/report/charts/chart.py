"""The interactive chart of a run: `chart_of` builds all of it that a page contains."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest._resources import bundled
from backtest.market import arrays
from backtest.market.series import Series, few
from backtest.metrics.account import column, hold_name
from backtest.report.charts.chart_data import (
    SeriesBars,
    ShownLine,
    ShownPlot,
    bars_by_row,
    coarser,
    drawdowns_by_row,
    is_daily,
    money_by_row,
    offsets,
    plots_of,
    rows_at,
    zone_of,
)
from backtest.report.charts.chart_library import library
from backtest.report.charts.packing import Column, exactly, pack, rounded
from backtest.report.figure_data import times_of
from backtest.report.rendering import in_page, json_in_page, own_script
from backtest.store.reader import Reader
from backtest.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.metrics.measurement import Measured

_MOST_BARS = 500_000  # of all series together, that are in a page one by one
_SAMPLED = 100  # series by whose columns the size of all is guessed ...
_LEEWAY = 1.03  # ... and how much more than there is room for such a guess may be
_MOST_LETTERS = 4_500_000  # of the packed columns where there are more bars
_CENTS, _SHARES, _FEW = 2, 6, 4  # decimals of money, of a fraction, and of what need not be rounded


@dataclass(frozen=True, slots=True)
class Chart:
    """
    The interactive chart of a run.

    Attributes:
        about: the content and settings, as JSON.
        columns: the numbers: see `packing.pack`.
        words: a description of the chart, in a sentence.
        notes: what it does not show, and why.
        why_not: why a page cannot have this chart; "" if it can.
    """

    about: dict[str, Any]
    columns: str
    words: str
    notes: tuple[str, ...] = ()
    why_not: str = ""

    @property
    def copyright(self) -> str:
        """The copyright notice of the library's script."""
        said = re.search(r"Copyright \(c\) [^\n*]+", library().script)
        return said[0].strip() if said else ""

    @property
    def document(self) -> str:
        """The chart's content and settings, as JSON that can be embedded in a script of a page."""
        return json_in_page(self.about)


def chart_of(result: Measured, reader: Reader | None = None) -> Chart:
    """
    Return the chart of a run.

    Args:
        reader: a reader that may have its bars; the bundled sample is searched, too.
    """
    if why_not := library().why_not:
        return Chart({}, "", "", why_not=why_not)
    readers = [*([reader] if reader else []), Store(bundled("sample"))]
    step = -(-len(result.record) * len(result.series) // _MOST_BARS)
    bars = [bars_by_row(result, number, readers, step) for number in range(len(result.series))]
    tables = _letters(_trades(result, step) | _orders(result, step)) if step > 1 else 0
    step = _first_step(result, bars, step, tables)
    about, columns = _packed(result, bars, step)
    while step > 1 and len(columns) > _room(tables):
        step *= 2
        about, columns = _packed(result, bars, step)
    return Chart(about, columns, _words(result), tuple(_notes(result, bars, step)))


def _room(tables: int) -> int:
    """Return how many characters the columns may take; a minimum is reserved for the bars."""
    return max(_MOST_LETTERS, tables + _MOST_LETTERS // 4)


def _first_step(result: Measured, bars: list[SeriesBars], step: int, tables: int) -> int:
    """
    Return how many bars to merge into one on the chart, estimated from a part of the series: packing takes time.

    A slightly too small number is allowed, since the data may still fit; packing everything decides.

    Args:
        step: the minimum.
        tables: the number of characters of trades and orders, which hardly depends on the step.
    """
    every = len(bars) // _SAMPLED
    if step == 1 or every <= 1:
        return step
    part = [*enumerate(bars)][::every]
    while True:
        others = _letters(_money(result, step) | _lines(plots_of(result, step)))
        if tables + others + _letters(_series(result, part, step)) * len(bars) / len(part) <= _room(tables) * _LEEWAY:
            return step
        step *= 2


def _letters(columns: dict[str, Column]) -> int:
    return len(pack(columns)[1])


def scripts() -> tuple[str, str]:
    """Return the library's script and ours, in a form that can be embedded in a page."""
    return in_page(library().script), own_script("parts.js", "chart.js")


def _packed(result: Measured, bars: list[SeriesBars], step: int) -> tuple[dict[str, Any], str]:
    starts, zone, plots = times_of(result)[::step], zone_of(result), plots_of(result, step)
    lines, tables = _lines(plots), _trades(result, step) | _orders(result, step)
    columns, text = pack({**_money(result, step), **_series(result, [*enumerate(bars)], step), **lines, **tables})
    about = {
        "name": result.spec.name,
        "currency": result.stats.currency,
        "benchmark": hold_name(result),
        "rows": len(starts),
        "step": step,
        "daily": is_daily(result),
        "zone": zone,
        "offsets": offsets(starts, zone),
        "series": [{"name": name, "bars": not one.why_closes} for name, one in zip(result.series, bars, strict=True)],
        "plots": [asdict(replace(plot, lines=())) | {"lines": [_drawn(one) for one in plot.lines]} for plot in plots],
        "kinds": _words_in(result, "kind"),
        "statuses": _words_in(result, "status"),
        "columns": columns,
    }
    return about, text


def _drawn(line: ShownLine) -> dict[str, Any]:
    return {"name": line.name, "kind": line.kind, "colour": line.colour, "width": line.width, "dash": line.dash}


def _money(result: Measured, step: int) -> dict[str, Column]:
    run, held = money_by_row(result)
    return {
        "time": exactly(arrays.numbers(result.record["time"])[::step] // 1_000_000),
        "equity": rounded(coarser(run, step, "last"), _CENTS),
        "hold": rounded(coarser(held, step, "last"), _CENTS),
        "drawdown": rounded(drawdowns_by_row(result, step), _SHARES),
    }


def _series(result: Measured, bars: list[tuple[int, SeriesBars]], step: int) -> dict[str, Column]:
    columns = {}
    for number, one in bars:
        for name, values in one.at(step).items():
            columns[f"{name}.{number}"] = exactly(values)
        position = column(result.record, f"position.{number}")
        columns[f"position.{number}"] = _some_digits(coarser(position, step, "last"))
    return columns


def _lines(plots: Sequence[ShownPlot]) -> dict[str, Column]:
    return {
        f"line.{plot.number}.{place}": _some_digits(line.values)
        for plot in plots
        for place, line in enumerate(plot.lines)
    }


def _some_digits(values: np.ndarray) -> Column:
    """Return a column unchanged if it has few decimals, otherwise with eight significant digits."""
    known = values[np.isfinite(values)]
    return rounded(values, _FEW) if (np.round(known, _FEW) == known).all() else rounded(values)


def _trades(result: Measured, step: int) -> dict[str, Column]:
    table = result.trades_table
    money = [name for name in ("costs", "net", "dividends") if arrays.has_column(table, name)]
    columns = {
        "series": exactly(_places(result, table)),
        "entry": exactly(_rows(result, table, "entry") // step),
        "exit": exactly(_rows(result, table, "exit") // step),
        "bars": exactly(column(table, "bars")),
        "size": _some_digits(column(table, "size")),
        **{name: exactly(column(table, name)) for name in ("entry_price", "exit_price")},
        **{name: rounded(column(table, name), _CENTS) for name in money},
        "return": rounded(column(table, "return"), _SHARES),
    }
    return {f"trade.{name}": one for name, one in columns.items()}


def _orders(result: Measured, step: int) -> dict[str, Column]:
    table = result.orders_table
    created, closed = (_rows(result, table, name) for name in ("created", "closed"))
    columns = {
        "ref": exactly(column(table, "ref")),
        "series": exactly(_places(result, table)),
        "created": exactly(created // step),
        "row": exactly(np.where(closed < 0, created, closed) // step),
        "kind": exactly(_numbers(result, "kind")),
        "status": exactly(_numbers(result, "status")),
        "size": _some_digits(column(table, "size")),
        "filled": _some_digits(column(table, "filled")),
        "price": exactly(column(table, "price")),
        "costs": rounded(column(table, "costs"), _CENTS),
    }
    return {f"order.{name}": one for name, one in columns.items()}


def _rows(result: Measured, table: pa.Table, name: str) -> np.ndarray:
    """Return the rows of the record at some times, or the next row if it has none then; -1 for no time."""
    times = np.asarray(table[name].to_numpy(), "datetime64[us]")
    rows, _ = rows_at(times_of(result), times)
    return np.where(np.isnat(times), -1, rows)


def _places(result: Measured, table: pa.Table) -> np.ndarray:
    """Return the position of the series of each row; -1 for a feed that the strategy created, as by resampling."""
    names, known = table["series"].to_pylist(), {name: place for place, name in enumerate(result.series)}
    places = {name: known.get(Series.parse(name).short, -1) for name in set(names)}
    return np.array([places[name] for name in names], float)


def _words_in(result: Measured, name: str) -> list[str]:
    return sorted({word for word in result.orders_table[name].to_pylist() if word})


def _numbers(result: Measured, name: str) -> np.ndarray:
    words = {word: number for number, word in enumerate(_words_in(result, name))}
    return np.array([words.get(word, np.nan) for word in result.orders_table[name].to_pylist()], float)


def _words(result: Measured) -> str:
    days, trades = result.account.days, len(result.trades_table)
    shown = f"{len(result.series)} series" if len(result.series) > 1 else result.series[0]
    return (
        f"Interactive chart of {result.spec.name} on {shown} from {days[0]} to {days[-1]}: equity, drawdown, profit "
        f"and loss of {trades:,} trades, prices with entries and exits, volume and position on one time axis."
    )


def _notes(result: Measured, bars: list[SeriesBars], step: int) -> Iterator[str]:
    why = {one.why_closes for one in bars if one.why_closes}
    for reason in sorted(why):
        names = [name for name, one in zip(result.series, bars, strict=True) if one.why_closes == reason]
        yield (
            f"The chart shows closes instead of candles for {few(names)}, because {reason}; for candles, name the "
            "store: "
            "backtest report RUN --store FOLDER"
        )
    if step > 1:
        yield f"The run has {len(result.record):,} bars, too many for a page: each bar on the chart combines {step:,}."
    if why_not := result.lines.why_not:
        yield f"The chart has no indicator lines: {why_not}."
