"""Time-series momentum: hold the series that rose over the last year, and not those that fell."""

import backtrader as bt


class TimeSeriesMomentum(bt.Strategy):
    """
    Once a month, hold each series that rose over the look-back period in equal parts; sell or short those that fell.

    After Moskowitz, Ooi and Pedersen (2012), "Time series momentum". The last month is left out, as usual.
    """

    params = dict(
        lookback=252,  # bars
        skip=21,  # latest bars to leave out
        every=21,  # bars between two decisions
        short=False,  # whether to sell short the series that fell
        invest=0.95,  # fraction of the account to invest; the rest covers the gap to the next open and the costs;
        # 0 leaves sizes to --size
    )

    def __init__(self):
        if not 0 <= self.p.skip < self.p.lookback:
            raise ValueError(f"skip={self.p.skip} must be less than lookback={self.p.lookback}, and not below 0")

    def prenext(self):
        self.next()  # do not wait for series that begin late

    def next(self):
        if len(self) % self.p.every:
            return
        wanted = {data: self.side(data) for data in self.datas}
        if not self.p.invest:
            self.ask_sizer(wanted)
            return
        part = self.broker.getvalue() * self.p.invest / len(self.datas)
        change = {data: int(side * part / self.worth(data)) - self.held(data) for data, side in wanted.items()}
        for data in sorted(change, key=change.get):  # sales first: they pay for the purchases
            self.order_target_size(data=data, target=self.held(data) + change[data])

    def side(self, data):
        """Return 1 for a long position, -1 for a short one, 0 for none."""
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
        """Return the value of one share, coin or contract in the account's currency."""
        return self.broker.getcommissioninfo(data).profitandloss(1, 0.0, data.close[0])
