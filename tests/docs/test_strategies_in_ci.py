"""The page on strategies in CI is true: its files, its commands and its workflow work in a fresh folder."""

import re

import pytest
from pages import WORKFLOW, file_of

pytestmark = pytest.mark.slow

PAGE = "docs/how-to/strategies-in-ci.md"


@pytest.fixture
def at_work(desk, tmp_path):
    """Yield the reader of the page, who has done what it says, at work; the summary of a build goes to a file."""
    summary = tmp_path / "summary.md"
    reader = desk.reader(desk.follow(PAGE).folder)
    reader.environment = {**reader.environment, "GITHUB_STEP_SUMMARY": str(summary)}
    with reader.at_work():
        yield reader, summary


@pytest.fixture
def repository(at_work):
    """Return the folder with the files of the page, after the commands of the first time."""
    return at_work[0].folder


def call(reader, command):
    """Run a command of the page and return its exit code and all that it says."""
    said = reader.call(command)
    return reader.code, said


def steps():
    """Return the steps of the page's workflow."""
    return parsed(file_of(PAGE, WORKFLOW))["jobs"]["regression"]["steps"]


def commands(steps):
    return [step["run"] for step in steps if not step.get("run", "pip").startswith("pip")]


def test_all_files_of_the_page_are_there_and_each_check_has_a_baseline(repository):
    assert {".git", "pytest.ini", "data.lock", "strategies", "tests", "data"} <= {
        path.name for path in repository.iterdir()
    }
    assert sorted(path.stem for path in (repository / "strategies" / "baselines").iterdir()) == ["trend", "trend-slow"]


def test_every_step_of_the_workflow_passes(repository, at_work):
    reader, summary = at_work
    every = commands(steps())

    assert [command.split()[0] for command in every] == ["backtest", "backtest", "pytest", "backtest"]
    assert [call(reader, command)[0] for command in every] == [0, 0, 0, 0]
    assert summary.read_text() == "### Baselines: 2 unchanged\n"


def test_a_change_of_the_strategy_fails_it_and_is_put_back_from_git(repository, at_work):
    reader, summary = at_work
    strategy, test, told = repository / "strategies" / "trend.py", *commands(steps())[-2:]
    before = strategy.read_text()
    strategy.write_text(before.replace("close[0] > self", "close[0] >= 1.01 * self"))
    try:
        tested, checked = call(reader, test), call(reader, told)
    finally:
        strategy.write_text(before)

    assert (tested[0], checked[0]) == (1, 1)
    assert "cause        code: reverting it restores the old result" in tested[1]
    assert summary.read_text().startswith("### Baselines: 2 moved")


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
    assert not text or re.fullmatch(r' ("[\w.]+"|\[\w+(?:, \w+)*\]|[\w$.(][^#:{}]*)', text), text
    return text.strip().strip('"') if not text.endswith('SUMMARY"') else text.strip()
