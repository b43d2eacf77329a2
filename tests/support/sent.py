"""What tests send to other processes, which can import this module and no test module."""

from __future__ import annotations

import backtrader as bt

from backtest.api import run
from backtest.baselines.baseline import Baseline


class Turns(bt.Strategy):
    """Buys every tenth bar and sells five bars later, of a size of its own or none."""

    params = (("fast", 10), ("slow", 5), ("size", 10))

    def next(self):
        step = len(self) % self.p.fast
        if step == 0:
            self.buy(size=self.p.size or None)
        elif step == self.p.slow and self.position:
            self.close()


def of_path(path, series, root):
    """Return what is kept of a run in a process of its own."""
    result = run(path, series, store=root)
    return Baseline.of(result).years, Baseline.of(result).orders
