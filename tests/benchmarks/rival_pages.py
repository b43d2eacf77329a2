"""
A reader's questions on the pages of other libraries: how many actions each takes, or why it cannot be answered.

Run:  python tests/benchmarks/rival_pages.py --rivals .venv-rivals/bin/python      (with a Chromium)

It needs quantstats besides what .venv-rivals has: pip install quantstats. The pages are those that backtesting.py's
`plot` and `plot_heatmaps`, vectorbt's `plot`, and quantstats' `reports.html` write for 3,270 daily bars and a cross of
two averages, each as the library's user would make it; ours are those of `tests/soak/page_tasks.py`. A script with a
mouse does in a browser what can be done, and what it reads is compared with the library's own numbers. An action is a
click, a place to point at, or turns of the wheel at one place; scrolling does not count. If a task cannot be done on
the page, the output says what is missing; in heat maps the cells around the best one are counted. Bokeh's scripts,
which its pages otherwise load from a server, are put into the pages here.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import browser
import prices
import tasks

from backtest.market.series import Series

JOB = Path(__file__).parent / "jobs" / "pages_of_rivals.py"
TASKS = (
    "worst trade: its entry on candles, averages, profit",
    "month of the worst drawdown, and its positions",
    "series and side that lost most",
    "best trial's neighbours and its equity",
    "two runs on one axis",
    "runs of a strategy by Sharpe ratio",
)
ONE_SERIES = "not possible: a page has one series, and no sum by side"
NO_LIST = "not possible: there is no page of several runs"
# What the pages do not have, so that no hand could do it.
MISSING = {
    "backtesting.py": {2: ONE_SERIES, 4: "not possible: a page has one run", 5: NO_LIST},
    "vectorbt": {2: ONE_SERIES, 5: NO_LIST},
    "quantstats": {
        0: "not possible: it has returns, no trades", 2: "not possible: it has returns, no positions",
        3: "not possible: it has no trials", 5: NO_LIST,
    },
}  # fmt: skip
WAIT = "new Promise((done) => setTimeout(done, 700))"  # both draw their hints some time after the mouse came
# Bokeh's pages: the figure with a label, the place on the screen of a row of a source's columns, and the hints.
BOKEH = """
  const all = [...Bokeh.documents[0]._all_models.values()];
  const figure = (label) => Bokeh.index.find_one_by_id(all.find((one) => one.type === "Figure" && (one.left[0]?.axis_label ?? null) === label).id);
  const source = (view, kind, column) => view.model.renderers.find((one) => one.glyph.type === kind && column in one.data_source.data).data_source.data;
  const place = (view, x, y) => { const box = view.canvas_view.el.getBoundingClientRect(); return [box.left + view.frame.x_scale.compute(x), box.top + view.frame.y_scale.compute(y)]; };
"""  # noqa: E501
HINTS = """(() => { const found = [];
  const look = (node) => { for (const one of node.querySelectorAll("*")) {
    if (one.matches(".bk-tooltip-content, .bk-Tooltip, .bk-tooltip")) found.push(one.innerText || one.textContent);
    if (one.shadowRoot) look(one.shadowRoot); } };
  look(document); return found.join(" "); })()"""
# Plotly's: the place on the page of a point of a curve, once it is in sight.
PLOTLY = """((name, axis, choose) => {
  const place = document.querySelector(".js-plotly-plot"), layout = place._fullLayout;
  const trace = place._fullData.find((one) => one.name === name && one.yaxis === "y" + axis);
  const at = choose([...trace.y]), across = layout["xaxis" + axis], down = layout["yaxis" + axis];
  const y = place.getBoundingClientRect().top + scrollY + down._offset + down.d2p(trace.y[at]);
  scrollTo(0, y - 450);
  return [place.getBoundingClientRect().left + across._offset + across.d2p(trace.x[at]), y - scrollY]; })"""
LOWEST = "(values) => values.indexOf(Math.min(...values))"
HOVER = "document.querySelector('.hoverlayer').textContent"


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rivals", type=Path, default=Path(".venv-rivals/bin/python"))
    words.add_argument("--pages", type=Path, help="a folder of existing pages")
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = asked.pages or Path(made)
        if not asked.pages:
            write(folder, asked.rivals)
        with browser.started(Path(made) / "browser") as tab:
            found = {name: dict(one) for name, one in counted(tab, folder).items()}
    print(table(found))


def write(folder: Path, rivals: Path) -> None:
    """Write the pages of the others into a folder."""
    frame = prices.write_frame(folder / "frame.parquet", prices.daily_bars(3_270, 1), Series.parse("S00/1day"))
    command = [str(rivals), str(JOB), str(frame), str(folder)]
    environment = os.environ | {"BOKEH_RESOURCES": "inline"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, f"{JOB} failed:\n{done.stderr}"


def counted(tab: browser.Tab, folder: Path) -> dict[str, Iterator[tuple[int, str]]]:
    """Return, for each library, the actions of each task, by the task's number."""
    told = json.loads((folder / "told.json").read_text())
    hands: dict[str, Callable[..., Iterator[tuple[int, str]]]] = {
        "backtesting.py": of_backtesting, "vectorbt": of_vectorbt, "quantstats": of_quantstats,
    }  # fmt: skip
    return {name: do(tasks.Hand(tab), folder, told[name]) for name, do in hands.items()}


def table(found: dict[str, dict[int, str]]) -> str:
    """Return the tasks as a table in Markdown."""
    lines = [f"| task | {' | '.join(found)} |", f"|---|{'---|' * len(found)}"]
    for place, name in enumerate(TASKS):
        cells = [one.get(place) or MISSING[library][place] for library, one in found.items()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def at(hand: tasks.Hand, x: float, y: float) -> None:
    """Point at a place of the window."""
    hand.actions += 1
    hand.tab.mouse("mouseMoved", x, y)
    hand.tab.awaited(WAIT)


def of_backtesting(hand: tasks.Hand, folder: Path, told: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """Do what can be done on the pages of backtesting.py."""
    hand.open(folder / "backtesting.html")
    hand.tab.awaited("new Promise((done) => setTimeout(done, 4000))")
    trades = "const view = figure('Profit / Loss'), data = source(view, 'Scatter', 'returns');"
    at(
        hand,
        *hand.read(f"""(() => {{ {BOKEH} {trades} const all_of = [...data.returns];
      const row = all_of.indexOf(Math.min(...all_of)); return place(view, data.index[row], all_of[row]); }})()"""),
    )
    assert f"{100 * told['profit']:.3f}%" in hand.read(HINTS).replace("−", "-")
    bars = f"const view = figure(null), data = source(view, 'VBar', 'datetime'), row = {told['entry']};"
    spot = (
        f"(() => {{ {BOKEH} {bars} return place(view, data.index[row], (data.Open[row] + data.Close[row]) / 2); }})()"
    )
    width = (
        f"(() => {{ {BOKEH} const scale = figure(null).frame.x_scale; return scale.compute(1) - scale.compute(0); }})()"
    )
    hand.actions += 1
    while hand.read(width) < 4:  # pixels of a bar
        x, y = hand.read(spot)
        hand.tab.mouse("mouseWheel", x, y, deltaX=0, deltaY=-240)
        hand.tab.awaited(WAIT)
    at(hand, *hand.read(spot))
    seen = hand.read(HINTS)
    assert all(f"{average:.4f}".rstrip("0")[:6] in seen for average in told["averages"]), (told["averages"], seen)
    yield 0, f"{hand.actions}; the profit is told elsewhere than the averages"

    hand.open(folder / "backtesting.html")
    hand.tab.awaited("new Promise((done) => setTimeout(done, 4000))")
    at(
        hand,
        *hand.read(f"""(() => {{ {BOKEH} const view = figure('Equity'), data = source(view, 'Line', 'equity');
      return place(view, data.index[{told["trough"]}], data.equity[{told["trough"]}]); }})()"""),
    )
    assert "Date" in hand.read(HINTS)
    for until, size in zip(told["held_until"], told["held"], strict=True):
        at(
            hand,
            *hand.read(f"""(() => {{ {BOKEH} {trades} const row = [...data.index].indexOf({until});
          return place(view, data.index[row], data.returns[row]); }})()"""),
        )
        assert f"{size:,}" in hand.read(HINTS).replace("−", "-"), (size, hand.read(HINTS))
    yield 1, f"{hand.actions}, if one knows which trade it was"
    yield 3, cells_of_a_heat_map(told["ratios"])


def cells_of_a_heat_map(ratios: list[float]) -> str:
    """Return the actions that reading the neighbours of the best cell of a 3 by 2 grid takes: one per cell."""
    best = ratios.index(max(ratios))
    near = [one for one in range(len(ratios)) if one != best and abs(one // 2 - best // 2) <= 1]
    return f"neighbours: {len(near)}, one each, by their colours none; equity: not possible"


def of_vectorbt(hand: tasks.Hand, folder: Path, told: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """Do what can be done on the pages of vectorbt."""
    hand.open(folder / "vectorbt.html")
    hand.tab.awaited("new Promise((done) => setTimeout(done, 3000))")
    at(hand, *hand.read(f"{PLOTLY}('Closed - Loss', 3, {LOWEST})"))
    seen = hand.read(HOVER).replace("−", "-")
    assert f"{told['return']:.5%}"[:6] in seen or f"{told['profit']:.2f}"[:6] in seen, (told, seen)
    yield 0, f"profit and times: {hand.actions}; candles and averages: not possible"

    hand.actions = 0
    at(hand, *hand.read(f"{PLOTLY}('Drawdown', 12, {LOWEST})"))
    assert hand.read(HOVER)
    at(hand, *hand.read(f"{PLOTLY}('Assets', 6, () => {told['trough']})"))
    assert f"{told['held'][0]:.0f}" in hand.read(HOVER).replace("−", "-"), hand.read(HOVER)
    yield 1, str(hand.actions)
    yield 3, cells_of_a_heat_map(told["ratios"])

    hand.open(folder / "vectorbt-two.html")
    hand.tab.awaited("new Promise((done) => setTimeout(done, 3000))")
    for name in ("first", "second"):
        row = "(values) => Math.floor(values.length / 2)"
        at(hand, *hand.read(f"{PLOTLY}('{name}', '', {row})"))
        assert name in hand.read(HOVER), hand.read(HOVER)
    yield 4, f"0 to see them, {hand.actions} to read a day of both; with code: `vbt.plot()` of both values"


def of_quantstats(hand: tasks.Hand, folder: Path, told: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """Do what can be done on the page of quantstats."""
    hand.open(folder / "quantstats.html")
    text = hand.read("document.body.innerText")
    assert "Max DD Date" in text
    assert "Worst 10 Drawdowns" in text
    yield 1, f"month: {hand.actions}; positions: not possible"
    assert "Benchmark" in text
    yield 4, f"{hand.actions}, one as the benchmark of the other; a day: not possible, these are pictures"


if __name__ == "__main__":
    main()
