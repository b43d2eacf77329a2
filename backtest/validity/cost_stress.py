"""The results of a run at other costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from backtest.metrics.account import Account, column, costs_until, flows_of, session_ends, without_flows
from backtest.metrics.returns import Undefined, returns_of
from backtest.metrics.table import METRICS
from backtest.runs.cost_table import CostCase

if TYPE_CHECKING:
    from backtest.metrics.measurement import Measured


def cost_cases(result: Measured, factors: Sequence[float] = (0.0, 1.0, 2.0)) -> list[CostCase]:
    """
    Return the run at multiples of its costs: from its table if the strategy was run again at all of these.

    Otherwise they are an approximation, which needs no bars: the additional commissions, slippage and borrow fees are
    deducted from equity from each fill and each day on, and trades and sizes stay unchanged. See `run_again`.
    """
    if known := _from_table(result, factors):
        return known
    cases = [(factor, _at_costs(result, factor)) for factor in factors]
    names = ("total_return", "cagr", "sharpe")
    return [CostCase(factor, *(METRICS[name].function(run) for name in names)) for factor, run in cases]


def run_again(result: Measured, factors: Sequence[float]) -> bool:
    """Return whether the cases of some multiples are runs, and not an approximation."""
    return bool(_from_table(result, factors))


def break_even_costs(result: Measured) -> float:
    """
    Return the break-even multiple of the costs: from its table if that has it.

    Otherwise it is computed from the same trades. Undefined without costs, or if the run loses even without them.
    """
    run, table = result.account, result.cost_table
    if table is not None:
        return Undefined(table.why) if table.break_even != table.break_even else table.break_even
    if not run.costs:
        return Undefined("no costs")
    factor = 1 + float(run.worth[-1] - run.worth[0] - run.added) / run.costs
    return factor if factor >= 0 else Undefined("loses before costs")


def _from_table(result: Measured, factors: Sequence[float]) -> list[CostCase]:
    """Return the cases of a run's table; none if it lacks one of them."""
    found = [result.cost_table.at(factor) for factor in factors] if result.cost_table else []
    known = [case for case in found if case is not None]
    return known if len(known) == len(factors) else []


def _at_costs(result: Measured, factor: float) -> Account:
    run = result.account
    if run.money is not None:
        return _with_flows(result, factor)
    paid = costs_until(result, session_ends(result.record))
    money = run.equity + (1 - factor) * np.concatenate([[0.0], paid])
    alive = np.logical_and.accumulate(money > 0)  # an account with nothing left stays at zero
    equity = np.where(alive, money, 0.0)
    return replace(run, equity=equity, returns=returns_of(equity), costs=run.costs * factor)


def _with_flows(result: Measured, factor: float) -> Account:
    """Return the account at other costs if cash was added or withdrawn; these flows stay unchanged, bar by bar."""
    run, record = result.account, result.record
    money, cash = column(record, "equity") + (1 - factor) * costs_until(result), result.spec.cash
    flows = np.zeros(len(money)) if (found := flows_of(record)) is None else found
    ends = session_ends(record)
    grown = np.concatenate([[cash], without_flows(money, flows, cash)[ends]])
    alive = np.logical_and.accumulate(grown > 0)
    equity = np.where(alive, grown, 0.0)
    money = np.concatenate([[cash], money[ends]])
    return replace(run, equity=equity, money=money, returns=returns_of(equity), costs=run.costs * factor)
