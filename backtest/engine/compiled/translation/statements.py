"""`Statements`: translate the statements of a strategy's methods, and the state that they change."""

# ruff: noqa: D102 - methods are named after the nodes and values that they are for

from __future__ import annotations

import ast
from collections.abc import Sequence

from backtest.engine.compiled.refusals import NotCompiled
from backtest.engine.compiled.translation.calls import Calls
from backtest.engine.compiled.translation.program import LISTED, PREFIX, TIMES, Val

_MOST_UNROLLED = 40


class Statements(Calls):
    """Statements; each method returns whether nothing after it is reached."""

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
                raise NotCompiled("an except clause that does more than print", self.at)
        ended = self.body(node.body) or self.body(node.orelse)
        return self.body(node.finalbody) or ended

    def do_assert(self, node: ast.Assert) -> None:
        """Translate an assertion; if it fails in a trial, the event engine reports what Python raises."""
        test = self.condition(node.test)
        self.effects = True
        self.emit(f"if not {test.code}:")
        self.emit("    flag()")

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
        """Return whether an expression only creates text, which is printed or never used."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            self.made.tells = self.made.tells or self.at
            return not any(self.acts(one) for one in node.args)
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

    def store(self, target: ast.expr, value: Val) -> None:
        if isinstance(target, ast.Name):
            self.env[target.id] = self.local(target.id, value)
        elif isinstance(target, ast.Attribute) and self.is_self(target.value):
            self.set_attribute(target.attr, value)
        elif isinstance(target, ast.Subscript):
            self.set_item(target, value)
        elif isinstance(target, ast.Attribute) and self.expression(target.value).kind in ("note", "trade"):
            pass  # of a copy that nothing else refers to; reading it is refused
        else:
            raise NotCompiled(f"{ast.unparse(target)} is set", self.at)

    def local(self, name: str, value: Val) -> Val:
        assert self.function is not None
        if value.kind in ("static", "none", "feed") and self.function.count(name) > 1:
            try:
                value = self.lifted(value) if value.kind != "static" or not self.is_big(value) else value
            except NotCompiled as error:
                return Val("poison", why=error.reason) if value.kind == "static" and not self.is_big(value) else value
        if value.kind in ("f", "i", "b", "opt", "order", "copy", "str", "feed", "none", *TIMES):
            if value.kind in TIMES and self.function.count(name) == 1:
                return value  # with what it is the time of
            if value.kind == "none" and self.function.count(name) == 1:
                return value
            if value.objs and self.function.count(name) == 1 and value.kind != "order":
                return value
            return self.materialised(name, value)
        return value

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
                found[name] = Val("poison", why=f"{name} has values of different kinds")
        return found  # type: ignore[return-value]

    def do_for(self, node: ast.For) -> bool:
        if node.orelse:
            raise NotCompiled("a for with else", self.at)
        source = self.expression(node.iter)
        if source.kind == "feedmap":
            source = self.ordered(source.extra[2])
        if source.kind == "orders":
            before = dict(self.env)
            self.each_order(node, source)
            self.left_by(before)
            return False
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

    def each_order(self, node: ast.For, source: Val) -> None:
        """Write what is done with each order of a list, which must not change meanwhile."""
        touched = [one for part in node.body for one in ast.walk(part) if isinstance(one, ast.Attribute)]
        if any(one.attr == source.extra for one in touched) or _leaves(node.body):
            raise NotCompiled("a loop over a list of orders that changes, or is left", self.at)
        for number in range(LISTED):
            self.emit(f"if {source.code} > {number}:")
            with self.deeper():
                for name, value in self.targets(node.target, self.place_in_list(source.extra, number)):
                    self.env[name] = value
                self.body(node.body)

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

    def left_by(self, before: dict[str, Val]) -> None:
        """Forget the values of names that a loop may not have set before it ended."""
        for name, value in self.env.items():
            known = before.get(name)
            placed = value.code == f"{PREFIX.get(value.kind, 'i')}_{name}"
            if value is not known and not placed:
                self.env[name] = Val("poison", why=f"{name} is set in a loop that may be left before")

    def once(self, node: ast.For, item: Val) -> bool:
        for name, value in self.targets(node.target, item):
            self.env[name] = value
        return self.body(node.body)


def _same(a: Val, b: Val) -> bool:
    return (
        (a.kind, a.code) == (b.kind, b.code)
        and len(a.objs) == len(b.objs)
        and all(x is y for x, y in zip(a.objs, b.objs, strict=True))
        and a.extra is b.extra
    )


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
