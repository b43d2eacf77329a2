"""Ten strategies that know no more than they may, each deciding in a way of its own, and some that know more."""

import backtrader as bt


class Cross(bt.Strategy):
    """Trade the crossing of two averages, at the market."""

    def __init__(self):
        self.cross = bt.ind.CrossOver(bt.ind.SMA(period=5), bt.ind.SMA(period=20))

    def next(self):
        if self.cross > 0 and not self.position:
            self.buy(size=10)
        elif self.cross < 0 and self.position:
            self.close()


class Hold(bt.Strategy):
    """Buy on the first day."""

    def next(self):
        if len(self) == 1:
            self.buy(size=10)


class Dips(bt.Strategy):
    """Buy dips with limit orders that are taken back when the day is over."""

    def next(self):
        if self.broker.get_orders_open():
            self.cancel(self.waiting)
        if not self.position:
            self.waiting = self.buy(size=10, exectype=bt.Order.Limit, price=self.data.close[0] * 0.99)
        else:
            self.close()


class Breakout(bt.Strategy):
    """Buy above the highest of the bars before with a stop, and trail another below."""

    def __init__(self):
        self.highest = bt.ind.Highest(self.data.high, period=10)

    def next(self):
        if not self.position and not self.broker.get_orders_open():
            self.buy(size=10, exectype=bt.Order.Stop, price=self.highest[0] * 1.001)

    def notify_order(self, order):
        if order.status == order.Completed and order.isbuy():
            self.sell(size=10, exectype=bt.Order.StopTrail, trailpercent=0.05)


class Bracket(bt.Strategy):
    """Enter with a profit target and a stop loss."""

    def __init__(self):
        self.rsi = bt.ind.RSI(period=7)

    def next(self):
        if not self.position and not self.broker.get_orders_open() and self.rsi[0] < 40:
            price = self.data.close[0]
            self.buy_bracket(size=10, price=price, limitprice=price * 1.05, stopprice=price * 0.95)


class Bands(bt.Strategy):
    """Fade the Bollinger bands, long and short."""

    def __init__(self):
        self.bands = bt.ind.BollingerBands(period=15, devfactor=1.5)

    def next(self):
        if self.data.close[0] < self.bands.bot[0]:
            self.order_target_percent(target=0.5)
        elif self.data.close[0] > self.bands.top[0]:
            self.order_target_percent(target=-0.5)


class Monthly(bt.Strategy):
    """Rebalance when the month changes."""

    def __init__(self):
        self.month = 0

    def next(self):
        if self.data.datetime.date(0).month != self.month:
            self.month = self.data.datetime.date(0).month
            self.order_target_value(target=50_000 + 1000 * self.month)


class Momentum(bt.Strategy):
    """Hold while the price is above that of twenty bars ago, read from the past by index."""

    def next(self):
        if len(self) <= 20:
            return
        self.order_target_size(target=10 if self.data.close[0] > self.data.close[-20] else 0)


class Macd(bt.Strategy):
    """Trade an average with a long memory, within the delayed line of an indicator."""

    def __init__(self):
        self.histogram = bt.ind.MACDHisto()
        self.before = self.histogram.histo(-1)

    def next(self):
        rising = self.histogram.histo[0] > self.before[0]
        if rising and not self.position:
            self.buy(size=7)
        elif not rising and self.position:
            self.sell(size=7)


class Pair(bt.Strategy):
    """Hold the stronger of two series."""

    def __init__(self):
        self.rates = [bt.ind.ROC(data, period=15) for data in self.datas]

    def next(self):
        best = max(range(len(self.datas)), key=lambda n: self.rates[n][0])
        for n, data in enumerate(self.datas):
            self.order_target_size(data, target=10 if n == best else 0)


HONEST = [Cross, Hold, Dips, Breakout, Bracket, Bands, Monthly, Momentum, Macd, Pair]


class TodaysClose(bt.Strategy):
    """Order for an open what the close of the same day says."""

    def next(self):
        if len(self.data) < self.data.buflen():
            self.order_target_size(target=10 if self.data.close[1] > self.data.open[1] else 0)


class Centred(bt.Strategy):
    """Compare with a moving average whose middle is today."""

    def __init__(self):
        self.middle = bt.ind.SMA(self.data.close(5), period=11)

    def next(self):
        self.order_target_size(target=10 if self.data.close[0] < self.middle[0] else 0)


class FillsAtItsClose(bt.Strategy):
    """Decide by a close, and get that very close as the price."""

    def start(self):
        self.broker.set_coc(True)

    def next(self):
        self.order_target_size(target=10 if self.data.close[0] > self.data.open[0] else 0)


class WholeSample(bt.Strategy):
    """Judge each day by the mean of all days."""

    def start(self):
        closes = self.data.close.array
        self.mean = sum(closes) / len(closes)

    def next(self):
        self.order_target_size(target=10 if self.data.close[0] < self.mean else 0)


LEAKING = [TodaysClose, Centred, FillsAtItsClose, WholeSample]
