"""
Margin requirements of positions, and what to sell if equity falls short of them: pure functions.

Simplifications: IB requires 25 % for purchases during the day, and 50 % (Regulation T) only at the end of the day; here
it is 50 % at once. There is no credit for gains of earlier days (special memorandum account), and there are no higher
requirements for single stocks, concentrated positions or leveraged ETFs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import NamedTuple

import numpy as np

# The minimum for a short share: 5.00 if its price is above that, the whole price if it is below,
# and never less than 2.50. IBKR, "US Stocks Margin", the table of short positions; FINRA Rule 4210(c)(2) and (3).
_FLOOR, _CHEAP = 2.5, 5.0
LEAST_EQUITY = 2_000.0  # USD of equity, to borrow or to sell short. IBKR, the same page; FINRA Rule 4210(b)


@dataclass(frozen=True, slots=True, eq=False)
class Rates:
    """
    The requirements of a product: fractions of its value, or money per contract; NaN if it must not be sold short.

    Attributes:
        by_contract: whether they are money per contract.
        with_floor: whether IB's minimums per share apply to cheap shares held short.
    """

    initial_long: float
    maintenance_long: float
    initial_short: float
    maintenance_short: float
    by_contract: bool = False
    with_floor: bool = False

    def __eq__(self, other: object) -> bool:
        """Return whether all rates are the same; NaN is here, as from Python 3.13 on it is not in a dataclass."""
        return isinstance(other, Rates) and self._known == other._known

    def __hash__(self) -> int:
        return hash(self._known)

    @property
    def _known(self) -> tuple[float | None, ...]:
        values: tuple[float, ...] = astuple(self)
        return tuple(None if math.isnan(value) else value for value in values)

    def initial(self, size: float, price: float) -> float:
        """Return the initial requirement of a position; `price` is money per share or contract."""
        rate = self.initial_long if size > 0 else self.initial_short
        return max(self._required(size, price, rate), self.maintenance(size, price))

    def maintenance(self, size: float, price: float) -> float:
        """Return the maintenance requirement of a position."""
        return self._required(size, price, self.maintenance_long if size > 0 else self.maintenance_short)

    def maintenance_by_bar(self, sizes: np.ndarray, prices: np.ndarray) -> np.ndarray:
        """Return the maintenance requirement of positions, bar by bar; 0 without a position."""
        rates = np.where(sizes > 0, self.maintenance_long, self.maintenance_short)
        each = rates if self.by_contract else rates * prices
        if self.with_floor:
            each = np.where(sizes < 0, np.maximum(each, np.maximum(np.minimum(prices, _CHEAP), _FLOOR)), each)
        return np.where(sizes != 0, np.abs(sizes) * each, 0.0)

    def _required(self, size: float, price: float, rate: float) -> float:
        each = rate if self.by_contract else rate * price
        if self.with_floor and size < 0:
            each = max(each, max(min(price, _CHEAP), _FLOOR))
        return abs(size) * each


# Initial: 12 CFR 220.12 (Regulation T): 50 % of the value of a margin equity security, and 150 % of that of a short
# sale, with its proceeds. Maintenance: FINRA Rule 4210(c), which IBKR's page "US Stocks Margin" states.
REG_T_STOCK = Rates(0.5, 0.25, 0.5, 0.3, with_floor=True)


def excess_liquidity(equity: float, maintenance: float) -> float:
    """Return the equity beyond the maintenance requirement; below 0 there is a margin call."""
    return equity - maintenance


def buying_power(available: float, rates: Rates) -> float:
    """Return how much of a product the equity beyond the initial requirement can buy."""
    return max(available, 0.0) / rates.initial_long


class Held(NamedTuple):
    """A position in a margin call: the requirement per share or contract, and the smallest tradable size."""

    size: float
    each: float
    step: float = 1.0


def liquidation(positions: Sequence[Held], deficit: float) -> list[float]:
    """
    Return how much of each position to sell (negative) or buy back to remove a deficit at the same prices.

    The position with the largest requirement comes first, and is reduced only as far as necessary, in whole steps. The
    costs of the sale are ignored. Equal positions keep the given order.
    """
    orders, left = [0.0] * len(positions), deficit
    for place in sorted(range(len(positions)), key=lambda n: -abs(positions[n].size) * positions[n].each):
        size, each, step = positions[place]
        if not left > 0 or not each > 0:
            break
        steps = math.ceil(round(left / each / step, 9))  # 33.3 shares are 34; 25.000000000001 are 25
        sold = min(round(steps * step, 9), abs(size))  # 0.3 of a coin, not 0.29999999999999999
        orders[place] = -math.copysign(sold, size)
        left -= sold * each
    return orders
