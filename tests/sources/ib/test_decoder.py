import asyncio
from datetime import UTC, date, datetime

import pytest

from backtest.emulator.server import Gateway
from backtest.errors import BadBars
from backtest.market.bars import within
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.sources.connect import connect
from backtest.sources.ib.contracts import client_library, table
from backtest.sources.ib.decoder import read_columns

pytestmark = pytest.mark.second_client

HEAD = ["17", "7", "from", "to"]
DAY = ["20240102", "10.0", "12.0", "9.0", "11.5", "100", "-1", "-1"]
MINUTE = ["1704207000", "10.0", "12.0", "9.0", "11.5", "-1", "10.25", "3"]


def received(*fields):
    """Return what the library, reached into, hands on of a message to request 7."""
    client = client_library()

    async def answer():
        ib = client.IB()
        ib.client.decoder = client.decoder.Decoder(ib.wrapper, 176)
        future = ib.wrapper.startReq(7)
        read_columns(ib)
        ib.client.decoder.handlers[17]([*HEAD, *fields])
        return await future

    return asyncio.run(answer())


def test_a_message_becomes_columns_and_minus_one_is_null():
    (columns,) = received("2", *MINUTE, "1704207060", *MINUTE[1:])

    first = columns.table.to_pylist()[0]
    assert first["time"] == datetime(2024, 1, 2, 14, 50, tzinfo=UTC)
    assert (first["open"], first["volume"], first["average"], first["trades"]) == (10.0, None, 10.25, 3)


UNSET = ("2147483647", "9223372036854775807", "170141183460469231731687303715884105727", "1.7976931348623157E308")


@pytest.mark.parametrize("unset", [*UNSET, "Infinity", "NaN", ""])
def test_unset_volumes_averages_and_counts_are_null(unset):
    (columns,) = received("1", *DAY[:5], unset, unset, unset)

    (row,) = columns.table.to_pylist()
    assert (row["close"], row["volume"], row["average"], row["trades"]) == (11.5, None, None, None)


@pytest.mark.parametrize("unset", UNSET)
def test_they_are_null_on_the_librarys_own_way_too(unset):
    whole = unset if unset.isdigit() else "2147483647"

    bars = received("1", "20240102 09:30:00 US/Eastern", *DAY[1:5], unset, unset, whole)

    (row,) = table(bars).to_pylist()
    assert (row["close"], row["volume"], row["average"], row["trades"]) == (11.5, None, None, None)


def test_a_time_without_a_zone_is_refused_whatever_the_clock_here():
    bars = received("1", "20240102  09:30:00", *DAY[1:])

    with pytest.raises(BadBars, match="20240102 09:30:00 without a time zone"):
        table(bars)


def test_dates_are_midnights_in_utc():
    (columns,) = received("1", *DAY)

    assert columns.table["time"].to_pylist() == [datetime(2024, 1, 2, tzinfo=UTC)]


def test_what_is_not_as_expected_goes_the_librarys_own_way():
    (bar,) = received("1", "20240102 09:30:00 US/Eastern", *DAY[1:])

    assert (bar.open, bar.barCount) == (10.0, -1)
    assert received("0") == []
    with pytest.raises(ValueError, match="ten"):
        received("1", "20240102", "ten", *DAY[2:])


def test_the_real_library_hands_on_what_came_as_columns(intraday):
    series, window = Series.parse("AAPL/1min"), Span.of_dates(date(2024, 3, 4), date(2024, 3, 15))

    with Gateway(intraday) as gateway, connect(gateway.address) as source:
        bars = source.fetch(series, window)

    assert bars.equals(intraday.read(series))


def test_a_table_is_cut_to_the_window():
    (columns,) = received("2", *DAY, "20240103", *DAY[1:])

    assert len(within(columns.table, Span.of_dates(date(2024, 1, 3), date(2024, 1, 9)))) == 1
