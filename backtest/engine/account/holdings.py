"""`CashByCurrency`: an account's cash in each currency; a shortfall in one is converted at IB's commission."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from typing import Any

import backtrader as bt
import numpy as np

_STOCK: Any = bt.brokers.BackBroker
_RATE, _MINIMUM = 0.00002, 2.0  # IB's commission for currencies: a fraction of the value, and a minimum in US dollars


class CashByCurrency:
    """
    The cash of a broker by currency; its own `cash` is the value of all balances in the account's currency.

    If an order needs more of its currency than the account holds, the rest is converted from the account's currency
    and, if that runs short, from the currency with the largest balance. The fill that needs a conversion pays for it.
    Gains on contracts, dividends and interest are converted to the account's currency immediately.

    Args:
        row: returns the current bar of the run.
        rates: the value of a unit of each other currency after each bar.
        dollars: the value of a US dollar at those times.
    """

    def __init__(self, base: str, row: Callable[[], int], rates: Mapping[str, np.ndarray], dollars: np.ndarray) -> None:
        self.base = base
        self._row, self._rates, self._dollars = (
            row,
            {name: one.tolist() for name, one in rates.items()},
            dollars.tolist(),
        )
        self.held = dict.fromkeys(rates, 0.0)  # of other currencies than the account's
        self._valued = {
            name: one[0] for name, one in self._rates.items()
        }  # the rates that the broker's cash has them at
        self.kept = {name: array("d") for name in rates}
        self._free, self._spent, self._stages = 0.0, 0.0, [0.0]

    def begin(self, broker: Any, currency: str, rate: float, real: bool) -> None:
        """Begin an order; a real fill is paid from cash at the rates of its moment."""
        if real and currency != self.base:
            self._value(broker, currency, rate)
        self._free = broker.cash - sum(self.held[one] * self._valued[one] for one in self.held)
        self._spent, self._stages = 0.0, [0.0]

    def fee(self, currency: str, spent: float, rate: float) -> float:
        """Return the additional conversion costs of a part of an order that needs an amount of a currency."""
        self._spent += spent
        needed, fees = self._spent, 0.0
        if currency != self.base:
            lacks = max(self._spent - self.held[currency], 0.0)
            fees = self._fee(lacks * rate)
            needed = lacks * rate + fees
        others = sum(max(self.held[one], 0.0) * self._valued[one] for one in self.held if one != currency)
        fees += self._fee(min(max(needed - self._free, 0.0), others))
        self._stages.append(fees)
        return fees - self._stages[-2]

    def take(self, broker: Any, currency: str, moved: float, rate: float, bit: Any) -> None:
        """Book the cash that a fill moved, in the account's currency, including conversions."""
        parts = [part for part in (bit.closed, bit.opened) if part]
        charged = self._stages[min(len(parts), len(self._stages) - 1)]
        if currency != self.base:
            self.held[currency] = max(self.held[currency] + (moved + charged) / rate, 0.0)
        lacks = sum(self.held[one] * self._valued[one] for one in self.held) - broker.cash
        for one in sorted(self.held, key=lambda one: -self.held[one] * self._valued[one]):
            if lacks > 0:
                worth = min(self.held[one] * self._valued[one], lacks)
                self.held[one] -= worth / self._valued[one]
                lacks -= worth

    def end_bar(self, broker: Any) -> None:
        """Value the balances at the rates after the current bar, and record them."""
        row = self._row()
        for name, rates in self._rates.items():
            self._value(broker, name, rates[row])
            self.kept[name].append(self.held[name])
        _STOCK._get_value(broker)

    def _value(self, broker: Any, currency: str, rate: float) -> None:
        # Straight, as no money came in: see `engine.cash_flows`.
        vars(broker)["cash"] += self.held[currency] * (rate - self._valued[currency])
        self._valued[currency] = rate

    def _fee(self, amount: float) -> float:
        """Return the commission of a conversion, at the dollar rate of the previous bar."""
        if not amount > 0:
            return 0.0
        dollar: float = self._dollars[max(self._row() - 1, 0)]
        return max(amount * _RATE, _MINIMUM * dollar)
