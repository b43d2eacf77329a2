"""Whatever runs a strategy takes frames in the place of series and store, and gives what it gives on a store."""

from dataclasses import asdict

import backtrader as bt
import numpy as np
import pandas as pd
import pytest

import backtest
from backtest.baselines.drift import save_runs
from backtest.errors import UsageError
from backtest.research.lookahead import warm_up
from backtest.store.store import Store

DAYS = [day for day in pd.bdate_range("2024-01-02", "2024-03-28") if f"{day:%m-%d}" not in ("01-15", "02-19")]


class Crosses(bt.Strategy):
    """Holds one while the close is above that of some bars ago; only the parameter tells trials apart."""

    params = (("ago", 3),)

    def next(self):
        if len(self) > self.p.ago:
            self.order_target_size(target=int(self.data.close[0] > self.data.close[-self.p.ago]))


class Peeks(bt.Strategy):
    """Buys where the whole day after is known to end higher."""

    def next(self):
        closes = self.data.close.array
        if len(self) < len(closes) and closes[len(self)] > closes[len(self) - 1] and not self.position:
            self.buy(size=1)


def frame(factor=1.0):
    closes = factor * (100.0 + 10 * np.sin(np.arange(len(DAYS)) / 4.0))
    columns = {"Open": closes - 0.5, "High": closes + 1, "Low": closes - 1, "Close": closes, "Volume": 1000}
    return pd.DataFrame(columns, index=pd.DatetimeIndex(DAYS))


def swept(strategy=Crosses, **more):
    return backtest.sweep(strategy, grid={"ago": [2, 5]}, **more).to_frame()


CALLS = {
    "run": lambda **more: backtest.run(Crosses, **more).equity.to_frame(),
    "sweep": lambda **more: swept(folder="grid", **more),
    "sweep of frames in two processes": lambda **more: swept(
        f"{__file__}:Crosses", folder="processes", jobs=1 if "store" in more else 2, **more
    ),
    "walk_forward": lambda **more: backtest.walk_forward(
        Crosses, grid={"ago": [2, 5]}, train=20, test=10, folder="windows", **more
    ).to_frame(),
    "cross_validate": lambda **more: backtest.cross_validate(
        Crosses, grid={"ago": [2, 5]}, groups=3, tested=1, folder="groups", **more
    ).to_frame(),
    "run_each": lambda **more: backtest.run_each(Crosses, folder="each", **more).to_frame(),
    "look_ahead": lambda **more: pd.DataFrame({"leaks": map(str, backtest.look_ahead(Peeks, cuts=2, **more))}),
    "warm_up": lambda **more: pd.DataFrame([asdict(warm_up(Crosses, **more))]),
    "next_orders": lambda **more: pd.DataFrame([backtest.next_orders(Crosses, **more).to_dict()]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_what_runs_a_strategy_gives_the_same_on_frames_as_on_a_store(tmp_path, monkeypatch, name):
    frames = {"AAPL/1day": frame(), "SPY/1day": frame(2.0)}
    backtest.ingest(frames, None, tmp_path / "store")
    found = []

    for number, given in enumerate([{"series": "AAPL/1day", "store": tmp_path / "store"}, {"series": frames}]):
        (tmp_path / str(number)).mkdir()
        monkeypatch.chdir(tmp_path / str(number))
        found.append(CALLS[name](benchmark="SPY/1day", **given))

    assert len(found[0])
    pd.testing.assert_frame_equal(*found)


def test_a_sweep_on_a_frame_alone_goes_on_where_it_was_and_leaves_no_bars_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    made = []

    for _ in range(2):
        backtest.sweep(Crosses, frame(), {"ago": [2, 5]}, folder=tmp_path / "grid", tell=made.append)

    assert [one.done for one in made] == [2]  # all at once, and none the second time
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_baseline_of_the_best_run_of_such_a_sweep_asks_for_a_store(tmp_path):
    backtest.sweep(Crosses, frame(), {"ago": [2, 5]}, folder=tmp_path / "grid")

    with pytest.raises(UsageError, match="was made on a frame"):
        save_runs([backtest.Sweep.load(tmp_path / "grid").best_run], tmp_path / "baselines", Store(tmp_path / "store"))


def test_a_store_beside_a_frame_and_neither_of_the_two_are_refused():
    for call in (backtest.run, backtest.look_ahead, backtest.next_orders):
        with pytest.raises(UsageError, match="leave store out, or import the frame"):
            call(Crosses, frame(), store="data/bars")
        with pytest.raises(UsageError, match="store is None; write a store or its folder"):
            call(Crosses, "AAPL/1day")
