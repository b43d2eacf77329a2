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

if TYPE_CHECKING:
    from backtest.engine.account.bookings import Balances

_BLOCK = 2**16  # steps whose values are computed at once: of 10,000,000 an array is 80 MB


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
    The state of the account after each step of a lean run, as arrays.

    While only fills change cash and positions, both are computed from the fills; from the first step at which something
    else changes them, they are recorded step by step.
    """

    walked: Walked | None = None

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
        """End the history after a number of steps, and build the arrays."""
        clock, quiet = self._clock, steps if self._first_noted < 0 else self._first_noted
        stamps = self.stamps = np.frombuffer(clock.stamps, count=steps) if steps else np.zeros(0)
        noted = [np.array(column) for column in self._notes]
        fills: dict[Any, list[tuple[int, Any, float]]] = {data: [] for data in self._datas}
        for step, data, size, price in self._broker.fills:
            fills[data].append((step, size, price))
        held = {data: _held(fills[data], quiet) for data in self._datas}
        cash = _steps_of(self._broker.cashes, quiet)
        equity = self._worth(held, quiet)
        equity += cash
        self.equity, self.cash = _joined(equity, noted[0]), _joined(cash, noted[1])
        self.positions = [_joined(held.pop(data)[0], noted[2 + n]) for n, data in enumerate(self._datas)]
        self.stamps = stamps.copy()  # not before: with the prices of what is held it would be one array more
        self.closes = [self._closes(data, steps, missing=float("nan")) for data in self._datas]

    def take(self, walked: Walked) -> None:
        """Take over the outcome of a run that another engine computed."""
        self.close(self._clock.steps)
        self.walked, self.equity, self.cash = walked, walked.equity, walked.cash
        self.positions = walked.positions

    def _worth(self, held: dict[Any, tuple[np.ndarray, _Steps]], steps: int) -> np.ndarray:
        """Return the value of all positions, by the arithmetic and the order of `BackBroker._get_value`."""
        total = np.zeros(steps)
        traded = {id(data) for _, data, *_ in self._broker.fills}
        for data in self._broker.positions:
            if id(data) not in traded:
                continue
            (sizes, prices), model, closes = held[data], self._broker.getcommissioninfo(data), self._closes(data, steps)
            for start in range(0, steps, _BLOCK):
                part = slice(start, min(start + _BLOCK, steps))
                before, size, close = total[part], sizes[part], closes[part]
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


def _held(fills: list[tuple[int, Any, float]], steps: int) -> tuple[np.ndarray, _Steps]:
    """Return the size at each step, and the prices of which only a part is computed at once."""
    sizes, prices = ([(step, row[n]) for step, *row in [(0, 0, 0.0), *fills]] for n in range(2))
    return _steps_of(sizes, steps), _Steps.of(prices, steps)


def _steps_of(changes: list[tuple[int, Any]], steps: int) -> np.ndarray:
    """Return the value at each step, of changes in order of steps; the last of a step counts."""
    if {value for _, value in changes} == {0}:
        return np.zeros(steps)  # which takes memory only where it is written
    found = _Steps.of(changes, steps)
    return np.repeat(found.values, np.diff(found.at, append=steps))


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
        return np.asarray(self.values[np.searchsorted(self.at, np.arange(part.start, part.stop), side="right") - 1])
