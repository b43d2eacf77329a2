"""`CashFlows`: money that a strategy adds to its account or withdraws, by bar; it does not count as a return."""

from __future__ import annotations

import sys
from collections import defaultdict, deque
from functools import cache
from types import new_class
from typing import Any

import backtrader as bt
import numpy as np

_STOCK: Any = bt.brokers.BackBroker
_OWN = {getattr(_STOCK, name).__code__ for name in ("next", "_execute", "_get_value")}  # how trading moves cash


class Interest(float):
    """Money that the account earned, which counts as a return although Backtrader's `add_cash` pays it in."""


class CashFlows:
    """
    Cash that a broker received other than by trading, and the bar of each amount.

    A broker reports an assignment to its `cash` by calling `heard`. Cash from `add_cash` arrives with the broker's next
    bar, after its fills; cash that is set arrives after the current bar. So each flow counts from the end of its bar
    on.
    """

    def __init__(self, broker: Any, recorder: Any, cash: float) -> None:
        self._broker, self._recorder = broker, recorder
        self._amounts: dict[int, float] = defaultdict(float)
        self._worths: dict[int, float] = {}  # of the account after money was set: Backtrader leaves positions out
        self._begun = -1  # the bar whose orders the broker has tried, where Backtrader's loops run
        self._known = broker.cash
        broker.flows = self
        broker._cash_addition = _Additions(self, broker._cash_addition)
        if broker.cash != cash:  # set before the first bar
            self._amounts[0] = broker.cash - cash

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _nobody, ()  # a copy of the broker reports to nobody

    def begin_bar(self) -> None:
        """Note, in Backtrader's loops, that the broker is about to process a bar's orders."""
        if self._begun < 0:  # a timer or next_open may have set cash before, unnoticed
            self._amounts[0] += self._broker.cash - self._known
            _hear(self._broker)
        self._begun = self._bar()

    def heard(self, cash: float) -> None:
        """Note cash that is about to be set, unless Backtrader's own trading sets it."""
        if sys._getframe(2).f_code not in _OWN:
            self._set(cash - self._broker.cash)

    def added(self, amount: float) -> None:
        """Note money that arrives as announced."""
        if _is_called_by(_STOCK.next.__code__):
            self._amounts[self._bar()] += amount
        else:  # the value of one data was read, which makes the broker book it at once
            self._set(amount)

    def book(self) -> None:
        """Pass the flows by bar, if any, and the equity after each to the recorder."""
        bars = len(self._recorder.stamps)
        worths = {bar: worth for bar, worth in self._worths.items() if bar < bars}
        if worths:
            equity = np.array(self._recorder.equity)
            equity[list(worths)] = list(worths.values())
            self._recorder.equity = equity
        amounts = {bar: amount for bar, amount in self._amounts.items() if bar < bars}
        if any(amounts.values()):
            self._recorder.flows = np.zeros(bars)
            self._recorder.flows[list(amounts)] = list(amounts.values())

    def _set(self, amount: float) -> None:
        bar = self._bar()
        self._amounts[bar] += amount
        if self._broker.early if self._is_lean else self._begun < bar:
            return  # before the broker's turn, which then finds the value with it
        self._worths[bar] = self._worths.get(bar, self._broker._value) + amount

    @property
    def _is_lean(self) -> bool:
        return "clock" in vars(self._broker)

    def _bar(self) -> int:
        broker = self._broker
        return max(broker.clock.at, broker.step, broker.bar) if self._is_lean else len(self._recorder.stamps)


class _Additions(deque[float]):
    """What `add_cash` announced, reported when the broker takes it."""

    def __init__(self, flows: CashFlows, pending: deque[float]) -> None:
        super().__init__(pending)
        self._flows = flows

    def __reduce_ex__(self, protocol: Any) -> Any:
        return deque, (list(self),)

    def popleft(self) -> float:
        amount = super().popleft()
        if not isinstance(amount, Interest):
            self._flows.added(amount)
        return amount


class _Heard:
    """A broker that reports flows when cash is set, by `set_cash` or by assignment."""

    flows: CashFlows

    @property
    def cash(self) -> Any:
        return self.__dict__["cash"]

    @cash.setter
    def cash(self, cash: float) -> None:
        self.flows.heard(cash)
        self.__dict__["cash"] = cash


def _nobody() -> None:
    return None


def _hear(broker: Any) -> None:
    """Make a broker of Backtrader's loops report its flows, in place; the broker of a lean run does so itself."""
    kind: Any = type(broker)
    broker.__class__ = _heard(kind)


@cache  # Backtrader keeps each class that is ever made
def _heard(kind: Any) -> Any:
    return new_class(kind.__name__, (_Heard, kind), exec_body=lambda body: body.update(__module__=__name__))


def _is_called_by(code: Any) -> bool:
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is code:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
