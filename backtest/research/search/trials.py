"""
`Trials`: every trial in a folder, saved as Parquet: parameters, metrics, returns.

A file holds the trials of a batch and never changes; its trials count as saved only when it is complete and on disk, so
that a kill loses only unfinished work. A duplicate trial counts once. Sessions equal to those of the previous trial are
not repeated: a trial with returns but without sessions has the sessions of the last one that has some.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest._system import remove_file
from backtest.errors import DamagedStore, unsaved
from backtest.market import arrays
from backtest.metrics.sharpe_tests import Blocks
from backtest.runs.kept_tables import read_parquet
from backtest.runs.parameters import kept_params, read_params
from backtest.store.documents import document_in
from backtest.store.files import make_folders, unreadable
from backtest.store.layout import files_in
from backtest.store.replacement import replace_file, sweep_leftovers

if TYPE_CHECKING:
    import pyarrow as pa

WITHOUT_RETURNS: dict[str, Any] = {"sessions": np.zeros(0, "datetime64[D]"), "returns": np.zeros(0)}  # to replace much
FOLDER = "trials"  # in that of the sweep
_ROWS_FOR_A_BYTE = 0.25  # at most: the key of a trial alone takes eight bytes, since no two are equal
_LISTS = ("sessions", "returns")
_TYPES = {  # all other columns are numbers
    **dict.fromkeys(("key", "case", "params", "window", "error"), "string"),
    "sessions": r"list<\w+: date32\[day\]>",
    "returns": r"list<\w+: double>",
}


@dataclass(frozen=True)
class Trial:
    """
    One set of parameters, and the outcome.

    `case` identifies its other inputs: code, bars, cash, costs. `window` is "" for all bars, or the first and the last
    session. A trial that failed has an error and no numbers.
    """

    key: str
    case: str
    params: dict[str, Any]
    window: str = ""
    metrics: dict[str, float] = field(default_factory=dict, compare=False)  # NaN where one is not defined
    error: str = ""
    sessions: np.ndarray = field(default_factory=lambda: np.zeros(0, "datetime64[D]"), compare=False)
    returns: np.ndarray = field(
        default_factory=lambda: np.zeros(0), compare=False
    )  # of each session, simple, after costs


def key_of(case: str, params: dict[str, Any], window: str = "") -> str:
    """Return the sixteen hex digits that identify a trial, the same on every machine."""
    text = _IN_ORDER.encode([case, kept_params(params, for_key=True), window])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_IN_ORDER = json.JSONEncoder(sort_keys=True)


class Trials:
    """
    The trials in a folder; several processes may add to it at once.

    Attributes:
        blocks: the statistics for the probability of overfitting, by key, of trials on all bars that were added here.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder) / FOLDER
        self.blocks: dict[str, Blocks] = {}
        self._known: dict[str, list[Trial]] = {}  # without returns, by the name of the file, which never changes
        self._made = False  # by this process: the one that created it may have been killed before syncing it

    def add(self, trials: Sequence[Trial]) -> Path:
        """
        Save trials, and return their file, which is on disk by then.

        Raises:
            UsageError: the folder cannot be written.
        """
        data = _bytes_of(trials)
        try:
            if not self._made:
                make_folders(self.folder, self.folder.parent)
                sweep_leftovers(self.folder)
                self._made = True
            path = self.folder / f"{hashlib.sha256(data).hexdigest()[:24]}.parquet"
            replace_file(path, data)
        except OSError as error:
            raise unsaved("trial", self.folder, error) from error
        self._known[path.name] = [replace(trial, **WITHOUT_RETURNS) for trial in trials]
        made = {trial.key: trial.returns for trial in trials if not trial.error and not trial.window}
        self.blocks |= _blocks_of(made)
        return path

    def forget(self, path: Path) -> list[str]:
        """Remove a file of trials, and return their keys."""
        keys: list[str] = _table_in(path, ["key"])["key"].to_pylist()
        remove_file(path)
        self.blocks = {key: blocks for key, blocks in self.blocks.items() if key not in keys}
        return keys

    def blocks_of(self, keys: Iterable[str]) -> dict[str, Blocks]:
        """
        Return the statistics for the probability of overfitting: computed from the returns of trials not added here.

        Raises:
            DamagedStore: a trial is missing.
        """
        wanted = list(keys)
        if not self.blocks.keys() >= set(wanted):
            for path in self._files():
                table = _table_in(path, ["key", "returns"])
                rows = zip(table["key"].to_pylist(), _arrays_of(table["returns"]), strict=True)
                left = set(wanted) - set(self.blocks)
                self.blocks |= _blocks_of({key: returns for key, returns in rows if key in left})
        if lost := len(set(wanted) - set(self.blocks)):
            raise DamagedStore(f"{lost:,} trials are missing from {self.folder}; sweep again to rerun them")
        return {key: self.blocks[key] for key in wanted}

    def read(self, keys: Iterable[str] | None = None, returns: bool = False) -> dict[str, Trial]:
        """
        Return trials by their keys: all, or those whose keys exist; without returns unless requested.

        Raises:
            DamagedStore: a file was changed after it was written.
        """
        wanted = None if keys is None else set(keys)
        found: dict[str, Trial] = {}
        for path in self._files():
            for trial in _trials_in(path, wanted) if returns else self._in_file(path):
                if wanted is None or trial.key in wanted:
                    found.setdefault(trial.key, trial)
        return found

    def _in_file(self, path: Path) -> list[Trial]:
        if path.name not in self._known:
            self._known[path.name] = _trials_in(path, returns=False)
        return self._known[path.name]

    def _files(self) -> list[Path]:
        try:
            inside = files_in(self.folder)
        except PermissionError as error:
            raise unreadable(self.folder, error) from error
        return [path for path in inside if path.suffix == ".parquet" and path.name[0] != "."]


def _bytes_of(trials: Sequence[Trial]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = dict.fromkeys(tuple(trial.metrics) for trial in trials)  # mostly one
    names = list(dict.fromkeys(name for kind in kinds for name in kind))
    table = pa.table(
        {
            "key": arrays.texts([trial.key for trial in trials]),
            "case": arrays.texts([trial.case for trial in trials]),
            "params": arrays.texts([json.dumps(kept_params(trial.params)) for trial in trials]),
            "window": arrays.texts([trial.window for trial in trials]),
            "error": arrays.texts([trial.error for trial in trials]),
            "sessions": _lists(arrays.days, list(_not_repeated([trial.sessions for trial in trials]))),
            "returns": _lists(arrays.floats, [trial.returns for trial in trials]),
            **{name: arrays.floats([trial.metrics.get(name, np.nan) for trial in trials]) for name in names},
        }
    )
    sink = io.BytesIO()
    repeated = ["case", "window", "error"]  # of numbers a dictionary would take longer, and more room
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True, use_dictionary=repeated)
    return sink.getvalue()


def _blocks_of(returns: Mapping[str, np.ndarray]) -> dict[str, Blocks]:
    """Return the blocks of returns by their keys, all of those of one length at once."""
    found: dict[str, Blocks] = {}
    for length in {len(one) for one in returns.values()}:
        alike = {key: one for key, one in returns.items() if len(one) == length}
        found |= dict(zip(alike, Blocks.of_each(np.column_stack(list(alike.values()))), strict=True))
    return found


def _not_repeated(sessions: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the sessions of each trial, or none if they equal those of the last trial that has some."""
    last = nothing = np.zeros(0, "datetime64[D]")
    for own in sessions:
        same = np.array_equal(own, last)
        yield nothing if same else own
        last = last if same or not len(own) else own


def _repeated(sessions: Sequence[np.ndarray], returns: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """
    Yield the sessions of each trial, including those that are not repeated in the file.

    Raises:
        ValueError: their number differs from that of the returns.
    """
    last = np.zeros(0, "datetime64[D]")
    for own, made in zip(sessions, returns, strict=True):
        last = own if len(own) else last
        found = last if len(made) else own
        if len(found) != len(made):
            raise ValueError(f"there are {len(found):,} sessions for {len(made):,} returns")
        yield found


def _lists(column: Any, values: list[np.ndarray]) -> pa.Array:
    import pyarrow as pa

    ends = np.cumsum([0, *map(len, values)], dtype=np.int32)
    flat = column(np.concatenate(values))
    kind = pa.list_(flat.type)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(ends)], children=[flat])


def _table_in(path: Path, columns: Sequence[str], left_out: bool = False) -> pa.Table:
    """Return these columns of a file, or all but these."""

    def choose(types: Mapping[str, str]) -> list[str]:
        for name, wanted in _TYPES.items():
            if not re.fullmatch(wanted, types.get(name, "")):
                raise ValueError(f"the column {name} is not there, or holds no {name}")
        if strange := [name for name in types if name not in _TYPES and types[name] != "double"]:
            raise ValueError(f"the column {strange[0]} holds no numbers")
        return [name for name in types if (name in columns) != left_out]

    try:
        table = read_parquet(path, choose, _ROWS_FOR_A_BYTE)
        for name in table.column_names:
            if name in _TYPES and table[name].null_count:
                raise DamagedStore(f"{path}: the column {name} lacks values")
        return table
    except (OSError, DamagedStore) as error:
        raise DamagedStore(
            f"{path} is not what was written ({error}); remove it and sweep again to rerun its trials"
        ) from error


def _trials_in(path: Path, wanted: set[str] | None = None, returns: bool = True) -> list[Trial]:
    table = _table_in(path, [] if returns else _LISTS, left_out=True)
    try:
        return _trials_of(table, wanted)
    except (ValueError, OverflowError) as error:
        raise DamagedStore(f"{path} is not what was written ({error}); remove it, and sweep again") from error


def _trials_of(table: pa.Table, wanted: set[str] | None) -> list[Trial]:
    """Return the trials of a table, or those of some keys."""
    texts = {name: table[name].to_pylist() for name in ("key", "case", "params", "window", "error")}
    known = {*texts, *_LISTS}
    numbers = {name: arrays.numbers(table[name]).tolist() for name in table.column_names if name not in known}
    lists = {name: _arrays_of(table[name]) for name in _LISTS if name in table.column_names}
    if lists:
        lists["sessions"] = list(_repeated(lists["sessions"], lists["returns"]))
    return [
        Trial(
            key=texts["key"][row],
            case=texts["case"][row],
            params=read_params(document_in(texts["params"][row])),
            window=texts["window"][row],
            metrics={} if texts["error"][row] else {name: values[row] for name, values in numbers.items()},
            error=texts["error"][row],
            **{name: values[row] for name, values in lists.items()},
        )
        for row in range(len(table))
        if wanted is None or texts["key"][row] in wanted
    ]


def _arrays_of(column: pa.ChunkedArray) -> list[np.ndarray]:
    kind = "datetime64[D]" if str(column.type.value_type).startswith("date") else "float64"
    found: list[np.ndarray] = []
    for chunk in column.chunks:
        values, ends = arrays.numbers(chunk.values).astype(kind), arrays.numbers(chunk.offsets).tolist()
        found += [values[start:end] for start, end in pairwise(ends)]
    return found
