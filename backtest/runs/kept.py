"""The runs that are kept in a folder: list them, find one by its name, take one away."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from backtest._suggest import did_you_mean
from backtest.errors import UsageError
from backtest.runs.record import FILES, RunRecord

_PAGE = ("index.html", "metrics.json")


@dataclass(frozen=True, slots=True)
class Kept:
    """A run in its folder: its name below the folder of runs, and when it was kept."""

    name: str
    folder: Path
    at: datetime


def kept(root: str | Path) -> list[Kept]:
    """Return the runs in a folder and the folders below it, the newest first."""
    specs = Path(root).rglob("spec.json")
    found = [Kept(one.parent.relative_to(root).as_posix(), one.parent, _written(one)) for one in specs]
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
    RunRecord.load(folder)
    for name in (*FILES, *_PAGE):
        (folder / name).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def _written(spec: Path) -> datetime:
    return datetime.fromtimestamp(spec.stat().st_mtime, UTC)
