"""
The parts of `make soak`: what takes too long for `make test`, each under an hour on two cores.

Run:  python tests/soak/parts.py            (lists them)
      python tests/soak/parts.py kills      (runs one, whole)
      python tests/soak/parts.py --json     (their names, for a workflow)
      python tests/soak/parts.py all        (runs all, whatever fails, and tells at the end what did)
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
    """A long test: its commands, one after the other, and what it is about."""

    name: str
    about: str
    commands: tuple[tuple[str, ...], ...]


def script(name: str, *words: str) -> tuple[str, ...]:
    return (PYTHON, str(HERE / f"{name}.py"), *words)


PARTS = (
    Part("words", "what each command and each error says has none of the words that we do not write",
         ((PYTHON, str(HERE.parent / "support" / "outputs.py")),)),
    Part("harness", "the harnesses find what is careless on purpose; the benchmarks compare like with like",
         (script("controls"), (*PYTEST, "-m", "soak"))),
    Part("calls", "each call of each operation on the store fails or is killed",
         (script("every_call", "--faults", "kill,EIO,ENOSPC"),)),
    Part("errors", "each call of each operation fails with the rarer errors",
         (script("every_call", "--faults", "EINTR,EMFILE,EROFS,EACCES"),)),
    Part("writers", "each call of each writer of runs, pages, sweeps, baselines, pins and exports fails or is killed",
         (script("every_call", "--outside", "--faults", "kill,EIO,ENOSPC"), script("full_disk", "--outside"))),
    Part("doors", "pipes, devices, folders and files without rights in the place of each file that is read",
         (script("doors"),)),
    Part("kills", "writers are killed at random moments", (script("kills", "--kills", "3000"),)),
    Part("power", "the power is cut at every moment of a writer's life", (script("power_cuts", "--cuts", "2000"),)),
    Part("crowd", "writers and readers have the same store at once", (script("crowd"),)),
    Part("disks", "disks are full, bytes are flipped", (script("full_disk"), script("flips", "--every", "5"))),
    Part("fuzz", "noise at every door", (script("fuzz", "--inputs", "20000"),)),
    Part("storms", "faults of the gateway, kills and disk errors at once", (script("storms", "--seeds", "2000"),)),
    Part("year", "three hundred nights of sixty series, whatever the vendor does", (script("year", "--years", "2"),)),
    Part("downloads", "downloads, repairs and publications to a bucket are killed",
         (script("killed_downloads", "--kills", "100"), script("killed_repairs"), script("killed_publications"))),
    Part("mutations", "one thing is changed at random, and a baseline names it", (script("mutations"),)),
    Part("parity", "random cases, the same with Backtrader and with us, which tell each wrong lean loop",
         (script("parity", "--cases", "20000"), script("parity", "--mutants", "--cases", "1000"))),
    Part("compiled", "trials of the compiled engine, the same as those of the event engine, in random cases",
         (script("compiled", "--cases", "200"), script("compiled", "--fast"), script("compiled", "--mutants"))),
    Part("money", "a thousand random accounts in several currencies, and as many that lend, are those of a ledger; ten "
         "thousand random orders end with no more leverage than a cash or a margin account allows",
         (script("money"), script("margin"))),
    Part("sweeps", "a thousand trials by processes, Dask, a bucket, and after a kill", (script("sweeps"),)),
    Part("luck", "a machine that learns from shuffled labels finds nothing", (script("luck"),)),
    Part("skill", "what has no skill does not hold, what has some does, and intervals cover what is true",
         (script("skill"),)),
    Part("data", "seeded faults in clean bars are refused or found", (script("data_faults"),)),
    Part("tasks", "what a reader wants to know, in at most three actions on each page, in a browser",
         (script("page_tasks"),)),
    Part("second-client", "all that talks to a gateway, with ib_async", ((*SECOND, *CLIENT),)),
    Part("any-day", "what a user meets, on other days, in other zones and languages", (script("any_day"),)),
    Part("any-order", "all tests in random orders", tuple((*PYTEST, "-p", "randomly") for _ in range(3))),
    Part("load", "all tests while others keep the machine busy; those with sockets, processes and time five times",
         (script("load"),)),
)  # fmt: skip


def main(words: list[str]) -> int:
    """List the parts, or run those that are named; return 1 if one failed, 2 for a name that is none."""
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
    """Run all commands of a part; return whether one failed, and how they ended, in words."""
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
