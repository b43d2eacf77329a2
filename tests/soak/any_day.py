"""
Run the tests, pages, notebooks and downloads on other dates, in other time zones and in other languages.

`python tests/soak/any_day.py [NAME]...` runs them under faketime in each case below, or in the named ones; arguments
after `--` are passed to pytest instead of the selection by markers. The output of a case is saved to build/any-day.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "any-day"
SELECTION = (
    *("--numprocesses", "auto", "--dist", "worksteal"),
    *("-m", "((not slow and not crash and not soak) or docs) and not browser"),
)
MISSING = (
    "error: faketime is not installed, which sets the day for a program; get it with: apt-get install faketime "
    "(Debian, Ubuntu), dnf install libfaketime (Fedora), or brew install libfaketime (macOS)"
)
# As a user calls them: nothing gives these commands a clock, so that they take the day of the machine.
# With the exit code of each: until today the emulator has no bars for years, which is believed on another day only.
COMMANDS = (
    (0, "demo", "--out", "pages", "--store", "demo"),
    (3, "download", "IBM/1day/ADJUSTED_LAST", "--since", "2000-03-01", "--source", "emulator:{sample}"),
    (0, "download", "AAPL/1day", "--since", "2000-03-01", "--until", "2013-03-01", "--source", "emulator:{sample}"),
    (0, "export", "GOOG/1day", "vendor/GOOG.csv", "--store", "{sample}"),
    (0, "download", "GOOG/1day", "--since", "2004-08-19", "--until", "2013-03-01", "--source", "csv:vendor"),
    (1, "verify"),
    (0, "ls"),
    (0, "doctor", "--source", "emulator:{sample}"),
)
# libfaketime leaves the monotonic clock alone, as it must for waits to end, but then time.sleep of Python 3.11, which
# sleeps until a time of that clock, is given a time that was moved. Waiting for no file at all knows no clock.
SLEEP = """\
import select
import time


def sleep(seconds):
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    select.select([], [], [], seconds)


time.sleep = sleep
"""


@dataclass(frozen=True)
class Case:
    """The date and time at which everything starts, by the clock of a zone, and the language; "" is now."""

    day: str
    zone: str
    language: str

    @property
    def later(self) -> float:
        """The seconds from now to the date."""
        if not self.day:
            return 0.0
        day = datetime.fromisoformat(self.day).replace(tzinfo=ZoneInfo(self.zone))
        return (day - datetime.now(UTC)).total_seconds()


NEXT_YEAR = (datetime.now(UTC) + timedelta(days=365)).isoformat(" ", "minutes").partition("+")[0]
CASES = {
    "next-year": Case(NEXT_YEAR, "UTC", "C.UTF-8"),
    "leap-night": Case("2028-02-29 23:58", "UTC", "C.UTF-8"),
    "leap-night-in-kolkata": Case("2028-02-29 23:58", "Asia/Kolkata", "C"),
    "clocks-forward": Case("2028-03-12 01:58", "America/New_York", "C.UTF-8"),  # the night from Saturday
    "clocks-back": Case("2027-11-07 01:58", "America/New_York", "C.UTF-8"),  # the same
    "plain-c": Case("", "UTC", "C"),
}


def run(name: str, case: Case, pytest: Sequence[str]) -> list[str]:
    """Run everything in a case, print the outcome, and return the failures."""
    log = KEPT / f"{name}.txt"
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        failed = list(_failures(case, Path(folder), pytest, log))
    state = f"{len(failed)} FAILED" if failed else "green"
    seconds = time.monotonic() - began
    print(f"{name}: {case.day or 'today'}, TZ={case.zone}, LC_ALL={case.language}: {state} in {seconds:.0f} s; {log}")
    for one in failed:
        print(f"    {one}", flush=True)
    return failed


def _failures(case: Case, folder: Path, pytest: Sequence[str], log: Path) -> Iterator[str]:
    """Yield the tests and the commands that failed; all output goes to the log."""
    prefix, environment = _under(case, folder)
    python = [*prefix, sys.executable, "-m"]
    work = folder / "work"
    (work / "vendor").mkdir(parents=True)
    with log.open("wb") as lines:
        said = {"env": environment, "stdout": lines, "stderr": subprocess.STDOUT}
        code = subprocess.call([*python, "pytest", "-q", "-rfE", "-p", "no:cacheprovider", *pytest], cwd=ROOT, **said)
        failed = [line for line in log.read_text("utf-8").splitlines() if line.startswith(("FAILED ", "ERROR "))]
        yield from failed
        if code and not failed:
            yield f"pytest ended with {code}"
        for wanted, *command in COMMANDS:
            words = [word.format(sample=ROOT / "data" / "sample") for word in command]
            code = subprocess.call([*python, "backtest", *words], cwd=work, **said)
            if code != wanted:
                yield f"backtest {' '.join(words)} ended with {code}, not {wanted}"


def _under(case: Case, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return the prefix of a command that runs in a case, and its environment."""
    shim = folder / "shim"
    shim.mkdir()
    (shim / "sitecustomize.py").write_text(SLEEP, "utf-8")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "BACKTEST_STORE"))},
        "TZ": case.zone,
        "LC_ALL": case.language,
        "PYTHONPATH": str(shim),
        "PYTHONPYCACHEPREFIX": str(folder / "compiled"),  # files have other times of change in there
        "XDG_CACHE_HOME": str(folder / "cache"),
        # libfaketime reads its own variables again every ten seconds, in whatever thread asks for the time; a test that
        # sets a variable meanwhile moves the table under it, and the process crashes.
        "FAKETIME_CACHE_DURATION": "1000000",
    }
    faketime = ["faketime", "--exclude-monotonic", "-f", f"{case.later:+.0f}"]
    return faketime if case.day else [], environment


def main(words: list[str]) -> int:
    """Run the named cases, or all; return 1 if anything failed in one of them."""
    at = words.index("--") if "--" in words else len(words)
    ours, pytest = words[:at], words[at + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(CASES)}; all if none is named")
    names = parser.parse_args(ours).names or list(CASES)
    if unknown := [name for name in names if name not in CASES]:
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    if shutil.which("faketime") is None:
        print(MISSING, file=sys.stderr)
        return 2
    KEPT.mkdir(parents=True, exist_ok=True)
    failed = {name: run(name, CASES[name], pytest or SELECTION) for name in names}
    bad = [name for name, one in failed.items() if one]
    print(f"failed: {', '.join(bad)}" if bad else f"all green: {', '.join(names)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
