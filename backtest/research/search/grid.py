"""The parameters that a sweep tries: grids, their spelling on the command line, random samples, and conditions."""

from __future__ import annotations

import operator
import random
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from itertools import islice
from math import prod
from typing import Any

from backtest import _arguments
from backtest._suggest import there_are
from backtest.engine.code.parameters import plain_value, split_items
from backtest.errors import UsageError

Grid = Mapping[str, Sequence[Any]]
Condition = Callable[[dict[str, Any]], bool]

_GRID = 'write {"fast": [5, 10, 20]}, or words such as "fast=5:20:5"'
_WHERE = "write a function of a point, or a comparison such as 'fast<slow'"
_MOST = 1_000_000  # points of a grid that can be gone through in reasonable time
_DRAWS = 100  # draws for a point that a condition may refuse
_COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq,
                "!=": operator.ne}  # fmt: skip


def grid_of(words: Sequence[str], texts: Container[str] = ()) -> dict[str, list[Any]]:
    """
    Return the grid that words spell: "fast=5:20:5" is 5, 10, 15, 20, and "kind=ema,sma" these two.

    Numbers are read as such, whole ones as int; steps are decimal, so that 0.1:0.3:0.1 ends at 0.3. A comma inside
    brackets does not separate values.

    Args:
        texts: names whose values stay text, such as dates and times.

    Raises:
        UsageError: a word has another form, or repeats a parameter.
    """
    grid: dict[str, list[Any]] = {}
    for word in words:
        name, mark, text = word.partition("=")
        if not (name and mark and text):
            raise UsageError(f"--grid {word!r} is not a valid range; write NAME=FIRST:LAST:STEP or NAME=A,B,C")
        if name in grid:
            raise UsageError(f"--grid names {name} twice; write all its values in one: {name}=A,B,C")
        if name in texts:
            grid[name] = list(split_items(text))
        else:
            grid[name] = _steps(word, text) if ":" in text else [plain_value(one) for one in split_items(text)]
    return grid


def condition_of(words: Sequence[str]) -> Condition | None:
    """
    Return the condition that comparisons such as "fast<slow" or "slow>=50" spell together; None for none.

    Raises:
        UsageError: a word is not a valid comparison of two names, or of a name and a value.
    """
    parts = [_comparison(word) for word in words]
    return (lambda point: all(part(point) for part in parts)) if parts else None


def grid_given(given: Any, texts: Container[str] = ()) -> dict[str, list[Any]]:
    """
    Return the grid that a caller passed: values by name, or the words of the command line.

    A single value counts as a list of one, and a text is read as on the command line: "5:20:5", or "ema,sma". Values of
    `texts` stay text.

    Raises:
        UsageError: it is neither, or the value of a name is not a list of values.
    """
    if isinstance(given, str):
        return grid_of([given], texts)
    if not isinstance(given, Mapping):
        words = _arguments.several(given, "the grid", _GRID)
        return grid_of([_arguments.text(word, "a word of the grid", _GRID) for word in words], texts)
    return {
        name: _values_given(name, values, texts)
        for name, values in _arguments.mapping(given, "the grid", _GRID).items()
    }


def condition_given(given: Any) -> Condition | None:
    """
    Return the condition that a caller passed: a function of a point, or comparisons as text; None for none.

    Raises:
        UsageError: it is neither.
    """
    if given is None:
        return None
    if callable(given):
        made: Condition = given
        return made
    if isinstance(given, str):
        return condition_of([given])
    words = _arguments.several(given, "where", _WHERE)
    return condition_of([_arguments.text(word, "a word of where", _WHERE) for word in words])


def _values_given(name: str, values: Any, texts: Container[str]) -> list[Any]:
    if isinstance(values, str):
        return grid_of([f"{name}={values}"], texts)[name] if values else []
    if isinstance(values, set | frozenset):
        _arguments.refuse(f"the grid's {name}", values, "a set has no order; write a list")
    if isinstance(values, bytes | Mapping) or not isinstance(values, Iterable):
        if values is None or isinstance(values, bytes | Mapping):
            _arguments.refuse(f"the grid's {name}", values, "write a list of its values, such as [5, 10, 20]")
        return [values]
    return list(values)


def points(grid: Grid, where: Condition | None = None, draws: int = 0, seed: int = 0) -> list[dict[str, Any]]:
    """
    Return the points of a grid that meet a condition, in the order of the grid, or a random sample of them.

    Args:
        draws: how many different points to draw at random; 0 for all there are, in order.
        seed: the random seed; an equal seed gives the same points in the same order.

    Raises:
        UsageError: the grid is empty or too large, or no point meets the condition.
    """
    _check(grid, draws)
    total = prod(map(len, grid.values()))
    places: Sequence[int] = range(total)
    if draws:
        places = random.Random(seed).sample(places, min(total, max(_DRAWS * draws, 10_000)))
    fitting = (point for point in (_point(grid, place) for place in places) if where is None or where(point))
    found = list(islice(fitting, draws or None))
    if not found:
        raise UsageError(f"the condition leaves none of the {total:,} points of the grid; loosen it, or widen the grid")
    return found


def _check(grid: Grid, draws: int) -> None:
    empty = [name for name, values in grid.items() if not len(values)]
    if not grid or empty:
        raise UsageError(
            f"the grid has no values{f' of {empty[0]}' if empty else ''}; name some, such as fast=5:20:5, or fast=5,10"
        )
    for name, values in grid.items():
        if len(set(map(repr, values))) < len(values):
            raise UsageError(f"the grid has a value of {name} twice: {', '.join(map(str, values))}; name each once")
    if draws < 0:
        raise UsageError(f"{draws} random trials cannot be drawn; name 1 or more")
    if not draws and (total := prod(map(len, grid.values()))) > _MOST:
        raise UsageError(f"the grid has {total:,} points, more than {_MOST:,}; make it coarser, or draw with --random")


def _point(grid: Grid, place: int) -> dict[str, Any]:
    """Return the point at a place; the last name changes fastest, as in nested loops."""
    chosen: dict[str, Any] = {}
    for name in reversed(list(grid)):
        place, digit = divmod(place, len(grid[name]))
        value = grid[name][digit]
        chosen[name] = plain_number(value)
    return {name: chosen[name] for name in grid}


def _steps(word: str, text: str) -> list[Any]:
    try:
        first, last, *rest = map(Decimal, text.split(":"))
        (step,) = rest or [Decimal(1)]
    except (InvalidOperation, ValueError) as error:
        raise UsageError(f"--grid {word!r} is not a valid range of numbers; write NAME=FIRST:LAST:STEP") from error
    if not all(one.is_finite() for one in (first, last, step)) or step <= 0 or last < first:
        raise UsageError(
            f"--grid {word!r} holds no value: it goes from {first} to {last} in steps of {step}; fix the step"
        )
    count = int((last - first) / step) + 1
    if count > _MOST:
        raise UsageError(f"--grid {word!r} holds {count:,} values, more than {_MOST:,}; take larger steps")
    return [plain_value(str(first + n * step)) for n in range(count)]


def plain_number(value: Any) -> Any:
    """Return a numpy number as one of Python's, and everything else unchanged."""
    return value.item() if hasattr(value, "item") and getattr(value, "shape", ()) == () else value


def _comparison(word: str) -> Condition:
    found = re.fullmatch(r"\s*(\w+)\s*(<=|>=|==|!=|<|>)\s*([\w.+-]+)\s*", word)
    if not found:
        raise UsageError(f"--where {word!r} is not a valid comparison; write one such as 'fast<slow' or 'slow>=50'")
    left, sign, right = found.groups()
    return lambda point: bool(_COMPARISONS[sign](_side(left, point, word), _side(right, point, word)))


def _side(text: str, point: dict[str, Any], word: str) -> Any:
    if text in point:
        return point[text]
    value = plain_value(text)
    if isinstance(value, str):
        raise UsageError(f"--where {word!r} refers to {text!r}, which is not in the grid; {there_are(text, point)}")
    return value


def names(grid: Grid) -> Iterator[str]:
    """Yield the names that vary."""
    return (name for name, values in grid.items() if len(values) > 1)
