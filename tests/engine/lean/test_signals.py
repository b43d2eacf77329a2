"""Strategies of signals in the lean loop: the same decisions as in Backtrader's, by fewer tests."""

import backtrader as bt
import pytest
from parity_markets import market, rows
from parity_strategies import LOUD, QUIET
from parity_trading import assert_lean_and_same, ready

from backtest.engine.lean.signals import _is_plain, lean_signals

KINDS = bt.signal.SignalTypes[1:]
NAMES = [name for name in vars(bt.signal) if name.startswith("SIGNAL_")][1:]
BARS = market(6, 50, tick=0.25, flat=0.2)


class Distance(bt.Indicator):
    """How far the price is from its average, or nothing where it is near: zero is a signal's third answer."""

    lines = ("signal",)
    params = (("period", 4), ("near", 0.3))

    def __init__(self):
        far = self.data - bt.ind.SMA(self.data, period=self.p.period)
        self.lines.signal = bt.If(abs(far) < self.p.near, 0.0, far)


def signalled(signals, prepare=lambda cerebro: None, bars=(BARS,), **options):
    def build(make):
        cerebro = ready(make, *map(rows, bars), **options)
        for kind, period in signals:
            cerebro.add_signal(kind, Distance, period=period)
        prepare(cerebro)
        return cerebro

    build.eyes = QUIET
    return build


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_each_kind_of_signal_alone(kind):
    assert_lean_and_same(signalled([(kind, 4)]))


@pytest.mark.slow
@pytest.mark.parametrize("entry", [bt.SIGNAL_LONGSHORT, bt.SIGNAL_LONG, bt.SIGNAL_SHORT_INV, bt.SIGNAL_LONG_ANY])
@pytest.mark.parametrize("second", KINDS, ids=NAMES)
def test_two_signals_and_their_switches(entry, second):
    def prepare(cerebro):
        cerebro.signal_accumulate((entry + second) % 3 == 1)
        cerebro.signal_concurrent((entry + second) % 3 == 2)

    assert_lean_and_same(signalled([(entry, 3), (second, 7)], prepare))


def test_every_kind_at_once_with_observers_and_another_target():
    def prepare(cerebro):
        cerebro.signal_strategy(bt.SignalStrategy, _data=1)

    signals = [(kind, 2 + n % 4) for n, kind in enumerate(KINDS)]
    assert_lean_and_same(signalled(signals, prepare, bars=(BARS, market(9, 70, gap=0.3)), stdstats=True))


class Adds(bt.SignalStrategy):
    """Decides by signals, looks at each bar itself, hears of its orders, and gets another signal in mid-run."""

    def __init__(self):
        self.far = Distance(self.data, period=5)
        self.signal_add(bt.SIGNAL_LONGSHORT, Distance(self.data, period=3))

    def next(self):
        self.cerebro.log.append((len(self), self.position.size, self.broker.getvalue(), self._sentinel is None))
        if len(self) == 30:
            self.signal_add(bt.SIGNAL_LONGSHORT, self.far)

    def notify_order(self, order):
        self.cerebro.log.append((order.ref, order.status, order.executed.price, self._sentinel is None))


class Counts(bt.SignalStrategy):
    """Has a way of its own to decide."""

    def _next_signal(self):
        self.cerebro.log.append("asked")
        super()._next_signal()


@pytest.mark.parametrize("strategy", [Adds, Counts])
def test_a_signal_strategy_of_the_users(strategy):
    def build(make):
        cerebro = ready(make, rows(BARS))
        cerebro.add_signal(bt.SIGNAL_LONG, Distance, period=6)
        cerebro.signal_strategy(strategy)
        return cerebro

    build.eyes = LOUD

    assert_lean_and_same(build, "asked" if strategy is Counts else "4, ")


def test_signals_that_are_no_lines_are_left_to_backtrader():
    class Own(bt.SignalStrategy):
        def __init__(self):
            self.signal_add(bt.SIGNAL_LONG, [1.0])

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(rows(BARS))
    cerebro.addstrategy(Own)
    (strategy,) = cerebro.run()

    with lean_signals(strategy):
        assert "_next_signal" not in vars(strategy)

    strategy._signals.clear()

    with lean_signals(strategy):
        assert "_next_signal" in vars(strategy)
    assert "_next_signal" not in vars(strategy)
    assert _is_plain(strategy)


class HearsItself(bt.SignalStrategy):
    def _notify(self, qorders=(), qtrades=()):
        super()._notify(list(qorders), list(qtrades))


def test_one_that_replaces_how_it_hears_of_orders_takes_backtraders_loop():
    from backtest.engine.lean.cerebro import Cerebro

    cerebro = Cerebro(stdstats=False)
    cerebro.adddata(rows(BARS))
    cerebro.addstrategy(HearsItself)
    cerebro.run()

    assert (cerebro.lean, "_notify" in cerebro.why_not) == (False, True)
