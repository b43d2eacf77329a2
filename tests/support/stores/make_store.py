"""
Make a small store in the newest format: every kind of file that a store can hold, of made-up bars.

Run:  python tests/support/stores/make_store.py        (writes FORMAT)

A store of each format that was ever in use is kept here, as it was written then; `test_formats.py` opens, verifies
and continues each. So run this once for a new format, commit what it made, and never make an old one again. The folder
`extra` has a series with extra columns, whose manifest has a format of its own; `test_extra_columns.py` reads it.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from backtest.market.bars import schema, table_of
from backtest.market.series import ContractDetails, Series
from backtest.market.span import Span
from backtest.store.manifest import FORMAT
from backtest.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

DAILY, MINUTES = Series.parse("AAPL/1day"), Series.parse("EUR-CASH/1min")
CONTRACT = ContractDetails(265598, "AAPL", "NMS", "APPLE INC", "NASDAQ", "SMART,NASDAQ", "US/Eastern")
NOON = datetime(2024, 1, 31, 12, tzinfo=UTC)
AT = datetime(2024, 3, 1, tzinfo=UTC)


def main() -> None:
    """Write the store of this version's format."""
    for name, write in ((str(FORMAT), fill), ("extra", fill_extra)):
        folder = Path(__file__).parent / name
        if folder.exists():
            continue  # an old one stays as it was written
        write(Store(folder))
        for lock in folder.rglob(".lock"):
            lock.unlink()


def fill(store: Store) -> None:
    """Write a series with a revision, an answer of "none" and an answer put aside, and one of two months."""
    store.write(DAILY, days(2, 5), daily(2, 5, close=11.5), source="ib", contract=CONTRACT, at=AT)
    store.write(DAILY, days(6, 7), schema().empty_table(), source="ib", text="HMDS query returned no data", at=AT)
    store.write(DAILY, days(2, 5), daily(2, 5), source="ib", at=AT, revise=True)
    store.write(DAILY, days(8, 9), daily(8, 9), source="ib", at=AT)
    store.quarantine(DAILY, days(8, 9), daily(8, 9, close=11.9), "they had settled")
    for first in (NOON, NOON + timedelta(days=1)):
        store.write(MINUTES, Span(first, first + timedelta(hours=1)), minutes(first, 60), source="csv", at=AT)


def fill_extra(store: Store) -> None:
    """Write a series with extra columns: one from the start, a revision of it, and one that came later."""
    for last in (0.0, 0.5):
        bars = with_column(daily(2, 5), "signal", [1.0, None, -1.0, last])
        store.write(DAILY, days(2, 5), bars, source="csv", at=AT, revise=True)
    store.write(DAILY, days(5, 8), with_column(daily(5, 8).take([0, 3]), "score", [7.0, 8.0]), source="csv", at=AT)


def with_column(bars: pa.Table, name: str, numbers: list[float | None]) -> pa.Table:
    """Return bars with an extra column."""
    import pyarrow as pa

    return bars.append_column(pa.field(name, pa.float64()), pa.array(numbers, pa.float64()))


def days(first: int, last: int) -> Span:
    """Return the span of days of January 2024."""
    return Span.of_dates(date(2024, 1, first), date(2024, 1, last))


def daily(first: int, last: int, close: float = 11.0) -> pa.Table:
    """Return a bar for each of these days of January 2024."""
    stamps = [datetime(2024, 1, day, tzinfo=UTC) for day in range(first, last + 1)]
    return table_of([(stamp, 10.0, 12.0, 9.0, close, 100.0 * stamp.day, 10.25, stamp.day) for stamp in stamps])


def minutes(start: datetime, count: int) -> pa.Table:
    """Return bars without volume, as of a quote."""
    stamps = [start + timedelta(minutes=number) for number in range(count)]
    return table_of([(stamp, 1.1, 1.2, 1.0, 1.1 + stamp.minute / 1000, None, None, None) for stamp in stamps])


if __name__ == "__main__":
    main()
