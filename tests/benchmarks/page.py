"""
The page of a long run: all of it, against the time that Matplotlib alone takes to draw the same figures.

Run:  python tests/benchmarks/page.py [--bars 100000] [--repeats 5]

Ours: from a saved run in memory to the whole text of the page: metrics, verdict, a thousand bootstrap samples, each
figure in two widths, every table. Theirs: the same six figures from arrays that are ready, in one width, each saved as
an SVG in memory; once with every point of a line, as a user would write it, and once with only the points that our page
keeps, which is the harder comparison. Both draw with the same colours and sizes, and no more decoration than axes.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import prices
import timing
from matplotlib.figure import Figure

from backtest.api import RunResult, run
from backtest.market.series import Series
from backtest.metrics.account import column, hold, sample, session_ends
from backtest.metrics.drawdown import underwater
from backtest.report.figure_data import calendar_returns, exposures, rolling, thinned
from backtest.report.figures import FIGURES, WIDE
from backtest.report.run_page import page
from backtest.store.store import Store

MINUTES = Series.parse("EUR-CASH-IDEALPRO-USD/1min/MIDPOINT")  # trades around the clock
STRATEGY = Path(__file__).parents[2] / "strategies" / "sma_cross.py"
GOAL = 1 / 3  # at most three times what the figures alone take
STEPS = 1_200  # points that our page keeps of a line, of which each step has up to four

Line = tuple[np.ndarray, np.ndarray]
Thin = Callable[[np.ndarray, np.ndarray], Line]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--bars", type=int, default=100_000)
    words.add_argument("--repeats", type=int, default=5)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(timing.table(rows(Path(folder), asked.bars, asked.repeats)))


def rows(folder: Path, bars: int, repeats: int) -> list[timing.Row]:
    """Return the rows of a page, after checking that it has the figures that Matplotlib draws."""
    result = long_run(folder, bars)
    names = "Matplotlib, the same points", "Matplotlib, every point"
    jobs: dict[str, Callable[[], object]] = {
        "ours": lambda: page(replace(result)),  # nothing computed before
        names[0]: lambda: drawn(result, lambda x, y: thinned(x, y, STEPS)),
        names[1]: lambda: drawn(result, lambda x, y: (x, y)),
    }
    check(page(replace(result)), drawn(result, lambda x, y: (x, y)))
    return timing.race(f"page of a run, {bars:,} bars", jobs, repeats, dict.fromkeys(names, GOAL))


def long_run(folder: Path, bars: int) -> RunResult:
    """Return a run over this many minutes."""
    store = Store(folder / "store")
    prices.fill(store, MINUTES, prices.minute_bars(bars, 1440))
    return run(STRATEGY, MINUTES, store=store, costs="none")


def check(text: str, pictures: list[str]) -> None:
    """Fail unless the page has as many figures as Matplotlib draws, each in two widths."""
    assert len(pictures) == len(FIGURES) == text.count("<figure"), "other figures"
    assert text.count('<svg width="100%"') == 2 * len(pictures), "not two widths of each"


def drawn(result: RunResult, thin: Thin) -> list[str]:
    """Return the figures of a run as Matplotlib alone draws them."""
    return [saved(canvas) for canvas in canvases(result, thin)]


def saved(canvas: Figure) -> str:
    file = io.StringIO()
    canvas.savefig(file, format="svg")
    return file.getvalue()


def canvases(result: RunResult, thin: Thin) -> Iterator[Figure]:
    times, ends = result.record["time"].to_numpy(), session_ends(result.record)
    canvas = Figure((WIDE, 0.52 * WIDE), layout="constrained")
    money, depth = canvas.subplots(2, sharex=True, height_ratios=(3, 1))
    money.plot(*thin(times, hold(result)))
    money.plot(*thin(times, column(result.record, "equity")))
    depth.fill_between(*thin(times[ends], underwater(sample(result).equity)[1:]))
    yield canvas

    yield heat_map(result)

    days, ratios, spreads = rolling(result)
    canvas = Figure((WIDE, 0.4 * WIDE), layout="constrained")
    for axes, values in zip(canvas.subplots(2, sharex=True), (ratios, spreads), strict=True):
        axes.plot(*thin(days, values))
    yield canvas

    canvas = Figure((WIDE, 0.3 * WIDE), layout="constrained")
    canvas.subplots().hist(sample(result).returns, 60)
    yield canvas

    canvas = Figure((WIDE, 0.42 * WIDE), layout="constrained")
    axes = canvas.subplots()
    axes.plot(*thin(times, column(result.record, "close.0")))
    axes.scatter(*thin(result.fills_table["time"].to_numpy(), column(result.fills_table, "price")))
    yield canvas

    at, long, short = exposures(result)
    canvas = Figure((WIDE, 0.24 * WIDE), layout="constrained")
    axes = canvas.subplots()
    axes.fill_between(*thin(at, long))
    axes.plot(*thin(at, long + short))
    yield canvas


def heat_map(result: RunResult) -> Figure:
    years, months, _ = calendar_returns(result)
    canvas = Figure((WIDE, 0.5 + 0.27 * len(years)), layout="constrained")
    axes = canvas.subplots()
    axes.imshow(months, aspect="auto")
    for (row, place), value in np.ndenumerate(months):
        axes.text(place, row, f"{100 * value:.1f}", ha="center", va="center")
    return canvas


if __name__ == "__main__":
    main()
