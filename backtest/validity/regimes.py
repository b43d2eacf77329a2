"""
`regimes`: a run by market regime: rising or falling, at high or low volatility.

The regime of a session is derived from the sessions before it, so that it could have been known in time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest import _arguments
from backtest._notebook import html_lines
from backtest.errors import UsageError
from backtest.metrics.account import hold, hold_name, session_ends
from backtest.metrics.drawdown import max_drawdown
from backtest.metrics.measurement import check_result
from backtest.metrics.ratios import sharpe
from backtest.metrics.returns import equity_of, returns_of, total_return, volatility
from backtest.store.documents import for_json

if TYPE_CHECKING:
    import pandas as pd

    from backtest.metrics.measurement import Measured

TREND = 200  # sessions of the mean that a bull market is above; the usual one for daily prices
ROUGH = 63  # sessions of a volatility: a quarter


@dataclass(frozen=True, slots=True)
class Regime:
    """The joined sessions of one kind, and the results of the run and the market in them."""

    name: str
    sessions: int
    share: float  # of all sessions
    total_return: float
    volatility: float  # annual
    sharpe: float
    max_drawdown: float
    market: float  # total return of buy and hold in the same sessions


@dataclass(frozen=True)
class Regimes:
    """A row per regime; the first is all sessions, the last the sessions that are too early to classify, if any."""

    rows: list[Regime]
    basis: str  # how they were distinguished

    def __getitem__(self, name: str) -> Regime:
        rows = {row.name: row for row in self.rows}
        return rows[_arguments.word(name, "the name of a regime", rows)]

    def to_frame(self) -> pd.DataFrame:
        """Return the rows as a frame, by name."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows]).set_index("name")

    def to_dict(self) -> dict[str, Any]:
        """Return all values as JSON types: None where a number is not defined."""
        rows = [for_json(asdict(row)) for row in self.rows]
        return {"basis": self.basis, "regimes": {row["name"]: row for row in rows}}

    def __repr__(self) -> str:
        return f"{self.to_frame().round(4).to_string()}\n{self.basis}"

    def _repr_html_(self) -> str:
        return f"{self.to_frame().round(4).to_html()}{html_lines(self.basis)}"


def regimes(result: Measured, trend: int = TREND, rough: int = ROUGH) -> Regimes:
    """
    Return a run in bull and bear markets, and in those of high and low volatility.

    The market is the run's benchmark, or its own series in equal weights. A session is in a bull market if the previous
    close was at or above the mean of the last `trend` closes, and in high volatility if the deviation of the last
    `rough` returns was above the median of all such deviations until then.

    Raises:
        UsageError: a number of sessions is below 2.
    """
    result = check_result(result, "result")
    trend, rough = _arguments.whole(trend, "trend"), _arguments.whole(rough, "rough")
    if trend < 2 or rough < 2:
        raise UsageError(f"{trend} and {rough} sessions are too few for a trend and a volatility; name 2 or more")
    run = result.account
    market = hold(result)[session_ends(result.record)]
    moves = returns_of(np.concatenate([[result.spec.cash], market]))
    bull, known_trend = rising(market, trend)
    high, known_rough = turbulent(moves, rough)
    chosen = {
        "all": np.ones(len(moves), bool),
        "bull": bull & known_trend,
        "bear": ~bull & known_trend,
        "high volatility": high & known_rough,
        "low volatility": ~high & known_rough,
        "unclassified": ~known_trend & ~known_rough,
    }
    rows = [_regime(name, which, run.returns, moves, run.risk_free, run.periods) for name, which in chosen.items()]
    basis = (
        f"{hold_name(result)}: bull where the previous close was at or above the mean of the last {trend} closes; "
        f"high volatility where the volatility of the last {rough} sessions was above its median so far. "
        f"The first {np.sum(~known_trend):,} sessions are neither bull nor bear, and the first "
        f"{np.sum(~known_rough):,} neither high nor low volatility."
    )
    return Regimes([row for row in rows if row.sessions or row.name != "unclassified"], basis)


def rising(closes: np.ndarray, trend: int) -> tuple[np.ndarray, np.ndarray]:
    """Return for each session whether the previous close is at or above its moving average, and if that is known."""
    above, known = np.zeros(len(closes), bool), np.arange(len(closes)) >= trend
    if known.any():
        windows = np.lib.stride_tricks.sliding_window_view(closes, trend)[:-1]
        above[trend:] = windows[:, -1] >= windows.mean(axis=1)
    return above, known


def turbulent(moves: np.ndarray, rough: int) -> tuple[np.ndarray, np.ndarray]:
    """Return for each session whether recent volatility exceeds its median so far, and whether that is known."""
    above, known = np.zeros(len(moves), bool), np.arange(len(moves)) > rough  # the first deviation has no other
    if known.any():
        deviations = np.lib.stride_tricks.sliding_window_view(moves, rough)[:-1].std(axis=1, ddof=1)
        above[rough:] = deviations > np.fromiter(_medians(deviations), float, len(deviations))
    return above, known


def _medians(values: np.ndarray) -> Iterator[float]:
    """Yield the median of the values up to each one."""
    from bisect import insort

    seen: list[float] = []
    for value in values.tolist():
        insort(seen, value)
        middle = len(seen) // 2
        yield seen[middle] if len(seen) % 2 else (seen[middle - 1] + seen[middle]) / 2


def _regime(
    name: str,
    which: np.ndarray,
    returns: np.ndarray,
    moves: np.ndarray,
    risk_free: float | np.ndarray,
    periods: float,
) -> Regime:
    own, equity = returns[which], equity_of(returns[which])
    return Regime(
        name=name,
        sessions=len(own),
        share=len(own) / len(which) if len(which) else math.nan,
        total_return=total_return(equity),
        volatility=volatility(own, periods),
        sharpe=sharpe(own, risk_free[which] if isinstance(risk_free, np.ndarray) else risk_free, periods),
        max_drawdown=max_drawdown(equity),
        market=total_return(equity_of(moves[which])),
    )
