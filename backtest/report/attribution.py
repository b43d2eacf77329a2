"""Where the result of a run came from: by series, side and year, in cents that add up to the total."""

from __future__ import annotations

from dataclasses import dataclass
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
        series: its place in the run's series; None for the rest.
        side: "long", "short", or REST.
        cents: money of each year, in hundredths.
        weight: what the positions were worth at the closes of all bars over equity, in the mean; negative if short.
        held: the share of the bars with such a position.
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

    A fill that turns a position around is two, which share its costs. The rest is what the account earned or paid
    otherwise.
    """
    years = np.asarray(result.record["session"].to_numpy(), "datetime64[Y]").astype(int) + 1970
    seen, starts = np.unique(years, return_index=True)
    places = rows_by_place(result.fills_table, result.spec.series)
    fills, nothing = _fills(result), np.zeros(0, np.int64)
    paid = dividends_received(result.record, result.spec) if has_dividends(result.record) else None
    shares = []
    for number in range(len(result.spec.series)):
        own = fills.take(places.get(number, nothing))
        received = 0.0 if paid is None else paid[:, number]
        shares += _sides(number, _by_side(result, number, own, received), starts)
    nothing_yet = [0] * len(seen)
    rest = _changes(result, starts) - np.array([nothing_yet, *(share.cents for share in shares)], object).sum(axis=0)
    last = [Share(None, REST, tuple(rest.tolist()))] if rest.any() or not shares else []
    return Attribution(tuple(seen.tolist()), (*shares, *last))


def _changes(result: Measured, starts: np.ndarray) -> np.ndarray:
    """Return how many cents equity changed in each year: of its rounded ends, so that they add up."""
    equity, flows = column(result.record, "equity"), flows_of(result.record)
    earned = equity - (0.0 if flows is None else np.cumsum(flows))
    ends = earned[np.append(starts[1:], len(earned)) - 1]
    return np.diff(_cents(np.append(result.spec.cash, ends)))


_BySide = tuple[np.ndarray, np.ndarray, np.ndarray]


def _sides(number: int, by_side: _BySide, starts: np.ndarray) -> list[Share]:
    money, weight, held = by_side
    return [
        Share(number, side, tuple(_cents(np.add.reduceat(money[place], starts)).tolist()), *(
            float(values[place].mean()) for values in (weight, held)
        ))
        for place, side in enumerate(SIDES)
        if held[place].any() or money[place].any()
    ]  # fmt: skip


def _by_side(result: Measured, number: int, fills: _Fills, received: np.ndarray | float) -> _BySide:
    """
    Return money, weight and whether a position is held, for long and for short, shape (2, rows).

    Args:
        fills: those in the series.
        received: dividends of each row.
    """
    record, multiplier = result.record, result.spec.points[number]
    close, equity = _converted(record, f"close.{number}", f"rate.{number}"), column(record, "equity")
    rows, sizes, prices, costs = fills
    before, opened = np.append(0.0, np.cumsum(sizes)[:-1]), np.zeros(len(sizes))
    before = np.round(before, 9)  # fractions of a share must add up to none
    turns = before * sizes < 0
    closed = np.where(turns, np.copysign(np.minimum(np.abs(before), np.abs(sizes)), sizes), 0.0)
    opened = np.round(sizes - closed, 9)
    money = np.zeros((2, len(record)))
    after = np.cumsum(np.bincount(rows, sizes, minlength=len(record)))
    marks = np.nan_to_num(close)
    moved = np.append(0.0, np.diff(marks)) * np.round(np.append(0.0, after[:-1]), 9) * multiplier
    for place, sign in enumerate((1, -1)):
        was = np.round(np.append(0.0, after[:-1]), 9) * sign > 0
        money[place] += np.where(was, moved + received, 0.0)
        for part, side in ((closed, np.sign(before)), (opened, np.sign(opened))):
            mine = (side == sign) & (part != 0)
            gained = part[mine] * (marks[rows[mine]] - prices[mine]) * multiplier
            paid = costs[mine] * np.abs(part[mine] / sizes[mine])
            np.add.at(money[place], rows[mine], gained - paid)
    worth = np.round(after, 9) * marks * multiplier
    weight = np.divide(worth, equity, out=np.zeros(len(worth)), where=equity > 0)
    signs = np.array([[1.0], [-1.0]])
    return money, np.where(weight * signs > 0, weight, 0.0), np.round(after, 9) * signs > 0


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
    """Return prices in the currency of the account, at the rates that the run kept where they are in another."""
    return column(table, price) * (column(table, rate) if arrays.has_column(table, rate) else 1.0)


def _cents(money: np.ndarray) -> np.ndarray:
    """Return money in hundredths, as Python's whole numbers, which any account fits in."""
    return np.array([int(cents) for cents in np.rint(100 * money)], dtype=object)
