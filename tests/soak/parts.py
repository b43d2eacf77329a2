"""
The parts of `make soak`: what takes too long for `make test`, each under an hour on two cores.

Run:  python tests/soak/parts.py            (lists them)
      python tests/soak/parts.py kills      (runs one)
      python tests/soak/parts.py --json     (their names, for a workflow)
      python tests/soak/parts.py all        (runs all, even if some fail, and lists the failures at the end)
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PYTHON = sys.executable
PYTEST = (PYTHON, "-m", "pytest", "-q", "--numprocesses", "4", "--dist", "worksteal")  # as `make test` does
SECOND = (str(ROOT / ".venv-ib-async" / "bin" / "python"), "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal")
CLIENT = tuple(
    f"tests/{name}.py"
    for name in [
        "sources/ib/test_decoder",
        "downloads/test_downloader",
        "behaviour/test_fault_table",
        "downloads/test_series",
        "sources/ib/test_source",
        "sources/ib/test_link",
        "sources/ib/test_pacing",
    ]
)


@dataclass(frozen=True)
class Part:
    """A long test: its commands, in order, and what it covers."""

    name: str
    about: str
    commands: tuple[tuple[str, ...], ...]


PAGES = "report,report again,report elsewhere,report as pictures"  # operations that need an hour by themselves


def script(name: str, *words: str) -> tuple[str, ...]:
    return (PYTHON, str(HERE / f"{name}.py"), *words)


PARTS = (
    Part("words", "the output of every command and every error contains none of the words to avoid",
         ((PYTHON, str(HERE.parent / "support" / "outputs.py")),)),
    Part("harness", "the harnesses detect deliberate errors; the benchmarks compare like with like",
         (script("controls"), (*PYTEST, "-m", "soak"))),
    Part("calls", "each call of each operation on the store fails or is killed",
         (script("every_call", "--faults", "kill,EIO,ENOSPC"),)),
    Part("errors", "each call of each operation fails with the rarer errors",
         (script("every_call", "--faults", "EINTR,EMFILE,EROFS,EACCES"),)),
    Part("writers", "each call of each writer of runs, sweeps, baselines, pins and exports fails or is killed",
         (script("every_call", "--outside", "--faults", "kill,EIO,ENOSPC", "--without", PAGES),
          script("full_disk", "--outside"))),
    Part("pages", "each call of each writer of a run's page fails or is killed",
         (script("every_call", "--outside", "--faults", "kill,EIO,ENOSPC", "--operations", PAGES),)),
    Part("doors", "pipes, devices, folders and unreadable files replace each file that a command reads",
         (script("doors"),)),
    Part("kills", "writers are killed at random moments", (script("kills", "--kills", "3000"),)),
    Part("power", "the power is cut at every step of a write", (script("power_cuts", "--cuts", "2000"),)),
    Part("crowd", "writers and readers use the same store at the same time", (script("crowd"),)),
    Part("disks", "disks are full, and bytes are flipped", (script("full_disk"), script("flips", "--every", "5"))),
    Part("fuzz", "every kind of input is random noise", (script("fuzz", "--inputs", "20000"),)),
    Part("storms", "gateway faults, kills and disk errors combined", (script("storms", "--seeds", "2000"),)),
    Part("year", "three hundred nightly updates of sixty series, with every fault of a vendor",
         (script("year", "--years", "2"),)),
    Part("downloads", "downloads, repairs and publications to a bucket are killed",
         (script("killed_downloads", "--kills", "100"), script("killed_repairs"), script("killed_publications"))),
    Part("mutations", "a baseline check names the one thing that was changed at random", (script("mutations"),)),
    Part("parity", "random cases give the same results as with Backtrader, and detect every mutant of the fast loop",
         (script("parity", "--cases", "20000"), script("parity", "--mutants", "--cases", "1000"))),
    Part("compiled", "random cases give the same trials with the compiled engine and with the event engine",
         (script("compiled", "--cases", "200"), script("compiled", "--fast"), script("compiled", "--mutants"))),
    Part("money", "a thousand random accounts in several currencies and as many margin accounts agree with a ledger; "
         "after ten thousand random orders no account has more leverage than its rules allow",
         (script("money"), script("margin"))),
    Part("sweeps", "a thousand trials in processes, on Dask, in a bucket, and after a kill", (script("sweeps"),)),
    Part("luck", "a model trained on shuffled labels finds nothing", (script("luck"),)),
    Part("skill", "verdicts separate strategies with skill from those without, and intervals cover the true values",
         (script("skill"),)),
    Part("data", "faults planted in clean bars are refused or found", (script("data_faults"),)),
    Part("tasks", "answers to a reader's questions take at most three actions on each page, in a browser",
         (script("page_tasks"),)),
    Part("second-client", "every test that uses a gateway, with ib_async", ((*SECOND, *CLIENT),)),
    Part("any-day", "fast tests, pages and notebooks on other dates, in other time zones and languages",
         (script("any_day"),)),
    Part("any-order", "all tests in random orders", tuple((*PYTEST, "-p", "randomly") for _ in range(3))),
    Part("load", "all tests on a busy machine; those of sockets, processes and time five times",
         (script("load"),)),
)  # fmt: skip


def main(words: list[str]) -> int:
    """List the parts, or run the named ones; return 1 if one failed, 2 for an unknown name."""
    known = {part.name: part for part in PARTS}
    if words == ["--json"]:
        print(json.dumps([*known]))
        return 0
    names = list(known) if words == ["all"] else words
    if unknown := [name for name in names if name not in known]:
        print(f"there is no part {', '.join(unknown)}; make soak lists them", file=sys.stderr)
        return 2
    if not names:
        print("\n".join(f"make soak PART={part.name:<14} {part.about}" for part in PARTS))
        return 0
    ended = {name: run(known[name]) for name in names}
    print("\n".join(["", *(f"{name:<14} {told}" for name, (_, told) in ended.items())]))
    return int(any(failed for failed, _ in ended.values()))


def run(part: Part) -> tuple[bool, str]:
    """Run all commands of a part; return whether one failed, and the outcome as text."""
    began, failed = time.monotonic(), []
    for command in part.commands:
        shown = " ".join(Path(word).name if Path(word).is_absolute() else word for word in command)
        print(f"== {part.name}: {shown}", flush=True)
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            failed.append(shown)
    told = f"FAILED: {'; '.join(failed)}" if failed else "passed"
    return bool(failed), f"{told} ({(time.monotonic() - began) / 60:.1f} minutes)"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
