import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from places import ROOT
from pyarrow import csv, fs, json, parquet

from backtest import panel
from backtest.errors import StrategyError
from backtest.research import watching
from backtest.research.fresh_processes import fresh_processes
from backtest.research.search.executors import Work
from backtest.research.watching import files_noted, knows_more, stores_changed

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


def _by_its_handle(file):
    with fs.LocalFileSystem().open_input_file(str(file)) as handle:
        return parquet.read_table(handle)


READERS = [
    lambda file: csv.read_csv(file),
    lambda file: csv.open_csv(str(file)).close(),
    lambda file: json.read_json(file),
    lambda file: parquet.ParquetDataset(file),
    _by_its_handle,
    lambda file: pa.input_stream(str(file)).close(),
    lambda file: subprocess.run([sys.executable, "-S", "-c", "", str(file), 9999 * "a"], check=True),
    lambda file: os.system(f"true '{file}'"),
]


def test_a_command_line_of_windows_names_its_files(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")

    words = watching._words(r"""python -c "" C:\x\read.csv "C:\a b\c.csv" 'D:\e f.csv'""")

    assert words == ["python", "-c", "", r"C:\x\read.csv", r"C:\a b\c.csv", r"D:\e f.csv"]


@pytest.mark.parametrize("read", READERS)
def test_files_are_noted_that_are_opened_without_pythons_knowing(tmp_path, read):
    file = tmp_path / "read.csv"
    if read is READERS[2]:
        file.write_text('{"a": 1}\n', "utf-8")
    elif read in READERS[3:5]:
        parquet.write_table(pa.table({"a": [1]}), file)
    else:
        file.write_text("a\n1\n", "utf-8")

    with files_noted({__file__}) as found:
        read(file)

    assert found == [str(file)]


def test_a_panel_of_a_store_has_the_other_bars_too():
    until = np.datetime64("2010-01-08")

    def cheaper(series, table):
        prices = table["close"].to_numpy() / np.where(table["time"].to_numpy() > until, 2, 1)
        return table.set_column(table.column_names.index("close"), "close", pa.array(prices))

    asked = {"start": "2010-01-04", "end": "2010-01-15", "store": ROOT / "data" / "sample"}
    true = panel(["AAPL/1day", "IBM/1day"], **asked)
    with stores_changed(cheaper):
        changed = panel(["AAPL/1day", "IBM/1day"], **asked)

    later = true.index.tz_localize(None) > until
    assert 0 < later.sum() < len(true)
    assert changed[~later].equals(true[~later])
    assert changed[later].equals(true[later] / 2)
    assert panel(["AAPL/1day", "IBM/1day"], **asked).equals(true)
