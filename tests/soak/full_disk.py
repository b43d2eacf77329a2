"""
Fill the disk in the middle of an operation: a one-line error, everything readable, and the operation resumes with room.

Run:  python tests/soak/full_disk.py [--sizes 20] [--outside]    (runs, sweeps, pins, pages, ... instead of stores)

The disk has room for a number of bytes, from none up to what the operation writes. A write that does not fit is cut
short, and after it nothing can be written or created, as on a real disk. The operation is repeated on the full disk,
and then with room.
"""

from __future__ import annotations

import argparse
import errno
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from every_call import told_wrongly
from operations import (
    OPERATIONS,
    Operation,
    State,
    done_again,
    environment,
    left_behind,
    prepared,
    quick_folder,
    told,
    warm,
)
from tracer import Call, Ended, Fail, Judgement, Shorten, trace
from writers import WRITERS

_WRITES = ("write", "writev", "pwrite64")


class Disk:
    """A disk with room for a number of bytes."""

    def __init__(self, room: int) -> None:
        self.room, self.used, self.refused = room, 0, 0

    def judge(self, call: Call) -> Judgement:
        """Let a call write what fits."""
        size = len(call.data) if call.name in _WRITES else 0
        makes_something = call.changes and call.name in ("open", "openat", "creat", "mkdir", "link")
        if self.used + size <= self.room and not (makes_something and self.used >= self.room):
            self.used += size
            return None
        fits, self.used = self.room - self.used, self.room
        self.refused += 1
        return Shorten(fits) if fits and size else Fail(errno.ENOSPC) if size or makes_something else None


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--sizes", type=int, default=20)
    words.add_argument("--outside", action="store_true", help="operations of `writers` instead of those on a store")
    asked = words.parse_args()
    operations = WRITERS if asked.outside else OPERATIONS
    with environment(), tempfile.TemporaryDirectory(dir=quick_folder()) as folder:
        warm(Path(folder), operations)
        full, failures = run(Path(folder), operations, asked.sizes)
    print("\n".join(failures))
    print(f"{full} disks full in {len(operations)} operations: {len(failures)} failures")
    raise SystemExit(bool(failures))


def run(folder: Path, operations: Sequence[Operation], sizes: int) -> tuple[int, list[str]]:
    """Run each operation on disks of several sizes; return how many filled up, and a line for each failure."""
    full, failures = 0, []
    for operation in operations:
        before = prepared(operation, Path(tempfile.mkdtemp(dir=folder)) / "store")
        root = Path(shutil.copytree(before, before.with_name("whole")))
        endless = Disk(1 << 40)
        assert not _act(operation, root, endless).code
        known = operation.holds(before), done_again(operation, root)
        for place in range(sizes):
            room = endless.used * place // sizes
            wrong = _on_full_disk(operation, Path(shutil.copytree(before, before.with_name(f"{place}"))), room, known)
            failures += [f"{operation.name}, room for {room} of {endless.used} bytes: {text}" for text in wrong]
            full += 1
    return full, failures


def _on_full_disk(operation: Operation, root: Path, room: int, known: tuple[State, State]) -> list[str]:
    wrong, disk = [], Disk(room)
    for attempt in ("first", "again"):
        ended = _act(operation, root, disk)
        said = (root.parent / "said").read_text()
        wrong += [f"{attempt}: {text}" for text in told_wrongly("ENOSPC", ended, said)]
        held = operation.holds(root)
        if not ended.code and attempt == "first" and held != known[1]:
            wrong.append("it was said to be done, and is not")
        if not operation.is_either(held, *known):
            wrong.append(f"{attempt}: neither as before nor as after")
    if not disk.refused:
        wrong.append("the disk was never full")
    if done_again(operation, root) != known[1]:
        wrong.append("it did not go on when there was room")
    return [*wrong, *left_behind(operation, root)]


def _act(operation: Operation, root: Path, disk: Disk) -> Ended:
    return trace(lambda: told(lambda: operation.act(root), root.parent / "said"), root, disk.judge)


if __name__ == "__main__":
    main()
