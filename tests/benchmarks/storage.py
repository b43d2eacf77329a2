"""
Storage: the cost of appending a day, reading a month and reading everything, against plain Parquet of the same rows.

Run:  python tests/benchmarks/storage.py [--years 10] [--daily 100] [--minutes 100] [--repeats 21]

Prints a table of medians. Each pair is timed in alternation, so that a busy machine slows both, after checking that
both give the same bars. "Plain" is one file per series, written and read by pyarrow.parquet with its defaults; the
store checks every hash. The bars are made up: a random walk in cents, on real minutes of regular hours.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from backtest.market.bars import schema
from backtest.market.calendars import sessions, span_of_sessions
from backtest.market.hours import hours_of
from backtest.market.series import Instrument, Series
from backtest.market.span import Span
from backtest.store.store import Store

MINUTES = Series.parse("AAPL/1min")
UNTIL = date(2025, 12, 31)
APPENDED = 21  # sessions: a month of appends, for an append costs more at its end than at its start


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--years", type=int, default=10)
    words.add_argument("--daily", type=int, default=100, help="daily series")
    words.add_argument("--minutes", type=int, default=100, help="series of minutes, 30 MB each")
    words.add_argument("--repeats", type=int, default=21)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [*run(Path(folder), asked.years, asked.daily, asked.minutes, asked.repeats)]
    print("\n| what | result |\n|---|---|")
    print("\n".join(f"| {what} | {result} |" for what, result in rows))


def run(folder: Path, years: int, daily: int, minutes: int, repeats: int) -> Iterator[tuple[str, str]]:
    """Yield each measurement and its result."""
    bars = minute_bars(years)
    yield from appending(folder / "append", bars, years)
    yield from reading(folder / "read", bars, years, repeats)
    yield from reading_daily(folder / "daily", daily, years, max(repeats // 3, 3))
    yield from reading_each(folder / "each", minutes, bars, years)


# --- appending


def appending(folder: Path, bars: pa.Table, years: int) -> Iterator[tuple[str, str]]:
    """Yield the cost of appending a month, day by day, to one year and to all of them, in alternation."""
    days = by_session(bars)
    before, appended = days[:-APPENDED], days[-APPENDED:]
    short, long = Store(folder / "short"), Store(folder / "long")
    fill(short, MINUTES, pa.concat_tables(before[-(252 - APPENDED) :]))
    fill(long, MINUTES, pa.concat_tables(before))
    costs = {store: ([], []) for store in (short, long)}
    for day in appended:
        for store, (seconds, written) in costs.items():
            known = sizes(store)
            seconds.append(timed(partial(fill, store, MINUTES, day)))
            written.append(sum(size for path, size in sizes(store).items() if known.get(path) != size))
    assert long.read(MINUTES).equals(bars)
    (short_seconds, short_bytes), (long_seconds, long_bytes) = costs[short], costs[long]
    yield f"append a day to {years} years", milliseconds(statistics.median(long_seconds))
    yield "append a day to 1 year", milliseconds(statistics.median(short_seconds))
    yield f"time, {years} years over 1 year", f"{ratio(long_seconds, short_seconds):.2f}"
    yield f"bytes written, {years} years", f"{statistics.mean(long_bytes):,.0f}, at most {max(long_bytes):,}"
    yield f"bytes, {years} years over 1 year", f"{statistics.mean(long_bytes) / statistics.mean(short_bytes):.2f}"


def sizes(store: Store) -> dict[tuple[Path, int], int]:
    """Return the size of each file of the store, by its path and modification time."""
    files = (path for path in store.root.rglob("*") if path.is_file())
    return {(path, path.stat().st_mtime_ns): path.stat().st_size for path in files}


# --- reading


def reading(folder: Path, bars: pa.Table, years: int, repeats: int) -> Iterator[tuple[str, str]]:
    """Yield the cost of reading a month and all years of minutes."""
    store, plain = Store(folder / "store"), folder / "plain.parquet"
    fill(store, MINUTES, bars)
    pq.write_table(bars, plain)
    month = span_of_sessions(MINUTES, hours_of(MINUTES.instrument), date(UNTIL.year, 6, 1), date(UNTIL.year, 6, 30))
    ours, theirs = partial(store.read, MINUTES, month), partial(month_of, plain, month)
    yield from compared(f"a month of {years} years", ours, theirs, repeats)
    yield from compared(f"all {years} years", partial(store.read, MINUTES), partial(pq.read_table, plain), repeats)
    size = sum(path.stat().st_size for path in store.root.rglob("*") if path.is_file())
    yield f"bytes on disk, {len(bars):,} bars", f"{size:,}; plain {plain.stat().st_size:,}"


def reading_daily(folder: Path, count: int, years: int, repeats: int) -> Iterator[tuple[str, str]]:
    """Yield the cost of reading many daily series, against a file for each and one file for all."""
    store, files = Store(folder / "store"), folder / "plain"
    files.mkdir(parents=True)
    every = [Series.parse(f"S{number}/1day") for number in range(count)]
    for number, one in enumerate(every):
        bars = daily_bars(years, number)
        fill(store, one, bars)
        pq.write_table(bars, files / f"{number:04}.parquet")
    whole = pa.concat_tables([pq.read_table(path) for path in sorted(files.iterdir())])
    pq.write_table(whole, folder / "whole.parquet")

    def ours() -> pa.Table:
        return pa.concat_tables([store.read(one) for one in every])

    def theirs() -> pa.Table:
        return pa.concat_tables([pq.read_table(path) for path in sorted(files.iterdir())])

    yield from compared(f"{count} daily series, a plain file each", ours, theirs, repeats)
    yield from compared(
        f"{count} daily series, one plain file", ours, lambda: pq.read_table(folder / "whole.parquet"), repeats
    )


def reading_each(folder: Path, count: int, bars: pa.Table, years: int) -> Iterator[tuple[str, str]]:
    """Yield the cost of reading each of many series of minutes, against a file for each."""
    store, files = Store(folder / "store"), folder / "plain"
    files.mkdir(parents=True)
    pairs = []
    for number in range(count):
        series, path = Series.parse(f"S{number}/1min"), files / f"{number}.parquet"
        fill(store, series, bars)
        pq.write_table(bars, path)
    for number in range(count):
        series, path = Series.parse(f"S{number}/1min"), files / f"{number}.parquet"
        assert store.read(series).equals(pq.read_table(path).cast(schema()))
        pairs.append((timed(partial(store.read, series)), timed(partial(pq.read_table, path))))
    mine, other = zip(*pairs, strict=True)
    text = f"{milliseconds(sum(mine))}; plain {milliseconds(sum(other))}"
    yield f"read {count} series of {years} years of minutes", f"{text}; ours over plain {sum(mine) / sum(other):.2f}"


def compared(
    what: str, ours: Callable[[], pa.Table], theirs: Callable[[], pa.Table], repeats: int
) -> Iterator[tuple[str, str]]:
    """Yield the medians of two ways to get the same bars, timed in alternation, and the median of their ratios."""
    assert ours().equals(theirs().cast(schema())), what
    pairs = [(timed(ours), timed(theirs)) for _ in range(repeats)]
    mine, other = zip(*pairs, strict=True)
    text = f"{milliseconds(statistics.median(mine))}; plain {milliseconds(statistics.median(other))}"
    yield f"read {what}", f"{text}; ours over plain {ratio(mine, other):.2f}"


def month_of(path: Path, month: Span) -> pa.Table:
    """Return a month from a plain file, in the cheapest way."""
    return pq.read_table(path, filters=(pc.field("time") >= month.start) & (pc.field("time") < month.end))


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ratio(mine: tuple[float, ...] | list[float], other: tuple[float, ...] | list[float]) -> float:
    return statistics.median(one / two for one, two in zip(mine, other, strict=True))


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


# --- bars


def fill(store: Store, series: Series, bars: pa.Table) -> None:
    first, last = (bars["time"][row].as_py() for row in (0, -1))
    store.write(series, Span(first, last + timedelta(minutes=1)), bars, source="benchmark")


def minute_bars(years: int) -> pa.Table:
    """Return a random walk in cents on the minutes of regular hours."""
    found = sessions(hours_of(MINUTES.instrument), date(UNTIL.year - years + 1, 1, 1), UNTIL)
    stamps = [np.arange(int(one.open.timestamp()), int(one.close.timestamp()), 60) for one in found]
    return walk(np.concatenate(stamps), 7)


def daily_bars(years: int, seed: int) -> pa.Table:
    """Return a random walk in cents on the sessions."""
    found = sessions(hours_of(Instrument("ANY")), date(UNTIL.year - years + 1, 1, 1), UNTIL)
    stamps = np.array([one.day for one in found], "datetime64[s]").astype(np.int64)
    return walk(stamps, seed)


def walk(stamps: np.ndarray, seed: int) -> pa.Table:
    chance, count = np.random.default_rng(seed), len(stamps)
    middle = 17_000 + np.cumsum(chance.integers(-3, 4, count)) % 9000
    opens, closes = (middle + chance.integers(-5, 6, count) for _ in range(2))
    highs = np.maximum(opens, closes) + chance.integers(0, 6, count)
    lows = np.minimum(opens, closes) - chance.integers(0, 6, count)
    columns = [
        pa.array(stamps * 1_000_000, pa.timestamp("us", tz="UTC")),
        *(pa.array(prices / 100) for prices in (opens, highs, lows, closes)),
        pa.array(chance.integers(100, 90_000, count).astype(float)),
        pa.array(np.round((opens + highs + lows + closes) / 400, 3)),
        pa.array(chance.integers(1, 900, count)),
    ]
    return pa.Table.from_arrays(columns, schema=schema())


def by_session(bars: pa.Table) -> list[pa.Table]:
    days = pc.floor_temporal(bars["time"], unit="day").cast(pa.int64()).combine_chunks()
    ends = pc.run_end_encode(days).run_ends.to_pylist()
    return [bars.slice(start, end - start) for start, end in zip([0, *ends], ends, strict=False)]


if __name__ == "__main__":
    main()
