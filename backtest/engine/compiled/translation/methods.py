"""`Method`, `WrittenClass`: the source of a strategy's methods, the attributes they set, and code without effect."""

from __future__ import annotations

import ast
import builtins
import inspect
import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import backtrader as bt
from backtrader.lineseries import LineSeries

from backtest.engine.compiled.refusals import NotCompiled

PURE: set[Any] = {
    len, range, enumerate, zip, min, max, abs, int, float, str, list, tuple, dict, set, sorted, bool, isinstance,
    hasattr, getattr, reversed, sum, round, math.floor, math.ceil, math.sqrt,
}  # fmt: skip


PURE_METHODS = {"items", "keys", "values", "get", "lower", "upper", "index", "copy", "split", "strip", "startswith"}
TEXT_METHODS = {
    "isoformat", "strftime", "format", "join", "upper", "lower", "strip", "ljust", "rjust", "getstatusname",
    "getordername", "ordtypename", "open_datetime", "close_datetime", "date", "time", "datetime", "zfill", "center",
}  # fmt: skip


_GIVEN = ("data", "size", "price", "plimit", "exectype", "valid", "tradeid", "oco", "trailamount", "trailpercent",
          "parent", "transmit")  # fmt: skip
ORDERS = {
    "buy": ("i_order", _GIVEN),
    "sell": ("i_order", _GIVEN),
    "close": ("i_close", ("data", "size")),
    "order_target_size": ("i_target_size", ("data", "target")),
    "order_target_value": ("i_target_value", ("data", "target", "price")),
    "order_target_percent": ("i_target_percent", ("data", "target")),
}
ASKS = {
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
ACTS = {*ORDERS, "cancel", "buy_bracket", "sell_bracket", "set_cash", "setcash", "add_cash"}


def _is_harmless(cls: Any) -> bool:
    """Return whether stop() gives no orders and sets no money, and has no arithmetic that may raise."""
    waiting, seen = ["stop"], set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        for one in ast.walk(Method.of(getattr(cls, name)).node):
            if isinstance(one, ast.BinOp) and isinstance(one.op, ast.Div | ast.FloorDiv | ast.Pow):
                return False
            if isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Load):
                of_self = isinstance(one.value, ast.Name) and one.value.id == "self"
                if one.attr in ACTS and (of_self or ast.unparse(one.value).endswith("broker")):
                    return False
                own = of_self and inspect.isfunction(getattr(cls, one.attr, None)) and not is_base(cls, one.attr)
                if own and one.attr not in seen:
                    waiting.append(one.attr)
    return True


def line_of(method: Any) -> int:
    """Return the line in which a method begins; 0 if unknown."""
    code = getattr(method, "__code__", None)
    return code.co_firstlineno if code is not None else 0


@dataclass
class Method:
    """A method's source."""

    function: Any
    node: ast.FunctionDef
    line: int
    bound: bool
    counts: dict[str, int]

    @classmethod
    @cache
    def of(cls, function: Any) -> Method:
        """Return the source of a function; raise NotCompiled if there is none."""
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
        """Return how often a local is set."""
        return self.counts.get(name, 0)

    def named(self, name: str, line: int) -> Any:
        """Return the object to which a non-local name refers."""
        if self.function.__closure__ and name in self.function.__code__.co_freevars:
            return self.function.__closure__[self.function.__code__.co_freevars.index(name)].cell_contents
        if name in self.function.__globals__:
            return self.function.__globals__[name]
        if hasattr(builtins, name):
            return getattr(builtins, name)
        raise NotCompiled(f"{name} is not known", line)

    def default(self, node: ast.expr) -> Any:
        """Return the default of an argument."""
        try:
            return eval(compile(ast.Expression(node), "", "eval"), self.function.__globals__)
        except Exception:  # noqa: BLE001 - whatever it is, the run itself will say it
            raise NotCompiled(f"the default {ast.unparse(node)}", self.line) from None


@dataclass
class WrittenClass:
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


def written_in(cls: Any) -> WrittenClass:
    """Return what the methods of a strategy set at run time."""
    found = WrittenClass({"_sentinel"} if issubclass(cls, bt.SignalStrategy) else set())
    named: Counter[str] = Counter()
    appended: Counter[str] = Counter()
    for name, method in _methods_of(cls):
        if not inspect.isfunction(method) or name in ("__init__", "start", "stop") or is_base(cls, name):
            continue
        try:
            node = Method.of(method).node
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


def _methods_of(cls: Any) -> list[tuple[str, Any]]:
    """Return the methods of a class by name, including overridden ones that a method calls."""
    found = [(name, inspect.getattr_static(cls, name)) for name in dir(cls)]
    later = [one for name, one in found if inspect.isfunction(one) and name not in ("__init__", "start", "stop")]
    if not any("super" in one.__code__.co_names for one in later):
        return found
    known = {id(one) for _, one in found}
    bases = [one for one in cls.__mro__ if not one.__module__.startswith("backtrader.") and one is not object]
    return found + [(name, one) for base in bases for name, one in vars(base).items() if id(one) not in known]


def is_base(cls: Any, name: str) -> bool:
    """Return whether a method is Backtrader's own."""
    owner = next((one for one in cls.__mro__ if name in vars(one)), None)
    return owner is None or owner.__module__.startswith("backtrader.")


def feed_numbers(datas: Sequence[Any]) -> dict[int, int]:
    """Return the number of the feed of each feed and of its lines, by the id of either."""
    owners = {id(line): n for n, data in enumerate(datas) for line in data.lines.lines}
    return owners | {id(data): n for n, data in enumerate(datas)}


def clock_feed(
    thing: Any, numbers: dict[int, int], indicators: dict[int, Any], known: dict[int, int | None]
) -> int | None:
    """
    Return the number of the feed that a line, an indicator or an operation moves with.

    Args:
        numbers: the result of `feed_numbers`.
        known: what was found of others, by id; what is found is added.
    """
    passed: list[int] = []
    feed = None
    while len(passed) < _MOST_CLOCKS:
        if id(thing) in numbers or id(thing) in known:
            feed = numbers[id(thing)] if id(thing) in numbers else known[id(thing)]
            break
        passed.append(id(thing))
        if type(thing).__name__ == "LineSeriesStub" and isinstance(thing, LineSeries):
            thing = thing.lines[0]
            continue
        following = indicators.get(id(thing), vars(thing).get("_clock"))
        if following is None:
            following = vars(thing).get("_owner")
        if following is None or following is thing:
            break
        thing = following
    known.update(dict.fromkeys(passed, feed))
    return feed


_MOST_CLOCKS = 100  # of which each is the clock of the one before
