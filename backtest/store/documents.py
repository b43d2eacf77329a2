"""
`read_document`: read a JSON file from any origin, and refuse one that does not have the expected shape.

A shape is a function that takes a value and its path in the document, and raises `Misfit` if the value does not fit:
`TEXT`, `NUMBER`, `WHOLE`, `TRUTH`, `DAY`, `MOMENT`, `ANYTHING`; `one_of`, `either`, `every`, `list_of`, `mapped`,
`keyed` return others.
"""

from __future__ import annotations

import json
import math
import os
import reprlib
import stat
from collections.abc import Callable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import IO, Any

from backtest._system import opened_safely, opened_through_links
from backtest.errors import DamagedStore

Shape = Callable[[Any, str], None]

LARGEST_DOCUMENT = 1 << 28
"""Bytes of a document that is kept with a run, a sweep or a baseline; the largest known one has 30 million."""

LARGEST_TABLE = 1 << 36  # bytes of a table of a run
_DEEPEST = 100  # objects and lists in one another
_SHOWN = 60  # characters of a value in an error


class Misfit(ValueError):
    """A value does not have its shape; the text says where it is and what it should be."""


def open_plain(path: Path, limit: int, *, links: bool = False) -> IO[bytes]:
    """
    Open a file of any kind for reading, without waiting for a pipe or reading an endless device.

    Args:
        links: whether it may be a link: only if the user named it.

    Raises:
        FileNotFoundError: there is none.
        DamagedStore: it is a link, a folder, a pipe or a device, or has more bytes than the limit.
        OSError: it cannot be read.
    """
    if not links and path.is_symlink():
        raise DamagedStore(f"{path} is a symbolic link; put the file itself there")

    try:
        handle = open(path, "rb", opener=opened_through_links if links else opened_safely)  # noqa: SIM115 - the caller closes it
    except IsADirectoryError:
        raise DamagedStore(f"{path} is a folder, not a file; remove it") from None
    status = os.fstat(handle.fileno())
    if stat.S_ISREG(status.st_mode) and status.st_size <= limit:
        return handle
    handle.close()
    if stat.S_ISREG(status.st_mode):
        raise DamagedStore(f"{path} has {status.st_size:,} bytes, more than the limit of {limit:,}")
    raise DamagedStore(f"{path} is not a regular file; remove it")


def bytes_of(path: Path, limit: int, *, links: bool = False) -> bytes:
    """Return what a file holds; raise as `open_plain` does."""
    with open_plain(path, limit, links=links) as handle:
        data = handle.read(min(limit, os.fstat(handle.fileno()).st_size) + 1)  # for as many bytes room is made
    if len(data) > limit:
        raise DamagedStore(f"{path} has more than the {limit:,} bytes that it may have")
    return data


def read_document(path: Path, shape: Shape, *, links: bool = False, limit: int = LARGEST_DOCUMENT) -> Any:
    """
    Return the JSON document in a file.

    Raises:
        FileNotFoundError: there is none.
        DamagedStore: it is not a regular file, not JSON, or not of the shape; the text says where, but not what to do.
    """
    try:
        data = bytes_of(path, limit, links=links)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedStore(f"{path} cannot be read ({error.strerror})") from error
    try:
        found = document_in(data)
        shape(found, "")
    except Misfit as error:
        raise DamagedStore(f"{path}: {error}") from error
    return found


def document_in(data: bytes | str) -> Any:
    """
    Return the JSON document in bytes.

    Raises:
        Misfit: it is not JSON, has numbers that are not finite or that no float holds, or is nested too deeply.
    """
    found = values_in(data)
    _check_depth(found)
    _check_texts(found)
    return found


def values_in(data: bytes | str) -> Any:
    """
    Return the JSON document in bytes, like `document_in`, but without checking its depth and its strings.

    Raises:
        Misfit: it is not JSON, or has numbers that are not finite or that no float holds.
    """
    try:
        return json.loads(data, parse_constant=_constant, parse_float=_finite, parse_int=_held)
    except Misfit:
        raise
    except RecursionError:
        raise Misfit("it is nested too deeply") from None
    except ValueError as error:
        raise Misfit(f"it is not valid JSON ({error})") from error


def for_json(value: Any) -> Any:
    """Return plain data for JSON: None instead of numbers that are not finite, lists instead of tuples."""
    if isinstance(value, dict):
        return {name: for_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [for_json(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _constant(text: str) -> float:
    raise Misfit(f"it has the number {text}, which JSON does not allow")


def _finite(text: str) -> float:
    if not math.isfinite(found := float(text)):
        raise Misfit(f"it has the number {_cut(text)}, which is too large")
    return found


def _held(text: str) -> int:
    _finite(text)
    return int(text)


def _check_depth(found: Any) -> None:
    level, depth = [found], 0
    while level := [inner for one in level for inner in _inside(one)]:
        depth += 1
        if depth > _DEEPEST:
            raise Misfit("it is nested too deeply")


def _check_texts(found: Any) -> None:
    """Raise Misfit for half of a surrogate pair, which no file, page or terminal accepts."""
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise Misfit("it has half of a surrogate pair in a text") from error


def _inside(value: Any) -> list[Any]:
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [one for one in within if isinstance(one, dict | list)]


# --- shapes


def _anything(value: Any, key: str) -> None:
    """Accept any JSON value."""


def _text(value: Any, key: str) -> None:
    """Accept a string."""
    _require(isinstance(value, str), value, key, "a text")


def _number(value: Any, key: str) -> None:
    """Accept a number."""
    _require(isinstance(value, int | float) and not isinstance(value, bool), value, key, "a number")


def _whole(value: Any, key: str) -> None:
    """Accept a non-negative integer that fits into 64 bits."""
    good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
    _require(good, value, key, "a whole number")


def _truth(value: Any, key: str) -> None:
    """Accept true or false."""
    _require(isinstance(value, bool), value, key, "true or false")


def _day(value: Any, key: str) -> None:
    """Accept a date, such as 2024-01-02."""
    _require(isinstance(value, str) and _reads(date.fromisoformat, value), value, key, "a date such as 2024-01-02")


def _moment(value: Any, key: str) -> None:
    """Accept a time with a zone, such as 2024-01-02T00:00:00+00:00."""
    good = isinstance(value, str) and _reads(_zoned, value)
    _require(good, value, key, "a time such as 2024-01-02T00:00:00+00:00")


ANYTHING: Shape = _anything
TEXT: Shape = _text
NUMBER: Shape = _number
WHOLE: Shape = _whole
TRUTH: Shape = _truth
DAY: Shape = _day
MOMENT: Shape = _moment


def one_of(*known: Any) -> Shape:
    """Return the shape of a fixed set of values."""

    def shape(value: Any, key: str) -> None:
        good = any(value == one and type(value) is type(one) for one in known)
        _require(good, value, key, " or ".join(map(str, known)))

    return shape


def either(what: str, *shapes: Shape) -> Shape:
    """Return the shape of values that fit one of several shapes; `what` describes these."""

    def shape(value: Any, key: str) -> None:
        _require(any(_fits(one, value, key) for one in shapes), value, key, what)

    return shape


def every(*shapes: Shape) -> Shape:
    """Return the shape of values that fit all of several shapes."""

    def shape(value: Any, key: str) -> None:
        for one in shapes:
            one(value, key)

    return shape


def list_of(inner: Shape) -> Shape:
    """Return the shape of a list whose values fit a shape."""

    def shape(value: Any, key: str) -> None:
        _require(isinstance(value, list), value, key, "a list")
        for place, one in enumerate(value):
            inner(one, f"{key}[{place}]")

    return shape


def mapped(inner: Shape) -> Shape:
    """Return the shape of an object of any keys whose values fit a shape."""

    def shape(value: Any, key: str) -> None:
        _require(isinstance(value, dict), value, key, "an object")
        for name, one in value.items():
            inner(one, _below(key, name))

    return shape


def keyed(needed: Mapping[str, Shape], may: Mapping[str, Shape] | None = None, more: Shape | None = None) -> Shape:
    """
    Return the shape of an object that has some keys.

    Args:
        needed: the shapes of required keys.
        may: the shapes of optional keys.
        more: the shape of all other values; None if there may be no other keys.
    """
    known = {**needed, **(may or {})}

    def shape(value: Any, key: str) -> None:
        _require(isinstance(value, dict), value, key, "an object")
        for name in needed:
            if name not in value:
                raise Misfit(f"{_below(key, name)} is not there")
        for name, one in value.items():
            inner = known.get(name, more)
            if inner is None:
                raise Misfit(f"{_below(key, name)} is not known")
            inner(one, _below(key, name))

    return shape


def _below(key: str, name: str) -> str:
    shown = _cut(name) if name else '""'
    return f"{key}.{shown}" if key else shown


def _require(good: bool, value: Any, key: str, wanted: str) -> None:
    if not good:
        raise Misfit(f"{key or 'it'} is {reprlib.repr(value)}, not {wanted}")


def _cut(shown: str) -> str:
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


def _fits(shape: Shape, value: Any, key: str) -> bool:
    return _reads(lambda one: shape(one, key), value)


def _reads(read: Callable[[Any], object], value: Any) -> bool:
    try:
        read(value)
    except ValueError:
        return False
    return True


def _zoned(value: str) -> None:
    if datetime.fromisoformat(value).utcoffset() is None:
        raise ValueError
