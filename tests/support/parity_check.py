"""Run the same case with Backtrader's Cerebro and with ours, and tell the first difference."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable
from typing import Any

import backtrader as bt
import parity_snapshot

from backtest.engine.lean.cerebro import Cerebro  # the class under test, named here alone

Build = Callable[[type[bt.Cerebro]], bt.Cerebro]  # makes a Cerebro of the given class, ready to run, with a `log`
Outcome = dict[str, Any]


def difference(build: Build, ours: type[bt.Cerebro] = Cerebro) -> str:
    """Return the first difference between Backtrader's run and ours; an empty text if there is none."""
    return difference_of(outcome(build, bt.Cerebro), outcome(build, ours))


def difference_of(stock: Outcome, ours: Outcome) -> str:
    """Return the first difference in the log, with that in how the runs ended; else the first in what they left."""
    if repr(stock) == repr(ours):
        return ""
    told = [first_difference(stock[name], ours[name], name) for name in ("log", "ended")]
    return "\n".join(filter(None, told)) or first_difference(stock, ours)


def outcome(build: Build, cerebro_class: type[bt.Cerebro]) -> Outcome:
    """Run a case and return what the strategies noted, how the run ended and what it left."""
    # The references of orders and trades are counted in their classes, for a whole process: count from 1 again.
    bt.order.OrderBase.refbasis = itertools.count(1)
    bt.Trade.refbasis = itertools.count(1)
    vars(bt.lineiterator.LinesCoupler).pop("counter", None)  # as are the names of couplers' classes
    cerebro = build(cerebro_class)
    ended = end(cerebro)
    return {"log": cerebro.log, "ended": ended, **parity_snapshot.left(cerebro)}


def end(cerebro: bt.Cerebro) -> Any:
    try:
        returned = cerebro.run()
    except Exception as error:  # noqa: BLE001 - whatever a strategy raises must come out of both
        return "raised", type(error).__name__, str(error)
    return "returned", [result(one) for one in returned]


def result(one: Any) -> Any:
    """Return what a returned strategy is, or those of one run of an optimisation."""
    if isinstance(one, list):
        return [result(inner) for inner in one]
    if isinstance(one, bt.cerebro.OptReturn):
        return one.p._getkwargs(), [(type(kept).__name__, parity_snapshot.plain(kept.rets)) for kept in one.analyzers]
    return type(one).__name__, one.p._getkeys(), len(one)


def first_difference(stock: Any, ours: Any, where: str = "") -> str:
    """Return where two outcomes first differ, and what each has there."""
    if repr(stock) == repr(ours):
        return ""
    if isinstance(stock, dict) and isinstance(ours, dict) and stock.keys() == ours.keys():
        return next(filter(None, (first_difference(stock[key], ours[key], f"{where}.{key}") for key in stock)))
    if isinstance(stock, list | tuple) and type(stock) is type(ours) and stock[:1] == ours[:1]:
        return _in_sequence(stock, ours, where)
    if isinstance(stock, bytes) and isinstance(ours, bytes):
        return first_difference(list(array("d", stock)), list(array("d", ours)), f"{where}.array")
    return f"{where}: stock has {stock!r}, ours {ours!r}"


def _in_sequence(stock: Any, ours: Any, where: str) -> str:
    for n, (one, other) in enumerate(zip(stock, ours, strict=False)):
        if repr(one) != repr(other):
            return first_difference(one, other, f"{where}[{n}]") + (f"\n  in {one!r}" if where == "log" else "")
    longer, name = (stock, "stock") if len(stock) > len(ours) else (ours, "ours")
    return f"{where}: {name} goes on with {longer[min(len(stock), len(ours))]!r}"
