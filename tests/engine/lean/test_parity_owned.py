"""What a strategy owns that moves: its lines, what is made of them, what goes by its clock; Backtrader's and ours."""

import backtrader as bt
import pytest
from parity_check import Cerebro, outcome
from parity_markets import market
from parity_owned import (
    BY_NAME,
    OWNED,
    Ends,
    Loose,
    Mixed,
    Nosy,
    Notes,
    Sees,
    charging,
    clocked_by_a_later,
    made,
    make_late,
    of_class,
    owning,
    trade,
)
from parity_random import fail, stop_the_run
from parity_strategies import Watcher
from parity_trading import BARS, OTHER, assert_same


def is_lean(build):
    cerebro = build(Cerebro)
    cerebro.run()
    return cerebro.lean


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_NAME)
def test_what_is_made_of_own_lines_is_at_the_bar_where_backtrader_has_it(name):
    assert_same(owning(made(name)), ended=None)
    assert_same(owning(made(name), BARS, OTHER), ended=None)


@pytest.mark.parametrize("name", OWNED)
def test_strategies_with_lines_of_their_own_take_the_lean_loop(name):
    assert is_lean(owning(made(name)))


WAYS = ({"runonce": False}, {"preload": False}, {"exactbars": 1}, {"exactbars": -2}, {"stdstats": True})


def in_other_ways():
    """Yield each name with each way to run; two ways of a name are run, and the others left to soak."""
    for number, name in enumerate(BY_NAME):
        for place, options in enumerate(WAYS):
            marks = () if (place - 2 * number) % len(WAYS) < 2 else pytest.mark.soak
            yield pytest.param(name, options, marks=marks, id=f"{options}-{name}")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [*in_other_ways()])
def test_what_is_made_of_own_lines_in_other_ways_to_run(name, options):
    assert_same(owning(made(name), **options), ended=None)


def test_the_average_of_an_own_line_is_that_of_the_bars_before():
    build = owning(lambda strategy: [bt.ind.SMA(bind_close(strategy), period=2)])
    log = [note for note in outcome(build, Cerebro)["log"] if note[1:3] != ("next", 1)]
    closes = [bar.close for bar in BARS]

    seen = {note[1]: note[3] for note in log if isinstance(note[1], int)}

    assert seen[10] == (closes[8] + closes[7]) / 2  # at the tenth bar, of the eighth and the ninth


def bind_close(strategy):
    strategy.lines.own = strategy.data.close
    return strategy.lines.own


@pytest.mark.slow
def test_own_lines_that_are_written_bar_by_bar():
    def write(strategy, where):
        if where in ("next", "prenext"):
            strategy.lines.own[0] = strategy.data.close[0] + (strategy.lines.own[-1] if len(strategy) > 1 else 0.0)
            if len(strategy) % 3 == 0:
                strategy.lines.other[0] = len(strategy)
        trade(strategy, where)

    def make(strategy):
        return [bt.ind.SMA(strategy.lines.own, period=2), strategy.lines.own - strategy.lines.other(-1)]

    for options in ({}, {"runonce": False}, {"stdstats": True}):
        assert_same(owning(make, act=write, **options))
        assert_same(owning(make, BARS, OTHER, act=write, **options), ended=None)


@pytest.mark.slow
def test_observers_and_analyzers_that_read_own_lines():
    def prepare(cerebro):
        cerebro.addobserver(Sees)
        cerebro.addanalyzer(Notes)

    for options in ({}, {"runonce": False}):
        assert_same(owning(made("an average"), prepare=prepare, **options))
        assert_same(owning(made("a number before a line"), BARS, OTHER, prepare=prepare, **options), ended=None)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["init", 12])
def test_a_commission_scheme_that_looks_at_the_strategy_while_the_broker_works(when):
    act = charging(Nosy, when)

    for name in ("an average", "a number before a line", "its own way to move"):
        assert_same(owning(made(name), act=act), "asked")
        assert_same(owning(made(name), BARS, market(8, 30), act=act), "asked", ended=None)


def test_a_run_that_a_commission_scheme_stops_or_ends():
    for way, ended in ((stop_the_run, "returned"), (fail, "raised")):
        assert_same(owning(made("an average"), act=charging(Ends, way=way)), ended=ended)
        assert_same(owning(made("several lines"), BARS, BARS, act=charging(Ends, way=way)), ended=ended)


def test_an_indicator_that_is_made_in_mid_run_moves_from_the_next_bar_on():
    assert_same(owning(made("an average"), act=make_late))
    assert_same(owning(made("an average"), BARS, OTHER, act=make_late))


def test_an_indicator_whose_clock_is_made_after_it():
    assert_same(owning(clocked_by_a_later))
    assert_same(owning(clocked_by_a_later, BARS, OTHER))


def test_indicators_that_share_their_lines_or_are_there_twice():
    def shared(strategy):
        one, other = (bt.ind.SMA(strategy.data, period=period) for period in (2, 3))
        other.lines.lines[0] = one.lines.lines[0]
        return [one, other]

    def twice(strategy):
        average = bt.ind.SMA(strategy.data, period=2)
        strategy.addindicator(average)
        return [average]

    assert_same(owning(shared), ended=None)
    assert_same(owning(twice), ended=None)


def test_a_line_that_the_strategy_moves_by_hand_is_an_error_and_not_a_silent_difference():
    def act(strategy, where):
        if where == "next" and len(strategy) == 9:
            strategy.lines.own.forward()

    moved = owning(made("an average"), act=act)

    assert outcome(moved, Cerebro)["ended"][:2] == ("raised", "RuntimeError")
    assert_same(owning(made("an average"), act=act, runonce=False))


def test_lines_that_nobody_moves():
    def make(strategy):
        strategy.loose = Loose()
        return [strategy.data.close - strategy.data.open]

    def act(strategy, where):
        if where == "next":
            strategy.loose.forward()
            strategy.loose.lines.x[0] = strategy.data.close[0]
            strategy.note(len(strategy.loose), strategy.loose[0], strategy.loose.x[-1])

    assert_same(owning(make, act=act))


class Stampless(Watcher):
    """A strategy that has no line of stamps."""

    linesoverride = True
    lines = ("own",)


@pytest.mark.parametrize(("strategy", "ended"), [(Mixed, "returned"), (Stampless, "raised")])
def test_lines_that_stand_before_the_stamps_or_instead_of_them(strategy, ended):
    assert_same(of_class(strategy, BARS, OTHER), ended=ended)
