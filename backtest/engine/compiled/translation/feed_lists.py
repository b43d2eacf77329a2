"""`FeedLists`: translate lists of feeds, in an order known only in the run, and temporary dicts by feed."""

# ruff: noqa: D102 - methods are named after the nodes and values that they are for

from __future__ import annotations

import ast
from collections.abc import Callable

from backtest.engine.compiled import ledger
from backtest.engine.compiled.refusals import NotCompiled
from backtest.engine.compiled.translation.expressions import Expressions
from backtest.engine.compiled.translation.program import Val, kind_in_words


class FeedLists(Expressions):
    """Lists of feeds."""

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
        raise NotCompiled(f"{kind_in_words(function.kind)} is called for each of a list", self.at)

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
        """Return the feeds from which a dict was built, in order."""
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
        if source.kind in ("static", "tuple") and not loop.ifs:
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


def _argument(name: str) -> ast.arguments:
    return ast.arguments([], [ast.arg(name)], None, [], [], None, [])
