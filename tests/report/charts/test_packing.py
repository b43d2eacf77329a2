import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from unpacked import unpacked

from backtest.report.charts.packing import exactly, pack, rounded


def back(column):
    return unpacked(*pack({"one": column}))["one"]


def test_prices_come_back_as_the_very_same_numbers():
    prices = np.array([10.65, 10.64, 0.0001, 123456.78, -37.63])

    assert back(exactly(prices)).tolist() == prices.tolist()


@given(st.lists(st.floats(allow_infinity=False), max_size=30))
def test_any_number_comes_back_exactly_and_a_gap_as_a_gap(values):
    np.testing.assert_array_equal(back(exactly(np.array(values))), values)


@given(st.lists(st.integers(-(2**50), 2**50), min_size=1), st.integers(0, 8))
def test_any_decimal_comes_back_exactly(whole, digits):
    values = np.array(whole) / 10.0**digits

    assert back(exactly(values)).tolist() == values.tolist()


def test_money_keeps_its_cents_up_to_the_digits_that_a_float_has():
    assert back(rounded(np.array([1.004, 2.006, -0.555]), 2)).tolist() == [1.0, 2.01, -0.56]
    assert back(rounded(np.array([2e17, 1e17]), 2)).tolist() == [2e17, 1e17]


def test_what_has_no_digits_of_its_own_keeps_eight_of_the_greatest():
    assert back(rounded(np.array([math.pi * 1000, 1 / 3]))).tolist() == [3141.5927, 0.3333]


def test_nothing_and_only_gaps_come_back():
    assert back(exactly(np.array([]))).tolist() == []
    assert np.isnan(back(exactly(np.array([np.nan, np.inf])))).all()
    assert back(rounded(np.zeros(2))).tolist() == [0, 0]


def test_columns_of_other_lengths_follow_each_other():
    columns = unpacked(*pack({"a": exactly(np.array([1.5, np.nan, 2.5])), "b": exactly(np.array([1e300]))}))

    np.testing.assert_array_equal(columns["a"], [1.5, np.nan, 2.5])
    assert columns["b"].tolist() == [1e300]


def test_the_same_columns_give_the_same_text():
    assert pack({"a": exactly(np.arange(9.0))}) == pack({"a": exactly(np.arange(9.0))})


def test_a_daily_bar_takes_about_ten_bytes():
    walk = np.round(100 + np.cumsum(np.random.default_rng(1).normal(0, 0.5, (5_000, 4)), axis=0), 2)
    volumes = np.random.default_rng(2).integers(1, 10**6, 5_000)

    _, text = pack({**{str(n): exactly(walk[:, n]) for n in range(4)}, "volume": exactly(volumes)})

    assert len(text) < 16 * 5_000  # in base64, a third more
