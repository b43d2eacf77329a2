"""
The pages for readers, and `Reader`, who does what a page says from its first line to its last.

Run:  python tests/support/pages.py [PAGE]...        (updates the output of their commands)
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import IO, Any
from unittest import mock

from blank import blank_figures
from bucket import KEY, SECRET, Bucket
from places import ROOT

from backtest import Series, Store, connect, download
from backtest.cli.app import main
from backtest.emulator.server import Gateway
from backtest.onboarding.demo import SERIES as DEMO
from backtest.onboarding.demo import SINCE, UNTIL
from backtest.report import figures

PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("README.md", "docs/**/*.md", "data/README.md", "strategies/README.md", ".github/CONTRIBUTING.md")
    for path in ROOT.glob(pattern)
)
ENDINGS = "cfg|crontab|csv|gitignore|ini|ipynb|json|lock|md|py|service|sh|timer|toml|txt|ya?ml"
# "`strategies/trend.py`, a strategy:" above a block says that it is a file.
BLOCK = re.compile(
    rf"(?:^`(?P<file>[\w~./-]*\.(?:{ENDINGS}))`[^\n]*:\n\n)?^```(?P<kind>\S*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
RUN = ("console", "sh", "python")
KEPT = re.compile(r"(?P<command>[^>]+) > (?P<file>[\w.]+)")  # a command whose output goes to a file
DAY_AFTER = datetime(2013, 3, 2, 12, tzinfo=UTC)  # what a reader's day is, whatever day it is
FROM_NOTHING = ("README.md", "docs/tutorial.md")  # which bring their bars; others say that the demo's are there
DRAWN = "docs/tutorial.md"  # the page whose reports have all figures drawn, which costs a second; no page shows one
SOMEBODY = {"NAME": "Test", "EMAIL": "test@example.com"}
PORTS = ("127.0.0.1:{}", "--port {}")
SCRIPTS = str(Path(sys.executable).parent)
COMMAND = """\
#!{python}
from datetime import datetime

from backtest.cli.app import main

main(clock=lambda: datetime.fromisoformat("{now}"))
"""

UNIT, TIMER = (f"~/.config/systemd/user/backtest-update.{kind}" for kind in ("service", "timer"))
CRONTAB, WORKFLOW = "update.crontab", ".github/workflows/strategies.yml"
FILES_OF_CI = ("strategies/trend.py", "tests/test_strategies.py", "pytest.ini", ".gitignore")
# Blocks of other kinds, and files, each with the test that reads it; a file that a command names needs none.
READ_BY = {
    ("docs/design.md", "text"): "docs/test_pages.py::test_the_files_in_the_picture_of_the_design_are_on_the_map",
    ("docs/how-to/nightly-updates.md", UNIT): "docs/test_pages.py::test_the_service_brings_the_store_up_to_date",
    ("docs/how-to/nightly-updates.md", TIMER): "docs/test_pages.py::test_the_timer_starts_the_service_at_night",
    (
        "docs/how-to/nightly-updates.md",
        CRONTAB,
    ): "docs/test_pages.py::test_the_line_for_cron_brings_the_store_up_to_date",
    **dict.fromkeys(
        (("docs/how-to/strategies-in-ci.md", name) for name in FILES_OF_CI),
        "docs/test_strategies_in_ci.py::test_all_files_of_the_page_are_there_and_each_check_has_a_baseline",
    ),
    (
        "docs/how-to/strategies-in-ci.md",
        WORKFLOW,
    ): "docs/test_strategies_in_ci.py::test_every_step_of_the_workflow_passes",
    ("docs/reference/commands.md", ""): "docs/test_examples.py::test_an_example_does_what_it_says",
    ("data/README.md", "sha256"): "store/test_store.py::test_the_sample_is_the_one_whose_hashes_are_documented",
}

# Commands that are shown and not run, each with its reason. They are told by their first words.
NOT_RUN = {
    "pip install": "whoever tests has installed it, and CI does so from the same pyproject.toml",
    "pip uninstall": "it would take away what the tests run with",
    "backtest demo --store data/bars": "README.md runs the demo; elsewhere its store is laid out, by the same download",
    "make test": "it is what runs this test",
    "ssh -N -L": "it needs a second machine",
    "docker run": "it needs Docker, the network and a login at IB",
    "systemctl --user": "it needs the user's systemd; the units are read and their commands run",
    "crontab": "it would change the table of whoever tests; the line is read and its command run",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; with a file's name where the line above says that it is a file."""

    page: str
    line: int
    kind: str
    file: str
    text: str

    @property
    def place(self) -> str:
        """Return where it stands."""
        return f"{self.page}:{self.line}"

    @property
    def name(self) -> tuple[str, str]:
        """Return what stands for it in READ_BY."""
        return self.page, self.file or self.kind

    @property
    def run(self) -> bool:
        """Return whether the reader runs it."""
        return self.kind in RUN and not self.file and self.name not in READ_BY


@cache
def blocks(page: str) -> tuple[Block, ...]:
    """Return the blocks of a page."""
    text = (ROOT / page).read_text("utf-8")
    found = []
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("kind")) + 1
        found.append(Block(page, line, match["kind"], match["file"] or "", match["text"]))
    return tuple(found)


def file_of(page: str, name: str) -> str:
    """Return the text of a file that a page shows."""
    (text,) = (block.text for block in blocks(page) if block.file == name)
    return text


def commands_of(text: str) -> list[str]:
    """Return the commands of a block in a shell's words, continued lines put together."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def words_of(command: str) -> list[str]:
    """Return the words of a plain command, none of one that takes a shell: with a pipe, a variable, a file."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    return [] if "$" in command or any(set(word) <= set("();<>|&") for word in words) else words


def _replaced(text: str, words: dict[str, str]) -> str:
    """Return a text with words replaced at once, and not in what replaces others: a free port may begin with 4002."""
    known = "|".join(rf"{re.escape(word)}(?!\d)" for word in sorted(words, key=len, reverse=True))
    return re.sub(known, lambda found: words[found[0]], text) if known else text


@dataclass
class Reader:
    """
    Follows pages in a folder: writes their files, runs their commands and their Python.

    Args:
        places: what stands in a page for what there is here: an address of TWS for that of a running emulator.
    """

    folder: Path
    places: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    code: int = 0
    names: dict[str, Any] = field(default_factory=dict)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def follow(self, page: str) -> str:
        """Do what a page says, and return the page with what its commands say now."""
        text, done = (ROOT / page).read_text("utf-8"), []
        with self.at_work():
            for block in blocks(page):
                done.append(self.do(block))
        fresh = iter(done)
        return BLOCK.sub(
            lambda match: match[0].replace(match["text"], next(fresh)) if match["text"] else match[0], text
        )

    def do(self, block: Block) -> str:
        """Do what a block says, and return its text with what its commands say now."""
        if block.file:
            self.write(block)
        elif not block.run:
            return block.text
        elif block.kind == "console":
            return self.console(block)
        elif block.kind == "sh":
            self.shell(block)
        elif block.kind == "python":
            exec(compile(self.placed(block.text), block.place, "exec"), self.names)
        return block.text

    def write(self, block: Block) -> None:
        """Write a file of the page."""
        path = self.folder / block.file.replace("~/", "home/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, "utf-8")

    def console(self, block: Block) -> str:
        """Run the commands of a transcript and return it as it is now; one that fails is followed by `echo $?`."""
        lines = []
        for command in (line[2:] for line in block.text.splitlines() if line.startswith("$ ")):
            if command == "echo $?":
                said, self.code = f"{self.code}\n", 0
            else:
                assert self.code == 0, f"{block.place}: {lines[-1]} ended with {self.code}"
                said = self.call(command)
            lines.append(f"$ {command}\n{said}")
        assert self.code == 0, f"{block.place}: {lines[-1]} ended with {self.code}"
        return "".join(lines)

    def shell(self, block: Block) -> None:
        """Run the commands of a block, each of which has to end with 0."""
        for command in commands_of(block.text):
            said = self.call(command)
            assert self.code == 0, f"{block.place}: {command} ended with {self.code}: {said}"

    def call(self, command: str) -> str:
        """Run a command, keep its exit code, and return all that it said."""
        if any(command.startswith(words) for words in NOT_RUN):
            return ""
        here = self.placed(command.replace("make demo", "backtest demo"))
        if here.endswith("&"):
            self.start(here.removesuffix("&"))
            return ""
        words = words_of(here)
        if words[:1] == ["cd"]:
            os.chdir(words[1])
            return ""
        kept = KEPT.fullmatch(here)
        if kept and words_of(kept["command"])[:1] == ["backtest"]:
            with Path(kept["file"]).open("w", encoding="utf-8") as file:
                self.code, said = self._inside(words_of(kept["command"])[1:], file)
        else:
            self.code, said = self._inside(words[1:]) if words[:1] == ["backtest"] else self._outside(here)
        said = self.displaced(said)
        return "".join(f"{line.rstrip()}\n" for line in said.splitlines())

    def start(self, command: str) -> None:
        """Start a command that goes on beside the others, as soon as it has said something."""
        process = subprocess.Popen(
            shlex.split(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        self.started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline()

    def stop(self) -> None:
        """End what was started."""
        for process in reversed(self.started):
            process.terminate()
            process.communicate(timeout=120)

    def _inside(self, words: list[str], file: IO[str] | None = None) -> tuple[int, str]:
        # A Python of its own for each command would take a second each.
        said = io.StringIO()
        with contextlib.redirect_stdout(file or said), contextlib.redirect_stderr(said):
            try:
                main(words, clock=lambda: DAY_AFTER)
            except SystemExit as ended:
                return int(ended.code or 0), said.getvalue()
        return 0, said.getvalue()

    def _outside(self, command: str) -> tuple[int, str]:
        ran = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        return ran.returncode, ran.stdout

    def placed(self, text: str) -> str:
        """Return the text with what there is here."""
        return _replaced(text, self.places)

    def displaced(self, text: str) -> str:
        """Return the text with what stands in the page."""
        return _replaced(text, {real: shown for shown, real in self.places.items()})

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Be in the folder, with 80 columns, no colour, and this environment's commands."""
        scripts = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"
        own, there = {"NO_COLOR": "1", "COLUMNS": "80", "PATH": scripts, **self.environment}, Path.cwd()
        before = {name: os.environ.get(name) for name in own}
        os.environ.update(own)
        os.chdir(self.folder)
        try:
            yield
        finally:
            self.stop()
            os.chdir(there)
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


@dataclass(frozen=True)
class Followed:
    """A page that was followed to its end: its text with what its commands say now, and who followed it, and where."""

    text: str
    reader: Reader

    @property
    def folder(self) -> Path:
        """Return where it was followed."""
        return self.reader.folder


class Desk:
    """Has what readers need: the demo's bars, an emulator on them in place of TWS, a bucket on this machine."""

    def __init__(self, folder: Path, store: Path, tws: str, bucket: Bucket) -> None:
        self._folder, self.store, self._bucket = folder, store, bucket
        commands = folder / "commands"
        commands.mkdir()
        write_command(commands / "backtest")
        self._followed: dict[str, Followed] = {}
        self.places = {
            "127.0.0.1:7497": tws,
            **{form.format(port): form.format(free_port(port)) for port in (4002, 8786) for form in PORTS},
        }
        self.environment = {
            "PATH": os.pathsep.join([str(commands), SCRIPTS, os.environ["PATH"]]),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": f"http://{bucket.address}",
            "AWS_REGION": "us-east-1",
            **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in SOMEBODY.items()},
        }

    def reader(self, folder: Path) -> Reader:
        """Return a reader in a folder."""
        return Reader(folder, self.places, self.environment)

    def follow(self, page: str) -> Followed:
        """Return what comes of a page, followed once, in a folder of its own that holds what the demo leaves."""
        if page not in self._followed:
            self._bucket.objects.clear()
            reader = self.reader(self._folder / page.replace("/", "-"))
            workplace(reader.folder, self.store if page not in FROM_NOTHING else None)
            shown = figures.FIGURES if page == DRAWN else blank_figures()
            with mock.patch.object(figures, "FIGURES", shown):
                self._followed[page] = Followed(reader.follow(page), reader)
        return self._followed[page]


@contextlib.contextmanager
def desk(folder: Path) -> Iterator[Desk]:
    """Yield a desk; its TWS is an emulator whose clock stands a day after the last of the demo's bars."""
    store = Store(folder / "store", lambda: DAY_AFTER)
    with connect(f"emulator:{ROOT / 'data' / 'sample'}", clock=lambda: DAY_AFTER) as source:
        download(store, source, [Series.parse(text) for text in DEMO], (SINCE, UNTIL))
    with Gateway(store, clock=lambda: DAY_AFTER) as tws, Bucket() as bucket:
        yield Desk(folder, store.root, f"127.0.0.1:{tws.port}", bucket)


@cache
def free_port(instead: int) -> int:
    """Return a port that nothing is listening on, for one of a page."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def write_command(path: Path) -> None:
    """Write a `backtest` for a shell to find: this environment's, on the day on which all pages are followed."""
    path.write_text(COMMAND.format(python=sys.executable, now=DAY_AFTER.isoformat()), "utf-8")
    path.chmod(0o755)


def workplace(folder: Path, store: Path | None) -> None:
    """Furnish a folder as that of a clone: with the sample, the strategies, and perhaps the store of the demo."""
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "sample").symlink_to(ROOT / "data" / "sample")
    shutil.copytree(ROOT / "strategies", folder / "strategies", ignore=shutil.ignore_patterns("baselines", "__py*"))
    if store:
        shutil.copytree(store, folder / "data" / "bars")


def update(names: list[str]) -> None:
    """Run the commands of pages, and write into the pages what they print."""
    with tempfile.TemporaryDirectory() as folder, desk(Path(folder)) as ready:
        for name in names or PAGES:
            (ROOT / name).write_text(ready.follow(name).text, "utf-8")


if __name__ == "__main__":
    update(sys.argv[1:])
