import math

import numpy as np
import pytest
from handmade import result_of
from hypothesis import given
from hypothesis import strategies as st

from backtest.errors import UsageError
from backtest.validity.regimes import regimes, rising, turbulent


def test_a_session_is_bull_where_the_close_before_was_at_or_above_its_mean():
    above, known = rising(np.array([10.0, 11.0, 12.0, 9.0, 8.0, 8.0, 99.0]), 2)

    # Means before: 10.5 (11 is above), 11.5 (12), 10.5 (9 is below), 8.5 (8), 8 (8 is at it)
    assert known.tolist() == [False, False, True, True, True, True, True]
    assert above[2:].tolist() == [True, True, False, False, True]


def test_a_session_is_rough_where_the_moves_before_deviate_more_than_the_median_so_far():
    above, known = turbulent(np.array([0.0, 1.0, 3.0, 3.0, 9.0, 9.0]), 2)

    # Two moves deviate by their distance over the root of 2. The distances: 1, 2, 0, 6 and, too late to be used, 0.
    # Their medians so far: 1, 1.5, 1, 1.5; of the first there is nothing to compare it with.
    assert known.tolist() == [False, False, False, True, True, True]
    assert above[3:].tolist() == [True, False, True]


def test_each_regime_has_its_sessions_one_after_another():
    equity = [101.0, 102.0, 104.0, 103.0, 100.0, 105.0]
    found = regimes(result_of(equity, closes=[10.0, 11.0, 12.0, 9.0, 8.0, 10.0]), trend=2, rough=2)

    assert (found["all"].sessions, found["bull"].sessions, found["bear"].sessions) == (6, 2, 2)
    assert found["bull"].total_return == pytest.approx(103 / 102 - 1)  # the third and the fourth session
    assert found["bear"].total_return == pytest.approx(105 / 103 - 1)
    assert found["bear"].max_drawdown == pytest.approx(100 / 103 - 1)
    assert found["bear"].market == pytest.approx(10 / 9 - 1)
    assert found["bull"].share == pytest.approx(2 / 6)
    assert found["unclassified"].sessions == 2
    assert found.basis.endswith(  # the mean of 2 closes is known after 2 sessions, a median of deviations after 3
        "The first 2 sessions are neither bull nor bear, and the first 3 neither high nor low volatility."
    )


@pytest.mark.slow
@given(st.lists(st.floats(-0.2, 0.25), min_size=30, max_size=60), st.integers(2, 9), st.integers(2, 9))
def test_regimes_share_out_all_sessions_and_are_known_before_them(moves, trend, rough):
    moves = np.array(moves)
    closes = 100 * np.cumprod(1 + moves)

    (bull, known), (high, told) = rising(closes, trend), turbulent(moves, rough)

    for last in (trend + 1, len(moves) - 1):
        other = np.concatenate([moves[:last], moves[last:] * -0.5 + 0.01])
        assert (rising(100 * np.cumprod(1 + other), trend)[0][: last + 1] == bull[: last + 1]).all()
    for last in (rough + 1, len(moves) - 1):
        other = np.concatenate([moves[:last], moves[last:] * -0.5 + 0.01])
        assert (turbulent(other, rough)[0][: last + 1] == high[: last + 1]).all()
    assert not bull[~known].any()
    assert (known.sum(), told.sum()) == (len(moves) - trend, len(moves) - rough - 1)


def test_the_returns_of_both_sides_make_the_whole():
    random = np.random.default_rng(1)
    closes = (100 * np.cumprod(1 + random.normal(0, 0.02, 400))).tolist()
    found = regimes(result_of(closes, closes=closes, cash=closes[0]), trend=20, rough=20)

    sides = [found[name].total_return for name in ("high volatility", "low volatility")]
    early = closes[20] / closes[0] - 1
    assert math.prod(1 + one for one in sides) * (1 + early) == pytest.approx(closes[-1] / closes[0])
    assert [row.total_return for row in found.rows] == pytest.approx([row.market for row in found.rows])


def test_a_run_too_short_for_a_trend_has_no_numbers_of_it():
    found = regimes(result_of([101.0, 102.0, 103.0]))

    assert found["bull"].sessions == 0
    assert found.to_dict()["regimes"]["bull"]["total_return"] is None
    assert "bull" in repr(found)


def test_a_trend_of_one_session_is_refused():
    with pytest.raises(UsageError, match="name 2 or more"):
        regimes(result_of([101.0, 102.0]), trend=1)
