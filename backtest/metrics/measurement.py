"""
`measure` applies `METRICS` to a run's record; `Stats` are the results, and `Measured` has both.

An undefined metric is NaN, never 0 or infinite, and `Stats.reasons` says why.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import weakref
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from backtest import _arguments
from backtest._suggest import did_you_mean
from backtest.errors import UsageError
from backtest.market import arrays
from backtest.market.calendars import fallback
from backtest.market.hours import hours_of
from backtest.market.periods import Periods
from backtest.market.series import FUTURE_KINDS, Series, few
from backtest.metrics.account import (
    Account,
    check_measurable,
    column,
    hold_name,
    rates_of,
    sample,
    session_ends,
    slippage_by_fill,
)
from backtest.metrics.benchmark import both_begin, common_dates, common_places, compounded, periods_at
from backtest.metrics.returns import SESSIONS, checked_returns, drop_nan, equity_of
from backtest.metrics.table import METRICS, Metric, metric_named, metric_value, rows_with
from backtest.metrics.trades import REFUSED, Trades, rejected_orders
from backtest.runs.currencies import AT_ONCE, words_of_units
from backtest.runs.record import RunRecord
from backtest.runs.round_trips import CALL
from backtest.runs.spec import AUTO

if TYPE_CHECKING:
    import pandas as pd

    from backtest.metrics.combination import Combination
    from backtest.runs.spec import RunSpec

_OF_RETURNS = ("return", "risk", "drawdown", "benchmark")  # groups that need no trades
_PERIODS = "write the periods per year, such as 252"
_DIFFER = 0.001  # two CAGRs that differ by more are both shown


_Run = TypeVar("_Run", bound=RunRecord)


@dataclass(frozen=True, eq=False, repr=False)
class Stats(Mapping[str, float]):
    """The metrics of a run by name, in the order of METRICS; NaN where one is not defined."""

    numbers: dict[str, float]
    conventions: str  # the basis that any such run shares: sessions per year, risk-free rate, costs
    extent: str  # sessions, dates, and the cash at the start
    currency: str  # of money, "" for none
    reasons: dict[str, str] = field(default_factory=dict)  # why a number is not defined, for those that are not
    unit: str = "sessions"  # what a label means by sessions: weeks or months for bars of that length
    notes: tuple[str, ...] = ()  # what kept orders from being filled, and similar notes, one sentence each
    own: Mapping[str, Metric] = field(default_factory=dict)  # the user's own rows

    @classmethod
    def _of(
        cls,
        run: Account,
        rows: Mapping[str, Metric],
        conventions: str,
        extent: str,
        currency: str,
        notes: tuple[str, ...],
    ) -> Stats:
        """
        Return the metrics of a run, each computed when it is first read: most programs read few of them.

        Raises:
            UsageError: the function of a row of the user's failed, or returned no number.
            ValueError: a return or an equity is not a number, or cannot be.
        """
        check_measurable(run)
        own = {name: metric for name, metric in rows.items() if METRICS.get(name) is not metric}
        known = {name: metric_value(metric, run) for name, metric in own.items()}
        stats = cls.__new__(cls)
        vars(stats).update(
            conventions=conventions, extent=extent, currency=currency, unit=run.unit, notes=notes, own=own,
            _unread=_Unread(run, rows, known),
        )  # fmt: skip
        _limit_unread(stats)
        return stats

    if not TYPE_CHECKING:  # which knows the fields

        def __getattr__(self, name: str) -> Any:  # of `numbers` and `reasons`, if not all metrics are computed
            if name in ("numbers", "reasons"):
                self._compute_all()
            if name in vars(self):
                return vars(self)[name]
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __getstate__(self) -> dict[str, Any]:
        self._compute_all()
        return vars(self)

    def _compute_all(self) -> None:
        unread = vars(self).get("_unread")
        if unread is not None:
            numbers, reasons = unread.all()
            vars(self).update(numbers=numbers, reasons=reasons)
            vars(self).pop("_unread", None)  # and with it the account of the run

    def __getitem__(self, name: str) -> float:
        known, unread = self._known(name), vars(self).get("_unread")
        return float(unread.value(known)) if unread is not None else self.numbers[known]

    def __contains__(self, name: object) -> bool:
        return (metric_named(name, self.rows) or name) in self._names if isinstance(name, str) else False

    def get(self, name: str, default: Any = None) -> Any:
        """Return a number by its name or label; the default if there is none."""
        return self[self._known(name)] if name in self else default

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @property
    def _names(self) -> Mapping[str, Any]:
        unread = vars(self).get("_unread")
        return self.numbers if unread is None else unread.rows

    def _known(self, name: object) -> str:
        """Return the name of a metric that was given by its name or its label."""
        if isinstance(name, str) and name in self._names:
            return name
        found = metric_named(name, self.rows)
        if found is not None and found in self._names:
            return found
        words = [*self, *(row.label for row in self.rows.values())]
        hint = did_you_mean(name, words) if isinstance(name, str) else ""
        raise UsageError(f"unknown metric {_arguments.shown(name)}; choose from {', '.join(self)}{hint}")

    @property
    def rows(self) -> dict[str, Metric]:
        """The row of each number: one of METRICS, or the user's own."""
        return {name: row for name in self if (row := self.own.get(name) or METRICS.get(name))}

    @property
    def basis(self) -> str:
        """What the numbers are based on: conventions, sessions, dates, cash; and what kept orders from being filled."""
        return " ".join([self.conventions, self.extent, *self.notes])

    @property
    def definitions(self) -> dict[str, str]:
        """The definition of each number, one sentence each."""
        return {name: self.rows[name].definition for name in self}

    @property
    def headline(self) -> list[str]:
        """The names of the numbers in the short table."""
        growths = [self.get(name, math.nan) for name in ("cagr", "cagr_calendar")]
        both = {"cagr_calendar"} if abs(growths[0] - growths[1]) > _DIFFER else set()
        if self.get("longest_drawdown_days", 0.0) > self.get("max_drawdown_days", 0.0):
            both.add("longest_drawdown_days")
        if "dividends" in self and "dividends" not in self.reasons:
            both.add("dividends")
        both |= {"margin_used", "margin_calls"} - {*self.reasons}
        return [name for name in self if self.rows[name].headline or name in both]

    def text(self, name: str) -> str:
        """Return a number formatted for people, with its unit; a dash and the reason if it is undefined."""
        name = self._known(name)
        metric = self.rows[name]
        if name in self.reasons:
            return f"{metric.text(None)} ({self.reasons[name]})"
        unit = self.currency if metric.unit == "money" else "" if self.unit == "sessions" else self.unit
        return metric.text(self[name]) + (f" {unit}" if metric.format in ("money", "sessions") and unit else "")

    def to_dict(self) -> dict[str, float | None]:
        """Return the numbers for JSON: None where one is not defined."""
        return {name: None if math.isnan(value) else value for name, value in self.items()}

    @property
    def document(self) -> dict[str, Any]:
        """The numbers for JSON, with the reasons of undefined ones, the definitions, and the basis."""
        return {
            "stats": self.to_dict(),
            "undefined": self.reasons,
            "definitions": self.definitions,
            "basis": self.basis,
            "currency": self.currency,
        }

    def to_frame(self) -> pd.DataFrame:
        """Return a row per number, in the unit that its label names: 10.0 at "Total return [%]" is +10 %."""
        import pandas as pd

        metrics = [self.rows[name] for name in self]
        values = [self[metric.name] * (100 if metric.unit == "%" else 1) for metric in metrics]
        return pd.DataFrame({"value": values}, index=[self._label(metric) for metric in metrics], dtype=float)

    def _label(self, metric: Metric) -> str:
        unit = self.currency if metric.unit == "money" else metric.unit
        return f"{metric.label} [{unit}]" if unit else metric.label

    def __repr__(self) -> str:
        import textwrap

        texts = {self.rows[name].label: self.text(name) for name in self.headline}
        left, right = max(map(len, texts)), max(map(len, texts.values()))
        rows = [f"{label:<{left}}  {text:>{right}}" for label, text in texts.items()]
        return "\n".join([*rows, "", *textwrap.wrap(self.basis, 80)])

    def _repr_html_(self) -> str:
        import html

        row = '<tr title="{}"><td style="text-align:left">{}</td><td style="text-align:right">{}</td></tr>'
        cells = [(self.rows[name].definition, self.rows[name].label, self.text(name)) for name in self.headline]
        rows = "".join(row.format(*map(html.escape, texts)) for texts in cells)
        return f"<table>{rows}</table><p><small>{html.escape(self.basis)}</small></p>"


class _Unread(NamedTuple):
    """The metrics of a run of which not all have been read: what they are computed from, and those that are known."""

    run: Account
    rows: Mapping[str, Metric]
    known: dict[str, float]

    def value(self, name: str) -> float:
        """Return a metric, which is computed once."""
        if name not in self.known:
            self.known[name] = metric_value(self.rows[name], self.run)
        return self.known[name]

    def all(self) -> tuple[dict[str, float], dict[str, str]]:
        """Return all metrics, and why some are not defined."""
        found = {name: self.value(name) for name in self.rows}
        reasons = {name: getattr(value, "reason", "undefined") for name, value in found.items() if value != value}
        return {name: float(value) for name, value in found.items()}, reasons


_unread: deque[weakref.ref[Stats]] = deque()
_MOST_UNREAD = 16  # as many keep the account of their run in memory: about 100 bytes per session


def _limit_unread(stats: Stats) -> None:
    """Compute all metrics of the oldest where there are many of which not all were read."""
    _unread.append(weakref.ref(stats))
    while len(_unread) > _MOST_UNREAD:
        with contextlib.suppress(IndexError):  # another thread has taken it already
            oldest = _unread.popleft()()
            if oldest is not None:
                oldest._compute_all()


class Measured(RunRecord):
    """A run's record with its metrics, each computed once."""

    @cached_property
    def account(self) -> Account:
        """This run session by session, beside buy and hold: see `account.sample`."""
        return sample(self)

    @property
    def returns(self) -> pd.Series:
        """Simple return of each session, 0.01 is +1 %; the first is against the initial cash."""
        import pandas as pd

        days, returns = self.account.days, self.account.returns.copy()  # a series can be written into
        return pd.Series(returns, index=pd.DatetimeIndex(days, name="session").tz_localize("UTC"), name="return")

    @cached_property
    def stats(self) -> Stats:
        """The numbers about this run: see `measure`."""
        return measure(self)

    @cached_property
    def combination(self) -> Combination | None:
        """The combined runs and the contribution of each; None for a run of one strategy."""
        kept = self.manifest.get("combination")
        if kept is None:
            return None
        from backtest.metrics.combination import combination_of

        return combination_of(kept)

    def __repr__(self) -> str:
        return f"{super().__repr__()}\n{self.stats}"


_Measured = TypeVar("_Measured", bound=Measured)


def measure(
    result: RunRecord,
    risk_free: float | pd.Series | None = None,
    periods: float | str | None = None,
    metrics: Iterable[Metric] = (),
) -> Stats:
    """
    Return every metric of a run.

    Args:
        result: a result of `run`, or a saved run.
        risk_free: the annual return of cash, or the return of each session with its date as index. Default: that of
            the spec.
        periods: periods per year. Default: those of the spec.
        metrics: your own rows, like those of METRICS; they follow the built-in ones.

    Raises:
        StrategyError: equity is not a number, or fell below zero.
        UsageError: `result` is not a run, a session has no risk-free return, or one of your own rows fails.
    """
    rows = rows_with(metrics)
    result = check_result(result, "result")
    run = result.account
    if risk_free is not None:
        run = replace(run, risk_free=_rates(risk_free, run.days))
    if periods is not None:
        run = replace(run, periods=check_periods(periods) or run.periods)
    currency = result.currency
    costs = f"equity at session ends after all costs{_rules(run, result)}"
    conventions = f"{_yardstick(run)}, {_conditions(result)}, {costs}."
    notes = (
        *_of_combination(result),
        *notes_of(result),
        *_of_costs(result),
        *_of_warm_up(result),
        *_of_benchmark(result, run),
        *_of_dividends(result),
        *_of_fees(result),
        *_of_interest(result),
    )
    return Stats._of(run, rows, conventions, _extent(result.spec, run, currency), currency, notes)


def with_metrics(result: _Measured, metrics: Iterable[Metric]) -> _Measured:
    """
    Return a run whose metrics include the user's own rows.

    Raises:
        UsageError: as `measure`.
    """
    if metrics == ():
        return result
    stats = measure(result, metrics=metrics)
    made = replace(result)
    vars(made).update(vars(result) | {"stats": stats})  # where a cached property keeps what was computed once
    return made


def notes_of(result: RunRecord) -> tuple[str, ...]:
    """Return what prevented a run from doing what its strategy wanted, one sentence each."""
    given, rejected = len(result.orders_table), rejected_orders(result.orders_table)
    ruled = "reason" in result.orders_table.column_names
    market, size = result.manifest.get("market", {}), result.spec.brokerage.size
    small, capped = (market.get(f"{what}_to_nothing", 0) for what in ("sized", "capped"))
    off = market.get("off_tick", 0)
    found = {
        f"Orders rejected: {rejected:,} of {given:,} ({_why(result)}).": rejected,
        **(_of_calls(result) if ruled else {}),
        f"Orders not placed, because the size {size} was below the smallest tradable unit: {small:,}.": small,
        f"Bars without fills, because the volume cap was below the smallest tradable unit: {capped:,}.": capped,
        f"Limit and stop prices that are not a multiple of the contract's tick, which IB rejects: {off:,}.": off,
        **_missing_members(result),
    }
    return tuple(text for text, count in found.items() if count)


def _of_combination(result: Measured) -> Iterator[str]:
    """Yield which runs it combines, and how; then the costs and the market settings of each."""
    if combination := result.combination:
        yield combination.basis
        for one in combination.runs:
            yield f"{one.label}: {one.conditions}."


def _missing_members(result: RunRecord) -> dict[str, int]:
    """Return on how many days names of the run's universe had no bar, by the sentence that says so."""
    universe = result.manifest.get("universe", {})
    lacking, absent = universe.get("without_bars", {}), universe.get("absent", ())
    days, whole = universe.get("member_days", 0), sum(lacking.get(name, 0) for name in absent)
    rest = sum(lacking.values()) - whole
    return {
        f"Of the {universe.get('members', 0):,} members of the universe, {len(absent):,} have no bars ({few(absent)}): "
        f"{whole:,} of {days:,} member-days are missing, possibly of companies that failed.": whole,
        f"Member-days without a bar, of members that have bars on other days: {rest:,} of {days:,}.": rest,
    }


def _why(result: RunRecord) -> str:
    """Return why orders were rejected, in words; for a cash or margin account with the count of each reason."""
    if "reason" not in result.orders_table.column_names:
        return "the account could not pay for them"
    rows = zip(*(result.orders_table[name].to_pylist() for name in ("status", "reason")), strict=True)
    # A run that combines others has orders of such as know no reasons.
    kinds = Counter((reason or "no cash").partition(":")[0] for status, reason in rows if status in REFUSED)
    return ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common())


def _of_calls(result: RunRecord) -> dict[str, int]:
    """Return how many orders the account gave itself, in a sentence, with their number."""
    reasons = [one for one in result.orders_table["reason"].to_pylist() if (one or "").startswith(CALL)]
    return {f"Orders placed by margin calls: {len(reasons):,}.": len(reasons)}


def _of_costs(result: RunRecord) -> Iterator[str]:
    yield from _of_splits(result)
    yield from _of_fill_bars(result)
    yield from _of_slippage(result)
    yield from _of_rates(result)


def _of_rates(result: RunRecord) -> Iterator[str]:
    """Yield which of IB's rates were not read on IB's own page."""
    for key, told in result.manifest.get("costs", {}).get("products", {}).items():
        if told.get("standing", _PUBLISHED) != _PUBLISHED:
            standing = "from a secondary source" if told["standing"] == "secondary source" else told["standing"]
            yield f"What IB charges for {Series.parse(key).short} is {standing}: {told['definition']}."


_PUBLISHED = "published"


def _of_fill_bars(result: RunRecord) -> Iterator[str]:
    """Yield on how many days orders had no smaller bars to be filled on, and how many fills were on the run's own."""
    counts = result.manifest.get("fill_bars", {})
    lacking = [name for name, count in counts.items() if count["without"]]
    if not lacking or "small_bar" not in result.fills_table.column_names:
        return
    days, without = (sum(counts[name][what] for name in lacking) for what in ("days", "without"))
    fills = result.fills_table
    large = fills["small_bar"].null_count
    size, names = result.spec.brokerage.fill_bars, few(lacking)
    yield (
        f"On {without:,} of {days:,} days there are no {size} bars of {names} to fill orders on; {large:,} of "
        f"{len(fills):,} fills were on the bars of the run."
    )


def _of_slippage(result: RunRecord) -> Iterator[str]:
    """Yield what slippage was, where bars had no room for all of it."""
    clipped, count = result.manifest.get("market", {}).get("clipped", 0), len(result.fills_table)
    if clipped:
        money = float(slippage_by_fill(result.fills_table, result.spec).sum())
        yield (
            f"In {clipped:,} of {count:,} fills the bar was too narrow for the full slippage; "
            f"total slippage was {money:,.2f} {result.currency}."
        )


def _of_splits(result: RunRecord) -> Iterator[str]:
    """Yield the splits for which per-share fees were corrected; without any, the possible error of the fees."""
    told_of, fills, most, unknown = result.manifest.get("splits", {}), result.fills_table, 0.0, []
    by_name = arrays.rows_by_text(fills["series"].to_pylist()) if told_of else {}
    values, costs = np.abs(column(fills, "size") * column(fills, "price")), column(fills, "costs")
    for key, told in told_of.items():
        name = Series.parse(key).short
        if "ratios" in told:
            ratios = ", ".join(f"{ratio:g}:1 on {day}" for day, ratio in told["ratios"].items())
            yield f"Fees of {name} are charged on shares as traded, using the splits from {told['from']}: {ratios}."
            continue
        rows = by_name.get(name, np.zeros(0, np.int64))
        least = np.minimum(told["minimum"], told["cap"] * values[rows])
        over = float(np.maximum(costs[rows] - least, 0.0).sum())
        if over >= _A_CENT:
            most += over
            unknown.append(name)
    if unknown:
        yield (
            f"Fees of {few(unknown)} are charged on split-adjusted share counts. If the shares have split since, "
            f"the fees are up to {most:,.2f} {result.currency} too high; name the splits with --splits FILE."
        )


_A_CENT = 0.01


def _borrowed(result: RunRecord) -> float:
    """Return the largest loan of a cash or margin account; 0 if futures margins tie up cash."""
    futures = any(Series.parse(key).instrument.kind in FUTURE_KINDS for key in result.series)
    if "account" not in result.manifest or futures or not len(result.record):
        return 0.0
    return max(0.0, -float(column(result.record, "cash").min()))


def _of_warm_up(result: RunRecord) -> Iterator[str]:
    asked, waited = result.spec.warm_up, result.manifest.get("market", {}).get("waited", 0)
    if asked:
        bars = result.manifest["warm_up"]["bars"]
        yield f"Indicators were warmed up on the {bars:,} bars before the run (--warm-up {asked})."
    if waited:
        more = "" if asked == AUTO else f"; use --since with --warm-up {AUTO} to warm up on earlier bars"
        yield f"Indicators needed the first {waited:,} bars{more}."


def _of_benchmark(result: RunRecord, run: Account) -> Iterator[str]:
    if run.common is None:
        return
    name, count = hold_name(result), len(run.common) - 1
    a_year = f", {run.beside.periods:g} of them per year" if run.beside.periods != run.periods else ""
    yield f"The comparison with {name} uses the {count:,} {run.unit} that both have{a_year}."


def _of_dividends(result: RunRecord) -> Iterator[str]:
    """Yield how the dividends of each series are known, which are doubtful, and which series has none."""
    paid = result.manifest.get("dividends", {}).get("series", {})
    for key in filter(None, (*result.spec.series, result.spec.benchmark) if "dividends" in result.manifest else ()):
        name, own = Series.parse(key).short, paid.get(key, {})
        amounts, doubts = own.get("amounts", {}), own.get("doubts", [])
        yield f"Dividends of {name}: {f'{len(amounts):,}, ' + own['how'] if amounts else 'none'}."
        if doubts:
            more = f"; and {len(doubts) - _DOUBTS:,} more, in the manifest" if len(doubts) > _DOUBTS else ""
            yield f"Doubtful: {'; '.join(doubts[:_DOUBTS])}{more}."


def _of_interest(result: RunRecord) -> Iterator[str]:
    """Yield how much interest was booked, and how much is to come."""
    if known := result.manifest.get("interest"):
        booked, accrued = known["booked"], known["accrued"]
        yield f"Interest: {booked:z,.2f} {result.currency} booked, and {accrued:z,.2f} accrued since, not in equity."
        for when, day in known.get("outside", {}).items():
            which = "first" if when == "before" else "last"
            yield f"Days {when} {day}, for which no benchmark rate is known, used the {which} known rate."
    elif (borrowed := _borrowed(result)) >= _CENT:
        yield f"No interest was charged on borrowed money, {borrowed:,.2f} {result.currency} at most; see --interest."


_CENT = 0.01


def _of_fees(result: RunRecord) -> Iterator[str]:
    """Yield for which sessions there was no stored borrow fee, so that it was the last one before."""
    for key, known in result.manifest.get("borrow", {}).items():
        if count := known["taken_from_before"]:
            first = f"{', '.join(known['first'])}{', ...' if count > len(known['first']) else ''}"
            name = Series.parse(key).short
            yield f"Sessions without a borrow fee of {name}, which use the previous one: {count:,} ({first})."


_DOUBTS = 3


def _conditions(result: RunRecord) -> str:
    """Return the market settings, and how many orders filled in their own bar by the strategy's own setting."""
    early = result.manifest.get("market", {}).get("filled_in_their_own_bar", 0)
    helped = bool(early) and result.spec.brokerage.fills == "next-bar"
    words = [result.spec.conditions, *_of_currencies(result)]
    return ", ".join(
        [*words, *([f"orders filled in their own bar despite next-bar fills: {early:,}"] if helped else [])]
    )


def _of_currencies(result: RunRecord) -> Iterator[str]:
    """Yield how money of other currencies was converted, and which prices are in no currency."""
    told, spec = result.manifest.get("currencies"), result.spec
    keys = [*spec.series, *([spec.benchmark] if spec.benchmark else [])]
    if told is None:  # of version 0.1.0, if they differ
        currencies = dict.fromkeys(Series.parse(key).instrument.currency for key in keys)
        if not result.is_converted:
            yield f"amounts in {' and '.join(currencies)} added as they are, not converted"
        elif len(currencies) > 1:
            yield f"the benchmark in {list(currencies)[-1]}, not converted"
        return
    rates = told.get("rates", {})
    pairs = dict.fromkeys(Series.parse(leg["series"]).short for legs in rates.values() for leg in legs)
    if pairs:
        known = f"at the last known close of {' and '.join(pairs)}"
        how = "at once" if spec.brokerage.conversion == AT_ONCE else "where an order lacks cash of its currency"
        yield f"{' and '.join(rates)} converted to {told['base']} {how}, {known}"
    yield from words_of_units(told["prices"], keys)


def measure_returns(
    returns: pd.Series | pd.DataFrame,
    *,
    benchmark: pd.Series | pd.DataFrame | None = None,
    risk_free: float | pd.Series = 0.0,
    periods: float = SESSIONS,
    nan: str = "refuse",
) -> Stats:
    """
    Return the metrics of any series of returns: all except those of activity and trades.

    Args:
        returns: simple, after costs, one per session, with its date as index; or a frame with one such column. An index
            of periods, such as months, means their last days.
        benchmark: returns to compare with; then only common dates count, and returns between two of them are
            compounded.
        risk_free: the annual return of cash, or the return of each session with its date as index.
        periods: sessions per year.
        nan: "refuse", or "drop", which omits the sessions in which a return, or that of the benchmark, is missing.

    Raises:
        UsageError: a return is NaN, infinite or below -1, or a session has no risk-free return.
    """
    years = check_periods(periods)
    if not years > 0:
        _arguments.refuse("periods", periods, _PERIODS)
    return measured(returns, risk_free, Periods(years), benchmark=benchmark, nan=nan, lead=1 / years)


def measured(
    returns: pd.Series | pd.DataFrame,
    risk_free: float | pd.Series,
    yearly: Periods,
    *,
    benchmark: pd.Series | pd.DataFrame | None = None,
    nan: str = "refuse",
    lead: float = 0.0,
) -> Stats:
    """
    Return the results of `measure_returns` for returns of any periods.

    Args:
        lead: the length of the first return in years, if the initial cash is not of the first session.
    """
    days, own = _dated(returns)
    beside = []
    if benchmark is not None:
        days, own, other, risk_free, yearly = _beside(days, own, _dated(benchmark), risk_free, yearly)
        beside = [other]
    days, own, *others = _without_nan(nan, days, own, *beside)
    for one in (own, *others):
        _check_possible(one)
    run = Account(
        days=days, equity=equity_of(own), returns=own, held=np.array([]), trades=Trades.none(), still_open=0,
        traded=0.0, costs=0.0, risk_free=_rates(risk_free, days), periods=yearly.count,
        benchmark=next(iter(others), None), lead=lead, unit=yearly.unit, whose=yearly.whose,
    )  # fmt: skip
    rows = {name: metric for name, metric in METRICS.items() if metric.group in _OF_RETURNS}
    numbers, reasons = _Unread(run, rows, {}).all()
    return Stats(numbers, f"{_yardstick(run)}.", f"{_sessions(run)}.", "", reasons, run.unit)


def _beside(
    days: np.ndarray,
    own: np.ndarray,
    benchmark: tuple[np.ndarray, np.ndarray],
    risk_free: float | pd.Series,
    yearly: Periods,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float | pd.Series, Periods]:
    """Return dates that both have, the returns of each, the risk-free return, and how many such dates make a year."""
    import pandas as pd

    other_days, other = benchmark
    if np.array_equal(days, other_days):
        return days, own, other, risk_free, yearly
    common, (places, _) = common_places([days, other_days], both_begin(days, other_days))
    _, sampled, other = common_dates(days, own, other_days, other)
    if not isinstance(risk_free, int | float | str) and len(common):
        known = _rates_on(days[places[0] : places[-1]], *_dated(risk_free))
        risk_free = pd.Series(compounded(known, places - places[0]), index=pd.DatetimeIndex(common))
    count = periods_at(yearly.count, places)
    whose = yearly.whose if count == yearly.count else "those that both have"
    return common, sampled, other, risk_free, replace(yearly, count=count, whose=whose)


def check_result(given: Any, name: str) -> Measured:
    """
    Return a run with its metrics.

    Raises:
        UsageError: it is not a run.
    """
    example = "write what run() returns, or RunResult.load(FOLDER)"
    return Measured.of(_arguments.instance(given, name, RunRecord, example))


def check_periods(given: Any) -> float:
    """
    Return the periods per year; 0 means those of the calendar.

    Raises:
        UsageError: it is not a number, or is below 0.
    """
    number = _arguments.number(given, "periods", _PERIODS)
    if not 0 <= number < math.inf:
        _arguments.refuse("periods", given, _PERIODS)
    return number


class DatedRates(NamedTuple):
    """The risk-free return of each session, and its text in the spec of a run."""

    days: np.ndarray  # datetime64[D]
    rates: np.ndarray

    @property
    def digest(self) -> str:
        """The SHA-256 of dates and rates."""
        return hashlib.sha256(self.days.astype(np.int64).tobytes() + self.rates.tobytes()).hexdigest()


def dated_rates(risk_free: Any) -> DatedRates | None:
    """
    Return the risk-free returns per session that a caller passed; None for a single annual rate.

    Raises:
        UsageError: the dates are not ascending, or a rate is not a number.
    """
    if not hasattr(risk_free, "index") or isinstance(risk_free, str | tuple | list):
        return None
    days, rates = _dated(risk_free)
    return DatedRates(days, rates)


def with_rates(result: _Run, rates: DatedRates) -> _Run:
    """
    Return a run with the risk-free return of each session in its record.

    Raises:
        UsageError: a session has no risk-free return.
    """
    sessions = arrays.numbers(result.record["session"]).astype("datetime64[D]")
    days, rows = np.unique(sessions, return_inverse=True)
    column = arrays.floats(_rates_on(days, rates.days, rates.rates)[rows])
    return replace(result, record=result.record.append_column("risk_free", column))


def risk_free_of(result: RunRecord) -> float | pd.Series:
    """Return the risk-free rate of a run: an annual return, or the return of each session."""
    rates = rates_of(result.record)
    if rates is None:
        return result.spec.risk_free
    import pandas as pd

    ends = session_ends(result.record)
    days = arrays.numbers(result.record["session"]).astype("datetime64[D]")
    return pd.Series(rates[ends], index=pd.DatetimeIndex(days[ends]))


def _dated(returns: pd.Series | pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    import pandas as pd

    example = "write a pandas Series of numbers with the dates of its sessions as index"
    if isinstance(returns, pd.DataFrame):
        if returns.shape[1] != 1:
            columns = ", ".join(map(str, returns.columns)) or "none"
            raise UsageError(f"returns is a frame with {returns.shape[1]} columns ({columns}); write one: frame[NAME]")
        returns = returns.iloc[:, 0]
    _arguments.instance(returns, "returns", pd.Series, example)
    try:
        index = returns.index
        if isinstance(index, pd.PeriodIndex):
            index = index.to_timestamp(how="end")
        dates = pd.DatetimeIndex(index).tz_localize(None)  # the date of its own zone
        numbers = returns.to_numpy(dtype=float)
    except (ValueError, TypeError) as error:
        raise UsageError(f"these cannot be read as returns ({error}); {example}") from error
    days = np.asarray(dates.to_numpy(), dtype="datetime64[D]")
    if len(days) and (np.diff(days) <= np.timedelta64(0, "D")).any():
        raise UsageError(
            "the dates of returns must increase, without duplicates; sort them, and sample them at session ends"
        )
    return days, numbers


def _check_possible(returns: np.ndarray) -> None:
    try:
        checked_returns(returns)
    except ValueError as error:
        raise UsageError(f"{error}; write simple returns, 0.01 for +1 %") from error


def _without_nan(nan: str, days: np.ndarray, *series: np.ndarray) -> tuple[np.ndarray, ...]:
    if nan not in ("refuse", "drop"):
        raise UsageError(f'nan is {nan!r}; write "refuse" or "drop"')
    kept = drop_nan(days, *series)
    if nan == "refuse" and len(kept[0]) < len(days):
        missing = _some(np.setdiff1d(days, kept[0]))
        raise UsageError(f'there is no return for {missing}; fill the gaps, or leave them out with nan="drop"')
    return kept


def _rates(risk_free: float | pd.Series, days: np.ndarray) -> float | np.ndarray:
    if isinstance(risk_free, int | float | str):
        rate = _arguments.number(risk_free, "risk_free", "write 0.02 for 2 % per year")
        if not -1 < rate < 1:
            raise UsageError(f"the risk-free rate is {risk_free} per year; write 0.02 for 2 %")
        return rate
    return _rates_on(days, *_dated(risk_free))


def _rates_on(days: np.ndarray, dates: np.ndarray, rates: np.ndarray) -> np.ndarray:
    _, places, own = np.intersect1d(days, dates, assume_unique=True, return_indices=True)
    if len(places) < len(days) or np.isnan(rates[own]).any():
        missing = _some(np.setdiff1d(days, dates[np.isfinite(rates)]))
        raise UsageError(f"there is no risk-free return for {missing}; give one for every session")
    return rates[own]


def _some(days: np.ndarray) -> str:
    more = f" and {len(days) - 5:,} more sessions" if len(days) > 5 else ""
    return f"{', '.join(map(str, days[:5]))}{more}"


def _yardstick(run: Account) -> str:
    if isinstance(run.risk_free, np.ndarray):
        rate = f"risk-free rate by date, annual mean {np.mean(run.risk_free) * run.periods:.2%}"
    else:
        rate = f"annual risk-free rate {run.risk_free:.2%}"
    return f"{Periods(run.periods, run.unit, run.whose).words}, {rate.replace('%', ' %')}"


def _extent(spec: RunSpec, run: Account, currency: str) -> str:
    added = f", {run.added:+,.2f} added by the strategy, not counted as a return" if run.money is not None else ""
    return f"{_sessions(run)}, {spec.cash:,.2f} {currency} at the start{added}."


def _rules(run: Account, result: RunRecord) -> str:
    """Return the rules by which sessions are counted for series without a known calendar."""
    if not len(run.days):
        return ""
    first, last = run.days[0].item(), run.days[-1].item()
    series = [Series.parse(key) for key in result.spec.series]
    found = {one.short: fallback(hours_of(one.instrument), first, last) for one in series}
    return "".join(f"; sessions of {short} are assumed: {rule}" for short, rule in found.items() if rule)


def _sessions(run: Account) -> str:
    dates = f" from {run.days[0]} to {run.days[-1]}" if len(run.days) else ""
    short = " (less than a year, so growth is not annualised)" if run.under_a_year else ""
    unit = run.unit if len(run.days) != 1 else run.unit.removesuffix("s")
    return f"{len(run.days):,} {unit}{dates}{short}"
