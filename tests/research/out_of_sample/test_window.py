from datetime import date

import backtrader as bt
import numpy as np
import pytest
from market import span_of_sessions

from backtest.engine.code.strategy import load_strategy
from backtest.errors import StrategyError, UsageError
from backtest.market.series import Series
from backtest.research.out_of_sample.window import Window, run_window
from backtest.store.store import Store

AAPL = Series.parse("AAPL/1day")
YEAR = Window(date(2004, 1, 2), date(2004, 12, 31))


class Watcher(bt.Strategy):
    """Tells what it is called with, and buys at once."""

    params = (("period", 50),)
    said: list = []  # noqa: RUF012

    def __init__(self):
        self.average = bt.ind.SMA(self.data.close, period=self.p.period)

    def start(self):
        self.said.clear()

    def prenext(self):
        self.said.append(("prenext", self.data.datetime.date(0), self.average[0]))

    def nextstart(self):
        self.said.append(("nextstart", self.data.datetime.date(0), self.average[0]))
        self.next()

    def next(self):
        self.said.append(("next", self.data.datetime.date(0), self.average[0]))
        if not self.position:
            self.buy(size=10)


class Eager(bt.Strategy):
    """Does not wait for its indicators."""

    def __init__(self):
        bt.ind.SMA(self.data.close, period=1200)

    def prenext(self):
        if not self.position:
            self.buy(size=1)


class Rude(bt.Strategy):
    def notify_cashvalue(self, cash, value):
        if len(self) == 20:
            self.buy(size=1)


def windowed(strategy, store, window=YEAR, series=AAPL, **more):
    return run_window(load_strategy(strategy), [series], window, store=store, **more)


def closes(sample, first, last):
    bars = sample.read(AAPL, span_of_sessions(AAPL, first, last))
    return np.array(bars["close"].to_pylist())


def test_the_first_decision_is_in_the_window_with_indicators_that_know_the_bars_before(sample):
    windowed(Watcher, sample)

    calls = [(name, day) for name, day, _ in Watcher.said]
    assert calls[:3] == [("nextstart", YEAR.first), ("next", YEAR.first), ("next", date(2004, 1, 5))]
    assert len(calls) == 1 + 252
    fifty_before = closes(sample, date(2003, 1, 2), YEAR.first)[-50:]
    assert Watcher.said[0][2] == pytest.approx(fifty_before.mean(), rel=1e-12)


def test_a_run_in_a_window_trades_and_is_measured_there_only(sample):
    found = windowed(Watcher, sample)

    assert found.equity.iloc[0] == found.spec.cash  # decided at the first close, filled at the second opening
    assert [f"{day:%Y-%m-%d}" for day in found.fills["time"]] == ["2004-01-05"]
    assert (found.record["session"][0].as_py(), found.record["session"][-1].as_py()) == (YEAR.first, YEAR.last)
    assert (found.spec.since, found.spec.until) == ("2004-01-02", "2004-12-31")
    assert found.manifest["warm_up"]["bars"] == 212 + 248 + 252 + 252  # sessions from March 2000 to 2003


def test_no_bar_after_the_window_changes_anything(sample, tmp_path):
    cut = Store(tmp_path)
    span = span_of_sessions(AAPL, date(2000, 3, 1), YEAR.last)
    cut.write(AAPL, span, sample.read(AAPL, span), source="cut")

    whole, known = (windowed("sma_cross", store) for store in (sample, cut))

    assert len(whole.fills_table) > 5
    assert whole.record.equals(known.record)
    assert whole.orders_table.equals(known.orders_table)


def test_a_strategy_that_does_not_wait_for_its_indicators_waits_for_the_window(sample):
    found = windowed(Eager, sample)

    assert [f"{day:%Y-%m-%d}" for day in found.fills["time"]] == ["2004-01-05"]


def test_an_order_before_the_window_is_an_error(sample):
    with pytest.raises(StrategyError, match=r"places orders outside of next\(\)"):
        windowed(Rude, sample)


def test_without_a_warm_up_a_window_is_a_run_of_its_own(sample):
    from backtest.api import run

    found = windowed("sma_cross", sample, since=YEAR.first)
    alone = run("sma_cross", AAPL, store=sample, span=(YEAR.first, YEAR.last))

    assert found.record.equals(alone.record)
    assert found.fills_table.equals(alone.fills_table)


@pytest.mark.slow
def test_an_intraday_window_begins_with_the_first_bar_of_its_session(intraday):
    minutes = Series.parse("EUR-CASH/1min")  # whose session of the 12th begins on the evening of the 11th, in UTC
    window = Window(date(2024, 3, 12), date(2024, 3, 12))

    found = windowed(Watcher, intraday, window, minutes)

    assert len(found.record) == len(intraday.read(minutes, span_of_sessions(minutes, window.first, window.last)))
    assert len(Watcher.said) == 1 + len(found.record)


def test_a_window_without_sessions_is_refused(sample):
    with pytest.raises(UsageError, match="no session from 2014-01-01"):
        windowed("sma_cross", sample, Window(date(2014, 1, 1), date(2014, 2, 1)))
