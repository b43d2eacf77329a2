from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from backtest.engine.account.currencies import BarTimes, conversion_rates, known_since, pairs_to_download
from backtest.errors import BadBars, NoBars
from backtest.market.bars import table_of
from backtest.market.hours import hours_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.store.store import Store

ALL = Span.of_dates(date(2023, 1, 1), date(2024, 12, 31))


def bars(*times, close=1.0):
    moments = [datetime.fromisoformat(time).replace(tzinfo=UTC) for time in times]
    return table_of([(moment, close, close, close, close, None, None, None) for moment in moments])


def text(moments):
    return [str(one) for one in moments.astype("datetime64[m]")]


def times_of(spelled, *times):
    series = Series.parse(spelled)
    return BarTimes.of(bars(*times), series, hours_of(series.instrument))


# --- when a rate is known


@pytest.mark.parametrize(
    ("size", "opened", "since"),
    [
        ("1day", "2024-01-10", "2024-01-10T22:00"),  # 17:00 in New York
        ("1day", "2024-07-10", "2024-07-10T21:00"),
        ("1day", "2024-01-07", "2024-01-08T22:00"),  # a Sunday's belongs to Monday
        ("1week", "2024-01-12", "2024-01-12T22:00"),
        ("1week", "2024-01-08", "2024-01-12T22:00"),  # stamped with its Monday, it is over on Friday all the same
        ("1month", "2024-01-31", "2024-01-31T22:00"),
        ("1hour", "2024-01-10T14:00", "2024-01-10T15:00"),
        ("15mins", "2024-01-10T14:00", "2024-01-10T14:15"),
    ],
)
def test_a_rate_is_known_from_the_close_of_its_bar_on(size, opened, since):
    series = Series.parse(f"EUR-CASH-IDEALPRO-USD/{size}/MIDPOINT")

    assert text(known_since(bars(opened), series, hours_of(series.instrument))) == [since]


# --- when bars open and close


@pytest.mark.parametrize(
    ("spelled", "opened", "opens", "closes"),
    [
        ("AAPL/1day", "2024-01-10", "2024-01-10T14:30", "2024-01-10T21:00"),
        ("AAPL/1day", "2023-11-24", "2023-11-24T14:30", "2023-11-24T18:00"),  # half a day
        ("7203-STK-TSEJ-JPY/1day", "2024-01-10", "2024-01-10T00:00", "2024-01-10T06:00"),
        ("BHP-STK-ASX-AUD/1day", "2024-01-10", "2024-01-09T23:00", "2024-01-10T05:00"),
        ("AAPL/1day", "2024-01-15", "2024-01-12T21:00", "2024-01-12T21:00"),  # a holiday: nothing new since Friday
        ("AAPL/1week", "2024-01-12", "2024-01-08T14:30", "2024-01-12T21:00"),
        ("AAPL/1hour", "2024-01-10T15:00", "2024-01-10T15:00", "2024-01-10T16:00"),
        ("AAPL/1hour", "2024-01-10T20:30", "2024-01-10T20:30", "2024-01-10T21:00"),  # cut by the close
    ],
)
def test_bars_open_and_close_with_their_sessions(spelled, opened, opens, closes):
    found = times_of(spelled, opened)

    assert (text(found.opens), text(found.closes)) == ([opens], [closes])


# --- which pairs are taken


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def put(store, name, close, days=("2024-01-01", "2024-01-20")):
    first, last = (date.fromisoformat(day) for day in days)
    every = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    times = [one.isoformat() for one in every if one.weekday() < 5]
    if "hour" in name:
        times = [f"{day}T{hour:02}:00" for day in times for hour in range(20)]
    store.write(Series.parse(f"{name}/MIDPOINT"), ALL, bars(*times, close=close))


MOMENTS = np.array(["2024-01-08T15:00", "2024-01-12T21:00"], "datetime64[us]")


def taken(store, currency, base, moments=MOMENTS):
    legs = conversion_rates(store, currency, base, moments)
    rate = np.prod([one.at(moments) for one in legs], axis=0)
    return [(one.leg.series.key.removesuffix("/MIDPOINT/rth"), one.leg.inverse) for one in legs], rate.tolist()


def test_a_pair_is_taken_as_it_is_or_the_other_way_round(store):
    put(store, "EUR-CASH-IDEALPRO-USD/1day", 1.25)

    assert taken(store, "EUR", "USD") == ([("EUR-CASH-IDEALPRO-USD/1day", False)], [1.25, 1.25])
    assert taken(store, "USD", "EUR") == ([("EUR-CASH-IDEALPRO-USD/1day", True)], [0.8, 0.8])


def test_a_cross_rate_goes_by_dollars_before_euros_before_others(store):
    for name, close in (("EUR-CASH-IDEALPRO-CHF/1day", 0.5), ("EUR-CASH-IDEALPRO-JPY/1day", 160.0),
                        ("USD-CASH-IDEALPRO-CHF/1day", 0.8)):  # fmt: skip
        put(store, name, close)

    by_euros, rate = taken(store, "CHF", "JPY")
    assert (by_euros, rate[0]) == ([("EUR-CASH-IDEALPRO-CHF/1day", True), ("EUR-CASH-IDEALPRO-JPY/1day", False)], 320.0)
    put(store, "USD-CASH-IDEALPRO-JPY/1day", 150.0)
    assert taken(store, "CHF", "JPY")[0] == [
        ("USD-CASH-IDEALPRO-CHF/1day", True),
        ("USD-CASH-IDEALPRO-JPY/1day", False),
    ]
    put(store, "CHF-CASH-IDEALPRO-JPY/1day", 170.0)
    assert taken(store, "CHF", "JPY")[0] == [("CHF-CASH-IDEALPRO-JPY/1day", False)]


def test_the_finest_bars_are_taken_that_are_known_throughout(store):
    put(store, "EUR-CASH-IDEALPRO-USD/1day", 1.25)
    put(store, "EUR-CASH-IDEALPRO-USD/1hour", 1.5, ("2024-01-09", "2024-01-20"))

    assert taken(store, "EUR", "USD")[0] == [("EUR-CASH-IDEALPRO-USD/1day", False)]
    assert taken(store, "EUR", "USD", MOMENTS[1:])[0] == [("EUR-CASH-IDEALPRO-USD/1hour", False)]


def test_a_pair_is_left_that_ends_too_early(store):
    put(store, "EUR-CASH-IDEALPRO-USD/1day", 1.25, ("2023-12-01", "2024-01-02"))
    late = np.array(["2024-01-12T21:00"], "datetime64[us]")

    with pytest.raises(NoBars, match=r"EUR-CASH/1day has no rate for 2024-01-12 21:00 UTC"):
        conversion_rates(store, "EUR", "USD", late)
    assert taken(store, "EUR", "USD", late - np.timedelta64(3, "D"))[1] == [1.25]


def test_a_close_that_is_no_rate_is_refused(store):
    put(store, "EUR-CASH-IDEALPRO-USD/1day", 0.0)

    with pytest.raises(BadBars, match="has a close that is not a valid exchange rate"):
        conversion_rates(store, "EUR", "USD", MOMENTS)


@pytest.mark.parametrize(
    ("currency", "base", "pairs"),
    [
        ("USD", "EUR", ["EUR-CASH-IDEALPRO-USD"]),
        ("JPY", "USD", ["USD-CASH-IDEALPRO-JPY"]),
        ("GBP", "EUR", ["EUR-CASH-IDEALPRO-GBP"]),
        ("HKD", "USD", ["USD-CASH-IDEALPRO-HKD"]),
        ("AUD", "USD", ["AUD-CASH-IDEALPRO-USD"]),
        ("HKD", "EUR", ["USD-CASH-IDEALPRO-HKD", "EUR-CASH-IDEALPRO-USD"]),
        ("CHF", "GBP", ["GBP-CASH-IDEALPRO-CHF"]),
    ],
)
def test_the_pairs_to_download_are_as_ib_names_them(currency, base, pairs):
    assert pairs_to_download(currency, base) == pairs
