"""
Metrics of round trips: excursions, results, and positions that are still open.

Net is the money of each closed round trip after the costs of both fills, shape (k,), in order of exits. An undefined
result is `Undefined`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from backtest.market import arrays
from backtest.metrics.returns import Rows, Undefined, too_few, where_defined
from backtest.runs.round_trips import EXTREMES, extremes_between, rows_by_place

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Trades:
    """The closed round trips of a run as arrays, shape (k,); none if not given."""

    net: np.ndarray  # money
    growth: np.ndarray  # net over the value at entry
    bars: np.ndarray  # held
    adverse: np.ndarray  # see `excursions`
    favourable: np.ndarray

    @classmethod
    def none(cls) -> Trades:
        """Return no trades at all."""
        return cls(*(np.array([]) for _ in fields(cls)))

    def take(self, rows: np.ndarray | slice) -> Trades:
        """Return the round trips at these indices."""
        every = (self.net, self.growth, self.bars, self.adverse, self.favourable)
        return Trades(*(one[rows] for one in every))


def trades_of(
    trades_table: pa.Table, record: pa.Table, series: Sequence[str], extremes: pa.Table | None = None
) -> Trades:
    """
    Return the round trips of a run.

    `series` names the columns of the record in order. Excursions use the lowest and highest price of each round trip
    or, if these are unknown, the closes in the record.
    """
    if extremes is not None:
        prices = (*(_numbers(extremes, name) for name in EXTREMES), *(_numbers(trades_table, one) for one in _ENTERED))
        adverse, favourable = excursions_of(*prices)
    else:
        closes = [_numbers(record, f"close.{n}") for n in range(len(series))]
        adverse, favourable = excursions(trades_table, record, series, closes, closes)
    net, growth, bars = (_numbers(trades_table, name) for name in ("net", "return", "bars"))
    return Trades(net, growth, bars, adverse, favourable)


_ENTERED = ("entry_price", "size")


def excursions(
    trades_table: pa.Table,
    record: pa.Table,
    series: Sequence[str],
    lows: Sequence[np.ndarray],
    highs: Sequence[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """
    Return the maximum adverse and the maximum favourable excursion of each round trip, fractions of its entry price.

    They are the worst and best results before costs of an owner at the entry price: adverse is never positive,
    favourable never negative. They cover the bars from that of the entry to the one before the exit's, and the exit
    price; an entry at the open includes all of its bar.

    Args:
        trades_table: see `round_trips`.
        record: see `RunRecord`.
        series: the series of the record's columns, in order.
        lows: for each series a price for each row of the record, NaN if there is none; closes may replace lows and
            highs.
        highs: the same.
    """
    adverse, favourable = np.full(len(trades_table), np.nan), np.full(len(trades_table), np.nan)
    entries, exits = (np.searchsorted(_times(record["time"]), _times(trades_table[name])) for name in ("entry", "exit"))
    bought, sold, size = (_numbers(trades_table, name) for name in ("entry_price", "exit_price", "size"))
    for number, own in rows_by_place(trades_table, series).items():
        low = np.fmin(extremes_between(np.fmin, lows[number], entries[own], exits[own]), sold[own])
        high = np.fmax(extremes_between(np.fmax, highs[number], entries[own], exits[own]), sold[own])
        adverse[own], favourable[own] = excursions_of(low, high, bought[own], size[own])
    return adverse, favourable


def excursions_of(
    low: np.ndarray, high: np.ndarray, bought: np.ndarray, size: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return adverse and favourable excursions by the lowest and highest price and the one of the entry."""
    paid = np.where(bought == 0, np.nan, abs(bought))  # of nothing, no fraction is known
    fallen, risen = ((price - bought) / paid for price in (low, high))
    long = size > 0
    return np.minimum(np.where(long, fallen, -risen), 0), np.maximum(np.where(long, risen, -fallen), 0)


def open_trades(
    fills: pa.Table, record: pa.Table, series: Sequence[str], points: Sequence[float] | None = None
) -> pa.Table:
    """
    Return the open positions at the end, a row for each fill with an open remainder, matched first in, first out.

    Columns: series, entry (time), size (signed), entry_price, last_price (the last close), gross (money so far, before
    costs), costs (those of the entry, for the open part), bars (held so far). `points` gives the value of one point of
    each series, 1 if not given.
    """
    import pyarrow as pa

    names, size = np.asarray(fills["series"].to_pylist(), dtype=object), _numbers(fills, "size")
    left, last = np.zeros(len(fills)), np.full(len(fills), np.nan)
    worth, point = np.ones(len(fills)), np.ones(len(fills))
    for number, own in rows_by_place(fills, series).items():
        left[own] = _left_open(size[own])
        point[own] = 1.0 if points is None else points[number]
        last[own] = _numbers(record, f"close.{number}")[-1] if len(record) else np.nan
        if len(record) and arrays.has_column(record, f"rate.{number}"):
            worth[own] = _numbers(record, f"rate.{number}")[-1]
    rows = np.flatnonzero(left)
    size, left, last = size[rows], left[rows], last[rows]
    price, costs = (_numbers(fills, name)[rows] for name in ("price", "costs"))
    rate = _numbers(fills, "rate")[rows] if "rate" in fills.column_names else np.ones(len(rows))
    entered = _times(fills["time"])[rows]
    return pa.table(
        {
            "series": arrays.texts(list(names[rows])),
            "entry": arrays.stamps(entered),
            "size": arrays.floats(left),
            "entry_price": arrays.floats(price),
            "last_price": arrays.floats(last),
            "gross": arrays.floats((last * worth[rows] - price * rate) * left * point[rows]),
            "costs": arrays.floats(costs * left / size),
            "bars": arrays.integers(len(record) - 1 - np.searchsorted(_times(record["time"]), entered)),
        }
    )


def open_entries(fills: pa.Table, series: Sequence[str]) -> int:
    """Return how many fills have an open remainder at the end: the rows of `open_trades`."""
    size = _numbers(fills, "size")
    return sum(entries_left(size[own]) for own in rows_by_place(fills, series).values())


def entries_left(size: np.ndarray) -> int:
    """Return how many fills of a series have an open remainder at the end."""
    return int(np.count_nonzero(_left_open(size)))


def closed_positions(fills: pa.Table) -> int:
    """
    Return how many positions were closed, however many fills they had; an open one counts if a part was closed.

    A position lasts until it is flat again, or reverses.
    """
    size = _numbers(fills, "size")
    return sum(_times_closed(size[own]) for own in arrays.rows_by_text(fills["series"].to_pylist()).values())


def rejected_orders(orders: pa.Table) -> int:
    """Return how many orders the broker refused: of status Margin, which the account could not pay, or Rejected."""
    return sum(status in REFUSED for status in orders["status"].to_pylist())


REFUSED = ("Margin", "Rejected")  # as Backtrader names them


class Lists:
    """
    Numbers of the round trips of several runs, as many as each has.

    A function that ends in `_by_run` takes these and returns a number for each run. The function for a single run calls
    it with one list, and so gives the same number to the last bit: numpy sums a row as it sums an array.
    """

    def __init__(self, every: Sequence[np.ndarray]) -> None:
        self.every = every

    @cached_property
    def alike(self) -> list[tuple[list[int], np.ndarray]]:
        """The places of the runs that have as many, and their numbers as rows; not of those that have none."""
        places: dict[int, list[int]] = {}
        for place, own in enumerate(self.every):
            places.setdefault(len(own), []).append(place)
        return [(own, np.stack([self.every[place] for place in own])) for count, own in places.items() if count]

    @cached_property
    def gains(self) -> Lists:
        """Those above 0."""
        return Lists([own[own > 0] for own in self.every])

    @cached_property
    def losses(self) -> Lists:
        """Those below 0."""
        return Lists([own[own < 0] for own in self.every])

    def numbers(self, function: Callable[[np.ndarray], Iterable[float]], empty: float | None = None) -> list[float]:
        """Return a function's results for rows; for a run without any it is undefined, unless `empty` is given."""
        found = [Undefined("no trades") if empty is None else empty] * len(self.every)
        for places, rows in self.alike:
            for place, number in zip(places, function(rows), strict=True):
                found[place] = number
        return found

    def where_any(self, numbers: list[float], reason: str) -> list[float]:
        """Return numbers, each of which has a reason why it is not defined where its run has any round trips."""
        pairs = zip(self.every, numbers, strict=True)
        return [Undefined(reason) if len(own) and number != number else number for own, number in pairs]


def win_rate(net: np.ndarray) -> float:
    """Return the share of round trips that made money after costs; undefined without round trips."""
    return win_rate_by_run(Lists([net]))[0]


def win_rate_by_run(nets: Lists) -> list[float]:
    """Return `win_rate` of each run."""
    return nets.numbers(lambda rows: np.mean(rows > 0, axis=1).tolist())


def average_win(net: np.ndarray) -> float:
    """Return the mean net money of the round trips that made money; undefined if no trade made money."""
    return average_win_by_run(Lists([net]))[0]


def average_win_by_run(nets: Lists) -> list[float]:
    """Return `average_win` of each run."""
    return nets.where_any(expectancy_by_run(nets.gains), "no gain")


def average_loss(net: np.ndarray) -> float:
    """Return the mean net money, negative, of the round trips that lost money; undefined if no trade lost money."""
    return average_loss_by_run(Lists([net]))[0]


def average_loss_by_run(nets: Lists) -> list[float]:
    """Return `average_loss` of each run."""
    return nets.where_any(expectancy_by_run(nets.losses), "no loss")


def payoff(net: np.ndarray) -> float:
    """Return the mean gain over the size of the mean loss; undefined without a gain or without a loss."""
    return payoff_by_run(Lists([net]))[0]


def payoff_by_run(nets: Lists) -> list[float]:
    """Return `payoff` of each run."""
    pairs = zip(average_win_by_run(nets), average_loss_by_run(nets), strict=True)
    return [loss if loss != loss else gain if gain != gain else gain / -loss for gain, loss in pairs]


def profit_factor(net: np.ndarray) -> float:
    """Return the money of all gains over that of all losses; undefined without a loss."""
    return profit_factor_by_run(Lists([net]))[0]


def profit_factor_by_run(nets: Lists) -> list[float]:
    """Return `profit_factor` of each run."""
    gains, losses = (one.numbers(lambda rows: rows.sum(axis=1).tolist(), 0.0) for one in (nets.gains, nets.losses))
    found = [gain / -loss if -loss > 0 else math.nan for gain, loss in zip(gains, losses, strict=True)]
    pairs = zip(nets.every, found, strict=True)
    return [Undefined("no loss" if len(own) else "no trades") if one != one else one for own, one in pairs]


def expectancy(net: np.ndarray) -> float:
    """Return the mean of the round trips' net money, or of their returns; undefined without round trips."""
    return expectancy_by_run(Lists([net]))[0]


def expectancy_by_run(nets: Lists) -> list[float]:
    """Return `expectancy` of each run."""
    return nets.numbers(lambda rows: rows.mean(axis=1).tolist())


def best(net: np.ndarray) -> float:
    """Return the largest net result; undefined without round trips."""
    return best_by_run(Lists([net]))[0]


def best_by_run(nets: Lists) -> list[float]:
    """Return `best` of each run."""
    return nets.numbers(lambda rows: rows.max(axis=1).tolist())


def worst(net: np.ndarray) -> float:
    """Return the smallest net result; undefined without round trips."""
    return worst_by_run(Lists([net]))[0]


def worst_by_run(nets: Lists) -> list[float]:
    """Return `worst` of each run."""
    return nets.numbers(lambda rows: rows.min(axis=1).tolist())


def sqn(net: np.ndarray) -> float:
    """
    Return the system quality number: mean over standard deviation (n - 1) of net money, times √k.

    Undefined for fewer than two round trips, or if all are equal.

    Source: Tharp (2008), without his cap of 100 trades.
    """
    return sqn_by_run(Lists([net]))[0]


def sqn_by_run(nets: Lists) -> list[float]:
    """Return `sqn` of each run."""
    return nets.numbers(_sqn_of)


def _sqn_of(nets: np.ndarray) -> list[float]:
    rows = Rows(nets)
    if rows.count < 2:
        return too_few(rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (math.sqrt(rows.count) * rows.means / rows.deviations).tolist()
    return where_defined(rows.why_no_deviation, found)


def longest_streak(hit: np.ndarray) -> int:
    """Return the length of the longest run of true values."""
    return int(_streaks_of(np.atleast_2d(hit))[0])


def longest_streak_by_run(hits: Lists) -> list[float]:
    """Return `longest_streak` of each run."""
    return hits.numbers(_streaks_of, 0)


def _streaks_of(hits: np.ndarray) -> list[int]:
    edges = np.diff(hits.astype(np.int8), prepend=0, append=0, axis=1)
    (rows, begins), (_, ends) = np.nonzero(edges == 1), np.nonzero(edges == -1)
    found = np.zeros(len(hits), np.int64)
    np.maximum.at(found, rows, ends - begins)
    longest: list[int] = found.tolist()
    return longest


def _times_closed(size: np.ndarray) -> int:
    after = np.cumsum(size)
    after = np.where(np.abs(after) > 1e-9 * np.maximum.accumulate(np.abs(size)), after, 0.0)  # see _left_open
    before = np.append(0.0, after[:-1])
    over = (before != 0) & (np.sign(after) != np.sign(before))
    less = np.flatnonzero(before * size < 0)
    last = np.flatnonzero(over)[-1] if over.any() else -1
    return int(over.sum()) + bool(len(less) and less[-1] > last)


def _left_open(size: np.ndarray) -> np.ndarray:
    """Return the open remainder of each fill: of the latest in the position's direction, as far back as needed."""
    held = math.fsum(size)
    entered = np.where(size * held > 0, abs(size), 0)
    made_up = np.cumsum(entered[::-1])[::-1] - entered  # by the fills after it
    left = np.clip(abs(held) - made_up, 0, entered)
    return np.where(left > 1e-9 * entered, np.copysign(left, held), 0)  # 0.3 - 0.1 - 0.2 shares are none


def _times(column: pa.ChunkedArray) -> np.ndarray:
    return arrays.numbers(column).astype("datetime64[us]")


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    return np.asarray(arrays.numbers(table[name]), dtype=float)
