"""Confidence intervals of metrics by resampling sessions and trades."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from backtest.metrics.account import Account, Accounts
from backtest.metrics.returns import (
    Rows,
    Undefined,
    autocorrelations,
    equity_of,
    excess_returns,
    long_run_variance_of_sum,
)
from backtest.metrics.sharpe_tests import CONFIDENCE, sharpe_influence_by_row
from backtest.metrics.table import METRICS, measure_all
from backtest.metrics.trades import Trades

SAMPLES = 1000
# The headline numbers that resampled sessions, or resampled trades, have too. Days of the calendar, turnover and the
# count of trades have no meaning there.
OF_SESSIONS = ("total_return", "cagr", "volatility", "sharpe", "sortino", "max_drawdown", "max_drawdown_sessions",
               "calmar", "exposure")  # fmt: skip
OF_TRADES = ("win_rate", "profit_factor", "expectancy", "sqn")


@dataclass(frozen=True, slots=True)
class Intervals:
    """The confidence interval of each metric, by resampling, and how it was computed."""

    intervals: dict[str, tuple[float, float]]
    confidence: float
    samples: int
    block: float  # mean length of the blocks of sessions
    seed: int

    @property
    def basis(self) -> str:
        """How the intervals were computed, in a sentence."""
        return (
            f"{self.confidence:.0%} confidence intervals".replace("%", " %") + ": stationary bootstrap, "
            f"{self.samples:,} samples, mean block {self.block:.1f} sessions; trades resampled individually; seed "
            f"{self.seed}. The intervals of return, CAGR, volatility and Sharpe ratio are studentised."
        )


def bootstrap(
    run: Account, samples: int = SAMPLES, seed: int = 0, confidence: float = CONFIDENCE, block: float | None = None
) -> Intervals:
    """
    Return the intervals of the headline metrics.

    Sessions are drawn in blocks of random length, which preserve their dependence; trades one by one. A metric that is
    undefined in more than half of the samples has no interval, and neither do fewer than two sessions or trades.

    Args:
        run: see `account.sample`.
        block: mean length of blocks, which the standard errors use too; by default the longest `block_length` of
            returns, of their squares (volatility clustering) and of exposure.

    Source: Politis and Romano (1994), "The Stationary Bootstrap"; intervals are percentile intervals; those of
    _STUDENTISED are studentised, after Götze and Künsch (1996), "Second-Order Correctness of the Blockwise Bootstrap
    for Stationary Observations", so that they are not too narrow; from ten blocks on.
    """
    random = np.random.default_rng(seed)
    length = _block_of(run) if block is None else block
    drawn, distances, first = dict[str, list[float]](), list[dict[str, float]](), _estimates([run])[0]
    draws = _resampled(run, samples, length, random)
    while several := list(islice(draws, max(_AT_ONCE // max(len(run.returns), 1), 1))):
        runs = [one for _, one in several]
        for name, numbers in _numbers_of(runs).items():
            drawn.setdefault(name, []).extend(numbers)
        few = max(_IN_CACHE // max(len(run.returns), 1), 1)
        estimates = [one for n in range(0, len(runs), few) for one in _estimates(runs[n : n + few])]
        distances += [_distances(first, one, rows) for one, (rows, _) in zip(estimates, several, strict=True)]
    found = {name: _percentiles(np.array(drawn.get(name, [])), confidence) for name in OF_SESSIONS + OF_TRADES}
    for name, (estimate, number) in _STUDENTISED.items():
        if first and len(run.returns) >= _FEWEST_BLOCKS * length and found[name][0] == found[name][0]:
            value, values, squares = first[estimate]
            error = math.sqrt(_variance(values, squares, block) / len(values))
            low, high = _percentiles(np.array([one[estimate] for one in distances]), confidence)
            found[name] = number(value - high * error, run), number(value - low * error, run)
    for names, many in ((OF_SESSIONS, run.returns), (OF_TRADES, run.net)):
        if len(many) < 2:  # a single item resampled is always the same
            found |= dict.fromkeys(names, (Undefined("too few"), Undefined("too few")))
    return Intervals(found, confidence, samples, length, seed)


def block_length(returns: np.ndarray) -> float:
    """
    Return the mean block length that minimises the error of a stationary bootstrap of the mean; at least 1.

    Source: Politis and White (2004), "Automatic Block-Length Selection for the Dependent Bootstrap", as corrected by
    Patton, Politis and White (2009).
    """
    count = len(returns)
    if count < 4 or np.ptp(returns) == 0:
        return 1.0
    row = max(5, math.ceil(math.log10(count)))  # so many lags without correlation are the end of it
    lags = min(math.ceil(math.sqrt(count)) + row, count - 1)
    correlations = autocorrelations(np.asarray(returns, dtype=float), lags)
    reach = min(2 * _last_lag(correlations, row, count), lags)
    if not reach:
        return 1.0
    lag = np.arange(1, reach + 1)
    weighted = np.minimum(1, 2 * (1 - lag / reach)) * correlations[:reach]
    bias, spread = 2 * float(lag @ weighted), 1 + 2 * float(weighted.sum())
    longest = math.ceil(min(3 * math.sqrt(count), count / 3))
    return float(np.clip((bias**2 / spread**2 * count) ** (1 / 3), 1, longest)) if spread else float(longest)


def block_rows(count: int, block: float, random: np.random.Generator) -> np.ndarray:
    """Return positions in a series of `count`, drawn in blocks of geometric length that wrap around at the end."""
    fresh = random.random(count) < 1 / block
    fresh[0] = True
    starts = np.flatnonzero(fresh)
    shifts = random.integers(0, count, len(starts)) - starts
    rows = np.repeat(shifts, np.diff(starts, append=count)) + np.arange(count)
    return np.asarray(np.subtract(rows, count, out=rows, where=rows >= count))  # each begins and is below the count


def block_variance(values: np.ndarray, rows: np.ndarray) -> float:
    """
    Return the long-run variance of values drawn in blocks, from the sums of the blocks.

    Args:
        values: the values in the order of the draw, with a mean of 0, shape (n,).
        rows: the result of `block_rows`.
    """
    return _variance_of_blocks(values, _starts(rows))


def _starts(rows: np.ndarray) -> np.ndarray:
    """Return where the blocks begin among positions drawn in blocks."""
    steps = np.diff(rows)
    return np.flatnonzero(np.append(True, (steps != 1) & (steps != 1 - len(rows))))


def _variance_of_blocks(values: np.ndarray, starts: np.ndarray) -> float:
    return float((np.add.reduceat(values, starts) ** 2).sum() / len(values))


# A number, and the influence of each session on it: through its return, and through the square of that.
_Estimates = dict[str, tuple[float, np.ndarray, np.ndarray]]
# What is a smooth function of means: the estimate that it is made of, and how.
_STUDENTISED: dict[str, tuple[str, Callable[[float, Account], float]]] = {
    "total_return": ("growth", lambda value, run: math.expm1(value * len(run.returns))),
    "cagr": ("growth", lambda value, run: math.expm1(value * run.periods)),
    "volatility": ("spread", lambda value, run: math.exp(value) * math.sqrt(run.periods)),
    "sharpe": ("ratio", lambda value, run: value * math.sqrt(run.periods)),
}


def _estimates(runs: Sequence[Account]) -> list[_Estimates]:
    """Return the growth, log deviation and Sharpe ratio per session of each run; none for a run without these."""
    returns = Rows.of(np.stack([run.returns for run in runs]))
    if isinstance(runs[0].risk_free, np.ndarray):  # that of the sessions that were drawn
        excess = Rows(np.stack([excess_returns(run.returns, run.risk_free, run.periods) for run in runs]))
    else:
        excess = returns.above(runs[0].risk_free, runs[0].periods)
    reasons = zip(excess.why_no_deviation, returns.why_no_deviation, strict=True)
    whole = [number for number, why in enumerate(reasons) if not any(why) and returns.lows[number] > -1]
    found: list[_Estimates] = [{} for _ in runs]
    if not whole:
        return found
    if len(whole) < len(runs):
        returns, excess = Rows(returns.values[whole]), Rows(excess.values[whole])
    growths, spreads = np.log1p(returns.values), returns.deviations
    squares = ((returns.values - returns.means[:, None]) / spreads[:, None]) ** 2
    numbers = growths.mean(axis=1).tolist(), map(math.log, spreads), (excess.means / excess.deviations).tolist()
    nothing, (of_ratio, of_ratio_squares) = np.zeros_like(growths), sharpe_influence_by_row(excess)
    by_values = growths - growths.mean(axis=1)[:, None], nothing, of_ratio
    by_squares = nothing, (squares - squares.mean(axis=1)[:, None]) / 2, of_ratio_squares
    for number, *row in zip(whole, *numbers, *by_values, *by_squares, strict=True):
        parts = zip(row[:3], row[3:6], row[6:], strict=True)
        found[number] = dict(zip(("growth", "spread", "ratio"), parts, strict=True))
    return found


def _distances(first: _Estimates, drawn: _Estimates, rows: np.ndarray) -> dict[str, float]:
    """Return how far each estimate of a draw is from the first one, in standard errors of the draw."""
    if not first or not drawn:
        return dict.fromkeys(first, math.nan)
    starts = _starts(rows)
    return {
        name: (value - first[name][0])
        / math.sqrt(max(_variance_of_blocks(values + squares, starts), _TINY) / len(rows))
        for name, (value, values, squares) in drawn.items()
    }


_TINY = 1e-300
_AT_ONCE = 30_000  # sessions of draws whose metrics are made together
_IN_CACHE = 8_000  # sessions of draws whose estimates are made together
_FEWEST_BLOCKS = 10  # of which an error can be estimated


def _variance(values: np.ndarray, squares: np.ndarray, block: float | None) -> float:
    """Return the long-run variance of a sum: that of the data, or that preserved by blocks of a mean length."""
    if block is None:
        return long_run_variance_of_sum(values, squares)
    count = len(values)
    spectrum = np.abs(np.fft.rfft(values + squares)) ** 2  # sums of products go round, as the blocks do
    products = np.fft.irfft(spectrum, count) / count
    lags = np.arange(1, count)
    kept = (1 - lags / count) * (1 - 1 / block) ** lags  # Politis and Romano (1994), lemma 1
    return max(float(products[0] + 2 * kept @ products[1:]), _TINY)


def _block_of(run: Account) -> float:
    return max(block_length(one) for one in (run.returns, run.returns**2, run.held.astype(float)))


def _resampled(
    run: Account, samples: int, block: float, random: np.random.Generator
) -> Iterator[tuple[np.ndarray, Account]]:
    sessions, trades = len(run.returns), len(run.net)
    nothing = Trades.none()  # OF_TRADES are metrics of the net results alone: the rest is not drawn
    for _ in range(samples):
        rows = block_rows(sessions, block, random) if sessions else np.array([], dtype=int)
        returns = run.returns[rows]
        rates = run.risk_free[rows] if isinstance(run.risk_free, np.ndarray) else run.risk_free
        yield rows, replace(
            run, returns=returns, equity=equity_of(returns, run.equity[0]), held=run.held[rows], risk_free=rates,
            trades=replace(nothing, net=run.net.take(random.integers(0, max(trades, 1), trades))),
        )  # fmt: skip


def _numbers_of(runs: Sequence[Account]) -> dict[str, list[float]]:
    """Return the metrics of each draw, computed at once if the draws share the risk-free rate."""
    names = OF_SESSIONS + OF_TRADES
    if isinstance(runs[0].risk_free, np.ndarray):
        return {name: [float(METRICS[name].function(run)) for run in runs] for name in names}
    return {name: numbers.tolist() for name, numbers in measure_all(Accounts.of(runs), names).items()}


def _percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if len(known) <= len(values) / 2:
        return Undefined("undefined"), Undefined("undefined")
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _last_lag(correlations: np.ndarray, row: int, count: int) -> int:
    """Return the last lag before several without significant correlation; 0 if the first ones are such."""
    significant = np.abs(correlations) > 1.96 * math.sqrt(math.log10(count) / count)
    places = np.flatnonzero(significant)
    edges = np.concatenate([[-1], places, [len(correlations) + row]])
    gaps = np.flatnonzero(np.diff(edges) > row)
    return int(edges[gaps[0]]) + 1
