"""The operations on a store that are killed, failed and interrupted, and the state that has to survive."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from market import minute_bars, span_of_sessions
from tracer import acknowledge

from backtest.cli.app import main as command_line
from backtest.errors import BacktestError, DataError
from backtest.market.bars import rows_digest
from backtest.market.series import Series
from backtest.sources.files.export import write_bars
from backtest.store.audit.repairs import repair
from backtest.store.audit.verification import verify
from backtest.store.publishing import publish
from backtest.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

MINUTES, DAILY, OTHER = (Series.parse(text) for text in ("AAPL/5mins", "AAPL/1day", "MSFT/1day"))
State = dict[str, Any]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Operation:
    """
    An operation on a store in which `before` was done; repeating it changes nothing.

    `sweeps` says whether it removes what others left behind. A publication does not: another one may still need it.
    `state` returns the state that it concerns, if that is not a store, and `left` the leftovers. `between` says whether
    it may leave a state other than those before and after.
    """

    name: str
    before: Callable[[Path], object]
    act: Callable[[Path], object]
    sweeps: bool = True
    state: Callable[[Path], State] | None = None
    left: Callable[[Path], list[str]] | None = None
    between: Callable[[State, State, State], bool] | None = None

    def holds(self, root: Path) -> State:
        """Return the whole state that it concerns, read with all checks; raise if anything is not intact."""
        return (self.state or state)(root) if any(root.iterdir()) else {}

    def is_either(self, found: State, before: State, after: State) -> bool:
        """Return whether the operation may leave this state."""
        return found in (before, after) or (self.between is not None and self.between(found, before, after))


def state(root: Path) -> State:
    """Return the whole content of a store, read with all checks; raise if anything is not intact."""
    store, held = Store(root), {}
    for series in store.series():
        manifest, folder = store.manifest_or_empty(series), store.folder(series)
        rows = rows_digest(store.read(series)) if manifest.rows else ""
        put_aside = {_digest(path) for path in folder.glob("quarantine/[!.]*.parquet")}
        for segment in manifest.archived:
            data = (folder / "archive" / segment.file).read_bytes()
            assert hashlib.sha256(data).hexdigest() == segment.sha256, f"archive/{segment.file} is not what it was"
        archived = {segment.rows_sha256 for segment in manifest.archived}
        if rows or put_aside or archived or manifest.answers:  # a series is born empty: that is as if it were not
            held[str(series)] = rows, put_aside, archived, manifest.coverage
    return held


def litter(root: Path) -> list[str]:
    """Return the files that no reader needs: unfinished ones, and segments that no manifest names."""
    known = {*root.rglob(".lock"), *root.rglob(".gitattributes"), *root.rglob("manifest.json")}
    for mark in root.rglob("STORE.json"):
        store = Store(mark.parent)
        known.add(mark)
        for series in store.series():
            folder, manifest = store.folder(series), store.manifest_or_empty(series)
            known |= set(folder.glob("quarantine/[!.]*"))
            known |= {folder / "bars" / segment.file for segment in manifest.segments}
            known |= {folder / "archive" / segment.file for segment in manifest.archived}
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path not in known)


def left_behind(operation: Operation, root: Path) -> list[str]:
    """Return a line for each file that an operation should have removed."""
    return [f"left {path}" for path in (operation.left or litter)(root)] if operation.sweeps else []


def told(act: Callable[[], object], said: Path) -> int:
    """Act as the command line does: a known error gives a line in `said` and an exit code; success is acknowledged."""
    with said.open("w") as lines:
        os.dup2(lines.fileno(), 1)
        os.dup2(lines.fileno(), 2)
    try:
        act()
    except BacktestError as error:
        return _told(str(error), error.exit_code)
    except OSError as error:
        return _told(str(error), 1)
    acknowledge("done")
    return 0


def prepared(operation: Operation, root: Path) -> Path:
    """Do, silently and in this process, what precedes an operation, and return the folder."""
    with _unseen():
        operation.before(root)
    return root


def done_again(operation: Operation, root: Path) -> State:
    """Repeat an operation, silently and in this process, and return its state afterwards."""
    with _unseen():
        operation.act(root)
    return operation.holds(root)


@contextlib.contextmanager
def _unseen() -> Iterator[None]:
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


def warm(folder: Path, operations: Sequence[Operation] = ()) -> None:
    """Do every operation once, so that children forked from here have nothing to import."""
    for place, operation in enumerate(operations or OPERATIONS):
        done_again(operation, prepared(operation, folder / f"warm-{place}"))
    gc.freeze()  # a child that collects garbage would copy all that it shares with its parent


def by_processes(
    jobs: int, work: Callable[..., Result], *columns: Iterable[Any], ready: Callable[[], object] | None = None
) -> list[Result]:
    """Return the result of `work` for each row of the columns, from a pool of `jobs` processes, or from this one."""
    if jobs == 1:
        if ready is not None:
            ready()
        return list(map(work, *columns))
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=ready) as pool:
        return list(pool.map(work, *columns))


def quick_folder() -> str | None:
    """Return a folder in memory if there is one: kills and errors are the same there, and syncs cost nothing."""
    return next((folder for folder in ("/dev/shm",) if os.access(folder, os.W_OK)), None)


@contextlib.contextmanager
def environment() -> Iterator[None]:
    """Keep numpy from starting threads, which a fork would lose, in every process started inside the block."""
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    yield
    os.environ.pop("OPENBLAS_NUM_THREADS")
    if before is not None:
        os.environ["OPENBLAS_NUM_THREADS"] = before


def write(root: Path, series: Series, first: str, last: str, seed: int = 7, **words: Any) -> None:
    """Write made-up bars into the store as the answer for the sessions from the first date to the last."""
    Store(root).write(
        series, span_of(series, first, last), bars_of(series, first, last, seed), source="market", **words
    )


@cache
def bars_of(series: Series, first: str, last: str, seed: int = 7) -> pa.Table:
    return minute_bars(series, date.fromisoformat(first), date.fromisoformat(last), seed)


@cache
def span_of(series: Series, first: str, last: str) -> Any:
    return span_of_sessions(series, date.fromisoformat(first), date.fromisoformat(last))


# --- the operations


def _nothing(root: Path) -> None:
    root.mkdir()


def _two_sessions(root: Path) -> None:
    write(root, MINUTES, "2024-01-30", "2024-01-31")


def two_months(root: Path) -> None:
    write(root, MINUTES, "2024-01-30", "2024-02-02")
    write(root, DAILY, "2024-01-02", "2024-02-02")


def _revised(root: Path) -> None:
    two_months(root)
    write(root, MINUTES, "2024-01-30", "2024-01-31", seed=8, revise=True)


def _strays(root: Path) -> None:
    _two_sessions(root)
    folder = Store(root).folder(MINUTES)
    (folder / "bars" / "2024-01.0123456789ab.parquet").write_bytes(b"PAR1 half a segm")
    (folder / ".tmp-4194304-1-manifest.json").write_bytes(b"{")  # of a process that cannot be


def revise(root: Path) -> None:
    write(root, MINUTES, "2024-01-30", "2024-02-01", seed=8, revise=True)


def quarantine(root: Path) -> None:
    span, bars = (of(MINUTES, "2024-02-01", "2024-02-02") for of in (span_of, bars_of))
    Store(root).quarantine(MINUTES, span, bars, "the vendor said 420")
    _two_sessions(root)  # nothing new: a write, which sweeps


def _read_anew(root: Path) -> None:
    write(Store(root).staging().root, MINUTES, "2024-01-30", "2024-02-02", seed=9)
    Store(root).replace(MINUTES, Store(root).staging())
    Store(root).staging().drop(MINUTES)


def _import(root: Path) -> None:
    """Import a file beside the store, through the command line."""
    file = root.parent / f"{root.name}.csv"
    if not file.exists():
        write_bars(bars_of(MINUTES, "2024-02-01", "2024-02-02"), str(file), MINUTES)
    command("import", str(file), str(MINUTES), "--store", str(root))


def _first_time(root: Path) -> None:
    root.mkdir()
    _mine(root)


def _once_published(root: Path) -> None:
    mine = root.parent / f"{root.name}-mine"
    write(mine, MINUTES, "2024-01-30", "2024-02-02")
    publish(Store(mine), root.as_uri())


def _publish(root: Path) -> None:
    """Publish a store beside the folder into it: what was published before, and a week more."""
    publish(_mine(root), root.as_uri())


def _mine(root: Path) -> Store:
    mine = root.parent / f"{root.name}-mine"
    write(mine, MINUTES, "2024-01-30", "2024-02-02")
    write(mine, MINUTES, "2024-02-05", "2024-02-06")
    return Store(mine)


def command(*words: str) -> None:
    """Run a command; end the process as the command does, unless it succeeded."""
    try:
        command_line(list(words))
    except SystemExit as ended:
        if ended.code:
            raise


def _prune(root: Path) -> None:
    command("prune", str(MINUTES), "--store", str(root))


def _download(root: Path) -> None:
    """Download from a folder of files beside the store, through the command line."""
    folder = root.parent / f"{root.name}-files"
    if not folder.exists():
        folder.mkdir()
        write_bars(bars_of(MINUTES, "2024-01-30", "2024-02-02"), str(folder / "AAPL_5mins.csv"), MINUTES)
    source = ("--source", f"csv:{folder}", "--since", "2024-01-30", "--until", "2024-02-02")
    command("download", str(MINUTES), *source, "--store", str(root))


def _damaged(root: Path) -> None:
    two_months(root)
    revise(root)
    first = min((Store(root).folder(MINUTES) / "bars").iterdir())
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.write_bytes(data)
    (Store(root).folder(MINUTES) / ".tmp-4194304-1-manifest.json").write_bytes(b"{")
    (root / "STORE.json").unlink()


def _repair(root: Path) -> None:
    list(repair(root, list(verify(root))))


def _found(root: Path) -> State:
    """Return what is damaged or missing in a store, by series and kind, and the bars of each intact series."""
    every = [(verdict.series, one) for verdict in verify(root) for one in verdict.findings if one.level != "note"]
    found = {f"{series} {one.check}" for series, one in every}  # what a kill left is a note
    bars = {}
    for series in (MINUTES, DAILY):
        try:
            bars[str(series)] = rows_digest(Store(root).read(series))
        except DataError:  # it has no mark, or is damaged
            bars[str(series)] = ""
    return {"found": sorted(found), "bars": bars}


def _in_part(left: State, before: State, after: State) -> bool:
    """Return whether a state is that of a partial repair."""
    known = {*before["found"], *after["found"]}
    bars = all(rows in (before["bars"][one], after["bars"][one]) for one, rows in left["bars"].items())
    return bars and known >= {*left["found"]}


OPERATIONS = (
    Operation("create", _nothing, _two_sessions),
    Operation("append", _two_sessions, lambda root: write(root, MINUTES, "2024-02-01", "2024-02-01")),
    Operation("append to a file", two_months, lambda root: write(root, DAILY, "2024-02-05", "2024-02-06")),
    Operation("backfill", two_months, lambda root: write(root, MINUTES, "2023-12-29", "2024-01-29")),
    Operation("nothing new", _two_sessions, _two_sessions),
    Operation("none there", _two_sessions, lambda root: write_none(root, "2024-01-02", "2024-01-05")),
    Operation("another series", _two_sessions, lambda root: write(root, OTHER, "2024-01-02", "2024-01-05")),
    Operation("revise", two_months, revise),
    Operation("revise again", _revised, lambda root: write(root, MINUTES, "2024-01-31", "2024-01-31", 9, revise=True)),
    Operation("quarantine", _two_sessions, quarantine),
    Operation("remove strays", _strays, lambda root: write(root, MINUTES, "2024-02-01", "2024-02-01")),
    Operation("read anew", two_months, _read_anew),
    Operation("import", _two_sessions, _import),
    Operation("publish", _first_time, _publish, sweeps=False),
    Operation("publish more", _once_published, _publish, sweeps=False),
    Operation("prune", _revised, _prune),
    Operation("download", _nothing, _download),
    Operation("download more", _two_sessions, _download),
    Operation("repair", _damaged, _repair, state=_found, between=_in_part),
)


def write_none(root: Path, first: str, last: str) -> None:
    """Record, in the store, that the vendor has no bars there."""
    Store(root).write(MINUTES, span_of(MINUTES, first, last), bars_of(MINUTES, first, last).slice(0, 0), text="no data")


def _told(text: str, code: int) -> int:
    print(f"error: {text}", file=sys.stderr, flush=True)
    return code


def _digest(path: Path) -> str:
    import pyarrow.parquet as pq

    return rows_digest(pq.ParquetFile(path, pre_buffer=False).read(use_threads=False))
