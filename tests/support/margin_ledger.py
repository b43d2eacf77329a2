"""
Random runs in margin accounts whose money is in several currencies, and what they come to in plain Python.

An account is kept here by the fills alone, at prices and rates as they were known at each moment: what it lets orders
open, what it requires, what it sells. Nothing of the package is asked but for the run itself.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from random import Random

import pandas as pd
from random_money import WORTH, Case, Scheduled, drawn, tables_of

from backtest import run
from backtest.engine.account.dividends import Dividends, DividendTable
from backtest.market.series import Series
from backtest.store.reader import HeldReader

_CHARGED = 0.0005  # of the value of each fill of shares


@dataclass
class Lent:
    """What is drawn for the account of a case: rates by product, dividends, and how orders are filled."""

    cash: float
    rates: dict[str, tuple[float, float, float, float]]  # initial and maintenance of long, then of short positions
    points: dict[str, float]
    dividends: dict[str, dict[str, float]] = field(default_factory=dict)  # by series and date, money a share
    kept: float = 1.0
    borrow: float = 0.0  # a year, of shares that are short at their last close
    this_close: bool = False


def lent_case(seed: int, this_close: bool = False) -> tuple[Case, Lent]:
    """Return a case whose orders are far larger than its account allows, and its account."""
    case, chance = drawn(seed), Random(seed + 1)
    futures = case.contract is not None
    if futures:  # whose multiplier is in their names
        names = {one.name: one.name.replace("/1day", f"+multiplier={case.contract[0]:g}/1day") for one in case.markets}
        case.markets = [replace(one, name=names[one.name]) for one in case.markets]
        case.bars = {names[name]: frame for name, frame in case.bars.items()}
    lent = Lent(round(1_000_000 / WORTH[case.base]), {}, {one.name: 1.0 for one in case.markets}, this_close=this_close)
    for one in case.markets:
        whole = one.level * case.contract[0] if futures else 1.0  # money of its currency a contract, or a share of it
        if futures:
            lent.points[one.name] = case.contract[0]
        first, second = (round(whole * chance.uniform(0.04, 0.3), 6) for _ in range(2))
        lent.rates[one.name] = (first, round(first * chance.uniform(0.75, 1.0), 6),
                                second, round(second * chance.uniform(0.75, 1.0), 6))  # fmt: skip
    rows = len(set().union(*(frame.index for frame in case.bars.values())))
    case.orders = {row: _orders(case, lent, chance) for row in range(rows - 1)}
    if this_close:  # of a series without a bar there is no such close
        days = sorted(set().union(*(frame.index for frame in case.bars.values())))
        case.orders = {
            row: [one for one in orders if days[row] in case.bars[one[0]].index] for row, orders in case.orders.items()
        }
    if not futures and chance.random() < 0.6:
        lent.kept = chance.choice([1.0, 0.85])
        lent.borrow = chance.choice([0.0, 0.2])
        for one in case.markets:
            days = chance.sample(list(case.bars[one.name].index[1:]), 2)
            off = timedelta(days=chance.choice([0, -1]))  # which may be a day without a bar
            lent.dividends[one.name] = {
                (day + off).date().isoformat(): round(one.level * one.unit * chance.uniform(0.002, 0.2), 4)
                for day in days
            }
    return case, lent


def _orders(case: Case, lent: Lent, chance: Random) -> list[tuple[str, int]]:
    found = []
    for one in case.markets:
        if chance.random() < 0.35:
            worth = one.level * one.unit * WORTH[one.currency] * lent.points[one.name]
            most = max(int(chance.choice([1_000_000, 4_000_000, 12_000_000]) / worth), 2)
            found.append((one.name, chance.choice([-1, 1]) * chance.randint(1, most)))
    return found


def run_of(case: Case, lent: Lent, folder: Path, **asked):
    """Return the run of a case in the account that was drawn for it."""
    store = HeldReader("made up", tables_of(case))
    folder.mkdir(parents=True, exist_ok=True)
    rates = folder / "rates.csv"
    lines = [",".join([name, *map(repr, lent.rates[name])]) for name in lent.rates]
    head = "product,initial_long,maintenance_long,initial_short,maintenance_short"
    rates.write_text("\n".join([head, *lines]) + "\n")
    paid = {
        Series.parse(one.name).key: Dividends(
            one.currency, tuple(sorted(lent.dividends[one.name])),
            tuple(lent.dividends[one.name][day] for day in sorted(lent.dividends[one.name])), "drawn",
        )
        for one in case.markets
        if one.name in lent.dividends
    }  # fmt: skip
    return run(
        Scheduled, [one.name for one in case.markets], store=store, cash=lent.cash, currency=case.base,
        costs="none" if case.contract else f"bp:{_CHARGED * 10_000:g}", params={"orders": case.orders},
        account=str(rates), dividends=DividendTable("drawn", paid) if paid else "none", withholding=1 - lent.kept,
        borrow=repr(lent.borrow) if lent.borrow else "",
        fills="this-close" if lent.this_close else "next-bar", lines=False, **asked,
    )  # fmt: skip


class MarginBook:
    """
    The account of a case, row by row.

    Attributes:
        equity: after each row; margin: what positions required then.
        sizes: of each series after each row.
        refused: how many orders were not let open anything.
        called: how many orders the account gave itself.
    """

    def __init__(self, case: Case, lent: Lent) -> None:
        self.case, self.lent, self.cash = case, lent, lent.cash
        self.market = {one.name: one for one in case.markets}
        self.held = {one.name: 0 for one in case.markets}
        self.settled: dict[str, float] = {}  # up to which price gains of contracts are in the cash
        self.events = {name: _events(frame) for name, frame in case.bars.items()}
        self.known = {name: (list(frame["known"]), list(frame["close"])) for name, frame in case.pairs.items()}
        self.equity: list[float] = []
        self.margin: list[float] = []
        self.sizes: list[dict[str, int]] = []
        self.refused = self.called = 0
        self.overnight = 0.0  # the fee of borrowed shares that the present row began with
        self.opening = False  # whether the moment that is looked at is one at which a bar opens

    # --- what is known at a moment

    def rate(self, name: str, moment: pd.Timestamp) -> float:
        """Return money of the account per unit of the currency of a series."""
        found = 1.0
        for pair, inverse in self.case.ways.get(self.market[name].currency, []):
            since, values = self.known[pair]
            place = bisect_right(since, moment) - 1
            value = values[max(place, 0)]
            found *= 1 / value if inverse else value
        return found

    def price(self, name: str, moment: pd.Timestamp) -> float:
        """Return the newest open or close of a series, in its currency; NaN for none; at a close no open of then."""
        moments, prices = self.events[name]
        place = bisect_right(moments, (moment, self.opening)) - 1
        return prices[place] * self.market[name].unit if place >= 0 else math.nan

    def worth(self, name: str, size: float, price: float, moment: pd.Timestamp) -> float:
        """Return what of equity is not in the cash: of contracts what they gained since it was settled."""
        if not size:
            return 0.0
        assert not math.isnan(price), f"{name} is held, and has no price at {moment}"
        points = price - self.settled[name] if self.case.contract else price
        return size * points * self.lent.points[name] * self.rate(name, moment)

    def required(self, name: str, size: float, price: float, moment: pd.Timestamp, initial: bool) -> float:
        if not size:
            return 0.0
        rates = self.lent.rates[name][:2] if size > 0 else self.lent.rates[name][2:]
        share = max(rates) if initial else rates[1]
        each = share if self.case.contract else share * price
        return abs(size) * each * self.rate(name, moment)

    # --- rows

    def run(self) -> MarginBook:
        days = sorted(set().union(*(frame.index for frame in self.case.bars.values())))
        over, waiting = None, []
        begun: set[str] = set()
        known: set[str] = set()
        for row, day in enumerate(days):
            fresh = {name: frame.loc[day] for name, frame in self.case.bars.items() if day in frame.index}
            self._pay(fresh, begun)
            begun |= set(fresh)
            if not self.lent.this_close and over is not None:
                waiting += self._submitted([one for one in self.case.orders.get(row - 1, ()) if one[0] in known], over)
            waiting = self._filled(waiting, fresh)
            over = max(
                [over, *(bar["closes"] for bar in fresh.values())], key=lambda one: one or pd.Timestamp(0, tz="UTC")
            )
            known = set(begun)
            self._settle(over)
            if self.lent.this_close and row < len(days) - 1:
                self._at_close([one for one in self.case.orders.get(row, ()) if one[0] in known], over)
            self.equity.append(self.cash + sum(self.worth(one, size, self.price(one, over), over)
                                               for one, size in self.held.items()))  # fmt: skip
            each = {one: self.required(one, size, self.price(one, over), over, initial=False)
                    for one, size in self.held.items()}  # fmt: skip
            self.margin.append(sum(each.values()))
            self.sizes.append(dict(self.held))
            waiting = self._called(waiting, each)
        return self

    def _pay(self, fresh, begun: set[str]) -> None:
        self.overnight = 0.0
        for name, bar in fresh.items():
            last = self.case.bars[name].index
            place = last.get_loc(bar.name)
            for day, amount in self.lent.dividends.get(name, {}).items():
                due = name in begun and str(last[place - 1].date()) < day <= str(bar.name.date())
                if due and self.held[name]:
                    kept = self.lent.kept if self.held[name] > 0 else 1.0
                    self.cash += self.held[name] * amount * kept * self.rate(name, bar["opens"])
            if self.held[name] < 0:  # which it was over the close of the bar before
                nights, before = (bar.name - last[place - 1]).days, self.case.bars[name]["close"].iloc[place - 1]
                fee = -self.held[name] * before * self.market[name].unit * self.lent.borrow * nights / 365
                self.cash -= fee * self.rate(name, bar["opens"])
                self.overnight += fee * self.rate(name, bar["opens"])

    def _submitted(self, orders, moment):
        """Return the orders that are let in at the prices known when they were given."""
        found, sizes = [], dict(self.held)
        fees = 0.0 if self.lent.this_close else -self.overnight  # which was not due as the orders were given
        equity = self.cash + sum(self.worth(one, size, self.price(one, moment), moment)
                                 for one, size in self.held.items())  # fmt: skip
        for name, size in orders:
            closed, opened = _parts(sizes[name], size)
            price = self.price(name, moment)
            fee = self._fee(name, size, price, moment)
            if opened:
                left = {**sizes, name: sizes[name] + closed}
                needed = sum(self.required(one, own, self.price(one, moment), moment, initial=True)
                             for one, own in left.items())  # fmt: skip
                if equity - fees - fee < needed + self.required(name, opened, price, moment, initial=True):
                    self.refused += 1
                    continue
            fees += fee
            sizes[name] += size
            found.append((name, size, False))
        return found

    def _filled(self, orders, fresh):
        """Fill orders at the opens of their bars, and return those whose series has none."""
        self.opening, self.latest = True, pd.Timestamp(0, tz="UTC")
        for name, size, own in orders:
            if name in fresh:
                opens = fresh[name]["opens"]
                self._fill(
                    name, size, fresh[name]["open"] * self.market[name].unit, max(opens, self.latest), own, opens
                )
        self.opening = False
        return [order for order in orders if order[0] not in fresh]

    def _at_close(self, orders, over) -> None:
        """Let in orders at the close at which they are given, and fill them there, judged by what is known then."""
        for name, size, _ in self._submitted(orders, over):
            own = max(one for one in self.case.bars[name]["closes"] if one <= over)
            self._fill(name, size, self.price(name, own), over, False, paid=own)

    def _fill(self, name: str, size: int, price: float, moment, own: bool, paid=None) -> None:
        """Fill an order, judged at a moment, with money that is exchanged at it or at another."""
        closed, opened = _parts(self.held[name], size)
        paid = paid or moment
        rate = self.rate(name, paid)
        if closed:
            self._book(name, closed, price, paid, rate)
        if not opened:
            return
        after = self.held[name] + opened
        cost = self._fee(name, opened, price, paid)
        if not self.case.contract:
            cost += opened * price * rate
        equity = self.cash - cost + sum(
            self.worth(one, held, price if one == name else self.price(one, moment), moment)
            for one, held in (self.held if self.case.contract else {**self.held, name: after}).items()
        )  # fmt: skip
        needed = self.required(name, after, price, moment, initial=True) + sum(
            self.required(one, held, self.price(one, moment), moment, initial=True)
            for one, held in self.held.items() if one != name
        )  # fmt: skip
        if equity < needed:
            self.refused += 1
            return
        self.latest = moment  # at which what comes after it is judged at the earliest
        self._book(name, opened, price, paid, rate)

    def _book(self, name: str, size: int, price: float, moment, rate: float) -> None:
        self.cash -= self._fee(name, size, price, moment)
        if not self.case.contract:
            self.cash -= size * price * rate
        elif self.held[name]:  # gains of what closes, and of what was there before there is more, are paid
            paid = -size if self.held[name] * size < 0 else self.held[name]
            self.cash += paid * (price - self.settled[name]) * self.lent.points[name] * rate
        if self.held[name] * size >= 0:
            self.settled[name] = price
        self.held[name] += size

    def _settle(self, moment) -> None:
        for name, size in self.held.items():
            if self.case.contract and size:
                price = self.price(name, moment)
                self.cash += size * (price - self.settled[name]) * self.lent.points[name] * self.rate(name, moment)
                self.settled[name] = price

    def _fee(self, name: str, size: int, price: float, moment) -> float:
        return 0.0 if self.case.contract else abs(size) * price * _CHARGED * self.rate(name, moment)

    def _called(self, waiting, each: dict[str, float]):
        """Return the orders that wait, before them those by which the account sells what is too much."""
        selling = {name: sum(size for one, size, own in waiting if own and one == name) for name in self.held}
        left = {name: self.held[name] + selling[name] for name in self.held}
        parts = {name: each[name] / abs(self.held[name]) * abs(left[name]) for name in left if left[name]}
        short, given = sum(parts.values()) - self.equity[-1], []
        if short <= 0:
            return waiting
        for name in sorted(parts, key=lambda one: -parts[one]):
            one = parts[name] / abs(left[name])
            size = min(math.ceil(round(short / one, 9)), abs(left[name])) if short > 0 else 0
            if size:
                given.append((name, -size if left[name] > 0 else size, True))
                short -= size * one
        self.called += len(given)
        return [*reversed(given), *waiting]  # each goes before all that is there


def _events(frame: pd.DataFrame):
    """Return when the bars of a series opened and closed, in order, and the prices then."""
    moments, prices = [], []
    for bar in frame.itertuples():
        moments += [(bar.opens, True), (bar.closes, False)]
        prices += [bar.open, bar.close]
    return moments, prices


def _parts(held: int, size: int) -> tuple[int, int]:
    """Return what of an order closes a position, and what opens one."""
    if held * size >= 0:
        return 0, size
    closed = size if abs(size) <= abs(held) else -held
    return closed, size - closed


def assert_lent(case: Case, lent: Lent, result) -> MarginBook:
    """Assert that a run's equity, positions and margin are those of the book after every row."""
    book, record = MarginBook(case, lent).run(), result.record.to_pandas()
    assert len(record) == len(book.equity)
    for row in range(len(record)):
        day = record["time"][row]
        own = {one.name: record[f"position.{n}"][row] for n, one in enumerate(case.markets)}
        assert own == book.sizes[row], (day, own, book.sizes[row])
        for name, value in (("equity", book.equity[row]), ("margin", book.margin[row])):
            assert abs(record[name][row] - value) <= 1e-9 * lent.cash, (day, name, record[name][row], value)
    given = sum(reason.startswith("margin call") for reason in result.orders_table["reason"].to_pylist())
    if not lent.this_close:
        assert given == book.called
    return book
