"""
What a gateway would answer from the bars of a store: contracts, bars, head timestamps, schedules.

Where the real gateway is undocumented, this one does as follows.

- The end is exclusive: a bar shorter than a day is served when it starts before the end and is over by the end, a
  daily bar when its session has closed by the end, a week or month when its last session has. So the end "now"
  never brings an unfinished bar; a scripted fault does.
- "N D" are the last N sessions that opened before the end, in the requested hours: one in progress counts, although it
  has no daily bar yet. S, W, M and Y count by clock and calendar in UTC; a daily bar is included if its session opened
  after the start.
- Bars shorter than a day are aligned to the clock of the instrument's zone, the first bar of a session starting
  with the session: 09:30, 10:00, 11:00. A week or month is stamped with its last session.
- Bars that are not stored are built from the largest stored size that divides theirs, weeks and months from days;
  only where the smaller bars were requested throughout. Volume and trades are summed, the average is weighted.
- Regular hours are cut out of all hours by the calendar, from bars that divide half an hour; never the other way.
- CASH, CRYPTO, IND and OPT have the same hours in `rth` and `all`: whichever is stored is served.
- An end in the future means now. An expired contract is found with includeExpired only, whenever it expired.
- ADJUSTED_LAST that is not stored is computed from TRADES, if dividends are known: prices before an ex-date are
  multiplied by 1 - amount / close of the day before.
- The hours of a contract are its stored ones, word for word, as long as they cover today.
- A contract without a stored contract number gets one computed from its spelling. Spellings with the same number
  (AAPL, AAPL+primary=NASDAQ) are one contract, which has the bars of all of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from backtest.emulator import aggregation
from backtest.emulator.aggregation import ONE_KIND_OF_HOURS, Bucket
from backtest.emulator.catalogue import Catalogue
from backtest.emulator.contracts import Listing, expired, hours_text, words
from backtest.emulator.protocol import LOGIN_ZONE, BarsRequest, ContractQuery, HeadRequest
from backtest.errors import NoBars, Refused
from backtest.market.bars import COLUMNS, schema
from backtest.market.calendars import fallback
from backtest.market.hours import Session
from backtest.market.ib_limits import LONGEST, NEVER_SHOWN, OPEN_ENDED
from backtest.market.series import BAR_SIZES, PRICES, BarSize, Instrument, Series
from backtest.market.span import Span
from backtest.store.manifest import Manifest
from backtest.store.reader import manifest_or_empty

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.store.reader import Reader

_SIZES = {spelling: size for size in BAR_SIZES.values() for spelling in (size.label, size.request) if spelling}
_SHOWN = {"TRADES": "Trades", "MIDPOINT": "Midpoint", "BID": "Bid", "ASK": "Ask", "BID_ASK": "Bid_Ask"}
_HMDS = "Historical Market Data Service error message:"
_INVALID = "Error validating request.-'bW' : cause - "
_BAD_END = (
    "End Date/Time: The date, time, or time-zone entered is invalid. The correct format is yyyymmdd hh:mm:ss xx/xxxx "
    "where yyyymmdd and xx/xxxx are optional. E.g.: 20031126 15:59:00 US/Eastern"
)


DividendAmounts = Mapping[date, float]  # amounts by ex-date, in prices that are adjusted for splits


@dataclass(frozen=True, slots=True)
class _Found:
    """Bars for a request; `zoneless` says that the end was read in the login zone since there is none."""

    listing: Listing
    size: BarSize
    bars: pa.Table
    start: datetime
    end: datetime
    zoneless: bool


@dataclass(frozen=True, slots=True)
class _Schedule:
    """The sessions of an instrument from `start` to `end`."""

    listing: Listing
    sessions: list[Session]
    start: datetime
    end: datetime


class Archive:
    """
    The answers of a gateway, from a store that others may write to at any time.

    Args:
        shut: days without a session that the calendars do not list.
        dividends: ex-dates and amounts of instruments whose ADJUSTED_LAST is not stored.
    """

    def __init__(
        self, store: Reader, shut: Collection[date] = (), dividends: Mapping[Instrument, DividendAmounts] | None = None
    ) -> None:
        self._store, self._shut, self._dividends = store, shut, dividends or {}
        self._catalogue = Catalogue(store)

    # --- contracts

    def listings(self, query: ContractQuery, now: datetime) -> list[Listing]:
        """
        Return the listings that match a description.

        Raises:
            Refused: 200, no listing matches.
        """
        found = self._fitting(query, now)
        if not found:
            self._catalogue.read_again()  # a contract number may have been stored since
            found = self._fitting(query, now)
        if not found:
            raise Refused("No security definition has been found for the request", 200)
        return _each_contract(found)

    def search(self, pattern: str) -> list[Listing]:
        """Return the listings whose symbol, or a word in whose name, begins with the text."""
        start = pattern.upper()
        return _each_contract([one for one in self._catalogue.every() if any(w.startswith(start) for w in words(one))])

    def hours(self, listing: Listing, now: datetime) -> tuple[str, str]:
        """Return the trading hours and the liquid hours of the coming week as IB writes them; "" if unknown."""
        facts, today = listing.facts, now.astimezone(ZoneInfo(listing.facts.time_zone))
        if any(f"{today:%Y%m%d}:" in text for text in (facts.trading_hours, facts.liquid_hours)):
            return facts.trading_hours, facts.liquid_hours
        week = [now.date() + timedelta(days=days) for days in range(7)]
        if fallback(listing.hours, week[0], week[-1]):
            return "", ""  # a client must not mistake our rule for a statement by IB
        all_hours, regular = (
            aggregation.known_sessions(listing.hours, week[0], week[-1], rth) for rth in (False, True)
        )
        if _round_the_clock(all_hours) and not _round_the_clock(regular):
            all_hours = regular  # what is traded around them is not known
        return hours_text(all_hours, week, listing), hours_text(regular, week, listing)

    def _fitting(self, query: ContractQuery, now: datetime) -> list[Listing]:
        found = self._catalogue.fitting(query)
        return [listing for listing in found if query.include_expired or not expired(listing, now)]

    def _the_listing(self, query: ContractQuery, now: datetime) -> Listing:
        if not query.exchange:
            raise Refused(f"{_INVALID}Please enter exchange", 321)
        found = self.listings(query, now)
        if len(found) > 1:
            raise Refused(f"The contract description specified for {query.symbol} is ambiguous.", 200)
        return found[0]

    # --- bars

    def bars(self, request: BarsRequest, now: datetime) -> _Found:
        """
        Return the bars for a request.

        Raises:
            Refused: with IB's code and text, if there are no bars, or none for such a request.
        """
        size, (count, unit) = _checked_size(request.size), _checked_duration(request.duration)
        if request.prices not in PRICES:
            raise Refused(f"{_INVALID}What to show field is missing or incorrect", 321)
        listing = self._the_listing(request.contract, now)
        _check_combination(listing, size, request)
        end, zoneless = end_of(request.end, now)
        for spelling in self._catalogue.same_contract(listing):
            wanted = Series(spelling.instrument, size, request.prices, request.regular_hours)
            window = aggregation.window(wanted, spelling.hours, end, count, unit)
            bars = self._bars(wanted, spelling, window, request.cut)
            if not len(bars) and wanted.prices == "ADJUSTED_LAST":
                bars = self._adjusted(wanted, spelling, window, request.cut)
            if len(bars):
                break
        else:
            raise Refused(f"{_HMDS}HMDS query returned no data: {_route(listing)} {_shown(request.prices)}", 162)
        return _Found(listing, size, bars, aggregation.back(end, count, unit), end, zoneless)

    def schedule(self, request: BarsRequest, now: datetime) -> _Schedule:
        """
        Return the sessions for a request.

        Raises:
            Refused: 321 if the bars are not daily; otherwise as `bars`.
        """
        size, (count, unit) = _checked_size(request.size), _checked_duration(request.duration)
        if size.period != "session":
            raise Refused(f"{_INVALID}Only bars of 1 day are served for SCHEDULE", 321)
        listing = self._the_listing(request.contract, now)
        end, _ = end_of(request.end, now)
        every = aggregation.sessions_before(listing.hours, request.regular_hours, end, count, unit)
        found = [session for session in every if session.day not in self._shut]
        if not found:
            raise Refused(f"{_HMDS}HMDS query returned no data: {_route(listing)} Schedule", 162)
        return _Schedule(listing, found, found[0].open, end)

    def head(self, request: HeadRequest, now: datetime) -> datetime:
        """
        Return the start of a contract's first bar, of any stored size and hours.

        Raises:
            Refused: 162, there are no bars.
        """
        if request.prices not in PRICES:
            raise Refused(f"{_INVALID}What to show field is missing or incorrect", 321)
        spellings = self._catalogue.same_contract(self._the_listing(request.contract, now))
        made = request.prices == "ADJUSTED_LAST"
        every = [
            (Series(spelling.instrument, size, prices, rth), spelling.hours)
            for spelling in spellings
            for prices in (request.prices, *(["TRADES"] if made and spelling.instrument in self._dividends else []))
            for size in _SIZES.values()
            for rth in (True, False)
        ]
        firsts = [
            aggregation.opening(series, hours, first) for series, hours in every if (first := self._first(series))
        ]
        if not firsts:
            raise Refused(f"{_HMDS}No head timestamp", 162)
        return min(firsts)

    def _first(self, series: Series) -> datetime | None:
        segments = self._manifest(series).segments
        return datetime.fromisoformat(segments[0].first) if segments else None

    def _bars(self, wanted: Series, listing: Listing, window: Span | None, cut: bool) -> pa.Table:
        if window is None:
            return schema().empty_table()
        for source in self._smaller(wanted) if cut else []:
            zone = ZoneInfo(listing.facts.time_zone)
            bars = self._built(source, aggregation.cut_buckets(wanted, listing.hours, zone, window))
            if len(bars):
                return bars
        for source in self._sources(wanted):
            bars = self._from(source, wanted, listing, window)
            if len(bars):
                return bars
        return schema().empty_table()

    def _adjusted(self, wanted: Series, listing: Listing, window: Span | None, cut: bool) -> pa.Table:
        """Return the bars of TRADES, adjusted for the dividends of an instrument if these are known."""
        paid, plain = self._dividends.get(wanted.instrument), replace(wanted, prices="TRADES")
        bars = self._bars(plain, listing, window, cut) if paid is not None else schema().empty_table()
        if not len(bars) or window is None or not paid:
            return bars
        daily = replace(plain, size=BAR_SIZES["1day"])
        closes = self._bars(daily, listing, Span(_EVER, window.end), cut=False)
        return aggregation.without_dividends(bars, plain, listing.hours, closes, paid)

    def _sources(self, wanted: Series) -> Iterator[Series]:
        """Yield the stored series from which the wanted one can be made, the best first."""
        for size in dict.fromkeys(reversed(_SIZES.values())):
            for rth in aggregation.usable_hours(size, wanted) if aggregation.divides(size, wanted.size) else ():
                source = replace(wanted, size=size, regular_hours=rth)
                if self._manifest(source).rows:
                    yield source

    def _smaller(self, wanted: Series) -> Iterator[Series]:
        return (source for source in self._sources(wanted) if source.size != wanted.size)

    def _from(self, source: Series, wanted: Series, listing: Listing, window: Span) -> pa.Table:
        cut = source.regular_hours != wanted.regular_hours and wanted.instrument.kind not in ONE_KIND_OF_HOURS
        zone = ZoneInfo(listing.facts.time_zone)
        if source.size != wanted.size:
            return self._built(source, aggregation.buckets(wanted, listing.hours, zone, window))
        bars = self._read(source, window)
        if cut:
            bars = aggregation.bars_inside(bars, aggregation.session_spans(wanted, listing.hours, window))
        return aggregation.finished(bars, wanted, listing.hours, zone, window.end)

    def _built(self, source: Series, wished: list[Bucket]) -> pa.Table:
        coverage = self._manifest(source).coverage
        whole = [bucket for bucket in wished if not bucket.span.minus(coverage)]
        if not whole:
            return schema().empty_table()
        return aggregation.merged_bars(self._read(source, Span(whole[0].span.start, whole[-1].span.end)), whole)

    def _manifest(self, series: Series) -> Manifest:
        """Return the manifest of a series; most series from which bars could be built are not stored."""
        return manifest_or_empty(self._store, series) if self._catalogue.has(series) else Manifest(series.key)

    def _read(self, series: Series, span: Span) -> pa.Table:
        try:
            return self._store.read(series, span).select(COLUMNS)
        except NoBars:
            return schema().empty_table()


_DAY = timedelta(days=1)
_EVER = datetime(1900, 1, 1, tzinfo=UTC)


def _round_the_clock(sessions: list[Session]) -> bool:
    return any(session.close - session.open >= _DAY for session in sessions)


def _each_contract(listings: list[Listing]) -> list[Listing]:
    """Return the first listing of each contract on each exchange: a contract may be stored under several spellings."""
    firsts: dict[tuple[int, str], Listing] = {}
    for listing in listings:
        firsts.setdefault((listing.facts.con_id, listing.instrument.exchange), listing)
    return list(firsts.values())


def end_of(text: str, now: datetime) -> tuple[datetime, bool]:
    """
    Return the time in an end text, and whether its zone had to be assumed.

    Raises:
        Refused: 10314, the text is not an end.
    """
    if not text:
        return now, False
    found = re.fullmatch(r"(\d{8})(?:-| {1,2})(\d\d:\d\d:\d\d)(?: +(\S+))?", text)
    if not found or ("-" in text[:9] and found[3]):
        raise Refused(_BAD_END, 10314)
    try:
        naive = datetime.strptime(f"{found[1]} {found[2]}", "%Y%m%d %H:%M:%S")  # noqa: DTZ007 - the zone follows
        zone = ZoneInfo("UTC" if "-" in text[:9] else found[3] or LOGIN_ZONE)
        end = naive.replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, KeyError, OSError, OverflowError) as error:  # OSError: a folder of the zone database
        raise Refused(_BAD_END, 10314) from error
    return min(end, now), "-" not in text[:9] and not found[3]


# --- what a gateway checks before it asks for data


def _checked_size(text: str) -> BarSize:
    if text not in _SIZES:
        legal = ", ".join(size.request or size.label for size in BAR_SIZES.values())
        raise Refused(f"{_INVALID}Historical data bar size setting is invalid. Legal ones are: {legal}", 321)
    return _SIZES[text]


def _checked_duration(text: str) -> tuple[int, str]:
    found = re.fullmatch(r"(\d{1,6})(?: ([SDWMY]))?", text)
    if not found or not int(found[1]):
        raise Refused(f"{_INVALID}Duration format is invalid: 'integer{{SPACE}}unit (S|D|W|M|Y)'", 321)
    count, unit = int(found[1]), found[2] or "S"
    if count > LONGEST[unit]:
        longest, larger = {
            "S": ("86400 seconds", "days"),
            "W": ("52 weeks", "years"),
            "M": ("12 months", "years"),
        }.get(unit, ("365 days", "years"))
        if unit == "Y":
            raise Refused(f"{_INVALID}Historical data requests for durations longer than 68 years are not served", 321)
        words = f"Historical data requests for durations longer than {longest} must be made in {larger}."
        raise Refused(_INVALID + words, 321)
    if unit == "S" and count < 30:
        raise Refused(f"{_INVALID}Historical data requests for durations shorter than 30 seconds are not served", 321)
    return count, unit


def _check_combination(listing: Listing, size: BarSize, request: BarsRequest) -> None:
    instrument = listing.instrument
    if request.prices in OPEN_ENDED and request.end:
        raise Refused(f"{_INVALID}End date not supported with adjusted last", 321)
    if request.prices == "ADJUSTED_LAST" and size.seconds > 86_400:
        raise Refused(f"{_INVALID}Bars of {size.label} are not supported with adjusted last", 321)
    if instrument.kind == "CONTFUT" and request.end:
        raise Refused("Setting end date/time for continuous future security type is not allowed.", 10339)
    if request.keep_up_to_date and request.end:
        raise Refused(f"{_INVALID}End date not supported with keep up to date", 321)
    if instrument.kind == "CRYPTO" and request.prices == "TRADES":
        raise Refused("Expected what to show is AGGTRADES, please use that instead of TRADES.", 10299)
    if request.prices in NEVER_SHOWN.get(instrument.kind, ()):
        raise Refused(f"{_HMDS}No historical market data for {_farm(listing, size, request)}", 162)
    if instrument.kind in ("OPT", "FOP", "WAR") and size.daily:
        what = f"exchange '{instrument.exchange}' and the security type '{instrument.kind}' and '{size.label}'"
        raise Refused(f"{_HMDS}No data of type EODChart is available for the {what}", 162)


def _farm(listing: Listing, size: BarSize, request: BarsRequest) -> str:
    instrument = listing.instrument
    venue = "FXSUBPIP" if instrument.kind == "CASH" else instrument.exchange
    count, unit = size.label.split()
    shown = "Last" if request.prices == "TRADES" else _shown(request.prices)
    return f"{instrument.symbol}/{instrument.kind}@{venue} {shown} {count}{unit[0]}"


def _route(listing: Listing) -> str:
    return f"{listing.facts.local_symbol}@{listing.instrument.exchange}"


def _shown(prices: str) -> str:
    return _SHOWN.get(prices, prices.replace("_", " ").title())
