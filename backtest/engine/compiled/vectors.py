"""
The scalar code of a program and of the ledger for all trials at once, with numpy alone.

Each function becomes one that takes the trials to process, as an array of their numbers. A condition splits them; after
both branches, the remaining ones continue together. A value that is the same for all trials stays a Python number.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import repeat
from types import SimpleNamespace
from typing import Any

import numpy as np

from backtest.engine.compiled import ledger

_DTYPES = {"f": "f8", "i": "i8", "b": "?"}
_KINDS = {dtype: kind for kind, dtype in _DTYPES.items()}
_OPS: dict[type[ast.AST], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==",
    ast.NotEq: "!=",
}  # fmt: skip
_GUARDED: dict[type[ast.AST], str] = {ast.Div: "div", ast.FloorDiv: "floordiv", ast.Mod: "mod"}


@cache
def ledger_functions() -> dict[str, ast.FunctionDef]:
    """Return the functions of the ledger, as they are in its source."""
    return {node.name: node for node in ast.parse(inspect.getsource(ledger)).body if isinstance(node, ast.FunctionDef)}


LEDGER_CONSTANTS = {name: value for name, value in vars(ledger).items() if name.isupper() and isinstance(value, int)}


@dataclass(frozen=True)
class Value:
    """An expression in the code that is made: its text, whether it is one number for all trials, and its kind."""

    text: str
    uniform: bool
    kind: str  # "f", "i" or "b"


def kind_of_name(name: str) -> str:
    """Return the kind that a name says of itself."""
    return name[0] if name[1:2] == "_" and name[0] in "ib" else "f"


@dataclass
class _Block:
    """A part of a function being written: the known locals, by the name of the current trials."""

    known: dict[tuple[str, str], Value] = field(default_factory=dict)


class Writer:
    """
    Writes functions over all trials.

    Args:
        functions: the scalar code, by name.
        constants: whole numbers, booleans and floats by name; conditions that depend only on them are evaluated here.
        account: the fields of `A`, as in `ledger.ACCOUNT`.
        constant_rows: the kinds of values that differ between trials and never change, by number.
        slots: the lines: their number, the number of their clock, and whether their rows differ between trials.
        own_steps: "" if all trials are at the same step; otherwise each is at its own, so that all of the market
            differs between them, and the clocks are "together" if each feed has a bar at each step, or "apart".
    """

    def __init__(
        self,
        functions: dict[str, ast.FunctionDef],
        constants: dict[str, Any],
        account: dict[str, tuple[str, str]],
        constant_rows: list[str],
        slots: list[tuple[int, bool]],
        own_steps: str = "",
    ) -> None:
        self.own_steps = own_steps
        self.functions, self.constants, self.account = functions, constants, account
        self.constant_rows, self.slots = constant_rows, slots
        self.asked: dict[tuple[str, str, bool], str] = {}
        self.waiting: list[tuple[str, str, bool, str]] = []
        self.locals: dict[str, str] = {}
        self.texts: list[str] = []
        self.number = 0
        self.numbers: dict[str, str] = {}
        self._written: dict[str, set[str]] = {}
        self._seen: dict[str, tuple[dict[str, int], bool]] = {}

    def seen_in(self, node: ast.FunctionDef) -> tuple[dict[str, int], bool]:
        """Return how often a function sets each of its locals, and whether it gives a value."""
        if node.name not in self._seen:
            every = list(ast.walk(node))
            names = [one.id for one in every if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)]
            returns = any(isinstance(one, ast.Return) and one.value is not None for one in every)
            self._seen[node.name] = Counter(names), returns
        return self._seen[node.name]

    def number_of(self, text: str, kind: str) -> str:
        """Return the name of a number as an array."""
        name = f"Z{kind}_{text.replace('-', 'm').replace('.', 'p')}"
        self.numbers[name] = f"array({text}, {_DTYPES[kind]!r})"
        return name

    def written_by(self, name: str) -> set[str]:
        """Return what of the account a function changes, itself or by those that it calls."""
        if name not in self._written:
            self._written[name] = changed = set[str]()
            for node in ast.walk(self.functions[name]):
                if isinstance(node, ast.Assign):
                    target = node.targets[0]
                    place = target.value if isinstance(target, ast.Subscript) else target
                    changed |= {place.attr} if isinstance(place, ast.Attribute) else set()
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in self.functions:
                    changed |= self.written_by(node.func.id)
        return self._written[name]

    def request(self, name: str, pattern: str, whole: bool = False) -> str:
        """
        Return the name of a function to be written.

        Args:
            pattern: which of its arguments are uniform.
            whole: whether it always processes all trials, so that no selection is needed.
        """
        key = name, pattern, whole
        if key not in self.asked:
            self.asked[key] = "_".join([name, *([pattern] if pattern else []), *(["whole"] if whole else [])])
            self.waiting.append((*key, self.asked[key]))
        return self.asked[key]

    def source(self, entries: list[str]) -> str:
        """Return the source of `build(S)`, which gives the entries, each a function of trials, and some of all."""
        parts = [self.request(one, "") for one in entries]
        if not self.own_steps:
            parts += [self.request(one, "", whole=True) for one in entries if one in _FOR_ALL]
        entries = parts
        while self.waiting:
            name, pattern, whole, called = self.waiting.pop()
            first = _Function(self, self.functions[name], pattern, whole, called)
            first.text()  # gives what is read where other trials are selected: only that is kept
            self.texts.append(_Function(self, self.functions[name], pattern, whole, called, first.looked).text())
        used = named_in("\n".join(self.texts))
        head = [f"    A_{name} = S.account[{name!r}]" for name in self.account if f"A_{name}" in used]
        head += [f"    F_{name} = S.account[{name!r}].reshape(-1)" for name in self.account if f"F_{name}" in used]
        head += [f"    C_{number} = S.constants[{number}]" for number in range(len(self.constant_rows))]
        if self.own_steps:
            head += ["    S_step, S_reads, S_writes = S.step, S.reads, S.writes"]
            head += [f"    {name} = S.columns[{name[2:]!r}]" for name in sorted(used) if name.startswith("M_")]
        head += [f"    L_{number}, R_{number} = S.lines[{number}]" for number in range(len(self.slots))]
        head += [f"    {name} = empty(S.trials, {dtype!r})" for name, dtype in self.locals.items()]
        head += [f"    {name} = {text}" for name, text in {"TRIALS": "array(S.trials)", **self.numbers}.items()]
        names = ", ".join(f"{entry!r}: {entry}" for entry in entries)
        given = [f"    {name} = S.{name}" for name in ("flag", "log_fill", "log_asked")]
        return "\n".join(["def build(S):", "    N = S.now", *given, *head, *self.texts,
                          f"    return {{{names}}}", ""])  # fmt: skip


_FOR_ALL = ("f_value", "next")  # values that are mostly read for all trials


def named_in(source: str) -> set[str]:
    """Return the names in the source of a program: `A_cash` and `F_size` if it uses these fields of the account."""
    return set(re.findall(r"\b[A-Z]_\w+", source))


def _is_number(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdecimal()


_written: dict[Any, str] = {}


def written(
    functions: dict[str, ast.FunctionDef],
    constants: dict[str, Any],
    account: dict[str, tuple[str, str]],
    constant_rows: list[str],
    slots: list[tuple[int, bool]],
    entries: list[str],
    own_steps: str = "",
) -> str:
    """Return the source of a program beside the ledger, as `Writer` writes it; an equal one is written once."""
    every = {**ledger_functions(), **functions}
    key = repr(([*map(ast.dump, functions.values())], constants, account, constant_rows, slots, entries, own_steps))
    if key not in _written:
        if len(_written) >= _MOST_WRITTEN:
            _written.clear()
        _written[key] = Writer(every, constants, account, constant_rows, slots, own_steps).source(entries)
    return _written[key]


_MOST_WRITTEN = 50


class _Function:
    def __init__(
        self,
        writer: Writer,
        node: ast.FunctionDef,
        pattern: str,
        whole: bool,
        called: str,
        kept: set[str] | None = None,
    ) -> None:
        self.writer, self.node, self.whole, self.called, self.kept = writer, node, whole, called, kept
        self.looked: set[str] = set()
        self.views: set[str] = set()  # values that are the account's own
        self.parts: dict[str, tuple[str, str]] = {}  # trials that were picked, from which by what
        self.lines: list[str] = []
        self.depth = 2
        self.params = [arg.arg for arg in node.args.args]
        self.uniform: set[str] = {name for name, mark in zip(self.params, pattern, strict=False) if mark == "u"}
        self.assigned, self.returns = writer.seen_in(node)
        self.known: dict[tuple[str, str], Value] = {}
        self.loops: list[tuple[str, str]] = []
        self.whiles = 0
        self.gives = kind_of_name(node.name)
        self.changes = writer.written_by(node.name)

    # -- text

    def emit(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def fresh(self, start: str) -> str:
        self.writer.number += 1
        return f"{start}{self.writer.number}"

    def hold(self, text: str, kind: str, start: str = "v") -> Value:
        name = self.fresh(start)
        self.emit(f"{name} = {text}")
        return Value(name, False, kind)

    def expression(self, text: str, kind: str, t: str) -> Value:
        """Write an expression of differing values once for the current trials: none of its parts changes."""
        if (text, t) not in self.known:
            self.known[text, t] = self.hold(text, kind)
        return self.known[text, t]

    def operand(self, value: Value, beside: Value) -> str:
        """Return the text of a value beside one that differs: of a number as an array, which numpy takes sooner."""
        if value.uniform and beside.kind != "b" and _is_number(value.text):
            return self.writer.number_of(value.text, "f" if beside.kind == "f" else value.kind)
        return value.text

    @contextmanager
    def indented(self) -> Iterator[None]:
        self.depth += 1
        known = dict(self.known)
        mark = len(self.lines)
        yield
        if len(self.lines) == mark:
            self.emit("pass")
        self.depth -= 1
        self.known = {key: value for key, value in known.items() if self.known.get(key) == value}

    def text(self) -> str:
        args = ", ".join(["t", *self.params])
        self.depth = 1
        head = [f"    def {self.called}({args}):"]
        self.depth = 2
        self.emit("if not t.size:")
        self.emit("    return EMPTY")
        for name in self.params:
            if name in self.uniform:
                continue
            self.keep(name, "t", name)
            self.known[name, "t"] = Value(name, False, kind_of_name(name))
        self.result = f"r_{self.called}"
        if self.returns:
            self.writer.locals[self.result] = _DTYPES[self.gives]
        if self.block(self.node.body, "t", top=True) or not self.lines[-1].startswith("        return "):
            self.emit(f"return {self.given()}")
        return "\n".join([*head, *self.lines])

    def given(self) -> str:
        if not self.returns:
            return "EMPTY"
        return f"{self.result}.copy()" if self.whole else f"{self.result}[t]"

    def keep(self, name: str, t: str, text: str) -> None:
        """Write the current value of a local to its variable, if that is read."""
        place = self.place(name)
        if self.kept is None or name in self.kept:
            self.emit(f"{place}[{self.pick(t)}] = {text}")

    def pick(self, t: str) -> str:
        return ":" if self.whole and t == "t" else t

    def taken(self, text: str, t: str, kind: str) -> Value:
        """Return the values of the current trials in an array of all trials."""
        return self.hold(f"{text}.copy()" if self.whole and t == "t" else f"{text}[{t}]", kind)

    def read(self, name: str, at: str, t: str) -> Value:
        """
        Return the account's values for the current trials, read once until they change.

        Args:
            at: the row of a table, if it is the same for all trials; "" for none.
        """
        key, kind = f"A.{name}[{at}]", _KINDS[self.writer.account[name][0]]
        if (key, t) not in self.known:
            text = f"A_{name}[{at}]" if at else f"A_{name}"
            found = self.part_of(key, t, kind)
            if found is None and self.whole and t == "t" and name not in self.changes:
                found = self.hold(text, kind)  # which does not change while this function runs
                self.views.add(found.text)
            self.known[key, t] = found or self.taken(text, t, kind)
        return self.known[key, t]

    def read_rows(self, name: str, at: Value, t: str) -> Value:
        """Return the values of an account table for the current trials at differing rows."""
        key, kind = f"A.{name}[{at.text}]", _KINDS[self.writer.account[name][0]]
        if (key, t) not in self.known:
            found = self.part_of(key, t, kind)
            self.known[key, t] = found or self.hold(f"F_{name}[{self.flat(at, t)}]", kind)
        return self.known[key, t]

    def forget(self, names: Iterable[str]) -> None:
        """Know no more what was read of the account."""
        for name in names:
            start = f"A.{name}["
            self.known = {key: value for key, value in self.known.items() if not key[0].startswith(start)}

    def steps(self, t: str) -> Value:
        """Return the steps at which the current trials are, each at its own."""
        if ("N.step", t) not in self.known:
            self.known["N.step", t] = self.part_of("N.step", t, "i") or self.hold(f"S_step[{t}]", "i")
        return self.known["N.step", t]

    def market(self, name: str, at: Value, t: str) -> Value:
        """Return what the market has of a feed for the current trials, each at its own step."""
        if name == "at":
            return Value(self.row(at.text, t), False, "i")
        key = f"N.{name}[{at.text if self.writer.constants.get('NF') != 1 else 0}]", t
        if key not in self.known:
            steps = self.steps(t).text
            text = f"M_{name}[{at.text}][{steps}]" if at.uniform else f"M_{name}[{at.text}, {steps}]"
            self.known[key] = self.part_of(key[0], t, "f") or self.hold(text, "f")
        return self.known[key]

    def row(self, clock: Any, t: str) -> str:
        """Return the row at which the lines of a clock are."""
        if not self.writer.own_steps:
            return f"N.rows[{clock}]"
        if self.writer.own_steps == "together":
            return self.steps(t).text
        key = f"row of {clock}", t
        if key not in self.known:
            found = self.part_of(key[0], t, "i")
            self.known[key] = found or self.hold(f"M_rows[{clock}, {self.steps(t).text}]", "i")
        return self.known[key].text

    def flat(self, at: Value, t: str) -> str:
        """Return the positions of the current trials' rows in a flat table, computed once for all reads."""
        key = f"{at.text} of", t
        if key not in self.known:
            self.known[key] = self.hold(f"{at.text} * TRIALS + {t}", "i", "j")
        return self.known[key].text

    def chosen(self, t: str, test: str, name: str, others: str = "", at: int | None = None) -> None:
        """
        Write the selection of the current trials for which a condition holds and, if named, of the others.

        Args:
            at: the line before which to write it; None for the end.
        """
        self.parts[name] = t, f"k_{name}"
        text = f"{name}, k_{name} = picked({t}, {test})"
        if others:
            self.parts[others] = t, f"k_{others}"
            text = f"{name}, k_{name}, {others}, k_{others} = split({t}, {test})"
        self.lines.insert(len(self.lines) if at is None else at, "    " * self.depth + text)

    def place(self, name: str) -> str:
        place = f"w_{self.called}_{name}"
        self.writer.locals[place] = _DTYPES[kind_of_name(name)]
        return place

    # -- statements; each returns the name of the trials that go on, "" for none

    def block(self, body: list[ast.stmt], t: str, top: bool = False) -> str:
        for number, statement in enumerate(body):
            after = self.statement(statement, t, top)
            if not after:
                return ""
            if after != t and number + 1 < len(body):
                t = after
                if top:
                    self.emit(f"if not {t}.size:")
                    self.emit(f"    return {self.given()}")
            t = after
        return t

    def statement(self, node: ast.stmt, t: str, top: bool = False) -> str:
        if isinstance(node, ast.Expr):
            if isinstance(node.value, ast.Call):
                self.call(node.value, t)
            return t
        if isinstance(node, ast.Pass):
            return t
        if isinstance(node, ast.Assign):
            self.assign(node.targets[0], node.value, t)
            return t
        if isinstance(node, ast.If):
            return self.branch(node, t, top)
        if isinstance(node, ast.Return):
            if node.value is not None:
                self.give(self.value(node.value, t), t)
            return ""
        if isinstance(node, ast.Continue | ast.Break):
            self.emit(f"{self.loops[-1][isinstance(node, ast.Break)]}.append({t})")
            return ""
        if isinstance(node, ast.While):
            return self.loop(node, t)
        if isinstance(node, ast.For):
            return self.each(node, t)
        raise AssertionError(ast.dump(node))

    def give(self, value: Value, t: str) -> None:
        """Write what the current trials return: unchanged if they are all trials of the call."""
        if not value.uniform:
            own = self.hold(value.text, value.kind) if not value.text.isidentifier() else value
            if t != "t":
                self.emit(f"if {t} is t:")
            text = f"of_kind({own.text}, {self.gives!r}){'.copy()' if own.text in self.views else ''}"
            self.emit(f"{'    ' if t != 't' else ''}return {text}")
            if t == "t":
                return
            value = own
        self.emit(f"{self.result}[{self.pick(t)}] = {value.text}")

    def assign(self, target: ast.expr, value: ast.expr, t: str) -> None:
        given = self.value(value, t)
        if isinstance(target, ast.Name):
            name = target.id
            always = self.depth == 2 or _is_number(given.text)  # for all trials that come here
            if given.uniform and self.assigned[name] == 1 and always and name not in self.params:
                self.emit(f"{name} = {given.text}")
                self.uniform.add(name)
                return
            self.known = {key: one for key, one in self.known.items() if key[0] != name}
            if not given.uniform and not given.text.isidentifier():
                given = self.hold(given.text, given.kind)
            if given.kind == "f" and kind_of_name(name) == "i" and not given.uniform:
                given = self.hold(f"{given.text}.astype('i8')", "i")
            self.keep(name, t, given.text)
            if not given.uniform and given.kind == kind_of_name(name):
                self.known[name, t] = given
        elif isinstance(target, ast.Attribute):
            self.change(target.attr, "", f"A_{target.attr}[{self.pick(t)}]", given, t)
        elif isinstance(target, ast.Subscript) and isinstance(target.value, ast.Attribute):
            at = self.value(target.slice, t)
            name = target.value.attr
            place = f"A_{name}[{at.text}][{self.pick(t)}]" if at.uniform else f"F_{name}[{self.flat(at, t)}]"
            self.change(name, at.text, place, given, t)
        else:
            raise AssertionError(ast.dump(target))

    def change(self, name: str, at: str, place: str, given: Value, t: str) -> None:
        """Write to the account, and know what it has there."""
        kind = _KINDS[self.writer.account[name][0]]
        if not given.uniform and not given.text.isidentifier():
            given = self.hold(given.text, given.kind)
        self.emit(f"{place} = {given.text}")
        self.forget([name])
        if not given.uniform and given.kind == kind:
            self.known[f"A.{name}[{at}]", t] = given

    def branch(self, node: ast.If, t: str, top: bool) -> str:
        decided = self.decided(node.test)
        if decided is not None:
            return self.block(node.body if decided else node.orelse, t, top)
        test = self.value(node.test, t)
        after = self.fresh("t")
        if test.uniform and top and not node.orelse and isinstance(node.body[-1], ast.Return):
            self.emit(f"if {test.text}:")
            with self.indented():
                self.block(node.body, t)
                if not self.lines[-1].lstrip().startswith("return "):
                    self.emit(f"return {self.given()}")
            return t
        if test.uniform:
            self.emit(f"{after} = EMPTY")
            self.emit(f"if {test.text}:")
            with self.indented():
                first = self.block(node.body, t)
                if first:
                    self.emit(f"{after} = {first}")
            second = t
            if node.orelse or first != t:
                self.emit("else:")
                with self.indented():
                    second = self.block(node.orelse, t)
                    if second:
                        self.emit(f"{after} = {second}")
            if first == t and second == t:
                return t
            return after if first or second else ""
        ways, orelse = self.ways(node, test, t)
        names, others = [self.fresh("t") for _ in ways], self.fresh("t")
        mark = len(self.lines)
        self.parts |= {name: (t, f"k_{name}") for name in (*names, others)}
        ended = [self.part(body, name) for name, (_, body) in zip(names, ways, strict=True)]
        last = self.part(orelse, others)
        whole = [*ended, last] == [*names, others]
        asked = [*zip(names, [mask for mask, _ in ways], strict=True)]
        if len(ways) == 1:
            self.chosen(t, asked[0][1], names[0], "" if whole and not orelse else others, mark)
        else:
            none = f"~({' | '.join(mask for _, mask in asked)})"
            for name, mask in [*([] if whole and not orelse else [(others, none)]), *reversed(asked)]:
                self.chosen(t, mask, name, at=mark)
        if whole:
            return t
        going = [name for name in (*ended, last) if name]
        if len(going) < 2:
            return going[0] if going else ""
        self.emit(f"{after} = {going[0]}")
        for name in going[1:]:
            self.emit(f"{after} = join({after}, {name})")
        return after

    def ways(self, node: ast.If, test: Value, t: str) -> tuple[list[tuple[str, list[ast.stmt]]], list[ast.stmt]]:
        """
        Return the bodies of a branch with the names of their masks, and the rest of its `else`.

        Conditions of `elif` are computed for all current trials if they cannot flag: for the trials that reach them
        nothing has changed.
        """
        held = test if test.text.isidentifier() else self.hold(test.text, "b", "c")
        found, taken = [(held.text, node.body)], held.text
        while len(node.orelse) == 1 and isinstance(more := node.orelse[0], ast.If) and self.is_open(more.test):
            own = self.hold(f"~{taken} & {self.value(more.test, t).text}", "b", "c").text
            found.append((own, more.body))
            taken, node = self.hold(f"{taken} | {own}", "b", "c").text, more
        return found, node.orelse

    def is_open(self, test: ast.expr) -> bool:
        """Return whether a condition differs between trials, and can be computed for trials that do not reach it."""
        return self.decided(test) is None and self.safe(test) and not self.uniform_of(test)

    def part(self, body: list[ast.stmt], t: str) -> str:
        if not body:
            return t
        left = self.fresh("t")
        self.emit(f"{left} = {t}")  # of none, none
        self.emit(f"if {t}.size:")
        with self.indented():
            after = self.block(body, t)
            if after and after != t:
                self.emit(f"{left} = {after}")
        return t if after == t else left if after else ""

    def loop(self, node: ast.While, t: str) -> str:
        live, go, over = self.fresh("t"), self.fresh("go"), self.fresh("over")
        self.emit(f"{live} = {t}")
        self.emit(f"{over} = []")
        self.emit("while True:")
        self.whiles += 1
        self.known = {}
        with self.indented():
            self.known = {}
            test, inner = self.value(node.test, live), live
            if test.uniform:
                self.emit(f"if not {test.text}: break")
            else:
                inner, out = self.fresh("t"), self.fresh("t")
                self.chosen(live, test.text, inner, out)
                self.emit(f"if {out}.size: {over}.append({out})")
            self.emit(f"if not {inner}.size: break")
            self.emit(f"{go} = []")
            self.loops.append((go, over))
            after = self.block(node.body, inner)
            self.loops.pop()
            self.emit(f"{live} = join_all({go}, {after or 'EMPTY'})")
        self.whiles -= 1
        self.known = {}
        end = self.fresh("t")
        self.emit(f"{end} = join_all({over}, EMPTY)")
        return end

    def each(self, node: ast.For, t: str) -> str:
        """Write `for i_x in range(n)`, of a number that all trials share."""
        assert isinstance(node.target, ast.Name)
        assert isinstance(node.iter, ast.Call)
        name, count = node.target.id, self.value(node.iter.args[0], t)
        leaves = any(isinstance(one, ast.Break | ast.Continue | ast.Return) for one in ast.walk(node))
        if count.text == "1" and not leaves:
            self.uniform.add(name)
            self.emit(f"{name} = 0")
            return self.block(node.body, t)
        live, go, over = self.fresh("t"), self.fresh("go"), self.fresh("over")
        self.uniform.add(name)
        self.emit(f"{live} = {t}")
        self.emit(f"{over} = []")
        self.emit(f"for {name} in range({count.text}):")
        self.whiles += 1
        self.known = {}
        with self.indented():
            self.known = {}
            self.emit(f"{go} = []")
            self.loops.append((go, over))
            after = self.block(node.body, live)
            self.loops.pop()
            self.emit(f"{live} = join_all({go}, {after or 'EMPTY'})")
        self.whiles -= 1
        self.known = {}
        if not leaves:
            return t
        end = self.fresh("t")
        self.emit(f"{end} = join_all({over}, {live})")
        return end

    # -- expressions

    def decided(self, node: ast.expr) -> bool | None:
        if not all(
            isinstance(one, ast.Compare | ast.Name | ast.Constant | ast.UnaryOp | ast.cmpop | ast.unaryop | ast.Load)
            for one in ast.walk(node)
        ):
            return None
        names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
        if not names <= set(self.writer.constants):
            return None
        return bool(eval(ast.unparse(node), {}, self.writer.constants))

    def value(self, node: ast.expr, t: str) -> Value:
        found = getattr(self, f"_{type(node).__name__.lower()}")(node, t)
        assert isinstance(found, Value)
        return found

    def _constant(self, node: ast.Constant, t: str) -> Value:
        kind = "b" if isinstance(node.value, bool) else "i" if isinstance(node.value, int) else "f"
        return Value(repr(node.value), True, kind)

    def _name(self, node: ast.Name, t: str) -> Value:
        name = node.id
        if name in self.writer.constants:
            value = self.writer.constants[name]
            return Value(repr(value), True, "i" if isinstance(value, int) else "f")
        if name in ("INF", "NAN"):
            return Value(name, True, "f")
        if name in self.uniform:
            return Value(name, True, kind_of_name(name))
        if (name, t) not in self.known:
            self.known[name, t] = self.part_of(name, t, kind_of_name(name)) or self.looked_up(name, t)
        return self.known[name, t]

    def looked_up(self, name: str, t: str) -> Value:
        self.looked.add(name)
        return self.taken(self.place(name), t, kind_of_name(name))

    def part_of(self, name: str, t: str, kind: str) -> Value | None:
        """Return a value as a selection from the larger set of trials from which the current ones come, if known."""
        tests: list[str] = []
        while t in self.parts:
            t, test = self.parts[t]
            tests.append(test)
            if (name, t) in self.known:
                text = self.known[name, t].text
                for one in reversed(tests):
                    text = self.hold(f"{text}[{one}]", kind).text
                return Value(text, False, kind)
        return None

    def _attribute(self, node: ast.Attribute, t: str) -> Value:
        if isinstance(node.value, ast.Name) and node.value.id == "N":
            if not self.writer.own_steps:
                return Value(f"N.{node.attr}", True, "i")
            return self.steps(t) if node.attr == "step" else self.taken(f"S_{node.attr}", t, "i")
        return self.read(node.attr, "", t)

    def _subscript(self, node: ast.Subscript, t: str) -> Value:
        assert isinstance(node.value, ast.Attribute)
        assert isinstance(node.value.value, ast.Name)
        at, name = self.value(node.slice, t), node.value.attr
        if node.value.value.id == "N" and self.writer.own_steps:
            return self.market(name, at, t)
        if node.value.value.id == "N":
            text = f"N.{name}[{at.text}]" if at.uniform else f"N.{name}_all[{at.text}]"
            return Value(text, at.uniform, "i" if name in ("at", "length") else "f")
        return self.read(name, at.text, t) if at.uniform else self.read_rows(name, at, t)

    def _binop(self, node: ast.BinOp, t: str) -> Value:
        left, right = self.value(node.left, t), self.value(node.right, t)
        uniform, kind = left.uniform and right.uniform, "i" if {left.kind, right.kind} <= {"i", "b"} else "f"
        if type(node.op) in _OPS:
            return self.struck(left, _OPS[type(node.op)], right, kind, t)
        text = f"{_GUARDED[type(node.op)]}({left.text}, {right.text}, {t}, flag)"
        kind = "f" if isinstance(node.op, ast.Div) else kind
        if uniform:
            name = self.fresh("u")
            self.emit(f"{name} = {text}")
            return Value(name, True, kind)
        return self.hold(text, kind)

    def _unaryop(self, node: ast.UnaryOp, t: str) -> Value:
        operand = self.value(node.operand, t)
        if isinstance(node.op, ast.Not):
            if operand.uniform:
                return Value(f"(not {operand.text})", True, "b")
            return self.expression(f"(~{operand.text})", "b", t)
        text = f"(-{operand.text})"
        return Value(text, True, operand.kind) if operand.uniform else self.expression(text, operand.kind, t)

    def _compare(self, node: ast.Compare, t: str) -> Value:
        left, right = self.value(node.left, t), self.value(node.comparators[0], t)
        return self.struck(left, _OPS[type(node.ops[0])], right, "b", t)

    def struck(self, left: Value, sign: str, right: Value, kind: str, t: str) -> Value:
        """Return what an operation or a comparison gives."""
        if left.uniform and right.uniform:
            return Value(f"({left.text} {sign} {right.text})", True, kind)
        return self.expression(f"({self.operand(left, right)} {sign} {self.operand(right, left)})", kind, t)

    def _boolop(self, node: ast.BoolOp, t: str) -> Value:
        both = isinstance(node.op, ast.And)
        left = self.value(node.values[0], t)
        for one in node.values[1:]:
            left = self.joined(left, one, t, both)
        return left

    def joined(self, left: Value, right: ast.expr, t: str, both: bool) -> Value:
        """Write `and` or `or`: the right side is computed where the left one does not decide."""
        if left.uniform:
            name = self.fresh("b")
            self.emit(f"{name} = {left.text}")
            kind = self.uniform_of(right)
            if not kind:
                self.emit(f"{name} = full({t}.size, {name}, '?')")
                self.emit(f"if {name}.size and {name}[0] == {both}:")
            else:
                self.emit(f"if {name} == {both}:")
            with self.indented():
                self.emit(f"{name} = {self.value(right, t).text}")
            return Value(name, bool(kind), "b")
        if self.safe(right):
            return self.expression(f"({left.text} {'&' if both else '|'} {self.value(right, t).text})", "b", t)
        held = self.fresh("b")
        self.emit(f"{held} = {left.text}")
        open_ = self.fresh("c")
        self.emit(f"{open_} = {held if both else f'~{held}'}")
        part = self.fresh("t")
        self.chosen(t, open_, part)
        self.emit(f"if {part}.size:")
        with self.indented():
            self.emit(f"{held} = {held}.copy()")
            self.emit(f"{held}[k_{part}] = {self.value(right, part).text}")
        return Value(held, False, "b")

    def uniform_of(self, node: ast.expr) -> bool:
        """Return whether an expression is the same for all trials, without writing it."""
        return self.tried(node).uniform

    def tried(self, node: ast.expr) -> Value:
        """Return what an expression would be, and leave all as it was."""
        lines, known, parts, number = self.lines, dict(self.known), dict(self.parts), self.writer.number
        looked = set(self.looked)
        self.lines = []
        found = self.value(node, "t")
        self.lines, self.known, self.parts, self.writer.number = lines, known, parts, number
        self.looked = looked
        return found

    def safe(self, node: ast.expr) -> bool:
        """Return whether an expression can be computed where it is not needed, since nothing in it flags a trial."""
        return not any(
            (isinstance(one, ast.Call) and not self.harmless(one))
            or (isinstance(one, ast.BinOp) and type(one.op) in _GUARDED)
            for one in ast.walk(node)
        )

    def harmless(self, node: ast.Call) -> bool:
        """Return whether a call never flags, as that for the present value of a line."""
        if not isinstance(node.func, ast.Name):
            return False
        present = node.func.id == "line" and isinstance(node.args[1], ast.Constant) and node.args[1].value == 0
        return present or node.func.id in _HARMLESS

    def _ifexp(self, node: ast.IfExp, t: str) -> Value:
        decided = self.decided(node.test)
        if decided is not None:
            return self.value(node.body if decided else node.orelse, t)
        test = self.value(node.test, t)
        kinds = self.kind(node.body), self.kind(node.orelse)
        kind = kinds[0] if kinds[0] == kinds[1] else "f"
        if test.uniform:
            uniform = self.uniform_of(node.body) and self.uniform_of(node.orelse)
            name = self.fresh("u")
            for start, one in ((f"if {test.text}:", node.body), ("else:", node.orelse)):
                self.emit(start)
                with self.indented():
                    given = self.value(one, t)
                    whole = uniform or not given.uniform
                    self.emit(f"{name} = {given.text if whole else f'full({t}.size, {given.text})'}")
            return Value(name, uniform, kind)
        if self.safe(node.body) and self.safe(node.orelse):
            body, orelse = self.value(node.body, t), self.value(node.orelse, t)
            return self.chosen_of(test, body, orelse, kind, t)
        name = self.fresh("v")
        held = self.hold(test.text, "b", "c")
        self.emit(f"{name} = empty({t}.size, {_DTYPES[kind]!r})")
        first, second = self.fresh("t"), self.fresh("t")
        self.chosen(t, held.text, first, second)
        for part, one in ((first, node.body), (second, node.orelse)):
            self.emit(f"if {part}.size:")
            with self.indented():
                self.emit(f"{name}[k_{part}] = {self.value(one, part).text}")
        return Value(name, False, kind)

    def chosen_of(self, test: Value, body: Value, orelse: Value, kind: str, t: str) -> Value:
        """Return the one value where a condition holds, and the other where it does not; `where` takes longer."""
        mask, base, other = test.text, orelse, body
        if orelse.uniform or orelse.kind != kind:
            mask, base, other = self.expression(f"(~{test.text})", "b", t).text, body, orelse
        if base.uniform or base.kind != kind or other.kind != kind:
            return self.hold(f"where({test.text}, {body.text}, {orelse.text})", kind)
        found = self.hold(f"{base.text}.copy()", kind)
        self.emit(f"copyto({found.text}, {self.operand(other, base)}, where={mask})")
        return found

    def kind(self, node: ast.expr) -> str:
        return self.tried(node).kind

    def _call(self, node: ast.Call, t: str) -> Value:
        return self.call(node, t)

    def call(self, node: ast.Call, t: str) -> Value:
        assert isinstance(node.func, ast.Name)
        name = node.func.id
        if name == "line":
            return self.line(node, t)
        if name == "const":
            number = node.args[0].value  # type: ignore[attr-defined]
            text = f"C_{number}" if self.whole and t == "t" else f"C_{number}[{t}]"
            return Value(text, False, self.writer.constant_rows[number])
        args = [self.value(one, t) for one in node.args]
        if name == "called":
            text = f"called(S.calls[{args[0].text}], {t}, flag, [{', '.join(one.text for one in args[1:])}])"
            if all(one.uniform for one in args):
                made = self.fresh("u")
                self.emit(f"{made} = {text}")
                return Value(made, True, "f")
            return self.hold(text, "f")
        texts, uniform = [one.text for one in args], all(one.uniform for one in args)
        if name == "flag":
            self.emit(f"flag({t})")
            return Value("0", True, "i")
        if name in ("log_fill", "log_asked"):
            self.emit(f"{name}({t}, {', '.join(texts)})")
            return Value("0", True, "i")
        if name == "windowed":
            return self.windowed(node, t)
        if name in ("draw", "draw_whole"):
            kind = "i" if name == "draw_whole" else "f"
            return self.hold(f"draw(S.streams[{texts[0]}], {t}, {_DTYPES[kind]!r}, [{', '.join(texts[1:])}])", kind)
        if name in _SIMPLE:
            plain, vector = _SIMPLE[name]
            kind = args[0].kind if all(one.kind == args[0].kind for one in args) else "f"
            return Value(f"{plain if uniform else vector}({', '.join(texts)})", uniform, kind)
        if name in _FLAGGING:
            kind = _FLAGGING[name]
            text = f"{name}({', '.join(texts)}, {t}, flag)"
            if uniform:
                made = self.fresh("u")
                self.emit(f"{made} = {text}")
                return Value(made, True, kind)
            return self.hold(text, kind)
        function = self.writer.functions[name]
        if name == "i_feed_of" and self.writer.constants.get("NF") == 1:
            return Value("0", True, "i")
        if self.is_empty(function.body):
            return Value("0", True, "i")
        pattern = "".join("u" if one.uniform else "v" for one in args)
        called = self.writer.request(name, pattern, self.whole and t == "t")
        # Each function keeps its own selection of trials: none calls itself, not even indirectly.
        given = Value("0", True, "i")
        if self.writer.seen_in(function)[1]:
            given = self.hold(f"{called}({', '.join([t, *texts])})", kind_of_name(name))
        else:
            self.emit(f"{called}({', '.join([t, *texts])})")
        self.forget(self.writer.written_by(name))
        return given

    def rows(self, number: int, t: str) -> str:
        """Return the rows of a slot's lines for the current trials."""
        varies = self.writer.slots[number][1] and not (self.whole and t == "t")
        return f"R_{number}[{t}]" if varies else f"R_{number}"

    def is_empty(self, body: list[ast.stmt]) -> bool:
        """Return whether nothing is left of a function by what is decided before the run."""
        for one in body:
            if isinstance(one, ast.Pass) or (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)):
                continue
            decided = self.decided(one.test) if isinstance(one, ast.If) else None
            if decided is None or not isinstance(one, ast.If) or not self.is_empty(one.body if decided else one.orelse):
                return False
        return True

    def windowed(self, node: ast.Call, t: str) -> Value:
        call, number = node.args[0].value, node.args[1].value  # type: ignore[attr-defined]
        ago, size = self.value(node.args[2], t), self.value(node.args[3], t)
        clock, varies = self.writer.slots[number]
        end = f"({self.row(clock, t)} + {ago.text} + 1)"
        text = f"windowed(S.calls[{call}], L_{number}, {self.rows(number, t)}, {end}, {size.text}, {t}, flag)"
        if ago.uniform and size.uniform and not varies and not self.writer.own_steps:
            name = self.fresh("u")
            self.emit(f"{name} = {text}")
            return Value(name, True, "f")
        return self.hold(text, "f")

    def line(self, node: ast.Call, t: str) -> Value:
        number, ago = node.args[0].value, self.value(node.args[1], t)  # type: ignore[attr-defined]
        clock, varies = self.writer.slots[number]
        row = self.row(clock, t)
        at = row if self.writer.own_steps and ago.text == "0" else f"({row} + {ago.text})"
        kind = "i" if len(node.args) > 2 else "f"
        if not ago.uniform or varies or self.writer.own_steps:
            cast = ".astype('i8')" if kind == "i" else ""
            key = f"line {number} {kind} {ago.text}"
            found = self.known.get((key, t)) or self.part_of(key, t, kind)
            if found is None:
                text = f"read_lines(L_{number}, {self.rows(number, t)}, {at}, {ago.text}, {t}, flag){cast}"
                found = self.hold(text, kind)
            if ago.uniform:  # nothing changes while a function runs
                self.known[key, t] = found
            return found
        name = self.fresh("u")
        text = f"read_line(L_{number}, R_{number}, {at}, {ago.text}, {t}, flag)"
        self.emit(f"{name} = int({text})" if kind == "i" else f"{name} = {text}")
        return Value(name, True, kind)


# --- functions that the generated code calls


def _picked(t: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, Any]:
    """Return those of some trials for which a condition holds, and their places among them."""
    places = chosen.nonzero()[0]
    return (t, _EVERY) if places.size == t.size else (t[places], places)


def _split(t: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, Any, np.ndarray, Any]:
    """Return the same, and those for which it does not hold; all of them stay the same array."""
    places = chosen.nonzero()[0]
    if not places.size:
        return _EMPTY, _EMPTY, t, _EVERY
    if places.size == t.size:
        return t, _EVERY, _EMPTY, _EMPTY
    others = (~chosen).nonzero()[0]
    return t[places], places, t[others], others


def _of_kind(values: np.ndarray, kind: str) -> np.ndarray:
    return values if values.dtype.kind == kind else values.astype(_DTYPES[kind])


def _join(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    if not first.size:
        return second
    return np.concatenate([first, second]) if second.size else first


def _join_all(parts: list[np.ndarray], last: np.ndarray) -> np.ndarray:
    found = [one for one in (*parts, last) if one.size]
    return found[0] if len(found) == 1 else np.concatenate(found) if found else _EMPTY


def _without_zeros(divisor: Any, t: np.ndarray, flag: Any) -> Any:
    if isinstance(divisor, np.ndarray) and divisor.ndim:
        if np.count_nonzero(divisor) == divisor.size:
            return divisor
        zeros = divisor == 0
        flag(t[zeros])
        return np.where(zeros, 1, divisor)
    if divisor == 0:
        flag(t)
        return 1.0
    return divisor


def _div(left: Any, right: Any, t: np.ndarray, flag: Any) -> Any:
    return left / _without_zeros(right, t, flag)


def _floordiv(left: Any, right: Any, t: np.ndarray, flag: Any) -> Any:
    return left // _without_zeros(right, t, flag)


def _mod(left: Any, right: Any, t: np.ndarray, flag: Any) -> Any:
    return left % _without_zeros(right, t, flag)


_EXACT = 2.0**53


def _trunc(value: Any, t: np.ndarray, flag: Any) -> Any:
    """Return what `int` makes of floats; what is not a number, or too large to be exact, is flagged."""
    if not isinstance(value, np.ndarray):
        if abs(value) < _EXACT:
            return int(value)
        flag(t)
        return 0
    wrong = ~(np.abs(value) < _EXACT)
    if wrong.any():
        flag(t[wrong])
        value = np.where(wrong, 0.0, value)
    return value.astype("i8")


def _floor(value: Any, t: np.ndarray, flag: Any) -> Any:
    return _trunc(np.floor(value), t, flag)


def _ceil(value: Any, t: np.ndarray, flag: Any) -> Any:
    return _trunc(np.ceil(value), t, flag)


def _rounded(value: Any, t: np.ndarray, flag: Any) -> Any:
    return _trunc(np.rint(value), t, flag)


def _root(value: Any, t: np.ndarray, flag: Any) -> Any:
    wrong = np.less(value, 0)
    if np.any(wrong):
        flag(t[wrong] if np.ndim(wrong) else t)
        value = np.where(wrong, 0.0, value) if np.ndim(wrong) else 0.0
    return np.sqrt(value) if np.ndim(value) else float(np.sqrt(value))


def _ratio(left: Any, right: Any) -> Any:
    return left / right if isinstance(right, np.ndarray) or right else 0.0


def _least(left: Any, right: Any) -> Any:
    return np.where(right < left, right, left)


def _most(left: Any, right: Any) -> Any:
    return np.where(right > left, right, left)


# Before the first bar Backtrader's lines wrap: they give the last values of all.


def _read_line(table: np.ndarray, row: int, at: int, ago: int, t: np.ndarray, flag: Any) -> float:
    if ago > 0 or at < -table.shape[1]:
        flag(t)
        return 0.0
    return float(table[row, at])


def _read_lines(table: np.ndarray, rows: Any, at: Any, ago: Any, t: np.ndarray, flag: Any) -> np.ndarray:
    if isinstance(at, np.ndarray) and type(ago) is int and ago == 0:  # each trial at its own step
        return np.asarray(table[rows, at])
    if type(at) is int and type(ago) is int and ago <= 0 <= at and isinstance(rows, np.ndarray):  # mostly so
        return table[:, at].take(rows)
    if isinstance(at, np.ndarray):
        wrong = (at < -table.shape[1]) | (ago > 0)
        if wrong.any():
            flag(t[wrong])
            at = np.where(wrong, 0, at)
    elif at < -table.shape[1] or np.any(ago > 0):
        flag(t)
        at = 0
    if not isinstance(rows, np.ndarray):
        return np.asarray(table[rows, at])
    if isinstance(at, np.ndarray):
        return np.asarray(table[rows, at])
    values: np.ndarray = table[:, at]  # next to each other in memory
    return values.take(rows)


def _called(function: Callable[..., Any], t: np.ndarray, flag: Any, args: Sequence[Any]) -> Any:
    """Return the results of a Python function for numbers, per trial if they differ; flag trials in which it raises."""
    if not any(isinstance(one, np.ndarray) for one in args):
        return _tried(function, args, t, flag)
    rows = [np.broadcast_to(one, t.shape).tolist() for one in args]
    return np.array([_tried(function, given, t[n : n + 1], flag) for n, given in enumerate(zip(*rows, strict=True))])


def _tried(function: Callable[..., Any], args: Sequence[Any], t: np.ndarray, flag: Any) -> float:
    try:
        return float(function(*args))
    except Exception:  # noqa: BLE001 - the event engine says what it is
        flag(t)
        return 0.0


def _windowed(
    function: Callable[..., Any], table: np.ndarray, rows: Any, end: Any, size: Any, t: np.ndarray, flag: Any
) -> Any:
    """Return what a function gives of the values of lines up to a bar; what begins before the line is flagged."""
    if not any(isinstance(one, np.ndarray) for one in (rows, end, size)):
        return _of_part(function, table, int(rows), end, size, t, flag)
    each = zip(*(np.broadcast_to(one, t.shape).tolist() for one in (rows, end, size)), strict=True)
    known: dict[Any, float] = {}
    found = []
    for n, key in enumerate(each):
        if key not in known:
            row, last, count = key
            known[key] = _of_part(function, table, row, last, count, t[n : n + 1], flag)
        elif known[key] != known[key]:
            flag(t[n : n + 1])
        found.append(known[key])
    return np.array(found)


def _of_part(
    function: Callable[..., Any], table: np.ndarray, row: int, end: int, size: int, t: np.ndarray, flag: Any
) -> float:
    if end - size < 0 or end > table.shape[1] or size != int(size):
        flag(t)
        return float("nan")
    try:
        return float(function(table[row, end - int(size) : end].tolist()))
    except Exception:  # noqa: BLE001 - the event engine says what it is
        flag(t)
        return float("nan")


def _draw(streams: Sequence[Callable[..., Any]], t: np.ndarray, dtype: str, args: Sequence[Any]) -> np.ndarray:
    rows = [np.broadcast_to(one, t.shape).tolist() for one in args]
    each = zip(*rows, strict=True) if rows else repeat(())
    return np.array([streams[n](*given) for n, given in zip(t.tolist(), each, strict=False)], dtype)


_HARMLESS = {"lower", "higher", "ratio", "abs", "least", "most", "const"}
_SIMPLE = {
    "lower": ("min", "minimum"),
    "higher": ("max", "maximum"),
    "ratio": ("_ratio", "_ratio"),
    "abs": ("abs", "abs"),
    "least": ("min", "least"),
    "most": ("max", "most"),
}
_FLAGGING = {"trunc": "i", "floor": "i", "ceil": "i", "rounded": "i", "root": "f"}
_EMPTY = np.empty(0, np.intp)
_EVERY = slice(None)
_RUNTIME: dict[str, Any] = {
    "EMPTY": _EMPTY, "INF": float("inf"), "NAN": float("nan"), "nan": float("nan"), "inf": float("inf"),
    "array": np.array, "copyto": np.copyto, "minimum": np.minimum, "maximum": np.maximum,
    "where": np.where, "empty": np.empty, "full": np.full,
    "_ratio": _ratio, "join": _join, "join_all": _join_all, "div": _div, "floordiv": _floordiv, "mod": _mod,
    "trunc": _trunc, "floor": _floor, "ceil": _ceil, "rounded": _rounded, "root": _root, "least": _least,
    "most": _most, "called": _called, "windowed": _windowed, "draw": _draw, "read_line": _read_line,
    "read_lines": _read_lines, "picked": _picked, "split": _split, "of_kind": _of_kind,
}  # fmt: skip


@cache
def _compiled(source: str) -> Any:
    return compile(source, "<trials>", "exec")


def built(source: str, state: SimpleNamespace) -> dict[str, Callable[..., Any]]:
    """Return the functions that a source makes of a state."""
    names = dict(_RUNTIME)
    exec(_compiled(source), names)
    made: dict[str, Callable[..., Any]] = names["build"](state)
    return made
