"""`translate`: what a strategy does at each bar, from its source, in the scalar code of `ledger`."""

from __future__ import annotations

import ast
import builtins
import inspect
import math
import random
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, time
from functools import cache
from typing import Any

import backtrader as bt
import numpy as np
from backtrader.linebuffer import LineBuffer
from backtrader.lineroot import LineRoot
from backtrader.lineseries import LineSeries

from backtest.engine.compiled import ledger
from backtest.engine.compiled.indicators import MomentLine, moment_number
from backtest.engine.compiled.refusals import NotCompiled

_FUNCTIONS = "next", "prenext", "nextstart", "notify_order"
_NUMBERS = "f", "i", "b"
_DTYPES = {"f": "f8", "opt": "f8", "b": "?"}
_PREFIX = {"f": "f", "opt": "f", "b": "b"}
_STATUS = {name: number for number, name in enumerate(bt.Order.Status)} | {"Cancelled": bt.Order.Canceled}
_KINDS = {name: number for number, name in enumerate(bt.Order.ExecTypes)}
_COMPILED_KINDS = range(6)  # of orders
_OPEN, _HIGH, _LOW, _CLOSE = "open", "high", "low", "close"
_MOST_UNROLLED = 40
_PURE: set[Any] = {
    len, range, enumerate, zip, min, max, abs, int, float, str, list, tuple, dict, set, sorted, bool, isinstance,
    hasattr, getattr, reversed, sum, round, math.floor, math.ceil, math.sqrt,
}  # fmt: skip
_NOTED = {"notify_order": "note", "notify_trade": "trade"}
_TRADE = {
    "isclosed": "(A.x_over[{0}] != 0)", "isopen": "(A.x_size[{0}] != 0)", "justopened": "(A.x_fresh[{0}] != 0)",
    "long": "(A.x_long[{0}] != 0)", "size": "A.x_size[{0}]", "price": "A.x_price[{0}]",
    "commission": "A.x_costs[{0}]", "pnl": "A.x_gain[{0}]", "pnlcomm": "(A.x_gain[{0}] - A.x_costs[{0}])",
    "value": "(A.x_size[{0}] * A.x_price[{0}])", "barlen": "A.x_bars[{0}]", "baropen": "A.x_since[{0}]",
    "dtopen": "A.x_opened[{0}]",
}  # fmt: skip
_TRADE_TRUTHS, _TRADE_WHOLE = {"isclosed", "isopen", "justopened", "long"}, {"barlen", "baropen"}
_PYTHON = {
    math.log,
    math.log10,
    math.log2,
    math.exp,
    math.pow,
    math.sin,
    math.cos,
    math.tan,
    math.atan,
    math.atan2,
    pow,
}


def _round(number: float, digits: float) -> float:
    return round(number, int(digits))


_TIMES = ("date", "moment", "clock")
_MOMENT_PARTS = {
    "date": {"year", "month", "day"},
    "moment": {"year", "month", "day", "hour", "minute", "second"},
    "clock": {"hour", "minute", "second"},
}
_NUMERIC = {int, float, abs, round, min, max, bool, math.floor, math.ceil, math.sqrt, math.isnan}
_PURE_METHODS = {"items", "keys", "values", "get", "lower", "upper", "index", "copy", "split", "strip", "startswith"}
_TEXT_METHODS = {
    "isoformat", "strftime", "format", "join", "upper", "lower", "strip", "ljust", "rjust", "getstatusname",
    "getordername", "ordtypename", "open_datetime", "close_datetime", "date", "time", "datetime", "zfill", "center",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Val:
    """
    What an expression of the strategy is.

    Attributes:
        kind: "f", "i", "b" (numbers); "opt", a number or None; "none"; "str", a text by its number; "feed"; "order";
            "note", a notified order; "position", of a feed; "static", what each trial has as an object of Python;
            "text", of which nothing counts; "poison", what cannot be had; "self" and other things of the strategy.
        code: its text in the scalar code.
        objs: of a static one, an object for each trial, or one for all.
        why, line: of poison, why and where it cannot be had.
    """

    kind: str
    code: str = ""
    objs: tuple[Any, ...] = ()
    why: str = ""
    extra: Any = None
    line: int = 0


@dataclass(frozen=True)
class _Moment:
    """The time of a bar: its line of stamps, the number of its clock, and how many bars from the present one."""

    line: Any
    feed: int
    ago: str


@dataclass
class Program:
    """
    What trials of one shape do, in scalar code.

    Attributes:
        functions: by name; the ones that a run calls are in `entries`.
        account: what the state of the strategy adds to `ledger.ACCOUNT`, and what it is at first, for each trial.
        constants: what differs from trial to trial, and its kind.
        slots: lines: their clock's feed, what they are made of, and the row of each trial or of all.
        calls: functions of Python's that are called for each trial.
        streams: generators of random numbers, a method of each trial's.
        hears: whether it is told of orders.
        hears_trades: whether it is told of trades.
        market_only: whether all its orders are at the market.
        values: whether it asks for value and gain of what is filled.
        closes: whether it gives orders at the close.
    """

    functions: dict[str, ast.FunctionDef] = field(default_factory=dict)
    entries: list[str] = field(default_factory=list)
    account: dict[str, tuple[str, str]] = field(default_factory=dict)
    first: dict[str, np.ndarray] = field(default_factory=dict)
    constants: list[np.ndarray] = field(default_factory=list)
    constant_kinds: list[str] = field(default_factory=list)
    slots: list[tuple[int, list[Any], Any]] = field(default_factory=list)
    calls: list[Callable[..., Any]] = field(default_factory=list)
    streams: list[list[Callable[..., Any]]] = field(default_factory=list)
    hears: bool = False
    hears_trades: bool = False
    values: bool = False
    market_only: bool = True
    closes: bool = False


class _Unknown(NotCompiled):
    """The kind of an attribute is not known yet: another method sets it, perhaps."""

    key: tuple[str, str] | None = None


class _Again(Exception):
    """A kind turned out wider than it was taken for: the translation starts again with it."""


def translate(
    cls: Any,
    trials: Sequence[Any],
    own: Callable[[Any], dict[str, Any]],
    owners: dict[int, Any],
    stamps: np.ndarray,
) -> Program:
    """
    Return the program of trials of one shape.

    Args:
        trials: their strategies, made by `symbols.Maker`.
        own: what the code of a strategy put into it.
        owners: the indicators of lines, by the lines' ids.
        stamps: of the steps of the run.

    Raises:
        NotCompiled: something cannot be done, with its line.
    """
    kinds: dict[Any, str] = {}
    for _ in range(30):
        try:
            found = _Translation(cls, trials, own, owners, kinds)
            found.stamps = stamps
            return found.program()
        except _Again:
            continue
    raise NotCompiled(f"{cls.__name__} has values whose kind changes")


class _Translation:
    def __init__(
        self, cls: Any, trials: Sequence[Any], own: Any, owners: dict[int, Any], kinds: dict[Any, str]
    ) -> None:
        self.cls, self.trials, self.kinds, self.owners = cls, trials, kinds, owners
        self.owned = own(trials[0])
        self.made = Program()
        self.datas = list(trials[0].datas)
        self.feed_numbers = {id(data): number for number, data in enumerate(self.datas)}
        self.lines_of_feeds = {id(line) for data in self.datas for line in (data, *data.lines.lines)}
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
        self.written = _written(cls)
        self.function: _Method | None = None
        self.results: list[Val] = []
        self.frame: Any = None

    def program(self) -> Program:
        base = bt.Strategy
        for name in ("notify_cashvalue", "notify_fund", "notify_data", "notify_timer", "notify_store",
                     "next_open", "nextstart_open", "prenext_open"):  # fmt: skip
            if getattr(self.cls, name) is not getattr(base, name) and not self.only_tells(name):
                raise NotCompiled(f"it has {name}()", _line_of(getattr(self.cls, name)))
        if self.cls.stop is not base.stop and not self.only_tells("stop") and not _is_harmless(self.cls):
            raise NotCompiled(f"stop() does more than tell: {self.why}", self.why_at or _line_of(self.cls.stop))
        self.made.hears = self.cls.notify_order is not base.notify_order and not self.only_tells("notify_order")
        self.made.hears_trades = self.cls.notify_trade is not base.notify_trade and not self.only_tells("notify_trade")
        self.signals = issubclass(self.cls, bt.SignalStrategy)
        self.enter()
        self.set_state()
        return self.made

    def enter(self) -> None:
        """Translate what a run calls; where one method reads what another sets, begin again with what is known now."""
        wanted: list[tuple[str, list[Val]]] = [("next", [])]
        wanted += [
            (one, []) for one in ("prenext", "nextstart") if getattr(self.cls, one) is not getattr(bt.Strategy, one)
        ]
        heard = {"notify_order": self.made.hears, "notify_trade": self.made.hears_trades}
        wanted += [(one, [Val(_NOTED[one], "i_note")]) for one, hears in heard.items() if hears]
        before, unknown = dict(self.kinds), None
        for name, args in wanted:
            try:
                self.entry(name, args)
            except _Unknown as error:
                unknown = unknown or error
        if unknown is not None:
            if before == self.kinds:
                if unknown.key is None:
                    raise unknown
                self.kinds[unknown.key] = "never"
            raise _Again
        loops = [self.loop_of_notes(name) for name, hears in heard.items() if hears]
        if self.signals and self.kinds.get(("state", "_sentinel")) == "order":
            loops = [_FORGET, *loops] if heard["notify_order"] else [_FORGET, "    A.told = 0\n", *loops]
            self.made.hears = True
        if loops:
            self.add("def deliver():\n" + "".join(loops))
        self.made.entries = [name for name, _ in wanted if name not in _NOTED] + (["deliver"] if loops else [])

    def loop_of_notes(self, name: str) -> str:
        queue = {"notify_order": "told", "notify_trade": "traded"}[name]
        return (
            f"    i_n_{queue} = A.{queue}\n    A.{queue} = 0\n    i_k_{queue} = 0\n"
            f"    while i_k_{queue} < i_n_{queue}:\n"
            f"        {self.called(name)}(i_k_{queue} + N.reads)\n        i_k_{queue} = i_k_{queue} + 1\n"
        )

    def only_tells(self, name: str) -> bool:
        """Return whether a method has no effect but texts; where it has, or may have, `why` says which."""
        kept, kinds = (self.made, self.done, self.slot_of, self.constant_of), dict(self.kinds)
        args = [] if name in ("stop", "next_open") else [Val("poison", why=f"{name}() reads it")]
        if name in _NOTED:
            args = [Val(_NOTED[name], "i_note")]
        if name in ("notify_cashvalue", "notify_fund"):
            args = [Val("text")] * (2 if name == "notify_cashvalue" else 4)
        self.why, self.why_at = "it changes something", 0
        try:
            for _ in range(10):
                self.made, self.done, self.slot_of, self.constant_of = Program(), {}, {}, {}
                try:
                    self.lowered(getattr(self.cls, name), args, name)
                    return not self.effects_of
                except _Again:
                    continue
            return False
        except NotCompiled as error:
            self.why, self.why_at = error.reason, error.line
            return False
        finally:
            (self.made, self.done, self.slot_of, self.constant_of) = kept
            self.kinds.clear()
            self.kinds.update(kinds)

    why, why_at = "", 0
    signals = False

    def entry(self, name: str, args: list[Val]) -> None:
        called, _, _ = self.lowered(getattr(self.cls, name), args, name)
        params = ", ".join(one.code for one in args)
        body = f"def {name}({params}):\n    {called}({params})\n"
        self.done["entry", name] = called, Val("none"), True
        if name not in _NOTED:
            self.add(body)

    def called(self, name: str) -> str:
        return self.done["entry", name][0]

    def add(self, text: str) -> None:
        node = ast.parse(text).body[0]
        assert isinstance(node, ast.FunctionDef)
        self.made.functions[node.name] = node

    # -- methods

    def lowered(self, method: Any, args: list[Val], name: str) -> tuple[str, Val, bool]:
        """Return the name of a method in scalar code for arguments, what it returns, and whether it has effects."""
        key = name, tuple(_argument_key(one) for one in args)
        if key in self.done:
            self.effects_of = self.done[key][2]
            return self.done[key]
        if name in self.stack:
            raise NotCompiled(f"{name}() calls itself", _line_of(method))
        source = _Method.of(method)
        kept = (self.lines, self.depth, self.env, self.effects, self.function, self.results, self.frame, self.at)
        self.lines, self.depth, self.effects, self.function, self.results = [], 1, False, source, []
        self.frame = (name, key[1])
        self.stack.append(name)
        try:
            self.env = self.bound(source, args, name)
            ended = self.body(source.node.body)
            if not ended:
                self.results.append(Val("none"))
            result = self.result(key)
            for place, text in enumerate(self.lines):
                if "<return>" in text:
                    self.lines[place] = self.returning(text, result)
            number = len(self.done)
            called = f"{_PREFIX.get(result.kind, 'i')}_m{number}_{name}" if result.code else f"m{number}_{name}"
            params = ", ".join(_argument_name(n, one) for n, one in enumerate(args) if one.code)
            if name in _NOTED:
                params = "i_note"
            self.add("\n".join([f"def {called}({params}):", *(self.lines or ["    pass"]), ""]))
            self.done[key] = called, result, self.effects
            return self.done[key]
        finally:
            self.effects_of = self.effects
            self.stack.pop()
            (self.lines, self.depth, self.env, effects, self.function, self.results, self.frame, self.at) = kept
            self.effects = effects

    effects_of = False
    stamps: np.ndarray

    def bound(self, source: _Method, args: list[Val], name: str) -> dict[str, Val]:
        spec = source.node.args
        if spec.vararg or spec.kwonlyargs:
            raise NotCompiled(f"{name}() takes any number of arguments", source.line)
        names = [one.arg for one in spec.args[1:]] if source.bound else [one.arg for one in spec.args]
        env: dict[str, Val] = {}
        if source.bound:
            env[spec.args[0].arg] = Val("self")
        defaults = dict(zip(reversed(names), reversed(spec.defaults), strict=False))
        for n, one in enumerate(names):
            if n < len(args):
                value = args[n]
                if value.code and name not in _NOTED:
                    value = Val(value.kind, _argument_name(n, value), extra=value.extra)
                if value.code and source.count(one):
                    value = self.materialised(one, value)
                env[one] = value
            elif one in defaults:
                env[one] = self.static_of(source.default(defaults[one]))
                if source.count(one) and env[one].kind == "static":
                    self.env = env
                    env[one] = self.materialised(one, self.lifted(env[one]), soft=True)
            else:
                raise NotCompiled(f"{name}() lacks the argument {one}", source.line)
        return env

    def result(self, key: Any) -> Val:
        kinds = {one.kind for one in self.results}
        if kinds <= {"none"}:
            return Val("none")
        if kinds <= {"none", "text", "poison"}:
            return Val("text")
        if len(self.results) == 1 and not self.results[0].code:
            return self.results[0]
        kind = ""
        for one in self.results:
            kind = self.wider(kind, self.lifted(one).kind, "what a method returns")
        return Val(kind, "?")

    def returning(self, text: str, result: Val) -> str:
        start, number = text.split("<return>")
        given = self.results[int(number)]
        if not result.code:
            return f"{start}return"
        return f"{start}return {self.as_kind(self.lifted(given), result.kind)}"

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
        for kind in ("order", "str", "feed", *_TIMES):
            if pair == {kind, "none"}:
                return kind
        raise NotCompiled(f"{what} is {_shown(first)} here and {_shown(second)} there", self.at)

    def as_kind(self, value: Val, kind: str) -> str:
        if value.kind == "none":
            return "NAN" if kind == "opt" else "-1"
        if value.kind == "b" and kind == "i":
            return f"(1 if {value.code} else 0)"
        if value.kind == "b" and kind in ("f", "opt"):
            return f"(1.0 if {value.code} else 0.0)"
        return value.code

    def known_kind(self, key: Any, kind: str, what: str) -> str:
        """Return the kind of a place that is given a value of a kind; where that widens it, begin again."""
        before = self.kinds.get(key, "")
        found = self.wider(before, kind, what)
        if found != before:
            self.kinds[key] = found
            if before:
                raise _Again
        return found

    def lifted(self, value: Val) -> Val:
        """Return a value as something that the scalar code has; one that it cannot have is refused."""
        if value.kind in ("f", "i", "b", "opt", "str", "feed", "order", "none", *_TIMES):
            return value
        if value.kind == "static":
            return self.from_objects(value.objs)
        if value.kind == "lineof":
            return self.read(value, "0")
        if value.kind == "poison":
            raise NotCompiled(value.why, value.line or self.at)
        raise NotCompiled(f"{_shown(value.kind)} where a number is needed", self.at)

    def settled(self, value: Val) -> Val:
        """Return a value that is kept, or given away, as `lifted`; a line would move on."""
        if value.kind == "lineof" or (
            _has_lines(value) and not all(id(one) in self.feed_numbers for one in value.objs)
        ):
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
            self.made.constants.append(np.array(values, _DTYPES.get(kind, "i8")))
            self.made.constant_kinds.append(_PREFIX.get(kind, "i"))
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
        if kind == "order":
            return Val("b", f"({code} >= 0)")
        if kind == "str":
            return Val("b", f"({code} > 0)")
        if kind == "note":
            return Val("b", "True", objs=(True,))
        if kind == "position":
            return Val("b", f"(A.position[{code}] != 0)")
        if kind == "lineof":
            return self.truth(self.lifted(value))
        if kind == "feeds":
            return Val("b", f"({code} > 0)")
        if kind == "poison":
            raise NotCompiled(value.why, value.line or self.at)
        raise NotCompiled(f"{_shown(kind)} as a condition", self.at)

    # -- text of the scalar code

    def emit(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def fresh(self, kind: str) -> str:
        self.number += 1
        return f"{_PREFIX.get(kind, 'i')}_t{self.number}"

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

    # -- statements; each returns whether nothing after it is reached

    def body(self, nodes: Sequence[ast.stmt]) -> bool:
        return any(self.statement(node) for node in nodes)

    def statement(self, node: ast.stmt) -> bool:
        self.at = self.function.line + node.lineno - 1 if self.function else 0
        name = f"do_{type(node).__name__.lower()}"
        if not hasattr(self, name):
            raise NotCompiled(f"{type(node).__name__.lower()} is a statement that is not compiled", self.at)
        return bool(getattr(self, name)(node))

    def do_try(self, node: ast.Try) -> bool:
        """Translate what is tried; what would raise flags the trial, and the event engine takes the way out."""
        for handler in node.handlers:
            effects, self.effects, env = self.effects, False, dict(self.env)
            number = len(self.results)
            with self.captured():
                self.env[handler.name or ""] = Val("text")
                self.body(handler.body)
            changes, self.effects, self.env = self.effects, effects, env
            if changes or len(self.results) > number:
                raise NotCompiled("an except that does more than tell", self.at)
        ended = self.body(node.body) or self.body(node.orelse)
        return self.body(node.finalbody) or ended

    def do_pass(self, node: ast.Pass) -> None:
        pass

    def do_expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return
        try:
            self.expression(node.value)
        except NotCompiled:
            if not self.tells(node.value):
                raise

    def tells(self, node: ast.expr) -> bool:
        """Return whether an expression makes texts alone: what is printed, or kept for nobody."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            return not any(self.acts(one) for one in node.args)
        return False

    def acts(self, node: ast.expr) -> bool:
        """Return whether an expression may do more than give a value."""
        for one in ast.walk(node):
            if isinstance(one, ast.NamedExpr | ast.Await | ast.Yield | ast.Lambda):
                return True
            if isinstance(one, ast.Call):
                func = one.func
                if isinstance(func, ast.Name) and getattr(builtins, func.id, None) in _PURE:
                    continue
                if isinstance(func, ast.Name) and func.id in ("str", "type", "repr", "id", "format"):
                    continue
                if isinstance(func, ast.Attribute) and func.attr in _TEXT_METHODS | _PURE_METHODS:
                    continue
                if isinstance(func, ast.Attribute) and func.attr in _ASKS:
                    continue
                if (
                    isinstance(func, ast.Attribute)
                    and isinstance(func.value, ast.Name)
                    and func.value.id in ("bt", "math", "datetime", "np")
                ):
                    continue
                return True
        return False

    def do_assign(self, node: ast.Assign) -> None:
        if len(node.targets) > 1:
            if self.acts(node.value):
                raise NotCompiled("several targets of an assignment", self.at)
            for target in node.targets:
                self.assign(target, node.value)
            return
        self.assign(node.targets[0], node.value)

    def do_annassign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.assign(node.target, node.value)

    def assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple):
            if isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts):
                given = [self.kept(self.soft(one)) for one in value.elts]
            else:
                given = self.parts(self.soft(value), len(target.elts))
            for one, part in zip(target.elts, given, strict=True):
                self.store(one, part)
            return
        self.store(target, self.soft(value) if isinstance(target, ast.Name) else self.expression(value))

    def kept(self, value: Val) -> Val:
        return self.temp(value) if value.code and not value.objs else value

    def soft(self, node: ast.expr) -> Val:
        """Return a value, or poison: a local that only texts need is no reason to refuse."""
        lines = list(self.lines)
        try:
            return self.expression(node)
        except NotCompiled as error:
            if self.acts(node) or isinstance(error, _Unknown):
                raise
            self.lines[:] = lines
            return Val("poison", why=error.reason, line=error.line)

    def parts(self, value: Val, count: int) -> list[Val]:
        if value.kind == "static" and all(isinstance(one, tuple | list) and len(one) == count for one in value.objs):
            return [Val("static", objs=tuple(one[n] for one in value.objs)) for n in range(count)]
        if value.kind == "tuple" and len(value.extra) == count:
            return list(value.extra)
        if value.kind == "poison":
            return [value] * count
        raise NotCompiled("what is taken apart is not known before the run", self.at)

    def store(self, target: ast.expr, value: Val) -> None:
        if isinstance(target, ast.Name):
            self.env[target.id] = self.local(target.id, value)
        elif isinstance(target, ast.Attribute) and self.is_self(target.value):
            self.set_attribute(target.attr, value)
        elif isinstance(target, ast.Subscript):
            self.set_item(target, value)
        elif isinstance(target, ast.Attribute) and self.expression(target.value).kind in ("note", "trade"):
            pass  # of a copy that nobody else has; reading it is refused
        else:
            raise NotCompiled(f"{ast.unparse(target)} is set", self.at)

    def is_unread(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Attribute) and self.is_self(node.value) and node.attr in self.written.unread

    def is_self(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id in self.env and self.env[node.id].kind == "self"

    def local(self, name: str, value: Val) -> Val:
        assert self.function is not None
        if value.kind in ("static", "none", "feed") and self.function.count(name) > 1:
            try:
                value = self.lifted(value) if value.kind != "static" or not self.is_big(value) else value
            except NotCompiled as error:
                return Val("poison", why=error.reason) if value.kind == "static" and not self.is_big(value) else value
        if value.kind in ("f", "i", "b", "opt", "order", "str", "feed", "none", *_TIMES):
            if value.kind in _TIMES and self.function.count(name) == 1:
                return value  # with what it is the time of
            if value.kind == "none" and self.function.count(name) == 1:
                return value
            if value.objs and self.function.count(name) == 1 and value.kind != "order":
                return value
            return self.materialised(name, value)
        return value

    def is_big(self, value: Val) -> bool:
        return not all(
            isinstance(one, int | float | str | type(None)) or id(one) in self.feed_numbers for one in value.objs
        )

    def materialised(self, name: str, value: Val, soft: bool = False) -> Val:
        kind = self.known_kind(("local", self.frame, name), value.kind, name)
        if kind == "none":
            return Val("none")
        place = f"{_PREFIX.get(kind, 'i')}_{name}"
        self.emit(f"{place} = {self.as_kind(value, kind)}")
        return Val(kind, place, extra=value.extra)

    def set_attribute(self, name: str, value: Val) -> None:
        if name in ("order", "orders") and value.kind == "note":
            raise NotCompiled(f"self.{name} keeps an order as it was notified", self.at)
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
            raise NotCompiled(f"self.{name} is set to {value.why or _shown(value.kind)}", value.line or self.at)
        self.kinds[key] = "text"

    def state_kind(self, name: str, kind: str) -> str:
        key = "state", name
        if self.kinds.get(key) == "text":
            raise NotCompiled(f"self.{name} is a text here and a number there", self.at)
        if key not in self.kinds and name in self.owned:
            objs = tuple(getattr(one, name) for one in self.trials)
            try:
                self.kinds[key] = self.from_objects(objs).kind
            except NotCompiled:
                raise NotCompiled(f"self.{name} is a {type(objs[0]).__name__}", self.at) from None
        return self.known_kind(key, kind, f"self.{name}") if kind else self.kinds.get(key, "")

    def set_state(self) -> None:
        """Write down what the state of the strategy is at first."""
        for (where, name), kind in [(key, kind) for key, kind in self.kinds.items() if key[0] in ("state", "map")]:
            if kind in ("text", "none", "never", "") and where != "map":
                continue
            dtype, count = _DTYPES.get(kind, "i8"), len(self.trials)
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

    def set_item(self, target: ast.Subscript, value: Val) -> None:
        if not (isinstance(target.value, ast.Attribute) and self.is_self(target.value.value)):
            raise NotCompiled(f"{ast.unparse(target)} is set", self.at)
        name = target.value.attr
        self.check_map(name)
        at = self.feed_code(self.expression(target.slice))
        given = self.settled(value)
        kind = self.map_kind(name, given.kind)
        self.effects = True
        self.emit(f"A.m_{name}[{at}] = {self.as_kind(given, kind)}")
        self.emit(f"A.has_{name}[{at}] = True")

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

    def do_augassign(self, node: ast.AugAssign) -> None:
        target = node.target
        read = ast.copy_location(
            ast.Name(target.id, ast.Load())
            if isinstance(target, ast.Name)
            else ast.Attribute(target.value, target.attr, ast.Load())
            if isinstance(target, ast.Attribute)
            else ast.Subscript(target.value, target.slice, ast.Load()),
            target,
        )
        self.assign(target, ast.copy_location(ast.BinOp(read, node.op, node.value), node))

    def do_return(self, node: ast.Return) -> bool:
        value = self.expression(node.value) if node.value is not None else Val("none")
        if value.code and not value.objs:
            value = self.temp(value)
        elif value.kind == "lineof" or (value.kind == "static" and not self.is_big(value)):
            value = self.settled(value)
        self.emit(f"<return>{len(self.results)}")
        self.results.append(value)
        return True

    def do_continue(self, node: ast.Continue) -> bool:
        self.emit("continue")
        return True

    def do_break(self, node: ast.Break) -> bool:
        self.emit("break")
        return True

    def do_if(self, node: ast.If) -> bool:
        test = self.condition(node.test)
        if test.objs:
            return self.body(node.body if test.objs[0] else node.orelse)
        before = dict(self.env)
        with self.captured() as first:
            ended = self.body(node.body)
        after_first, self.env = self.env, dict(before)
        with self.captured() as second:
            ended_second = self.body(node.orelse)
        if first or second:
            self.emit(f"if {test.code}:")
            self.lines += first or ["    " * (self.depth + 1) + "pass"]
            if second:
                self.emit("else:")
                self.lines += second
        self.env = self.merged(after_first, self.env, ended, ended_second)
        return ended and ended_second

    def merged(self, first: dict[str, Val], second: dict[str, Val], ended: bool, ended_second: bool) -> dict[str, Val]:
        if ended or ended_second:
            return second if ended else first
        found = {}
        for name in [*first, *(one for one in second if one not in first)]:
            a, b = first.get(name), second.get(name)
            if a is b or (a is not None and b is not None and _same(a, b)):
                found[name] = a
            elif a is None or b is None:
                value = a or b
                assert value is not None
                found[name] = value if value.code and not value.objs else Val("poison", why=f"{name} may not be set")
            elif a.code and b.code and a.code == b.code:
                found[name] = a if a.kind == b.kind else Val("poison", why=f"{name} has two kinds")
            else:
                found[name] = Val("poison", why=f"{name} is one thing or another")
        return found  # type: ignore[return-value]

    def do_for(self, node: ast.For) -> bool:
        if node.orelse:
            raise NotCompiled("a for with else", self.at)
        source = self.expression(node.iter)
        if source.kind == "feedmap":
            source = self.ordered(source.extra[2])
        if source.kind in ("feeds", "filtered"):
            before = dict(self.env)
            self.loop_over(node, source)
            self.left_by(before)
            return False
        items = self.items(source)
        if len(items) > _MOST_UNROLLED:
            raise NotCompiled(f"a loop over {len(items)} things", self.at)
        leaves, before = _leaves(node.body), dict(self.env)
        if leaves == "both":
            raise NotCompiled("a loop with both break and continue", self.at)
        if leaves == "break":
            self.emit("for i_once in range(1):")
            with self.deeper():
                for item in items:
                    self.once(node, item)
            self.left_by(before)
            return False
        for item in items:
            if leaves == "continue":
                self.emit("for i_once in range(1):")
                with self.deeper():
                    self.once(node, item)
                self.left_by(before)
            elif self.once(node, item):
                return True
        return False

    def loop_over(self, node: ast.For, source: Val) -> None:
        if source.kind == "filtered":
            source = self.listed(source)
        if not isinstance(node.target, ast.Name):
            raise NotCompiled(f"{ast.unparse(node.target)} in a for", self.at)
        table, most = source.extra
        name, feed = self.fresh("i"), self.fresh("i")
        self.emit(f"for {name} in range({most}):")
        with self.deeper():
            self.emit(f"if {name} < {source.code}:")
            with self.deeper():
                self.emit(f"{feed} = A.{table}[{name}]")
                self.env[node.target.id] = Val("feed", feed)
                self.body(node.body)

    @contextmanager
    def deeper(self) -> Iterator[None]:
        mark = len(self.lines)
        self.depth += 1
        yield
        if len(self.lines) == mark:
            self.emit("pass")
        self.depth -= 1

    def left_by(self, before: dict[str, Val]) -> None:
        """Forget what names stand for that a loop may have left before it set them."""
        for name, value in self.env.items():
            known = before.get(name)
            placed = value.code == f"{_PREFIX.get(value.kind, 'i')}_{name}"
            if value is not known and not placed:
                self.env[name] = Val("poison", why=f"{name} is set in a loop that may be left before")

    def once(self, node: ast.For, item: Val) -> bool:
        for name, value in self.targets(node.target, item):
            self.env[name] = value
        return self.body(node.body)

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
            raise NotCompiled(value.why or f"a loop over {_shown(value.kind)}", value.line or self.at)
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
        return [Val("static", objs=_one(tuple(parts))) for parts in zip(*lists, strict=True)]

    # -- expressions

    def expression(self, node: ast.expr) -> Val:
        if self.function and hasattr(node, "lineno"):
            self.at = self.function.line + node.lineno - 1
        name = f"of_{type(node).__name__.lower()}"
        if not hasattr(self, name):
            raise NotCompiled(f"{ast.unparse(node)[:60]} is not compiled", self.at)
        found: Val = getattr(self, name)(node)
        return found

    def static_of(self, *objs: Any) -> Val:
        return Val("static", objs=_one(objs))

    def of_constant(self, node: ast.Constant) -> Val:
        if node.value is None:
            return Val("none")
        return self.static_of(node.value)

    def check_text(self, node: ast.AST) -> None:
        """Flag what would raise in a text that is not made: a division by zero."""
        for one in ast.walk(node):
            if isinstance(one, ast.BinOp) and isinstance(one.op, ast.Div | ast.FloorDiv | ast.Mod):
                left = one.left
                if isinstance(one.op, ast.Mod) and (
                    isinstance(left, ast.JoinedStr) or (isinstance(left, ast.Constant) and isinstance(left.value, str))
                ):
                    continue
                try:
                    number = self.number_of(self.expression(one.right))
                except NotCompiled:
                    continue  # a text or a date, as far as it can be told; the run itself would say it
                if not (number.objs and number.objs[0]):
                    self.emit(f"if {number.code} == 0:")
                    self.emit("    flag()")
                    self.effects = True

    def of_joinedstr(self, node: ast.JoinedStr) -> Val:
        self.check_text(node)
        if any(self.acts(one.value) for one in node.values if isinstance(one, ast.FormattedValue)):
            raise NotCompiled("a text that is made by calls", self.at)
        return Val("text")

    def of_name(self, node: ast.Name) -> Val:
        if node.id in self.env:
            return self.env[node.id]
        assert self.function is not None
        if self.function.count(node.id):
            raise NotCompiled(f"{node.id} may not be set", self.at)
        return self.static_of(self.function.named(node.id, self.at))

    def of_tuple(self, node: ast.Tuple | ast.List | ast.Set) -> Val:
        parts = self.sequence(node.elts)
        if all(one.kind == "static" for one in parts):
            return self.over(lambda *each: list(each), parts)
        return Val("tuple", extra=parts)

    of_list = of_set = of_tuple

    def sequence(self, nodes: Sequence[ast.expr]) -> list[Val]:
        """Return values in the order in which Python reckons them: what a later one does must not change an earlier."""
        found: list[Val] = []
        for node in nodes:
            before, self.lines = self.lines, []
            value = self.expression(node)
            mine, self.lines = self.lines, before
            if mine:
                found = [self.kept(one) for one in found]
                self.lines += mine
            found.append(value)
        return found

    def over(self, function: Callable[..., Any], values: Sequence[Val]) -> Val:
        """Return what a function gives of the objects of each trial."""
        length = max(len(one.objs) for one in values) if values else 1
        rows = [one.objs * length if len(one.objs) == 1 else one.objs for one in values]
        try:
            found = tuple(function(*each) for each in zip(*rows, strict=True)) if rows else (function(),)
        except NotCompiled:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the run itself will say it
            raise NotCompiled(f"{type(error).__name__}: {error}", self.at) from None
        return Val("static", objs=_one(found))

    def of_attribute(self, node: ast.Attribute) -> Val:
        if self.is_self(node.value):
            return self.attribute_of_self(node.attr)
        owner = self.expression(node.value)
        return self.attribute(owner, node.attr, node)

    def attribute_of_self(self, name: str) -> Val:
        if name == "position":
            self.asks("0")
            return Val("position", "0")
        if name == "broker":
            return Val("broker")
        if name in ("cerebro", "env", "stats", "analyzers", "observers"):
            return Val("poison", why=f"self.{name} is used")
        if name in self.written.state and name not in ("p", "params"):
            return self.state(name)
        if name in self.written.changed:
            return Val("changed", extra=name)
        objs = []
        for one in self.trials:
            try:
                objs.append(getattr(one, name))
            except AttributeError:
                raise NotCompiled(f"self.{name} is not set by __init__()", self.at) from None
        if callable(objs[0]) and inspect.ismethod(objs[0]):
            return Val("method", extra=name)
        return self.static_of(*objs)

    def state(self, name: str) -> Val:
        key = "state", name
        kind = self.kinds.get(key) or self.state_kind(name, "")
        if name in self.written.changed:
            raise NotCompiled(f"self.{name} keeps a {type(self.owned.get(name)).__name__}", self.at)
        if not kind:
            unknown = _Unknown(f"self.{name} is read, and nothing sets it", self.at)
            unknown.key = key
            raise unknown
        if kind == "never":
            self.emit("flag()")
            return Val("none")
        if kind == "text":
            return Val("poison", why=f"self.{name} is set to a text, or to what cannot be had")
        if kind == "none":
            return Val("none")
        if name not in self.owned:
            self.emit(f"if not A.set_{name}:")
            self.emit("    flag()")
        return Val(kind, f"A.s_{name}")

    def attribute(self, owner: Val, name: str, node: ast.Attribute) -> Val:
        kind = owner.kind
        if kind == "feedmap" and name == "get":
            return Val("get", extra=owner)
        if kind == "position" and name in ("size", "price"):
            return Val("f", f"A.{'position' if name == 'size' else 'paid'}[{owner.code}]")
        if kind in ("order", "note"):
            return self.attribute_of_order(owner, name)
        if kind == "trade":
            if name in _TRADE:
                which = "b" if name in _TRADE_TRUTHS else "i" if name in _TRADE_WHOLE else "f"
                return Val(which, _TRADE[name].format(owner.code))
            if name == "data":
                one = len(self.datas) == 1
                return Val("feed", "0" if one else f"A.x_feed[{owner.code}]", objs=(0,) if one else ())
            return Val("poison", why=f"trade.{name} is used")
        if kind == "executed":
            return self.executed(owner, name)
        if kind == "created":
            columns = {"size": "size", "price": "price", "dt": "given", "pricelimit": "limit"}
            if name in columns:
                return Val("f", f"A.{columns[name]}[{owner.code}]")
        if kind == "broker" and name == "cash":
            return Val("f", "A.cash")
        if kind == "static":
            if name in ("Order",) and all(one is bt for one in owner.objs):
                return self.static_of(bt.Order)
            if any(isinstance(one, LineBuffer) for one in owner.objs) and name in ("array", "idx"):
                raise NotCompiled(f"a line's {name}", self.at)
            return self.over(lambda one: getattr(one, name), [owner])
        if kind == "feed":
            return Val("lineof", owner.code, extra=("feed", name))
        if kind in ("date", "moment", "clock") and isinstance(owner.extra, _Moment) and name in _MOMENT_PARTS[kind]:
            return self.part(owner.extra, name)
        if kind in ("span", "spell") and name == "days":
            return Val("i", owner.code if kind == "span" else f"({owner.code} // 86400000000)")
        if kind in ("poison", "text"):
            return Val("poison", why=owner.why or f"{ast.unparse(node)} is used")
        raise NotCompiled(f"{ast.unparse(node)} is not compiled", self.at)

    def part(self, moment: _Moment, name: str) -> Val:
        """Return a part of the times of a line of stamps, a whole number."""
        key = "moment", id(moment.line), name
        if key not in self.slot_of:
            stamps = np.frombuffer(moment.line.array) if moment.feed < len(self.datas) else self.stamps
            self.slot_of[key] = len(self.made.slots)
            self.made.slots.append((moment.feed, [MomentLine(stamps, moment.line._tz, name)], 0))
        return Val("i", f"line({self.slot_of[key]}, {moment.ago}, 0)")

    def window(self, owner: Val, node: ast.Call) -> Val:
        """Return `line.get(ago, size)`: the last values of a line, as a list."""
        words = ("ago", "size")
        named = dict(zip(words, node.args, strict=False)) | {str(one.arg): one.value for one in node.keywords}
        if set(named) - set(words):
            raise NotCompiled(f"{ast.unparse(node)[:60]} is called", self.at)
        ago, size = (self.number_of(self.expression(named[one])).code if one in named else default
                     for one, default in (("ago", "0"), ("size", "1")))  # fmt: skip
        line = self.read(owner, ago).code  # line(number, ago)
        return Val("window", line.removesuffix(")") + f", {size})")

    def moment(self, owner: Val, name: str, node: ast.Call) -> Val:
        """Return `line.date(ago)` and its like."""
        given = [one.value for one in node.keywords if one.arg == "ago"] + list(node.args)
        if len(given) > 1 or any(one.arg != "ago" for one in node.keywords):
            raise NotCompiled(f"{ast.unparse(node)[:60]} is called", self.at)
        ago = self.lifted(self.expression(given[0])).code if given else "0"
        lines = {id(one): one for one in owner.objs}
        own = all(one is trial.lines.datetime for one, trial in zip(owner.objs, self.trials, strict=False))
        if len(lines) > 1 and not own:
            raise NotCompiled("dates that differ from trial to trial", self.at)
        feed = len(self.datas) if own else self.feed_of_line(owner.objs)
        moment = _Moment(owner.objs[0], feed, ago)
        kind = {"date": "date", "datetime": "moment", "time": "clock"}[name]
        return Val(kind, self.part(moment, kind).code, extra=moment)

    def timed(self, value: Val, kind: str) -> Val:
        """Return a date, a moment or a time of the day as a whole number, where it is a known object too."""
        if value.kind == kind:
            return value
        if value.kind == "static":
            wanted: type[Any] = {"date": date, "moment": datetime, "clock": time}[kind]
            if all(type(one) is wanted and getattr(one, "tzinfo", None) is None for one in value.objs):
                return self.constant(tuple(moment_number(one, kind) for one in value.objs), kind)
        raise NotCompiled(f"{_shown(value.kind)} where a {kind} is needed", self.at)

    def asks(self, feed: str) -> None:
        if len(self.datas) > 1:
            self.emit(f"ask({feed})")
            self.effects = True

    def attribute_of_order(self, owner: Val, name: str) -> Val:
        note = owner.kind == "note"
        if name in _STATUS:
            return self.static_of(_STATUS[name])
        if name in _KINDS:
            return self.static_of(_KINDS[name])
        code = owner.code if note else self.given(owner).code
        if name == "status":
            return Val("i", f"A.{'n_status' if note else 'status'}[{code}]")
        order = f"A.n_order[{code}]" if note else code
        if name == "ref":
            return Val("ref", order)
        if name == "size":
            return Val("f", f"A.size[{order}]")
        if name == "exectype":
            return Val("i", f"A.kind[{order}]")
        if name == "data":
            return Val(
                "feed", "0" if len(self.datas) == 1 else f"A.feed[{order}]", objs=(0,) if len(self.datas) == 1 else ()
            )
        if name == "executed":
            return Val("executed", code, extra=note)
        if name == "created":
            return Val("created", order)
        return Val("poison", why=f"order.{name} is used")

    def given(self, order: Val) -> Val:
        """Return an order that is not None, or the trial is flagged."""
        held = self.temp(order)
        self.emit(f"if {held.code} < 0:")
        self.emit("    flag()")
        return held

    def executed(self, owner: Val, name: str) -> Val:
        columns = {"size": "filled", "price": "average", "value": "worth", "comm": "costs", "pnl": "gain",
                   "remsize": "rest", "dt": "closed"}  # fmt: skip
        if name not in columns:
            return Val("poison", why=f"order.executed.{name} is used")
        self.made.values |= name in ("value", "pnl")
        return Val("f", f"A.{'n_' if owner.extra else ''}{columns[name]}[{owner.code}]")

    def of_subscript(self, node: ast.Subscript) -> Val:
        owner = self.expression(node.value)
        if isinstance(node.slice, ast.Slice):
            return self.sliced(owner, node.slice)
        at = self.expression(node.slice)
        if owner.kind == "feedmap":
            return self.looked_up(owner, self.feed_code(at), Val("none"))
        if owner.kind == "changed":
            name = owner.extra
            self.check_map(name)
            code = self.feed_code(at)
            kind = self.map_kind(name, "")
            if not kind:
                raise _Unknown(f"self.{name} is read, and nothing sets it", self.at)
            self.emit(f"if not A.has_{name}[{code}]:")
            self.emit("    flag()")
            return Val("none") if kind == "none" else Val(kind, f"A.m_{name}[{code}]")
        if owner.kind == "lineof" or (owner.kind == "static" and any(isinstance(one, LineRoot) for one in owner.objs)):
            return self.read(owner, self.lifted(at).code)
        if owner.kind == "feed":
            return self.read(Val("lineof", owner.code, extra=("feed", "close")), self.lifted(at).code)
        if owner.kind == "static" and at.kind == "static":
            return self.over(lambda one, place: one[place], [owner, at])
        if owner.kind == "static" and at.kind in ("feed", "i") and not at.objs:
            return self.by_feed(owner, at)
        if owner.kind == "static" and at.objs:
            feeds = at.kind == "feed"
            return self.over(lambda one: one[self.datas[at.objs[0]] if feeds else at.objs[0]], [owner])
        if owner.kind == "tuple" and at.kind == "static" and len(at.objs) == 1:
            found: Val = owner.extra[at.objs[0]]
            return found
        raise NotCompiled(owner.why or f"{ast.unparse(node)} is not compiled", owner.line or self.at)

    def sliced(self, owner: Val, node: ast.Slice) -> Val:
        if owner.kind == "feeds" and node.lower is None and node.step is None and node.upper is not None:
            number = self.temp(self.number_of(self.expression(node.upper)))
            if number.kind != "i":
                raise NotCompiled("a slice up to what is no whole number", self.at)
            self.emit(f"if {number.code} < 0:")
            self.emit("    flag()")
            length = self.fresh("i")
            self.emit(f"{length} = least({owner.code}, {number.code})")
            return Val("feeds", length, extra=owner.extra)
        if owner.kind != "static" or any(isinstance(one, LineRoot) for one in owner.objs):
            raise NotCompiled("a slice of what is not known before the run", self.at)
        ends = [
            self.expression(one) if one is not None else self.static_of(None)
            for one in (node.lower, node.upper, node.step)
        ]
        if any(one.kind != "static" for one in ends):
            raise NotCompiled("a slice that is not known before the run", self.at)
        return self.over(lambda one, *edges: one[slice(*edges)], [owner, *ends])

    def by_feed(self, owner: Val, at: Val) -> Val:
        """Return what a dict by feed, or a list in their order, has for a feed that is known at run time alone."""
        parts = []
        for number, data in enumerate(self.datas):
            key = data if at.kind == "feed" else number
            try:
                parts.append(Val("static", objs=_one(tuple(one[key] for one in owner.objs))))
            except (KeyError, IndexError, TypeError):
                raise NotCompiled("a dict that does not have all feeds", self.at) from None
        if any(isinstance(one, LineRoot) for part in parts for one in part.objs):
            return Val("lineof", at.code, extra=("each", parts))
        lifted = [self.lifted(one) for one in parts]
        kind = ""
        for one in lifted:
            kind = self.wider(kind, one.kind, "a dict's value")
        return Val(kind, self.choice(at.code, [self.as_kind(one, kind) for one in lifted]))

    def choice(self, code: str, parts: list[str]) -> str:
        text = parts[-1]
        for number in range(len(parts) - 2, -1, -1):
            text = f"({parts[number]} if {code} == {number} else {text})"
        return text

    def read(self, owner: Val, ago: str) -> Val:
        """Return the value of a line so many bars from the present one."""
        if owner.kind == "lineof":
            what, extra = owner.extra
            if what == "feed":
                if extra in (_OPEN, _HIGH, _LOW, _CLOSE) and ago == "0":
                    self.begun(owner.code)
                    return Val("f", f"N.{extra}[{owner.code}]")
                parts = [self.static_of(getattr(data, extra)) for data in self.datas]
            else:
                parts = extra
            return Val("f", self.choice(owner.code, [self.read(one, ago).code for one in parts]))
        lines = []
        for one in owner.objs:
            if not isinstance(one, LineRoot):
                raise NotCompiled("a line in some trials only", self.at)
            lines.append(one if isinstance(one, LineBuffer) else one.lines[0])
        feed = self.feed_of_line(owner.objs)
        key = tuple(map(id, lines)), feed
        if key not in self.slot_of:
            self.slot_of[key] = len(self.made.slots)
            rows = list({id(one): one for one in lines}.values())
            place = {id(one): n for n, one in enumerate(rows)}
            where: Any = 0 if len(rows) == 1 else np.array([place[id(one)] for one in lines])
            self.made.slots.append((feed, rows, where))
        return Val("f", f"line({self.slot_of[key]}, {ago})")

    def begun(self, feed: str) -> None:
        if len(self.datas) > 1:
            self.emit(f"if N.at[{feed}] < 0:")
            self.emit("    flag()")

    def feed_of_line(self, objs: tuple[Any, ...]) -> int:
        if all(one is trial.lines.datetime for one, trial in zip(objs, self.trials, strict=False)):
            return len(self.datas)
        found = {clock_feed(one, self.datas, self.owners) for one in objs}
        if len(found) > 1 or None in found:
            raise NotCompiled("a line that follows no feed, or several", self.at)
        feed = found.pop()
        assert feed is not None
        return feed

    def feed_code(self, value: Val) -> str:
        if value.kind == "static":
            value = self.lifted(value)
        if value.kind != "feed":
            raise NotCompiled(value.why or f"{_shown(value.kind)} where a feed is needed", value.line or self.at)
        if value.code.isidentifier() or value.code.startswith("A.s_"):  # which may be None
            value = self.temp(value)
            self.emit(f"if {value.code} < 0:")
            self.emit("    flag()")
        return value.code

    def of_binop(self, node: ast.BinOp) -> Val:
        left, right = self.sequence([node.left, node.right])
        if left.kind == "text" or right.kind == "text":
            self.check_text(node)
            return Val("text")
        if left.kind == "static" and any(isinstance(one, str) for one in left.objs):
            return (
                Val("text")
                if right.kind != "static" or isinstance(node.op, ast.Mod)
                else self.operated(node, left, right)
            )
        if left.kind == "static" and right.kind == "static" and not _has_lines(left) and not _has_lines(right):
            return self.operated(node, left, right)
        return self.arithmetic(node.op, left, right)

    def operated(self, node: ast.BinOp, left: Val, right: Val) -> Val:
        code = compile(
            ast.fix_missing_locations(
                ast.Expression(ast.BinOp(ast.Name("a", ast.Load()), node.op, ast.Name("b", ast.Load())))
            ),
            "",
            "eval",
        )
        return self.over(lambda a, b: eval(code, {"a": a, "b": b}), [left, right])

    def arithmetic(self, op: ast.operator, left: Val, right: Val) -> Val:
        for kind, apart in (("date", "span"), ("moment", "spell")):
            if kind in (left.kind, right.kind):
                if isinstance(op, ast.Sub) and left.kind == right.kind:
                    return Val(apart, f"({left.code} - {right.code})")
                return Val("poison", why=f"a {kind} is reckoned with")
        a, b = self.number_of(left), self.number_of(right)
        signs: dict[type[ast.operator], str] = {
            ast.Add: "+",
            ast.Sub: "-",
            ast.Mult: "*",
            ast.Div: "/",
            ast.FloorDiv: "//",
            ast.Mod: "%",
        }
        if isinstance(op, ast.Pow) and "f" in (a.kind, b.kind):
            return self.by_python(pow, [a, b])
        if type(op) not in signs:
            raise NotCompiled(f"{type(op).__name__.lower()} is not compiled: its last bit may differ", self.at)
        kind = "f" if "f" in (a.kind, b.kind) or isinstance(op, ast.Div) else "i"
        return Val(kind, f"({a.code} {signs[type(op)]} {b.code})")

    def number_of(self, value: Val) -> Val:
        value = self.lifted(value)
        if value.kind == "feed":  # an operation of a feed is one of its closes
            feed = self.datas[value.objs[0]] if value.objs else None
            return self.read(self.static_of(feed) if feed else Val("lineof", value.code, extra=("feed", _CLOSE)), "0")
        if value.kind == "none":  # which raises: of such a trial the event engine says so
            self.emit("flag()")
            return Val("f", "0.0")
        if value.kind == "opt":
            held = self.temp(value)
            self.emit(f"if {held.code} != {held.code}:")
            self.emit("    flag()")
            return Val("f", held.code)
        if value.kind == "b":
            return Val("i", f"(1 if {value.code} else 0)")
        if value.kind not in ("f", "i"):
            raise NotCompiled(f"{_shown(value.kind)} where a number is needed", self.at)
        return value

    def of_unaryop(self, node: ast.UnaryOp) -> Val:
        if isinstance(node.op, ast.Not):
            return self.condition(node)
        operand = self.expression(node.operand)
        if operand.kind == "static" and not _has_lines(operand):
            return self.over(lambda one: -one if isinstance(node.op, ast.USub) else +one, [operand])
        number = self.number_of(operand)
        if isinstance(node.op, ast.Invert):
            raise NotCompiled("~ is not compiled", self.at)
        return Val(number.kind, f"(-{number.code})") if isinstance(node.op, ast.USub) else number

    def condition(self, node: ast.expr) -> Val:
        """Return `bool()` of an expression: of `a or b` as a condition, which as a value is `a` or `b` itself."""
        if isinstance(node, ast.BoolOp):
            return self.connected(node, self.condition)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return self.negated(self.condition(node.operand), True)
        return self.truth_of(self.expression(node))

    def of_boolop(self, node: ast.BoolOp) -> Val:
        first = self.expression(node.values[0])
        if first.kind in ("static", "none") and not _has_lines(first):
            truth = self.truth(first)
            if truth.objs:
                picked = bool(truth.objs[0]) != isinstance(node.op, ast.And)
                rest = node.values[1:]
                return first if picked else self.expression(rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest))
        return self.connected(node, self.a_truth)

    def a_truth(self, node: ast.expr) -> Val:
        value = self.expression(node)
        if value.kind == "b" or (value.kind == "static" and all(isinstance(one, bool) for one in value.objs)):
            return self.truth(value)
        raise NotCompiled("`and` or `or` of values that are no truths, as a value: write a conditional", self.at)

    def connected(self, node: ast.BoolOp, truth: Callable[[ast.expr], Val]) -> Val:
        parts = []
        for one in node.values:
            with self.captured() as lines:
                value = truth(one)
            parts.append((lines, value))
            if value.objs and not lines and bool(value.objs[0]) != isinstance(node.op, ast.And):
                break  # the rest is never reckoned, whatever it is
        return self.joined(parts, isinstance(node.op, ast.And))

    def joined(self, parts: Sequence[tuple[list[str], Val]], both: bool) -> Val:
        """Return truths joined by `and`, or `or`, each with the lines that reckon it where it is asked for."""
        found: Val | None = None
        for lines, value in parts:
            if found is None:
                self.lines += [line[4:] for line in lines]
                found = value
            elif found.objs:
                if bool(found.objs[0]) != both:
                    return found
                self.lines += [line[4:] for line in lines]
                found = value
            elif lines:
                name = self.fresh("b")
                self.emit(f"{name} = {found.code}")
                self.emit(f"if {name if both else f'not {name}'}:")
                self.lines += lines
                self.emit(f"    {name} = {value.code}")
                found = Val("b", name)
            elif value.objs:
                if bool(value.objs[0]) != both:
                    found = value
            else:
                found = Val("b", f"({found.code} {'and' if both else 'or'} {value.code})")
        assert found is not None
        return found

    def truth_of(self, value: Val) -> Val:
        if value.kind in ("text", "poison"):
            raise NotCompiled(value.why or "a text as a condition", value.line or self.at)
        if value.kind in ("date", "moment"):
            return self.negated(self.is_none(value), True)
        return self.truth(value)

    def of_compare(self, node: ast.Compare) -> Val:
        left, *others = self.sequence([node.left, *node.comparators])
        found: Val | None = None
        for op, right in zip(node.ops, others, strict=True):
            if len(node.ops) > 1 and right.code and not right.objs:
                right = self.temp(right)
            part = self.compared(op, left, right)
            if found is None or (found.objs and found.objs[0]):
                found = part
            elif not found.objs:
                found = (
                    part
                    if part.objs and not part.objs[0]
                    else found
                    if part.objs
                    else Val("b", f"({found.code} and {part.code})")
                )
            left = right
        assert found is not None
        return found

    def compared(self, op: ast.cmpop, left: Val, right: Val) -> Val:
        if isinstance(op, ast.In | ast.NotIn):
            return self.contained(left, right, isinstance(op, ast.NotIn))
        if left.kind == "static" and right.kind == "static" and not _has_lines(left) and not _has_lines(right):
            found = self.over(_COMPARISONS[type(op)], [left, right])
            return self.constant(found.objs, "b")
        if isinstance(op, ast.Is | ast.IsNot | ast.Eq | ast.NotEq) and (
            "none" in (left.kind, right.kind) or _is_none(left) or _is_none(right)
        ):
            other = left if right.kind == "none" or _is_none(right) else right
            return self.negated(self.is_none(other), isinstance(op, ast.IsNot | ast.NotEq))
        for one in ("date", "moment", "clock"):
            if one in (left.kind, right.kind) and not isinstance(op, ast.Is | ast.IsNot):
                left, right = self.timed(left, one), self.timed(right, one)
                left, right = Val("i", left.code), Val("i", right.code)
        if isinstance(op, ast.Eq | ast.NotEq | ast.Is | ast.IsNot):
            sign = "==" if isinstance(op, ast.Eq | ast.Is) else "!="
            pair = {left.kind, right.kind}
            if "ref" in pair:
                if pair != {"ref"}:
                    raise NotCompiled("an order's ref compared with a number", self.at)
                return Val("b", f"({left.code} {sign} {right.code})")
            if pair <= {"order", "note"}:
                if isinstance(op, ast.Is | ast.IsNot) and "note" in pair:
                    return self.constant((isinstance(op, ast.IsNot),), "b")  # what is notified is a copy
                codes = [f"A.n_order[{one.code}]" if one.kind == "note" else one.code for one in (left, right)]
                return Val("b", f"({codes[0]} {sign} {codes[1]})")
            lifted = [self.lifted(one) for one in (left, right)]
            kinds = {one.kind for one in lifted}
            if kinds == {"str"} or kinds == {"feed"}:
                return Val("b", f"({lifted[0].code} {sign} {lifted[1].code})")
            if isinstance(op, ast.Is | ast.IsNot):
                if kinds == {"b"}:
                    return Val("b", f"({lifted[0].code} {sign} {lifted[1].code})")
                raise NotCompiled("numbers compared by `is`", self.at)
            if "str" in kinds:
                return self.constant((isinstance(op, ast.NotEq),), "b")
            if "opt" in kinds:
                if kinds == {"opt"}:
                    raise NotCompiled("two values compared that may be None", self.at)
                codes = [one.code for one in lifted]
                return Val("b", f"({codes[0]} {sign} {codes[1]})")
        for one in ("date", "moment", "clock"):
            if one in (left.kind, right.kind):
                left, right = self.timed(left, one), self.timed(right, one)
                left, right = Val("i", left.code), Val("i", right.code)
        signs: dict[type[ast.cmpop], str] = {
            ast.Lt: "<",
            ast.LtE: "<=",
            ast.Gt: ">",
            ast.GtE: ">=",
            ast.Eq: "==",
            ast.NotEq: "!=",
        }
        a, b = self.number_of(left), self.number_of(right)
        return Val("b", f"({a.code} {signs[type(op)]} {b.code})")

    def negated(self, value: Val, wanted: bool) -> Val:
        if not wanted:
            return value
        return self.constant((not value.objs[0],), "b") if value.objs else Val("b", f"(not {value.code})")

    def is_none(self, value: Val) -> Val:
        if value.kind == "none":
            return Val("b", "True", objs=(True,))
        if value.kind == "static":
            return self.constant(self.over(lambda one: one is None, [value]).objs, "b")
        if value.kind == "opt":
            held = self.temp(value)
            return Val("b", f"({held.code} != {held.code})")
        if value.kind in ("order", "str", "feed", *_TIMES) and not value.objs:
            return Val("b", f"({value.code} < 0)")
        if value.kind == "poison":
            raise NotCompiled(value.why, value.line or self.at)
        return Val("b", "False", objs=(False,))

    def contained(self, left: Val, right: Val, negative: bool) -> Val:
        if right.kind in ("feeds", "filtered"):
            return self.negated(self.is_listed(right, self.feed_code(left)), negative)
        if right.kind == "feedmap":
            return self.negated(Val("b", f"A.{right.extra[1]}[{self.feed_code(left)}]"), negative)
        if right.kind == "changed":
            self.check_map(right.extra)
            code = self.feed_code(left)
            return self.negated(Val("b", f"A.has_{right.extra}[{code}]"), negative)
        if left.kind == "static" and right.kind == "static" and not _has_lines(left):
            return self.constant(self.over(lambda a, b: (a in b) != negative, [left, right]).objs, "b")
        if left.code and not left.objs and left.kind != "note":
            left = self.temp(left)
        parts = [self.compared(ast.Eq(), left, one) for one in self.items(right)]
        if not parts:
            return self.constant((negative,), "b")
        return self.negated(Val("b", "(" + " or ".join(one.code for one in parts) + ")"), negative)

    def of_ifexp(self, node: ast.IfExp) -> Val:
        test = self.condition(node.test)
        if test.objs:
            return self.expression(node.body if test.objs[0] else node.orelse)
        with self.captured() as first:
            a = self.expression(node.body)
            if "text" not in a.kind and a.kind != "method":
                a = self.settled(a)
        with self.captured() as second:
            b = self.expression(node.orelse)
            if "text" not in b.kind and b.kind != "method":
                b = self.settled(b)
        if "text" in (a.kind, b.kind):
            return Val("text")
        if a.kind == b.kind == "method":
            return Val("methods", test.code, extra=(a, b))
        kind = self.wider("", a.kind, "a value")
        kind = self.wider(kind, b.kind, "a value")
        if not first and not second:
            return Val(kind, f"({self.as_kind(a, kind)} if {test.code} else {self.as_kind(b, kind)})")
        name = self.fresh(kind)
        self.emit(f"if {test.code}:")
        self.lines += first
        self.emit(f"    {name} = {self.as_kind(a, kind)}")
        self.emit("else:")
        self.lines += second
        self.emit(f"    {name} = {self.as_kind(b, kind)}")
        return Val(kind, name)

    # -- lists of feeds, in an order that the run gives, and dicts by feed that live for a moment

    def place(self, start: str, dtype: str) -> str:
        """Return the name of a table by feed."""
        self.number += 1
        name = f"{start}{self.number}"
        self.made.account[name] = dtype, ledger.FEEDS
        return name

    def of_lambda(self, node: ast.Lambda) -> Val:
        return Val("lambda", extra=(node, dict(self.env)))

    def applied(self, function: Val, item: Val) -> Val:
        """Return what a lambda, a method or a dict's `get` gives of a feed."""
        if function.kind == "lambda":
            node, env = function.extra
            kept, self.env = self.env, {**env, node.args.args[0].arg: item}
            try:
                return self.expression(node.body)
            finally:
                self.env = kept
        if function.kind == "method":
            return self.helper(getattr(self.cls, function.extra), [item], function.extra)
        if function.kind == "get":
            return self.looked_up(function.extra, self.feed_code(item), Val("none"))
        raise NotCompiled(f"{_shown(function.kind)} is called for each of a list", self.at)

    def each_of(self, source: Val, do: Callable[[Val], None]) -> None:
        """Write what is done with each feed of a list."""
        if source.kind == "filtered":
            chosen, inner = source.extra

            def where_chosen(item: Val) -> None:
                test = self.truth_of(self.applied(chosen, item))
                self.emit(f"if {test.code}:")
                with self.deeper():
                    do(item)

            self.each_of(inner, where_chosen)
        elif source.kind == "feeds":
            table, most = source.extra
            name = self.fresh("i")
            self.emit(f"for {name} in range({most}):")
            with self.deeper():
                self.emit(f"if {name} < {source.code}:")
                with self.deeper():
                    do(Val("feed", f"A.{table}[{name}]"))
        else:
            for item in self.items(source):
                do(item)

    def most_of(self, source: Val) -> int:
        if source.kind == "filtered":
            return self.most_of(source.extra[1])
        return int(source.extra[1]) if source.kind == "feeds" else len(self.items(source))

    def ordered(self, source: Val) -> Val:
        """Return the feeds that a dict was made of, in order."""
        if source.kind == "filtered":
            raise NotCompiled("a dict of chosen feeds, taken apart", self.at)
        return source

    def listed(self, source: Val, key: Val | None = None, backwards: bool = False) -> Val:
        """Return a list of feeds; by a key it is sorted as Python sorts, feeds with equal keys as they came."""
        most = self.most_of(source)
        if most > len(self.datas):
            raise NotCompiled("a list with a feed twice", self.at)
        table, keys, length = self.place("q", ledger.WHOLE), self.place("k", ledger.FLOAT), self.fresh("i")
        self.emit(f"{length} = 0")
        kinds: set[str] = set()

        def add(item: Val) -> None:
            code = self.feed_code(item)
            if not code.isdigit():
                code = self.temp(Val("feed", code)).code
            place = self.fresh("i")
            self.emit(f"{place} = {length}")
            if key is not None:
                number = self.number_of(self.applied(key, item))
                kinds.add(number.kind)
                held = self.fresh("f")
                self.emit(f"{held} = {number.code}")
                self.emit(f"if {held} != {held}:")
                self.emit("    flag()")
                sign = "<" if backwards else ">"
                self.emit(f"while {place} > 0 and A.{keys}[{place} - 1] {sign} {held}:")
                with self.deeper():
                    for one in (keys, table):
                        self.emit(f"A.{one}[{place}] = A.{one}[{place} - 1]")
                    self.emit(f"{place} = {place} - 1")
                self.emit(f"A.{keys}[{place}] = {held}")
            self.emit(f"A.{table}[{place}] = {code}")
            self.emit(f"{length} = {length} + 1")

        self.each_of(source, add)
        if key is None and backwards:
            raise NotCompiled("a list is reversed", self.at)
        return Val("feeds", length, extra=(table, most))

    def of_listcomp(self, node: ast.ListComp | ast.GeneratorExp) -> Val:
        (loop, *more) = node.generators
        if more:
            raise NotCompiled("a list made by two loops", self.at)
        source = self.expression(loop.iter)
        if source.kind == "static" and not loop.ifs:
            return self.unrolled(node.elt, loop, source)
        if not (isinstance(node.elt, ast.Name) and isinstance(loop.target, ast.Name) and node.elt.id == loop.target.id):
            raise NotCompiled(f"{ast.unparse(node)[:60]} is not compiled", self.at)
        for test in loop.ifs:
            chosen = Val("lambda", extra=(ast.Lambda(_argument(loop.target.id), test), dict(self.env)))
            source = Val("filtered", extra=(chosen, source))
        return self.listed(source)

    of_generatorexp = of_listcomp

    def unrolled(self, element: ast.expr, loop: ast.comprehension, source: Val) -> Val:
        kept, values = dict(self.env), []
        for item in self.items(source):
            self.env.update(self.targets(loop.target, item))
            values.append(self.kept(self.expression(element)))
        self.env = kept
        if values and all(one.kind == "static" for one in values):
            return self.over(lambda *each: list(each), values)
        return Val("tuple", extra=values)

    def of_dictcomp(self, node: ast.DictComp) -> Val:
        (loop, *more) = node.generators
        if more or loop.ifs:
            raise NotCompiled("a dict made by several loops, or by a condition", self.at)
        source = self.expression(loop.iter)
        values, there = self.place("d", ledger.FLOAT), self.place("e", ledger.TRUTH)
        for number in range(len(self.datas)):
            self.emit(f"A.{there}[{number}] = False")
        keys: list[Val] = []

        def add(item: Val) -> None:
            kept, self.env = self.env, dict(self.env)
            self.env.update(self.targets(loop.target, item))
            keys.append(self.expression(node.key))
            code = self.feed_code(keys[-1])
            number = self.number_of(self.expression(node.value))
            self.env = kept
            self.emit(f"A.{values}[{code}] = {number.code}")
            self.emit(f"A.{there}[{code}] = True")

        self.each_of(source, add)
        known = all(one.kind == "static" for one in keys)
        order = self.over(lambda *each: list(each), keys) if keys and known else source
        return Val("feedmap", extra=(values, there, order))

    def looked_up(self, owner: Val, code: str, default: Val) -> Val:
        """Return `a_dict.get(feed, default)`; without a default a feed that is not there is flagged."""
        values, there, _ = owner.extra
        if default.kind == "none":
            self.emit(f"if not A.{there}[{code}]:")
            self.emit("    flag()")
            return Val("f", f"A.{values}[{code}]")
        return Val("f", f"(A.{values}[{code}] if A.{there}[{code}] else {self.number_of(default).code})")

    def is_listed(self, feeds: Val, code: str) -> Val:
        found = self.fresh("b")
        self.emit(f"{found} = False")

        def look(item: Val) -> None:
            self.emit(f"if {item.code} == {code}:")
            self.emit(f"    {found} = True")

        self.each_of(feeds, look)
        return Val("b", found)

    # -- calls

    def of_call(self, node: ast.Call) -> Val:
        func = node.func
        if isinstance(func, ast.Attribute) and self.is_self(func.value):
            return self.call_of_self(func.attr, node)
        if isinstance(func, ast.Name) and func.id == "print" and func.id not in self.env:
            if any(self.acts(one) for one in node.args):
                raise NotCompiled("print() of what is called", self.at)
            return Val("none")
        if isinstance(func, ast.Attribute) and func.attr == "append" and self.is_unread(func.value):
            if any(self.acts(one) for one in node.args):
                raise NotCompiled("a list is appended to with what is called", self.at)
            for one in node.args:
                self.check_text(one)
            return Val("none")
        if isinstance(func, ast.Name) and func.id == "hasattr" and self.is_self(node.args[0]):
            return self.has(self.expression(node.args[1]))
        if isinstance(func, ast.Name) and func.id == "isinstance" and len(node.args) == 2:
            return self.is_a(self.expression(node.args[0]), self.expression(node.args[1]))
        if isinstance(func, ast.Name) and func.id == "len" and len(node.args) == 1:
            return self.length(self.env["self"] if self.is_self(node.args[0]) else self.expression(node.args[0]))
        if isinstance(func, ast.Name) and func.id in ("any", "all") and len(node.args) == 1:
            return self.any_of(func.id, node.args[0])
        if isinstance(func, ast.Attribute):
            owner = self.expression(func.value)
            found = self.method(owner, func.attr, node)
            if found is not None:
                return found
            called = self.attribute(owner, func.attr, func)
        else:
            called = self.expression(func)
        if called.kind == "methods":
            return self.either(called, node)
        if called.kind == "method":
            return self.call_of_self(called.extra, node)
        if called.kind == "text" or called.kind == "poison":
            if self.acts(node):
                raise NotCompiled(called.why or f"{ast.unparse(node)[:50]} is called", called.line or self.at)
            return Val("poison", why=called.why or f"{ast.unparse(node)[:50]} is called")
        if called.kind != "static" or len(called.objs) != 1:
            raise NotCompiled(f"{ast.unparse(node)[:50]} is not compiled", self.at)
        return self.call_static(called.objs[0], node)

    def either(self, called: Val, node: ast.Call) -> Val:
        with self.captured() as first:
            a = self.call_of_self(called.extra[0].extra, node)
        with self.captured() as second:
            self.call_of_self(called.extra[1].extra, node)
        self.emit(f"if {called.code}:")
        self.lines += first
        self.emit("else:")
        self.lines += second
        return Val("poison", why="the order of one of two calls") if a.kind == "order" else Val("none")

    def any_of(self, which: str, node: ast.expr) -> Val:
        if not isinstance(node, ast.GeneratorExp | ast.ListComp) or len(node.generators) != 1:
            raise NotCompiled(f"{which}() of what is not known before the run", self.at)
        loop = node.generators[0]
        if loop.ifs:
            raise NotCompiled(f"{which}() with a condition", self.at)
        kept = dict(self.env)
        parts = []
        for item in self.items(self.expression(loop.iter)):
            self.env.update(self.targets(loop.target, item))
            with self.captured() as lines:
                value = self.condition(node.elt)
            parts.append((lines, value))
        self.env = kept
        return self.joined(parts, which == "all") if parts else self.constant((which == "all",), "b")

    def has(self, name: Val) -> Val:
        if name.kind != "static" or len(name.objs) > 1:
            raise NotCompiled("hasattr() of a name that is not known", self.at)
        (text,) = name.objs
        if text in self.written.state and text not in self.owned and not hasattr(self.cls, text):
            kind = self.kinds.get(("state", text), "")
            if kind in ("text", "none", ""):
                raise _Unknown(f"hasattr() of self.{text}, which is a text or nothing", self.at)
            return Val("b", f"A.set_{text}")
        return self.constant((all(hasattr(one, text) for one in self.trials),), "b")

    def is_a(self, value: Val, wanted: Val) -> Val:
        kinds = {"f": (1.0,), "i": (1,), "b": (True,), "none": (None,), "str": ("",)}
        if value.kind == "static":
            return self.constant(self.over(isinstance, [value, wanted]).objs, "b")
        if value.kind in kinds and wanted.kind == "static" and len(wanted.objs) == 1:
            types = tuple(wanted.objs[0]) if isinstance(wanted.objs[0], list) else wanted.objs[0]
            return self.constant((isinstance(kinds[value.kind][0], types),), "b")
        if value.kind in _TIMES:
            types = wanted.objs[0] if len(wanted.objs) == 1 else ()
            return self.constant(
                (types in {"date": (date,), "moment": (datetime, date), "clock": (time,)}[value.kind],), "b"
            )
        raise NotCompiled(value.why or f"isinstance() of {_shown(value.kind)}", value.line or self.at)

    def length(self, value: Val) -> Val:
        if value.kind == "self":
            return Val("i", "(N.step + 1)")
        if value.kind == "window":
            return self.of_window(len, [value], {})
        if value.kind == "feeds":
            return Val("i", value.code)
        if value.kind == "filtered":
            return Val("i", self.listed(value).code)
        if value.kind == "feed":
            return Val("i", f"(N.at[{value.code}] + 1)")
        if value.kind == "static":
            if not _has_lines(value):
                return self.over(len, [value])
            return Val("i", f"(N.at[{self.feed_of_line(value.objs)}] + 1)")
        if value.kind == "tuple":
            return self.static_of(len(value.extra))
        if value.kind == "lineof" and value.extra[0] == "feed":
            return Val("i", f"(N.at[{value.code}] + 1)")
        raise NotCompiled(value.why or f"the length of {_shown(value.kind)}", value.line or self.at)

    def call_static(self, function: Any, node: ast.Call) -> Val:
        if inspect.isfunction(function) and not node.keywords:
            return self.helper(function, self.sequence(node.args), function.__name__)
        if function is sorted:
            return self.sorted_by(node)
        every = self.sequence([*node.args, *(one.value for one in node.keywords)])
        if function is filter:
            return Val("filtered", extra=(every[0], every[1]))
        if function in (list, tuple) and len(every) == 1 and every[0].kind in ("filtered", "feeds"):
            return self.listed(every[0]) if every[0].kind == "filtered" else every[0]
        args = every[: len(node.args)]
        named = dict(zip([one.arg or "" for one in node.keywords], every[len(args) :], strict=True))
        if function in (str, repr, type, format):
            return Val("text")
        if args and args[0].kind == "window" and all(one.kind == "static" and len(one.objs) == 1 for one in every[1:]):
            return self.of_window(function, args, named)
        known = all(one.kind == "static" and not _has_lines(one) for one in every)
        if function in _NUMERIC and not named and not known:
            return self.numeric(function, args)
        if function in _PYTHON and all(one.kind not in ("text", "poison") for one in every) and not named:
            return self.by_python(function, args)
        if any(one.kind in ("text", "poison") for one in every):
            return Val("poison", why=next(one.why for one in every if one.kind in ("text", "poison")) or "a text")
        pure = function in _PURE or getattr(function, "__module__", "") in ("datetime", "math")
        looks = any(_has_lines(one) for one in every) and function not in (len, list, enumerate, zip, reversed)
        if pure and not looks and all(one.kind == "static" for one in every):
            names, count = list(named), len(args)
            if not every:
                return self.static_of(_listed(function()))
            return self.over(
                lambda *given: _listed(function(*given[:count], **dict(zip(names, given[count:], strict=True)))), every
            )
        shown = getattr(function, "__name__", str(function))
        raise NotCompiled(f"{shown}() is called", self.at)

    def of_window(self, function: Any, args: list[Val], named: dict[str, Val]) -> Val:
        """Return what a function of Python's gives of the last values of a line."""
        known = function in (min, max, sum, len) or getattr(function, "__module__", "") in (
            "numpy",
            "statistics",
            "math",
        )
        if not known or not callable(function):
            raise NotCompiled(f"{getattr(function, '__name__', function)}() of the values of a line", self.at)
        rest, words = [one.objs[0] for one in args[1:]], {name: one.objs[0] for name, one in named.items()}
        self.made.calls.append(lambda values: function(values, *rest, **words))
        kind = "i" if function is len else "f"
        found = self.fresh(kind)
        self.emit(f"{found} = windowed({len(self.made.calls) - 1}, {args[0].code.removeprefix('line(')}")
        return Val(kind, found)

    def by_python(self, function: Any, args: list[Val]) -> Val:
        """Return what a function of Python's gives of numbers, called for each trial: its last bit is its own."""
        numbers = [self.number_of(one) for one in args]
        self.made.calls.append(function)
        found = self.fresh("f")
        self.emit(f"{found} = called({', '.join([str(len(self.made.calls) - 1), *(one.code for one in numbers)])})")
        return Val("f", found)

    def sorted_by(self, node: ast.Call) -> Val:
        source = self.expression(node.args[0])
        source = self.ordered(source.extra[2]) if source.kind == "feedmap" else source
        given = {str(one.arg): self.expression(one.value) for one in node.keywords}
        backwards = given.get("reverse", self.static_of(False))
        if backwards.kind != "static" or len(backwards.objs) != 1 or "key" not in given:
            if source.kind == "static" and not given and not _has_lines(source):
                return self.over(sorted, [source])
            raise NotCompiled("sorted() without a key, or in an order that is not known before the run", self.at)
        return self.listed(source, given["key"], bool(backwards.objs[0]))

    def drawn(self, owner: Val, name: str, node: ast.Call) -> Val:
        """Return what each trial's own generator of random numbers gives."""
        if len(owner.objs) == 1 and len(self.trials) > 1:
            raise NotCompiled("a generator of random numbers that trials share", self.at)
        args = [self.number_of(one) for one in self.sequence(node.args)]
        self.effects = True
        found = self.fresh("i" if name == "randint" else "f")
        text = ", ".join([str(len(self.made.streams)), *(one.code for one in args)])
        self.made.streams.append([getattr(one, name) for one in owner.objs])
        self.emit(f"{found} = {'draw_whole' if name == 'randint' else 'draw'}({text})")
        return Val("i" if name == "randint" else "f", found)

    def numeric(self, function: Any, args: list[Val]) -> Val:
        if function is bool:
            return self.truth(args[0])
        if function in (min, max) and len(args) == 1:
            args = self.items(args[0])
        if function is not abs and any(one.kind == "lineof" or _has_lines(one) for one in args):
            raise NotCompiled(f"{function.__name__}() of a line: name its value, such as line[0]", self.at)
        numbers = [self.number_of(one) for one in args]
        if function in (min, max):
            kind = "f" if any(one.kind == "f" for one in numbers) else "i"
            text = numbers[0].code
            for one in numbers[1:]:
                text = f"{'least' if function is min else 'most'}({text}, {one.code})"
            return Val(kind, text)
        if function is round and len(numbers) > 1:
            if numbers[0].kind != "f" or numbers[1].kind != "i":
                raise NotCompiled("round() of a whole number to digits", self.at)
            return self.by_python(_round, args)
        (number,) = numbers
        if function is float:
            return Val("f", f"(0.0 + {number.code})") if number.kind == "i" else number
        if function is abs:
            return Val(number.kind, f"abs({number.code})")
        if function is math.isnan:
            held = self.temp(number)
            return Val("b", f"({held.code} != {held.code})")
        if number.kind == "i" and function is not math.sqrt:
            return number
        names = {int: "trunc", round: "rounded", math.floor: "floor", math.ceil: "ceil", math.sqrt: "root"}
        return Val("f" if function is math.sqrt else "i", f"{names[function]}({number.code})")

    def method(self, owner: Val, name: str, node: ast.Call) -> Val | None:
        kind = owner.kind
        if kind == "broker":
            return self.call_of_broker(name, node)
        if kind == "costs":
            return self.worth(name, node)
        if kind in ("order", "note"):
            if name in _TEXT_METHODS:
                return Val("text")
            owner = owner if kind == "note" else self.given(owner)
            order = f"A.n_order[{owner.code}]" if kind == "note" else owner.code
            if name in ("isbuy", "issell"):
                return Val("b", f"(A.size[{order}] {'>' if name == 'isbuy' else '<'} 0)")
            if name == "alive":
                return Val("b", f"(A.{'n_status' if kind == 'note' else 'status'}[{owner.code}] <= {bt.Order.Partial})")
            return Val("text")
        if kind == "trade":
            return Val("text")
        if kind == "static":
            if name == "get" and _has_lines(owner):
                return self.window(owner, node)
            if name in ("date", "time", "datetime") and _has_lines(owner):
                return self.moment(owner, name, node)
            if name == "get" and all(type(one) is dict for one in owner.objs):
                args = [self.expression(one) for one in node.args]
                if all(one.kind in ("static", "none") for one in args):
                    args = [self.static_of(None) if one.kind == "none" else one for one in args]
                    return self.over(lambda one, *given: one.get(*given), [owner, *args])
            if name == "buflen" and all(id(line) in self.lines_of_feeds for line in owner.objs):
                return self.over(lambda one: one.buflen(), [owner])
            if all(isinstance(one, random.Random) for one in owner.objs) and name in ("random", "uniform", "randint"):
                return self.drawn(owner, name, node)
            if name in _PURE_METHODS and not _has_lines(owner) and not node.keywords:
                args = [self.expression(one) for one in node.args]
                if all(one.kind == "static" for one in args):
                    return self.over(lambda one, *given: _listed(getattr(one, name)(*given)), [owner, *args])
            if all(isinstance(one, str) for one in owner.objs):
                return Val("text") if not self.acts(node) else None
            return None
        if kind == "lineof" and name in ("date", "time", "datetime"):
            return Val("poison", why=f"{ast.unparse(node)[:60]} is used")
        if kind in ("date", "moment", "clock") and not self.acts(node):
            if isinstance(owner.extra, _Moment) and name in ("weekday", "isoweekday") and kind != "clock":
                return self.part(owner.extra, name)
            if isinstance(owner.extra, _Moment) and kind == "moment" and name in ("date", "time"):
                wanted = {"date": "date", "time": "clock"}[name]
                return Val(wanted, self.part(owner.extra, wanted).code, extra=owner.extra)
            if name == "isocalendar" and isinstance(owner.extra, _Moment) and kind != "clock":
                week = self.part(owner.extra, "week")
                return Val(
                    "tuple", extra=[Val("poison", why="the year of a week is used"), week, Val("poison", why="")]
                )
            return Val("text") if name in ("isoformat", "strftime") else Val("poison", why=f"a date's {name}() is used")
        if kind == "spell" and name == "total_seconds":
            return Val("f", f"({owner.code} / 1000000)")
        if kind in ("text", "poison"):
            if self.acts(node):
                raise NotCompiled(owner.why or f"{ast.unparse(node)[:60]} is called", owner.line or self.at)
            return (
                Val("text") if kind == "text" else Val("poison", why=owner.why or f"{ast.unparse(node)[:60]} is used")
            )
        if kind == "feedmap" and name in ("items", "keys") and not node.args:
            values, _, source = owner.extra
            if name == "keys" or source.kind != "static":
                return self.ordered(source)
            pairs = [(one, Val("f", f"A.{values}[{self.feed_code(one)}]")) for one in self.items(source)]
            return Val("tuple", extra=[Val("tuple", extra=list(pair)) for pair in pairs])
        if kind == "feedmap" and name == "get":
            args = [self.expression(one) for one in node.args]
            return self.looked_up(owner, self.feed_code(args[0]), args[1] if len(args) > 1 else Val("none"))
        if kind == "changed" and name in ("add", "discard", "clear"):
            self.check_map(owner.extra)
            self.effects = True
            if type(getattr(self.trials[0], owner.extra)) is dict and name != "clear":
                raise NotCompiled(f"self.{owner.extra}.{name}()", self.at)
            codes = (
                [str(n) for n in range(len(self.datas))]
                if name == "clear"
                else [self.feed_code(self.expression(node.args[0]))]
            )
            for code in codes:
                self.emit(f"A.has_{owner.extra}[{code}] = {name == 'add'}")
            return Val("none")
        if kind == "changed" and name == "get":
            args = [self.expression(one) for one in node.args]
            self.check_map(owner.extra)
            code = self.feed_code(args[0])
            other = self.lifted(args[1]) if len(args) > 1 else Val("none")
            kind = self.map_kind(owner.extra, other.kind)
            return Val(
                kind, f"(A.m_{owner.extra}[{code}] if A.has_{owner.extra}[{code}] else {self.as_kind(other, kind)})"
            )
        return None

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
        """Return the gain of one unit on a price of 0, which is its price where the costs can be compiled."""
        *first, price = node.args or [ast.Constant(None)]
        if name != "profitandloss" or [one.value for one in first if isinstance(one, ast.Constant)] != [1, 0]:
            raise NotCompiled(f"what costs say by {name}() is asked", self.at)
        return self.lifted(self.expression(price))

    def cancel(self, node: ast.Call) -> Val:
        order = self.expression(node.args[0])
        if order.kind == "note":
            raise NotCompiled("an order is cancelled as it was notified", self.at)
        if order.kind == "none":
            return Val("none")
        if order.kind != "order":
            raise NotCompiled(order.why or f"{_shown(order.kind)} is cancelled", order.line or self.at)
        self.effects = True
        self.emit(f"cancel({self.given(order).code})")
        return Val("none")

    def call_of_self(self, name: str, node: ast.Call) -> Val:
        if name in _ORDERS:
            return self.order(name, node)
        if name == "cancel":
            return self.cancel(node)
        if name in ("getposition", "getpositionbyname"):
            given = node.args[0] if node.args else next((one.value for one in node.keywords if one.arg == "data"), None)
            code = self.feed_code(self.feed_named(self.expression(given))) if given is not None else "0"
            self.asks(code)
            return Val("position", code)
        if name == "getdatabyname":
            return self.feed_named(self.expression(node.args[0]))
        if name in self.written.state:
            raise NotCompiled(f"self.{name} is called", self.at)
        method = getattr(self.cls, name, None)
        if method is None or getattr(bt.Strategy, name, None) is method:
            if name in ("notify_order", "next", "prenext", "nextstart", "log") and method is not None:
                return Val("none")
            raise NotCompiled(f"self.{name}() is called", self.at)
        if not inspect.isfunction(method):
            raise NotCompiled(f"self.{name}() is no plain method", self.at)
        soft = [self.soft(one) for one in node.args]
        named = {one.arg: self.soft(one.value) for one in node.keywords}
        return self.helper(method, soft, name, named)

    def feed_named(self, value: Val) -> Val:
        if value.kind == "static" and all(isinstance(one, str) for one in value.objs):
            names = {data._name: data for data in self.datas}
            return self.over(lambda name: names[name], [value])
        return value

    def helper(self, method: Any, args: list[Val], name: str, named: dict[Any, Val] | None = None) -> Val:
        source = _Method.of(method)
        names = [one.arg for one in source.node.args.args[source.bound :]]
        every = list(args)
        defaults = dict(zip(reversed(names), reversed(source.node.args.defaults), strict=False))
        for one in names[len(args) :]:
            if named and one in named:
                every.append(named[one])
            elif one in defaults:
                default = source.default(defaults[one])
                every.append(Val("none") if default is None else self.static_of(default))
            else:
                raise NotCompiled(f"{name}() lacks the argument {one}", self.at)
        if named and set(named) - set(names):
            raise NotCompiled(f"{name}() has no argument {', '.join(map(str, set(named) - set(names)))}", self.at)
        every = [self.numbered(one) for one in every]
        called, result, effects = self.lowered(method, every, name)
        codes = ", ".join(one.code for one in every if one.code)
        self.effects |= effects
        if not result.code:
            if effects:
                self.emit(f"{called}({codes})")
            return result
        held = self.fresh(result.kind)
        self.emit(f"{held} = {called}({codes})")
        return Val(result.kind, held, extra=result.extra)

    def numbered(self, value: Val) -> Val:
        """Return an argument as it is given: a feed that is known stays known."""
        if value.objs and value.kind in ("f", "i", "b", "str", "feed"):
            objs = value.objs
            if value.kind == "feed":
                objs = tuple(self.datas[one] for one in objs)
            if value.kind == "str":
                objs = tuple(self.texts[one] for one in objs)
            return Val("static", objs=objs)
        return value

    def order(self, name: str, node: ast.Call) -> Val:
        function, names = _ORDERS[name]
        if any(one.arg is None for one in node.keywords):
            raise NotCompiled(f"{name}(**...)", self.at)
        words = [*names[: len(node.args)], *(str(one.arg) for one in node.keywords)]
        values = self.sequence([*node.args, *(one.value for one in node.keywords)])
        given = dict(zip(words, values, strict=True))
        known = {"data", "size", "target", "price", "plimit", "exectype", "valid", "trailamount", "trailpercent"}
        if other := [one for one in given if one not in known and not self.idle(one, given[one])]:
            raise NotCompiled(f"{name}({other[0]}=...)", self.at)
        data = given.get("data", Val("none"))
        feed = "0" if data.kind == "none" or _is_none(data) else self.feed_code(self.feed_named(data))
        kind = given.get("exectype", Val("none"))
        kind = Val("i", "0", objs=(0,)) if kind.kind == "none" or _is_none(kind) else self.lifted(kind)
        if kind.kind != "i" or (kind.objs and kind.objs[0] not in _COMPILED_KINDS) or not kind.objs:
            raise NotCompiled("a kind of order that is not compiled", self.at)
        self.made.closes |= kind.objs[0] == bt.Order.Close
        self.made.market_only &= kind.objs[0] == bt.Order.Market
        numbers = {one: self.optional(given.get(one, Val("none"))) for one in known - {"data", "exectype"}}
        if numbers["valid"] != "NAN" and given["valid"].kind not in ("static", "f", "i"):
            raise NotCompiled("valid that may be None", self.at)
        valid = "0.0" if numbers["valid"] == "NAN" else numbers["valid"]
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
        held_ = self.fresh("order")
        self.emit(f"{held_} = {function}({feed}, {way}{size}, {rest})")
        return Val("order", held_)

    def idle(self, name: str, value: Val) -> bool:
        defaults = {"tradeid": 0, "oco": None, "parent": None, "transmit": True}
        if name not in defaults:
            return name not in ("_checksubmit", "histnotify", "simulated", "owner")  # what is told along
        if value.kind == "none":
            return defaults[name] is None
        return value.kind == "static" and all(one == defaults[name] for one in value.objs)

    def optional(self, value: Val) -> str:
        if value.kind in ("none",) or _is_none(value):
            return "NAN"
        lifted = self.settled(value)
        if lifted.kind == "b":
            return self.as_kind(lifted, "f")
        if lifted.kind not in ("f", "i", "opt"):
            raise NotCompiled(f"{_shown(lifted.kind)} where a number is needed", self.at)
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


_GIVEN = ("data", "size", "price", "plimit", "exectype", "valid", "tradeid", "oco", "trailamount", "trailpercent",
          "parent", "transmit")  # fmt: skip
_ORDERS = {
    "buy": ("i_order", _GIVEN),
    "sell": ("i_order", _GIVEN),
    "close": ("i_close", ("data", "size")),
    "order_target_size": ("i_target_size", ("data", "target")),
    "order_target_value": ("i_target_value", ("data", "target", "price")),
    "order_target_percent": ("i_target_percent", ("data", "target")),
}
_ASKS = {
    "weekday",
    "isoweekday",
    "isocalendar",
    "total_seconds",
    "getdataname",
    "getposition",
    "getcash",
    "getcommissioninfo",
    "profitandloss",
    "get_cash",
    "getvalue",
    "get_value",
    "isbuy",
    "issell",
    "alive",
}
_ACTS = {*_ORDERS, "cancel", "buy_bracket", "sell_bracket", "set_cash", "setcash", "add_cash"}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: lambda a, b: a == b, ast.NotEq: lambda a, b: a != b, ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b, ast.Gt: lambda a, b: a > b, ast.GtE: lambda a, b: a >= b,
    ast.Is: lambda a, b: a is b, ast.IsNot: lambda a, b: a is not b,
}  # fmt: skip


def _one(objs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return one object where all trials have the same."""
    first = objs[0]
    same = all(one is first for one in objs)
    if not same and isinstance(first, int | float | str | bool):
        same = all(type(one) is type(first) and one == first for one in objs)
    return (first,) if same else objs


def _listed(value: Any) -> Any:
    return (
        list(value)
        if not isinstance(value, list | tuple | dict | set | str | LineRoot) and hasattr(value, "__iter__")
        else value
    )


def _has_lines(value: Val) -> bool:
    return any(isinstance(one, LineRoot) for one in value.objs)


def _is_none(value: Val) -> bool:
    return value.kind == "static" and all(one is None for one in value.objs)


def _same(a: Val, b: Val) -> bool:
    return (
        (a.kind, a.code) == (b.kind, b.code)
        and len(a.objs) == len(b.objs)
        and all(x is y for x, y in zip(a.objs, b.objs, strict=True))
        and a.extra is b.extra
    )


def _argument_key(value: Val) -> Any:
    return (
        value.kind,
        bool(value.code),
        tuple(map(id, value.objs)) if value.objs else id(value.extra) if value.extra else 0,
    )


def _argument_name(number: int, value: Val) -> str:
    return f"{_PREFIX.get(value.kind, 'i')}_a{number}"


def _shown(kind: str) -> str:
    names = {"f": "a number", "i": "a whole number", "b": "a truth", "opt": "a number or None", "none": "None",
             "str": "a text", "order": "an order", "note": "a notified order", "feed": "a feed", "text": "a text",
             "static": "an object", "position": "a position", "date": "a date", "changed": "what changes in the run",
             "tuple": "a list"}  # fmt: skip
    return names.get(kind, f"a {kind}")


def _leaves(body: Sequence[ast.stmt]) -> str:
    """Return whether a loop's body has a break, a continue or both of its own."""
    found = set()

    def look(nodes: Sequence[ast.stmt]) -> None:
        for node in nodes:
            if isinstance(node, ast.Break | ast.Continue):
                found.add(type(node).__name__.lower())
            if isinstance(node, ast.If):
                look(node.body)
                look(node.orelse)

    look(body)
    return "both" if len(found) > 1 else next(iter(found), "")


# As `SignalStrategy._notify`: the order that signals wait for is forgotten when it is told that it is over.
_FORGET = """    i_f = 0
    while i_f < A.told:
        i_fa = i_f + N.reads
        if A.s__sentinel >= 0 and A.n_order[i_fa] == A.s__sentinel and A.n_status[i_fa] > 3:
            A.s__sentinel = -1
        i_f = i_f + 1
"""


def _is_harmless(cls: Any) -> bool:
    """Return whether stop() gives no orders and sets no money, and has no arithmetic that may raise."""
    waiting, seen = ["stop"], set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        for one in ast.walk(_Method.of(getattr(cls, name)).node):
            if isinstance(one, ast.BinOp) and isinstance(one.op, ast.Div | ast.FloorDiv | ast.Pow):
                return False
            if isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Load):
                of_self = isinstance(one.value, ast.Name) and one.value.id == "self"
                if one.attr in _ACTS and (of_self or ast.unparse(one.value).endswith("broker")):
                    return False
                own = of_self and inspect.isfunction(getattr(cls, one.attr, None)) and not _is_base(cls, one.attr)
                if own and one.attr not in seen:
                    waiting.append(one.attr)
    return True


def _argument(name: str) -> ast.arguments:
    return ast.arguments([], [ast.arg(name)], None, [], [], None, [])


def _line_of(method: Any) -> int:
    code = getattr(method, "__code__", None)
    return code.co_firstlineno if code is not None else 0


@dataclass
class _Method:
    """A method's source."""

    function: Any
    node: ast.FunctionDef
    line: int
    bound: bool
    counts: dict[str, int]

    @classmethod
    @cache
    def of(cls, function: Any) -> _Method:
        try:
            lines, line = inspect.getsourcelines(function)
            node = ast.parse(textwrap.dedent("".join(lines))).body[0]
        except (OSError, TypeError, SyntaxError, IndentationError):
            raise NotCompiled(f"the source of {getattr(function, '__name__', function)} is not there") from None
        if not isinstance(node, ast.FunctionDef) or node.decorator_list:
            raise NotCompiled(f"{getattr(function, '__name__', function)} is no plain method", line)
        counts: dict[str, int] = {}
        for one in ast.walk(node):
            if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
                counts[one.id] = counts.get(one.id, 0) + 1
            if isinstance(one, ast.AugAssign) and isinstance(one.target, ast.Name):
                counts[one.target.id] = counts.get(one.target.id, 0) + 1
        bound = (
            "." in getattr(function, "__qualname__", "")
            and "<locals>" not in function.__qualname__.rpartition(".")[0][-8:]
        )
        return cls(function, node, line, bound, counts)

    def count(self, name: str) -> int:
        return self.counts.get(name, 0)

    def named(self, name: str, line: int) -> Any:
        if self.function.__closure__ and name in self.function.__code__.co_freevars:
            return self.function.__closure__[self.function.__code__.co_freevars.index(name)].cell_contents
        if name in self.function.__globals__:
            return self.function.__globals__[name]
        if hasattr(builtins, name):
            return getattr(builtins, name)
        raise NotCompiled(f"{name} is not known", line)

    def default(self, node: ast.expr) -> Any:
        try:
            return eval(compile(ast.Expression(node), "", "eval"), self.function.__globals__)
        except Exception:  # noqa: BLE001 - whatever it is, the run itself will say it
            raise NotCompiled(f"the default {ast.unparse(node)}", self.line) from None


@dataclass
class _Written:
    """What methods set at run time: attributes, and those whose contents change."""

    state: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    unread: set[str] = field(default_factory=set)  # lists that are appended to, and that nothing reads before the end


_CHANGING = {
    "append",
    "add",
    "pop",
    "clear",
    "remove",
    "discard",
    "update",
    "setdefault",
    "extend",
    "insert",
    "popleft",
    "appendleft",
}


def _written(cls: Any) -> _Written:
    found = _Written({"_sentinel"} if issubclass(cls, bt.SignalStrategy) else set())
    named: Counter[str] = Counter()
    appended: Counter[str] = Counter()
    for name in dir(cls):
        method = inspect.getattr_static(cls, name)
        if not inspect.isfunction(method) or name in ("__init__", "start", "stop") or _is_base(cls, name):
            continue
        try:
            node = _Method.of(method).node
        except NotCompiled:
            continue
        for one in ast.walk(node):
            owner = getattr(one, "value", None)
            sets = isinstance(getattr(one, "ctx", None), ast.Store | ast.Del)
            if isinstance(one, ast.Attribute) and isinstance(owner, ast.Name):
                named[one.attr] += 1
                if sets:
                    found.state.add(one.attr)
            if isinstance(one, ast.Subscript) and sets and isinstance(owner, ast.Attribute):
                found.changed.add(owner.attr)
            called = one.func if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) else None
            if called is not None and called.attr in _CHANGING and isinstance(called.value, ast.Attribute):
                found.changed.add(called.value.attr)
                appended[called.value.attr] += called.attr == "append"
    found.unread = {name for name in found.changed - found.state if named[name] == appended[name]}
    return found


def _is_base(cls: Any, name: str) -> bool:
    owner = next((one for one in cls.__mro__ if name in vars(one)), None)
    return owner is None or owner.__module__.startswith("backtrader.")


def clock_feed(thing: Any, datas: list[Any], indicators: dict[int, Any]) -> int | None:
    """Return the number of the feed that a line, an indicator or an operation moves with."""
    owners = {id(line): n for n, data in enumerate(datas) for line in data.lines.lines}
    owners.update({id(data): n for n, data in enumerate(datas)})
    for _ in range(100):
        if id(thing) in owners:
            return owners[id(thing)]
        if isinstance(thing, LineSeries) and type(thing).__name__ == "LineSeriesStub":
            thing = thing.lines[0]
            continue
        following = indicators.get(id(thing), vars(thing).get("_clock"))
        if following is None:
            following = vars(thing).get("_owner")
        if following is None or following is thing:
            return None
        thing = following
    return None
