"""Drawdown metrics, as pure functions of equity, shape (n + 1,) with the initial cash in front."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date

import numpy as np

from backtest.metrics.returns import (
    ROUNDING,
    SESSIONS,
    EquityRows,
    Rows,
    Undefined,
    cagr_by_row,
    cagr_of_by_row,
    too_few,
)


def underwater(equity: np.ndarray) -> np.ndarray:
    """Return equity over its highest so far, minus 1: never positive, shape as given."""
    return np.asarray(EquityRows.of(equity).depths[0])


def max_drawdown(equity: np.ndarray) -> float:
    """Return the deepest fall from a peak, -0.2 for 20 %; 0 without any, undefined before the first session's end."""
    return max_drawdown_by_row(EquityRows.of(equity))[0]


def max_drawdown_by_row(equity: EquityRows) -> list[float]:
    """Return `max_drawdown` of each run."""
    return list(map(float, equity.depths.min(axis=1))) if equity.count else too_few(equity)


@dataclass(frozen=True, slots=True)
class Drawdown:
    """
    A period below a peak, from the last session at the peak to the recovery, the first session back there.

    `depth` is negative; `sessions` and calendar `days` count from the peak to the recovery, or to the end.
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
        days: sessions, datetime64[D], shape (n,); the initial cash has the date of the first.
        equity: shape (n + 1,).
    """
    rows, dates = EquityRows.of(equity), np.concatenate([days[:1], days])
    return [_drawdown(dates, rows.depths[0], int(peak), int(last)) for peak, last in zip(*rows.falls[0], strict=True)]


def deepest(drawdowns: list[Drawdown], count: int) -> list[Drawdown]:
    """Return the deepest drawdowns, deepest first; of equal ones the earlier first."""
    return sorted(drawdowns, key=lambda drawdown: drawdown.depth)[:count]


def worst_drawdown(days: np.ndarray, equity: np.ndarray) -> Drawdown | None:
    """Return the deepest drawdown, the first of equals; None without any."""
    return worst_drawdown_by_row(days, EquityRows.of(equity))[0]


def worst_drawdown_by_row(days: np.ndarray, equity: EquityRows) -> list[Drawdown | None]:
    """Return `worst_drawdown` of each run."""
    dates, found = np.concatenate([days[:1], days]), list[Drawdown | None]()
    for depths, (peaks, lasts) in zip(equity.depths, equity.falls, strict=True):
        number = int(np.argmin(_troughs(depths, peaks))) if len(peaks) else 0
        found.append(_drawdown(dates, depths, int(peaks[number]), int(lasts[number])) if len(peaks) else None)
    return found


def longest_drawdown(days: np.ndarray, equity: np.ndarray) -> Drawdown | None:
    """Return the drawdown that took longest by its dates, the first of equals; None without any."""
    return longest_drawdown_by_row(days, EquityRows.of(equity))[0]


def longest_drawdown_by_row(days: np.ndarray, equity: EquityRows) -> list[Drawdown | None]:
    """Return `longest_drawdown` of each run."""
    dates, found = np.concatenate([days[:1], days]), list[Drawdown | None]()
    for depths, (peaks, lasts) in zip(equity.depths, equity.falls, strict=True):
        taken = dates[np.minimum(lasts + 1, len(dates) - 1)] - dates[peaks]
        number = int(np.argmax(taken)) if len(peaks) else 0
        found.append(_drawdown(dates, depths, int(peaks[number]), int(lasts[number])) if len(peaks) else None)
    return found


def average_drawdown(equity: np.ndarray) -> float:
    """Return the mean depth of all drawdowns; 0 without any, undefined before the first session's end."""
    return average_drawdown_by_row(EquityRows.of(equity))[0]


def average_drawdown_by_row(equity: EquityRows) -> list[float]:
    """Return `average_drawdown` of each run."""
    if not equity.count:
        return too_few(equity)
    found = (_troughs(depths, peaks) for depths, (peaks, _) in zip(equity.depths, equity.falls, strict=True))
    return [float(depths.mean()) if len(depths) else 0.0 for depths in found]


def calmar(equity: np.ndarray, periods: float = SESSIONS, window: int | None = None) -> float:
    """
    Return `cagr` over the size of `max_drawdown`; undefined without a drawdown.

    Both are of the whole sample, or of the last `window` sessions.

    Source: Young (1991), there over 36 months.
    """
    equity = equity if window is None else equity[-(window + 1) :]
    return calmar_by_row(EquityRows.of(equity), periods)[0]


def calmar_by_row(equity: EquityRows, periods: float = SESSIONS) -> list[float]:
    """Return `calmar` of each run, of the whole sample."""
    return _over(cagr_by_row(equity, periods), [-depth for depth in max_drawdown_by_row(equity)], equity)


def ulcer(equity: np.ndarray) -> float:
    """
    Return the root mean square of `underwater` over the n sessions; undefined before the first session's end.

    Source: Martin and McCann (1989), "The Investor's Guide to Fidelity Funds".
    """
    return ulcer_by_row(EquityRows.of(equity))[0]


def ulcer_by_row(equity: EquityRows) -> list[float]:
    """Return `ulcer` of each run."""
    if not equity.count:
        return too_few(equity)
    depths = equity.depths[:, 1:]
    return [math.sqrt(one) for one in np.mean(depths * depths, axis=1).tolist()]


def pain(equity: np.ndarray) -> float:
    """Return the mean size of `underwater` over the n sessions; undefined before the first session's end."""
    return pain_by_row(EquityRows.of(equity))[0]


def pain_by_row(equity: EquityRows) -> list[float]:
    """Return `pain` of each run."""
    return [float(-one) for one in equity.depths[:, 1:].mean(axis=1)] if equity.count else too_few(equity)


def pain_ratio(equity: np.ndarray, periods: float = SESSIONS) -> float:
    """Return `cagr` over `pain`; undefined without a drawdown."""
    return pain_ratio_by_row(EquityRows.of(equity), periods)[0]


def pain_ratio_by_row(equity: EquityRows, periods: float = SESSIONS) -> list[float]:
    """Return `pain_ratio` of each run."""
    return _over(cagr_by_row(equity, periods), pain_by_row(equity), equity)


def martin(equity: np.ndarray, periods: float = SESSIONS) -> float:
    """Return `cagr` over `ulcer`; undefined without a drawdown."""
    return martin_by_row(EquityRows.of(equity), periods)[0]


def martin_by_row(equity: EquityRows, periods: float = SESSIONS) -> list[float]:
    """Return `martin` of each run."""
    return _over(cagr_by_row(equity, periods), ulcer_by_row(equity), equity)


def burke(returns: np.ndarray, periods: float = SESSIONS) -> float:
    """
    Return the annual growth over the root of the sum of squares of `losing_runs`; undefined without a loss.

    Source: Burke (1994), "A Sharper Sharpe Ratio", with drawdowns as in Bacon and PerformanceAnalytics.
    """
    return burke_by_row(Rows.of(returns), periods)[0]


def burke_by_row(returns: Rows, periods: float = SESSIONS) -> list[float]:
    """Return `burke` of each run."""
    if not returns.count:
        return too_few(returns)
    found = zip(cagr_of_by_row(returns, periods), returns.losing_runs, strict=True)
    return [growth / math.sqrt(float(runs @ runs)) if len(runs) else Undefined("no loss") for growth, runs in found]


def burke_modified(returns: np.ndarray, periods: float = SESSIONS) -> float:
    """Return `burke` times the root of the number of returns, to compare runs; undefined without a loss."""
    return burke_modified_by_row(Rows.of(returns), periods)[0]


def burke_modified_by_row(returns: Rows, periods: float = SESSIONS) -> list[float]:
    """Return `burke_modified` of each run."""
    return [one * math.sqrt(returns.count) if one == one else one for one in burke_by_row(returns, periods)]


def losing_runs(returns: np.ndarray) -> np.ndarray:
    """
    Return the loss of each unbroken run of negative returns, in order of time, negative.

    Compounded at a hundredth of its size, as in PerformanceAnalytics, which is nearly the sum of its returns.
    """
    return Rows.of(returns).losing_runs[0]


def _troughs(depths: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """Return the depth of every drawdown, in order of time: negative, shape (drawdowns,)."""
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


def _over(growths: list[float], sizes: list[float], equity: EquityRows) -> list[float]:
    why = "no drawdown" if equity.count else "too few"
    return [growth / size if size > ROUNDING else Undefined(why) for growth, size in zip(growths, sizes, strict=True)]
