"""
Sweeping: two workers against two sweeps of one worker each, side by side, the most that two cores can do.

Run:  python tests/benchmarks/sweeping.py [--trials 1000] [--years 10] [--repeats 3]

Each job is the command line from start to end, with every trial saved to disk; both ways make the same trials in total,
which is checked.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path

import timing

from backtest.research.search.trials import Trials

STORE = Path(__file__).resolve().parents[2] / "data" / "sample"
PAIR = "two sweeps side by side"


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--trials", type=int, default=1000)
    words.add_argument("--years", type=int, default=10)
    words.add_argument("--repeats", type=int, default=3)
    asked = words.parse_args()
    print(timing.table(rows(asked.trials, asked.years, asked.repeats)))


def rows(trials: int, years: int, repeats: int) -> list[timing.Row]:
    """Return the row of two workers, after checking that both ways give the same trials."""
    with tempfile.TemporaryDirectory() as folder:
        places = (Path(folder) / str(number) for number in count())
        check(together(trials, years, next(places)), apart(trials, years, next(places)))
        jobs = {
            "two workers": lambda: together(trials, years, next(places)),
            PAIR: lambda: apart(trials, years, next(places)),
        }
        return timing.race(f"{trials:,} trials of SMA cross, {years} years", jobs, repeats, {PAIR: 0.85})


def together(trials: int, years: int, place: Path) -> list[Path]:
    """Return the folder of one sweep with two workers."""
    finish([begin(30, trials // 10, years, place, "--jobs", "2")])
    return [place]


def apart(trials: int, years: int, place: Path) -> list[Path]:
    """Return the folders of two sweeps at once, each with half of the trials."""
    half = trials // 20
    parts = [(30, half, place / "a"), (30 + half, trials // 10 - half, place / "b")]
    finish([begin(first, number, years, part) for first, number, part in parts])
    return [part for *_, part in parts]


def begin(first: int, number: int, years: int, place: Path, *more: str) -> subprocess.Popen[str]:
    words = ["--grid", "fast=2:11", "--grid", f"slow={first}:{first + number - 1}", *more]
    words += ["--since", "2003-01-02", "--until", f"{2002 + years}-12-31", "--store", str(STORE), "--out", str(place)]
    command = [sys.executable, "-m", "backtest", "sweep", "sma_cross", "AAPL/1day", *words, "--json"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(sweeps: list[subprocess.Popen[str]]) -> None:
    told = [one.communicate()[1] for one in sweeps]
    assert not any(one.returncode for one in sweeps), told


def check(*folders: list[Path]) -> None:
    """Fail unless both ways gave the same trials."""
    made = [{key: repr(one) for part in parts for key, one in Trials(part).read().items()} for parts in folders]
    assert made[0], "nothing was tried"
    assert made[0] == made[1], "the trials differ"


if __name__ == "__main__":
    main()
