"""
Readers and a writer of one store and one run at once, for so many seconds: no read and no write may fail.

race.py SECONDS [FOLDER]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from backtest.errors import NoBars
from backtest.market.bars import table_of
from backtest.market.span import Span
from backtest.store.audit.listing import list_series
from backtest.store.replacement import replace_file
from backtest.store.store import Store

FIRST = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)


def write(folder: Path, number: int) -> None:
    """Append a bar, revise one, begin and drop a series, replace a file."""
    store = Store(folder)
    for at, volume, revise in ((FIRST + timedelta(minutes=number % 300), float(number), True),):
        bars = table_of([(at, 10.0, 12.0, 9.0, 11.0, volume, None, None)])
        store.write("AAPL/1min", Span(at, at + timedelta(minutes=1)), bars, revise=revise)
    if number % 5 == 0:
        store.prune("AAPL/1min")
        store.write("MSFT/1min", Span(FIRST, FIRST + timedelta(minutes=1)), table_of([(FIRST, *[1.0] * 5, None, None)]))
        store.drop("MSFT/1min")
    replace_file(folder.parent / "document.json", f"{number}".encode() * 1000)


def read(folder: Path, number: int) -> None:
    """Read the bars, list all series, read the file."""
    store = Store(folder)
    try:
        store.read("AAPL/1min")
        list_series(store)
    except NoBars:
        if number > 50:
            raise
    if (document := folder.parent / "document.json").exists():
        from backtest.store.documents import bytes_of

        bytes_of(document, 1 << 20)


def work(job: Callable[[Path, int], None], folder: Path, seconds: float) -> None:
    """Do a job again and again, and print how often and what failed."""
    done, failures, until = 0, [], None
    while until is None or time.monotonic() < until:
        try:
            job(folder, done)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
            failures.append(f"{type(error).__name__}: {error}")
        done += 1
        until = until or time.monotonic() + seconds  # the first one imports pyarrow: half a minute under Wine
    print(f"{job.__name__}: {done} times, {len(failures)} failed {failures[:2]}", flush=True)
    sys.exit(bool(failures))


def main() -> int:
    """Start a writer and three readers, and say how they fared."""
    if len(sys.argv) > 3:
        work({"write": write, "read": read}[sys.argv[3]], Path(sys.argv[2]), float(sys.argv[1]))
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp()) / "bars"
    folder.mkdir(parents=True)
    write(folder, 1)
    command = [sys.executable, "-W", "ignore", __file__, sys.argv[1], str(folder)]
    started = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for name in ("write", "read", "read", "read")
    ]
    said = [process.communicate()[0].decode(errors="replace") for process in started]
    print("".join(said), end="")
    return int(any(process.returncode for process in started))


if __name__ == "__main__":
    sys.exit(main())
