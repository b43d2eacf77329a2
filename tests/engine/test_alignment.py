"""Many series on one clock: the rules, indicators over several feeds, and larger bars that show when complete."""

import math
from datetime import UTC, date, datetime, timedelta

import backtrader as bt
import numpy as np
import pandas as pd
import pytest

from backtest import replay
from backtest.api import run
from backtest.cli.app import main
from backtest.engine.alignment import align
from backtest.errors import NoBars, StrategyError, UsageError
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.research.lookahead import look_ahead
from backtest.store.store import Store

FIRST, SECOND = Series.parse("AAPL/1day"), Series.parse("MSFT/1day")
START = datetime(2024, 1, 1, tzinfo=UTC)


def bars(closes):
    """Return a table with a bar for each day that has a close: days of January by number."""
    rows = [(START + timedelta(days=day - 1), c, c + 1.0, c - 1.0, c, 10.0, c, 5) for day, c in closes.items()]
    return table_of(rows)


ONE = {FIRST: bars({2: 10.0, 3: 11.0, 4: 12.0, 5: 13.0}), SECOND: bars({3: 20.0, 5: 22.0, 8: 23.0})}


def days(table):
    return [moment.day for moment in table["time"].to_pylist()]


def test_as_is_leaves_the_bars_as_they_are():
    assert align(ONE, "as-is") == (ONE, {})


def test_the_intersection_has_only_times_that_all_have_and_says_what_is_dropped():
    aligned, notes = align(ONE, "intersection")

    assert [days(table) for table in aligned.values()] == [[3, 5], [3, 5]]
    assert aligned[SECOND]["close"].to_pylist() == [20.0, 22.0]
    assert notes == {"dropped": {"AAPL/1day": 2, "MSFT/1day": 1}}


def test_series_without_a_time_in_common_are_refused():
    with pytest.raises(NoBars, match="no time in common"):
        align({FIRST: bars({2: 1.0}), SECOND: bars({3: 1.0})}, "intersection")


def test_strict_names_the_first_ten_times_that_differ_and_who_lacks_them():
    with pytest.raises(NoBars, match=r"differ at 3 times, the first: 2024-01-02 \(not in MSFT/1day\); 2024-01-04"):
        align(ONE, "strict")
    many = {FIRST: bars(dict.fromkeys(range(1, 21), 1.0)), SECOND: bars(dict.fromkeys(range(16, 31), 1.0))}
    with pytest.raises(NoBars, match=r"differ at 25 times") as told:
        align(many, "strict")
    assert str(told.value).count("not in") == 10
    assert align({FIRST: ONE[FIRST]}, "strict")[0] == {FIRST: ONE[FIRST]}


def test_a_missing_bar_stands_still_at_the_last_close_and_is_told():
    aligned, notes = align(ONE, "forward-fill")

    filled = aligned[SECOND].to_pylist()
    assert days(aligned[SECOND]) == [3, 4, 5, 8]  # not the 2nd: it was not listed yet
    assert days(aligned[FIRST]) == [2, 3, 4, 5]  # not the 8th: it was gone
    assert [filled[1][name] for name in ("open", "high", "low", "close", "volume")] == [20, 20, 20, 20, 0]
    assert filled[1]["average"] is None
    assert filled[2] == ONE[SECOND].to_pylist()[1]
    assert notes == {"filled": {"MSFT/1day": {"bars": 1, "first": ["2024-01-04"]}}}


def test_a_rule_that_nobody_knows_is_refused():
    with pytest.raises(UsageError, match="as-is, strict, intersection, forward-fill"):
        align(ONE, "outer")


def test_series_of_different_sizes_are_not_aligned_with_each_other():
    hourly = Series.parse("AAPL/1hour")
    other = {FIRST: ONE[FIRST], hourly: bars({2: 10.0})}

    assert align(other, "strict")[0] == other


# --- in runs


def test_the_manifest_of_a_run_says_what_alignment_did(sample):
    found = {rule: run("buy_and_hold", ["AAPL/1day", "GOOG/1day"], store=sample, align=rule)
             for rule in ("as-is", "intersection", "forward-fill")}  # fmt: skip

    assert [len(result.equity) for result in found.values()] == [3270, 2148, 3270]
    assert found["intersection"].manifest["aligned"] == {"dropped": {"AAPL/1day": 1122}}
    assert found["forward-fill"].manifest["aligned"] == {"filled": {}}
    assert "aligned" not in found["as-is"].manifest
    with pytest.raises(NoBars, match=r"differ at 1,122 times, the first: 2000-03-01 \(not in GOOG/1day\)"):
        run("buy_and_hold", ["AAPL/1day", "GOOG/1day"], store=sample, align="strict")


class Orders(bt.Strategy):
    """Orders of each kind in the second series, in a bar before those that are made up and in one of these."""

    params = (("at", (1, 3)),)

    def next(self):
        if len(self) in self.p.at:
            close = self.data1.close[0]
            kinds = bt.Order
            self.buy(self.data1, size=1)
            self.buy(self.data1, size=1, exectype=kinds.Close)
            self.buy(self.data1, size=1, exectype=kinds.Limit, price=close + 5)
            self.buy(self.data1, size=1, exectype=kinds.Stop, price=close - 5)
            self.buy(self.data1, size=1, exectype=kinds.StopLimit, price=close - 5, plimit=close + 5)
            self.sell(self.data1, size=1, exectype=kinds.StopTrail, trailamount=-5)


@pytest.mark.parametrize("asked", [{}, {"slippage": "1bp"}], ids=["lean", "slippage"])
def test_no_order_is_filled_in_a_bar_that_was_not_there(tmp_path, asked):
    store = Store(tmp_path)
    closes = dict.fromkeys(range(2, 7), 10.0), {2: 20.0, 5: 22.0, 6: 23.0}  # the second was closed on the 3rd and 4th
    for series, one in zip((FIRST, SECOND), closes, strict=True):
        store.write(series, Span(START, START + timedelta(days=9)), bars(one))

    result = run(Orders, ["AAPL/1day", "MSFT/1day"], store=store, align="forward-fill", costs="none", **asked)

    rows = result.orders_table.to_pylist()
    assert [row["created"].day for row in rows] == [2] * 6 + [4] * 6
    assert {row["closed"] and row["closed"].day for row in rows} == {5}
    plain = {row["price"] for row in rows if row["kind"] in ("Market", "Close")}
    assert plain == {22.0} if "slippage" not in asked else plain == {22.0 * 1.0001}


def test_an_order_at_the_close_it_was_decided_by_is_not_filled_where_there_was_none(tmp_path):
    store = Store(tmp_path)
    for series, one in ((FIRST, dict.fromkeys(range(2, 7), 10.0)), (SECOND, {2: 20.0, 5: 22.0, 6: 23.0})):
        store.write(series, Span(START, START + timedelta(days=9)), bars(one))

    asked = {"align": "forward-fill", "fills": "this-close", "costs": "none"}
    result = run(Orders, ["AAPL/1day", "MSFT/1day"], store=store, **asked)

    at_market = [row for row in result.orders_table.to_pylist() if row["kind"] == "Market"]
    assert [(row["created"].day, row["closed"].day, row["price"]) for row in at_market] == [(2, 2, 20.0), (4, 5, 22.0)]


def test_an_order_at_the_close_is_filled_in_the_last_bar_that_there_was(tmp_path):
    class AtTheClose(bt.Strategy):
        def next(self):
            if len(self) in (1, 4):
                self.buy(self.data1, size=1, exectype=bt.Order.Close)

    hours = [Series.parse(f"{symbol}/1hour") for symbol in ("AAPL", "MSFT")]
    times = [datetime(2024, 1, day, hour, tzinfo=UTC) for day in (4, 5) for hour in (15, 16, 17, 18, 19, 20)]
    store = Store(tmp_path)
    for series, there in ((hours[0], times), (hours[1], [*times[:3], *times[6:]])):
        rows = [(moment, *[10.0 + times.index(moment)] * 4, 10.0, None, None) for moment in there]
        store.write(series, Span(START, START + timedelta(days=9)), table_of(rows))

    result = run(AtTheClose, ["AAPL/1hour", "MSFT/1hour"], store=store, align="forward-fill", costs="none")

    filled = [(row["closed"], row["price"]) for row in result.orders_table.to_pylist()]
    assert filled == [(times[3], 12.0), (times[11] + timedelta(hours=1), 21.0)]


def test_the_rule_is_asked_for_on_the_command_line(sample, tmp_path, capsys):
    words = ["run", "buy_and_hold", "AAPL/1day", "GOOG/1day", "--store", str(sample.root), "--out", str(tmp_path / "a")]

    with pytest.raises(SystemExit) as refused:
        main([*words, "--align", "strict"])
    with pytest.raises(SystemExit) as done:
        main([*words, "--align", "intersection"])

    assert (refused.value.code, done.value.code) == (3, 0)
    told = capsys.readouterr()
    assert "differ at 1,122 times" in told.err
    assert "series aligned by intersection" in " ".join(told.out.split())


class Ratio(bt.Strategy):
    """Note an indicator over two feeds, and one over that."""

    def __init__(self):
        ratio = self.data0.close / self.data1.close
        self.mean = bt.ind.SMA(ratio, period=3)
        self.spread = bt.ind.SMA(self.data0.close - bt.ind.SMA(self.data1.close, period=2)(-1), period=2)
        self.seen = []
        self.notes = {"seen": self.seen}

    def next(self):
        values = [None if math.isnan(line[0]) else line[0] for line in (self.mean, self.spread)]  # as JSON has no NaN
        self.seen.append([f"{self.datetime.date()}", *values])


def unequal(folder):
    """Return a store with 30 days of one series, and of the other those from the 11th on but every fourth."""
    chance, store = np.random.default_rng(4), Store(folder)
    table = {
        FIRST: {day: float(p) for day, p in enumerate(np.round(100 + chance.normal(size=30).cumsum(), 2), 1)},
        SECOND: {day: float(p) for day, p in enumerate(np.round(50 + chance.normal(size=30).cumsum(), 2), 1)},
    }
    table[SECOND] = {day: price for day, price in table[SECOND].items() if day > 10 and day % 4}
    for one, closes in table.items():
        store.write(one, Span(START, START + timedelta(days=30)), bars(closes))
    return store, table


def test_an_indicator_over_feeds_of_unequal_length_crashes_stock_backtrader(tmp_path):
    store, _ = unequal(tmp_path)
    cerebro = bt.Cerebro()
    for one in (FIRST, SECOND):
        cerebro.adddata(replay(store.read(one), one))
    cerebro.addstrategy(Ratio)

    with pytest.raises(IndexError):
        cerebro.run()


def test_and_here_it_pairs_what_was_known_at_each_bar(tmp_path):
    store, table = unequal(tmp_path)

    result = run(Ratio, ["AAPL/1day", "MSFT/1day"], store=store)

    # An operation moves with the feed it names first; of the other it has the newest value, none before its first.
    first, second = (pd.Series(table[one]) for one in (FIRST, SECOND))
    mean = (first / second.reindex(first.index).ffill()).rolling(3).mean()
    lagged = second.rolling(2).mean().shift(1).reindex(first.index).ffill()
    spread = (first - lagged).rolling(2).mean()
    seen = {date.fromisoformat(day).day: values for day, *values in result.manifest["notes"]["seen"]}
    assert min(seen) <= 14
    assert max(seen) == 30
    for day, values in seen.items():
        expected = [mean[day], spread[day]]
        assert [float("nan") if one is None else one for one in values] == pytest.approx(expected, nan_ok=True)


@pytest.mark.slow
def test_such_an_indicator_sees_no_future(tmp_path):
    class Trades(Ratio):
        def next(self):
            self.order_target_size(target=10 if self.mean[0] > 2.02 else 0)

    store, _ = unequal(tmp_path)

    assert len(run(Trades, ["AAPL/1day", "MSFT/1day"], store=store).orders) > 2
    assert look_ahead(Trades, ["AAPL/1day", "MSFT/1day"], store=store, cuts=8) == []


class OwnLine(bt.Strategy):
    """Average a line of the strategy's own, which holds the closes of the series that has fewer bars."""

    lines = ("other",)

    def __init__(self):
        self.lines.other = self.data1.close
        self.mean = bt.ind.SMA(self.lines.other, period=2)

    def next(self):
        self.order_target_size(target=10 if self.mean[0] > self.data0.close[0] / 2 else 0)


@pytest.mark.slow
def test_an_own_line_over_feeds_of_unequal_length_goes_bar_by_bar_and_sees_no_future(tmp_path, caplog):
    caplog.set_level("INFO", "backtest.engine.lean.cerebro")
    store, _ = unequal(tmp_path)

    run(OwnLine, ["AAPL/1day", "MSFT/1day"], store=store)

    assert "feeds whose bars have different times" in caplog.records[-1].getMessage()
    assert look_ahead(OwnLine, ["AAPL/1day", "MSFT/1day"], store=store, cuts=8) == []


class Behind(bt.Indicator):
    """Write to bars that have passed, by item, by `set` and by a line that is bound."""

    lines = ("item", "set", "bound")

    def __init__(self):
        self.lines.bound = self.data.close(2)

    def next(self):
        self.lines.item[-1] = self.data[0]
        if len(self) > 2:
            self.lines.set.set(len(self), -3)


class WritesBehind(bt.Strategy):
    """Note indicators that write behind the present bar, beside one that reads two feeds."""

    def __init__(self):
        self.ratio = self.data0.close / self.data1.close
        ichimoku = {"tenkan": 2, "kijun": 3, "senkou": 4, "senkou_lead": 2, "chikou": 3}
        self.written = [bt.ind.Ichimoku(data, **ichimoku) for data in self.datas]
        self.written += [*map(Behind, self.datas), self.data0.close(4), bt.ind.SMA(self.ratio(2), period=2)]
        self.seen = []
        self.notes = {"seen": self.seen}

    def prenext(self):
        self.next()

    def next(self):
        lines = [line for one in self.written for line in one.lines if len(line) > 8]
        self.seen.append(repr([[line[-ago] for ago in range(5)] for line in lines]))


def test_an_indicator_that_writes_behind_the_bar_leaves_what_stock_backtrader_leaves_bar_by_bar(tmp_path):
    store, _ = unequal(tmp_path)
    cerebro = bt.Cerebro(stdstats=False)
    for one in (FIRST, SECOND):
        cerebro.adddata(replay(store.read(one), one))
    cerebro.addstrategy(WritesBehind)
    (stock,) = cerebro.run(runonce=False)

    result = run(WritesBehind, ["AAPL/1day", "MSFT/1day"], store=store)

    assert result.manifest["notes"]["seen"] == stock.seen
    assert "nan" in stock.seen[-1]


def test_an_indicator_that_writes_ahead_of_the_bar_is_refused_as_in_stock_backtrader_bar_by_bar(tmp_path):
    class Ahead(bt.Indicator):
        lines = ("ahead",)

        def next(self):
            self.lines.ahead[1] = self.data[0]

    class WritesAhead(bt.Strategy):
        def __init__(self):
            self.ratio, self.ahead = self.data0.close / self.data1.close, Ahead()

    store, _ = unequal(tmp_path)

    with pytest.raises(StrategyError, match="IndexError"):
        run(WritesAhead, ["AAPL/1day", "MSFT/1day"], store=store)


def test_indicators_of_one_feed_each_stay_in_the_lean_loop(tmp_path, caplog):
    class Separate(bt.Strategy):
        def __init__(self):
            self.means = [bt.ind.SMA(data.close - data.open, period=3) for data in self.datas]

    caplog.set_level("INFO", "backtest.engine.lean.cerebro")
    store, _ = unequal(tmp_path)

    run(Separate, ["AAPL/1day", "MSFT/1day"], store=store)
    lean = [record.getMessage() for record in caplog.records]
    run(Ratio, ["AAPL/1day", "MSFT/1day"], store=store)

    assert lean == []
    assert "feeds whose bars have different times" in caplog.records[-1].getMessage()


# --- several bar sizes


class Sees(bt.Strategy):
    """Note at each bar what is known of both sizes."""

    def __init__(self):
        self.notes = {"seen": []}

    def next(self):
        shown = (
            f"{self.data0.datetime.datetime():%d %H:%M}",
            self.data0.close[0],
            self.data1.close[0],
            len(self.data1),
        )
        self.notes["seen"].append(shown)


def test_a_larger_bar_shows_when_it_is_complete_and_not_before(tmp_path):
    small, large = Series.parse("AAPL/30mins"), Series.parse("AAPL/1hour")
    opening = datetime(2024, 1, 2, 15, tzinfo=UTC)
    span = Span(opening, opening + timedelta(hours=3))
    halves = [(opening + timedelta(minutes=30 * n), *[float(n)] * 4, 1.0, None, None) for n in range(6)]
    hours = [(opening + timedelta(hours=n), *[100.0 + n] * 4, 1.0, None, None) for n in range(3)]
    store = Store(tmp_path)
    store.write(small, span, table_of(halves))
    store.write(large, span, table_of(hours))

    result = run(Sees, ["AAPL/30mins", "AAPL/1hour"], store=store)

    # The hour from 15:00 to 16:00 is known with the half-hour that ends at 16:00.
    assert result.manifest["notes"]["seen"] == [
        ["02 16:00", 1.0, 100.0, 1],
        ["02 16:30", 2.0, 100.0, 1],
        ["02 17:00", 3.0, 101.0, 2],
        ["02 17:30", 4.0, 101.0, 2],
        ["02 18:00", 5.0, 102.0, 3],
    ]


@pytest.mark.slow
def test_a_day_shows_after_its_last_minute(intraday):
    store = Store(intraday.root)
    day, minutes = Series.parse("AAPL/1day"), Series.parse("AAPL/1min")
    daily = {day: bars({5: 1.0})}[day]
    assert len(daily) == 1
    table = store.read(minutes, Span(datetime(2024, 3, 4, tzinfo=UTC), datetime(2024, 3, 6, tzinfo=UTC)))
    both = replay(table, minutes), replay(bars({64: 1.0}), day)  # the 64th day of the year: the 4th of March
    cerebro = bt.Cerebro()
    for feed in both:
        cerebro.adddata(feed)
    cerebro.addstrategy(Sees)

    (ran,) = cerebro.run()

    seen = ran.notes["seen"]
    assert {text[:2] for text, *_ in seen} <= {"04", "05"}
    assert seen[0][0] == "04 21:00"  # the last minute of the session ends as the day's bar comes
    assert seen[1][0] == "05 14:31"
