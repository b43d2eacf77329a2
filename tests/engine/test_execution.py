"""How orders meet the market: never outside a bar, and cash, shares, fills and costs agree at every bar."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import backtrader as bt
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from backtest.api import run
from backtest.engine.account.commissions import COSTS
from backtest.engine.execution import Slippage
from backtest.errors import NoBars, UsageError
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.research.lookahead import look_ahead
from backtest.store.store import Store

START = datetime(2024, 1, 2, tzinfo=UTC)
KINDS = ["Market", "Limit", "Stop", "StopLimit", "StopTrail", "StopTrailLimit", "Close"]


def store_of(folder, rows, name="AAPL/1day"):
    """Return a store with rows of open, high, low, close and volume, a calendar day each."""
    table = [(START + timedelta(days=n), *row, None, None) for n, row in enumerate(rows)]
    store = Store(folder)
    store.write(Series.parse(name), Span(START, START + timedelta(days=len(rows))), table_of(table))
    return store


class Orders(bt.Strategy):
    """Give the orders of a plan: "bar kind size distance" each, the distance of its price from the close."""

    params = (("plan", ""),)

    def next(self):
        for text in self.p.plan.split(";"):
            bar, kind, size, distance = text.split() if text else ("0", "", "0", "0")
            if int(bar) == len(self):
                self.give(kind, int(size), float(distance))

    def give(self, kind, size, distance):
        price = max(self.data.close[0] * (1 + distance), 0.01)
        prices = {
            "Market": {},
            "Close": {},
            "Limit": {"price": price},
            "Stop": {"price": price},
            "StopLimit": {"price": price, "plimit": price * (1 + 0.3 * distance)},
            "StopTrail": {"trailpercent": abs(distance) + 0.01},
            "StopTrailLimit": {"price": price, "plimit": price * 1.001, "trailpercent": abs(distance) + 0.01},
        }[kind]
        order = self.buy if size > 0 else self.sell
        order(size=abs(size), exectype=getattr(bt.Order, kind), **prices)


@st.composite
def bars(draw):
    """Draw bars that hold together: high at the top, low at the bottom, gaps between them, now and then no volume."""
    price, rows = 100.0, []
    for _ in range(draw(st.integers(5, 14))):
        gap, body, up, down = (draw(st.floats(-0.08, 0.08)) for _ in range(4))
        opened = price * (1 + gap)
        price = opened * (1 + body)
        high, low = max(opened, price) * (1 + abs(up)), min(opened, price) * (1 - abs(down))
        rows.append((opened, high, low, price, float(draw(st.sampled_from([0, 3, 50, 1000, 10_000])))))
    return rows


ORDER = st.tuples(st.integers(1, 13), st.sampled_from(KINDS), st.integers(-90, 90).filter(bool), st.floats(-0.1, 0.1))
ASKED = st.fixed_dictionaries({
    "slippage": st.sampled_from(["", "5bp", "300bp", "0.5", "impact:0.1", "impact:3"]),
    "volume_cap": st.sampled_from([0.0, 0.1, 0.5]),
    "fills": st.sampled_from(["next-bar", "next-bar", "this-close"]),
    "costs": st.sampled_from([*(name for name in COSTS if name != "ib-forex"), "bp:5"]),
}).filter(lambda asked: not (asked["volume_cap"] and asked["fills"] == "this-close"))  # fmt: skip


@pytest.mark.slow
@settings(phases=[Phase.generate])  # to shrink what fails takes minutes
@given(rows=bars(), plan=st.lists(ORDER, max_size=8), asked=ASKED)
def test_no_fill_is_outside_its_bar_and_the_account_agrees_at_every_bar(tmp_path_factory, rows, plan, asked):
    store = store_of(tmp_path_factory.mktemp("bars"), rows)
    text = ";".join(f"{bar} {kind} {size} {distance!r}" for bar, kind, size, distance in plan)

    result = run(Orders, "AAPL/1day", store=store, params={"plan": text}, **asked)

    assert_inside(result, rows)
    assert_agrees(result, rows)


def assert_inside(result, rows):
    places = {START + timedelta(days=n): row for n, row in enumerate(rows)}
    for fill in result.fills.itertuples():
        _, high, low, _, _ = places[fill.time]
        assert low * (1 - 1e-12) <= fill.price <= high * (1 + 1e-12)


def assert_agrees(result, rows):
    fills, record = result.fills, result.record.to_pandas()
    held = np.array([fills["size"][fills["time"] <= time].sum() for time in record["time"]])
    if result.spec.brokerage.fills == "next-bar":
        paid = [
            (fills["size"] * fills["price"] + fills["costs"])[fills["time"] <= time].sum() for time in record["time"]
        ]
        assert record["position.0"].to_numpy() == pytest.approx(held, abs=1e-9)
        assert record["cash"].to_numpy() == pytest.approx(100_000 - np.array(paid), abs=1e-9 * 100_000)
    closes = np.array([row[3] for row in rows])
    worth = record["cash"].to_numpy() + record["position.0"].to_numpy() * closes
    assert record["equity"].to_numpy() == pytest.approx(worth, abs=1e-9 * 100_000)
    if result.spec.brokerage.volume_cap:
        by_bar = fills["size"].abs().groupby(fills["time"]).sum()
        volumes = {START + timedelta(days=n): row[4] for n, row in enumerate(rows)}
        assert all(size <= result.spec.brokerage.volume_cap * volumes[time] for time, size in by_bar.items())


# --- by hand

BARS = [(100, 101, 99, 100, 1000), (100, 102, 99.98, 101, 1000), (103, 104, 102, 103, 400), (103, 105, 101, 104, 400)]


def fills_of(folder, plan, rows=BARS, strategy=Orders, **asked):
    result = run(strategy, "AAPL/1day", store=store_of(folder, rows), params={"plan": plan}, costs="none", **asked)
    return [(fill.time.day - 2, fill.size, round(fill.price, 6)) for fill in result.fills.itertuples()]


@pytest.mark.parametrize(
    ("slippage", "bought", "sold"),
    [
        ("", 100.0, 103.0),
        ("5bp", 100.05, 102.9485),
        ("0.25", 100.25, 102.75),
        ("300bp", 102.0, 102.0),  # to the high, and to the low, and no further
        ("impact:0.02", 100 * (1 + 0.02 * 0.1), 103 * (1 - 0.02 * np.sqrt(10 / 400))),
    ],
)
def test_an_order_at_the_market_slips_against_it(tmp_path, slippage, bought, sold):
    found = fills_of(tmp_path, "1 Market 10 0;2 Market -10 0", slippage=slippage)

    assert found == [(1, 10, pytest.approx(bought)), (2, -10, pytest.approx(sold, abs=1e-6))]


def test_a_limit_is_not_slipped_through(tmp_path):
    for slippage in ("5bp", "0.25", "impact:1"):
        found = fills_of(tmp_path / slippage[:2], "1 Limit 10 -0.0001", slippage=slippage)

        assert found == [(1, 10, 99.99)]


def test_more_than_the_cap_waits_for_the_next_bar_and_all_orders_share_it(tmp_path):
    found = fills_of(tmp_path, "1 Market 130 0;1 Market 40 0", volume_cap=0.1)

    assert found == [(1, 100, 100.0), (2, 30, 103.0), (2, 10, 103.0), (3, 30, 103.0)]


@pytest.mark.slow
def test_a_close_that_was_decided_by_is_had_only_if_asked_for_and_then_told(tmp_path):
    rows = store_of(tmp_path, BARS)
    asked = {"store": rows, "params": {"plan": "2 Market 10 0"}, "costs": "none", "slippage": "50bp"}

    at_close, at_open = (run(Orders, "AAPL/1day", **asked, fills=fills) for fills in ("this-close", "next-bar"))

    assert at_close.fills["price"].tolist() == [pytest.approx(101 * 1.005)]
    assert at_open.fills["price"].tolist() == [pytest.approx(103 * 1.005)]
    assert [one.manifest["market"]["filled_in_their_own_bar"] for one in (at_close, at_open)] == [1, 0]
    assert "market orders filled at the signal bar's close" in " ".join(repr(at_close).split())
    assert {leak.change for leak in look_ahead(Orders, "AAPL/1day", **asked, fills="this-close", cuts=0)} == {
        "filled in its own bar"
    }


def test_a_fill_at_the_close_slips_within_its_own_bar_though_the_next_is_missing(tmp_path):
    store = store_of(tmp_path, [(10.0, 10.5, 9.5, 10.0, 1e6), (20.0, 21.0, 19.0, 20.0, 1e6)])
    other = [(START + timedelta(days=n), 5.0, 5.0, 5.0, 5.0, 1e6, None, None) for n in range(3)]
    store.write(Series.parse("MSFT/1day"), Span(START, START + timedelta(days=3)), table_of(other))

    result = run(
        Orders, ["AAPL/1day", "MSFT/1day"], store=store, params={"plan": "2 Market 10 0"}, costs="none",
        fills="this-close", slippage="0.25",
    )  # fmt: skip

    assert result.fills["price"].tolist() == [20.25]  # and not at 10.5, the high of the bar before


def test_a_strategy_that_helps_itself_to_the_close_is_told_on(tmp_path):
    class Sly(Orders):
        def start(self):
            self.broker.set_coc(True)

    result = run(Sly, "AAPL/1day", store=store_of(tmp_path, BARS), params={"plan": "2 Market 10 0"})

    assert result.manifest["market"]["fills"] == "next-bar"
    assert result.manifest["market"]["filled_in_their_own_bar"] == 1
    assert "orders filled in their own bar despite next-bar fills: 1" in " ".join(repr(result).split())


def quotes(folder, bids, asks):
    store = store_of(folder, BARS)
    for name, opens in (("BID", bids), ("ASK", asks)):
        table = [(START + timedelta(days=n), p, p, p, p, None, None, None) for n, p in enumerate(opens) if p]
        store.write(Series.parse(f"AAPL/1day/{name}"), Span(START, START + timedelta(days=9)), table_of(table))
    return store


def test_half_of_the_stored_spread_is_paid_on_each_side(tmp_path):
    store = quotes(tmp_path, [99.9, 99.8, 102.9, None], [100.1, 100.2, 103.3, 105.0])
    plan = "1 Market 10 0;2 Market -10 0;3 Market 10 0"

    result = run(Orders, "AAPL/1day", store=store, params={"plan": plan}, costs="none", slippage="spread")

    assert result.fills["price"].tolist() == pytest.approx([100.2, 102.8, 103.0])  # of the last bar there is no bid


def test_a_spread_that_is_not_stored_says_how_to_get_it(tmp_path):
    with pytest.raises(NoBars, match="backtest download AAPL/1day/BID"):
        run(Orders, "AAPL/1day", store=store_of(tmp_path, BARS), slippage="spread")


@pytest.mark.parametrize("text", ["bp", "impact:", "-1", "x", "5 bp bp", "inf"])
def test_a_slippage_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match="write 5bp"):
        Slippage.parse(text)


def test_a_run_without_slippage_stays_in_the_lean_loop(tmp_path, caplog):
    caplog.set_level("INFO", "backtest.engine.lean.cerebro")
    store = store_of(tmp_path, BARS)

    run(Orders, "AAPL/1day", store=store, costs="ib-tiered")
    lean = len(caplog.records)
    run(Orders, "AAPL/1day", store=store, slippage="5bp")

    assert lean == 0
    assert "its broker is not Backtrader's own" in caplog.records[0].getMessage()


def test_a_limit_that_the_open_reaches_slips_to_its_price_and_no_further(tmp_path):
    rows = [(100, 100, 100, 100, 9), (100, 101, 100, 100, 9), (100, 110, 90, 100, 9)]

    # Backtrader's own slippage would sell the first at 97, below the low of its bar.
    assert fills_of(tmp_path / "a", "1 Limit -1 -0.0625", rows, slippage="300bp") == [(1, -1, 100)]
    assert fills_of(tmp_path / "b", "2 Limit -1 -0.0625", rows, slippage="300bp") == [(2, -1, 97)]
    assert fills_of(tmp_path / "c", "2 Limit -1 -0.01", rows, slippage="300bp") == [(2, -1, 99)]


def test_impact_grows_with_the_root_of_the_size(tmp_path):
    rows = [(100.0, 200.0, 1.0, 100.0, 10_000.0)] * 3
    prices = [fills_of(tmp_path / str(n), f"1 Market {n} 0", rows, slippage="impact:1")[0][2] - 100 for n in (1, 4, 16)]

    assert [after / before for before, after in pairwise(prices)] == pytest.approx([2, 2])


class Half(bt.Strategy):
    """Buys so much at the first bar."""

    params = (("size", 0.5),)

    def next(self):
        if len(self) == 1:
            self.buy(size=self.p.size)


@pytest.mark.parametrize(
    ("size", "volumes", "fills"),
    [
        (0.5, [7.5, 7.5], [0.5]),  # a tenth of it is more
        (0.3, [9, 1, 2, 9], [0.1, 0.2]),  # binary fractions leave no third fill
        (0.8, [9, 7, 1, 9], [0.7, 0.1]),
    ],
)
def test_a_volume_cap_of_coins_goes_by_their_step(tmp_path, size, volumes, fills):
    store = store_of(tmp_path, [(60.0, 60.0, 60.0, 60.0, float(one)) for one in volumes], "BTC-CRYPTO/1day")

    result = run(Half, "BTC-CRYPTO/1day", store=store, volume_cap=0.1, costs="none", params={"size": size})

    assert result.fills["size"].tolist() == pytest.approx(fills, abs=1e-12)
    assert result.orders["status"].tolist() == ["Completed"]


def test_a_volume_cap_below_one_share_is_told(tmp_path):
    store = store_of(tmp_path, [(60.0, 60.0, 60.0, 60.0, 7.5)] * 4)

    result = run(Half, "AAPL/1day", store=store, volume_cap=0.1, params={"size": 2})

    assert not len(result.fills_table)
    assert "Bars without fills, because the volume cap was below the smallest tradable unit: 3." in result.stats.basis
    assert result.validity.verdict.words == "no order was filled"
