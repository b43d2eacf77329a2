"""
The scalar code of a program and of the ledger, compiled by numba, one trial after another: the extra `fast`.

A function finds everything that it reads and writes by one address, since numba counts references to arrays at each
call. Sources are in a permanent folder, named by their content, beside numba's compiled code: the ledger is compiled
once for each kind of costs, and a program once.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from backtest.engine.compiled import ledger
from backtest.engine.compiled.indicators import Pairs
from backtest.engine.compiled.refusals import NotCompiled
from backtest.engine.compiled.translation.program import parsed
from backtest.engine.compiled.vectors import LEDGER_CONSTANTS, kind_of_name, ledger_functions

_STEP, _READS, _WRITES, _FLAG, _FILLS, _STEPS, _MOST, _FIRST = range(8)
_TABLES = (
    "FS",
    "IS",
    "FT",
    "IT",
    "FO",
    "IO",
    "FN",
    "IN",
    "MF",
    "MR",
    "LF",
    "CF",
    "CI",
    "RI",
    "FL",
    "EQ",
    "CA",
    "PO",
    "WA",
    "AS",
    "TM",
    "TR",
)
_PAIR = """

@njit(**FAST)
def {name}(p, number, clock, clocks, ago):
    at = bar_of(p, number, clock, clocks, ago)
    if at < 0:
        return 0.0
    RI = ii(p, 13)
    start, other, begins = RI[4 * number], RI[4 * number + 2], RI[4 * number + 3]
    if at < begins:
        return NAN
    return {form}
"""
_PAIRS = {"+": "line_sum", "-": "line_difference", "*": "line_product", "<": "line_below", ">": "line_above",
          "<=": "line_not_above", ">=": "line_not_below", "==": "line_same", "!=": "line_not_same"}  # fmt: skip
_VALUE = """

@njit(**FAST)
def f_value(p):
    FS, IS = ff(p, 0), ii(p, 1)
    if {valued} != {asked} + 1:
        {worth} = f_worth(p)
        {valued} = {asked} + 1
    return {cash} + {worth}

"""
# The value of all positions since the broker acted, which alone changes them, and by how many feeds, and 1 more.
_OF_WORTH = {"worth_of_all": (ledger.FLOAT, ""), "valued": (ledger.WHOLE, "")}
_BY_PYTHON = re.compile(r"\b(draw|draw_whole|called|windowed)\(")
_FILL = 6  # numbers of a fill
_ROOM = 1024  # orders of a trial at first
_KINDS: dict[str, type[Any]] = {"F": float, "I": np.int64}

_HEAD = """
import numba
from numba import njit
from numba.core import types
from numba.extending import intrinsic

INF, NAN = float("inf"), float("nan")
FAST = {"nogil": True, "error_model": "numpy", "cache": True, "boundscheck": False}


@intrinsic
def pointer_f(context, p, k):
    def make(cgctx, builder, signature, args):
        return _loaded(cgctx, builder, args, types.float64)
    return types.CPointer(types.float64)(p, k), make


@intrinsic
def pointer_i(context, p, k):
    def make(cgctx, builder, signature, args):
        return _loaded(cgctx, builder, args, types.int64)
    return types.CPointer(types.int64)(p, k), make


def _loaded(cgctx, builder, args, kind):
    from llvmlite import ir
    whole = ir.IntType(64)
    at = builder.inttoptr(builder.add(args[0], builder.mul(args[1], ir.Constant(whole, 8))), whole.as_pointer())
    return builder.inttoptr(builder.load(at), cgctx.get_value_type(kind).as_pointer())


@njit(**FAST)
def ff(p, k):
    return numba.carray(pointer_f(p, k), (1 << 40,))


@njit(**FAST)
def ii(p, k):
    return numba.carray(pointer_i(p, k), (1 << 40,))


@njit(**FAST)
def flag(p):
    ii(p, 1)[3] = 1


@njit(**FAST)
def div(p, a, b):
    if b == 0:
        flag(p)
        return 0.0
    return a / b


@njit(**FAST)
def floordiv(p, a, b):
    if b == 0:
        flag(p)
        return a * 0
    return a // b


@njit(**FAST)
def mod(p, a, b):
    if b == 0:
        flag(p)
        return a * 0
    return a % b


@njit(**FAST)
def ratio(a, b):
    return a / b if b != 0 else 0.0


@njit(**FAST)
def least(a, b):
    return b if b < a else a


@njit(**FAST)
def most(a, b):
    return b if b > a else a


@njit(**FAST)
def trunc(p, a):
    if not abs(a) < 9007199254740992.0:
        flag(p)
        return 0
    return int(a)


@njit(**FAST)
def floor(p, a):
    return trunc(p, math.floor(a) * 1.0 if abs(a) < 9007199254740992.0 else a)


@njit(**FAST)
def ceil(p, a):
    return trunc(p, math.ceil(a) * 1.0 if abs(a) < 9007199254740992.0 else a)


@njit(**FAST)
def rounded(p, a):
    return trunc(p, np.rint(a))


@njit(**FAST)
def root(p, a):
    if a < 0:
        flag(p)
        return 0.0
    return math.sqrt(a)


@njit(**FAST)
def log_fill(p, i_o, i_d, stamp, size, price, costs):
    IS, FL = ii(p, 1), ff(p, 14)
    if IS[4] >= IS[6]:
        flag(p)
        return
    n = IS[4] * 6
    FL[n], FL[n + 1], FL[n + 2], FL[n + 3], FL[n + 4], FL[n + 5] = i_o + 1, i_d, stamp, size, price, costs
    IS[4] += 1


@njit(**FAST)
def log_asked(p, asked):
    ff(p, 19)[ii(p, 1)[4] - 1] = asked


@njit(**FAST)
def bar_of(p, number, clock, clocks, ago):
    bars = ii(p, 13)[4 * number + 1]
    at = ii(p, 9)[ii(p, 1)[0] * clocks + clock] + ago
    if ago > 0 or at < -bars:
        flag(p)
        return -1
    return at + bars if at < 0 else at


@njit(**FAST)
def line(p, number, clock, clocks, ago):
    at = bar_of(p, number, clock, clocks, ago)
    return ff(p, 10)[ii(p, 13)[4 * number] + at] if at >= 0 else 0.0


lower, higher = least, most
"""


class Kernel:
    """
    The trials of one program, by numba.

    Args:
        texts: the program's own functions, in scalar code.
        constants, kept, kinds, slots: as of `vectors.Writer`; slots have the numbers of their lines and bars, too.
        steps: the number of steps of the run.
        columns: the market's columns by step and feed, in order.
        pairs: the slots whose lines are operations without values, by number.
    """

    def __init__(
        self,
        texts: dict[str, str],
        entries: list[str],
        constants: dict[str, Any],
        kept: dict[str, tuple[str, str]],
        kinds: list[str],
        slots: list[tuple[int, bool, int, int]],
        steps: int,
        columns: Sequence[str] = (),
        pairs: Mapping[int, Pairs] | None = None,
    ) -> None:
        self.pairs = pairs or {}
        if importlib.util.find_spec("numba") is None:
            raise NotCompiled("numba is not installed: pip install 'ib-backtest[fast]'")
        self.constants, self.kinds, self.slots, self.steps = constants, kinds, slots, steps
        self.feeds, self.columns = int(constants["NF"]), list(columns)
        self.clocks = (self.feeds + 1) * (2 if constants["RINGS"] else 1)
        self.places = self._places({**ledger.ACCOUNT, **ledger.OF_TRADES, **kept, **_OF_WORTH})
        if any(_BY_PYTHON.search(text) for text in texts.values()):
            raise NotCompiled("it calls functions of Python's, for which there is no machine code")
        # Everything that its source depends on: walk-forward windows and blocks of a sweep share it.
        clocks = [(clock, self.pairs[n].sign if n in self.pairs else "") for n, (clock, *_) in enumerate(slots)]
        asked = repr(([*texts.values()], entries, constants, kept, kinds, clocks, self.columns))
        if asked not in _modules:
            if len(_modules) >= _MOST_MODULES:
                _modules.clear()
            _modules[asked] = self._made(texts, entries)
        self.module, self.read = _modules[asked]

    def _made(self, texts: dict[str, str], entries: list[str]) -> tuple[ModuleType, frozenset[str]]:
        """Return the module of the program and the columns that it reads, and let the ledger's module be there."""
        constants, functions = self.constants, parsed(texts)
        self.functions = {**ledger_functions(), **functions}
        fixed = {name: value for name, value in constants.items() if name not in LEDGER_CONSTANTS}
        heads = [f"{name} = {value!r}" for name, value in {**LEDGER_CONSTANTS, **fixed}.items()]
        decided = {name: _Decided(constants).visit(copy.deepcopy(node)) for name, node in self.functions.items()}
        needed = _in_order(decided, ["check", "try_pending", "f_value", *entries])  # each takes 0.1 s to compile
        base = "\n".join([_HEAD, *heads, *(self._text(node) for node in needed if node.name not in functions)])
        first = _module(base)
        own = [f"from {first.__name__} import *", f"from {first.__name__} import FAST, NAN, njit, ff, ii, flag"]
        own += [_pair(sign) for sign in dict.fromkeys(one.sign for one in self.pairs.values())]
        own += [self._text(node) for node in needed if node.name in functions]
        return _module("\n".join([*own, self._driver(entries)])), _columns_read(needed)

    def _places(self, kept: dict[str, tuple[str, str]]) -> dict[str, tuple[str, int, str]]:
        """Return of each thing of the account its array, its number there, and its type."""
        counts = dict.fromkeys(_TABLES, 0) | {"IS": _FIRST}
        places = {}
        for name, (dtype, by) in kept.items():
            letter = {"": "S", ledger.FEEDS: "T", ledger.NOTED: "N"}.get(by, "O")
            array = ("F" if dtype == ledger.FLOAT else "I") + letter
            places[name] = array, counts[array], dtype
            counts[array] += 1
        self.counts = counts
        return places

    def _text(self, node: ast.FunctionDef) -> str:
        if node.name == "f_value" and self.feeds > 1:
            return self._value_once(node)
        return self._text_of(node)

    def _value_once(self, node: ast.FunctionDef) -> str:
        """Return the source of the account's value, for which all positions are valued once after the broker acted."""
        node = copy.deepcopy(node)
        node.name = "f_worth"
        given = node.body[-1]
        assert isinstance(given, ast.Return)
        assert isinstance(given.value, ast.BinOp)
        given.value = given.value.right  # all but the cash
        asked, valued, worth, cash = (self._scalar(name) for name in ("asked", "valued", "worth_of_all", "cash"))
        return self._text_of(node) + _VALUE.format(asked=asked, valued=valued, worth=worth, cash=cash)

    def _scalar(self, name: str) -> str:
        array, number, _ = self.places[name]
        return f"{array}[{number}]"

    def _text_of(self, node: ast.FunctionDef) -> str:
        made = _Scalar(self).visit(ast.parse(ast.unparse(node)).body[0])
        body = [one for one in made.body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
        names = {one.id for one in ast.walk(made) if isinstance(one, ast.Name)}
        loads = [f"{name} = {'ii' if name[0] == 'I' or name in ('MR', 'CI', 'RI', 'WA') else 'ff'}(p, {number})"
                 for number, name in enumerate(_TABLES) if name in names]  # fmt: skip
        made.body = [*ast.parse("\n".join(loads)).body, *(_flat(body) or [ast.Pass()])]
        made.args.args = [ast.arg("p"), *made.args.args]
        return "@njit(**FAST)\n" + ast.unparse(ast.fix_missing_locations(made)) + "\n"

    def _driver(self, entries: list[str]) -> str:
        scalar, rung = self._scalar, self.constants["RINGS"]
        told, traded = ("heard", "heard_trades") if rung else ("told", "traded")
        rings = [text for n in range(rung) for text in
                 (f"        if TM[TR[{n}] + step] != 0:", f"            ring_{n}(p)")]  # fmt: skip
        hears = ["        IS[1] = IS[2]", f"        IS[2] = {ledger.NOTES} - IS[2]",
                 *(["        hear(p)"] if rung else []), *rings,
                 f"        if {scalar(told)} > 0 or {scalar(traded)} > 0:",
                 "            deliver(p)"] if "deliver" in entries else rings  # fmt: skip
        _, position, _ = self.places["position"]
        return "\n".join(
            [
                "@njit(**FAST)",
                "def trial(p, steps, opens, before, ready):",
                "    FS, IS, FT = ff(p, 0), ii(p, 1), ff(p, 2)",
                *(["    TM, TR = ii(p, 20), ii(p, 21)"] if rung else []),
                "    EQ, CA, PO, WA = ff(p, 15), ff(p, 16), ff(p, 17), ii(p, 18)",
                "    n = 0",
                "    for step in range(steps):",
                "        IS[0] = step",
                f"        if {scalar('orders')} != {scalar('checked')}:",
                "            check(p)",
                f"        if {scalar('pending')} > 0:",
                "            try_pending(p)",
                f"        {scalar('valued')} = 0",
                *hears,
                "        if step < opens:",
                "            pass",
                "        elif step < before:",
                f"            {'prenext(p)' if 'prenext' in entries else 'pass'}",
                "        elif step < ready:",
                f"            {'nextstart(p)' if 'nextstart' in entries else 'next(p)'}",
                "        else:",
                "            next(p)",
                "        if IS[3] != 0:",
                "            return",
                "        if WA[step] != 0:",
                "            EQ[n] = f_value(p)",
                f"            CA[n] = {scalar('cash')}",
                f"            for i_d in range({self.feeds}):",
                f"                PO[n * {self.feeds} + i_d] = FT[{position * self.feeds} + i_d]",
                "            n += 1",
                "",
            ]
        )

    def lay_out(
        self,
        first: dict[str, np.ndarray],
        constants: list[np.ndarray],
        lines: list[tuple[list[np.ndarray], Any]],
        market: tuple[np.ndarray, np.ndarray],
        wanted: np.ndarray,
        recorded: set[str],
        rings: Sequence[tuple[np.ndarray, np.ndarray]] = (),
    ) -> None:
        """
        Store what all trials have in common.

        Args:
            first: the initial values of the account by name, for all trials or for each.
            lines: the values of each slot's lines, and which of them each trial reads.
            market: prices and timestamps, shape (columns, steps, feeds), and the rows of feeds, shape (steps, feeds +
                1).
            wanted: 1 for the steps at which the account is recorded.
            recorded: which of "equity", "cash" and "positions" to record for each trial.
            rings: for each timer the steps at which each kind of it goes off, and its kind in each trial.
        """
        self.first, self.values, self.lines = first, constants, lines
        self.told, self.recorded = int(wanted.sum()), recorded
        self.shared = {
            "MF": market[0].ravel(), "MR": market[1].ravel(), "WA": wanted.astype(np.int64),
        }  # fmt: skip
        self.rings, self.rung = list(rings), np.cumsum([0, *(kinds.size for kinds, _ in rings)])
        if rings:
            self.shared["TM"] = np.concatenate([kinds.ravel() for kinds, _ in rings]).astype(np.int64)
            self.shared["TR"] = np.zeros(len(rings), np.int64)
        # Lines stay where they are: each is found by how far it is from the first of them in memory.
        places = [np.array([line.ctypes.data for line in table], np.int64) for table, _ in lines]
        others = {n: np.array([line.ctypes.data for line in one.rights], np.int64) for n, one in self.pairs.items()}
        self.base = min((int(one.min()) for one in (*places, *others.values())), default=0)
        self.offsets = [(one - self.base) // 8 for one in places]
        self.others = {n: (one - self.base) // 8 for n, one in others.items()}
        self.room, self.given = _ROOM, _ROOM
        self.arrays = self._arrays(_ROOM) | self.shared
        self.records: list[np.ndarray] = []

    def _records(self, count: int) -> list[np.ndarray]:
        """Return where equity, cash and positions of so many trials go: the same place each time, which is paged in."""
        if not self.records or len(self.records[0]) < count:
            shapes = {"equity": (), "cash": (), "positions": (self.feeds,)}
            self.records = [np.zeros((count if name in self.recorded else 1, self.told, *shape))
                            for name, shape in shapes.items()]  # fmt: skip
        return self.records

    def run(self, part: range, phases: tuple[int, np.ndarray, np.ndarray]) -> Ledgers:
        """
        Run some of the trials. This overwrites the records of earlier ones.

        Args:
            phases: the step from which strategies are called; for each trial, the steps before which it waits and is
                just ready.
        """
        records = self._records(len(part))
        equity, cash, positions = (one[: len(part)] for one in records)
        done = Ledgers(
            equity, cash, positions, np.zeros(len(part), bool),
            {name: place for name, place in self.places.items() if place[0] in ("FO", "IO")},
        )  # fmt: skip
        addresses = self._addresses(self.arrays)
        waiting, readies = (one[part.start : part.stop].tolist() for one in phases[1:])
        begins = [(_TABLES.index(name), values.ctypes.data, values.strides[0] if values.shape[0] > 1 else 0)
                  for name, values in zip(("EQ", "CA", "PO"), records, strict=True)]  # fmt: skip
        place = 0
        while place < len(part):
            arrays = self.arrays
            self._set(arrays, part[place], self.given)
            for number, (kinds, which) in enumerate(self.rings):
                arrays["TR"][number] = self.rung[number] + which[part[place]] * kinds.shape[1]
            for number, begin, width in begins:
                addresses[number] = begin + place * width
            self.module.trial(addresses.ctypes.data, self.steps, phases[0], waiting[place], readies[place])
            self.given = given = int(arrays["IS"][self.places["orders"][1]])
            if arrays["IS"][_FLAG] and (given >= self.room or arrays["IS"][_FILLS] >= 2 * self.room):
                self.room *= 4
                self.arrays, self.given = self._arrays(self.room) | self.shared, self.room
                addresses = self._addresses(self.arrays)
                continue
            done.flags[place] = bool(arrays["IS"][_FLAG])
            done.floats.append(arrays["FO"][:, :given].copy())
            done.wholes.append(arrays["IO"][:, :given].copy())
            if self.constants["SLIPS"]:
                done.asked.append(arrays["AS"][: int(arrays["IS"][_FILLS])].copy())
            done.fills.append(arrays["FL"][: _FILL * int(arrays["IS"][_FILLS])].reshape(-1, _FILL).copy())
            place += 1
        return done

    def _addresses(self, arrays: dict[str, np.ndarray]) -> np.ndarray:
        known = {name: values.ctypes.data for name, values in arrays.items()} | {"LF": self.base}
        return np.array([known.get(name, 0) for name in _TABLES], np.int64)

    def _arrays(self, room: int) -> dict[str, np.ndarray]:
        wide = {"T": self.feeds, "N": 2 * ledger.NOTES, "O": room, "S": 1}
        found = {}
        for name in ("FS", "IS", "FT", "IT", "FO", "IO", "FN", "IN"):
            shape = max(self.counts[name], 1), wide[name[1]]
            found[name] = np.zeros(shape if name[1] == "O" else shape[0] * shape[1], _KINDS[name[0]])
        found["FL"] = np.zeros(2 * room * _FILL)
        found["AS"] = np.zeros(2 * room if self.constants["SLIPS"] else 1)
        count = max(len(self.kinds), 1)
        return found | {
            "CF": np.zeros(count),
            "CI": np.zeros(count, np.int64),
            "RI": np.zeros(4 * len(self.slots) + 1, np.int64),
        }

    def _set(self, arrays: dict[str, np.ndarray], trial: int, used: int) -> None:
        """
        Set the initial state of the account.

        Args:
            used: the number of orders of the previous trial, whose rows are not 0.
        """
        room = arrays["FO"].shape[1]
        for name in ("FS", "IS", "FT", "IT"):
            arrays[name][:] = 0
        for name in ("FO", "IO"):
            arrays[name][:, :used] = 0
        for name, values in {**self.first, "room": np.array([room])}.items():
            array, number, _ = self.places[name]
            mine = values[..., trial if values.shape[-1] > 1 else 0]
            width = self.feeds if array[1] == "T" else 1
            arrays[array][number * width : (number + 1) * width] = mine
        for number, (values, kind) in enumerate(zip(self.values, self.kinds, strict=True)):
            arrays["CF" if kind == "f" else "CI"][number] = values[trial]
        for number, (_, rows) in enumerate(self.lines):
            row = rows[trial] if isinstance(rows, np.ndarray) else rows
            place = self.offsets[number][row], self.slots[number][3]
            if number in self.pairs:
                arrays["RI"][4 * number : 4 * number + 4] = (
                    *place,
                    self.others[number][row],
                    self.pairs[number].begins[row],
                )
            else:
                arrays["RI"][4 * number : 4 * number + 2] = place
        arrays["IS"][_STEPS], arrays["IS"][_MOST] = self.steps, 2 * room


@dataclass
class Ledgers:
    """
    The outcomes of trials: equity, cash and positions by trial and step, and the orders and fills of each trial.

    Attributes:
        places: for each property of an order its table, "FO" or "IO", and its row there.
        floats, wholes: these two tables of each trial, one column per order.
        fills: the fills of each trial, with `FILL_COLUMNS`.
        asked: their prices without slippage, if there is slippage.
    """

    equity: np.ndarray
    cash: np.ndarray
    positions: np.ndarray
    flags: np.ndarray
    places: dict[str, tuple[str, int, str]]
    floats: list[np.ndarray] = field(default_factory=list)
    wholes: list[np.ndarray] = field(default_factory=list)
    fills: list[np.ndarray] = field(default_factory=list)
    asked: list[np.ndarray] = field(default_factory=list)

    @property
    def counts(self) -> list[int]:
        """How many orders each trial gave."""
        return [table.shape[1] for table in self.floats]

    def columns(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return things of all orders, trial after trial."""
        tables = {"FO": np.concatenate(self.floats, axis=1), "IO": np.concatenate(self.wholes, axis=1)}
        rows = {name: tables[self.places[name][0]][self.places[name][1]] for name in names}
        return {name: row.astype(float) for name, row in rows.items()}


class _Decided(ast.NodeTransformer):
    """Leaves of conditions that constants decide what they decide for."""

    def __init__(self, constants: dict[str, Any]) -> None:
        self.constants = constants

    def visit_If(self, node: ast.If) -> Any:
        names = {one.id for one in ast.walk(node.test) if isinstance(one, ast.Name)}
        plain = not any(isinstance(one, ast.Attribute | ast.Subscript | ast.Call) for one in ast.walk(node.test))
        if plain and names and names <= set(self.constants):
            chosen = node.body if eval(ast.unparse(node.test), {}, self.constants) else node.orelse
            return _flat([self.visit(one) for one in chosen]) or ast.Pass()
        body = _flat([self.visit(one) for one in node.body])
        return ast.If(self.visit(node.test), body, _flat([self.visit(one) for one in node.orelse]))

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        if isinstance(node.test, ast.Name) and node.test.id in self.constants:
            return self.visit(node.body if self.constants[node.test.id] else node.orelse)
        return ast.IfExp(self.visit(node.test), self.visit(node.body), self.visit(node.orelse))


class _Scalar(ast.NodeTransformer):
    """Makes of scalar code what numba is given: names of the account become places in arrays."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def expression(self, text: str) -> Any:
        return ast.parse(text, mode="eval").body

    def place(self, name: str, index: str | None) -> str:
        array, number, _ = self.kernel.places[name]
        if index is None:
            return f"{array}[{number}]"
        room = self.kernel.places["room"]
        width = {"T": str(self.kernel.feeds), "N": str(2 * ledger.NOTES), "O": f"{room[0]}[{room[1]}]"}[array[1]]
        return f"{array}[{number} * {width} + ({index})]"

    def visit_Assign(self, node: ast.Assign) -> Any:
        value = self.visit(node.value)
        target = node.targets[0]
        of_account = target.value if isinstance(target, ast.Subscript) else target
        if isinstance(of_account, ast.Attribute):
            index = ast.unparse(self.visit(target.slice)) if isinstance(target, ast.Subscript) else None
            place = self.place(of_account.attr, index)
            whole = self.kernel.places[of_account.attr][2] == ledger.TRUTH
            text = ast.unparse(value)
            return ast.parse(f"{place} = {f'(1 if {text} else 0)' if whole else text}").body[0]
        if isinstance(target, ast.Name) and kind_of_name(target.id) == "f" and isinstance(value, ast.Constant):
            value = _float(value)
        return ast.Assign([target], value, lineno=0)

    def visit_If(self, node: ast.If) -> Any:
        body = [self.visit(one) for one in node.body]
        return ast.If(self.visit(node.test), _flat(body), _flat([self.visit(one) for one in node.orelse]))

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        assert isinstance(node.value, ast.Name)
        if node.value.id == "N":
            return self.expression(f"IS[{ {'step': _STEP, 'reads': _READS, 'writes': _WRITES}[node.attr] }]")
        text = self.place(node.attr, None)
        return self.expression(f"({text} != 0)" if self.kernel.places[node.attr][2] == ledger.TRUTH else text)

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        assert isinstance(node.value, ast.Attribute)
        assert isinstance(node.value.value, ast.Name)
        name, index = node.value.attr, ast.unparse(self.visit(node.slice))
        feeds = self.kernel.feeds
        if node.value.value.id == "N":
            if name == "at":
                return self.expression(f"MR[IS[{_STEP}] * {self.kernel.clocks} + ({index})]")
            column = self.kernel.columns.index(name)
            return self.expression(f"MF[({column} * IS[{_STEPS}] + IS[{_STEP}]) * {feeds} + ({index})]")
        text = self.place(name, index)
        return self.expression(f"({text} != 0)" if self.kernel.places[name][2] == ledger.TRUTH else text)

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        left, right = self.visit(node.left), self.visit(node.right)
        names: dict[type[ast.operator], str] = {ast.Div: "div", ast.FloorDiv: "floordiv", ast.Mod: "mod"}
        if type(node.op) in names:
            return self.expression(f"{names[type(node.op)]}(p, {ast.unparse(left)}, {ast.unparse(right)})")
        return ast.BinOp(left, node.op, right)

    def number(self, node: Any) -> Any:
        if isinstance(node, ast.Constant):
            return _float(node)
        return (
            node
            if isinstance(node, ast.Name) and kind_of_name(node.id) == "f"
            else self.expression(f"float({ast.unparse(node)})")
        )

    def visit_Call(self, node: ast.Call) -> Any:
        assert isinstance(node.func, ast.Name)
        name = node.func.id
        args = [self.visit(one) for one in node.args]
        if name == "line":
            number = args[0].value
            clock = self.kernel.slots[number][0]
            pairs = self.kernel.pairs
            read = _PAIRS[pairs[number].sign] if number in pairs else "line"
            text = f"{read}(p, {number}, {clock}, {self.kernel.clocks}, {ast.unparse(args[1])})"
            return self.expression(f"int({text})" if len(args) > 2 else text)
        if name == "const":
            number = args[0].value
            kind = self.kernel.kinds[number]
            text = f"{'CF' if kind == 'f' else 'CI'}[{number}]"
            return self.expression(f"({text} != 0)" if kind == "b" else text)
        if name in self.kernel.functions:  # compiled for whole numbers too, it would be compiled twice
            params = [one.arg for one in self.kernel.functions[name].args.args]
            args = [
                self.number(one) if kind_of_name(param) == "f" else one for param, one in zip(params, args, strict=True)
            ]
        plain = name in ("abs", "least", "most", "lower", "higher", "ratio", "range")
        text = ", ".join([*([] if plain else ["p"]), *map(ast.unparse, args)])
        return self.expression(f"{name}({text})")


def _pair(sign: str) -> str:
    """Return the source of what reads an operation on two lines."""
    form = f"ff(p, 10)[start + at] {sign} ff(p, 10)[other + at]"
    return _PAIR.format(name=_PAIRS[sign], form=form if sign in "+-*" else f"1.0 if {form} else 0.0")


def _flat(body: list[Any]) -> list[Any]:
    return [one for part in body for one in (part if isinstance(part, list) else [part])]


def _float(node: ast.Constant) -> ast.Constant:
    return ast.Constant(float(node.value)) if isinstance(node.value, int | float) else node


def _in_order(functions: dict[str, ast.FunctionDef], entries: list[str]) -> list[ast.FunctionDef]:
    """Return what entries call, and they, so that each comes after those that it calls."""
    done: dict[str, ast.FunctionDef] = {}

    def add(name: str) -> None:
        if name in done or name not in functions:
            return
        for one in ast.walk(functions[name]):
            if isinstance(one, ast.Call) and isinstance(one.func, ast.Name):
                add(one.func.id)
        done[name] = functions[name]

    for name in entries:
        add(name)
    return list(done.values())


def _columns_read(functions: Sequence[ast.FunctionDef]) -> frozenset[str]:
    """Return what functions read of the present step, such as `N.close`."""
    every = (node for function in functions for node in ast.walk(function))
    return frozenset(
        node.attr
        for node in every
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "N"
    )


_modules: dict[str, tuple[ModuleType, frozenset[str]]] = {}
_MOST_MODULES = 50


def _module(text: str) -> ModuleType:
    """Return the module of a source, stored where the next run finds it."""
    name = f"compiled_{hashlib.sha256(text.encode()).hexdigest()[:24]}"
    if name in sys.modules:
        return sys.modules[name]
    folder = Path.home() / ".cache" / "ib-backtest" / "compiled"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.py"
    if not file.exists():
        fresh = file.with_suffix(f".{hashlib.sha256(repr(id(text)).encode()).hexdigest()[:8]}.tmp")
        fresh.write_text("import math\nimport numpy as np\n" + text, "utf-8")
        fresh.replace(file)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made
