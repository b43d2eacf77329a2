"""A random benchmark: a strategy that does not beat this one does not beat a coin toss."""

import random

import backtrader as bt


class RandomBaseline(bt.Strategy):
    """Enter and leave each series by the toss of a coin; equal seeds give equal tosses."""

    params = dict(
        seed=1,
        turn=0.05,  # probability per bar to enter or leave; at 0.05 a position lasts twenty bars on average
        invest=0.95,  # fraction of the account to invest; the rest covers the gap to the next open and the costs;
        # 0 leaves sizes to --size
    )

    def __init__(self):
        self.coin = random.Random(self.p.seed)

    def next(self):
        self.free = self.broker.getcash()  # cash not yet used by orders of this bar
        for data in self.datas:
            if self.coin.random() >= self.p.turn:
                continue
            if self.getposition(data).size:
                self.close(data=data)
            else:
                self.buy(data=data, size=self.shares(data))

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
