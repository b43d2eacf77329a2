"""
The socket protocol of TWS on the gateway's side: frames, requests and their fields, outgoing messages.

A frame is a big-endian length of four bytes and fields, each ended by NUL. The fields of a message depend on the server
version that both sides agreed on; the numbers in the code are the versions at which IB changed a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import Field, dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from zoneinfo import ZoneInfo

from backtest.errors import LinkLost, NoConnection
from backtest.market.series import ContractDetails, Instrument

if TYPE_CHECKING:
    import asyncio

    import pyarrow as pa

MIN_VERSION = 100
MAX_VERSION = 200  # the last version with text messages: from 201 on IB sends protobuf
MAX_FRAME = 1 << 20  # bytes; requests have a few hundred
ACCOUNT = "DU0000000"
TAKEN = "Unable to connect as the client id is already in use. Retry with a unique client id."
LOGIN_ZONE = "US/Eastern"  # the zone that the user of the gateway chose when logging in
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ContractQuery:
    """A contract as a client describes it; empty fields and a con_id of 0 mean any."""

    con_id: int = 0
    symbol: str = ""
    kind: str = ""
    expiry: str = ""
    strike: float = 0.0
    right: str = ""
    multiplier: str = ""
    exchange: str = ""
    primary_exchange: str = ""
    currency: str = ""
    local_symbol: str = ""
    trading_class: str = ""
    include_expired: bool = False
    sec_id_type: str = ""  # such as ISIN; only a request for details has it
    sec_id: str = ""


class Request(Protocol):
    """A client's request: a frozen dataclass of the message's content."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def kind(self) -> str:
        """Its name in the log and in scripted faults."""


@dataclass(frozen=True, slots=True)
class StartApi:
    """71: the client names itself and is ready."""

    kind: ClassVar[str] = "start"
    client_id: int


@dataclass(frozen=True, slots=True)
class BarsRequest:
    """20: historical bars, or the schedule of sessions if `prices` is SCHEDULE; the words are the client's."""

    req_id: int
    contract: ContractQuery
    end: str
    size: str
    duration: str
    regular_hours: bool
    prices: str
    format_date: int = 1
    keep_up_to_date: bool = False
    cut: bool = False  # by a fault, not by the client

    @property
    def kind(self) -> str:
        """Its name in the log and in scripted faults."""
        return "schedule" if self.prices == "SCHEDULE" else "bars"


@dataclass(frozen=True, slots=True)
class HeadRequest:
    """87: the time of a contract's first bar; open until cancelled."""

    kind: ClassVar[str] = "head"
    req_id: int
    contract: ContractQuery
    regular_hours: bool
    prices: str
    format_date: int = 1


@dataclass(frozen=True, slots=True)
class DetailsRequest:
    """9: the contracts that match a description."""

    kind: ClassVar[str] = "details"
    req_id: int
    contract: ContractQuery


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """81: the contracts whose symbol or name begins with a text."""

    kind: ClassVar[str] = "search"
    req_id: int
    pattern: str


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """25 or 90: the client no longer wants the answer; `what` is "bars" or "head"."""

    kind: ClassVar[str] = "cancel"
    req_id: int
    what: str


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """3, 4, 21 or 58: anything that would move an order, which this gateway never does."""

    kind: ClassVar[str] = "order"
    order_id: int


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """A request whose answer is only an end: positions, orders, account; `number` is its message id."""

    kind: ClassVar[str] = "plain"
    number: int
    req_id: int = -1
    text: str = ""


# --- frames


async def read_version(reader: asyncio.StreamReader) -> int:
    """
    Read the opening of a connection and return the server version to use: the lower of both sides' maximum.

    Raises:
        NoConnection: the bytes are not an opening, or the versions do not meet.
    """
    if await reader.readexactly(4) != b"API\0":
        raise NoConnection("the connection does not open with API; is it a TWS client?")
    payload = await _read_payload(reader)
    found = re.match(rb"v(\d{1,9})(?:\.\.(\d{1,9}))?(?: |\0|$)", payload)
    if not found:
        raise NoConnection(f"the opening {payload[:40]!r} names no versions, such as v100..157")
    low, high = int(found[1]), int(found[2] or found[1])
    if high < MIN_VERSION or low > MAX_VERSION:
        raise NoConnection(f"the client speaks {low}..{high}, this gateway {MIN_VERSION}..{MAX_VERSION}")
    return min(high, MAX_VERSION)


async def read_fields(reader: asyncio.StreamReader) -> list[str]:
    """
    Read one frame and return its fields.

    Raises:
        LinkLost: the bytes are not a frame of fields, so nothing after them can be read either.
    """
    payload = await _read_payload(reader)
    if not payload.endswith(b"\0"):
        raise LinkLost(f"a frame of {len(payload)} bytes does not end its last field")
    try:
        return payload[:-1].decode().split("\0")
    except UnicodeDecodeError as error:
        raise LinkLost(f"a frame of {len(payload)} bytes is not UTF-8") from error


async def _read_payload(reader: asyncio.StreamReader) -> bytes:
    size = int.from_bytes(await reader.readexactly(4), "big")
    if not 0 < size <= MAX_FRAME:
        raise LinkLost(f"a frame says that it has {size} bytes; at most {MAX_FRAME} are accepted")
    return await reader.readexactly(size)


def framed(payload: bytes) -> bytes:
    """Return a payload with its length in front."""
    return len(payload).to_bytes(4, "big") + payload


def message(*fields: object) -> bytes:
    """Return the frame of the fields; True is 1, False is 0."""
    texts = (str(int(field)) if isinstance(field, bool) else str(field) for field in fields)
    return framed("".join(f"{text}\0" for text in texts).encode())


# --- incoming messages


class Fields:
    """The fields of a request, read one after another; a missing one is an error, an empty number is 0."""

    def __init__(self, fields: list[str], version: int) -> None:
        self._left = iter(fields)
        self.version = version

    def text(self) -> str:
        """Read a field as text."""
        return next(self._left)

    def integer(self) -> int:
        """Read a whole number."""
        return int(self.text() or 0)

    def flag(self) -> bool:
        """Read a boolean."""
        return self.text().lower() in ("1", "true")

    def skip(self, count: int) -> None:
        """Skip fields that are not needed."""
        for _ in range(count):
            self.text()

    def contract(self) -> ContractQuery:
        """Read the fields of a contract."""
        text = self.text  # the fields come in the order of the class
        return ContractQuery(
            self.integer(), text(), text(), text(), float(text() or 0), text(), text(), text(), text(), text(), text(),
            text(), self.flag(),
        )  # fmt: skip


# --- outgoing messages


def handshake(version: int, now: datetime) -> bytes:
    """Return the gateway's first frame: the version, and the time in the login zone."""
    return message(version, f"{now.astimezone(ZoneInfo(LOGIN_ZONE)):%Y%m%d %H:%M:%S %Z}")


def error(req_id: int, code: int, text: str, version: int, now: datetime) -> bytes:
    """Return message 4; a req_id of -1 addresses the connection, not a request."""
    if version >= 194:
        return message(4, req_id, code, text, "", int(now.timestamp() * 1000))
    return message(4, 2, req_id, code, text, *([""] if version >= 166 else []))


def details(req_id: int, instrument: Instrument, facts: ContractDetails, hours: tuple[str, str], version: int) -> bytes:
    """Return message 10, one contract; `hours` are the trading hours and the liquid hours as IB writes them."""
    name = facts.name.encode("unicode-escape").decode() if version >= 153 else facts.name
    month, kind = facts.contract_month or facts.last_trade_date[:6], "COMMON" if instrument.kind == "STK" else ""
    isin = instrument.qualifier("isin")
    return message(
        10, *([8] if version < 164 else []), req_id, instrument.symbol, instrument.kind, facts.last_trade_date,
        *([facts.last_trade_date] if version >= 182 else []), instrument.strike or 0, instrument.right,
        instrument.exchange, instrument.currency, facts.local_symbol, facts.trading_class, facts.trading_class,
        facts.con_id, facts.min_tick, *([1] if 110 <= version < 164 else []), facts.multiplier, "",
        facts.valid_exchanges, facts.price_magnifier or 1, 0,
        name, facts.primary_exchange, month, "", "", "", facts.time_zone, *hours, "", 0,
        *([1, "ISIN", isin] if isin else [0]),
        *([1] if version >= 121 else []), *(["", ""] if version >= 122 else []), *([""] if version >= 126 else []),
        *([facts.last_trade_date] if version >= 134 else []), *([kind] if version >= 152 else []),
        *([1] if version == 163 else []), *([1, 1, 1] if version >= 164 else []),
        *([""] * 17 if version >= 179 and instrument.kind == "FUND" else []), *([0] if version >= 186 else []),
    )  # fmt: skip


def samples(req_id: int, found: Iterable[tuple[Instrument, ContractDetails]], version: int) -> bytes:
    """Return message 79, the result of a symbol search."""
    rows = [
        (facts.con_id, instrument.symbol, instrument.kind, facts.primary_exchange, instrument.currency, 0)
        + ((facts.name, "") if version >= 176 else ())
        for instrument, facts in found
    ]
    return message(79, req_id, len(rows), *chain.from_iterable(rows))


def moment(time: datetime, zone: str, version: int) -> str:
    """Return a moment as text: in the instrument's zone with its name from 174 on, before in the login zone without."""
    if version >= 174:
        return f"{time.astimezone(ZoneInfo(zone)):%Y%m%d %H:%M:%S} {zone}"
    return f"{time.astimezone(ZoneInfo(LOGIN_ZONE)):%Y%m%d  %H:%M:%S}"


def stamp_texts(bars: pa.Table, daily: bool, format_date: int, zone: str, version: int) -> pa.Array:
    """
    Return the stamps of bars as text; those of daily bars are dates whatever the format.

    Arrow's `strftime` is not used: it loads the system's time zone database, which Windows and slim images lack.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    seconds = bars["time"].cast(pa.timestamp("s", "UTC")).cast(pa.int64())
    if daily:
        return pc.utf8_slice_codeunits(_clock_texts(seconds), 0, len("20240102"))
    if format_date == 2:
        return pc.cast(seconds, pa.string())
    texts = _clock_texts(_local_seconds(seconds.to_pylist(), ZoneInfo(zone if version >= 174 else LOGIN_ZONE)))
    if version >= 174:
        return pc.binary_join_element_wise(texts, zone, " ")
    return pc.replace_substring(texts, " ", "  ")


def _clock_texts(seconds: list[int] | pa.ChunkedArray) -> pa.Array:
    """Return seconds since 1970 as text such as 20240102 09:30:00."""
    import pyarrow as pa
    import pyarrow.compute as pc

    times = seconds if isinstance(seconds, pa.ChunkedArray) else pa.array(seconds, pa.int64())
    return pc.replace_substring(times.cast(pa.timestamp("s")).cast(pa.string()), "-", "")


def _local_seconds(times: list[int], zone: ZoneInfo) -> list[int]:
    """Return the clock of the zone at each time, as if it were UTC; no zone changes within a quarter of an hour."""
    quarters = {time // 900 for time in times}
    offsets = {
        quarter: (_EPOCH + timedelta(seconds=quarter * 900)).astimezone(zone).utcoffset() for quarter in quarters
    }
    seconds = {quarter: int(offset.total_seconds()) for quarter, offset in offsets.items() if offset is not None}
    return [time + seconds[time // 900] for time in times]


def bars_answer(req_id: int, times: pa.Array, bars: pa.Table, start: str, end: str, version: int) -> list[bytes]:
    """
    Return message 17 with the bars, and from 196 on message 108 that ends the request.

    A price is written with the fewest digits that give the same double again; null is -1.
    """
    span = [] if version >= 196 else [start, end]
    head = [17, *([3] if version < 124 else []), req_id, *span, len(bars)]
    payload = "".join(f"{field}\0" for field in head).encode() + _rows(times, bars, version)
    return [framed(payload), *([message(108, req_id, start, end)] if version >= 196 else [])]


def schedule(
    req_id: int, start: datetime, end: datetime, zone: str, sessions: list[tuple[datetime, datetime, str]]
) -> bytes:
    """Return message 106: sessions as opening, close and date, in the zone."""
    place = ZoneInfo(zone)
    rows = [(_dashed(opening, place), _dashed(close, place), day) for opening, close, day in sessions]
    return message(106, req_id, _dashed(start, place), _dashed(end, place), zone, len(rows), *chain(*rows))


def head(req_id: int, time: datetime, format_date: int) -> bytes:
    """Return message 88: epoch seconds, or text in UTC."""
    return message(88, req_id, int(time.timestamp()) if format_date == 2 else f"{time:%Y%m%d-%H:%M:%S}")


def _dashed(time: datetime, zone: ZoneInfo) -> str:
    return f"{time.astimezone(zone):%Y%m%d-%H:%M:%S}"


def _rows(times: pa.Array, bars: pa.Table, version: int) -> bytes:
    import pyarrow.compute as pc

    prices = [_number(bars[name]) for name in ("open", "high", "low", "close")]
    gaps = ["false"] if version < 124 else []
    columns = [
        times,
        *prices,
        _volume(bars["volume"], version),
        _number(bars["average"]),
        *gaps,
        _number(bars["trades"]),
    ]
    rows = pc.binary_join_element_wise(*columns, "", "\0")
    return "".join(rows.to_pylist()).encode()


def _number(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.fill_null(pc.cast(column, pa.string()), "-1")  # Arrow writes the shortest digits that read back the same


def _volume(column: pa.ChunkedArray, version: int) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    rounded = pc.round(column) if version < 163 else column
    whole = pc.equal(pc.floor(rounded), rounded)
    # 1e+06 would be right for a double, but older clients read an integer.
    integers = pc.cast(pc.cast(pc.if_else(whole, rounded, 0.0), pa.int64()), pa.string())
    return pc.fill_null(pc.if_else(whole, integers, pc.cast(rounded, pa.string())), "-1")
