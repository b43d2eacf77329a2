"""The strategies of many trials, created by their own `__init__` over the same feeds; equal indicators only once."""

from __future__ import annotations

import inspect
import threading
import traceback
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from functools import partial
from types import BuiltinFunctionType
from typing import Any

import backtrader as bt
from backtrader.linebuffer import LineActions, LineBuffer, LinesOperation
from backtrader.lineiterator import LineIterator
from backtrader.lineroot import LineMultiple, LineRoot
from backtrader.lineseries import LineSeriesStub

from backtest.engine.compiled.refusals import NotCompiled

_EXACT = {bool, int, str, type(None)}  # kinds whose equal values are the same
_SHOWN = (bool, int, float, str, type(None), type, BuiltinFunctionType, LineRoot)  # these lead to no other line
_KINDS: tuple[Any, ...] = (type(bt.Indicator), type(LineActions))  # whose calls make indicators and operations


class _Out:
    """A stand-in for the broker or Cerebro while `__init__` runs: it gives the cash, and refuses everything else."""

    def __init__(self, name: str, known: dict[str, Any]) -> None:
        vars(self).update(known, _called=name)

    def __getattr__(self, name: str) -> Any:
        raise NotCompiled(f"__init__() uses self.{self._called}.{name}")

    def __setattr__(self, name: str, value: Any) -> None:
        raise NotCompiled(f"__init__() sets self.{self._called}.{name}")


class SharedNodes:
    """Indicators and operations by their arguments: a trial that creates an equal one gets the same object."""

    def __init__(self) -> None:
        self.made: list[Any] = []  # in order
        self._known: dict[Any, Any] = {}
        self._kept: dict[int, Any] = {}  # what keys have the id of
        self._ways: dict[type[Any], str] = {}  # of kinds: see `_way_of`
        self._inside, self._thread = 0, threading.get_ident()
        self.trial: Any = None
        self._read: set[int] = set()  # ids of operations that something else is made of
        self._knows_readers = True  # whether `_read` has all of them

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Let all that makes an indicator ask here first."""
        before = [(kind, vars(kind)["__call__"]) for kind in _KINDS]
        for kind, call in before:
            kind.__call__ = self._asking(call)
        try:
            yield
        finally:
            for kind, call in before:
                kind.__call__ = call

    def _asking(self, call: Any) -> Any:
        def ask(cls: Any, *args: Any, **kwargs: Any) -> Any:
            if self._inside or self.trial is None or threading.get_ident() != self._thread:
                self._note_operands(cls, (*args, *kwargs.values()))
                return call(cls, *args, **kwargs)
            more = [part for item in sorted(kwargs.items()) for part in item] if kwargs else ()
            key = self._key_of((cls, *args, *more))
            if key is not None and key in self._known:
                found = self._known[key]
                self.trial._lineiterators[found._ltype].append(found)
                return found
            plain = _is_plain(cls, args)
            self._note_operands(cls, args[:2] if plain else (*args, *kwargs.values()))
            self._inside += 1
            try:
                found = _operation(self.trial, args, kwargs) if plain else call(cls, *args, **kwargs)
            finally:
                self._inside -= 1
            self.made.append(found)
            if key is not None:
                self._known[key] = found
            return found

        return ask

    def _note_operands(self, cls: Any, args: Iterable[Any]) -> None:
        """Record the operations of which an object consists."""
        for one in args:
            if type(one) is LinesOperation:
                self._read.add(id(one))
            elif isinstance(one, tuple | list):
                self._note_operands(cls, one)
            elif not isinstance(one, _SHOWN) or isinstance(one, bt.Strategy):
                self._knows_readers = False  # a function or an object, which may lead to any line
        if not cls.__module__.startswith("backtrader."):  # whose code may reach any line
            self._knows_readers = False

    def unread_operations(self) -> list[Any]:
        """Return the operations that nothing but the strategies' own code can read."""
        if not self._knows_readers:
            return []
        return [one for one in self.made
                if type(one) is LinesOperation and id(one) not in self._read and not one.bindings]  # fmt: skip

    def _key_of(self, things: Iterable[Any]) -> tuple[Any, ...] | None:
        """Return what equal things have in common: two parts of each; None if that is not known of one."""
        found: list[Any] = []
        for one in things:
            kind = type(one)
            way = "" if kind in _EXACT else self._ways.get(kind) or self._way_of(kind, one)
            part = one
            if way == "id":
                part = id(one)
                self._kept[part] = one
            elif way == "parts":
                part = self._key_of(one)
            elif way:
                part = repr(one) if way == "repr" else None
            if way and part is None:
                return None
            found += ("id" if way == "id" else kind, part)
        return tuple(found)

    def _way_of(self, kind: type[Any], thing: Any) -> str:
        found = self._ways[kind] = _way_of(thing) or "none"
        return found


def _way_of(thing: Any) -> str:
    """Return what equal things of a kind have in common: "repr", "parts", or only which they are, "id"; "" if none."""
    if isinstance(thing, bool | int | float | str):
        return "repr"
    if isinstance(thing, tuple | list):
        return "parts"
    return "id" if isinstance(thing, LineRoot | type) or callable(thing) else ""


def _is_plain(cls: Any, args: tuple[Any, ...]) -> bool:
    return cls is LinesOperation and isinstance(args[0], LineBuffer) and not isinstance(args[1], LineMultiple)


def _operation(trial: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return an operation on a line, as the metaclass makes it of a strategy, in a third of the time."""
    made: Any = object.__new__(LinesOperation)
    made._owner, made._clock, made.params = trial, args[0], LinesOperation.params()
    made.p = made.params
    made._datas = [one for one in args if isinstance(one, LineRoot)]
    made.updateminperiod(max(one._minperiod for one in made._datas))
    made.__init__(*args, **{name: value for name, value in kwargs.items() if name != "_ownerskip"})
    trial.addindicator(made)
    return made


class Maker:
    """
    Creates the strategies of trials without Backtrader's metaclass, which takes most of the time.

    Args:
        cls: the strategy.
        cerebro: the Cerebro of the run, with its feeds loaded.
    """

    def __init__(self, cls: Any, cerebro: Any, cash: float) -> None:
        self.cls, self.shared = cls, SharedNodes()
        new, args, kwargs = cls.doprenew(*cerebro.datas)
        made, args, kwargs = new.donew(*args, **kwargs)
        made, args, kwargs = new.dopreinit(made, *args, **kwargs)
        self._before = dict(vars(made))
        self._feeds = {id(data) for data in cerebro.datas}
        self._clocks: dict[int, tuple[Any, Any]] = {}
        self._periods: dict[Any, tuple[list[int], int]] = {}
        self._params, self._defaults = type(made.p), dict(made.p._getkwargsdefault())
        self._before["_compiled_timers"] = list[Any]()  # which `_add_timer` puts them into
        empty = {name: one for name, one in self._before.items() if isinstance(one, list | dict) and not one}
        self._empty = [(name, _maker_of(one)) for name, one in empty.items()]
        tells_cash = {name: lambda: cash for name in ("getcash", "get_cash", "getvalue", "get_value")}
        self._before["broker"] = _Out("broker", {**tells_cash, "cash": cash, "startingcash": cash})
        self._before["env"] = self._before["cerebro"] = _Out("cerebro", {"_add_timer": _add_timer})

    def make(self, params: Mapping[str, Any]) -> Any:
        """Return the strategy of a trial, as it is at the first bar; exceptions of its own code propagate."""
        trial: Any = object.__new__(self.cls)
        vars(trial).update(self._before)
        vars(trial).update({name: make() for name, make in self._empty})
        trial.__dict__["_lineiterators"] = type(self._before["_lineiterators"])(list)
        trial.__dict__["p"] = trial.__dict__["params"] = given = self._params()
        for name, default in self._defaults.items():
            setattr(given, name, params.get(name, default))
        self.shared.trial = trial
        try:
            trial.__init__()
        finally:
            self.shared.trial = None
        if issubclass(self.cls, bt.SignalStrategy):
            _set_signals(trial)
        self._set_periods(trial)
        if self.cls.start is not bt.Strategy.start:
            trial._stage2()  # as during a run: operators on lines give values
            self.shared.trial = trial
            try:
                trial.start()
            finally:
                self.shared.trial = None
                trial._stage1()
        return trial

    def _set_periods(self, trial: Any) -> None:
        """Set the minimum periods as Backtrader does, which computes them once for trials with equal longest ones."""
        longest: dict[int, int] = {}
        for one in indicators_of(trial):
            clock, period = self._last_clock(one), one._minperiod
            longest[clock] = max(longest.get(clock, period), period)
        key = trial._minperiod, *(data._minperiod for data in trial.datas), frozenset(longest.items())
        if key not in self._periods:
            trial._periodset()
            self._periods[key] = trial._minperiods, trial._minperiod
        periods, trial._minperiod = self._periods[key]
        trial._minperiods = [*periods]

    def _last_clock(self, indicator: Any) -> int:
        """Return the id of the last of an indicator's clocks, each of which is the clock of the one before."""
        clock = _clock_of(indicator)
        if id(clock) not in self._clocks:
            last = clock
            while last is not None and id(last) not in self._feeds and (following := _clock_of(last)) is not None:
                last = following
            last = last.lines[0] if isinstance(last, LineSeriesStub) else last
            self._clocks[id(clock)] = clock, last  # ids are theirs as long as both are kept
        return id(self._clocks[id(clock)][1])

    def own(self, trial: Any) -> dict[str, Any]:
        """Return what its own code put into a strategy."""
        return {name: value for name, value in vars(trial).items() if name not in self._before}


def _maker_of(empty: Any) -> Any:
    """Return what makes another empty list or dictionary such as one."""
    if type(empty) is defaultdict:
        return partial(defaultdict, empty.default_factory)
    return type(empty) if type(empty) in (list, dict) else partial(copy, empty)


def _clock_of(thing: Any) -> Any:
    found = getattr(thing, "_clock", None)
    return found if found is not None else getattr(thing._owner, "_clock", None)


def _add_timer(owner: Any, **asked: Any) -> Any:
    """Return a timer of a strategy, as Cerebro makes it, and keep it."""
    timers = vars(owner)["_compiled_timers"]
    timers.append(bt.timer.Timer(tid=len(timers), owner=owner, **asked))
    return timers[-1]


def timers_of(trial: Any) -> list[Any]:
    """Return the timers of a strategy; none of one that Backtrader made, which has them in its Cerebro."""
    found: list[Any] = vars(trial).get("_compiled_timers", [])
    return found


def _set_signals(trial: Any) -> None:
    """Do what the metaclass of strategies with signals does when `__init__` is done, and what starts them."""
    if trial.p.signals or trial.p._data is not None:
        raise NotCompiled("signals that come as parameters are not compiled")
    for name, kind in (("_longshort", "LONGSHORT"), ("_long", "LONG"), ("_short", "SHORT"), ("_longexit", "LONGEXIT"),
                       ("_shortexit", "SHORTEXIT")):  # fmt: skip
        setattr(trial, name, bool(trial._signals[getattr(bt, f"SIGNAL_{kind}")]))
    trial._sentinel = None


def trace(maker: Maker, params: Sequence[Mapping[str, Any]]) -> tuple[list[Any], dict[int, str]]:
    """Return the strategies of trials, None for those whose `__init__` raised, and the errors by trial number."""
    found: list[Any] = []
    failed: dict[int, str] = {}
    with maker.shared.watching():
        for number, one in enumerate(params):
            try:
                found.append(maker.make(one))
            except NotCompiled as error:
                error.line = error.line or _line_in(maker.cls, error)
                raise
            except Exception as error:  # noqa: BLE001 - the event engine runs this trial, and says what it is
                found.append(None)
                failed[number] = f"__init__() raises {type(error).__name__}"
    return found, failed


def _line_in(cls: Any, error: NotCompiled) -> int:
    """Return the last line of a strategy's own file that was on the way to an error; 0 for none."""
    try:
        file = inspect.getsourcefile(cls)
    except TypeError:
        return 0
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno or 0 for frame in reversed(frames) if frame.filename == file), 0)


def indicators_of(trial: Any) -> list[Any]:
    """Return the indicators of a strategy."""
    made: list[Any] = trial._lineiterators[LineIterator.IndType]
    return made
