"""`Terms`: the multiplier and the margin of a contract, from the spelling of its series or stored contract details."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from backtest.engine.account.commissions import Costs, is_own, per_contract
from backtest.errors import UsageError
from backtest.market.series import CONTRACT_KINDS, FUTURE_KINDS, Series
from backtest.runs.spec import Brokerage, margin_rules
from backtest.store.reader import Reader, manifest_or_empty


class Terms(NamedTuple):
    """
    The terms on which a series is traded.

    Attributes:
        multiplier: the value of one point of the price, for one share, contract or unit.
        tick: the smallest step of the price, by the stored contract details; 0 if unknown.
        margin: the cash that a contract ties up while it is held; None for its full value.
        model: whether the commission model defines multiplier and margin itself.
    """

    multiplier: float = 1.0
    tick: float = 0.0
    margin: float | None = None
    model: bool = False


def terms_of(series: Sequence[Series], costs: Costs, brokerage: Brokerage, store: Reader) -> list[Terms]:
    """
    Return the terms of the series of a run.

    For futures and options, the multiplier is that of the spelling (`+multiplier=50`), otherwise that of the contract
    details stored with the bars; for everything else it is 1. A commission of the caller's own, and "futures:...",
    define it themselves.

    Raises:
        UsageError: the multiplier of a future or an option is unknown or given twice with different values, or a margin
            is set for a product that has none.
    """
    rules = margin_rules(brokerage.margin)
    _check_margins(rules, series, costs)
    return [_terms(one, costs, rules, store) for one in series]


def _terms(series: Series, costs: Costs, rules: dict[str, float], store: Reader) -> Terms:
    told, details = spelled_multiplier(series), manifest_or_empty(store, series).contract
    kind = series.instrument.kind
    tick = details.min_tick if details and details.con_id and kind in CONTRACT_KINDS else 0.0
    stored = _number(details.multiplier, series) if details and kind in CONTRACT_KINDS else None
    if told is not None and stored is not None and not math.isclose(told, stored):
        raise UsageError(
            f"{series.short} names the multiplier {told:g}, but its stored contract details have {stored:g}; "
            "correct the spelling, or download the contract that is meant"
        )
    known = told if told is not None else stored
    if is_own(costs):
        return Terms(tick=tick, model=True)
    charged = per_contract(costs)
    if charged is not None:
        if known is not None and not math.isclose(charged, known):
            raise UsageError(
                f"the costs {costs.name} assume a multiplier of {charged:g} for {series.short}, but its contract "
                "details have "
                f"{known:g}; write {known:g}"
            )
        return Terms(charged, tick, model=True)
    if known is None and kind in CONTRACT_KINDS:
        many, by_costs = "100", ""
        if kind in FUTURE_KINDS:
            many, by_costs = "50", ", or by --costs futures:FEE:MULTIPLIER:MARGIN"
        raise UsageError(
            f"the value of a point of {series.short} is unknown, because its bars came without contract details; name "
            f"the multiplier with the bars (backtest import FILE {series.quoted} --multiplier {many}), or in the "
            f"spelling ({series.instrument}+multiplier={many}/{series.size}){by_costs}"
        )
    margin = rules.get(series.short, rules.get("")) if kind in FUTURE_KINDS else None
    return Terms(1.0 if known is None else known, tick, margin)


def spelled_multiplier(series: Series) -> float | None:
    """
    Return the multiplier in the spelling of a series; None if it has none.

    Raises:
        UsageError: it is not above 0.
    """
    return _number(series.instrument.qualifier("multiplier"), series)


def _number(text: str, series: Series) -> float | None:
    if not text:
        return None
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise UsageError(f"the multiplier of {series.short} is {text!r}; it must be a number above 0, such as 50")
    return found


def _check_margins(rules: dict[str, float], series: Sequence[Series], costs: Costs) -> None:
    if not rules:
        return
    futures = {one.short for one in series if one.instrument.kind in FUTURE_KINDS}
    if not futures:
        raise UsageError("a margin only applies to futures, and none of the series is one; leave it out")
    if unknown := sorted({*rules} - futures - {""}):
        raise UsageError(f"a margin is given for {unknown[0]}, which is not a future of the run; choose from "
                         f"{', '.join(sorted(futures))}")  # fmt: skip
    if is_own(costs) or per_contract(costs) is not None:
        raise UsageError(f"the costs {costs.name} include a margin per contract; leave --margin out")


def trade_by(model: Any, terms: Terms) -> Any:
    """
    Return a Backtrader commission model that also has the multiplier and margin of a contract.

    With a margin, a contract ties up that much cash, gains and losses are settled in cash bar by bar, and there are no
    margin calls. Without one, it is bought and sold short like a share, for its price times the multiplier: no
    leverage.
    """
    if terms.model or (terms.multiplier == 1 and terms.margin is None):
        return model
    multiplier = model.p.mult = terms.multiplier
    if not getattr(model, "by_contract", False):
        model._getcommission = partial(_by_value, model._getcommission, multiplier)
    if terms.margin is not None:
        model.p.margin, model._stocklike = terms.margin, False
        return model
    model.getvaluesize = partial(_worth, multiplier)
    model.getoperationcost = partial(_cost, multiplier)
    model.getsize = partial(_size, multiplier)
    return model


def _by_value(charge: Any, multiplier: float, size: float, price: float, pseudoexec: bool) -> float:
    charged: float = charge(size, price * multiplier, pseudoexec)
    return charged


def _worth(multiplier: float, size: float, price: float) -> float:
    return size * price * multiplier


def _cost(multiplier: float, size: float, price: float) -> float:
    return abs(size) * price * multiplier


def _size(multiplier: float, price: float, cash: float) -> int:
    return int(cash // (price * multiplier))
