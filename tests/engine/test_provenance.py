"""What a manifest says of a run, and what it must not say."""

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import backtrader as bt
import hypothesis
import pytest
from stores.make_store import daily, days

from backtest._resources import installed_version
from backtest.api import run
from backtest.engine import provenance
from backtest.errors import StrategyError
from backtest.market.series import Series
from backtest.store.store import Store

AAPL = "AAPL-STK-SMART-USD/1day/TRADES/rth"
STRATEGY = "import backtrader as bt\n{imports}\nclass Own(bt.Strategy):\n    params = dict(seed=3)\n"


@pytest.fixture
def store(tmp_path):
    """Return a store with the bars of four days, one of them revised since."""
    made = Store(tmp_path / "bars")
    made.write(Series.parse("AAPL/1day"), days(2, 5), daily(2, 5))
    made.write(Series.parse("AAPL/1day"), days(2, 5), daily(2, 5, close=11.5), revise=True)
    return made


@pytest.fixture
def project(tmp_path):
    """Return a function that writes files of a project, and gives the path of the first."""

    def project(**files):
        for name, text in files.items():
            path = tmp_path / "project" / f"{name.replace('_in_', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "project" / f"{next(iter(files))}.py"

    return project


def git(folder, *words):
    who = ("-c", "user.name=Canary", "-c", "user.email=canary@example.com")
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


def committed(folder):
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "Begin")
    words = ["git", "rev-parse", "HEAD"]
    return subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_it_names_the_revision_and_what_was_answered_for(store):
    manifest = run("buy_and_hold", "AAPL/1day", store=store).manifest

    assert manifest["store"][AAPL] == {"revision": 1, "answered": "2024-01-02 to before 2024-01-06"}


def test_it_has_the_hashes_of_the_modules_that_a_strategy_imports_even_through_others(store, project):
    path = project(
        own_circumstances=STRATEGY.format(imports="import json, numpy\nfrom signals_of_test import one"),
        signals_of_test="import levels_of_test.deep\none = 1\n",
        levels_of_test_in___init__="",
        levels_of_test_in_deep="from . import shared\n",
        levels_of_test_in_shared="level = 2\n",
    )

    manifest = run(path, "AAPL/1day", store=store).manifest

    names = ["levels_of_test", "levels_of_test.deep", "levels_of_test.shared", "signals_of_test"]
    assert list(manifest["modules"]) == names
    assert manifest["modules"]["levels_of_test.shared"] == hashlib.sha256(b"level = 2\n").hexdigest()


def test_a_run_has_another_name_when_a_module_that_its_strategy_imports_has_changed(store, project):
    imports = "import named_by_test"
    path = project(own=STRATEGY.format(imports=imports), named_by_test="level = 1\n")
    before = run(path, "AAPL/1day", store=store).name

    project(named_by_test="level = 22\n")

    assert run(path, "AAPL/1day", store=store).name != before


def test_it_names_the_commit_and_whether_the_code_differs_from_it(store, project):
    path = project(own=STRATEGY.format(imports=""), other="x = 1\n")
    commit = committed(path.parent)

    clean = run(path, "AAPL/1day", store=store).manifest["git"]
    project(other="x = 2\n")
    untouched = run(path, "AAPL/1day", store=store).manifest["git"]
    project(own=STRATEGY.format(imports="# changed"))
    changed = run(path, "AAPL/1day", store=store).manifest["git"]

    assert clean == untouched == {"commit": commit, "dirty": False}
    assert changed == {"commit": commit, "dirty": True}


def test_a_module_of_another_place_keeps_the_commit_and_counts_as_it_is_now(tmp_path, store, project, monkeypatch):
    (tmp_path / "library_of_test.py").write_text("level = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = project(own=STRATEGY.format(imports="import library_of_test"))
    commit = committed(path.parent)
    first = run(path, "AAPL/1day", store=store).manifest
    (tmp_path / "library_of_test.py").write_text("level = 2\n")

    second = run(path, "AAPL/1day", store=store).manifest
    (tmp_path / "library_of_test.py").write_text("level = \n")

    assert first["git"] == second["git"] == {"commit": commit, "dirty": False}
    assert first["modules"]["library_of_test"] == hashlib.sha256(b"level = 1\n").hexdigest()
    assert second["modules"]["library_of_test"] == hashlib.sha256(b"level = 2\n").hexdigest()
    with pytest.raises(StrategyError, match="SyntaxError"):
        run(path, "AAPL/1day", store=store)


def test_a_new_commit_is_seen_by_a_process_that_asked_before(store, project):
    path = project(own=STRATEGY.format(imports=""))
    first = committed(path.parent)
    assert run(path, "AAPL/1day", store=store).manifest["git"]["commit"] == first

    git(path.parent, "commit", "--quiet", "--allow-empty", "--message", "Go on")

    assert run(path, "AAPL/1day", store=store).manifest["git"]["commit"] != first


def test_without_git_nothing_is_said_of_it(store, project):
    assert "git" not in run(project(own=STRATEGY.format(imports="")), "AAPL/1day", store=store).manifest


def test_it_names_costs_with_their_rates_the_seed_python_and_the_packages(store, project):
    manifest = run(project(own=STRATEGY.format(imports="")), "AAPL/1day", store=store, params={"seed": 7}).manifest

    assert manifest["costs"]["name"] == "ib-fixed"
    assert (manifest["costs"]["rates"]["commission"], manifest["costs"]["rates"]["minimum"]) == (0.005, 1.0)
    assert manifest["seed"] == 7
    assert manifest["python"] == platform.python_version()
    assert manifest["packages"]["backtrader"] == bt.__version__
    assert len(manifest["backtest_sha256"]) == 64


class Learns(bt.Strategy):
    def stop(self):
        self.notes = {"models": ["5f2a"]}


def test_what_a_strategy_notes_such_as_hashes_of_its_models_is_there(store):
    assert run(Learns, "AAPL/1day", store=store).manifest["notes"] == {"models": ["5f2a"]}


def test_versions_are_those_of_the_standard_library_for_all_that_is_installed():
    installed = {one.name: one.version for one in importlib.metadata.distributions()}

    assert {name: provenance._version(name) for name in installed} == installed
    assert len(installed) > 50


def test_packages_that_only_the_strategy_imports_are_there_with_their_versions(store, project):
    path = project(own=STRATEGY.format(imports="import hypothesis, json"))

    assert run(path, "AAPL/1day", store=store).manifest["packages"]["hypothesis"] == hypothesis.__version__


@pytest.mark.slow
def test_no_path_user_host_or_secret_gets_in(tmp_path, store, project):
    home = tmp_path / "home-of-canary"
    home.mkdir()
    path = project(own=STRATEGY.format(imports="import beside_canary"), beside_canary="")
    committed(path.parent)
    code = (
        "import json, sys; from backtest import run; "
        f"print(json.dumps(run({str(path)!r}, 'AAPL/1day', store={str(store.root)!r}).manifest))"
    )
    secrets = {
        "HOME": str(home),
        "USER": "canary-user",
        "LOGNAME": "canary-user",
        "AWS_SECRET_ACCESS_KEY": "canary-key",
    }

    ran = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **secrets}, check=True, capture_output=True, text=True
    )

    told = json.loads(ran.stdout)
    assert told["git"]["dirty"] is False
    assert list(told["modules"]) == ["beside_canary"]
    words = (str(tmp_path), tmp_path.name, "home-of-canary", "canary-user", "canary-key", "canary@", platform.node())
    assert [word for word in (*words, str(Path.cwd())) if word in ran.stdout] == []


def test_a_bar_more_is_another_hash_and_the_same_bars_are_the_same(tmp_path, store):
    longer = Store(tmp_path / "longer")
    longer.write(Series.parse("AAPL/1day"), days(2, 8), daily(2, 8, close=11.5))
    until = datetime(2024, 1, 5, tzinfo=UTC).date()

    seen = [run("buy_and_hold", "AAPL/1day", store=one).manifest["series"][AAPL] for one in (store, longer)]
    cut = run("buy_and_hold", "AAPL/1day", store=longer, span=(None, until)).manifest["series"][AAPL]

    assert seen[0] == cut != seen[1]
    assert seen[1]["bars"] - seen[0]["bars"] == len({until + timedelta(days=n) for n in (1, 2, 3)})


def test_a_package_whose_metadata_cannot_be_read_counts_as_missing(monkeypatch):
    """As the finders of `importlib_metadata` say it, which some libraries put in the place of Python's own."""

    def unreadable(name):
        raise FileNotFoundError(f"No package metadata was found for {name}.")

    monkeypatch.setattr("importlib.metadata.version", unreadable)

    assert provenance._version.__wrapped__("half-installed") == provenance._MISSING
    assert installed_version("half-installed") == ""
