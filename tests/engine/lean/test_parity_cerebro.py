"""Ways to run: options, phases, looking, stopping, failing and looking on; Backtrader's Cerebro and ours."""

import io
from datetime import time, timedelta

import backtrader as bt
import pytest
from parity_indicators import INDICATORS, ByBar, ByStart, ByVector, Early, Nested
from parity_markets import market, quick_rows, rows
from parity_random import Account
from parity_strategies import HOOKS, LOOKS, LOUD, QUIET, Eyes, Watcher, everything, script, watcher
from parity_trading import BARS, OTHER, assert_same, ready, trading, watched

THIRD = market(9, 26, gap=0.2, flat=0.2)


@pytest.fixture(params=[LOUD, QUIET], ids=["watched", "unwatched"])
def eyes(request):
    return request.param


def busy(strategy):
    """Trade now and then, in all feeds that have a bar, with an order or two that stay open."""
    for data in strategy.datas:
        if len(data) and len(strategy) % 3 == 0:
            (strategy.buy if len(strategy) % 2 else strategy.sell)(data=data, size=3)
            strategy.buy(data=data, size=1, exectype=bt.Order.Limit, price=data.close[0] * 0.98)


BUSY = dict.fromkeys(range(2, 60), busy)


def averages(strategy):
    return [bt.ind.CrossOver(bt.ind.SMA(data, period=2), bt.ind.SMA(data, period=6)) for data in strategy.datas]


# -- options -----------------------------------------------------------------------------------------------------

OPTIONS = [
    {},
    {"runonce": False},
    {"preload": False},
    {"runonce": False, "preload": False},
    {"exactbars": 1},
    {"exactbars": -1},
    {"exactbars": -2},
    {"stdstats": True},
    {"stdstats": True, "runonce": False},
    {"stdstats": True, "oldbuysell": True, "oldtrades": True},
    {"oldsync": True},
    {"objcache": True},
    {"lookahead": 3},
    {"live": True},
    {"tradehistory": True},
    {"quicknotify": True},
    {"cheat_on_open": True},
    {"cheat_on_open": True, "broker_coo": False},
    {"tz": "US/Eastern"},
    {"tz": 0},
]


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("feeds", "eyes"), [(1, QUIET), (2, QUIET), (3, LOUD)], ids=["one", "two", "three, watched"])
def test_every_option_of_cerebro(options, feeds, eyes):
    # Backtrader itself fails with exactbars=1 and feeds of several calendars.
    bars = [BARS, OTHER, THIRD] if "exactbars" not in options else [market(n, 30, gap=0) for n in range(3)]

    assert_same(trading(BUSY, *bars[:feeds], eyes=eyes, indicators=averages, **options), "Completed")


def test_options_given_to_run(eyes):
    def build(make):
        class Asked(make):
            def run(self):
                return super().run(runonce=False, stdstats=True)

        return trading(BUSY, eyes=eyes)(Asked)

    build.eyes = eyes

    assert_same(build, "Broker")


def test_no_feed_and_no_strategy():
    def nothing(make):
        return ready(make)

    def feed_alone(make):
        return ready(make, rows(BARS))

    nothing.eyes = feed_alone.eyes = QUIET

    assert_same(nothing)
    assert_same(feed_alone)


def test_a_cerebro_that_runs_twice(eyes):
    def build(make):
        cerebro = trading(BUSY, BARS, OTHER, eyes=eyes, indicators=averages)(make)
        cerebro.run()
        cerebro.log.append("again")
        return cerebro

    build.eyes = eyes

    assert_same(build, "again")


# -- phases and periods ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(INDICATORS)))
@pytest.mark.parametrize("runonce", [True, False])
def test_every_indicator_line_by_line(number, runonce):
    def make(strategy):
        import random

        return [INDICATORS[number](strategy, data, random.Random(3)) for data in strategy.datas]

    seeing = Eyes(("next", "prenext"), lambda strategy: LOOKS["indicators"](strategy, strategy.data))

    assert_same(trading({}, BARS, market(4, 30), eyes=seeing, indicators=make, runonce=runonce))
    assert_same(trading({}, BARS, eyes=seeing, indicators=make, runonce=runonce))


@pytest.mark.parametrize("periods", [(1, 1), (1, 9), (9, 1), (5, 5), (22, 3), (3, 21)])
def test_prenext_nextstart_and_next_wait_for_all_feeds(eyes, periods):
    def make(strategy):
        return [bt.ind.SMA(data, period=period) for data, period in zip(strategy.datas, periods, strict=True)]

    assert_same(trading(BUSY, BARS, OTHER, eyes=eyes, indicators=make), "prenext" if max(periods) > 5 else "next")


@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_fewer_bars_than_an_indicator_needs(eyes, count):
    few = trading(BUSY, BARS[:count], eyes=eyes, indicators=lambda s: [bt.ind.SMA(s.data, period=6)])

    assert_same(few, ended="returned" if count == 6 else "raised")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_bars(eyes, count):
    assert_same(trading({1: busy, 2: busy, 3: busy}, BARS[:count], eyes=eyes))


def test_a_period_of_the_users_own(eyes):
    def make(strategy):
        strategy.addminperiod(7)
        return [bt.ind.SMA(strategy.data, period=3), ByBar(strategy.data1), Early(strategy.data)]

    assert_same(trading(BUSY, BARS, OTHER, eyes=eyes, indicators=make), "next")


def test_indicators_below_indicators_show_their_last_value(eyes):
    def make(strategy):
        strategy.nested = Nested(strategy.data)
        strategy.cross = bt.ind.CrossOver(strategy.nested.fast, strategy.data.close)
        return [strategy.nested]

    steps = {
        n: lambda s: s.note(s.nested.fast[0], s.nested.signal[0], s.cross[0], len(s.nested.slow)) for n in (7, 12, 30)
    }

    assert_same(trading(steps, eyes=eyes, indicators=make))


@pytest.mark.parametrize("runonce", [True, False])
def test_an_indicator_over_two_feeds_of_unequal_length(eyes, runonce):
    def make(strategy):
        return [bt.ind.CrossOver(strategy.data.close, strategy.data1.close), strategy.data.close - strategy.data1.close]

    unequal = trading({}, BARS, OTHER, eyes=eyes, indicators=make, runonce=runonce)

    assert_same(unequal, ended="raised" if runonce else "returned")


def test_indicators_added_by_cerebro_shared_and_reused(eyes):
    def prepare(cerebro):
        cerebro.addindicator(bt.ind.EMA, period=4)
        cerebro.addindicator(ByVector)

    def make(strategy):
        average = bt.ind.SMA(strategy.data, period=4)
        return [
            average,
            bt.ind.EMA(average, period=3),
            ByStart(average),
            average + average(-1),
            bt.ind.SMA(average - 1.0),
        ]

    assert_same(trading({}, market(5, 60), eyes=eyes, indicators=make, prepare=prepare))


def test_division_by_nought_is_raised_as_always(eyes):
    flat = [bar._replace(open=5.0, high=5.0, low=5.0, close=5.0) for bar in BARS]

    def make(strategy):
        return [strategy.data.close / (strategy.data.high - strategy.data.low)]

    assert_same(trading({}, flat, eyes=eyes, indicators=make), ended="raised")


class OwnLines(Watcher):
    """Has lines of its own, written bar by bar, of which it reads the values before."""

    lines = ("signal", "note_line")

    def next(self):
        self.lines.signal[0] = self.data.close[0] + (self.lines.signal[-1] if len(self) > 3 else 0.0)
        if len(self) % 2:
            self.l.note_line[0] = len(self)
        self.note(len(self), self.lines.signal[0], self.lines.note_line[0], self.signal[-1], self.lines.datetime[0])


class OwnWay(Watcher):
    """Replaces its methods while it runs, and asks for lines at run time."""

    def __init__(self):
        super().__init__()
        self.next = self.first
        self.notify_order = lambda order: self.note("told", order.status, order.executed.price)

    def first(self):
        self.note("first", self.data.close[0])
        self.buy(size=1)
        self.next = self.second

    def second(self):
        self.note("second", len(self.data.close), self.data.lines.close[0], self.data0_close[0])
        if len(self) == 9:
            del self.next


class Deep(Watcher):
    """Overrides parts of Backtrader that are not meant to be."""

    def _notify(self, qorders=(), qtrades=()):
        self.note("deep", len(self), [order.status for order in self._orderspending])
        super()._notify(list(qorders), list(qtrades))

    def _addnotification(self, order, quicknotify=False):
        self.note("added", order.ref, order.status)
        super()._addnotification(order, quicknotify)

    def buy(self, **words):
        return super().buy(**words | {"size": 2 * words["size"]})

    def next(self):
        busy(self)


class OldNames(bt.Strategy):
    """Uses the names of old."""

    def notify(self, order):
        self.cerebro.log.append(("notify", order.ref, order.status))

    def notify_operation(self, trade):
        self.cerebro.log.append(("operation", trade.ref, trade.pnlcomm))

    def next(self):
        busy(self)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [OwnLines, OwnWay, Deep, OldNames, bt.Strategy, bt.strategies.MA_CrossOver])
@pytest.mark.parametrize("options", [{}, {"runonce": False}, {"stdstats": True}], ids=str)
def test_strategies_written_in_odd_ways(strategy, options):
    def build(make):
        cerebro = ready(make, rows(market(6, 60)), rows(OTHER), **options)
        cerebro.addstrategy(strategy)
        return cerebro

    build.eyes = QUIET

    assert_same(build)


# -- looking -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hook", [name for name in HOOKS if name not in ("notify_store", "notify_data", "notify_timer")]
)
def test_what_a_strategy_listens_to_alone(hook):
    assert_same(trading(BUSY, BARS, OTHER, eyes=Eyes((hook,), everything), indicators=averages))


@pytest.mark.slow
@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("feeds", [[BARS], [BARS, OTHER]], ids=["one", "two"])
def test_what_a_strategy_looks_at_alone_and_now_and_then(look, feeds):
    def sometimes(strategy):
        if len(strategy) % 4 == 1:
            return [LOOKS[look](strategy, data) for data in strategy.datas if len(data)]
        return None

    assert_same(trading(BUSY, *feeds, eyes=Eyes(("next",), sometimes), indicators=averages))
    assert_same(
        trading(BUSY, *feeds, eyes=Eyes(("next", "notify_order"), sometimes), indicators=averages, stdstats=True)
    )


@pytest.mark.parametrize("where", ["notify_order", "notify_trade", "notify_cashvalue", "start", "stop", "prenext"])
def test_looking_from_anywhere(where):
    def look(strategy):
        strategy.note(where, everything(strategy) if len(strategy.data) else None)

    steps = {**BUSY, where: look}

    assert_same(trading(steps, BARS, OTHER, eyes=Eyes(("next",), lambda s: None), indicators=averages))


def test_feeds_found_by_name_and_compared():
    def look(strategy):
        first, second = strategy.getdatabyname("d0"), strategy.dnames.d1
        strategy.note(
            first is strategy.data, first._name, second is strategy.datas[1], first._id, second._dataname is None
        )
        strategy.note(strategy.data0_close[0], strategy.data1.l.close[0])

    assert_same(trading({5: look, 20: look}, BARS, OTHER))


def test_attributes_of_the_returned_strategy(eyes):
    def build(make):
        class Kept(make):
            def run(self):
                (strategy,) = super().run()
                strategy.note(len(strategy), strategy.data.close[0], strategy.position.size, strategy.broker.getvalue())
                strategy.note(
                    strategy.data.datetime.date(), strategy.data.close.get(size=4), strategy.kept, len(strategy.data)
                )
                strategy.note(strategy.env is self, strategy.cerebro.runstrats[0][0] is strategy, strategy.made[0][0])
                return [strategy]

        def keep(strategy):
            strategy.kept = [*getattr(strategy, "kept", []), strategy.data.close[0]]

        return trading({**BUSY, 3: keep, 7: keep}, eyes=eyes, indicators=averages)(Kept)

    build.eyes = eyes

    assert_same(build)


# -- several strategies, optimisation ----------------------------------------------------------------------------


@pytest.mark.slow
def test_two_strategies_share_a_broker(eyes):
    def prepare(cerebro):
        cerebro.addsizer_byidx(0, bt.sizers.FixedSize, stake=2)
        watched(cerebro, eyes, {4: lambda s: s.sell(size=3), 9: lambda s: s.close(), 15: lambda s: s.buy()})

    assert_same(trading(BUSY, BARS, OTHER, eyes=eyes, prepare=prepare, indicators=averages))


class Swept(bt.Strategy):
    """What an optimisation runs; the processes of its pool find it by its name."""

    params = (("period", 3), ("size", 1))

    def __init__(self):
        self.average = bt.ind.SMA(self.data, period=self.p.period)

    def next(self):
        if not self.position:
            self.buy(size=self.p.size)
        elif self.data.close[0] < self.average[0]:
            self.close()


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"optreturn": False}, {"optdatas": False}, {"runonce": False}], ids=str)
def test_an_optimisation_gives_the_same_results(options):
    def build(make):
        # In this process: the pool copies iterators, which Python 3.12 warns of, and forks, which threads forbid.
        cerebro = ready(make, quick_rows(BARS), maxcpus=1, **options)
        cerebro.optstrategy(Swept, period=range(2, 6), size=[1, 4])
        cerebro.addanalyzer(bt.analyzers.TradeAnalyzer)
        cerebro.addanalyzer(bt.analyzers.DrawDown)
        cerebro.optcallback(lambda ran: cerebro.log.append(len(ran)))
        return cerebro

    build.eyes = QUIET

    assert_same(build, "'period', 5")


def test_a_strategy_that_skips_itself(eyes):
    def skip(strategy):
        raise bt.errors.StrategySkipError

    assert_same(trading({"init": skip}, eyes=eyes))


# -- stopping and failing ----------------------------------------------------------------------------------------

PLACES = ["init", "start", "prenext", "nextstart", 9, "notify_order", "notify_trade", "notify_cashvalue", "stop", 30]


@pytest.mark.slow
@pytest.mark.parametrize("where", PLACES)
def test_a_run_that_is_stopped(eyes, where):
    steps = {**BUSY, where: lambda strategy: strategy.env.runstop()}

    assert_same(trading(steps, BARS, eyes=eyes, indicators=averages))
    assert_same(trading(steps, BARS, OTHER, eyes=eyes, indicators=averages, stdstats=True))
    assert_same(trading(steps, BARS, eyes=eyes, runonce=False))


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("error", [ValueError, StopIteration])
def test_an_exception_comes_out_as_it_is(eyes, where, error):
    def fail(strategy):
        raise error(f"at {len(strategy)} with {strategy.broker.getvalue()}")

    assert_same(trading({**BUSY, where: fail}, BARS, eyes=eyes, indicators=averages), ended="raised")


@pytest.mark.parametrize("where", ["next", "notify_order", "start"])
def test_an_exception_with_several_feeds_and_onlookers(where):
    def fail(strategy):
        if where != "next" or len(strategy) == 12:
            raise ValueError(where)

    def prepare(cerebro):
        cerebro.addanalyzer(bt.analyzers.TradeAnalyzer)

    steps = {**BUSY, where: fail, 12: fail if where == "next" else busy}

    assert_same(trading(steps, BARS, OTHER, prepare=prepare, stdstats=True), ended="raised")


MISTAKES = [
    lambda s: s.buy(size="many"),
    lambda s: s.buy(data="none such"),
    lambda s: s.order_target_size(target="x"),
    lambda s: s.broker.cancel(None),
    lambda s: s.buy(valid="tomorrow"),
    lambda s: s.buy(oco="other"),
    lambda s: s.buy(price="high", exectype=bt.Order.Limit),
    lambda s: s.getdatabyname("absent"),
]


@pytest.mark.parametrize("number", range(len(MISTAKES)))
def test_mistakes_in_orders_raise_the_same(number):
    build = trading({3: MISTAKES[number], 6: busy})

    assert_same(build, ended=None)


# -- onlookers ---------------------------------------------------------------------------------------------------


class Hearing(bt.Analyzer):
    """Notes all that an analyzer is told."""

    def start(self):
        self.heard = [("start", len(self.strategy))]
        self.rets = {"heard": self.heard}

    def prenext(self):
        self.heard.append(("prenext", len(self), self.strategy.broker.getvalue()))

    def nextstart(self):
        self.heard.append(("nextstart", len(self), self.data.close[0]))

    def next(self):
        self.heard.append(("next", len(self), self.strategy.broker.getcash(), self.strategy.position.size))

    def notify_order(self, order):
        self.heard.append(("order", order.ref, order.status, order.executed.price))

    def notify_trade(self, trade):
        self.heard.append(("trade", trade.ref, trade.pnl, trade.barlen))

    def notify_cashvalue(self, cash, value):
        self.heard.append(("cashvalue", cash, value))

    def notify_fund(self, cash, value, fundvalue, shares):
        self.heard.append(("fund", cash, value, fundvalue, shares))

    def stop(self):
        self.heard.append(("stop", len(self.strategy)))


class Parent(bt.Analyzer):
    """Has an analyzer below it, and one that listens to cash alone."""

    def __init__(self):
        self.below = Hearing()
        self.returns = bt.analyzers.TimeReturn(timeframe=bt.TimeFrame.Weeks)

    def get_analysis(self):
        return {"below": self.below.get_analysis(), "returns": self.returns.get_analysis()}


class Seeing(bt.Observer):
    """Notes account, orders and trades in lines."""

    lines = ("cash", "orders", "trades")

    def next(self):
        self.lines.cash[0] = self._owner.broker.getcash()
        self.lines.orders[0] = len(self._owner._orderspending)
        self.lines.trades[0] = len(self._owner._tradespending)


ANALYZERS = [
    (bt.analyzers.TradeAnalyzer, {}),
    (bt.analyzers.DrawDown, {}),
    (bt.analyzers.TimeDrawDown, {"timeframe": bt.TimeFrame.Weeks}),
    (bt.analyzers.TimeReturn, {"timeframe": bt.TimeFrame.Days}),
    (bt.analyzers.TimeReturn, {"timeframe": bt.TimeFrame.NoTimeFrame}),
    (bt.analyzers.Transactions, {}),
    (bt.analyzers.PositionsValue, {"headers": True, "cash": True}),
    (bt.analyzers.GrossLeverage, {}),
    (bt.analyzers.PyFolio, {}),
    (bt.analyzers.SharpeRatio, {"timeframe": bt.TimeFrame.Days}),
    (bt.analyzers.Returns, {}),
    (bt.analyzers.SQN, {}),
    (bt.analyzers.AnnualReturn, {}),
    (bt.analyzers.PeriodStats, {"timeframe": bt.TimeFrame.Weeks}),
    (bt.analyzers.VWR, {}),
    (bt.analyzers.LogReturnsRolling, {"timeframe": bt.TimeFrame.Days}),
    (bt.analyzers.Calmar, {}),
    (Hearing, {}),
    (Parent, {}),
]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(ANALYZERS)))
@pytest.mark.parametrize(("fund", "eyes"), [(False, LOUD), (True, QUIET)], ids=["watched", "as a fund"])
def test_every_analyzer(number, fund, eyes):
    def prepare(cerebro):
        cerebro.broker.set_fundmode(fund)
        cerebro.addanalyzer(ANALYZERS[number][0], **ANALYZERS[number][1])

    # AnnualReturn reads an observer.
    stdstats = ANALYZERS[number][0] is bt.analyzers.AnnualReturn

    assert_same(trading(BUSY, BARS, OTHER, eyes=eyes, prepare=prepare, stdstats=stdstats), "analyzers")


OBSERVERS = [
    bt.observers.Broker,
    bt.observers.Cash,
    bt.observers.Value,
    bt.observers.FundValue,
    bt.observers.FundShares,
    bt.observers.DrawDown,
    bt.observers.DrawDownLength,
    bt.observers.DrawDown_Old,
    bt.observers.TimeReturn,
    bt.observers.LogReturns,
    bt.observers.Trades,
    bt.observers.DataTrades,
    bt.observers.Benchmark,
    Seeing,
]


@pytest.mark.parametrize("first", [True, False], ids=["noted first", "noted last"])
def test_cash_that_an_analyzer_brings_in_by_looking_is_noted_at_its_bar(first):
    analyzers = [Account, bt.analyzers.PositionsValue][:: 1 if first else -1]

    def prepare(cerebro):
        for analyzer in analyzers:
            cerebro.addanalyzer(analyzer)

    steps = {3: busy, 5: lambda strategy: strategy.broker.add_cash(-100.5), 9: lambda s: s.broker.add_cash(250)}

    assert_same(trading(steps, eyes=QUIET, prepare=prepare))


@pytest.mark.slow
@pytest.mark.parametrize("observer", OBSERVERS)
def test_every_observer_over_its_own_length(eyes, observer):
    def prepare(cerebro):
        words = (
            {"timeframe": bt.TimeFrame.Days} if observer in (bt.observers.TimeReturn, bt.observers.LogReturns) else {}
        )
        words |= (
            {"data": cerebro.datas[0], "timeframe": bt.TimeFrame.Days} if observer is bt.observers.Benchmark else {}
        )
        cerebro.addobserver(observer, **words)
        cerebro.addobservermulti(bt.observers.BuySell, barplot=True)

    assert_same(trading(BUSY, BARS, OTHER, eyes=eyes, prepare=prepare, indicators=averages), observer.__name__)


@pytest.mark.slow
@pytest.mark.parametrize("cheat", [True, False])
@pytest.mark.parametrize("when", [bt.timer.SESSION_START, bt.timer.SESSION_END, time(11, 30)])
def test_timers_of_cerebro_and_strategy(cheat, when):
    def prepare(cerebro):
        later = {"offset": timedelta(hours=-1), "repeat": timedelta(hours=1)} if isinstance(when, int) else {}
        cerebro.add_timer(when, strats=True, cheat=cheat, **later)

    steps = {**BUSY, "notify_timer": lambda strategy: strategy.buy(size=1)}
    hours = market(3, 60, timedelta(hours=1))

    assert_same(trading(steps, hours, prepare=prepare), "timer")
    assert_same(trading({**steps, "start": lambda s: s.add_timer(when, weekdays=[1, 3])}, hours))


@pytest.mark.parametrize("csv", [True, False])
def test_writers_write_the_same_text(csv):
    def build(make):
        out = io.StringIO()

        class Written(make):
            def run(self):
                ran = super().run()
                self.log.append(out.getvalue())
                return ran

        cerebro = ready(Written, rows(BARS), stdstats=True)
        cerebro.addstrategy(Swept)
        cerebro.addwriter(bt.WriterFile, csv=csv, out=out)
        cerebro.addanalyzer(bt.analyzers.DrawDown)
        return cerebro

    build.eyes = LOUD

    assert_same(build, "Begin")


@pytest.mark.parametrize("kind", [bt.SIGNAL_LONGSHORT, bt.SIGNAL_LONG, bt.SIGNAL_SHORT])
def test_signals(kind):
    class Signal(bt.Indicator):
        lines = ("signal",)

        def __init__(self):
            self.lines.signal = self.data - bt.ind.SMA(self.data, period=4)

    def build(make):
        cerebro = ready(make, rows(market(6, 60)))
        cerebro.add_signal(kind, Signal)
        return cerebro

    build.eyes = QUIET

    assert_same(build, "Completed")


class Source(bt.Store):
    """A store with a word to say at every step."""

    def __init__(self):
        self.said = 0

    def start(self, data=None, broker=None):
        self.said = 0

    def get_notifications(self):
        self.said += 1
        return [(f"word {self.said}", (self.said,), {"more": 1})]


@pytest.mark.parametrize("options", [{}, {"runonce": False}, {"preload": False}], ids=str)
def test_what_stores_and_feeds_have_to_say(options):
    def prepare(cerebro):
        cerebro.addstore(Source())
        cerebro.addstorecb(lambda msg, *args, **words: cerebro.log.append(("callback", msg)))
        cerebro.adddatacb(lambda data, status, *args, **words: cerebro.log.append(("callback", status)))

    steps = {4: lambda strategy: strategy.data.put_notification(strategy.data.LIVE, 1, word=2)}

    assert_same(trading({**BUSY, **steps}, prepare=prepare, **options))


def test_a_script_reads_as_it_is_written():
    """The table of steps that all these cases go by does its step at its bar, once."""
    seen = []
    act = script({2: lambda strategy: seen.append("two"), "stop": lambda strategy: seen.append("stop")})

    for where, length in (("next", 1), ("next", 2), ("notify_order", 2), ("stop", 2)):
        act(range(length), where)

    assert seen == ["two", "stop"]
    assert watcher("next") is watcher("next")
