import doctest
import math
from statistics import NormalDist

import ffn
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.metrics import benchmark, ratios, sharpe_tests
from backtest.metrics.benchmark import alpha_test, appraisal_ratio
from backtest.metrics.ratios import sharpe
from backtest.metrics.returns import kurtosis, long_run_variance, long_run_variance_of_sum, skew
from backtest.metrics.sharpe_tests import (
    Blocks,
    deflated_sharpe,
    expected_maximum,
    minimum_backtest_years,
    minimum_track_record,
    moments,
    overfitting,
    overfitting_of,
    probabilistic_sharpe,
    sharpe_autocorrelated,
    sharpe_error,
    sharpe_error_autocorrelated,
    sharpe_error_normal,
    sharpe_interval,
    sharpe_interval_autocorrelated,
    sharpe_scale,
)

some_returns = st.lists(st.floats(-0.5, 0.5), min_size=3, max_size=60, unique=True).map(np.array)


# Bailey and López de Prado (2012): a Sharpe ratio of 0.458 a month over two years; 134 months of two indices.
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (probabilistic_sharpe(0.458, 24), 0.981674919091077),
        (probabilistic_sharpe(0.458, 24, -2.448, 10.164 - 3), 0.913361083860933),
        (probabilistic_sharpe(1.585 / math.sqrt(12), 24, -2.448, 10.164 - 3), 0.913234306884860),
        (sharpe_error(0.7079, 134, -0.2250, 2.9570 - 3), 0.102760823080073),
        # PerformanceAnalytics' example
        (probabilistic_sharpe(2 / math.sqrt(12), 59, -0.72, 5.78 - 3, 1 / math.sqrt(12)), 0.948692519479404),
        # Bailey and López de Prado (2014): 2.5 a year over five years, the best of a hundred
        (expected_maximum(100), 2.53060289320168),
        (expected_maximum(100) * math.sqrt(0.5), 1.78940646627321),
        (expected_maximum(100) * math.sqrt(0.5 / 250), 0.113172001865132),
        (deflated_sharpe(2.5 / math.sqrt(250), 1250, -3, 10 - 3, 100, math.sqrt(0.5 / 250)), 0.900396834449390),
    ],
)
def test_published_inference_is_reproduced(value, expected):
    assert value == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (sharpe_error(0.8183, 134, -1.4455, 7.0497 - 3), "0.1550"),
        (minimum_track_record(0.7079, -0.2250, 2.9570 - 3) / 12, "0.7152"),
        (minimum_track_record(0.8183, -1.4455, 7.0497 - 3) / 12, "1.1593"),
        # PerformanceAnalytics' default, which takes the kurtosis for that of the normal distribution
        (probabilistic_sharpe(2 / math.sqrt(12), 59, -0.72, 0.0, 1 / math.sqrt(12)), "0.9597"),
        *[(sharpe_error_normal(ratio, 60), printed) for ratio, printed in
          [(0.5, "0.1369"), (1, "0.1581"), (2, "0.2236"), (3, "0.3028")]],
        *[(sharpe_error_normal(ratio, 12), printed) for ratio, printed in
          [(0.5, "0.3062"), (1, "0.3536"), (2, "0.5000")]],
        (sharpe_error_normal(1, 250), "0.0775"),
        *[(sharpe_scale(correlation ** np.arange(1, periods), periods), printed) for correlation, periods, printed in
          [(0.2, 12, "2.8788"), (0.0, 12, "3.4641"), (0.2, 250, "12.9207"), (-0.2, 12, "4.1708"), (0.5, 12, "2.1213"),
           (0.9, 12, "1.2070")]],
    ],
)  # fmt: skip
def test_printed_values_of_papers_are_reproduced(value, printed):
    assert f"{value:.4f}" == printed


@pytest.mark.parametrize("module", [benchmark, sharpe_tests, ratios])
def test_the_examples_in_the_docstrings_hold(module):
    found = doctest.testmod(module, optionflags=doctest.ELLIPSIS)

    assert found.failed == 0
    assert found.attempted >= 3


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_a_confidence_that_is_none_is_told_with_what_to_write(confidence):
    for call in (sharpe_interval, minimum_track_record):
        with pytest.raises(ValueError, match=r"write 0\.95 for 95 %"):
            call(0.1, 60, confidence=confidence)


def test_of_no_trial_there_is_no_best():
    with pytest.raises(ValueError, match="there are 0 trials"):
        expected_maximum(0)


def test_the_error_of_no_ratio_says_why():
    assert sharpe_error_normal(moments(np.zeros(5)).ratio, 5).reason == "constant"
    assert sharpe_error_normal(0.5, 0).reason == "too few"


def test_moments_are_those_of_one_session():
    returns = np.array([0.01, -0.02, 0.03, 0.0])

    found = moments(returns)

    assert found.ratio * math.sqrt(252) == pytest.approx(sharpe(returns))
    assert found[1:] == (4, skew(returns), kurtosis(returns))


def test_the_interval_is_the_error_times_the_normal_quantile_on_both_sides():
    low, high = sharpe_interval(0.1, 101, periods=4)

    error = math.sqrt((1 + 0.1**2 / 2) / 100)
    assert (low, high) == pytest.approx((2 * (0.1 - 1.959963984540054 * error), 2 * (0.1 + 1.959963984540054 * error)))


def test_a_ratio_without_error_has_no_probability_and_no_interval():
    constant = moments(np.array([0.01, 0.01, 0.01]))

    for value in (probabilistic_sharpe(*constant), *sharpe_interval(*constant), sharpe_error(*constant)):
        assert math.isnan(value)
        assert value.reason == "constant"
    assert sharpe_error(0.1, 1).reason == "too few"


def test_no_track_record_is_long_enough_below_the_threshold():
    assert minimum_track_record(0.1, threshold=0.1).reason == "below the threshold"
    assert minimum_backtest_years(10, 0.0).reason == "below the threshold"


def test_a_minimum_backtest_is_as_long_as_luck_takes_to_look_like_the_ratio():
    years = minimum_backtest_years(45, 1.0)

    assert expected_maximum(45) / math.sqrt(years) == pytest.approx(1.0)
    assert 4.5 < years < 5.5  # "no more than 45 variations on five years of data", by the authors


def test_one_trial_is_not_deflated():
    assert deflated_sharpe(0.1, 500, -1, 3, 1, math.nan) == probabilistic_sharpe(0.1, 500, -1, 3)


@given(some_returns)
def test_probability_is_mirrored_with_the_returns(returns):
    own, mirrored = moments(returns), moments(-returns)

    assert probabilistic_sharpe(*mirrored) == pytest.approx(1 - probabilistic_sharpe(*own), abs=1e-9, nan_ok=True)


@given(st.floats(0.01, 0.1), st.integers(10, 1000), st.floats(-1, 1), st.floats(0, 5))
def test_the_minimum_track_record_is_where_the_probability_reaches_its_confidence(ratio, size, skewed, excess):
    length = minimum_track_record(ratio, skewed, excess, confidence=probabilistic_sharpe(ratio, size, skewed, excess))

    assert length == pytest.approx(size, rel=1e-6)


def test_independent_returns_have_nearly_the_plain_ratio_and_trending_ones_less():
    noise = np.random.default_rng(3).normal(0.001, 0.01, 5000)
    trending = np.convolve(noise, [0.5, 0.5], "valid")

    assert sharpe_autocorrelated(noise) == pytest.approx(sharpe(noise), rel=0.1)
    assert sharpe_autocorrelated(trending) < 0.8 * sharpe(trending)


def test_the_winner_that_wins_everywhere_is_not_overfitted_and_the_one_that_flips_is():
    noise = np.random.default_rng(1).normal(0, 0.01, 80)
    always = np.column_stack([noise + 0.01, noise, noise - 0.01])
    sign = np.repeat([1, -1], 40)
    flips = np.column_stack([noise / 10 + 0.01 * sign, noise / 10 - 0.01 * sign])

    assert overfitting(always, 4) == 0
    assert overfitting(flips, 2) == 1


def test_equal_trials_are_as_likely_overfitted_as_their_rank_says():
    same = np.random.default_rng(2).normal(0, 0.01, 64)

    assert overfitting(np.column_stack([same, same, same]), 8) == 1  # the middle rank is not above the median


def test_a_trial_that_does_not_vary_leaves_overfitting_undefined():
    noise = np.random.default_rng(1).normal(0, 0.01, 64)

    assert overfitting(np.column_stack([noise, np.zeros(64)]), 8).reason == "constant"


def test_blocks_of_trials_that_are_cut_apart_have_the_same_probability():
    trials = np.random.default_rng(3).normal(0, 0.01, (333, 9))
    trials[:, 5] = trials[:, 0]  # which must tie, wherever each was cut

    apart = [one for part in np.split(trials, [1, 4, 5], axis=1) for one in Blocks.of_each(part)]

    together = Blocks.of_each(trials)
    assert [one.sums.tobytes() + one.squares.tobytes() for one in apart] == [
        one.sums.tobytes() + one.squares.tobytes() for one in together
    ]
    assert apart[5].sums.tobytes() == apart[0].sums.tobytes()
    assert overfitting_of(apart) == overfitting(trials)


def test_a_trial_that_stands_still_all_through_some_half_leaves_overfitting_undefined():
    noise = np.random.default_rng(1).normal(0, 0.01, (64, 2))
    noise[:32, 0] = 0.001  # four of eight blocks

    assert overfitting(noise, 8).reason == "constant"
    noise[0, 0] = 0.002
    assert 0 <= overfitting(noise, 8) <= 1


@pytest.mark.parametrize(("shape", "blocks"), [((10, 2), 16), ((64, 1), 8), ((64, 2), 7)])
def test_overfitting_of_too_little_is_refused(shape, blocks):
    with pytest.raises(ValueError, match="two trials"):
        overfitting(np.ones(shape), blocks)


@pytest.mark.parametrize("seed", range(10))
def test_ffn_has_the_same_probability_of_overfitting(seed):
    random = np.random.default_rng(seed)
    trials = random.normal(0.0003, 0.01, (random.integers(100, 400), random.integers(2, 15)))
    trials[:, -1] = trials[:, 0]  # a tie

    assert overfitting(trials, 8) == pytest.approx(
        ffn.calc_prob_backtest_overfitting(pd.DataFrame(trials), 8), abs=1e-12
    )


@pytest.mark.parametrize("seed", range(20))
def test_ffn_has_the_same_deflated_sharpe_ratio(seed):
    random = np.random.default_rng(seed)
    trials = random.standard_t(4, (random.integers(50, 2000), random.integers(2, 300))) / 100
    ratios = np.array([moments(returns).ratio for returns in trials.T])
    best = pd.Series(trials[:, ratios.argmax()])

    theirs = ffn.calc_deflated_sharpe_ratio(best, ratios, nperiods=252, annualized_trials=False)

    # Theirs is by the sample's corrected moments, which are handed to ours.
    ours = deflated_sharpe(ratios.max(), len(best), best.skew(), best.kurt(), len(ratios), ratios.std(ddof=1))
    assert ours == pytest.approx(theirs, rel=1e-12)


def test_ffn_expects_the_same_of_the_best_of_many():
    for trials in (1, 2, 10, 1000, 10**6):
        assert expected_maximum(trials) == pytest.approx(ffn.core.calc_expected_max_sharpe(trials, 1.0), rel=1e-12)


def autoregressive(coefficient, count, seed=0):
    values = np.random.default_rng(seed).normal(size=count)
    for n in range(1, count):
        values[n] += coefficient * values[n - 1]
    return values


@pytest.mark.parametrize("coefficient", [-0.3, 0.0, 0.3, 0.7])
def test_the_long_run_variance_of_an_autoregression_is_that_of_theory(coefficient):
    values = autoregressive(coefficient, 20_000)

    assert long_run_variance(values) == pytest.approx(1 / (1 - coefficient) ** 2, rel=0.06)


def test_the_long_run_variance_of_a_moving_average_takes_more_lags_than_one():
    noise = np.random.default_rng(0).normal(size=20_002)

    found = long_run_variance(noise[2:] + 0.8 * noise[1:-1] + 0.5 * noise[:-2])

    assert found == pytest.approx((1 + 0.8 + 0.5) ** 2, rel=0.06)


def test_what_does_not_vary_has_no_long_run_variance_and_scale_is_squared():
    values = autoregressive(0.3, 500)

    assert long_run_variance(np.full(50, 0.01)) == pytest.approx(0, abs=1e-30)
    assert long_run_variance(3 * values) == pytest.approx(9 * long_run_variance(values))


def test_what_a_sum_hides_counts_in_its_long_run_variance():
    noise, slow = np.random.default_rng(3).normal(size=20_000), 0.05 * autoregressive(0.95, 20_000)

    assert long_run_variance(noise + slow) < 1.5  # which a part of forty hides
    assert long_run_variance_of_sum(noise, slow) == pytest.approx(1 + 0.05**2 / (1 - 0.95) ** 2, rel=0.15)


def test_the_long_run_variance_of_a_sum_knows_that_its_parts_belong_together():
    values = autoregressive(0.3, 20_000)

    for factor in (2, -0.5):
        expected = pytest.approx((1 + factor) ** 2 * long_run_variance(values), rel=0.05)
        assert long_run_variance_of_sum(values, factor * values) == expected
    assert long_run_variance_of_sum(values, np.zeros(20_000)) == long_run_variance(values)


def test_rough_times_that_last_make_the_error_of_a_sharpe_ratio_larger():
    # A variance of 0.5 or 1.5 that stays the next session in 98 of 100 cases, so that what it is away from 1 falls by
    # 0.96: squares vary by 3·1.25 - 1, and each lag k adds 2·0.25·0.96^k.
    random, count, ratio = np.random.default_rng(5), 20_000, 0.5
    rough = (np.cumsum(random.random(count) < 0.02) + random.integers(2)) % 2
    returns = 0.01 * (ratio + np.sqrt(0.5 + rough) * random.normal(size=count))

    variance = sharpe_error_autocorrelated(returns) ** 2 * count

    of_squares = 3 * 1.25 - 1 + 2 * 0.25 * 0.96 / (1 - 0.96)
    assert variance == pytest.approx(1 + ratio**2 / 4 * of_squares, rel=0.1)
    assert sharpe_error(*moments(returns)) ** 2 * count < 1.25  # as if they changed each session


def test_the_error_of_a_sharpe_ratio_is_mertens_where_returns_are_independent_and_more_where_they_trend():
    independent = 0.0005 + 0.01 * np.random.default_rng(4).normal(size=20_000)
    trending = 0.0005 + 0.01 * autoregressive(0.3, 20_000)

    assert sharpe_error_autocorrelated(independent) == pytest.approx(sharpe_error(*moments(independent)), rel=0.03)
    longer = math.sqrt(1.3 / 0.7)  # the long-run variance over the variance is (1 + ρ) / (1 - ρ)
    assert sharpe_error_autocorrelated(trending) == pytest.approx(longer * sharpe_error(*moments(trending)), rel=0.03)
    low, high = sharpe_interval_autocorrelated(trending)
    assert (high - low) / 2 == pytest.approx(1.959964 * sharpe_error_autocorrelated(trending) * math.sqrt(252))


@pytest.mark.parametrize(("returns", "reason"), [([0.01], "too few"), ([0.01] * 9, "constant")])
def test_without_a_sharpe_ratio_there_is_no_error_of_it(returns, reason):
    assert sharpe_error_autocorrelated(np.array(returns)).reason == reason
    assert sharpe_interval_autocorrelated(np.array(returns))[0].reason == reason


MARKET, OWN = np.random.default_rng(9).normal(0.0004, 0.01, (2, 5000))


def test_alpha_and_beta_are_those_of_least_squares_and_t_is_theirs_where_returns_are_independent():
    returns = 0.0002 + 0.6 * MARKET + OWN
    design = np.column_stack([np.ones(5000), MARKET])
    (alpha, beta), (squares,), *_ = np.linalg.lstsq(design, returns)
    spread = math.sqrt(squares / 4998)
    error = spread * math.sqrt(np.linalg.inv(design.T @ design)[0, 0])

    found = alpha_test(returns, MARKET)

    assert found.alpha == pytest.approx(252 * alpha)
    assert found.beta == pytest.approx(beta)
    assert found.t == pytest.approx(alpha / error, rel=0.05)
    assert found.p == pytest.approx(1 - NormalDist().cdf(found.t))
    assert found.appraisal == appraisal_ratio(returns, MARKET) == pytest.approx(alpha / spread * math.sqrt(252))
    assert found.unexplained == pytest.approx(squares / 5000 / returns.var())


def test_against_cash_it_is_the_mean_above_the_risk_free_rate():
    found = alpha_test(OWN, None, risk_free=0.02)

    excess = OWN - (1.02 ** (1 / 252) - 1)
    assert (found.alpha, found.beta) == (pytest.approx(252 * excess.mean()), 0.0)
    assert found.appraisal == pytest.approx(excess.mean() / excess.std(ddof=1) * math.sqrt(252))


def test_leverage_of_the_market_is_no_alpha():
    found = alpha_test(1.5 * MARKET + 0.7 * OWN, MARKET)

    assert alpha_test(3.0 * MARKET + 0.7 * OWN, MARKET).t == pytest.approx(found.t)


@pytest.mark.parametrize(
    ("returns", "market", "reason"),
    [(OWN[:3], MARKET[:3], "too few"), (0.5 * MARKET, MARKET, "constant"), (OWN[:9], np.zeros(9), "constant")],
)
def test_what_nothing_is_left_of_is_not_tested(returns, market, reason):
    assert alpha_test(returns, market).t.reason == reason
