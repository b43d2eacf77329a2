import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.errors import UsageError
from backtest.research.search.grid import condition_of, grid_of, points


def test_a_range_ends_at_its_last_value_and_steps_are_decimal():
    grid = grid_of(["fast=5:20:5", "share=0.1:0.3:0.1", "days=1:3", "odd=1:8:3"])

    assert grid == {"fast": [5, 10, 15, 20], "share": [0.1, 0.2, 0.3], "days": [1, 2, 3], "odd": [1, 4, 7]}


def test_values_are_read_as_numbers_truths_and_words():
    assert grid_of(["kind=ema,2,0.5,true"]) == {"kind": ["ema", 2, 0.5, True]}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("fast", "not a valid range"),
        ("fast=", "not a valid range"),
        ("fast=a:b", "not a valid range of numbers"),
        ("fast=1:2:3:4", "not a valid range of numbers"),
        ("fast=9:1:1", "holds no value"),
        ("fast=1:9:0", "holds no value"),
        ("fast=1:nan:1", "holds no value"),
        ("fast=0:9:0.000001", "more than"),
    ],
)
def test_what_is_no_range_is_refused_in_words(word, said):
    with pytest.raises(UsageError, match=said):
        grid_of([word])


def test_a_parameter_is_named_once_and_has_each_value_once():
    with pytest.raises(UsageError, match="twice"):
        grid_of(["fast=1", "fast=2"])
    with pytest.raises(UsageError, match="twice"):
        points({"fast": [1, 2, 1]})


def test_points_are_in_the_order_of_nested_loops():
    assert points({"a": [1, 2], "b": [3, 4]}) == [
        {"a": 1, "b": 3},
        {"a": 1, "b": 4},
        {"a": 2, "b": 3},
        {"a": 2, "b": 4},
    ]


def test_a_condition_leaves_out_points():
    where = condition_of(["a<b", "b>=4"])

    assert points({"a": [1, 4], "b": [3, 4, 5]}, where) == [{"a": 1, "b": 4}, {"a": 1, "b": 5}, {"a": 4, "b": 5}]


@pytest.mark.parametrize("word", ["a", "a<", "a<<b", "a=b", "__import__('os')<1"])
def test_what_is_no_comparison_is_refused(word):
    with pytest.raises(UsageError, match="not a valid comparison"):
        condition_of([word])


def test_a_condition_on_a_name_that_is_not_in_the_grid_is_refused():
    with pytest.raises(UsageError, match="'c', which is not in the grid; choose from a, b"):
        points({"a": [1], "b": [2]}, condition_of(["a<c"]))


def test_nothing_to_try_is_refused():
    with pytest.raises(UsageError, match="no values"):
        points({})
    with pytest.raises(UsageError, match="no values of a"):
        points({"a": []})
    with pytest.raises(UsageError, match="none of the 2 points"):
        points({"a": [1, 2]}, lambda point: point["a"] > 2)
    with pytest.raises(UsageError, match="4,000,000 points"):
        points({"a": range(2000), "b": range(2000)})


@given(st.integers(1, 40), st.integers(0, 5))
def test_random_points_differ_from_each_other_and_come_again_with_their_seed(draws, seed):
    grid = {"a": range(6), "b": range(5)}

    drawn = points(grid, lambda point: point["a"] != point["b"], draws, seed)

    assert drawn == points(grid, lambda point: point["a"] != point["b"], draws, seed)
    assert len({(point["a"], point["b"]) for point in drawn}) == len(drawn) == min(draws, 25)
    assert all(point["a"] != point["b"] for point in drawn)


def test_a_few_points_can_be_drawn_from_a_grid_that_is_too_large_to_go_through():
    drawn = points({"a": range(10**4), "b": range(10**4)}, None, 3, 1)

    assert len(drawn) == 3
    assert drawn != points({"a": range(10**4), "b": range(10**4)}, None, 3, 2)
