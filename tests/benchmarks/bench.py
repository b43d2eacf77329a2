"""
Run all benchmarks of speed and memory, one after the other, and write one table of them, as `make bench` does.

Run:  python tests/benchmarks/bench.py --rivals .venv-rivals/bin/python [--out build/bench.md]

Each job is checked before it is timed: programs with different results get no row.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import accounts
import backtrader
import currencies
import engines
import grids
import loading
import memory
import newcomer
import numpy
import page
import painting
import pandas
import pyarrow
import running
import timing

METHOD = (
    "Medians of turns A B A B ...; a ratio is the median of theirs over ours in the same turn. "
    "Results were equal before timing. Made by `make bench`."
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of the jobs, and how often they are repeated."""

    bars: int = 1_000_000  # of a load, and of a run whose memory is measured
    run_bars: int = 100_000
    years_bars: int = 2_520  # ten years of days
    years: int = 9  # of a walk-forward
    trials: int = 1_000  # of a grid
    series: tuple[int, ...] = (1, 50)
    charts: tuple[int, ...] = (3_270, 100_000, 1_000_000)  # bars of pages in a browser
    loads: int = 3
    runs: int = 5


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rivals", type=Path, required=True, help="the Python that has the other libraries")
    words.add_argument("--out", type=Path, default=Path("build/bench.md"))
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        written = report(rows(Path(folder), asked.rivals, Sizes()))
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(written)
    print(f"\n{written}")


def rows(folder: Path, rivals: Path | None, sizes: Sizes) -> list[timing.Row]:
    """Return the rows of every benchmark, each printed as soon as it is known."""
    return [told(row) for row in _rows(folder, rivals, sizes)]


def report(rows: list[timing.Row]) -> str:
    """Return the table, with the versions, the machine and the method."""
    packages = ", ".join(f"{one.__name__} {one.__version__}" for one in (backtrader, numpy, pandas, pyarrow))
    machine = f"Python {platform.python_version()}, {packages}; {platform.system()}, {os.cpu_count()} cores."
    return f"{timing.table(rows)}\n\n{machine} {METHOD}\n"


def told(row: timing.Row) -> timing.Row:
    """Print a row, and return it."""
    print(timing.line(row), flush=True)
    return row


def _rows(folder: Path, rivals: Path | None, sizes: Sizes) -> Iterator[timing.Row]:
    yield from newcomer.rows(folder / "newcomer", rivals, sizes.years_bars, sizes.series, sizes.runs)
    yield from running.rows(sizes.run_bars, sizes.runs)
    yield from engines.rows(folder / "engines", sizes.bars, sizes.years, sizes.loads)
    yield from grids.rows(folder / "grids", rivals, sizes.years_bars, sizes.trials, sizes.loads)
    yield from grids.minute_rows(folder / "minutes", rivals, sizes.run_bars, sizes.trials // 10, sizes.loads)
    yield from currencies.rows(folder / "currencies", sizes.run_bars, sizes.runs)
    yield from accounts.rows(folder / "accounts", sizes.run_bars, sizes.runs)
    yield from loading.rows(folder, sizes.bars, sizes.loads)
    yield from page.rows(folder / "page", sizes.run_bars, sizes.runs)
    yield from painting.rows(folder / "painting", sizes.charts, sizes.runs)
    yield from memory.rows(folder / "memory", sizes.bars)


if __name__ == "__main__":
    main()
