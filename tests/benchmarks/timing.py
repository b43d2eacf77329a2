"""Paired timings: jobs alternate, A B A B ..., and a table shows medians and the median ratio of each pair."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np

HEADER = "| job | against | ours | theirs | ratio | goal | met |\n|---|---|---:|---:|---:|---:|---|"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: what a job costs us and another program; the ratio is theirs over ours."""

    job: str
    against: str
    ours: str
    theirs: str
    ratio: float
    goal: float | None = None  # what the ratio should reach

    @property
    def met(self) -> str:
        """Whether the goal is reached, in a word; "" if there is no goal."""
        return "" if self.goal is None else "yes" if self.ratio >= self.goal else "NO"


def race(job: str, jobs: Mapping[str, Callable[[], object]], repeats: int, goals: Mapping[str, float]) -> list[Row]:
    """Return a row for each job but the first, which is ours, after `repeats` turns of all of them."""
    seconds = take_turns(jobs, repeats)
    (_, ours), *others = seconds.items()
    return [
        Row(job, name, span(ours), span(theirs), pair_ratio(theirs, ours), goals.get(name)) for name, theirs in others
    ]


def take_turns(jobs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each job in each turn; the caller has warmed them up by checking that they do the same."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            seconds[name].append(seconds_of(job))
    return seconds


def seconds_of(job: Callable[[], object]) -> float:
    """Return how long a job takes, without the time that it takes to free its result."""
    gc.collect()
    started = time.perf_counter()
    left = job()
    ended = time.perf_counter()
    del left  # its end is not part of the job
    return ended - started


def pair_ratio(theirs: list[float], ours: list[float]) -> float:
    """Return the median ratio of their time to ours in the same turn: what slows the machine slows both."""
    return median(one / other for one, other in zip(theirs, ours, strict=True))


def span(seconds: list[float]) -> str:
    """Return a median as text, in a suitable unit."""
    middle = median(seconds)
    return f"{middle:,.2f} s" if middle >= 1 else f"{middle * 1000:,.1f} ms"


def exponent(seconds: Mapping[int, float]) -> float:
    """Return the slope of the least-squares line through the logarithms of times and counts."""
    slope, _ = np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)
    return float(slope)


def table(rows: Iterable[Row]) -> str:
    """Return the rows as a Markdown table."""
    return "\n".join([HEADER, *map(line, rows)])


def line(row: Row) -> str:
    """Return a row as a line of Markdown."""
    goal = "" if row.goal is None else f"≥ {_times(row.goal)}"
    cells = (row.job, row.against, row.ours, row.theirs, _times(row.ratio), goal, row.met)
    return f"| {' | '.join(cells)} |"


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} ×" if ratio >= 100 else f"{ratio:.1f} ×" if ratio >= 10 else f"{ratio:.2f} ×"
