"""A signal in a column of a file, from the file to a run and to what is asked of a run."""

import re
from datetime import UTC, datetime

import backtrader as bt
import pandas as pd
import pytest

from backtest.api import run
from backtest.baselines.drift import MOVED, SAME, reproduce
from backtest.errors import BrokenPin, StrategyError
from backtest.market.series import Series
from backtest.research.lookahead import look_ahead
from backtest.research.search.sweeps import sweep
from backtest.sources.files.export import span_of_bars
from backtest.sources.files.reading import bars_of
from backtest.store import pins
from backtest.store.store import Store

AAPL = Series.parse("AAPL/1day")
SINCE, UNTIL = "2012-01-03", "2012-06-29"
SIGNALS = {"2012-01-10": 1.0, "2012-02-15": -1.0, "2012-03-06": 2.0, "2012-05-01": -1.0, "2012-05-31": 1.0}

FOLLOW = """
import backtrader as bt

class Follow(bt.Strategy):
    params = (("least", 1),)

    def next(self):
        signal = self.data.signal[0]
        if signal >= self.p.least and not self.position:
            self.buy(size=10)
        elif signal < 0 and self.position:
            self.close()
"""


@pytest.fixture
def strategy(tmp_path):
    """Return the path of a strategy that follows a signal."""
    (tmp_path / "follow.py").write_text(FOLLOW)
    return str(tmp_path / "follow.py")


def frame_of(sample, signals=SIGNALS):
    """Return the bars of half a year as a frame with a signal on few days."""
    bars = sample.read(AAPL, start=SINCE, end=UNTIL).to_pandas()
    days = bars["time"].dt.strftime("%Y-%m-%d")
    return bars.assign(time=days, signal=days.map(signals), size=1)


@pytest.fixture
def store(tmp_path, sample):
    """Return a store of half a year with a signal, read from a file."""
    made = Store(tmp_path / "bars")
    bring(made, tmp_path, frame_of(sample))
    return made


def bring(store, folder, frame, **options):
    frame.to_csv(folder / "aapl.csv", index=False)
    bars, _ = bars_of(folder / "aapl.csv", AAPL, extra=["signal"])
    store.write(AAPL, span_of_bars(bars, AAPL), bars, source="csv", **options)


def traded(result):
    """Return side and day of each fill."""
    rows = result.fills_table.to_pylist()
    return [("buy" if row["size"] > 0 else "sell", row["time"].date().isoformat()) for row in rows]


def test_a_run_follows_the_signals_of_its_file(strategy, store):
    result = run(strategy, AAPL, store=store)

    # The signal is known at the close of its day, and filled at the open of the next session.
    assert traded(result) == [
        ("buy", "2012-01-11"), ("sell", "2012-02-16"), ("buy", "2012-03-07"), ("sell", "2012-05-02"),
        ("buy", "2012-06-01"),
    ]  # fmt: skip


def test_a_run_has_the_value_of_backtraders_own_feed_and_loop(strategy, store, sample):
    frame = frame_of(sample).assign(time=lambda one: pd.to_datetime(one["time"])).set_index("time")

    class PandasSignal(bt.feeds.PandasData):
        lines = ("signal",)
        params = (("signal", -1),)

    stock = bt.Cerebro(stdstats=False)
    stock.adddata(PandasSignal(dataname=frame[["open", "high", "low", "close", "volume", "signal"]]))
    stock.broker.setcash(100_000.0)
    namespace = {}
    exec(FOLLOW, namespace)
    stock.addstrategy(namespace["Follow"])
    stock.run()

    result = run(strategy, AAPL, store=store, costs="none")

    assert repr(float(result.account.equity[-1])) == repr(stock.broker.getvalue())


def test_a_part_of_the_bars_has_a_part_of_the_signals(strategy, store):
    result = run(strategy, AAPL, store=store, start="2012-02-20", end="2012-05-15")

    assert traded(result) == [("buy", "2012-03-07"), ("sell", "2012-05-02")]


@pytest.mark.slow
def test_an_edited_signal_moves_the_digest_of_a_run_and_its_reproduction(strategy, store, tmp_path, sample):
    kept = run(strategy, AAPL, store=store)
    assert reproduce(kept, "kept", store, strategy).status == SAME

    bring(store, tmp_path, frame_of(sample, SIGNALS | {"2012-01-10": 0.5}), revise=True)
    again = run(strategy, AAPL, store=store)
    judgement = reproduce(kept, "kept", store, strategy)

    assert digest_of(again) != digest_of(kept)
    assert judgement.status == MOVED
    assert "signal 1 -> 0.5" in str(judgement.causes)


def digest_of(result):
    return result.manifest["series"][AAPL.key]["rows_sha256"]


def test_an_edited_signal_is_refused_by_a_pin(strategy, store, tmp_path, sample):
    pins.add(store, tmp_path / "data.lock", [AAPL])
    run(strategy, AAPL, store=store, pins=tmp_path / "data.lock")

    bring(store, tmp_path, frame_of(sample, SIGNALS | {"2012-01-10": 0.5}), revise=True)

    with pytest.raises(BrokenPin, match="1 cells differ"):
        run(strategy, AAPL, store=store, pins=tmp_path / "data.lock")


def test_a_sweep_sees_the_signals_and_makes_other_trials_of_other_ones(strategy, store, tmp_path, sample):
    folder = tmp_path / "sweep"
    first = sweep(strategy, AAPL, {"least": [1, 2, 3]}, store=store, folder=folder, jobs=1)
    bring(store, tmp_path, frame_of(sample, SIGNALS | {"2012-03-06": 3.0}), revise=True)

    second = sweep(strategy, AAPL, {"least": [1, 2, 3]}, store=store, folder=tmp_path / "other", jobs=1)

    assert [by_least(first), by_least(second)] == [[2, 1, 0], [2, 1, 1]]
    assert {one.case for one in first.trials}.isdisjoint(one.case for one in second.trials)


def by_least(swept):
    found = {swept.point(one)["least"]: one.metrics["trades"] for one in swept.trials}
    return [found[least] for least in (1, 2, 3)]


@pytest.mark.slow
def test_the_workers_of_a_sweep_open_the_store_and_find_the_signals(strategy, store, tmp_path):
    grid = {"least": [1, 2, 3]}

    alone = sweep(strategy, AAPL, grid, store=store, folder=tmp_path / "one", jobs=1)
    many = sweep(strategy, AAPL, grid, store=store, folder=tmp_path / "two", jobs=2)

    assert by_least(many) == by_least(alone)


class Follows(bt.Strategy):
    """Trade by the signal of today."""

    def next(self):
        if self.data.signal[0] > 0 and not self.position:
            self.buy(size=10)
        elif self.data.signal[0] < 0 and self.position:
            self.close()


class KnowsTomorrows(bt.Strategy):
    """Trade by the signal of tomorrow; where there is no tomorrow, as on a good one."""

    def next(self):
        tomorrow = self.data.signal[1] if len(self) < self.data.buflen() else 1.0
        if tomorrow > 0 and not self.position:
            self.buy(size=10)
        elif self.data.signal[0] < 0 and self.position:
            self.close()


@pytest.mark.slow
def test_a_strategy_that_knows_tomorrows_signal_is_caught_and_one_that_follows_todays_is_not(store, tmp_path, sample):
    days = frame_of(sample)["time"]
    bring(store, tmp_path, frame_of(sample, {day: (-1.0) ** (n // 5) for n, day in enumerate(days)}), revise=True)

    followed, known = (look_ahead(one, AAPL, store=store, cuts=4) for one in (Follows, KnowsTomorrows))

    assert followed == []
    assert any("noise" in leak.change for leak in known)  # where it buys, a cut alone shows nothing


def test_a_strategy_that_asks_for_a_column_that_was_not_kept_is_told_how_to_keep_it(strategy, sample):
    with pytest.raises(
        StrategyError,
        match=r"a feed has no line 'signal'; import a column .* --extra, or choose from close,",
    ):
        run(strategy, AAPL, store=sample, start=SINCE, end=UNTIL)


# --- the command line


def test_import_keeps_the_columns_that_are_named_and_says_how_to_keep_the_others(call, tmp_path, sample):
    frame_of(sample).rename(columns={"signal": "Signal"}).to_csv(tmp_path / "a.csv", index=False)
    words = ("import", tmp_path / "a.csv", "AAPL/1day", "--store", tmp_path / "store")

    plain, kept = call(*words), call(*words, "--extra", "signal")
    _, listed, _ = call("ls", "--store", tmp_path / "store")

    assert "Signal, size: not stored; keep with --extra Signal,size_" in plain[2]
    assert "Signal = signal" in kept[2]
    assert "size: not stored; keep with --extra size_" in kept[2]
    assert kept[:2] == (0, "AAPL/1day: 125 bars (0 new), 2012-01-03 to 2012-06-29\n")
    assert "AAPL/1day has extra columns: signal\n" in listed


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--extra", "signl"], 2, "no column 'signl' to keep; choose from .*did you mean signal"),
        (["--extra", "size"], 2, "write size_, which finds that column too"),
        (["--extra", "signal,"], 2, "has no name"),
        (["--extra", "signal", "--extra", "signal"], 2, "is named twice"),
        (["--extra", "close"], 2, "is part of every bar"),
        (["--extra", "a b"], 2, "write a_b"),
    ],
)
def test_a_name_that_cannot_be_is_refused_with_what_to_write(call, tmp_path, sample, words, code, said):
    frame_of(sample).to_csv(tmp_path / "a.csv", index=False)

    ended, out, err = call("import", tmp_path / "a.csv", "AAPL/1day", "--store", tmp_path / "store", *words)

    assert (ended, out) == (code, "")
    assert re.search(said, err)
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
def test_a_changed_signal_is_a_conflict_until_the_revision_is_accepted(call, store, tmp_path, sample):
    frame_of(sample, SIGNALS | {"2012-01-10": 0.5}).to_csv(tmp_path / "new.csv", index=False)
    words = ("import", tmp_path / "new.csv", "AAPL/1day", "--extra", "signal", "--store", store.root)

    refused, taken = call(*words), call(*words, "--accept-revision")

    assert refused[0] == 3
    assert "signal 1.0 stored, 0.5 in the file" in refused[2]
    assert "--accept-revision" in refused[2]
    assert taken[0] == 0
    moment = datetime(2012, 1, 10, tzinfo=UTC)
    row = next(one for one in store.read(AAPL).to_pylist() if one["time"] == moment)
    assert row["signal"] == 0.5
    assert [one.bars for one in store.revisions(AAPL)] == [1]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_what_is_exported_comes_back_the_same(call, store, tmp_path, ending):
    file, there = tmp_path / f"out.{ending}", tmp_path / "there"

    exported = call("export", "AAPL/1day", file, "--store", store.root)
    imported = call("import", file, "AAPL/1day", "--extra", "signal", "--store", there)

    assert exported[0] == imported[0] == 0
    assert Store(there).read(AAPL).equals(store.read(AAPL))


@pytest.mark.slow
def test_a_folder_of_files_as_a_source_keeps_the_columns_that_its_address_names(call, store, tmp_path):
    (tmp_path / "files").mkdir()
    call("export", "AAPL/1day", tmp_path / "files" / "AAPL_1day.csv", "--store", store.root)
    words = ("download", "AAPL/1day", "--since", SINCE, "--until", UNTIL, "--store", tmp_path / "there")

    code, out, _ = call(*words, "--source", f"csv:{tmp_path / 'files'}?extra=signal")
    wrong = call(*words, "--source", f"csv:{tmp_path / 'files'}?extras=signal")

    assert (code, out.startswith("AAPL/1day: complete, 125 bars (125 new)")) == (0, True)
    assert Store(tmp_path / "there").read(AAPL).equals(store.read(AAPL))
    assert wrong[0] == 2
    assert "?extra=signal,score" in wrong[2]
