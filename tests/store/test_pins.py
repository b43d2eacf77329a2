import hashlib
import io
import json
import shutil
import struct
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from market import minute_bars, span_of_sessions, store_with

from backtest.errors import BrokenPin, DataError, NoBars
from backtest.market.bars import rows_digest, schema
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.store import pins
from backtest.store.manifest import Segment
from backtest.store.manifest_json import to_bytes
from backtest.store.reader import CachedReader
from backtest.store.store import Store

AAPL = Series.parse("AAPL/5mins")
DAILY = Series.parse("AAPL/1day")


def moment(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def span(first, last):
    return Span(moment(first), moment(last))


@pytest.fixture(scope="module")
def quarter(tmp_path_factory):
    """Return a store with the 5-minute bars of January to March 2024, a segment a month; it is not to be written to."""
    return store_with(tmp_path_factory.mktemp("quarter"), {str(AAPL): ("2024-01-02", "2024-03-28")})


@pytest.fixture
def store(quarter, tmp_path):
    """Return a copy of it."""
    return Store(shutil.copytree(quarter.root, tmp_path / "store"))


def revise(store, series, at, **values):
    """Put other values into the stored bar at a time, as an accepted revision would."""
    bars = store.read(series, Span(at, at + timedelta(seconds=1)))
    row = bars.to_pylist()[0] | values
    store.write(series, Span(at, at + timedelta(seconds=1)), pa.Table.from_pylist([row], schema()), revise=True)


def a_bar(store, month="2024-02"):
    """Return the time of a bar in the middle of a month, and its close."""
    bars = store.read(AAPL, span(f"{month}-14", f"{month}-15"))
    return bars["time"][9].as_py(), bars["close"][9].as_py()


class Cut(CachedReader):
    """A reader whose manifest cuts the bars of a series into so many segments of equal length."""

    def __init__(self, store, pieces):
        super().__init__(store)
        self.pieces = pieces

    def manifest(self, series):
        bars = self.read(series)
        rows = -(-len(bars) // self.pieces)
        parts = [bars.slice(n, rows) for n in range(0, len(bars), rows)]
        segments = tuple(segment(f"part{len(part)}", part) for part in parts)
        return replace(super().manifest(series), segments=segments)


def segment(name, bars, data=b""):
    first, last = (bars["time"][n].as_py().isoformat() for n in (0, -1))
    sha = hashlib.sha256(data).hexdigest()
    return Segment(f"{name}.{sha[:12]}.parquet", len(bars), first, last, len(data), sha, rows_digest(bars))


def rewritten(store, series, **parquet):
    """Write the segments of a series anew, with other settings of Parquet; return how many files are other ones."""
    folder, manifest = store.folder(series), store.manifest(series)
    fresh = [written(folder / "bars", old, parquet) for old in manifest.segments]
    (folder / "manifest.json").write_bytes(to_bytes(replace(manifest, segments=tuple(fresh))))
    return len({one.file for one in fresh} - {one.file for one in manifest.segments})


def written(folder, old, parquet):
    bars, file = pq.read_table(folder / old.file, partitioning=None).cast(schema()), io.BytesIO()
    pq.write_table(bars, file, **parquet)
    fresh = segment(old.period, bars, file.getvalue())
    (folder / fresh.file).write_bytes(file.getvalue())
    return fresh


def test_the_digest_is_that_of_the_values_of_each_month(sample):
    bars = sample.read(DAILY, span("2012-12-01", "2013-02-01"))

    pin = pins.take(sample, DAILY, span("2012-12-01", "2013-02-01"))

    lines = [digest_line(bars, name) for name in ("2012-12", "2013-01")]
    assert pin.digest == hashlib.sha256("".join(lines).encode()).hexdigest()


def digest_line(bars, month):
    """Return the line of a month, its digest made bar by bar with nothing but struct and hashlib."""
    rows = [row for row in bars.to_pylist() if f"{row['time']:%Y-%m}" == month]
    digest = hashlib.sha256()
    for name in bars.column_names:
        values = [row[name] for row in rows]
        digest.update(bytes(value is not None for value in values))
        digest.update(b"".join(packed(name, value) for value in values))
    return f"{month} {len(rows)} {digest.hexdigest()}\n"


def packed(name, value):
    if name == "time":
        return struct.pack("<q", round(value.timestamp()) * 1_000_000)
    return struct.pack("<q" if name == "trades" else "<d", value or 0)


def test_a_pin_holds_after_appends_and_earlier_bars(store):
    pin = pins.take(store, AAPL)

    for since, until in ((date(2024, 4, 1), date(2024, 4, 5)), (date(2023, 12, 18), date(2023, 12, 29))):
        store.write(AAPL, span_of_sessions(AAPL, since, until), minute_bars(AAPL, since, until))

    assert store.manifest(AAPL).rows > pin.rows
    assert pins.changed_months(store, pin) == []


def test_one_cent_breaks_a_pin_and_names_the_month(store):
    pin, (at, close) = pins.take(store, AAPL), a_bar(store)

    revise(store, AAPL, at, close=close + 0.01, high=close + 5)

    (change,) = pins.changed_months(store, pin)
    assert (change.month, change.gone, change.added, change.cells) == ("2024-02", 0, 0, 2)


def test_a_null_where_a_zero_was_breaks_a_pin(store):
    at, _ = a_bar(store)
    revise(store, AAPL, at, volume=0.0)
    pin = pins.take(store, AAPL)

    revise(store, AAPL, at, volume=None)

    assert [change.month for change in pins.changed_months(store, pin)] == ["2024-02"]


@pytest.mark.parametrize(
    "parquet",
    [
        {"compression": "none", "use_dictionary": False},
        {"compression": "snappy", "row_group_size": 100},
        {"compression": "gzip", "data_page_version": "2.0", "version": "1.0"},
        {"compression": "zstd", "compression_level": 19, "write_statistics": False},
    ],
)
def test_a_pin_holds_when_the_files_are_compressed_in_another_way(store, parquet):
    pin = pins.take(store, AAPL)

    others = rewritten(store, AAPL, **parquet)

    assert others == 3
    assert pins.changed_months(store, pin) == []
    assert pins.take(store, AAPL, Span(pin.first, pin.last)).months["2024-02"] == pin.months["2024-02"]


@pytest.mark.parametrize("pieces", [1, 2, 3, 60, 61])
def test_a_pin_holds_whatever_the_cut_into_segments(quarter, pieces):
    pin, cut = pins.take(quarter, AAPL), Cut(quarter, pieces)

    assert len(cut.manifest(AAPL).segments) == pieces
    assert pins.take(cut, AAPL) == pin
    assert pins.changed_months(cut, pin) == []


def test_a_pin_of_daily_bars_in_one_file_is_that_of_many_files(sample):
    assert pins.take(Cut(sample, 7), DAILY) == pins.take(sample, DAILY)


def test_whole_months_are_told_from_the_manifest_alone(store):
    pin = pins.take(store, AAPL)

    for path in (store.folder(AAPL) / "bars").iterdir():
        path.unlink()

    assert pins.changed_months(store, pin) == []
    assert pins.take(store, AAPL) == pin


def test_of_a_part_of_a_month_only_that_part_is_pinned(store):
    pin = pins.take(store, AAPL, span("2024-02-10", "2024-02-20"))
    inside, _ = a_bar(store)
    outside = store.read(AAPL, span("2024-02-21", "2024-02-22"))["time"][0].as_py()

    revise(store, AAPL, outside, volume=1.0)
    held = pins.changed_months(store, pin)
    revise(store, AAPL, inside, volume=1.0)

    assert (pin.first.date(), pin.last.date()) == (date(2024, 2, 12), date(2024, 2, 16))
    assert held == []
    assert [(change.month, change.cells) for change in pins.changed_months(store, pin)] == [("2024-02", 1)]


def test_a_bar_that_appears_in_a_month_without_any_breaks_a_pin(tmp_path):
    store = store_with(tmp_path, {str(AAPL): ("2024-01-02", "2024-01-31")})
    store.write(AAPL, *week(date(2024, 3, 4)))
    pin = pins.take(store, AAPL)

    store.write(AAPL, *week(date(2024, 2, 5)))

    assert str(pins.changed_months(store, pin)[0]) == "2024-02: 0 bars pinned, 390 are stored"
    assert pins.changed_months(store, pin, span("2024-02-01", "2024-03-01")) == pins.changed_months(store, pin)
    assert pins.changed_months(store, pin, span("2024-03-01", "2024-04-01")) == []


def week(monday):
    friday = monday + timedelta(days=4)
    return span_of_sessions(AAPL, monday, friday), minute_bars(AAPL, monday, friday)


def test_equal_pins_are_equal_bytes_in_whatever_order(sample, tmp_path):
    taken = [pins.take(sample, series) for series in sample.series()]

    pins.save_pins(tmp_path / "one", taken)
    pins.save_pins(tmp_path / "two", reversed(taken))

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert list(pins.load_pins(tmp_path / "one").values()) == taken
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def broken(entry, change):
    change(entry)
    return json.dumps({"format": 1, "series": {str(DAILY): entry}})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda entry: entry.update(rows=3269), "the digest of AAPL"),
        (lambda entry: entry["months"].update({"2000-03": "23 0000"}), "the digest of AAPL"),
        (lambda entry: entry["months"].pop("2005-01"), "the digest of AAPL"),
        (lambda entry: entry.pop("first"), "first"),
        (lambda entry: entry.update(last="yesterday"), "yesterday"),
        (lambda entry: entry.update(last="2013-03-01"), "last is '2013-03-01', not a time"),
        (lambda entry: entry.update(first="2000-04-03T00:00:00+00:00"), "2000-03 in UTC"),
        (lambda entry: entry.update(months=[1]), "not an object"),
        (lambda entry: entry.update(months={}, rows=0, digest=hashlib.sha256(b"").hexdigest()), "empty"),
    ],
)
def test_a_lock_that_was_changed_by_hand_is_refused(sample, tmp_path, change, said):
    pins.save_pins(tmp_path / "data.lock", [pins.take(sample, DAILY)])
    entry = json.loads((tmp_path / "data.lock").read_text())["series"][str(DAILY)]
    (tmp_path / "data.lock").write_text(broken(entry, change))

    with pytest.raises(DataError, match=said):
        pins.load_pins(tmp_path / "data.lock")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"format": 2}', '{"format": 1, "series": []}', "\x00"])
def test_what_is_no_lock_file_is_refused_with_its_name(tmp_path, text):
    (tmp_path / "data.lock").write_text(text)

    with pytest.raises(DataError, match=r"data\.lock"):
        pins.load_pins(tmp_path / "data.lock")


def test_without_dates_a_run_takes_the_pinned_range(store, tmp_path):
    lock = tmp_path / "data.lock"
    pins.add(store, lock, [AAPL])
    last = store.read(AAPL)["time"][-1].as_py()
    store.write(AAPL, *week(date(2024, 4, 1)))

    taken = pins.pinned_span(store, lock, [AAPL], (None, None))

    assert taken == Span(moment("2024-01-02T14:30"), last + timedelta(minutes=5))
    assert store.read(AAPL, taken)["time"][-1].as_py() == last


def test_a_run_that_would_see_bars_outside_the_pin_is_refused(store, tmp_path):
    pins.add(store, tmp_path / "data.lock", [AAPL])
    store.write(AAPL, *week(date(2024, 4, 1)))

    with pytest.raises(BrokenPin, match=r"AAPL/5mins .* 312 bars outside, the first in 2024-04"):
        pins.pinned_span(store, tmp_path / "data.lock", [AAPL], (date(2024, 3, 1), date(2024, 4, 4)))


@pytest.mark.slow
def test_a_run_is_only_held_to_the_months_that_it_reads(store, tmp_path):
    pins.add(store, tmp_path / "data.lock", [AAPL])
    at, close = a_bar(store)
    revise(store, AAPL, at, close=close + 0.01, high=close + 5)

    march = pins.pinned_span(store, tmp_path / "data.lock", [AAPL], (date(2024, 3, 1), None))

    assert march == (date(2024, 3, 1), None)
    with pytest.raises(BrokenPin, match=r"AAPL/5mins is not as pinned .* 2024-02"):
        pins.pinned_span(store, tmp_path / "data.lock", [AAPL], (date(2024, 2, 28), None))


def test_a_run_may_begin_and_end_within_months(store, tmp_path):
    pins.add(store, tmp_path / "data.lock", [AAPL])
    dates = (date(2024, 1, 17), date(2024, 2, 14))

    assert pins.pinned_span(store, tmp_path / "data.lock", [AAPL], dates) == dates


def test_a_series_that_is_not_pinned_is_named(sample, tmp_path):
    pins.add(sample, tmp_path / "data.lock", [DAILY])

    with pytest.raises(BrokenPin, match="IBM/1day is not pinned"):
        pins.pinned_span(sample, tmp_path / "data.lock", [DAILY, Series.parse("IBM/1day")])


def test_a_pinned_series_that_is_missing_is_to_be_downloaded(sample, tmp_path):
    pins.add(sample, tmp_path / "data.lock", [DAILY])

    with pytest.raises(NoBars, match="backtest download AAPL/1day --since 2000-03-01 --until 2013-03-01"):
        pins.pinned_span(Store(tmp_path / "empty"), tmp_path / "data.lock", [DAILY])


def test_adding_leaves_the_pins_that_are_there(store, tmp_path):
    lock = tmp_path / "data.lock"
    pins.add(store, lock, [AAPL])
    before = lock.read_bytes()
    store.write(AAPL, *week(date(2024, 4, 1)))

    (report,) = pins.add(store, lock, [AAPL])

    assert report.status == "held"
    assert lock.read_bytes() == before


def test_an_update_tells_the_change_and_keeps_the_range_unless_dates_are_named(store, tmp_path):
    lock, (at, close) = tmp_path / "data.lock", a_bar(store)
    (old,) = pins.add(store, lock, [AAPL])
    store.write(AAPL, *week(date(2024, 4, 1)))
    revise(store, AAPL, at, close=close + 0.01, high=close + 5)

    (same_range,) = pins.update(store, lock)
    (longer,) = pins.update(store, lock, dates=(None, date(2024, 4, 2)))

    assert [str(change) for change in same_range.changes] == [
        f"2024-02: {old.pin.months['2024-02'].rows:,} bars pinned, 0 gone, 0 added, 2 cells differ"
    ]
    assert (same_range.pin.first, same_range.pin.last) == (old.pin.first, old.pin.last)
    assert (longer.pin.last.date(), longer.changes) == (date(2024, 4, 2), ())
    assert [report.status for report in pins.examine(store, lock)] == ["held"]


def test_what_changed_is_told_by_rows_alone_where_the_old_bars_were_pruned(store):
    pin, (at, close) = pins.take(store, AAPL), a_bar(store)
    revise(store, AAPL, at, close=close + 0.01, high=close + 5)
    store.prune(AAPL)

    (change,) = pins.changed_months(store, pin)

    assert (change.cells, str(change)) == (None, f"2024-02: {change.pinned:,} bars pinned, other values")


@pytest.fixture
def call(call, tmp_path, monkeypatch):
    """Call the command line in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return call


@pytest.mark.slow
def test_the_command_pins_checks_and_updates(call, store):
    place = ("--store", str(store.root))
    pinned, out, _ = call("pin", *place)
    held, _, _ = call("pin", "--check", *place)
    at, close = a_bar(store)
    revise(store, AAPL, at, close=close + 0.01, high=close + 5)

    broken, listed, error = call("pin", "--check", *place)
    ran, _, refused = call("run", "buy_and_hold", "AAPL/5mins", "--pin", "data.lock", *place)
    updated, _, _ = call("pin", "--update", *place)
    again, _, _ = call("pin", "--check", *place)

    assert (pinned, held, broken, ran, updated, again) == (0, 0, 1, 3, 0, 0)
    assert out.startswith("AAPL/5mins: new, ")
    assert "2024-02:" in listed
    assert "--update" in error
    assert "AAPL/5mins is not as pinned in data.lock, 2024-02:" in refused


def test_the_command_says_it_in_json(call, store):
    _, out, _ = call("pin", "--json", "--store", str(store.root))

    document = json.loads(out)

    (entry,) = document["series"].values()
    assert document["lock"] == "data.lock"
    assert (entry["status"], entry["changes"]) == ("new", [])
    assert entry["rows"] == len(store.read(AAPL))


def test_a_run_on_pinned_bars_is_the_run_without_a_pin(call, sample):
    place = ("--store", str(sample.root))
    call("pin", "AAPL/1day", "IBM/1day", *place)

    code, out, _ = call("run", "buy_and_hold", "AAPL/1day", "--benchmark", "IBM/1day", "--pin", "data.lock", *place)
    _, plain, _ = call("run", "buy_and_hold", "AAPL/1day", "--benchmark", "IBM/1day", *place)

    assert (code, out) == (0, plain)


def test_check_and_update_exclude_each_other(call):
    code, _, error = call("pin", "--check", "--update")

    assert code == 2
    assert "one of them" in error


def test_dates_change_an_existing_pin_only_in_an_update(call, sample, tmp_path):
    place, dates = ("--store", str(sample.root)), ("--since", "2012-01-03")
    call("pin", "AAPL/1day", *place)
    before = (tmp_path / "data.lock").read_text()

    code, out, note = call("pin", "AAPL/1day", *dates, *place)
    kept = (tmp_path / "data.lock").read_text()
    refused, _, error = call("pin", "--check", *dates, *place)
    _, _, nothing = call("pin", "AAPL/1day", *place)
    _, updated, said = call("pin", "AAPL/1day", "--update", *dates, *place)

    assert (code, kept) == (0, before)
    assert out.startswith("AAPL/1day: unchanged, 3,270 bars, 2000-03-01 to ")
    assert note.startswith("note: AAPL/1day: the pin already exists, so --since and --until had no effect")
    assert refused == 2
    assert "leave out --since and --until" in error
    assert (nothing, said) == ("", "")
    assert updated.startswith("AAPL/1day: updated, 291 bars, 2012-01-03 to ")


def test_a_new_pin_takes_the_dates_without_a_note(call, sample):
    _, out, note = call("pin", "AAPL/1day", "--since", "2012-01-03", "--store", str(sample.root))

    assert out.startswith("AAPL/1day: new, 291 bars, 2012-01-03 to ")
    assert note == ""


def test_a_table_of_bars_is_cut_by_month_in_utc(store):
    late = span("2024-01-31T20:00", "2024-02-01T20:00")

    pin = pins.take(store, AAPL, late)

    times = store.read(AAPL, late)["time"].to_pylist()
    january = sum(time.month == 1 for time in times)
    assert {name: month.rows for name, month in pin.months.items()} == {
        "2024-01": january,
        "2024-02": len(times) - january,
    }
