"""`RunBatch`: the outcomes of several runs on the same bars, as arrays instead of tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest.runs.round_trips import Trips

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.runs.spec import RunSpec


@dataclass(frozen=True, slots=True, eq=False)
class RunBatch:
    """
    Runs that differ only in their parameters, none with a fill at a close: see `closing_fills`.

    Attributes:
        spec: the settings of one of them, which the others share except for parameters.
        record: the record of a run on the same bars; its columns that depend only on the bars apply to all.
        equity: the equity after each bar, shape (runs, bars).
        positions: the positions in each series, shape (runs, bars).
        fills: the fills, run after run, each in order of time.
        fills_from: the position of the first fill of each run and, after the last run, of the end.
        trips, trips_from: the same for closed round trips.
        rejected: the number of orders that the broker refused, shape (runs,).
    """

    spec: RunSpec
    record: pa.Table
    equity: np.ndarray
    positions: list[np.ndarray]
    fills: Fills
    fills_from: np.ndarray
    trips: Trips
    trips_from: np.ndarray
    lowest: np.ndarray  # price that each round trip saw
    highest: np.ndarray
    rejected: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Fills:
    """Fills as arrays."""

    time: np.ndarray  # microseconds, as of a record
    series: np.ndarray  # its number
    size: np.ndarray
    price: np.ndarray
    costs: np.ndarray
    unslipped: np.ndarray | None = None  # prices without slippage, where there is any
