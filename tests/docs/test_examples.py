"""The example in each command's help does what it says, where nothing is but what was installed."""

import inspect
import re
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime

import pytest
import typer
from market import store_with
from places import ROOT

from backtest.cli.app import app
from backtest.emulator.server import Gateway

pytestmark = [pytest.mark.docs, pytest.mark.usefixtures("few_figures")]

HELP = {
    name: inspect.cleandoc(one.help) for name, one in typer.main.get_command(app).commands.items() if not one.hidden
}
EXAMPLES = {name: found[1] for name, text in HELP.items() if (found := re.search(r"Example: backtest (.*)", text))}
LASTING = "emulator"  # runs until it is stopped
SHOWN = "demo"  # the README shows it, and the test of its page runs it
MINUTES = "Date,Open,High,Low,Close\n2024-03-04 09:30,1,2,1,2\n2024-03-04 09:31,2,2,1,1\n"


@pytest.fixture
def market(tmp_path):
    """Yield a running gateway that has what the examples download."""
    spans = {"AAPL/1day": ("2024-02-05", "2024-03-15"), "EUR-CASH/1hour": ("2024-03-04", "2024-03-15")}
    store = store_with(tmp_path / "market", spans)
    with Gateway(store, clock=lambda: datetime(2024, 3, 17, tzinfo=UTC)) as running:
        yield running


@pytest.fixture
def workplace(tmp_path, monkeypatch, call):
    """Enter a folder that holds nothing but two saved runs, made as the example of `run` is."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for strategy in ("sma_cross", "buy_and_hold"):
        assert call("run", strategy, "AAPL/1day", "--until", "2001-12-31", "--store", "sample")[0] == 0
    return folder


def test_every_command_has_an_example():
    assert set(EXAMPLES) == set(HELP)


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - {LASTING, SHOWN}))
def test_an_example_does_what_it_says(name, workplace, market, call):
    here = {"ib://127.0.0.1:4002": market.address, "s3://bucket/bars": (workplace / "published").as_uri()}
    if name == "import":
        (workplace / "aapl.csv").write_text(MINUTES)
    if name == "prune":
        shutil.copytree(ROOT / "data" / "sample", workplace / "data" / "bars")

    code, out, said = call(*(here.get(word, word) for word in shlex.split(EXAMPLES[name])))

    assert (code, out != "") == (0, True), out + said


def test_the_example_of_the_emulator_serves_until_it_is_stopped(workplace):
    words = shlex.split(EXAMPLES[LASTING].replace("--port 4002", "--port 0"))  # any that is free

    with subprocess.Popen([sys.executable, "-m", "backtest", *words], stdout=subprocess.PIPE, text=True) as serving:
        line = serving.stdout.readline()
        serving.terminate()

    assert line.startswith("listening on 127.0.0.1:")
    assert serving.returncode == 0
