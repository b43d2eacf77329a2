"""Trials by the compiled engine and by the event engine, compared to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import backtrader as bt
import numpy as np

from backtest.engine.account.commissions import IbFixed, MonthlyVolume, costs_named, model_for
from backtest.engine.compiled.trials import Outcomes, run_trials
from backtest.engine.lean.cerebro import Cerebro
from backtest.engine.recorder import Recorder

COSTS: dict[str, Callable[[Any], Any]] = {
    "ib-fixed": lambda broker: broker.addcommissioninfo(IbFixed()),
    "ib-fixed, by order": lambda broker: broker.addcommissioninfo(
        model_for(costs_named("ib-fixed"), None, MonthlyVolume())
    ),
    "percent": lambda broker: broker.setcommission(0.001),
    "none": lambda broker: broker.setcommission(0.0),
}


@dataclass
class Event:
    """What a trial came to by the event engine; `error` says what it raised."""

    error: str = ""
    equity: Any = None
    cash: Any = None
    positions: Any = None
    orders: Any = None
    fills: Any = None


def set_up_of(costs: str, cash: float = 100_000.0) -> Callable[[Any], None]:
    """Return what sets cash and costs."""

    def set_up(cerebro: Any) -> None:
        cerebro.broker.setcash(cash)
        COSTS[costs](cerebro.broker)

    return set_up


def by_events(cls: type[Any], params: Mapping[str, Any], feeds: Sequence[Any], set_up: Callable[[Any], None]) -> Event:
    """Return what a trial comes to by the event engine."""
    cerebro = Cerebro(stdstats=False)
    for feed in feeds:
        cerebro.adddata(feed)
    set_up(cerebro)
    cerebro.addanalyzer(Recorder, _name="recorder")
    cerebro.addstrategy(cls, **params)
    try:
        (ran,) = cerebro.run()
    except Exception as error:  # noqa: BLE001 - the trial fails, as it may
        return Event(error=f"{type(error).__name__}: {error}")
    taken = ran.analyzers.recorder
    broker = cerebro.broker
    for order in {**taken._alive, **{order.ref: order for order in [*broker.pending, *broker.orders]}}.values():
        taken._over.add(order)
    names = {n: [data._name for data in ran.datas].index(name) for name, n in taken._over._names.items()}
    orders = _rows(taken._over._orders, 11, names, taken._over.first)
    fills = _rows(taken._over._fills, 6, names, taken._over.first)
    return Event(
        "",
        np.asarray(taken.equity),
        np.asarray(taken.cash),
        np.array([np.asarray(one) for one in taken.positions]).T,
        orders[np.argsort(orders[:, 0], kind="stable")],
        fills[np.lexsort((fills[:, 0], fills[:, 2]))],
    )


def _rows(flat: Any, width: int, names: dict[int, int], first: int) -> np.ndarray:
    rows: np.ndarray = np.frombuffer(flat).reshape(-1, width).copy()
    rows[:, 0] -= first - 1
    rows[:, 1] = [names[int(one)] for one in rows[:, 1]]
    return rows


def difference(outcomes: Outcomes, number: int, event: Event) -> str:
    """Return what differs in a trial; "" for nothing."""
    if event.error:
        return f"the event engine raises {event.error}"
    orders = outcomes.orders[slice(*outcomes.orders_from[number : number + 2])]
    fills = outcomes.fills[slice(*outcomes.fills_from[number : number + 2])]
    fills = fills[np.lexsort((fills[:, 0], fills[:, 2]))]
    mine = {
        "orders": orders,
        "fills": fills,
        "cash": outcomes.cash[number],
        "equity": outcomes.equity[number],
        "positions": outcomes.positions[number],
    }
    for name, values in mine.items():
        other = getattr(event, name)
        if values.shape != other.shape:
            return f"{name}: {values.shape} and {other.shape}"
        same = (values == other) | (np.isnan(values) & np.isnan(other))
        if not same.all():
            at = tuple(int(one[0]) for one in np.nonzero(~same))
            return f"{name} at {at}: {values[at]!r} and {other[at]!r}"
    return ""


def differences(
    cls: type[Any],
    params: Sequence[Mapping[str, Any]],
    feeds: Callable[[], Sequence[Any]],
    set_up: Callable[[Any], None],
) -> tuple[Outcomes, dict[int, str]]:
    """Return the outcomes of trials, and what differs in each that was made."""
    outcomes = run_trials(cls, params, feeds(), set_up)
    if outcomes.why_not:
        return outcomes, {}
    found = {}
    for number, one in enumerate(params):
        if number not in outcomes.left:
            said = difference(outcomes, number, by_events(cls, one, feeds(), set_up))
            if said:
                found[number] = said
    return outcomes, found


def backends_differ(
    cls: type[Any],
    params: Sequence[Mapping[str, Any]],
    feeds: Callable[[], Sequence[Any]],
    set_up: Callable[[Any], None],
) -> tuple[Outcomes, list[str]]:
    """Return the outcomes by numba, and what of them differs from those by numpy."""
    fast, plain = (run_trials(cls, params, feeds(), set_up, backend=one) for one in ("numba", "numpy"))
    names = ("why_not", "left", "equity", "cash", "positions", "orders", "fills", "orders_from", "fills_from")
    return fast, [name for name in names if not np.array_equal(getattr(fast, name), getattr(plain, name))]


def named(feeds: Sequence[Any]) -> list[Any]:
    """Return feeds with names."""
    for number, feed in enumerate(feeds):
        feed._name = f"d{number}"
    return list(feeds)


__all__ = ["bt", "by_events", "difference", "differences", "named", "set_up_of"]
