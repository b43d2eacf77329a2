import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from handmade import fill, result_of
from matplotlib.figure import Figure
from unpacked import chart_in

from backtest.errors import UsageError
from backtest.metrics.table import METRICS
from backtest.report.rendering import typeset
from backtest.report.sweep_page import ShownSweep, ShownTrial, stability, sweep_page, write_sweep_page
from backtest.runs.parameters import in_words
from backtest.validity.verdict import Verdict

FAST, SLOW = [2, 4, 6], [10, 20]
RATIOS = {(2, 10): 0.1, (2, 20): 0.2, (4, 10): 0.9, (4, 20): 0.4, (6, 10): 0.3, (6, 20): math.nan}
EQUITY = [110.0, 104.5, 115.0, 109.25, 120.0]


def trial(fast, slow, sharpe, **more):
    run = result_of(EQUITY, [fill(0, 1, 10.0), fill(3, -1, 12.0)])
    metrics = {name: float(value) for name, value in run.stats.items()} | {"sharpe": sharpe}
    return ShownTrial({"fast": fast, "slow": slow}, metrics, returns=run.account.returns * sharpe, **more)


@pytest.fixture(scope="module")
def shown():
    """Return a sweep of six trials, of which the third is the best and the last has no rank."""
    trials = [trial(*point, ratio) for point, ratio in RATIOS.items()]
    best = result_of(EQUITY, [fill(0, 1, 10.0), fill(3, -1, 12.0)], params={"fast": 4, "slow": 10, "size": 7})
    return ShownSweep(
        trials, [2, 3, 4, 1, 0], "sharpe", best, "best/index.html", 9, 0.625, 0.41, 0.25,
        Verdict("inconclusive: track record too short", ("5 sessions",)), Figure(), [("grid", "fast <2>")],
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(shown):
    return sweep_page(shown)


def about_in(page):
    return json.loads(re.search(r'class="sweep-about">(.*?)</script>', page, re.DOTALL)[1])


def test_the_neighbours_of_a_trial_are_a_step_away_in_each_parameter(shown):
    assert shown.neighbours(2) == [3, 4, 1, 0]  # all that have a rank, as 4 is between 2 and 6
    assert shown.neighbours(0) == [2, 3, 1]
    assert shown.steps.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1]]


def test_stability_is_said_by_the_best_trials_neighbours(shown):
    assert stability(shown) == (
        "The 4 neighbours of the best trial, each parameter at most one step away, have Sharpe ratio from 0.10 to "
        "0.40, median 0.25; the best trial has 0.90."
    )
    two = replace(shown, trials=[trial(2, 10, 0.1), trial(4, 10, 0.5)], order=[1, 0])
    assert stability(two) == (
        "The one neighbour of the best trial, each parameter at most one step away, has Sharpe ratio 0.10; "
        "the best trial has 0.50."
    )
    alone = replace(two, trials=[trial(2, 10, 0.1), trial(3, 10, math.nan), trial(4, 10, 0.5)], order=[2, 0])
    assert stability(alone).startswith("No neighbour of the best trial was tried")


def test_the_page_has_each_trials_numbers_as_texts_of_their_metrics(shown, page):
    about = about_in(page)

    assert [one["values"] for one in about["varied"]] == [["2", "4", "6"], ["10", "20"]]
    assert about["order"] == [2, 3, 4, 1, 0]
    for own, known in zip(about["trials"], shown.trials, strict=True):
        names = [one["name"] for one in about["metrics"]]
        assert own["texts"] == [typeset(METRICS[name].text(known.metrics[name])) for name in names]
        numbers = [math.nan if number is None else number for number in own["numbers"]]
        assert numbers == pytest.approx([known.metrics[name] for name in names], rel=1e-8, nan_ok=True)
    costs = next(one for one in about["metrics"] if one["name"] == "costs")
    assert (costs["label"], costs["digits"]) == ("Costs, USD", 2)
    assert {one["digits"] for one in about["metrics"] if one["name"] == "trades"} == {0}


def test_the_table_has_the_trials_by_rank(page):
    rows = re.findall(r'<tr data-trial="(\d)"><td class="number">(\d)</td><td>(\d+)</td><td>(\d+)</td>'
                      r'<td class="number">([^<]*)</td>', page)  # fmt: skip

    assert rows == [
        ("2", "1", "4", "10", "0.90"), ("3", "2", "4", "20", "0.40"), ("4", "3", "6", "10", "0.30"),
        ("1", "4", "2", "20", "0.20"), ("0", "5", "2", "10", "0.10"),
    ]  # fmt: skip


def test_equity_is_what_100_became_and_buying_and_holding_is_beside_it(shown, page):
    about, columns = chart_in(page)

    assert about["panes"][0]["title"] == "Growth of 100"
    for place in (0, 2):
        assert columns[f"trial.{place}"] == pytest.approx(100 * np.cumprod(1 + shown.trials[place].returns), abs=0.005)
    assert columns["hold"][-1] == pytest.approx(100 * 120 / 110, abs=0.005)  # bought at the close of the first bar
    assert "trial.5" not in columns  # it has no rank


def test_of_many_sessions_some_are_drawn_and_the_last_among_them(shown):
    count = 1000
    best = result_of(list(np.linspace(100, 200, count)))
    long = replace(shown, trials=[replace(shown.trials[2], returns=best.account.returns)], order=[0], best_run=best)

    _, columns = chart_in(text := sweep_page(long))

    assert len(columns["day"]) == 334
    assert columns["trial.0"][-1] == pytest.approx(100 * np.prod(1 + best.account.returns), abs=0.005)
    assert "Equity is drawn once every 3 sessions" in text


def test_what_failed_is_told_and_what_is_no_number_has_its_reason(shown):
    failed = ShownTrial({"fast": 8, "slow": 10}, {}, "ZeroDivisionError in <lambda>")
    text = sweep_page(replace(shown, trials=[*shown.trials, failed], overfitting=math.nan))

    assert "1 trial failed:" in text
    assert "fast=8, slow=10: ZeroDivisionError in &lt;lambda&gt;" in text
    assert about_in(text)["trials"][6]["error"] == "ZeroDivisionError in <lambda>"
    assert about_in(text)["trials"][6]["numbers"] == [None] * len(about_in(text)["metrics"])
    assert "fast &lt;2&gt;" in text


def test_values_of_any_kind_have_places(shown):
    values = [ShownTrial, [1, 2], None, "x"]
    trials = [replace(shown.trials[0], params={"kind": value}) for value in values]
    text = sweep_page(replace(shown, trials=trials, order=[0, 1, 2, 3]))

    assert about_in(text)["varied"] == [{"name": "kind", "values": list(map(in_words, values))}]
    assert [one["places"] for one in about_in(text)["trials"]] == [[0], [1], [2], [3]]


def test_a_page_is_written_where_no_run_is(shown, tmp_path):
    assert write_sweep_page(shown, tmp_path / "new").read_text(encoding="utf-8").startswith("<!doctype html>")
    shown.best_run.save(tmp_path / "run")
    with pytest.raises(UsageError, match="holds a run, whose page"):
        write_sweep_page(shown, tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="name another folder"):
        write_sweep_page(shown, tmp_path / "file" / "in")
