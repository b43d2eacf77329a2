from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import backtrader as bt
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from handmade import day, fill, result_of

from backtest.api import run
from backtest.market import arrays
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.metrics.measurement import measure, measure_returns
from backtest.metrics.returns import equity_of
from backtest.report.figure_data import exposures
from backtest.report.figures import FIGURES
from backtest.store.store import Store

RETURNS = np.append(0.0, np.random.default_rng(23).normal(0.0005, 0.01, 419))  # 60 weeks; nothing is held on day 0
MARKET = equity_of(RETURNS, 100.0)[1:]
DAYS = np.arange(420)


def beside(prices, returns=RETURNS, **spec):
    """Return a run with these returns beside a benchmark with these prices, NaN where it has none."""
    equity = equity_of(returns, 100.0)[1:].tolist()
    found = result_of(equity, benchmark="SPY-STK-SMART-USD/1day/TRADES/rth", **spec)
    return measure(replace(found, record=found.record.append_column("benchmark", pa.array(prices))))


def prices_of(chosen):
    return np.where(chosen, MARKET, np.nan)


def test_a_benchmark_that_begins_later_is_measured_from_its_beginning():
    stats = beside(
        prices_of(DAYS >= 150), 0.93 * RETURNS
    )  # half the time of which nothing is known is no time of zeros

    assert stats["beta"] == pytest.approx(0.93)
    assert stats["correlation"] == pytest.approx(1)
    assert stats["tracking_error"] == pytest.approx(np.std(0.07 * RETURNS[151:], ddof=1) * np.sqrt(252))
    assert "The comparison with SPY/1day uses the 269 sessions that both have." in stats.basis


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (DAYS % 7 == 4, "uses the 59 sessions that both have, 36 of them per year"),  # of the 252 that it says
        (DAYS % 5 != 2, "uses the 336 sessions that both have, 202 of them per year"),
    ],
    ids=["weeks", "holes"],
)
def test_between_the_prices_of_a_benchmark_returns_are_compounded(chosen, words):
    stats = beside(prices_of(chosen))

    assert stats["beta"] == pytest.approx(1)
    assert stats["correlation"] == pytest.approx(1)
    assert stats["active_drawdown"] == pytest.approx(0, abs=1e-12)
    assert stats["active_premium"] == pytest.approx(0, abs=1e-12)
    assert words in stats.basis


def test_numbers_beside_weeks_are_of_as_many_a_year():
    stats = beside(prices_of(DAYS % 7 == 4), 0.5 * RETURNS, sessions_a_year=365.0)

    own, market = (equity_of(one)[1:][4::7] for one in (0.5 * RETURNS, RETURNS))
    active = np.diff(own) / own[:-1] - np.diff(market) / market[:-1]
    assert stats["tracking_error"] == pytest.approx(active.std(ddof=1) * np.sqrt(52))
    assert stats["information_ratio"] == pytest.approx(active.mean() / active.std(ddof=1) * np.sqrt(52))


def test_a_benchmark_without_a_price_has_too_few_returns():
    stats = beside(np.full(420, np.nan))

    assert stats.reasons["beta"] == "too few"


def test_a_dated_risk_free_return_compounds_between_the_prices_of_a_benchmark():
    rates = pd.Series(0.001, index=pd.DatetimeIndex([day(n) for n in range(420)]))
    found = result_of(MARKET.tolist(), benchmark="SPY-STK-SMART-USD/1day/TRADES/rth")
    found = replace(found, record=found.record.append_column("benchmark", pa.array(prices_of(DAYS % 2 == 0))))

    cash = np.array([0.001, *[1.001**2 - 1] * 209])  # the first price is there after one session
    excess = np.append(0.0, np.diff(MARKET[::2]) / MARKET[:-2:2]) - cash
    growth, of_cash = (np.prod(1 + one) ** (126 / 210) - 1 for one in (excess, cash))
    assert measure(found, rates)["m2"] == pytest.approx(growth + of_cash)  # of the benchmark beside itself


def test_returns_are_compounded_between_the_dates_of_a_benchmark_with_fewer():
    daily = pd.Series(RETURNS[1:], index=pd.DatetimeIndex([day(n) for n in range(1, 420)]))
    weekly = pd.Series(MARKET[4::7], index=pd.DatetimeIndex([day(n) for n in range(4, 420, 7)])).pct_change().dropna()

    stats = measure_returns(daily, benchmark=weekly, periods=365, risk_free=0.02)

    assert stats["beta"] == pytest.approx(1)
    assert stats["total_return"] == pytest.approx(MARKET[417] / MARKET[11] - 1)
    assert stats["volatility"] == pytest.approx(weekly.iloc[1:].std() * np.sqrt(52))
    assert "52 sessions per year of those that both have" in stats.basis


class BuysOnce(bt.Strategy):
    def next(self):
        if len(self) == 1:
            self.buy(size=900)


def test_a_run_keeps_what_its_benchmark_had_and_when(tmp_path):
    store, closes = Store(tmp_path / "bars"), dict(zip(weekdays(), MARKET[:200].round(2).tolist(), strict=True))
    fewer = {one: close for n, (one, close) in enumerate(closes.items()) if n >= 20 and n % 7}
    for text, kept in (("AAPL/1day", closes), ("MSFT/1day", fewer)):
        rows = [
            (datetime(*one.timetuple()[:3], tzinfo=UTC), *[close] * 4, 1e6, None, None) for one, close in kept.items()
        ]
        store.write(Series.parse(text), Span.of_dates(min(closes), max(closes)), table_of(rows))

    result = run(BuysOnce, "AAPL/1day", store=store, benchmark="MSFT/1day", costs="none")

    assert np.isnan(result.record["benchmark"].to_numpy()).tolist() == [one not in fewer for one in closes]
    assert result.stats["correlation"] == pytest.approx(1, abs=1e-4)  # of shares and a little cash beside the shares
    assert result.stats["beta"] == pytest.approx(0.9, abs=0.05)


def weekdays():
    return [one for one in (date(2023, 1, 2) + timedelta(days=n) for n in range(280)) if one.weekday() < 5]


def traded(fills, bars_of_a_session=7, **options):
    """Return a run of 14 bars at a price of 10, with equity of 100."""
    days = [day(n // bars_of_a_session) for n in range(14)]
    return result_of([100.0] * 14, fills, days=days, closes=[10.0] * 14, **options)


def test_exposure_is_the_share_of_bars_in_the_market():
    round_trips = [fill(1, 9, 10.0), fill(6, -9, 10.0), fill(8, 9, 10.0), fill(13, -9, 10.0)]  # flat at each close

    assert traded(round_trips).stats["exposure"] == pytest.approx(10 / 14)


def test_a_bar_within_which_a_position_was_opened_and_closed_is_in_the_market():
    assert traded([fill(3, 9, 10.0), fill(3, -9, 10.5)]).stats["exposure"] == pytest.approx(1 / 14)
    assert traded([]).stats["exposure"] == 0


def test_exposure_weighs_bars_and_not_sessions():
    found = traded([fill(10, 9, 10.0)], bars_of_a_session=10)  # a session of 10 bars, and one of 4

    assert found.account.held.tolist() == pytest.approx([0, 4 * 2 / 14])
    assert found.stats["exposure"] == pytest.approx(4 / 14)


def test_leverage_is_the_worth_of_positions_over_equity_in_the_mean_of_the_bars():
    stats = traded([fill(0, 5, 10.0), fill(7, -15, 10.0)]).stats

    assert stats["gross_leverage"] == pytest.approx((7 * 0.5 + 7 * 1.0) / 14)
    assert stats["net_leverage"] == pytest.approx((7 * 0.5 - 7 * 1.0) / 14)
    assert stats["max_gross_leverage"] == pytest.approx(1.0)


def test_a_future_is_worth_its_price_times_its_multiplier():
    found = traded([fill(0, 1, 10.0)], costs="futures:2.25:50:15")

    assert found.stats["gross_leverage"] == pytest.approx(50 * 10 / 100)
    assert exposures(found)[1].tolist() == [5.0, 5.0]
    assert FIGURES["exposure"].alt(found) == "Positions were worth 500% to 500% of equity, 500% on average."


def test_the_longest_time_under_water_is_told_beside_the_deepest_fall():
    money = [100.0, 50.0, 101.0, 100.0, 100.5, 100.9, 100.0]  # by half, back after a day; by a hundredth, for four days

    stats = result_of(money).stats

    assert (stats["max_drawdown"], stats["max_drawdown_days"], stats["max_drawdown_sessions"]) == (-0.5, 2, 2)
    assert (stats["longest_drawdown_days"], stats["longest_drawdown_sessions"]) == (4, 4)
    assert "Longest time under water, days" in repr(stats)


def test_where_the_deepest_fall_is_the_longest_it_is_told_once():
    stats = result_of([100.0, 90.0, 80.0, 100.0, 99.0]).stats

    assert (stats["longest_drawdown_days"], stats["max_drawdown_days"]) == (3, 3)
    assert "under water" not in repr(stats)
    assert result_of([100.0, 101.0]).stats["longest_drawdown_days"] == 0


def test_margin_is_held_against_equity_at_every_close():
    result = traded([fill(0, 10, 10.0)])
    required = [50.0] * 5 + [100.0, 101.0, 150.0, 100.0, 120.0, *[50.0] * 4]  # of 100; the sixth to the tenth bar

    stats = replace(result, record=result.record.append_column("margin", arrays.floats(required))).stats

    assert stats["margin_used"] == 1.5
    assert stats["margin_calls"] == 2  # of the first session its last bar, of the second two


def test_a_margin_account_is_told_in_the_short_table():
    result = traded([])
    required = replace(result, record=result.record.append_column("margin", arrays.floats([0.0] * 14)))

    assert {"margin_used", "margin_calls"} <= {*required.stats.headline}
    assert not {"margin_used", "margin_calls"} & {*result.stats.headline}
    assert result.stats.reasons["margin_used"] == "no margin account"


def test_the_largest_net_leverage_may_be_short():
    stats = traded([fill(0, 5, 10.0), fill(7, -15, 10.0)]).stats

    assert stats["max_net_leverage"] == pytest.approx(1.0)
