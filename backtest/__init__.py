"""
Backtests on Interactive Brokers' historical bars: download, store, replay, measure, report.

Everything public is here, imported when first used: `import backtest` alone loads neither Backtrader, ib_insync
nor Matplotlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backtest.bars import BarSize, Instrument, Series, Span
    from backtest.comparison import compare
    from backtest.costs import COSTS
    from backtest.definitions import METRICS
    from backtest.downloader import download
    from backtest.engine import run
    from backtest.errors import BacktestError
    from backtest.feed import replay
    from backtest.figures import FIGURES
    from backtest.metrics import measure, measure_returns
    from backtest.publishing import publish
    from backtest.regime import regimes
    from backtest.remote import open_store
    from backtest.report import write_comparison, write_report
    from backtest.result import RunResult, RunSpec
    from backtest.sources import Source, connect
    from backtest.store import Store
    from backtest.sweeps import Sweep, sweep
    from backtest.unseen import cross_validate, walk_forward

_HOMES = {
    "BacktestError": "errors",
    "BarSize": "bars",
    "Instrument": "bars",
    "Series": "bars",
    "Span": "bars",
    "Store": "store",
    "open_store": "remote",
    "publish": "publishing",
    "Source": "sources",
    "connect": "sources",
    "download": "downloader",
    "replay": "feed",
    "COSTS": "costs",
    "RunSpec": "result",
    "RunResult": "result",
    "run": "engine",
    "METRICS": "definitions",
    "measure": "metrics",
    "measure_returns": "metrics",
    "compare": "comparison",
    "Sweep": "sweeps",
    "sweep": "sweeps",
    "cross_validate": "unseen",
    "regimes": "regime",
    "walk_forward": "unseen",
    "FIGURES": "figures",
    "write_comparison": "report",
    "write_report": "report",
}
__all__ = [
    "COSTS",
    "FIGURES",
    "METRICS",
    "BacktestError",
    "BarSize",
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
