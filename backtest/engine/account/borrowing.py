"""Fees for borrowed shares."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING, Any

import backtrader as bt
import numpy as np

from backtest.engine.account.commissions import read_number
from backtest.engine.account.fees import Dated
from backtest.errors import NoBars, UsageError
from backtest.market import arrays
from backtest.market.series import BAR_SIZES, Series

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Borrowing:
    """
    The annual cost of a short position, as a fraction of its value: for all series, for some, and from which dates on.

    Written as rules: "0.01" for all, "GME/1day=0.3" for one, "GME/1day@2021-01-25=0.8" from a date on.
    """

    rules: dict[str, tuple[tuple[str, float], ...]] = field(default_factory=dict)  # by short name, "" for all

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Borrowing:
        """
        Read rules.

        Raises:
            UsageError: one is not a rule.
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
        """Return the fee of a series by its short name; before the first date of its own rules, that for all series."""
        everywhere = self.rules.get("", ((_ALWAYS, 0.0),))
        own = self.rules.get(name, ())
        before = [row for row in everywhere if not own or row[0] < own[0][0]]
        rows = [*before, *own]
        return Dated.of(rows if rows[0][0] == _ALWAYS else [(_ALWAYS, 0.0), *rows])

    def charge(self, model: Any, name: str) -> Any:
        """Return the commission model of a series, by its short name, which also charges its fee, if there is any."""
        return charge_borrowing(model, self.rates(name)) if self.rules else model


STORED = "stored"  # the word for fees that were downloaded

# The collateral of a borrowed share: its close times a factor, rounded up to a whole unit of its currency. IBKR,
# "Interest and Financing: Calculations", and the reporting guide's "Borrow Fee Details", which divides a year by 360.
_COLLATERAL = {"USD": 1.02, "CAD": 1.02}
_DAYS_A_YEAR = 360


@dataclass(frozen=True, slots=True)
class StoredFees:
    """Borrow fees by the short name of the series and by day, as fractions of the collateral."""

    fees: Mapping[str, Dated] = field(default_factory=dict)

    @classmethod
    def of(cls, tables: Mapping[Series, pa.Table]) -> StoredFees:
        """
        Return the fees of series from stored FEE_RATE bars, whose closes are in percent per year.

        Raises:
            UsageError: IB's rule for the collateral is not known for the currency of a series.
        """
        for series in tables:
            currency = series.instrument.currency
            if currency not in _COLLATERAL:
                raise UsageError(
                    f"the amount that IB charges a borrow fee on is unknown for {series.short} in {currency}, and "
                    "only known for "
                    f"{' and '.join(_COLLATERAL)}; write a rate: --borrow 0.01"
                )
        return cls({series.short: _dated_fees(table) for series, table in tables.items()})

    def charge(self, model: Any, name: str) -> Any:
        """Return the commission model of a series, by its short name, which also charges its fee, if there is any."""
        if name not in self.fees:
            return model
        factor = _COLLATERAL[Series.parse(name).instrument.currency]
        return charge_collateral(model, self.fees[name], factor)


def fee_series(borrow: str, series: Iterable[Series]) -> dict[Series, Series]:
    """Return the daily FEE_RATE series of each stock among some series, if the run uses stored fees."""
    if borrow != STORED:
        return {}
    return {
        one: replace(one, size=BAR_SIZES["1day"], prices="FEE_RATE", regular_hours=True)
        for one in series
        if one.instrument.kind == "STK"
    }


def check_begun(series: Series, fees: Series, days: np.ndarray, table: pa.Table) -> None:
    """
    Refuse fees that begin after a run: the fee of the days before is unknown, and a later one would be look-ahead.

    Args:
        days: the sessions of the run's own bars.

    Raises:
        NoBars: no fee is stored for the first session or an earlier one.
    """
    first = _days_of(table)[0]
    if len(days) and first > days[0]:
        raise NoBars(
            f"the stored borrow fees of {series.short} begin on {first}, and its bars on {days[0]}; run: backtest "
            f"download {fees.quoted} --since {days[0]}; or begin the run later, or write a rate: --borrow 0.01"
        )


def days_without_fee(days: np.ndarray, table: pa.Table) -> dict[str, Any]:
    """Return the manifest's entry on sessions without a fee: how many there are, and the first ones."""
    missing = np.setdiff1d(days, _days_of(table))
    return {"days": len(table), "taken_from_before": len(missing), "first": [str(day) for day in missing[:_SHOWN]]}


_SHOWN = 5


def _days_of(table: pa.Table) -> np.ndarray:
    return arrays.numbers(table["time"]).astype("datetime64[us]").astype("datetime64[D]")


def _dated_fees(table: pa.Table) -> Dated:
    days = [one.toordinal() for one in _days_of(table).tolist()]
    return Dated(tuple(days), tuple((arrays.numbers(table["close"]) / 100).tolist()))


_ALWAYS = "0001-01-01"


def _day(text: str, rule: str) -> str:
    try:
        return date.fromisoformat(text).isoformat() if text else _ALWAYS
    except ValueError as error:
        raise UsageError(f"the borrow fee {rule!r} has no date ({error}); write GME/1day@2021-01-25=0.8") from error


class BookedBySize(defaultdict[Any, float]):
    """
    The borrow fees not booked yet, by feed; a fill is charged in proportion to the part of the position that it covers.

    Backtrader books all of them with the first fill that covers any of the position.
    """

    def __init__(self, broker: Any) -> None:
        super().__init__(float)
        self._broker = broker
        self.booked: dict[str, list[float]] = {}  # by feed: the fee of each fill that covered or closed a position
        self.charged: list[tuple[float, float]] = []  # the stamp of each bar with a fee, and the fee

    def __reduce_ex__(self, protocol: Any) -> Any:
        return defaultdict, (float,), None, None, iter(self.items())

    def __setitem__(self, data: Any, owed: float) -> None:
        """Set the amount owed by now; the increase belongs to this bar."""
        if fee := owed - self.get(data, 0.0):
            self.charged.append((data.datetime[0], fee))
        super().__setitem__(data, owed)

    def pop(self, data: Any, default: Any = 0.0) -> Any:
        """Return the fee to book with a fill, which the position already includes."""
        position, owed = self._broker.positions[data], super().pop(data, default)
        booked = owed
        if position.size and not position.upopened:  # neither closed nor reversed
            covered = abs(position.upclosed)
            booked = owed * covered / (covered + abs(position.size))
            super().__setitem__(data, owed - booked)
        self.booked.setdefault(data._name, []).append(booked)
        return booked

    def by_bar(self, stamps: np.ndarray) -> np.ndarray:
        """Return the fees of each bar of a run, by the stamps of all of them."""
        fees = np.zeros(len(stamps))
        if self.charged:
            when, amounts = np.array(self.charged).T
            np.add.at(fees, np.minimum(np.searchsorted(stamps, when), len(stamps) - 1), amounts)
        return fees

    def of(self, fills: pa.Table) -> np.ndarray:
        """Return the fee booked with each fill of a run."""
        names, size = fills["series"].to_pylist(), arrays.numbers(fills["size"])
        found, held = np.zeros(len(size)), dict.fromkeys(names, 0.0)
        told = {name: iter(amounts) for name, amounts in self.booked.items()}
        for n, name in enumerate(names):
            if held[name] * size[n] < 0:
                found[n] = next(told.get(name, iter(())), 0.0)
            held[name] += size[n]
            held[name] = 0.0 if abs(held[name]) < 1e-9 * abs(size[n]) else held[name]
        return found


class FilledFirst:
    """
    Checks submitted orders, and fills those for the previous close before the fee of that night is charged.

    Backtrader charges the night first: a position covered at Friday's close would pay for the weekend, and one sold
    short at that close would not.
    """

    def __init__(self, broker: Any) -> None:
        self._broker = broker

    def __call__(self) -> None:
        """Replace the broker's own `check_submitted`, its last step before it charges fees."""
        broker = self._broker
        type(broker).check_submitted(broker)
        if not broker.p.coc:
            return
        filled = fill_at_last_close(broker, broker.pending)
        for order in filled:  # up to that close, the earlier short position has paid
            broker.positions[order.data].datetime = bt.num2date(order.created.dt)
        if filled and getattr(broker, "rules", None) is not None:
            broker.rules.begin_bar(broker)


def is_at_last_close(broker: Any, order: Any) -> bool:
    """Return whether an order fills at the close of the bar in which it was submitted."""
    return bool(broker.p.coc and order.exectype == bt.Order.Market and order.info.get("coc", True))


def fill_at_last_close(broker: Any, pending: Iterable[Any]) -> list[Any]:
    """Try the pending orders that fill at the previous close, before anything else happens at this bar."""
    orders = [one for one in pending if is_at_last_close(broker, one) and one.active()]
    for order in orders:
        broker.pending.remove(order)
        broker._try_exec(order)
        if order.alive():
            broker.pending.append(order)
        elif order.status == order.Completed:
            broker._bracketize(order)
    return orders


def charge_borrowing(model: Any, rates: Dated) -> Any:
    """
    Return a commission model that also charges a daily fee for short positions, at their last close.

    Backtrader deducts it from the cash at the next bar, for all days since the previous bar (365 per year).
    """

    def fee(data: Any, size: float, price: float, days: int, until: date, since: date) -> float:
        days_of = range(since.toordinal(), until.toordinal())
        close = data.close[-1] if len(data) > 1 else price
        charged: float = abs(size) * close * sum(rates.on(day) for day in days_of) / 365
        return charged

    model._get_credit_interest = fee  # Backtrader's own hook for it
    return model


def charge_collateral(model: Any, rates: Dated, factor: float) -> Any:
    """
    Return a commission model that also charges for short positions as IB does, on their collateral.

    A day's fee applies to the shares that are short overnight; a day without a rate, such as a Sunday, uses the last
    rate before.
    """

    def fee(data: Any, size: float, price: float, days: int, until: date, since: date) -> float:
        close = data.close[-1] if len(data) > 1 else price
        lent = abs(size) * math.ceil(round(close * factor, 9))  # 102 % of 50 are 51, and no more
        charged: float = lent * sum(map(rates.on, range(since.toordinal(), until.toordinal()))) / _DAYS_A_YEAR
        return charged

    model._get_credit_interest = fee  # Backtrader's own hook for it
    return model
