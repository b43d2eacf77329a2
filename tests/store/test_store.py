import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import storage
from forking import WRITERS, forked
from judge import complaints
from places import ROOT, SUPPORT

from backtest.errors import BadBars, BadStore, Conflict, DamagedStore, NoBars
from backtest.market.bars import schema, table_of
from backtest.market.series import ContractDetails, Series
from backtest.market.span import Span
from backtest.store.audit.listing import list_series
from backtest.store.manifest import Manifest
from backtest.store.manifest_json import to_bytes
from backtest.store.store import Store

DAILY = Series.parse("AAPL/1day")
MINUTES = Series.parse("AAPL/1min")


_BEGINNING = """
import sys, threading
from datetime import UTC, datetime
from backtest.market.bars import table_of
from backtest.store.store import Store
bars = table_of([(datetime(2024, 1, 2, tzinfo=UTC), 10.0, 12.0, 9.0, 11.0, 1.0, None, None)])
store, ended = Store(sys.argv[1]), threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set())).start()
print("ready", flush=True)
while not ended.is_set():
    for symbol in "ABCDEFGH":
        store.write(f"{symbol}/1day", ("2024-01-02", "2024-01-02"), bars)
    for symbol in "ABCDEFGH":
        store.drop(f"{symbol}/1day")
"""


def days(first, last):
    return Span.of_dates(date(2024, 1, first), date(2024, 1, last))


def daily(first, last, close=11.0):
    return table_of(
        [(datetime(2024, 1, n, tzinfo=UTC), 10.0, 12.0, 9.0, close, 1.0, None, None) for n in range(first, last + 1)]
    )


def minutes(start, count):
    return table_of([(start + timedelta(minutes=n), 10.0, 12.0, 9.0, 11.0, 5.0, 10.5, 3) for n in range(count)])


def files(store, series):
    return {path.name for path in (store.folder(series) / "bars").iterdir()}


def test_what_is_written_is_read_again(tmp_path):
    store = Store(tmp_path / "bars")

    added = store.write(DAILY, days(2, 5), daily(2, 5))

    assert added == 4
    assert Store(tmp_path / "bars").read(DAILY).equals(daily(2, 5))


def begin(store, series):
    """Make of a series what a writer leaves who is killed before its first commit."""
    (store.folder(series) / "bars").mkdir(parents=True)
    (store.folder(series) / "manifest.json").write_bytes(to_bytes(Manifest(series.key)))


@pytest.mark.parametrize("name", ["AAPL/1min", "BRK B+primary=NYSE/1day", "ES-FUT-CME-USD-202606/5mins"])
@pytest.mark.parametrize("bars", [0, 3])
def test_a_series_without_a_commit_is_listed_by_nobody(tmp_path, name, bars):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5))
    begin(store, Series.parse(name))
    for number in range(bars):  # segments come before the manifest that names them
        (store.folder(name) / "bars" / f"2024-0{number + 1}.8139f5ddaac6.parquet").write_bytes(b"PAR1")

    listed = [entry.series for entry in list_series(store)]

    assert (store.series(), listed) == ([DAILY], [DAILY])
    with pytest.raises(NoBars, match=re.escape(Series.parse(name).short)):
        list_series(store, [Series.parse(name)])


def test_a_series_of_which_the_vendor_has_nothing_is_listed(tmp_path):
    store = Store(tmp_path)

    store.write(DAILY, days(2, 5), daily(2, 5).slice(0, 0))

    assert [entry.bars for entry in list_series(store)] == [0]


def test_the_first_write_after_one_that_was_killed_finishes_the_series(tmp_path):
    store = Store(tmp_path)
    store.write(MINUTES, days(2, 3), minutes(datetime(2024, 1, 2, 14, 30, tzinfo=UTC), 3))
    begin(store, DAILY)

    store.write(DAILY, days(2, 5), daily(2, 5))

    assert store.series() == [DAILY, MINUTES]
    assert len(store.read(DAILY)) == 4


@pytest.mark.crash
def test_every_list_succeeds_while_another_process_begins_and_drops_series(tmp_path):
    Store(tmp_path).write(DAILY, days(2, 5), daily(2, 5))
    writer = subprocess.Popen(
        [sys.executable, "-c", _BEGINNING, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        assert writer.stdout.readline() == b"ready\n"
        lists = [{entry.series for entry in list_series(Store(tmp_path))} for _ in range(300)]
    finally:
        writer.communicate(b"")

    assert writer.returncode == 0
    assert all(DAILY in listed for listed in lists)


def test_the_same_answer_again_adds_nothing_and_leaves_the_files(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5))
    before = files(store, DAILY)

    added = store.write(DAILY, days(2, 5), daily(2, 5))

    assert added == 0
    assert files(store, DAILY) == before


def test_a_gap_is_what_was_never_answered_not_what_has_no_bars(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 3), daily(2, 3))
    store.write(DAILY, days(6, 7), schema().empty_table(), text="no data")

    assert store.gaps(DAILY, days(1, 9)) == [days(1, 1), days(4, 5), days(8, 9)]


def test_an_overlap_that_agrees_joins_and_an_earlier_part_goes_in_front(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(4, 6), daily(4, 6))

    added = store.write(DAILY, days(2, 5), daily(2, 5))

    assert added == 2
    assert store.read(DAILY).equals(daily(2, 6))


@pytest.mark.parametrize("answer", [daily(3, 4, close=11.01), daily(3, 3)], ids=["another price", "a bar gone"])
def test_a_disagreeing_overlap_is_a_conflict_and_changes_nothing(tmp_path, answer):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5))
    before = store.manifest(DAILY)

    with pytest.raises(Conflict, match="stored bars were kept"):
        store.write(DAILY, days(3, 4), answer)

    assert store.manifest(DAILY) == before
    assert store.read(DAILY).equals(daily(2, 5))


def test_a_revision_wins_and_the_old_file_goes_to_the_archive(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5))
    (old,) = files(store, DAILY)

    store.write(DAILY, days(2, 5), daily(2, 5, close=11.5), revise=True)

    assert store.read(DAILY).equals(daily(2, 5, close=11.5))
    assert (store.folder(DAILY) / "archive" / old).exists()
    assert files(store, DAILY) == {segment.file for segment in store.manifest(DAILY).segments}


def test_a_revision_that_only_adds_bars_archives_nothing(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5))

    store.write(DAILY, days(2, 8), daily(2, 8), revise=True)

    assert store.manifest(DAILY).archived == ()
    assert store.read(DAILY).equals(daily(2, 8))


def test_minutes_are_kept_by_month_and_an_append_leaves_old_months_alone(tmp_path):
    store = Store(tmp_path)
    january, february = datetime(2024, 1, 31, 15, tzinfo=UTC), datetime(2024, 2, 1, 15, tzinfo=UTC)
    store.write(MINUTES, Span(january, january + timedelta(hours=1)), minutes(january, 60))
    before = files(store, MINUTES)

    store.write(MINUTES, Span(february, february + timedelta(hours=1)), minutes(february, 60))

    assert before < files(store, MINUTES)
    assert {name[:7] for name in files(store, MINUTES)} == {"2024-01", "2024-02"}


@pytest.mark.slow
def test_an_append_writes_the_month_it_touches_and_not_the_years_before(tmp_path):
    rows = dict(storage.appending(tmp_path, storage.minute_bars(3), 3))

    most = int(rows["bytes written, 3 years"].split()[-1].replace(",", ""))
    assert 0 < most < 150_000
    assert float(rows["bytes, 3 years over 1 year"]) < 1.2


def test_a_span_is_read_without_the_rest(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 9), daily(2, 9))

    assert store.read(DAILY, days(4, 5)).equals(daily(4, 5))


def test_any_reader_of_parquet_sees_the_same_bars(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 9), daily(2, 9))

    plain = pd.read_parquet(store.folder(DAILY) / "bars").sort_values("time")

    pd.testing.assert_frame_equal(plain, store.read(DAILY).to_pandas())


def test_any_reader_sees_the_bars_of_the_sample_and_of_many_months_bit_for_bit(sample, intraday):
    for store in (sample, intraday):
        for series in store.series():
            plain = pd.read_parquet(store.folder(series) / "bars").sort_values("time", ignore_index=True)

            pd.testing.assert_frame_equal(plain, store.read(series).to_pandas(), check_exact=True)


def test_the_content_is_the_same_however_the_bars_arrived(tmp_path):
    at_once, by_parts = Store(tmp_path / "a"), Store(tmp_path / "b")
    at_once.write(DAILY, days(2, 9), daily(2, 9))
    by_parts.write(DAILY, days(6, 9), daily(6, 9))
    by_parts.write(DAILY, days(2, 5), daily(2, 5))

    assert by_parts.manifest(DAILY).content == at_once.manifest(DAILY).content


def test_the_contract_is_kept_beside_the_bars(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5), contract=ContractDetails(265598, "AAPL"))
    store.write(DAILY, days(6, 6), daily(6, 6))

    assert store.manifest(DAILY).contract == ContractDetails(265598, "AAPL")


def test_a_bar_outside_of_what_was_asked_is_refused(tmp_path):
    with pytest.raises(BadBars, match="outside"):
        Store(tmp_path).write(DAILY, days(2, 4), daily(2, 5))


def test_an_unknown_series_names_the_command_that_helps(tmp_path):
    with pytest.raises(NoBars, match="backtest download AAPL/1day"):
        Store(tmp_path).read(DAILY)


def test_a_store_in_a_folder_that_may_not_be_listed_is_written(tmp_path):
    (tmp_path / "shared" / "bars").mkdir(parents=True)
    (tmp_path / "shared").chmod(0o311)  # which says nothing to root

    assert Store(tmp_path / "shared" / "bars").write(DAILY, days(2, 5), daily(2, 5)) == 4


def test_a_folder_with_something_else_is_no_store(tmp_path):
    (tmp_path / "thesis.doc").write_text("my only copy")

    with pytest.raises(BadStore, match="not a store"):
        Store(tmp_path)


def test_a_store_of_a_newer_format_is_refused(tmp_path):
    (tmp_path / "STORE.json").write_text(json.dumps({"format": 3}))

    with pytest.raises(BadStore, match="newer ib-backtest"):
        Store(tmp_path)


def test_what_a_killed_first_writer_leaves_is_still_an_empty_store(tmp_path):
    (tmp_path / ".tmp-99-STORE.json").write_text("{")

    assert Store(tmp_path).write(DAILY, days(2, 5), daily(2, 5)) == 4


def test_leftovers_of_a_killed_writer_are_not_read_and_are_swept(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5))
    stray = store.folder(DAILY) / "bars" / "all.0123456789ab.parquet"
    stray.write_bytes(b"half a segm")

    assert store.read(DAILY).equals(daily(2, 5))
    store.write(DAILY, days(6, 6), daily(6, 6))
    assert not stray.exists()


def test_every_flipped_byte_of_a_store_is_noticed(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5))
    paths = [path for path in tmp_path.rglob("*") if path.is_file() and path.name not in (".lock", ".gitattributes")]
    unnoticed = [
        (path, place) for path in paths for place in range(0, path.stat().st_size, 7) if not noticed(path, place)
    ]

    assert not unnoticed


def noticed(path, place):
    good = path.read_bytes()
    path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
    root = next(folder for folder in path.parents if (folder / "STORE.json").exists())
    try:
        Store(root).read(DAILY)
    except (DamagedStore, BadStore):
        return True
    finally:
        path.write_bytes(good)
    return False


def test_a_lost_segment_is_damage_and_not_an_empty_market(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5))
    (name,) = files(store, DAILY)
    (store.folder(DAILY) / "bars" / name).unlink()

    with pytest.raises(DamagedStore, match=name):
        store.read(DAILY)


def test_a_lost_manifest_is_damage_and_not_a_new_series(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5))
    (store.folder(DAILY) / "manifest.json").unlink()

    with pytest.raises(DamagedStore, match="lost"):
        store.write(DAILY, days(6, 6), daily(6, 6))


@pytest.mark.slow
def test_a_write_killed_at_any_call_leaves_the_old_or_the_new_state(tmp_path):
    calls = 0
    while True:
        root = tmp_path / str(calls)
        Store(root).write(DAILY, days(2, 5), daily(2, 5))
        finished = write_in_a_child(root, calls)
        bars = Store(root).read(DAILY)
        assert bars.equals(daily(2, len(bars) + 1))
        assert len(bars) in (4, 5)
        Store(root).write(DAILY, days(6, 8), daily(6, 8))
        assert Store(root).read(DAILY).equals(daily(2, 8))
        if finished:
            break
        calls += 1
    assert calls > 5  # a write makes more calls than that: the loop did kill it


def write_in_a_child(root, calls):
    """Append a bar in a child process that kills itself before the n-th call that changes the disk."""
    return forked(WRITERS, [SUPPORT / "writer.py", root, 6, 6, calls])[0] == 0


def writer(root, first, last):
    return subprocess.Popen([sys.executable, SUPPORT / "writer.py", root, str(first), str(last), "-1"])


@pytest.mark.slow
@pytest.mark.parametrize("job", ["create", "append", "revise", "quarantine", "prune", "drop"])
def test_a_disk_that_fails_at_any_call_leaves_the_old_or_the_new_state_and_no_rubbish(tmp_path, job):
    code, said = forked(WRITERS, [SUPPORT / "failing_writer.py", job, tmp_path, "EIO"])
    assert code == 0, said
    results = json.loads(said)
    old, new = outcome(tmp_path / "pristine"), outcome(Path(results[-1]["root"]))

    assert len(results) > 5
    assert results[-1]["error"] == ""  # no call was left to fail
    for result in results:
        store = Store(result["root"])
        state = outcome(store.root)
        assert state in ([old, new] if result["error"] else [new])
        assert state == new or not strays(store)  # what is committed may not be swept yet
        store.write(DAILY, days(1, 9), daily(1, 9, close=11.7), revise=True)
        assert complaints(store.root) == []


def test_answers_put_aside_are_thrown_away_only_on_order(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(1, 9), daily(1, 9))
    paths = [store.quarantine(DAILY, days(2, 5), daily(2, 5, close=close), "no") for close in (11.7, 11.8)]
    size = sum(path.stat().st_size for path in paths)

    store.prune(DAILY)
    assert store.manifest(DAILY).aside == tuple(sorted(path.name for path in paths))
    assert (store.discard_aside(DAILY), store.discard_aside(DAILY)) == (size, 0)
    assert [path for path in paths if path.exists()] == complaints(store.root) == []
    assert store.read(DAILY).equals(daily(1, 9))


def strays(store):
    """Return what a reader of the plain folder would see twice."""
    known = {segment.file for segment in store.manifest_or_empty(DAILY).segments}
    return [path for path in (store.folder(DAILY) / "bars").glob("*") if path.name not in known]


def outcome(root):
    """Return all that a reader sees of a store."""
    store = Store(root)
    manifest = store.manifest_or_empty(DAILY)
    seen = store.read(DAILY) if manifest.rows else None
    return seen, [replace(revision, at=None, replaced=()) for revision in manifest.revisions]


@pytest.mark.slow
def test_two_processes_that_write_at_once_lose_nothing(tmp_path):
    children = [writer(tmp_path, first, first + 9) for first in (1, 11, 21)]

    assert [child.wait() for child in children] == [0, 0, 0]
    assert Store(tmp_path).read(DAILY).equals(daily(1, 30))


def test_the_sample_is_the_one_whose_hashes_are_documented():
    data = ROOT / "data"
    listed = dict(
        reversed(line.split())
        for line in re.search("```sha256\n(.*?)```", (data / "README.md").read_text(), re.S)[1].splitlines()
    )

    present = {
        path.relative_to(data).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (data / "sample").rglob("*")
        if path.is_file()
    }

    assert present == listed


def test_the_sample_has_no_split_left_in_it():
    sample = Store(ROOT / "data" / "sample")

    for series in sample.series():
        closes = sample.read(series)["close"].to_pandas()
        assert closes.pct_change().abs().max() < 0.55, series  # AAPL did fall by 52 % on 2000-09-29


def test_the_sample_is_what_its_source_says():
    from bokeh_sampledata import stocks

    sample = Store(ROOT / "data" / "sample")
    raw = pd.DataFrame(stocks.MSFT).set_index("date")
    served = sample.read(Series.parse("MSFT/1day")).to_pandas().set_index("time")

    assert served.loc["2003-02-14", "close"] == raw.loc["2003-02-14", "close"] / 2
    assert served.loc["2003-02-14", "volume"] == raw.loc["2003-02-14", "volume"] * 2
    assert served.loc["2003-02-18", "close"] == raw.loc["2003-02-18", "close"]
    assert served.loc["2013-03-01", "close"] == raw.loc["2013-03-01", "close"]


def test_adjusted_returns_of_the_sample_are_those_of_the_sources_adjusted_close():
    from bokeh_sampledata import stocks

    sample = Store(ROOT / "data" / "sample")
    adjusted = sample.read(Series.parse("IBM/1day/ADJUSTED_LAST"))["close"].to_pandas()
    theirs = pd.Series(stocks.IBM["adj_close"])

    assert (adjusted.pct_change() - theirs.pct_change()).abs().max() < 2e-6  # prices are kept to 4 decimals
    assert adjusted.iloc[-1] == stocks.IBM["close"][-1]


def test_what_is_written_is_stamped_by_the_stores_own_clock(sample, tmp_path):
    store = Store(tmp_path, clock=lambda: datetime(2028, 2, 29, 23, 58, tzinfo=UTC))
    series = Series.parse("AAPL/1day")
    span = Span.of_dates(date(2001, 1, 2), date(2001, 2, 1))
    bars = sample.read(series, span)

    store.write(series, span, bars)
    aside = store.quarantine(series, span, bars, "not believed")
    store.staging().write(series, span, bars)

    at = "2028-02-29T23:58:00+00:00"
    assert [answer.at.isoformat() for answer in store.manifest(series).answers] == [at]
    assert [answer.at.isoformat() for answer in store.staging().manifest(series).answers] == [at]
    assert at.encode() in aside.read_bytes()


def test_what_a_killed_prune_did_not_come_to_remove_is_removed_by_the_next(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5))
    store.write(DAILY, days(2, 5), daily(2, 5, close=10.5), revise=True)
    archive = store.folder(DAILY) / "archive"
    kept = {path.name: path.read_bytes() for path in archive.iterdir()}
    store.prune(DAILY)
    for name, data in kept.items():
        (archive / name).write_bytes(data)  # as after a kill between the manifest and the removal

    freed = store.prune(DAILY)

    assert kept
    assert (freed, list(archive.iterdir())) == (0, [])
