"""
Combine gateway faults, disk errors and kills in one download, by a seed: it ends with the same digest or a clear error.

Run:  python tests/soak/storms.py [--seeds 10000] [--first 0] [--jobs 2]

A run that reports that it is complete has the content of an undisturbed one. Whatever a run reports, the stored bars
are correct and readable. A run that was not killed says in single lines what is wrong, with an exit code, and never
hangs. Some runs are followed by a second one with faults. At the end, a run without faults has the content of an
undisturbed one.
"""

from __future__ import annotations

import argparse
import errno
import logging
import multiprocessing
import os
import shutil
import sys
import tempfile
import time as clock
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from every_call import FITTING
from faulty_downloads import DAILY, IMPATIENT, LATER, MUTES, QUICK, Job, on
from market import store_with
from operations import by_processes, environment, quick_folder, told
from tracer import Call, Ended, Fail, Judgement, Kill, Shorten, acknowledge, trace

from backtest.downloads.downloader import download
from backtest.downloads.retry import Persistence
from backtest.emulator.faults import Faults
from backtest.emulator.server import Gateway
from backtest.errors import NoBars, SourceError
from backtest.market.series import Series
from backtest.sources.connect import connect
from backtest.store.store import Store

HALF_HOURS = Series.parse("AAPL/30mins")
JOBS = (
    Job(DAILY, date(2020, 1, 2), date(2023, 12, 29)),  # four windows of a year
    Job(HALF_HOURS, date(2024, 2, 1), date(2024, 4, 30)),  # three windows, over a change of the clocks
)
CALLS = 260  # of a download that is not disturbed, more or less
TRIES, BREAKS = 3, 3
LONGEST = 30  # seconds
_NOW = datetime.combine(JOBS[1].until, time(), UTC) + LATER


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--seeds", type=int, default=10_000)
    words.add_argument("--first", type=int, default=0)
    words.add_argument("--jobs", type=int, default=2)
    asked = words.parse_args()
    began = clock.monotonic()
    ends, failures = run(range(asked.first, asked.first + asked.seeds), asked.jobs)
    print("\n".join(failures))
    counted = ", ".join(f"{count} {end}" for end, count in sorted(ends.items()))
    print(f"{asked.seeds} seeds ({counted}) in {clock.monotonic() - began:.0f} s: {len(failures)} failures")
    raise SystemExit(bool(failures))


def run(seeds: range, jobs: int = 2) -> tuple[Counter[str], list[str]]:
    """Run the downloads of these seeds; return how they ended, and a line for each failure."""
    ends, failures = Counter[str](), []
    with environment():
        for some, lines in by_processes(jobs, _storms, [seeds[place::jobs] for place in range(jobs)]):
            ends += some
            failures += lines
    return ends, failures


def _storms(seeds: range) -> tuple[Counter[str], list[str]]:
    ends, failures = Counter[str](), []
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(dir=quick_folder()) as folder:
        wanted = {str(job.series): (job.since.isoformat(), job.until.isoformat()) for job in JOBS}
        vendor = store_with(Path(folder) / "vendor", wanted)
        with _gateways(vendor.root) as serve:
            contents = {job: _undisturbed(Path(folder) / f"calm-{place}", job, serve) for place, job in enumerate(JOBS)}
            for seed in seeds:
                root = Path(folder) / f"store-{seed}"
                some, wrong = _storm(seed, root, vendor, contents, serve)
                ends += some
                failures += [f"seed {seed}: {text}" for text in wrong]
                shutil.rmtree(root, ignore_errors=True)
    return ends, failures


def _storm(seed: int, root: Path, vendor: Store, contents: dict[Job, str], serve: Callable[..., str]) -> Any:
    chance, ends, wrong = Random(seed), Counter[str](), []
    job = chance.choice(JOBS)
    root.mkdir()
    for _ in range(chance.choice((1, 1, 2))):
        address, strike = serve(_script(chance)), _strikes(chance)
        said = root.parent / f"said-{seed}"
        ended = trace(lambda: told(lambda: _download(root, job, address), said), root, strike, seconds=LONGEST)  # noqa: B023
        text = said.read_text() if said.exists() else ""
        ends[_end(ended)] += 1
        wrong += _ended_wrongly(ended, text) + _stored_wrongly(root, job, vendor)
        if "complete" in ended.acknowledged and Store(root).manifest_or_empty(job.series).content != contents[job]:
            wrong.append("it said that it was complete, and is not")
    calm = serve([])
    ended = trace(lambda: told(lambda: _download(root, job, calm), said), root.parent / "nowhere", seconds=LONGEST)
    if ended.code or Store(root).manifest_or_empty(job.series).content != contents[job]:
        wrong.append(f"in calm weather it ended with {ended.code}, not as if nothing had happened: {said.read_text()}")
    return ends, wrong


def _script(chance: Random) -> list[dict[str, Any]]:
    faults = chance.choices(QUICK, k=chance.randint(0, 3))
    faults += chance.choices(MUTES, k=chance.random() < 0.15)
    return [on(nth=chance.randint(1, 6), times=chance.choice((1, 1, 2)), **fault) for fault in faults]


def _strikes(chance: Random) -> Callable[[Call], Judgement]:
    """Return the faults of the calls: errors at some of them, and a kill at one."""
    names = ("EIO", "ENOSPC", "EINTR", "EMFILE", "EROFS", "EACCES")
    errors = {chance.randrange(CALLS): chance.choice(names) for _ in range(chance.randint(0, 3))}
    last = chance.randrange(2 * CALLS) if chance.random() < 0.6 else -1
    place = -1

    def judge(call: Call) -> Judgement:
        nonlocal place
        place += 1
        if place == last:
            return Kill()
        name = next((name for at, name in errors.items() if at <= place and call.name in FITTING[name]), None)
        if name is None or (name in ("ENOSPC", "EROFS") and not call.changes):
            return None
        errors.pop(next(at for at, one in errors.items() if one == name and at <= place))
        return Shorten(len(call.data) // 2) if name == "EINTR" and call.data else Fail(getattr(errno, name))

    return judge


def _download(root: Path, job: Job, address: str) -> None:
    persistence = Persistence(tries=TRIES, breaks=BREAKS, pause=0.001, pacing_pause=0.001)
    with connect(f"{address}?limits={job.limits}", patience=IMPATIENT, time_scale=100) as source:
        report = download(
            Store(root), source, job.series, (job.since, job.until), persistence=persistence, recheck=True
        )
    if report.complete:
        acknowledge("complete")
        return
    errors = [text for one in report.series for text in one.errors]
    if not errors or not report.exit_code:
        raise AssertionError(f"neither complete nor an error: {report}")
    raise SourceError("; ".join(errors))


def _end(ended: Ended) -> str:
    return {0: "complete", -9: "killed"}.get(ended.code, "with an error")


def _ended_wrongly(ended: Ended, said: str) -> list[str]:
    if ended.hung:
        return ["it hung"]
    if ended.code == -9 or (0 <= ended.code <= 9 and "Traceback" not in said):
        return []
    return [f"exit code {ended.code}: {said}"]


def _stored_wrongly(root: Path, job: Job, vendor: Store) -> list[str]:
    """Return what is wrong with the stored bars, which may be anything from none to all."""
    try:
        bars = Store(root).read(job.series).to_pylist()
    except NoBars:
        return []
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
        return [f"the store does not read: {type(error).__name__}: {error}"]
    true = {row["time"]: row for row in vendor.read(job.series).to_pylist()}
    untrue = [row for row in bars if true.get(row["time"]) != row]
    return [f"{len(untrue)} bars are not the vendor's, the first {untrue[0]}"] if untrue else []


def _undisturbed(root: Path, job: Job, serve: Callable[..., str]) -> str:
    root.mkdir()
    _download_here(root, job, serve([]))
    return Store(root).manifest_or_empty(job.series).content


def _download_here(root: Path, job: Job, address: str) -> None:
    # In this process too, so that the children that are forked from it have nothing to import.
    with connect(f"{address}?limits={job.limits}", patience=IMPATIENT, time_scale=100) as source:
        assert download(Store(root), source, job.series, (job.since, job.until)).complete


# --- gateways, in a process of their own: their threads would not outlive a fork


@contextmanager
def _gateways(vendor: Path) -> Iterator[Callable[[list[dict[str, Any]]], str]]:
    """Yield a function that starts a gateway with a fault script, in place of the last, and returns its address."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, vendor))
    process.start()
    there.close()

    def serve(script: list[dict[str, Any]]) -> str:
        here.send(script)
        address: str = here.recv()
        return address

    yield serve
    here.close()
    process.join()


def _serve(orders: Connection, vendor: Path) -> None:
    logging.disable(logging.CRITICAL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # of clients that are killed in the middle of a word
    running = None
    while True:
        try:
            script = orders.recv()
        except EOFError:
            break
        if running is not None:
            running.__exit__(None, None, None)
        running = Gateway(Store(vendor), clock=lambda: _NOW, faults=Faults.of(script), time_scale=100)
        running.__enter__()
        orders.send(running.address)
    if running is not None:
        running.__exit__(None, None, None)


if __name__ == "__main__":
    main()
