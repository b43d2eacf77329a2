"""How a strategy is named: by a file and a class, written as any system writes them, and kept in one way."""

from pathlib import Path, PureWindowsPath

import pytest
from stores.make_store import daily, days

from backtest.api import run
from backtest.engine.code.strategy import file_and_class, load_strategy
from backtest.errors import StrategyError, UsageError
from backtest.market.series import Series
from backtest.runs.parameters import form_of
from backtest.store.store import Store

MINE = """
import backtrader as bt

class Mine(bt.Strategy):
    params = dict(where=None)

    def next(self):
        if len(self) == 1:
            self.buy()
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Be in a folder with a strategy in a folder of its own."""
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "file", "name"),
    [
        (r"C:\x\s.py:Class", r"C:\x\s.py", "Class"),
        (r"C:\x\s.py", r"C:\x\s.py", ""),
        ("c:/x/s.py:Class", "c:/x/s.py", "Class"),
        (r"\\server\share\s.py:Class", r"\\server\share\s.py", "Class"),
        (r"strategies\mine.py:Mine", r"strategies\mine.py", "Mine"),
        ("/x/s.py:Class", "/x/s.py", "Class"),
        ("s.py:Class", "s.py", "Class"),
        ("c:Class", "c", "Class"),  # a file of one letter
        ("sma_cross", "sma_cross", ""),
    ],
)
def test_a_text_is_a_file_and_a_class(text, file, name):
    assert file_and_class(text) == (file, name)


def test_what_windows_wrote_of_a_file_is_found_everywhere_and_kept_in_one_way(project):
    names = [
        load_strategy(text).name for text in (r"strategies\mine.py:Mine", "strategies/mine.py", r"strategies\mine.py")
    ]

    assert names == ["strategies/mine.py:Mine"] * 3


def test_a_file_that_is_not_there_is_refused_by_what_was_written():
    with pytest.raises(UsageError, match=r"no strategy 'C:\\x\\s.py', and no such file"):
        load_strategy(r"C:\x\s.py:Class")


def test_a_run_keeps_the_strategy_and_paths_as_posix(project):
    store = Store(project / "bars")
    store.write(Series.parse("AAPL/1day"), days(2, 6), daily(2, 6))

    result = run(r"strategies\mine.py", "AAPL/1day", store=store, params={"where": Path("data") / "signals.csv"})

    assert result.spec.strategy == "strategies/mine.py:Mine"
    assert (
        result.name
        == run("strategies/mine.py", "AAPL/1day", store=store, params={"where": Path("data/signals.csv")}).name
    )


def test_a_path_of_windows_among_parameters_is_kept_as_posix():
    assert form_of(PureWindowsPath(r"data\signals.csv")) == form_of(Path("data/signals.csv"))


@pytest.mark.parametrize("line", ["__name__ = 3", "__name__ = '__main__'", "del __name__"])
def test_a_file_that_calls_itself_otherwise_is_refused(tmp_path, line):
    file = tmp_path / "odd.py"
    file.write_text(f"{line}\nimport backtrader as bt\nclass Odd(bt.Strategy): pass\n")

    with pytest.raises(StrategyError, match=r"odd\.py (changes __name__|cannot be loaded)"):
        load_strategy(str(file))
