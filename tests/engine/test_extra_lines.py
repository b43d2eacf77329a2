"""Extra columns as lines of a feed: as `PandasData` gives them when `lines` and `params` name more."""

import math
import pickle
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import backtrader as bt
import pandas as pd
import pyarrow as pa
import pytest
from places import ROOT

from backtest.engine.alignment import align
from backtest.engine.feed import ArrowFeed, replay
from backtest.engine.lean.cerebro import Cerebro
from backtest.errors import UsageError
from backtest.market.bars import COLUMNS, schema
from backtest.market.extra import extra_names
from backtest.market.series import Series

HOURLY, OTHER = Series.parse("AAPL/1hour"), Series.parse("MSFT/1hour")
START = datetime(2024, 1, 1, tzinfo=UTC)
EXTRA = ("signal", "score")
FINE = ("fine", "coarse", "more")


def bars(seed=1, count=150, extra=EXTRA, skipped=0.0):
    """Return bars of a random walk; extra columns have -1, 0, 1 or any number, and are null now and then."""
    chance, price, rows = random.Random(seed), 100.0, []
    for n in range(count):
        opening, price = price, price * math.exp(chance.gauss(0, 0.01))
        high, low = max(opening, price) * 1.002, min(opening, price) * 0.998
        numbers = [chance.choice([-1.0, 0.0, 1.0, None, chance.gauss(0, 3)]) for _ in extra]
        if chance.random() >= skipped:
            rows.append((START + timedelta(hours=n), opening, high, low, price, 1000.0 + n, None, None, *numbers))
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), schema(extra), strict=True)],
        schema=schema(extra),
    )


def stock_feed(table, extra=EXTRA, name="", **params):
    """Return Backtrader's own feed of the bars, with the extra lines that its documentation says how to add."""
    more = {"lines": extra, "params": tuple((one, -1) for one in extra)}
    kind = type(bt.feeds.PandasData)(f"PandasDataOf{'_'.join(extra)}", (bt.feeds.PandasData,), more)
    frame = table.to_pandas()
    stamps = (frame["time"] + pd.Timedelta(hours=1)).dt.tz_localize(None)
    frame = frame.assign(time=stamps).set_index("time")[["open", "high", "low", "close", "volume", *extra]]
    return kind(dataname=frame, name=name, timeframe=bt.TimeFrame.Minutes, compression=60, **params)


class BySignal(bt.Strategy):
    """Trade by the first extra line of each feed, look at it in every way, and note all that is seen."""

    def __init__(self):
        self.seen, self.told = [], []
        first = [getattr(data, data.getlinealiases()[7]) for data in self.datas]
        self.averages = [bt.ind.SMA(line, period=3) for line in first]
        self.differences = [data.close - line for data, line in zip(self.datas, first, strict=True)]
        self.crossings = [bt.ind.CrossOver(line(-1), data.close) for data, line in zip(self.datas, first, strict=True)]
        self.named = [self.data_signal, self.data0_signal, self.data.lines.signal]

    def notify_order(self, order):
        self.told.append((order.ref - self.base, order.status, order.executed.size, order.executed.price))

    def start(self):
        self.base = None

    def next(self):
        row = [len(self), self.broker.getvalue(), *(line[0] for line in self.named)]
        for place, data in enumerate(self.datas):
            aliases = data.getlinealiases()[7:]
            row += [data.datetime[0], len(data)]
            row += [getattr(data, name)[-ago] for name in aliases for ago in (0, 1)]
            row += [getattr(data, f"tick_{name}", None) for name in (*aliases, "volume", "last")]
            row += [self.averages[place][0], self.differences[place][0], self.crossings[place][0]]
            row += [*data.signal.get(size=3)] if "signal" in aliases else []
            self.trade(data, getattr(data, aliases[0])[0])
        self.seen.append(row)

    def trade(self, data, signal):
        order = None
        if signal > 0.5:
            order = self.order_target_size(data, 10)
        elif signal < -0.5:
            order = self.close(data)
        if order is not None and self.base is None:
            self.base = order.ref


def seen(kind, *feeds, lean=None, **options):
    cerebro = kind(stdstats=False, **options)
    for feed in feeds:
        cerebro.adddata(feed)
    cerebro.addstrategy(BySignal)
    (strategy,) = cerebro.run()
    assert lean is None or cerebro.lean is lean, cerebro.why_not
    return [*map(repr, strategy.seen), *map(repr, strategy.told), repr(strategy.broker.getvalue())]


@pytest.fixture(scope="module")
def stock():
    """Return what Backtrader's own feed shows in Backtrader's own loop, of one series."""
    found = seen(bt.Cerebro, stock_feed(bars()))
    assert len(found) > 200
    assert sum("nan" in row for row in found) > 50
    return found


def test_the_lean_loop_shows_what_backtraders_own_feed_with_extra_lines_shows(stock):
    assert seen(Cerebro, replay(bars(), HOURLY), lean=True) == stock


def test_backtraders_own_loop_shows_it_too(stock):
    assert seen(bt.Cerebro, replay(bars(), HOURLY)) == stock


def test_backtraders_own_feed_is_the_same_in_the_lean_loop(stock):
    assert seen(Cerebro, stock_feed(bars()), lean=True) == stock


@pytest.mark.parametrize("options", [{"runonce": False}, {"preload": False}, {"exactbars": -1}], ids=str)
def test_every_mode_of_cerebro_shows_the_same_lines(options):
    assert seen(Cerebro, replay(bars(), HOURLY), **options) == seen(bt.Cerebro, stock_feed(bars()), **options)


def test_several_series_with_other_columns_and_other_times_show_what_stock_shows():
    tables = [bars(1, 100, skipped=0.1), bars(2, 100, FINE, skipped=0.2)]

    ours = seen(Cerebro, replay(tables[0], HOURLY), replay(tables[1], OTHER), runonce=False)
    lean = seen(Cerebro, *(replay(bars(seed, 100, extra), one) for seed, extra, one in TWO), lean=True)

    assert ours == seen(bt.Cerebro, stock_feed(tables[0]), stock_feed(tables[1], FINE), runonce=False)
    assert lean == seen(bt.Cerebro, *(stock_feed(bars(seed, 100, extra), extra) for seed, extra, _ in TWO))


TWO = [(1, EXTRA, HOURLY), (2, FINE, OTHER)]


class Looks(bt.Strategy):
    """Note the extra lines of all feeds, by index."""

    def __init__(self):
        self.seen = []

    def next(self):
        self.seen.append([line[0] for data in self.datas for line in list(data.lines)[7:] if len(data)])


def test_series_that_move_apart_show_their_lines_in_the_lean_loop():
    tables = [bars(1, 200, skipped=0.3), bars(2, 200, FINE, skipped=0.3)]

    def looked(kind, *feeds):
        cerebro = kind(stdstats=False)
        for feed in feeds:
            cerebro.adddata(feed)
        cerebro.addstrategy(Looks)
        return repr(cerebro.run()[0].seen), getattr(cerebro, "lean", True)

    ours = looked(Cerebro, replay(tables[0], HOURLY), replay(tables[1], OTHER))

    assert ours == looked(bt.Cerebro, stock_feed(tables[0]), stock_feed(tables[1], FINE))
    assert ours[1]


def test_dates_pieces_and_another_zone_cut_the_lines_as_stock_does():
    cut = {"fromdate": datetime(2024, 1, 3, 10), "todate": datetime(2024, 1, 6, 5)}  # noqa: DTZ001
    table = bars()
    pieces = pa.concat_tables([table[:7], table[7:7], table[7:90], table[90:]])

    ours = seen(Cerebro, replay(pieces, HOURLY, **cut), lean=True)

    assert ours == seen(bt.Cerebro, stock_feed(table, **cut))


@pytest.mark.slow
def test_a_filter_that_takes_bars_away_takes_their_lines_away():
    def only_signals(data):
        return bool(abs(data.signal[0]) < 0.5)

    feeds = [replay(bars(), HOURLY), stock_feed(bars())]
    for feed in feeds:
        feed.addfilter_simple(only_signals)

    ours, stocks = seen(Cerebro, feeds[0]), seen(bt.Cerebro, feeds[1])

    assert ours == stocks
    assert len(ours) > 100
    assert feeds[0].buflen() < 125


@pytest.mark.parametrize("add", ["resampledata", "replaydata"])
def test_resampling_and_replaying_which_would_empty_the_lines_are_refused(add):
    cerebro = Cerebro(stdstats=False)

    with pytest.raises(UsageError, match="resample or replay signal, score") as error:
        getattr(cerebro, add)(replay(bars(), HOURLY), timeframe=bt.TimeFrame.Days)

    assert "table.column_names[:8]" in str(error.value)
    plain = bars()
    getattr(cerebro, add)(replay(plain.select(plain.column_names[:8]), HOURLY), timeframe=bt.TimeFrame.Days)


def test_what_backtrader_resamples_of_a_feed_that_is_there_has_a_bars_own_lines_as_of_its_own_feed():
    def looked(kind, feed):
        cerebro = kind(stdstats=False)
        cerebro.adddata(feed)
        cerebro.resampledata(feed, timeframe=bt.TimeFrame.Days)
        cerebro.addstrategy(Looks)
        (strategy,) = cerebro.run()
        return [one.getlinealiases()[7:] for one in cerebro.datas], repr(strategy.seen)

    ours = looked(Cerebro, replay(bars(), HOURLY))

    assert ours == looked(bt.Cerebro, stock_feed(bars()))
    assert ours[0] == [EXTRA, ()]


def test_a_feed_without_extra_columns_is_of_the_class_that_it_was():
    plain = bars().select(COLUMNS)

    feed = replay(plain, HOURLY)

    assert type(feed) is ArrowFeed
    assert feed.getlinealiases() == bt.feeds.PandasData.lines.getlinealiases()


def test_feeds_with_the_same_columns_are_of_one_class():
    assert type(replay(bars(1), HOURLY)) is type(replay(bars(2), OTHER))
    assert type(replay(bars(1), HOURLY)) is not type(replay(bars(1, extra=FINE), HOURLY))


@pytest.mark.slow
def test_a_feed_with_extra_lines_can_be_sent_to_another_process(tmp_path):
    (tmp_path / "feed").write_bytes(pickle.dumps(replay(bars(count=3), HOURLY)))
    program = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).getlinealiases()[7:])"

    found = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "feed")], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert found.stdout.strip() == "('signal', 'score')"


def test_whole_numbers_and_truths_become_lines_and_texts_are_refused():
    plain = bars(count=3).select(COLUMNS)
    numbers = plain.append_column("signal", pa.array([1, None, 3])).append_column("up", pa.array([True, False, None]))

    cerebro = Cerebro(stdstats=False)
    cerebro.adddata(replay(numbers, HOURLY))
    cerebro.addstrategy(Looks)

    (strategy,) = cerebro.run()

    assert repr(strategy.seen) == "[[1.0, 1.0], [nan, 0.0], [3.0, nan]]"
    with pytest.raises(UsageError, match="'word' is not numeric"):
        replay(plain.append_column("word", pa.array(["a", "b", "c"])), HOURLY)


def test_what_pandas_keeps_of_an_index_is_no_line():
    plain = bars(count=3).select(COLUMNS)

    feed = replay(plain.append_column("__index_level_0__", pa.array([1, 2, 3])), HOURLY)

    assert feed.getlinealiases()[7:] == ()


def test_no_name_that_feeds_or_lines_of_backtrader_have_already_can_be_an_extra_column():
    feed, cerebro = replay(bars(count=30), HOURLY), bt.Cerebro(stdstats=False)
    cerebro.adddata(feed)
    cerebro.addstrategy(bt.Strategy)
    cerebro.run()
    there = {*dir(feed), *dir(feed.lines), *feed.p._getkeys(), *dir(feed.plotinfo)} - {*EXTRA}
    there |= {name for thing in (feed, feed.lines, feed.plotinfo) for name in vars(thing)} - {*EXTRA}

    taken = {name for name in there if refused(name)}

    assert len(there) > 100
    assert taken == there


def refused(name):
    try:
        extra_names([name])
    except UsageError:
        return True
    return False


def test_a_bar_that_forward_fill_makes_has_nothing_in_its_extra_columns():
    whole, thin = bars(1, 5), bars(2, 5)
    thin = pa.concat_tables([thin[:2], thin[3:]])

    aligned, _ = align({HOURLY: whole, OTHER: thin}, "forward-fill")

    made = aligned[OTHER].to_pylist()[2]
    assert (made["volume"], made["signal"], made["score"]) == (0, None, None)
    assert aligned[OTHER].drop(["time"])[3:].equals(thin.drop(["time"])[2:])
    assert aligned[HOURLY].equals(whole)
