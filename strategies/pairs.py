"""Pair trading: trade two related series against each other when their prices diverge."""

from collections import deque

import backtrader as bt
import numpy as np


def hedge(prices):
    """
    Regress the first price on the second (OLS); return intercept, hedge ratio and deviation of the residuals.

    Args:
        prices: shape (n, 2), n above 2; the deviation has n - 2 degrees of freedom. NaN if the second does not change.
    """
    first, second = np.asarray(prices, float).T
    away = second - second.mean()
    if not np.any(away):
        return np.nan, np.nan, np.nan
    ratio = away @ (first - first.mean()) / (away @ away)
    intercept = first.mean() - ratio * second.mean()
    residuals = first - intercept - ratio * second
    return intercept, ratio, np.sqrt(residuals @ residuals / (len(first) - 2))


def cointegration(prices, lags=1):
    """
    Return the statistic of Engle and Granger (1987); a value far below 0 means that the two are cointegrated.

    It is the t-value of the residuals' reversion to 0, in a regression of their changes on the residuals and on `lags`
    earlier changes, as in `statsmodels.tsa.stattools.coint(..., maxlag=lags, autolag=None)`. MacKinnon's critical
    values for two series, a constant and many bars are -3.90 (1 %), -3.34 (5 %) and -3.04 (10 %).
    """
    intercept, ratio, deviation = hedge(prices)
    first, second = np.asarray(prices, float).T
    if not deviation > 1e-12 * abs(first).max():
        return np.nan  # one is a multiple of the other, or does not change: there is no spread
    residuals = first - intercept - ratio * second
    changes = np.diff(residuals)
    columns = [residuals[lags:-1], *(changes[lags - n : len(changes) - n] for n in range(1, lags + 1))]
    known, told = np.column_stack(columns), changes[lags:]
    weights, *_ = np.linalg.lstsq(known, told, rcond=None)
    errors = told - known @ weights
    variance = errors @ errors / (len(told) - len(weights)) * np.linalg.inv(known.T @ known)[0, 0]
    return weights[0] / np.sqrt(variance)


class Pairs(bt.Strategy):
    """
    Trade the spread of the first series over the second: sell it when it is wide, buy it when it is narrow.

    The hedge ratio comes from the bars before the current one, so that a bar does not affect the line that it is
    compared with. Bars count only if both series have one at the same time. Both legs are sized together; if the
    order for one is refused, the strategy closes the other.
    """

    params = dict(
        window=60,  # bars of the regression
        entry=2.0,  # open at this distance from the mean, in standard deviations
        exit=0.5,  # close within this distance
        stop=4.0,  # close beyond this distance, and wait until the spread is back within `exit`
        critical=0.0,  # open only while the cointegration statistic is below this; -3.34 is 5 %, 0 skips the test
        invest=0.95,  # value of both legs together, as a fraction of the account
    )

    def __init__(self):
        if len(self.datas) != 2:
            raise ValueError(f"a pair is two series, and there are {len(self.datas)}; name two")
        if not 0 <= self.p.exit < self.p.entry < self.p.stop:
            raise ValueError(f"exit={self.p.exit} < entry={self.p.entry} < stop={self.p.stop} does not hold")
        self.seen = deque(maxlen=self.p.window)
        self.refused = self.given_up = False

    def notify_order(self, order):
        self.refused |= order.status in (order.Margin, order.Rejected)

    def next(self):
        if self.data0.datetime[0] != self.data1.datetime[0]:
            return  # one of them has no bar at this time
        prices = self.worth(self.data0), self.worth(self.data1)
        if len(self.seen) == self.p.window:
            self.trade(prices)
        self.seen.append(prices)

    def trade(self, prices):
        intercept, ratio, deviation = hedge(self.seen)
        score = (prices[0] - intercept - ratio * prices[1]) / deviation if deviation else np.nan
        self.given_up &= not abs(score) <= self.p.exit
        if any(self.getposition(data).size for data in self.datas):
            self.watch(score)
        elif self.is_open_to(score, ratio):
            self.enter(-1 if score > 0 else 1, ratio, prices)

    def is_open_to(self, score, ratio):
        if self.given_up or not (ratio > 0 and self.p.entry <= abs(score) < self.p.stop):
            return False
        return not self.p.critical or cointegration(self.seen) < self.p.critical

    def enter(self, side, ratio, prices):
        money = self.broker.getvalue() * self.p.invest
        first = int(money / (prices[0] + ratio * prices[1]))
        second = round(ratio * first)
        if first and second:
            self.refused = False
            legs = [(self.data0, side * first), (self.data1, -side * second)]
            for data, size in sorted(legs, key=lambda leg: leg[1]):  # the sale first
                self.order_target_size(data=data, target=size)

    def watch(self, score):
        long_spread = self.getposition(self.data0).size > 0
        back = score >= -self.p.exit if long_spread else score <= self.p.exit
        self.given_up |= abs(score) >= self.p.stop
        if back or self.given_up or self.refused:
            for data in sorted(self.datas, key=lambda data: -self.getposition(data).size):  # the sale first
                self.close(data=data)

    def worth(self, data):
        """Return the value of one share, coin or contract in the account's currency."""
        return self.broker.getcommissioninfo(data).profitandloss(1, 0.0, data.close[0])
