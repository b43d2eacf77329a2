"""
Check the harness itself: it has to detect each of several writers that are careless on purpose.

Run:  python tests/soak/controls.py

The writer is the store's own, but the system under it does less than it claims: it syncs nothing, syncs no folders, or
moves a file by copying it. The script also checks that the tracer kills, fails and shortens calls, in threads too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import every_call
import power_cuts
from operations import OPERATIONS, Operation, environment, quick_folder, warm
from tracer import Call, Ended, Fail, Judgement, Kill, Shorten, trace

APPEND = next(operation for operation in OPERATIONS if operation.name == "append")


def main() -> None:
    with environment(), tempfile.TemporaryDirectory(dir=quick_folder()) as folder:
        warm(Path(folder))
        for name, (found, wanted) in {**tracer(Path(folder)), **careless(Path(folder))}.items():
            print(f"{name}: {found[:200]}")
            assert wanted in found, f"{name}: {wanted!r} was to be found"
    print("all as it should be")


def careless(folder: Path) -> dict[str, tuple[str, str]]:
    """Return, for each careless system, what the harness finds and what it has to find."""
    nothing_synced = _on(APPEND, "fsync", lambda descriptor: None)
    no_folder_synced = _on(APPEND, "fsync", _sync_file)
    copied = _on(_on(APPEND, "replace", _copy), "rename", _copy)
    share = every_call.Share("", every_call.KILL, 0, 1)
    return {
        "syncs nothing, order": (_all(power_cuts.in_order(_made(folder), [nothing_synced])[1]), "content of"),
        "syncs no folder, order": (_all(power_cuts.in_order(_made(folder), [no_folder_synced])[1]), "the name"),
        "syncs nothing, power cut": (_all(power_cuts.run(_made(folder), [nothing_synced], 400, 7)[1]), "Damaged"),
        "moves by copying, kill": (_all(every_call.strike(_made(folder), copied, share)[1]), "does not read"),
        "careful, order": (_all(power_cuts.in_order(_made(folder), [APPEND])[1]), "nothing"),
        "careful, power cut": (_all(power_cuts.run(_made(folder), [APPEND], 400, 7)[1]), "nothing"),
        "careful, kill": (_all(every_call.strike(_made(folder), APPEND, share)[1]), "nothing"),
    }


def tracer(folder: Path) -> dict[str, tuple[str, str]]:
    """Return, for each capability of the tracer, the outcome and the expected outcome."""
    root = _made(folder)
    return {
        "lets pass": (_told(_traced(root, lambda call: None), root), "ended with 0, file of 7 bytes"),
        "kills": (_told(_traced(root, _at("write", Kill())), root), "ended with -9, file of 0 bytes"),
        "fails": (_told(_traced(root, _at("write", Fail(errno.EIO))), root), "ended with 5, file of 0 bytes"),
        "fails a sync": (
            _told(_traced(root, _at("fsync", Fail(errno.ENOSPC))), root),
            "ended with 28, file of 7 bytes",
        ),
        "shortens": (_told(_traced(root, _at("write", Shorten(3))), root), "ended with 0, file of 3 bytes"),
        "ends what hangs": (str(trace(lambda: time.sleep(60), root, seconds=0.2).hung), "True"),
    }


def _traced(root: Path, judge: Callable[[Call], Judgement]) -> Ended:
    return trace(lambda: _in_a_thread(root / "file"), root, judge)


def _in_a_thread(path: Path) -> int:
    ended: list[int] = []

    def write() -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            os.write(handle, b"content")
            os.fsync(handle)
        except OSError as error:
            ended.append(error.errno)

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    return ended[0] if ended else 0


def _at(name: str, judgement: Judgement) -> Callable[[Call], Judgement]:
    return lambda call: judgement if call.name == name else None


def _told(ended: Ended, root: Path) -> str:
    return f"ended with {ended.code}, file of {(root / 'file').stat().st_size} bytes"


def _on(operation: Operation, name: str, careless: Callable[..., Any]) -> Operation:
    """Return the operation on a system in which another function replaces the one of that name."""

    def act(root: Path) -> None:
        with _instead(name, careless):
            operation.act(root)

    return replace(operation, act=act)


@contextlib.contextmanager
def _instead(name: str, careless: Callable[..., Any]) -> Iterator[None]:
    true = getattr(os, name)
    setattr(os, name, careless)
    try:
        yield
    finally:
        setattr(os, name, true)


def _sync_file(descriptor: int) -> None:
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.fdatasync(descriptor)


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    os.unlink(source)  # noqa: PTH108 - which may itself be another


def _made(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=folder))


def _all(found: list[str]) -> str:
    return f"{len(found)}: {'; '.join(found)}" if found else "nothing"


if __name__ == "__main__":
    main()
