"""Find and load strategies: plain `bt.Strategy` classes, by class or as `file.py:Name`, and their parameters."""

from __future__ import annotations

import builtins
import hashlib
import importlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import backtrader as bt

from backtest import _arguments
from backtest._resources import bundled
from backtest._suggest import did_you_mean
from backtest.engine.code.failures import CodeLine, code_of_others, place_of, said
from backtest.engine.code.imports import ImportSpace, space_of
from backtest.engine.code.reach import reach_of
from backtest.errors import StrategyError, UsageError, quoted
from backtest.runs.parameters import STRATEGY_MODULE, Named, as_kept, can_be_kept, found_by, names_in, resolved
from backtest.runs.spec import check_has_strategy


@dataclass(frozen=True, slots=True)
class Strategy:
    """
    A strategy's class, its requested name, and a SHA-256 that identifies its code.

    For a strategy from a file it is the hash of the source; for a class from Python see `reach`.
    """

    cls: type[Any]
    name: str
    source: str
    space: ImportSpace | None = field(default=None, compare=False, repr=False)  # of one that was loaded from a file
    files: Mapping[str, Path] = field(default_factory=dict, compare=False, repr=False)  # of a class from Python
    typed: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)  # see `typed_things`

    @property
    def in_file(self) -> bool:
        """Whether another process can load it from its file."""
        return self.space is not None and getattr(self.space.home, self.cls.__name__, None) is self.cls

    @property
    def defaults(self) -> dict[str, Any]:
        """The parameters and their default values."""
        return dict(self.cls.params._getitems())


def load_strategy(strategy: str | Path | type[Any] | Strategy, below: str | Path = "") -> Strategy:
    """
    Return a strategy by its class, or by "file.py:Name"; a file with only one strategy needs no name.

    A bare word such as "sma_cross" means one of the bundled strategies; a loaded `Strategy` is returned unchanged.

    Args:
        below: the folder to which a relative path refers, and whose packages the file may import like those beside it;
            by default the current folder.

    Raises:
        UsageError: there is no such file, or no such class in it, or the strategy is a combination of runs.
        StrategyError: the file cannot be run.
    """
    if isinstance(strategy, Strategy):
        return strategy
    check_has_strategy(strategy)
    if isinstance(strategy, type) and issubclass(strategy, bt.Strategy):
        name = f"{strategy.__module__}:{strategy.__name__}"
        space = space_of(strategy)
        if space is not None:
            return Strategy(strategy, name, space.sources[strategy.__module__][1], space)
        reach = reach_of(strategy)
        return Strategy(strategy, name, reach.digest, files=reach.files)
    if isinstance(strategy, type) or not isinstance(strategy, str | os.PathLike):
        _arguments.refuse("the strategy", strategy, "write a class that derives from bt.Strategy, or file.py:Name")
    path_text, wanted = file_and_class(str(strategy))
    path_text, path = _file(path_text, Path(below))
    space = ImportSpace(path.resolve(), Path(below).resolve())
    module = _module(path, space)
    cls = _class_in(module, path_text, wanted)
    shown = path.name if Path(path_text).anchor else path_text.replace(os.sep, "/")
    _, source = space.sources[module.__name__]
    return Strategy(cls, f"{shown}:{cls.__name__}", source, space)


def file_and_class(text: str) -> tuple[str, str]:
    r"""Return the parts of file.py:Name, "" for no class; the colon of a drive, as in C:\x, does not count."""
    drive = text[:2] if re.match(r"[A-Za-z]:[\\/]", text) else ""
    file, _, name = text[len(drive) :].partition(":")
    return drive + file, name


def parameters(strategy: Strategy, given: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return all parameters: the defaults, replaced by the given values; text is read as the default's type.

    They have the form in which a saved run returns them: copies, and a `Named` instead of a class, a function or the
    like. `live_parameters` returns what the strategy gets.

    Raises:
        UsageError: the strategy has no such parameter, a text is not of the default's type, or a value cannot be saved
            with the run.
    """
    return {
        name: _as_kept(strategy, name, given.get(name, default), default)
        for name, default in _checked(strategy, given).items()
    }


def typed_values(strategy: Strategy, grid: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """
    Return values to try as `parameters` would; text stays text if the default is a number, boolean or text.

    Raises:
        UsageError: the strategy has no such parameter, or a value is not of its type or cannot be saved.
    """
    defaults, texts = _checked(strategy, grid), names_of_texts(strategy)
    return {
        name: [
            value if isinstance(value, str) and name not in texts else _as_kept(strategy, name, value, defaults[name])
            for value in values
        ]
        for name, values in grid.items()
    }


def names_of_texts(strategy: Strategy) -> set[str]:
    """Return the parameters whose texts are read by the type of the default, not as numbers."""
    return {name for name, default in strategy.defaults.items() if type(default) not in _PLAIN}


def live_parameters(strategy: Strategy, params: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the strategy's own copies of parameters that may hold a `Named`; it may change lists and dicts.

    Raises:
        UsageError: a name does not refer to anything.
    """
    return {name: resolved(value, partial(_named_by, strategy, name)) for name, value in params.items()}


def typed_things(strategy: Strategy, values: Iterable[Any]) -> dict[str, SimpleNamespace]:
    """
    Return the objects of a notebook, a prompt or the script that values name and other processes lack.

    The result replaces these modules there: the name of each, with its top-level objects.
    """
    from backtest.engine.code.parcels import typed

    found: dict[str, SimpleNamespace] = {}
    with importing_beside(strategy):
        for one in names_in(list(values)):
            place, _, inside = one.name.partition(":")
            if one.kind == "default" or not inside or (strategy.in_file and place == ""):
                continue  # the worker loads the file
            with suppress(ImportError):
                importlib.import_module(place or strategy.cls.__module__)
            if typed(place or strategy.cls.__module__):
                top = inside.partition(".")[0]
                vars(found.setdefault(place, SimpleNamespace()))[top] = getattr(_module_named(strategy, place), top)
    return found


def explain_failure(error: BaseException, strategy: Strategy) -> str:
    """Return where and how the strategy failed, in one sentence: file, line, function, error."""
    place = place_of(error) or _uncalled(error, strategy.cls)
    return f"{strategy.name} failed{f' {place}' if place else ''}: {said(error)}"


def _uncalled(error: BaseException, cls: type[Any]) -> CodeLine | None:
    """Return the place of a method that Backtrader could not call: its TypeError gives only the name."""
    named = re.match(r"(?:\w+\.<locals>\.)*(\w+)\.(\w+)\(\) ", str(error)) if type(error) is TypeError else None
    if named is None:
        return None
    beside = vars(sys.modules.get(cls.__module__, sys))
    kinds = [*(kind for kind in cls.__mro__ if kind.__name__ == named[1]), beside.get(named[1])]
    code = next((found for kind in kinds if (found := getattr(getattr(kind, named[2], None), "__code__", None))), None)
    return CodeLine(code.co_filename, code.co_firstlineno, named[2]) if code else None


@contextmanager
def importing_beside(strategy: Strategy) -> Iterator[None]:
    """Let running code import the modules of the strategy's project by name, as the strategy's file can."""
    with strategy.space.shown() if strategy.space else nullcontext():
        yield


def _file(text: str, below: Path) -> tuple[str, Path]:
    """Return the text that names a file, and the file; a path in Windows' spelling is also found on other systems."""
    path = below / _arguments.path(text, "the strategy", "write file.py:Name, or the name of a bundled one")
    if path.is_file():
        return text, path
    ours = {file.stem: file for file in sorted(bundled("strategies").glob("*.py"))}
    if text in ours:
        return text, ours[text]
    if (below / (posix := text.replace("\\", "/"))).is_file():
        return posix, below / posix
    hint = did_you_mean(path.stem, ours)
    raise UsageError(
        f"no strategy {quoted(text)}, and no such file; write file.py:Name, or one of {', '.join(ours)}{hint}"
    )


def _module(path: Path, space: ImportSpace) -> ModuleType:
    if path.suffix != ".py":
        raise UsageError(f"{path} is not a Python file; a strategy's file ends in .py")
    name = f"{STRATEGY_MODULE}{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    with code_of_others(partial(_why_not_loaded, path)):
        module = space.load(name, path)
    now = vars(module).get("__name__")
    if type(now) is not str or now != name:
        raise StrategyError(f"{path} changes __name__, by which Python finds what a file defines; rename that variable")
    return module


def _why_not_loaded(path: Path, error: BaseException) -> str:
    place = place_of(error)
    there = place is not None and Path(place.file).resolve() != path.resolve()
    where = f" at line {place.line}{f' of {Path(place.file).name}' if there else ''}" if place else ""
    kind, _, text = said(error).partition(": ")
    if isinstance(error, SyntaxError) and isinstance(error.msg, str):
        text = said(SyntaxError(error.msg)).partition(": ")[2]  # the whole text has the file and the line again
    return f"{path} cannot be loaded: {kind}{where}{f': {text}' if text else ''}"


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


_PLAIN = (bool, int, float, str, type(None))


def _checked(strategy: Strategy, given: Iterable[str]) -> dict[str, Any]:
    """Return the defaults, if there is one for each name that is given."""
    defaults = strategy.defaults
    for name in given:
        if name not in defaults:
            has = ", ".join(f"{key}={value!r}" for key, value in defaults.items()) or "no parameters"
            raise UsageError(f"{strategy.name} has no parameter {name!r}; it has {has}{did_you_mean(name, defaults)}")
    return defaults


def _as_kept(strategy: Strategy, name: str, value: Any, default: Any) -> Any:
    """Return the value of a parameter in the form in which a saved run returns it."""
    if type(value) in _PLAIN and not (isinstance(value, str) and type(default) not in (str, type(None))):
        return as_kept({name: value})[name]
    if isinstance(value, str) and type(value) is not type(default):
        value = _read(strategy, name, value, default)
    if value is default and not _comes_back(strategy, name, value):
        return Named("default", name)  # it comes with the strategy's file
    known = as_kept({name: value})
    if value is not default and not _comes_back(strategy, name, value):
        raise UsageError(
            f"the parameter {name} is {known[name]!r}, but another object has that name now; define it at module "
            "level under a unique name"
        )
    return known[name]


def _read(strategy: Strategy, name: str, text: str, default: Any) -> Any:
    from backtest.engine.code.parameters import value_of

    try:
        return value_of(text, default, lambda dotted, like: _by_dotted_name(strategy, dotted, like))
    except ValueError as error:
        said = str(error)
        as_it_is = f"; its default is {default!r}" if said.startswith("is ") else ""
        raise UsageError(f"{name}={text!r} {said}{as_it_is}") from error


def _comes_back(strategy: Strategy, name: str, value: Any) -> bool:
    """Return whether the stored form of a value gives the value again: a class may have the name of another one."""
    if not can_be_kept(value):
        return False
    known = as_kept({name: value})
    if not names_in(known[name]):
        return True
    try:
        again = live_parameters(strategy, known)[name]
    except UsageError:
        if value is strategy.defaults.get(name):
            return False
        raise
    return isinstance(value, Named) or again is value or not _stand_together(again, value)


def _stand_together(one: Any, other: Any) -> bool:
    """Return whether two classes or functions of one name are from the same module, not from two copies of it."""
    found = [_globals_of(thing) for thing in (one, other)]
    return found[0] is not None and found[0] is found[1]


def _globals_of(thing: Any) -> Any:
    parts = vars(thing).values() if isinstance(thing, type) else [thing]
    return next((part.__globals__ for part in parts if hasattr(part, "__globals__")), None)


def _named_by(strategy: Strategy, name: str, wanted: Named) -> Any:
    if wanted.kind == "default":
        return _checked(strategy, [wanted.name])[wanted.name]
    try:
        with importing_beside(strategy):
            return found_by(wanted, lambda module: _module_named(strategy, module))
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"the parameter {name} is {wanted!r}, which cannot be found ({error}); name what {strategy.name} can import"
        ) from error


def _module_named(strategy: Strategy, name: str) -> Any:
    if name in strategy.typed:
        return strategy.typed[name]
    if name == "" or name == strategy.cls.__module__:
        return strategy.space.home if strategy.space else importlib.import_module(strategy.cls.__module__)
    return importlib.import_module(name)


def _by_dotted_name(strategy: Strategy, text: str, like: Any) -> Any:
    """Return the class or function that a text names: as the strategy's file would write it, or by its module."""
    own = vars(_module_named(strategy, ""))
    places = [own, {"bt": bt, "backtrader": bt}, vars(bt.ind), vars(builtins)]
    with importing_beside(strategy):
        for place in places:
            found = _attribute(place, text.strip())
            if _is_like(found, like):
                return found
        module, _, inside = text.strip().replace(":", ".").rpartition(".")
        try:
            found = getattr(importlib.import_module(module), inside, None) if module else None
        except ImportError:
            found = None
    if _is_like(found, like):
        return found
    what = "a class" if isinstance(like, type) else "a function"
    raise ValueError(f"is not {what} such as bt.ind.EMA, or one that {strategy.name} can import by its dotted name")


def _attribute(names: Mapping[str, Any], dotted: str) -> Any:
    first, *rest = dotted.split(".")
    found = names.get(first)
    for part in rest:
        found = getattr(found, part, None)
    return found


def _is_like(found: Any, like: Any) -> bool:
    return isinstance(found, type) if isinstance(like, type) else callable(found)
