"""Random orders at the market in a margin account, filled on small bars, and the account in plain Python."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from datetime import timedelta
from pathlib import Path

import backtrader as bt
from margin_runs import Random
from small_bars import Case, Feed, case_of

from backtest import run

_CHARGED = 0.0005


class Scheduled(bt.Strategy):
    """Gives orders by the number of the bar: places of feeds, and sizes."""

    params = (("orders", None),)

    def next(self):
        for place, size in self.p.orders.get(len(self) - 1, ()):
            (self.buy if size > 0 else self.sell)(data=self.datas[place], size=abs(size))


class SmallBook:
    """
    What is drawn for an account on small bars, and what it comes to.

    Attributes:
        equity, margin, sizes: after each bar.
        within: of orders that the account gave itself the end of a small bar at which it did; None at a bar's end.
    """

    def __init__(self, seed: int) -> None:
        self.case: Case = case_of(seed)
        self.chance = random.Random(seed + 1)
        self.feeds: list[Feed] = self.case.feeds
        first, second = (round(self.chance.uniform(0.05, 0.2), 4) for _ in range(2))
        self.rates = (first, round(first * self.chance.uniform(0.8, 1), 4),
                      second, round(second * self.chance.uniform(0.8, 1), 4))  # fmt: skip
        self.start = 100_000.0
        self.orders = {
            row: [(n, self.chance.choice([-1, 1]) * self.chance.randint(1, self.chance.choice([5_000, 20_000])))
                  for n in range(len(self.feeds)) if self.chance.random() < 0.5]
            for row in range(len(self.feeds[0].bars) - 1)
        }  # fmt: skip
        self.length = timedelta(seconds=self.feeds[0].small.size.seconds)
        self.cash, self.held = self.start, [0] * len(self.feeds)
        self.equity: list[float] = []
        self.margin: list[float] = []
        self.sizes: list[list[int]] = []
        self.within: list = []
        self.refused = 0
        self.waiting: list[tuple[int, int, bool]] = []

    def run_of(self, folder: Path, **asked):
        head = "product,initial_long,maintenance_long,initial_short,maintenance_short"
        (folder / "rates.csv").write_text(f"{head}\nSTK,{','.join(map(repr, self.rates))}\n")
        return run(
            Scheduled, [one.series for one in self.feeds], store=self.case.store, params={"orders": self.orders},
            cash=self.start, costs=f"bp:{_CHARGED * 10_000:g}", account=str(folder / "rates.csv"),
            fill_bars=self.case.size, lines=False, **asked,
        )  # fmt: skip

    # --- the account

    def required(self, size: int, price: float, initial: bool) -> float:
        first, kept = self.rates[:2] if size > 0 else self.rates[2:]
        return abs(size) * (first if initial else kept) * price

    def worth(self, prices) -> float:
        return self.cash + sum(size * price for size, price in zip(self.held, prices, strict=True))

    def book(self) -> SmallBook:
        for row in range(len(self.feeds[0].bars)):
            self.row = row
            self.parts = [feed.parts[row] for feed in self.feeds]
            self.at = [0] * len(self.feeds)
            self._submit()
            opens = [parts[0][1][0] if parts else feed.bars[row][0]
                     for feed, parts in zip(self.feeds, self.parts, strict=True)]  # fmt: skip
            for order in [one for one in self.waiting if not self.parts[one[0]]]:
                self.waiting.remove(order)
                self._fill(order, opens[order[0]], opens)
            self._walk()
            closes = [feed.bars[row][3] for feed in self.feeds]
            self._look(closes, None)
            self.equity.append(self.worth(closes))
            self.margin.append(sum(self.required(*pair, initial=False) for pair in zip(self.held, closes, strict=True)))
            self.sizes.append(list(self.held))
        return self

    def _submit(self) -> None:
        if not self.row:
            return
        prices = [feed.bars[self.row - 1][3] for feed in self.feeds]
        sizes, fees = list(self.held), 0.0
        for n, size in self.orders.get(self.row - 1, ()):
            given, held = self.feeds[n].bars[self.row - 1][3], sizes[n]
            closed = 0 if held * size >= 0 else int(math.copysign(min(abs(size), abs(held)), size))
            fee = abs(size) * given * _CHARGED
            if size - closed:
                left = [*sizes[:n], held + closed, *sizes[n + 1 :]]
                needed = sum(self.required(*pair, initial=True) for pair in zip(left, prices, strict=True))
                if self.worth(prices) - fees - fee < needed + self.required(size - closed, given, initial=True):
                    self.refused += 1
                    continue
            fees += fee
            sizes[n] += size
            self.waiting.append((n, size, False))

    def _walk(self) -> None:
        since = None
        while True:
            due = [(self.parts[n][self.at[n]][0], n) for n in range(len(self.feeds))
                   if self.at[n] < len(self.parts[n]) and any(one[0] == n for one in self.waiting)]  # fmt: skip
            until = min(due)[0] if due else None
            called = self._called(since, until)
            if called is not None:
                since = called
                for n, parts in enumerate(self.parts):
                    self.at[n] = max(self.at[n], sum(moment < called for moment, _ in parts))
                continue
            if not due:
                return
            now, n = min(due)
            since = now
            opened = self.parts[n][self.at[n]][1][0]
            self.at[n] += 1
            for order in [one for one in self.waiting if one[0] == n]:
                self.waiting.remove(order)
                self._fill(order, opened, [self._price(m, now) for m in range(len(self.feeds))])

    def _price(self, n: int, now) -> float:
        """Return the last open or close of a feed's small bars at a moment."""
        if not self.parts[n]:
            return self.feeds[n].bars[self.row][0]
        known = sorted([((moment, 1), bar[0]) for moment, bar in self.parts[n]]
                       + [((moment + self.length, 0), bar[3]) for moment, bar in self.parts[n]])  # fmt: skip
        place = bisect_right([moment for moment, _ in known], (now, 1)) - 1
        return known[place][1] if place >= 0 else self._before(n)

    def _before(self, n: int) -> float:
        return self.feeds[n].bars[self.row - 1][3] if self.row else self.parts[n][0][1][0]

    def _called(self, since, until):
        """Return the first close of a small bar at which the account sells."""
        ends = sorted({moment + self.length for parts in self.parts for moment, _ in parts})
        for end in ends:
            if (since is None or end > since) and (until is None or end <= until):
                prices = []
                for n, parts in enumerate(self.parts):
                    over = [bar[3] for moment, bar in parts if moment + self.length <= end]
                    first = self._before(n) if parts else self.feeds[n].bars[self.row][0]
                    prices.append(over[-1] if over else first)
                if self._look(prices, end):
                    return end
        return None

    def _fill(self, order, price: float, prices) -> None:
        n, size, _ = order
        held = self.held[n]
        closed = 0 if held * size >= 0 else int(math.copysign(min(abs(size), abs(held)), size))
        for part in filter(None, (closed, size - closed)):
            fee = abs(part) * price * _CHARGED
            if part != closed or not closed:
                after = [*self.held[:n], self.held[n] + part, *self.held[n + 1 :]]
                known = [*prices[:n], price, *prices[n + 1 :]]
                needed = sum(self.required(*pair, initial=True) for pair in zip(after, known, strict=True))
                if self.worth(known) - fee < needed:
                    self.refused += 1
                    return
            self.cash -= part * price + fee
            self.held[n] += part

    def _look(self, prices, moment) -> bool:
        """Return whether equity is short of what positions require, and order what is too much to be sold."""
        selling = [sum(size for n, size, own in self.waiting if own and n == m) for m in range(len(self.feeds))]
        left = [held + sold for held, sold in zip(self.held, selling, strict=True)]
        needed = [self.required(*pair, initial=False) for pair in zip(left, prices, strict=True)]
        short = sum(needed) - self.worth(prices)
        if not any(self.held) or short <= 0:
            return False
        for n in sorted((n for n, size in enumerate(left) if size), key=lambda one: -needed[one]):
            if short > 0:
                each = needed[n] / abs(left[n])
                size = min(math.ceil(round(short / each, 9)), abs(left[n]))
                self.waiting.insert(0, (n, -size if left[n] > 0 else size, True))
                self.within.append(moment)
                short -= size * each
        return True


def assert_reckoned(seed: int, folder: Path) -> SmallBook:
    """Assert that a run on small bars has the equity, positions and margin of the account in plain Python."""
    book = SmallBook(seed).book()
    result = book.run_of(folder)
    record = result.record.to_pandas()
    assert len(record) == len(book.equity)
    for row in range(len(record)):
        own = [record[f"position.{n}"][row] for n in range(len(book.feeds))]
        assert own == book.sizes[row], (row, own, book.sizes[row])
        assert abs(record["equity"][row] - book.equity[row]) <= 1e-9 * book.start, (row, record["equity"][row])
        assert abs(record["margin"][row] - book.margin[row]) <= 1e-9 * book.start, (row, record["margin"][row])
    given = [one for one in result.orders_table["reason"].to_pylist() if one.startswith("margin call")]
    told = [f"margin call at {moment:%Y-%m-%d %H:%M:%S} UTC:" if moment else "margin call:" for moment in book.within]
    assert len(given) == len(told)
    assert all(one.startswith(other) for one, other in zip(given, told, strict=True))
    return book


def overdrawn_within(seed: int, folder: Path) -> tuple[list, int]:
    """Return the fills of random orders of every kind that left more leverage than allowed, and how many opened any."""
    book = SmallBook(seed)
    head = "product,initial_long,maintenance_long,initial_short,maintenance_short"
    (folder / "rates.csv").write_text(f"{head}\nSTK,{','.join(map(repr, book.rates))}\n")
    result = run(
        Random, [one.series for one in book.feeds], store=book.case.store, params={"seed": seed, "largest": 15_000},
        cash=book.start, costs=f"bp:{_CHARGED * 10_000:g}", account=str(folder / "rates.csv"),
        fill_bars=book.case.size, lines=False,
    )  # fmt: skip
    rows = {time: row for row, time in enumerate(result.record["time"].to_pylist())}
    kinds = dict(zip(result.orders_table["ref"].to_pylist(), result.orders_table["kind"].to_pylist(), strict=True))
    names, found, opened = [one.series.short for one in book.feeds], [], 0
    for fill in result.fills_table.to_pylist():
        n, book.row = names.index(fill["series"]), rows[fill["time"]]
        book.parts = [feed.parts[book.row] for feed in book.feeds]
        before = book.held[n]
        book.held[n] += int(fill["size"])
        book.cash -= fill["size"] * fill["price"] + fill["costs"]
        if abs(book.held[n]) <= abs(before) and book.held[n] * before >= 0:
            continue
        opened += 1
        if kinds[fill["ref"]] == "Close":
            prices = [parts[-1][1][3] if parts else feed.bars[book.row][0]
                      for feed, parts in zip(book.feeds, book.parts, strict=True)]  # fmt: skip
        elif fill["small_bar"] is None:
            prices = [parts[0][1][0] if parts else feed.bars[book.row][0]
                      for feed, parts in zip(book.feeds, book.parts, strict=True)]  # fmt: skip
        else:
            prices = [book._price(m, fill["small_bar"]) for m in range(len(book.feeds))]
        prices[n] = fill["price"]
        needed = sum(book.required(*pair, initial=True) for pair in zip(book.held, prices, strict=True))
        if book.worth(prices) < needed - 1e-6:
            found.append((fill, book.worth(prices), needed))
    return found, opened
