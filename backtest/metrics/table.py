"""
What each number about a run is: `METRICS`, a row each.

The functions behind the rows are in the other files of the room.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Real

import numpy as np

from backtest import _arguments
from backtest.errors import UsageError
from backtest.metrics import benchmark
from backtest.metrics.account import Account
from backtest.metrics.drawdown import (
    average_drawdown,
    burke,
    burke_modified,
    calmar,
    martin,
    max_drawdown,
    pain,
    pain_ratio,
    ulcer,
)
from backtest.metrics.ratios import kappa, omega, sharpe, sharpe_geometric, sortino, upside_potential
from backtest.metrics.returns import (
    SESSIONS,
    Undefined,
    cagr,
    cagr_calendar,
    checked_equity,
    downside_deviation,
    kurtosis,
    largest,
    skew,
    smallest,
    total_return,
    volatility,
)
from backtest.metrics.sharpe_tests import (
    minimum_track_record,
    probabilistic_sharpe,
    sharpe_autocorrelated,
    sharpe_interval,
)
from backtest.metrics.tail_risk import (
    expected_shortfall,
    expected_shortfall_cornish_fisher,
    expected_shortfall_gaussian,
    tail_ratio,
    value_at_risk,
    value_at_risk_cornish_fisher,
    value_at_risk_gaussian,
)
from backtest.metrics.trades import (
    average_loss,
    average_win,
    best,
    expectancy,
    longest_streak,
    payoff,
    profit_factor,
    sqn,
    win_rate,
    worst,
)

GROUPS = ("return", "risk", "drawdown", "benchmark", "activity", "trades")


def exposure(held: np.ndarray) -> float:
    """Return the share of true values: bars in the market, shape (n,); undefined without bars."""
    return float(np.mean(held)) if len(held) else Undefined("too few")


def turnover(traded: float, equity: np.ndarray, periods: float = SESSIONS) -> float:
    """
    Return how often a year the equity was turned over: half the traded value over mean equity.

    `traded` is the money of all fills, so that a purchase and its sale are one turn. Undefined without sessions.
    """
    return _share_a_year(traded / 2, equity, periods)


def cost_drag(costs: float, equity: np.ndarray, periods: float = SESSIONS) -> float:
    """Return which share of the mean equity went into costs, a year; undefined without sessions."""
    return _share_a_year(costs, equity, periods)


@dataclass(frozen=True, slots=True)
class Metric:
    """
    A number about a run: its name, how people read it, what it is, and the function.

    A row of your own is passed to `measure` or a report; its function returns NaN, or None, where there is no number.
    """

    name: str  # a word that Python takes as a name
    label: str
    format: str  # percent (of a fraction), ratio, probability, count, money, sessions or days
    definition: str
    function: Callable[[Account], float]
    group: str = ""  # one of GROUPS; "" for one of your own
    headline: bool = False  # whether it is in the short table

    @property
    def unit(self) -> str:
        """What the number counts, "" for a bare one; "money" is in the currency of the account."""
        return _FORMATS[self.format][0]

    def text(self, value: float | None) -> str:
        """Return a value as people read it, with a percent sign but no other unit; "–" for NaN and None."""
        if value is None or math.isnan(value):
            return "–"
        unit, scale, style = _FORMATS[self.format]
        return f"{value * scale:{style}}{' %' if unit == '%' else ''}"


_FORMATS = {  # unit, factor, style
    "percent": ("%", 100.0, "z,.2f"),
    "ratio": ("", 1.0, "z,.2f"),
    "probability": ("", 1.0, "z,.3f"),
    "count": ("", 1.0, ",.0f"),
    "money": ("money", 1.0, "z,.2f"),
    "sessions": ("", 1.0, ",.0f"),  # the label says what is counted
    "days": ("", 1.0, ",.0f"),
}

_RETURN = (
    Metric(
        "total_return", "Total return", "percent",
        "E_N / E_0 − 1, with E_0 the initial cash and E_t the equity at the end of session t.",
        lambda run: total_return(run.equity), headline=True,
    ),
    Metric(
        "cagr", "CAGR", "percent",
        "(E_N / E_0)^(P / N) − 1, with N sessions, P of them a year; not of a run under a year.",
        lambda run: _of_a_year(run, cagr(run.equity, run.periods)), headline=True,
    ),
    Metric(
        "cagr_calendar", "CAGR by the calendar", "percent",
        "(E_N / E_0)^(365.25 / D) − 1, with D days of the calendar from the first session to the last (of returns "
        "alone: from a period before the first); not of a run "
        "under a year. Shown in short tables where it differs from CAGR by more than 0.1 percentage points.",
        lambda run: _of_a_year(run, cagr_calendar(run.days, run.equity, run.lead)),
    ),
    Metric(
        "best_session", "Best session", "percent", "max r_t, with r_t = E_t / E_(t−1) − 1.",
        lambda run: largest(run.returns),
    ),
    Metric("worst_session", "Worst session", "percent", "min r_t.", lambda run: smallest(run.returns)),
    Metric(
        "best_month", "Best month", "percent",
        "The largest return of a month of the calendar, from the last session end before it; months may be cut.",
        lambda run: largest(run.months),
    ),
    Metric(
        "worst_month", "Worst month", "percent", "The smallest return of a month, as the best.",
        lambda run: smallest(run.months),
    ),
    Metric(
        "best_year", "Best year", "percent",
        "The largest return of a year of the calendar, from the last session end before it; years may be cut.",
        lambda run: largest(run.years),
    ),
    Metric(
        "worst_year", "Worst year", "percent", "The smallest return of a year, as the best.",
        lambda run: smallest(run.years),
    ),
)  # fmt: skip
_RISK = (
    Metric(
        "volatility", "Volatility a year", "percent",
        "s(r)·√P, with s the sample standard deviation (n − 1) of the returns r_t = E_t / E_(t−1) − 1.",
        lambda run: volatility(run.returns, run.periods), headline=True,
    ),
    Metric(
        "downside_deviation", "Downside deviation a year", "percent",
        "√mean(min(r, 0)²)·√P, the mean over all N sessions.",
        lambda run: downside_deviation(run.returns, 0.0, run.periods),
    ),
    Metric(
        "sharpe", "Sharpe ratio", "ratio",
        "mean(r − f) / s(r − f)·√P, with f = (1 + R)^(1 / P) − 1 for a risk-free rate of R a year.",
        lambda run: sharpe(run.returns, run.risk_free, run.periods), headline=True,
    ),
    Metric(
        "sharpe_low", "Sharpe ratio, 95 % from", "ratio",
        "Sharpe − 1.96·SE·√P, with SE² = (1 − γ3·S + (γ4 − 1) / 4·S²) / (N − 1) after Mertens, S the ratio of one "
        "session, γ3 skew and γ4 kurtosis (3 for the normal distribution).",
        lambda run: sharpe_interval(*run.moments, run.periods)[0], headline=True,
    ),
    Metric(
        "sharpe_high", "Sharpe ratio, 95 % to", "ratio", "Sharpe + 1.96·SE·√P.",
        lambda run: sharpe_interval(*run.moments, run.periods)[1], headline=True,
    ),
    Metric(
        "sharpe_autocorrelated", "Sharpe ratio, autocorrelated", "ratio",
        "S·η(P), with Lo's η(q) = q / √(q + 2·Σ(q − k)·ρ_k) over the autocorrelations of lags k = 1 … 5.",
        lambda run: sharpe_autocorrelated(run.returns, run.risk_free, run.periods),
    ),
    Metric(
        "sharpe_geometric", "Sharpe ratio, geometric", "ratio",
        "(CAGR of r − f) / (s(r − f)·√P).",
        lambda run: sharpe_geometric(run.returns, run.risk_free, run.periods),
    ),
    Metric(
        "probabilistic_sharpe", "Probability of skill", "probability",
        "Φ(S / SE): the probability that the true Sharpe ratio is above 0, were this the only trial.",
        lambda run: probabilistic_sharpe(*run.moments),
    ),
    Metric(
        "minimum_track_record", "Minimum track record, sessions", "sessions",
        "Sessions (of longer bars weeks, months) after which a Sharpe ratio like this is above 0 at 95 %: "
        "1 + (N − 1)·SE²·(1.64 / S)².",
        lambda run: minimum_track_record(run.moments.ratio, run.moments.skew, run.moments.kurtosis),
    ),
    Metric(
        "sortino", "Sortino ratio", "ratio",
        "mean(r − f) / √mean(min(r − f, 0)²)·√P, both means over all N sessions.",
        lambda run: sortino(run.returns, run.risk_free, run.periods), headline=True,
    ),
    Metric(
        "omega", "Omega ratio", "ratio", "Σ max(r, 0) / Σ max(−r, 0).",
        lambda run: omega(run.returns, 0.0, run.periods),
    ),
    Metric(
        "kappa3", "Kappa 3", "ratio", "mean(r) / ∛mean(max(−r, 0)³), of one session.",
        lambda run: kappa(run.returns, 3, 0.0, run.periods),
    ),
    Metric(
        "upside_potential", "Upside potential ratio", "ratio",
        "Mean of the gains / root mean square of the losses, each over its own sessions.",
        lambda run: upside_potential(run.returns, 0.0, run.periods),
    ),
    Metric(
        "skew", "Skew", "ratio", "mean((r − m)³) / s0³, the moments of the population.",
        lambda run: skew(run.returns),
    ),
    Metric(
        "kurtosis", "Excess kurtosis", "ratio", "mean((r − m)⁴) / s0⁴ − 3, the moments of the population.",
        lambda run: kurtosis(run.returns),
    ),
    Metric(
        "tail_ratio", "Tail ratio", "ratio", "|95 % quantile of r| / |5 % quantile of r|.",
        lambda run: tail_ratio(run.returns),
    ),
    Metric(
        "var", "Value at risk, 5 %", "percent",
        "The 5 % quantile of r, linear between observations (type 7): a loss is negative.",
        lambda run: value_at_risk(run.returns),
    ),
    Metric(
        "es", "Expected shortfall, 5 %", "percent", "Mean of the r that are not above the value at risk.",
        lambda run: expected_shortfall(run.returns),
    ),
    Metric(
        "var_gaussian", "Value at risk, normal", "percent",
        "m + z·s, with z the normal quantile of 5 % and s with n − 1.",
        lambda run: value_at_risk_gaussian(run.returns),
    ),
    Metric(
        "es_gaussian", "Expected shortfall, normal", "percent", "m − s·φ(z) / 5 %.",
        lambda run: expected_shortfall_gaussian(run.returns),
    ),
    Metric(
        "var_cornish_fisher", "Value at risk, Cornish–Fisher", "percent",
        "m + s·g, with g = z + (z² − 1)·S / 6 + (z³ − 3z)·K / 24 − (2z³ − 5z)·S² / 36, skew S and excess kurtosis K.",
        lambda run: value_at_risk_cornish_fisher(run.returns),
    ),
    Metric(
        "es_cornish_fisher", "Expected shortfall, Cornish–Fisher", "percent",
        "m − s·φ(g)·(1 + S / 6·g³ + K / 24·(g⁴ − 2g² − 1) + S² / 72·(g⁶ − 9g⁴ + 9g² + 3)) / 5 %; not where g does "
        "not rise with z, nor where this is less of a loss than the value at risk.",
        lambda run: expected_shortfall_cornish_fisher(run.returns),
    ),
)  # fmt: skip
_DRAWDOWN = (
    Metric(
        "max_drawdown", "Maximum drawdown", "percent",
        "min of d_t = E_t / max(E_0 … E_t) − 1, at session ends.",
        lambda run: max_drawdown(run.equity), headline=True,
    ),
    Metric(
        "max_drawdown_sessions", "Maximum drawdown, sessions", "sessions",
        "Sessions from the peak of the deepest drawdown to its recovery, or the end if it is open; weeks or months of "
        "bars as long.",
        lambda run: run.worst.sessions if run.worst else 0, headline=True,
    ),
    Metric(
        "max_drawdown_days", "Maximum drawdown, days", "days",
        "Calendar days from the peak of the deepest drawdown to its recovery, or the end if it is open.",
        lambda run: run.worst.days if run.worst else 0, headline=True,
    ),
    Metric(
        "longest_drawdown_sessions", "Longest time under water, sessions", "sessions",
        "Sessions from the peak of the drawdown that took longest to its recovery, or the end if it is open; weeks or "
        "months of bars as long.",
        lambda run: _longest(run, "sessions"),
    ),
    Metric(
        "longest_drawdown_days", "Longest time under water, days", "days",
        "Calendar days from the peak of the drawdown that took longest to its recovery, or the end if it is open. "
        "Shown in short tables where that is not the deepest one.",
        lambda run: _longest(run, "days"),
    ),
    Metric(
        "average_drawdown", "Average drawdown", "percent",
        "Mean depth of all drawdowns, each from a peak to its recovery.",
        lambda run: average_drawdown(run.equity),
    ),
    Metric(
        "ulcer", "Ulcer index", "percent", "√mean(d²) over N sessions.",
        lambda run: ulcer(run.equity),
    ),
    Metric("pain", "Pain index", "percent", "mean|d| over N sessions.", lambda run: pain(run.equity)),
    Metric(
        "martin", "Martin ratio", "ratio", "CAGR / ulcer index.",
        lambda run: _of_a_year(run, martin(run.equity, run.periods)),
    ),
    Metric(
        "pain_ratio", "Pain ratio", "ratio", "CAGR / pain index.",
        lambda run: _of_a_year(run, pain_ratio(run.equity, run.periods)),
    ),
    Metric(
        "burke", "Burke ratio", "ratio",
        "CAGR / √ΣL², with L what each unbroken row of losing sessions lost.",
        lambda run: _of_a_year(run, burke(run.returns, run.periods)),
    ),
    Metric(
        "burke_modified", "Burke ratio, modified", "ratio", "Burke ratio·√N.",
        lambda run: _of_a_year(run, burke_modified(run.returns, run.periods)),
    ),
    Metric(
        "calmar", "Calmar ratio", "ratio",
        "CAGR / |maximum drawdown|, both of the whole run.",
        lambda run: _of_a_year(run, calmar(run.equity, run.periods)), headline=True,
    ),
)  # fmt: skip
_BENCHMARK = (
    Metric(
        "alpha", "Alpha a year", "percent",
        "P·mean(r − f − β·(b − f)), with b the benchmark's returns: those of the benchmark named, else of buying and "
        "holding the run's own series evenly. Where the benchmark lacks sessions, all numbers beside it are of returns "
        "between those that it has, P of them a year.",
        lambda run: _beside(run, benchmark.alpha, "risk_free", "periods"),
    ),
    Metric(
        "beta", "Beta", "ratio", "cov(r − f, b − f) / var(b − f).",
        lambda run: _beside(run, benchmark.beta, "risk_free", "periods"),
    ),
    Metric(
        "correlation", "Correlation", "ratio", "cov(r, b) / (s(r)·s(b)).",
        lambda run: _beside(run, benchmark.correlation),
    ),
    Metric(
        "tracking_error", "Tracking error a year", "percent", "s(r − b)·√P.",
        lambda run: _beside(run, benchmark.tracking_error, "periods"),
    ),
    Metric(
        "information_ratio", "Information ratio", "ratio", "mean(r − b) / s(r − b)·√P.",
        lambda run: _beside(run, benchmark.information_ratio, "periods"),
    ),
    Metric(
        "active_premium", "Active premium", "percent", "CAGR − CAGR of the benchmark.",
        lambda run: _of_a_year(run, _beside(run, benchmark.active_premium, "periods")),
    ),
    Metric(
        "up_capture", "Up capture", "percent",
        "Mean compound return over the sessions with b > 0 / the benchmark's over these.",
        lambda run: _beside(run, benchmark.up_capture),
    ),
    Metric(
        "down_capture", "Down capture", "percent",
        "Mean compound return over the sessions with b < 0 / the benchmark's over these.",
        lambda run: _beside(run, benchmark.down_capture),
    ),
    Metric(
        "active_drawdown", "Active drawdown", "percent",
        "Maximum drawdown of the equity counted in units of the benchmark.",
        lambda run: _beside(run, benchmark.active_drawdown),
    ),
    Metric(
        "treynor", "Treynor ratio", "ratio", "(CAGR of r − f) / β.",
        lambda run: _of_a_year(run, _beside(run, benchmark.treynor, "risk_free", "periods")),
    ),
    Metric(
        "m2", "M²", "percent",
        "(CAGR of r − f)·s(b − f) / s(r − f) + CAGR of f: the growth at the benchmark's volatility.",
        lambda run: _of_a_year(run, _beside(run, benchmark.m2, "risk_free", "periods")),
    ),
)  # fmt: skip
_ACTIVITY = (
    Metric(
        "exposure", "Exposure", "percent",
        "Bars in the market / bars: a position is open at their close, or was opened and closed within them.",
        lambda run: exposure(run.held), headline=True,
    ),
    Metric(
        "gross_leverage", "Gross leverage", "ratio",
        "Mean over all bars of Σ|position · close · multiplier| / equity, at their closes.",
        lambda run: _leverage(run, "gross"),
    ),
    Metric(
        "net_leverage", "Net leverage", "ratio",
        "Mean over all bars of Σ position · close · multiplier / equity, short positions negative.",
        lambda run: _leverage(run, "net"),
    ),
    Metric(
        "max_gross_leverage", "Gross leverage, largest", "ratio",
        "The largest Σ|position · close · multiplier| / equity of a bar.",
        lambda run: _leverage(run, "peak"),
    ),
    Metric(
        "rejected_orders", "Rejected orders", "count",
        "Orders that the broker refused, of those given: the cash, or the margin, did not pay for them.",
        lambda run: run.rejected,
    ),
    Metric(
        "turnover", "Turnover a year", "percent",
        "½ · Σ|size · price| of all fills / mean(E_0 … E_N) · P / N.",
        lambda run: turnover(run.traded, run.worth, run.periods), headline=True,
    ),
)  # fmt: skip
_TRADES = (
    Metric(
        "trades", "Trades", "count",
        "Closed round trips, matched first in, first out; what is still open is not counted.",
        lambda run: len(run.net), headline=True,
    ),
    Metric(
        "open_trades", "Open trades", "count", "Entries that are not, or not wholly, closed at the end.",
        lambda run: run.still_open,
    ),
    Metric(
        "win_rate", "Win rate", "percent",
        "Trades with a net result above 0 / trades; net is after the costs of both fills.",
        lambda run: win_rate(run.net), headline=True,
    ),
    Metric(
        "payoff", "Payoff ratio", "ratio", "Mean net of winning trades / |mean net of losing trades|, in money.",
        lambda run: payoff(run.net),
    ),
    Metric(
        "profit_factor", "Profit factor", "ratio",
        "Σ net of winning trades / |Σ net of losing trades|, in money.",
        lambda run: profit_factor(run.net), headline=True,
    ),
    Metric(
        "expectancy", "Expectancy a trade", "money",
        "Mean net money of a trade.",
        lambda run: expectancy(run.net), headline=True,
    ),
    Metric(
        "expectancy_return", "Expectancy a trade, return", "percent", "Mean of net / value at entry.",
        lambda run: expectancy(run.trades.growth),
    ),
    Metric(
        "sqn", "System quality number", "ratio",
        "√k · mean(net) / s(net) over k trades, s with n − 1.",
        lambda run: sqn(run.net), headline=True,
    ),
    Metric("average_win", "Average win", "money", "Mean net of winning trades.", lambda run: average_win(run.net)),
    Metric("average_loss", "Average loss", "money", "Mean net of losing trades.", lambda run: average_loss(run.net)),
    Metric("best_trade", "Best trade", "money", "The largest net.", lambda run: best(run.net)),
    Metric("worst_trade", "Worst trade", "money", "The smallest net.", lambda run: worst(run.net)),
    Metric(
        "winning_streak", "Longest winning streak", "count", "Most trades in a row, by exit, with a net above 0.",
        lambda run: longest_streak(run.net > 0),
    ),
    Metric(
        "losing_streak", "Longest losing streak", "count", "Most trades in a row, by exit, with a net below 0.",
        lambda run: longest_streak(run.net < 0),
    ),
    Metric("bars_held", "Bars held", "ratio", "Mean bars from entry to exit.", lambda run: expectancy(run.trades.bars)),
    Metric(
        "adverse_excursion", "Adverse excursion", "percent",
        "Mean over the trades of the worst that was seen of the entry price, by lows and highs of the bars while held, "
        "and the exit; of runs that version 0.1.0 kept by the closes.",
        lambda run: expectancy(run.trades.adverse),
    ),
    Metric(
        "favourable_excursion", "Favourable excursion", "percent",
        "Mean over the trades of the best that was seen of the entry price, by lows and highs of the bars while held, "
        "and the exit; of runs that version 0.1.0 kept by the closes.",
        lambda run: expectancy(run.trades.favourable),
    ),
    Metric(
        "cost_drag", "Cost drag a year", "percent", "Costs / mean(E_0 … E_N) · P / N.",
        lambda run: cost_drag(run.costs, run.worth, run.periods),
    ),
    Metric(
        "costs", "Costs", "money",
        "Money paid for all fills, those of open positions too.",
        lambda run: run.costs, headline=True,
    ),
)  # fmt: skip

METRICS: dict[str, Metric] = {
    metric.name: replace(metric, group=group)
    for group, metrics in zip(GROUPS, (_RETURN, _RISK, _DRAWDOWN, _BENCHMARK, _ACTIVITY, _TRADES), strict=True)
    for metric in metrics
}


def _share_a_year(money: float, equity: np.ndarray, periods: float) -> float:
    years = (len(equity) - 1) / periods
    return float(money / np.mean(checked_equity(equity)) / years) if years else Undefined("too few")


def _beside(run: Account, number: Callable[..., float], *names: str) -> float:
    """
    Return a number about both at the sessions that both have, undefined where a price was not above zero.

    Args:
        names: of what of the account at these sessions the number is given besides.
    """
    if run.benchmark is None:
        return Undefined("no benchmark")
    both = run.beside
    return number(both.returns, run.benchmark, *(getattr(both, name) for name in names))


def _longest(run: Account, unit: str) -> float:
    """Return how long the drawdown was that took longest, 0 without any; undefined without sessions."""
    if not len(run.days):
        return Undefined("too few")
    return float(getattr(run.longest, unit)) if run.longest else 0.0


def _leverage(run: Account, what: str) -> float:
    """Return what the leverage of a run was, by the name of the field; undefined without bars."""
    return float(getattr(run.leverage, what)) if run.leverage else Undefined("too few")


def _of_a_year(run: Account, number: float) -> float:
    """Return a number a year, undefined for a run of under a year."""
    return Undefined("under a year") if run.under_a_year and number == number else number


def metric_named(name: object, rows: Mapping[str, Metric] = METRICS) -> str | None:
    """Return the name of the metric that is called so, in METRICS or other rows, or by its label ("Sharpe ratio")."""
    if not isinstance(name, str):
        return None
    if name in rows:
        return name
    return next((metric.name for metric in rows.values() if metric.label.lower() == name.lower()), None)


def rows_with(metrics: Iterable[Metric]) -> dict[str, Metric]:
    """
    Return METRICS and further rows by their names.

    Raises:
        UsageError: one is no row, or has a name, a label, a format or a group that cannot be.
    """
    rows = dict(METRICS)
    for metric in _arguments.several(metrics, "metrics", _ROW):
        _check_row(_arguments.instance(metric, "a metric", Metric, _ROW), rows)
        rows[metric.name] = metric
    return rows


def metric_value(metric: Metric, run: Account) -> float:
    """
    Return what a metric is of a run; an `Undefined` where it is not defined.

    Raises:
        UsageError: the function of a row of the user's failed, or returned no number.
    """
    if METRICS.get(metric.name) is metric:
        return metric.function(run)
    try:
        value = metric.function(run)
    except Exception as error:
        raise UsageError(
            f"the metric {metric.name} failed: {type(error).__name__}: {str(error)[:_LONGEST]}; its function takes an "
            "Account and returns a number, NaN where there is none"
        ) from error
    if value is None:
        return Undefined("undefined")
    if isinstance(value, bool) or not isinstance(value, Real):  # numpy's numbers are, its truths are not
        _arguments.refuse(f"what the metric {metric.name} returned", value, "return a number, NaN where there is none")
    if isinstance(value, Undefined):
        return value
    return float(value) if math.isfinite(value) else Undefined("undefined" if math.isnan(value) else "infinite")


_ROW = "write a list of rows, such as Metric(name, label, format, definition, function)"
_LONGEST = 500  # characters of an error's text


def _check_row(metric: Metric, rows: Mapping[str, Metric]) -> None:
    for field in ("name", "label", "format", "definition", "group"):
        _arguments.text(getattr(metric, field), f"the {field} of a metric", _ROW)
    name = metric.name
    if not name.isidentifier():
        _arguments.refuse(
            "the name of a metric", name, "write a word that Python takes as a name, such as gain_to_pain"
        )
    for word, what in ((name, "name"), (metric.label, "label")):
        if not word.strip() or metric_named(word, rows) is not None:
            raise UsageError(f"the {what} of a metric, {word!r}, is that of another one, or is empty; choose another")
    _arguments.word(metric.format, f"the format of the metric {name}", _FORMATS)
    if metric.group:
        _arguments.word(metric.group, f"the group of the metric {name}", GROUPS)
    _arguments.function(metric.function, f"the function of the metric {name}", _ROW)
