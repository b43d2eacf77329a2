"""What is recorded is what a stock Cerebro has at each bar, and recording it changes nothing."""

import random
from datetime import UTC, date, datetime, timedelta

import backtrader as bt
import pytest
from parity_markets import market

from backtest.api import run
from backtest.engine.feed import replay
from backtest.engine.recorder import Recorder
from backtest.engine.simulation import _Cerebro as Cerebro
from backtest.errors import StrategyError
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.market.span import Span

SERIES = ["AAPL/1day", "GOOG/1day", "IBM/1day", "MSFT/1day"]
FIRST, LAST = date(2004, 7, 1), date(2004, 11, 30)  # the bars of GOOG begin on 2004-08-19


class Idle(bt.Strategy):
    """Never trade, with an indicator over two series of which one begins later; note the account after each bar."""

    def __init__(self):
        self.values, self.entries = [], []
        self.notes = {"values": self.values, "entries": self.entries}
        self.set_up()

    def set_up(self):
        self.spread = self.data0.close - self.data1.close

    def prenext(self):
        self.next()

    def next(self):
        self.act()
        self.values.append([self.broker.getvalue(), self.broker.get_leverage(), self.broker.get_value(lever=True)])
        self.entries.append(len(self.broker.positions))

    def act(self):
        pass


class Looks(Idle):
    """Ask for the positions in all series at each bar, and what each is worth."""

    def act(self):
        worth = [self.broker.getvalue([data]) for data in self.datas]
        held = [self.getposition(data).size for data in self.datas]
        self.values.append([*held, *worth, self.broker.getvalue(self.datas[:2])])


class Trades(Looks):
    """Trade in each series that has begun."""

    def act(self):
        if len(self) % 7 == 3:
            for data in reversed([data for data in self.datas if len(data)]):
                self.order_target_size(data, 7 + len(self) % 5 - 2 * self.getposition(data).size)
        super().act()


class Apart(Trades):
    """Trade in Backtrader's own loop, because of a timer, without an indicator over two series."""

    def set_up(self):
        self.add_timer(bt.timer.SESSION_START)

    def notify_timer(self, timer, when, *args, **kwargs):
        pass


class Quiet(Apart):
    """Do not look, but trade: the last series first, and the first one last."""

    def act(self):
        if len(self) > 40 and len(self) % 7 == 3:
            data = self.datas[3 - len(self) // 7 % 4]
            self.buy(data, size=3.7) if len(self) % 2 else self.sell(data, size=1.3)


def stock(strategy, store, **options):
    cerebro = bt.Cerebro(stdstats=False)
    day = timedelta(days=1)
    span = Span(datetime(*FIRST.timetuple()[:3], tzinfo=UTC), datetime(*LAST.timetuple()[:3], tzinfo=UTC) + day)
    for text in SERIES:
        cerebro.adddata(replay(store.read(Series.parse(text), span), text))
    cerebro.broker.setcash(100_000)
    cerebro.addstrategy(strategy)
    (ran,) = cerebro.run(**options)
    return ran


@pytest.mark.parametrize("strategy", [Idle, Looks, Trades, Apart, Quiet])
def test_the_account_is_a_stock_cerebros_to_the_last_bit_outside_the_lean_loop(strategy, sample):
    expected = stock(strategy, sample, runonce=False)

    result = run(strategy, SERIES, store=sample, span=(FIRST, LAST), costs="none", cash=100_000)

    assert repr(result.manifest["notes"]["values"]) == repr(expected.values)
    assert result.manifest["notes"]["entries"] == expected.entries
    account = [row[0] for row in expected.values if len(row) == 3]
    assert repr(result.equity.tolist()) == repr(account)
    assert (len(set(account)) > 20) == (strategy in (Trades, Apart, Quiet))


@pytest.mark.parametrize("asked", [{}, {"cash_rate": 0.02}, {"slippage": "5bp"}, {"fills": "this-close"}])
def test_no_position_has_an_entry_that_the_strategy_did_not_ask_for(asked, sample):
    for strategy in (Idle, Looks):
        result = run(strategy, SERIES, store=sample, span=(FIRST, LAST), costs="none", **asked)

        assert set(result.manifest["notes"]["entries"]) == {4 if strategy is Looks else 0}


class Early(Idle):
    def act(self):
        self.buy(self.data1, size=1)


def test_an_order_in_a_series_that_has_not_begun_is_refused_by_name(sample):
    with pytest.raises(StrategyError, match=r"in act.* at line .*: an order for GOOG/1day, which has no bar yet"):
        run(Early, SERIES, store=sample, span=(FIRST, LAST))


class Random(Idle):
    """Trade at random in series that begin late and end early, and look at random."""

    params = (("seed", 0),)

    def set_up(self):
        self.random = random.Random(self.p.seed)
        one, other, third = self.datas
        self.mixed = [
            one.close - other.close,
            bt.ind.SMA(other.close / third.close, period=4),
            bt.ind.CrossOver(one, third),
        ]
        self.shown = [bt.ind.Ichimoku(third, tenkan=3, kijun=4, senkou=5, senkou_lead=3, chikou=4), one.close(2)]

    def act(self):
        self.values.append([line[0] for one in self.shown if len(one) > 6 for line in one.lines])
        if self.random.random() < 0.3:
            self.values.append([self.broker.getvalue([data]) for data in self.datas])
        if self.random.random() < 0.3:
            self.values.append([self.getposition(data).size for data in self.datas])
        if self.random.random() < 0.4:
            data, give = self.random.choice([data for data in self.datas if len(data)]), self.random.choice("bsc")
            size = self.random.randint(1, 30)
            self.close(data) if give == "c" else (self.buy if give == "b" else self.sell)(data, size=size)

    def notify_order(self, order):
        self.values.append([order.status, order.executed.size, order.executed.price])


@pytest.mark.parametrize("seed", range(4))
def test_series_that_begin_late_and_end_early_give_what_a_stock_cerebro_gives_bar_by_bar(seed):
    stock, ours = (at_random(make, seed) for make in (bt.Cerebro, Cerebro))

    assert "different times" in ours.env.why_not
    assert repr(ours.values) == repr(stock.values)
    assert ours.entries == stock.entries
    assert {len(data) for data in ours.datas} != {len(ours)}
    assert repr(list(ours.analyzers.recorder.equity)) == repr(list(stock.analyzers.recorder.equity))


def at_random(make, seed):
    chance, cerebro = random.Random(seed), make(stdstats=False, runonce=make is not bt.Cerebro)
    for n, text in enumerate(SERIES[:3]):
        bars = [bar for bar in market(10 * seed + n, 80, timedelta(days=1)) if chance.random() < 0.8]
        rows = [(bar.time.replace(tzinfo=UTC), *bar[1:5], 100.0, None, None) for bar in bars]
        cerebro.adddata(replay(table_of(rows[n * chance.randint(0, 15) : len(rows) - chance.randint(0, 20)]), text))
    cerebro.addstrategy(Random, seed=seed)
    cerebro.addanalyzer(Recorder, _name="recorder")
    (strategy,) = cerebro.run()
    return strategy
