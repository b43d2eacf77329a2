"""Contracts, bars and sessions in ib_insync's types, and in ours."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from backtest.errors import BadBars
from backtest.market.bars import known_numbers, table_of
from backtest.market.hours import Session
from backtest.market.series import ContractDetails, Instrument, Series, refuse_made
from backtest.sources.ib.decoder import Columns

if TYPE_CHECKING:
    import pyarrow as pa


_COUNTS = {"volume": "volume", "average": "average", "trades": "barCount"}


def client_library() -> Any:
    """Return ib_async if it is installed, otherwise ib_insync, which has the same names."""
    try:
        import ib_async as client
    except ImportError:
        import ib_insync as client
    log = logging.getLogger(client.__name__)
    if log.level == logging.NOTSET:  # it logs what we raise; to see its messages, enable this logger by name
        log.setLevel(logging.CRITICAL)
    return client


def contract_of(instrument: Instrument, known: ContractDetails | None = None) -> Any:
    """
    Return the contract of an instrument; if its details are known, it needs no qualification.

    Raises:
        UsageError: the instrument's bars would have to be built from those of stored contracts.
    """
    refuse_made(instrument)
    known, named = known or ContractDetails(), instrument.qualifier
    isin = "" if known.con_id else named("isin")
    return client_library().Contract(
        conId=known.con_id or int(named("conid") or 0),
        secType=instrument.kind,
        symbol=instrument.symbol,
        exchange=instrument.exchange,
        currency=instrument.currency,
        lastTradeDateOrContractMonth=known.last_trade_date or instrument.expiry,
        strike=float(instrument.strike or 0),
        right=instrument.right,
        localSymbol=known.local_symbol or named("local"),
        tradingClass=known.trading_class or named("class"),
        multiplier=known.multiplier or named("multiplier"),
        primaryExchange=known.primary_exchange or named("primary"),
        secIdType="ISIN" if isin else "",
        secId=isin,
        includeExpired=instrument.kind == "FUT",
    )


def wire_size(series: Series) -> str:
    """Return the bar size in the form of a request."""
    return series.size.request or series.size.label


def table(bars: Sequence[Any]) -> pa.Table:
    """
    Return the bars of an answer as a table.

    Raises:
        BadBars: a time has no zone.
    """
    if isinstance(bars[0], Columns):
        return bars[0].table
    counts = zip(*(_counts(bars, ours, theirs) for ours, theirs in _COUNTS.items()), strict=True)
    return table_of(
        [(_stamp(b.date), b.open, b.high, b.low, b.close, *row) for b, row in zip(bars, counts, strict=True)]
    )


def sessions_of(schedule: Any) -> list[Session]:
    """
    Return the sessions of a schedule, in order.

    Raises:
        ValueError: a time or the zone cannot be read.
    """
    zone = ZoneInfo(schedule.timeZone)
    return sorted(
        (
            Session(_day(row.refDate), _moment(row.startDateTime, zone), _moment(row.endDateTime, zone))
            for row in schedule.sessions
        ),
        key=lambda session: session.open,
    )


def _stamp(stamp: date | datetime) -> datetime:
    if isinstance(stamp, datetime):
        if stamp.tzinfo is None:
            raise BadBars(
                f"a bar is stamped {stamp:%Y%m%d %H:%M:%S} without a time zone, so its time is ambiguous; update TWS "
                "or IB "
                "Gateway, which should send seconds since 1970"
            )
        return stamp.astimezone(UTC)
    return datetime.combine(stamp, time(), UTC)


def _counts(bars: Sequence[Any], ours: str, theirs: str) -> list[float | None]:
    """Return a column that not all bars have: quotes have no volume."""
    import pyarrow as pa

    numbers: list[float | None] = known_numbers(
        pa.array([float(getattr(bar, theirs)) for bar in bars]), ours
    ).to_pylist()
    return numbers


def _day(text: str) -> date:
    return datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC).date()


def _moment(text: str, zone: ZoneInfo) -> datetime:
    return datetime.strptime(text, "%Y%m%d-%H:%M:%S").replace(tzinfo=zone).astimezone(UTC)
