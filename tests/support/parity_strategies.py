"""Strategies that note what they are told and what they see, more of it or less: what nobody asks may be left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import backtrader as bt
import parity_snapshot

Act = Callable[[Any, str], None]  # what a strategy does, by the name of the method it is called in


class Watcher(bt.Strategy):
    """
    A strategy made of functions: `make` its indicators, `look` at a bar, `act` in each of its methods.

    It notes nothing by itself: HOOKS are the methods that do, and `watcher` makes a class with some of them.
    """

    params = (("make", None), ("look", None), ("act", None), ("odd", None))

    def __init__(self):
        self.told = []  # orders and trades as they were handed out, to see that they don't change afterwards
        self.made = self.p.make(self) if self.p.make else []
        self.does("init")

    def does(self, where):
        if self.p.act:
            self.p.act(self, where)

    def sees(self, where):
        self.note(where, len(self), self.p.look(self) if self.p.look else None)

    def note(self, *entry):
        self.cerebro.log.append((self._id, *entry))


def start(self):
    self.note("start", len(self), [len(data) for data in self.datas], parity_snapshot.account(self.broker))
    self.does("start")


def prenext(self):
    self.sees("prenext")
    self.does("prenext")


def eager_prenext(self):
    self.next()


def nextstart(self):
    self.sees("nextstart")
    self.does("nextstart")
    self.next()


def next_(self):
    self.sees("next")
    self.does("next")


def stop(self):
    self.note("stop", len(self), [len(data) for data in self.datas], parity_snapshot.account(self.broker))
    self.does("stop")


def notify_order(self, order):
    self.note("order", len(self), parity_snapshot.order(order), self.broker.getcash(), self.broker.getvalue())
    self.told.append(order)
    self.does("notify_order")


def notify_trade(self, trade):
    self.note("trade", len(self), parity_snapshot.trade(trade))
    self.told.append(trade)
    self.does("notify_trade")


def notify_cashvalue(self, cash, value):
    self.note("cashvalue", len(self), cash, value)
    self.does("notify_cashvalue")


def notify_fund(self, cash, value, fundvalue, shares):
    self.note("fund", len(self), cash, value, fundvalue, shares)
    self.does("notify_fund")


def notify_store(self, msg, *args, **kwargs):
    self.note("store", len(self), msg, args, sorted(kwargs))


def notify_data(self, data, status, *args, **kwargs):
    self.note("data", len(self), data._name, status, args, sorted(kwargs))


def notify_timer(self, timer, when, *args, **kwargs):
    self.note("timer", len(self), when, args, sorted(kwargs), self.broker.getcash(), len(self.data))
    self.does("notify_timer")


def next_open(self):
    self.note("open", len(self), len(self.data), self.data.open[0], self.broker.getcash())
    self.does("next_open")


def prenext_open(self):
    self.note("preopen", len(self), len(self.data))


HOOKS: Mapping[str, Any] = {
    "start": start,
    "prenext": prenext,
    "nextstart": nextstart,
    "next": next_,
    "stop": stop,
    "notify_order": notify_order,
    "notify_trade": notify_trade,
    "notify_cashvalue": notify_cashvalue,
    "notify_fund": notify_fund,
    "notify_store": notify_store,
    "notify_data": notify_data,
    "notify_timer": notify_timer,
    "next_open": next_open,
    "prenext_open": prenext_open,
}


@cache
def watcher(*hooks: str, lines: tuple[str, ...] = (), eager: bool = False) -> type[Watcher]:
    """Return a strategy class with these of the HOOKS, and lines of its own; an eager one waits for no period."""
    members = {name: HOOKS[name] for name in hooks} | ({"prenext": eager_prenext} if eager else {})
    return type("Watching", (Watcher,), {**members, "lines": lines})


def everything(strategy: Any) -> list[Any]:
    """Return all that can be seen, each thing at every third bar: what is seen at one bar may be missed at the next."""
    looks = [look for number, look in enumerate(LOOKS.values()) if (number + len(strategy)) % 3 == 0]
    return [
        [look(strategy, data) for data in strategy.datas if len(data) for look in looks],
        [parity_snapshot.present(line) for one in parity_snapshot.tree(strategy) for line in _lines(one)],
        parity_snapshot.account(strategy.broker),
    ]


def nothing(strategy: Any) -> None:
    """Look at nothing."""


def _lines(one: Any) -> list[Any]:
    return [one] if isinstance(one, bt.linebuffer.LineBuffer) else list(one.lines)


def _bar(strategy, data):
    return [line[0] for line in data.lines]


def _ticks(strategy, data):
    return parity_snapshot.fields(data, parity_snapshot.TICKS)


def _previous(strategy, data):
    try:
        return data.close[-1], data.open[-1], data.close[0] - data.close[-1]
    except IndexError as error:  # before the first bar lies the last one, or nothing
        return repr(error)


def _several(strategy, data):
    if len(data) < 4:
        return None  # a buffer that keeps few values cannot be asked for more of them
    return list(data.close.get(size=3)), list(data.get(ago=-1, size=2)), list(data.datetime.get(size=2))


def _times(strategy, data):
    return data.datetime.datetime(), data.datetime.date(), data.datetime.time(), strategy.datetime.datetime(0)


def _lengths(strategy, data):
    return len(strategy), len(data), data.buflen(), len(data.lines), [len(one) for one in strategy.getindicators()]


def _position(strategy, data):
    held = strategy.getposition(data)
    return (
        parity_snapshot.position(held),
        bool(held),
        strategy.position.size,
        strategy.getpositionbyname(data._name).size,
    )


def _asked_position(strategy, data):
    return strategy.broker.getposition(data).size


def _cash(strategy, data):
    return strategy.broker.getcash(), strategy.broker.get_fundvalue(), strategy.broker.get_fundshares()


def _value(strategy, data):
    return strategy.broker.getvalue(), strategy.broker.get_value(mkt=True), strategy.broker.get_leverage()


def _own_value(strategy, data):
    broker = strategy.broker
    return broker.getvalue([data]), broker.get_value([data], lever=True), broker.getvalue(strategy.datas)


def _orders(strategy, data):
    broker = strategy.broker
    pending = [parity_snapshot.order(one) for one in broker.get_orders_open()[:2]]
    return pending, [(one.ref, one.status, one.alive()) for one in broker.orders[-3:]]


def _names(strategy, data):
    return strategy.getdatabyname(data._name)._name, sorted(strategy.dnames), strategy.getdatanames()


def _indicators(strategy, data):
    return [[parity_snapshot.present(line) for line in _lines(one)] for one in strategy.getindicators()]


def _stats(strategy, data):
    return [[parity_snapshot.present(line) for line in one.lines] for one in strategy.getobservers() if len(one)]


def _operators(strategy, data):
    made = [one for one in strategy.getindicators()[:2] if len(one)]
    shown = [(one > 0, one < data.close, bool(one), one + 1.0, -one) for one in made]
    return shown, data.close > data.open, data > 2.0, data.close - data.open, abs(data.close), data.high[0] == data.high


def _arrays(strategy, data):
    return data.close.array[0], len(data.close.array), [len(one.array) for one in strategy.lines]


def _stamps(strategy, data):
    return bt.num2date(data.datetime[0]).isoformat(), data.num2date(), strategy.datetime.date(), data.datetime.tm_raw()


def _positions(strategy, data):
    held = strategy.positions.items(), strategy.broker.positions.items()
    shown = [[(of._name, *parity_snapshot.fields(one, ["size", "price"])) for of, one in items] for items in held]
    return shown, list(strategy.positionsbyname)


LOOKS: Mapping[str, Callable[[Any, Any], Any]] = {
    "bar": _bar,
    "ticks": _ticks,
    "previous": _previous,
    "several": _several,
    "times": _times,
    "lengths": _lengths,
    "position": _position,
    "asked position": _asked_position,
    "cash": _cash,
    "value": _value,
    "own value": _own_value,
    "orders": _orders,
    "names": _names,
    "indicators": _indicators,
    "stats": _stats,
    "operators": _operators,
    "arrays": _arrays,
    "stamps": _stamps,
    "positions": _positions,
}


@dataclass(frozen=True)
class Eyes:
    """How closely a strategy of a given script watches."""

    hooks: tuple[str, ...]
    look: Callable[[Any], Any]

    def strategy(self, steps: Mapping[Any, Any]) -> type[Watcher]:
        """Return the class: with the methods that the steps need, whatever it notes."""
        return watcher(*sorted({*self.hooks, *(name for name in steps if name in HOOKS)}))


LOUD = Eyes(tuple(HOOKS), everything)
QUIET = Eyes(("next", "prenext"), nothing)


def script(steps: Mapping[Any, Any]) -> Act:
    """Return an `act` that does steps[n] at bar n of next or prenext, and steps["stop"], say, in stop."""

    def act(strategy, where):
        step = steps.get(where) or (steps.get(len(strategy)) if where in ("next", "prenext") else None)
        if step:
            step(strategy)

    return act
