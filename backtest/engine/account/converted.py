"""`Converted`: a commission model whose prices are in another currency or unit than the account."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import cache
from types import new_class
from typing import Any

import backtrader as bt
import numpy as np

from backtest.engine.account.currencies import Conversion


class PresentRow:
    """At which bar of a run its feeds stand; one for all models of the run."""

    def __init__(self, stamps: np.ndarray, feeds: Sequence[Any]) -> None:
        self.stamps = stamps
        self._known, self._feeds, self._stamp, self._row = stamps.tolist(), list(feeds), 0.0, 0

    def number(self) -> int:
        """Return the row of the newest bar that any feed shows."""
        stamp = max([feed.datetime[0] for feed in self._feeds if len(feed)], default=0.0)
        if stamp != self._stamp:
            self._stamp, self._row = stamp, min(bisect_left(self._known, stamp), len(self._known) - 1)
        return self._row


class Converted(bt.CommInfoBase):
    """
    A commission model that gives Backtrader amounts in the currency of the account.

    The model inside sees prices in the currency of the instrument, pounds where pence are quoted, so that its minimums
    are in that currency too. Amounts are converted at the rate known after the present bar of the run; while an order
    is checked or filled, at the one that was known then: see `Converting`.

    What a contract binds as margin is no money in the other currency. It is converted at the rate of the first bar, so
    that the same comes back.
    """

    def __init__(self, inner: Any, conversion: Conversion, row: PresentRow) -> None:
        super().__init__()
        self.params = self.p = inner.p
        self._stocklike, self._commtype, self._creditrate = inner._stocklike, inner._commtype, inner._creditrate
        self.inner, self._row = inner, row
        self._unit = conversion.unit.share
        self._stamps = conversion.stamps.tolist()
        self._opening, self._closing = conversion.opening.tolist(), conversion.closing.tolist()
        self._by_row = conversion.rows
        self._rows = conversion.rows.tolist()
        self._at: float | None = None  # the rate of an order, while it is checked or filled

    @property
    def rate(self) -> float:
        """What one unit of the instrument's currency is worth now."""
        return self._rows[self._row.number()] if self._at is None else self._at

    def begin(self, stamp: float, closing: bool) -> None:
        """Take the rate that was known when the bar of a stamp opened, or closed, until `end`."""
        place = max(bisect_right(self._stamps, stamp) - 1, 0)
        self._at = (self._closing if closing else self._opening)[place]

    def end(self) -> None:
        """Take the rate of the present bar again."""
        self._at = None

    def in_base(self, amount: float) -> float:
        """Return what an amount of sizes times prices is worth now in the currency of the account."""
        return amount * (self.rate * self._unit)

    def factors_at(self, stamps: np.ndarray) -> np.ndarray:
        """Return money of the account per unit of price after the bars of some stamps."""
        return self._by_row[np.searchsorted(self._row.stamps, stamps)] * self._unit

    # --- what Backtrader asks

    def get_margin(self, price: float) -> Any:
        """Return what a contract binds."""
        return self.inner.get_margin(price * self._unit) * self._rows[0]

    def get_leverage(self) -> Any:
        """Return the leverage that the model inside allows."""
        return self.inner.get_leverage()

    def getsize(self, price: float, cash: float) -> Any:
        """Return the size that cash pays."""
        if self._stocklike:
            return self.inner.getsize(price * (self.rate * self._unit), cash)
        return self.inner.getsize(price * self._unit, cash / self._rows[0])

    def getoperationcost(self, size: float, price: float) -> Any:
        """Return the cash that an order takes."""
        if self._stocklike:
            return self.inner.getoperationcost(size, price) * (self.rate * self._unit)
        return self.inner.getoperationcost(size, price * self._unit) * self._rows[0]

    def getvaluesize(self, size: float, price: float) -> Any:
        """Return the value of a size."""
        if self._stocklike:
            return self.inner.getvaluesize(size, price) * (self.rate * self._unit)
        return self.inner.getvaluesize(size, price * self._unit) * self._rows[0]

    def getvalue(self, position: Any, price: float) -> Any:
        """Return the value of a position."""
        if self._stocklike:
            return self.inner.getvalue(position, price) * (self.rate * self._unit)
        return self.inner.getvalue(position, price * self._unit) * self._rows[0]

    def _getcommission(self, size: float, price: float, pseudoexec: bool) -> Any:
        return self.inner._getcommission(size, price * self._unit, pseudoexec) * self.rate

    def getcommission(self, size: float, price: float) -> Any:
        """Return the commission, of which a model may have its own way too."""
        return self.inner.getcommission(size, price * self._unit) * self.rate

    def confirmexec(self, size: float, price: float) -> Any:
        """Tell the model inside of a fill."""
        return self.inner.confirmexec(size, price * self._unit)

    def profitandloss(self, size: float, price: float, newprice: float) -> Any:
        """Return the profit by the difference of two prices."""
        return self.inner.profitandloss(size, price, newprice) * (self.rate * self._unit)

    def cashadjust(self, size: float, price: float, newprice: float) -> Any:
        """Return the cash that contracts bring by the difference of two prices."""
        return self.inner.cashadjust(size, price, newprice) * (self.rate * self._unit)

    def get_credit_interest(self, data: Any, pos: Any, dt: Any) -> Any:
        """Return the interest since the bar before, at the rate that was known when this one opened."""
        charged = self.inner.get_credit_interest(data, pos, dt)
        if not charged:
            return charged
        self.begin(data.datetime[0], closing=False)
        try:
            return charged * (self.rate * self._unit)
        finally:
            self.end()


class Converting:
    """
    The part of a broker that lets `Converted` models know when an order is checked or filled.

    It is checked at the price that it was given at, and so at the rate known at that close. A fill is at the rate known
    when its bar opened, as nobody knows when in it a limit is reached; one at a close, at the rate known at that close.
    """

    def _execute(
        self, order: Any, ago: Any = None, price: Any = None, cash: Any = None, position: Any = None, dtcoc: Any = None
    ) -> Any:
        execute: Any = super()._execute  # type: ignore[misc]  # of Backtrader's broker
        model = self.getcommissioninfo(order.data)  # type: ignore[attr-defined]
        rest = {"ago": ago, "price": price, "cash": cash, "position": position, "dtcoc": dtcoc}
        if type(model) is not Converted:
            return execute(order, **rest)
        if ago is None:
            model.begin(order.created.dt, closing=True)
        else:
            model.begin(dtcoc or order.data.datetime[ago], closing=bool(dtcoc) or order.exectype == bt.Order.Close)
        try:
            return execute(order, **rest)
        finally:
            model.end()

    def _pretend(self, order: Any, *rest: Any) -> Any:  # of a lean broker
        pretend: Any = super()._pretend  # type: ignore[misc]
        model = self.getcommissioninfo(order.data)  # type: ignore[attr-defined]
        if type(model) is not Converted:
            return pretend(order, *rest)
        model.begin(order.created.dt, closing=True)
        try:
            return pretend(order, *rest)
        finally:
            model.end()


def converts_any(broker: Any) -> bool:
    """Return whether a broker has a `Converted` model."""
    return any(type(model) is Converted for model in broker.comminfo.values())


def convert_orders(broker: Any) -> None:
    """Let a broker of Backtrader's loops be `Converting`, in place, where a model of it is `Converted`."""
    if converts_any(broker) and not isinstance(broker, Converting):
        kind: Any = type(broker)
        broker.__class__ = converting(kind)


@cache  # Backtrader keeps each class that is ever made
def converting(kind: Any) -> Any:
    """Return the class of a broker, with the name that it has, that is `Converting`."""
    return new_class(
        kind.__name__,
        (Converting, kind),
        exec_body=lambda body: body.update(__module__=kind.__module__, __qualname__=kind.__qualname__),
    )
