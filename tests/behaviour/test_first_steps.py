"""First steps that go wrong, as somebody takes them who has just installed this: what is said leads on."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from market import store_with

from backtest import run
from backtest._system import one_word
from backtest.errors import UsageError
from backtest.market.series import Series
from backtest.runs.spec import Brokerage
from backtest.sources.files.export import write_bars
from backtest.store.store import Store, open_folder, open_store

BRK = one_word("BRK B/1day")  # as the shell of the system at hand has it
# A strategy each, by its file's name.
FILES = {
    "lost.py": "import backtrader as bt\nimport helpers_of_mine\n\n\nclass Lost(bt.Strategy): ...\n",
    "ahead.py": (
        "import backtrader as bt\n\n\nclass Ahead(bt.Strategy):\n    def next(self):\n"
        "        if self.data.close[1] > self.data.close[0]:\n            self.buy()\n"
    ),
}
WAYS = (
    "run: backtest download AAPL/1day --since DATE --store {store} (from TWS or IB Gateway), "
    "backtest import FILE AAPL/1day --store {store} (your own file) or backtest demo --store {store} (sample prices)"
)
DEFAULT, OTHER = WAYS.format(store="data/bars"), WAYS.format(store="empty")
SHORT = ("--until", "2000-06-30", "--store", "sample")

# The command, its exit code, and what it says; {port} is one on which nothing is listening.
STEPS = [
    # with no bars and no gateway, each way to get some is named
    ("run sma_cross AAPL/1day", 3, f"AAPL/1day is not in data/bars; {DEFAULT}"),
    ("sweep sma_cross AAPL/1day --grid fast=5,10", 3, f"AAPL/1day is not in data/bars; {DEFAULT}"),
    ("export AAPL/1day aapl.csv", 3, f"AAPL/1day is not in data/bars; {DEFAULT}"),
    (
        "download AAPL/1day --since 2020-01-02 --source ib://127.0.0.1:{port}", 4,
        "without TWS or IB Gateway, import a file of your own: backtest import FILE AAPL/1day, or use the sample: "
        "backtest demo --store data/bars",
    ),
    ("doctor --source ib://127.0.0.1:{port}", 1, "backtest demo --store data/bars"),
    (
        "download AAPL/1day --since 2000-03-01 --source emulator:nothing", 3,
        "nothing is not a store: it holds no bars; " + WAYS.format(store="nothing"),
    ),
    ("ls", 0, f"data/bars is not a store: it holds no bars; {DEFAULT}"),
    ("pin", 3, f"there is nothing to pin: data/bars is not a store: it holds no bars; {DEFAULT}"),
    ("verify --store empty", 3, f"there is nothing to verify: empty is not a store: it holds no bars; {OTHER}"),
    ("verify", 3, f"there is no store at data/bars; name one with --store, or {DEFAULT}"),
    (
        "publish file:///nowhere/at/all --store empty", 3,
        f"there is nothing to publish: empty is not a store: it holds no bars; {OTHER}",
    ),
    # a strategy that fails
    ("run lost.py AAPL/1day", 5, "lost.py cannot be loaded: ModuleNotFoundError at line 2: No module named 'helpers"),
    ("run ./lost.py AAPL/1day", 5, "lost.py cannot be loaded: ModuleNotFoundError at line 2: No module named"),
    (
        "run ahead.py AAPL/1day {short}", 5,
        "in next() at line 6 of ahead.py: IndexError: array index out of range; close[1] is the next bar, not known "
        "yet; close[0] is the current one, close[-1] the previous one",
    ),
    # a number, a date, a spelling
    (
        "run sma_cross AAPL/1day {short} --slippage 5", 2,
        "slippage 5 is ambiguous; write 5bp for 5 basis points of the price, or money:5 for 5 per share in the "
        "instrument's currency",
    ),
    ("run sma_cross AAPL/1day {short} --splits none.csv", 2, "'none.csv' cannot be read (No such file or directory);"),
    ("run sma_cross AAPL/1day {short} --interest none.csv", 2, "from 'none.csv' (No such file or directory);"),
    ("run sma_cross AAPL/1day --since today", 2, "--since 'today' is not a valid date; write YYYY-MM-DD"),
    ("run sma_cross AAPL/1day {short} --costs bp:x", 2, "'x' in the costs 'bp:x' is not a number; write bp:5"),
    (
        "run sma_cross AAPL/1day --since 2030-01-02 --store sample", 3,
        "AAPL/1day has no bars on or after 2030-01-02 in ",
    ),
    (
        "pin AAPL/1day --since 2030-01-02 --store sample", 3,
        "where its bars run from 2000-03-01 to 2013-03-01; name other dates, or run: backtest download AAPL/1day",
    ),
    ("run sma_cross QQQ/1day --store sample", 3, "run: backtest download QQQ/1day --since DATE (from TWS or IB"),
    ("run sma_cross EURUSD/1hour --store sample", 3, "did you mean EUR-CASH/1hour"),
    ("run sma_cross EURUSD --store sample", 2, "did you mean EUR-CASH/1day"),
    ("run sma_cross 'BRK B' --store sample", 2, f"did you mean {BRK}, its daily bars?"),
    ("run sma_cross BRK B/1day --store sample", 2, f"did you mean {BRK}, in quotes because of the space?"),
    ("run sma_cross AAPL/5mins/all --store sample", 3, "AAPL/5mins/TRADES/all is not in"),
    ("import aapl.csv AAPL/1day --store sample", 2, "sample is the bundled store, which is read-only"),
]  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Enter a folder that holds two strategies and an empty folder, as after a first look around."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("command", "code", "said"), STEPS, ids=[step[0] for step in STEPS])
def test_a_wrong_first_step_leads_on(place, call, command, code, said):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    ended, out, err = call(*shlex.split(command.format(port=port, short=" ".join(SHORT))))

    told = " ".join((out + err).split()).replace(f"{place}{os.sep}", "")
    assert said in told.replace(str(Path("data/bars")), "data/bars")
    assert ended == code
    assert "Traceback" not in err
    assert "further back" not in err
    assert sorted(path.name for path in place.iterdir()) == ["ahead.py", "empty", "lost.py"]  # nothing was begun


@pytest.mark.slow
def test_the_emulator_of_an_empty_store_says_how_to_fill_it(place):
    words = [sys.executable, "-m", "backtest", "emulator", "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as serving:
        said = serving.stderr.readline()
        serving.terminate()
        serving.communicate()

    assert f"error 200: data/bars is not a store: it holds no bars; {DEFAULT}" in said


@pytest.mark.slow
def test_dates_that_a_source_did_not_give_are_named_with_what_to_do(tmp_path, call):
    bars = store_with(tmp_path / "market", {"AAPL/1day": ("2024-01-02", "2024-01-12")}).read("AAPL/1day")
    file = tmp_path / "AAPL_1day.csv"
    words = (
        "download",
        "AAPL/1day",
        "--since",
        "2024-01-02",
        "--source",
        f"csv:{tmp_path}",
        "--store",
        tmp_path / "bars",
    )
    write_bars(bars, file, Series.parse("AAPL/1day"))
    call(*words, "--until", "2024-01-05")
    file.write_text(re.sub(r"2024-01-09,[^,]*,", "2024-01-09,0.01,", file.read_text()))  # an open below the low

    code, out, err = call(*words, "--until", "2024-01-12")

    *errors, told = err.splitlines()
    assert code == 3
    assert "AAPL/1day: partial, 4 bars (0 new), 2024-01-02 to 2024-01-05" in out
    assert "gap" not in out
    assert told == (
        "open: AAPL/1day: no bars of 2024-01-06 to 2024-01-12; to request them again: --since 2024-01-06 --until "
        "2024-01-12; a gap stays open until the source returns bars for it, or reports on another day that it has none"
    )
    assert errors != []


def test_the_hours_alone_may_follow_the_bar_size(tmp_path):
    assert Series.parse("AAPL/5mins/all") == Series.parse("AAPL/5mins/TRADES/all")
    assert Series.parse("EUR-CASH/1hour/ALL") == Series.parse("EUR-CASH/1hour/MIDPOINT/all")
    assert Series.parse("AAPL/5mins/rth") == Series.parse("AAPL/5mins")


@pytest.mark.parametrize("asked", [5, "5", 1.0, "250"])
def test_large_slippage_is_asked_about_by_its_name_and_taken_as_money(sample, asked):
    bars = {"store": sample, "end": "2000-06-30", "lines": False}
    amount = f"{float(asked):g}"

    with pytest.raises(UsageError, match=rf"write {amount}bp for .*, or money:{amount} for {amount} per share"):
        run("sma_cross", "AAPL/1day", slippage=asked, **bars)
    meant = run("sma_cross", "AAPL/1day", slippage=f"money:{asked}", **bars)
    kept = run("sma_cross", "AAPL/1day", brokerage=Brokerage(slippage=str(asked)), **bars)  # as that of a saved run

    assert len(meant.fills_table) > 0
    assert meant.fills_table.equals(kept.fills_table)


def test_slippage_of_cents_is_not_asked_about(sample):
    assert (
        run("sma_cross", "AAPL/1day", store=sample, end="2000-06-30", slippage=0.99).spec.brokerage.slippage == "0.99"
    )


def test_the_sample_is_a_store_by_its_name_unless_a_folder_has_it(place, sample):
    read = open_store("sample").read("AAPL/1day")
    with pytest.raises(UsageError, match="is read-only"):
        open_folder("sample")
    store_with(place / "sample", {"IBM/1day": ("2024-01-02", "2024-01-05")})

    assert read.equals(sample.read("AAPL/1day"))
    assert [one.short for one in open_store("sample").series()] == ["IBM/1day"]
    assert open_folder("sample").series() == Store("sample").series()


def test_a_pin_of_an_empty_store_writes_no_file(place, call):
    code, _, _ = call("pin", "--lock", "my.lock")

    assert (code, (place / "my.lock").exists()) == (3, False)
