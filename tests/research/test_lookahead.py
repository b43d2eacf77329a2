import importlib
from datetime import UTC, date, datetime

import backtrader as bt
import honest
import leaks
import numpy as np
import pytest
from places import ROOT
from pyarrow import parquet

from backtest.api import run
from backtest.engine.feed import close_stamps
from backtest.errors import NoBars, UsageError
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.research import lookahead
from backtest.research.lookahead import look_ahead, look_ahead_of, warm_up
from backtest.runs.spec import RunSpec
from backtest.store import pins
from backtest.store.store import Store

pytestmark = pytest.mark.slow  # each check spawns a process
APPLE = Series.parse("AAPL/1day")
SAMPLE = {"store": ROOT / "data" / "sample", "span": (date(2010, 1, 4), date(2010, 12, 31))}


WITNESSES = (honest.Cross, honest.Pair)  # of the honest ones; the others take twenty seconds each, and so are soak


@pytest.mark.parametrize(
    "strategy", [one if one in WITNESSES else pytest.param(one, marks=pytest.mark.soak) for one in honest.HONEST]
)
def test_an_honest_strategy_decides_the_same_whatever_comes_after(strategy):
    series = ["AAPL/1day", "IBM/1day"] if strategy is honest.Pair else "AAPL/1day"

    asked = {"cuts": 2, **HALF_A_YEAR} if strategy in WITNESSES else {"cuts": 8, **SAMPLE}

    assert look_ahead(strategy, series, **asked) == []


@pytest.mark.slow
def test_a_kept_run_is_checked_as_it_was_asked():
    spec = RunSpec(f"{honest.__file__}:TodaysClose", ("AAPL/1day",), "2010-01-04", "2010-06-30", {}, 50_000.0)

    found = look_ahead_of(spec, SAMPLE["store"], cuts=2)

    assert found[0].time == datetime(2010, 1, 7, tzinfo=UTC)
    assert found[-1].time < datetime(2010, 7, 1, tzinfo=UTC)


@pytest.mark.slow
def test_a_kept_run_of_a_span_is_checked_on_the_bars_of_that_span():
    span = "2010-01-04T00:00:00+00:00", "2010-01-06T00:00:00+00:00"  # without its end
    spec = RunSpec(f"{honest.__file__}:FillsAtItsClose", ("AAPL/1day",), *span)

    found = look_ahead_of(spec, SAMPLE["store"], cuts=0)

    # The price rose on the 4th and fell on the 5th, but the sale of the 5th would need the bar of the 6th.
    assert [leak.time.day for leak in found] == [4]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", honest.LEAKING)
def test_a_strategy_that_knows_the_future_is_caught(strategy):
    assert look_ahead(strategy, "AAPL/1day", cuts=2, **HALF_A_YEAR)


HALF_A_YEAR = {"store": ROOT / "data" / "sample", "span": (date(2010, 1, 4), date(2010, 6, 30))}


def checked(strategy, **options):
    two = strategy in (leaks.SecondFeedsTomorrow, leaks.TwoFeeds)
    return look_ahead(strategy, ["AAPL/1day", "IBM/1day"] if two else "AAPL/1day", **options)


OF_EACH_KIND = [
    leaks.CachedModel, leaks.StoreRead, leaks.ValidByTomorrow, leaks.FileRead, leaks.ByItsBroker, leaks.Rarely,
    leaks.NextDate, leaks.RandomAndLeaking,
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy",
    [one if n < 4 else pytest.param(one, marks=pytest.mark.soak) for n, one in enumerate(OF_EACH_KIND)],
)
def test_who_knows_the_future_by_another_way_is_caught_too(strategy):
    assert checked(strategy, cuts=2 if strategy in OF_EACH_KIND[:4] else 6, **HALF_A_YEAR)


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy", [leaks.LearnsFromThePast, leaks.UnseededCoins, leaks.CausalVectors, leaks.ReadsThePastOfTheStore]
)
def test_who_looks_as_if_he_did_and_does_not_is_not(strategy):
    assert checked(strategy, cuts=2, **HALF_A_YEAR) == []


@pytest.mark.soak
@pytest.mark.parametrize("strategy", leaks.LEAKS)
def test_every_leak_is_found(strategy):
    assert checked(strategy, **SAMPLE)


@pytest.mark.soak
@pytest.mark.parametrize("strategy", leaks.CLEAN)
def test_nothing_is_found_in_what_is_clean(strategy):
    assert checked(strategy, **SAMPLE) == []


@pytest.mark.slow
def test_what_was_learnt_in_this_process_before_is_not_known_to_the_check(tmp_path, monkeypatch):
    (tmp_path / "learns.py").write_text(LEARNS, "utf-8")
    monkeypatch.chdir(tmp_path)
    run("learns.py", "AAPL/1day", **HALF_A_YEAR)

    assert look_ahead("learns.py", "AAPL/1day", cuts=1, **HALF_A_YEAR)


LEARNS = """
import functools
import backtrader as bt
import numpy as np

@functools.lru_cache
def mean_of(name, _cache={}):
    return _cache.setdefault(name, LAST[0].data.close.array) and float(np.mean(LAST[0].data.close.array))

LAST = []

class Learns(bt.Strategy):
    def start(self):
        LAST[:] = [self]

    def next(self):
        self.order_target_size(target=10 if self.data.close[0] < mean_of("all") else 0)
"""


AT_IMPORT = """
import backtrader as bt
from pyarrow.parquet import read_table
from backtest import Store

BARS = {read}
CLOSES = BARS["close"].to_pylist()
RISES = dict(zip(BARS["time"].to_pylist(), (after > before for before, after in zip(CLOSES, CLOSES[1:]))))
RISES = {{time.date(): rises for time, rises in RISES.items()}}

class Knows(bt.Strategy):
    def next(self):
        self.order_target_size(target=10 if RISES.get(self.data.datetime.date(0)) else 0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("door", ["store", pytest.param("file", marks=pytest.mark.soak)])
def test_what_a_module_of_a_class_reads_as_it_is_imported_is_seen(tmp_path, monkeypatch, door):
    store, file = Store(SAMPLE["store"]), tmp_path / "bars.parquet"
    parquet.write_table(store.read(APPLE), file)
    reads = {"store": f"Store({store.name!r}).read('AAPL/1day')", "file": f"read_table({str(file)!r})"}
    name = f"knows_from_{door}"
    (tmp_path / f"{name}.py").write_text(AT_IMPORT.format(read=reads[door]), "utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    found = look_ahead(
        importlib.import_module(name).Knows, "AAPL/1day", cuts=1 if door == "store" else 0, **HALF_A_YEAR
    )

    assert len(found) == 1
    assert ("is read" in found[0].change) == (door == "file")


@pytest.mark.slow
def test_todays_close_at_todays_open_is_named_with_its_bar():
    first = look_ahead(honest.TodaysClose, "AAPL/1day", cuts=1, **HALF_A_YEAR)[0]

    # On the 5th, 6th and 7th of January the price fell from open to close; on the 8th, from 210.30 to 211.98, it rose.
    assert first.time == datetime(2010, 1, 7, tzinfo=UTC)
    assert [(one.side, one.size) for one in first.decided] == [("buy", 10)]
    assert first.instead == ()
    assert "bar 2010-01-07" in str(first)


@pytest.mark.parametrize("seed", range(5))
def test_the_next_bar_rises_after_a_cut_in_one_future_and_falls_in_another(seed):
    bars, random = Store(SAMPLE["store"]).read(APPLE, Span.of_dates(*SAMPLE["span"])), np.random.default_rng(seed)
    stamp = float(close_stamps(bars, APPLE.size)[100])

    futures = lookahead._futures({APPLE: bars}, lookahead._Cut(stamp, True), random)

    closes = [future.bars[APPLE]["close"].to_numpy() for future in futures if future.sign]
    rises = [own[101] > own[100] for own in closes]
    assert sorted(rises) == [False, True]
    assert all(own[:101].tolist() == closes[0][:101].tolist() for own in closes)


def test_a_centred_average_is_caught_no_further_from_the_cut_than_it_reaches():
    found = look_ahead(honest.Centred, "AAPL/1day", cuts=2, **HALF_A_YEAR)

    assert found

    assert {leak.change for leak in found} <= {"cut off after it", "noise after it", "mirrored noise after it"}
    assert all(isinstance(leak.time, datetime) for leak in found)


def test_a_fill_at_the_close_that_was_decided_by_is_named_as_such():
    found = look_ahead(honest.FillsAtItsClose, "AAPL/1day", cuts=0, **SAMPLE)

    assert {leak.change for leak in found} == {"filled in its own bar"}


class ByTimer(bt.Strategy):
    """Decide by the bar at which a timer goes off, which the feed has moved to and the strategy has not."""

    def __init__(self):
        self.add_timer(bt.timer.SESSION_START)

    def notify_timer(self, timer, when, *args, **kwargs):
        if self.data.close[0] > self.data.open[0]:
            self.buy(size=1)


def test_what_a_timer_decides_is_decided_by_the_bar_at_which_it_goes_off():
    assert look_ahead(ByTimer, "AAPL/1day", cuts=2, **HALF_A_YEAR) == []


def test_what_cannot_be_run_cannot_be_checked():
    with pytest.raises(UsageError, match="unknown costs"):
        look_ahead(honest.Hold, "AAPL/1day", costs="nothing", **SAMPLE)
    with pytest.raises(NoBars):
        look_ahead(honest.Hold, "QQQ/1day", **SAMPLE)


def test_the_same_seed_makes_the_same_findings():
    first, second = (look_ahead(honest.Centred, "AAPL/1day", cuts=1, seed=5, **HALF_A_YEAR) for _ in "ab")

    assert first == second != []


class OnRisingDays(bt.Strategy):
    def next(self):
        if self.data.close[0] > self.data.open[0]:
            self.buy(size=1)


def test_a_strategy_without_memory_decides_the_same_from_the_start():
    found = warm_up(OnRisingDays, "AAPL/1day", **SAMPLE)

    assert (found.settled, found.different) == (found.start, 0)
    assert found.compared > 50


def test_a_strategy_with_a_memory_settles_when_it_has_seen_enough():
    found = warm_up(honest.Momentum, "AAPL/1day", **SAMPLE)

    assert found.start < found.settled < datetime(2010, 12, 1, tzinfo=UTC)
    assert found.different > 0


class EveryOtherBar(bt.Strategy):
    def next(self):
        (self.buy if len(self) % 2 else self.sell)(size=1)


def test_a_strategy_that_counts_its_bars_never_settles():
    found = warm_up(EveryOtherBar, "AAPL/1day", skipped=0.3, **SAMPLE)  # 75 of 252: an odd number

    assert found.settled is None
    assert found.different == 2 * found.compared == 2 * 177


def test_the_bars_of_a_store_are_checked_whatever_lies_below_the_current_folder(tmp_path, monkeypatch):
    series = "AAPL/1day"
    elsewhere = tmp_path / str(Series.parse(series))
    elsewhere.mkdir(parents=True)
    (elsewhere / "manifest.json").write_text("not a manifest")
    monkeypatch.chdir(tmp_path)

    assert look_ahead(honest.HONEST[0], series, cuts=1, **HALF_A_YEAR) == []


def test_pinned_bars_are_checked_against_the_store_and_not_against_another_future(tmp_path):
    store, lock = Store(SAMPLE["store"]), tmp_path / "data.lock"
    pins.add(store, lock, [APPLE], HALF_A_YEAR["span"])

    found = look_ahead(honest.TodaysClose, "AAPL/1day", cuts=1, pins=lock, **HALF_A_YEAR)

    assert found == look_ahead(honest.TodaysClose, "AAPL/1day", cuts=1, **HALF_A_YEAR)
    assert found
