"""
Why a run differs from its baseline: revert each change on its own, and repeat the run.

A change is the cause if reverting it restores the old result. A change that cannot be reverted here (another version of
a library, or code or bars that were not kept) gets the verdict "not separated".
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from backtest.api import RunResult, run
from backtest.baselines.baseline import Baseline, drift_between
from backtest.baselines.changes import Change, Scene, account_in, changes, dividends_in, universe_in
from backtest.engine.account.margin.tables import ACCOUNTS
from backtest.errors import BacktestError, UsageError
from backtest.runs.spec import NO_DIVIDENDS

CAUSE, TOGETHER, PART, LIKELY, UNKNOWN, NO_PART = "cause", "together", "part", "likely", "not separated", "no part"
VERDICTS = {  # the most informative first
    CAUSE: "reverting it restores the old result",
    TOGETHER: "reverting it together with the others restores the old result",
    PART: "partial cause: reverting it changes the result but does not restore it",
    LIKELY: "the only remaining difference; it cannot be reverted here",
    UNKNOWN: "it cannot be reverted here, so its effect cannot be isolated",
    NO_PART: "it changed but does not affect the result",
}


@dataclass(frozen=True, slots=True)
class Cause:
    """An input that changed: which one, the verdict on it (a key of VERDICTS), and how it changed."""

    what: str
    verdict: str
    told: tuple[str, ...]


_CHANCE = Cause(
    "chance", CAUSE, ("two current runs in a row differ: the strategy uses unseeded random numbers or the clock",)
)


def repeat(scene: Scene) -> RunResult:
    """
    Repeat a run from its spec, on the bars of the scene's store.

    Raises:
        UsageError: the run used a risk-free return for each session, and these are not known.
    """
    spec = scene.spec
    brokerage = replace(spec.brokerage, costs=scene.costs or spec.brokerage.costs)
    if scene.dividends is not None and brokerage.dividends != NO_DIVIDENDS:
        brokerage = replace(brokerage, dividends=scene.dividends)
    if scene.account is not None and brokerage.account not in ACCOUNTS:
        brokerage = replace(brokerage, account=scene.account)
    if scene.universe is not None and brokerage.universe:
        brokerage = replace(brokerage, universe=scene.universe)
    rate = spec.risk_free if scene.risk_free is None else scene.risk_free
    if spec.rates and scene.risk_free is None:
        raise UsageError(
            f"{spec.name} was run with a risk-free return for each session, which a baseline cannot store; save a run "
            "with an annual rate"
        )
    result = run(
        scene.strategy, spec.series, store=scene.store, span=spec.span, params=spec.params, cash=spec.cash,
        benchmark=spec.benchmark, risk_free=rate, periods=spec.periods, brokerage=brokerage, lines=False,
        warm_up=spec.warm_up,
    )  # fmt: skip
    # The periods per year stay: 0.1.0 annualised all its figures by 252 sessions, whatever the bars.
    return replace(result, spec=replace(result.spec, strategy=spec.strategy, measured_by=spec.measured_by))


def explain(old: Baseline, new: Baseline, scene: Scene) -> list[Cause]:
    """Return the verdict on every changed input, causes first, for a run that differs from its baseline."""
    scene = replace(
        scene,
        dividends=scene.dividends or dividends_in(new),
        account=scene.account or account_in(new),
        universe=scene.universe or universe_in(new),
    )
    differing = changes(old, new, scene)
    if _by_chance(new, scene):
        return [_CHANCE]
    verdicts = _tried(old, new, scene, [one for one in differing if one.put_back])
    left = [one.what for one in differing if one.what not in verdicts]
    verdicts |= dict.fromkeys(left, _verdict_on_the_rest(verdicts, left))
    causes = [Cause(one.what, verdicts[one.what], one.told) for one in differing]
    return sorted(causes, key=lambda cause: list(VERDICTS).index(cause.verdict))


# --- one change reverted at a time


def _tried(old: Baseline, new: Baseline, scene: Scene, movable: Sequence[Change]) -> dict[str, str]:
    """Return the verdict on each change, reverted alone; if none of them is the cause, also reverted together."""
    verdicts = {one.what: _verdict(old, new, scene, [one]) for one in movable}
    if len(movable) > 1 and CAUSE not in verdicts.values() and _verdict(old, new, scene, movable) == CAUSE:
        needed = [what for what, verdict in verdicts.items() if verdict != NO_PART] or list(verdicts)
        verdicts |= dict.fromkeys(needed, TOGETHER if len(needed) > 1 else CAUSE)
    return verdicts


def _verdict(old: Baseline, new: Baseline, scene: Scene, put_back: Sequence[Change]) -> str:
    try:
        with contextlib.ExitStack() as stack:
            for one in put_back:
                scene = one.put_back(stack, scene) if one.put_back else scene
            found = Baseline.of(repeat(scene))
    except BacktestError:
        return UNKNOWN  # such as old code that does not know a new parameter
    if not drift_between(old, found).any:
        return CAUSE
    return PART if drift_between(new, found).any else NO_PART


def _verdict_on_the_rest(verdicts: Mapping[str, str], left: Sequence[str]) -> str:
    if {CAUSE, TOGETHER} & {*verdicts.values()}:
        return NO_PART
    alone = len(left) == 1 and all(verdict == NO_PART for verdict in verdicts.values())
    return LIKELY if alone else UNKNOWN


def _by_chance(new: Baseline, scene: Scene) -> bool:
    return drift_between(new, Baseline.of(repeat(scene))).any
