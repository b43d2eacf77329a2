"""Trials of the compiled engine equal those of the event engine to the last bit."""

from datetime import UTC, datetime, time

import backtrader as bt
import numpy as np
import pytest
from compiled_check import COSTS, by_events, difference, differences, named, set_up_of
from compiled_mutants import MUTANTS, stale
from compiled_random import Chance, Linked, Rings, compared, feeds_of
from parity_markets import market, quick_rows
from places import ROOT

from backtest.engine.code.strategy import load_strategy
from backtest.engine.compiled.trials import run_trials
from backtest.engine.warm_up import gated, stamp_of, waiting

BARS = market(3, 160, tick=0.01)
OTHER = market(4, 150, tick=0.01, gap=0.2)


def one_feed():
    return named([quick_rows(BARS)])


def two_feeds():
    return named([quick_rows(BARS), quick_rows(OTHER)])


def shipped(module, name):
    return load_strategy(f"{ROOT / 'strategies' / module}.py:{name}").cls


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(16))
def test_a_strategy_that_orders_by_chance_is_equal(seed):
    outcomes, differing = compared(seed, trials=2, bars=40)

    assert not outcomes.why_not
    assert differing == {}
    assert len(outcomes.orders) > 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "asked"),
    [
        (5, {"cls": Rings}),
        (7, {"cls": Rings}),
        # Each with another slippage or volume cap, and other costs.
        *((seed, {"wide": True}) for seed in (14, 23, 26)),
    ],
)
def test_timers_slippage_volume_caps_and_dated_costs_are_equal(seed, asked):
    outcomes, differing = compared(seed, trials=1, bars=40, **asked)

    assert (outcomes.why_not, outcomes.left, differing) == ("", {}, {})
    assert len(outcomes.fills) > 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", [5, 7])
def test_brackets_and_orders_that_cancel_others_are_equal(seed):
    outcomes, differing = compared(seed, trials=1, bars=40, cls=Linked)

    assert (outcomes.why_not, outcomes.left, differing) == ("", {}, {})
    assert len(outcomes.orders) > 15


@pytest.mark.parametrize("costs", COSTS)
@pytest.mark.parametrize("feeds", [one_feed, two_feeds])
def test_many_pairs_of_averages_are_equal(costs, feeds):
    pairs = [{"fast": fast, "slow": slow} for fast in (2, 5) for slow in (9, 20)]

    outcomes, differing = differences(shipped("sma_cross", "SmaCross"), pairs, feeds, set_up_of(costs))

    assert (outcomes.why_not, outcomes.left, differing) == ("", {}, {})
    assert len(outcomes.fills) > 20


SHIPPED = {
    ("bollinger", "Bollinger"): [{"period": 5, "deviations": 1.0}, {"period": 5, "invest": 0}],
    ("buy_and_hold", "BuyAndHold"): [{}],
    ("rsi2", "Rsi2"): [{"trend": 20}, {"trend": 20, "low": 30.0, "invest": 0}],
    ("random_baseline", "RandomBaseline"): [{"seed": 1}, {"seed": 2, "turn": 0.3}],
    ("time_series_momentum", "TimeSeriesMomentum"): [{"lookback": 20, "skip": 2, "every": 3, "short": 1}],
    ("cross_sectional_momentum", "CrossSectionalMomentum"): [{"lookback": 20, "skip": 2, "every": 3, "hold": 1}],
}


def at_all_costs():
    """Return each shipped strategy with one and four series at each costs; of one strategy two are not left to soak."""
    found = []
    for number, place in enumerate(SHIPPED):
        for count, at in ((1, number), (4, number + 1)):
            run = list(COSTS)[at % len(COSTS)]
            marks = {costs: () if costs == run else pytest.mark.soak for costs in COSTS}
            found += [pytest.param(place, count, costs, marks=marks[costs]) for costs in COSTS]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("place", "count", "costs"), at_all_costs())
def test_shipped_strategies_are_equal(place, count, costs):
    tables = [BARS, OTHER, market(5, 160, tick=0.01), market(6, 120, tick=0.01, gap=0.3)][:count]

    def feeds():
        return named([quick_rows(one) for one in tables])

    outcomes, differing = differences(shipped(*place), SHIPPED[place], feeds, set_up_of(costs))

    assert (outcomes.why_not, outcomes.left, differing) == ("", {}, {})
    assert len(outcomes.fills) >= count


def test_a_trial_whose_init_raises_is_left_to_the_event_engine():
    outcomes = run_trials(
        shipped("sma_cross", "SmaCross"),
        [{"fast": 9, "slow": 3}, {"fast": 3, "slow": 9}],
        one_feed(),
        set_up_of("none"),
    )

    assert outcomes.left == {0: "__init__() raises ValueError"}
    assert outcomes.orders_from[1] == 0 < outcomes.orders_from[2]


def test_the_account_is_told_at_the_steps_that_are_asked_for():
    pairs, wanted = [{"fast": 2, "slow": 9}], np.array([20, 99])

    every = run_trials(shipped("sma_cross", "SmaCross"), pairs, one_feed(), set_up_of("none"))
    some = run_trials(shipped("sma_cross", "SmaCross"), pairs, one_feed(), set_up_of("none"), lambda stamps: wanted)

    assert some.equity.tolist() == every.equity[:, wanted].tolist()


@pytest.mark.parametrize("place", [("sma_cross", "SmaCross"), ("cross_sectional_momentum", "CrossSectionalMomentum")])
def test_a_window_begins_as_that_of_a_gated_strategy(place):
    params = {"sma_cross": {"fast": 2, "slow": 9}}.get(place[0], {"lookback": 70, "skip": 2, "every": 3, "hold": 1})
    begins = datetime.combine(BARS[60].time, time(12), UTC)
    strategy = load_strategy(shipped(*place))

    outcomes = run_trials(strategy.cls, [params], two_feeds(), set_up_of("none"), begins=stamp_of(begins))
    with waiting(begins):
        event = by_events(gated(strategy).cls, params, two_feeds(), set_up_of("none"))

    assert difference(outcomes, 0, event) == ""
    assert len(outcomes.fills) > 5
    assert outcomes.fills[0, 2] > stamp_of(begins)


def test_each_wrong_engine_of_the_soak_changes_what_is_there():
    assert stale() == []
    assert len(MUTANTS) >= 60


class DividesByZero(bt.Strategy):
    """Stumbles at one bar in some trials."""

    params = (("at", 10),)

    def next(self):
        size = 10 / (len(self) - self.p.at)
        if size > 0:
            self.buy(size=size)


def test_a_trial_that_stumbles_is_left_and_the_others_are_equal():
    params = [{"at": 10}, {"at": 1000}, {"at": -5}]

    outcomes, differing = differences(DividesByZero, params, one_feed, set_up_of("none"))

    assert list(outcomes.left) == [0]
    assert differing == {}


class KeepsAList(bt.Strategy):
    """Keeps what cannot be compiled."""

    def __init__(self):
        self.seen = []

    def next(self):
        self.seen.append(self.data.close[0])
        if len(self.seen) > 3:
            self.buy()


def test_what_cannot_be_done_is_refused_with_file_and_line():
    outcomes = run_trials(KeepsAList, [{}], one_feed(), set_up_of("none"))

    assert outcomes.why_not.startswith(f"{__file__}:")
    assert "self.seen" in outcomes.why_not


def test_orders_and_notes_are_those_of_a_random_trial_with_several_orders_a_bar():
    costs = "ib-fixed"
    feeds = feeds_of(5, "same", 2, bars=50)
    params = [{"seed": 77, "busy": 100}]

    outcomes = run_trials(Chance, params, feeds(), set_up_of(costs, 2_000.0))

    assert difference(outcomes, 0, by_events(Chance, params[0], feeds(), set_up_of(costs, 2_000.0))) == ""
    assert {4, 5, 7} <= set(outcomes.orders[:, 4])  # completed, cancelled, refused for margin


class Waits(bt.Strategy):
    """Buy at each bar, from the first one at which the indicators have a value."""

    params = (("first", 0), ("second", 0), ("of_both", 0))

    def __init__(self):
        for data, period in zip(self.datas, (self.p.first, self.p.second), strict=True):
            if period:
                average = bt.ind.SMA(data.close, period=period)
                self.spread = bt.ind.Highest(average - data.open, period=2)
        if self.p.of_both:
            self.sums = bt.ind.SMA(self.datas[0], period=self.p.of_both) > 1.0

    def next(self):
        self.buy(data=self.datas[1], size=1)


def test_trials_wait_for_their_own_indicators_on_each_feed():
    waits = [{}, {"first": 5}, {"second": 5}, {"first": 9, "second": 5}, {"first": 5, "second": 9}, {"of_both": 7},
             {"first": 5, "of_both": 7}, {"second": 5, "of_both": 7}]  # fmt: skip

    outcomes, differing = differences(Waits, waits, two_feeds, set_up_of("none"))

    assert (outcomes.why_not, outcomes.left, differing) == ("", {}, {})
    assert len({outcomes.orders[begin, 6] for begin in outcomes.orders_from[:-1]}) >= 4


class Turns(bt.Strategy):
    """Be long and short in turns, which each order turns at once."""

    params = (("every", 3),)

    def next(self):
        if len(self) % self.p.every == 0:
            if self.position.size > 0:
                self.sell(size=140)
            else:
                self.buy(size=70 + 70 * (self.position.size < 0))


@pytest.mark.parametrize("costs", ["ib-fixed", "ib-fixed, by order"])
def test_a_reversal_is_charged_as_by_the_event_engine(costs):
    outcomes, differing = differences(Turns, [{"every": 2}, {"every": 3}], one_feed, set_up_of(costs))

    assert (outcomes.why_not, outcomes.left, differing) == ("", {}, {})
    assert (outcomes.fills[:, 5].max() > 1.5) == (costs == "ib-fixed")  # two minimums, or one
