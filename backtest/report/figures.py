"""
Figures of a run: `FIGURES`, and `svg`, which renders one for a page.

A figure is transparent and drawn in COLOURS, mid-tones that are readable on light and dark backgrounds; in an SVG each
is a CSS variable such as --figure-ink, so that a page can set better ones.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest import _arguments
from backtest.errors import UsageError
from backtest.metrics.account import column, growth_of_cash, hold, hold_name, session_ends
from backtest.metrics.drawdown import deepest, drawdowns, underwater
from backtest.report.figure_data import (
    calendar_returns,
    exposures,
    fills_of,
    is_enough,
    margins,
    moving,
    rolling,
    rolling_beta,
    rolling_sessions,
    thinned,
    times_of,
)
from backtest.store.replacement import replace_file
from backtest.validity.verdict import verdict

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    from backtest.metrics.measurement import Measured

WIDE, NARROW = 9.6, 4.2  # inches: for a desktop and for a phone
COLOURS = {
    "ink": "#6e7781",
    "grid": "#8c959e",
    "run": "#2f7ed8",
    "hold": "#949ca5",
    "gain": "#2b8cc4",  # blue and orange, which the colour-blind tell apart
    "loss": "#d9662b",
}

_LINES, _STYLES = ("run", "loss", "hold", "ink"), ("-", "--", ":")  # of several runs, one after the other

_SIZE = 8.5  # points of a text
_STEPS = 125  # an inch: what a screen can show of a line
_SHEET = 11.69, 8.27  # inches: A4, across
_PANELS = 6  # price charts, at most
_GROWN = 5.0  # times the lowest equity: from here on a linear scale hides the beginning
_BINS = 60
_SHADED = 5  # drawdowns
_LONGEST = 48  # letters of a name in a legend
_LONGEST_ERROR = 500  # characters of an error's text
_LEGEND: dict[str, Any] = {
    "loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 3, "borderaxespad": 0.2, "handlelength": 1.5,
    "frameon": False, "labelcolor": COLOURS["ink"], "fontsize": _SIZE,
}  # fmt: skip  # above the axes, where no line is hidden
_CENTRED: dict[str, Any] = {"ha": "center", "va": "center", "color": COLOURS["ink"], "fontsize": 8, "in_layout": False}
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Figure:
    """
    A figure of a run: `alt` describes it in words, `draw` draws it at a given width in inches.

    `needs` says whether the run has what the figure needs. Pass your own row to a report: its `draw(result, width)`
    returns a Matplotlib figure, and is called twice, for a desktop and for a phone.
    """

    name: str
    title: str
    alt: Callable[[Measured], str]
    draw: Callable[..., Canvas]
    needs: Callable[[Measured], bool] = lambda result: True


def shown_figures(result: Measured, figures: Iterable[Figure] = ()) -> list[Figure]:
    """
    Return the figures for which a run has enough data: ours, then the user's own.

    Raises:
        UsageError: one of the user's is not a figure, has the name of another one, or fails.
    """
    every = dict(FIGURES)
    for figure in _arguments.several(figures, "figures", _ROW):
        _check_row(_arguments.instance(figure, "a figure", Figure, _ROW), every)
        every[figure.name] = _guarded(figure)
    return [figure for figure in every.values() if figure.needs(result)]


_ROW = "write a list of rows, such as Figure(name, title, alt, draw)"


def _check_row(figure: Figure, known: Mapping[str, Figure]) -> None:
    for field in ("name", "title"):
        if not _arguments.text(getattr(figure, field), f"the {field} of a figure", _ROW).strip():
            raise UsageError(f"the {field} of a figure is empty; {_ROW}")
    if not re.fullmatch(r"\w+", figure.name) or figure.name in known:
        raise UsageError(f"a figure cannot be named {figure.name!r}: write a word that no other figure has")
    for field in ("alt", "draw", "needs"):
        _arguments.function(getattr(figure, field), f"{field} of the figure {figure.name}", _ROW)


def _guarded(figure: Figure) -> Figure:
    """Wrap a user's figure: its errors name it, and its drawing has to be a figure."""

    def draw(result: Measured, width: float = WIDE) -> Canvas:
        canvas: Canvas = _called(figure, "draw", result, width)
        _arguments.function(
            getattr(canvas, "savefig", None), f"what draw of the figure {figure.name} returned", "return its Figure"
        )
        canvas.set_label(f"own {figure.name} {width}")  # of which the ids in a page are made
        return canvas

    def alt(result: Measured) -> str:
        return _arguments.text(
            _called(figure, "alt", result), f"what alt of the figure {figure.name} returned", "return a sentence"
        )

    return replace(figure, draw=draw, alt=alt, needs=lambda result: bool(_called(figure, "needs", result)))


def _called(figure: Figure, what: str, *given: Any) -> Any:
    try:
        return getattr(figure, what)(*given)
    except Exception as error:
        takes = "result, width" if what == "draw" else "result"
        raise UsageError(
            f"{what} of the figure {figure.name} failed: {type(error).__name__}: {str(error)[:_LONGEST_ERROR]}; it is "
            f"called as {what}({takes})"
        ) from error


def svg(canvas: Canvas) -> str:
    """Return a figure as an SVG element that fills its container; equal figures give equal bytes."""
    from matplotlib import rc_context

    _lay_out(canvas)
    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    # The salt makes the ids that Matplotlib invents the same in each run, and others than in the page's next figure.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": str(canvas.get_label())}):
        canvas.savefig(file, format="svg", metadata=nothing)
    return _themed(file.getvalue())


def _lay_out(canvas: Canvas) -> None:
    """Lay out the axes now: otherwise Matplotlib first draws everything for the layout, a third of the time."""
    if engine := canvas.get_layout_engine():
        engine.execute(canvas)
        canvas.set_layout_engine(None)


def save_png(result: Measured, folder: Path) -> list[Path]:
    """Write each figure of a run as a PNG file on white into a folder, and return their paths."""
    paths = [folder / f"{figure.name}.png" for figure in shown_figures(result)]
    for figure, path in zip(shown_figures(result), paths, strict=True):
        drawing = figure.draw(result)
        look: Any = {"format": "png", "dpi": 150, "facecolor": "white", "metadata": {"Software": ""}}
        replace_file(path, partial(drawing.savefig, **look), folders=True)
    return paths


def save_pdf(result: Measured, file: Path) -> None:
    """Write a run as a PDF of A4 sheets: verdict and metrics on the first one, then one figure per sheet."""
    from matplotlib.backends.backend_pdf import PdfPages

    pdf = io.BytesIO()
    # Without the time of its making, so that the same run gives the same file.
    about: Any = {"Title": f"{result.spec.name} on {', '.join(result.series)}", "CreationDate": None}
    with PdfPages(pdf, metadata=about) as pages:
        pages.savefig(_numbers(result), facecolor="white")
        for figure in shown_figures(result):
            canvas = figure.draw(result)
            canvas.suptitle(figure.title, color=COLOURS["ink"], parse_math=False)
            canvas.set_size_inches(*_SHEET)
            pages.savefig(canvas, facecolor="white")
    replace_file(file, pdf.getvalue(), named=True)


def _numbers(result: Measured) -> Canvas:
    canvas = _canvas("numbers", *_SHEET)
    words = [textwrap.fill(line, 80) for line in str(verdict(result)).splitlines()]
    text = "\n".join([*words, "", repr(result)])
    canvas.text(0.06, 0.95, text, va="top", family="monospace", fontsize=_SIZE, parse_math=False)
    return canvas


def draw_equity(result: Measured, width: float = WIDE) -> Canvas:
    """Draw equity against buy and hold, the deepest drawdowns shaded, and the drawdowns of both at session ends."""
    canvas = _canvas("equity", width, 0.52 * width if width > 6 else 0.95 * width)
    money, depth = canvas.subplots(2, sharex=True, height_ratios=(3, 1))
    times, ends = times_of(result), session_ends(result.record)
    _line(money, times, hold(result), "hold", f"Buy and hold {hold_name(result)}")
    _line(money, times, growth_of_cash(result), "run", "Strategy")
    money.legend(**_LEGEND, reverse=True)
    scale = _scale(growth_of_cash(result), hold(result))
    if scale == "log":
        _logarithmic(money)
    money.yaxis.set_major_formatter("{x:,.0f}")
    words = f"Equity, {result.stats.currency}{', log scale' if scale == 'log' else ''}"
    money.set_ylabel(words, color=COLOURS["ink"], fontsize=_SIZE)
    depths = 100 * underwater(result.account.equity)[1:]
    held = np.append(result.spec.cash, hold(result)[ends])
    if (held > 0).all():  # prices below zero, such as crude oil's in April 2020, have no return
        _line(depth, times[ends], 100 * underwater(held)[1:], "hold")
    _line(depth, times[ends], depths, "loss")
    for one in deepest(drawdowns(result.account.days, result.account.equity), _SHADED):
        until = np.datetime64(one.recovery or result.account.days[-1])
        money.axvspan(np.datetime64(one.peak), until, color=COLOURS["loss"], alpha=0.08, linewidth=0)
    depth.fill_between(*thinned(times[ends], depths, _steps(depth)), color=COLOURS["loss"], alpha=0.3, linewidth=0)
    depth.set_ylabel("Drawdown, %", color=COLOURS["ink"], fontsize=_SIZE)
    return _dated(canvas, width)


def draw_growth(names: Sequence[str], days: np.ndarray, returns: np.ndarray, width: float = WIDE) -> Canvas:
    """
    Draw the growth of 100 in each of several runs, over their common sessions.

    `returns` has a row per run, shape (runs, n).
    """
    canvas = _canvas("growth", width, 0.45 * width if width > 6 else 0.9 * width)
    axes, money = canvas.subplots(), 100 * np.cumprod(1 + returns, axis=1)
    for n, (name, values) in enumerate(zip(names, money, strict=True)):
        style = _STYLES[n // len(_LINES) % len(_STYLES)]
        _line(axes, days, values, _LINES[n % len(_LINES)], _cut(name), linestyle=style)
    axes.legend(**{**_LEGEND, "ncols": 1})
    if _scale(money) == "log":
        _logarithmic(axes)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylabel("Equity, from 100", color=COLOURS["ink"], fontsize=_SIZE)
    return _dated(canvas, width)


def draw_rolling(result: Measured, width: float = WIDE) -> Canvas:
    """Draw the rolling Sharpe ratio, volatility and, with a benchmark, beta."""
    (days, ratios, spreads), betas = rolling(result), rolling_beta(result)
    rows = [(ratios, "run", "Sharpe"), (100 * spreads, "hold", "Volatility, %"), (betas, "ink", "Beta")]
    rows = [row for row in rows if len(row[0])]
    canvas = _canvas("rolling", width, len(rows) * (0.2 * width if width > 6 else 0.4 * width))
    for axes, (values, colour, words) in zip(canvas.subplots(len(rows), sharex=True), rows, strict=True):
        _line(axes, days, values, colour)
        axes.set_ylabel(words, color=COLOURS["ink"], fontsize=_SIZE)
    canvas.axes[0].axhline(0, color=COLOURS["grid"], linewidth=0.8)
    return _dated(canvas, width)


def draw_distribution(result: Measured, width: float = WIDE) -> Canvas:
    """
    Draw a histogram of session returns, and a normal distribution with the same mean and deviation.

    Sessions without a change, such as those without a position, are omitted: they would dwarf everything else.
    """
    canvas = _canvas("distribution", width, 0.3 * width if width > 6 else 0.65 * width)
    axes = canvas.subplots()
    percents = 100 * moving(result)
    counts, edges = np.histogram(percents, _BINS)
    middles = (edges[1:] + edges[:-1]) / 2
    colours = [COLOURS["gain" if middle > 0 else "loss"] for middle in middles]
    axes.bar(middles, counts, width=0.9 * (edges[1] - edges[0]), color=colours, alpha=0.6, linewidth=0)
    axes.plot(middles, _normal_counts(percents, edges), color=COLOURS["ink"], linewidth=1.1, label="Normal")
    axes.legend(**_LEGEND)
    axes.set_xlabel("Return of a session, %", color=COLOURS["ink"], fontsize=_SIZE)
    axes.set_ylabel("Sessions", color=COLOURS["ink"], fontsize=_SIZE)
    _ruled(axes)
    return canvas


def draw_exposure(result: Measured, width: float = WIDE) -> Canvas:
    """Draw the values of positions at each session's end, as a fraction of equity: long, short, and the sum."""
    canvas = _canvas("exposure", width, 0.24 * width if width > 6 else 0.55 * width)
    axes = canvas.subplots()
    times, long, short = exposures(result)
    for values, colour in ((long, "gain"), (short, "loss")):
        if values.any():
            x, y = thinned(times, 100 * values, _steps(axes))
            axes.fill_between(x, y, color=COLOURS[colour], alpha=0.35, linewidth=0)
    _line(axes, times, 100 * (long + short), "run", "Net")
    axes.legend(**_LEGEND)
    axes.set_ylabel("% of equity", color=COLOURS["ink"], fontsize=_SIZE)
    return _dated(canvas, width)


def draw_margin(result: Measured, width: float = WIDE) -> Canvas:
    """Draw equity against the maintenance margin of the positions, and the margin calls."""
    canvas = _canvas("margin", width, 0.24 * width if width > 6 else 0.55 * width)
    axes = canvas.subplots()
    times, equity, required = margins(result)
    axes.fill_between(*thinned(times, required, _steps(axes)), color=COLOURS["loss"], alpha=0.35, linewidth=0)
    _line(axes, times, required, "loss", "Maintenance margin")
    _line(axes, times, equity, "run", "Equity")
    if (called := required > equity).any():
        axes.plot(times[called], equity[called], "v", color=COLOURS["loss"], markersize=4, label="Margin call")
    axes.legend(**_LEGEND)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylabel(f"{result.stats.currency}", color=COLOURS["ink"], fontsize=_SIZE)
    return _dated(canvas, width)


def draw_monthly(result: Measured, width: float = WIDE) -> Canvas:
    """Draw the return of each month, a row per year, and of the year beside it, as a heat map."""
    wide = width > 6
    years, months, totals = calendar_returns(result)
    canvas = _canvas("monthly", width, 0.5 + 0.27 * len(years))
    axes = canvas.subplots()
    _cells(axes, 100 * months, np.arange(12.0), 1.0, wide)
    _cells(axes, 100 * totals[:, None], np.array([12.3]), 1.3, wide)
    names = [name if wide else name[0] for name in _MONTHS]
    axes.set(xlim=(0, 13.6), ylim=(len(years), 0))
    axes.set_xticks([*np.arange(12) + 0.5, 12.95], [*names, "Year"])
    axes.set_yticks(np.arange(len(years)) + 0.5, [str(year) for year in years])
    _plain(axes)
    axes.tick_params(labeltop=True, labelbottom=False, bottom=False)
    return canvas


def draw_price(result: Measured, width: float = WIDE) -> Canvas:
    """Draw the close of each series, at most six, with entries and exits at the prices of their fills."""
    panels = min(len(result.series), _PANELS)
    first = 0.42 * width if width > 6 else 0.75 * width
    canvas = _canvas("price", width, first + (panels - 1) * 0.6 * first)
    for n, axes in enumerate(canvas.subplots(panels, sharex=True, squeeze=False)[:, 0]):
        _line(axes, times_of(result), column(result.record, f"close.{n}"), "hold", f"Close of {result.series[n]}")
        for label, marker, colour, fills in _marks(result, n):
            shown, style = thinned(*fills, _steps(axes)), {"s": 26, "linewidth": 0, "zorder": 3}
            axes.scatter(*shown, marker=marker, color=COLOURS[colour], label=label, **style)
        axes.legend(**_LEGEND)
        if _scale(column(result.record, f"close.{n}")) == "log":
            _logarithmic(axes)
        axes.yaxis.set_major_formatter("{x:,.6g}")
    return _dated(canvas, width)


def _canvas(name: str, width: float, height: float) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, height), layout="constrained", facecolor="none")
    canvas.set_label(f"{name} {width}")
    return canvas


def _cut(name: str) -> str:
    """Return a name that fits a legend: of a long one the beginning and the end, which distinguish it."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 16]} … {name[-12:]}"


def _line(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str, label: str = "", linestyle: str = "-") -> None:
    line = {"color": COLOURS[colour], "linewidth": 1.1, "linestyle": linestyle}
    axes.plot(*thinned(x, y, _steps(axes)), label=label, **line)  # type: ignore[arg-type]  # its stubs know no dict


def _steps(axes: Axes) -> int:
    return int(_STEPS * axes.get_figure().get_figwidth())  # type: ignore[union-attr]  # it is on a canvas


def _dated(canvas: Canvas, width: float) -> Canvas:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    for axes in canvas.axes:
        _ruled(axes)
        locator = AutoDateLocator(minticks=3, maxticks=9 if width > 6 else 7)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        axes.xaxis.get_offset_text().set(color=COLOURS["ink"], fontsize=_SIZE)
    canvas.align_ylabels()
    return canvas


def _scale(*money: np.ndarray) -> str:
    lowest, highest = np.min([one.min() for one in money]), np.max([one.max() for one in money])
    return "log" if lowest > 0 and highest > _GROWN * lowest else "linear"


def _logarithmic(axes: Axes) -> None:
    from matplotlib.ticker import LogLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.minorticks_off()


def _normal_counts(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    from statistics import NormalDist

    like = NormalDist(float(values.mean()), float(values.std(ddof=1)))
    shares = np.array([like.cdf(float(edge)) for edge in edges])
    return np.asarray(len(values) * np.diff(shares))


def _ruled(axes: Axes) -> None:
    _plain(axes)
    axes.grid(axis="y", color=COLOURS["grid"], alpha=0.3, linewidth=0.6)
    axes.spines["bottom"].set(visible=True, color=COLOURS["grid"], linewidth=0.6)
    axes.margins(x=0.01)


def _plain(axes: Axes) -> None:
    axes.set_facecolor("none")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(color=COLOURS["grid"], labelcolor=COLOURS["ink"], labelsize=_SIZE, length=3, width=0.6)
    axes.tick_params(axis="y", length=0)


def _cells(axes: Axes, percents: np.ndarray, lefts: np.ndarray, width: float, wide: bool) -> None:
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgba

    strong = np.nanquantile(np.abs(percents), 0.95) or 1.0  # so that one extreme month does not dim the others
    boxes, colours = [], []
    for (row, place), percent in np.ndenumerate(percents):
        if np.isnan(percent):
            continue
        left, top = float(lefts[place]), float(row)
        right = left + width - 0.03
        boxes.append([(left + 0.03, top + 0.05), (right, top + 0.05), (right, top + 0.95), (left + 0.03, top + 0.95)])
        colours.append(to_rgba(COLOURS["gain" if percent > 0 else "loss"], 0.6 * min(abs(percent) / strong, 1)))
        axes.text(left + width / 2, row + 0.53, _percent(percent, wide), **_CENTRED)
    axes.add_collection(PolyCollection(boxes, facecolors=colours, linewidths=0), autolim=False)


def _percent(percent: float, wide: bool) -> str:
    return (f"{percent:z.1f}" if wide else f"{percent:z.0f}").replace("-", "−")


def _marks(result: Measured, number: int) -> Iterator[tuple[str, str, str, tuple[np.ndarray, np.ndarray]]]:
    """Yield label, marker, colour, and (times, prices) of entries and of exits; a reversal is both."""
    times, sizes, prices = fills_of(result, number)
    after = np.round(np.cumsum(sizes), 9)  # fractions of a share must add up to zero
    entries, exits = after * sizes > 0, (after - sizes).round(9) * sizes < 0
    for label, marker, colour, chosen in (("Entry", "^", "gain", entries), ("Exit", "v", "loss", exits)):
        if chosen.any():
            yield f"{label} ({chosen.sum():,})", marker, colour, (times[chosen], prices[chosen])


def _equity_alt(result: Measured) -> str:
    stats, end = result.stats, growth_of_cash(result)[-1]
    return (
        f"Equity of {result.spec.name}: {result.spec.cash:,.0f} {stats.currency} became {end:,.0f}, and "
        f"{hold(result)[-1]:,.0f} by buying and holding {hold_name(result)}; the deepest drawdown was "
        f"{stats.text('max_drawdown')}."
    )


def _monthly_alt(result: Measured) -> str:
    _, months, _ = calendar_returns(result)
    seen = months[np.isfinite(months)]
    return (
        f"Returns of {len(seen)} months: {np.sum(seen > 0)} gains, the best {seen.max():+.1%}, "
        f"and {np.sum(seen < 0)} losses, the worst {seen.min():+.1%}."
    )


def _price_alt(result: Measured) -> str:
    names = result.series[:_PANELS]
    counts = [f"{len(fills_of(result, n)[0])} fills in {name}" for n, name in enumerate(names)]
    return f"Closes with entries and exits: {', '.join(counts)}."


def _rolling_alt(result: Measured) -> str:
    account, (days, ratios, spreads) = result.account, rolling(result)
    known = ratios[np.isfinite(ratios)]
    between = f"between {known.min():.2f} and {known.max():.2f}" if len(known) else "not defined"
    return (
        f"Over {rolling_sessions(account)} {account.unit}, from {days[0]} to {days[-1]}, the Sharpe ratio "
        f"was {between}, the annual volatility between {spreads.min():.1%} and {spreads.max():.1%}."
    )


def _distribution_alt(result: Measured) -> str:
    returns = moving(result)
    return (
        f"Returns of the {len(returns):,} {result.account.unit} that changed equity: the worst {returns.min():+.2%}, "
        f"the median {np.median(returns):+.2%}, the best {returns.max():+.2%}."
    )


def _exposure_alt(result: Measured) -> str:
    _, long, short = exposures(result)
    net = long + short
    return f"Positions were worth {net.min():.0%} to {net.max():.0%} of equity, {net.mean():.0%} on average."


def _margin_alt(result: Measured) -> str:
    _, equity, required = margins(result)
    calls = int((required > equity).sum())
    return f"Positions required up to {required.max():,.0f} {result.stats.currency} while held; {calls:,} margin calls."


def _themed(text: str) -> str:
    head, body = text[text.index("<svg") :].split(">", 1)
    text = re.sub(r' (width|height)="[^"]*"', "", head).replace("<svg", '<svg width="100%"') + ">" + body
    text = re.sub(r' id="[A-Za-z0-9.]*_\d+"', "", text)  # figure_1, which the next figure has as well
    family = r"font-size: \1; font-family: var(--figure-font, sans-serif)"
    text = re.sub(r"font: ([\d.]+px) [^;\"]+", family, text)
    text = text.replace('<style type="text/css">*{', "<style>svg *{")
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--figure-{name}, {colour})")
    return text


FIGURES: dict[str, Figure] = {
    figure.name: figure
    for figure in (
        Figure("equity", "Equity and drawdown", _equity_alt, draw_equity),
        Figure("monthly", "Monthly returns, %", _monthly_alt, draw_monthly),
        Figure("rolling", "Rolling Sharpe ratio, volatility and beta", _rolling_alt, draw_rolling, is_enough),
        Figure(
            "distribution",
            "Returns of the sessions that changed equity",
            _distribution_alt,
            draw_distribution,
            is_enough,
        ),
        Figure("price", "Price, entries and exits", _price_alt, draw_price),
        Figure(
            "exposure",
            "Exposure at session ends",
            _exposure_alt,
            draw_exposure,
            lambda result: bool(len(result.fills_table)),
        ),
        Figure(
            "margin",
            "Equity and maintenance margin",
            _margin_alt,
            draw_margin,
            lambda result: bool(margins(result)[2].any()),
        ),
    )
}
