"""Accounts in a run: what they refuse and sell; each number is one that a reader can check by hand."""

from datetime import UTC, date, datetime

import backtrader as bt
import pytest
from margin_runs import LOOPS, NAMES, Trades, overdrawn, random_run, reasons, statuses, store_of, trade, weekdays

from backtest import Series, Span, Store, combine, look_ahead, next_orders, run, sweep
from backtest.engine.account.dividends import Dividends, DividendTable
from backtest.engine.account.margin.tables import MarginTable, margin_table
from backtest.errors import UsageError
from backtest.market.bars import table_of
from backtest.report.run_page import write_report
from backtest.research.out_of_sample.walk_forward import request_of
from backtest.research.search.job import Point, job_of


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """Ten days at 100."""
    return store_of(tmp_path_factory.mktemp("flat"), [[100.0] * 10, [50.0] * 10])


def held(result, n=0):
    return result.record[f"position.{n}"].to_pylist()


# --- what it buys


@pytest.mark.parametrize("loop", LOOPS)
def test_equity_buys_twice_as_much_and_not_a_share_more(flat, loop):
    result = trade(flat, {1: 200, 3: 1}, "reg-t", **loop)

    assert statuses(result) == ["Completed", "Margin"]
    assert held(result) == [0] + [200] * 9
    assert reasons(result)[1].startswith(
        "initial margin: all positions would require 10,050.00 USD, and equity is 10,0"
    )
    assert result.manifest["notes"]["told"] == [reasons(result)[1]]  # which the strategy reads as order.info.reason


@pytest.mark.parametrize("loop", LOOPS)
def test_equity_sells_short_twice_as_much_and_not_a_share_more(flat, loop):
    result = trade(flat, {1: -200, 3: -1, 5: 50}, "reg-t", **loop)

    assert statuses(result) == ["Completed", "Margin", "Completed"]
    assert held(result)[-1] == -150


def test_long_and_short_positions_both_require_margin(flat):
    result = trade(flat, {1: [(0, 100), (1, -200)], 3: [(1, -1)]}, "reg-t", NAMES)

    assert statuses(result) == ["Completed", "Completed", "Margin"]


def test_an_open_that_jumps_is_judged_again_as_the_order_is_filled(tmp_path):
    store = store_of(tmp_path, [[100, 101, 101]])

    result = trade(store, {1: 200}, "reg-t")

    assert statuses(result) == ["Margin"]
    assert "would require 10,100.00 USD, and equity is 10,000.00" in reasons(result)[0]


@pytest.mark.parametrize("loop", LOOPS)
def test_an_order_is_judged_as_it_is_submitted_by_no_open_that_comes_later(tmp_path, loop):
    store = store_of(tmp_path, [[100.0, 100.0, (200.0, 200.0), 200.0], [50.0] * 4])

    result = trade(store, {1: [(0, 100)], 2: [(1, 201)]}, "reg-t", NAMES, **loop)

    # At the close 5,000 and 5,025 are more than equity is; at the open of 200 they would not be.
    assert statuses(result) == ["Completed", "Margin"]
    assert reasons(result)[1].startswith(
        "initial margin: all positions would require 10,025.00 USD, and equity is 10,0"
    )


def test_an_order_that_turns_a_position_closes_it_and_opens_what_is_allowed_or_nothing(flat):
    result = trade(flat, {1: 100, 3: -400}, "reg-t")

    assert statuses(result) == ["Completed", "Margin"]
    assert held(result)[-1] == 100  # refused as it was submitted, before anything was filled


def test_below_the_least_equity_nothing_is_lent(flat):
    result = trade(flat, {1: 15, 3: 5, 5: -16}, "reg-t", cash=1_500)

    assert statuses(result) == ["Completed", "Margin", "Margin"]
    assert [one.partition(":")[0] for one in reasons(result)] == ["", "minimum equity", "minimum equity"]


def test_costs_count_as_an_order_is_judged(flat):
    result = trade(flat, {1: 200, 3: 198}, "reg-t", costs="ib-fixed")

    assert statuses(result) == ["Margin", "Completed"]  # 10,000 are required, and equity would be 9,999


# --- IB's own example, as a run


def test_the_example_of_ib_is_carried_out(tmp_path):
    # IBKR, "Securities Margin Example": 500 XYZ at 40, which rises to 45, falls to 35, and is sold at 45; then 500 ABC
    # at 101 are refused. 300 at 100 are let in by IB, and sold at the end of the day, as 15,000 are required; here they
    # are refused at once.
    store = store_of(tmp_path, [[40.0, 40.0, (45.0, 35.0), 45.0, 45.0, 45.0, 45.0], [101.0] * 5 + [100.0] * 2])

    result = trade(store, {1: [(0, 500)], 3: [(0, -500)], 4: [(1, 500)], 6: [(1, 300)]}, "reg-t", NAMES)

    assert statuses(result) == ["Completed", "Completed", "Margin", "Margin"]
    assert result.record["cash"].to_pylist() == [10_000.0, -10_000.0, -10_000.0] + [12_500.0] * 4
    assert result.record["equity"].to_pylist()[:4] == [10_000.0, 10_000.0, 7_500.0, 12_500.0]
    assert result.record["margin"].to_pylist() == [0.0, 5_000.0, 4_375.0, 0.0, 0.0, 0.0, 0.0]
    assert "would require 25,250.00 USD, and equity is 12,500.00" in reasons(result)[2]
    assert "would require 15,000.00 USD, and equity is 12,500.00" in reasons(result)[3]


@pytest.mark.parametrize("loop", LOOPS)
def test_the_fall_of_the_example_ends_in_a_sale(tmp_path, loop):
    # Its alternate day 5, with as many shares of 100 as 12,500 carry, 250: at 66 they are 16,500, equity is 4,000, and
    # 4,125 are required: 125 / 16.50 are 7.6 shares, which are sold at 64.
    store = store_of(tmp_path, [[100.0, 100.0, 66.0, 64.0, 64.0]])

    result = trade(store, {1: 250}, "reg-t", cash=12_500, **loop)

    assert reasons(result)[1].startswith("margin call: equity 4,000.00 USD, maintenance margin 4,125.00")
    assert result.fills["price"].tolist() == [100.0, 64.0, 64.0]
    assert result.trades["reason"].tolist() == reasons(result)[1:]
    assert result.record["margin"].to_pylist()[2] == 4_125.0
    # 242 at 64 require 3,872, and equity is 3,500: 372 / 16 are 23.3 shares more.
    assert held(result) == [0, 250, 250, 242, 218]


@pytest.fixture(scope="module")
def fallen(tmp_path_factory):
    """Return a run of 250 shares that were bought at 100 with 12,500, and fell to 66."""
    store = store_of(tmp_path_factory.mktemp("fallen"), [[100.0, 100.0, 66.0, 64.0, 64.0]])
    return trade(store, {1: 250, 2: 1}, "reg-t", cash=12_500)


def test_money_that_is_borrowed_without_interest_is_told(fallen, flat):
    assert "No interest was charged on borrowed money, 12,500.00 USD at most; see --interest." in fallen.stats.basis
    for account, interest in (("reg-t", "ib"), ("backtrader", "")):
        assert "Borrowed" not in trade(flat, {1: 20}, account, interest=interest).stats.basis
    assert "Borrowed" not in trade(flat, {1: 20}, "reg-t").stats.basis


def test_a_fall_is_told_in_numbers_and_words(fallen):
    assert fallen.stats["margin_used"] == pytest.approx(3_872 / 3_500)
    assert fallen.stats["margin_calls"] == 2
    assert fallen.stats["max_gross_leverage"] == pytest.approx(242 * 64 / 3_500)
    assert "Orders rejected: 1 of 4 (initial margin 1). Orders placed by margin calls: 2." in (fallen.stats.basis)
    assert "account reg-t" in fallen.stats.basis


@pytest.mark.slow
def test_a_fall_is_on_the_page(fallen, tmp_path):
    text = write_report(fallen, tmp_path / "page").read_text("utf-8")

    assert "account reg-t" in text
    assert '<h2 id="called">Margin calls</h2>' in text
    assert "margin call: equity 4,000.00 USD, maintenance margin 4,125.00" in text
    assert "initial margin: all positions would require 12,550.00 USD" in text
    assert "Equity and maintenance margin" in text
    assert "Positions required up to 6,250 USD while held; 2 margin calls." in text
    assert text.count("<td>margin call</td>") == 2  # round trips that ended so


# --- calls


def test_a_short_position_that_rises_is_bought_back(tmp_path):
    store = store_of(tmp_path, [[100.0, 100.0, 115.0, 116.0, 116.0]])

    result = trade(store, {1: -200}, "reg-t")

    # 30,000 less 23,000 are 7,000; 30 % of 23,000 are 6,900. At 116: 6,800 and 6,960: 160 / 34.80 are 4.6 shares.
    assert held(result) == [0, -200, -200, -200, -195]


@pytest.mark.parametrize("loop", LOOPS)
def test_what_the_account_sells_goes_before_what_the_strategy_has_open(tmp_path, loop):
    store = store_of(tmp_path, [[100.0, 100.0, 58.0, 50.0, 50.0]])

    result = trade(store, {1: 180, 2: [(0, -180, 55.0)]}, "reg-t", **loop)

    # 180 at 58: equity 2,440, required 2,610; 170 / 14.50 are 11.7 shares. The stop of 180 closes what is left.
    assert held(result) == [0, 180, 180, 0, 0]
    assert result.fills["size"].tolist() == [180, -168, -12]
    assert statuses(result) == ["Completed", "Margin", "Completed"]
    assert [one.partition(":")[0] for one in reasons(result)] == ["", "minimum equity", "margin call"]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_dividend_that_short_positions_pay_may_bring_the_call(tmp_path, loop):
    store, day = store_of(tmp_path, [[100.0] * 6]), weekdays(6)[3].isoformat()
    paid = DividendTable("table", {"AAPL-STK-SMART-USD/1day/TRADES/rth": Dividends("USD", (day,), (25.0,), "by hand")})

    result = trade(store, {1: -200}, "reg-t", dividends=paid, **loop)

    # 10,000 less 5,000 are less than 30 % of 20,000: 1,000 / 30 are 33.3 shares.
    assert held(result) == [0, -200, -200, -200, -166, -166]


def test_a_call_that_the_lean_loop_has_to_look_far_ahead_for_is_found(tmp_path):
    prices = [100.0] * 400 + [60.0] * 5
    store = store_of(tmp_path, [prices])

    result = trade(store, {1: 200}, "reg-t")

    assert held(result)[400] == 200  # 2,000 of equity, and 3,000 are required
    assert held(result)[401] == 133  # 1,000 / 15 are 66.7 shares


@pytest.mark.slow
def test_all_loops_do_the_same_to_the_last_bit(tmp_path):
    for account in ("cash", "reg-t"):
        every = [random_run(tmp_path / f"{account}{n}", 4, account, count=20, own=loop) for n, loop in enumerate(LOOPS)]

        assert any(reasons(every[0]))
        for one in every[1:]:
            assert one.record.equals(every[0].record)
            assert one.orders_table.equals(every[0].orders_table)
            assert one.fills_table.select(every[0].fills_table.column_names).equals(every[0].fills_table)


def test_the_lean_loop_is_not_left(flat, caplog):
    caplog.set_level("INFO", "backtest.engine.lean.cerebro")

    trade(flat, {1: 200}, "reg-t")
    trade(flat, {1: 50}, "cash")

    assert "Backtrader's own loop" not in caplog.text


# --- the cash account


@pytest.mark.parametrize("loop", LOOPS)
def test_a_cash_account_sells_nothing_short_and_borrows_nothing(flat, loop):
    result = trade(flat, {1: -1, 3: 101, 5: 100}, "cash", **loop)

    assert statuses(result) == ["Rejected", "Margin", "Completed"]
    assert [one.partition(":")[0] for one in reasons(result)] == ["short sale", "cash", ""]
    assert "margin" not in result.record.column_names


@pytest.mark.parametrize("loop", LOOPS)
def test_what_was_sold_is_spent_when_it_has_settled(flat, loop):
    # All is sold at the open of Thursday, the 6th, and settles on Friday: an order for that open is paid, one for
    # Thursday's own close is not.
    result = trade(flat, {1: 100, 3: [(0, -100), (1, 10)], 4: [(1, 200)]}, "cash", NAMES, **loop)

    assert statuses(result) == ["Completed", "Completed", "Margin", "Completed"]
    assert reasons(result)[2].startswith("cash: the order needs 500.00 plus costs, 500.00 more than the account has")


def test_until_2024_it_took_two_settlement_days(tmp_path):
    store = store_of(tmp_path, [[100.0] * 8, [50.0] * 8], date(2024, 3, 4))

    result = trade(store, {1: 100, 3: -100, 4: [(1, 10)], 5: [(1, 10)]}, "cash", NAMES)

    # Sold on Thursday, the 7th, settled on Monday, the 11th: not there on Friday.
    assert statuses(result) == ["Completed", "Completed", "Margin", "Completed"]
    assert reasons(result)[2].endswith("10,000.00 will settle by 2024-03-11")


class Brackets(bt.Strategy):
    """Buys with a stop and a limit to sell, as a bracket or by itself, one of which ends the other."""

    params = (("bracket", True),)

    def next(self):
        if len(self) == 1 and self.p.bracket:
            self.buy_bracket(size=50, exectype=bt.Order.Market, price=100, stopprice=80, limitprice=120)
        elif len(self) == 1:
            self.buy(size=50)
        elif len(self) == 3 and not self.p.bracket:
            stop = self.sell(size=50, exectype=bt.Order.Stop, price=80)
            self.sell(size=50, exectype=bt.Order.Limit, price=120, oco=stop)


@pytest.mark.parametrize("bracket", [True, False])
@pytest.mark.parametrize("account", ["cash", "reg-t"])
def test_two_ways_out_of_a_position_are_no_short_sale(tmp_path, account, bracket):
    store = store_of(tmp_path, [[100.0, 100.0, 100.0, 100.0, 121.0, 121.0]])

    result = run(
        Brackets, NAMES[0], store=store, account=account, cash=5_500, costs="none", params={"bracket": bracket}
    )

    assert sorted(statuses(result)) == ["Canceled", "Completed", "Completed"]
    assert held(result)[-1] == 0


def test_what_is_sold_in_the_morning_is_not_spent_in_the_afternoon(tmp_path):
    store, moments = Store(tmp_path), [datetime(2024, 6, day, hour, 30, tzinfo=UTC) for day in (3, 4) for hour in
                                       range(14, 20)]  # fmt: skip
    for name in ("AAPL/1hour", "MSFT/1hour"):
        rows = [(moment, 100.0, 100.0, 100.0, 100.0, 1e6, None, None) for moment in moments]
        store.write(Series.parse(name), Span.of_dates(date(2024, 6, 3), date(2024, 6, 5)), table_of(rows))
    orders = {1: [(0, 100)], 3: [(0, -100)], 4: [(1, 10)], 5: [(1, 10)], 6: [(1, 10)]}  # the sixth bar is the last

    result = trade(store, orders, "cash", ("AAPL/1hour", "MSFT/1hour"))

    assert statuses(result) == ["Completed", "Completed", "Margin", "Margin", "Completed"]
    assert reasons(result)[2].startswith("settled cash: the order needs 1,000.00 plus costs, 1,000.00 more than has")


def test_the_compiled_engine_makes_no_such_run(flat):
    with pytest.raises(UsageError, match="the compiled engine does not support account"):
        trade(flat, {1: 10}, "reg-t", engine="compiled")


@pytest.mark.parametrize("loop", LOOPS)
def test_a_future_requires_its_margin_and_is_called_for_more(tmp_path, loop):
    store, name = Store(tmp_path), "ES-FUT-CME-USD-202409+multiplier=50/1day"
    rows = [(datetime(day.year, day.month, day.day, tzinfo=UTC), price, price, price, price, 1e6, None, None)
            for day, price in zip(weekdays(5), [5_000.0, 5_000.0, 4_900.0, 4_900.0, 4_900.0], strict=True)]  # fmt: skip
    store.write(Series.parse(name), Span.of_dates(date(2024, 6, 3), date(2024, 6, 8)), table_of(rows))

    result = trade(store, {1: 3, 2: 1}, "reg-t", (name,), cash=50_000, margin="15000", **loop)

    # 45,000 of 50,000; 60,000 are refused. A hundred points of three contracts are 15,000: 35,000 carry two.
    assert statuses(result) == ["Completed", "Margin", "Completed"]
    assert held(result) == [0, 3, 3, 2, 2]
    assert result.record["margin"].to_pylist() == [0, 45_000, 45_000, 30_000, 30_000]
    assert result.record["equity"].to_pylist() == [50_000, 50_000, 35_000, 35_000, 35_000]


# --- a file, and contracts


def test_a_file_of_rates_has_no_least_of_its_own(flat, tmp_path):
    (tmp_path / "rates.csv").write_text("product,initial_long,maintenance_long\nSTK,0.2,0.1\n")

    result = trade(flat, {1: 500, 3: 1, 5: -501}, str(tmp_path / "rates.csv"))

    assert statuses(result) == ["Completed", "Margin", "Rejected"]
    assert result.spec.brokerage.account == "rates.csv"
    assert result.manifest["account"]["rates"] == {"STK": {"initial_long": 0.2, "maintenance_long": 0.1,
                                                           "by_contract": False, "with_floor": False}}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "price", "line", "most", "step"),
    [
        ("EUR-CASH-IDEALPRO-USD/1day/MIDPOINT", 1.25, "CASH,0.025,0.025,0.025,0.025", 320_000, 1),
        ("IBM-CFD-SMART-USD/1day/MIDPOINT", 100.0, "CFD,0.2,0.1,0.2,0.1", 500, 1),
        ("BTC-CRYPTO-PAXOS-USD/1day/AGGTRADES", 40_000.0, "CRYPTO,1,1,,", 0.25, 1e-8),
    ],
)
@pytest.mark.parametrize("side", [1, -1])
def test_currencies_cfds_and_coins_require_what_a_file_says(tmp_path, name, price, line, most, step, side):
    series, store = Series.parse(name), Store(tmp_path / "bars")
    rows = [(datetime(day.year, day.month, day.day, tzinfo=UTC), price, price, price, price, None, None, None)
            for day in weekdays(5)]  # fmt: skip
    store.write(series, Span.of_dates(date(2024, 6, 3), date(2024, 6, 8)), table_of(rows))
    (tmp_path / "rates.csv").write_text(
        f"product,initial_long,maintenance_long,initial_short,maintenance_short\n{line}\n"
    )

    costs = bt.CommInfoBase(stocklike=True) if "CFD" in name else "none"  # of which there is no model
    orders = {1: side * (most + step), 3: side * most}
    result = trade(store, orders, str(tmp_path / "rates.csv"), (name,), costs=costs)

    refused = "Rejected" if side < 0 and line.endswith(",,") else "Margin"  # a coin is not sold short
    assert statuses(result) == [refused, refused if refused == "Rejected" else "Completed"]
    kept = float(line.split(",")[2])
    assert result.record["margin"][-1].as_py() == pytest.approx(0.0 if refused == "Rejected" else most * price * kept)


def test_without_an_account_nothing_is_added(flat):
    result = trade(flat, {1: 50}, "backtrader")

    assert "margin" not in result.record.column_names
    assert "reason" not in result.orders_table.column_names
    assert "account" not in result.manifest


def test_a_kept_run_comes_back(tmp_path):
    store = store_of(tmp_path / "bars", [[100.0, 100.0, 60.0, 60.0, 60.0]])
    result = trade(store, {1: 200}, "reg-t")

    again = type(result).load(result.save(tmp_path / "kept"))

    assert again.spec == result.spec
    assert reasons(again) == reasons(result)
    assert MarginTable.read(again.manifest["account"]) == margin_table("reg-t")
    assert again.name == result.name


@pytest.mark.parametrize(("account", "paid"), [("reg-t", [True, False]), ("cash", [False, True])])
def test_what_would_be_ordered_next_is_judged_by_the_account(flat, account, paid):
    found = next_orders(
        Trades,
        NAMES,
        store=flat,
        account=account,
        costs="none",
        cash=10_000,
        params={"orders": {10: [(0, 150), (1, 110)]}},
    )

    assert [one.paid for one in found.orders] == paid


@pytest.mark.parametrize(("bar", "paid"), [(8, True), (9, False)])
def test_what_settles_by_the_next_open_pays_for_what_would_be_ordered_next(tmp_path, bar, paid):
    store = store_of(tmp_path, [[100.0] * 10, [50.0] * 10], date(2024, 3, 4))  # two settlement days

    found = next_orders(
        Trades, NAMES, store=store, account="cash", costs="none", cash=10_000,
        params={"orders": {1: [(0, 100)], bar: [(0, -100)], 10: [(1, 100)]}},
    )  # fmt: skip

    assert [one.paid for one in found.orders] == [paid]


@pytest.mark.slow
def test_a_sweep_of_such_runs_equals_single_runs(tmp_path):
    store, rates = store_of(tmp_path / "bars", [[100.0, 100.0, 66.0, 64.0, 64.0]]), tmp_path / "rates.csv"
    rates.write_text("product,initial_long,maintenance_long\nSTK,0.4,0.3\n")
    grid = {"orders": [{1: [(0, 250)]}, {1: [(0, 240)], 3: [(0, -100)]}, {1: [(0, -10)]}]}

    for account in ("cash", "reg-t", str(rates)):
        asked = {"store": store, "account": account, "cash": 12_500, "costs": "none"}
        found = sweep(Trades, NAMES[0], grid, rank="total_return", **asked)

        for trial in found.trials:
            single = run(Trades, NAMES[0], params=trial.params, **asked)
            assert not trial.error
            assert {name: trial.metrics[name] for name in MEASURED} == pytest.approx(
                {name: single.stats[name] for name in MEASURED}, nan_ok=True, rel=0, abs=0
            )


MEASURED = ("total_return", "margin_used", "margin_calls", "max_net_leverage", "rejected_orders")


def test_other_rates_make_other_trials(tmp_path, flat):
    rates, keys = tmp_path / "rates.csv", set()
    for initial in ("0.4", "0.5"):
        rates.write_text(f"product,initial_long,maintenance_long\nSTK,{initial},0.3\n")
        for account in (str(rates), "reg-t", "cash", "backtrader"):
            keys.add(job_of(Trades, NAMES[0], store=flat, swept=["orders"], account=account).key(Point({"orders": {}})))

    assert len(keys) == 5  # both of the file, and the words


def test_a_walk_forward_of_such_a_run_has_its_account(tmp_path):
    store, rates = store_of(tmp_path / "bars", [[100.0] * 60]), tmp_path / "rates.csv"
    rates.write_text("product,initial_long,maintenance_long\nSTK,0.4,0.3\n")
    result = trade(store, {1: 200}, str(rates))
    rates.unlink()

    assert request_of(result, {}, None)["brokerage"].account == MarginTable.read(result.manifest["account"])


def test_runs_with_and_without_rules_are_combined(fallen, flat):
    other = trade(flat, {1: 10, 3: 5_000}, "backtrader", NAMES[1:])

    found = combine([fallen, other])

    assert "Orders rejected: " in found.stats.basis
    assert found.stats.reasons["margin_used"] == "no margin account"


@pytest.mark.soak
def test_the_check_for_the_future_finds_none_in_margin_calls(tmp_path):
    prices = [100.0, 100.0, 66.0, 64.0, 64.0, 70.0, 70.0, 60.0, 55.0, 55.0]
    store = store_of(tmp_path, [prices])
    orders = {1: [(0, 250)]}

    assert look_ahead(Trades, NAMES[0], store=store, params={"orders": orders}, cuts=3, account="reg-t", cash=12_500,
                      costs="none") == []  # fmt: skip


# --- laws


@pytest.mark.parametrize("account", ["cash", "reg-t"])
def test_no_random_order_ends_with_more_leverage_than_the_account_allows(tmp_path, account):
    orders, opened = 0, 0
    for seed in range(3):
        result = random_run(tmp_path / str(seed), seed, account, count=30)
        found, some = overdrawn(result, account)
        orders, opened = orders + len(result.orders_table), opened + some

        assert not found

    assert orders > 60
    assert opened > 5


def test_the_check_of_leverage_tells_an_account_without_rules(tmp_path):
    result = random_run(tmp_path, 0, "backtrader")

    assert overdrawn(result, "reg-t")[0]
    assert overdrawn(result, "cash")[0]


# --- orders at the close at which they are given


AT_CLOSE = ({"fills": "this-close"}, {"fills": "this-close", "slippage": "0.0"})


@pytest.mark.parametrize("loop", AT_CLOSE)
def test_an_order_at_this_close_is_judged_at_it(tmp_path, loop):
    store = store_of(tmp_path, [[100.0, 100.0, (180.0, 100.0), 100.0]])

    result = trade(store, {1: 201, 2: 200, 3: 1}, "reg-t", **loop)

    # That the third day opens at 180 is not known at the close of the second.
    assert statuses(result) == ["Margin", "Completed", "Margin"]
    assert held(result) == [0, 200, 200, 200]
    assert result.record["margin"].to_pylist() == [0, 5_000, 5_000, 5_000]


@pytest.mark.parametrize("loop", AT_CLOSE)
def test_a_call_comes_after_what_is_filled_at_its_close_and_sells_at_the_next_open(tmp_path, loop):
    store = store_of(tmp_path, [[100.0, 100.0, 58.0, (50.0, 60.0), 60.0]])

    called, left = (trade(store, orders, "reg-t", **loop) for orders in ({2: 180}, {2: 180, 3: -180}))

    # 180 at 58: equity 2,440, required 2,610; 170 / 14.50 are 11.7 shares. Who sells all at 58 has no call.
    assert held(called) == [0, 180, 180, 168, 168]
    assert called.fills["price"].tolist() == [100.0, 50.0]
    assert reasons(called)[1].startswith("margin call: equity 2,440.00 USD, maintenance margin 2,610.00")
    assert called.orders["created"].dt.date.tolist() == weekdays(5)[1:3]
    assert held(left) == [0, 180, 0, 0, 0]
    assert statuses(left) == ["Completed", "Completed"]


@pytest.mark.parametrize("loop", AT_CLOSE)
@pytest.mark.parametrize(("account", "first", "most"), [("reg-t", 100, 100), ("cash", 50, 50)])
def test_a_dividend_of_the_next_day_pays_for_nothing_at_this_close(tmp_path, loop, account, first, most):
    store, day = store_of(tmp_path, [[100.0] * 6]), weekdays(6)[3].isoformat()
    paid = DividendTable("table", {"AAPL-STK-SMART-USD/1day/TRADES/rth": Dividends("USD", (day,), (25.0,), "by hand")})

    for more, status in ((most, "Completed"), (most + 1, "Margin")):
        result = trade(store, {1: first, 3: more}, account, dividends=paid, **loop)

        assert statuses(result) == ["Completed", status]


def test_what_is_sold_at_this_close_is_spent_at_that_of_the_next_day(flat):
    # Sold at the close of Wednesday, the 5th, settled on Thursday.
    result = trade(flat, {1: 100, 3: [(0, -100), (1, 10)], 4: [(1, 200)]}, "cash", NAMES, fills="this-close")

    assert statuses(result) == ["Completed", "Completed", "Margin", "Completed"]
    assert reasons(result)[2].startswith("cash: the order needs 500.00 plus costs, 500.00 more than the account has")


@pytest.mark.parametrize("account", ["cash", "reg-t"])
def test_no_random_order_at_its_close_ends_with_more_leverage_than_the_account_allows(tmp_path, account):
    opened = 0
    for seed in range(2):
        result = random_run(tmp_path / str(seed), seed, account, count=40, own=AT_CLOSE[seed])
        found, some = overdrawn(result, account)
        opened += some

        assert found == []
    assert opened > 5


@pytest.mark.parametrize("seed", [91, 109])
def test_a_sale_settles_for_an_order_at_this_close_when_it_does_though_a_later_order_was_judged_before(tmp_path, seed):
    found, opened = overdrawn(random_run(tmp_path, seed, "cash", own=AT_CLOSE[0]), "cash")

    assert (found, opened > 1) == ([], True)
