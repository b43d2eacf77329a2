"""The page in a real browser, on a desk and on a telephone, by day and by night."""

import itertools
import re
from importlib.metadata import distribution
from pathlib import Path

import browser
import pytest
from handmade import fill, result_of

from backtest import compare
from backtest.report.comparison_page import write_comparison
from backtest.report.run_page import write_report

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not browser.installed(), reason=browser.MISSING)]

WIDTHS = (390, 1280)
AXE = Path(str(distribution("axe-core-python").locate_file("axe_core_python/axe.min.js")))
LONG = "A" * 120  # a word that fits no telephone


@pytest.fixture(scope="module")
def result(long_run):
    return long_run


@pytest.fixture(scope="module")
def pages(tmp_path_factory, long_page):
    """Return the pages of a run of thirteen years, of one with words that are far too long, and of three such ones."""
    fills = [fill(0, 2e9, 1e9 / 3, 1e7), fill(2, -1e9, 2e9 / 3, 1e7)]
    wide = result_of(
        [1e17, 2e17, 3e17, 1e17], fills, strategy=f"x.py:{LONG}", params={LONG: LONG}, costs=LONG, cash=2e17,
        manifest={LONG: {LONG: LONG}, "word": LONG, "series": {LONG: {"bars": 1, LONG: LONG}}},
    )  # fmt: skip
    folders = {name: tmp_path_factory.mktemp(name) for name in ("wide", "runs")}
    return {
        "years": long_page,
        "wide": write_report(wide, folders["wide"]),
        "runs": write_comparison(compare([wide, wide, wide], 10), folders["runs"]),
    }


def test_a_page_complains_of_nothing_asks_for_nothing_and_does_not_scroll_sideways(tab, pages):
    for (name, page), width in itertools.product(pages.items(), WIDTHS):
        tab.open(page, width)

        seen = "[innerWidth, document.documentElement.scrollWidth - document.documentElement.clientWidth]"
        assert (name, tab.value(seen)) == (name, [width, 0])
        assert (name, tab.complaints) == (name, [])
        assert (name, tab.requests) == (name, [page.as_uri()])


def test_a_long_name_pushes_no_number_out_of_sight(tab, pages):
    tab.open(pages["runs"], 1280)

    boxes = "[...document.querySelectorAll('.asked, .tests')].map(({parentElement}) => parentElement)"

    assert tab.value(f"{boxes}.map((box) => box.scrollWidth - box.clientWidth)") == [0, 0]


def test_what_complains_and_what_leaves_the_page_would_be_seen(tab, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        '<img src="http://127.0.0.1:9/x.png"><p style="width: 2000px">.</p><script>console.error(1)</script>'
    )

    tab.open(page, 1280)

    assert tab.value("document.documentElement.scrollWidth") > 1280
    assert sum('"error"' in one for one in tab.complaints) == 2  # of the script, and of the picture
    assert "http://127.0.0.1:9/x.png" in tab.requests


def test_a_click_on_a_heading_sorts_the_trades_by_number_and_a_second_one_turns_them(tab, pages, result):
    tab.open(pages["years"], 1280)
    click = "[...document.querySelectorAll('th button')].find((one) => one.textContent.startsWith('Net')).click();"
    column = "document.querySelector('table.trades').tBodies[0].rows"
    read = f"[...{column}].map((row) => row.cells[9].textContent)"

    up, down = tab.value(click + read), tab.value(click + read)

    net = [round(money, 2) for money in sorted(result.trades["net"])]
    assert [float(re.sub(",", "", text).replace("−", "-")) for text in up] == net
    assert down == up[::-1]


def test_where_the_most_was_lost_is_sorted_by_a_click(tab, pages):
    tab.open(pages["years"], 1280)
    heads = "[...document.querySelectorAll('.attribution th button')]"
    click = f"{heads}.find((one) => one.textContent.startsWith('Result')).click();"

    read = "[...document.querySelector('table.attribution').tBodies[0].rows].map((row) => row.cells[2].textContent)"
    money = [float(text.replace(",", "").replace("−", "-")) for text in tab.value(click + read)]

    assert len(money) == 3  # long in each of two series, and all else
    assert money == sorted(money)


def test_trades_are_searched_and_saved_as_they_are_shown(tab, pages, result):
    tab.open(pages["years"], 1280)
    tab.value("document.querySelector('form.search [name=result]').value = 'lost'")
    tab.value("document.querySelector('form.search [name=words]').value = 'aapl 2003'")
    tab.value("document.querySelector('form.search').dispatchEvent(new Event('input'))")

    shown = tab.value(
        "[...document.querySelectorAll('tr[data-trade]')].filter((row) => !row.hidden).map((row) => row.dataset.trade)"
    )
    said = tab.value("document.querySelector('form.search output').textContent")
    tab.value("document.querySelector('form.search button').click()")
    saved = tab.value("document.querySelector('table.trades').saved").splitlines()

    trades = result.trades
    in_2003 = (trades["entry"].dt.year == 2003) | (trades["exit"].dt.year == 2003)
    lost = trades[(trades["net"] <= 0) & in_2003 & trades["series"].str.startswith("AAPL")]
    assert [int(number) for number in shown] == list(lost.index)
    assert said == f"{len(lost)} trades, net {lost['net'].sum():,.2f}".replace("-", "−")
    assert len(saved) == 1 + len(lost)
    assert saved[0].startswith("Series,Side,Size,Entry,Exit,Bars")
    first = lost.iloc[0]
    dates = [f"{first[name]:%Y-%m-%d}" for name in ("entry", "exit")]
    assert saved[1].split(",")[:6] == ["AAPL/1day", "long", f"{first['size']:g}", *dates, f"{first['bars']}"]
    assert float(saved[1].split(",")[9]) == round(first["net"], 2)
    assert float(saved[1].split(",")[10]) == pytest.approx(first["return"], abs=5e-5)


def test_a_definition_is_shown_when_its_word_has_the_focus(tab, pages):
    tab.open(pages["years"], 1280)
    shown = "getComputedStyle(document.getElementById('what-sharpe')).display"

    before = tab.value(shown)
    tab.value("document.querySelector('[aria-describedby=what-sharpe]').focus()")

    assert (before, tab.value(shown)) == ("none", "block")


def test_every_entry_of_the_contents_leads_to_a_heading(tab, pages):
    tab.open(pages["years"], 1280)

    places = tab.value("[...document.querySelectorAll('nav a')].map((one) => one.getAttribute('href').slice(1))")

    assert len(places) > 10
    assert tab.value(f"{places}.filter((place) => !document.getElementById(place))") == []


@pytest.mark.parametrize("width", WIDTHS)
def test_pictures_are_those_for_the_width_and_are_seen(tab, pages, width):
    tab.open(pages["years"], width)

    tab.awaited("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))")
    seen = "[...document.querySelectorAll('div:not(.replaced) > figure {}')].map((one) => one.clientHeight > 100)"
    wide, narrow = (tab.value(seen.format(kind)) for kind in (".wide", ".narrow"))

    assert len(wide) == len(narrow) == 4  # and two that the chart shows
    assert all(wide if width > 760 else narrow)
    assert not any(narrow if width > 760 else wide)


def test_axe_finds_no_serious_fault_for_those_who_do_not_see_the_page(tab, pages):
    tab.open(pages["years"], 1280)
    # Some hundred rows of one kind, and the strokes of pictures that have a label, take long and say no more.
    few = "(body) => [...body.rows].slice(9).forEach((row) => row.remove())"
    tab.value(f"document.querySelectorAll('tbody').forEach({few})")
    tab.ask("Runtime.evaluate", expression=AXE.read_text(encoding="utf-8"))

    examined = "axe.run({exclude: ['figure svg']})"
    found = tab.awaited(f"{examined}.then(({{violations}}) => violations.map(({{id, impact}}) => [id, impact]))")

    assert [one for one in found if one[1] in ("serious", "critical")] == []


def test_axe_would_see_a_fault(tab, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        "<!doctype html><title>.</title><img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='><button></button>"
    )
    tab.open(page, 1280)
    tab.ask("Runtime.evaluate", expression=AXE.read_text(encoding="utf-8"))

    found = tab.awaited("axe.run().then(({violations}) => violations.map(({id}) => id))")

    assert {"image-alt", "button-name"} <= set(found)


@pytest.mark.parametrize("dark", [False, True])
def test_words_stand_out_from_what_is_behind_them(tab, pages, dark):
    tab.open(pages["years"], 1280, dark)

    colours = {name: tab.value(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}')")
               for name in ("page", "card", "text", "soft", "loss", "figure-ink")}  # fmt: skip
    contrasts = [contrast(colours[word], colours[back]) for word in list(colours)[2:] for back in ("page", "card")]

    assert (luminance(colours["page"]) < 0.1) == dark
    assert min(contrasts) >= 4.5  # WCAG 2.2, success criterion 1.4.3


def luminance(colour):
    parts = [int(colour.strip()[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first, second):
    darker, lighter = sorted(luminance(one) for one in (first, second))
    return (lighter + 0.05) / (darker + 0.05)
