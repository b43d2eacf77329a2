"""Fees of borrowed shares by stored FEE_RATE bars: of each day, on the collateral, as IB charges them."""

from datetime import UTC, date, datetime, timedelta

import backtrader as bt
import pytest
from margin_runs import Trades

from backtest import Store, connect, download, run, sweep
from backtest.emulator.server import Gateway
from backtest.engine.account.borrowing import StoredFees
from backtest.errors import NoBars, UsageError
from backtest.market.bars import table_of
from backtest.market.checks import check_answer
from backtest.market.hours import hours_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.research.lookahead import look_ahead
from backtest.store.audit.findings import inspect_bars

GME, FEES = Series.parse("GME/1day"), Series.parse("GME/1day/FEE_RATE")
WEEKS = [date(2021, 1, day) for day in (11, 12, 13, 14, 15, 19, 20, 21, 22, 25)]  # the 18th is a holiday
MONTH = Span.of_dates(date(2021, 1, 1), date(2021, 1, 31))


def later():
    return datetime(2021, 2, 1, tzinfo=UTC)


def flat(day, price):
    return (datetime(day.year, day.month, day.day, tzinfo=UTC), price, price, price, price, None, None, None)


def stored(tmp_path, fees, close=50.0):
    """Return a store of bars that never move, and of fees in percent a year by day."""
    made = Store(tmp_path / "bars")
    made.write(GME, MONTH, table_of([flat(day, close) for day in WEEKS]))
    if fees:
        made.write(FEES, MONTH, table_of([flat(day, rate) for day, rate in fees.items()]))
    return made


class Short(bt.Strategy):
    """Sells short at the close of the first bar and covers before the last."""

    params = (("size", 100), ("until", 9))

    def next(self):
        if len(self) == 1:
            self.sell(size=self.p.size)
        elif len(self) == self.p.until:
            self.close()


def equity_of(store, **asked):
    return run(Short, "GME/1day", store=store, costs="none", **({"borrow": "stored"} | asked)).equity.tolist()


def test_each_day_costs_its_own_rate_of_the_collateral(tmp_path):
    fees = dict(zip(WEEKS, [1, 36, 72, 36, 36, 36, 3.6, 0, -36, 500], strict=True))

    equity = equity_of(stored(tmp_path, fees))

    # 100 shares of 50 are lent on 51 each; 36 % a year is a thousandth a day. Four days pass from Friday to Tuesday.
    # Sold on the 12th, bought back on the 25th, whose close it is not held over.
    day = 5.1
    charged = [0, 0, day, 2 * day, day, 4 * day, day, day / 10, 0, -3 * day]
    assert equity == pytest.approx([100_000 - sum(charged[: n + 1]) for n in range(10)])


@pytest.mark.parametrize(("close", "lent"), [(0.10, 1), (1.0, 2), (50.0, 51), (42.8, 44)])
def test_the_collateral_is_rounded_up_to_whole_dollars(tmp_path, close, lent):
    equity = equity_of(stored(tmp_path, dict.fromkeys(WEEKS, 36.0), close))

    assert 100_000 - equity[-1] == pytest.approx(100 * lent * 0.001 * 13)


def test_a_session_without_a_rate_takes_the_last_one_and_is_told(tmp_path):
    fees = {day: 36.0 for day in WEEKS if day.day not in (14, 20)}

    result = run(Short, "GME/1day", store=stored(tmp_path, fees), costs="none", borrow="stored")

    assert result.equity.iloc[-1] == pytest.approx(100_000 - 13 * 5.1)
    assert result.manifest["borrow"][GME.key]["taken_from_before"] == 2
    assert "Sessions without a borrow fee of GME/1day, which use the previous one: 2 (2021-01-14, 2021-01-20)." in (
        result.stats.basis
    )
    assert "borrow fee stored" in result.stats.conventions


def test_the_fees_are_named_with_what_the_run_saw(tmp_path):
    result = run(Short, "GME/1day", store=stored(tmp_path, dict.fromkeys(WEEKS, 36.0)), borrow="stored")

    assert set(result.manifest["series"]) == {GME.key, FEES.key}
    assert type(result).load(result.save(tmp_path / "kept")).manifest == result.manifest


def test_fees_that_begin_after_the_run_are_of_no_earlier_day(tmp_path):
    store = stored(tmp_path, dict.fromkeys(WEEKS[3:], 36.0))

    with pytest.raises(
        NoBars, match=rf"GME/1day begin on {WEEKS[3]}, and its bars on {WEEKS[0]}; run: backtest download"
    ):
        run(Short, "GME/1day", store=store, borrow="stored")
    assert run(Short, "GME/1day", store=store, borrow="stored", start=WEEKS[3]).equity.iloc[-1] > 0


def test_without_stored_fees_the_series_to_download_is_named(tmp_path):
    store = Store(tmp_path / "bars")
    store.write(GME, MONTH, table_of([flat(day, 50.0) for day in WEEKS]))

    with pytest.raises(NoBars, match="GME/1day/FEE_RATE"):
        equity_of(store)


def test_a_currency_whose_collateral_is_not_known_is_refused():
    with pytest.raises(UsageError, match="unknown for SAP-STK-IBIS-EUR/1day in EUR, and only known for USD and CAD"):
        StoredFees.of({Series.parse("SAP-STK-IBIS-EUR/1day"): table_of([flat(WEEKS[0], 1.0)])})


def test_a_typed_rate_is_charged_as_before(tmp_path):
    equity = equity_of(stored(tmp_path, dict.fromkeys(WEEKS, 36.0)), borrow="0.365")

    assert 100_000 - equity[-1] == pytest.approx(100 * 50 * 0.001 * 13)


# --- orders at the close at which they are given


@pytest.mark.parametrize("own", [{}, {"slippage": "0.0"}, {"account": "reg-t"}])
def test_at_this_close_a_night_costs_what_is_short_after_it(tmp_path, own):
    # Short on Wednesday, long on Thursday, short again on Friday, half of it to Tuesday, and the rest to Wednesday.
    orders = {3: -100, 4: 200, 5: -200, 6: 50, 7: 50}

    result = run(
        Trades, "GME/1day", store=stored(tmp_path, {}), params={"orders": {n: [(0, orders[n])] for n in orders}},
        costs="none", borrow="0.365", fills="this-close", **own,
    )  # fmt: skip

    paid = [0, 0, 0, 5, 0, 4 * 5, 2.5, 0, 0, 0]  # 5 a night of 100 shares at 50
    assert result.equity.tolist() == pytest.approx([100_000 - sum(paid[: n + 1]) for n in range(10)], rel=0, abs=1e-6)
    assert result.record["borrow"].to_pylist() == pytest.approx(paid)
    assert result.fills["costs"].tolist() == pytest.approx([0, 5, 0, 10, 12.5])


def test_a_sweep_of_such_runs_equals_single_runs(tmp_path):
    store = stored(tmp_path, dict(zip(WEEKS, range(10, 110, 10), strict=True)))

    found = sweep(Short, "GME/1day", {"size": [10, 20]}, store=store, borrow="stored", costs="none")

    for trial in found.trials:
        single = run(Short, "GME/1day", store=store, params=trial.params, borrow="stored", costs="none")
        assert trial.metrics["total_return"] == single.stats["total_return"]


@pytest.mark.slow
def test_looking_ahead_leaves_the_fees_as_they_are(tmp_path):
    store = stored(tmp_path, dict.fromkeys(WEEKS, 36.0))

    assert look_ahead(Short, "GME/1day", store=store, borrow="stored", cuts=2) == []


def test_rates_of_nothing_and_below_are_no_fault():
    bars = table_of([flat(day, rate) for day, rate in zip(WEEKS, (0.0, -0.25, 0.25), strict=False)])

    check_answer(bars, FEES, hours_of(FEES.instrument))  # which raises


def test_a_rate_that_stays_is_not_frozen_as_a_price_is():
    days = [date(2021, 1, 1) + timedelta(days=n) for n in range(60)]
    bars = table_of([flat(day, 0.25) for day in days if day.weekday() < 5])

    frozen = [
        any("equal bars" in one.text for one in inspect_bars(bars, series, hours_of(series.instrument)))
        for series in (GME, FEES)
    ]

    assert frozen == [True, False]


def test_fees_go_from_store_to_emulator_to_store(tmp_path):
    rates = dict(zip(WEEKS, [0.25, 0.0, -0.1, 31.4159, 0.25, 0.25, 0.25, 0.25, 0.25, 82.3], strict=True))
    served = stored(tmp_path, rates)
    taken = Store(tmp_path / "taken", later)

    with Gateway(served, clock=later) as gateway, connect(f"ib://127.0.0.1:{gateway.port}", clock=later) as source:
        download(taken, source, [FEES], (WEEKS[0], WEEKS[-1]))

    assert taken.read(FEES)["close"].to_pylist() == list(rates.values())
    assert taken.read(FEES).equals(served.read(FEES))
