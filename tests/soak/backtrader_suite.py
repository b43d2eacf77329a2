"""
Compare Backtrader's own tests and samples under our Cerebro with the same under Backtrader's.

    python tests/soak/backtrader_suite.py PATH [--only TEXT] [--jobs 2] [--seconds 120]

PATH is a folder with Backtrader's sources, such as a checkout of its repository, with `tests`, `samples` and `datas`.
Each test runs alone, once quietly and once printing its values; each sample runs without options, and with each value
of each option, one at a time. Each runs in a child process, first with Backtrader's Cerebro, then with ours in its
place. Equal means the same output, exit, written files, orders, fills, cash and equity. No window opens: `plot` does
nothing. What fails under Backtrader itself, for lack of a network or of a package, is listed with its error. Exits with
1 if anything differs.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import runpy
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import backtrader as bt
from apart import apart
from parity_check import Cerebro
from side_by_side import Compared, compare

SECONDS = 120.0

# What options that take keywords as text are tried with, by the option's name.
KEYWORDS = {
    "cerebro": ["runonce=False", "preload=False", "exactbars=1", "exactbars=-1", "exactbars=-2", "stdstats=False",
                "tradehistory=True", "oldsync=True", "cheat_on_open=True", "writer=True"],
    "broker": ["cash=50000", "coc=True", "coo=True", "checksubmit=False", "eosbar=True", "slip_perc=0.01",
               "shortcash=False", "int2pnl=False", "fundstartval=10.0"],
    "sizer": ["stake=5"],
    "plot": [],
}  # fmt: skip
# Beside each option of a sample that optimizes: 24 runs in place of 3,840, which it makes once, without options.
NARROWED = {"optimization": ("--ma_high=13", "--m1_high=14", "--m2_high=28", "--m3_high=11")}
SHIFTED = {"from": ("2006-03-01", "2005-07-01"), "to": ("2006-09-01", "2006-06-01")}  # days within the samples' data


@dataclass(frozen=True)
class Job:
    """A test or a sample with its arguments, to be run in its folder."""

    kind: str
    folder: Path
    file: Path
    words: tuple[str, ...] = ()
    function: str = ""

    def __str__(self) -> str:
        return " ".join([str(self.file.relative_to(self.folder)), *filter(None, [self.function]), *self.words])


@dataclass(frozen=True)
class Verdict:
    """The outcomes of a job under both."""

    job: Job
    both: Compared

    @property
    def told(self) -> str:
        """The difference, or the error under both; "" if all is well."""
        if self.both.difference:
            return f"DIFFERS: {self.job}: {self.both.difference}"
        return f"fails under both: {self.job}: {self.both.ended[:200]}" if self.both.ended else ""


def main(words: list[str] | None = None, ours: type[bt.Cerebro] = Cerebro) -> int:
    asked = _asked(words)
    with tempfile.TemporaryDirectory() as copied:
        folder = Path(copied, "backtrader")
        shutil.copytree(asked.path, folder, ignore=shutil.ignore_patterns(".git"))
        jobs = [job for job in [*tests(folder), *samples(folder)] if asked.only in str(job)]
        verdicts = []
        for verdict in judge(jobs, ours, asked.jobs, asked.seconds):
            verdicts.append(verdict)
            if said := verdict.told:
                print(said, flush=True)
    print("\n".join(counts(verdicts)))
    return int(any(one.both.difference for one in verdicts) or not verdicts)


def _asked(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="a folder with Backtrader's sources")
    parser.add_argument("--only", default="", help="only tests and samples whose line in the list contains this text")
    parser.add_argument("--jobs", type=int, default=1, help="how many run at once")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="after which a test or sample is stopped")
    asked = parser.parse_args(words)
    if not any((asked.path / name).is_dir() for name in ("tests", "samples")):
        parser.error(f"{asked.path} has no folder `tests` or `samples`; name a checkout of Backtrader's repository")
    return asked


# --- what there is to run


def tests(folder: Path) -> Iterator[Job]:
    """Yield each test function of Backtrader's suite twice: quiet, and printing its values."""
    for file in sorted(folder.glob("tests/test_*.py")):
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield Job("test", folder, file, (), node.name)
                if any(argument.arg == "main" for argument in node.args.args):
                    yield Job("telling test", folder, file, ("main=True",), node.name)


def samples(folder: Path) -> Iterator[Job]:
    """Yield each sample without options, and with each value of each option."""
    for file in sorted([*folder.glob("samples/**/*.py"), *folder.glob("contrib/samples/**/*.py")]):
        options = apart(partial(_options, file), file.parent, SECONDS).told or []
        needed = {option["group"]: next(_values(option, file), ()) for option in reversed(options) if option["group"]}
        alone = tuple(chain(*needed.values()))
        yield Job("sample", folder, file, alone)
        for option in options:
            others = chain(*(words for group, words in needed.items() if group != option["group"]))
            beside = tuple(others) if option["group"] else alone
            narrow = [word for word in NARROWED.get(file.stem, ()) if word.split("=")[0] != option["flag"]]
            yield from (
                Job("option", folder, file, (*beside, *narrow, *words))
                for words in _values(option, file)
                if {*beside, *words} != {*alone}
            )


class _Enough(BaseException):
    """Ends a sample once its parser is known."""


def _options(file: Path) -> list[dict[str, Any]]:
    """Return the options of a sample, by running it until it parses its arguments."""
    found: list[dict[str, Any]] = []

    def look(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> Any:
        asking = sys._getframe(1)
        while asking.f_globals.get("__name__") == argparse.__name__:
            asking = asking.f_back or asking
        parameters = _parameters(asking.f_globals.values())
        groups = {id(action): group for group in parser._mutually_exclusive_groups for action in group._group_actions}
        found.extend(
            _described(action, parameters, groups.get(id(action)))
            for action in parser._actions
            if action.dest != "help"
        )
        raise _Enough

    argparse.ArgumentParser.parse_args = look  # type: ignore[method-assign, assignment]
    argparse.ArgumentParser.parse_known_args = look  # type: ignore[method-assign, assignment]
    sys.argv = [file.name]
    sys.path.insert(0, str(file.parent))
    # A sample that fails before it reads words has no options, and the run without any tells its error.
    with suppress(_Enough, Exception):
        runpy.run_path(file.name, run_name="__main__")
    return found


def _parameters(things: Iterable[Any]) -> dict[str, Any]:
    strategies = [one for one in things if isinstance(one, type) and issubclass(one, bt.Strategy)]
    own = [one for one in strategies if not one.__module__.startswith("backtrader")]
    return {name: value for one in own for name, value in one.params._getitems() if isinstance(value, int | float)}


def _described(action: argparse.Action, parameters: dict[str, Any], exclusive: Any) -> dict[str, Any]:
    """Return an option as plain values; if it is required, or one of several of which one is, `group` says which."""
    one_of = f"one of {id(exclusive)}" if exclusive is not None and exclusive.required else ""
    return {
        "flag": action.option_strings[-1] if action.option_strings else "",
        "name": action.dest,
        "default": action.default if isinstance(action.default, int | float | str) else None,
        "choices": [str(choice) for choice in action.choices or ()],
        "bare": action.nargs == 0 or action.nargs == "?",
        "valued": action.nargs != 0,
        "keywords": action.metavar == "kwargs" or "kwargs" in (action.help or ""),
        "type": getattr(action.type, "__name__", ""),
        "group": action.dest if action.required else one_of,
        "parameters": parameters,
    }


def _values(option: dict[str, Any], file: Path) -> Iterator[tuple[str, ...]]:
    """Yield the arguments of an option for each value to try, other than its default."""
    flag, default = option["flag"], option["default"]
    if option["bare"] and flag:
        yield (flag,)
    if option["valued"]:
        for value in _texts(option, file):
            if value != str(default) or option["group"]:
                yield (f"{flag}={value}",) if flag.startswith("--") else tuple(filter(None, (flag, value)))


def _texts(option: dict[str, Any], file: Path) -> list[str]:
    name, default = option["name"], option["default"]
    if option["choices"]:
        return option["choices"]
    if option["keywords"]:
        return KEYWORDS.get(name, [f"{key}={_other(value)}" for key, value in option["parameters"].items()])
    if isinstance(default, str) and (file.parent / default).is_file():
        return _other_files(file.parent, Path(default))
    if "date" in name or re.fullmatch(r"\d{4}-\d\d-\d\d.*", str(default)):
        return list(SHIFTED["from" if "from" in name or "start" in name else "to"])
    if option["type"] in ("int", "float") or isinstance(default, int | float):
        return _numbers(option)
    return ["1"]


def _other_files(folder: Path, default: Path) -> list[str]:
    """Return two other files beside the default: those of daily bars first."""
    beside = sorted((folder / default).parent.glob(f"*{default.suffix}"), key=lambda path: "day" not in path.name)
    return [str(default.with_name(path.name)) for path in beside if path.name != default.name][:2]


def _numbers(option: dict[str, Any]) -> list[str]:
    default = option["default"] or 0
    if option["type"] == "int" or isinstance(default, int):
        return [str(int(default) + 1), str(max(1, int(default) // 2))]
    return [str(float(default) * 1.5 or 0.01), str(float(default) / 2 or 0.5)]


def _other(value: float) -> Any:
    return not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else value * 1.5 or 0.5


# --- both runs


def judge(jobs: list[Job], ours: type[bt.Cerebro], workers: int = 1, seconds: float = SECONDS) -> Iterator[Verdict]:
    """Yield the verdict on each job, in order; several workers run the jobs in processes."""
    one = partial(judge_one, ours=ours, seconds=seconds)
    if workers == 1:
        yield from map(one, jobs)
        return
    with ProcessPoolExecutor(workers, get_context("fork")) as pool:
        yield from pool.map(one, jobs)


def judge_one(job: Job, ours: type[bt.Cerebro], seconds: float = SECONDS) -> Verdict:
    """Run a job with Backtrader's Cerebro and with ours in its place, and compare."""
    return Verdict(job, compare(partial(_do, job), ours, job.file.parent, seconds))


def _do(job: Job) -> None:
    sys.argv = [job.file.name, *job.words]
    sys.path.insert(0, str(job.file.parent))
    bt.Cerebro.plot = lambda *_, **__: None
    time.clock = time.process_time  # type: ignore[attr-defined] # which Python had when the samples were written
    if not job.function:
        runpy.run_path(job.file.name, run_name="__main__")
        return
    test = getattr(importlib.import_module(job.file.stem), job.function)
    test(**({"main": True} if job.words else {}))


# --- the report


def counts(verdicts: list[Verdict]) -> Iterator[str]:
    """Yield, for each kind of job, how many succeed and how many are equal, and last the number of differences."""
    for kind in dict.fromkeys(one.job.kind for one in verdicts):
        all_of_it = [one.both for one in verdicts if one.job.kind == kind]
        succeeds = [not both.difference for both in all_of_it if not both.ended]
        fails = [not both.difference for both in all_of_it if both.ended]
        yield (
            f"{kind}: {len(all_of_it)}; {len(succeeds)} succeed under Backtrader, {sum(succeeds)} of these equal; "
            f"{len(fails)} fail under Backtrader, {sum(fails)} of these alike"
        )
    runs, lean, orders = (sum(getattr(one.both, name) for one in verdicts) for name in ("runs", "lean", "orders"))
    yield f"runs: {runs}, {lean} of them by the lean loop; orders: {orders}"
    yield f"{sum(bool(one.both.difference) for one in verdicts)} differences"


if __name__ == "__main__":
    sys.exit(main())
