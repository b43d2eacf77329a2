"""
Backtests on Interactive Brokers' historical bars: download, store, replay, measure, report.

The public names are imported when they are first used: `import backtest` alone loads neither pandas nor Backtrader.
The types of their arguments and results are exported too, for annotations; everything else is imported from its room.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from backtest import _garbage

if TYPE_CHECKING:
    from backtest.api import RunResult as RunResult
    from backtest.api import run
    from backtest.downloads.downloader import DownloadReport as DownloadReport
    from backtest.downloads.downloader import download
    from backtest.downloads.ingestion import ingest
    from backtest.engine.feed import replay
    from backtest.engine.lean.cerebro import Cerebro
    from backtest.engine.markets.membership import members
    from backtest.errors import BacktestError, UsageError
    from backtest.market.series import BarSize, Instrument, Series
    from backtest.market.span import Span
    from backtest.metrics.combination import Combination as Combination
    from backtest.metrics.measurement import Stats as Stats
    from backtest.metrics.measurement import measure, measure_returns
    from backtest.research.combination import combine
    from backtest.research.each import SeriesRuns as SeriesRuns
    from backtest.research.each import run_each
    from backtest.research.lookahead import Leak as Leak
    from backtest.research.lookahead import look_ahead
    from backtest.research.next_orders import NextOrders as NextOrders
    from backtest.research.next_orders import next_orders
    from backtest.research.out_of_sample.cross_validation import CrossValidation as CrossValidation
    from backtest.research.out_of_sample.cross_validation import cross_validate
    from backtest.research.out_of_sample.walk_forward import WalkForward as WalkForward
    from backtest.research.out_of_sample.walk_forward import walk_forward
    from backtest.research.search.sweeps import Sweep as Sweep
    from backtest.research.search.sweeps import sweep
    from backtest.runs.spec import Brokerage
    from backtest.runs.spec import RunSpec as RunSpec
    from backtest.sources.base import Source as Source
    from backtest.sources.connect import connect
    from backtest.store.publishing import Published as Published
    from backtest.store.publishing import publish
    from backtest.store.store import Store, open_store, panel
    from backtest.validity.comparison import Comparison as Comparison
    from backtest.validity.comparison import compare
    from backtest.validity.validation import Validity as Validity
    from backtest.validity.validation import validate

_HOMES = {
    "Store": "store.store",
    "open_store": "store.store",
    "panel": "store.store",
    "Series": "market.series",
    "Span": "market.span",
    "Instrument": "market.series",
    "BarSize": "market.series",
    "connect": "sources.connect",
    "download": "downloads.downloader",
    "ingest": "downloads.ingestion",
    "publish": "store.publishing",
    "replay": "engine.feed",
    "members": "engine.markets.membership",
    "Brokerage": "runs.spec",
    "Cerebro": "engine.lean.cerebro",
    "run": "api",
    "run_each": "research.each",
    "sweep": "research.search.sweeps",
    "walk_forward": "research.out_of_sample.walk_forward",
    "cross_validate": "research.out_of_sample.cross_validation",
    "validate": "validity.validation",
    "look_ahead": "research.lookahead",
    "next_orders": "research.next_orders",
    "compare": "validity.comparison",
    "combine": "research.combination",
    "measure": "metrics.measurement",
    "measure_returns": "metrics.measurement",
    "BacktestError": "errors",
    "UsageError": "errors",
}
_TYPES = {
    "Combination": "metrics.combination",
    "Comparison": "validity.comparison",
    "CrossValidation": "research.out_of_sample.cross_validation",
    "DownloadReport": "downloads.downloader",
    "Leak": "research.lookahead",
    "NextOrders": "research.next_orders",
    "Published": "store.publishing",
    "RunResult": "api",
    "RunSpec": "runs.spec",
    "SeriesRuns": "research.each",
    "Source": "sources.base",
    "Stats": "metrics.measurement",
    "Sweep": "research.search.sweeps",
    "Validity": "validity.validation",
    "WalkForward": "research.out_of_sample.walk_forward",
}
__all__ = [
    "BacktestError",
    "BarSize",
    "Brokerage",
    "Cerebro",
    "Instrument",
    "Series",
    "Span",
    "Store",
    "UsageError",
    "combine",
    "compare",
    "connect",
    "cross_validate",
    "download",
    "ingest",
    "look_ahead",
    "measure",
    "measure_returns",
    "members",
    "next_orders",
    "open_store",
    "panel",
    "publish",
    "replay",
    "run",
    "run_each",
    "sweep",
    "validate",
    "walk_forward",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("ib-backtest")
    home = _HOMES.get(name) or _TYPES.get(name)
    if not home:
        raise AttributeError(f"module 'backtest' has no attribute {name!r}")
    with _garbage.seldom_collected():
        return getattr(import_module(f"backtest.{home}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, *_TYPES])
