"""Points of a grid that Optuna suggests, based on the results of earlier ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from backtest.errors import UsageError
from backtest.research.search.grid import Condition, Grid, plain_number

_Params = dict[str, Any]
_Rate = Callable[[list[_Params]], Sequence[float]]

# Points that are proposed before one is rated: as many for any number of workers, so that the numbers are the same.
ROUND = 16
_PROPOSALS = 100  # for each point that is wanted: some are refused, and some were made before


def guided_points(
    grid: Grid, where: Condition | None, count: int, seed: int, rate: _Rate, lowest: bool = False
) -> list[_Params]:
    """
    Return this many different points in the order of their suggestion, or fewer if there are no more.

    A Tree-structured Parzen Estimator suggests the points; they are rated in rounds, and each round informs the next.

    Args:
        where: a condition on a point; points that do not meet it are not rated.
        rate: returns the rating of points, NaN for one that failed.
        lowest: whether the lowest is the best.

    Raises:
        UsageError: Optuna is not installed, or no point meets the condition.
    """
    search, found = _Search(grid, where, count, seed, lowest), list[_Params]()
    while points := search.propose(min(ROUND, count - len(found))):
        search.learn(rate(points))
        found += points
    if not found:
        raise UsageError("the condition refuses every suggested point; loosen it, or widen the grid")
    return found


class _Search:
    """An Optuna study over the positions of a grid, and the pending points."""

    def __init__(self, grid: Grid, where: Condition | None, count: int, seed: int, lowest: bool) -> None:
        optuna = _optuna()
        sampler = optuna.samplers.TPESampler(seed=seed)
        self._study = optuna.create_study(direction="minimize" if lowest else "maximize", sampler=sampler)
        self._failed = optuna.trial.TrialState.FAIL
        self._space = {name: _distribution(optuna, values) for name, values in grid.items()}
        self._grid, self._where, self._left = grid, where, _PROPOSALS * count
        self._rated: dict[str, float] = {}
        self._under_way: list[tuple[Any, _Params]] = []

    def propose(self, most: int) -> list[_Params]:
        """Return points without a rating; none if no more are wanted or suggested."""
        while len(self._under_way) < most and self._left:
            self._left -= 1
            trial = self._study.ask(self._space)
            point = {name: plain_number(values[trial.params[name]]) for name, values in self._grid.items()}
            if self._where is not None and not self._where(point):
                self._tell(trial, math.nan)
            elif repr(point) in self._rated or point in [other for _, other in self._under_way]:
                self._tell(trial, self._rated.get(repr(point), math.nan))
            else:
                self._under_way.append((trial, point))
        return [point for _, point in self._under_way]

    def learn(self, values: Sequence[float]) -> None:
        """Record the ratings of the points in progress."""
        for (trial, point), value in zip(self._under_way, values, strict=True):
            self._rated[repr(point)] = value
            self._tell(trial, value)
        self._under_way = []

    def _tell(self, trial: Any, value: float) -> None:
        if math.isfinite(value):
            self._study.tell(trial, value)
        else:
            self._study.tell(trial, state=self._failed)


def _distribution(optuna: Any, values: Sequence[Any]) -> Any:
    """Return the distribution of positions: those of numbers have an order from which the sampler can learn."""
    if all(isinstance(plain_number(value), int | float) for value in values):
        return optuna.distributions.IntDistribution(0, len(values) - 1)
    return optuna.distributions.CategoricalDistribution(range(len(values)))


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UsageError("Optuna is not installed; install it: pip install 'ib-backtest[optuna]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # otherwise it logs each trial
    return optuna
