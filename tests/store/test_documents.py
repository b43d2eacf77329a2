"""Documents that may be anybody's: what is no file, no JSON or of another shape is a sentence with file and key."""

import json
import math
import os
import sys

import pytest

from backtest.errors import DamagedStore
from backtest.store.documents import (
    ANYTHING,
    DAY,
    MOMENT,
    NUMBER,
    TEXT,
    TRUTH,
    WHOLE,
    Misfit,
    bytes_of,
    document_in,
    either,
    every,
    for_json,
    keyed,
    list_of,
    mapped,
    one_of,
    open_plain,
    read_document,
)

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes, devices or links for everybody")


def fits(shape, value):
    try:
        shape(value, "it")
    except Misfit:
        return False
    return True


# --- the door


def pipe(path):
    os.mkfifo(path)


def endless(path):
    path.symlink_to("/dev/zero")


def folder(path):
    path.mkdir()


def link(path):
    (path.parent / "elsewhere").write_bytes(b"{}")
    path.symlink_to("elsewhere")


@POSIX
@pytest.mark.parametrize("kind", [pipe, endless, folder, link])
def test_what_is_no_file_is_refused_by_its_name_and_never_waited_for(tmp_path, kind):
    kind(tmp_path / "file")

    with pytest.raises(DamagedStore, match=str(tmp_path / "file")):
        read_document(tmp_path / "file", ANYTHING)


@POSIX
@pytest.mark.parametrize("kind", [pipe, endless, folder])
def test_nor_is_it_read_where_the_user_named_it(tmp_path, kind):
    kind(tmp_path / "file")

    with pytest.raises(DamagedStore, match="file"):
        read_document(tmp_path / "file", ANYTHING, links=True)


@POSIX
def test_a_link_that_the_user_named_is_followed(tmp_path):
    link(tmp_path / "file")

    assert read_document(tmp_path / "file", ANYTHING, links=True) == {}


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    (tmp_path / "file").write_bytes(b"123456")

    assert bytes_of(tmp_path / "file", 6) == b"123456"
    with pytest.raises(DamagedStore, match="6 bytes, more than the limit of 5"):
        open_plain(tmp_path / "file", 5)


def test_no_file_is_told_from_a_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_document(tmp_path / "file", ANYTHING)


# --- JSON


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b'{"a": 1', "not valid JSON"),
        (b"[NaN]", "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b"[1e999]", "1e999, which is too large"),
        (b"1" + b"0" * 400, "too large"),
        (b"1" + b"0" * 5000, "too large"),
        (b'["\\ud800"]', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b"[" * 200 + b"]" * 200, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_document_is_told_in_a_line(data, said):
    with pytest.raises(Misfit, match=said) as raised:
        document_in(data)

    assert len(str(raised.value)) < 200


def test_numbers_are_those_of_json():
    assert document_in("[1, -2, 3.5, 1e308, 18014398509481985]") == [1, -2, 3.5, 1e308, 18014398509481985]


# --- shapes


@pytest.mark.parametrize(
    ("shape", "good", "bad"),
    [
        (TEXT, ["", "x"], [None, 1, [], {}]),
        (NUMBER, [0, -1, 2.5], [None, True, "1", []]),
        (WHOLE, [0, 7], [-1, 1.0, True, "1", 2**63]),
        (TRUTH, [True, False], [0, 1, None, "true"]),
        (DAY, ["2024-02-29"], ["2023-02-29", "2024-13-01", "0000-01-01", "x", 20240101]),
        (MOMENT, ["2024-01-02T00:00:00+00:00"], ["2024-01-02", "2024-01-02T00:00:00", "2024-01-02T25:00+00:00", 1]),
        (one_of(1, None), [1, None], [True, 1.0, 0, "1"]),
        (either("a text or null", TEXT, one_of(None)), ["x", None], [1]),
        (every(mapped(ANYTHING), keyed({"a": TEXT}, more=ANYTHING)), [{"a": "x", "b": 1}], [{"a": 1}, []]),
        (list_of(WHOLE), [[], [1, 2]], [[1, "2"], {}, "12"]),
        (mapped(WHOLE), [{}, {"a": 1}], [{"a": "1"}, []]),
        (keyed({"a": WHOLE}, {"b": TEXT}), [{"a": 1}, {"a": 1, "b": "x"}], [{}, {"a": 1, "b": 2}, {"a": 1, "c": 1}]),
        (keyed({"a": WHOLE}, more=TEXT), [{"a": 1, "c": "x"}], [{"a": 1, "c": 2}]),
    ],
)
def test_a_shape_takes_what_fits_and_nothing_else(shape, good, bad):
    assert [fits(shape, value) for value in good] == [True] * len(good)
    assert [fits(shape, value) for value in bad] == [False] * len(bad)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ('{"rows": [{"n": 1}, {"n": "x"}]}', r"rows\[1\].n is 'x', not a whole number"),
        ('{"rows": [{}]}', r"rows\[0\].n is not there"),
        ('{"rows": [], "more": 1}', "more is not known"),
        ("[]", r"it is \[\], not an object"),
        ('{"rows": [{"n": "' + "x" * 9999 + '"}]}', r"rows\[0\].n is 'xxx"),
        ('{"' + "k" * 9999 + '": 1, "rows": []}', "kkk"),
    ],
)
def test_an_error_has_the_file_the_way_to_the_value_and_the_value_cut_short(tmp_path, document, said):
    (tmp_path / "file").write_text(document)

    with pytest.raises(DamagedStore, match=said) as raised:
        read_document(tmp_path / "file", keyed({"rows": list_of(keyed({"n": WHOLE}))}))

    assert str(raised.value).startswith(str(tmp_path / "file"))
    assert len(str(raised.value)) < len(str(tmp_path)) + 250


def test_numbers_that_are_not_finite_are_null_for_json():
    found = for_json({"a": math.nan, "b": [1.5, (math.inf, "x")], "c": {"d": None, "e": 2}})

    assert json.loads(json.dumps(found, allow_nan=False)) == {
        "a": None,
        "b": [1.5, [None, "x"]],
        "c": {"d": None, "e": 2},
    }
