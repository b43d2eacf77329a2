"""
Random runs in several currencies, with multipliers and margins: is each account that of a ledger kept in plain pandas?

Run:  python tests/soak/money.py [--runs 1000] [--first 0]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from random_money import differences, drawn

CLOSE = 1e-9  # of the cash at the start


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--runs", type=int, default=1000)
    words.add_argument("--first", type=int, default=0)
    asked = words.parse_args()
    wrong = [told for seed in range(asked.first, asked.first + asked.runs) if (told := judged(seed))]
    print("\n".join([*wrong, f"{asked.runs - len(wrong):,} of {asked.runs:,} accounts reconcile at every bar"]))
    sys.exit(bool(wrong))


def judged(seed: int) -> str:
    """Return what is wrong with a run; "" for nothing."""
    with tempfile.TemporaryDirectory() as folder:
        furthest = max(map(abs, differences(drawn(seed), Path(folder))))
    return "" if furthest <= CLOSE else f"seed {seed}: off by {furthest:.3g} of the cash"


if __name__ == "__main__":
    main()
