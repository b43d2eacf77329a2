"""`run`: a strategy on stored bars."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest import arrays
from backtest.alignment import align as align_bars
from backtest.alignment import hide_what_has_not_begun, mixes_clocks
from backtest.bars import Series, Span
from backtest.calendars import sessions_a_year, span_of_sessions
from backtest.cerebro import Cerebro
from backtest.circumstances import describe
from backtest.costs import Costs, MonthlyVolume, costs_named
from backtest.errors import BacktestError, StrategyError, UsageError
from backtest.execution import NEXT_BAR, Market
from backtest.feed import ArrowFeed, close_stamps, replay
from backtest.recorder import Recorder, account_table
from backtest.remote import open_store
from backtest.result import RunResult, RunSpec, round_trips
from backtest.sizing import Sizing
from backtest.store import Store
from backtest.strategy import Strategy, explain, load, parameters

if TYPE_CHECKING:
    import pyarrow as pa


def run(
    strategy: str | Path | type[Any],
    series: Series | str | Iterable[Series | str],
    *,
    store: Store | str | Path,
    span: Span | tuple[date | None, date | None] | None = None,
    params: Mapping[str, Any] | None = None,
    cash: float = 100_000.0,
    costs: str = "ib-fixed",
    benchmark: str = "",
    risk_free: float = 0.0,
    pins: str | Path = "",
    align: str = "as-is",
    size: str = "",
    slippage: str = "",
    volume_cap: float = 0.0,
    fills: str = NEXT_BAR,
    borrow: str = "",
    cash_rate: float = 0.0,
) -> RunResult:
    """
    Run a strategy over stored bars and return what it left.

    An order given at the close of a bar fills at the next one. Backtrader refuses an order (status Margin) that the
    cash cannot pay at the close it was given at, or at the price it would fill at.

    Args:
        strategy: a `bt.Strategy` class, or "file.py:Name".
        series: one series or several; the first one is the strategy's `data`.
        span: which bars, by their stamps; a pair of dates means the sessions known by them, both included.
        params: the strategy's own parameters; the rest keep their defaults.
        cash: money at the start, in the currency of the first series.
        costs: a name in COSTS, "bp:RATE" or "futures:FEE:MULTIPLIER:MARGIN".
        benchmark: a series to compare with; buy and hold of the run's own series if not given.
        risk_free: return of cash a year, for the ratios; 0.02 is 2 %.
        pins: a file that `backtest pin` made: no other bars than those are run on; without a span, all of them.
        align: a rule of ALIGNMENTS for the times of several series.
        size: "shares:100", "percent:95", "volatility:0.10" or "kelly:0.5", for a strategy that leaves its sizes open.
        slippage: "5bp", "0.01", "impact:0.1" or "spread"; see `Slippage.parse`. No fill is ever outside its bar.
        volume_cap: the most of a bar's volume that is traded, 0.1 for a tenth; the rest of an order waits.
        fills: "next-bar", or "this-close": orders at the market get the very close they were decided by.
        borrow: what shares sold short cost a year; rules with commas between, see `Borrowing.parse`.
        cash_rate: interest a year on idle cash; 0.02 is 2 %.

    What a strategy leaves in a dict of JSON named `notes`, such as its models' hashes, goes into the manifest.
    Long by its arguments alone: each is named, told and handed on.

    Raises:
        UsageError: a name or a number is off.
        NoBars: the store lacks the bars.
        StrategyError: the strategy raised; the text says where, the cause is chained.
    """
    found = load(strategy)
    wanted = _all_series(series)
    _check_numbers(cash, risk_free)
    market, sizing, charged = (
        Market(slippage, volume_cap, fills, borrow, cash_rate),
        Sizing.parse(size),
        costs_named(costs),
    )
    market.check()
    opened = store if isinstance(store, Store) else open_store(store)
    wanted = [opened.named(one) for one in wanted]
    _check_distinct(wanted)
    compared_with = [opened.named(one) for one in _all_series(benchmark or [])]
    read = [*wanted, *compared_with]
    if pins:
        from backtest.pins import check as check_pins

        span = check_pins(opened, pins, read, span)
    bars = _read(opened, read, span)
    spec = RunSpec(
        found.name,
        tuple(one.key for one in wanted),
        *_dates(span),
        parameters(found, params or {}),
        float(cash),
        costs,
        compared_with[0].key if compared_with else "",
        float(risk_free),
        sessions_a_year(wanted[0].instrument),
        align,
        size,
        slippage,
        float(volume_cap),
        fills,
        borrow,
        float(cash_rate),
    )
    manifest = describe(found, spec, bars, opened)
    compared = bars[compared_with[0]] if compared_with else None
    bars, aligned = align_bars({one: bars.pop(one) for one in wanted}, align)
    feeds = [replay(bars.pop(one), one, single=True) for one in wanted]  # which hold the only references
    cerebro = _cerebro(found, spec, feeds)
    market.set_up(cerebro, lambda: _half_spreads(opened, wanted, span))
    _set_costs(cerebro, spec, charged, market)
    sizing.set_up(cerebro)
    recorder = _simulate(cerebro, found, min(len(feed.p.dataname) for feed in feeds))
    record = account_table(recorder, wanted, spec, compared)
    order_rows, fill_rows = recorder.orders(wanted)
    sizing.check_asked(recorder.strategy, found.name, len(order_rows))
    manifest |= _further(recorder.strategy, market, aligned, order_rows)
    trades = round_trips(fill_rows, record, spec.multiplier)
    return RunResult(spec, record, order_rows, fill_rows, trades, manifest)


def _all_series(series: Series | str | Iterable[Series | str]) -> list[Series]:
    given = [series] if isinstance(series, Series | str) else list(series)
    parsed = [Series.parse(one) if isinstance(one, str) else one for one in given]
    _check_distinct(parsed)
    return parsed


def _check_distinct(series: list[Series]) -> None:
    if len(set(series)) < len(series):
        raise UsageError(f"a series is named twice in {', '.join(one.short for one in series)}; name each once")


def _check_numbers(cash: float, risk_free: float) -> None:
    if not (np.isfinite(cash) and cash > 0):
        raise UsageError(f"cash is {cash}; it must be more than 0")
    if not -1 < risk_free < 1:
        raise UsageError(f"the risk-free rate is {risk_free} a year; write 0.02 for 2 %")


def _read(store: Store, series: list[Series], span: Any) -> dict[Series, pa.Table]:
    if not series:
        raise UsageError("no series to run on; name at least one, such as AAPL/1day")
    return {one: store.read(one, _span(one, span)) for one in series}


def _span(series: Series, span: Any) -> Span | None:
    if span is None or isinstance(span, Span):
        return span
    since, until = span
    if since is None and until is None:
        return None
    return span_of_sessions(series, since or date(1900, 1, 1), until or date(2100, 1, 1))


def _dates(span: Any) -> tuple[str, str]:
    if span is None:
        return "", ""
    since, until = (span.start, span.end) if isinstance(span, Span) else span
    return since.isoformat() if since else "", until.isoformat() if until else ""


class _Cerebro(Cerebro):
    """Ours, which goes bar by bar where an indicator reads feeds whose bars have different times."""

    def _runonce(self, runstrats: list[Any]) -> None:
        if not mixes_clocks(runstrats, self.datas):
            super()._runonce(runstrats)
            return
        self.why_not = "an indicator reads feeds whose bars have different times"
        hide_what_has_not_begun(runstrats, self.datas)
        self._runnext(runstrats)  # what Backtrader does where `runonce` is off


def _cerebro(strategy: Strategy, spec: RunSpec, feeds: list[ArrowFeed]) -> Cerebro:
    cerebro = _Cerebro(stdstats=False)
    cerebro.forgets = True
    for feed in feeds:
        cerebro.adddata(feed)
    cerebro.addstrategy(strategy.cls, **spec.params)
    return cerebro


def _set_costs(cerebro: Cerebro, spec: RunSpec, costs: Costs, market: Market) -> None:
    cerebro.broker.setcash(spec.cash)
    traded = MonthlyVolume()
    for feed in cerebro.datas:
        cerebro.broker.addcommissioninfo(market.model(costs, feed, traded), name=feed._name)
    cerebro.addanalyzer(Recorder, _name="recorder")


def _half_spreads(store: Store, series: list[Series], span: Any) -> dict[str, tuple[list[float], list[float]]]:
    """Return half of ask less bid at each bar's open, from the stored bars of quotes."""
    found = {}
    for one in series:
        bid, ask = (
            store.read(quotes, _span(quotes, span))
            for quotes in (replace(one, prices="BID"), replace(one, prices="ASK"))
        )
        _, of_bid, of_ask = np.intersect1d(
            arrays.numbers(bid["time"]), arrays.numbers(ask["time"]), return_indices=True
        )
        halves = (arrays.numbers(ask["open"])[of_ask] - arrays.numbers(bid["open"])[of_bid]) / 2
        found[one.short] = (close_stamps(bid, one.size)[of_bid].tolist(), np.maximum(halves, 0.0).tolist())
    return found


def _further(strategy: Any, market: Market, aligned: dict[str, Any], orders: pa.Table) -> dict[str, Any]:
    """Return what the manifest says of market and alignment, and what the strategy leaves in its notes."""
    given, filled = (arrays.numbers(orders[name]) for name in ("created", "closed"))
    early = int(((filled <= given) & (arrays.numbers(orders["filled"]) != 0)).sum())
    found = {
        "market": {**asdict(market), "filled_in_their_own_bar": early},
        "aligned": aligned,
        "notes": _notes(strategy),
    }
    return {name: value for name, value in found.items() if value}


def _notes(strategy: Any) -> Any:
    """Return what a strategy notes of itself; anything but a dict of JSON is its own affair."""
    notes = getattr(strategy, "notes", None)
    with contextlib.suppress(TypeError, ValueError):
        return json.loads(json.dumps(notes, allow_nan=False)) if isinstance(notes, dict) else None
    return None


def _simulate(cerebro: Cerebro, strategy: Strategy, fewest: int) -> Recorder:
    try:
        (ran,) = cerebro.run()
    except BacktestError:
        raise
    except IndexError as error:
        # Backtrader's vectorised indicators run off the end of bars that are fewer than their period.
        raise StrategyError(
            f"{explain(error, strategy)}; does it look further back than the {fewest} bars there are?"
        ) from error
    except Exception as error:
        raise StrategyError(f"{explain(error, strategy)}; mend it and run again") from error
    recorder: Recorder = ran.analyzers.recorder
    return recorder
