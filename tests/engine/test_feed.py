import random
import weakref
from datetime import UTC, date, datetime, timedelta, tzinfo

import backtrader as bt
import pandas as pd
import pyarrow as pa
import pytest

from backtest.engine import feed as feed_module
from backtest.engine.feed import ArrowFeed, close_stamps, replay
from backtest.errors import NoBars, UsageError
from backtest.market import arrays
from backtest.market.bars import table_of
from backtest.market.series import BarSize, Series

DAILY = Series.parse("AAPL/1day")
HOURLY = Series.parse("AAPL/1hour")
COLUMNS = ["open", "high", "low", "close", "volume"]


def bars(series, count=60, start=datetime(2024, 1, 1, tzinfo=UTC)):
    step = timedelta(seconds=series.size.seconds)
    return table_of(
        [(start + n * step, 10.0 + n, 12.5 + n, 9.0 + n, 11.0 + n / 3, 100.0 * n, None, None) for n in range(count)]
    )


class Watch(bt.Strategy):
    """Note every bar as the strategy sees it."""

    def __init__(self):
        self.average = bt.ind.SMA(self.data.close, period=3)
        self.seen = []

    def next(self):
        data = self.data
        self.seen.append((data.datetime.datetime(0), *(getattr(data, name)[0] for name in COLUMNS), self.average[0]))


def watched(*feeds, prepare=lambda cerebro: None, **options):
    cerebro = bt.Cerebro(stdstats=False, **options)
    for feed in feeds:
        cerebro.adddata(feed)
    prepare(cerebro)
    cerebro.addstrategy(Watch)
    return cerebro.run()[0].seen


def stock_feed(table, stamps, **params):
    frame = table.to_pandas().assign(time=stamps).set_index("time")[COLUMNS]
    return bt.feeds.PandasData(dataname=frame, **params)


def closing(table, series):
    return (table["time"].to_pandas() + pd.Timedelta(seconds=series.size.seconds)).dt.tz_localize(None)


def test_a_strategy_sees_what_backtraders_own_feed_shows_bar_by_bar():
    table = bars(HOURLY)

    ours = watched(replay(table, HOURLY))
    stock = watched(stock_feed(table, closing(table, HOURLY)))

    assert len(ours) == 58
    assert ours == stock


@pytest.mark.parametrize(
    "options", [{"runonce": False}, {"preload": False}, {"exactbars": 1}, {"exactbars": -1}], ids=str
)
def test_every_mode_of_cerebro_shows_the_same_bars(options):
    table = bars(HOURLY)

    assert watched(replay(table, HOURLY), **options) == watched(replay(table, HOURLY))


def test_fromdate_and_todate_cut_as_backtraders_own_feed_does():
    table = bars(HOURLY)
    cut = {"fromdate": datetime(2024, 1, 1, 10), "todate": datetime(2024, 1, 2, 5)}  # noqa: DTZ001

    ours = watched(replay(table, HOURLY, **cut))

    assert ours == watched(stock_feed(table, closing(table, HOURLY), **cut))
    assert len(ours) == 20 - 2


def test_stamps_are_the_numbers_that_backtrader_makes_of_dates_to_the_last_bit():
    rng, first = random.Random(1), datetime(1960, 1, 1, tzinfo=UTC)
    opened = sorted(first + timedelta(microseconds=rng.randrange(110 * 365 * 86_400_000_000)) for _ in range(50_000))
    opened += [datetime(2024, 1, 1, 23, 58, 59, 999_999, UTC), datetime(2024, 1, 1, 23, 59, tzinfo=UTC)]
    table = pa.table({"time": pa.array(opened, pa.timestamp("us", tz="UTC"))})

    stamps = close_stamps(table, BarSize.parse("1min"))

    assert stamps.tolist() == [bt.date2num(time + timedelta(minutes=1)) for time in opened]


def test_stamps_are_those_of_the_bar_size_and_the_times_of_a_table_whatever_came_before():
    table, later = (bars(HOURLY, 3, datetime(2024, 1, day, tzinfo=UTC)) for day in (1, 2))

    hours = close_stamps(table, HOURLY.size).tolist()
    minutes = close_stamps(table, BarSize.parse("1min")).tolist()
    next_day = close_stamps(later, BarSize.parse("1min")).tolist()

    assert hours == [bt.date2num(datetime(2024, 1, 1, hour, tzinfo=UTC)) for hour in (1, 2, 3)]
    assert minutes == [bt.date2num(datetime(2024, 1, 1, hour, 1, tzinfo=UTC)) for hour in (0, 1, 2)]
    assert next_day == [bt.date2num(datetime(2024, 1, 2, hour, 1, tzinfo=UTC)) for hour in (0, 1, 2)]


class Ahead(tzinfo):
    def utcoffset(self, moment):
        return timedelta(hours=2)


def test_stamps_of_another_zone_are_localised_as_backtraders_own_feed_does():
    table = bars(HOURLY)

    ours = watched(replay(table, HOURLY, tzinput=Ahead()))

    assert ours == watched(stock_feed(table, closing(table, HOURLY), tzinput=Ahead()))
    assert ours != watched(replay(table, HOURLY))


def test_a_table_in_many_pieces_shows_the_same_bars():
    table = bars(HOURLY)
    pieces = pa.concat_tables([table[:7], table[7:7], table[7:50], table[50:]])
    cut = {"fromdate": datetime(2024, 1, 1, 5), "todate": datetime(2024, 1, 3, 6)}  # noqa: DTZ001

    assert pieces["close"].num_chunks == 4
    assert watched(replay(pieces, HOURLY)) == watched(replay(table, HOURLY))
    assert watched(replay(pieces, HOURLY, **cut)) == watched(replay(table, HOURLY, **cut))
    assert watched(replay(pieces, HOURLY), preload=False) == watched(replay(table, HOURLY))


def test_no_bar_from_the_wanted_date_on_leaves_the_lines_empty():
    feed = replay(bars(HOURLY), HOURLY, fromdate=datetime(2030, 1, 1))  # noqa: DTZ001
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feed)

    cerebro.run()

    assert feed.buflen() == 0


def test_a_daily_bar_is_complete_at_the_end_of_its_day():
    seen = watched(replay(bars(DAILY, 5), DAILY))

    assert [row[0].date() for row in seen] == [date(2024, 1, 3), date(2024, 1, 4), date(2024, 1, 5)]
    assert seen[0][0].hour == 23


def test_a_daily_bar_does_not_show_before_the_hours_of_its_day():
    class Order(bt.Strategy):
        def __init__(self):
            self.stamps = []

        def prenext(self):
            self.next()

        def next(self):
            self.stamps.append([data.datetime.date(0) if len(data) else None for data in self.datas])

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(replay(bars(HOURLY, 30), HOURLY))
    cerebro.adddata(replay(bars(DAILY, 2), DAILY))
    cerebro.addstrategy(Order)
    stamps = cerebro.run()[0].stamps

    assert stamps[22] == [date(2024, 1, 1), None]  # 23:00, the first day is not over
    assert stamps[23] == [date(2024, 1, 1), date(2024, 1, 1)]


def test_resampling_sees_the_same_bars_as_from_backtraders_own_feed():
    table = bars(HOURLY, 100)

    def resampled(feed):
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.resampledata(feed, timeframe=bt.TimeFrame.Days)
        cerebro.addstrategy(Watch)
        return cerebro.run()[0].seen

    ours = resampled(replay(table, HOURLY))
    stock = resampled(stock_feed(table, closing(table, HOURLY), timeframe=bt.TimeFrame.Minutes, compression=60))

    assert ours
    assert ours == stock


def test_the_same_feed_runs_twice():
    feed = replay(bars(HOURLY), HOURLY)

    assert watched(feed) == watched(feed)


def test_a_missing_volume_is_nan_and_prices_are_untouched():
    rows = [(datetime(2024, 1, n, tzinfo=UTC), 0.1, 0.3, 0.1, 0.2, None, None, None) for n in (1, 2, 3)]

    (row,) = watched(replay(table_of(rows), Series.parse("EUR-CASH/1day")))

    assert row[1:5] == (0.1, 0.3, 0.1, 0.2)
    assert row[5] != row[5]


def test_a_feed_for_a_single_run_lets_go_of_its_table():
    table = bars(DAILY)
    kept, cerebro = weakref.ref(table), bt.Cerebro(stdstats=False)
    cerebro.adddata(replay(table, DAILY, single=True))
    cerebro.addstrategy(bt.Strategy)
    del table

    cerebro.run()

    assert kept() is None


@pytest.mark.parametrize(
    ("many", "times"),
    [
        (100, 3),  # at 120, 240 and 300 bars
        (241, 1),  # at 300: with 240 there were not many, and the run soon uses the freed memory itself
    ],
)
def test_feeds_for_a_single_run_release_memory_by_their_bars_and_not_each(many, times, monkeypatch):
    released, cerebro = [], bt.Cerebro(stdstats=False)
    monkeypatch.setattr(feed_module, "_RELEASED", 100)
    monkeypatch.setattr(arrays, "MANY", many)
    monkeypatch.setattr(arrays, "release_memory", lambda: released.append(len(cerebro.datas)))
    for number in range(5):
        cerebro.adddata(replay(bars(DAILY, 60), DAILY, single=True), name=str(number))
    cerebro.addstrategy(bt.Strategy)

    cerebro.run()

    assert len(released) == times


def test_a_long_feed_for_a_single_run_has_no_column_beside_the_line_of_its_values(monkeypatch):
    monkeypatch.setattr(arrays, "MANY", 60)
    left = []
    values_of = ArrowFeed._values_of

    def noting(self, bars, name, whole):
        left.append(set(bars.column_names))
        return values_of(self, bars, name, whole)

    monkeypatch.setattr(ArrowFeed, "_values_of", noting)
    single, other = (watched(replay(bars(DAILY, 60), DAILY, single=one)) for one in (True, False))

    assert single == other
    assert left[0] - left[6] == {"open", "high", "low", "close", "volume"}
    assert left[7] == left[13], "the table of a feed that others use stays whole"


def test_the_feed_knows_its_name_and_time_frame():
    feed = replay(bars(HOURLY), "AAPL/1hour")

    assert (feed._name, feed._timeframe, feed._compression) == ("AAPL/1hour", bt.TimeFrame.Minutes, 60)


def test_no_bars_are_refused():
    with pytest.raises(NoBars, match="AAPL/1day"):
        replay(bars(DAILY, 0), DAILY)


def test_a_name_of_ones_own_is_refused_since_the_feed_has_one():
    with pytest.raises(UsageError, match="name"):
        replay(bars(DAILY), DAILY, name="mine")


def test_preload_relies_on_lines_that_are_arrays_with_a_cursor():
    line = bt.linebuffer.LineBuffer()
    line.extend(size=2)
    line.array[:0] = bt.linebuffer.array.array("d", [1.0, 2.0])
    line.advance(2)

    assert (len(line), line.buflen(), line[0]) == (2, 2, 2.0)
