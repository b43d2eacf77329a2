"""Monte Carlo of a run's trades: how it could have gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from backtest.validity.bootstrap import SAMPLES

_CELLS = 4_000_000  # numbers in memory at a time


@dataclass(frozen=True, slots=True)
class MonteCarlo:
    """The range of results of the same trades: the 5, 50 and 95 % quantiles over many draws."""

    method: str  # "shuffle", "resample" or "skip"
    end: tuple[float, ...]  # money
    drawdown: tuple[float, ...]  # deepest, between ends of trades, the worst first
    loss: float  # share of the draws that ended below the cash at the start
    halved: float  # share of the draws that fell to half of a peak


def monte_carlo(
    net: np.ndarray, cash: float, samples: int = SAMPLES, seed: int = 0, skipped: float = 0.1
) -> list[MonteCarlo]:
    """
    Return the possible results of the trades: reshuffled, resampled with replacement, and with some skipped.

    Each trade gains or loses the same fraction of the account as it did, so that sizes grow and shrink with the
    account; the account changes only with closed trades.

    Args:
        net: the net result of each closed round trip, shape (k,), in order of exits.
        cash: the initial cash.
        skipped: the probability with which "skip" omits a trade.
    """
    random = np.random.default_rng(seed)
    before = cash + np.cumsum(net) - net
    if not len(net) or before.min() <= 0:
        return []
    shares = np.maximum(net / before, -1)
    draw = {
        "shuffle": lambda rows: random.permuted(np.tile(shares, (rows, 1)), axis=1),
        "resample": lambda rows: shares[random.integers(0, len(shares), (rows, len(shares)))],
        "skip": lambda rows: shares * (random.random((rows, len(shares))) >= skipped),
    }
    return [_orders(method, _ends_of(draw[method], samples, len(net)), cash) for method in draw]


def _ends_of(draw: Callable[[int], np.ndarray], samples: int, trades: int) -> np.ndarray:
    """Return the growth to the end and the deepest drawdown of each draw, shape (2, samples)."""
    step = max(1, _CELLS // trades)
    return np.hstack([_ends(draw(min(step, samples - at))) for at in range(0, samples, step)])


def _ends(shares: np.ndarray) -> np.ndarray:
    growth = np.cumprod(1 + shares, axis=1)
    highest = np.maximum(np.maximum.accumulate(growth, axis=1), 1)
    return np.stack([growth[:, -1], (growth / highest).min(axis=1) - 1])


def _orders(method: str, drawn: np.ndarray, cash: float) -> MonteCarlo:
    growth, depths = drawn
    end, depth = (tuple(np.quantile(values, [0.05, 0.5, 0.95]).tolist()) for values in (growth * cash, depths))
    return MonteCarlo(method, end, depth, float(np.mean(growth < 1)), float(np.mean(depths <= -0.5)))
