"""
Metrics of returns and equity, as pure functions of arrays.

Returns are simple, after costs, one per period, shape (n,), 0.01 for +1 %; equity is money at the end of each period,
preceded by the initial cash, shape (n + 1,). An undefined result is `Undefined`, a NaN with a reason, never 0 or
infinite; NaN and impossible values in the input raise a ValueError.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from statistics import NormalDist

SESSIONS = 252.0  # per year, on the exchanges in New York

REASONS = {  # why a number is not defined, in a few words and in a sentence
    "too few": "there are too few sessions",
    "constant": "its denominator does not vary",
    "no loss": "there were no losses to divide by",
    "no gain": "there were no gains",
    "no drawdown": "there was no drawdown to divide by",
    "no trades": "no round trip was closed",
    "no benchmark": "a price of the benchmark was not above zero, so it has no returns",
    "left out": "the run excludes dividends",
    "no margin account": "the account has no margin requirements",
    "no costs": "no costs were paid",
    "loses before costs": "it loses even without costs",
    "nothing earned in sample": "nothing was earned in sample",
    "under a year": "growth is not annualised for less than a year",
    "no expansion": "skew and kurtosis are too large: the corrected quantiles do not rise",
    "less than the value at risk": "the correction makes it less of a loss than the value at risk",
    "below the threshold": "the ratio is not above the threshold, so no track record is long enough",
    "impossible moments": "no sample can have these moments",
    "other sessions": "the values do not cover the same sessions",
    "ruined": "the whole equity was lost, or more",
    "undefined": "one of its inputs is undefined",
    "infinite": "its function returned an infinite number",
}

CALENDAR_YEAR = 365.25  # days
ROUNDING = 4 * sys.float_info.epsilon  # what rounding leaves in E_t / E_(t-1) - 1


class Undefined(float):
    """A NaN with its reason: a key of REASONS, or your own words; arithmetic with it gives a plain NaN."""

    reason: str

    def __new__(cls, reason: str) -> Undefined:
        """Return a NaN with a reason."""
        number = super().__new__(cls, "nan")
        number.reason = reason
        return number

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]  # a float's own holds its value
        return (self.reason,)


class Rows:
    """
    Returns of several runs over the same periods, one row each, with shared intermediate results.

    A function that ends in `_by_row` takes these and returns a number for each run. The function for a single run calls
    it with one row, and so gives the same number to the last bit: numpy sums a row as it sums an array.
    """

    def __init__(self, values: np.ndarray) -> None:
        self.values = values  # shape (runs, n)
        self._quantiles: dict[float, list[float]] = {}

    @classmethod
    def of(cls, returns: np.ndarray | Sequence[float]) -> Rows:
        """
        Return returns, shape (n,) or (runs, n), as rows.

        Raises:
            ValueError: as `checked_returns`.
        """
        return cls(np.atleast_2d(checked_returns(returns)))

    @property
    def count(self) -> int:
        """How many returns each run has."""
        return int(self.values.shape[1])

    def above(self, rate: float | np.ndarray, periods: float) -> Rows:
        """Return the returns above an annual rate, or above a rate for each period, shape (n,)."""
        if np.ndim(rate) and np.shape(rate) != self.values.shape[1:]:
            rates = len(np.asarray(rate))
            raise ValueError(f"there are {self.count:,} returns but {rates:,} rates; give one for each")
        taken = rate if np.ndim(rate) else rate_a_period(float(rate), periods)
        return self if np.ndim(taken) == 0 and taken == 0 else Rows(np.asarray(self.values - taken))

    @cached_property
    def lows(self) -> np.ndarray:
        """The smallest of each run, shape (runs,)."""
        return np.asarray(self.values.min(axis=1))

    @cached_property
    def highs(self) -> np.ndarray:
        """The largest of each run."""
        return np.asarray(self.values.max(axis=1))

    @cached_property
    def means(self) -> np.ndarray:
        """The mean of each run."""
        return np.asarray(self.values.mean(axis=1))

    @cached_property
    def deviations(self) -> np.ndarray:
        """The sample standard deviation (n - 1) of each run."""
        return np.asarray(self.values.std(ddof=1, axis=1))

    @cached_property
    def why_no_deviation(self) -> list[str]:
        """Why a run has no deviation by which to divide, "" if it has one."""
        if self.count < 2:
            return ["too few"] * len(self.values)
        spans, least = self.highs - self.lows, np.maximum(1e-12 * abs(self.means), ROUNDING)
        return ["constant" if same else "" for same in (spans <= least).tolist()]

    @cached_property
    def shapes(self) -> list[tuple[float, float]]:
        """Skew and excess kurtosis of each run."""
        if self.count < 2:
            return [(Undefined("too few"), Undefined("too few")) for _ in self.values]
        away = self.values - self.means[:, None]
        squares = away * away
        thirds, fourths = (dots(squares, one).tolist() for one in (away, squares))
        found = zip(self.why_no_deviation, thirds, fourths, squares.mean(axis=1).tolist(), strict=True)
        return [(Undefined(why), Undefined(why)) if why else _shape(self.count, *own) for why, *own in found]

    @cached_property
    def growths(self) -> list[np.float64]:  # numpy's, whose powers may be infinite, where Python's raise
        """The growth of 1 in each run."""
        return list(np.prod(1 + self.values, axis=1))

    @cached_property
    def losing_runs(self) -> list[np.ndarray]:
        """The loss of each unbroken run of negative returns, for each run: see `drawdown.losing_runs`."""
        lost = self.values < 0
        begins = lost & ~np.hstack([np.zeros((len(lost), 1), bool), lost[:, :-1]])
        if not begins.any():
            return [np.array([]) for _ in self.values]
        places = np.flatnonzero(begins[lost])  # of the first of each row of losses among all losses
        losses = 100 * np.expm1(np.add.reduceat(np.log1p(self.values[lost] / 100), places))
        return np.split(losses, np.cumsum(begins.sum(axis=1))[:-1])

    def quantiles(self, *shares: float) -> list[list[float]]:
        """Return quantiles of the values of each run, linear between observations (type 7)."""
        missing = [share for share in shares if share not in self._quantiles]
        if missing:
            places = [share * (self.count - 1) for share in missing]
            pairs = [(math.floor(place), min(math.floor(place) + 1, self.count - 1)) for place in places]
            ranked = np.partition(self.values, sorted({one for pair in pairs for one in pair}), axis=1)
            for share, place, (first, second) in zip(missing, places, pairs, strict=True):
                low, high, part = ranked[:, first], ranked[:, second], place - first
                step = high - low
                self._quantiles[share] = (high - step * (1 - part) if part >= 0.5 else low + step * part).tolist()
        return [self._quantiles[share] for share in shares]


def _shape(count: int, third: float, fourth: float, variance: float) -> tuple[float, float]:
    return third / count / variance**1.5, fourth / count / variance**2 - 3


class EquityRows:
    """Equity of several runs over the same periods, one row each, after the initial cash, shape (runs, n + 1)."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    @classmethod
    def of(cls, equity: np.ndarray | Sequence[float]) -> EquityRows:
        """
        Return equity, shape (n + 1,) or (runs, n + 1), as rows.

        Raises:
            ValueError: as `checked_equity`.
        """
        rows = np.asarray(equity, dtype=float)
        if rows.ndim == 1:
            return cls(checked_equity(rows)[None])
        if not (rows.shape[1] and (rows[:, 0] > 0).all() and rows.min() >= 0 and rows.max() < math.inf):
            for one in rows:
                checked_equity(one)
        return cls(rows)

    @property
    def count(self) -> int:
        """How many periods each run has."""
        return int(self.values.shape[1]) - 1

    @cached_property
    def ratios(self) -> list[np.float64]:  # as `Rows.growths`
        """The last equity over the first, of each run."""
        return list(self.values[:, -1] / self.values[:, 0])

    @cached_property
    def depths(self) -> np.ndarray:
        """Equity over its highest so far, minus 1, shape (runs, n + 1)."""
        highest = np.maximum.accumulate(self.values, axis=1)
        # In place: with many runs most of the time goes into allocating memory.
        found = np.divide(self.values, highest, out=highest if self.values.flags.c_contiguous else None)
        np.subtract(found, 1, out=found)
        return np.asarray(found)

    @cached_property
    def falls(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The last position at each peak, and the last position below it, of each run."""
        edges = np.diff(self.depths < 0, append=False, axis=1)  # of each run a peak, where it is over, a peak ...
        rows, columns = np.nonzero(edges)
        cuts = np.searchsorted(rows[::2], np.arange(1, len(self.values)))
        return list(zip(np.split(columns[::2], cuts), np.split(columns[1::2], cuts), strict=True))


def where_defined(reasons: Iterable[str], numbers: Iterable[float]) -> list[float]:
    """Return the number of each run, or an `Undefined` if there is a reason for it."""
    return [Undefined(why) if why else number for why, number in zip(reasons, numbers, strict=True)]


def too_few(rows: Rows | EquityRows) -> list[float]:
    """Return the number of runs that are too short for one."""
    return [Undefined("too few") for _ in rows.values]


@cache  # it imports decimals and fractions, and few runs read a number that needs it
def normal() -> NormalDist:
    """Return the standard normal distribution."""
    from statistics import NormalDist

    return NormalDist()


def drop_nan(*series: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the arrays, all of equal length, without the positions at which one of the numbers is NaN."""
    numbers = [one for one in series if one.dtype.kind == "f"]
    kept = ~np.any([np.isnan(one) for one in numbers], axis=0)
    return tuple(one[kept] for one in series)


def total_return(equity: np.ndarray) -> float:
    """Return the last equity over the first, minus 1; undefined before the first session's end."""
    return total_return_by_row(EquityRows.of(equity))[0]


def total_return_by_row(equity: EquityRows) -> list[float]:
    """Return `total_return` of each run."""
    return [float(ratio - 1) for ratio in equity.ratios] if equity.count else too_few(equity)


def cagr(equity: np.ndarray, periods: float = SESSIONS) -> float:
    """
    Return the steady annual growth from the first equity to the last; undefined before the first session's end.

    Years are n / periods, as in empyrical; a run of under a year is extrapolated.
    """
    return cagr_by_row(EquityRows.of(equity), periods)[0]


def cagr_by_row(equity: EquityRows, periods: float = SESSIONS) -> list[float]:
    """Return `cagr` of each run."""
    return _growths(equity, equity.count / periods)


def cagr_calendar(days: np.ndarray, equity: np.ndarray, lead: float = 0.0) -> float:
    """
    Return the steady growth per 365.25 calendar days; undefined if no time has passed.

    Args:
        lead: years from the first equity to the first session's end.
        days: sessions, datetime64[D], shape (n,); the initial cash has the date of the first.
        equity: shape (n + 1,).
    """
    return cagr_calendar_by_row(days, EquityRows.of(equity), lead)[0]


def cagr_calendar_by_row(days: np.ndarray, equity: EquityRows, lead: float = 0.0) -> list[float]:
    """Return `cagr_calendar` of each run."""
    length = float((days[-1] - days[0]).astype(int)) if len(days) else 0.0
    return _growths(equity, length / CALENDAR_YEAR + lead)


def monthly_returns(days: np.ndarray, equity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the months that have sessions, datetime64[M], and the return of each, the first from the initial cash."""
    months, returns = months_by_row(days, EquityRows.of(equity))
    return months, returns[0]


def months_by_row(days: np.ndarray, equity: EquityRows) -> tuple[np.ndarray, np.ndarray]:
    """Return the months that have sessions, and the return of each, shape (runs, months)."""
    return _returns_by(days.astype("datetime64[M]"), equity)


def yearly_returns(days: np.ndarray, equity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the years that have sessions, datetime64[Y], and the return of each, whole year or not."""
    years, returns = years_by_row(days, EquityRows.of(equity))
    return years, returns[0]


def years_by_row(days: np.ndarray, equity: EquityRows) -> tuple[np.ndarray, np.ndarray]:
    """Return the years that have sessions, and the return of each, shape (runs, years)."""
    return _returns_by(days.astype("datetime64[Y]"), equity)


def returns_of(equity: np.ndarray) -> np.ndarray:
    """Return E_t / E_(t-1) - 1 along the last axis; after ruin returns are 0."""
    before, after = equity[..., :-1], equity[..., 1:]
    if before.all():
        growths: np.ndarray = np.divide(after, before)
        growths -= 1
        return growths
    ruined = (before == 0) & (after == 0)
    with np.errstate(divide="ignore"):  # a gain on zero equity is infinite, which the metrics refuse
        ratios = np.divide(after, before, out=np.ones_like(after), where=~ruined)
    returns: np.ndarray = ratios - 1
    return returns


def equity_of(returns: np.ndarray, start: float = 1.0) -> np.ndarray:
    """Return the equity that an initial amount grows to, shape (n + 1,)."""
    return np.concatenate([[start], start * np.cumprod(1 + np.asarray(returns, dtype=float))])


def largest(returns: np.ndarray) -> float:
    """Return the best return; undefined without returns."""
    return largest_by_row(Rows.of(returns))[0]


def largest_by_row(returns: Rows) -> list[float]:
    """Return `largest` of each run."""
    return list(map(float, returns.highs)) if returns.count else too_few(returns)


def smallest(returns: np.ndarray) -> float:
    """Return the worst return; undefined without returns."""
    return smallest_by_row(Rows.of(returns))[0]


def smallest_by_row(returns: Rows) -> list[float]:
    """Return `smallest` of each run."""
    return list(map(float, returns.lows)) if returns.count else too_few(returns)


def volatility(returns: np.ndarray, periods: float = SESSIONS) -> float:
    """Return the annualised sample standard deviation (n - 1) of returns; undefined for fewer than two returns."""
    return volatility_by_row(Rows.of(returns), periods)[0]


def volatility_by_row(returns: Rows, periods: float = SESSIONS) -> list[float]:
    """Return `volatility` of each run."""
    return [float(one * math.sqrt(periods)) for one in returns.deviations] if returns.count > 1 else too_few(returns)


def downside_deviation(returns: np.ndarray, target: float = 0.0, periods: float = SESSIONS) -> float:
    """
    Return the annualised root mean square of the shortfalls of returns below a target; 0 if none is below it.

    `target` is an annual return. The mean is over all n returns, as in empyrical; undefined for fewer than two returns.
    """
    return downside_deviation_by_row(Rows.of(returns), target, periods)[0]


def downside_deviation_by_row(returns: Rows, target: float = 0.0, periods: float = SESSIONS) -> list[float]:
    """Return `downside_deviation` of each run."""
    if returns.count < 2:
        return too_few(returns)
    below = np.minimum(returns.above(target, periods).values, 0)
    return [math.sqrt(one) * math.sqrt(periods) for one in np.mean(below**2, axis=1).tolist()]


def skew(returns: np.ndarray) -> float:
    """
    Return the third standardised moment of the population.

    Undefined for fewer than two returns, or if all are equal.
    """
    return skew_by_row(Rows.of(returns))[0]


def skew_by_row(returns: Rows) -> list[float]:
    """Return `skew` of each run."""
    return [skewed for skewed, _ in returns.shapes]


def kurtosis(returns: np.ndarray) -> float:
    """
    Return the fourth standardised moment of the population minus 3, the excess.

    Undefined for fewer than two returns, or if all are equal.
    """
    return kurtosis_by_row(Rows.of(returns))[0]


def kurtosis_by_row(returns: Rows) -> list[float]:
    """Return `kurtosis` of each run."""
    return [excess for _, excess in returns.shapes]


def dots(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the products `@` of rows, shape (runs,); of right there may be one for all. numpy takes the same sums."""
    return np.asarray(np.matmul(left[:, None, :], right[..., None])[:, 0, 0])


def autocorrelations(returns: np.ndarray, lags: int) -> np.ndarray:
    """Return the autocorrelation of returns at the lags 1 to `lags`, shape (lags,); the squares are over all n."""
    return np.asarray(autocorrelations_by_row(Rows(np.atleast_2d(returns)), lags)[0])


def autocorrelations_by_row(returns: Rows, lags: int) -> np.ndarray:
    """Return `autocorrelations` of each run, shape (runs, lags)."""
    if returns.count < 2:
        return np.zeros((len(returns.values), 0))
    away = returns.values - returns.means[:, None]
    products = [dots(away[:, lag:], away[:, :-lag]) for lag in range(1, lags + 1)]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.ascontiguousarray(np.array(products).reshape(-1, len(away)).T) / dots(away, away)[:, None]
    return np.asarray(found)


def long_run_variance(values: np.ndarray) -> float:
    """
    Return n times the variance of the mean of values that may be autocorrelated; 0 if they do not vary.

    It is σ² / (1 - Σφ)² of an autoregression, with the number of lags up to n^(1/3) that Schwarz's criterion chooses,
    but at least one, so that a weak autocorrelation which no criterion detects is not ignored.

    Source: den Haan and Levin (1997), "A Practitioner's Guide to Robust Covariance Matrix Estimation" (VARHAC); at
    least one lag as in Andrews and Monahan (1992), which also give the bound of 0.97 on Σφ.
    """
    return float(long_run_variances(np.atleast_2d(values))[0])


def long_run_variances(values: np.ndarray) -> np.ndarray:
    """Return `long_run_variance` of each row, shape (runs,)."""
    return _Autoregressions.of(values).long_run


def long_run_variance_of_sum(values: np.ndarray, squares: np.ndarray) -> float:
    """
    Return the long-run variance of values + squares, with a separate autoregression for each.

    In the sum of a return and a small fraction of its square, the return hides the persistence of volatility, which
    still accumulates over years. Under GARCH(1,1) squares depend a little on all earlier ones: so their number of lags,
    up to 12·(n / 100)^(1/4) and a quarter of n, is the one that Akaike's criterion chooses, corrected for short
    samples. The residuals of the two may be correlated.

    Source: den Haan and Levin (1997), as `long_run_variance`, where each series of a vector has its own lags, by either
    criterion; the bound is that of Schwert (1989), "Tests for Unit Roots: A Monte Carlo Investigation", for moving
    averages, the correction that of Hurvich and Tsai (1989), "Regression and Time Series Model Selection in Small
    Samples". Shibata (1980): Akaike's criterion has the smallest error if there are infinitely many lags.
    """
    return float(long_run_variances_of_sums(np.atleast_2d(values), np.atleast_2d(squares))[0])


def long_run_variances_of_sums(values: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Return `long_run_variance_of_sum` of each row of both, shape (runs,)."""
    first, second = _Autoregressions.of(values), _Autoregressions.of(squares, of_squares=True)
    deviations = np.sqrt(first.long_run * second.long_run)
    correlations = np.array([_correlation_of_rest(first, second, row) for row in range(len(values))])
    return np.asarray(first.long_run + second.long_run + 2 * correlations * deviations)


class _Autoregressions(NamedTuple):
    """An autoregression of each row of some series, with as many lags as a criterion takes."""

    away: np.ndarray  # from the mean of the row, shape (runs, n)
    coefficients: list[np.ndarray]  # of each row, at the lags 1, 2, ...; none where the row does not vary
    long_run: np.ndarray  # its long-run variance, shape (runs,)

    @classmethod
    def of(cls, values: np.ndarray, of_squares: bool = False) -> _Autoregressions:
        """Return those of `long_run_variance`, or of squares, as in `long_run_variance_of_sum`."""
        count, away = values.shape[1], values - values.mean(axis=1)[:, None]
        most = max(1, min(int(12 * (count / 100) ** 0.25), count // 4) if of_squares else
                   min(int(count ** (1 / 3)), count - 3))  # fmt: skip
        lagged = [dots(away, away), *(dots(away[:, lag:], away[:, :-lag]) for lag in range(1, most + 1))]
        found, rows = np.zeros(len(values)), np.flatnonzero(lagged[0] > 0)
        coefficients = [np.zeros(0)] * len(values)
        products = np.array(lagged)[:, rows]
        variances, own, best = products[0], np.zeros((len(rows), 0)), np.full(len(rows), math.inf)
        for order in range(1, most + 1):  # by Levinson and Durbin
            before = np.ascontiguousarray(products[order - 1 : 0 : -1].T)
            reflections = (products[order] - dots(own, before)) / variances
            own = np.hstack([own - reflections[:, None] * own[:, ::-1], reflections[:, None]])
            variances = variances * np.array([1 - one**2 for one in reflections.tolist()])
            going = np.flatnonzero(variances > 0)
            rows, products, own, best = rows[going], products[:, going], own[going], best[going]
            variances = variances[going]
            penalty = _akaike(order, count) if of_squares else order * math.log(count)
            scores = np.array([count * math.log(one) + penalty for one in variances.tolist()])
            better = np.flatnonzero(scores < best)
            best[better] = scores[better]
            for place in better.tolist():
                total = float(own[place].sum())
                variance = float(variances[place])
                found[rows[place]] = variance / max(count - order - 1, 1) / (1 - min(total, _MOST)) ** 2
                coefficients[rows[place]] = own[place].copy()
        return cls(away, coefficients, found)

    def rest(self, row: int, first: int) -> np.ndarray:
        """Return the residuals of a row's autoregression, from the position `first` on, shape (n - first,)."""
        away = self.away[row]
        left = away[first:].copy()
        for lag, coefficient in enumerate(self.coefficients[row].tolist(), start=1):
            left -= coefficient * away[first - lag : len(away) - lag]
        return np.asarray(left)


def _akaike(order: int, count: int) -> float:
    return 2 * count * (order + 1) / max(count - order - 2, 1)


def _correlation_of_rest(first: _Autoregressions, second: _Autoregressions, row: int) -> float:
    lags = max(len(one.coefficients[row]) for one in (first, second))
    one, other = first.rest(row, lags), second.rest(row, lags)
    scale = math.sqrt(float(one @ one) * float(other @ other))
    return float(one @ other) / scale if scale > 0 else 0.0


_MOST = 0.97  # that the coefficients of an autoregression sum to


def excess_returns(returns: np.ndarray, rate: float | np.ndarray, periods: float) -> np.ndarray:
    """Return the returns above an annual rate, or above a rate for each period, shape (n,)."""
    return np.asarray(Rows.of(returns).above(rate, periods).values[0])


def rate_a_period(rate: float, periods: float) -> float:
    """Return the rate per period that compounds to an annual rate."""
    return math.expm1(math.log1p(rate) / periods)


def cagr_of(returns: np.ndarray, periods: float = SESSIONS) -> float:
    """Return the steady annual growth of returns; undefined without returns, or if one is below -1."""
    return cagr_of_by_row(Rows(np.atleast_2d(returns)), periods)[0]


def cagr_of_by_row(returns: Rows, periods: float = SESSIONS) -> list[float]:
    """Return `cagr_of` of each run."""
    if not returns.count:
        return too_few(returns)
    ruined = ["ruined" if low < -1 else "" for low in returns.lows.tolist()]
    years = periods / returns.count
    return [Undefined(why) if why else float(one**years - 1) for why, one in zip(ruined, returns.growths, strict=True)]


def why_no_deviation(values: np.ndarray) -> str:
    """Return why values have no deviation by which to divide, "" if they have one."""
    return Rows(np.atleast_2d(values)).why_no_deviation[0]


def checked_equity(equity: np.ndarray | Sequence[float]) -> np.ndarray:
    """
    Return equity as an array of float64.

    Raises:
        ValueError: it does not begin above 0, or a value is negative, infinite or NaN.
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
        ValueError: a return is below -1, infinite or NaN; `drop_nan` removes NaN.
    """
    returns = np.asarray(returns, dtype=float)
    if returns.size and not (returns.min() >= -1 and returns.max() < math.inf):  # false for a NaN
        wrong = ~(np.isfinite(returns) & (returns >= -1))
        raise ValueError(f"returns must be finite and not below -1; they are not at {_places(wrong)}")
    return returns


def _growths(equity: EquityRows, years: float) -> list[float]:
    return [float(ratio ** (1 / years) - 1) for ratio in equity.ratios] if years else too_few(equity)


def _returns_by(labels: np.ndarray, equity: EquityRows) -> tuple[np.ndarray, np.ndarray]:
    if not len(labels):
        return labels, np.zeros((len(equity.values), 0))
    lasts = np.append(np.flatnonzero(labels[1:] != labels[:-1]), len(labels) - 1)
    return labels[lasts], returns_of(np.take(equity.values, np.append(0, lasts + 1), axis=1))


def _places(wrong: np.ndarray) -> str:
    places: Any = np.flatnonzero(wrong)
    more = f" and {len(places) - 5:,} more" if len(places) > 5 else ""
    return f"positions {', '.join(map(str, places[:5]))}{more}"
