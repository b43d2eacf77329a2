from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stores.make_store import daily, days, minutes

from backtest.errors import UsageError
from backtest.market import arrays
from backtest.market.bars import rows_digest
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.store import segments
from backtest.store.reader import columns_of_then
from backtest.store.segments import NEWEST
from backtest.store.store import Store

DAILY, MINUTES = Series.parse("AAPL/1day"), Series.parse("EUR-CASH/1min")
AT = datetime(2024, 3, 1, tzinfo=UTC)


def test_a_segment_says_what_its_bars_came_from(tmp_path):
    store = Store(tmp_path)

    store.write(DAILY, days(2, 5), daily(2, 5), source="ib", at=AT, provenance={"con_id": "265598", "prices": "TRADES"})

    (download,) = store.provenance(DAILY)
    assert download["span"] == "2024-01-02T00:00:00+00:00/2024-01-06T00:00:00+00:00"
    assert download["at"] == "2024-03-01T00:00:00+00:00"
    assert {"source": "ib", "rows": "4", "con_id": "265598", "prices": "TRADES"}.items() <= download.items()
    assert {"backtest", "pyarrow"} <= download.keys()


def test_it_lies_in_the_footer_of_the_file_for_any_reader(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5), source="a vendor")
    (path,) = (store.folder(DAILY) / "bars").iterdir()

    assert b'"source":"a vendor"' in pq.read_metadata(path).metadata[b"ib-backtest"]


def test_the_downloads_of_a_period_are_carried_on(tmp_path):
    store = Store(tmp_path)
    for day in (2, 3, 4):
        store.write(DAILY, days(day, day), daily(day, day), source="ib", at=AT, provenance={"warnings": f"day {day}"})
    store.write(DAILY, days(5, 5), daily(5, 5), source="csv", at=AT + timedelta(1))

    found = store.provenance(DAILY)

    assert [one.get("warnings") for one in found] == ["day 2", "day 3", "day 4", None]
    assert [one["source"] for one in found] == ["ib", "ib", "ib", "csv"]


@pytest.mark.slow
def test_only_the_newest_downloads_are_named_and_the_others_counted(tmp_path):
    store, start = Store(tmp_path), datetime(2024, 1, 2, tzinfo=UTC)
    for number in range(NEWEST + 7):
        moment = start + timedelta(hours=number)
        store.write(MINUTES, Span(moment, moment + timedelta(hours=1)), minutes(moment, 1), at=moment)

    found = store.provenance(MINUTES)

    assert len(found) == NEWEST
    assert found[0]["dropped"] == "7"
    assert found[-1]["at"] == moment.isoformat()


def test_a_later_download_of_the_same_bars_leaves_the_files(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5), at=AT)
    before = list((store.folder(DAILY) / "bars").iterdir())

    store.write(DAILY, days(2, 4), daily(2, 4), at=AT + timedelta(1), provenance={"client": "another"})

    assert list((store.folder(DAILY) / "bars").iterdir()) == before


def test_an_append_leaves_the_months_that_it_only_repeats(tmp_path):
    store, start = Store(tmp_path), datetime(2024, 1, 31, 23, 50, tzinfo=UTC)
    store.write(MINUTES, Span(start, start + timedelta(minutes=15)), minutes(start, 15), at=AT)
    before = {path.name for path in (store.folder(MINUTES) / "bars").glob("2024-01.*")}

    store.write(MINUTES, Span(start, start + timedelta(minutes=20)), minutes(start, 20), at=AT + timedelta(1))

    assert {path.name for path in (store.folder(MINUTES) / "bars").glob("2024-01.*")} == before


def test_the_columns_of_many_bars_are_read_one_at_a_time_and_are_those_of_all(tmp_path, monkeypatch):
    store, start = Store(tmp_path), datetime(2024, 1, 31, 23, 50, tzinfo=UTC)
    first, second = (minutes(start + timedelta(minutes=15 * part), 15) for part in (0, 1))
    store.write(MINUTES, Span(start, start + timedelta(minutes=15)), first, at=AT)
    spread = pa.array([0.5, None, *[0.25] * 13])
    store.write(MINUTES, Span(start + timedelta(minutes=15), start + timedelta(minutes=30)),
                second.append_column("spread", spread), at=AT)  # fmt: skip
    bars = store.read(MINUTES)[2:-3]
    ends = {name: bars["time"][row].as_py().isoformat() for name, row in (("from", 0), ("to", -1))}
    known = {"rows_sha256": rows_digest(bars), **ends}

    whole = columns_of_then(store, MINUTES, known, lambda name, column: column)
    monkeypatch.setattr(arrays, "MANY", 1)
    monkeypatch.setattr(Store, "_bars_in", None)  # which reads all columns
    by_column = columns_of_then(store, MINUTES, known, lambda name, column: column)

    for columns in (whole, by_column):
        assert list(columns) == bars.column_names
        assert all(column.equals(bars[name]) for name, column in columns.items())
    assert columns_of_then(store, MINUTES, known | {"rows_sha256": "another"}, lambda name, column: column) is None


def test_bars_that_are_all_new_do_not_name_the_downloads_of_those_before(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5), source="old")

    store.write(DAILY, days(2, 5), daily(2, 5, close=11.5), source="new", revise=True)

    assert [one["source"] for one in store.provenance(DAILY)] == ["new"]


def test_provenance_does_not_change_the_content(tmp_path):
    one, other = Store(tmp_path / "a"), Store(tmp_path / "b")
    one.write(DAILY, days(2, 5), daily(2, 5), provenance={"client": "ib_insync"})
    other.write(DAILY, days(2, 5), daily(2, 5), provenance={"client": "ib_async"})

    assert one.manifest(DAILY).content == other.manifest(DAILY).content
    assert one.read(DAILY).equals(other.read(DAILY))
    assert one.read(DAILY).schema.metadata is None


@pytest.mark.parametrize("key", ["account", "host", "user"])
def test_there_is_no_name_to_say_an_account_a_host_or_a_user_by(tmp_path, key):
    with pytest.raises(UsageError, match=f"no {key}"):
        Store(tmp_path).write(DAILY, days(2, 5), daily(2, 5), provenance={key: "canary"})


@pytest.mark.parametrize("account", ["U7654321", "DU7654321", "DUK765432", "F7654321", "DF765432"])
def test_an_account_in_a_vendors_words_is_in_no_file(tmp_path, account):
    store = Store(tmp_path)
    words = f"Order routing of {account} is off"

    store.write(DAILY, days(2, 5), daily(2, 5), source=account, text=words, provenance={"warnings": words})
    store.quarantine(DAILY, days(2, 5), daily(2, 5), words)

    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if account.encode() in path.read_bytes()]
    assert store.provenance(DAILY)[0]["warnings"] == "Order routing of (account) is off"


def test_many_bars_are_read_into_memory_that_goes_back_to_the_system(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5), source="ib", at=AT)
    before, ours = pa.default_memory_pool(), pa.system_memory_pool().bytes_allocated()
    small = store.read(DAILY)
    assert pa.system_memory_pool().bytes_allocated() == ours

    monkeypatch.setattr(arrays, "MANY", len(small))
    monkeypatch.setattr(segments, "_FEW", 0)
    large = store.read(DAILY)

    assert large.equals(small)
    assert pa.system_memory_pool().bytes_allocated() - ours >= large.nbytes
    assert pa.default_memory_pool().backend_name == before.backend_name != "system"
