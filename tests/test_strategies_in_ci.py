"""The page on strategies in CI is true: its files, its commands and its workflow work in a fresh folder."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "strategies-in-ci.md"
FILE = re.compile(r"^`([^`\n]+)`[^\n]*:\n\n```\w*\n(.*?)```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Return a folder with the files of the page, after the commands of the first time, committed."""
    folder = tmp_path_factory.mktemp("mine")
    for name, text in FILE.findall(PAGE.read_text()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (first,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    demo, *others = first.splitlines()
    assert demo == "backtest demo --store data/bars"  # which test_readme runs; it brings the sample
    shutil.copytree(ROOT / "data" / "sample", folder / "data" / "bars")
    assert [call(folder, command)[0] for command in others] == [0, 0]
    commit(folder)
    return folder


def call(folder, command):
    """Run a command of the page and return its exit code and all that it says."""
    words = shlex.split(os.path.expandvars(command))
    environment = {**os.environ, "NO_COLOR": "1"}
    ran = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return ran.returncode, ran.stdout + ran.stderr


def commit(folder):
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.com")
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "Keep"]):
        subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


def steps():
    """Return the steps of the page's workflow."""
    text = dict(FILE.findall(PAGE.read_text()))[".github/workflows/strategies.yml"]
    return parsed(text)["jobs"]["regression"]["steps"]


def commands(steps):
    return [step["run"] for step in steps if not step.get("run", "pip").startswith("pip")]


def test_all_files_of_the_page_are_there_and_each_check_has_a_baseline(repository):
    assert {"pytest.ini", "data.lock", "strategies", "tests", "data"} <= {path.name for path in repository.iterdir()}
    assert sorted(path.stem for path in (repository / "strategies" / "baselines").iterdir()) == ["trend", "trend-slow"]


def test_every_step_of_the_workflow_passes(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    every = commands(steps())

    assert [command.split()[0] for command in every] == ["backtest", "backtest", "pytest", "backtest"]
    assert [call(repository, command)[0] for command in every] == [0, 0, 0, 0]
    assert (tmp_path / "summary.md").read_text() == "### Baselines: 2 same\n"


def test_a_change_of_the_strategy_fails_it_and_is_put_back_from_git(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    strategy, test, summary = repository / "strategies" / "trend.py", *commands(steps())[-2:]
    before = strategy.read_text()
    strategy.write_text(before.replace("close[0] > self", "close[0] >= 1.01 * self"))
    try:
        tested, told = call(repository, test), call(repository, summary)
    finally:
        strategy.write_text(before)

    assert (tested[0], told[0]) == (1, 1)
    assert "cause        code: put back, it brings the old result" in tested[1]
    assert (tmp_path / "summary.md").read_text().startswith("### Baselines: 2 moved")


def parsed(text):
    """Return the mappings, lists and texts of YAML of the plainest kind; anything else is refused."""
    lines = [(len(line) - len(line.lstrip()), line.strip()) for line in text.splitlines()]
    value, rest = block(lines, 0)
    assert rest == []
    return value


def block(lines, depth):
    """Return the value that begins with these lines at a depth, and the lines after it."""
    if lines[0][1].startswith("- "):
        return listed(lines, depth)
    found = {}
    while lines and lines[0][0] == depth:
        (_, line), *lines = lines
        key, mark, text = line.partition(":")
        assert mark == ":", line
        assert re.fullmatch(r"[\w-]+", key), line
        assert key not in found, line
        deeper = bool(lines) and lines[0][0] > depth
        assert not (text and deeper), line
        found[key], lines = block(lines, lines[0][0]) if deeper else (plain(text), lines)
    return found, lines


def listed(lines, depth):
    items = []
    while lines and lines[0] == (depth, lines[0][1]) and lines[0][1].startswith("- "):
        item, lines = block([(depth + 2, lines[0][1][2:]), *lines[1:]], depth + 2)
        items.append(item)
    return items, lines


def plain(text):
    assert not text or re.fullmatch(r' ("[\w.]+"|\[\w+\]|[\w$.(][^#:{}]*)', text), text
    return text.strip().strip('"') if not text.endswith('SUMMARY"') else text.strip()
