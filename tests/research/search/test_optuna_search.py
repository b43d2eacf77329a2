import math

import pytest

from backtest.errors import UsageError
from backtest.research.search import grid as grids
from backtest.research.search.optuna_search import ROUND, guided_points

GRID = {"x": list(range(100)), "y": list(range(100))}


def height(point):
    """Return the height of a hill with its top, 0, at 70 and 20."""
    return -((point["x"] - 70) ** 2) - (point["y"] - 20) ** 2


def heights(points):
    return [height(point) for point in points]


@pytest.mark.slow
def test_proposals_climb_higher_than_random_points():
    guided = [max(heights(guided_points(GRID, None, 96, seed, heights))) for seed in range(5)]
    drawn = [max(heights(grids.points(GRID, None, 96, seed))) for seed in range(5)]

    assert sum(guided) > sum(drawn) / 2


def test_the_lowest_is_looked_for_where_that_is_the_best():
    found = guided_points(GRID, None, 96, 1, lambda points: [-one for one in heights(points)], lowest=True)

    assert max(heights(found)) > -100  # within ten of the top


def test_points_are_different_and_rated_in_rounds():
    rounds = []

    def rate(points):
        rounds.append(len(points))
        return heights(points)

    found = guided_points(GRID, None, 2 * ROUND + 1, 1, rate)

    assert rounds == [ROUND, ROUND, 1]
    assert len({repr(point) for point in found}) == 2 * ROUND + 1


@pytest.mark.slow
def test_a_small_grid_is_gone_through_and_no_more():
    found = guided_points({"kind": ["ema", "sma"], "fast": [1, 2]}, None, 20, 1, lambda points: [1.0] * len(points))

    assert sorted(map(repr, found)) == sorted(map(repr, grids.points({"kind": ["ema", "sma"], "fast": [1, 2]})))


def test_points_that_fail_are_no_end_of_it():
    found = guided_points(GRID, None, 40, 1, lambda points: [math.nan] * len(points))

    assert len(found) == 40


def test_a_condition_that_refuses_everything_is_told():
    with pytest.raises(UsageError, match="refuses every suggested point"):
        guided_points(GRID, lambda point: False, 2, 1, heights)
