"""
Kill a repair before each call that changes the disk: the next repair ends as an undisturbed one, and no bar is lost.

Run:  python tests/soak/killed_repairs.py

The store lacks STORE.json and a manifest, whose folder has an older segment beside the newer; it has a damaged and a
missing segment, a damaged archive, and leftovers. A child process is forked for each call, and kills itself before it.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import pyarrow.compute as pc
from market import minute_bars, span_of_sessions, store_with

from backtest.market.bars import schema
from backtest.market.series import Series
from backtest.store.audit.repairs import repair
from backtest.store.audit.verification import verify
from backtest.store.store import Store

MINUTES, DAILY = Series.parse("AAPL/1min"), Series.parse("IBM/1day")
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.link", "os.rmdir")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        print(f"killed before each of {run(Path(folder))} calls: 0 failures")


def run(folder: Path) -> int:
    """Kill repairs of the same store at each call; return how many calls there are; raise on any failure."""
    damage(folder / "damaged")
    shutil.copytree(folder / "damaged", folder / "undisturbed")
    mend(folder / "undisturbed")
    wanted, calls = state(folder / "undisturbed"), 0
    while True:
        place = folder / str(calls)
        shutil.copytree(folder / "damaged", place)
        killed = kill(place, calls)
        mend(place)
        assert state(place) == wanted, f"killed before call {calls}"
        if not killed:
            return calls
        calls += 1


def damage(root: Path) -> None:
    store = store_with(root, dict.fromkeys(["AAPL/1min", "IBM/1day"], ("2024-01-02", "2024-04-30")))
    span = span_of_sessions(MINUTES, date(2024, 3, 1), date(2024, 3, 8))
    bars = store.read(MINUTES, span)
    changed = bars.set_column(5, schema().field("volume"), pc.add(bars["volume"], 1.0))
    store.write(MINUTES, span, changed, revise=True)
    first, second, *_ = sorted((store.folder(MINUTES) / "bars").iterdir())
    flip(first)
    second.unlink()
    flip(next((store.folder(MINUTES) / "archive").iterdir()))
    (store.folder(MINUTES) / ".tmp-1-1-manifest.json").write_bytes(b"half")
    (older,) = (store.folder(DAILY) / "bars").iterdir()
    kept = older.read_bytes()
    days = date(2024, 5, 1), date(2024, 5, 3)
    store.write(DAILY, span_of_sessions(DAILY, *days), minute_bars(DAILY, *days))
    older.write_bytes(kept)
    os.utime(older, (0, 0))
    (store.folder(DAILY) / "manifest.json").unlink()
    (root / "STORE.json").unlink()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def mend(root: Path) -> None:
    list(repair(root, list(verify(root))))


def kill(root: Path, calls: int) -> bool:
    """Repair in a child process that kills itself before the n-th call that changes the disk; return whether it did."""
    child = os.fork()
    if not child:
        sys.addaudithook(_Watch(calls))
        mend(root)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


class _Watch:
    def __init__(self, left: int) -> None:
        self._left = left

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        if event in CHANGES or (event == "open" and "w" in str(args[1])):
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)
            self._left -= 1


def state(root: Path) -> tuple[object, ...]:
    """Return the stored bars, the spans to request again, and the findings; generations may differ."""
    store = Store(root)
    manifests = [store.manifest_or_empty(series) for series in (MINUTES, DAILY)]
    stored = [store.read(series)["time"].to_pylist() for series in (MINUTES, DAILY)]
    found = [(one.check, one.level, one.count) for verdict in verify(root) for one in verdict.findings]
    aside = sorted(path.name.split(".")[0] for path in root.rglob("quarantine/*") if path.name.endswith(".damaged"))
    return [one.content for one in manifests], [one.coverage for one in manifests], stored, found, aside


if __name__ == "__main__":
    main()
