"""Ratios of return to risk."""

from __future__ import annotations

import math

import numpy as np

from backtest.metrics.returns import ROUNDING, SESSIONS, Undefined, cagr_of, excess_returns, why_no_deviation


def sharpe(returns: np.ndarray, risk_free: float | np.ndarray = 0.0, periods: float = SESSIONS) -> float:
    """
    Return the annualised Sharpe ratio: mean excess return over its standard deviation.

    Args:
        returns: simple returns, shape (n,), one a period, after costs; 0.01 is +1 %.
        risk_free: return of cash, per year, 0.05 for 5 %; or of each period, shape (n,).
        periods: periods a year.

    Returns:
        A number without unit; undefined for fewer than two returns or none that varies.

    Raises:
        ValueError: a return is below -1, infinite or NaN.

    Source: Sharpe (1994), "The Sharpe Ratio"; sample deviation (n - 1), as empyrical.
    """
    excess = excess_returns(returns, risk_free, periods)
    if reason := why_no_deviation(excess):
        return Undefined(reason)
    return float(excess.mean() / excess.std(ddof=1) * math.sqrt(periods))


def sharpe_geometric(returns: np.ndarray, risk_free: float | np.ndarray = 0.0, periods: float = SESSIONS) -> float:
    """
    Return the steady growth a year of excess returns over their volatility.

    Undefined as `sharpe` is, and where an excess return is below -1.

    Source: Bacon (2008), "Practical Portfolio Performance Measurement and Attribution"; as PerformanceAnalytics.
    """
    excess = excess_returns(returns, risk_free, periods)
    if reason := why_no_deviation(excess):
        return Undefined(reason)
    growth = cagr_of(excess, periods)
    return growth / float(excess.std(ddof=1) * math.sqrt(periods)) if growth == growth else growth


def sortino(returns: np.ndarray, target: float | np.ndarray = 0.0, periods: float = SESSIONS) -> float:
    """
    Return the annualised Sortino ratio: mean return above a target over the downside deviation from it.

    mean(r - τ) / √mean(min(r - τ, 0)²)·√periods. The target is a return a year, so that τ of a period is
    (1 + target)^(1 / periods) - 1; or it is τ itself, one of each period. Undefined for fewer than two returns or none
    below it.

        >>> sortino(np.array([0.02, -0.01, 0.03, -0.02]), target=1.01**12 - 1, periods=12)
        -0.9607...

    Source: Sortino and Price (1994); the mean square below the target is over all n returns, as empyrical.
    """
    ratio = kappa(returns, 2, target, periods)
    return ratio * math.sqrt(periods) if ratio == ratio else ratio


def kappa(returns: np.ndarray, order: int = 3, target: float | np.ndarray = 0.0, periods: float = SESSIONS) -> float:
    """
    Return the mean return above a target over the root of its lower partial moment, of one period.

    mean(r - τ) / mean(max(τ - r, 0)^order)^(1 / order), with τ as of `sortino`: of the order 2 the Sortino ratio of a
    period, of the order 1 the omega ratio less 1. Undefined for fewer than two returns or none below the target.

        >>> kappa(np.array([0.02, -0.01, 0.03, -0.02]), order=3, target=1.01**12 - 1, periods=12)
        -0.2426...

    Source: Kaplan and Knowles (2004), "Kappa: a generalized downside risk-adjusted performance measure".
    """
    if not _falls(returns, target, periods):
        return _no_fall(returns)
    excess = excess_returns(returns, target, periods)
    moment = np.mean(_power(np.maximum(-excess, 0), order)) ** (1 / order)
    return float(excess.mean() / moment)


def omega(returns: np.ndarray, target: float | np.ndarray = 0.0, periods: float = SESSIONS) -> float:
    """
    Return the sum of what is above a target over the sum of what is below it.

    Σ max(r - τ, 0) / Σ max(τ - r, 0), with τ as of `sortino`. The target is a return a year, or one of each period.

        >>> round(omega(np.array([0.02, -0.01, 0.03, -0.02]), target=1.01**12 - 1, periods=12), 6)
        0.6

    Undefined where no return is below the target.

    Source: Keating and Shadwick (2002), "A Universal Performance Measure".
    """
    if not _falls(returns, target, periods):
        return _no_fall(returns)
    excess = excess_returns(returns, target, periods)
    return float(np.maximum(excess, 0).sum() / np.maximum(-excess, 0).sum())


def upside_potential(returns: np.ndarray, target: float = 0.0, periods: float = SESSIONS) -> float:
    """
    Return the mean of what is above a target over the root mean square of what is below it.

    Each is over the returns on its side; `target` is a return a year. Undefined where no return is below the target.

    Source: Sortino, van der Meer and Plantinga (1999), "The Dutch Triangle"; as PerformanceAnalytics.
    """
    if not _falls(returns, target, periods):
        return _no_fall(returns)
    excess = excess_returns(returns, target, periods)
    above, below = excess[excess > 0], excess[excess < 0]
    return float(above.mean() / math.sqrt(np.mean(below * below))) if len(above) else 0.0


def _falls(returns: np.ndarray, target: float | np.ndarray, periods: float) -> bool:
    return len(returns) > 1 and bool(np.min(excess_returns(returns, target, periods)) < -ROUNDING)


def _no_fall(returns: np.ndarray) -> float:
    return Undefined("no loss" if len(returns) > 1 else "too few")


def _power(values: np.ndarray, order: int) -> np.ndarray:
    product = values
    for _ in range(order - 1):  # many times as fast as **
        product = product * values
    return product
