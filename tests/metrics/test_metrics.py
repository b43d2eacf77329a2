import json
import math
import pickle
import re
from datetime import date, timedelta
from pathlib import Path

import empyrical
import numpy as np
import pandas as pd
import pytest
from handmade import day, fill, result_of
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT

from backtest.errors import StrategyError, UsageError
from backtest.market.series import Series
from backtest.metrics import returns
from backtest.metrics.account import sample
from backtest.metrics.benchmark import (
    active_drawdown,
    active_premium,
    alpha,
    beta,
    common_dates,
    correlation,
    down_capture,
    information_ratio,
    m2,
    tracking_error,
    treynor,
    up_capture,
)
from backtest.metrics.drawdown import (
    average_drawdown,
    burke,
    burke_modified,
    calmar,
    deepest,
    drawdowns,
    losing_runs,
    martin,
    max_drawdown,
    pain,
    pain_ratio,
    ulcer,
    underwater,
)
from backtest.metrics.measurement import measure, measure_returns
from backtest.metrics.ratios import kappa, omega, sharpe, sharpe_geometric, sortino, upside_potential
from backtest.metrics.returns import (
    REASONS,
    Undefined,
    cagr,
    cagr_calendar,
    cagr_of,
    downside_deviation,
    equity_of,
    kurtosis,
    largest,
    monthly_returns,
    skew,
    smallest,
    total_return,
    volatility,
    yearly_returns,
)
from backtest.metrics.table import GROUPS, METRICS, cost_drag, exposure, turnover
from backtest.metrics.tail_risk import (
    expected_shortfall,
    expected_shortfall_cornish_fisher,
    expected_shortfall_gaussian,
    quantile,
    tail_ratio,
    value_at_risk,
    value_at_risk_cornish_fisher,
    value_at_risk_gaussian,
)
from backtest.metrics.trades import (
    average_loss,
    average_win,
    excursions,
    expectancy,
    longest_streak,
    open_trades,
    payoff,
    profit_factor,
    sqn,
    win_rate,
)
from backtest.store.store import Store

# Bacon, Practical Portfolio Performance: the portfolio's 24 monthly returns from January 2000, in percent.
BACON = np.array(
    [0.3, 2.6, 1.1, -1.0, 1.5, 2.5, 1.6, 6.7, -1.4, 4.0, -0.5, 8.1,
     4.0, -3.7, -6.1, 1.7, -4.9, -2.2, 7.0, 5.8, -6.5, 2.4, -0.5, -0.9]
) / 100  # fmt: skip
BENCHMARK = np.array(
    [0.2, 2.5, 1.8, -1.1, 1.4, 1.8, 1.4, 6.5, -1.5, 4.2, -0.6, 8.3,
     3.9, -3.8, -6.2, 1.5, -4.8, 2.1, 6.0, 5.6, -6.7, 1.9, -0.3, 0.0]
) / 100  # fmt: skip
MONTHS = np.arange("2000-01", "2002-01", dtype="datetime64[M]").astype("datetime64[D]")
SAMPLES = ("AAPL", "GOOG", "IBM", "MSFT")

percents = st.lists(st.integers(-50, 50).map(lambda n: n / 100), min_size=2, max_size=60).map(np.array)
some_returns = st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=60).map(np.array)


def sample_returns(symbol):
    closes = Store(ROOT / "data" / "sample").read(Series.parse(f"{symbol}/1day"))["close"].to_numpy()
    return closes[1:] / closes[:-1] - 1


def random_returns(seed):
    return np.random.default_rng(seed).normal(0.0003, 0.012, 1000)


EQUITY = np.array([100.0, 110.0, 99.0, 99.0, 110.0, 121.0])


def test_total_return_is_against_the_initial_cash():
    assert total_return(EQUITY) == pytest.approx(0.21)


def test_cagr_is_the_steady_growth_of_as_many_years_as_there_are_sessions():
    assert cagr(np.array([100.0, 90.0, 121.0]), periods=1) == pytest.approx(0.1)


def test_volatility_is_the_sample_deviation_times_the_root_of_the_periods():
    assert volatility(np.array([0.01, 0.03]), periods=4) == pytest.approx(math.sqrt(2) * 0.01 * 2)


def test_sharpe_is_mean_over_sample_deviation_a_year():
    assert sharpe(np.array([0.01, 0.03]), periods=4) == pytest.approx(0.02 / (math.sqrt(2) * 0.01) * 2)


def test_the_risk_free_rate_is_taken_off_as_a_compound_rate_a_period():
    risk_free = 1.01**4 - 1

    assert sharpe(np.array([0.01, 0.03]), risk_free, 4) == pytest.approx(0.01 / (math.sqrt(2) * 0.01) * 2)


def test_sortino_divides_by_the_squares_below_the_target_over_all_returns():
    assert sortino(np.array([0.03, -0.02, 0.02, 0.01]), periods=4) == pytest.approx(0.01 / 0.01 * 2)


def test_underwater_is_the_distance_from_the_highest_so_far():
    np.testing.assert_allclose(underwater(EQUITY), [0, 0, -0.1, -0.1, 0, 0])


def test_calmar_is_cagr_over_the_deepest_drawdown():
    assert calmar(np.array([100.0, 88.0, 121.0]), periods=1) == pytest.approx(0.1 / 0.12)


def test_exposure_is_the_share_of_sessions():
    assert exposure(np.array([True, False, False, True])) == 0.5


def test_a_purchase_and_its_sale_at_mean_equity_in_a_year_are_one_turn():
    assert turnover(200.0, np.full(5, 100.0), periods=4) == pytest.approx(1.0)


def test_trade_metrics_of_four_round_trips():
    net = np.array([30.0, -10.0, 20.0, 0.0])

    assert (win_rate(net), profit_factor(net), expectancy(net)) == (0.5, 5.0, 10.0)
    assert sqn(net) == pytest.approx(math.sqrt(4) * 10 / math.sqrt(1000 / 3))


def test_cagr_by_the_calendar_counts_days_from_the_first_session_to_the_last():
    days = np.array(["2020-01-01", "2021-01-01", "2023-12-31"], "datetime64[D]")  # 1,460 days, four years but a day

    assert cagr_calendar(days, np.array([100.0, 90.0, 100.0, 146.41])) == pytest.approx(1.4641 ** (365.25 / 1460) - 1)


def test_months_and_years_compound_their_sessions_from_the_end_of_the_one_before():
    days = np.array(["2023-12-28", "2023-12-29", "2024-01-02", "2024-02-01", "2024-02-02"], "datetime64[D]")
    equity = np.array([100.0, 105.0, 110.0, 121.0, 100.0, 133.1])

    months, by_month = monthly_returns(days, equity)
    years, by_year = yearly_returns(days, equity)

    assert months.astype(str).tolist() == ["2023-12", "2024-01", "2024-02"]
    assert by_month == pytest.approx([0.1, 0.1, 0.1])
    assert years.astype(str).tolist() == ["2023", "2024"]
    assert by_year == pytest.approx([0.1, 0.21])


def test_downside_deviation_is_over_all_returns():
    assert downside_deviation(np.array([0.03, -0.02, 0.02, 0.01]), periods=4) == pytest.approx(0.02)


def test_a_dated_risk_free_rate_is_taken_off_day_by_day():
    returns, rates = np.array([0.02, 0.05, 0.04]), np.array([0.01, 0.02, 0.01])

    assert sharpe(returns, rates, 1) == pytest.approx(0.07 / 3 / 0.0115470053837925)  # of 1, 3 and 3 %
    with pytest.raises(ValueError, match="3 returns but 2 rates"):
        sharpe(returns, rates[:2])


def test_the_geometric_ratio_compounds_what_is_above_the_rate():
    assert sharpe_geometric(np.array([0.5, -0.5]), periods=2) == pytest.approx(-0.25 / (math.sqrt(0.5) * math.sqrt(2)))


def test_omega_is_gains_over_losses_and_kappa_takes_the_root_of_its_order():
    returns = np.array([0.03, -0.01, 0.02, -0.01, 0.03])

    assert omega(returns) == pytest.approx(4.0)
    assert kappa(returns, 1) == pytest.approx(0.012 / 0.004)
    assert kappa(returns, 3) == pytest.approx(0.012 / (2e-6 / 5) ** (1 / 3))
    assert upside_potential(returns) == pytest.approx(0.08 / 3 / 0.01)


def test_quantiles_are_linear_between_observations_and_the_shortfall_is_the_mean_beyond():
    returns = np.arange(-20, 21) / 1000  # the 5 % quantile of 41 is the third, the 95 % quantile the third from the end

    assert value_at_risk(returns) == pytest.approx(-0.018)
    assert expected_shortfall(returns) == pytest.approx(-0.019)
    assert tail_ratio(returns) == pytest.approx(1.0)
    assert value_at_risk(np.array([-0.02, 0.02]), 0.25) == pytest.approx(-0.01)


def test_the_normal_tail_is_at_the_mean_minus_1_64_deviations():
    returns = np.array([-0.01, 0.03])
    deviation = 0.02 * math.sqrt(2)

    assert value_at_risk_gaussian(returns) == pytest.approx(0.01 - 1.6448536269514722 * deviation)
    assert expected_shortfall_gaussian(returns) == pytest.approx(0.01 - 2.0627128075074257 * deviation)


def test_the_corrected_tail_is_the_normal_one_where_there_is_nothing_to_correct():
    mixed = np.array([-math.sqrt(3), 0, 0, 0, 0, math.sqrt(3)]) / 100  # skew 0, kurtosis 18 / 6 = 3
    z = -1.6448536269514722

    assert (skew(mixed), kurtosis(mixed)) == (pytest.approx(0, abs=1e-12), pytest.approx(0, abs=1e-12))
    assert value_at_risk_cornish_fisher(mixed, ddof=0) == pytest.approx(0.01 * z)
    assert expected_shortfall_cornish_fisher(mixed, ddof=0) == pytest.approx(expected_shortfall_gaussian(mixed, ddof=0))


def test_the_corrected_shortfall_is_the_mean_of_its_density_beyond_its_quantile():
    skewed, excess = skew(BACON), kurtosis(BACON)
    quantile = (value_at_risk_cornish_fisher(BACON, ddof=0) - BACON.mean()) / BACON.std()
    x = np.linspace(-12, quantile, 200_001)
    terms = 1 + skewed / 6 * (x**3 - 3 * x) + excess / 24 * (x**4 - 6 * x**2 + 3)
    terms += skewed**2 / 72 * (x**6 - 15 * x**4 + 45 * x**2 - 15)
    beyond = np.trapezoid(x * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * terms, x) / 0.05

    found = (expected_shortfall_cornish_fisher(BACON, ddof=0) - BACON.mean()) / BACON.std()

    assert found == pytest.approx(beyond, rel=1e-8)


def test_skew_and_kurtosis_of_one_in_four():
    returns = np.array([0.0, 0.0, 0.0, 0.04])  # 1/4 at 3 deviations of 0.01, 3/4 at -1, in units of √3 · 0.01

    assert skew(returns) == pytest.approx((27 - 3) / 4 / 3**1.5)
    assert kurtosis(returns) == pytest.approx((81 + 3) / 4 / 9 - 3)


def test_depths_under_water_are_averaged_by_session_and_by_drawdown():
    equity = np.array([100.0, 80.0, 100.0, 60.0, 60.0, 100.0])

    assert average_drawdown(equity) == pytest.approx(-0.3)
    assert pain(equity) == pytest.approx(0.2)
    assert ulcer(equity) == pytest.approx(math.sqrt((0.04 + 2 * 0.16) / 5))


def test_ratios_to_depths_are_of_the_growth_a_year():
    equity = np.array([100.0, 80.0, 121.0])

    assert pain_ratio(equity, 1) == pytest.approx(0.1 / 0.1)
    assert martin(equity, 1) == pytest.approx(0.1 / math.sqrt(0.02))


def test_calmar_of_a_window_forgets_what_was_before():
    assert calmar(np.array([100.0, 10.0, 100.0, 88.0, 121.0]), 1, window=2) == pytest.approx(0.1 / 0.12)


def test_losing_runs_add_up_unbroken_losses():
    runs = losing_runs(np.array([-0.01, 0.02, -0.02, -0.03, 0.0, -0.04]))

    assert runs == pytest.approx([-0.01, -0.05, -0.04], rel=1e-3)
    assert burke(np.array([0.1, -0.1, 0.1, -0.1]), 4) == pytest.approx((0.99**2 - 1) / math.sqrt(0.02), rel=1e-2)


def test_beta_and_alpha_of_twice_the_benchmark_and_a_bit():
    market = np.array([0.01, -0.02, 0.03, 0.0])

    assert beta(2 * market + 0.001, market) == pytest.approx(2.0)
    assert alpha(2 * market + 0.001, market, 0.0, 252) == pytest.approx(0.252)
    assert alpha(2 * market + 0.001, market, 1.0001**252 - 1, 252) == pytest.approx(0.252 + 0.0252)
    assert correlation(2 * market + 0.001, market) == pytest.approx(1.0)
    assert correlation(-market, market) == pytest.approx(-1.0)


def test_active_numbers_are_of_the_difference():
    returns, market = np.array([0.03, 0.01]), np.array([0.01, 0.01])

    assert tracking_error(returns, market, 4) == pytest.approx(math.sqrt(2) * 0.01 * 2)
    assert information_ratio(returns, market, 4) == pytest.approx(0.01 / (math.sqrt(2) * 0.01) * 2)
    assert active_premium(returns, market, 2) == pytest.approx(1.03 * 1.01 - 1.01**2)


def test_capture_is_of_the_days_on_which_the_benchmark_rose_or_fell():
    returns, market = np.array([0.01, 0.03, -0.03, 0.5]), np.array([0.02, 0.02, -0.02, 0.0])

    assert up_capture(returns, market) == pytest.approx((math.sqrt(1.01 * 1.03) - 1) / 0.02)
    assert down_capture(returns, market) == pytest.approx(1.5)


def test_the_active_drawdown_is_the_fall_behind_the_benchmark():
    assert active_drawdown(np.array([0.1, 0.0, 0.0]), np.array([0.0, 0.25, 0.0])) == pytest.approx(-0.2)


def test_treynor_and_m2_of_the_benchmark_itself_are_its_growth():
    assert treynor(BENCHMARK, BENCHMARK, 0.0, 12) == pytest.approx(cagr_of(BENCHMARK, 12))
    assert m2(BENCHMARK, BENCHMARK, 0.03, 12) - 0.03 == pytest.approx(cagr_of((1 + BENCHMARK) - 1.03 ** (1 / 12), 12))


def test_only_dates_that_both_have_are_compared():
    days, own, other = common_dates(MONTHS[:3], np.array([1.0, 2.0, 3.0]), MONTHS[1:4], np.array([4.0, 5.0, 6.0]))

    assert (days.tolist(), own.tolist(), other.tolist()) == (MONTHS[1:3].tolist(), [2, 3], [4, 5])
    with pytest.raises(ValueError, match="2 returns but 3 of the benchmark"):
        beta(np.zeros(2), np.zeros(3))


def test_payoff_is_the_mean_gain_over_the_mean_loss():
    net = np.array([30.0, -10.0, 20.0, 0.0])

    assert (average_win(net), average_loss(net), payoff(net)) == (25.0, -10.0, 2.5)


def test_a_streak_is_an_unbroken_row():
    assert longest_streak(np.array([True, False, True, True, True, False, True])) == 3
    assert longest_streak(np.array([False, False])) == longest_streak(np.array([], bool)) == 0


def test_excursions_are_the_worst_and_the_best_of_the_closes_while_held_and_the_exit():
    run = result_of([100.0] * 5, [fill(0, 1, 10.0), fill(3, -1, 11.0)], closes=[9.0, 13.0, 10.5, 50.0, 1.0])

    closes = [run.closes.to_numpy()[:, 0]]
    adverse, favourable = excursions(run.trades_table, run.record, run.spec.series, closes, closes)

    assert (adverse.tolist(), favourable.tolist()) == (pytest.approx([-0.1]), pytest.approx([0.3]))


def test_excursions_of_a_short_are_mirrored_and_highs_and_lows_say_more_than_closes():
    run = result_of([100.0] * 3, [fill(0, -1, 10.0), fill(2, 1, 9.0)])
    lows, highs = [np.array([8.0, 9.0, 0.0])], [np.array([10.0, 12.0, 99.0])]

    adverse, favourable = excursions(run.trades_table, run.record, run.spec.series, lows, highs)

    assert (adverse.tolist(), favourable.tolist()) == (pytest.approx([-0.2]), pytest.approx([0.2]))


def test_a_trade_within_a_bar_saw_its_two_prices_only():
    run = result_of([100.0] * 2, [fill(0, 1, 10.0), fill(0, -1, 9.0)])

    adverse, favourable = excursions(run.trades_table, run.record, run.spec.series, [np.zeros(2)], [np.full(2, 99.0)])

    assert (adverse.tolist(), favourable.tolist()) == (pytest.approx([-0.1]), [0.0])


def test_open_trades_are_the_latest_entries_that_no_exit_used_up():
    fills = [fill(0, 4, 10.0, 2.0), fill(1, 2, 12.0, 1.0), fill(2, -3, 11.0), fill(3, 1, 13.0)]

    rows = open_trades(
        (run := result_of([100.0] * 5, fills, closes=[10.0] * 4 + [20.0])).fills_table, run.record, run.spec.series
    ).to_pylist()

    assert [(row["size"], row["entry_price"], row["bars"]) for row in rows] == [(1, 10, 4), (2, 12, 3), (1, 13, 1)]
    assert [(row["gross"], row["costs"], row["last_price"]) for row in rows] == [(10, 0.5, 20), (16, 1, 20), (7, 0, 20)]


def test_a_reversal_leaves_what_is_over_of_it_open():
    run = result_of([100.0] * 3, [fill(0, 1, 10.0), fill(1, -3, 12.0)], closes=[10.0, 10.0, 11.0])

    (row,) = open_trades(run.fills_table, run.record, run.spec.series).to_pylist()

    assert (row["size"], row["entry_price"], row["gross"]) == (-2, 12, 2)


def test_nothing_is_open_after_the_last_fraction_is_sold():
    fills = [fill(0, 0.1, 10.0), fill(1, 0.2, 10.0), fill(2, -0.3, 10.0)]

    assert len(open_trades((run := result_of([100.0] * 3, fills)).fills_table, run.record, run.spec.series)) == 0


def test_a_share_of_mean_equity_goes_into_costs_a_year():
    assert cost_drag(3.0, np.full(5, 100.0), periods=2) == pytest.approx(0.015)


def test_a_drawdown_runs_from_its_last_session_at_the_peak_to_its_recovery():
    days = np.array([day(n) for n in (0, 1, 2, 7, 8)], "datetime64[D]")

    (found,) = drawdowns(days, np.array([100.0, 110.0, 110.0, 99.0, 88.0, 110.0]))

    assert (found.peak, found.trough, found.recovery) == (day(1), day(7), day(8))
    assert (found.sessions, found.days) == (3, 7)
    assert found.depth == pytest.approx(-0.2)


def test_a_drawdown_without_recovery_is_open_and_counted_to_the_end():
    days = np.array([day(n) for n in range(4)], "datetime64[D]")

    (found,) = drawdowns(days, np.array([100.0, 120.0, 90.0, 60.0, 90.0]))

    assert (found.peak, found.trough, found.recovery) == (day(0), day(2), None)
    assert (found.sessions, found.days, found.depth) == (3, 3, -0.5)


def test_a_loss_in_the_first_session_is_a_drawdown_from_the_initial_cash():
    days = np.array([day(0), day(1)], "datetime64[D]")

    (found,) = drawdowns(days, np.array([100.0, 80.0, 100.0]))

    assert (found.peak, found.trough, found.recovery, found.sessions) == (day(0), day(0), day(1), 2)


def test_the_deepest_drawdowns_come_first():
    days = np.array([day(n) for n in range(6)], "datetime64[D]")
    found = drawdowns(days, np.array([100.0, 90.0, 100.0, 70.0, 100.0, 80.0, 100.0]))

    assert [one.depth for one in deepest(found, 2)] == pytest.approx([-0.3, -0.2])


OF_RETURNS = [
    volatility, downside_deviation, sharpe, sharpe_geometric, sortino, kappa, omega, upside_potential, skew, kurtosis,
    value_at_risk_gaussian, expected_shortfall_gaussian, value_at_risk_cornish_fisher,
    expected_shortfall_cornish_fisher,
]  # fmt: skip
OF_ANY_RETURNS = [largest, smallest, tail_ratio, value_at_risk, expected_shortfall, cagr_of, burke]
OF_EQUITY = [
    total_return, cagr, max_drawdown, average_drawdown, calmar, ulcer, pain, pain_ratio, martin
]  # fmt: skip
OF_TWO = [
    beta, alpha, correlation, tracking_error, information_ratio, treynor, m2
]  # fmt: skip


@pytest.mark.parametrize("metric", OF_RETURNS)
@pytest.mark.parametrize("returns", [[], [0.01]])
def test_ratios_of_fewer_than_two_returns_are_not_defined(metric, returns):
    assert metric(np.array(returns)).reason == "too few"


@pytest.mark.parametrize("metric", OF_ANY_RETURNS)
def test_no_returns_have_no_metrics(metric):
    assert metric(np.array([])).reason == "too few"


@pytest.mark.parametrize("metric", OF_TWO)
@pytest.mark.parametrize("returns", [[], [0.01]])
def test_ratios_to_a_benchmark_of_fewer_than_two_returns_are_not_defined(metric, returns):
    assert metric(np.array(returns), np.array(returns)).reason == "too few"


@pytest.mark.parametrize("metric", [beta, alpha, correlation, treynor])
def test_a_benchmark_that_does_not_vary_explains_nothing(metric):
    assert metric(np.array([0.01, 0.02]), np.array([0.01, 0.01])).reason == "constant"


def test_returns_that_are_those_of_the_benchmark_have_no_information_ratio():
    assert information_ratio(BACON, BACON).reason == "constant"
    assert tracking_error(BACON, BACON) == active_premium(BACON, BACON) == active_drawdown(BACON, BACON) == 0


def test_a_benchmark_that_never_falls_has_no_down_capture():
    rising = np.array([0.01, 0.02])

    assert (down_capture(rising, rising).reason, up_capture(-rising, -rising).reason) == ("no loss", "no gain")
    assert active_drawdown(rising, np.array([0.1, -1.0])).reason == "ruined"


@pytest.mark.parametrize("metric", OF_EQUITY)
def test_equity_before_the_first_session_has_no_metrics(metric):
    assert metric(np.array([100.0])).reason == "too few"


def test_the_calendar_says_nothing_of_a_single_day():
    assert cagr_calendar(MONTHS[:1], np.array([100.0, 110.0])).reason == "too few"
    assert len(monthly_returns(MONTHS[:0], np.array([100.0]))[1]) == 0


@pytest.mark.parametrize("metric", [skew, kurtosis, sharpe_geometric, value_at_risk_gaussian])
def test_returns_that_do_not_vary_have_no_shape(metric):
    assert metric(np.full(10, 0.01)).reason == "constant"


@pytest.mark.parametrize("metric", [sortino, kappa, omega, upside_potential, burke])
def test_returns_without_a_loss_have_no_ratio_to_losses(metric):
    assert metric(np.array([0.01, 0.02])).reason == "no loss"


@pytest.mark.parametrize("metric", [calmar, martin, pain_ratio])
def test_equity_that_only_rises_has_no_ratio_to_drawdowns(metric):
    assert metric(np.array([100.0, 101.0, 103.0])).reason == "no drawdown"


def test_losses_alone_are_all_downside():
    losses = np.array([-0.01, -0.03, -0.02])

    assert (omega(losses), upside_potential(losses)) == (0, 0)
    assert sortino(losses) == pytest.approx(-0.02 / math.sqrt(0.0014 / 3) * math.sqrt(252))
    assert len(losing_runs(losses)) == len(drawdowns(MONTHS[:3], equity_of(losses))) == 1


def test_a_reason_survives_a_process_boundary():
    again = pickle.loads(pickle.dumps(Undefined("constant")))

    assert math.isnan(again)
    assert again.reason == "constant"


@pytest.mark.parametrize("rate", [0.0, 0.0001, 0.1])
def test_returns_that_do_not_vary_have_no_sharpe(rate):
    equity = 100 * (1 + rate) ** np.arange(500)

    assert math.isnan(sharpe(equity[1:] / equity[:-1] - 1))


def test_returns_without_a_loss_have_no_sortino_and_no_calmar():
    assert math.isnan(sortino(np.array([0.01, 0.02])))
    assert math.isnan(calmar(np.array([100.0, 101.0, 103.0])))


def test_equity_that_only_rises_has_a_drawdown_of_zero():
    assert max_drawdown(np.array([100.0, 101.0, 103.0])) == 0


OF_TRADES = [win_rate, profit_factor, payoff, average_win, average_loss, expectancy, sqn]


def test_no_round_trips_have_no_trade_metrics():
    assert all(metric(np.array([])).reason == "no trades" for metric in OF_TRADES)


def test_a_profit_factor_without_losses_is_not_defined_and_without_gains_zero():
    assert math.isnan(profit_factor(np.array([5.0])))
    assert profit_factor(np.array([-5.0, -1.0])) == 0


def test_equal_round_trips_have_no_system_quality():
    assert math.isnan(sqn(np.array([0.1, 0.1, 0.1])))


def test_ruin_is_a_return_of_minus_one():
    equity = np.array([100.0, 50.0, 0.0])

    assert (total_return(equity), cagr(equity), max_drawdown(equity), calmar(equity)) == (-1, -1, -1, -1)
    assert sharpe(np.array([-0.5, -1.0])) < 0


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -1.01])
@pytest.mark.parametrize("metric", [*OF_RETURNS, *OF_ANY_RETURNS[:-2], burke])
def test_an_impossible_return_is_refused_with_its_position(metric, wrong):
    with pytest.raises(ValueError, match="positions 1"):
        metric(np.array([0.01, wrong, 0.02]))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -1.0])
@pytest.mark.parametrize("metric", [*OF_EQUITY, underwater])
def test_impossible_equity_is_refused_with_its_position(metric, wrong):
    with pytest.raises(ValueError, match="positions 1"):
        metric(np.array([100.0, wrong, 100.0]))


@given(some_returns, st.floats(0.1, 1.9))
def test_sharpe_and_sortino_do_not_change_with_leverage(returns, leverage):
    for metric in (sharpe, sortino):
        # The mean of returns that cancel out is a rounding error of them, and so is their ratio.
        np.testing.assert_allclose(metric(returns * leverage), metric(returns), rtol=1e-6, atol=1e-12)


@given(some_returns, st.floats(0, 1))
def test_a_quantile_is_that_of_numpy_to_the_last_bit(returns, share):
    assert quantile(returns, share) == np.quantile(returns, share)


@given(percents, st.floats(0.1, 1.9))
def test_what_is_counted_in_returns_grows_with_leverage(returns, leverage):
    for metric in (volatility, downside_deviation, value_at_risk, expected_shortfall, value_at_risk_gaussian):
        # The deviation of equal returns is a rounding error of them, of a year here: 2e-16 * sqrt(252) each.
        np.testing.assert_allclose(metric(returns * leverage), leverage * metric(returns), rtol=1e-9, atol=1e-13)


@given(percents, st.floats(0.1, 1.9))
def test_ratios_of_gains_to_losses_do_not_change_with_leverage(returns, leverage):
    for metric in (omega, kappa, upside_potential, skew, kurtosis):
        np.testing.assert_allclose(metric(returns * leverage), metric(returns), rtol=1e-5, atol=1e-8)


@pytest.mark.slow
@given(percents, st.randoms())
def test_the_order_of_returns_does_not_matter_but_to_drawdowns(returns, random):
    shuffled = np.array(random.sample(list(returns), len(returns)))

    for metric in (volatility, sharpe, sortino, omega, skew, value_at_risk, expected_shortfall):
        np.testing.assert_allclose(metric(shuffled), metric(returns), rtol=1e-9, atol=1e-9)


@given(some_returns)
def test_pain_is_below_the_ulcer_index_and_that_below_the_maximum_drawdown(returns):
    equity = equity_of(returns)

    assert 0 <= pain(equity) <= ulcer(equity) * (1 + 1e-12) <= -max_drawdown(equity) * (1 + 1e-9)
    assert max_drawdown(equity) <= average_drawdown(equity) <= 0


@given(some_returns)
def test_months_and_years_compound_to_the_whole(returns):
    days = np.datetime64("2023-11-01") + 9 * np.arange(len(returns))

    for table in (monthly_returns, yearly_returns):
        np.testing.assert_allclose(np.prod(1 + table(days, equity_of(returns))[1]), np.prod(1 + returns))


@given(some_returns, st.floats(-2, 2))
def test_beta_is_linear_and_alpha_what_it_leaves(returns, slope):
    market = np.random.default_rng(len(returns)).normal(0, 0.01, len(returns))

    np.testing.assert_allclose(beta(returns / 4 + slope * market, market), beta(returns / 4, market) + slope, atol=1e-9)


@given(some_returns)
def test_sharpe_changes_its_sign_with_the_returns(returns):
    np.testing.assert_allclose(sharpe(-returns), -sharpe(returns))


@given(some_returns, st.floats(0.01, 1e6))
def test_metrics_of_equity_do_not_depend_on_the_currency(returns, factor):
    equity = equity_of(returns)

    for metric in (total_return, max_drawdown, cagr):
        np.testing.assert_allclose(metric(equity * factor), metric(equity), rtol=1e-9, atol=1e-12)


@given(some_returns)
def test_the_deepest_episode_is_the_maximum_drawdown_and_episodes_cover_what_is_under_water(returns):
    days, equity = np.arange(len(returns)).astype("datetime64[D]"), equity_of(returns)
    found = drawdowns(days, equity)

    assert min((one.depth for one in found), default=0) == max_drawdown(equity)
    assert sum(one.sessions - (one.recovery is not None) for one in found) == (underwater(equity) < 0).sum()


@given(st.lists(st.floats(-1e3, 1e3).filter(lambda x: abs(x) > 1e-3), min_size=2, max_size=30).map(np.array))
def test_trade_metrics_of_mirrored_trades_are_mirrored(net):
    assert win_rate(-net) == pytest.approx(1 - win_rate(net))
    assert expectancy(-net) == pytest.approx(-expectancy(net))
    np.testing.assert_allclose(profit_factor(net) * profit_factor(-net), 1 if 0 < win_rate(net) < 1 else math.nan)


# PerformanceAnalytics on `portfolio_bacon`; R's rates are of a month, so that they are given with one period a year.
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (total_return(equity_of(BACON)), 0.218105767220917),
        (cagr(equity_of(BACON), 12), 0.103678289729809),
        (volatility(BACON, 12), 0.137000158679692),
        (sharpe(BACON, 0.0, 12), 0.788320254814486),
        (sharpe_geometric(BACON, 0.0, 12), 0.756774960912347),
        (sharpe(BACON, np.full(24, 0.035 / 12), 12), 0.532846098161643),
        (max_drawdown(equity_of(BACON)), -0.144672955739218),
        (average_drawdown(equity_of(BACON)), -0.0434182389348045),
        (calmar(equity_of(BACON), 12), 0.716639051162374),
        (ulcer(equity_of(BACON)), 0.0611842872618962),
        (pain(equity_of(BACON)), 0.0399896906873046),
        (martin(equity_of(BACON), 12), 1.69452476067948),
        (pain_ratio(equity_of(BACON), 12), 2.59262544790635),
        (burke(BACON, 12), 0.744730872768091),
        (burke_modified(BACON, 12), 3.6484212679588),
        (downside_deviation(BACON, 0.005, 1), 0.0255367382412085),
        (downside_deviation(BACON[BACON < 0.005], 0.005, 1), 0.0377202622183115),  # R's "subset"
        (sortino(BACON, 0.0, 1), 0.392372028795065),
        (sortino(BACON, 0.005, 1), 0.156637075660087),
        (omega(BACON), 1.77978339350181),
        (kappa(BACON, 3, 0.005, 1), 0.119649789114166),
        (upside_potential(BACON, 0.005, 1), 0.866704147046915),
        (skew(BACON), -0.0825624552085681),
        (kurtosis(BACON), -0.567546205892125),
        # R's "sample" corrections, by their formulas
        (skew(BACON) * 24**2 / (23 * 22), -0.0939841387354451),
        (((24 + 1) * kurtosis(BACON) + 6) * 23 / (22 * 21), -0.407660321186086),
        (value_at_risk(BACON), -0.0592),
        (value_at_risk_gaussian(BACON, ddof=0), -0.0546818983364544),
        (value_at_risk_cornish_fisher(BACON, ddof=0), -0.056028994816641),
        (expected_shortfall(BACON), -0.063),
        (expected_shortfall_gaussian(BACON, ddof=0), -0.0708596696706958),
        (expected_shortfall_cornish_fisher(BACON, ddof=0), -0.068791103854392),
        (beta(BACON, BENCHMARK), 0.998850208622575),
        (alpha(BACON, BENCHMARK, 0.0, 1), -0.00103012084491836),
        (tracking_error(BACON, BENCHMARK, 12), 0.0336397151412227),
        (active_premium(BACON, BENCHMARK, 12), -0.014305100939515),
        # its information ratio is the geometric one
        (active_premium(BACON, BENCHMARK, 12) / tracking_error(BACON, BENCHMARK, 12), -0.425244413618273),
        (treynor(BACON, BENCHMARK, 0.0, 12), 0.103797635355939),
        (m2(BACON, BENCHMARK, 0.0, 12), 0.100619955331646),
    ],
)
def test_bacons_portfolio_has_the_values_of_performance_analytics(value, expected):
    assert value == pytest.approx(expected, rel=5e-14)  # fifteen digits are printed


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (burke(BACON, 12), "0.74"),
        (burke_modified(BACON, 12), "3.65"),
        (
            round(cagr(equity_of(BACON), 12), 3) / round(ulcer(equity_of(BACON)), 4),
            "1.70",
        ),  # Martin, of 10.4 over 6.12 %
        (downside_deviation(BACON, 0.005, 1), "0.0255"),
        (omega(BACON, 0.005, 1) - 1, "0.29"),  # the omega-Sharpe ratio
        (kappa(BACON, 2, 0.005, 1), "0.157"),
        (m2(BACON, BENCHMARK, 0.0, 12), "0.10062"),
    ],
)
def test_bacons_book_has_these_values(value, printed):
    decimals = len(printed.partition(".")[2])

    assert f"{value:.{decimals}f}" == printed


def test_bacons_appraisal_ratio_follows_from_beta():
    slope = beta(BACON, BENCHMARK)
    jensen = cagr_of(BACON, 12) - slope * cagr_of(BENCHMARK, 12)

    assert jensen / (np.std(BACON - slope * BENCHMARK) * math.sqrt(12)) == pytest.approx(-0.430, abs=5e-4)


def test_bacons_deepest_drawdown_begins_in_february_2001_and_is_open():
    worst = deepest(drawdowns(MONTHS, equity_of(BACON)), 1)[0]

    assert (worst.peak, worst.trough, worst.recovery) == (date(2001, 1, 1), date(2001, 6, 1), None)


def real_returns():
    """Return six real series: four stocks, and two of them mixed."""
    own = [sample_returns(symbol) for symbol in SAMPLES]
    return [*own, (own[0] + own[2]) / 2, own[2] * 1.5 - own[3] * 0.5]


def empyrical_pairs(returns, market):
    equity = equity_of(returns)
    return [
        (total_return(equity), empyrical.cum_returns_final(returns)),
        (cagr(equity), empyrical.cagr(returns)),
        (volatility(returns), empyrical.annual_volatility(returns)),
        (downside_deviation(returns), empyrical.downside_risk(returns)),
        (sharpe(returns), empyrical.sharpe_ratio(returns)),
        (sharpe(returns, 1.0001**252 - 1), empyrical.sharpe_ratio(returns, risk_free=0.0001)),
        (sortino(returns), empyrical.sortino_ratio(returns)),
        (max_drawdown(equity), empyrical.max_drawdown(returns)),
        (calmar(equity), empyrical.calmar_ratio(returns)),
        (omega(returns), empyrical.omega_ratio(returns)),
        (tail_ratio(returns), empyrical.tail_ratio(returns)),
        (value_at_risk(returns), empyrical.value_at_risk(returns)),
        (expected_shortfall(returns), empyrical.conditional_value_at_risk(returns)),
        (beta(returns, market), empyrical.beta(returns, market)),
        # compounded, as empyrical annualises it; alpha + 1 keeps the digits that alpha near 0 has lost in both
        ((1 + alpha(returns, market, 0.0, 1)) ** 252, 1 + empyrical.alpha(returns, market)),
    ]


@pytest.mark.parametrize("number", range(106))
def test_empyrical_agrees_on_real_and_random_returns(number):
    real = real_returns() if number < 6 else []
    returns = real[number] if real else random_returns(number)
    market = real[2] if real else random_returns(number + 1000)
    length = min(len(returns), len(market))

    for ours, theirs in empyrical_pairs(returns[-length:], market[-length:]):
        assert ours == pytest.approx(theirs, rel=1e-12)


def test_returns_of_sessions_begin_at_the_initial_cash_and_take_the_last_bar_of_each():
    result = result_of([105.0, 110.0, 120.0, 99.0], days=[day(0), day(0), day(1), day(1)])

    account = sample(result)

    assert account.days.tolist() == [day(0), day(1)]
    np.testing.assert_allclose(account.returns, [0.1, -0.1])


def test_an_account_that_is_ruined_stays_at_a_return_of_zero():
    account = sample(result_of([50.0, 0.0, 0.0]))

    assert account.returns.tolist() == [-0.5, -1.0, 0.0]


@pytest.mark.parametrize("wrong", [math.nan, -5.0])
def test_equity_that_has_no_return_is_refused_with_its_date(wrong):
    with pytest.raises(StrategyError, match="2024-01-02"):
        measure(result_of([100.0, wrong, 100.0]))


def test_measuring_a_run_by_hand():
    fills = [fill(0, 2, 10.0, 0.5), fill(2, -2, 16.0, 0.5)]

    quarters = [date(2023, 3, 31), date(2023, 6, 30), date(2023, 9, 29), date(2023, 12, 29)]
    stats = measure(result_of([99.5, 89.55, 111.0, 111.0], fills, days=quarters, sessions_a_year=4.0))

    assert stats["total_return"] == pytest.approx(0.11)
    assert stats["cagr"] == pytest.approx(0.11)
    assert stats["max_drawdown"] == pytest.approx(-0.1045)
    assert (stats["max_drawdown_sessions"], stats["max_drawdown_days"]) == (3, 91 + 91)
    assert (stats["exposure"], stats["trades"], stats["win_rate"]) == (0.5, 1, 1)
    assert (stats["expectancy"], stats["costs"]) == (11.0, 1.0)
    assert stats["turnover"] == pytest.approx((20 + 32) / 2 / np.mean([100, 99.5, 89.55, 111, 111]))


def test_an_open_position_is_no_trade_but_its_costs_are_paid():
    stats = measure(result_of([99.0, 99.0], [fill(0, 5, 10.0, 1.0)]))

    assert (stats["trades"], stats["costs"], stats["exposure"]) == (0, 1.0, 1.0)
    assert math.isnan(stats["win_rate"])


def test_stats_hold_every_metric_in_order_with_its_definition():
    stats = measure(result_of([101.0, 102.0]))

    assert list(stats) == list(METRICS) == list(stats.definitions)


def test_json_has_null_for_what_is_not_defined():
    stats = measure(result_of([101.0, 102.0]))

    assert json.loads(json.dumps(stats.to_dict(), allow_nan=False))["win_rate"] is None


def test_the_labels_of_a_frame_name_the_units_of_its_values():
    values = measure(result_of([101.0, 110.0])).to_frame()["value"]

    assert values["Total return [%]"] == pytest.approx(10.0)
    assert values["Costs [USD]"] == 0


def test_printed_stats_are_aligned_and_at_most_eighty_wide():
    lines = repr(measure(result_of([101.0, 110.0]))).splitlines()

    assert lines[0].split() == ["Total", "return", "10.00", "%"]
    assert len({len(line) for line in lines[: len(measure(result_of([101.0, 110.0])).headline)]}) == 1
    assert max(map(len, lines)) <= 80


def test_the_basis_says_what_the_numbers_rest_on():
    basis = measure(result_of([101.0], risk_free=0.02, costs="free")).basis

    assert "252 sessions per year" in basis
    assert "annual risk-free rate 2.00 %" in basis
    assert "costs free" in basis
    assert "less than a year, so growth is not annualised" in basis
    assert "1 session from " in basis


def test_html_shows_undefined_numbers_as_dashes_and_escapes():
    shown = measure(result_of([101.0], costs="<b>"))._repr_html_()

    assert "–" in shown
    assert "<b>" not in shown


def dated(values, since="2024-01-01"):
    return pd.Series(values, pd.date_range(since, periods=len(values), tz="UTC"))


def test_any_returns_can_be_measured():
    stats = measure_returns(dated(BACON), benchmark=dated(BENCHMARK), periods=12)

    assert stats["sharpe"] == pytest.approx(0.788320254814486)
    assert stats["beta"] == pytest.approx(0.998850208622575)
    assert "trades" not in stats
    assert "12 sessions per year" in repr(stats)


def test_a_missing_return_is_refused_with_its_date_unless_it_is_to_be_dropped():
    gap = dated([0.01, math.nan, 0.03])

    with pytest.raises(UsageError, match="2024-01-02"):
        measure_returns(gap)
    assert measure_returns(gap, nan="drop")["volatility"] == pytest.approx(volatility(np.array([0.01, 0.03])))
    with pytest.raises(UsageError, match="ignore"):
        measure_returns(gap, nan="ignore")


def test_a_date_that_the_benchmark_lacks_is_left_out():
    stats = measure_returns(dated([0.5, 0.01, 0.02, 0.03]), benchmark=dated([0.01, 0.03, 0.02], "2024-01-02"))

    assert stats["best_session"] == 0.03


def test_returns_out_of_order_are_refused():
    with pytest.raises(UsageError, match="dates of returns must increase"):
        measure_returns(dated([0.01, 0.02])[::-1])


def test_a_dated_risk_free_rate_is_matched_by_date_and_must_be_there_for_every_session():
    result = result_of([101.0, 104.03, 105.0])
    rates = dated([0.001, 0.5, 0.002, 0.003], "2023-12-31").iloc[[0, 2, 3]]

    with pytest.raises(UsageError, match="2024-01-01"):
        measure(result, rates)
    assert measure(result, dated([0.0, 0.0, 0.0]))["sharpe"] == measure(result)["sharpe"]
    assert measure(result, 0.02)["sharpe"] < measure(result)["sharpe"]
    assert "risk-free rate by date, annual mean 25.20 %" in measure(result, dated([0.001] * 3)).basis


def test_growth_a_year_is_not_given_of_less_than_a_year():
    stats = measure(result_of([101.0, 90.0, 102.0]))

    for name in ("cagr", "cagr_calendar", "calmar", "martin", "treynor", "m2"):
        assert stats.reasons[name] == "under a year"
    assert stats.to_dict()["cagr"] is None


def test_cornish_and_fishers_shortfall_is_not_defined_where_their_quantiles_do_not_rise():
    # Nothing in 98 of 100 sessions, and ±10 % in the two others: S = 0, K = 47. By them the derivative of the quantile
    # in z, 1 + (3·z² - 3)·K / 24, is 1 - 47 / 8 at z = 0, below 0.
    rough = np.array([0.1, -0.1, *[0.0] * 98])

    assert kurtosis(rough) == pytest.approx(47)
    assert expected_shortfall_cornish_fisher(rough).reason == "no expansion"
    assert value_at_risk_cornish_fisher(rough) < 0


def test_cornish_and_fishers_shortfall_is_never_less_of_a_loss_than_their_value_at_risk():
    random, undefined = np.random.default_rng(6), []
    for n in range(400):
        returns = random.standard_t(2 + n % 8, 250) / 100 + 0.02 * (random.random(250) < 0.01 * (n % 10))
        shortfall = expected_shortfall_cornish_fisher(returns)
        if shortfall == shortfall:
            assert shortfall <= value_at_risk_cornish_fisher(returns)
        else:
            undefined.append(shortfall.reason)

    assert 20 < len(undefined) < 380
    assert set(undefined) <= {"no expansion", "less than the value at risk"}


@pytest.mark.parametrize("name", ["calmar", "martin", "pain_ratio"])
def test_what_rounding_took_away_is_no_fall(name):
    equity = np.linspace(100.0, 130.0, 300)
    equity[150] = np.nextafter(equity[149], 0)  # a fall of 1e-16

    stats = measure(result_of(equity.tolist(), days=np.busday_offset("2024-01-01", np.arange(300)).tolist()))

    assert stats.reasons[name] == "no drawdown"


MONTHLY = [0.01, -0.02, 0.03] * 8


@pytest.mark.parametrize(
    "returns",
    [
        pd.Series(MONTHLY, pd.date_range("2020-01-31", periods=24, freq="ME")),
        pd.Series(MONTHLY, pd.period_range("2020-01", periods=24, freq="M")),
        pd.DataFrame({"fund": MONTHLY}, pd.period_range("2020-01", periods=24, freq="M")),
    ],
)
def test_the_calendar_of_returns_begins_a_period_before_the_first(returns):
    stats = measure_returns(returns, periods=12)

    years = 700 / 365.25 + 1 / 12  # from 31 January 2020 to 31 December 2021, and that January
    assert stats["cagr_calendar"] == pytest.approx((1.01 * 0.98 * 1.03) ** (8 / years) - 1, rel=1e-12)
    assert stats["cagr_calendar"] == pytest.approx(stats["cagr"], rel=0.005)
    assert "from 2020-01-31 to 2021-12-31" in stats.basis


@pytest.mark.parametrize(
    ("returns", "told"),
    [
        (MONTHLY, "write a pandas Series of numbers with the dates of its sessions as index"),
        (pd.DataFrame({"a": MONTHLY, "b": MONTHLY}), r"2 columns \(a, b\); write one: frame\[NAME\]"),
    ],
)
def test_what_are_no_returns_is_told_what_to_write(returns, told):
    with pytest.raises(UsageError, match=told):
        measure_returns(returns)


HOLIDAYS_OF_2001 = ((1, 15), (2, 19), (4, 13), (5, 28), (7, 4), (9, 3), (11, 22), (12, 25))


def test_a_year_that_has_few_sessions_is_a_year():
    weekdays = [one.date() for one in pd.bdate_range("2001-01-02", "2001-12-31")]
    shut = {date(2001, 9, n) for n in (11, 12, 13, 14)} | {date(2001, month, n) for month, n in HOLIDAYS_OF_2001}
    sessions = [one for one in weekdays if one not in shut]

    assert len(sessions) == 248
    stats = measure(result_of(np.linspace(100, 110, 248).tolist(), days=sessions))

    assert stats["cagr"] == pytest.approx(1.1 ** (252 / 248) - 1)


def test_a_year_is_told_by_dates_whatever_the_count_of_bars():
    apart = [date(2020, 1, 1) + timedelta(days=9 * n) for n in range(60)]  # a stock that seldom trades
    close = [date(2020, 1, 1) + timedelta(days=n) for n in range(300)]  # bars of weekends, too

    assert measure(result_of(np.linspace(100, 110, 60).tolist(), days=apart))["cagr"] > 0
    assert measure(result_of(np.linspace(100, 110, 300).tolist(), days=close)).reasons["cagr"] == "under a year"


def test_the_calendars_growth_is_in_the_short_table_only_where_it_differs():
    rising = np.linspace(100, 110, 400).tolist()  # 400 sessions on 400 days

    assert "cagr_calendar" in measure(result_of(rising)).headline
    assert "cagr_calendar" not in measure(result_of(rising, sessions_a_year=365.25)).headline


def test_every_undefined_number_has_a_reason_and_no_other():
    stats = measure(result_of([100.0, 100.0]))

    assert stats.reasons.keys() == {name for name, value in stats.items() if math.isnan(value)}
    assert (stats.reasons["sharpe"], stats.reasons["win_rate"]) == ("constant", "no trades")
    assert "undefined" not in stats.reasons.values()


def test_the_benchmark_of_a_run_is_what_its_series_did():
    stats = measure(result_of([101.0, 99.0, 104.0], closes=[10.0, 9.8, 10.3]))
    market = np.array([0.0, -0.02, 10.3 / 9.8 - 1])

    assert stats["beta"] == pytest.approx(beta(np.array([0.01, 99 / 101 - 1, 104 / 99 - 1]), market))


def test_prices_below_zero_are_no_benchmark():
    assert measure(result_of([101.0, 99.0], closes=[10.0, -3.0])).reasons["beta"] == "no benchmark"


def test_metrics_have_groups_and_unique_labels():
    assert {metric.group for metric in METRICS.values()} == set(GROUPS)
    assert len({metric.label for metric in METRICS.values()}) == len(METRICS)


def test_trades_of_a_run_have_their_numbers():
    fills = [fill(0, 2, 10.0, 0.5), fill(1, -2, 16.0, 0.5), fill(2, 1, 10.0), fill(3, -1, 8.0), fill(3, 5, 1.0)]

    stats = measure(result_of([100.0, 111.0, 111.0, 109.0], fills, closes=[12.0, 16.0, 11.0, 8.0]))

    assert (stats["trades"], stats["open_trades"], stats["winning_streak"], stats["losing_streak"]) == (2, 1, 1, 1)
    assert (stats["payoff"], stats["best_trade"], stats["worst_trade"], stats["bars_held"]) == (5.5, 11, -2, 1)
    assert stats["expectancy_return"] == pytest.approx((11 / 20 - 2 / 10) / 2)
    assert stats["adverse_excursion"] == pytest.approx((0 - 0.2) / 2)
    assert stats["favourable_excursion"] == pytest.approx((0.6 + 0.1) / 2)
    assert stats["cost_drag"] == pytest.approx(1 / np.mean([100, 100, 111, 111, 109]) * 252 / 4)


def test_every_reason_is_explained():
    code = "".join(path.read_text() for path in Path(returns.__file__).parents[1].rglob("*.py"))

    assert set(re.findall(r'Undefined\("([^"]+)"', code)) | {"constant", "too few", "undefined"} <= REASONS.keys()
