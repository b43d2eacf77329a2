"""Runs that one indicator, such as HeikinAshi, makes go bar by bar: in the lean loop, and most of it at once."""

import inspect
from datetime import time, timedelta

import backtrader as bt
import pytest
from parity_indicators import ByBar, ByStart, ByVector, Early, Nested
from parity_markets import market, quick_rows, rows
from parity_strategies import LOOKS, LOUD, QUIET, Eyes, everything
from parity_trading import BARS, OTHER, assert_lean_and_same, assert_same, ready, trading

from backtest.engine.lean.cerebro import Cerebro
from backtest.engine.lean.equivalence import Equivalents

SAME_CALENDAR = market(11, 30, tick=0.25, flat=0.1, void=0.05)


def busy(strategy):
    """Trade now and then, in all feeds that have a bar, with an order or two that stay open."""
    for data in strategy.datas:
        if len(data) and len(strategy) % 3 == 0:
            (strategy.buy if len(strategy) % 2 else strategy.sell)(data=data, size=3)
            strategy.buy(data=data, size=1, exectype=bt.Order.Limit, price=data.close[0] * 0.98)


BUSY = dict.fromkeys(range(2, 60), busy)


def candles(strategy):
    """Make Heikin-Ashi candles, and what is usually made of them."""
    made = []
    for data in strategy.datas:
        candle = bt.ind.HeikinAshi(data)
        average = bt.ind.SMA(candle.ha_close, period=4)
        made += [candle, average, bt.ind.CrossOver(candle.ha_close, average), bt.ind.haDelta(data)]
    return made


@pytest.mark.parametrize("feeds", [[BARS], [BARS, OTHER], [BARS, SAME_CALENDAR]], ids=["one", "two", "one calendar"])
@pytest.mark.parametrize("eyes", [LOUD, QUIET], ids=["watched", "unwatched"])
def test_heikin_ashi_trades_the_same_in_the_lean_loop(feeds, eyes):
    assert_lean_and_same(trading(BUSY, *feeds, eyes=eyes, indicators=candles))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_fewer_bars_than_the_candles_need(count):
    assert_lean_and_same(trading(BUSY, BARS[:count], indicators=candles), ended=None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"stdstats": True}, {"tradehistory": True}, {"tz": "US/Eastern"}, {"lookahead": 3}, {"cheat_on_open": True},
     {"objcache": True}],
    ids=str,
)  # fmt: skip
def test_options_of_a_run_with_candles(options):
    assert_lean_and_same(trading(BUSY, BARS, OTHER, indicators=candles, **options))


def test_timers_closes_signals_and_analyzers_beside_candles():
    def prepare(cerebro):
        cerebro.add_timer(time(11, 0), strats=True, repeat=timedelta(hours=2))
        cerebro.add_timer(bt.timer.SESSION_START, strats=True, cheat=True)
        cerebro.broker.set_coc(True)
        cerebro.addanalyzer(bt.analyzers.TradeAnalyzer)

    steps = {**BUSY, "notify_timer": lambda strategy: strategy.note(everything(strategy)) or strategy.buy(size=1)}

    assert_lean_and_same(trading(steps, market(3, 40, timedelta(hours=1)), prepare=prepare, indicators=candles))


def test_a_signal_of_candles():
    def build(make):
        cerebro = ready(make, rows(market(6, 60)))
        cerebro.add_signal(bt.SIGNAL_LONGSHORT, bt.ind.haDelta)
        return cerebro

    build.eyes = QUIET

    assert_lean_and_same(build)


# --- what of the indicators is done at once

ALL = {cls: name for name, cls in vars(bt.ind).items() if inspect.isclass(cls) and issubclass(cls, bt.Indicator)}


UNFIT = {  # three take milliseconds a bar; the others want a function, or more bars
    *("OLS_Slope_InterceptN", "OLS_TransformationN", "CointN", "ApplyN", "BaseApplyN", "FindFirstIndex"),
    *("FindLastIndex", "OLS_BetaN", "HurstExponent"),
}


def make_all(strategy):
    """Make every indicator of Backtrader's that can be made of one feed, of a line, or of another indicator."""
    bt.lineiterator.LinesCoupler.counter = 0  # it makes classes, whose names count up in a process
    made = [bt.ind.HeikinAshi(strategy.data)]
    average = bt.ind.SMA(strategy.data, period=3)
    short = dict(zip(("period_me1", "period_me2", "pfast", "pslow", "rperiod"), (3, 5, 2, 4, 6), strict=True))
    short |= {name + str(n): 2 for name in ("rma", "rp") for n in range(1, 5)}
    short |= {"safediv": True, "period": 4, "period_signal": 2}
    for cls in ALL:
        if getattr(cls, "aliased", "") or cls.__name__ in UNFIT:
            continue
        looks_later = cls.__name__ in ("ParabolicSAR", "DemarkPivotPoint", "PivotPoint", "FibonacciPivotPoint")
        for data in (strategy.data,) if looks_later else (strategy.data, strategy.data.close, average):
            words = {name: value for name, value in short.items() if name in cls.params._getkeys()}
            registered = list(strategy._lineiterators[0])
            try:
                made.append(cls(data, **words) if cls._mindatas == 1 else cls(data, strategy.data, **words))
            except Exception:  # noqa: BLE001 - it wants other feeds or more of them
                strategy._lineiterators[0][:] = registered
    return made


@pytest.mark.slow
def test_every_indicator_beside_candles_line_by_line():
    counts = []

    def make(strategy):
        made = make_all(strategy)
        counts.append(len(made))
        return made

    seeing = Eyes(("next", "prenext"), lambda s: LOOKS["indicators"](s, s.data) if len(s) % 7 == 0 else None)

    assert_lean_and_same(trading({}, market(5, 70), eyes=seeing, indicators=make))
    assert counts[0] > 250


def taken(make, bars=BARS):
    """Return which of the indicators that are made leave the same either way."""
    found = []

    class Asks(bt.Strategy):
        def __init__(self):
            make(self.data)

        def start(self):
            self.env.runstop()
            equivalents = Equivalents(self.datas)
            found.extend(equivalents.take(one) for one in self._lineiterators[bt.LineIterator.IndType])

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(rows(bars))
    cerebro.addstrategy(Asks)
    cerebro.run(runonce=False)
    return found


def test_candles_and_what_is_made_of_them_are_done_at_once():
    def make(data):
        candle = bt.ind.HeikinAshi(data)
        return [bt.ind.EMA(candle.ha_close, period=3), bt.ind.ATR(data, period=3), bt.ind.haDelta(data), Nested(data),
                bt.ind.CrossOver(candle.ha_open, candle.ha_close), bt.ind.HeikinAshi(candle)]  # fmt: skip

    assert taken(make) == [True] * 7


class Recursive(bt.Indicator):
    """Refers to a value of its own, which `once` does not know yet."""

    lines = ("level",)

    def __init__(self):
        self.lines.level = 0.5 * self.lines.level(-1) + self.data.close


class Counter(bt.Indicator):
    """Counts its own calls."""

    lines = ("count",)
    calls = 0

    def next(self):
        self.calls += 1
        self.lines.count[0] = self.calls


class Peeks(bt.Indicator):
    """Looks at its strategy, whose other indicators come before or after it."""

    lines = ("seen",)

    def next(self):
        earlier, later = self._owner.made[0], self._owner.made[-1]
        self.lines.seen[0] = earlier.ha_close[0] + (later[0] if len(later) else -1.0) + 1000 * len(self._owner)


UNLIKE = {
    "bar by bar": lambda data: ByBar(data),
    "start": lambda data: ByStart(data),
    "vector": lambda data: ByVector(data),
    "early": lambda data: Early(data),
    "over it": lambda data: bt.ind.SMA(ByBar(data), period=2),
    "recursive": lambda data: Recursive(data),
    "counter": lambda data: Counter(data),
    "peeks": lambda data: Peeks(data),
    "future": lambda data: bt.ind.Ichimoku(data, tenkan=2, kijun=3, senkou=4, senkou_lead=3, chikou=2),
    "function": lambda data: bt.ind.ApplyN(data, period=2, func=lambda values: values[0]),
    "reduced": lambda data: bt.Reduce(lambda one, other: one - other, data.close, data.open),
    "reversal": lambda data: bt.ind.ParabolicSAR(data),
    "error": lambda data: bt.ind.ErrorCorrecting(data, period=3),
    "demark": lambda data: bt.CmpEx(data.close, data.open, 1.0, 2.0, 3.0),
    "too long": lambda data: bt.ind.PercentRank(data, period=400),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_what_may_differ_between_the_two_ways_goes_bar_by_bar(name):
    def make(strategy):
        return [bt.ind.HeikinAshi(strategy.data), UNLIKE[name](strategy.data), bt.ind.SMA(strategy.data, period=2)]

    assert not all(taken(UNLIKE[name]))
    assert_lean_and_same(trading(BUSY, BARS, indicators=make), ended=None)


def test_an_indicator_inside_of_one_that_goes_bar_by_bar_does_so_too():
    class Holds(bt.Indicator):
        lines = ("out",)

        def __init__(self):
            self.average = bt.ind.SMA(self.data, period=2)
            self.lines.out = self.average + ByBar(self.data).middle

    def make(strategy):
        holds = Holds(strategy.data)
        return [bt.ind.HeikinAshi(strategy.data), holds, bt.ind.SMA(holds.average, period=3)]

    assert taken(lambda data: [(holds := Holds(data)), bt.ind.SMA(holds.average, period=3)]) == [False, False]
    assert_lean_and_same(trading(BUSY, BARS, indicators=make))


# --- what can be seen of lines that grow


def looks(strategy):
    """Look at a candle's lines in all ways that would show what is still to come."""
    candle, average = strategy.made[0], strategy.made[1]
    seen = []
    for line in (candle.ha_open, candle.lines[3], average.lines[0]):
        seen += [
            list(line.array),
            line.buflen(),
            len(line),
            list(line.plot()),
            list(line.getzero(0, 4)),
            line.getzeroval(0),
        ]
        seen += [
            list(line.get(size=5)),
            list(line.get(ago=-2, size=3)),
            list(line.get(ago=1, size=3)),
            list(line.get(1)),
        ]
        seen += [list(line.plotrange(0, 3))]
    for one in (candle, average, candle.ha_close):
        for ago in (-40, -3, -1, 0, 1, 2):
            try:
                seen.append(one[ago])
            except IndexError as error:
                seen.append(repr(error))
    strategy.note(repr(seen))


def test_a_line_that_grows_shows_nothing_of_what_is_to_come():
    assert_lean_and_same(trading(dict.fromkeys(range(1, 31), looks), BARS, indicators=candles), "IndexError")


def test_a_value_that_a_strategy_writes_into_a_candle_stays():
    def write(strategy):
        """Write what the next candle is made of, and what it is not."""
        strategy.made[0].lines.ha_open[0] = 7.0
        strategy.made[0].lines.ha_high.set(8.0, -1)
        strategy.note(list(strategy.made[0].ha_open.array), list(strategy.made[0].ha_high.array))

    assert_lean_and_same(trading({9: write, 20: looks}, BARS, indicators=lambda s: candles(s)[:2]), "7.0")


def test_ticks_of_the_last_bar_are_there():
    class Ticks(bt.Strategy):
        def __init__(self):
            bt.ind.HeikinAshi()

        def next(self):
            self.seen = self.data.tick_open, self.data.tick_close, self.data.tick_last

    ours, stock = (ready(cls, rows(BARS)) for cls in (Cerebro, bt.Cerebro))
    for cerebro in (ours, stock):
        cerebro.addstrategy(Ticks)
        cerebro.run()

    assert ours.lean
    assert ours.runstrats[0][0].seen == stock.runstrats[0][0].seen == (BARS[-1].open, BARS[-1].close, BARS[-1].close)


# --- how such a run ends

PLACES = ["start", "prenext", 9, "notify_order", "notify_trade", "stop", 30]


@pytest.mark.slow
@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("fails", [False, True], ids=["stops", "fails"])
def test_a_run_with_candles_that_is_ended(where, fails):
    def end(strategy):
        strategy.env.runstop()
        if fails:
            raise ValueError(f"at {len(strategy)} with {strategy.broker.getvalue()}")

    ended = "raised" if fails else "returned"
    for feeds in ([BARS], [BARS, OTHER]):
        build = trading({**BUSY, where: end}, *feeds, indicators=candles)
        (assert_same if where == "start" else assert_lean_and_same)(build, ended=ended)


def test_a_division_by_zero_is_raised_at_its_bar():
    def make(strategy):
        return [*candles(strategy), strategy.data.close / (strategy.data.openinterest - 17.0)]

    bars = [bar._replace(openinterest=float(n)) for n, bar in enumerate(BARS)]

    assert_lean_and_same(trading(BUSY, bars, indicators=make), "ZeroDivisionError", ended="raised")


def test_what_a_feed_has_to_say_is_passed_on():
    steps = {4: lambda s: s.data.put_notification(s.data.LIVE, 1, word=2),
             30: lambda s: s.data.put_notification(s.data.DELAYED)}  # fmt: skip

    def prepare(cerebro):
        cerebro.adddatacb(lambda data, status, *args, **words: cerebro.log.append(("callback", status)))

    assert_lean_and_same(trading({**BUSY, **steps}, prepare=prepare, indicators=candles), "callback")


def test_a_run_that_stops_on_what_a_feed_says():
    steps = {4: lambda s: s.data.put_notification(s.data.LIVE)}

    def prepare(cerebro):
        cerebro.adddatacb(lambda data, status, *args, **words: cerebro.runstop())

    assert_lean_and_same(trading({**BUSY, **steps}, prepare=prepare, indicators=candles))


@pytest.mark.slow
def test_a_cerebro_that_runs_candles_twice():
    def build(make):
        cerebro = trading(BUSY, BARS, OTHER, indicators=candles)(make)
        cerebro.run()
        cerebro.log.append("again")
        return cerebro

    build.eyes = LOUD

    assert_lean_and_same(build, "again")


class MovesItself(bt.Strategy):
    def __init__(self):
        bt.ind.HeikinAshi()

    def _next(self):
        super()._next()


class Rewinds(type(quick_rows(BARS))):
    def rewind(self):
        super().rewind()


HANDED_OVER = {
    "asked for": (bt.Strategy, rows, {"runonce": False}),
    "buffers": (bt.Strategy, rows, {"exactbars": -1}),
    "own way": (MovesItself, rows, {}),
    "own feed": (bt.Strategy, lambda bars: Rewinds(dataname=bars), {}),
}


@pytest.mark.parametrize("name", HANDED_OVER)
def test_what_is_unusual_goes_bar_by_bar_as_backtrader_does(name):
    strategy, feed, options = HANDED_OVER[name]
    cerebro = Cerebro(stdstats=False)
    cerebro.adddata(feed(BARS))
    cerebro.addstrategy(strategy)
    cerebro.addindicator(bt.ind.HeikinAshi)
    cerebro.run(**options)

    assert not cerebro.lean
    assert cerebro.why_not


def test_a_feed_with_a_filter_goes_bar_by_bar_as_backtrader_does():
    def prepare(cerebro):
        cerebro.datas[0].addfilter(bt.filters.HeikinAshi)

    build = trading(BUSY, BARS, prepare=prepare, indicators=candles)

    assert_same(build)
    cerebro = build(Cerebro)
    cerebro.run()
    assert (cerebro.lean, "filters" in cerebro.why_not) == (False, True)
