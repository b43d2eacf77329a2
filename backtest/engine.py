"""`run`: a strategy on stored bars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.bars import Series, Span
from backtest.calendars import sessions_a_year, span_of_sessions
from backtest.cerebro import Cerebro
from backtest.circumstances import describe
from backtest.costs import COSTS
from backtest.errors import BacktestError, StrategyError, UsageError
from backtest.feed import ArrowFeed, replay
from backtest.pins import check as check_pins
from backtest.recorder import Recorder, account_table
from backtest.remote import open_store
from backtest.result import RunResult, RunSpec, round_trips
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
        costs: a name in COSTS.
        benchmark: a series to compare with; buy and hold of the run's own series if not given.
        risk_free: return of cash a year, for the ratios; 0.02 is 2 %.
        pins: a file that `backtest pin` made: no other bars than those are run on; without a span, all of them.

    What a strategy leaves in a dict of its own named `notes`, such as the hashes of its models, goes into the manifest.

    Raises:
        UsageError: a name or a number is off.
        NoBars: the store lacks the bars.
        StrategyError: the strategy raised; the text says where, the cause is chained.
    """
    found = load(strategy)
    wanted = _all_series(series)
    _check_numbers(cash, costs, risk_free)
    opened = store if isinstance(store, Store) else open_store(store)
    read = [*wanted, *_all_series(benchmark or [])]
    if pins:
        span = check_pins(opened, pins, read, span)
    bars = _read(opened, read, span)
    spec = RunSpec(
        found.name,
        tuple(map(str, wanted)),
        *_dates(span),
        parameters(found, params or {}),
        float(cash),
        costs,
        str(Series.parse(benchmark)) if benchmark else "",
        float(risk_free),
        sessions_a_year(wanted[0].instrument),
    )
    manifest = describe(found, spec, bars, opened)
    compared = bars.get(Series.parse(benchmark)) if benchmark else None
    feeds = [replay(bars.pop(one), one, single=True) for one in wanted]  # which hold the only references
    recorder = _simulate(found, spec, feeds)
    if notes := getattr(recorder.strategy, "notes", None):
        manifest["notes"] = notes
    record = account_table(recorder, wanted, spec, compared)
    order_rows, fill_rows = recorder.orders(wanted)
    return RunResult(spec, record, order_rows, fill_rows, round_trips(fill_rows, record), manifest)


def _all_series(series: Series | str | Iterable[Series | str]) -> list[Series]:
    given = [series] if isinstance(series, Series | str) else list(series)
    if len(set(map(str, given))) < len(given):
        raise UsageError(f"a series is named twice in {', '.join(map(str, given))}; name each once")
    return [Series.parse(one) if isinstance(one, str) else one for one in given]


def _check_numbers(cash: float, costs: str, risk_free: float) -> None:
    if not (np.isfinite(cash) and cash > 0):
        raise UsageError(f"cash is {cash}; it must be more than 0")
    if not -1 < risk_free < 1:
        raise UsageError(f"the risk-free rate is {risk_free} a year; write 0.02 for 2 %")
    if costs not in COSTS:
        raise UsageError(f"no costs {costs!r}; there are {', '.join(COSTS)}")


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


def _simulate(strategy: Strategy, spec: RunSpec, feeds: list[ArrowFeed]) -> Recorder:
    cerebro, fewest = Cerebro(stdstats=False), min(len(feed.p.dataname) for feed in feeds)
    cerebro.forgets = True
    for feed in feeds:
        cerebro.adddata(feed)
    cerebro.broker.setcash(spec.cash)
    cerebro.broker.addcommissioninfo(COSTS[spec.costs].make())
    cerebro.addanalyzer(Recorder, _name="recorder")
    cerebro.addstrategy(strategy.cls, **spec.params)
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
