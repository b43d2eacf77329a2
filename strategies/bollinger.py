"""Mean reversion: buy far below the average, sell at the average."""

import backtrader as bt


class Bollinger(bt.Strategy):
    """Buy a series that closes below its lower Bollinger band; sell it when it closes at its average or above."""

    params = dict(
        period=20,  # bars
        deviations=2.0,  # distance of the band from the average
        invest=0.95,  # fraction of the account to invest; the rest covers the gap to the next open and the costs;
        # 0 leaves sizes to --size
    )

    def __init__(self):
        self.mean, self.lower = {}, {}
        for data in self.datas:
            self.mean[data] = bt.ind.SMA(data.close, period=self.p.period)
            # safepow: if prices do not change, rounding may leave a variance just below 0
            deviation = bt.ind.StdDev(data.close, period=self.p.period, safepow=True)
            self.lower[data] = self.mean[data] - self.p.deviations * deviation

    def next(self):
        self.free = self.broker.getcash()  # cash not yet used by orders of this bar
        for data in self.datas:
            held = self.getposition(data).size
            if not held and data.close[0] < self.lower[data][0]:
                self.buy(data=data, size=self.shares(data))
            elif held and data.close[0] >= self.mean[data][0]:
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
