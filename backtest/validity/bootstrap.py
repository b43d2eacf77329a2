"""Intervals of numbers by resampling sessions and trades."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from backtest.metrics.account import Account
from backtest.metrics.returns import Undefined, autocorrelations, equity_of
from backtest.metrics.sharpe_tests import CONFIDENCE
from backtest.metrics.table import METRICS

SAMPLES = 1000
# The headline numbers that resampled sessions, or resampled trades, have too. Days of the calendar, turnover and the
# count of trades have no meaning there.
OF_SESSIONS = ("total_return", "cagr", "volatility", "sharpe", "sortino", "max_drawdown", "max_drawdown_sessions",
               "calmar", "exposure")  # fmt: skip
OF_TRADES = ("win_rate", "profit_factor", "expectancy", "sqn")


@dataclass(frozen=True, slots=True)
class Intervals:
    """Within what each number is, by resampling, and how that was done."""

    intervals: dict[str, tuple[float, float]]
    confidence: float
    samples: int
    block: float  # mean length of the blocks of sessions
    seed: int

    @property
    def basis(self) -> str:
        """How the intervals were made, in a sentence."""
        return (
            f"{self.confidence:.0%} intervals".replace("%", " %") + f" by {self.samples:,} stationary bootstraps of "
            f"sessions in blocks of {self.block:.1f} in the mean, trades one by one; seed {self.seed}."
        )


def bootstrap(
    run: Account, samples: int = SAMPLES, seed: int = 0, confidence: float = CONFIDENCE, block: float | None = None
) -> Intervals:
    """
    Return the intervals of the headline metrics.

    Sessions are drawn in blocks of random length, which keep what hangs together; trades one by one. A number that
    is undefined in more than half the samples has no interval, nor have fewer than two sessions or trades.

    Args:
        run: see `account.sample`.
        block: mean length of blocks; if not given the longest `block_length` of returns, of their squares (calm and
            rough times) and of exposure.

    Source: Politis and Romano (1994), "The Stationary Bootstrap"; the interval is that of the percentiles.
    """
    random = np.random.default_rng(seed)
    block = _block_of(run) if block is None else block
    drawn = [_numbers_of(one) for one in _resampled(run, samples, block, random)]
    found = {name: _percentiles(np.array([one[name] for one in drawn]), confidence) for name in OF_SESSIONS + OF_TRADES}
    for names, many in ((OF_SESSIONS, run.returns), (OF_TRADES, run.net)):
        if len(many) < 2:  # drawn again and again, one is always the same one
            found |= dict.fromkeys(names, (Undefined("too few"), Undefined("too few")))
    return Intervals(found, confidence, samples, block, seed)


def block_length(returns: np.ndarray) -> float:
    """
    Return the mean length of blocks with which a stationary bootstrap of the mean errs least; at least 1.

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
    """Return places of a series of `count`, drawn in blocks of geometric length that go round at the end."""
    fresh = random.random(count) < 1 / block
    fresh[0] = True
    starts = np.flatnonzero(fresh)
    begun = np.repeat(starts, np.diff(np.append(starts, count)))
    first = np.repeat(random.integers(0, count, len(starts)), np.diff(np.append(starts, count)))
    return np.asarray((first + np.arange(count) - begun) % count)


def _block_of(run: Account) -> float:
    return max(block_length(one) for one in (run.returns, run.returns**2, run.held.astype(float)))


def _resampled(run: Account, samples: int, block: float, random: np.random.Generator) -> Iterator[Account]:
    sessions, trades = len(run.returns), len(run.net)
    for _ in range(samples):
        rows = block_rows(sessions, block, random) if sessions else np.array([], dtype=int)
        returns = run.returns[rows]
        rates = run.risk_free[rows] if isinstance(run.risk_free, np.ndarray) else run.risk_free
        yield replace(
            run, returns=returns, equity=equity_of(returns, run.equity[0]), held=run.held[rows], risk_free=rates,
            trades=run.trades.take(random.integers(0, max(trades, 1), trades)),
        )  # fmt: skip


def _numbers_of(run: Account) -> dict[str, float]:
    return {name: float(METRICS[name].function(run)) for name in OF_SESSIONS + OF_TRADES}


def _percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if len(known) <= len(values) / 2:
        return Undefined("undefined"), Undefined("undefined")
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _last_lag(correlations: np.ndarray, row: int, count: int) -> int:
    """Return the last lag before so many in a row without significant correlation; 0 where the first are so."""
    significant = np.abs(correlations) > 1.96 * math.sqrt(math.log10(count) / count)
    places = np.flatnonzero(significant)
    edges = np.concatenate([[-1], places, [len(correlations) + row]])
    gaps = np.flatnonzero(np.diff(edges) > row)
    return int(edges[gaps[0]]) + 1
