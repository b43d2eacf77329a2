"""What `backtest verify` says of a store, sound or damaged in every way, and what `--repair` makes of it."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from forking import WRITERS, forked
from market import minute_bars, span_of_sessions, store_with
from places import SUPPORT, TESTS
from rights import HAVE_LINKS, HAVE_RIGHTS, unreadable

from backtest.errors import BadStore, DamagedStore, NoBars
from backtest.market.bars import schema
from backtest.market.hours import hours_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.store.audit.coverage import EMPTY, FULL, MISSING, PARTIAL, coverage_of, strips
from backtest.store.audit.repairs import repair
from backtest.store.audit.verification import verify
from backtest.store.files import Unreadable
from backtest.store.layout import mark_store
from backtest.store.manifest import Answer
from backtest.store.store import Store

DAILY = Series.parse("IBM/1day")
MINUTES = Series.parse("AAPL/1min")
SINCE, UNTIL = date(2024, 1, 2), date(2024, 3, 28)


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """Return a store of three months: minutes in three segments, days in one."""
    dates = (SINCE.isoformat(), UNTIL.isoformat())
    return store_with(tmp_path_factory.mktemp("original") / "bars", {"AAPL/1min": dates, "IBM/1day": dates})


@pytest.fixture
def store(original, tmp_path):
    shutil.copytree(original.root, tmp_path / "bars")
    return Store(tmp_path / "bars")


def segments(store, series=MINUTES):
    return sorted((store.folder(series) / "bars").iterdir())


def found(root, *wanted):
    """Return level and path of each finding."""
    return [(one.level, one.path) for verdict in verify(root, wanted) for one in verdict.findings]


def code(root, strict=False):
    return max(verdict.exit_code(strict) for verdict in verify(root))


def flip(path, place=0.5):
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    path.write_bytes(data)


def of(store, path):
    return path.relative_to(store.root).as_posix()


def utc(bars):
    """Return the times without their zone, for which Arrow would want the system's database."""
    return bars["time"].cast(pa.timestamp("us"))


def mended(store):
    """Repair the store, and return what was done."""
    return list(repair(store.root, list(verify(store.root))))


def complete(store, original, done):
    """Do what the commands say that complete a repair."""
    for one in done:
        if one.complete:
            words = one.complete.split()
            series = Series.parse(words[2])
            span = span_of_sessions(series, date.fromisoformat(words[4]), date.fromisoformat(words[6]))
            store.write(series, span, original.read(series, span))


@pytest.mark.slow
def test_a_sound_store_is_sound(store, sample):
    assert found(store.root) == found(sample.root) == []
    assert code(store.root, strict=True) == 0


@pytest.mark.slow
def test_every_damaged_file_is_named(store):
    flipped = [*segments(store), *segments(store, DAILY)]
    for path in flipped:
        flip(path)

    assert found(store.root) == [("damage", of(store, path)) for path in flipped]
    assert code(store.root) == 3


@pytest.mark.slow
@pytest.mark.parametrize("place", [0.0, 0.1, 0.3, 0.7, 0.9, 1.0])
def test_a_flipped_bit_in_any_file_is_damage_in_that_file(store, place):
    for path in [
        one for one in sorted(store.root.rglob("*")) if one.is_file() and one.name not in (".lock", ".gitattributes")
    ]:
        good = path.read_bytes()
        flip(path, place)
        try:
            assert ("damage", of(store, path)) in found(store.root), path
        except BadStore:
            assert path.name == "STORE.json"  # which says another format now
        path.write_bytes(good)


@pytest.mark.parametrize("name", ["manifest.json", "bars"])
def test_what_is_lost_is_damage(store, name):
    path = store.folder(MINUTES) / name
    if path.is_dir():
        path = segments(store)[1]
    path.unlink()

    assert found(store.root) == [("damage", of(store, path))]


def test_a_file_that_is_another_one_is_damage(store):
    first, second, _ = segments(store)
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)

    assert found(store.root) == [("damage", of(store, first)), ("damage", of(store, second))]


def test_a_manifest_that_hashes_but_lies_is_damage(store):
    path = store.folder(MINUTES) / "manifest.json"
    body = path.read_text().rpartition("#sha256")[0].replace(str(store.manifest(MINUTES).segments[0].rows), "17", 1)
    path.write_text(f"{body}#sha256 {hashlib.sha256(body.encode()).hexdigest()}\n")

    assert [level for level, _ in found(store.root)] == ["damage"]


@HAVE_LINKS
@pytest.mark.parametrize("name", ["bars/x", "quarantine", "x"])
def test_a_symbolic_link_is_damage(store, tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    (store.folder(MINUTES) / name).symlink_to(tmp_path / "elsewhere")

    assert found(store.root) == [("damage", f"{MINUTES}/{name}")]


@HAVE_LINKS
def test_a_segment_that_became_a_link_to_itself_elsewhere_is_damage(store, tmp_path):
    path = segments(store)[0]
    path.rename(tmp_path / path.name)
    path.symlink_to(tmp_path / path.name)

    assert found(store.root) == [("damage", of(store, path))]


def test_leftovers_of_killed_writers_are_told_and_fail_nothing(store):
    left = [store.root / ".tmp-1-1-STORE.json", store.folder(DAILY) / ".tmp-1-1-x", segments(store)[0]]
    copy = left[2].with_name("2024-01.0123456789ab.parquet")
    shutil.copy(left[2], copy)
    for path in left[:2]:
        path.write_bytes(b"half")

    assert found(store.root) == [("note", of(store, path)) for path in (left[0], copy, left[1])]
    assert code(store.root, strict=True) == 0


def test_a_series_that_a_killed_writer_only_began_is_none(store):
    (store.root / "QQQ-STK-SMART-USD/1day/TRADES/rth/bars").mkdir(parents=True)
    (store.root / "QQQ-STK-SMART-USD/1day/TRADES/rth/.lock").touch()

    assert found(store.root) == []


def test_a_file_of_somebody_else_is_a_warning(store):
    for name in ("thesis.doc", f"{DAILY.instrument}/thesis.doc", f"{DAILY}/thesis.doc", f"{DAILY}/bars/thesis.doc"):
        (store.root / name).write_text("my only copy")

    assert [level for level, _ in found(store.root)] == ["warn"] * 4
    assert (code(store.root), code(store.root, strict=True)) == (0, 1)


def test_only_the_wanted_series_are_looked_at(store):
    flip(segments(store)[0])

    assert found(store.root, DAILY) == []
    with pytest.raises(NoBars, match="QQQ/1day is not in"):
        list(verify(store.root, [Series.parse("QQQ/1day")]))


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(BadStore, match="no store at"):
        list(verify(tmp_path / "none"))
    (tmp_path / "thesis.doc").write_text("my only copy")
    with pytest.raises(BadStore, match="is not a store"):
        list(verify(tmp_path))


def test_a_disagreeing_answer_is_a_conflict_until_it_is_taken(store):
    span = span_of_sessions(DAILY, date(2024, 2, 1), date(2024, 2, 9))
    bars = store.read(DAILY, span)
    other = bars.set_column(2, schema().field("high"), pc.add(bars["high"], 9.0))
    store.quarantine(DAILY, span, other, "they had settled")

    assert [level for level, _ in found(store.root)] == ["conflict"]
    assert code(store.root) == 1
    store.write(DAILY, span, other, revise=True)
    assert found(store.root) == []


def test_a_refused_answer_is_a_warning_until_its_span_is_answered(store):
    span = span_of_sessions(DAILY, date(2024, 4, 1), date(2024, 4, 5))
    good = minute_bars(DAILY, date(2024, 4, 1), date(2024, 4, 5))
    bad = good.set_column(5, schema().field("volume"), pa.array([-1.0] * 5))
    store.quarantine(DAILY, span, bad, "volume negative")

    assert [level for level, _ in found(store.root)] == ["warn"]
    store.write(DAILY, span, good)
    assert found(store.root) == []


def test_a_flipped_bit_in_quarantine_or_archive_is_damage(store):
    span = span_of_sessions(DAILY, date(2024, 2, 1), date(2024, 2, 9))
    bars = store.read(DAILY, span)
    other = bars.set_column(5, schema().field("volume"), pc.add(bars["volume"], 1.0))
    store.write(DAILY, span, other, revise=True)
    paths = [store.quarantine(DAILY, span, other, "why not"), next((store.folder(DAILY) / "archive").iterdir())]
    for path in paths:
        flip(path)

    assert sorted(found(store.root)) == sorted(("damage", of(store, path)) for path in paths)


@pytest.mark.parametrize("harm", [Path.unlink, flip])
def test_an_answer_in_quarantine_that_is_lost_or_damaged_is_named_and_a_repair_lets_go_of_it(store, harm):
    span = span_of_sessions(DAILY, date(2024, 2, 1), date(2024, 2, 9))
    paths = [store.quarantine(DAILY, span, store.read(DAILY, span), reason) for reason in ("no", "never")]
    harm(paths[0])

    assert found(store.root) == [("damage", of(store, paths[0]))]
    mended(store)
    assert found(store.root) == []
    assert store.manifest(DAILY).aside == (paths[1].name,)


# --- repair


def test_a_damaged_segment_goes_to_quarantine_and_comes_back_with_the_next_download(store, original):
    path = segments(store)[1]
    flip(path)
    damaged = path.read_bytes()

    done = mended(store)

    (kept,) = (store.folder(MINUTES) / "quarantine").glob("*.damaged")
    assert kept.read_bytes() == damaged
    assert store.gaps(MINUTES, span_of_sessions(MINUTES, SINCE, UNTIL)) == [
        Span(datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC))
    ]
    assert code(store.root) == 3  # something is missing still
    complete(store, original, done)
    assert found(store.root) == []
    assert store.manifest(MINUTES).content == original.manifest(MINUTES).content


def test_what_is_whole_can_be_read_after_a_repair(store, original):
    flip(segments(store)[1])
    with pytest.raises(DamagedStore):
        store.read(MINUTES)

    mended(store)

    bars = original.read(MINUTES)
    assert store.read(MINUTES).equals(bars.filter(pc.not_equal(pc.month(utc(bars)), 2)))


def test_a_lost_segment_is_taken_out_of_the_ledger(store, original):
    segments(store)[0].unlink()

    complete(store, original, mended(store))

    assert found(store.root) == []
    assert store.manifest(MINUTES).content == original.manifest(MINUTES).content


def test_what_the_vendor_said_to_be_empty_stays_known(store):
    empty = Span(datetime(2024, 2, 10, tzinfo=UTC), datetime(2024, 2, 11, tzinfo=UTC))
    store.write(MINUTES, empty, schema().empty_table(), text="none")
    flip(segments(store)[1])

    mended(store)

    assert [one.span for one in store.manifest(MINUTES).answers if not one.bars] == [empty]


@pytest.mark.parametrize("lost", [True, False])
def test_a_manifest_is_rebuilt_from_its_segments_and_all_is_asked_for_again(store, original, lost):
    path = store.folder(MINUTES) / "manifest.json"
    if lost:
        path.unlink()
    else:
        flip(path)

    done = mended(store)

    assert store.read(MINUTES).equals(original.read(MINUTES))
    assert store.manifest(MINUTES).coverage == []
    assert [level for level, _ in found(store.root)] == ["warn"]  # that nobody knows what was asked for
    complete(store, original, done)
    assert found(store.root) == []


@HAVE_RIGHTS
@pytest.mark.parametrize("part", ["bars", "archive"])
def test_no_manifest_is_rebuilt_from_a_folder_that_cannot_be_listed(store, part):
    folder = store.folder(MINUTES)
    (folder / "manifest.json").unlink()
    (folder / part).mkdir(exist_ok=True)

    with unreadable(folder / part, 0o300), pytest.raises(Unreadable, match=f"{part} cannot be read"):
        mended(store)

    assert not (folder / "manifest.json").exists()


def test_a_rebuilt_manifest_names_no_damaged_segment(store, original):
    (store.folder(MINUTES) / "manifest.json").unlink()
    flip(segments(store)[2])

    mended(store)

    bars = original.read(MINUTES)
    assert store.read(MINUTES).equals(bars.filter(pc.not_equal(pc.month(utc(bars)), 3)))
    assert len(list((store.folder(MINUTES) / "quarantine").glob("*.damaged"))) == 1


def test_a_damaged_archive_goes_to_quarantine(store):
    span = span_of_sessions(DAILY, date(2024, 2, 1), date(2024, 2, 9))
    bars = store.read(DAILY, span)
    store.write(DAILY, span, bars.set_column(5, schema().field("volume"), pc.add(bars["volume"], 1.0)), revise=True)
    flip(next((store.folder(DAILY) / "archive").iterdir()))

    mended(store)

    assert found(store.root) == []
    assert len(list((store.folder(DAILY) / "quarantine").glob("*.damaged"))) == 1


def test_a_revision_that_cannot_be_read_any_more_is_given_up_and_the_others_stay(store):
    span = span_of_sessions(DAILY, date(2024, 2, 1), date(2024, 2, 9))
    seen = [store.read(DAILY)]
    for more in (1.0, 2.0):
        bars = store.read(DAILY, span)
        changed = bars.set_column(5, schema().field("volume"), pc.add(bars["volume"], more))
        store.write(DAILY, span, changed, revise=True)
        seen.append(store.read(DAILY))
    oldest = store.manifest(DAILY).before(1)[0].file
    flip(store.folder(DAILY) / "archive" / oldest)

    mended(store)

    assert store.read(DAILY).equals(seen[2])
    assert store.read(DAILY, revision=2).equals(seen[1])
    with pytest.raises(NoBars, match="pruned"):
        store.read(DAILY, revision=1)


def test_a_revision_needs_the_stored_segments_that_it_did_not_change(store):
    span = span_of_sessions(MINUTES, date(2024, 2, 1), date(2024, 2, 9))
    bars = store.read(MINUTES, span)
    changed = bars.set_column(5, schema().field("volume"), pc.add(bars["volume"], 1.0))
    store.write(MINUTES, span, changed, revise=True)
    flip(segments(store)[2])  # March, which the revision left alone

    mended(store)

    assert store.revisions(MINUTES) == []  # read before it, March would be missing unsaid
    assert len(store.manifest(MINUTES).earlier) == 1  # and what it replaced is kept


def test_a_segment_that_no_manifest_names_is_kept_unless_all_its_bars_are_stored(store, tmp_path):
    older = store.folder(DAILY) / "manifest.json"
    kept = older.read_bytes()
    store.write(
        DAILY, Span.of_dates(date(2024, 4, 1), date(2024, 4, 5)), minute_bars(DAILY, date(2024, 4, 1), date(2024, 4, 5))
    )
    (newer,) = segments(store, DAILY)
    shutil.copy(newer, tmp_path / newer.name)
    older.write_bytes(kept)  # as from a backup
    shutil.copy(tmp_path / newer.name, newer)

    mended(store)

    (unlisted,) = (store.folder(DAILY) / "quarantine").glob("*.unlisted")
    assert unlisted.read_bytes() == (tmp_path / newer.name).read_bytes()


def test_leftovers_are_swept(store):
    (store.root / ".tmp-999999999-1-STORE.json").write_bytes(b"{")
    (store.folder(DAILY) / ".tmp-1-1-x").write_bytes(b"half")

    mended(store)

    assert found(store.root) == []


def test_a_lost_mark_is_written_again(store):
    (store.root / "STORE.json").unlink()

    mended(store)

    assert found(store.root) == []


def test_a_repair_of_a_sound_store_changes_nothing(store):
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}

    assert mended(store) == []
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*")} == before


@pytest.mark.skipif(sys.platform == "win32", reason="Wine 8 says of a file in a folder's place that nothing is there")
def test_what_cannot_be_read_is_named_and_left_alone(store):
    shutil.rmtree(store.folder(DAILY) / "bars")
    (store.folder(DAILY) / "bars").write_text("no folder")
    before = sorted(store.root.rglob("*"))

    with pytest.raises(Unreadable, match="Not a directory"):
        mended(store)

    assert [path for path in sorted(store.root.rglob("*")) if path.name != ".lock"] == [
        path for path in before if path.name != ".lock"
    ]


@pytest.mark.slow
def test_a_repair_killed_at_any_call_is_finished_by_the_next():
    code, said = forked(WRITERS, [TESTS / "soak" / "killed_repairs.py"])

    assert code == 0, said
    assert re.fullmatch(r"killed before each of (1[5-9]|[2-9]\d) calls: 0 failures\n", said)


# --- at the same time


@pytest.mark.slow
def test_a_store_is_sound_while_somebody_writes(tmp_path):
    writer = SUPPORT / "writer.py"
    words = [sys.executable, str(writer), str(tmp_path / "bars"), "2", "31", "-1"]
    looks = 0

    with subprocess.Popen(words) as child:
        while child.poll() is None:
            if (tmp_path / "bars" / "STORE.json").exists():
                levels = [level for level, _ in found(tmp_path / "bars")]
                looks += 1
                assert "damage" not in levels
    assert looks
    assert child.returncode == 0


# --- coverage


def covered(gone=(), short=(), empty=()):
    """Return the coverage of January 2024 without the minutes of some days, in part, or as the vendor says."""
    bars = minute_bars(MINUTES, date(2024, 1, 2), date(2024, 2, 5))
    days, hours = pc.day_of_year(utc(bars)), pc.hour(utc(bars))
    out = pc.is_in(days, pa.array([*gone, *empty], pa.int64()))
    late = pc.and_(pc.is_in(days, pa.array(list(short), pa.int64())), pc.greater(hours, 15))
    answers = [
        Answer(Span.of_dates(date(2024, 1, day), date(2024, 1, day)), 0, datetime(2024, 2, 1, tzinfo=UTC))
        for day in empty
    ]
    return coverage_of(MINUTES, hours_of(MINUTES.instrument), bars.filter(pc.invert(pc.or_(out, late))), answers)


def test_a_session_is_complete_partial_empty_or_missing():
    one = covered(gone=[3], short=[4], empty=[5])

    assert [int(state) for state in one.states[:5]] == [FULL, MISSING, PARTIAL, EMPTY, FULL]
    assert str(one.days[1]) == "2024-01-03"


@pytest.mark.slow
def test_a_month_is_complete_where_all_that_exists_is_stored():
    assert covered(empty=[5]).by("M") == {"2024-01": FULL, "2024-02": FULL}
    assert covered(gone=[3]).by("M") == {"2024-01": PARTIAL, "2024-02": FULL}
    assert covered(gone=[3]).by("Y") == {"2024": PARTIAL}


@pytest.mark.slow
def test_strips_take_as_many_months_together_as_they_must():
    months, quarters = strips([covered(gone=[3])], 12), strips([covered(gone=[3])], 1)

    assert months == ("2024", [[PARTIAL, FULL]])
    assert quarters == ("2", [[PARTIAL]])


# --- the command


def test_verify_says_what_is_damaged_repairs_it_and_names_the_command_that_completes_it(call, store):
    path = segments(store)[1]
    flip(path)

    code, out, _ = call("verify", "--store", store.root)
    repaired, told, _ = call("verify", "--store", store.root, "--repair")

    assert (code, repaired) == (3, 3)
    assert path.name in out
    assert "AAPL/1min █×█" in out
    assert f"backtest download AAPL/1min --since 2024-02-01 --until 2024-02-29 --store {store.root}" in told


def test_verify_counts_its_warnings_and_names_the_series_in_short(call, store):
    for name in ("one.txt", "two.txt"):
        (segments(store)[1].parent / name).write_text("")

    _, out, _ = call("verify", "--store", store.root)

    assert "AAPL/1min\n  warn     files:" in out
    assert out.splitlines()[-1].endswith(": checksums match, 2 warnings")


def test_verify_as_json_is_one_document(call, store):
    flip(segments(store)[1])

    code, out, _ = call("verify", "--store", store.root, "--json")

    document = json.loads(out)
    minutes, daily = document["series"][str(MINUTES)], document["series"][str(DAILY)]
    assert code == document["exit_code"] == 3
    assert [(one["level"], one["path"]) for one in minutes["findings"]] == [("damage", of(store, segments(store)[1]))]
    assert (minutes["ok"], daily["ok"]) == (False, True)
    assert daily["sessions"] == {"complete": 61, "partial": 0, "empty": 0, "missing": 0}
    assert minutes["sessions"]["missing"] == 20


def test_warnings_fail_only_if_asked_for(call, store):
    span = span_of_sessions(DAILY, date(2024, 6, 3), date(2024, 6, 3))
    store.write(DAILY, span, minute_bars(DAILY, date(2024, 6, 3), date(2024, 6, 3)))

    assert call("verify", "--store", store.root)[0] == 0
    code, out, _ = call("verify", "--store", store.root, "--strict")

    assert code == 1
    assert "never requested" in " ".join(out.split())


def test_lines_are_no_longer_than_a_terminal_but_for_a_path(call, sample):
    for words in (["verify"], ["verify", "AAPL/1day"], ["ls"]):
        _, out, _ = call(*words, "--store", sample.root)
        assert max(map(len, out.splitlines())) <= 80


@pytest.mark.slow
def test_the_picture_shows_every_series_in_a_row_of_months(call, sample, tmp_path):
    from matplotlib.image import imread

    code, _, err = call("verify", "--store", sample.root, "--png", tmp_path / "a.png")
    call("verify", "AAPL/1day", "GOOG/1day", "--store", sample.root, "--png", tmp_path / "b.png")

    blue = np.abs(imread(tmp_path / "a.png")[..., :3] - np.array([0x2F, 0x7E, 0xD8]) / 255).max(axis=2) < 0.01
    assert code == 0
    assert str(tmp_path / "a.png") in err
    assert 0.2 < blue.mean() < 0.9
    assert imread(tmp_path / "b.png").shape[0] > 400  # 14 rows of years, and 10


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["QQQ/1day"], 3, "QQQ/1day is not in"),
        (["--store", "s3://bucket/bars"], 2, "is a URL"),
        (["--store", "{store}/none"], 3, "there is no store at"),
        (["AAPL"], 2, "has no bar size"),
        (["--png", "{store}/STORE.json/place.png"], 1, "choose another place"),
        (["--png", "{store}/picture.xyz"], 2, ".png"),
    ],
)
def test_a_mistake_is_one_sentence(call, store, words, code, said):
    ended, _, err = call("verify", "--store", store.root, *(word.format(store=store.root) for word in words))

    assert ended == code
    assert said in err
    assert "Traceback" not in err


def test_a_store_without_a_series_is_nothing_to_verify(call, tmp_path):
    mark_store(tmp_path)

    code, out, err = call("verify", "--store", tmp_path)

    assert (code, out) == (3, "")
    assert f"{tmp_path} holds no bars" in err


def test_ls_counts_sessions_from_the_manifests_alone(call, store):
    for path in store.root.rglob("*.parquet"):
        path.unlink()

    code, out, _ = call("ls", "--store", store.root, "--json")

    document = json.loads(out)
    assert code == 0
    assert document["series"][str(DAILY)]["sessions_expected"] == 61
    assert document["series"][str(MINUTES)]["sessions_missing"] == 0
    assert document["total"] == {
        "series": 2,
        "bars": 61 * 391,
        "bytes": sum(row["bytes"] for row in document["series"].values()),
    }


@pytest.mark.slow
def test_ls_shows_what_is_missing(call, store):
    flip(segments(store)[1])
    mended(store)

    _, out, _ = call("ls", "AAPL/1min", "--store", store.root)
    _, document, _ = call("ls", "AAPL/1min", "--store", store.root, "--json")

    assert "41/61" in out
    assert json.loads(document)["series"][str(MINUTES)]["sessions_missing"] == 20


def test_ls_lists_the_others_beside_a_damaged_series(call, store):
    flip(store.folder(MINUTES) / "manifest.json")

    code, out, err = call("ls", "--store", store.root)

    assert code == 3
    assert "IBM/1day" in out
    assert str(Path(f"{MINUTES}/manifest.json")) in err


def test_stores_of_every_released_version_are_sound():
    for folder in sorted((SUPPORT / "stores").glob("[0-9]*")):
        assert code(folder) in (0, 1), folder
