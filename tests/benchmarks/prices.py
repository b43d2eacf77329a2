"""Made-up bars for benchmarks, seeded, and the files in which each contestant finds them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from backtest.engine.feed import close_stamps
from backtest.market.bars import schema
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.store.store import Store

CENTS = 100
# Sums of such prices are exact, so that every library has the same averages to the last bit, and hardly ever two
# that are equal, which each would read in its own way.
DYADIC = 65_536

_DAY = 86_400
_EPOCH = 719_163  # 1970-01-01 as Backtrader counts days


def minute_bars(count: int, a_day: int = 390, steps: int = CENTS) -> pa.Table:
    """
    Return one-minute bars from 14:30 UTC on each day from Monday to Friday; from midnight if there are 1,440.

    Prices are in steps of 1/steps dollar.
    """
    first = int(datetime(1998, 1, 5, tzinfo=UTC).timestamp()) + (0 if a_day == 1440 else 52_200)
    number = np.arange(count) // a_day
    day = number // 5 * 7 + number % 5
    return _bars(first + day * _DAY + np.arange(count) % a_day * 60, 0.0005, steps, seed=7)


def daily_bars(count: int, seed: int, steps: int = CENTS) -> pa.Table:
    """Return daily bars on the days from Monday to Friday, in prices of 1/steps dollar."""
    number = np.arange(count)
    first = int(datetime(2015, 1, 5, tzinfo=UTC).timestamp())
    return _bars(first + (number // 5 * 7 + number % 5) * _DAY, 0.012, steps, seed)


def fill(store: Store, series: Series, bars: pa.Table) -> None:
    """Write bars into a store, a month at a time if there are many."""
    stamps = np.asarray(bars["time"].to_numpy(), "datetime64[M]")
    edges = [0, *(np.flatnonzero(np.diff(stamps)) + 1), len(bars)] if not series.size.daily else [0, len(bars)]
    for start, end in pairwise(edges):
        part = bars.slice(start, end - start)
        store.write(series, Span(part["time"][0].as_py(), _after(part["time"][-1].as_py())), part)


def write_frame(path: Path, bars: pa.Table, series: Series) -> Path:
    """Write bars as pandas users store them: a Parquet file with an index of timestamps, equal to those of our feed."""
    stamps = (close_stamps(bars, series.size) - _EPOCH) * _DAY * 1_000_000
    index = np.round(stamps).astype("datetime64[us]") if not series.size.daily else bars["time"].to_numpy()
    frame = bars.select(["open", "high", "low", "close", "volume"]).to_pandas()
    frame.set_index(np.asarray(index, "datetime64[us]")).rename_axis("time").to_parquet(path)
    return path


def write_table(path: Path, bars: pa.Table) -> Path:
    """Write bars into one Parquet file, compressed as in the store."""
    pq.write_table(bars, path, compression="zstd", compression_level=3)
    return path


def symbols(count: int) -> Iterator[str]:
    """Yield names of made-up stocks."""
    return (f"S{number:02}" for number in range(count))


def _bars(seconds: np.ndarray, sigma: float, steps: int, seed: int) -> pa.Table:
    chance = np.random.default_rng(seed)
    moves = chance.normal(0, sigma, (2, len(seconds)))
    close = 100 * np.exp(np.cumsum(moves[0]))
    opened = np.concatenate([[100.0], close[:-1]]) * np.exp(moves[1] / 4)
    high = np.maximum(opened, close) * (1 + np.abs(moves[1]) / 2)
    low = np.minimum(opened, close) * (1 - np.abs(moves[0]) / 2)
    prices = [np.round(column * steps) / steps for column in (opened, high, low, close)]
    volume = chance.integers(100, 90_000, len(seconds)).astype(float)
    stamps = pa.array(seconds * 1_000_000, pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC"))
    trades = pa.array(chance.integers(1, 900, len(seconds)))
    columns = [stamps, *map(pa.array, prices), pa.array(volume), pa.array(prices[3]), trades]
    return pa.Table.from_arrays(columns, schema=schema())


def _after(moment: datetime) -> datetime:
    return datetime.fromtimestamp(moment.timestamp() + 1, UTC)
