"""The sessions in which an instrument trades: holidays, half-days, daylight saving, 24x5 weeks."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from backtest.errors import UsageError
from backtest.market.series import Instrument, Series
from backtest.market.span import Sessions, Span

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

# Exchange as IB names it -> calendar of exchange_calendars. SMART and the US venues share the hours of NYSE.
_CALENDARS = {
    **dict.fromkeys(("SMART", "NYSE", "NASDAQ", "ARCA", "AMEX", "BATS", "ISLAND", "IEX", "PINK", "CBOE"), "XNYS"),
    **dict.fromkeys(("CME", "GLOBEX", "CBOT", "ECBOT", "NYMEX", "COMEX"), "CMES"),
    "LSE": "XLON", "LSEETF": "XLON", "IBIS": "XETR", "FWB": "XFRA", "SBF": "XPAR", "AEB": "XAMS", "EBS": "XSWX",
    "BVME": "XMIL", "BM": "XMAD", "TSE": "XTSE", "VENTURE": "XTSE", "SEHK": "XHKG", "TSEJ": "XTKS", "ASX": "XASX",
    "SGX": "XSES", "EUREX": "XEUR", "DTB": "XEUR", "ICEUS": "IEPA", "NYBOT": "IEPA", "IPE": "IEPA",
    **dict.fromkeys(("MEMX", "PEARL", "LTSE", "BYX", "EDGEA", "DRCTEDGE", "BEX", "PSX", "CHX", "NYSENAT"), "XNYS"),
    "FWB2": "XFRA", "IBIS2": "XETR", "ENEXT.BE": "XBRU", "BVL": "XLIS", "ISED": "XDUB", "VSE": "XWBO", "WSE": "XWAR",
    "PRA": "XPRA", "BUX": "XBUD", "SFB": "XSTO", "HEX": "XHEL", "CPH": "XCSE", "OSE": "XOSL", "TASE": "XTAE",
    "JSE": "XJSE", "NSE": "XBOM", "KSE": "XKRX", "TWSE": "XTAI", "MEXI": "XMEX", "SEHKNTL": "XSHG", "SEHKSZSE": "XSHG",
}  # fmt: skip
_BY_CURRENCY = {
    "USD": "XNYS", "GBP": "XLON", "EUR": "XETR", "CHF": "XSWX", "CAD": "XTSE", "HKD": "XHKG", "JPY": "XTKS",
    "AUD": "XASX",
}  # fmt: skip
EXCHANGES = tuple(sorted(_CALENDARS))  # whose hours are known
_FOREX, _ALWAYS = "24/5", "24/7"
_ROUGH = (_FOREX, _ALWAYS, "CMES")  # of them holidays and daily breaks are not known
_PERIODS_A_YEAR = {_FOREX: 260.0, _ALWAYS: 365.0}  # sessions a year
_EXTENDED = (time(4), time(20))  # US stocks outside regular hours, New York time
_SINCE = "1990-01-01"
_FIRST, _LAST = date(1900, 1, 1), date(2100, 1, 1)  # of a span that is open at an end


@dataclass(frozen=True, slots=True)
class Session:
    """A trading session: the date it is known by, and when it opens and closes, in UTC."""

    day: date
    open: datetime
    close: datetime


def calendar_name(instrument: Instrument) -> str:
    """Return the name of an instrument's calendar in exchange_calendars, or "24/5" (forex), "24/7" (crypto)."""
    if instrument.kind in ("CASH", "CMDTY"):
        return _FOREX
    if instrument.kind == "CRYPTO":
        return _ALWAYS
    if instrument.exchange == "SMART":
        return _BY_CURRENCY.get(instrument.currency, "XNYS")
    name = _CALENDARS.get(instrument.exchange)
    if name is None:
        raise UsageError(
            f"no calendar is known for the exchange {instrument.exchange!r} of {instrument}; "
            f"known are {', '.join(EXCHANGES)}"
        )
    return name


def time_zone(instrument: Instrument) -> str:
    """Return the IANA time zone in which the instrument's sessions are defined."""
    name = calendar_name(instrument)
    if name == _FOREX:
        return "America/New_York"
    return "UTC" if name == _ALWAYS else str(_calendar(name).tz)


def sessions_a_year(instrument: Instrument) -> float:
    """
    Return the sessions a year by which a figure per session is annualised: 252, forex 260, crypto 365.

    252 also where no calendar is known.
    """
    return _PERIODS_A_YEAR.get(_name_if_known(instrument), 252.0)


def exact(instrument: Instrument) -> bool:
    """Return whether the instrument's sessions are known to the minute; hours of forex and futures only roughly."""
    return _name_if_known(instrument) not in ("", *_ROUGH)


def sessions(instrument: Instrument, since: date, until: date, regular_hours: bool = True) -> list[Session]:
    """Return the sessions known by the dates from `since` to `until`, both included, in order."""
    name = calendar_name(instrument)
    if name in (_FOREX, _ALWAYS):
        return list(_round_the_clock(name, since, until))
    return _listed_sessions(name, since, until, regular_hours)


def span_of_sessions(series: Series, since: date, until: date) -> Span:
    """
    Return the span of the stamps of a series' bars in the sessions from `since` to `until`, both included.

    Daily and longer bars are stamped with dates, so theirs is a span of dates; for shorter ones it runs from the
    opening of the first session to the close of the last.

    Raises:
        UsageError: the dates are the wrong way round, or no session lies between them.
    """
    dates = Span.of_dates(since, min(until, max(since, _LAST)))
    if series.size.daily:
        return dates
    found = sessions(series.instrument, max(since, _FIRST), min(until, _LAST), series.regular_hours)
    if not found:
        raise UsageError(f"{series.instrument} has no session from {since} to {until}; name a longer time")
    return Span(found[0].open, found[-1].close)


def span_asked(series: Series, asked: Span | Sessions | None) -> Span | None:
    """
    Return the span of the stamps of a series' bars that `bars.asked_span` means; None for all.

    Raises:
        UsageError: no session lies between the dates.
    """
    if asked is None or isinstance(asked, Span):
        return asked
    since, until = asked
    if since is None and until is None:
        return None
    return span_of_sessions(series, since or _FIRST, until or _LAST)


def _name_if_known(instrument: Instrument) -> str:
    try:
        return calendar_name(instrument)
    except UsageError:
        return ""


def _listed_sessions(name: str, since: date, until: date, regular_hours: bool) -> list[Session]:
    every = _every_session(name)
    found = every[bisect_left(every, since, key=_day) : bisect_right(every, until, key=_day)]
    if regular_hours or name != "XNYS":
        return found
    return [_extended(session) for session in found]


def _day(session: Session) -> date:
    return session.day


@lru_cache
def _every_session(name: str) -> list[Session]:
    schedule = _calendar(name).schedule
    days, opens, closes = schedule.index, schedule["open"].dt, schedule["close"].dt
    moments = zip(days, opens.to_pydatetime(), closes.to_pydatetime(), strict=True)
    return [Session(day.date(), start.astimezone(UTC), end.astimezone(UTC)) for day, start, end in moments]


def _extended(session: Session) -> Session:
    start, end = (datetime.combine(session.day, moment, _new_york()).astimezone(UTC) for moment in _EXTENDED)
    return Session(session.day, start, end)


def _round_the_clock(name: str, since: date, until: date) -> Iterator[Session]:
    for number in range((until - since).days + 1):
        day = since + timedelta(days=number)
        if name == _ALWAYS:
            start = datetime.combine(day, time(), UTC)
            yield Session(day, start, start + timedelta(days=1))
        elif day.weekday() < 5:
            # IDEALPRO: 17:15 New York time on the evening before to 17:00 on the day.
            start = datetime.combine(day - timedelta(days=1), time(17, 15), _new_york())
            yield Session(day, start.astimezone(UTC), datetime.combine(day, time(17), _new_york()).astimezone(UTC))


@lru_cache
def _calendar(name: str) -> Any:
    import exchange_calendars

    return exchange_calendars.get_calendar(name, start=_SINCE)


@cache  # and imported when it is needed: runs on daily bars are told by dates
def _new_york() -> ZoneInfo:
    from zoneinfo import ZoneInfo

    return ZoneInfo("America/New_York")
