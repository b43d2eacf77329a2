"""Backtrader's `SignalStrategy`, computing only what its decision needs; hot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import backtrader as bt


def has_signals(strategy: Any) -> bool:
    """Return whether a strategy trades by signals, with Backtrader's own order notifications."""
    return isinstance(strategy, bt.SignalStrategy)


def forget_finished(strategy: Any) -> None:
    """Forget a finished order, which blocks new ones, as `SignalStrategy._notify` does."""
    if strategy._sentinel is not None:
        for order in strategy._orderspending:
            if order == strategy._sentinel and not order.alive():
                strategy._sentinel = None
                break


@contextmanager
def lean_signals(strategy: Any) -> Iterator[None]:
    """Let a signal strategy decide in the lean way, if it and its signals are Backtrader's own."""
    if not has_signals(strategy) or not _is_plain(strategy):
        yield
        return
    for kind in bt.signal.SignalTypes[1:]:
        strategy._signals.setdefault(kind, [])  # as Backtrader would leave it
    vars(strategy)["_next_signal"] = partial(_decide, strategy)
    try:
        yield
    finally:
        vars(strategy).pop("_next_signal", None)


def _is_plain(strategy: Any) -> bool:
    own = type(strategy)._next_signal is not bt.SignalStrategy._next_signal or "_next_signal" in vars(strategy)
    signals = [signal for kind in strategy._signals.values() for signal in kind]
    return not own and all(isinstance(signal, bt.LineRoot) for signal in signals)


def _decide(strategy: Any) -> None:
    """Give the orders that `SignalStrategy._next_signal` gives, by the same tests in the order of need."""
    if strategy._sentinel is not None and not strategy.p._concurrent:
        return
    signals, target = strategy._signals, strategy._dtarget
    size = strategy.getposition(target).size
    if not size:
        if _long(signals):
            strategy._sentinel = strategy.buy(target)
        elif _short(signals):
            strategy._sentinel = strategy.sell(target)
    elif size > 0:
        turned = _below(signals[bt.SIGNAL_LONGSHORT])
        reverses = not strategy._longexit and _enters_short(signals)
        if turned or reverses or _exits_long(signals) or (not strategy._longexit and _leaves_long(signals)):
            strategy.close(target)
        if turned or reverses:
            strategy._sentinel = strategy.sell(target)
        if strategy.p._accumulate and _long(signals):
            strategy._sentinel = strategy.buy(target)
    else:
        turned = _above(signals[bt.SIGNAL_LONGSHORT])
        reverses = not strategy._shortexit and _enters_long(signals)
        if turned or reverses or _exits_short(signals) or (not strategy._shortexit and _leaves_short(signals)):
            strategy.close(target)
        if turned or reverses:
            strategy._sentinel = strategy.buy(target)
        if strategy.p._accumulate and _short(signals):
            strategy._sentinel = strategy.sell(target)


def _long(signals: Any) -> bool:
    return _above(signals[bt.SIGNAL_LONGSHORT]) or _enters_long(signals)


def _short(signals: Any) -> bool:
    return _below(signals[bt.SIGNAL_LONGSHORT]) or _enters_short(signals)


def _above(signals: Any) -> bool:
    """Return whether all signals of a kind are above zero; False without a signal."""
    for signal in signals:
        if not signal[0] > 0.0:
            return False
    return bool(signals)


def _below(signals: Any) -> bool:
    for signal in signals:
        if not signal[0] < 0.0:
            return False
    return bool(signals)


def _any(signals: Any) -> bool:
    for signal in signals:
        if not signal[0]:
            return False
    return bool(signals)


def _enters_long(signals: Any) -> bool:
    return (_above(signals[bt.SIGNAL_LONG]) or _below(signals[bt.SIGNAL_LONG_INV])
            or _any(signals[bt.SIGNAL_LONG_ANY]))  # fmt: skip


def _leaves_long(signals: Any) -> bool:
    return (_below(signals[bt.SIGNAL_LONG]) or _above(signals[bt.SIGNAL_LONG_INV])
            or _any(signals[bt.SIGNAL_LONG_ANY]))  # fmt: skip


def _exits_long(signals: Any) -> bool:
    return (_below(signals[bt.SIGNAL_LONGEXIT]) or _above(signals[bt.SIGNAL_LONGEXIT_INV])
            or _any(signals[bt.SIGNAL_LONGEXIT_ANY]))  # fmt: skip


def _enters_short(signals: Any) -> bool:
    return (_below(signals[bt.SIGNAL_SHORT]) or _above(signals[bt.SIGNAL_SHORT_INV])
            or _any(signals[bt.SIGNAL_SHORT_ANY]))  # fmt: skip


def _leaves_short(signals: Any) -> bool:
    return (_above(signals[bt.SIGNAL_SHORT]) or _below(signals[bt.SIGNAL_SHORT_INV])
            or _any(signals[bt.SIGNAL_SHORT_ANY]))  # fmt: skip


def _exits_short(signals: Any) -> bool:
    return (_above(signals[bt.SIGNAL_SHORTEXIT]) or _below(signals[bt.SIGNAL_SHORTEXIT_INV])
            or _any(signals[bt.SIGNAL_SHORTEXIT_ANY]))  # fmt: skip
