"""Checks and conversion of the arguments of public calls; an invalid one is refused with the form to write."""

from __future__ import annotations

import errno
import inspect
import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from backtest._suggest import there_are
from backtest._system import opened_through_links
from backtest.errors import UsageError

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])
_LONGEST = 80  # characters of a value that a message repeats
_LONGEST_NAME = 255  # bytes of a file's name on common disks
_LARGEST = 1 << 28  # bytes of a file that a user passes: dividends, splits, rates, weights, members


def shown(value: object) -> str:
    """Return a value for a message: short, and with its type if the value alone does not show that."""
    if value is None or isinstance(value, bool):
        return repr(value)
    text = repr(value) if isinstance(value, str | int | float | list | tuple | dict) else ""
    kind = type(value).__name__
    if not text:
        return f"an object of type {kind}"
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return text if isinstance(value, str | int | float) else f"the {kind} {text}"


def refuse(name: str, value: object, example: str, cause: BaseException | None = None) -> NoReturn:
    """
    Raise the error about an invalid argument.

    Args:
        example: the form to write, such as "write 0.02 for 2 %".

    Raises:
        UsageError: always.
    """
    raise UsageError(f"{name} is {shown(value)}; {example}") from cause


def number(value: Any, name: str, example: str = "write a number, such as 100000") -> float:
    """
    Return a finite number, given as such or as text such as "1e5".

    Raises:
        UsageError: it is not one.
    """
    if isinstance(value, Real | str) and not isinstance(value, bool):
        try:
            found = float(value)
        except (ValueError, OverflowError) as error:
            refuse(name, value, example, error)
        if math.isfinite(found):
            return found
    refuse(name, value, example)


def not_a_number(part: str, whole_text: str) -> str:
    """Return in words that a part of a text is not a number; the whole may be that part, quoted."""
    return (
        f"{whole_text} is not a number"
        if whole_text.endswith(repr(part))
        else f"{part!r} in {whole_text} is not a number"
    )


def whole(value: Any, name: str, least: int = 0, example: str = "") -> int:
    """
    Return a whole number, given as such or as text such as "10".

    Raises:
        UsageError: it is not one, or below the least.
    """
    example = example or f"write a whole number, {least} or more"
    found = number(value, name, example)
    if found != math.floor(found) or found < least:
        refuse(name, value, example)
    return int(value) if isinstance(value, int) else int(found)


def seed_of(value: Any) -> int:
    """
    Return a random seed.

    Raises:
        UsageError: it is not a whole number from 0 on.
    """
    return whole(value, "seed")


def truth(value: Any, name: str) -> bool:
    """
    Return a boolean; numbers and texts are refused, since "False" would count as true.

    Raises:
        UsageError: it is neither True nor False.
    """
    if isinstance(value, bool):
        return value
    refuse(name, value, "write True or False")


def word(value: Any, name: str, known: Iterable[str]) -> str:
    """
    Return one of the known words.

    Raises:
        UsageError: there is no such word; the text lists the known ones and suggests the nearest.
    """
    words = list(known)
    if isinstance(value, str) and value in words:
        return value
    refuse(name, value, there_are(value if isinstance(value, str) else "", words))


def text(value: Any, name: str, example: str) -> str:
    """
    Return a text.

    Raises:
        UsageError: it is not one.
    """
    if isinstance(value, str):
        return value
    refuse(name, value, example)


def path(value: Any, name: str, example: str = "write the path of a folder") -> Path:
    """
    Return a path, given as such or as text.

    Raises:
        UsageError: it is not a path, is empty, is a URL, or is a name that no disk accepts.
    """
    if is_url(value):
        refuse(name, value, f"that is a URL, but a local path is expected; {example}")
    if isinstance(value, str | os.PathLike) and (written := os.fspath(value)):
        found = Path(os.fsdecode(written))
        if "\0" not in str(found) and all(_fits(part) for part in found.parts):
            return found
    refuse(name, value, example)


def _fits(part: str) -> bool:
    """Return whether a disk takes a name; half of a surrogate pair has no bytes."""
    try:
        return len(os.fsencode(part)) <= _LONGEST_NAME
    except UnicodeEncodeError:
        return False


def named_bytes(path: Path) -> bytes:
    """
    Return the content of a file that the user named; the name may be a link.

    Raises:
        OSError: it cannot be read, is too large, or is not a regular file but, for example, a pipe or an endless
            device.
    """
    with open(path, "rb", opener=opened_through_links) as handle:
        status = os.fstat(handle.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        if status.st_size > _LARGEST:
            raise OSError(errno.EFBIG, f"it has {status.st_size:,} bytes, more than {_LARGEST:,}", str(path))
        return handle.read(status.st_size)


def text_of(path: Path) -> str:
    """
    Return the text in a file that the user named, as UTF-8.

    Raises:
        OSError: as `named_bytes`.
        UnicodeDecodeError: it is not UTF-8.
    """
    return named_bytes(path).decode("utf-8-sig")


def rows_of(path: Path) -> list[list[str]]:
    """
    Return the cells of each line of a CSV file that the user named, without empty lines.

    Raises:
        OSError: as `named_bytes`.
        ValueError: it is not text, or not CSV.
    """
    import csv

    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(text_of(path).splitlines())]
    except csv.Error as error:
        raise ValueError(str(error)) from error
    return [row for row in rows if any(row)]


def is_url(value: Any) -> bool:
    """Return whether a text begins like a URL, with more than a drive letter before the colon: s3://BUCKET."""
    return isinstance(value, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", value) is not None


def instance(value: Any, name: str, kind: type[_T], example: str) -> _T:
    """
    Return an object, which must be of a given type.

    Raises:
        UsageError: it is of another type.
    """
    if isinstance(value, kind):
        return value
    refuse(name, value, example)


def mapping(value: Any, name: str, example: str) -> dict[str, Any]:
    """
    Return values by name; no values for None.

    Raises:
        UsageError: it is not a mapping, or a name is not a text.
    """
    if value is None:
        return {}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return dict(value)
    refuse(name, value, example)


def several(value: Any, name: str, example: str) -> list[Any]:
    """
    Return the items of an iterable; a text is refused, since it is one item.

    Raises:
        UsageError: it is not iterable.
    """
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        return list(value)
    refuse(name, value, example)


def function(value: Any, name: str, example: str) -> Callable[..., Any]:
    """
    Return a callable.

    Raises:
        UsageError: it cannot be called.
    """
    if callable(value):
        made: Callable[..., Any] = value
        return made
    refuse(name, value, example)


def spelled_out(
    options: Mapping[str, Any], defaults: Mapping[str, Any], evaluate: bool = False, described: str | None = None
) -> Callable[[_F], _F]:
    """
    Return a decorator for a function whose last parameter is `**options`: its signature then shows them one by one.

    So `help`, notebooks, the reference and the command line show each option with its type and default.

    Args:
        options: the types by the names, such as the annotations of a TypedDict.
        defaults: the values of options that are not given.
        evaluate: whether to evaluate the annotations of the function's own parameters, which are text.
        described: a docstring that describes the options as arguments; these descriptions are added to the function's
            docstring.
    """

    def show(function: _F) -> _F:
        signature = inspect.signature(function, eval_str=evaluate)
        own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        more = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=kind)
            for name, kind in options.items()
        ]
        shown: Any = function
        shown.__signature__ = signature.replace(parameters=[*own, *more])
        if described and function.__doc__:  # Python's -OO removes docstrings
            shown.__doc__ = _telling(inspect.cleandoc(function.__doc__), _told(inspect.cleandoc(described)))
        return function

    return show


def _telling(docstring: str, items: str) -> str:
    """Return a docstring with more items at the end of its arguments."""
    own = _told(docstring)
    return docstring.replace(own, f"{own}\n{items}")


def _told(docstring: str) -> str:
    """Return the items of a docstring's arguments."""
    return docstring.partition("\nArgs:\n")[2].partition("\n\n")[0]
