"""Commission models; `COSTS` names those that a run can be asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import backtrader as bt


@dataclass(frozen=True, slots=True)
class Costs:
    """A commission model: its name, what it charges in one sentence, and how Backtrader is told of it."""

    name: str
    definition: str
    make: Callable[[], Any]


class IbFixed(bt.CommInfoBase):
    """
    IB's fixed pricing for US stocks: 0.005 USD a share, at least 1.00, at most 1 % of the trade value, an order.

    The cap beats the minimum: 10 shares at 0.20 cost 0.02. Passed-on regulatory fees of sales are not in it.
    Backtrader charges each fill; an order that closes and opens at once is charged for each part.

    Source: IBKR, "Commissions - Stocks", IBKR Pro fixed, North America, read 2026-11.
    """

    params = (("commission", 0.005), ("minimum", 1.0), ("cap", 0.01), ("stocklike", True), ("percabs", True))

    def _getcommission(self, size: float, price: float, pseudoexec: bool) -> float:
        shares = abs(size)
        charged: float = min(max(shares * self.p.commission, self.p.minimum), shares * price * self.p.cap)
        return charged


def _free() -> Any:
    return bt.CommInfoBase(commission=0.0, stocklike=True, percabs=True)


COSTS = {
    row.name: row
    for row in (
        Costs(
            "ib-fixed",
            "IB fixed: 0.005 USD a share, at least 1 USD, at most 1 % of the value, an order",
            IbFixed,
        ),
        Costs("none", "no costs", _free),
    )
}
