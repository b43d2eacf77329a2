"""Random runs in several currencies, and what their accounts come to in a ledger of plain pandas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import backtrader as bt
import exchange_calendars
import pandas as pd
from ledger import Ledger, known_at

from backtest import run
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.store.store import Store

NEW_YORK = ZoneInfo("America/New_York")
SINCE, UNTIL = pd.Timestamp("2023-02-01"), pd.Timestamp("2023-12-20")  # Tokyo has a recess at noon, and ends at 15:00
SPAN = Span.of_dates(date(2022, 12, 1), date(2023, 12, 31))


@dataclass(frozen=True)
class Market:
    """A series of the pool: its calendar, its level, the currency of its money and what a unit of price is of it."""

    name: str
    calendar: str
    level: float
    currency: str
    unit: float = 1.0


STOCKS = (
    Market("AAPL/1day", "XNYS", 170.0, "USD"),
    Market("7203-STK-TSEJ-JPY/1day", "XTKS", 2000.0, "JPY"),
    Market("VOD-STK-LSE-GBP/1day", "XLON", 90.0, "GBP", 0.01),  # pence
    Market("SAP-STK-IBIS-EUR/1day", "XETR", 120.0, "EUR"),
    Market("BHP-STK-ASX-AUD/1day", "XASX", 45.0, "AUD"),  # whose session begins on the evening before, UTC
)
FUTURES = (
    Market("ES-FUT-CME-USD-202406/1day", "CMES", 4000.0, "USD"),
    Market("NIY-FUT-CME-JPY-202406/1day", "CMES", 30000.0, "JPY"),
    Market("EUX-FUT-CME-EUR-202406/1day", "CMES", 4000.0, "EUR"),
)
WORTH = {"USD": 1.0, "JPY": 0.007, "GBP": 1.25, "EUR": 1.08, "AUD": 0.66}  # US dollars, about
NAMED = {  # how a pair may be stored, either way round
    frozenset(pair): pair for pair in (("EUR", "USD"), ("GBP", "USD"), ("USD", "JPY"), ("AUD", "USD"), ("EUR", "GBP"),
                                       ("EUR", "JPY"), ("GBP", "JPY"), ("EUR", "AUD"), ("GBP", "AUD"), ("AUD", "JPY"))
}  # fmt: skip


@dataclass
class Case:
    """A run, and all that is drawn for it."""

    base: str
    markets: list[Market]
    bars: dict[str, pd.DataFrame]
    pairs: dict[str, pd.DataFrame]  # by the spelling of a stored series: close, and since when it is known
    orders: dict[int, list[tuple[str, int]]]  # by the row at whose close they are given
    costs: str = "bp:5"
    contract: tuple[float, float] | None = None  # multiplier, and margin in the currency of the contract
    ways: dict[str, list[tuple[str, bool]]] = field(default_factory=dict)  # by currency: pairs, and whether inverse


def drawn(seed: int) -> Case:
    """Return the case of a seed."""
    chance = Random(seed)
    futures = chance.random() < 0.25
    pool = FUTURES if futures else STOCKS
    markets = chance.sample(pool, chance.randint(1, 3))
    start = SINCE + timedelta(days=chance.randint(0, 200))
    end = start + timedelta(days=chance.randint(15, 60))
    bars = {one.name: _bars(one, start, end, chance) for one in markets}
    base = chance.choice(["EUR", "USD", "GBP", "JPY"])
    case = Case(base, markets, bars, {}, {})
    case.contract = (chance.choice([5.0, 50.0]), chance.choice([500.0, 1000.0])) if futures else None
    if case.contract:
        case.costs = f"futures:2.25:{case.contract[0]:g}:{case.contract[1]:g}"
    for currency in dict.fromkeys(one.currency for one in markets):
        if currency != base:
            case.ways[currency] = _way(currency, base, start, end, chance, case.pairs)
    rows = len(set().union(*(frame.index for frame in bars.values())))
    case.orders = {row: _orders(markets, futures, chance) for row in range(rows - 1)}
    return case


def differences(case: Case, folder: Path) -> Iterator[float]:
    """Yield how far, relative to the cash, the equity of each bar is from what the ledger has."""
    equity, _ = of_package(case, folder)
    book = of_ledger(case)
    assert len(equity) == len(book.equity)
    yield from ((one - other) / CASH for one, other in zip(equity, book.equity, strict=True))


CASH = 1_000_000.0


def of_package(case: Case, folder: Path, names: list[str] | None = None) -> tuple[list[float], int]:
    """Return the equity of a case after each bar, and how many fills there were."""
    result = run(
        Scheduled, names or [one.name for one in case.markets], store=stored(case, folder), cash=cash_of(case),
        costs=case.costs, currency=case.base, params={"orders": case.orders}, lines=False,
    )  # fmt: skip
    return (result.equity * (CASH / cash_of(case))).tolist(), len(result.fills)


def cash_of(case: Case) -> float:
    """Return a million US dollars, about, in the currency of the account."""
    return round(CASH / WORTH[case.base])


class Scheduled(bt.Strategy):
    """Gives orders by the number of the bar."""

    params = (("orders", None),)

    def __init__(self):
        self.by_name = {data._name: data for data in self.datas}
        self.row = -1

    def prenext(self):
        self.next()

    def next(self):
        self.row += 1
        for name, size in self.p.orders.get(self.row, ()):
            give = self.buy if size > 0 else self.sell
            if len(self.by_name[name]):
                give(data=self.by_name[name], size=abs(size))


def of_ledger(case: Case) -> Ledger:
    """Return the ledger of a case, by rates of its own."""
    days = pd.DatetimeIndex(sorted(set().union(*(frame.index for frame in case.bars.values()))))
    closes = pd.concat([frame["closes"].reindex(days) for frame in case.bars.values()], axis=1).max(axis=1)
    rates, money = {}, {}
    for one in case.markets:
        legs = case.ways.get(one.currency, [])
        opening = _product(case, legs, case.bars[one.name]["opens"])
        row = _product(case, legs, closes.cummax())
        first = float(row.iloc[0])
        rates[one.name] = pd.DataFrame({"row": row * one.unit, "opening": opening * one.unit}, index=days)
        money[one.name] = one.unit
    contracts = {}
    if case.contract:
        # The margin is converted at the first bar of the run.
        for one in case.markets:
            first = float(rates[one.name]["row"].bfill().iloc[0])
            contracts[one.name] = case.contract[0], case.contract[1] * first

    def charge(name: str, size: int, price: float, rate: float) -> float:
        if case.contract:
            return abs(size) * 2.25 * rate
        return abs(size) * price * 0.0005 * rate

    begun = {name: frame.index[0] for name, frame in case.bars.items()}
    book = Ledger({name: frame[["open", "close"]] for name, frame in case.bars.items()}, cash_of(case), rates,
                  contracts, charge)  # fmt: skip
    book.run(lambda _, number, day: [one for one in case.orders.get(number, ()) if begun[one[0]] <= day])
    book.equity = [value * (CASH / cash_of(case)) for value in book.equity]
    return book


def stored(case: Case, folder: Path) -> Store:
    """Return a store with the bars of a case, and the pairs."""
    store = Store(folder)
    for series, table in tables_of(case).items():
        store.write(series, SPAN, table)
    return store


def tables_of(case: Case) -> dict[Series, Any]:
    """Return the bars of a case, and the pairs."""
    found = {}
    for name, frame in case.bars.items():
        rows = [(day.to_pydatetime().replace(tzinfo=UTC), *_ohlc(own.open, own.close), 1e6, None, None)
                for day, own in zip(frame.index, frame.itertuples(), strict=True)]  # fmt: skip
        found[Series.parse(name)] = table_of(rows)
    for name, frame in case.pairs.items():
        rows = [(opened.to_pydatetime(), *_ohlc(own.close, own.close), None, None, None)
                for opened, own in zip(frame.index, frame.itertuples(), strict=True)]  # fmt: skip
        found[Series.parse(name)] = table_of(rows)
    return found


def _ohlc(opened: float, closed: float) -> tuple[float, float, float, float]:
    return opened, max(opened, closed), min(opened, closed), closed


@cache
def _schedule(calendar: str) -> pd.DataFrame:
    return exchange_calendars.get_calendar(calendar, start="2022-01-01", end="2024-12-31").schedule


def _bars(market: Market, start: pd.Timestamp, end: pd.Timestamp, chance: Random) -> pd.DataFrame:
    """Return bars on the sessions of a calendar, some left out: open, close, and when they open and close."""
    found = _schedule(market.calendar).loc[start:end]
    found = found[[chance.random() > 0.05 for _ in range(len(found))]]
    price, rows = market.level, []
    for _ in range(len(found)):
        opened = round(price * (1 + chance.gauss(0, 0.01)), 2)
        price = round(opened * (1 + chance.gauss(0, 0.01)), 2)
        rows.append((opened, price))
    frame = pd.DataFrame(rows, columns=["open", "close"], index=found.index)
    return frame.assign(opens=found["open"], closes=found["close"])


def _way(
    currency: str, base: str, start: pd.Timestamp, end: pd.Timestamp, chance: Random, pairs: dict[str, pd.DataFrame]
) -> list[tuple[str, bool]]:
    """Draw the pairs by which money of a currency becomes money of the base, and return their names."""
    both = (
        [(currency, base)] if "USD" in (currency, base) or chance.random() < 0.5 else [(currency, "USD"), ("USD", base)]
    )
    return [_pair(*pair, start, end, chance, pairs) for pair in both]


def _pair(
    one: str, other: str, start: pd.Timestamp, end: pd.Timestamp, chance: Random, pairs: dict[str, pd.DataFrame]
) -> tuple[str, bool]:
    known = {Series.parse(name).instrument: name for name in pairs}
    for instrument, name in known.items():
        if {instrument.symbol, instrument.currency} == {one, other}:
            return name, instrument.symbol == other
    symbol, currency = NAMED[frozenset((one, other))]
    if chance.random() < 0.3:
        symbol, currency = currency, symbol
    hourly = chance.random() < 0.4
    name = f"{symbol}-CASH-IDEALPRO-{currency}/{'1hour' if hourly else '1day'}/MIDPOINT"
    level, rows = WORTH[symbol] / WORTH[currency], []
    for opened, known_since in _hours(start, end) if hourly else _days(start, end):
        level *= 1 + chance.gauss(0, 0.003)
        rows.append((opened, level, known_since))
    frame = pd.DataFrame(rows, columns=["opened", "close", "known"]).set_index("opened")
    pairs[name] = frame
    return name, symbol == other


def _days(start: pd.Timestamp, end: pd.Timestamp) -> Iterator[tuple[pd.Timestamp, pd.Timestamp]]:
    for day in pd.bdate_range(start - timedelta(days=10), end + timedelta(days=3)):
        closed = datetime(day.year, day.month, day.day, 17, tzinfo=NEW_YORK)
        yield day.tz_localize("UTC"), pd.Timestamp(closed).tz_convert("UTC")


def _hours(start: pd.Timestamp, end: pd.Timestamp) -> Iterator[tuple[pd.Timestamp, pd.Timestamp]]:
    first, last = ((one + timedelta(days=days)).tz_localize("UTC") for one, days in ((start, -6), (end, 3)))
    for opened in pd.date_range(first, last, freq="h"):
        local = opened.tz_convert(NEW_YORK)
        if (
            local.weekday() < 4
            or (local.weekday() == 4 and local.hour < 17)
            or (local.weekday() == 6 and local.hour > 17)
        ):
            yield opened, opened + timedelta(hours=1)


def _product(case: Case, legs: list[tuple[str, bool]], moments: pd.Series) -> pd.Series:
    found = pd.Series(1.0, index=moments.index)
    for name, inverse in legs:
        known = case.pairs[name].set_index("known")["close"]
        values = known_at(known, pd.DatetimeIndex(moments.drop_duplicates()))
        own = values.reindex(pd.DatetimeIndex(moments)).to_numpy()
        found *= 1 / own if inverse else own
    return found


def _orders(markets: list[Market], futures: bool, chance: Random) -> list[tuple[str, int]]:
    found = []
    for one in markets:
        if chance.random() < 0.4:
            most = 3 if futures else int(CASH / 40 / (one.level * one.unit * WORTH[one.currency]))
            found.append((one.name, chance.choice([-1, 1]) * chance.randint(1, most)))
    return found
