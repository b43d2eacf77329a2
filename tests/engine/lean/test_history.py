"""Values that change at few steps, as arrays of all steps or of a part of them."""

import numpy as np
import pytest

from backtest.engine.lean.history import _Steps

CHANGES = [(0, 0.0), (2, 5.0), (2, 7.0), (5, -1.0), (9, 3.0)]  # the last of a step counts; and one after the end
VALUES = [0.0, 0.0, 7.0, 7.0, 7.0, -1.0, -1.0, -1.0]


@pytest.mark.parametrize("start", range(8))
def test_a_part_of_the_steps_has_the_values_that_all_steps_have_there(start):
    steps = _Steps.of(CHANGES, 8)

    parts = {stop: steps.of_part(slice(start, stop)).tolist() for stop in range(start + 1, 9)}

    assert parts == {stop: VALUES[start:stop] for stop in parts}
    assert steps.until(8).tolist() == VALUES


def test_what_never_changes_from_zero_is_zero_at_each_step():
    np.testing.assert_array_equal(_Steps.of([(0, 0), (3, 0.0)], 4).until(4), np.zeros(4))


def test_no_step_has_no_value():
    assert _Steps.of([(0, 100.0)], 0).until(0).tolist() == []
