"""`verdict`: whether a run is skill or luck, with reasons."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest.metrics.account import Account
from backtest.metrics.measurement import notes_of
from backtest.metrics.sharpe_tests import deflated_sharpe, minimum_track_record, probabilistic_sharpe, sharpe_interval
from backtest.metrics.table import METRICS
from backtest.metrics.trades import closed_positions
from backtest.validity.cost_stress import break_even_costs

if TYPE_CHECKING:
    from backtest.metrics.measurement import Measured

_FEW_TRADES = 30  # below which means of trades say little; the usual rule of thumb for the central limit
_NO_FAULT = "holds so far"
_SURE = 0.95  # of a probability that is to be believed


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


def verdict(result: Measured, trials: Sequence[float] = (), looks_ahead: Sequence[object] = ()) -> Verdict:
    """
    Return what can be said of a run: the gravest of its faults in words, and all of them as reasons.

    Args:
        trials: the Sharpe ratios a year of everything that was tried, this run among them; none if it was the only.
        looks_ahead: what `look_ahead` found.
    """
    run = result.account
    found = [
        *_about_the_future(looks_ahead), *_about_orders(result), *_about_money(run), *_about_length(result),
        *_about_costs(result), *_about_trials(run, trials), *_about_luck(run),
    ]  # fmt: skip
    faults = [words for words, _ in found if words]
    return Verdict(faults[0] if faults else _NO_FAULT, tuple(reason for _, reason in found))


def _about_the_future(looks_ahead: Sequence[object]) -> Iterator[tuple[str, str]]:
    if looks_ahead:
        yield "looks ahead", f"{len(looks_ahead)} decisions change with bars after them, the first: {looks_ahead[0]}"


def _about_orders(result: Measured) -> Iterator[tuple[str, str]]:
    refused = 0 < result.account.rejected == len(result.orders_table)
    fault = "" if len(result.fills_table) else "every order was refused" if refused else "no order was filled"
    for note in notes_of(result):
        yield fault, note.removesuffix(".")


def _about_money(run: Account) -> Iterator[tuple[str, str]]:
    ratio = METRICS["sharpe"].function(run)
    if getattr(ratio, "reason", "") == "constant":
        yield "does nothing", "its returns do not vary"
    elif run.equity[-1] <= run.equity[0]:
        yield "loses money", f"the total return is {_percent(run.equity[-1] / run.equity[0] - 1)}"
    elif ratio <= 0:
        yield "earns less than cash", f"the Sharpe ratio is {ratio:.2f} above the risk-free rate"


def _about_length(result: Measured) -> Iterator[tuple[str, str]]:
    run = result.account
    ratio, size, skew, kurtosis = run.moments
    needed = minimum_track_record(ratio, skew, kurtosis)
    if run.under_a_year:
        yield "too short to tell", f"{size:,} {run.unit} are less than a year"
    elif needed > size:
        yield (
            "too short to tell",
            f"to be above 0, a Sharpe ratio like this takes {needed:,.0f} {run.unit}; it has {size:,}",
        )
    closed = closed_positions(result.fills_table)  # one that was bought in ten parts is one chance, and not ten
    if 0 < closed < _FEW_TRADES:
        yield "too short to tell", f"less than {_FEW_TRADES} trades were closed: {closed}"


def _about_costs(result: Measured) -> Iterator[tuple[str, str]]:
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
