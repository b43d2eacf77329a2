"""Feeds of every kind, calendar and zone: Backtrader's Cerebro and ours; and our feed against Backtrader's own."""

from datetime import date, datetime, time, timedelta

import backtrader as bt
import pytest
from parity_check import Cerebro as Ours
from parity_check import difference_of, outcome
from parity_markets import BEGIN, DAY, FEEDS, market, ours, pandas, quick_rows, rows
from parity_strategies import LOUD, QUIET
from parity_trading import BARS, OTHER, assert_same, ready, watched

HOUR = timedelta(hours=1)
HOURS = market(3, 40, HOUR)
FRAMES = {"timeframe": bt.TimeFrame.Minutes, "compression": 60}


@pytest.fixture(params=[LOUD, QUIET], ids=["watched", "unwatched"])
def eyes(request):
    return request.param


def busy(strategy):
    for data in strategy.datas:
        if len(data) and len(strategy) % 3 == 0:
            (strategy.buy if len(strategy) % 2 else strategy.sell)(data=data, size=3)


def on(eyes, *feeds, add=None, prepare=None, **options):
    """Return what makes a Cerebro of these feeds, each made afresh by a function."""

    def build(make):
        cerebro = ready(make, *(feed() for feed in feeds), **options)
        for extra in [add, prepare]:
            if extra:
                extra(cerebro)
        averages = lambda strategy: [bt.ind.SMA(data, period=3) for data in strategy.datas]  # noqa: E731
        return watched(cerebro, eyes, dict.fromkeys(range(2, 200), busy), averages)

    build.eyes = eyes
    return build


@pytest.mark.slow
@pytest.mark.parametrize("kind", FEEDS)
def test_every_kind_of_feed(eyes, kind):
    assert_same(on(eyes, lambda: FEEDS[kind](BARS)), "Completed")
    assert_same(on(eyes, lambda: FEEDS[kind](BARS), lambda: quick_rows(OTHER)), "Completed")


CUTS = {
    "nothing": {},
    "moments": {"fromdate": datetime(2023, 12, 28, 3), "todate": datetime(2024, 1, 2, 5)},  # noqa: DTZ001
    "days": {"fromdate": date(2023, 12, 28), "todate": date(2024, 1, 2)},
    "session": {"sessionstart": time(9), "sessionend": time(17, 30)},
    "zone": {"tz": "US/Eastern"},
    "zone and session": {"tz": "US/Eastern", "sessionend": time(16), "fromdate": datetime(2023, 12, 28, 3)},  # noqa: DTZ001
    "none of it": {"fromdate": datetime(2030, 1, 1)},  # noqa: DTZ001
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("options", [{}, {"preload": False}], ids=str)
def test_our_feed_with_our_cerebro_is_pandas_with_backtrader(cut, options):
    """Both halves at once: nothing of ours on one side, nothing but ours on the other."""
    with_pandas = on(LOUD, lambda: pandas(HOURS, **FRAMES, **CUTS[cut]), **options)
    with_ours = on(LOUD, lambda: ours(HOURS, "AAPL/1hour", **CUTS[cut]), **options)

    assert difference_of(outcome(with_pandas, bt.Cerebro), outcome(with_ours, Ours)) == ""


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("kind", ["rows", "replay"])
def test_dates_sessions_and_zones(eyes, cut, kind):
    words = CUTS[cut] | (FRAMES if kind == "rows" else {})
    series = {"series": "AAPL/1hour"} if kind == "replay" else {}
    build = on(eyes, lambda: FEEDS[kind](HOURS, **series, **words))

    assert_same(build, ended=None)


MIXES = {
    "equal": [BARS, BARS],
    "shorter": [BARS, BARS[:12]],
    "later": [BARS, BARS[9:]],
    "never together": [BARS[:10], BARS[10:]],
    "other calendar": [BARS, OTHER, market(11, 40, gap=0.5)],
    "equal stamps within": [market(4, 25, same=0.3), market(5, 25, same=0.3)],
    "day and hour": [market(6, 8), HOURS],
    "hour and minute": [HOURS[:5], market(7, 90, timedelta(minutes=1))],
    "one bar": [BARS, BARS[4:5]],
    "many": [market(n, 20, gap=0.2) for n in range(8)],
}


@pytest.mark.slow
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize(
    ("options", "eyes"),
    [({}, QUIET), ({}, LOUD), ({"runonce": False}, QUIET), ({"stdstats": True}, QUIET)],
    ids=["unwatched", "watched", "bar by bar", "observed"],
)
def test_feeds_of_different_calendars(mix, options, eyes):
    frames = {"day and hour": [{}, FRAMES], "hour and minute": [FRAMES, {"timeframe": bt.TimeFrame.Minutes}]}
    words = frames.get(mix, [{}] * 8)
    build = on(eyes, *(lambda bars=bars, n=n: rows(bars, **words[n]) for n, bars in enumerate(MIXES[mix])), **options)

    assert_same(build, ended=None)


def test_stamps_that_fall_back(eyes):
    tangled = [*BARS[:10], *BARS[5:20]]

    assert_same(on(eyes, lambda: rows(tangled)))
    assert_same(on(eyes, lambda: rows(tangled), lambda: rows(OTHER)))


@pytest.mark.parametrize("way", ["resampledata", "replaydata"])
@pytest.mark.parametrize("options", [{}, {"runonce": False}, {"stdstats": True}], ids=str)
@pytest.mark.parametrize("also", [True, False])
def test_resampling_and_replaying(way, options, also):
    def add(cerebro):
        feed = ours(HOURS, "AAPL/1hour", sessionend=time(16))
        if also:
            cerebro.adddata(feed, name="hours")
        getattr(cerebro, way)(feed, timeframe=bt.TimeFrame.Days, name="days")

    assert_same(on(QUIET, add=add, **options))
    # Before it has two bars, a resampled feed has nothing to look back to, and raises.
    assert_same(on(LOUD, add=add, **options), ended=None)


@pytest.mark.parametrize("compression", [2, 3])
def test_weeks_and_compressed_days_beside_days(eyes, compression):
    def add(cerebro):
        feed = rows(BARS)
        cerebro.adddata(feed, name="days")
        cerebro.resampledata(feed, timeframe=bt.TimeFrame.Weeks, name="weeks")
        cerebro.resampledata(feed, timeframe=bt.TimeFrame.Days, compression=compression, name="some")

    assert_same(on(eyes, add=add), ended=None)


FILTERS = {
    "heikin ashi": (bt.filters.HeikinAshi, {}),
    "session filler": (bt.filters.SessionFiller, {"fill_price": None}),
    "session filter": (bt.filters.SessionFilter, {}),
    "calendar days": (bt.filters.CalendarDays, {}),
    "day splitter": (bt.filters.DaySplitter_Close, {}),
}


@pytest.mark.parametrize("name", FILTERS)
def test_filtered_feeds(eyes, name):
    hours = name.startswith("session")

    def feed():
        made = rows(HOURS[:20], sessionstart=time(9), sessionend=time(17), **FRAMES) if hours else rows(BARS)
        made.addfilter(FILTERS[name][0], **FILTERS[name][1])
        return made

    build = on(eyes, feed)

    assert_same(build, ended=None)


@pytest.mark.slow
def test_chained_rolled_and_cloned_feeds(eyes):
    def add(cerebro):
        cerebro.chaindata(rows(BARS[:12]), rows(BARS[12:]), name="chain")
        cerebro.rolloverdata(rows(BARS[:15]), rows(BARS[8:]), name="roll")
        first = rows(OTHER)
        cerebro.adddata(first, name="first")
        cerebro.adddata(first.clone(), name="clone")

    assert_same(on(eyes, add=add), "Completed")


class Short(bt.TradingCalendar):
    params = (("open", time(9)), ("close", time(16)), ("holidays", [date(2024, 1, 1)]))


def of_days(bars):
    def add(cerebro):
        cerebro.addcalendar(Short())
        cerebro.resampledata(rows(bars, **FRAMES), timeframe=bt.TimeFrame.Days, name="days")

    return add


def test_a_trading_calendar(eyes):
    inside = [bar for bar in market(3, 200, HOUR) if time(9) <= bar.time.time() <= time(16)]

    assert len({bar.time.date() for bar in inside}) > 1
    assert_same(on(eyes, add=of_days(inside)), "Completed")


def test_a_bar_after_the_close_of_a_trading_calendar(eyes):
    """Backtrader looks on for a close as late, day by day, until there are no more: soon, in the year 9990."""
    late = [bar._replace(time=bar.time.replace(year=9990)) for bar in HOURS]

    assert_same(on(eyes, add=of_days(late)), "OverflowError", ended="raised")


class Extended(bt.feeds.PandasData):
    """Has a line more than others."""

    lines = ("factor",)
    params = (("factor", -1),)


@pytest.mark.slow
def test_a_feed_with_more_lines(eyes):
    import pandas as pd

    frame = pd.DataFrame(BARS).set_index("time").assign(factor=[n / 7 for n in range(len(BARS))])

    assert_same(on(eyes, lambda: Extended(dataname=frame)), "Completed")


def test_bars_across_a_change_of_the_clocks(eyes):
    spring = [bar._replace(time=bar.time - BEGIN + datetime(2024, 3, 8)) for bar in HOURS]  # noqa: DTZ001
    feed = lambda: rows(spring, tz="US/Eastern", sessionend=time(16), **FRAMES)  # noqa: E731

    assert_same(on(eyes, feed), "Completed")
    assert_same(on(eyes, feed, lambda: rows(market(3, 9)), tz="Europe/London"), "Completed")


def test_a_day_of_a_hundred_equal_bars(eyes):
    same = [bar._replace(time=BARS[0].time + n // 10 * DAY) for n, bar in enumerate(BARS * 3)]

    assert_same(on(eyes, lambda: rows(same), lambda: rows(same[5:])))
