import subprocess
import sys
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest
from places import ROOT

from backtest.market import arrays

COLUMNS = {
    "floats": pa.array([1.5, None, 3.25, 4.0]),
    "whole": pa.array([7, 8, None, 9], pa.int64()),
    "stamps": pa.array([datetime(2024, 1, n, tzinfo=UTC) for n in (1, 2, 3, 4)], pa.timestamp("us", tz="UTC")),
    "days": pa.array([date(2024, 1, 1), None, date(2024, 1, 3), date(2024, 1, 4)]),
}
NUMBERS = {
    "floats": [1.5, -1, 3.25, 4],
    "whole": [7, 8, -1, 9],
    "stamps": [1704067200_000000 + n * 86400_000000 for n in range(4)],
    "days": [19723, -1, 19725, 19726],
}


@pytest.mark.parametrize("name", COLUMNS)
def test_numbers_are_those_of_the_column_whole_cut_and_in_chunks(name):
    column, expected = COLUMNS[name], NUMBERS[name]

    assert arrays.numbers(column, missing=-1).tolist() == expected
    assert arrays.numbers(column[1:3], missing=-1).tolist() == expected[1:3]
    assert arrays.numbers(pa.chunked_array([column[:1], column[1:]]), missing=-1).tolist() == expected
    assert arrays.numbers(pa.chunked_array([], column.type)).tolist() == []


@pytest.mark.parametrize("count", [1, 128, 129, 1_000, 70_001])
def test_sums_in_blocks_are_those_of_numpy_to_the_last_bit(monkeypatch, count):
    monkeypatch.setattr(arrays, "BLOCK", 128)
    values = np.random.default_rng(7).normal(1, 3, (2, count))

    sums = arrays.sum_in_blocks(0, count, lambda rows: np.ascontiguousarray(values[:, rows]))
    rest = arrays.sum_in_blocks(1, count, lambda rows: values[0, rows]) if count > 1 else 0.0

    assert sums.tolist() == [row.sum() for row in values]
    assert values[0, 0] + rest == np.add.reduceat(values[0], [0])[0]


def test_what_is_missing_is_nan_or_nought_if_nothing_is_said():
    assert np.isnan(arrays.numbers(COLUMNS["floats"])).tolist() == [False, True, False, False]
    assert arrays.numbers(COLUMNS["whole"]).tolist() == [7, 8, 0, 9]


def test_validity_is_read_from_the_bits_of_a_cut_array():
    many = pa.array([None if n % 3 == 0 else float(n) for n in range(40)])

    assert arrays.valid(many[5:31]).tolist() == [n % 3 != 0 for n in range(5, 31)]
    assert arrays.valid(pa.array([1.0, 2.0])).tolist() == [True, True]
    assert arrays.valid(pa.nulls(9, pa.int64())).tolist() == [False] * 9


def test_arrays_are_those_that_arrow_makes_itself():
    times = np.array(["2024-01-01T10:00", "2024-01-02T11:30"], "datetime64[us]")
    stamp = pa.timestamp("us", tz="UTC")

    assert arrays.floats([1, 2.5]).equals(pa.array([1, 2.5], pa.float64()))
    assert arrays.integers([1, 2]).equals(pa.array([1, 2], pa.int64()))
    assert arrays.texts(["buy", "", "Kläger"]).equals(pa.array(["buy", "", "Kläger"]))
    assert arrays.days(times).equals(pa.array(times.astype("datetime64[D]")))
    assert arrays.stamps(times).equals(pa.array(times).cast(stamp))
    assert arrays.stamps(times, np.array([False, True])).equals(
        pa.array([None, times[1]], pa.timestamp("us")).cast(stamp)
    )
    assert all(made.validate(full=True) is None for made in (arrays.texts([]), arrays.floats([]), arrays.stamps(times)))


def test_rows_are_grouped_by_their_texts_in_order():
    grouped = arrays.rows_by_text(["MSFT", "AAPL", "MSFT", "QQQ", "AAPL"])

    assert {text: rows.tolist() for text, rows in grouped.items()} == {"MSFT": [0, 2], "AAPL": [1, 4], "QQQ": [3]}
    assert list(grouped) == ["MSFT", "AAPL", "QQQ"]
    assert arrays.rows_by_text([]) == {}


def test_rows_are_grouped_by_their_numbers_those_of_absent_ones_too():
    assert [rows.tolist() for rows in arrays.rows_by_number(np.array([2, 0, 2]), 4)] == [[1], [], [0, 2], []]
    assert arrays.rows_by_number(np.zeros(0, np.int64), 0) == []


def test_columns_take_the_place_of_those_of_their_names_and_others_follow():
    table = pa.table({"time": [1, 2], "cash": [3.0, 4.0]})

    changed = arrays.with_columns(table, {"cash": arrays.floats([5, 6]), "flow": arrays.floats([7, 8])})

    assert changed.to_pydict() == {"time": [1, 2], "cash": [5.0, 6.0], "flow": [7.0, 8.0]}
    assert [arrays.has_column(changed, name) for name in ("flow", "rate.0")] == [True, False]


@pytest.mark.slow
def test_a_run_and_its_numbers_import_no_pandas():
    job = (
        "import sys; from backtest import run; run('sma_cross', 'AAPL/1day', store='data/sample').stats['sharpe'];"
        "print('pandas' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", job], capture_output=True, text=True, check=True, cwd=ROOT)

    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([[1, 2, 4]], [1, 2, 4]),
        ([[1, 1, 3], [1, 2]], [1, 2, 3]),
        ([[], [5]], [5]),
        ([[]], []),
        ([[], []], []),
    ],
)
def test_sorted_arrays_are_merged(parts: list[list[int]], expected: list[int]) -> None:
    assert arrays.merged([np.array(part, np.int64) for part in parts]).tolist() == expected


def test_texts_by_number_are_those_of_a_list():
    names = ["sell", "", "Zürich", "buy"]
    numbers = np.array([2, 0, 0, 1, 3, 2])

    found = arrays.texts_by_number(numbers, names)

    found.validate(full=True)
    assert found.to_pylist() == [names[number] for number in numbers]
    assert arrays.texts_by_number(numbers[:0], []).to_pylist() == []


@pytest.mark.parametrize("few", [0, 100])  # Arrow numbers the texts, or Python
def test_texts_of_a_column_are_numbered_as_they_first_appear(monkeypatch, few):
    monkeypatch.setattr(arrays, "_FEW_TEXTS", few)
    texts = ["MSFT", "AAPL", "MSFT", "C", "AAPL"]
    column = pa.chunked_array([texts[:2], texts[2:]])

    codes, names = arrays.numbered_column(column)

    assert (codes.tolist(), names) == ([0, 1, 0, 2, 1], ["MSFT", "AAPL", "C"])
    assert arrays.marked(column, "AAPL").tolist() == [False, True, False, False, True]
    assert not arrays.marked(column, "IBM").any()


@pytest.mark.parametrize("numbers", [[], [0, 1, 1, 0], [0, 2, 1], [2, 2], [3, 3]])
def test_texts_by_number_are_the_names_whether_or_not_they_are_of_one_width(numbers):
    names = ["buy", "öl", "a longer one", ""]

    column = arrays.texts_by_number(np.array(numbers, np.int64), names)

    assert column.to_pylist() == [names[number] for number in numbers]
    column.validate(full=True)
