"""Mean reversion inside a trend: buy a short dip of what rises."""

import backtrader as bt


class Rsi2(bt.Strategy):
    """
    Above the long average, buy when the RSI of two bars is low; sell when it is high.

    After Connors and Alvarez (2009), "Short term trading strategies that work".
    """

    params = dict(
        period=2,  # bars of the RSI
        trend=200,  # bars of the average that says what rises
        low=10.0,  # buy below
        high=70.0,  # sell above
        invest=0.95,  # share of the account in use; the rest is for the gap to the next open, and the costs;
        # 0 leaves sizes to the sizer (--size)
    )

    def __init__(self):
        # RSI_Safe: without a falling bar in the window the plain one divides by zero
        self.rsi = {data: bt.ind.RSI_Safe(data.close, period=self.p.period) for data in self.datas}
        self.trend = {data: bt.ind.SMA(data.close, period=self.p.trend) for data in self.datas}

    def next(self):
        self.free = self.broker.getcash()  # what no order of this bar has asked for
        for data in self.datas:
            held, rsi = self.getposition(data).size, self.rsi[data][0]
            if not held and rsi < self.p.low and data.close[0] > self.trend[data][0]:
                self.buy(data=data, size=self.shares(data))
            elif held and rsi > self.p.high:
                self.close(data=data)

    def shares(self, data):
        """Shares for an equal part of the account, as far as the cash goes; None asks the sizer."""
        if not self.p.invest:
            return None
        money = self.p.invest * min(self.broker.getvalue() / len(self.datas), self.free)
        self.free -= money
        return int(money / self.worth(data))

    def worth(self, data):
        """Return what a share, a coin or a contract is worth in the account's money: its gain on a price of 0."""
        return self.broker.getcommissioninfo(data).profitandloss(1, 0.0, data.close[0])
