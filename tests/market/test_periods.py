"""How many periods a year has: the table against the calendars themselves, and what runs are annualised by."""

import exchange_calendars
import pytest

from backtest.errors import UsageError
from backtest.market.hours import _ZONES, ALWAYS, FOREX, hours_of
from backtest.market.periods import SESSIONS_A_YEAR, Periods, bars_a_year, clock_of, periods_of, several_clocks
from backtest.market.series import Series

pytestmark = pytest.mark.filterwarnings("ignore:DatetimeIndex.weekday is deprecated")  # of the calendar of Hong Kong
COUNTED = sorted(SESSIONS_A_YEAR.keys() - {FOREX, ALWAYS})


def periods(*spellings):
    series = [Series.parse(one) for one in spellings]
    return periods_of(series, [hours_of(one.instrument) for one in series])


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTED)
def test_the_table_is_the_rounded_mean_of_the_sessions_from_2005_to_2024(name):
    found = exchange_calendars.get_calendar(name, start="2004-12-01", end="2024-12-31").sessions
    count = ((found >= "2005-01-01") & (found <= "2024-12-31")).sum()

    assert SESSIONS_A_YEAR[name] == round(count / 20)


@pytest.mark.parametrize(("name", "count"), [("XNYS", 252), ("XTKS", 245), ("XLON", 253), ("XETR", 254), ("CMES", 258)])
def test_the_table_has_what_is_known_of_the_large_exchanges(name, count):
    assert SESSIONS_A_YEAR[name] == count


def test_every_calendar_of_an_exchange_is_in_the_table():
    assert _ZONES.keys() == SESSIONS_A_YEAR.keys()


@pytest.mark.parametrize(
    ("spelling", "text"),
    [
        ("AAPL/1day", "252 sessions"),
        ("AAPL/1week", "52 weeks"),
        ("AAPL/1month", "12 months"),
        ("AAPL/1hour", "252 sessions"),
        ("AAPL/1min", "252 sessions"),
        ("7203-STK-TSEJ-JPY/1day", "245 sessions"),
        ("VOD-STK-LSE-GBP/5mins", "253 sessions"),
        ("SAP-STK-IBIS-EUR/1day", "254 sessions"),
        ("ES-FUT-CME-USD-202403/1hour", "258 sessions"),
        ("EUR-CASH/1day", "260 sessions"),
        ("EUR-CASH/1month", "12 months"),
        ("BTC-CRYPTO/1day", "365 sessions"),
        ("BTC-CRYPTO/1week", "52 weeks"),
        ("ROCK-STK-MARS-USD/1day", "252 sessions of New York, because those of MARS are unknown"),
    ],
)
def test_the_periods_of_a_run_are_those_of_its_bars_and_its_calendar(spelling, text):
    assert str(periods(spelling)) == text


@pytest.mark.parametrize(
    ("spellings", "text"),
    [
        (["AAPL/1day", "IBM/1day"], "252 sessions"),
        (["AAPL/1day", "AAPL/1min"], "252 sessions"),
        (["AAPL/1day", "BTC-CRYPTO/1day"], "365 sessions of BTC-CRYPTO/1day"),
        (["AAPL/1day", "AAPL/1week"], "252 sessions of AAPL/1day"),
        (["AAPL/1month", "AAPL/1week"], "52 weeks of AAPL/1week"),
        (["SAP-STK-IBIS-EUR/1day", "AAPL/1day"], "254 sessions of SAP-STK-IBIS-EUR/1day"),
    ],
)
def test_of_several_clocks_the_one_with_the_most_periods_measures_whatever_the_order(spellings, text):
    assert str(periods(*spellings)) == str(periods(*reversed(spellings))) == text


def test_of_two_calendars_with_as_many_sessions_the_order_decides_nothing():
    series = [Series.parse(one) for one in ("SAP-STK-IBIS-EUR/1day", "SAP-STK-FWB-EUR/1day")]
    hours = [hours_of(one.instrument) for one in series]

    assert series[clock_of(series, hours)] == series[::-1][clock_of(series[::-1], hours[::-1])] == series[0]
    assert several_clocks(series, hours)


@pytest.mark.parametrize("text", ["252 sessions", "52 weeks", "12.5 months", "365 sessions of BTC-CRYPTO/1day"])
def test_periods_are_read_as_they_are_written(text):
    assert str(Periods.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "252", "some sessions", "0 weeks", "nan weeks", "-1 months", "12 moons", "inf weeks"]
)
def test_what_are_no_periods_is_refused(text):
    with pytest.raises(UsageError, match="52 weeks"):
        Periods.parse(text)


@pytest.mark.parametrize(
    ("spelling", "bars"),
    [
        ("AAPL/1day", 252),
        ("AAPL/1week", 52),
        ("AAPL/1hour", 252 * 7),  # 9:30 to 10, then six whole hours
        ("AAPL/30mins", 252 * 13),
        ("AAPL/1min", 252 * 390),
        ("AAPL/1hour/TRADES/all", 252 * 16),  # 4:00 to 20:00
        ("VOD-STK-LSE-GBP/1hour", 253 * 9),  # 8:00 to 16:30
        ("0700-STK-SEHK-HKD/30mins", 246 * 11),  # 9:30 to 12:00, 13:00 to 16:00
        ("EUR-CASH/1hour", 260 * 24),
        ("BTC-CRYPTO/4hours", 365 * 6),
    ],
)
def test_the_bars_of_a_year_are_those_that_its_sessions_are_cut_into(spelling, bars):
    series = Series.parse(spelling)

    assert bars_a_year(series, hours_of(series.instrument)) == bars


@pytest.mark.parametrize(
    "text", ["ROCK-STK-MARS-USD", "TEVA-STK-TASE-ILS", "HSI-FUT-HKFE-HKD-202406", "FDAX-FUT-EUREX-EUR-202406"]
)
def test_short_bars_have_no_count_where_how_long_sessions_are_is_not_known(text):
    series = Series.parse(f"{text}/1hour")

    with pytest.raises(UsageError, match="no calendar is known"):
        bars_a_year(series, hours_of(series.instrument))
