"""The account at a close in which an order filled; bars open at 10, 11, 12 ... and close half above."""

import sys
from datetime import UTC, date, datetime, timedelta

import backtrader as bt
import numpy as np
import pytest

from backtest.api import run
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.runs import closing_fills
from backtest.runs.spec import RunSpec
from backtest.store.store import Store


def store_of(folder, *series, closes=tuple(10.5 + n for n in range(6))):
    """Return a store with a bar a day."""
    rows = [
        (datetime(2024, 1, 1 + n, tzinfo=UTC), close - 0.5, close + 0.5, close - 1.5, close, 1e6, None, None)
        for n, close in enumerate(closes)
    ]
    store = Store(folder / "bars")
    for one in series:
        store.write(Series.parse(one), Span.of_dates(date(2024, 1, 1), date(2024, 1, len(rows))), table_of(rows))
    return store


def gives(orders):
    """Return a strategy that gives market orders of a size, each at the close of the bar of its number."""

    class Gives(bt.Strategy):
        def next(self):
            size = orders.get(len(self) - 1, 0)
            if size:
                (self.buy if size > 0 else self.sell)(size=abs(size))

    return Gives


def account(result):
    return [result.record[name].to_pylist() for name in ("position.0", "cash", "equity")]


def test_a_fill_at_a_close_is_in_the_account_of_that_close(tmp_path):
    asked = {"store": store_of(tmp_path, "AAPL/1day"), "cash": 10_000, "fills": "this-close"}

    position, cash, equity = account(run(gives({0: 100, 2: -100}), "AAPL/1day", **asked))

    assert position == [100, 100, 0, 0, 0, 0]
    assert cash == [8949, 8949, 10_198, 10_198, 10_198, 10_198]  # 100 at 10.5 for 1, and at 12.5 for 1
    assert equity == [9999, 10_099, 10_198, 10_198, 10_198, 10_198]


def test_what_a_fill_slipped_by_is_lost_at_its_close(tmp_path):
    asked = {"store": store_of(tmp_path, "AAPL/1day"), "costs": "none", "fills": "this-close", "slippage": "0.1"}

    _, _, equity = account(run(gives({0: 100}), "AAPL/1day", **asked))

    assert equity[:2] == pytest.approx([99_990, 100_090])


def test_a_borrow_fee_that_is_booked_with_a_fill_was_paid_day_by_day(tmp_path):
    store = store_of(tmp_path, "AAPL/1day", closes=[100.0] * 6)

    result = run(gives({0: -365, 2: 365}), "AAPL/1day", store=store, costs="none", fills="this-close", borrow="0.1")

    position, cash, equity = account(result)
    assert position == [-365, -365, 0, 0, 0, 0]
    # Two nights at 10, each charged with the bar after it; the fill is booked both, and takes neither again.
    assert result.fills["costs"].tolist() == pytest.approx([0, 20])
    assert equity == pytest.approx([100_000, 99_990, 99_980, 99_980, 99_980, 99_980])
    assert cash[:3] == pytest.approx([136_500, 136_490, 99_980])


def test_a_future_binds_its_margin_at_the_close_of_its_fill(tmp_path):
    es = "ES-FUT-CME-USD-202403/1day"
    asked = {"store": store_of(tmp_path, es), "costs": "futures:2.25:50:15", "fills": "this-close", "cash": 1000}

    position, cash, equity = account(run(gives({0: 2, 2: -2}), es, **asked))

    assert position[:3] == [2, 2, 0]
    assert equity[:3] == [995.5, 1095.5, 1000 + 200 - 9]
    assert cash[:3] == [965.5, 1065.5, 1191]


def test_an_order_for_the_close_is_in_the_account_of_that_close(tmp_path):
    opens = [datetime(2024, 1, 2 + day, 14, 30, tzinfo=UTC) for day in range(2)]
    moments = [first + timedelta(minutes=30 * n) for first in opens for n in range(13)]  # to 16:00 in New York
    rows = [(moment, 10.0, 13.0, 9.0, 10.0 + n / 10, 1e6, None, None) for n, moment in enumerate(moments)]
    store = Store(tmp_path / "bars")
    store.write(Series.parse("AAPL/30mins"), Span(moments[0], moments[-1] + timedelta(minutes=30)), table_of(rows))

    class AtTheClose(bt.Strategy):
        def next(self):
            if len(self) == 3:
                self.buy(size=10, exectype=bt.Order.Close)

    result = run(AtTheClose, "AAPL/30mins", store=store, costs="none")

    assert result.fills["price"].tolist() == [pytest.approx(11.2)]
    assert result.fills["time"].tolist() == [moments[13] - timedelta(hours=17, minutes=30)]
    assert result.record["position.0"].to_pylist() == [0] * 12 + [10] * 14
    assert result.equity.tolist()[12] == 100_000


@pytest.mark.parametrize("costs", ["none", "ib-fixed"])
def test_at_each_close_the_account_is_what_was_filled_until_then(tmp_path, costs):
    random = np.random.default_rng(8)
    closes = np.round(100 * np.cumprod(1 + random.normal(0, 0.02, 28)), 2)
    store = store_of(tmp_path, "AAPL/1day", "MSFT/1day", closes=closes.tolist())

    class Trades(bt.Strategy):
        def next(self):
            for data in self.datas:
                size = int(random.integers(-30, 31))
                if size and random.random() < 0.7:
                    (self.buy if size > 0 else self.sell)(data, size=abs(size))

    result = run(Trades, ["AAPL/1day", "MSFT/1day"], store=store, costs=costs, fills="this-close")

    record, fills = result.record.to_pandas(), result.fills
    assert len(fills) > 25
    cash = [
        100_000 - (own := fills[fills["time"] <= time])["size"] @ own["price"] - own["costs"].sum()
        for time in record["time"]
    ]
    assert record["cash"].tolist() == pytest.approx(cash)
    for n, name in enumerate(result.series):
        held = [fills["size"][(fills["time"] <= time) & (fills["series"] == name)].sum() for time in record["time"]]
        assert record[f"position.{n}"].tolist() == held
    worth = record["position.0"] * record["close.0"] + record["position.1"] * record["close.1"]
    assert record["equity"].tolist() == pytest.approx((record["cash"] + worth).tolist())


def test_fills_at_the_next_open_leave_the_account_as_it_is(tmp_path):
    store = store_of(tmp_path, "AAPL/1day")

    position, _, equity = account(run(gives({0: 100, 2: -100}), "AAPL/1day", store=store, costs="none"))

    assert position == [0, 100, 100, 0, 0, 0]
    assert equity == [100_000, 100_050, 100_150, 100_200, 100_200, 100_200]


def test_of_two_fills_at_a_close_only_the_one_booked_late_is_moved(tmp_path):
    class Both(bt.Strategy):
        def next(self):
            if len(self) == 2:
                self.buy(size=50, exectype=bt.Order.Close)  # booked with the third bar, at whose close it fills
            elif len(self) == 3:
                self.buy(size=100)  # booked with the fourth

    asked = {"store": store_of(tmp_path, "AAPL/1day"), "cash": 10_000, "costs": "none", "fills": "this-close"}

    position, cash, equity = account(run(Both, "AAPL/1day", **asked))

    assert position == [0, 0, 150, 150, 150, 150]
    assert cash == [10_000, 10_000, 8125, 8125, 8125, 8125]  # 150 at 12.5
    assert equity == [10_000, 10_000, 10_000, 10_150, 10_300, 10_450]


def test_margins_of_all_series_are_looked_up_as_often_however_many_fills_there_are(tmp_path):
    asked = {"store": store_of(tmp_path, "AAPL/1day"), "cash": 10_000, "fills": "this-close"}

    once, often = (
        calls_of(RunSpec.margins.fget, lambda own=own: run(gives(own), "AAPL/1day", **asked))
        for own in ({0: 10}, {0: 10, 1: -10, 2: 10, 3: -10})
    )

    assert once == often > 0


def calls_of(function, action):
    """Return how often a function is called while something is done."""
    calls = 0

    def count(frame, event, _):
        nonlocal calls
        calls += event == "call" and frame.f_code is function.__code__

    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(None)
    return calls


class Rebalances(bt.Strategy):
    """Buys and sells shares of series at the closes of bars by chance, some of them twice at one."""

    params = (("seed", 0), ("twice", False))

    def __init__(self):
        self.chance = np.random.default_rng(self.p.seed)

    def next(self):
        for data in self.datas:
            if self.chance.random() < 0.7:
                for _ in range(1 + (self.p.twice and self.chance.random() < 0.3)):
                    size = int(self.chance.integers(-20, 20)) / 4 or 1.0  # others make a turn leave some 1e-16
                    self.buy(data, size) if size > 0 else self.sell(data, -size)


@pytest.mark.parametrize("costs", ["none", "bp:7"])
@pytest.mark.parametrize("twice", [False, True])
def test_fills_of_many_series_are_booked_at_once_as_one_by_one(tmp_path, monkeypatch, twice, costs):
    names = [f"{name}/1day" for name in ("AAPL", "IBM", "MSFT", "QQQ", "SPY")]
    closes = np.random.default_rng(3).uniform(8, 60, 28).round(2).tolist()
    asked = {"store": store_of(tmp_path, *names, closes=closes), "fills": "this-close", "costs": costs}
    booked, together = [], closing_fills._booked_together

    def watched(*args):
        found = together(*args)
        booked.append(found is not None)
        return found

    monkeypatch.setattr(closing_fills, "_booked_together", watched)

    at_once = run(Rebalances, names, params={"seed": 5, "twice": twice}, **asked)
    monkeypatch.setattr(closing_fills, "_booked_together", lambda *_: None)
    one_by_one = run(Rebalances, names, params={"seed": 5, "twice": twice}, **asked)

    assert booked == [not twice]
    assert len(at_once.fills_table) > 60
    assert at_once.record.equals(one_by_one.record)
