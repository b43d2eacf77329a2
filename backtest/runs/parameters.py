"""
The stored form of parameters: JSON that gives the same values of the same types again.

Numbers, strings, booleans, None and lists are stored unchanged, and so is a dict whose keys are strings in sorted
order. Anything else is an object with one key, which gives its type: {"$tuple": [5, 20]}, {"$date": "2001-01-01"},
{"$class": "backtrader.indicators.sma:SMA"}. `kinds` lists all types.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import functools
import importlib
import json
import math
import re
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from backtest.errors import UsageError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

STRATEGY_MODULE = "backtest_strategy_"  # how the names begin of modules that were loaded from strategies' files


@dataclass(frozen=True, slots=True, eq=False)
class Named:
    """
    A value stored by its name: a class, a function, a member of an enumeration; equal to the value itself.

    Attributes:
        kind: "class", "function", "enum", "module"; "made" for an object built from the class of this name and
            `content`; or "default" for the object that is the default of the strategy's parameter of this name.
        name: module and name, as in "backtrader.indicators.sma:SMA"; ":Own" is in the strategy's own file.
    """

    kind: str
    name: str
    content: Any = None

    def __eq__(self, other: object) -> bool:
        try:
            return _text(form_of(self)) == _text(form_of(other))
        except _Unkept:
            return NotImplemented

    def __hash__(self) -> int:
        return hash((self.kind, self.name))

    def __repr__(self) -> str:
        if self.kind == "default":
            return f"the default of {self.name}"
        module, _, inside = self.name.partition(":")
        shown = inside if not module or module.partition(".")[0] == "backtrader" else f"{module}.{inside}".strip(".")
        return f"{shown}({self.content!r})" if self.kind == "made" else shown


class _Unkept(ValueError):
    """A value has no form."""


class Kind(NamedTuple):
    """How to store values of one type: as plain values, or as others that are stored in turn."""

    type: type[Any]
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def kept_params(params: Mapping[str, Any], for_key: bool = False) -> dict[str, Any]:
    """
    Return parameters as JSON values.

    Args:
        for_key: whether to use the form that is hashed for keys: that of version 0.1.0, for all values that it could
            store.

    Raises:
        UsageError: a value has no stored form; the text names the parameter.
    """
    return {name: _kept_param(name, value, for_key) for name, value in params.items()}


def read_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return parameters from their stored form; a value stored by its name is a `Named`.

    Raises:
        ValueError: it is not a result of `kept_params`.
    """
    try:
        return {name: read_form(value) for name, value in params.items()}
    except (ArithmeticError, LookupError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"the parameters are not in the form they are kept in ({error})") from error


def as_kept(params: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return parameters as they are after storing and reading: copies, with a `Named` for a value stored by its name.

    Raises:
        UsageError: a value has no stored form; the text names the parameter.
    """
    return read_params(kept_params(params))


def can_be_kept(value: Any) -> bool:
    """Return whether a value can be stored."""
    try:
        form_of(value)
    except _Unkept:
        return False
    return True


def form_of(value: Any, for_key: bool = False) -> Any:
    """Return the stored form of a value; raise a ValueError that says why there is none."""
    try:
        return _kept(value, for_key)
    except RecursionError as error:
        raise _Unkept("a value that contains itself") from error


def read_form(form: Any) -> Any:
    """Return the value of a stored form."""
    if isinstance(form, list):
        return [read_form(one) for one in form]
    if not isinstance(form, dict):
        return form
    if len(form) == 1:
        ((tag, content),) = form.items()
        if tag in _NAMED:
            return Named(tag[1:], content)
        if tag == "$made":
            return Named("made", content[0], read_form(content[1]))
        if tag in kinds():
            return kinds()[tag].read(read_form(content))
    return {name: read_form(one) for name, one in form.items()}


def distinct(values: Iterable[Any]) -> list[Any]:
    """Return values without duplicates; they need not be hashable."""
    return list({_text(form_of(value)): value for value in reversed(list(values))}.values())[::-1]


def resolved(value: Any, find: Callable[[Named], Any]) -> Any:
    """Return a copy of a value with each `Named` replaced by its value."""
    if isinstance(value, Named):
        if value.kind != "made":
            return find(value)
        return _made(find(Named("class", value.name)), resolved(value.content, find))
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(resolved(one, find) for one in value)
    if type(value) is dict:
        return {resolved(key, find): resolved(one, find) for key, one in value.items()}
    return value


def in_words(value: Any) -> str:
    """Return a value as text for people."""
    if isinstance(value, dt.timedelta):
        return duration_text(value)
    if isinstance(value, tuple | set | frozenset):
        inside = ", ".join(map(in_words, value if isinstance(value, tuple) else _sorted(value)))
        return f"({inside})" if isinstance(value, tuple) else f"{{{inside}}}"
    return str(value)


def words_of(params: Mapping[str, Any]) -> str:
    """Return parameters as text for people."""
    return ", ".join(f"{name}={in_words(value)}" for name, value in params.items())


def names_in(value: Any) -> list[Named]:
    """Return each `Named` in a value, or the value itself."""
    if isinstance(value, Named):
        return [value, *names_in(value.content)]
    if isinstance(value, dict):
        return [one for pair in value.items() for part in pair for one in names_in(part)]
    return (
        [one for part in value for one in names_in(part)] if isinstance(value, list | tuple | set | frozenset) else []
    )


def named(value: Any) -> Named:
    """Return the name under which a value is stored; raise a ValueError if it has none."""
    if isinstance(value, Named):
        return value
    if isinstance(value, types.ModuleType):
        return Named("module", f"{_module_name(value.__name__)}:")
    if isinstance(value, enum.Enum):
        if value.name is None:
            raise _Unkept("a combination of flags without a name; name it in its class")
        return Named("enum", f"{_name_of(type(value))}.{value.name}")
    if isinstance(value, type):
        return Named("class", _name_of(value))
    if type(value).__name__ == "ufunc":  # numpy's have no other name
        return Named("function", f"numpy:{value.__name__}")
    if callable(value) and isinstance(getattr(value, "__qualname__", None), str):
        owner = getattr(value, "__self__", None)
        if isinstance(owner, type):
            return Named("function", f"{_name_of(owner)}.{value.__name__}")
        if owner is None or isinstance(owner, types.ModuleType):
            return Named("function", _name_of(value))
        raise _Unkept("a method of an object")
    raise _Unkept(f"an object of type {type(value).__name__}")


def found_by(name: Named, module: Callable[[str], Any]) -> Any:
    """
    Return the object that a name refers to.

    Args:
        module: returns a module by its name, "" for the strategy's own.

    Raises:
        ImportError, AttributeError: there is no such object.
    """
    place, _, inside = name.name.partition(":")
    found = module(place)
    *outer, last = inside.split(".")
    for part in outer:
        found = getattr(found, part)
    if not last:
        return found
    if name.kind == "enum":  # of flags, one or several
        return functools.reduce(lambda one, other: one | other, (getattr(found, part) for part in last.split("|")))
    return getattr(found, last)


# --- durations, as people write them


_UNITS = {"w": 604_800_000_000, "d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000}
_CLOCK = re.compile(r"(?:(-?\d+) days?, )?(-?)(\d+):(\d\d)(?::(\d\d(?:\.\d{1,6})?))?")


def duration_of(text: str) -> dt.timedelta:
    """Return the duration that a text spells: "5d", "1d12h", "90s", "-2h30m", "1:30:00"; raise ValueError for none."""
    if clock := _CLOCK.fullmatch(text.strip()):
        days, sign, hours, minutes, seconds = clock.groups()
        part = dt.timedelta(hours=int(hours), minutes=int(minutes)) + _times(seconds or "0", "s")
        return dt.timedelta(days=int(days or 0)) + (-part if sign else part)
    found = re.fullmatch(r"(-?)((?:\d+(?:\.\d+)?[wdhms])+)", text.strip().replace(" ", ""))
    if not found:
        raise ValueError(f"{text!r} is not a duration")
    parts = re.findall(r"(\d+(?:\.\d+)?)([wdhms])", found[2])
    total = sum((_times(number, unit) for number, unit in parts), dt.timedelta())
    return -total if found[1] else total


def duration_text(duration: dt.timedelta) -> str:
    """Return a duration as `duration_of` reads it, to the microsecond."""
    left = (duration.days * 86_400 + duration.seconds) * 1_000_000 + duration.microseconds
    sign, left, text = "-" * (left < 0), abs(left), ""
    for unit in ("d", "h", "m"):
        count, left = divmod(left, _UNITS[unit])
        text += f"{count}{unit}" * bool(count)
    seconds = f"{left // 1_000_000}.{left % 1_000_000:06}".rstrip("0").rstrip(".")
    return sign + (f"{text}{seconds}s" if left or not text else text)


def _times(number: str, unit: str) -> dt.timedelta:
    from decimal import Decimal

    return dt.timedelta(microseconds=int(Decimal(number) * _UNITS[unit]))


# --- forms


def _kept_param(name: str, value: Any, for_key: bool) -> Any:
    try:
        return form_of(value, for_key)
    except _Unkept as error:
        raise UsageError(
            f"the parameter {name} cannot be saved with the run: it is, or holds, {error}; use numbers, strings, "
            "dates, "
            "times, lists, tuples, sets, dicts, or classes and functions that stand at the top of a file"
        ) from error


def _kept(value: Any, for_key: bool) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, str) or (kind is float and math.isfinite(value)):
        return value
    if kind is list:
        return [_kept(one, for_key) for one in value]
    if kind is dict and _plain_keys(value, for_key):
        return {name: _kept(one, for_key) for name, one in value.items()}
    if kind.__module__ == "numpy":
        return _of_numpy(value, for_key)
    for tag, row in kinds().items():
        if row.type is kind:
            return {tag: _kept(row.write(value), for_key)}
    if kind.__module__.partition(".")[0] == "pandas" and kind.__name__ in _OF_PANDAS:
        return {_OF_PANDAS[kind.__name__]: _kept([value.as_unit("ns").value, value.unit, _zone(value)], for_key)}
    if isinstance(value, Named) and value.kind == "made":
        return {"$made": [value.name, _kept(value.content, for_key)]}
    if isinstance(value, PurePath):
        return {"$path": value.as_posix()}
    made = None if isinstance(value, Named | enum.Enum | type) else _content_of(value)
    if made is not None:
        return {"$made": [_name_of(kind), _kept(made, for_key)]}
    name = named(value)
    return {f"${name.kind}": name.name}


def _plain_keys(value: dict[Any, Any], for_key: bool) -> bool:
    """Return whether a dict can be a JSON object: sorted string keys, none of which begins with "$"."""
    names = list(value)
    texts = all(type(name) is str and not name.startswith("$") for name in names)
    return texts and (for_key or names == sorted(names))


def _content_of(value: Any) -> Any:
    """Return the content from which a class can rebuild an object: its fields, or the items of a container."""
    if dataclasses.is_dataclass(value):
        if all(one.init for one in dataclasses.fields(value)):
            return {"fields": {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}}
        return None
    kinds: tuple[Any, ...] = (int, float, str, tuple, list, set, frozenset, dict)
    for plain in kinds:
        if isinstance(value, plain):
            content = {"items": plain(value)}
            with_items = _tried(type(value), content)
            return content if type(with_items) is type(value) and with_items == value else None
    return None


def _tried(cls: type[Any], content: Any) -> Any:
    try:
        return _made(cls, content)
    except Exception:  # noqa: BLE001 - whatever the class raises, it cannot be made so
        return None


def _made(cls: Any, content: dict[str, Any]) -> Any:
    if "fields" in content:
        return cls(**content["fields"])
    items = content["items"]
    return cls(*items) if isinstance(items, tuple) and hasattr(cls, "_fields") else cls(items)


def _name_of(thing: Any) -> str:
    name = getattr(thing, "__qualname__", "") or ""
    if not name or "<" in name:
        what = "a class" if isinstance(thing, type) else "a function"
        raise _Unkept(f"{what} that is not defined at module level ({name or type(thing).__name__})")
    return f"{_module_name(getattr(thing, '__module__', '') or 'builtins')}:{name}"


def _module_name(name: str) -> str:
    return "" if name.startswith(STRATEGY_MODULE) else name


def _of_numpy(value: Any, for_key: bool) -> Any:
    import numpy as np

    if isinstance(value, np.float64) and for_key:
        return _kept(float(value), for_key)  # as version 0.1.0 saved it
    if not isinstance(value, np.generic) and type(value) is not np.ndarray:
        name = named(value)
        return {f"${name.kind}": name.name}
    kind, size = value.dtype.kind, value.dtype.itemsize
    if kind not in "biuSUfcMm" or size > {"f": 8, "c": 16}.get(kind, size):
        raise _Unkept(f"numbers of numpy's type {value.dtype.name}")
    numbers = np.asarray(value).view("int64") if kind in "Mm" else np.asarray(value)
    tag = "$numpy" if isinstance(value, np.generic) else "$array"
    return {tag: [value.dtype.str, list(value.shape), _kept(numbers.ravel().tolist(), for_key)]}


def _read_numpy(content: Any) -> Any:
    import numpy as np

    dtype, shape, numbers = content
    kind = np.dtype(dtype)
    if kind.kind in "Mm":
        return np.array(numbers, "int64").view(kind).reshape(shape)
    return np.array(numbers, kind).reshape(shape)


def _sorted(value: Any) -> list[Any]:
    """Return the members of a set in a fixed order."""
    return sorted(value, key=lambda one: _text(form_of(one)))


def _text(form: Any) -> str:
    return json.dumps(form, sort_keys=True)


def _write_moment(value: Any) -> Any:
    plain = value.replace(tzinfo=None, fold=0).isoformat()
    return [plain, value.tzinfo, value.fold] if value.tzinfo or value.fold else plain


def _reader_of_moments(of_text: Callable[[str], Any]) -> Callable[[Any], Any]:
    def read_moment(content: Any) -> Any:
        if isinstance(content, str):
            return of_text(content)
        text, zone, fold = content
        return of_text(text).replace(tzinfo=zone, fold=fold)

    return read_moment


def _zone_key(zone: ZoneInfo) -> str:
    if not zone.key:
        raise _Unkept("a time zone without a name")
    return zone.key


def _zone(value: Any) -> Any:
    return getattr(value, "tzinfo", None)


def _read_pandas(name: str) -> Callable[[Any], Any]:
    def read_value(content: Any) -> Any:
        number, unit, zone = content
        value = getattr(importlib.import_module("pandas"), name)(number, unit="ns").as_unit(unit)
        return value.tz_localize("UTC").tz_convert(zone) if zone else value

    return read_value


_OF_PANDAS = {"Timestamp": "$timestamp", "Timedelta": "$nanoseconds"}
_NAMED = {"$class", "$function", "$enum", "$module", "$default"}


@functools.cache  # most parameters are numbers, for which nothing of it is needed
def kinds() -> dict[str, Kind]:
    """Return the types by their tags, beside classes, functions, enumerations, modules, made objects, and defaults."""
    from decimal import Decimal
    from fractions import Fraction
    from zoneinfo import ZoneInfo

    return {
        "$tuple": Kind(tuple, list, tuple),
        "$dict": Kind(
            dict, lambda value: [list(pair) for pair in value.items()], lambda pairs: dict(map(tuple, pairs))
        ),
        "$set": Kind(set, _sorted, set),
        "$frozenset": Kind(frozenset, _sorted, frozenset),
        "$date": Kind(dt.date, dt.date.isoformat, dt.date.fromisoformat),
        "$time": Kind(dt.time, _write_moment, _reader_of_moments(dt.time.fromisoformat)),
        "$datetime": Kind(dt.datetime, _write_moment, _reader_of_moments(dt.datetime.fromisoformat)),
        "$timedelta": Kind(dt.timedelta, duration_text, duration_of),
        "$zone": Kind(ZoneInfo, _zone_key, ZoneInfo),
        "$utcoffset": Kind(dt.timezone, lambda zone: list(zone.__getinitargs__()), lambda words: dt.timezone(*words)),
        "$decimal": Kind(Decimal, str, Decimal),
        "$fraction": Kind(Fraction, str, Fraction),
        "$float": Kind(float, repr, float),  # which JSON has no numeral for: nan, inf, -inf
        "$complex": Kind(complex, lambda value: [value.real, value.imag], lambda parts: complex(*parts)),
        "$bytes": Kind(bytes, bytes.hex, bytes.fromhex),
        "$bytearray": Kind(bytearray, bytearray.hex, bytearray.fromhex),
        "$range": Kind(range, lambda value: [value.start, value.stop, value.step], lambda words: range(*words)),
        "$slice": Kind(slice, lambda value: [value.start, value.stop, value.step], lambda words: slice(*words)),
        "$path": Kind(PurePath, lambda path: path.as_posix(), Path),
        "$numpy": Kind(object, lambda value: value, lambda content: _read_numpy(content)[()]),  # see `_of_numpy`
        "$array": Kind(object, lambda value: value, _read_numpy),
        "$timestamp": Kind(object, lambda value: value, _read_pandas("Timestamp")),  # of pandas
        "$nanoseconds": Kind(object, lambda value: value, _read_pandas("Timedelta")),
    }
