"""`simulate`: run a strategy on stored bars."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import Field, fields, replace
from datetime import date, datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import backtrader as bt
import numpy as np

from backtest._garbage import seldom_collected
from backtest._system import free_memory
from backtest.engine.account.commissions import Costs, MonthlyVolume
from backtest.engine.account.contracts import Terms, terms_of
from backtest.engine.account.converted import Converted, PresentRow, convert_orders
from backtest.engine.account.schedules import check_products
from backtest.engine.account.splits import Splits, counts_adjusted_shares, splits_of
from backtest.engine.alignment import align as align_bars
from backtest.engine.alignment import hide_what_has_not_begun, mixes_clocks, without_hidden_bars
from backtest.engine.cash_flows import CashFlows
from backtest.engine.code.failures import (
    CodeLine,
    at,
    caller,
    code_of_others,
    indexed,
    indexed_name,
    innermost,
    passed,
    place_of,
    raised_by_backtrader,
    raised_by_us,
    said,
)
from backtest.engine.code.strategy import Strategy, explain_failure, importing_beside, live_parameters
from backtest.engine.execution import (
    HalfSpreads,
    MarketBroker,
    borrowing_by,
    charge_by_order,
    check_borrowed,
    commission_model,
    set_up_market,
    smallest_size,
)
from backtest.engine.feed import ArrowFeed, close_stamps, replay
from backtest.engine.fill_bars import extremes_of
from backtest.engine.lean.cerebro import Cerebro
from backtest.engine.lean.lines import quick_indicators
from backtest.engine.plotted_lines import plotted_lines
from backtest.engine.provenance import describe, describe_code, describe_rates
from backtest.engine.recorder import (
    KnownRows,
    Recorder,
    SessionClock,
    account_table,
    bar_times,
    is_kind,
    unknown_kind,
    with_rates_of_fills,
)
from backtest.engine.sessions import go_by_sessions, time_by_sessions
from backtest.engine.sizing import Sizing
from backtest.engine.warm_up import (
    BarsBefore,
    bars_waited,
    check_orders,
    gated,
    stamp_of,
    waiting,
    warm_up_of,
    window_begins,
    without_first,
)
from backtest.errors import NoBars, StrategyError, UsageError
from backtest.market import arrays
from backtest.market.calendars import span_asked
from backtest.market.periods import bars_a_year, clock_of, of_that_clock, several_clocks
from backtest.market.series import CONTRACT_KINDS, Series
from backtest.market.session_days import days_of_moments, session_days
from backtest.market.span import Sessions, Span
from backtest.runs.closing_fills import booked_at_close
from backtest.runs.currencies import are_plain, currency_of
from backtest.runs.dividends import with_amounts, with_bookings, with_dividends_of_trips
from backtest.runs.lines import Lines, with_times_of
from backtest.runs.record import RunRecord
from backtest.runs.round_trips import CALL, EXTREMES, round_trips
from backtest.runs.spec import Brokerage, RunSpec
from backtest.store.reader import Reader, hours_in, in_one_state

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.engine.account.bookings import Bookings
    from backtest.engine.account.currencies import Exchange
    from backtest.engine.account.dividends import Dividends, DividendTable
    from backtest.engine.account.holdings import CashByCurrency
    from backtest.engine.account.interest import BenchmarkRates
    from backtest.engine.account.margin.tables import MarginTable
    from backtest.engine.account.payouts import Payouts
    from backtest.engine.compiled.loop import Loop
    from backtest.engine.compiled.runs import Together
    from backtest.engine.compiled.trials import Outcomes
    from backtest.engine.markets.membership import Roster
    from backtest.engine.markets.small_bars import SmallMarket
    from backtest.market.hours import Hours
    from backtest.market.universe import Universe


_MANY = 1_000_000  # bars; fewer fit wherever the bars do
_BYTES_PER_BAR = 60  # bytes per bar at the peak, besides the table: 54 with two averages and 50,000,000 bars
_GIGA = 10**9


class Shared:
    """
    What runs of one request have in common, whatever their parameters: the first run computes it, later ones reuse it.

    It changes no number. A run with one has no manifest, since the manifests of trials are not used.
    """

    def __init__(self) -> None:
        self.ground: _Ground | None = None
        self.record: pa.Table | None = None  # of the last run
        self.terms: tuple[list[Terms], dict[Series, Splits]] | None = None  # the costs of each series
        self.lines: dict[Series, dict[str, Any]] = {}  # the values of each feed's lines
        self.rows = KnownRows()
        self.half_spreads: Callable[[], HalfSpreads] | None = None


@contextmanager
def one_after_another() -> Iterator[None]:
    """Speed up successive runs: each run's changes to Backtrader's classes stay in place for the next one."""
    with quick_indicators():
        yield


DatedAmounts = tuple[np.ndarray, np.ndarray]


class _Ground(NamedTuple):
    """The bars of a run, and the series whose sessions measure it."""

    own: dict[Series, pa.Table]
    aligned: dict[Series, pa.Table]
    notes: dict[str, Any]  # the outcome of the alignment
    hours: list[Hours]
    clock: SessionClock
    compared: tuple[pa.Table, Hours] | None
    exchange: Exchange | None
    manifest: dict[str, Any]  # notes on these; none for runs that share them
    paid: list[DatedAmounts]  # of each series the stamps of the first bars without a dividend, and the amounts
    beside: DatedAmounts  # ex-dates and amounts of the benchmark
    fees: dict[Series, pa.Table]  # the stored borrow fees of each stock, where these are charged
    stamps: np.ndarray  # of all bars of all series, where interest is booked
    roster: Roster | None  # the members of the universe, if there is one
    small: SmallMarket | None  # the bars that orders are filled on, where these are not the run's own

    def feeds(self, wanted: list[Series], shared: Shared | None) -> list[ArrowFeed]:
        """Return the feeds; those of a single run hold the only reference to their bars."""
        found = list[ArrowFeed]()
        for one, its in zip(wanted, self.hours, strict=True):
            if shared is None:
                feed = _feed(self.own.pop(one), self.aligned.pop(one), one, its)
            else:
                feed = _feed(self.own[one], self.aligned[one], one, its, single=False)
                feed._ready = shared.lines.setdefault(one, {})
            if self.roster is not None:
                feed._belongs = self.roster.bounds[len(found)]
            found.append(feed)
        return found


@seldom_collected()  # all of it: collected at once after the loop, all that a run has made would be kept
def simulate(
    strategy: Strategy,
    spec: RunSpec,
    store: Reader,
    span: Span | Sessions | None,
    costs: Costs,
    dividends: DividendTable | None = None,
    interest: BenchmarkRates | None = None,
    account: MarginTable | None = None,
    universe: Universe | None = None,
    lines: bool = True,
    shared: Shared | None = None,
    loop: Loop | None = None,
) -> RunRecord:
    """
    Replay stored bars into a strategy and return the record of it.

    Args:
        spec: the checked settings: see `api.run`.
        span: the bars, or the first and last session; `spec` has it as text.
        costs: the model that `spec.brokerage.costs` names.
        dividends: the dividends of the series, if any are paid.
        interest: the benchmark rates, if cash earns interest.
        account: the rules of the account, if they are not Backtrader's.
        universe: the members of the market, if it is limited.
        lines: whether to keep the lines of indicators and observers that Backtrader would plot; no number depends on
            it.
        shared: what the runs of a request share that differ only in their parameters.
        loop: the engine that runs the bars, by default the event engine; it also receives the outcome.

    Raises:
        UsageError: the compiled engine was requested but cannot run the strategy.
        NoBars: the store lacks the bars.
        StrategyError: the strategy raised; the text says where, the cause is chained.
    """
    wanted, store = [Series.parse(key) for key in spec.series], in_one_state(store)
    check_products(wanted, costs)
    terms, splits = _terms_of(spec, wanted, costs, store, shared)
    spec = _with_terms(spec, wanted, terms)
    brokerage, sizing = spec.brokerage, Sizing.parse(spec.brokerage.size)
    with _code_of(strategy):
        costs.make()  # which may be the caller's own class
    before = warm_up_of(spec.warm_up, store, wanted, span)
    span = before.read if before else span
    ground = (shared and shared.ground) or _ground_of(
        spec, store, span, before, wanted, None if shared else costs, dividends, universe, account
    )
    if shared is not None:
        shared.ground = ground
    manifest, hours, exchange, feeds = ground.manifest, ground.hours, ground.exchange, ground.feeds(wanted, shared)
    cerebro = _cerebro(gated(strategy) if before else strategy, spec, feeds)
    begins = stamp_of(before.begins) if before else 0.0
    bookings, outside = _bookings(ground, interest, begins) if interest else (None, {})
    sales = _final_sales(cerebro, feeds, ground.roster) if ground.roster else None
    cerebro.payouts = _all_of(_payouts(feeds, ground.paid, brokerage.withholding), bookings, sales)
    ticks = {one.short: its.tick for one, its in zip(wanted, terms, strict=True)}
    half_spreads: Callable[[], HalfSpreads] = partial(_half_spreads, store, wanted, span)
    if shared is not None:
        half_spreads = shared.half_spreads = shared.half_spreads or cache(half_spreads)
    set_up_market(cerebro, brokerage, half_spreads, ticks)
    if loop is not None and loop.wants(max(len(feed.p.dataname) for feed in feeds)):
        loop.why_not = _not_by_compiled(spec, exchange, before is not None)
        cerebro.walker = None if loop.why_not else loop.walk
    if ground.small is not None:
        from backtest.engine.markets.small_bars import fill_on_small_bars, in_order_of_small_bars

        fill_on_small_bars(cerebro.broker, cerebro.datas, wanted, ground.small)
    with _code_of(strategy, cerebro), importing_beside(strategy):
        shares = _set_costs(cerebro, spec, costs, wanted, terms, splits, exchange, ground.fees)
        if account is not None:
            from backtest.engine.account.margin.opening import open_account, with_margin

            steps = list(map(smallest_size, cerebro.datas))
            open_account(
                account, cerebro.broker, cerebro.datas, wanted, terms, hours, steps, exchange, spec.base_currency
            )
        known = {one.short: bars_a_year(one, its) for one, its in zip(wanted, hours, strict=True) if sizing.by_the_year}
        sizing.set_up(cerebro, known)
        with waiting(before.begins if before else None):
            recorder = _run(cerebro, strategy)
        for feed in feeds:
            feed._forget()
        if loop is not None:
            loop.check(cerebro.why_not)
        if cerebro.flows is not None:
            cerebro.flows.book()
        shared_rows = shared.rows if shared is not None else None
        record = account_table(recorder, wanted, ground.clock, spec, ground.compared, shared_rows, exchange)
        if dividends is not None:
            record = with_amounts(record, np.asarray(recorder.stamps), ground.paid, ground.beside)
        if exchange is not None:
            _check_converted(cerebro, exchange, strategy.name)
        if cerebro.cash_by_currency is not None:
            record = _with_cash(record, cerebro.cash_by_currency, wanted)
        if interest is not None and bookings is not None:
            record = with_bookings(record, np.asarray(recorder.stamps), bookings.booked)
            manifest["interest"] = _of_interest(interest, bookings, recorder)
            manifest["interest"] |= {"outside": outside} if outside else {}
        order_rows, fill_rows = recorder.orders(wanted)
        if ground.small is not None:
            fill_rows = in_order_of_small_bars(fill_rows, cerebro.broker, recorder.first_order)
        if account is not None:
            order_rows = _with_reasons(order_rows, cerebro.broker.rules.reasons, recorder.first_order)
        if exchange is not None:
            fill_rows = with_rates_of_fills(fill_rows, order_rows, feeds, wanted, exchange)
        check_orders(recorder.strategy, order_rows, recorder.first_order, strategy.name)
        owed = _booked(cerebro)
        fees = None
        if owed is not None:
            fees = owed.of(fill_rows)
            record = record.append_column("borrow", arrays.floats(owed.by_bar(np.asarray(recorder.stamps))))
        record = booked_at_close(record, fill_rows, order_rows, spec, fees)
        if account is not None:
            record = with_margin(record, cerebro.broker.rules)
            manifest["account"] = account.document
        sizing.check_asked(recorder.strategy, strategy.name, len(order_rows))
        if shared is None:
            sold = sales.sold if sales is not None else {}
            further = _further(recorder.strategy, brokerage, ground.notes, order_rows, len(sold))
            if ground.roster is not None:
                manifest["universe"] = {**ground.roster.document, "sold": sold}
            manifest |= describe_code(strategy, spec.params) | further
        drawn = Lines(with_times_of(record, plotted_lines(recorder.strategy, wanted, begins)) if lines else None)
    if shared is None:
        manifest["market"] |= _waited(recorder, strategy, begins)
        manifest |= {"splits": shares} if shares else {}
    if before:
        record, manifest["warm_up"] = _begun(record, recorder, begins)
    extremes = extremes_of(fill_rows, order_rows, feeds, wanted, bool(cerebro.broker.p.coc))
    if shared is not None:
        shared.record = record
    calls = None if account is None else _calls(fill_rows, order_rows)
    trades = round_trips(fill_rows, record, spec.points_by_name, extremes, fees, calls)
    if dividends is not None:
        trades = with_dividends_of_trips(trades, record, spec)
    if exchange is not None:
        names = trades["series"].to_pylist()
        units = {name: exchange.units[Series.parse(name).key] for name in {*names}}
        trades = trades.append_column("currency", arrays.texts([units[name] for name in names]))
    fill_rows = _with_costs(fill_rows, cerebro.broker, recorder.first_order, fees)
    seen, trades = trades.select(list(EXTREMES)), trades.drop_columns(list(EXTREMES))  # 0.1.0 reads only the trades
    return RunRecord(spec, record, order_rows, fill_rows, trades, manifest, drawn, extremes_table=seen)


@seldom_collected()
def simulate_together(
    strategy: Strategy,
    specs: Sequence[RunSpec],
    costs: Costs,
    shared: Shared,
    take: Callable[[Together], None],
    backend: str = "numpy",
    begins: datetime | None = None,
    size: int = 1000,
) -> str:
    """
    Run simulations that differ only in their parameters at once, by the compiled engine; return why it could not.

    Args:
        specs: the settings of the runs; `shared` has what they have in common, from a run by the event engine.
        backend: "numpy", or "numba" if that is installed; the results are equal.
        take: called with the outcomes of `size` runs at a time, which it has to read at once.
        begins: when strategies are first called, as with `waiting`.

    Raises:
        TooMany: the lines of so many runs do not fit into memory.
    """
    from backtest.engine.compiled.refusals import NotCompiled, TooMany
    from backtest.engine.compiled.runs import MadeRuns
    from backtest.engine.compiled.trials import Parts, run_trials

    spec, ground, before = specs[0], shared.ground, shared.record
    assert ground is not None and before is not None  # noqa: PT018 - one without the other there is not
    if why_not := _not_by_compiled(spec, ground.exchange, False, _COMPILED_TOGETHER):
        return why_not
    if "flow" in before.column_names:
        return "a strategy that adds cash or takes some out is not compiled"
    assert shared.terms is not None
    wanted, (terms, splits) = [Series.parse(key) for key in spec.series], shared.terms
    feeds = ground.feeds(wanted, shared)

    ticks = {one.short: its.tick for one, its in zip(wanted, terms, strict=True)}

    def set_up(cerebro: Any) -> None:
        set_up_market(cerebro, spec.brokerage, shared.half_spreads or dict, ticks)
        cerebro.broker.setcash(spec.cash)
        traded, borrowing = MonthlyVolume(), borrowing_by(spec.brokerage, ground.fees)
        for feed, one, its in zip(cerebro.datas, wanted, terms, strict=True):
            model = commission_model(borrowing, costs, one, its, feed, traded)
            _count_shares(model, one, splits)
            cerebro.broker.addcommissioninfo(model, name=feed._name)

    def part(found: Outcomes, numbers: list[int]) -> None:
        times = arrays.numbers(before["time"]).astype("datetime64[us]")
        if not np.array_equal(bar_times(found.stamps, wanted), times):
            raise NotCompiled("the run before has other bars")
        made = MadeRuns(found, _with_terms(spec, wanted, terms), before, feeds, wanted)
        take(made.together(numbers, lambda number: _with_terms(specs[number], wanted, terms)))

    try:
        with importing_beside(strategy):
            params = [live_parameters(strategy, one.params) for one in specs]
            opens, parts = stamp_of(begins) if begins else -math.inf, Parts(size, _ROOM_FOR_LINES, part)
            return run_trials(strategy.cls, params, feeds, set_up, backend=backend, begins=opens, parts=parts).why_not
    except TooMany:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the event engine makes them, and says what is wrong
        return f"the compiled engine fails with {type(error).__name__}: {str(error)[:200]}"


_ROOM_FOR_LINES = 80_000_000  # bytes, of all runs that are made at once
_COMPILED = ("costs", "align", "fills")  # options of which the compiled engine can do what it can
_COMPILED_TOGETHER = ("costs", "align", "slippage", "volume_cap")  # and those of which it can in trials


def _not_by_compiled(spec: RunSpec, exchange: Exchange | None, warmed: bool, known: Sequence[str] = _COMPILED) -> str:
    """Return the part of a request that the compiled engine does not support; "" if it supports all of it."""
    if other := [one.name for one in fields(Brokerage) if one.name not in known and _is_set(spec, one)]:
        return f"the compiled engine does not support {', '.join(other)}"
    if exchange is not None:
        return "a run in several currencies is not compiled"
    return "a run with a warm-up is not compiled" if warmed else ""


def _is_set(spec: RunSpec, option: Field[Any]) -> bool:
    return bool(getattr(spec.brokerage, option.name) != option.default)


def _with_costs(fills: pa.Table, broker: Any, first: int, fees: np.ndarray | None) -> pa.Table:
    """Return the fills with the price without slippage, and the borrow fee booked with each, if the run has these."""
    if isinstance(broker, MarketBroker):
        refs = (arrays.numbers(fills["ref"]) + first - 1).tolist()
        fills = fills.append_column("unslipped", arrays.floats(broker.unslipped(refs)))
    return fills if fees is None else fills.append_column("borrow", arrays.floats(fees))


def memory_lacking(rows: int, free: int | None) -> str:
    """Return the message if a run on this many bars is likely to need more memory than is free; otherwise ""."""
    needed = rows * _BYTES_PER_BAR
    if free is None or needed <= free:
        return ""
    return (
        f"a run on {rows:,} bars needs about {needed / _GIGA:.1f} GB of memory besides the bars, but only "
        f"{free / _GIGA:.1f} GB are free, so the system may kill it: name fewer sessions or longer bars, or close "
        "other programs"
    )


def _ground_of(
    spec: RunSpec,
    store: Reader,
    span: Span | Sessions | None,
    before: BarsBefore | None,
    wanted: list[Series],
    costs: Costs | None,
    dividends: DividendTable | None,
    universe: Universe | None,
    account: MarginTable | None,
) -> _Ground:
    """Return the bars of a run and, given the costs, the manifest's entries on them."""
    compared_with = [Series.parse(spec.benchmark)] if spec.benchmark else []
    bars = {one: store.read(one, span_asked(one, hours_in(store, one), span)) for one in [*wanted, *compared_with]}
    if before:
        bars = {one: before.part(table) for one, table in bars.items()}
    hours = [hours_in(store, one) for one in wanted]
    bars |= _within(span, bars, wanted, hours)
    if (rows := sum(map(len, bars.values()))) > _MANY and (said := memory_lacking(rows, free_memory())):
        import logging

        logging.getLogger(__name__).warning(said)
    fees = _stored_fees(store, spec.brokerage.borrow, wanted, span)
    small = _small_market_of(spec, store, span, {one: bars[one] for one in wanted}, hours)
    read = {**bars, **dict(fees.values()), **(small.tables if small is not None else {})}
    manifest = {} if costs is None else describe(spec, read, store, costs)
    if small is not None:
        manifest["fill_bars"] = small.document
    begins = np.datetime64(before.begins.date() if before else date.min, "D")
    if fees:
        from backtest.engine.account.borrowing import check_begun, days_without_fee
    for one, (kept, table) in fees.items():
        days = _days_of(bars[one], one, hours_in(store, one))
        check_begun(one, kept, days[days >= begins], table)
    if fees:
        manifest["borrow"] = {
            one.key: days_without_fee(_days_of(bars[one], one, hours_in(store, one)), table)
            for one, (_, table) in fees.items()
        }
    compared = (bars[compared_with[0]], hours_in(store, compared_with[0])) if compared_with else None
    clock = _clock(bars, wanted, hours)
    if dividends is not None:
        from backtest.engine.account.dividends import check_covers

        for one, table in bars.items():
            if (paid_by := dividends.of(one)) is not None and paid_by.since:
                days = _days_of(table, one, hours_in(store, one))
                check_covers(paid_by, one, days[days >= begins])
        dividends = dividends.within(_sessions_of(bars, store))
        manifest["dividends"] = dividends.document
    own = {one: bars.pop(one) for one in wanted}
    aligned, notes = align_bars(own, spec.brokerage.align)
    pair = (compared_with[0], compared[0]) if compared else None
    least = None if account is None else account.least_equity
    exchange = _exchange_of(spec, store, aligned, pair, before, least)
    if exchange is not None and costs is not None:
        manifest = _with_rates(manifest, exchange, store)
    known = {one: dividends.of(one) if dividends else None for one in [*wanted, *compared_with]}
    paid = [_payouts_of(aligned[one], one, its, known[one]) for one, its in zip(wanted, hours, strict=True)]
    beside = _ex_dates(known[compared_with[0]] if compared_with else None)
    if exchange is not None and dividends is not None:
        units = [dividends.unit_of(one) for one in wanted]
        paid = [exchange.converted(n, *amounts, units[n]) for n, amounts in enumerate(paid)]
        if compared is not None:
            days = _days_of(compared[0], compared_with[0], compared[1])
            beside = exchange.converted_beside(days, *beside, dividends.unit_of(compared_with[0]))
    lent = {one: table for one, (_, table) in fees.items()}
    every = [close_stamps(aligned[one], one.size) for one in wanted] if spec.brokerage.interest else [np.zeros(0)]
    stamps = arrays.merged(every)
    missing = spec.brokerage.missing_members
    roster = None
    if universe is not None:
        from backtest.engine.markets.membership import roster_of

        roster = roster_of(universe, missing, store, own, aligned, before)
    return _Ground(
        own, aligned, notes, hours, clock, compared, exchange, manifest, paid, beside, lent, stamps, roster, small
    )


def _small_market_of(
    spec: RunSpec, store: Reader, span: Span | Sessions | None, own: dict[Series, pa.Table], hours: list[Hours]
) -> SmallMarket | None:
    """Return the bars on which orders fill, by the rows of the feeds; None if these are the run's own."""
    if not spec.brokerage.fill_bars:
        return None
    from backtest.engine.markets.small_bars import small_market_of

    aligned, _ = align_bars(own, spec.brokerage.align)
    return small_market_of(spec.brokerage.fill_bars, store, span, aligned, hours)


def _exchange_of(
    spec: RunSpec,
    store: Reader,
    bars: Mapping[Series, pa.Table],
    benchmark: tuple[Series, pa.Table] | None,
    before: BarsBefore | None,
    least_equity: float | None,
) -> Exchange | None:
    """Return the rates of a run; None where all money is that of the account, as its series alone say."""
    named = [*bars, *([benchmark[0]] if benchmark else [])]
    if least_equity is None and are_plain(named, spec.base_currency, spec.brokerage.quoted_in):
        return None
    from backtest.engine.account.currencies import exchange_of

    return exchange_of(spec, store, bars, benchmark, before.begins if before else None, least_equity)


def _check_converted(cerebro: _Cerebro, exchange: Exchange, name: str) -> None:
    """Raise UsageError if a strategy has replaced a commission that converts money with its own."""
    for n in exchange.conversions:
        feed = cerebro.datas[n]
        if type(cerebro.broker.getcommissioninfo(feed)) is not Converted:
            raise UsageError(
                f"{name} sets a commission of its own for {feed._name}, whose money is then not converted to "
                f"{exchange.base}; leave that to the run: costs="
            )


def _with_cash(record: pa.Table, cash: CashByCurrency, series: list[Series]) -> pa.Table:
    """Return a record with cash.n for the first series in each other currency: the balance in that currency."""
    currencies = [currency_of(one.instrument) for one in series]
    for currency, amounts in cash.kept.items():
        column = arrays.floats(np.asarray(amounts)[: len(record)])
        record = record.append_column(f"cash.{currencies.index(currency)}", column)
    return record


def _with_rates(manifest: dict[str, Any], exchange: Exchange, store: Reader) -> dict[str, Any]:
    rates = describe_rates(exchange.told, exchange.tables, store)
    merged = {name: {**rates[name], **manifest.get(name, {})} for name in ("series", "store")}
    return {**manifest, **rates, **merged}


def _sessions_of(bars: Mapping[Series, pa.Table], store: Reader) -> dict[Series, tuple[np.datetime64, np.datetime64]]:
    """Return the first and the last session of each series."""
    ends = {one: _days_of(table.take([0, len(table) - 1]), one, hours_in(store, one)) for one, table in bars.items()}
    return {one: (days[0], days[-1]) for one, days in ends.items()}


def _ex_dates(paid: Dividends | None) -> DatedAmounts:
    return (np.array([], "datetime64[D]"), np.zeros(0)) if paid is None else (paid.dates, np.array(paid.amounts))


def _of_interest(rates: BenchmarkRates, bookings: Bookings, recorder: Recorder) -> dict[str, Any]:
    """Return the manifest's entry on interest: the rates, the amount booked, and the amount accrued."""
    booked = float(sum(money for _, money in bookings.booked))
    return {"rates": rates.name, "sha256": rates.digest, "booked": booked, "accrued": bookings.left(recorder)}


def _bookings(ground: _Ground, interest: BenchmarkRates, begins: float) -> tuple[Bookings, dict[str, str]]:
    """Return what books the interest of a run, and which of its days are outside of the known rates."""
    from backtest.engine.account.bookings import Bookings
    from backtest.engine.account.interest import rates_outside

    bookings = Bookings(ground.stamps, interest, begins or window_begins())
    return bookings, rates_outside(interest, bookings.first, bookings.last)


def _final_sales(cerebro: _Cerebro, feeds: list[ArrowFeed], roster: Roster) -> Any:
    """Return what sells the positions in what has ended."""
    from backtest.engine.markets.membership import FinalSales

    return FinalSales(cerebro, feeds, roster.ends)


def _all_of(*every: Any) -> Any:
    """Return what pays and books between bars as one; None for nothing."""
    due = [one for one in every if one is not None]
    if len(due) < 2:
        return next(iter(due), None)
    from backtest.engine.account.payouts import Several

    return Several(due)


def _booked(cerebro: _Cerebro) -> Any:
    """Return the borrow fees by fill and by bar; None if the run has none."""
    if not cerebro.borrows:
        return None
    from backtest.engine.account.borrowing import BookedBySize

    owed = getattr(cerebro.broker, "d_credit", None)
    return owed if isinstance(owed, BookedBySize) else None


def _payouts_of(bars: pa.Table, series: Series, hours: Hours, paid: Dividends | None) -> DatedAmounts:
    """Return stamp and amount of each dividend of a series."""
    if paid is None:
        return np.zeros(0), np.zeros(0)
    from backtest.engine.account.payouts import payouts_of

    return payouts_of(bars, series, hours, paid)


def _payouts(feeds: list[ArrowFeed], paid: Sequence[DatedAmounts], withholding: float) -> Payouts | None:
    """Return the payments into cash between bars, None if there are none."""
    if not any(len(stamps) for stamps, _ in paid):
        return None
    from backtest.engine.account.payouts import Payout, Payouts

    due = [
        Payout(stamp, feed, amount)
        for feed, pairs in zip(feeds, paid, strict=True)
        for stamp, amount in zip(*pairs, strict=True)
    ]
    return Payouts(due, withholding) if due else None


def _feed(own: pa.Table, aligned: pa.Table, series: Series, hours: Hours, single: bool = True) -> ArrowFeed:
    """Return the feed of aligned bars, which knows its sessions; in a single run it releases the bars."""
    feed = replay(aligned, series, single=single)
    if not series.size.daily:
        feed._session_hours = series, hours
    if len(aligned) > len(own):
        times, there = (arrays.numbers(bars["time"]) for bars in (aligned, own))
        feed._made_up = frozenset(close_stamps(aligned, series.size)[np.isin(times, there, invert=True)].tolist())
    return feed


def _within(
    span: Span | Sessions | None, bars: dict[Series, pa.Table], series: list[Series], hours: list[Hours]
) -> dict[Series, pa.Table]:
    """
    Return the intraday bars of series of other clocks, without those outside the requested sessions.

    A session in Sydney begins before New York's session of the previous date is over: what New York trades after that
    belongs to the next session.
    """
    if span is None or isinstance(span, Span) or not several_clocks(series, hours):
        return {}
    (since, until), found, own = span, {}, of_that_clock(series, hours)
    first, last = np.datetime64(since or date.min, "D"), np.datetime64(until or date.max, "D")
    for n, one in enumerate(series):
        if n not in own and not one.size.daily:
            opened = arrays.numbers(bars[one]["time"]).astype("datetime64[us]")
            days = days_of_moments(opened, series[own[0]], hours[own[0]])
            rows = slice(*np.searchsorted(days, [first, last + 1]))
            found[one] = bars[one].slice(rows.start, rows.stop - rows.start)
            if not len(found[one]):
                raise NoBars(
                    f"{one.short} has no bar in the sessions of {series[own[0]].short}; name others, or a longer span"
                )
    return found


def _clock(bars: dict[Series, pa.Table], series: list[Series], hours: list[Hours]) -> SessionClock:
    """Return the series whose sessions measure a run."""
    place, days = clock_of(series, hours), None
    if several_clocks(series, hours):
        counted = of_that_clock(series, hours)
        days = np.unique(np.concatenate([_days_of(bars[series[n]], series[n], hours[n]) for n in counted]))
    return SessionClock(series[place], hours[place], days)


def _days_of(bars: pa.Table, series: Series, hours: Hours) -> np.ndarray:
    return session_days(arrays.numbers(bars["time"]).astype("datetime64[us]"), series, hours)


def _waited(recorder: Recorder, strategy: Strategy, begins: float) -> dict[str, int]:
    """Return the manifest's entry on bars before the strategy could act; empty if there are none."""
    stamps = np.asarray(recorder.stamps)
    own = int(np.searchsorted(stamps, begins, side="right"))
    waited = bars_waited(recorder.strategy, strategy.cls, stamps) - own
    return {"waited": waited} if waited > 0 else {}


def _begun(record: pa.Table, recorder: Recorder, begins: float) -> tuple[pa.Table, dict[str, Any]]:
    """Return the record without the warm-up, and the manifest's entry on it."""
    first = int(np.searchsorted(np.asarray(recorder.stamps), begins, side="right"))
    if first == len(record):
        raise UsageError("there is no bar after the warm-up; begin earlier, or end later")
    return without_first(record, first), {"bars": first, "from": str(record["session"][0].as_py())}


def _code_of(strategy: Strategy, cerebro: Any = None) -> AbstractContextManager[None]:
    """Return the context for the strategy's code; an error of this package alone is not reported as the strategy's."""

    def explain(error: BaseException) -> str:
        if raised_by_us(error):
            return ""
        if isinstance(error, Exception) and place_of(error) is None and not passed(error, bt.Cerebro.run):
            return ""
        return f"{explain_failure(error, strategy)}; {_advice(error, cerebro) if cerebro else _FIX}"

    return code_of_others(explain)


class _Cerebro(Cerebro):
    """
    Our Cerebro, which goes bar by bar if an indicator reads feeds whose bars have different times.

    Attributes:
        asked_cash: the initial cash of the spec.
        cash_by_currency: the cash in other currencies, if cash is held by currency.
        fewest: the number of bars of the shortest feed.
        borrows: whether borrowed shares cost a fee.
        flows: cash that the strategy adds or withdraws; set shortly before the first bar.
        stopped: whether the strategy stopped the run.
        stopped_at: the place in the code of the first stop.
    """

    asked_cash = 0.0
    cash_by_currency: CashByCurrency | None = None
    fewest = 0
    borrows = False
    flows: CashFlows | None = None
    stopped = False
    stopped_at: CodeLine | None = None
    _notified = False  # whether the broker was called

    def runstop(self) -> None:
        """Stop the run, as `bt.Cerebro.runstop` does."""
        self.stopped_at = self.stopped_at or caller()
        self.stopped = True
        super().runstop()

    def _runonce(self, runstrats: list[Any]) -> None:
        self._listen(runstrats)
        if not mixes_clocks(runstrats, self.datas):
            super()._runonce(runstrats)
            return
        self.why_not = "an indicator reads feeds whose bars have different times"
        hide_what_has_not_begun(runstrats, self.datas)
        with without_hidden_bars(self.broker, self.datas):
            bt.Cerebro._runnext(self, runstrats)  # what Backtrader does where `runonce` is off

    def _runnext(self, runstrats: list[Any]) -> None:
        self._listen(runstrats)
        super()._runnext(runstrats)

    def _listen(self, runstrats: list[Any]) -> None:
        time_by_sessions([*self._timers, *self._timerscheat])
        if self.flows is None:
            self.flows = CashFlows(self.broker, runstrats[0].analyzers.recorder, self.asked_cash)
            if self.borrows:
                from backtest.engine.account.borrowing import BookedBySize, FilledFirst

                self.broker.d_credit = BookedBySize(self.broker)
                self.broker.check_submitted = FilledFirst(self.broker)

    def _check_timers(self, runstrats: list[Any], dt0: float, cheat: bool = False) -> None:
        if self.payouts is not None:  # in Backtrader's loops, before anything acts at a bar
            self.payouts.pay(self.broker, dt0, runstrats[0].analyzers.recorder)
        super()._check_timers(runstrats, dt0, cheat)

    def _brokernotify(self) -> None:  # only Backtrader's loops call this
        if self.payouts is not None:  # those of old synchronisation have no timers
            stamp = max(data.datetime[0] for data in self.datas if len(data))
            self.payouts.pay(self.broker, stamp, self.runningstrats[0].analyzers.recorder)
        if self.flows is not None:
            self.flows.begin_bar()
        if not self._notified:
            self._notified = True
            charge_by_order(self.broker)
            go_by_sessions(self.broker, self.datas)
            convert_orders(self.broker)
            if getattr(self.broker, "rules", None) is not None:
                from backtest.engine.account.margin.enforcement import keep_rules

                keep_rules(self.broker)
        super()._brokernotify()


def _cerebro(strategy: Strategy, spec: RunSpec, feeds: list[ArrowFeed]) -> _Cerebro:
    cerebro = _Cerebro(stdstats=False)
    cerebro.forgets = True
    cerebro.fewest = min(len(feed.p.dataname) for feed in feeds)  # which a feed releases once it has read them
    for feed in feeds:
        cerebro.adddata(feed)
    # As `addstrategy` does, which has no room for a parameter named `self` or `strategy`.
    cerebro.strats.append([(partial(_made, strategy), (), live_parameters(strategy, spec.params))])
    return cerebro


def _made(strategy: Strategy, /, *feeds: Any, **params: Any) -> Any:
    """Return the strategy, created from feeds and parameters, as Cerebro requests it."""
    if params.get(_TAKEN, _UNSET) is strategy.defaults.get(_TAKEN, _UNSET):
        params.pop(_TAKEN, None)
    if _TAKEN in params:
        raise UsageError(f"{strategy.name} has a parameter {_TAKEN!r}, which Backtrader cannot be given; rename it")
    try:
        made = strategy.cls(*feeds, **params)
    except bt.errors.StrategySkipError as error:
        raise StrategyError(
            f"{strategy.name} raised StrategySkipError{at(error)}: {said(error)}; nothing was run"
        ) from error
    for name in ("buy", "sell"):
        if getattr(type(made), name) is getattr(bt.Strategy, name):
            vars(made)[name] = partial(_ordered, getattr(made, name))
    return made


_TAKEN = "cls"  # the word by which Backtrader's own call knows the class
_UNSET = object()


def _ordered(order: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Return the order that a strategy submits; refuse an unknown kind, which would silently wait forever."""
    kind = args[_EXECTYPE] if len(args) > _EXECTYPE else kwargs.get("exectype")
    if kind is not None and not is_kind(kind):
        raise ValueError(unknown_kind(kind))
    return order(*args, **kwargs)


_EXECTYPE = 4  # its place among the arguments of `buy` and `sell`


def _terms_of(
    spec: RunSpec, series: list[Series], costs: Costs, store: Reader, shared: Shared | None
) -> tuple[list[Terms], dict[Series, Splits]]:
    """Return the terms and the splits of each series."""
    if shared is not None and shared.terms is not None:
        return shared.terms
    check_borrowed(spec.brokerage, series)
    found = terms_of(series, costs, spec.brokerage, store), splits_of(series, spec.brokerage.splits, store)
    if shared is not None:
        shared.terms = found
    return found


def _with_terms(spec: RunSpec, series: list[Series], terms: list[Terms]) -> RunSpec:
    """Return the spec with the multipliers of its contracts, if the costs do not define them."""
    pairs = [(one, its) for one, its in zip(series, terms, strict=True) if not its.model]
    told = any(one.instrument.kind in CONTRACT_KINDS or its.multiplier != 1 for one, its in pairs)
    return replace(spec, multipliers=tuple(its.multiplier for its in terms) if told else ())


def _set_costs(
    cerebro: _Cerebro,
    spec: RunSpec,
    costs: Costs,
    series: list[Series],
    terms: list[Terms],
    splits: dict[Series, Splits],
    exchange: Exchange | None,
    fees: Mapping[Series, pa.Table],
) -> dict[str, Any]:
    """Set the costs of a broker, and return the manifest's entry on the share counts that they use."""
    cerebro.broker.setcash(spec.cash)
    cerebro.asked_cash, cerebro.borrows = spec.cash, bool(spec.brokerage.borrow)
    traded, borrowing, shares = MonthlyVolume(), borrowing_by(spec.brokerage, fees), {}
    row = PresentRow(exchange.stamps, cerebro.datas) if exchange is not None else None
    if exchange is not None and row is not None and exchange.held is not None and exchange.dollars is not None:
        from backtest.engine.account.holdings import CashByCurrency

        cerebro.cash_by_currency = CashByCurrency(exchange.base, row.number, exchange.held, exchange.dollars)
    for n, (feed, one, its) in enumerate(zip(cerebro.datas, series, terms, strict=True)):
        model = commission_model(borrowing, costs, one, its, feed, traded)
        if told := _count_shares(model, one, splits):
            shares[one.key] = told
        if exchange is not None and row is not None and n in exchange.conversions:
            apart = cerebro.cash_by_currency if model.stocklike else None
            model = Converted(model, exchange.conversions[n], row, apart)
        cerebro.broker.addcommissioninfo(model, name=feed._name)
    ticks = {one.short: its.tick for one, its in zip(series, terms, strict=True) if its.tick}
    cerebro.addanalyzer(Recorder, _name="recorder", ticks=ticks)
    return shares


def _with_reasons(orders: pa.Table, reasons: Mapping[int, str], first: int) -> pa.Table:
    """Return the orders with the reason why each was refused, or submitted by the account itself; "" for others."""
    refs = (arrays.numbers(orders["ref"]) + first - 1).tolist()
    return orders.append_column("reason", arrays.texts([reasons.get(ref, "") for ref in refs]))


def _calls(fills: pa.Table, orders: pa.Table) -> list[str]:
    """Return the margin call that each fill was for, "" for others."""
    reasons = dict(zip(orders["ref"].to_pylist(), orders["reason"].to_pylist(), strict=True))
    return [told if (told := reasons[ref]).startswith(CALL) else "" for ref in fills["ref"].to_pylist()]


def _count_shares(model: Any, series: Series, splits: Mapping[Series, Splits]) -> dict[str, Any]:
    """Make a model count shares as traded, and return the manifest's entry on that; nothing for other models."""
    if not getattr(model, "by_share", False) or not counts_adjusted_shares(series):
        return {}
    own = splits.get(series)
    model.splits = own.factors if own else None
    told = {"from": own.whence, "ratios": dict(own.rows)} if own else {"from": "nobody"}
    return told | {name: float(getattr(model.p, name)) for name in ("minimum", "cap")}


def _stored_fees(store: Reader, borrow: str, series: list[Series], span: Any) -> dict[Series, tuple[Series, pa.Table]]:
    """Return the stored fee series of each stock with its bars, if the run charges stored fees."""
    found: dict[Series, tuple[Series, pa.Table]] = {}
    if not borrow:
        return found
    from backtest.engine.account.borrowing import fee_series

    for one, fees in fee_series(borrow, series).items():
        kept = store.named(fees)
        found[one] = kept, store.read(kept, span_asked(kept, hours_in(store, kept), span))
    return found


def quotes_of(series: Series) -> tuple[Series, Series]:
    """Return the BID and ASK series that spread slippage reads for a series."""
    return replace(series, prices="BID"), replace(series, prices="ASK")


def _half_spreads(store: Reader, series: list[Series], span: Any) -> dict[str, tuple[list[float], list[float]]]:
    """Return half the difference of ask and bid at each bar's open, from stored quotes."""
    found = {}
    for one in series:
        bid, ask = (store.read(quotes, span_asked(quotes, hours_in(store, quotes), span)) for quotes in quotes_of(one))
        _, of_bid, of_ask = np.intersect1d(
            arrays.numbers(bid["time"]), arrays.numbers(ask["time"]), return_indices=True
        )
        halves = (arrays.numbers(ask["open"])[of_ask] - arrays.numbers(bid["open"])[of_bid]) / 2
        found[one.short] = (close_stamps(bid, one.size)[of_bid].tolist(), np.maximum(halves, 0.0).tolist())
    return found


def _further(
    strategy: Any, brokerage: Brokerage, aligned: dict[str, Any], orders: pa.Table, sold: int
) -> dict[str, Any]:
    """
    Return the manifest's entries on market and alignment, and the strategy's notes.

    Args:
        sold: the number of sales of ended positions, which are not the strategy's orders.
    """
    given, filled = (arrays.numbers(orders[name]) for name in ("created", "closed"))
    early = int(((filled <= given) & (arrays.numbers(orders["filled"]) != 0)).sum()) - sold
    told_elsewhere = ("costs", "align", "size", "dividends", "interest", "margin", "splits", "account", "universe")
    market = {name: value for name, value in brokerage.flat.items() if name not in told_elsewhere}
    limits = {"sized_to_nothing": strategy.getsizer(), "capped_to_nothing": getattr(strategy.broker.p, "filler", None)}
    short = {name: count for name, limit in limits.items() if (count := int(getattr(limit, "nothing", 0)))}
    if off_tick := strategy.analyzers.recorder.off_tick:
        short["off_tick"] = off_tick
    if clipped := int(getattr(strategy.broker, "clipped", 0)):
        short["clipped"] = clipped
    found = {
        "market": {**market, "filled_in_their_own_bar": early, **short},
        "aligned": aligned,
        "notes": _notes(strategy),
    }
    return {name: value for name, value in found.items() if value}


def _notes(strategy: Any) -> Any:
    """Return the strategy's notes; an attribute that is not a JSON-like dict is ignored."""
    notes = getattr(strategy, "notes", None)
    with contextlib.suppress(TypeError, ValueError):
        return json.loads(json.dumps(notes, allow_nan=False)) if isinstance(notes, dict) else None
    return None


def _run(cerebro: _Cerebro, strategy: Strategy) -> Recorder:
    done = cerebro.run()
    if not (isinstance(done, list) and len(done) == 1 and isinstance(done[0], strategy.cls)):
        raise StrategyError(
            f"{strategy.name} did not run: Cerebro.run() returned {done!r:.80} in place of it; if its file replaces "
            "functions of Backtrader, remove that"
        )
    recorder: Recorder = done[0].analyzers.recorder
    if not len(recorder.stamps) and cerebro.stopped:
        where = f" {cerebro.stopped_at}" if cerebro.stopped_at else ""
        raise StrategyError(
            f"{strategy.name} stops the run before its first bar: it calls runstop(){where}; call it in next()"
        )
    return recorder


# --- advice if it fails


def _advice(error: BaseException, cerebro: Any) -> str:
    fewest = cerebro.fewest
    if _asks_for_a_feed(error, cerebro.datas):
        names = [feed._name for feed in cerebro.datas]
        return f"the run has {len(names)} series, {', '.join(names)}; name as many as the strategy reads"
    if isinstance(error, AttributeError) and isinstance(error.obj, bt.metabase.ItemCollection):
        known = next((name for name in _OBSERVERS if name.lower() == error.name), "DrawDown")
        return (
            "a run has no observers and analyzers but those that the strategy adds; add it in __init__(): "
            f"self.cerebro.addobserver(bt.observers.{known})"
        )
    if isinstance(error, IndexError) and (ahead := _reads_ahead(error)):
        name, which = indexed_name(error), "the next bar" if ahead == 1 else f"{ahead:,} bars ahead"
        return f"{name}[{ahead}] is {which}, not known yet; {name}[0] is the current one, {name}[-1] the previous one"
    if isinstance(error, IndexError) and _ran_out(error, cerebro, fewest):
        many = "1 bar of the run" if fewest == 1 else f"{fewest:,} bars of the run"
        return f"does it look further back than the {many}?"
    return _FIX


_FIX = "fix it and run again"
_OBSERVERS = [name for name, kind in vars(bt.observers).items() if isinstance(kind, type)]
_FEED = r"data(\d+)(_\w+)?"


def _asks_for_a_feed(error: BaseException, feeds: list[Any]) -> bool:
    """Return whether a strategy used a feed that does not exist: self.datas[1], self.data1, self.data1_close."""
    if isinstance(error, IndexError):
        things = indexed(error)
        own = isinstance(things, list | tuple) and bool(things)
        return own and all(any(thing is feed for feed in feeds) for thing in things)
    if not (isinstance(error, AttributeError) and isinstance(error.obj, bt.lineseries.Lines | bt.Strategy)):
        return False
    named = re.fullmatch(_FEED, str(error.name))
    return named is not None and int(named[1]) >= len(feeds)


def _reads_ahead(error: IndexError) -> int:
    """Return how many bars ahead a line was read when it raised; 0 for none."""
    ahead = innermost(error).get("ago")  # as Backtrader and the lean lines call how far a line is read from the present
    return ahead if raised_by_backtrader(error) and isinstance(ahead, int) and ahead > 0 else 0


def _ran_out(error: IndexError, cerebro: Any, fewest: int) -> bool:
    """Return whether there were too few bars: Backtrader read past their end, or an indicator needs more."""
    strategies = getattr(cerebro, "runningstrats", [])
    return raised_by_backtrader(error) or any(one._minperiod > fewest for one in strategies)
