"""Mean reversion within a trend: buy a short dip in a rising series."""

import backtrader as bt


class Rsi2(bt.Strategy):
    """
    Buy when the two-bar RSI is low and the close is above its long average; sell when the RSI is high.

    After Connors and Alvarez (2009), "Short term trading strategies that work".
    """

    params = dict(
        period=2,  # bars in the RSI
        trend=200,  # bars in the long average, which shows the trend
        low=10.0,  # buy below this RSI
        high=70.0,  # sell above this RSI
        invest=0.95,  # fraction of the account to invest; the rest covers the gap to the next open and the costs;
        # 0 leaves sizes to --size
    )

    def __init__(self):
        # RSI_Safe: the plain RSI divides by zero if no bar in its window fell
        self.rsi = {data: bt.ind.RSI_Safe(data.close, period=self.p.period) for data in self.datas}
        self.trend = {data: bt.ind.SMA(data.close, period=self.p.trend) for data in self.datas}

    def next(self):
        self.free = self.broker.getcash()  # cash not yet used by orders of this bar
        for data in self.datas:
            held, rsi = self.getposition(data).size, self.rsi[data][0]
            if not held and rsi < self.p.low and data.close[0] > self.trend[data][0]:
                self.buy(data=data, size=self.shares(data))
            elif held and rsi > self.p.high:
                self.close(data=data)

    def shares(self, data):
        """Return the shares that an equal part of the account, or the cash left, can buy; None leaves it to --size."""
        if not self.p.invest:
            return None
        money = self.p.invest * min(self.broker.getvalue() / len(self.datas), self.free)
        self.free -= money
        return int(money / self.worth(data))

    def worth(self, data):
        """Return the value of one share, coin or contract in the account's currency."""
        return self.broker.getcommissioninfo(data).profitandloss(1, 0.0, data.close[0])
