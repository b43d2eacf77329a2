"""The data of a run's figures, as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backtest.market import arrays
from backtest.metrics.account import column, hold, required_margin, sample_hold, session_ends, worth_over_equity
from backtest.runs.record import computed_once
from backtest.runs.round_trips import rows_by_place

if TYPE_CHECKING:
    from backtest.metrics.account import Account
    from backtest.metrics.measurement import Measured
    from backtest.runs.record import RunRecord

_WINDOW = 0.5  # years per window of a rolling figure: 126 sessions in New York, 26 weeks
_FEWEST = 40  # sessions below which nothing rolls, and returns have no distribution


def calendar_returns(result: Measured) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the years, the return of each month, shape (years, 12), NaN without sessions, and of each year."""
    days, returns = result.account.days, result.account.returns
    month = days.astype("datetime64[M]").astype(int)
    years = np.arange(month[0] // 12, month[-1] // 12 + 1)
    growth = np.full(12 * len(years), np.nan)
    starts = np.flatnonzero(np.diff(month, prepend=-1))
    growth[month[starts] - 12 * years[0]] = np.multiply.reduceat(1 + returns, starts)
    months = growth.reshape(-1, 12)
    return years + 1970, months - 1, np.nanprod(months, axis=1) - 1


def years_beside_hold(result: Measured) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the years, the return of each, and that of buy and hold, NaN if there is none."""
    account = result.account
    years = account.days.astype("datetime64[Y]").astype(int) + 1970
    starts = np.flatnonzero(np.diff(years, prepend=-1))
    held = np.full(len(starts), np.nan)
    if (hold(result) > 0).all():
        held = np.multiply.reduceat(1 + sample_hold(result, account).returns, starts) - 1
    return years[starts], np.multiply.reduceat(1 + account.returns, starts) - 1, held


def returns_by_length(result: Measured) -> dict[str, np.ndarray]:
    """Return the returns of a run's sessions, and of weeks, months and years if there are several of them."""
    account = result.account
    lengths = {"session": "D", "week": "W", "month": "M", "year": "Y"}
    first = account.unit.removesuffix("s") if account.unit.removesuffix("s") in lengths else "session"
    found = {first: account.returns}
    for name, unit in list(lengths.items())[list(lengths).index(first) + 1 :]:
        days = account.days.astype(int) + 3  # weeks begin on Mondays, and 1970 on a Thursday
        number = days // 7 if unit == "W" else account.days.astype(f"datetime64[{unit}]").astype(int)
        starts = np.flatnonzero(np.diff(number, prepend=number[0] - 1))
        if len(starts) > 1:
            found[name] = np.multiply.reduceat(1 + account.returns, starts) - 1
    return found


def rolling(result: Measured) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Return sessions, and the rolling annualised Sharpe ratio and volatility: over half a year, or half of the run.

    The first value is that of the first full window; a ratio is NaN if its returns do not vary.
    """
    account = result.account
    window, rate = rolling_sessions(account), account.risk_free
    parts = np.lib.stride_tricks.sliding_window_view(account.returns, window)
    if isinstance(rate, np.ndarray):
        parts = np.lib.stride_tricks.sliding_window_view(account.returns - rate, window)
        cash = 0.0
    else:
        cash = (1 + rate) ** (1 / account.periods) - 1
    spreads = parts.std(axis=1, ddof=1)
    varies = np.ptp(parts, axis=1) > 1e-12
    ratios = np.full(len(parts), np.nan)
    np.divide(parts.mean(axis=1) - cash, spreads, out=ratios, where=varies)
    return account.days[window - 1 :], ratios * np.sqrt(account.periods), spreads * np.sqrt(account.periods)


def rolling_beta(result: Measured) -> np.ndarray:
    """
    Return the rolling beta at the sessions of `rolling`; NaN where the benchmark does not vary.

    Empty if the benchmark lacks a session, or has a price that is not above zero.
    """
    account = result.account
    window, other = rolling_sessions(account), account.benchmark
    if other is None or account.common is not None or len(other) != len(account.returns):
        return np.array([])
    rate = account.risk_free if isinstance(account.risk_free, np.ndarray) else 0.0  # a constant has no effect
    own, held = (np.lib.stride_tricks.sliding_window_view(one - rate, window) for one in (account.returns, other))
    away = held - held.mean(axis=1, keepdims=True)
    spread = (away**2).sum(axis=1)
    found = np.full(len(own), np.nan)
    np.divide((own * away).sum(axis=1), spread, out=found, where=spread > 1e-18)
    return found


def exposures(result: Measured) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the session ends, and the values of long and of short (negative) positions there over equity."""
    ends = session_ends(result.record)
    return times_of(result)[ends], *computed_once(result, "exposures", lambda: worth_over_equity(result, ends))


def margins(result: Measured) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the times of all bars, equity, and the margin requirement; nothing for other accounts."""
    equity, required = column(result.record, "equity"), required_margin(result.record)
    return times_of(result), equity, np.zeros(len(equity)) if required is None else required


def thinned(x: np.ndarray, y: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of a line; with more than four per step, the ends and the extremes of each step."""
    if len(y) <= 4 * steps:
        return x, y
    step = len(y) // steps
    starts = np.arange(0, len(y) - step + 1, step)
    blocks = y[: len(starts) * step].reshape(-1, step)
    rest = np.arange(len(starts) * step, len(y))
    kept = np.concatenate([[0], starts + blocks.argmin(axis=1), starts + blocks.argmax(axis=1), rest])
    rows = np.unique([*kept.astype(int), len(y) - 1])
    return x[rows], y[rows]


def rolling_sessions(account: Account) -> int:
    """Return the sessions of a rolling figure of an account."""
    return min(round(_WINDOW * account.periods), len(account.days) // 2)


def times_of(result: RunRecord) -> np.ndarray:
    """Return the times of the record's bars."""
    return arrays.numbers(result.record["time"]).view("datetime64[us]")


def fills_of(result: Measured, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return times, sizes (negative: sold) and prices of the fills in one of a run's series."""
    rows = result.fills_table
    places = computed_once(result, "places_of_fills", lambda: rows_by_place(rows, result.spec.series))
    mine = places.get(number, np.zeros(0, np.int64))
    times = np.asarray(rows["time"].to_numpy(), "datetime64[us]")
    return times[mine], column(rows, "size")[mine], column(rows, "price")[mine]


def is_enough(result: Measured) -> bool:
    """Return whether enough sessions changed equity for a distribution of returns."""
    returns = moving(result)
    return len(returns) >= _FEWEST and bool(np.ptp(returns) > 1e-12)


def moving(result: Measured) -> np.ndarray:
    """Return the returns of the sessions that changed equity."""
    returns = result.account.returns
    return np.asarray(returns[returns != 0])
