"""
Does our Cerebro do what Backtrader's does, to the last bit, in any number of random cases?

    python tests/soak/parity.py [--cases 50000] [--seed 1]

Each case is one number: bars, broker, indicators and a strategy made by chance of it. A case that differs is run again
alone with its number as the seed: python tests/soak/parity.py --cases 1 --seed NUMBER
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from parity_check import difference
from parity_random import case

_OFTEN = 5_000


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--cases", type=int, default=50_000)
    words.add_argument("--seed", type=int, default=1)
    asked = words.parse_args()
    found = differences(range(asked.seed, asked.seed + asked.cases))
    print(f"{asked.cases} cases from seed {asked.seed}: {len(found)} differences")
    for seed, text in found.items():
        print(f"at seed {seed}:\n{text}")
    sys.exit(bool(found))


def differences(seeds: Sequence[int]) -> dict[int, str]:
    """Return the seeds of the cases that differ, each with its first difference; say now and then how far it is."""
    found = {}
    for done, seed in enumerate(seeds, start=1):
        if text := difference(case(seed)):
            found[seed] = text
        if done % _OFTEN == 0:
            print(f"{done} of {len(seeds)}, {len(found)} differences", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
