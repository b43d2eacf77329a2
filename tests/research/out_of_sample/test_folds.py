from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.errors import UsageError
from backtest.research.out_of_sample.folds import group_sizes, paths, purged_folds, walk_forward_folds


def rows(folds):
    return [(fold.train.tolist(), fold.test.tolist()) for fold in folds]


def test_a_rolling_walk_forward_learns_from_the_last_rows():
    folds = walk_forward_folds(9, 4, 2)

    assert rows(folds) == [([0, 1, 2, 3], [4, 5]), ([2, 3, 4, 5], [6, 7]), ([4, 5, 6, 7], [8])]


def test_an_anchored_walk_forward_learns_from_all_rows_before():
    folds = walk_forward_folds(8, 4, 2, anchored=True)

    assert rows(folds) == [([0, 1, 2, 3], [4, 5]), ([0, 1, 2, 3, 4, 5], [6, 7])]


def test_a_purge_leaves_rows_between_learning_and_testing():
    assert rows(walk_forward_folds(8, 4, 2, purge=1)) == [([0, 1, 2, 3], [5, 6]), ([2, 3, 4, 5], [7])]


@given(st.integers(3, 200), st.integers(2, 60), st.integers(1, 30), st.integers(0, 5), st.booleans())
def test_a_walk_forward_tests_each_row_once_and_knows_none_of_them_before(count, train, test, purge, anchored):
    if train + purge >= count:
        with pytest.raises(UsageError, match="too few"):
            walk_forward_folds(count, train, test, anchored=anchored, purge=purge)
        return

    folds = walk_forward_folds(count, train, test, anchored=anchored, purge=purge)

    assert np.concatenate([fold.test for fold in folds]).tolist() == list(range(train + purge, count))
    assert all(fold.test[0] - fold.train[-1] == purge + 1 for fold in folds)
    assert all(len(fold.train) >= train and (np.diff(fold.train) == 1).all() for fold in folds)
    assert all((fold.train[0] == 0) if anchored else (len(fold.train) == train) for fold in folds)


def test_rows_near_a_test_are_not_learnt_from_and_more_so_after_it():
    (_, middle, last) = purged_folds([3, 3, 4], 1, purge=1, embargo=1)

    assert rows([middle, last]) == [([0, 1, 8, 9], [3, 4, 5]), ([0, 1, 2, 3, 4], [6, 7, 8, 9])]


@st.composite
def cross_validations(draw):
    groups = draw(st.integers(2, 7))
    sizes = draw(st.lists(st.integers(2, 12), min_size=groups, max_size=groups))
    return sizes, draw(st.integers(1, groups - 1)), draw(st.integers(0, 3)), draw(st.integers(0, 3))


@given(cross_validations())
def test_no_row_within_purge_and_embargo_of_a_test_is_learnt_from_and_all_others_are(asked):
    sizes, tested, purge, embargo = asked
    ends = np.cumsum([0, *sizes])
    expected = []
    for test in combinations(range(len(sizes)), tested):
        rows_tested = {row for group in test for row in range(ends[group], ends[group + 1])}
        near = {row + away for row in rows_tested for away in range(-purge, purge + embargo + 1)}
        expected.append(set(range(sum(sizes))) - near)
    if min(map(len, expected)) < 2:
        with pytest.raises(UsageError, match="leave nothing to train on"):
            purged_folds(*asked)
        return

    folds = purged_folds(*asked)

    assert [set(fold.train.tolist()) for fold in folds] == expected
    counts = np.bincount(np.concatenate([fold.test for fold in folds]))
    assert counts.tolist() == [comb(len(sizes) - 1, tested - 1)] * sum(sizes)
    assert [fold.groups for fold in folds] == list(combinations(range(len(sizes)), tested))


@given(st.integers(2, 8).flatmap(lambda groups: st.tuples(st.just(groups), st.integers(1, groups - 1))))
def test_paths_go_through_each_group_and_use_each_test_once(asked):
    groups, tested = asked
    folds = list(combinations(range(groups), tested))

    found = paths(groups, tested)

    assert len(found) == comb(groups, tested) * tested // groups
    used = [(fold, group) for path in found for group, fold in enumerate(path)]
    assert sorted(used) == sorted((number, group) for number, fold in enumerate(folds) for group in fold)


@given(st.integers(2, 500), st.integers(2, 20))
def test_groups_have_all_rows_and_about_equal_sizes(count, groups):
    if groups > count:
        with pytest.raises(UsageError, match="cannot be put into"):
            group_sizes(count, groups)
        return

    sizes = group_sizes(count, groups)

    assert sum(sizes) == count
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("asked", [([3, 3], 2, 0, 0), ([3, 3], 0, 0, 0), ([3, 3], 1, -1, 0), ([9] * 40, 20, 0, 0)])
def test_numbers_that_make_no_folds_are_refused(asked):
    with pytest.raises(UsageError, match="write N,K"):
        purged_folds(*asked)


def test_a_purge_that_leaves_nothing_is_refused():
    with pytest.raises(UsageError, match="leave nothing"):
        purged_folds([3, 3], 1, purge=3)
