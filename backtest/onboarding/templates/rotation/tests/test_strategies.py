"""Test the rule on made-up prices, and compare the results on stored bars with a baseline."""

import backtrader as bt
import pandas as pd
from my_strategy import MyStrategy


def shares(*every, **params):
    """Return how many shares of each series of closes are held in the end; each bar opens at its close."""
    cerebro = bt.Cerebro()
    for closes in every:
        days = pd.bdate_range("2024-01-01", periods=len(closes))
        bars = pd.DataFrame(dict.fromkeys(["open", "high", "low", "close"], closes) | {"volume": 1000}, index=days)
        cerebro.adddata(bt.feeds.PandasData(dataname=bars))
    cerebro.addstrategy(MyStrategy, **params)
    (strategy,) = cerebro.run()
    return [strategy.getposition(data).size for data in strategy.datas]


def test_it_holds_what_rose_most():
    falling, rising, flat = [12, 11, 10, 9], [10, 11, 12, 12], [10, 10, 10, 10]

    held = shares(falling, rising, flat, lookback=2, skip=0, every=3, hold=1)

    assert [size > 0 for size in held] == [False, True, False]


def test_it_switches_to_a_series_that_rose_more():
    first, second = [10, 11, 12, 12, 12, 12, 12], [10, 10, 10, 11, 12, 13, 13]

    held = shares(first, second, lookback=2, skip=0, every=3, hold=1)

    assert [size > 0 for size in held] == [False, True]


def test_results_match_the_baseline(backtest_regression):
    backtest_regression.check("strategies/my_strategy.py", "AAPL/1day", "GOOG/1day", "IBM/1day", "MSFT/1day")
