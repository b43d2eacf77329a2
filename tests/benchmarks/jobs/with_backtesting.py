"""The newcomer's job with backtesting.py: with_backtesting.py FOLDER SYMBOL ..."""

import sys

import pandas as pd
from backtesting import Backtest, Strategy
from backtesting.lib import crossover


def sma(values, period):
    return pd.Series(values).rolling(period).mean()


class SmaCross(Strategy):
    fast, slow, size = 10, 30, 100

    def init(self):
        self.fast_average = self.I(sma, self.data.Close, self.fast)
        self.slow_average = self.I(sma, self.data.Close, self.slow)

    def next(self):
        if crossover(self.fast_average, self.slow_average):
            self.buy(size=self.size)
        elif crossover(self.slow_average, self.fast_average) and self.position:
            self.position.close()


if __name__ == "__main__":
    folder, *symbols = sys.argv[1:]
    for symbol in symbols:
        bars = pd.read_parquet(f"{folder}/{symbol}.parquet").rename(columns=str.title)
        stats = Backtest(bars, SmaCross, cash=100_000, commission=(1.0, 0.0)).run()
        print(symbol, stats["Sharpe Ratio"], stats["Max. Drawdown [%]"] / 100, stats["Return [%]"] / 100)
