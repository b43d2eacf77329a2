"""What the words of a command line mean, and how a file of series is read."""

import pytest

from backtest.cli.parse import parse_series
from backtest.errors import UsageError

SPELLED = "AAPL/1day\nEUR-CASH/1hour  # euro\n\n# the end\nBRK B/1day\n"
MEANT = ["AAPL/1day", "EUR-CASH/1hour", "BRK B/1day"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_file_of_series_is_read_in_each_encoding_of_an_editor(tmp_path, encoding, end):
    path = tmp_path / "series.txt"
    path.write_bytes(SPELLED.replace("\n", end).encode(encoding))

    assert [one.short for one in parse_series([f"@{path}"])] == MEANT


def test_a_mark_of_utf_16_in_the_other_order_is_read_too(tmp_path):
    path = tmp_path / "series.txt"
    path.write_bytes(b"\xfe\xff" + SPELLED.encode("utf-16-be"))

    assert [one.short for one in parse_series([f"@{path}"])] == MEANT


def test_a_mark_in_the_middle_of_joined_files_is_no_part_of_a_symbol(tmp_path):
    path = tmp_path / "series.txt"
    path.write_bytes(b"AAPL/1day\n" + "IBM/1day\n".encode("utf-8-sig"))

    assert [one.short for one in parse_series([f"@{path}"])] == ["AAPL/1day", "IBM/1day"]


def test_a_bad_line_is_named_by_its_file_and_number_with_those_after_it(tmp_path):
    path = tmp_path / "series.txt"
    path.write_text("AAPL/1day\n\n# comment\nAAPL/1dya\nIBM/1day\nIBM\nMSFT-STOK/1day\n")

    with pytest.raises(UsageError) as caught:
        parse_series(["GOOG/1day", f"@{path}"])

    assert str(caught.value).startswith(f"{path}, line 4: unknown bar size '1dya'")
    assert str(caught.value).endswith("; also invalid: lines 6, 7")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no series in the file"),
        (b"\xff\xfe", "no series in the file"),
        (b"# AAPL/1day\n", "no series in the file"),
        (b"AAPL/1day\xff\n", "is not a text file"),
        (b"A\0A\0P\0L\0", "is not a text file (it has zero bytes)"),
    ],
)
def test_a_file_without_a_series_is_named(tmp_path, content, said):
    (tmp_path / "series.txt").write_bytes(content)

    with pytest.raises(UsageError) as caught:
        parse_series([f"@{tmp_path / 'series.txt'}"])

    assert said in str(caught.value)
    assert "series.txt" in str(caught.value)


def test_a_folder_is_no_file_of_series(tmp_path):
    with pytest.raises(UsageError, match="no file"):
        parse_series([f"@{tmp_path}"])
