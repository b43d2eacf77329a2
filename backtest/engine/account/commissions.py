"""What a broker charges for a trade: `COSTS`."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from typing import Any, NamedTuple

import backtrader as bt

from backtest import _arguments
from backtest._suggest import did_you_mean
from backtest.engine.account.fees import Dated, regulatory_fees
from backtest.engine.code.failures import at, code_of_others, raised_by_us, said
from backtest.errors import UsageError


@dataclass(frozen=True, slots=True)
class Costs:
    """A commission model: its name, its charges in one sentence, their date, and how to set it in Backtrader."""

    name: str
    definition: str
    make: Callable[..., Any]
    dated: str = ""  # when its newest rate began, or its page was read


@dataclass(frozen=True, slots=True)
class CostsTimes(Costs):
    """A multiple of other costs."""

    of: Costs = field(kw_only=True)
    times: float = field(kw_only=True)


@dataclass(slots=True)
class MonthlyVolume:
    """The number of shares that an account has traded in the current month, which determines the tier."""

    month: int = 0
    shares: float = 0.0

    def of(self, month: int) -> float:
        """Return the shares traded in a month, 0 if it has just begun."""
        return self.shares if month == self.month else 0.0

    def add(self, month: int, shares: float) -> None:
        """Count shares."""
        self.shares, self.month = self.of(month) + shares, month


TIERS = ((300_000, 0.0035), (3_000_000, 0.0020), (20_000_000, 0.0015), (100_000_000, 0.0010), (float("inf"), 0.0005))
REMOVES_LIQUIDITY = 0.003  # USD per share: what most exchanges charge, and the maximum under Rule 610
OF_CHEAP_SHARES = 0.003  # below 1 USD: a fraction of the value
CLEARING, MOST_CLEARING = 0.0002, 0.005  # NSCC and DTC: USD per share, and at most this fraction of the value
PASSED_THROUGH = 1 + 0.000175 + 0.00056  # pass-through fees of NYSE and FINRA, as fractions of the commission


class OrderBill:
    """
    What the order being filled was charged so far in the session: IB's minimum and cap apply per order.

    Backtrader charges part by part: the closing and the opening part of a reversal, and each fill. For an order that
    stays open for days, each day counts as an order, as at IB.
    """

    def __init__(self) -> None:
        self.shares = 0.0  # shares of the order filled before this fill
        self._day = 0
        self._known: dict[int, _Charged] = {}  # of the day, by the order's reference
        self._order: Any = None
        self._filled = 0.0
        self._now = _NOTHING
        self._parts: list[tuple[float, float, float]] = []  # size, price and charge of those not confirmed yet

    @property
    def open(self) -> bool:
        """Whether an order is being filled."""
        return self._order is not None

    def begin(self, order: Any, day: int) -> None:
        """Note that an order is being filled, or that the broker is checking its cost."""
        if day != self._day:
            self._day, self._known = day, {}
        self._order, self._filled, self._parts = order, order.executed.size, []
        self._now = self._known.get(order.ref, _NOTHING)
        self.shares = abs(self._now.size)

    def charge(self, whole: Callable[[float, float, bool], float], size: float, price: float) -> float:
        """Return the charge for a part: that for the order including this part, minus what was charged before."""
        if self._now.size or self._parts:
            before = [(self._now.size, self._now.value, self._now.charged)] if self._now.size else []
            before += [(part, part * paid, cost) for part, paid, cost in self._parts]
            total = size + sum(part for part, _, _ in before)
            value = size * price + sum(worth for _, worth, _ in before)
            due = max(whole(total, value / total, True) - sum(cost for _, _, cost in before), 0.0)
        else:
            due = whole(size, price, True)
        self._parts.append((size, price, due))
        return due

    def end(self) -> None:
        """Keep the charges of the parts that filled; the account may not have been able to pay for all."""
        order, filled = self._order, self._order.executed.size - self._filled
        self._order, self.shares = None, 0.0
        for size, price, cost in self._parts:
            if abs(filled) < abs(size) * (1 - 1e-9):
                break
            filled -= size
            self._now = self._now.with_part(size, price, cost)
            self._known[order.ref] = self._now


class _Charged(NamedTuple):
    """The part of an order that filled on one day: its size, its value, and the charge."""

    size: float = 0.0
    value: float = 0.0
    charged: float = 0.0

    def with_part(self, size: float, price: float, cost: float) -> _Charged:
        return _Charged(self.size + size, self.value + size * price, self.charged + cost)


_NOTHING = _Charged()


class IbModel(bt.CommInfoBase):
    """
    What IB's models have in common: the feed, which gives the day, and the minimum and cap of an order.

    Without a feed the newest rates apply; without a bill each call counts as an order. `splits` gives how many of
    today's shares one share of a day has become; `by_share` says whether a model charges per share.
    """

    data: Any = None
    bill: OrderBill | None = None
    splits: Dated | None = None
    by_share = False

    @property
    def day(self) -> int:
        """The day of the current bar, counted as by `date.toordinal`."""
        return int(self.data.datetime[0]) if self.data is not None else date.max.toordinal()

    def getcommission(self, size: float, price: float) -> float:
        """Return the commission of a part of an order."""
        if self.bill is not None and self.bill.open:
            return self.bill.charge(self._getcommission, size, price)
        charged: float = self._getcommission(size, price, True)
        return charged

    def as_traded(self, size: float, price: float) -> tuple[float, float]:
        """Return the shares and price of the day, given those adjusted for later splits."""
        if self.splits is None:
            return size, price
        factor = self.splits.on(self.day)
        return size / factor, price * factor

    def confirmexec(self, size: float, price: float) -> Any:
        """Do nothing: Backtrader reports a fill here."""


class IbFixed(IbModel):
    """
    IB's fixed pricing for US stocks: per order 0.005 USD per share, at least 1.00, at most 1 % of the trade value.

    The cap takes precedence over the minimum: 10 shares at 0.20 cost 0.02. Excludes the regulatory fees of sales that
    IB passes on.

    Source: IBKR, "Commissions - Stocks", IBKR Pro fixed, North America, read 2026-11.
    """

    params = (("commission", 0.005), ("minimum", 1.0), ("cap", 0.01), ("stocklike", True), ("percabs", True))
    by_share = True

    def _getcommission(self, size: float, price: float, pseudoexec: bool) -> float:
        size, price = self.as_traded(size, price)
        shares = abs(size)
        charged: float = min(max(shares * self.p.commission, self.p.minimum), shares * price * self.p.cap)
        return charged


class IbFixedFees(IbFixed):
    """
    IB's fixed pricing for US stocks, and the regulatory fees of sales that IB passes on, at the rates of their day.

    Excludes the fee for the Consolidated Audit Trail, below 0.0001 USD per share since 2024.
    """

    def _getcommission(self, size: float, price: float, pseudoexec: bool) -> float:
        charged: float = super()._getcommission(size, price, pseudoexec)
        return charged + regulatory_fees(*self.as_traded(size, price), self.day)


class IbTiered(IbModel):
    """
    IB's tiered pricing for US stocks, with the fees of exchanges, clearing and regulators.

    0.0035 USD per share, less beyond 300,000 shares per month, at least 0.35 and at most 1 % of the trade value; each
    order is assumed to remove liquidity. Sales pay the regulatory fees at the rates of the day.

    Source: IBKR, "Commissions - Stocks", IBKR Pro tiered, North America, and its comparison of fixed and tiered.
    """

    params = (("minimum", 0.35), ("cap", 0.01), ("stocklike", True), ("percabs", True))
    traded: MonthlyVolume | None = None
    by_share = True

    def _getcommission(self, size: float, price: float, pseudoexec: bool) -> float:
        size, price = self.as_traded(size, price)
        shares, value = abs(size), abs(size) * price
        before = self.traded.of(self._month) if self.traded else 0.0
        if self.bill is not None and self.bill.shares:  # includes the shares of the same order filled before
            before = max(before - self.as_traded(self.bill.shares, price)[0], 0.0)
        commission = min(max(tiered(before, shares), self.p.minimum), value * self.p.cap)
        exchange = shares * REMOVES_LIQUIDITY if price >= 1 else value * OF_CHEAP_SHARES
        clearing = min(shares * CLEARING, value * MOST_CLEARING)
        charged: float = commission * PASSED_THROUGH + exchange + clearing
        return charged + regulatory_fees(size, price, self.day)

    def confirmexec(self, size: float, price: float) -> Any:
        """Count the shares of a fill, which Backtrader reports here."""
        if self.traded is not None:
            self.traded.add(self._month, abs(self.as_traded(size, price)[0]))

    @property
    def _month(self) -> int:
        day = date.fromordinal(self.day)
        return day.year * 12 + day.month


class IbForex(IbModel):
    """
    IB's pricing for spot currencies: 0.2 basis points of the trade value, at least 2 USD per order.

    Source: IBKR, "Commissions - Spot Currencies", up to 1,000,000,000 USD per month, read 2026-11.
    """

    params = (("commission", 0.00002), ("minimum", 2.0), ("stocklike", True), ("percabs", True))

    def _getcommission(self, size: float, price: float, pseudoexec: bool) -> float:
        charged: float = max(abs(size) * price * self.p.commission, self.p.minimum) if size else 0.0
        return charged


class PerContract(bt.CommInfoBase):
    """
    Futures: a fee per contract, gains and losses by the multiplier, and a margin per contract that is set aside.

    IB charges 0.85 USD per contract of US futures, and adds the exchange's and the regulator's fees: in all 2.25 USD
    for the E-mini S&P 500 (1.38 and 0.02). Source: IBKR, "Commissions - Futures", read 2026-11.
    """

    params = (("stocklike", False), ("commtype", bt.CommInfoBase.COMM_FIXED))


class IbPerContract(bt.CommInfoBase):
    """A fee per futures contract, all fees included; the multiplier is set elsewhere."""

    params = (("commission", 0.85), ("stocklike", True), ("commtype", bt.CommInfoBase.COMM_FIXED))
    by_contract = True


def tiered(before: float, shares: float) -> float:
    """Return IB's tiered commission for shares, given the volume of the month before them, each at its tier's rate."""
    charged, start = 0.0, 0.0
    for end, rate in TIERS:
        within = min(before + shares, end) - max(before, start)
        charged += max(within, 0.0) * rate
        start = end
    return charged


def _free() -> Any:
    return bt.CommInfoBase(commission=0.0, stocklike=True, percabs=True)


COSTS = {
    row.name: row
    for row in (
        Costs(
            "ib-fixed",
            "IB fixed: 0.005 USD per share, at least 1 USD and at most 1 % of the value per order",
            IbFixed,
            "2026-11",
        ),
        Costs(
            "ib-fixed-fees",
            "IB fixed, plus SEC and FINRA fees on sales at the rates of the day",
            IbFixedFees,
            "2026-04-04",
        ),
        Costs(
            "ib-tiered",
            "IB tiered: 0.0035 USD per share or less, at least 0.35 USD and at most 1 % of the value per order, plus "
            "exchange, clearing and pass-through fees, and SEC and FINRA fees on sales at the rates of the day",
            IbTiered,
            "2026-04-04",
        ),
        Costs(
            "ib-forex",
            "IB spot currencies: 0.2 basis points of the value, at least 2 USD per order",
            IbForex,
            "2026-11",
        ),
        Costs("none", "no costs", _free),
    )
}


def costs_named(text: str) -> Costs:
    """
    Return the costs of a name in COSTS, of "bp:RATE", or of "futures:FEE:MULTIPLIER:MARGIN".

    "bp:5" charges five basis points of the value of each fill; "futures:2.25:50:15000" charges 2.25 per contract, with
    a multiplier of 50 and a margin of 15,000; "2x:ib-fixed" charges twice what "ib-fixed" does.

    Raises:
        UsageError: there is no such name, or a number is invalid.
    """
    if text in COSTS:
        return COSTS[text]
    if times := re.fullmatch(_TIMES, text):
        return costs_times(costs_named(times[2]), float(times[1]))
    if commission := re.fullmatch(_COMMISSION, text):
        return _commission_named(text, commission)
    kind, *words = text.split(":")
    example = "write bp:5 for five basis points, or futures:FEE:MULTIPLIER:MARGIN such as futures:2.25:50:15000"
    numbers = [read_number(word, f"the costs {text!r}", example) for word in words]
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
    raise UsageError(f"unknown costs {text!r}; choose from {', '.join(COSTS)}, or {example}{did_you_mean(text, COSTS)}")


def costs_of(given: Any) -> Costs:
    """
    Return the costs that a caller means.

    Args:
        given: a text that `costs_named` reads; a number, the fraction of each fill's value to charge, 0.001 for a tenth
            of a percent, as in Backtrader's `setcommission(commission=0.001)`; a row as in `COSTS`; or a Backtrader
            commission, a `bt.CommInfoBase` or a class derived from it.

    A run stores a commission by a name: its class and parameters and, for a class of the caller's, a hash of its
    source. Only Backtrader's own classes can be recreated from that name.

    Raises:
        UsageError: it is none of these.
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
    from decimal import Decimal

    return costs_named(f"bp:{(Decimal(repr(share)) * 10_000).normalize():f}" if share else "none")


def costs_times(costs: Costs, factor: float) -> Costs:
    """Return costs that charge a multiple of others; if their name has a rate, the rate is multiplied."""
    kind, *words = costs.name.split(":")
    if factor == 1 or costs.name == "none":
        return costs
    if not factor and costs.name in COSTS:
        return COSTS["none"]
    from decimal import Decimal

    if isinstance(costs, CostsTimes):
        return costs_times(costs.of, float(Decimal(repr(costs.times)) * Decimal(repr(factor))))
    if kind in ("bp", "futures"):
        rate = (Decimal(words[0]) * Decimal(repr(factor))).normalize()
        return costs_named(":".join([kind, f"{rate:f}", *words[1:]]))
    times = f"{Decimal(repr(factor)).normalize():f}"
    return CostsTimes(
        f"{times}x:{costs.name}", f"{times} times: {costs.definition}", partial(_charging, costs.make, factor),
        costs.dated, of=costs, times=factor,
    )  # fmt: skip


def _charging(make: Callable[..., Any], factor: float) -> Any:
    """Return a commission model that charges a multiple of another."""
    model = make()
    single = model._getcommission

    def several(size: float, price: float, pseudoexec: bool) -> float:
        charged: float = factor * single(size, price, pseudoexec)
        return charged

    model._getcommission, model.times = several, factor
    return model


def is_own(costs: Costs) -> bool:
    """Return whether costs are a commission of the caller's own, which defines the value of a point itself."""
    return costs.name.endswith("}") or "}#" in costs.name


def per_contract(costs: Costs) -> float | None:
    """Return the multiplier of "futures:..."; None for other costs."""
    return float(costs.name.split(":")[2]) if costs.name.startswith("futures:") else None


def check_told_apart(costs: Costs) -> None:
    """
    Refuse costs whose name may be that of other costs too: saved results of one would pass for those of the other.

    Raises:
        UsageError: the source of a commission's class is not known, or its parameters are not plain values.
    """
    costs = costs.of if isinstance(costs, CostsTimes) else costs
    if costs.name.endswith("}") and not costs.name.startswith(_OURS):
        raise UsageError(
            f"the costs {costs.name} cannot be distinguished from others of that name: the class has no source, or has "
            "parameters that are neither numbers nor strings; put it into a file, with numbers and strings as "
            "parameters"
        )


_OURS = "bt."  # in front of the names of Backtrader's own classes
_OWN = {f"{_OURS}{kind.__name__}": kind for kind in (bt.CommInfoBase, bt.CommissionInfo)}  # made again from a name
_COMMISSION = r"(?s)([\w.]+)(\{.*\})(#[0-9a-f]{12})?"
_TIMES = r"(?s)(\d+(?:\.\d+)?)x:(.+)"
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
    with code_of_others(partial(_why_not_made, kind)):
        try:
            return kind()
        except TypeError as error:
            raise UsageError(
                f"{kind.__name__} cannot be created without arguments ({said(error)}); pass an instance"
            ) from error


def _why_not_made(kind: type[Any], error: BaseException) -> str:
    return "" if raised_by_us(error) else f"the commission {kind.__name__} cannot be made: {said(error)}{at(error)}"


def _source_hash(kind: type[Any]) -> str:
    try:
        return "#" + hashlib.sha256(inspect.getsource(kind).encode()).hexdigest()[:12]
    except (OSError, TypeError):
        return ""  # defined at the Python prompt


def _commission_named(text: str, found: re.Match[str]) -> Costs:
    if not text.startswith(_OURS):
        raise UsageError(
            f"the costs {text} belong to your own class, of which the record only has the name and the parameters; "
            f"pass the commission itself again: costs={found[1]}(...)"
        )
    try:
        return replace(_of_commission(_OWN[found[1]](**json.loads(found[2]))), name=text)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"the costs {text!r} are not a commission of Backtrader ({error}); pass one again") from error


_DEFAULTS: dict[str, Any] = dict(bt.CommInfoBase.params._getitems())


def model_for(costs: Costs, feed: Any, traded: MonthlyVolume) -> Any:
    """Return the commission model for a feed; `traded` is the month's volume, which all feeds of a run share."""
    made = costs.make()
    made.data, made.traded = feed, traded
    if isinstance(made, IbModel):
        made.bill = OrderBill()
    return made


def charges_by_order(model: Any) -> bool:
    """Return whether a model charges an order as a whole, in whatever currency."""
    return getattr(getattr(model, "inner", model), "bill", None) is not None


def bill_of(model: Any, order: Any) -> OrderBill | None:
    """Return the opened bill of an order that is about to fill; None if the model charges by part."""
    own = getattr(model, "inner", model)  # of one that is converted
    bill = getattr(own, "bill", None)
    if bill is not None:
        bill.begin(order, own.day)
    return bill


def _made(model: type[Any], **params: Any) -> Callable[..., Any]:
    return lambda: model(**params)


def read_number(text: str, what: str, example: str) -> float:
    """
    Return a number from 0 on that a user wrote.

    Raises:
        UsageError: it is not a number, or below 0.
    """
    try:
        found = float(text)
    except ValueError as error:
        raise UsageError(f"{_arguments.not_a_number(text, what)}; {example}") from error
    if not 0 <= found < float("inf"):
        raise UsageError(f"{what} must be finite and not below 0; {example}")
    return found
