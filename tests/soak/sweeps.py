"""
Run one sweep in several ways: the trials are the same to the last bit, and a worker's memory does not grow with them.

Run:  python tests/soak/sweeps.py [--fast 25] [--slow 40] [--years 10]     (1,000 trials of SMA cross)

The ways: one process, one trial after the other, and all at once; two processes; a Dask scheduler with two workers; two
processes of which one is killed after a quarter of the trials, and the sweep after half, and then resumed; and a store
on an S3-compatible server instead of a folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from bucket import KEY, SECRET, Bucket

from backtest.research.search.grid import grid_of, points
from backtest.research.search.job import Point, job_of, trials_of
from backtest.research.search.trials import Trials

ROOT = Path(__file__).resolve().parents[2]
STORE = ROOT / "data" / "sample"
ATTEMPTS = 10  # to kill a sweep before it has ended
TWO = ("--engine", "event", "--jobs", "2")
Words = list[str]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--fast", type=int, default=25, help="how many fast averages to try")
    words.add_argument("--slow", type=int, default=40, help="how many slow ones")
    words.add_argument("--years", type=int, default=10)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for told in run(Path(folder), asked.fast, asked.slow, asked.years):
            print(told, flush=True)
    early, late = memory(asked.fast * asked.slow, asked.years)
    print(f"a worker's memory: {early:,} kB after a tenth of the trials, {late:,} kB after all")
    assert late < 1.1 * early + 2000, "it grew"


def run(folder: Path, fast: int = 8, slow: int = 8, years: int = 4, only: Collection[str] = ()) -> Iterator[str]:
    """
    Sweep in each way, and yield a line about each; raise where trials differ from those of the first way.

    Args:
        only: the ways to sweep, by name; none for all.
    """
    words = ["--grid", f"fast=2:{fast + 1}", "--grid", f"slow={fast + 2}:{fast + slow + 1}"]
    words += ["--since", "2003-01-02", "--until", f"{2002 + years}-12-31"]
    ways: dict[str, Callable[[Words, Path], None]] = {
        "one process": lambda words, out: sweep([*words, "--engine", "event"], out),
        "all at once": lambda words, out: sweep([*words, "--engine", "compiled"], out),
        "two processes": lambda words, out: sweep([*words, *TWO], out),
        "Dask, two workers": with_dask,
        "killed and resumed": killed,
        "S3 in place of a folder": from_bucket,
    }
    first = ""
    for name, way in ((name, way) for name, way in ways.items() if name in (only or ways)):
        out, began = folder / name.replace(" ", "-"), time.monotonic()
        way(words, out)
        count, digest = digest_of(out)
        first = first or digest
        assert (count, digest) == (fast * slow, first), f"{name}: {count} trials, and not those of one process"
        yield f"{name}: {count:,} trials, digest {digest[:12]}, {time.monotonic() - began:.1f} s"


def sweep(words: Words, out: Path, store: str = str(STORE)) -> None:
    """Run a sweep to its end, through the command line."""
    told = subprocess.run(command(words, out, store), capture_output=True, text=True, check=True).stdout
    assert json.loads(told)["trials"] == json.loads(told)["recorded"]


def command(words: Words, out: Path, store: str = str(STORE)) -> Words:
    return [
        *(sys.executable, "-m", "backtest", "sweep", "sma_cross", "AAPL/1day", *words),
        *("--store", store, "--out", str(out), "--json"),
    ]


def with_dask(words: Words, out: Path) -> None:
    cluster = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert cluster.stdout is not None
        sweep([*words, "--dask", cluster.stdout.readline().strip()], out)
    finally:
        cluster.communicate("\n")


CLUSTER = """
from distributed import LocalCluster

if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        print(cluster.scheduler_address, flush=True)
        input()
"""


def killed(words: Words, out: Path) -> None:
    """Kill a worker, then the sweep; its workers must end with it, and its trials must be saved; then resume it."""
    total = len(points(grid_of([word for word in words if "=" in word])))
    for attempt in range(ATTEMPTS):
        tried = out.with_name(f"{out.name}-{attempt}")
        kept = kill_at_half(words, tried, total)
        if kept < total:
            break  # else it had ended before it was killed, as a small one may
    assert total // 2 <= kept < total, f"{kept} of {total} trials were kept"
    tried.rename(out)
    sweep([*words, "--engine", "event", "--resume"], out)


def kill_at_half(words: Words, out: Path, total: int) -> int:
    """Kill a worker after a quarter of the trials, and the sweep after half; return how many trials are saved."""
    process = subprocess.Popen(command([*words, *TWO], out), stdout=subprocess.DEVNULL)
    until(lambda: len(Trials(out).read()) >= total // 4)
    for worker in workers_of(process.pid)[:1]:
        os.kill(worker, signal.SIGKILL)
    until(lambda: len(Trials(out).read()) >= total // 2)
    children = workers_of(process.pid)
    process.kill()
    process.wait()
    until(lambda: not any(map(alive, children)))
    return len(Trials(out).read())


def from_bucket(words: Words, out: Path) -> None:
    os.environ |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    with Bucket() as bucket:
        for path in STORE.rglob("*"):
            if path.is_file():
                bucket.objects[f"store/{path.relative_to(STORE)}"] = path.read_bytes()
        sweep([*words, *TWO], out, bucket.url())


def digest_of(out: Path) -> tuple[int, str]:
    """Return the number of trials, and a digest of their parameters, metrics, sessions and returns."""
    trials, digest = Trials(out).read(returns=True), hashlib.sha256()
    for key in sorted(trials):
        one = trials[key]
        digest.update(repr((key, one.params, one.error, {name: repr(v) for name, v in one.metrics.items()})).encode())
        digest.update(one.sessions.tobytes() + one.returns.tobytes())
    return len(trials), digest.hexdigest()


def until(happened: Callable[[], bool], seconds: float = 300) -> None:
    ends = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < ends, "it never happened"
        time.sleep(0.01)


def workers_of(process: int) -> list[int]:
    """Return the worker processes of a process: its children except multiprocessing's tracker."""
    children = map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())
    return [one for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


def alive(process: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def memory(trials: int, years: int) -> tuple[int, int]:
    """Return the memory of a worker, in kB, after a tenth of the trials and after all."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_memory, (trials, years))


def _memory(trials: int, years: int) -> tuple[int, int]:
    span = date(2003, 1, 2), date(2002 + years, 12, 31)
    job = job_of("sma_cross", "AAPL/1day", store=STORE, span=span, swept=["fast", "slow"])
    held = []
    for number in range(trials):
        trials_of(job, [Point({"fast": 2 + number % 25, "slow": 30 + number // 25 % 40})])
        if number + 1 in (max(trials // 10, 1), trials):
            held.append(_resident())
    return held[0], held[-1]


def _resident() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


if __name__ == "__main__":
    main()
