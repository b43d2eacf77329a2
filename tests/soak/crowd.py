"""
Let writers and readers use a store at once: it ends as the exact union of all writes, and no reader sees a part of one.

Run:  python tests/soak/crowd.py [--writers 8] [--sessions 40] [--seed 7]

First all write to one series, then each to its own, each in a random order; some are killed at random moments and
started again. Readers read all the time: each result must be correct, and contain everything that the result before it
contained. No process may wait for 30 seconds, as it would for a lock that outlived its owner.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import date
from pathlib import Path
from random import Random

from operations import bars_of, environment, quick_folder, span_of

from backtest.errors import NoBars
from backtest.market.calendars import sessions
from backtest.market.hours import hours_of
from backtest.market.series import Series
from backtest.store.store import Store

LONGEST_WAIT = 30  # seconds
READERS = 2


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--writers", type=int, default=8)
    words.add_argument("--sessions", type=int, default=40)
    words.add_argument("--seed", type=int, default=7)
    asked = words.parse_args()
    with environment(), tempfile.TemporaryDirectory(dir=quick_folder()) as folder:
        for count in (1, asked.writers):
            reads, kills = run(Path(folder) / str(count), asked.writers, count, asked.sessions, asked.seed)
            print(f"{asked.writers} writers on {count} series, {kills} killed, {reads} reads: 0 failures")


def run(root: Path, writers: int, series: int, count: int, seed: int) -> tuple[int, int]:
    """Let writers write sessions to series; return the numbers of reads and kills, or raise."""
    chance, days, wanted = Random(seed), _days(count), [Series.parse(f"S{n}/30mins") for n in range(series)]
    for one in wanted:
        for day in days:
            bars_of(one, day, day)  # so that the children need not make them
    ends, telling = os.pipe()
    readers = [_forked(lambda: _read(root, wanted, days, ends, telling)) for _ in range(READERS)]
    pending = {_forked(_writer(root, wanted, days, place, writers)): place for place in range(writers)}
    kills = 0
    while pending:
        child, status = _waited(pending, chance.uniform(0.02, 0.2) if kills < writers else LONGEST_WAIT)
        if child is None:
            child = chance.choice(list(pending))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            kills += 1
        assert os.WIFSIGNALED(status) or not os.WEXITSTATUS(status), "a writer failed, see above"
        place = pending.pop(child)
        if os.WIFSIGNALED(status):
            pending[_forked(_writer(root, wanted, days, place, writers))] = place
    os.close(telling)
    os.close(ends)
    statuses = [os.waitpid(reader, 0)[1] for reader in readers]
    assert not any(map(os.WIFSIGNALED, statuses)), statuses
    assert all(Store(root).read(one).equals(bars_of(one, days[0], days[-1])) for one in wanted), "not the exact union"
    return _counted(root), kills


def _writer(root: Path, wanted: list[Series], days: list[str], place: int, writers: int) -> Callable[[], None]:
    """Return the work of a writer: its share of the sessions of the one series, or all sessions of its own."""
    own = wanted[place % len(wanted)]
    share = (
        days
        if len(wanted) == writers
        else [day for n, day in enumerate(days) if place in (n % writers, (n + 1) % writers)]
    )

    def write() -> None:
        for day in Random(place).sample(share, len(share)):
            signal.alarm(LONGEST_WAIT)
            _write(root, own, day)
        signal.alarm(0)

    return write


def _read(root: Path, wanted: list[Series], days: list[str], ends: int, telling: int) -> None:
    os.close(telling)
    seen, true, reads = dict.fromkeys(wanted, 0), {one: bars_of(one, days[0], days[-1]) for one in wanted}, 0
    while not select.select([ends], [], [], 0)[0]:
        for one in wanted:
            signal.alarm(LONGEST_WAIT)
            rows = _checked(root, one, true[one])
            assert rows >= seen[one], f"{one} had {seen[one]} bars, and then {rows}"
            seen[one] = rows
            reads += 1
    signal.alarm(0)
    (root.parent / f"reads-{root.name}-{os.getpid()}").write_text(str(reads))


def _checked(root: Path, series: Series, true: object) -> int:
    """Read a series, check that it consists of whole sessions of correct bars, and return the number of bars."""
    import pyarrow.compute as pc

    try:
        bars = Store(root).read(series)
    except NoBars:
        return 0
    same = true.filter(pc.is_in(true["time"], value_set=bars["time"].combine_chunks()))  # type: ignore[attr-defined]
    assert bars.equals(same.combine_chunks()) or bars.combine_chunks().equals(same.combine_chunks()), (
        f"{series}: not true"
    )
    assert len(bars) % 13 == 0, f"{series}: a session in part"
    return len(bars)


def _write(root: Path, series: Series, day: str) -> None:
    Store(root).write(series, span_of(series, day, day), bars_of(series, day, day))


def _forked(act: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        act()
        code = 0
    except BaseException:  # noqa: BLE001 - the parent sees the exit code
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _waited(pending: dict[int, int], seconds: float) -> tuple[int | None, int]:
    """Wait up to this many seconds for one of the writers to end."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for child in pending:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return child, status
        time.sleep(0.005)
    return None, 0


def _days(count: int) -> list[str]:
    series = Series.parse("AAPL/30mins")
    found = [session.day for session in sessions(hours_of(series.instrument), date(2024, 1, 2), date(2024, 11, 20))]
    return [day.isoformat() for day in found if day != date(2024, 7, 3)][:count]  # of whole sessions


def _counted(root: Path) -> int:
    return sum(int(path.read_text()) for path in root.parent.glob(f"reads-{root.name}-*"))


if __name__ == "__main__":
    main()
