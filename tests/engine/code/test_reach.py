"""What stands for a class from Python: all of its file, what that imports, and what only memory holds."""

import importlib
import json
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest
from stores.make_store import daily, days

from backtest import UsageError, run, sweep
from backtest.engine.code.reach import reach_of
from backtest.market.series import Series
from backtest.store.store import Store

SCRIPT = """
import math
import backtrader as bt
from limits_of_script import LIMIT
import tools_of_script as tools

SIZE = 10
LOG = []
COUNT = 0

def helped(size):
    return size + 0

class Base(bt.Strategy):
    params = (("more", 0),)
    extra = 0

    def amount(self):
        return helped(SIZE) + LIMIT + tools.add() + self.extra

class Mine(Base):
    def next(self):
        global COUNT
        COUNT += 1
        LOG.append(COUNT)
        if len(self) == 1:
            self.buy(size=self.amount() + self.p.more)
"""
LIMITS = "LIMIT = 0\n"
TOOLS = "def add():\n    return 0\n"


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "bars")
    made.write(Series.parse("AAPL/1day"), days(2, 6), daily(2, 6))
    return made


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Return a function that writes a script and what it imports, and gives its class as a new process has it."""
    folder = tmp_path / "script"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    names = ("my_script", "limits_of_script", "tools_of_script")

    def script(text=SCRIPT, limits=LIMITS, tools=TOOLS, load=True):
        for name, written in zip(names, (text, limits, tools), strict=True):
            (folder / f"{name}.py").write_text(written)
        if load:
            for name in names:
                monkeypatch.delitem(sys.modules, name, raising=False)
            importlib.invalidate_caches()
            monkeypatch.setattr(sys, "dont_write_bytecode", True)
        return importlib.import_module("my_script")

    yield script
    for name in names:
        sys.modules.pop(name, None)


def swept(store, cls):
    found = sweep(cls, "AAPL/1day", {"more": [0, 1]}, store=store, folder="swept", rank="trades")
    return found, found.best_run.orders["size"].tolist()[0] - found.best.params["more"]


EDITS = {
    "a constant": {"text": SCRIPT.replace("SIZE = 10", "SIZE = 15")},
    "a helper": {"text": SCRIPT.replace("size + 0", "size + 5")},
    "a base class": {"text": SCRIPT.replace("extra = 0", "extra = 5")},
    "a constant that is imported": {"limits": "LIMIT = 5\n"},
    "a function that is imported": {"tools": TOOLS.replace("0", "5")},
}


@pytest.mark.slow
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_what_a_class_reaches_makes_other_trials_and_other_names(script, store, edit):
    cls = script().Mine
    before, size = swept(store, cls)
    name = run(cls, "AAPL/1day", store=store).name

    cls = script(**EDITS[edit]).Mine
    after, new_size = swept(store, cls)

    assert (size, new_size) == (10, 15)
    assert {trial.key for trial in before.trials}.isdisjoint(trial.key for trial in after.trials)
    assert run(cls, "AAPL/1day", store=store).name != name


def test_the_same_class_in_another_process_is_the_same_though_runs_left_something_behind(script, store):
    first, _ = swept(store, script().Mine)
    again = script()

    one, _ = swept(store, again.Mine)
    names = {run(again.Mine, "AAPL/1day", store=store).name for _ in range(2)}
    other, _ = swept(store, again.Mine)

    assert again.LOG
    keys = [[trial.key for trial in found.trials] for found in (first, one, other)]
    assert keys[0] == keys[1] == keys[2]
    assert len(names) == 1


def test_a_constant_that_the_script_sets_at_run_time_counts(script, store):
    module = script()
    before, size = swept(store, module.Mine)

    module.SIZE = 20
    after, new_size = swept(store, module.Mine)

    assert (size, new_size) == (10, 20)
    assert before.trials[0].key != after.trials[0].key


def test_a_file_that_was_edited_after_it_was_imported_does_not_stand_for_what_runs(script, store):
    loaded = script().Mine
    edited = SCRIPT.replace("size + 0", "size + 5")
    script(text=edited, load=False)

    stale, size = swept(store, loaded)
    fresh, new_size = swept(store, script(text=edited).Mine)

    assert (size, new_size) == (10, 15)
    assert stale.trials[0].key != fresh.trials[0].key


def test_the_manifest_has_the_modules_of_base_classes_and_functions(script, store):
    manifest = run(script().Mine, "AAPL/1day", store=store).manifest

    assert list(manifest["modules"]) == ["limits_of_script", "tools_of_script"]


def old_sweep(folder, cls):
    """Make of a sweep what version 0.1.0 left of one: nothing says what the class imports."""
    document = json.loads((folder / "sweep.json").read_text())
    del document["modules"]
    document["source"] = "0" * 64
    (folder / "sweep.json").write_text(json.dumps(document))


@pytest.mark.parametrize("resume", [False, True])
def test_a_sweep_of_a_class_by_version_0_1_0_is_refused_with_the_reason(script, store, resume):
    cls = script().Mine
    swept(store, cls)
    old_sweep(Path("swept"), cls)

    with pytest.raises(
        UsageError, match=r"was made by version 0\.1\.0, which identified the class my_script:Mine by its own source"
    ):
        sweep(cls, "AAPL/1day", {"more": [0, 1]}, store=store, folder="swept", rank="trades", resume=resume)


@pytest.mark.slow
def test_a_sweep_of_a_file_by_version_0_1_0_goes_on(script, store):
    script()
    words = {"store": store, "folder": "swept", "rank": "trades"}
    before = sweep("my_script.py:Mine", "AAPL/1day", {"more": [0, 1]}, **words)
    document = json.loads(Path("swept/sweep.json").read_text())
    del document["modules"]
    Path("swept/sweep.json").write_text(json.dumps(document))

    after = sweep("my_script.py:Mine", "AAPL/1day", {"more": [0, 1]}, **words, resume=True)

    assert [trial.key for trial in after.trials] == [trial.key for trial in before.trials]


# --- cells of a notebook

CELL = """
import backtrader as bt

SIZE = 10
SIZES = {1: 10}
SEEN = []
BY_DAY = {}
LEVEL = 5

def amount():
    return SIZE if 0 < LEVEL < 9 else 1

class Cell(bt.Strategy):
    params = (("more", 0),)
    extra = 0

    def next(self):
        SEEN.append(len(self))
        BY_DAY[len(self)] = BY_DAY.get(len(self), 0) + 1
        BY_DAY[len(self)] += 1
        if len(self) == 1:
            self.buy(size=amount() + SIZES[1] + self.extra + self.p.more)
"""


@pytest.fixture
def cell(monkeypatch, tmp_path):
    """Return a function that runs the text of a cell, and gives the names that a notebook then has."""
    monkeypatch.chdir(tmp_path)
    notebook = ModuleType("notebook_of_test")
    monkeypatch.setitem(sys.modules, "notebook_of_test", notebook)

    def cell(text):
        exec(compile(textwrap.dedent(text), "<ipython-input-1>", "exec"), vars(notebook))
        return notebook

    return cell


@pytest.mark.parametrize(
    "edit",
    [("extra = 0", "extra = 1"), ("SIZE = 10", "SIZE = 11"), ("return SIZE if", "return SIZE + 1 if"),
     ("LEVEL = 5", "LEVEL = 9"), ("{1: 10}", "{1: 11}"), ("len(self) == 1", "len(self) == 2"),
     ('("more", 0)', '("more", 1)'), ("amount() +", "amount() -")],
)  # fmt: skip
def test_two_results_of_an_edited_cell_have_two_names_and_two_pages(cell, store, edit):
    first = run(cell(CELL).Cell, "AAPL/1day", store=store)
    notebook = cell(CELL)
    again = [run(notebook.Cell, "AAPL/1day", store=store).name for _ in range(2)]

    second = run(cell(CELL.replace(*edit)).Cell, "AAPL/1day", store=store)

    assert [first.name] * 2 == again
    assert first.name != second.name
    assert first.save(f"runs/{first.name}") != second.save(f"runs/{second.name}")


def test_a_function_of_a_cell_as_a_parameter_counts_with_what_it_does(cell, store):
    text = CELL.replace('("more", 0)', '("more", 0), ("rule", max)').replace("self.extra", "self.p.rule(1, 2)")
    rule = "def rule(a, b):\n    return a + b\n"

    first = run(cell(text).Cell, "AAPL/1day", store=store, params={"rule": cell(rule).rule})
    second = run(cell(text).Cell, "AAPL/1day", store=store, params={"rule": cell(rule.replace("+", "-")).rule})
    again = run(cell(text).Cell, "AAPL/1day", store=store, params={"rule": cell(rule).rule})

    assert first.name == again.name != second.name
    assert first.orders["size"][0] - second.orders["size"][0] == 4


def test_a_cell_with_a_constant_alone_that_is_run_again_counts(cell, store):
    notebook = cell(CELL)
    before, size = swept(store, notebook.Cell)

    cell("SIZE = 17")
    after, new_size = swept(store, notebook.Cell)

    assert (size, new_size) == (20, 27)
    assert before.trials[0].key != after.trials[0].key


def test_a_class_of_a_cell_is_swept_and_served_again(cell, store):
    notebook = cell(CELL)

    before, _ = swept(store, notebook.Cell)
    seen = len(notebook.SEEN)
    after, _ = swept(store, cell("pass").Cell)

    assert [trial.key for trial in before.trials] == [trial.key for trial in after.trials]
    assert len(notebook.SEEN) - seen == 5  # the best run alone is run again


def test_a_table_of_a_cell_counts(cell):
    text = "import numpy as np\nimport pandas as pd\nA = {}\nclass C:\n    def f(self):\n        return A\n"

    frames = ["pd.Series([1, 2])", "pd.DataFrame({'a': [1]})", "pd.DataFrame({'b': [1]})"]
    tables = ["np.arange(3)", "np.arange(3.0)", *frames]
    digests = [reach_of(cell(text.format(table)).C).digest for table in tables]

    assert len(set(digests)) == len(tables)
    assert reach_of(cell(text.format(tables[3])).C).digest == digests[3]


def test_what_refers_to_itself_comes_to_an_end(cell):
    text = (
        "A = []\nA.append(A)\ndef f():\n    return f, A, C\nclass C:\n    g = f\n    def h(self):\n        return C\n"
    )

    assert reach_of(cell(text).C).digest == reach_of(cell(text).C).digest
