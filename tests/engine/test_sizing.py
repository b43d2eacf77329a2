"""How much to buy: each sizer by hand, with its cap, and what strategies that come along do with it."""

from datetime import UTC, date, datetime, timedelta

import backtrader as bt
import numpy as np
import pytest

from backtest.api import run
from backtest.cli.app import main
from backtest.engine.account.commissions import COSTS
from backtest.engine.sizing import Sizing, affordable
from backtest.errors import UsageError
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.report.run_page import page
from backtest.store.store import Store

START = datetime(2024, 1, 2, tzinfo=UTC)


def store_of(folder, closes):
    rows = [(START + timedelta(days=n), p, p, p, p, 1e6, None, None) for n, p in enumerate(map(float, closes))]
    store = Store(folder)
    store.write(Series.parse("AAPL/1day"), Span(START, START + timedelta(days=len(rows))), table_of(rows))
    return store


class Leaves(bt.Strategy):
    """Buy at a bar and sell at a later one, and leave open how much."""

    params = (("buy", 1), ("sell", 0))

    def next(self):
        if len(self) == self.p.buy:
            self.buy()
        if len(self) == self.p.sell:
            self.sell()


def first_size(folder, closes, size, **asked):
    result = run(Leaves, "AAPL/1day", store=store_of(folder, closes), size=size, **asked)
    return result.orders["size"].tolist()[0] if len(result.orders) else 0


@pytest.mark.parametrize(
    ("size", "costs", "shares"),
    [
        ("shares:100", "ib-fixed", 100),
        ("percent:50", "none", 1_000),  # 50,000 at 50
        ("percent:50", "ib-fixed", 999),  # 1,000 would cost 5 more
        ("percent:100", "none", 2_000),
        ("percent:200", "none", 2_000),  # no more than there is
        ("percent:100:0.3", "none", 600),
    ],
)
def test_shares_and_percent_by_hand(tmp_path, size, costs, shares):
    assert first_size(tmp_path, [50, 50, 50], size, costs=costs) == shares


def test_volatility_buys_what_moves_the_account_as_asked(tmp_path):
    closes = [100.0]
    for n in range(60):
        closes.append(closes[-1] * (1.02 if n % 2 else 0.99))
    returns = np.diff(closes) / closes[:-1]
    wanted = 0.10 / (np.std(returns, ddof=1) * np.sqrt(252))  # 0.41: below the cap
    asked = {"params": {"buy": 61}, "costs": "none"}

    assert 0.3 < wanted < 0.5
    assert first_size(tmp_path / "a", [*closes, 100.0], "volatility:0.10", **asked) == int(1e5 * wanted / closes[-1])
    assert first_size(tmp_path / "b", [*closes, 100.0], "volatility:0.10:0.2", **asked) == int(1e5 * 0.2 / closes[-1])
    assert first_size(tmp_path / "c", [*closes, 100.0], "volatility:9", **asked) == int(1e5 * 0.95 / closes[-1])
    assert first_size(tmp_path / "d", closes, "volatility:0.10", params={"buy": 60}) == 0  # a return too few


@pytest.mark.parametrize(
    ("spelling", "step", "bars"),
    [
        ("EUR-CASH/1hour", timedelta(hours=1), 260 * 24),
        ("AAPL/1hour", timedelta(hours=1), 252 * 7),
        ("AAPL/1week", timedelta(days=7), 52),
        ("BTC-CRYPTO/1day", timedelta(days=1), 365),
    ],
)
def test_volatility_a_year_is_by_the_bars_that_a_year_has(tmp_path, spelling, step, bars):
    series, start = Series.parse(spelling), datetime(2024, 1, 5, tzinfo=UTC)
    closes = [100.0]
    for n in range(60):
        closes.append(closes[-1] * (1.02 if n % 2 else 0.99))
    rows = [(start + n * step, p, p, p, p, 1e6, None, None) for n, p in enumerate([*closes, 100.0])]
    store = Store(tmp_path)
    store.write(series, Span(start, start + len(rows) * step), table_of(rows))
    deviation = np.std(np.diff(closes) / closes[:-1], ddof=1)
    wanted = 0.4 * deviation * np.sqrt(bars)  # a volatility of which the position takes 40 %

    result = run(Leaves, spelling, store=store, size=f"volatility:{wanted}", params={"buy": 61}, costs="none")

    assert result.orders["size"].tolist() == [pytest.approx(1e5 * 0.4 / closes[-1], abs=1)]


def test_kelly_bets_a_fraction_of_mean_over_variance(tmp_path):
    rising, falling = [100.0], [100.0]
    for n in range(252):
        rising.append(rising[-1] * (1.0301 if n % 2 else 0.97))
        falling.append(falling[-1] * (1.03 if n % 2 else 0.9699))
    returns = np.diff(rising) / rising[:-1]
    wanted = returns.mean() / returns.var(ddof=1)
    asked = {"params": {"buy": 253}, "costs": "none"}

    assert 0.03 < wanted < 0.07
    assert first_size(tmp_path / "a", [*rising, 1.0], "kelly:1", **asked) == int(1e5 * wanted / rising[-1])
    assert first_size(tmp_path / "b", [*rising, 1.0], "kelly:0.5", **asked) == int(1e5 * wanted / 2 / rising[-1])
    assert first_size(tmp_path / "c", [*rising, 1.0], "kelly:1:0.01", **asked) == int(1e5 * 0.01 / rising[-1])
    assert first_size(tmp_path / "d", [*falling, 1.0], "kelly:1", **asked) == 0  # there is nothing to bet on


@pytest.mark.parametrize("size", ["percent:50", "kelly:0.5", "volatility:0.1"])
def test_an_order_against_what_is_held_closes_it_whatever_the_sizer(tmp_path, size):
    class Both(Leaves):
        def next(self):
            if len(self) == 1:
                self.buy(size=77)
            if len(self) == 3:
                self.sell()

    result = run(Both, "AAPL/1day", store=store_of(tmp_path, [50] * 6), size=size)

    assert result.orders["size"].tolist() == [77, -77]


def test_what_is_affordable_is_so_with_its_commission_and_one_more_is_not():
    for name in COSTS:
        model = COSTS[name].make()
        for money, price in ((1_000.0, 3.0), (50_000.0, 7.77), (99.0, 0.01), (5.0, 100.0)):
            size = affordable(model, money, price)

            assert size * price + model.getcommission(size, price) <= money
            assert size < 1 or (size + 2) * price + model.getcommission(size + 2, price) > money


def test_a_strategy_that_sizes_itself_is_not_silently_left_alone(sample, tmp_path, capsys):
    words = [
        "run",
        "bollinger",
        "IBM/1day",
        "--store",
        str(sample.root),
        "--out",
        str(tmp_path),
        "--size",
        "percent:20",
    ]

    with pytest.raises(SystemExit) as refused:
        main(words)
    with pytest.raises(SystemExit) as done:
        main([*words, "--set", "invest=0"])

    assert (refused.value.code, done.value.code) == (2, 0)
    told = capsys.readouterr()
    assert "--set invest=0" in told.err
    assert "size percent:20" in " ".join(told.out.split())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bollinger", "rsi2", "time_series_momentum", "random_baseline", "machine_learning"])
def test_strategies_that_come_along_leave_sizes_open_if_asked_to(sample, name):
    asked = {"params": {"invest": 0.0}, "size": "shares:7", "span": (None, date(2006, 1, 3))}
    result = run(name, "IBM/1day", store=sample, costs="none", **asked)

    assert set(result.fills["size"].abs()) == {7}
    assert len(result.fills) > 5


@pytest.mark.parametrize("text", ["all", "percent", "percent:x", "percent:-5", "kelly:1:2:3", "shares:"])
def test_a_size_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match="write shares:100"):
        Sizing.parse(text)


@pytest.mark.parametrize("size", ["shares:100:0.5", "shares:100:", "shares:1:x"])
def test_a_number_of_shares_takes_no_cap(size):
    with pytest.raises(UsageError, match="has a cap, which a fixed number of shares does not take; write shares:1"):
        run(Leaves, "AAPL/1day", store="sample", size=size)


class WantsTooMuch(bt.Strategy):
    """Buys for twice the money that there is, again and again."""

    def next(self):
        if not self.position and len(self) % 3 == 0:
            self.buy(size=2 * self.broker.getcash() // self.data.close[0])


@pytest.mark.slow
def test_orders_that_were_refused_are_told(tmp_path):
    result = run(WantsTooMuch, "AAPL/1day", store=store_of(tmp_path, [50.0] * 13), costs="none")

    told = "Orders rejected: 4 of 4 (the account could not pay for them)."
    assert result.stats["rejected_orders"] == 4
    assert told in " ".join(repr(result.stats).split())
    assert told in result.stats.document["basis"]
    assert result.validity.verdict.words == "every order was rejected"


@pytest.mark.slow
def test_the_verdict_of_the_page_tells_of_rejected_orders(tmp_path):
    text = page(run(WantsTooMuch, "AAPL/1day", store=store_of(tmp_path, [50.0] * 13), costs="none"))

    assert "<li>Orders rejected: 4 of 4 (the account could not pay for them).</li>" in text
    assert "<p>Every order was rejected.</p>" in text


def test_a_run_whose_orders_were_all_taken_says_nothing_of_refusals(tmp_path):
    result = run(Leaves, "AAPL/1day", store=store_of(tmp_path, [50.0] * 12), size="shares:5")

    assert result.stats["rejected_orders"] == 0
    assert "reject" not in repr(result.stats) + str(result.validity.verdict)


# --- room for the open, and steps


def bars_of(folder, rows, names=("AAPL/1day",)):
    """Return a store whose series all have these rows of open, high, low, close and volume."""
    table = table_of([(START + timedelta(days=n), *map(float, row), None, None) for n, row in enumerate(rows)])
    store = Store(folder)
    for name in names:
        store.write(Series.parse(name), Span(START, START + timedelta(days=len(rows))), table)
    return store


FLAT = (100, 100, 100, 100, 1e6)
GAP = (104, 105, 100, 100, 1e6)  # opens 4 % above the close before, reaches 5 % above


class SmaAbove(bt.Strategy):
    """Leave the size open: long while SMA(10) is above SMA(30)."""

    def __init__(self):
        self.fast, self.slow = bt.ind.SMA(period=10), bt.ind.SMA(period=30)

    def next(self):
        if self.fast > self.slow and not self.position:
            self.buy()
        elif self.fast <= self.slow and self.position:
            self.close()


@pytest.mark.parametrize("size", ["percent:100", "percent:99", "percent:95"])
def test_orders_of_a_sizer_are_paid_at_the_next_open(sample, size):
    result = run(SmaAbove, "IBM/1day", store=sample, size=size)

    assert len(result.orders_table) > 100
    assert result.stats["rejected_orders"] == 0


@pytest.mark.parametrize(
    ("asked", "shares"),
    [
        ({}, 961),  # 100,000 at 104
        ({"slippage": "1bp"}, 952),  # at 105: it may slip to the high
        ({"fills": "this-close"}, 1000),  # which is known
        ({"costs": "bp:100"}, 952),  # 961 would cost 999 more: 100,000 at 105.04
    ],
)
def test_a_purchase_can_be_paid_if_the_gap_of_the_last_year_comes_again(tmp_path, asked, shares):
    store = bars_of(tmp_path, [FLAT, GAP, FLAT, GAP, FLAT])

    result = run(
        Leaves, "AAPL/1day", store=store, size="percent:100", **{"costs": "none", "params": {"buy": 3}} | asked
    )

    assert result.orders["size"].tolist() == [shares]
    assert result.orders["status"].tolist() == ["Completed"]


def test_a_gap_of_more_than_a_year_ago_and_one_of_a_reverse_split_are_no_guide(tmp_path):
    old = bars_of(tmp_path / "old", [FLAT, GAP, *[FLAT] * 400])
    split = bars_of(tmp_path / "split", [(10, 10, 10, 10, 1e6), *[FLAT] * 3])

    asked = {"size": "percent:100", "costs": "none"}
    assert run(Leaves, "AAPL/1day", store=old, params={"buy": 390}, **asked).orders["size"].tolist() == [1000]
    assert run(Leaves, "AAPL/1day", store=split, params={"buy": 3}, **asked).orders["size"].tolist() == [833]  # 20 %


class BuysAll(bt.Strategy):
    """Buys each of its series at the first bar."""

    def next(self):
        if len(self) == 1:
            for data in self.datas:
                self.buy(data)


def test_what_is_bought_at_the_same_bar_is_spent_once(tmp_path):
    names = ["AAPL/1day", "IBM/1day", "MSFT/1day"]

    result = run(BuysAll, names, store=bars_of(tmp_path, [FLAT] * 3, names), size="percent:60", costs="none")

    assert result.orders["size"].tolist() == [600, 400]
    assert result.stats["rejected_orders"] == 0
    assert "because the size percent:60 was below the smallest tradable unit: 1." in result.stats.basis


COIN = (60_000, 60_000, 60_000, 60_000, 7.5)


def test_coins_are_bought_in_parts_and_sold_whole(tmp_path):
    store = bars_of(tmp_path, [COIN] * 6, ["BTC-CRYPTO/1day"])

    result = run(Leaves, "BTC-CRYPTO/1day", store=store, size="percent:95", cash=10_000, costs="none",
                 params={"buy": 1, "sell": 3})  # fmt: skip

    assert result.fills["size"].tolist() == [0.15833333, -0.15833333]  # 9,500 / 60,000, to a hundred-millionth
    assert result.record["position.0"].to_pylist()[-1] == 0


def test_parts_of_a_share_that_a_strategy_holds_are_closed_by_a_sizer(tmp_path):
    class Both(Leaves):
        def next(self):
            if len(self) == 1:
                self.buy(size=0.5)
            if len(self) == 3:
                self.sell()

    result = run(Both, "AAPL/1day", store=bars_of(tmp_path, [FLAT] * 5), size="percent:50")

    assert result.fills["size"].tolist() == [0.5, -0.5]


def test_a_share_that_costs_more_than_there_is_is_told(tmp_path):
    store = bars_of(tmp_path, [COIN] * 4)

    result = run(Leaves, "AAPL/1day", store=store, size="percent:95", cash=10_000)

    assert not len(result.orders_table)
    assert "because the size percent:95 was below the smallest tradable unit: 1." in result.stats.basis
    assert result.validity.verdict.words == "no order was filled"


def test_a_number_of_shares_is_a_whole_one_and_of_coins_any(tmp_path):
    store = bars_of(tmp_path, [COIN] * 3, ["BTC-CRYPTO/1day", "AAPL/1day"])

    coins = run(Leaves, "BTC-CRYPTO/1day", store=store, size="shares:0.5", costs="none")

    assert coins.fills["size"].tolist() == [0.5]
    for size, cure in (("shares:0.5", "shares:1"), ("shares:2.5", "shares:2")):
        with pytest.raises(UsageError, match=f"not a multiple of 1, .* AAPL/1day; write {cure}"):
            run(Leaves, "AAPL/1day", store=store, size=size)
    with pytest.raises(UsageError, match=r"shares:0 must be above 0 and a multiple of 1, .* write shares:1"):
        run(Leaves, "AAPL/1day", store=store, size="shares:0")
