"""
Replace each file that a command opens by something that is not a file: the command ends soon, with an error.

Run:  python tests/soak/doors.py [--commands "runs ls,report"] [--every 1]

The tracer records which files each command opens, so no list of them can be incomplete. A pipe, a link to /dev/zero, a
folder and an unreadable file replace each in turn. The command must then end within 20 seconds and 2 GB of memory, with
a one-line error and an exit code from 1 to 5. It may do without a file that is optional: a list of runs without a
summary must print what it prints with it. A command may also write the file again, if it ends with the same bytes as
when nothing is replaced.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from operations import Operation, command, environment, prepared, quick_folder, told
from rights import unreadable
from tracer import Call, Ended, trace
from writers import project_with_all

from backtest.runs.record import SUMMARY

SECONDS, MEMORY = 20.0, 2 << 30
_OPENS = ("open", "openat", "openat2")
_BARS = "--store bars"
COMMANDS = {
    "ls": f"ls {_BARS}",
    "verify": f"verify {_BARS}",
    "export": f"export AAPL/1day out.csv --force {_BARS}",
    "publish": f"publish file://{{root}}/public {_BARS}",
    "ls of a URL": "ls --store file://{root}/public",
    "export of a URL": "export AAPL/1day out.csv --force --store file://{root}/public",
    "import": f"import bars.csv IBM/1day {_BARS}",
    "pin": f"pin --check {_BARS}",
    "run": f"run hold.py AAPL/1day --pin data.lock {_BARS} --out runs/new",
    "runs ls": "runs ls --json",
    "runs show": "runs show one",
    "report": "report one --out page",
    "compare": "compare one two",
    "validate": "validate grid --bootstrap 10",
    "sweep": f"sweep hold.py AAPL/1day --grid size=1,2 --out runs/grid --resume {_BARS}",
    "baseline check": f"baseline check --folder baselines {_BARS}",
    "reproduce": f"reproduce one {_BARS}",
}
# What may be done without: it is made again, or another one serves.
_OPTIONAL = (".lock", "__pycache__", "metrics.json", "index.html", "heatmap.png", "labels.json", SUMMARY)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--commands", default=",".join(COMMANDS))
    words.add_argument("--every", type=int, default=1, help="try every n-th file of each command")
    asked = words.parse_args()
    with environment(), tempfile.TemporaryDirectory(dir=quick_folder()) as folder:
        tried, failures = run(Path(folder), asked.commands.split(","), asked.every)
    print("\n".join(failures))
    print(f"{tried} files in the place of others, {len(asked.commands.split(','))} commands: {len(failures)} failures")
    raise SystemExit(bool(failures))


def run(folder: Path, names: list[str], every: int) -> tuple[int, list[str]]:
    """Replace every n-th file by each kind; return how many were replaced, and a line for each failure."""
    operations = {name: Operation(name, project_with_all, _doing(COMMANDS[name])) for name in names}
    before = prepared(next(iter(operations.values())), folder / "before")
    tried, failures = 0, []
    for name, operation in operations.items():
        whole = Path(shutil.copytree(before, folder / "whole", symlinks=True))
        files, said = opened(operation, whole)
        made = {place: (whole / place).read_bytes() for place in files if (whole / place).is_file()}
        shutil.rmtree(whole)
        assert files, f"{name} opens no file"
        for place in files[::every]:
            for kind in KINDS:
                root = Path(shutil.copytree(before, folder / "tried", symlinks=True))
                wrong = _tried(operation, root, place, kind, said, made.get(place))
                failures += [f"{name}, {kind} for {place}: {text}" for text in wrong]
                tried += 1
                shutil.rmtree(root)
    return tried, failures


def opened(operation: Operation, root: Path) -> tuple[list[Path], str]:
    """Return the files below a folder that an operation opens and that existed before, and its output."""
    there = {str(path) for path in root.rglob("*") if path.is_file()}
    seen: list[str] = []

    def look(call: Call) -> None:
        seen.extend(path for path in call.paths if call.name in _OPENS and path in there)

    ended = trace(lambda: told(lambda: operation.act(root), root.parent / "said"), root, look)
    assert not ended.code, (operation.name, ended, (root.parent / "said").read_text())
    files = [Path(path).relative_to(root) for path in dict.fromkeys(seen)]
    return files, _said(root)


def _said(root: Path) -> str:
    return (root.parent / "said").read_text(errors="replace").replace(str(root), "ROOT")


def _tried(operation: Operation, root: Path, place: Path, kind: str, undisturbed: str, made: bytes | None) -> list[str]:
    with contextlib.ExitStack() as stack:
        KINDS[kind](root / place, stack)
        put = (root / place).lstat()
        said = root.parent / "said"
        ended = trace(lambda: told(lambda: _bounded(operation, root), said), root, seconds=SECONDS)
        text = _said(root)
    if not ended.code and _made_again(root / place, put, made):
        return []
    wrong = _wrong(ended, text, place)
    if not wrong and not ended.code and place.name == SUMMARY and text != undisturbed:
        return [f"said something else than with the summary: {text[-200:]}"]
    return wrong


def _made_again(path: Path, put: os.stat_result, made: bytes | None) -> bool:
    """Return whether another file, with the expected bytes, has taken the place of the replacement."""
    if path.is_symlink() or not path.is_file() or os.path.samestat(path.lstat(), put):
        return False
    return path.read_bytes() == made


def _wrong(ended: Ended, said: str, place: Path) -> list[str]:
    if ended.hung:
        return ["it hung"]
    if "Traceback" in said or ended.code not in range(6):
        return [f"exit code {ended.code}: {said[-300:]}"]
    optional = any(word in place.as_posix() for word in _OPTIONAL)
    if not ended.code and not optional:
        return [f"believed: {said[-200:]}"]
    return []


def _bounded(operation: Operation, root: Path) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    operation.act(root)


def _doing(words: str) -> Callable[[Path], None]:
    def act(root: Path) -> None:
        with contextlib.chdir(root):
            command(*words.format(root=root).split())

    return act


# --- what comes in a file's place


def _pipe(path: Path, stack: contextlib.ExitStack) -> None:
    path.unlink()
    os.mkfifo(path)


def _endless(path: Path, stack: contextlib.ExitStack) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _folder(path: Path, stack: contextlib.ExitStack) -> None:
    path.unlink()
    path.mkdir()


def _without_rights(path: Path, stack: contextlib.ExitStack) -> None:
    stack.enter_context(unreadable(path))


KINDS: dict[str, Callable[[Path, contextlib.ExitStack], None]] = {
    "pipe": _pipe,
    "link to /dev/zero": _endless,
    "folder": _folder,
    "file without rights": _without_rights,
}


if __name__ == "__main__":
    main()
