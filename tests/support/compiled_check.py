"""Trials by the compiled engine and by the event engine, compared to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import backtrader as bt
import numpy as np

from backtest.engine.account.commissions import IbFixed, MonthlyVolume, costs_named, model_for
from backtest.engine.account.fees import Dated
from backtest.engine.compiled.trials import Outcomes, run_trials
from backtest.engine.execution import charge_by_order, set_up_market
from backtest.engine.lean.cerebro import Cerebro
from backtest.engine.recorder import Recorder
from backtest.runs.spec import Brokerage

COSTS: dict[str, Callable[[Any], Any]] = {
    "ib-fixed": lambda cerebro: cerebro.broker.addcommissioninfo(IbFixed()),
    "ib-fixed, by order": lambda cerebro: cerebro.broker.addcommissioninfo(
        model_for(costs_named("ib-fixed"), None, MonthlyVolume())
    ),
    "percent": lambda cerebro: cerebro.broker.setcommission(0.001),
    "none": lambda cerebro: cerebro.broker.setcommission(0.0),
}
SPLITS = Dated.of([("2000-01-01", 8.0), ("2024-01-20", 2.0), ("2024-02-10", 1.0)])


def _dated(name: str, shares: float = 0.0, splits: Dated | None = None) -> Callable[[Any], Any]:
    """Return what sets costs that know each feed's day, of an account that has traded some shares before."""

    def put(cerebro: Any) -> None:
        traded = MonthlyVolume(2023 * 12 + 12, shares)
        for data in cerebro.datas:
            model = model_for(costs_named(name), data, traded)
            model.splits = splits
            cerebro.broker.addcommissioninfo(model, name=data._name)

    return put


DATED = {
    "ib-fixed-fees": _dated("ib-fixed-fees"),
    "ib-tiered": _dated("ib-tiered"),
    "ib-tiered, after many shares": _dated("ib-tiered", 299_995.0),
    "ib-tiered, splits": _dated("ib-tiered", 2_999_998.0, SPLITS),
    "ib-fixed, splits": _dated("ib-fixed", 0.0, SPLITS),
    "three times ib-tiered": _dated("3x:ib-tiered"),
}
MARKETS = {  # slippage and volume cap
    "": ("", 0.0), "5bp": ("5bp", 0.0), "money": ("0.05", 0.0), "ticks": ("2ticks", 0.0), "spread": ("spread:2", 0.0),
    "impact": ("impact:0.4", 0.0), "cap": ("", 0.003), "5bp, cap": ("50bp", 0.002),
    "impact, cap": ("impact:0.5", 0.004),
}  # fmt: skip


@dataclass
class Event:
    """What a trial came to by the event engine; `error` says what it raised."""

    error: str = ""
    equity: Any = None
    cash: Any = None
    positions: Any = None
    orders: Any = None
    fills: Any = None
    asked: Any = None  # prices without slippage, of the fills in order


def set_up_of(costs: str, cash: float = 100_000.0, market: str = "") -> Callable[[Any], None]:
    """Return what sets cash, costs, and how orders meet the market."""
    slippage, cap = MARKETS[market]

    def set_up(cerebro: Any) -> None:
        names = [data._name for data in cerebro.datas]
        quotes = {name: _half_spreads(data) for name, data in zip(names, cerebro.datas, strict=True)}
        set_up_market(cerebro, Brokerage(slippage=slippage, volume_cap=cap), lambda: quotes, dict.fromkeys(names, 0.01))
        cerebro.broker.setcash(cash)
        {**COSTS, **DATED}[costs](cerebro)

    return set_up


def _half_spreads(data: Any) -> tuple[list[float], list[float]]:
    """Return made-up quotes of a feed made by hand, which some of its bars lack."""
    stamps = [bt.date2num(bar.time) for bar in getattr(data.p, "dataname", None) or [] if hasattr(bar, "time")]
    known = [(stamp, place % 7 / 50) for place, stamp in enumerate(stamps) if place % 5]
    return [stamp for stamp, _ in known], [half for _, half in known]


def by_events(cls: type[Any], params: Mapping[str, Any], feeds: Sequence[Any], set_up: Callable[[Any], None]) -> Event:
    """Return what a trial comes to by the event engine."""
    cerebro = Cerebro(stdstats=False)
    for feed in feeds:
        cerebro.adddata(feed)
    set_up(cerebro)
    if cerebro.broker.p.filler is not None:  # whose loop is Backtrader's own
        charge_by_order(cerebro.broker)
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
    fills = fills[np.lexsort((fills[:, 0], fills[:, 2]))]
    asked = broker.unslipped((fills[:, 0] + taken._over.first - 1).tolist()) if hasattr(broker, "unslipped") else []
    return Event(
        "",
        np.asarray(taken.equity),
        np.asarray(taken.cash),
        np.array([np.asarray(one) for one in taken.positions]).T,
        orders[np.argsort(orders[:, 0], kind="stable")],
        fills,
        np.array(asked),
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
    by_time = np.lexsort((fills[:, 0], fills[:, 2]))
    asked = outcomes.asked[slice(*outcomes.fills_from[number : number + 2])]
    fills, asked = fills[by_time], asked[by_time] if len(asked) else asked
    mine = {
        "orders": orders,
        "fills": fills,
        "asked": asked,
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
    names = ("why_not", "left", "equity", "cash", "positions", "orders", "fills", "asked", "orders_from", "fills_from")
    return fast, [name for name in names if not np.array_equal(getattr(fast, name), getattr(plain, name))]


def named(feeds: Sequence[Any]) -> list[Any]:
    """Return feeds with names."""
    for number, feed in enumerate(feeds):
        feed._name = f"d{number}"
    return list(feeds)


__all__ = ["bt", "by_events", "difference", "differences", "named", "set_up_of"]
