"""Bars decoded as columns directly from the fields of a message, instead of one object per bar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backtest.market.bars import COLUMNS, known_numbers, schema

if TYPE_CHECKING:
    import pyarrow as pa

_BARS, _FIELDS, _HEAD = 17, 8, 5  # the message's number, fields a bar, and fields before the first bar


class Columns:
    """A whole answer in place of a bar; of such an object the library only parses the `date`."""

    date: Any = "19700101"

    def __init__(self, table: pa.Table) -> None:
        self.table = table


def read_columns(ib: Any) -> None:
    """
    Let answers with bars arrive as one `Columns` object each, on an open connection.

    The library creates an object per bar, which takes most of the time of a download. This uses its internals: the
    decoder keeps a function per message in `handlers`, passes bars to the wrapper by `historicalData`, and their end by
    `historicalDataEnd`. Messages that cannot be read as columns are left to the library.
    """
    handlers, wrapper = ib.client.decoder.handlers, ib.wrapper
    slow = handlers[_BARS]

    def fast(fields: list[str]) -> None:
        table = _table(fields)
        if table is None:
            slow(fields)
            return
        number = int(fields[1])
        wrapper.historicalData(number, Columns(table))
        wrapper.historicalDataEnd(number, fields[2], fields[3])

    handlers[_BARS] = fast


def _table(fields: list[str]) -> pa.Table | None:
    """Return the bars of a message 17 in the order of arrival, None if it is not as expected."""
    import pyarrow as pa

    body = fields[_HEAD:]
    try:
        if not body or len(body) != _FIELDS * int(fields[4]):
            return None
        stamps, *numbers = (body[n::_FIELDS] for n in range(_FIELDS))
        prices = [pa.array(column).cast(pa.float64()) for column in numbers[:4]]
        volume, average, trades = (_known(*pair) for pair in zip(numbers[4:], COLUMNS[5:], strict=True))
        columns = [_times(stamps), *prices, volume, average, trades.cast(pa.int64())]
    except (ValueError, pa.ArrowInvalid):
        return None
    return pa.Table.from_arrays(columns, schema=schema())


def _known(texts: list[str], name: str) -> pa.Array:
    """Return the numbers of a column, null for IB's placeholders."""
    import pyarrow as pa

    return known_numbers(pa.array([text or None for text in texts], pa.string()).cast(pa.float64()), name)


def _times(stamps: list[str]) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    texts, utc = pa.array(stamps), pa.timestamp("us", tz="UTC")
    if {len(stamp) for stamp in stamps} == {8}:  # dates; epoch seconds have eight digits until March 1973 only
        return pc.strptime(texts, format="%Y%m%d", unit="us").cast(utc)
    return pc.multiply(texts.cast(pa.int64()), 1_000_000).cast(pa.timestamp("us")).cast(utc)
