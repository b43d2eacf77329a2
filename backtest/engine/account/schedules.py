"""IB's commission for each product: `schedule_of`; and runs whose amounts would be ambiguous: `check_products`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from backtest.engine.account.commissions import (
    COSTS,
    Costs,
    CostsTimes,
    IbFixed,
    IbForex,
    IbModel,
    IbPerContract,
    costs_times,
    is_own,
)
from backtest.errors import UsageError
from backtest.market.hours import hours_of
from backtest.market.series import FUTURE_KINDS, Instrument, Series

_US_STOCKS = "XNYS"  # the calendar of all exchanges of the United States
_FIXED, _TIERED = "ib-fixed", "ib-tiered"  # the names of IB's plans that cover more than US stocks
_STOCKS_ONLY = "ib-fixed-fees"
_NO_MODEL = {
    "OPT": "an option",
    "FOP": "an option on a future",
    "CFD": "a contract for difference",
    "BOND": "a bond",
}
_OWN_MODEL = "run it from Python with a bt.CommInfoBase of your own as costs="


class IbShareOfValue(IbModel):
    """
    A fraction of the trade value per order, with a minimum; `cap` is a maximum as a fraction of the value.

    `most` is a maximum in money, 0 for none.
    """

    params = (("commission", 0.0), ("minimum", 0.0), ("cap", 1.0), ("most", 0.0),
              ("stocklike", True), ("percabs", True))  # fmt: skip

    def _getcommission(self, size: float, price: float, pseudoexec: bool) -> float:
        value = abs(size) * price
        charged: float = min(max(value * self.p.commission, self.p.minimum), value * self.p.cap) if size else 0.0
        return min(charged, self.p.most) if self.p.most else charged


class IbForexOfDollars(IbForex):
    """`IbForex` for pairs such as USD.JPY: a dollar is worth the price, so the minimum of 2 USD is twice the price."""

    def _getcommission(self, size: float, price: float, pseudoexec: bool) -> float:
        charged: float = max(abs(size) * price * self.p.commission, self.p.minimum * price) if size else 0.0
        return charged


class IbOption(IbModel):
    """
    US options: 0.65 USD per contract, 0.50 at premiums below 0.10, 0.25 below 0.05; at least 1 USD per order.

    Excludes fees of exchanges, clearing and regulators, some cents per contract.
    """

    params = (("commission", 0.65), ("below_a_dime", 0.50), ("below_a_nickel", 0.25), ("minimum", 1.0),
              ("stocklike", True), ("percabs", True))  # fmt: skip
    by_contract = True

    def _getcommission(self, size: float, price: float, pseudoexec: bool) -> float:
        rate = self.p.commission if price >= 0.10 else self.p.below_a_dime if price >= 0.05 else self.p.below_a_nickel
        charged: float = max(abs(size) * rate, self.p.minimum) if size else 0.0
        return charged


PUBLISHED = "published"


class Schedule(NamedTuple):
    """
    A row of IB's charges, in the currency of the instrument: the instruments, and where IB publishes it.

    Attributes:
        plans: the IB pricing plans that include it. If there are tiers by monthly volume, it is the first one.
        standing: "published", read on IB's own page; "secondary source", read where others quote it; or "unconfirmed",
            if neither could be verified.
    """

    about: str
    definition: str
    fits: Callable[[Instrument], bool]
    make: Callable[[], Any]
    source: str
    standing: str = PUBLISHED
    plans: tuple[str, ...] = (_FIXED,)
    dated: str = "2026-11"


_SECONDARY, _UNCONFIRMED = "secondary source", "unconfirmed"
_BOTH = (_FIXED, _TIERED)


def _stock(instrument: Instrument, currency: str, exchanges: Collection[str] = ()) -> bool:
    there = not exchanges or {instrument.exchange, instrument.qualifier("primary")} & {*exchanges}
    return instrument.kind == "STK" and instrument.currency == currency and bool(there)


def _stocks(currency: str, exchanges: Collection[str] = ()) -> Callable[[Instrument], bool]:
    return partial(_stock, currency=currency, exchanges=exchanges)


def _is_us_stock(instrument: Instrument) -> bool:
    hours = hours_of(instrument)
    return _stock(instrument, "USD") and (hours.calendar == _US_STOCKS or bool(hours.unknown))


def _futures(exchange: str, *symbols: str) -> Callable[[Instrument], bool]:
    return lambda one: one.kind in FUTURE_KINDS and one.exchange == exchange and one.symbol in symbols


def _cfds(currency: str) -> Callable[[Instrument], bool]:
    """Return whether an instrument is a CFD of a share; others are named after a currency, a metal, or an index."""
    return lambda one: one.kind == "CFD" and one.currency == currency and one.symbol not in _NO_SHARES


_NO_SHARES = {"AUD", "CAD", "CHF", "CNH", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "ILS", "JPY", "MXN", "NOK", "NZD",
              "PLN", "RUB", "SEK", "SGD", "TRY", "USD", "ZAR", "XAUUSD", "XAGUSD", "IBUS500", "IBUS30", "IBUST100",
              "IBGB100", "IBEU50", "IBDE30", "IBDE40", "IBFR40", "IBES35", "IBNL25", "IBCH20", "IBJP225", "IBHK50",
              "IBAU200"}  # fmt: skip


def _shares_of_value(share: float, minimum: float, cap: float = 1.0, most: float = 0.0) -> Callable[[], Any]:
    return partial(IbShareOfValue, commission=share, minimum=minimum, cap=cap, most=most)


def _us_future(exchange: str, fee: float, own: float, *symbols: str) -> Schedule:
    """Return the row of US futures: IB's commission, the exchange's fee, and 0.02 USD for the NFA."""
    all_in = round(fee + own + _NFA, 4)
    return Schedule(
        f"{exchange} futures: {', '.join(symbols)}",
        f"{all_in:g} USD per contract: {own:g} IB's, {fee:g} the exchange's, {_NFA:g} the regulator's",
        _futures(exchange, *symbols), partial(IbPerContract, commission=all_in),
        f"IBKR, Commissions - Futures, and its page of fees that offset those of {exchange}", plans=_BOTH,
    )  # fmt: skip


_NFA = 0.02  # USD per contract
_OWN, _OF_MICROS, _OF_E_MINI_FX, _OF_MICRO_FX = 0.85, 0.25, 0.50, 0.15  # USD per contract, up to 1,000 a month


def _future(about: str, currency: str, money: float, exchange: str, *symbols: str) -> Schedule:
    return Schedule(
        about, f"{money:g} {currency} per contract, all fees included", _futures(exchange, *symbols),
        partial(IbPerContract, commission=money), "IBKR, Commissions - Futures, Asia-Pacific",
    )  # fmt: skip


def _index_cfds(share: float, minimum: float, currency: str, *symbols: str) -> Schedule:
    return Schedule(
        f"CFDs of indices in {currency}: {', '.join(symbols)}",
        f"{share * 100:g} % of the value, at least {minimum:g} {currency} per order",
        lambda one: one.kind == "CFD" and one.currency == currency and one.symbol in symbols,
        _shares_of_value(share, minimum), "IBKR, Commissions - CFDs, Index CFDs", plans=_BOTH,
    )  # fmt: skip


def _share_cfds(currency: str, minimum: float) -> Schedule:
    return Schedule(
        f"CFDs on shares in {currency}", f"0.05 % of the value, at least {minimum:g} {currency} per order",
        _cfds(currency), _shares_of_value(0.0005, minimum), "IBKR, Commissions - CFDs, Share CFDs", plans=_BOTH,
    )  # fmt: skip


_EURO = ("IBIS", "IBIS2", "FWB", "SBF", "AEB", "ENEXT.BE", "VSE")
_EUROPE, _ASIA = "IBKR, Commissions - Stocks, Europe", "IBKR, Commissions - Stocks, Asia-Pacific"
_AMERICA = "IBKR, Commissions - Stocks, North America"
_NOT_READ = "as remembered of IBKR, Commissions - Stocks; its row could not be read again in 2026-11"
_ALONE = "; excluding the exchange, clearing and regulatory fees that IB adds"
_INTRODUCER = "a broker that introduces to IB, which quotes its tiers"
SCHEDULES = (
    Schedule("US stocks", COSTS["ib-fixed"].definition, _is_us_stock, IbFixed, _AMERICA),
    Schedule("stocks in euros in Austria, Belgium, France, Germany and the Netherlands, also by SMART",
             "0.05 % of the value, at least 3 EUR per order",
             _stocks("EUR", ("SMART", *_EURO)), _shares_of_value(0.0005, 3.0), _EUROPE),
    Schedule("stocks in euros in the same countries, tiered",
             f"0.05 % of the value, at least 1.25 and at most 29 EUR per order{_ALONE}",
             _stocks("EUR", ("SMART", *_EURO)), _shares_of_value(0.0005, 1.25, most=29.0), _EUROPE, plans=(_TIERED,)),
    Schedule("London stocks", "0.05 % of the value, at least 3 GBP per order",
             _stocks("GBP"), _shares_of_value(0.0005, 3.0), _NOT_READ, _UNCONFIRMED),
    Schedule("London stocks, tiered", f"0.05 % of the value, at least 1 GBP per order{_ALONE}",
             _stocks("GBP"), _shares_of_value(0.0005, 1.0), _INTRODUCER, _SECONDARY, (_TIERED,)),
    Schedule("Swiss stocks", "0.05 % of the value, at least 5 CHF per order",
             _stocks("CHF"), _shares_of_value(0.0005, 5.0), _NOT_READ, _UNCONFIRMED),
    Schedule("Swiss stocks, tiered", f"0.05 % of the value, at least 1.5 CHF per order{_ALONE}",
             _stocks("CHF"), _shares_of_value(0.0005, 1.5), _INTRODUCER, _SECONDARY, (_TIERED,)),
    Schedule("Japanese stocks", "0.08 % of the value, at least 80 JPY per order",
             _stocks("JPY"), _shares_of_value(0.0008, 80.0), _NOT_READ, _UNCONFIRMED),
    Schedule("Canadian stocks", "0.01 CAD per share, at least 1 CAD and at most 0.5 % of the value per order",
             _stocks("CAD"), partial(IbFixed, commission=0.01, minimum=1.0, cap=0.005), _AMERICA),
    Schedule("Canadian stocks, tiered",
             f"0.008 CAD per share, at least 1 CAD and at most 0.5 % of the value per order{_ALONE}",
             _stocks("CAD"), partial(IbFixed, commission=0.008, minimum=1.0, cap=0.005), _AMERICA, plans=(_TIERED,)),
    Schedule("Hong Kong stocks", "0.08 % of the value, at least 18 HKD per order",
             _stocks("HKD"), _shares_of_value(0.0008, 18.0), _ASIA),
    Schedule("Hong Kong stocks, tiered", f"0.05 % of the value, at least 18 HKD per order{_ALONE}",
             _stocks("HKD"), _shares_of_value(0.0005, 18.0), _ASIA, plans=(_TIERED,)),
    Schedule("Shanghai and Shenzhen stocks via Hong Kong", "0.08 % of the value, at least 15 CNH per order",
             _stocks("CNH"), _shares_of_value(0.0008, 15.0), _ASIA),
    Schedule("Shanghai and Shenzhen stocks via Hong Kong, tiered",
             f"0.05 % of the value, at least 15 CNH per order{_ALONE}",
             _stocks("CNH"), _shares_of_value(0.0005, 15.0), _ASIA, plans=(_TIERED,)),
    Schedule("Australian stocks", "0.08 % of the value, at least 6 AUD per order",
             _stocks("AUD"), _shares_of_value(0.0008, 6.0), _ASIA),
    Schedule("Australian stocks, tiered", f"0.08 % of the value, at least 5 AUD per order{_ALONE}",
             _stocks("AUD"), _shares_of_value(0.0008, 5.0), _ASIA, plans=(_TIERED,)),
    Schedule("currencies for US dollars, such as EUR.USD", COSTS["ib-forex"].definition,
             lambda one: one.kind == "CASH" and one.currency == "USD", IbForex,
             "IBKR, Commissions - Spot Currencies", plans=_BOTH),
    Schedule("US dollars for currencies, such as USD.JPY", COSTS["ib-forex"].definition,
             lambda one: one.kind == "CASH" and one.symbol == "USD", IbForexOfDollars,
             "IBKR, Commissions - Spot Currencies", plans=_BOTH),
    _us_future("CME", 1.38, _OWN, "ES", "NQ", "RTY", "EMD"),
    _us_future("CME", 0.35, _OF_MICROS, "MES", "MNQ", "M2K"),
    _us_future("CME", 1.60, _OWN, "EUR", "GBP", "JPY", "CAD", "AUD", "CHF", "NZD", "MXP"),
    _us_future("CME", 0.85, _OF_E_MINI_FX, "E7", "J7"),
    _us_future("CME", 0.24, _OF_MICRO_FX, "M6A", "M6B", "M6E"),
    _us_future("NYMEX", 1.50, _OWN, "CL", "HO", "RB", "BZ"),
    _us_future("NYMEX", 1.60, _OWN, "NG", "PL", "PA"),
    _us_future("NYMEX", 1.20, _OWN, "QM"),
    _us_future("NYMEX", 0.50, _OWN, "QG"),
    _us_future("NYMEX", 0.50, _OF_MICROS, "MCL"),
    _us_future("COMEX", 1.60, _OWN, "GC", "HG"),
    _us_future("COMEX", 0.75, _OF_MICROS, "MGC"),
    _future("HKFE futures: HSI", "HKD", 30.0, "HKFE", "HSI"),
    _future("HKFE futures: MHI", "HKD", 17.0, "HKFE", "MHI"),
    Schedule("US options",
             "0.65 USD per contract, less for premiums below 0.10, at least 1 USD per order; excluding the fees of "
             "exchanges, clearing and regulators",
             lambda one: one.kind == "OPT" and one.currency == "USD", IbOption,
             "IBKR, Commissions - Options, United States", plans=_BOTH),
    Schedule("CFDs on US shares", "0.005 USD per share, at least 1 USD per order",
             _cfds("USD"), partial(IbFixed, cap=1.0), "IBKR, Commissions - CFDs, Share CFDs", plans=_BOTH),
    _share_cfds("EUR", 3.0),
    _share_cfds("GBP", 3.0),
    _share_cfds("CHF", 3.0),
    _index_cfds(0.00005, 1.0, "USD", "IBUS500", "IBUS30"),
    _index_cfds(0.0001, 1.0, "USD", "IBUST100"),
    _index_cfds(0.00005, 1.0, "GBP", "IBGB100"),
    _index_cfds(0.0001, 1.0, "EUR", "IBEU50", "IBFR40", "IBES35", "IBNL25"),
    _index_cfds(0.0001, 1.0, "CHF", "IBCH20"),
    _index_cfds(0.0001, 40.0, "JPY", "IBJP225"),
    _index_cfds(0.0001, 10.0, "HKD", "IBHK50"),
    _index_cfds(0.0001, 1.0, "AUD", "IBAU200"),
    Schedule("cryptocurrencies in US dollars",
             "0.18 % of the value, at least 1.75 USD and at most 1 % of the value per order",
             lambda one: one.kind == "CRYPTO" and one.currency == "USD", _shares_of_value(0.0018, 1.75, 0.01),
             "IBKR, Commissions - Cryptocurrencies, as quoted by its users", _SECONDARY, _BOTH),
)  # fmt: skip


def schedule_of(instrument: Instrument, plan: str = _FIXED) -> Schedule:
    """
    Return IB's pricing for an instrument.

    Args:
        plan: "ib-fixed" or "ib-tiered".

    Raises:
        UsageError: no schedule for it is known; the text lists the known ones.
    """
    rows = [row for row in SCHEDULES if plan in row.plans]
    for row in rows:
        if row.fits(instrument):
            return row
    known = "; ".join(row.about for row in rows)
    if plan == _TIERED:
        known = f"US stocks; {known}"
    raise UsageError(
        f"IB's commission for {instrument} is unknown; {plan} covers {known}. "
        f"{_FOR_A_FUTURE if instrument.kind in FUTURE_KINDS else _FOR_OTHERS}"
    )


_FOR_OTHERS = 'Write costs="bp:5" for five basis points of the value, or "none"'
_FOR_A_FUTURE = (
    'Write costs="futures:FEE:MULTIPLIER:MARGIN", such as futures:2.25:50:15000 for the E-mini S&P 500, "bp:0.5" for '
    'half a basis point of the value, or "none"'
)


def row_of(costs: Costs, series: Series) -> Schedule | None:
    """
    Return the row of IB's schedule that applies to a series; None if the costs' own model applies.

    Raises:
        UsageError: IB's schedule of the product is not known, or the name is of another product.
    """
    one, costs = series.instrument, costs.of if isinstance(costs, CostsTimes) else costs
    if costs.name == _STOCKS_ONLY and not _is_us_stock(one):
        raise UsageError(f"{costs.name} only covers US stocks, and {series.short} is not one; write ib-fixed")
    if costs.name == "ib-forex" and one.kind != "CASH":
        raise UsageError(f"ib-forex only covers currencies, and {series.short} is not one; write ib-fixed")
    if costs.name == "ib-forex":
        row = schedule_of(one)
        return None if row.make is IbForex else row
    if costs.name not in _BOTH or _is_us_stock(one):
        return None
    return schedule_of(one, costs.name)


def costs_for(costs: Costs, series: Series) -> Costs:
    """
    Return the costs of a series: for IB's plans those of its product, any other costs unchanged.

    Raises:
        UsageError: as `row_of`.
    """
    if isinstance(costs, CostsTimes):
        single = costs_for(costs.of, series)
        return costs if single is costs.of else costs_times(single, costs.times)
    row = row_of(costs, series)
    if row is None:
        return costs
    plan = "IB tiered" if costs.name == _TIERED else "IB fixed"
    return replace(costs, definition=f"{plan}, {row.about}: {row.definition}", make=row.make, dated=row.dated)


def check_products(series: Sequence[Series], costs: Costs) -> None:
    """
    Refuse a run whose amounts would be silently wrong.

    Raises:
        UsageError: a product has no commission model or no known schedule, or the costs are for another product.
    """
    costs = costs.of if isinstance(costs, CostsTimes) else costs
    if is_own(costs):
        return  # a commission of the caller's own says what a point is worth
    for one in series:
        kind = one.instrument.kind
        if kind in _NO_MODEL and not (costs.name in _BOTH and _is_known(one.instrument, costs.name)):
            raise UsageError(f"{one.short} is {_NO_MODEL[kind]}, which is not modelled here; {_OWN_MODEL}")
        if kind not in FUTURE_KINDS and costs.name.startswith("futures:"):
            raise UsageError(
                f"the costs {costs.name} are for futures, and {one.short} is not one; write ib-fixed or bp:5"
            )
        costs_for(costs, one)


def _is_known(instrument: Instrument, plan: str) -> bool:
    return any(row.fits(instrument) for row in SCHEDULES if plan in row.plans)
