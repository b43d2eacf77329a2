"""Dividends in a run: who is paid, when, and where it is seen; the account is one that a reader can check by hand."""

from datetime import UTC, date, datetime
from pathlib import Path

import backtrader as bt
import numpy as np
import pytest

from backtest import RunResult, run, sweep, walk_forward
from backtest.engine.account.dividends import Dividends, DividendTable
from backtest.errors import UsageError
from backtest.market import arrays
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.metrics.account import hold, sample_hold
from backtest.report.run_page import write_report
from backtest.research.lookahead import look_ahead
from backtest.runs.dividends import dividends_received
from backtest.store.store import Store

pytestmark = pytest.mark.usefixtures("few_figures")

# The lean loop, Backtrader's own with its own broker, and with ours.
LOOPS = ({}, {"volume_cap": 1.0}, {"slippage": "0.0"})
SAMPLE = Path("data/sample")
AAPL, MSFT = Series.parse("AAPL/1day"), Series.parse("MSFT/1day")
FREE = {"costs": "none", "cash": 10_000}


def bars(first=10.0):
    """Return ten days that open at 10, 11, 12 ... and close half a dollar higher."""
    rows = [
        (
            datetime(2024, 1, 1 + n, tzinfo=UTC),
            first + n,
            first + n + 1,
            first + n - 1,
            first + n + 0.5,
            1e6,
            None,
            None,
        )
        for n in range(10)
    ]
    return table_of(rows)


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "bars")
    for one, first in ((AAPL, 10.0), (MSFT, 30.0)):
        made.write(one, Span.of_dates(date(2024, 1, 1), date(2024, 1, 10)), bars(first))
    return made


def paid(**amounts):
    """Return a table of what AAPL paid, by ex-dates such as d5 for the fifth of January."""
    days = {f"2024-01-{int(name[1:]):02}": amount for name, amount in amounts.items()}
    return DividendTable("table", {AAPL.key: Dividends("USD", tuple(days), tuple(days.values()), "by hand")})


class Trades(bt.Strategy):
    """Gives orders at bars, the first is 1: {2: 100} is filled at the open of the third."""

    params = (("orders", {}), ("kind", None))

    def next(self):
        size = self.p.orders.get(len(self), 0)
        if size:
            (self.buy if size > 0 else self.sell)(size=abs(size), exectype=self.p.kind)


def trade(store, orders, table, kind=None, **asked):
    return run(
        Trades, "AAPL/1day", store=store, params={"orders": orders, "kind": kind}, dividends=table,
        **(FREE | asked),
    )  # fmt: skip


def cash_of(result):
    return arrays.numbers(result.record["cash"]).tolist()


def received(result):
    return dividends_received(result.record, result.spec).sum(axis=1).tolist()


@pytest.mark.parametrize("loop", LOOPS)
def test_who_holds_over_the_close_before_is_paid_at_the_open(store, loop):
    result = trade(store, {2: 100}, paid(d5=0.5), **loop)

    # 100 shares at 12, of which 50 come in with the fifth bar.
    assert cash_of(result) == [10_000.0] * 2 + [8_800.0] * 2 + [8_850.0] * 6
    assert result.record["equity"][-1].as_py() == pytest.approx(8_850 + 100 * 19.5)
    assert received(result) == [0, 0, 0, 0, 50, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("loop", LOOPS)
def test_who_buys_at_the_open_of_the_ex_date_is_too_late(store, loop):
    result = trade(store, {4: 100}, paid(d5=0.5), **loop)

    assert cash_of(result)[4:] == [10_000 - 1_400.0] * 6
    assert received(result) == [0.0] * 10


@pytest.mark.parametrize("loop", LOOPS)
def test_who_sells_at_the_open_of_the_ex_date_is_paid(store, loop):
    result = trade(store, {2: 100, 4: -100}, paid(d5=0.5), **loop)

    assert cash_of(result)[4:] == [10_000 - 1_200 + 1_400 + 50.0] * 6


@pytest.mark.parametrize("loop", LOOPS)
def test_who_is_short_pays_all_of_it_whatever_is_withheld(store, loop):
    result = trade(store, {2: -100}, paid(d5=0.5), withholding=0.3, **loop)

    assert cash_of(result)[4:] == [10_000 + 1_200 - 50.0] * 6
    assert result.stats["dividends"] == -50


@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_withheld_is_not_paid(store, loop):
    result = trade(store, {2: 100}, paid(d5=0.5), withholding=0.3, **loop)

    assert cash_of(result)[4:] == [8_835.0] * 6
    assert result.stats["dividends"] == pytest.approx(35)


@pytest.mark.parametrize("loop", [{}, {"slippage": "0.0"}])
@pytest.mark.parametrize(("orders", "money"), [({4: 100}, 50), ({1: 100, 4: -100}, 0)])
def test_a_fill_at_the_close_before_counts_though_it_is_booked_later(store, orders, money, loop):
    result = trade(store, orders, paid(d5=0.5), fills="this-close", **loop)

    assert sum(received(result)) == money
    bought = sum(size * (9.5 + bar) for bar, size in orders.items())
    assert cash_of(result)[-1] == pytest.approx(10_000 - bought + money)


@pytest.mark.parametrize("loop", [{}, {"slippage": "0.0"}])
def test_an_order_for_the_close_counts_too(store, loop):
    result = trade(store, {3: 100}, paid(d5=0.5), kind=bt.Order.Close, **loop)

    fill = result.fills_table.to_pylist()[0]
    assert (fill["time"].day, fill["price"]) == (4, 13.5)
    assert sum(received(result)) == 50
    assert cash_of(result)[-1] == 10_000 - 1_350 + 50


@pytest.mark.parametrize("loop", LOOPS)
def test_money_is_there_for_the_orders_of_the_day(store, loop):
    result = trade(store, {1: 900, 5: 12}, paid(d6=0.2), cash=9_900 + 15.0, **loop)  # 180 come in, 12 cost 15 each

    assert [order["status"] for order in result.orders_table.to_pylist()] == ["Completed"] * 2


def test_the_lean_loop_is_not_left(store, caplog):
    caplog.set_level("INFO", "backtest.engine.lean.cerebro")

    trade(store, {2: 100}, paid(d5=0.5))

    assert "Backtrader's own loop" not in caplog.text


def test_several_dividends_on_days_without_a_bar_come_in_with_the_next(store, tmp_path):
    made = Store(tmp_path / "gap")
    made.write(AAPL, Span.of_dates(date(2024, 1, 1), date(2024, 1, 10)), bars().filter(np.arange(10) % 5 != 3))

    result = trade(made, {1: 100}, paid(d1=9.0, d4=0.5, d5=0.25, d11=7.0))  # no bar of the fourth and ninth

    assert received(result) == [0, 0, 0, 75, 0, 0, 0, 0]


def test_a_table_that_pays_nothing_leaves_all_as_it_is(store):
    with_none, without = (trade(store, {2: 100}, one) for one in (paid(), "none"))

    assert with_none.record.select(without.record.column_names).equals(without.record)
    assert with_none.stats["dividends"] == 0
    assert without.stats.reasons["dividends"] == "left out"


# --- where it is seen


def test_round_trips_have_the_dividends_of_their_lots(store):
    table = paid(d4=0.5, d7=1.0)
    result = trade(store, {1: 100, 3: 50, 4: -120, 7: -30}, table, withholding=0.1)

    trips = [(row["size"], row["dividends"], row["net"]) for row in result.trades_table.to_pylist()]

    # 100 of the second bar left with the fifth: one dividend. 50 of the fourth bar, too late for the first: 20 left
    # with the fifth, 30 with the eighth.
    assert trips == [
        (100, pytest.approx(45), pytest.approx(300 + 45)),
        (20, 0, pytest.approx(20)),
        (30, pytest.approx(27), pytest.approx(120 + 27)),
    ]
    assert sum(trip[1] for trip in trips) == pytest.approx(result.stats["dividends"])


def test_a_short_round_trip_paid(store):
    result = trade(store, {1: -10, 7: 10}, paid(d4=0.5))

    assert result.trades["dividends"].tolist() == [-5]
    assert result.trades["net"].tolist() == [-60 - 5]
    assert result.trades["return"].tolist() == [pytest.approx(-65 / 110)]


@pytest.mark.parametrize("withheld", [0.0, 0.15])
def test_buy_and_hold_is_paid_alike(store, withheld):
    result = trade(store, {2: 100}, paid(d1=5.0, d5=0.5), withholding=withheld)

    grown = [(10.5 + n + (0.5 * (1 - withheld) if n >= 4 else 0)) / 10.5 for n in range(10)]
    assert hold(result) == pytest.approx([10_000 * one for one in grown])
    assert sample_hold(result, result.account).equity[-1] == pytest.approx(10_000 * grown[-1])


def test_a_benchmark_is_paid_from_the_day_on_that_it_is_held(store):
    table = DividendTable("table", paid(d5=0.5).of_series | {MSFT.key: Dividends("USD", ("2024-01-03",), (3.0,), "")})

    result = trade(store, {2: 100}, table, benchmark="MSFT/1day")

    grown = [(30.5 + n + (3 if n >= 2 else 0)) / 30.5 for n in range(10)]
    assert hold(result) == pytest.approx([10_000 * one for one in grown])
    assert result.account.benchmark == pytest.approx(np.diff([10_000, *hold(result)]) / [10_000, *hold(result)][:-1])


def test_holding_ibm_earns_what_its_adjusted_prices_say():
    """97 % by prices alone, 131 % with dividends put into shares again; in cash they come in between."""
    strategy, series = "strategies/buy_and_hold.py", "IBM/1day"
    price, total = (run(strategy, series, store=SAMPLE, dividends=one).stats for one in ("none", "derived"))
    adjusted = run(strategy, "IBM/1day/ADJUSTED_LAST", store=SAMPLE).stats

    assert price["total_return"] < total["total_return"] < adjusted["total_return"]
    assert total["dividends"] > 0
    assert "dividends" in total.headline
    assert "dividends" not in price.headline


@pytest.mark.parametrize(
    ("series", "given", "said"),
    [
        ("IBM/1day", "none", "prices TRADES, dividends excluded"),
        ("IBM/1day", "derived", "prices TRADES, dividends derived"),
        ("IBM/1day/ADJUSTED_LAST", "none", "prices ADJUSTED_LAST, dividends included"),
    ],
)
def test_the_summary_names_the_prices_and_the_dividends(series, given, said):
    result = run("strategies/buy_and_hold.py", series, store=SAMPLE, dividends=given, start="2012-01-03")

    assert said in result.stats.conventions


def test_the_notes_say_how_dividends_are_known_and_which_are_doubtful():
    result = run("strategies/buy_and_hold.py", "MSFT/1day", store=SAMPLE, dividends="derived", end="2005-12-30")

    said = "Dividends of MSFT/1day: 8, derived from MSFT/1day/ADJUSTED_LAST by the ex-close convention"
    assert said in result.stats.basis
    assert "Doubtful: 2004-11-15: it is 10 % of the price" in result.stats.basis


def test_adjusted_prices_with_dividends_are_refused():
    with pytest.raises(UsageError, match="would count twice"):
        run("strategies/buy_and_hold.py", "IBM/1day/ADJUSTED_LAST", store=SAMPLE, dividends="derived")


def test_a_benchmark_of_adjusted_prices_is_refused_too():
    with pytest.raises(UsageError, match="IBM/1day/ADJUSTED_LAST has prices that already include dividends"):
        run(
            "strategies/buy_and_hold.py", "IBM/1day", store=SAMPLE, dividends="derived",
            benchmark="IBM/1day/ADJUSTED_LAST",
        )  # fmt: skip


def test_a_kept_run_comes_back_with_its_dividends(store, tmp_path):
    result = trade(store, {1: 100, 7: -100}, paid(d4=0.5))

    again = RunResult.load(result.save(tmp_path / "kept"))

    assert again.stats.to_dict() == result.stats.to_dict()
    assert again.trades_table.equals(result.trades_table)
    assert again.name == result.name


def test_another_table_is_another_run(store):
    names = {trade(store, {1: 100}, table).name for table in (paid(d4=0.5), paid(d4=0.6), "none")}

    assert len(names) == 3


@pytest.mark.slow
def test_the_page_shows_the_dividends_of_trades(store, tmp_path):
    with_dividends, without = (
        write_report(trade(store, {1: 100, 7: -100}, table), tmp_path / name).read_text("utf-8")
        for name, table in (("a", paid(d4=0.5)), ("b", "none"))
    )

    assert '<th class="number">Dividends</th>' in with_dividends
    assert '<td class="number">50.00</td>' in with_dividends
    assert '<th class="number">Dividends</th>' not in without


def test_a_sweep_of_such_runs_equals_single_runs(tmp_path):
    file = tmp_path / "paid.csv"
    file.write_text("date,amount,currency\n2010-02-08,0.55,USD\n2010-05-06,0.65,USD\n")
    asked = {"store": SAMPLE, "start": "2010-01-04", "end": "2010-12-31", "dividends": str(file), "withholding": 0.15}

    found = sweep("strategies/sma_cross.py", "IBM/1day", {"fast": [5, 10], "slow": [20]}, **asked)

    for trial in found.trials:
        single = run("strategies/sma_cross.py", "IBM/1day", params=trial.params, **asked)
        assert trial.metrics["total_return"] == single.stats["total_return"]
        assert trial.metrics["dividends"] == single.stats["dividends"]


def test_a_changed_table_begins_a_sweep_anew(tmp_path):
    from backtest.research.search.job import job_of

    file = tmp_path / "paid.csv"
    cases = set()
    for amount in (0.55, 0.56):
        file.write_text(f"date,amount,currency\n2010-02-08,{amount},USD\n")
        cases.add(job_of("strategies/sma_cross.py", "IBM/1day", store=SAMPLE, dividends=str(file)).case)

    assert len(cases) == 2


@pytest.mark.slow
def test_a_walk_forward_takes_the_dividends_of_a_kept_run(tmp_path):
    file = tmp_path / "paid.csv"
    file.write_text("date,amount,currency\n2010-02-08,0.55,USD\n2010-05-06,20,USD\n2010-08-06,0.65,USD\n")
    asked = {"store": SAMPLE, "start": "2009-06-01", "end": "2010-12-31"}
    grid, windows = {"fast": [5, 10], "slow": [20]}, {"train": "6m", "test": "3m"}

    with_dividends, without = (
        walk_forward("strategies/sma_cross.py", "IBM/1day", grid, **windows, **asked, dividends=one)
        for one in (str(file), "none")
    )

    assert not np.array_equal(with_dividends.returns, without.returns)


@pytest.mark.slow
def test_looking_ahead_is_judged_with_the_dividends_of_the_true_bars():
    found = look_ahead(
        "strategies/sma_cross.py", "IBM/1day", store=SAMPLE, start="2011-06-01", end="2012-06-29", cuts=2,
        dividends="derived", size="percent:95", params={"fast": 5, "slow": 20, "invest": 0},
    )  # fmt: skip

    assert found == []


@pytest.mark.parametrize("loop", LOOPS)
def test_of_intraday_bars_the_first_of_the_ex_date_pays(tmp_path, loop):
    hourly = Series.parse("AAPL/1hour")
    opened = [
        datetime(2024, 1, day, hour, 30 if hour == 14 else 0, tzinfo=UTC) for day in (2, 3) for hour in range(14, 21)
    ]
    made = Store(tmp_path / "hourly")
    rows = [(moment, 10.0, 10.0, 10.0, 10.0, 1e6, None, None) for moment in opened]
    made.write(hourly, Span.of_dates(date(2024, 1, 2), date(2024, 1, 3)), table_of(rows))
    table = DividendTable("table", {hourly.key: Dividends("USD", ("2024-01-03",), (0.5,), "")})

    result = run(Trades, hourly, store=made, params={"orders": {3: 100, 8: -100}}, dividends=table, **(FREE | loop))

    assert received(result) == [0.0] * 7 + [50.0] + [0.0] * 6
