"""Cross-sectional momentum: among many series, hold those that rose most."""

import backtrader as bt


class CrossSectionalMomentum(bt.Strategy):
    """
    Once a month, rank all series by their return over the look-back and hold the best, in equal parts.

    After Jegadeesh and Titman (1993), "Returns to buying winners and selling losers"; the last month is skipped.
    A series takes part as soon as it has bars enough.
    """

    params = dict(
        lookback=252,  # bars
        skip=21,  # newest bars that do not count
        every=21,  # bars between two decisions
        hold=2,  # how many series
        invest=0.95,  # share of the account in use; the rest is for the gap to the next open, and the costs
    )

    def __init__(self):
        if not 0 <= self.p.skip < self.p.lookback:
            raise ValueError(f"skip={self.p.skip} must be less than lookback={self.p.lookback}, and not below 0")
        if not 0 < self.p.hold <= len(self.datas):
            raise ValueError(f"hold={self.p.hold} of {len(self.datas)} series is no choice; name more series")

    def prenext(self):
        self.next()  # a series that begins late does not keep the others waiting

    def next(self):
        if len(self) % self.p.every:
            return
        ranked = sorted(filter(self.is_ready, self.datas), key=self.risen, reverse=True)
        if len(ranked) < self.p.hold:
            return
        wanted = {data: self.shares(data) for data in ranked[: self.p.hold]}
        change = {data: wanted.get(data, 0) - self.getposition(data).size for data in self.datas}
        for data in sorted(self.datas, key=change.get):  # sales first: they pay for the rest
            self.order_target_size(data=data, target=wanted.get(data, 0))

    def is_ready(self, data):
        return len(data) > self.p.lookback

    def risen(self, data):
        return data.close[-self.p.skip] / data.close[-self.p.lookback]

    def shares(self, data):
        return int(self.broker.getvalue() * self.p.invest / self.p.hold / self.worth(data))

    def worth(self, data):
        """Return what a share, a coin or a contract is worth in the account's money: its gain on a price of 0."""
        return self.broker.getcommissioninfo(data).profitandloss(1, 0.0, data.close[0])
