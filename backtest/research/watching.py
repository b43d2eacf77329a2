"""What a strategy does besides deciding: it reads stores and files, and draws random numbers."""

from __future__ import annotations

import itertools
import os
import random
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow.fs import LocalFileSystem

from backtest.errors import NoBars
from backtest.market import arrays
from backtest.market.series import Series
from backtest.market.span import Span, bounds_of
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
    """Make code that reads a store see other bars than the stored ones."""
    kinds: list[Any] = [Store, RemoteStore]
    methods = [(kind.read, kind._column) for kind in kinds]

    def changed(true: Any) -> Any:
        def read(self: Any, series: Series | str, span: Span | None = None, *, revision: int | None = None) -> Any:
            wanted = self.named(series)
            table = change(wanted, true(self, wanted, revision=revision))
            bars = table if span is None else between(table, span)
            if not len(bars):
                raise NoBars(f"{self.name} has no bars of {wanted.short} {bounds_of(span)}; name other dates")
            return bars

        return read

    def changed_column(true: Any, true_read: Any) -> Any:
        def column(self: Any, series: Series, field: str, asked: Any) -> tuple[np.ndarray, np.ndarray]:
            times, values = true(self, series, field, asked)
            if not len(times):
                return times, values
            bars = change(series, true_read(self, series))
            stamps = arrays.numbers(bars["time"])
            within = (stamps >= times[0]) & (stamps <= times[-1])
            return stamps[within], arrays.numbers(bars[field], np.nan).astype(float)[within]

        return column

    for kind, (read, column) in zip(kinds, methods, strict=True):
        kind.read, kind._column = changed(read), changed_column(column, read)  # a panel reads columns, and no tables
    try:
        yield
    finally:
        for kind, method in zip(kinds, methods, strict=True):
            kind.read, kind._column = method


@contextmanager
def files_noted(code: set[str]) -> Iterator[list[str]]:
    """
    Yield a list of the files that code opens for reading, itself or through a library other than this one.

    Python's audit hooks report each file that Python opens, but not those that Arrow opens: so Arrow's functions are
    wrapped. For another program that is started, the files are those in its command.

    Args:
        code: the files of the strategy's own code.
    """
    found: list[str] = []

    def note(path: Any) -> None:
        if isinstance(path, str | bytes | os.PathLike) and _asked_by(code, sys._getframe(1)):
            name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - a link keeps its own name
            known = name in found or name.endswith(_CODE) or _installed(name)
            if not known and os.path.exists(name):  # noqa: PTH110 - which raises nothing, whatever the name is
                found.append(name)

    def listen(event: str, arguments: tuple[Any, ...]) -> None:
        if not listening:
            return
        if (event == "open" and not _writes(arguments)) or event == "sqlite3.connect":
            note(arguments[0])
        if event in ("subprocess.Popen", "os.system", "os.posix_spawn"):
            for word in _words(arguments[0] if event == "os.system" else arguments[1]):
                if os.path.isfile(word):  # noqa: PTH113 - which raises nothing, however long a word is
                    note(word)

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
    from pyarrow import csv, dataset, feather, fs, json, parquet

    yield from ((pa, name) for name in ("memory_map", "OSFile", "input_stream"))
    for place, names in ((parquet, ("read_table", "read_pandas", "ParquetFile", "ParquetDataset")),
                         (feather, ("read_table", "read_feather")), (dataset, ("dataset", "parquet_dataset")),
                         (csv, ("read_csv", "open_csv")), (json, ("read_json", "open_json"))):  # fmt: skip
        yield from ((place, name) for name in names if hasattr(place, name))
    for library in _WITH_FILES_OF_THEIR_OWN:
        if find_spec(library) is not None:
            place = import_module(library)
            yield from ((place, name) for name in dir(place) if name.startswith(("read_", "scan_")))
    yield fs, "LocalFileSystem"


_WITH_FILES_OF_THEIR_OWN = ("polars", "duckdb")  # libraries that open files without Python's knowing


_WINDOWS_WORD = r"""\"([^"]*)\"|'([^']*)'|(\S+)"""


def _words(command: Any) -> list[str]:
    """Return the words of a command, as a list or as a shell reads it."""
    if isinstance(command, str | bytes):
        if sys.platform == "win32":  # where a backslash is part of a path
            return ["".join(parts) for parts in re.findall(_WINDOWS_WORD, os.fsdecode(command))]
        try:
            return shlex.split(os.fsdecode(command))
        except ValueError:  # a quote that is not closed
            return []
    words = [os.fsdecode(word) for word in command or () if isinstance(word, str | bytes | os.PathLike)]
    return [part for word in words for part in {word, *_words(word)}] if len(words) > 1 else words


def _noting(function: Any, note: Callable[[Any], None]) -> Any:
    if function is LocalFileSystem:

        class Noted(LocalFileSystem):
            """Files of this machine, each noted when it is opened for reading."""

            def open_input_file(self, path: Any) -> Any:
                note(path)
                return super().open_input_file(path)

            def open_input_stream(self, path: Any, *args: Any, **kwargs: Any) -> Any:
                note(path)
                return super().open_input_stream(path, *args, **kwargs)

        return Noted

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
    """Return whether code of these files opens a file itself, neither through this package nor by an import."""
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
    """Return whether a file may contain data after a date: by the dates in its text; True for other files."""
    if not file.endswith(_TEXTS):
        return True
    try:
        with Path(file).open(encoding="utf-8", errors="replace") as handle:
            text = handle.read(_LARGEST)
    except OSError:
        return False
    return any(int(found[1] or found[2]) >= first.year for found in _DATE.finditer(text))


def fix_chance() -> None:
    """Fix random numbers without a seed: the same ones in each process that calls this first, until it ends."""
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
