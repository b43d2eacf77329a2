"""`Val`, `Program`: the translation of an expression, and of a whole strategy."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from backtrader.lineroot import LineRoot

from backtest.engine.compiled.refusals import NotCompiled

DTYPES = {"f": "f8", "opt": "f8", "b": "?"}
PREFIX = {"f": "f", "opt": "f", "b": "b"}
NOTED = {"notify_order": "note", "notify_trade": "trade"}
TIMES = ("date", "moment", "clock")
LISTED = 8  # orders that a list on self holds at most; a trial that puts more into one is left to the event engine


@dataclass(frozen=True, eq=False)
class Val:
    """
    What an expression of the strategy is.

    Attributes:
        kind: "f", "i", "b" (numbers); "opt", a number or None; "none"; "str", a text by its number; "feed"; "order";
            "note", a notified order; "copy", one that is kept, or an order: nothing but which it is can be had of it;
            "position", of a feed; "static", what each trial has as an object of Python; "text", of which nothing
            counts; "poison", what cannot be had; "self" and other things of the strategy.
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
class Moment:
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
        hears: whether it is notified of orders.
        hears_trades: whether it is notified of trades.
        market_only: whether all its orders are at the market.
        values: whether it asks for value and gain of what is filled.
        closes: whether it gives orders at the close.
        families: whether orders have parents.
        groups: whether one order cancels others.
        rings: how many timers ring.
        tells: the line in which it prints, of which nothing is left; 0 where it does not.
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
    families: bool = False
    groups: bool = False
    rings: int = 0
    tells: int = 0


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
