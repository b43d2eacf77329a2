"""What round trips saw of prices; bars open at 10, 11, 12 ..., close half above, and go from one below to one above."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import backtrader as bt
import pytest

from backtest.api import RunResult, run
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.runs.record import is_kept_in
from backtest.store.store import Store


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "bars")
    for text, first in (("AAPL/1day", 0), ("MSFT/1day", 2)):
        rows = [
            (datetime(2024, 1, 1 + n, tzinfo=UTC), 10.0 + n, 11.0 + n, 9.0 + n, 10.5 + n, 1e6, None, None)
            for n in range(first, 8)
        ]
        made.write(Series.parse(text), Span.of_dates(date(2024, 1, 1 + first), date(2024, 1, 8)), table_of(rows))
    return made


def strategy(orders):
    """Return a strategy that gives orders, at the bar of their number: a method, and what it is called with."""

    class Gives(bt.Strategy):
        def next(self):
            for name, asked in orders.get(len(self) - 1, ()):
                getattr(self, name)(**asked)

    return Gives


def seen(store, orders, series="AAPL/1day", **options):
    """Return lowest and highest price of each round trip."""
    result = run(strategy(orders), series, store=store, costs="none", **options)
    return [(row["lowest"], row["highest"]) for row in result.extremes_table.to_pylist()]


BUY, SELL = ("buy", {"size": 1}), ("sell", {"size": 1})


def test_a_trade_from_open_to_open_saw_the_lows_and_highs_of_all_bars_but_the_last(store):
    assert seen(store, {0: [BUY], 2: [SELL]}) == [(10.0, 13.0)]  # bars 1 and 2: from 10 to 12, from 11 to 13
    assert seen(store, {0: [SELL], 2: [BUY]}) == [(10.0, 13.0)]


def test_excursions_are_by_lows_and_highs(store):
    result = run(strategy({0: [BUY], 2: [SELL]}), "AAPL/1day", store=store, costs="none")

    assert result.stats["adverse_excursion"] == pytest.approx(10 / 11 - 1)
    assert result.stats["favourable_excursion"] == pytest.approx(13 / 11 - 1)


def test_a_fill_at_the_close_saw_nothing_of_its_bar_and_one_that_leaves_there_all_of_it(store):
    assert seen(store, {0: [BUY], 2: [SELL]}, fills="this-close") == [(10.0, 13.0)]  # bars 1 and 2, from 10.5 to 12.5
    closing = {"size": 1, "exectype": bt.Order.Close}
    assert seen(store, {0: [("buy", closing)], 2: [("sell", closing)]}) == [(11.0, 14.0)]  # bars 2 and 3


def test_of_the_bar_within_which_it_was_filled_a_trade_saw_what_is_sure(store):
    limit = ("buy", {"size": 1, "exectype": bt.Order.Limit, "price": 10.8})
    stop = ("sell", {"size": 1, "exectype": bt.Order.Stop, "price": 11.2})

    assert seen(store, {0: [limit], 2: [SELL]}) == [(10.8, 13.0)]  # of bar 1 not its low of 10
    assert seen(store, {0: [limit], 1: [stop]}) == [(10.8, 12.0)]  # of bar 2 its open


def test_a_limit_that_fills_at_the_open_saw_all_of_its_bar(store):
    limit = ("buy", {"size": 1, "exectype": bt.Order.Limit, "price": 20.0})

    assert seen(store, {0: [limit], 2: [SELL]}) == [(10.0, 13.0)]


def test_each_lot_saw_what_was_after_its_own_entry(store):
    assert seen(store, {0: [BUY], 2: [BUY], 4: [("close", {})]}) == [(10.0, 15.0), (12.0, 15.0)]


def test_of_several_series_each_trade_saw_its_own(store):
    other = strategy({3: [("buy", {"size": 1})]})  # of the first; MSFT begins on the third day

    class Both(other):
        def next(self):
            super().next()
            if len(self) == 5:
                self.buy(self.data1, size=1)
            if len(self) == 7:
                self.close(self.data0), self.close(self.data1)

    result = run(Both, ["AAPL/1day", "MSFT/1day"], store=store, costs="none")

    rows = zip(result.trades["series"], result.extremes_table.to_pylist(), strict=True)
    assert {name: (row["lowest"], row["highest"]) for name, row in rows} == {
        "AAPL/1day": (13.0, 17.0),
        "MSFT/1day": (14.0, 17.0),
    }


def test_a_run_that_was_kept_without_lows_and_highs_keeps_its_excursions_by_closes(store, tmp_path):
    result = run(strategy({0: [BUY], 2: [SELL]}), "AAPL/1day", store=store, costs="none")

    kept = RunResult.load(result.save(tmp_path / "kept"))
    older = replace(result, extremes_table=None)

    assert kept.stats["adverse_excursion"] == result.stats["adverse_excursion"]
    assert is_kept_in(result, tmp_path / "kept")
    assert not is_kept_in(older, tmp_path / "kept")
    assert older.stats["adverse_excursion"] == 0  # of closes 11.5 and 12.5 and the exit at 13


def test_a_run_of_bars_within_days_knows_them_too(tmp_path):
    store, begins = Store(tmp_path / "bars"), datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
    rows = [(begins + timedelta(minutes=n), 10.0 + n, 11.0 + n, 9.0 + n, 10.5 + n, 1e6, None, None) for n in range(8)]
    store.write(Series.parse("AAPL/1min"), Span(begins, begins + timedelta(minutes=8)), table_of(rows))

    assert seen(store, {0: [BUY], 2: [SELL]}, "AAPL/1min") == [(10.0, 13.0)]
