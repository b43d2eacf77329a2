"""The newcomer's job with stock Backtrader: with_backtrader.py FOLDER SYMBOL ..."""

import sys

import backtrader as bt
import pandas as pd


class SmaCross(bt.Strategy):
    params = (("fast", 10), ("slow", 30), ("size", 100))

    def __init__(self):
        self.cross = bt.ind.CrossOver(bt.ind.SMA(period=self.p.fast), bt.ind.SMA(period=self.p.slow))

    def next(self):
        if self.cross[0] > 0:
            self.buy(size=self.p.size)
        elif self.cross[0] < 0 and self.position:
            self.close()


folder, *symbols = sys.argv[1:]
for symbol in symbols:
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=pd.read_parquet(f"{folder}/{symbol}.parquet")))
    cerebro.addstrategy(SmaCross)
    cerebro.broker.setcash(100_000.0)
    # 0.01 a share: 1.00 for each order of 100
    cerebro.broker.setcommission(commission=0.01, commtype=bt.CommInfoBase.COMM_FIXED, stocklike=True)
    cerebro.addanalyzer(
        bt.analyzers.SharpeRatio, _name="sharpe", timeframe=bt.TimeFrame.Days, annualize=True, riskfreerate=0.0,
        factor=252, stddev_sample=True,
    )  # fmt: skip
    cerebro.addanalyzer(bt.analyzers.DrawDown, _name="drawdown")
    (ran,) = cerebro.run()
    sharpe = ran.analyzers.sharpe.get_analysis()["sharperatio"]
    drawdown = -ran.analyzers.drawdown.get_analysis().max.drawdown / 100
    print(symbol, sharpe, drawdown, cerebro.broker.getvalue() / 100_000 - 1)
