"""What comes from a stranger is only read: a run with hostile names runs no code, leads nowhere and draws nothing."""

import ast
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from handmade import fill, result_of
from places import ROOT

from backtest.api import run
from backtest.cli.app import main
from backtest.research.search.sweeps import Sweep, sweep

pytestmark = pytest.mark.usefixtures("few_figures")

SAMPLE = str(ROOT / "data" / "sample")
MODULES = sorted((ROOT / "backtest").rglob("*.py"))
SCRIPT = "<script>alert('1')</script>"
CURSOR = "\x1b[2J\x9b1m\r"  # clears a terminal, and goes back to the start of the line
EVIL = """
from pathlib import Path
import backtrader as bt

Path("ran").write_text("the code of a stranger")

class Evil(bt.Strategy):
    pass
"""


@pytest.fixture
def call(capfd, tmp_path, monkeypatch):
    """Call the command line in an empty folder; return the exit code and all that it says."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        said = capfd.readouterr()
        return ended.value.code or 0, said.out + said.err

    return call


def kept(folder, **spec):
    """Keep a made-up run."""
    return result_of([100.0, 101.0], [fill(0, 1, 10.0), fill(1, -1, 11.0)], **spec).save(folder)


@pytest.mark.slow
def test_only_commands_that_run_again_run_the_code_that_a_kept_run_names(call):
    ran = run("buy_and_hold", "AAPL/1day", store=SAMPLE)
    replace(ran, spec=replace(ran.spec, strategy="evil.py:Evil")).save("runs/one")
    ran.save("runs/two")
    Path("evil.py").write_text(EVIL)

    for words in (("runs", "ls"), ("runs", "show", "one"), ("report", "one"), ("compare", "one", "two", "--bootstrap",
        "10"), ("validate", "one", "--bootstrap", "10"), ("baseline", "save", "one", "--store", SAMPLE)):  # fmt: skip
        assert call(*words)[0] == 0
        assert not Path("ran").exists()
    call("reproduce", "one", "--store", SAMPLE)
    assert Path("ran").exists()  # "Run a saved run again": and so it would have been seen above


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../outside", "/outside", "a/b", "..\\outside"])
def test_no_baseline_is_written_outside_of_its_folder(call, name):
    kept("runs/one", strategy=f"evil:{name}")
    before = {*Path().parent.resolve().parent.rglob("*")}

    named = call("baseline", "save", "one", "--store", SAMPLE, "--name", name)
    taken = call("baseline", "save", "one", "--store", SAMPLE)

    assert (named[0], taken[0]) == (2, 2)
    assert "is not a valid baseline name" in named[1]
    assert {*Path().parent.resolve().parent.rglob("*")} == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_names_are_told_as_they_are_and_move_no_cursor(call):
    kept(f"runs/[/bold]{CURSOR}", strategy=f"evil.py:[/red]{CURSOR}")

    listed, shown = call("runs", "ls"), call("runs", "show", "[/bold]")
    Path(f"runs/[/bold]{CURSOR}/spec.json").write_text(json.dumps({"strategy": CURSOR}))
    damaged = call("runs", "ls")

    assert (listed[0], shown[0], damaged[0]) == (0, 0, 3)
    assert "[/bold]\\x1b[2J\\x9b1m\\x0d" in re.sub(r"\s", "", listed[1])
    assert "[/red]" in shown[1]
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", listed[1] + shown[1] + damaged[1])


def test_a_notebook_shows_names_of_a_sweep_as_text(tmp_path):
    (tmp_path / "named.py").write_text(
        "import backtrader as bt\n\nclass Named(bt.Strategy):\n    params = dict(label='', size=1)\n\n"
        "    def next(self):\n        if len(self) == 5:\n            self.buy(size=self.p.size)\n"
    )
    found = sweep(
        f"{tmp_path / 'named.py'}:Named", "AAPL/1day", {"label": [SCRIPT, "<b>"]}, store=SAMPLE, folder=tmp_path / "out"
    )

    for one in (found, Sweep.load(tmp_path / "out"), found.best_run, found.verdict):
        assert not re.search(r"<script|<b>[^A-Z]", one._repr_html_())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_gives_orders_or_runs_what_it_reads(path):
    words = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Attribute(attr=name):
                words |= {name, dotted(node)}
            case ast.Name(id=name) | ast.ImportFrom(module=str(name)):
                words.add(name.partition(".")[0])
            case ast.Import(names=names):
                words |= {alias.name.partition(".")[0] for alias in names}
            case ast.keyword(arg=str(name)):
                words.add(name)

    assert not words & ORDERS
    if "compiled" in path.parts:  # which runs what it has itself translated from a strategy that is run
        words -= {"eval", "exec"}
    if path.name != "parcels.py":  # which opens what the process that it works for has sent, and no file
        assert not words & RUNS_WHAT_IT_READS


def dotted(node):
    """Return an attribute as it is written where it is one of names, such as `os.system`; else nothing."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *names[::-1]]) if isinstance(node, ast.Name) else ""


def test_the_way_to_an_attribute_is_read_as_it_is_written():
    (told, called) = (ast.parse(text, mode="eval").body for text in ("os.path.sep", "found().system"))

    assert (dotted(told), dotted(called)) == ("os.path.sep", "")


ORDERS = {
    "placeOrder", "cancelOrder", "placeOrderAsync", "whatIfOrder", "whatIfOrderAsync", "bracketOrder", "oneCancelsAll",
    "reqGlobalCancel", "exerciseOptions", "replaceFA",
}  # fmt: skip
RUNS_WHAT_IT_READS = {
    "eval", "exec", "pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "read_pickle",
    "to_pickle", "allow_pickle", "shell", "os.system", "os.popen",
}  # fmt: skip
