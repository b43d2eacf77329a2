"""
The chart of a page in a browser: the time to its first paint, the cost of a wheel step, and that of writing the page.

Run:  python tests/benchmarks/painting.py [--bars 3270,100000,1000000] [--repeats 5]      (Linux, with a Chromium)

First paint is the time from the navigation until two frames after the chart has drawn itself. A step is the processor
time of the page's main thread for one turn of the wheel with every bar in view, and in two frames after it, less the
time that as many frames take without it; the median of twelve steps counts. A process of its own writes the page of the
longest run; its time and memory are reported. Ours is compared with the goal, so a ratio of 1 or more meets it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import browser
import page
import prices
import timing

from backtest.api import RunResult, run
from backtest.market.series import Series
from backtest.report.run_page import write_page
from backtest.store.store import Store

DAYS = Series.parse("MADE/1day")
STEPS = 12
# Seconds until the chart is there, and seconds a step, of a page with at least so many bars.
GOALS = {0: (0.6, 0.04), 100_000: (0.8, 0.04), 1_000_000: (1.5, 0.06)}
WRITTEN = 20.0, 1.5e9  # seconds and bytes for the longest
# Said by the page itself, before its own scripts run; the event does not bubble, but is seen on its way down.
WATCH = """document.addEventListener("ready", () => requestAnimationFrame(() => requestAnimationFrame(() => {
  window.painted = performance.now(); })), true)"""
PAINTED = """new Promise((done) => { const look = () => window.painted ? done(window.painted) : setTimeout(look, 20);
  look(); })"""
FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
CHART = "document.querySelector('.chart').chart"
AT = f"""(() => {{ {CHART}.reset(); document.querySelector(".chart").scrollIntoView({{ behavior: "instant" }});
  const box = {CHART}.boxes[{CHART}.pricePane].parentElement.getBoundingClientRect();
  return [box.left + box.width / 2, box.top + box.height / 2]; }})()"""


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--bars", default="3270,100000,1000000")
    words.add_argument("--repeats", type=int, default=5)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(Path(folder), tuple(map(int, asked.bars.split(","))), asked.repeats):
            print(timing.line(row), flush=True)


def rows(folder: Path, sizes: tuple[int, ...], repeats: int) -> Iterator[timing.Row]:
    """Yield the rows of pages of this many bars, daily if they are few; none if no browser is installed."""
    if not browser.installed():
        return
    for bars in sizes:
        place = folder / str(bars)
        result, store = made(place, bars)
        result.save(place / "run")
        if bars == max(sizes):
            yield from costs(f"page of a run, {bars:,} bars", place / "run", store)
        else:
            write_page(result, place / "run", store)
        del result
        with browser.started(place / "browser") as tab:
            yield from shown(tab, place / "run" / "index.html", bars, repeats)


def made(folder: Path, bars: int) -> tuple[RunResult, Store]:
    """Return a run on this many bars, and the store that has them."""
    store = Store(folder / "store")
    series, table = (
        (DAYS, prices.daily_bars(bars, 1)) if bars < 10_000 else (page.MINUTES, prices.minute_bars(bars, 1440))
    )
    prices.fill(store, series, table)
    return run(page.STRATEGY, series, store=store, costs="none"), store


def costs(job: str, kept: Path, store: Store) -> list[timing.Row]:
    """Return the rows of the time and memory that `backtest report` takes for a saved run."""
    command = [str(Path(sys.executable).with_name("backtest")), "report", str(kept), "--store", str(store.root)]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds, size = time.perf_counter() - began, used.ru_maxrss * 1024
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, "backtest report failed"
    most, largest = WRITTEN
    return [
        timing.Row(f"{job}, backtest report", "goal", f"{seconds:.1f} s", f"{most:.0f} s", most / seconds, 1.0),
        timing.Row(
            f"{job}, its memory", "goal", f"{size / 1e6:,.0f} MB", f"{largest / 1e6:,.0f} MB", largest / size, 1.0
        ),
    ]


def shown(tab: browser.Tab, path: Path, bars: int, repeats: int) -> list[timing.Row]:
    """Return the rows of a page: its first paint, and a step of the wheel over all of its bars."""
    tab.ask("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
    paints = [painted(tab, path) for _ in range(repeats)]
    assert tab.value(f"{CHART}.rows * {CHART}.about.step") >= bars, "other bars"
    tab.ask(
        "Performance.enable", timeDomain="threadTicks"
    )  # processor time: of other work on the machine it knows little
    steps = [step(tab) for _ in range(STEPS)]
    paint, wheel = next(goal for least, goal in reversed(GOALS.items()) if bars >= least)
    return [
        timing.Row(f"first paint, {bars:,} bars", "goal", timing.span(paints), timing.span([paint]),
                   paint / median(paints), 1.0),
        timing.Row(f"wheel step, {bars:,} bars in view", "goal", timing.span(steps), timing.span([wheel]),
                   wheel / median(steps), 1.0),
    ]  # fmt: skip


def painted(tab: browser.Tab, path: Path) -> float:
    """Return the seconds until a page has drawn its chart."""
    tab.open("about:blank", 1280)
    tab.open(path, 1280)
    milliseconds: float = tab.awaited(PAINTED)
    return milliseconds / 1000


def step(tab: browser.Tab) -> float:
    """Return the seconds that a step of the wheel takes with all bars in view."""
    left, top = tab.value(AT)
    tab.mouse("mouseMoved", left, top)
    for _ in range(5):
        tab.awaited(FRAMES)
    before = busy(tab)
    tab.awaited(FRAMES)
    idle = busy(tab)
    tab.mouse("mouseWheel", left, top, deltaX=0, deltaY=-120)
    tab.awaited(FRAMES)
    after = busy(tab)
    assert tab.value(f"{CHART}.range.to - {CHART}.range.from < {CHART}.rows"), "nothing was zoomed"
    return max(after - idle - (idle - before), 1e-6)


def busy(tab: browser.Tab) -> float:
    """Return for how many seconds the main thread of the page has worked."""
    (told,) = (one["value"] for one in tab.ask("Performance.getMetrics")["metrics"] if one["name"] == "TaskDuration")
    return float(told)


if __name__ == "__main__":
    main()
