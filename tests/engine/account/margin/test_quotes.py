"""Accounts whose money is in several currencies: by hand, and row by row against one that is kept in plain Python."""

from datetime import UTC, date, datetime

import pytest
from margin_ledger import assert_lent, lent_case, run_of
from margin_runs import LOOPS, Trades, reasons, statuses, weekdays

from backtest import Series, run
from backtest.errors import NoBars, UsageError
from backtest.market.bars import table_of
from backtest.store.reader import HeldReader

AAPL, SAP, VOD = "AAPL/1day", "SAP-STK-IBIS-EUR/1day", "VOD-STK-LSE-GBP/1day"
PAIR = "EUR-CASH-IDEALPRO-USD/1day/MIDPOINT"
NIKKEI = "NIY-FUT-CME-JPY-202409+multiplier=500/1day"


def store_of(**prices):
    """Return a reader of series by days from 2024-06-03 on: at one price, or an open and a close, each."""
    names = {"aapl": AAPL, "sap": SAP, "vod": VOD, "eurusd": PAIR, "nikkei": NIKKEI,
             "usdjpy": "USD-CASH-IDEALPRO-JPY/1day/MIDPOINT"}  # fmt: skip
    tables = {}
    for word, own in prices.items():
        days = weekdays(len(own))
        if "CASH" in names[word]:  # the rate of the Friday before is the first that is known
            days, own = [date(2024, 5, 31), *days], [own[0], *own]
        rows = []
        for day, price in zip(days, own, strict=True):
            opened, closed = price if isinstance(price, tuple) else (price, price)
            moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
            volume = None if "CASH" in names[word] else 1e6
            rows.append((moment, opened, max(opened, closed), min(opened, closed), closed, volume, None, None))
        tables[Series.parse(names[word])] = table_of(rows)
    return HeldReader("by hand", tables)


def trade(store, orders, series=(AAPL,), account="reg-t", **asked):
    pairs = {bar: [(0, given)] if isinstance(given, int) else given for bar, given in orders.items()}
    return run(Trades, list(series), store=store, params={"orders": pairs}, account=account,
               **{"costs": "none", "cash": 10_000, **asked})  # fmt: skip


@pytest.mark.parametrize("loop", LOOPS)
def test_euros_buy_twice_their_worth_of_dollars_and_not_a_share_more(loop):
    store = store_of(aapl=[100.0] * 6, eurusd=[1.25] * 6)

    result = trade(store, {1: 250, 3: 1}, currency="EUR", **loop)

    # 250 shares are 25,000 dollars, 20,000 euros; 251 require 10,040 euros.
    assert statuses(result) == ["Completed", "Margin"]
    assert reasons(result)[1].startswith("initial margin: all positions would require 10,040.00 EUR, and equity is 10")
    assert result.record["margin"].to_pylist() == [0.0] + [5_000.0] * 5


@pytest.mark.parametrize("loop", LOOPS)
def test_a_rate_that_falls_brings_a_call_at_the_next_open(loop):
    # The dollar falls: 250 shares are 25,000 / 2 = 12,500 euros, 2,500 are not owed, and 3,125 are required: a share
    # requires 12.50, and 50 are sold, for 2,500. At the same rate 10,000 are left, equity of 2,500 carries them.
    store = store_of(aapl=[100.0] * 6, eurusd=[1.25, 1.25, 2.0, 2.0, 2.0, 2.0])

    result = trade(store, {1: 250}, currency="EUR", **loop)

    assert result.record["position.0"].to_pylist() == [0, 250, 250, 250, 200, 200]
    # The close of New York, at 16:00, does not know the rate of 17:00: it counts from the day after.
    assert result.record["equity"].to_pylist() == [10_000, 10_000, 10_000, 2_500, 2_500, 2_500]
    assert reasons(result)[1].startswith("margin call: equity 2,500.00 EUR, maintenance margin 3,125.00; to be filled")


@pytest.mark.parametrize("loop", [{}, {"slippage": "0.0"}])
def test_an_order_for_this_close_is_judged_by_what_was_known_as_it_was_given(tmp_path, loop):
    # Xetra closes at 15:30 UTC, when a share of AAPL was at 50 still. The orders are given at 20:00, and it is at 100.
    store = store_of(aapl=[100.0, (50.0, 100.0), 100.0], sap=[100.0] * 3, eurusd=[1.0] * 3)
    (tmp_path / "rates.csv").write_text("product,initial_long,maintenance_long\nSTK,0.5,0.25\n")

    result = trade(store, {2: [(0, 100), (1, 90)]}, [AAPL, SAP], str(tmp_path / "rates.csv"), currency="EUR",
                   fills="this-close", **loop)  # fmt: skip

    # 190 shares at 100 require 9,500 of 10,000 euros.
    assert statuses(result) == ["Completed", "Completed"]
    assert result.record["margin"].to_pylist() == [0.0, 4_750.0, 4_750.0]


@pytest.mark.parametrize(("cash", "status"), [(1_599, "Margin"), (1_600, "Completed")])
def test_the_least_equity_is_in_dollars(cash, status):
    store = store_of(aapl=[100.0] * 4, eurusd=[1.25] * 4)

    result = trade(store, {1: -5}, currency="EUR", cash=cash)

    assert statuses(result) == [status]  # 1,600 euros are 2,000 dollars
    if status == "Margin":
        assert reasons(result)[0].startswith("minimum equity: borrowing and selling short require 1,600.00 EUR")


def test_a_future_in_yen_asks_for_the_least_equity_too():
    alone = store_of(nikkei=[38_000.0] * 4)
    store = store_of(nikkei=[38_000.0] * 4, usdjpy=[150.0] * 4)

    with pytest.raises(NoBars, match=r"backtest download USD-CASH-IDEALPRO-JPY/1day"):
        trade(alone, {1: -1}, [NIKKEI], margin="100000")
    result = trade(store, {1: -1}, [NIKKEI], margin="100000", cash=299_000)

    assert reasons(result)[0].startswith("minimum equity: borrowing and selling short require 300,000.00 JPY")


def test_a_cash_account_in_euros_pays_dollars_by_the_rate():
    store = store_of(aapl=[100.0] * 6, eurusd=[1.25] * 6)

    result = trade(store, {1: 126, 2: 125, 3: -125, 4: 1}, currency="EUR", account="cash")

    assert statuses(result) == ["Margin", "Completed", "Completed", "Completed"]
    assert reasons(result)[0] == "cash: the order needs 10,080.00 plus costs, 80.00 more than the account has"


def test_pence_require_a_hundredth_of_what_pounds_do(tmp_path):
    store = store_of(vod=[100.0] * 6)
    (tmp_path / "rates.csv").write_text("product,initial_long,maintenance_long\nSTK,0.5,0.25\n")

    result = trade(store, {1: 20_000, 3: 1}, [VOD], account=str(tmp_path / "rates.csv"))

    assert statuses(result) == ["Completed", "Margin"]  # 20,000 at 100 pence are 20,000 pounds
    assert result.record["margin"].to_pylist() == [0.0] + [5_000.0] * 5


def test_an_order_is_judged_by_no_price_of_later_on_its_day(tmp_path):
    # Frankfurt opens before New York. That AAPL will open at 60 does not keep 100 shares of SAP from being bought.
    (tmp_path / "rates.csv").write_text("product,initial_long,maintenance_long\nSTK,0.5,0.1\n")
    store = store_of(aapl=[100.0, 100.0, (60.0, 60.0), 60.0], sap=[100.0] * 4, eurusd=[1.0] * 4)

    result = trade(store, {1: [(0, 100)], 2: [(1, 100)]}, [AAPL, SAP], str(tmp_path / "rates.csv"), currency="EUR")

    assert statuses(result) == ["Completed", "Completed"]


@pytest.mark.parametrize("loop", LOOPS)
def test_what_was_bought_before_in_the_queue_counts_at_what_it_cost(tmp_path, loop):
    # AAPL is bought first, at the open of New York, at 200; SAP then, at that of Frankfurt, when AAPL was at 100 still.
    (tmp_path / "rates.csv").write_text("product,initial_long,maintenance_long\nSTK,0.5,0.25\n")
    store = store_of(aapl=[100.0, 200.0, 200.0], sap=[100.0] * 3, eurusd=[1.0] * 3)

    result = trade(store, {1: [(0, 60), (1, 50)]}, [AAPL, SAP], str(tmp_path / "rates.csv"), currency="EUR", **loop)

    # 12,000 and 5,000 require 8,500 of 10,000 euros.
    assert statuses(result) == ["Completed", "Completed"]


def test_cash_that_is_held_by_currency_is_lent_by_no_known_rule():
    store = store_of(aapl=[100.0] * 4, eurusd=[1.25] * 4)

    with pytest.raises(UsageError, match=r"account reg-t only borrows in its own currency here, .*; leave out --conv"):
        trade(store, {1: 1}, currency="EUR", conversion="ib-forex")


@pytest.mark.parametrize(("seed", "loop"), [(3, {}), pytest.param(5, {"slippage": "0.0"}, marks=pytest.mark.slow)])
def test_each_row_is_that_of_an_account_kept_in_plain_python(tmp_path, seed, loop):
    case, lent = lent_case(seed)

    book = assert_lent(case, lent, run_of(case, lent, tmp_path, **loop))

    assert book.refused > 0


@pytest.mark.slow
def test_many_more_are(tmp_path):
    called = refused = 0
    for seed in range(10, 35):  # with the others of this file 50
        case, lent = lent_case(seed)
        book = assert_lent(case, lent, run_of(case, lent, tmp_path / str(seed)))
        called, refused = called + book.called, refused + book.refused

    assert called > 2
    assert refused > 20


# --- orders at the close at which they are given


@pytest.mark.parametrize("seed", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_each_row_is_the_same_where_orders_are_filled_at_this_close(tmp_path, seed):
    case, lent = lent_case(seed, this_close=True)

    book = assert_lent(case, lent, run_of(case, lent, tmp_path, slippage="0.0" if seed % 2 else ""))

    assert book.refused > 0


@pytest.mark.slow
def test_many_more_at_this_close_are(tmp_path):
    called = 0
    for seed in range(40, 61):
        case, lent = lent_case(seed, this_close=True)
        called += assert_lent(case, lent, run_of(case, lent, tmp_path / str(seed))).called

    assert called > 3
