"""`Payouts`: dividends, paid into a broker's cash between two bars; hot only on ex-dates."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backtest.engine.account.dividends import Dividends
from backtest.engine.feed import close_stamps
from backtest.market import arrays
from backtest.market.hours import Hours
from backtest.market.series import Series
from backtest.market.session_days import session_days

if TYPE_CHECKING:
    import pyarrow as pa


class Payout(NamedTuple):
    """A dividend per share of a feed's series, and the timestamp of its ex-dividend bar."""

    stamp: float
    data: Any
    amount: float


class Payouts:
    """
    Pays dividends on positions held at the close before an ex-date, before anything else happens at that bar.

    Short positions pay the full amount, long ones receive it after withholding tax. A fill at the previous close, which
    Backtrader books only with the next bar, counts as held.
    """

    def __init__(self, due: Iterable[Payout], withholding: float) -> None:
        self._due, self._kept = sorted(due, key=lambda one: one.stamp), 1 - withholding
        self._paid = 0  # of those that are due
        self._watched: list[tuple[Payout, float, list[tuple[Any, int]]]] = []

    @property
    def stamps(self) -> list[float]:
        """When something is due, in order."""
        return [one.stamp for one in self._due]

    def pay(self, broker: Any, stamp: float, known: Any = None) -> None:
        """Pay what is due before the bar of a timestamp, on the positions before the broker processes it."""
        while self._paid < len(self._due) and self._due[self._paid].stamp <= stamp:
            one = self._due[self._paid]
            self._paid += 1
            # Requesting a position that does not exist would create it.
            held = broker.positions[one.data].size if one.data in broker.positions else 0
            receive(broker, self._money(held, one.amount))
            waiting = (order for order in (*broker.get_orders_open(), *broker.submitted) if order is not None)
            orders = [(order, len(order.executed.exbits)) for order in waiting if order.data is one.data]
            if orders:
                self._watched.append((one, held, orders))
                broker.next = lambda: self._next(broker)

    def _next(self, broker: Any) -> None:
        """Process a bar as the broker, and pay dividends on fills of the previous close that it books."""
        del broker.next
        broker.next()
        watched, self._watched = self._watched, []
        for one, held, orders in watched:
            bits = (bit for order, known in orders for bit in islice(order.executed.exbits, known, None))
            late = sum(bit.size for bit in bits if bit.dt < one.stamp)
            receive(broker, self._money(held + late, one.amount) - self._money(held, one.amount), after=True)

    def _money(self, size: float, amount: float) -> float:
        return size * amount * (self._kept if size > 0 else 1.0)


class Several:
    """Several payments and bookings between bars, in this order."""

    def __init__(self, every: Iterable[Any]) -> None:
        self._every = list(every)

    @property
    def stamps(self) -> list[float]:
        """When something is due, in order."""
        return sorted(stamp for one in self._every for stamp in one.stamps)

    def pay(self, broker: Any, stamp: float, known: Any = None) -> None:
        """Pay what is due before the bar of a stamp."""
        for one in self._every:
            one.pay(broker, stamp, known)


def payouts_of(bars: pa.Table, series: Series, hours: Hours, paid: Dividends | None) -> tuple[np.ndarray, np.ndarray]:
    """
    Return the timestamp of the ex-dividend bar of each dividend, and the amounts; none before the second bar.

    Args:
        bars: the bars of the series' feed.
    """
    if paid is None or not paid.days or not len(bars):
        return np.zeros(0), np.zeros(0)
    days = session_days(arrays.numbers(bars["time"]).astype("datetime64[us]"), series, hours)
    rows = np.searchsorted(days, paid.dates)
    within = (rows > 0) & (rows < len(bars))
    return close_stamps(bars, series.size)[rows[within]], np.array(paid.amounts)[within]


def receive(broker: Any, money: float, after: bool = False) -> None:
    """Add money that a broker earned to its cash; it counts neither as trading nor as a cash flow."""
    if not money:
        return
    if hasattr(broker, "receive"):  # in the lean loop
        broker.receive(money, after)
        return
    vars(broker)["cash"] += money
    if not after and getattr(broker, "rules", None) is not None:
        broker.rules.received(money)
    if after:
        broker._get_value()
