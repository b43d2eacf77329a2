"""The pages are true: each command and each line of Python in them runs, and prints what the page shows."""

from __future__ import annotations

import ast
import functools
import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import browser
import numpy as np
import pytest
import typer
from pages import CRONTAB, NOT_RUN, PAGES, READ_BY, TIMER, UNIT, Block, Reader, blocks, file_of, free_port, words_of
from PIL import Image
from places import ROOT

from backtest import Store
from backtest.cli.app import app

pytestmark = pytest.mark.docs

PICTURE = ROOT / ".github" / "report.png"
COMMANDS = typer.main.get_command(app)
USAGE = typer.BadParameter.__bases__  # what the command line says of a wrong word, whoever brings its click
PLACEHOLDER = re.compile(r"[A-Z][A-Z,/]*")
INLINE = re.compile(r"(?<!`)`((?:(?:backtest|make|python) |--)[^`\n]*)`(?!`)")


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_is_what_happens(page, desk):
    assert desk.follow(page).text == (ROOT / page).read_text("utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_no_block_of_a_page_is_overlooked(page):
    fences = re.findall(r"^\s*(?:```|~~~)", (ROOT / page).read_text("utf-8"), re.MULTILINE)

    assert len(fences) == 2 * len(blocks(page))


@pytest.mark.parametrize("page", PAGES)
def test_each_block_of_a_page_is_run_or_read_by_a_test(page):
    commands = " ".join(block.text for block in blocks(page) if block.run)
    others = [block for block in blocks(page) if not block.run]

    nobody = [
        block.place for block in others if block.name not in READ_BY and not (block.file and block.file in commands)
    ]
    assert nobody == []


def test_the_tests_that_read_blocks_are_there():
    for (page, name), test in READ_BY.items():
        if page not in PAGES:
            continue
        module, _, function = test.partition("::")
        tree = ast.parse((ROOT / "tests" / module).read_text("utf-8"))

        assert any(name in (block.file, block.kind) for block in blocks(page)), f"{page} has no {name}"
        assert function in [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)], test


def test_every_command_that_is_not_run_stands_in_a_page():
    shown = "\n".join((ROOT / page).read_text("utf-8") for page in PAGES)

    assert [words for words in NOT_RUN if words not in shown] == []


@pytest.mark.parametrize("page", PAGES)
def test_the_command_line_knows_each_command_in_a_sentence(page):
    prose = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)

    assert [(words, told) for words in INLINE.findall(prose) if (told := complaint(words))] == []


def test_a_wrong_command_in_a_sentence_is_told():
    for words in (
        "backtest rum", "backtest run --slipage", "backtest runs list", "backtest sweep sma_cross IBM/1day",
        "--walkforward", "make tests", "python tests/test_nothing.py",
    ):  # fmt: skip
        assert complaint(words), words


def complaint(text: str) -> str:
    """Return what is wrong with a command in a sentence, or with an option that stands alone; "" for nothing."""
    words = shlex.split(text)
    if words[:3] == ["python", "-m", "backtest"]:
        return complaint(" ".join(words[2:]))
    if words[0] == "python":
        return "" if (ROOT / words[1]).is_file() else "no such file"
    if words[0] == "make":
        return (
            ""
            if re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
            else "no such target"
        )
    if words[0] != "backtest":
        known = {option for name in COMMANDS.commands for option in options(name)} | other_options()
        return "" if words[0] in known else "no command has this option"
    _, *words = words
    if not words or words[0].startswith("-"):
        return ""
    name, *rest = words
    if name.isupper():
        return ""
    if name not in COMMANDS.commands:
        return "no such command"
    if unknown := [word for word in rest if word.startswith("--") and word not in options(name)]:
        return f"no such option: {unknown}"
    whole = any(not word.startswith("-") for word in rest) and not any(map(PLACEHOLDER.fullmatch, rest))
    return refusal(name, rest) if whole else ""


def refusal(name: str, words: list[str]) -> str:
    """Return why the command line would refuse a command with its words, before it did anything."""
    try:
        COMMANDS.commands[name].make_context(name, words)
    except USAGE as error:
        return error.format_message()
    return ""


def options(name: str) -> set[str]:
    parameters = COMMANDS.commands[name].params
    return {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


def other_options() -> set[str]:
    completion = {option for parameter in COMMANDS.params for option in parameter.opts}
    return completion | set(
        re.findall(r'"(--[\w-]+)"', (ROOT / "backtest" / "baselines" / "pytest_plugin.py").read_text("utf-8"))
    )


# --- the reader


@pytest.fixture
def reader(desk, tmp_path):
    """Yield a reader at work in an empty folder."""
    reader = desk.reader(tmp_path)
    with reader.at_work():
        yield reader


def shown(kind, text):
    return Block("page.md", 1, kind, "", text)


def test_a_transcript_that_is_no_longer_true_comes_back_as_it_is_now(reader):
    assert reader.do(shown("console", "$ echo new\nold\n")) == "$ echo new\nnew\n"
    assert reader.do(shown("console", "$ false\n$ echo $?\n0\n")) == "$ false\n$ echo $?\n1\n"


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        ("sh", "true\nfalse\n", "page.md:1: false ended with 1"),
        ("sh", "backtest lss | cat\n", "ended with 2"),
        ("console", "$ backtest ls AAPL/1fortnight\n", "ended with 2"),
        ("console", "$ false\n$ true\n", "false\n ended with 1"),
        ("python", "assert 1 == 2, 'no sum'\n", "no sum"),
    ],
)
def test_what_fails_in_a_page_is_told(reader, kind, text, told):
    with pytest.raises(AssertionError, match=told):
        reader.do(shown(kind, text))


def test_a_command_that_takes_a_shell_gets_one():
    assert words_of("backtest sweep x --where 'fast<slow' --grid a=1,2:3") == [
        *("backtest", "sweep", "x", "--where", "fast<slow", "--grid", "a=1,2:3")
    ]
    assert [words_of(f"backtest ls{rest}") for rest in (" | cat", " > x", " 2>> x", " && true", " $x")] == [[]] * 5


# --- single pages


@pytest.fixture
def research(desk, tmp_path, monkeypatch):
    """Return a folder `research` with the page's list of series, this environment, and bars up to a fortnight ago."""
    folder = tmp_path / "research"
    reader = desk.reader(folder)
    (folder / "data").mkdir(parents=True)
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "series.txt").write_text(file_of("docs/how-to/nightly-updates.md", "series.txt"))
    monkeypatch.setenv("HOME", str(tmp_path))
    with reader.at_work():
        store = f"--store {folder / 'data' / 'bars'}"
        reader.call(
            f"backtest download @series.txt --since 2000-03-01 --until 2013-02-15 --source ib://127.0.0.1:7497 {store}"
        )
    assert reader.code == 0
    assert last_days(folder) == {"2013-02-15"}
    return folder, reader.placed


def last_days(folder):
    store = Store(folder / "data" / "bars")
    return {str(store.read(series)["time"][-1].as_py().date()) for series in store.series()}


def unit(name, placed):
    """Return the settings of a unit of systemd by section and key, each a list, with what its %h stands for."""
    found, section = {}, {}
    for line in placed(file_of("docs/how-to/nightly-updates.md", name)).replace("%h", str(Path.home())).split("\n"):
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line:
            key, mark, value = line.partition("=")
            assert mark, line
            section.setdefault(key, []).append(value)
    return found


def started(service, command):
    """Start a command of a service as systemd does: in its folder, with its environment alone."""
    (folder,), (setting,) = service["WorkingDirectory"], service["Environment"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), **dict([setting.split("=", 1)])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(shlex.split(command), cwd=folder, env=environment, **pipes)


def test_the_service_brings_the_store_up_to_date(research):
    folder, placed = research
    service = unit(UNIT, placed)["Service"]

    said = []
    for command in service["ExecStart"]:
        process = started(service, command)
        said.append(process.communicate())
        assert process.returncode == 0, said

    assert last_days(folder) == {"2013-03-01"}
    assert said[0][0].count("bars (9 new)") == 4
    assert {"time", "level", "logger", "message"} <= set(json.loads(said[0][1].splitlines()[0]))
    assert "no problems found" in said[1][0]


def test_two_services_at_once_lose_nothing(research):
    folder, placed = research
    service = unit(UNIT, placed)["Service"]
    download, verify = service["ExecStart"]

    both = [started(service, download) for _ in range(2)]

    assert [one.communicate() and one.returncode for one in both] == [0, 0]
    assert last_days(folder) == {"2013-03-01"}
    assert "no problems found" in started(service, verify).communicate()[0]


def test_a_source_that_is_away_is_what_the_service_tries_again(research):
    folder, _ = research
    service = unit(UNIT, lambda text: text.replace(":7497", f":{free_port(7496)}"))["Service"]
    (folder / "notify.sh").write_text(file_of("docs/how-to/nightly-updates.md", "notify.sh"))

    process = started(service, service["ExecStart"][0])

    assert "nothing is listening on" in process.communicate()[1]
    assert "nothing is listening on" in (folder / "problems.log").read_text()
    assert json.loads((folder / "problem.json").read_text())["exit_code"] == process.returncode
    assert str(process.returncode) not in service["RestartPreventExitStatus"][0].split()
    assert service["Restart"] == ["on-failure"]


def test_the_timer_starts_the_service_at_night(research):
    timer = unit(TIMER, research[1])

    days, hour, zone = timer["Timer"]["OnCalendar"][0].split()
    assert (days, zone) == ("Tue..Sat", "America/New_York")
    assert "01:45" < hour < "09:30"  # after IB's reset, before the exchange opens
    assert timer["Install"]["WantedBy"] == ["timers.target"]
    assert Path(TIMER).stem == Path(UNIT).stem  # which is how systemd knows what to start


def test_the_line_for_cron_brings_the_store_up_to_date(research):
    folder, placed = research
    (line,) = placed(file_of("docs/how-to/nightly-updates.md", CRONTAB)).splitlines()
    *when, command = line.split(maxsplit=5)

    ran = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=Path.home(),
        env={"PATH": "/usr/bin:/bin", "HOME": str(Path.home())},
        check=False,
    )

    assert (len(when), "%" in command) == (5, False)  # which cron takes for the end of a line
    assert ran.returncode == 0
    assert last_days(folder) == {"2013-03-01"}
    assert "no problems found" in (folder / "verify.txt").read_text()
    assert all(json.loads(line) for line in (folder / "update.log").read_text().splitlines())


@pytest.mark.parametrize(
    ("name", "heading"), [("real-gateway", "Troubleshooting"), ("begin-without-a-gateway", "Common first errors")]
)
def test_a_message_that_a_page_explains_is_one_of_ours(name, heading):
    page = (ROOT / "docs" / "how-to" / f"{name}.md").read_text("utf-8").partition(f"## {heading}")[2]
    said = [
        words for row in re.findall(r"^\| (`.+?`) \|", page, re.MULTILINE) for words in re.findall(r"`([^`]+)`", row)
    ]

    assert len(said) > 7
    assert [words for words in said if not any(words in text for text in texts_of_the_package())] == []


@functools.cache
def texts_of_the_package():
    trees = [ast.parse(path.read_text("utf-8")) for path in (ROOT / "backtest").rglob("*.py")]
    nodes = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return {text for text in nodes if isinstance(text, str)}


def test_the_files_in_the_picture_of_the_design_are_on_the_map():
    (picture,) = (block.text for block in blocks("docs/design.md") if block.kind == "text")
    named = set(re.findall(r"\w+\.py", picture))

    assert len(named) >= 10
    assert [
        name for name in named if not [*(ROOT / "backtest").glob(name), *(ROOT / "backtest").glob(f"**/{name}")]
    ] == []


@pytest.fixture(scope="module")
def picture():
    """Return the script that makes the picture of the README, and the page that it shows."""
    script = runpy.run_path(str(ROOT / ".github" / "make_picture.py"))
    return script, script["shown"]()


def test_the_picture_of_the_readme_shows_the_numbers_of_today(picture):
    script, page = picture

    assert Image.open(PICTURE).text["Description"] == script["words"](page)
    assert "Sharpe ratio 1.13" in script["words"](page)  # as the demo says above it
    assert PICTURE.stat().st_size < 200_000


@pytest.mark.browser
@pytest.mark.skipif(not browser.installed(), reason=browser.MISSING)
def test_the_picture_of_the_readme_is_what_its_script_makes(picture, tmp_path):
    script, page = picture

    script["make"](tmp_path / "report.png", page)

    shown, made = (np.asarray(Image.open(path).convert("L"), float) for path in (PICTURE, tmp_path / "report.png"))
    assert shown.shape == made.shape
    assert np.abs(shown - made).mean() < 4  # of 255: another machine has other letters


# --- README


def test_the_first_commands_of_the_readme_are_the_two_that_set_all_up():
    commands = re.findall(r"(make \w+|backtest \w+|pip [^`]*)`?", (ROOT / "README.md").read_text("utf-8"))

    assert commands[:2] == ["make demo", "make test"]


def test_the_readme_is_read_to_its_end():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 130


def test_an_address_of_a_page_is_not_replaced_within_a_free_port():
    there = {"127.0.0.1:7497": "127.0.0.1:40021", "127.0.0.1:4002": "127.0.0.1:35000"}
    reader = Reader(Path(), there)

    assert reader.placed("ib://127.0.0.1:7497, ib://127.0.0.1:4002") == "ib://127.0.0.1:40021, ib://127.0.0.1:35000"
    assert reader.displaced("ib://127.0.0.1:40021, ib://127.0.0.1:35000") == "ib://127.0.0.1:7497, ib://127.0.0.1:4002"
