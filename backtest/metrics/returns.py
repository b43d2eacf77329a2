"""
Numbers about returns and equity, as pure functions of arrays.

Returns are simple, after costs, one a period, shape (n,), 0.01 for +1 %; equity is money at the end of each period
with the initial cash in front, shape (n + 1,). What is not defined is `Undefined`, a NaN that knows why, never 0 or
infinite; NaN and impossible values are a ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

SESSIONS = 252.0  # a year, on the exchanges of New York

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
    "no expansion": "skew and kurtosis are too large: the corrected quantiles do not rise",
    "less than the value at risk": "the correction makes it less of a loss than the value at risk",
    "below the threshold": "the ratio is not above the threshold, so that no length would do",
    "impossible moments": "no sample can have these moments",
    "ruined": "everything was lost, or more, and growth ends there",
    "undefined": "a number that it is computed from is undefined",
    "infinite": "its function returned an infinite number",
}

CALENDAR_YEAR = 365.25  # days
ROUNDING = 4 * np.finfo(float).eps  # what rounding leaves in E_t / E_(t-1) - 1


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


def cagr_calendar(days: np.ndarray, equity: np.ndarray, lead: float = 0.0) -> float:
    """
    Return the steady growth in 365.25 days of the calendar; undefined where that is no time.

    Args:
        lead: years from the first equity to the first session's end.
        days: sessions, datetime64[D], shape (n,); the initial cash bears the first one's date.
        equity: shape (n + 1,).
    """
    equity = checked_equity(equity)
    length = float((days[-1] - days[0]).astype(int)) if len(days) else 0.0
    return _growth(equity, length / CALENDAR_YEAR + lead)


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
    below = np.minimum(returns - _rate_a_period(target, periods), 0)
    return float(math.sqrt(np.mean(below**2)) * math.sqrt(periods))


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
    return np.asarray(returns - (rate if np.ndim(rate) else _rate_a_period(float(rate), periods)))


def _rate_a_period(rate: float, periods: float) -> float:
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


def _constant(values: np.ndarray) -> bool:
    return bool(np.ptp(values) <= max(1e-12 * abs(values.mean()), ROUNDING))


def _places(wrong: np.ndarray) -> str:
    places: Any = np.flatnonzero(wrong)
    more = f" and {len(places) - 5:,} more" if len(places) > 5 else ""
    return f"positions {', '.join(map(str, places[:5]))}{more}"
