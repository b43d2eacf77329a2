"""
What a run shows and leaves, as plain values: equal when printed means equal to the last bit.

`repr` of a float names one double, tells 1 from 1.0 and 0.0 from -0.0, and lets NaN equal NaN.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any

import backtrader as bt

ORDER_FIELDS = [
    "ref",
    "status",
    "exectype",
    "size",
    "price",
    "pricelimit",
    "valid",
    "tradeid",
    "trailamount",
    "trailpercent",
    "transmit",
    "triggered",
    "plen",
    "dteos",
    "histnotify",
    "simulated",
]
# Of what was asked for, and of what was executed.
SIDE_FIELDS = [
    "dt",
    "size",
    "remsize",
    "price",
    "pricelimit",
    "plimit",
    "value",
    "comm",
    "margin",
    "pnl",
    "psize",
    "pprice",
    "pclose",
    "trailamount",
    "trailpercent",
    "p1",
    "p2",
]
FILL_FIELDS = [
    "dt",
    "size",
    "price",
    "closed",
    "opened",
    "closedvalue",
    "openedvalue",
    "closedcomm",
    "openedcomm",
    "value",
    "comm",
    "pnl",
    "psize",
    "pprice",
]
TRADE_FIELDS = [
    "ref",
    "status",
    "tradeid",
    "size",
    "price",
    "value",
    "commission",
    "pnl",
    "pnlcomm",
    "justopened",
    "isopen",
    "isclosed",
    "baropen",
    "dtopen",
    "barclose",
    "dtclose",
    "barlen",
    "historyon",
    "long",
]
POSITION_FIELDS = ["size", "price", "price_orig", "upopened", "upclosed", "adjbase", "datetime"]
TICKS = ("tick_open", "tick_high", "tick_low", "tick_close", "tick_volume", "tick_openinterest", "tick_last")
INDICATORS = bt.LineIterator.IndType


def fields(thing: Any, names: list[str]) -> tuple[Any, ...]:
    """Return the named attributes; one that is not there is not the same as None, and a line is one like another."""
    values = [getattr(thing, name, "absent") for name in names]
    return tuple([type(value).__name__ if isinstance(value, bt.LineRoot) else value for value in values])


def order(one: Any) -> tuple[Any, ...]:
    """Return all that a user can see of an order."""
    return (
        isinstance(one, bt.order.BuyOrder),
        *fields(one, ORDER_FIELDS),
        (one.isbuy(), one.alive(), one.active(), one.getstatusname(), one.getordername()),
        (one.data._name, one.owner is not None and one.owner._id, one.parent is not None and one.parent.ref),
        plain(one.info),
        type(one.comminfo).__name__,
        side(one.created),
        side(one.executed),
    )


def side(one: Any) -> tuple[Any, ...]:
    return (*fields(one, SIDE_FIELDS), [fields(bit, FILL_FIELDS) for bit in one.exbits])


def trade(one: Any) -> tuple[Any, ...]:
    """Return all that a user can see of a trade."""
    return (*fields(one, TRADE_FIELDS), one.data._name, truth(one), [plain(step) for step in one.history])


def truth(one: Any) -> Any:
    """Return whether a trade is open; one of a size of numpy's cannot say."""
    try:
        return bool(one)
    except TypeError as error:
        return repr(error)


def position(one: Any) -> tuple[Any, ...]:
    return fields(one, POSITION_FIELDS)


def account(broker: Any) -> tuple[Any, ...]:
    """Return every figure of the account."""
    return (
        broker.getcash(),
        broker.getvalue(),
        broker.get_value(lever=True),
        broker.get_value(mkt=True),
        broker.get_leverage(),
        broker.fundvalue,
        broker.fundshares,
        broker.startingcash,
    )


def lines(one: Any, count: int | None = None) -> list[tuple[Any, ...]]:
    """Return each line's length, present value and array (its first values, if a count is given)."""
    own = [one] if isinstance(one, bt.linebuffer.LineBuffer) else list(one.lines)
    return [(len(line), line.buflen(), present(line), bits(line.array, count)) for line in own]


def present(line: Any) -> Any:
    try:
        return line[0]
    except IndexError as error:
        return repr(error)


def bits(values: Any, count: int | None = None) -> bytes:
    """Return the bytes of the values; any NaN is the same NaN."""
    return array("d", [value if value == value else float("nan") for value in list(values)[:count]]).tobytes()


def tree(owner: Any) -> Iterator[Any]:
    """Yield all indicators and operations below an owner, in the order of their making."""
    for one in getattr(owner, "_lineiterators", {}).get(INDICATORS, ()):
        yield one
        yield from tree(one)


def plain(value: Any) -> Any:
    """Return mappings, sequences and Backtrader's own objects as tuples."""
    if isinstance(value, Mapping):
        return type(value).__name__, [(plain(key), plain(kept)) for key, kept in value.items()]
    if isinstance(value, list | tuple | set):
        return [plain(one) for one in value]
    if isinstance(value, bt.Order):
        return order(value)
    if isinstance(value, bt.Trade):
        return trade(value)
    if value is None or isinstance(value, str | int | float | bytes | date | timedelta):
        return value
    return type(value).__name__


def data(one: Any) -> dict[str, Any]:
    return {"name": one._name, "len": (len(one), one.buflen()), "ticks": fields(one, list(TICKS)), "lines": lines(one)}


def broker(one: Any) -> dict[str, Any]:
    """Return what a broker holds; a custom one may hold less."""
    held = vars(one)
    return {
        "account": account(one),
        "positions": [(data._name, position(kept)) for data, kept in held.get("positions", {}).items()],
        "credit": [(data._name, kept) for data, kept in held.get("d_credit", {}).items()],
        **{name: [known and order(known) for known in held.get(name, ())] for name in ("orders", "pending")},
        **{name: [known.ref for known in held.get(name, ())] for name in ("submitted", "notifs")},
    }


def strategy(one: Any) -> dict[str, Any]:
    """Return a strategy's lines, indicators, observers, analyzers, trades and what it kept."""
    return {
        "class": type(one).__name__,
        "len": len(one),
        "lines": lines(one, len(one)),
        "indicators": [(type(below).__name__, lines(below)) for below in tree(one)],
        # In vector mode observers' arrays are twice as long as the run, and the rest means nothing.
        "observers": [(type(seen).__name__, lines(seen, len(seen))) for seen in one.getobservers()],
        "analyzers": [(name, plain(kept.get_analysis())) for name, kept in one.analyzers.getitems()],
        "trades": [
            (of._name, tradeid, [trade(kept) for kept in trades])
            for of, by_id in one._trades.items()
            for tradeid, trades in by_id.items()
        ],
        "orders": [(kept.ref, kept.status, kept.executed.size) for kept in one._orders],
        "told": [plain(kept) for kept in getattr(one, "told", ())],
    }


def left(cerebro: Any) -> dict[str, Any]:
    """Return what a Cerebro holds after a run, also after one that an exception ended."""
    return {
        "broker": broker(cerebro.broker),
        "datas": [data(one) for one in cerebro.datas],
        "strategies": [strategy(one) for one in getattr(cerebro, "runningstrats", ())],
        "next refs": (next(bt.Order.refbasis), next(bt.Trade.refbasis)),
    }
