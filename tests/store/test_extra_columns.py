"""Extra columns in a store: what is kept of them, what of the bars' own columns does not change with them."""

import hashlib
import json
import shutil
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from judge import complaints
from places import SUPPORT
from stores.make_store import DAILY, MINUTES, NOON, daily, days, minutes

from backtest.downloads.downloader import download
from backtest.emulator.server import Gateway
from backtest.errors import BadBars, BadStore, BrokenPin, Conflict, DamagedStore
from backtest.market.bars import COLUMNS, rows_digest, schema
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.sources.connect import connect
from backtest.store import pins
from backtest.store.audit.listing import list_series
from backtest.store.audit.repairs import repair
from backtest.store.audit.verification import verify
from backtest.store.manifest_json import of_bytes, to_bytes
from backtest.store.publishing import publish
from backtest.store.store import Store, open_store

HOUR = timedelta(hours=1)


def with_columns(bars, **columns):
    """Return bars with extra columns of these numbers."""
    for name, numbers in columns.items():
        bars = bars.append_column(pa.field(name, pa.float64()), pa.array(numbers, pa.float64()))
    return bars


def column(store, name, series=DAILY, **options):
    return store.read(series, **options)[name].to_pylist()


def manifest_record(store, series=DAILY):
    return json.loads((store.folder(series) / "manifest.json").read_bytes().rpartition(b"#")[0])


@pytest.fixture
def store(tmp_path):
    """Return a store of four days, 2 to 5 January, with a signal on three of them."""
    made = Store(tmp_path / "bars")
    made.write(DAILY, days(2, 5), with_columns(daily(2, 5), signal=[1, None, -1, 0.5]))
    return made


# --- kept as they came


def test_the_columns_come_back_behind_those_of_every_bar_in_the_order_in_which_they_came(tmp_path):
    store, bars = Store(tmp_path), with_columns(daily(2, 3), signal=[1, None], score=[0.25, -1e300])

    store.write(DAILY, days(2, 3), bars)

    assert store.read(DAILY).equals(bars)
    assert store.manifest(DAILY).extra == ("signal", "score")
    assert store.read(DAILY).column_names == [*COLUMNS, "signal", "score"]
    assert complaints(store.root) == []


def test_another_order_in_a_later_answer_changes_nothing(tmp_path):
    store, bars = Store(tmp_path), with_columns(daily(2, 3), signal=[1, None], score=[0.25, 2])
    store.write(DAILY, days(2, 3), bars)

    store.write(DAILY, days(2, 4), with_columns(daily(2, 4), score=[0.25, 2, 3], signal=[1, None, 7]))

    assert store.read(DAILY).equals(with_columns(daily(2, 4), signal=[1, None, 7], score=[0.25, 2, 3]))


def test_any_reader_of_parquet_finds_them_in_the_files(store):
    (path,) = (store.folder(DAILY) / "bars").iterdir()

    assert pq.read_table(path, partitioning=None)["signal"].to_pylist() == [1, None, -1, 0.5]


def test_a_series_without_them_is_the_same_to_the_byte_beside_one_with_them(tmp_path):
    plain, beside = Store(tmp_path / "plain"), Store(tmp_path / "beside")
    at = datetime(2024, 3, 1, tzinfo=UTC)
    beside.write(MINUTES, Span(NOON, NOON + HOUR), with_columns(minutes(NOON, 60), signal=[1] * 60), at=at)

    for one in (plain, beside):
        one.write(DAILY, days(2, 5), daily(2, 5), at=at)

    files = [
        {path.relative_to(one.folder(DAILY)): path.read_bytes() for path in one.folder(DAILY).rglob("*.*")}
        for one in (plain, beside)
    ]
    assert files[0] == files[1]
    assert manifest_record(beside)["format"] == 2
    assert (beside.root / "STORE.json").read_bytes() == (plain.root / "STORE.json").read_bytes()


def test_a_series_with_them_has_a_format_that_older_versions_refuse(store):
    assert manifest_record(store)["format"] == 3
    assert json.loads((store.root / "STORE.json").read_text())["format"] == 2  # so its other series can still be read


def test_a_series_of_a_later_format_is_refused_with_what_to_do(store):
    path = store.folder(DAILY) / "manifest.json"
    path.write_bytes(hashed(path.read_bytes().replace(b'"format": 3', b'"format": 4')))

    with pytest.raises(BadStore, match="format 4, but this version reads formats up to 3; install a newer ib-backtest"):
        store.read(DAILY)


def hashed(data):
    body = data.rpartition(b"#sha256 ")[0]
    return body + f"#sha256 {hashlib.sha256(body).hexdigest()}\n".encode()


def test_a_store_that_has_them_is_kept_and_read_as_it_was_written(tmp_path):
    kept = Store(shutil.copytree(SUPPORT / "stores" / "extra", tmp_path / "store"))

    assert column(kept, "signal") == [1, None, -1, 0.5, None]
    assert column(kept, "score") == [None, None, None, 7, 8]
    assert column(kept, "signal", revision=1) == [1, None, -1, 0]
    assert complaints(kept.root) == []


# --- added, changed, left as they are


def test_a_later_column_is_added_and_is_null_in_the_bars_that_were_there(store):
    before = store.manifest(DAILY).generation

    added = store.write(DAILY, days(8, 9), with_columns(daily(8, 9), score=[7, 8]))

    assert added == 2
    assert column(store, "signal") == [1, None, -1, 0.5, None, None]
    assert column(store, "score") == [None] * 4 + [7, 8]
    assert store.manifest(DAILY).generation == before + 1
    assert complaints(store.root) == []


def test_a_number_where_there_was_none_is_an_addition_and_no_conflict(store):
    store.write(DAILY, days(2, 5), with_columns(daily(2, 5), signal=[1, 9, -1, 0.5]))

    assert column(store, "signal") == [1, 9, -1, 0.5]
    assert store.revisions(DAILY) == []


@pytest.mark.parametrize("numbers", [[1, None, -1, 0.25], [None, None, -1, 0.5]], ids=["other", "gone"])
def test_another_number_or_none_where_there_was_one_is_a_conflict_that_names_the_column(store, numbers):
    before = store.read(DAILY)

    with pytest.raises(Conflict, match=r"1 of 4 stored bars .* signal (0\.5|1\.0), new .* signal (0\.25|nothing)"):
        store.write(DAILY, days(2, 5), with_columns(daily(2, 5), signal=numbers))

    assert store.read(DAILY).equals(before)


def test_a_revision_takes_the_new_numbers_and_the_old_ones_can_still_be_read(store):
    store.write(DAILY, days(2, 5), with_columns(daily(2, 5), signal=[0, 0, 0, 0]), revise=True)

    assert column(store, "signal") == [0, 0, 0, 0]
    assert column(store, "signal", revision=1) == [1, None, -1, 0.5]
    assert [one.bars for one in store.revisions(DAILY)] == [3]


def test_bars_from_before_a_column_was_added_are_null_in_it(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 3), daily(2, 3))
    store.write(DAILY, days(2, 3), with_columns(daily(2, 3, close=11.5), signal=[1, 2]), revise=True)

    assert column(store, "signal", revision=1) == [None, None]
    assert store.read(DAILY, revision=1).select(COLUMNS).equals(daily(2, 3))


def test_an_answer_without_them_leaves_them_as_they_are_even_where_it_revises_prices(store):
    store.write(DAILY, days(4, 9), daily(4, 9, close=10.5), revise=True)

    assert column(store, "close") == [11, 11, 10.5, 10.5, 10.5, 10.5, 10.5, 10.5]
    assert column(store, "signal") == [1, None, -1, 0.5, None, None, None, None]
    assert complaints(store.root) == []


def test_an_answer_of_no_bars_leaves_them_as_they_are(store):
    store.write(DAILY, days(6, 7), schema().empty_table(), text="no data")

    assert column(store, "signal") == [1, None, -1, 0.5]


def test_a_series_that_is_read_anew_keeps_them_by_their_times(store, tmp_path):
    beside = Store(tmp_path / "beside")
    beside.write(DAILY, days(1, 9), daily(3, 8, close=10.0))

    store.replace(DAILY, beside)

    assert column(store, "close") == [10.0] * 6
    assert column(store, "signal") == [None, -1, 0.5, None, None, None]


def test_a_column_in_which_there_is_no_number_at_all_is_known_all_the_same(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 3), with_columns(daily(2, 3), signal=[None, None]))

    assert store.read(DAILY).column_names[-1] == "signal"
    assert store.manifest(DAILY).content == content_of_plain(tmp_path)


def content_of_plain(tmp_path):
    plain = Store(tmp_path / "plain")
    plain.write(DAILY, days(2, 3), daily(2, 3))
    return plain.manifest(DAILY).content


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"signal": [float("inf")]}, "signal not finite"),
        ({"signal": [float("nan")]}, "signal not finite"),
        ({"lines": [1]}, "'lines' cannot be a line"),
        ({"class": [1]}, "no Python keyword"),
        ({"close": [1]}, "is part of every bar"),
        ({"signal": [1], "Signal": [2]}, "capital letters only"),
    ],
)
def test_what_cannot_be_a_line_of_numbers_is_refused_at_the_door(tmp_path, columns, said):
    store = Store(tmp_path)

    with pytest.raises(BadBars, match=said):
        store.write(DAILY, days(2, 2), with_columns(daily(2, 2), **columns))

    assert store.series() == []


def test_a_column_of_another_type_is_refused_at_the_door(tmp_path):
    with pytest.raises(BadBars, match="extra ones of double"):
        Store(tmp_path).write(DAILY, days(2, 2), daily(2, 2).append_column("signal", pa.array([1])))


def test_a_name_that_differs_from_a_stored_one_by_capital_letters_is_refused(store):
    with pytest.raises(BadBars, match=r"stored with the extra columns signal, .*'Signal' differs"):
        store.write(DAILY, days(8, 8), with_columns(daily(8, 8), Signal=[1]))

    assert len(store.read(DAILY)) == 4


# --- digests and pins


def test_another_number_another_name_and_a_null_make_another_digest():
    tables = [
        with_columns(daily(2, 3), signal=[1, 2]),
        with_columns(daily(2, 3), signal=[1, 3]),
        with_columns(daily(2, 3), signal=[1, None]),
        with_columns(daily(2, 3), signal=[1, 0]),
        with_columns(daily(2, 3), score=[1, 2]),
        with_columns(daily(2, 3), signal=[1, 2], score=[1, 2]),
        daily(2, 3),
    ]

    assert len({rows_digest(one) for one in tables}) == len(tables)


def test_a_pin_breaks_with_an_edited_signal_and_says_how_many_cells_differ(store, tmp_path):
    lock = tmp_path / "data.lock"
    pins.add(store, lock, [DAILY])
    store.write(DAILY, days(5, 5), with_columns(daily(5, 5), signal=[0.25]), revise=True)

    (report,) = pins.examine(store, lock)

    assert report.status == "broken"
    assert [str(one) for one in report.changes] == ["2024-01: 4 bars pinned, 0 gone, 0 added, 1 cells differ"]
    with pytest.raises(BrokenPin):
        pins.pinned_span(store, lock, [DAILY])


def test_a_pin_holds_while_columns_are_added_to_other_months(tmp_path):
    store, lock, second = Store(tmp_path / "bars"), tmp_path / "data.lock", NOON + timedelta(days=1)
    for first in (NOON, second):
        store.write(MINUTES, Span(first, first + HOUR), minutes(first, 60))
    pins.add(store, lock, [MINUTES], (date(2024, 1, 31), date(2024, 1, 31)))

    store.write(MINUTES, Span(second, second + HOUR), with_columns(minutes(second, 60), signal=[1] * 60))

    assert [one.status for one in pins.examine(store, lock)] == ["held"]
    assert column(store, "signal", MINUTES) == [None] * 60 + [1] * 60


def test_the_digest_of_a_month_is_the_same_from_the_manifest_and_from_the_bars(tmp_path):
    store, second = Store(tmp_path / "bars"), NOON + timedelta(days=1)
    store.write(MINUTES, Span(NOON, NOON + HOUR), with_columns(minutes(NOON, 60), signal=[1] * 60))
    store.write(MINUTES, Span(second, second + HOUR), with_columns(minutes(second, 60), score=[2] * 60))

    bars, segments = store.read(MINUTES), store.manifest(MINUTES).segments

    assert [rows_digest(bars[:60]), rows_digest(bars[60:])] == [one.rows_sha256 for one in segments]
    assert [one.extra for one in segments] == [("signal",), ("score",)]


# --- damage, repairs, strangers


def test_a_segment_that_loses_or_changes_its_columns_is_damage(store):
    (path,) = (store.folder(DAILY) / "bars").iterdir()
    whole = path.read_bytes()
    for place in range(0, len(whole), 41):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DamagedStore):
            store.read(DAILY)


def test_a_lost_manifest_is_rebuilt_with_the_columns_of_the_segments(store):
    before = store.read(DAILY)
    (store.folder(DAILY) / "manifest.json").unlink()

    list(repair(store.root, list(verify(store.root))))

    assert store.read(DAILY).equals(before)
    assert store.manifest(DAILY).extra == ("signal",)


def test_a_manifest_is_rebuilt_with_the_columns_in_the_order_that_all_segments_have(tmp_path):
    store = Store(tmp_path)
    for number, names in enumerate([["a", "b", "c"], ["a", "c"], ["b", "c"], ["a", "b"]]):
        first = datetime(2024, 4 - number, 1, 12, tzinfo=UTC)
        columns = {name: [number] * 60 for name in names}
        store.write(MINUTES, Span(first, first + HOUR), with_columns(minutes(first, 60), **columns))
    before = store.read(MINUTES)
    (store.folder(MINUTES) / "manifest.json").unlink()
    (longest,) = (store.folder(MINUTES) / "bars").glob("2024-04.*")
    longest.unlink()

    list(repair(store.root, list(verify(store.root))))

    assert store.read(MINUTES).equals(before.slice(0, 180))
    assert [one.rows_sha256 for one in store.manifest(MINUTES).segments] == [
        rows_digest(before.slice(60 * n, 60)) for n in range(3)
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"extra": [\n"signal"\n]', b'"extra": []'),
        (b'"extra": [\n"signal"\n]', b'"extra": [\n"score"\n]'),
        (b'"extra": [\n"signal"\n]', b'"extra": [\n"signal",\n"lines"\n]'),
        (b'"extra": [\n"signal"\n]', b'"extra": [\n7\n]'),
        (b'"extra": [\n"signal"\n]', b'"extra": "signal"'),
        (b'["signal"]]', b'["signal", "../x"]]'),
        (b'["signal"]]', b'["signal"], []]'),
        (b'["signal"]]', b"7]"),
        (b'"format": 3', b'"format": 2'),
    ],
)
def test_a_manifest_that_says_what_cannot_be_is_damage(store, old, new):
    path = store.folder(DAILY) / "manifest.json"
    assert old in path.read_bytes()
    path.write_bytes(hashed(path.read_bytes().replace(old, new)))

    with pytest.raises(DamagedStore):
        store.read(DAILY)


def test_a_manifest_comes_back_from_its_bytes(store):
    manifest = store.manifest(DAILY)

    assert of_bytes(to_bytes(manifest), "x", DAILY) == manifest


# --- elsewhere


def test_a_published_store_has_them_and_takes_more_of_them(store, tmp_path):
    url = (tmp_path / "there").as_uri()
    publish(store, url)
    store.write(DAILY, days(2, 5), with_columns(daily(2, 5), signal=[1, 2, -1, 0.5], score=[1, 2, 3, 4]))

    publish(store, url)

    assert open_store(url).read(DAILY).equals(store.read(DAILY))


def test_publishing_never_undoes_signals_that_this_store_lacks(store, tmp_path):
    url, other = (tmp_path / "there").as_uri(), Store(tmp_path / "other")
    publish(store, url)
    other.write(DAILY, days(2, 5), daily(2, 5))

    with pytest.raises(Conflict, match="lacks 3 bars, the first at 2024-01-02"):
        publish(other, url)


def test_a_listing_names_them_and_says_nothing_of_them_where_there_are_none(store):
    store.write(MINUTES, Span(NOON, NOON + HOUR), minutes(NOON, 60))

    with_them, without = (entry.to_dict() for entry in list_series(store))

    assert with_them["extra"] == ["signal"]
    assert "extra" not in without


def test_the_emulator_serves_the_bars_without_them(tmp_path, sample):
    span, vendor = Span.of_dates(date(2012, 1, 3), date(2012, 3, 30)), Store(tmp_path / "vendor")
    plain = sample.read(APPLE, span)
    contract = sample.manifest(APPLE).contract
    vendor.write(APPLE, span, with_columns(plain, signal=range(len(plain))), contract=contract)

    fill(vendor, tmp_path / "bars", date(2012, 3, 30))

    assert Store(tmp_path / "bars").read(APPLE).equals(plain)


APPLE = Series.parse("AAPL/1day")


def fill(vendor, folder, until, **options):
    noon = datetime(until.year, until.month, until.day, 12, tzinfo=UTC) + timedelta(days=1)
    with Gateway(vendor, clock=lambda: noon) as gateway, connect(gateway.address) as source:
        (report,) = download(folder, source, APPLE, (date(2012, 1, 3), until), **options).series
    return report


def test_a_download_into_a_series_with_them_adds_bars_and_leaves_them_as_they_are(tmp_path, sample):
    first, last = Span.of_dates(date(2012, 1, 3), date(2012, 3, 30)), Span.of_dates(date(2012, 1, 3), date(2012, 4, 30))
    vendor, mine = Store(tmp_path / "vendor"), Store(tmp_path / "bars")
    contract = sample.manifest(APPLE).contract
    vendor.write(APPLE, last, sample.read(APPLE, last), contract=contract)
    bars = sample.read(APPLE, first)
    numbers = [float(n) if n % 3 else None for n in range(len(bars))]
    mine.write(
        APPLE, first, with_columns(bars, signal=numbers), contract=contract, at=datetime(2012, 3, 31, tzinfo=UTC)
    )

    report = fill(vendor, mine.root, date(2012, 4, 30))

    assert report.status == "complete"
    assert mine.read(APPLE).select(COLUMNS).equals(sample.read(APPLE, last))
    assert column(mine, "signal", APPLE) == numbers + [None] * report.bars_added
    assert report.revisions == ()
    assert report.bars_added > 10


def test_after_a_split_the_numbers_stay_with_their_bars(tmp_path, sample):
    span, vendor, mine = (
        Span.of_dates(date(2012, 1, 3), date(2012, 4, 30)),
        Store(tmp_path / "v"),
        Store(tmp_path / "b"),
    )
    first, contract = Span.of_dates(date(2012, 1, 3), date(2012, 3, 30)), sample.manifest(APPLE).contract
    bars = sample.read(APPLE, span)
    halves = bars
    for name in ("open", "high", "low", "close"):
        place = bars.column_names.index(name)
        half = pa.array([round(value / 2, 4) for value in bars[name].to_pylist()])
        halves = halves.set_column(place, schema().field(name), half)
    vendor.write(APPLE, span, halves, contract=contract)
    known = sample.read(APPLE, first)
    at = datetime(2012, 3, 31, tzinfo=UTC)
    mine.write(APPLE, first, with_columns(known, signal=range(len(known))), contract=contract, at=at)

    report = fill(vendor, mine.root, date(2012, 4, 30))

    assert report.status == "complete"
    assert mine.read(APPLE).select(COLUMNS).equals(halves)
    assert column(mine, "signal", APPLE)[: len(known)] == list(range(len(known)))
    assert len(report.revisions) == len(known)
