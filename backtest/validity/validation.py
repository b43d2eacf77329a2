"""Is it skill or luck: intervals by resampling, other orders of the trades, other costs, and a verdict in words."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest import _arguments
from backtest.market import arrays
from backtest.metrics.account import Account, column, session_ends
from backtest.metrics.measurement import check_result
from backtest.metrics.returns import Undefined, autocorrelations, equity_of, returns_of
from backtest.metrics.sharpe_tests import (
    CONFIDENCE,
    deflated_sharpe,
    minimum_track_record,
    probabilistic_sharpe,
    sharpe_interval,
)
from backtest.metrics.table import METRICS

if TYPE_CHECKING:
    from backtest.runs.record import RunResult

SAMPLES = 1000
# The headline numbers that resampled sessions, or resampled trades, have too. Days of the calendar, turnover and the
# count of trades have no meaning there.
OF_SESSIONS = ("total_return", "cagr", "volatility", "sharpe", "sortino", "max_drawdown", "max_drawdown_sessions",
               "calmar", "exposure")  # fmt: skip
OF_TRADES = ("win_rate", "profit_factor", "expectancy", "sqn")

_FEW_TRADES = 30  # below which means of trades say little; the usual rule of thumb for the central limit
_NO_FAULT = "holds so far"
_SURE = 0.95  # of a probability that is to be believed
_CELLS = 4_000_000  # numbers in memory at a time
_QUICK = 10_000_000  # sessions, or trades, that are drawn in a second or two
_FEWEST = 100  # samples below which an interval of 95 % says nothing


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


@dataclass(frozen=True, slots=True)
class Orders:
    """What the same trades could have come to: quantiles of 5, 50 and 95 % over many draws."""

    method: str  # "shuffle", "resample" or "skip"
    end: tuple[float, ...]  # money
    drawdown: tuple[float, ...]  # deepest, between ends of trades, the worst first
    loss: float  # share of the draws that ended below the cash at the start
    halved: float  # share of the draws that fell to half of a peak


def monte_carlo(
    net: np.ndarray, cash: float, samples: int = SAMPLES, seed: int = 0, skipped: float = 0.1
) -> list[Orders]:
    """
    Return what the trades could have come to in another order, drawn with replacement, and with some left out.

    Each trade gains or loses the share of the account that it did, so that sizes grow and shrink with it; the account
    is counted in closed trades.

    Args:
        net: money of each closed round trip, shape (k,), in order of exits.
        cash: money at the start.
        skipped: the probability with which "skip" leaves out a trade.
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


@dataclass(frozen=True, slots=True)
class CostCase:
    """The run at a multiple of its costs: the same trades of the same size."""

    factor: float
    total_return: float
    cagr: float
    sharpe: float


def cost_cases(result: RunResult, factors: Sequence[float] = (0.0, 1.0, 2.0)) -> list[CostCase]:
    """
    Return the run at multiples of the costs it paid.

    Nothing is run again: the money that is paid more or less is taken off the equity from each fill on, and sizes
    stay as they were, so that this can be said of a saved run without its bars.
    """
    cases = [(factor, _at_costs(result, factor)) for factor in factors]
    names = ("total_return", "cagr", "sharpe")
    return [CostCase(factor, *(METRICS[name].function(run) for name in names)) for factor, run in cases]


def break_even_costs(result: RunResult) -> float:
    """
    Return the multiple of the costs paid at which nothing is gained and nothing lost, by the same trades.

    Undefined without costs, or where there is a loss even without them.
    """
    run = result.account
    if not run.costs:
        return Undefined("no costs")
    factor = 1 + float(run.equity[-1] - run.equity[0]) / run.costs
    return factor if factor >= 0 else Undefined("loses before costs")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What can be said of a run in a few words, and why."""

    words: str
    reasons: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether no fault was found."""
        return self.words == _NO_FAULT

    def _repr_html_(self) -> str:
        head, *reasons = str(self).splitlines()
        lines = "<br>".join(html.escape(reason.removeprefix("- ")) for reason in reasons)
        return f"<p><b>{html.escape(head)}</b><br><small>{lines}</small></p>"

    def __str__(self) -> str:
        return "\n".join([self.words[:1].upper() + self.words[1:] + ".", *(f"- {one}" for one in self.reasons)])


def verdict(result: RunResult, trials: Sequence[float] = (), looks_ahead: Sequence[object] = ()) -> Verdict:
    """
    Return what can be said of a run: the gravest of its faults in words, and all of them as reasons.

    Args:
        trials: the Sharpe ratios a year of everything that was tried, this run among them; none if it was the only.
        looks_ahead: what `look_ahead` found.
    """
    run = result.account
    found = [
        *_about_the_future(looks_ahead), *_about_money(run), *_about_length(run), *_about_costs(result, run),
        *_about_trials(run, trials), *_about_luck(run),
    ]  # fmt: skip
    faults = [words for words, _ in found if words]
    return Verdict(faults[0] if faults else _NO_FAULT, tuple(reason for _, reason in found))


@dataclass(frozen=True, slots=True)
class Validity:
    """All that there is to say of whether a run is skill or luck."""

    verdict: Verdict
    intervals: Intervals
    orders: list[Orders]
    costs: list[CostCase]
    break_even: float  # see `break_even_costs`
    looks_ahead: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON: None where a number is not defined."""
        found: dict[str, Any] = _for_json(asdict(self))
        return found


def validate(
    result: RunResult,
    *,
    samples: int | None = None,
    seed: int = 0,
    factors: Sequence[float] = (0.0, 1.0, 2.0),
    trials: Sequence[float] = (),
    looks_ahead: Sequence[object] = (),
) -> Validity:
    """
    Return all of the above for a run.

    Args:
        samples: of the bootstrap, and of each Monte Carlo of the trades; if not given SAMPLES, or as many as are
            quick, if there are so many sessions or trades.
        factors: multiples of the costs.
        seed: of all that is drawn.
        trials: see `verdict`.
        looks_ahead: see `verdict`.

    Raises:
        UsageError: an argument cannot be read.
    """
    check_result(result, "result")
    seed = _arguments.seed_of(seed)
    if samples is not None:
        samples = _arguments.whole(samples, "samples", 1)
    multiples = "write a list of numbers, such as [0, 1, 2]"
    factors = [
        _arguments.number(one, "a factor", multiples) for one in _arguments.several(factors, "factors", multiples)
    ]
    ratios = "write a list of Sharpe ratios, such as Sweep.ratios"
    trials = [_arguments.number(one, "a trial", ratios) for one in _arguments.several(trials, "trials", ratios)]
    looks_ahead = _arguments.several(looks_ahead, "looks_ahead", "write the list that look_ahead returns")
    run = result.account
    samples = samples or int(np.clip(_QUICK // max(len(run.days), len(run.net), 1), _FEWEST, SAMPLES))
    return Validity(
        verdict(result, trials, looks_ahead),
        bootstrap(run, samples, seed),
        monte_carlo(run.net, result.spec.cash, samples, seed),
        cost_cases(result, factors),
        break_even_costs(result),
        tuple(map(str, looks_ahead)),
    )


def _for_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _for_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_for_json(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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


def _ends_of(draw: Callable[[int], np.ndarray], samples: int, trades: int) -> np.ndarray:
    """Return the growth to the end and the deepest drawdown of each draw, shape (2, samples)."""
    step = max(1, _CELLS // trades)
    return np.hstack([_ends(draw(min(step, samples - at))) for at in range(0, samples, step)])


def _ends(shares: np.ndarray) -> np.ndarray:
    growth = np.cumprod(1 + shares, axis=1)
    highest = np.maximum(np.maximum.accumulate(growth, axis=1), 1)
    return np.stack([growth[:, -1], (growth / highest).min(axis=1) - 1])


def _orders(method: str, drawn: np.ndarray, cash: float) -> Orders:
    growth, depths = drawn
    end, depth = (tuple(np.quantile(values, [0.05, 0.5, 0.95]).tolist()) for values in (growth * cash, depths))
    return Orders(method, end, depth, float(np.mean(growth < 1)), float(np.mean(depths <= -0.5)))


def _at_costs(result: RunResult, factor: float) -> Account:
    run, fills = result.account, result.fill_rows
    times = arrays.numbers(result.record["time"])[session_ends(result.record)]
    filled = np.searchsorted(arrays.numbers(fills["time"]), times, side="right")
    paid = np.concatenate([[0.0], np.cumsum(column(fills, "costs"))])[filled]
    money = run.equity + (1 - factor) * np.concatenate([[0.0], paid])
    alive = np.logical_and.accumulate(money > 0)  # who has nothing left stays so
    equity = np.where(alive, money, 0.0)
    return replace(run, equity=equity, returns=returns_of(equity), costs=run.costs * factor)


def _about_the_future(looks_ahead: Sequence[object]) -> Iterator[tuple[str, str]]:
    if looks_ahead:
        yield "looks ahead", f"{len(looks_ahead)} decisions change with bars after them, the first: {looks_ahead[0]}"


def _about_money(run: Account) -> Iterator[tuple[str, str]]:
    ratio = METRICS["sharpe"].function(run)
    if getattr(ratio, "reason", "") == "constant":
        yield "does nothing", "its returns do not vary"
    elif run.equity[-1] <= run.equity[0]:
        yield "loses money", f"the total return is {_percent(run.equity[-1] / run.equity[0] - 1)}"
    elif ratio <= 0:
        yield "earns less than cash", f"the Sharpe ratio is {ratio:.2f} above the risk-free rate"


def _about_length(run: Account) -> Iterator[tuple[str, str]]:
    ratio, size, skew, kurtosis = run.moments
    needed = minimum_track_record(ratio, skew, kurtosis)
    if run.under_a_year:
        yield "too short to tell", f"{size:,} sessions are less than a year"
    elif needed > size:
        yield (
            "too short to tell",
            f"to be above 0, a Sharpe ratio like this takes {needed:,.0f} sessions; it has {size:,}",
        )
    if 0 < len(run.net) < _FEW_TRADES:
        yield "too short to tell", f"less than {_FEW_TRADES} trades were closed: {len(run.net)}"


def _about_costs(result: RunResult, run: Account) -> Iterator[tuple[str, str]]:
    factor = break_even_costs(result)
    if factor != factor:
        return
    fault = "does not survive 2× costs" if 1 < factor <= 2 else ""
    yield fault, f"what it earns is gone at {factor:,.1f}× the costs it paid"


def _about_trials(run: Account, trials: Sequence[float]) -> Iterator[tuple[str, str]]:
    known = np.array([one for one in trials if math.isfinite(one)])
    if len(known) < 2 or run.moments.ratio != run.moments.ratio:
        return
    probability = deflated_sharpe(*run.moments, len(known), float(known.std(ddof=1)) / math.sqrt(run.periods))
    words = f"one of {len(known):,} trials: deflated Sharpe {probability:.2f}"
    yield words if probability < _SURE else "", words


def _about_luck(run: Account) -> Iterator[tuple[str, str]]:
    probability = probabilistic_sharpe(*run.moments)
    if probability != probability:
        return
    low, high = sharpe_interval(*run.moments, run.periods)
    inside = low <= 0 <= high
    words = f"{low:.2f} and {high:.2f} at 95 % by its standard error"
    text = f"the Sharpe ratio is between {words}, above 0 with probability {_likely(probability)}"
    yield "cannot be told from luck" if inside else "", text


def _likely(probability: float) -> str:
    """Return a probability in three digits, which never say that a thing is sure."""
    return f"{min(max(probability, 0.001), 0.999):.3f}"


def _percent(share: float) -> str:
    return f"{share * 100:,.2f} %"
