"""Contracts, bars and sessions as ib_insync spells them, and the same as we do."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from backtest.errors import AmbiguousContract, UnknownContract, UsageError
from backtest.market.bars import table_of
from backtest.market.calendars import Session
from backtest.market.series import ContractDetails, Instrument, Series, refuse_made
from backtest.sources.ib.decoder import Columns

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN = 10  # candidates
_TELLING = {"primary": "primaryExchange", "multiplier": "multiplier", "class": "tradingClass", "local": "localSymbol"}
_NONE: Mapping[str, str] = MappingProxyType({})


def client_library() -> Any:
    """Return ib_async where it is installed, else ib_insync, which has the same names."""
    try:
        import ib_async as client
    except ImportError:
        import ib_insync as client
    log = logging.getLogger(client.__name__)
    if log.level == logging.NOTSET:  # it logs what we raise; whoever wants its words turns them on by name
        log.setLevel(logging.CRITICAL)
    return client


def contract_of(instrument: Instrument, known: ContractDetails | None = None) -> Any:
    """
    Return the contract of an instrument; with what is known of it, it needs no qualification.

    Raises:
        UsageError: the instrument's bars would have to be made from those of stored contracts.
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


def only(instrument: Instrument, found: Sequence[Any]) -> tuple[Any, ContractDetails]:
    """
    Return the contract that was found for an instrument, ready for requests, and what IB says of it.

    Raises:
        UnknownContract: none was found.
        AmbiguousContract: several were found; the text lists them.
        UsageError: the number or the ISIN in the spelling is that of another instrument.
    """
    if len(found) > 1:
        raise AmbiguousContract(_choice(instrument, found), 200)
    if not found:
        raise UnknownContract(f"the gateway has no details of {instrument}; check symbol, kind and exchange", 200)
    contract = found[0].contract
    _check_identity(instrument, contract)
    contract.lastTradeDateOrContractMonth = _expiry(contract)
    contract.exchange = instrument.exchange
    contract.includeExpired = instrument.kind == "FUT"
    return contract, _details_of(found[0])


def matches(found: Iterable[Any]) -> list[str]:
    """Return the finds of a search for symbols, spelled as instruments, each with its name."""
    spellings = [(_spelled(one.contract, _usual_exchange(one.contract)), one.contract) for one in found]
    return [f"{spelling} ({_name(contract)})" if _name(contract) else spelling for spelling, contract in spellings]


def wire_size(series: Series) -> str:
    """Return the bar size as a request has it."""
    return {"1 week": "1W", "1 month": "1M"}.get(series.size.label, series.size.label)


def table(bars: Sequence[Any]) -> pa.Table:
    """Return the bars of an answer as a table."""
    if isinstance(bars[0], Columns):
        return bars[0].table
    return table_of([(_stamp(b.date), b.open, b.high, b.low, b.close, *_counts(b)) for b in bars])


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


def _choice(instrument: Instrument, found: Sequence[Any]) -> str:
    shown = [details.contract for details in found[:_SHOWN]]
    spellings, keys = _told_apart(instrument, [details.contract for details in found])
    spellings = spellings[:_SHOWN]
    rows = [("write", "conId", "exchange", "currency", "expiry", "name")] + [
        (spelling, str(c.conId), c.primaryExchange or c.exchange, c.currency, _expiry(c) or "-", details.longName)
        for spelling, c, details in zip(spellings, shown, found, strict=False)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    more = f"\n... and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    named = ", ".join(dict.fromkeys(spellings))
    by = f" by its {' and '.join(keys)}" if keys else ""
    return f"{instrument} fits {len(found)} contracts; name one{by}, such as {named}:\n" + "\n".join(lines) + more


def _told_apart(instrument: Instrument, found: Sequence[Any]) -> tuple[list[str], list[str]]:
    """Return a spelling of each contract that none of the others has, and the keys of the qualifiers that it took."""
    spellings = [_spelled(contract, contract.exchange, dict(instrument.qualifiers)) for contract in found]
    alike = defaultdict(list)
    for place, spelling in enumerate(spellings):
        alike[spelling].append(place)
    keys = []
    for places in (places for places in alike.values() if len(places) > 1):
        key, values = _distinct([found[place] for place in places])
        keys.append(key)
        for place, value in zip(places, values, strict=True):
            contract = found[place]
            spellings[place] = _spelled(contract, contract.exchange, {**dict(instrument.qualifiers), key: value})
    return spellings, list(dict.fromkeys(keys))


def _distinct(alike: Sequence[Any]) -> tuple[str, list[str]]:
    """Return the first qualifier that each of the contracts has another value of; their numbers always differ."""
    for key, field in _TELLING.items():
        values = [str(getattr(contract, field)) for contract in alike]
        if all(values) and len(set(values)) == len(values):
            return key, values
    return "conid", [str(contract.conId) for contract in alike]


def _check_identity(instrument: Instrument, contract: Any) -> None:
    """Raise UsageError where a number or an ISIN named another instrument than the words before it."""
    named = [f"{key} {value}" for key, value in instrument.qualifiers if key in ("conid", "isin")]
    words = (instrument.symbol, instrument.kind, instrument.currency)
    if named and (contract.symbol, contract.secType, contract.currency) != words:
        found = _spelled(contract, instrument.exchange, dict(instrument.qualifiers))
        raise UsageError(f"{' and '.join(named)} is {found}, not {instrument}; write that, or leave out the qualifier")


def _spelled(contract: Any, exchange: str, qualifiers: Mapping[str, str] = _NONE) -> str:
    right = contract.right[:1] if contract.right in ("C", "P", "CALL", "PUT") else ""
    strike = f"{contract.strike:g}" if right else ""
    words = (contract.symbol, contract.secType, exchange, contract.currency, _expiry(contract), strike, right)
    try:
        return str(Instrument(*words, qualifiers=tuple(qualifiers.items())))
    except UsageError:
        return f"{contract.symbol} {contract.secType} {exchange} {contract.currency}".strip()


def _usual_exchange(contract: Any) -> str:
    exchange = Instrument.parse(f"X-{contract.secType}").exchange if contract.secType in ("STK", "CASH") else ""
    return exchange or contract.primaryExchange or contract.exchange


def _name(contract: Any) -> str:
    return str(getattr(contract, "description", ""))


def _expiry(contract: Any) -> str:
    expiry = contract.lastTradeDateOrContractMonth
    return expiry.split()[0] if expiry else ""  # without the hour


def _details_of(found: Any) -> ContractDetails:
    contract = found.contract
    return ContractDetails(
        contract.conId,
        contract.localSymbol,
        contract.tradingClass,
        found.longName,
        contract.primaryExchange,
        found.validExchanges,
        found.timeZoneId,
        float(found.minTick),
        contract.multiplier,
        contract.lastTradeDateOrContractMonth,
        found.contractMonth,
    )


def _stamp(stamp: date | datetime) -> datetime:
    if isinstance(stamp, datetime):
        return stamp.astimezone(UTC)
    return datetime.combine(stamp, time(), UTC)


def _counts(bar: Any) -> tuple[float | None, float | None, int | None]:
    # IB's -1 means "does not apply": quotes have no volume.
    average = None if bar.average == -1 or math.isnan(bar.average) else bar.average
    return (
        None if bar.volume == -1 else float(bar.volume),
        average,
        None if bar.barCount == -1 else int(bar.barCount),
    )


def _day(text: str) -> date:
    return datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC).date()


def _moment(text: str, zone: ZoneInfo) -> datetime:
    return datetime.strptime(text, "%Y%m%d-%H:%M:%S").replace(tzinfo=zone).astimezone(UTC)
