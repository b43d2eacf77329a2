"""
`look_ahead`: detect look-ahead bias by running a strategy on truncated bars, and on bars with another future.

Its decisions up to the cut must stay the same. `warm_up` runs it again from a later start.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path
from types import new_class
from typing import TYPE_CHECKING, Any, Unpack

import backtrader as bt
import numpy as np
import pyarrow as pa

from backtest import _arguments
from backtest.api import RunResult, known_universe, prepared, run, takes_frames
from backtest.engine.account.dividends import DERIVED, dividends_of
from backtest.engine.account.interest import IB
from backtest.engine.account.margin.tables import ACCOUNTS
from backtest.engine.cash_flows import Interest
from backtest.engine.code.parcels import Parcel
from backtest.engine.code.strategy import Strategy, load_strategy, typed_things
from backtest.engine.feed import close_stamps
from backtest.engine.provenance import module_files, source_file
from backtest.engine.simulation import Shared, simulate
from backtest.errors import BacktestError, NoBars, StrategyError, UsageError
from backtest.market import arrays
from backtest.market.bars import extra_of
from backtest.market.checks import RATES
from backtest.market.series import Series, series_of, several_series
from backtest.market.span import Span, asked_span
from backtest.research.fresh_processes import fresh_processes
from backtest.research.search.executors import Work
from backtest.research.search.job import project_of, sendable, store_with_whole_path
from backtest.research.watching import files_noted, fix_chance, knows_more, stores_changed
from backtest.runs.spec import (
    ALLOW,
    BACKTRADER,
    NO_DIVIDENDS,
    BrokerageOptions,
    RunOptions,
    RunSpec,
    brokerage_of,
    takes_run_options,
)
from backtest.store.manifest import Manifest
from backtest.store.reader import CachedReader, Reader
from backtest.store.segments import segment_of
from backtest.store.tables import between, by_period

if TYPE_CHECKING:
    import pandas as pd

CUTS = 12

_HORIZON = 250  # bars of noise: a later future is cut off in the same run
_NOISE = 0.03  # deviation of a bar's close from the one before, so that any signal turns


@dataclass(frozen=True, slots=True, order=True)
class Decision:
    """
    An order as a strategy submitted or cancelled it, or cash that it added or set.

    It covers what the strategy decided, not what the market did with it.
    """

    time: datetime  # of the bar at whose close it was given, UTC
    series: str  # "" of cash
    side: str  # "buy", "sell", "cancel", "add cash" or "set cash"
    kind: str  # as Backtrader spells it: "Market", "Limit", "Stop", ...; "" of cash
    size: float
    prices: tuple[float, ...]  # of a limit or a stop, or of both; none for an order at the market
    terms: tuple[str, ...] = ()  # how long it is valid, and the order that it depends on

    def __str__(self) -> str:
        if not self.series:
            return f"{self.side} {self.size:.10g}"
        prices = " at " + ", ".join(f"{price:.10g}" for price in self.prices) if self.prices else ""
        return ", ".join([f"{self.side} {abs(self.size):.10g} {self.series} {self.kind}{prices}", *self.terms])


@dataclass(frozen=True, slots=True)
class Leak:
    """A decision that changes when later bars change, with its bar and the change."""

    time: datetime  # of the decision's bar
    change: str  # "cut off after it" and the like, the cut at or after this bar; or "filled in its own bar"
    decided: tuple[Decision, ...]  # at that bar with the true future
    instead: tuple[Decision, ...]  # at that bar with the other one

    def __str__(self) -> str:
        if not (self.decided or self.instead):
            return f"bar {self.time:%Y-%m-%d}, {self.change}"
        true, other = ("; ".join(map(str, found)) or "nothing" for found in (self.decided, self.instead))
        when = f"{self.time:%Y-%m-%d %H:%M}".removesuffix(" 00:00")
        return f"bar {when}, {self.change}: {true}, but then {other}"


@dataclass(frozen=True, slots=True)
class WarmUp:
    """The decisions of a run with a later start, compared with the first: times and sides, as sizes follow the cash."""

    start: datetime  # the later start, its first bar
    settled: datetime | None  # from this bar on all decisions are the same; None if to the end they are not
    different: int  # decisions that only one of the two made
    compared: int  # decisions of the first run since the start


@takes_frames
@takes_run_options
def look_ahead(
    strategy: str | Path | type[Any],
    series: Series | str | Iterable[Series | str] | Mapping[str, Any] | pd.DataFrame | pa.Table,
    *,
    store: Reader | str | Path | None = None,
    span: Span | Sequence[date | str | None] | None = None,
    start: date | str | None = None,
    end: date | str | None = None,
    params: Mapping[str, Any] | None = None,
    cuts: int = CUTS,
    seed: int = 0,
    pins: str | Path = "",
    tz: str = "",
    **asked: Unpack[RunOptions],
) -> list[Leak]:
    """
    Return the decisions that change when later bars change, in order of time; none for a strategy without look-ahead.

    At each cut, half of them at bars with orders, the later bars are removed, then replaced by a random walk, then by
    that walk mirrored; the strategy has to repeat all decisions up to the cut, bar by bar. An order that fills before
    the bar after the one of its decision is a leak too: its price is from before the decision. So is a file of bars or
    models that the strategy reads by itself, since it cannot be changed; bars that it reads from a store are changed
    too.

    Each run has its own process, so that nothing kept in a module carries over from another run. Random numbers without
    a seed are the same in all of them; a strategy that still decides differently on the same bars is compared up to
    that point.

    Args:
        cuts: the number of cuts, of three runs each. If they find nothing, the same number of further bars is tried,
            with one run each.
        seed: random seed of the walks, and of the cuts at bars without orders.
        pins: a file that `backtest pin` made: the run's bars must match it.
        tz: this and all that follows is as in `run`; frames instead of series and store also work.

    Raises:
        UsageError, NoBars, StrategyError: as `run` does.
    """
    trial = _trial(strategy, series, store, params, pins, asked)
    cuts, seed = _arguments.whole(cuts, "cuts"), _arguments.seed_of(seed)
    span_asked = asked_span(span, start, end)
    work = Work(_observed, trial, project_of(trial.strategy), str)
    with fresh_processes(work) as observe:
        try:
            truth, again = observe(_Future(span=span_asked)), observe(_Future(span=span_asked, again=True))
        except BacktestError:
            trial.begin(span_asked)  # which raises the same, with its cause
            raise
        random = np.random.default_rng(seed)
        leaks = [*truth.leaks, *_files_read(truth)]
        same = _same_until(truth.decisions, again.decisions)
        grown = observe(_Future(span=span_asked, grows=True)).decisions if cuts else truth.decisions
        for cut in _cuts(truth, _same_until(truth.decisions, grown), trial, cuts, random):
            if leaks and not cut.whole:
                continue  # a strategy known to look ahead needs no finer search
            for future in _futures(truth.bars, cut, random):
                other = observe(future).decisions
                leaks += _first_change(truth.decisions, other, trial.moment(future.last), future.change, same)
    firsts = {leak.time: leak for leak in reversed(leaks)}
    return sorted(firsts.values(), key=lambda leak: leak.time)


def look_ahead_of(spec: RunSpec, store: Reader | str | Path, cuts: int = CUTS, seed: int = 0) -> list[Leak]:
    """
    Return the result of `look_ahead` for a run with its settings, on the bars of a store.

    Raises:
        UsageError: the run's strategy is not a file, or the file is not there any more.
    """
    brokerage = spec.brokerage
    if brokerage.slippage.startswith("spread"):  # the quotes of another future are not known
        brokerage = replace(brokerage, slippage="")
    if not brokerage.dividends.startswith(
        DERIVED
    ):  # a file, which is elsewhere; no decision hangs on it but by the cash
        brokerage = replace(brokerage, dividends=NO_DIVIDENDS, withholding=0.0)
    if brokerage.interest != IB:
        brokerage = replace(brokerage, interest="")
    if brokerage.account not in ACCOUNTS:
        brokerage = replace(brokerage, account=BACKTRADER)
    return look_ahead(
        spec.strategy, spec.series, store=store, span=spec.span, params=spec.params, cuts=cuts, seed=seed,
        cash=spec.cash, risk_free=spec.risk_free, periods=spec.periods, brokerage=brokerage,
    )  # fmt: skip


@takes_frames
@takes_run_options
def warm_up(
    strategy: str | Path | type[Any],
    series: Series | str | Iterable[Series | str] | Mapping[str, Any] | pd.DataFrame | pa.Table,
    *,
    store: Reader | str | Path | None = None,
    span: Span | Sequence[date | str | None] | None = None,
    start: date | str | None = None,
    end: date | str | None = None,
    params: Mapping[str, Any] | None = None,
    skipped: float = 0.25,
    pins: str | Path = "",
    tz: str = "",
    **asked: Unpack[RunOptions],
) -> WarmUp:
    """
    Return the time from which a run that starts later makes the same decisions.

    A late time is normal for a strategy with a long memory; never means that results depend on the start date.

    Args:
        skipped: the fraction of bars that the later run does not see.
    """
    trial = _trial(strategy, series, store, params, pins, asked)
    share = _arguments.number(skipped, "skipped", "write the share of the bars to skip, such as 0.25")
    if not 0 <= share < 1:
        _arguments.refuse("skipped", skipped, "write the share of the bars to skip, such as 0.25")
    bars, truth, _ = trial.begin(asked_span(span, start, end))
    stamps = _clock(bars)
    begins = stamps[int(len(stamps) * share)]
    later = {one: table.filter(pa.array(close_stamps(table, one.size) >= begins)) for one, table in bars.items()}
    first = {(one.time, one.series, one.side) for one in truth if one.time >= trial.moment(begins)}
    second = {(one.time, one.series, one.side) for one in trial.decide(later)}
    different = sorted(first ^ second)
    since = different[-1][0] if different else trial.moment(begins)
    settled = min((one[0] for one in first & second if one[0] >= since), default=None) if different else since
    return WarmUp(trial.moment(begins), settled, len(different), len(first))


def _trial(strategy: Any, series: Any, store: Any, params: Any, pins: Any, asked: Mapping[str, Any]) -> _Trial:
    given = _arguments.mapping(params, "params", 'write a dict, such as {"fast": 10}')
    loaded, wanted, opened = load_strategy(strategy), several_series(series), store_with_whole_path(store)
    pinned = _arguments.path(pins, "pins", "write the file of the pins").absolute() if pins else ""
    named = tuple(map(opened.named, wanted))
    return _Trial(
        sendable(loaded), str(Path.cwd()), named, opened, given, pinned,
        _for_decisions(asked, opened, named), typed_things(loaded, given.values()),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Trial:
    """One strategy with everything that stays constant while the bars change."""

    given: Any  # the strategy as it can be sent to another process
    root: str  # the folder whose packages it may import
    series: tuple[Series, ...]
    store: Reader
    params: dict[str, Any]
    pins: str | Path  # of the true bars
    asked: dict[str, Any]
    typed: dict[str, Any] = field(default_factory=dict)

    @property
    def strategy(self) -> Strategy:
        """The strategy, loaded."""
        return replace(load_strategy(self.given, self.root), typed=self.typed)

    def begin(self, span: Any) -> tuple[dict[Series, pa.Table], list[Decision], RunResult]:
        """Return the true bars, the decisions on them, and the run."""
        decisions, kept = list[Decision](), _Kept(self.store)
        strategy = _watched(self.strategy, decisions, self.moment)
        result = run(strategy, self.series, store=kept, span=span, params=self.params, pins=self.pins, **self.asked)
        # Exchange rates get no other future, since no decision depends on them.
        bars = {one: table for one, table in kept.tables.items() if one in self.series or not _is_pair(one)}
        return bars, decisions, result

    def decide_on_the_true(self, span: Any) -> list[Decision]:
        """Return the decisions on the true bars, up to a failure."""
        return self._decided(self.store, span)

    def decide(self, bars: dict[Series, pa.Table]) -> list[Decision]:
        """Return the decisions on other bars: up to a failure, if the true bars cause none."""
        return self._decided(_Tables(bars, self.store), None)

    def _decided(self, store: Reader, span: Any) -> list[Decision]:
        """Return the decisions of a run whose other results, including the manifest, are not needed."""
        decisions: list[Decision] = []
        strategy = _watched(self.strategy, decisions, self.moment)
        asked = {name: value for name, value in self.asked.items() if name not in ("risk_free", "lines")}
        with suppress(StrategyError, UsageError):  # it reads past the end; the missing decisions show it
            request = prepared(strategy, self.series, store=store, span=span, params=self.params, **asked)
            simulate(*request, lines=False, shared=Shared())
        return decisions

    def moment(self, stamp: float) -> datetime:
        """Return when a bar is complete, from Backtrader's number; a bar of a day is identified by its date."""
        daily = all(one.size.daily for one in self.series)
        moment: datetime = bt.num2date(math.floor(stamp) if daily else stamp)
        return (moment + timedelta(microseconds=500)).replace(microsecond=0, tzinfo=UTC)


@dataclass(frozen=True, slots=True, eq=False)
class _Future:
    """The bars of a run: the true ones of a span, or ones that differ after a cut."""

    span: Any = None
    again: bool = False  # whether only the decisions on the true bars are needed
    grows: bool = False  # whether a bar is visible only when it comes, not before
    bars: dict[Series, pa.Table] = field(default_factory=dict)  # none: the true ones
    change: str = ""
    cut: float = 0.0  # the last bar that is the true one
    last: float = 0.0  # up to where decisions are to be the same
    seed: int = 0  # of the noise of other series, which the strategy reads from a store by itself
    sign: int = 0  # of that noise; 0 cuts them off


@dataclass(frozen=True, slots=True, eq=False)
class _Observed:
    """The decisions of a run; for the true bars also the bars themselves, and what else the run did."""

    decisions: list[Decision]
    bars: dict[Series, pa.Table] = field(default_factory=dict)
    leaks: tuple[Leak, ...] = ()
    files: tuple[str, ...] = ()  # that it read by itself


def _observed(trial: _Trial, futures: Sequence[_Future]) -> list[_Observed]:
    """Return the outcome of the first future, in a process that ends afterwards, since it changes global state."""
    future = futures[0]
    fix_chance()
    if future.bars:
        with stores_changed(lambda series, table: _changed(series, table, future)):
            return [_Observed(_imported_again(trial).decide(future.bars))]
    if future.again:
        return [_Observed(_imported_again(trial).decide_on_the_true(future.span))]
    if future.grows:
        with _bars_growing():
            return [_Observed(_imported_again(trial).decide_on_the_true(future.span))]
    with files_noted(_files_of(trial.strategy)) as files:
        bars, decisions, result = _imported_again(trial).begin(future.span)
    return [_Observed(decisions, bars, tuple(_filled_too_early(result)), tuple(files))]


def _imported_again(trial: _Trial) -> _Trial:
    """
    Return the trial with the modules of its class imported again, to detect what they read at import.

    Strategy files are always loaded again. Modules are not imported again if a parameter is an object of one of their
    classes, which would no longer match, or if they cannot be imported twice.
    """
    cls = trial.given
    if isinstance(cls, str) or "<locals>" in cls.__qualname__ or cls.__module__ not in sys.modules:
        return trial
    names = sorted({cls.__module__, *trial.strategy.files} & sys.modules.keys() - {"__main__"})
    try:
        given = Parcel((trial.params, trial.asked)).pack()
    except UsageError:
        return trial
    if cls.__module__ == "__main__" or any(name.encode() in given for name in names):
        return trial
    before = {name: sys.modules.pop(name) for name in names}
    try:
        again: Any = importlib.import_module(cls.__module__)
        for name in cls.__qualname__.split("."):
            again = getattr(again, name)
    except Exception:  # noqa: BLE001 - whatever a module raises
        sys.modules.update(before)
        return trial
    return replace(trial, given=again)


@contextmanager
def _bars_growing() -> Iterator[None]:
    """Make runs go bar by bar, as with live data in Backtrader: future bars do not exist yet."""
    run = bt.Cerebro.run

    def bar_by_bar(self: Any, **kwargs: Any) -> Any:
        return run(self, **{**kwargs, "preload": False, "runonce": False})

    bt.Cerebro.run = bar_by_bar
    try:
        yield
    finally:
        bt.Cerebro.run = run


def _files_of(loaded: Strategy) -> set[str]:
    """Return the files of a strategy's own code."""
    known = {str(file) for file in module_files(loaded).values()}
    home = source_file(loaded)
    return known | ({str(home)} if home else set()) | {loaded.cls.next.__code__.co_filename}


def _changed(series: Series, table: pa.Table, future: _Future) -> pa.Table:
    """Return a store series' bars in another future: those of the run, or others changed in the same way."""
    known = table.filter(pa.array(close_stamps(table, series.size) <= future.cut))
    if series in future.bars:
        own = future.bars[series]
        return pa.concat_tables([known, own.filter(pa.array(close_stamps(own, series.size) > future.cut))])
    count = min(len(table) - len(known), _HORIZON)
    if not future.sign or not count or not len(known):
        return known
    steps = np.random.default_rng([future.seed, len(known)]).normal(0, _NOISE, (3, count))
    return _with_noise(table, len(known), future.sign * steps)


class _Kept(CachedReader):
    """A reader that caches the bars read through it."""

    def __init__(self, behind: Reader) -> None:
        super().__init__(behind)
        self.tables: dict[Series, pa.Table] = {}

    def read(self, series: Series | str, span: Span | None = None, *, revision: int | None = None) -> pa.Table:
        """
        Return the bars of a series, and cache them.

        Raises:
            NoBars: there is no such series or revision, or no bar in the span.
        """
        wanted = self.named(series)
        bars = super().read(wanted, span, revision=revision)
        if wanted.prices not in RATES:  # which no strategy sees
            self.tables.setdefault(wanted, bars)  # a pair that is traded may be read again, as a rate
        return bars


class _Tables:
    """
    Tables that replace the bars of a store, whose only series they are; everything else comes from the store.

    Currency pairs are an exception: conversion uses those of the store.
    """

    def __init__(self, tables: Mapping[Series, pa.Table], behind: Reader) -> None:
        self.name, self._tables, self._behind = behind.name, tables, behind

    def series(self) -> list[Series]:
        """Return the series of the tables, and the store's currency pairs, sorted by spelling."""
        pairs = filter(_is_pair, self._behind.series())
        return sorted({*self._tables, *pairs}, key=lambda one: one.key)

    def named(self, series: Series | str) -> Series:
        """Return the series that a spelling refers to in the store."""
        return self._behind.named(series)

    def manifest(self, series: Series | str) -> Manifest:
        """
        Return the manifest that the store would have for these bars; its segments have no files.

        Raises:
            NoBars: there is no table of the series.
        """
        wanted = series_of(series)
        if self._is_of_true_bars(wanted):
            return self._behind.manifest(wanted)
        periods = by_period(self._table(wanted), wanted)
        segments = tuple(segment_of(period, bars, b"") for period, bars in periods.items())
        contract, extra = self._behind.manifest(wanted).contract, extra_of(self._table(wanted))
        return Manifest(wanted.key, 1, contract, segments, extra=extra)

    def read(self, series: Series | str, span: Span | None = None, *, revision: int | None = None) -> pa.Table:
        """
        Return the bars of a table, all or those in the span.

        Raises:
            NoBars: there is no table of the series, or no bar in the span, or a revision is asked for.
        """
        wanted = self.named(series)
        if self._is_of_true_bars(wanted):
            return self._behind.read(wanted, span, revision=revision)
        table = self._table(wanted)
        if revision is not None:
            self.manifest(wanted).before(revision)  # refuses: bars that are made up have none
        bars = table if span is None else between(table, span)
        if not len(bars):
            raise NoBars(f"{wanted.short} from {span} is not among the tables of {self.name}; name other dates")
        return bars

    def _is_of_true_bars(self, series: Series) -> bool:
        return (_is_pair(series) or series.prices in RATES) and series not in self._tables

    def _table(self, series: Series) -> pa.Table:
        if series not in self._tables:
            raise NoBars(f"{series.short} is not among the tables of {self.name}; name one that the run reads")
        return self._tables[series]


def _is_pair(series: Series) -> bool:
    """Return whether money may be converted by a series."""
    return series.instrument.kind == "CASH"


def _watched(loaded: Strategy, decisions: list[Decision], moment: Callable[[float], datetime]) -> Strategy:
    """Return the strategy with its orders recorded when they reach its broker, in whatever way."""
    strategy: Any = loaded.cls

    def start(self: Any) -> None:
        broker = self.broker

        def noted(side: str) -> Callable[..., Any]:
            def act(*args: Any, **kwargs: Any) -> Any:
                order = getattr(type(broker), side)(broker, *args, **kwargs)
                about = args[0] if side == "cancel" else order
                if about is not None:
                    oco = kwargs.get("oco", args[_OCO] if len(args) > _OCO else None)
                    decisions.append(_decision(moment(_seen(self)), side, about, oco))
                return order

            return act

        def noted_cash(name: str, side: str) -> Callable[..., Any]:
            def act(cash: Any) -> Any:
                if not isinstance(cash, Interest):
                    decisions.append(Decision(moment(_seen(self)), "", side, "", float(cash), ()))
                return getattr(type(broker), name)(broker, cash)

            return act

        for side in ("buy", "sell", "cancel"):
            setattr(broker, side, noted(side))
        for name, side in (("add_cash", "add cash"), ("set_cash", "set cash"), ("setcash", "set cash")):
            setattr(broker, name, noted_cash(name, side))
        strategy.start(self)

    body = {"start": start, "__module__": strategy.__module__, "__doc__": strategy.__doc__}
    return replace(loaded, cls=new_class(strategy.__name__, (strategy,), exec_body=lambda names: names.update(body)))


def _seen(strategy: Any) -> float:
    """Return the stamp of the last bar that a strategy can see: when a timer goes off, the feeds have moved to it."""
    stamps: list[float] = [data.datetime[0] for data in strategy.datas if len(data)]
    return max(stamps) if stamps else float(strategy.datetime[0])


_OCO = 8  # its place among the arguments of a broker's buy and sell


def _decision(time: datetime, side: str, order: Any, oco: Any) -> Decision:
    kind, created = order.getordername(), order.created
    prices = () if kind in ("Market", "Close") else (created.price, created.pricelimit)
    known = tuple(float(price) for price in prices if price is not None)
    return Decision(time, order.data._name, side, kind, float(created.size), known, tuple(_terms(order, oco)))


def _terms(order: Any, oco: Any) -> Iterator[str]:
    """Yield an order's terms besides size and prices; it refers to another order by the distance between both."""
    if order.valid is not None:
        yield f"valid until {bt.num2date(order.valid):%Y-%m-%d %H:%M}".removesuffix(" 00:00")
    for words, other in (("OCO with", oco), ("child of", order.parent)):
        if other is not None:
            yield f"{words} the order {order.ref - other.ref} before"


def _filled_too_early(result: RunResult) -> Iterator[Leak]:
    """Yield the orders that filled in the bar at whose close they were submitted."""
    for row in result.orders_table.to_pylist():
        if row["closed"] is not None and row["closed"] <= row["created"] and not _is_of_the_end(row, result):
            order = Decision(row["created"], row["series"], row["side"], row["kind"], row["size"], ())
            yield Leak(row["created"], "filled in its own bar", (order,), ())


def _is_of_the_end(row: Mapping[str, Any], result: RunResult) -> bool:
    """Return whether an order is not a decision, but the sale of a name whose bars have ended."""
    sold = result.manifest.get("universe", {}).get("sold", {})
    return bool(row["kind"] == "Close" and sold.get(row["series"]) == row["created"].date().isoformat())


@dataclass(frozen=True, slots=True)
class _Cut:
    """A bar after which the future changes, and whether in all ways or in one."""

    stamp: float
    whole: bool


def _cuts(
    truth: _Observed, suspect: datetime | None, trial: _Trial, count: int, random: np.random.Generator
) -> list[_Cut]:
    """
    Return the bars after which the future changes: spread over those with orders, and drawn from all.

    As many more bars with orders are tested with one kind of change each, to find look-ahead that occurs rarely.

    Args:
        suspect: where the strategy decides otherwise if bars appear one by one. There may be a good reason, such as
            arrays over all bars whose values depend only on the past; so these bars are tested.
    """
    stamps = _clock(truth.bars)[:-1]  # nothing comes after the last
    decided = {one.time for one in truth.decisions}
    busy = [stamp for stamp in stamps.tolist() if trial.moment(stamp) in decided]
    chosen = _spread(busy, (count + 1) // 2)
    others = random.choice(stamps, min(len(stamps), count - len(chosen)), replace=False).tolist()
    whole = {*chosen, *others, *(stamp for stamp in stamps.tolist() if trial.moment(stamp) == suspect)}
    more = {*_spread([stamp for stamp in busy if stamp not in whole], count)}
    return [*(_Cut(stamp, True) for stamp in sorted(whole)), *(_Cut(stamp, False) for stamp in sorted(more))]


def _spread(values: list[float], count: int) -> list[float]:
    return [values[int(place)] for place in np.linspace(0, len(values) - 1, min(len(values), count))]


def _futures(bars: dict[Series, pa.Table], cut: _Cut, random: np.random.Generator) -> Iterator[_Future]:
    stamp, seed = cut.stamp, int(random.integers(2**31))
    known = {one: table.filter(pa.array(close_stamps(table, one.size) <= stamp)) for one, table in bars.items()}
    if cut.whole and all(len(table) for table in known.values()):  # a series that has not begun cannot be cut off
        clock = _clock(known)
        if len(clock) > _LAST:
            yield _Future(bars=known, change="cut off after it", cut=stamp, last=float(clock[-1 - _LAST]), seed=seed)
    steps = {one: random.normal(0, _NOISE, (3, min(len(bars[one]) - len(known[one]), _HORIZON))) for one in bars}
    drawn = {one: random.random((len(extra_of(table)), steps[one].shape[1])) for one, table in bars.items()}
    ways = (("noise after it", 1), ("mirrored noise after it", -1))
    for change, sign in ways if cut.whole else (ways[int(random.integers(2))],):
        changed = dict[Series, pa.Table]()
        for one, table in bars.items():
            kept = len(known[one])
            later = _later(table, kept, one) if sign < 0 else table
            noisy = _with_noise(later, kept, sign * steps[one])  # so that the next bar rises in one way, falls in one
            changed[one] = _with_other_extra(noisy, table, drawn[one][:, : len(noisy) - kept], sign)
        yield _Future(bars=changed, change=change, cut=stamp, last=stamp, seed=seed, sign=sign)


_LAST = 5  # bars at the end, in which it is not a leak to know that they are the last: to leave the market, say
_PAUSE = 35  # days after a cut, in which there is no bar in a future, so that its next one has another date


def _later(table: pa.Table, kept: int, series: Series) -> pa.Table:
    """Return bars without those of the days after the first ones, if more follow."""
    stamps = close_stamps(table, series.size)
    since = int(np.searchsorted(stamps, stamps[max(kept - 1, 0)] + _PAUSE))
    if len(table) - since < _LAST:
        return table
    return pa.concat_tables([table.slice(0, kept), table.slice(since)])


def _with_noise(table: pa.Table, kept: int, steps: np.ndarray) -> pa.Table:
    """Return the first bars, and after them bars of a random walk from the last close; no more than there are steps."""
    later = table.slice(kept, steps.shape[1])
    steps = steps[:, : len(later)]
    start = table["close"][max(kept - 1, 0)].as_py()
    close = start * np.exp(np.cumsum(steps[0]))
    opening = np.concatenate([[start], close[:-1]]) * np.exp(steps[1] / 3)
    reach = abs(close) * abs(steps[2]) / 3
    high, low = np.maximum(opening, close) + reach, np.minimum(opening, close) - reach
    volume = arrays.numbers(later["volume"], math.nan) * np.exp(10 * steps[2])
    columns = {"open": opening, "high": high, "low": low, "close": close, "average": (high + low) / 2, "volume": volume}
    for name, values in columns.items():
        later = later.set_column(later.column_names.index(name), name, pa.array(values, from_pandas=True))
    return pa.concat_tables([table.slice(0, kept), later.cast(table.schema)])


def _with_other_extra(noisy: pa.Table, table: pa.Table, drawn: np.ndarray, sign: int) -> pa.Table:
    """
    Return bars with noise at their end, including the extra columns.

    Their numbers are drawn from the column itself, so that they are valid wherever its numbers are; mirrored, the
    largest replaces the smallest. Nulls stay as frequent as before.
    """
    for name, places in zip(extra_of(table), drawn, strict=True):
        ordered = np.sort(arrays.numbers(table[name]))  # NaN, for null, is last
        count, rows = int(np.isfinite(ordered).sum()), (places * len(ordered)).astype(int)
        rows = np.where((sign < 0) & (rows < count), count - 1 - rows, rows)
        kept = noisy[name].slice(0, len(noisy) - len(rows))
        other = pa.array(ordered[rows], pa.float64(), from_pandas=True)
        column = pa.chunked_array([*kept.chunks, other])
        noisy = noisy.set_column(noisy.column_names.index(name), noisy.schema.field(name), column)
    return noisy


def _first_change(
    truth: list[Decision], other: list[Decision], last: datetime, change: str, same: datetime | None = None
) -> Iterator[Leak]:
    """
    Yield the first bar, up to the last one, at which decisions differ; later differences may only follow from it.

    Args:
        same: when the strategy begins to decide differently on equal bars; None if it never does.
    """
    true, instead = (_by_time(decisions, last) for decisions in (truth, other))
    for time in sorted({*true, *instead}):
        if same is not None and time >= same:
            return
        if true.get(time, ()) != instead.get(time, ()):
            yield Leak(time, change, true.get(time, ()), instead.get(time, ()))
            return


def _same_until(truth: list[Decision], again: list[Decision]) -> datetime | None:
    """Return when a strategy begins to decide differently on equal bars; None if it never does."""
    last = max((one.time for one in (*truth, *again)), default=datetime.max.replace(tzinfo=UTC))
    return next((leak.time for leak in _first_change(truth, again, last, "")), None)


def _files_read(truth: _Observed) -> Iterator[Leak]:
    """Yield the files that the strategy read by itself, if they may contain later data than the bars so far."""
    first = min(one["time"][0].as_py() for one in truth.bars.values())
    for file in truth.files:
        if knows_more(file, first.date()):
            yield Leak(first, f"{file} is read, which this test cannot change", (), ())


def _by_time(decisions: list[Decision], last: datetime) -> dict[datetime, tuple[Decision, ...]]:
    known = [one for one in decisions if one.time <= last]
    return {time: tuple(found) for time, found in groupby(known, key=lambda one: one.time)}


def _for_decisions(asked: Mapping[str, Any], store: Reader, series: Sequence[Series]) -> dict[str, Any]:
    # No strategy sees the benchmark, and nothing here is plotted.
    kept = {name: value for name, value in asked.items() if name != "benchmark"}
    of_broker = {name: kept[name] for name in kept if name in BrokerageOptions.__annotations__}
    brokerage = brokerage_of(kept.get("brokerage"), of_broker)
    universe = known_universe(brokerage)
    if universe is not None:  # of another future some names may have no bars
        brokerage = replace(brokerage, missing_members=ALLOW)
    smaller, brokerage = brokerage.fill_bars, replace(brokerage, fill_bars="")  # of which no other future is made
    if (paid := dividends_of(brokerage.dividends, store, series)) is not None:  # those of the true bars
        brokerage = replace(brokerage, dividends=paid)
    if paid is not None or universe is not None or smaller:
        kept = {name: value for name, value in kept.items() if name not in of_broker}
        kept["brokerage"] = brokerage
    return {**kept, "lines": False}


def _clock(bars: dict[Series, pa.Table]) -> np.ndarray:
    """Return when bars are complete, as Backtrader's numbers."""
    return np.unique(np.concatenate([close_stamps(table, one.size) for one, table in bars.items()]))
