from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from judge import complaints
from stores.make_store import daily, days

from backtest.errors import DamagedStore, NoBars
from backtest.market.bars import schema, table_of
from backtest.market.series import ContractDetails, Series
from backtest.market.span import Span
from backtest.store.store import Store

DAILY, MINUTES = Series.parse("AAPL/1day"), Series.parse("AAPL/1min")
AT = datetime(2024, 3, 1, tzinfo=UTC)


def test_a_revision_says_when_from_whom_why_and_how_many_bars_it_changed(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5))

    store.write(DAILY, days(4, 5), daily(4, 4, close=11.5), source="ib", at=AT, revise=True, why="accepted")

    (revision,) = store.revisions(DAILY)
    assert (revision.number, revision.at, revision.source, revision.why) == (1, AT, "ib", "accepted")
    assert revision.bars == 2  # the close of the 4th, and the 5th, which has gone


def test_bars_are_read_as_they_were_before_each_revision(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5))
    store.write(DAILY, days(2, 5), daily(2, 5, close=11.5), revise=True)
    store.write(DAILY, days(6, 6), daily(6, 6))
    store.write(DAILY, days(2, 6), daily(2, 6, close=11.7), revise=True)

    assert store.read(DAILY, revision=1).equals(daily(2, 5))
    assert store.read(DAILY, revision=2)["close"].to_pylist() == [11.5, 11.5, 11.5, 11.5, 11.0]
    assert store.read(DAILY).equals(daily(2, 6, close=11.7))
    assert store.read(DAILY, days(3, 3), revision=1).equals(daily(3, 3))


def test_an_append_after_a_revision_does_not_show_in_what_was_before_it(tmp_path):
    store = Store(tmp_path)
    january, february, march = (datetime(2024, month, 5, 15, tzinfo=UTC) for month in (1, 2, 3))
    ask(store, january, 10)
    ask(store, february, 10)
    ask(store, january, 10, close=1.5, revise=True)

    ask(store, february + timedelta(minutes=10), 10)  # a period that the revision left alone
    ask(store, march, 10)  # one that was not there yet

    before = store.read(MINUTES, revision=1)
    assert before["time"].to_pylist() == [*stamps(january, 10), *stamps(february, 10)]
    assert set(before["close"].to_pylist()) == {1.0}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_whatever_happened_since_every_revision_reads_as_it_was(tmp_path, seed):
    store, chance, seen = Store(tmp_path), Random(seed), []
    for _ in range(25):
        start = datetime(2024, chance.randint(2, 4), 1, tzinfo=UTC) + timedelta(minutes=chance.randint(-300, 100))
        known = store.read(MINUTES) if store.manifest_or_empty(MINUTES).rows else schema().empty_table()
        ask(store, start, chance.randint(1, 400), close=chance.choice([1.0, 1.0, 1.25]), revise=True)
        if len(store.revisions(MINUTES)) > len(seen):
            seen.append(known)

    assert len(seen) > 2
    assert all(store.read(MINUTES, revision=number + 1).equals(bars) for number, bars in enumerate(seen))
    assert complaints(store.root) == []


def test_an_append_is_no_revision(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5))

    store.write(DAILY, days(2, 8), daily(2, 8), revise=True)

    assert store.revisions(DAILY) == []
    assert not (store.folder(DAILY) / "archive").exists()


def test_a_period_that_a_revision_emptied_is_there_in_what_was_before_it(tmp_path):
    store, start = Store(tmp_path), datetime(2024, 1, 5, tzinfo=UTC)
    ask(store, start, 5)
    ask(store, start + timedelta(days=31), 5)

    store.write(MINUTES, Span(start, start + timedelta(hours=1)), schema().empty_table(), revise=True)

    assert len(store.read(MINUTES)) == 5
    assert len(store.read(MINUTES, revision=1)) == 10


def test_an_unknown_revision_is_refused_with_those_that_exist(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5))
    store.write(DAILY, days(2, 5), daily(2, 5, close=11.5), revise=True)

    with pytest.raises(NoBars, match="no revision 2; choose from 1"):
        store.read(DAILY, revision=2)


def test_pruning_frees_the_archive_and_keeps_the_newest_revisions(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5))
    for close in (11.1, 11.2, 11.3):
        store.write(DAILY, days(2, 5), daily(2, 5, close=close), revise=True)
    sizes = [path.stat().st_size for path in (store.folder(DAILY) / "archive").iterdir()]

    freed = store.prune(DAILY, keep=1)

    assert store.read(DAILY, revision=3).equals(daily(2, 5, close=11.2))
    with pytest.raises(NoBars, match="pruned"):
        store.read(DAILY, revision=2)
    (kept,) = (store.folder(DAILY) / "archive").iterdir()
    assert freed == sum(sizes) - kept.stat().st_size


def test_a_number_of_a_revision_is_never_given_again(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5))
    store.write(DAILY, days(2, 5), daily(2, 5, close=11.1), revise=True)
    store.prune(DAILY)

    store.write(DAILY, days(2, 5), daily(2, 5, close=11.2), revise=True)

    assert [revision.number for revision in store.revisions(DAILY)] == [2]
    assert store.read(DAILY, revision=2).equals(daily(2, 5, close=11.1))


def test_pruning_what_has_no_revision_changes_nothing(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5))
    before = store.manifest(DAILY)

    assert store.prune(DAILY) == 0
    assert store.manifest(DAILY) == before


def test_bars_from_a_store_beside_take_the_place_of_all_and_the_old_stay_a_revision(tmp_path):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5), source="ib")
    staged = store.staging()
    staged.write(DAILY, days(2, 3), daily(2, 3, close=11.5), source="ib", contract=ContractDetails(7), at=AT)
    staged.write(DAILY, days(4, 8), schema().empty_table(), source="ib", text="no data", at=AT)

    more = store.replace(DAILY, staged, why="prices were rescaled by 0.5", at=AT)

    assert more == -2
    assert store.read(DAILY).equals(daily(2, 3, close=11.5))
    assert store.read(DAILY, revision=1).equals(daily(2, 5))
    assert store.revisions(DAILY)[0].why == "prices were rescaled by 0.5"
    assert store.manifest(DAILY).answers == staged.manifest(DAILY).answers
    assert store.manifest(DAILY).contract == ContractDetails(7)
    assert store.provenance(DAILY) == staged.provenance(DAILY)


@pytest.mark.parametrize("harm", ["flip", "lose"])
def test_harm_in_the_archive_is_named_and_the_newest_bars_are_still_read(tmp_path, harm):
    store = Store(tmp_path)
    store.write(DAILY, days(2, 5), daily(2, 5))
    store.write(DAILY, days(2, 5), daily(2, 5, close=11.5), revise=True)
    (path,) = (store.folder(DAILY) / "archive").iterdir()
    if harm == "flip":
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
    else:
        path.unlink()

    assert store.read(DAILY).equals(daily(2, 5, close=11.5))
    assert [path.name in problem for problem in complaints(tmp_path)] == [True]
    with pytest.raises(DamagedStore, match=path.name):
        store.read(DAILY, revision=1)


def ask(store, start, count, close=1.0, revise=False):
    bars = table_of([(stamp, 1.0, 2.0, 0.5, close, None, None, None) for stamp in stamps(start, count)])
    store.write(MINUTES, Span(start, start + timedelta(minutes=count)), bars, revise=revise)


def stamps(start, count):
    return [start + timedelta(minutes=number) for number in range(count)]
