"""
Errors in code that is not ours: `code_of_others` turns every exception into a `StrategyError`.

It catches every BaseException: `sys.exit()` in a strategy ends neither the process nor a check of other strategies.
"""

from __future__ import annotations

import ast
import linecache
import operator
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import islice
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NamedTuple

import backtrader as bt

from backtest.errors import BacktestError, StrategyError

_LONGEST = 500  # characters of an error's own text
_MEMBERS = 3  # of a group of errors, how many are shown
_ENDINGS = {
    SystemExit: "which ends Python, as sys.exit, quit and exit do",
    KeyboardInterrupt: "which the code raised, and not Ctrl-C",
}


@contextmanager
def code_of_others(explain: Callable[[BaseException], str]) -> Iterator[None]:
    """
    Run code that is not ours: any exception becomes an error of the strategy, except a user's Ctrl-C.

    A KeyboardInterrupt counts as Ctrl-C only if a signal raised this very exception, not if the code raised one. An
    exception raised while Ctrl-C is handled counts as the interruption. If the code has replaced names of Backtrader's
    with unusable objects, they are restored: the next strategy in this process needs them.

    Args:
        explain: returns the text of the error; "" if the code did not cause it, so that it passes unchanged.

    Raises:
        StrategyError: the code raised.
        KeyboardInterrupt: the user pressed Ctrl-C.
    """
    with _Interrupts() as interrupts:
        try:
            yield
        except BaseException as error:
            replaced = _put_back()
            if interrupts.caused(error):
                raise KeyboardInterrupt from error
            before = interrupts.count
            text = _explained(explain, error)
            if interrupts.count > before:  # while the error's own text was made, which swallows it
                raise KeyboardInterrupt from error
            if not text:
                raise
            raise StrategyError(text + (f"; it also replaced {replaced}" if replaced else "")) from error
        if replaced := _put_back():
            raise StrategyError(
                f"the strategy's code replaced {replaced}, which would affect every other strategy in this process; "
                "derive a class from it instead"
            )


def _explained(explain: Callable[[BaseException], str], error: BaseException) -> str:
    try:
        return explain(error)
    except BaseException as other:  # noqa: BLE001 - what an error says of itself is code of others too
        return f"the code raised {_kind(error)}, whose text cannot be shown: reading it raised {_kind(other)}"


def said(error: BaseException) -> str:
    """Return the type and text of an error, at most 500 characters, whatever its own code does."""
    kind = _kind(error)
    try:
        text = str.__getitem__(str(error), slice(None))  # a plain text, even of a subclass
    except BaseException as other:  # noqa: BLE001 - __str__ is code of others too, and the error is told in any case
        return f"{kind}, whose text cannot be shown: its __str__ raised {_kind(other)}"
    text = text.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair is not a text for files
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}... ({len(text):,} characters)"
    ending = next((f" ({words})" for ends, words in _ENDINGS.items() if isinstance(error, ends)), "")
    members = ""
    if isinstance(error, BaseExceptionGroup):
        members = ": " + "; ".join(said(one) for one in islice(error.exceptions, _MEMBERS))
    return f"{kind}{f': {text}' if text else ''}{ending}{members}"


def _kind(error: BaseException) -> str:
    name: str = type.__dict__["__name__"].__get__(type(error))  # which no metaclass can override
    return name


class CodeLine(NamedTuple):
    """A line of code that is not ours."""

    file: str
    line: int
    function: str  # "" where the line is in none

    def __str__(self) -> str:
        where = f"in {self.function}() " if self.function else ""
        return f"{where}at line {self.line} of {Path(self.file).name}"


def place_of(error: BaseException) -> CodeLine | None:
    """
    Return the last line of other people's code that an error passed: a user's, otherwise an installed package's.

    For a file that cannot be parsed, it is that file. None if only Backtrader, Python and this package were running.
    """
    if isinstance(error, SyntaxError) and isinstance(error.filename, str) and error.lineno:
        return CodeLine(error.filename, error.lineno, "")
    places = [CodeLine(file, line, _named(function)) for file, line, function in _frames(error.__traceback__)]
    for belongs in (_is_users, _is_generated, _is_installed):
        found = [place for place in places if belongs(place.file)]
        if found:
            return found[-1]
    return None


def at(error: BaseException) -> str:
    """Return the place of an error after a space; "" for none."""
    place = place_of(error)
    return f" {place}" if place else ""


def caller() -> CodeLine | None:
    """Return the line of other people's code that made the call, directly or not."""
    import sys

    frame = sys._getframe(1)
    while frame is not None:
        if _is_users(frame.f_code.co_filename):
            return CodeLine(frame.f_code.co_filename, frame.f_lineno, _named(frame.f_code.co_name))
        frame = frame.f_back  # type: ignore[assignment]
    return None


def raised_by_us(error: BaseException) -> bool:
    """Return whether this package itself raised an error of its own type."""
    frames = _frames(error.__traceback__)
    return isinstance(error, BacktestError) and bool(frames) and _is_ours(frames[-1][0])


def raised_by_backtrader(error: BaseException) -> bool:
    """Return whether the line that raised an error is in Backtrader or this package, not in a strategy."""
    frames = _frames(error.__traceback__)
    return bool(frames) and (_is_ours(frames[-1][0]) or _is_backtraders(frames[-1][0]))


def passed(error: BaseException, function: Callable[..., Any]) -> bool:
    """Return whether an error went through a function."""
    code, trace = getattr(function, "__code__", None), error.__traceback__
    while trace is not None and trace.tb_frame.f_code is not code:
        trace = trace.tb_next
    return trace is not None


def innermost(error: BaseException) -> dict[str, Any]:
    """Return the variables of the function that raised an error."""
    trace = _last(error.__traceback__)
    return trace.tb_frame.f_locals if trace else {}


def indexed(error: BaseException) -> Any:
    """Return the object indexed in the expression that raised: the list of `self.datas[1]`; None if unknown."""
    trace = _last(error.__traceback__)
    expression = _expression(trace)
    if trace is None or not isinstance(expression, ast.Subscript):
        return None
    with suppress(Exception):  # it has code of its own
        return _value(expression.value, trace.tb_frame.f_locals)
    return None


def indexed_name(error: BaseException) -> str:
    """Return the last name that a user's line indexed when it raised: close, of `self.data.close[1]`; "" if none."""
    trace, users = error.__traceback__, None
    while trace is not None:
        users = trace if _is_users(trace.tb_frame.f_code.co_filename) else users
        trace = trace.tb_next
    expression = _expression(users)
    thing = expression.value if isinstance(expression, ast.Subscript) else None
    return thing.attr if isinstance(thing, ast.Attribute) else thing.id if isinstance(thing, ast.Name) else ""


def _expression(trace: TracebackType | None) -> ast.expr | None:
    """Return the expression that was evaluated when an error passed a frame; None if it is not known."""
    if trace is None:
        return None
    code = trace.tb_frame.f_code
    line, last, start, end = next(islice(code.co_positions(), trace.tb_lasti // 2, None), (None,) * 4)
    if line is None or line != last:
        return None
    text = linecache.getline(code.co_filename, line).encode()[start:end].decode(errors="replace")
    with suppress(Exception):  # it is not an expression
        return ast.parse(text.strip(), mode="eval").body
    return None


def _value(node: ast.expr, known: dict[str, Any]) -> Any:
    if isinstance(node, ast.Attribute):
        return getattr(_value(node.value, known), node.attr)
    return known[node.id] if isinstance(node, ast.Name) else None


def _last(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace


# --- Ctrl-C


class _Interrupts:
    """Records the KeyboardInterrupts that signals raise, which happens only in the main thread."""

    def __init__(self) -> None:
        self._raised: list[KeyboardInterrupt] = []
        self._before: Any = None

    @property
    def count(self) -> int:
        """How many there were."""
        return len(self._raised)

    def caused(self, error: BaseException) -> bool:
        """Return whether an error is one of them, or caused by one."""
        return bool(self._raised) and any(one is raised for one in _related(error) for raised in self._raised)

    def __enter__(self) -> _Interrupts:
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if callable(before):  # else the signal is ignored, or ends the process
                with suppress(ValueError):  # an interpreter within another has no signals
                    signal.signal(signal.SIGINT, self._heard)
                    self._before = before
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None and signal.getsignal(signal.SIGINT) == self._heard:
            signal.signal(signal.SIGINT, self._before)

    def _heard(self, number: int, frame: Any) -> None:
        try:
            self._before(number, frame)
        except KeyboardInterrupt as error:
            self._raised.append(error)
            raise


def _related(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, those that caused it, and the members of groups."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        members: Sequence[BaseException] = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        waiting += [other for other in (one.__cause__, one.__context__, *members) if other is not None]


# --- Backtrader's names


def _put_back() -> str:
    """Restore Backtrader's names that were replaced with unusable objects, and return the names and their originals."""
    replaced = []
    for module, names in _STOCK.items():
        now = vars(module)
        if all(map(operator.is_, map(now.get, names), names.values())):
            continue
        for name, stock in names.items():
            value = now.get(name)
            if value is not stock and not _stands_for(value, stock):
                setattr(module, name, stock)
                words = "None" if value is None else f"an object of type {type(value).__name__}"
                replaced.append(f"{module.__name__}.{name} by {words}")
    return ", ".join(replaced)


def _stands_for(value: Any, stock: Any) -> bool:
    if isinstance(stock, type):
        return issubclass(type(value), type) and stock in type.mro(value)
    return isinstance(value, ModuleType) if isinstance(stock, ModuleType) else callable(value)


def _names_of(module: ModuleType) -> dict[str, Any]:
    usable = (ModuleType, type)
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and (isinstance(value, usable) or callable(value))
    }


_STOCK = {
    module: _names_of(module)
    for module in (bt, bt.indicators, bt.observers, bt.analyzers, bt.sizers, bt.brokers, bt.feeds)
}


# --- the origin of code


_PACKAGE = str(Path(__file__).parents[2]) + os.sep
_BUNDLED = f"{_PACKAGE}_bundled{os.sep}"  # bundled strategies, which everybody uses
_BACKTRADER = str(Path(bt.__file__).parent) + os.sep


def _is_ours(file: str) -> bool:
    return file.startswith(_PACKAGE) and not file.startswith(_BUNDLED)


def _is_backtraders(file: str) -> bool:
    return file.startswith(_BACKTRADER)


def _is_users(file: str) -> bool:
    return not (_is_ours(file) or _is_generated(file) or _is_brought_along(file))


def _is_generated(file: str) -> bool:
    """Return whether code has no file, such as that of `exec`; a notebook cell has a file name."""
    return file == "<string>"


def _is_installed(file: str) -> bool:
    return _is_brought_along(file) and not (_is_backtraders(file) or _is_pythons(file) or _is_ours(file))


@cache
def _is_brought_along(file: str) -> bool:
    """Return whether a file belongs to Python or to an installed package."""
    return _is_pythons(file) or not {"site-packages", "dist-packages"}.isdisjoint(Path(file).parts)


def _is_pythons(file: str) -> bool:
    if not {"site-packages", "dist-packages"}.isdisjoint(Path(file).parts):
        return False
    import sysconfig

    return file.startswith(("<frozen ", *(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib"))))


def _named(function: str) -> str:
    return "" if function.startswith("<module") else function


def _frames(trace: TracebackType | None) -> list[tuple[str, int, str]]:
    frames = []
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append((code.co_filename, trace.tb_lineno, code.co_name))
        trace = trace.tb_next
    return frames
