from datetime import UTC, date, datetime, timedelta

import data_faults
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from market import minute_bars

from backtest.market.bars import schema, table_of
from backtest.market.calendars import sessions
from backtest.market.hours import hours_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.store.audit.coverage import coverage_of
from backtest.store.audit.findings import inspect_bars
from backtest.store.manifest import Answer

DAILY = Series.parse("AAPL/1day")
MINUTES = Series.parse("AAPL/1min")
NYSE = hours_of(DAILY.instrument)
NOW = datetime(2024, 12, 1, tzinfo=UTC)


def days(*closes, series=DAILY, since=date(2024, 1, 2)):
    """Return a daily bar a session, each opening at its close."""
    found = sessions(hours_of(series.instrument), since, date(2025, 12, 31))[: len(closes)]
    return table_of(
        [
            (
                datetime(*one.day.timetuple()[:3], tzinfo=UTC),
                close,
                close + 0.1,
                close - 0.1,
                close,
                100.0 + n,
                None,
                None,
            )
            for n, (one, close) in enumerate(zip(found, closes, strict=True))
        ]
    )


def week(prices=None):
    """Return the minutes of five sessions, 2024-07-01 to 08; prices by number of the bar, others near 100."""
    bars = minute_bars(MINUTES, date(2024, 7, 1), date(2024, 7, 8))
    quiet = np.array([100 + 0.01 * (n % 7) for n in range(len(bars))])
    for row, price in (prices or {}).items():
        quiet[row] = price
    for name, reach in (("open", 0.0), ("high", 0.01), ("low", -0.01), ("close", 0.0)):
        bars = bars.set_column(
            bars.schema.get_field_index(name), schema().field(name), pa.array(np.round(quiet + reach, 2))
        )
    return bars


def without(bars, first, last):
    return pa.concat_tables([bars.slice(0, first), bars.slice(last + 1)])


def answer(bars, first, last):
    span = Span.of_dates(date.fromisoformat(first), date.fromisoformat(last))
    return Answer(span, bars, NOW)


def checks(bars, series=DAILY, answers=None):
    return [(one.check, one.level) for one in inspect_bars(bars, series, hours_of(series.instrument), answers)]


def test_nothing_is_found_in_the_sample(sample):
    for series in sample.series():
        answers = sample.manifest(series).answers
        assert inspect_bars(sample.read(series), series, hours_of(series.instrument), answers) == []


@pytest.mark.parametrize(
    "text", ["AAPL/1min", "AAPL/1hour", "AAPL/5mins/TRADES/all", "EUR-CASH/5mins", "ES-FUT-CME-USD-202406/1min"]
)
def test_nothing_is_found_in_clean_sessions_with_a_change_of_the_clock(text):
    bars = minute_bars(Series.parse(text), date(2024, 3, 1), date(2024, 3, 28))

    assert inspect_bars(bars, Series.parse(text), hours_of(Series.parse(text).instrument)) == []


def test_no_bars_are_no_finding():
    assert inspect_bars(schema().empty_table(), DAILY, NYSE) == []


def test_a_session_without_a_bar_is_a_hole():
    (hole,) = inspect_bars(without(days(10.0, 10.1, 10.2, 10.1), 1, 2), DAILY, NYSE)

    assert (hole.check, hole.level, hole.count) == ("sessions", "hole", 2)
    assert hole.at == datetime(2024, 1, 3, tzinfo=UTC)
    assert "2024-01-03 to 2024-01-04" in hole.text


def test_a_session_that_the_vendor_said_to_be_empty_is_no_hole():
    bars = without(days(10.0, 10.1, 10.2, 10.1), 1, 2)
    asked = answer(2, "2024-01-02", "2024-01-05")

    one_is_said_empty = inspect_bars(bars, DAILY, NYSE, [asked, answer(0, "2024-01-03", "2024-01-03")])

    assert [(one.level, one.count) for one in one_is_said_empty] == [("hole", 1)]
    assert inspect_bars(bars, DAILY, NYSE, [asked, answer(0, "2024-01-03", "2024-01-04")]) == []


def test_sessions_that_an_answer_lacks_at_its_ends_are_found():
    asked, at = Span.of_dates(date(2024, 3, 4), date(2024, 3, 12)), datetime(2024, 3, 20, tzinfo=UTC)
    rows = [(datetime(2024, 3, day, tzinfo=UTC), 1.0, 1.0, 1.0, 1.0, 1.0, None, None) for day in (5, 6, 7, 8)]
    series = Series.parse("AAPL/1day")
    empty = Answer(Span.of_dates(date(2024, 3, 12), date(2024, 3, 12)), 0, at)

    found = [
        [(one.level, one.text) for one in inspect_bars(table_of(rows), series, hours_of(series.instrument), answers)
         if one.check == "sessions"]
        for answers in ([Answer(asked, 4, at)], [Answer(asked, 4, at), empty])
    ]  # fmt: skip

    before = ("warn", "1 session has no bar, 2024-03-04: the answer for these dates has other bars")
    assert found[0] == [
        before,
        ("hole", "2 sessions have no bar, 2024-03-11 to 2024-03-12: the answer for these dates has other bars"),
    ]
    assert found[1] == [before, ("hole", "1 session has no bar, 2024-03-11: the answer for these dates has other bars")]


def test_weeks_that_an_answer_lacks_are_found():
    series, asked = Series.parse("AAPL/1week"), Span.of_dates(date(2024, 3, 4), date(2024, 4, 7))
    rows = [(datetime(2024, 3, day, tzinfo=UTC), 1.0, 1.0, 1.0, 1.0, 1.0, None, None) for day in (8, 22, 28)]

    found = [one.text for one in inspect_bars(table_of(rows), series, NYSE, [Answer(asked, 3, NOW)])]

    assert found == [
        "5 sessions have no bar, 2024-03-11 to 2024-03-15: the answer for these dates has other bars",
        "5 sessions have no bar, 2024-04-01 to 2024-04-05: the answer for these dates has other bars",
    ]


def test_a_session_that_was_never_asked_for_is_only_a_warning():
    bars = without(days(10.0, 10.1, 10.2, 10.1), 1, 2)

    (found,) = inspect_bars(
        bars, DAILY, NYSE, [answer(1, "2024-01-02", "2024-01-02"), answer(1, "2024-01-05", "2024-01-05")]
    )

    assert (found.level, found.count) == ("warn", 2)
    assert "never requested" in found.text


@pytest.mark.slow
def test_where_holidays_are_only_roughly_known_an_empty_session_is_only_a_warning():
    forex = Series.parse("EUR-CASH/1day")
    bars = days(1.1, 1.1001, 1.1002, series=forex)

    assert checks(without(bars, 1, 1), forex) == [("sessions", "warn")]


def test_minutes_missing_inside_a_session_are_counted():
    (found,) = inspect_bars(without(week(), 400, 411), MINUTES, NYSE)

    assert (found.check, found.level, found.count) == ("minutes", "warn", 12)
    assert found.text == "12 of 390 bars missing on 2024-07-02"


def test_a_half_day_has_fewer_minutes_and_lacks_none():
    assert checks(minute_bars(MINUTES, date(2024, 7, 3), date(2024, 7, 3)), MINUTES) == []


@pytest.mark.parametrize(
    ("ratio", "name"), [(1 / 2, "2:1"), (2 / 3, "3:2"), (1 / 4, "4:1"), (10.0, "1:10"), (1.5, "2:3"), (0.01, "100:1")]
)
def test_a_night_near_the_ratio_of_a_split_looks_like_one(ratio, name):
    quiet = [400.0, 401.0, 400.5, 402.0]

    (found,) = inspect_bars(days(*quiet, *(close * ratio for close in quiet)), DAILY, NYSE)

    assert (found.check, found.level, found.at.date()) == ("split", "warn", date(2024, 1, 8))
    assert f"a split of {name}" in found.text


def test_a_fall_by_news_is_near_no_split():
    assert checks(days(53.5, 53.4, 53.6, 53.5 * 0.527, 28.0)) == []  # as AAPL on 2000-09-29


@pytest.mark.parametrize("times", [1 / 70, 3.6, 1000.0])
def test_a_night_of_more_than_threefold_asks_for_the_units(times):
    (found,) = inspect_bars(days(10.0, 10.1, 10.0 * times, 10.1 * times), DAILY, NYSE)

    assert (found.check, found.level) == ("jump", "warn")


def test_a_night_between_bars_that_lie_far_apart_is_not_looked_at():
    bars = pa.concat_tables([days(10.0, 10.1), days(20.0, 20.1, since=date(2025, 1, 2))])

    assert checks(bars) == [("sessions", "hole")]


def test_an_option_that_doubles_overnight_is_no_split():
    option = Series.parse("AAPL-OPT-SMART-USD-20260619-200-C/1day")

    assert checks(days(2.0, 2.1, 4.2, 4.1), option) == []


@pytest.mark.parametrize("price", [110.0, 90.0, 10_000.0, 1.0])
def test_a_minute_far_from_its_neighbours_is_a_spike_found_once(price):
    (found,) = inspect_bars(week({500: price}), MINUTES, NYSE)

    assert (found.check, found.level) == ("spike", "warn")
    assert found.at == week()["time"][500].as_py()


def test_the_first_and_the_last_minute_of_a_session_can_be_spikes():
    for row in (390, 389):  # opening of the second session, end of the first
        assert [one.check for one in inspect_bars(week({row: 110.0}), MINUTES, NYSE)] == ["spike"]


def test_a_move_of_three_percent_cannot_be_told_from_news():
    assert checks(week({500: 103.0}), MINUTES) == []


def test_a_tick_of_a_small_price_is_no_spike():
    bars = minute_bars(MINUTES, date(2024, 7, 1), date(2024, 7, 1))
    small = pa.array([0.06 if n % 50 == 7 else 0.05 for n in range(len(bars))])
    for name in ("open", "high", "low", "close"):
        bars = bars.set_column(bars.schema.get_field_index(name), schema().field(name), small)

    assert checks(bars, MINUTES) == []


def test_prices_below_zero_are_measured_by_what_is_usual():
    oil = Series.parse("CL-FUT-NYMEX-USD-202405/1min")
    bars = minute_bars(oil, date(2024, 3, 4), date(2024, 3, 4))
    near_zero = pa.array(np.round(np.sin(np.arange(len(bars)) / 50) * 2, 2))
    for name in ("open", "high", "low", "close"):
        bars = bars.set_column(bars.schema.get_field_index(name), schema().field(name), near_zero)

    assert checks(bars, oil) == []


def frozen_from(bars, row, count, volume=None):
    for name in ("open", "high", "low", "close", "volume"):
        values = bars[name].to_pylist()
        values[row : row + count] = [volume if name == "volume" and volume is not None else values[row]] * count
        bars = bars.set_column(bars.schema.get_field_index(name), schema().field(name), pa.array(values, pa.float64()))
    return bars


def test_thirty_equal_minutes_are_a_frozen_feed_and_29_are_not():
    (found,) = inspect_bars(frozen_from(week(), 100, 30), MINUTES, NYSE)

    assert (found.check, found.level, found.count) == ("frozen", "warn", 30)
    assert checks(frozen_from(week(), 100, 29), MINUTES) == []


def test_a_stock_that_seldom_trades_has_no_frozen_feed():
    bars = week()
    for row in range(0, len(bars) - 20, 20):
        bars = frozen_from(bars, row, 15, volume=0.0)

    assert checks(frozen_from(bars, 100, 60, volume=0.0), MINUTES) == []
    assert checks(frozen_from(bars, 100, 60, volume=7.0), MINUTES) == [("frozen", "warn")]


def test_five_equal_days_are_a_frozen_feed():
    bars = frozen_from(days(*(10 + 0.1 * n for n in range(12))), 3, 5)

    assert checks(bars) == [("frozen", "warn")]


def test_stored_bars_that_the_door_would_refuse_are_named():
    saturday = Span.of_dates(date(2024, 1, 6), date(2024, 1, 6)).start
    bars = days(10.0, 10.1).set_column(0, schema().field("time"), pa.array([saturday - timedelta(days=1), saturday]))

    (found,) = inspect_bars(bars.cast(schema()), DAILY, NYSE)

    assert (found.check, found.level) == ("rules", "reject")
    assert "2024-01-06" in found.text


@pytest.mark.slow
def test_seeded_faults_are_caught_and_clean_sessions_give_no_alarm():
    trials = 25

    caught, alarms = data_faults.run(trials, seed=11)

    assert alarms == 0
    for name in data_faults.REFUSED:
        assert caught[name] == (trials, trials), name
    for name in ("a session gone", "minutes gone", "a frozen feed", "a price x 100", "a spike of 10 %"):
        assert caught[name] == (trials, trials), name
    for name in ("a split of 4:1", "a split of 3:2"):  # the night itself moves the ratio
        assert caught[name][0] >= 0.9 * trials, name
    assert len(caught) >= 24


def test_a_gone_session_is_found_by_its_first_minute():
    bars = week()
    times = bars["time"].cast(pa.timestamp("us"))  # for those of a zone Arrow wants the system's database
    third = pc.equal(pc.day(times), 3)

    (hole,) = inspect_bars(bars.filter(pc.invert(third)), MINUTES, NYSE)

    assert (hole.check, hole.level) == ("sessions", "hole")
    assert hole.at == datetime(2024, 7, 3, 13, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("spelling", "hour", "count"),
    [("BHP-STK-ASX-AUD/1hour", 23, 6), ("AAPL/1hour/TRADES/all", 9, 16)],  # a date earlier in UTC, and a date later
)
def test_sessions_are_named_by_their_own_dates(spelling, hour, count):
    series = Series.parse(spelling)
    opens = [datetime(2024, 1, day, hour, tzinfo=UTC) for day in (7, 8, 9, 10)]  # Sunday evening, Monday in Sydney
    first = 0 if hour == 23 else 1
    stored = [opens[first], opens[first + 2]]
    bars = table_of([
        (start + timedelta(hours=n), 10.0, 10.0, 10.0, 10.0, 1.0, None, None)
        for start in stored
        for n in range(count - (start is stored[-1] and hour == 23))
    ])  # fmt: skip

    found = inspect_bars(bars, series, hours_of(series.instrument), None)
    days = coverage_of(series, hours_of(series.instrument), bars, []).days

    texts = [one.text for one in found if one.check in ("sessions", "minutes")]
    assert texts[0].startswith("1 session has no bar, 2024-01-09: ")
    assert texts[1:] == (["1 of 6 bars missing on 2024-01-10"] if hour == 23 else [])
    assert days.astype(date).tolist() == [date(2024, 1, day) for day in (8, 9, 10)]
