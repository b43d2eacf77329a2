"""`MadeRuns`: the compiled engine's outcomes as runs: a batch of arrays, and records for those that need tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import backtrader as bt
import numpy as np

from backtest.engine.fill_bars import Filled, extremes_between_fills, extremes_of, phases_without_closes
from backtest.engine.recorder import bar_times, order_tables
from backtest.market import arrays
from backtest.market.series import Series
from backtest.runs.batch import Fills, RunBatch
from backtest.runs.closing_fills import booked_at_close
from backtest.runs.record import RunRecord
from backtest.runs.round_trips import EXTREMES, round_trips, trips_of

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.engine.compiled.trials import Outcomes
    from backtest.runs.spec import RunSpec


@dataclass(frozen=True, slots=True, eq=False)
class Together:
    """
    The results of runs made at once; the event engine has to make the runs that are missing here.

    Attributes:
        places: the positions of the batch's runs among the requested ones.
        records: the runs with a fill at a close, by their positions.
    """

    batch: RunBatch
    places: list[int]
    records: dict[int, RunRecord]


class MadeRuns:
    """
    The outcomes of runs on the same bars.

    Args:
        spec: the settings of one of them.
        before: the record of a run on these bars.
        feeds: their feeds, in the order of the series.
    """

    def __init__(
        self, made: Outcomes, spec: RunSpec, before: pa.Table, feeds: Sequence[Any], series: list[Series]
    ) -> None:
        self.made, self.spec, self.before, self.feeds, self.series = made, spec, before, feeds, series
        run = np.repeat(np.arange(len(made.fills_from) - 1), np.diff(made.fills_from))
        by_time = np.lexsort((made.fills[:, 0], made.fills[:, 2], run))
        self.run, self.fills = run[by_time], made.fills[by_time]
        self.unslipped = made.asked[by_time] if len(made.asked) else None
        self.time = bar_times(self.fills[:, 2], series).astype(np.int64)
        orders = made.orders[made.orders_from[self.run] + self.fills[:, 0].astype(np.int64) - 1]
        self.market = orders[:, 3] == bt.Order.Market
        early = self.market & (bar_times(orders[:, 6], series).astype(np.int64) == self.time)
        closing = np.unique(self.run[early | (orders[:, 3] == bt.Order.Close)])
        self.closing = [n for n in closing.tolist() if n not in made.left]  # had a fill at a close

    def together(self, numbers: Sequence[int], spec_of: Callable[[int], RunSpec]) -> Together:
        """
        Return the runs.

        Args:
            numbers: their positions among all requested runs.
            spec_of: returns the spec of one of these.
        """
        records = {n: self._record_of(n, spec_of(numbers[n])) for n in self.closing}
        places = [n for n in range(len(numbers)) if n not in self.made.left and n not in records]
        batch = self._batch_of(np.array(places, np.int64))
        return Together(batch, [numbers[n] for n in places], {numbers[n]: one for n, one in records.items()})

    def _record_of(self, n: int, spec: RunSpec) -> RunRecord:
        made, names = self.made, [feed._name for feed in self.feeds]
        orders, fills = (rows[slice(*begins[n : n + 2])] for rows, begins in (
            (made.orders, made.orders_from), (made.fills, made.fills_from)))  # fmt: skip
        tables = order_tables(orders, fills, names, self.series)
        record = _as_left(self.before, made.equity[n], made.cash[n], made.positions[n])
        record = booked_at_close(record, tables[1], tables[0], spec)
        extremes = extremes_of(tables[1], tables[0], self.feeds, self.series, at_close=False)
        trades = round_trips(tables[1], record, spec.points_by_name, extremes)
        seen, trades = trades.select(list(EXTREMES)), trades.drop_columns(list(EXTREMES))
        orders_table, fills_table = tables
        if self.unslipped is not None:  # in the order of the table: by time, and of one time by order
            fills_table = fills_table.append_column("unslipped", arrays.floats(self.unslipped[self.run == n]))
        return RunRecord(spec, record, orders_table, fills_table, trades, {}, extremes_table=seen)

    def _batch_of(self, places: np.ndarray) -> RunBatch:
        made, chosen = self.made, np.isin(self.run, places)
        run, rows, time = np.searchsorted(places, self.run[chosen]), self.fills[chosen], self.time[chosen]
        series = rows[:, 1].astype(np.int64)
        unslipped = None if self.unslipped is None else self.unslipped[chosen]
        size, price, costs = (np.ascontiguousarray(column) for column in rows[:, 3:6].T)
        fills = Fills(time, series, size, price, costs, unslipped)
        points = np.array([self.spec.points_by_name.get(feed._name, 1.0) for feed in self.feeds])[series]
        trips = trips_of(run * len(self.feeds) + series, fills.size, fills.price, fills.costs, points)
        filled = Filled(time, series, fills.price, phases_without_closes(self.market[chosen]))
        lowest, highest = extremes_between_fills(filled, self.feeds, self.series, trips.entries, trips.exits)
        count, every = len(made.orders_from) - 1, len(places) == len(made.equity)
        ordered = np.repeat(np.arange(count), np.diff(made.orders_from))
        refused = ordered[np.isin(made.orders[:, 4], (bt.Order.Margin, bt.Order.Rejected))]
        begins = np.arange(len(places) + 1)
        return RunBatch(
            self.spec, self.before, made.equity if every else made.equity[places],
            [held if every else held[places] for held in np.moveaxis(made.positions, -1, 0)], fills,
            np.searchsorted(run, begins), trips, np.searchsorted(run[trips.exits], begins), lowest, highest,
            np.bincount(refused, minlength=count)[places],
        )  # fmt: skip


def _as_left(before: pa.Table, equity: np.ndarray, cash: np.ndarray, positions: np.ndarray) -> pa.Table:
    """Return the record of a run on the bars of another: only the account is its own."""
    import pyarrow as pa

    own = {"equity": equity, "cash": cash, **{f"position.{n}": held for n, held in enumerate(positions.T)}}
    columns = [arrays.floats(own[name]) if name in own else before[name] for name in before.column_names]
    return pa.table(dict(zip(before.column_names, columns, strict=True)))
