"""
`Parcel`: an object for another process, with the code that this process could not import.

Classes and functions from a notebook cell, a prompt, the running script or a function body are sent by value, by
cloudpickle; so are the modules of the project that they use, as they are in memory. Objects of an installed package or
an importable file are sent by name. Classes derived from Backtrader's are taken apart and rebuilt: the classes that
Backtrader derives for their parameters and lines are in no file, and no name refers to them.
"""

from __future__ import annotations

import functools
import io
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from types import FunctionType, ModuleType
from typing import Any

import backtrader as bt

from backtest.errors import UsageError
from backtest.runs.parameters import STRATEGY_MODULE

# What Backtrader's metaclasses make of a class's body; it is made again, by them.
_MADE = ("params", "lines", "linealias", "plotinfo", "plotlines", "alias", "aliased")
_OF_PYTHON = ("__dict__", "__weakref__", "__module__", "__qualname__", "__doc__", "__slots__")
_registering = threading.Lock()  # cloudpickle has one table of modules, for all threads


class Parcel:
    """Content for other processes: packed when it is first sent, and unpacked once per receiving process."""

    def __init__(self, content: Any, modules: Iterable[str] = ()) -> None:
        """
        Make a parcel.

        Args:
            modules: names of loaded modules to send by value, as far as possible.
        """
        self._content, self._modules = content, tuple(modules)
        self._data: bytes | None = None

    @property
    def content(self) -> Any:
        """The content: the original object in the process that made the parcel, an equal one elsewhere."""
        return self._content

    def pack(self) -> bytes:
        """
        Return the parcel as bytes.

        Raises:
            UsageError: something in it cannot be sent.
        """
        if self._data is None:
            self._data = _packed(self._content, self._modules)
        return self._data

    def __reduce__(self) -> Any:
        return _arrived, (self.pack(),)


def typed(module: str) -> bool:
    """Return whether a module is a notebook, a prompt or the running script, which no other process can import."""
    if module == "__main__" or module.startswith(STRATEGY_MODULE):
        return True
    loaded = sys.modules.get(module)
    if module in sys.builtin_module_names or module.partition(".")[0] in sys.stdlib_module_names:
        return False
    spec = getattr(loaded, "__spec__", None)
    return loaded is None or (getattr(loaded, "__file__", None) is None and getattr(spec, "origin", None) is None)


def sent_by_value(thing: Any) -> bool:
    """Return whether a class or a function is sent by value, since no importable module has it under its name."""
    name = getattr(thing, "__module__", None) or ""
    if typed(name):
        return True
    found: Any = sys.modules[name]
    for part in thing.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is not thing


# --- packing


def _packed(content: Any, modules: Iterable[str]) -> bytes:
    loaded = [sys.modules[name] for name in modules if name in sys.modules and not typed(name)]
    for by_value in [loaded, []] if loaded else [[]]:
        try:
            with _registering, _by_value(by_value) as register:
                return _dumped(content, register)
        except Exception as error:  # noqa: BLE001 - what the objects' own classes raise, too
            cause = error
    text = str(cause).partition("\n")[0]
    raise UsageError(
        f"this cannot be sent to other processes ({type(cause).__name__}: {text}); keep what cannot be copied, such as "
        "locks and connections, out of the strategy and of what it refers to, or use one job"
    ) from cause


def _dumped(content: Any, register: Callable[[str], None]) -> bytes:
    import cloudpickle

    class Pickler(cloudpickle.Pickler):
        """Pickles what cloudpickle cannot."""

        def reducer_override(self, thing: Any) -> Any:
            """Return how to build an object again."""
            if isinstance(thing, functools.cached_property):  # which has a lock, up to Python 3.11
                return _cached_property, (thing.func, thing.attrname)
            if isinstance(thing, type | FunctionType) and sent_by_value(thing):
                if isinstance(thing, bt.MetaParams):
                    return _taken_apart(thing)
                if typed(thing.__module__):  # else cloudpickle finds itself that it has no name there
                    register(thing.__module__)
            return super().reducer_override(thing)

    buffer = io.BytesIO()
    Pickler(buffer).dump(content)
    return buffer.getvalue()


@contextmanager
def _by_value(modules: Iterable[ModuleType]) -> Iterator[Callable[[str], None]]:
    """Make cloudpickle send these modules by value, and those registered during the block."""
    import cloudpickle

    known, ours = cloudpickle.list_registry_pickle_by_value(), list[ModuleType]()

    def register(name: str) -> None:
        module = sys.modules.get(name)
        if module is not None and name != "__main__" and name not in {*known, *(one.__name__ for one in ours)}:
            cloudpickle.register_pickle_by_value(module)
            ours.append(module)

    try:
        for one in modules:
            register(one.__name__)
        yield register
    finally:
        for one in ours:
            cloudpickle.unregister_pickle_by_value(one)


def _taken_apart(cls: Any) -> Any:
    """Return how to rebuild a class derived from Backtrader's: first without its methods, which may refer to it."""
    body = {name: part for name, part in vars(cls).items() if name not in (*_MADE, *_OF_PYTHON)}
    named = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": vars(cls).get("__doc__")}
    declared = {**named, "aliased": vars(cls).get("aliased", ""), **_declared(cls)}
    return _made, (type(cls), cls.__name__, cls.__bases__, declared), body, None, None, _filled


def _declared(cls: Any) -> dict[str, Any]:
    """Return parameters, lines and similar declarations in the form in which a class body has them."""
    found: dict[str, Any] = {"params": tuple(cls.params._getitems())}
    if hasattr(cls, "lines"):
        base, lines = cls.lines._getlinesbase(), cls.lines._getlines()
        found["lines"] = tuple(lines[len(base) :])
        found["extralines"] = cls.lines._getlinesextra() - cls.lines._getlinesextrabase()
        above = [kind.lines._getlines() for kind in cls.__bases__ if hasattr(kind, "lines")]
        found["linesoverride"] = not base and any(above)
        for name in ("linealias", "plotinfo", "plotlines"):
            found[name] = dict(getattr(cls, name)._getitems())
    return found


# --- opening


def _arrived(data: bytes) -> Parcel:
    return Parcel(_opened(data))


@lru_cache(maxsize=2)  # each task of a sweep brings its parcel along
def _opened(data: bytes) -> Any:
    import pickle

    try:
        return pickle.loads(data)  # of the process that gives this one its work
    except ModuleNotFoundError as error:
        raise UsageError(
            f"a worker cannot import {error.name}, which the strategy needs; install it there, or give each worker the "
            "file, on its Python path"
        ) from error


def _made(meta: Any, name: str, bases: tuple[type, ...], declared: Mapping[str, Any]) -> Any:
    """Return a class without its methods."""
    sys.modules.setdefault(declared["__module__"], ModuleType(declared["__module__"]))  # where Backtrader looks
    return meta(name, bases, dict(declared))


def _filled(cls: Any, body: Mapping[str, Any]) -> Any:
    for name, part in body.items():
        setattr(cls, name, part)
    return cls


def _cached_property(function: Callable[[Any], Any], name: str) -> Any:
    made = functools.cached_property(function)
    made.attrname = name
    return made
