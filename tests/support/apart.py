"""Run work in a child process of its own, and say what it printed, how it ended and which files it wrote."""

from __future__ import annotations

import os
import pickle
import random
import resource
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

MEMORY = 6 << 30  # bytes of addresses, of which numpy and pandas reserve one
FILE = 1 << 28  # bytes of one written file
_MOMENT = 0.005  # seconds between two looks at a child


@dataclass(frozen=True)
class Ran:
    """What a child did: its print, how it ended ("" if well), what it told and the digests of the files it wrote."""

    printed: str
    ended: str
    told: Any
    files: dict[str, str]
    hung: bool = False


def apart(work: Callable[[], Any], folder: Path, seconds: float) -> Ran:
    """
    Run work of strangers in a child, in a folder, and return what became of it.

    The child has no network, a limit of time and of memory, and numbers by chance that are the same each time.

    Args:
        work: called in the child; what it returns is pickled and told.
        folder: in which the child works; files that it adds or changes there are listed, and removed.
        seconds: after which the child, and whatever it started, is killed.
    """
    before = _files(folder)
    with tempfile.TemporaryDirectory() as kept:
        child = os.fork()
        if not child:
            _be_the_child(work, folder, Path(kept))
        hung = not _ends_within(child, seconds)
        return Ran(
            _text(Path(kept, "printed")),
            f"it was stopped after {seconds:g} seconds" if hung else _text(Path(kept, "ended")),
            _told(Path(kept, "told")),
            _written(folder, before),
            hung,
        )


def _be_the_child(work: Callable[[], Any], folder: Path, kept: Path) -> None:
    ended = "it left without a word"
    try:
        os.setsid()  # so that its own children can be found
        _redirect(kept)
        _limit()
        os.chdir(folder)
        told = work()
        (kept / "told").write_bytes(pickle.dumps(told))
        ended = ""
    except SystemExit as error:
        ended = f"SystemExit: {error.code}" if error.code else ""
    except BaseException as error:  # noqa: BLE001 - whatever strangers raise is how the child ended
        ended = traceback.format_exception_only(error)[-1].strip()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        (kept / "ended").write_text(ended, "utf-8", "replace")
        os._exit(0)


def _redirect(kept: Path) -> None:
    sys.stdin = open(os.devnull)  # noqa: SIM115, PTH123 - for as long as the child lives
    for number, name in ((1, "printed"), (2, "warned")):
        os.dup2(os.open(kept / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
    sys.stdout = open(1, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
    socket.socket.connect = _no_network  # type: ignore[method-assign, assignment]
    socket.getaddrinfo = _no_network
    random.seed(1)
    np.random.seed(1)


def _no_network(*_: Any, **__: Any) -> Any:
    raise OSError("there is no network here")


def _ends_within(child: int, seconds: float) -> bool:
    """Wait for a child, and kill what is left of its session; return whether it ended by itself."""
    end = time.monotonic() + seconds
    while True:
        ended = os.waitpid(child, os.WNOHANG)[0] == child
        if ended or time.monotonic() > end:
            break
        time.sleep(_MOMENT)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    if not ended:
        os.waitpid(child, 0)
    return ended


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.exists() else ""


def _told(path: Path) -> Any:
    return pickle.loads(path.read_bytes()) if path.exists() else None


def _files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def _written(folder: Path, before: dict[Path, int]) -> dict[str, str]:
    fresh = [path for path, changed in _files(folder).items() if before.get(path) != changed]
    digests = {}
    for path in sorted(fresh):
        if "__pycache__" not in path.parts:
            digests[str(path.relative_to(folder))] = sha256(path.read_bytes()).hexdigest()
        path.unlink()
    return digests
