"""Test the rule on made-up prices, and compare the results on stored bars with a baseline."""

import backtrader as bt
import pandas as pd
import pytest
from my_strategy import MyStrategy, hedge

SECOND = [10, 12, 11, 13, 10, 12, 11, 13]
FIRST = [20.1, 23.9, 22.1, 25.9, 20.1, 23.9, 22.1, 25.9]  # twice the second, give or take 0.1


def feed(closes):
    """Return bars that open at their close."""
    days = pd.bdate_range("2024-01-01", periods=len(closes))
    bars = pd.DataFrame(dict.fromkeys(["open", "high", "low", "close"], closes) | {"volume": 1000}, index=days)
    return bt.feeds.PandasData(dataname=bars)


def shares(first, second, **params):
    """Return how many shares of each are held in the end."""
    cerebro = bt.Cerebro()
    for closes in (first, second):
        cerebro.adddata(feed(closes))
    cerebro.addstrategy(MyStrategy, window=len(SECOND), stop=9.0, **params)
    (strategy,) = cerebro.run()
    return [strategy.getposition(data).size for data in strategy.datas]


def test_the_hedge_ratio_is_that_of_the_line_through_the_prices():
    intercept, ratio, deviation = hedge([(21, 10), (23, 11), (25, 12)])  # 1 + 2 * second

    assert (intercept, ratio) == pytest.approx((1, 2))
    assert deviation == pytest.approx(0, abs=1e-9)


def test_it_sells_the_first_and_buys_the_second_when_the_spread_is_wide():
    first, second = shares([*FIRST, 22.5, 22.5], [*SECOND, 11, 11])

    assert first < 0 < second
    assert second == pytest.approx(-2 * first, rel=0.05)


def test_it_leaves_the_pair_alone_when_the_spread_is_narrow():
    assert shares([*FIRST, 22.1, 22.1], [*SECOND, 11, 11]) == [0, 0]


def test_results_match_the_baseline(backtest_regression):
    backtest_regression.check("strategies/my_strategy.py", "AAPL/1day", "MSFT/1day")
