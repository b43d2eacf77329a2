"""Parameter values from a command line, each read by the type of its default."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from typing import Any
from zoneinfo import ZoneInfo

from backtest.runs.parameters import duration_of

Find = Callable[[str, Any], Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read texts of one type, and the name of a value with an example."""

    read: Callable[[str], Any]
    words: str


def value_of(text: str, default: Any, find: Find) -> Any:
    """
    Return the value in a text, for a parameter with this default.

    Args:
        find: returns the class or the function of a dotted name, such as "bt.ind.EMA", for this default.

    Raises:
        ValueError: the text is not such a value; the message says what it should be.
    """
    kind = type(default)
    if kind is str or default is None:
        return text
    if kind in (tuple, list, set, frozenset):
        return kind(_items(text, list(default), find))
    if kind is dict:
        return _pairs(text, default, find)
    if isinstance(default, enum.Enum):
        return _member(text, kind)
    reading = READINGS.get(kind)
    if reading:
        return _read(reading, text)
    if isinstance(default, type) or (callable(default) and hasattr(default, "__qualname__")):
        return find(text, default)
    if kind.__module__ == "numpy" and hasattr(default, "dtype") and not default.shape:
        return kind(_read(READINGS[type(default.item())], text))
    if isinstance(default, PurePath):
        return kind(text)
    raise ValueError(f"cannot be read, because a {kind.__name__} cannot be written as text; set it from Python")


def plain_value(text: str) -> Any:
    """Return the number, boolean or string that a text most likely means."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def split_items(text: str) -> list[str]:
    """Return the items between the commas of a text, ignoring commas inside brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _read(reading: Reading, text: str) -> Any:
    try:
        return reading.read(text.strip())
    except (ValueError, ArithmeticError, LookupError, OSError) as error:
        raise ValueError(f"is not {reading.words}") from error


def _items(text: str, defaults: list[Any], find: Find) -> list[Any]:
    words = _inside(text)
    if not words:
        return []
    parts = split_items(words)
    parts = parts[:-1] if len(parts) > 1 and not parts[-1] else parts  # "(5,)" is one
    like = defaults if len(defaults) == len(parts) else defaults[:1] * len(parts)
    if len({type(one) for one in defaults}) > 1 and len(defaults) != len(parts):
        raise ValueError(
            f"has {len(parts)} items, but its default has {len(defaults)} of several types; write {len(defaults)}"
        )
    if not like:
        return [plain_value(_unquoted(part)) for part in parts]
    return [_item(part, one, find) for part, one in zip(parts, like, strict=True)]


def _pairs(text: str, default: Mapping[Any, Any], find: Find) -> dict[Any, Any]:
    words, pairs = _inside(text), {}
    key_like, value_like = next(iter(default.items()), (_ANY, _ANY))
    for part in split_items(words) if words else []:
        key, mark, value = part.partition(":")
        if not mark:
            raise ValueError("is not a dict; write KEY:VALUE, separated by commas, such as 10:100,20:300")
        pairs[_item(key.strip(), key_like, find)] = _item(value.strip(), value_like, find)
    return pairs


_ANY = object()


def _item(text: str, like: Any, find: Find) -> Any:
    return plain_value(_unquoted(text)) if like is _ANY else value_of(_unquoted(text), like, find)


def _inside(text: str) -> str:
    """Return a text without the brackets around it."""
    text = text.strip()
    closing = {"(": ")", "[": "]", "{": "}"}.get(text[:1])
    return text[1:-1].strip() if closing and text.endswith(closing) and _closes_at_end(text) else text


def _closes_at_end(text: str) -> bool:
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if depth == 0:
            return place == len(text) - 1
    return False


def _unquoted(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def _member(text: str, kind: type[enum.Enum]) -> enum.Enum:
    name = text.strip().rpartition(".")[2]
    if name in kind.__members__:
        return kind[name]
    found = next((one for one in kind if str(one.value) == text.strip()), None)
    if found is None:
        raise ValueError(f"is not one of {', '.join(kind.__members__)}")
    return found


def _truth(text: str) -> bool:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]


READINGS: dict[type[Any], Reading] = {
    bool: Reading(_truth, "true or false"),
    int: Reading(int, "a whole number"),
    float: Reading(float, "a number"),
    complex: Reading(complex, "a complex number such as 1+2j"),
    dt.date: Reading(dt.date.fromisoformat, "a date such as 2024-03-28"),
    dt.datetime: Reading(dt.datetime.fromisoformat, "a date and time such as 2024-03-28T15:30:00"),
    dt.time: Reading(dt.time.fromisoformat, "a time such as 15:30"),
    dt.timedelta: Reading(duration_of, "a duration such as 5d, 2h30m, 90s or 1:30:00"),
    Decimal: Reading(Decimal, "a decimal number such as 0.1"),
    Fraction: Reading(Fraction, "a fraction such as 1/3"),
    bytes: Reading(str.encode, "a text"),
    ZoneInfo: Reading(ZoneInfo, "a time zone such as America/New_York"),
}
