"""Ratios of return to risk."""

from __future__ import annotations

import math

import numpy as np

from backtest.metrics.returns import ROUNDING, SESSIONS, Rows, Undefined, cagr_of_by_row, where_defined


def sharpe(returns: np.ndarray, risk_free: float | np.ndarray = 0.0, periods: float = SESSIONS) -> float:
    """
    Return the annualised Sharpe ratio: mean excess return over its standard deviation.

    Args:
        returns: simple returns, shape (n,), one per period, after costs; 0.01 is +1 %.
        risk_free: return of cash, per year, 0.05 for 5 %; or of each period, shape (n,).
        periods: periods per year.

    Returns:
        A number without unit; undefined for fewer than two returns, or if all are equal.

    Raises:
        ValueError: a return is below -1, infinite or NaN.

    Source: Sharpe (1994), "The Sharpe Ratio"; sample deviation (n - 1), as in empyrical.
    """
    return sharpe_by_row(Rows.of(returns).above(risk_free, periods), periods)[0]


def sharpe_by_row(excess: Rows, periods: float = SESSIONS) -> list[float]:
    """Return `sharpe` of each run, from its excess returns."""
    return where_defined(excess.why_no_deviation, (one * math.sqrt(periods) for one in ratio_by_row(excess)))


def ratio_by_row(excess: Rows) -> list[float]:
    """Return mean over deviation of each run; a meaningless number if its returns do not vary."""
    if excess.count < 2:
        return [math.nan for _ in excess.values]
    with np.errstate(divide="ignore", invalid="ignore"):
        return [float(one) for one in excess.means / excess.deviations]


def sharpe_geometric(returns: np.ndarray, risk_free: float | np.ndarray = 0.0, periods: float = SESSIONS) -> float:
    """
    Return the steady annual growth of excess returns over their volatility.

    Undefined if `sharpe` is, or if an excess return is below -1.

    Source: Bacon (2008), "Practical Portfolio Performance Measurement and Attribution"; as in PerformanceAnalytics.
    """
    return sharpe_geometric_by_row(Rows.of(returns).above(risk_free, periods), periods)[0]


def sharpe_geometric_by_row(excess: Rows, periods: float = SESSIONS) -> list[float]:
    """Return `sharpe_geometric` of each run, from its excess returns."""
    found = zip(excess.why_no_deviation, cagr_of_by_row(excess, periods), _deviations(excess), strict=True)
    return [
        Undefined(why) if why else growth / (deviation * math.sqrt(periods)) if growth == growth else growth
        for why, growth, deviation in found
    ]


def sortino(returns: np.ndarray, target: float | np.ndarray = 0.0, periods: float = SESSIONS) -> float:
    """
    Return the annualised Sortino ratio: mean return above a target over the downside deviation from it.

    mean(r - τ) / √mean(min(r - τ, 0)²)·√periods. The target is an annual return, with τ = (1 + target)^(1 / periods) -
    1 per period; or it is τ itself, one for each period. Undefined for fewer than two returns, or if none is below the
    target.

        >>> sortino(np.array([0.02, -0.01, 0.03, -0.02]), target=1.01**12 - 1, periods=12)
        -0.9607...

    Source: Sortino and Price (1994); the mean square below the target is over all n returns, as in empyrical.
    """
    return sortino_by_row(Rows.of(returns).above(target, periods), periods)[0]


def sortino_by_row(excess: Rows, periods: float = SESSIONS) -> list[float]:
    """Return `sortino` of each run, from its returns above the target."""
    return [ratio * math.sqrt(periods) if ratio == ratio else ratio for ratio in kappa_by_row(excess, 2)]


def kappa(returns: np.ndarray, order: int = 3, target: float | np.ndarray = 0.0, periods: float = SESSIONS) -> float:
    """
    Return the mean return above a target over the root of its lower partial moment, per period.

    mean(r - τ) / mean(max(τ - r, 0)^order)^(1 / order), with τ as in `sortino`. Order 2 gives the Sortino ratio per
    period, order 1 the omega ratio minus 1. Undefined for fewer than two returns, or if none is below the target.

        >>> kappa(np.array([0.02, -0.01, 0.03, -0.02]), order=3, target=1.01**12 - 1, periods=12)
        -0.2426...

    Source: Kaplan and Knowles (2004), "Kappa: a generalized downside risk-adjusted performance measure".
    """
    return kappa_by_row(Rows.of(returns).above(target, periods), order)[0]


def kappa_by_row(excess: Rows, order: int = 3) -> list[float]:
    """Return `kappa` of each run, from its returns above the target."""
    if excess.count < 2:
        return where_defined(_why_no_fall(excess), [math.nan] * len(excess.values))
    moments = list(np.mean(_power(np.maximum(-excess.values, 0), order), axis=1))
    found = zip(_why_no_fall(excess), excess.means, moments, strict=True)
    return [Undefined(why) if why else float(mean / moment ** (1 / order)) for why, mean, moment in found]


def omega(returns: np.ndarray, target: float | np.ndarray = 0.0, periods: float = SESSIONS) -> float:
    """
    Return the sum of the returns above a target over the sum of the shortfalls below it.

    Σ max(r - τ, 0) / Σ max(τ - r, 0), with τ as in `sortino`. The target is an annual return, or one return per period.

        >>> round(omega(np.array([0.02, -0.01, 0.03, -0.02]), target=1.01**12 - 1, periods=12), 6)
        0.6

    Undefined if no return is below the target.

    Source: Keating and Shadwick (2002), "A Universal Performance Measure".
    """
    return omega_by_row(Rows.of(returns).above(target, periods))[0]


def omega_by_row(excess: Rows) -> list[float]:
    """Return `omega` of each run, from its returns above the target."""
    gains, losses = (np.maximum(one, 0).sum(axis=1) for one in (excess.values, -excess.values))
    with np.errstate(divide="ignore", invalid="ignore"):
        return where_defined(_why_no_fall(excess), map(float, gains / losses))


def upside_potential(returns: np.ndarray, target: float = 0.0, periods: float = SESSIONS) -> float:
    """
    Return the mean of the returns above a target over the root mean square of the shortfalls below it.

    Each is computed over the returns on its side of the target. The target is an annual return. Undefined if no return
    is below the target.

    Source: Sortino, van der Meer and Plantinga (1999), "The Dutch Triangle"; as in PerformanceAnalytics.
    """
    return upside_potential_by_row(Rows.of(returns).above(target, periods))[0]


def upside_potential_by_row(excess: Rows) -> list[float]:
    """Return `upside_potential` of each run, from its returns above the target."""
    found = zip(_why_no_fall(excess), excess.values, strict=True)
    return [Undefined(why) if why else _upside(own) for why, own in found]


def _upside(excess: np.ndarray) -> float:
    above, below = excess[excess > 0], excess[excess < 0]
    return float(above.mean() / math.sqrt(np.mean(below * below))) if len(above) else 0.0


def _deviations(excess: Rows) -> list[float]:
    return list(map(float, excess.deviations)) if excess.count > 1 else [math.nan for _ in excess.values]


def _why_no_fall(excess: Rows) -> list[str]:
    if excess.count < 2:
        return ["too few" for _ in excess.values]
    return ["" if low < -ROUNDING else "no loss" for low in excess.lows.tolist()]


def _power(values: np.ndarray, order: int) -> np.ndarray:
    product = values
    for _ in range(order - 1):  # many times as fast as **
        product = product * values
    return product
