"""
Files that survive a kill or a power cut: written to a temporary file, synced, renamed, their folder synced.

Below the root of a store no symbolic link is followed: in a store from elsewhere it could lead anywhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from backtest._system import (
    add_name,
    leads_elsewhere,
    opened_safely,
    put_in_place,
    remove_file,
    sync,
    sync_names,
    take_lock,
)
from backtest.errors import DamagedStore

TEMPORARY = ".tmp-"


class Unreadable(DamagedStore):
    """A file or folder cannot be read because of a disk error or missing permissions: its content is unknown."""


def unreadable(path: object, error: OSError) -> Unreadable:
    """Return the error for a file or folder that cannot be read."""
    return Unreadable(f"{path} cannot be read ({error.strerror}); check its permissions and the disk")


def read_file(path: Path | str, limit: int) -> bytes:
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
                raise DamagedStore(f"{path} has {status.st_size:,} bytes, more than the limit of {limit:,}")
            if stat.S_ISREG(status.st_mode):
                data = handle.read(status.st_size)  # in one step; by itself it would look for more
                return data if len(data) == status.st_size else data + handle.readall()
    except IsADirectoryError:
        pass
    raise DamagedStore(f"{path} is not a regular file; remove it and restore the store from a backup")


def read_if_any(path: Path | str, limit: int) -> bytes | None:
    """
    Return what a file holds, None if there is none.

    Raises:
        DamagedStore: it is a link or no file, or has more bytes than the limit.
    """
    try:
        return read_file(path, limit)
    except (FileNotFoundError, NotADirectoryError):
        return None


def size_if_any(path: Path) -> int | None:
    """Return the size of a file in bytes, None if there is none, or its folder cannot be read."""
    try:
        return path.lstat().st_size
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None


def write_file(path: Path, data: bytes, folder: Path | None = None) -> None:
    """
    Put a file in place, whole and on the disk, or not at all; its folder is not synced.

    Args:
        folder: the folder of the temporary file, on the same disk; by default that of the file.
    """
    beside = (folder or path.parent) / f"{TEMPORARY}{os.getpid()}-{threading.get_ident()}-{path.name}"
    try:
        with _naming(beside), open(beside, "wb", buffering=0, opener=opened_safely) as handle:
            _write_all(handle.fileno(), data)
            sync(handle.fileno())
        put_in_place(beside, path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def keep_file(path: Path, folder: Path, beside: Path) -> None:
    """Link a file under its own name into another folder, replacing a file of that name; not synced."""
    second = beside / f"{TEMPORARY}{os.getpid()}-{threading.get_ident()}-{path.name}"
    try:
        remove_file(second, missing_ok=True)
        if add_name(path, second):
            put_in_place(second, folder / path.name)
        else:
            write_file(folder / path.name, path.read_bytes(), beside)
    finally:
        # Renaming one name of a file to another name of it does nothing, and leaves both.
        with contextlib.suppress(OSError):
            second.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    with _naming(folder):
        sync_names(folder)


def make_folders(folder: Path, root: Path) -> None:
    """
    Create a folder, and those between it and the root, durably.

    All are synced, even existing ones: the process that created them may have been killed before syncing them.
    """
    missing = [path for path in root.parents if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in _between(root, folder):
        sync_folder(path.parent)
    for path in [root, *missing]:
        with contextlib.suppress(PermissionError):  # what we may not even list is another's, and was there before
            sync_folder(path.parent)


def refuse_links(folder: Path, root: Path, *inside: str) -> None:
    """Raise DamagedStore if a folder, one between it and the root, or one inside it is a link or a file."""
    path = str(root)
    for part in (*folder.parts[len(root.parts) :], *inside):
        path = f"{path}{os.sep}{part}"  # joined as texts: paths take most of the time of reading many series
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return
        if leads_elsewhere(status):
            raise _link(Path(path))
        if not stat.S_ISDIR(status.st_mode):
            raise DamagedStore(f"{path} is not a folder; remove it and restore the store from a backup")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """
    Hold the lock of a file; the kernel releases it with the process, so it is never stale.

    Raises:
        FileNotFoundError: the folder of the file is gone, perhaps while we waited.
    """
    with _naming(path):
        handle = open(path, "ab", buffering=0, opener=opened_safely)  # noqa: SIM115
    with handle:
        take_lock(handle)
        if not os.path.samestat(os.fstat(handle.fileno()), path.lstat()):
            raise FileNotFoundError(errno.ENOENT, "the lock was removed while it was waited for", str(path))
        yield


def _write_all(handle: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]


def _between(root: Path, folder: Path) -> list[Path]:
    """Return the folder and its parents below the root, the deepest first."""
    below = len(folder.parts) - len(root.parts)
    return [folder, *folder.parents][:below]


@contextlib.contextmanager
def _naming(path: Path | str) -> Iterator[None]:
    """Add the file's name to an error; errors of reading or syncing an open file lack it."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _link(path) from error
        if error.filename is None:
            error.filename = str(path)
        raise


def _link(path: Path | str) -> DamagedStore:
    return DamagedStore(
        f"{path} is a symbolic link, which a store must not contain; put the file or folder itself there"
    )
