"""A store from a stranger, or from a disk that lies: everything wrong is an error that names the file."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from judge import complaints
from rights import HAVE_LINKS, HAVE_PIPES
from stores.make_store import daily, days

from backtest.errors import BadStore, DamagedStore, DataError
from backtest.market.bars import schema, table_of
from backtest.market.series import Series
from backtest.store.files import read_file
from backtest.store.manifest import LARGEST, MOST_ROWS
from backtest.store.manifest_json import of_bytes, to_bytes
from backtest.store.segments import segment_of
from backtest.store.store import Store

DAILY = Series.parse("AAPL/1day")
EVERY = 13  # the n-th byte is flipped; tests/soak flips each


@pytest.fixture
def store(tmp_path):
    return small(tmp_path / "store")


def small(folder):
    store = Store(folder)
    store.write(DAILY, days(2, 4), daily(2, 4), source="ib")
    store.write(DAILY, days(2, 4), daily(2, 4, close=11.5), source="ib", revise=True)
    store.quarantine(DAILY, days(2, 4), daily(2, 4), "they had settled")
    return store


BESIDE = (".lock", ".gitattributes")  # which nothing of a store rests on


def files(store):
    return [path for path in sorted(store.root.rglob("*")) if path.is_file() and path.name not in BESIDE]


def problems(store):
    return complaints(store.root)


def named(store, path):
    return any(path.name in problem for problem in problems(store))


def test_every_kind_of_file_is_among_those_that_are_harmed(store):
    kinds = [path.relative_to(store.root).as_posix().removeprefix(str(DAILY)).split(".")[0] for path in files(store)]

    assert [kind.rpartition("/")[0] for kind in kinds] == ["/archive", "/bars", "", "/quarantine", ""]
    assert problems(store) == []


@pytest.mark.slow
def test_flipped_bytes_are_noticed_and_the_file_is_named(store):
    unnoticed = []
    for path in files(store):
        good = path.read_bytes()
        for place in range(0, len(good), EVERY):
            for bits in (1 << place % 8, 0xFF):
                path.write_bytes(good[:place] + bytes([good[place] ^ bits]) + good[place + 1 :])
                if not named(store, path):
                    unnoticed.append((path.name, place, bits))
        path.write_bytes(good)

    assert unnoticed == []


@pytest.mark.slow
def test_a_file_that_is_cut_doubled_or_empty_is_named(store):
    unnoticed = []
    for path in files(store):
        good = path.read_bytes()
        for bad in (b"", good[:1], good[: len(good) // 2], good[:-1], good + b"\n", good + good):
            path.write_bytes(bad)
            if not named(store, path):
                unnoticed.append((path.name, len(bad)))
        path.write_bytes(good)

    assert unnoticed == []


def test_a_file_that_is_gone_is_named(store):
    unnoticed = []
    for path in files(store):
        good = path.read_bytes()
        path.unlink()
        if not named(store, path):
            unnoticed.append(path.name)
        path.write_bytes(good)

    assert unnoticed == []


def test_two_files_that_changed_places_are_named(store):
    unnoticed = []
    for one, other in combinations(files(store), 2):
        first, second = one.read_bytes(), other.read_bytes()
        one.write_bytes(second)
        other.write_bytes(first)
        if not (named(store, one) or named(store, other)):
            unnoticed.append((one.name, other.name))
        one.write_bytes(first)
        other.write_bytes(second)

    assert unnoticed == []


def test_a_second_copy_of_a_file_is_named_and_never_read(store):
    for path in [path for path in files(store) if path.parent.name in ("bars", "archive")]:
        copy = path.with_name(f"all.0123456789ab{path.suffix}")
        shutil.copy(path, copy)

        assert named(store, copy)
        assert len(store.read(DAILY)) == 3
        copy.unlink()


def test_a_series_whose_manifest_is_gone_is_still_listed(store):
    (store.folder(DAILY) / "manifest.json").unlink()

    assert store.series() == [DAILY]


# --- links and odd files


LINKED = ["STORE.json", *(f"{DAILY}/{name}" for name in ("manifest.json", "bars", "archive"))]
LINKED += [str(DAILY), str(DAILY.instrument), f"{DAILY.instrument}/1day"]


@HAVE_LINKS
@pytest.mark.parametrize("name", LINKED)
def test_a_symbolic_link_is_refused_by_its_name(store, tmp_path, name):
    place, target = store.root / name, tmp_path / "elsewhere"
    place.rename(target)
    place.symlink_to(target)
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}

    assert any(f"{place} is a symbolic link" in problem for problem in problems(store))
    with pytest.raises(DamagedStore, match="symbolic link"):
        Store(store.root).write(DAILY, days(2, 4), daily(2, 4), revise=True)
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before


@HAVE_LINKS
@pytest.mark.parametrize("kind", ["bars", "archive", "quarantine"])
def test_a_link_in_place_of_a_segment_is_refused(store, tmp_path, kind):
    (path,) = (store.folder(DAILY) / kind).iterdir()
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")

    assert any(f"{path} is a symbolic link" in problem for problem in problems(store))


@HAVE_LINKS
@pytest.mark.parametrize("name", [".lock", f"{DAILY}/.lock"])
def test_a_lock_that_is_a_link_does_not_empty_its_target(store, tmp_path, name):
    (tmp_path / "precious").write_text("my only copy")
    lock = store.root / name
    lock.unlink(missing_ok=True)
    lock.symlink_to(tmp_path / "precious")
    (store.root / "STORE.json").write_bytes(b'{"format": 1}')  # so that the root is locked, too

    with pytest.raises(DamagedStore, match="symbolic link"):
        store.write(DAILY, days(5, 5), daily(5, 5))
    assert (tmp_path / "precious").read_text() == "my only copy"


@HAVE_LINKS
def test_the_root_itself_may_be_a_link(store, tmp_path):
    (tmp_path / "link").symlink_to(store.root)

    linked = Store(tmp_path / "link")

    assert linked.write(DAILY, days(5, 5), daily(5, 5)) == 1
    assert len(linked.read(DAILY)) == 4


@HAVE_PIPES
def test_a_pipe_in_place_of_a_manifest_is_not_waited_for(store):
    path = store.folder(DAILY) / "manifest.json"
    path.unlink()
    os.mkfifo(path)

    with pytest.raises(DamagedStore, match="not a regular file"):
        store.read(DAILY)


def test_a_file_larger_than_any_of_its_kind_is_not_read(store):
    path = store.folder(DAILY) / "manifest.json"
    os.truncate(path, LARGEST + 1)  # a hole: no room is taken

    with pytest.raises(DamagedStore, match="more than"):
        store.read(DAILY)


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    (tmp_path / "folder").mkdir()

    with pytest.raises(DamagedStore, match="not a regular file"):
        read_file(tmp_path / "folder", 10)


def test_a_folder_that_is_named_as_no_series_is_named(store):
    odd = store.root / "msft-STK-SMART-USD" / "1day" / "TRADES" / "rth"
    odd.mkdir(parents=True)
    (odd / "manifest.json").write_text("{}")

    with pytest.raises(BadStore, match="msft"):
        store.series()


# --- manifests that hash right


def plant(store, text):
    body = text.encode() if isinstance(text, str) else text
    mark = b"#sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n"
    (store.folder(DAILY) / "manifest.json").write_bytes(body + mark)


def record(store):
    return json.loads((store.folder(DAILY) / "manifest.json").read_bytes().rpartition(b"#")[0])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "[" * 100_000,
        '{"format": 2}',
        '{"format": true}',
        '{"format": "2"}',
        '{"format": 2, "series": 1' + "0" * 5000 + "}",
        b"\xff\xfe\x00",
        b"\x00" * 64,
    ],
    ids=["nothing", "null", "a list", "deep", "no more", "a truth", "a text", "a huge number", "no UTF-8", "zeros"],
)
def test_what_is_no_manifest_is_damage_though_it_hashes_right(store, text):
    plant(store, text)

    with pytest.raises(DamagedStore, match=r"manifest\.json"):
        store.read(DAILY)


def test_a_manifest_that_was_believed_is_not_believed_of_another_series(store):
    data = (store.folder(DAILY) / "manifest.json").read_bytes()

    assert of_bytes(data, "here", DAILY) is of_bytes(bytes(bytearray(data)), "there", DAILY)  # parsed once
    for place in ("here", "there"):
        with pytest.raises(DamagedStore, match=f"{place} has invalid content .* belongs to AAPL"):
            of_bytes(data, place, Series.parse("IBM/1day"))


def test_a_manifest_of_a_newer_format_is_refused(store):
    plant(store, json.dumps(record(store) | {"format": 3}))

    with pytest.raises(BadStore, match="newer ib-backtest"):
        store.read(DAILY)


@pytest.mark.parametrize(
    "name", ["../../../../../../etc/passwd", "/etc/passwd", "..", "all.0123456789ab.parquet/x", "a\0b"]
)
def test_a_path_in_a_manifest_leads_nowhere(store, name):
    segment = dict(
        zip(("file", "rows", "first", "last", "bytes", "sha256", "rows_sha256"), old_segment(store), strict=True)
    )
    old = {"format": 1, "series": str(DAILY), "generation": 1, "contract": None, "answers": [], "archived": []}
    plant(store, json.dumps(old | {"segments": [segment | {"file": name}]}))

    with pytest.raises(DamagedStore, match="no segment is named"):
        store.read(DAILY)


def test_a_path_among_the_answers_in_quarantine_leads_nowhere(store):
    for name in ("../manifest.json", "/etc/passwd", "..", "2024-01-02.0123456789ab.parquet/x", 7):
        plant(store, json.dumps(record(store) | {"aside": [name]}))

        with pytest.raises(DamagedStore, match=r"manifest\.json"):
            store.read(DAILY)
        restore(store)


def old_segment(store):
    (one,) = store.manifest(DAILY).segments
    return one.file, one.rows, one.first, one.last, one.bytes, one.sha256, one.rows_sha256


def test_a_text_cannot_steer_the_terminal(store):
    changed = record(store)
    changed["answers"][0][-1] = "\x1b]0;owned\x07\udcff"
    plant(store, json.dumps(changed))

    assert store.manifest(DAILY).answers[0].text == "\ufffd]0;owned\ufffd\ufffd"


STRANGE = [None, True, -1, 0, 2**70, 1.5, float("inf"), "", "x", "../x", "9999-12-31T23:59:59", [], [[]], {}, {"a": 1}]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_a_manifest_with_anything_in_it_is_believed_or_is_damage(store, seed):
    chance, good, said = Random(seed), record(store), []
    for _ in range(25):
        changed = json.loads(json.dumps(good))
        for _ in range(chance.randint(1, 3)):
            mutate(changed, chance)
        plant(store, json.dumps(changed, indent=chance.choice([None, 1])))
        try:
            store.read(DAILY, revision=chance.choice([None, 1]))
            store.write(DAILY, days(5, 5), daily(5, 5), revise=True)  # what is believed can be continued
            restore(store)
        except DataError as error:
            said.append(str(error))

    assert len(said) > 10
    assert all(text.isprintable() for text in said)


def restore(store):
    shutil.rmtree(store.root)
    small(store.root)


def mutate(value, chance):
    """Change something, anywhere in a tree of lists and dictionaries."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not keys:
        return
    key = chance.choice(keys)
    if isinstance(value[key], list | dict) and value[key] and chance.random() < 0.8:
        mutate(value[key], chance)
    elif chance.random() < 0.3:
        del value[key]
    elif isinstance(value, list) and chance.random() < 0.3:
        value.append(value[key])
    else:
        value[key] = chance.choice(STRANGE)


# --- segments that hash right


def swap_in(store, table, data=None, **promise):
    """Put a file in place of the segment, with a manifest that has its hashes and promises what it is told to."""
    if data is None:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        data = sink.getvalue().to_pybytes()
    honest = segment_of("all", daily(2, 4), data)
    segment = replace(honest, **promise)
    (store.folder(DAILY) / "bars" / segment.file).write_bytes(data)
    (store.folder(DAILY) / "manifest.json").write_bytes(to_bytes(replace(store.manifest(DAILY), segments=(segment,))))


class Boom:
    def __reduce__(self):
        return (os.abort, ())


def a_pickle():
    import pickle

    return pickle.dumps(Boom())


MORE_ROWS = table_of(
    [(datetime(2024, 1, 2, tzinfo=UTC) + timedelta(n), 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0) for n in range(9999)]
)
HOSTILE = {
    "other columns": pa.table({"time": [1, 2, 3]}),
    "other types": daily(2, 4).set_column(5, "volume", pa.array(["a", "b", "c"])),
    "a nested column": daily(2, 4).append_column("more", pa.array([[1], [2], [3]])),
    "more rows than promised": MORE_ROWS,
    "in another order": daily(2, 4).take([2, 1, 0]),
    "twice the same": daily(2, 4).take([0, 0, 2]),
    "no row": schema().empty_table(),
    "an extension type": daily(2, 4).set_column(
        7, "trades", pa.ExtensionArray.from_storage(pa.opaque(pa.int64(), "a", "b"), pa.array([1, 2, 3]))
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_segment_that_hashes_right_but_holds_something_else_is_damage(store, what):
    swap_in(store, HOSTILE[what])

    with pytest.raises(DamagedStore, match="is not a segment of bars"):
        store.read(DAILY)


@pytest.mark.parametrize("data", [b"PAR1", b"PAR1" + bytes(64) + b"PAR1", b"PAR1\xff\xff\xff\x7fPAR1", a_pickle()])
def test_what_is_no_parquet_is_damage(store, data):
    swap_in(store, None, data)

    with pytest.raises(DamagedStore, match="is not a segment of bars"):
        store.read(DAILY)


def test_a_file_that_would_unpack_to_more_than_its_rows_need_is_not_unpacked(store):
    bomb = MORE_ROWS.slice(0, 3).set_column(1, schema().field("open"), pa.array([1.0, 2.0, 3.0]))
    metadata = {b"pandas": b"{" * 10, b"bomb": bytes(3_000_000)}
    swap_in(store, bomb.replace_schema_metadata(metadata))  # in the footer, which is not of the rows

    assert len(store.read(DAILY)) == 3

    rows = pa.concat_tables([MORE_ROWS] * 40)
    swap_in(store, rows, rows=3)
    with pytest.raises(DamagedStore, match="rows in"):
        store.read(DAILY)


def test_metadata_for_pandas_is_not_looked_at(store):
    swap_in(store, daily(2, 4).replace_schema_metadata({b"pandas": a_pickle(), b"ib-backtest": b"[]"}))

    assert store.read(DAILY).equals(daily(2, 4))
    assert store.read(DAILY).schema.metadata is None


@pytest.mark.parametrize("words", [b"", b"{", b"7", b"[7]", b'[{"a": 7}]', b"[" * 9999, b"\xff"])
def test_provenance_that_cannot_be_is_damage_and_does_not_hinder_reading(store, words):
    swap_in(store, daily(2, 4).replace_schema_metadata({b"ib-backtest": words}))

    assert store.read(DAILY).equals(daily(2, 4))
    with pytest.raises(DamagedStore, match="came from"):
        store.provenance(DAILY)


@pytest.mark.parametrize("rows", [MOST_ROWS + 1, 0])
def test_a_segment_cannot_promise_any_number_of_rows(store, rows):
    swap_in(store, daily(2, 4), rows=rows)

    with pytest.raises(DamagedStore, match="cannot have"):
        store.read(DAILY)


def test_values_that_do_not_hash_to_what_is_promised_are_found_by_a_check(store):
    swap_in(store, daily(2, 4, close=11.9))

    assert any("does not hold the bars" in problem for problem in problems(store))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_segments_with_anything_in_them_are_read_or_are_damage(store, seed):
    chance = Random(seed)
    (path,) = (store.folder(DAILY) / "bars").iterdir()
    good = path.read_bytes()
    for _ in range(20):
        bad = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        swap_in(store, None, bytes(bad))
        try:
            store.read(DAILY)
            store.provenance(DAILY)
        except DamagedStore:
            pass
