"""A store of every format that was ever in use is kept in `stores`; this version opens, verifies, continues it."""

import hashlib
import json
import shutil
from datetime import timedelta

import pytest
from judge import complaints
from places import SUPPORT
from stores.make_store import AT, CONTRACT, DAILY, MINUTES, NOON, daily, days, fill, minutes

from backtest.market.bars import table_of
from backtest.market.span import Span
from backtest.store.manifest import FORMAT
from backtest.store.store import Store

KEPT = sorted(folder for folder in (SUPPORT / "stores").iterdir() if folder.name.isdigit())
NEWEST = [folder for folder in KEPT if folder.name == str(FORMAT)]


@pytest.fixture(params=KEPT, ids=lambda folder: f"format {folder.name}")
def old(request, tmp_path):
    return Store(shutil.copytree(request.param, tmp_path / "store"))


def test_a_store_of_each_format_is_kept():
    assert [int(folder.name) for folder in KEPT] == list(range(1, FORMAT + 1))
    assert all(json.loads((folder / "STORE.json").read_text())["format"] == int(folder.name) for folder in KEPT)


def test_it_is_read_as_it_was_written_and_not_touched(old):
    before = hashes(old.root)

    assert old.series() == [DAILY, MINUTES]
    assert old.read(DAILY).equals(table_of([*rows(daily(2, 5)), *rows(daily(8, 9))]))
    assert len(old.read(MINUTES)) == 120
    assert old.manifest(DAILY).contract == CONTRACT
    assert old.gaps(DAILY, days(1, 10)) == [days(1, 1), days(10, 10)]
    assert [answer.text for answer in old.manifest(DAILY).answers if not answer.bars] == ["HMDS query returned no data"]
    assert complaints(old.root) == []
    assert hashes(old.root) == before


def test_it_is_continued_in_the_newest_format(old):
    old.write(DAILY, days(10, 10), daily(10, 10), at=AT)

    again = Store(old.root)
    assert again.read(DAILY).equals(table_of([*rows(daily(2, 5)), *rows(daily(8, 10))]))
    assert again.manifest(DAILY).contract == CONTRACT
    assert json.loads((old.root / "STORE.json").read_text())["format"] == FORMAT
    assert manifest_format(again, DAILY) == FORMAT
    assert len(again.read(MINUTES)) == 120  # not yet of the newest format, and read beside one that is
    assert complaints(again.root) == []


def test_what_it_had_archived_is_kept_until_it_is_pruned(old):
    old.write(DAILY, days(10, 10), daily(10, 10))
    (archived,) = {path.name for path in (old.folder(DAILY) / "archive").iterdir()} & KNOWN

    freed = old.prune(DAILY)

    assert archived
    assert freed
    assert list((old.folder(DAILY) / "archive").iterdir()) == []


def test_it_takes_a_revision(old):
    old.write(MINUTES, Span(NOON, NOON + AN_HOUR), minutes(NOON, 59), revise=True)

    assert len(old.read(MINUTES)) == 119
    assert len(old.read(MINUTES, revision=1)) == 120


def test_the_newest_kept_store_is_what_this_version_writes(tmp_path):
    fresh, kept = Store(tmp_path), Store(NEWEST[0])

    fill(fresh)

    for one in (DAILY, MINUTES):
        assert fresh.manifest(one).content == kept.manifest(one).content
        assert fresh.manifest(one).answers == kept.manifest(one).answers
        assert [change.bars for change in fresh.revisions(one)] == [change.bars for change in kept.revisions(one)]


AN_HOUR = timedelta(hours=1)
KNOWN = {path.name for folder in KEPT for path in folder.rglob("archive/*")}


def rows(bars):
    return [tuple(row.values()) for row in bars.to_pylist()]


def manifest_format(store, series):
    return json.loads((store.folder(series) / "manifest.json").read_bytes().rpartition(b"#")[0])["format"]


def hashes(root):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}
