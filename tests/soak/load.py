"""
Run the tests while busy loops load the machine: tests that wait for an event pass, tests that wait for seconds do not.

Run:  python tests/soak/load.py [--loops 4] [--times 5]

All of pytest runs once, then the tests of sockets, processes and time run several times.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTEST = [sys.executable, "-m", "pytest", "-q", "--numprocesses", "4", "--dist", "worksteal"]  # as `make test` does
MODULES = (
    "behaviour/test_crashes behaviour/test_disk_faults downloads/test_downloader behaviour/test_fault_table "
    "emulator/test_faults downloads/test_series behaviour/test_fuzz emulator/test_server "
    "sources/ib/test_source sources/ib/test_link onboarding/test_scaffold sources/ib/test_pacing "
    "docs/test_pages baselines/test_pytest_plugin behaviour/test_reliability store/test_remote "
    "behaviour/test_secrets store/test_store research/search/test_sweeps store/audit/test_verification"
)
TIMED = [f"tests/{name}.py" for name in MODULES.split()]


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--loops", type=int, default=4)
    words.add_argument("--times", type=int, default=5)
    asked = words.parse_args()
    with busy(asked.loops):
        codes = [run([])] + [run(TIMED) for _ in range(asked.times)]
    print(f"under {asked.loops} busy loops: {codes.count(0)} runs of {len(codes)} green")
    return int(any(codes))


@contextlib.contextmanager
def busy(loops: int) -> Iterator[None]:
    """Keep this many processes busy."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def run(files: list[str]) -> int:
    """Run tests; return their exit code."""
    return subprocess.run([*PYTEST, *files], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
