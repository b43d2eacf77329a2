"""`Converted`: a commission model for prices in a currency or unit other than the account's."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from functools import cache
from types import new_class
from typing import TYPE_CHECKING, Any

import backtrader as bt
import numpy as np

from backtest.errors import UsageError

if TYPE_CHECKING:
    from backtest.engine.account.currencies import Conversion
    from backtest.engine.account.holdings import CashByCurrency


class PresentRow:
    """The current bar of a run, shared by all its models."""

    def __init__(self, stamps: np.ndarray, feeds: Sequence[Any]) -> None:
        self.stamps = stamps
        self._known, self._last = _floats(stamps), len(stamps) - 1
        self._feeds, self._stamp, self._row = list(feeds), 0.0, 0
        self._begun = False  # whether a feed alone has a bar, which is asked once

    def number(self) -> int:
        """Return the row of the newest bar that any feed shows."""
        if self._begun or (len(self._feeds) == 1 and len(self._feeds[0])):
            self._begun, stamp = True, self._feeds[0].datetime[0]
        else:
            stamp = max([feed.datetime[0] for feed in self._feeds if len(feed)], default=0.0)
        if stamp != self._stamp:
            self._stamp = stamp
            self._row = min(bisect_left(self._known, stamp), self._last)
        return self._row


def _floats(values: np.ndarray) -> array[float]:
    """Return numbers as an array whose items are Python floats; building a list would take longer."""
    return array("d", np.asarray(values, np.float64).tobytes())


class Converted(bt.CommInfoBase):
    """
    A commission model that gives Backtrader amounts in the currency of the account.

    The inner model sees prices in the currency of the instrument, in pounds if pence are quoted, so that its minimums
    are in that currency too. Amounts are converted at the rate known after the current bar of the run; while an order
    is checked or filled, at the rate known at that moment: see `Converting`.

    The margin of a contract is not an amount in the other currency. It is converted at the rate of the first bar, so
    that the amount released equals the amount set aside.
    """

    def __init__(self, inner: Any, conversion: Conversion, row: PresentRow, cash: CashByCurrency | None = None) -> None:
        super().__init__()
        self.params = self.p = inner.p
        self._stocklike, self._commtype, self._creditrate = inner._stocklike, inner._commtype, inner._creditrate
        self.inner, self._row, self.cash, self.currency = inner, row, cash, conversion.unit.currency
        self._unit = conversion.unit.share
        self._stamps, self._opening = _floats(conversion.stamps), _floats(conversion.opening)
        self._closing, self._rows, self._by_row = _floats(conversion.closing), _floats(conversion.rows), conversion.rows
        self._first = self._rows[0]
        self._at: float | None = None  # the rate of an order, while it is checked or filled
        self._factor: float | None = None  # and the value of a price unit at that time
        self._plain = inner._stocklike and all(
            getattr(type(inner), name) is getattr(bt.CommInfoBase, name) and name not in vars(inner)
            for name in ("getvaluesize", "profitandloss")
        )

    @property
    def unit(self) -> float:
        """The amount of the instrument's currency in one unit of price."""
        return self._unit

    @property
    def rate(self) -> float:
        """The current value of one unit of the instrument's currency."""
        return self._rows[self._row.number()] if self._at is None else self._at

    @property
    def factor(self) -> float:
        """The current value of one unit of price."""
        return self._rows[self._row.number()] * self._unit if self._factor is None else self._factor

    def begin(self, stamp: float, closing: bool) -> None:
        """Take the rate that was known when the bar of a stamp opened, or closed, until `end`."""
        place = max(bisect_right(self._stamps, stamp) - 1, 0)
        self.take_rate((self._closing if closing else self._opening)[place])

    def take_rate(self, rate: float | None) -> float | None:
        """Take a rate until `end`, and return the one before; None for that of the present bar."""
        before, self._at = self._at, rate
        self._factor = None if rate is None else rate * self._unit
        return before

    def end(self) -> None:
        """Take the rate of the present bar again."""
        self._at = self._factor = None

    def in_base(self, amount: float) -> float:
        """Return the current value, in the account's currency, of an amount of sizes times prices."""
        return amount * self.factor

    def factors_at(self, stamps: np.ndarray) -> np.ndarray:
        """Return money of the account per unit of price after the bars of some stamps."""
        return self._by_row[np.searchsorted(self._row.stamps, stamps)] * self._unit

    # --- methods that Backtrader calls

    def get_margin(self, price: float) -> Any:
        """Return the cash that a contract ties up."""
        return self.inner.get_margin(price * self._unit) * self._first

    def get_leverage(self) -> Any:
        """Return the leverage that the inner model allows."""
        return self.inner.get_leverage()

    def getsize(self, price: float, cash: float) -> Any:
        """Return the size that cash pays."""
        if self._stocklike:
            return self.inner.getsize(price * self.factor, cash)
        return self.inner.getsize(price * self._unit, cash / self._first)

    def getoperationcost(self, size: float, price: float) -> Any:
        """Return the cash that an order takes."""
        if self._stocklike:
            return self.inner.getoperationcost(size, price) * self.factor
        return self.inner.getoperationcost(size, price * self._unit) * self._first

    def getvaluesize(self, size: float, price: float) -> Any:
        """Return the value of a size."""
        if self._plain:  # as Backtrader's own does, without the call
            factor = self._factor
            return size * price * (self.factor if factor is None else factor)
        if self._stocklike:
            return self.inner.getvaluesize(size, price) * self.factor
        return self.inner.getvaluesize(size, price * self._unit) * self._first

    def getvalue(self, position: Any, price: float) -> Any:
        """Return the value of a position."""
        if self._stocklike:
            return self.inner.getvalue(position, price) * self.factor
        return self.inner.getvalue(position, price * self._unit) * self._first

    def _getcommission(self, size: float, price: float, pseudoexec: bool) -> Any:
        return self.inner._getcommission(size, price * self._unit, pseudoexec) * self.rate

    def getcommission(self, size: float, price: float) -> Any:
        """Return the commission, which a model may compute in its own way."""
        charged = self.inner.getcommission(size, price * self._unit)
        if self.cash is None or self._at is None:
            return charged * self.rate
        worth = self.inner.getvaluesize(size, price) * self._unit
        return charged * self._at + self.cash.fee(self.currency, worth + charged, self._at)

    def confirmexec(self, size: float, price: float) -> Any:
        """Pass a fill on to the inner model."""
        return self.inner.confirmexec(size, price * self._unit)

    def profitandloss(self, size: float, price: float, newprice: float) -> Any:
        """Return the profit by the difference of two prices."""
        if self._plain:
            return size * (newprice - price) * self.p.mult * self.factor
        return self.inner.profitandloss(size, price, newprice) * self.factor

    def cashadjust(self, size: float, price: float, newprice: float) -> Any:
        """Return the cash that contracts bring by the difference of two prices."""
        return self.inner.cashadjust(size, price, newprice) * self.factor

    def get_credit_interest(self, data: Any, pos: Any, dt: Any) -> Any:
        """Return the interest since the bar before, at the rate that was known when this one opened."""
        charged = self.inner.get_credit_interest(data, pos, dt)
        if not charged:
            return charged
        self.begin(data.datetime[0], closing=False)
        try:
            return charged * self.factor
        finally:
            self.end()


class Converting:
    """
    The part of a broker that lets `Converted` models know when an order is checked or filled.

    An order is checked at the close at which it was submitted, and at the rate known then. A fill uses the rate known
    when its bar opened, since the moment at which a limit is reached is unknown; a fill at a close uses the rate known
    at that close.
    """

    def _execute(
        self, order: Any, ago: Any = None, price: Any = None, cash: Any = None, position: Any = None, dtcoc: Any = None
    ) -> Any:
        execute: Any = super()._execute  # type: ignore[misc]  # of Backtrader's broker
        model = self.getcommissioninfo(order.data)  # type: ignore[attr-defined]
        at_close = {} if dtcoc is None else {"dtcoc": dtcoc}
        if type(model) is not Converted:
            return execute(order, ago, price, cash, position, **at_close)
        if ago is None:
            model.begin(order.created.dt, closing=True)
        else:
            model.begin(dtcoc or order.data.datetime[ago], closing=bool(dtcoc) or order.exectype == bt.Order.Close)
        if model.cash is not None:
            if order.exectype == bt.Order.Close or dtcoc:
                raise UsageError(
                    "an order at the close cannot be filled while cash is held in each currency; leave out --conversion"
                )
            model.cash.begin(self, model.currency, model.rate, real=ago is not None)
        try:
            if model.cash is None or ago is None:
                return execute(order, ago, price, cash, position, **at_close)
            return self._filled(order, model, lambda: execute(order, ago, price, cash, position, **at_close))
        finally:
            model.end()

    def _filled(self, order: Any, model: Converted, execute: Callable[[], Any]) -> Any:
        """Fill an order, and book the change of cash in the currency of its instrument."""
        broker: Any = self
        bits, before = len(order.executed.exbits), broker.cash
        found = execute()
        if len(order.executed.exbits) > bits and model.cash is not None:
            bit = order.executed.exbits[-1]
            model.cash.take(broker, model.currency, broker.cash - before, model.rate, bit)
        return found

    def next(self) -> None:
        """Do a bar's work, and value the cash that is held by currency."""
        super().next()  # type: ignore[misc]
        for model in self.comminfo.values():  # type: ignore[attr-defined]
            if type(model) is Converted and model.cash is not None:
                model.cash.end_bar(self)
                return  # one for all

    def _pretend(self, order: Any, *rest: Any) -> Any:  # of a lean broker
        pretend: Any = super()._pretend  # type: ignore[misc]
        model = self.getcommissioninfo(order.data)  # type: ignore[attr-defined]
        if type(model) is not Converted:
            return pretend(order, *rest)
        model.begin(order.created.dt, closing=True)
        if model.cash is not None:
            model.cash.begin(self, model.currency, model.rate, real=False)
        try:
            return pretend(order, *rest)
        finally:
            model.end()


def converts_any(broker: Any) -> bool:
    """Return whether a broker has a `Converted` model."""
    return any(type(model) is Converted for model in broker.comminfo.values())


def convert_orders(broker: Any) -> None:
    """Turn a broker of Backtrader's loops into a `Converting` one, in place, if it has a `Converted` model."""
    if converts_any(broker) and not isinstance(broker, Converting):
        kind: Any = type(broker)
        broker.__class__ = converting(kind)


@cache  # Backtrader keeps each class that is ever made
def converting(kind: Any) -> Any:
    """Return the `Converting` subclass of a broker's class, with the same name."""
    return new_class(
        kind.__name__,
        (Converting, kind),
        exec_body=lambda body: body.update(__module__=kind.__module__, __qualname__=kind.__qualname__),
    )
