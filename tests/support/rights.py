"""
Take the rights to read away from files and folders, also from a root who may read whatever has none.

And the marks of tests that need what a Windows lacks.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

HAVE_RIGHTS = pytest.mark.skipif(sys.platform == "win32", reason="Windows takes no rights away by a mode")
HAVE_LINKS = pytest.mark.skipif(sys.platform == "win32", reason="Windows lets administrators alone make links")
HAVE_PIPES = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes in folders")
HAVE_GIT = pytest.mark.skipif(sys.platform == "win32" and not shutil.which("git"), reason="this Windows has no git")
HAVE_MAKE = pytest.mark.skipif(sys.platform == "win32" and not shutil.which("make"), reason="this Windows has no make")
_BYPASSES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH of Linux


@contextlib.contextmanager
def unreadable(path: Path, rights: int = 0) -> Iterator[None]:
    """Let nobody read a file or a folder meanwhile, not even root: it has no rights, or only those given."""
    mode = path.stat().st_mode
    path.chmod(rights)
    try:
        with _as_anybody():
            yield
    finally:
        path.chmod(mode)


@contextlib.contextmanager
def shown_by_no_disk(name: str) -> Iterator[None]:
    """Let the system fail with EIO, as for a damaged disk, when it is asked about a file of this name meanwhile."""

    def failing(ask: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def asked(path: Any, *words: Any, **options: Any) -> os.stat_result:
            if not isinstance(path, int) and Path(os.fsdecode(path)).name == name:
                raise OSError(errno.EIO, os.strerror(errno.EIO), os.fspath(path))
            return ask(path, *words, **options)

        return asked

    with mock.patch.object(os, "stat", failing(os.stat)), mock.patch.object(os, "lstat", failing(os.lstat)):
        yield


@contextlib.contextmanager
def _as_anybody() -> Iterator[None]:
    if sys.platform != "linux" or os.geteuid():
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    rights = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice 32 bits
    assert not libc.capget(header, rights)
    before = rights[0]
    rights[0] &= ~_BYPASSES
    assert not libc.capset(header, rights)
    try:
        yield
    finally:
        rights[0] = before
        assert not libc.capset(header, rights)
