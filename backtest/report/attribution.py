"""Where the result of a run came from: by series, side and year, in cents that add up to the total."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backtest.market import arrays
from backtest.metrics.account import column, flows_of
from backtest.report.figure_data import times_of
from backtest.runs.dividends import dividends_received, has_dividends
from backtest.runs.round_trips import rows_by_place

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.metrics.measurement import Measured

REST = "Other: interest, fees, currencies, rounding"
SIDES = ("long", "short")


@dataclass(frozen=True, slots=True)
class Share:
    """
    The contribution of one side of a series, or of `REST`.

    Attributes:
        series: its position in the run's series; None for the rest.
        side: "long", "short", or REST.
        cents: the contribution in each year, in hundredths of the currency.
        weight: the mean of the positions' value over equity, at the closes of all bars; negative if short.
        held: the fraction of bars with such a position.
    """

    series: int | None
    side: str
    cents: tuple[int, ...]
    weight: float = 0.0
    held: float = 0.0

    @property
    def total(self) -> int:
        """Money of all years, in hundredths."""
        return sum(self.cents)


@dataclass(frozen=True, slots=True)
class Attribution:
    """The contribution of each part of a run in each year; the parts of a year add up to its change of equity."""

    years: tuple[int, ...]
    shares: tuple[Share, ...]

    @property
    def totals(self) -> tuple[int, ...]:
        """The change of equity in each year, without added or withdrawn cash, in hundredths."""
        return tuple(sum(share.cents[place] for share in self.shares) for place in range(len(self.years)))

    @property
    def total(self) -> int:
        """The change of equity in hundredths."""
        return sum(self.totals)


def attribution(result: Measured) -> Attribution:
    """
    Return where the money of a run came from: what positions gained from close to close, fills after their costs, and
    dividends.

    A fill that reverses a position counts as two, which share its costs. The rest is what the account earned or paid
    otherwise.
    """
    seen, starts = _years(result)
    places = rows_by_place(result.fills_table, result.spec.series)
    fills, nothing = _fills(result), np.zeros(0, np.int64)
    paid = dividends_received(result.record, result.spec) if has_dividends(result.record) else None
    shares = []
    for number in range(len(result.spec.series)):
        own = fills.take(places.get(number, nothing))
        received = None if paid is None else paid[:, number]
        shares += _sides(number, _Parts.of(result, number, own, received), starts)
    nothing_yet = [0] * len(seen)
    rest = _changes(result, starts) - np.array([nothing_yet, *(share.cents for share in shares)], object).sum(axis=0)
    last = [Share(None, REST, tuple(rest.tolist()))] if rest.any() or not shares else []
    return Attribution(tuple(seen.tolist()), (*shares, *last))


def _years(result: Measured) -> tuple[np.ndarray, np.ndarray]:
    """Return the years of a run, and the row of the record in which each begins."""
    sessions = arrays.numbers(result.record["session"])
    firsts = np.append(0, np.flatnonzero(sessions[1:] != sessions[:-1]) + 1)
    days = sessions[firsts].astype("datetime64[D]")
    years, places = np.unique(days.astype("datetime64[Y]").astype(int) + 1970, return_index=True)
    return years, firsts[places]


def _changes(result: Measured, starts: np.ndarray) -> np.ndarray:
    """Return the change of equity in each year in cents, from rounded values, so that the years add up."""
    equity, flows = column(result.record, "equity"), flows_of(result.record)
    earned = equity - (0.0 if flows is None else np.cumsum(flows))
    ends = earned[np.append(starts[1:], len(earned)) - 1]
    return np.diff(_cents(np.append(result.spec.cash, ends)))


def _sides(number: int, parts: _Parts, starts: np.ndarray) -> list[Share]:
    rows = len(parts.record)
    money, (weight, held) = parts.money_from(starts), arrays.sum_in_blocks(0, rows, parts.weights) / rows
    return [
        Share(number, side, tuple(_cents(money[place]).tolist()), float(weight[place]), float(held[place]))
        for place, side in enumerate(SIDES)
        if held[place] or parts.gains[place]
    ]


@dataclass(slots=True)
class _Parts:
    """
    What positions in a series were worth and gained, row by row of the record, long ones and short ones.

    Of many rows a block is computed at a time.

    Attributes:
        fills: those in the series, in order of their rows; in two parts each: what closed a position, what opened one.
        moves: the rows after which another number is held, and these numbers, none in front.
        received: dividends of each row, if there are any.
        gains: whether long and short positions had a row that was not 0, as far as their money was asked for.
    """

    record: pa.Table
    columns: tuple[str, str]
    multiplier: float
    fills: _Fills
    closed: np.ndarray
    opened: np.ndarray
    before: np.ndarray
    moves: tuple[np.ndarray, np.ndarray]
    received: np.ndarray | None
    gains: list[bool] = field(default_factory=lambda: [False, False])

    @classmethod
    def of(cls, result: Measured, number: int, fills: _Fills, received: np.ndarray | None) -> _Parts:
        """Return them for a series of a run, by its place."""
        rows, sizes, _, _ = fills
        before = np.round(np.append(0.0, np.cumsum(sizes)[:-1]), 9)  # fractions of a share must add up to zero
        turns = before * sizes < 0
        closed = np.where(turns, np.copysign(np.minimum(np.abs(before), np.abs(sizes)), sizes), 0.0)
        opened = np.round(sizes - closed, 9)
        seen, places = np.unique(rows, return_inverse=True)
        after = np.append(0.0, np.cumsum(np.bincount(places, sizes, minlength=len(seen))))
        order, columns = np.argsort(rows, kind="stable"), (f"close.{number}", f"rate.{number}")
        # Its own columns alone: each slice of the record would go through those of all series.
        names = [name for name in (*columns, "equity") if arrays.has_column(result.record, name)]
        return cls(
            result.record.select(names), columns, result.spec.points[number], fills.take(order), closed[order],
            opened[order], before[order], (seen, np.round(after, 9)), received,
        )  # fmt: skip

    def money_from(self, starts: np.ndarray) -> np.ndarray:
        """Return the money from each of some rows up to the next of them, shape (2, starts)."""
        rows = len(self.record)
        if rows <= arrays.BLOCK:
            return np.add.reduceat(self._money(slice(0, rows)), starts, axis=1)
        ends = np.append(starts[1:], rows)
        # As `np.add.reduceat` does, which begins with the first value, and adds the sum of the others.
        sums = [
            self._money(slice(start, start + 1))[:, 0]
            + (arrays.sum_in_blocks(start + 1, end, self._money) if end > start + 1 else 0.0)
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        ]
        return np.stack(sums, axis=1)

    def weights(self, rows: slice) -> np.ndarray:
        """Return the worth of positions over equity, and whether there is one, in some rows, shape (2, 2, rows)."""
        part, after = self._part(rows), self._held(rows.start, rows.stop)
        worth, equity = after * np.nan_to_num(_converted(part, *self.columns)) * self.multiplier, column(part, "equity")
        weight = np.divide(worth, equity, out=np.zeros(len(worth)), where=equity > 0)
        return np.stack([np.where(weight * _SIGNS > 0, weight, 0.0), after * _SIGNS > 0])

    def _money(self, rows: slice) -> np.ndarray:
        """Return the money of some rows, shape (2, rows)."""
        first = max(rows.start - 1, 0)
        marks = np.nan_to_num(_converted(self._part(slice(first, rows.stop)), *self.columns))
        held = self._held(first, rows.stop)
        moved = np.diff(marks) * held[:-1] * self.multiplier
        held, marks = held[:-1], marks[rows.start - first :]
        if first == rows.start:
            moved, held = np.append(0.0, moved), np.append(0.0, held)
        received = 0.0 if self.received is None else self.received[rows]
        money = np.where(held * _SIGNS > 0, moved + received, 0.0)
        of_rows, sizes, prices, costs = self.fills
        own = slice(*np.searchsorted(of_rows, (rows.start, rows.stop)).tolist())
        for place, sign in enumerate((1, -1)):
            for part, side in ((self.closed, np.sign(self.before)), (self.opened, np.sign(self.opened))):
                mine = own.start + np.flatnonzero((side[own] == sign) & (part[own] != 0))
                there = of_rows[mine] - rows.start
                gained = part[mine] * (marks[there] - prices[mine]) * self.multiplier
                paid = costs[mine] * np.abs(part[mine] / sizes[mine])
                np.add.at(money[place], there, gained - paid)
            self.gains[place] |= bool(money[place].any())
        return money

    def _held(self, start: int, stop: int) -> np.ndarray:
        """Return what is held after each of some rows."""
        rows, after = self.moves
        return np.asarray(after[np.searchsorted(rows, np.arange(start, stop), side="right")])

    def _part(self, rows: slice) -> pa.Table:
        return self.record.slice(rows.start, rows.stop - rows.start)


_SIGNS = np.array([[1.0], [-1.0]])  # of long and of short positions


class _Fills(NamedTuple):
    rows: np.ndarray  # of the record
    sizes: np.ndarray  # signed
    prices: np.ndarray
    costs: np.ndarray

    def take(self, places: np.ndarray) -> _Fills:
        return _Fills(*(column[places] for column in self))


def _fills(result: Measured) -> _Fills:
    table = result.fills_table
    times = np.asarray(table["time"].to_numpy(), "datetime64[us]")
    rows = np.minimum(np.searchsorted(times_of(result), times), len(result.record) - 1)
    return _Fills(rows, column(table, "size"), _converted(table, "price", "rate"), column(table, "costs"))


def _converted(table: pa.Table, price: str, rate: str) -> np.ndarray:
    """Return prices in the account's currency, at the rates that the run saved if they are in another."""
    return column(table, price) * (column(table, rate) if arrays.has_column(table, rate) else 1.0)


def _cents(money: np.ndarray) -> np.ndarray:
    """Return money in hundredths, as Python integers, which hold any amount."""
    return np.array([int(cents) for cents in np.rint(100 * money)], dtype=object)
