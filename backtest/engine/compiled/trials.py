"""
`run_trials`: trials of one strategy over the same feeds, all at once.

This is the entry point of the compiled engine. Its outcomes equal those of `lean.cerebro` for each trial, to the last
bit; each omitted trial has a reason.

    outcomes = run_trials(SmaCross, [{"fast": 10, "slow": 50}, {"fast": 20, "slow": 50}], feeds, set_up)
    outcomes.equity[0]  # of the first trial, at `outcomes.steps`
    outcomes.left       # {1: "..."}: trials that the event engine is to make, and why
    outcomes.why_not    # why all of them are left to it, with the line of the strategy; "" if they are not
"""

from __future__ import annotations

import gc
import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import time, timedelta
from types import SimpleNamespace
from typing import Any

import backtrader as bt
import numpy as np

from backtest.engine.alignment import mixes_clocks
from backtest.engine.compiled import ledger
from backtest.engine.compiled.brokerage import check_broker, columns_of, constants_of
from backtest.engine.compiled.idle import Idle, acts
from backtest.engine.compiled.indicators import (
    Market,
    bytes_of_indicators,
    move,
    never_raises,
    owners_of,
    pairs_of,
    reckon,
    release,
    rings_of,
    rows_of_lines,
    values_of_lines,
)
from backtest.engine.compiled.refusals import NotCompiled, TooMany
from backtest.engine.compiled.symbols import Maker, indicators_of, timers_of, trace
from backtest.engine.compiled.translation.program import Program
from backtest.engine.compiled.translation.strategies import translate
from backtest.engine.compiled.vectors import LEDGER_CONSTANTS, built, ledger_functions, named_in, written

_ROOM = 256  # orders per trial for which tables have room at first: unused room takes no memory
_SELDOM = 0.25  # rounds for each step: with more of them all trials go faster through all steps together
_TRIED = 256  # steps after which this is known
_FILLED_AT_ONCE = 40_000  # steps of trials over which their account is spread at a time
_TABLED = 1 << 21  # steps of trials of which is listed which ones come next, at a time
_OF_VALUE = ("cash", "position", "paid")  # fields of the account from which its value is computed
_AT_ONCE = 32  # orders that a trial may submit in one step; one that submits more is left to the event engine

ORDER_COLUMNS = ("ref", "feed", "buys", "kind", "status", "size", "created", "filled", "price", "costs", "closed")
_TOLD_OF_ORDERS = ("feed", "size", "kind", "status", "given", "filled", "average", "costs", "closed", "price", "limit")
FILL_COLUMNS = ("ref", "feed", "stamp", "size", "price", "costs")


@dataclass
class Outcomes:
    """
    The outcomes of trials.

    Attributes:
        why_not: why no trial was made, with file and line if known; "" otherwise.
        left: by number, why a trial is left to the event engine; its rows are meaningless.
        stamps: the timestamps of all steps, in Backtrader's days; shape (steps,).
        steps: the steps at which the account is recorded; all unless fewer were requested.
        equity, cash: the account at these steps, shape (trials, len(steps)).
        positions: the positions at these steps, shape (trials, len(steps), feeds).
        orders: a row per order with `ORDER_COLUMNS`, trial after trial; sizes are signed.
        orders_from: where the rows of each trial begin and, after the last trial, where they end.
        fills, fills_from: the same for fills, with `FILL_COLUMNS`, in order of execution.
        asked: the price of each fill without slippage; empty if there is no slippage.
    """

    why_not: str = ""
    left: dict[int, str] = field(default_factory=dict)
    stamps: np.ndarray = field(default_factory=lambda: np.zeros(0))
    steps: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    equity: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    cash: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    positions: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0)))
    orders: np.ndarray = field(default_factory=lambda: np.zeros((0, len(ORDER_COLUMNS))))
    orders_from: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    fills: np.ndarray = field(default_factory=lambda: np.zeros((0, len(FILL_COLUMNS))))
    fills_from: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    asked: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, slots=True)
class Parts:
    """
    How to deliver the outcomes of many trials, whose accounts bar by bar would not all fit into memory.

    Attributes:
        size: the maximum number of trials in a part; numba runs no more at a time.
        room: the bytes that the lines of all trials may take.
        take: called with the outcomes of a part and the numbers of its trials, which are valid until it returns.
    """

    size: int
    room: int
    take: Callable[[Outcomes, list[int]], None]


def run_trials(
    cls: type[Any],
    params: Sequence[Mapping[str, Any]],
    feeds: Sequence[Any],
    set_up: Callable[[Any], None],
    steps: Callable[[np.ndarray], np.ndarray] | None = None,
    backend: str = "numpy",
    begins: float = -math.inf,
    recorded: Sequence[str] = ("equity", "cash", "positions", "orders", "fills"),
    parts: Parts | None = None,
) -> Outcomes:
    """
    Run trials of a strategy.

    Args:
        cls: the strategy, a plain `bt.Strategy`.
        params: the parameters of each trial; others have their defaults.
        feeds: Backtrader's feeds, not yet loaded.
        set_up: called with the Cerebro and its feeds, to set cash and commissions.
        steps: returns the numbers of the steps at which to record the account, given the timestamps of all steps.
        backend: "numpy", or "numba" of the extra `fast`; the outcomes are the same.
        begins: the timestamp after which strategies are first called, as with `warm_up.gated`; `cls` is not gated.
        recorded: which of these outcomes to record; the others are empty.
        parts: receives the outcomes; the result then only says why trials were left. None for all outcomes at once.

    Raises:
        TooMany: the lines of so many trials do not fit into memory.
    """
    bench: Any = _Bench(stdstats=False)
    bench.asked, bench.backend, bench.begins = (cls, list(params), steps), backend, begins
    bench.recorded, bench.parts = recorded, parts
    for feed in feeds:
        bench.adddata(feed)
    try:
        set_up(bench)
        check_broker(bench)
        bench.addstrategy(_Tracer)
        with _uncollected():
            bench.run()
    except NotCompiled as error:
        return Outcomes(why_not=sentence(cls, error))
    found: Outcomes = vars(bench).pop("outcomes")  # Backtrader's objects refer to each other, and stay until collected
    return found


@contextmanager
def _uncollected() -> Iterator[None]:
    """Disable garbage collection during the block: it creates many objects that all stay."""
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


def sentence(cls: type[Any], error: NotCompiled) -> str:
    """Return why a strategy is not compiled, with file and line if known."""
    try:
        file = inspect.getsourcefile(cls) or ""
    except TypeError:
        file = ""
    where = f"{file}:{error.line}: " if error.line and file else ""
    return f"{where}{error.reason}"


class _Tracer(bt.Strategy):
    """Makes the trials where Backtrader would make the strategy: feeds are loaded, nothing has moved."""

    def __init__(self) -> None:
        self.cerebro.trace()


class _Bench(bt.Cerebro):
    """A Cerebro that loads feeds, makes the strategies of all trials, and goes through the bars with all at once."""

    asked: tuple[Any, list[Mapping[str, Any]], Any]
    backend: str
    begins: float
    recorded: Sequence[str]
    parts: Parts | None
    outcomes: Outcomes
    inlined: dict[int, Any]

    def trace(self) -> None:
        """Make the strategies."""
        cls, params, _ = self.asked
        self.maker = Maker(cls, self, self.broker.getcash())
        self.made, self.failed = trace(self.maker, params)

    def _runonce(self, runstrats: list[Any]) -> None:
        (tracer,) = runstrats
        tracer._lineiterators[bt.LineIterator.IndType] = self.maker.shared.made
        if mixes_clocks(runstrats, self.datas):
            raise NotCompiled("an indicator reads feeds whose bars have different times")
        self.market, given = Market(self.datas), self.parts
        beforehand = self._beforehand()
        needed = bytes_of_indicators(beforehand, self.market.steps)
        if given is not None and len(self.made) > 1 and needed > given.room:
            raise TooMany
        broken = reckon(beforehand)
        owners = owners_of(self.maker.shared.made)
        left = dict(self.failed)
        groups: dict[Any, list[int]] = {}
        for number, trial in enumerate(self.made):
            if trial is None:
                continue
            if broken and any(id(one) in broken for one in indicators_of(trial)):
                left[number] = "an indicator fails"
                continue
            shape = _shape(self.maker.own(trial), trial.p), len(timers_of(trial))
            groups.setdefault(shape, []).append(number)
        at = self.asked[2](self.market.stamps) if self.asked[2] else np.arange(self.market.steps)
        parts = []
        for numbers in groups.values():
            trials = [self.made[number] for number in numbers]
            program = translate(self.asked[0], trials, self.maker.own, owners, self.market.stamps)
            self._pair_operations(program)
            run_of_all = Run(self, program, trials, at, self.recorded)
            if given is not None:
                self._hand_over(given, run_of_all, numbers, at)
                continue
            parts.append((numbers, run_of_all.go_fast() if self.backend == "numba" else run_of_all.go()))
        self.outcomes = _together(len(self.made), parts, left, self.market, at, self.recorded)
        release(self.maker.shared.made)
        for _, made in parts:
            vars(made).clear()  # it and the functions that it made refer to each other
        vars(self.market).clear()  # as this stays until collected

    def _beforehand(self) -> list[Any]:
        """Return the indicators to compute beforehand; numba computes the other operations where it reads them."""
        self.inlined = dict[int, Any]()
        if self.backend == "numba":
            bars = min(data.buflen() for data in self.datas)
            unread = self.maker.shared.unread_operations()
            self.inlined = {id(one): one for one in unread if never_raises(one, bars)}
        return [one for one in self.maker.shared.made if id(one) not in self.inlined]

    def _pair_operations(self, program: Program) -> None:
        """Let a program compute operations where it reads them, or compute them now if it can't."""
        inlined = [(n, lines) for n, (_, lines, _) in enumerate(program.slots)
                   if any(id(line) in self.inlined for line in lines)]  # fmt: skip
        for number, lines in inlined:
            pairs = pairs_of(lines) if all(id(line) in self.inlined for line in lines) else None
            if pairs is None:
                reckon(list(self.inlined.values()))
                self.inlined, program.pairs = {}, {}
                return
            program.pairs[number] = pairs

    def _hand_over(self, given: Parts, every: Run, numbers: list[int], at: np.ndarray) -> None:
        """Run the trials of a program, and deliver their outcomes part by part."""
        done = every.parts_by_numba(given.size) if self.backend == "numba" else iter([every.go()])
        begun = 0
        for part in done:
            own = numbers[begun : begun + part.count]
            mine = [(list(range(part.count)), part)]
            given.take(_together(part.count, mine, {}, self.market, at, self.recorded), own)
            begun += part.count
        vars(every).clear()

    def _runnext(self, runstrats: list[Any]) -> None:
        raise NotCompiled("it runs bar by bar")


def _shape(own: Mapping[str, Any], params: Any) -> Any:
    """Return what trials of one program have in common: kinds, texts, truths and lengths."""

    def of(value: Any) -> Any:
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, list | tuple | dict | set):
            return (
                type(value).__name__,
                len(value),
                *(
                    map(of, value.values())
                    if isinstance(value, dict)
                    else map(of, value if not isinstance(value, set) else ())
                ),
            )
        return type(value).__name__

    named = tuple((name, of(value)) for name, value in own.items())
    return named, tuple((name, of(value)) for name, value in params._getkwargs().items())


class Run:
    """The trials of one program."""

    def __init__(
        self, bench: Any, program: Program, trials: list[Any], at: np.ndarray, recorded: Sequence[str]
    ) -> None:
        self.program, self.market, self.count, self.at = program, bench.market, len(trials), at
        self.recorded = set(recorded)
        feeds = len(bench.datas)
        self.constants = {
            **LEDGER_CONSTANTS, **constants_of(bench), "NF": feeds,
            "HEARS": program.hears, "TRADES": program.hears_trades, "VALUES": program.values,
            "MARKET_ONLY": program.market_only, "FAMILIES": program.families, "GROUPS": program.groups,
            "RINGS": program.rings,
        }  # fmt: skip
        self.shapes = {"": (), ledger.FEEDS: (feeds,), ledger.NOTED: (2 * ledger.NOTES,)}
        parts = {"RINGS": ledger.OF_TIMERS, "FAMILIES": ledger.OF_FAMILIES, "GROUPS": ledger.OF_GROUPS,
                 "TIERED": ledger.OF_TIERS, "CAPPED": ledger.OF_CAPS, "BILLED": ledger.OF_BILLS}  # fmt: skip
        self.more = {name: one for flag, own in parts.items() if self.constants[flag] for name, one in own.items()}
        self.columns = bench.market.columns(program.closes, columns_of(bench, self.constants))
        of_trades = ledger.OF_TRADES if program.hears_trades else {}
        self.kept = {**ledger.ACCOUNT, **of_trades, **self.more, **program.account}
        self.first = {"rank": np.full((feeds, 1), -1), "cash": np.array([bench.broker.getcash()]), **program.first}
        if self.constants["TIERED"]:
            traded = bench.broker.getcommissioninfo(bench.datas[0]).traded
            self.first |= {"month": np.array([traded.month]), "month_shares": np.array([traded.shares])}
        self.flags = np.zeros(self.count, bool)
        self.flagged = False
        self.log: list[tuple[Any, ...]] = []  # the trials of some fills, and each of `FILL_COLUMNS` of them
        self.log_of_asked: list[Any] = []  # of the same fills the prices without slippage, where there is any
        self.done: Any = None  # by numba
        self.lines: list[tuple[int, np.ndarray, Any]] = []  # of trials at steps of their own
        phases = {one: self.market.phases(one) for one in {tuple(trial._minperiods) for trial in trials}}
        before = np.array([phases[tuple(trial._minperiods)] for trial in trials])
        self.before, self.ready = before[:, 0], before.sum(axis=1)
        self.rings = [_kinds(alike, self.market) for alike in zip(*map(timers_of, trials), strict=True)]
        self.rings = self.rings if program.rings else []
        self.opens = int(np.searchsorted(self.market.stamps, bench.begins, side="right"))
        if self.opens and self.rings:
            raise NotCompiled("timers of a strategy that begins within the bars are not compiled")
        if self.opens:  # the first bar after the start is the one that just suffices
            self.ready = np.maximum(self.before, self.opens) + 1

    def ready_state(self, own_steps: str = "") -> None:
        """Lay out what numpy walks over: step by step, or each trial at a step of its own."""
        program = self.program
        self.now = self.market.now(self.columns, bool(self.rings))
        self.state = SimpleNamespace(now=self.now, flag=self.flag, log_fill=self.log_fill, trials=self.count)
        self.state.log_asked = lambda t, asked: self.log_of_asked.append(asked)
        self.state.constants, self.state.streams, self.state.calls = program.constants, program.streams, program.calls
        if own_steps:
            self.state.lines = [(values, where) for _, values, where in self.lines]
            self.state.step, self.state.columns = self.own_step, self.by_feed
            self.state.reads, self.state.writes = np.zeros((2, self.count), np.int64)
        else:
            self.state.lines = [(rows_of_lines(lines), where) for _, lines, where in program.slots]
        self.source = self.written(["check", "try_pending", *([] if own_steps else ["f_value"]), *program.entries],
                                   own_steps)  # fmt: skip
        self.used = {name[2:] for name in named_in(self.source)}
        if not own_steps:
            self.keep_columns(self.source)
        self.room = _ROOM
        self.state.account = {name: self.zeros(name, _ROOM) for name in self.kept}
        for name, values in {**self.first, "room": np.array([_ROOM])}.items():
            self.state.account[name][...] = values
        self.calls = built(self.source, self.state)

    def written(self, entries: list[str], own_steps: str = "") -> str:
        """Return the source of functions over all trials."""
        program = self.program
        slots = [(feed, isinstance(where, np.ndarray)) for feed, _, where in program.slots]
        kinds = program.constant_kinds
        return written(program.functions, self.constants, self.kept, kinds, slots, entries, own_steps)

    def keep_columns(self, source: str) -> None:
        """Move only those columns of the market that a source reads."""
        read = re.compile(r"\bN\.(\w+)").findall(source)
        self.now.columns = [column for column in self.now.columns if {*column[:2]} & {*read}]

    def zeros(self, name: str, room: int) -> np.ndarray:
        """Return a table of the account without anything in it."""
        dtype, by = self.kept[name]
        if by not in (ledger.ORDERS, ledger.QUEUE):
            return np.zeros((*self.shapes[by], self.count), dtype)
        if name not in self.used:  # nor is it ever
            return np.broadcast_to(np.zeros((1, 1), dtype), (room, self.count))
        return np.zeros((room, self.count), dtype)

    def flag(self, t: np.ndarray) -> None:
        """Leave trials to the event engine."""
        self.flags[t] = True
        self.flagged = True

    def log_fill(self, t: np.ndarray, *values: Any) -> None:
        """Note a fill of each of some trials."""
        self.log.append((t, *values))

    def grow(self) -> None:
        """Make room for more orders."""
        account, self.room = self.state.account, 2 * self.room
        used = int(account["orders"].max())
        for name, (_, by) in self.kept.items():
            if by in (ledger.ORDERS, ledger.QUEUE):
                larger = self.zeros(name, self.room)
                if name in self.used:
                    larger[:used] = account[name][:used]
                account[name] = larger
        account["room"][:] = self.room
        self.calls = built(self.source, self.state)

    def go(self) -> Run:
        """Go through all bars with numpy: from one step at which a trial may act to the next, where these are few."""
        idle, begun = self.idle(), self.opens
        self.equity, self.cash, self.positions = self.account_rows(by_trial=idle is not None)
        self.wanted = np.zeros(self.market.steps, bool)
        self.wanted[self.at] = True
        told_at = int(self.wanted[: self.opens].sum())  # before it opens nothing happens
        self.equity[:told_at] = self.cash[:told_at] = self.first["cash"]
        if idle is not None:
            begun = self.go_by_trial(idle)
            idle, self.lines, self.state.lines, self.calls = None, [], [], {}  # which take much memory
        if begun < self.market.steps:
            self.go_by_step(begun)
        return self

    def idle(self) -> Idle | None:
        """Return when trials may act; None if that is not known, or always."""
        program, market = self.program, self.market
        if not {*program.entries} <= {"next", "deliver"}:
            return None
        least = min([market.steps, *(len(line.array) - 1 for _, lines, _ in program.slots for line in lines)])
        wholes = {name for name, (dtype, _) in self.kept.items() if dtype == ledger.WHOLE}
        functions = {**ledger_functions(), **program.functions}
        condition = acts(functions, "next", self.constants, wholes, least)
        if condition is True:
            return None
        self.lines = [(clock, np.array(values_of_lines(lines)), where) for clock, lines, where in program.slots]
        rows = np.ascontiguousarray(market.clocks(lagged=False).T)
        self.by_feed = {name: np.ascontiguousarray(values.T) for name, values in self.columns.items()} | {"rows": rows}
        return Idle(condition, self.by_feed, rows, self.lines, program.constants)

    def go_by_trial(self, idle: Idle) -> int:
        """
        Take each trial from one step at which it may act to the next, many trials at a time.

        Returns:
            The step from which on to take all trials together, since too many of them act at most steps.
        """
        self.own_step = step = np.maximum(self.before, self.opens)
        self.ready_state("together" if self.market.each_step else "apart")
        history, steps, every = _History(self), int(self.market.steps), np.arange(self.count)
        start, end = self.opens, min(int(step.max()) + _TRIED, steps)
        with np.errstate(all="ignore"):
            while start < steps:
                idle.begin(self.count, start, end)
                rounds, first = 0, int(step.min())
                while (t := every[(step < end) & ~self.flags]).size:
                    self.go_on(idle, t, history)
                    rounds += 1
                history.fill(start, end)
                if rounds > _SELDOM * (end - first):
                    return end
                start, end = end, min(end + max(1, _TABLED // self.count), steps)
        return steps

    def go_on(self, idle: Idle, t: np.ndarray, history: _History) -> None:
        """Let the broker act for trials at their steps, then the strategy at the next step at which it may."""
        account, step, hears_trades = self.state.account, self.own_step, self.program.hears_trades
        given = t[account["orders"][t] != account["checked"][t]]
        if given.size:
            if account["orders"].max() > self.room - _AT_ONCE:
                self.grow()
            self.calls["check"](given)
        waiting = t[account["pending"][t] > 0]
        if waiting.size:
            self.calls["try_pending"](waiting)
            history.note(waiting)
        if self.program.hears or hears_trades:
            state, notes = self.state, account["told"][t]
            state.reads[t] = state.writes[t]
            state.writes[t] = ledger.NOTES - state.writes[t]
            hearing = t[(notes | account["traded"][t] if hears_trades else notes) > 0]
            if hearing.size:
                self.calls["deliver"](hearing)
        now = step[t]
        then = idle.soonest(account, t, now)
        busy = account["pending"][t] > 0
        if self.program.hears or hears_trades:
            busy |= (account["told"][t] > 0) | (account["orders"][t] != account["checked"][t])
        step[t] = then = np.where(busy & (then > now), now + 1, then)
        acting = t[(then < idle.end) & ~(busy & (then > now))]
        if acting.size:
            self.calls["next"](acting)
            step[acting] += 1

    def go_by_step(self, begun: int) -> None:
        """Take all trials together through all bars from a step on."""
        before = self.state if begun > self.opens else None
        room = self.room if before is not None else 0
        self.ready_state()
        if before is not None:
            self.resume(before, room)
        every, live = np.arange(self.count), np.flatnonzero(~self.flags)
        account, now = self.state.account, self.now
        hears, hears_trades = self.program.hears, self.program.hears_trades
        orders, checked, pending, told = (account[name] for name in ("orders", "checked", "pending", "told"))
        traded = account["traded"] if hears_trades else told
        last_before, last_ready = int(self.before.max()), int(self.ready.max())
        prenext, nextstart = ("prenext" in self.calls, "nextstart" in self.calls)
        equity, cash, positions = (name in self.recorded for name in ("equity", "cash", "positions"))
        listed = self.wanted.tolist()
        told_at = sum(listed[:begun])
        with np.errstate(all="ignore"):
            for step in range(begun, self.market.steps):
                move(now, step)
                calls, all_live = self.calls, len(live) == self.count
                given = (orders != checked).nonzero()[0] if all_live else live[orders[live] != checked[live]]
                if given.size:
                    if orders.max() > self.room - _AT_ONCE:
                        self.grow()
                        calls = self.calls
                    calls["check"](given)
                waiting = pending.nonzero()[0] if all_live else live[pending[live] > 0]
                if waiting.size:
                    calls["try_pending"](waiting)
                if hears or hears_trades:
                    now.reads, now.writes = now.writes, ledger.NOTES - now.writes
                    hearing = (told | traded).nonzero()[0] if all_live else live[(told | traded)[live] > 0]
                    if self.rings and hearing.size:
                        calls["hear"](hearing)
                for number, (kinds, which) in enumerate(self.rings):
                    if kinds[:, step].any():
                        calls[f"ring_{number}"](live[kinds[:, step][which[live]]])
                if (hears or hears_trades) and hearing.size:
                    calls["deliver"](hearing)
                if step >= last_ready:
                    calls["next_whole" if all_live else "next"](live)
                else:
                    if self.opens <= step < last_before and prenext:
                        calls["prenext"](live[self.before[live] > step])
                    just = live[(np.maximum(self.before, self.opens)[live] <= step) & (self.ready[live] > step)]
                    if just.size:
                        calls["nextstart" if nextstart else "next"](just)
                    calls["next"](live[self.ready[live] <= step])
                if listed[step]:
                    if equity:
                        self.equity[told_at] = calls["f_value_whole"](every)
                    if cash:
                        self.cash[told_at] = account["cash"]
                    if positions:
                        self.positions[told_at] = account["position"]
                    told_at += 1
                if self.flagged:
                    live, self.flagged = np.flatnonzero(~self.flags), False
                    if not live.size:
                        break

    def resume(self, before: SimpleNamespace, room: int) -> None:
        """Go on with an account of trials that were at steps of their own, and which has room for so many orders."""
        self.room = room
        for name, values in before.account.items():
            if values.flags.writeable:
                self.state.account[name] = values
            if self.kept[name][1] == ledger.NOTED:  # whose halves are read and written in turn
                late = before.writes > 0
                values[:, late] = np.roll(values[:, late], ledger.NOTES, axis=0)
        self.calls = built(self.source, self.state)

    def account_rows(self, *, by_trial: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Return the tables of equity, cash and positions by recorded step and trial; those not recorded are empty.

        Args:
            by_trial: whether what belongs to a trial is next to each other in memory.
        """
        width = len(self.at)
        equity, cash, positions = (width * (name in self.recorded) for name in ("equity", "cash", "positions"))
        shapes = ((equity, self.count), (cash, self.count), (positions, len(self.market.datas), self.count))
        order: Any = "F" if by_trial else "C"
        first, second, third = (np.zeros(shape, order=order) for shape in shapes)
        return first, second, third

    def go_fast(self) -> Run:
        """Let numba go through all bars, trial by trial."""
        (done,) = self.parts_by_numba(self.count)
        return done

    def parts_by_numba(self, size: int) -> Iterator[Run]:
        """Run all bars with numba, trial by trial, and yield this run with the outcomes of some of them at a time."""
        from backtest.engine.compiled.kernel import Kernel

        program, market = self.program, self.market
        pairs = program.pairs
        lines = [(pairs[n].lefts if n in pairs else values_of_lines(alike), where)
                 for n, (_, alike, where) in enumerate(program.slots)]  # fmt: skip
        slots = [
            (feed, isinstance(where, np.ndarray), len(table), len(table[0]))
            for (feed, _, where), (table, _) in zip(program.slots, lines, strict=True)
        ]
        kernel = Kernel(
            program.texts,
            program.entries,
            self.constants,
            {**self.more, **program.account},
            program.constant_kinds,
            slots,
            market.steps,
            list(self.columns),
            pairs,
        )
        wanted = np.zeros(market.steps, np.int64)
        wanted[self.at] = 1
        tables = market.tables(self.columns, kernel.read, bool(self.rings))
        kernel.lay_out(self.first, program.constants, lines, tables, wanted, self.recorded, self.rings)
        count = self.count
        for start in range(0, count, size):
            part = range(start, min(start + size, count))
            self.count = len(part)
            self.done = kernel.run(part, (self.opens, self.before, self.ready))
            # By step, feed and trial, as numpy leaves them.
            self.equity, self.cash, self.flags = self.done.equity.T, self.done.cash.T, self.done.flags
            self.positions = np.moveaxis(self.done.positions, 0, -1)
            yield self

    def order_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the number of the trial of each order, and its row."""
        trial, ref, column = self.order_columns()
        return trial, _rows_of(ref, column)

    def order_columns(self) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Return the number of the trial of each order, its number there from 0 on, and what the ledger has of it."""
        if self.done is not None:
            counts = self.done.counts
            trial, begins = np.repeat(np.arange(self.count), counts), np.cumsum([0, *counts])
            ref = np.arange(len(trial)) - begins[trial]
            return trial, ref, self.done.columns(_TOLD_OF_ORDERS)
        account = self.state.account
        trial, ref = np.nonzero(np.arange(account["orders"].max())[None, :] < account["orders"][:, None])
        return trial, ref, {name: account[name][ref, trial] for name in _TOLD_OF_ORDERS}

    def fill_rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the trial number of each fill, its row and, if there is slippage, its price without."""
        if self.done is not None:
            trial = np.repeat(np.arange(self.count), list(map(len, self.done.fills)))
            return trial, np.concatenate(self.done.fills), np.concatenate(self.done.asked or [np.zeros(0)])
        count = [len(noted[0]) for noted in self.log]
        trial = np.concatenate([noted[0] for noted in self.log] or [np.zeros(0, np.int64)])
        by_trial = np.argsort(trial, kind="stable")
        rows = np.empty((len(trial), len(FILL_COLUMNS)))
        for number in range(len(FILL_COLUMNS)):
            rows[:, number] = _flat([noted[1 + number] for noted in self.log], count)[by_trial]
        rows[:, 0] += 1
        asked = _flat(self.log_of_asked, count)[by_trial] if self.log_of_asked else np.zeros(0)
        return trial[by_trial].astype(np.int64), rows, asked


class _History:
    """
    The account at each step of trials that are taken through steps of their own, from notes of when it changes.

    Args:
        run: the trials, whose tables of equity, cash and positions are filled.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.noted = run, list[tuple[np.ndarray, ...]]()
        self.names = _OF_VALUE if len(run.market.datas) == 1 else (*_OF_VALUE, "asked", "ranked")
        self.account = {name: run.state.account[name].copy() for name in self.names}
        self.source = run.written(["f_value"])
        run.keep_columns(self.source)
        self.value = self.value_of(self.account)
        self.at = int(run.wanted[: run.opens].sum())
        self.every = np.arange(run.count)
        self.recorded = bool({"equity", "cash", "positions"} & run.recorded)

    def note(self, t: np.ndarray) -> None:
        """Note the account of trials at the step of each."""
        account = self.run.state.account
        if self.recorded and t.size:
            self.noted.append((t, self.run.own_step[t], *(account[name][..., t] for name in self.names)))

    def fill(self, start: int, end: int) -> None:
        """Fill the tables for the steps from a first one up to the one before the last, in which all is noted."""
        if self.recorded:
            nobody = np.zeros(0, np.int64)
            noted = self.noted or [(nobody, nobody, *(values[..., nobody] for values in self.account.values()))]
            t, steps, *values = (np.concatenate(part, axis=-1) for part in zip(*noted, strict=True))
            (self.fill_of_one if len(self.run.market.datas) == 1 else self.fill_of_many)(start, end, t, steps, values)
        self.noted = []

    def fill_of_one(self, start: int, end: int, t: np.ndarray, steps: np.ndarray, values: list[np.ndarray]) -> None:
        """Fill the tables of trials over one feed, some trials at a time: between notes nothing changes."""
        run, every = self.run, np.arange(self.run.count)
        order = np.argsort(t, kind="stable")
        begins = np.searchsorted(t[order], every)  # before the notes of each trial the account as it is
        steps = np.insert(steps[order], begins, start)
        place = begins + every
        lengths = np.append(steps[1:], end)
        lengths[place[1:] - 1] = end
        lengths -= steps
        known = {name: np.insert(value[..., order].ravel(), begins, self.account[name].ravel())
                 for name, value in zip(self.names, values, strict=True)}  # fmt: skip
        wanted = np.flatnonzero(run.wanted[start:end])
        filled = slice(self.at, self.at + len(wanted))
        run.now.close = [run.columns["close"][start:end, 0]]
        together = max(1, _FILLED_AT_ONCE // (end - start))
        for first in range(0, run.count, together):
            part = slice(first, first + together)
            which = slice(place[first], place[part.stop] if part.stop < run.count else None)
            spread = {name: np.repeat(value[which], lengths[which]).reshape(-1, end - start)
                      for name, value in known.items()}  # fmt: skip
            if "equity" in run.recorded:
                account = {**spread, "position": [spread["position"]], "paid": [spread["paid"]]}
                run.equity[filled, part] = self.value_of(account)(every[:1])[:, wanted].T
            if "cash" in run.recorded:
                run.cash[filled, part] = spread["cash"][:, wanted].T
            if "positions" in run.recorded:
                run.positions[filled, 0, part] = spread["position"][:, wanted].T
        last = np.append(place[1:], len(steps)) - 1
        for name, value in known.items():
            self.account[name][...] = value[last]
        self.at += len(wanted)

    def value_of(self, account: dict[str, Any]) -> Callable[..., np.ndarray]:
        """Return the function that computes the value of accounts."""
        return built(self.source, SimpleNamespace(**{**vars(self.run.state), "account": account}))["f_value_whole"]

    def fill_of_many(self, start: int, end: int, t: np.ndarray, steps: np.ndarray, values: list[np.ndarray]) -> None:
        """Fill the tables of trials over several feeds, step by step."""
        order = np.argsort(steps, kind="stable")
        t, values = t[order], [value[..., order] for value in values]
        bounds = np.searchsorted(steps[order], np.arange(start, end + 1)).tolist()
        for step, first, last in zip(range(start, end), bounds, bounds[1:], strict=False):
            if last > first:
                for name, value in zip(self.names, values, strict=True):
                    self.account[name][..., t[first:last]] = value[..., first:last]
            if self.run.wanted[step]:
                self.fill_step(step)

    def fill_step(self, step: int) -> None:
        run, at = self.run, self.at
        if "equity" in run.recorded:
            move(run.now, step)
            run.equity[at] = self.value(self.every)
        if "cash" in run.recorded:
            run.cash[at] = self.account["cash"]
        if "positions" in run.recorded:
            run.positions[at] = self.account["position"]
        self.at += 1


def _kinds(timers: Sequence[Any], market: Market) -> tuple[np.ndarray, np.ndarray]:
    """Return of a timer of each trial at which steps each kind of it rings, and of which kind it is in each trial."""
    names = [repr([one if isinstance(one, _PLAIN) else id(one) for name, one in timer.p._getkwargs().items()
                   if name not in ("tid", "owner")]) for timer in timers]  # fmt: skip
    kinds = dict(zip(names, timers, strict=True))
    places = {name: n for n, name in enumerate(kinds)}
    return rings_of(list(kinds.values()), market), np.array([places[name] for name in names])


_PLAIN = (int, float, str, list, tuple, time, timedelta, type(None))


def _flat(values: Sequence[Any], counts: Sequence[int]) -> np.ndarray:
    """Return values one after the other, of which some are a number for as many as there are."""
    differ = [isinstance(value, np.ndarray) and value.ndim for value in values]
    if not any(differ):
        return np.repeat(np.array(values, float), counts)
    if all(differ):
        return np.concatenate(values)
    return np.concatenate([np.broadcast_to(value, count) for value, count in zip(values, counts, strict=True)])


def _rows_of(ref: np.ndarray, column: Mapping[str, np.ndarray]) -> np.ndarray:
    rows = [ref + 1, column["feed"], column["size"] > 0, column["kind"], column["status"], column["size"],
            column["given"], column["filled"], column["average"], column["costs"], column["closed"]]  # fmt: skip
    return np.array(rows, float).T.reshape(len(ref), len(ORDER_COLUMNS))


def _together(
    count: int,
    parts: list[tuple[list[int], Run]],
    left: dict[int, str],
    market: Market,
    at: np.ndarray,
    recorded: Sequence[str],
) -> Outcomes:
    """Return the outcomes of all programs as those of all trials."""
    found = Outcomes(left=left, stamps=market.stamps, steps=at)
    tables: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"orders": [], "fills": []}
    pieces_of_asked: list[np.ndarray] = []
    one = len(parts) == 1 and len(parts[0][0]) == count  # mostly so: nothing is copied
    accounts = [name for name in ("equity", "cash", "positions") if name in recorded]
    for name in accounts:
        shape = (count, len(at), len(market.datas)) if name == "positions" else (count, len(at))
        setattr(found, name, np.moveaxis(getattr(parts[0][1], name), -1, 0) if one else np.zeros(shape))
    for numbers, done in parts:
        place = np.array(numbers)
        if not one:
            for name in accounts:
                getattr(found, name)[place] = np.moveaxis(getattr(done, name), -1, 0)
        for number in np.flatnonzero(done.flags).tolist():
            left[numbers[number]] = "it does something unexpected in a bar"
        if "orders" in recorded:
            trial, rows = done.order_rows()
            tables["orders"].append((place[trial], rows))
        if "fills" in recorded:
            trial, rows, asked = done.fill_rows()
            tables["fills"].append((place[trial], rows))
            pieces_of_asked.append(asked)
    for name, pieces in tables.items():
        if not pieces:
            setattr(found, f"{name}_from", np.zeros(count + 1, np.int64))
            continue
        trial = np.concatenate([one for one, _ in pieces])
        rows = np.concatenate([rows for _, rows in pieces]) if len(pieces) > 1 else pieces[0][1]
        if len(pieces) > 1:  # those of one program are in order
            order = np.argsort(trial, kind="stable")
            trial, rows = trial[order], rows[order]
        setattr(found, name, rows)
        setattr(found, f"{name}_from", np.searchsorted(trial, np.arange(count + 1)))
        if name == "fills":
            asked = np.concatenate(pieces_of_asked)
            found.asked = asked[order] if len(pieces) > 1 and len(asked) else asked
    return found
