"""What a reader wants to know of a run, done on a page by hand: a mouse and keys in a real browser, counted."""

from __future__ import annotations

from typing import Any

import browser

# Where a part of a page is once it was brought into sight; to scroll there is no action.
_PLACE = """(() => {{ const part = {0};
  part.scrollIntoView({{ block: "center", inline: "nearest", behavior: "instant" }});
  const {{ left, top, width, height }} = part.getBoundingClientRect(); return [left, top, width, height]; }})()"""
_DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 60))))"
# Each of our pages with a chart tells by one of these when it is there.
_READY = """new Promise((done) => {{ const place = document.querySelector("{0}");
  if (typeof chartsReady !== "undefined") chartsReady.then(done);
  else place.chart ? done() : place.addEventListener("ready", done); }})"""
CHART = "document.querySelector('.chart').chart"


class Hand:
    """
    A hand on the mouse and the keys of a tab.

    Attributes:
        actions: what it did since the page was opened: a click, a word that was typed, a place that was pointed at.
    """

    def __init__(self, tab: browser.Tab) -> None:
        self.tab, self.actions = tab, 0

    def open(self, page: Any, charted: str = "") -> None:
        """Show a page on a desk, and wait for the chart in that place."""
        self.tab.open(page, 1280)
        if charted:
            self.tab.awaited(_READY.format(charted))
        self.settle()
        self.actions = 0

    def settle(self) -> None:
        """Wait until what was done is drawn."""
        self.tab.awaited(_DRAWN)

    def click(self, part: str) -> None:
        """Click the middle of a part of the page, which a script names."""
        self.point(part)
        left, top, width, height = self.tab.value(_PLACE.format(part))
        for kind in ("mousePressed", "mouseReleased"):
            self.tab.mouse(kind, left + width / 2, top + height / 2, button="left", clickCount=1)
        self.settle()

    def point(self, part: str, across: float = 0.5, down: float = 0.5) -> None:
        """Point at shares of the width and the height of a part."""
        self.actions += 1
        left, top, width, height = self.tab.value(_PLACE.format(part))
        self.tab.mouse("mouseMoved", left + across * width, top + down * height)
        self.settle()

    def write(self, part: str, text: str) -> None:
        """Write into a field."""
        self.click(part)
        self.tab.ask("Input.insertText", text=text)
        self.settle()

    def read(self, script: str) -> Any:
        """Return what is seen, or what a script says of it."""
        return self.tab.value(script)


def head(table: str, word: str) -> str:
    """Return a script for the heading of a table that begins with a word."""
    return f"[...document.querySelectorAll('{table} th button')].find((one) => one.textContent.startsWith('{word}'))"


def worst_trade(hand: Hand) -> dict[str, Any]:
    """Go from the worst trade of the table to its entry on the candles; return what is told there."""
    hand.click(head("table.trades", "Net"))
    hand.click("document.querySelector('tr[data-trade] .entry button')")
    return {
        "trade": int(hand.read(f"{CHART}.selected")),
        "told": hand.read("document.querySelector('.chart .told').textContent"),
        "in_sight": hand.read(
            "[...document.querySelectorAll('.chart .told > span')].find((one) => one.textContent.includes('Trade '))"
            ".getBoundingClientRect().bottom <= innerHeight"
        ),
        "legend": hand.read(
            f"[...{CHART}.boxes[{CHART}.pricePane].querySelectorAll('.values > span')].map((one) => one.textContent)"
        ),
        "candles": hand.read(f"{CHART}.about.series[{CHART}.series].bars"),
        "view": hand.read(f"[{CHART}.range.from, {CHART}.range.to]"),
        "level": hand.read(f"{CHART}.view.level"),
        "bar": hand.read(f"{CHART}.bar"),
    }


def worst_month(hand: Hand) -> dict[str, Any]:
    """Go to the month in which the deepest drawdown has its trough; return what is told of its positions."""
    hand.click("document.querySelector('tr[data-month] .trough button')")
    return {
        "told": [line.strip() for line in hand.read(
            "[...document.querySelectorAll('.chart .told > *')].map((one) => one.textContent)")],
        "position": hand.read(f"{CHART}.boxes.at(-1).textContent"),
        "view": hand.read(f"[{CHART}.range.from, {CHART}.range.to]"),
    }  # fmt: skip


def lost_most(hand: Hand) -> list[str]:
    """Return the series, the side and the money of the row that lost the most."""
    hand.click(head("table.attribution", "Result"))
    row = "document.querySelector('table.attribution').tBodies[0].rows[0]"
    cells: list[str] = hand.read(f"[...{row}.cells].map((one) => one.textContent)")
    return cells[:3]


def neighbours(hand: Hand) -> dict[str, Any]:
    """Return what the page of a sweep tells at once of its best trial: its neighbours, and what 100 became in it."""
    texts = "[...document.querySelectorAll('{}')].map((one) => one.textContent)"
    return {
        "neighbours": hand.read(texts.format("#neighbours button")),
        "end": hand.read("document.querySelector('#equity .names em').textContent"),
    }


def on_one_axis(hand: Hand) -> str:
    """Return what is told of a day in the middle of the curves that lie on one axis."""
    hand.point("document.querySelector('.lines > svg')")
    told: str = hand.read("document.querySelector('.lines .names').textContent")
    return told


def compared(hand: Hand, names: list[str]) -> str:
    """Put two runs of the served gallery side by side, and return what is told of their last day."""
    for name in names:
        hand.click(f"document.querySelector('tr[data-name=\"{name}\"] input')")
    hand.click("document.querySelector('form.search button:last-child')")
    hand.tab.wait_for("Page.loadEventFired")
    hand.tab.awaited(_READY.format(".curves"))
    hand.settle()
    told: str = hand.read("document.querySelector('.lines .names').textContent")
    return told


def by_sharpe(hand: Hand, strategy: str) -> list[list[str]]:
    """Return strategy and Sharpe ratio of the rows of the gallery that are shown, highest first."""
    hand.write("document.querySelector('form.search input')", strategy)
    for _ in range(2):
        hand.click(head("table.gallery", "Sharpe"))
    heads = "[...document.querySelectorAll('table.gallery thead th')].map((one) => one.textContent)"
    place = [text.startswith("Sharpe") for text in hand.read(heads)].index(True)
    rows = "[...document.querySelectorAll('tr[data-kind]')].filter((row) => !row.hidden)"
    found: list[list[str]] = hand.read(
        f"{rows}.map((row) => [row.cells[2].textContent, row.cells[{place}].textContent])"
    )
    return found
