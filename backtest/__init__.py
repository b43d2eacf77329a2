"""
Backtests on Interactive Brokers' historical bars: download, store, replay, measure, report.

Everything public is here, imported when first used: `import backtest` alone loads neither Backtrader, ib_insync
nor Matplotlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backtest.api import RunResult, run
    from backtest.downloads.downloader import download
    from backtest.engine.account.commissions import COSTS
    from backtest.engine.feed import replay
    from backtest.errors import BacktestError
    from backtest.market.series import BarSize, Instrument, Series
    from backtest.market.span import Span
    from backtest.metrics.measurement import measure, measure_returns
    from backtest.metrics.table import METRICS
    from backtest.report.figures import FIGURES
    from backtest.report.run_page import write_comparison, write_report
    from backtest.research.out_of_sample.cross_validation import cross_validate
    from backtest.research.out_of_sample.walk_forward import walk_forward
    from backtest.research.search.sweeps import Sweep, sweep
    from backtest.runs.spec import Brokerage, RunSpec
    from backtest.sources.base import Source
    from backtest.sources.connect import connect
    from backtest.store.publishing import publish
    from backtest.store.store import Store, open_store
    from backtest.validity.comparison import compare
    from backtest.validity.regimes import regimes

_HOMES = {
    "BacktestError": "errors",
    "BarSize": "market.series",
    "Instrument": "market.series",
    "Series": "market.series",
    "Span": "market.span",
    "Store": "store.store",
    "open_store": "store.store",
    "publish": "store.publishing",
    "Source": "sources.base",
    "connect": "sources.connect",
    "download": "downloads.downloader",
    "replay": "engine.feed",
    "COSTS": "engine.account.commissions",
    "Brokerage": "runs.spec",
    "RunSpec": "runs.spec",
    "RunResult": "api",
    "run": "api",
    "METRICS": "metrics.table",
    "measure": "metrics.measurement",
    "measure_returns": "metrics.measurement",
    "compare": "validity.comparison",
    "Sweep": "research.search.sweeps",
    "sweep": "research.search.sweeps",
    "cross_validate": "research.out_of_sample.cross_validation",
    "regimes": "validity.regimes",
    "walk_forward": "research.out_of_sample.walk_forward",
    "FIGURES": "report.figures",
    "write_comparison": "report.run_page",
    "write_report": "report.run_page",
}
__all__ = [
    "COSTS",
    "FIGURES",
    "METRICS",
    "BacktestError",
    "BarSize",
    "Brokerage",
    "Instrument",
    "RunResult",
    "RunSpec",
    "Series",
    "Source",
    "Span",
    "Store",
    "Sweep",
    "compare",
    "connect",
    "cross_validate",
    "download",
    "measure",
    "measure_returns",
    "open_store",
    "publish",
    "regimes",
    "replay",
    "run",
    "sweep",
    "walk_forward",
    "write_comparison",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("ib-backtest")
    if name not in _HOMES:
        raise AttributeError(f"module 'backtest' has no attribute {name!r}")
    return getattr(import_module(f"backtest.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
