"""
Files that outlive a kill and a power cut: written beside, synced, renamed, their folder synced.

Below the root of a store no symbolic link is followed: what a stranger packed could lead anywhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from backtest.errors import DamagedStore

TEMPORARY = ".tmp-"
_ASKED_AGAIN = 0.005  # seconds between two tries to lock a file, where the system cannot wait for it
# A link is refused, and a pipe in a file's place is not waited for; a system that lacks them has no such flag.
_SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class Unreadable(DamagedStore):
    """A file or folder that the disk or its rights keep from being read: what it holds is not known."""


def unreadable(path: object, error: OSError) -> Unreadable:
    """Return the error for a file or folder that cannot be read."""
    return Unreadable(f"{path} cannot be read ({error.strerror}); see to its rights and its disk")


def read_file(path: Path, limit: int) -> bytes:
    """
    Return what a file holds.

    Raises:
        FileNotFoundError: there is none.
        DamagedStore: it is a link or no file, or has more bytes than the limit.
    """
    try:
        with _naming(path), open(path, "rb", buffering=0, opener=opened_safely) as handle:
            status = os.fstat(handle.fileno())
            if status.st_size > limit:
                raise DamagedStore(f"{path} has {status.st_size:,} bytes, more than the {limit:,} that it may have")
            if stat.S_ISREG(status.st_mode):
                return handle.readall()
    except IsADirectoryError:
        pass
    raise DamagedStore(f"{path} is no plain file; remove it and restore the store from a backup")


def read_if_any(path: Path, limit: int) -> bytes | None:
    """
    Return what a file holds, None where there is none.

    Raises:
        DamagedStore: it is a link or no file, or has more bytes than the limit.
    """
    try:
        return read_file(path, limit)
    except (FileNotFoundError, NotADirectoryError):
        return None


def size_if_any(path: Path) -> int | None:
    """Return the bytes of a file, None where there is none, or where its folder does not say."""
    try:
        return path.lstat().st_size
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None


def write_file(path: Path, data: bytes, folder: Path | None = None) -> None:
    """
    Put a file in place, whole and on the disk, or not at all; its folder is not synced.

    Args:
        folder: where the unfinished file lies, if not beside: on the same disk.
    """
    beside = (folder or path.parent) / f"{TEMPORARY}{os.getpid()}-{threading.get_ident()}-{path.name}"
    try:
        with _naming(beside), open(beside, "wb", buffering=0, opener=opened_safely) as handle:
            _write_all(handle.fileno(), data)
            os.fsync(handle.fileno())
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def keep_file(path: Path, folder: Path, beside: Path) -> None:
    """Give a file a second name of the same spelling in a folder, in place of what has it there; not synced."""
    second = beside / f"{TEMPORARY}{os.getpid()}-{threading.get_ident()}-{path.name}"
    try:
        second.unlink(missing_ok=True)
        os.link(path, second, follow_symlinks=False)
        second.replace(folder / path.name)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
            raise
        write_file(folder / path.name, path.read_bytes(), beside)  # a disk without links
    finally:
        # Renaming one name of a file to another name of it does nothing, and leaves both.
        with contextlib.suppress(OSError):
            second.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with _naming(folder):
            os.fsync(handle)
    finally:
        os.close(handle)


def make_folders(folder: Path, root: Path) -> None:
    """
    Make a folder, and those between it and the root, each durable.

    All are synced, also those that were there: who made them may have been killed before he came to it.
    """
    missing = [path for path in root.parents if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in _between(root, folder):
        sync_folder(path.parent)
    for path in [root, *missing]:
        with contextlib.suppress(PermissionError):  # what we may not even list is another's, and was there before
            sync_folder(path.parent)


def refuse_links(folder: Path, root: Path) -> None:
    """Raise DamagedStore if the folder, or one between it and the root, is a link or a file; it may be missing."""
    for path in reversed(_between(root, folder)):
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISLNK(mode):
            raise _link(path)
        if not stat.S_ISDIR(mode):
            raise DamagedStore(f"{path} is no folder; remove it and restore the store from a backup")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """
    Hold the lock that a file stands for; the kernel frees it with the process, so it is never stale.

    Raises:
        FileNotFoundError: the folder of the file is gone, perhaps while we waited.
    """
    with _naming(path):
        handle = open(path, "wb", buffering=0, opener=opened_safely)  # noqa: SIM115
    with handle:
        take_lock(handle)
        if not os.path.samestat(os.fstat(handle.fileno()), path.lstat()):
            raise FileNotFoundError(errno.ENOENT, "the lock was removed while it was waited for", str(path))
        yield


def take_lock(handle: IO[Any], *, wait: bool = True) -> bool:
    """
    Lock an open file for this process alone until it is closed; the system frees it with the process, never stale.

    Not `filelock`: it asks again and again, so that of eight writers some wait for seconds while others pass. The
    kernel of Linux and macOS lets them in as they came. Windows has no such call for a file; there it is asked for.

    Args:
        wait: until whoever holds it lets go; False returns at once.

    Returns:
        Whether the lock is held now.
    """
    if sys.platform == "win32":
        return _take_byte(handle, wait)
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if sys.platform == "win32":

    def _take_byte(handle: IO[Any], wait: bool) -> bool:
        import msvcrt

        while True:
            handle.seek(0)
            try:
                msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EDEADLK):
                    raise
                if not wait:
                    return False
                time.sleep(_ASKED_AGAIN)
            else:
                return True


def opened_safely(path: str, flags: int) -> int:
    """Open as `open` asks its `opener` to: a link is refused, and a pipe in a file's place is not waited for."""
    return os.open(path, flags | _SAFE, 0o666)


def _write_all(handle: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]


def _between(root: Path, folder: Path) -> list[Path]:
    """Return the folder and its parents below the root, the deepest first."""
    below = len(folder.parts) - len(root.parts)
    return [folder, *folder.parents][:below]


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let an error say which file it is about; one of reading or syncing an open file does not by itself."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _link(path) from error
        if error.filename is None:
            error.filename = str(path)
        raise


def _link(path: Path) -> DamagedStore:
    return DamagedStore(f"{path} is a symbolic link, and a store has none; put the file or folder itself there")
