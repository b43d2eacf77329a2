"""`backtest baseline` and `backtest reproduce`: what they print, and how they end."""

import contextlib
import json

import pytest
from places import ROOT

from backtest.cli.app import main

SAMPLE = str(ROOT / "data" / "sample")


@pytest.fixture
def call(tmp_path, capsys):
    """Call the command line in a folder with a strategy; return exit code, stdout and stderr."""
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "cross.py").write_text((ROOT / "strategies" / "sma_cross.py").read_text())

    def call(*words):
        with contextlib.chdir(tmp_path), pytest.raises(SystemExit) as ended:
            main([*words, "--store", SAMPLE])
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture
def kept(call):
    """Return the command line after a run was kept in runs/one."""
    dates = ("--since", "2004-01-02", "--until", "2005-12-30")
    assert call("run", "strategies/cross.py", "AAPL/1day", *dates, "--out", "runs/one")[0] == 0
    return call


def spend_less(folder):
    path = folder / "strategies" / "cross.py"
    path.write_text(path.read_text().replace("invest=0.95", "invest=0.9").replace("self.p.invest", "0.9"))


@pytest.mark.slow
def test_a_saved_run_holds_until_the_strategy_changes(kept, tmp_path):
    saved = kept("baseline", "save", "one")
    held = kept("baseline", "check")
    spend_less(tmp_path)
    moved = kept("baseline", "check", "cross", "--markdown", "summary.md")

    assert saved[:2] == (0, "cross: saved to strategies/baselines/cross.json\n")
    assert held[:2] == (0, "cross: unchanged\n")
    assert moved[0] == 1
    assert moved[1].startswith("cross: moved from 2004-")
    assert "likely       code: the only remaining difference" in moved[1]
    assert "backtest baseline accept" in moved[2]
    assert (tmp_path / "summary.md").read_text().startswith("### Baselines: 1 moved")


@pytest.mark.slow
def test_a_diff_names_every_metric_and_the_orders(kept, tmp_path):
    kept("baseline", "save", "one")
    spend_less(tmp_path)

    _, short, _ = kept("baseline", "check")
    code, full, _ = kept("baseline", "diff")
    document = json.loads(kept("baseline", "diff", "--json")[1])["baselines"]["cross"]

    assert code == 1
    assert " more\n" in short
    assert all(f" {moved['name']} " in full for moved in document["difference"]["metrics"])
    assert len([line for line in full.splitlines() if line.startswith("    -2004")]) > 3
    assert document["causes"][0]["what"] == "code"


@pytest.mark.slow
def test_what_is_accepted_holds(kept, tmp_path):
    kept("baseline", "save", "one")
    spend_less(tmp_path)

    accepted = kept("baseline", "accept", "cross")

    assert accepted[0] == 0
    assert accepted[1].startswith("cross: accepted from 2004-")
    assert kept("baseline", "check")[:2] == (0, "cross: unchanged\n")


@pytest.mark.slow
def test_a_baseline_is_not_overwritten_by_that_of_another_series(kept):
    kept("baseline", "save", "one")
    kept("run", "strategies/cross.py", "IBM/1day", "--out", "runs/two")

    refused = kept("baseline", "save", "two")
    named = kept("baseline", "save", "two", "--name", "cross-ibm")

    assert refused[0] == 2
    assert "--name NAME" in refused[2]
    assert named[1] == "cross-ibm: saved to strategies/baselines/cross-ibm.json\n"


def test_nothing_to_save_or_to_check_is_a_sentence(call):
    assert call("baseline", "save")[0] == 2
    code, out, err = call("baseline", "check")
    assert (code, out) == (2, "")
    assert "backtest baseline save RUN" in err


def test_a_kept_run_is_reproduced_equal_or_not(kept, tmp_path):
    equal = kept("reproduce", "one")
    spend_less(tmp_path)
    code, out, _ = kept("reproduce", "one", "--json")

    assert equal[:2] == (0, "one: results are equal\n")
    assert code == 1
    document = json.loads(out)
    assert document["equal"] is False
    assert document["causes"][0]["what"] == "code"


def test_a_run_whose_strategy_was_moved_is_reproduced_from_where_it_is_now(kept, tmp_path):
    (tmp_path / "strategies" / "cross.py").rename(tmp_path / "elsewhere.py")

    lost, found = kept("reproduce", "one"), kept("reproduce", "one", "--strategy", "elsewhere.py")

    assert lost[0] == 1
    assert "no strategy 'strategies/cross.py'" in lost[1]
    assert found[0] == 0
