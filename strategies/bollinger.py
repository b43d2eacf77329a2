"""Mean reversion: buy far below the average, sell at the average."""

import backtrader as bt


class Bollinger(bt.Strategy):
    """Buy what closed below the lower Bollinger band; sell it once it closes at its average or above."""

    params = dict(
        period=20,  # bars
        deviations=2.0,  # of the band from the average
        invest=0.95,  # share of the account in use; the rest is for the gap to the next open, and the costs;
        # 0 leaves sizes to the sizer (--size)
    )

    def __init__(self):
        self.mean, self.lower = {}, {}
        for data in self.datas:
            self.mean[data] = bt.ind.SMA(data.close, period=self.p.period)
            # safepow: where prices stand still, rounding may leave a variance just below 0
            deviation = bt.ind.StdDev(data.close, period=self.p.period, safepow=True)
            self.lower[data] = self.mean[data] - self.p.deviations * deviation

    def next(self):
        self.free = self.broker.getcash()  # what no order of this bar has asked for
        for data in self.datas:
            held = self.getposition(data).size
            if not held and data.close[0] < self.lower[data][0]:
                self.buy(data=data, size=self.shares(data))
            elif held and data.close[0] >= self.mean[data][0]:
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
