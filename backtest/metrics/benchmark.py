"""
Numbers about returns beside those of a benchmark, as pure functions of two arrays of one length.

Both are simple returns of the same periods, shape (n,): `common_dates` makes them so. What is not defined is
`Undefined`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import numpy as np

from backtest.metrics.drawdown import underwater
from backtest.metrics.returns import (
    SESSIONS,
    Undefined,
    cagr_of,
    checked_returns,
    equity_of,
    excess_returns,
    why_no_deviation,
)

_Rate = float | np.ndarray


def common_dates(
    days: np.ndarray, returns: np.ndarray, other_days: np.ndarray, other_returns: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the dates that both have, and the returns of each from one of them to the next."""
    if np.array_equal(days, other_days):
        return days, returns, other_returns
    common, (own, other) = common_places([days, other_days], both_begin(days, other_days))
    return common, compounded(returns, own), compounded(other_returns, other)


def common_places(every: Sequence[np.ndarray], begins: np.datetime64 | None) -> tuple[np.ndarray, list[np.ndarray]]:
    """
    Return the dates that several series of returns have, and where they lie in the equity of each.

    Args:
        every: the dates of each, rising.
        begins: the date from which the first return of all counts; None where it is not known: then the first date
            that all have is where they begin.

    Returns:
        The dates, shape (n,), and of each series the places, shape (n + 1,), the first of which is where all begin.
    """
    common = reduce(np.intersect1d, every)
    ends = [np.searchsorted(days, common) + 1 for days in every]
    if begins is None:
        return common[1:], ends
    return common, [np.append(np.searchsorted(days, begins), own) for days, own in zip(every, ends, strict=True)]


def compounded(returns: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return what returns, or rates, compound to from each of some places of equity to the next."""
    if len(places) < 2:
        return np.array([])
    starts = places[:-1]
    grown = np.multiply.reduceat(1 + np.asarray(returns)[: int(places[-1])], starts) - 1
    return np.asarray(np.where(np.diff(places) == 1, np.asarray(returns)[starts], grown))


def periods_at(periods: float, places: np.ndarray) -> float:
    """
    Return how many steps between places of equity make a year, where `periods` sessions do.

    It is a whole number where sessions are left out: 52 for weeks among sessions of which 252 make a year.
    """
    if len(places) < 2:
        return periods
    steps, sessions = len(places) - 1, int(places[-1] - places[0])
    return periods if steps == sessions else max(1.0, float(round(periods * steps / sessions)))


def both_begin(days: np.ndarray, others: np.ndarray) -> np.datetime64 | None:
    """
    Return the date from which two series of returns both count.

    It is the first date of the one that begins later; unless the other has dates between its first two, since then
    nobody knows how long its first return took.
    """
    early, late = sorted((days, others), key=lambda one: one[:1].tolist())
    between = len(late) > 1 and ((early > late[0]) & (early < late[1])).any()
    return None if not len(late) or (between and early[0] != late[0]) else late[0]


def beta(returns: np.ndarray, benchmark: np.ndarray, risk_free: _Rate = 0.0, periods: float = SESSIONS) -> float:
    """Return the covariance of excess returns over the variance of the benchmark's; undefined where that is 0."""
    own, other = _excess(returns, benchmark, risk_free, periods)
    if reason := why_no_deviation(other):
        return Undefined(reason)
    away = other - other.mean()
    return float(own @ away / (away @ away))  # deviations sum to 0, so that own's mean falls out


def alpha(returns: np.ndarray, benchmark: np.ndarray, risk_free: _Rate = 0.0, periods: float = SESSIONS) -> float:
    """
    Return Jensen's alpha a year: the mean of r - f - beta·(b - f), times the periods a year, not compounded.

    Undefined where the benchmark does not vary.

    Source: Jensen (1968), "The Performance of Mutual Funds in the Period 1945-1964".
    """
    slope = beta(returns, benchmark, risk_free, periods)
    own, other = _excess(returns, benchmark, risk_free, periods)
    return float((own.mean() - slope * other.mean()) * periods) if slope == slope else slope


def correlation(returns: np.ndarray, benchmark: np.ndarray) -> float:
    """Return the correlation of both returns; undefined where either does not vary."""
    own, other = _both(returns, benchmark)
    if reason := why_no_deviation(own) or why_no_deviation(other):
        return Undefined(reason)
    own, other = own - own.mean(), other - other.mean()
    return float(own @ other / math.sqrt((own @ own) * (other @ other)))


def tracking_error(returns: np.ndarray, benchmark: np.ndarray, periods: float = SESSIONS) -> float:
    """Return the sample deviation (n - 1) of r - b, a year; undefined for fewer than two returns."""
    own, other = _both(returns, benchmark)
    return float((own - other).std(ddof=1) * math.sqrt(periods)) if len(own) > 1 else Undefined("too few")


def information_ratio(returns: np.ndarray, benchmark: np.ndarray, periods: float = SESSIONS) -> float:
    """
    Return the mean of r - b over its sample deviation, times √periods; undefined where r - b does not vary.

    Source: Goodwin (1998), "The Information Ratio", the arithmetic one.
    """
    own, other = _both(returns, benchmark)
    active = own - other
    if reason := why_no_deviation(active):
        return Undefined(reason)
    return float(active.mean() / active.std(ddof=1) * math.sqrt(periods))


def active_premium(returns: np.ndarray, benchmark: np.ndarray, periods: float = SESSIONS) -> float:
    """Return the steady growth a year minus the benchmark's; undefined without returns."""
    own, other = _both(returns, benchmark)
    return cagr_of(own, periods) - cagr_of(other, periods) if len(own) else Undefined("too few")


def up_capture(returns: np.ndarray, benchmark: np.ndarray) -> float:
    """
    Return the mean compound return over the periods in which the benchmark rose, over the benchmark's there.

    Undefined where the benchmark never rose.
    """
    own, other = _both(returns, benchmark)
    return _capture(own, other, other > 0, "no gain")


def down_capture(returns: np.ndarray, benchmark: np.ndarray) -> float:
    """
    Return the mean compound return over the periods in which the benchmark fell, over the benchmark's there.

    Undefined where the benchmark never fell.
    """
    own, other = _both(returns, benchmark)
    return _capture(own, other, other < 0, "no loss")


def active_drawdown(returns: np.ndarray, benchmark: np.ndarray) -> float:
    """
    Return the deepest fall of the wealth in units of the benchmark's, from 1 at the start: never positive.

    Undefined without returns, and where the benchmark lost everything.
    """
    own, other = _both(returns, benchmark)
    if not len(own):
        return Undefined("too few")
    if other.min() <= -1:
        return Undefined("ruined")
    return float(underwater(equity_of((1 + own) / (1 + other) - 1)).min())


def treynor(returns: np.ndarray, benchmark: np.ndarray, risk_free: _Rate = 0.0, periods: float = SESSIONS) -> float:
    """
    Return the steady growth a year of excess returns over beta; undefined where beta is undefined or 0.

    Source: Treynor (1965), "How to Rate Management of Investment Funds"; compounded as PerformanceAnalytics.
    """
    slope = beta(returns, benchmark, risk_free, periods)
    if slope != slope or not slope:
        return slope if slope else Undefined("constant")
    growth = cagr_of(excess_returns(returns, risk_free, periods), periods)
    return growth / slope if growth == growth else growth


def m2(returns: np.ndarray, benchmark: np.ndarray, risk_free: _Rate = 0.0, periods: float = SESSIONS) -> float:
    """
    Return the growth a year that the returns would have had at the benchmark's volatility, levered with cash.

    Undefined for fewer than two returns or none that varies.

    Source: Modigliani and Modigliani (1997), "Risk-Adjusted Performance".
    """
    own, other = _excess(returns, benchmark, risk_free, periods)
    if reason := why_no_deviation(own):
        return Undefined(reason)
    cash = np.broadcast_to(np.asarray(returns) - own, own.shape)
    growth = cagr_of(own, periods)
    return float(growth * other.std(ddof=1) / own.std(ddof=1) + cagr_of(cash, periods)) if growth == growth else growth


def _both(returns: np.ndarray, benchmark: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    own, other = checked_returns(returns), checked_returns(benchmark)
    if own.shape != other.shape:
        raise ValueError(f"there are {len(own):,} returns but {len(other):,} of the benchmark; see common_dates")
    return own, other


def _excess(returns: np.ndarray, benchmark: np.ndarray, rate: _Rate, periods: float) -> tuple[np.ndarray, np.ndarray]:
    own, other = _both(returns, benchmark)
    return excess_returns(own, rate, periods), excess_returns(other, rate, periods)


def _capture(own: np.ndarray, other: np.ndarray, chosen: np.ndarray, reason: str) -> float:
    if not chosen.any():
        return Undefined(reason)
    return cagr_of(own[chosen], 1.0) / cagr_of(other[chosen], 1.0)
