"""The account of any run follows, bar by bar, from its fills and from what the broker says that it paid and charged."""

from datetime import UTC, date, datetime, timedelta

import backtrader as bt
import numpy as np
import pytest
from ledger import assert_margin, assert_reconciled

from backtest import run
from backtest.engine.account.dividends import Dividends, DividendTable
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.store.store import Store

NAMES = ("AAPL/1day", "MSFT/1day")
FIRST, COUNT = date(2024, 1, 1), 40
LOOPS = ({}, {"slippage": "5bp"}, {"volume_cap": 0.5}, {"fills": "this-close"}, {"costs": "none"})
ACCOUNTS = ("reg-t", "backtrader", "cash")


class Random(bt.Strategy):
    """Gives orders of every kind, of either side, and cancels some."""

    params = (("seed", 0), ("often", 0.3), ("last", COUNT))  # the bar from which on it only closes

    def __init__(self):
        self.random = np.random.default_rng(self.p.seed)
        self.given = []

    def next(self):
        if len(self) >= self.p.last:
            self.leave()
            return
        for data in self.datas:
            if self.random.random() < self.p.often:
                self.give(data)
        if self.given and self.random.random() < 0.1:
            self.cancel(self.given.pop())

    def leave(self):
        while self.given:
            self.cancel(self.given.pop())
        for data in self.datas:
            self.close(data=data)

    def give(self, data):
        kind = self.random.choice([bt.Order.Market, bt.Order.Limit, bt.Order.Stop, bt.Order.Close])
        side = self.buy if self.random.random() < 0.5 else self.sell
        price = None if kind in (bt.Order.Market, bt.Order.Close) else data.close[0] * self.random.uniform(0.98, 1.02)
        order = side(data=data, size=int(self.random.integers(1, 200)), price=price, exectype=int(kind))
        self.given.append(order)


def market(folder, random, wild=0.03):
    """Return a store of two series that lack some days, and the days that they have."""
    store, days = Store(folder), [FIRST + timedelta(days=n) for n in range(COUNT) if random.random() < 0.9]
    for name in NAMES:
        price, rows = 50.0, []
        for day in days:
            opened = price * random.uniform(0.98, 1.02)
            price = opened * random.uniform(1 - wild, 1 + wild)
            high, low = max(opened, price) * 1.005, min(opened, price) * 0.995
            rows.append(
                (datetime(day.year, day.month, day.day, tzinfo=UTC), opened, high, low, price, 500.0, None, None)
            )
        store.write(Series.parse(name), Span.of_dates(FIRST, FIRST + timedelta(days=COUNT)), table_of(rows))
    return store, days


def dividends(random):
    """Return what each series pays on some days, whether it has a bar of them or not."""
    found = {}
    for name in NAMES:
        on = sorted(random.choice(COUNT, size=6, replace=False).tolist())
        texts = tuple((FIRST + timedelta(days=n)).isoformat() for n in on)
        found[Series.parse(name).key] = Dividends("USD", texts, tuple(random.uniform(0.01, 3, len(on)).tolist()), "")
    return DividendTable("made up", found)


def asked_of(result):
    return result.spec.brokerage.account


def random_run(folder, seed, last=COUNT, cash=30_000, wild=0.03):
    """Return a run of a random strategy on a random market, and the days of its bars."""
    random = np.random.default_rng(seed)
    store, days = market(folder, random, wild)
    asked = {**LOOPS[seed % len(LOOPS)], "withholding": float(random.choice([0.0, 0.15]))}
    asked["interest"] = "ib" if random.random() < 0.5 else ""
    asked["account"] = "backtrader" if "fills" in asked else ACCOUNTS[seed % len(ACCOUNTS)]
    result = run(
        Random,
        NAMES,
        store=store,
        params={"seed": seed, "last": last},
        cash=cash,
        dividends=dividends(random),
        **asked,
    )
    return result, dict.fromkeys(NAMES, days)


@pytest.mark.parametrize("first", range(0, 20, 5))
def test_the_account_follows_from_fills_and_dividends(tmp_path, first):
    filled = 0
    for seed in range(first, first + 5):
        result, days = random_run(tmp_path / str(seed), seed)

        assert_reconciled(result, days)
        if asked_of(result) == "reg-t":
            assert_margin(result)
        filled += len(result.fills_table)

    assert filled > 10


def test_the_account_follows_through_margin_calls(tmp_path):
    called = 0
    for seed in (0, 6, 12):  # in the lean loop, and with slippage
        result, days = random_run(tmp_path / str(seed), seed, cash=10_000, wild=0.25)

        assert_reconciled(result, days)
        called += assert_margin(result)

    assert called > 3


@pytest.mark.parametrize("seed", range(4))
def test_round_trips_got_all_dividends_where_nothing_is_left_open(tmp_path, seed):
    result, _ = random_run(tmp_path, seed, last=25)

    assert [result.record[f"position.{n}"][-1].as_py() for n in range(2)] == [0, 0]
    assert sum(result.trades["dividends"]) == pytest.approx(result.stats["dividends"], abs=1e-9)
    earned = sum(result.record["interest"].to_pylist()) if "interest" in result.record.column_names else 0.0
    assert sum(result.trades["net"]) + earned == pytest.approx(result.equity.iloc[-1] - 30_000, abs=1e-6)


@pytest.mark.soak
def test_the_account_follows_in_a_thousand_more_runs(tmp_path):
    for seed in range(20, 1_020):
        result, days = random_run(tmp_path / str(seed), seed)

        assert_reconciled(result, days)
        if asked_of(result) == "reg-t":
            assert_margin(result)
