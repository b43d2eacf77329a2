"""Sessions are those of the exchange, for records, windows, folds and benchmarks, whatever the bars."""

from datetime import date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import backtrader as bt
import exchange_calendars
import numpy as np
import pytest

from backtest.api import run
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.research.out_of_sample.cross_validation import cross_validate
from backtest.research.out_of_sample.walk_forward import walk_forward
from backtest.store.store import Store

DAY = timedelta(days=1)


class BuysOnce(bt.Strategy):
    """Units of the first series at the first bar that it is asked at."""

    params = (("size", 100),)

    def next(self):
        if not self.position:
            self.buy(size=self.p.size)


def put(store, spelling, rows):
    """Write bars of (opening, price): each is flat at its price."""
    series = Series.parse(spelling)
    table = table_of([(moment, price, price, price, price, 1e9, None, None) for moment, price in rows])
    store.write(series, Span(rows[0][0], rows[-1][0] + 3 * DAY), table)


def on_days(days, times, zone, price):
    """Return bars at local times of each day, the last of a day at the day's price and the rest at the one before."""
    where = ZoneInfo(zone)
    for n, day in enumerate(days):
        for time in times:
            moment = datetime.combine(day, datetime.strptime(time, "%H:%M").time(), where)  # noqa: DTZ007
            yield moment, price(n if time == times[-1] else max(n - 1, 0))


def price(n):
    return round(100 + 10 * np.sin(1.7 * n) + n / 5, 2)


def weekdays(since, count):
    every = (date.fromisoformat(since) + n * DAY for n in range(2 * count))
    return [day for day in every if day.weekday() < 5][:count]


NEW_YORK = weekdays("2024-03-04", 18)  # no holiday, and the clocks change on the 10th
SIZES = {
    "1day": ["00:00"],
    "4hours": ["09:30", "12:00"],
    "1hour": ["09:30", "10:30", "14:30", "15:30"],  # the close cuts the last one short
    "30mins": ["09:30", "10:00", "15:30"],
}


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    """Return a store with the same path as bars of two stocks, of each size."""
    store = Store(tmp_path_factory.mktemp("sizes"))
    for symbol in ("AAPL", "MSFT"):
        for size, times in SIZES.items():
            zone = "UTC" if size == "1day" else "America/New_York"
            put(store, f"{symbol}/{size}", list(on_days(NEW_YORK, times, zone, price)))
    return store


@pytest.mark.parametrize("own", SIZES)
@pytest.mark.parametrize("other", SIZES)
def test_a_benchmark_of_any_size_is_compared_session_by_session(bars, own, other):
    result = run(BuysOnce, f"AAPL/{own}", store=bars, benchmark=f"MSFT/{other}", costs="none")

    ends = np.append(np.flatnonzero(np.diff(result.record["session"].to_numpy().astype(int))), len(result.record) - 1)
    assert result.record["session"].to_numpy()[ends].astype("datetime64[D]").tolist() == NEW_YORK
    assert result.record["benchmark"].to_numpy()[ends].tolist() == [price(n) for n in range(len(NEW_YORK))]
    bought = 1 if own == "1day" else 0  # at the next bar, at its price, which is that of its session
    moves = result.account.benchmark[bought + 1 :]
    held = 100 * np.diff([price(n) for n in range(bought, len(NEW_YORK))])
    assert result.equity.iloc[-1] - 1e5 == pytest.approx(held.sum())
    assert np.corrcoef(result.returns[bought + 1 :], moves)[0, 1] > 0.99


def test_a_bar_within_a_session_is_beside_the_last_one_that_was_complete(bars):
    result = run(BuysOnce, "AAPL/1hour", store=bars, benchmark="MSFT/1day")

    shown = ["none" if np.isnan(one) else one for one in result.record["benchmark"].to_pylist()[:8]]
    assert shown == ["none", "none", "none", price(0), "none", "none", "none", price(1)]


def test_daily_bars_beside_hours_add_no_session(bars):
    result = run(BuysOnce, ["AAPL/1hour", "AAPL/1day"], store=bars, costs="none")

    assert result.returns.index.date.tolist() == NEW_YORK
    assert len(result.record) == len(NEW_YORK) * 5  # the bar of a day is over at midnight in UTC


def test_a_sunday_of_forex_belongs_to_monday(tmp_path):
    days = [date(2024, 3, 3) + n * DAY for n in range(21)]  # a Sunday first
    stored = [day for day in days if day.weekday() != 5]
    store = Store(tmp_path)
    for name in ("EUR-CASH/1day", "GBP-CASH/1day"):
        put(store, name, list(on_days(stored, ["00:00"], "UTC", price)))

    result = run(BuysOnce, "EUR-CASH/1day", store=store, benchmark="GBP-CASH/1day", costs="none")

    assert len(result.record) == 18
    assert result.returns.index.date.tolist() == [day for day in days if day.weekday() < 5]
    assert np.prod(1 + result.returns) == pytest.approx(result.equity.iloc[-1] / 1e5)
    assert result.account.benchmark[1:] == pytest.approx(
        [
            price(stored.index(day)) / price(stored.index(before)) - 1
            for before, day in pairwise(result.returns.index.date)
        ]
    )


class Both(bt.Strategy):
    def next(self):
        for data in self.datas:
            if len(data) and not self.getposition(data).size:
                self.buy(data, size=10)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["1hour", "1day"])
def test_the_order_of_a_stock_and_a_coin_changes_no_number(bars, tmp_path, size):
    store = Store(tmp_path)
    days = [NEW_YORK[0] + n * DAY for n in range((NEW_YORK[-1] - NEW_YORK[0]).days + 1)]
    hours = ["00:00", "23:00"] if size == "1hour" else ["00:00"]
    put(store, f"BTC-CRYPTO/{size}", list(on_days(days, hours, "UTC", lambda n: price(3 * n))))
    table = bars.read(f"AAPL/{size}")
    store.write(Series.parse(f"AAPL/{size}"), Span.of_dates(days[0], days[-1] + DAY), table)

    names = [f"AAPL/{size}", f"BTC-CRYPTO/{size}"]
    first, second = (run(Both, one, store=store, costs="none") for one in (names, names[::-1]))

    assert first.returns.index.date.tolist() == second.returns.index.date.tolist() == days
    assert first.returns.tolist() == pytest.approx(second.returns.tolist(), abs=1e-15)
    assert first.stats["sharpe"] == pytest.approx(second.stats["sharpe"], rel=1e-9)
    assert first.stats.basis.startswith(f"365 sessions a year of BTC-CRYPTO/{size}, ")
    for place in (names, names[::-1]):
        forward = walk_forward(
            Both, place, [{}], train=8, test=5, store=store, folder=tmp_path / "-".join(place).replace("/", "-")
        )
        assert forward.sessions.tolist() == days[8:]


@pytest.mark.slow
def test_what_one_exchange_trades_after_the_sessions_of_the_other_is_of_the_next(tmp_path):
    days = [one.date() for one in exchange_calendars.get_calendar("XASX").sessions_in_range("2024-05-06", "2024-05-31")]
    store = Store(tmp_path)
    put(store, "BHP-STK-ASX-AUD/1hour", list(on_days(days, ["10:00", "15:00"], "Australia/Sydney", price)))
    put(store, "AAPL/1hour", list(on_days(days, ["09:30", "15:30"], "America/New_York", price)))
    names = ["AAPL/1hour", "BHP-STK-ASX-AUD/1hour"]

    result = run(Both, names, store=store, start=days[2], end=days[5], costs="none")
    forward = walk_forward(Both, names, [{}], train=8, test=3, store=store, folder=tmp_path / "w")
    crossed = cross_validate(Both, names, [{}], groups=3, tested=1, store=store, folder=tmp_path / "c")

    assert result.returns.index.date.tolist() == days[2:6]
    assert forward.sessions.tolist() == days[8:]
    assert crossed.sessions.tolist() == days
