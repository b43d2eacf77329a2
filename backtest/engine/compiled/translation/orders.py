"""`Orders`: translate a strategy's calls to its broker."""

# ruff: noqa: D102 - methods are named after the nodes and values that they are for

from __future__ import annotations

import ast
from typing import Any

import backtrader as bt

from backtest.engine.compiled.refusals import NotCompiled
from backtest.engine.compiled.translation.feed_lists import FeedLists
from backtest.engine.compiled.translation.methods import ORDERS
from backtest.engine.compiled.translation.program import Val, always_none, kind_in_words

_COMPILED_KINDS = range(6)  # of orders
_SIDES: dict[str, Any] = {"stop": bt.Order.Stop, "limit": bt.Order.Limit}  # of a bracket, in order
_OF_MAIN = ("size", "price", "plimit", "exectype", "trailamount", "trailpercent")
_BRACKET = ("data", "size", "price", "plimit", "exectype", "valid")
_OF_BRACKET = {"data", "valid", *_OF_MAIN, *(f"{one}{what}" for one in _SIDES for what in ("price", "exec"))}


class Orders(FeedLists):
    """Orders of a strategy."""

    def call_of_broker(self, name: str, node: ast.Call) -> Val:
        if name in ("getcash", "get_cash"):
            return Val("f", "A.cash")
        if name in ("getvalue", "get_value") and not node.args and not node.keywords:
            found = self.fresh("f")
            self.emit(f"{found} = f_value()")
            return Val("f", found)
        if name == "getposition" and len(node.args) == 1:
            code = self.feed_code(self.expression(node.args[0]))
            self.asks(code)
            return Val("position", code)
        if name == "cancel":
            return self.cancel(node)
        if name == "getcommissioninfo" and len(node.args) == 1:
            self.feed_code(self.expression(node.args[0]))
            return Val("costs")
        raise NotCompiled(f"self.broker.{name}() is called", self.at)

    def worth(self, name: str, node: ast.Call) -> Val:
        """Return the gain of one unit from a price of 0, which equals its price for costs that can be compiled."""
        *first, price = node.args or [ast.Constant(None)]
        if name != "profitandloss" or [one.value for one in first if isinstance(one, ast.Constant)] != [1, 0]:
            raise NotCompiled(f"it calls {name}() of the costs", self.at)
        return self.lifted(self.expression(price))

    def cancel(self, node: ast.Call) -> Val:
        order = self.expression(node.args[0])
        if order.kind == "note":
            raise NotCompiled("an order is cancelled as it was notified", self.at)
        if order.kind == "none":
            return Val("none")
        if order.kind != "order":
            raise NotCompiled(order.why or f"{kind_in_words(order.kind)} is cancelled", order.line or self.at)
        self.effects = True
        self.emit(f"cancel({self.given(order).code})")
        return Val("none")

    def feed_named(self, value: Val) -> Val:
        if value.kind == "static" and all(isinstance(one, str) for one in value.objs):
            names = {data._name: data for data in self.datas}
            return self.over(lambda name: names[name], [value])
        return value

    def order(self, name: str, node: ast.Call) -> Val:
        names = ORDERS[name][1]
        if any(one.arg is None for one in node.keywords):
            raise NotCompiled(f"{name}(**...)", self.at)
        words = [*names[: len(node.args)], *(str(one.arg) for one in node.keywords)]
        values = self.sequence([*node.args, *(one.value for one in node.keywords)])
        return self.ordered_by(name, dict(zip(words, values, strict=True)))

    def ordered_by(self, name: str, given: dict[str, Val]) -> Val:
        """Return the order that a method gives for arguments."""
        function = ORDERS[name][0]
        known = {"data", "size", "target", "price", "plimit", "exectype", "valid", "trailamount", "trailpercent"}
        linked = {one: given.pop(one) for one in ("parent", "transmit", "oco") if one in given}
        if other := [one for one in given if one not in known and not self.idle(one, given[one])]:
            raise NotCompiled(f"{name}({other[0]}=...)", self.at)
        data = given.get("data", Val("none"))
        feed = "0" if data.kind == "none" or always_none(data) else self.feed_code(self.feed_named(data))
        kind = given.get("exectype", Val("none"))
        kind = Val("i", "0", objs=(0,)) if kind.kind == "none" or always_none(kind) else self.lifted(kind)
        if kind.kind != "i" or (kind.objs and kind.objs[0] not in _COMPILED_KINDS) or not kind.objs:
            raise NotCompiled("a kind of order that is not compiled", self.at)
        self.made.closes |= kind.objs[0] == bt.Order.Close
        self.made.market_only &= kind.objs[0] == bt.Order.Market
        until = self.until(given["valid"], feed) if "valid" in given else None
        if until is not None:
            given = {one: value for one, value in given.items() if one != "valid"}
        numbers = {one: self.optional(given.get(one, Val("none"))) for one in known - {"data", "exectype"}}
        if numbers["valid"] != "NAN" and given["valid"].kind not in ("static", "f", "i"):
            raise NotCompiled("valid that may be None", self.at)
        valid = until or ("0.0" if numbers["valid"] == "NAN" else numbers["valid"])
        trail = [self.or_zero(given.get(one, Val("none")), numbers[one]) for one in ("trailamount", "trailpercent")]
        rest = ", ".join([numbers["price"], numbers["plimit"], kind.code, valid, *trail])
        size = numbers["target"] if "target" in name else numbers["size"]
        if "target" in name and size == "NAN":
            size = "0.0"
        if name in ("buy", "sell") and size == "NAN":
            size = "1.0"  # what Backtrader's own sizer gives
        elif name in ("buy", "sell") and given["size"].kind == "opt":
            held = self.temp(Val("opt", size))
            size = f"(1.0 if {held.code} != {held.code} else {held.code})"
        way = {"buy": "1, ", "sell": "0, "}.get(name, "")
        self.effects = True
        along = self.along({one: value for one, value in linked.items() if not self.idle(one, value)})
        for column, code in along.items():
            self.emit(f"A.{column} = {code}")
        held_ = self.fresh("order")
        self.emit(f"{held_} = {function}({feed}, {way}{size}, {rest})")
        for column in along:
            self.emit(f"A.{column} = 0")
        return Val("order", held_)

    def along(self, linked: dict[str, Val]) -> dict[str, str]:
        """Return what the ledger knows of the orders that an order goes with, by the number of its account."""
        found = {}
        for name, value in linked.items():
            if name == "transmit":
                truth = self.truth(value)
                if not truth.objs:
                    raise NotCompiled("transmit that is not known before the run", self.at)
                found["held_back"] = "0" if truth.objs[0] else "1"
            elif value.kind != "order":
                raise NotCompiled(value.why or f"{kind_in_words(value.kind)} as {name}", value.line or self.at)
            else:
                found["with_oco" if name == "oco" else "with_parent"] = f"({value.code} + 1)"
        self.made.groups |= "with_oco" in found
        self.made.families |= not found.keys() <= {"with_oco"}
        self.made.market_only &= not found
        return found

    def bracket(self, name: str, node: ast.Call) -> Val:
        """Return the three orders of a bracket: the main one, its stop and its limit, as Backtrader gives them."""
        if any(one.arg is None for one in node.keywords):
            raise NotCompiled(f"{name}(**...)", self.at)
        words = [*_BRACKET[: len(node.args)], *(str(one.arg) for one in node.keywords)]
        values = self.sequence([*node.args, *(one.value for one in node.keywords)])
        given = dict(zip(words, values, strict=True))
        if other := [one for one in given if one not in _OF_BRACKET]:
            raise NotCompiled(f"{name}({other[0]}=...)", self.at)
        shared: dict[str, Val] = {one: given[one] for one in ("data", "valid") if one in given}
        kinds = {one: given.get(f"{one}exec", self.static_of(kind)) for one, kind in _SIDES.items()}
        sides = [one for one in _SIDES if not (kinds[one].kind == "none" or always_none(kinds[one]))]
        way, back = ("buy", "sell") if name == "buy_bracket" else ("sell", "buy")
        main = {one: given[one] for one in (*_OF_MAIN, *shared) if one in given}
        main.setdefault("exectype", self.static_of(bt.Order.Limit))
        found = {"main": self.given(self.ordered_by(way, {**main, "transmit": self.static_of(not sides)}))}
        for side in sides:
            of_side = {"price": given.get(f"{side}price", Val("none")), "exectype": kinds[side]}
            linked = {"parent": found["main"], "transmit": self.static_of(side == sides[-1])}
            size = Val("f", f"abs(A.size[{found['main'].code}])")
            found[side] = self.ordered_by(back, {**shared, **of_side, **linked, "size": size})
        return Val("tuple", extra=[found["main"], *(found.get(one, Val("none")) for one in _SIDES)])

    def idle(self, name: str, value: Val) -> bool:
        defaults = {"tradeid": 0, "oco": None, "parent": None, "transmit": True}
        if name not in defaults:
            return name not in ("_checksubmit", "histnotify", "simulated", "owner")  # what is passed along
        if value.kind == "none":
            return defaults[name] is None
        return value.kind == "static" and all(one == defaults[name] for one in value.objs)

    def optional(self, value: Val) -> str:
        if value.kind in ("none",) or always_none(value):
            return "NAN"
        lifted = self.settled(value)
        if lifted.kind == "b":
            return self.as_kind(lifted, "f")
        if lifted.kind not in ("f", "i", "opt"):
            raise NotCompiled(f"{kind_in_words(lifted.kind)} where a number is needed", self.at)
        if lifted.kind == "f" and not lifted.objs:
            held = self.temp(lifted)
            self.emit(f"if {held.code} != {held.code}:")
            self.emit("    flag()")  # not a number, which is not None
            return held.code
        return lifted.code

    def or_zero(self, value: Val, code: str) -> str:
        if code == "NAN":
            return "0.0"
        if value.kind == "opt":
            held = self.temp(Val("opt", code))
            return f"(0.0 if {held.code} != {held.code} else {held.code})"
        return code
