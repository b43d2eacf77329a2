"""A synthetic market for tests: seeded bars on the real sessions, with half-days, daylight saving and 24x5 weeks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from backtest.market import calendars
from backtest.market.bars import table_of
from backtest.market.calendars import sessions
from backtest.market.hours import Session, hours_of
from backtest.market.series import ContractDetails, Series
from backtest.market.span import Span
from backtest.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

Row = tuple[object, ...]

TICKS = {"CASH": 0.00005, "FUT": 0.25, "CONTFUT": 0.25}  # others 0.01
LEVELS = {"CASH": 1.1, "FUT": 5000.0, "CONTFUT": 5000.0}  # others 170
QUOTES = ("MIDPOINT", "BID", "ASK", "BID_ASK")  # without volume


@lru_cache(maxsize=32)  # several tests of a file take the same bars
def minute_bars(series: Series, since: date, until: date, seed: int = 7) -> pa.Table:
    """
    Return made-up bars of the series in the sessions from `since` to `until`: of its size, whatever that is.

    Bars of regular hours are those of all hours in regular hours, where the size divides half an hour.
    """
    hours = hours_of(series.instrument)
    regular = {session.day: session for session in sessions(hours, since, until)}
    every = sessions(hours, since, until, regular_hours=False)
    if series.size.period in ("week", "month"):  # stamped with its last session
        every = list({_period(series, session.day): session for session in every}.values())
    rows = [row for session in every for row in _session_bars(series, session, regular[session.day], seed)]
    return table_of(rows)


def span_of_sessions(series: Series, since: date, until: date) -> Span:
    """Return the span of the stamps of the series' bars in the sessions that its exchange's calendar has."""
    return calendars.span_of_sessions(series, hours_of(series.instrument), since, until)


def store_with(folder: Path, wanted: Mapping[str, tuple[str, str]], seed: int = 7) -> Store:
    """Return a store in the folder with made-up bars of series, each by its spelling, first and last date."""
    store = Store(folder)
    for text, dates in wanted.items():
        series = Series.parse(text)
        since, until = (date.fromisoformat(day) for day in dates)
        span = span_of_sessions(series, since, until)
        store.write(series, span, minute_bars(series, since, until, seed), source="market", contract=None)
    return store


def contract(number: int, name: str, primary_exchange: str = "") -> ContractDetails:
    """Return what a vendor might say of a stock."""
    return ContractDetails(con_id=number, name=name, primary_exchange=primary_exchange)


def _period(series: Series, day: date) -> tuple[int, int]:
    return day.isocalendar()[:2] if series.size.period == "week" else (day.year, day.month)


def _session_bars(series: Series, session: Session, regular: Session, seed: int) -> Iterator[Row]:
    chance = Random(f"{seed} {series.instrument} {series.prices} {series.size} {session.day}")
    if series.size.daily:
        yield (datetime.combine(session.day, time(), UTC), *_bar(series, chance))
        return
    hours = regular if series.regular_hours else session
    start, step = session.open, timedelta(seconds=series.size.seconds)
    while start < session.close:
        if hours.open <= start < hours.close:
            yield (start, *_bar(series, chance))
        else:
            _draws(series, chance)
        start += step


def _bar(series: Series, chance: Random) -> Row:
    kind = series.instrument.kind
    tick, level = TICKS.get(kind, 0.01), LEVELS.get(kind, 170.0)
    steps, *others = _draws(series, chance)
    middle = round(level / tick) - 90
    first, most, least, last = (
        round((middle + step) * tick, 5) for step in (steps[0], max(steps), min(steps), steps[3])
    )
    if not others:
        return (first, most, least, last, None, None, None)
    share, volume, trades = others
    average = least + (most - least) * share  # as many digits as a double has
    return (first, most, least, last, float(volume), average, trades)


def _draws(series: Series, chance: Random) -> tuple[Any, ...]:
    """Return what chance says of a bar: four prices in ticks above the lowest, its average, volume and trades."""
    steps = [_below(chance, 181, 8) for _ in range(4)]
    if series.prices in QUOTES:
        return (steps,)
    return steps, chance.random(), _below(chance, 90_000, 17) + 1, _below(chance, 900, 10) + 1


def _below(chance: Random, most: int, bits: int) -> int:
    """Return `chance.randrange(most)`, which takes five times as long: hundreds of thousands of bars are made."""
    number = chance.getrandbits(bits)
    while number >= most:
        number = chance.getrandbits(bits)
    return number
