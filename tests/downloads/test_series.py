"""What a download does when the vendor's bars change, are missing, or cannot be true."""

from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from market import contract, minute_bars, span_of_sessions, store_with

from backtest.downloads.downloader import download, plan_download
from backtest.downloads.retry import Persistence
from backtest.emulator.faults import Faults
from backtest.emulator.server import Gateway
from backtest.errors import UsageError
from backtest.market.bars import schema
from backtest.market.calendars import sessions
from backtest.market.hours import hours_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.sources.base import Patience
from backtest.sources.connect import connect
from backtest.store.store import Store

DAILY = Series.parse("AAPL/1day")
MINUTES = Series.parse("AAPL/1min")
QUICK = Persistence(pause=0.01, pacing_pause=0.01)
UNKNOWN = {
    "when": {"request": 1, "times": 99, "kind": "any"},
    "do": "error",
    "code": 200,
    "text": "No security definition",
}
IMPATIENT = Patience(belief=0.3)  # what a gateway may not know for a moment is asked for again soon
FIRST, LAST = date(2012, 1, 3), date(2012, 12, 31)


@pytest.fixture
def upstream(tmp_path, sample):
    """Return the bars of 2012 as the vendor has them; a test may change them."""
    store = Store(tmp_path / "upstream")
    span = Span.of_dates(FIRST, LAST)
    store.write(DAILY, span, sample.read(DAILY, span), contract=sample.manifest(DAILY).contract)
    return store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "bars")


@contextmanager
def serving(upstream, until, *faults):
    """Connect to a gateway whose clock stands at noon after the given day."""
    with serving_and_gateway(upstream, until, *faults) as (_, source):
        yield source


@contextmanager
def serving_and_gateway(upstream, until, *faults):
    noon = datetime(until.year, until.month, until.day, 12, tzinfo=UTC) + timedelta(days=1)
    gateway = Gateway(upstream, clock=lambda: noon, faults=Faults.of(list(faults)))
    with gateway, connect(gateway.address, patience=IMPATIENT) as source:
        yield gateway, source


@pytest.fixture
def renumbered(tmp_path, sample):
    """Return the vendor's bars of AAPL under another contract number."""
    store, span = Store(tmp_path / "renumbered"), Span.of_dates(FIRST, LAST)
    store.write(DAILY, span, sample.read(DAILY, span), contract=contract(4711, "APPLE BANK"))
    return store


def fill(upstream, store, until, *faults, since=FIRST, series=DAILY, today=None, **options):
    with serving(upstream, today or until, *faults) as source:
        report = download(store, source, series, (since, until), persistence=QUICK, **options)
    return report.series[0]


def change(upstream, day, **values):
    """Let the vendor change a bar."""
    bars = upstream.read(DAILY)
    row = bars["time"].to_pylist().index(datetime(day.year, day.month, day.day, tzinfo=UTC))
    for name, value in values.items():
        column = bars[name].to_pylist()
        column[row] = value
        bars = bars.set_column(
            bars.schema.get_field_index(name), schema().field(name), pa.array(column, schema().field(name).type)
        )
    upstream.write(DAILY, Span.of_dates(FIRST, LAST), bars, revise=True)


def remove(upstream, *days):
    bars = upstream.read(DAILY)
    gone = pa.array([datetime(day.year, day.month, day.day, tzinfo=UTC) for day in days], bars["time"].type)
    upstream.write(DAILY, Span.of_dates(FIRST, LAST), bars.filter(pc.invert(pc.is_in(bars["time"], gone))), revise=True)


def test_an_update_reads_the_seam_again_at_no_request_more(upstream, store):
    fill(upstream, store, date(2012, 6, 14))

    with serving(upstream, date(2012, 6, 15)) as source:
        update = download(store, source, DAILY, (FIRST, date(2012, 6, 15)), persistence=QUICK).series[0]

    assert (update.status, update.requests, update.bars_added, update.revisions) == ("complete", 1, 1, ())


@pytest.mark.slow
def test_a_late_correction_of_the_last_sessions_is_taken_counted_and_archived(upstream, store):
    fill(upstream, store, date(2012, 6, 14))
    change(upstream, date(2012, 6, 13), volume=123.0)

    update = fill(upstream, store, date(2012, 6, 15))

    assert update.status == "complete"
    assert update.revisions == (datetime(2012, 6, 13, tzinfo=UTC),)
    assert store.read(DAILY).equals(upstream.read(DAILY, Span.of_dates(FIRST, date(2012, 6, 15))))
    assert list((store.folder(DAILY) / "archive").iterdir())


@pytest.mark.slow
def test_a_price_that_had_settled_and_moves_is_put_aside_until_it_is_accepted(upstream, store):
    fill(upstream, store, date(2012, 6, 14))
    before = store.read(DAILY)
    change(upstream, date(2012, 6, 8), high=999.0)

    update = fill(upstream, store, date(2012, 6, 15))
    kept = store.read(DAILY)
    accepted = fill(upstream, store, date(2012, 6, 15), accept_revision=True)
    again = fill(upstream, store, date(2012, 6, 15), accept_revision=True)

    assert (update.status, update.quarantined, update.exit_code, update.bars_added) == ("partial", 1, 3, 1)
    assert "--accept-revision" in update.errors[0]
    assert kept.slice(0, len(before)).equals(before)
    assert kept["time"][-1].as_py() == datetime(2012, 6, 15, tzinfo=UTC)
    assert (accepted.status, accepted.requests, len(accepted.revisions)) == ("complete", 1, 1)
    assert store.read(DAILY).equals(upstream.read(DAILY, Span.of_dates(FIRST, date(2012, 6, 15))))
    assert again.requests == 0


@pytest.mark.slow
@pytest.mark.parametrize("values", [{"volume": 123.0}, {"trades": 7}, {"average": 580.12}, {"close": 580.0}])
def test_other_numbers_of_bars_that_had_settled_are_a_revision(upstream, store, values):
    fill(upstream, store, date(2012, 6, 14))
    before = store.read(DAILY)
    change(upstream, date(2012, 6, 8), **values)  # which closed at 580.32

    update = fill(upstream, store, date(2012, 6, 15))

    assert (update.status, update.revisions) == ("complete", (datetime(2012, 6, 8, tzinfo=UTC),))
    assert store.read(DAILY).equals(upstream.read(DAILY, Span.of_dates(FIRST, date(2012, 6, 15))))
    assert store.read(DAILY, revision=1).equals(before)


def test_a_bar_that_a_new_answer_lacks_is_kept_and_said(upstream, store):
    fill(upstream, store, date(2012, 6, 14))
    before = store.read(DAILY)
    remove(upstream, date(2012, 6, 8), date(2012, 6, 13))

    update = fill(upstream, store, date(2012, 6, 15))

    assert (update.status, update.revisions, update.bars_added) == ("complete", (), 1)
    assert "2 stored bars of AAPL/1day are not in a new answer" in update.notes[0]
    assert store.read(DAILY).slice(0, len(before)).equals(before)


def test_a_bar_that_a_new_answer_lacks_is_removed_where_that_is_accepted(upstream, store):
    fill(upstream, store, date(2012, 6, 14))
    gone = (datetime(2012, 6, 8, tzinfo=UTC), datetime(2012, 6, 13, tzinfo=UTC))
    remove(upstream, *(moment.date() for moment in gone))

    update = fill(upstream, store, date(2012, 6, 15), accept_revision=True)

    assert (update.notes, update.revisions) == ((), gone)
    assert set(gone).isdisjoint(store.read(DAILY)["time"].to_pylist())
    assert update.bars_added == 1 - len(gone)


def test_a_split_is_recognised_and_the_series_read_anew(upstream, store):
    fill(upstream, store, date(2012, 6, 14))
    old = store.read(DAILY)
    split(upstream)

    update = fill(upstream, store, date(2012, 6, 15))

    assert (update.status, update.bars_added) == ("complete", 1)
    assert store.read(DAILY).equals(upstream.read(DAILY, Span.of_dates(FIRST, date(2012, 6, 15))))
    assert len(update.revisions) == len(old)
    (archived,) = (store.folder(DAILY) / "archive").iterdir()
    assert pq.read_table(archived).cast(schema()).equals(old)


@pytest.mark.slow
def test_accepting_revisions_on_the_night_of_a_split_leaves_no_older_bars_on_the_old_scale(upstream, store):
    fill(upstream, store, date(2012, 6, 14))
    split(upstream)
    change(upstream, date(2012, 6, 12), high=99.0)

    update = fill(upstream, store, date(2012, 6, 15), accept_revision=True)

    assert update.status == "complete"
    assert store.read(DAILY).equals(upstream.read(DAILY, Span.of_dates(FIRST, date(2012, 6, 15))))


@pytest.mark.slow
@pytest.mark.parametrize("accept", [False, True])
@pytest.mark.parametrize("unit", [100.0, 0.01])
def test_volumes_in_another_unit_are_read_anew(upstream, store, unit, accept):
    fill(upstream, store, date(2012, 6, 14))
    bars = upstream.read(DAILY)
    volume = pc.floor(pc.multiply(bars["volume"], unit))
    upstream.write(DAILY, Span.of_dates(FIRST, LAST), bars.set_column(5, schema().field(5), volume), revise=True)

    update = fill(upstream, store, date(2012, 6, 15), accept_revision=accept)

    (revision,) = store.revisions(DAILY)
    assert (update.status, update.bars_added) == ("complete", 1)
    assert "unit" in revision.why
    assert store.read(DAILY).equals(upstream.read(DAILY, Span.of_dates(FIRST, date(2012, 6, 15))))


@pytest.mark.slow
def test_a_stock_that_was_halted_for_a_month_and_split_meanwhile_has_one_scale(upstream, store):
    """The last bars are a month old: no seam touches what is asked for, so they are asked for again by themselves."""
    fill(upstream, store, date(2012, 4, 30))
    halt = [one.day for one in sessions(hours_of(DAILY.instrument), date(2012, 5, 1), date(2012, 5, 31))]
    remove(upstream, *halt)
    with serving(upstream, date(2012, 6, 10)) as source:
        halted = download(store, source, DAILY, (FIRST, date(2012, 5, 31)), persistence=QUICK).series[0]
    split(upstream)

    update = fill(upstream, store, date(2012, 6, 11))

    assert (halted.status, halted.exit_code) == ("partial", 3)  # that there is none in May was said on one day
    assert (update.status, update.exit_code) == ("complete", 0)  # and is confirmed on the next
    assert store.read(DAILY).equals(upstream.read(DAILY, Span.of_dates(FIRST, date(2012, 6, 11))))


@pytest.mark.slow
def test_a_window_whose_seam_could_not_be_compared_is_not_stored(tmp_path, store):
    upstream = store_with(tmp_path / "upstream", {"AAPL/1min": ("2024-01-02", "2024-03-28")})
    rescale = {"when": {"request": 2, "times": 99}, "do": "rescale", "ratio": 0.5}
    once = Persistence(tries=1)

    with serving(upstream, date(2024, 3, 28), rescale, *refusals(3, 1), *refusals(5, 1)) as source:
        first = download(store, source, MINUTES, (date(2024, 1, 2), date(2024, 3, 28)), persistence=once).series[0]
        scale = store.read(MINUTES)["close"][0].as_py()
        again = download(store, source, MINUTES, (date(2024, 1, 2), date(2024, 3, 28)), persistence=QUICK).series[0]

    assert (first.status, first.exit_code) == ("partial", 4)
    assert scale > 160  # of the first request alone; none of half the price
    assert again.status == "complete"
    assert max(store.read(MINUTES)["close"].to_pylist()) < 90


@pytest.mark.slow
def test_bars_that_are_served_no_more_when_a_split_is_read_again_are_put_on_its_scale(upstream, store):
    fill(upstream, store, date(2012, 6, 14))
    old = store.read(DAILY)
    remove(upstream, date(2012, 1, 3), date(2012, 3, 14))
    split(upstream)

    update = fill(upstream, store, date(2012, 6, 15))

    assert update.status == "complete"
    assert "2 stored bars of AAPL/1day are no longer served, the first at 2012-01-03" in update.notes[0]
    bars = store.read(DAILY)
    assert len(bars) == len(old) + 1
    assert bars["close"][0].as_py() == pytest.approx(old["close"][0].as_py() / 7, rel=1e-4)
    assert bars["volume"][0].as_py() == pytest.approx(old["volume"][0].as_py() * 7, rel=1e-4)


@pytest.mark.slow
def test_answers_of_another_scale_each_time_end_with_an_error_and_the_next_download_mends_it(tmp_path, store):
    upstream = store_with(tmp_path / "upstream", {"AAPL/1min": ("2024-01-31", "2024-03-28")})
    scales = [{"when": {"request": n}, "do": "rescale", "ratio": 0.8**n} for n in range(1, 20)]

    first = fill(upstream, store, date(2024, 3, 28), *scales, since=date(2024, 1, 31), series=MINUTES)
    again = fill(upstream, store, date(2024, 3, 28), since=date(2024, 1, 31), series=MINUTES)

    assert (first.status, first.exit_code) == ("partial", 3)
    assert "changed scale 3 times" in first.errors[0]
    assert again.status == "complete"
    assert store.read(MINUTES).equals(upstream.read(MINUTES))


@pytest.mark.slow
def test_a_scale_that_the_vendor_takes_back_is_read_again_too(upstream, store):
    fill(upstream, store, date(2012, 6, 14))
    before = store.read(DAILY)
    halved = {"when": {"request": 1, "times": 99}, "do": "rescale", "ratio": 0.5}

    update = fill(upstream, store, date(2012, 6, 15), halved)
    again = fill(upstream, store, date(2012, 6, 18))

    assert (update.status, again.status) == ("complete", "complete")
    assert store.read(DAILY).slice(0, len(before)).equals(before)


@pytest.mark.slow
@pytest.mark.parametrize(("day", "more"), [(1, 1), (29, 0)])  # of February: where two requests meet, and in one
def test_a_real_fall_overnight_costs_one_request_at_most_and_is_stored(tmp_path, store, day, more):
    upstream = store_with(tmp_path / "upstream", {"AAPL/1min": ("2024-01-02", "2024-03-01")})
    halved = Span(datetime(2024, 2, day, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC))
    bars = upstream.read(MINUTES, halved)
    for place in (1, 2, 3, 4, 6):
        bars = bars.set_column(place, schema().field(place), pc.divide(bars.column(place), 2.0))
    upstream.write(MINUTES, halved, bars, revise=True)

    report = fill(upstream, store, date(2024, 3, 1), since=date(2024, 1, 2), series=MINUTES)

    assert (report.status, report.requests, report.lower_bound) == ("complete", 2 + more, 2)
    assert store.read(MINUTES).equals(upstream.read(MINUTES))


def split(upstream):
    bars = upstream.read(DAILY)
    for name in ("open", "high", "low", "close"):
        rescaled = pc.round(pc.divide(bars[name], 7.0), 2)  # as IB rounds
        bars = bars.set_column(bars.schema.get_field_index(name), schema().field(name), rescaled)
    volume = pc.multiply(bars["volume"], 7.0)
    bars = bars.set_column(5, schema().field("volume"), volume)
    upstream.write(DAILY, Span.of_dates(FIRST, LAST), bars, revise=True)


@pytest.mark.slow
def test_the_old_version_is_read_until_the_new_one_is_complete(upstream, store):
    fill(upstream, store, date(2012, 6, 14))
    old = store.read(DAILY)
    split(upstream)

    failed = fill(upstream, store, date(2012, 6, 15), *refusals(2, 40))
    meanwhile = store.read(DAILY)
    again = fill(upstream, store, date(2012, 6, 15))

    assert failed.status == "partial"
    assert meanwhile.equals(old)
    assert again.status == "complete"
    assert store.read(DAILY).equals(upstream.read(DAILY, Span.of_dates(FIRST, date(2012, 6, 15))))


def refusals(first, count):
    """Return faults: the back end fails for some requests in a row."""
    refusal = {"do": "error", "code": 162, "text": "Historical Market Data Service error message:Query failed"}
    return [{"when": {"request": first + n}, **refusal} for n in range(count)]


def nights(upstream, store, *days, until=LAST, since=FIRST, series=DAILY):
    """Return the status, the exit code and the requests of a download some days after the last session."""
    reports = [
        fill(upstream, store, until, since=since, series=series, today=until + timedelta(days=day)) for day in days
    ]
    return [(one.status, one.exit_code, one.requests) for one in reports]


@pytest.mark.slow
def test_a_session_the_vendor_lacks_is_believed_on_another_day_and_asked_for_a_week_and_a_month_later(upstream, store):
    remove(upstream, date(2012, 3, 14), date(2012, 3, 15))

    first = fill(upstream, store, LAST)
    same_night, *later = nights(upstream, store, 0, 1, 2, 7, 8, 30, 31, 400)

    assert (first.status, first.exit_code, first.requests) == ("partial", 3, 2)  # the year, and the two days
    assert "2012-03-14 to before 2012-03-16" in first.errors[0]
    assert first.gaps == first.confirmed_empty == (Span.of_dates(date(2012, 3, 14), date(2012, 3, 15)),)
    assert same_night == ("partial", 3, 0)
    assert later == [("complete", 0, requests) for requests in (1, 0, 1, 0, 1, 0, 0)]


@pytest.mark.slow
@pytest.mark.parametrize("days", [(1,), (1, 7), (1, 2, 7, 30), (5,)])
def test_what_came_late_is_stored_whenever_it_is_asked_for_again(upstream, store, days):
    whole = upstream.read(DAILY)
    remove(upstream, date(2012, 3, 14))
    nights(upstream, store, 0, *days[:-1])
    upstream.write(DAILY, Span.of_dates(FIRST, LAST), whole, revise=True)

    assert nights(upstream, store, days[-1])[0][:2] == ("complete", 0)

    assert store.read(DAILY).equals(whole)


@pytest.mark.slow
def test_the_last_days_of_what_seldom_trades_are_no_alarm_and_are_asked_for_again(upstream, store):
    whole = upstream.read(DAILY)
    remove(upstream, *(moment.date() for moment in whole["time"].to_pylist() if moment.day % 3))

    one_night, next_night = (nights(upstream, store, 0, until=date(2012, 6, day))[0] for day in (19, 20))
    upstream.write(DAILY, Span.of_dates(FIRST, LAST), whole, revise=True)
    mended = fill(upstream, store, date(2012, 6, 21))

    assert (one_night[:2], next_night[:2]) == (("complete", 0), ("complete", 0))
    assert next_night[2] > 0
    assert mended.last == datetime(2012, 6, 21, tzinfo=UTC)
    assert [bar.day for bar in store.read(DAILY)["time"].to_pylist()][-3:] == [19, 20, 21]


# Sessions of the vendor's year that are not in its answers: before the first bar, between, and after the last.
CUTS = [(3, 1), (3, 20), (100, 1), (100, 40), (249, 1), (230, 20)]


@pytest.mark.slow
@pytest.mark.parametrize(("first", "count"), [(0, 1), (0, 20), *CUTS])
def test_sessions_that_an_answer_lacks_are_told_and_come_on_a_later_night(upstream, store, first, count):
    whole = upstream.read(DAILY)
    days = [moment.date() for moment in whole["time"].to_pylist()]
    remove(upstream, *days[first : first + count])
    head = {"when": {"kind": "head", "times": 9}, "do": "head", "since": "20120103-14:30:00"}
    before = fill(upstream, store, LAST, head, today=LAST + timedelta(days=9))
    upstream.write(DAILY, Span.of_dates(FIRST, LAST), whole, revise=True)

    after = fill(upstream, store, LAST, today=LAST + timedelta(days=10))

    assert (before.status, before.exit_code) == ("partial", 3)
    assert f"{days[first]} to before" in before.errors[0]
    assert (after.status, after.exit_code) == ("complete", 0)
    assert store.read(DAILY).equals(whole)


def test_what_lies_before_the_head_time_stamp_is_no_gap(upstream, store):
    remove(upstream, *[moment.date() for moment in upstream.read(DAILY)["time"].to_pylist()[:30]])

    assert nights(upstream, store, 9, 10) == [("complete", 0, 1), ("complete", 0, 0)]


ADJUSTED = Series.parse("AAPL/1day/ADJUSTED_LAST")  # which is replaced whole, or not at all


@pytest.fixture
def adjusted(upstream):
    """Return the vendor's bars with what is adjusted for dividends, too."""
    span = Span.of_dates(FIRST, LAST)
    upstream.write(ADJUSTED, span, upstream.read(DAILY, span), contract=upstream.manifest(DAILY).contract)
    return upstream


@pytest.mark.slow
@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("bars", [1, 40])
def test_a_cut_answer_replaces_no_history_that_is_only_had_whole(adjusted, store, place, bars):
    cut = {"do": "cut", "place": place, "bars": bars}
    always, once = ({"when": {"request": 1, "times": times}, **cut} for times in (99, 1))
    day = date(2012, 6, 14)

    first = fill(adjusted, store, day, always, series=ADJUSTED)
    whole, kept, mended = (
        fill(adjusted, store, until, *faults, series=ADJUSTED)
        for until, faults in (
            (date(2012, 6, 15), ()), (date(2012, 6, 18), (always,)), (date(2012, 6, 19), (once,)),
        )
    )  # fmt: skip

    assert [(one.status, one.exit_code, one.requests) for one in (first, whole, kept, mended)] == [
        ("partial", 3, 2), ("complete", 0, 1), ("partial", 3, 2), ("complete", 0, 2)
    ]  # fmt: skip
    assert (whole.bars, kept.bars, mended.bars) == (whole.bars, whole.bars, whole.bars + 2)
    assert store.read(ADJUSTED).equals(adjusted.read(ADJUSTED, Span.of_dates(FIRST, date(2012, 6, 19))))


@pytest.mark.slow
def test_adjusted_prices_of_a_stock_that_has_ended_are_asked_for_on_few_nights(adjusted, store):
    days = [moment.date() for moment in adjusted.read(DAILY)["time"].to_pylist()]
    gone = Span.of_dates(date(2012, 6, 1), LAST)
    left = [moment not in gone for moment in adjusted.read(ADJUSTED)["time"].to_pylist()]
    adjusted.write(ADJUSTED, Span.of_dates(FIRST, LAST), adjusted.read(ADJUSTED).filter(pa.array(left)), revise=True)

    reports = [
        fill(adjusted, store, day, series=ADJUSTED) for day in days if date(2012, 5, 31) <= day < date(2012, 9, 1)
    ]

    assert reports[-1].ended == date(2012, 5, 31)
    assert [one.exit_code for one in reports[12:]] == [0] * len(reports[12:])
    assert sum(one.requests for one in reports[12:]) <= 6  # of 52 nights


def test_recheck_asks_again_for_what_was_not_there(sample, upstream, store):
    remove(upstream, date(2012, 3, 14))
    fill(upstream, store, LAST)
    upstream.write(DAILY, Span.of_dates(FIRST, LAST), sample.read(DAILY, Span.of_dates(FIRST, LAST)), revise=True)

    found = fill(upstream, store, LAST, recheck=True)

    assert (found.status, found.bars_added, found.confirmed_empty) == ("complete", 1, ())


def test_holidays_and_half_days_are_no_holes(upstream, store):
    report = fill(upstream, store, LAST)

    assert (report.requests, report.lower_bound, report.gaps, report.confirmed_empty) == (1, 1, (), ())


def test_what_is_empty_is_asked_for_twice_before_it_is_believed(upstream, store):
    report = fill(upstream, store, date(2013, 2, 1), since=date(2013, 1, 2), today=date(2013, 3, 1))

    assert (report.status, report.exit_code, report.requests) == ("failed", 3, 2)


@pytest.mark.slow
def test_no_series_without_a_bar_is_ever_complete(upstream, store):
    asked = {"until": date(2013, 2, 1), "since": date(2013, 1, 2)}

    assert nights(upstream, store, 9, 10, 16, 39, 90, **asked) == [
        ("failed", 3, requests) for requests in (2, 1, 1, 1, 0)
    ]


# Instruments that have ended


@pytest.mark.slow
def test_a_stock_without_a_bar_for_five_sessions_has_ended_when_that_is_confirmed(upstream, store):
    days = [moment.date() for moment in upstream.read(DAILY)["time"].to_pylist()]
    remove(upstream, *(day for day in days if day > date(2012, 5, 31)))
    asked = {"since": FIRST, "until": date(2012, 8, 31)}

    first = fill(upstream, store, **asked)
    later = [
        fill(upstream, store, **asked, today=date(2012, 8, 31) + timedelta(days=day)) for day in (1, 2, 7, 30, 400)
    ]

    assert (first.exit_code, first.ended) == (3, None)
    assert [(one.status, one.exit_code, one.ended) for one in later] == [("complete", 0, date(2012, 5, 31))] * 5
    # With the week's the last days are asked for twice, with which it might have been late at first.
    assert [one.requests for one in later[1:]] == [0, 2, 1, 0]
    assert "ended on 2012-05-31" in later[-1].notes[0]


@pytest.mark.slow
def test_a_stock_that_is_delisted_is_asked_for_on_few_of_many_nights(upstream, store):
    days = [moment.date() for moment in upstream.read(DAILY)["time"].to_pylist()]
    remove(upstream, *(day for day in days if day > date(2012, 5, 31)))
    nights_after = [day for day in days if date(2012, 5, 31) <= day < date(2012, 10, 1)]

    reports = [fill(upstream, store, day) for day in nights_after]

    assert reports[-1].ended == date(2012, 5, 31)
    assert [one.exit_code for one in reports[12:]] == [0] * len(reports[12:])
    assert sum(one.requests for one in reports[12:]) <= 4  # of 73 nights


@pytest.mark.slow
def test_a_contract_that_the_source_does_not_know_on_two_days_has_ended(upstream, store):
    fill(upstream, store, date(2012, 6, 14))

    told, ended, asleep = (
        fill(upstream, store, day, UNKNOWN) for day in (date(2012, 6, 18), date(2012, 6, 19), date(2012, 6, 20))
    )

    assert (told.status, told.exit_code, told.ended) == ("partial", 3, None)
    assert (ended.status, ended.exit_code, ended.ended) == ("complete", 0, date(2012, 6, 14))
    assert (asleep.status, asleep.requests) == ("complete", 0)


@pytest.mark.slow
def test_a_contract_that_is_known_again_on_the_next_night_goes_on(upstream, store):
    fill(upstream, store, date(2012, 6, 14))
    fill(upstream, store, date(2012, 6, 18), UNKNOWN)

    after = fill(upstream, store, date(2012, 6, 19))

    assert (after.status, after.exit_code, after.ended) == ("complete", 0, None)
    assert store.read(DAILY).equals(upstream.read(DAILY, Span.of_dates(FIRST, date(2012, 6, 19))))


@pytest.mark.slow
def test_a_future_ends_with_its_last_trade_date_and_is_not_asked_for_later(tmp_path, store):
    series = Series.parse("ES-FUT-CME-USD-20240315/1day")
    upstream = store_with(tmp_path / "upstream", {str(series): ("2024-01-02", "2024-03-15")})
    since, expiry = date(2024, 1, 2), date(2024, 3, 15)

    reports = [
        fill(upstream, store, day, since=since, series=series)
        for day in (date(2024, 3, 14), expiry, date(2024, 3, 18), date(2024, 6, 3), date(2027, 6, 3))
    ]
    recently = fill(upstream, store, date(2024, 6, 3), since=date(2024, 6, 3), series=series)

    assert [(one.status, one.exit_code) for one in (*reports, recently)] == [("complete", 0)] * 6
    assert [one.ended for one in reports] == [None, expiry, expiry, expiry, expiry]
    assert [one.requests for one in (*reports[2:], recently)] == [0] * 4
    assert store.read(series).equals(upstream.read(series))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faults", "code"),
    [((354, "Requested market data is not subscribed."), 3), ((200, "No security definition"), 3),
     ((10197, "No market data during competing live session"), 4)],
)  # fmt: skip
def test_in_total_four_wins(sample, store, faults, code):
    words = dict(zip(("code", "text"), faults, strict=True))
    refused = {"when": {"request": 1, "times": 9, "symbol": "IBM"}, "do": "error", **words}

    with serving(sample, LAST, refused) as source:
        report = download(store, source, ["AAPL/1day", "IBM/1day"], (FIRST, LAST), persistence=QUICK, workers=1)

    assert report.exit_code == code
    assert [one.exit_code for one in report.series] == [0, code]


def test_what_is_empty_today_may_come_tomorrow(upstream, store):
    remove(upstream, date(2012, 6, 14), date(2012, 6, 15))

    early = fill(upstream, store, date(2012, 6, 15))

    assert early.status == "partial"
    assert early.gaps == (Span.of_dates(date(2012, 6, 14), date(2012, 6, 15)),)


@pytest.mark.slow
def test_years_before_a_listing_cost_no_request_each(tmp_path, store):
    upstream = store_with(tmp_path / "upstream", {"AAPL/1min": ("2024-03-04", "2024-03-15")})

    report = fill(upstream, store, date(2024, 3, 15), since=date(2022, 1, 3), series=MINUTES)

    assert report.status == "complete"
    assert report.requests <= 3  # of 27 windows
    assert store.read(MINUTES).equals(upstream.read(MINUTES))


@pytest.mark.slow
@pytest.mark.parametrize("value", ["nan", "huge", "high", "infinity", "crossed", "off_grid"])
def test_an_answer_that_cannot_be_true_is_asked_for_again(upstream, store, value):
    report = fill(upstream, store, LAST, {"when": {"request": 1}, "do": "bad", "value": value})

    assert (report.status, report.quarantined) == ("complete", 0)
    assert store.read(DAILY).equals(upstream.read(DAILY))


@pytest.mark.slow
@pytest.mark.parametrize("do", [{"do": "bad", "value": "crossed"}, {"do": "duplicate"}, {"do": "disorder"}])
def test_an_answer_that_is_wrong_twice_is_put_aside_and_never_stored(upstream, store, do):
    report = fill(upstream, store, LAST, *({"when": {"request": n}, **do} for n in (1, 2)))

    assert (report.status, report.bars, report.quarantined) == ("failed", 0, 1)
    (kept,) = (store.folder(DAILY) / "quarantine").iterdir()
    assert b"asked twice" in pq.read_metadata(kept).metadata[b"quarantine"]
    assert fill(upstream, store, LAST).status == "complete"


def test_bars_outside_of_the_sessions_are_not_believed(tmp_path, store):
    upstream = store_with(tmp_path / "upstream", {"AAPL/1min": ("2024-03-04", "2024-03-05")})
    ghost = minute_bars(MINUTES, date(2024, 3, 4), date(2024, 3, 4)).slice(0, 1)
    at = datetime(2024, 3, 4, 12, tzinfo=UTC)  # before the opening
    ghost = ghost.set_column(0, schema().field("time"), pa.array([at], schema().field("time").type))
    upstream.write(MINUTES, Span(at, at + timedelta(minutes=1)), ghost)

    report = fill(upstream, store, date(2024, 3, 5), since=date(2024, 3, 1), series=MINUTES)

    assert (report.status, report.quarantined) == ("partial", 1)
    assert "outside of the exchange's sessions" in report.errors[0]
    assert store.read(MINUTES).to_pylist() == [bar for bar in upstream.read(MINUTES).to_pylist() if bar["time"] != at]


@pytest.mark.parametrize(
    "fault",
    [
        {"do": "error", "code": 162, "text": "Historical Market Data Service error message:Time length exceed max."},
        {"do": "error", "code": 162, "text": "Historical Market Data Service error message:invalid step: 1 day"},
    ],
)
def test_a_window_that_is_too_long_is_halved(upstream, store, fault):
    report = fill(upstream, store, LAST, {"when": {"request": 1}, **fault})

    assert (report.status, report.requests) == ("complete", 3)
    assert store.read(DAILY).equals(upstream.read(DAILY))


@pytest.mark.slow
def test_what_was_learnt_of_one_window_spares_the_others(tmp_path, store):
    upstream = store_with(tmp_path / "upstream", {"AAPL/1min": ("2024-01-02", "2024-06-28")})
    fault = {"do": "error", "code": 162, "text": "Historical Market Data Service error message:Time length exceed max."}

    report = fill(
        upstream, store, date(2024, 6, 28), {"when": {"request": 1}, **fault}, since=date(2024, 1, 2), series=MINUTES
    )

    assert (report.status, report.lower_bound) == ("complete", 6)
    assert report.requests == 1 + 3 + 5 * 3  # 10 sessions at once instead of 21


@pytest.mark.slow
def test_a_gateway_that_never_answers_is_given_up_and_nothing_is_learnt(upstream, store):
    silence = {"when": {"request": 1, "times": 999}, "do": "error", "code": 162, "text": "Query failed"}
    with serving(upstream, LAST, silence) as source:
        step = source.step(DAILY)
        report = download(store, source, DAILY, (FIRST, LAST), persistence=QUICK).series[0]

        assert source.step(DAILY) == step

    assert report.status == "failed"
    assert report.requests == 3 * 2 + 3 * 4  # halved three times, then three parts asked to the end


@pytest.mark.slow
def test_a_window_that_is_never_served_does_not_hide_those_before_it(tmp_path, store):
    upstream = store_with(tmp_path / "upstream", {"AAPL/1min": ("2024-01-02", "2024-06-28")})
    span = (date(2024, 1, 2), date(2024, 6, 28))

    with serving(upstream, span[1], *refusals(2, 1), *refusals(7, 1)) as source:  # the repair is refused too
        first = download(store, source, MINUTES, span, persistence=Persistence(tries=1)).series[0]
        again = download(store, source, MINUTES, span, persistence=QUICK).series[0]

    assert (first.status, first.requests, len(first.gaps), first.exit_code) == ("partial", 7, 1, 4)
    assert "given up for now: 2024-05" in first.errors[0]
    assert (again.status, again.requests) == ("complete", 1)
    assert store.manifest(MINUTES).content == upstream.manifest(MINUTES).content


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_refusal_without_a_reason_is_no_empty_market(upstream, store, times):
    report = fill(upstream, store, LAST, *refusals(1, times))

    assert report.status == "complete"
    assert store.read(DAILY).equals(upstream.read(DAILY))


def test_a_pacing_violation_is_waited_out(upstream, store):
    fault = {"do": "error", "code": 162, "text": "Historical data request pacing violation"}

    report = fill(upstream, store, LAST, {"when": {"request": 1}, **fault})

    assert report.status == "complete"


@pytest.mark.parametrize(
    ("code", "text", "said"),
    [
        (354, "Requested market data is not subscribed.", "subscri"),
        (162, "Historical Market Data Service error message:No market data permissions for NASDAQ STK", "subscri"),
        (321, "Error validating request", "321"),
    ],
)
def test_what_asking_again_cannot_mend_is_asked_for_once(upstream, store, code, text, said):
    report = fill(upstream, store, LAST, {"when": {"request": 1}, "do": "error", "code": code, "text": text})

    assert (report.status, report.requests) == ("failed", 1)
    assert said in report.errors[0]


def test_another_session_ends_the_download_and_says_so(upstream, store):
    fault = {"do": "error", "code": 10197, "text": "No market data during competing live session"}
    with serving(upstream, LAST, {"when": {"request": 1}, **fault}) as source:
        report = download(store, source, [DAILY, MINUTES], (FIRST, LAST), persistence=QUICK, workers=1)

    assert "session" in str(report.ended_by)
    assert [one.status for one in report.series] == ["failed", "failed"]


@pytest.mark.slow
def test_a_socket_that_breaks_is_mended_and_only_what_was_open_is_asked_for_again(tmp_path, store):
    upstream = store_with(tmp_path / "upstream", {"AAPL/1min": ("2024-01-02", "2024-06-28")})
    fault = {"when": {"request": 3}, "do": "drop", "bytes": 1000}

    report = fill(upstream, store, date(2024, 6, 28), fault, since=date(2024, 1, 2), series=MINUTES)

    assert report.status == "complete"
    assert report.lower_bound == 6
    assert store.manifest(MINUTES).content == upstream.manifest(MINUTES).content


def test_options_and_old_seconds_are_refused_before_anything_is_sent(upstream, store):
    with serving(upstream, LAST) as source:
        report = download(store, source, Series.parse("AAPL/5secs"), (FIRST, LAST), persistence=QUICK)

    assert report.requests == 0
    assert "older than 6 months" in report.series[0].errors[0]


def test_a_download_of_nothing_is_refused(upstream, store):
    with serving(upstream, LAST) as source, pytest.raises(UsageError, match="no series"):
        download(store, source, [], (FIRST, LAST))


def test_a_name_that_means_another_contract_by_now_stops_its_series(upstream, renumbered, store):
    fill(upstream, store, date(2012, 6, 14))
    before = store.manifest(DAILY)

    update = fill(renumbered, store, date(2012, 6, 18))

    assert (update.status, update.requests, update.exit_code) == ("partial", 0, 3)
    assert f"was contract {before.contract.con_id}" in update.errors[0]
    assert "is now 4711 (APPLE BANK)" in update.errors[0]
    assert store.manifest(DAILY) == before


def test_another_contract_is_taken_when_that_is_accepted_and_said(upstream, renumbered, store):
    fill(upstream, store, date(2012, 6, 14))

    update = fill(renumbered, store, date(2012, 6, 18), accept_revision=True)

    assert update.status == "complete"
    assert "is now 4711" in update.notes[0]
    assert store.manifest(DAILY).contract.con_id == 4711


def test_a_name_that_is_gone_is_noted_and_its_contract_still_asked_for_by_number(upstream, store):
    fill(upstream, store, date(2012, 6, 14))
    gone = {"when": {"kind": "details"}, "do": "error", "code": 200, "text": "No security definition has been found"}

    update = fill(upstream, store, date(2012, 6, 18), gone)

    assert update.status == "complete"
    assert "was it renamed" in update.notes[0]
    assert store.read(DAILY).equals(upstream.read(DAILY, Span.of_dates(FIRST, date(2012, 6, 18))))


def test_a_contract_is_not_doubted_for_a_refusal_in_passing(upstream, store):
    fill(upstream, store, date(2012, 6, 14))
    passing = {"when": {"kind": "details"}, "do": "error", "code": 162, "text": "Query failed for now"}

    update = fill(upstream, store, date(2012, 6, 18), passing)

    assert (update.status, update.notes, update.errors) == ("complete", (), ())
    assert store.read(DAILY).equals(upstream.read(DAILY, Span.of_dates(FIRST, date(2012, 6, 18))))


def test_a_contract_whose_prices_may_not_be_seen_stops_its_series(upstream, store):
    fill(upstream, store, date(2012, 6, 14))
    denied = {"when": {"kind": "details"}, "do": "error", "code": 354, "text": "Not subscribed to market data"}

    update = fill(upstream, store, date(2012, 6, 18), denied)

    assert (update.status, update.requests, update.exit_code) == ("partial", 0, 3)
    assert "error 354" in update.errors[0]


def test_a_contract_that_was_asked_for_a_moment_ago_is_not_asked_for_again(upstream, store):
    fill(upstream, store, date(2012, 6, 14))

    with serving_and_gateway(upstream, date(2012, 6, 14)) as (gateway, source):
        download(store, source, DAILY, (date(2012, 5, 1), date(2012, 6, 14)), persistence=QUICK)

    assert "details" not in {record.kind for record in gateway.requests}


CHRISTMAS = [date(2023, 12, 25), date(2024, 1, 1)]
DOLLARS = Series.parse("EUR-CASH/15mins")


@pytest.fixture
def forex(tmp_path):
    """Return a gateway's store of forex without the two days on which it is shut, which our calendar has."""
    store = store_with(tmp_path / "forex", {str(DOLLARS): ("2023-12-11", "2024-01-12")})
    bars, (since, until) = store.read(DOLLARS), (date(2023, 12, 11), date(2024, 1, 12))
    shut = [one for one in sessions(hours_of(DOLLARS.instrument), since, until) if one.day in CHRISTMAS]
    for session in shut:
        bars = bars.filter(pc.invert(inside(bars, session)))
    store.write(DOLLARS, span_of_sessions(DOLLARS, since, until), bars, revise=True)
    return store


def inside(bars, session):
    stamp = bars["time"].type
    return pc.and_(
        pc.greater_equal(bars["time"], pa.scalar(session.open, stamp)),
        pc.less(bars["time"], pa.scalar(session.close, stamp)),
    )


@pytest.mark.slow
@pytest.mark.parametrize(("shut", "repairs"), [(CHRISTMAS, 0), ([], 1)])
def test_a_hole_is_no_gap_where_the_sources_schedule_has_no_session(forex, store, shut, repairs):
    with Gateway(forex, shut=shut) as gateway, connect(gateway.address) as source:
        done = download(store, source, DOLLARS, (date(2023, 12, 11), date(2024, 1, 12)), persistence=QUICK).series[0]
        kinds = [record.kind for record in gateway.requests]
        again = download(store, source, DOLLARS, (date(2023, 12, 11), date(2024, 1, 12)), persistence=QUICK).series[0]

    told = "complete" if shut else "partial"  # where it says that there was a session, it is told until tomorrow
    assert (done.status, again.status, again.requests) == (told, told, 0)
    assert done.requests == 1 + repairs
    assert (kinds.count("bars"), kinds.count("schedule")) == (1 + repairs, 1)
    assert len(done.confirmed_empty) == 2


def test_an_exchange_whose_hours_are_known_needs_no_schedule(upstream, store):
    remove(upstream, date(2012, 5, 2))

    with serving_and_gateway(upstream, date(2012, 6, 14)) as (gateway, source):
        download(store, source, DAILY, (FIRST, date(2012, 6, 14)), persistence=QUICK)

    assert "schedule" not in {record.kind for record in gateway.requests}


def test_what_is_stored_names_the_download_it_came_from_and_no_account(upstream, store):
    fill(upstream, store, date(2012, 6, 14))
    fill(upstream, store, date(2012, 6, 18))

    first, second = store.provenance(DAILY)
    contract = upstream.manifest(DAILY).contract
    assert (first["vendor"], first["con_id"], first["bar_size"]) == (
        "Interactive Brokers",
        str(contract.con_id),
        "1 day",
    )
    assert (first["end"], first["prices"], first["regular_hours"]) == ("20120615-00:00:00", "TRADES", "true")
    assert int(first["server_version"]) > 150
    assert second["client"] in ("ib_insync", "ib_async")
    assert "DU0000000" not in "".join(first.values())  # the emulator's account


def test_a_split_leaves_the_old_prices_to_be_read_as_a_revision(upstream, store):
    fill(upstream, store, date(2012, 6, 14))
    before = store.read(DAILY)
    split = upstream.read(DAILY)
    for name in ("open", "high", "low", "close"):
        halves = pc.divide(split[name], 2.0)
        split = split.set_column(split.schema.get_field_index(name), schema().field(name), halves)
    upstream.write(DAILY, Span.of_dates(FIRST, LAST), split, revise=True)

    update = fill(upstream, store, date(2012, 6, 18))

    (revision,) = store.revisions(DAILY)
    assert update.status == "complete"
    assert "split" in revision.why
    assert revision.bars == len(before)
    assert store.read(DAILY, revision=revision.number).equals(before)


def test_a_session_that_is_missing_from_what_was_stored_is_asked_for(upstream, store):
    whole = Span.of_dates(FIRST, date(2012, 6, 14))
    bars = upstream.read(DAILY, whole)
    store.write(DAILY, whole, pa.concat_tables([bars.slice(0, 30), bars.slice(31)]), source="csv")

    with serving(upstream, date(2012, 6, 14)) as source:
        plan = plan_download(store, source, DAILY, (FIRST, date(2012, 6, 14)))
        update = download(store, source, DAILY, (FIRST, date(2012, 6, 14)), persistence=QUICK).series[0]

    assert len(plan[0].windows) == 1
    assert (update.status, update.requests, update.bars_added) == ("complete", 1, 1)
    assert store.read(DAILY).equals(bars)
