"""`validate`: all the evidence of whether a run is skill or luck."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest import _arguments
from backtest._notebook import html_lines, html_table
from backtest.metrics.account import nets_of_cash
from backtest.metrics.measurement import check_result
from backtest.metrics.table import METRICS
from backtest.runs.cost_table import CostCase
from backtest.store.documents import for_json
from backtest.validity.bootstrap import SAMPLES, Intervals, bootstrap
from backtest.validity.cost_stress import break_even_costs, cost_cases, run_again
from backtest.validity.monte_carlo import MonteCarlo, monte_carlo
from backtest.validity.verdict import Verdict, verdict

if TYPE_CHECKING:
    from backtest.metrics.measurement import Measured

_QUICK = 10_000_000  # sessions, or trades, that take a second or two to resample
_FEWEST = 100  # samples below which an interval of 95 % says nothing


@dataclass(frozen=True, slots=True)
class Validity:
    """The evidence of whether a run is skill or luck."""

    verdict: Verdict
    intervals: Intervals
    orders: list[MonteCarlo]
    costs: list[CostCase]
    break_even: float  # see `break_even_costs`
    looks_ahead: tuple[str, ...]
    costs_run: bool = False  # whether the costs are runs, and not an approximation
    combined: bool = False  # whether it is of a combination of runs

    @property
    def costs_basis(self) -> str:
        """How the numbers at other costs were computed, in a sentence."""
        if self.costs_run:
            return (
                "Each row is a run of the strategy with commissions, slippage and borrow fees multiplied by the factor."
            )
        approximation = "Approximation: multiples of the costs paid, for the same trades."
        if self.combined:
            return (
                f"{approximation} A combination has no strategy to run: combine runs that were made at each multiple."
            )
        return f"{approximation} To run the strategy at each multiple: backtest validate RUN --cost-cases 0,1,2."

    def to_dict(self) -> dict[str, Any]:
        """Return all values as JSON types: None where a number is not defined."""
        found: dict[str, Any] = for_json(asdict(self))
        return {**found, "costs_basis": self.costs_basis}

    def _repr_html_(self) -> str:
        def shown(name: str, *values: float) -> list[str]:
            return [METRICS[name].text(value) for value in values]

        of_costs = ("total_return", "cagr", "sharpe")
        ends = [[METRICS[name].label, *shown(name, *both)] for name, both in self.intervals.intervals.items()]
        drawn = [
            [one.method, *shown("costs", *one.end), *shown("max_drawdown", *one.drawdown), *shown("win_rate", one.loss)]
            for one in self.orders
        ]
        costs = [[f"{case.factor:g}×", *(METRICS[name].text(getattr(case, name)) for name in of_costs)]
                 for case in self.costs]  # fmt: skip
        quantiles = ("5 %", "50 %", "95 %")
        heads = ["Trades", *(f"End {one}" for one in quantiles), *(f"Fall {one}" for one in quantiles), "Loses"]
        tables = [
            html_table(["Number", "From", "To"], ends), html_lines(self.intervals.basis),
            html_table(heads, drawn) if drawn else "",
            html_table(["Costs", *(METRICS[name].label for name in of_costs)], costs),
            html_lines(self.costs_basis, *self.looks_ahead),
        ]  # fmt: skip
        return self.verdict._repr_html_() + "".join(tables)


def validate(
    result: Measured,
    *,
    samples: int | None = None,
    seed: int = 0,
    factors: Sequence[float] | None = None,
    trials: Sequence[float] = (),
    looks_ahead: Sequence[object] = (),
) -> Validity:
    """
    Judge whether a run is skill or luck: verdict, intervals, Monte Carlo of its trades, and cost sensitivity.

    Args:
        samples: number of samples of the bootstrap, and of each Monte Carlo of the trades. Default: SAMPLES, or fewer
            if there are so many sessions or trades that it would be slow.
        factors: multiples of the costs. Default: those at which the strategy was run again, or 0, 1 and 2. If it was
            not run again at each of them, the numbers are an approximation: see `cost_cases`.
        seed: random seed.
        trials: the annual Sharpe ratios of all trials, including this run; none if it was the only one.
        looks_ahead: the result of `look_ahead`.

    Raises:
        UsageError: an argument is invalid.
    """
    result = check_result(result, "result")
    seed = _arguments.seed_of(seed)
    if samples is not None:
        samples = _arguments.whole(samples, "samples", 1)
    multiples = "write a list of numbers, such as [0, 1, 2]"
    if factors is None:
        factors = [case.factor for case in result.cost_table.cases] if result.cost_table else [0.0, 1.0, 2.0]
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
        monte_carlo(nets_of_cash(result, run), result.spec.cash, samples, seed),
        cost_cases(result, factors),
        break_even_costs(result),
        tuple(map(str, looks_ahead)),
        run_again(result, factors),
        result.combination is not None,
    )
