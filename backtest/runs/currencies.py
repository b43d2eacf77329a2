"""The currency of a run's account, and the unit in which a series' prices are quoted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from backtest import _arguments
from backtest.errors import UsageError
from backtest.market.series import CONTRACT_KINDS, NO_CURRENCY, ContractDetails, Instrument, Series

AT_ONCE, BY_CURRENCY = CONVERSIONS = ("at-once", "ib-forex")

_PART = "1/"  # in front of the name of a unit that has no name of its own
_PREFERRED = "USD"  # of several currencies of traded series, where none is asked for
_CODE = r"[A-Z]{3}"
_CURRENCY = "write an ISO 4217 currency code, such as EUR"
_QUOTED = "write the series and the unit of its prices, such as VUSA-STK-LSEETF-GBP/1day=GBP, or =GBX for pence"


class PriceUnit(NamedTuple):
    """The unit in which prices are quoted: its name, the currency, and the amount of currency in one."""

    name: str
    currency: str
    share: float = 1.0


# A hundredth of a currency that exchanges quote in, by the name that vendors give it; ISO 4217 has none of them.
MINOR_UNITS = {
    unit.name: unit
    for unit in (
        PriceUnit("GBX", "GBP", 0.01),  # pence of the United Kingdom; GBp, and GBPX, too
        PriceUnit("ILA", "ILS", 0.01),  # agorot of Israel
        PriceUnit("ZAC", "ZAR", 0.01),  # cents of South Africa; ZAc, too
    )
}


class Quotation(NamedTuple):
    """
    A row of the exchanges at which IB quotes stocks in hundredths of the currency.

    Attributes:
        standing: "confirmed", by the price magnifier of 100 in contract details that IB sent; or "secondary source".
    """

    exchanges: tuple[str, ...]
    currency: str  # as IB names it
    unit: str  # in MINOR_UNITS; "" where some of its instruments are quoted so, and others are not
    source: str
    standing: str


QUOTATIONS = (
    Quotation(("LSE", "SMART", "CHIXUK", "BATEUK", "TRQXUK"), "GBP", "GBX",
              "priceMagnifier of stocks at LSE, as users of IB's API report it: bankroll issue 31, nautilus_trader",
              "confirmed"),
    Quotation(("LSEETF",), "GBP", "",
              "funds there are quoted in pence (EQQQ, IJPN) or in pounds (VEUR), as users of IB's API report",
              "confirmed"),
    Quotation(("TASE", "SMART"), "ILS", "ILA",
              "the exchange quotes in agorot: Portfolio Performance issue 1229", "secondary source"),
    Quotation(("JSE", "SMART"), "ZAR", "ZAC",
              "the exchange quotes in cents: Finance::Quote pull request 109", "secondary source"),
)  # fmt: skip


def price_unit(instrument: Instrument, details: ContractDetails | None = None) -> PriceUnit:
    """
    Return the unit of an instrument's prices: from IB's contract details, otherwise from QUOTATIONS.

    Corn is quoted in cents per bushel, and its multiplier counts bushels: a point is worth a hundredth of the
    multiplier.

    Args:
        details: the contract details, if a store has them.

    Raises:
        UsageError: it is not known.
    """
    currency = instrument.currency
    if currency in MINOR_UNITS:
        return MINOR_UNITS[currency]
    if instrument.kind not in ("STK", *CONTRACT_KINDS):
        return PriceUnit(currency, currency)
    if magnifier := _magnifier(details):
        return _divided(currency, magnifier)
    if instrument.kind != "STK":
        return PriceUnit(currency, currency)
    row = _quotation(instrument, details)
    if row is None:
        return PriceUnit(currency, currency)
    if not row.unit:
        raise UsageError(
            f"whether the prices of {instrument} are {row.currency} or a hundredth of it is not known: both are quoted "
            f"at {'/'.join(row.exchanges)}. Write --quoted-in SERIES={row.currency}, or =GBX for pence"
        )
    return MINOR_UNITS[row.unit]


def units_of(
    series: Iterable[Series], details: Mapping[Series, ContractDetails | None], rules: str
) -> dict[Series, PriceUnit]:
    """
    Return the units of the prices of series; a rule of the user's takes precedence.

    Args:
        details: the contract details, if a store has them.
        rules: the rules that `quotation_rules` reads.

    Raises:
        UsageError: it is not known, or a rule names a unit of another currency.
    """
    asked = quotation_rules(rules)
    return {one: _asked_unit(one, asked[one.key]) if one.key in asked else price_unit(one.instrument, details.get(one))
            for one in series}  # fmt: skip


def _asked_unit(series: Series, name: str) -> PriceUnit:
    found, currency = unit_named(name), currency_of(series.instrument)
    if found.currency != currency:
        raise UsageError(f"{series.short} is quoted in {currency}, and not in {name}; {_QUOTED}")
    return found


def _divided(currency: str, magnifier: float) -> PriceUnit:
    share = 1 / magnifier
    names = [unit.name for unit in MINOR_UNITS.values() if (unit.currency, unit.share) == (currency, share)]
    plain = currency if magnifier == 1 else f"{_PART}{magnifier:g} {currency}"
    return PriceUnit(names[0] if names else plain, currency, share)


def are_plain(series: Iterable[Series], base: str, rules: str) -> bool:
    """Return whether prices are certainly in the account's currency, without reading contract details."""
    divided = {unit.currency for unit in MINOR_UNITS.values()}
    plain = (one.instrument.currency == base and one.instrument.kind not in CONTRACT_KINDS for one in series)
    return not rules and base not in divided and all(plain)


def unit_named(name: str) -> PriceUnit:
    """Return the unit of prices by name: one of MINOR_UNITS, or a currency."""
    return MINOR_UNITS.get(name) or PriceUnit(name, name)


def currency_of(instrument: Instrument) -> str:
    """Return the currency of an instrument: pounds for one whose prices are named in pence."""
    return unit_named(instrument.currency).currency


def base_currency(series: Iterable[Series], asked: str = "") -> str:
    """
    Return the currency of an account that trades some series.

    It is the requested one, otherwise that of all the series; of several currencies, US dollars if they are among them,
    otherwise the first in alphabetical order, so that the order of the series does not matter.
    """
    there = sorted({currency_of(one.instrument) for one in series})
    return asked or (_PREFERRED if len(there) > 1 and _PREFERRED in there else there[0])


def currency_text(given: Any) -> str:
    """
    Return the currency of an account as a spec stores it; "" for that of the series.

    Raises:
        UsageError: it is not one.
    """
    if given is None or given == "":
        return ""
    text = _arguments.text(given, "currency", _CURRENCY).strip().upper()
    if text in MINOR_UNITS:
        _arguments.refuse(
            "currency", given, f"write {MINOR_UNITS[text].currency}, the currency of which it is a hundredth"
        )
    if not re.fullmatch(_CODE, text) or text == NO_CURRENCY:
        _arguments.refuse("currency", given, _CURRENCY)
    return text


def conversion_text(given: Any) -> str:
    """
    Return the conversion method as a spec stores it.

    Raises:
        UsageError: it is not in CONVERSIONS.
    """
    return _arguments.word(given or AT_ONCE, "conversion", CONVERSIONS)


def quoted_in_text(given: Any) -> str:
    """
    Return rules for the units of prices as a spec stores them.

    Raises:
        UsageError: one is not a rule.
    """
    text = _arguments.text(given or "", "quoted_in", _QUOTED)
    rules = quotation_rules(text)
    return ",".join(f"{Series.parse(key).short}={unit}" for key, unit in sorted(rules.items()))


def quotation_rules(text: str) -> dict[str, str]:
    """
    Return units of prices by series key, from rules with commas, such as "VUSA-STK-LSEETF-GBP/1day=GBP".

    Raises:
        UsageError: one is not a rule.
    """
    rules = {}
    for rule in filter(None, text.split(",")):
        name, _, unit = rule.rpartition("=")
        if not name or not re.fullmatch(_CODE, unit := unit.strip().upper()):
            raise UsageError(f"{rule!r} does not say what prices are quoted in; {_QUOTED}")
        rules[Series.parse(name.strip()).key] = unit
    return rules


def words_of_units(units: Mapping[str, str], series: Sequence[str]) -> list[str]:
    """Return in words the units of prices that are not a currency; `units` has them by series key."""
    by_unit: dict[str, list[str]] = {}
    for key in series:
        unit = units.get(key, "")
        if unit in MINOR_UNITS or unit.startswith(_PART):
            by_unit.setdefault(unit, []).append(Series.parse(key).short)
    return [
        f"prices of {' and '.join(names)} in {unit}"
        + (f", a hundredth of {MINOR_UNITS[unit].currency}" if unit in MINOR_UNITS else "")
        for unit, names in by_unit.items()
    ]


def _magnifier(details: ContractDetails | None) -> float:
    text = details.price_magnifier if details else ""
    return float(text) if text.isdecimal() else 0.0


def _quotation(instrument: Instrument, details: ContractDetails | None) -> Quotation | None:
    primary = instrument.qualifier("primary") or (details.primary_exchange if details else "")
    where = primary if instrument.exchange == "SMART" and primary else instrument.exchange
    return next((one for one in QUOTATIONS if where in one.exchanges and instrument.currency == one.currency), None)
