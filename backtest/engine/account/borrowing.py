"""What borrowed shares cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.engine.account.commissions import read_number
from backtest.engine.account.fees import Dated
from backtest.errors import UsageError
from backtest.market import arrays
from backtest.market.series import Series

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Borrowing:
    """
    What it costs a year to be short, as a share of the value: for all series, for some, and from which dates on.

    Written as rules: "0.01" for all, "GME/1day=0.3" for one, "GME/1day@2021-01-25=0.8" from a date on.
    """

    rules: dict[str, tuple[tuple[str, float], ...]] = field(default_factory=dict)  # by short name, "" for all

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Borrowing:
        """
        Read rules.

        Raises:
            UsageError: one is no rule.
        """
        rules: dict[str, list[tuple[str, float]]] = {}
        for text in texts:
            where, _, rate = text.rpartition("=")
            name, _, since = where.partition("@")
            found = read_number(
                rate, f"the borrow fee {text!r}", "write 0.01, or GME/1day=0.3, or GME/1day@2021-01-25=0.8"
            )
            rules.setdefault(Series.parse(name).short if name else "", []).append((_day(since, text), found))
        return cls({name: tuple(sorted(rows)) for name, rows in rules.items()})

    def rates(self, name: str) -> Dated:
        """Return the fee of a series by its short name; before the first date of its own rules that of all."""
        everywhere = self.rules.get("", ((_ALWAYS, 0.0),))
        own = self.rules.get(name, ())
        before = [row for row in everywhere if not own or row[0] < own[0][0]]
        rows = [*before, *own]
        return Dated.of(rows if rows[0][0] == _ALWAYS else [(_ALWAYS, 0.0), *rows])


_ALWAYS = "0001-01-01"


def _day(text: str, rule: str) -> str:
    try:
        return date.fromisoformat(text).isoformat() if text else _ALWAYS
    except ValueError as error:
        raise UsageError(f"the borrow fee {rule!r} has no date ({error}); write GME/1day@2021-01-25=0.8") from error


class BookedBySize(defaultdict[Any, float]):
    """
    What borrowing has cost since it was booked, by feed; a fill is booked the share of the position that it covers.

    Backtrader books all of it with the first fill that covers any.
    """

    def __init__(self, broker: Any) -> None:
        super().__init__(float)
        self._broker = broker
        self.booked: dict[str, list[float]] = {}  # by the feed's name: with each fill that covered or closed anything

    def __reduce_ex__(self, protocol: Any) -> Any:
        return defaultdict, (float,), None, None, iter(self.items())

    def pop(self, data: Any, default: Any = 0.0) -> Any:
        """Return what is booked with a fill, which is in the position already."""
        position, owed = self._broker.positions[data], super().pop(data, default)
        booked = owed
        if position.size and not position.upopened:  # neither closed nor turned
            covered = abs(position.upclosed)
            booked = owed * covered / (covered + abs(position.size))
            self[data] = owed - booked
        self.booked.setdefault(data._name, []).append(booked)
        return booked

    def of(self, fills: pa.Table) -> np.ndarray:
        """Return what was booked with each fill of a run."""
        names, size = fills["series"].to_pylist(), arrays.numbers(fills["size"])
        found, held = np.zeros(len(size)), dict.fromkeys(names, 0.0)
        told = {name: iter(amounts) for name, amounts in self.booked.items()}
        for n, name in enumerate(names):
            if held[name] * size[n] < 0:
                found[n] = next(told.get(name, iter(())), 0.0)
            held[name] += size[n]
            held[name] = 0.0 if abs(held[name]) < 1e-9 * abs(size[n]) else held[name]
        return found


def charge_borrowing(model: Any, rates: Dated) -> Any:
    """
    Return a commission model that also charges for shares that are held short, by the day, at their last close.

    Backtrader takes it from the cash at the next bar, for all days since the bar before (365 a year).
    """

    def fee(data: Any, size: float, price: float, days: int, until: date, since: date) -> float:
        days_of = range(since.toordinal(), until.toordinal())
        close = data.close[-1] if len(data) > 1 else price
        charged: float = abs(size) * close * sum(rates.on(day) for day in days_of) / 365
        return charged

    model._get_credit_interest = fee  # Backtrader's own hook for it
    return model
