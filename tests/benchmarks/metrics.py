"""
Metrics of a million equity points, against quantstats and empyrical on the same returns, in one process.

Run:  python tests/benchmarks/metrics.py [--points 1000000] [--repeats 5]

It needs quantstats and empyrical-reloaded besides what `backtest` needs; a library that is not installed is left out:
pip install quantstats empyrical-reloaded

First every metric that two libraries define alike is compared (relative error at most 1e-9). Then each library and our
functions compute the shared metrics in alternation, so that load affects both alike; the best of the repeats counts.
The last row is `measure_returns`: all metrics of returns, with their definitions and reasons.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
import time
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from backtest.metrics.drawdown import calmar, max_drawdown, ulcer, underwater
from backtest.metrics.measurement import measure_returns
from backtest.metrics.ratios import omega, sharpe, sortino
from backtest.metrics.returns import cagr, downside_deviation, equity_of, largest, smallest, total_return, volatility
from backtest.metrics.tail_risk import expected_shortfall, tail_ratio, value_at_risk, value_at_risk_gaussian

Numbers = dict[str, Callable[[], float]]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--points", type=int, default=1_000_000)
    words.add_argument("--repeats", type=int, default=5)
    asked = words.parse_args()
    values = np.random.default_rng(0).normal(2e-5, 0.001, asked.points)
    series = pd.Series(values, pd.date_range("1990-01-01", periods=asked.points, freq="h"))
    print(
        f"\n{asked.points:,} points\n\n| library | numbers shared | its seconds | ours | ratio |\n|---|---|---|---|---|"
    )
    for name, make in (("empyrical", of_empyrical), ("quantstats", of_quantstats)):
        if importlib.util.find_spec(name):
            print(row(name, make(values, series), values, asked.repeats))
        else:
            print(f"| {name} | not installed | | | |")
    days = np.datetime64("0001-01-01") + np.arange(asked.points)
    dated = pd.Series(values, pd.DatetimeIndex(days.astype("datetime64[s]")))
    seconds = best(lambda: measure_returns(dated), asked.repeats)
    print(f"| measure_returns | {len(measure_returns(dated))} | | {seconds:.3f} | |")


def row(name: str, theirs: Numbers, values: np.ndarray, repeats: int) -> str:
    """Return a library's row of the table, after checking that its numbers equal ours."""
    mine = ours(values)
    for number, compute in theirs.items():
        own, other = mine[number](), float(compute())
        if not math.isclose(own, other, rel_tol=1e-9):
            raise SystemExit(f"{name} has {number} {other!r}, but here it is {own!r}: nothing was timed")
    print(f"{name}: the same {', '.join(theirs)}", file=sys.stderr)
    slow, fast = math.inf, math.inf
    for _ in range(repeats):
        slow = min(slow, best(lambda: [compute() for compute in theirs.values()], 1))
        fast = min(fast, best(lambda: compute_ours(values, theirs), 1))
    return f"| {name} | {len(theirs)} | {slow:.3f} | {fast:.3f} | {slow / fast:.1f} |"


def compute_ours(values: np.ndarray, names: Iterable[str]) -> list[float]:
    """Return our numbers from bare returns, including the equity that most of them need."""
    mine = ours(values)
    return [mine[name]() for name in names]


def best(job: Callable[[], object], repeats: int) -> float:
    """Return the seconds of the fastest of several repeats."""
    goes = []
    for _ in range(repeats):
        begun = time.perf_counter()
        job()
        goes.append(time.perf_counter() - begun)
    return min(goes)


def ours(values: np.ndarray) -> Numbers:
    equity = equity_of(values)
    return {
        "total return": lambda: total_return(equity),
        "CAGR": lambda: cagr(equity),
        "volatility": lambda: volatility(values),
        "downside deviation": lambda: downside_deviation(values),
        "Sharpe": lambda: sharpe(values),
        "Sortino": lambda: sortino(values),
        "maximum drawdown": lambda: max_drawdown(equity),
        "Calmar": lambda: calmar(equity),
        "omega": lambda: omega(values),
        "tail ratio": lambda: tail_ratio(values),
        "value at risk": lambda: value_at_risk(values),
        "expected shortfall": lambda: expected_shortfall(values),
        "normal value at risk": lambda: value_at_risk_gaussian(values),
        "best": lambda: largest(values),
        "worst": lambda: smallest(values),
        "drawdown series": lambda: float(underwater(equity)[1:].sum()),
        # quantstats divides by n - 1
        "ulcer": lambda: ulcer(equity) * math.sqrt(len(values) / (len(values) - 1)),
    }


def of_empyrical(values: np.ndarray, series: pd.Series) -> Numbers:
    import empyrical

    return {
        "total return": lambda: empyrical.cum_returns_final(values),
        "CAGR": lambda: empyrical.cagr(values),
        "volatility": lambda: empyrical.annual_volatility(values),
        "downside deviation": lambda: empyrical.downside_risk(values),
        "Sharpe": lambda: empyrical.sharpe_ratio(values),
        "Sortino": lambda: empyrical.sortino_ratio(values),
        "maximum drawdown": lambda: empyrical.max_drawdown(values),
        "Calmar": lambda: empyrical.calmar_ratio(values),
        "omega": lambda: empyrical.omega_ratio(values),
        "tail ratio": lambda: empyrical.tail_ratio(values),
        "value at risk": lambda: empyrical.value_at_risk(values),
        "expected shortfall": lambda: empyrical.conditional_value_at_risk(values),
    }


def of_quantstats(values: np.ndarray, series: pd.Series) -> Numbers:
    from quantstats import stats

    return {
        "total return": lambda: stats.comp(series),
        "volatility": lambda: stats.volatility(series, periods=252),
        "Sharpe": lambda: stats.sharpe(series, periods=252),
        "Sortino": lambda: stats.sortino(series, periods=252),
        "maximum drawdown": lambda: stats.max_drawdown(series),
        "drawdown series": lambda: stats.to_drawdown_series(series).sum(),
        "ulcer": lambda: stats.ulcer_index(series),
        "omega": lambda: stats.omega(series),
        "tail ratio": lambda: stats.tail_ratio(series),
        "normal value at risk": lambda: stats.value_at_risk(series),
        "best": lambda: stats.best(series),
        "worst": lambda: stats.worst(series),
    }


if __name__ == "__main__":
    main()
