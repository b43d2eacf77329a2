"""Numbers about the worst returns: value at risk and what lies beyond it."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from backtest.metrics.returns import Undefined, checked_returns, shape_of, why_no_deviation

TAIL = 0.05  # the worst share of returns that is looked at
_NORMAL = NormalDist()


def tail_ratio(returns: np.ndarray, tail: float = TAIL) -> float:
    """
    Return the size of the 95 % quantile over that of the 5 % quantile.

    Undefined without returns, and where the 5 % quantile is 0.
    """
    returns = checked_returns(returns)
    if not len(returns):
        return Undefined("too few")
    high, low = quantile(returns, 1 - tail), quantile(returns, tail)
    return float(abs(high) / abs(low)) if low else Undefined("no loss")


def value_at_risk(returns: np.ndarray, tail: float = TAIL) -> float:
    """
    Return the historical quantile of returns, a loss as a negative number; undefined without returns.

    Source: Hyndman and Fan (1996), "Sample Quantiles in Statistical Packages", type 7: linear between observations.
    """
    returns = checked_returns(returns)
    return quantile(returns, tail) if len(returns) else Undefined("too few")


def quantile(values: np.ndarray, share: float) -> float:
    """
    Return the quantile of a share of the values, linear between observations (type 7).

    Equal to `np.quantile`, the first call of which imports numpy's masked arrays: as long as all other metrics take.
    """
    place = share * (len(values) - 1)
    first = math.floor(place)
    second = min(first + 1, len(values) - 1)
    ranked, part = np.partition(values, (first, second)), place - first
    step = ranked[second] - ranked[first]
    return float(ranked[second] - step * (1 - part) if part >= 0.5 else ranked[first] + step * part)


def expected_shortfall(returns: np.ndarray, tail: float = TAIL) -> float:
    """Return the mean of the returns that are not above `value_at_risk`; undefined without returns."""
    if not len(returns):
        return Undefined("too few")
    return float(np.mean(returns[returns <= value_at_risk(returns, tail)]))


def value_at_risk_gaussian(returns: np.ndarray, tail: float = TAIL, ddof: int = 1) -> float:
    """
    Return the quantile of the normal distribution with the returns' mean and deviation (n - ddof).

    Undefined for fewer than two returns or none that varies.
    """
    if reason := _why_no_moments(returns):
        return Undefined(reason)
    return _scaled(returns, _NORMAL.inv_cdf(tail), ddof)


def expected_shortfall_gaussian(returns: np.ndarray, tail: float = TAIL, ddof: int = 1) -> float:
    """
    Return the mean below the quantile of the normal distribution with the returns' mean and deviation.

    Undefined for fewer than two returns or none that varies.
    """
    if reason := _why_no_moments(returns):
        return Undefined(reason)
    return _scaled(returns, -_NORMAL.pdf(_NORMAL.inv_cdf(tail)) / tail, ddof)


def value_at_risk_cornish_fisher(returns: np.ndarray, tail: float = TAIL, ddof: int = 1) -> float:
    """
    Return the normal quantile corrected for skew and kurtosis, at the returns' mean and deviation (n - ddof).

    Undefined for fewer than two returns or none that varies.

    Source: Favre and Galeano (2002), "Mean-Modified Value-at-Risk Optimization with Hedge Funds".
    """
    if reason := _why_no_moments(returns):
        return Undefined(reason)
    return _scaled(returns, _cornish_fisher(tail, *shape_of(returns)), ddof)


def expected_shortfall_cornish_fisher(returns: np.ndarray, tail: float = TAIL, ddof: int = 1) -> float:
    """
    Return the mean below the Cornish-Fisher quantile g of the density φ·(1 + S/6·H3 + K/24·H4 + S²/72·H6).

    Undefined for fewer than two returns or none that varies; where the corrected quantiles do not rise from that of
    the tail to its opposite, so that they are quantiles of nothing; and where it is less of a loss than the quantile.

    Source: Boudt, Peterson and Croux (2008), "Estimation and Decomposition of Downside Risk for Portfolios with
    Non-Normal Returns"; there in powers, here with x·H_n·φ integrated to -φ(g)·(g·H_(n-1)(g) + H_(n-2)(g)).
    """
    if reason := _why_no_moments(returns):
        return Undefined(reason)
    s, k = shape_of(returns)
    if not _rises(tail, s, k):
        return Undefined("no expansion")
    g = _cornish_fisher(tail, s, k)
    third, fourth = g**3, g**4 - 2 * g**2 - 1
    sixth = g**6 - 9 * g**4 + 9 * g**2 + 3
    below = -_NORMAL.pdf(g) * (1 + s / 6 * third + k / 24 * fourth + s**2 / 72 * sixth)
    return _scaled(returns, below / tail, ddof) if below / tail <= g else Undefined("less than the value at risk")


def _why_no_moments(returns: np.ndarray) -> str:
    return why_no_deviation(checked_returns(returns))


def _scaled(returns: np.ndarray, quantile: float, ddof: int) -> float:
    return float(np.mean(returns) + quantile * np.std(returns, ddof=ddof))


def _cornish_fisher(tail: float, s: float, k: float) -> float:
    z = _NORMAL.inv_cdf(tail)
    return z + (z**2 - 1) * s / 6 + (z**3 - 3 * z) * k / 24 - (2 * z**3 - 5 * z) * s**2 / 36


def _rises(tail: float, s: float, k: float) -> bool:
    """Return whether the corrected quantile rises with the normal one z, from that of the tail to its opposite."""
    end = abs(_NORMAL.inv_cdf(tail))
    square, slope, height = k / 8 - s**2 / 6, s / 3, 1 - k / 8 + 5 * s**2 / 36  # of its derivative in z
    lowest = -slope / (2 * square) if square > 0 else end
    places = [-end, end, *([lowest] if abs(lowest) < end else [])]
    return all(square * z**2 + slope * z + height > 0 for z in places)
