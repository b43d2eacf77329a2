import contextlib
import json
import math
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from handmade import day, result_of
from hypothesis import given, settings
from hypothesis import strategies as st
from unpacked import chart_in

from backtest import compare
from backtest.cli.app import main
from backtest.errors import UsageError
from backtest.metrics.ratios import sharpe
from backtest.metrics.returns import equity_of
from backtest.metrics.sharpe_tests import probability_of_no_difference, sharpe_difference_error
from backtest.metrics.table import METRICS
from backtest.report.comparison_page import write_comparison
from backtest.report.figures import draw_growth
from backtest.validity.comparison import SharpeTest

COUNT = 400
FIRST, SECOND, THIRD = np.random.default_rng(7).normal(0.0005, 0.01, (3, COUNT))


def run_of(returns, name="First", **options):
    equity = equity_of(np.asarray(returns), 100.0)[1:].tolist()
    return result_of(equity, strategy=f"x.py:{name}", **options)


def difference(returns, other, **options):
    """Return the difference of the first from the second."""
    (found,) = compare([run_of(other), run_of(returns)], **options).differences
    return found


def ends(one):
    return one.sharpe, one.low, one.high, one.p


def test_the_error_of_a_difference_by_hand():
    # 2·(1 - 1/2) + (0.2² + 0.1² - 2·0.2·0.1·(1/2)²) / 2 = 1 + (0.05 - 0.01) / 2, over 100
    assert sharpe_difference_error(0.2, 0.1, 0.5, 100) == pytest.approx(math.sqrt(1.02 / 100))
    # one against the other's absence of skill: Lo's error of one, and 1 / n of the other
    assert sharpe_difference_error(0.2, 0.0, 0.0, 50) == pytest.approx(math.sqrt((1 + 0.2**2 / 2) / 50 + 1 / 50))


@pytest.mark.parametrize(("score", "p"), [(0.0, 1.0), (1.959963984540054, 0.05), (-2.5758293035489, 0.01)])
def test_the_probability_of_a_score_is_of_both_tails(score, p):
    assert probability_of_no_difference(score * 0.3, 0.3) == pytest.approx(p)


def test_the_difference_is_that_of_the_sharpe_ratios():
    found = difference(FIRST, SECOND)

    assert found.sharpe == pytest.approx(sharpe(FIRST) - sharpe(SECOND))


@pytest.mark.slow
def test_interval_and_p_are_jobsons_where_returns_are_independent_and_normal():
    found = difference(FIRST, SECOND, samples=2000)
    own, other = (one.mean() / one.std(ddof=1) for one in (FIRST, SECOND))
    error = sharpe_difference_error(own, other, np.corrcoef(FIRST, SECOND)[0, 1], COUNT)

    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(error * math.sqrt(252), rel=0.1)
    assert found.p == pytest.approx(probability_of_no_difference(own - other, error), abs=0.05)


@pytest.mark.parametrize("seed", range(12))
def test_there_is_one_conclusion_from_one_test(seed):
    first, second = np.random.default_rng(seed).normal(0.0005, 0.01, (2, 120))

    found = difference(first + 0.0002 * seed, second, samples=99)

    assert found.differ == (found.p < 0.05) == (not found.low <= 0 <= found.high)
    assert str(found).count("p =") + str(found).count("p <") == 1


def test_a_difference_of_returns_that_hang_together_is_less_certain():
    noise = np.random.default_rng(5).normal(0.0005, 0.01, (2, 1001))
    trending = noise[:, 1:] + noise[:, :-1]  # half of the variance of its mean comes from the lag

    alone, together = difference(*noise[:, 1:], samples=400), difference(*trending, samples=400)

    assert together.high - together.low > 1.2 * (alone.high - alone.low)


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.95])
def test_by_chance_alone_one_test_in_twenty_finds_a_difference(correlation):
    random = np.random.default_rng(11)
    common, *own = random.normal(0, 1, (3, 3000, 120))
    both = [0.05 + math.sqrt(correlation) * common + math.sqrt(1 - correlation) * one for one in own]
    ratios = [one.mean(axis=1) / one.std(axis=1, ddof=1) for one in both]
    joint = [np.corrcoef(first, second)[0, 1] for first, second in zip(*both, strict=True)]

    found = [
        probability_of_no_difference(first - second, sharpe_difference_error(first, second, together, 120)) < 0.05
        for first, second, together in zip(*ratios, joint, strict=True)
    ]

    assert np.mean(found) == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 3000))


def test_skill_is_told_from_none():
    found = difference(0.003 + FIRST, SECOND, samples=500)

    assert found.p < 0.01
    assert found.low > 0
    assert str(found).endswith(": significant.")


@pytest.mark.slow
@settings(max_examples=20)  # three comparisons each
@given(st.integers(0, 1000), st.floats(0.1, 3.0))
def test_the_difference_is_antisymmetric_and_leverage_does_not_change_it(seed, leverage):
    first, second = np.random.default_rng(seed).normal(0.0005, 0.01, (2, 60))

    found, mirrored = difference(first, second, samples=20), difference(second, first, samples=20)
    levered = difference(leverage * first, second, samples=20)

    assert ends(found) == pytest.approx((-mirrored.sharpe, -mirrored.high, -mirrored.low, *ends(mirrored)[3:]))
    assert ends(levered)[:4] == pytest.approx(ends(found)[:4], rel=1e-6)


@pytest.mark.parametrize("returns", [FIRST, 2 * FIRST])
def test_what_has_the_same_ratio_in_whatever_sessions_has_no_test(returns):
    found = difference(returns, FIRST)

    assert found.sharpe == pytest.approx(0, abs=1e-9)
    assert (found.p.reason, found.low.reason) == ("constant", "constant")
    assert "no test is possible" in str(found)


@pytest.mark.parametrize(("returns", "reason"), [(np.zeros(COUNT), "constant"), (FIRST[:1], "too few")])
def test_a_run_without_a_sharpe_ratio_is_told_as_such(returns, reason):
    found = difference(returns, FIRST[: len(returns)])

    assert found.p.reason == reason
    assert "has no Sharpe ratio" in str(found)


def test_only_sessions_that_all_runs_have_are_measured():
    late = run_of(FIRST[:5], days=[day(n) for n in (3, 4, 5, 6, 7)])

    found = compare([run_of(SECOND[:6]), late])

    assert found.stats[0]["total_return"] == pytest.approx(np.prod(1 + SECOND[3:6]) - 1)
    assert found.stats[1]["total_return"] == pytest.approx(np.prod(1 + FIRST[:3]) - 1)
    assert found.left_out == 5
    assert "3 sessions from 2024-01-04 to 2024-01-06" in found.basis
    assert "5 sessions that not all runs have were left out" in found.basis


def equity_run(numbers, rate=None, **options):
    """Return a run whose equity is PATH on some days, 100 before."""
    found = result_of(PATH[numbers].tolist(), days=[day(int(n)) for n in numbers], **options)
    if rate is None:
        return found
    return replace(found, record=found.record.append_column("risk_free", pa.array(rate)))


PATH = equity_of(np.random.default_rng(19).normal(0.003, 0.01, 700), 100.0)[1:]  # of each day, 700 % up


def test_a_path_on_two_calendars_is_the_same_path():
    tens = np.arange(700)
    first, second = (equity_run(tens[tens % 10 != holiday]) for holiday in (3, 7))

    found = compare([first, second], samples=20)

    assert found.returns[0] == pytest.approx(found.returns[1], rel=1e-12)
    assert found.stats[0]["total_return"] == pytest.approx(PATH[699] / 100 - 1)
    assert found.stats[0].to_dict() == pytest.approx(found.stats[1].to_dict(), nan_ok=True)
    assert found.left_out == 140
    assert "224 sessions per year of those that all runs have" in found.basis  # 8 of 9 that either has, of 252
    assert "140 sessions that not all runs have were left out. What was earned in 140 of them" in found.basis


def test_days_beside_weeks_or_months_are_compared_from_one_end_of_them_to_the_next():
    days, weeks = np.arange(700), np.arange(4, 700, 7)  # day 0 is a Monday
    months = np.array([n for n in days if day(int(n) + 1).day == 1])

    for longer, words, count in ((weeks, "52 weeks", 52), (months, "12 months", 12)):
        daily = equity_run(days, sessions_a_year=365.0)

        found = compare([daily, equity_run(longer, measured_by=words)], samples=20)

        assert found.returns[0] == pytest.approx(found.returns[1], rel=1e-12)
        assert found.stats[0]["total_return"] == pytest.approx(PATH[longer[-1]] / 100 - 1)
        assert found.stats[0]["volatility"] == pytest.approx(np.std(found.returns[1], ddof=1) * math.sqrt(count))
        assert f"{words} per year, " in found.basis


def test_a_coin_beside_a_stock_is_compared_by_the_sessions_of_the_stock():
    weekdays = np.array([n for n in range(700) if n % 7 < 5])

    found = compare([equity_run(np.arange(700), sessions_a_year=365.0), equity_run(weekdays)], samples=20)

    assert found.returns[0] == pytest.approx(found.returns[1], rel=1e-12)
    assert found.basis.startswith("252 sessions per year, ")


def test_a_dated_risk_free_return_compounds_between_the_sessions_that_all_have():
    runs = [
        equity_run(one, rates="same", rate=np.full(len(one), 0.001)) for one in (np.arange(60), np.arange(1, 60, 2))
    ]

    found = compare(runs, samples=20)

    excess = found.returns[0] - np.array([0.001, *[1.001**2 - 1] * 29])  # from the end of day 0 on
    assert found.stats[0]["sharpe"] == pytest.approx(excess.mean() / excess.std(ddof=1) * math.sqrt(128))  # 252·30/59


@pytest.mark.slow
def test_every_run_but_the_first_is_compared_with_the_first():
    found = compare([run_of(one, name) for one, name in zip((FIRST, SECOND, THIRD), "ABC", strict=True)])

    assert [(one.run[:1], one.first[:1]) for one in found.differences] == [("B", "A"), ("C", "A")]
    assert "The p values are not adjusted for multiple comparisons." in found.basis


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([run_of(FIRST)], "name two or more"),
        ([run_of(FIRST), run_of(SECOND, risk_free=0.02)], r"different risk-free rates \(0, 0.02\)"),
        ([run_of(FIRST), run_of(SECOND, sessions_a_year=365.0)], r"different sessions per year \(252, 365\)"),
        ([run_of(FIRST[:2]), run_of(SECOND[:2], days=[day(8), day(9)])], "have no session in common"),
    ],
)
def test_what_cannot_be_compared_is_refused(runs, words):
    with pytest.raises(UsageError, match=words):
        compare(runs)


def test_a_comparison_is_json_a_frame_and_a_table_of_a_notebook():
    found = compare([run_of(FIRST), run_of(FIRST, "<b>")])

    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    frame = found.to_frame()

    assert document["runs"][0]["stats"]["sharpe"] == pytest.approx(sharpe(FIRST))
    assert document["differences"][0]["p"] is None
    assert frame.shape == (len(document["definitions"]), 2)
    assert frame.loc["Sharpe ratio"].iloc[0] == document["runs"][0]["stats"]["sharpe"]
    assert frame.loc["Total return [%]"].iloc[1] == pytest.approx(100 * (np.prod(1 + FIRST) - 1))
    assert METRICS["sharpe"].text(sharpe(FIRST)) in found._repr_html_()
    assert max(map(len, repr(found).splitlines())) <= 80


def test_a_difference_is_said_with_its_sign_its_interval_and_no_probability_of_nothing():
    said = str(SharpeTest("B", "A", -0.03, -0.44, 0.46, p=0.0001, block=5.0))

    assert said == ("B: Sharpe difference from A: -0.03 (95 % CI -0.44 to 0.46; p <0.001): significant.")


def test_the_table_names_runs_without_their_keys_where_that_tells_them_apart():
    first, other, again = run_of(FIRST, "Cross"), run_of(SECOND, "Other"), run_of(THIRD, "Cross")

    assert [row[0] for row in compare([first, other], samples=20).rows()] == ["Cross-AAPL-1day", "Other-AAPL-1day"]
    assert [row[0] for row in compare([first, again], samples=20).rows()] == [first.name, again.name]


@pytest.mark.slow
def test_the_command_says_the_same_in_80_columns_and_as_json(tmp_path, capsys):
    def call(*words):
        with contextlib.chdir(tmp_path), pytest.raises(SystemExit) as ended:
            main(["compare", *words])
        return ended.value.code or 0, capsys.readouterr()

    runs = [run_of(FIRST, "Cross"), run_of(THIRD, "ALongerNameOfAStrategy")]
    for result in runs:
        result.save(tmp_path / "runs" / result.name)

    code, shown = call("Cross", "ALonger", "--bootstrap", "50", "--out", "page")
    document = json.loads(call("Cross", "ALonger", "--bootstrap", "50", "--json")[1].out)

    assert code == 0
    assert f"{document['differences'][0]['p']:.3f}" in shown.out
    assert all(f"{row['stats']['sharpe']:.2f}" in shown.out for row in document["runs"])
    assert max(map(len, shown.out.splitlines())) <= 80
    assert (tmp_path / "page" / "index.html").exists()
    assert call("Cross")[0] == 2


@pytest.mark.slow
def test_the_page_of_a_comparison_has_what_is_compared_as_text_and_asks_for_nothing(tmp_path):
    found = compare([run_of(FIRST), run_of(SECOND, "<script>")])

    text = write_comparison(found, tmp_path / "new").read_text(encoding="utf-8")

    for name in ("total_return", "sharpe", "max_drawdown"):
        (row,) = re.findall(rf'<tr data-metric="{name}".*?</tr>', text)
        shown = re.findall(r'"number">(.*?)<', row.replace("−", "-").replace("\N{NO-BREAK SPACE}", " "))
        assert shown == [stats.text(name) for stats in found.stats]
    assert f"p = {found.differences[0].p:.3f})" in text
    assert "No significant difference." in text
    assert text.count("<script") == 3  # the numbers of the chart, and the page's own
    assert not re.search(r"<script src|@import|url\((?!#)|<link|<img", text)


@pytest.mark.slow
def test_the_page_of_a_comparison_has_what_differs_the_curves_and_the_test_of_each_run(tmp_path):
    found = compare([run_of(FIRST), run_of(SECOND), run_of(FIRST[::-1], params={"fast": 7})])

    text = write_comparison(found, tmp_path / "new").read_text(encoding="utf-8")

    about, columns = chart_in(text)
    growth = 100 * np.cumprod(1 + found.returns, axis=1)
    for place, own in enumerate(growth):
        assert columns[f"pane.0.{place}"] == pytest.approx(own, abs=0.005)
        depth = found.stats[place]["max_drawdown"]
        assert columns[f"pane.1.{place}"].min() == pytest.approx(depth, abs=5e-7)
    assert columns["pane.2.1"] == pytest.approx(growth[2] / growth[0] - 1, abs=5e-7)
    looks = {(one["colour"], one["dash"]) for one in about["panes"][0]["curves"]}
    assert len(looks) == 3
    assert re.search(r'<th scope="row">fast</th><td>[^<]*</td><td>[^<]*</td><td>7</td>', text)
    rows = re.findall(r'<td class="number">([^<]*)</td><td><svg.*?</svg></td><td class="number">([^<]*)</td>'
                      r'<td class="number">([^<]*)</td><td class="number">([^<]*)</td>', text)  # fmt: skip
    ratio = METRICS["sharpe"].text
    assert [[cell.replace("−", "-") for cell in row] for row in rows] == [
        [ratio(one.sharpe), ratio(one.low), ratio(one.high), f"{one.p:.3f}"] for one in found.differences
    ]


@pytest.mark.slow
def test_a_page_of_a_comparison_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(UsageError, match="file"):
        write_comparison(compare([run_of(FIRST), run_of(SECOND)]), tmp_path / "file" / "page")


def test_lines_of_more_runs_than_colours_are_told_apart():
    figure = draw_growth(["A" * 60, *"BCDEF"], np.arange(COUNT).astype("datetime64[D]"), np.stack([FIRST] * 6))

    assert len({(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}) == 6
    assert figure.axes[0].lines[0].get_label() == "A" * 32 + " … " + "A" * 12
    assert figure.axes[0].lines[0].get_ydata()[-1] == pytest.approx(100 * np.prod(1 + FIRST))
