"""
`DividendTable`: dividends derived from stored prices or read from a file; pure functions on arrays decide.

A vendor's adjusted prices are the traded ones times a ratio, which rises on each ex-date. How far it rises for a given
amount depends on the vendor's convention, see `CONVENTIONS`.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backtest import _arguments
from backtest._suggest import there_are
from backtest.errors import DataError, NoBars, UsageError, quoted, reason
from backtest.market import arrays
from backtest.market.calendars import sessions
from backtest.market.series import BAR_SIZES, Instrument, Series
from backtest.runs.spec import NO_DIVIDENDS, with_kept_universe
from backtest.store.reader import Reader, hours_in

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.runs.spec import Brokerage, RunSpec

DERIVED = "derived"
# The close that relates an amount D to the ratio of traded to adjusted prices.
PREVIOUS_CLOSE = "previous-close"  # prices before the ex-date times 1 - D / (close before it): the usual one
EX_CLOSE = "ex-close"  # prices before the ex-date times C / (C + D), C the close of the ex-date
CONVENTIONS = (PREVIOUS_CLOSE, EX_CLOSE)

_TICK = 0.01
# Amounts are whole cents or simple fractions of a cent; before a split they are divided by its ratio.
_TICKS = (0.01, 0.005, 0.0025, 0.001, 0.0005)
_PARTS = (*range(1, 11), 12, 14, 15, 16, 18, 20, 21, 24, 28, 30, 32, 36, 40, 42, 48, 56)
_KINDS = {round(tick / parts, 12): tick / parts for tick in _TICKS for parts in _PARTS}  # without duplicates
_STEPS = np.array(sorted(_KINDS.values(), reverse=True))
_RESOLVED = 0.25  # of a step: an amount known less precisely than this fits it by chance
_FITTING = 0.75  # of the amounts: if fewer are round under a convention, it is not the vendor's
_OUTLIER, _LEAST_CHANCE = 0.05, 1e-4  # likelihood of an amount that is not round; a floor for one round by chance
_LARGE = 0.1  # of the price: such a step may be a special dividend or a split
_FEW = 8  # bars for a step of the ratio: more steps are noise


@dataclass(frozen=True, slots=True)
class Dividends:
    """
    The dividends per share of one series: ascending ex-dates in ISO form, and amounts in the unit of its prices.

    Attributes:
        since, until: the first and the last session for which dividends are known; "" if they come from a table.
    """

    currency: str
    days: tuple[str, ...] = ()
    amounts: tuple[float, ...] = ()
    how: str = ""  # how the amounts are known, in words
    doubts: tuple[str, ...] = ()
    since: str = field(default="", compare=False)
    until: str = field(default="", compare=False)

    @property
    def dates(self) -> np.ndarray:
        """The ex-dates as datetime64[D]."""
        return np.array(self.days, "datetime64[D]")

    @property
    def document(self) -> dict[str, Any]:
        """The dividends for JSON."""
        found = {"currency": self.currency, "amounts": dict(zip(self.days, self.amounts, strict=True)), "how": self.how}
        return found | ({"doubts": list(self.doubts)} if self.doubts else {})


@dataclass(frozen=True, slots=True)
class DividendTable:
    """The dividends of several series by key; a missing series paid none, or its dividends are unknown."""

    name: str  # "derived", "derived:ex-close", or the name of a file
    of_series: Mapping[str, Dividends] = field(default_factory=dict)

    def unit_of(self, series: Series) -> str:
        """Return the unit of a series' amounts: the currency in a file, "" for the unit of its prices."""
        paid = self.of(series)
        return "" if paid is None or _convention(self.name) is not None else paid.currency

    @property
    def digest(self) -> str:
        """The SHA-256 of dates, amounts and currencies."""
        rows = sorted((key, one.currency, one.days, one.amounts) for key, one in self.of_series.items())
        return hashlib.sha256(repr(rows).encode()).hexdigest()

    @property
    def document(self) -> dict[str, Any]:
        """The table for JSON, which `DividendTable.read` takes."""
        return {"name": self.name, "sha256": self.digest} | {
            "series": {key: one.document for key, one in sorted(self.of_series.items())}
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> DividendTable:
        """Return the table of a document."""
        return cls(
            document["name"],
            {
                key: Dividends(
                    one["currency"], tuple(one["amounts"]), tuple(one["amounts"].values()), one["how"],
                    tuple(one.get("doubts", ())),
                )
                for key, one in document["series"].items()
            },
        )  # fmt: skip

    def within(self, spans: Mapping[Series, tuple[np.datetime64, np.datetime64]]) -> DividendTable:
        """Return the dividends paid in a run: after the first session of each series, and up to its last."""
        found = {}
        for series, (first, last) in spans.items():
            if (paid := self.of(series)) is None:
                continue
            rows = np.flatnonzero((paid.dates > first) & (paid.dates <= last))
            chosen = tuple(paid.days[n] for n in rows), tuple(paid.amounts[n] for n in rows)
            doubts = tuple(one for one in paid.doubts if one[:10] in chosen[0])
            found[series.key] = Dividends(paid.currency, *chosen, paid.how, doubts)
        return DividendTable(self.name, found)

    def of(self, series: Series) -> Dividends | None:
        """Return the dividends of a series; None if it is not in the table."""
        return self.of_series.get(series.key)


def dividends_of(given: Any, reader: Reader, series: Sequence[Series]) -> DividendTable | None:
    """
    Return the dividends of the stocks among some series; None if none are to be paid.

    Args:
        given: "none", "derived", "derived:" and one of CONVENTIONS, the path of a file, or a table.

    Raises:
        UsageError: a series cannot be run with dividends, or the file cannot be read.
        NoBars: a series from which they are derived is not stored.
        DataError: the amounts do not fit any convention.
    """
    _check_given(given)
    if given == NO_DIVIDENDS:
        return None
    for one in series:
        _check_can_pay(one)
    if isinstance(given, DividendTable):
        return given
    stocks = [one for one in series if one.instrument.kind == "STK"]
    if (convention := _convention(given)) is not None:
        return DividendTable(given, {one.key: _derived(reader, one, convention) for one in stocks})
    if not stocks:
        names = ", ".join(one.short for one in series)
        raise UsageError(
            f"the dividends in {quoted(given)} are of stocks, and none of {names} is one; leave out --dividends"
        )
    return _read_file(Path(given), stocks)


def kept_dividends(spec: RunSpec, manifest: Mapping[str, Any]) -> Brokerage:
    """Return the brokerage of a saved run with its universe and dividends, which came from files."""
    brokerage, kept = with_kept_universe(spec.brokerage, manifest), manifest.get("dividends")
    if kept is None or _convention(brokerage.dividends) is not None:
        return brokerage
    return replace(brokerage, dividends=DividendTable.read(kept))


def check_dividends(given: Any, withholding: float) -> None:
    """
    Refuse invalid settings of dividends and withholding tax, as far as that needs no bars.

    Raises:
        UsageError: a word or the number is invalid.
    """
    _check_given(given)
    if not 0 <= withholding < 1:
        raise UsageError(f"withholding is {withholding}; it must be at least 0 and below 1; write 0.15 for 15 %")
    if withholding and given == NO_DIVIDENDS:
        raise UsageError(
            f"withholding is {withholding:g}, but dividends are excluded; set dividends, such as {DERIVED}, or leave "
            "out withholding"
        )


def check_covers(paid: Dividends, series: Series, days: np.ndarray) -> None:
    """
    Refuse a run that is longer than the series from which its dividends are derived: outside, they are unknown.

    Args:
        days: the sessions of the run's own bars, datetime64[D], ascending.

    Raises:
        NoBars: the run begins before these series, or ends after them.
    """
    if not paid.since or not len(days) or (paid.since <= str(days[0]) and str(days[-1]) <= paid.until):
        return
    traded, adjusted = _pair(series)
    raise NoBars(
        f"the dividends of {series.short} are known from {paid.since} to {paid.until}, the sessions that "
        f"{traded.quoted} and {adjusted.quoted} both have, and the run is from {days[0]} to {days[-1]}; run: backtest "
        f"download {traded.quoted} {adjusted.quoted} --since {days[0]}; or run on fewer sessions, or name a file with "
        "--dividends FILE"
    )


def series_read(given: Any, series: Iterable[Series]) -> list[Series]:
    """Return the further series from which dividends are derived; none if they come from a file."""
    if isinstance(given, DividendTable) or given == NO_DIVIDENDS or _convention(given) is None:
        return []
    return list(dict.fromkeys(two for one in series if one.instrument.kind == "STK" for two in _pair(one)))


def _check_given(given: Any) -> None:
    if isinstance(given, DividendTable) or given == NO_DIVIDENDS:
        return
    example = f"write {DERIVED}, {NO_DIVIDENDS}, or the path of a CSV file with the columns date,amount,currency"
    if _convention(_arguments.text(given, "dividends", example)) is None:
        with suppress(OSError):  # no file can be called so
            if Path(given).is_file():
                return
        words = (NO_DIVIDENDS, DERIVED, *(f"{DERIVED}:{one}" for one in CONVENTIONS))
        raise UsageError(
            f"no dividends file {str(given)[:80]!r}; name a CSV file with the columns date,amount,currency, or "
            f"{there_are(given, words)}"
        )


def _check_can_pay(series: Series) -> None:
    if series.prices == "ADJUSTED_LAST":
        plain = replace(series, prices="TRADES").quoted
        raise UsageError(
            f"{series.short} has prices that already include dividends, which would count twice; run on {plain}, or "
            "leave out --dividends"
        )
    if series.size.daily and series.size.period != "session":
        raise UsageError(
            f"a bar of {series.short} may span an ex-date, so that it is unclear who was paid; run on "
            "bars of a day or less"
        )


def _convention(given: Any) -> str | None:
    """Return the requested convention, "" for the one that fits; None if a file is named."""
    word, _, convention = str(given).partition(":")
    if word != DERIVED or (convention and convention not in CONVENTIONS):
        return None
    return convention


# --- from prices


@dataclass(frozen=True, slots=True)
class Derivation:
    """Dividends derived from prices: the convention, the amounts, how many are round, and which are doubtful."""

    convention: str
    days: np.ndarray  # ex-dates, datetime64[D]
    amounts: np.ndarray
    round_by: dict[str, int]  # how many amounts are round by each convention
    doubts: dict[str, str]  # by ex-date


class Unfitting(ValueError):
    """The ratio of the prices does not fit dividends under any convention; the text says where first."""


def derive(
    days: np.ndarray,
    traded: np.ndarray,
    adjusted: np.ndarray,
    convention: str = "",
    missing: Callable[[date, date], Sequence[date]] | None = None,
) -> Derivation:
    """
    Return the dividends implied by adjusted prices.

    The digits of both prices of a bar bound the ratio of adjusted to traded prices. Between two ex-dates the ratio is
    constant, so that the bars together bound it closely. Under the vendor's convention the amounts are round: whole
    cents, fractions of a cent, or such an amount divided by a later split. The convention with round amounts is used.

    Args:
        days: dates that both series have, datetime64[D], ascending, shape (n,).
        traded: open, high, low, close, adjusted for splits, shape (n, 4).
        adjusted: the same, adjusted for dividends too.
        convention: one of CONVENTIONS; if not given, the one that fits.
        missing: returns the sessions between two dates that have no bar.

    Raises:
        Unfitting: the ratio falls, or neither convention makes the amounts round.
    """
    if not (np.isfinite(traded) & np.isfinite(adjusted) & (traded > 0) & (adjusted > 0)).all():
        raise Unfitting("a price is not above zero, so the ratio is undefined")
    starts, low, high = _levels(days, traded, adjusted)
    at = starts[1:]
    if not len(at):
        return Derivation(convention or PREVIOUS_CLOSE, days[:0], np.zeros(0), dict.fromkeys(CONVENTIONS, 0), {})
    least, most = low[:-1] / high[1:], high[:-1] / low[1:]  # of the factor for prices before
    before, after = traded[at - 1, 3], traded[at, 3]
    bounds = {
        PREVIOUS_CLOSE: (before * (1 - most), before * (1 - least)),
        EX_CLOSE: (after * (1 / most - 1), after * (1 / least - 1)),
    }
    gaps = {n: gone for n, row in enumerate(at.tolist()) if (gone := _gap(days, row, missing))}
    sure = np.array([n not in gaps for n in range(len(at))])
    readings = {name: _reading(*pair, sure) for name, pair in bounds.items()}
    chosen = convention or _chosen(readings, days[at])
    reading = readings[chosen]
    doubts = dict(_doubts(days, at, reading, before, gaps))
    if not convention and (other := _as_good(chosen, readings)):
        doubts[str(days[at][0])] = f"by {other} the amounts would be round too"
    counts = {name: int(one.round.sum()) for name, one in readings.items()}
    return Derivation(chosen, days[at], reading.amounts, counts, doubts)


class _Reading(NamedTuple):
    amounts: np.ndarray
    tolerance: np.ndarray  # the largest error of an amount derived from the prices
    round: np.ndarray  # whether an amount is round, and not by chance
    telling: np.ndarray  # whether it is precise enough to say that it is not round
    cost: float  # the negative log-likelihood of being dividends


def _levels(days: np.ndarray, traded: np.ndarray, adjusted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the bars at which the ratio rises, beginning with the first bar, and its bounds from each on."""
    rounded, exact = _half_digit(adjusted), _half_digit(traded)
    tried = [
        (rounded * (1 + 1e-6) + 1e-10 * adjusted, np.zeros(1)),
        (rounded + 2e-7 * adjusted, np.zeros(1)),  # single precision
        (rounded * (1 + 1e-6) + 1e-10 * adjusted, exact),  # traded prices were rounded after the adjustment for splits
    ]
    for of_adjusted, of_traded in tried:
        low, high = (adjusted - of_adjusted) / (traded + of_traded), (adjusted + of_adjusted) / (traded - of_traded)
        closest, widest = low.max(axis=1), high.min(axis=1)
        torn = closest > widest  # a bar whose prices were not all multiplied alike: its close counts
        closest, widest = np.where(torn, low[:, 3], closest), np.where(torn, high[:, 3], widest)
        starts = _starts(closest, widest)
        least, most = np.maximum.reduceat(closest, starts), np.minimum.reduceat(widest, starts)
        falls = np.flatnonzero(most[1:] < least[:-1])
        if not len(falls) and len(starts) <= 2 + len(days) / _FEW:
            return starts, least, most
    if not len(falls):
        raise Unfitting(
            f"the ratio of adjusted to traded prices moves {len(starts) - 1:,} times in {len(days):,} bars, first on "
            f"{days[starts[1]]}, more often than dividends are paid"
        )
    raise Unfitting(
        f"the ratio of adjusted to traded prices falls on {days[starts[falls[0] + 1]]}, from {least[falls[0]]:.8g} to "
        f"{most[falls[0] + 1]:.8g}, as if a dividend were taken back"
    )


def _half_digit(prices: np.ndarray) -> float:
    """Return half of the last digit of prices, 0 for prices that are not rounded to six digits or fewer."""
    for digits in range(7):
        scaled = prices * 10.0**digits
        if (np.abs(scaled - np.round(scaled)) <= np.maximum(1e-6, 4e-16 * scaled)).all():
            return 0.5 * 10.0**-digits
    return 0.0


def _starts(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the bars at which the bounds of the earlier bars stop applying."""
    starts, least, most = [0], -math.inf, math.inf
    for row, (closest, widest) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        least, most = max(least, closest), min(most, widest)
        if least > most:
            starts.append(row)
            least, most = closest, widest
    return np.array(starts)


def _reading(least: np.ndarray, most: np.ndarray, sure: np.ndarray) -> _Reading:
    """
    Return the roundest amounts within their bounds, with the steps that explain most amounts in each period.

    Args:
        sure: whether the close from which an amount is computed is exactly that of its ex-date, or of the session
            before.
    """
    amounts, tolerance = (least + most) / 2, (most - least) / 2 + 1e-12
    chance = 2 * tolerance[:, None] / _STEPS
    nearest = _STEPS * np.maximum(np.round(amounts[:, None] / _STEPS), 1)
    on_it = (np.abs(amounts[:, None] - nearest) <= tolerance[:, None]) & sure[:, None]
    resolved = chance <= _RESOLVED
    costs = np.where(on_it, np.log(np.clip(chance, _LEAST_CHANCE, 1)), -math.log(_OUTLIER)) * resolved
    costs[~sure] = 0
    steps, cost = _stretches(costs)
    places = np.arange(len(amounts))
    is_round = (on_it & resolved)[places, steps]
    raw = np.array([_to_digits(*pair) for pair in zip(amounts.tolist(), tolerance.tolist(), strict=True)])
    cents = np.maximum(np.round(amounts / _TICK), 1) * _TICK
    telling = sure & resolved[:, 0]
    unclear = ~resolved[:, 0] & (np.abs(amounts - cents) <= tolerance)
    found = np.where(is_round, nearest[places, steps], np.where(unclear, cents, raw))
    return _Reading(np.round(found, 10), tolerance, is_round, telling, cost)


def _stretches(costs: np.ndarray) -> tuple[np.ndarray, float]:
    """
    Return the step of each amount, and the total cost; a new period costs as much as encoding its step.

    Args:
        costs: the cost of each amount at each step, shape (k, steps).
    """
    count, kinds = costs.shape
    price = 1 + np.log(1 + np.arange(kinds)) + math.log(count + 1)
    best, came = price + costs[0], np.zeros((count, kinds), int)
    for n in range(1, count):
        cheapest = int(best.argmin())
        change = best[cheapest] + price
        came[n] = np.where(change < best, cheapest, np.arange(kinds))
        best = np.minimum(best, change) + costs[n]
    steps = np.empty(count, int)
    steps[-1] = int(best.argmin())
    for n in range(count - 1, 0, -1):
        steps[n - 1] = came[n, steps[n]]
    return steps, float(best.min())


def _chosen(readings: Mapping[str, _Reading], days: np.ndarray) -> str:
    usual = readings[PREVIOUS_CLOSE]
    fitting = [name for name, one in readings.items() if _fits(one)]
    if fitting:
        return min(fitting, key=lambda name: readings[name].cost)
    if not usual.telling.any():
        return PREVIOUS_CLOSE  # too coarse to decide
    nearest = max(readings.values(), key=lambda one: int(one.round.sum()))
    first = int(np.flatnonzero(nearest.telling & ~nearest.round)[0])
    values = ", ".join(f"{one.amounts[first]:.6g} by {name}" for name, one in readings.items())
    fitted = ", ".join(f"{int(one.round.sum())} by {name}" for name, one in readings.items())
    raise Unfitting(
        f"too few of the {len(days)} amounts are round ({fitted}); the first that is not is on {days[first]}: {values}"
    )


def _fits(reading: _Reading) -> bool:
    telling = int(reading.telling.sum())
    return bool(telling) and int((reading.round & reading.telling).sum()) >= _FITTING * telling


def _as_good(chosen: str, readings: Mapping[str, _Reading]) -> str:
    """Return another convention that fits about as well but gives other amounts."""
    own = readings[chosen]
    for name, one in readings.items():
        alike = _fits(one) and one.cost - own.cost < -math.log(_OUTLIER)
        if name != chosen and alike and not np.allclose(one.amounts, own.amounts, rtol=0, atol=1e-9):
            return name
    return ""


def _gap(days: np.ndarray, row: int, missing: Callable[[date, date], Sequence[date]] | None) -> str:
    """Return why an ex-date is uncertain, as when sessions before it have no bar; "" if it is certain."""
    before, day = days[row - 1], days[row]
    gone = int(np.busday_count(before, day)) - 1
    if gone > 0 and missing is not None:
        gone = len(missing(before.item(), day.item()))
    elif gone == 1:
        return ""  # it may have been a holiday
    return f"{gone} sessions before it have no bar: it may be one of these, and the amount another" if gone > 0 else ""


def _doubts(
    days: np.ndarray, at: np.ndarray, reading: _Reading, before: np.ndarray, gaps: Mapping[int, str]
) -> Iterator[tuple[str, str]]:
    for n, row in enumerate(at.tolist()):
        amount, tolerance = reading.amounts[n], reading.tolerance[n]
        said = [gaps[n]] if n in gaps else []
        if not said and not reading.round[n]:
            said.append(f"{amount:.6g} is not a round amount, and may be off by {tolerance:.2g}")
        if amount > _LARGE * before[n]:
            said.append(f"it is {amount / before[n] * 100:.0f} % of the price: a special dividend, or a split")
        if said:
            yield str(days[row]), "; ".join(said)


def _to_digits(amount: float, tolerance: float) -> float:
    return round(amount, min(10, max(2, math.ceil(-math.log10(tolerance)))))


def _pair(series: Series) -> tuple[Series, Series]:
    """Return the daily series of traded and of adjusted prices that the dividends of a series are derived from."""
    daily = replace(series, size=BAR_SIZES["1day"], prices="TRADES", regular_hours=True)
    return daily, replace(daily, prices="ADJUSTED_LAST")


def _derived(reader: Reader, series: Series, convention: str) -> Dividends:
    daily, adjusted = map(reader.named, _pair(series))
    try:
        tables = [reader.read(one) for one in (daily, adjusted)]
    except NoBars as error:
        raise NoBars(
            f"dividends of {series.short} come from a file (--dividends FILE), or are derived from {daily.quoted} and "
            f"{adjusted.quoted}: {error}"
        ) from error
    days, traded, with_dividends = _in_both(*tables)
    hours = hours_in(reader, daily)

    def missing(before: date, day: date) -> list[date]:
        return [one.day for one in sessions(hours, before, day) if before < one.day < day]

    try:
        found = derive(days, traded, with_dividends, convention, missing)
    except Unfitting as error:
        raise DataError(
            f"no dividends of {series.short} can be derived: {error}; download both series again, name a file with "
            f"--dividends FILE, or say by which convention they are adjusted: --dividends {DERIVED}:{PREVIOUS_CLOSE}"
        ) from error
    texts = tuple(map(str, found.days.tolist()))
    other = next(name for name in CONVENTIONS if name != found.convention)
    how = (
        f"derived from {adjusted.short} by the {found.convention} convention, under which "
        f"{found.round_by[found.convention]:,} of {len(texts):,} amounts are round; under {other} "
        f"{found.round_by[other]:,} would be"
    )
    doubts = tuple(f"{day}: {why}" for day, why in found.doubts.items())
    ends = (str(days[0]), str(days[-1])) if len(days) else ("never", "never")
    return Dividends(series.instrument.currency, texts, tuple(found.amounts.tolist()), how, doubts, *ends)


def _in_both(traded: pa.Table, adjusted: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the dates that both tables have, and the prices of each, shape (n, 4)."""
    days = [arrays.numbers(one["time"]).astype("datetime64[us]").astype("datetime64[D]") for one in (traded, adjusted)]
    common, own, other = np.intersect1d(days[0], days[1], assume_unique=True, return_indices=True)
    prices = [
        np.column_stack([arrays.numbers(table[name]) for name in ("open", "high", "low", "close")])[rows]
        for table, rows in ((traded, own), (adjusted, other))
    ]
    return common, prices[0], prices[1]


# --- from a file


_COLUMNS = ("date", "amount", "currency")


def _read_file(path: Path, stocks: Sequence[Series]) -> DividendTable:
    """Return the dividends in a file: one per line, with date, amount, currency and, if there are several, series."""
    try:
        reader = csv.DictReader(_arguments.text_of(path).splitlines())
        names = [(name or "").strip().lower() for name in reader.fieldnames or []]
        reader.fieldnames = names
        rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(
            f"the dividends in {quoted(path)} cannot be read ({reason(error)}); write lines of date,amount,currency"
        ) from error
    if missing := [name for name in _COLUMNS if name not in names]:
        there = f"the columns {', '.join(names)}" if names else "no columns"
        raise UsageError(
            f"the dividends in {quoted(path)} have {there}: no "
            f"{', '.join(missing)}; begin with a line date,amount,currency, and write lines such as 2013-02-06,0.85,USD"
        )
    found: dict[str, dict[str, float]] = {one.key: {} for one in stocks}
    for number, row in enumerate(rows, 2):
        where = f"line {number} of {path.name}"
        series = _series_of_row(row, stocks, where)
        if series is None:
            continue
        day, amount = _day_of(row, where), _amount_of(row, where)
        currency = (row.get("currency") or "").strip()
        if currency != series.instrument.currency:
            raise UsageError(
                f"{where} is in {currency or 'no currency'}, and {series.short} is traded in "
                f"{series.instrument.currency}; write amounts of that currency"
            )
        if day in found[series.key]:
            raise UsageError(f"{where} is a second dividend of {series.short} on {day}; write their sum")
        found[series.key][day] = amount
    tables = {}
    for one in stocks:
        days = tuple(sorted(found[one.key]))
        amounts = tuple(found[one.key][day] for day in days)
        tables[one.key] = Dividends(one.instrument.currency, days, amounts, f"from {path.name}")
    return DividendTable(path.name if path.is_absolute() else path.as_posix(), tables)


def paid_by_instrument(path: str | Path, series: Iterable[Series]) -> dict[Instrument, dict[date, float]]:
    """
    Return the amounts by ex-date, from a file, of the stocks among some series.

    Raises:
        UsageError: it cannot be read.
    """
    stocks = {one.instrument: one for one in series if one.instrument.kind == "STK"}
    found = _read_file(Path(path), list(stocks.values()))
    return {
        instrument: dict(zip(map(date.fromisoformat, paid.days), paid.amounts, strict=True))
        for instrument, one in stocks.items()
        if (paid := found.of(one)) is not None and paid.days
    }


def _series_of_row(row: Mapping[str, Any], stocks: Sequence[Series], where: str) -> Series | None:
    """Return the series that a row is about, None for one that the run does not have."""
    word = (row.get("series") or "").strip()
    if not word:
        if len(stocks) != 1:
            raise UsageError(
                f"{where} does not say which of the {len(stocks)} series it belongs to; add a column named series, "
                "such as IBM"
            )
        return stocks[0]
    wanted = Series.parse(word if "/" in word else f"{word}/1day").instrument
    return next((one for one in stocks if one.instrument == wanted), None)


def _day_of(row: Mapping[str, Any], where: str) -> str:
    text = (row.get("date") or "").strip()
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise UsageError(
            f"{where} has no ex-date ({text!r}); write date,amount,currency, the date as 2013-02-06"
        ) from error


def _amount_of(row: Mapping[str, Any], where: str) -> float:
    text = (row.get("amount") or "").strip()
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not 0 < amount < math.inf:
        raise UsageError(f"{where} has the amount {text!r}; write what a share paid, such as 0.85")
    return amount
