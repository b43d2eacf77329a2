"""Cross-sectional momentum: of many series, hold those that rose most."""

import backtrader as bt


class CrossSectionalMomentum(bt.Strategy):
    """
    Once a month, rank all series by their return over the look-back period, and hold the best in equal parts.

    After Jegadeesh and Titman (1993), "Returns to buying winners and selling losers"; the last month is left out.
    A series is ranked as soon as it has enough bars.
    """

    params = dict(
        lookback=252,  # bars
        skip=21,  # latest bars to leave out
        every=21,  # bars between two decisions
        hold=2,  # how many series
        invest=0.95,  # fraction of the account to invest; the rest covers the gap to the next open and the costs
    )

    def __init__(self):
        if not 0 <= self.p.skip < self.p.lookback:
            raise ValueError(f"skip={self.p.skip} must be less than lookback={self.p.lookback}, and not below 0")
        if not 0 < self.p.hold <= len(self.datas):
            raise ValueError(f"hold={self.p.hold} of {len(self.datas)} series is no choice; name more series")

    def prenext(self):
        self.next()  # do not wait for series that begin late

    def next(self):
        if len(self) % self.p.every:
            return
        ranked = sorted(filter(self.is_ready, self.datas), key=self.risen, reverse=True)
        if len(ranked) < self.p.hold:
            return
        wanted = {data: self.shares(data) for data in ranked[: self.p.hold]}
        change = {data: wanted.get(data, 0) - self.getposition(data).size for data in self.datas}
        for data in sorted(self.datas, key=change.get):  # sales first: they pay for the purchases
            self.order_target_size(data=data, target=wanted.get(data, 0))

    def is_ready(self, data):
        return len(data) > self.p.lookback

    def risen(self, data):
        return data.close[-self.p.skip] / data.close[-self.p.lookback]

    def shares(self, data):
        return int(self.broker.getvalue() * self.p.invest / self.p.hold / self.worth(data))

    def worth(self, data):
        """Return the value of one share, coin or contract in the account's currency."""
        return self.broker.getcommissioninfo(data).profitandloss(1, 0.0, data.close[0])
