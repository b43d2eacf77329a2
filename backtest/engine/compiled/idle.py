"""
Steps that trials may skip: those at which the strategy does nothing while no order is pending.

`acts` finds out from the scalar code of a strategy under which condition its `next` changes anything. `Idle` computes,
for states of the account that decide about it, the next step of each trial at which that condition may hold. It may
name too many steps, never too few: at a step that it names the code itself decides.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_MOST_PARTS = 400  # of a strategy's code that are looked through; a longer one does not skip
_MOST_TESTS = 12  # of the account that are told apart; what depends on others may always act
_MOST_TABLES = 8  # of states of the account; in others each step is looked at
_MOST_ROUNDS = 16  # of a loop
_MOST_NODES = 100  # of an expression
_AT_ONCE = 160_000  # values of a line, which a processor's cache holds
_OPS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.USub: operator.neg,
    ast.Not: np.logical_not,
}  # fmt: skip
_CALLS: dict[str, Callable[..., Any]] = {"abs": np.abs, "lower": np.minimum, "higher": np.maximum}
_UNKNOWN = ast.Name("UNKNOWN", ast.Load())


class _TooLong(Exception):
    """There is more code than is looked through."""


@dataclass(frozen=True)
class Either:
    """A condition that holds where one of two does."""

    one: When
    other: When


@dataclass(frozen=True)
class Case:
    """A condition that is one where a test holds, and the other elsewhere."""

    test: ast.expr
    body: When
    orelse: When


When = bool | ast.expr | Either | Case


def acts(
    functions: Mapping[str, ast.FunctionDef], entry: str, constants: Mapping[str, Any], wholes: set[str], steps: int
) -> When:
    """
    Return when a function changes the account, submits an order or flags a trial: a condition on account and lines.

    Args:
        functions: the scalar code of the strategy and of the ledger, by name.
        entry: the name of the function.
        constants: what is decided before the run, by name.
        wholes: the fields of the account that hold whole numbers.
        steps: the number of steps of the run.
    """
    try:
        return _Reader(functions, constants, wholes, steps).body(functions[entry].body, {})[0]
    except _TooLong:
        return True


@dataclass
class _Reader:
    functions: Mapping[str, ast.FunctionDef]
    constants: Mapping[str, Any]
    wholes: set[str]
    steps: int
    parts: int = 0

    def body(self, statements: Sequence[ast.stmt], known: dict[str, ast.expr]) -> tuple[When, ast.expr]:
        """Return when statements act, and the value that they return."""
        self.parts += 1
        if self.parts > _MOST_PARTS:
            raise _TooLong
        found: When = False
        for number, one in enumerate(statements):
            rest = statements[number + 1 :]
            if isinstance(one, ast.Return):
                value, risk = self.value(one.value, known) if one.value else (_UNKNOWN, False)
                return _either(found, risk), value
            if isinstance(one, ast.If):
                more, value = self.branch(one, rest, known)
                return _either(found, more), value
            if isinstance(one, ast.For) and (rounds := self.rounds(one, known)) is not None:
                more, value = self.body([*rounds, *rest], known)
                return _either(found, more), value
            found = _either(found, self.statement(one, known))
            if found is True:
                break
        return found, _UNKNOWN

    def statement(self, node: ast.stmt, known: dict[str, ast.expr]) -> When:
        """Return when a statement acts that is no branch, and note what it sets."""
        if isinstance(node, ast.Expr):
            return self.value(node.value, known)[1]
        if not isinstance(node, ast.Assign):
            return not isinstance(node, ast.Pass)
        value, risk = self.value(node.value, known)
        target = node.targets[0]
        if isinstance(target, ast.Name):
            cut = target.id.startswith("i_") and not self.is_whole(value)  # such a name has the whole part
            known[target.id] = _UNKNOWN if cut else value
            return risk
        place = self.place(target, known)
        same = ast.unparse(place) in {ast.unparse(one) for one in ast.walk(value) if isinstance(one, ast.expr)}
        if same or "UNKNOWN" in _reads(place) | _reads(value):
            return True
        return _either(risk, ast.Compare(place, [ast.NotEq()], [value]))

    def branch(self, node: ast.If, rest: Sequence[ast.stmt], known: dict[str, ast.expr]) -> tuple[When, ast.expr]:
        """Return when a branch and what follows it act, and the value that they return."""
        test, risk = self.value(node.test, known)
        if isinstance(test, ast.Constant):
            more, value = self.body([*(node.body if test.value else node.orelse), *rest], known)
            return _either(risk, more), value
        leaves = any(isinstance(one, ast.Return) for part in (*node.body, *node.orelse) for one in ast.walk(part))
        then, other = dict(known), dict(known)
        first, one = self.body([*node.body, *rest] if leaves else node.body, then)
        second, two = self.body([*node.orelse, *rest] if leaves else node.orelse, other)
        found = _either(risk, Case(test, first, second) if first is not second else first)
        if leaves:
            return found, _decided(ast.IfExp(test, one, two))
        for name in {*then, *other}:
            one, two = then.get(name, _UNKNOWN), other.get(name, _UNKNOWN)
            known[name] = one if one is two else _within(_decided(ast.IfExp(test, one, two)))
        more, value = self.body(rest, known)
        return _either(found, more), value

    def rounds(self, node: ast.For, known: dict[str, ast.expr]) -> list[ast.stmt] | None:
        """Return the statements of all rounds of a short loop; None for other loops."""
        leaves = any(isinstance(one, ast.Break | ast.Continue) for one in ast.walk(node))
        count = self.value(node.iter.args[0], known)[0] if isinstance(node.iter, ast.Call) else None
        times: Any = count.value if isinstance(count, ast.Constant) else _MOST_ROUNDS + 1
        if leaves or times > _MOST_ROUNDS:
            return None
        return [one for n in range(times)
                for one in (ast.Assign([node.target], ast.Constant(n)), *node.body)]  # fmt: skip

    def place(self, node: ast.expr, known: dict[str, ast.expr]) -> ast.expr:
        """Return a field of the account or of the market, of which the row is known."""
        if isinstance(node, ast.Attribute):
            return _UNKNOWN if node.attr in ("reads", "writes") else node
        assert isinstance(node, ast.Subscript)
        at, _ = self.value(node.slice, known)
        return ast.Subscript(node.value, at, ast.Load()) if isinstance(at, ast.Constant) else _UNKNOWN

    def is_whole(self, value: ast.expr) -> bool:
        if isinstance(value, ast.Constant):
            return isinstance(value.value, int)
        if isinstance(value, ast.BinOp):
            return not isinstance(value.op, ast.Div) and self.is_whole(value.left) and self.is_whole(value.right)
        place = value.value if isinstance(value, ast.Subscript) else value
        return isinstance(place, ast.Attribute) and place.attr in self.wholes

    def value(self, node: ast.expr, known: dict[str, ast.expr]) -> tuple[ast.expr, When]:
        """Return an expression in terms of account, market and lines, and when computing it acts."""
        if isinstance(node, ast.Name):
            own = ast.Constant(self.constants[node.id]) if node.id in self.constants else known.get(node.id, _UNKNOWN)
            return own, False
        if isinstance(node, ast.Attribute | ast.Subscript):
            return self.place(node, known), False
        if isinstance(node, ast.Call):
            return self.call(node, known)
        parts, risk = self.values([one for one in ast.iter_child_nodes(node) if isinstance(one, ast.expr)], known)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div | ast.FloorDiv | ast.Mod):
            risk = _either(risk, _decided(ast.Compare(parts[1], [ast.Eq()], [ast.Constant(0)])))
        return _within(_composed(node, parts)), risk

    def values(self, nodes: Sequence[ast.expr], known: dict[str, ast.expr]) -> tuple[list[ast.expr], When]:
        found: list[ast.expr] = []
        risk: When = False
        for one in nodes:
            value, more = self.value(one, known)
            found.append(value)
            risk = _either(risk, more)
        return found, risk

    def call(self, node: ast.Call, known: dict[str, ast.expr]) -> tuple[ast.expr, When]:
        assert isinstance(node.func, ast.Name)
        name = node.func.id
        if name == "const":
            return node, False
        args, risk = self.values(node.args, known)
        if name == "line":
            ago: Any = args[1].value if isinstance(args[1], ast.Constant) else 1
            return (ast.Call(node.func, args, []), risk) if -self.steps <= ago <= 0 else (_UNKNOWN, True)
        if name in _CALLS:
            return ast.Call(node.func, args, []), risk
        if name not in self.functions:
            return _UNKNOWN, True
        function = self.functions[name]
        more, value = self.body(function.body, dict(zip([one.arg for one in function.args.args], args, strict=True)))
        return value, _either(risk, more)


def _either(one: When, other: When) -> When:
    one, other = (bool(each.value) if isinstance(each, ast.Constant) else each for each in (one, other))
    if one is True or other is True:
        return True
    return other if one is False else one if other is False else Either(one, other)


def _composed(node: ast.expr, parts: list[ast.expr]) -> ast.expr:
    """Return an expression with other parts, without those of which constants decide."""
    for number, part in enumerate(parts):
        if isinstance(part, ast.IfExp) and not isinstance(node, ast.IfExp | ast.BoolOp):
            both = (_composed(node, [*parts[:number], one, *parts[number + 1 :]]) for one in (part.body, part.orelse))
            return _decided(ast.IfExp(part.test, *both))
    made: ast.expr = _UNKNOWN
    if isinstance(node, ast.IfExp):
        made = ast.IfExp(*parts)
    elif isinstance(node, ast.BoolOp):
        made = ast.BoolOp(node.op, parts)
    elif isinstance(node, ast.UnaryOp):
        made = ast.UnaryOp(node.op, *parts)
    elif isinstance(node, ast.BinOp):
        made = ast.BinOp(parts[0], node.op, parts[1])
    elif isinstance(node, ast.Constant):
        made = node
    elif isinstance(node, ast.Compare) and len(parts) == 2:
        equal = isinstance(node.ops[0], ast.Eq)  # which makes one test with its opposite
        made = _decided(ast.Compare(parts[0], [ast.NotEq()] if equal else node.ops, parts[1:]))
        made = ast.UnaryOp(ast.Not(), made) if equal else made
    return _decided(made)


def _within(node: ast.expr) -> ast.expr:
    """Return an expression that is not too long to be computed again and again."""
    return node if sum(1 for _ in ast.walk(node)) <= _MOST_NODES else _UNKNOWN


def _decided(node: ast.expr) -> ast.expr:
    """Return what is left of an expression without the parts of which constants decide."""
    if isinstance(node, ast.IfExp) and isinstance(node.test, ast.Constant):
        return node.body if node.test.value else node.orelse
    if isinstance(node, ast.IfExp) and ast.dump(node.body) == ast.dump(node.orelse):
        return node.body
    if isinstance(node, ast.BoolOp):
        both = isinstance(node.op, ast.And)
        left = [one for one in node.values if not isinstance(one, ast.Constant)]
        if len(left) < len(node.values) and any(
            bool(one.value) is not both for one in node.values if isinstance(one, ast.Constant)
        ):
            return ast.Constant(not both)
        return ast.BoolOp(node.op, left) if len(left) > 1 else left[0] if left else ast.Constant(both)
    parts = [one for one in ast.iter_child_nodes(node) if isinstance(one, ast.expr)]
    if not parts or not all(isinstance(one, ast.Constant) for one in parts):
        return node
    try:
        found = _computed(node, _no_leaf)
    except ZeroDivisionError:
        return _UNKNOWN
    return ast.Constant(found.item() if isinstance(found, np.generic) else found)


def _no_leaf(node: ast.expr) -> Any:
    raise AssertionError(ast.dump(node))


def _computed(node: ast.expr, leaf: Callable[[ast.expr], Any]) -> Any:
    """Return the value of an expression whose leaves are given."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.BinOp):
        return _OPS[type(node.op)](_computed(node.left, leaf), _computed(node.right, leaf))
    if isinstance(node, ast.Compare):
        return _OPS[type(node.ops[0])](_computed(node.left, leaf), _computed(node.comparators[0], leaf))
    if isinstance(node, ast.UnaryOp):
        return _OPS[type(node.op)](_computed(node.operand, leaf))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CALLS:
        return _CALLS[node.func.id](*(_computed(one, leaf) for one in node.args))
    return leaf(node)


# --- the tables


def _tests_of(condition: When) -> Iterator[ast.expr]:
    """Yield the tests that a condition depends on, without `and`, `or` and `not`."""
    if isinstance(condition, Either):
        yield from _tests_of(condition.one)
        yield from _tests_of(condition.other)
    elif isinstance(condition, Case):
        yield from _tests_of(condition.test)
        yield from _tests_of(condition.body)
        yield from _tests_of(condition.orelse)
    elif isinstance(condition, ast.BoolOp):
        for one in condition.values:
            yield from _tests_of(one)
    elif isinstance(condition, ast.UnaryOp) and isinstance(condition.op, ast.Not):
        yield from _tests_of(condition.operand)
    elif isinstance(condition, ast.IfExp):
        yield from _tests_of(Case(condition.test, condition.body, condition.orelse))
    elif isinstance(condition, ast.expr) and not isinstance(condition, ast.Constant):
        yield condition


def _reads(test: ast.expr) -> set[str]:
    """Return what a test reads: "A" of the account, "N" of the market, "line", "const", and what is not known."""
    found = {one.id for one in ast.walk(test) if isinstance(one, ast.Name)}
    return found | ({"UNKNOWN"} if any(isinstance(one, ast.IfExp | ast.BoolOp) for one in ast.walk(test)) else set())


class Idle:
    """
    The next step of each trial at which its strategy may act.

    Args:
        condition: as `acts` returns it.
        columns: the market's columns by name, each shape (feeds, steps).
        rows: the row of each clock after each step, shape (clocks, steps).
        lines: for each slot the number of its clock, its lines, shape (lines, rows), and the row of each trial or of
            all.
        constants: the values that differ between trials.
    """

    def __init__(
        self,
        condition: When,
        columns: Mapping[str, np.ndarray],
        rows: np.ndarray,
        lines: Sequence[tuple[int, np.ndarray, Any]],
        constants: Sequence[np.ndarray],
    ) -> None:
        self.condition, self.columns, self.rows, self.lines, self.constants = condition, columns, rows, lines, constants
        every = {id(one): (ast.unparse(one), one) for one in _tests_of(condition)}
        self.names = {key: name for key, (name, _) in every.items()}
        reads = {name: (one, _reads(one)) for name, one in every.values()}
        own = {name: one for name, (one, read) in reads.items() if "A" in read <= {"A", "const", *_CALLS}}
        self.tests = dict(list(own.items())[:_MOST_TESTS])  # of the account
        self.of_lines = {name for name, (_, read) in reads.items() if read <= {"N", "line", "const", *_CALLS}}

    def begin(self, trials: int, start: int, end: int) -> None:
        """Begin to look at steps from a first one up to the one before the last."""
        self.trials, self.start, self.end = trials, start, end
        self.tables = np.zeros((_MOST_TABLES, trials, end - start), np.int32)
        self.known: list[int] = []  # the states with a table
        self.place = np.full(1 << len(self.tests), -1)

    def soonest(self, account: Mapping[str, np.ndarray], t: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Return the first step from the given one on at which each of some trials may act, or else the end."""
        codes = self.codes(account, slice(None) if len(t) == self.trials else t, len(t))
        places = self.place[codes]
        if (places < 0).any():
            for code in np.unique(codes[places < 0]).tolist():
                if len(self.known) < _MOST_TABLES:
                    self.place[code] = len(self.known)
                    self.known.append(code)
                    self.fill(self.tables[self.place[code]], code)
            places = self.place[codes]
            return np.where(places < 0, step, self.tables[places, t, step - self.start])
        return np.asarray(self.tables[places, t, step - self.start])

    def codes(self, account: Mapping[str, np.ndarray], t: Any, count: int) -> np.ndarray:
        """Return which tests hold for some trials, as the bits of a number."""

        def leaf(node: ast.expr) -> Any:
            if isinstance(node, ast.Call):
                return self.constants[node.args[0].value][t]  # type: ignore[attr-defined]
            if isinstance(node, ast.Subscript):
                return account[node.value.attr][node.slice.value][t]  # type: ignore[attr-defined]
            return account[node.attr][t]  # type: ignore[attr-defined]

        found = np.zeros(count, np.intp)
        for test in self.tests.values():
            found = 2 * found + (_computed(test, leaf) != 0)
        return found

    def fill(self, table: np.ndarray, code: int) -> None:
        """Fill a table, shape (trials, steps), for a state: the first step from each on at which a trial may act."""
        truths = (bool(code >> shift & 1) for shift in range(len(self.tests) - 1, -1, -1))
        state = dict(zip(self.tests, truths, strict=True))
        steps = np.arange(self.start, self.end, dtype=np.int32)
        together = max(1, _AT_ONCE // len(steps))
        for first in range(0, self.trials, together):
            part = slice(first, min(first + together, self.trials))
            never = np.logical_not(_Possible(self, state, part).holds(self.condition, True))
            np.maximum(np.multiply(never, self.end, dtype=np.int32), steps, out=table[part])
            backwards = table[part, ::-1]
            np.minimum.accumulate(backwards, axis=1, out=backwards)


class _Possible:
    """Where a condition may hold: for some trials, in a state of the account, at some steps."""

    def __init__(self, idle: Idle, state: dict[str, bool], part: slice) -> None:
        self.idle, self.state, self.part = idle, state, part
        self.known: dict[str, Any] = {}  # where tests of lines hold

    def holds(self, condition: When, wanted: bool) -> Any:
        """Return whether a condition may be as wanted, by trial and step if that differs."""
        if isinstance(condition, bool):
            return condition is wanted
        if isinstance(condition, ast.Constant):
            return bool(condition.value) is wanted
        if isinstance(condition, Either):
            return self.joined([(condition.one, wanted), (condition.other, wanted)], one_suffices=wanted)
        if isinstance(condition, ast.BoolOp):
            one_suffices = isinstance(condition.op, ast.Or) is wanted
            return self.joined([(one, wanted) for one in condition.values], one_suffices)
        if isinstance(condition, ast.UnaryOp) and isinstance(condition.op, ast.Not):
            return self.holds(condition.operand, not wanted)
        if isinstance(condition, Case | ast.IfExp):
            body = self.joined([(condition.test, True), (condition.body, wanted)], one_suffices=False)
            orelse = self.joined([(condition.test, False), (condition.orelse, wanted)], one_suffices=False)
            return True if body is True or orelse is True else body | orelse
        return self.test(condition, wanted)

    def joined(self, parts: Sequence[tuple[When, bool]], one_suffices: bool) -> Any:
        """Return where one of some conditions, or each of them, may be as wanted."""
        found: Any = not one_suffices
        for condition, wanted in parts:
            more = self.holds(condition, wanted)
            if more is one_suffices:
                return more
            if more is not (not one_suffices):
                found = more if isinstance(found, bool) else found | more if one_suffices else found & more
        return found

    def test(self, test: ast.expr, wanted: bool) -> Any:
        name = self.idle.names[id(test)]
        if name in self.state:
            return self.state[name] is wanted
        if name not in self.idle.of_lines:
            return True
        if name not in self.known:
            self.known[name] = np.not_equal(_computed(test, self.leaf), 0)
        return self.known[name] if wanted else ~self.known[name]

    def leaf(self, node: ast.expr) -> Any:
        """Return values by trial and step, each for one or for all."""
        idle, part = self.idle, slice(self.idle.start, self.idle.end)
        if isinstance(node, ast.Attribute):
            return np.arange(idle.start, idle.end)[None, :]
        if isinstance(node, ast.Subscript):
            name, at = node.value.attr, node.slice.value  # type: ignore[attr-defined]
            return (idle.rows if name == "at" else idle.columns[name])[at, None, part]
        number, *ago = (one.value for one in node.args)  # type: ignore[attr-defined]
        if not ago:
            return idle.constants[number][self.part, None]
        clock, values, rows = idle.lines[number]
        rows = rows[self.part] if isinstance(rows, np.ndarray) else slice(rows, rows + 1)
        at = idle.rows[clock, part] + ago[0]
        one_by_one = at[0] >= 0 and at[-1] - at[0] == len(at) - 1  # before the first bar lines wrap
        found = values[rows, at[0] : at[-1] + 1] if one_by_one else values[rows][:, at]
        return found.astype("i8") if len(ago) > 1 else found
