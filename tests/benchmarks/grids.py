"""
Grids: many pairs of two moving averages simulated at once, against vectorbt, and a sweep of them with both our engines.

Run:  python tests/benchmarks/grids.py [--rivals .venv-rivals/bin/python] [--bars 2500] [--trials 1000] [--repeats 3]

Processor time is compared. A program in jobs/ simulates all pairs twice in a process of its own. Two times count: that
of the second simulation, when everything is compiled, and that of the whole process up to the end of the first.
vectorbt uses its faster engine. Before timing, return, drawdown, Sharpe ratio and closed trades of each pair are
compared, and all trials that a sweep saves.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import numpy as np
import prices
import pyarrow.parquet as pq
import timing

from backtest import sweep
from backtest.market.series import Series
from backtest.research.search.trials import Trials
from backtest.store.store import Store

JOBS = Path(__file__).parent / "jobs"
STRATEGY = Path(__file__).resolve().parents[2] / "strategies" / "sma_cross.py"
TOLERANCE = 1e-9  # of fractions and ratios
ENGINES = ("numba", "rust")  # of vectorbt
Pairs = tuple[str, str]  # of a fast and a slow average: the first number of bars of each, and the one after the last


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rivals", type=Path, default=Path(".venv-rivals/bin/python"))
    words.add_argument("--bars", type=int, default=2500)
    words.add_argument("--trials", type=int, default=1000)
    words.add_argument("--repeats", type=int, default=3)
    words.add_argument("--peak", action="store_true", help="only sweep once, and print the peak memory (Linux)")
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.peak:
            print(f"{peak(Path(folder), asked.bars, asked.trials):,.0f} MB")
            return
        print(timing.table(rows(Path(folder), asked.rivals, asked.bars, asked.trials, asked.repeats)))


def rows(folder: Path, rivals: Path | None, bars: int, trials: int, repeats: int) -> list[timing.Row]:
    """Return the rows: against vectorbt if it is installed, and of a sweep with both engines."""
    pairs = pairs_of(trials)
    against = simulated(folder / "simulated", rivals, bars, pairs, repeats) if rivals else []
    return [*against, *swept(folder / "swept", bars, pairs, repeats)]


def minute_rows(folder: Path, rivals: Path | None, bars: int, trials: int, repeats: int) -> list[timing.Row]:
    """Return the rows of this many minute bars against vectorbt, if it is installed."""
    folder.mkdir(parents=True)
    return simulated(folder / "simulated", rivals, bars, pairs_of(trials), repeats) if rivals else []


def pairs_of(trials: int) -> Pairs:
    """Return this many pairs: forty slow averages for each fast one, or fifty if forty do not divide the number."""
    slow = 50 if trials % 40 else 40
    return f"2:{2 + trials // slow}", f"30:{30 + slow}"


def simulated(folder: Path, rivals: Path, bars: int, pairs: Pairs, repeats: int) -> list[timing.Row]:
    """Return the rows against vectorbt, after checking that all programs give the same results."""
    folder.mkdir(parents=True)
    daily = bars < 10_000
    made = prices.daily_bars(bars, 3, prices.DYADIC) if daily else prices.minute_bars(bars, steps=prices.DYADIC)
    path = folder / "bars.parquet"
    pq.write_table(made, path)
    backends = ["numpy", *(["numba"] if find_spec("numba") else [])]
    programs = {
        **{f"ours, {name}": partial(measured, "grid_with_ours.py", sys.executable, path, name, pairs)
           for name in backends},
        **{f"vectorbt, {name}": partial(measured, "grid_with_vectorbt.py", rivals, path, name, pairs)
           for name in ENGINES},
    }  # fmt: skip
    first, *others = (program()[0] for program in programs.values())  # which compiles what lasts, too
    for other in others:
        assert np.allclose(first, other, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True), "the numbers differ"
    turns = [{name: program()[1] for name, program in programs.items()} for _ in range(repeats)]
    found, what = [], f"{first.size // 4:,} trials, {bars:,} bars"
    for name, goal in (("numpy", 2.0 if daily else None), ("numba", 5.0)):
        if name in backends:
            ours = [turn[f"ours, {name}"][0] for turn in turns]
            theirs = [min(turn[f"vectorbt, {one}"][0] for one in ENGINES) for turn in turns]
            found.append(_row(f"{what}, simulated by {name}", ours, theirs, goal))
    whole = [min(turn[f"vectorbt, {one}"][1] for one in ENGINES) for turn in turns]
    found.append(
        _row(f"{what}, whole process", [turn["ours, numpy"][1] for turn in turns], whole, 3.0 if daily else None)
    )
    return found


def measured(
    script: str, python: str | Path, path: Path, engine: str, pairs: Pairs
) -> tuple[np.ndarray, tuple[float, float]]:
    """Return a program's results, and the seconds of its second simulation and of the process until the first ends."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [str(python), str(JOBS / script), str(path), engine, *pairs]
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert done.returncode == 0, f"{script} failed:\n{done.stderr.decode()}"
    *numbers, warm, whole = np.load(io.BytesIO(done.stdout)).tolist()
    return np.array(numbers), (warm, whole)


def peak(folder: Path, bars: int, trials: int) -> float:
    """Return the peak memory of this process, in MB, after a sweep with the compiled engine."""
    from resource import RUSAGE_SELF, getrusage  # not on Windows

    series, store = Series.parse("MADE/1day" if bars < 10_000 else "MADE/1min"), Store(folder / "store")
    prices.fill(store, series, prices.daily_bars(bars, 3) if bars < 10_000 else prices.minute_bars(bars))
    fasts, slows = (list(range(*map(int, words.split(":")))) for words in pairs_of(trials))
    made = sweep(STRATEGY, series, {"fast": fasts, "slow": slows}, store=store, folder=folder / "swept")
    print(made.made_by, file=sys.stderr)
    return getrusage(RUSAGE_SELF).ru_maxrss / 1024


def swept(folder: Path, bars: int, pairs: Pairs, repeats: int) -> list[timing.Row]:
    """Return the row of a whole sweep, after checking that both engines save the same trials."""
    series = Series.parse("MADE/1day" if bars < 10_000 else "MADE/1min")
    store, places = Store(folder / "store"), (folder / str(number) for number in count())
    prices.fill(store, series, prices.daily_bars(bars, 3) if bars < 10_000 else prices.minute_bars(bars))
    fasts, slows = (list(range(*map(int, words.split(":")))) for words in pairs)

    def go(engine: str) -> Path:
        place = next(places)
        _ = sweep(STRATEGY, series, {"fast": fasts, "slow": slows}, store=store, folder=place, engine=engine).summary
        return place

    one, other = (_kept(go(engine)) for engine in ("compiled", "event"))
    assert one == other, "the trials differ"
    turns = [(_seconds_of(partial(go, "compiled")), _seconds_of(partial(go, "event"))) for _ in range(repeats)]
    ours, theirs = (list(seconds) for seconds in zip(*turns, strict=True))
    return [_row(f"{len(one):,} trials, {bars:,} bars, swept and judged", ours, theirs, None, "the event engine")]


def _kept(folder: Path) -> dict[str, tuple[str, str, bytes]]:
    trials = Trials(folder).read(returns=True)
    return {key: (one.error, repr(one.metrics), one.returns.tobytes()) for key, one in trials.items()}


def _seconds_of(job: Callable[[], object]) -> float:
    began = time.process_time()
    job()
    return time.process_time() - began


def _row(job: str, ours: list[float], theirs: list[float], goal: float | None, against: str = "vectorbt") -> timing.Row:
    return timing.Row(job, against, timing.span(ours), timing.span(theirs), timing.pair_ratio(theirs, ours), goal)


if __name__ == "__main__":
    main()
