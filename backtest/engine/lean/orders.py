"""Orders and positions of a lean broker: Backtrader's, with the same values in less time; hot."""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta
from typing import Any

from backtrader.order import BuyOrder, OrderBase, OrderData, SellOrder
from backtrader.position import Position
from backtrader.utils import AutoOrderedDict
from backtrader.utils.date import num2date

MARKET, CLOSE, LIMIT, STOP, STOP_LIMIT, STOP_TRAIL, STOP_TRAIL_LIMIT, _ = range(8)  # as Order numbers them
CREATED, SUBMITTED, ACCEPTED, PARTIAL, COMPLETED, CANCELED = range(6)

_new = object.__new__
_MILLISECOND = 1 / 86_400_000  # more than stamps and their conversions are rounded by
_DAY_END = time(23, 59, 59, 9999)  # how Backtrader ends the day of an order that is valid for the day


def clone(order: Any) -> Any:
    """Return the result of `order.clone()`, without `copy`, which takes ten times as long: each notification is one."""
    filled, kind = order.executed, type(order)
    if (kind is not BuyOrder and kind is not SellOrder) or type(filled) is not OrderData:
        return order.clone()
    filled.p1, filled.p2 = filled.p2, len(filled.exbits)  # as OrderData.markpending
    twin, executed = _new(kind), _new(OrderData)
    twin.__dict__.update(order.__dict__)
    executed.__dict__.update(filled.__dict__)
    twin.executed = executed
    return twin


def new_order(kind: Any, sessions: dict[Any, Any], **wanted: Any) -> Any:
    """
    Return the order that Backtrader would make of these parameters.

    Args:
        kind: `BuyOrder` or `SellOrder`.
        sessions: for each feed, the time of day of its last order and the end of its session; updated here.
    """
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
    # As attributes of the order itself they avoid Backtrader's detour through the parameters.
    data, size, limit = wanted["data"], wanted["size"], wanted["pricelimit"]
    order.data, order.parent, order.transmit = data, wanted["parent"], wanted["transmit"]
    order._plimit = limit
    exectype = wanted["exectype"]
    order.exectype = MARKET if exectype is None else exectype
    order.size = size = size if kind is BuyOrder else -size
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
        start, created.price = created.price, float("inf") if kind is BuyOrder else float("-inf")
        order.trailadjust(start)
    order.executed = OrderData(remsize=size)
    order.position = 0
    order.valid = _valid(wanted["valid"], data)
    order.dteos = _session_end(data, created.dt, sessions)
    return order


def _session_end(data: Any, stamp: float, sessions: dict[Any, Any]) -> float:
    """Return the end of the session that contains a timestamp; within the same day without converting dates."""
    end, day = data.p.sessionend, int(stamp)
    known_end, given_at, ends_at = sessions.get(data, (None, 0.0, 0.0))
    if known_end is end and stamp - day == given_at:  # as for each daily bar; parts of a day are exact since 1436
        return day + float(ends_at)
    zone = data.datetime._tz
    if zone is None and data._tz is None:  # local times may be on another day
        parts = end.hour / 24.0, end.minute / 1440.0, end.second / 86400.0, end.microsecond / 86400e6
        number = math.fsum((float(day), *parts))  # as date2num adds them
        if stamp < number - _MILLISECOND or _is_by(stamp, end):
            sessions[data] = end, stamp - day, number - day
            return number
    given = num2date(stamp, tz=zone)
    close = given.replace(hour=end.hour, minute=end.minute, second=end.second, microsecond=end.microsecond)
    converted: float = data.date2num(close if close >= given else close + timedelta(days=1))
    return converted


def _is_by(stamp: float, end: time) -> bool:
    """Return whether the time of a stamp, as num2date computes it, is by another, and no rounding ends its day."""
    hour, rest = divmod(24.0 * (stamp - int(stamp)), 1)
    minute, rest = divmod(60.0 * rest, 1)
    second, rest = divmod(60.0 * rest, 1)
    microsecond = int(1e6 * rest)
    if microsecond > 999990:
        return False
    given = hour, minute, second, microsecond
    return given <= (end.hour, end.minute, end.second, end.microsecond)


def _valid(valid: Any, data: Any) -> Any:
    if isinstance(valid, date):
        return data.date2num(valid)
    if isinstance(valid, timedelta):
        if valid == OrderBase.DAY:
            return data.date2num(datetime.combine(data.datetime.date(), _DAY_END))
        return data.date2num(data.datetime.datetime() + valid)
    if valid:
        data.datetime[0] + valid  # which raises on what is not a number, and is Backtrader's only use of the sum
    return valid  # kept as given, and compared with absolute stamps


def named_as_its_base(cls: Any) -> Any:
    """Give a class the name of the Backtrader class that it replaces, since users see it."""
    cls.__module__, cls.__name__, cls.__qualname__ = (
        getattr(cls.__base__, name) for name in ("__module__", "__name__", "__qualname__")
    )
    return cls


@named_as_its_base
class LeanPosition(Position):
    """
    A position whose date and adjustment base, which change with every bar, are computed on access.

    It looks like the position that Backtrader would have there, and is pickled and copied as that one.
    """

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

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        """What a stock position holds."""
        shown = {name: value for name, value in _held(self).items() if name not in _OWN}
        shown["adjbase"] = self.adjbase
        return shown if self._stamp is None else {**shown, "datetime": self.datetime}

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Position, (), self.__dict__


_OWN = ("_data", "_stamp", "_base", "_touched")
_held = Position.__dict__["__dict__"].__get__


def stock_position(position: Any) -> None:
    """Turn it into one of Backtrader's own, in place, since users may keep a reference."""
    if type(position) is not LeanPosition:
        return
    shown, held = position.__dict__, _held(position)
    position.__class__ = Position
    held.clear()
    held.update(shown)


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
