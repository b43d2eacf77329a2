"""
Kill downloads at random moments with SIGKILL: no bar is lost or doubled, and the content ends the same every time.

Run:  python tests/soak/killed_downloads.py [--kills 200] [--seed 7]

A download of minute and daily bars from an emulator is started again and again on the same store, and killed while it
runs. After each kill every stored series must be readable, hold what it held before, and agree with the vendor's bars.
When a download completes, its content must be that of an undisturbed one, and the next round begins with an empty
store.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import pyarrow.compute as pc
from market import store_with

from backtest.emulator.server import Gateway
from backtest.errors import NoBars
from backtest.market.series import Series
from backtest.store.store import Store

SINCE, UNTIL = "2024-01-02", "2024-06-28"
WANTED = ["AAPL/1min", "MSFT/1min", *(f"S{n:02}/1day" for n in range(20))]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--kills", type=int, default=200)
    words.add_argument("--seed", type=int, default=7)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kills, finished, left_in_between = run(Path(folder), asked.kills, asked.seed)
    print(f"{kills} kills, {left_in_between} of them with a part stored, {finished} downloads finished: 0 failures")


def run(folder: Path, kills: int, seed: int) -> tuple[int, int, int]:
    """Kill downloads; return kills, completed downloads, and kills that left a partial one; raise on any failure."""
    upstream = store_with(folder / "upstream", dict.fromkeys(WANTED, (SINCE, UNTIL)))
    chance, killed, finished, parts = random.Random(seed), 0, 0, 0
    store, seen = folder / "bars", dict.fromkeys(WANTED, 0)
    with Gateway(upstream) as gateway:
        while killed < kills or not finished:
            if killed < kills and kill(start(gateway.port, store), chance):
                killed += 1
            elif killed >= kills and start(gateway.port, store).wait():
                raise AssertionError("a download that was not killed failed")
            seen = check(store, upstream, seen)
            parts += 0 < sum(seen.values()) < upstream_rows(upstream)
            if sum(seen.values()) == upstream_rows(upstream):
                assert contents(store) == contents(upstream.root)
                finished += 1
                seen = dict.fromkeys(WANTED, 0)
                shutil.rmtree(store)
    return killed, finished, parts


def start(port: int, store: Path) -> subprocess.Popen[bytes]:
    words = ["download", *WANTED, "--since", SINCE, "--until", UNTIL, "--source", f"ib://127.0.0.1:{port}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-m", "backtest", *words, "--store", str(store)], **quiet)


def kill(process: subprocess.Popen[bytes], chance: random.Random) -> bool:
    """Kill a download within a few seconds; return whether it was still running."""
    time.sleep(chance.uniform(0.5, 4.0))
    process.send_signal(signal.SIGKILL)
    return process.wait() != 0


def check(root: Path, upstream: Store, seen: dict[str, int]) -> dict[str, int]:
    """Return the rows of each series; all stored bars must be the vendor's, and none may be lost."""
    store, rows = Store(root), {}
    for text in WANTED:
        series = Series.parse(text)
        try:
            bars = store.read(series)
        except NoBars:
            bars = None
        rows[text] = len(bars) if bars is not None else 0
        assert rows[text] >= seen[text], f"{text} had {seen[text]} bars and has {rows[text]}"
        if bars is not None:
            whole = upstream.read(series)
            same = whole.filter(pc.is_in(whole["time"], value_set=bars["time"].combine_chunks()))
            assert bars.combine_chunks().equals(same.combine_chunks()), text  # each once, and in order
    return rows


def upstream_rows(upstream: Store) -> int:
    return sum(upstream.manifest_or_empty(Series.parse(text)).rows for text in WANTED)


def contents(root: Path) -> list[str]:
    return [Store(root).manifest_or_empty(Series.parse(text)).content for text in WANTED]


if __name__ == "__main__":
    main()
