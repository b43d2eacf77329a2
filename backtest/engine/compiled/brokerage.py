"""What a broker, its costs and its slippage are to the ledger: constants, and columns of each feed's bars."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from typing import Any

import backtrader as bt
import numpy as np

from backtest.engine.account import commissions, fees
from backtest.engine.account.commissions import IbFixed, IbFixedFees, IbModel, IbTiered
from backtest.engine.compiled.refusals import NotCompiled
from backtest.engine.execution import MarketBroker, Slippage, VolumeCap, half_spread, smallest_size
from backtest.engine.lean.broker import is_still
from backtest.engine.lean.clock import feed_stamps

_MONEY, _SHARE, _IMPACT = 1, 2, 3  # what `ledger.SLIPS` is
_SLIPS = {"": 0, "basis points": _SHARE, "impact": _IMPACT}
_TIERS = {f"TIER_{n}": float(end) for n, (end, _) in enumerate(commissions.TIERS[:-1], 1)}
_TIERS |= {f"RATE_{n}": rate for n, (_, rate) in enumerate(commissions.TIERS, 1)}
_TIERED = _TIERS | {
    "REMOVES": commissions.REMOVES_LIQUIDITY, "CHEAP": commissions.OF_CHEAP_SHARES, "CLEARING": commissions.CLEARING,
    "CLEARING_CAP": commissions.MOST_CLEARING, "PASSED": commissions.PASSED_THROUGH,
}  # fmt: skip


def check_broker(cerebro: Any, at_close: bool = False) -> None:
    """
    Raise NotCompiled if a broker has settings that the ledger does not support.

    Args:
        at_close: whether market orders may fill at the close at which they are submitted.
    """
    broker = cerebro.broker
    if type(broker) not in (bt.brokers.BackBroker, MarketBroker):
        raise NotCompiled("a broker that is not Backtrader's own is not compiled")
    wanted = {"checksubmit": True, "eosbar": False, "slip_perc": 0.0, "slip_fixed": 0.0, "coo": False,
              "shortcash": True}  # fmt: skip
    wanted |= {} if at_close else {"coc": False}
    if other := [name for name, value in wanted.items() if getattr(broker.p, name) != value]:
        raise NotCompiled(f"the broker's {other[0]} is not compiled")
    if broker._userhist or broker._fundhist or any(broker.positions.values()) or cerebro._pretimers or cerebro.sizers:
        raise NotCompiled("a broker with a history, a timer or a sizer is not compiled")
    if type(broker.p.filler) not in (type(None), VolumeCap):
        raise NotCompiled("the broker's filler is not compiled")
    if broker.p.filler is not None and any(smallest_size(data) != 1 for data in cerebro.datas):
        raise NotCompiled("a volume cap on what is traded in parts of a unit is not compiled")
    if len({str(_charges(broker.getcommissioninfo(data), data)) for data in cerebro.datas}) > 1:
        raise NotCompiled("costs that differ between series are not compiled")


def constants_of(cerebro: Any) -> dict[str, Any]:
    """Return what a broker that was checked is to the ledger."""
    broker, datas = cerebro.broker, cerebro.datas
    slippage, capped = _slippage(broker), broker.p.filler is not None
    charges = _charges(broker.getcommissioninfo(datas[0]), datas[0])
    return charges | {
        "SLIPS": _SLIPS.get(slippage.kind, _MONEY), "SLIP": float(slippage.amount), "CAPPED": capped,
        "AT_CLOSE": bool(broker.p.coc), "BILLED": charges["BY_ORDER"] and capped,
        "SPLIT": any(_splits_of(broker.getcommissioninfo(data)) is not None for data in datas),
    }  # fmt: skip


def columns_of(cerebro: Any, constants: Mapping[str, Any]) -> dict[str, list[np.ndarray]]:
    """Return what these constants need of each bar of each feed."""
    broker, datas = cerebro.broker, cerebro.datas
    found: dict[str, list[np.ndarray]] = {}
    if constants["SLIPS"]:
        found["low_before"] = [_before(_line(data, "low")) for data in datas]
        found["high_before"] = [_before(_line(data, "high")) for data in datas]
    if constants["SLIPS"] == _MONEY:
        found |= _and_before("slip", [_distances(broker, data) for data in datas])
    if constants["SLIPS"] == _IMPACT:
        found |= _and_before("volume", [_line(data, "volume") for data in datas])
    if constants["CAPPED"]:
        found |= _and_before("room", [_room(_line(data, "volume"), broker.p.filler.share) for data in datas])
    return found | _dated(cerebro, constants)


def _slippage(broker: Any) -> Slippage:
    return broker.slippage if isinstance(broker, MarketBroker) else Slippage("")


def _line(data: Any, name: str) -> np.ndarray:
    return np.frombuffer(getattr(data.lines, name).array)[: data.buflen()].copy()


def _before(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values[:1], values[:-1]])


def _and_before(name: str, values: list[np.ndarray]) -> dict[str, list[np.ndarray]]:
    return {name: values, f"{name}_before": [_before(one) for one in values]}


def _room(volume: np.ndarray, share: float) -> np.ndarray:
    """Return how many shares all orders in a bar may get; a bar without a volume is no limit."""
    return np.where(volume >= 0, np.floor(volume * share), math.inf)


def _distances(broker: Any, data: Any) -> np.ndarray:
    """Return by how much money prices slip at each bar."""
    kind, amount = broker.slippage.kind, broker.slippage.amount
    if kind == "spread":
        known = broker.half_spreads[data._name]
        return np.array([half_spread(known, stamp) * (amount or 1.0) for stamp in feed_stamps(data).tolist()])
    return np.full(data.buflen(), amount * broker.ticks[data._name] if kind == "ticks" else amount)


def _charges(model: Any, data: Any) -> dict[str, Any]:
    """Return what a commission model is to the ledger."""
    kind = type(model)
    known = kind in (bt.CommInfoBase, bt.CommissionInfo, IbFixed, IbFixedFees, IbTiered)
    own = {"getcommission", "_getcommission", "confirmexec"} & {*vars(model)}
    times = getattr(model, "times", None) if own else 1.0  # a model that charges several times what it did
    plain = is_still(model) and model.p.mult == 1.0 and model.get_leverage() == 1.0
    if not known or not plain or times is None or (own and own != {"_getcommission"}):
        raise NotCompiled(f"the costs {kind.__name__} are not compiled")
    ib, tiered = isinstance(model, IbFixed), kind is IbTiered
    of_other = isinstance(model, IbModel) and model.data is not None and model.data is not data
    if of_other or (tiered and model.traded is None):
        raise NotCompiled(f"the costs {kind.__name__} that are not made for this feed are not compiled")
    found = {"IB": ib, "TIERED": tiered, "FEES": kind in (IbFixedFees, IbTiered), "TIMES": float(times),
             "BY_ORDER": (ib or tiered) and model.bill is not None,
             "RATE": 0.0 if tiered else float(model.p.commission),
             "MINIMUM": float(model.p.minimum) if ib or tiered else 0.0,
             "CAP": float(model.p.cap) if ib or tiered else 0.0,
             "PER_SHARE": model._commtype == bt.CommInfoBase.COMM_FIXED}  # fmt: skip
    return found | (_TIERED if tiered else {})


def _splits_of(model: Any) -> Any:
    return getattr(model, "splits", None)


def _dated(cerebro: Any, constants: Mapping[str, Any]) -> dict[str, list[np.ndarray]]:
    """Return what costs go by that is the day's."""
    models = [cerebro.broker.getcommissioninfo(data) for data in cerebro.datas]
    days = [_days_of(model, data) for model, data in zip(models, cerebro.datas, strict=True)]
    found: dict[str, list[np.ndarray]] = {}
    if constants["BILLED"]:
        found["day"] = [own.astype(float) for own in days]
    if constants["SPLIT"]:
        pairs = [(_splits_of(model), own) for model, own in zip(models, days, strict=True)]
        found["split"] = [np.ones(len(own)) if one is None else _by_day(one.on, own) for one, own in pairs]
    if constants["FEES"]:
        found["sec"] = [_by_day(fees.SEC_FEE.on, own) for own in days]
        found["taf"] = [_by_day(lambda day: fees.TRADING_ACTIVITY_FEE.on(day)[0], own) for own in days]
        found["taf_most"] = [_by_day(lambda day: fees.TRADING_ACTIVITY_FEE.on(day)[1], own) for own in days]
    if constants["TIERED"]:
        found["month"] = [_by_day(_month, own) for own in days]
    return found


def _days_of(model: Any, data: Any) -> np.ndarray:
    """Return the day of each bar as a model computes it; none for a model without a feed."""
    if getattr(model, "data", None) is None:
        return np.full(data.buflen(), date.max.toordinal())
    return feed_stamps(data).astype(np.int64)


def _month(day: int) -> int:
    own = date.fromordinal(day)
    return own.year * 12 + own.month


def _by_day(value: Any, days: np.ndarray) -> np.ndarray:
    own, places = np.unique(days, return_inverse=True)
    return np.array([value(day) for day in own.tolist()], float)[places]
