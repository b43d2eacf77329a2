"""Chance as a yardstick: what does not beat this does not beat a coin."""

import random

import backtrader as bt


class RandomBaseline(bt.Strategy):
    """Go in and out of each series by the toss of a coin; the same seed, the same tosses."""

    params = dict(
        seed=1,
        turn=0.05,  # chance of each bar to go in, or out; 0.05 holds for twenty bars on average
        invest=0.95,  # share of the account in use; the rest is for the gap to the next open, and the costs;
        # 0 leaves sizes to the sizer (--size)
    )

    def __init__(self):
        self.coin = random.Random(self.p.seed)

    def next(self):
        self.free = self.broker.getcash()  # what no order of this bar has asked for
        for data in self.datas:
            if self.coin.random() >= self.p.turn:
                continue
            if self.getposition(data).size:
                self.close(data=data)
            else:
                self.buy(data=data, size=self.shares(data))

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
