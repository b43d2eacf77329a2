"""The layout of a store's folder: the mark of a store, the files of a series, and files that do not belong to it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from backtest._system import is_there, list_patiently
from backtest.errors import BadStore, DamagedStore
from backtest.store.files import (
    TEMPORARY,
    Unreadable,
    locked,
    make_folders,
    read_if_any,
    sync_folder,
    unreadable,
    write_file,
)
from backtest.store.manifest import CHANGED_LINES, FORMAT, Manifest, Segment
from backtest.store.manifest_json import unix_lines

MARK = "STORE.json"
"""The file that makes a folder a store, and says its format."""

MARKS = {1: b'{"format": 1}', 2: b'{"format": 2, "what": "bars of ib-backtest"}\n'}  # no flipped byte makes another
LARGEST_MARK = 4096  # bytes of it
ATTRIBUTES = ".gitattributes"
"""The file that has Git leave the bytes of a store alone: with `core.autocrlf` it writes other ends of lines."""

_AS_THEY_ARE = b"* -text\n"


def format_of(root: Path) -> int | None:
    """
    Return the format of the store in a folder, None if there is none yet.

    Raises:
        BadStore: the folder holds something else, or a store of a later version.
        DamagedStore: the mark cannot be read.
    """
    mark = root / MARK
    data = read_if_any(mark, LARGEST_MARK)
    if data is None and root.exists() and not _is_empty(root):
        data = read_if_any(mark, LARGEST_MARK)  # by now: another process may be beginning it, the mark before the bars
        if data is None:
            raise BadStore(f"{root} is not a store (it has no {MARK}); name another folder with --store")
    if data is None:
        return None
    for number, text in MARKS.items():
        if data == text:
            return number
    if (number := format_in(data)) > FORMAT:
        raise BadStore(
            f"{mark} has format {number}, but this version reads format {FORMAT}; install a newer ib-backtest"
        )
    if unix_lines(data) in MARKS.values():
        raise DamagedStore(f"{mark} {CHANGED_LINES}")
    raise DamagedStore(f"{mark} cannot be read; it should say {MARKS[FORMAT].decode().strip()}")


def mark_store(root: Path) -> None:
    """Mark a folder as a store of the newest format, before anything else is written into it."""
    if format_of(root) == FORMAT:
        return
    root.mkdir(parents=True, exist_ok=True)
    with locked(root / ".lock"):
        if format_of(root) != FORMAT:
            write_mark(root)
        make_folders(root, root)
        sync_folder(root)
        for leftover in root.glob(f"{TEMPORARY}*"):
            leftover.unlink(missing_ok=True)


def write_mark(root: Path) -> None:
    """Write Git's attributes for a store, unless the user has such a file, then the mark of the newest format."""
    write_attributes(root)
    write_file(root / MARK, MARKS[FORMAT])


def write_attributes(root: Path) -> None:
    """Make Git keep the bytes of a store unchanged, unless the user configured something else."""
    if not is_there(root / ATTRIBUTES):
        write_file(root / ATTRIBUTES, _AS_THEY_ARE)


def format_in(data: bytes) -> int:
    """Return the format in a mark; 0 if it has none."""
    try:
        number = json.loads(data)["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0
    return number if type(number) is int else 0


def _is_empty(folder: Path) -> bool:
    # What a writer that was killed left behind does not count.
    left = (TEMPORARY, ".lock", ATTRIBUTES)
    return folder.is_dir() and all(path.name.startswith(left) for path in folder.iterdir())


def instruments_in(root: Path) -> list[str]:
    """
    Return the names of the folders that look like instruments.

    Raises:
        Unreadable: the root cannot be read.
    """
    return [name for name in _names(root, folders=True) if not name.startswith(".")]


def folders_of_series(root: Path, instruments: Iterable[str] | None = None) -> list[Path]:
    """
    Return the folders that look like series, without those that another process removes meanwhile.

    Args:
        instruments: names of folders, to search only these.

    Raises:
        Unreadable: a folder above them cannot be read.
    """
    folders = [root / name for name in (instruments_in(root) if instruments is None else instruments)]
    for _ in range(3):
        folders = [inside for folder in folders for inside in _entries(folder, folders=True)]
    return [one for one in folders if _may_be_of_series(one)]


def _may_be_of_series(folder: Path) -> bool:
    """Return whether a folder looks like that of a series; one that cannot be read does."""
    try:
        return folder / "manifest.json" in _entries(folder, folders=False) or has_segments(folder)
    except Unreadable:
        return True


def has_segments(folder: Path) -> bool:
    """Return whether the folder of a series contains bars."""
    return any(path.suffix == ".parquet" for path in _entries(folder / "bars", folders=False))


def strays(folder: Path, manifest: Manifest) -> list[Path]:
    """Return the files that killed writers left in the folder of a series."""
    stored, archived = names_of(manifest.segments), names_of(manifest.archived)
    return [
        *(path for path in files_in(folder / "bars") if path.name not in stored),
        *(path for path in files_in(folder / "archive") if path.name not in archived),
        *(path for path in files_in(folder) if path.name.startswith(TEMPORARY)),
    ]


def files_in(folder: Path) -> list[Path]:
    """Return the files in a folder by name; none if there is no folder."""

    def names() -> list[str]:
        with os.scandir(folder) as entries:
            return sorted(one.name for one in entries if not one.is_dir(follow_symlinks=False))

    try:
        return [folder / name for name in list_patiently(names)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def names_of(segments: Iterable[Segment]) -> set[str]:
    """Return the names of the files of segments."""
    return {segment.file for segment in segments}


def _entries(folder: Path, *, folders: bool) -> list[Path]:
    """Return the content of a folder, or only its subfolders; nothing if it does not exist."""
    return [folder / name for name in _names(folder, folders=folders)]


def _names(folder: Path, *, folders: bool) -> list[str]:
    def names() -> list[str]:
        with os.scandir(folder) as entries:
            return [one.name for one in entries if not folders or one.is_dir()]

    try:
        return list_patiently(names)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as error:
        raise unreadable(folder, error) from error
