from pathlib import PurePosixPath, PureWindowsPath

import pytest

from backtest.errors import quoted, unsaved


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (PurePosixPath("runs/sma"), "'runs/sma'"),
        (PureWindowsPath(r"C:\runs\sma"), r"'C:\runs\sma'"),
        (PureWindowsPath(r"\\server\bars\ib"), r"'\\server\bars\ib'"),
        ("it's", '"it\'s"'),
        ("two\nlines", r"'two\nlines'"),
    ],
)
def test_a_path_is_quoted_as_its_user_writes_it(path, shown):
    assert quoted(path) == shown


def test_what_cannot_be_saved_is_named_with_its_folder_the_reason_and_what_to_do():
    error = OSError(28, "No space left on device", r"C:\runs\sma\lines.parquet")

    said = str(unsaved("run", PureWindowsPath(r"C:\runs\sma"), error))

    assert said == r"no run can be saved in 'C:\runs\sma' (No space left on device); name another folder"
