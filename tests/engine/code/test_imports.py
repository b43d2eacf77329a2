"""What a strategy's file imports from its own project, and that this is what runs and what is hashed."""

import hashlib
import pickle
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest
from stores.make_store import daily, days

from backtest.api import run
from backtest.engine.code.imports import came_along
from backtest.engine.code.strategy import load_strategy
from backtest.market.series import Series
from backtest.research.search.sweeps import sweep
from backtest.store.store import Store

BUYS = """
import backtrader as bt
{first}

class Buys(bt.Strategy):
    params = dict(more=0)

    def next(self):
        {later}
        if len(self) == 1:
            self.buy(size={size})
"""


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "bars")
    made.write(Series.parse("AAPL/1day"), days(2, 6), daily(2, 6))
    return made


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a function that writes files, by their paths in the project, which is the current folder."""
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)

    def write(files):
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(textwrap.dedent(text))
        return root

    return write


def strategy(size, first="", later="pass"):
    return BUYS.format(first=first, later=later, size=size)


def bought(store, path="trade.py", **asked):
    """Return the size of the only order of a run, and the hashes of the modules."""
    ran = run(path, "AAPL/1day", store=store, **asked)
    assert len(ran.orders) == 1
    return ran.orders["size"][0], ran.manifest.get("modules", {})


def sha256(text):
    return hashlib.sha256(textwrap.dedent(text).encode()).hexdigest()


@pytest.mark.slow
def test_helpers_of_one_name_beside_two_strategies_are_two(project, store):
    text = strategy("SIZE", "from helper import SIZE")
    project({"a/trade.py": text, "a/helper.py": "SIZE = 1\n", "b/trade.py": text, "b/helper.py": "SIZE = 5\n"})

    found = [bought(store, f"{name}/trade.py") for name in ("a", "b", "a")]

    one, five = {"helper": sha256("SIZE = 1\n")}, {"helper": sha256("SIZE = 5\n")}
    assert found == [(1, one), (5, five), (1, one)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "later", "size"),
    [
        ("import helper", "pass", "helper.SIZE"),
        ("from helper import *", "pass", "SIZE"),
        ("", "import helper", "helper.SIZE"),
        ("", "from helper import SIZE", "SIZE"),
        ("import importlib\nhelper = importlib.import_module('helper')", "pass", "helper.SIZE"),
        ("from importlib import import_module", "helper = import_module('helper')", "helper.SIZE"),
        ("", "helper = __import__('helper')", "helper.SIZE"),
        ("import importlib", "helper = importlib.import_module('hel' + 'per')", "helper.SIZE"),
        ("import through", "pass", "through.helper.SIZE"),
        ("import pkg.deep", "pass", "pkg.deep.SIZE"),
        ("from pkg import deep", "pass", "deep.SIZE"),
        ("", "import pkg.deep as deep", "deep.SIZE"),
        ("from bare.inner import helper", "pass", "helper.SIZE"),
        ("import importlib\nd = importlib.import_module('.deep', 'pkg')", "pass", "d.SIZE"),
    ],
)
def test_an_edited_helper_is_loaded_again_and_is_what_is_hashed(project, store, first, later, size):
    files = {
        "trade.py": strategy(size, first, later),
        "through.py": "import helper\n",
        "pkg/__init__.py": "",
        "pkg/deep.py": "from pkg.deeper import SIZE\nfrom . import deeper\n",
        "pkg/deeper.py": "import helper\nSIZE = helper.SIZE\n",
        "bare/inner/helper.py": "SIZE = 1\n",
    }
    place = "bare/inner/helper.py" if "bare" in first else "helper.py"
    name = place.removesuffix(".py").replace("/", ".")
    project({**files, place: "SIZE = 1\n"})
    size, modules = bought(store)
    assert (size, modules[name]) == (1, sha256("SIZE = 1\n"))

    project({place: "SIZE = 9\n"})  # of the same length, within the same second: no bytecode may stand for it

    again, modules = bought(store)
    assert (again, modules[name]) == (9, sha256("SIZE = 9\n"))
    assert not [loaded for loaded in sys.modules if loaded.split(".")[0] in ("helper", "through", "pkg", "bare")]


def test_what_will_only_be_imported_by_a_run_counts_in_a_sweep_before_it(project, store):
    files = {"trade.py": strategy("helper.SIZE + self.p.more", "", "import helper"), "helper.py": "SIZE = 1\n"}
    project(files)
    before = sweep("trade.py", "AAPL/1day", {"more": [1, 2]}, store=store, folder="swept", rank="trades")

    project({"helper.py": "SIZE = 5\n"})
    after = sweep("trade.py", "AAPL/1day", {"more": [1, 2]}, store=store, folder="swept", rank="trades")

    assert {trial.key for trial in before.trials}.isdisjoint(trial.key for trial in after.trials)
    assert after.best_run.orders["size"].tolist() == [6]


def test_a_module_that_a_script_imported_itself_is_not_the_one_of_the_strategy(project, store, monkeypatch):
    root = project(
        {"trade.py": strategy("helper.SIZE", "import importlib\nhelper = importlib.import_module('helper')")}
    )
    project({"helper.py": "SIZE = 1\n"})
    monkeypatch.syspath_prepend(root)
    helper = ModuleType("helper")
    helper.SIZE = 7
    monkeypatch.setitem(sys.modules, "helper", helper)

    size, _ = bought(store)

    assert size == 1
    assert sys.modules["helper"] is helper


@pytest.mark.slow
def test_packages_at_the_root_of_the_project_are_found_from_a_folder_below(project, store):
    project(
        {
            "lib/__init__.py": "",
            "lib/sizes.py": "SIZE = 3\n",
            "bare/sizes.py": "SIZE = 4\n",
            "strategies/trade.py": strategy("SIZE + sizes.SIZE", "from lib.sizes import SIZE\nfrom bare import sizes"),
        }
    )
    before = list(sys.path), list(sys.meta_path)

    size, modules = bought(store, "strategies/trade.py")

    assert size == 7
    assert list(modules) == ["bare.sizes", "lib", "lib.sizes"]
    assert (sys.path, sys.meta_path) == before


@pytest.mark.slow
def test_the_command_finds_them_as_python_with_m_does(project, store):
    project({"lib/sizes.py": "SIZE = 3\n", "strategies/trade.py": strategy("SIZE", "from lib.sizes import SIZE")})
    words = ["run", "strategies/trade.py", "AAPL/1day", "--store", str(store.root), "--out", "kept"]

    ran = subprocess.run(
        [sys.executable, "-P", "-c", f"from backtest.cli.app import main; main({words!r})"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (ran.returncode, ran.stderr.count("Error")) == (0, 0)


def test_a_strategy_in_a_package_may_import_relatively(project, store):
    project(
        {
            "strategies/__init__.py": "",
            "strategies/base.py": "from .deep.sizes import SIZE\n",
            "strategies/deep/__init__.py": "",
            "strategies/deep/sizes.py": "SIZE = 2\n",
            "strategies/trade.py": strategy("SIZE", "from .base import SIZE"),
        }
    )

    size, modules = bought(store, "strategies/trade.py")

    assert size == 2
    assert modules["strategies.deep.sizes"] == sha256("SIZE = 2\n")


def test_a_file_beside_hides_no_installed_package_and_none_of_python(project, store):
    project(
        {
            "trade.py": strategy("numpy.int64(json.loads('2'))", "import json\nimport numpy"),
            "json.py": "raise RuntimeError('mine')\n",
            "numpy.py": "raise RuntimeError('mine')\n",
        }
    )

    size, modules = bought(store)

    assert (size, modules) == (2, {})


def installed(folder, name, text):
    """Put a package where `pip install --target` puts it: beside the list of its files."""
    files = [f"{name}/__init__.py", f"{name}/deep/part.py", f"{name}-1.0.dist-info/RECORD"]
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    (folder / files[-1]).write_text("".join(f"{file},,\n" for file in files))


def test_a_package_that_was_installed_elsewhere_is_not_of_the_project(project, store, monkeypatch, tmp_path):
    installed(tmp_path / "vendored", "shared_numbers", "SIZE = 3")
    monkeypatch.syspath_prepend(tmp_path / "vendored")
    project(
        {"mine.py": strategy("shared_numbers.SIZE + here.MORE", "import here, shared_numbers"), "here.py": "MORE = 1"}
    )

    result = run("mine.py", "AAPL/1day", store=store)
    before = result.name
    (tmp_path / "vendored" / "shared_numbers" / "__init__.py").write_text("SIZE = 3  # another release\n")

    assert set(result.manifest["modules"]) == {"here"}
    assert run("mine.py", "AAPL/1day", store=store).name == before
    monkeypatch.delitem(sys.modules, "shared_numbers")


def test_a_file_of_ones_own_beside_installed_packages_is_of_the_project(project, store, monkeypatch, tmp_path):
    folder = project(
        {"mine.py": strategy("own_numbers.SIZE", "import own_numbers, shared_numbers"), "own_numbers.py": "SIZE = 2"}
    )
    installed(folder, "shared_numbers", "SIZE = 3")

    assert set(run("mine.py", "AAPL/1day", store=store).manifest["modules"]) == {"own_numbers"}
    monkeypatch.delitem(sys.modules, "shared_numbers", raising=False)


@pytest.mark.parametrize(
    ("place", "came"),
    [
        ("shared_numbers/__init__.py", True),
        ("shared_numbers/deep/part.py", True),
        ("shared_numbers/deep", True),
        ("shared_numbers/other.py", False),
        ("own.py", False),
    ],
)
def test_what_an_installation_lists_came_along(tmp_path, place, came):
    installed(tmp_path, "shared_numbers", "")

    assert came_along(str(tmp_path / place)) is came


def test_two_strategies_have_each_their_own_copy_of_a_module_that_both_import(project, store):
    count = "shared.SEEN.append(1) or len(shared.SEEN)"
    project({"a.py": strategy(count, "import shared"), "b.py": strategy(count, "import shared")})
    project({"shared.py": "SEEN = []\n"})

    assert [bought(store, f"{name}.py")[0] for name in ("a", "b", "a")] == [1, 1, 1]


def test_a_folder_that_a_strategy_adds_to_the_path_is_its_own(project, store):
    first = "import os, sys\nsys.path.append(os.path.join(os.path.dirname(__file__), 'lib'))\nfrom deep import SIZE"
    for name, size in (("a", 1), ("b", 5)):
        project({f"{name}/trade.py": strategy("SIZE + late.SIZE", first, "import late")})
        project({f"{name}/lib/deep.py": f"SIZE = {size}\n", f"{name}/lib/late.py": f"SIZE = {size}\n"})
    before = list(sys.path)

    found = [bought(store, f"{name}/trade.py") for name in ("a", "b", "a")]

    assert [size for size, _ in found] == [2, 10, 2]
    assert found[1][1] == {"deep": sha256("SIZE = 5\n"), "late": sha256("SIZE = 5\n")}
    assert sys.path == before


def test_objects_of_a_helper_are_pickled_by_its_own_name(project, store):
    helper = """
        from __future__ import annotations
        from dataclasses import dataclass
        from typing import ClassVar

        @dataclass
        class Sized:
            size: int
            kind: ClassVar[str] = "sized"
        """
    first = "import helper, pickle\n\nLEFT = pickle.dumps(helper.Sized(4))"
    project({"trade.py": strategy("pickle.loads(LEFT).size", first), "helper.py": helper})
    project(
        {
            "later.py": strategy(
                "pickle.loads(Path('kept.pickle').read_bytes()).size", "import pickle\nfrom pathlib import Path"
            )
        }
    )

    assert bought(store)[0] == 4
    left = load_strategy("trade.py").space.home.LEFT
    assert b"helper" in left
    Path("kept.pickle").write_bytes(left)
    assert bought(store, "later.py")[0] == 4
    with pytest.raises(ModuleNotFoundError):
        pickle.loads(left)  # nothing is left behind for everybody


@pytest.mark.slow
def test_threads_with_strategies_whose_helpers_have_one_name_do_not_mix_them(project, store):
    names = [f"s{number}" for number in range(6)]
    for number, name in enumerate(names, 1):
        text = strategy("importlib.import_module('helper').SIZE + SIZE", "import importlib", "from helper import SIZE")
        project({f"{name}/trade.py": text, f"{name}/helper.py": f"SIZE = {number}\n"})

    with ThreadPoolExecutor(3) as executor:
        found = list(executor.map(lambda name: bought(store, f"{name}/trade.py")[0], names * 3))

    assert found == [2, 4, 6, 8, 10, 12] * 3
    assert "helper" not in sys.modules


def test_a_thread_of_the_strategys_own_finds_its_helper(project, store):
    first = """import importlib, threading

def ask(found):
    found.append(importlib.import_module("helper").SIZE)
    import second
    found.append(second.SIZE)

def sizes():
    found = []
    thread = threading.Thread(target=ask, args=(found,))
    thread.start()
    thread.join()
    return sum(found)
"""
    project({"trade.py": strategy("sizes()", first), "helper.py": "SIZE = 2\n", "second.py": "SIZE = 3\n"})

    assert bought(store)[0] == 5
    assert threading.active_count() < 20


def test_a_strategy_that_runs_another_has_its_own_helper_afterwards(project, store):
    inner = f"""from backtest import run
import importlib

def other():
    ran = run("b/trade.py", "AAPL/1day", store={str(store.root)!r})
    return ran.orders["size"][0] * 10 + importlib.import_module("helper").SIZE
"""
    project({"a/trade.py": strategy("other()", inner), "a/helper.py": "SIZE = 1\n"})
    project({"b/trade.py": strategy("SIZE", "from helper import SIZE"), "b/helper.py": "SIZE = 5\n"})

    assert bought(store, "a/trade.py")[0] == 51


def test_a_helper_that_was_edited_while_a_sweep_runs_is_refused_by_its_workers(project, store):
    from dataclasses import replace

    from backtest.errors import BrokenPin
    from backtest.research.search.job import Point, job_of, result_of

    project({"trade.py": strategy("SIZE", "from helper import SIZE"), "helper.py": "SIZE = 1\n"})
    job = job_of("trade.py", "AAPL/1day", store=store)

    project({"helper.py": "SIZE = 2\n"})

    with pytest.raises(BrokenPin, match=r"helper, which .*trade\.py:Buys imports, differs"):
        result_of(replace(job, case="another"), Point({}))


@pytest.mark.slow
def test_workers_import_what_the_command_imported(project, store):
    project(
        {
            "lib/sizes.py": "SIZE = 3\n",
            "strategies/trade.py": strategy("SIZE + self.p.more", "from lib.sizes import SIZE"),
        }
    )

    found = sweep(
        "strategies/trade.py", "AAPL/1day", {"more": [1, 2]}, store=store, jobs=2, folder="swept", rank="trades"
    )

    assert found.failed == []
    assert found.best_run.orders["size"].tolist() == [4]
