"""The newcomer's job with this package: with_ours.py STORE SYMBOL ..."""

import sys

import backtrader as bt

from backtest import run


class SmaCross(bt.Strategy):
    params = (("fast", 10), ("slow", 30), ("size", 100))

    def __init__(self):
        self.cross = bt.ind.CrossOver(bt.ind.SMA(period=self.p.fast), bt.ind.SMA(period=self.p.slow))

    def next(self):
        if self.cross[0] > 0:
            self.buy(size=self.p.size)
        elif self.cross[0] < 0 and self.position:
            self.close()


store, *symbols = sys.argv[1:]
for symbol in symbols:
    stats = run(SmaCross, f"{symbol}/1day", store=store).stats
    print(symbol, stats["sharpe"], stats["max_drawdown"], stats["total_return"])
