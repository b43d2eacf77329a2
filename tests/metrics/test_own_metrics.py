"""A user's own rows are measured, shown and refused like ours."""

import json
import math
import pickle

import numpy as np
import pytest
from handmade import fill, result_of

from backtest import measure
from backtest.errors import UsageError
from backtest.metrics import METRICS, Metric, Undefined
from backtest.metrics.measurement import with_metrics
from backtest.report.run_page import page, write_report
from backtest.validity.validation import validate

UP = Metric(
    "up_sessions", "Sessions that gained", "percent", "Sessions with r > 0 / N.",
    lambda run: np.mean(run.returns > 0), headline=True,
)  # fmt: skip
LATEST = Metric("latest", "Latest money", "money", "E_N.", lambda run: float(run.equity[-1]), group="return")
RUN = result_of([110.0, 99.0, 120.0, 132.0], [fill(0, 1, 10.0)])  # three sessions of four gained


def own(function, **words):
    return Metric(**{"name": "mine", "label": "Mine", "format": "ratio", "definition": "x."} | words, function=function)


def test_a_row_of_ones_own_is_measured_after_ours():
    stats = measure(RUN, metrics=[UP, LATEST])

    assert list(stats) == [*METRICS, "up_sessions", "latest"]
    assert (stats["up_sessions"], stats["latest"]) == (0.75, 132.0)
    assert stats["sharpe"] == RUN.stats["sharpe"]
    assert "up_sessions" not in RUN.stats


def test_it_is_read_and_found_as_ours_are():
    stats = measure(RUN, metrics=[UP, LATEST])

    assert stats.text("up_sessions") == "75.00 %"
    assert stats.text("Latest money") == "132.00 USD"
    assert stats["Sessions that gained"] == 0.75
    assert "Sessions that gained" in repr(stats)
    assert "Latest money" not in repr(stats)  # which is no headline
    assert stats.to_frame()["value"]["Sessions that gained [%]"] == 75.0
    assert stats.document["definitions"]["up_sessions"] == "Sessions with r > 0 / N."
    with pytest.raises(UsageError, match=r"unknown metric 'up_session'; .*did you mean up_sessions\?"):
        stats["up_session"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [(math.nan, "undefined"), (None, "undefined"), (math.inf, "infinite"), (Undefined("no trades"), "no trades")],
)
def test_what_it_does_not_define_is_nan_with_a_reason(value, reason):
    stats = measure(RUN, metrics=[own(lambda run: value)])

    assert math.isnan(stats["mine"])
    assert stats.text("mine") == f"– ({reason})"
    assert json.loads(json.dumps(stats.document))["stats"]["mine"] is None


@pytest.mark.parametrize("value", [3, 3.0, np.float32(3), np.int64(3)])
def test_any_number_is_taken(value):
    assert measure(RUN, metrics=[own(lambda run: value)])["mine"] == 3.0


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ([own(lambda run: 1 / 0)], "the metric mine failed: ZeroDivisionError: division by zero; its function takes"),
        ([own(lambda: 1)], "the metric mine failed: TypeError"),
        ([own(lambda run: "high")], "what the metric mine returned is 'high'; return a number"),
        ([own(lambda run: True)], "what the metric mine returned is True"),
        ([own(lambda run: run.returns)], "what the metric mine returned is an object of type ndarray"),
        ([own(None)], "the function of the metric mine is None"),
        ([own(lambda run: 1, name="sharpe")], "the name of a metric, 'sharpe', is that of another one"),
        ([own(lambda run: 1, label="sharpe RATIO")], "the label of a metric, 'sharpe RATIO', is that of another one"),
        ([own(lambda run: 1), own(lambda run: 2, label="Other")], "the name of a metric, 'mine', is that of another"),
        ([own(lambda run: 1, name="my metric")], "the name of a metric is 'my metric'; write a valid"),
        ([own(lambda run: 1, label=" ")], "is empty"),
        ([own(lambda run: 1, format="percents")], "choose from percent, .*did you mean percent"),
        ([own(lambda run: 1, group="mine")], "choose from return, risk"),
        ([own(lambda run: 1, definition=None)], "the definition of a metric is None"),
        (["sharpe"], r"a metric is 'sharpe'; write a list of rows, such as Metric\("),
        (UP, "metrics is an object of type Metric; write a list of rows"),
        (None, "metrics is None; write a list of rows"),
    ],
)
def test_a_row_that_cannot_be_measured_is_refused_with_its_name(metrics, said):
    with pytest.raises(UsageError, match=said):
        measure(RUN, metrics=metrics)


@pytest.mark.slow
def test_a_report_shows_it_among_the_numbers_and_keeps_it_for_machines(tmp_path):
    undefined = own(lambda run: math.inf, label="Mine, of nothing")

    folder = RUN.report(tmp_path / "own", metrics=[UP, LATEST, undefined]).parent

    text, numbers = (folder / "index.html").read_text("utf-8"), json.loads((folder / "metrics.json").read_text("utf-8"))
    assert text.index("Your own metrics") < text.index('data-metric="up_sessions"')
    assert (
        text.index('data-metric="total_return"') < text.index('data-metric="latest"') < text.index("Your own metrics")
    )
    assert "Sessions with r &gt; 0 / N." in text
    assert "its function returned an infinite number" in text
    assert (numbers["stats"]["up_sessions"], numbers["undefined"]["mine"]) == (0.75, "infinite")
    assert "Your own metrics" not in page(RUN)  # the run itself has no other numbers than before


@pytest.mark.slow
def test_a_number_of_returns_is_shown_of_buy_and_hold_too(tmp_path):
    text = write_report(RUN, tmp_path, validate(RUN, samples=10), metrics=[LATEST]).read_text("utf-8")

    row = text[text.index('data-metric="latest"') :].partition("</tr>")[0]
    assert "132.00" in row
    assert row.count('class="number"') == 2
    assert '<td class="number">120.00</td>' in row  # 100 of cash bought at 110, and the last close is 132


def test_numbers_go_through_pickle_as_before():
    again = pickle.loads(pickle.dumps(RUN.stats))

    assert dict(again) == pytest.approx(dict(RUN.stats), nan_ok=True)
    assert again.text("total_return") == RUN.stats.text("total_return")


def test_an_export_has_it_too(tmp_path):
    with_metrics(RUN, [UP]).to_csv(tmp_path)

    assert (
        (tmp_path / "metrics.csv")
        .read_text("utf-8")
        .splitlines()[-1]
        .startswith("up_sessions,Sessions that gained,0.75")
    )
