"""
Damage each file of a small store in every way: each damage is detected, and the error names the file.

Run:  python tests/soak/flips.py [--every 1] [--seed 7]     (--every 5: every fifth byte)

One bit of each byte is flipped; each file is truncated, emptied, deleted, doubled, or swapped with another one of the
store. A read of the damaged file must raise an error: damaged bytes are never returned, nor taken for "no bars".
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from pathlib import Path
from random import Random

import judge
from operations import DAILY, MINUTES, quarantine, quick_folder, revise, two_months

from backtest.errors import BacktestError
from backtest.store.store import Store

Damage = tuple[str, tuple[Path, ...], Callable[[], object]]  # what it is, the files (any of them is to be named), do it


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--every", type=int, default=1)
    words.add_argument("--seed", type=int, default=7)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory(dir=quick_folder()) as folder:
        done, missed = run(Path(folder), asked.every, asked.seed)
    print("\n".join(missed))
    print(f"{done} damages: {len(missed)} missed")
    raise SystemExit(bool(missed))


def run(folder: Path, every: int, seed: int) -> tuple[int, list[str]]:
    """Apply each damage to a store in the folder, flips at every n-th byte; return how many, and those not detected."""
    root, chance, done, missed = folder / "store", Random(seed), 0, []
    two_months(root)
    quarantine(root)
    revise(root)
    assert complaints(root) == ""
    for what, files, damage in [*_damages(root), *_flips(root, every, chance)]:
        if all(path.name == ".gitattributes" for path in files):
            continue  # what Git reads, and no store does
        kept = {path: path.read_bytes() for path in files}
        damage()
        said = complaints(root)
        for path, data in kept.items():
            path.write_bytes(data)
        done += 1
        if not any(_named(path, said) for path in files):
            names = " and ".join(str(path.relative_to(root)) for path in files)
            missed.append(f"{what} of {names}: {said or 'nobody noticed'}")
    assert complaints(root) == ""
    return done, missed


def complaints(root: Path) -> str:
    """Return the errors that a careful reader of the whole store gets; nothing if all is well."""
    said = judge.complaints(root)
    for series in (MINUTES, DAILY):
        try:
            Store(root).read(series)
        except BacktestError as error:
            said.append(str(error))
    return "\n".join(said)


def files_of(root: Path) -> list[Path]:
    """Return the files of a store except locks, which are empty."""
    return [path for path in sorted(root.rglob("*")) if path.is_file() and path.name != ".lock"]


def _flips(root: Path, every: int, chance: Random) -> Iterator[Damage]:
    for path in files_of(root):
        good = path.read_bytes()
        for place in range(chance.randrange(min(every, len(good))), len(good), every):
            bad = good[:place] + bytes([good[place] ^ 1 << chance.randrange(8)]) + good[place + 1 :]
            yield f"a flip at {place}", (path,), partial(path.write_bytes, bad)


def _damages(root: Path) -> Iterator[Damage]:
    files = files_of(root)
    for path in files:
        good = path.read_bytes()
        for size in {0, 1, len(good) // 2, len(good) - 1}:
            yield f"a cut at {size}", (path,), partial(path.write_bytes, good[:size])
        yield "a doubling", (path,), partial(path.write_bytes, good * 2)
        yield "a byte more", (path,), partial(path.write_bytes, good + b"\0")
        yield "a line more", (path,), partial(path.write_bytes, good + b"\n")
        yield "zeros", (path,), partial(path.write_bytes, bytes(len(good)))
        yield "a loss", (path,), path.unlink
    for one, other in combinations(files, 2):
        yield "a swap", (one, other), partial(_swap, one, other)


def _swap(one: Path, other: Path) -> None:
    beside = one.with_name("beside")
    shutil.move(one, beside)
    shutil.move(other, one)
    shutil.move(beside, other)


def _named(path: Path, said: str) -> bool:
    return str(path) in said or (path.name == "STORE.json" and f"{path.parent} is not a store" in said)


if __name__ == "__main__":
    main()
