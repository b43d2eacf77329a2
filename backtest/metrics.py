"""
Numbers about a run: `METRICS`, the functions behind them, and `measure`, which applies them to a result.

Equity is money at the end of each session with the initial cash in front, shape (n + 1,); returns are simple,
after costs, one a session, shape (n,), 0.01 for +1 %; net is the money of each closed round trip after costs,
shape (k,). What is not defined is NaN, never 0 or infinite; impossible equity or returns are a ValueError.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from backtest.account import Account, sample
from backtest.account import session_returns as session_returns  # a number about a run too
from backtest.bars import Series

if TYPE_CHECKING:
    import pandas as pd

    from backtest.result import RunResult, RunSpec

SESSIONS = 252.0  # a year, on the exchanges of New York

_ROUNDING = 4 * np.finfo(float).eps  # what rounding leaves in E_t / E_(t-1) - 1


def total_return(equity: np.ndarray) -> float:
    """Return the last equity over the first, minus 1; NaN before the first session's end."""
    equity = _checked_equity(equity)
    return float(equity[-1] / equity[0] - 1) if len(equity) > 1 else math.nan


def cagr(equity: np.ndarray, periods: float = SESSIONS) -> float:
    """
    Return the steady growth a year from the first equity to the last; NaN before the first session's end.

    Years are n / periods, as in empyrical; a run of under a year is extrapolated.
    """
    equity = _checked_equity(equity)
    years = (len(equity) - 1) / periods
    return float((equity[-1] / equity[0]) ** (1 / years) - 1) if years else math.nan


def volatility(returns: np.ndarray, periods: float = SESSIONS) -> float:
    """Return the sample standard deviation (n - 1) of returns, a year; NaN for fewer than two."""
    returns = _checked_returns(returns)
    return float(returns.std(ddof=1) * math.sqrt(periods)) if len(returns) > 1 else math.nan


def sharpe(returns: np.ndarray, risk_free: float = 0.0, periods: float = SESSIONS) -> float:
    """
    Return the annualised Sharpe ratio: mean excess return over its standard deviation.

    Args:
        returns: simple returns, shape (n,), one a period, after costs; 0.01 is +1 %.
        risk_free: return of cash, per year, 0.05 for 5 %.
        periods: periods a year.

    Returns:
        A number without unit; NaN for fewer than two returns or none that varies.

    Raises:
        ValueError: a return is below -1, infinite or NaN.

    Source: Sharpe (1994), "The Sharpe Ratio"; sample deviation (n - 1), as empyrical.
    """
    returns = _checked_returns(returns)
    if len(returns) < 2 or _constant(returns):
        return math.nan
    excess = returns - _a_period(risk_free, periods)
    return float(excess.mean() / excess.std(ddof=1) * math.sqrt(periods))


def sortino(returns: np.ndarray, target: float = 0.0, periods: float = SESSIONS) -> float:
    """
    Return the annualised Sortino ratio: mean return above a target over the downside deviation from it.

    `target` is a return a year. NaN for fewer than two returns or none below the target.

    Source: Sortino and Price (1994); the mean square below the target is over all n returns, as empyrical.
    """
    returns = _checked_returns(returns)
    excess = returns - _a_period(target, periods)
    downside = math.sqrt(np.mean(np.minimum(excess, 0) ** 2)) if len(returns) > 1 else 0.0
    return float(excess.mean() / downside * math.sqrt(periods)) if downside > _ROUNDING else math.nan


def underwater(equity: np.ndarray) -> np.ndarray:
    """Return equity over its highest so far, minus 1: never positive, shape as given."""
    equity = _checked_equity(equity)
    return np.asarray(equity / np.maximum.accumulate(equity) - 1)


def max_drawdown(equity: np.ndarray) -> float:
    """Return the deepest fall from a peak, -0.2 for 20 %; 0 without any, NaN before a session's end."""
    return float(underwater(equity).min()) if len(equity) > 1 else math.nan


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
    edges = np.diff((depths < 0).astype(np.int8), append=0)
    peaks, lasts = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return [_drawdown(dates, depths, int(peak), int(last)) for peak, last in zip(peaks, lasts, strict=True)]


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


def deepest(drawdowns: list[Drawdown], count: int) -> list[Drawdown]:
    """Return the deepest drawdowns, deepest first, the earlier of two equals before the later."""
    return sorted(drawdowns, key=lambda drawdown: drawdown.depth)[:count]


def calmar(equity: np.ndarray, periods: float = SESSIONS) -> float:
    """
    Return `cagr` over the size of `max_drawdown`, both of the whole sample; NaN without a drawdown.

    Source: Young (1991), there over 36 months.
    """
    worst = max_drawdown(equity)
    return cagr(equity, periods) / -worst if worst < 0 else math.nan


def exposure(held: np.ndarray) -> float:
    """Return the share of true values: sessions closed with a position, shape (n,); NaN without sessions."""
    return float(np.mean(held)) if len(held) else math.nan


def turnover(traded: float, equity: np.ndarray, periods: float = SESSIONS) -> float:
    """
    Return how often a year the equity was turned over: half the traded value over mean equity.

    `traded` is the money of all fills, so that a purchase and its sale are one turn. NaN without sessions.
    """
    years = (len(equity) - 1) / periods
    return float(traded / 2 / np.mean(_checked_equity(equity)) / years) if years else math.nan


def win_rate(net: np.ndarray) -> float:
    """Return the share of round trips that made money after costs; NaN without any."""
    return float(np.mean(net > 0)) if len(net) else math.nan


def profit_factor(net: np.ndarray) -> float:
    """Return the money of all gains over that of all losses; NaN without a loss."""
    losses = -net[net < 0].sum()
    return float(net[net > 0].sum() / losses) if losses > 0 else math.nan


def expectancy(net: np.ndarray) -> float:
    """Return the mean net money of a round trip; NaN without any."""
    return float(np.mean(net)) if len(net) else math.nan


def sqn(net: np.ndarray) -> float:
    """
    Return the system quality number: mean over standard deviation (n - 1) of net money, times √k.

    NaN for fewer than two round trips or none that differs.

    Source: Tharp (2008), without his cap of 100 trades.
    """
    if len(net) < 2 or _constant(net):
        return math.nan
    return float(math.sqrt(len(net)) * net.mean() / net.std(ddof=1))


@dataclass(frozen=True, slots=True)
class Metric:
    """A number about a run: its name, how people read it, what it is, and the function."""

    name: str
    label: str
    format: str  # a key of _FORMATS
    definition: str
    function: Callable[[Account], float]

    @property
    def unit(self) -> str:
        """What the number counts, "" for a bare one; "money" is in the currency of the account."""
        return _FORMATS[self.format][0]

    def text(self, value: float | None) -> str:
        """Return a value as people read it, with a percent sign but no other unit; "–" for NaN and None."""
        if value is None or math.isnan(value):
            return "–"
        unit, scale, style = _FORMATS[self.format]
        return f"{value * scale:{style}}{' %' if unit == '%' else ''}"


_FORMATS = {  # unit, factor, style
    "percent": ("%", 100.0, "z,.2f"),
    "ratio": ("", 1.0, "z,.2f"),
    "count": ("", 1.0, ",.0f"),
    "money": ("money", 1.0, "z,.2f"),
    "sessions": ("", 1.0, ",.0f"),  # the label says what is counted
    "days": ("", 1.0, ",.0f"),
}

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "total_return", "Total return", "percent",
            "E_N / E_0 − 1, with E_0 the initial cash and E_t the equity at the end of session t.",
            lambda run: total_return(run.equity),
        ),
        Metric(
            "cagr", "CAGR", "percent",
            "(E_N / E_0)^(P / N) − 1, with N sessions, P of them a year.",
            lambda run: cagr(run.equity, run.periods),
        ),
        Metric(
            "volatility", "Volatility a year", "percent",
            "s(r)·√P, with s the sample standard deviation (n − 1) of the returns r_t = E_t / E_(t−1) − 1.",
            lambda run: volatility(run.returns, run.periods),
        ),
        Metric(
            "sharpe", "Sharpe ratio", "ratio",
            "mean(r − f) / s(r − f)·√P, with f = (1 + R)^(1 / P) − 1 for a risk-free rate of R a year.",
            lambda run: sharpe(run.returns, run.risk_free, run.periods),
        ),
        Metric(
            "sortino", "Sortino ratio", "ratio",
            "mean(r − f) / √mean(min(r − f, 0)²)·√P, both means over all N sessions.",
            lambda run: sortino(run.returns, run.risk_free, run.periods),
        ),
        Metric(
            "max_drawdown", "Maximum drawdown", "percent",
            "min of E_t / max(E_0 … E_t) − 1, at session ends.",
            lambda run: max_drawdown(run.equity),
        ),
        Metric(
            "max_drawdown_sessions", "Maximum drawdown, sessions", "sessions",
            "Sessions from the peak of the deepest drawdown to its recovery, or the end if it is open.",
            lambda run: _worst(run, "sessions"),
        ),
        Metric(
            "max_drawdown_days", "Maximum drawdown, days", "days",
            "Calendar days from the peak of the deepest drawdown to its recovery, or the end if it is open.",
            lambda run: _worst(run, "days"),
        ),
        Metric(
            "calmar", "Calmar ratio", "ratio",
            "CAGR / |maximum drawdown|, both of the whole run.",
            lambda run: calmar(run.equity, run.periods),
        ),
        Metric(
            "exposure", "Exposure", "percent",
            "Sessions with an open position at the close / N.",
            lambda run: exposure(run.held),
        ),
        Metric(
            "turnover", "Turnover a year", "percent",
            "½ · Σ|size · price| of all fills / mean(E_0 … E_N) · P / N.",
            lambda run: turnover(run.traded, run.equity, run.periods),
        ),
        Metric(
            "trades", "Trades", "count",
            "Closed round trips, matched first in, first out; what is still open is not counted.",
            lambda run: len(run.net),
        ),
        Metric(
            "win_rate", "Win rate", "percent",
            "Trades with a net result above 0 / trades; net is after the costs of both fills.",
            lambda run: win_rate(run.net),
        ),
        Metric(
            "profit_factor", "Profit factor", "ratio",
            "Σ net of winning trades / |Σ net of losing trades|, in money.",
            lambda run: profit_factor(run.net),
        ),
        Metric(
            "expectancy", "Expectancy a trade", "money",
            "Mean net money of a trade.",
            lambda run: expectancy(run.net),
        ),
        Metric(
            "sqn", "System quality number", "ratio",
            "√k · mean(net) / s(net) over k trades, s with n − 1.",
            lambda run: sqn(run.net),
        ),
        Metric(
            "costs", "Costs", "money",
            "Money paid for all fills, those of open positions too.",
            lambda run: run.costs,
        ),
    )
}  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Stats(Mapping[str, float]):
    """The metrics of a run by name, in the order of METRICS; NaN where one is not defined."""

    numbers: dict[str, float]
    conventions: str  # what they rest on in any run like this: sessions a year, risk-free rate, costs
    extent: str  # sessions, dates, and the cash at the start
    currency: str  # of money

    def __getitem__(self, name: str) -> float:
        return self.numbers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def basis(self) -> str:
        """What the numbers rest on: conventions, sessions, dates, cash."""
        return f"{self.conventions} {self.extent}"

    @property
    def definitions(self) -> dict[str, str]:
        """What each number is, a sentence each."""
        return {name: METRICS[name].definition for name in self}

    def text(self, name: str) -> str:
        """Return a number as people read it, with its unit."""
        metric = METRICS[name]
        unit = {"money": f" {self.currency}"}.get(metric.unit, "")
        return metric.text(self[name]) + (unit if not math.isnan(self[name]) else "")

    def to_dict(self) -> dict[str, float | None]:
        """Return the numbers for JSON: None where one is not defined."""
        return {name: None if math.isnan(value) else value for name, value in self.items()}

    def to_series(self) -> pd.Series[float]:
        """Return the numbers in the units that their labels name: 10.0 at "Total return [%]" is +10 %."""
        import pandas as pd

        metrics = [METRICS[name] for name in self]
        values = [self[metric.name] * (100 if metric.unit == "%" else 1) for metric in metrics]
        return pd.Series(values, index=[self._label(metric) for metric in metrics], dtype=float)

    def _label(self, metric: Metric) -> str:
        unit = self.currency if metric.unit == "money" else metric.unit
        return f"{metric.label} [{unit}]" if unit else metric.label

    def __repr__(self) -> str:
        texts = {METRICS[name].label: self.text(name) for name in self}
        left, right = max(map(len, texts)), max(map(len, texts.values()))
        rows = [f"{label:<{left}}  {text:>{right}}" for label, text in texts.items()]
        return "\n".join([*rows, "", *textwrap.wrap(self.basis, 80)])

    def _repr_html_(self) -> str:
        row = '<tr title="{}"><td style="text-align:left">{}</td><td style="text-align:right">{}</td></tr>'
        cells = [(METRICS[name].definition, METRICS[name].label, self.text(name)) for name in self]
        rows = "".join(row.format(*map(html.escape, texts)) for texts in cells)
        return f"<table>{rows}</table><p><small>{html.escape(self.basis)}</small></p>"


def measure(result: RunResult) -> Stats:
    """
    Return every metric of a run.

    Raises:
        StrategyError: equity is no number, or fell below zero.
    """
    run = sample(result)
    numbers = {name: float(metric.function(run)) for name, metric in METRICS.items()}
    currency = Series.parse(result.spec.series[0]).instrument.currency
    return Stats(numbers, _conventions(result.spec, run), _extent(result.spec, run, currency), currency)


def _conventions(spec: RunSpec, run: Account) -> str:
    rate = f"{run.risk_free:.2%}".replace("%", " %")
    return (
        f"{run.periods:g} sessions a year, risk-free rate {rate} a year, costs {spec.costs}, "
        "equity at session ends after all costs."
    )


def _extent(spec: RunSpec, run: Account, currency: str) -> str:
    sessions = len(run.days)
    dates = f" from {run.days[0]} to {run.days[-1]}" if sessions else ""
    short = ", under a year: what is annual is extrapolated" if sessions < run.periods else ""
    return f"{sessions:,} sessions{dates}{short}, {spec.cash:,.2f} {currency} at the start."


def _worst(run: Account, what: str) -> float:
    worst = deepest(drawdowns(run.days, run.equity), 1)
    return float(getattr(worst[0], what)) if worst else 0.0


def _checked_equity(equity: np.ndarray) -> np.ndarray:
    equity = np.asarray(equity, dtype=float)
    if not len(equity) or not equity[0] > 0:
        raise ValueError(f"equity must begin with the initial cash, above 0; it begins with {equity[:1]}")
    possible = np.isfinite(equity) & (equity >= 0)
    if not possible.all():
        raise ValueError(f"equity must be finite and not below 0; it is not at {_places(~possible)}")
    return equity


def _checked_returns(returns: np.ndarray) -> np.ndarray:
    returns = np.asarray(returns, dtype=float)
    possible = np.isfinite(returns) & (returns >= -1)
    if not possible.all():
        raise ValueError(f"returns must be finite and not below -1; they are not at {_places(~possible)}")
    return returns


def _places(wrong: np.ndarray) -> str:
    places = np.flatnonzero(wrong)
    more = f" and {len(places) - 5:,} more" if len(places) > 5 else ""
    return f"positions {', '.join(map(str, places[:5]))}{more}"


def _a_period(rate: float, periods: float) -> float:
    return float((1 + rate) ** (1 / periods) - 1)


def _constant(values: np.ndarray) -> bool:
    return bool(np.ptp(values) <= max(1e-12 * abs(values.mean()), _ROUNDING))
