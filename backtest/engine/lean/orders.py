"""Orders and positions of a lean broker: Backtrader's with the same values in less time; hot."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any

from backtrader.order import BuyOrder, OrderBase, OrderData, SellOrder
from backtrader.position import Position
from backtrader.utils import AutoOrderedDict
from backtrader.utils.date import num2date

MARKET, CLOSE, LIMIT, STOP, STOP_LIMIT, STOP_TRAIL, STOP_TRAIL_LIMIT, _ = range(8)  # as Order numbers them
CREATED, SUBMITTED, ACCEPTED, PARTIAL, COMPLETED = range(5)

_new = object.__new__
_DAY_END = time(23, 59, 59, 9999)  # how Backtrader ends the day of an order that is valid for the day


class _FilledData(OrderData):
    """What is filled of an order; cloned with each notification, which `copy` takes ten times as long for."""

    def clone(self) -> _FilledData:
        self.markpending()
        twin = _new(_FilledData)
        twin.__dict__.update(self.__dict__)
        return twin


class _Lean:
    """An order that is made and cloned without the detours of Backtrader's parameters and `copy`."""

    created: Any
    executed: Any
    data: Any

    def clone(self) -> Any:
        twin = _new(type(self))
        twin.__dict__.update(self.__dict__)
        twin.executed = self.executed.clone()
        return twin

    @property
    def dteos(self) -> float:
        """The end of the session it was given in: two conversions of dates, which only orders of kind Close need."""
        given = num2date(self.created.dt, tz=self.data.datetime._tz)
        end = self.data.p.sessionend
        close = given.replace(hour=end.hour, minute=end.minute, second=end.second, microsecond=end.microsecond)
        number: float = self.data.date2num(close if close >= given else close + timedelta(days=1))
        return number


class LeanBuy(_Lean, BuyOrder):
    """An order to buy."""


class LeanSell(_Lean, SellOrder):
    """An order to sell."""


def new_order(kind: Any, **wanted: Any) -> Any:
    """Return the order that Backtrader would make of these parameters."""
    # As OrderBase.__init__ does, name by name; its metaclass would copy the table of parameters for each order.
    order, params = _new(kind), _new(kind.params)
    params.__dict__.update(wanted, oco=None, simulated=False)
    order.params = order.p = params
    order.ref = next(OrderBase.refbasis)
    order.broker = order.comminfo = None
    order.info = AutoOrderedDict()
    order.triggered = False
    order._active = wanted["parent"] is None
    order.status = CREATED
    # Found in the order itself, Backtrader's way round by the parameters is saved each time.
    data, size, limit = wanted["data"], wanted["size"], wanted["pricelimit"]
    order.data, order.parent, order.transmit = data, wanted["parent"], wanted["transmit"]
    order._plimit = limit
    exectype = wanted["exectype"]
    order.exectype = MARKET if exectype is None else exectype
    order.size = size = size if kind is LeanBuy else -size
    close, price = data.close[0], wanted["price"]
    order.created = created = OrderData(
        dt=data.datetime[0],
        size=size,
        price=price if price or limit else close,
        pricelimit=limit,
        pclose=close,
        trailamount=wanted["trailamount"],
        trailpercent=wanted["trailpercent"],
    )
    order._limitoffset = 0.0
    if order.exectype in (STOP_TRAIL, STOP_TRAIL_LIMIT):
        order._limitoffset = created.price - created.pricelimit
        start, created.price = created.price, float("inf") if kind is LeanBuy else float("-inf")
        order.trailadjust(start)
    order.executed = _FilledData(remsize=size)
    order.position = 0
    order.valid = _valid(wanted["valid"], data)
    return order


def _valid(valid: Any, data: Any) -> Any:
    if isinstance(valid, date):
        return data.date2num(valid)
    if isinstance(valid, timedelta):
        if valid == OrderBase.DAY:
            return data.date2num(datetime.combine(data.datetime.date(), _DAY_END))
        return data.date2num(data.datetime.datetime() + valid)
    if valid:
        data.datetime[0] + valid  # which raises on what is no number, and is Backtrader's only use of the sum
    return valid  # kept as given, and compared with absolute stamps


class LeanPosition(Position):
    """A position whose date and base of adjustment, which move with every bar, are worked out when somebody looks."""

    _data: Any = None
    _stamp: Any = None
    _base: Any = None
    _touched = -1

    @property
    def datetime(self) -> Any:
        """The time of the data's bar while it is open, and of the last fill thereafter."""
        stamp = self._data.datetime[0] if self._data is not None and self.size else self._stamp
        if stamp is None:
            raise AttributeError("datetime")  # as a stock position says before its first fill
        return num2date(stamp, tz=self._data.datetime._tz)

    @datetime.setter
    def datetime(self, stamp: Any) -> None:
        self._stamp = stamp

    @property
    def adjbase(self) -> Any:
        """The close while it is open; thereafter what it was before the fill that closed it."""
        return self._data.close[0] if self._data is not None and self.size else self._base

    @adjbase.setter
    def adjbase(self, price: Any) -> None:
        self._base = price


def stock_position(position: LeanPosition) -> None:
    """Make it one of Backtrader's own, in place: users may hold on to it."""
    base, when = position.adjbase, None if position._stamp is None else position.datetime
    for name in ("_data", "_stamp", "_base", "_touched"):
        position.__dict__.pop(name, None)
    position.__class__ = Position
    position.adjbase = base
    if when is not None:
        position.datetime = when


def after(held: Any, paid: float, size: Any, price: float) -> tuple[Any, float, Any, Any]:
    """Return size, price, opened and closed of a position after a fill, by the arithmetic of `Position.update`."""
    left = held + size
    if not left:
        return left, 0.0, 0, size
    if not held:
        return left, price, size, 0
    if (held > 0) == (size > 0):
        return left, (paid * held + size * price) / left, size, 0
    if (held > 0) == (left > 0):
        return left, paid, 0, size
    return left, price, left, -held
