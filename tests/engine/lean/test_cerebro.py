"""Our Cerebro beside Backtrader's: what is equal, when it hands over, which private parts of Backtrader it needs."""

import gc
import io
import logging
import math
import operator
import random
import threading
from array import array
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta

import backtrader as bt
import numpy as np
import pytest
from places import ROOT

from backtest.api import run
from backtest.engine.account.commissions import IbFixed
from backtest.engine.feed import replay
from backtest.engine.lean.broker import LeanBroker, is_still
from backtest.engine.lean.cerebro import Cerebro
from backtest.engine.lean.indicators import _window_sums
from backtest.engine.lean.orders import LeanPosition
from backtest.engine.recorder import Recorder
from backtest.market.bars import table_of
from backtest.market.series import Series

SAMPLE = ROOT / "data" / "sample"


def bars(series, count=80, seed=1, skip=0.0):
    """Make a random walk, of which a part of the bars is left out."""
    rng, start = random.Random(seed), datetime(2024, 1, 1, tzinfo=UTC)
    rows, close = [], 100.0
    for n in range(count):
        before, close = close, round(close * rng.uniform(0.97, 1.03), 2)
        opened = round(before * rng.uniform(0.99, 1.01), 2)
        if rng.random() >= skip:
            span = (opened, max(opened, close) + 0.5, min(opened, close) - 0.5, close)
            rows.append((start + n * timedelta(seconds=series.size.seconds), *span, 100.0 * n, None, None))
    return table_of(rows)


def feed(name="AAPL/1hour", **bars_of):
    series = Series.parse(name)
    return replay(bars(series, **bars_of), series)


def two_calendars():
    return feed(skip=0.3), feed("MSFT/1hour", seed=2, skip=0.3)


class Busy(bt.Strategy):
    """Give orders of all kinds at random, and note all that can be seen."""

    params = (("seed", 1), ("look", True), ("fail_at", 0), ("stop_at", 0))

    def __init__(self):
        self.random, self.seen, self.given = random.Random(self.p.seed), [], []
        self.averages = [bt.ind.SMA(data.close, period=5) for data in self.datas]
        self.cross = bt.ind.CrossOver(bt.ind.EMA(self.data, period=3), self.averages[0])

    def prenext(self):
        self.see("prenext")

    def nextstart(self):
        self.see("nextstart")

    def next(self):
        self.see("next")
        if self.random.random() < 0.3:
            self.order(self.random.choice(self.datas))
        if len(self) == self.p.fail_at:
            raise ValueError("as asked for")
        if len(self) == self.p.stop_at:
            self.env.runstop()

    def see(self, when):
        values = [line[0] for one in (*self.datas, *self.averages, self.cross) if len(one) for line in one.lines]
        self.seen.append((when, len(self), self.datetime[0], [len(data) for data in self.datas], repr(values)))
        if self.p.look:
            held = [self.getposition(data) for data in self.datas]
            self.seen.append([(one.size, one.price, one.adjbase, getattr(one, "datetime", None)) for one in held])
            self.seen.append((self.broker.getvalue(), self.broker.getcash(), self.broker.fundvalue))

    def order(self, data):
        close, side, size = data.close[0], self.random.choice([self.buy, self.sell]), self.random.randint(1, 80)
        near = close * self.random.uniform(0.97, 1.03)
        Order = bt.Order
        kinds = [
            lambda: side(data, size=size),
            lambda: self.close(data),
            lambda: self.order_target_percent(data, target=0.5),
            lambda: side(data, size=size, exectype=Order.Limit, price=near, valid=timedelta(hours=5)),
            lambda: side(data, size=size, exectype=Order.Stop, price=near),
            lambda: side(data, size=size, exectype=Order.StopLimit, price=near, plimit=close),
            lambda: side(data, size=size, exectype=Order.StopTrail, trailpercent=0.02),
            lambda: side(data, size=size, exectype=Order.Close),
            lambda: self.buy_bracket(data=data, size=size, price=near, stopprice=close * 0.9, limitprice=close * 1.1),
            lambda: side(data, size=size, exectype=Order.Limit, price=near, oco=self.given[-1] if self.given else None),
            lambda: self.given and self.cancel(self.random.choice(self.given)),
        ]
        made = self.random.choice(kinds)()
        self.given += [made] if isinstance(made, bt.Order) else []

    def notify_order(self, order):
        done, first = order.executed, self.given[0].ref if self.given else order.ref
        parts = [tuple(vars(bit).values()) for bit in done.exbits]
        self.seen.append(
            (order.ref - first, order.getstatusname(), order.dteos, done.size, done.price, done.comm, parts)
        )

    def notify_trade(self, trade):
        self.seen.append((trade.size, trade.price, trade.pnl, trade.pnlcomm, trade.barlen, trade.isclosed))


class Account(bt.Analyzer):
    """Note the account after each bar, one by one or as the lean loop hands it over."""

    def start(self):
        self.rows = []

    def next(self):
        held = [self.strategy.broker.getposition(data).size for data in self.datas]
        closes = [data.close[0] if len(data) else float("nan") for data in self.datas]
        self.rows.append((self.strategy.datetime[0], self.strategy.broker.getvalue(), *held, *closes))


class AccountAtOnce(Account):
    def take(self, history):
        self.rows = list(zip(history.stamps, history.equity, *history.positions, *history.closes, strict=True))


def ran(cls, feeds, prepare=lambda cerebro: None, account=AccountAtOnce, strategy=Busy, **params):
    cerebro = cls(stdstats=False)
    for one in feeds:
        cerebro.adddata(one)
    cerebro.broker.setcash(10_000)
    cerebro.broker.addcommissioninfo(IbFixed())
    cerebro.addstrategy(strategy, **params)
    cerebro.addanalyzer(account, _name="account")
    prepare(cerebro)
    cerebro.run()
    return cerebro


def left(cerebro):
    """Return all that a run leaves, as text: NaN is then equal to itself, and each bit of a float counts."""
    (strategy,) = cerebro.runningstrats
    broker = cerebro.broker
    arrays = [line.array for one in (*cerebro.datas, *strategy.averages, strategy) for line in one.lines]
    rows = [tuple(map(float, row)) for row in strategy.analyzers.account.rows]
    money = (
        broker.cash,
        broker.getvalue(),
        broker.get_leverage(),
        [sorted(vars(one).items()) for one in broker.positions.values()],
    )
    return repr((strategy.seen, len(strategy), rows, arrays, money))


SETTINGS = {
    "plain": lambda cerebro: None,
    "futures": lambda cerebro: cerebro.broker.setcommission(commission=2.0, margin=500.0, mult=5.0),
    "interest": lambda cerebro: cerebro.broker.setcommission(commission=0.001, interest=0.1, leverage=2.0),
    "slippage": lambda cerebro: cerebro.broker.set_slippage_perc(0.002),
    "unchecked": lambda cerebro: cerebro.broker.set_checksubmit(False),
    "no short cash": lambda cerebro: cerebro.broker.set_shortcash(False),
    "cheat on close": lambda cerebro: cerebro.broker.set_coc(True),
    "open in the broker alone": lambda cerebro: cerebro.broker.set_coo(True),
    "observers": lambda cerebro: [cerebro.addobserver(one) for one in (bt.observers.Broker, bt.observers.Trades)],
    "analyzers": lambda cerebro: [cerebro.addanalyzer(one) for one in (bt.analyzers.DrawDown, bt.analyzers.TimeReturn)],
}


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("feeds", [lambda: [feed()], two_calendars], ids=["one feed", "two calendars"])
def test_a_run_leaves_what_backtraders_own_leaves_to_the_last_bit(feeds, setting):
    for seed in range(3):
        ours = ran(Cerebro, feeds(), setting, seed=seed)
        stock = ran(bt.Cerebro, feeds(), setting, Account, seed=seed)

        assert ours.lean
        assert left(ours) == left(stock)
        assert len(stock.runningstrats[0].given) > 5


@pytest.mark.slow
def test_a_run_that_forgets_leaves_the_same_though_it_keeps_few_orders():
    def forgetting(cerebro):
        cerebro.forgets = True
        cerebro.addanalyzer(Recorder, _name="recorder")

    series = [Series.parse("AAPL/1hour")]
    ours = ran(Cerebro, [feed(count=6000)], forgetting, look=False)
    stock = ran(bt.Cerebro, [feed(count=6000)], forgetting, Account, look=False)

    assert left(ours) == left(stock)
    orders, fills = (one.runningstrats[0].analyzers.recorder.orders(series) for one in (ours, stock))
    assert orders[0].equals(fills[0])
    assert orders[1].equals(fills[1])
    assert len(ours.broker.orders) < len(stock.broker.orders) / 2
    assert len(stock.broker.orders) == len(orders[0]) > 1500


class Inside(bt.Indicator):
    """An indicator of a user's, who may ask for what is inside of it."""

    lines = ("change",)

    def __init__(self):
        self.average = bt.ind.SMA(self.data, period=5)
        self.lines.change = self.average - bt.ind.EMA(self.data, period=3)


class Asks(bt.Strategy):
    """Note what can be read of indicators and of those inside of them."""

    def __init__(self):
        self.stochastic, self.inside = bt.ind.Stochastic(), Inside()
        self.cross, self.deviation = bt.ind.CrossOver(self.data, self.inside.average), bt.ind.StandardDeviation()
        self.seen = []

    def next(self):
        told = (self.stochastic.percK, self.stochastic.percD, self.inside, self.cross, self.deviation)
        values = [one[0] for one in told] + [self.stochastic.k[0], self.inside.average[0]]
        self.seen.append((values, [child[0] for one in told[2:] for child in one._lineiterators[0]]))


def test_what_indicators_reckon_with_inside_is_let_go_of_but_for_what_has_a_name():
    def forgetting(cerebro):
        cerebro.forgets = True

    ours, stock = (ran(cls, [feed()], forgetting, account, Asks) for cls, account in
                   ((Cerebro, AccountAtOnce), (bt.Cerebro, Account)))  # fmt: skip
    mine, other = ours.runningstrats[0], stock.runningstrats[0]

    assert repr(mine.seen) == repr(other.seen)
    assert {len(one.array) for one in mine.cross._lineiterators[0][0].lines} == {1}
    assert repr(mine.inside.average.line.array) == repr(other.inside.average.line.array)
    assert repr(mine.stochastic.k.array) == repr(other.stochastic.k.array)


def test_nobody_looking_at_the_account_makes_no_difference_to_it():
    ours, stock = (ran(cls, two_calendars(), account=Account, look=False) for cls in (Cerebro, bt.Cerebro))

    assert left(ours) == left(stock)


def test_stopping_in_mid_run_ends_it_after_that_bar():
    ours = ran(Cerebro, [feed()], stop_at=30)

    assert len(ours.runningstrats[0]) == 30
    assert len(ours.history.equity) == 30
    assert left(ours) == left(ran(bt.Cerebro, [feed()], account=Account, stop_at=30))


def test_an_exception_of_the_strategy_passes_and_leaves_backtraders_own_classes_behind():
    cerebro, moved = Cerebro(stdstats=False), feed()
    cerebro.adddata(moved)
    cerebro.addstrategy(Busy, fail_at=40)

    with pytest.raises(ValueError, match="as asked for"):
        cerebro.run()

    assert type(cerebro.broker) is bt.brokers.BackBroker
    assert {type(line) for line in moved.lines} == {bt.linebuffer.LineBuffer}
    assert {type(position) for position in cerebro.broker.positions.values()} <= {bt.position.Position}
    assert (len(moved), moved.lines.close._idx) == (40, 39)
    assert not {"close", "_cursor"} & set(vars(moved))


def test_the_collector_is_as_before_after_a_run_and_after_an_exception():
    before = gc.get_threshold()

    ran(Cerebro, [feed()])
    with pytest.raises(ValueError, match="as asked for"):
        ran(Cerebro, [feed()], fail_at=40)

    assert gc.get_threshold() == before


class Overlaps(bt.Strategy):
    """Say that a run has begun, and stay at its first bar until it may end, then fail where that is asked for."""

    params = (("begun", None), ("may_end", None), ("fails", False))

    def next(self):
        if not self.p.begun.is_set():
            self.p.begun.set()
            assert self.p.may_end.wait(60)
            if self.p.fails:
                raise ValueError("as asked for")


@pytest.mark.parametrize("fails", [(False, False), (True, False), (False, True)], ids=["ends", "one fails", "other"])
@pytest.mark.parametrize("ends_first", [0, 1], ids=["the first ends first", "the second ends first"])
def test_the_collector_is_as_before_after_overlapping_runs_in_threads(ends_first, fails):
    before = gc.get_threshold()
    begun, may_end = ([threading.Event(), threading.Event()] for _ in range(2))
    runs, within = [], []

    try:
        with ThreadPoolExecutor(2) as pool:
            for n in range(2):
                asked = {"strategy": Overlaps, "begun": begun[n], "may_end": may_end[n], "fails": fails[n]}
                runs.append(pool.submit(ran, Cerebro, [feed()], **asked))
                assert begun[n].wait(60)
            for n in (ends_first, 1 - ends_first):
                within.append(gc.get_threshold())
                may_end[n].set()
                assert isinstance(runs[n].exception(60), ValueError) == fails[n]
        after = gc.get_threshold()
    finally:
        gc.set_threshold(*before)

    assert after == before
    assert before not in within


def test_the_collector_waits_while_a_run_lasts_and_no_longer():
    seen = {}

    class Looks(bt.Strategy):
        def __init__(self):
            seen["before"] = gc.get_threshold()

        def next(self):
            seen["within"] = gc.get_threshold()

        def stop(self):
            seen["after"] = gc.get_threshold()

    before = gc.get_threshold()

    run(Looks, "AAPL/1day", store=SAMPLE, span=(date(2010, 1, 4), date(2010, 1, 29)))

    assert gc.get_threshold() == before
    assert len(set(seen.values())) == 1
    assert seen["within"] != before


class Richer(bt.Strategy):
    """Move the account between fills."""

    def next(self):
        if len(self) == 10:
            self.buy(size=50)
        if len(self) == 20:
            self.broker.add_cash(500)
        if len(self) == 30:
            self.broker.setcommission(commission=0.01, interest=0.2, interest_long=True)
        if len(self) == 40:
            self.broker.cash -= 7


@pytest.mark.parametrize("feeds", [lambda: [feed()], two_calendars], ids=["one feed", "two calendars"])
def test_cash_that_moves_between_fills_is_seen_from_that_bar_on(feeds):
    ours, stock = (
        ran(Cerebro, feeds(), strategy=Richer),
        ran(bt.Cerebro, feeds(), None or SETTINGS["plain"], Account, Richer),
    )

    rows, stock_rows = (one.runningstrats[0].analyzers.account.rows for one in (ours, stock))

    assert ours.lean
    assert repr([tuple(map(float, row)) for row in rows]) == repr([tuple(map(float, row)) for row in stock_rows])


class Switches(bt.Strategy):
    """Replace a method of its own in mid-run."""

    def __init__(self):
        self.calls = []

    def next(self):
        self.calls.append("next")
        if len(self) == 3:
            self.next = lambda: self.calls.append("other")


def test_a_method_that_is_replaced_in_mid_run_is_called_from_the_next_bar_on():
    cerebro = Cerebro(stdstats=False)
    cerebro.adddata(feed(count=5))
    cerebro.addstrategy(Switches)

    assert cerebro.run()[0].calls == ["next"] * 3 + ["other"] * 2


class Ticks(bt.Strategy):
    def next(self):
        self.ticks = [*getattr(self, "ticks", []), (self.data.tick_open, self.data.tick_close, self.data.tick_last)]


def test_tick_attributes_are_those_of_the_bar_and_none_on_the_last():
    ours, stock = (ran(cls, [feed(count=6)], account=Account, strategy=Ticks) for cls in (Cerebro, bt.Cerebro))

    assert ours.runningstrats[0].ticks == stock.runningstrats[0].ticks
    assert ours.runningstrats[0].ticks[-1] == (None, None, None)
    assert {"tick_open": None, "tick_last": None}.items() <= vars(ours.datas[0]).items()


class SeesSpread(bt.Strategy):
    def next(self):
        self.spreads = [
            *getattr(self, "spreads", []),
            (self.data.tick_spread, self.data.tick_open, self.data.spread[0]),
        ]


def test_the_tick_of_a_line_that_a_feed_has_beside_backtraders_own_is_that_lines():
    class PandasSpread(bt.feeds.PandasData):
        lines = ("spread",)
        params = (("spread", -1),)

    table = bars(Series.parse("AAPL/1day"), 5)
    frame = table.to_pandas().set_index("time").tz_localize(None).assign(spread=[0.5, 0.25, 0.125, 1.0, 2.0])
    seen = {}
    for kind in (bt.Cerebro, Cerebro):
        cerebro = kind(stdstats=False)
        cerebro.adddata(PandasSpread(dataname=frame))
        cerebro.addstrategy(SeesSpread)
        seen[kind] = cerebro.run()[0].spreads

    assert cerebro.lean
    assert seen[Cerebro] == seen[bt.Cerebro]
    assert [row[0] for row in seen[Cerebro]] == [0.5, 0.25, 0.125, 1.0, None]


# --- handing over


class OwnNotify(bt.Strategy):
    def _notify(self, qorders=(), qtrades=()):
        super()._notify(qorders, qtrades)


class OwnBroker(bt.brokers.BackBroker):
    pass


UNUSUAL = {
    "preload": lambda cerebro: cerebro.run(preload=False),
    "runonce": lambda cerebro: cerebro.run(runonce=False),
    "exactbars": lambda cerebro: cerebro.run(exactbars=1),
    "quicknotify": lambda cerebro: cerebro.run(quicknotify=True),
    "writer": lambda cerebro: [cerebro.addwriter(bt.WriterFile, out=io.StringIO()), cerebro.run()],
    "several strategies": lambda cerebro: [cerebro.addstrategy(Busy), cerebro.run()],
    "optimises": lambda cerebro: [cerebro.optstrategy(Busy, seed=[1, 2]), cerebro.run(maxcpus=1)],
    "own broker": lambda cerebro: [cerebro.setbroker(OwnBroker()), cerebro.run()],
    "filler": lambda cerebro: [cerebro.broker.set_filler(bt.fillers.FixedSize(size=5)), cerebro.run()],
    "own _notify": lambda cerebro: [cerebro.strats.clear(), cerebro.addstrategy(OwnNotify), cerebro.run()],
}


@pytest.mark.parametrize("unusual", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_unusual_is_handed_to_backtraders_own_loop_which_is_logged_once(unusual, caplog):
    caplog.set_level(logging.INFO, "backtest.engine.lean.cerebro")
    cerebro = Cerebro(stdstats=False)
    cerebro.adddata(feed())
    cerebro.addstrategy(Busy)

    unusual(cerebro)

    assert not cerebro.lean
    assert [record.getMessage().endswith(cerebro.why_not) for record in caplog.records] == [True]


def test_another_backtrader_than_the_one_it_knows_runs_its_own_loop():
    class Older(Cerebro):
        knows = "1.9.76.123"

    older, stock = ran(Older, [feed()]), ran(bt.Cerebro, [feed()], account=Account)

    assert not older.lean
    assert "1.9.76.123" in older.why_not
    assert left(older) == left(stock)


def test_the_installed_backtrader_is_the_one_it_knows():
    assert bt.__version__ == Cerebro.knows


# --- sums and operations in bulk


@pytest.mark.parametrize("period", [1, 2, 10, 30, 201])
@pytest.mark.parametrize("digits", [2, 17])
def test_sums_of_windows_are_fsums_to_the_last_bit(period, digits):
    rng = random.Random(period)
    values = np.array([rng.choice([-1, 1]) * round(rng.uniform(1.5, 300), digits) for _ in range(2_000)])

    sums = _window_sums(values, period)

    assert sums.tolist() == [math.fsum(values[n : n + period]) for n in range(len(values) - period + 1)]


SPREAD = {
    "near zero": lambda rng: rng.gauss(0.0, 1.0),
    "differences of prices": lambda rng: round(rng.uniform(90, 110), 2) - 100.0,
    "of any size": lambda rng: rng.choice([-1, 1]) * 10 ** rng.uniform(-20, 20),
    "zeros and dust": lambda rng: rng.choice([0.0, -0.0, 1e-30, -1e-30, 1.0, -1.0]),
    "powers of two": lambda rng: rng.choice([-1, 1]) * 2.0 ** rng.randint(-60, 60),
    "halfway": lambda rng: rng.choice([2.0**53, -(2.0**53), 1.0, -1.0, 0.5, 2.0**-10]),
    "just beyond halfway": lambda rng: (
        rng.choice([-1, 1]) * (1 + 2.0**-52) * 2.0 ** rng.choice([0, -53, -54, 53, -150])
    ),
    "full mantissas": lambda rng: rng.choice([-1, 1]) * (2 - 2.0**-52) * 2.0 ** rng.randint(-150, 150),
    "the widest": lambda rng: rng.choice([-1, 1]) * 2.0 ** rng.choice([-449, 0, 449]),
}


@pytest.mark.parametrize("draw", SPREAD.values(), ids=SPREAD)
@pytest.mark.parametrize("period", [1, 2, 3, 30])
def test_sums_of_values_of_many_sizes_are_fsums_to_the_last_bit(draw, period):
    rng = random.Random(period)
    values = np.array([draw(rng) for _ in range(1_500)])

    sums = _window_sums(values, period)

    wanted = [math.fsum(values[n : n + period]) for n in range(len(values) - period + 1)]
    assert [repr(one) for one in sums.tolist()] == [repr(one) for one in wanted]


@pytest.mark.parametrize("values", [[1.0, math.nan], [1.0, math.inf], [5e-324, 5e-324], [1e300, 1.0], [1e-200, 1e200]])
def test_sums_that_may_overflow_or_lose_bits_are_left_to_backtrader(values):
    assert _window_sums(np.array(values), 2) is None


class Lines(bt.Strategy):
    """Indicators that are reckoned in bulk, where they can be."""

    def __init__(self):
        data, average = self.data, bt.ind.SMA(self.data.close, period=7)
        self.averages = [average, bt.ind.SMA(average, period=3), bt.ind.CrossOver(data.close, average)]
        self.more = [data.close - data.open, 2.5 * data.close, data.close / 3, data.close > average, data.close(-4) + 1,
                     bt.And(data.close > average, data.close > data.open), bt.Or(data.close > average, data.volume > 9),
                     bt.ind.NonZeroDifference(data.volume, data.close), bt.Max(data.open, average, 100.0, data.close),
                     bt.Min(data.open, 99, average), bt.Max(data.volume * 0.0, data.volume * -0.0),
                     bt.Min(data.open, float("nan"), average), bt.If(data.close > average, data.high, 2),
                     bt.If(data.volume, -1.0, data.low), bt.Sum(data.close, 0.1, average)]  # fmt: skip


def test_lines_that_are_reckoned_in_bulk_are_backtraders_to_the_last_bit():
    def arrays(cls):
        (strategy,) = ran(cls, [feed(count=300)], account=Account, strategy=Lines).runningstrats
        return repr([[line.array for line in one.lines] for one in (*strategy.averages, *strategy.more)])

    assert arrays(Cerebro) == arrays(bt.Cerebro)


def test_a_division_by_zero_is_raised_as_backtrader_raises_it():
    class Divides(bt.Strategy):
        def __init__(self):
            self.ratio = self.data.close / (self.data.volume - 500.0)

    with pytest.raises(ZeroDivisionError):
        ran(Cerebro, [feed()], strategy=Divides)


def test_averages_of_values_near_zero_and_of_some_that_no_bulk_can_hold_are_backtraders():
    class Averages(bt.Strategy):
        def __init__(self):
            change, tiny = self.data.close - self.data.open, self.data.volume * 1e-307
            self.averages = [bt.ind.SMA(one, period=3) for one in (change, change / 1e9, self.data.volume, tiny)]

    feeds = [feed(count=800)]
    ours, stock = (ran(cls, feeds, account=Account, strategy=Averages) for cls in (Cerebro, bt.Cerebro))

    assert _window_sums(np.arange(800) * 1e-305, 2) is None
    left = [repr([one.array for one in cerebro.runningstrats[0].averages]) for cerebro in (ours, stock)]
    assert left[0] == left[1]


# --- the private parts of Backtrader that are relied on


def test_commission_models_that_move_cash_between_fills_are_told_from_those_that_do_not():
    class Margin(bt.CommInfoBase):
        def get_leverage(self):
            return 2.0

    assert is_still(IbFixed())
    assert is_still(bt.CommInfoBase(commission=0.1))
    assert not is_still(Margin())
    assert not is_still(bt.CommInfoBase(interest=0.01))
    assert not is_still(bt.CommInfoBase(margin=100.0))


def test_a_lean_order_is_in_all_that_it_holds_what_backtraders_own_is():
    made = {}

    class Gives(bt.Strategy):
        def next(self):
            if len(self) == 3:
                close = self.data.close[0]
                made[self.p.kind] = [
                    self.buy(size=3),
                    self.sell(size=2, exectype=bt.Order.StopTrailLimit, trailamount=2.0, price=close, plimit=close + 1),
                    self.buy(size=1, exectype=bt.Order.Limit, price=9.0, valid=date(2024, 2, 1), tradeid=4, why="so"),
                    self.sell(size=1, exectype=bt.Order.StopLimit, price=99.0, plimit=98.0, valid=timedelta()),
                ]

        params = (("kind", ""),)

    ours, stock = (ran(cls, [feed(count=3)], strategy=Gives, kind=cls.__module__) for cls in (Cerebro, bt.Cerebro))

    def told(order):
        held = {**vars(order.p), **{name: getattr(order, name) for name in vars(order) | {"dteos": 0}}}
        parts = {name: vars(held.pop(name)) for name in ("created", "executed")}
        unlike = ("data", "owner", "ref", "p", "params", "parent", "transmit")
        return repr([{name: held[name] for name in sorted(held) if name not in unlike}, parts])

    pairs = list(zip(*made.values(), strict=True))
    assert [told(one) for one, _ in pairs] == [told(other) for _, other in pairs]
    assert all(isinstance(one, type(other)) and vars(one.p).keys() == vars(other.p).keys() for one, other in pairs)
    assert (ours.lean, stock.broker.getcash()) == (True, 10_000)


def test_a_lean_position_tells_time_and_base_of_the_bar_only_while_it_is_open():
    data = feed(count=3)
    bt.Cerebro().adddata(data)
    position = LeanPosition()

    with pytest.raises(AttributeError):
        _ = position.datetime

    assert position.adjbase is None
    assert data.p.sessionend == time(23, 59, 59, 999990)


def test_the_lean_broker_names_what_backtrader_reckons_at_the_end_of_a_bar():
    broker = bt.brokers.BackBroker()
    reckoned = {"_value", "_valuemkt", "_valuelever", "_valuemktlever", "_leverage", "_unrealized", "_fundval"}

    before = dict(vars(broker))
    broker.add_cash(1_000)
    broker._get_value()
    changed = {name for name, value in vars(broker).items() if before[name] != value}

    assert changed - {"cash", "_fundshares"} <= reckoned
    assert all(isinstance(getattr(LeanBroker, name), property) for name in reckoned)


def test_lines_keep_their_place_in_two_attributes_and_their_values_in_an_array():
    line = bt.linebuffer.LineBuffer()

    assert {"_idx", "lencount", "array", "bindings", "mode", "extension"} <= set(vars(line))
    assert isinstance(line.array, array)


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (bt.Cerebro, ("_runonce", "_runnext", "_datanotify", "_disable_runonce", "runstrategies")),
        (
            bt.Strategy,
            (
                "_once",
                "_oncepost",
                "_oncepost_open",
                "_notify",
                "_addnotification",
                "_getminperstatus",
                "_next_observers",
            ),
        ),
        (bt.SignalStrategy, ("_notify", "_next_signal", "_next_catch")),
        (bt.timer.Timer, ("check", "_reset_when")),
        (bt.feed.AbstractDataBase, ("advance", "advance_peek", "_tick_nullify", "_tick_fill")),
        (
            bt.brokers.BackBroker,
            ("_get_value", "_execute", "_try_exec_market", "_bracketize", "_ococheck", "_take_children"),
        ),
        (bt.order.OrderBase, ("refbasis", "_getplimit")),
    ],
)
def test_the_private_parts_that_are_relied_on_are_there(owner, names):
    assert [name for name in names if not operator.attrgetter(name)(owner)] == []


def test_an_order_that_is_valid_until_nonsense_is_refused_as_backtrader_refuses_it():
    class Nonsense(bt.Strategy):
        def next(self):
            self.buy(size=1, valid="tomorrow")

    for cls in (Cerebro, bt.Cerebro):
        with pytest.raises(TypeError, match="'float' and 'str'"):
            ran(cls, [feed()], account=Account, strategy=Nonsense)
