"""Test the rule on made-up bars, and compare the results on stored bars with a baseline."""

import backtrader as bt
import pandas as pd
from my_strategy import MyStrategy


def values_held(closes, **params):
    """Return the value of the position at each close; each bar opens at its close."""
    days = pd.bdate_range("2024-01-01", periods=len(closes))
    bars = pd.DataFrame(dict.fromkeys(["open", "high", "low", "close"], closes) | {"volume": 1000}, index=days)
    cerebro = bt.Cerebro()
    cerebro.adddata(bt.feeds.PandasData(dataname=bars))
    cerebro.addstrategy(MyStrategy, **params)
    cerebro.addanalyzer(bt.analyzers.PositionsValue)
    (strategy,) = cerebro.run()
    return [value for (value,) in strategy.analyzers[0].get_analysis().values()]


def test_it_holds_from_the_bar_after_a_rise_to_the_bar_after_a_fall():
    closes = [100, 101, 102, 101, 100, 100]  # above the average of two bars after each rise: at 101 and 102

    held = [value > 0 for value in values_held(closes, fast=1, slow=2)]

    assert held == [False, False, True, True, False, False]


def test_results_match_the_baseline(backtest_regression):
    backtest_regression.check("strategies/my_strategy.py", "IBM/1day")
