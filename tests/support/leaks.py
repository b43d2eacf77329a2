"""Strategies that know the future, each in a way of its own, and such as look as if they did, and do not."""

import functools
import os
import random
from datetime import timedelta
from pathlib import Path

import backtrader as bt
import numpy as np
import pandas as pd

from backtest.store.store import Store, panel

SAMPLE = Path(__file__).resolve().parents[2] / "data" / "sample"
_MODELS: dict[str, float] = {}


class Follows(bt.Strategy):
    """Hold while `signal` says so."""

    def next(self):
        self.order_target_size(target=10 if self.signal() else 0)

    @property
    def left(self):
        """Bars that are still to come."""
        return self.data.buflen() - len(self.data)


# --- who knows the future


class SecondFeedsTomorrow(Follows):
    def signal(self):
        return self.left > 1 and self.data1.close[1] > self.data1.close[0]


class UnfinishedWeek(Follows):
    def start(self):
        dates = pd.DatetimeIndex([bt.num2date(one).date() for one in self.data.datetime.array])
        closes = pd.Series(self.data.close.array, index=dates)
        self.weeks = closes.resample("W-FRI").last().reindex(dates, method="bfill")

    def signal(self):
        return len(self) <= len(self.weeks) and self.weeks.iloc[len(self) - 1] > self.data.close[0]


class Scaler(Follows):
    def start(self):
        closes = np.array(self.data.close.array)
        self.scores = (closes - closes.mean()) / closes.std()

    def signal(self):
        return len(self) <= len(self.scores) and self.scores[len(self) - 1] < 0


class PercentileOfAll(Follows):
    def start(self):
        self.low = np.percentile(np.array(self.data.close.array), 40)

    def signal(self):
        return self.data.close[0] < self.low


class PeakOfAll(Follows):
    def start(self):
        self.peak = max(self.data.high.array)

    def signal(self):
        return self.data.close[0] < 0.9 * self.peak


class LimitAtTomorrowsLow(bt.Strategy):
    def next(self):
        if self.position:
            self.close()
        elif self.data.buflen() - len(self.data) > 1:
            self.buy(size=10, exectype=bt.Order.Limit, price=self.data.low[1], valid=bt.num2date(self.data.datetime[0]))


class SizeByTomorrow(bt.Strategy):
    def next(self):
        if self.data.buflen() - len(self.data) > 1:
            self.order_target_size(target=20 if self.data.close[1] > self.data.close[0] else 10)


class CentredMean(Follows):
    def start(self):
        self.mean = pd.Series(self.data.close.array).rolling(11, center=True).mean().to_numpy()

    def signal(self):
        return len(self) <= len(self.mean) and self.data.close[0] < self.mean[len(self) - 1]


class LabelsAhead(Follows):
    """Learn from what came five bars later, of bars of which that is not known yet, too."""

    def signal(self):
        now, closes = len(self) - 1, np.array(self.data.close.array)
        if now < 30 or now + 5 >= len(closes):
            return False
        steps, later = closes[now - 19 : now + 1] / closes[now - 20 : now] - 1, closes[now - 14 : now + 6]
        labels = later / closes[now - 19 : now + 1] - 1
        return bool(np.dot(steps - steps.mean(), labels) * steps[-1] > 0)


class Rarely(Follows):
    """Follow an average, and look at tomorrow on one day of a month."""

    def __init__(self):
        self.mean = bt.ind.SMA(period=5)

    def signal(self):
        if self.data.datetime.date(0).day == 13 and self.left > 1:
            return self.data.close[1] > self.data.close[0]
        return self.data.close[0] > self.mean[0]


class NextDate(Follows):
    """Hold over the turn of the month, of which the last session is known by the date of the next bar."""

    def signal(self):
        return self.left > 1 and self.data.datetime.date(1).month != self.data.datetime.date(0).month


class SixtyAhead(Follows):
    def signal(self):
        return self.left > 61 and self.data.close[60] > self.data.close[0]


class CachedModel(Follows):
    """Learn once, from all bars that there are, and keep it in the module."""

    def start(self):
        if "mean" not in _MODELS:
            _MODELS["mean"] = float(np.mean(self.data.close.array))

    def signal(self):
        return self.data.close[0] < _MODELS["mean"]


@functools.lru_cache(maxsize=1)
def _learnt(name: str, owner: "LruCached") -> float:
    return float(np.median(owner.data.close.array))


class LruCached(Follows):
    """The same by `lru_cache`: strategies of one run are equal here."""

    def __hash__(self):
        return 1

    def __eq__(self, other):
        return isinstance(other, LruCached)

    def signal(self):
        return self.data.close[0] < _learnt("median", self)


class StoreRead(Follows):
    def start(self):
        closes = Store(SAMPLE).read("AAPL/1day")["close"].to_numpy()
        self.next_close = dict(zip(closes.tolist(), [*closes[1:].tolist(), 0.0], strict=True))

    def signal(self):
        return self.next_close.get(self.data.close[0], 0.0) > self.data.close[0]


class OtherSeriesRead(Follows):
    """Look at what another series of the store does tomorrow."""

    def start(self):
        self.closes = Store(SAMPLE).read("IBM/1day", None).to_pandas().set_index("time")["close"]

    def signal(self):
        later = self.closes[self.closes.index.date > self.data.datetime.date(0)]
        return len(later) > 1 and later.iloc[0] > later.iloc[1]


class PanelRead(Follows):
    """Look at tomorrow in a panel of the store."""

    def start(self):
        closes = panel(["AAPL/1day", "IBM/1day"], store=SAMPLE)["AAPL/1day"]
        self.rises = dict(zip(closes.index.date, closes.shift(-1) > closes, strict=True))

    def signal(self):
        return self.rises.get(self.data.datetime.date(0), False)


class Interpolated(Follows):
    """Fill gaps of a column by a line to what comes after them."""

    def start(self):
        closes = pd.Series(self.data.close.array)
        closes[1::3] = np.nan
        self.filled = closes.interpolate().to_numpy()

    def signal(self):
        return len(self) <= len(self.filled) and self.filled[len(self) - 1] > self.data.close[0]


class Detrended(Follows):
    """Compare with a line through all bars."""

    def start(self):
        closes, places = np.array(self.data.close.array), np.arange(len(self.data.close.array))
        self.low = closes < np.polyval(np.polyfit(places, closes, 1), places)

    def signal(self):
        return len(self) <= len(self.low) and self.low[len(self) - 1]


class FileRead(Follows):
    """Read the files of a store past it."""

    def start(self):
        import pyarrow.parquet as pq

        (file, *_) = sorted((SAMPLE / "AAPL-STK-SMART-USD").rglob("*.parquet"))
        self.mean = np.mean(pq.read_table(file)["close"].to_numpy())

    def signal(self):
        return self.data.close[0] < self.mean


class AtItsClose(Follows):
    def start(self):
        self.broker.set_coc(True)

    def signal(self):
        return self.data.close[0] > self.data.open[0]


class ByItsBroker(bt.Strategy):
    def next(self):
        if self.data.buflen() - len(self.data) <= 1:
            return
        rises = self.data.close[1] > self.data.close[0]
        if rises and not self.position:
            self.broker.buy(self, self.data, 10)
        elif not rises and self.position:
            self.broker.sell(self, self.data, 10)


class RandomAndLeaking(Follows):
    """Throw a coin without a seed, and look at tomorrow when it falls on one side."""

    def start(self):
        self.coin = np.random.default_rng()

    def signal(self):
        return self.left > 1 and self.coin.random() < 0.7 and self.data.close[1] > self.data.close[0]


class ValidByTomorrow(bt.Strategy):
    """Let an order wait for as long as tomorrow says."""

    def next(self):
        if self.position:
            self.close()
        elif not self.broker.get_orders_open() and self.data.buflen() - len(self.data) > 1:
            days = 1 if self.data.close[1] > self.data.close[0] else 9
            self.buy(size=10, exectype=bt.Order.Limit, price=self.data.close[0] * 0.99, valid=timedelta(days=days))


class OcoByTomorrow(bt.Strategy):
    """Let one order cancel another if tomorrow says so."""

    def next(self):
        if self.broker.get_orders_open() or self.data.buflen() - len(self.data) <= 1:
            return
        if not self.position:
            self.buy(size=10)
            return
        limit = self.sell(size=10, exectype=bt.Order.Limit, price=self.data.close[0] * 1.03)
        other = limit if self.data.close[1] > self.data.close[0] else None
        self.sell(size=10, exectype=bt.Order.Stop, price=self.data.close[0] * 0.97, oco=other)


class CashByTomorrow(bt.Strategy):
    """Pay in by what tomorrow says."""

    def next(self):
        if len(self) == 1:
            self.buy(size=10)
        if len(self) % 10 == 0 and self.data.buflen() - len(self.data) > 1:
            self.broker.add_cash(1000 if self.data.close[1] > self.data.close[0] else 10)


class IndicatorAhead(bt.Indicator):
    """Is tomorrow's close where it is computed for all bars at once."""

    lines = ("ahead",)

    def next(self):
        self.lines.ahead[0] = self.data.close[0]

    def once(self, start, end):
        closes = self.data.close.array
        for n in range(start, end):
            self.lines.ahead.array[n] = closes[min(n + 1, len(closes) - 1)]


class ByAnIndicator(Follows):
    def __init__(self):
        self.ahead = IndicatorAhead(self.data)

    def signal(self):
        return self.ahead[0] > self.data.close[0]


class FilledBackwards(Follows):
    """Fill gaps of a column by what comes after them."""

    def start(self):
        closes = pd.Series(self.data.close.array)
        closes[::5] = np.nan
        self.filled = closes.bfill().to_numpy()

    def signal(self):
        return 1 < len(self) <= len(self.filled) and self.filled[len(self) - 1] > self.data.close[-1]


LEAKS = [
    SecondFeedsTomorrow, UnfinishedWeek, Scaler, PercentileOfAll, PeakOfAll, LimitAtTomorrowsLow, SizeByTomorrow,
    CentredMean, LabelsAhead, Rarely, NextDate, SixtyAhead, CachedModel, LruCached, StoreRead, OtherSeriesRead,
    PanelRead, Interpolated, Detrended, FileRead, AtItsClose, ByItsBroker, RandomAndLeaking, ValidByTomorrow,
    OcoByTomorrow, CashByTomorrow, ByAnIndicator, FilledBackwards,
]  # fmt: skip


# --- who does not


class PastSlices(Follows):
    def signal(self):
        return len(self) > 10 and np.mean(self.data.close.get(size=10)) > self.data.close[-9]


class WholeWeeks(Follows):
    """Compare with the close of the last week that is over."""

    def __init__(self):
        self.weeks, self.week = [], None

    def next(self):
        week = self.data.datetime.date(0).isocalendar()[:2]
        if self.week not in (None, week):
            self.weeks.append(self.data.close[-1])
        self.week = week
        super().next()

    def signal(self):
        return len(self.weeks) > 1 and self.weeks[-1] > self.weeks[-2]


class LearnsFromThePast(Follows):
    """Learn each month, and keep what was learnt in the module by its date."""

    def signal(self):
        now = len(self) - 1
        if now < 40:
            return False
        closes = np.array(self.data.close.get(size=40))
        steps = closes[1:] / closes[:-1] - 1
        key = f"{self.data.datetime.date(0):%Y-%m}"
        if key not in _MODELS:
            _MODELS[key] = float(np.dot(steps[:-1] - steps[:-1].mean(), steps[1:]))
        return _MODELS[key] * steps[-1] > 0


class ExpandingPercentile(Follows):
    def signal(self):
        return len(self) > 20 and self.data.close[0] < np.percentile(self.data.close.get(size=len(self)), 40)


class LimitsAndCancels(bt.Strategy):
    def next(self):
        if self.broker.get_orders_open():
            self.cancel(self.waiting)
        if not self.position:
            self.waiting = self.buy(size=10, exectype=bt.Order.Limit, price=self.data.close[0] * 0.99)
        else:
            self.close()


class Brackets(bt.Strategy):
    def __init__(self):
        self.rsi = bt.ind.RSI(period=7)

    def next(self):
        if not self.position and not self.broker.get_orders_open() and self.rsi[0] < 45:
            price = self.data.close[0]
            self.buy_bracket(size=10, price=price, limitprice=price * 1.03, stopprice=price * 0.97)


class SeededCoin(Follows):
    def start(self):
        self.coin = random.Random(3)

    def signal(self):
        return self.coin.random() < 0.5


class UnseededCoins(Follows):
    """Draw in each way in which one can draw without a seed."""

    def start(self):
        self.coins = [
            random.random, random.Random().random, np.random.default_rng().random, np.random.rand,
            lambda: os.urandom(1)[0] / 256,
        ]  # fmt: skip

    def signal(self):
        return self.coins[len(self) % len(self.coins)]() < 0.5


class CausalVectors(Follows):
    def start(self):
        closes = pd.Series(self.data.close.array)
        self.signals = (closes.rolling(5).mean() > closes.rolling(20).mean()).to_numpy()

    def signal(self):
        return len(self) <= len(self.signals) and bool(self.signals[len(self) - 1])


class ExitAtTheLastBar(bt.Strategy):
    def next(self):
        if len(self.data) >= self.data.buflen() - 1:
            self.close()
        elif not self.position and len(self) > 1 and self.data.close[0] > self.data.close[-1]:
            self.buy(size=10)


class TwoFeeds(Follows):
    def signal(self):
        return len(self) > 5 and self.data.close[0] / self.data.close[-5] > self.data1.close[0] / self.data1.close[-5]


class Sizing(bt.Strategy):
    def next(self):
        if len(self) > 20 and len(self) % 5 == 0:
            spread = np.std(np.diff(np.log(self.data.close.get(size=20))))
            self.order_target_percent(target=min(0.9, 0.01 / spread))


class CalendarTimer(bt.Strategy):
    def __init__(self):
        self.add_timer(bt.timer.SESSION_END, monthdays=[1, 15], monthcarry=True)

    def notify_timer(self, timer, when, *args, **kwargs):
        if self.position:
            self.close()
        else:
            self.buy(size=10)


class TrailingStop(bt.Strategy):
    def next(self):
        waits = not self.position and not self.broker.get_orders_open()
        if len(self) > 1 and waits and self.data.close[0] > self.data.close[-1]:
            self.buy(size=10)

    def notify_order(self, order):
        if order.status == order.Completed and order.isbuy():
            self.sell(size=10, exectype=bt.Order.StopTrail, trailpercent=0.03)


class ReadsThePastOfTheStore(Follows):
    """Read another series of the store, up to today."""

    def start(self):
        self.closes = Store(SAMPLE).read("IBM/1day").to_pandas().set_index("time")["close"]

    def signal(self):
        known = self.closes[self.closes.index.date <= self.data.datetime.date(0)]
        return len(known) > 1 and known.iloc[-1] > known.iloc[-2]


class PanelOfThePast(Follows):
    def start(self):
        self.closes = panel(["AAPL/1day", "IBM/1day"], store=SAMPLE)["IBM/1day"]

    def signal(self):
        known = self.closes[self.closes.index.date <= self.data.datetime.date(0)]
        return len(known) > 20 and known.iloc[-1] > known.iloc[-20]


class OcoPair(bt.Strategy):
    """Leave by a limit or a stop, of which one cancels the other."""

    def next(self):
        if self.broker.get_orders_open():
            return
        if not self.position:
            self.buy(size=10, exectype=bt.Order.Limit, price=self.data.close[0] * 0.99, valid=timedelta(days=3))
            return
        limit = self.sell(size=10, exectype=bt.Order.Limit, price=self.data.close[0] * 1.03)
        self.sell(size=10, exectype=bt.Order.Stop, price=self.data.close[0] * 0.97, oco=limit)


class Saves(bt.Strategy):
    """Pay in on each twentieth bar, and invest half of all."""

    def next(self):
        if len(self) % 20 == 0:
            self.broker.add_cash(100)
            self.order_target_percent(target=0.5)


CLEAN = [
    PastSlices, WholeWeeks, LearnsFromThePast, ExpandingPercentile, LimitsAndCancels, Brackets, SeededCoin,
    UnseededCoins, CausalVectors, ExitAtTheLastBar, TwoFeeds, Sizing, CalendarTimer, TrailingStop,
    ReadsThePastOfTheStore, PanelOfThePast, OcoPair, Saves,
]  # fmt: skip
