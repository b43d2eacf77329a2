"""
`replace_file`, `staged`: replace files and folders as a whole, on disk before the old ones go.

Everything outside a store that replaces something goes through here: saved runs, sweeps, pages, baselines, pins, state
files, exports, new folders. A file is written to a temporary file, synced and renamed. The files of a folder are
created in a subfolder, which is renamed when all are on disk: from then on they count. `current` gives the path of each
until the process, or after a kill the next one that writes there, has moved them up.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, NoReturn

from backtest._system import (
    OPEN_FILES_STAY,
    is_there,
    opened_safely,
    patiently,
    put_in_place,
    remove_file,
    set_blocking,
    sync,
    take_lock,
    take_rights,
)
from backtest.errors import UsageError
from backtest.store.files import TEMPORARY, make_folders, sync_folder

Content = bytes | Callable[[IO[bytes]], object]  # of a file: its bytes, or what writes them

DECIDED = ".new"
"""The folder in which files lie that count already, in place of those of their names above."""

_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]+:"  # longer than the letter of a drive
_BEGUN = f"{TEMPORARY}new"  # the same before it counts
_LOCK = f"{TEMPORARY}lock"
_GONE = ".gone"  # the suffix of an empty file that marks one to be removed
_OURS = rf"(?s){re.escape(TEMPORARY)}\d+-\d+-(?P<name>.*)"
_LONGEST = 200  # bytes of a name, so that there is room for more before it
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # of a disk that knows none


def replace_file(path: str | Path, content: Content, *, folders: bool = False, named: bool = False) -> None:
    """
    Put a file in place, whole and on the disk, or not at all.

    It replaces anything of that name, even a link or a pipe: in a folder from elsewhere a link could lead to any file.

    Args:
        folders: whether to create missing folders above it.
        named: whether the user named this path. Then a link is followed and stays a link, and something that is not a
            file, such as a terminal or a pipe, is written to directly.

    Raises:
        OSError: it cannot be written, or it is a pipe without a reader.
        UsageError: it is a URL.
    """
    _refuse_url(path)
    if named and _is_special(path):
        with open(path, "wb", opener=_open_special) as handle:
            _fill(handle, content)
        return
    target = Path(os.path.realpath(path)) if named else Path(path)
    with _room(target.parent) if folders else contextlib.nullcontext():
        _sweep(target.parent, {_short(target.name)})
        while not _replaced(target, content):
            pass
        _sync_names(target.parent)


def replace_files(folder: Path, files: Mapping[str, Content | None]) -> None:
    """
    Put files into a folder, created if necessary: all of them at once or none; None removes one.

    Other files of the folder stay unchanged. `current` returns the path of each.
    """
    with staged(folder) as begun:
        for name, content in files.items():
            if content is None:
                (begun / f"{name}{_GONE}").touch()
                continue
            with (begun / name).open("xb") as handle:
                _fill(handle, content)


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """
    Yield an empty folder; when the block ends, its content counts at once as if it were in `folder`.

    It replaces files of the same names there. Nothing changes if the block raises.

    Raises:
        UsageError: the folder is a URL.
    """
    _refuse_url(folder)
    with _room(folder), _alone(folder):
        _finish(folder)
        begun = folder / _BEGUN
        _remove_tree(begun)
        try:
            begun.mkdir()
            yield begun
            _sync_tree(begun)
            _check_ways(begun, folder)
            patiently(lambda: begun.rename(folder / DECIDED))
        except BaseException:
            with contextlib.suppress(OSError):
                _remove_tree(begun)
            raise
        _sync_names(folder)
        _finish(folder)


def _refuse_url(path: str | Path) -> None:
    """Raise UsageError for a former URL: as a path, s3://BUCKET has lost a slash, and begins with a folder s3:."""
    first, *rest = Path(path).parts or ("",)
    if rest and re.fullmatch(_SCHEME, first):
        raise UsageError(f"{path} is a URL, which cannot be written; name a local folder or file")


def finish(folder: Path) -> bool:
    """
    Finish what a killed process began to replace, once it counts; return whether there was anything to finish.

    It moves up the files that the process had not moved, and removes the lock that it left.
    """
    if not (_is_folder(folder / DECIDED) or is_there(folder / _LOCK)):
        return False
    with _alone(folder):
        _finish(folder)
    return True


def current(folder: Path, name: str) -> Path:
    """Return the current path of a file of a folder; for a removed one a path that does not exist."""
    decided = folder / DECIDED
    if not _is_folder(decided):
        return folder / name
    known = any(is_there(decided / one) for one in (name, f"{name}{_GONE}"))
    return (decided if known else folder) / name


def version(folder: Path, names: Iterable[str]) -> tuple[object, ...]:
    """Return a value that changes when one of these files is replaced; between two equal values they are consistent."""
    return tuple(_identity(folder, name) for name in names)


def is_leftover(name: str) -> bool:
    """Return whether a name is that of unfinished work, perhaps of a killed process, which does not count."""
    return name.startswith(TEMPORARY)


def sweep_leftovers(folder: Path) -> None:
    """Remove the unfinished files of killed processes in a folder; those of living ones stay."""
    _sweep(folder, None)


def is_bare(folder: Path) -> bool:
    """Return whether a folder holds only what killed processes left."""
    return _is_folder(folder) and all(is_leftover(entry.name) for entry in folder.iterdir())


def remove_if_bare(folder: Path) -> bool:
    """Remove a folder that holds only what killed processes left; return whether it is gone."""
    try:
        if any(not is_leftover(entry.name) for entry in folder.iterdir()):
            return False
        for entry in folder.iterdir():
            if _is_folder(entry):
                _remove_tree(entry)
            else:
                entry.unlink(missing_ok=True)
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _is_special(path: str | Path) -> bool:
    with contextlib.suppress(OSError):
        mode = os.stat(path).st_mode  # noqa: PTH116 - of what a link leads to, which /dev/stdout is
        return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
    return False


def _open_special(path: str, flags: int) -> int:
    handle = os.open(path, (flags & ~(os.O_CREAT | os.O_TRUNC)) | getattr(os, "O_NONBLOCK", 0))
    set_blocking(handle, True)
    return handle


def _fill(handle: IO[bytes], content: Content) -> None:
    if isinstance(content, bytes):
        handle.write(content)
    else:
        content(handle)


def _replaced(target: Path, content: Content) -> bool:
    """Write a temporary file and put it in place; return False if another process removed it as a leftover."""
    beside = target.with_name(f"{TEMPORARY}{os.getpid()}-{threading.get_ident()}-{_short(target.name)}")
    try:
        with open(beside, "wb", opener=opened_safely) as handle:
            if not _held(handle, beside, wait=False):
                return False
            _fill(handle, content)
            handle.flush()
            take_rights(handle, target)
            sync(handle.fileno())
            if not OPEN_FILES_STAY:  # nor can they be renamed; elsewhere it is locked until it is in place
                beside.replace(target)
                return True
        put_in_place(beside, target)
    except BaseException as error:
        if isinstance(error, FileNotFoundError) and beside.parent.is_dir() and not beside.exists():
            return False
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(beside):
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise
    return True


def _held(handle: IO[bytes], path: Path, *, wait: bool) -> bool:
    """Lock a file, so that other processes see that it is in use; return whether it is still the one at its path."""
    try:
        take_lock(handle, wait=wait)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def _sweep(folder: Path, names: set[str] | None) -> None:
    """Remove the leftovers of killed processes for files of these names, or for all."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            ours = re.fullmatch(_OURS, entry.name)
            if ours and (names is None or ours["name"] in names) and entry.is_file(follow_symlinks=False):
                _remove_if_dead(folder / entry.name)


def _remove_if_dead(path: Path) -> None:
    with contextlib.suppress(OSError), open(path, "rb+", buffering=0, opener=opened_safely) as handle:
        if take_lock(handle, wait=False):
            _remove_open(path, handle)


@contextlib.contextmanager
def _room(folder: Path) -> Iterator[None]:
    """Create a folder and those above it, durably; remove those created if the block raises."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        if missing:
            make_folders(folder, folder)
        yield
    except BaseException:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time replace files in a folder; its lock file is removed afterwards."""
    path = folder / _LOCK
    while True:
        handle = open(path, "wb", buffering=0, opener=opened_safely)  # noqa: SIM115
        with _closed_if_it_raises(handle):
            if _held(handle, path, wait=True):
                break
        handle.close()
    try:
        yield
    finally:
        _remove_open(path, handle)


@contextlib.contextmanager
def _closed_if_it_raises(handle: IO[bytes]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        handle.close()
        raise


def _remove_open(path: Path, handle: IO[bytes]) -> None:
    """Remove a file that is open and locked, and close it; Windows removes none that is open."""
    if OPEN_FILES_STAY:
        handle.close()
    with contextlib.suppress(OSError):
        path.unlink()
    handle.close()


def _check_ways(begun: Path, folder: Path) -> None:
    """Raise IsADirectoryError if a folder has the name of a file to write."""
    for entry in begun.iterdir():
        place = folder / entry.name.removesuffix(_GONE)
        if _is_folder(place) and not _is_folder(entry):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(place))


def _finish(folder: Path) -> None:
    decided = folder / DECIDED
    if not _is_folder(decided):
        return
    for name in sorted(entry.name for entry in decided.iterdir()):
        if name.endswith(_GONE):
            remove_file(folder / name.removesuffix(_GONE), missing_ok=True)
            _sync_names(folder)
            remove_file(decided / name)
        else:
            put_in_place(decided / name, folder / name)
    _sync_names(folder)
    decided.rmdir()
    _sync_names(folder)


def _is_folder(path: Path) -> bool:
    """Return whether there is a folder, not a link to one: a link from elsewhere could lead anywhere."""
    return path.is_dir() and not path.is_symlink()


def _sync_tree(folder: Path) -> None:
    for place, _, names in os.walk(folder, topdown=False, onerror=_raise):
        for name in names:
            handle = opened_safely(str(Path(place) / name), os.O_RDWR)
            try:
                sync(handle)
            finally:
                os.close(handle)
        _sync_names(Path(place))


def _raise(error: OSError) -> NoReturn:
    raise error


def _sync_names(folder: Path) -> None:
    with contextlib.suppress(PermissionError):  # a folder that we may write into and not list
        sync_folder(folder)


def _remove_tree(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _identity(folder: Path, name: str) -> tuple[int, ...]:
    for _ in range(2):  # it may be moved up meanwhile
        with contextlib.suppress(OSError):
            status = current(folder, name).stat()
            return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
    return ()


def _short(name: str) -> str:
    """Return a name, or a replacement for one that is too long to be extended."""
    data = os.fsencode(name)
    return name if len(data) <= _LONGEST else hashlib.sha256(data).hexdigest()[:16]
