"""`Calls`: translate a strategy's calls: its own methods, Python's functions, methods of its objects."""

# ruff: noqa: D102 - methods are named after the nodes and values that they are for

from __future__ import annotations

import ast
import inspect
import math
import random
from datetime import date, datetime, time
from typing import Any

import backtrader as bt

from backtest.engine.compiled.refusals import NotCompiled
from backtest.engine.compiled.translation.methods import ORDERS, PURE, PURE_METHODS, TEXT_METHODS, Method
from backtest.engine.compiled.translation.orders import Orders
from backtest.engine.compiled.translation.program import TIMES, Moment, Unknown, Val, as_list, has_lines, kind_in_words

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


_NUMERIC = {int, float, abs, round, min, max, bool, math.floor, math.ceil, math.sqrt, math.isnan}


class Calls(Orders):
    """Calls of a strategy."""

    def of_call(self, node: ast.Call) -> Val:
        func = node.func
        if isinstance(func, ast.Attribute) and self.is_self(func.value):
            return self.call_of_self(func.attr, node)
        if isinstance(func, ast.Attribute) and isinstance(func.value, ast.Call) and _is_super(func.value):
            return self.call_of_base(func.attr, node)
        if isinstance(func, ast.Name) and func.id == "print" and func.id not in self.env:
            if any(self.acts(one) for one in node.args):
                raise NotCompiled("print() of what is called", self.at)
            self.made.tells = self.made.tells or self.at
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
                raise Unknown(f"hasattr() of self.{text}, which is a text or nothing", self.at)
            return Val("b", f"A.set_{text}")
        return self.constant((all(hasattr(one, text) for one in self.trials),), "b")

    def is_a(self, value: Val, wanted: Val) -> Val:
        kinds = {"f": (1.0,), "i": (1,), "b": (True,), "none": (None,), "str": ("",)}
        if value.kind == "static":
            return self.constant(self.over(isinstance, [value, wanted]).objs, "b")
        if value.kind in kinds and wanted.kind == "static" and len(wanted.objs) == 1:
            types = tuple(wanted.objs[0]) if isinstance(wanted.objs[0], list) else wanted.objs[0]
            return self.constant((isinstance(kinds[value.kind][0], types),), "b")
        if value.kind in ("order", "note") and len(wanted.objs) == 1 and wanted.objs[0] in (bt.BuyOrder, bt.SellOrder):
            held = value if value.kind == "note" else self.given(value)
            order = f"A.n_order[{held.code}]" if value.kind == "note" else held.code
            return Val("b", f"(A.size[{order}] {'>' if wanted.objs[0] is bt.BuyOrder else '<'} 0)")
        if value.kind in TIMES:
            types = wanted.objs[0] if len(wanted.objs) == 1 else ()
            return self.constant(
                (types in {"date": (date,), "moment": (datetime, date), "clock": (time,)}[value.kind],), "b"
            )
        raise NotCompiled(value.why or f"isinstance() of {kind_in_words(value.kind)}", value.line or self.at)

    def length(self, value: Val) -> Val:
        if value.kind == "self":
            return Val("i", "N.step" if self.lagged else "(N.step + 1)")
        if value.kind == "window":
            return self.of_window(len, [value], {})
        if value.kind in ("feeds", "orders"):
            return Val("i", value.code)
        if value.kind == "filtered":
            return Val("i", self.listed(value).code)
        if value.kind == "feed":
            return Val("i", f"(N.at[{value.code}] + 1)")
        if value.kind == "static":
            if not has_lines(value):
                return self.over(len, [value])
            moved = all(id(one) in self.lines_of_feeds for one in value.objs)
            return Val("i", f"(N.at[{self.clock(self.feed_of_line(value.objs), moved)}] + 1)")
        if value.kind == "tuple":
            return self.static_of(len(value.extra))
        if value.kind == "lineof" and value.extra[0] == "feed":
            return Val("i", f"(N.at[{value.code}] + 1)")
        raise NotCompiled(value.why or f"the length of {kind_in_words(value.kind)}", value.line or self.at)

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
        if function in (sum, min, max) and len(every) == 1 and every[0].kind == "tuple" and every[0].extra:
            return self.of_numbers(function, [self.number_of(one) for one in every[0].extra])
        known = all(one.kind == "static" and not has_lines(one) for one in every)
        if function in _NUMERIC and not named and not known:
            return self.numeric(function, args)
        if function in _PYTHON and all(one.kind not in ("text", "poison") for one in every) and not named:
            return self.by_python(function, args)
        if any(one.kind in ("text", "poison") for one in every):
            return Val("poison", why=next(one.why for one in every if one.kind in ("text", "poison")) or "a text")
        pure = function in PURE or getattr(function, "__module__", "") in ("datetime", "math")
        looks = any(has_lines(one) for one in every) and function not in (len, list, enumerate, zip, reversed)
        if pure and not looks and all(one.kind == "static" for one in every):
            names, count = list(named), len(args)
            if not every:
                return self.static_of(as_list(function()))
            return self.over(
                lambda *given: as_list(function(*given[:count], **dict(zip(names, given[count:], strict=True)))), every
            )
        shown = getattr(function, "__name__", str(function))
        raise NotCompiled(f"{shown}() is called", self.at)

    def of_numbers(self, function: Any, numbers: list[Val]) -> Val:
        """Return the sum, the least or the largest of some numbers; Python sums floats, as its versions differ."""
        if function is not sum:
            return self.numeric(function, numbers) if len(numbers) > 1 else numbers[0]
        if all(one.kind == "i" for one in numbers):
            return Val("i", f"({' + '.join(one.code for one in numbers)})")
        return self.by_python(lambda *given: sum(given), numbers)

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

    def sorted_by(self, node: ast.Call) -> Val:
        source = self.expression(node.args[0])
        source = self.ordered(source.extra[2]) if source.kind == "feedmap" else source
        given = {str(one.arg): self.expression(one.value) for one in node.keywords}
        backwards = given.get("reverse", self.static_of(False))
        if backwards.kind != "static" or len(backwards.objs) != 1 or "key" not in given:
            if source.kind == "static" and not given and not has_lines(source):
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
        if function is not abs and any(one.kind == "lineof" or has_lines(one) for one in args):
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
            if name in TEXT_METHODS:
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
            if name == "get" and has_lines(owner):
                return self.window(owner, node)
            if name in ("date", "time", "datetime") and has_lines(owner):
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
            if name in PURE_METHODS and not has_lines(owner) and not node.keywords:
                args = [self.expression(one) for one in node.args]
                if all(one.kind == "static" for one in args):
                    return self.over(lambda one, *given: as_list(getattr(one, name)(*given)), [owner, *args])
            if all(isinstance(one, str) for one in owner.objs):
                return Val("text") if not self.acts(node) else None
            return None
        if kind == "lineof" and name in ("date", "time", "datetime"):
            return Val("poison", why=f"{ast.unparse(node)[:60]} is used")
        if kind in ("date", "moment", "clock") and not self.acts(node):
            if isinstance(owner.extra, Moment) and name in ("weekday", "isoweekday") and kind != "clock":
                return self.part(owner.extra, name)
            if isinstance(owner.extra, Moment) and kind == "moment" and name in ("date", "time"):
                wanted = {"date": "date", "time": "clock"}[name]
                return Val(wanted, self.part(owner.extra, wanted).code, extra=owner.extra)
            if name == "isocalendar" and isinstance(owner.extra, Moment) and kind != "clock":
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
        if kind == "orders" and name in ("append", "remove", "clear") and not node.keywords:
            args = [self.expression(one) for one in node.args]
            if name == "clear":
                self.set_list(owner.extra, self.static_of([]))
            else:
                (self.add_to_list if name == "append" else self.remove_from_list)(owner.extra, args[0])
            return Val("none")
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

    def call_of_self(self, name: str, node: ast.Call) -> Val:
        if name in ORDERS:
            return self.order(name, node)
        if name in ("buy_bracket", "sell_bracket"):
            return self.bracket(name, node)
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

    def call_of_base(self, name: str, node: ast.Call) -> Val:
        """Return what the method that a method overrides gives."""
        assert self.function is not None
        mro = self.cls.__mro__
        own = next((n for n, one in enumerate(mro) if self.function.function in vars(one).values()), len(mro))
        base = next((one for one in mro[own + 1 :] if name in vars(one)), None)
        if base is None or base.__module__.startswith("backtrader."):
            idle = name in ("notify_order", "notify_trade", "next", "prenext")
            if idle and base is not None and vars(base)[name] is getattr(bt.Strategy, name):
                return Val("none")
            raise NotCompiled(f"super().{name}() is called", self.at)
        if not inspect.isfunction(vars(base)[name]):
            raise NotCompiled(f"super().{name}() is no plain method", self.at)
        given = {one.arg: self.soft(one.value) for one in node.keywords}
        return self.helper(vars(base)[name], [self.soft(one) for one in node.args], f"{base.__name__}_{name}", given)

    def helper(self, method: Any, args: list[Val], name: str, named: dict[Any, Val] | None = None) -> Val:
        source = Method.of(method)
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
        """Return an argument unchanged: a known feed stays known."""
        if value.objs and value.kind in ("f", "i", "b", "str", "feed"):
            objs = value.objs
            if value.kind == "feed":
                objs = tuple(self.datas[one] for one in objs)
            if value.kind == "str":
                objs = tuple(self.texts[one] for one in objs)
            return Val("static", objs=objs)
        return value


def _is_super(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == "super"


def _round(number: float, digits: float) -> float:
    return round(number, int(digits))
