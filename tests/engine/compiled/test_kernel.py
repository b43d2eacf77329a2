"""What numba makes of the same code is the same to the last bit."""

import importlib

import pytest
from compiled_check import backends_differ, named, set_up_of
from compiled_strategies_of_tests import Draws, Limits, feeds
from parity_markets import market, quick_rows

from backtest.engine.compiled.trials import run_trials

pytestmark = pytest.mark.slow  # a program takes seconds where none is kept from an earlier run


def assert_same(cls, params, make, set_up):
    outcomes, differing = backends_differ(cls, params, make, set_up)

    assert (outcomes.why_not, differing) == ("", [])
    assert len(outcomes.fills) > 10


def test_averages_that_cross():
    cls = importlib.import_module("strategies.sma_cross").SmaCross
    pairs = [{"fast": fast, "slow": slow} for fast in (2, 3, 5) for slow in (9, 20)]
    bars = market(3, 160, tick=0.01)

    assert_same(cls, pairs, lambda: named([quick_rows(bars)]), set_up_of("ib-fixed"))


def test_limits_that_are_cancelled_and_told():
    assert_same(Limits, [{}], feeds(1), set_up_of("percent"))


def test_what_python_itself_reckons_is_left_to_numpy():
    assert "Python" in run_trials(Draws, [{}], feeds(1)(), set_up_of("none"), backend="numba").why_not
