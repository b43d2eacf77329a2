"""
`Hours`: when an instrument trades, as plain data: the table of exchanges, and what IB states for the contract.

`Week` gives the days on which an exchange opens if no calendar of its holidays is known. A row without a public source
is marked unconfirmed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from backtest.errors import UsageError
from backtest.market.series import ContractDetails, Instrument
from backtest.market.span import Span, union

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

# Exchange as IB names it -> calendar of exchange_calendars. The US venues share the hours of NYSE.
_CALENDARS = {
    **dict.fromkeys(("NYSE", "NASDAQ", "ARCA", "AMEX", "BATS", "ISLAND", "IEX", "PINK", "CBOE"), "XNYS"),
    **dict.fromkeys(("CME", "GLOBEX", "CBOT", "ECBOT", "NYMEX", "COMEX"), "CMES"),
    "LSE": "XLON", "LSEETF": "XLON", "IBIS": "XETR", "FWB": "XFRA", "SBF": "XPAR", "AEB": "XAMS", "EBS": "XSWX",
    "BVME": "XMIL", "BM": "XMAD", "TSE": "XTSE", "VENTURE": "XTSE", "SEHK": "XHKG", "TSEJ": "XTKS", "ASX": "XASX",
    "SGX": "XSES", "EUREX": "XEUR", "DTB": "XEUR", "ICEUS": "IEPA", "NYBOT": "IEPA", "IPE": "IEPA",
    **dict.fromkeys(("MEMX", "PEARL", "LTSE", "BYX", "EDGEA", "DRCTEDGE", "BEX", "PSX", "CHX", "NYSENAT"), "XNYS"),
    "FWB2": "XFRA", "IBIS2": "XETR", "ENEXT.BE": "XBRU", "BVL": "XLIS", "ISED": "XDUB", "VSE": "XWBO", "WSE": "XWAR",
    "PRA": "XPRA", "BUX": "XBUD", "SFB": "XSTO", "HEX": "XHEL", "CPH": "XCSE", "OSE": "XOSL",
    "FTA": "XAMS", "BELFOX": "XBRU", "OMS": "XSTO", "CFE": "CMES", "SWB": "XSTU",
    "JSE": "XJSE", "NSE": "XBOM", "KSE": "XKRX", "TWSE": "XTAI", "MEXI": "XMEX", "SEHKNTL": "XSHG", "SEHKSZSE": "XSHG",
}  # fmt: skip
# Exchange -> its rule in WEEKS, and its time zone, if no calendar of its holidays is known.
_WEEKS = {
    "TASE": ("TASE", "Asia/Tel_Aviv"),
    "TADAWUL": ("Sunday to Thursday", "Asia/Riyadh"),  # unconfirmed
    "GETTEX": ("weekdays", "Europe/Berlin"),
    "ICEEU": ("weekdays", "Europe/London"), "ICEEUSOFT": ("weekdays", "Europe/London"),
    "IDEM": ("weekdays", "Europe/Rome"), "MEFFRV": ("weekdays", "Europe/Madrid"), "MONEP": ("weekdays", "Europe/Paris"),
    "OSE.JPN": ("weekdays 16:00", "Asia/Tokyo"),  # nights from 16:30 or 17:00; jpx.co.jp, thetradenews.com
    "HKFE": ("weekdays 17:00", "Asia/Hong_Kong"),  # nights from 17:15; hkex.com.hk
    "SNFE": ("weekdays 17:00", "Australia/Sydney"),  # nights from 17:10: unconfirmed
    "CDE": ("weekdays 18:00", "America/Toronto"),  # nights from 20:00: unconfirmed
    "OVERNIGHT": ("weekdays 12:00", "America/New_York"),  # nights from 20:00, of the next date: unconfirmed
}  # fmt: skip
_AS_SMART = ("SMART", "VALUE")  # no place of its own: by the currency
_BY_CURRENCY = {
    "USD": "XNYS", "GBP": "XLON", "EUR": "XETR", "CHF": "XSWX", "CAD": "XTSE", "HKD": "XHKG", "JPY": "XTKS",
    "AUD": "XASX", "SEK": "XSTO", "NOK": "XOSL", "DKK": "XCSE", "PLN": "XWAR", "HUF": "XBUD", "CZK": "XPRA",
    "SGD": "XSES", "KRW": "XKRX", "TWD": "XTAI", "INR": "XBOM", "CNH": "XSHG", "ZAR": "XJSE", "MXN": "XMEX",
    "ILS": "TASE", "SAR": "TADAWUL",
}  # fmt: skip
_OTHER_NAMES = {"XETRA": "IBIS", "XETR": "IBIS", "EURONEXT": "SBF, AEB, ENEXT.BE or BVL", "TSX": "TSE", "HKEX": "SEHK"}
EXCHANGES = tuple(sorted({*_CALENDARS, *_WEEKS, *_AS_SMART}))  # whose hours are known
FOREX, ALWAYS = "24/5", "24/7"
# Calendars of futures, and those of exchanges whose futures, options and indices have hours of their own.
FUTURES = ("CMES", "IEPA")
_OWN_HOURS = ("FUT", "CONTFUT", "FOP", "OPT", "WAR", "IND", "CFD")
_NOT_NEW_YORKS = ("OPT", "WAR", "IND", "CFD")  # which trade there when stocks do, a quarter of an hour longer
# As in exchange_calendars; repeated here, since its import and a calendar of 35 years take a second.
_ZONES = {
    FOREX: "America/New_York", ALWAYS: "UTC", "XNYS": "America/New_York", "CMES": "America/Chicago",
    "IEPA": "America/New_York", "XTSE": "America/Toronto", "XMEX": "America/Mexico_City", "XLON": "Europe/London",
    "XDUB": "Europe/Dublin", "XLIS": "Europe/Lisbon", "XETR": "Europe/Berlin", "XFRA": "Europe/Berlin",
    "XEUR": "Europe/Berlin", "XPAR": "Europe/Paris", "XAMS": "Europe/Amsterdam", "XBRU": "Europe/Brussels",
    "XSWX": "Europe/Zurich", "XMIL": "Europe/Rome", "XMAD": "Europe/Madrid", "XWBO": "Europe/Vienna",
    "XWAR": "Europe/Warsaw", "XPRA": "Europe/Prague", "XBUD": "Europe/Budapest", "XSTO": "Europe/Stockholm",
    "XHEL": "Europe/Helsinki", "XCSE": "Europe/Copenhagen", "XOSL": "Europe/Oslo", "XSTU": "Europe/Berlin",
    "XJSE": "Africa/Johannesburg", "XBOM": "Asia/Kolkata", "XHKG": "Asia/Hong_Kong",
    "XSHG": "Asia/Shanghai", "XTAI": "Asia/Taipei", "XKRX": "Asia/Seoul", "XTKS": "Asia/Tokyo",
    "XSES": "Asia/Singapore", "XASX": "Australia/Sydney",
}  # fmt: skip
_DAY = timedelta(days=1)
_ENTRY = r"(?P<day>\d{8}):(?P<rest>.+)"
_RANGE = r"(?:(?P<opens>\d{8}):)?(?P<start>\d{4})-(?:(?P<closes>\d{8}):)?(?P<end>\d{4})"
_EVER = date.min
_MONDAY_TO_FRIDAY, _SUNDAY_TO_THURSDAY = (0, 1, 2, 3, 4), (0, 1, 2, 3, 6)
_SATURDAY, _SUNDAY = 5, 6


@dataclass(frozen=True, slots=True)
class Week:
    """
    The days of the week with a session, Monday is 0, and when sessions begin.

    Args:
        days: the first date of each rule, in order, and its days.
        begins: when a session begins, on the exchange's clock: at midnight, or at that time on the previous day.
        rule: the rule in words, for messages.
    """

    days: tuple[tuple[date, tuple[int, ...]], ...] = ((_EVER, _MONDAY_TO_FRIDAY),)
    begins: time = time()
    rule: str = "weekdays; no holidays known"

    def opens(self, day: date) -> bool:
        """Return whether the rule has a session on the date."""
        return day.weekday() in [days for since, days in self.days if since <= day][-1]


WEEKDAYS = Week()
# As `Hours.calendar` has them. A night session belongs to the next day: a session begins when the day's has ended.
WEEKS = {
    "weekdays": WEEKDAYS,
    **{f"weekdays {hour}:00": Week(begins=time(hour)) for hour in (12, 16, 17, 18)},
    # Source: exchange_calendars 4.13.2, which cannot lay it out with pandas 3.
    "TASE": Week(
        ((_EVER, _SUNDAY_TO_THURSDAY), (date(2026, 1, 5), _MONDAY_TO_FRIDAY)),
        rule="Sunday to Thursday, from 2026-01-05 weekdays; no holidays known",
    ),
    "Sunday to Thursday": Week(
        ((_EVER, _SUNDAY_TO_THURSDAY),), rule="Sunday to Thursday; no holidays known"
    ),
}  # fmt: skip

# Calendar -> days of the weekend, and the last date, of sessions that exchange_calendars lacks. Bars
# on those days are accepted, but not required.
WEEKEND_SESSIONS: dict[str, tuple[tuple[int, ...], date]] = {
    "XNYS": ((_SATURDAY,), date(1952, 9, 30)),  # unconfirmed
    "XTKS": ((_SATURDAY,), date(1989, 1, 31)),  # unconfirmed
    "XKRX": ((_SATURDAY,), date(1998, 12, 6)),  # its mask in exchange_calendars, without effect with pandas 3
    "XTAI": ((_SATURDAY,), date(2018, 12, 31)),  # made-up working days: Taipei Times, 2018-07-04
    "XBOM": ((_SATURDAY, _SUNDAY), date.max),  # budgets, festivals and drills; exchange_calendars has some
}


@dataclass(frozen=True, slots=True)
class Session:
    """A trading session: its date, when it opens and closes, and its breaks, in UTC."""

    day: date
    open: datetime
    close: datetime
    breaks: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class StatedHours:
    """All sessions that a vendor states for a contract from `since` to `until`, both included."""

    since: date
    until: date
    sessions: tuple[Session, ...]
    regular_hours: bool = True


@dataclass(frozen=True, slots=True)
class Hours:
    """
    When an instrument trades, in regular hours and in all hours; equal for instruments with the same hours.

    `stated` takes precedence over the exchange's calendar on the dates that it covers; if two entries cover a date, the
    later one counts.
    """

    calendar: str  # of exchange_calendars or WEEKS, "24/5" (forex) or "24/7" (crypto); "" where none is known
    zone: str  # IANA name, of the exchange; "" where it is not known
    stated: tuple[StatedHours, ...] = ()
    unknown: str = ""  # whose calendar is not known, for messages; "" where there is one
    own: bool = False  # whether it trades at its own hours, which the calendar of the exchange does not cover


def hours_of(instrument: Instrument, details: ContractDetails | None = None) -> Hours:
    """
    Return the hours of an instrument: those in its contract details, otherwise those of its exchange's calendar.

    Raises:
        UsageError: the hours in the details cannot be read.
    """
    hours = _by_exchange(instrument)
    if details is None:
        return hours
    zone = details.time_zone or hours.zone
    texts = ((details.trading_hours, False), (details.liquid_hours, True))
    stated = [stated_hours(text, zone, regular_hours) for text, regular_hours in texts if text]
    return replace(hours, zone=hours.zone or details.time_zone, stated=tuple(stated))


@lru_cache(maxsize=1024)
def stated_hours(text: str, zone: str, regular_hours: bool = True) -> StatedHours:
    """
    Return the sessions in IB's `liquidHours` (regular hours) or `tradingHours` (all), and the dates that they cover.

    It reads both forms: the current 20240102:0930-20240102:1600;20240103:CLOSED, and 20240102:0930-1130,1230-1600 of
    old versions. In the old form the date is the session's: the first range of an entry that crosses midnight begins on
    the evening before, any other ends on the day after. In the current form a range has its own dates and belongs to
    the date on which it ends or, if that is CLOSED, to the next range's date: a Friday evening in Hong Kong to Monday.
    Without a following range, it is left out together with its session.

    Raises:
        UsageError: an entry or the zone cannot be read, or the text is empty.
    """
    from zoneinfo import ZoneInfo

    entries = [entry.strip() for entry in text.split(";") if entry.strip()]
    shut = [entry for entry in entries if entry[8:].upper() == ":CLOSED"]
    try:
        where = ZoneInfo(zone)
        closed = {_date(entry[:8]) for entry in shut}
        dated = [pair for entry in entries if entry not in shut for pair in _ranges(entry, where)]
    except (KeyError, ValueError, OSError, OverflowError, UsageError) as error:
        raise UsageError(f"{text[:200]!r} in the zone {zone!r} cannot be read as hours of IB ({error})") from error
    known = sorted(_with_days(dated, closed, where), key=lambda pair: (pair[0], pair[1].start))
    sessions = tuple(_session(day, [span for _, span in pairs]) for day, pairs in groupby(known, lambda pair: pair[0]))
    days = closed | {session.day for session in sessions}
    if not days:
        raise UsageError(f"{text[:200]!r} cannot be read as hours of IB, such as 20240102:0930-20240102:1600")
    return StatedHours(min(days), max(days), sessions, regular_hours)


@lru_cache(maxsize=1024)
def _by_exchange(instrument: Instrument) -> Hours:
    name = _calendar_name(instrument)
    if name in _WEEKS:
        return Hours(*_WEEKS[name], own=_has_own_hours(instrument, name))
    if name:
        return Hours(name, _ZONES[name], own=_has_own_hours(instrument, name))
    meant = f", which IB calls {_OTHER_NAMES[instrument.exchange]}," if instrument.exchange in _OTHER_NAMES else ""
    return Hours("", "", unknown=f"the exchange {instrument.exchange!r}{meant} of {instrument}")


def _has_own_hours(instrument: Instrument, calendar: str) -> bool:
    if calendar in (FOREX, ALWAYS, *FUTURES) or (calendar == "XNYS" and instrument.kind in _NOT_NEW_YORKS):
        return False
    return instrument.kind in _OWN_HOURS


def _calendar_name(instrument: Instrument) -> str:
    """Return a calendar of exchange_calendars, or an exchange of `_WEEKS`; "" if there is neither."""
    if instrument.kind in ("CASH", "CMDTY"):
        return FOREX
    if instrument.kind == "CRYPTO":
        return ALWAYS
    for exchange in (instrument.exchange, instrument.qualifier("primary")):
        if exchange in _WEEKS:
            return exchange
        if exchange in _CALENDARS:
            return _CALENDARS[exchange]
    return _BY_CURRENCY.get(instrument.currency, "") if instrument.exchange in _AS_SMART else ""


def _ranges(entry: str, zone: ZoneInfo) -> Iterator[tuple[date | None, Span]]:
    """Yield the ranges of an entry, each with its session's date if the entry gives it."""
    match = re.fullmatch(_ENTRY, entry)
    if match is None:
        raise ValueError(f"{entry!r} has no date")
    day = _date(match["day"])
    for number, text in enumerate(match["rest"].split(",")):
        found = re.fullmatch(_RANGE, text.strip())
        if found is None:
            raise ValueError(f"{text!r} is not a range of times")
        if found["closes"]:
            opens = _date(found["opens"]) if found["opens"] else day
            yield None, Span(_moment(opens, found["start"], zone), _moment(_date(found["closes"]), found["end"], zone))
        else:
            yield day, _of_session_date(day, found["start"], found["end"], number == 0, zone)


def _of_session_date(day: date, start: str, end: str, first: bool, zone: ZoneInfo) -> Span:
    opens = closes = day
    if end == "0000":
        closes = day + _DAY
    elif end <= start and first:
        opens = day - _DAY
    elif end <= start:
        closes = day + _DAY
    return Span(_moment(opens, start, zone), _moment(closes, end, zone))


def _with_days(dated: list[tuple[date | None, Span]], closed: set[date], zone: ZoneInfo) -> Iterator[tuple[date, Span]]:
    """Yield each range with the date of its session; one that ends on a closed date belongs to the next one's."""
    following: date | None = None
    for day, span in sorted(dated, key=lambda pair: pair[1], reverse=True):
        ends = (span.end - timedelta(microseconds=1)).astimezone(zone).date()
        following = day or (following if ends in closed else ends)
        if following is not None:
            yield following, span


def _session(day: date, spans: Iterable[Span]) -> Session:
    parts = union(spans)
    breaks = tuple(Span(one.end, after.start) for one, after in pairwise(parts))
    return Session(day, parts[0].start, parts[-1].end, breaks)


def _date(text: str) -> date:
    return datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC).date()


def _moment(day: date, clock: str, zone: ZoneInfo) -> datetime:
    if clock == "2400":
        day, clock = day + _DAY, "0000"
    return datetime.combine(day, time(int(clock[:2]), int(clock[2:])), zone).astimezone(UTC)
