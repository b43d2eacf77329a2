"""`Val`, `Program`: the translation of an expression, and of a whole strategy."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from backtrader.lineroot import LineRoot

from backtest.engine.compiled.indicators import Pairs
from backtest.engine.compiled.refusals import NotCompiled

DTYPES = {"f": "f8", "opt": "f8", "b": "?"}
PREFIX = {"f": "f", "opt": "f", "b": "b"}
NOTED = {"notify_order": "note", "notify_trade": "trade"}
TIMES = ("date", "moment", "clock")
LISTED = 8  # orders that a list on self holds at most; a trial that puts more into one is left to the event engine


@dataclass(frozen=True, eq=False)
class Val:
    """
    The value of an expression of the strategy.

    Attributes:
        kind: "f", "i", "b" (numbers); "opt", a number or None; "none"; "str", a string by its number; "feed"; "order";
            "note", a notified order; "copy", a stored note or order, of which only the identity is known; "position",
            of a feed; "static", a Python object of each trial; "text", whose content does not matter; "poison", a value
            that is not available; "self" and other objects of the strategy.
        code: its text in the scalar code.
        objs: for a static value, an object for each trial, or one for all.
        why, line: for poison, why and where it is not available.
    """

    kind: str
    code: str = ""
    objs: tuple[Any, ...] = ()
    why: str = ""
    extra: Any = None
    line: int = 0


@dataclass(frozen=True)
class Moment:
    """The time of a bar: its line of stamps, the number of its clock, and how many bars from the present one."""

    line: Any
    feed: int
    ago: str


@dataclass
class Program:
    """
    The code of trials of one shape, in scalar code.

    Attributes:
        texts: the functions by name; `entries` has those that a run calls.
        account: what the strategy's state adds to `ledger.ACCOUNT`, with the initial values of each trial.
        constants: the values that differ between trials, and their kinds.
        slots: the lines: their clock's feed, their sources, and the row of each trial or of all.
        pairs: operations that numba computes where it reads them, by the number of their slot.
        calls: Python functions that are called for each trial.
        streams: generators of random numbers, one method for each trial.
        hears: whether the strategy is notified of orders.
        hears_trades: whether it is notified of trades.
        market_only: whether all its orders are market orders.
        values: whether it reads the value and gain of fills.
        closes: whether it submits orders at the close.
        families: whether orders have parents.
        groups: whether one order cancels others.
        rings: the number of timers.
        tells: the line that prints, which is not translated; 0 if none does.
    """

    texts: dict[str, str] = field(default_factory=dict)
    entries: list[str] = field(default_factory=list)
    account: dict[str, tuple[str, str]] = field(default_factory=dict)
    first: dict[str, np.ndarray] = field(default_factory=dict)
    constants: list[np.ndarray] = field(default_factory=list)
    constant_kinds: list[str] = field(default_factory=list)
    slots: list[tuple[int, list[Any], Any]] = field(default_factory=list)
    pairs: dict[int, Pairs] = field(default_factory=dict)
    calls: list[Callable[..., Any]] = field(default_factory=list)
    streams: list[list[Callable[..., Any]]] = field(default_factory=list)
    hears: bool = False
    hears_trades: bool = False
    values: bool = False
    market_only: bool = True
    closes: bool = False
    families: bool = False
    groups: bool = False
    rings: int = 0
    tells: int = 0

    @property
    def functions(self) -> dict[str, ast.FunctionDef]:
        """Return the functions, parsed: those of hundreds of feeds are long."""
        return parsed(self.texts)


def parsed(texts: Mapping[str, str]) -> dict[str, ast.FunctionDef]:
    """Return functions from their texts, by name."""
    nodes = {name: ast.parse(text).body[0] for name, text in texts.items()}
    return {name: node for name, node in nodes.items() if isinstance(node, ast.FunctionDef)}


class Unknown(NotCompiled):
    """The kind of an attribute is not known yet: another method sets it, perhaps."""

    key: tuple[str, str] | None = None


class Again(Exception):
    """A kind turned out wider than it was taken for: the translation starts again with it."""


def for_all(objs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return one object where all trials have the same."""
    first = objs[0]
    same = all(one is first for one in objs)
    if not same and isinstance(first, int | float | str | bool):
        same = all(type(one) is type(first) and one == first for one in objs)
    return (first,) if same else objs


def as_list(value: Any) -> Any:
    """Return what can be gone through once as a list."""
    return (
        list(value)
        if not isinstance(value, list | tuple | dict | set | str | LineRoot) and hasattr(value, "__iter__")
        else value
    )


def has_lines(value: Val) -> bool:
    """Return whether a value is a line, in some trial at least."""
    return any(isinstance(one, LineRoot) for one in value.objs)


def always_none(value: Val) -> bool:
    """Return whether a value is None in all trials."""
    return value.kind == "static" and all(one is None for one in value.objs)


def kind_in_words(kind: str) -> str:
    """Return the name of a kind, for a sentence."""
    names = {"f": "a number", "i": "a whole number", "b": "a truth", "opt": "a number or None", "none": "None",
             "str": "a text", "order": "an order",
             "copy": "an order as it was notified", "note": "a notified order", "feed": "a feed", "text": "a text",
             "static": "an object", "position": "a position", "date": "a date", "changed": "what changes in the run",
             "orders": "a list of orders",
             "tuple": "a list"}  # fmt: skip
    return names.get(kind, f"a {kind}")
