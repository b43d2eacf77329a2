"""The ends of lines: Git for Windows writes its own into a clone, and no bars, hashes or keys may depend on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from market import store_with
from places import ROOT
from rights import HAVE_GIT

from backtest._resources import own_source
from backtest.engine import provenance
from backtest.engine.code.reach import reach_of
from backtest.engine.code.strategy import load_strategy
from backtest.errors import DamagedStore
from backtest.market.series import Series
from backtest.onboarding.scaffold import scaffold
from backtest.research.search.job import job_of
from backtest.store.audit.repairs import repair
from backtest.store.audit.verification import verify
from backtest.store.store import Store

DAILY = Series.parse("IBM/1day")
STRATEGY = '''"""Buys once."""
import backtrader as bt
import beside

TEXT = """two
lines"""


class Mine(bt.Strategy):
    def next(self):
        beside.act(self)
'''
BESIDE = "def act(strategy):\n    strategy.buy()\n"


def git(*words, folder):
    """Run git as Git for Windows is set up, and with nobody's own settings."""
    identity = {
        f"GIT_{who}_{what}": "tests@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    alone = {**os.environ, **identity, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    command = ["git", "-c", "core.autocrlf=true", "-c", "core.safecrlf=false", *map(str, words)]
    subprocess.run(command, cwd=folder, env=alone, check=True, capture_output=True)


def commit(folder):
    git("init", "-q", "-b", "main", folder=folder)
    git("add", "--all", folder=folder)
    git("commit", "-q", "-m", "All", folder=folder)


def clone(folder, target):
    git("clone", "-q", "-c", "core.autocrlf=true", "--no-hardlinks", folder, target, folder=target.parent)
    return target


def files(folder):
    """Return the bytes of all files of a folder but Git's own and locks."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(folder).parts and path.name != ".lock"
    }


def with_windows_lines(path):
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


@pytest.fixture
def store(tmp_path):
    return store_with(
        tmp_path / "bars", {"IBM/1day": ("2024-01-02", "2024-01-31"), "MSFT/1day": ("2024-01-02", "2024-01-31")}
    )


@HAVE_GIT
def test_a_store_comes_through_git_as_it_was(store, tmp_path):
    commit(store.root)

    there = clone(store.root, tmp_path / "clone")

    assert files(there) == files(store.root)
    shutil.rmtree(there / ".git")
    assert [one.findings for one in verify(there)] == [() for _ in range(3)]


@HAVE_GIT
def test_without_its_file_for_git_a_store_would_not(store, tmp_path):
    (store.root / ".gitattributes").unlink()
    commit(store.root)

    there = clone(store.root, tmp_path / "clone")

    assert b"\r\n" in (there / DAILY.key / "manifest.json").read_bytes()


def test_what_a_user_told_git_of_a_store_stays(tmp_path):
    (tmp_path / ".gitattributes").write_text("*.parquet filter=lfs\n")

    made = store_with(tmp_path, {"IBM/1day": ("2024-01-02", "2024-01-03")})

    assert (made.root / ".gitattributes").read_text() == "*.parquet filter=lfs\n"


def test_a_folder_that_git_was_told_of_becomes_a_store_after_a_kill(tmp_path):
    (tmp_path / ".gitattributes").write_bytes(b"* -text\n")  # written before the mark, so that no store lacks it

    assert Store(tmp_path).series() == []
    store_with(tmp_path, {"IBM/1day": ("2024-01-02", "2024-01-03")})


def test_the_cause_is_named_and_a_repair_loses_nothing(store, call):
    answers, before = store.manifest(DAILY).answers, files(store.root)
    (store.root / ".gitattributes").unlink()
    for name in ("STORE.json", f"{DAILY.key}/manifest.json"):
        with_windows_lines(store.root / name)

    with pytest.raises(DamagedStore, match=r"core\.autocrlf is true; run: backtest verify --repair"):
        Store(store.root)
    done = list(repair(store.root, list(verify(store.root))))

    assert files(store.root) == before
    assert Store(store.root).manifest(DAILY).answers == answers
    assert [one.complete for one in done] == ["", ""]  # no command is needed to bring anything back
    assert [one.findings for one in verify(store.root)] == [() for _ in range(3)]


def test_a_manifest_alone_names_the_cause(store):
    with_windows_lines(store.root / DAILY.key / "manifest.json")

    with pytest.raises(DamagedStore, match=r"manifest\.json has Windows line endings.*core\.autocrlf"):
        store.read(DAILY)


def test_a_manifest_with_a_flipped_bit_is_damaged_whatever_ends_its_lines(store):
    path = store.root / DAILY.key / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n").replace(b'"generation": 1', b'"generation": 3'))

    with pytest.raises(DamagedStore, match="is not what was written"):
        store.read(DAILY)


def test_hashes_of_code_and_keys_of_trials_do_not_depend_on_line_ends(store, tmp_path, monkeypatch):
    found = []
    for name, end in (("unix", "\n"), ("windows", "\r\n")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "mine.py").write_bytes(STRATEGY.replace("\n", end).encode())
        (folder / "beside.py").write_bytes(BESIDE.replace("\n", end).encode())
        monkeypatch.chdir(folder)
        strategy = load_strategy("mine.py")
        job = job_of("mine.py", ["IBM/1day"], store=store)
        found.append((strategy.source, provenance.module_hashes(strategy), job.case, job.modules))

    assert found[0] == found[1]
    assert set(found[0][1]) == {"beside"}


def test_the_hash_of_a_class_from_python_does_not_depend_on_line_ends(tmp_path, monkeypatch):
    digests = []
    for name, end in (("of_unix", "\n"), ("of_windows", "\r\n")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "shared_name.py").write_bytes(STRATEGY.replace("import beside\n", "").replace("\n", end).encode())
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, "shared_name", raising=False)
        import shared_name

        digests.append(reach_of(shared_name.Mine).digest)
    monkeypatch.delitem(sys.modules, "shared_name")

    assert digests[0] == digests[1]


@pytest.mark.slow
def test_the_package_has_one_hash_whatever_ends_its_lines(tmp_path):
    copy = tmp_path / "backtest"
    shutil.copytree(ROOT / "backtest", copy, ignore=shutil.ignore_patterns("__pycache__"))
    for path in copy.rglob("*.py"):
        with_windows_lines(path)
    ask = "from backtest._resources import own_source; print(own_source())"

    ran = subprocess.run([sys.executable, "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == own_source()


@pytest.mark.slow
def test_a_new_folder_comes_through_git_and_its_tests_pass(tmp_path):
    scaffold(tmp_path / "momentum")
    commit(tmp_path / "momentum")

    there = clone(tmp_path / "momentum", tmp_path / "clone")

    assert {name for name, data in files(there).items() if b"\r\n" in data and not name.endswith(".parquet")} == set()
    made = files(tmp_path / "momentum")
    assert files(there) == {name: data for name, data in made.items() if "__pycache__" not in name}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    ran = subprocess.run(command, cwd=there, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-2000:]


@pytest.fixture
def cloned(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("an unpacked source archive is no clone")
    return clone(ROOT, tmp_path / "clone")


@pytest.mark.slow
def test_this_repository_comes_through_git(cloned):
    texts = {name: data for name, data in files(cloned).items() if b"\0" not in data and "/vendor_files/" not in name}
    vendors = ROOT / "tests" / "support" / "vendor_files"
    assert files(cloned / vendors.relative_to(ROOT)) == files(vendors)
    assert {name for name, data in texts.items() if b"\r\n" in data} == set()
    assert len(texts) > 300
    assert {one.findings for one in verify(cloned / "data" / "sample")} == {()}


@pytest.mark.soak
def test_the_demo_of_this_repository_runs_where_git_writes_the_line_ends_of_windows(cloned, tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "backtest", "demo", "--out", tmp_path / "out", "--store", tmp_path / "store"],
        cwd=cloned, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
