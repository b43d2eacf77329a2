"""`run_at_costs`: repeat a run at other costs, and find the break-even multiple."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from backtest import _arguments
from backtest.api import run
from backtest.engine.account.borrowing import STORED
from backtest.engine.account.commissions import costs_of, costs_times
from backtest.engine.account.margin.tables import with_kept_account
from backtest.engine.compiled.loop import Loop
from backtest.engine.execution import Slippage
from backtest.errors import StrategyError, UsageError
from backtest.market.span import Span
from backtest.metrics.measurement import Measured, check_result
from backtest.research.search.job import Point, job_of, trials_of
from backtest.runs.cost_table import CostCase, CostTable
from backtest.runs.record import RunRecord
from backtest.runs.spec import Brokerage, RunSpec, check_has_strategy, with_kept_universe
from backtest.store.reader import Reader
from backtest.validity.cost_stress import break_even_costs

FACTORS = (0.0, 1.0, 2.0)

_Run = TypeVar("_Run", bound=RunRecord)
_EXACT = 0.005  # of the break-even multiple, which is shown with one decimal
_MOST_RUNS = 24  # of the search for it: a factor of two more with each, and then halved until it is exact


def run_at_costs(
    result: _Run,
    factors: Iterable[float] = FACTORS,
    *,
    store: Reader | str | Path,
    strategy: str | Path | type[Any] | None = None,
    engine: str = "",
) -> _Run:
    """
    Return a run with the table of its results at multiples of its costs, and of the break-even multiple.

    Commissions, slippage and borrow fees are multiplied, and the strategy is run again, with all consequences for
    sizes, rejected orders and decisions. Multiples that are already in the run's table are not run again.

    Args:
        factors: 0 for no costs, 2 for twice the costs.
        store: where its bars are.
        strategy: its strategy, as in `run`; by default loaded from its file.
        engine: the engine of the runs, as in `run`.

    Raises:
        UsageError: a factor is not a number, the run's strategy or costs are not available, or the run now gives
            another result.
        NoBars: the store lacks the bars.
        StrategyError: the strategy fails at other costs.
    """
    measured, wanted = check_result(result, "result"), cost_factors_of(factors)
    table = result.cost_table
    if table is not None and all(table.at(factor) for factor in wanted):
        return result
    check_has_strategy(measured.spec.strategy)
    chosen, loop = measured.spec.strategy if strategy is None else strategy, Loop.of(engine)
    again = _Again(measured, store, chosen, engine if loop.wants(len(measured.record)) else "event")
    known = {case.factor: case for case in table.cases} if table else {}
    if table is None:
        known[1.0] = again.at(1.0)
        _check_same(measured, known[1.0])
    for factor in wanted:
        known[factor] = known.get(factor) or again.at(factor)
    cases = tuple(known[factor] for factor in sorted(known))
    if table is not None:
        return replace(result, cost_table=replace(table, cases=cases))
    even, why = _break_even(measured, lambda factor: (known.get(factor) or again.at(factor)).total_return)
    return replace(result, cost_table=CostTable(cases, even, why))


def cost_factors_of(given: Any) -> list[float]:
    """
    Return multiples of the costs.

    Raises:
        UsageError: one is not a number from 0 on.
    """
    example = "write a list of numbers from 0 on, such as [0, 1, 2]"
    found = [_arguments.number(one, "a factor", example) for one in _arguments.several(given, "factors", example)]
    for factor in found:
        if not 0 <= factor < math.inf:
            _arguments.refuse("a factor", factor, example)
    return found


def brokerage_at(brokerage: Brokerage, factor: float) -> Brokerage:
    """
    Return a brokerage that charges a multiple: of commissions, slippage and borrow fees.

    It has the form that a user would write for a single run: twice "5bp" is "10bp". Stored borrow fees are IB's: at 0
    they are omitted, otherwise unchanged.

    Raises:
        UsageError: the costs are an object that the run no longer has.
    """
    return replace(
        brokerage,
        costs=costs_times(costs_of(brokerage.costs), factor),
        slippage=_slippage_at(brokerage.slippage, factor),
        borrow=_borrow_at(brokerage.borrow, factor),
    )


class _Again:
    """A run to repeat at other costs."""

    def __init__(
        self, result: Measured, store: Reader | str | Path, strategy: str | Path | type[Any], engine: str
    ) -> None:
        spec = result.spec
        if result.manifest.get("frame"):
            raise UsageError(
                "its bars came from a frame, which a saved run does not store; ingest them into a store first"
            )
        if spec.rates:
            raise UsageError("it was given a risk-free return for each session, which a saved run does not store")
        self.spec, self.store, self.strategy, self.engine = spec, store, strategy, engine
        self.brokerage = with_kept_account(with_kept_universe(spec.brokerage, result.manifest), result.manifest)

    def at(self, factor: float) -> CostCase:
        """Return the case of a multiple of the costs."""
        brokerage = brokerage_at(self.brokerage, factor)
        found = _numbers(self.strategy, self.spec, brokerage, self.store, self.engine)
        return CostCase(factor, *(found[name] for name in ("total_return", "cagr", "sharpe")))


def _numbers(
    strategy: str | Path | type[Any], spec: RunSpec, brokerage: Brokerage, store: Reader | str | Path, engine: str
) -> dict[str, float]:
    asked: dict[str, Any] = {
        "store": store, "params": spec.params, "cash": spec.cash, "benchmark": spec.benchmark,
        "risk_free": spec.risk_free, "periods": spec.periods, "brokerage": brokerage,
    }  # fmt: skip
    if isinstance(spec.span, Span) or spec.warm_up or engine != "event":  # which no trial of a sweep has
        more: dict[str, Any] = {"warm_up": spec.warm_up, "lines": False, "engine": engine}
        result = run(strategy, spec.series, span=spec.span, **more, **asked)
        return dict(result.stats)
    (trial,) = trials_of(job_of(strategy, spec.series, span=spec.span, **asked), [Point({})])
    if trial.error:
        raise StrategyError(trial.error)
    return dict(trial.metrics)


def _check_same(result: Measured, now: CostCase) -> None:
    before = result.stats["total_return"]
    if now.total_return != before:
        raise UsageError(
            f"run again with the same settings, it returns {now.total_return:.4%} instead of {before:.4%}; backtest "
            "reproduce says why"
        )


def _break_even(result: Measured, total_at: Callable[[float], float]) -> tuple[float, str]:
    """Return the break-even multiple, between two runs close to each other, or why there is none."""
    if not _costs_anything(result):
        return math.nan, "no costs"
    low, high = (0.0, total_at(0.0)), (math.inf, 0.0)
    if not low[1] > 0:
        return math.nan, "loses before costs"
    guess = break_even_costs(replace(result, cost_table=None))
    factor = guess if guess > 0 else 1.0
    for _ in range(_MOST_RUNS):
        gained = total_at(factor)
        low, high = ((factor, gained), high) if gained > 0 else (low, (factor, gained))
        if high[0] == math.inf:
            factor = max(2 * low[0], 1.0)
        elif high[0] - low[0] <= _EXACT * high[0]:
            return low[0] + (high[0] - low[0]) * low[1] / (low[1] - high[1]), ""
        else:
            factor = (low[0] + high[0]) / 2
    return math.nan, "undefined"


def _costs_anything(result: Measured) -> bool:
    brokerage = result.spec.brokerage
    return bool(result.account.costs or brokerage.slippage or brokerage.borrow)


def _borrow_at(text: str, factor: float) -> str:
    if text == STORED:
        return text if factor else ""
    rules = [rule.rpartition("=") for rule in text.split(",") if rule]
    return ",".join(f"{where}{mark}{_times(rate, factor)}" for where, mark, rate in rules)


def _slippage_at(text: str, factor: float) -> str:
    kind = Slippage.parse(text).kind
    if not kind or not factor:
        return ""
    if kind == "spread":
        return f"spread:{_times(text.partition(':')[2] or '1', factor)}" if factor != 1 else text
    if kind == "basis points":
        return f"{_times(text.removesuffix('bp'), factor)}bp"
    return f"{'impact' if kind == 'impact' else 'money'}:{_times(text.rpartition(':')[2], factor)}"


def _times(number: str, factor: float) -> str:
    """Return a multiple of a number in decimal arithmetic, as a user expects: 3 times 0.1 is 0.3."""
    return f"{(Decimal(number) * Decimal(repr(factor))).normalize():f}"
