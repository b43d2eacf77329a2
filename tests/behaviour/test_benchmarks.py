"""The benchmarks at a tiny size: that they compare like with like, and tell it as a table. Never how fast."""

import dataclasses
import subprocess
import sys

import accounts
import backtrader as bt
import bench
import browser
import currencies
import engines
import grids
import loading
import memory
import newcomer
import nightly
import numpy as np
import page
import painting
import prices
import pyarrow.parquet as pq
import pytest
import running
import sweeping
import timing

from backtest.engine.feed import replay
from backtest.market.series import Series
from backtest.research.search.trials import Trials

DAILY = Series.parse("MADE/1day")


@pytest.mark.soak
def test_every_turn_has_all_jobs_in_order():
    took = []

    timing.take_turns({"A": lambda: took.append("A"), "B": lambda: took.append("B")}, repeats=2)

    assert took == ["A", "B", "A", "B"]


def test_a_ratio_is_the_middle_one_of_the_turns():
    assert timing.pair_ratio([8.0, 4.0, 30.0], [1.0, 2.0, 10.0]) == 3.0


def test_a_row_says_whether_its_goal_is_met():
    rows = [timing.Row("load", "a rival", "1 s", "200 s", ratio, 150.0) for ratio in (200.0, 149.0)]

    assert timing.table(rows).splitlines()[2:] == [
        "| load | a rival | 1 s | 200 s | 200 × | ≥ 150 × | yes |",
        "| load | a rival | 1 s | 200 s | 149 × | ≥ 150 × | NO |",
    ]


@pytest.mark.soak
def test_loading_is_set_against_pandas_and_bare_arrow(tmp_path):
    rows = loading.rows(tmp_path, bars=900, repeats=1)

    assert [row.against for row in rows] == ["read_parquet + PandasData", "bare pq.read_table"]
    assert all(row.ratio > 0 for row in rows)


@pytest.mark.soak
@pytest.mark.skipif(not browser.installed(), reason=browser.MISSING)
def test_a_chart_is_painted_and_zoomed_and_its_page_is_written(tmp_path):
    rows = list(painting.rows(tmp_path, (300, 20_000), repeats=1))

    assert [row.job.partition(", ")[0] for row in rows] == [
        "first paint", "wheel step", "page of a run", "page of a run", "first paint", "wheel step"
    ]  # fmt: skip
    assert all(row.ratio > 0 and row.goal == 1.0 for row in rows)


def test_feeds_of_other_bars_are_not_timed():
    feeds = [loading.loaded(replay(prices.daily_bars(20, seed), DAILY)) for seed in (1, 2)]

    with pytest.raises(AssertionError, match="the lines open differ"):
        loading.check(*feeds)


@pytest.mark.soak
def test_every_strategy_does_the_same_in_both_engines_and_is_told():
    rows = running.rows(bars=2000, repeats=1)

    assert [row.job.partition(",")[0] for row in rows] == [
        "SMA cross", "looks and rarely trades", "does nothing", "Heikin-Ashi", "Heikin-Ashi", "timers",
        "SignalStrategy", "cheat on close", "indicators by next", "averages of changes", "SMA cross",
        "keeps the lines of two averages",
    ]  # fmt: skip
    assert {row.against for row in rows} == {"stock Backtrader", "the run without them"}


@pytest.mark.soak
def test_both_engines_make_the_same_and_are_told(tmp_path):
    rows = engines.rows(tmp_path, bars=3000, years=2, repeats=1)

    assert [row.job for row in rows] == ["walk-forward, 244 runs", "one run, 3,000 bars, 597 orders"]
    assert {row.against for row in rows} == {"the event engine"}


@pytest.mark.slow
def test_a_grid_of_pairs_is_simulated_as_the_same_ones_are_swept(tmp_path):
    pairs = grids.pairs_of(80)
    (tmp_path / "bars").mkdir()
    path = tmp_path / "bars" / "bars.parquet"
    pq.write_table(prices.daily_bars(400, 3, prices.DYADIC), path)

    numbers, seconds = grids.measured("grid_with_ours.py", sys.executable, path, "numpy", pairs)
    (row,) = grids.rows(tmp_path / "swept", None, bars=400, trials=80, repeats=1)

    returns, drawdowns, ratios, closed = numbers.reshape(4, 80)
    assert (drawdowns <= 0).all()
    assert (closed > 0).all()
    assert (np.sign(ratios) == np.sign(returns)).mean() > 0.9
    assert min(seconds) > 0
    assert (row.job, row.against) == ("80 trials, 400 bars, swept and judged", "the event engine")


class BuysMore(running.SmaCross):
    params = (("size", 11),)


def test_engines_that_differ_are_not_timed():
    bars = {DAILY: prices.daily_bars(200, seed=1)}

    with pytest.raises(AssertionError, match="equity differs"):
        running.check(running.ours(BuysMore, bars), running.stock(running.SmaCross, bars, witness=True))


class OrdersInVain(bt.Strategy):
    def next(self):
        if len(self) == 5:
            self.buy(size=1, exectype=bt.Order.Limit, price=0.01)


def test_orders_that_differ_are_found_though_no_money_moved():
    bars = {DAILY: prices.daily_bars(20, seed=1)}

    with pytest.raises(AssertionError, match="orders differ"):
        running.check(running.ours(OrdersInVain, bars), running.stock(running.DoesNothing, bars, witness=True))


def test_strategies_of_the_benchmark_do_trade():
    bars = {DAILY: prices.minute_bars(12_000)}

    crosses, rare = (len(running.orders(running.ours(one, bars))) for one in (running.SmaCross, running.Looks))

    assert 0 < rare < 40 < 400 < crosses


@pytest.mark.soak
def test_the_newcomers_programs_agree_and_are_told(tmp_path):
    rows = newcomer.rows(tmp_path, rivals=None, bars=120, counts=(2,), repeats=1)

    assert [(row.job, row.against) for row in rows] == [("newcomer's job, 2 series", "stock Backtrader")]


@pytest.mark.parametrize("number", newcomer.NUMBERS)
def test_a_newcomers_program_with_other_numbers_is_not_timed(number):
    bars = {"S00": prices.daily_bars(5, seed=1)}
    ours = {"S00": {"sharpe": 1.0, "drawdown": -0.2, "return": 0.1}}
    theirs = {"S00": {**ours["S00"], number: 0.100001}}

    with pytest.raises(AssertionError, match=f"S00: {number} is"):
        newcomer.check(ours, theirs, newcomer.NUMBERS, "a rival", bars)


@pytest.mark.soak
def test_memory_is_told_of_both_and_of_ten_times_the_bars(tmp_path):
    rows = memory.rows(tmp_path, bars=500)

    assert [row.job for row in rows] == [
        "peak memory of a run, 500 bars", "processor time of a run, 5,000 bars", "memory of a run, 5,000 bars",
    ]  # fmt: skip
    assert rows[0].ours.endswith(" MB")


@pytest.mark.soak
def test_a_peak_is_that_of_a_process_itself_not_of_the_one_that_made_it():
    held = bytearray(300 * 2**20)

    command = [sys.executable, "-c", "import memory; print(memory.peak())"]
    child = subprocess.run(command, cwd=memory.HERE, capture_output=True, text=True, check=True)

    assert float(child.stdout) < len(held) / 2**20 < memory.peak()


@pytest.mark.soak
def test_a_page_has_the_figures_that_matplotlib_alone_is_timed_with(tmp_path):
    result = page.long_run(tmp_path, bars=45 * 1440)

    page.check(result.report(tmp_path).read_text(encoding="utf-8"), page.drawn(result, lambda x, y: (x, y)))


def test_a_page_without_a_figure_is_not_timed():
    with pytest.raises(AssertionError, match="other figures"):
        page.check("<figure><svg></svg><svg></svg></figure>", ["<svg></svg>"] * 6)


@pytest.mark.soak
def test_a_run_as_an_account_at_ib_is_set_against_the_same_without(tmp_path):
    (row,) = accounts.rows(tmp_path, bars=40_000, repeats=1)

    assert (row.against, row.goal) == ("without them", 1 / 1.3)
    assert row.ratio > 0


@pytest.mark.soak
def test_a_run_in_two_currencies_is_set_against_the_same_in_one(tmp_path):
    (row,) = currencies.rows(tmp_path, bars=2000, repeats=1)

    assert row.against == "in one currency"
    assert row.ratio > 0


def test_runs_that_differ_in_more_than_their_currency_are_not_timed(tmp_path):
    store = currencies.stored(tmp_path, 800)
    euros, dollars = (currencies.in_currency(store, one) for one in ("EUR", "USD"))

    currencies.check(euros, dollars)
    with pytest.raises(AssertionError, match="worth something else"):
        currencies.check(
            dataclasses.replace(euros, record=dollars.record.append_column("rate.0", euros.record["rate.0"])), dollars
        )


def test_the_report_names_what_it_was_measured_with():
    row = timing.Row("load", "a rival", "1 s", "2 s", 2.0)

    report = bench.report([row])

    assert report.startswith(timing.HEADER)
    assert f"backtrader {bt.__version__}" in report


@pytest.mark.soak
def test_sweeps_are_timed_only_if_they_make_the_same_trials(tmp_path):
    sweeping.finish([sweeping.begin(30, 1, 1, tmp_path / "a")])
    made = list(Trials(tmp_path / "a").read().values())
    Trials(tmp_path / "b").add(made[1:])

    sweeping.check([tmp_path / "a"], [tmp_path / "a"])
    with pytest.raises(AssertionError, match="the trials differ"):
        sweeping.check([tmp_path / "a"], [tmp_path / "b"])


def test_a_night_of_small_bars_waits_for_each_sixty_requests():
    assert nightly.paced_seconds(60) == 0.0
    assert nightly.paced_seconds(121) == 2 * (600.0 + nightly.MARGIN)


@pytest.mark.soak
def test_a_night_asks_once_for_each_series(tmp_path):
    night = nightly.night(tmp_path, count=3, years=1)

    assert (night.requests, night.violations) == (3, 0)


@pytest.mark.soak
def test_small_bars_take_as_long_as_the_budget_says(tmp_path):
    took = nightly.seconds_of_small_bars(tmp_path, count=61, scale=100.0)

    assert took >= nightly.paced_seconds(61, 100.0) > 6.0
