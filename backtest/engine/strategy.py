"""Find and load strategies: plain `bt.Strategy` classes, by class or as `file.py:Name`, and their parameters."""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import backtrader as bt

from backtest import _arguments
from backtest._resources import bundled
from backtest._suggest import did_you_mean
from backtest.engine.failures import CodeLine, code_of_others, place_of, said
from backtest.engine.imports import ImportSpace, space_of
from backtest.errors import UsageError


@dataclass(frozen=True, slots=True)
class Strategy:
    """A strategy's class, the name it is asked for by, and the SHA-256 of the source that defines it."""

    cls: type[Any]
    name: str
    source: str
    space: ImportSpace | None = field(default=None, compare=False, repr=False)  # of one that was loaded from a file

    @property
    def defaults(self) -> dict[str, Any]:
        """The parameters and their default values."""
        return dict(self.cls.params._getitems())


def load_strategy(strategy: str | Path | type[Any] | Strategy, below: str | Path = "") -> Strategy:
    """
    Return a strategy by its class, or by "file.py:Name"; the name may be left out where the file has only one.

    A bare word such as "sma_cross" means one of the strategies that come with the package; one that was loaded is
    returned as it is.

    Args:
        below: the folder that a relative path begins at, and whose packages the file may import as those beside it;
            the present one if not given.

    Raises:
        UsageError: there is no such file, or no such class in it.
        StrategyError: the file cannot be run.
    """
    if isinstance(strategy, Strategy):
        return strategy
    if isinstance(strategy, type) and issubclass(strategy, bt.Strategy):
        name = f"{strategy.__module__}:{strategy.__name__}"
        return Strategy(strategy, name, _source_hash(strategy), space_of(strategy))
    if isinstance(strategy, type) or not isinstance(strategy, str | os.PathLike):
        _arguments.refuse("the strategy", strategy, "write a class that derives from bt.Strategy, or file.py:Name")
    path_text, _, wanted = str(strategy).partition(":")
    path = _file(path_text, Path(below))
    space = ImportSpace(path.resolve(), Path(below).resolve())
    module = _module(path, space)
    cls = _class_in(module, path_text, wanted)
    shown = path_text if not Path(path_text).is_absolute() else path.name
    _, source = space.sources[module.__name__]
    return Strategy(cls, f"{shown}:{cls.__name__}", source, space)


def parameters(strategy: Strategy, given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return all parameters: the defaults, and what is given in their place; text is read as the default's type.

    Raises:
        UsageError: a name that the strategy does not have, or a text that is not of the default's type.
    """
    defaults = strategy.defaults
    for name in given:
        if name not in defaults:
            has = ", ".join(f"{key}={value!r}" for key, value in defaults.items()) or "no parameters"
            raise UsageError(f"{strategy.name} has no parameter {name!r}; it has {has}{did_you_mean(name, defaults)}")
    return {**defaults, **{name: _coerced(name, value, defaults[name]) for name, value in given.items()}}


def explain_failure(error: BaseException, strategy: Strategy) -> str:
    """Return where and how the strategy failed, in one sentence: file, line, function, error."""
    place = place_of(error) or _uncalled(error, strategy.cls)
    return f"{strategy.name} failed{f' {place}' if place else ''}: {said(error)}"


def _uncalled(error: BaseException, cls: type[Any]) -> CodeLine | None:
    """Return where a method is that could not be called as Backtrader calls it: its TypeError has the name alone."""
    named = re.match(r"(?:\w+\.<locals>\.)*(\w+)\.(\w+)\(\) ", str(error)) if type(error) is TypeError else None
    if named is None:
        return None
    beside = vars(sys.modules.get(cls.__module__, sys))
    kinds = [*(kind for kind in cls.__mro__ if kind.__name__ == named[1]), beside.get(named[1])]
    code = next((found for kind in kinds if (found := getattr(getattr(kind, named[2], None), "__code__", None))), None)
    return CodeLine(code.co_filename, code.co_firstlineno, named[2]) if code else None


@contextmanager
def importing_beside(strategy: Strategy) -> Iterator[None]:
    """Let what runs find the modules of the strategy's project by their names, as `load_strategy` lets its file."""
    with strategy.space.shown() if strategy.space else nullcontext():
        yield


def _file(text: str, below: Path) -> Path:
    path = below / _arguments.path(text, "the strategy", "write file.py:Name, or the name of one that comes along")
    if path.is_file():
        return path
    ours = {file.stem: file for file in sorted(bundled("strategies").glob("*.py"))}
    if text in ours:
        return ours[text]
    hint = did_you_mean(path.stem, ours)
    raise UsageError(f"no strategy {text!r}, and no such file; write file.py:Name, or one of {', '.join(ours)}{hint}")


def _module(path: Path, space: ImportSpace) -> ModuleType:
    if path.suffix != ".py":
        raise UsageError(f"{path} is no Python file; a strategy's file ends in .py")
    with code_of_others(partial(_why_not_loaded, path)):
        return space.load(f"{_PREFIX}{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}", path)


def _why_not_loaded(path: Path, error: BaseException) -> str:
    place = place_of(error)
    there = place is not None and Path(place.file).resolve() != path.resolve()
    where = f" at line {place.line}{f' of {Path(place.file).name}' if there else ''}" if place else ""
    kind, _, text = said(error).partition(": ")
    if isinstance(error, SyntaxError) and isinstance(error.msg, str):
        text = said(SyntaxError(error.msg)).partition(": ")[2]  # the whole text has the file and the line again
    return f"{path} cannot be loaded: {kind}{where}{f': {text}' if text else ''}"


_PREFIX = "backtest_strategy_"  # of the names of modules that were loaded as strategies


def _class_in(module: ModuleType, path: str, wanted: str) -> type[Any]:
    found = {
        name: cls
        for name, cls in vars(module).items()
        if issubclass(type(cls), type)  # first: `isinstance` asks a proxy for its __class__, which is code of others
        and isinstance(cls, type)
        and issubclass(cls, bt.Strategy)
        and cls.__module__ == module.__name__
    }
    if wanted in found:
        return found[wanted]
    if not found:
        raise UsageError(f"{path} defines no strategy; write a class that derives from bt.Strategy")
    if wanted:
        raise UsageError(f"{path} has no strategy {wanted!r}; it has {', '.join(found)}{did_you_mean(wanted, found)}")
    if len(found) > 1:
        raise UsageError(f"{path} has {len(found)} strategies; name one: {', '.join(f'{path}:{n}' for n in found)}")
    return next(iter(found.values()))


def _coerced(name: str, value: Any, default: Any) -> Any:
    if not isinstance(value, str) or isinstance(default, str) or default is None:
        return value
    kind = type(default)
    if kind is bool:
        truths = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if value.lower() in truths:
            return truths[value.lower()]
    elif kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            pass
    raise UsageError(f"{name}={value!r} is not {_KINDS.get(kind, kind.__name__)}, as its default {default!r} is")


_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def _source_hash(cls: type[Any]) -> str:
    try:
        source = inspect.getsource(cls)
    except (OSError, TypeError):
        return ""  # typed at a prompt: there is no source to hash
    return hashlib.sha256(source.encode()).hexdigest()
