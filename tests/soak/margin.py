"""
Submit thousands of random orders in cash and margin accounts: none has more leverage than its rules allow.

Run:  python tests/soak/margin.py [--orders 10000] [--seed 0]

Each random run is repeated in the lean loop and in both of Backtrader's, and the results are compared to the last bit.
So is a run on daily and hourly bars of which some are missing. Both are also run with orders that fill at the signal
bar's close. Exits with 1 if an account exceeded its rules, or if the loops differ.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from margin_on_small_bars import overdrawn_within
from margin_runs import LOOPS, overdrawn, random_run, run_with_gaps

ACCOUNTS = ("cash", "reg-t")
AT_CLOSE = ({"fills": "this-close"}, {"fills": "this-close", "slippage": "0.0"})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--orders", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    wrong = 0
    for account in ACCOUNTS:
        orders = opened = calls = 0
        seed = asked.seed
        while orders < asked.orders:
            with tempfile.TemporaryDirectory() as folder:
                every = [random_run(Path(folder) / str(n), seed, account, own=loop) for n, loop in enumerate(LOOPS)]
                found, some = overdrawn(every[0], account)
                lacking = [run_with_gaps(Path(folder) / f"g{n}", seed, account, loop) for n, loop in enumerate(LOOPS)]
                closing = [
                    random_run(Path(folder) / f"c{n}", seed, account, own=loop) for n, loop in enumerate(AT_CLOSE)
                ]
                without = [run_with_gaps(Path(folder) / f"w{n}", seed, account, loop)
                           for n, loop in enumerate(AT_CLOSE)]  # fmt: skip
                found += overdrawn(closing[0], account)[0]
                if account == "reg-t":
                    found += overdrawn_within(seed, Path(folder))[0]
            if found:
                wrong += 1
                print(f"{account}, seed {seed}: {found[0]}")
            wrong += differ(closing, f"{account}, at this close", seed) + differ(
                without, f"{account}, the same, gaps", seed
            )
            wrong += differ(every, account, seed) + differ(lacking, f"{account}, with gaps", seed)
            reasons = every[0].orders_table["reason"].to_pylist()
            orders, opened, seed = orders + len(reasons), opened + some, seed + 1
            calls += sum(reason.startswith("margin call") for reason in reasons)
        print(f"{account}: {orders:,} orders in {seed - asked.seed:,} runs, {opened:,} fills opened something, "
              f"{calls:,} orders of margin calls")  # fmt: skip
    return int(bool(wrong))


def differ(every, account, seed) -> bool:
    columns = every[0].fills_table.column_names
    first, *others = [(one.record.to_pandas(), one.orders, one.fills[columns]) for one in every]  # which know a NaN
    for loop, tables in zip(LOOPS[1:], others, strict=False):
        if not all(one.equals(other) for one, other in zip(first, tables, strict=True)):
            print(f"{account}, seed {seed}: {loop} or its like differs from the lean loop")
            return True
    return False


if __name__ == "__main__":
    sys.exit(main())
