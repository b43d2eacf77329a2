"""Strategies of a script, a prompt and the body of a function, on other processes: no file, no guard, same trials."""

import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import backtrader as bt
import pytest
from places import ROOT

from backtest import sweep, walk_forward
from backtest.errors import UsageError

SAMPLE = str(ROOT / "data" / "sample")
ASKED = {"store": SAMPLE, "start": "2003-01-02", "end": "2003-12-31"}
GRID = {"fast": [3, 6]}
HELPERS = """
import threading

LOCK = threading.Lock()  # which cannot be copied
SIZE = 7
"""
CLASSES = """
import dataclasses, enum
import backtrader as bt
import helpers
from backtest import sweep, walk_forward

class Side(enum.Enum):
    LONG = 1
    SHORT = -1

@dataclasses.dataclass(frozen=True)
class Limits:
    size: int = helpers.SIZE

class Middle(bt.Indicator):
    lines = ("mid",)
    params = (("period", 5),)
    def __init__(self):
        self.l.mid = bt.ind.SMA(self.data, period=self.p.period)

class Base(bt.Strategy):
    params = (("fast", 5), ("slow", 12), ("side", Side.LONG))
    def __init__(self):
        self.quick = Middle(self.data, period=self.p.fast)

class Cross(Base):
    params = (("limits", Limits()), ("average", Middle))
    def __init__(self):
        super().__init__()
        self.steady = self.p.average(self.data, period=self.p.slow)
    def next(self):
        up = self.quick.mid[0] > self.steady.mid[0]
        if up and not self.position:
            (self.buy if self.p.side is Side.LONG else self.sell)(size=self.p.limits.size)
        elif self.position and not up:
            self.close()

"""
SWEEPS = f"""
asked = {ASKED!r}
grid = {{"fast": [3, 6], "side": [Side.LONG, Side.SHORT], "limits": [Limits(5), Limits(9)]}}
one = sweep(Cross, "AAPL/1day", grid, folder="one", **asked)
two = sweep(Cross, "AAPL/1day", grid, folder="two", jobs=2, **asked)
same = [repr(trial.metrics) == repr(again.metrics) for trial, again in zip(one.trials, two.trials)]
print("same:", same.count(True), "failed:", len(two.failed), "trades:", two.best.metrics["trades"] > 3)
"""
WALK = f"""
walk = walk_forward(Cross, "AAPL/1day", {GRID!r}, train=80, test=40, folder="three", jobs=2, **asked)
print("steps:", len(walk.steps))

"""
SWEPT, WALKED = "same: 8 failed: 0 trades: True", "steps: 5"


def started(folder, *words, **options):
    (folder / "helpers.py").write_text(HELPERS)
    return subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=300, **options
    )


@pytest.mark.slow
def test_a_script_needs_no_guard(tmp_path):
    (tmp_path / "script.py").write_text(f'print("begun")\n{CLASSES}{SWEEPS}{WALK}')

    ended = started(tmp_path, "script.py")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["begun", SWEPT, WALKED]  # begun once, and by no worker


@pytest.mark.slow
def test_a_prompt_has_classes_too(tmp_path):
    ended = started(tmp_path, "-i", "-q", input=f"{CLASSES}{SWEEPS}{WALK}exit()\n")

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [SWEPT, WALKED]
    assert "Traceback" not in ended.stderr


def numbers(found):
    return [trial.metrics for trial in found.trials]


def of_a_body():
    class Held(bt.Strategy):
        params = (("fast", 5),)

        def next(self):
            if len(self) % self.p.fast == 0:
                self.close() if self.position else self.buy(size=3)

    return Held


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_class_of_a_body_goes_to_any_pool(tmp_path, method):
    held = of_a_body()
    here = sweep(held, "AAPL/1day", GRID, folder=tmp_path / "here", **ASKED)

    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        there = sweep(held, "AAPL/1day", GRID, folder=tmp_path / "there", executor=pool, **ASKED)
        walked = walk_forward(
            held, "AAPL/1day", GRID, train=80, test=40, folder=tmp_path / "walk", executor=pool, **ASKED
        )

    assert repr(numbers(there)) == repr(numbers(here))  # NaN is not equal to itself
    assert there.best.metrics["trades"] > 3
    assert len(walked.steps) == 5


def test_what_cannot_go_along_is_refused_before_a_process_is_started(tmp_path):
    held = of_a_body()
    held.lock = multiprocessing.Lock()

    with pytest.raises(UsageError, match=r"cannot be sent to other processes .*use one job"):
        sweep(held, "AAPL/1day", GRID, folder=tmp_path, jobs=2, **ASKED)
