"""What a person writes is taken: spellings, dates, numbers, and the objects behind them; else it says what to write."""

from __future__ import annotations

import re
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from sent import Turns

import backtest
from backtest import Series, Span, Store
from backtest.engine.account.commissions import costs_named, costs_of
from backtest.errors import NoBars, UsageError
from backtest.market import arrays
from backtest.market.span import asked_span
from backtest.research.out_of_sample.folds import session_count
from backtest.research.search.job import Point, job_of
from backtest.sources.files.export import write_bars

AAPL, MSFT = Series.parse("AAPL/1day"), Series.parse("MSFT/1day")
SINCE, UNTIL = "2003-01-02", "2003-12-31"
DATES = Span.of_dates(date(2003, 1, 2), date(2003, 12, 31))
HALF = ("2003-01-02", "2003-06-30")


class PerOrder(bt.CommInfoBase):
    """So much an order."""

    params = (("fee", 3.0), ("stocklike", True), ("percabs", True))

    def _getcommission(self, size, price, pseudoexec):
        return self.p.fee


def numbers(result, name="equity"):
    return arrays.numbers(result.record[name])


def paid(result):
    return arrays.numbers(result.fills_table["costs"])


@pytest.fixture
def turns(sample):
    """Return a run of half a year with what is asked."""
    return lambda **asked: backtest.run(Turns, "AAPL/1day", store=sample, **{"span": HALF, **asked})


# --- series, dates, spans


def test_a_store_takes_a_series_by_its_spelling(sample):
    assert sample.read("AAPL/1day").equals(sample.read(AAPL))
    assert sample.manifest("AAPL/1day") == sample.manifest(AAPL)
    assert sample.manifest("AAPL/1day").rows > 3000
    assert sample.folder("AAPL/1day") == sample.folder(AAPL)
    assert sample.gaps("AAPL/1day", HALF) == []


def test_a_series_that_a_store_does_not_know_has_no_manifest(sample):
    with pytest.raises(NoBars, match=r"AAPL/1hour is not in .*did you mean AAPL/1day"):
        sample.manifest("AAPL/1hour")


def test_a_store_takes_sessions_as_dates_or_texts_both_included(sample):
    bars = sample.read(AAPL, DATES)

    assert sample.read("AAPL/1day", (SINCE, UNTIL)).equals(bars)
    assert sample.read("AAPL/1day", start=SINCE, end=date(2003, 12, 31)).equals(bars)
    assert bars["time"][0].as_py() == datetime(2003, 1, 2, tzinfo=UTC)
    assert bars["time"][-1].as_py() == datetime(2003, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    "day",
    [date(2003, 1, 2), "2003-01-02", pd.Timestamp("2003-01-02"), pd.Timestamp("2003-01-02", tz="UTC"),
     datetime(2003, 1, 2, tzinfo=UTC), np.datetime64("2003-01-02"),
     np.datetime64("2003-01-02T00:00", "ns").astype("M8[s]")],
)  # fmt: skip
def test_a_session_may_be_a_date_a_time_at_midnight_or_a_text(day):
    assert asked_span(None, day) == (date(2003, 1, 2), None)
    assert asked_span((day, None)) == (date(2003, 1, 2), None)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"span": "2003-01-02"}, "span is '2003-01-02'; write a pair of sessions"),
        ({"span": ("2003-01-02",)}, "write a pair of sessions"),
        ({"span": (5, None)}, "start is 5; write the date of a session"),
        ({"span": (None, "2003-02-30")}, "end is '2003-02-30'; it is not a date"),
        ({"start": pd.Timestamp("2003-01-02 10:00")}, "sessions have no time of day"),
        ({"start": pd.NaT}, "write the date of a session"),
        ({"start": "2003-01-03", "end": "2003-01-02"}, "first session, 2003-01-03, is after the last, 2003-01-02"),
        ({"span": HALF, "end": "2003-01-02"}, "span and start or end are both given"),
    ],
)
def test_what_is_no_span_is_refused_with_the_right_way(wrong, said):
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        asked_span(**{"span": None, **wrong})


def test_a_run_takes_sessions_in_any_way_and_says_the_same(turns):
    one = turns(span=(date(2003, 1, 2), date(2003, 6, 30)))

    for asked in ({"span": HALF}, {"span": None, "start": HALF[0], "end": pd.Timestamp(HALF[1])}):
        other = turns(**asked)
        assert other.spec == one.spec
        assert other.record.equals(one.record)
    assert (one.spec.since, one.spec.until) == HALF


# --- downloads


@pytest.fixture
def files(tmp_path, sample):
    """Return a folder of CSV files of two series."""
    (tmp_path / "files").mkdir()
    for series, name in ((AAPL, "AAPL"), (MSFT, "MSFT")):
        write_bars(sample.read(series, DATES), tmp_path / "files" / f"{name}.csv", series)
    return tmp_path / "files"


@pytest.mark.slow
@pytest.mark.parametrize("series", ["AAPL/1day", AAPL, ["AAPL/1day", MSFT]])
def test_a_download_takes_folder_address_spelling_and_texts_of_dates(tmp_path, files, series, sample):
    report = backtest.download(str(tmp_path / "bars"), f"csv:{files}", series, start=SINCE, end=UNTIL)

    assert report.complete
    assert len(report.series) == (2 if isinstance(series, list) else 1)
    assert Store(tmp_path / "bars").read("AAPL/1day").equals(sample.read(AAPL, DATES))


def test_a_download_without_a_first_session_says_how_to_name_one(tmp_path, files):
    with pytest.raises(UsageError, match=r"write start='2020-01-02'"):
        backtest.download(tmp_path / "bars", f"csv:{files}", "AAPL/1day")


# --- what a run is asked


def test_costs_that_are_a_number_are_a_share_of_the_value_as_in_backtrader(turns):
    result = turns(costs=0.001)
    fills = result.fills_table

    assert result.spec.brokerage.costs == "bp:10"
    assert len(fills)
    value = np.abs(arrays.numbers(fills["size"])) * arrays.numbers(fills["price"])
    assert paid(result) == pytest.approx(value * 0.001, rel=1e-12)


@pytest.mark.parametrize(("share", "name"), [(0.0003, "bp:3"), (0.00025, "bp:2.5"), (1e-5, "bp:0.1"), (0, "none")])
def test_a_share_is_spelled_as_basis_points(share, name):
    assert costs_of(share).name == name
    assert costs_named(name).make().getcommission(10, 100.0) == pytest.approx(1000 * share, rel=1e-15)


@pytest.mark.parametrize("wrong", [5, -0.001, True, float("nan"), None, "0.001", [0.001], object()])
def test_costs_that_cannot_be_meant_are_refused_with_both_spellings(turns, wrong):
    with pytest.raises(UsageError, match="bp:"):
        turns(costs=wrong)


def test_a_commission_of_backtraders_is_charged_and_can_be_made_again_from_its_name(turns):
    given = bt.CommInfoBase(commission=0.1)  # Backtrader's own: in percent, unless percabs
    result = turns(costs=given)

    assert result.spec.brokerage.costs == 'bt.CommInfoBase{"commission": 0.001, "percabs": true}'
    assert numbers(result).tolist() == numbers(turns(costs="bp:10")).tolist()
    assert turns(costs=result.spec.brokerage.costs).record.equals(result.record)
    assert not hasattr(given, "traded")  # each series has a copy


def test_a_commission_with_a_multiplier_is_measured_with_it(turns):
    result = turns(costs=bt.CommInfoBase(commission=2.0, mult=50.0, margin=1000.0), cash=1e6)
    trade = result.trades_table.to_pylist()[0]

    assert result.spec.multiplier == 50.0
    assert trade["gross"] == pytest.approx((trade["exit_price"] - trade["entry_price"]) * trade["size"] * 50.0)


@pytest.mark.slow
def test_a_commission_of_ones_own_is_charged_and_told_by_class_parameters_and_source(turns):
    result = turns(costs=PerOrder(fee=4.0))

    assert set(paid(result)) == {4.0}
    assert result.spec.brokerage.costs.startswith('PerOrder{"fee": 4.0, "percabs": true, "stocklike": true}#')
    assert turns(costs=PerOrder).spec.brokerage.costs.startswith('PerOrder{"fee": 3.0')
    with pytest.raises(UsageError, match=r"pass the commission itself again: costs=PerOrder\(...\)"):
        turns(costs=result.spec.brokerage.costs)


@pytest.mark.parametrize("name", ['bt.Cerebro{"runonce": true}', "bt.CommInfoBase{mult}", 'bt.CommInfoBase{"odd": []}'])
def test_a_name_of_a_strangers_makes_nothing_but_a_commission(name):
    with pytest.raises(UsageError, match="are not a commission of Backtrader"):
        costs_of(name)


def test_slippage_that_is_a_number_is_money_a_share_as_in_its_spelling(turns):
    result = turns(slippage=0.25)

    assert result.spec.brokerage.slippage == "0.25"
    assert result.record.equals(turns(slippage="0.25").record)
    assert not result.record.equals(turns().record)
    with pytest.raises(UsageError, match=r'"5bp" for five basis points of the price, or 0.01 for a cent per share'):
        turns(slippage=[5])


def test_a_size_that_is_a_number_is_so_many_shares(turns):
    result = turns(size=7, params={"size": 0})

    assert result.spec.brokerage.size == "shares:7"
    assert set(np.abs(arrays.numbers(result.fills_table["size"]))) == {7.0}
    with pytest.raises(UsageError, match=r"size is 0\.5; write 100 for a hundred shares"):
        turns(size=0.5)


def test_a_benchmark_may_be_a_series(turns):
    assert turns(benchmark=MSFT).spec == turns(benchmark="MSFT/1day").spec


def test_a_benchmark_may_be_a_series_that_is_traded(turns):
    assert turns(benchmark=AAPL).spec.benchmark == str(AAPL)


def test_numbers_may_be_texts(turns):
    result = turns(cash="1e5", risk_free="0.02", volume_cap="0.5", cash_rate="0.01", borrow=0.01)

    assert result.spec == turns(cash=1e5, risk_free=0.02, volume_cap=0.5, cash_rate=0.01, borrow="0.01").spec
    assert result.spec.cash == 100_000.0


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"params": ["fast"]}, r"params is the list \['fast'\]; write a dict"),
        ({"cash": "much"}, "cash is 'much'; write a number"),
        ({"cash": True}, "cash is True; write a number"),
        ({"risk_free": None}, "risk_free is None; write 0.02"),
        ({"align": 3}, "align is 3; write one of as-is"),
        ({"fills": None}, "fills is None; write one of next-bar"),
    ],
)
def test_what_a_run_cannot_be_asked_is_refused_with_the_right_way(turns, asked, said):
    with pytest.raises(UsageError, match=said):
        turns(**asked)


def test_a_class_that_is_no_strategy_is_refused(sample):
    with pytest.raises(UsageError, match=r"write a class that derives from bt.Strategy, or file.py:Name"):
        backtest.run(int, "AAPL/1day", store=sample)


# --- sweeps


@pytest.fixture
def swept(sample, tmp_path):
    """Return a sweep with what is asked, in one folder: equal trials are made once."""
    return lambda grid, **asked: backtest.sweep(
        Turns, "AAPL/1day", grid, store=sample, folder=tmp_path / "sweep", span=HALF, **asked
    )


def points(found):
    return [(trial.params["fast"], trial.params["slow"]) for trial in found.trials]


@pytest.mark.slow
def test_a_grid_may_be_spelled_as_on_the_command_line_and_gives_the_same_trials(swept):
    first = swept({"fast": [6, 8], "slow": [3]})

    for grid in ({"fast": "6:8:2", "slow": 3}, {"fast": "6,8", "slow": (3,)}, ["fast=6:8:2", "slow=3"]):
        found = swept(grid)
        assert [trial.key for trial in found.trials] == [trial.key for trial in first.trials]
        assert found.asked["grid"] == {"fast": [6, 8], "slow": [3]}
    assert points(first) == [(6, 3), (8, 3)]


def test_a_condition_may_be_spelled(swept):
    grid = {"fast": [6, 8], "slow": [3, 7]}

    assert points(swept(grid, where="slow<fast")) == points(swept(grid, where=lambda one: one["slow"] < one["fast"]))
    assert points(swept(grid, where=["slow<fast", "fast>6"])) == [(8, 3), (8, 7)]


def test_a_grid_of_what_is_no_value_is_refused(swept):
    with pytest.raises(UsageError, match="a set has no order"):
        swept({"fast": {6, 8}})
    with pytest.raises(UsageError, match=r"write a list of its values"):
        swept({"fast": None})


def test_a_rank_may_be_a_label(swept):
    assert swept({"fast": [6, 8]}, rank="Sharpe ratio").asked["rank"] == "sharpe"


@pytest.mark.slow
def test_a_sweep_takes_a_commission_and_keeps_trials_of_other_parameters_apart(swept):
    three, again, four = (swept({"fast": [6]}, costs=PerOrder(fee=fee)) for fee in (3.0, 3.0, 4.0))

    assert three.trials == again.trials
    assert three.trials[0].key != four.trials[0].key
    assert three.asked["asked"]["costs"].startswith('PerOrder{"fee": 3.0')
    assert four.best_run.stats["costs"] / 4 == three.best_run.stats["costs"] / 3


@pytest.mark.slow
def test_a_commission_goes_to_other_processes_if_it_can_be_sent(swept):
    found = swept({"fast": [6, 8]}, costs=bt.CommInfoBase(commission=0.1), jobs=2)

    local = swept({"fast": [6, 8]}, costs=local_commission(), jobs=2)

    assert not found.failed
    assert local.trials[0].metrics["costs"] > 0


def local_commission():
    class Local(bt.CommInfoBase):
        """Of a function, where no other process finds it by its name."""

        params = (("commission", 0.1),)

    return Local()


def test_a_commission_that_could_not_be_told_from_another_is_refused_in_a_sweep(swept):
    class Odd(PerOrder):
        """Has a parameter that is no value."""

        params = (("rule", print),)

    with pytest.raises(UsageError, match="cannot be distinguished from others of that name"):
        swept({"fast": [6]}, costs=Odd())


def test_what_a_trial_is_keyed_by_is_the_flat_form_of_the_first_version(sample):
    job = job_of(Turns, "AAPL/1day", store=sample, span=(date(2003, 1, 2), None), swept=["fast"], cash=5)

    assert job.asked == {
        "cash": 5, "costs": "ib-fixed", "benchmark": "", "risk_free": 0.0, "align": "as-is", "size": "",
        "slippage": "", "volume_cap": 0.0, "fills": "next-bar", "borrow": "", "cash_rate": 0.0,
    }  # fmt: skip
    assert isinstance(job.asked["cash"], int)
    spelled = job_of(Turns, [AAPL], store=sample, start="2003-01-02", swept=["fast"], cash=5)
    assert spelled.key(Point({"fast": 6})) == job.key(Point({"fast": 6}))


@pytest.mark.parametrize(
    ("given", "count"), [(504, 504), ("504", 504), ("3y", 756), ("6m", 126), ("2w", 10), (np.int64(5), 5)]
)
def test_a_number_of_sessions_may_be_spelled(given, count):
    assert session_count(given, "train") == count


def test_a_walk_forward_takes_lengths_as_the_command_line_does(sample, tmp_path):
    asked = {"store": sample, "span": HALF, "folder": tmp_path}
    spelled = backtest.walk_forward(Turns, "AAPL/1day", {"fast": "6,8"}, train="2m", test="1m", **asked)
    counted = backtest.walk_forward(Turns, "AAPL/1day", {"fast": [6, 8]}, train=42, test=21, **asked)

    assert spelled.rows == counted.rows


# --- numbers of a run


def test_a_number_is_found_by_the_label_that_people_read(turns):
    stats = turns().stats

    assert stats["Sharpe ratio"] == stats["sharpe"]
    assert stats.text("Maximum drawdown") == stats.text("max_drawdown")
    assert "Sharpe ratio" in stats
    assert "nothing" not in stats
    assert stats.get("nothing") is None
    assert stats.get("nothing", 1.0) == 1.0


def test_a_number_that_there_is_none_of_is_refused_with_the_nearest(turns):
    with pytest.raises(
        UsageError, match=r"unknown metric 'Sharp ratio'; choose from total_return, .*mean Sharpe ratio"
    ):
        turns().stats["Sharp ratio"]


def test_kept_runs_are_compared_by_their_folders_or_names(turns, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    turns().save("runs/sma")
    turns(params={"fast": 7}).save("runs/ema")

    by_folder, by_name = (backtest.compare(names, samples=10) for names in (["runs/sma", "runs/ema"], ["sma", "ema"]))

    assert by_folder.runs == by_name.runs
    with pytest.raises(UsageError, match="1 run is not enough to compare"):
        backtest.compare(["runs/sma"])
    with pytest.raises(UsageError, match=re.escape(f"no run '{Path('runs/smma')}' in runs;")):
        backtest.compare(["runs/smma", "runs/ema"])


# --- strategies


HELPED = """
import backtrader as bt
import {first}

class Helped(bt.Strategy):
    def next(self):
        import {later}
        assert {first}.NUMBER + {later}.NUMBER == 3
"""


def test_a_strategy_imports_the_files_beside_it_and_leaves_the_path_as_it_was(tmp_path, sample):
    (tmp_path / "helped.py").write_text(HELPED.format(first="beside_at_first", later="beside_later"))
    (tmp_path / "beside_at_first.py").write_text("NUMBER = 1")
    (tmp_path / "beside_later.py").write_text("NUMBER = 2")
    before = list(sys.path)

    backtest.run(tmp_path / "helped.py", "AAPL/1day", store=sample, span=HALF)

    assert sys.path == before


@pytest.mark.slow
def test_a_path_that_had_the_folder_keeps_it(tmp_path, sample, monkeypatch):
    (tmp_path / "helped.py").write_text(HELPED.format(first="beside_one", later="beside_two"))
    (tmp_path / "beside_one.py").write_text("NUMBER = 1")
    (tmp_path / "beside_two.py").write_text("NUMBER = 2")
    monkeypatch.syspath_prepend(tmp_path)
    before = list(sys.path)

    backtest.run(tmp_path / "helped.py", "AAPL/1day", store=sample, span=HALF)

    assert sys.path == before
