"""Files of others that are broken, or out of all proportion: one sentence, and nothing is written."""

import io
import json
import os
import sys
import zipfile
from pathlib import Path

import pytest
from places import ROOT

from backtest.errors import UsageError
from backtest.sources.files.content import content_of

BARS = [["time", "open", "high", "low", "close", "volume"], ["2024-01-02", 1.0, 2.0, 0.5, 1.5, 3]]


def workbook(change=lambda sheet: None):
    """Return the bytes of a workbook of a bar."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in BARS:
        book.active.append(row)
    change(book.active)
    into = io.BytesIO()
    book.save(into)
    return into.getvalue()


def with_part(data, name, change):
    """Return an archive in which one part is another."""
    into = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(into, "w") as new:
        for part in old.namelist():
            new.writestr(part, change(old.read(part)) if part == name else old.read(part))
    return into.getvalue()


def lines_of(path, data):
    path.write_bytes(data)
    return content_of(path, lambda _: 0).lines


@pytest.mark.parametrize("part", ["xl/workbook.xml", "xl/worksheets/sheet1.xml", "xl/styles.xml"])
@pytest.mark.parametrize("change", [lambda part: b"", lambda part: part[:-9], lambda part: b"<x/>"])
def test_a_workbook_with_a_broken_part_is_refused(tmp_path, part, change):
    with pytest.raises(UsageError, match=r"bars\.xlsx (cannot be read as Excel|has no sheet with rows)"):
        lines_of(tmp_path / "bars.xlsx", with_part(workbook(), part, change))


def test_a_cell_far_away_from_the_others_is_refused_before_it_takes_room(tmp_path):
    data = workbook(lambda sheet: sheet.cell(2_000, 16_384, 1))

    with pytest.raises(UsageError, match=r"row 2,000 has 16,384 columns.*delete what lies outside of the table"):
        lines_of(tmp_path / "bars.xlsx", data)


def test_a_sheet_is_read_as_wide_as_its_rows_whatever_it_says(tmp_path):
    data = with_part(workbook(), "xl/worksheets/sheet1.xml", lambda part: part.replace(b"A1:F2", b"A1:XFD1048576"))

    assert lines_of(tmp_path / "bars.xlsx", data) == [",".join(BARS[0]), "2024-01-02,1,2,0.5,1.5,3"]


@pytest.mark.parametrize(
    "text",
    [
        '"' + "x" * 200_000 + '"\n1,2\n',
        'time open\n"' + "x" * 200_000 + '" 1\n',
        "time,open,high,low,close\n" + "9" * 5000 + ",1,1,1,1\n",
        '[{"time": ' + "9" * 5000 + ', "open": 1, "high": 1, "low": 1, "close": 1}]',
    ],
    ids=["quoted", "blanks", "number", "JSON"],
)
def test_a_cell_beyond_all_measure_is_an_error_of_a_line(tmp_path, call, text):
    (tmp_path / "bars.csv").write_text(text)

    code, _, err = call("import", tmp_path / "bars.csv", "AAPL/1day", "--store", tmp_path / "store")

    assert code in (2, 3)
    assert err.count("\n") < 4
    assert not (tmp_path / "store").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows makes room for all bytes of a file at once")
def test_a_file_that_no_memory_holds_is_an_error_of_a_line(tmp_path, call):
    with (tmp_path / "bars.csv").open("wb") as handle:
        handle.truncate(1 << 43)

    code, out, err = call("import", tmp_path / "bars.csv", "AAPL/1day", "--store", tmp_path / "store", "--json")

    assert code == 1
    assert err.count("\n") == 1
    assert "not enough memory" in json.loads(out)["error"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes")
@pytest.mark.parametrize(
    ("option", "place"),
    [
        ("--dividends", lambda path: os.mkfifo(path)),
        ("--splits", lambda path: os.mkfifo(path)),
        ("--interest", lambda path: os.mkfifo(path)),
        ("--account", lambda path: path.symlink_to("/dev/zero")),
        ("--universe", lambda path: path.symlink_to("/dev/zero")),
        ("--universe", Path.mkdir),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_file_is_not_waited_for_in_the_place_of_what_an_option_names(
    tmp_path, call, option, place, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # of a long path the message shows the beginning
    place(tmp_path / "file.csv")
    (tmp_path / "hold.py").write_text("import backtrader as bt\n\n\nclass Hold(bt.Strategy):\n    pass\n")

    words = ("run", "hold.py", "AAPL/1day", option, "file.csv", "--costs", "ib-fixed")
    code, _, err = call(*words, "--store", ROOT / "data" / "sample", "--out", "run")

    assert code == 2
    assert "file.csv" in err
