"""`run`: a strategy on stored bars."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest import _arguments
from backtest._suggest import there_are
from backtest.engine.account.commissions import Costs, MonthlyVolume, costs_of
from backtest.engine.alignment import ALIGNMENTS, hide_what_has_not_begun, mixes_clocks
from backtest.engine.alignment import align as align_bars
from backtest.engine.execution import NEXT_BAR, Market
from backtest.engine.feed import ArrowFeed, close_stamps, replay
from backtest.engine.lean.cerebro import Cerebro
from backtest.engine.provenance import describe
from backtest.engine.recorder import Recorder, account_table
from backtest.engine.sizing import Sizing, size_of
from backtest.engine.strategy import Strategy, explain, importing_beside, load, parameters
from backtest.errors import BacktestError, StrategyError, UsageError
from backtest.market import arrays
from backtest.market.calendars import sessions_a_year, span_asked
from backtest.market.series import Series, series_of, several_series
from backtest.market.span import Span, asked_span
from backtest.runs.record import RunResult
from backtest.runs.round_trips import round_trips
from backtest.runs.spec import RunSpec
from backtest.store.remote import store_of
from backtest.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa


def run(
    strategy: str | Path | type[Any] | Strategy,
    series: Series | str | Iterable[Series | str],
    *,
    store: Store | str | Path,
    span: Span | Sequence[date | str | None] | None = None,
    start: date | str | None = None,
    end: date | str | None = None,
    params: Mapping[str, Any] | None = None,
    cash: float | str = 100_000.0,
    costs: str | float | Costs | Any = "ib-fixed",
    benchmark: Series | str = "",
    risk_free: float | str = 0.0,
    pins: str | Path = "",
    align: str = "as-is",
    size: str | int = "",
    slippage: str | float = "",
    volume_cap: float | str = 0.0,
    fills: str = NEXT_BAR,
    borrow: str | float = "",
    cash_rate: float | str = 0.0,
) -> RunResult:
    """
    Run a strategy over stored bars and return what it left.

    An order given at the close of a bar fills at the next one. Backtrader refuses an order (status Margin) that the
    cash cannot pay at the close it was given at, or at the price it would fill at.

    Args:
        strategy: a `bt.Strategy` class, or "file.py:Name".
        series: one series or several, or their spellings; the first one is the strategy's `data`.
        store: a store, or its folder or URL.
        span: a `Span` of stamps, or a pair of sessions, both included, each a date or "2020-01-02"; all bars if not
            given.
        start: the first session, in the place of a span.
        end: the last session, included.
        params: the strategy's own parameters; the rest keep their defaults.
        cash: money at the start, in the currency of the first series.
        costs: a name in COSTS, "bp:RATE", "futures:FEE:MULTIPLIER:MARGIN"; a number, the share of each fill's value
            (0.001 is a tenth of a percent, as in Backtrader's `setcommission`); or a `bt.CommInfoBase`, of which each
            series gets a copy: the spec keeps its class and parameters.
        benchmark: a series to compare with; buy and hold of the run's own series if not given.
        risk_free: return of cash a year, for the ratios; 0.02 is 2 %.
        pins: a file that `backtest pin` made: no other bars than those are run on; without a span, all of them.
        align: a rule of ALIGNMENTS for the times of several series.
        size: for a strategy that leaves its sizes open: "shares:100", "percent:95", "volatility:0.10", "kelly:0.5"; or
            a whole number, so many shares or contracts an order.
        slippage: "5bp", "0.01", "impact:0.1" or "spread"; see `Slippage.parse`. A bare number is money a share, as
            "0.01" is: five basis points of the price are "5bp", and 0.0005 is a twentieth of a cent. No fill is ever
            outside its bar.
        volume_cap: the most of a bar's volume that is traded, 0.1 for a tenth; the rest of an order waits.
        fills: "next-bar", or "this-close": orders at the market get the very close they were decided by.
        borrow: what shares sold short cost a year; rules with commas between, see `Borrowing.parse`.
        cash_rate: interest a year on idle cash; 0.02 is 2 %.

    What a strategy leaves in a dict of JSON named `notes`, such as its models' hashes, goes into the manifest.
    Long by its arguments alone: each is named, told and handed on.

    Raises:
        UsageError: an argument cannot be read, or a name or a number is off.
        NoBars: the store lacks the bars.
        StrategyError: the strategy raised; the text says where, the cause is chained.
    """
    found, given = load(strategy), _arguments.mapping(params, "params", 'write a dict, such as {"fast": 10}')
    wanted, asked = several_series(series), asked_span(span, start, end)
    _check_distinct(wanted)
    charged = check_asked(cash, costs, risk_free, align, size, slippage, volume_cap, fills, borrow, cash_rate)
    market, how_much = Market.of(slippage, volume_cap, fills, borrow, cash_rate), size_of(size)
    sizing = Sizing.parse(how_much)
    opened, beside = store_of(store), series_of(benchmark) if benchmark else None
    wanted = [opened.named(one) for one in wanted]
    _check_distinct(wanted)
    beside = opened.named(beside) if beside else None
    read = [*wanted, *([beside] if beside else [])]
    if pins:
        from backtest.store.pins import check as check_pins

        asked = check_pins(opened, _arguments.path(pins, "pins", "write the file of the pins"), read, asked)
    bars = {one: opened.read(one, span_asked(one, asked)) for one in read}
    spec = RunSpec(
        found.name,
        tuple(one.key for one in wanted),
        *_dates(asked),
        parameters(found, given),
        float(cash),
        charged.name,
        beside.key if beside else "",
        float(risk_free),
        sessions_a_year(wanted[0].instrument),
        align,
        how_much,
        market.slippage,
        market.volume_cap,
        market.fills,
        market.borrow,
        market.cash_rate,
    )
    manifest = describe(found, spec, bars, opened, charged)
    compared = bars.get(beside) if beside else None
    bars, aligned = align_bars({one: bars.pop(one) for one in wanted}, align)
    feeds = [replay(bars.pop(one), one, single=True) for one in wanted]  # which hold the only references
    cerebro = _cerebro(found, spec, feeds)
    market.set_up(cerebro, lambda: _half_spreads(opened, wanted, asked))
    _set_costs(cerebro, spec, charged, market)
    sizing.set_up(cerebro)
    with importing_beside(found):
        recorder = _simulate(cerebro, found, min(len(feed.p.dataname) for feed in feeds))
    record = account_table(recorder, wanted, spec, compared)
    order_rows, fill_rows = recorder.orders(wanted)
    sizing.check_asked(recorder.strategy, found.name, len(order_rows))
    manifest |= _further(recorder.strategy, market, aligned, order_rows)
    trades = round_trips(fill_rows, record, spec.multiplier)
    return RunResult(spec, record, order_rows, fill_rows, trades, manifest)


def _check_distinct(wanted: list[Series]) -> None:
    if not wanted:
        raise UsageError("no series to run on; name at least one, such as AAPL/1day")
    if len(set(wanted)) < len(wanted):
        raise UsageError(f"a series is named twice in {', '.join(one.short for one in wanted)}; name each once")


def check_asked(
    cash: Any,
    costs: Any,
    risk_free: Any,
    align: Any,
    size: Any,
    slippage: Any,
    volume_cap: Any,
    fills: Any,
    borrow: Any,
    cash_rate: Any,
) -> Costs:
    """
    Check what a run is asked of its account and its market, which needs no bars, and return the costs.

    Raises:
        UsageError: an argument cannot be read, or a name or a number is off.
    """
    if not _arguments.number(cash, "cash") > 0:
        raise UsageError(f"cash is {cash}; it must be more than 0")
    if not -1 < _arguments.number(risk_free, "risk_free", "write 0.02 for 2 % a year") < 1:
        raise UsageError(f"the risk-free rate is {risk_free} a year; write 0.02 for 2 %")
    if _arguments.text(align, "align", f"write one of {', '.join(ALIGNMENTS)}") not in ALIGNMENTS:
        raise UsageError(f"no alignment {align!r}; {there_are(align, ALIGNMENTS)}")
    Market.of(slippage, volume_cap, fills, borrow, cash_rate)
    Sizing.parse(size_of(size))
    return costs_of(costs)


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
            store.read(quotes, span_asked(quotes, span))
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
