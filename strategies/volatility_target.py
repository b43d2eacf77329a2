"""Volatility targeting: always invested, and the less so the more prices move."""

import math
import statistics
from itertools import pairwise

import backtrader as bt


class VolatilityTarget(bt.Strategy):
    """Hold each series with the share of the account at which its recent volatility is the wished-for one."""

    params = dict(
        target=0.10,  # volatility a year of each part of the account
        window=20,  # returns that tell the recent volatility
        cap=0.95,  # most that is invested of a part: no borrowing, and room for the gap to the next open and the costs
        band=0.10,  # a position is left alone while it is no further than this from the wished-for one
        bars_a_year=252,
    )

    def prenext(self):
        self.next()  # a series that begins late does not keep the others waiting

    def next(self):
        for data in self.datas:
            if len(data) > self.p.window:
                self.adjust(data)

    def adjust(self, data):
        held = self.getposition(data).size
        part = self.broker.getvalue() / len(self.datas)
        wanted = int(part * self.share(data) / self.worth(data))
        if abs(wanted - held) > self.p.band * max(wanted, held):
            self.order_target_size(data=data, target=wanted)

    def share(self, data):
        """Share of its part that a series gets."""
        closes = data.close.get(size=self.p.window + 1)
        returns = [after / before - 1 for before, after in pairwise(closes)]
        volatility = statistics.stdev(returns) * math.sqrt(self.p.bars_a_year)
        return min(self.p.cap, self.p.target / volatility) if volatility else self.p.cap

    def worth(self, data):
        """Return what a share, a coin or a contract is worth in the account's money: its gain on a price of 0."""
        return self.broker.getcommissioninfo(data).profitandloss(1, 0.0, data.close[0])
