"""Parquet of others: odd zones, years and names, damage, and files whose rows are out of proportion."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SECONDS = np.array([1704205800, 1704205860, 1704205920], dtype=np.int64)  # 2024-01-02 14:30 UTC
NUMBERS = {name: [1.0, 1.0, 1.0] for name in ("open", "high", "low", "close", "volume")}


def times(values, unit="s", tz=None):
    return pa.array(values, pa.int64()).cast(pa.timestamp(unit, tz=tz))


@pytest.fixture
def take(call, tmp_path):
    """Import a table as a file of minutes; return the exit code and what was said."""

    def take(column, *, size="1min", **others):
        pq.write_table(pa.table({"time": column, **NUMBERS, **others}), tmp_path / "bars.parquet")
        code, _, err = call("import", tmp_path / "bars.parquet", f"AAPL/{size}", "--store", tmp_path / "store")
        return code, err.splitlines()[-1]

    return take


@pytest.mark.slow
@pytest.mark.parametrize("tz", ["Z", "UTC", "US/Eastern", "+05:30", "GMT+0"])
@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("us", 10**6), ("ns", 10**9)])
def test_a_zone_that_is_known_is_taken_however_it_is_spelled(take, tz, unit, factor):
    assert take(times(SECONDS * factor, unit, tz))[0] == 0


@pytest.mark.parametrize("tz", ["GMT+5", "Eastern Time", "UTC+25", "+99:00", "../../etc/passwd"])
def test_a_zone_that_is_no_name_is_refused_in_a_sentence(take, tz):
    code, said = take(times(SECONDS, tz=tz))

    assert code == 3
    assert f"has times in the zone {tz!r}, which is not an IANA name" in said


@pytest.mark.parametrize("tz", [None, "UTC", "America/New_York"])
@pytest.mark.parametrize(
    ("unit", "values"),
    [
        ("s", [-62_135_596_801, 0, 1]),
        ("s", [253_402_300_800, 253_402_300_801, 253_402_300_802]),
        ("us", [-(2**62), 0, 2**62]),
    ],
)
def test_years_that_python_has_not_are_refused_in_a_sentence(take, tz, unit, values):
    code, said = take(times(values, unit, tz))

    assert code == 3
    assert "before the year 1 or after 9999" in said


def test_dates_of_such_years_are_refused_too(take):
    code, said = take(pa.array([3_000_000, 3_000_001, 3_000_002], pa.int32()).cast(pa.date32()), size="1day")

    assert (code, "after 9999" in said) == (3, True)


@pytest.mark.parametrize("text", ["0000-01-01", "10000-01-01", "9999-12-31T23:59:00-12:00", "99999-12-31 00:00"])
@pytest.mark.parametrize("size", ["1min", "1day"])
def test_nor_does_a_text_file_end_in_a_traceback(call, tmp_path, text, size):
    (tmp_path / "bars.csv").write_text("time,open,high,low,close,volume\n" + f"{text},1,1,1,1,1\n" * 3)

    code, _, err = call("import", tmp_path / "bars.csv", f"AAPL/{size}", "--store", tmp_path / "store")

    assert code in (2, 3)
    assert err.startswith("error: ")


@pytest.mark.slow
def test_a_column_of_lists_is_named_and_not_decoded(take):
    many = pa.ListArray.from_arrays(pa.array([0, 4_000_000, 4_000_000, 4_000_000], pa.int32()), np.zeros(4_000_000))

    code, said = take(times(SECONDS, tz="UTC"), hidden=many)

    assert code == 0
    assert "hidden" in said


def test_rows_out_of_proportion_are_refused_before_they_are_decoded(call, tmp_path):
    rows = 1_000_000
    same = {name: pa.array(np.ones(rows)) for name in NUMBERS}
    pq.write_table(pa.table({"time": times(np.zeros(rows, np.int64)), **same}), tmp_path / "bars.parquet")
    size = (tmp_path / "bars.parquet").stat().st_size

    code, _, err = call("import", tmp_path / "bars.parquet", "AAPL/1min", "--store", tmp_path / "store")

    assert size < 56_000
    assert code == 2
    assert f"its {size:,} bytes are 1,000,000 rows" in err


@pytest.mark.parametrize("harm", [lambda data: data[:-5], lambda data: data[: len(data) // 2], lambda data: data[:10]])
def test_a_damaged_file_is_to_be_written_again(call, tmp_path, harm):
    pq.write_table(pa.table({"time": times(SECONDS, tz="UTC"), **NUMBERS}), tmp_path / "bars.parquet")
    (tmp_path / "bars.parquet").write_bytes(harm((tmp_path / "bars.parquet").read_bytes()))

    code, _, err = call("import", tmp_path / "bars.parquet", "AAPL/1min", "--store", tmp_path / "store")

    assert code == 2
    assert "cannot be read as Parquet" in err
    assert "write it again" in err
