"""Metrics of the worst returns: value at risk and expected shortfall."""

from __future__ import annotations

import numpy as np

from backtest.metrics.returns import Rows, Undefined, normal, too_few

TAIL = 0.05  # the worst share of returns that is looked at


def tail_ratio(returns: np.ndarray, tail: float = TAIL) -> float:
    """
    Return the size of the 95 % quantile over that of the 5 % quantile.

    Undefined without returns, and if the 5 % quantile is 0.
    """
    return tail_ratio_by_row(Rows.of(returns), tail)[0]


def tail_ratio_by_row(returns: Rows, tail: float = TAIL) -> list[float]:
    """Return `tail_ratio` of each run."""
    if not returns.count:
        return too_few(returns)
    both = zip(*returns.quantiles(1 - tail, tail), strict=True)
    return [abs(high) / abs(low) if low else Undefined("no loss") for high, low in both]


def value_at_risk(returns: np.ndarray, tail: float = TAIL) -> float:
    """
    Return the historical quantile of returns, a loss as a negative number; undefined without returns.

    Source: Hyndman and Fan (1996), "Sample Quantiles in Statistical Packages", type 7: linear between observations.
    """
    return value_at_risk_by_row(Rows.of(returns), tail)[0]


def value_at_risk_by_row(returns: Rows, tail: float = TAIL) -> list[float]:
    """Return `value_at_risk` of each run."""
    return returns.quantiles(tail)[0] if returns.count else too_few(returns)


def quantile(values: np.ndarray, share: float) -> float:
    """
    Return the quantile of a share of the values, linear between observations (type 7).

    Equal to `np.quantile`, whose first call imports numpy's masked arrays, which takes as long as all other metrics.
    """
    return Rows(np.atleast_2d(values)).quantiles(share)[0][0]


def expected_shortfall(returns: np.ndarray, tail: float = TAIL) -> float:
    """Return the mean of the returns that are not above `value_at_risk`; undefined without returns."""
    return expected_shortfall_by_row(Rows.of(returns), tail)[0]


def expected_shortfall_by_row(returns: Rows, tail: float = TAIL) -> list[float]:
    """Return `expected_shortfall` of each run."""
    if not returns.count:
        return too_few(returns)
    both = zip(returns.values, returns.quantiles(tail)[0], strict=True)
    return [float(np.mean(own[own <= quantile])) for own, quantile in both]


def value_at_risk_gaussian(returns: np.ndarray, tail: float = TAIL, ddof: int = 1) -> float:
    """
    Return the quantile of the normal distribution with the returns' mean and deviation (n - ddof).

    Undefined for fewer than two returns, or if all are equal.
    """
    return value_at_risk_gaussian_by_row(Rows.of(returns), tail, ddof)[0]


def value_at_risk_gaussian_by_row(returns: Rows, tail: float = TAIL, ddof: int = 1) -> list[float]:
    """Return `value_at_risk_gaussian` of each run."""
    return _scaled(returns, [normal().inv_cdf(tail)] * len(returns.values), ddof)


def expected_shortfall_gaussian(returns: np.ndarray, tail: float = TAIL, ddof: int = 1) -> float:
    """
    Return the mean below the quantile of the normal distribution with the returns' mean and deviation.

    Undefined for fewer than two returns, or if all are equal.
    """
    return expected_shortfall_gaussian_by_row(Rows.of(returns), tail, ddof)[0]


def expected_shortfall_gaussian_by_row(returns: Rows, tail: float = TAIL, ddof: int = 1) -> list[float]:
    """Return `expected_shortfall_gaussian` of each run."""
    return _scaled(returns, [-normal().pdf(normal().inv_cdf(tail)) / tail] * len(returns.values), ddof)


def value_at_risk_cornish_fisher(returns: np.ndarray, tail: float = TAIL, ddof: int = 1) -> float:
    """
    Return the normal quantile corrected for skew and kurtosis, at the returns' mean and deviation (n - ddof).

    Undefined for fewer than two returns, or if all are equal.

    Source: Favre and Galeano (2002), "Mean-Modified Value-at-Risk Optimization with Hedge Funds".
    """
    return value_at_risk_cornish_fisher_by_row(Rows.of(returns), tail, ddof)[0]


def value_at_risk_cornish_fisher_by_row(returns: Rows, tail: float = TAIL, ddof: int = 1) -> list[float]:
    """Return `value_at_risk_cornish_fisher` of each run."""
    return _scaled(returns, [_cornish_fisher(tail, *shape) for shape in returns.shapes], ddof)


def expected_shortfall_cornish_fisher(returns: np.ndarray, tail: float = TAIL, ddof: int = 1) -> float:
    """
    Return the mean below the Cornish-Fisher quantile g of the density φ·(1 + S/6·H3 + K/24·H4 + S²/72·H6).

    Undefined for fewer than two returns, or if all are equal; if the corrected quantiles do not increase from
    that of the tail to its opposite, so that they are not quantiles; and if it is a smaller loss than the quantile.

    Source: Boudt, Peterson and Croux (2008), "Estimation and Decomposition of Downside Risk for Portfolios with
    Non-Normal Returns"; there in powers, here with x·H_n·φ integrated to -φ(g)·(g·H_(n-1)(g) + H_(n-2)(g)).
    """
    return expected_shortfall_cornish_fisher_by_row(Rows.of(returns), tail, ddof)[0]


def expected_shortfall_cornish_fisher_by_row(returns: Rows, tail: float = TAIL, ddof: int = 1) -> list[float]:
    """Return `expected_shortfall_cornish_fisher` of each run."""
    return _scaled(returns, [_below_cornish_fisher(tail, *shape) for shape in returns.shapes], ddof)


def _below_cornish_fisher(tail: float, s: float, k: float) -> float:
    if s != s or not _rises(tail, s, k):
        return Undefined("no expansion")
    g = _cornish_fisher(tail, s, k)
    third, fourth = g**3, g**4 - 2 * g**2 - 1
    sixth = g**6 - 9 * g**4 + 9 * g**2 + 3
    below = -normal().pdf(g) * (1 + s / 6 * third + k / 24 * fourth + s**2 / 72 * sixth)
    return below / tail if below / tail <= g else Undefined("less than the value at risk")


def _scaled(returns: Rows, quantiles: list[float], ddof: int) -> list[float]:
    """Return quantiles of the standard normal distribution at the mean and the deviation of each run."""
    if returns.count < 2:
        return too_few(returns)
    deviations = returns.deviations if ddof == 1 else returns.values.std(ddof=ddof, axis=1)
    found = zip(returns.why_no_deviation, quantiles, returns.means, deviations, strict=True)
    return [
        Undefined(why) if why else quantile if quantile != quantile else float(mean + quantile * deviation)
        for why, quantile, mean, deviation in found
    ]


def _cornish_fisher(tail: float, s: float, k: float) -> float:
    z = normal().inv_cdf(tail)
    return z + (z**2 - 1) * s / 6 + (z**3 - 3 * z) * k / 24 - (2 * z**3 - 5 * z) * s**2 / 36


def _rises(tail: float, s: float, k: float) -> bool:
    """Return whether the corrected quantile rises with the normal one z, from that of the tail to its opposite."""
    end = abs(normal().inv_cdf(tail))
    square, slope, height = k / 8 - s**2 / 6, s / 3, 1 - k / 8 + 5 * s**2 / 36  # of its derivative in z
    lowest = -slope / (2 * square) if square > 0 else end
    places = [-end, end, *([lowest] if abs(lowest) < end else [])]
    return all(square * z**2 + slope * z + height > 0 for z in places)
