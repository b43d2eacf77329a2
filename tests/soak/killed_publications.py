"""
Kill a publication before and after each request to a bucket: readers see one state or the other; the next resumes.

Run:  python tests/soak/killed_publications.py [--every 1]

The bucket has a state of two series; a process publishes the next one, with a revision. The server kills the process
before it serves a request, or after it has served the request but before it answers.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from bucket import KEY, SECRET, Bucket
from market import minute_bars, span_of_sessions, store_with

from backtest.market.bars import rows_digest
from backtest.market.series import Series
from backtest.store.publishing import publish
from backtest.store.store import Store, open_store

SERIES = tuple(Series.parse(text) for text in ("AAPL/5mins", "MSFT/1day"))
SECONDS = 60
State = dict[Series, str]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--every", type=int, default=1, help="kill at every n-th request")
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kills, requests = run(Path(folder), asked.every)
    print(f"{kills} kills at {requests} requests of a publication: 0 failures")


def run(folder: Path, every: int = 1) -> tuple[int, int]:
    """Return how many publications were killed, and how many requests an undisturbed one sends; raise on a failure."""
    os.environ |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}
    store = store_with(folder / "bars", dict.fromkeys(map(str, SERIES), ("2024-01-02", "2024-02-29")))
    with Bucket() as bucket:
        publish(store, bucket.url())
        before, old = dict(bucket.objects), _held(bucket)
        _move_on(store)
        bucket.requests.clear()
        assert _started(store, bucket).wait(SECONDS) == 0
        requests, after, new = len(bucket.requests), dict(bucket.objects), _held(bucket)
        kills = 0
        for place in range(0, requests, every):
            for hook in ("intercept", "served"):
                bucket.objects.clear()
                bucket.objects.update(before)
                _kill(store, bucket, place, hook)
                _check(store, bucket, f"killed at request {place}, {hook}", old, new, before, after)
                kills += 1
    return kills, requests


def _move_on(store: Store) -> None:
    """Add a week to each series, and revise its last days."""
    for series in SERIES:
        for first, last, seed in ((date(2024, 3, 1), date(2024, 3, 8), 7), (date(2024, 2, 28), date(2024, 2, 29), 8)):
            bars = minute_bars(series, first, last, seed)
            store.write(series, span_of_sessions(series, first, last), bars, source="market", revise=seed == 8)


def _started(store: Store, bucket: Bucket) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "backtest", "publish", bucket.url(), "--store", str(store.root)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _kill(store: Store, bucket: Bucket, place: int, hook: str) -> None:
    bucket.requests.clear()
    running = _started(store, bucket)

    def strike(request: str) -> str | None:
        if len(bucket.requests) <= place:
            return None
        running.send_signal(signal.SIGKILL)
        running.wait(SECONDS)
        return "AccessDenied"  # which nobody hears

    setattr(bucket, hook, strike)
    code = running.wait(SECONDS)
    bucket.intercept = bucket.served = _nothing
    assert code == -signal.SIGKILL, f"it ended with {code} before request {place}"


def _nothing(request: str) -> None:
    return None


def _check(
    store: Store,
    bucket: Bucket,
    what: str,
    old: State,
    new: State,
    before: dict[str, bytes],
    after: dict[str, bytes],
) -> None:
    """Raise if a reader sees neither state, or if the next publication does not bring the new one."""
    held = _held(bucket)
    assert all(held[series] in (old[series], new[series]) for series in SERIES), f"{what}: neither old nor new"
    publish(store, bucket.url())
    assert _held(bucket) == new, f"{what}: published again, it is not the new state"
    assert after.items() <= bucket.objects.items(), f"{what}: something of the new state is not there"
    # What the old state needed is left to those who may be reading it; a later change takes it away.
    assert bucket.objects.keys() <= before.keys() | after.keys(), f"{what}: something is left behind"


def _held(bucket: Bucket) -> State:
    there = open_store(bucket.url())
    return {series: rows_digest(there.read(series)) for series in SERIES}


if __name__ == "__main__":
    main()
