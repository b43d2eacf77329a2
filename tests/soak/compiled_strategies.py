"""
Compare public strategies under the compiled engine with the same under the event engine.

    python tests/soak/compiled_strategies.py FOLDER [--rest] [--jobs 2] [--only TEXT] [--most 20]

FOLDER holds checkouts as for `public_strategies.py`. The strategies are those of tests/support/compiled_public.csv,
chosen before the compiler existed; with --rest, all others in docs/public-strategies.md that trade. Each runs in a
child process over the bars of `public_strategies.py`, once by the event engine and once compiled. Equal means the same
orders and fills, and the same cash, equity and positions after each bar. Prints a line for each, and exits with 1 if
one differs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import backtrader as bt
from apart import apart
from compiled_check import by_events, difference, named
from compiled_public import frozen, trading
from public_strategies import CASH, COMMISSION, MANY, SECONDS, bars, definitions

from backtest.engine.compiled.trials import run_trials

EQUAL, DIFFERS, REFUSED, LEFT, FAILS = "equal", "DIFFERS", "refused", "left", "fails"


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rest", action="store_true", help="those that are not in the frozen list")
    parser.add_argument("--only", default="")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--most", type=int, help="at most this many of them")
    asked = parser.parse_args(words)
    kept = {tuple(row[:4]) for row in frozen()}
    rows = [row for row in trading() if (row in kept) != asked.rest and asked.only in "/".join(row)][: asked.most]
    counts: Counter[str] = Counter()
    for row, (verdict, said) in judged(asked.folder, rows, asked.jobs):
        counts[verdict] += 1
        print(f"{verdict:8} {row[0]}/{row[1]} {row[2]}: {said}", flush=True)
    print(f"{len(rows)} strategies: {dict(counts)}; {counts[EQUAL] / max(len(rows), 1):.1%} compile and are equal")
    return int(bool(counts[DIFFERS]) or not rows)


def judged(folder: Path, rows: list[Any], jobs: int) -> Iterator[tuple[Any, tuple[str, str]]]:
    """Yield each row with its verdict and the details."""
    with ProcessPoolExecutor(jobs, get_context("fork")) as pool:
        yield from zip(rows, pool.map(partial(_judge, folder), rows), strict=True)


def _judge(folder: Path, row: Any) -> tuple[str, str]:
    file = folder / row[0].replace("/", "+", 1) / row[1]
    if not file.exists() or sha256(file.read_bytes()).hexdigest() != row[3]:
        return FAILS, "the file is not there, or another"
    with tempfile.TemporaryDirectory() as scratch:
        done = apart(partial(judge_here, file, row[2]), Path(scratch), 2 * SECONDS)
    return done.told or (FAILS, done.ended)


def judge_here(file: Path, name: str) -> tuple[str, str]:
    """Return the verdict on a class of a file, and the details."""
    cls = getattr(definitions(file), name)
    for count in (1, MANY):
        event = by_events(cls, {}, _feeds(count), _set_up)
        if not event.error:
            break
    if event.error:
        return FAILS, event.error
    outcomes = run_trials(cls, [{}], _feeds(count), _set_up)
    if outcomes.why_not:
        return REFUSED, outcomes.why_not.replace(str(file), file.name)
    if outcomes.left:
        return LEFT, outcomes.left[0]
    said = difference(outcomes, 0, event)
    return (DIFFERS, said) if said else (EQUAL, f"{len(outcomes.orders)} orders")


def _feeds(count: int) -> list[Any]:
    return named([bt.feeds.PandasData(dataname=bars(number)) for number in range(count)])


def _set_up(cerebro: Any) -> None:
    cerebro.broker.setcash(CASH)
    cerebro.broker.setcommission(COMMISSION)


if __name__ == "__main__":
    sys.exit(main())
