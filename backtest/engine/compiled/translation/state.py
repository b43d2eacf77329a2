"""`KeptState`: what a strategy stores from bar to bar: its attributes, and its dicts and sets by feed."""

# ruff: noqa: D102 - methods are named after the nodes and values that they are for

from __future__ import annotations

import math
from datetime import date, datetime, time
from typing import Any

import numpy as np

from backtest.engine.compiled import ledger
from backtest.engine.compiled.indicators import moment_number
from backtest.engine.compiled.refusals import NotCompiled
from backtest.engine.compiled.translation.program import DTYPES, LISTED, Unknown, Val, kind_in_words
from backtest.engine.compiled.translation.writing import Writing


class KeptState(Writing):
    """What a strategy keeps from bar to bar."""

    def is_order_list(self, name: str) -> bool:
        """Return whether an attribute is a list that orders, or their refs, are put into while a run goes on."""
        if name in self.written.unread or name not in self.written.changed | self.written.state:
            return False
        return all(type(vars(one).get(name)) is list and not vars(one)[name] for one in self.trials)

    def order_list(self, name: str) -> Val:
        """Return a list of orders that the run changes."""
        self.kinds.setdefault(("list", name), "")
        return Val("orders", f"A.c_{name}", extra=name)

    def place_in_list(self, name: str, number: int) -> Val:
        """Return what is at a place of a list of orders; it is there if the list is long enough."""
        kind = self.kinds.get(("list", name), "")
        if not kind:
            unknown = Unknown(f"self.{name} is read, but nothing is put into it", self.at)
            unknown.key = "list", name
            raise unknown
        return Val("order" if kind == "never" else kind, f"A.l_{name}_{number}")

    def add_to_list(self, name: str, value: Val, number: int | None = None) -> None:
        """Put an order, or its ref, at the end of a list, or at a place of it; a list that is full is flagged."""
        if value.kind not in ("order", "ref"):
            raise NotCompiled(
                value.why or f"{kind_in_words(value.kind)} in the list self.{name}", value.line or self.at
            )
        self.known_kind(("list", name), value.kind, f"what self.{name} holds")
        held, self.effects = self.temp(value), True
        for place in range(LISTED) if number is None else [number]:
            if number is None:
                self.emit(f"if A.c_{name} == {place}:")
            self.emit(f"{'    ' if number is None else ''}A.l_{name}_{place} = {held.code}")
        if number is None:
            self.emit(f"if A.c_{name} == {LISTED}:")
            self.emit("    flag()")
            self.emit(f"A.c_{name} = A.c_{name} + 1")

    def remove_from_list(self, name: str, value: Val) -> None:
        """Remove the first equal item from a list; flag the trial if there is none, since Python would raise."""
        held, at = self.index_of_order(value), self.fresh("i")
        self.effects = True
        self.emit(f"{at} = -1")
        for place in range(LISTED):
            code = self.place_in_list(name, place).code
            self.emit(f"if {at} < 0 and A.c_{name} > {place} and {code} == {held}:")
            self.emit(f"    {at} = {place}")
        self.emit(f"if {at} < 0:")
        self.emit("    flag()")
        for place in range(LISTED - 1):
            self.emit(f"if {at} <= {place}:")
            self.emit(f"    A.l_{name}_{place} = A.l_{name}_{place + 1}")
        self.emit(f"A.c_{name} = A.c_{name} - 1")

    def index_of_order(self, value: Val) -> str:
        """Return the number of an order that is looked for in a list."""
        if value.kind not in ("order", "ref", "note"):
            raise NotCompiled(value.why or f"{kind_in_words(value.kind)} looked for in a list", value.line or self.at)
        code = f"A.n_order[{value.code}]" if value.kind == "note" else value.code
        return self.temp(Val("i", code)).code

    def set_list(self, name: str, value: Val) -> None:
        """Let a list of orders hold others."""
        parts = list(value.extra) if value.kind == "tuple" else []
        empty = value.kind == "static" and all(isinstance(one, list | tuple) and not one for one in value.objs)
        if (not parts and not empty) or len(parts) > LISTED:
            raise NotCompiled(f"self.{name} is set to {kind_in_words(value.kind)}", self.at)
        self.order_list(name)
        for place, part in enumerate(parts):
            self.add_to_list(name, part, place)
        self.effects = True
        self.emit(f"A.c_{name} = {len(parts)}")

    def set_attribute(self, name: str, value: Val) -> None:
        if self.is_order_list(name):
            self.set_list(name, value)
            return
        if name in ("order", "orders") and value.kind == "note":
            value = Val("copy", f"A.n_order[{value.code}]")
        if value.kind in ("text", "poison", "note", "trade"):
            self.emit_text_state(name, value)
            return
        given = self.settled(value)
        kind = self.state_kind(name, given.kind)
        if kind == "none":
            self.effects = True
            return
        self.effects = True
        self.emit(f"A.s_{name} = {self.as_kind(given, kind)}")
        if name not in self.owned:
            self.emit(f"A.set_{name} = True")

    def emit_text_state(self, name: str, value: Val) -> None:
        key = "state", name
        if self.kinds.get(key, "text") != "text":
            raise NotCompiled(f"self.{name} is set to {value.why or kind_in_words(value.kind)}", value.line or self.at)
        self.kinds[key] = "text"

    def state_kind(self, name: str, kind: str) -> str:
        key = "state", name
        if self.kinds.get(key) == "text":
            raise NotCompiled(f"self.{name} is a string here and a number there", self.at)
        if key not in self.kinds and name in self.owned:
            objs = tuple(getattr(one, name) for one in self.trials)
            try:
                self.kinds[key] = self.from_objects(objs).kind
            except NotCompiled:
                raise NotCompiled(f"self.{name} is a {type(objs[0]).__name__}", self.at) from None
        return self.known_kind(key, kind, f"self.{name}") if kind else self.kinds.get(key, "")

    def set_state(self) -> None:
        """Write down what the state of the strategy is at first."""
        for name in [key[1] for key in self.kinds if key[0] == "list"]:
            self.made.account |= dict.fromkeys((f"c_{name}", *(f"l_{name}_{n}" for n in range(LISTED))), ("i8", ""))
        for (where, name), kind in [(key, kind) for key, kind in self.kinds.items() if key[0] in ("state", "map")]:
            if kind in ("text", "none", "never", "") and where != "map":
                continue
            dtype, count = DTYPES.get(kind, "i8"), len(self.trials)
            empty = math.nan if kind == "opt" else False if kind == "b" else -1
            if where == "map":
                self.made.account[f"m_{name}"] = dtype, ledger.FEEDS
                self.made.account[f"has_{name}"] = "?", ledger.FEEDS
                values = np.full((len(self.datas), count), 0, dtype)
                there = np.zeros((len(self.datas), count), bool)
                for n, trial in enumerate(self.trials):
                    kept = getattr(trial, name)
                    for data in kept:
                        there[self.feed_numbers[id(data)], n] = True
                        if type(kept) is dict and kind not in ("none", ""):
                            values[self.feed_numbers[id(data)], n] = self.first_value(kept[data], empty)
                self.made.first[f"m_{name}"], self.made.first[f"has_{name}"] = values, there
                continue
            self.made.account[f"s_{name}"] = dtype, ""
            if name in self.owned:
                values = np.array([self.first_value(getattr(one, name), empty) for one in self.trials], dtype)
                self.made.first[f"s_{name}"] = values
            else:
                self.made.account[f"set_{name}"] = "?", ""

    def first_value(self, value: Any, empty: Any) -> Any:
        if value is None:
            return empty
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, date | time):
            return moment_number(
                value, "moment" if isinstance(value, datetime) else "clock" if isinstance(value, time) else "date"
            )
        return self.feed_numbers.get(id(value), value)

    def check_map(self, name: str) -> None:
        objs: list[Any] = [getattr(one, name, None) for one in self.trials]
        for one in objs:
            if type(one) not in (dict, set) or not all(id(key) in self.feed_numbers for key in one):
                raise NotCompiled(f"self.{name} keeps a {type(one).__name__}", self.at)
        self.kinds.setdefault(("map", name), "")

    def map_kind(self, name: str, kind: str) -> str:
        key = "map", name
        if type(getattr(self.trials[0], name)) is set:
            raise NotCompiled(f"self.{name} is a set", self.at)
        if not self.kinds.get(key):
            values = [value for one in self.trials for value in getattr(one, name).values()]
            self.kinds[key] = ""
            for value in values:
                self.kinds[key] = self.wider(self.kinds[key], self.from_objects((value,)).kind, f"self.{name}")
        found = self.known_kind(key, kind, f"self.{name}") if kind else self.kinds[key]
        if kind == "none" and found == "none":
            return "opt"
        return found
