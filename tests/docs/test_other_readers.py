"""What a page says of pandas, polars and DuckDB is so: each line of it runs, on each of the example series."""

import pyarrow as pa
import pytest
from pages import blocks

from backtest.market.bars import schema
from backtest.market.series import Series

PAGE = "docs/how-to/own-data.md"
SHOWN = "data/bars/AAPL-STK-SMART-USD/1day/TRADES/rth/bars"
DAILY = ["AAPL/1day", "GOOG/1day", "IBM/1day", "MSFT/1day", "AAPL/1day/ADJUSTED_LAST", "MSFT/1day/ADJUSTED_LAST"]
MINUTES = ["AAPL/1min", "AAPL/1min/TRADES/all", "EUR-CASH/1min", "ES-FUT-CME-USD-202406/1min"]


def bars_by(package, folder):
    """Return what the page's lines for a package leave in `bars`, on the folder of another series."""
    (code,) = (block.text for block in blocks(PAGE) if block.run and f"import {package}" in block.text)
    assert code.count(SHOWN) == 1
    names = {}
    exec(code.replace(SHOWN, str(folder)), names)
    return names["bars"]


@pytest.fixture(params=DAILY + MINUTES)
def stored(request, sample, intraday):
    """Return the folder of bars of a series, and the table that the store reads."""
    series = Series.parse(request.param)
    store = sample if series.size.daily else intraday
    return store.folder(series) / "bars", store.read(series)


@pytest.mark.slow
def test_pandas_reads_the_same(stored):
    folder, expected = stored

    bars = bars_by("pandas", folder)

    assert bars.equals(expected.to_pandas())
    assert bars.dtypes.equals(expected.to_pandas().dtypes)


@pytest.mark.slow
def test_polars_reads_the_same(stored):
    folder, expected = stored

    bars = bars_by("polars", folder)

    assert str(bars.schema["time"]) == "Datetime(time_unit='us', time_zone='UTC')"
    assert bars.to_arrow().cast(schema()) == expected


@pytest.mark.slow
def test_duckdb_reads_the_same(stored):
    folder, expected = stored

    bars = bars_by("duckdb", folder).to_arrow_table()

    types = {field.name: field.type for field in bars.schema}
    assert {name: types[name] for name in types if name != "time"} == {
        field.name: field.type for field in expected.schema if field.name != "time"
    }
    assert types["time"] == pa.timestamp("us", tz=types["time"].tz)  # told in the zone of the session
    assert bars.cast(schema()) == expected


@pytest.mark.slow
def test_the_series_have_nulls_and_several_segments_among_them(sample, intraday):
    quotes, minutes = (intraday.read(Series.parse(text)) for text in ("EUR-CASH/1min", "AAPL/1min"))

    assert quotes["volume"].null_count == quotes["trades"].null_count == len(quotes)
    assert minutes["volume"].null_count == 0
    assert (sample.folder(Series.parse("AAPL/1day")) / "bars").is_dir()
