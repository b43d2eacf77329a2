"""
Compare random runs in several currencies, with multipliers and margins, with a ledger kept in plain pandas.

Run:  python tests/soak/money.py [--runs 1000] [--first 0]

As many runs in margin accounts, with dividends, borrow fees and margin calls, filled at the next bar or at the signal
bar's close, are compared with a ledger too, and a fifth as many that fill on smaller bars.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from margin_ledger import assert_lent, lent_case, run_of
from margin_on_small_bars import assert_reckoned
from random_money import differences, drawn

CLOSE = 1e-9  # of the cash at the start


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--runs", type=int, default=1000)
    words.add_argument("--first", type=int, default=0)
    asked = words.parse_args()
    failed = False
    for about, judge, runs in (
        ("", judged, asked.runs),
        ("margin ", lends, asked.runs),
        ("small ", small, asked.runs // 5),
    ):
        wrong = [told for seed in range(asked.first, asked.first + runs) if (told := judge(seed))]
        print("\n".join([*wrong, f"{runs - len(wrong):,} of {runs:,} {about}accounts reconcile at every bar"]))
        failed |= bool(wrong)
    sys.exit(failed)


def judged(seed: int) -> str:
    """Return what is wrong with a run; "" for nothing."""
    with tempfile.TemporaryDirectory() as folder:
        furthest = max(map(abs, differences(drawn(seed), Path(folder))))
    return "" if furthest <= CLOSE else f"seed {seed}: off by {furthest:.3g} of the cash"


def lends(seed: int) -> str:
    """Return what is wrong with a run in a margin account; "" for nothing."""
    case, lent = lent_case(seed, this_close=seed % 3 == 0)
    with tempfile.TemporaryDirectory() as folder:
        try:
            assert_lent(case, lent, run_of(case, lent, Path(folder), slippage="0.0" if seed % 2 else ""))
        except AssertionError as error:
            return f"margin, seed {seed}: {error}"
    return ""


def small(seed: int) -> str:
    """Return what is wrong with a run in a margin account on small bars; "" for nothing."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            assert_reckoned(seed, Path(folder))
        except AssertionError as error:
            return f"small bars, seed {seed}: {error}"
    return ""


if __name__ == "__main__":
    main()
