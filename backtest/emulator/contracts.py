"""The instruments of a store as contracts: their details, and which ones a description matches."""

from __future__ import annotations

import calendar
import hashlib
from dataclasses import dataclass, replace
from datetime import date, datetime
from zoneinfo import ZoneInfo

from backtest.emulator.protocol import ContractQuery
from backtest.errors import UsageError
from backtest.market.hours import Hours, Session, hours_of
from backtest.market.series import ContractDetails, Instrument
from backtest.market.span import Span
from backtest.runs.currencies import MINOR_UNITS, price_unit

_EXPIRING = ("FUT", "OPT", "FOP", "WAR")
_IB_ZONES = {"America/New_York": "US/Eastern", "America/Chicago": "US/Central"}  # as IB writes them


@dataclass(frozen=True, slots=True)
class Listing:
    """An instrument of the store with all its details, none in `facts` omitted, and its trading hours."""

    instrument: Instrument
    facts: ContractDetails
    hours: Hours


def listing_of(instrument: Instrument, stored: ContractDetails | None) -> Listing:
    """Return the listing of an instrument, with defaults for what is not stored."""
    facts, named, hours = stored or ContractDetails(), instrument.qualifier, _hours_of(instrument, stored)
    pair = f"{instrument.symbol}.{instrument.currency}" if instrument.kind == "CASH" else instrument.symbol
    facts = replace(
        facts,
        con_id=facts.con_id or int(named("conid") or 0) or made_up_number(instrument),
        local_symbol=facts.local_symbol or named("local") or pair,
        trading_class=facts.trading_class or named("class") or pair,
        multiplier=facts.multiplier or named("multiplier"),
        primary_exchange=facts.primary_exchange or named("primary"),
        name=facts.name or instrument.symbol,
        valid_exchanges=facts.valid_exchanges or instrument.exchange,
        time_zone=_zone(hours, facts.time_zone),
        last_trade_date=facts.last_trade_date or instrument.expiry,
        price_magnifier=facts.price_magnifier or _magnifier(instrument, stored),
    )
    return Listing(instrument, facts, hours)


def _magnifier(instrument: Instrument, stored: ContractDetails | None) -> str:
    """Return how many units of price make one of the currency, by the unit that IB quotes in; "" for one."""
    try:
        share = price_unit(instrument, stored).share
    except UsageError:  # pounds or pence: not known
        return ""
    return "" if share == 1 or instrument.currency in MINOR_UNITS else f"{1 / share:.0f}"


def _hours_of(instrument: Instrument, stored: ContractDetails | None) -> Hours:
    """Return the hours of an instrument: those IB stated when its bars were fetched, otherwise the calendar's."""
    try:
        return hours_of(instrument, stored)
    except UsageError:  # a store may hold any text
        return hours_of(instrument)


def made_up_number(instrument: Instrument) -> int:
    """Return a contract number for an instrument without one: always the same for the same spelling."""
    return 100_000_000 + int(hashlib.sha256(instrument.key.encode()).hexdigest()[:12], 16) % 1_900_000_000


def _zone(hours: Hours, stored: str) -> str:
    for name in (stored, hours.zone):
        try:
            return _IB_ZONES.get(name, ZoneInfo(name).key)
        except (KeyError, ValueError, OSError):
            continue
    return "UTC"


def fits(query: ContractQuery, listing: Listing) -> bool:
    """Return whether a description matches the listing; one without number and symbol matches none."""
    instrument, facts = listing.instrument, listing.facts
    if query.exchange not in ("", instrument.exchange) or query.kind not in ("", instrument.kind):
        return False
    if query.con_id:
        return query.con_id == facts.con_id
    return bool(query.symbol or query.local_symbol or query.sec_id) and all((
        query.symbol in ("", instrument.symbol),
        query.local_symbol in ("", facts.local_symbol),
        query.currency in ("", instrument.currency),
        query.primary_exchange in ("", instrument.exchange, facts.primary_exchange or query.primary_exchange),
        query.trading_class in ("", facts.trading_class),
        query.multiplier in ("", facts.multiplier or query.multiplier),
        query.sec_id == "" or (query.sec_id_type, query.sec_id) == ("ISIN", instrument.qualifier("isin")),
        _fits_expiry(query.expiry, instrument.expiry, facts),
        query.strike == 0 or (instrument.strike != "" and float(instrument.strike) == query.strike),
        query.right[:1] in ("", "0", "?", instrument.right),
    ))  # fmt: skip


def _fits_expiry(asked: str, expiry: str, facts: ContractDetails) -> bool:
    if not asked:
        return True
    if len(asked) == 6 and facts.contract_month:
        return asked == facts.contract_month  # oil of December trades for the last time in November
    return any(
        known and (known.startswith(asked) or asked.startswith(known)) for known in {expiry, facts.last_trade_date[:8]}
    )


def expired(listing: Listing, now: datetime) -> bool:
    """Return whether the contract no longer trades; one known by its month trades until the month is over."""
    text = listing.facts.last_trade_date[:8]
    if listing.instrument.kind not in _EXPIRING or len(text) not in (6, 8) or not text.isdigit():
        return False
    year, month = int(text[:4]), int(text[4:6])
    day = int(text[6:]) if len(text) == 8 else calendar.monthrange(year, month)[1]
    return date(year, month, day) < now.date()


def words(listing: Listing) -> list[str]:
    """Return the words that a symbol search compares, in upper case."""
    return [listing.instrument.symbol.upper(), *listing.facts.name.upper().split()]


def hours_text(sessions: list[Session], week: list[date], listing: Listing) -> str:
    """Return sessions as IB writes them: 20261120:0930-20261120:1600;20261121:CLOSED, "" if none is known."""
    zone = ZoneInfo(listing.facts.time_zone)
    if not sessions:
        return ""
    by_day = {session.day: session for session in sessions}
    return ";".join(
        ",".join(
            f"{part.start.astimezone(zone):%Y%m%d:%H%M}-{part.end.astimezone(zone):%Y%m%d:%H%M}"
            for part in parts_of(by_day[day])
        )
        if day in by_day
        else f"{day:%Y%m%d}:CLOSED"
        for day in week
    )


def parts_of(session: Session) -> list[Span]:
    """Return the parts of a session between its breaks."""
    return Span(session.open, session.close).minus(session.breaks)
