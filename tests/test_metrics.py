import json
import math
from datetime import date
from pathlib import Path

import empyrical
import numpy as np
import pytest
from handmade import day, fill, result_of
from hypothesis import given
from hypothesis import strategies as st

from backtest.bars import Series
from backtest.errors import StrategyError
from backtest.metrics import (
    METRICS,
    cagr,
    calmar,
    deepest,
    drawdowns,
    expectancy,
    exposure,
    max_drawdown,
    measure,
    profit_factor,
    session_returns,
    sharpe,
    sortino,
    sqn,
    total_return,
    turnover,
    underwater,
    volatility,
    win_rate,
)
from backtest.store import Store

# Bacon, Practical Portfolio Performance: the portfolio's 24 monthly returns from January 2000, in percent.
BACON = np.array(
    [0.3, 2.6, 1.1, -1.0, 1.5, 2.5, 1.6, 6.7, -1.4, 4.0, -0.5, 8.1,
     4.0, -3.7, -6.1, 1.7, -4.9, -2.2, 7.0, 5.8, -6.5, 2.4, -0.5, -0.9]
) / 100  # fmt: skip
MONTHS = np.arange("2000-01", "2002-01", dtype="datetime64[M]").astype("datetime64[D]")
SAMPLES = ("AAPL", "GOOG", "IBM", "MSFT")

some_returns = st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=60).map(np.array)


def equity_of(returns):
    return np.concatenate([[1.0], np.cumprod(1 + returns)])


def sample_returns(symbol):
    closes = (
        Store(Path(__file__).parents[1] / "data" / "sample").read(Series.parse(f"{symbol}/1day"))["close"].to_numpy()
    )
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


@pytest.mark.parametrize("metric", [volatility, sharpe, sortino])
@pytest.mark.parametrize("returns", [[], [0.01]])
def test_ratios_of_fewer_than_two_returns_are_not_defined(metric, returns):
    assert math.isnan(metric(np.array(returns)))


@pytest.mark.parametrize("metric", [total_return, cagr, max_drawdown, calmar])
def test_equity_before_the_first_session_has_no_metrics(metric):
    assert math.isnan(metric(np.array([100.0])))


@pytest.mark.parametrize("rate", [0.0, 0.0001, 0.1])
def test_returns_that_do_not_vary_have_no_sharpe(rate):
    equity = 100 * (1 + rate) ** np.arange(500)

    assert math.isnan(sharpe(equity[1:] / equity[:-1] - 1))


def test_returns_without_a_loss_have_no_sortino_and_no_calmar():
    assert math.isnan(sortino(np.array([0.01, 0.02])))
    assert math.isnan(calmar(np.array([100.0, 101.0, 103.0])))


def test_equity_that_only_rises_has_a_drawdown_of_zero():
    assert max_drawdown(np.array([100.0, 101.0, 103.0])) == 0


def test_no_round_trips_have_no_trade_metrics():
    assert all(math.isnan(metric(np.array([]))) for metric in (win_rate, profit_factor, expectancy, sqn))


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
@pytest.mark.parametrize("metric", [volatility, sharpe, sortino])
def test_an_impossible_return_is_refused_with_its_position(metric, wrong):
    with pytest.raises(ValueError, match="positions 1"):
        metric(np.array([0.01, wrong, 0.02]))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -1.0])
@pytest.mark.parametrize("metric", [total_return, cagr, max_drawdown, calmar, underwater])
def test_impossible_equity_is_refused_with_its_position(metric, wrong):
    with pytest.raises(ValueError, match="positions 1"):
        metric(np.array([100.0, wrong, 100.0]))


@given(some_returns, st.floats(0.1, 1.9))
def test_sharpe_and_sortino_do_not_change_with_leverage(returns, leverage):
    for metric in (sharpe, sortino):
        np.testing.assert_allclose(metric(returns * leverage), metric(returns), rtol=1e-6)


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


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (total_return(equity_of(BACON)), 0.218105767220917),
        (cagr(equity_of(BACON), 12), 0.103678289729809),
        (volatility(BACON, 12), 0.137000158679692),
        (sharpe(BACON, 0.0, 12), 0.788320254814486),
        (sharpe(BACON, (1 + 0.035 / 12) ** 12 - 1, 12), 0.532846098161643),
        (max_drawdown(equity_of(BACON)), -0.144672955739218),
        (calmar(equity_of(BACON), 12), 0.716639051162374),
        (sortino(BACON, 0.0, 12), 0.392372028795065 * math.sqrt(12)),
        (sortino(BACON, 1.005**12 - 1, 12), 0.156637075660087 * math.sqrt(12)),
    ],
)
def test_bacons_portfolio_has_the_values_of_performance_analytics(value, expected):
    assert value == pytest.approx(expected, rel=1e-12)


def test_bacons_deepest_drawdown_begins_in_february_2001_and_is_open():
    worst = deepest(drawdowns(MONTHS, equity_of(BACON)), 1)[0]

    assert (worst.peak, worst.trough, worst.recovery) == (date(2001, 1, 1), date(2001, 6, 1), None)


@pytest.mark.parametrize("returns", [*map(sample_returns, SAMPLES), *map(random_returns, range(4))])
def test_empyrical_agrees(returns):
    equity = equity_of(returns)
    pairs = [
        (total_return(equity), empyrical.cum_returns_final(returns)),
        (cagr(equity), empyrical.cagr(returns)),
        (volatility(returns), empyrical.annual_volatility(returns)),
        (sharpe(returns), empyrical.sharpe_ratio(returns)),
        (sharpe(returns, 1.0001**252 - 1), empyrical.sharpe_ratio(returns, risk_free=0.0001)),
        (sortino(returns), empyrical.sortino_ratio(returns)),
        (max_drawdown(equity), empyrical.max_drawdown(returns)),
        (calmar(equity), empyrical.calmar_ratio(returns)),
    ]

    for ours, theirs in pairs:
        assert ours == pytest.approx(theirs, rel=1e-12)


def test_returns_of_sessions_begin_at_the_initial_cash_and_take_the_last_bar_of_each():
    result = result_of([105.0, 110.0, 120.0, 99.0], days=[day(0), day(0), day(1), day(1)])

    days, returns = session_returns(result)

    assert days.tolist() == [day(0), day(1)]
    np.testing.assert_allclose(returns, [0.1, -0.1])


def test_an_account_that_is_ruined_stays_at_a_return_of_zero():
    _, returns = session_returns(result_of([50.0, 0.0, 0.0]))

    assert returns.tolist() == [-0.5, -1.0, 0.0]


@pytest.mark.parametrize("wrong", [math.nan, -5.0])
def test_equity_that_has_no_return_is_refused_with_its_date(wrong):
    with pytest.raises(StrategyError, match="2024-01-02"):
        measure(result_of([100.0, wrong, 100.0]))


def test_measuring_a_run_by_hand():
    fills = [fill(0, 2, 10.0, 0.5), fill(2, -2, 16.0, 0.5)]

    stats = measure(result_of([99.5, 89.55, 111.0, 111.0], fills, sessions_a_year=4.0))

    assert stats["total_return"] == pytest.approx(0.11)
    assert stats["cagr"] == pytest.approx(0.11)
    assert stats["max_drawdown"] == pytest.approx(-0.1045)
    assert (stats["max_drawdown_sessions"], stats["max_drawdown_days"]) == (3, 2)
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


def test_the_labels_of_a_series_name_the_units_of_its_values():
    series = measure(result_of([101.0, 110.0])).to_series()

    assert series["Total return [%]"] == pytest.approx(10.0)
    assert series["Costs [USD]"] == 0


def test_printed_stats_are_aligned_and_at_most_eighty_wide():
    lines = repr(measure(result_of([101.0, 110.0]))).splitlines()

    assert lines[0].split() == ["Total", "return", "10.00", "%"]
    assert len({len(line) for line in lines[: len(METRICS)]}) == 1
    assert max(map(len, lines)) <= 80


def test_the_basis_says_what_the_numbers_rest_on():
    basis = measure(result_of([101.0], risk_free=0.02, costs="free")).basis

    assert "252 sessions a year" in basis
    assert "risk-free rate 2.00 % a year" in basis
    assert "costs free" in basis
    assert "under a year" in basis


def test_html_shows_undefined_numbers_as_dashes_and_escapes():
    shown = measure(result_of([101.0], costs="<b>"))._repr_html_()

    assert "–" in shown
    assert "<b>" not in shown
