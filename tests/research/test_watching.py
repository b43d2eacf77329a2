import os
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from backtest.errors import StrategyError
from backtest.research.fresh_processes import fresh_processes
from backtest.research.search.executors import Work
from backtest.research.watching import files_noted, knows_more

_SEEN: list[int] = []


def _counted(content, items):
    """Return how many items this process has seen."""
    _SEEN.extend(items)
    if items[0] < 0:
        raise StrategyError(f"{content}: {items[0]}")
    return [len(_SEEN)]


@pytest.mark.slow
def test_each_item_is_done_in_a_process_that_has_done_nothing_before():
    with fresh_processes(Work(_counted, "content", (), str)) as done:
        assert [done(item) for item in (1, 2, 3)] == [1, 1, 1]
        with pytest.raises(StrategyError, match="content: -1"):
            done(-1)
        assert done(4) == 1
    assert not _SEEN


class _EndsItsProcess:
    """What is loaded from a parcel, and ends the process that loads it."""

    def __reduce__(self):
        return os._exit, (0,)


def _place(item):
    """Return what a process knows of its surroundings, or end it."""
    if item < 0:
        os._exit(0)
    return str(Path.cwd()), os.environ.get("PLACE")


@pytest.mark.slow
def test_a_process_that_ends_early_is_an_error_and_the_next_one_knows_where_it_is(tmp_path, monkeypatch):
    died = "a process that ran the strategy died"
    with pytest.raises(StrategyError, match=died), fresh_processes(Work(map, _EndsItsProcess(), (__name__,), str)):
        pass
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLACE", "here")
    with fresh_processes(Work(map, _place, (__name__,), str)) as done:
        with pytest.raises(StrategyError, match=died):
            done(-1)
        assert done(1) == (str(tmp_path), "here")
        with fresh_processes(Work(map, _place, (__name__,), str)) as other:  # while the first is in use
            assert other(1) == done(2)


@pytest.mark.parametrize(
    ("name", "text", "more"),
    [
        ("params.json", '{"fast": 10}', False),
        ("bars.csv", "2009-12-31,1\n2010-01-05,2", True),
        ("old.csv", "2008-12-31,1\n31/12/2008,2", False),
        ("european.csv", "04.01.2010;2", True),
        ("model.pkl", "anything", True),
    ],
)
def test_a_file_knows_more_by_its_dates_or_if_nobody_can_tell(tmp_path, name, text, more):
    (tmp_path / name).write_text(text, "utf-8")

    assert knows_more(str(tmp_path / name), date(2010, 1, 4)) == more


def test_files_are_noted_that_the_code_reads_and_no_others(tmp_path):
    for name in ("read.csv", "written.csv", "other.csv"):
        (tmp_path / name).write_text("1", "utf-8")
    np.save(tmp_path / "read.npy", np.zeros(2))

    with files_noted({__file__}) as found:
        (tmp_path / "read.csv").read_text("utf-8")
        np.load(tmp_path / "read.npy")
        (tmp_path / "written.csv").write_text("2", "utf-8")
    (tmp_path / "other.csv").read_text("utf-8")

    assert found == [str(tmp_path / "read.csv"), str(tmp_path / "read.npy")]
