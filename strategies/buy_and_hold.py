"""Buy and hold: the yardstick of every other strategy."""

import backtrader as bt


class BuyAndHold(bt.Strategy):
    """Buy every series at its first chance, equal parts of the cash, and hold to the end."""

    params = dict(
        invest=0.95,  # share of the cash that is spent; the rest is for the gap to the next open, and the costs
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
        """Return what a share, a coin or a contract is worth in the account's money: its gain on a price of 0."""
        return self.broker.getcommissioninfo(data).profitandloss(1, 0.0, data.close[0])
