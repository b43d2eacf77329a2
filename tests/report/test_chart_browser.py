"""The chart of a run in a real browser: what a hand with a mouse, a finger or a keyboard does to it."""

import itertools
import re

import browser
import numpy as np
import pytest
from places import ROOT

from backtest.metrics.drawdown import drawdowns
from backtest.store.store import Store

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not browser.installed(), reason=browser.MISSING)]

CHART = "document.querySelector('.chart').chart"
READY = """new Promise((done) => {
  const place = document.querySelector(".chart");
  const settled = () => requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(done)));
  place.chart ? settled() : place.addEventListener("ready", settled);
})"""
PANES = f"{CHART}.drawings.map(({{series}}) => [series.coordinateToPrice(0), series.coordinateToPrice(40)])"


@pytest.fixture(scope="module")
def result(long_run):
    return long_run


@pytest.fixture(scope="module")
def page(long_page):
    return long_page


@pytest.fixture(scope="module")
def bars():
    return Store(ROOT / "data" / "sample").read("AAPL/1day").to_pandas()


@pytest.fixture(scope="module")
def opened(tab, page):
    tab.open(page, 1280)
    tab.awaited(READY)
    return tab


@pytest.fixture
def shown(opened):
    """Return the tab with the page, all bars of the first series in view, the chart at the top of the window."""
    opened.value(f"{CHART}.chooseSeries(0); {CHART}.reset(); document.querySelector('.chart').scrollIntoView()")
    still(opened)
    return opened


def still(tab):
    """Wait until what was done is drawn."""
    tab.awaited("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 30))))")
    tab.awaited(READY)


def price_box(tab):
    """Return left, top and width of the pane of prices, and the place of its middle."""
    return tab.value(f"""(() => {{
      const box = {CHART}.boxes[{CHART}.pricePane].parentElement.getBoundingClientRect();
      return [box.left, box.top, box.width, box.top + box.height / 2];
    }})()""")


def view(tab):
    """Return the bars in view."""
    found = tab.value(f"{CHART}.range")
    return found["from"], found["to"]


def legend(tab):
    """Return what stands in the pane of prices."""
    return tab.value(f"{CHART}.boxes[{CHART}.pricePane].textContent")


def test_a_page_with_a_chart_complains_of_nothing_and_asks_for_nothing_at_any_width(tab, page):
    for width, dark in itertools.product((390, 768, 1280, 1920), (False, True)):
        tab.open(page, width, dark)
        tab.awaited(READY)

        assert tab.value("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0, width
        assert tab.value("document.querySelector('.chart canvas').getBoundingClientRect().height > 50"), width
        assert (width, tab.complaints) == (width, [])
        assert tab.requests == [page.as_uri()]


def test_the_bars_in_the_page_are_those_of_the_store(shown, bars):
    for name in ("open", "high", "low", "close", "volume"):
        values = shown.value(f"[...{CHART}.columns['{name}.0']]")

        np.testing.assert_array_equal(values, bars[name])


def test_the_wheel_zooms_the_time_of_all_panes_and_their_prices_follow(shown):
    left, _, width, middle = price_box(shown)
    before, panes = view(shown), shown.value(PANES)

    for _ in range(8):
        shown.mouse("mouseWheel", left + 0.9 * width, middle, deltaX=0, deltaY=-360)
        still(shown)

    after = view(shown)
    assert before[1] - before[0] >= 3270
    assert after[1] - after[0] < 0.5 * (before[1] - before[0])
    assert before[0] < after[0] < after[1] < before[1]
    assert not [one for one, other in zip(panes, shown.value(PANES), strict=True) if one == other]


def test_the_chart_is_never_smaller_than_all_bars_in_some_of_its_width(shown):
    left, _, width, middle = price_box(shown)

    for _ in range(12):
        shown.mouse("mouseWheel", left + width / 2, middle, deltaX=0, deltaY=480)
        still(shown)

    since, until = view(shown)
    assert until - since <= 1.1 * 3270 + 2.01


def test_the_mouse_over_a_bar_shows_its_numbers_as_the_store_has_them(shown, bars):
    shown.value(f"{CHART}.show(1000, 1100)")
    still(shown)
    left, _, width, middle = price_box(shown)

    for row in (1010, 1050, 1093):
        shown.mouse("mouseMoved", left + width * (row - 1000 + 0.5) / 100, middle)
        still(shown)

        bar, text = bars.iloc[row], legend(shown)
        wanted = " ".join(f"{name[0].upper()} {written(bar[name])}" for name in ("open", "high", "low", "close"))
        assert wanted.replace(" ", "") in text.replace(" ", "")
        assert f"{bar['time']:%Y-%m-%d}" in shown.value("document.querySelector('.chart .told').textContent")


def written(price):
    """Return a price with all its decimals, two at least."""
    whole, _, decimals = repr(float(price)).partition(".")
    return f"{int(whole):,}.{decimals.ljust(2, '0')}"


def test_the_mouse_over_a_bar_shows_its_indicators_and_the_equity_of_the_run(shown, result):
    shown.value(f"{CHART}.show(1000, 1100)")
    still(shown)
    left, _, width, middle = price_box(shown)

    shown.mouse("mouseMoved", left + width * 50.5 / 100, middle)
    still(shown)

    frame = result.lines.to_frame("AAPL/1day")
    plots = shown.value(
        f"{CHART}.about.plots.filter(({{series, pane}}) => series === 0 && pane === -1).map(({{label}}) => label)"
    )
    assert len(plots) >= 2
    for label in plots:
        value = frame[label].iloc[1050, 0]
        seen = float(
            re.search(re.escape(label) + r" ([\d.,]+?)(?=[A-Z]|$)", legend(shown).replace("\xa0", " "))[1].replace(
                ",", ""
            )
        )
        assert seen == pytest.approx(value, rel=1e-6)
    assert f"{result.equity.iloc[1050]:,.2f}" in shown.value(f"{CHART}.boxes[0].textContent")


def test_a_click_on_a_trade_leads_to_it_on_the_chart(shown, result):
    worst = int(result.trades["net"].idxmin())
    trade = result.trades.iloc[worst]

    shown.value(f"document.querySelector('tr[data-trade=\"{worst}\"]').click()")
    still(shown)

    since, until = view(shown)
    entry, out = (result.equity.index.get_loc(trade[name]) for name in ("entry", "exit"))
    assert since < entry < out < until
    assert until - since < 3 * (out - entry) + 40
    told = shown.value("document.querySelector('.chart .told').textContent")
    assert f"Trade {worst + 1}: " in told
    assert f"{trade['net']:,.2f}".replace("-", "−") in told
    assert trade["series"].startswith(shown.value(f"{CHART}.about.series[{CHART}.series].name").split("/")[0])
    assert shown.value("document.querySelector('.chart').getBoundingClientRect().top") == pytest.approx(0, abs=60)


def test_a_click_on_a_drawdown_leads_to_its_days_and_the_positions_there(shown, result):
    worst = min(drawdowns(result.account.days, result.account.equity), key=lambda one: one.depth)

    shown.value(f"document.querySelector('tr[data-from=\"{worst.peak}\"]').click()")
    still(shown)
    left, _, width, middle = price_box(shown)
    shown.mouse("mouseMoved", left + width / 2, middle)
    still(shown)

    days = [f"{one:%Y-%m-%d}" for one in result.equity.index]
    since, until = view(shown)
    first, last = days.index(str(worst.peak)), days.index(str(worst.recovery)) if worst.recovery else len(days) - 1
    assert since < first < last < until
    assert until - since < 1.5 * (last - first) + 10
    day = shown.value("document.querySelector('.chart .told').textContent")[:10]
    position = result.record["position.0"][days.index(day)].as_py()
    assert f"{position:,.10g}" in shown.value(f"{CHART}.boxes.at(-1).textContent")
    assert since < days.index(day) < until


def test_keys_move_along_bars_and_trades_and_say_what_is_there(shown, bars):
    shown.value(f"{CHART}.show(1000, 1100); {CHART}.canvas.focus()")
    still(shown)

    shown.press("ArrowRight")
    shown.press("ArrowRight")
    still(shown)

    spoken = "document.querySelector('.chart [aria-live]').textContent"
    assert f"{bars['time'].iloc[1001]:%Y-%m-%d}" in shown.value(spoken)
    assert f"C {written(bars['close'].iloc[1001])}" in shown.value(spoken)

    shown.press("n")
    still(shown)
    first = shown.value(f"{CHART}.selected")
    shown.press("n")
    still(shown)
    assert shown.value(
        f"{CHART}.trades[{CHART}.selected].entry >= {CHART}.trades[{first}].entry && {CHART}.selected !== {first}"
    )

    shown.press("Home")
    still(shown)
    since, until = view(shown)
    assert until - since >= 3270


def test_a_drag_pans_and_a_drag_with_shift_zooms_to_what_was_marked(shown):
    shown.value(f"{CHART}.show(1000, 1200)")
    still(shown)
    left, _, width, middle = price_box(shown)

    drag(shown, left + width / 2, left + width / 4, middle)
    panned = view(shown)
    drag(shown, left + width / 4, left + width * 3 / 4, middle, modifiers=8)
    marked = view(shown)

    assert 1010 < panned[0] < 1060  # less than the mouse went, which must move a little before it drags
    assert panned[1] - panned[0] == pytest.approx(200, abs=1)
    assert marked[0] == pytest.approx(panned[0] + 50, abs=3)
    assert marked[1] - marked[0] == pytest.approx(100, abs=3)


def drag(tab, start, end, y, **options):
    tab.mouse("mouseMoved", start, y)
    still(tab)
    tab.mouse("mousePressed", start, y, button="left", buttons=1, clickCount=1, **options)
    for part in range(1, 6):
        tab.mouse("mouseMoved", start + (end - start) * part / 5, y, button="left", buttons=1, **options)
    still(tab)
    tab.mouse("mouseReleased", end, y, button="left", clickCount=1, **options)
    still(tab)


def test_the_time_axis_names_days_with_their_month_and_times_only_where_days_are_wide(shown):
    label = f"{CHART}.tickText(Date.UTC(2004, 9, 2, 13, 30) / 1000, {{}})"

    wide = [shown.value(label.format(kind)) for kind in (1, 2, 3)]
    shown.value(f"{CHART}.show(1000, 1010)")
    near = [shown.value(label.format(kind)) for kind in (1, 2, 3)]

    assert wide == [None, "Oct 2", "Oct 2"]  # of a month, a day, and a time
    assert near == [None, "Oct 2", None]  # the library's own words


def test_another_series_is_chosen_from_the_list_and_the_time_stays(shown):
    shown.value(f"{CHART}.show(1000, 1200)")
    still(shown)

    shown.value("document.querySelector('.chart select').value = '1'")
    shown.value("document.querySelector('.chart select').dispatchEvent(new Event('change'))")
    still(shown)

    assert legend(shown).startswith("IBM/1day")
    assert view(shown) == pytest.approx((1000, 1200), abs=0.5)


def test_the_chart_can_be_saved_as_a_picture(shown):
    shown.value(f"window.made = {CHART}.picture(); 0")

    assert shown.value("made.width") > 900
    assert shown.value("made.height") > 500
    assert len(shown.value("made.toDataURL('image/png')")) > 20_000


def test_in_print_and_without_scripts_there_are_the_pictures(opened, page):
    seen = "[...document.querySelectorAll('.replaced .wide')].map((one) => one.getBoundingClientRect().height > 100)"
    assert opened.value(seen) == [False, False]

    opened.ask("Emulation.setEmulatedMedia", media="print")
    assert opened.value(seen) == [True, True]
    assert opened.value("document.querySelector('.chart').getBoundingClientRect().height") == 0

    opened.ask("Emulation.setEmulatedMedia", media="")
    opened.ask("Emulation.setScriptExecutionDisabled", value=True)
    opened.open(page, 1280)
    without = opened.value(seen)
    opened.ask("Emulation.setScriptExecutionDisabled", value=False)
    assert without == [True, True]
