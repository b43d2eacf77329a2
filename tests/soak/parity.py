"""
Compare our Cerebro with Backtrader's, to the last bit, in any number of random cases.

    python tests/soak/parity.py [--cases 50000] [--seed 1]
    python tests/soak/parity.py --mutants [--cases 1000]

A case is a seed, which determines bars, broker, indicators and strategy. To run a case that differs alone, pass its
number as the seed: python tests/soak/parity.py --cases 1 --seed NUMBER

With --mutants, each deliberately wrong lean loop runs the cases until one detects it; a mutant that no random case
detects must have a case of its own that does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import backtrader as bt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from parity_aimed import AIMED
from parity_check import difference, difference_of, outcome
from parity_lean_mutants import MUTANTS, mutant
from parity_random import case

_OFTEN = 5_000


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--cases", type=int, default=50_000)
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--mutants", action="store_true", help="show which case detects each wrong lean loop")
    asked = words.parse_args()
    if asked.mutants:
        sys.exit(bool(untold(range(asked.seed, asked.seed + asked.cases))))
    found = differences(range(asked.seed, asked.seed + asked.cases))
    print(f"{asked.cases} cases from seed {asked.seed}: {len(found)} differences")
    for seed, text in found.items():
        print(f"at seed {seed}:\n{text}")
    sys.exit(bool(found))


def differences(seeds: Sequence[int]) -> dict[int, str]:
    """Return the seeds of the cases that differ, each with its first difference; print the progress now and then."""
    found = {}
    for done, seed in enumerate(seeds, start=1):
        if text := difference(case(seed)):
            found[seed] = text
        if done % _OFTEN == 0:
            print(f"{done} of {len(seeds)}, {len(found)} differences", file=sys.stderr, flush=True)
    return found


def untold(seeds: Sequence[int]) -> list[str]:
    """Return the mutants that neither a random case nor their own detects; print which case detects each."""
    stock = cache(lambda seed: outcome(case(seed), bt.Cerebro))
    missed, aimed = [], 0
    for name in MUTANTS:
        wrong = mutant(name)
        told = next((seed for seed in seeds if difference_of(stock(seed), outcome(case(seed), wrong))), None)
        if told is None and name in AIMED and difference(AIMED[name], wrong):
            aimed += 1
            print(f"aimed  {name}", flush=True)
        else:
            print(f"{'missed' if told is None else told:6}  {name}", flush=True)
            missed += [name] * (told is None)
    random_ones = len(MUTANTS) - aimed - len(missed)
    print(f"{len(MUTANTS)} mutants: {random_ones} detected by random cases, {aimed} by their own, {len(missed)} missed")
    return missed


if __name__ == "__main__":
    main()
