"""
Numbers about returns and equity, as pure functions of arrays.

Returns are simple, after costs, one a period, shape (n,), 0.01 for +1 %; equity is money at the end of each period
with the initial cash in front, shape (n + 1,). What is not defined is `Undefined`, a NaN that knows why, never 0 or
infinite; NaN and impossible values are a ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

SESSIONS = 252.0  # a year, on the exchanges of New York
TAIL = 0.05  # the worst share of returns that is looked at

REASONS = {  # why a number is not defined, in a few words and in a sentence
    "too few": "there are too few sessions for it",
    "constant": "what it divides by does not vary",
    "no loss": "nothing was lost, and it divides by losses",
    "no gain": "nothing was gained, and it is about gains",
    "no drawdown": "equity never fell below a peak, and it divides by drawdowns",
    "no trades": "no round trip was closed",
    "no benchmark": "a price of the benchmark was not above zero, so that it has no returns",
    "no costs": "nothing was paid, of which there is no multiple",
    "loses before costs": "it loses even without costs",
    "nothing earned in sample": "there is nothing to keep of what was earned where parameters were chosen",
    "under a year": "growth a year is not given of less than a year",
    "below the threshold": "the ratio is not above the threshold, so that no length would do",
    "impossible moments": "no sample can have these moments",
    "ruined": "everything was lost, or more, and growth ends there",
    "undefined": "a number that it is reckoned from is not defined",
}

_CALENDAR_YEAR = 365.25  # days
_NORMAL = NormalDist()
_ROUNDING = 4 * np.finfo(float).eps  # what rounding leaves in E_t / E_(t-1) - 1


class Undefined(float):
    """A NaN with the reason, a key of REASONS; what is reckoned from it is a plain NaN."""

    reason: str

    def __new__(cls, reason: str) -> Undefined:
        """Return a NaN that bears a reason."""
        number = super().__new__(cls, "nan")
        number.reason = reason
        return number

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]  # a float's own holds its value
        return (self.reason,)


def drop_nan(*series: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the arrays, all of one length, without the places at which any of those of numbers is NaN."""
    numbers = [one for one in series if one.dtype.kind == "f"]
    kept = ~np.any([np.isnan(one) for one in numbers], axis=0)
    return tuple(one[kept] for one in series)


def total_return(equity: np.ndarray) -> float:
    """Return the last equity over the first, minus 1; undefined before the first session's end."""
    equity = checked_equity(equity)
    return float(equity[-1] / equity[0] - 1) if len(equity) > 1 else Undefined("too few")


def cagr(equity: np.ndarray, periods: float = SESSIONS) -> float:
    """
    Return the steady growth a year from the first equity to the last; undefined before the first session's end.

    Years are n / periods, as in empyrical; a run of under a year is extrapolated.
    """
    equity = checked_equity(equity)
    return _growth(equity, (len(equity) - 1) / periods)


def cagr_calendar(days: np.ndarray, equity: np.ndarray) -> float:
    """
    Return the steady growth in 365.25 days of the calendar; undefined where the first session is also the last.

    Args:
        days: sessions, datetime64[D], shape (n,); the initial cash bears the first one's date.
        equity: shape (n + 1,).
    """
    equity = checked_equity(equity)
    length = float((days[-1] - days[0]).astype(int)) if len(days) else 0.0
    return _growth(equity, length / _CALENDAR_YEAR)


def monthly_returns(days: np.ndarray, equity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the months that have sessions, datetime64[M], and the return of each, the first from the initial cash."""
    return _returns_by(days.astype("datetime64[M]"), equity)


def yearly_returns(days: np.ndarray, equity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the years that have sessions, datetime64[Y], and the return of each, whole year or not."""
    return _returns_by(days.astype("datetime64[Y]"), equity)


def returns_of(equity: np.ndarray) -> np.ndarray:
    """Return E_t / E_(t-1) - 1; who is ruined and stays so has returns of 0."""
    before, after = equity[:-1], equity[1:]
    ruined = (before == 0) & (after == 0)
    with np.errstate(divide="ignore"):  # money out of nothing is infinite, which the metrics refuse
        ratios = np.divide(after, before, out=np.ones_like(after), where=~ruined)
    returns: np.ndarray = ratios - 1
    return returns


def equity_of(returns: np.ndarray, start: float = 1.0) -> np.ndarray:
    """Return the money that a start becomes, shape (n + 1,)."""
    return np.concatenate([[start], start * np.cumprod(1 + np.asarray(returns, dtype=float))])


def largest(returns: np.ndarray) -> float:
    """Return the best return; undefined without returns."""
    return float(np.max(checked_returns(returns))) if len(returns) else Undefined("too few")


def smallest(returns: np.ndarray) -> float:
    """Return the worst return; undefined without returns."""
    return float(np.min(checked_returns(returns))) if len(returns) else Undefined("too few")


def volatility(returns: np.ndarray, periods: float = SESSIONS) -> float:
    """Return the sample standard deviation (n - 1) of returns, a year; undefined for fewer than two returns."""
    returns = checked_returns(returns)
    return float(returns.std(ddof=1) * math.sqrt(periods)) if len(returns) > 1 else Undefined("too few")


def downside_deviation(returns: np.ndarray, target: float = 0.0, periods: float = SESSIONS) -> float:
    """
    Return the root mean square of what returns lack to a target, a year; 0 where none is below it.

    `target` is a return a year. The mean is over all n returns, as in empyrical; undefined for fewer than two returns.
    """
    returns = checked_returns(returns)
    if len(returns) < 2:
        return Undefined("too few")
    below = np.minimum(returns - rate_a_period(target, periods), 0)
    return float(math.sqrt(np.mean(below**2)) * math.sqrt(periods))


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

    `target` is a return a year, or one of each period. Undefined for fewer than two returns or none below it.

    Source: Sortino and Price (1994); the mean square below the target is over all n returns, as empyrical.
    """
    ratio = kappa(returns, 2, target, periods)
    return ratio * math.sqrt(periods) if ratio == ratio else ratio


def kappa(returns: np.ndarray, order: int = 3, target: float | np.ndarray = 0.0, periods: float = SESSIONS) -> float:
    """
    Return the mean return above a target over the root of its lower partial moment, of one period.

    `target` is a return a year, or one of each period. Undefined for fewer than two returns or none below it.

    Source: Kaplan and Knowles (2004), "Kappa: a generalized downside risk-adjusted performance measure".
    """
    if not _falls(returns, target, periods):
        return _no_fall(returns)
    excess = excess_returns(returns, target, periods)
    moment = np.mean(_power(np.maximum(-excess, 0), order)) ** (1 / order)
    return float(excess.mean() / moment)


def omega(returns: np.ndarray, target: float = 0.0, periods: float = SESSIONS) -> float:
    """
    Return the sum of what is above a target, a return a year, over the sum of what is below it.

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

    Undefined for fewer than two returns or none that varies.

    Source: Boudt, Peterson and Croux (2008), "Estimation and Decomposition of Downside Risk for Portfolios with
    Non-Normal Returns"; there in powers, here with x·H_n·φ integrated to -φ(g)·(g·H_(n-1)(g) + H_(n-2)(g)).
    """
    if reason := _why_no_moments(returns):
        return Undefined(reason)
    s, k = shape_of(returns)
    g = _cornish_fisher(tail, s, k)
    third, fourth = g**3, g**4 - 2 * g**2 - 1
    sixth = g**6 - 9 * g**4 + 9 * g**2 + 3
    below = -_NORMAL.pdf(g) * (1 + s / 6 * third + k / 24 * fourth + s**2 / 72 * sixth)
    return _scaled(returns, below / tail, ddof)


def skew(returns: np.ndarray) -> float:
    """
    Return the third standardised moment of the population.

    Undefined for fewer than two returns or none that varies.
    """
    return shape_of(checked_returns(returns))[0]


def kurtosis(returns: np.ndarray) -> float:
    """
    Return the fourth standardised moment of the population minus 3, the excess.

    Undefined for fewer than two returns or none that varies.
    """
    return shape_of(checked_returns(returns))[1]


def shape_of(returns: np.ndarray) -> tuple[float, float]:
    """Return skew and excess kurtosis."""
    if reason := why_no_deviation(returns):
        return Undefined(reason), Undefined(reason)
    away = returns - np.mean(returns)
    squares = away * away
    variance, count = float(np.mean(squares)), len(away)
    third, fourth = float(squares @ away) / count, float(squares @ squares) / count
    return third / variance**1.5, fourth / variance**2 - 3


def autocorrelations(returns: np.ndarray, lags: int) -> np.ndarray:
    """Return the autocorrelation of returns at the lags 1 to `lags`, shape (lags,); the squares are over all n."""
    away = returns - np.mean(returns)
    square = float(away @ away)
    return np.array([away[lag:] @ away[:-lag] / square for lag in range(1, lags + 1)])


def excess_returns(returns: np.ndarray, rate: float | np.ndarray, periods: float) -> np.ndarray:
    """Return what returns are above a rate a year, or above a rate of each period, shape (n,)."""
    returns = checked_returns(returns)
    if np.ndim(rate) and np.shape(rate) != returns.shape:
        raise ValueError(f"there are {len(returns):,} returns but {len(np.asarray(rate)):,} rates; give one for each")
    return np.asarray(returns - (rate if np.ndim(rate) else rate_a_period(float(rate), periods)))


def rate_a_period(rate: float, periods: float) -> float:
    """Return the rate a period that compounds to a rate a year."""
    return math.expm1(math.log1p(rate) / periods)


def cagr_of(returns: np.ndarray, periods: float = SESSIONS) -> float:
    """Return the steady growth a year of returns; undefined without any, or where one is below -1."""
    if not len(returns):
        return Undefined("too few")
    if np.min(returns) < -1:
        return Undefined("ruined")
    return float(np.prod(1 + returns) ** (periods / len(returns)) - 1)


def why_no_deviation(values: np.ndarray) -> str:
    """Return why values have no deviation to divide by, "" where they have one."""
    if len(values) < 2:
        return "too few"
    return "constant" if _constant(values) else ""


def checked_equity(equity: np.ndarray | Sequence[float]) -> np.ndarray:
    """
    Return equity as an array of float64.

    Raises:
        ValueError: it does not begin above 0, or is negative, infinite or NaN somewhere.
    """
    equity = np.asarray(equity, dtype=float)
    if not len(equity) or not equity[0] > 0:
        raise ValueError(f"equity must begin with the initial cash, above 0; it begins with {equity[:1]}")
    if not (equity.min() >= 0 and equity.max() < math.inf):  # false for a NaN
        wrong = ~(np.isfinite(equity) & (equity >= 0))
        raise ValueError(f"equity must be finite and not below 0; it is not at {_places(wrong)}")
    return equity


def checked_returns(returns: np.ndarray | Sequence[float]) -> np.ndarray:
    """
    Return returns as an array of float64.

    Raises:
        ValueError: one is below -1, infinite or NaN; `drop_nan` takes the NaN out.
    """
    returns = np.asarray(returns, dtype=float)
    if len(returns) and not (returns.min() >= -1 and returns.max() < math.inf):  # false for a NaN
        wrong = ~(np.isfinite(returns) & (returns >= -1))
        raise ValueError(f"returns must be finite and not below -1; they are not at {_places(wrong)}")
    return returns


def _growth(equity: np.ndarray, years: float) -> float:
    return float((equity[-1] / equity[0]) ** (1 / years) - 1) if years else Undefined("too few")


def _returns_by(labels: np.ndarray, equity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not len(labels):
        return labels, np.array([])
    lasts = np.append(np.flatnonzero(labels[1:] != labels[:-1]), len(labels) - 1)
    return labels[lasts], returns_of(checked_equity(equity)[np.append(0, lasts + 1)])


def _falls(returns: np.ndarray, target: float | np.ndarray, periods: float) -> bool:
    return len(returns) > 1 and bool(np.min(excess_returns(returns, target, periods)) < -_ROUNDING)


def _no_fall(returns: np.ndarray) -> float:
    return Undefined("no loss" if len(returns) > 1 else "too few")


def _power(values: np.ndarray, order: int) -> np.ndarray:
    product = values
    for _ in range(order - 1):  # many times as fast as **
        product = product * values
    return product


def _why_no_moments(returns: np.ndarray) -> str:
    return why_no_deviation(checked_returns(returns))


def _scaled(returns: np.ndarray, quantile: float, ddof: int) -> float:
    return float(np.mean(returns) + quantile * np.std(returns, ddof=ddof))


def _cornish_fisher(tail: float, s: float, k: float) -> float:
    z = _NORMAL.inv_cdf(tail)
    return z + (z**2 - 1) * s / 6 + (z**3 - 3 * z) * k / 24 - (2 * z**3 - 5 * z) * s**2 / 36


def _constant(values: np.ndarray) -> bool:
    return bool(np.ptp(values) <= max(1e-12 * abs(values.mean()), _ROUNDING))


def _places(wrong: np.ndarray) -> str:
    places: Any = np.flatnonzero(wrong)
    more = f" and {len(places) - 5:,} more" if len(places) > 5 else ""
    return f"positions {', '.join(map(str, places[:5]))}{more}"
