"""`Writing`: scalar code in progress: its text, the kinds of its names, the constants of its trials."""

# ruff: noqa: D102 - methods are named after the nodes and values that they are for

from __future__ import annotations

import ast
import builtins
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from typing import Any

import numpy as np
from backtrader.lineroot import LineRoot

from backtest.engine.compiled.refusals import NotCompiled
from backtest.engine.compiled.translation.methods import (
    ASKS,
    PURE,
    PURE_METHODS,
    TEXT_METHODS,
    Method,
    feed_numbers,
    written_in,
)
from backtest.engine.compiled.translation.program import (
    DTYPES,
    PREFIX,
    TIMES,
    Again,
    Program,
    Val,
    for_all,
    has_lines,
    kind_in_words,
)


class Writing:
    """Scalar code being written, and its values."""

    stamps: np.ndarray
    # Attributes of the subclasses:
    read: Callable[[Val, str], Val]
    timed: Callable[[Val, str], Val]
    looked_up: Callable[[Val, str, Val], Val]
    is_listed: Callable[[Val, str], Val]
    lowered: Callable[[Any, list[Val], str], tuple[str, Val, bool]]
    helper: Callable[[Any, list[Val], str], Val]

    def __init__(
        self, cls: Any, trials: Sequence[Any], own: Any, owners: dict[int, Any], kinds: dict[Any, str]
    ) -> None:
        self.cls, self.trials, self.kinds, self.owners = cls, trials, kinds, owners
        self.owned = own(trials[0])
        self.made = Program()
        self.datas = list(trials[0].datas)
        self.feed_numbers = {id(data): number for number, data in enumerate(self.datas)}
        self.lines_of_feeds = feed_numbers(self.datas)
        self.texts: list[str] = [""]
        self.done: dict[Any, tuple[str, Val, bool]] = {}
        self.slot_of: dict[Any, int] = {}
        self.constant_of: dict[Any, int] = {}
        self.stack: list[str] = []
        self.lines: list[str] = []
        self.depth = 1
        self.env: dict[str, Val] = {}
        self.effects = False
        self.number = 0
        self.at = 0
        self.written = written_in(cls)
        plain = {name: getattr(cls, name) for name in self.written.state - self.owned.keys() if hasattr(cls, name)}
        self.owned |= {name: one for name, one in plain.items() if isinstance(one, int | float | str | type(None))}
        self.function: Method | None = None
        self.results: list[Val] = []
        self.frame: Any = None
        self.lagged = False  # whether a timer calls it: strategy and indicators have not advanced yet

    def clock(self, number: int, moved: bool) -> int:
        """Return the number of the clock of a line; `moved` says that it moves before a timer rings, as feeds do."""
        return number + (0 if moved or not self.lagged else len(self.datas) + 1)

    # -- kinds

    def wider(self, first: str, second: str, what: str) -> str:
        """Return the kind that holds both."""
        if not first or first == second or first == "never":
            return second
        pair = {first, second}
        if pair <= {"b", "i"}:
            return "i"
        if pair <= {"b", "i", "f"}:
            return "f"
        if pair <= {"b", "i", "f", "opt", "none"}:
            return "opt"
        if pair <= {"copy", "order", "none"} and "copy" in pair:
            return "copy"
        for kind in ("order", "str", "feed", *TIMES):
            if pair == {kind, "none"}:
                return kind
        raise NotCompiled(f"{what} is {kind_in_words(first)} here and {kind_in_words(second)} there", self.at)

    def as_kind(self, value: Val, kind: str) -> str:
        if value.kind == "none":
            return "NAN" if kind == "opt" else "-1"
        if value.kind == "b" and kind == "i":
            return f"(1 if {value.code} else 0)"
        if value.kind == "b" and kind in ("f", "opt"):
            return f"(1.0 if {value.code} else 0.0)"
        return value.code

    def known_kind(self, key: Any, kind: str, what: str) -> str:
        """Return the kind of a variable that receives a value of a kind; if that widens it, start again."""
        before = self.kinds.get(key, "")
        found = self.wider(before, kind, what)
        if found != before:
            self.kinds[key] = found
            if before:
                raise Again
        return found

    def lifted(self, value: Val) -> Val:
        """Return a value as something that the scalar code has; one that it cannot have is refused."""
        if value.kind in ("f", "i", "b", "opt", "str", "feed", "order", "copy", "none", *TIMES):
            return value
        if value.kind == "static":
            return self.from_objects(value.objs)
        if value.kind == "lineof":
            return self.read(value, "0")
        if value.kind == "poison":
            raise NotCompiled(value.why, value.line or self.at)
        raise NotCompiled(f"{kind_in_words(value.kind)} where a number is needed", self.at)

    def settled(self, value: Val) -> Val:
        """Return a value that is kept, or given away, as `lifted`; a line would move on."""
        if value.kind == "lineof" or (has_lines(value) and not all(id(one) in self.feed_numbers for one in value.objs)):
            raise NotCompiled("a line is kept, or given to an order: name its value, such as line[0]", self.at)
        return self.lifted(value)

    def from_objects(self, objs: tuple[Any, ...]) -> Val:
        objs = tuple(
            float(one) if isinstance(one, np.floating) else int(one) if isinstance(one, np.integer) else one
            for one in objs
        )
        first = objs[0]
        if all(one is None for one in objs):
            return Val("none")
        if all(isinstance(one, bool) for one in objs):
            return self.constant(objs, "b")
        if all(isinstance(one, int) for one in objs):
            if max(map(abs, objs)) >= 2**53:
                raise NotCompiled("a whole number is too large", self.at)
            return self.constant(objs, "i")
        if all(isinstance(one, int | float) and not isinstance(one, bool) for one in objs):
            if any(one != one for one in objs):
                raise NotCompiled("a number of the strategy is NaN", self.at)
            return self.constant(tuple(map(float, objs)), "f")
        if all(one is None or (isinstance(one, int | float) and not isinstance(one, bool)) for one in objs):
            return self.constant(tuple(math.nan if one is None else float(one) for one in objs), "opt")
        if all(isinstance(one, str) for one in objs):
            return self.constant(tuple(self.text(one) for one in objs), "str")
        if all(id(one) in self.feed_numbers for one in objs):
            return self.constant(tuple(self.feed_numbers[id(one)] for one in objs), "feed")
        if all(isinstance(one, LineRoot) for one in objs):
            return self.read(Val("static", objs=objs), "0")
        for kind, wanted in (("date", date), ("moment", datetime), ("clock", time)):
            if all(type(one) is wanted for one in objs):
                return self.timed(Val("static", objs=objs), kind)
        raise NotCompiled(f"a {type(first).__name__} where a number is needed", self.at)

    def text(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text)

    def constant(self, values: tuple[Any, ...], kind: str) -> Val:
        if all(one == values[0] for one in values) and not any(one != one for one in values):
            text = repr(values[0])
            return Val(kind, f"({text})" if text.startswith("-") else text, objs=(values[0],))
        key = kind, values
        if key not in self.constant_of:
            self.constant_of[key] = len(self.made.constants)
            self.made.constants.append(np.array(values, DTYPES.get(kind, "i8")))
            self.made.constant_kinds.append(PREFIX.get(kind, "i"))
        return Val(kind, f"const({self.constant_of[key]})")

    def truth(self, value: Val) -> Val:
        """Return `bool(value)`."""
        kind, code = value.kind, value.code
        if kind == "static":
            objs = value.objs
            if not any(isinstance(one, LineRoot) for one in objs):
                return self.constant(tuple(bool(one) for one in objs), "b")
            return self.truth(self.lifted(value))
        if kind == "none":
            return Val("b", "False", objs=(False,))
        if kind == "b":
            return value
        if kind in ("f", "i"):
            return Val("b", f"({code} != 0)")
        if kind == "opt":
            held = self.temp(value)
            return Val("b", f"({held.code} == {held.code} and {held.code} != 0)")
        if kind in ("order", "copy"):
            return Val("b", f"({code} >= 0)")
        if kind == "str":
            return Val("b", f"({code} > 0)")
        if kind == "note":
            return Val("b", "True", objs=(True,))
        if kind == "position":
            return Val("b", f"(A.position[{code}] != 0)")
        if kind == "lineof":
            return self.truth(self.lifted(value))
        if kind in ("feeds", "orders"):
            return Val("b", f"({code} > 0)")
        if kind == "poison":
            raise NotCompiled(value.why, value.line or self.at)
        raise NotCompiled(f"{kind_in_words(kind)} as a condition", self.at)

    # -- text of the scalar code

    def emit(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def fresh(self, kind: str) -> str:
        self.number += 1
        return f"{PREFIX.get(kind, 'i')}_t{self.number}"

    def temp(self, value: Val) -> Val:
        """Return a value that can be named twice."""
        if value.code.isidentifier() or value.code.replace(".", "").isdigit():
            return value
        name = self.fresh(value.kind)
        self.emit(f"{name} = {value.code}")
        return Val(value.kind, name, extra=value.extra)

    @contextmanager
    def captured(self) -> Iterator[list[str]]:
        """Let what is emitted be taken apart from what was before."""
        before, self.lines = self.lines, []
        mine = self.lines
        self.depth += 1
        try:
            yield mine
        finally:
            self.depth -= 1
            self.lines = before

    def acts(self, node: ast.expr) -> bool:
        """Return whether an expression may do more than give a value."""
        for one in ast.walk(node):
            if isinstance(one, ast.NamedExpr | ast.Await | ast.Yield | ast.Lambda):
                return True
            if isinstance(one, ast.Call):
                func = one.func
                if isinstance(func, ast.Name) and getattr(builtins, func.id, None) in PURE:
                    continue
                if isinstance(func, ast.Name) and func.id in ("str", "type", "repr", "id", "format"):
                    continue
                if isinstance(func, ast.Name) and func.id == "map" and ast.unparse(one.args[0]) in ("str", "repr"):
                    continue
                if isinstance(func, ast.Attribute) and func.attr in TEXT_METHODS | PURE_METHODS | {"num2date"}:
                    continue
                if isinstance(func, ast.Attribute) and func.attr in ASKS:
                    continue
                if (
                    isinstance(func, ast.Attribute)
                    and isinstance(func.value, ast.Name)
                    and func.value.id in ("bt", "math", "datetime", "np")
                ):
                    continue
                return True
        return False

    def kept(self, value: Val) -> Val:
        return self.temp(value) if value.code and not value.objs else value

    def parts(self, value: Val, count: int) -> list[Val]:
        if value.kind == "static" and all(isinstance(one, tuple | list) and len(one) == count for one in value.objs):
            return [Val("static", objs=tuple(one[n] for one in value.objs)) for n in range(count)]
        if value.kind == "tuple" and len(value.extra) == count:
            return list(value.extra)
        if value.kind == "poison":
            return [value] * count
        raise NotCompiled("what is taken apart is not known before the run", self.at)

    def is_unread(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Attribute) and self.is_self(node.value) and node.attr in self.written.unread

    def is_self(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id in self.env and self.env[node.id].kind == "self"

    def is_big(self, value: Val) -> bool:
        return not all(
            isinstance(one, int | float | str | type(None)) or id(one) in self.feed_numbers for one in value.objs
        )

    def materialised(self, name: str, value: Val, soft: bool = False) -> Val:
        kind = self.known_kind(("local", self.frame, name), value.kind, name)
        if kind == "none":
            return Val("none")
        place = f"{PREFIX.get(kind, 'i')}_{name}"
        self.emit(f"{place} = {self.as_kind(value, kind)}")
        return Val(kind, place, extra=value.extra)

    @contextmanager
    def deeper(self) -> Iterator[None]:
        mark = len(self.lines)
        self.depth += 1
        yield
        if len(self.lines) == mark:
            self.emit("pass")
        self.depth -= 1

    def targets(self, target: ast.expr, item: Val) -> list[tuple[str, Val]]:
        if isinstance(target, ast.Name):
            return [(target.id, item)]
        if isinstance(target, ast.Tuple):
            parts = self.parts(item, len(target.elts))
            return [pair for one, part in zip(target.elts, parts, strict=True) for pair in self.targets(one, part)]
        raise NotCompiled(f"{ast.unparse(target)} in a for", self.at)

    def items(self, value: Val) -> list[Val]:
        if value.kind == "tuple":
            return list(value.extra)
        if value.kind != "static":
            raise NotCompiled(value.why or f"a loop over {kind_in_words(value.kind)}", value.line or self.at)
        lists = []
        for one in value.objs:
            if isinstance(one, LineRoot):
                raise NotCompiled("a loop over a line", self.at)
            try:
                lists.append(list(one))
            except TypeError:
                raise NotCompiled(f"a loop over a {type(one).__name__}", self.at) from None
        if len(set(map(len, lists))) > 1:
            raise NotCompiled("a loop whose length differs from trial to trial", self.at)
        return [Val("static", objs=for_all(tuple(parts))) for parts in zip(*lists, strict=True)]
