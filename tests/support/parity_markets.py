"""Made-up bars with what real ones have: gaps, equal prices, no range, jumps, no volume; and feeds of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import backtrader as bt
import pandas as pd

from backtest.engine.feed import replay
from backtest.market.bars import table_of

DAY = timedelta(days=1)
DAY_END = timedelta(hours=23, minutes=59, seconds=59, microseconds=999990)
BEGIN = datetime(2023, 12, 27)  # noqa: DTZ001 - Backtrader's stamps are naive


class Bar(NamedTuple):
    """A bar as its feed gives it; the stamp is that of its close."""

    time: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float
    openinterest: float


class Rows(bt.feed.DataBase):
    """A feed made by hand: `dataname` is a list of bars, given one by one."""

    def start(self):
        super().start()
        self.rest = iter(self.p.dataname)

    def _load(self):
        bar = next(self.rest, None)
        if bar is None:
            return False
        self.lines.datetime[0] = self.date2num(bar.time)
        for name in Bar._fields[1:]:
            getattr(self.lines, name)[0] = getattr(bar, name)
        return True


class StampedRows(Rows):
    """The same, with the numbers of the stamps kept: no time zone, and no conversion a bar."""

    def _load(self):
        bar = next(self.rest, None)
        if bar is None:
            return False
        lines = self.lines.lines
        lines[6][0] = bt.date2num(bar.time)
        lines[0][0], lines[1][0], lines[2][0], lines[3][0] = bar.close, bar.low, bar.high, bar.open
        lines[4][0], lines[5][0] = bar.volume, bar.openinterest
        return True


class Columns(StampedRows):
    """The same with two columns more: a signal at each bar, and a score at some."""

    lines = ("signal", "score")

    def _load(self):
        if not super()._load():
            return False
        close = self.lines.close[0]
        self.lines.signal[0] = close - self.lines.open[0]
        self.lines.score[0] = close if int(close * 100) % 3 else float("nan")
        return True


class PandasColumns(bt.feeds.PandasData):
    """Backtrader's feed of a data frame with two columns more."""

    lines = ("signal", "score")
    params = (("signal", -1), ("score", -1))


def market(seed: int, count: int, step: timedelta = DAY, **wild: float) -> list[Bar]:
    """Return bars of a random walk; `wild` are the chances of what is in `prices`, and of `gap` and `same` stamps."""
    chance = random.Random(seed)
    stamps = times(chance, count, step, wild.get("gap", 0.1), wild.get("same", 0.0))
    return [Bar(time, *values) for time, values in zip(stamps, prices(chance, wild), strict=False)]


def times(chance: random.Random, count: int, step: timedelta, gap: float, same: float) -> Iterator[datetime]:
    now = BEGIN + (DAY_END if step >= DAY else timedelta(hours=9, minutes=30) + step)
    for _ in range(count):
        yield now
        if chance.random() >= same:
            now += step * (chance.randint(2, 5) if chance.random() < gap else 1)


def prices(chance: random.Random, wild: dict[str, float]) -> Iterator[tuple[float, ...]]:
    """
    Yield prices and volumes for ever.

    Args:
        wild: chances of `flat` (no range), `jump` (half or twice), `void` (no volume), `hole` (no close); `tick` is
            the price step, to which prices are rounded so that many are equal; `start` is the first price.
    """
    last, tick = wild.get("start", 50.0), wild.get("tick", 0.0)
    while True:
        opened = last * (
            chance.choice([0.5, 2.0]) if chance.random() < wild.get("jump", 0.0) else chance.gauss(1, 0.01)
        )
        flat = chance.random() < wild.get("flat", 0.0)
        closed = opened if flat else opened * chance.gauss(1, 0.02)
        ends = [rounded(one, tick) for one in (opened, closed)]
        reach = [0.0, 0.0] if flat else [abs(chance.gauss(0, 0.01)) for _ in range(2)]
        high, low = rounded(max(ends) * (1 + reach[0]), tick), rounded(min(ends) * (1 - reach[1]), tick)
        last = ends[1] or 1.0
        volume = float("nan") if chance.random() < wild.get("void", 0.0) else float(chance.randint(0, 5000))
        seen = float("nan") if chance.random() < wild.get("hole", 0.0) else ends[1]
        yield ends[0], max(high, *ends), min(low, *ends), seen, volume, 0.0


def rounded(price: float, tick: float) -> float:
    return round(price / tick) * tick if tick else price


def rows(bars: list[Bar], **params: Any) -> Rows:
    """Return a hand-made feed."""
    return Rows(dataname=bars, **params)


def quick_rows(bars: list[Bar], **params: Any) -> StampedRows:
    """Return a hand-made feed that spends little time on stamps."""
    return StampedRows(dataname=bars, **params)


def pandas(bars: list[Bar], **params: Any) -> bt.feeds.PandasData:
    """Return Backtrader's own feed of a data frame."""
    frame = pd.DataFrame(bars).set_index("time")
    return bt.feeds.PandasData(dataname=frame, **params)


def with_columns(bars: list[Bar], **params: Any) -> Columns:
    """Return a hand-made feed with more columns."""
    return Columns(dataname=bars, **params)


def pandas_with_columns(bars: list[Bar], **params: Any) -> PandasColumns:
    """Return a feed of a data frame with more columns."""
    frame = pd.DataFrame(bars).set_index("time")
    frame["signal"] = frame.close - frame.open
    frame["score"] = frame.close.where((frame.close * 100).astype(int) % 3 != 0) if frame.close.notna().all() else 1.0
    return PandasColumns(dataname=frame, **params)


def ours(bars: list[Bar], series: str = "AAPL/1day", **params: Any) -> Any:
    """Return our own feed of a table; the bars' stamps are those of the close, the table's those of the opening."""
    size = timedelta(days=1) if series.endswith("day") else timedelta(hours=1)
    opened = [(bar.time - size + (DAY - DAY_END if size == DAY else 0 * DAY)) for bar in bars]
    table = table_of(
        [
            (time.replace(tzinfo=UTC), *bar[1:5], None if bar.volume != bar.volume else bar.volume, None, None)
            for time, bar in zip(opened, bars, strict=True)
        ]
    )
    name = params.pop("name", "")
    feed = replay(table, series, **params)
    feed._name = name or feed._name
    return feed


FEEDS = {"rows": rows, "quick rows": quick_rows, "pandas": pandas, "replay": ours}
