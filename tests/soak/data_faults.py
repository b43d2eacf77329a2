"""
Plant seeded faults in clean bars: invalid bars must be refused, suspicious ones reported, and clean ones accepted.

Run:  python tests/soak/data_faults.py [--trials 1000] [--seed 7]

Each trial draws new random one-minute bars (a random walk with quiet noons, fat tails and overnight gaps, on the
sessions of the exchange, including half-days and both changes of the clock), checks that they are clean, and plants
each fault in a copy of them.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from backtest.errors import BadBars
from backtest.market.bars import schema
from backtest.market.calendars import sessions
from backtest.market.checks import check_answer
from backtest.market.hours import Session, hours_of
from backtest.market.series import Series
from backtest.store.audit.findings import inspect_bars

MINUTES = Series.parse("AAPL/1min")
HOURS = hours_of(MINUTES.instrument)
SESSIONS = 10  # of a trial
_PRICES = ("open", "high", "low", "close")

Columns = dict[str, np.ndarray]
Fault = Callable[[Columns, np.random.Generator], object]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--trials", type=int, default=1000)
    words.add_argument("--seed", type=int, default=7)
    asked = words.parse_args()
    rows, alarms = run(asked.trials, asked.seed)
    for name, (caught, tried) in rows.items():
        print(f"{name:24} {caught:>6,} of {tried:,}")
    print(f"{'false alarms':24} {alarms:>6,} in {asked.trials * SESSIONS:,} clean sessions")
    print(f"{'speed':24} {speed() / 1e6:>6.1f} million bars a second")


def run(trials: int, seed: int) -> tuple[dict[str, tuple[int, int]], int]:
    """Return, for each fault, how often it was caught and tried, and the number of findings in clean bars."""
    caught: Counter[str] = Counter()
    alarms = 0
    for trial in range(trials):
        chance = np.random.default_rng([seed, trial])
        clean = walk(MINUTES, days(chance), chance)
        check_answer(table(clean), MINUTES, HOURS)
        alarms += len(inspect_bars(table(clean), MINUTES, HOURS))
        for name, fault in REFUSED.items():
            caught[name] += refused(faulty(clean, fault, chance))
        for name, (put, *checks) in FOUND.items():
            columns = {key: values.copy() for key, values in clean.items()}
            caught[name] += found(columns, put(columns, chance), tuple(checks))
    return {name: (caught[name], trials) for name in (*REFUSED, *FOUND)}, alarms


def refused(bars: pa.Table) -> bool:
    """Return whether the check of an answer refuses the bars."""
    try:
        check_answer(bars, MINUTES, HOURS)
    except BadBars:
        return True
    return False


def found(columns: Columns, day: date, checks: tuple[str, ...]) -> bool:
    """Return whether one of the checks reports the day of the fault; the check of an answer must accept the bars."""
    bars = table(columns)
    check_answer(bars, MINUTES, HOURS)
    return any(one.check in checks and one.at and one.at.date() == day for one in inspect_bars(bars, MINUTES, HOURS))


def speed() -> float:
    """Return how many bars per second are checked and inspected, on ten years of minute bars."""
    chance = np.random.default_rng(7)
    bars = table(walk(MINUTES, sessions(HOURS, date(2014, 1, 2), date(2023, 12, 29)), chance))
    inspect_bars(bars.slice(0, 1000), MINUTES, HOURS)  # lays out the calendar
    began = time.perf_counter()
    inspect_bars(bars, MINUTES, HOURS)  # which asks the door, too
    return len(bars) / (time.perf_counter() - began)


# --- a market


def days(chance: np.random.Generator) -> list[Session]:
    """Return consecutive sessions from a random place in ten years."""
    start = date(2014, 1, 2) + timedelta(days=int(chance.integers(3600)))
    return sessions(HOURS, start, start + timedelta(days=3 * SESSIONS))[:SESSIONS]


def walk(series: Series, wanted: list[Session], chance: np.random.Generator) -> Columns:
    """Return the columns of a random walk on the sessions, with prices in cents."""
    size = series.size.seconds
    opens, closes = (np.array([int(getattr(one, name).timestamp()) for one in wanted]) for name in ("open", "close"))
    counts = (closes - opens) // size
    first = np.repeat(np.cumsum(counts) - counts, counts)
    place = np.arange(counts.sum()) - first
    stamps = np.repeat(opens, counts) + place * size
    busy = 1 + 1.5 * (2 * place / np.repeat(counts, counts) - 1) ** 2  # open and close are livelier than noon
    steps = 0.0005 * busy * chance.standard_t(5, len(stamps))
    steps[place == 0] = 0.009 * chance.standard_normal(len(counts))  # overnight
    close = 170 * np.exp(np.cumsum(steps) - 0.3 * np.cumsum(steps).mean())
    open_ = np.where(place == 0, close, np.roll(close, 1) * np.exp(0.0001 * chance.standard_normal(len(close))))
    reach = 0.0003 * busy * np.abs(chance.standard_normal((2, len(close))))
    high, low = np.maximum(open_, close) * np.exp(reach[0]), np.minimum(open_, close) * np.exp(-reach[1])
    prices = (np.round(values, 2) for values in (open_, high, low, close))
    volume = np.round(np.exp(chance.normal(9, 0.8, len(close)))) + 1
    return {"time": stamps * 1_000_000, **dict(zip(_PRICES, prices, strict=True)), "volume": volume}


def table(columns: Columns) -> pa.Table:
    """Return the columns as bars, without averages and trades."""
    nothing = pa.nulls(len(columns["time"]), pa.float64())
    arrays = {**columns, "average": nothing, "trades": pa.nulls(len(nothing), pa.int64())}
    return pa.Table.from_arrays(
        [pa.array(arrays[f.name], f.type, from_pandas=False) for f in schema()], schema=schema()
    )


def faulty(clean: Columns, fault: Fault, chance: np.random.Generator) -> pa.Table:
    """Return the bars with the fault in them; a fault that changes types returns a table."""
    columns = {name: values.copy() for name, values in clean.items()}
    changed = fault(columns, chance)
    return changed if isinstance(changed, pa.Table) else table(columns)


# --- faults that must be refused


def _one(columns: Columns, chance: np.random.Generator) -> int:
    return int(chance.integers(1, len(columns["time"]) - 1))


def naive_times(columns: Columns, chance: np.random.Generator) -> pa.Table:
    bars = table(columns)
    return bars.set_column(0, "time", pc.cast(bars["time"], pa.timestamp("us")))


def other_zone(columns: Columns, chance: np.random.Generator) -> pa.Table:
    bars = table(columns)
    return bars.set_column(0, "time", pc.cast(bars["time"], pa.timestamp("us", tz="America/New_York")))


def milliseconds(columns: Columns, chance: np.random.Generator) -> pa.Table:
    bars = table(columns)
    return bars.set_column(0, "time", pc.cast(bars["time"], pa.timestamp("ms", tz="UTC")))


def wrong_type(columns: Columns, chance: np.random.Generator) -> pa.Table:
    bars = table(columns)
    name = _PRICES[chance.integers(4)]
    return bars.set_column(bars.schema.get_field_index(name), name, pc.cast(bars[name], pa.string()))


def column_gone(columns: Columns, chance: np.random.Generator) -> pa.Table:
    return table(columns).drop_columns([_PRICES[chance.integers(4)]])


def price_null(columns: Columns, chance: np.random.Generator) -> pa.Table:
    bars, name, row = table(columns), _PRICES[chance.integers(4)], _one(columns, chance)
    values = bars[name].to_pylist()
    values[row] = None
    return bars.set_column(bars.schema.get_field_index(name), schema().field(name), pa.array(values, pa.float64()))


def duplicate(columns: Columns, chance: np.random.Generator) -> None:
    row = _one(columns, chance)
    for name, values in columns.items():
        columns[name] = np.insert(values, row, values[row])


def swapped(columns: Columns, chance: np.random.Generator) -> None:
    row = _one(columns, chance)
    for values in columns.values():
        values[[row, row + 1]] = values[[row + 1, row]]


def backwards(columns: Columns, chance: np.random.Generator) -> None:
    for name, values in columns.items():
        columns[name] = values[::-1]


def off_grid(columns: Columns, chance: np.random.Generator) -> None:
    columns["time"][_one(columns, chance)] += int(chance.integers(1, 60)) * 1_000_000


def off_grid_by_less_than_a_second(columns: Columns, chance: np.random.Generator) -> None:
    columns["time"][_one(columns, chance)] += int(chance.integers(1, 1_000_000))


def _price(value: float) -> Fault:
    def fault(columns: Columns, chance: np.random.Generator) -> None:
        columns[_PRICES[chance.integers(4)]][_one(columns, chance)] = value

    return fault


def all_zero(columns: Columns, chance: np.random.Generator) -> None:
    row = _one(columns, chance)
    for name in _PRICES:
        columns[name][row] = 0.0


def high_below_low(columns: Columns, chance: np.random.Generator) -> None:
    row = _one(columns, chance)
    columns["high"][row] = columns["low"][row] - 0.01


def close_above_high(columns: Columns, chance: np.random.Generator) -> None:
    row = _one(columns, chance)
    columns["close"][row] = columns["high"][row] + 0.01


def open_below_low(columns: Columns, chance: np.random.Generator) -> None:
    row = _one(columns, chance)
    columns["open"][row] = columns["low"][row] - 0.01


def negative_volume(columns: Columns, chance: np.random.Generator) -> None:
    columns["volume"][_one(columns, chance)] = -1.0


def volume_not_a_number(columns: Columns, chance: np.random.Generator) -> None:
    columns["volume"][_one(columns, chance)] = np.nan


def weekend(columns: Columns, chance: np.random.Generator) -> None:
    """Move all bars so that the first session falls on a Saturday."""
    first = datetime.fromtimestamp(columns["time"][0] / 1e6, UTC)
    columns["time"] += (5 - first.weekday()) * 86_400_000_000


def after_half_day(columns: Columns, chance: np.random.Generator) -> None:
    """Continue trading after the early close of a half-day."""
    halves = [date(year, 11, 23) + timedelta(days=(3 - date(year, 11, 23).weekday()) % 7) for year in range(2014, 2024)]
    day = halves[chance.integers(len(halves))]  # the Friday after Thanksgiving
    early = sessions(HOURS, day - timedelta(days=1), day + timedelta(days=1))[-1]
    full = Session(early.day, early.open, early.close + timedelta(minutes=int(chance.integers(1, 181))))
    columns.update(walk(MINUTES, [full], chance))


def shifted(hours: int) -> Fault:
    def fault(columns: Columns, chance: np.random.Generator) -> None:
        """Shift one session, as if daylight saving had been ignored."""
        rows = _rows_of_session(columns, chance)
        columns["time"][rows] += hours * 3_600_000_000

    return fault


def holiday(columns: Columns, chance: np.random.Generator) -> None:
    day = date(int(chance.integers(2014, 2024)), 12, 25)
    start = datetime(day.year, 12, 25, 14, 30, tzinfo=UTC)
    columns.update(walk(MINUTES, [Session(day, start, start + timedelta(hours=6.5))], chance))


REFUSED: dict[str, Fault] = {
    "naive times": naive_times,
    "another zone": other_zone,
    "milliseconds": milliseconds,
    "prices as text": wrong_type,
    "a column gone": column_gone,
    "a price null": price_null,
    "a bar twice": duplicate,
    "two bars swapped": swapped,
    "all backwards": backwards,
    "seconds in a stamp": off_grid,
    "less than a second": off_grid_by_less_than_a_second,
    "NaN": _price(np.nan),
    "infinite": _price(np.inf),
    "one price zero": _price(0.0),
    "all prices zero": all_zero,
    "one price negative": _price(-1.0),
    "high below low": high_below_low,
    "close above high": close_above_high,
    "open below low": open_below_low,
    "volume -1": negative_volume,
    "volume NaN": volume_not_a_number,
    "a weekend": weekend,
    "a holiday": holiday,
    "after a half-day's close": after_half_day,
    "an hour early": shifted(-1),
    "an hour late": shifted(1),
}


# --- faults that may be true, and are found; each returns the day on which it is to be found


def _rows_of_session(columns: Columns, chance: np.random.Generator, inner: bool = False) -> np.ndarray:
    day = columns["time"] // 86_400_000_000
    known = np.unique(day)[1:-1] if inner else np.unique(day)
    return np.flatnonzero(day == known[chance.integers(len(known))])


def _day(columns: Columns, row: int) -> date:
    return datetime.fromtimestamp(columns["time"][row] / 1e6, UTC).date()


def _without(columns: Columns, rows: np.ndarray) -> None:
    for name, values in columns.items():
        columns[name] = np.delete(values, rows)


def session_gone(columns: Columns, chance: np.random.Generator) -> date:
    rows = _rows_of_session(columns, chance, inner=True)
    day = _day(columns, rows[0])
    _without(columns, rows)
    return day


def minutes_gone(columns: Columns, chance: np.random.Generator) -> date:
    rows = _rows_of_session(columns, chance, inner=True)
    first = int(chance.integers(len(rows) - 60))
    day = _day(columns, rows[0])
    _without(columns, rows[first : first + int(chance.integers(1, 60))])
    return day


def spike(times: float) -> Fault:
    def fault(columns: Columns, chance: np.random.Generator) -> date:
        row = int(chance.choice(_rows_of_session(columns, chance)))
        for name in _PRICES:
            columns[name][row] = round(columns[name][row] * times, 2)
        return _day(columns, row)

    return fault


def high_only(columns: Columns, chance: np.random.Generator) -> date:
    row = int(chance.choice(_rows_of_session(columns, chance)[1:]))
    columns["high"][row] *= 10
    return _day(columns, row)


def split(ratio: float) -> Fault:
    def fault(columns: Columns, chance: np.random.Generator) -> date:
        first = _rows_of_session(columns, chance, inner=True)[0]
        for name in _PRICES:
            columns[name][first:] = np.round(columns[name][first:] / ratio, 2)
        return _day(columns, first)

    return fault


def frozen(columns: Columns, chance: np.random.Generator) -> date:
    rows = _rows_of_session(columns, chance)
    first = int(chance.integers(len(rows) - 31))
    chosen = rows[first : first + int(chance.integers(31, 120))]
    for name in (*_PRICES, "volume"):
        columns[name][chosen] = columns[name][chosen[0]]
    return _day(columns, chosen[0])


FOUND: dict[str, tuple[Any, ...]] = {  # the fault, and the checks that may find it
    "a session gone": (session_gone, "sessions"),
    "minutes gone": (minutes_gone, "minutes"),
    "a price x 100": (spike(100.0), "spike"),
    "a price / 100": (spike(0.01), "spike"),
    "a spike of 10 %": (spike(1.1), "spike"),
    "a spike of -10 %": (spike(0.9), "spike"),
    "a spike of 3 %": (spike(1.03), "spike"),
    "a high x 10": (high_only, "spike"),
    "a split of 4:1": (split(4.0), "split"),
    "a split of 3:2": (split(1.5), "split"),
    "a reverse split of 1:10": (split(0.1), "split", "jump"),
    "pence for pounds": (split(0.01), "split", "jump"),
    "a frozen feed": (frozen, "frozen"),
}


if __name__ == "__main__":
    main()
