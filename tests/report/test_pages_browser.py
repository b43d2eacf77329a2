"""The pages of a sweep, a walk-forward, a comparison and the gallery in a real browser, and what is done on them."""

import itertools
import re
from datetime import date
from importlib.metadata import distribution
from pathlib import Path

import browser
import numpy as np
import pytest

from backtest import RunResult, compare, run, sweep, walk_forward
from backtest.metrics.table import METRICS
from backtest.report.comparison_page import comparison_page, write_comparison
from backtest.report.gallery import write_gallery
from backtest.report.printing import print_page
from backtest.report.server import PageServer

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not browser.installed(), reason=browser.MISSING)]

AXE = Path(str(distribution("axe-core-python").locate_file("axe_core_python/axe.min.js")))
YEARS = (date(2003, 1, 2), date(2004, 12, 31))
GRID = {"fast": [5, 10, 15], "slow": [20, 30]}
NAMES = ("sweep", "walk-forward", "comparison", "gallery")
DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 20))))"
READY = "chartsReady.then(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))))"
PLACE = """(() => {{ const part = {0}, box = part.getBoundingClientRect();
  window.scrollBy({{ top: box.top + box.height / 2 - innerHeight / 2, behavior: "instant" }});
  const {{ left, top, width, height }} = part.getBoundingClientRect(); return [left, top, width, height]; }})()"""


@pytest.fixture(scope="module")
def made(tmp_path_factory, sample):
    """Return a sweep, a walk-forward over its trials, and a comparison of two runs that are kept beside them."""
    folder = tmp_path_factory.mktemp("pages")
    given = {"store": sample, "span": YEARS}
    found = sweep("sma_cross", "AAPL/1day", GRID, **given, folder=folder / "grid")
    walk = walk_forward("sma_cross", "AAPL/1day", GRID, **given, train=200, test=60, folder=folder / "grid")
    runs = [run(name, "AAPL/1day", **given) for name in ("sma_cross", "buy_and_hold")]
    for one in (*runs, run("sma_cross", "AAPL/1day", **given, params={"fast": 5})):
        one.save(folder / one.name)
    return folder, found, walk, compare(runs, 10)


@pytest.fixture(scope="module")
def pages(made):
    folder, found, walk, compared = made
    return {
        "sweep": found.explore().save(folder / "sweep.html"),
        "walk-forward": walk.explore().save(folder / "walk.html"),
        "comparison": write_comparison(compared, folder / "compared"),
        "gallery": write_gallery(folder),
    }


@pytest.fixture
def opened(tab, pages):
    """Return a function that shows a page on a desk, when it has drawn itself."""

    def open_page(name):
        tab.open(pages[name], 1280)
        tab.awaited(READY if name != "gallery" else DRAWN)
        return tab

    return open_page


@pytest.mark.parametrize("name", NAMES)
def test_a_page_complains_of_nothing_asks_for_nothing_fits_every_screen_and_can_be_used_without_eyes(
    opened, pages, name
):
    tab = opened(name)
    requests = [one for one in tab.requests if not one.startswith("data:")]  # a picture in the page

    assert (tab.complaints, requests) == ([], [pages[name].as_uri()])
    small = """[...document.querySelectorAll("body *")].filter((one) => one.checkVisibility() &&
      !one.closest("script, style, .replaced") && [...one.childNodes].some(({nodeType}) => nodeType === 3) &&
      parseFloat(getComputedStyle(one).fontSize) < 12).map((one) => one.outerHTML)"""
    assert tab.value(small) == []
    tab.ask("Runtime.evaluate", expression=AXE.read_text(encoding="utf-8"))
    for width, scheme in itertools.product((390, 768, 1280, 1920), ("light", "dark")):
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        tab.ask("Emulation.setDeviceMetricsOverride", **metrics)
        tab.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        tab.awaited(DRAWN)
        over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert (width, scheme, tab.value(over)) == (width, scheme, 0)
        if (width, scheme) == ((390, "dark") if name in ("sweep", "gallery") else (1280, "light")):
            found = tab.awaited("axe.run().then(({violations}) => violations.map((one) => [one.impact, one.id, "
                                "one.nodes.map(({html}) => html.slice(0, 200))]))")  # fmt: skip
            assert [one for one in found if one[0] in ("serious", "critical")] == []


def test_a_page_is_printed_without_a_date_or_a_place_of_this_machine(made, pages, tmp_path):
    pages["gallery"].with_name("linked.html").write_text(
        pages["gallery"].read_text() + '<a href="other.html">other</a>'
    )

    print_page(pages["gallery"].with_name("linked.html"), tmp_path / "new.pdf")

    content = (tmp_path / "new.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert re.search(rb"/MediaBox \[0 0 59[45]\S* 84[12]", content)  # A4
    assert b"/CreationDate" not in content
    assert b"file:" not in content


def click(tab, script):
    left, top, width, height = tab.value(PLACE.format(script))
    for kind in ("mousePressed", "mouseReleased"):
        tab.mouse(kind, left + width / 2, top + height / 2, button="left", clickCount=1)
    tab.awaited(DRAWN)


def point(tab, script, share):
    """Move the mouse to a share of the width of an element."""
    left, top, width, height = tab.value(PLACE.format(script))
    tab.mouse("mouseMoved", left + share * width, top + height / 2)
    tab.awaited(DRAWN)


def test_the_best_trials_neighbours_and_equity_are_seen_at_once(opened, made):
    _, found, _, _ = made
    tab = opened("sweep")

    names = tab.value("[...document.querySelectorAll('#neighbours button')].map((one) => one.textContent)")
    sentence = tab.value("document.getElementById('stability-words').textContent")
    end = tab.value("document.querySelector('#equity .names em').textContent")

    place = {name: GRID[name].index(value) for name, value in found.point(found.best).items()}
    near = [found.point(one) for one in found.ranked if one is not found.best]
    near = [one for one in near if all(abs(GRID[name].index(one[name]) - at) <= 1 for name, at in place.items())]
    assert names == [f"fast={one['fast']}, slow={one['slow']}" for one in near]
    ratios = sorted(one.metrics["sharpe"] for one in found.ranked if found.point(one) in near)
    text = METRICS["sharpe"].text
    assert (
        f"Sharpe ratio from {text(ratios[0])} to {text(ratios[-1])}, median {text(float(np.median(ratios)))}"
        in sentence.replace("−", "-")
    )
    assert end == f"{100 * (1 + found.best.metrics['total_return']):,.2f}"


def test_a_click_on_a_trial_shows_its_numbers_and_its_equity(opened, made):
    _, found, _, _ = made
    tab = opened("sweep")

    click(tab, "[...document.querySelectorAll('.cell')].at(-1)")  # the highest values of both

    (trial,) = (one for one in found.trials if found.point(one) == {"fast": 15, "slow": 30})
    shown = tab.value("[...document.querySelectorAll('[data-part=numbers] tr')].map((row) => "
                      "[row.dataset.metric, row.cells[1].textContent])")  # fmt: skip
    assert len(shown) > 10
    for name, seen in shown:
        assert seen.replace("−", "-").replace("\xa0", " ") == METRICS[name].text(trial.metrics[name])
    assert tab.value("document.querySelector('[data-part=name]').textContent") == "fast=15, slow=30"
    end = tab.value("document.querySelector('#equity .names em').textContent")
    assert end == f"{100 * (1 + trial.metrics['total_return']):,.2f}"
    assert tab.value("document.querySelector('tr.selected td:nth-child(2)').textContent") == "15"


def test_keys_and_the_row_of_a_trial_select_it_too(opened, made):
    tab = opened("sweep")
    click(tab, "document.querySelector('.cell')")
    name = "document.querySelector('[data-part=name]').textContent"
    assert tab.value(name) == "fast=5, slow=20"

    tab.value("document.querySelector('[data-part=map]').focus()")
    tab.press("ArrowRight")
    tab.press("ArrowUp")
    assert tab.value(name) == "fast=10, slow=30"
    assert tab.value("document.querySelector('[data-part=spoken]').textContent").startswith("fast=10, slow=30: Sharpe")

    click(tab, "document.querySelectorAll('tr[data-trial]')[5]")
    assert tab.value("document.querySelector('[data-part=place]').textContent") == "Rank 6 of 6."


def test_the_mouse_over_a_walk_forward_tells_its_equity_and_parameters_of_the_day(opened, made):
    _, _, walk, _ = made
    tab = opened("walk-forward")

    point(tab, "document.querySelector('.lines > svg')", 0.7)

    day, equity = tab.value("['span', 'em'].map((one) => document.querySelector('.lines .names ' + one).textContent)")
    row = [f"{one:%Y-%m-%d}" for one in walk.equity.index].index(day)
    assert 0 < row < len(walk.equity) - 1
    assert equity == f"{walk.equity.iloc[row]:,.2f}"
    texts = tab.value("[...document.querySelectorAll('.lines .names')].slice(3).map((one) => "
                      "[one.querySelector('b').textContent, one.querySelector('em').textContent])")  # fmt: skip
    (step,) = (one for one in walk.steps if str(one.test.first) <= day <= str(one.test.last))
    assert texts == [[name, str(value)] for name, value in step.params.items()]


def test_two_runs_are_on_one_axis_that_zooms_under_the_wheel(opened, made):
    _, _, _, compared = made
    tab, chart = opened("comparison"), "document.querySelector('.curves').chart"

    point(tab, "document.querySelector('.lines > svg')", 0.4)
    told = tab.value("[...document.querySelectorAll('.lines .names')].map((one) => one.textContent)")
    before = tab.value(f"[{chart}.range.from, {chart}.range.to, {chart}.drawings.map(({{scale}}) => scale.high)]")
    left, top, width, height = tab.value(PLACE.format("document.querySelector('.lines > svg')"))
    tab.mouse("mouseWheel", left + 0.4 * width, top + height / 2, deltaX=0, deltaY=-600)
    tab.awaited(DRAWN)
    after = tab.value(f"[{chart}.range.from, {chart}.range.to, {chart}.drawings.map(({{scale}}) => scale.high)]")

    day = re.search(r"\d{4}-\d\d-\d\d", told[0])[0]
    row = [str(one) for one in compared.days].index(day)
    growth = 100 * np.cumprod(1 + compared.returns, axis=1)
    for name, value in zip(compared.runs, growth[:, row], strict=True):
        assert f"{name} {value:,.2f}" in told[0]
    ahead = f"{100 * (growth[1, row] / growth[0, row] - 1):z,.2f}\xa0%".replace("-", "−")
    assert f"{compared.runs[1]} {ahead}" in told[2]
    assert before[0] < after[0] < after[1] < before[1]
    assert [one != other for one, other in zip(before[2], after[2], strict=True)].count(True) >= 2


def test_the_runs_of_one_strategy_are_sorted_by_sharpe_ratio_in_three_actions(opened, made):
    tab = opened("gallery")
    head = "[...document.querySelectorAll('th button')].find((one) => one.textContent.startsWith('Sharpe'))"

    tab.value("document.querySelector('form.search input').focus()")
    tab.ask("Input.insertText", text="SmaCross")
    click(tab, head)
    click(tab, head)

    rows = tab.value("[...document.querySelectorAll('tr[data-kind]')].filter((row) => !row.hidden).map((row) => "
                     "[row.cells[2].textContent, Number(row.cells[8].textContent.replace('−', '-'))])")  # fmt: skip
    assert len(rows) == 4  # two runs, the sweep and the walk-forward
    assert {strategy for strategy, _ in rows} == {"SmaCross"}
    assert [ratio for _, ratio in rows] == sorted((ratio for _, ratio in rows), reverse=True)


def test_two_runs_of_the_served_gallery_are_on_one_axis_in_three_actions(tab, made):
    folder, _, _, compared = made

    def put_side_by_side(runs):
        return comparison_page(compare([RunResult.load(one) for one in runs], 10))

    with PageServer(folder, lambda one: one / "index.html", put_side_by_side) as served:
        tab.open(served.address, 1280)
        tab.awaited(DRAWN)
        complaints = tab.complaints
        for name in compared.names:
            click(tab, f"document.querySelector('tr[data-name=\"{name}\"] input')")
        tab.value("document.querySelector('form.search button:last-child').click()")
        tab.wait_for("Page.loadEventFired")
        tab.awaited(READY)

        names = tab.value("[...document.querySelectorAll('.lines .names')][0].textContent")
        asked = [one for one in tab.requests if not one.startswith(served.address)]

    assert complaints == []
    assert all(name in names for name in compared.names)
    assert asked == []
