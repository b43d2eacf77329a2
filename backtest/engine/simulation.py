"""`simulate`: a strategy on stored bars."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import backtrader as bt
import numpy as np

from backtest.engine.account.commissions import Costs, MonthlyVolume
from backtest.engine.alignment import align as align_bars
from backtest.engine.alignment import hide_what_has_not_begun, mixes_clocks, without_hidden_bars
from backtest.engine.execution import commission_model, set_up_market
from backtest.engine.feed import ArrowFeed, close_stamps, replay
from backtest.engine.lean.cerebro import Cerebro
from backtest.engine.plotted_lines import plotted_lines
from backtest.engine.provenance import describe
from backtest.engine.recorder import Recorder, account_table
from backtest.engine.sizing import Sizing
from backtest.engine.strategy import Strategy, explain_failure, importing_beside
from backtest.errors import BacktestError, StrategyError
from backtest.market import arrays
from backtest.market.calendars import span_asked
from backtest.market.series import Series
from backtest.market.span import Sessions, Span
from backtest.runs.lines import Lines
from backtest.runs.record import RunRecord
from backtest.runs.round_trips import round_trips
from backtest.runs.spec import Brokerage, RunSpec
from backtest.store.reader import Reader, hours_in

if TYPE_CHECKING:
    import pyarrow as pa


def simulate(
    strategy: Strategy,
    spec: RunSpec,
    store: Reader,
    span: Span | Sessions | None,
    costs: Costs,
    lines: bool = True,
) -> RunRecord:
    """
    Replay stored bars into a strategy and return the record of it.

    Args:
        spec: what is asked, checked already: see `api.run`.
        span: which bars, or which sessions, both included; `spec` has it in words.
        costs: the model that `spec.brokerage.costs` names.
        lines: whether to keep what Backtrader would plot of indicators and observers; no number changes with it.

    Raises:
        NoBars: the store lacks the bars.
        StrategyError: the strategy raised; the text says where, the cause is chained.
    """
    wanted = [Series.parse(key) for key in spec.series]
    compared_with = [Series.parse(spec.benchmark)] if spec.benchmark else []
    brokerage, sizing = spec.brokerage, Sizing.parse(spec.brokerage.size)
    bars = {one: store.read(one, span_asked(one, hours_in(store, one), span)) for one in [*wanted, *compared_with]}
    manifest = describe(strategy, spec, bars, store, costs)
    compared = bars[compared_with[0]] if compared_with else None
    bars, aligned = align_bars({one: bars.pop(one) for one in wanted}, brokerage.align)
    feeds = [replay(bars.pop(one), one, single=True) for one in wanted]  # which hold the only references
    cerebro = _cerebro(strategy, spec, feeds)
    set_up_market(cerebro, brokerage, lambda: _half_spreads(store, wanted, span))
    _set_costs(cerebro, spec, costs)
    sizing.set_up(cerebro)
    with importing_beside(strategy):
        recorder = _run(cerebro, strategy, min(len(feed.p.dataname) for feed in feeds))
    record = account_table(recorder, wanted, hours_in(store, wanted[0]), spec, compared)
    order_rows, fill_rows = recorder.orders(wanted)
    sizing.check_asked(recorder.strategy, strategy.name, len(order_rows))
    manifest |= _further(recorder.strategy, brokerage, aligned, order_rows)
    trades = round_trips(fill_rows, record, spec.multiplier)
    drawn = Lines(plotted_lines(recorder.strategy, wanted) if lines else None)
    return RunRecord(spec, record, order_rows, fill_rows, trades, manifest, drawn)


class _Cerebro(Cerebro):
    """Ours, which goes bar by bar where an indicator reads feeds whose bars have different times."""

    def _runonce(self, runstrats: list[Any]) -> None:
        if not mixes_clocks(runstrats, self.datas):
            super()._runonce(runstrats)
            return
        self.why_not = "an indicator reads feeds whose bars have different times"
        hide_what_has_not_begun(runstrats, self.datas)
        with without_hidden_bars(self.broker, self.datas):
            bt.Cerebro._runnext(self, runstrats)  # what Backtrader does where `runonce` is off


def _cerebro(strategy: Strategy, spec: RunSpec, feeds: list[ArrowFeed]) -> Cerebro:
    cerebro = _Cerebro(stdstats=False)
    cerebro.forgets = True
    for feed in feeds:
        cerebro.adddata(feed)
    cerebro.addstrategy(strategy.cls, **spec.params)
    return cerebro


def _set_costs(cerebro: Cerebro, spec: RunSpec, costs: Costs) -> None:
    cerebro.broker.setcash(spec.cash)
    traded = MonthlyVolume()
    for feed in cerebro.datas:
        cerebro.broker.addcommissioninfo(commission_model(spec.brokerage, costs, feed, traded), name=feed._name)
    cerebro.addanalyzer(Recorder, _name="recorder")


def quotes_of(series: Series) -> tuple[Series, Series]:
    """Return the bars of bid and of ask that slippage by the spread reads beside a series."""
    return replace(series, prices="BID"), replace(series, prices="ASK")


def _half_spreads(store: Reader, series: list[Series], span: Any) -> dict[str, tuple[list[float], list[float]]]:
    """Return half of ask less bid at each bar's open, from the stored bars of quotes."""
    found = {}
    for one in series:
        bid, ask = (store.read(quotes, span_asked(quotes, hours_in(store, quotes), span)) for quotes in quotes_of(one))
        _, of_bid, of_ask = np.intersect1d(
            arrays.numbers(bid["time"]), arrays.numbers(ask["time"]), return_indices=True
        )
        halves = (arrays.numbers(ask["open"])[of_ask] - arrays.numbers(bid["open"])[of_bid]) / 2
        found[one.short] = (close_stamps(bid, one.size)[of_bid].tolist(), np.maximum(halves, 0.0).tolist())
    return found


def _further(strategy: Any, brokerage: Brokerage, aligned: dict[str, Any], orders: pa.Table) -> dict[str, Any]:
    """Return what the manifest says of market and alignment, and what the strategy leaves in its notes."""
    given, filled = (arrays.numbers(orders[name]) for name in ("created", "closed"))
    early = int(((filled <= given) & (arrays.numbers(orders["filled"]) != 0)).sum())
    told_elsewhere = ("costs", "align", "size")
    market = {name: value for name, value in brokerage.flat.items() if name not in told_elsewhere}
    found = {
        "market": {**market, "filled_in_their_own_bar": early},
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


def _run(cerebro: Cerebro, strategy: Strategy, fewest: int) -> Recorder:
    try:
        (ran,) = cerebro.run()
    except BacktestError:
        raise
    except IndexError as error:
        # Backtrader's vectorised indicators run off the end of bars that are fewer than their period.
        raise StrategyError(
            f"{explain_failure(error, strategy)}; does it look further back than the {fewest} bars there are?"
        ) from error
    except Exception as error:
        raise StrategyError(f"{explain_failure(error, strategy)}; mend it and run again") from error
    recorder: Recorder = ran.analyzers.recorder
    return recorder
