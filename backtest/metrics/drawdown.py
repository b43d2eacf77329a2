"""Numbers about falls from a peak, as pure functions of equity, shape (n + 1,) with the initial cash in front."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date

import numpy as np

from backtest.metrics.returns import ROUNDING, SESSIONS, Undefined, cagr, cagr_of, checked_equity, checked_returns


def underwater(equity: np.ndarray) -> np.ndarray:
    """Return equity over its highest so far, minus 1: never positive, shape as given."""
    equity = checked_equity(equity)
    return np.asarray(equity / np.maximum.accumulate(equity) - 1)


def max_drawdown(equity: np.ndarray) -> float:
    """Return the deepest fall from a peak, -0.2 for 20 %; 0 without any, undefined before a session's end."""
    return float(underwater(equity).min()) if len(equity) > 1 else Undefined("too few")


@dataclass(frozen=True, slots=True)
class Drawdown:
    """
    A stay below a peak, from the last session at the peak to the first that is back there, the recovery.

    `depth` is negative; `sessions` and `days` (of the calendar) count from peak to recovery, or to the end.
    """

    peak: date
    trough: date
    recovery: date | None
    depth: float
    sessions: int
    days: int


def drawdowns(days: np.ndarray, equity: np.ndarray) -> list[Drawdown]:
    """
    Return every drawdown, in order of time.

    Args:
        days: sessions, datetime64[D], shape (n,); the initial cash bears the first one's date.
        equity: shape (n + 1,).
    """
    depths, dates = underwater(equity), np.concatenate([days[:1], days])
    return [_drawdown(dates, depths, int(peak), int(last)) for peak, last in zip(*_edges(depths), strict=True)]


def deepest(drawdowns: list[Drawdown], count: int) -> list[Drawdown]:
    """Return the deepest drawdowns, deepest first, the earlier of two equals before the later."""
    return sorted(drawdowns, key=lambda drawdown: drawdown.depth)[:count]


def worst_drawdown(days: np.ndarray, equity: np.ndarray) -> Drawdown | None:
    """Return the deepest drawdown, the first of equals; None without any."""
    depths, dates = underwater(equity), np.concatenate([days[:1], days])
    peaks, lasts = _edges(depths)
    if not len(peaks):
        return None
    number = int(np.argmin(_troughs(depths)))
    return _drawdown(dates, depths, int(peaks[number]), int(lasts[number]))


def longest_drawdown(days: np.ndarray, equity: np.ndarray) -> Drawdown | None:
    """Return the drawdown that took longest by its dates, the first of equals; None without any."""
    depths, dates = underwater(equity), np.concatenate([days[:1], days])
    peaks, lasts = _edges(depths)
    if not len(peaks):
        return None
    number = int(np.argmax(dates[np.minimum(lasts + 1, len(dates) - 1)] - dates[peaks]))
    return _drawdown(dates, depths, int(peaks[number]), int(lasts[number]))


def average_drawdown(equity: np.ndarray) -> float:
    """Return the mean depth of all drawdowns; 0 without any, undefined before a session's end."""
    if len(equity) < 2:
        return Undefined("too few")
    found = _troughs(underwater(equity))
    return float(found.mean()) if len(found) else 0.0


def calmar(equity: np.ndarray, periods: float = SESSIONS, window: int | None = None) -> float:
    """
    Return `cagr` over the size of `max_drawdown`; undefined without a drawdown.

    Both are of the whole sample, or of the last `window` sessions.

    Source: Young (1991), there over 36 months.
    """
    equity = equity if window is None else equity[-(window + 1) :]
    return _over(cagr(equity, periods), -max_drawdown(equity), equity)


def ulcer(equity: np.ndarray) -> float:
    """
    Return the root mean square of `underwater` over the n sessions; undefined before a session's end.

    Source: Martin and McCann (1989), "The Investor's Guide to Fidelity Funds".
    """
    if len(equity) < 2:
        return Undefined("too few")
    depths = underwater(equity)[1:]
    return math.sqrt(float(np.mean(depths * depths)))


def pain(equity: np.ndarray) -> float:
    """Return the mean size of `underwater` over the n sessions; undefined before a session's end."""
    return float(-underwater(equity)[1:].mean()) if len(equity) > 1 else Undefined("too few")


def pain_ratio(equity: np.ndarray, periods: float = SESSIONS) -> float:
    """Return `cagr` over `pain`; undefined without a drawdown."""
    return _over(cagr(equity, periods), pain(equity), equity)


def martin(equity: np.ndarray, periods: float = SESSIONS) -> float:
    """Return `cagr` over `ulcer`; undefined without a drawdown."""
    return _over(cagr(equity, periods), ulcer(equity), equity)


def burke(returns: np.ndarray, periods: float = SESSIONS) -> float:
    """
    Return the growth a year over the root of the sum of squares of `losing_runs`; undefined without a loss.

    Source: Burke (1994), "A Sharper Sharpe Ratio", with the drawdowns of Bacon and PerformanceAnalytics.
    """
    if not len(returns):
        return Undefined("too few")
    runs = losing_runs(returns)
    return cagr_of(returns, periods) / math.sqrt(float(runs @ runs)) if len(runs) else Undefined("no loss")


def burke_modified(returns: np.ndarray, periods: float = SESSIONS) -> float:
    """Return `burke` times the root of the number of returns, to compare runs; undefined without a loss."""
    ratio = burke(returns, periods)
    return ratio * math.sqrt(len(returns)) if ratio == ratio else ratio


def losing_runs(returns: np.ndarray) -> np.ndarray:
    """
    Return what each unbroken row of negative returns lost, in order of time, negative.

    Compounded at a hundredth of its size, as PerformanceAnalytics does: all but the sum of its returns.
    """
    returns = checked_returns(returns)
    edges = np.diff(returns < 0, prepend=False, append=False)
    places = np.flatnonzero(edges)  # where a row begins, where it is over, where the next begins, ...
    if not len(places):
        return np.array([])
    return np.asarray(100 * np.expm1(np.add.reduceat(np.log1p(np.append(returns / 100, 0)), places)[::2]))


def _edges(depths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the last place at each peak, and the last place below it."""
    edges = np.diff((depths < 0).astype(np.int8), append=0)
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)


def _troughs(depths: np.ndarray) -> np.ndarray:
    """Return the depth of every drawdown, in order of time: negative, shape (drawdowns,)."""
    peaks, _ = _edges(depths)
    return np.asarray(np.minimum.reduceat(depths, peaks)) if len(peaks) else np.array([])


def _drawdown(dates: np.ndarray, depths: np.ndarray, peak: int, last: int) -> Drawdown:
    trough = peak + int(np.argmin(depths[peak : last + 1]))
    recovered = last + 1 < len(dates)
    end = last + recovered
    return Drawdown(
        peak=dates[peak].item(),
        trough=dates[trough].item(),
        recovery=dates[end].item() if recovered else None,
        depth=float(depths[trough]),
        sessions=end - peak,
        days=int((dates[end] - dates[peak]).astype(int)),
    )


def _over(growth: float, size: float, equity: np.ndarray) -> float:
    if size > ROUNDING:
        return growth / size
    return Undefined("no drawdown" if len(equity) > 1 else "too few")
