"""A strategy in a repository of its own, on two years of the sample, and ways to change what it rests on."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from market import span_of_sessions

from backtest.api import run
from backtest.baselines.baseline import Baseline
from backtest.baselines.causes import repeat
from backtest.baselines.changes import Scene
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

AAPL, IBM = (Series.parse(text) for text in ("AAPL/1day", "IBM/1day"))
YEARS = span_of_sessions(AAPL, date(2003, 1, 2), date(2004, 12, 31))
MODULE = "threshold_of_moved"

CROSS = f"""
import backtrader as bt
from {MODULE} import enough

class Cross(bt.Strategy):
    params = dict(fast=5, slow=20)

    def __init__(self):
        self.fast = bt.ind.SMA(period=self.p.fast)
        self.slow = bt.ind.SMA(period=self.p.slow)

    def next(self):
        if self.fast[0] > self.slow[0] and enough(self) and not self.position:
            self.buy(size=100)
        elif self.fast[0] < self.slow[0] and self.position:
            self.close()
"""
ENOUGH = "def enough(strategy):\n    return True\n"


def two_years(folder: Path, sample: Store) -> Store:
    """Return a store with two years of two stocks of the sample."""
    made = Store(folder)
    for series in (AAPL, IBM):
        made.write(series, YEARS, sample.read(series, YEARS))
    return made


def make_repository(folder: Path) -> Path:
    """Return a repository in git with a strategy and a module that it imports."""
    folder.mkdir()
    (folder / "cross.py").write_text(CROSS)
    (folder / f"{MODULE}.py").write_text(ENOUGH)
    git(folder, "init", "--quiet")
    commit(folder)
    return folder


def unload(folder: Path) -> None:
    """Forget what loading a strategy from the folder left in this process."""
    sys.path[:] = [path for path in sys.path if path != str(folder)]
    sys.modules.pop(MODULE, None)


def scene_of(repository: Path, store: Store) -> Scene:
    """Return what a run of the repository's strategy needs."""
    path = f"{repository / 'cross.py'}:Cross"
    return Scene(run(path, "AAPL/1day", store=store).spec, store, path)


def git(folder: Path, *words: str) -> None:
    """Run git under a name that any machine has."""
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.com")
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


def commit(folder: Path) -> None:
    """Commit all that there is."""
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "Keep")


def baseline(scene: Scene) -> Baseline:
    """Return what is kept of a run of now."""
    return Baseline.of(repeat(scene))


def revise(store: Store, changed: str = "", gone: str = "", busier: str = "") -> None:
    """Write the bars of AAPL anew, with a close raised by a tick, without a bar, or with a share more traded."""
    store.write(AAPL, YEARS, other_bars(store, changed, gone, busier), revise=True)


def other_bars(store: Store, changed: str = "", gone: str = "", busier: str = "") -> pa.Table:
    """Return the bars that `revise` writes."""
    rows = [(f"{row['time']:%Y-%m-%d}", tuple(row.values())) for row in store.read(AAPL).to_pylist()]
    return table_of([_other(row, day == changed, day == busier) for day, row in rows if day != gone])


def _other(row: tuple[Any, ...], changed: bool, busier: bool) -> tuple[Any, ...]:
    time, opened, high, low, close, volume, *rest = row
    close = round(close + 0.01 * changed, 6)
    return (time, opened, max(high, close), low, close, volume + busier, *rest)
