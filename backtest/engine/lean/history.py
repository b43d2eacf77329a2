"""The state of the account after each step of a lean run; hot."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass
from itertools import chain, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backtest.engine.account.converted import Converted
from backtest.engine.lean.clock import FeedClock
from backtest.market.arrays import blocks

if TYPE_CHECKING:
    from backtest.engine.account.bookings import Balances


@dataclass(frozen=True, slots=True, eq=False)
class Walked:
    """
    The outcome of a run that another engine computed, instead of the loop.

    Attributes:
        equity, cash: the values after each step.
        positions: the position in each feed.
        orders, fills: rows as those of `recorder.order_tables`; the number of the first order is 1.
        prices: the price and the limit of each order.
    """

    equity: np.ndarray
    cash: np.ndarray
    positions: list[np.ndarray]
    orders: np.ndarray
    fills: np.ndarray
    prices: np.ndarray


class History:
    """
    The state of the account after each step of a run in the fast loop, as arrays.

    While only fills change cash and positions, both are computed from the fills; from the first step at which something
    else changes them, they are recorded step by step.
    """

    walked: Walked | None = None
    cash: np.ndarray
    positions: list[np.ndarray]

    def __init__(self, clock: FeedClock, broker: Any, datas: list[Any]) -> None:
        self._clock, self._broker, self._datas = clock, broker, datas
        self._first_noted, self._read = -1, 0  # of the broker's fills, as many as are in the sizes
        self._sizes: dict[Any, list[tuple[int, float]]] = {data: [(0, 0.0)] for data in datas}
        self._notes: list[array[float]] = [array("d") for _ in range(2 + len(datas))]

    def note(self, step: int) -> None:
        """Record the state of the account after a step."""
        if self._first_noted < 0:
            self._first_noted = step
        held = self._broker.positions
        sizes = (held[data].size if data in held else 0 for data in self._datas)
        for column, value in zip(
            self._notes, chain((self._broker.getvalue(), self._broker.getcash()), sizes), strict=True
        ):
            column.append(value)

    def since(self, row: int) -> Balances:
        """Return the state of the account after each step, from the given one to the last complete one."""
        from backtest.engine.account.bookings import Balances

        steps = self._clock.own.at + 1
        quiet = steps if self._first_noted < 0 else min(max(self._first_noted, row), steps)
        noted = slice(max(row - max(self._first_noted, 0), 0), None)
        rest = [np.array(column[noted]) for column in self._notes]
        cash = np.concatenate([_part(self._broker.cashes, row, quiet), rest[1]])
        sizes, closes = [], []
        for step, data, size, _ in islice(self._broker.fills, self._read, None):
            self._sizes[data].append((step, size))
        self._read = len(self._broker.fills)
        for n, data in enumerate(self._datas):
            sizes.append(np.concatenate([_part(self._sizes[data], row, quiet), rest[2 + n]]))
            closes.append(self._closes(data, steps, missing=float("nan"))[row:])
        return Balances(np.frombuffer(self._clock.stamps, count=steps)[row:], cash, sizes, closes)

    def closes_by_step(self) -> dict[Any, np.ndarray]:
        """Return the close of each feed at each step of the run, NaN before its first."""
        steps = self._clock.steps
        return {data: np.array(self._closes(data, steps, missing=float("nan"))) for data in self._datas}

    def close(self, steps: int) -> None:
        """End the history after a number of steps; `expand` then builds the arrays of cash and positions."""
        clock, quiet = self._clock, steps if self._first_noted < 0 else self._first_noted
        self.stamps = np.frombuffer(clock.stamps, count=steps) if steps else np.zeros(0)
        fills: dict[Any, list[tuple[int, Any, float]]] = {data: [] for data in self._datas}
        for step, data, size, price in self._broker.fills:
            fills[data].append((step, size, price))
        held = {data: _held(fills[data], quiet) for data in self._datas}
        cash = _Steps.of(self._broker.cashes, quiet)
        equity = self._worth(held, quiet)
        for part in blocks(quiet):
            equity[part] += cash.of_part(part)
        self.equity = _joined(equity, np.array(self._notes[0]))
        self._changes = [cash, *(held[data][0] for data in self._datas)], quiet
        self.closes = [self._closes(data, steps, missing=float("nan")) for data in self._datas]

    def expand(self) -> None:
        """Build the arrays of cash and positions, which is done last because they take as much memory as the bars."""
        changes, quiet = self._changes
        every = zip(changes, self._notes[1:], strict=True)
        self.cash, *self.positions = [_joined(one.until(quiet), np.array(noted)) for one, noted in every]

    def take(self, walked: Walked) -> None:
        """Take over the outcome of a run that another engine computed."""
        self.close(self._clock.steps)
        self.walked, self.equity, self.cash = walked, walked.equity, walked.cash
        self.positions = walked.positions

    def _worth(self, held: dict[Any, tuple[_Steps, _Steps]], steps: int) -> np.ndarray:
        """Return the value of all positions, by the arithmetic and the order of `BackBroker._get_value`."""
        total = np.zeros(steps)
        traded = {id(data) for _, data, *_ in self._broker.fills}
        for data in self._broker.positions:
            if id(data) not in traded:
                continue
            (sizes, prices), model, closes = held[data], self._broker.getcommissioninfo(data), self._closes(data, steps)
            for part in blocks(steps):
                before, size, close = total[part], sizes.of_part(part), closes[part]
                value, unrealized = size * close, size * (close - prices.of_part(part)) * model.p.mult
                if type(model) is Converted:
                    factors = model.factors_at(self.stamps[part])
                    value, unrealized = value * factors, unrealized * factors
                unlevered = before + (value - unrealized) / model.get_leverage() + unrealized
                total[part] = np.where(value > 0, unlevered, before + value)
        return total

    def _closes(self, data: Any, steps: int, missing: float | None = None) -> np.ndarray:
        rows = self._clock.row(self._clock.cursor_of[data])
        if not data.buflen() or not hasattr(data.lines, "close"):
            return np.full(steps, np.nan)
        closes: np.ndarray = np.frombuffer(data.lines.close.array)[rows][:steps]
        return closes if missing is None or isinstance(rows, slice) else np.where(rows[:steps] < 0, missing, closes)


def _joined(first: np.ndarray, rest: np.ndarray) -> np.ndarray:
    return np.concatenate([first, rest]) if len(rest) else first  # of 10,000,000 bars a copy is 80 MB


def _part(changes: list[tuple[int, float]], first: int, last: int) -> np.ndarray:
    """Return the value at each step from the first to before the last, of changes in order of steps."""
    if last <= first:
        return np.zeros(0)
    begins = max(bisect_right(changes, first, key=itemgetter(0)) - 1, 0)
    at, values = (np.array(one, float) for one in zip(*changes[begins:], strict=True))
    return np.asarray(values[np.searchsorted(at, np.arange(first, last), side="right") - 1])


def _held(fills: list[tuple[int, Any, float]], steps: int) -> tuple[_Steps, _Steps]:
    """Return the sizes and the prices of what is held, of which only a part is computed at once."""
    sizes, prices = ([(step, row[n]) for step, *row in [(0, 0, 0.0), *fills]] for n in range(2))
    return _Steps.of(sizes, steps), _Steps.of(prices, steps)


class _Steps(NamedTuple):
    """Values that stay from a step on until the next; the first is that of step 0."""

    at: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, changes: list[tuple[int, Any]], steps: int) -> _Steps:
        """Return changes in order of steps, those before a number of steps; the last of a step counts."""
        last = {step: float(value) for step, value in changes if step < steps}
        return cls(np.array([*last], np.int64), np.array([*last.values()]))

    def of_part(self, part: slice) -> np.ndarray:
        """Return the value at each of some steps."""
        first, after = np.searchsorted(self.at, [part.start, part.stop - 1], side="right") - [1, 0]
        begins = np.maximum(self.at[first:after], part.start)
        return np.repeat(self.values[first:after], np.diff(begins, append=part.stop))

    def until(self, steps: int) -> np.ndarray:
        """Return the value at each step before a number of them."""
        if not self.values.any():
            return np.zeros(steps)  # which takes memory only where it is written
        return np.repeat(self.values, np.diff(self.at, append=steps))
