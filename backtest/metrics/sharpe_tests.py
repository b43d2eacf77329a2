"""
How far to trust a Sharpe ratio, as pure functions of a few numbers or of arrays.

A Sharpe ratio here is per period, not annualised, unless stated otherwise: divide an annual one by √periods. Kurtosis
is excess kurtosis, 0 for the normal distribution. An undefined result is `Undefined`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from backtest.metrics.ratios import ratio_by_row
from backtest.metrics.returns import (
    SESSIONS,
    Rows,
    Undefined,
    autocorrelations_by_row,
    long_run_variances_of_sums,
    normal,
)

CONFIDENCE = 0.95
BLOCKS = 16  # of `overfitting`; 12,870 ways to choose half of them

_CHUNK = 128  # ways at a time, which is what a processor's cache can hold


class Moments(NamedTuple):
    """The inputs of the tests of a Sharpe ratio: the ratio of one period, and the moments that determine its error."""

    ratio: float
    size: int  # how many returns
    skew: float
    kurtosis: float  # excess


def moments(returns: np.ndarray, risk_free: float | np.ndarray = 0.0, periods: float = SESSIONS) -> Moments:
    """
    Return the moments of excess returns, in the order in which functions such as `sharpe_error` take them.

    Undefined for fewer than two returns, or if all are equal.

    Pass them on as in `probabilistic_sharpe(*moments(returns))`.

        >>> moments(np.array([0.02, -0.01, 0.03, 0.0])).ratio
        0.5477...
    """
    return moments_by_row(Rows.of(returns).above(risk_free, periods))[0]


def moments_by_row(excess: Rows) -> list[Moments]:
    """Return `moments` of each run, of what its returns are above the risk-free rate."""
    found = zip(excess.why_no_deviation, ratio_by_row(excess), excess.shapes, strict=True)
    return [Moments(Undefined(why) if why else ratio, excess.count, *shape) for why, ratio, shape in found]


def sharpe_error(ratio: float, count: int, skew: float = 0.0, kurtosis: float = 0.0) -> float:
    """
    Return the standard error of a Sharpe ratio S from n = `count` independent returns, whatever their distribution.

    √((1 - skew·S + (kurtosis + 2) / 4·S²) / (n - 1)). Undefined for fewer than two, or moments that no sample can have.

        >>> sharpe_error(0.7079, 134, skew=-0.225, kurtosis=2.957 - 3)
        0.1027...

    Source: Mertens (2002), "Comments on Variance of the IID Estimator in Lo (2002)"; over n - 1, as in Bailey and
    López de Prado (2012), "The Sharpe Ratio Efficient Frontier".
    """
    if ratio != ratio or count < 2:
        return ratio if ratio != ratio else Undefined("too few")
    variance = _variance(ratio, skew, kurtosis)
    return math.sqrt(variance / (count - 1)) if variance > 0 else Undefined("impossible moments")


def sharpe_error_normal(ratio: float, count: int) -> float:
    """
    Return the standard error of a Sharpe ratio S from n = `count` independent and normal returns.

    √((1 + S² / 2) / n). Undefined without returns.

        >>> sharpe_error_normal(0.5, 60)
        0.1369...

    Source: Lo (2002), "The Statistics of Sharpe Ratios", equation 9.
    """
    if ratio != ratio or count < 1:
        return ratio if ratio != ratio else Undefined("too few")
    return math.sqrt((1 + ratio**2 / 2) / count)


def sharpe_error_autocorrelated(
    returns: np.ndarray, risk_free: float | np.ndarray = 0.0, periods: float = SESSIONS
) -> float:
    """
    Return the standard error of the Sharpe ratio of one period, allowing for dependence of returns and their squares.

    √(V / n), with V the long-run variance of the sum of both parts of `sharpe_influence`. Undefined for fewer than two
    returns, or if all are equal.

        >>> both = np.random.default_rng(1).normal(0, 1, 1001)
        >>> sharpe_error_autocorrelated((both[1:] + both[:-1]) / 100) > sharpe_error(0.0, 1000)
        True

    Source: Lo (2002), "The Statistics of Sharpe Ratios", section "Non-IID Returns", where V is that of returns and of
    their squares; as in Ledoit and Wolf (2008), "Robust Performance Hypothesis Testing with the Sharpe Ratio", but by
    `long_run_variance_of_sum`.
    """
    return _errors_by_row(Rows.of(returns).above(risk_free, periods))[0]


def _errors_by_row(excess: Rows) -> list[float]:
    rows = [row for row, why in enumerate(excess.why_no_deviation) if not why]
    found: list[float] = [Undefined(why) for why in excess.why_no_deviation]
    if not rows:
        return found
    scores, squares = sharpe_influence_by_row(excess if len(rows) == len(found) else Rows(excess.values[rows]))
    for row, variance in zip(rows, long_run_variances_of_sums(scores, squares).tolist(), strict=True):
        found[row] = math.sqrt(variance / excess.count)
    return found


def sharpe_influence(excess: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Return the influence of each excess return on the Sharpe ratio S of one period, in two parts.

    Through the mean it is z, and through the deviation -S·(z² - 1) / 2, with z the standardised return.
    """
    scores, squares = sharpe_influence_by_row(Rows(np.atleast_2d(excess)))
    return scores[0], squares[0]


def sharpe_influence_by_row(excess: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Return `sharpe_influence` of each run, both parts of shape (runs, n)."""
    scores = (excess.values - excess.means[:, None]) / excess.deviations[:, None]
    return np.asarray(scores), np.asarray(-(excess.means / excess.deviations / 2)[:, None] * (scores**2 - 1))


def sharpe_interval_autocorrelated(
    returns: np.ndarray,
    risk_free: float | np.ndarray = 0.0,
    periods: float = SESSIONS,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """
    Return the confidence interval of the annual Sharpe ratio, by `sharpe_error_autocorrelated`.

    Undefined for fewer than two returns, or if all are equal.
    """
    return sharpe_interval_autocorrelated_by_row(Rows.of(returns).above(risk_free, periods), periods, confidence)[0]


def sharpe_interval_autocorrelated_by_row(
    excess: Rows, periods: float = SESSIONS, confidence: float = CONFIDENCE
) -> list[tuple[float, float]]:
    """Return `sharpe_interval_autocorrelated` of each run, of what its returns are above the risk-free rate."""
    reach, yearly = critical(confidence), math.sqrt(periods)
    found = zip(ratio_by_row(excess), _errors_by_row(excess), strict=True)
    return [
        ((ratio - reach * error) * yearly, (ratio + reach * error) * yearly) if error == error else (error, error)
        for ratio, error in found
    ]


def critical(confidence: float) -> float:
    """Return the half-width of an interval in standard errors, 1.96 for 95 %."""
    return normal().inv_cdf((1 + _checked(confidence)) / 2)


def sharpe_scale(correlations: np.ndarray, periods: int) -> float:
    """
    Return η(q), the factor from the Sharpe ratio of one period to that of q; √q without autocorrelation.

    q / √(q + 2·Σ(q - k)·ρ_k) over the lags k = 1, 2, ...

        >>> sharpe_scale(0.2 ** np.arange(1, 12), 12)
        2.8788...

    Args:
        correlations: the autocorrelations at the lags 1, 2, ...; beyond the last they are assumed to be 0.
        periods: q.

    Source: Lo (2002), "The Statistics of Sharpe Ratios", equation 20.
    """
    lags = np.arange(1, min(len(correlations), periods - 1) + 1)
    variance = periods + 2 * float((periods - lags) @ np.asarray(correlations, dtype=float)[: len(lags)])
    return periods / math.sqrt(variance) if variance > 0 else Undefined("impossible moments")


def sharpe_autocorrelated(
    returns: np.ndarray, risk_free: float | np.ndarray = 0.0, periods: float = SESSIONS, lags: int = 5
) -> float:
    """
    Return the annual Sharpe ratio, by Lo's η(q) with the first `lags` autocorrelations in place of √periods.

    Undefined for fewer than two returns, if all are equal, or for autocorrelations that no sample can have.

    Source: Lo (2002), "The Statistics of Sharpe Ratios".
    """
    return sharpe_autocorrelated_by_row(Rows.of(returns).above(risk_free, periods), periods, lags)[0]


def sharpe_autocorrelated_by_row(excess: Rows, periods: float = SESSIONS, lags: int = 5) -> list[float]:
    """Return `sharpe_autocorrelated` of each run, of what its returns are above the risk-free rate."""
    correlations = autocorrelations_by_row(excess, min(lags, excess.count - 1))
    found = zip(excess.why_no_deviation, ratio_by_row(excess), correlations, strict=True)
    return [Undefined(why) if why else _scaled(ratio, own, periods) for why, ratio, own in found]


def _scaled(ratio: float, correlations: np.ndarray, periods: float) -> float:
    scale = sharpe_scale(correlations, round(periods))
    return ratio * scale if scale == scale else scale


def sharpe_interval(
    ratio: float,
    count: int,
    skew: float = 0.0,
    kurtosis: float = 0.0,
    periods: float = 1.0,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """
    Return the confidence interval of the Sharpe ratio over a number of periods, by `sharpe_error`.

    It assumes independent returns; for autocorrelated ones see `sharpe_interval_autocorrelated`. Undefined for fewer
    than two returns, if all are equal, or for moments that no sample can have.

    Source: Mertens (2002), "Comments on Variance of the IID Estimator in Lo (2002)".
    """
    error = sharpe_error(ratio, count, skew, kurtosis)
    if error != error:
        return error, error
    reach = critical(confidence) * error
    return (ratio - reach) * math.sqrt(periods), (ratio + reach) * math.sqrt(periods)


def probabilistic_sharpe(
    ratio: float, count: int, skew: float = 0.0, kurtosis: float = 0.0, threshold: float = 0.0
) -> float:
    """
    Return the probability (PSR) that the true Sharpe ratio is above a threshold.

    Φ((S - threshold) / error), with `sharpe_error`. Divide annual ratios, and an annual threshold, by √periods: by √12
    for months.

        >>> probabilistic_sharpe(2 / math.sqrt(12), 59, skew=-0.72, kurtosis=5.78 - 3, threshold=1 / math.sqrt(12))
        0.9486...

    Undefined for fewer than two returns, if all are equal, or for moments that no sample can have.

    Source: Bailey and López de Prado (2012), "The Sharpe Ratio Efficient Frontier".
    """
    error = sharpe_error(ratio, count, skew, kurtosis)
    return _cumulative((ratio - threshold) / error) if error == error else error


def sharpe_difference_error(first: float, second: float, correlation: float, count: int) -> float:
    """
    Return the standard error of the difference of two Sharpe ratios from the same `count` periods.

    It assumes normal returns, independent from period to period. Undefined for fewer than two periods, and if one run's
    returns are a multiple of the other's, since their ratios are then always equal.

    Source: Jobson and Korkie (1981), "Performance Hypothesis Testing with the Sharpe and Treynor Measures", as
    corrected by Memmel (2003), "Performance Hypothesis Testing with the Sharpe Ratio".
    """
    if count < 2:
        return Undefined("too few")
    squares = first**2 + second**2 - 2 * first * second * correlation**2
    variance = 2 * (1 - correlation) + squares / 2
    return math.sqrt(variance / count) if variance > 1e-12 else Undefined("constant")  # of about 2: rounding


def probability_of_no_difference(difference: float, error: float) -> float:
    """Return the probability of at least such a difference, of either sign, by chance: the p of a normal score."""
    return math.erfc(abs(difference / error) / math.sqrt(2)) if error == error else error


def minimum_track_record(
    ratio: float, skew: float = 0.0, kurtosis: float = 0.0, threshold: float = 0.0, confidence: float = CONFIDENCE
) -> float:
    """
    Return how many returns it takes (MinTRL) to establish at a confidence that a Sharpe ratio is above a threshold.

    1 + (1 - skew·S + (kurtosis + 2) / 4·S²)·(z / (S - threshold))², with z the normal quantile of the confidence.
    Divide it by the periods per year to get years.

        >>> minimum_track_record(0.7079, skew=-0.225, kurtosis=2.957 - 3) / 12
        0.715...

    Undefined if the ratio is not above the threshold (no length suffices), or is undefined itself.

    Source: Bailey and López de Prado (2012), "The Sharpe Ratio Efficient Frontier".
    """
    if not ratio > threshold:
        return ratio if ratio != ratio else Undefined("below the threshold")
    variance = _variance(ratio, skew, kurtosis)
    return 1 + variance * (normal().inv_cdf(_checked(confidence)) / (ratio - threshold)) ** 2


def expected_maximum(trials: int) -> float:
    """
    Return the expected maximum of that many standard normal draws; 0 for one.

    (1 - γ)·z(1 - 1 / N) + γ·z(1 - 1 / (N·e)), with γ = 0.5772... and z the normal quantile. Multiplied by the deviation
    of the Sharpe ratios of N trials, it is the ratio that the best of them is expected to reach without skill.

        >>> expected_maximum(100)
        2.5306...

    Raises:
        ValueError: there is no trial.

    Source: Bailey and López de Prado (2014), "The Deflated Sharpe Ratio", by extreme value theory.
    """
    if not trials >= 1:
        raise ValueError(f"there are {trials} trials; count all that were tried, including the best one")
    if trials < 2:
        return 0.0
    first, second = normal().inv_cdf(1 - 1 / trials), normal().inv_cdf(1 - 1 / (trials * math.e))
    return float((1 - np.euler_gamma) * first + np.euler_gamma * second)


def minimum_backtest_years(trials: int, ratio: float) -> float:
    """
    Return the years of data (MinBTL) below which the best of N trials without skill is expected to reach a ratio.

    (expected_maximum(N) / ratio)²: a shorter backtest is no evidence about the best of N trials.

        >>> minimum_backtest_years(45, 1.0)
        4.99...

    `ratio` is an annual Sharpe ratio; undefined if it is not above 0.

    Source: Bailey, Borwein, López de Prado and Zhu (2014), "Pseudo-Mathematics and Financial Charlatanism".
    """
    return (expected_maximum(trials) / ratio) ** 2 if ratio > 0 else Undefined("below the threshold")


def deflated_sharpe(
    ratio: float, count: int, skew: float, kurtosis: float, trials: int, trials_deviation: float
) -> float:
    """
    Return the probability (DSR) that the true Sharpe ratio of the best of several trials is above 0.

    `probabilistic_sharpe` with a threshold of `trials_deviation`·`expected_maximum(trials)`.

        >>> deflated_sharpe(2.5 / math.sqrt(250), 1250, -3, 10 - 3, trials=100, trials_deviation=math.sqrt(0.5 / 250))
        0.9003...

    Args:
        ratio: Sharpe ratio of the best trial, per period.
        count: number of its returns.
        skew: skew of its returns.
        kurtosis: excess kurtosis of its returns.
        trials: the number of all trials.
        trials_deviation: sample standard deviation (n - 1) of their Sharpe ratios, also per period.

    Source: Bailey and López de Prado (2014), "The Deflated Sharpe Ratio".
    """
    hurdle = trials_deviation * expected_maximum(trials) if trials > 1 else 0.0
    return probabilistic_sharpe(ratio, count, skew, kurtosis, hurdle)


def overfitting(returns: np.ndarray, blocks: int = BLOCKS) -> float:
    """
    Return the probability of backtest overfitting (PBO) by combinatorially symmetric cross-validation.

    It is the fraction, among all ways to choose half of the blocks, for which the trial with the best Sharpe ratio in
    that half is not above the median of the trials in the other half. Undefined if a trial does not vary in some half.

        >>> noise = np.random.default_rng(1).normal(0, 0.01, 400)
        >>> overfitting(np.column_stack([noise, noise + 0.01]), blocks=8)  # the second is the better one everywhere
        0.0

    Args:
        returns: the returns of all trials, a column per trial, shape (n, trials), in order of time; the remainder after
            division into equal blocks is omitted.
        blocks: the number of blocks, even.

    Source: Bailey, Borwein, López de Prado and Zhu (2017), "The Probability of Backtest Overfitting".
    """
    returns = np.asarray(returns, dtype=float)
    if blocks < 2 or blocks % 2 or returns.ndim != 2 or returns.shape[1] < 2 or len(returns) < blocks:
        raise ValueError(
            f"{blocks} blocks of {returns.shape} returns; it takes an even number of blocks and two trials"
        )
    return overfitting_of(Blocks.of_each(returns, blocks))


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """The statistics of a trial's returns, in equal blocks, that `overfitting` needs: a few hundred bytes."""

    count: int  # of returns, with those that are over at the end
    moves: bool  # whether they are not all the same
    mean: float  # of those in blocks
    sums: np.ndarray  # of each block, of what a return is above the mean, shape (blocks,)
    squares: np.ndarray  # of the same
    highs: np.ndarray  # the largest return
    lows: np.ndarray

    @classmethod
    def of_each(cls, returns: np.ndarray, blocks: int = BLOCKS) -> list[Blocks]:
        """Return the blocks of each trial; equal trials have equal ones, whatever others they are cut with."""
        count, trials = returns.shape
        if trials == 1:  # numpy adds up a column in another order than columns, which would not tie with its equals
            return cls.of_each(np.repeat(returns, 2, axis=1), blocks)[:1]
        size = count // blocks
        if not size:
            nothing = np.zeros(0)
            return [cls(count, count > 0, math.nan, nothing, nothing, nothing, nothing) for _ in range(trials)]
        cut = np.ascontiguousarray(returns[: size * blocks]).reshape(blocks, size, trials)
        means = cut.mean(axis=(0, 1))
        away = cut - means  # so that the sums of squares lose no digits
        of_blocks = [away.sum(axis=1), (away**2).sum(axis=1), cut.max(axis=1), cut.min(axis=1)]
        moves = np.ptp(returns, axis=0) > 0
        rows = zip(*(np.ascontiguousarray(one.T) for one in of_blocks), strict=True)
        return [
            cls(count, bool(moving), float(mean), *own) for moving, mean, own in zip(moves, means, rows, strict=True)
        ]


def overfitting_of(trials: Sequence[Blocks]) -> float:
    """Return `overfitting` of trials with the same number of returns, by their blocks."""
    blocks, count = len(trials[0].sums), trials[0].count // len(trials[0].sums) * len(trials[0].sums) // 2
    if any(_stands_still(one) for one in trials):
        return Undefined("constant")
    halves = np.array(list(combinations(range(blocks), blocks // 2)))
    first = halves[: len(halves) // 2]  # the second half of all ways are the complements, in reverse order
    both = [_Halves.of(trials, part) for part in (first, _others(first, blocks))]
    means, lost = np.array([one.mean for one in trials]), 0
    for at in range(0, len(first), _CHUNK):
        inside, outside = (_ratios_of(part, slice(at, at + _CHUNK), means, count) for part in both)
        if not (np.isfinite(inside).all() and np.isfinite(outside).all()):
            return Undefined("constant")
        lost += int(_not_above_median(inside, outside).sum() + _not_above_median(outside, inside).sum())
    return lost / len(halves)


def _checked(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"the confidence is {confidence}; write 0.95 for 95 %")
    return confidence


def _variance(ratio: float, skew: float, kurtosis: float) -> float:
    return 1 - skew * ratio + (kurtosis + 2) / 4 * ratio**2


def _cumulative(score: float) -> float:
    return math.erfc(-score / math.sqrt(2)) / 2


def _others(halves: np.ndarray, blocks: int) -> np.ndarray:
    chosen = np.zeros((len(halves), blocks), dtype=bool)
    np.put_along_axis(chosen, halves, True, axis=1)
    return np.nonzero(~chosen)[1].reshape(halves.shape)


def _stands_still(trial: Blocks) -> bool:
    """Return whether all returns of a trial are equal throughout some half."""
    values, counts = np.unique(trial.highs[trial.highs <= trial.lows], return_counts=True)
    return bool(len(values) and counts.max() >= len(trial.highs) // 2)


class _Halves(NamedTuple):
    """The blocks of each trial, and those in each half; halves with the same first blocks are adjacent."""

    chosen: np.ndarray  # shape (halves, blocks / 2)
    begins: np.ndarray  # whether the first blocks of a half, one, two, ..., are not those of the half before; as chosen
    parts: tuple[np.ndarray, np.ndarray]  # sums and squares of each block, shape (blocks, trials)

    @classmethod
    def of(cls, trials: Sequence[Blocks], chosen: np.ndarray) -> _Halves:
        parts = np.array([one.sums for one in trials]).T, np.array([one.squares for one in trials]).T
        begins = np.ones(chosen.shape, bool)
        begins[1:] = np.logical_or.accumulate(chosen[1:] != chosen[:-1], axis=1)
        return cls(chosen, begins, (np.ascontiguousarray(parts[0]), np.ascontiguousarray(parts[1])))

    def sums(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return sums and squares of some halves, block after block, shape (halves, trials)."""
        # Not a matrix product, which may round equal columns differently: trials that are equal must tie.
        chosen, begins = self.chosen[rows], self.begins[rows].copy()
        begins[0] = True
        found, before = [np.zeros((1, part.shape[1])) for part in self.parts], np.zeros(1, np.int64)
        for block in range(chosen.shape[1]):
            own = np.flatnonzero(begins[:, block])  # where the sum of so many first blocks is another
            shared = np.searchsorted(before, own, side="right") - 1
            for which, part in enumerate(self.parts):
                added = part.take(chosen[own, block], axis=0)
                if block:
                    added += found[which].take(shared, axis=0)
                found[which] = added
            before = own
        return found[0], found[1]


def _ratios_of(halves: _Halves, rows: slice, averages: np.ndarray, count: int) -> np.ndarray:
    """Return the Sharpe ratio of each trial in some halves, shape (halves, trials), from sums of blocks."""
    means, squares = halves.sums(rows)
    means /= count  # in place, as fresh memory costs more than the numbers
    away = means * means
    away *= count
    squares -= away
    np.maximum(squares, 0, out=squares)
    squares /= max(count - 1, 1)
    np.sqrt(squares, out=squares)
    means += averages
    with np.errstate(divide="ignore", invalid="ignore"):
        means /= squares
    return means


def _not_above_median(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
    winners = inside.argmax(axis=1)
    reached = np.take_along_axis(outside, winners[:, None], axis=1)
    below, equal = (np.count_nonzero(one, axis=1) for one in (outside < reached, outside == reached))
    rank = below + (equal + 1) / 2
    return np.asarray(rank <= (outside.shape[1] + 1) / 2)
