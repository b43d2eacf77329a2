"""Interest as IB computes it: its own worked examples to the cent, and months that are booked in a run."""

from datetime import UTC, date, datetime, timedelta

import backtrader as bt
import numpy as np
import pytest
from market import store_with

from backtest import RunResult, run, sweep
from backtest.engine.account.interest import (
    CREDIT,
    DEBIT,
    PROCEEDS,
    BenchmarkRates,
    benchmark_rates,
    booking_days,
    by_tiers,
    check_interest,
    collateral_of,
    of_a_day,
    rates_outside,
)
from backtest.errors import UsageError
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.runs.spec import interest_of
from backtest.store.store import Store

AAPL = Series.parse("AAPL/1day")
# The lean loop, the same bar by bar, Backtrader's own with its own broker, and with ours.
LOOPS = ({}, {"borrow": "0.0"}, {"volume_cap": 1.0}, {"slippage": "0.0"})


def test_a_loan_as_in_ibs_example():
    """Interest Charged Examples: 600,000 at 5.32 % cost 18.94 on the first 100,000 and 87.78 on the rest."""
    assert round(by_tiers(100_000, DEBIT, 0.0532), 2) == 18.94
    assert round(by_tiers(600_000, DEBIT, 0.0532), 2) == 106.72
    assert round(-of_a_day(-600_000, 0, 1_000_000, 0.0532), 2) == 106.72


def test_proceeds_of_short_sales_as_in_ibs_example():
    """Interest Paid to You: 1,500,000 at 1.00 % earn 6.94; of the second tier nothing, as the rate is below zero."""
    assert round(by_tiers(1_500_000, PROCEEDS, 0.01), 2) == 6.94


def test_cash_as_by_the_rates_of_april_2024():
    """At a benchmark of 5.330 % nothing on 10,000 and 4.830 % above: on 110,000 a day 100,000 · 4.83 % / 360."""
    assert by_tiers(10_000, CREDIT, 0.0533) == 0
    assert by_tiers(110_000, CREDIT, 0.0533) == pytest.approx(100_000 * 0.0483 / 360)


def test_half_of_100_000_earns_at_half_the_rate():
    assert of_a_day(50_000, 0, 50_000, 0.05) == pytest.approx(40_000 * 0.045 / 360 / 2)


def test_cash_that_covers_shares_sold_short_earns_as_proceeds_alone():
    """1,500,000 of collateral and 150,000 beside it: the credit of IB's example, by the tiers of 2024."""
    earned = of_a_day(1_650_000, 1_500_000, 1_000_000, 0.01)

    assert earned == pytest.approx(500_000 * 0.005 / 360 + 140_000 * 0.005 / 360)


def test_a_negative_benchmark_is_none_for_a_loan():
    assert by_tiers(100_000, DEBIT, 0.0) == -of_a_day(-100_000, 0, 200_000, -0.01)


@pytest.mark.parametrize(("size", "close", "lent"), [(-100, 50.0, 5100), (-10, 0.1, 10), (100, 50.0, 0)])
def test_the_collateral_is_102_percent_in_whole_dollars(size, close, lent):
    assert collateral_of(size, close) == lent


def test_months_are_booked_on_the_third_business_day_of_the_next():
    assert booking_days(date(2024, 1, 15), date(2024, 3, 1)) == [
        (date(2024, 1, 1), date(2024, 2, 5)),  # Thursday, Friday, Monday
        (date(2024, 2, 1), date(2024, 3, 5)),  # Friday, Monday, Tuesday
        (date(2024, 3, 1), date(2024, 4, 3)),
    ]


def test_the_federal_funds_rate_by_month():
    found = benchmark_rates("ib").on([date(2000, 1, 31), date(2008, 12, 1), date(2024, 8, 31), date(2026, 11, 1)])

    assert found.tolist() == pytest.approx([0.0545, 0.0016, 0.0533, 0.0364])


def test_rates_of_a_file(tmp_path):
    path = tmp_path / "rates.csv"
    path.write_text("date,percent\n2024-02-01,3.6\n2024-01-01,1.8\n")

    found = benchmark_rates(str(path))

    assert found.on([date(2024, 1, 31), date(2024, 2, 1)]).tolist() == pytest.approx([0.018, 0.036])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "date,rate\n2024-01-01,1\n",
        "date,percent\nsoon,1\n",
        "date,percent\n2024-01-01,x\n",
        "date,percent\n2024-01-01,1\n2024-01-01,2\n",
    ],
)
def test_a_file_that_has_none_is_refused(tmp_path, text):
    path = tmp_path / "rates.csv"
    path.write_text(text)

    with pytest.raises(UsageError, match="rates"):
        benchmark_rates(str(path))


def test_a_column_that_the_rates_lack_is_named(tmp_path):
    path = tmp_path / "rates.csv"
    path.write_text("day,percent\n2003-01-01,1.24\n")

    with pytest.raises(UsageError, match=r"\(it has no column date\)"):
        benchmark_rates(str(path))


def test_the_error_for_a_file_without_a_header_shows_the_header(tmp_path):
    path = tmp_path / "rates.csv"
    path.write_text("2003-01-01,1.24\n")

    with pytest.raises(UsageError, match=r"begin with the line date,percent"):
        benchmark_rates(str(path))


@pytest.mark.parametrize(
    ("given", "rate", "series", "said"),
    [
        ("ib", 0.02, (), "both pay interest on cash"),
        ("nowhere.csv", 0.0, (), "cannot read benchmark rates from 'nowhere.csv'"),
        (object(), 0.0, (), "write ib, or the path"),
        ("ib", 0.0, ("SAP-STK-IBIS-EUR/1day",), "only known for stocks in USD"),
        ("ib", 0.0, ("ES-FUT-CME-USD-202403/1day",), "only known for stocks in USD"),
    ],
)
def test_what_cannot_be_asked_is_refused(given, rate, series, said):
    with pytest.raises(UsageError, match=said):
        check_interest(given, rate, [Series.parse(one) for one in series])


# --- in a run


class Trades(bt.Strategy):
    """Gives orders at bars, the first is 1."""

    params = (("orders", {}),)

    def next(self):
        size = self.p.orders.get(len(self), 0)
        if size:
            (self.buy if size > 0 else self.sell)(size=abs(size))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return a store of a stock that stays at 50 on all weekdays from the second of January to the end of March."""
    made = Store(tmp_path_factory.mktemp("bars"))
    days = [date(2024, 1, 2) + timedelta(days=n) for n in range(89)]
    rows = [
        (datetime(day.year, day.month, day.day, tzinfo=UTC), 50.0, 50.0, 50.0, 50.0, 1e6, None, None)
        for day in days
        if day.weekday() < 5
    ]
    made.write(AAPL, Span.of_dates(days[0], days[-1]), table_of(rows))
    return made


FLAT = BenchmarkRates("flat", ("2000-01-01",), (0.041,))  # 3.6 % on cash above 10,000: a ten-thousandth a day


def held(store, orders=None, **asked):
    return run(
        Trades, "AAPL/1day", store=store, params={"orders": orders or {}}, cash=210_000, costs="none", interest=FLAT,
        **asked,
    )  # fmt: skip


def booked(result):
    column, days = result.record["interest"].to_pylist(), result.record["session"].to_pylist()
    return {day.isoformat(): money for day, money in zip(days, column, strict=True) if money}


@pytest.mark.parametrize("loop", LOOPS)
def test_cash_earns_by_the_day_and_is_paid_by_the_month(store, loop):
    result = held(store, **loop)

    # 20 a day: of 30 days of January; of 29 days of February, from the fifth on of what was booked too.
    january = 30 * 20
    february = 29 * 20 + 25 * 0.0001 * january
    assert booked(result) == pytest.approx({"2024-02-05": january, "2024-03-05": february})
    assert result.record["cash"][-1].as_py() == pytest.approx(210_000 + january + february)
    march = 29 * (20 + 0.0001 * january) + 25 * 0.0001 * february  # to the last bar, on Friday the 29th
    assert result.manifest["interest"]["accrued"] == pytest.approx(march)
    assert f"Interest: {january + february:,.2f} USD booked, and {march:,.2f} accrued since" in result.stats.basis


def test_a_file_whose_rates_begin_after_the_run_is_refused(store):
    late = BenchmarkRates("late.csv", ("2024-02-01", "2024-03-01"), (0.04, 0.05))

    with pytest.raises(UsageError, match=r"late.csv begin on 2024-02-01, and the run on 2024-01-\d\d; add the rate of"):
        run(Trades, "AAPL/1day", store=store, interest=late)
    begun = run(Trades, "AAPL/1day", store=store, interest=late, start="2024-02-01")
    assert "for which no benchmark rate is known" not in begun.stats.basis


def test_a_run_after_the_last_rate_of_ib_says_so_and_is_read_again(tmp_path):
    kept = store_with(tmp_path / "bars", {"AAPL/1day": ("2026-02-02", "2026-04-30")})

    made = run(Trades, "AAPL/1day", store=kept, interest="ib")

    assert made.manifest["interest"]["outside"] == {"after": "2026-02"}
    assert (
        "Days after 2026-02, for which no benchmark rate is known, used the last known rate."
        in RunResult.load(made.save(tmp_path / "run")).stats.basis
    )


def test_days_outside_of_the_table_of_ib_are_told():
    found = benchmark_rates("ib")

    assert rates_outside(found, date(1999, 12, 31), date(2026, 3, 1)) == {"before": "2000-01-01", "after": "2026-02"}
    assert rates_outside(found, date(2000, 1, 1), date(2026, 2, 28)) == {}


@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_invested_earns_nothing(store, loop):
    result = held(store, {1: 2000, 21: -2000}, **loop)  # from the third to the 31st of January

    # 210,000 on the second, 110,000 for the 28 days after it, 210,000 again on the last.
    assert booked(result)["2024-02-05"] == pytest.approx(20 + 28 * 10 + 20)


@pytest.mark.parametrize("loop", LOOPS)
def test_proceeds_earn_by_their_own_tiers(store, loop):
    result = held(store, {1: -3000}, **loop)  # 150,000 in, on a collateral of 153,000

    of_proceeds = 53_000 * (0.041 - 0.0125) / 360
    day = of_proceeds + (210_000 + 150_000 - 153_000 - 10_000) * 0.0001
    assert booked(result)["2024-02-05"] == pytest.approx(20 + 29 * day)


def test_the_loops_book_the_same_to_the_last_bit(store):
    every = [held(store, {1: 1000, 9: -2500, 30: 500}, **loop) for loop in LOOPS]

    assert len({tuple(one.record["cash"].to_pylist()) for one in every}) == 1


def test_the_lean_loop_is_not_left(store, caplog):
    caplog.set_level("INFO", "backtest.engine.lean.cerebro")

    held(store, {1: 100})

    assert "Backtrader's own loop" not in caplog.text


def test_nothing_is_earned_in_a_warm_up(store):
    whole, later = held(store, start="2024-02-01"), held(store, start="2024-02-01", warm_up="auto")

    assert booked(later) == pytest.approx(booked(whole))
    assert booked(later)["2024-03-05"] == pytest.approx(29 * 20)


def test_a_sweep_of_such_runs_equals_single_runs(store, tmp_path):
    path = tmp_path / "rates.csv"
    path.write_text("date,percent\n2024-01-01,5\n")
    asked = {"store": store, "interest": str(path), "cash": 210_000}

    found = sweep(Trades, "AAPL/1day", {"orders": [{1: 100}, {1: -100}]}, **asked)

    for trial in found.trials:
        single = run(Trades, "AAPL/1day", params=trial.params, **asked)
        assert trial.metrics["total_return"] == single.stats["total_return"]


def test_a_kept_run_comes_back_with_its_interest(store, tmp_path):
    result = held(store)

    again = type(result).load(result.save(tmp_path / "kept"))

    assert booked(again) == booked(result)
    assert (again.name, again.spec.brokerage.interest) == (result.name, "flat")


def test_without_interest_there_is_no_column(store):
    result = run(Trades, "AAPL/1day", store=store)

    assert "interest" not in result.record.column_names
    assert np.array_equal(result.equity, np.full(len(result.equity), 100_000.0))


@pytest.mark.parametrize("given", [None, "none", ""])
def test_none_is_none(given):
    assert interest_of(given) == ""
