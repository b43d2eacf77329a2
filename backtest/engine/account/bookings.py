"""`Bookings`: interest, booked into a broker's cash once a month, between two bars."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple, Protocol

import numpy as np

from backtest.engine.account.interest import BenchmarkRates, booking_days, collateral_of, of_a_day
from backtest.engine.account.payouts import receive

_EPOCH = 719_163  # 1970-01-01 as Backtrader counts days


class Balances(NamedTuple):
    """The state of an account after each of several consecutive bars."""

    stamps: np.ndarray
    cash: np.ndarray
    sizes: list[np.ndarray]  # of each feed
    closes: list[np.ndarray]


class Known(Protocol):
    """An object that knows the state of the account after each bar so far."""

    def since(self, row: int) -> Balances:
        """Return the balances after each bar from a row on, up to the last that is over."""


class Bookings:
    """
    Books the interest of a month on the third business day of the next, at the first bar of that day or later.

    A day's balance is that after its last bar, by the UTC date of the timestamp; a day without a bar has the balance of
    the day before. Interest starts with the first bar.

    Args:
        stamps: the timestamps of all bars of the run.
        rates: the benchmark rates.
        begins: the timestamp after which the run begins; earlier bars are a warm-up.

    Attributes:
        first, last: the first and the last day of the run.
    """

    def __init__(self, stamps: np.ndarray, rates: BenchmarkRates, begins: float = 0.0) -> None:
        self._days = (np.floor(stamps).astype(np.int64) - _EPOCH).astype("datetime64[D]")
        self._stamps, self._rates = stamps, rates
        own = self._days[int(np.searchsorted(stamps, begins, side="right")) :]
        self.first = own[0].item() if len(own) else date.max
        self.last = own[-1].item() if len(own) else date.min
        months = booking_days(self.first, self.last) if len(own) else []
        rows = [int(np.searchsorted(self._days, np.datetime64(day))) for _, day in months]
        self._due = [(row, month) for row, (month, _) in zip(rows, months, strict=True) if row < len(stamps)]
        self._open = [month for row, (month, _) in zip(rows, months, strict=True) if row >= len(stamps)]
        self._done = 0
        self.booked: list[tuple[float, float]] = []  # stamps and money

    @property
    def stamps(self) -> list[float]:
        """The timestamps at which a booking is due, in order."""
        return [float(self._stamps[row]) for row, _ in self._due]

    def pay(self, broker: Any, stamp: float, known: Known) -> None:
        """Book what is due before the bar of a stamp."""
        while self._done < len(self._due) and self._stamps[self._due[self._done][0]] <= stamp:
            row, month = self._due[self._done]
            self._done += 1
            money = self._of_month(month, known)
            if money:
                receive(broker, money)
                self.booked.append((float(self._stamps[row]), money))

    def left(self, known: Known) -> float:
        """Return the interest that was earned but not booked by the end."""
        months = [month for _, month in self._due[self._done :]] + self._open
        return sum(self._of_month(month, known) for month in months)

    def _of_month(self, month: date, known: Known) -> float:
        following = (month + timedelta(days=31)).replace(day=1)
        first, last = max(month, self.first), min(following - timedelta(days=1), self._days[-1].item())
        days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        if not days:
            return 0.0
        rows = np.searchsorted(self._days, np.array(days, "datetime64[D]"), side="right") - 1
        balances = known.since(int(rows[0]))
        places = np.minimum(rows - rows[0], len(balances.cash) - 1)  # a run may be stopped
        return _total(balances, places, self._rates.on(days))


def _total(balances: Balances, places: Sequence[int] | np.ndarray, rates: np.ndarray) -> float:
    total = 0.0
    for place, rate in zip(places, rates.tolist(), strict=True):
        cash, collateral, worth = float(balances.cash[place]), 0.0, float(balances.cash[place])
        for sizes, closes in zip(balances.sizes, balances.closes, strict=True):
            size = float(sizes[place])
            if size:
                collateral += collateral_of(size, float(closes[place]))
                worth += size * float(closes[place])
        total += of_a_day(cash, collateral, worth, rate)
    return total
