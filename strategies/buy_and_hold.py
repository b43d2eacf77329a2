"""Buy and hold: the benchmark for every other strategy."""

import backtrader as bt


class BuyAndHold(bt.Strategy):
    """Buy each series as soon as it has a bar, for equal parts of the cash, and hold it to the end."""

    params = dict(
        invest=0.95,  # fraction of the cash to invest; the rest covers the gap to the next open and the costs
    )

    def __init__(self):
        self.part = self.broker.getcash() * self.p.invest / len(self.datas)
        self.bought = set()

    def next(self):
        for data in self.datas:
            if len(data) and data not in self.bought:
                self.bought.add(data)
                self.buy(data=data, size=int(self.part / self.worth(data)))

    def worth(self, data):
        """Return the value of one share, coin or contract in the account's currency."""
        return self.broker.getcommissioninfo(data).profitandloss(1, 0.0, data.close[0])
