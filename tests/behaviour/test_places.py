"""A place that begins like a URL is a path, or is refused before anything is made."""

from __future__ import annotations

import shlex
import sys

import pytest
from places import ROOT

from backtest import _arguments
from backtest.api import RunResult, run
from backtest.errors import UsageError
from backtest.store.replacement import replace_file, replace_files

pytestmark = pytest.mark.usefixtures("few_figures")

SAMPLE = str(ROOT / "data" / "sample")
PATHS = ("s3:b", "file:x", "gateway:.", "c:")  # one slash short of a URL, or two
URLS = ("s3://bucket/x", "file:///nowhere/x", "http://host/x", "gateway://x")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows takes half of a surrogate pair")
SHORT = f"--store {SAMPLE} --until 2000-06-30"
KEPT = f"run buy_and_hold AAPL/1day {SHORT} --out kept"

# Each command that writes to a place that an option names; "{}" is the place.
WRITES = [
    f"run buy_and_hold AAPL/1day {SHORT} --out {{}}",
    f"sweep sma_cross AAPL/1day --grid fast=5,10 {SHORT} --out {{}}",
    "report kept --out {}",
    "report kept --png {}",
    "report kept --pdf {}",
    "compare kept kept --bootstrap 10 --out {}",
    "runs export kept --out {}",
    f"pin AAPL/1day --store {SAMPLE} --lock {{}}",
    f"baseline save kept --folder {{}} --store {SAMPLE}",
]
# Those that take bars to a store.
STORES = [
    "import aapl.csv AAPL/1day --store {}",
    "download AAPL/1day --since 2000-03-01 --until 2000-03-01 --source csv:files --store {}",
]


@pytest.fixture
def place(tmp_path, monkeypatch, call):
    """Enter a folder with a saved run and a file of bars."""
    monkeypatch.chdir(tmp_path)
    assert call(*KEPT.split())[0] == 0
    (tmp_path / "files").mkdir()
    for name in ("aapl.csv", "files/AAPL_1day.csv"):
        (tmp_path / name).write_text("Date,Open,High,Low,Close\n2000-03-01,1,2,1,2\n")
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("command", WRITES, ids=lambda text: " ".join(text.replace(SHORT, "").split()[::3]))
def test_what_begins_like_a_url_is_a_path(place, call, command, monkeypatch):
    monkeypatch.setenv("PATH", str(place))  # so that no browser is started for a PDF
    path = PATHS[WRITES.index(command) % len(PATHS)]

    code, _, err = call(*shlex.split(command.format(path)))

    assert code == 0, err
    assert "Traceback" not in err
    assert path in names(place)


@pytest.mark.slow
@pytest.mark.parametrize("command", WRITES, ids=lambda text: " ".join(text.replace(SHORT, "").split()[::3]))
def test_a_url_is_refused_and_nothing_is_made(place, call, command):
    before = names(place)

    for url in URLS:
        code, out, err = call(*shlex.split(command.format(url)))

        assert (code, out) == (2, "")
        assert f"{url} is a URL, but the command writes to local disk; name a folder or a file" in err
        assert names(place) == before


@pytest.mark.slow
@pytest.mark.parametrize("command", STORES, ids=lambda text: text.split()[0])
def test_a_store_may_be_named_so_and_is_read_again(place, call, command):
    for path in PATHS:
        code, _, err = call(*shlex.split(command.format(path)))
        read, out, _ = call("ls", "--store", path)
        whole, _, _ = call("verify", "--store", path)

        assert (code, read) == (0, 0), err
        assert "AAPL/1day" in out
        assert whole in (0, 1)  # of one bar not all sessions are there


@pytest.mark.parametrize("command", STORES, ids=lambda text: text.split()[0])
def test_a_store_at_a_url_is_not_written(place, call, command):
    before = names(place)

    for url in URLS:
        code, _, err = call(*shlex.split(command.format(url)))

        assert code == 2
        assert "a store at a URL is read-only" in err
        assert names(place) == before


def test_the_demo_and_a_new_folder_are_not_made_at_a_url(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)

    for words in (("demo", "--out", "s3://bucket/x"), ("demo", "--store", "s3://bucket/x"), ("new", "s3://bucket/x")):
        code, _, err = call(*words)
        assert (code, "Traceback" in err) == (2, False), words
        assert names(tmp_path) == [], words


def test_python_refuses_it_too(tmp_path, monkeypatch, sample):
    monkeypatch.chdir(tmp_path)
    result = run("buy_and_hold", "AAPL/1day", store=sample, end="2000-06-30", lines=False)

    for write in (result.save, result.report, result.to_csv, result.to_excel):
        with pytest.raises(UsageError, match="URL"):
            write("s3://bucket/x.xlsx")
    with pytest.raises(UsageError, match="is a URL, which cannot be written"):
        replace_file("s3:/bucket/x", b"")
    with pytest.raises(UsageError, match="is a URL, which cannot be written"):
        replace_files(tmp_path.__class__("s3:/bucket"), {"x": b""})
    assert names(tmp_path) == []
    assert RunResult.load(result.save("s3:b")).record.equals(result.record)


@pytest.mark.parametrize("name", [pytest.param("a\ud800", marks=POSIX), "a\0", "x" * 256])
def test_a_name_that_no_disk_takes_is_refused(name):
    with pytest.raises(UsageError, match="write the path of a folder"):
        _arguments.path(name, "folder")
