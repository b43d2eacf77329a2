"""
A newcomer's whole job, from the start of a process to printed numbers, with this package and with others.

Run:  python tests/benchmarks/newcomer.py [--rivals .venv-rivals/bin/python] [--bars 2520] [--repeats 5]

The job: read one series, or fifty, of ten years of daily bars; buy 100 shares when the average of 10 closes crosses
above that of 30 and sell when it crosses below, at the next open, for 1 USD per order; print Sharpe ratio, maximum
drawdown and return of each series. The programs are in jobs/, each as users of that library would write it: fifty runs
in one process for fifty series; vectorbt takes them all in one call. The others read a Parquet file for each series.

Before timing, the numbers are compared with ours, to TOLERANCE. These libraries define some of them differently:
    backtesting.py  its Sharpe ratio uses the compounded mean of returns
    bt              has one price per day; given the opens, it trades as the others do, but values equity at the opens,
                    and so also Sharpe ratio, drawdown and a position that is open at the end
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import prices
import pyarrow as pa
import timing

from backtest.market.series import Series
from backtest.store.store import Store

JOBS = Path(__file__).parent / "jobs"
STOCK = "stock Backtrader"
TOLERANCE = 1e-9  # of fractions: a cent of ten million
GOALS = {1: {STOCK: 2.0}, 50: {STOCK: 5.0}}  # and first place: 1 against all others
NUMBERS = ("sharpe", "drawdown", "return")


@dataclass(frozen=True, slots=True)
class Contestant:
    """A program in jobs/, its Python, the folder of its bars, and which of its numbers must equal ours."""

    script: Path
    python: Path
    folder: Path
    same: tuple[str, ...] = NUMBERS

    def run(self, symbols: list[str]) -> dict[str, dict[str, float]]:
        """Return what the program prints for each symbol."""
        command = [str(self.python), str(self.script), str(self.folder), *symbols]
        # With bytecode, as installed packages have it: Python keeps it from the first run, unless it is told not to.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, f"{self.script} failed:\n{done.stderr}"
        lines = [line.split() for line in done.stdout.splitlines()]
        return {name: dict(zip(NUMBERS, map(float, words), strict=True)) for name, *words in lines}


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rivals", type=Path, default=Path(".venv-rivals/bin/python"))
    words.add_argument("--bars", type=int, default=2520)
    words.add_argument("--repeats", type=int, default=5)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(timing.table(rows(Path(folder), asked.rivals, asked.bars, (1, 50), asked.repeats)))


def rows(folder: Path, rivals: Path | None, bars: int, counts: tuple[int, ...], repeats: int) -> list[timing.Row]:
    """Return the rows of the job for this many series; without other libraries, against stock Backtrader alone."""
    made = {name: prices.daily_bars(bars, seed, prices.DYADIC) for seed, name in enumerate(prices.symbols(max(counts)))}
    field = contestants(folder, made, rivals)
    return [row for count in counts for row in contest(field, dict(list(made.items())[:count]), repeats)]


def contest(field: dict[str, Contestant], made: dict[str, pa.Table], repeats: int) -> list[timing.Row]:
    """Return a row for each other contestant, after checking that all give the same numbers."""
    ours, *others = (contestant.run(list(made)) for contestant in field.values())
    for (name, contestant), theirs in zip(list(field.items())[1:], others, strict=True):
        check(ours, theirs, contestant.same, name, made)
    jobs = {name: _job(contestant, list(made)) for name, contestant in field.items()}
    goals = dict.fromkeys(field, 1.0) | GOALS.get(len(made), {})
    return timing.race(f"newcomer's job, {len(made)} series", jobs, repeats, goals)


def contestants(folder: Path, made: dict[str, pa.Table], rivals: Path | None) -> dict[str, Contestant]:
    """Return the contestants, ours first, with their bars in place."""
    store, frames = Store(folder / "store"), folder / "frames"
    frames.mkdir(parents=True)
    for name, bars in made.items():
        series = Series.parse(f"{name}/1day")
        prices.fill(store, series, bars)
        prices.write_frame(frames / f"{name}.parquet", bars, series)
    here, jobs = (
        Path(sys.executable),
        shutil.copytree(JOBS, folder / "jobs"),
    )  # of nobody's repository, as a first script
    field = {
        "ours": Contestant(jobs / "with_ours.py", here, store.root),
        STOCK: Contestant(jobs / "with_backtrader.py", here, frames),
    }
    if rivals:
        field["backtesting.py"] = Contestant(jobs / "with_backtesting.py", rivals, frames, ("drawdown", "return"))
        field["vectorbt"] = Contestant(jobs / "with_vectorbt.py", rivals, frames)
        field["bt"] = Contestant(jobs / "with_bt.py", rivals, frames, ("return at opens",))
    return field


def check(
    ours: dict[str, dict[str, float]],
    theirs: dict[str, dict[str, float]],
    same: tuple[str, ...],
    name: str,
    made: dict[str, pa.Table],
) -> None:
    """Fail unless the numbers that must be equal are."""
    assert list(ours) == list(theirs) == list(made), f"{name} left series out"
    for symbol, bars in made.items():
        for what in same:
            number = what.partition(" ")[0]
            mine, other = ours[symbol][number], theirs[symbol][number]
            most = TOLERANCE + (_open_to_close(bars) if what == "return at opens" else 0.0)
            assert abs(mine - other) <= most, f"{symbol}: {number} is {mine} here and {other} in {name}"


def _open_to_close(bars: pa.Table) -> float:
    # What the last open and the last close make of 100 shares, as a part of 100,000 USD.
    return abs(bars["close"][-1].as_py() - bars["open"][-1].as_py()) * 100 / 100_000


def _job(contestant: Contestant, symbols: list[str]) -> Callable[[], object]:
    return lambda: contestant.run(symbols)


if __name__ == "__main__":
    main()
