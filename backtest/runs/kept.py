"""The saved runs in a folder: list, find, label, summarise and delete them."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from backtest._resources import own_source
from backtest._suggest import did_you_mean
from backtest._system import list_patiently, opened_safely, put_in_place, remove_file
from backtest.errors import BacktestError, BadStore, DamagedStore, UsageError, quoted, reason, unsaved
from backtest.runs.parameters import read_params
from backtest.runs.record import FILES, LABELS, SUMMARY, RunRecord, beside_in, files_of
from backtest.runs.spec import RunSpec, json_text, kept_spec
from backtest.store.documents import (
    LARGEST_DOCUMENT,
    TEXT,
    bytes_of,
    document_in,
    keyed,
    list_of,
    read_document,
    values_in,
)
from backtest.store.files import TEMPORARY
from backtest.store.replacement import (
    DECIDED,
    current,
    finish,
    is_bare,
    is_leftover,
    remove_if_bare,
    replace_files,
    sweep_leftovers,
)

FilesState = tuple[tuple[str, int, int], ...]  # of the files of a run: name, bytes, and when each was written

_SPEC = "spec.json"
_LARGEST = 1 << 20  # bytes; one has four thousand
_COMPACT = ",", ":"
_LONGEST = 40  # characters of a tag


@dataclass(frozen=True, slots=True)
class Labels:
    """The user's tags and note on a saved run."""

    tags: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """A saved run in its folder: its name below the folder of runs, and when it was saved."""

    name: str
    folder: Path
    at: datetime
    state: FilesState = field(default=(), compare=False, repr=False)  # of its files; () while they are being replaced
    has_labels: bool = field(default=True, compare=False, repr=False)  # or may have some


def kept(root: str | Path) -> list[Kept]:
    """Return the runs in a folder and the folders below it, newest first."""
    found = list(_kept_below(Path(root), ""))
    return sorted(found, key=lambda run: (run.at, run.name), reverse=True)


def locate(root: str | Path, name: str) -> Path:
    """
    Return the folder of a run, by its path or its name below the folder of runs; the beginning of a name is enough.

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
        raise UsageError(f"{len(fitting)} runs begin with {quoted(name)}: {', '.join(sorted(fitting)[:5])}; name one")
    raise UsageError(f"no run {quoted(name)} in {root}; see: backtest runs ls{did_you_mean(name, names, 3)}")


def remove(folder: Path) -> None:
    """
    Remove a saved run and its page; other files in its folder stay.

    Raises:
        BadStore: the folder holds no run.
    """
    if not _half_removed(folder):
        RunRecord.load(folder)
        files = [name for name in FILES if current(folder, name).exists()]
        replace_files(folder, dict.fromkeys([*files, *beside_in(folder)]))
    finish(folder)
    if SUMMARY in beside_in(folder):
        remove_file(folder / SUMMARY, missing_ok=True)  # which a removal by an earlier version leaves, if killed midway
    remove_if_bare(folder)


def to_remove(root: str | Path, name: str) -> Path:
    """
    Return the folder of a run to remove, as `locate` does; also one whose removal was interrupted.

    Raises:
        UsageError: no run has that name, or several begin with it.
    """
    for folder in (Path(root) / name, Path(name)):
        if Path(root).resolve() in folder.resolve().parents and _half_removed(folder):
            return folder
    found = locate(root, name)
    if is_bare(found):
        RunRecord.load(found)  # which says that there is no run: an empty folder elsewhere is not ours
    return found


def labels_of(run: RunRecord | RunSummary, folder: Path) -> Labels:
    """
    Return the tags and the note of the run in a folder; not those of an earlier run there.

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
    Add tags to those of a saved run, and return its labels.

    Raises:
        BadStore: the folder holds no run.
        UsageError: a tag is not a word, or the folder cannot be written.
    """
    wanted = [_tag(one) for one in tags]
    return _label(folder, lambda before: replace(before, tags=tuple(dict.fromkeys([*before.tags, *wanted]))))


def untag(folder: Path, tags: Iterable[str]) -> Labels:
    """
    Remove tags from a saved run, and return its labels.

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
    Set the note of a saved run, or remove it if the text is empty, and return its labels.

    Raises:
        BadStore: the folder holds no run.
        UsageError: the folder cannot be written.
    """
    return _label(folder, lambda before: replace(before, note=" ".join(text.split())))


def _kept_below(folder: Path, name: str) -> Iterator[Kept]:
    """
    Yield the runs in a folder and below it, including complete ones that a killed process had not moved up yet.

    A folder that cannot be read counts as a damaged run, since its content is unknown.
    """
    try:
        entries = _entries(folder)
        run = _kept_in(folder, name or ".", entries)
    except (FileNotFoundError, NotADirectoryError):  # it is gone meanwhile
        return
    except OSError:
        yield Kept(name or ".", folder, _moment_of_folder(folder))
        return
    if run is not None:
        yield run
    for entry in entries.values():
        if entry.is_dir(follow_symlinks=False) and entry.name != DECIDED and not is_leftover(entry.name):
            yield from _kept_below(folder / entry.name, f"{name}/{entry.name}" if name else entry.name)


def _entries(folder: Path) -> dict[str, os.DirEntry[str]]:
    """Return what a folder contains, by name."""

    def entries() -> dict[str, os.DirEntry[str]]:
        with os.scandir(folder) as found:
            return {entry.name: entry for entry in found}

    return list_patiently(entries)


def _kept_in(folder: Path, name: str, entries: Mapping[str, os.DirEntry[str]]) -> Kept | None:
    """Return the run in a folder with these entries, None if it holds none."""
    with suppress(FileNotFoundError):
        if DECIDED in entries and current(folder, _SPEC).exists():
            return Kept(name, folder, _moment(current(folder, _SPEC).stat().st_mtime))
        if DECIDED not in entries and _SPEC in entries:
            return Kept(name, folder, _moment(entries[_SPEC].stat().st_mtime), _state(entries), LABELS in entries)
    return None


def _moment_of_folder(folder: Path) -> datetime:
    try:
        return _moment(folder.lstat().st_mtime)
    except OSError:  # the folder above it cannot be read
        return _moment(0)


def _state(entries: Mapping[str, os.DirEntry[str]]) -> FilesState:
    statuses = [(name, entries[name].stat()) for name in FILES if name in entries]
    return tuple((name, status.st_size, status.st_mtime_ns) for name, status in statuses)


def state_of(folder: Path) -> FilesState:
    """Return the state of the files of a run: bytes and time of each; () while they are being replaced."""
    try:
        entries = _entries(folder)
        return () if DECIDED in entries else _state(entries)
    except OSError:
        return ()


def state_if_kept(run: RunRecord, folder: Path) -> FilesState:
    """Return the state of a run's files in its folder; () if another run was saved there meanwhile."""
    state = state_of(folder)
    with suppress(OSError, BacktestError):
        files = files_of(run)
        told = [bytes_of(folder / name, LARGEST_DOCUMENT) == files[name] for name in (_SPEC, "manifest.json")]
        return state if all(told) and state_of(folder) == state else ()
    return ()


def _half_removed(folder: Path) -> bool:
    """Return whether the removal of a run from a folder was interrupted."""
    if is_bare(folder):
        return True
    return (folder / DECIDED).is_dir() and not current(folder, _SPEC).exists()


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _label(folder: Path, change: Callable[[Labels], Labels]) -> Labels:
    run = RunRecord.load(folder)
    labels = change(labels_of(run, folder))
    text = json_text({"run": run.name, "tags": list(labels.tags), "note": labels.note})
    try:
        replace_files(folder, {LABELS: f"{text}\n".encode()})
    except OSError as error:
        raise unsaved("label", folder, error, "check who owns the folder") from error
    return labels


def _tag(text: str) -> str:
    if not text or len(text) > _LONGEST or not text.isprintable() or any(one.isspace() or one == "," for one in text):
        raise UsageError(f"{text!r} is not a valid tag; write a word of {_LONGEST} characters at most, without commas")
    return text


def _has(labels: Labels) -> str:
    return f"it has {', '.join(labels.tags)}" if labels.tags else "it has no tags"


# --- the summary of a run: it counts for the state of its files and for this very code, and else is made again


@dataclass(frozen=True, slots=True)
class RunSummary:
    """
    The summary of a run for lists.

    Attributes:
        name: the run's own name.
        seen: digests of its inputs by kind: see `differences.seen_of`.
        numbers: the metrics by name, NaN if undefined.
        reasons: why metrics are undefined, by name.
        words: the basis of the metrics, by the names of `Stats`.
    """

    name: str
    spec: RunSpec
    series: tuple[str, ...]
    seen: Mapping[str, str]
    numbers: Mapping[str, float]
    reasons: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_summary(folder: Path, state: FilesState) -> RunSummary | None:
    """Return the summary of a run whose files are in this state; None if there is none or it is not valid."""
    if not state:
        return None
    with suppress(OSError, BacktestError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        found = _document(bytes_of(folder / SUMMARY, _LARGEST))
        if found["of"] != [list(one) for one in state] or found["made_by"] != own_source():
            return None
        return RunSummary(
            found["run"],
            _spec_in(found["spec"]),
            tuple(found["series"]),
            found["seen"],
            {name: math.nan if value is None else float(value) for name, value in found["numbers"].items()},
            found["reasons"],
            found["words"],
            tuple(found["notes"]),
        )
    return None


def keep_summary(summary: RunSummary, folder: Path, state: FilesState) -> None:
    """Write the summary of a run whose files are in this state, if the folder can be written."""
    if not state:
        return
    numbers = {name: None if math.isnan(value) else value for name, value in summary.numbers.items()}
    document = {
        "made_by": own_source(),
        "run": summary.name,
        "of": [list(one) for one in state],
        "spec": summary.spec.flat,
        "series": list(summary.series),
        "seen": dict(summary.seen),
        "numbers": numbers,
        "reasons": dict(summary.reasons),
        "words": dict(summary.words),
        "notes": list(summary.notes),
    }
    beside = folder / f"{TEMPORARY}{os.getpid()}-{threading.get_ident()}-{SUMMARY}"
    with suppress(OSError):  # not synced: a summary damaged by a power cut is rebuilt
        sweep_leftovers(folder)
        try:
            with open(beside, "wb", opener=opened_safely) as handle:
                handle.write(f"{json.dumps(document, sort_keys=True, separators=_COMPACT)}\n".encode())
            put_in_place(beside, folder / SUMMARY)
        except BaseException:
            with suppress(OSError):
                remove_file(beside, missing_ok=True)
            raise


def _document(data: bytes) -> dict[str, Any]:
    """Return the content of a summary, or raise; it may contain escaped surrogate halves, which pages cannot hold."""
    found = document_in(data) if b"\\u" in data else values_in(data)
    if not (isinstance(found, dict) and isinstance(found["spec"], dict)):
        raise TypeError("it is no summary")
    texts = [found["run"], *found["series"], *found["notes"], *(found["seen"][name] for name in _SEEN)]
    texts += [*found["reasons"].values(), *(found["words"][name] for name in WORDS)]
    if not {*map(type, texts)} <= {str} or not {*map(type, found["numbers"].values())} <= {float, int, type(None)}:
        raise TypeError("it is no summary")
    return found


def _spec_in(flat: dict[str, Any]) -> RunSpec:
    """Return the spec from its flat form, cached: thousands of runs often differ only in their parameters."""
    params = flat.pop("params")
    return replace(_without_params(json.dumps(flat, sort_keys=True)), params=read_params(params))


@lru_cache(maxsize=256)
def _without_params(text: str) -> RunSpec:
    return kept_spec({**json.loads(text), "params": {}})


_SEEN = ("code", "bars")
WORDS = ("conventions", "extent", "currency", "unit")
"""What is kept of the words of `Stats`."""
