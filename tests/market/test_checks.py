from datetime import UTC, date, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from market import minute_bars, span_of_sessions

from backtest.cli.app import main
from backtest.errors import BadBars
from backtest.market.bars import schema, table_of
from backtest.market.calendars import sessions
from backtest.market.checks import (
    check_answer,
    compare_bars,
    doubted,
    impossible_bars,
    missing_sessions,
    missing_stretches,
    outside,
    seldom_trades,
    shifted,
)
from backtest.market.hours import hours_of
from backtest.market.series import ContractDetails, Series
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
    said = capsys.readouterr().err
    assert (
        "line 3 (2024-07-06) lies outside of the exchange's sessions (XNYS): 2024-07-06, a Saturday, has no session"
        in said
    )
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


def stated(text, liquid_hours, zone):
    return hours_of(Series.parse(text).instrument, ContractDetails(liquid_hours=liquid_hours, time_zone=zone))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "hours", "zone", "moment", "is_outside"),
    [
        ("AAPL/1min", "20240704:0930-20240704:1300", "US/Eastern", (4, 16, 59), False),  # a holiday, by the calendar
        ("AAPL/1min", "20240703:0930-20240703:1600;20240705:0930-20240705:1600", "US/Eastern", (3, 19, 59), False),
        ("AAPL/1min", "20240702:0930-20240702:1600;20240703:0930-20240703:1200", "US/Eastern", (2, 20, 1), True),
        ("AAPL/1day", "20240703:CLOSED;20240704:0930-20240704:1300;20240705:CLOSED", "US/Eastern", (4, 0, 0), False),
        ("AAPL/1day", "20240703:CLOSED;20240704:0930-20240704:1300;20240705:CLOSED", "US/Eastern", (5, 0, 0), True),
        ("7203-STK-TSEJ-JPY/1min", "20240702:0900-20240702:1130,20240702:1230-20240702:1500",
         "Japan", (2, 2, 31), True),
        ("7203-STK-TSEJ-JPY/1min", "20240702:0900-20240702:1130,20240702:1230-20240702:1500",
         "Japan", (2, 3, 31), False),
        ("ES-FUT-CME-USD-202409/1min", "20240701:1700-20240702:1600;20240702:1700-20240703:1600", "US/Central",
         (2, 21, 30), True),
        ("ES-FUT-CME-USD-202409/1min", "20240701:1700-20240702:1600;20240702:1700-20240703:1600", "US/Central",
         (2, 20, 30), False),
        ("ES-FUT-CME-USD-202409/1hour", "20240701:1700-20240702:1515;20240702:1530-20240703:1600", "US/Central",
         (2, 20, 0), False),  # a bar in part of which it is open
    ],
)  # fmt: skip
def test_what_is_stated_goes_before_the_calendar(text, hours, zone, moment, is_outside):
    series, at_ = Series.parse(text), datetime(2024, 7, *moment, tzinfo=UTC)

    bars = table_of([(at_, 10.0, 10.0, 10.0, 10.0, 1.0, None, None)])

    assert outside(bars, series, stated(text, hours, zone)).tolist() == [is_outside]


@pytest.mark.parametrize(
    ("moment", "is_doubted"),
    [
        ((2024, 3, 6, 22, 30), True),
        ((2024, 3, 6, 21, 59), False),
        ((2024, 7, 6, 21, 30), True),
        ((2024, 7, 6, 20), False),
    ],
)
def test_a_time_of_day_at_which_a_future_never_trades_is_doubted_in_any_season(moment, is_doubted):
    text = "ES-FUT-CME-USD-202409/1min"
    series, hours = (
        Series.parse(text),
        stated(text, "20241001:1700-20241002:1600;20241002:1700-20241003:1600", "US/Central"),
    )

    bars = table_of([(datetime(*moment, tzinfo=UTC), 10.0, 10.0, 10.0, 10.0, 1.0, None, None)])

    assert doubted(bars, series, hours).tolist() == [is_doubted]
    assert not outside(bars, series, hours).any()


@pytest.mark.parametrize("text", ["AAPL/5mins", "AAPL/1hour", "7203-STK-TSEJ-JPY/15mins"])
@pytest.mark.parametrize("later", [-300, -60, 60])
def test_sessions_that_lie_too_early_or_too_late_as_a_whole_are_shifted(text, later):
    """Of the first and the last one that part which is not in the hours may not be in the answer."""
    series = Series.parse(text)
    hours = hours_of(series.instrument)
    true = minute_bars(series, date(2024, 7, 1), date(2024, 7, 5))
    moved = at(true, *(moment + timedelta(minutes=later) for moment in true["time"].to_pylist()))
    stamps, first, last = moved["time"], true["time"][0], true["time"][-1]
    seen = moved.filter(pc.and_(pc.greater_equal(stamps, first), pc.less_equal(stamps, last)))
    one_odd_bar = at(true, *true["time"].to_pylist()[:3], datetime(2024, 7, 1, 22, 0, tzinfo=UTC))

    assert shifted(seen, series, hours).all()
    assert not shifted(true, series, hours).any()
    assert not shifted(one_odd_bar, series, hours).any()


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


def test_a_holiday_and_a_weekend_are_not_missing():
    assert missing_sessions(DAILY, NYSE, daily(1, 2, 3, 5, 8), WEEK) == []


def test_sessions_at_the_edges_of_the_span_are_missing_too():
    missing = missing_sessions(DAILY, NYSE, daily(2, 3, 5), WEEK)

    assert missing == [Span.of_dates(date(2024, 7, day), date(2024, 7, day)) for day in (1, 8)]


def test_a_session_without_any_minute_is_missing_from_opening_to_close():
    bars = minute_bars(MINUTES, date(2024, 7, 1), date(2024, 7, 5))
    third = between(bars, datetime(2024, 7, 3, tzinfo=UTC), datetime(2024, 7, 4, tzinfo=UTC))

    missing = missing_sessions(MINUTES, NYSE, bars.filter(pc.invert(third)), WEEK)

    opening = datetime(2024, 7, 3, 13, 30, tzinfo=UTC)
    assert missing[0] == Span(opening, opening + timedelta(hours=3.5))
    assert [one.start.day for one in missing] == [3, 8]  # and the last session of the span, of which there is none


SPRING = (date(2024, 3, 4), date(2024, 3, 15))  # ten sessions, over a change of the clocks
TEN = span_of_sessions(MINUTES, *SPRING)


def between(bars, since, until):
    """Return of each bar whether it begins between two times."""
    stamp = bars["time"].type
    return pc.and_(
        pc.greater_equal(bars["time"], pa.scalar(since, stamp)), pc.less(bars["time"], pa.scalar(until, stamp))
    )


def without(bars, *stretches):
    """Return bars of 2024-03-07 without those between two times, UTC."""
    for start, end in stretches:
        since, until = (datetime.fromisoformat(f"2024-03-07T{clock}+00:00") for clock in (start, end))
        bars = bars.filter(pc.invert(between(bars, since, until)))
    return bars


@pytest.mark.slow
@pytest.mark.parametrize("stretch", [("14:30", "15:10"), ("16:00", "16:40"), ("20:20", "21:00"), ("20:55", "21:00")])
@pytest.mark.parametrize("hours", ["rth", "all"])
def test_a_stretch_that_is_gone_of_a_session_is_missing(stretch, hours):
    series = Series.parse(f"AAPL/1min/TRADES/{hours}")
    bars = without(minute_bars(series, *SPRING), stretch)

    missing = missing_stretches(series, NYSE, bars, span_of_sessions(series, *SPRING))

    assert [(f"{one.start:%d %H:%M}", f"{one.end:%d %H:%M}") for one in missing] == [
        (f"07 {stretch[0]}", f"07 {stretch[1]}")
    ]


def test_up_to_three_stretches_that_are_gone_of_a_session_are_missing():
    stretches = [("14:30", "15:10"), ("16:00", "16:06"), ("20:00", "21:00")]
    bars = minute_bars(MINUTES, *SPRING)
    four = [*stretches, ("17:00", "17:40")]

    missing = [missing_stretches(MINUTES, NYSE, without(bars, *some), TEN) for some in (stretches, four)]

    assert [(f"{one.start:%H:%M}", f"{one.end:%H:%M}") for one in missing[0]] == stretches
    assert sum((one.end - one.start for one in missing[1]), timedelta()) == timedelta(minutes=40 + 6 + 60 + 40)


def test_stretches_are_missing_where_most_sessions_lack_some_of_their_own():
    euro = Series.parse("EUR-CASH/15mins")
    bars, span = on_the_clock(euro, *SPRING), span_of_sessions(euro, *SPRING)
    cuts = [span.start + timedelta(days=n + 2 * (n > 4), hours=2 + n) for n in range(10)]  # one in each session
    left = [not any(cut <= moment < cut + timedelta(hours=5) for cut in cuts) for moment in bars["time"].to_pylist()]

    missing = missing_stretches(euro, hours_of(euro.instrument), bars.filter(left), span)

    assert len(missing) == 10


def test_what_all_sessions_lack_at_one_time_of_day_is_not_missing():
    late = minute_bars(MINUTES, *SPRING)
    opening = [moment.astimezone(ZoneInfo("America/New_York")) for moment in late["time"].to_pylist()]

    missing = missing_stretches(
        MINUTES, NYSE, late.filter([(moment.hour, moment.minute) >= (9, 40) for moment in opening]), TEN
    )

    assert missing == []


def test_regular_hours_that_are_gone_between_an_early_morning_and_an_evening_are_missing():
    series = Series.parse("AAPL/15mins/TRADES/all")
    bars = without(minute_bars(series, *SPRING), ("13:00", "22:00"))

    missing = missing_stretches(series, NYSE, bars, span_of_sessions(series, *SPRING))

    assert [(f"{one.start:%d %H:%M}", f"{one.end:%d %H:%M}") for one in missing] == [("07 14:30", "07 21:00")]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_of_two_sessions_with_few_trades_no_stretch_is_missing(share, seed):
    bars, chance = minute_bars(MINUTES, *SPRING).slice(0, 780), Random(seed)

    thin = bars.filter([chance.random() > share for _ in range(len(bars))])

    assert missing_stretches(MINUTES, NYSE, thin, TEN) == []


TOKYO = "7203-STK-TSEJ-JPY"  # from 09:00 to 11:30 and 12:30 to 15:00, nine hours ahead of UTC


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "lost", "found"),
    [
        ("AAPL/1hour", ("14:30", "15:00"), [("14:30", "15:00")]),  # the first, of half an hour
        ("AAPL/1hour", ("17:00", "18:00"), [("17:00", "18:00")]),
        ("AAPL/2hours", ("19:00", "21:00"), [("19:00", "21:00")]),  # on New York's clock: at 09:30, 10, 12 and 14
        ("AAPL/4hours", ("14:30", "17:00"), [("14:30", "17:00")]),
        (f"{TOKYO}/5mins", ("03:30", "06:00"), [("03:30", "06:00")]),  # the whole afternoon
        (f"{TOKYO}/5mins", ("00:00", "01:00"), [("00:00", "01:00")]),
        ("EUR-CASH/4hours", ("13:00", "21:00"), [("13:00", "21:00")]),
        ("BTC-CRYPTO/1hour", ("03:00", "06:00"), [("03:00", "06:00")]),
    ],
)
def test_bars_of_other_sizes_and_sessions_are_missing_too(text, lost, found):
    series = Series.parse(text)
    hours = hours_of(series.instrument)
    bars = on_the_clock(series, *SPRING)

    missing = [
        missing_stretches(series, hours, some, span_of_sessions(series, *SPRING))
        for some in (bars, without(bars, lost))
    ]  # fmt: skip

    assert missing[0] == []
    assert [(f"{one.start:%m-%d %H:%M}", f"{one.end:%H:%M}") for one in missing[1]] == [
        (f"03-07 {start}", end) for start, end in found
    ]


def on_the_clock(series, since, until):
    """Return bars that start with each session and with the clock of its exchange."""
    hours = hours_of(series.instrument)
    zone, day = ZoneInfo(hours.zone), timedelta(days=1)
    times = []
    for session in sessions(hours, since, until):
        for part in Span(session.open, session.close).minus(session.breaks):
            moment = part.start
            while moment < part.end:
                times.append(moment)
                midnight = moment.astimezone(zone).replace(hour=0, minute=0)
                past = (moment.astimezone(zone) - midnight).total_seconds() % series.size.seconds
                moment += min(timedelta(seconds=series.size.seconds - past), day)
    return table_of([(moment, 1.0, 1.0, 1.0, 1.0, 1.0, None, None) for moment in times])


def test_quiet_bars_here_and_there_are_not_missing_where_most_sessions_have_some():
    series, chance = Series.parse("AAPL/5mins"), Random(1)
    bars = minute_bars(series, *SPRING)  # 78 a session

    quiet = bars.filter([chance.random() > 0.02 for _ in range(len(bars))])

    assert missing_stretches(series, NYSE, quiet, span_of_sessions(series, *SPRING)) == []


def test_weeks_and_months_with_a_session_are_missing_where_there_is_no_bar():
    weeks, months = Series.parse("AAPL/1week"), Series.parse("AAPL/1month")
    spring = Span.of_dates(date(2024, 3, 4), date(2024, 4, 7))

    missing = missing_sessions(weeks, NYSE, at(daily(1, 2, 3), *map(friday, (8, 22, 28))), spring)

    assert missing == [Span.of_dates(date(2024, 3, 11), date(2024, 3, 17)),
                       Span.of_dates(date(2024, 4, 1), date(2024, 4, 7))]  # fmt: skip
    assert missing_sessions(months, NYSE, at(daily(1), friday(28)), spring) == []
    two = Span.of_dates(date(2024, 2, 1), date(2024, 3, 31))
    assert missing_sessions(months, NYSE, at(daily(1), friday(28)), two) == [
        Span.of_dates(date(2024, 2, 1), date(2024, 2, 29))
    ]
    part = Span.of_dates(date(2024, 3, 12), date(2024, 3, 15))  # of a week without a bar, which is not looked at
    assert missing_sessions(weeks, NYSE, at(daily(1), friday(8)), part) == []


def friday(day):
    """Return the stamp of the last session of a week in March 2024."""
    return datetime(2024, 3, day, tzinfo=UTC)


def test_a_few_minutes_without_a_trade_are_not_missing():
    bars = without(minute_bars(MINUTES, *SPRING), ("15:00", "15:04"), ("17:00", "17:03"), ("20:57", "21:00"))

    assert missing_stretches(MINUTES, NYSE, bars, TEN) == []


@pytest.mark.slow
@pytest.mark.parametrize(("share", "seed"), [(share, seed) for share in (0.03, 0.2, 0.5, 0.9) for seed in range(5)])
def test_of_an_instrument_that_seldom_trades_no_stretch_is_missing(share, seed):
    bars, chance = minute_bars(MINUTES, *SPRING), Random(seed)

    thin = bars.filter([chance.random() > share for _ in range(len(bars))])

    assert missing_stretches(MINUTES, NYSE, thin, TEN) == []


@pytest.mark.parametrize("share", [0.95, 0.985])
def test_of_an_instrument_with_a_few_bars_a_session_no_stretch_is_missing(share):
    """Between two bars, and beside them, lie three stretches: the rest is as good as whole, and says nothing."""
    series, dates, chance = Series.parse("AAPL/5mins"), (date(2024, 4, 1), date(2024, 5, 31)), Random(1)
    bars = minute_bars(series, *dates)

    thin = bars.filter([chance.random() > share for _ in range(len(bars))])

    assert missing_stretches(series, NYSE, thin, span_of_sessions(series, *dates)) == []


def test_forty_minutes_here_and_there_are_missing_where_all_others_are_there():
    bars = without(
        minute_bars(MINUTES, *SPRING), *((f"{14 + n // 6}:{n % 6}1", f"{14 + n // 6}:{n % 6}2") for n in range(5, 38))
    )

    missing = missing_stretches(MINUTES, NYSE, bars, TEN)

    assert [one.end - one.start for one in missing] == [timedelta(minutes=1)] * 33


def test_a_half_day_lacks_nothing_after_its_close():
    series, days = Series.parse("AAPL/1min/TRADES/all"), (date(2024, 11, 25), date(2024, 12, 3))
    bars = minute_bars(series, *days)
    evening = between(bars, datetime(2024, 11, 29, 22, tzinfo=UTC), datetime(2024, 11, 30, tzinfo=UTC))

    assert missing_stretches(series, NYSE, bars.filter(pc.invert(evening)), span_of_sessions(series, *days)) == []


@pytest.mark.parametrize(("gone", "seldom"), [((), False), ((3, 4, 9, 12), False), ((2, 5, 9, 11, 15), True)])
def test_an_instrument_seldom_trades_where_sessions_without_a_bar_are_usual(gone, seldom):
    bars = daily(*(day for day in (1, 2, 3, 5, 8, 9, 10, 11, 12, 15, 16) if day not in gone))

    assert seldom_trades(DAILY, NYSE, bars, Span.of_dates(date(2024, 7, 1), date(2024, 7, 31))) is seldom


@pytest.mark.slow
def test_weekdays_are_missing_where_the_calendar_is_not_known():
    rock = Series.parse("ROCK-STK-MARS-USD/1day")

    missing = missing_sessions(rock, hours_of(rock.instrument), daily(1, 3, 4, 8), WEEK)

    assert missing == [Span.of_dates(date(2024, 7, day), date(2024, 7, day)) for day in (2, 5)]


@pytest.mark.parametrize(
    ("text", "taken", "refused"),
    [
        # Of an exchange in no known zone, what is a weekend wherever an exchange may be: 10:00 to 11:00 a day later.
        ("ROCK-STK-MARS-USD/1min", ("2024-07-06 09:59Z", "2024-07-07 11:00Z"), "2024-07-06 10:00Z"),
        # Of Munich by its own clock, which is two hours ahead.
        ("BMW-STK-GETTEX-EUR/1min", ("2024-07-05 21:59Z", "2024-07-07 22:00Z"), "2024-07-05 22:00Z"),
        # Before 1997 nothing is known of Tokyo but its weeks, nine hours ahead.
        ("7203-STK-TSEJ-JPY/1min", ("1995-06-30 06:00Z", "1995-07-03 00:00Z"), "1995-07-01 00:00Z"),
    ],
)
def test_a_minute_of_a_weekend_is_refused_where_no_calendar_is_known(text, taken, refused):
    series = Series.parse(text)
    hours, bars = hours_of(series.instrument), minute_bars(MINUTES, date(2024, 7, 1), date(2024, 7, 1))

    check_answer(at(bars, *map(datetime.fromisoformat, taken)), series, hours)

    with pytest.raises(BadBars, match=r"outside of the exchange's sessions \(.*no holidays known"):
        check_answer(at(bars, datetime.fromisoformat(refused)), series, hours)


def test_a_night_from_friday_to_saturday_is_taken_of_an_exchange_that_has_nights():
    series = Series.parse("NK225M-FUT-OSE.JPN-JPY-202409/1min")
    bars = minute_bars(MINUTES, date(2024, 7, 1), date(2024, 7, 1))

    check_answer(at(bars, datetime(2024, 7, 5, 20, 30, tzinfo=UTC)), series, hours_of(series.instrument))


# Another scale, other numbers, or neither


def rows_of(*rows, days=None):
    """Return a bar a day of July 2024 from open, high, low, close and volume."""
    days = days or [1, 2, 3, 5, 8, 9, 10][: len(rows)]
    return table_of(
        [(datetime(2024, 7, day, tzinfo=UTC), *row, None, None) for day, row in zip(days, rows, strict=True)]
    )


WEEKS = [
    (171.06, 172.37, 170.21, 171.55, 41_500.0),
    (171.63, 173.98, 171.40, 173.12, 38_211.0),
    (173.00, 173.35, 169.87, 170.04, 55_930.0),
    (169.50, 171.11, 168.42, 170.89, 47_007.0),
    (170.95, 172.77, 170.33, 172.50, 36_154.0),
]


def scaled(ratio, rows=WEEKS, decimals=2):
    return [(*(round(price * ratio, decimals) for price in row[:4]), row[4] / ratio) for row in rows]


@pytest.mark.parametrize("ratio", [1 / 4, 1 / 7, 2 / 3, 20 / 21, 0.97, 1.5, 10.0, 100.0])
def test_a_split_a_small_one_and_a_reverse_one_have_a_ratio(ratio):
    change = compare_bars(rows_of(*WEEKS), rows_of(*scaled(ratio)))

    assert change.ratio == pytest.approx(ratio, rel=1e-3)


@pytest.mark.parametrize("corrected", [0, 2, 4])
def test_a_bar_that_is_corrected_on_the_night_of_a_split_hides_it_not(corrected):
    new = scaled(1 / 4)
    new[corrected] = (*new[corrected][:3], new[corrected][3] * 1.01, 77.0)

    assert compare_bars(rows_of(*WEEKS), rows_of(*new)).ratio == pytest.approx(0.25, rel=1e-3)


def test_a_bar_that_is_gone_on_the_night_of_a_split_hides_it_not():
    change = compare_bars(rows_of(*WEEKS), rows_of(*scaled(1 / 4)[1:], days=[2, 3, 5, 8]))

    assert change.ratio == pytest.approx(0.25, rel=1e-3)
    assert change.gone == (datetime(2024, 7, 1, tzinfo=UTC),)


@pytest.mark.parametrize("new", [[*scaled(1 / 2)[:2], *WEEKS[2:]], [*WEEKS[:3], *scaled(1 / 2)[3:]]])
def test_two_scales_in_what_is_stored_have_a_ratio(new):
    assert compare_bars(rows_of(*WEEKS), rows_of(*new)).ratio == pytest.approx(0.5, rel=1e-3)


def test_the_oldest_bar_alone_is_enough_where_its_prices_are_not_all_the_same():
    """A vendor that rescales days after a split: of the sessions read again, one is from before it."""
    flat = [(171.0, 171.0, 171.0, 171.0, 500.0), *WEEKS[1:]]

    late, chance = (compare_bars(rows_of(*old), rows_of(*scaled(1 / 2, old)[:1], *old[1:])) for old in (WEEKS, flat))

    assert late.ratio == pytest.approx(0.5, rel=1e-3)
    assert (chance.ratio, chance.moved) == (None, (datetime(2024, 7, 1, tzinfo=UTC),))


@pytest.mark.parametrize("row", [1, 2, 4])
def test_one_bar_among_others_is_no_split_whatever_its_prices(row):
    new = list(WEEKS)
    new[row] = scaled(1.5)[row]

    change = compare_bars(rows_of(*WEEKS), rows_of(*new))

    assert (change.ratio, change.moved) == (None, change.times)


def test_yen_have_no_cents():
    old = [(1301.0, 1315.0, 1296.0, 1309.0, 900.0), (1310.0, 1322.0, 1305.0, 1319.0, 800.0)]
    a_third = [(*(float(round(price / 3)) for price in row[:4]), row[4] * 3) for row in old]
    a_yen_off = [(*old[0][:3], 1310.0, 900.0), (*old[1][:3], 1318.0, 800.0)]

    assert compare_bars(rows_of(*old), rows_of(*a_third)).ratio == pytest.approx(1 / 3, rel=0.01)
    assert compare_bars(rows_of(*old), rows_of(*a_yen_off)).ratio is None


def test_prices_that_are_not_rounded_alike_are_no_split():
    old = [(*(price + 1e-7 for price in row[:4]), row[4]) for row in WEEKS]

    change = compare_bars(rows_of(*old), rows_of(*WEEKS))

    assert (change.ratio, change.moved, len(change.times)) == (None, (), 5)


@pytest.mark.parametrize(("by", "moved"), [(0.85, 0), (0.86, 1), (-0.85, 0), (-0.86, 1)])
def test_a_price_moves_by_more_than_half_a_percent(by, moved):
    new = [(*WEEKS[0][:3], WEEKS[0][3] + by, WEEKS[0][4]), *WEEKS[1:]]  # 0.5 % of 171.55 is 0.85775

    change = compare_bars(rows_of(*WEEKS), rows_of(*new))

    assert (len(change.times), len(change.moved), change.ratio, change.unit) == (1, moved, None, None)


def test_a_price_of_cents_may_move_by_one():
    old = [(0.51, 0.53, 0.50, 0.52, 9.0), (0.52, 0.55, 0.52, 0.54, 9.0), (0.54, 0.57, 0.53, 0.55, 9.0)]
    one, two = ([(*old[0][:3], old[0][3] - cents, 9.0), *old[1:]] for cents in (0.01, 0.02))

    assert compare_bars(rows_of(*old), rows_of(*one)).moved == ()
    assert compare_bars(rows_of(*old), rows_of(*two)).moved == (datetime(2024, 7, 1, tzinfo=UTC),)


def test_a_revised_volume_moves_no_price_and_is_no_unit():
    new = [(*WEEKS[0][:4], WEEKS[0][4] + 1), *WEEKS[1:]]

    change = compare_bars(rows_of(*WEEKS), rows_of(*new))

    assert (len(change.times), change.moved, change.gone, change.ratio, change.unit) == (1, (), (), None, None)


LOTS = [(*row[:4], float(row[4] // 100)) for row in WEEKS]


@pytest.mark.parametrize(("old", "new", "unit"), [(LOTS, WEEKS, 100.0), (WEEKS, LOTS, 0.01)])
def test_lots_and_shares_differ_by_a_hundred(old, new, unit):
    change = compare_bars(rows_of(*old), rows_of(*new))

    assert (change.unit, change.ratio, change.moved) == (unit, None, ())


def test_a_thin_stock_whose_volumes_were_revised_has_the_same_unit():
    old = [(*row[:4], 1.0) for row in WEEKS]
    new = [(*row[:4], 4.0) for row in WEEKS]

    assert compare_bars(rows_of(*old), rows_of(*new)).unit is None


def test_a_stored_price_that_never_was_one_is_no_price_that_moved():
    old = [(*WEEKS[0][:1], 1.7976931348623157e308, *WEEKS[0][2:]), *WEEKS[1:]]

    change = compare_bars(rows_of(*old), rows_of(*WEEKS))

    assert (len(change.times), change.moved, change.ratio) == (1, (), None)


@pytest.mark.slow
def test_of_more_than_a_million_bars_each_impossible_one_is_named_by_its_own_row():
    count = 1_000_003
    ones, times = np.ones(count), np.arange(count) * 5_000_000
    low = ones.copy()
    low[[5, 1_000_001]] = 2.0
    columns = {"open": ones, "high": ones, "low": low, "close": ones, "volume": ones, "average": ones}
    stamps = pa.array(times).cast(pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC"))
    bars = pa.table({"time": stamps, **columns, "trades": np.ones(count, np.int64)}, schema())
    coin = Series.parse("BTC-CRYPTO-PAXOS-USD/5secs")

    found = impossible_bars(bars, coin, hours_of(coin.instrument))

    assert [(one.row, one.text) for one in found] == [(row, "high 1 is below low 2") for row in (5, 1_000_001)]
