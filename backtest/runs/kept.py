"""The runs that are kept in a folder: list them, find one by its name, take one away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from backtest._suggest import did_you_mean
from backtest.errors import UsageError
from backtest.runs.record import FILES, RunRecord
from backtest.store.replacement import DECIDED, current, finish, is_bare, is_leftover, remove_if_bare, replace_files

_SPEC = "spec.json"
_PAGE = ("index.html", "metrics.json")


@dataclass(frozen=True, slots=True)
class Kept:
    """A run in its folder: its name below the folder of runs, and when it was kept."""

    name: str
    folder: Path
    at: datetime


def kept(root: str | Path) -> list[Kept]:
    """Return the runs in a folder and the folders below it, the newest first."""
    found = [Kept(folder.relative_to(root).as_posix(), folder, _written(folder)) for folder in _folders(Path(root))]
    return sorted(found, key=lambda run: (run.at, run.name), reverse=True)


def locate(root: str | Path, name: str) -> Path:
    """
    Return the folder of a run, named by its folder or by its name below the folder of runs; a beginning may do.

    Raises:
        UsageError: no run has that name, or several begin with it.
    """
    if Path(name).exists():
        return Path(name)
    names = {run.name: run.folder for run in kept(root)}
    fitting = [name] if name in names else [one for one in names if one.startswith(name) and name]
    if len(fitting) == 1:
        return names[fitting[0]]
    if fitting:
        raise UsageError(f"{len(fitting)} runs begin with {name!r}: {', '.join(sorted(fitting)[:5])}; name one")
    raise UsageError(f"no run {name!r} in {root}; see: backtest runs ls{did_you_mean(name, names, 3)}")


def remove(folder: Path) -> None:
    """
    Remove a kept run and its page; what else lies in its folder stays.

    Raises:
        BadStore: the folder holds no run.
    """
    if not _half_removed(folder):
        RunRecord.load(folder)
        replace_files(folder, {name: None for name in (*FILES, *_PAGE) if current(folder, name).exists()})
    finish(folder)
    remove_if_bare(folder)


def to_remove(root: str | Path, name: str) -> Path:
    """
    Return the folder of a run that is to be removed, as `locate` does; also one whose removal was stopped midway.

    Raises:
        UsageError: no run has that name, or several begin with it.
    """
    for folder in (Path(root) / name, Path(name)):
        if Path(root).resolve() in folder.resolve().parents and _half_removed(folder):
            return folder
    found = locate(root, name)
    if is_bare(found):
        RunRecord.load(found)  # which says that there is none: an empty folder elsewhere is not ours
    return found


def _folders(root: Path) -> Iterator[Path]:
    """Yield the folders that keep a run, also one that its process did not come to move up."""
    for folder in dict.fromkeys(_above(spec.parent) for spec in root.rglob("spec.json")):
        if not any(is_leftover(part) for part in folder.relative_to(root).parts) and current(folder, _SPEC).exists():
            yield folder


def _above(folder: Path) -> Path:
    return folder.parent if folder.name == DECIDED else folder


def _half_removed(folder: Path) -> bool:
    """Return whether a removal of a run was killed in a folder before its end."""
    if is_bare(folder):
        return True
    return (folder / DECIDED).is_dir() and not current(folder, _SPEC).exists()


def _written(folder: Path) -> datetime:
    return datetime.fromtimestamp(current(folder, _SPEC).stat().st_mtime, UTC)
