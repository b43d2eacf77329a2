"""Trend following in its simplest form: two moving averages."""

import backtrader as bt


class SmaCross(bt.Strategy):
    """Be invested while the fast average of the closes is above the slow one; orders fill at the next open."""

    params = dict(
        fast=10,  # bars
        slow=30,  # bars
        invest=0.95,  # fraction of the cash to invest; the rest covers the gap to the next open and the costs
    )

    def __init__(self):
        if self.p.fast >= self.p.slow:
            raise ValueError(f"fast={self.p.fast} must be less than slow={self.p.slow}")
        self.above = {
            data: bt.ind.SMA(data.close, period=self.p.fast) > bt.ind.SMA(data.close, period=self.p.slow)
            for data in self.datas
        }

    def next(self):
        for data, above in self.above.items():
            position = self.getposition(data).size
            if above[0] and not position:
                part = self.broker.getcash() * self.p.invest / len(self.datas)
                self.buy(data=data, size=int(part / self.worth(data)))
            elif not above[0] and position:
                self.close(data=data)

    def worth(self, data):
        """Return the value of one share, coin or contract in the account's currency."""
        return self.broker.getcommissioninfo(data).profitandloss(1, 0.0, data.close[0])
