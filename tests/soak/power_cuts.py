"""
Cut the power at every moment of a write: what the writer acknowledged is there, and no file is torn.

Run:  python tests/soak/power_cuts.py [--cuts 10000] [--seed 7] [--every 1]

The writer's calls are recorded with what they wrote. A disk keeps what was synced, and any part of the rest. For each
moment the harness builds states of the disk in which each name and each file that was not synced is as before, as now,
empty, truncated or zeroed. Each state must open, hold at least what was acknowledged and nothing that was never
written, and accept further writes. Before an acknowledgement every new file must be synced, and every new name must be
in a synced folder. This holds too for a second writer that continues after the first was killed: it must not rely on a
name that it merely finds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from random import Random

from every_call import warm_child
from operations import OPERATIONS, Operation, State, by_processes, done_again, environment, quick_folder, told
from tracer import Call, Judgement, Kill, trace

_Name = tuple[int, str]  # number of a folder, and a name in it
Found = Iterator[tuple[str, bytes | None]]


@dataclass
class Change:
    """Names that one call set to files or folders (by number), or removed."""

    moment: int
    names: dict[_Name, int | None]
    call: str
    synced: int | None = None  # the moment from which it lasts


@dataclass
class Content:
    """The content of a file from a moment on."""

    moment: int
    data: bytes
    synced: int | None = None


@dataclass
class Disk:
    """A root folder as a disk sees it: names and contents, each with the moment at which it was synced."""

    root: str
    moment: int = 0
    changes: list[Change] = field(default_factory=list)
    contents: dict[int, list[Content]] = field(default_factory=dict)
    folders: set[int] = field(default_factory=lambda: {0})
    live: dict[_Name, int] = field(default_factory=dict)
    acknowledged: list[int] = field(default_factory=list)  # moments
    unsynced: list[str] = field(default_factory=list)  # what an acknowledgement came too early for

    @classmethod
    def of(cls, root: Path) -> Disk:
        """Return a disk that holds a folder, all of it synced."""
        disk = cls(str(root.resolve()))
        for path in sorted(root.resolve().rglob("*")):
            disk._appear(str(path), "found", None if path.is_dir() else path.read_bytes())
        for change in disk.changes:
            change.synced = 0
        for content in disk.contents.values():
            content[-1].synced = 0
        return disk

    def note(self, call: Call) -> None:
        """Record a call that was made."""
        if call.result < 0:
            return
        self.moment += 1
        match call.name:
            case "acknowledge":
                self.acknowledged.append(self.moment)
                self.unsynced += self._not_synced()
            case "openat" | "open" | "creat" | "write" | "writev" | "pwrite64" | "ftruncate" | "truncate" | "sendfile":
                self._written(call)
            case "copy_file_range":
                self._written(Call(call.name, call.paths[1:], os.O_WRONLY))
            case "mkdir" | "mkdirat":
                self._appear(call.paths[0], call.name, None)
            case "rename" | "renameat" | "renameat2" if not call.paths[0].startswith(self.root + "/"):
                self.unsynced.append(f"{call.paths[1]} was written outside of the root")
                self._appear(call.paths[1], call.name, Path(call.paths[1]).read_bytes())
                self.contents[self._number(call.paths[1])][-1].synced = self.moment  # or not: nobody was there to see
            case "rename" | "renameat" | "renameat2":
                self._set({call.paths[0]: None, call.paths[1]: self._number(call.paths[0])}, call.name)
            case "link" | "linkat":
                self._set({call.paths[1]: self._number(call.paths[0])}, call.name)
            case "unlink" | "unlinkat" | "rmdir":
                self._set({call.paths[0]: None}, call.name)
            case "fsync" | "fdatasync":
                self._sync(self._number(call.paths[0]))

    def look(self) -> None:
        """Record what was done unseen: a thread may be inside a call when its process is killed."""
        self.moment += 1
        present = {str(path): path for path in sorted(Path(self.root).rglob("*"))}
        for path in [self._whole_path(*name) for name in self.live]:
            if path not in present:
                self._set({path: None}, "unseen")
        for text, path in present.items():
            try:
                self._number(text)
            except KeyError:
                self._appear(text, "unseen", None if path.is_dir() else path.read_bytes())

    def state(self, moment: int, chance: Random) -> dict[str, bytes | None]:
        """Return a state that the disk may have after that moment: files, and folders as None."""
        names: dict[_Name, int] = {}
        lucky = chance.choice((0.0, 0.5, 0.5, 0.9, 1.0))  # how much of what was not synced has reached the disk
        for change in self.changes:
            if change.moment <= moment and (_lasts(change, moment) or chance.random() < lucky):
                for name, number in change.names.items():
                    names.pop(name, None) if number is None else names.__setitem__(name, number)
        return dict(self._below(0, "", names, moment, chance))

    def _below(self, folder: int, path: str, names: dict[_Name, int], moment: int, chance: Random) -> Found:
        for (above, name), number in sorted(names.items()):
            if above == folder and number in self.folders:
                yield f"{path}{name}", None
                yield from self._below(number, f"{path}{name}/", names, moment, chance)
            elif above == folder:
                yield f"{path}{name}", self._found(number, moment, chance)

    def _found(self, number: int, moment: int, chance: Random) -> bytes:
        """Return what a file may contain: its last synced content, or any part of a later one."""
        past = [content for content in self.contents[number] if content.moment <= moment]
        lasting = [place for place, content in enumerate(past) if _lasts(content, moment)]
        possible = past[lasting[-1] :] if lasting else [Content(0, b""), *past]
        content = chance.choice(possible).data
        if len(possible) == 1 or chance.random() < 0.5:
            return content
        cut = chance.randint(0, len(content))
        return chance.choice((content[:cut], content[:cut] + bytes(len(content) - cut), bytes(len(content))))

    def _not_synced(self) -> list[str]:
        """Return what is in use and not synced: a removal may take effect later, and a lock has nothing to lose."""
        early = []
        for (folder, name), number in self.live.items():
            if name == ".lock" or name.startswith(".tmp-"):
                continue
            last = [change for change in self.changes if change.names.get((folder, name)) == number][-1]
            if last.synced is None:
                early.append(f"the name {self._path(folder, name)} ({last.call}) is not in a synced folder")
            if number in self.contents and self.contents[number][-1].synced is None:
                early.append(f"the content of {self._path(folder, name)} is not synced")
        return early

    def _path(self, folder: int, name: str) -> str:
        above = next((key for key, number in self.live.items() if number == folder), None)
        return name if above is None else f"{self._path(*above)}/{name}"

    def _whole_path(self, folder: int, name: str) -> str:
        return f"{self.root}/{self._path(folder, name)}"

    def _written(self, call: Call) -> None:
        path = call.paths[0]
        if path.endswith(" (deleted)") or not call.changes or not Path(path).is_file():
            return
        data = Path(path).read_bytes()
        try:
            number = self._number(path)
        except KeyError:
            self._appear(path, call.name, data)
            return
        if self.contents[number][-1].data != data:
            self.contents[number].append(Content(self.moment, data))

    def _appear(self, path: str, call: str, data: bytes | None) -> None:
        number = 1 + len(self.contents) + len(self.folders)
        if data is None:
            self.folders.add(number)
        else:
            self.contents[number] = [Content(self.moment, data)]
        self._set({path: number}, call)

    def _set(self, paths: dict[str, int | None], call: str) -> None:
        names = {self._name(path): number for path, number in paths.items()}
        self.changes.append(Change(self.moment, names, call))
        for name, number in names.items():
            if number is None:
                self.live.pop(name, None)
            else:
                self.live[name] = number

    def _sync(self, number: int) -> None:
        for content in self.contents.get(number, ()):
            content.synced = content.synced or self.moment
        for change in self.changes:
            if change.synced is None and number in {folder for folder, _ in change.names}:
                change.synced = self.moment  # of a move from folder to folder either: the journal has both or none

    def _name(self, path: str) -> _Name:
        above, _, name = path.rpartition("/")
        return self._number(above), name

    def _number(self, path: str) -> int:
        return 0 if path == self.root else self.live[self._name(path)]


def _lasts(one: Change | Content, moment: int) -> bool:
    return one.synced is not None and one.synced <= moment


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--cuts", type=int, default=10_000)
    words.add_argument("--seed", type=int, default=7)
    words.add_argument("--every", type=int, default=1, help="check the order of syncs after every n-th kill")
    words.add_argument("--jobs", type=int, default=2)
    asked = words.parse_args()
    share, count_of = -(-asked.cuts // len(OPERATIONS)), len(OPERATIONS)
    with environment(), tempfile.TemporaryDirectory(dir=quick_folder()) as folder:
        given = ([word] * count_of for word in (share, asked.seed, asked.every))
        ready = partial(warm_child, Path(folder))
        done = by_processes(asked.jobs, _judge, [folder] * count_of, range(count_of), *given, ready=ready)
    cuts, ways = sum(one[0] for one in done), sum(one[2] for one in done)
    failures, early = [text for one in done for text in one[1]], [text for one in done for text in one[3]]
    print("\n".join([*failures, *early]))
    print(f"{cuts} power cuts: {len(failures)} failures; {ways} ways to an acknowledgement: {len(early)} not synced")
    raise SystemExit(bool(failures or early))


def run(folder: Path, operations: Sequence[Operation], cuts: int, seed: int) -> tuple[int, list[str]]:
    """Cut the power this many times, spread over the operations; return how often, and a line for each failure."""
    done, failures = 0, []
    for operation in operations:
        root, disk, known = record(Path(tempfile.mkdtemp(dir=folder)), operation)
        for place in range(-(-cuts // len(operations))):
            moment, chance = place % (disk.moment + 1), Random(f"{seed} {operation.name} {place}")
            wrong = _after_cut(root, operation, disk.state(moment, chance), moment >= disk.acknowledged[0], known)
            failures += [f"{operation.name}, cut {place} after call {moment}: {wrong}"] if wrong else []
            done += 1
    return done, failures


def record(folder: Path, operation: Operation) -> tuple[Path, Disk, tuple[State, State]]:
    """Do an operation; return its folder, the disk that recorded it, and the states before and after."""
    root = folder / "bars"
    operation.before(root)
    before, disk = operation.holds(root), Disk.of(root)
    ended = trace(lambda: told(lambda: operation.act(root), folder / "said"), root, after=disk.note)
    assert ended.acknowledged, (operation.name, (folder / "said").read_text())
    return root, disk, (before, operation.holds(root))


def in_order(folder: Path, operations: Sequence[Operation], every: int = 1) -> tuple[int, list[str]]:
    """Kill operations at every n-th change, repeat them, and check the order of syncs; return how many, and faults."""
    ways, early = 0, dict[str, None]()
    for operation in operations:
        template = Path(tempfile.mkdtemp(dir=folder)) / "bars"
        operation.before(template)
        for place in count(step=every):
            root, disk = Path(shutil.copytree(template, template.parent / "struck")), Disk.of(template)
            disk.root = str(root.resolve())
            killed = trace(_act(operation, root), root, _kill_at(place), disk.note).code == -9
            disk.look()
            again = trace(_act(operation, root), root, after=disk.note) if killed else None
            wrong = (
                disk.unsynced if again is None or again.acknowledged else [(root.parent / "said").read_text().strip()]
            )
            early |= dict.fromkeys(f"{operation.name}{', again after a kill' * killed}: {text}" for text in wrong)
            shutil.rmtree(root)
            ways += 1
            if not killed:
                break
    return ways, list(early)


def _judge(folder: str, place: int, cuts: int, seed: int, every: int) -> tuple[int, list[str], int, list[str]]:
    operations = [OPERATIONS[place]]
    return *run(Path(folder), operations, cuts, seed), *in_order(Path(folder), operations, every)


def _act(operation: Operation, root: Path) -> Callable[[], int]:
    return lambda: told(lambda: operation.act(root), root.parent / "said")


def _kill_at(place: int) -> Callable[[Call], Judgement]:
    left = [place]

    def judge(call: Call) -> Judgement:
        left[0] -= call.changes
        return Kill() if left[0] < 0 else None

    return judge


def _after_cut(
    root: Path, operation: Operation, found: dict[str, bytes | None], acknowledged: bool, known: tuple[State, State]
) -> str:
    shutil.rmtree(root)
    root.mkdir()
    for name, data in found.items():
        root.joinpath(name).mkdir() if data is None else root.joinpath(name).write_bytes(data)
    try:
        held = operation.holds(root)
        if not operation.is_either(held, *known) or (acknowledged and held != known[1]):
            return "what was acknowledged is not there" if held == known[0] else "neither as before nor as after"
        return (
            "" if done_again(operation, root) == known[1] else "doing it again did not end as if nothing had happened"
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
        return f"{type(error).__name__}: {error}"
    finally:
        shutil.rmtree(root)
        root.mkdir()


if __name__ == "__main__":
    main()
