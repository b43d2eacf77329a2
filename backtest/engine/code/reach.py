"""
What a class or a function from Python depends on: its source files, and everything else that affects it.

The text of a file determines nearly everything. The rest is read from memory: constants that a script set, and code
that was typed at a prompt or in a notebook, or that was loaded before its file was edited.
"""

from __future__ import annotations

import dis
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from backtest.engine.code.imports import came_along, changed, source_digest
from backtest.runs.parameters import can_be_kept, form_of

_SHARED = {"backtest", "backtrader", "builtins", *sys.stdlib_module_names} - {"__main__"}
_CONSTANTS = (bool, int, float, complex, str, bytes, type(None))
_CONTAINERS = (tuple, frozenset, list, set, dict)
_MUTATORS = {"add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft", "remove", "reverse",
             "setdefault", "sort", "update", "write", "appendleft"}  # fmt: skip
_MADE_BY_BACKTRADER = {"params", "p", "lines", "l", "linealias", "plotinfo", "plotlines", "alias", "aliased"}


class Reach(NamedTuple):
    """A hash of the dependencies, and the files among them, by the names of their modules."""

    digest: str
    files: Mapping[str, Path]


def reach_of(thing: Any) -> Reach:
    """Return what a class or a function depends on in its project."""
    first = _Walk(frozenset(), frozenset())
    first.told(thing)
    walk = _Walk(frozenset(first.changed), frozenset(first.stored))  # not constant if a function changes it
    said = walk.told(thing)
    texts = {name: _digest_of_file(file, changed(file)) for name, file in sorted(walk.files.items())}
    home = texts.get(getattr(thing, "__module__", "") or "", "")
    text = json.dumps([home, said], sort_keys=True)
    return Reach(hashlib.sha256(text.encode()).hexdigest(), walk.files)


class _Walk:
    """Visits everything that the code of a class or a function names, each once."""

    def __init__(self, state: frozenset[str], attributes: frozenset[str]) -> None:
        """
        Begin a walk.

        Args:
            state: names of globals to omit, since they change while the strategy runs.
            attributes: names of attributes to omit for the same reason, if a file's text gives their initial values.
        """
        self.state, self.attributes = state, attributes
        self.changed: set[str] = set()
        self.stored: set[str] = set()
        self.files: dict[str, Path] = {}
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []  # whose ids stay theirs

    def told(self, value: Any, typed: bool = True) -> Any:
        """
        Return the JSON that identifies a value.

        Args:
            typed: whether no file's text determines the value, so that the current content of lists and the like
                counts.
        """
        if isinstance(value, _CONSTANTS) and type(value) in _CONSTANTS:
            return [type(value).__name__, repr(value)]
        if id(value) in self._seen:
            return ["again", self._seen[id(value)]]
        self._seen[id(value)] = len(self._seen)
        self._alive.append(value)
        if isinstance(value, staticmethod | classmethod):
            return self.told(value.__func__, typed)
        if isinstance(value, property):
            return [self.told(one, typed) for one in (value.fget, value.fset, value.fdel)]
        if hasattr(value, "__wrapped__") and not isinstance(value, FunctionType | type):
            return self.told(value.__wrapped__, typed)  # such as one with a cache
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, tuple | frozenset) or (typed and isinstance(value, _CONTAINERS)):
            return self._container(value, typed)
        return self._object(value, typed)

    def _container(self, value: Any, typed: bool) -> Any:
        kind = type(value).__name__
        if isinstance(value, dict):
            return [kind, [[self.told(key, typed), self.told(one, typed)] for key, one in value.items()]]
        items = [self.told(one, typed) for one in value]
        return [kind, sorted(items, key=json.dumps) if isinstance(value, set | frozenset) else items]

    def _object(self, value: Any, typed: bool) -> Any:
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if isinstance(value, ModuleType):
            return ["module", value.__name__]
        if not typed:
            return name
        top = kind.__module__.partition(".")[0]
        if top == "numpy" and hasattr(value, "tobytes") and not value.dtype.hasobject:
            return [name, str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
        if top == "pandas" and hasattr(value, "index") and hasattr(value, "iloc"):
            return [name, _of_pandas(value)]
        if can_be_kept(value):
            return [name, form_of(value)]
        inside = vars(value) if _is_of_project(kind.__module__) and hasattr(value, "__dict__") else {}
        return [name, self.told(kind), {key: self.told(one) for key, one in sorted(inside.items())}]

    def _function(self, function: FunctionType) -> Any:
        module = function.__globals__.get("__name__", "")
        if not _is_of_project(module, function.__code__.co_filename):
            return [module, function.__qualname__]
        file = self._file(module, function.__globals__.get("__file__"))
        code, typed = function.__code__, file is None
        facts = _facts(code)
        self.changed |= facts.changed
        self.stored |= facts.stored
        known = {name: function.__globals__[name] for name in facts.names if name in function.__globals__}
        inside = {
            f"{module_name}.{name}": vars(thing)[name]
            for module_name, thing in known.items()
            if isinstance(thing, ModuleType) and _is_of_project(thing.__name__, getattr(thing, "__file__", None))
            for name in facts.names
            if name in vars(thing)
        }
        reached = {name: thing for name, thing in {**known, **inside}.items() if name not in self.state}
        cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
        return [
            module,
            function.__qualname__,
            "" if file and _is_in(code, file) else _digest_of_code(code),
            self.told([function.__defaults__, function.__kwdefaults__], typed=True) if typed else "",
            [self.told(one, typed) for one in cells],
            {name: self.told(thing, typed) for name, thing in sorted(reached.items())},
        ]

    def _class(self, cls: type[Any]) -> Any:
        own = [kind for kind in cls.__mro__ if _is_of_project(kind.__module__)]
        return [f"{cls.__module__}.{cls.__qualname__}", [self._own_part(kind) for kind in own]]

    def _own_part(self, cls: type[Any]) -> Any:
        typed = self._file(cls.__module__, getattr(sys.modules.get(cls.__module__), "__file__", None)) is None
        parts = {
            name: self.told(part, typed)
            for name, part in sorted(vars(cls).items())
            if _counts(name, part, typed) and (typed or name not in self.attributes)
        }
        for name in ("params", "plotinfo"):
            found: Any = getattr(cls, name, None)
            if typed and hasattr(found, "_getitems"):
                parts[name] = self.told([list(pair) for pair in found._getitems()])
        if typed and hasattr(getattr(cls, "lines", None), "getlinealiases"):
            parts["lines"] = list(getattr(cls, "lines").getlinealiases())  # noqa: B009 - Backtrader's, which types do not know
        return [cls.__qualname__, parts]

    def _file(self, module: str, file: str | None) -> Path | None:
        """Return the file of a module, and record it; None for typed code."""
        path = Path(file) if file else None
        if path is None or path.suffix != ".py" or not path.is_file():
            return None
        self.files[module] = path
        return path


def _counts(name: str, part: Any, typed: bool) -> bool:
    """Return whether an attribute of a class affects its behaviour beyond the text of its file."""
    if name in _MADE_BY_BACKTRADER:
        return False
    if isinstance(part, FunctionType | staticmethod | classmethod | property):
        return True
    if name.startswith("_"):
        return False
    return typed or isinstance(part, (*_CONSTANTS, tuple, frozenset))


def _is_of_project(module: str, file: str | None = None) -> bool:
    """Return whether a module is neither Python's nor an installed package's, as far as its name and file say."""
    if module.partition(".")[0] in _SHARED:
        return False
    file = file or getattr(sys.modules.get(module), "__file__", None)
    return not (file and came_along(file))


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


class _Facts(NamedTuple):
    names: frozenset[str]  # that code may look up
    changed: frozenset[str]  # globals that it assigns or changes: the state of a run, and no constant
    stored: frozenset[str]  # attributes that it assigns


@lru_cache(maxsize=4096)
def _facts(code: CodeType) -> _Facts:
    names, changed_names, stored = set(code.co_names), set[str](), set[str]()
    before: list[dis.Instruction] = []
    for one in dis.get_instructions(code):
        if one.opname == "STORE_GLOBAL":
            changed_names.add(one.argval)
        elif one.opname in ("LOAD_METHOD", "LOAD_ATTR") and one.argval in _MUTATORS and before:
            changed_names |= {before[-1].argval} if before[-1].opname in _LOADS else set()
        elif one.opname in ("STORE_SUBSCR", "DELETE_SUBSCR", "STORE_ATTR"):
            changed_names |= {other.argval for other in before[-2:] if other.opname in _LOADS}
            changed_names |= _container_below(before)
        elif one.opname == "COPY" and before and before[-1].opname == "COPY":  # as in COUNTS[name] += 1
            changed_names |= _container_below(before[:-1])
        if one.opname == "STORE_ATTR":
            stored.add(one.argval)
        before.append(one)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _facts(constant).names
            changed_names |= _facts(constant).changed
            stored |= _facts(constant).stored
    return _Facts(frozenset(names), frozenset(changed_names), frozenset(stored))


def _container_below(before: list[dis.Instruction]) -> set[str]:
    """Return the global just below the top of the stack, such as the one whose item is assigned."""
    missing = 1
    for place in range(len(before) - 1, 0, -1):
        one = before[place]
        missing -= dis.stack_effect(one.opcode, one.arg if one.opcode >= dis.HAVE_ARGUMENT else None)
        if missing <= 0:
            below = before[place - 1]
            return {below.argval} if below.opname in _LOADS else set()
    return set()


_LOADS = {"LOAD_GLOBAL", "LOAD_NAME"}


@lru_cache(maxsize=64)
def _codes(file: Path, changed: tuple[int, int]) -> frozenset[CodeType]:
    """Return all code of a file as it is on the disk now."""
    try:
        return frozenset(_with_inner(compile(file.read_bytes(), str(file), "exec", dont_inherit=True)))
    except (SyntaxError, ValueError):
        return frozenset()


def _is_in(code: CodeType, file: Path) -> bool:
    """Return whether code is in a file as it is now; a decorator may have created some of it from the file's text."""
    return code.co_filename.startswith("<") or code in _codes(file, changed(file))


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_inner(constant)


def _digest_of_code(code: CodeType) -> str:
    """Return a hash of code, the same wherever it was defined; another version of Python may have another."""
    return hashlib.sha256(repr(_plain_code(code)).encode()).hexdigest()[:16]


def _plain_code(code: CodeType) -> Any:
    constants = [_plain_constant(one) for one in code.co_consts]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return code.co_name, code.co_flags, code.co_argcount, code.co_kwonlyargcount, code.co_code, constants, names


def _plain_constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return _plain_code(value)
    return sorted(map(repr, value)) if isinstance(value, frozenset) else (type(value).__name__, repr(value))


def _of_pandas(value: Any) -> str:
    import pandas as pd

    try:
        rows = pd.util.hash_pandas_object(value).to_numpy().tobytes()
    except TypeError:  # of objects that have no hash
        return "?"
    return hashlib.sha256(rows + repr(getattr(value, "columns", "")).encode()).hexdigest()


@lru_cache(maxsize=256)
def _digest_of_file(file: Path, changed: tuple[int, int]) -> str:
    return source_digest(file.read_bytes())
