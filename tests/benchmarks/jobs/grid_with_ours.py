"""A grid of two averages with this package: grid_with_ours.py BARS.parquet BACKEND FASTS SLOWS."""

import sys
import time
from typing import Any

import backtrader as bt
import numpy as np
import pyarrow.parquet as pq

from backtest.engine.compiled.trials import run_trials
from backtest.engine.feed import replay
from backtest.market.series import Series
from backtest.metrics.drawdown import max_drawdown_by_row
from backtest.metrics.ratios import sharpe_by_row
from backtest.metrics.returns import EquityRows, Rows, returns_of, total_return_by_row

path, backend, *bounds = sys.argv[1:]
fasts, slows = (range(*map(int, words.split(":"))) for words in bounds)
pairs = [{"fast": fast, "slow": slow} for fast in fasts for slow in slows]
bars = pq.ParquetFile(path).read()
AT_ONCE = 50  # trials over minutes whose every bar is kept at a time
daily = len(bars) < 10_000
series = Series.parse("MADE/1day" if daily else "MADE/1min")


class Above(bt.Strategy):
    params = (("fast", 10), ("slow", 30))

    def __init__(self) -> None:
        averages = (bt.ind.SMA(self.data.close, period=period) for period in (self.p.fast, self.p.slow))
        self.above = next(averages) > next(averages)

    def next(self) -> None:
        if self.above[0] and not self.position:
            self.buy(size=10)
        elif not self.above[0] and self.position:
            self.close()


def set_up(cerebro: Any) -> None:
    cerebro.broker.setcash(100_000.0)


def simulated() -> np.ndarray:
    size = len(pairs) if daily else AT_ONCE
    return np.hstack([block(pairs[start : start + size]) for start in range(0, len(pairs), size)])


def block(params: list[dict[str, int]]) -> np.ndarray:
    made = run_trials(Above, params, [replay(bars, series)], set_up, backend=backend, recorded=("equity", "fills"))
    assert not made.why_not, made.why_not
    assert not made.left, made.left
    equity = np.full((len(params), made.equity.shape[1] + 1), 100_000.0)
    equity[:, 1:] = made.equity
    curves, returns = EquityRows.of(equity), Rows.of(returns_of(equity))
    closed = np.diff(made.fills_from) // 2
    return np.array(
        [total_return_by_row(curves), max_drawdown_by_row(curves), sharpe_by_row(returns), closed.astype(float)]
    )


simulated()
whole = time.process_time()
began = time.process_time()
found = simulated()
warm = time.process_time() - began
np.save(sys.stdout.buffer, np.append(found.ravel(), [warm, whole]))
