"""What trading costs: commissions (`COSTS`), fees by date, and what borrowed shares and idle cash bear."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import Any

import backtrader as bt

from backtest import _arguments
from backtest._suggest import did_you_mean
from backtest.errors import UsageError
from backtest.market.bars import Series


@dataclass(frozen=True, slots=True)
class Costs:
    """A commission model: its name, what it charges in one sentence, as of when, and how Backtrader is told of it."""

    name: str
    definition: str
    make: Callable[..., Any]
    dated: str = ""  # when its newest rate began, or its page was read


@dataclass(slots=True)
class MonthlyVolume:
    """How many shares an account has traded in the present month, which the tiers go by."""

    month: int = 0
    shares: float = 0.0

    def of(self, month: int) -> float:
        """Return the shares of a month; none of one that has just begun."""
        return self.shares if month == self.month else 0.0

    def add(self, month: int, shares: float) -> None:
        """Count shares."""
        self.shares, self.month = self.of(month) + shares, month


@dataclass(frozen=True, slots=True)
class Dated:
    """A rate that changes: what it was from each date on; before the first, what it was first."""

    dates: tuple[int, ...]
    rates: tuple[Any, ...]

    @classmethod
    def of(cls, rows: Iterable[tuple[str, Any]]) -> Dated:
        """Make one of rows such as ("2024-05-22", 27.8), in order of time."""
        dates, rates = zip(*rows, strict=True)
        return cls(tuple(date.fromisoformat(text).toordinal() for text in dates), rates)

    def on(self, day: int) -> Any:
        """Return the rate of a day, counted as `date.toordinal` does."""
        return self.rates[max(bisect_right(self.dates, day) - 1, 0)]


# Both tables end in 2025, as `Costs.dated` says; later days take the last row, and days before a table its first.
# USD a million of sales, by the SEC's Fee Rate Advisories under Section 31 of the Exchange Act, by effective date.
SEC_FEE = Dated.of([
    ("2000-01-01", 33.3), ("2001-12-28", 15.0), ("2002-04-01", 30.1), ("2003-03-22", 25.2), ("2003-04-01", 46.8),
    ("2004-02-22", 39.0), ("2004-04-01", 23.4), ("2005-01-07", 32.9), ("2005-04-01", 41.8), ("2005-12-22", 30.7),
    ("2007-03-17", 15.3), ("2008-01-25", 11.0), ("2008-04-01", 5.6), ("2009-04-10", 25.7), ("2010-01-15", 12.7),
    ("2010-04-01", 16.9), ("2011-01-21", 19.2), ("2012-02-21", 18.0), ("2012-04-01", 22.4), ("2013-05-25", 17.4),
    ("2014-03-18", 22.1), ("2015-02-14", 18.4), ("2016-02-16", 21.8), ("2017-07-04", 23.1), ("2018-05-22", 13.0),
    ("2019-04-16", 20.7), ("2020-02-18", 22.1), ("2021-02-25", 5.1), ("2022-05-14", 22.9), ("2023-02-27", 8.0),
    ("2024-05-22", 27.8), ("2025-05-14", 0.0),
])  # fmt: skip

# USD a share sold and the most of a trade, by FINRA's By-Laws, Schedule A, Section 1 (Trading Activity Fee).
TRADING_ACTIVITY_FEE = Dated.of([
    ("2004-01-01", (0.000075, 3.75)), ("2011-07-01", (0.00009, 4.50)), ("2012-07-01", (0.000119, 5.95)),
    ("2022-01-01", (0.00013, 6.49)), ("2023-01-01", (0.000145, 7.27)), ("2024-01-01", (0.000166, 8.30)),
])  # fmt: skip

_TIERS = ((300_000, 0.0035), (3_000_000, 0.0020), (20_000_000, 0.0015), (100_000_000, 0.0010), (float("inf"), 0.0005))
_REMOVES_LIQUIDITY = 0.003  # USD a share, what most exchanges charge, and the most that Rule 610 lets them
_OF_CHEAP_SHARES = 0.003  # below 1 USD: a share of the value
_CLEARING, _MOST_CLEARING = 0.0002, 0.005  # NSCC and DTC: USD a share, at most this share of the value
_NYSE, _FINRA = 0.000175, 0.00056  # passed through: shares of the commission


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


class _Knowing:
    """The part of a model that knows the feed it is for, and so the day; without one it takes the newest rates."""

    data: Any = None

    @property
    def day(self) -> int:
        """The day of the present bar, counted as `date.toordinal` does."""
        return int(self.data.datetime[0]) if self.data is not None else date.max.toordinal()


class IbFixedFees(IbFixed, _Knowing):
    """
    IB's fixed pricing for US stocks, and the regulatory fees of sales that IB passes on, at the rates of their day.

    The fee for the Consolidated Audit Trail, below 0.0001 USD a share since 2024, is not in it.
    """

    def _getcommission(self, size: float, price: float, pseudoexec: bool) -> float:
        charged: float = super()._getcommission(size, price, pseudoexec)
        return charged + regulatory_fees(size, price, self.day)


class IbTiered(bt.CommInfoBase, _Knowing):
    """
    IB's tiered pricing for US stocks, with what exchanges, clearing and regulators charge beside.

    0.0035 USD a share, less beyond 300,000 shares a month, at least 0.35 and at most 1 % of the trade value; each
    order is taken to remove liquidity. Sales bear the regulatory fees at the rates of their day.

    Source: IBKR, "Commissions - Stocks", IBKR Pro tiered, North America, and its comparison of fixed and tiered.
    """

    params = (("minimum", 0.35), ("cap", 0.01), ("stocklike", True), ("percabs", True))
    traded: MonthlyVolume | None = None

    def _getcommission(self, size: float, price: float, pseudoexec: bool) -> float:
        shares, value = abs(size), abs(size) * price
        before = self.traded.of(self._month) if self.traded else 0.0
        commission = min(max(tiered(before, shares), self.p.minimum), value * self.p.cap)
        exchange = shares * _REMOVES_LIQUIDITY if price >= 1 else value * _OF_CHEAP_SHARES
        clearing = min(shares * _CLEARING, value * _MOST_CLEARING)
        charged: float = commission * (1 + _NYSE + _FINRA) + exchange + clearing
        return charged + regulatory_fees(size, price, self.day)

    def confirmexec(self, size: float, price: float) -> Any:
        """Count the shares, which Backtrader tells of here."""
        if self.traded is not None:
            self.traded.add(self._month, abs(size))

    @property
    def _month(self) -> int:
        day = date.fromordinal(self.day)
        return day.year * 12 + day.month


class IbForex(bt.CommInfoBase):
    """
    IB's pricing for spot currencies: 0.2 basis points of the trade value, at least 2 USD, an order.

    Source: IBKR, "Commissions - Spot Currencies", up to 1,000,000,000 USD a month, read 2026-11.
    """

    params = (("commission", 0.00002), ("minimum", 2.0), ("stocklike", True), ("percabs", True))

    def _getcommission(self, size: float, price: float, pseudoexec: bool) -> float:
        charged: float = max(abs(size) * price * self.p.commission, self.p.minimum) if size else 0.0
        return charged


class PerContract(bt.CommInfoBase):
    """
    Futures: so much money a contract, gains and losses by the multiplier, a margin a contract set aside.

    IB charges 0.85 USD a contract of US futures, and adds the exchange's and the regulator's fees: 2.25 USD in all of
    the E-mini S&P 500 (1.38 and 0.02). Source: IBKR, "Commissions - Futures", read 2026-11.
    """

    params = (("stocklike", False), ("commtype", bt.CommInfoBase.COMM_FIXED))


def tiered(before: float, shares: float) -> float:
    """Return IB's tiered commission of shares, after so many in the same month; each tier for the shares within it."""
    charged, start = 0.0, 0.0
    for end, rate in _TIERS:
        within = min(before + shares, end) - max(before, start)
        charged += max(within, 0.0) * rate
        start = end
    return charged


def regulatory_fees(size: float, price: float, day: int) -> float:
    """Return what the SEC and FINRA charge for a sale on a day; nothing for a purchase."""
    if size >= 0:
        return 0.0
    a_share, most = TRADING_ACTIVITY_FEE.on(day)
    fees: float = -size * price * SEC_FEE.on(day) / 1_000_000 + min(-size * a_share, most)
    return fees


def _free() -> Any:
    return bt.CommInfoBase(commission=0.0, stocklike=True, percabs=True)


COSTS = {
    row.name: row
    for row in (
        Costs(
            "ib-fixed",
            "IB fixed: 0.005 USD a share, at least 1 USD, at most 1 % of the value, an order",
            IbFixed,
            "2026-11",
        ),
        Costs(
            "ib-fixed-fees",
            "IB fixed, and SEC and FINRA fees of sales at the rates of their day",
            IbFixedFees,
            "2025-05-14",
        ),
        Costs(
            "ib-tiered",
            "IB tiered: 0.0035 USD a share and less, at least 0.35 USD, at most 1 % of the value, an order; exchange, "
            "clearing and pass-through fees, SEC and FINRA fees of sales at the rates of their day",
            IbTiered,
            "2025-05-14",
        ),
        Costs(
            "ib-forex",
            "IB spot currencies: 0.2 basis points of the value, at least 2 USD, an order",
            IbForex,
            "2026-11",
        ),
        Costs("none", "no costs", _free),
    )
}


def costs_named(text: str) -> Costs:
    """
    Return the costs of a name in COSTS, of "bp:RATE", or of "futures:FEE:MULTIPLIER:MARGIN".

    "bp:5" charges five basis points of the value of each fill; "futures:2.25:50:15000" charges 2.25 a contract, of
    which a point is worth 50 and that binds 15,000 of the cash.

    Raises:
        UsageError: there is no such name, or a number is off.
    """
    if text in COSTS:
        return COSTS[text]
    if commission := _COMMISSION.fullmatch(text):
        return _commission_named(text, commission)
    kind, *words = text.split(":")
    example = "write bp:5 for five basis points, or futures:FEE:MULTIPLIER:MARGIN such as futures:2.25:50:15000"
    numbers = [number(word, f"the costs {text!r}", example) for word in words]
    if kind == "bp" and len(numbers) == 1:
        return Costs(
            text,
            f"{words[0]} basis points of the value of each fill",
            _made(bt.CommInfoBase, commission=numbers[0] / 10_000, stocklike=True, percabs=True),
        )
    if kind == "futures" and len(numbers) == 3 and numbers[1] and numbers[2]:
        fee, multiplier, margin = numbers
        return Costs(
            text,
            f"{fee} a contract, a point of which is worth {multiplier}, with a margin of {margin}",
            _made(PerContract, commission=fee, mult=multiplier, margin=margin),
        )
    raise UsageError(f"no costs {text!r}; there are {', '.join(COSTS)}, or {example}{did_you_mean(text, COSTS)}")


def costs_of(given: Any) -> Costs:
    """
    Return the costs that a caller means.

    Args:
        given: a text as `costs_named` reads it; a number, the share of each fill's value that is charged, 0.001 for a
            tenth of a percent, as in Backtrader's `setcommission(commission=0.001)`; a row as in `COSTS`; or a
            commission of Backtrader's, a `bt.CommInfoBase` or a class of such.

    A commission's name, by which a run keeps it, is its class and its parameters; a class of the caller's is followed
    by a hash of its source. Only one of Backtrader's own classes can be made again from that name.

    Raises:
        UsageError: it is none of them.
    """
    if isinstance(given, Costs):
        return given
    if isinstance(given, str):
        return costs_named(given)
    if isinstance(given, type) and issubclass(given, bt.CommInfoBase):
        return _of_commission(_made_alone(given))
    if isinstance(given, bt.CommInfoBase):
        return _of_commission(given)
    example = f'write 0.001 for a tenth of a percent of the value, "bp:10" for the same, or one of {", ".join(COSTS)}'
    share = _arguments.number(given, "costs", example)
    if not 0 <= share < 1:
        _arguments.refuse("costs", given, example)
    return costs_named(f"bp:{(Decimal(repr(share)) * 10_000).normalize():f}" if share else "none")


def check_told_apart(costs: Costs) -> None:
    """
    Refuse costs whose name may also be that of others: what is kept by it would be taken for what they gave.

    Raises:
        UsageError: a commission is of a class whose source is not known, or has parameters that are no plain values.
    """
    if costs.name.endswith("}") and not costs.name.startswith(_OURS):
        raise UsageError(
            f"the costs {costs.name} could not be told from others of that name: the class has no source, or has "
            "parameters that are neither numbers nor texts; put it into a file, with numbers and texts as parameters"
        )


_OURS = "bt."  # in front of the names of Backtrader's own classes
_OWN = {f"{_OURS}{kind.__name__}": kind for kind in (bt.CommInfoBase, bt.CommissionInfo)}  # made again from a name
_COMMISSION = re.compile(r"([\w.]+)(\{.*\})(#[0-9a-f]{12})?", re.DOTALL)
_PLAIN = str | int | float | None


def _of_commission(commission: Any) -> Costs:
    kind = type(commission)
    params = {key: value for key, value in commission.p._getkwargs().items() if key in _DEFAULTS or value is not None}
    if commission._commtype == bt.CommInfoBase.COMM_PERC:
        params["percabs"] = True  # Backtrader has divided a percentage by 100 already
    told = {key: value if isinstance(value, _PLAIN) else type(value).__name__ for key, value in sorted(params.items())}
    rates = {key: value for key, value in told.items() if key not in _DEFAULTS or value != _DEFAULTS[key]}
    own = kind in _OWN.values()
    source = "" if own or told != params else _source_hash(kind)
    name = f"{_OURS if own else ''}{kind.__name__}{json.dumps(rates, sort_keys=True)}{source}"
    return Costs(name, f"a commission of the class {kind.__name__}", lambda: copy(commission))


def _made_alone(kind: type[Any]) -> Any:
    try:
        return kind()
    except TypeError as error:
        raise UsageError(
            f"{kind.__name__} cannot be made without arguments ({error}); give one that is made"
        ) from error


def _source_hash(kind: type[Any]) -> str:
    try:
        return "#" + hashlib.sha256(inspect.getsource(kind).encode()).hexdigest()[:12]
    except (OSError, TypeError):
        return ""  # typed at a prompt


def _commission_named(text: str, found: re.Match[str]) -> Costs:
    if not text.startswith(_OURS):
        raise UsageError(
            f"the costs {text} were those of a class of yours, of which a record has the name and the parameters only; "
            f"give the commission itself again: costs={found[1]}(...)"
        )
    try:
        return replace(_of_commission(_OWN[found[1]](**json.loads(found[2]))), name=text)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"the costs {text!r} are no commission of Backtrader's ({error}); give it anew") from error


_DEFAULTS: dict[str, Any] = dict(bt.CommInfoBase.params._getitems())


def model_for(costs: Costs, feed: Any, traded: MonthlyVolume) -> Any:
    """Return the commission model for a feed; `traded` is the month's volume, which all feeds of a run share."""
    made = costs.make()
    made.data, made.traded = feed, traded
    return made


def _made(model: type[Any], **params: Any) -> Callable[..., Any]:
    return lambda: model(**params)


def number(text: str, what: str, example: str) -> float:
    """
    Return a number from 0 on that a user wrote.

    Raises:
        UsageError: it is none, or below 0.
    """
    try:
        found = float(text)
    except ValueError as error:
        raise UsageError(f"{what} has no number in it ({error}); {example}") from error
    if not 0 <= found < float("inf"):
        raise UsageError(f"{what} must not be below 0, nor infinite; {example}")
    return found


# --- what borrowed shares cost


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
            found = number(rate, f"the borrow fee {text!r}", "write 0.01, or GME/1day=0.3, or GME/1day@2021-01-25=0.8")
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
