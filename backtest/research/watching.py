"""What a strategy does besides deciding, in a process that ends with the run: it reads stores and files, and draws."""

from __future__ import annotations

import itertools
import os
import random
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pyarrow as pa

from backtest.errors import NoBars
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.store.remote import RemoteStore
from backtest.store.store import Store
from backtest.store.tables import between

_OURS = str(Path(__file__).parents[1])
_CODE = (".py", ".pyc", ".pyi", ".so", ".pyd", ".dll", ".pth", ".ipynb")
_LARGEST = 1 << 24  # bytes of a text that are searched for dates
_TEXTS = (".csv", ".tsv", ".txt", ".json", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".md", ".xml")
_DATE = re.compile(r"(?<!\d)(\d{4})[-/.]?[01]\d[-/.]?[0-3]\d(?!\d)|(?<!\d)[0-3]?\d[-/.][0-3]?\d[-/.](\d{4})(?!\d)")


@contextmanager
def stores_changed(change: Callable[[Series, pa.Table], pa.Table]) -> Iterator[None]:
    """Let who reads a store read other bars than it has."""
    kinds: list[Any] = [Store, RemoteStore]
    methods = [kind.read for kind in kinds]

    def changed(true: Any) -> Any:
        def read(self: Any, series: Series | str, span: Span | None = None, *, revision: int | None = None) -> Any:
            wanted = self.named(series)
            table = change(wanted, true(self, wanted, revision=revision))
            bars = table if span is None else between(table, span)
            if not len(bars):
                raise NoBars(f"{self.name} has no bars of {wanted.short} from {span}; name other dates")
            return bars

        return read

    for kind, method in zip(kinds, methods, strict=True):
        kind.read = changed(method)
    try:
        yield
    finally:
        for kind, method in zip(kinds, methods, strict=True):
            kind.read = method


@contextmanager
def files_noted(code: set[str]) -> Iterator[list[str]]:
    """
    Yield a list of the files that code opens for reading, itself or through a library other than this one.

    Python tells who listens of each file that it opens, and of none that Arrow does: its functions are stood in for.

    Args:
        code: the files of the strategy's own code.
    """
    found: list[str] = []

    def note(path: Any) -> None:
        if isinstance(path, str | bytes | os.PathLike) and _asked_by(code, sys._getframe(1)):
            name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - a link keeps its own name
            if name not in found and not name.endswith(_CODE) and not _installed(name):
                found.append(name)

    def listen(event: str, arguments: tuple[Any, ...]) -> None:
        if not listening:
            return
        if (event == "open" and not _writes(arguments)) or event == "sqlite3.connect":
            note(arguments[0])

    listening = [True]
    sys.addaudithook(listen)  # which stays until the process ends
    doors = [(place, name, getattr(place, name)) for place, name in _doors()]
    for place, name, function in doors:
        setattr(place, name, _noting(function, note))
    try:
        yield found
    finally:
        listening.clear()
        for place, name, function in doors:
            setattr(place, name, function)


def _doors() -> Iterator[tuple[Any, str]]:
    from pyarrow import dataset, feather, parquet

    yield pa, "memory_map"
    yield pa, "OSFile"
    for place, names in ((parquet, ("read_table", "ParquetFile")), (feather, ("read_table", "read_feather")),
                         (dataset, ("dataset",))):  # fmt: skip
        for name in names:
            yield place, name


def _noting(function: Callable[..., Any], note: Callable[[Any], None]) -> Callable[..., Any]:
    def noted(*args: Any, **kwargs: Any) -> Any:
        for given in (*args[:1], *kwargs.values()):
            note(given)
        return function(*args, **kwargs)

    return noted


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = (*arguments, None, 0)[:3]
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax")
    return bool(isinstance(flags, int) and flags & (os.O_WRONLY | os.O_CREAT))


def _asked_by(code: set[str], frame: FrameType | None) -> bool:
    """Return whether code of these files is what asks, and asks neither this package nor for a module."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name in code:
            return True
        if (name.startswith(_OURS) and name != __file__) or "importlib" in name:
            return False
        frame = frame.f_back
    return False


def _installed(name: str) -> bool:
    return (
        name.startswith((sys.prefix, sys.base_prefix, "/usr/", "/dev/", "/proc/", "/sys/", "/etc/"))
        or "site-packages" in name
    )


def knows_more(file: str, first: date) -> bool:
    """Return whether a file may know more than a date: by a later date in its text; of what is no text nobody knows."""
    if not file.endswith(_TEXTS):
        return True
    try:
        with Path(file).open(encoding="utf-8", errors="replace") as handle:
            text = handle.read(_LARGEST)
    except OSError:
        return False
    return any(int(found[1] or found[2]) >= first.year for found in _DATE.finditer(text))


def fix_chance() -> None:
    """Let chance without a seed be the same in each process that calls this first; it stays so until it ends."""
    random.seed(0)
    np.random.seed(0)
    counted, drawn = itertools.count(), np.random.Generator(np.random.PCG64(0))
    seed, made = random.Random.seed, np.random.default_rng

    def seeded(self: Any, a: Any = None, version: int = 2) -> None:
        seed(self, next(counted) if a is None else a, version)

    def default_rng(seed: Any = None) -> Any:
        return made(next(counted) if seed is None else seed)

    def some_bytes(count: int) -> bytes:
        return drawn.bytes(count)

    changed: list[tuple[Any, str, Any]] = [
        (random.Random, "seed", seeded), (np.random, "default_rng", default_rng), (os, "urandom", some_bytes),
        (random, "_urandom", some_bytes),
    ]  # fmt: skip
    for place, name, value in changed:
        setattr(place, name, value)
