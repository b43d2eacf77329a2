"""One column of many series side by side: `Store.panel`, and the frame of `backtest.panel`."""

from datetime import UTC, date, datetime

import pytest

import backtest
from backtest.errors import DamagedStore, NoBars, UsageError
from backtest.market.bars import table_of
from backtest.market.span import Span
from backtest.store.store import Store

SAMPLE = ["AAPL/1day", "MSFT/1day", "NVDA/1day"]


def bars(**closes):
    """Return daily bars of January 2024 by their days; the volume of a bar is 100 times its close."""
    rows = [
        (datetime(2024, 1, int(day.removeprefix("d")), tzinfo=UTC), close, close, close, close, 100 * close, None, 7)
        for day, close in closes.items()
    ]
    return table_of(rows)


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "bars")
    january = Span.of_dates(date(2024, 1, 1), date(2024, 1, 31))
    made.write("AAPL/1day", january, bars(d2=10.0, d3=11.0, d5=13.0))
    made.write("MSFT/1day", january, bars(d3=21.0, d4=22.0))
    return made


def test_series_stand_side_by_side_with_nothing_where_one_has_no_bar(store):
    table = store.panel(["MSFT/1day", "AAPL/1day"])

    assert table.column_names == ["time", "MSFT/1day", "AAPL/1day"]
    assert [moment.day for moment in table["time"].to_pylist()] == [2, 3, 4, 5]
    assert table["MSFT/1day"].to_pylist() == [None, 21.0, 22.0, None]
    assert table["AAPL/1day"].to_pylist() == [10.0, 11.0, None, 13.0]


def test_dates_and_columns_are_chosen(store):
    table = store.panel(["AAPL/1day", "MSFT/1day"], "volume", start="2024-01-03", end=date(2024, 1, 4))

    assert table.to_pydict() == {
        "time": [datetime(2024, 1, 3, tzinfo=UTC), datetime(2024, 1, 4, tzinfo=UTC)],
        "AAPL/1day": [1100.0, None],
        "MSFT/1day": [2100.0, 2200.0],
    }
    assert store.panel("AAPL/1day", "trades")["AAPL/1day"].to_pylist() == [7.0, 7.0, 7.0]
    assert store.panel("AAPL/1day", "average")["AAPL/1day"].to_pylist() == [None, None, None]


def test_a_panel_is_what_is_read_series_by_series():
    sample = backtest.open_store("data/sample")
    names = [series.short for series in sample.series()]
    table = sample.panel(names, "high", start="2005-01-03", end="2006-01-03")

    for name in names:
        own = sample.read(name, start="2005-01-03", end="2006-01-03")
        known = [(at, value) for at, value in zip(*table.select(["time", name]).to_pydict().values(), strict=True)]
        assert [pair for pair in known if pair[1] is not None] == list(
            zip(own["time"].to_pylist(), own["high"].to_pylist(), strict=True)
        )


def test_the_frame_is_of_the_same_numbers(store):
    frame = backtest.panel(["AAPL/1day", "MSFT/1day"], store=store, end="2024-01-03")

    assert list(frame.columns) == ["AAPL/1day", "MSFT/1day"]
    assert frame.index.tz is not None
    assert frame.loc["2024-01-03"].tolist() == [11.0, 21.0]
    assert frame.isna().sum().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"series": []}, UsageError, "no series is named"),
        ({"series": ["AAPL/1day", "AAPL/1day"]}, UsageError, "AAPL/1day is named twice"),
        ({"series": ["AAPL/1day", "MSFT/1week"]}, UsageError, "1day and 1week have no times in common"),
        ({"series": ["AAPL/1day", "QQQ/1day"]}, NoBars, "QQQ/1day is not in"),
        ({"series": ["AAPL/1day"], "field": "closes"}, UsageError, "no column 'closes'.*close"),
        ({"series": ["AAPL/1day"], "start": "2023-01-03", "end": "2023-02-01"}, NoBars, "no bar of AAPL/1day from"),
        ({"series": 5}, UsageError, "5"),
    ],
)
def test_what_cannot_be_a_panel_is_refused(store, asked, error, words):
    with pytest.raises(error, match=words):
        store.panel(**asked)


def test_a_file_that_is_not_what_was_written_is_refused(store):
    (file,) = (store.folder(backtest.Series.parse("MSFT/1day")) / "bars").iterdir()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)

    with pytest.raises(DamagedStore, match="SHA-256 differs"):
        store.panel(["AAPL/1day", "MSFT/1day"])
