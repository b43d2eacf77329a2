"""
What a run is asked (`RunSpec`) and what it leaves (`RunResult`), in memory and on disk.

A saved run is a folder: spec.json, manifest.json, and record, orders, fills, trades as Parquet. It is measured and
reported again without its bars.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import deque
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest import _arguments
from backtest.errors import BadStore, UsageError
from backtest.market import arrays
from backtest.market.bars import Series

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas as pd
    import pyarrow as pa

    from backtest.metrics.account import Account
    from backtest.metrics.measurement import Stats
    from backtest.validity.validation import Validity

FORMAT = 1
_TABLES = ("record", "orders", "fills", "trades")
FILES = ("spec.json", "manifest.json", *(f"{name}.parquet" for name in _TABLES))  # of a kept run


@dataclass(frozen=True, slots=True)
class RunSpec:
    """
    Everything a run is asked; the same spec on the same bars gives the same result.

    `risk_free` is a return a year (0.05 is 5 %); `since` and `until` are dates of sessions, both included, "" for
    all there is; `sessions_a_year` annualises.
    """

    strategy: str  # file.py:Name or module:Name
    series: tuple[str, ...]
    since: str = ""
    until: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    cash: float = 100_000.0
    costs: str = "ib-fixed"
    benchmark: str = ""  # a series; "" for buy and hold of the run's own series
    risk_free: float = 0.0
    sessions_a_year: float = 252.0
    align: str = "as-is"  # in ALIGNMENTS
    size: str = ""  # as `Sizing.parse` reads it; "" where the strategy says how much
    slippage: str = ""  # as `Slippage.parse` reads it
    volume_cap: float = 0.0  # most of a bar's volume that is traded; 0 for no cap
    fills: str = "next-bar"
    borrow: str = ""  # rules as `Borrowing.parse` reads them, with commas between
    cash_rate: float = 0.0  # interest on idle cash, a year

    @property
    def key(self) -> str:
        """Ten hex digits that stand for this spec, the same on every machine."""
        asked = {name: value for name, value in asdict(self).items() if value != _LATER.get(name)}
        return hashlib.sha256(_json(asked).encode()).hexdigest()[:10]

    @property
    def multiplier(self) -> float:
        """Money that a point of a contract is worth: of futures, or as a commission says; 1 for all else."""
        start, end = self.costs.find("{"), self.costs.rfind("}") + 1  # a commission's parameters: see `costs.costs_of`
        try:
            if self.costs.startswith("futures:"):
                return float(self.costs.split(":")[2])
            return float(json.loads(self.costs[start:end]).get("mult", 1.0)) if end else 1.0
        except (ValueError, IndexError, TypeError, AttributeError) as error:
            raise UsageError(f"the costs {self.costs!r} of the run cannot be read ({error}); run it again") from error

    @property
    def conditions(self) -> str:
        """The costs, and whatever of the market is not as it is by default, in words."""
        said = [
            f"costs {self.costs}",
            self.slippage and f"slippage {self.slippage}",
            self.volume_cap and f"at most {self.volume_cap * 100:g} % of a bar's volume",
            self.fills != "next-bar" and "orders at the market filled at the close that they were decided by",
            self.borrow and f"borrow fee {self.borrow}",
            self.cash_rate and f"interest on cash {self.cash_rate * 100:g} % a year",
            self.align != "as-is" and f"series aligned by {self.align}",
            self.size and f"size {self.size}",
        ]
        return ", ".join(words for words in said if words)

    @property
    def name(self) -> str:
        """The strategy's own name."""
        return self.strategy.rpartition(":")[2]


# Fields that came later do not count while they are as they were before: the names of older runs stay.
_LATER = {
    name: RunSpec.__dataclass_fields__[name].default
    for name in ("align", "size", "slippage", "volume_cap", "fills", "borrow", "cash_rate")
}


@dataclass(frozen=True)
class RunResult:
    """
    What a run leaves. Tables are Arrow's; the properties give frames with a UTC index.

    Attributes:
        record: a row a bar: time (of the bar's close, UTC), session (date), equity, cash, and for the n-th series
            position.n (shares or contracts) and close.n; benchmark, where the spec names one. Equity is money after
            the bar, all costs paid; before the first bar it is `spec.cash`.
        order_rows: a row an order: ref, series, side, kind, size, created, status, filled, price, costs, closed.
        fill_rows: a row a fill: ref, time, series, size (signed), price, costs.
        trade_rows: a row a round trip, first in first out: see `round_trips`.
        manifest: what the run saw and what it ran on: hashes of bars and strategy, versions, parameters.
    """

    spec: RunSpec
    record: pa.Table
    order_rows: pa.Table
    fill_rows: pa.Table
    trade_rows: pa.Table
    manifest: dict[str, Any]

    @property
    def run(self) -> str:
        """The run's name: strategy, first series, and a key of spec, bars and code; equal runs have equal names."""
        modules = [self.manifest["modules"]] if "modules" in self.manifest else []
        seen = _json([self.spec.key, self.manifest.get("series"), self.manifest.get("strategy"), *modules])
        label = re.sub(r"[^A-Za-z0-9]+", "-", f"{self.spec.name}-{Series.parse(self.spec.series[0]).short_key}")
        return f"{label}-{hashlib.sha256(seen.encode()).hexdigest()[:10]}"

    @property
    def series(self) -> list[str]:
        """The short spelling of each series, in the order of the columns."""
        return [Series.parse(key).short for key in self.spec.series]

    @property
    def currency(self) -> str:
        """The currency of the account: that of the first series."""
        return Series.parse(self.spec.series[0]).instrument.currency

    @property
    def equity(self) -> pd.Series:
        """Money after each bar, UTC index; the name says of which currency."""
        return _frame(self.record, ["equity"])["equity"].rename(f"equity [{self.currency}]")

    @property
    def returns(self) -> pd.Series:
        """Simple return of each session, 0.01 is +1 %; the first is against the initial cash."""
        import pandas as pd

        from backtest.metrics.account import session_returns

        days, returns = session_returns(self)
        return pd.Series(returns, index=pd.DatetimeIndex(days, name="session").tz_localize("UTC"), name="return")

    @property
    def positions(self) -> pd.DataFrame:
        """Shares or contracts held after each bar, a column a series."""
        return self._by_series("position", "position [shares or contracts]")

    @property
    def closes(self) -> pd.DataFrame:
        """The close of each bar, a column a series, in the series' own currency."""
        return self._by_series("close", "close")

    @property
    def orders(self) -> pd.DataFrame:
        """Every order, in the order of creation; times are UTC, costs money."""
        frame: pd.DataFrame = self.order_rows.to_pandas()
        return frame

    @property
    def fills(self) -> pd.DataFrame:
        """Every fill, in order of time (UTC); size in shares or contracts, costs in money."""
        frame: pd.DataFrame = self.fill_rows.to_pandas()
        return frame

    @property
    def trades(self) -> pd.DataFrame:
        """Every closed round trip, in order of its exit (UTC); gross, costs and net in money, return a fraction."""
        frame: pd.DataFrame = self.trade_rows.to_pandas()
        return frame

    @cached_property
    def account(self) -> Account:
        """This run session by session, beside buy and hold: see `account.sample`."""
        from backtest.metrics.account import sample

        return sample(self)

    @cached_property
    def stats(self) -> Stats:
        """The numbers about this run: see `metrics.measure`."""
        from backtest.metrics.measurement import measure

        return measure(self)

    @cached_property
    def validity(self) -> Validity:
        """Whether this run is skill or luck: see `validity.validate`."""
        from backtest.validity.validation import validate

        return validate(self)

    def plot(self) -> matplotlib.figure.Figure:
        """Return the figure of equity against buy and hold with the drawdown below it."""
        from backtest.report.figures import FIGURES

        return FIGURES["equity"].draw(self)

    def report(self, folder: str | Path = "") -> Path:
        """
        Write the page of this run into a folder (default: runs/NAME) and return its path.

        Raises:
            UsageError: the folder cannot be written.
        """
        from backtest.report.run_page import write_report

        return write_report(self, Path("runs") / self.run if folder == "" else folder)

    def __repr__(self) -> str:
        return f"{self.spec.name} on {', '.join(self.series)}\n{self.stats}"

    def _repr_html_(self) -> str:
        from backtest.validity.validation import verdict

        head = f"<h4>{_escaped(self.spec.name)} on {_escaped(', '.join(self.series))}</h4>"
        return f"{head}{verdict(self)._repr_html_()}{self.stats._repr_html_()}"

    def _by_series(self, what: str, label: str) -> pd.DataFrame:
        import pandas as pd

        frame = _frame(self.record, [f"{what}.{n}" for n in range(len(self.series))])
        return frame.set_axis(pd.Index(self.series, name=label), axis="columns")

    def save(self, folder: str | Path) -> Path:
        """
        Write the run into a folder, which is made if need be, and return the folder.

        Raises:
            UsageError: the folder cannot be written, or the run holds what JSON cannot.
        """
        folder = _arguments.path(folder, "folder")
        spec = _json({"format": FORMAT, **asdict(self.spec)})
        manifest = _json(self.manifest)
        try:
            self._write(folder, spec, manifest)
        except OSError as error:
            raise UsageError(f"no run can be saved in {folder} ({error}); name another folder") from error
        return folder

    def _write(self, folder: Path, spec: str, manifest: str) -> None:
        import pyarrow.parquet as pq

        folder.mkdir(parents=True, exist_ok=True)
        # Gone first and written last: a folder that was left midway holds no run, rather than parts of two.
        (folder / "spec.json").unlink(missing_ok=True)
        (folder / "manifest.json").write_text(manifest + "\n")
        for name, table in zip(_TABLES, self._tables(), strict=True):
            pq.write_table(table, folder / f"{name}.parquet", compression="zstd", write_page_checksum=True)
        (folder / "spec.json").write_text(spec + "\n")

    def _tables(self) -> tuple[pa.Table, ...]:
        return self.record, self.order_rows, self.fill_rows, self.trade_rows

    @classmethod
    def load(cls, folder: str | Path) -> RunResult:
        """
        Return the run that was saved in a folder.

        Raises:
            BadStore: the folder holds no run, or a damaged one.
        """
        folder = _arguments.path(folder, "folder")
        try:
            record = json.loads((folder / "spec.json").read_text())
            manifest = json.loads((folder / "manifest.json").read_text())
            if (number := record.pop("format")) != FORMAT:
                raise BadStore(f"the run in {folder} has format {number}, not {FORMAT}; run it again")
            tables = [_read_table(folder / f"{name}.parquet") for name in _TABLES]
            spec = RunSpec(series=tuple(record.pop("series")), **record)
        except FileNotFoundError as error:
            raise BadStore(f"{folder} holds no run ({error.filename} is not there); see: backtest runs ls") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # Arrow's are among them
            raise BadStore(f"the run in {folder} cannot be read ({error}); run it again") from error
        return cls(spec, tables[0], tables[1], tables[2], tables[3], manifest)


def round_trips(fills: pa.Table, record: pa.Table, multiplier: float = 1.0) -> pa.Table:
    """
    Return the closed round trips of the fills, matched first in, first out.

    Columns: series, entry and exit (times), size (signed: negative is short), entry_price, exit_price, gross and
    net (money), costs (the share of both fills' costs), return (net over the entry's value), bars (held, counted on
    the run's clock). What is still open at the end is no round trip. `multiplier` is what a point is worth.
    """
    import pyarrow as pa

    times = arrays.numbers(record["time"])
    lots: dict[str, deque[_Lot]] = {}
    closed: list[_RoundTrip] = []
    for fill in _fills(fills):
        left, queue = fill.size, lots.setdefault(fill.series, deque())
        while left and queue and queue[0].size * left < 0:
            lot = queue[0]
            matched = min(abs(lot.size), abs(left)) * (1 if lot.size > 0 else -1)
            closed.append(_round_trip(lot, matched, fill, multiplier))
            lot.size, left = _less(lot.size, matched), _less(left, -matched)
            if not lot.size:
                queue.popleft()
        if left:
            queue.append(_Lot(fill.time, left, fill.price, fill.costs / abs(fill.size)))
    return pa.table(_trade_columns(closed, times), _trade_schema())


@dataclass(slots=True)
class _Fill:
    time: int  # microseconds
    series: str
    size: float
    price: float
    costs: float


@dataclass(slots=True)
class _Lot:
    time: int
    size: float
    price: float
    cost_a_share: float


def _less(size: float, matched: float) -> float:
    left = size - matched
    return left if abs(left) > 1e-9 * abs(matched) else 0.0  # 0.3 - 0.1 - 0.2 shares are none


@dataclass(slots=True)
class _RoundTrip:
    lot: _Lot
    fill: _Fill
    size: float
    paid: float
    gross: float
    costs: float


def _fills(table: pa.Table) -> list[_Fill]:
    names = ("time", "size", "price", "costs")
    time, size, price, costs = (arrays.numbers(table[name]).tolist() for name in names)
    rows = zip(time, table["series"].to_pylist(), size, price, costs, strict=True)
    return [_Fill(*row) for row in rows]


def _round_trip(lot: _Lot, size: float, fill: _Fill, multiplier: float) -> _RoundTrip:
    gross = (fill.price - lot.price) * size * multiplier
    costs = abs(size) * (lot.cost_a_share + fill.costs / abs(fill.size))
    return _RoundTrip(replace(lot), fill, size, abs(lot.price * size * multiplier), gross, costs)


def _trade_columns(closed: list[_RoundTrip], times: np.ndarray) -> dict[str, pa.Array]:
    entry = np.array([trip.lot.time for trip in closed], np.int64)
    leave = np.array([trip.fill.time for trip in closed], np.int64)
    first, last = (np.searchsorted(times, when, side="right") for when in (entry, leave))
    return {
        "series": arrays.texts([trip.fill.series for trip in closed]),
        "entry": arrays.stamps(entry.astype("datetime64[us]")),
        "exit": arrays.stamps(leave.astype("datetime64[us]")),
        "size": arrays.floats([trip.size for trip in closed]),
        "entry_price": arrays.floats([trip.lot.price for trip in closed]),
        "exit_price": arrays.floats([trip.fill.price for trip in closed]),
        "gross": arrays.floats([trip.gross for trip in closed]),
        "costs": arrays.floats([trip.costs for trip in closed]),
        "net": arrays.floats([trip.gross - trip.costs for trip in closed]),
        "return": arrays.floats([(trip.gross - trip.costs) / trip.paid for trip in closed]),
        "bars": arrays.whole(last - first),
    }


def _trade_schema() -> pa.Schema:
    import pyarrow as pa

    stamp, number = pa.timestamp("us", tz="UTC"), pa.float64()
    columns = {"series": pa.string(), "entry": stamp, "exit": stamp, "size": number, "entry_price": number,
               "exit_price": number, "gross": number, "costs": number, "net": number, "return": number,
               "bars": pa.int64()}  # fmt: skip
    return pa.schema(columns)


def _read_table(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    with path.open("rb") as file:
        return pq.ParquetFile(file, page_checksum_verification=True).read(use_threads=False)


def _frame(record: pa.Table, columns: list[str]) -> pd.DataFrame:
    frame: pd.DataFrame = record.select(["time", *columns]).to_pandas().set_index("time")
    return frame


def _json(value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"a parameter cannot be kept with the run ({error}); use numbers, texts or truths") from error


def _escaped(text: str) -> str:
    import html

    return html.escape(text)
