"""The runs that are kept in a folder: list them, find one by its name, label one, take one away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from backtest._suggest import did_you_mean
from backtest.errors import BadStore, DamagedStore, UsageError, reason
from backtest.runs.record import BESIDE, FILES, LABELS, RunRecord
from backtest.runs.spec import json_text
from backtest.store.documents import TEXT, keyed, list_of, read_document
from backtest.store.replacement import DECIDED, current, finish, is_bare, is_leftover, remove_if_bare, replace_files

_SPEC = "spec.json"
_LONGEST = 40  # characters of a tag


@dataclass(frozen=True, slots=True)
class Labels:
    """What its user says of a kept run."""

    tags: tuple[str, ...] = ()
    note: str = ""


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
        replace_files(folder, {name: None for name in (*FILES, *BESIDE) if current(folder, name).exists()})
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


def labels_of(run: RunRecord, folder: Path) -> Labels:
    """
    Return the tags and the note of a run in its folder; none where they were of a run that was there before.

    Raises:
        BadStore: they cannot be read.
    """
    try:
        kept = read_document(current(folder, LABELS), keyed({"run": TEXT, "tags": list_of(TEXT), "note": TEXT}))
    except FileNotFoundError:
        return Labels()
    except DamagedStore as error:
        path = folder / LABELS
        raise BadStore(f"{path} cannot be read ({reason(error)}); remove it, and tag the run again") from error
    return Labels(tuple(kept["tags"]), kept["note"]) if kept["run"] == run.name else Labels()


def tag(folder: Path, tags: Iterable[str]) -> Labels:
    """
    Add tags to those of a kept run, and return its labels.

    Raises:
        BadStore: the folder holds no run.
        UsageError: a tag is no word, or the folder cannot be written.
    """
    wanted = [_tag(one) for one in tags]
    return _label(folder, lambda before: replace(before, tags=tuple(dict.fromkeys([*before.tags, *wanted]))))


def untag(folder: Path, tags: Iterable[str]) -> Labels:
    """
    Take tags from a kept run, and return its labels.

    Raises:
        BadStore: the folder holds no run.
        UsageError: the run has no such tag, or the folder cannot be written.
    """
    wanted = list(tags)

    def without(before: Labels) -> Labels:
        for one in wanted:
            if one not in before.tags:
                raise UsageError(f"the run in {folder} has no tag {one!r}; {_has(before)}")
        return replace(before, tags=tuple(one for one in before.tags if one not in wanted))

    return _label(folder, without)


def note(folder: Path, text: str) -> Labels:
    """
    Keep a note with a kept run in place of what it had, none for an empty text, and return its labels.

    Raises:
        BadStore: the folder holds no run.
        UsageError: the folder cannot be written.
    """
    return _label(folder, lambda before: replace(before, note=" ".join(text.split())))


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


def _label(folder: Path, change: Callable[[Labels], Labels]) -> Labels:
    run = RunRecord.load(folder)
    labels = change(labels_of(run, folder))
    text = json_text({"run": run.name, "tags": list(labels.tags), "note": labels.note})
    try:
        replace_files(folder, {LABELS: f"{text}\n".encode()})
    except OSError as error:
        raise UsageError(f"no label can be written into {folder} ({error}); make it a folder of yours") from error
    return labels


def _tag(text: str) -> str:
    if not text or len(text) > _LONGEST or not text.isprintable() or any(one.isspace() or one == "," for one in text):
        raise UsageError(f"{text!r} is not a valid tag; write a word of {_LONGEST} characters at most, without commas")
    return text


def _has(labels: Labels) -> str:
    return f"it has {', '.join(labels.tags)}" if labels.tags else "it has none"
