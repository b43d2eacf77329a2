"""The newcomer's job with bt: with_bt.py FOLDER SYMBOL ..."""

import sys

import bt
import pandas as pd


class Trade(bt.Algo):
    """Buy and sell a fixed number of shares at the signals."""

    def __init__(self, crosses, size):
        super().__init__()
        self.days, self.size = crosses[crosses != 0], size

    def __call__(self, target):
        cross = self.days.get(target.now)
        if cross is not None:
            (name,) = target.universe.columns
            held = target.children[name].position if name in target.children else 0
            if cross > 0:
                target.transact(self.size, child=name)
            elif held:
                target.transact(-held, child=name)
        return True


folder, *symbols = sys.argv[1:]
for symbol in symbols:
    bars = pd.read_parquet(f"{folder}/{symbol}.parquet", columns=["open", "close"])
    fast, slow = bars["close"].rolling(10).mean(), bars["close"].rolling(30).mean()
    above = (fast > slow).where(slow.notna()).astype(float)
    crosses = above.diff().shift(1).fillna(0)  # to the next bar
    # bt knows one price a day. It is given the opens, so that it trades where the others do.
    strategy = bt.Strategy(symbol, [Trade(crosses, 100)])
    test = bt.Backtest(
        strategy, bars[["open"]], initial_capital=100_000, commissions=lambda quantity, price: 1.0, progress_bar=False
    )
    stats = bt.run(test).stats[symbol]
    print(symbol, stats["daily_sharpe"], stats["max_drawdown"], stats["total_return"])
