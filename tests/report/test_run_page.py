import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pyarrow as pa
import pytest
from handmade import AAPL, fill, result_of

from backtest.api import RunResult
from backtest.errors import UsageError
from backtest.metrics.table import GROUPS, METRICS
from backtest.report.figures import shown_figures
from backtest.report.rendering import typeset
from backtest.report.run_page import page, write_report
from backtest.runs.spec import Brokerage

FILLS = [fill(0, 2, 10.0, 0.5), fill(2, -1, 16.0, 0.5)]
HOSTILE = "<script>alert('1')</script>"
MANIFEST = {
    "strategy": {"name": "trend.py:Trend", "sha256": "ab12"},
    "series": {AAPL: {"rows_sha256": "cd34", "bars": 3270}},
    "packages": {"numpy": "2.4.6"},
    "python": "3.11.2",
}


class Reader(HTMLParser):
    """Collects the tags of a page, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.words, self.attributes = [], [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attributes}
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href", "action")]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def result():
    return result_of([99.5, 89.55, 111.0], FILLS, params={"fast": 5}, manifest=MANIFEST)


@pytest.fixture(scope="module")
def text(result):
    return page(result)


def words(text):
    return re.sub(r"\s+", " ", " ".join(Reader(text).words))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("-42.74 %", "−42.74\N{NO-BREAK SPACE}%"),
        ("(98 % CI -4.16 to -.5)", "(98\N{NO-BREAK SPACE}% CI −4.16 to −.5)"),
        ("Break-even at 2.0", "Break-even at 2.0"),
        ("bar 2010-01-07: buy", "bar 2010-01-07: buy"),
        ("VOD-STK-LSE-GBP/1day", "VOD-STK-LSE-GBP/1day"),
        ("ES-FUT-CME-USD-202612/5mins", "ES-FUT-CME-USD-202612/5mins"),
    ],
)
def test_a_minus_stands_before_a_number_and_a_hyphen_stays_in_words_dates_and_names(text, shown):
    assert typeset(text) == shown


@pytest.mark.slow
@pytest.mark.usefixtures("few_figures")
def test_a_report_is_a_page_its_numbers_and_the_run(tmp_path, result):
    path = write_report(result, tmp_path / "new" / "report")

    assert path == tmp_path / "new" / "report" / "index.html"
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert RunResult.load(path.parent) == result


@pytest.mark.slow
@pytest.mark.usefixtures("few_figures")
def test_the_numbers_are_those_of_the_run_with_their_definitions(tmp_path, result):
    numbers = json.loads((write_report(result, tmp_path).parent / "metrics.json").read_text(encoding="utf-8"))

    assert numbers["stats"] == result.stats.to_dict()
    assert numbers["definitions"].keys() == METRICS.keys()
    assert numbers["basis"] == result.stats.basis


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(tmp_path, result):
    first, second = (write_report(result, tmp_path / name) for name in "ab")

    for file in first.parent.iterdir():
        assert file.read_bytes() == (second.parent / file.name).read_bytes()


@pytest.mark.slow
def test_a_loaded_run_gives_the_same_page(tmp_path, result, text):
    assert page(RunResult.load(result.save(tmp_path))) == text


@pytest.mark.slow
def test_the_page_asks_for_nothing(text):
    reader = Reader(text)

    assert not {"link", "img", "iframe", "object", "base"} & set(reader.tags)
    # One may be clicked, which the licence of the chart's script asks for.
    assert {link for link in reader.links if not link.startswith("#")} == {"https://www.tradingview.com/"}
    assert not {"src", "action"} & reader.attributes
    assert not re.search(r"@import|url\((?!#)", text)


@pytest.mark.slow
def test_text_from_outside_is_only_text():
    fills = [fill(0, 1, 10.0), fill(1, -1, 11.0)]
    hostile = result_of(
        [100.0, 101.0], fills, strategy=f"x.py:{HOSTILE}", params={HOSTILE: HOSTILE}, costs=HOSTILE,
        series=("%3CB%3E-STK-SMART-USD/1day/TRADES/rth",), manifest={HOSTILE: {HOSTILE: HOSTILE}, "word": HOSTILE},
    )  # fmt: skip

    reader = Reader(page(hostile))

    assert reader.tags.count("script") == 5  # the page's own: the chart's numbers and scripts, and that of the tables
    assert HOSTILE in " ".join(reader.words)


@pytest.mark.slow
def test_the_page_shows_every_metric_with_its_value_and_definition(text, result):
    shown = words(text)

    for name, metric in METRICS.items():
        assert metric.label in shown
        assert result.stats.text(name).replace("-", "−") in shown
        assert metric.definition in shown


@pytest.mark.slow
def test_an_open_position_is_told_apart_from_the_trades(text):
    assert "Still open at the end, not in the table of trades: 1 AAPL/1day at the last close of 111.00." in words(text)


@pytest.mark.slow
def test_trades_and_the_open_position_add_up_to_the_change_of_equity(text):
    sums = re.findall(r'<th>([^<]*)</th><td class="number">([^<]*) USD</td>', text)

    # Closed: 6 less 0.25 of the entry's costs and 0.5; the equity went from 100 to 111.
    assert sums == [
        ("Closed trades, net", "5.25"),
        ("Open positions and other items", "5.75"),
        ("Change of equity", "11.00"),
    ]


@pytest.mark.slow
def test_attribution_adds_up_to_the_change_of_equity_on_the_page(text):
    row = re.search(r'<tr><td>AAPL/1day</td><td>long</td><td class="number">([\d.]+)</td>', text)
    total = re.search(r'Change of equity</th><td class="number">([\d.]+)</td>', text)

    # Bought 2 at 10 for 0.50, one sold at 16 for 0.50; the last close is 111.
    assert row[1] == "106.00"
    assert total[1] == "11.00"
    assert "−95.00" in text  # all else: this equity is made up


@pytest.mark.slow
@pytest.mark.usefixtures("few_figures")
def test_refused_orders_are_listed_and_others_are_not(text):
    made = page(result_of([100.0, 101.0], statuses=["Completed", "Margin", "Rejected"]))

    assert re.search(r"Rejected orders .* 2 AAPL/1day .* Margin 3 AAPL/1day .* Rejected", words(made))
    assert '<a href="#refused">Rejected orders</a>' in made
    assert words(made).count("Orders rejected: 2 of 3") == 2  # in the verdict, and in the conditions of the metrics
    assert 'id="refused"' not in text


@pytest.mark.slow
@pytest.mark.usefixtures("few_figures")
def test_an_open_drawdown_is_shown_as_open():
    assert re.search(r"−10\.00\s% 2024-01-01 2024-01-02 open 1 1", words(page(result_of([100.0, 90.0]))))


@pytest.mark.slow
def test_a_run_without_trades_and_drawdowns_says_so():
    shown = words(page(result_of([101.0, 102.0])))

    assert "No round trip was closed." in shown
    assert "Not defined here: there was no drawdown to divide by" in shown


@pytest.mark.parametrize("seen", ["ab12", "cd34", "3,270", "2.4.6", "3.11.2", "fast = 5", AAPL])
def test_the_page_shows_what_made_its_numbers(text, seen):
    assert seen in words(text)


@pytest.mark.slow
@pytest.mark.usefixtures("few_figures")
def test_the_page_shows_each_option_of_the_run_in_a_row_of_its_own(tmp_path):
    spec = replace(result_of([1.0, 1.0]).spec, brokerage=Brokerage(slippage="5bp", volume_cap=0.1))
    page = write_report(replace(result_of([1.0, 1.0]), spec=spec), tmp_path).read_text("utf-8")

    asked = re.search(r"Settings.*?</table>", page, re.DOTALL)[0]
    cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", asked)
    assert cells[cells.index("slippage") + 1] == "5bp"
    assert cells[cells.index("volume cap") + 1] == "0.1"
    assert "brokerage" not in asked


def test_every_picture_has_its_words(text, result):
    words = re.findall(r'<figure role="img" aria-label="([^"]+)">', text)

    assert [unescape(one) for one in words] == [figure.alt(result) for figure in shown_figures(result)]
    assert len(words) >= 4


def test_tables_of_trades_and_drawdowns_can_be_sorted(text):
    assert len(re.findall(r'<table class="sortable( searched trades)?">', text)) == 2


@pytest.mark.slow
def test_prices_below_zero_have_no_buy_and_hold():
    assert "buy and hold" not in page(result_of([100.0, 101.0], closes=[20.0, -37.0])).split("<h2>")[0]


@pytest.mark.slow
@pytest.mark.usefixtures("few_figures")
def test_a_benchmark_that_begins_later_has_no_numbers_for_the_time_before():
    plain = result_of([100.0 + n for n in range(20)], benchmark=AAPL.replace("AAPL", "SPY"))
    prices = {0: [50.0] * 20, 12: [float("nan")] * 12 + [50.0] * 8}

    early, late = (
        page(replace(plain, record=plain.record.append_column("benchmark", pa.array(one)))).split("<h2>")[0]
        for one in prices.values()
    )

    assert "buy and hold 0.00" in early
    assert "buy and hold" not in late
    assert "Buying and holding SPY/1day since 2024-01-13 would have ended at" in late


@pytest.mark.slow
@pytest.mark.usefixtures("few_figures")
def test_a_folder_that_cannot_be_written_is_named(tmp_path, result):
    (tmp_path / "file").write_text("")

    with pytest.raises(UsageError, match="file"):
        write_report(result, tmp_path / "file" / "report")


def row_of(text, name):
    """Return the cells of a metric's row on the page."""
    (row,) = re.findall(rf'<tr data-metric="{name}">(.*?)</tr>', text)
    return re.findall(r"<td[^>]*>(.*?)</td>", row)


def test_the_verdict_and_its_reasons_come_first_then_numbers_with_their_intervals(text, result):
    head = text.split("<h2>")[0]

    assert "Inconclusive: track record too short." in head
    assert "Fewer than 30 closed trades: 1." in head
    low, high = (METRICS["sharpe"].text(end).replace("-", "−") for end in result.validity.intervals.intervals["sharpe"])
    assert f'<dd class="range">{low} to {high}</dd>' in head
    assert "stationary bootstrap, 1,000 samples" in head
    assert "seed 0" in head


def test_metrics_are_shown_in_their_groups(text):
    groups = re.findall(r'<tr class="group"><th[^>]*>(.*?)</th>(.*?)</tbody>', text, re.DOTALL)
    names = [re.findall(r'data-metric="(\w+)"', rows) for _, rows in groups]

    assert [title for title, _ in groups][:3] == ["Returns", "Risk", "Drawdowns"]
    assert names == [[one.name for one in METRICS.values() if one.group == group] for group in GROUPS]


def test_a_number_that_is_not_defined_says_why(text):
    _, shown, _, definition = row_of(text, "cagr")

    assert shown == "– (under a year)"
    assert definition.endswith("Not defined here: growth is not annualised for less than a year.")


def test_the_page_shows_the_run_at_other_costs(text):
    rows = re.findall(r'<tr><td>(\d×)</td><td class="number">([^<]*)</td>', text)

    # 11 gained after costs of 1: 12 without them, and nothing is left of it at twelve times.
    assert [(factor, total.replace("\N{NO-BREAK SPACE}", " ")) for factor, total in rows] == [
        ("0×", "12.00 %"), ("1×", "11.00 %"), ("2×", "10.00 %"),
    ]  # fmt: skip
    assert "Break-even cost multiple: 12.0." in words(text)


@pytest.mark.slow
@pytest.mark.usefixtures("few_figures")
def test_a_run_without_costs_has_no_break_even():
    assert "No break-even: no costs were paid" in words(page(result_of([101.0, 102.0])))


@pytest.mark.slow
@pytest.mark.usefixtures("few_figures")
def test_the_validity_of_a_run_is_kept_with_its_numbers(tmp_path, result):
    numbers = json.loads((write_report(result, tmp_path).parent / "metrics.json").read_text(encoding="utf-8"))

    assert numbers["validity"]["verdict"]["words"] == "inconclusive: track record too short"
    assert numbers["validity"]["intervals"]["intervals"]["cagr"] == [None, None]
    assert numbers["undefined"] == result.stats.reasons


@pytest.mark.slow
@pytest.mark.usefixtures("few_figures")
def test_of_very_many_trades_the_weightiest_are_shown():
    fills = [fill(0, size, 10.0) for _ in range(2002) for size in (1.0, -1.0)]

    text = page(result_of([100.0, 110.0], [*fills, fill(0, 1.0, 10.0), fill(1, -1.0, 20.0)]))

    nets = re.findall(r'<td class="number">([\d.]+)</td><td class="number">[\d.]+.%</td></tr>', text)
    assert nets == ["0.00"] * 1999 + ["10.00"]
    assert "The 2,000 of 2,003 trades with the largest profit or loss; trades.parquet has all" in words(text)
