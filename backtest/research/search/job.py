"""`Job`, `Point`: what a worker needs to run trials of a sweep."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import lru_cache
from importlib.metadata import version
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from backtest import _arguments
from backtest.api import PreparedRun, RunResult, check_asked, known_universe, measured_by, prepared, run
from backtest.engine.account.borrowing import fee_series
from backtest.engine.account.commissions import check_told_apart
from backtest.engine.account.currencies import exchange_of
from backtest.engine.account.dividends import DividendTable, dividends_of
from backtest.engine.account.interest import BenchmarkRates, benchmark_rates
from backtest.engine.account.margin.tables import MarginTable, margin_table
from backtest.engine.code.imports import source_digest
from backtest.engine.code.parcels import sent_by_value
from backtest.engine.code.strategy import Strategy, load_strategy, parameters, typed_things
from backtest.engine.compiled.refusals import TooMany
from backtest.engine.compiled.runs import Together
from backtest.engine.markets.membership import with_bars
from backtest.engine.markets.small_bars import check_fill_bars, small_series
from backtest.engine.provenance import module_hashes, source_file
from backtest.engine.simulation import Shared, one_after_another, quotes_of, simulate, simulate_together
from backtest.engine.warm_up import Cash, gated, measured_from, waiting
from backtest.errors import BrokenPin, NoBars, StrategyError, UsageError
from backtest.market import arrays
from backtest.market.bars import rows_digest
from backtest.market.calendars import sessions_a_year, span_asked
from backtest.market.periods import Periods, of_that_clock, periods_of
from backtest.market.series import Series, series_of, several_series
from backtest.market.span import Span, asked_span, bounds_of
from backtest.metrics.account import Account, Accounts, in_common, sample, sample_batch
from backtest.metrics.table import measure_all
from backtest.research.out_of_sample.window import Window, cut_batch, cut_to, run_window
from backtest.research.search.trials import Trial, key_of
from backtest.runs.batch import RunBatch
from backtest.runs.currencies import are_plain, base_currency
from backtest.runs.spec import BACKTRADER, NO_DIVIDENDS, Brokerage, BrokerageOptions, RunSpec, brokerage_of
from backtest.store.reader import CachedReader, Reader, are_of_frames, hours_in
from backtest.store.store import Store, store_of

if TYPE_CHECKING:
    import pyarrow as pa

# The version since which trials of the same code on the same bars have had the same numbers, a part of their keys: a
# release that only adds keeps it, so that the trials of older sweeps are found.
_SAME_SINCE = "0.1.0"
_SECONDS = 0.5  # seconds after which a task returns its results; a kill loses no more


@dataclass(frozen=True, slots=True)
class Point:
    """What differs between trials: the parameters that vary, and the window, if not all bars."""

    params: dict[str, Any]
    window: Window | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What all trials of a sweep share; small, since it is sent with each task. Equal if the case is."""

    strategy: str | type[Any]  # file:Name with the whole path, or a class
    name: str
    source: str  # SHA-256 of the strategy's source
    modules: dict[str, str]  # SHA-256 of the source of each module of its project that it imports
    root: str  # the folder whose packages it may import, as those beside it
    series: tuple[Series, ...]
    store: Reader
    since: date | None
    until: date | None
    params: dict[str, Any]  # those that are not swept
    asked: dict[str, Any]  # what else `run` takes, in numbers and texts: what the key of a trial is a hash of
    brokerage: Brokerage  # of that, broker and market; the costs may be an object, of which `asked` has the name
    digests: dict[str, str]  # of the bars, by series
    case: str  # identifies all of the above except the store
    typed: dict[str, Any] = field(default_factory=dict)  # objects in parameters, of no file: see `typed_things`
    project: tuple[str, ...] = ()  # modules sent with a strategy that is in no file

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and self.case == other.case

    def __hash__(self) -> int:
        return hash(self.case)

    @property
    def clocks(self) -> list[Series]:
        """The series whose sessions measure the trials, and those with the same sessions."""
        return [self.series[n] for n in of_that_clock(self.series, [hours_in(self.store, one) for one in self.series])]

    @property
    def yearly(self) -> Periods:
        """The periods per year by which the trials' metrics are annualised."""
        found = periods_of(self.series, [hours_in(self.store, one) for one in self.series])
        return replace(found, count=self.asked["periods"]) if self.asked.get("periods") else found

    def key(self, point: Point) -> str:
        """Return the key of a point's trial."""
        return key_of(self.case, self.params | point.params, str(point.window or ""))


def job_of(
    strategy: str | Path | type[Any] | Strategy,
    series: Any,
    *,
    store: Reader | str | Path | None,
    span: Sequence[date | str | None] | None = None,
    start: date | str | None = None,
    end: date | str | None = None,
    params: Mapping[str, Any] | None = None,
    swept: Iterable[str] = (),
    cash: float | str = 100_000.0,
    benchmark: Series | str = "",
    risk_free: float | str = 0.0,
    periods: float | str = 0.0,
    brokerage: Brokerage | None = None,
    **options: Unpack[BrokerageOptions],
) -> Job:
    """
    Return the job of a sweep: the settings of each run, and the identities of strategy and bars.

    Args:
        swept: the names of the parameters that points set, or their values by name, whose code then counts, too; other
            parameters are as in `params`, or have their defaults.

    Raises:
        UsageError: a name is invalid, or the strategy cannot be identified.
        NoBars: the store lacks the bars.
    """
    found, wanted = load_strategy(strategy), several_series(series)
    brokerage = brokerage_of(brokerage, options)
    asked = _asked(
        {"cash": cash, "benchmark": benchmark, "risk_free": risk_free, "periods": periods}, brokerage, options
    )
    given, chosen = _arguments.mapping(params, "params", 'write a dict, such as {"fast": 10}'), set(swept)
    if not wanted:
        raise UsageError("no series to run on; name at least one, such as AAPL/1day")
    if twice := chosen & set(given):
        raise UsageError(f"{', '.join(sorted(twice))} is both swept and set; leave out one of the two")
    all_params = parameters(found, {**given, **dict.fromkeys(chosen)})
    opened = store_with_whole_path(store)
    sessions = asked_span(span, start, end)
    if isinstance(sessions, Span):
        raise UsageError("trials run on whole sessions; write span=('2020-01-02', '2024-03-28'), not a Span")
    since, until = sessions or (None, None)
    universe = known_universe(brokerage)
    wanted = with_bars(universe, opened, [opened.named(one) for one in wanted], sessions, None)
    check_fill_bars(brokerage, wanted)
    beside = [opened.named(one) for one in several_series(asked["benchmark"] or [])]
    read = [*wanted, *beside]
    paid = dividends_of(brokerage.dividends, opened, read)
    earned = benchmark_rates(brokerage.interest)
    ruled = margin_table(brokerage.account)
    brokerage = replace(  # a worker has no files
        brokerage, dividends=paid or NO_DIVIDENDS, interest=earned or "", account=ruled or BACKTRADER
    )
    if brokerage.slippage.startswith("spread"):
        read += [quotes for one in wanted for quotes in quotes_of(one)]
    read += map(opened.named, fee_series(brokerage.borrow, wanted).values())
    read += small_series(brokerage, wanted, opened, (since, until)).values()
    plain, bars = are_plain([*wanted, *beside], base_currency(wanted, brokerage.currency), brokerage.quoted_in), {}
    digests = {}
    for one in read:
        digests[one.key], table = digest_of(opened, one, since, until)
        if not plain:
            bars[one] = table
    rates = {} if plain else _rates_of(opened, wanted, beside, bars, brokerage)
    bars.clear()
    fixed = {name: value for name, value in all_params.items() if name not in chosen}
    tried = {name: list(values) for name, values in swept.items()} if isinstance(swept, Mapping) else {}
    modules = module_hashes(found, {**all_params, **tried})
    kept = [
        _SAME_SINCE,
        version("backtrader"),
        found.source,
        modules,
        [one.key for one in wanted],
        str(since),
        str(until),
        digests,
    ]
    if annualised := measured_by(opened, wanted, sessions_a_year(hours_in(opened, wanted[0]))):
        kept.append(annualised)  # the numbers of trials that 0.1.0 made are by others
    kept += [one.digest for one in (paid, earned, ruled) if one is not None]
    if rates:
        kept.append(rates)
    case = hashlib.sha256(json.dumps([kept, asked], sort_keys=True, default=repr).encode()).hexdigest()[:16]
    _made_here.add(case)
    return Job(
        sendable(found), found.name, found.source, modules, str(Path.cwd()), tuple(wanted), opened, since, until, fixed,
        asked, brokerage, digests, case, typed_things(found, [*all_params.values(), *tried.values()]),
        project_of(found),
    )  # fmt: skip


def _rates_of(
    store: Reader,
    series: Sequence[Series],
    benchmark: Sequence[Series],
    bars: Mapping[Series, pa.Table],
    brokerage: Brokerage,
) -> dict[str, Any]:
    """Return what identifies the exchange rates of all trials; nothing if no money is converted."""
    compared = next(((one, bars[one]) for one in benchmark), None)
    spec = RunSpec("", tuple(one.key for one in series), brokerage=brokerage)
    exchange = exchange_of(spec, store, {one: bars[one] for one in series}, compared)
    if exchange is None:
        return {}
    return {**exchange.told, "digests": {one.key: rows_digest(table) for one, table in exchange.tables.items()}}


_made_here: set[str] = set()  # cases of jobs that this process made


def sendable(strategy: Strategy) -> str | type[Any]:
    """Return what a worker needs to load a strategy: its file with the absolute path, or the class itself."""
    return f"{_whole_path(strategy)}:{strategy.cls.__name__}" if strategy.in_file else strategy.cls


def project_of(strategy: Strategy) -> tuple[str, ...]:
    """Return the loaded modules of a project to send along with a strategy that no other process can import."""
    return () if strategy.in_file or not sent_by_value(strategy.cls) else tuple(strategy.files)


def trials_of(job: Job, points: Sequence[Point]) -> list[Trial]:
    """Return the trials of the first points: as many as fit into half a second, and at least one."""
    began, made = time.monotonic(), list[_Made]()
    with one_after_another():
        for point in points:
            made.append(_made(job, point))
            if time.monotonic() - began > _SECONDS:
                break
    return _measured(made)


def result_of(job: Job, point: Point, *, lines: bool = False) -> RunResult:
    """
    Return the run of a point, with what Backtrader would plot if requested; never of a window.

    Raises:
        StrategyError, UsageError: as `run` does.
        BrokenPin: the bars, or the strategy, are not those of the job.
    """
    strategy, store = _bench(job)
    strategy = replace(strategy, name=job.name)  # an equal job before may have called it otherwise
    params, account = job.params | point.params, {name: job.asked[name] for name in _ACCOUNT if name in job.asked}
    asked: dict[str, Any] = {"store": store, "params": params, "brokerage": job.brokerage, **account}
    if point.window is not None:
        return run_window(strategy, job.series, point.window, since=job.since, **asked)
    return run(strategy, job.series, span=(job.since, job.until), lines=lines, **asked)


def digest_of(store: Reader, series: Series, since: date | None, until: date | None) -> tuple[str, pa.Table]:
    """Return the digest of the bars in a span of sessions, and the bars."""
    bars = store.read(series, span_asked(series, hours_in(store, series), (since, until)))
    return rows_digest(bars), bars


_Made = tuple[Trial, Account | None]  # a trial without numbers, and what they are computed from


def _made(job: Job, point: Point) -> _Made:
    trial = Trial(job.key(point), job.case, job.params | point.params, str(point.window or ""))
    _bench(job)  # here, so that a worker which lacks the strategy's file is not taken for a trial that fails
    try:
        return trial, _account_of(job, point)
    except (StrategyError, UsageError) as error:
        return replace(trial, error=str(error)), None


def trials_at_once(
    job: Job, points: Sequence[Point], backend: str = "numpy", size: int = 1000
) -> tuple[list[Trial | None], str]:
    """
    Return the trials of points by the compiled engine, None for one that it left out; and why there are none.

    Before that, the event engine must have made a trial of the job in this process, on the same bars.

    Args:
        points: the points, all on all bars or all in the same window.
        size: the number of trials that numba makes before their outcomes are measured.
    """
    window = points[0].window
    common = _common(job, job.name, window)
    strategy, made, places = common.request.strategy, list[_Made](), list[int]()
    specs, found = [], list[Trial]()
    for place, point in enumerate(points):
        try:
            params = parameters(strategy, {**job.params, **point.params})
        except UsageError:
            continue  # whose sentence the event engine has
        specs.append(replace(common.request.spec, params=params))
        places.append(place)
    if not specs:
        return [None for _ in points], ""
    named = {place: job.params | points[place].params for place in places}
    blank = {place: Trial(job.key(points[place]), job.case, named[place], str(window or "")) for place in places}

    def take(together: Together) -> None:
        batch = together.batch if window is None else cut_batch(window, together.batch)
        found.extend(_measured_batch(batch, [blank[places[n]] for n in together.places]))
        for n, record in together.records.items():
            trial = blank[places[n]]
            try:
                made.append((trial, sample(record if window is None else cut_to(window, record))))
            except StrategyError as error:
                made.append((replace(trial, error=str(error)), None))

    try:
        why_not = simulate_together(
            strategy, specs, common.request.costs, common.shared, take, backend, common.begins, size
        )
    except TooMany:
        half = len(points) // 2
        parts = [trials_at_once(job, part, backend, size) for part in (points[:half], points[half:])]
        return [trial for part, _ in parts for trial in part], next((said for _, said in parts if said), "")
    if why_not:
        return [None for _ in points], why_not
    of_key = {trial.key: trial for trial in [*found, *_measured(made)]}
    return [of_key.get(blank[place].key) if place in blank else None for place in range(len(points))], ""


def _measured_batch(batch: RunBatch, trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials of a batch of runs with their numbers."""
    accounts, rows, failed = sample_batch(batch)
    found = [replace(trials[row], error=error) for row, error in failed.items()]
    for n, (row, numbers) in enumerate(zip(rows, _numbers(accounts), strict=True)):
        found.append(_with_numbers(trials[row], accounts.days, accounts.returns[n], numbers))
    return found


def bars_in_job(job: Job, window: Window | None) -> int:
    """Return the number of rows in the last run of a job by the event engine in this process; 0 without any."""
    record = _common(job, job.name, window).shared.record
    return 0 if record is None else len(record)


def _account_of(job: Job, point: Point) -> Account:
    """Return the account of a point's run, and keep nothing else of the run."""
    common = _common(job, job.name, point.window)
    strategy = common.request.strategy
    params = parameters(strategy, {**job.params, **point.params})
    request = common.request._replace(spec=replace(common.request.spec, params=params))
    if point.window is None:
        return sample(simulate(*request, lines=False, shared=common.shared))
    with waiting(common.begins):
        gate = request._replace(strategy=gated(strategy))
        return sample(cut_to(point.window, simulate(*gate, lines=False, shared=common.shared)))


def _measured(made: Sequence[_Made]) -> list[Trial]:
    """Return the trials with their metrics, which are computed at once for all that have the same sessions."""
    found, alike = [trial for trial, _ in made], dict[Any, list[tuple[int, Account]]]()
    for place, (_, account) in enumerate(made):
        if account is not None:
            alike.setdefault(in_common(account), []).append((place, account))
    for group in alike.values():
        every = Accounts.of([account for _, account in group])
        for (place, account), numbers in zip(group, _numbers(every), strict=True):
            found[place] = _with_numbers(found[place], account.days, account.returns, numbers)
    return found


def _with_numbers(trial: Trial, sessions: np.ndarray, returns: np.ndarray, numbers: dict[str, float] | str) -> Trial:
    if isinstance(numbers, str):
        return replace(trial, error=numbers)
    return replace(trial, metrics=numbers, sessions=sessions, returns=returns)


def _numbers(every: Accounts) -> list[dict[str, float] | str]:
    """Return the metrics of accounts; the error for an account that cannot be measured."""
    count = len(every.trades)
    try:
        columns = measure_all(every)
    except ValueError as error:  # such as a gain on zero equity
        return [str(error)] if count == 1 else [_numbers(every.part(row, row + 1))[0] for row in range(count)]
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def cash_of(job: Job, window: Window) -> Trial:
    """Return the result of cash alone in a window, as a trial without parameters that is not saved."""
    _, store = _bench(job)
    account = {name: job.asked[name] for name in _ACCOUNT if name in job.asked}
    asked: dict[str, Any] = {"store": store, "brokerage": replace(job.brokerage, size=""), **account}
    run = run_window(load_strategy(Cash), job.series, window, since=window.first, **asked).account
    (trial,) = _measured([(Trial("", job.case, {}, str(window)), run)])
    return trial


@dataclass(frozen=True, slots=True)
class _Common:
    """What the runs of a job on the same sessions have in common."""

    request: PreparedRun
    begins: datetime | None  # the first moment of a window
    shared: Shared


@lru_cache(maxsize=2)  # of a walk forward, whose points come window by window
def _common(job: Job, name: str, window: Window | None) -> _Common:
    """Return what the runs of a strategy with a given name have in common."""
    strategy, store = _bench(job)
    strategy = replace(strategy, name=name)  # an equal job before may have called it otherwise
    account = {name: job.asked[name] for name in _ACCOUNT if name in job.asked}
    series, span, begins = list(job.series), (job.since, job.until), None
    if window is not None:
        span, begins = (job.since, window.last), measured_from(series, store, window.first, window.last)
    return _Common(
        prepared(strategy, series, store=store, span=span, brokerage=job.brokerage, **account), begins, Shared()
    )


@lru_cache(maxsize=1)  # loading and reading cost a trial of ten years of days a quarter of its time
def _bench(job: Job) -> tuple[Strategy, Reader]:
    """Return the strategy and the bars of a job, as cached in this process."""
    strategy = replace(load_strategy(job.strategy, job.root), typed=job.typed)
    if isinstance(job.strategy, type) and (job.case in _made_here or sent_by_value(job.strategy)):
        return strategy, _AtHand(job)  # it is that very class, whatever runs have changed of its state
    if strategy.source != job.source:
        raise BrokenPin(f"{job.strategy} differs from the one that the sweep began with; give each worker the same")
    now = module_hashes(strategy, job.params)
    known = {name: now.get(name) or _hash_beside(strategy, name, digest) for name, digest in job.modules.items()}
    if other := [name for name, digest in known.items() if digest != job.modules[name]]:
        raise BrokenPin(
            f"{', '.join(other)}, which {job.strategy} imports, differs from what the sweep began with; give each "
            "worker the same files"
        )
    return strategy, _AtHand(job)


def _hash_beside(strategy: Strategy, name: str, known: str) -> str:
    """Return the hash of a module that only some points name; code typed in this process needs none."""
    if ":" in name or strategy.space is None:
        return known
    return "".join(source_digest(file.read_bytes()) for file, _ in strategy.space.located(name).values())


class _AtHand(CachedReader):
    """The bars of a job: each series is read once, and parts of it are returned."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.store)
        self._job = job
        self._tables: dict[Series, pa.Table] = {}
        self._rates: dict[tuple[Series, Span | None], pa.Table] = {}

    def read(self, series: Series | str, span: Span | None = None, *, revision: int | None = None) -> pa.Table:
        """
        Return bars of a series, of the job's dates.

        Raises:
            BrokenPin: they are not the bars with which the sweep began.
            NoBars: there is no such series or revision, or no bar in the span.
        """
        wanted = self.named(series)
        if wanted.instrument.kind == "CASH" and revision is None and wanted.key not in self._job.digests:
            if (wanted, span) not in self._rates:  # by which money is converted, the same for each trial
                self._rates[wanted, span] = super().read(wanted, span)
            return self._rates[wanted, span]
        if revision is not None or wanted.key not in self._job.digests:
            return super().read(wanted, span, revision=revision)
        if wanted not in self._tables:
            self._tables[wanted] = self._checked(wanted)
        table = self._tables[wanted]
        return table if span is None else _part(table, wanted, span)

    def _checked(self, series: Series) -> pa.Table:
        digest, bars = digest_of(self._job.store, series, self._job.since, self._job.until)
        if digest != self._job.digests[series.key]:
            raise BrokenPin(f"the bars of {series.short} changed while the sweep ran; begin it again")
        return bars


def _part(table: pa.Table, series: Series, span: Span) -> pa.Table:
    times = arrays.numbers(table["time"]).astype("datetime64[us]")
    ends = [moment.replace(tzinfo=None) for moment in (span.start, span.end)]
    first, last = times.searchsorted(ends)  # type: ignore[arg-type]
    if first == last:
        raise NoBars(f"{series.short} has no bars {bounds_of(span)}; begin where all series have bars")
    return table.slice(int(first), int(last - first))


def _asked(account: dict[str, Any], brokerage: Brokerage, options: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return all settings of a run, with defaults for omitted ones: writing out a default does not make another trial.

    They are texts and numbers, whose hash is the key of a trial. Version 0.1.0 hashed numbers as they were given,
    integers as integers; its trials still count, so these are unchanged.
    """
    costs = check_asked(account["cash"], account["risk_free"], brokerage, account["periods"])
    check_told_apart(costs)
    told = {name: float(account[name]) for name in ("cash", "risk_free")}
    if own := float(account["periods"]):  # version 0.1.0 knew none
        told["periods"] = own
    paid, benchmark = brokerage.dividends, account["benchmark"]
    dividends = paid.name if isinstance(paid, DividendTable) else paid
    rates = brokerage.interest.name if isinstance(brokerage.interest, BenchmarkRates) else brokerage.interest
    account_name = brokerage.account.name if isinstance(brokerage.account, MarginTable) else brokerage.account
    universe = known_universe(brokerage)
    beside = benchmark if isinstance(benchmark, str) or not benchmark else series_of(benchmark).key
    numbers = {name: value for name, value in {**account, **options}.items() if _is_number(name, value)}
    return {
        "benchmark": beside,
        **told,
        **replace(
            brokerage,
            costs=costs.name,
            dividends=dividends,
            interest=rates,
            account=account_name,
            universe=universe.text if universe else "",
        ).flat,
        **numbers,
    }


def _is_number(name: str, value: Any) -> bool:
    return name in _NUMBERS and isinstance(value, Real)


_ACCOUNT = ("cash", "benchmark", "risk_free", "periods")
_NUMBERS = ("cash", "risk_free", "volume_cap", "cash_rate")


def store_with_whole_path(store: Reader | str | Path | None) -> Reader:
    """Return the store in a form that a worker in another folder can open."""
    opened = store_of(store)
    if isinstance(opened, Store) and not are_of_frames(opened):  # which has it
        return Store(opened.root.resolve())
    return opened


def _whole_path(strategy: Strategy) -> Path:
    return Path(str(source_file(strategy))).resolve()
