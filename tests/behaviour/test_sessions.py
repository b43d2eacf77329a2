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
from backtest.metrics.benchmark import beta, correlation
from backtest.research.out_of_sample.cross_validation import cross_validate
from backtest.research.out_of_sample.walk_forward import walk_forward
from backtest.store.store import Store

DAY = timedelta(days=1)

pytestmark = pytest.mark.filterwarnings("ignore:DatetimeIndex.weekday is deprecated")  # of the calendar of Hong Kong


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


@pytest.mark.parametrize("own", SIZES)
@pytest.mark.parametrize("other", SIZES)
def test_a_stock_has_a_beta_of_its_share_with_itself(bars, own, other):
    result = run(BuysOnce, f"AAPL/{own}", store=bars, benchmark=f"AAPL/{other}", costs="none", params={"size": 800})

    since = 2 if own == "1day" else 1  # the first session after the one in which it was bought
    returns, itself = result.returns.to_numpy()[since:], result.account.benchmark[since:]
    assert 0.75 < beta(returns, itself) < 1  # a fifth is cash; where it was a day late, this was about 0
    assert correlation(returns, itself) > 0.999


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spelling", "zone", "times", "left_out"),
    [
        ("EUR-CASH/1day", "UTC", ["00:00"], ()),  # with its Sundays, which are Monday's
        ("ES-FUT-CME-USD-202406+multiplier=1/1day", "UTC", ["00:00"], ()),
        ("AAPL/1hour", "America/New_York", ["09:30", "15:30"], (4, 5, 11)),  # of some sessions no bar is stored
    ],
)
def test_windows_and_folds_are_of_sessions_with_bars_each_once(tmp_path, spelling, zone, times, left_out):
    days = [day for n, day in enumerate(NEW_YORK) if n not in left_out]
    sundays = [day - DAY for day in days if day.weekday() == 0] if zone == "UTC" else []
    store = Store(tmp_path / "bars")
    put(store, spelling, list(on_days(sorted([*days, *sundays]), times, zone, price)))

    asked = {"store": store, "costs": "none"}
    forward = walk_forward(BuysOnce, spelling, [{"size": 10}], train=5, test=4, folder=tmp_path / "w", **asked)
    crossed = cross_validate(BuysOnce, spelling, [{"size": 10}], groups=3, tested=1, folder=tmp_path / "c", **asked)

    assert forward.sessions.tolist() == days[5:]
    assert crossed.sessions.tolist() == days


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
    assert first.stats.basis.startswith(f"365 sessions per year of BTC-CRYPTO/{size}, ")
    for place in (names, names[::-1]):
        forward = walk_forward(
            Both, place, [{}], train=8, test=5, store=store, folder=tmp_path / "-".join(place).replace("/", "-")
        )
        assert forward.sessions.tolist() == days[8:]


@pytest.mark.slow
def test_what_one_exchange_trades_after_the_sessions_of_the_other_is_of_the_next(tmp_path):
    days = [one.date() for one in exchange_calendars.get_calendar("XASX").sessions_in_range("2024-05-06", "2024-05-31")]
    store = Store(tmp_path)
    put(store, "BHP-STK-ASX-USD/1hour", list(on_days(days, ["10:00", "15:00"], "Australia/Sydney", price)))
    put(store, "AAPL/1hour", list(on_days(days, ["09:30", "15:30"], "America/New_York", price)))
    names = ["AAPL/1hour", "BHP-STK-ASX-USD/1hour"]

    result = run(Both, names, store=store, start=days[2], end=days[5], costs="none")
    forward = walk_forward(Both, names, [{}], train=8, test=3, store=store, folder=tmp_path / "w", costs="none")
    crossed = cross_validate(Both, names, [{}], groups=3, tested=1, store=store, folder=tmp_path / "c", costs="none")

    assert result.returns.index.date.tolist() == days[2:6]
    assert forward.sessions.tolist() == days[8:]
    assert crossed.sessions.tolist() == days


# --- twelve markets with whole and half days, and three without half days, worked from the hours of the exchanges

WHOLE_US = {"1hour": "09:30 10:00..15:00", "30mins": "09:30..15:30", "4hours": "09:30 12:00"}  # to 16:00
HALF_US = {"1hour": "09:30 10:00..12:00", "30mins": "09:30..12:30", "4hours": "09:30 12:00"}  # to 13:00
WHOLE_GB = {"1hour": "08:00..16:00", "30mins": "08:00..16:00", "4hours": "08:00 12:00 16:00"}  # to 16:30, 16:28
HALF_GB = {"1hour": "08:00..12:00", "30mins": "08:00..12:00", "4hours": "08:00 12:00"}  # to 12:30, 12:28
WHOLE_EU = {"1hour": "09:00..17:00", "30mins": "09:00..17:00", "4hours": "09:00 12:00 16:00"}  # to 17:30
HALF_FR = {"1hour": "09:00..14:00", "30mins": "09:00..14:00", "4hours": "09:00 12:00"}  # to 14:05
HALF_DE = {"1hour": "09:00..13:00", "30mins": "09:00..13:30", "4hours": "09:00 12:00"}  # to 14:00
HALF_SE = {"1hour": "09:00..12:00", "30mins": "09:00..12:30", "4hours": "09:00 12:00"}  # to 13:00
WHOLE_NO = {"1hour": "09:00..16:00", "30mins": "09:00..16:00", "4hours": "09:00 12:00 16:00"}  # to 16:20
WHOLE_HK = {"1hour": "09:30 10:00..11:00 13:00..15:00", "30mins": "09:30..11:30 13:00..15:30", "4hours": "09:30 13:00"}
HALF_HK = {"1hour": "09:30 10:00..11:00", "30mins": "09:30..11:30", "4hours": "09:30"}  # to 12:00
WHOLE_JP = {"1hour": "09:00..11:00 12:30 13:00..14:00", "30mins": "09:00..11:00 12:30..14:30", "4hours": "09:00 12:30"}
WHOLE_AU = {"1hour": "10:00..15:00", "30mins": "10:00..15:30", "4hours": "10:00 12:00"}  # to 16:00
HALF_AU = {"1hour": "10:00..14:00", "30mins": "10:00..14:00", "4hours": "10:00 12:00"}  # to 14:10
WHOLE_CME = {  # from 17:00 on the evening before to 16:00
    "1hour": "-17:00..23:00 00:00..15:00",
    "30mins": "-17:00..23:30 00:00..15:30",
    "4hours": "-17:00 -20:00 00:00..12:00",
}
HALF_CME = {  # to 12:00
    "1hour": "-17:00..23:00 00:00..11:00",
    "30mins": "-17:00..23:30 00:00..11:30",
    "4hours": "-17:00 -20:00 00:00..08:00",
}
FX = {  # from 17:15 on the evening before to 17:00
    "1hour": "-17:15 -18:00..23:00 00:00..16:00",
    "30mins": "-17:15 -17:30..23:30 00:00..16:30",
    "4hours": "-17:15 -20:00 00:00..16:00",
}
COINS = {"1hour": "00:00..23:00", "30mins": "00:00..23:30", "4hours": "00:00..20:00"}
YULE = "12-18 12-19 12-20 12-23 12-24* 12-27 12-30 12-31*"  # a star is a half day
GERMAN_YULE = "12-16 12-17 12-18 12-19 12-20 12-23 12-27 12-30*"
SWEDISH_EASTER = "03-21 03-22 03-25 03-26 03-27 03-28* 04-02 04-03"
NORWEGIAN_EASTER = "03-20 03-21 03-22 03-25 03-26 03-27* 04-02 04-03"
JULY = "06-27 06-28 07-01 07-02 07-03* 07-05 07-08 07-09"
LABOR_DAY = "08-27 08-28 08-29 08-30 09-02* 09-03 09-04 09-05"
FOUNDATION_DAY = "02-05 02-06 02-07 02-08 02-09 02-13 02-14 02-15"
TABLE = {  # series, another one, zone, sessions of 2024, bars of a whole day, bars of a half day
    "New York": ("AAPL", "IBM", "America/New_York", JULY, WHOLE_US, HALF_US),
    "Toronto": ("RY-STK-TSE-CAD", "BMO-STK-TSE-CAD", "America/Toronto", YULE.replace("31*", "31"), WHOLE_US, HALF_US),
    "London": ("VOD-STK-LSE-USD", "BP-STK-LSE-USD", "Europe/London", YULE, WHOLE_GB, HALF_GB),
    "Dublin": ("A5G-STK-ISED-EUR", "BIRG-STK-ISED-EUR", "Europe/Dublin", YULE, WHOLE_GB, HALF_GB),
    "Paris": ("MC-STK-SBF-EUR", "OR-STK-SBF-EUR", "Europe/Paris", YULE, WHOLE_EU, HALF_FR),
    "Amsterdam": ("ASML-STK-AEB-EUR", "INGA-STK-AEB-EUR", "Europe/Amsterdam", YULE, WHOLE_EU, HALF_FR),
    "Frankfurt": ("SAP-STK-IBIS-EUR", "SIE-STK-IBIS-EUR", "Europe/Berlin", GERMAN_YULE, WHOLE_EU, HALF_DE),
    "Stockholm": ("SAND-STK-SFB-SEK", "ASSA-STK-SFB-SEK", "Europe/Stockholm", SWEDISH_EASTER, WHOLE_EU, HALF_SE),
    "Oslo": ("EQNR-STK-OSE-NOK", "DNB-STK-OSE-NOK", "Europe/Oslo", NORWEGIAN_EASTER, WHOLE_NO, HALF_SE),
    "Hong Kong": ("700-STK-SEHK-HKD", "5-STK-SEHK-HKD", "Asia/Hong_Kong", YULE, WHOLE_HK, HALF_HK),
    "Sydney": ("BHP-STK-ASX-USD", "CBA-STK-ASX-USD", "Australia/Sydney", YULE, WHOLE_AU, HALF_AU),
    "Globex": (
        "ES-FUT-CME-USD-202412+multiplier=1",
        "NQ-FUT-CME-USD-202412+multiplier=1",
        "America/Chicago",
        LABOR_DAY,
        WHOLE_CME,
        HALF_CME,
    ),
    "Tokyo": ("7203-STK-TSEJ-JPY", "6758-STK-TSEJ-JPY", "Asia/Tokyo", FOUNDATION_DAY, WHOLE_JP, {}),
    "forex": ("EUR-CASH", "GBP-CASH", "America/New_York", "03-04 03-05 03-06 03-07 03-08 03-11 03-12 03-13", FX, {}),
    "crypto": ("BTC-CRYPTO", "ETH-CRYPTO", "UTC", "03-07 03-08 03-09 03-10 03-11 03-12 03-13 03-14", COINS, {}),
}
MINUTES = {"1hour": 60, "30mins": 30, "4hours": 240}
QUICK = ("New York", "Sydney", "Globex", "forex", "crypto")  # the calendars of others take a second each
CELLS = [
    pytest.param(market, size, marks=[] if market in QUICK else pytest.mark.slow)
    for market in TABLE
    for size in MINUTES
]


def moments(day, words, zone, minutes):
    """Return when the bars of a day open, of words such as "-17:00..23:00 00:00..15:00"; "-" is the evening before."""
    for word in words.split():
        first, _, last = word.removeprefix("-").partition("..")
        clocks = (datetime.strptime(one, "%H:%M").time() for one in (first, last or first))  # noqa: DTZ007
        start, end = (datetime.combine(day, clock) for clock in clocks)
        for n in range((end - start) // timedelta(minutes=minutes) + 1):
            local = start + n * timedelta(minutes=minutes) - DAY * word.startswith("-")
            yield local.replace(tzinfo=ZoneInfo(zone))


def a_market(folder, market, size):
    """Return a store with a market's bars, and the session of each by hand; the last bar of each has its price."""
    symbol, other, zone, dates, whole, half = TABLE[market]
    days = [(date.fromisoformat(f"2024-{one[:5]}"), half if one.endswith("*") else whole) for one in dates.split()]
    rows, by_hand = [], []
    for n, (day, bars) in enumerate(days):
        every = list(moments(day, bars[size], zone, MINUTES[size]))
        rows += [(moment, price(n if moment is every[-1] else max(n - 1, 0))) for moment in every]
        by_hand += [day] * len(every)
    store = Store(folder)
    put(store, f"{symbol}/{size}", rows)
    put(store, f"{other}/1day", list(on_days([day for day, _ in days], ["00:00"], "UTC", price)))
    return store, [day for day, _ in days], by_hand


@pytest.mark.parametrize(("market", "size"), CELLS)
def test_each_bar_is_of_the_session_that_the_hours_of_its_exchange_say(tmp_path, market, size):
    store, days, by_hand = a_market(tmp_path, market, size)
    symbol, other, *_ = TABLE[market]

    result = run(
        BuysOnce, f"{symbol}/{size}", store=store, benchmark=f"{other}/1day", costs="none", params={"size": 10}
    )

    assert result.record["session"].to_pylist() == by_hand
    prices = np.array([price(n) for n in range(len(days))])
    worth = 1e5 + 10 * result.spec.multiplier * (prices - prices[0])  # it was bought at the first session's price
    assert result.returns.index.date.tolist() == days
    assert result.returns.tolist() == pytest.approx((np.diff(worth, prepend=1e5) / np.append(1e5, worth[:-1])).tolist())
    assert np.log1p(result.returns).sum() == pytest.approx(np.log(result.equity.iloc[-1] / 1e5))
    assert result.account.benchmark[-7:].tolist() == pytest.approx((prices[1:] / prices[:-1] - 1).tolist())


@pytest.mark.slow
@pytest.mark.parametrize("market", TABLE)
def test_windows_and_folds_have_each_session_of_the_table_once(tmp_path, market):
    size = list(MINUTES)[list(TABLE).index(market) % len(MINUTES)]  # each size on some markets
    store, days, _ = a_market(tmp_path / "bars", market, size)
    series = f"{TABLE[market][0]}/{size}"

    asked = {"store": store, "costs": "none"}
    forward = walk_forward(BuysOnce, series, [{"size": 10}], train=4, test=2, folder=tmp_path / "w", **asked)
    crossed = cross_validate(BuysOnce, series, [{"size": 10}], groups=3, tested=1, folder=tmp_path / "c", **asked)

    assert forward.sessions.tolist() == days[4:]
    assert crossed.sessions.tolist() == days
    assert [len(step.outside.returns) for step in forward.steps] == [2, 2]
    whole = forward.equity.iloc[-1] / 1e5
    assert np.log1p(forward.returns).sum() == pytest.approx(np.log(whole))
    assert whole == pytest.approx(np.prod([1 + step.outside.metrics["total_return"] for step in forward.steps]))
