"""
Compare two checkouts of this project: is a row of `make bench` slower than it was?

Run:  python tests/benchmarks/before_and_after.py --before ../old/checkout [--turns 9] [--only page,load]

Each job runs in a process of its own, in the checkout's own environment (.venv) and with its own benchmarks, before and
after in alternation. The processor time of the job without its preparation is compared; for the newcomer's jobs and
`backtest report`, that of the whole process. Both print the result of the job, which must be the same.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
NOISE = 0.05  # a ratio within it is called equal
BEGIN = "import time, tempfile, pathlib, running, prices, loading\nfrom running import Series\n"
MINUTES = 'bars = {Series.parse("MADE/1min"): prices.minute_bars(100_000)}\n'
TEN = 'bars = {Series.parse(f"{n}/1day"): prices.daily_bars(2500, i) for i, n in enumerate(prices.symbols(10))}\n'
RUN = "began = time.process_time(); ran = running.ours(running.%s, bars); took = time.process_time() - began\n"
TOLD = "print(repr(ran.cerebro.broker.getvalue()), len(running.orders(ran)))\n"
STORED = (
    "folder = pathlib.Path(tempfile.mkdtemp()); store = loading.Store(folder / 'store')\n"
    "prices.fill(store, loading.MINUTES, prices.minute_bars(%s, 1440))\n"
)
NEWCOMER = (
    "import newcomer, subprocess, sys, resource\n"
    "folder = pathlib.Path(tempfile.mkdtemp())\n"
    "made = {name: prices.daily_bars(2520, seed) for seed, name in enumerate(prices.symbols(%s))}\n"
    "job = newcomer.contestants(folder, made, None)['ours']\n"
    "began = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
    "command = [sys.executable, job.script, job.folder, *made]\n"
    "said = subprocess.run(command, capture_output=True, text=True, check=True)\n"
    "ended = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
    "took = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime\n"
    "print(said.stdout)\n"
)
REPORT = (
    "import subprocess, sys, resource\n"
    "folder = pathlib.Path(tempfile.mkdtemp()); command = pathlib.Path(sys.executable).with_name('backtest')\n"
    "root = pathlib.Path(loading.__file__).parents[2]; kept = folder / 'run'\n"
    "asked = ['run', root / 'strategies' / 'sma_cross.py', 'AAPL/1day', '--store', root / 'data' / 'sample']\n"
    "subprocess.run([command, *asked, '--out', kept], capture_output=True, check=True)\n"
    "began = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
    "subprocess.run([command, 'report', kept], capture_output=True, check=True)\n"
    "ended = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
    "took = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime\n"
    "print('<figure' in (kept / 'index.html').read_text())\n"
)
SWEEP = (
    "import hashlib, sweeping\nfrom backtest import sweep\nfrom backtest.research.search.trials import Trials\n"
    "folder = pathlib.Path(tempfile.mkdtemp())\n%s"
    "began = time.process_time()\n"
    "found = sweep('sma_cross', series, grid, store=store, folder=folder / 'sweep', **asked)\n"
    "said = found.summary; took = time.process_time() - began\n"
    # Numbers that have been there from the first version on; there are more now, and the summary has other words.
    "known = 'total_return sharpe sortino max_drawdown beta exposure turnover trades sqn costs'.split()\n"
    "numbers = lambda one: (repr(one.params), one.error, [repr(one.metrics.get(name)) for name in known])\n"
    "made = Trials(folder / 'sweep').read(returns=True).values()\n"
    "every = sorted((*numbers(one), one.sessions.tobytes(), one.returns.tobytes()) for one in made)\n"
    "print(said.partition(' Deflated')[0], len(made), hashlib.sha256(repr(every).encode()).hexdigest())\n"
)
DAYS_SWEPT = (
    "store, series, asked = sweeping.STORE, 'AAPL/1day', {'span': ('2003-01-02', '2012-12-31')}\n"
    "grid = {'fast': '2:26', 'slow': '30:69'}\n"
    # What is imported when first needed is no part of a sweep.
    "sweep('sma_cross', series, {'fast': '2:5', 'slow': '30:37'}, store=store, folder=folder / 'before', **asked)\n"
)
MINUTES_SWEPT = (
    "store, series, asked = loading.Store(folder / 'store'), str(loading.MINUTES), {'costs': 'none'}\n"
    "prices.fill(store, loading.MINUTES, prices.minute_bars(100_000)); grid = {'fast': '5:9', 'slow': '20:21'}\n"
)
JOBS = {
    "SMA cross, 100,000 bars": MINUTES + RUN % "SmaCross" + TOLD,
    "looks and rarely trades, 100,000 bars": MINUTES + RUN % "Looks" + TOLD,
    "does nothing, 100,000 bars": MINUTES + RUN % "DoesNothing" + TOLD,
    "SMA cross, 10 series x 2,500 bars": TEN + RUN % "SmaCross" + TOLD,
    "load 1,000,000 bars": STORED % "1_000_000"
    + "began = time.process_time(); feed = loading.from_store(store); took = time.process_time() - began\n"
    + "print(sum(feed.lines.close.array))\n",
    "run of SMA cross with its record, 1,000,000 bars": STORED % "1_000_000"
    + "from backtest import run\n"
    + "began = time.process_time(); result = run(running.SmaCross, str(loading.MINUTES), store=store, costs='none')\n"
    + "took = time.process_time() - began; print(repr(result.record['equity'][-1].as_py()))\n",
    "page of a run, 100,000 bars": "import page\nfrom dataclasses import replace\n"
    + "result = page.long_run(pathlib.Path(tempfile.mkdtemp()), 100_000); page.page(replace(result))\n"
    + "began = time.process_time(); text = page.page(replace(result)); took = time.process_time() - began\n"
    + "print(text.count('<figure'))\n",
    "backtest report, 3,270 days": REPORT,
    "sweep of 1,000 trials, ten years of days": SWEEP % DAYS_SWEPT,
    "sweep of 10 trials, 100,000 minutes": SWEEP % MINUTES_SWEPT,
    "newcomer's job, 1 series": NEWCOMER % 1,
    "newcomer's job, 50 series": NEWCOMER % 50,
}


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--before", type=Path, required=True, help="a checkout with an environment in .venv")
    words.add_argument("--turns", type=int, default=9)
    words.add_argument("--only", default="", help="only jobs whose name has one of these words, separated by commas")
    asked = words.parse_args()
    print("| job | before | after | after / before | |\n|---|---:|---:|---:|---|")
    for name, job in JOBS.items():
        if any(word in name for word in asked.only.split(",")):
            print(row(name, job, asked.before.resolve(), asked.turns), flush=True)


def row(name: str, job: str, before: Path, turns: int) -> str:
    """Return the row of a job, after checking that both checkouts give the same result."""
    taken: list[tuple[float, float]] = []
    for _ in range(turns + 1):  # the first is not counted: it compiles
        (first, one), (second, other) = (measured(checkout, job) for checkout in (before, HERE))
        assert one == other, f"{name}: before {one!r}, after {other!r}"
        taken.append((first, second))
    ratio = statistics.median(after / before for before, after in taken[1:])
    old, new = (statistics.median(times) for times in zip(*taken[1:], strict=True))
    judged = "slower" if ratio > 1 + NOISE else "faster" if ratio < 1 - NOISE else "equal"
    return f"| {name} | {old * 1000:,.0f} ms | {new * 1000:,.0f} ms | {ratio:.2f} | {judged} |"


def measured(checkout: Path, job: str) -> tuple[float, str]:
    """Return the processor time of a job in a checkout, and what it printed."""
    benchmarks = checkout / "tests" / "benchmarks"
    roots = [checkout, benchmarks, checkout / "tests" / "support", checkout / "tests"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, roots))}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode, too
    with tempfile.TemporaryDirectory() as folder:
        ran = subprocess.run(
            [checkout / ".venv" / "bin" / "python", "-c", f"{BEGIN}{job}print(took)"],
            cwd=folder, env={**environment, "TMPDIR": folder}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert not ran.returncode, ran.stderr
    *said, took = ran.stdout.splitlines()
    return float(took), "\n".join(said)


if __name__ == "__main__":
    main()
