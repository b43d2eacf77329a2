"""
Running: the event loop over loaded bars, ours with its recorder against stock Backtrader without one.

Run:  python tests/benchmarks/running.py [--bars 100000] [--repeats 5]

Both get the same feed and the same strategy, and `cerebro.run()` is timed. Before timing, equity and cash after each
bar, and each order, are compared bit by bit. The last row is the cost of saving the lines for charts.
"""

from __future__ import annotations

import argparse
import tempfile
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

import backtrader as bt
import prices
import pyarrow as pa
import timing

from backtest.engine.feed import replay
from backtest.engine.lean.cerebro import Cerebro
from backtest.engine.plotted_lines import plotted_lines
from backtest.engine.recorder import Recorder
from backtest.market.series import Series
from backtest.runs.lines import Lines, write_lines

Bars = dict[Series, pa.Table]

STOCK = "stock Backtrader"


class SmaCross(bt.Strategy):
    """Buy each series when its fast average crosses above the slow one, and sell when it crosses below."""

    params = (("fast", 10), ("slow", 30), ("size", 10))

    def __init__(self) -> None:
        fast, slow = ([bt.ind.SMA(data, period=period) for data in self.datas] for period in (self.p.fast, self.p.slow))
        self.crosses = [bt.ind.CrossOver(*pair) for pair in zip(fast, slow, strict=True)]

    def next(self) -> None:
        for data, cross in zip(self.datas, self.crosses, strict=True):
            if cross[0] > 0:
                self.buy(data=data, size=self.p.size)
            elif cross[0] < 0 and self.getposition(data):
                self.close(data=data)


class Looks(bt.Strategy):
    """Buy on the rare bar that closes well below the average and sell above it; both are checked at every bar."""

    params = (("period", 30), ("below", 0.995))

    def __init__(self) -> None:
        self.average = bt.ind.SMA(period=self.p.period)

    def next(self) -> None:
        if self.position:
            if self.data.close[0] > self.average[0]:
                self.close()
        elif self.data.close[0] < self.p.below * self.average[0]:
            self.buy(size=10)


class DoesNothing(bt.Strategy):
    """Process every bar and do nothing."""

    def next(self) -> None:
        pass


class TwoAverages(bt.Strategy):
    """Process every bar and two averages of it."""

    def __init__(self) -> None:
        self.averages = [bt.ind.SMA(period=period) for period in (10, 30)]

    def next(self) -> None:
        pass


class ByTimer(bt.Strategy):
    """Decide only when a timer is due, twice a day, and otherwise just process every bar."""

    def __init__(self) -> None:
        self.average = bt.ind.SMA(period=30)

    def start(self) -> None:
        self.add_timer(time(10, 0), repeat=timedelta(hours=3))

    def next(self) -> None:
        pass

    def notify_timer(self, timer: Any, when: datetime, *args: Any, **kwargs: Any) -> None:
        if len(self) < self.average._minperiod:
            return
        if self.position:
            self.close()
        elif self.data.close[0] > self.average[0]:
            self.buy(size=10)


class CrossSignal(bt.SignalStrategy):
    """Leave everything to a signal: the crossing of two averages."""

    def __init__(self) -> None:
        self.signal_add(bt.SIGNAL_LONG, bt.ind.CrossOver(bt.ind.SMA(period=10), bt.ind.SMA(period=30)))


class Candles(bt.Strategy):
    """Buy when the Heikin-Ashi candle turns up and its close is above the average of them, sell when it turns down."""

    def __init__(self) -> None:
        candles = bt.ind.HeikinAshi()
        self.average = bt.ind.SMA(candles.ha_close, period=30)
        self.turns = bt.ind.CrossOver(candles.ha_close, candles.ha_open)

    def next(self) -> None:
        if self.turns[0] < 0 and self.position:
            self.close()
        elif self.turns[0] > 0 and self.data.close[0] > self.average[0]:
            self.buy(size=10)


class AllOfThem(bt.SignalStrategy):
    """Follow a signal of Heikin-Ashi candles, filled at the signal bar's close, and sell by a timer too."""

    def __init__(self) -> None:
        candles = bt.ind.HeikinAshi()
        average = bt.ind.SMA(candles.ha_close, period=30)
        self.signal_add(bt.SIGNAL_LONG, bt.ind.CrossOver(candles.ha_close, average))

    def start(self) -> None:
        self.broker.set_coc(True)
        self.add_timer(time(10, 0), repeat=timedelta(hours=3))

    def notify_timer(self, timer: Any, when: datetime, *args: Any, **kwargs: Any) -> None:
        if self.position:
            self.close()


class ByNext(bt.Strategy):
    """Process every bar and indicators that Backtrader computes bar by bar."""

    def __init__(self) -> None:
        self.made = [bt.ind.ErrorCorrecting(), bt.ind.DV2(), bt.ind.ParabolicSAR(), bt.ind.LaguerreRSI()]

    def next(self) -> None:
        pass


class AveragesOfChanges(bt.Strategy):
    """Process every bar and five averages of values near zero."""

    def __init__(self) -> None:
        change = self.data.close - self.data.open
        self.averages = [bt.ind.SMA(change, period=period) for period in (10, 20, 30, 40, 50)]

    def next(self) -> None:
        pass


class AtItsClose(SmaCross):
    """Trade at the close of the decision."""

    def start(self) -> None:
        self.broker.set_coc(True)


class Witness(bt.Analyzer):
    """What the recorder should have recorded, read from a stock broker after each bar."""

    def start(self) -> None:
        self.equity: list[float] = []
        self.cash: list[float] = []

    def next(self) -> None:
        self.equity.append(self.strategy.broker.getvalue())
        self.cash.append(self.strategy.broker.getcash())

    def prenext(self) -> None:
        self.next()


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--bars", type=int, default=100_000)
    words.add_argument("--repeats", type=int, default=5)
    asked = words.parse_args()
    print(timing.table(rows(asked.bars, asked.repeats)))


def rows(bars: int, repeats: int) -> list[timing.Row]:
    """Return the rows of running strategies over this many bars, and over ten series with a quarter in total."""
    one = {Series.parse("MADE/1min"): prices.minute_bars(bars)}
    ten_names = enumerate(prices.symbols(10))
    ten = {Series.parse(f"{name}/1day"): prices.daily_bars(bars // 40, seed) for seed, name in ten_names}
    return [
        *contest(f"SMA cross, {bars:,} bars", SmaCross, one, repeats, 6.0),
        *contest(f"looks and rarely trades, {bars:,} bars", Looks, one, repeats, 12.0),
        *contest(f"does nothing, {bars:,} bars", DoesNothing, one, repeats, 20.0),
        *contest(f"Heikin-Ashi, {bars:,} bars", Candles, one, repeats, 4.0),
        *contest(
            f"Heikin-Ashi, timers, SignalStrategy and cheat on close, {bars:,} bars", AllOfThem, one, repeats, 4.0
        ),
        *contest(f"timers, {bars:,} bars", ByTimer, one, repeats, 4.0),
        *contest(f"SignalStrategy, {bars:,} bars", CrossSignal, one, repeats, 4.0),
        *contest(f"cheat on close, {bars:,} bars", AtItsClose, one, repeats, 4.0),
        *contest(f"indicators by next, {bars:,} bars", ByNext, one, repeats, 8.0),
        *contest(f"averages of changes, {bars:,} bars", AveragesOfChanges, one, repeats, 15.0),
        *contest(f"SMA cross, 10 series × {bars // 40:,} bars", SmaCross, ten, repeats, 4.0),
        *keeping_lines(f"keeps the lines of two averages, {bars:,} bars", one, repeats, 1 / 1.2),
    ]


def contest(job: str, strategy: type[bt.Strategy], bars: Bars, repeats: int, goal: float) -> list[timing.Row]:
    """Return the row of one strategy, after checking that it does the same in both engines."""
    mine = ours(strategy, bars)
    assert mine.cerebro.lean, f"Backtrader's own loop ran: {mine.cerebro.why_not}"
    check(mine, stock(strategy, bars, witness=True))
    jobs = {"ours": lambda: ours(strategy, bars), STOCK: lambda: stock(strategy, bars)}
    return timing.race(job, jobs, repeats, {STOCK: goal})


def keeping_lines(job: str, bars: Bars, repeats: int, goal: float) -> list[timing.Row]:
    """Return the row of a run whose lines are saved, against the same without; its strategy does nothing."""
    with tempfile.TemporaryDirectory() as folder:

        def with_lines() -> pa.Table:
            lines = plotted_lines(ours(TwoAverages, bars), list(bars))
            write_lines(lines, Path(folder) / "lines.parquet")
            return lines

        assert len(Lines(with_lines()).plots) == 2, "the lines of two averages are not kept"
        jobs = {"with lines": with_lines, "the run without them": lambda: ours(TwoAverages, bars)}
        return timing.race(job, jobs, repeats, {"the run without them": goal})


def ours(strategy: type[bt.Strategy], bars: Bars) -> Any:
    """Return the strategy at the end of a run in our engine, with our recorder."""
    cerebro = ready(Cerebro(stdstats=False), strategy, bars)
    cerebro.addanalyzer(Recorder, _name="seen")
    return cerebro.run()[0]


def stock(strategy: type[bt.Strategy], bars: Bars, witness: bool = False) -> Any:
    """Return the strategy at the end of a run in Backtrader's engine, without a recorder; a witness is optional."""
    cerebro = ready(bt.Cerebro(stdstats=False), strategy, bars)
    if witness:
        cerebro.addanalyzer(Witness, _name="seen")
    return cerebro.run()[0]


def ready(cerebro: Any, strategy: type[bt.Strategy], bars: Bars) -> Any:
    """Return the engine with feeds, strategy, cash and commission."""
    for series, table in bars.items():
        cerebro.adddata(replay(table, series))
    cerebro.addstrategy(strategy)
    cerebro.broker.setcash(1_000_000.0)
    cerebro.broker.setcommission(commission=0.001)
    return cerebro


def check(ours: Any, theirs: Any) -> None:
    """Fail unless both runs had the same equity and cash after each bar, and the same outcome of each order."""
    mine, other = ours.analyzers.seen, theirs.analyzers.seen
    assert len(other.equity), "nothing was run"
    assert list(mine.equity) == other.equity, "equity differs"
    assert list(mine.cash) == other.cash, "cash differs"
    assert orders(ours) == orders(theirs), "orders differ"


def orders(ran: Any) -> list[tuple[Any, ...]]:
    """Return the outcome of each order, in the order of creation."""
    kept = sorted([*ran.broker.orders, *ran.broker.pending], key=lambda order: order.ref)
    return [(order.data._name, order.status, order.size, _money(order)) for order in kept]


def _money(order: Any) -> tuple[float, ...]:
    done = order.executed
    return done.dt, done.size, done.price, done.value, done.comm, done.pnl


if __name__ == "__main__":
    main()
