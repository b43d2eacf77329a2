"""`OpenOrder`: an order that is open after a run's last bar, as its broker would continue it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import new_class
from typing import Any

import backtrader as bt
import numpy as np

from backtest.engine.code.strategy import Strategy
from backtest.engine.recorder import bar_times
from backtest.market.series import Series


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """An order that waits for the next bar; open orders are numbered from 1 in the order of submission."""

    number: int
    series: str
    side: str  # "buy" or "sell"
    kind: str  # as Backtrader spells it: "Market", "Limit", "Stop", ...
    size: float  # its remaining shares or contracts, 0.0 or more
    price: float | None  # the price of a limit or a stop, for a trailing one the current price; None for a market order
    limit: float | None  # the limit price of a triggered stop-limit
    given: datetime  # the close of the bar at which it was submitted, UTC; for a daily bar its date
    until: datetime | None  # when it expires; None if it does not
    after: int | None  # the number of the order that has to be filled first
    instead_of: tuple[int, ...]  # the numbers of those that end when it is filled
    paid: bool  # whether the account can pay for it at the close at which it was submitted; if not, it is rejected


def watched_to_the_end(
    strategy: Strategy, series: list[Series], tell: Callable[[tuple[OpenOrder, ...]], object]
) -> Strategy:
    """Return a strategy that reports its open orders after its last bar, before its own `stop`."""
    own: Any = strategy.cls

    def stop(self: Any) -> None:
        tell(_open_orders(self.broker, series))
        own.stop(self)

    body = {"stop": stop, "__module__": own.__module__, "__doc__": own.__doc__}
    return replace(strategy, cls=new_class(own.__name__, (own,), exec_body=lambda names: names.update(body)))


def _open_orders(broker: Any, series: list[Series]) -> tuple[OpenOrder, ...]:
    waiting = {order.ref: order for order in [*broker.orders, *broker.pending, *broker.submitted] if order.alive()}
    numbers = {ref: number for number, ref in enumerate(sorted(waiting), 1)}
    refused = _refused(broker)
    return tuple(_open_order(waiting[ref], broker, series, numbers, ref not in refused) for ref in numbers)


def _open_order(order: Any, broker: Any, series: list[Series], numbers: dict[int, int], paid: bool) -> OpenOrder:
    created = order.created
    priced = order.exectype not in (bt.Order.Market, bt.Order.Close)
    parent = order.parent.ref if order.parent is not None and not order.active() else None
    return OpenOrder(
        number=numbers[order.ref],
        series=order.data._name,
        side="buy" if order.isbuy() else "sell",
        kind=order.getordername(),
        size=float(abs(order.executed.remsize)),
        price=_number(created.price) if priced else None,
        limit=_number(created.pricelimit) if priced else None,
        given=_moment(created.dt, series),
        until=_moment(order.valid, series) if order.valid else None,
        after=numbers.get(parent) if parent is not None else None,
        instead_of=tuple(numbers[ref] for ref in _rivals(order, broker) if ref in numbers),
        paid=paid,
    )


def _rivals(order: Any, broker: Any) -> list[int]:
    """Return the references of the orders of which only one may fill: `oco` orders, or the two exits of a bracket."""
    # Backtrader's own tables: of each order the leader of its group, and of each leader the group.
    group = broker._ocol.get(broker._ocos.get(order.ref), [])
    ends = broker._pchildren.get(order.parent.ref, []) if order.parent is not None else []
    return sorted({*group, *(one.ref for one in ends if one is not order.parent)} - {order.ref})


def _refused(broker: Any) -> set[int]:
    """
    Return the references of those that the broker would refuse at the next bar, for lack of cash or by its account.

    For lack of cash, this repeats the check of `check_submitted` in Backtrader's broker, from the same cash and
    positions, without side effects.
    """
    if getattr(broker, "rules", None) is not None:
        found: set[int] = broker.rules.refused_of(broker) if broker.p.checksubmit else set()
        return found
    cash, positions, refused = broker.cash, dict[Any, Any](), set()
    for order in broker.submitted if broker.p.checksubmit else ():
        if order.parent is not None and order.parent.ref in refused:
            refused.add(order.ref)
            continue
        position = positions.setdefault(order.data, broker.getposition(order.data).clone())
        cash = broker._execute(order, cash=cash, position=position)
        if cash < 0:
            refused.add(order.ref)
    return refused


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _moment(stamp: float, series: list[Series]) -> datetime:
    moment: datetime = bar_times(np.array([stamp]), series)[0].astype(datetime)
    return moment.replace(tzinfo=UTC)
