import itertools
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import backtrader as bt
import pytest
from compiled_random import Chance
from places import ROOT

from backtest.cli.app import main
from backtest.errors import UsageError
from backtest.research.out_of_sample.cross_validation import cross_validate
from backtest.research.out_of_sample.walk_forward import walk_forward
from backtest.research.search.compiled import backend_for, compiled
from backtest.research.search.job import Point, job_of, trials_at_once, trials_of
from backtest.research.search.sweeps import _Making, sweep
from backtest.research.search.trials import Trials

SMA = str(ROOT / "strategies" / "sma_cross.py")
YEARS = (date(2003, 1, 2), date(2004, 12, 31))
YEAR, MONTHS = (YEARS[0], date(2003, 12, 31)), (YEARS[0], date(2003, 7, 31))
GRID = {
    "fast": [5, 10, 15, 30],
    "slow": [20, 25, 30, 32, 34, 36, 38, 40],
}  # some of which fail: fast must be less than slow
COUNTER = itertools.count(1)


def swept(sample, folder, grid=GRID, strategy=SMA, series="AAPL/1day", **more):
    return sweep(strategy, series, grid, **{"store": sample, "span": YEARS, "folder": folder, **more})


def kept(folder):
    """Return all that is kept of each trial in a folder, to the last bit."""
    return {
        key: (one.params, one.error, repr(one.metrics), one.sessions.tobytes(), one.returns.tobytes())
        for key, one in Trials(folder).read(returns=True).items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("more", [{"costs": "ib-fixed"}, {"costs": "bp:5"}, {"costs": "ib-tiered", "slippage": "5bp"}])
def test_trials_that_are_made_at_once_are_kept_as_those_made_one_by_one(sample, tmp_path, more):
    series = ["AAPL/1day", "IBM/1day"]

    by_compiled = swept(sample, tmp_path / "a", series=series, span=YEAR, **more)
    by_events = swept(sample, tmp_path / "b", series=series, span=YEAR, engine="event", **more)

    assert by_compiled.made_by == "compiled (numpy): 29 trials, 3 by the event engine"
    assert by_events.made_by == "event engine: 32 trials"
    assert kept(tmp_path / "a") == kept(tmp_path / "b")
    assert by_compiled.best == by_events.best
    assert by_compiled.overfitting == by_events.overfitting


@pytest.mark.slow
def test_the_strategy_that_is_not_compiled_is_told_with_its_line(sample, tmp_path):
    found = swept(sample, tmp_path, {"length": list(range(3, 35))}, KeepsText, span=MONTHS)

    file, _, said = found.made_by.removeprefix("event engine: ").partition(".py:")
    line, _, reason = said.partition(": ")
    assert file.endswith("test_compiled")
    assert "self.seen" in Path(__file__).read_text().splitlines()[int(line) - 1]
    assert reason
    assert len(found.ranked) == 32


class KeepsText(bt.Strategy):
    params = (("length", 5),)

    def __init__(self):
        self.average = bt.ind.SMA(period=self.p.length)

    def next(self):
        self.seen = {f"{self.data.close[0]:.1f}": len(self)}
        if self.seen.get("21.0") or self.data.close[0] > self.average[0]:
            self.buy(size=1)


@pytest.mark.slow
def test_where_the_engines_differ_no_trial_of_the_compiled_one_counts(sample, tmp_path, caplog):
    found = swept(sample, tmp_path, {"wait": list(range(32))}, ChangesByRun)

    assert found.made_by.startswith("event engine: the engines differ in wait=0")
    assert "all trials are made by the event engine" in caplog.text
    assert len(Trials(tmp_path).read()) == 32
    assert all(trial.metrics["open_trades"] == 1 for trial in found.trials)


class ChangesByRun(bt.Strategy):
    """Buys as much as there were runs before, which is another size in each."""

    params = (("wait", 0),)

    def __init__(self):
        self.size = next(COUNTER)

    def next(self):
        if len(self) == self.p.wait + 3:
            self.buy(size=self.size)


@pytest.mark.slow
def test_the_best_of_all_blocks_is_checked_before_any_of_them_counts(sample, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("backtest.research.search.compiled._LARGEST", 4)
    grid = {"wait": [30, 31, 32, 33, 34, 2, *range(35, 41)]}
    made = []
    monkeypatch.setattr("backtest.research.search.compiled.trials_of", lambda job, points: made.extend(
        point.params["wait"] for point in points) or trials_of(job, points))  # fmt: skip

    same = swept(sample, tmp_path / "a", grid, ChangesIfBest, rank="exposure", span=MONTHS, engine="compiled",
                 params={"changes": -1})  # fmt: skip
    checked = sorted(set(made))
    other = swept(sample, tmp_path / "b", grid, ChangesIfBest, rank="exposure", span=MONTHS, engine="compiled")

    assert same.made_by == "compiled (numpy): 12 trials"
    assert {2, 30, 40} <= {*checked}
    assert len(checked) <= 5  # and the two that are drawn
    assert other.made_by == "event engine: the engines differ in wait=2; please report it"
    assert "all trials are made by the event engine" in caplog.text
    assert len(Trials(tmp_path / "b").read()) == 12


class ChangesIfBest(bt.Strategy):
    """Buys as much as there were runs before where it waits for 2 bars: so long it is in the market for longest."""

    params = (("wait", 0), ("changes", 2))

    def __init__(self):
        self.size = next(COUNTER) if self.p.wait == self.p.changes else 7

    def next(self):
        if len(self) == self.p.wait + 3:
            self.buy(size=self.size)


def test_a_sweep_that_is_stopped_keeps_what_was_made(sample, tmp_path, monkeypatch):
    monkeypatch.setattr("backtest.research.search.compiled._LARGEST", 4)
    calls = itertools.count(1)

    def stops(*asked):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return trials_at_once(*asked)

    monkeypatch.setattr("backtest.research.search.compiled.trials_at_once", stops)

    with pytest.raises(KeyboardInterrupt):
        swept(sample, tmp_path, {"fast": [5], "slow": list(range(20, 32))}, span=MONTHS, engine="compiled")

    assert len(Trials(tmp_path).read()) == 8


def test_trials_that_are_not_to_be_trusted_any_more_are_made_again(sample, tmp_path):
    job = job_of(SMA, "AAPL/1day", store=sample, span=YEARS, swept=GRID)
    points = [Point({"fast": fast, "slow": 40}) for fast in (5, 10, 15)]
    making = _Making(job, points, Trials(tmp_path), None)
    first = making.keep(trials_of(job, points[:2])[:2])
    making.keep(trials_of(job, points[2:]))

    again = making._forget([first], points)

    assert again == points[:2]
    assert list(making.known) == list(Trials(tmp_path).read()) == [job.key(points[2])]


def test_few_trials_are_made_one_by_one_unless_asked_for(sample, tmp_path):
    few = {"fast": [5, 10], "slow": [20]}

    assert swept(sample, tmp_path / "a", few).made_by == ""
    assert swept(sample, tmp_path / "b", few, engine="compiled").made_by == "compiled (numpy): 2 trials"
    assert kept(tmp_path / "a") == kept(tmp_path / "b")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"engine": "numba"}, "choose from compiled, event"),
        ({"engine": "compiled", "borrow": "0.01"}, "the compiled engine does not support borrow; leave out --engine"),
        (
            {"engine": "compiled", "account": "reg-t"},
            "engine does not support account; leave out --engine",
        ),
    ],
)
def test_an_engine_that_cannot_make_the_trials_is_refused(sample, tmp_path, more, said):
    with pytest.raises(UsageError, match=said):
        swept(sample, tmp_path, {"fast": [5, 10], "slow": [20]}, **more)


@pytest.mark.slow
def test_options_that_are_not_compiled_are_left_to_the_event_engine(sample, tmp_path):
    found = swept(sample, tmp_path, {"fast": [5], "slow": list(range(20, 52))}, borrow="0.01", span=MONTHS)

    assert found.made_by == "event engine: the compiled engine does not support borrow"
    assert len(found.ranked) == 32


@pytest.mark.slow
def test_a_sweep_that_was_stopped_goes_on_with_the_other_engine(sample, tmp_path):
    grid = {"fast": [5], "slow": list(range(20, 54))}
    swept(sample, tmp_path / "a", {**grid, "slow": [22, 31]}, engine="event", span=YEAR)

    found = swept(sample, tmp_path / "a", grid, span=YEAR)

    assert found.made_by == "compiled (numpy): 32 trials"
    swept(sample, tmp_path / "b", grid, engine="event", span=YEAR)
    assert kept(tmp_path / "a") == kept(tmp_path / "b")


def test_every_point_is_made_or_left(sample):
    job = job_of(SMA, "AAPL/1day", store=sample, span=YEARS, swept=GRID)
    points = [Point({"fast": fast, "slow": slow}) for fast in GRID["fast"] for slow in GRID["slow"]]

    (block,) = compiled(job, points, "-volatility")

    assert [point.params["fast"] for point in block.left] == [30, 30, 30]
    assert sorted(trial.key for trial in block.trials) == sorted(
        job.key(point) for point in points if point not in block.left
    )


@pytest.mark.slow
def test_the_command_line_says_which_engine_made_the_trials(sample, tmp_path, capsys):
    words = ["--grid", "fast=5", "--grid", "slow=20:51", "--since", "2003-01-02", "--until", "2004-12-31"]

    with pytest.raises(SystemExit) as ended:
        main(["sweep", SMA, "AAPL/1day", *words, "--store", str(sample.root), "--out", str(tmp_path)])

    assert ended.value.code == 0
    assert "compiled (numpy): 32 trials" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bars", "points", "numba", "expected"),
    [
        (2_500, 1_000, True, "numpy"),
        (2_500, 80_000, True, "numba"),
        (100_000, 99, True, "numpy"),
        (100_000, 100, True, "numba"),
        (100_000, 100, False, "numpy"),
    ],
)
def test_numba_is_taken_where_it_pays_and_is_there(bars, points, numba, expected):
    assert backend_for(bars, points, numba) == expected


@pytest.mark.slow
@pytest.mark.parametrize("room", [100_000_000, 20_000])  # bytes for lines: for all, and for those of two trials
def test_numba_makes_the_same_trials(sample, monkeypatch, room):
    monkeypatch.setattr("backtest.engine.simulation._ROOM_FOR_LINES", room)
    job = job_of(SMA, "AAPL/1day", store=sample, span=YEARS, swept=GRID)
    points = [Point({"fast": fast, "slow": 25}) for fast in (5, 10, 30, 6, 7, 8, 9)]
    by_events = [trial for point in points for trial in trials_of(job, [point])]

    made, why_not = trials_at_once(job, points, "numba", 2)  # so many at a time

    assert why_not == ""
    assert made.pop(2) is None  # it fails: fast must be less than slow
    by_events.pop(2)
    assert [repr(one.metrics) for one in made] == [repr(one.metrics) for one in by_events]
    assert [one.returns.tobytes() for one in made] == [one.returns.tobytes() for one in by_events]


# --- the strategies that come along

SERIES = ["AAPL/1day", "IBM/1day", "MSFT/1day", "GOOG/1day"]
SHIPPED = {
    "sma_cross": {"fast": [5, 12, 40], "slow": [30, 60, 90]},
    "bollinger": {"period": [10, 15, 20], "deviations": [1.0, 1.5, 2.0]},
    "rsi2": {"trend": [50, 100], "low": [5.0, 10.0, 20.0, 30.0]},
    "buy_and_hold": {"invest": [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1]},
    "random_baseline": {"seed": [1, 2, 3, 4, 5, 6, 7]},
    "time_series_momentum": {"lookback": [60, 90, 120], "every": [5, 10, 21]},
    "cross_sectional_momentum": {"lookback": [60, 90, 120], "hold": [1, 2, 3]},
}


def differing(sample, folder, name, count, costs):
    """Return the line about the engine, and the trials of a shipped strategy in which the engines differ."""
    asked = {"grid": SHIPPED[name], "strategy": name, "series": SERIES[:count], "costs": costs}
    found = swept(sample, folder / "compiled", engine="compiled", **asked)
    swept(sample, folder / "event", engine="event", **asked)
    one, other = kept(folder / "compiled"), kept(folder / "event")
    return found.made_by, [key for key in other if one[key] != other[key]]


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_strategy_has_the_same_trials_by_both_engines(sample, tmp_path, name):
    made_by, found = differing(sample, tmp_path, name, 2, "ib-fixed")

    assert made_by.startswith("compiled (numpy): ")
    assert found == []


@pytest.mark.soak
@pytest.mark.parametrize("costs", ["ib-fixed", "bp:5", "none"])
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_strategy_has_the_same_trials_at_all_costs_and_with_more_series(sample, tmp_path, name, count, costs):
    made_by, found = differing(sample, tmp_path, name, count, costs)

    assert made_by.startswith("compiled (numpy): ")
    assert found == []


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [4, pytest.param(12, marks=pytest.mark.soak)])
def test_orders_of_all_kinds_have_the_same_trials_by_both_engines(sample, tmp_path, seeds):
    asked = {"grid": {"seed": list(range(7, 7 + seeds))}, "strategy": Chance, "series": SERIES[:2], "costs": "ib-fixed"}

    made_by = swept(sample, tmp_path / "compiled", engine="compiled", **asked).made_by
    swept(sample, tmp_path / "event", engine="event", **asked)

    assert made_by == f"compiled (numpy): {seeds} trials"
    assert kept(tmp_path / "compiled") == kept(tmp_path / "event")


@pytest.mark.slow
def test_trials_without_a_fill_at_a_close_and_with_partial_exits_are_the_same(sample, tmp_path):
    asked = {"grid": {"first": [3, 5, 9, 40], "every": [2, 7, 11, 10_000]}, "strategy": Builds, "costs": "bp:5"}

    made_by = swept(sample, tmp_path / "compiled", engine="compiled", **asked).made_by
    swept(sample, tmp_path / "event", engine="event", **asked)

    assert made_by == "compiled (numpy): 16 trials"
    assert kept(tmp_path / "compiled") == kept(tmp_path / "event")


class Builds(bt.Strategy):
    """Buys in steps, sells parts by limits, turns short now and then, and orders what it cannot pay."""

    params = (("first", 3), ("every", 5))

    def next(self):
        step = len(self) % (4 * self.p.every)
        if step == 0:
            self.buy(size=self.p.first)
        elif step == self.p.every:
            self.buy(size=1)
        elif step == 2 * self.p.every:
            self.sell(size=2, exectype=bt.Order.Limit, price=self.data.close[0] * 1.001)
        elif step == 3 * self.p.every:
            self.order_target_size(target=-1 if len(self) % 3 == 0 else 0)
        if len(self) == 50:
            self.buy(size=1_000_000)


WINDOWED = {"fast": [5, 8, 11], "slow": [20, 26, 32, 38, 8]}  # of which some fail


@pytest.mark.slow
def test_windows_of_a_walk_forward_are_made_at_once(sample, tmp_path):
    asked, series = {"store": sample, "span": YEAR, "train": 100, "test": 75}, ["AAPL/1day", "IBM/1day"]

    by_compiled = walk_forward(SMA, series, WINDOWED, **asked, folder=tmp_path / "a")
    by_events = walk_forward(SMA, series, WINDOWED, **asked, folder=tmp_path / "b", engine="event")

    assert by_compiled.made_by == "compiled (numpy): 39 trials, 9 by the event engine"
    assert by_events.made_by == "event engine: 48 trials"
    assert kept(tmp_path / "a") == kept(tmp_path / "b")
    assert repr(by_compiled.rows) == repr(by_events.rows)


@pytest.mark.slow
def test_groups_of_a_cross_validation_are_made_at_once(sample, tmp_path):
    asked = {"store": sample, "span": YEAR, "groups": 3, "tested": 1, "purge": 5}
    grid = {"fast": [5, 8, 11], "slow": [20, 26, 32, 38]}

    by_compiled = cross_validate(SMA, "AAPL/1day", grid, **asked, folder=tmp_path / "a")
    by_events = cross_validate(SMA, "AAPL/1day", grid, **asked, folder=tmp_path / "b", engine="event")

    assert by_compiled.made_by == "compiled (numpy): 36 trials"
    assert kept(tmp_path / "a") == kept(tmp_path / "b")
    assert by_compiled.to_dict() == by_events.to_dict()


@pytest.mark.slow
def test_points_that_optuna_proposes_are_made_at_once(sample, tmp_path):
    grid = {"fast": list(range(3, 19)), "slow": list(range(20, 60))}

    by_compiled = swept(sample, tmp_path / "a", grid, optuna=20, span=MONTHS)
    swept(sample, tmp_path / "b", grid, optuna=20, span=MONTHS, engine="event")

    assert by_compiled.made_by == "compiled (numpy): 16 trials, 4 by the event engine"
    assert kept(tmp_path / "a") == kept(tmp_path / "b")


@pytest.mark.slow
def test_workers_make_blocks_of_trials(sample, tmp_path):
    grid = {"fast": [5], "slow": list(range(20, 52))}

    with ThreadPoolExecutor(2) as executor:
        found = swept(sample, tmp_path / "a", grid, executor=executor, span=MONTHS)
        failing = swept(
            sample, tmp_path / "c", {"length": list(range(3, 35))}, KeepsText, executor=executor, span=MONTHS
        )
    swept(sample, tmp_path / "b", grid, engine="event", span=MONTHS)

    assert found.made_by == "compiled (numpy): 32 trials"
    assert kept(tmp_path / "a") == kept(tmp_path / "b")
    assert re.fullmatch(r"event engine: .*test_compiled\.py:\d+: .*", failing.made_by)


@pytest.mark.slow
def test_of_workers_whose_engines_differ_no_compiled_trial_counts(sample, tmp_path, caplog):
    with ThreadPoolExecutor(1) as executor:
        found = swept(sample, tmp_path, {"wait": list(range(96))}, ChangesLate, executor=executor, span=MONTHS)

    assert found.made_by.startswith("event engine: the engines differ in wait=")
    assert "all trials are made by the event engine" in caplog.text
    assert len(Trials(tmp_path).read()) == 96


class ChangesLate(bt.Strategy):
    """Buys as much as there were runs before, once it waits for long."""

    params = (("wait", 0),)

    def __init__(self):
        self.size = next(COUNTER) if self.p.wait >= 64 else 7

    def next(self):
        if len(self) == self.p.wait + 3:
            self.buy(size=self.size)
