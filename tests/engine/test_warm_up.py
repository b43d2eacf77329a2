"""A warm-up: indicators see the bars before a run begins, and nothing else is of them."""

from datetime import UTC, date, datetime, timedelta

import backtrader as bt
import numpy as np
import pytest

from backtest import Span
from backtest.api import RunResult, run
from backtest.baselines.causes import repeat
from backtest.baselines.changes import Scene
from backtest.cli.app import main
from backtest.engine.code.strategy import load_strategy
from backtest.errors import BrokenPin, StrategyError, UsageError
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.research.out_of_sample.window import Window, run_window
from backtest.runs.spec import RunSpec, spec_of
from backtest.store.pins import save_pins, take
from backtest.store.store import Store

START = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday
COIN = "BTC-CRYPTO/1day"  # which has a session a day
TENTH = {"start": "2024-01-11", "costs": "none"}  # the eleventh bar, after ten


def stored(folder, closes, names=(COIN,)):
    """Return a store with a bar a day that opens, and closes, at these prices."""
    rows = [(START + timedelta(days=n), p, p, p, p, 1e6, None, None) for n, p in enumerate(map(float, closes))]
    store = Store(folder)
    for name in names:
        store.write(Series.parse(name), Span(START, START + timedelta(days=len(rows))), table_of(rows))
    return store


@pytest.fixture
def store(tmp_path):
    return stored(tmp_path / "bars", range(100, 130))


class Average(bt.Strategy):
    """Buys one at the first bar at which its average is known, and notes that bar and the average."""

    params = (("period", 5),)

    def __init__(self):
        self.average = bt.ind.SMA(self.data.close, period=self.p.period)
        self.notes = {}

    def next(self):
        if not self.notes:
            self.notes = {"bar": str(self.data.datetime.date(0)), "average": self.average[0]}
            self.buy(size=1)


@pytest.mark.parametrize(
    ("warm_up", "first", "average", "seen"),
    [
        ("", "2024-01-15", 112.0, 0),  # closes of 110 to 114
        ("auto", "2024-01-11", 108.0, 10),  # 106 to 110
        (4, "2024-01-11", 108.0, 4),
        ("7", "2024-01-11", 108.0, 7),
        (2, "2024-01-13", 110.0, 2),  # 108 to 112: two short
        (0, "2024-01-15", 112.0, 0),
    ],
)
def test_indicators_see_bars_before_and_all_else_begins_with_the_first_session(store, warm_up, first, average, seen):
    result = run(Average, COIN, store=store, warm_up=warm_up, **TENTH)

    assert result.manifest["notes"] == {"bar": first, "average": pytest.approx(average, rel=1e-12)}
    assert result.manifest.get("warm_up", {"bars": 0})["bars"] == seen
    assert len(result.record) == 20
    assert result.record["session"][0].as_py() == date(2024, 1, 11)
    assert result.account.equity[0] == 100_000
    assert str(result.orders["created"].iloc[0].date()) == first
    assert result.lines.times(0)[0] == np.datetime64("2024-01-11")
    assert len(result.lines.values(0)) == 20


@pytest.mark.parametrize(
    ("warm_up", "told"),
    [
        ("", "Indicators needed the first 4 bars; use --since with --warm-up auto to"),
        (2, "Indicators needed the first 2 bars; use --since with --warm-up auto to"),
        ("auto", "Indicators were warmed up on the 10 bars before the run (--warm-up auto)."),
    ],
)
def test_the_summary_says_how_many_bars_passed_and_names_the_option(store, warm_up, told):
    result = run(Average, COIN, store=store, warm_up=warm_up, **TENTH)

    shown = " ".join(repr(result).split())
    assert told in shown
    assert ("Indicators needed" in shown) == (warm_up != "auto")


class Idle(bt.Strategy):
    """Does nothing, and needs no bar for it."""


class Eager(Average):
    """Does not wait for its average."""

    def prenext(self):
        self.buy(size=1)


def test_a_strategy_that_acts_at_the_last_bar_waited_for_all_before_and_one_that_needs_none_for_none(store):
    last = run(Average, COIN, store=store, params={"period": 25}, **TENTH, warm_up=5)

    assert "Indicators needed the first 19 bars" in last.stats.basis
    assert "passed" not in run(Idle, COIN, store=store).stats.basis
    assert "passed" not in run(Eager, COIN, store=store).stats.basis


def test_of_two_series_the_later_one_decides_how_many_bars_passed(tmp_path):
    both = stored(tmp_path, range(100, 130))
    late = [(START + timedelta(days=n), 5.0, 5.0, 5.0, 5.0, 1e6, None, None) for n in range(6, 30)]
    span = Span(START + timedelta(days=6), START + timedelta(days=30))
    both.write(Series.parse("ETH-CRYPTO/1day"), span, table_of(late))

    result = run(Average, [COIN, "ETH-CRYPTO/1day"], store=both, costs="none")

    assert result.manifest["notes"]["bar"] == "2024-01-07"
    assert "Indicators needed the first 6 bars" in result.stats.basis


def test_it_is_what_a_window_of_a_walk_forward_is(sample):
    window = Window(date(2004, 1, 2), date(2004, 12, 31))

    found = run("sma_cross", "AAPL/1day", store=sample, span=(window.first, window.last), warm_up="auto")
    same = run_window(load_strategy("sma_cross"), [Series.parse("AAPL/1day")], window, store=sample)

    assert len(found.fills_table) > 5
    for table in ("record", "orders_table", "fills_table", "trades_table"):
        assert getattr(found, table).equals(getattr(same, table))


def test_cash_earns_nothing_before_the_run(store):
    asked = {"cash_rate": 0.05, **TENTH}

    with_it, without = (run(Idle, COIN, store=store, warm_up=one, **asked) for one in ("auto", ""))

    assert without.record["equity"].to_pylist()[-1] > 100_000
    assert with_it.record["equity"].equals(without.record["equity"])


@pytest.mark.slow
def test_bars_of_hours_are_counted_and_begin_with_their_session(intraday):
    minutes, day = "EUR-CASH/1min", "2024-03-12"  # whose session begins on the evening of the 11th, in UTC
    plain = run(Average, minutes, store=intraday, start=day, end=day, costs="none")

    warm = run(Average, minutes, store=intraday, start=day, end=day, costs="none", warm_up=4)

    assert warm.record["time"].equals(plain.record["time"])
    assert warm.orders["created"].iloc[0] == warm.record.to_pandas()["time"].iloc[0]
    assert plain.orders["created"].iloc[0] == warm.record.to_pandas()["time"].iloc[4]


def test_a_span_of_stamps_has_a_warm_up_too(store):
    span = Span(START + timedelta(days=10), START + timedelta(days=20))

    result = run(Average, COIN, store=store, span=span, warm_up=4, costs="none")

    assert len(result.record) == 10
    assert result.manifest["notes"]["bar"] == "2024-01-11"


def test_an_order_before_the_run_begins_is_refused(store):
    class Rude(bt.Strategy):
        def notify_cashvalue(self, cash, value):
            if len(self) == 5:
                self.buy(size=1)

    with pytest.raises(StrategyError, match=r"places orders outside of next\(\)"):
        run(Rude, COIN, store=store, warm_up="auto", **TENTH)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"warm_up": 11, **TENTH}, r"11 bars is requested, but BTC-CRYPTO/1day has only 10 before 2024-01-11"),
        ({"warm_up": "auto"}, r"needs a first session: --since"),
        ({"warm_up": "auto", "end": "2024-01-20"}, r"needs a first session: --since"),
        ({"warm_up": -1, **TENTH}, r"warm_up is -1; write auto"),
        ({"warm_up": "all", **TENTH}, r"warm_up is 'all'; write auto"),
        ({"warm_up": True, **TENTH}, r"warm_up is True; write auto"),
    ],
)
def test_a_warm_up_that_cannot_be_is_refused(store, asked, told):
    with pytest.raises(UsageError, match=told):
        run(Average, COIN, store=store, **asked)


def test_pins_are_checked_of_the_bars_before_too(store, tmp_path):
    def pinned(since):
        path = tmp_path / f"{since}.lock"
        save_pins(path, [take(store, Series.parse(COIN), Span.of_dates(since, "2024-01-30"))])
        return path

    asked = {"warm_up": "auto", **TENTH}
    assert run(Average, COIN, store=store, pins=pinned("2024-01-01"), **asked).manifest["warm_up"]["bars"] == 10
    with pytest.raises(BrokenPin):
        run(Average, COIN, store=store, pins=pinned("2024-01-11"), **asked)


def test_a_run_without_one_has_the_key_it_had_and_one_with_it_is_kept_and_repeated(store, tmp_path):
    plain = RunSpec("a.py:A", (COIN,), since="2024-01-11")

    warm = run(Average, COIN, store=store, warm_up=4, **TENTH)
    loaded = RunResult.load(warm.save(tmp_path / "kept"))
    again = repeat(Scene(loaded.spec, store, load_strategy(Average)))

    assert "warm_up" not in plain.flat
    assert spec_of({**plain.flat, "warm_up": "auto"}).key != plain.key
    assert loaded.spec.warm_up == "4"
    assert loaded.stats.basis == warm.stats.basis
    assert again.record.equals(warm.record)


@pytest.mark.slow
def test_the_command_takes_it(sample, tmp_path, capsys):
    words = ["run", "sma_cross", "IBM/1day", "--store", str(sample.root), "--since", "2005-01-03"]

    for n, more in enumerate([[], ["--warm-up", "auto"], ["--warm-up", "50"]]):
        with pytest.raises(SystemExit) as done:
            main([*words, *more, "--out", str(tmp_path / str(n))])
        assert done.value.code == 0

    told = " ".join(capsys.readouterr().out.split())
    assert "Indicators needed the first 29 bars; use --since with --warm-up auto" in told
    assert "Indicators were warmed up on the 1,216 bars before the run (--warm-up auto)." in told
    assert "Indicators were warmed up on the 50 bars before the run (--warm-up 50)." in told
