"""Time-series momentum: what rose over the last year is held, what fell is not."""

import backtrader as bt


class TimeSeriesMomentum(bt.Strategy):
    """
    Once a month, give each series that rose over the look-back an equal part; leave or sell short those that fell.

    After Moskowitz, Ooi and Pedersen (2012), "Time series momentum". The last month is skipped, as is usual.
    """

    params = dict(
        lookback=252,  # bars
        skip=21,  # newest bars that do not count
        every=21,  # bars between two decisions
        short=False,  # whether to sell short what fell
        invest=0.95,  # share of the account in use; the rest is for the gap to the next open, and the costs;
        # 0 leaves sizes to the sizer (--size)
    )

    def __init__(self):
        if not 0 <= self.p.skip < self.p.lookback:
            raise ValueError(f"skip={self.p.skip} must be less than lookback={self.p.lookback}, and not below 0")

    def prenext(self):
        self.next()  # a series that begins late does not keep the others waiting

    def next(self):
        if len(self) % self.p.every:
            return
        wanted = {data: self.side(data) for data in self.datas}
        if not self.p.invest:
            self.ask_sizer(wanted)
            return
        part = self.broker.getvalue() * self.p.invest / len(self.datas)
        change = {data: int(side * part / self.worth(data)) - self.held(data) for data, side in wanted.items()}
        for data in sorted(change, key=change.get):  # sales first: they pay for the rest
            self.order_target_size(data=data, target=self.held(data) + change[data])

    def side(self, data):
        """1 to be long, -1 short, 0 out."""
        if len(data) <= self.p.lookback:
            return 0
        risen = data.close[-self.p.skip] / data.close[-self.p.lookback]
        return 1 if risen > 1 else -1 if risen < 1 and self.p.short else 0

    def held(self, data):
        return self.getposition(data).size

    def ask_sizer(self, wanted):
        for data, side in wanted.items():
            if side * self.held(data) > 0:
                continue
            self.close(data=data)
            if side:
                (self.buy if side > 0 else self.sell)(data=data)

    def worth(self, data):
        """Return what a share, a coin or a contract is worth in the account's money: its gain on a price of 0."""
        return self.broker.getcommissioninfo(data).profitandloss(1, 0.0, data.close[0])
