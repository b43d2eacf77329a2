"""What numba makes of the same code is the same to the last bit."""

import backtrader as bt
import pytest
from compiled_check import backends_differ, named, set_up_of
from compiled_strategies_of_tests import Crosses, Draws, Limits, feeds
from parity_markets import market, quick_rows
from places import ROOT

from backtest.engine.code.strategy import load_strategy
from backtest.engine.compiled.refusals import TooMany
from backtest.engine.compiled.trials import Parts, run_trials

pytestmark = pytest.mark.slow  # a program takes seconds where none is kept from an earlier run


def assert_same(cls, params, make, set_up):
    outcomes, differing = backends_differ(cls, params, make, set_up)

    assert (outcomes.why_not, differing) == ("", [])
    assert len(outcomes.fills) > 10


@pytest.mark.soak  # those of a sweep are tested with it
def test_averages_that_cross():
    cls = load_strategy(str(ROOT / "strategies" / "sma_cross.py")).cls
    pairs = [{"fast": fast, "slow": slow} for fast in (2, 3, 5) for slow in (9, 20)]
    bars = market(3, 160, tick=0.01)

    assert_same(cls, pairs, lambda: named([quick_rows(bars)]), set_up_of("ib-fixed"))


def test_operations_that_are_computed_where_they_are_read():
    # There is room for 20 lines: for 15 of averages and of what they are made of, not for 24 operations more.
    found, pairs = [], [{"fast": fast, "slow": slow} for fast in (2, 3, 4, 5) for slow in (7, 9, 20)]
    parts = Parts(5, 8 * 90 * 20, lambda outcomes, numbers: found.append(len(outcomes.fills)))

    assert_same(Crosses, pairs, feeds(1), set_up_of("ib-fixed"))
    with pytest.raises(TooMany):
        run_trials(Crosses, pairs, feeds(1)(), set_up_of("ib-fixed"), parts=parts)
    run_trials(Crosses, pairs, feeds(1)(), set_up_of("ib-fixed"), backend="numba", parts=parts)

    assert sum(found) > 50


@pytest.mark.soak
def test_operations_of_several_kinds_in_one_place_are_computed_beforehand():
    assert_same(Crosses, [{"up": True}, {"up": False}, {"up": True, "slow": 9}], feeds(1), set_up_of("none"))


def test_limits_that_are_cancelled_and_told():
    assert_same(Limits, [{}], feeds(1), set_up_of("percent"))


class Weights(bt.Strategy):
    """Reads the account's value several times a bar: before and after it first asks for a position, and each fill."""

    def next(self):
        if len(self) % 7 == 3:
            for data in self.datas:
                self.order_target_percent(data, 0.3)
        elif len(self) % 7 == 5 and self.broker.getvalue() > 1_000:
            self.order_target_value(self.datas[0], self.broker.getvalue() / 10)


def test_values_of_many_feeds_that_are_computed_once_a_bar():
    assert_same(Weights, [{}], feeds(3), set_up_of("percent"))


def test_what_python_itself_reckons_is_left_to_numpy():
    assert "Python" in run_trials(Draws, [{}], feeds(1)(), set_up_of("none"), backend="numba").why_not
