"""Fills on smaller bars: equal to a walk over them in plain Python."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import backtrader as bt
import pytest
from margin_on_small_bars import assert_reckoned, overdrawn_within
from small_bars import case_of, closing, strategy_of, walk

from backtest import RunResult, Span, Store, run, sweep
from backtest.baselines.baseline import Baseline
from backtest.baselines.causes import CAUSE, repeat
from backtest.baselines.changes import Scene
from backtest.baselines.drift import judge
from backtest.errors import DataError, NoBars, UsageError
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.store.reader import HeldReader


def fills_of(case, **asked):
    """Return the fills of a run as `walk` has them."""
    rows = {}
    for n, feed in enumerate(case.feeds):
        for row in range(len(feed.bars)):
            told = feed.opened[row] if feed.series.size.daily else closing(feed, row)
            rows[n, told] = row
    result = run(strategy_of(case), [feed.series for feed in case.feeds], store=case.store, costs="none", cash=1e9,
                 fill_bars=case.size, lines=False, **asked)  # fmt: skip
    names = {feed.series.short: n for n, feed in enumerate(case.feeds)}
    found = []
    for one in result.fills_table.to_pylist():
        n = names[one["series"]]
        found.append((rows[n, one["time"]], n, int(one["size"]), one["price"], one["small_bar"]))
    return found, result


def check(seed):
    case = case_of(seed)
    found, result = fills_of(case)
    expected = walk(case)
    assert found == expected, seed
    assert "Margin" not in result.orders_table["status"].to_pylist()
    return len(expected)


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 15))])
def test_random_orders_are_filled_as_a_walk_over_the_small_bars_says(seed):
    assert check(seed)


@pytest.mark.soak
def test_two_hundred_runs_are_filled_as_a_walk_over_the_small_bars_says():
    assert sum(map(check, range(1000, 1200))) > 2000


# --- what a reader can check by hand


def table(start, minutes, bars, volume=100.0):
    times = [start + timedelta(minutes=minutes * n) for n in range(len(bars))]
    return table_of([(time, *bar, volume, None, 1) for time, bar in zip(times, bars, strict=True)])


DAYS = [(10.0, 11.0, 9.0, 10.0), (10.0, 14.0, 6.0, 12.0), (12.0, 13.0, 11.0, 12.0), (12.0, 12.5, 11.0, 12.0)]
FALLS_FIRST = [(10.0, 10.5, 9.5, 9.5), (9.5, 9.5, 6.0, 7.0), (7.0, 14.0, 7.0, 12.0)]
MORNING = datetime(2021, 3, 2, 14, 30, tzinfo=UTC)
DAILY, SMALL = Series.parse("AAPL/1day"), Series.parse("AAPL/30mins")


def store(parts=FALLS_FIRST, days=DAYS, volume=100.0, size=SMALL):
    day = table(datetime(2021, 3, 1, tzinfo=UTC), 24 * 60, days)
    return HeldReader("by hand", {DAILY: day} | ({size: table(MORNING, 30, parts, volume)} if parts else {}))


class Brackets(bt.Strategy):
    """Buys at the first open, with a stop at 8 and a limit at 13."""

    params = (("size", 10),)

    def next(self):
        if len(self) == 1:
            self.buy_bracket(size=self.p.size, exectype=bt.Order.Market, stopprice=8.0, limitprice=13.0)


def asked(**more):
    return {"fill_bars": "30mins", "costs": "none", "lines": False, **more}


@pytest.mark.parametrize(
    ("parts", "sale", "opened"),
    [
        (FALLS_FIRST, 8.0, datetime(2021, 3, 2, 15, 0, tzinfo=UTC)),
        ([(10.0, 10.5, 9.5, 10.0), (10.0, 14.0, 9.5, 13.5), (13.5, 13.5, 6.0, 12.0)], 13.0,
         datetime(2021, 3, 2, 15, 0, tzinfo=UTC)),
        ([(10.0, 14.0, 6.0, 12.0), (12.0, 14.0, 11.0, 12.0)], 13.0, datetime(2021, 3, 2, 15, 0, tzinfo=UTC)),
    ],
    ids=["falls first", "rises first", "not in the bar of the entry"],
)  # fmt: skip
def test_the_end_of_a_bracket_that_was_touched_first_is_filled(parts, sale, opened):
    found = run(Brackets, DAILY, store=store(parts), **asked())

    assert [(one["size"], one["price"], one["small_bar"]) for one in found.fills_table.to_pylist()] == [
        (10.0, 10.0, MORNING),
        (-10.0, sale, opened),
    ]


def test_days_without_small_bars_have_their_own_and_are_counted():
    found = run(Brackets, DAILY, store=store([(10.0, 10.5, 9.5, 10.0)]), **asked())

    assert found.manifest["fill_bars"] == {"AAPL/1day": {"days": 4, "without": 3}}
    assert [one["small_bar"] for one in found.fills_table.to_pylist()] == [MORNING, None]
    assert found.fills_table["price"].to_pylist()[-1] == 13.0
    assert "On 3 of 4 days there are no 30mins bars of AAPL/1day to fill orders on; 1 of 2 fills were on" in " ".join(
        repr(found).split()
    )


class Buys(bt.Strategy):
    """Buys five shares at the first open."""

    def next(self):
        if len(self) == 1:
            self.buy(size=5)


def test_slippage_and_a_share_of_the_volume_are_those_of_the_small_bar():
    found = run(Buys, DAILY, store=store(volume=8.0), **asked(slippage="0.4", volume_cap=0.25))

    # Two of each bar: 40 cents above the open, but no more than the high.
    assert [(one["size"], one["price"]) for one in found.fills_table.to_pylist()] == [
        (2.0, 10.4),
        (2.0, 9.5),
        (1.0, 7.4),
    ]


class Turns(bt.Strategy):
    """Is long and short in turns, at the market."""

    def next(self):
        self.order_target_size(target=(50, -30, 0)[len(self) // 2 % 3])


@pytest.mark.slow
@pytest.mark.parametrize("fills", ["next-bar", "this-close"])
def test_market_orders_come_to_the_same_where_a_day_opens_with_its_first_small_bar(fills):
    feed = case_of(1).feeds[0]
    halves = [((o, h, low, o), (o, max(o, c), min(o, c), c)) for o, h, low, c in feed.bars]
    rows = [(day + timedelta(hours=hours), *bar, 9.0, None, 1)
            for day, both in zip(feed.opened, halves, strict=True)
            for hours, bar in zip((16, 17), both, strict=True)]  # fmt: skip
    days = table_of([(day, *bar, 9.0, None, 1) for day, bar in zip(feed.opened, feed.bars, strict=True)])
    bars = HeldReader("by hand", {DAILY: days, Series.parse("AAPL/1hour"): table_of(rows)})
    more = {"store": bars, "costs": 0.001, "borrow": "0.1", "cash_rate": 0.02, "fills": fills}

    plain, small = run(Turns, DAILY, **more), run(Turns, DAILY, fill_bars="1hour", **more)

    assert len(plain.fills_table) > 10
    assert small.record.equals(plain.record)


def test_weeks_are_filled_on_days():
    weekly = Series.parse("AAPL/1week")
    weeks = table(datetime(2021, 3, 5, tzinfo=UTC), 7 * 24 * 60, [DAYS[0], (10.0, 14.0, 6.0, 12.0), DAYS[2]])
    days = table(datetime(2021, 3, 8, tzinfo=UTC), 24 * 60, [(10.0, 11.0, 9.0, 9.0), (9.0, 9.0, 6.0, 7.0)])

    found = run(Brackets, weekly, store=HeldReader("by hand", {weekly: weeks, DAILY: days}), **asked(fill_bars="1day"))

    assert [(one["price"], str(one["small_bar"].date())) for one in found.fills_table.to_pylist()] == [
        (10.0, "2021-03-08"),
        (8.0, "2021-03-09"),
    ]


@pytest.mark.parametrize(
    ("more", "parts", "error", "says"),
    [
        (
            {"fill_bars": "1day"},
            FALLS_FIRST,
            UsageError,
            "fill bars of 1day are not smaller than the bars of AAPL/1day",
        ),
        ({"fill_bars": "7mins"}, FALLS_FIRST, UsageError, "unknown bar size '7mins'"),
        ({"slippage": "spread"}, FALLS_FIRST, UsageError, "slippage of half the spread"),
        (
            {"account": "reg-t", "currency": "EUR"},
            FALLS_FIRST,
            UsageError,
            "leave out --account or --fill-bars, or run",
        ),
        ({"account": "reg-t", "fills": "this-close"}, FALLS_FIRST, UsageError, "leave out --fills or --fill-bars"),
        ({}, None, NoBars, "there are no bars of AAPL/30mins to fill orders on"),
        ({}, [(40.0, 56.0, 24.0, 48.0)], DataError, "no price in common on 2021-03-02, 6 to 14 and 24 to 56"),
    ],
)
def test_small_bars_that_cannot_be_filled_on_are_refused(more, parts, error, says):
    with pytest.raises(error, match=says):
        run(Brackets, DAILY, store=store(parts), **asked(**more))


# --- accounts with rules


class Levered(bt.Strategy):
    """Buys at the first open as much as a margin account lends."""

    def next(self):
        if len(self) == 1:
            self.buy(size=2_000)


def test_a_margin_call_within_the_bar_is_sold_at_the_next_small_bar():
    falls = [(10.0, 10.5, 9.5, 9.5), (9.5, 9.5, 6.0, 6.0), (6.4, 14.0, 6.4, 12.0)]
    own = {"store": store(falls), "account": "reg-t", "cash": 10_000, "costs": "none", "lines": False}

    plain, small = run(Levered, DAILY, **own), run(Levered, DAILY, fill_bars="30mins", **own)

    # 2,000 at 6: equity 2,000, required 3,000; 1,000 / 1.50 are 666.7 shares. At the close, 12, nothing lacks.
    assert plain.record["position.0"].to_pylist() == [0, 2_000, 2_000, 2_000]
    assert small.record["position.0"].to_pylist() == [0, 1_333, 1_333, 1_333]
    over = MORNING + timedelta(hours=1)
    assert [(one["size"], one["price"], one["small_bar"]) for one in small.fills_table.to_pylist()] == [
        (2_000.0, 10.0, MORNING),
        (-667.0, 6.4, over),
    ]
    assert small.orders["reason"][1].startswith(
        "margin call at 2021-03-02 15:30:00 UTC: equity 2,000.00 USD, maintenance margin 3,000.00; to be filled"
    )


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))])
def test_an_account_on_small_bars_is_that_in_plain_python(tmp_path, seed):
    book = assert_reckoned(seed, tmp_path)

    assert book.refused > 0


@pytest.mark.slow
def test_no_order_within_a_bar_ends_with_more_leverage_than_the_account_allows(tmp_path):
    opened = 0
    for seed in range(3):
        (tmp_path / str(seed)).mkdir()
        found, some = overdrawn_within(seed, tmp_path / str(seed))
        opened += some

        assert found == []
    assert opened > 5


@pytest.mark.slow
def test_a_sweep_fills_its_trials_on_small_bars_and_the_compiled_engine_does_not(tmp_path):
    grid = {"size": [5, 10]}
    found = sweep(Brackets, DAILY, grid, store=store(), folder=tmp_path / "sweep", fill_bars="30mins", costs="none")

    returns = [trial.metrics["total_return"] for trial in found.trials]
    assert returns == pytest.approx([-10 / 100_000, -20 / 100_000])
    with pytest.raises(UsageError, match="the compiled engine does not support fill_bars"):
        sweep("sma_cross", DAILY, {"fast": [2, 3], "slow": [4]}, store=store(), fill_bars="30mins", engine="compiled")


def stored(folder, reader):
    """Return a store of what a reader has."""
    made = Store(folder)
    for series in reader.series():
        bars = reader.read(series)
        first, last = (bars["time"][n].as_py() for n in (0, -1))
        made.write(series, Span(first, last + timedelta(microseconds=1)), bars)
    return made


@pytest.mark.slow
def test_a_kept_run_has_its_small_bars_and_other_ones_are_another_run(tmp_path):
    bars = stored(tmp_path / "bars", store())
    found = run(Brackets, DAILY, store=bars, **asked())
    found.save(tmp_path / "run")
    loaded = RunResult.load(tmp_path / "run")
    other = table(MORNING, 30, [*FALLS_FIRST[:1], (9.5, 13.5, 8.5, 13.0), (13.0, 14.0, 6.0, 12.0)])

    assert loaded.fills_table.equals(found.fills_table)
    assert loaded.spec.key != run(Brackets, DAILY, store=bars, costs="none").spec.key
    bars.write(SMALL, Span(MORNING, MORNING + timedelta(minutes=90)), other, revise=True)
    scene = Scene(found.spec, bars, Brackets)
    judgement = judge(Baseline.of(loaded), "brackets", scene, repeat(scene))
    assert [(cause.what, cause.verdict) for cause in judgement.causes] == [("data", CAUSE)]


def test_a_name_that_ends_is_sold_at_its_last_close_whatever_its_orders_are_filled_on():
    class Holds(bt.Strategy):
        def next(self):
            if len(self) == 1:
                self.buy(self.datas[1], size=5)
            if len(self) == 3:
                self.sell(self.datas[1], size=5, exectype=bt.Order.Limit, price=99.0)

    ends = Series.parse("MSFT/1day")
    bars = store()
    both = {DAILY: bars.read(DAILY), ends: bars.read(DAILY).slice(0, 3), SMALL: bars.read(SMALL)}
    rows = [("AAPL", "", ""), ("MSFT", "", "", -0.5)]
    found = run(Holds, [DAILY, ends], store=HeldReader("by hand", both), universe=rows, **asked())

    assert [(one["price"], one["small_bar"]) for one in found.fills_table.to_pylist()] == [(10.0, None), (6.0, None)]
    assert found.record["position.1"].to_pylist() == [0.0, 5.0, 0.0, 0.0]
    assert found.record["equity"][-1].as_py() == 100_000 - 5 * 4.0
