"""
Metrics relative to a benchmark, as pure functions of two arrays of equal length.

Both are simple returns of the same periods, shape (n,): see `common_dates`. An undefined result is `Undefined`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, reduce
from typing import NamedTuple, TypeAlias

import numpy as np

from backtest.metrics.drawdown import max_drawdown_by_row
from backtest.metrics.ratios import ratio_by_row
from backtest.metrics.returns import (
    SESSIONS,
    EquityRows,
    Rows,
    Undefined,
    cagr_of_by_row,
    dots,
    long_run_variance,
    too_few,
    volatility_by_row,
    where_defined,
    why_no_deviation,
)

_Rate: TypeAlias = float | np.ndarray


def common_dates(
    days: np.ndarray, returns: np.ndarray, other_days: np.ndarray, other_returns: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the dates that both series have, and the returns of each between these dates."""
    if np.array_equal(days, other_days):
        return days, returns, other_returns
    common, (own, other) = common_places([days, other_days], both_begin(days, other_days))
    return common, compounded(returns, own), compounded(other_returns, other)


def common_places(every: Sequence[np.ndarray], begins: np.datetime64 | None) -> tuple[np.ndarray, list[np.ndarray]]:
    """
    Return the common dates of several series of returns, and their positions in the equity of each.

    Args:
        every: the dates of each, rising.
        begins: the date from which the first return of all counts; if it is unknown (None), the first common date.

    Returns:
        The dates, shape (n,), and for each series the positions, shape (n + 1,); the first one is where all begin.
    """
    common = reduce(np.intersect1d, every)
    ends = [np.searchsorted(days, common) + 1 for days in every]
    if begins is None:
        return common[1:], ends
    return common, [np.append(np.searchsorted(days, begins), own) for days, own in zip(every, ends, strict=True)]


def compounded(returns: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the compound return, or rate, between successive positions of equity, along the last axis."""
    values, starts = np.asarray(returns), places[:-1]
    if len(places) < 2:
        return np.zeros((*values.shape[:-1], 0))
    grown = np.multiply.reduceat(1 + values[..., : int(places[-1])], starts, axis=-1) - 1
    return np.ascontiguousarray(np.where(np.diff(places) == 1, np.take(values, starts, axis=-1), grown))


def periods_at(periods: float, places: np.ndarray) -> float:
    """
    Return how many steps between positions of equity make a year of `periods` sessions.

    It is a whole number if sessions are skipped: 52 for weeks among sessions with 252 per year.
    """
    if len(places) < 2:
        return periods
    steps, sessions = len(places) - 1, int(places[-1] - places[0])
    return periods if steps == sessions else max(1.0, float(round(periods * steps / sessions)))


def both_begin(days: np.ndarray, others: np.ndarray) -> np.datetime64 | None:
    """
    Return the date from which both series of returns count.

    It is the first date of the one that begins later, unless the other has dates between its first two: then the length
    of its first return is unknown.
    """
    early, late = sorted((days, others), key=lambda one: one[:1].tolist())
    between = len(late) > 1 and ((early > late[0]) & (early < late[1])).any()
    return None if not len(late) or (between and early[0] != late[0]) else late[0]


class Beside:
    """The returns of several runs, one row each, beside those of a benchmark in the same periods."""

    def __init__(self, own: Rows, other: Rows, risk_free: _Rate = 0.0, periods: float = SESSIONS) -> None:
        if own.count != other.count:
            raise ValueError(f"there are {own.count:,} returns but {other.count:,} of the benchmark; see common_dates")
        self.own, self.other, self.periods = own, other, periods
        self._risk_free = risk_free

    @classmethod
    def of(
        cls, returns: np.ndarray, benchmark: np.ndarray, risk_free: _Rate = 0.0, periods: float = SESSIONS
    ) -> Beside:
        """
        Return returns, shape (n,) or (runs, n), beside those of a benchmark, shape (n,).

        Raises:
            ValueError: a return is below -1, infinite or NaN, or the lengths differ.
        """
        return cls(Rows.of(returns), Rows.of(benchmark), risk_free, periods)

    @cached_property
    def excess(self) -> Rows:
        """The returns above the risk-free rate."""
        return self.own.above(self._risk_free, self.periods)

    @cached_property
    def other_excess(self) -> Rows:
        """The benchmark's returns above the risk-free rate."""
        return self.other.above(self._risk_free, self.periods)

    @cached_property
    def active(self) -> Rows:
        """The returns minus the benchmark's."""
        return Rows(self.own.values - self.other.values[0])


def beta(returns: np.ndarray, benchmark: np.ndarray, risk_free: _Rate = 0.0, periods: float = SESSIONS) -> float:
    """Return the covariance of excess returns over the benchmark's variance; undefined if that variance is 0."""
    return beta_by_row(Beside.of(returns, benchmark, risk_free, periods))[0]


def beta_by_row(both: Beside) -> list[float]:
    """Return `beta` of each run."""
    if why := both.other_excess.why_no_deviation[0]:
        return [Undefined(why) for _ in both.own.values]
    other = both.other_excess.values[0]
    away = other - other.mean()  # whose deviations sum to 0, so that own's mean falls out
    return (dots(both.excess.values, away) / (away @ away)).tolist()  # type: ignore[no-any-return]


def alpha(returns: np.ndarray, benchmark: np.ndarray, risk_free: _Rate = 0.0, periods: float = SESSIONS) -> float:
    """
    Return Jensen's annual alpha: the mean of r - f - beta·(b - f), times the periods per year, not compounded.

    Undefined if the benchmark does not vary.

    Source: Jensen (1968), "The Performance of Mutual Funds in the Period 1945-1964".
    """
    return alpha_by_row(Beside.of(returns, benchmark, risk_free, periods))[0]


def alpha_by_row(both: Beside) -> list[float]:
    """Return `alpha` of each run."""
    if not both.own.count:
        return beta_by_row(both)
    mean, found = both.other_excess.means[0], zip(beta_by_row(both), both.excess.means, strict=True)
    return [float((own - slope * mean) * both.periods) if slope == slope else slope for slope, own in found]


class AlphaTest(NamedTuple):
    """A test of whether returns exceed what their benchmark, or cash, explains."""

    alpha: float  # annual, as `alpha`; the mean excess return if there is no benchmark
    beta: float  # 0 where there is no benchmark
    error: float  # standard error of annual alpha
    t: float  # alpha over its error
    p: float  # probability of such a t without skill: one-sided
    appraisal: float  # alpha over what the benchmark leaves of the volatility; the Sharpe ratio where there is none
    unexplained: float  # share of the variance that the benchmark leaves; 1 where there is none


def alpha_test(
    returns: np.ndarray,
    benchmark: np.ndarray | None = None,
    risk_free: _Rate = 0.0,
    periods: float = SESSIONS,
) -> AlphaTest:
    """
    Return a test of alpha, with a standard error that allows for autocorrelation and changing volatility.

    The standard error is that of the intercept of r - f on b - f, from the long-run variance of each period's
    contribution. Undefined for fewer than four returns, or if the part that the benchmark does not explain does not
    vary.

        >>> market, own = np.random.default_rng(1).normal(0, 0.01, (2, 2500))
        >>> alpha_test(0.5 * market + own + 0.001, market).t > 3
        True

    Args:
        benchmark: None to compare with cash: then it is a test of the mean excess return.

    Source: Jensen (1968), "The Performance of Mutual Funds in the Period 1945-1964"; the appraisal ratio is that of
    Treynor and Black (1973), "How to Use Security Analysis to Improve Portfolio Selection"; see `long_run_variance`.
    """
    both = Beside.of(returns, returns if benchmark is None else benchmark, risk_free, periods)
    if both.own.count < _FEWEST:
        return _untested("too few")
    if reason := "" if benchmark is None else both.other_excess.why_no_deviation[0]:
        return _untested(reason)
    return _alpha_test(both.excess.values[0], None if benchmark is None else both.other_excess.values[0], periods)


_FEWEST = 4  # returns of which an autocorrelation can be estimated
_ROUNDING = 1e-9  # of returns: what the benchmark leaves of them where it explains them wholly


def _alpha_test(own: np.ndarray, other: np.ndarray | None, periods: float) -> AlphaTest:
    count, slope, mean, weights = len(own), 0.0, float(own.mean()), np.ones(len(own))
    if other is not None:
        away = other - other.mean()
        slope = float(own @ away / (away @ away))
        mean -= slope * float(other.mean())
        weights = 1 - away * float(other.mean() * count / (away @ away))
    left = own - mean - (0.0 if other is None else slope * other)
    if why_no_deviation(left) or np.ptp(left) <= _ROUNDING * np.ptp(own):
        return _untested("constant")
    estimated = 1 if other is None else 2  # coefficients
    error = math.sqrt(long_run_variance(weights * left) / count * (count - 1) / (count - estimated))
    t, spread = mean / error, float(left.std() * math.sqrt(count / (count - estimated)))
    return AlphaTest(
        mean * periods, slope, error * periods, t, math.erfc(t / math.sqrt(2)) / 2, mean / spread * math.sqrt(periods),
        float(left.var() / own.var()),
    )  # fmt: skip


def _untested(reason: str) -> AlphaTest:
    return AlphaTest(*(Undefined(reason) for _ in AlphaTest._fields))


def appraisal_ratio(
    returns: np.ndarray, benchmark: np.ndarray, risk_free: _Rate = 0.0, periods: float = SESSIONS
) -> float:
    """
    Return annual alpha over the annual deviation that the benchmark does not explain: the skill per unit of risk.

    Undefined if `alpha_test` is.

        >>> market, own = np.random.default_rng(1).normal(0, 0.01, (2, 2500))
        >>> math.isclose(appraisal_ratio(2 * market + own, market), appraisal_ratio(own, market))
        True

    Source: Treynor and Black (1973), "How to Use Security Analysis to Improve Portfolio Selection".
    """
    return alpha_test(returns, benchmark, risk_free, periods).appraisal


def correlation(returns: np.ndarray, benchmark: np.ndarray) -> float:
    """Return the correlation of both returns; undefined if either does not vary."""
    return correlation_by_row(Beside.of(returns, benchmark))[0]


def correlation_by_row(both: Beside) -> list[float]:
    """Return `correlation` of each run."""
    if not both.own.count:
        return too_few(both.own)
    whys = [why or both.other.why_no_deviation[0] for why in both.own.why_no_deviation]
    other = both.other.values[0] - both.other.means[0]
    away = both.own.values - both.own.means[:, None]
    found = zip(whys, dots(away, other).tolist(), (dots(away, away) * (other @ other)).tolist(), strict=True)
    return [Undefined(why) if why else product / math.sqrt(square) for why, product, square in found]


def tracking_error(returns: np.ndarray, benchmark: np.ndarray, periods: float = SESSIONS) -> float:
    """Return the annualised sample deviation (n - 1) of r - b; undefined for fewer than two returns."""
    return tracking_error_by_row(Beside.of(returns, benchmark, periods=periods))[0]


def tracking_error_by_row(both: Beside) -> list[float]:
    """Return `tracking_error` of each run."""
    return volatility_by_row(both.active, both.periods)


def information_ratio(returns: np.ndarray, benchmark: np.ndarray, periods: float = SESSIONS) -> float:
    """
    Return the mean of r - b over its sample deviation, times √periods; undefined if r - b does not vary.

    Source: Goodwin (1998), "The Information Ratio", the arithmetic version.
    """
    return information_ratio_by_row(Beside.of(returns, benchmark, periods=periods))[0]


def information_ratio_by_row(both: Beside) -> list[float]:
    """Return `information_ratio` of each run."""
    ratios = (one * math.sqrt(both.periods) for one in ratio_by_row(both.active))
    return where_defined(both.active.why_no_deviation, ratios)


def active_premium(returns: np.ndarray, benchmark: np.ndarray, periods: float = SESSIONS) -> float:
    """Return the steady annual growth minus the benchmark's; undefined without returns."""
    return active_premium_by_row(Beside.of(returns, benchmark, periods=periods))[0]


def active_premium_by_row(both: Beside) -> list[float]:
    """Return `active_premium` of each run."""
    if not both.own.count:
        return too_few(both.own)
    (other,) = cagr_of_by_row(both.other, both.periods)
    return [own - other for own in cagr_of_by_row(both.own, both.periods)]


def up_capture(returns: np.ndarray, benchmark: np.ndarray) -> float:
    """
    Return the mean compound return divided by the benchmark's, over the periods in which the benchmark rose.

    Undefined if the benchmark never rose.
    """
    return up_capture_by_row(Beside.of(returns, benchmark))[0]


def up_capture_by_row(both: Beside) -> list[float]:
    """Return `up_capture` of each run."""
    return _captures(both, both.other.values[0] > 0, "no gain")


def down_capture(returns: np.ndarray, benchmark: np.ndarray) -> float:
    """
    Return the mean compound return divided by the benchmark's, over the periods in which the benchmark fell.

    Undefined if the benchmark never fell.
    """
    return down_capture_by_row(Beside.of(returns, benchmark))[0]


def down_capture_by_row(both: Beside) -> list[float]:
    """Return `down_capture` of each run."""
    return _captures(both, both.other.values[0] < 0, "no loss")


def active_drawdown(returns: np.ndarray, benchmark: np.ndarray) -> float:
    """
    Return the deepest drawdown of wealth relative to the benchmark's, from 1 at the start: never positive.

    Undefined without returns, and if the benchmark lost everything.
    """
    return active_drawdown_by_row(Beside.of(returns, benchmark))[0]


def active_drawdown_by_row(both: Beside) -> list[float]:
    """Return `active_drawdown` of each run."""
    if not both.own.count:
        return too_few(both.own)
    if both.other.lows[0] <= -1:
        return [Undefined("ruined") for _ in both.own.values]
    relative = (1 + both.own.values) / (1 + both.other.values) - 1
    begun = np.ones((len(relative), 1))
    return max_drawdown_by_row(EquityRows.of(np.hstack([begun, np.cumprod(1 + relative, axis=1)])))


def treynor(returns: np.ndarray, benchmark: np.ndarray, risk_free: _Rate = 0.0, periods: float = SESSIONS) -> float:
    """
    Return the steady annual growth of excess returns over beta; undefined if beta is undefined or 0.

    Source: Treynor (1965), "How to Rate Management of Investment Funds"; compounded as in PerformanceAnalytics.
    """
    return treynor_by_row(Beside.of(returns, benchmark, risk_free, periods))[0]


def treynor_by_row(both: Beside) -> list[float]:
    """Return `treynor` of each run."""
    found = zip(beta_by_row(both), cagr_of_by_row(both.excess, both.periods), strict=True)
    return [
        slope if slope != slope else Undefined("constant") if not slope else growth / slope if growth == growth
        else growth for slope, growth in found
    ]  # fmt: skip


def m2(returns: np.ndarray, benchmark: np.ndarray, risk_free: _Rate = 0.0, periods: float = SESSIONS) -> float:
    """
    Return the annual growth that the returns would have had at the benchmark's volatility, levered with cash.

    Undefined for fewer than two returns, or if all are equal.

    Source: Modigliani and Modigliani (1997), "Risk-Adjusted Performance".
    """
    return m2_by_row(Beside.of(returns, benchmark, risk_free, periods))[0]


def m2_by_row(both: Beside) -> list[float]:
    """Return `m2` of each run."""
    if both.own.count < 2:
        return too_few(both.own)
    cash = Rows(both.own.values - both.excess.values)
    numbers = [cagr_of_by_row(one, both.periods) for one in (both.excess, cash)]
    deviation = both.other_excess.deviations[0]
    found = zip(both.excess.why_no_deviation, *numbers, both.excess.deviations, strict=True)
    return [
        Undefined(why) if why else float(growth * deviation / own + of_cash) if growth == growth else growth
        for why, growth, of_cash, own in found
    ]


def _captures(both: Beside, chosen: np.ndarray, reason: str) -> list[float]:
    if not chosen.any():
        return [Undefined(reason) for _ in both.own.values]
    own, other = (cagr_of_by_row(Rows(np.compress(chosen, one.values, axis=1)), 1.0) for one in (both.own, both.other))
    return [growth / other[0] for growth in own]
