"""One strategy on each of many series: a run by itself, kept, a row in a table."""

import json
from pathlib import Path

import backtrader as bt
import pytest
from places import ROOT

from backtest import run, run_each
from backtest.api import RunResult
from backtest.errors import UsageError

SAMPLE = str(ROOT / "data" / "sample")
ASKED = {"store": SAMPLE, "start": "2003-01-02", "end": "2003-12-31"}
DATES = ("--since", "2003-01-02", "--until", "2003-12-31", "--store", SAMPLE)
THREE = ["AAPL/1day", "IBM/1day", "MSFT/1day"]


class Weekly(bt.Strategy):
    """Buys and sells by turns every so many bars."""

    params = (("days", 5), ("fails_above", 1e9))

    def next(self):
        if self.data.close[0] > self.p.fails_above:
            raise ValueError("too dear")
        if len(self) % self.p.days == 0:
            self.close() if self.position else self.buy(size=10)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Be in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_run_is_that_of_its_series_alone(here):
    found = run_each(Weekly, THREE, params={"days": 4}, **ASKED)

    assert [one.series for one in found.runs] == THREE
    for one in found.runs:
        alone = run(Weekly, one.series, params={"days": 4}, **ASKED)
        assert one.folder == Path("runs") / alone.name
        assert RunResult.load(one.folder) == alone
        assert one.stats.to_dict() == alone.stats.to_dict()
    assert found["IBM/1day"].series == ["IBM/1day"]


def test_each_run_has_the_borrow_fees_of_its_own_series(here):
    found = run_each(Weekly, THREE, borrow="0.01,AAPL/1day=0.3,IBM/1day@2003-02-03=0.1", **ASKED)

    kept = {one.series: RunResult.load(one.folder).spec.brokerage.borrow for one in found.runs}
    assert kept == {
        "AAPL/1day": "0.01,AAPL/1day=0.3", "IBM/1day": "0.01,IBM/1day@2003-02-03=0.1", "MSFT/1day": "0.01",
    }  # fmt: skip


def test_the_table_has_a_row_a_series_in_their_order(here):
    found = run_each(Weekly, THREE, **ASKED)

    frame = found.to_frame()
    assert list(frame.index) == THREE
    assert frame.loc["IBM/1day", "sharpe"] == found["IBM/1day"].stats["sharpe"]
    assert [row[0] for row in found.rows()] == THREE
    assert all(word in found._repr_html_() for word in (*THREE, "Sharpe ratio", "Saved as"))


def test_the_summary_counts_what_earned_and_has_the_median(here):
    found = run_each(Weekly, THREE, **ASKED)

    returns = [one.stats["total_return"] for one in found.runs]
    ratios = sorted(one.stats["sharpe"] for one in found.runs)
    assert f"{sum(one > 0 for one in returns)} profitable" in found.summary
    assert f"median Sharpe ratio {ratios[1]:.2f}" in found.summary


def test_a_series_on_which_it_fails_stops_no_other(here):
    found = run_each(Weekly, ["IBM/1day", "NONE/1day", "AAPL/1day"], params={"fails_above": 70.0}, **ASKED)

    errors = {one.series: one.error for one in found.failed}
    assert set(errors) == {"IBM/1day", "NONE/1day"}  # IBM is above 70 in 2003, AAPL far below
    assert "too dear" in errors["IBM/1day"]
    assert "NONE/1day is not in" in errors["NONE/1day"]
    assert [line.split(" ", 1)[0] for line in found.failures] == ["IBM/1day:", "NONE/1day"]  # each named once
    assert found.to_frame()["sharpe"].isna().tolist() == [True, True, False]
    with pytest.raises(UsageError, match=r"the run on IBM/1day failed: .*too dear"):
        found["IBM/1day"]
    with pytest.raises(UsageError, match="there is no run on MSFT/1day"):
        found["MSFT/1day"]


def test_a_folder_gets_a_run_a_series_and_holds_other_runs_until_forced(here):
    first = run_each(Weekly, THREE[:2], folder="mine", **ASKED)
    other = run_each(Weekly, THREE[:2], folder="mine", params={"days": 3}, **ASKED)
    forced = run_each(Weekly, THREE[:2], folder="mine", params={"days": 3}, force=True, **ASKED)

    assert [one.folder for one in first.runs] == [Path("mine/AAPL-1day"), Path("mine/IBM-1day")]
    assert all("holds another run" in one.error for one in other.runs)
    assert not forced.failed
    assert RunResult.load("mine/AAPL-1day").spec.params["days"] == 3


def test_progress_is_told_run_by_run(here):
    told = []

    run_each(Weekly, THREE, tell=told.append, **ASKED)

    assert [(one.done, one.total) for one in told] == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.slow
def test_two_processes_make_the_same_runs(here):
    class Local(Weekly):
        params = (("days", 6),)

    one = run_each(Local, [*THREE, "NONE/1day"], folder="one", **ASKED)
    two = run_each(Local, [*THREE, "NONE/1day"], folder="two", jobs=2, **ASKED)

    assert [(row.series, row.error) for row in one.runs] == [(row.series, row.error) for row in two.runs]
    for first, second in zip(one.runs[:3], two.runs[:3], strict=True):
        assert RunResult.load(first.folder).record.equals(RunResult.load(second.folder).record)
        assert RunResult.load(first.folder).name == RunResult.load(second.folder).name


@pytest.mark.parametrize(
    ("series", "more", "said"),
    [
        ([], {}, "name at least one"),
        (["AAPL/1day", "AAPL/1day"], {}, "named twice"),
        (THREE, {"params": {"day": 4}}, "did you mean days"),
        (THREE, {"cash": -1}, "it must be more than 0"),
        (THREE, {"slippage": "five"}, "five"),
        (THREE, {"borrow": "XYZ/1day=0.3"}, "XYZ/1day, which is not in the run; it has AAPL/1day, IBM/1day, MSFT/1day"),
        (THREE, {"jobs": 0}, "jobs is 0"),
        (THREE, {"force": "yes"}, "force is 'yes'"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(here, series, more, said):
    with pytest.raises(UsageError, match=said):
        run_each(Weekly, series, **ASKED, **more)

    assert not (here / "runs").exists()


@pytest.mark.slow
def test_the_command_gives_a_table_and_keeps_the_runs(here, call):
    code, out, err = call("run", "sma_cross", *THREE, "--each", "--set", "fast=5", *DATES)

    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].split() == ["series", "return", "CAGR", "volatility", "Sharpe", "drawdown", "trades", "saved", "as"]
    assert [line.split()[0] for line in lines[2:5]] == THREE
    assert lines[5].startswith("SmaCross: 3 of 3 series ran, ")
    listed = json.loads(call("runs", "ls", "--json")[1])["runs"]
    assert sorted(row["series"][0] for row in listed.values()) == THREE
    assert {line.split()[-1] for line in lines[2:5]} == set(listed)


def test_the_command_names_what_failed_and_ends_with_its_code(here, call):
    code, out, err = call("run", "sma_cross", "AAPL/1day", "NONE/1day", "--each", "--out", "mine", *DATES)
    document = json.loads(
        call("run", "sma_cross", "AAPL/1day", "NONE/1day", "--each", "--out", "mine", *DATES, "--json")[1]
    )

    assert code == 3
    assert err.startswith("error: NONE/1day is not in")
    assert next(line for line in out.splitlines() if line.startswith("NONE/1day")).split()[1:] == ["–"] * 6 + ["failed"]
    assert document["runs"]["AAPL/1day"]["folder"] == str(Path("mine/AAPL-1day"))
    assert list(document["failed"]) == ["NONE/1day"]


def test_jobs_without_each_are_refused(here, call):
    code, _, err = call("run", "sma_cross", "AAPL/1day", "--jobs", "2", *DATES)

    assert (code, "add --each" in err) == (2, True)
