from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from market import minute_bars

from backtest.cli.app import main
from backtest.errors import BadBars
from backtest.market.bars import schema, table_of
from backtest.market.checks import check_answer, compare_bars, missing_sessions
from backtest.market.hours import hours_of
from backtest.market.series import Series
from backtest.market.span import Span

DAILY = Series.parse("AAPL/1day")
MINUTES = Series.parse("AAPL/1min")
NYSE = hours_of(DAILY.instrument)
WEEK = Span.of_dates(date(2024, 7, 1), date(2024, 7, 8))


def daily(*days, scale=1.0):
    """Return a bar a day of July 2024, its prices to a cent."""
    prices = [(10.0 + n, 12.35 + n, 9.11 + n, 11.27 + n) for n in days]
    return table_of(
        [
            (datetime(2024, 7, n, tzinfo=UTC), *(round(price * scale, 2) for price in row), 100.0, None, None)
            for n, row in zip(days, prices, strict=True)
        ]
    )


def at(bars, *moments):
    """Return the first bars, moved to other moments."""
    column = pa.array(moments, schema().field("time").type)
    return bars.slice(0, len(moments)).set_column(0, schema().field("time"), column)


def test_bars_of_sessions_can_be_true():
    check_answer(daily(1, 2, 3, 5, 8), DAILY, NYSE)
    check_answer(minute_bars(MINUTES, date(2024, 7, 1), date(2024, 7, 5)), MINUTES, NYSE)
    check_answer(
        minute_bars(Series.parse("AAPL/1hour"), date(2024, 7, 1), date(2024, 7, 2)), Series.parse("AAPL/1hour"), NYSE
    )


@pytest.mark.parametrize(("day", "why"), [(4, "a holiday"), (6, "a Saturday")])
def test_a_daily_bar_without_a_session_cannot(day, why):
    with pytest.raises(BadBars, match="sessions"):
        check_answer(daily(day), DAILY, NYSE)


@pytest.mark.parametrize(
    ("moment", "problem"),
    [
        (datetime(2024, 7, 1, 13, 29, tzinfo=UTC), "sessions"),
        (datetime(2024, 7, 1, 20, 0, tzinfo=UTC), "sessions"),
        (datetime(2024, 7, 3, 17, 0, tzinfo=UTC), "sessions"),  # after the half-day's close
        (datetime(2024, 7, 1, 14, 0, 30, tzinfo=UTC), "grid"),
        (datetime(2024, 7, 1, 14, 0, 0, 500_000, tzinfo=UTC), "grid"),
    ],
)
def test_a_minute_outside_of_the_sessions_or_the_grid_cannot(moment, problem):
    bars = minute_bars(MINUTES, date(2024, 7, 1), date(2024, 7, 1))

    with pytest.raises(BadBars, match=problem):
        check_answer(at(bars, moment), MINUTES, NYSE)


def test_where_hours_are_only_roughly_known_nothing_is_refused_for_them():
    forex = Series.parse("EUR-CASH/1min")

    check_answer(
        at(minute_bars(forex, date(2024, 7, 1), date(2024, 7, 1)), datetime(2024, 6, 30, 21, 5, tzinfo=UTC)),
        forex,
        hours_of(forex.instrument),
    )


@pytest.mark.parametrize("text", ["EUR-CASH/1min", "EUR-CASH/1day"])
def test_no_currency_trades_on_a_saturday(text):
    forex = Series.parse(text)
    bars = minute_bars(forex, date(2024, 7, 1), date(2024, 7, 1))

    with pytest.raises(BadBars, match="sessions"):
        check_answer(at(bars, datetime(2024, 7, 6, tzinfo=UTC)), forex, hours_of(forex.instrument))


@pytest.mark.parametrize(
    ("text", "price", "allowed"),
    [
        ("AAPL/1day", 0.0, False),
        ("EUR-CASH/1day/MIDPOINT", 0.0, False),
        ("AAPL/1day/HISTORICAL_VOLATILITY", 0.0, True),
        ("AAPL-OPT-SMART-USD-20241220-200-C/1day/BID", 0.0, True),  # nobody bids
        ("AAPL-OPT-SMART-USD-20241220-200-C/1day/BID", -0.01, False),
        ("CL-FUT-NYMEX-USD-202005/1day", -37.63, True),  # the settlement of 2020-04-20
        ("TICK-IND-NYSE-USD/1day", -1200.0, True),
    ],
)
def test_what_can_be_worthless_may_be_and_what_cannot_may_not(text, price, allowed):
    series = Series.parse(text)
    bars = table_of([(datetime(2024, 7, 1, tzinfo=UTC), price, price, price, price, None, None, None)])

    if allowed:
        check_answer(bars, series, hours_of(series.instrument))
    else:
        with pytest.raises(BadBars, match=r"are (not positive|negative): 2024-07-01"):
            check_answer(bars, series, hours_of(series.instrument))


def test_a_file_passes_the_same_door(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("date,open,high,low,close\n2024-07-05,1,1,1,1\n2024-07-06,1,1,1,1\n")

    with pytest.raises(SystemExit) as ended:
        main(["import", str(tmp_path / "a.csv"), "AAPL/1day", "--store", str(tmp_path / "bars")])

    assert ended.value.code == 3
    assert "outside of the exchange's sessions: 2024-07-06" in capsys.readouterr().err
    assert not (tmp_path / "bars").exists()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("EUR-CASH/1hour", datetime(2024, 7, 1, 21, 15, tzinfo=UTC)),  # 17:15 in New York, when forex opens
        ("GC-FUT-COMEX-USD-202408/30mins", datetime(2024, 7, 1, 12, 20, tzinfo=UTC)),  # 08:20, when gold does
        ("VIX-IND-CBOE-USD/1min", datetime(2024, 7, 1, 20, 14, tzinfo=UTC)),  # until 16:15
    ],
)
def test_sessions_that_begin_at_odd_minutes_or_end_late_are_known(text, moment):
    series = Series.parse(text)

    check_answer(
        at(minute_bars(series, date(2024, 7, 1), date(2024, 7, 1)), moment), series, hours_of(series.instrument)
    )


def test_equal_bars_and_more_of_them_are_no_difference():
    assert not compare_bars(daily(1, 2), daily(1, 2, 3))
    assert not compare_bars(schema().empty_table(), daily(1))


def with_signal(bars, *numbers):
    return bars.append_column(pa.field("signal", pa.float64()), pa.array(numbers, pa.float64()))


def test_a_number_that_only_the_answer_has_is_no_difference_and_another_or_none_is_one():
    stored = with_signal(daily(1, 2), 1.0, None)

    assert not compare_bars(stored, with_signal(daily(1, 2), 1.0, 5.0))
    assert not compare_bars(daily(1, 2), stored)
    assert len(compare_bars(stored, with_signal(daily(1, 2), 0.0, None)).times) == 1
    assert len(compare_bars(stored, daily(1, 2)).times) == 1


def test_a_changed_bar_and_a_gone_one_are_differences_without_a_ratio():
    changed = daily(1, 2, 3).set_column(5, schema().field("volume"), pa.array([100.0, 101.0, 100.0]))

    assert compare_bars(daily(1, 2, 3), changed).times == (datetime(2024, 7, 2, tzinfo=UTC),)
    assert compare_bars(daily(1, 2, 3), daily(1, 3)).times == (datetime(2024, 7, 2, tzinfo=UTC),)
    assert compare_bars(daily(1, 2, 3), changed).ratio is None


@pytest.mark.parametrize("ratio", [1 / 2, 1 / 7, 2 / 3, 10.0])
def test_one_ratio_of_all_prices_is_a_split_though_each_is_rounded_to_a_cent(ratio):
    difference = compare_bars(daily(1, 2, 3, 5), daily(1, 2, 3, 5, scale=ratio))

    assert difference.ratio == pytest.approx(ratio, rel=0.01)


def test_prices_that_moved_a_little_are_no_split():
    assert compare_bars(daily(1, 2, 3), daily(1, 2, 3, scale=1.001)).ratio is None


def test_missing_sessions_are_those_of_the_exchange_and_neighbours_are_one():
    missing = missing_sessions(DAILY, NYSE, daily(1, 8), WEEK)

    assert missing == [Span.of_dates(date(2024, 7, 2), date(2024, 7, 5))]  # the holiday within it counts with them


def test_a_holiday_a_weekend_and_what_is_outside_of_the_bars_are_not_missing():
    assert missing_sessions(DAILY, NYSE, daily(1, 2, 3, 5, 8), WEEK) == []
    assert missing_sessions(DAILY, NYSE, daily(2, 3), WEEK) == []


def test_a_session_without_any_minute_is_missing_from_opening_to_close():
    bars = minute_bars(MINUTES, date(2024, 7, 1), date(2024, 7, 5))
    third = pc.equal(
        pc.floor_temporal(bars["time"], unit="day"), pa.scalar(datetime(2024, 7, 3, tzinfo=UTC), bars["time"].type)
    )

    missing = missing_sessions(MINUTES, NYSE, bars.filter(pc.invert(third)), WEEK)

    opening = datetime(2024, 7, 3, 13, 30, tzinfo=UTC)
    assert missing == [Span(opening, opening + timedelta(hours=3.5))]


def test_nothing_is_missing_where_the_calendar_is_not_known():
    rock = Series.parse("ROCK-STK-MARS-USD/1day")

    assert missing_sessions(rock, hours_of(rock.instrument), daily(1, 8), WEEK) == []
