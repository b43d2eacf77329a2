"""A run at other costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from backtest.market import arrays
from backtest.metrics.account import Account, column, flows_of, session_ends, without_flows
from backtest.metrics.returns import Undefined, returns_of
from backtest.metrics.table import METRICS

if TYPE_CHECKING:
    from backtest.metrics.measurement import Measured


@dataclass(frozen=True, slots=True)
class CostCase:
    """The run at a multiple of its costs: the same trades of the same size."""

    factor: float
    total_return: float
    cagr: float
    sharpe: float


def cost_cases(result: Measured, factors: Sequence[float] = (0.0, 1.0, 2.0)) -> list[CostCase]:
    """
    Return the run at multiples of the costs it paid.

    Nothing is run again: the money that is paid more or less is taken off the equity from each fill on, and sizes
    stay as they were, so that this can be said of a saved run without its bars.
    """
    cases = [(factor, _at_costs(result, factor)) for factor in factors]
    names = ("total_return", "cagr", "sharpe")
    return [CostCase(factor, *(METRICS[name].function(run) for name in names)) for factor, run in cases]


def break_even_costs(result: Measured) -> float:
    """
    Return the multiple of the costs paid at which nothing is gained and nothing lost, by the same trades.

    Undefined without costs, or where there is a loss even without them.
    """
    run = result.account
    if not run.costs:
        return Undefined("no costs")
    factor = 1 + float(run.worth[-1] - run.worth[0] - run.added) / run.costs
    return factor if factor >= 0 else Undefined("loses before costs")


def _at_costs(result: Measured, factor: float) -> Account:
    run, fills = result.account, result.fills_table
    if run.money is not None:
        return _with_flows(result, factor)
    times = arrays.numbers(result.record["time"])[session_ends(result.record)]
    filled = np.searchsorted(arrays.numbers(fills["time"]), times, side="right")
    paid = np.concatenate([[0.0], np.cumsum(column(fills, "costs"))])[filled]
    money = run.equity + (1 - factor) * np.concatenate([[0.0], paid])
    alive = np.logical_and.accumulate(money > 0)  # who has nothing left stays so
    equity = np.where(alive, money, 0.0)
    return replace(run, equity=equity, returns=returns_of(equity), costs=run.costs * factor)


def _with_flows(result: Measured, factor: float) -> Account:
    """Return the account at other costs where cash was added or taken out, which stays as it was, bar by bar."""
    run, fills, record = result.account, result.fills_table, result.record
    filled = np.searchsorted(arrays.numbers(fills["time"]), arrays.numbers(record["time"]), side="right")
    paid = np.concatenate([[0.0], np.cumsum(column(fills, "costs"))])[filled]
    money, cash = column(record, "equity") + (1 - factor) * paid, result.spec.cash
    flows = np.zeros(len(money)) if (found := flows_of(record)) is None else found
    ends = session_ends(record)
    grown = np.concatenate([[cash], without_flows(money, flows, cash)[ends]])
    alive = np.logical_and.accumulate(grown > 0)
    equity = np.where(alive, grown, 0.0)
    money = np.concatenate([[cash], money[ends]])
    return replace(run, equity=equity, money=money, returns=returns_of(equity), costs=run.costs * factor)
