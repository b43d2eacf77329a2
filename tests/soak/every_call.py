"""
Kill a writer, or fail its call, at each file system call that it makes: the store is as before or as after.

Run:  python tests/soak/every_call.py [--faults kill,EIO,ENOSPC,EINTR,EMFILE,EROFS,EACCES] [--operations revise]
      (--every 10: every tenth call)
      python tests/soak/every_call.py --outside    (writers outside a store: runs, sweeps, pins, pages, ...)
      python tests/soak/every_call.py --copies     (copies of what kills would leave, from one undisturbed run)

After each fault everything must be readable, and as before or as after the operation (as after, if the operation was
acknowledged). Repeated, the operation must end as if nothing had happened, without a repair and without leftover files.
An error is one line and an exit code, never a traceback.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from operations import (
    OPERATIONS,
    Operation,
    State,
    by_processes,
    done_again,
    environment,
    left_behind,
    prepared,
    quick_folder,
    told,
    warm,
)
from tracer import ACKNOWLEDGE, Call, Ended, Fail, Judgement, Kill, trace
from writers import WRITERS, drawn_empty

KNOWN = {operation.name: operation for operation in (*OPERATIONS, *WRITERS)}
assert len(KNOWN) == len(OPERATIONS) + len(WRITERS), "two operations have one name"
KILL = "kill"
_NAMED = ("open", "openat", "creat", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "link", "linkat", "unlink",
          "unlinkat", "rmdir", "stat", "lstat", "newfstatat", "statx", "getdents64")  # fmt: skip
_MOVED = ("read", "pread64", "write", "pwrite64", "writev", "fsync", "fdatasync", "ftruncate", "flock", "close",
          "copy_file_range", "sendfile")  # fmt: skip
# Which calls can end with which error. A kill between two calls that change nothing leaves what the next leaves.
FITTING: dict[str, tuple[str, ...]] = {
    KILL: (*_NAMED, *_MOVED[2:5], "ftruncate", "flock", "close", "copy_file_range", "sendfile"),
    "kill anywhere": (*_NAMED, *_MOVED),
    "EIO": (*_NAMED, *_MOVED),
    "ENOSPC": ("write", "pwrite64", "writev", "fsync", "fdatasync", "close", *_NAMED[:9], "ftruncate"),
    "EINTR": ("open", "openat", "read", "pread64", "write", "pwrite64", "writev", "fsync", "fdatasync", "flock"),
    "EMFILE": ("open", "openat", "creat"),
    "EROFS": _NAMED[:13],
    "EACCES": _NAMED,
}
Judged = dict[tuple[str, bool], list[str]]  # what is wrong, by the bytes that are left and whether all was told done
_ONLY_CHANGES = (KILL, "ENOSPC", "EROFS")


@dataclass(frozen=True)
class Share:
    """The part of one process: every n-th place of an operation, under one fault."""

    operation: str
    fault: str
    first: int
    step: int


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--faults", default=",".join(FITTING))
    words.add_argument("--operations", default="")
    words.add_argument("--without", default="", help="operations to leave out")
    words.add_argument("--outside", action="store_true", help="operations of `writers` instead of those on a store")
    words.add_argument("--every", type=int, default=1, help="kill or fail every n-th call of each operation")
    words.add_argument("--copies", action="store_true", help="copy what a kill would leave, instead of killing")
    words.add_argument("--jobs", type=int, default=2)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory(dir=quick_folder()) as folder:
        every = ",".join(operation.name for operation in (WRITERS if asked.outside else OPERATIONS))
        operations, faults = (asked.operations or every).split(","), asked.faults.split(",")
        operations = [name for name in operations if name not in asked.without.split(",")]
        if asked.copies:
            faults = [KILL]
            places, failures = run_copies(Path(folder), operations, asked.jobs, asked.every)
        else:
            places, failures = run(Path(folder), operations, faults, asked.jobs, asked.every)
    print("\n".join(failures))
    print(f"{places} places in {len(operations)} operations, {', '.join(faults)}: {len(failures)} failures")
    raise SystemExit(bool(failures))


def run(
    folder: Path, operations: Sequence[str], faults: Sequence[str], jobs: int = 2, every: int = 1
) -> tuple[int, list[str]]:
    """Return how many calls were killed or failed, and a line for each failure."""
    shares = [
        Share(name, fault, first * every, jobs * every)
        for name in operations for fault in faults for first in range(jobs)
    ]  # fmt: skip
    with environment():
        ready = partial(warm_child, folder, operations)
        done = by_processes(jobs, _strike_share, [folder] * len(shares), shares, ready=ready)
    return sum(places for places, _ in done), [line for _, lines in done for line in lines]


def run_copies(folder: Path, operations: Sequence[str], jobs: int = 2, every: int = 1) -> tuple[int, list[str]]:
    """Return how many calls were examined, and a line for each failure in what a kill there would leave."""
    with environment():
        count = len(operations)
        done = by_processes(jobs, _copy_share, [folder] * count, operations, [every] * count)
    return sum(places for places, _ in done), [line for _, lines in done for line in lines]


def copy(folder: Path, operation: Operation, every: int) -> tuple[int, list[str]]:
    """
    Copy the files before every n-th call, and judge the copies; return how many, and a line for each failure.

    A kill leaves what the calls before it wrote, and loses nothing that was written: the copies hold the same.
    """
    whole = Path(tempfile.mkdtemp(dir=folder))
    before = prepared(operation, whole / "before")
    root, seen, acknowledged = _copied(before, whole / "run"), list[Call](), list[str]()
    copies: dict[tuple[str, bool], tuple[str, Path]] = {}  # of those that are the same bytes the first
    untouched = _bytes_digest(before), False  # from which it is done just now

    def look(call: Call) -> None:
        if call.name == ACKNOWLEDGE:
            acknowledged.append("done")
        if not _fits(call, KILL):
            return
        seen.append(call)
        if (len(seen) - 1) % every:
            return
        if (key := (_bytes_digest(root), bool(acknowledged))) != untouched and key not in copies:
            copies[key] = f"call {len(seen) - 1}, {call.name}", _copied(root, whole / f"copy-{len(seen)}")

    ended = trace(lambda: told(lambda: operation.act(root), whole / "said"), root, look)
    known = operation.holds(before), operation.holds(root)
    failures = [] if not ended.code else [f"{operation.name}: ended with {ended.code}: {(whole / 'said').read_text()}"]
    for (_, done), (what, left) in copies.items():
        killed = Ended(-9, ("done",) if done else (), False)
        failures += [
            f"{operation.name}, killed before {what}: {text}" for text in _left(operation, left, killed, known)
        ]
    shutil.rmtree(whole)
    return -(-len(seen) // every), failures


def warm_child(folder: Path, operations: Sequence[str] = ()) -> None:
    """Prepare a process to fork children that have nothing to import."""
    warm(Path(tempfile.mkdtemp(dir=folder)), [KNOWN[name] for name in operations])


def strike(folder: Path, operation: Operation, share: Share) -> tuple[int, list[str]]:
    """Kill or fail each call of a share; return how many, and a line for each failure."""
    whole = Path(tempfile.mkdtemp(dir=folder))
    before = prepared(operation, whole / "before")
    copy = _copied(before, whole / "after")
    calls = _count(operation, copy, share.fault)
    known = operation.holds(before), operation.holds(copy)
    assert done_again(operation, copy) == known[1], f"{operation.name}: twice is not once"
    failures, places = [], range(share.first, calls, share.step)
    judged: Judged = {}
    for place in places:
        root = _copied(before, whole / "struck")
        failures += [
            f"{operation.name}, {share.fault} at {text}"
            for text in _struck(operation, root, share, place, known, judged)
        ]
        shutil.rmtree(root)
    shutil.rmtree(whole)
    return len(places), failures


def told_wrongly(fault: str, ended: Ended, said: str) -> list[str]:
    """Return what is wrong with how a command ended, and with what it printed."""
    if ended.hung:
        return ["it hung"]
    if fault.startswith(KILL):
        return [] if ended.code == -9 else [f"was not killed, but ended with {ended.code}: {said}"]
    if not 0 <= ended.code <= 9:
        return [f"exit code {ended.code}: {said}"]
    errors = [line for line in said.splitlines() if "error: " in line]
    if "Traceback" in said or (ended.code and len(errors) != 1):
        return [f"exit code {ended.code} and not one line of error: {said}"]
    return []


def _copy_share(folder: Path, name: str, every: int) -> tuple[int, list[str]]:
    with drawn_empty():
        return copy(folder, KNOWN[name], every)


def _strike_share(folder: Path, share: Share) -> tuple[int, list[str]]:
    places, failures = strike(folder, KNOWN[share.operation], share)
    print(f"{share.operation}, {share.fault}: {places} places, {len(failures)} failures", flush=True)
    return places, failures


def _copied(before: Path, root: Path) -> Path:
    return Path(shutil.copytree(before, root))


def _count(operation: Operation, root: Path, fault: str) -> int:
    calls: list[Call] = []
    ended = trace(lambda: told(lambda: operation.act(root), root.parent / "said"), root, _looking(fault, calls))
    assert ended.code == 0, (operation.name, ended, (root.parent / "said").read_text())
    return len(calls)


def _looking(fault: str, calls: list[Call]) -> Callable[[Call], None]:
    def look(call: Call) -> None:
        if _fits(call, fault):
            calls.append(call)

    return look


def _fits(call: Call, fault: str) -> bool:
    named_lock = call.name == "flock" or (call.name == "close" and call.paths[0].endswith(".lock"))
    return call.name in FITTING[fault] and (call.changes or named_lock or fault not in _ONLY_CHANGES)


def _struck(
    operation: Operation, root: Path, share: Share, place: int, known: tuple[State, State], judged: Judged
) -> list[str]:
    """Kill or fail one call; return what is wrong afterwards."""
    seen: list[Call] = []
    look = _looking(share.fault, seen)

    def judge(call: Call) -> Judgement:
        before = len(seen)
        look(call)
        if len(seen) == before or before != place:
            return None
        return Kill() if share.fault.startswith(KILL) else Fail(getattr(errno, share.fault))

    said = root.parent / "said"
    ended = trace(lambda: told(lambda: operation.act(root), said), root, judge)
    if len(seen) <= place:  # it took fewer calls than when they were counted, so nothing was struck: it is as it was
        whole = ended.code == 0 and operation.holds(root) == known[1]
        return [] if whole else [f"undisturbed, with {len(seen)} calls, it ended with {ended.code} or in another state"]
    what = f"call {place}, {seen[place].name} {[path.removeprefix(str(root)) for path in seen[place].paths]}"
    wrong = [
        *told_wrongly(share.fault, ended, said.read_text() if said.exists() else ""),
        *_judged(operation, root, ended, known, judged),
    ]
    return [f"{what}: {text}" for text in wrong]


def _judged(operation: Operation, root: Path, ended: Ended, known: tuple[State, State], judged: Judged) -> list[str]:
    """Return what is wrong with the remaining files; equal bytes are judged once, since most faults change nothing."""
    key = _bytes_digest(root), bool(ended.acknowledged)
    if key not in judged:
        judged[key] = _left(operation, root, ended, known)
    return judged[key]


def _bytes_digest(root: Path) -> str:
    told = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        told.update(f"{path.relative_to(root)}\0".encode())
        told.update(path.read_bytes() if path.is_file() else b"folder")
    return told.hexdigest()


def _left(operation: Operation, root: Path, ended: Ended, known: tuple[State, State]) -> list[str]:
    before, after = known
    try:
        left = operation.holds(root)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
        return [f"what is left does not read: {type(error).__name__}: {error}"]
    if not operation.is_either(left, before, after):
        return ["what is left is neither as before nor as after"]
    if ended.acknowledged and left != after:
        return ["what was acknowledged is not there"]
    if left == after and not left_behind(operation, root):
        return []  # `strike` has seen that twice is once
    try:
        again = done_again(operation, root)
    except (Exception, SystemExit) as error:  # noqa: BLE001
        return [f"doing it again failed: {type(error).__name__}: {error}"]
    if again != after:
        return ["doing it again did not end as if nothing had happened"]
    return left_behind(operation, root)


if __name__ == "__main__":
    main()
