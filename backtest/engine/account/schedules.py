"""What IB charges for each product: `schedule_of`; and the runs whose money nobody could tell: `check_products`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import backtrader as bt

from backtest.engine.account.commissions import COSTS, Costs, CostsTimes, IbFixed, IbForex, costs_times
from backtest.errors import UsageError
from backtest.market.hours import hours_of
from backtest.market.series import Instrument, Series

_US_STOCKS = "XNYS"  # the calendar of all exchanges of the United States
_BY_PRODUCT = ("ib-fixed",)  # of IB's names, the one that has a schedule for more than US stocks
_STOCKS_ONLY = ("ib-fixed-fees", "ib-tiered")
_NO_MODEL = {
    "OPT": "an option",
    "FOP": "an option on a future",
    "CFD": "a contract for difference",
    "BOND": "a bond",
}
_FUTURES = ("FUT", "CONTFUT")
_OWN_MODEL = "run it from Python with a bt.CommInfoBase of your own as costs="


class IbShareOfValue(bt.CommInfoBase):
    """A share of the trade value, at least so much, an order; `cap` is the most, a share of the value too."""

    params = (("commission", 0.0), ("minimum", 0.0), ("cap", 1.0), ("stocklike", True), ("percabs", True))

    def _getcommission(self, size: float, price: float, pseudoexec: bool) -> float:
        value = abs(size) * price
        charged: float = min(max(value * self.p.commission, self.p.minimum), value * self.p.cap) if size else 0.0
        return charged


class IbForexOfDollars(IbForex):
    """`IbForex` of a pair such as USD.JPY, whose price is what a dollar is worth: so are two dollars, the minimum."""

    def _getcommission(self, size: float, price: float, pseudoexec: bool) -> float:
        charged: float = max(abs(size) * price * self.p.commission, self.p.minimum * price) if size else 0.0
        return charged


@dataclass(frozen=True, slots=True)
class Schedule:
    """
    A row of what IB charges, in the currency of the instrument: for which instruments, and where it is published.

    Attributes:
        standing: "published", read on IB's own page; or "secondary source", read where others quote it.
    """

    about: str
    definition: str
    fits: Callable[[Instrument], bool]
    make: Callable[[], Any]
    source: str
    standing: str
    dated: str = "2026-11"


def _stock(instrument: Instrument, currency: str, exchanges: Sequence[str] = ()) -> bool:
    there = not exchanges or {instrument.exchange, instrument.qualifier("primary")} & {*exchanges}
    return instrument.kind == "STK" and instrument.currency == currency and bool(there)


def _is_us_stock(instrument: Instrument) -> bool:
    hours = hours_of(instrument)
    return _stock(instrument, "USD") and (hours.calendar == _US_STOCKS or bool(hours.unknown))


def _shares_of_value(share: float, minimum: float, cap: float = 1.0) -> Callable[[], Any]:
    return partial(IbShareOfValue, commission=share, minimum=minimum, cap=cap)


_EURO = ("IBIS", "IBIS2", "FWB", "SBF", "AEB", "ENEXT.BE", "VSE")
_EUROPE, _ASIA = "IBKR, Commissions - Stocks, Europe", "IBKR, Commissions - Stocks, Asia-Pacific"
SCHEDULES = (
    Schedule("US stocks", COSTS["ib-fixed"].definition, _is_us_stock, IbFixed,
             "IBKR, Commissions - Stocks, North America", "published"),
    Schedule("stocks in euros of Austria, Belgium, France, Germany and the Netherlands, by SMART too",
             "0.05 % of the value, at least 3 EUR, an order",
             lambda one: _stock(one, "EUR", ("SMART", *_EURO)) , _shares_of_value(0.0005, 3.0), _EUROPE, "published"),
    Schedule("stocks of Canada", "0.01 CAD a share, at least 1 CAD, at most 0.5 % of the value, an order",
             lambda one: _stock(one, "CAD"), partial(IbFixed, commission=0.01, minimum=1.0, cap=0.005),
             "copies of IBKR's page by brokers that introduce to IB", "secondary source"),
    Schedule("stocks of Hong Kong", "0.08 % of the value, at least 18 HKD, an order",
             lambda one: _stock(one, "HKD"), _shares_of_value(0.0008, 18.0), _ASIA, "published"),
    Schedule("stocks of Shanghai and Shenzhen by Hong Kong", "0.08 % of the value, at least 15 CNH, an order",
             lambda one: _stock(one, "CNH"), _shares_of_value(0.0008, 15.0), _ASIA, "published"),
    Schedule("stocks of Australia", "0.08 % of the value, at least 6 AUD, an order",
             lambda one: _stock(one, "AUD"), _shares_of_value(0.0008, 6.0), _ASIA, "published"),
    Schedule("currencies for US dollars, such as EUR.USD", COSTS["ib-forex"].definition,
             lambda one: one.kind == "CASH" and one.currency == "USD", IbForex,
             "IBKR, Commissions - Spot Currencies", "published"),
    Schedule("US dollars for currencies, such as USD.JPY", COSTS["ib-forex"].definition,
             lambda one: one.kind == "CASH" and one.symbol == "USD", IbForexOfDollars,
             "IBKR, Commissions - Spot Currencies", "published"),
    Schedule("coins in US dollars", "0.18 % of the value, at least 1.75 USD, at most 1 % of the value, an order",
             lambda one: one.kind == "CRYPTO" and one.currency == "USD", _shares_of_value(0.0018, 1.75, 0.01),
             "IBKR, Commissions - Cryptocurrencies, as quoted by its users", "secondary source"),
)  # fmt: skip


def schedule_of(instrument: Instrument) -> Schedule:
    """
    Return IB's fixed pricing for an instrument.

    Raises:
        UsageError: no schedule of it is known; the text lists those there are.
    """
    for row in SCHEDULES:
        if row.fits(instrument):
            return row
    known = "; ".join(row.about for row in SCHEDULES)
    raise UsageError(
        f"what IB charges for {instrument} is not known here; ib-fixed knows {known}. "
        'Write costs="bp:5" for five basis points of the value, or "none"'
    )


def costs_for(costs: Costs, series: Series) -> Costs:
    """
    Return the costs of a series: of IB's names those of its product, all else as it is.

    Raises:
        UsageError: IB's schedule of the product is not known, or the name is one of US stocks only.
    """
    one = series.instrument
    if isinstance(costs, CostsTimes):
        single = costs_for(costs.of, series)
        return costs if single is costs.of else costs_times(single, costs.times)
    if costs.name in _STOCKS_ONLY and not _is_us_stock(one):
        raise UsageError(f"{costs.name} is what IB charges for US stocks, and {series.short} is none; write ib-fixed")
    if costs.name == "ib-forex":
        if one.kind != "CASH":
            raise UsageError(f"ib-forex is what IB charges for currencies, and {series.short} is none; write ib-fixed")
    elif costs.name not in _BY_PRODUCT or _is_us_stock(one):
        return costs
    row = schedule_of(one)
    if row.make is COSTS[costs.name].make:
        return costs
    return replace(costs, definition=f"IB fixed, {row.about}: {row.definition}", make=row.make, dated=row.dated)


def check_products(series: Sequence[Series], costs: Costs) -> None:
    """
    Refuse a run whose money would be wrong without a word.

    Raises:
        UsageError: a future with the commission of something else, a product without a model, or costs of another
            product.
    """
    costs = costs.of if isinstance(costs, CostsTimes) else costs
    if costs.name.endswith("}") or "}#" in costs.name:
        return  # a commission of the caller's own says what a point is worth
    for one in series:
        kind = one.instrument.kind
        if kind in _NO_MODEL:
            raise UsageError(f"{one.short} is {_NO_MODEL[kind]}, of which there is no model here; {_OWN_MODEL}")
        if kind in _FUTURES and costs.name in COSTS and costs.name != "none":
            raise UsageError(
                f"{one.short} is a future: say what a contract costs, what a point is worth and what margin it binds, "
                "by --costs futures:FEE:MULTIPLIER:MARGIN, such as futures:2.25:50:15000 for the E-mini S&P 500"
            )
        if kind not in _FUTURES and costs.name.startswith("futures:"):
            raise UsageError(f"the costs {costs.name} are of futures, and {one.short} is none; write ib-fixed or bp:5")
        costs_for(costs, one)
