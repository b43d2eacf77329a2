"""`backtest new`: the folder works as it is, says the same as the page on CI, and is never made over another."""

import json
import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from forking import pytest_with_plugin
from nbclient import NotebookClient
from places import ROOT

from backtest.cli.app import main
from backtest.engine.code.strategy import load_strategy
from backtest.errors import UsageError
from backtest.onboarding.scaffold import SERIES, TEMPLATES, scaffold
from backtest.store.store import Store

pytestmark = pytest.mark.slow

EVERY = ROOT / "backtest" / "onboarding" / "templates" / "every"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return a new folder by template."""
    place = tmp_path_factory.mktemp("place")
    for template in TEMPLATES:
        scaffold(place / f"my_{template}", template)
    return {template: place / f"my_{template}" for template in TEMPLATES}


@pytest.mark.parametrize("template", TEMPLATES)
def test_its_own_tests_pass_as_it_is(folders, template):
    code, said = pytest_with_plugin(folders[template])

    assert code == 0, said
    assert " skipped" not in said
    assert int(re.search(r"(\d+) passed", said)[1]) >= 2


def test_a_folder_is_made_without_changing_the_process_to_it(tmp_path):
    heard = []
    sys.addaudithook(lambda event, _: heard.append(event) if event == "os.chdir" else None)
    os.chdir(Path.cwd())  # which shows that the hook hears

    scaffold(tmp_path / "my_trend")

    assert heard == ["os.chdir"]


def tree(folder):
    """Return the bytes of all files but those that Python keeps for itself."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.parent.name != "__pycache__")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_folder_that_was_left_half_made_is_made_the_next_time(tmp_path):
    (tmp_path / "my_trend" / ".tmp-new" / "strategies").mkdir(parents=True)
    (tmp_path / "my_trend" / ".tmp-new" / "strategies" / "my_trend.py").write_text("import backtr")
    (tmp_path / "my_trend" / ".tmp-lock").touch()

    scaffold(tmp_path / "my_trend")

    scaffold(tmp_path / "apart" / "my_trend")
    assert tree(tmp_path / "my_trend").keys() == tree(tmp_path / "apart" / "my_trend").keys()


def test_a_folder_whose_files_were_not_all_moved_to_their_places_is_finished(folders, tmp_path):
    folder = tmp_path / "my_trend"
    made = scaffold(folder)
    before = tree(folder)
    (folder / ".new").mkdir()
    for name in ("data", "README.md"):
        (folder / name).rename(folder / ".new" / name)

    assert scaffold(folder) == made
    assert tree(folder) == before
    with pytest.raises(UsageError, match="not empty"):
        scaffold(folder)


def test_a_folder_that_lacks_only_the_removal_of_its_lock_is_finished(tmp_path):
    folder = tmp_path / "my_trend"
    made = scaffold(folder)
    before = tree(folder)
    (folder / ".tmp-lock").touch()

    assert scaffold(folder) == made
    assert tree(folder) == before


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_strategy_is_that_of_the_template_under_its_own_name(folders, template):
    own = load_strategy(folders[template] / "strategies" / f"my_{template}.py")
    base = load_strategy(TEMPLATES[template].strategy)

    assert own.cls.__name__ == f"My{template.capitalize()}"
    assert own.defaults == base.defaults
    assert "is yours" in sys.modules[own.cls.__module__].__doc__


@pytest.mark.parametrize("template", TEMPLATES)
def test_nothing_is_left_of_the_words_that_stand_for_the_name(folders, template):
    texts = [path.read_text() for path in folders[template].rglob("*") if path.suffix in (".py", ".md", ".ipynb")]

    assert len(texts) >= 4
    assert not [text for text in texts if re.search("my_strategy|MyStrategy|MY_SERIES|MY/SERIES", text)]


def test_the_notebook_runs_from_top_to_bottom(folders):
    path = folders["trend"] / "notebooks" / "research.ipynb"
    notebook = nbformat.read(path, as_version=4)

    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": path.parent}}).execute()

    shown = {kind for cell in notebook.cells for output in cell.get("outputs", ()) for kind in output.get("data", ())}
    assert {"image/png", "text/html"} <= shown
    assert (path.parents[1] / "runs" / "research" / "index.html").is_file()


def test_the_steps_of_the_workflow_pass(folders, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(folders["pairs"])
    steps = re.findall(
        r"- run: backtest (.+)|^ +run: backtest (.+)", (EVERY / ".github/workflows/strategies.yml").read_text(), re.M
    )
    commands = [(one or other).replace('"$GITHUB_STEP_SUMMARY"', str(tmp_path / "summary.md")) for one, other in steps]

    assert [command.split()[0] for command in commands] == ["verify", "pin", "baseline"]
    for command in commands:
        main_ends_with(0, *command.split())


def main_ends_with(code, *words):
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert (ended.value.code or 0) == code


def test_workflow_settings_and_ignored_files_are_those_of_the_page_on_ci():
    (page,) = ROOT.glob("docs/**/strategies-in-ci.md")
    shown = dict(re.findall(r"^`([^`\n]+)`[^\n]*:\n\n```\w*\n(.*?)```", page.read_text(), re.M | re.S))

    assert (EVERY / ".github/workflows/strategies.yml").read_text() == shown[".github/workflows/strategies.yml"]
    for name in ("pytest.ini", ".gitignore"):
        assert set(shown[name].splitlines()) <= set((EVERY / name).read_text().splitlines())


def test_the_bars_are_those_of_the_sample(folders, sample):
    store = Store(folders["rotation"] / "data" / "bars")

    assert [one.short for one in store.series()] == list(SERIES)
    for one in store.series():
        assert store.read(one).equals(sample.read(one))
        assert store.manifest(one).coverage == sample.manifest(one).coverage


def test_the_readme_has_five_lines_below_its_title(folders):
    title, blank, *lines = (folders["trend"] / "README.md").read_text().splitlines()

    assert (title, blank) == ("# my_trend", "")
    assert 4 <= len(lines) <= 5


def test_the_command_gives_the_files_and_says_the_next_three_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    main_ends_with(0, "new", "momentum")

    out, err = capsys.readouterr()
    assert {"momentum/strategies/momentum.py", "momentum/data.lock", "momentum/.gitignore"} <= set(out.splitlines())
    assert all((tmp_path / line).is_file() for line in out.splitlines())
    assert err.splitlines()[1:] == ["  cd momentum", "  pytest", "  backtest run strategies/momentum.py IBM/1day"]


def test_json_names_the_files_below_the_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    main_ends_with(0, "new", "research/gold", "--template", "pairs", "--json")

    document = json.loads(capsys.readouterr().out)
    assert (document["folder"], document["template"]) == ("research/gold", "pairs")
    assert "strategies/gold.py" in document["files"]


def test_a_folder_with_anything_in_it_is_refused_and_stays_as_it_is(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")

    with pytest.raises(UsageError, match="is not empty, and existing files are never overwritten"):
        scaffold(tmp_path / "mine")

    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_an_empty_clone_is_no_folder_with_anything_in_it(tmp_path):
    (tmp_path / "mine" / ".git").mkdir(parents=True)

    assert tmp_path / "mine" / "strategies" / "mine.py" in scaffold(tmp_path / "mine")


def test_a_file_of_that_name_is_refused(tmp_path):
    (tmp_path / "mine").write_text("keep")

    with pytest.raises(UsageError, match="is a file"):
        scaffold(tmp_path / "mine")


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("my-trend", "my_trend"),
        ("MyTrend", "my_trend"),
        ("2fast", "strategy_2fast"),
        ("class", "class_strategy"),
        ("none", "none_strategy"),  # its class would be None
        ("json", "json_strategy"),
        ("backtest", "backtest_strategy"),
        ("matplotlib", "matplotlib_strategy"),  # installed, and would be hidden
        ("größe", "gr_e"),
        ("---", "strategy"),
    ],
)
def test_a_name_that_cannot_be_imported_is_refused_with_one_that_can(tmp_path, name, good):
    with pytest.raises(UsageError, match=rf"call it {good}\b"):
        scaffold(tmp_path / name)

    assert not (tmp_path / name).exists()


def test_an_unknown_template_is_refused_with_those_that_exist(tmp_path):
    with pytest.raises(
        UsageError, match=r"no template 'pair'; choose from trend \(.*pairs.*rotation.*did you mean pairs\?"
    ):
        scaffold(tmp_path / "gold", "pair")
