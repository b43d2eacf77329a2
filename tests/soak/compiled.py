"""
Compare trials of the compiled engine with those of the event engine, to the last bit, in random cases.

    python tests/soak/compiled.py [--cases 200] [--trials 6] [--seed 1]
    python tests/soak/compiled.py --fast [--cases 200]
    python tests/soak/compiled.py --mutants [--only TEXT]

A case is a seed, which determines one to four feeds on one of four kinds of clocks, costs and cash, and a strategy that
submits orders by a random generator, which each notification advances, or a strategy that does nothing at most bars, so
that numpy skips these. Of every 32 cases, 16 also have dated costs,
slippage or a volume cap. To repeat a case that differs, pass its number as the seed.

With --fast, trials by numba are compared with those by numpy; compiling takes half a minute for each number of feeds.
With --mutants, each deliberately wrong engine runs cases and strategies of the tests until one detects it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import compiled_idle
from apart import apart
from compiled_check import backends_differ, differences, set_up_of
from compiled_mutants import MUTANTS, mutated
from compiled_random import CLASSES, case, compared
from compiled_strategies_of_tests import STRATEGIES, feeds

SECONDS = 300.0
MOST = 160  # cases


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--mutants", action="store_true")
    parser.add_argument("--only", default="", help="mutants with this text")
    asked = parser.parse_args(words)
    if asked.mutants:
        return int(bool(untold(asked.only)))
    orders = fills = left = 0
    found = {}
    cases = range(asked.seed, asked.seed + asked.cases)
    for seed, cls in product(cases, (*CLASSES, *compiled_idle.CLASSES)):
        wide = seed // 16 % 2 == 1  # on all clocks: dated costs, slippage and volume caps
        if cls in compiled_idle.CLASSES:
            outcomes, differing = of_idle(cls, seed, asked.trials, fast=asked.fast)
        elif asked.fast:
            outcomes, names = backends_differ(cls, *case(seed, asked.trials, bars=90, wide=wide))
            differing = dict(enumerate(names))
        else:
            outcomes, differing = compared(seed, asked.trials, bars=90, cls=cls, wide=wide)
        if outcomes.why_not:
            differing = {0: outcomes.why_not}
        orders, fills, left = orders + len(outcomes.orders), fills + len(outcomes.fills), left + len(outcomes.left)
        found.update({(seed, cls.__name__, trial): said for trial, said in differing.items()})
    for (seed, name, trial), said in found.items():
        print(f"seed {seed}, {name}, trial {trial}: {said}")
    trials = (len(CLASSES) + len(compiled_idle.CLASSES)) * asked.cases * asked.trials
    print(f"{trials} trials, {orders} orders, {fills} fills, {left} left, {len(found)} differ")
    return int(bool(found))


def of_idle(cls: type[Any], seed: int, trials: int, *, fast: bool) -> tuple[Any, dict[int, str]]:
    """Return the outcomes of strategies that do nothing at most bars, and what differs."""
    if not fast:
        return compiled_idle.compared(cls, seed, trials, bars=400)
    outcomes, names = backends_differ(cls, *compiled_idle.case(cls, seed, trials, bars=400))
    return outcomes, dict(enumerate(names))


def untold(only: str = "") -> list[int]:
    """Return the mutants that nothing detects; print what detects each of the others."""
    missed = []
    for number, row in enumerate(MUTANTS):
        if only not in " ".join(row):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            told = apart(partial(telling, number), Path(scratch), SECONDS).told
        print(f"{told or 'MISSED':24} {row[0]}: {row[1].strip().splitlines()[0]}", flush=True)
        missed += [number] * (not told)
    print(f"{len(missed)} of {len(MUTANTS)} mutants are not detected")
    return missed


def telling(number: int) -> str:
    """Return what detects a mutant; "" if nothing does."""
    with mutated(number):
        for name, cls, count, params in STRATEGIES:
            try:
                outcomes, differing = differences(cls, params, feeds(count), set_up_of("percent"))
            except Exception as error:  # noqa: BLE001 - a wrong engine may well stumble
                return f"{name} raises {type(error).__name__}"
            if outcomes.why_not or outcomes.left or differing:
                return name
        for seed, idle in product(range(12), compiled_idle.CLASSES):
            try:
                outcomes, differing = compiled_idle.compared(idle, seed, 4, 90)
            except Exception as error:  # noqa: BLE001 - a wrong engine may well stumble
                return f"{idle.__name__} raises {type(error).__name__}"
            if outcomes.why_not or outcomes.left or differing:
                return f"{idle.__name__} {seed}"
        for seed, cls, wide in product(range(MOST), CLASSES, (False, True)):
            try:
                outcomes, differing = compared(seed, 6, bars=60, cls=cls, wide=wide)
            except Exception as error:  # noqa: BLE001 - a wrong engine may well stumble
                return f"case {seed} raises {type(error).__name__}"
            left = outcomes.left and not wide  # of the wide ones the right engine leaves some, too
            if outcomes.why_not or left or differing:
                return f"case {seed}{', wide' if wide else ''}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
