"""The plugin as a project uses it: pytest in a process of its own, in a folder with a strategy and a store."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from forking import ALONE, pytest_with_plugin
from places import ROOT

pytestmark = pytest.mark.slow

STRATEGY = """
import backtrader as bt

class Hold(bt.Strategy):
    params = dict(size=10)

    def next(self):
        if len(self) == 3:
            self.buy(size=self.p.size)
"""
TEST = """
def test_hold(backtest_regression):
    backtest_regression.check("strategies/hold.py", "IBM/1day", since="2004-01-02", until="2004-12-31"{more})
"""
HEAVY = """
import sys

def test_no_other_test_waits_for_what_it_does_not_use():
    assert not {"backtrader", "matplotlib", "numpy", "pandas", "pyarrow"} & set(sys.modules)
"""


@pytest.fixture
def project(tmp_path):
    """Return a folder with a strategy, a test of it, and settings that name the store."""
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "hold.py").write_text(STRATEGY)
    (tmp_path / "test_hold.py").write_text(TEST.format(more=""))
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nbacktest_store = {ROOT / 'data' / 'sample'}\n")
    return tmp_path


def run_pytest(folder, *words, alone=True):
    """Run pytest with this plugin alone, which takes a fifth of the time; or in a new process, with all installed."""
    return pytest_with_plugin(folder, *words) if alone else started(folder, *words)


def started(folder, *words):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return ran.returncode, ran.stdout


def test_a_check_without_a_baseline_says_how_to_accept_one(project):
    code, out = run_pytest(project, alone=False)

    assert code == 1
    assert "no baseline strategies/baselines/hold.json yet" in out
    assert "pytest --backtest-accept" in out
    assert not (project / "strategies" / "baselines").exists()


def test_what_was_accepted_holds_until_the_strategy_changes_and_then_says_why(project):
    accepted, said = run_pytest(project, "--backtest-accept", "--junitxml=report.xml")
    held, _ = run_pytest(project / "strategies", "..")  # from any folder
    (project / "test_hold.py").write_text(TEST.format(more=", size=11"))
    moved, out = run_pytest(project, "--junitxml=report.xml")

    assert (accepted, held, moved) == (0, 0, 1)
    assert "baseline accepted: strategies/baselines/hold.json" in said
    assert "warning" not in said + out
    assert "hold: moved from 2004-01-06 on" in out  # the third session of that year
    assert "size: 10 -> 11" in out
    assert "Traceback" not in out
    (failure,) = ElementTree.parse(project / "report.xml").iter("failure")
    assert "size: 10 -> 11" in failure.text


def test_a_check_leaves_the_process_in_the_folder_where_it_is(project):
    noting = STRATEGY.replace(
        "    def next", "    def start(self):\n        print('ran in', os.getcwd())\n\n    def next"
    )
    (project / "strategies" / "hold.py").write_text(f"import os\n{noting}")

    code, said = run_pytest(project / "strategies", "..", "-s", "--backtest-accept")

    assert code == 0
    assert f"ran in {project / 'strategies'}\n" in said
    assert (project / "strategies" / "baselines" / "hold.json").exists()


def test_two_checks_of_other_runs_need_names_of_their_own(project):
    second = TEST.replace("test_hold", "test_more").format(more=", size=11")
    (project / "test_hold.py").write_text(TEST.format(more="") + second)

    code, out = run_pytest(project, "--backtest-accept")
    (project / "test_hold.py").write_text(TEST.format(more="") + second.replace("size=11", 'size=11, name="more"'))
    named, _ = run_pytest(project, "--backtest-accept")

    assert (code, named) == (1, 0)
    assert "share the baseline 'hold'" in out
    assert sorted(path.stem for path in (project / "strategies" / "baselines").iterdir()) == ["hold", "more"]


def test_bars_that_are_not_there_are_a_sentence(project):
    code, out = run_pytest(project, "--backtest-store", "nowhere")

    assert code == 1
    assert "backtest download IBM/1day" in out
    assert "Traceback" not in out


def test_a_class_and_arguments_of_a_run_can_be_given(project):
    (project / "test_hold.py").write_text(
        "from strategies.hold import Hold\n"
        + TEST.format(more=", cash=500, params={'size': 3}").replace('"strategies/hold.py"', "Hold")
    )

    assert run_pytest(project, "--backtest-accept")[0] == 0
    assert '"cash": 500.0' in (project / "strategies" / "baselines" / "Hold.json").read_text()


def test_the_start_of_pytest_imports_nothing_heavy(tmp_path):
    (tmp_path / "test_light.py").write_text(HEAVY)

    assert started(tmp_path, *ALONE)[0] == 0
