"""One law for all who are read from: stores, and what stands for one in a worker and in the look-ahead check."""

import ast
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import backtrader as bt
import pyarrow as pa
import pytest
from market import minute_bars, span_of_sessions, store_with
from places import TESTS

import backtest
from backtest.errors import NoBars
from backtest.market.bars import schema
from backtest.market.series import ContractDetails, Series
from backtest.market.span import Span
from backtest.research.lookahead import _Kept, _Tables
from backtest.research.search.job import _AtHand, job_of
from backtest.store import pins
from backtest.store.audit.listing import list_series
from backtest.store.publishing import publish
from backtest.store.reader import CachedReader, Reader, SegmentReader, _OneState, in_one_state
from backtest.store.remote import RemoteStore
from backtest.store.store import Store, open_store, store_of

AAPL = Series.parse("AAPL/5mins")
ES = Series.parse("ES-FUT-CME-USD-20240315/1day")
BY_MONTH = "ES-FUT-CME-USD-202403/1day"
UNKNOWN = ["MSFT/1day", Series.parse("ES-FUT-CME-USD-20240621/1day")]
FEBRUARY = Span(datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC))


class Idle(bt.Strategy):
    """Does nothing."""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return a store of a stock whose bars were revised, and of a future; it is not to be written to."""
    made = store_with(tmp_path_factory.mktemp("made") / "bars", {str(AAPL): ("2024-01-22", "2024-02-09")})
    facts = ContractDetails(contract_month="202403", last_trade_date="20240315")
    sessions = (date(2024, 1, 22), date(2024, 2, 9))
    made.write(ES, span_of_sessions(ES, *sessions), minute_bars(ES, *sessions), source="market", contract=facts)
    at = made.read(AAPL)["time"][700].as_py()
    row = made.read(AAPL, Span(at, at + timedelta(seconds=1))).to_pylist()[0]
    later = pa.Table.from_pylist([row | {"volume": row["volume"] + 1}], schema())
    made.write(AAPL, Span(at, at + timedelta(seconds=1)), later, revise=True)
    return made


def at_url(store):
    folder = store.root.parent / "published"
    publish(store, folder.as_uri())
    return open_store(folder.as_uri())


READERS = {
    "a folder": lambda store: store,
    "a URL": at_url,
    "asked once": CachedReader,
    "in one state": in_one_state,
    "a worker's": lambda store: _AtHand(job_of(Idle, [AAPL, BY_MONTH], store=store)),
    "kept by the look-ahead check": _Kept,
    "tables of the look-ahead check": lambda store: _Tables({one: store.read(one) for one in (AAPL, ES)}, store),
}


@pytest.fixture(scope="module", params=READERS)
def reader(request, store):
    return READERS[request.param](store)


def test_every_reader_is_one_and_has_a_name(reader):
    assert isinstance(reader, Reader)
    assert store_of(reader) is reader
    assert reader.name


def test_its_series_come_in_the_order_of_their_spelling(reader):
    assert reader.series() == [AAPL, ES]


@pytest.mark.parametrize("series", [AAPL, ES])
def test_a_series_or_its_spelling_is_the_same(reader, store, series):
    assert reader.named(str(series)) == reader.named(series) == series
    assert reader.read(str(series)) == reader.read(series) == store.read(series)
    assert reader.manifest(str(series)) == reader.manifest(series)


@pytest.mark.parametrize("series", [AAPL, ES])
def test_a_manifest_says_what_the_bars_are(reader, store, series):
    found, stored = reader.manifest(series), store.manifest(series)

    assert (found.series, found.rows, found.content) == (series.key, stored.rows, stored.content)
    assert found.contract == stored.contract


@pytest.mark.parametrize("series", [AAPL, ES])
def test_a_span_has_the_bars_whose_stamps_lie_in_it(reader, store, series):
    expected = [row for row in store.read(series).to_pylist() if row["time"] in FEBRUARY]

    assert reader.read(series, FEBRUARY).to_pylist() == expected
    assert 0 < len(expected) < len(store.read(series))


def test_a_span_without_a_bar_is_refused(reader):
    years_before = Span(datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 2, 1, tzinfo=UTC))

    with pytest.raises(NoBars, match="AAPL/5mins"):
        reader.read(AAPL, years_before)


@pytest.mark.parametrize("series", UNKNOWN, ids=str)
def test_an_unknown_series_is_refused_by_its_name_and_that_of_the_reader(reader, series):
    name = Series.parse(str(series)).short

    for ask in (reader.manifest, reader.read, lambda one: reader.read(one, FEBRUARY)):
        with pytest.raises(NoBars) as refused:
            ask(series)
        assert name in str(refused.value)
        assert reader.name in str(refused.value)
    assert reader.named(series).short == name


def test_each_revision_that_a_manifest_names_can_be_read_and_no_other(reader, store):
    for revision in reader.manifest(AAPL).revisions:
        assert reader.read(AAPL, revision=revision.number) == store.read(AAPL, revision=revision.number)
        assert reader.read(AAPL, revision=revision.number) != reader.read(AAPL)
    with pytest.raises(NoBars, match="no revision 7"):
        reader.read(AAPL, revision=7)


def test_the_revisions_of_a_store_are_known_to_all_but_made_up_tables(reader):
    assert len(reader.manifest(AAPL).revisions) == (0 if isinstance(reader, _Tables) else 1)


def test_a_future_is_found_by_its_month(reader, store):
    assert reader.named(BY_MONTH) == ES
    assert reader.read(BY_MONTH) == store.read(ES)


def test_pins_and_listings_are_the_same_from_each(reader, store):
    assert [pins.take(reader, one) for one in (AAPL, ES)] == [pins.take(store, one) for one in (AAPL, ES)]
    assert [(one.series, one.bars, one.content) for one in list_series(reader)] == [
        (one.series, one.bars, one.content) for one in list_series(store)
    ]


def test_in_one_state_a_manifest_is_read_once_and_again_when_its_files_are_gone(tmp_path, monkeypatch):
    made = store_with(tmp_path / "bars", {str(AAPL): ("2024-01-22", "2024-01-26")})
    asked, read = [], Store._read_manifest
    monkeypatch.setattr(Store, "_read_manifest", lambda self, series: asked.append(series) or read(self, series))
    held = in_one_state(made)
    before = held.read(AAPL)
    assert held.manifest(AAPL) == held.manifest_or_empty(AAPL)
    assert asked == [AAPL]

    at = before["time"][7].as_py()
    later = pa.Table.from_pylist([before.to_pylist()[7] | {"volume": 1.0}], schema())
    made.write(AAPL, Span(at, at + timedelta(seconds=1)), later, revise=True)
    made.prune(AAPL)

    assert held.manifest(AAPL) != made.manifest(AAPL)
    assert held.read(AAPL) == made.read(AAPL) != before
    assert held.manifest(AAPL) == made.manifest(AAPL)


def test_what_is_given_cannot_change_what_is_read(reader):
    before = reader.read(AAPL)

    reader.series().clear()

    assert reader.series() == [AAPL, ES]
    assert reader.read(AAPL) == before


def test_only_a_store_in_a_folder_has_one_and_writes(reader):
    only_a_folder_has = ("root", "folder", "write", "replace", "prune", "quarantine", "staging", "drop")

    assert [name for name in only_a_folder_has if hasattr(reader, name)] == (
        list(only_a_folder_has) if isinstance(reader, Store) else []
    )


def test_nothing_pretends_to_be_a_store():
    kinds = {Store.__name__, RemoteStore.__name__, _OneState.__name__}  # the last one reads as one of the others does
    assert {kind.__name__ for kind in SegmentReader.__subclasses__()} == kinds
    sources = [
        path.read_text(encoding="utf-8")
        for folder in (Path(backtest.__file__).parent, TESTS)
        for path in folder.rglob("*.py")
    ]
    pretenders = [
        node.name
        for source in sources
        if re.search(r"class \w+\([^)]*\bStore\b", source)  # to parse every file takes seconds
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef)
        for base in node.bases
        if ast.unparse(base) in ("Store", "backtest.Store", "store.Store")
    ]
    assert pretenders == []
