"""`Expressions`: translate a strategy's numbers, lines, dates and conditions into scalar expressions."""

# ruff: noqa: D102 - methods are named after the nodes and values that they are for

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

import backtrader as bt
import numpy as np
from backtrader.linebuffer import LineBuffer
from backtrader.lineroot import LineRoot

from backtest.engine.compiled.indicators import MomentLine, OwnLine, ValidLine, moment_number
from backtest.engine.compiled.refusals import NotCompiled
from backtest.engine.compiled.translation.methods import clock_feed
from backtest.engine.compiled.translation.program import (
    LISTED,
    TIMES,
    Moment,
    Unknown,
    Val,
    always_none,
    for_all,
    has_lines,
    kind_in_words,
)
from backtest.engine.compiled.translation.state import KeptState

_STATUS = {name: number for number, name in enumerate(bt.Order.Status)} | {"Cancelled": bt.Order.Canceled}
_KINDS = {name: number for number, name in enumerate(bt.Order.ExecTypes)}
_OPEN, _HIGH, _LOW, CLOSE = "open", "high", "low", "close"
_TRADE = {
    "isclosed": "(A.x_over[{0}] != 0)", "isopen": "(A.x_size[{0}] != 0)", "justopened": "(A.x_fresh[{0}] != 0)",
    "long": "(A.x_long[{0}] != 0)", "size": "A.x_size[{0}]", "price": "A.x_price[{0}]",
    "commission": "A.x_costs[{0}]", "pnl": "A.x_gain[{0}]", "pnlcomm": "(A.x_gain[{0}] - A.x_costs[{0}])",
    "value": "(A.x_size[{0}] * A.x_price[{0}])", "barlen": "A.x_bars[{0}]", "baropen": "A.x_since[{0}]",
    "dtopen": "A.x_opened[{0}]",
}  # fmt: skip
_TRADE_TRUTHS, _TRADE_WHOLE = {"isclosed", "isopen", "justopened", "long"}, {"barlen", "baropen"}
_MOMENT_PARTS = {
    "date": {"year", "month", "day"},
    "moment": {"year", "month", "day", "hour", "minute", "second"},
    "clock": {"hour", "minute", "second"},
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: lambda a, b: a == b, ast.NotEq: lambda a, b: a != b, ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b, ast.Gt: lambda a, b: a > b, ast.GtE: lambda a, b: a >= b,
    ast.Is: lambda a, b: a is b, ast.IsNot: lambda a, b: a is not b,
}  # fmt: skip


class Expressions(KeptState):
    """Expressions of a strategy."""

    def soft(self, node: ast.expr) -> Val:
        """Return a value, or poison: a local that only texts need is not a reason to refuse."""
        lines = list(self.lines)
        try:
            return self.expression(node)
        except NotCompiled as error:
            if self.acts(node) or isinstance(error, Unknown):
                raise
            self.lines[:] = lines
            return Val("poison", why=error.reason, line=error.line)

    def expression(self, node: ast.expr) -> Val:
        if self.function and hasattr(node, "lineno"):
            self.at = self.function.line + node.lineno - 1
        name = f"of_{type(node).__name__.lower()}"
        if not hasattr(self, name):
            raise NotCompiled(f"{ast.unparse(node)[:60]} is not compiled", self.at)
        found: Val = getattr(self, name)(node)
        return found

    def static_of(self, *objs: Any) -> Val:
        return Val("static", objs=for_all(objs))

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
                    continue  # a text or a date, as far as this can be determined; the run itself would raise
                if not (number.objs and number.objs[0]):
                    self.emit(f"if {number.code} == 0:")
                    self.emit("    flag()")
                    self.effects = True

    def of_joinedstr(self, node: ast.JoinedStr) -> Val:
        self.check_text(node)
        if any(self.acts(one.value) for one in node.values if isinstance(one, ast.FormattedValue)):
            raise NotCompiled("a string built by calls", self.at)
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
        """Return values in the order in which Python computes them: a later one must not change an earlier."""
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
        return Val("static", objs=for_all(found))

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
        if self.is_order_list(name):
            return self.order_list(name)
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
            unknown = Unknown(f"self.{name} is read, but never set", self.at)
            unknown.key = key
            raise unknown
        if kind == "never":
            self.emit("flag()")
            return Val("none")
        if kind == "text":
            return Val("poison", why=f"self.{name} is set to a string or to an unsupported value")
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
        if kind == "copy":
            if name == "ref":
                return Val("ref", self.given(owner).code)
            return Val("poison", why=f"{name} of an order as it was notified is used", line=self.at)
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
        if kind in ("date", "moment", "clock") and isinstance(owner.extra, Moment) and name in _MOMENT_PARTS[kind]:
            return self.part(owner.extra, name)
        if kind in ("span", "spell") and name == "days":
            return Val("i", owner.code if kind == "span" else f"({owner.code} // 86400000000)")
        if kind in ("poison", "text"):
            return Val("poison", why=owner.why or f"{ast.unparse(node)} is used")
        raise NotCompiled(f"{ast.unparse(node)} is not compiled", self.at)

    def part(self, moment: Moment, name: str) -> Val:
        """Return a part of the times of a line of stamps, a whole number."""
        clock = self.clock_of(moment)
        key = "moment", id(moment.line), name, clock
        if key not in self.slot_of:
            stamps = np.frombuffer(moment.line.array) if moment.feed < len(self.datas) else self.stamps
            self.slot_of[key] = len(self.made.slots)
            self.made.slots.append((clock, [MomentLine(stamps, moment.line._tz, name)], 0))
        return Val("i", f"line({self.slot_of[key]}, {moment.ago}, 0)")

    def clock_of(self, moment: Moment) -> int:
        """Return the number of the clock of a line of stamps."""
        clock = self.clock(moment.feed, moment.feed < len(self.datas))
        self.own_begun(clock, moment.ago)
        return clock

    def own_begun(self, clock: int, ago: str) -> None:
        """Flag a trial that reads the strategy's own line before its first bar, as when a first timer goes off."""
        if clock == 2 * len(self.datas) + 1:
            self.emit(f"if N.at[{clock}] + {ago} < 0:")
            self.emit("    flag()")

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
        moment = Moment(owner.objs[0], feed, ago)
        kind = {"date": "date", "datetime": "moment", "time": "clock"}[name]
        return Val(kind, self.part(moment, kind).code, extra=moment)

    def shifted(self, value: Val, other: Val, sign: int) -> Val | None:
        """Return a date or a moment of a bar and more, which only an order can be valid until; or None."""
        known = other.kind == "static" and all(isinstance(one, timedelta) for one in other.objs)
        if not known or not isinstance(value.extra, Moment):
            return None
        return Val("until", extra=(value.extra, value.kind, tuple(sign * one for one in other.objs)))

    def until(self, value: Val, feed: str) -> str | None:
        """Return the time until which an order for a feed is valid; None if it is not a time."""
        times = value.kind == "static" and all(isinstance(one, date | timedelta) for one in value.objs)
        if not times and value.kind not in ("until", "date", "moment"):
            return None
        if not feed.isdigit():
            raise NotCompiled("valid as a time, of a feed that is not known before the run", self.at)
        data = self.datas[int(feed)]
        if times and all(isinstance(one, date) for one in value.objs):
            return self.constant(tuple(float(data.date2num(one)) for one in value.objs), "f").code
        if times:
            value = Val("until", extra=(Moment(data.lines.datetime, int(feed), "0"), "moment", value.objs))
            if not all(isinstance(one, timedelta) and one for one in value.extra[2]):
                raise NotCompiled("valid until the end of the day", self.at)
        moment, kind, more = value.extra if value.kind == "until" else (value.extra, value.kind, (timedelta(),))
        if not isinstance(moment, Moment):
            raise NotCompiled("valid until a time that is not that of a bar", self.at)
        clock = self.clock_of(moment)
        key = "until", id(moment.line), kind, more, feed, clock
        if key not in self.slot_of:
            stamps = np.frombuffer(moment.line.array) if moment.feed < len(self.datas) else self.stamps
            lines = {one: ValidLine(stamps, moment.line._tz, kind, one, data) for one in dict.fromkeys(more)}
            places = {one: n for n, one in enumerate(lines)}
            where: Any = 0 if len(lines) == 1 else np.array([places[one] for one in more])
            self.slot_of[key] = len(self.made.slots)
            self.made.slots.append((clock, list(lines.values()), where))
        return f"line({self.slot_of[key]}, {moment.ago})"

    def timed(self, value: Val, kind: str) -> Val:
        """Return a date, a moment or a time of day as a whole number, also if it is a known object."""
        if value.kind == kind:
            return value
        if value.kind == "static":
            wanted: type[Any] = {"date": date, "moment": datetime, "clock": time}[kind]
            if all(type(one) is wanted and getattr(one, "tzinfo", None) is None for one in value.objs):
                return self.constant(tuple(moment_number(one, kind) for one in value.objs), kind)
        raise NotCompiled(f"{kind_in_words(value.kind)} where a {kind} is needed", self.at)

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
        if owner.kind == "orders" and at.kind == "static" and len(at.objs) == 1 and at.objs[0] in range(LISTED):
            self.emit(f"if {owner.code} <= {at.objs[0]}:")
            self.emit("    flag()")
            return self.place_in_list(owner.extra, at.objs[0])
        if owner.kind == "changed":
            name = owner.extra
            self.check_map(name)
            code = self.feed_code(at)
            kind = self.map_kind(name, "")
            if not kind:
                raise Unknown(f"self.{name} is read, but never set", self.at)
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
                parts.append(Val("static", objs=for_all(tuple(one[key] for one in owner.objs))))
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
                if extra in (_OPEN, _HIGH, _LOW, CLOSE) and ago == "0":
                    self.begun(owner.code)
                    return Val("f", f"N.{extra}[{owner.code}]")
                parts = [self.static_of(getattr(data, extra)) for data in self.datas]
            else:
                parts = extra
            return Val("f", self.choice(owner.code, [self.read(one, ago).code for one in parts]))
        lines = []
        for one in owner.objs:
            if not isinstance(one, LineRoot):
                raise NotCompiled("a line that exists in some trials only", self.at)
            lines.append(one if isinstance(one, LineBuffer) else one.lines[0])
        feed = self.clock(self.feed_of_line(owner.objs), all(id(one) in self.lines_of_feeds for one in lines))
        self.own_begun(feed, ago)
        key = tuple(map(id, lines)), feed
        if key not in self.slot_of:
            self.slot_of[key] = len(self.made.slots)
            if feed % (len(self.datas) + 1) == len(self.datas):  # the strategy's own, which nothing has filled yet
                lines = [OwnLine(self.stamps)] * len(lines)
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
        known: dict[int, int | None] = {}
        found = {clock_feed(one, self.lines_of_feeds, self.owners, known) for one in objs}
        if len(found) > 1 or None in found:
            raise NotCompiled("a line that follows no feed, or several", self.at)
        feed = found.pop()
        assert feed is not None
        return feed

    def feed_code(self, value: Val) -> str:
        if value.kind == "static":
            value = self.lifted(value)
        if value.kind != "feed":
            raise NotCompiled(value.why or f"{kind_in_words(value.kind)} where a feed is needed", value.line or self.at)
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
        if left.kind == "static" and right.kind == "static" and not has_lines(left) and not has_lines(right):
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
                first, other = (left, right) if left.kind == kind else (right, left)
                later = self.shifted(first, other, -1 if isinstance(op, ast.Sub) else 1)
                if later is not None and (isinstance(op, ast.Add) or (isinstance(op, ast.Sub) and first is left)):
                    return later
                return Val("poison", why=f"a {kind} is computed with")
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
            return self.read(self.static_of(feed) if feed else Val("lineof", value.code, extra=("feed", CLOSE)), "0")
        if value.kind == "none":  # which raises an error: the event engine runs such a trial and reports it
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
            raise NotCompiled(f"{kind_in_words(value.kind)} where a number is needed", self.at)
        return value

    def of_unaryop(self, node: ast.UnaryOp) -> Val:
        if isinstance(node.op, ast.Not):
            return self.condition(node)
        operand = self.expression(node.operand)
        if operand.kind == "static" and not has_lines(operand):
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
        with self.captured() as lines:
            first = self.expression(node.values[0])
        rest = node.values[1:]
        if first.kind in ("static", "none") and not has_lines(first):
            truth = self.truth(first)
            if truth.objs:
                picked = bool(truth.objs[0]) != isinstance(node.op, ast.And)
                return first if picked else self.expression(rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest))
        if _is_truth(first) and (parts := self.truths(node.op, (lines, first), rest)) is not None:
            return self.joined(parts, isinstance(node.op, ast.And))
        self.lines += [line[4:] for line in lines]
        return self.one_or_other(node.op, first, rest)

    def truths(
        self, op: ast.boolop, first: tuple[list[str], Val], rest: Sequence[ast.expr]
    ) -> list[tuple[list[str], Val]] | None:
        """Return booleans, each with its lines of code, up to one that decides; None if one is not a boolean."""
        found = [(first[0], self.truth(first[1]))]
        for one in rest:
            lines, value = found[-1]
            if value.objs and not lines and bool(value.objs[0]) != isinstance(op, ast.And):
                break
            with self.captured() as lines:
                value = self.expression(one)
            if not _is_truth(value):
                return None
            found.append((lines, self.truth(value)))
        return found

    def one_or_other(self, op: ast.boolop, first: Val, rest: Sequence[ast.expr]) -> Val:
        """Return `a or b`, or `a and b`, of values that are not booleans: one of them, as in Python."""
        held = self.temp(self.settled(first))
        test, either = self.truth(held), isinstance(op, ast.Or)
        with self.captured() as lines:
            other = self.settled(self.expression(rest[0] if len(rest) == 1 else ast.BoolOp(op, list(rest))))
        number = either and held.kind == "opt" and other.kind in ("f", "i")  # None is not a boolean
        kind = "f" if number else self.wider(self.wider("", held.kind, "a value"), other.kind, "a value")
        name = self.fresh(kind)
        self.emit(f"{name} = {self.as_kind(held, kind)}")
        self.emit(f"if {f'not {test.code}' if either else test.code}:")
        self.lines += lines
        self.emit(f"    {name} = {self.as_kind(other, kind)}")
        return Val(kind, name)

    def connected(self, node: ast.BoolOp, truth: Callable[[ast.expr], Val]) -> Val:
        parts = []
        for one in node.values:
            with self.captured() as lines:
                value = truth(one)
            parts.append((lines, value))
            if value.objs and not lines and bool(value.objs[0]) != isinstance(node.op, ast.And):
                break  # the rest is never evaluated, whatever it is
        return self.joined(parts, isinstance(node.op, ast.And))

    def joined(self, parts: Sequence[tuple[list[str], Val]], both: bool) -> Val:
        """Return booleans joined by `and` or `or`, each with the lines that compute it if it is needed."""
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
        if left.kind == "static" and right.kind == "static" and not has_lines(left) and not has_lines(right):
            found = self.over(_COMPARISONS[type(op)], [left, right])
            return self.constant(found.objs, "b")
        if isinstance(op, ast.Is | ast.IsNot | ast.Eq | ast.NotEq) and (
            "none" in (left.kind, right.kind) or always_none(left) or always_none(right)
        ):
            other = left if right.kind == "none" or always_none(right) else right
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
            if pair <= {"order", "note", "copy"}:
                if isinstance(op, ast.Is | ast.IsNot) and "copy" in pair:
                    raise NotCompiled("an order as it was notified compared by `is`", self.at)
                if isinstance(op, ast.Is | ast.IsNot) and "note" in pair:
                    return self.constant((isinstance(op, ast.IsNot),), "b")  # the strategy is notified with a copy
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
        if value.kind in ("order", "copy", "str", "feed", *TIMES) and not value.objs:
            return Val("b", f"({value.code} < 0)")
        if value.kind == "poison":
            raise NotCompiled(value.why, value.line or self.at)
        return Val("b", "False", objs=(False,))

    def contained(self, left: Val, right: Val, negative: bool) -> Val:
        if right.kind in ("feeds", "filtered"):
            return self.negated(self.is_listed(right, self.feed_code(left)), negative)
        if right.kind == "feedmap":
            return self.negated(Val("b", f"A.{right.extra[1]}[{self.feed_code(left)}]"), negative)
        if right.kind == "orders":
            held = self.index_of_order(left)
            places = [self.place_in_list(right.extra, number).code for number in range(LISTED)]
            found = [f"({right.code} > {number} and {place} == {held})" for number, place in enumerate(places)]
            return self.negated(Val("b", f"({' or '.join(found)})"), negative)
        if right.kind == "changed":
            self.check_map(right.extra)
            code = self.feed_code(left)
            return self.negated(Val("b", f"A.has_{right.extra}[{code}]"), negative)
        if left.kind == "static" and right.kind == "static" and not has_lines(left):
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

    def by_python(self, function: Any, args: list[Val]) -> Val:
        """Return what a function of Python's gives of numbers, called for each trial: its last bit is its own."""
        numbers = [self.number_of(one) for one in args]
        self.made.calls.append(function)
        found = self.fresh("f")
        self.emit(f"{found} = called({', '.join([str(len(self.made.calls) - 1), *(one.code for one in numbers)])})")
        return Val("f", found)


def _is_truth(value: Val) -> bool:
    return value.kind == "b" or (value.kind == "static" and all(isinstance(one, bool) for one in value.objs))
