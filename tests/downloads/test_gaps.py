from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from backtest.downloads import gaps
from backtest.market.bars import table_of
from backtest.market.hours import hours_of
from backtest.market.series import ContractDetails, Series
from backtest.market.span import Span
from backtest.store.manifest import Answer

DAILY, ADJUSTED = Series.parse("AAPL/1day"), Series.parse("AAPL/1day/ADJUSTED_LAST")
NYSE = hours_of(DAILY.instrument)
NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=7)


def midnight(day: int, month: int = 1) -> datetime:
    return datetime(2024, month, day, tzinfo=UTC)


def days(first: int, last: int, month: int = 1) -> Span:
    """Return these days of a month of 2024, both included."""
    return Span.of_dates(date(2024, month, first), date(2024, month, last))


def with_bars(span: Span, at: datetime = LONG_AGO) -> Answer:
    return Answer(span, 5, at)


def said_empty(span: Span) -> Answer:
    return Answer(span, 0, LONG_AGO)


def daily(*stored: int) -> pa.Table:
    """Return bars of these days of January 2024."""
    return table_of([(midnight(day), 1.0, 1.0, 1.0, 1.0, 1.0, None, None) for day in stored])


# What to ask for


def test_what_nobody_answered_is_asked_for():
    answers = [with_bars(days(3, 4)), said_empty(days(8, 9))]

    assert gaps.to_ask(DAILY, days(1, 10), answers) == [days(1, 2), days(5, 7), days(10, 10)]


def test_nothing_is_asked_for_where_all_was_answered():
    answers = [with_bars(days(1, 5)), said_empty(days(6, 12))]

    assert gaps.to_ask(DAILY, days(1, 10), answers) == []


def test_recheck_asks_again_for_what_was_said_to_be_empty_within_the_span():
    answers = [with_bars(days(1, 5)), said_empty(days(6, 12))]

    assert gaps.to_ask(DAILY, days(1, 10), answers, gaps.empty(days(1, 10), answers)) == [days(6, 10)]


def test_a_gap_and_an_empty_span_beside_it_are_rechecked_as_one():
    answers = [with_bars(days(1, 5)), said_empty(days(6, 7))]

    assert gaps.to_ask(DAILY, days(1, 10), answers, gaps.empty(days(1, 10), answers)) == [days(6, 10)]


def test_history_that_changes_is_asked_for_whole():
    assert gaps.to_ask(ADJUSTED, days(9, 12), [with_bars(days(3, 10))]) == [days(3, 12)]


def test_history_that_changes_is_left_alone_where_all_was_answered():
    assert gaps.to_ask(ADJUSTED, days(9, 10), [with_bars(days(3, 10))]) == []


def test_the_whole_spans_what_lies_between_its_parts():
    assert gaps.whole_span(days(20, 22), [with_bars(days(3, 4)), said_empty(days(9, 9))]) == days(3, 22)


def test_what_is_wanted_is_the_whole_where_nothing_was_answered():
    assert gaps.whole_span(days(20, 22), []) == days(20, 22)


# Sessions without a bar


def test_a_session_without_a_bar_is_a_hole():
    # 2024-01-06 and 07 are a weekend.
    assert gaps.holes(DAILY, NYSE, days(2, 8), [], daily(2, 3, 5, 8)) == [days(4, 4)]


def test_a_hole_that_was_said_to_be_empty_is_known():
    bars = daily(2, 5)

    assert gaps.holes(DAILY, NYSE, days(1, 7), [said_empty(days(3, 3))], bars) == [days(4, 4)]
    assert gaps.holes(DAILY, NYSE, days(1, 7), [said_empty(days(3, 4))], bars) == []


def test_an_answer_that_had_bars_explains_no_hole():
    assert gaps.holes(DAILY, NYSE, days(1, 7), [with_bars(days(1, 7))], daily(2, 5)) == [days(3, 4)]


def test_what_was_answered_before_the_first_bar_and_after_the_last_is_a_hole():
    bars, answered = daily(10, 11), [with_bars(days(9, 12))]

    assert gaps.holes(DAILY, NYSE, days(2, 19), [], bars) == []
    assert gaps.holes(DAILY, NYSE, days(2, 19), answered, bars) == [days(9, 9), days(12, 12)]
    assert gaps.holes(DAILY, NYSE, days(2, 19), [with_bars(days(9, 12))], daily(12)) == [days(9, 11)]


# Said to be empty: on Friday 2024-01-05, at noon


FRIDAY = datetime(2024, 1, 5, 12, tzinfo=UTC)


def friday(span: Span, text: str = "no data", again_after: float = 0.0) -> Answer:
    """Return that there are no bars, as said on that Friday and again some days later."""
    return Answer(span, 0, FRIDAY + timedelta(days=again_after), "ib", text, FRIDAY if again_after else None)


@pytest.mark.parametrize(
    ("said_after", "now", "is_due"),
    [(0, 0.1, False), (0, 0.84, True), (0, 3, True), (0, 90, True), (0.9, 2, False), (0.9, 6.9, True), (0.9, 90, True),
     (6.9, 8, False), (6.9, 29.9, True), (29.9, 60, False), (29.9, 999, False)],
)  # fmt: skip
def test_what_is_empty_is_asked_for_again_after_a_day_a_week_and_a_month(said_after, now, is_due):
    answers = [friday(days(3, 4), again_after=said_after)]

    due = gaps.due(DAILY, NYSE, days(1, 31), answers, FRIDAY + timedelta(days=now))

    assert due == ([days(3, 4)] if is_due else [])


@pytest.mark.parametrize(("again_after", "sure"), [(0, False), (0.5, False), (0.84, True), (1, True), (40, True)])
def test_what_is_empty_is_confirmed_on_another_day(again_after, sure):
    answers = [friday(days(3, 4), again_after=again_after)]

    assert gaps.unconfirmed(DAILY, NYSE, days(1, 31), answers) == ([] if sure else [days(3, 4)])


@pytest.mark.parametrize("reason", [gaps.BEFORE_HEAD, gaps.NO_SESSION, gaps.NOT_KNOWN, gaps.SELDOM, gaps.A_FILE])
def test_what_is_empty_for_a_reason_is_believed(reason):
    answers = [friday(days(3, 4), f"no data; {reason} 2024")]

    assert gaps.unconfirmed(DAILY, NYSE, days(1, 31), answers) == []
    assert gaps.due(DAILY, NYSE, days(1, 31), answers, FRIDAY + timedelta(days=40)) == []


def test_a_holiday_and_a_weekend_are_not_doubted():
    rock = Series.parse("ROCK-STK-MARS-USD/1day")

    assert gaps.unconfirmed(DAILY, NYSE, days(1, 31), [friday(days(1, 1)), friday(days(6, 7))]) == []
    assert gaps.unconfirmed(rock, hours_of(rock.instrument), days(1, 31), [friday(days(6, 7))]) == []


def test_an_evening_without_a_trade_is_not_doubted():
    minutes = Series.parse("AAPL/1min/TRADES/all")
    evening = Span(midnight(5), midnight(5) + timedelta(hours=1))  # 19:00 to 20:00 in New York

    assert gaps.unconfirmed(minutes, NYSE, days(1, 31), [friday(evening)]) == []
    assert gaps.late(minutes, NYSE, Span(midnight(3), evening.end), midnight(4) + timedelta(hours=22), FRIDAY) is None


# 2024-01-15 is a holiday, so 11, 12, 16, 17 and 18 are five sessions after the last bar, of the 10th
@pytest.mark.parametrize(
    ("last", "again_after", "text", "ended"),
    [(18, 1, "no data", True), (17, 1, "no data", False), (18, 0.5, "no data", False),
     (11, 1, gaps.GONE, True), (11, 0.5, gaps.GONE, False)],
)  # fmt: skip
def test_an_instrument_has_ended_after_five_confirmed_sessions_or_when_it_is_gone(last, again_after, text, ended):
    answers = [with_bars(days(2, 10)), friday(days(11, last), text, again_after)]

    end = gaps.end_of_instrument(DAILY, NYSE, midnight(10), days(2, 26), answers, FRIDAY + timedelta(days=2))

    assert end == (gaps.End(days(11, 26), due=False) if ended else None)


def test_an_instrument_has_not_ended_where_a_session_after_its_last_bar_was_not_asked_for():
    answers = [with_bars(days(2, 9)), friday(days(11, 26), again_after=1)]

    assert gaps.end_of_instrument(DAILY, NYSE, midnight(9), days(2, 26), answers, FRIDAY + timedelta(days=2)) is None


@pytest.mark.parametrize(
    ("text", "stated", "day"),
    [("ES-FUT-CME-USD-20240315", "", date(2024, 3, 15)), ("ES-FUT-CME-USD-202403", "20240315", date(2024, 3, 15)),
     ("ES-FUT-CME-USD-202403", "", None), ("AAPL", "20240315", None), ("ES-CONTFUT-CME-USD", "20240315", None)],
)  # fmt: skip
def test_a_contract_ends_on_its_last_trade_date(text, stated, day):
    series = Series.parse(f"{text}/1day")

    assert gaps.last_trade_date(series.instrument, ContractDetails(1, last_trade_date=stated)) == day


def test_holes_are_split_a_year_before_the_end_of_the_newest():
    newest = Span(datetime(2024, 6, 3, tzinfo=UTC), datetime(2024, 6, 4, tzinfo=UTC))
    at_the_edge = Span(datetime(2023, 6, 6, tzinfo=UTC), datetime(2023, 6, 7, tzinfo=UTC))  # 364 days before 06-04
    older = Span(datetime(2023, 6, 5, tzinfo=UTC), datetime(2023, 6, 6, tzinfo=UTC))

    assert gaps.newest_year([newest, at_the_edge, older]) == ([newest, at_the_edge], [older])


# Seams


def test_a_seam_is_old_has_bars_and_touches_the_gap():
    gap = days(10, 12)
    before, after = with_bars(days(1, 9)), with_bars(days(13, 20))
    others = [
        with_bars(days(1, 8)),
        with_bars(days(14, 20)),
        said_empty(days(5, 9)),
        with_bars(days(6, 9), at=NOW - timedelta(hours=5, minutes=59)),
    ]

    assert gaps.beside(gap, [before, *others, after], NOW) == [days(1, 9), days(13, 20)]


@pytest.mark.parametrize(("hours", "young"), [(5, True), (6, False), (7, False)])
def test_an_answer_is_fresh_for_six_hours(hours, young):
    assert gaps.fresh(with_bars(days(1, 2), at=NOW - timedelta(hours=hours)), NOW) is young


def test_only_the_twenty_days_nearest_to_the_gap_are_looked_at():
    gap = days(1, 2, month=2)

    assert gaps.nearest_window(days(1, 31), gap) == days(12, 31)
    assert gaps.nearest_window(days(3, 28, month=2), gap) == days(3, 22, month=2)


def test_all_of_a_short_neighbour_is_looked_at():
    gap = days(10, 12)

    assert gaps.nearest_window(days(5, 9), gap) == days(5, 9)
    assert gaps.nearest_window(days(13, 15), gap) == days(13, 15)


def test_the_last_five_sessions_before_a_gap_are_read_with_it():
    sessions = [midnight(day) for day in (8, 9, 10, 11, 12, 16, 17)]  # a weekend and a holiday between 12 and 16

    assert gaps.with_seams(days(18, 19), [(days(1, 17), sessions)]) == days(10, 19)


def test_the_first_five_sessions_after_a_gap_are_read_with_it():
    sessions = [midnight(day) for day in (11, 12, 16, 17, 18, 19)]

    assert gaps.with_seams(days(8, 10), [(days(11, 31), sessions)]) == days(8, 18)


def test_a_gap_between_two_answers_has_two_seams():
    before, after = (days(1, 5), [midnight(4), midnight(5)]), (days(9, 12), [midnight(9), midnight(10)])

    assert gaps.with_seams(days(8, 8), [after]) == days(8, 10)
    assert gaps.with_seams(days(6, 8), [before, after]) == days(4, 10)


def test_a_seam_ends_where_what_is_stored_does():
    opening, closing = midnight(5) + timedelta(hours=15), midnight(9) + timedelta(hours=16)
    gap = Span(closing, midnight(12))

    assert gaps.with_seams(gap, [(Span(opening, closing), [midnight(5), midnight(8)])]) == Span(opening, midnight(12))
    after = Span(midnight(12), midnight(12) + timedelta(hours=15))
    assert gaps.with_seams(gap, [(after, [midnight(12)])]) == Span(closing, after.end)


def test_neighbours_without_a_bar_nearby_are_no_seam():
    assert gaps.with_seams(days(6, 8), [(days(1, 5), []), (days(9, 12), [])]) == days(6, 8)


def test_the_days_of_bars_are_midnights_in_order_each_once():
    evenings = [midnight(day) + timedelta(hours=20) for day in range(9, 1, -1)]
    stamps = [*evenings, midnight(2) + timedelta(hours=14)]
    bars = pa.table({"time": pa.array(stamps, pa.timestamp("us", tz="UTC"))})

    assert gaps.days_of_bars(bars) == [midnight(day) for day in range(2, 10)]


# The last days: now is 2024-03-01 12:00, so the vendor may be late with what is younger than 2024-02-26 12:00


def test_days_without_a_bar_at_the_end_of_a_late_window_may_only_be_late():
    last = midnight(27, month=2) + timedelta(hours=20, minutes=59)

    assert gaps.late(DAILY, NYSE, days(1, 29, month=2), last, NOW) == days(28, 29, month=2)


def test_no_day_is_late_where_bars_reach_the_last_one():
    assert gaps.late(DAILY, NYSE, days(1, 29, month=2), midnight(29, month=2) + timedelta(hours=15), NOW) is None


def test_no_day_is_late_in_a_window_that_ended_four_days_ago():
    last, edge = midnight(20, month=2), NOW - timedelta(days=4)

    assert gaps.late(DAILY, NYSE, Span(midnight(1, month=2), edge), last, NOW) is None
    young = Span(midnight(1, month=2), edge + timedelta(minutes=1))
    assert gaps.late(DAILY, NYSE, young, last, NOW) == Span(midnight(21, month=2), young.end)


def test_an_empty_window_is_believed_but_for_the_last_four_days():
    assert gaps.believed_empty(days(1, 20, month=2), None, NOW) == days(1, 20, month=2)
    assert gaps.believed_empty(days(20, 29, month=2), None, NOW) == Span(midnight(20, month=2), NOW - timedelta(days=4))
    assert gaps.believed_empty(Span(NOW - timedelta(days=4), NOW), None, NOW) is None


def test_a_vendor_is_not_late_with_what_is_before_the_last_bar():
    yesterday = days(28, 28, month=2)

    assert gaps.believed_empty(yesterday, midnight(29, month=2), NOW) == yesterday
    assert gaps.believed_empty(yesterday, midnight(27, month=2), NOW) is None


# Beyond a seam


def test_the_nearest_bars_beyond_a_moment_are_looked_for_farther_and_farther():
    noon, last = midnight(10) + timedelta(hours=12), midnight(28, month=3)

    after, before = gaps.spans_after(noon, last), gaps.spans_before(noon, midnight(1))

    assert [noon in span for span in after] == [False] * 3
    assert after[0].end < after[1].end < after[2].end
    assert last in after[2]
    assert [span.end for span in before] == [noon] * 3
    assert before[2].start == midnight(1)
    assert gaps.spans_after(noon, noon) == []
    assert gaps.spans_before(noon, noon) == []


def test_young_bars_beside_a_gap_are_those_of_the_last_hours():
    gap, young = days(10, 12), with_bars(days(1, 9), NOW - timedelta(hours=1))

    assert gaps.beside_young(gap, [young, with_bars(days(13, 20))], NOW) == [days(1, 9)]
    assert gaps.beside_young(gap, [with_bars(days(1, 8), NOW)], NOW) == []
    assert gaps.is_fresh(midnight(9), [young], NOW)
    assert not gaps.is_fresh(midnight(13), [young, with_bars(days(13, 20))], NOW)
