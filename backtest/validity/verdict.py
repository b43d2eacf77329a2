"""`verdict`: whether a run is skill or luck, with reasons."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from backtest.market.series import Series
from backtest.metrics.account import Account, hold_name
from backtest.metrics.benchmark import AlphaTest, alpha_test
from backtest.metrics.measurement import notes_of
from backtest.metrics.returns import excess_returns, why_no_deviation
from backtest.metrics.sharpe_tests import (
    critical,
    deflated_sharpe,
    moments,
    sharpe_error_autocorrelated,
    sharpe_interval_autocorrelated,
)
from backtest.metrics.table import METRICS
from backtest.metrics.trades import closed_positions
from backtest.validity.cost_stress import break_even_costs

if TYPE_CHECKING:
    from backtest.metrics.measurement import Measured

_NORMAL = NormalDist()
_FEWEST = 4  # sessions, as of `alpha_test`
_SAME = 0.001  # of the variance: a run that is the market itself still differs by its first day and its costs
_FEW_TRADES = 30  # trades below which their mean says little; the usual rule of thumb for the central limit theorem
_NO_FAULT = "no red flags"
_SURE = 0.95  # the lowest deflated Sharpe ratio to accept
# One-sided, of alpha: at 95 % one coin in twenty would hold. Ten years of an annual appraisal ratio of 1 pass in four
# of five cases, and one of 0.74 in every other.
_CONFIDENCE = 0.99
_LEVEL = 2 * _CONFIDENCE - 1  # of the interval of which that is one end
_MANY = 20  # stocks, of which some end in a few years
_PAUSE = timedelta(days=14)  # how long a stock that still trades may be without a bar


@dataclass(frozen=True, slots=True)
class Verdict:
    """A short judgement of a run, and its reasons."""

    words: str
    reasons: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether there are no red flags."""
        return self.words == _NO_FAULT

    def _repr_html_(self) -> str:
        head, *reasons = str(self).splitlines()
        lines = "<br>".join(html.escape(reason.removeprefix("- ")) for reason in reasons)
        return f"<p><b>{html.escape(head)}</b><br><small>{lines}</small></p>"

    def __str__(self) -> str:
        return "\n".join([self.words[:1].upper() + self.words[1:] + ".", *(f"- {one}" for one in self.reasons)])


def verdict(result: Measured, trials: Sequence[float] = (), looks_ahead: Sequence[object] = ()) -> Verdict:
    """
    Return the verdict on a run: its most serious fault as a text, and all faults as reasons.

    Skill is one test: is alpha over the benchmark, or over cash if there is none, above 0?

    Args:
        trials: the annual Sharpe ratios of all trials, including this run; none if it was the only one.
        looks_ahead: the result of `look_ahead`.
    """
    run, judged = result.account, _judged(result)
    found = [
        *_about_the_future(looks_ahead), *_about_orders(result), *_about_money(run), *_about_length(result),
        *_about_costs(result), *_about_trials(judged, trials), *_about_luck(result, judged),
        *_about_survivors(result),
    ]  # fmt: skip
    faults = [words for words, _ in found if words]
    return Verdict(faults[0] if faults else _NO_FAULT, tuple(reason for _, reason in found))


@dataclass(frozen=True, slots=True)
class _Judged:
    """A run and what it is compared with."""

    own: Account
    market: np.ndarray | None  # None: cash
    name: str  # of the market; of cash why there is none
    test: AlphaTest


def _judged(result: Measured) -> _Judged:
    run = result.account
    beside, market = run.beside, run.benchmark
    if market is None:
        why = "a price of its benchmark was not above 0"
    elif len(market) < _FEWEST or len(market) != len(beside.returns):
        why = "its benchmark has too few of its sessions"
    elif why_no_deviation(excess_returns(market, beside.risk_free, beside.periods)):
        why = "its benchmark does not move"
    else:
        test = alpha_test(beside.returns, market, beside.risk_free, beside.periods)
        return _Judged(beside, market, f"buying and holding {hold_name(result)}", test)
    return _Judged(run, None, why, alpha_test(run.returns, None, run.risk_free, run.periods))


def _about_the_future(looks_ahead: Sequence[object]) -> Iterator[tuple[str, str]]:
    if looks_ahead:
        count = len(looks_ahead)
        decisions = "1 decision depends" if count == 1 else f"{count:,} decisions depend"
        yield "look-ahead bias", f"{decisions} on later bars, the first: {looks_ahead[0]}"


def _about_orders(result: Measured) -> Iterator[tuple[str, str]]:
    refused = 0 < result.account.rejected == len(result.orders_table)
    fault = "" if len(result.fills_table) else "every order was rejected" if refused else "no order was filled"
    for note in notes_of(result):
        yield fault, note.removesuffix(".")


def _about_money(run: Account) -> Iterator[tuple[str, str]]:
    ratio = METRICS["sharpe"].function(run)
    if getattr(ratio, "reason", "") == "constant":
        yield "does nothing", "its returns do not vary"
    elif run.equity[-1] <= run.equity[0]:
        yield "loses money", f"the total return is {_percent(run.equity[-1] / run.equity[0] - 1)}"
    elif ratio <= 0:
        yield "earns less than cash", f"the Sharpe ratio, over the risk-free rate, is {ratio:.2f}"


def _about_length(result: Measured) -> Iterator[tuple[str, str]]:
    run = result.account
    if run.under_a_year:
        yield "inconclusive: track record too short", f"{len(run.returns):,} {run.unit} are less than a year"
    closed = closed_positions(result.fills_table)  # a position bought in ten parts is one observation, not ten
    if 0 < closed < _FEW_TRADES:
        yield "inconclusive: track record too short", f"fewer than {_FEW_TRADES} closed trades: {closed}"


def _about_costs(result: Measured) -> Iterator[tuple[str, str]]:
    factor = break_even_costs(result)
    if factor != factor:
        return
    fault = "does not survive 2× costs" if 1 < factor <= 2 else ""
    about = "" if result.cost_table else " (approximated from the trades of the run)"
    yield fault, f"break-even cost multiple: {factor:,.1f}{about}"


def _about_trials(judged: _Judged, trials: Sequence[float]) -> Iterator[tuple[str, str]]:
    known = np.array([one for one in trials if math.isfinite(one)])
    if len(known) < 2 or judged.test.t != judged.test.t:
        return
    own, beyond = judged.own, ""
    returns, rate = excess_returns(own.returns, own.risk_free, own.periods), 0.0
    if judged.market is not None:
        returns = returns - judged.test.beta * excess_returns(judged.market, own.risk_free, own.periods)
        beyond = f" for the alpha over {judged.name}"
    # Luck moves the Sharpe ratio of a trial as it moves alpha over its whole volatility, of which this is a part.
    deviation = float(known.std(ddof=1)) / math.sqrt(own.periods * judged.test.unexplained)
    probability = deflated_sharpe(*moments(returns, rate), len(known), deviation)
    fault = f"not significant after correction for {len(known):,} trials" if probability < _SURE else ""
    yield fault, f"best of {len(known):,} trials: deflated Sharpe ratio {probability:.2f}{beyond}"


def _about_luck(result: Measured, judged: _Judged) -> Iterator[tuple[str, str]]:
    run, test = result.account, judged.test
    if not np.ptp(run.equity):  # it never traded: there is nothing to explain
        return
    if len(result.fills_table) and not len(run.net):
        yield "buys and holds", "no position was ever closed: a single decision, which no test can tell from luck"
    if judged.market is not None and not test.unexplained > _SAME:
        yield "does what its market does", f"{judged.name} explains all of its returns"
    if test.t == test.t:
        yield _fault_of(judged), _alpha_words(judged)
    if 0 < test.t < critical(_LEVEL):
        needed = len(judged.own.returns) * (critical(_LEVEL) / test.t) ** 2
        what = "excess return" if judged.market is None else "alpha"
        yield (
            "inconclusive: track record too short",
            f"minimum track record of the {what}: {needed:,.0f} {run.unit} at {_CONFIDENCE * 100:.0f} % confidence; "
            f"the run has {len(judged.own.returns):,}",
        )
    error = sharpe_error_autocorrelated(run.returns, run.risk_free, run.periods)
    if error == error:
        low, high = sharpe_interval_autocorrelated(run.returns, run.risk_free, run.periods)
        probability = _NORMAL.cdf(run.moments.ratio / error)
        yield (
            "",
            f"Sharpe ratio of total returns, not in excess of buy-and-hold: 95 % CI {low:.2f} to {high:.2f} with HAC "
            f"standard errors; probability that the true ratio is above 0: {_likely(probability)}",
        )


def _about_survivors(result: Measured) -> Iterator[tuple[str, str]]:
    """Yield the reason if a run on many stocks has none that was delisted, as some are in a real market."""
    known = result.manifest.get("series", {}).items()
    ends = {key: date.fromisoformat(told["to"][:10]) for key, told in known if "to" in told}
    stocks = [key for key in result.spec.series if key in ends and Series.parse(key).instrument.kind == "STK"]
    if len(stocks) < _MANY or result.account.under_a_year:
        return
    newest = max(ends[key] for key in stocks)
    members = result.manifest.get("universe", {}).get("rows", ())
    left = any(last and date.fromisoformat(last) < newest for _, _, last, _ in members)
    if left or any(newest - ends[key] > _PAUSE for key in stocks):
        return
    yield (
        "survivorship bias",
        f"all {len(stocks):,} stocks trade to the end; of a list drawn up at the start, some would have been "
        "delisted; give the membership over time with --universe",
    )


def _fault_of(judged: _Judged) -> str:
    if judged.test.t <= 0:
        return "earns less than cash" if judged.market is None else "earns no more than its market"
    return "" if judged.test.t >= critical(_LEVEL) else "inconclusive: track record too short"


def _alpha_words(judged: _Judged) -> str:
    test, reach = judged.test, critical(_LEVEL) * judged.test.error
    ends = f"{_LEVEL * 100:.0f} % CI {_percent(test.alpha - reach)} to {_percent(test.alpha + reach)}"
    precision = f"({ends}, t = {test.t:.2f} with HAC standard errors)"
    if judged.market is None:
        return (
            f"annual excess return over cash, since {judged.name}: {_percent(test.alpha)} {precision}, Sharpe ratio "
            f"{test.appraisal:.2f}"
        )
    return f"annual alpha over {judged.name}: {_percent(test.alpha)} {precision}, appraisal ratio {test.appraisal:.2f}"


def _likely(probability: float) -> str:
    """Return a probability with three digits, which never reads as certainty."""
    return f"{min(max(probability, 0.001), 0.999):.3f}"


def _percent(share: float) -> str:
    return f"{share * 100:,.2f} %"
