"""`Exchange`: exchange rates as known at each moment of a run, from stored bars of currency pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise, permutations, product
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from backtest.engine.feed import close_stamps
from backtest.errors import BadBars, NoBars, UsageError
from backtest.market import arrays
from backtest.market.hours import Hours
from backtest.market.series import NO_CURRENCY, Instrument, Series
from backtest.market.session_days import sessions_around
from backtest.market.span import Span
from backtest.runs.currencies import BY_CURRENCY, PriceUnit, are_plain, currency_of, unit_named, units_of
from backtest.runs.spec import RunSpec
from backtest.store.reader import (
    Reader,
    are_of_frames,
    hours_in,
    manifest_or_empty,
    option_of_store,
    put_frames_into_a_store,
)

if TYPE_CHECKING:
    import pyarrow as pa

_OLDEST = timedelta(days=7)  # the maximum age of a rate, over weekends and holidays, plus the length of its bar
_BEFORE = timedelta(days=45)  # how long before a run a bar may open whose close it knows: a month, and a week
_THROUGH = ("USD", "EUR")  # the currencies of a cross rate, in this order, if a pair is not stored
# How IB names a pair: the earlier of these is the symbol, and a currency that is not among them the second word.
_FIRST = ("EUR", "GBP", "AUD", "NZD", "USD", "CAD", "CHF")
_DAY = np.timedelta64(1, "D")
_Moments: TypeAlias = np.ndarray  # datetime64[us], UTC


@dataclass(frozen=True, slots=True)
class Leg:
    """A stored pair on the way from one currency to another, and whether its rate is inverted."""

    series: Series
    inverse: bool


class KnownRates:
    """The rates of a pair, each known from the close of its bar on."""

    def __init__(self, leg: Leg, bars: pa.Table, hours: Hours) -> None:
        closes = arrays.numbers(bars["close"])
        if not (closes > 0).all():
            raise BadBars(
                f"{leg.series.short} has a close that is not a valid exchange rate ({closes[~(closes > 0)][0]}); see: "
                f"backtest verify {leg.series.quoted}"
            )
        self.leg, self.bars = leg, bars
        self._values = 1 / closes if leg.inverse else closes
        self._since = known_since(bars, leg.series, hours)

    def at(self, moments: _Moments) -> np.ndarray:
        """Return the last value that was known at each moment; NaN before the first."""
        rows = self._rows(moments)
        return np.where(rows < 0, np.nan, self._values[np.maximum(rows, 0)])

    def lacking(self, moments: _Moments) -> np.ndarray:
        """Return the moments at which no value was known, or only one that is too old."""
        rows = self._rows(moments)
        age = moments - self._since[np.maximum(rows, 0)]
        longest = np.timedelta64(_OLDEST + timedelta(seconds=self.leg.series.size.seconds))
        return np.asarray(moments[(rows < 0) | (age > longest)])

    def used(self, first: np.datetime64, last: np.datetime64) -> pa.Table:
        """Return the bars whose closes count between two moments, both included."""
        start, end = self._rows(np.array([first, last]))
        return self.bars.slice(max(int(start), 0), int(end) - max(int(start), 0) + 1)

    def _rows(self, moments: _Moments) -> np.ndarray:
        return np.asarray(np.searchsorted(self._since, moments, side="right") - 1)


@dataclass(frozen=True, slots=True)
class Conversion:
    """
    The conversion of a series' prices into the account's currency: `rate` of its currency times `unit` of the price.

    Attributes:
        stamps: the timestamps of the series' own bars, in Backtrader's days.
        opening: the rate that was known when each of its bars opened.
        closing: the rate that was known when each of its bars closed.
        rows: the rate that was known after each bar of the run, of any series.
    """

    unit: PriceUnit
    stamps: np.ndarray
    opening: np.ndarray
    closing: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class Exchange:
    """
    The exchange rates of a run with several currencies, or with prices in a unit other than the account's.

    Attributes:
        base: the currency of the account.
        stamps: the distinct timestamps of all bars of the run, in Backtrader's days.
        conversions: by the position of a series; series in the account's currency have none.
        benchmark: the rate at each bar of the benchmark, if that is in another currency.
        units: the unit of prices, by the key of each series.
        legs: the pairs that convert each currency.
        tables: the bars of pairs whose closes count.
        benchmark_unit: the amount of its currency in one unit of the benchmark's price.
        held: if cash is held by currency, the value of a unit of each other currency after each bar of the run.
        dollars: the value of a US dollar at those times.
        moments: the values known at moments within bars, if the account is checked within bars.
    """

    base: str
    stamps: np.ndarray
    conversions: Mapping[int, Conversion]
    benchmark: np.ndarray | None
    units: Mapping[str, str]
    legs: Mapping[str, tuple[Leg, ...]]
    tables: Mapping[Series, pa.Table]
    benchmark_unit: float = 1.0
    held: Mapping[str, np.ndarray] | None = None
    dollars: np.ndarray | None = None
    moments: KnownMoments | None = None

    def factors(self, place: int, stamps: np.ndarray) -> np.ndarray:
        """Return money of the account per unit of price of a series after the bars of some stamps."""
        known = self.conversions[place]
        return known.rows[np.searchsorted(self.stamps, stamps)] * known.unit.share

    def converted(
        self, place: int, stamps: np.ndarray, amounts: np.ndarray, unit: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        Return dividends per share, paid at the open of some of the series' bars, in the account's currency.

        Args:
            unit: the unit of the amounts, "" for that of the series' prices.
        """
        if place not in self.conversions or not len(stamps):
            return stamps, amounts
        known = self.conversions[place]
        rates = known.opening[np.searchsorted(known.stamps, stamps)]
        return stamps, amounts * rates * (unit_named(unit) if unit else known.unit).share

    def converted_beside(
        self, days: np.ndarray, dates: np.ndarray, amounts: np.ndarray, unit: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the same for the benchmark, by date; `days` are the sessions of its bars."""
        if self.benchmark is None or not len(dates):
            return dates, amounts
        factors = self.benchmark[np.minimum(np.searchsorted(days, dates), len(days) - 1)]
        return dates, amounts * factors * (unit_named(unit).share / self.benchmark_unit if unit else 1.0)

    @property
    def told(self) -> dict[str, Any]:
        """The entry in the manifest of a run."""
        legs = {
            currency: [{"series": leg.series.key, "inverse": leg.inverse} for leg in legs]
            for currency, legs in self.legs.items()
        }
        return {"base": self.base, "prices": dict(self.units), **({"rates": legs} if legs else {})}


@dataclass(frozen=True, slots=True)
class BarTimes:
    """When the bars of a series open and close, datetime64[us] in UTC, and their stamps as Backtrader counts time."""

    stamps: np.ndarray
    opens: _Moments
    closes: _Moments

    @classmethod
    def of(cls, bars: pa.Table, series: Series, hours: Hours) -> BarTimes:
        """Return the times of bars: for daily and longer ones by the sessions of the exchange."""
        opened = arrays.numbers(bars["time"]).astype("datetime64[us]")
        known = sessions_around(opened[0], opened[-1], series, hours)
        stamps = close_stamps(bars, series.size)
        if series.size.daily:
            days = opened.astype("datetime64[D]")
            # A date without a session, such as of a bar that was filled in, closes with the session before it.
            closes = known.closes[np.searchsorted(known.days, days, side="right") - 1]
            first = known.opens[np.searchsorted(known.days, _first_days(days, series))]
            return cls(stamps, np.minimum(first, closes), closes)
        ended = opened + np.timedelta64(series.size.seconds, "s")
        shut = known.closes[np.minimum(np.searchsorted(known.ends, opened, side="right"), len(known.days) - 1)]
        return cls(stamps, opened, np.where((opened < shut) & (shut < ended), shut, ended))


@dataclass(frozen=True, slots=True)
class KnownMoments:
    """
    Exchange rates at each opening and close of a bar of a run.

    Attributes:
        times: the opening and closing times of each series' bars.
        rows: when the last bar of each row of the run closed.
        every: all of these moments, in order.
        rates: money of the account per unit of each other currency at every moment.
        dollars: the same for US dollars; None if they are not needed.
    """

    times: Sequence[BarTimes]
    rows: _Moments
    every: _Moments
    rates: Mapping[str, np.ndarray]
    dollars: np.ndarray | None = None


def known_since(bars: pa.Table, series: Series, hours: Hours) -> _Moments:
    """Return the time from which the close of each bar of a currency pair is known: the end of the bar."""
    opened = arrays.numbers(bars["time"]).astype("datetime64[us]")
    if not series.size.daily:
        return opened + np.timedelta64(series.size.seconds, "s")
    known = sessions_around(opened[0], opened[-1], series, hours)
    days = opened.astype("datetime64[D]")
    last = np.searchsorted(known.days, _after_days(days, series)) - 1
    following = np.searchsorted(known.days, days)  # of the date of a Sunday the session of Monday
    return np.maximum.accumulate(known.closes[np.maximum(last, following)])


def exchange_of(
    spec: RunSpec,
    store: Reader,
    bars: Mapping[Series, pa.Table],
    benchmark: tuple[Series, pa.Table] | None = None,
    begins: datetime | None = None,
    least_equity: float | None = None,
) -> Exchange | None:
    """
    Return the rates of a run; None if all money is in the account's currency.

    Args:
        bars: the bars of the traded series, in their order.
        benchmark: the series that the run is compared with, and its bars.
        begins: when the run begins, after a warm-up in which no money moves.
        least_equity: the minimum equity of a cash or margin account, in US dollars; None for Backtrader's rules.

    Raises:
        NoBars: the store lacks a rate; the text says which series to download.
        UsageError: the unit of a price, or its currency, is not known.
    """
    wanted, base = list(bars), spec.base_currency
    in_dollars = bool(least_equity) and base != "USD"
    if are_plain([*wanted, *([benchmark[0]] if benchmark else [])], base, spec.brokerage.quoted_in) and not in_dollars:
        return None
    every_series = [*wanted, *([benchmark[0]] if benchmark else [])]
    details = {one: manifest_or_empty(store, one).contract for one in every_series}
    units = units_of(every_series, details, spec.brokerage.quoted_in)
    differing = [one for one, unit in units.items() if unit.currency != base or unit.share != 1]
    if not differing and not in_dollars:
        return None
    _check_currencies(differing, base)
    times = [BarTimes.of(table, one, hours_in(store, one)) for one, table in bars.items()]
    stamps = arrays.merged([one.stamps for one in times])
    rows = _moments_of_rows(times, stamps)
    other = BarTimes.of(benchmark[1], benchmark[0], hours_in(store, benchmark[0])) if benchmark else None
    start = np.datetime64(begins.astimezone(UTC).replace(tzinfo=None), "us") if begins else rows[0] - _DAY * 366
    known: dict[str, list[KnownRates]] = {base: []}
    for currency in sorted({units[one].currency for one in differing} - {base}):
        own = [its for one, its in zip(wanted, times, strict=True) if units[one].currency == currency]
        needed = [moments for its in own for moments in (its.opens, its.closes)]
        if own:  # no such position can be open before
            needed.append(rows[rows >= min(its.opens[0] for its in own)])
        if other is not None and benchmark and units[benchmark[0]].currency == currency:
            needed.append(other.closes)
        every = arrays.merged(needed)
        known[currency] = conversion_rates(store, currency, base, every[every >= start])
    apart = spec.brokerage.conversion == BY_CURRENCY  # then amounts in the base currency are valued in the other one
    if (apart or in_dollars) and base != "USD" and "USD" not in known:
        known["USD"] = conversion_rates(store, "USD", base, rows[rows >= start])
    conversions = {
        n: Conversion(
            units[one], its.stamps, *(_rate(known[units[one].currency], when) for when in (its.opens, its.closes, rows))
        )
        for n, (one, its) in enumerate(zip(wanted, times, strict=True))
        if apart or one in differing
    }
    others = sorted({units[one].currency for one in wanted} - {base})
    beside = None
    if benchmark and other is not None and benchmark[0] in differing:
        unit = units[benchmark[0]]
        beside = _rate(known[unit.currency], other.closes) * unit.share
    ends = [moment for one in (*times, *([other] if other else [])) for moment in (one.opens[0], one.closes[-1])]
    first, last = max(min(ends), start), max(*ends, rows[-1])
    tables = {one.leg.series: one.used(first, last) for legs in known.values() for one in legs}
    return Exchange(
        base, stamps, conversions, beside, {one.key: unit.name for one, unit in units.items()},
        {currency: tuple(one.leg for one in legs) for currency, legs in known.items() if legs}, tables,
        units[benchmark[0]].share if benchmark else 1.0,
        {one: _rate(known[one], rows) for one in others} if apart else None,
        _rate(known.get("USD", []), rows) if apart else None,
        _known_moments(times, rows, known, in_dollars) if least_equity is not None else None,
    )  # fmt: skip


def _known_moments(
    times: Sequence[BarTimes], rows: _Moments, known: Mapping[str, Sequence[KnownRates]], in_dollars: bool
) -> KnownMoments:
    every = arrays.merged([rows, *(moments for one in times for moments in (one.opens, one.closes))])
    rates = {currency: _rate(legs, every) for currency, legs in known.items()}
    return KnownMoments(times, rows, every, rates, rates["USD"] if in_dollars else None)


def conversion_rates(store: Reader, currency: str, base: str, moments: _Moments) -> list[KnownRates]:
    """
    Return the pairs that convert a currency into the base currency; the rate is the product of theirs.

    That is the pair itself, in either direction, otherwise two pairs through a common currency (US dollars first, then
    euros, then others), otherwise three through dollars and euros. Of several bar sizes, the finest whose closes are
    known at all of the moments counts.

    Raises:
        NoBars: no pairs have known rates at all of the moments.
    """
    stored = _pairs(store.series())
    short: list[str] = []
    for way in _ways(stored, currency, base):
        found = [_covering(store, stored[pair], inverse, moments, short) for pair, inverse in way]
        if all(one is not None for one in found):
            return [one for one in found if one is not None]
    raise NoBars(_what_to_download(store, currency, base, moments, short))


# --- which pairs


def _pairs(series: Iterable[Series]) -> dict[tuple[str, str], list[Series]]:
    """Return the stored midpoints of currency pairs, the finest bars first."""
    found: dict[tuple[str, str], list[Series]] = {}
    for one in series:
        pair = one.instrument
        if pair.kind == "CASH" and one.prices == "MIDPOINT":
            found.setdefault((pair.symbol, pair.currency), []).append(one)
    return {pair: sorted(rows, key=lambda one: (one.size.seconds, one.key)) for pair, rows in found.items()}


def _ways(stored: Mapping[tuple[str, str], Any], start: str, end: str) -> Iterator[list[tuple[tuple[str, str], bool]]]:
    """Yield pairs that convert one currency into another, each with whether its rate is inverted."""
    others = sorted({currency for pair in stored for currency in pair} - {*_THROUGH, start, end})
    first = [one for one in _THROUGH if one not in (start, end)]
    for middles in ((), *((one,) for one in (*first, *others)), *permutations(first, 2)):
        steps = pairwise((start, *middles, end))
        yield from map(list, product(*(_either(stored, *step) for step in steps)))


def _either(stored: Mapping[tuple[str, str], Any], start: str, end: str) -> list[tuple[tuple[str, str], bool]]:
    return [(pair, inverse) for pair, inverse in (((start, end), False), ((end, start), True)) if pair in stored]


def _covering(
    store: Reader, candidates: Sequence[Series], inverse: bool, moments: _Moments, short: list[str]
) -> KnownRates | None:
    """Return the rates of the first candidate known at all moments; note what the others lack."""
    first, last = (one.astype("datetime64[us]").astype(datetime).replace(tzinfo=UTC) for one in moments[[0, -1]])
    for series in candidates:
        try:
            bars = store.read(series, Span(first - _BEFORE, last + timedelta(days=1)))
        except NoBars:
            short.append(f"{series.short} is stored for other dates")
            continue
        found = KnownRates(Leg(series, inverse), bars, hours_in(store, series))
        lacking = found.lacking(moments)
        if not len(lacking):
            return found
        short.append(f"{series.short} has no rate for {_moment_text(lacking[0])}")
    return None


def _what_to_download(store: Reader, currency: str, base: str, moments: _Moments, short: Sequence[str]) -> str:
    since, until = (str(one.astype("datetime64[D]")) for one in (moments[0] - np.timedelta64(_OLDEST), moments[-1]))
    place = option_of_store(store)
    lines = [
        f"backtest download {pair}/1day --since {since} --until {until}{place}"
        for pair in pairs_to_download(currency, base)
    ]
    why = f" ({'; '.join(dict.fromkeys(short))})" if short else ""
    if are_of_frames(store):
        pair = Series.parse(f"{pairs_to_download(currency, base)[0]}/1day/MIDPOINT")
        return (
            f"money in {currency} cannot be converted to {base}: the exchange rate from {since} to {until} is not "
            f"among the frames{why}; {put_frames_into_a_store(pair)}"
        )
    return (
        f"money in {currency} cannot be converted to {base}: {store.name} lacks the exchange rate from {since} to "
        f"{until}{why}; run: {' and '.join(lines)}; or import the rates as {pairs_to_download(currency, base)[0]}/1day"
    )


def pairs_to_download(currency: str, base: str) -> list[str]:
    """Return the IB instruments that convert a currency into the base currency: the pair, or two through USD."""
    if "USD" in (currency, base):
        return [_pair_of_ib(currency, base)]
    if {currency, base} <= {*_FIRST, "JPY"}:
        return [_pair_of_ib(currency, base)]
    return [_pair_of_ib(currency, "USD"), _pair_of_ib("USD", base)]


def _pair_of_ib(one: str, other: str) -> str:
    ranks = {name: rank for rank, name in enumerate(_FIRST)}
    symbol, currency = sorted((one, other), key=lambda name: ranks.get(name, len(ranks)))
    return str(Instrument(symbol, "CASH", "IDEALPRO", currency))


def _check_currencies(series: Iterable[Series], base: str) -> None:
    for one in series:
        if NO_CURRENCY in (currency_of(one.instrument), base):
            raise UsageError(
                f"{one.short} is in {currency_of(one.instrument)} and the account in {base}: {NO_CURRENCY} stands for "
                "no currency; pass the bars to run() in a dict whose keys are series with a currency"
            )


# --- moments


def _moments_of_rows(times: Sequence[BarTimes], stamps: np.ndarray) -> _Moments:
    """Return when the last of the bars of each stamp closed; it never goes back."""
    found = np.full(len(stamps), np.iinfo(np.int64).min + 1, np.int64)
    for one in times:
        np.maximum.at(found, np.searchsorted(stamps, one.stamps), one.closes.astype("datetime64[us]").astype(np.int64))
    return np.maximum.accumulate(found).astype("datetime64[us]")


def _rate(legs: Sequence[KnownRates], moments: _Moments) -> np.ndarray:
    """Return the rate known at each moment; before the first, in a warm-up in which no money moves, the first."""
    rate = np.ones(len(moments))
    for one in legs:
        rate *= one.at(moments)
    known = np.flatnonzero(np.isfinite(rate))
    return np.where(np.isnan(rate), rate[known[0]], rate) if 0 < len(known) < len(rate) else rate


def _first_days(days: np.ndarray, series: Series) -> np.ndarray:
    """Return the date with which each bar of days or longer begins."""
    if series.size.period == "week":
        return np.asarray(days - ((days.astype(np.int64) + 3) % 7) * _DAY)  # 1970-01-01 was a Thursday
    if series.size.period == "month":
        return days.astype("datetime64[M]").astype("datetime64[D]")
    return days


def _after_days(days: np.ndarray, series: Series) -> np.ndarray:
    """Return the date after the last of each bar of days or longer."""
    if series.size.period == "month":
        return (days.astype("datetime64[M]") + np.timedelta64(1, "M")).astype("datetime64[D]")
    return np.asarray(_first_days(days, series) + (7 if series.size.period == "week" else 1) * _DAY)


def _moment_text(moment: np.datetime64) -> str:
    return f"{str(moment.astype('datetime64[m]')).replace('T', ' ')} UTC"
