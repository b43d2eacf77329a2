"""The page of the public Python names, from signatures and docstrings."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from functools import cache
from types import ModuleType
from typing import Any

from making.markdown import WIDTH, bullets, described, fenced, linked, page, paragraph, summary, table

import backtest
from backtest import errors, metrics
from backtest.engine.account.commissions import COSTS
from backtest.metrics.table import METRICS
from backtest.report.figures import FIGURES


def python_page() -> str:
    """Return the page of the public Python names, and of what they give."""
    public = {name: getattr(backtest, name) for name in backtest.__all__}
    classes = {name: one for name, one in public.items() if inspect.isclass(one)}
    functions = {name: one for name, one in public.items() if inspect.isfunction(one)}
    tables = {"COSTS": COSTS, "FIGURES": FIGURES, "METRICS": METRICS}
    given = _given([*classes.values(), *functions.values()])
    _, policy, tree = inspect.getdoc(errors).split("\n\n")
    groups = {"Functions": functions, "Classes": classes, "What they give and take": given}
    return page(
        "Python",
        paragraph(
            "All public names come from `backtest` itself, as in `from backtest import Series, Store, run`, and are "
            "imported when first used. All calls block; nothing has to be awaited. Times are UTC, spans end before "
            "their end, returns and rates are fractions (0.01 is 1 %), and NaN means that a number is not defined. "
            "The classes under " + linked("What they give and take") + " come from calls, and a few go into them. "
            "For annotations these can be imported from `backtest` too: "
            + ", ".join(f"`{name}`" for name in backtest._TYPES)
            + "."
        ),
        *(_contents(group, ours) for group, ours in {**groups, "Tables": tables}.items()),
        paragraph(linked("Numbers") + ": the functions of `backtest.metrics`."),
        "## Functions",
        *(_function(name, one) for name, one in functions.items()),
        "## Classes",
        *(_class(name, one) for name, one in classes.items()),
        "## What they give and take",
        *(_class(name, one) for name, one in given.items()),
        "## Tables",
        *(_rows(name, one) for name, one in tables.items()),
        "## Numbers",
        paragraph(
            "`backtest.metrics` has the functions behind the rows of `METRICS`, which take arrays, as in `from "
            "backtest.metrics import sharpe`; each metric is explained on [a page of its own](metrics.md)."
        ),
        table(("name", "what it returns"), *((f"`{name}{_short(one)}`", summary(one)) for name, one in _numbers())),
        "## Errors",
        paragraph(summary(errors) + " All come from `backtest.errors`, the first of them from `backtest` too."),
        paragraph(policy),
        fenced(textwrap.dedent(tree), "text"),
        bullets(f"`{kind.__name__}`: {summary(kind)}" for kind in _tree(errors.BacktestError)),
    )


def _numbers() -> list[tuple[str, Callable[..., Any]]]:
    """Return the functions of `backtest.metrics`, by name."""
    every = [(name, getattr(metrics, name)) for name in metrics.__all__]
    return [(name, one) for name, one in every if inspect.isfunction(one) and not hasattr(backtest, name)]


def _short(function: Callable[..., Any]) -> str:
    """Return the names of the parameters."""
    return f"({', '.join(inspect.signature(function).parameters)})"


def _contents(group: str, things: dict[str, Any]) -> str:
    links = [linked(_heading(name, thing), f"`{name}`") for name, thing in things.items()]
    return paragraph(f"{linked(group)}: {', '.join(links)}.")


def _heading(name: str, thing: Any) -> str:
    """Return the heading of a name; classes say so, for an address knows no capitals."""
    return f"class {name}" if inspect.isclass(thing) else name


def _tree(kind: type[Exception]) -> list[type[Exception]]:
    ours = [one for one in kind.__subclasses__() if one.__module__ == errors.__name__]
    return [kind, *(deeper for one in ours for deeper in _tree(one))]


def _function(name: str, function: Callable[..., Any], level: str = "###") -> str:
    return f"{level} {name}\n\n{fenced(name + _signature(function), 'python')}\n\n{described(function)}"


def _class(name: str, kind: type) -> str:
    blocks = [f"### {_heading(name, kind)}"]
    if not issubclass(kind, Exception) and not getattr(kind, "_is_protocol", False):
        blocks.append(fenced(name + _signature(kind), "python"))
    blocks.append(described(kind))
    blocks += [f"#### {name}.{member}\n\n{text}" for member, text in _members(name, kind)]
    return "\n\n".join(blocks)


def _members(owner: str, kind: type) -> Iterator[tuple[str, str]]:
    """Yield the public methods and properties that a class of ours defines, each with its description."""
    for name, member in _own(kind).items():
        function = getattr(member, "__func__", getattr(member, "fget", getattr(member, "func", member)))
        if name.startswith("_") or not inspect.isfunction(function):
            continue
        called = member is function or hasattr(member, "__func__")
        spelled = f".{name}{_signature(function)}" if called else f".{name}: {_returned(function)}"
        spelled = spelled.replace("-> Self", f"-> {owner}")
        yield name, f"{fenced(owner + spelled, 'python')}\n\n{described(function)}"


def _own(kind: type) -> dict[str, Any]:
    """Return what a class and its bases of ours define, but not what a library calls there."""
    ours = [one for one in reversed(kind.__mro__) if one.__module__.startswith("backtest.")]
    others = [one for one in kind.__mro__ if one not in ours and one is not object]
    members = {name: member for one in ours for name, member in vars(one).items()}
    return {name: member for name, member in members.items() if not any(hasattr(other, name) for other in others)}


def _rows(name: str, rows: dict[str, Any]) -> str:
    if name == "METRICS":
        return (
            f"### {name}\n\nFrom `backtest.metrics`: the metrics by name; "
            "each is explained on [a page of its own](metrics.md)."
        )
    said = {key: getattr(row, "definition", "") or getattr(row, "title", "") for key, row in rows.items()}
    home = {"COSTS": "engine.account.commissions", "FIGURES": "report.figures"}[name]
    imported = f"From `backtest.{home}`.\n\n"
    return (
        f"### {name}\n\n"
        + imported
        + table(("name", "what it is"), *((f"`{key}`", text) for key, text in said.items()))
    )


def _signature(thing: Callable[..., Any]) -> str:
    """Return the parameters with types and defaults, and what is returned; a line each where one line is too short."""
    bare = [one for one in inspect.signature(thing).parameters.values() if one.name not in ("self", "cls")]
    starred = next((n for n, one in enumerate(bare) if one.kind is one.KEYWORD_ONLY), None)
    words = [(_parameter(one), _comments(thing).get(one.name, "")) for one in bare]
    if starred is not None:
        words.insert(starred, ("*", ""))
    returned = "" if inspect.isclass(thing) else f" -> {_returned(thing)}"
    short = f"({', '.join(word for word, _ in words)}){returned}"
    if len(short) < WIDTH - 30 and not any(comment for _, comment in words):
        return short
    lines = [f"    {word}," + (f"  # {comment}" if comment else "") for word, comment in words]
    return "\n".join(["(", *lines, f"){returned}"])


@cache
def _comments(thing: Any) -> dict[str, str]:
    """Return what is written beside the fields of a class, by name."""
    if not is_dataclass(thing):
        return {}
    return dict(re.findall(r"^    (\w+): [^#\n]*  # (?!type:)(.*)$", inspect.getsource(thing), re.MULTILINE))


def _parameter(one: inspect.Parameter) -> str:
    stars = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
    kind = getattr(one.annotation, "__forward_arg__", one.annotation)
    annotation = "" if kind is one.empty else f": {kind}"
    default = "" if one.default is one.empty else f" = {_default(one.default)}"
    return f"{stars}{one.name}{annotation}{default}"


def _default(value: Any) -> str:
    """Return a default as one would write it; "..." for what is made anew in each call."""
    plain = value is None or isinstance(value, str | int | float | tuple)
    return json.dumps(value) if isinstance(value, str) else repr(value) if plain else "..."


def _returned(function: Callable[..., Any]) -> str:
    return str(inspect.signature(function).return_annotation)


def _given(things: list[Any]) -> dict[str, type]:
    """
    Return the classes of ours that the things take and return, and those that these return, by name.

    A class that one of the things derives from is described there.
    """
    found: dict[str, type] = {}
    waiting = list(things)
    bases = {base for one in things if inspect.isclass(one) for base in one.__mro__}
    while waiting:
        for kind in _results(waiting.pop(0)):
            if kind.__name__ not in (*backtest.__all__, *found) and kind not in bases:
                found[kind.__name__] = kind
                waiting.append(kind)
    return dict(sorted(found.items()))


def _results(thing: Any) -> Iterator[type]:
    """Yield the classes of ours that a function takes or returns, or that a class holds or returns."""
    if inspect.isfunction(thing):
        yield from _classes(thing, str(inspect.signature(thing)))
    elif inspect.isclass(thing):
        for name, member in _own(thing).items():
            function = getattr(member, "__func__", getattr(member, "fget", getattr(member, "func", member)))
            if not name.startswith("_") and inspect.isfunction(function):
                yield from _classes(function, _returned(function))
        for annotation in vars(thing).get("__annotations__", {}).values():
            yield from _classes(thing, str(annotation))


def _classes(thing: Any, annotation: str) -> Iterator[type]:
    """Yield the public classes of ours that an annotation of the thing names."""
    module = importlib.import_module(thing.__module__)
    for name in re.findall(r"[A-Z]\w+", annotation):
        kind = getattr(module, name, None) or _imported_for_types(module).get(name)
        if inspect.isclass(kind) and kind.__module__.startswith("backtest."):
            yield kind


@cache
def _imported_for_types(module: ModuleType) -> dict[str, Any]:
    """Return what a module imports from this package for the type checker alone, by name."""
    tree = ast.parse(inspect.getsource(module))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if (node.module or "").startswith("backtest")]
    names = [(importlib.import_module(str(node.module)), one.name) for node in ours for one in node.names]
    return {name: getattr(home, name) for home, name in names}
