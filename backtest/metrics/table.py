"""
`METRICS`: one row per metric of a run, with its definition.

The functions behind the rows are in the other files of this folder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real

import numpy as np

from backtest import _arguments
from backtest.errors import UsageError
from backtest.metrics.account import Account, Accounts, alone
from backtest.metrics.benchmark import (
    Beside,
    active_drawdown_by_row,
    active_premium_by_row,
    alpha_by_row,
    beta_by_row,
    correlation_by_row,
    down_capture_by_row,
    information_ratio_by_row,
    m2_by_row,
    tracking_error_by_row,
    treynor_by_row,
    up_capture_by_row,
)
from backtest.metrics.drawdown import (
    Drawdown,
    average_drawdown_by_row,
    burke_by_row,
    burke_modified_by_row,
    calmar_by_row,
    martin_by_row,
    max_drawdown_by_row,
    pain_by_row,
    pain_ratio_by_row,
    ulcer_by_row,
)
from backtest.metrics.ratios import (
    kappa_by_row,
    omega_by_row,
    sharpe_by_row,
    sharpe_geometric_by_row,
    sortino_by_row,
    upside_potential_by_row,
)
from backtest.metrics.returns import (
    SESSIONS,
    Undefined,
    cagr_by_row,
    cagr_calendar_by_row,
    checked_equity,
    downside_deviation_by_row,
    kurtosis_by_row,
    largest_by_row,
    skew_by_row,
    smallest_by_row,
    total_return_by_row,
    volatility_by_row,
)
from backtest.metrics.sharpe_tests import (
    minimum_track_record,
    probabilistic_sharpe,
    sharpe_autocorrelated_by_row,
)
from backtest.metrics.tail_risk import (
    expected_shortfall_by_row,
    expected_shortfall_cornish_fisher_by_row,
    expected_shortfall_gaussian_by_row,
    tail_ratio_by_row,
    value_at_risk_by_row,
    value_at_risk_cornish_fisher_by_row,
    value_at_risk_gaussian_by_row,
)
from backtest.metrics.trades import (
    Lists,
    average_loss_by_run,
    average_win_by_run,
    best_by_run,
    expectancy_by_run,
    longest_streak_by_run,
    payoff_by_run,
    profit_factor_by_run,
    sqn_by_run,
    win_rate_by_run,
    worst_by_run,
)

GROUPS = ("return", "risk", "drawdown", "benchmark", "activity", "trades")


def exposure(held: np.ndarray) -> float:
    """Return the fraction of bars with a position, from one boolean per bar, shape (n,); undefined without bars."""
    return exposure_by_row(np.atleast_2d(held))[0]


def exposure_by_row(held: np.ndarray) -> list[float]:
    """Return `exposure` of each run, shape (runs, n)."""
    if not held.shape[1]:
        return [Undefined("too few") for _ in held]
    found: list[float] = held.mean(axis=1).tolist()
    return found


def turnover(traded: float, equity: np.ndarray, periods: float = SESSIONS) -> float:
    """
    Return the annual turnover: half the traded value over mean equity.

    `traded` is the value of all fills, so that a purchase and its sale are one turnover. Undefined without sessions.
    """
    return _share_a_year(traded / 2, equity, periods)


def cost_drag(costs: float, equity: np.ndarray, periods: float = SESSIONS) -> float:
    """Return annual costs as a share of mean equity; undefined without sessions."""
    return _share_a_year(costs, equity, periods)


@dataclass(frozen=True, slots=True)
class Metric:
    """
    A metric of a run: its name, label and format, its definition, and the function.

    Pass your own row to `measure` or a report; its function returns NaN or None if the metric is undefined.
    """

    name: str  # a valid Python name
    label: str
    format: str  # percent (of a fraction), ratio, probability, count, money, sessions or days
    definition: str
    function: Callable[[Account], float]
    group: str = ""  # one of GROUPS; "" for one of your own
    headline: bool = False  # whether it is in the short table

    @property
    def unit(self) -> str:
        """The unit of the number, "" if it has none; "money" is in the currency of the account."""
        return _FORMATS[self.format][0]

    def text(self, value: float | None) -> str:
        """Return a value formatted for people, with a percent sign but no other unit; "–" for NaN and None."""
        if value is None or math.isnan(value):
            return "–"
        unit, scale, style = _FORMATS[self.format]
        return f"{value * scale:{style}}{' %' if unit == '%' else ''}"


@dataclass(frozen=True, slots=True)
class _ByRow:
    """The function of a built-in row: the number of one run equals that of a row of several, to the last bit."""

    numbers: Callable[[Accounts], Sequence[float]]

    def __call__(self, run: Account) -> float:
        return self.numbers(alone(run))[0]


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
        _ByRow(lambda runs: total_return_by_row(runs.curves)), headline=True,
    ),
    Metric(
        "cagr", "CAGR", "percent",
        "(E_N / E_0)^(P / N) − 1, with N sessions, P of them per year; undefined for a run of under a year.",
        _ByRow(lambda runs: _of_a_year(runs, cagr_by_row(runs.curves, runs.periods))), headline=True,
    ),
    Metric(
        "cagr_calendar", "CAGR by the calendar", "percent",
        "(E_N / E_0)^(365.25 / D) − 1, with D calendar days from the first session to the last (for returns alone, "
        "from one period before the first); undefined for a run of under a year. Shown in short tables where it "
        "differs from CAGR by more than 0.1 percentage points.",
        _ByRow(lambda runs: _of_a_year(runs, cagr_calendar_by_row(runs.days, runs.curves, runs.lead))),
    ),
    Metric(
        "best_session", "Best session", "percent", "max r_t, with r_t = E_t / E_(t−1) − 1.",
        _ByRow(lambda runs: largest_by_row(runs.raw)),
    ),
    Metric("worst_session", "Worst session", "percent", "min r_t.", _ByRow(lambda runs: smallest_by_row(runs.raw))),
    Metric(
        "best_month", "Best month", "percent",
        "The largest return of a calendar month, measured from the last session end before it; the first and last may "
        "be incomplete.",
        _ByRow(lambda runs: largest_by_row(runs.months)),
    ),
    Metric(
        "worst_month", "Worst month", "percent",
        "The smallest return of a calendar month, measured as for the best month.",
        _ByRow(lambda runs: smallest_by_row(runs.months)),
    ),
    Metric(
        "best_year", "Best year", "percent",
        "The largest return of a calendar year, measured from the last session end before it; the first and last may "
        "be incomplete.",
        _ByRow(lambda runs: largest_by_row(runs.years)),
    ),
    Metric(
        "worst_year", "Worst year", "percent", "The smallest return of a calendar year, measured as for the best year.",
        _ByRow(lambda runs: smallest_by_row(runs.years)),
    ),
)  # fmt: skip
_RISK = (
    Metric(
        "volatility", "Annual volatility", "percent",
        "s(r)·√P, with s the sample standard deviation (n − 1) of the returns r_t = E_t / E_(t−1) − 1.",
        _ByRow(lambda runs: volatility_by_row(runs.raw, runs.periods)), headline=True,
    ),
    Metric(
        "downside_deviation", "Annual downside deviation", "percent",
        "√mean(min(r, 0)²)·√P, the mean over all N sessions.",
        _ByRow(lambda runs: downside_deviation_by_row(runs.raw, 0.0, runs.periods)),
    ),
    Metric(
        "sharpe", "Sharpe ratio", "ratio",
        "mean(r − f) / s(r − f)·√P, with f = (1 + R)^(1 / P) − 1 for a risk-free rate of R per year.",
        _ByRow(lambda runs: sharpe_by_row(runs.excess, runs.periods)), headline=True,
    ),
    Metric(
        "sharpe_low", "Sharpe ratio, 95 % CI low", "ratio",
        "Sharpe − 1.96·SE·√P, with SE² = V / N, V the long-run variance (VARHAC) of z − S·(z² − 1) / 2, S the "
        "Sharpe ratio per session and z the standardised r − f; z and z² have separate autoregressions.",
        _ByRow(lambda runs: [low for low, _ in runs.intervals]),
        headline=True,
    ),
    Metric(
        "sharpe_high", "Sharpe ratio, 95 % CI high", "ratio", "Sharpe + 1.96·SE·√P.",
        _ByRow(lambda runs: [high for _, high in runs.intervals]),
        headline=True,
    ),
    Metric(
        "sharpe_autocorrelated", "Sharpe ratio, autocorrelated", "ratio",
        "S·η(P), with Lo's η(q) = q / √(q + 2·Σ(q − k)·ρ_k) over the autocorrelations of lags k = 1 … 5.",
        _ByRow(lambda runs: sharpe_autocorrelated_by_row(runs.excess, runs.periods)),
    ),
    Metric(
        "sharpe_geometric", "Sharpe ratio, geometric", "ratio",
        "(CAGR of r − f) / (s(r − f)·√P).",
        _ByRow(lambda runs: sharpe_geometric_by_row(runs.excess, runs.periods)),
    ),
    Metric(
        "probabilistic_sharpe", "Probability of a Sharpe ratio above 0", "probability",
        "Φ(S / SE): the probability that the true Sharpe ratio is above 0, if this was the only trial and returns are "
        "independent: SE² = (1 − γ3·S + (γ4 − 1) / 4·S²) / (N − 1) after Mertens, S the Sharpe ratio per session, γ3 "
        "skew and γ4 kurtosis (3 for the normal distribution). A rising market scores high too.",
        _ByRow(lambda runs: [probabilistic_sharpe(*one) for one in runs.moments]),
    ),
    Metric(
        "minimum_track_record", "Minimum track record, sessions", "sessions",
        "Sessions (weeks or months for bars of that length) after which a Sharpe ratio like this is significantly "
        "above 0 at 95 %: 1 + (N − 1)·SE²·(1.64 / S)², with SE after Mertens.",
        _ByRow(lambda runs: [minimum_track_record(one.ratio, one.skew, one.kurtosis) for one in runs.moments]),
    ),
    Metric(
        "sortino", "Sortino ratio", "ratio",
        "mean(r − f) / √mean(min(r − f, 0)²)·√P, both means over all N sessions.",
        _ByRow(lambda runs: sortino_by_row(runs.excess, runs.periods)), headline=True,
    ),
    Metric(
        "omega", "Omega ratio", "ratio", "Σ max(r, 0) / Σ max(−r, 0).",
        _ByRow(lambda runs: omega_by_row(runs.raw)),
    ),
    Metric(
        "kappa3", "Kappa 3", "ratio", "mean(r) / ∛mean(max(−r, 0)³), per session.",
        _ByRow(lambda runs: kappa_by_row(runs.raw, 3)),
    ),
    Metric(
        "upside_potential", "Upside potential ratio", "ratio",
        "Mean of the positive returns / root mean square of the negative ones, each over the sessions that have them.",
        _ByRow(lambda runs: upside_potential_by_row(runs.raw)),
    ),
    Metric(
        "skew", "Skew", "ratio", "mean((r − m)³) / s0³, with population moments.",
        _ByRow(lambda runs: skew_by_row(runs.raw)),
    ),
    Metric(
        "kurtosis", "Excess kurtosis", "ratio", "mean((r − m)⁴) / s0⁴ − 3, with population moments.",
        _ByRow(lambda runs: kurtosis_by_row(runs.raw)),
    ),
    Metric(
        "tail_ratio", "Tail ratio", "ratio", "|95 % quantile of r| / |5 % quantile of r|.",
        _ByRow(lambda runs: tail_ratio_by_row(runs.raw)),
    ),
    Metric(
        "var", "Value at risk, 5 %", "percent",
        "The 5 % quantile of r, linear between observations (type 7): a loss is negative.",
        _ByRow(lambda runs: value_at_risk_by_row(runs.raw)),
    ),
    Metric(
        "es", "Expected shortfall, 5 %", "percent", "Mean of the r that are not above the value at risk.",
        _ByRow(lambda runs: expected_shortfall_by_row(runs.raw)),
    ),
    Metric(
        "var_gaussian", "Value at risk, normal", "percent",
        "m + z·s, with z the normal quantile of 5 % and s with n − 1.",
        _ByRow(lambda runs: value_at_risk_gaussian_by_row(runs.raw)),
    ),
    Metric(
        "es_gaussian", "Expected shortfall, normal", "percent", "m − s·φ(z) / 5 %.",
        _ByRow(lambda runs: expected_shortfall_gaussian_by_row(runs.raw)),
    ),
    Metric(
        "var_cornish_fisher", "Value at risk, Cornish–Fisher", "percent",
        "m + s·g, with g = z + (z² − 1)·S / 6 + (z³ − 3z)·K / 24 − (2z³ − 5z)·S² / 36, skew S and excess kurtosis K.",
        _ByRow(lambda runs: value_at_risk_cornish_fisher_by_row(runs.raw)),
    ),
    Metric(
        "es_cornish_fisher", "Expected shortfall, Cornish–Fisher", "percent",
        "m − s·φ(g)·(1 + S / 6·g³ + K / 24·(g⁴ − 2g² − 1) + S² / 72·(g⁶ − 9g⁴ + 9g² + 3)) / 5 %; undefined "
        "where g does not rise with z, or where this is a smaller loss than the value at risk.",
        _ByRow(lambda runs: expected_shortfall_cornish_fisher_by_row(runs.raw)),
    ),
)  # fmt: skip
_DRAWDOWN = (
    Metric(
        "max_drawdown", "Maximum drawdown", "percent",
        "min of d_t = E_t / max(E_0 … E_t) − 1, at session ends.",
        _ByRow(lambda runs: max_drawdown_by_row(runs.curves)), headline=True,
    ),
    Metric(
        "max_drawdown_sessions", "Duration of maximum drawdown, sessions", "sessions",
        "Sessions from the peak of the deepest drawdown to its recovery, or to the end if it is open; weeks or months "
        "for bars of that length.",
        _ByRow(lambda runs: _lengths(runs.worst, "sessions")), headline=True,
    ),
    Metric(
        "max_drawdown_days", "Duration of maximum drawdown, days", "days",
        "Calendar days from the peak of the deepest drawdown to its recovery, or to the end if it is open.",
        _ByRow(lambda runs: _lengths(runs.worst, "days")), headline=True,
    ),
    Metric(
        "longest_drawdown_sessions", "Longest time under water, sessions", "sessions",
        "Sessions from the peak of the longest drawdown to its recovery, or to the end if it is open; weeks or months "
        "for bars of that length.",
        _ByRow(lambda runs: _longest(runs, "sessions")),
    ),
    Metric(
        "longest_drawdown_days", "Longest time under water, days", "days",
        "Calendar days from the peak of the longest drawdown to its recovery, or to the end if it is open. "
        "Shown in short tables where that is not the deepest one.",
        _ByRow(lambda runs: _longest(runs, "days")),
    ),
    Metric(
        "average_drawdown", "Average drawdown", "percent",
        "Mean depth of all drawdowns, each from a peak to its recovery.",
        _ByRow(lambda runs: average_drawdown_by_row(runs.curves)),
    ),
    Metric(
        "ulcer", "Ulcer index", "percent", "√mean(d²) over N sessions.",
        _ByRow(lambda runs: ulcer_by_row(runs.curves)),
    ),
    Metric("pain", "Pain index", "percent", "mean|d| over N sessions.", _ByRow(lambda runs: pain_by_row(runs.curves))),
    Metric(
        "martin", "Martin ratio", "ratio", "CAGR / ulcer index.",
        _ByRow(lambda runs: _of_a_year(runs, martin_by_row(runs.curves, runs.periods))),
    ),
    Metric(
        "pain_ratio", "Pain ratio", "ratio", "CAGR / pain index.",
        _ByRow(lambda runs: _of_a_year(runs, pain_ratio_by_row(runs.curves, runs.periods))),
    ),
    Metric(
        "burke", "Burke ratio", "ratio",
        "CAGR / √ΣL², with L the loss of each unbroken run of losing sessions.",
        _ByRow(lambda runs: _of_a_year(runs, burke_by_row(runs.raw, runs.periods))),
    ),
    Metric(
        "burke_modified", "Burke ratio, modified", "ratio", "Burke ratio·√N.",
        _ByRow(lambda runs: _of_a_year(runs, burke_modified_by_row(runs.raw, runs.periods))),
    ),
    Metric(
        "calmar", "Calmar ratio", "ratio",
        "CAGR / |maximum drawdown|, both over the whole run.",
        _ByRow(lambda runs: _of_a_year(runs, calmar_by_row(runs.curves, runs.periods))), headline=True,
    ),
)  # fmt: skip
_BENCHMARK = (
    Metric(
        "alpha", "Annual alpha", "percent",
        "P·mean(r − f − β·(b − f)), with b the returns of the named benchmark, otherwise of buying and holding the "
        "run's own series in equal amounts. Where the benchmark lacks sessions, all metrics against it use returns "
        "between the sessions that it has, P of them per year.",
        _ByRow(lambda runs: _beside(runs, alpha_by_row)),
    ),
    Metric(
        "beta", "Beta", "ratio", "cov(r − f, b − f) / var(b − f).",
        _ByRow(lambda runs: _beside(runs, beta_by_row)),
    ),
    Metric(
        "correlation", "Correlation", "ratio", "cov(r, b) / (s(r)·s(b)).",
        _ByRow(lambda runs: _beside(runs, correlation_by_row)),
    ),
    Metric(
        "tracking_error", "Annual tracking error", "percent", "s(r − b)·√P.",
        _ByRow(lambda runs: _beside(runs, tracking_error_by_row)),
    ),
    Metric(
        "information_ratio", "Information ratio", "ratio", "mean(r − b) / s(r − b)·√P.",
        _ByRow(lambda runs: _beside(runs, information_ratio_by_row)),
    ),
    Metric(
        "active_premium", "Active premium", "percent", "CAGR − CAGR of the benchmark.",
        _ByRow(lambda runs: _of_a_year(runs, _beside(runs, active_premium_by_row))),
    ),
    Metric(
        "up_capture", "Up capture", "percent",
        "Mean compound return over the sessions with b > 0 / the benchmark's over the same sessions.",
        _ByRow(lambda runs: _beside(runs, up_capture_by_row)),
    ),
    Metric(
        "down_capture", "Down capture", "percent",
        "Mean compound return over the sessions with b < 0 / the benchmark's over the same sessions.",
        _ByRow(lambda runs: _beside(runs, down_capture_by_row)),
    ),
    Metric(
        "active_drawdown", "Active drawdown", "percent",
        "Maximum drawdown of the equity measured in units of the benchmark.",
        _ByRow(lambda runs: _beside(runs, active_drawdown_by_row)),
    ),
    Metric(
        "treynor", "Treynor ratio", "ratio", "(CAGR of r − f) / β.",
        _ByRow(lambda runs: _of_a_year(runs, _beside(runs, treynor_by_row))),
    ),
    Metric(
        "m2", "M²", "percent",
        "(CAGR of r − f)·s(b − f) / s(r − f) + CAGR of f: the growth at the benchmark's volatility.",
        _ByRow(lambda runs: _of_a_year(runs, _beside(runs, m2_by_row))),
    ),
)  # fmt: skip
_ACTIVITY = (
    Metric(
        "exposure", "Exposure", "percent",
        "Bars in the market / bars: a position is open at their close, or was opened and closed within them.",
        _ByRow(lambda runs: exposure_by_row(runs.held)), headline=True,
    ),
    Metric(
        "gross_leverage", "Gross leverage", "ratio",
        "Mean over all bars of Σ|position · close · multiplier| / equity, at their closes.",
        _ByRow(lambda runs: _leverage(runs, "gross")),
    ),
    Metric(
        "net_leverage", "Net leverage", "ratio",
        "Mean over all bars of Σ position · close · multiplier / equity, short positions negative.",
        _ByRow(lambda runs: _leverage(runs, "net")),
    ),
    Metric(
        "max_gross_leverage", "Maximum gross leverage", "ratio",
        "The largest Σ|position · close · multiplier| / equity of a bar.",
        _ByRow(lambda runs: _leverage(runs, "peak")),
    ),
    Metric(
        "max_net_leverage", "Maximum net leverage", "ratio",
        "The largest |Σ position · close · multiplier| / equity of a bar, short positions negative.",
        _ByRow(lambda runs: _leverage(runs, "net_peak")),
    ),
    Metric(
        "margin_used", "Maximum margin used", "percent",
        "The largest maintenance margin / equity at a close, in a margin account; above 100 % there is a margin call.",
        _ByRow(lambda runs: _margin(runs, "required")),
    ),
    Metric(
        "margin_calls", "Sessions in margin call", "count",
        "Sessions with a bar at whose close equity was less than the maintenance margin, in a margin account.",
        _ByRow(lambda runs: _margin(runs, "calls")),
    ),
    Metric(
        "rejected_orders", "Rejected orders", "count",
        "Submitted orders that the broker rejected because of cash, margin or the account's rules.",
        _ByRow(lambda runs: runs.rejected),
    ),
    Metric(
        "turnover", "Annual turnover", "percent",
        "½ · Σ|size · price| of all fills / mean(E_0 … E_N) · P / N.",
        _ByRow(lambda runs: turnover_by_row(runs)), headline=True,
    ),
)  # fmt: skip
_TRADES = (
    Metric(
        "trades", "Trades", "count",
        "Closed round trips, matched first in, first out; open positions are not counted.",
        _ByRow(lambda runs: list(map(len, runs.nets.every))), headline=True,
    ),
    Metric(
        "open_trades", "Open trades", "count", "Entries that are not, or only partly, closed at the end.",
        _ByRow(lambda runs: runs.still_open),
    ),
    Metric(
        "win_rate", "Win rate", "percent",
        "Trades with a net result above 0 / trades; net is after the costs of both fills.",
        _ByRow(lambda runs: win_rate_by_run(runs.nets)), headline=True,
    ),
    Metric(
        "payoff", "Payoff ratio", "ratio", "Mean net of winning trades / |mean net of losing trades|, in money.",
        _ByRow(lambda runs: payoff_by_run(runs.nets)),
    ),
    Metric(
        "profit_factor", "Profit factor", "ratio",
        "Σ net of winning trades / |Σ net of losing trades|, in money.",
        _ByRow(lambda runs: profit_factor_by_run(runs.nets)), headline=True,
    ),
    Metric(
        "expectancy", "Expectancy per trade", "money",
        "Mean net result per trade, in money.",
        _ByRow(lambda runs: expectancy_by_run(runs.nets)), headline=True,
    ),
    Metric(
        "expectancy_return", "Expectancy per trade, return", "percent", "Mean of net / value at entry.",
        _ByRow(lambda runs: expectancy_by_run(Lists([one.growth for one in runs.trades]))),
    ),
    Metric(
        "sqn", "System quality number", "ratio",
        "√k · mean(net) / s(net) over k trades, s with n − 1.",
        _ByRow(lambda runs: sqn_by_run(runs.nets)), headline=True,
    ),
    Metric(
        "average_win", "Average win", "money", "Mean net of winning trades.",
        _ByRow(lambda runs: average_win_by_run(runs.nets)),
    ),
    Metric(
        "average_loss", "Average loss", "money", "Mean net of losing trades.",
        _ByRow(lambda runs: average_loss_by_run(runs.nets)),
    ),
    Metric("best_trade", "Best trade", "money", "The largest net.", _ByRow(lambda runs: best_by_run(runs.nets))),
    Metric(
        "worst_trade", "Worst trade", "money", "The smallest net.",
        _ByRow(lambda runs: worst_by_run(runs.nets)),
    ),
    Metric(
        "winning_streak", "Longest winning streak", "count", "Most trades in a row, by exit, with a net above 0.",
        _ByRow(lambda runs: longest_streak_by_run(Lists([net > 0 for net in runs.nets.every]))),
    ),
    Metric(
        "losing_streak", "Longest losing streak", "count", "Most trades in a row, by exit, with a net below 0.",
        _ByRow(lambda runs: longest_streak_by_run(Lists([net < 0 for net in runs.nets.every]))),
    ),
    Metric(
        "bars_held", "Bars held", "ratio", "Mean bars from entry to exit.",
        _ByRow(lambda runs: expectancy_by_run(Lists([one.bars for one in runs.trades]))),
    ),
    Metric(
        "adverse_excursion", "Adverse excursion", "percent",
        "Mean over the trades of the worst price while held, relative to the entry price, from the lows and highs of "
        "the bars and the exit price; for runs that version 0.1.0 saved, from the closes.",
        _ByRow(lambda runs: expectancy_by_run(Lists([one.adverse for one in runs.trades]))),
    ),
    Metric(
        "favourable_excursion", "Favourable excursion", "percent",
        "Mean over the trades of the best price while held, relative to the entry price, from the lows and highs of "
        "the bars and the exit price; for runs that version 0.1.0 saved, from the closes.",
        _ByRow(lambda runs: expectancy_by_run(Lists([one.favourable for one in runs.trades]))),
    ),
    Metric(
        "cost_drag", "Annual cost drag", "percent", "Costs / mean(E_0 … E_N) · P / N.",
        _ByRow(lambda runs: cost_drag_by_row(runs)),
    ),
    Metric(
        "dividends", "Dividends", "money",
        "Dividends received, less withholding tax and what short positions paid.",
        _ByRow(lambda runs: _dividends(runs)),
    ),
    Metric(
        "costs", "Costs", "money",
        "Commissions and fees of all fills, slippage (the difference from each fill's price without it), and "
        "borrow fees, including those of open positions. Runs that version 0.1.0 saved exclude slippage, and the "
        "borrow fees of open positions.",
        _ByRow(lambda runs: runs.costs), headline=True,
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


def turnover_by_row(runs: Accounts) -> list[float]:
    """Return `turnover` of each run."""
    return _shares_a_year(runs, [traded / 2 for traded in runs.traded])


def cost_drag_by_row(runs: Accounts) -> list[float]:
    """Return `cost_drag` of each run."""
    return _shares_a_year(runs, runs.costs)


def _shares_a_year(runs: Accounts, money: Sequence[float]) -> list[float]:
    years = (runs.worth.shape[1] - 1) / runs.periods
    if not years:
        return [Undefined("too few") for _ in money]
    return [float(one / mean / years) for one, mean in zip(money, runs.mean_worth.tolist(), strict=True)]


def _beside(runs: Accounts, numbers: Callable[[Beside], list[float]]) -> list[float]:
    """Return metrics relative to the benchmark at common sessions, undefined if a price was not above zero."""
    return [Undefined("no benchmark") for _ in runs.trades] if runs.beside is None else numbers(runs.beside)


def _dividends(runs: Accounts) -> list[float]:
    """Return the dividends that each run received; undefined if they were excluded."""
    return [Undefined("left out") if one is None else one for one in runs.dividends]


def _lengths(drawdowns: Iterable[Drawdown | None], unit: str) -> list[float]:
    """Return the lengths of drawdowns, 0 for none."""
    return [getattr(one, unit) if one else 0 for one in drawdowns]


def _longest(runs: Accounts, unit: str) -> list[float]:
    """Return the length of the longest drawdown, 0 without any; undefined without sessions."""
    if not len(runs.days):
        return [Undefined("too few") for _ in runs.trades]
    return list(map(float, _lengths(runs.longest, unit)))


def _leverage(runs: Accounts, what: str) -> list[float]:
    """Return a value of the leverage, by the name of the field; undefined without bars."""
    return [float(getattr(one, what)) if one else Undefined("too few") for one in runs.leverage]


def _margin(runs: Accounts, what: str) -> list[float]:
    """Return a value of the margin requirements, by the name of the field; undefined without a margin account."""
    known = [getattr(one, what, None) for one in runs.leverage]
    return [
        Undefined("no margin account") if one is None else float(one) if one < math.inf else Undefined("ruined")
        for one in known
    ]


def _of_a_year(runs: Accounts, numbers: list[float]) -> list[float]:
    """Return annual numbers, each undefined for a run of under a year."""
    if not runs.under_a_year:
        return numbers
    return [Undefined("under a year") if number == number else number for number in numbers]


def measure_all(runs: Accounts, names: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """
    Return metrics of several runs, shape (runs,), equal to those of each run alone to the last bit.

    Args:
        names: names in METRICS; all if none is given.

    Raises:
        ValueError: a return or an equity is not a number, or is impossible.
    """
    asked = tuple(names) or tuple(METRICS)
    rows = {name: METRICS[name] for name in asked if isinstance(METRICS[name].function, _ByRow)}
    of_lists = [name for name, metric in rows.items() if metric.group in ("activity", "trades")]
    found = {name: list[float]() for name in rows}
    for start in range(0, len(runs.trades), _AT_ONCE):
        part = runs.part(start, start + _AT_ONCE)
        for name in rows:
            if name not in of_lists:
                found[name] += rows[name].function.numbers(part)  # type: ignore[attr-defined]
    for name in of_lists:
        found[name] = rows[name].function.numbers(runs)  # type: ignore[attr-defined]
    return {name: np.array(numbers, dtype=float) for name, numbers in found.items()}


_AT_ONCE = 128  # runs whose sessions a processor's cache can hold


def metric_named(name: object, rows: Mapping[str, Metric] = METRICS) -> str | None:
    """Return the name of a metric in METRICS or other rows, given its name or its label ("Sharpe ratio")."""
    if not isinstance(name, str):
        return None
    if name in rows:
        return name
    return next((metric.name for metric in rows.values() if metric.label.lower() == name.lower()), None)


def rows_with(metrics: Iterable[Metric]) -> dict[str, Metric]:
    """
    Return METRICS and further rows, by name.

    Raises:
        UsageError: one is not a row, or has an invalid name, label, format or group.
    """
    rows = dict(METRICS)
    for metric in _arguments.several(metrics, "metrics", _ROW):
        _check_row(_arguments.instance(metric, "a metric", Metric, _ROW), rows)
        rows[metric.name] = metric
    return rows


def metric_value(metric: Metric, run: Account) -> float:
    """
    Return the value of a metric for a run; an `Undefined` if it is not defined.

    Raises:
        UsageError: the function of a user's row failed, or did not return a number.
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
    if isinstance(value, bool) or not isinstance(value, Real):  # numpy's numbers are, its booleans are not
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
        _arguments.refuse("the name of a metric", name, "write a valid Python name, such as gain_to_pain")
    for word, what in ((name, "name"), (metric.label, "label")):
        if not word.strip() or metric_named(word, rows) is not None:
            raise UsageError(f"the {what} of a metric, {word!r}, is that of another one, or is empty; choose another")
    _arguments.word(metric.format, f"the format of the metric {name}", _FORMATS)
    if metric.group:
        _arguments.word(metric.group, f"the group of the metric {name}", GROUPS)
    _arguments.function(metric.function, f"the function of the metric {name}", _ROW)
