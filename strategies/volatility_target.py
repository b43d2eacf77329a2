"""Volatility targeting: always invested, but less when prices move more."""

import math
import statistics
from itertools import pairwise

import backtrader as bt


class VolatilityTarget(bt.Strategy):
    """Hold each series in the size at which its recent volatility equals the target."""

    params = dict(
        target=0.10,  # annual volatility of each series' part of the account
        window=20,  # returns in the estimate of the recent volatility
        cap=0.95,  # largest fraction of a part to invest: no borrowing, and room for the next open's gap and the costs
        band=0.10,  # relative distance from the target size within which a position stays unchanged
        bars_a_year=252,
    )

    def prenext(self):
        self.next()  # do not wait for series that begin late

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
        """Return the fraction of its part that a series gets."""
        closes = data.close.get(size=self.p.window + 1)
        returns = [after / before - 1 for before, after in pairwise(closes)]
        volatility = statistics.stdev(returns) * math.sqrt(self.p.bars_a_year)
        return min(self.p.cap, self.p.target / volatility) if volatility else self.p.cap

    def worth(self, data):
        """Return the value of one share, coin or contract in the account's currency."""
        return self.broker.getcommissioninfo(data).profitandloss(1, 0.0, data.close[0])
