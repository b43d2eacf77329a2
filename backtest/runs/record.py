"""
`RunRecord`: the outcome of a run, in memory and on disk.

A saved run is a folder: spec.json, manifest.json, and record, orders, fills, trades and, if saved, lines as Parquet. It
can be measured and reported again without its bars. Values that can be computed from a record are not stored here, but
belong to the rooms that compute them.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self, TypeVar

from backtest import _arguments
from backtest._system import is_there
from backtest.errors import BacktestError, BadStore, DamagedStore, UsageError, reason, unsaved
from backtest.market.series import NO_CURRENCY, Series, few
from backtest.runs.lines import Lines, read_lines, with_times_of, write_lines
from backtest.runs.spec import RunSpec, json_text, kept_spec
from backtest.store.documents import (
    ANYTHING,
    DAY,
    MOMENT,
    NUMBER,
    TEXT,
    WHOLE,
    Misfit,
    Shape,
    either,
    keyed,
    list_of,
    mapped,
    one_of,
    read_document,
)
from backtest.store.replacement import Content, current, replace_files, version

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from backtest.runs.cost_table import CostTable
    from backtest.store.reader import Reader

_T = TypeVar("_T")

FORMAT = 1
_TABLES = ("record", "orders", "fills", "trades")
_LINES = "lines.parquet"  # not there if no lines were kept
_EXTREMES = "extremes.parquet"  # not there of a run that version 0.1.0 saved
_COSTS = "cost_cases.json"  # not there if the run was not made again at other costs
_FURTHER = (_LINES, _EXTREMES, _COSTS)
# What a market and a strategy's sizes came to; see `engine/simulation.py`.
_COUNTED = ("waited", "filled_in_their_own_bar", "sized_to_nothing", "capped_to_nothing")
FILES = ("spec.json", "manifest.json", *(f"{name}.parquet" for name in _TABLES), *_FURTHER)  # of a saved run
PAGE = ("index.html", "metrics.json")
LABELS = "labels.json"
SUMMARY = "summary.json"  # see `runs.kept.RunSummary`
BESIDE = (*PAGE, LABELS, SUMMARY)  # files beside those of a saved run that also belong to it


@dataclass(frozen=True)
class RunRecord:
    """
    The record of a run. Tables are Arrow tables; the properties give frames with a UTC index.

    Attributes:
        record: a row per bar: time (of the bar's close, UTC), session (date), equity, cash, and for the n-th series
            position.n (shares or contracts) and close.n; benchmark, where the spec names one, NaN at bars at which it
            has no new price; flow, if the strategy added or withdrew cash: the amount with that bar, which counts from
            its end on; dividend.n and dividend.benchmark, if dividends are paid: the amount per share held after the
            previous bar; interest: the amount booked with that bar; margin, in a margin account: the maintenance margin
            of the positions. Equity is measured after the bar, net of all costs; before the first bar it is
            `spec.cash`. Prices are as quoted, and money is in the currency of the account; if these differ, rate.n is
            money per unit of price. If cash is held by currency, cash.n is the balance in the currency of the n-th
            series.
        orders_table: a row per order: ref, series, side, kind, size, created, status, filled, price, costs, closed;
            with `account` also reason: why it was rejected, or why the account itself submitted it.
        fills_table: a row per fill: ref, time, series, size (signed), price, costs; rate, if money is converted;
            unslipped, the price without slippage, if the run has slippage; borrow, the part of the costs that is a
            borrow fee, if the run has one; small_bar, with `fill_bars`: the opening time of the smaller bar in which
            the order filled, null for a fill in the run's own bar.
        trades_table: a row per round trip, matched first in, first out: see `round_trips`; currency, that of its
            prices, if money is converted; with `account` also reason: the margin call that closed it, if one did.
        manifest: the inputs of the run: hashes of bars and strategy, versions, parameters.
        lines: what Backtrader would plot of indicators and observers: see `runs.lines`.
        kept_as: the name of the folder that it was loaded from, relative to `runs`; "" for a new run.
        extremes_table: a row per round trip: the lowest and the highest price while it was held, from lows and highs of
            bars; None for a run that version 0.1.0 saved.
        bars_from: where the bars were read, for charts; None for a loaded run. It is not saved.
        cost_table: the results at other costs; None if the strategy was not run again at them.
    """

    spec: RunSpec
    record: pa.Table
    orders_table: pa.Table
    fills_table: pa.Table
    trades_table: pa.Table
    manifest: dict[str, Any]
    lines: Lines = field(default_factory=Lines)
    kept_as: str = field(default="", compare=False)
    extremes_table: pa.Table | None = None
    bars_from: Reader | None = field(default=None, compare=False, repr=False)
    cost_table: CostTable | None = None

    @property
    def label(self) -> str:
        """The run's label: the name of its folder if the user chose that, otherwise the name of the run."""
        return self.kept_as or self.name

    @property
    def name(self) -> str:
        """The run's name: strategy, first series, and a key of spec, bars and code; equal runs have equal names."""
        modules = [self.manifest["modules"]] if "modules" in self.manifest else []
        modules += [
            self.manifest[name]["sha256"] for name in ("dividends", "interest", "account") if name in self.manifest
        ]
        seen = json_text([self.spec.key, self.manifest.get("series"), self.manifest.get("strategy"), *modules])
        label = re.sub(r"[^A-Za-z0-9]+", "-", f"{self.spec.name}-{Series.parse(self.spec.series[0]).short_key}")
        return f"{label}-{hashlib.sha256(seen.encode()).hexdigest()[:10]}"

    @property
    def series(self) -> list[str]:
        """The short spelling of each series, in the order of the columns."""
        return list(computed_once(self, "short_names", lambda: [Series.parse(key).short for key in self.spec.series]))

    @property
    def currency(self) -> str:
        """The currency of the account, or words if there is none: see `currencies.base_currency`."""
        currency = self.spec.base_currency
        if not self.is_converted:
            currency = Series.parse(self.spec.series[0]).instrument.currency
        return "without a currency" if currency == NO_CURRENCY else currency

    @property
    def is_converted(self) -> bool:
        """Whether all money is in the account's currency: version 0.1.0 added others without conversion."""
        return "currencies" in self.manifest or not self.spec.has_several_currencies

    @property
    def equity(self) -> pd.Series:
        """Money after each bar, UTC index; the name of the Series gives the currency."""
        return _frame(self.record, ["equity"])["equity"].rename(f"equity [{self.currency}]")

    @property
    def positions(self) -> pd.DataFrame:
        """Shares or contracts held after each bar, a column per series."""
        return self._by_series("position", "position [shares or contracts]")

    @property
    def closes(self) -> pd.DataFrame:
        """The close of each bar, a column per series, in the series' own currency."""
        return self._by_series("close", "close")

    @property
    def orders(self) -> pd.DataFrame:
        """Every order, in the order of creation; times are UTC, costs money."""
        frame: pd.DataFrame = self.orders_table.to_pandas()
        return frame

    @property
    def fills(self) -> pd.DataFrame:
        """Every fill, in order of time (UTC); size in shares or contracts, costs in money."""
        frame: pd.DataFrame = self.fills_table.to_pandas()
        return frame

    @property
    def trades(self) -> pd.DataFrame:
        """Every closed round trip, in order of its exit (UTC); gross, costs and net in money, return a fraction."""
        frame: pd.DataFrame = self.trades_table.to_pandas()
        return frame

    @classmethod
    def of(cls, record: RunRecord) -> Self:
        """
        Return a record as one of this class, or the record itself if it is one, so that nothing is computed twice.

        Raises:
            UsageError: the argument is not a record.
        """
        if isinstance(record, cls):
            return record
        _arguments.instance(record, "record", RunRecord, "write what run() returns, or RunRecord.load(FOLDER)")
        return cls(*(getattr(record, field.name) for field in fields(RunRecord)))

    def __repr__(self) -> str:
        return f"{self.spec.name} on {few(self.series)}"

    def _by_series(self, what: str, label: str) -> pd.DataFrame:
        import pandas as pd

        frame = _frame(self.record, [f"{what}.{n}" for n in range(len(self.series))])
        return frame.set_axis(pd.Index(self.series, name=label), axis="columns")

    def save(self, folder: str | Path, *, force: bool = False) -> Path:
        """
        Write the run into a folder, which is created if necessary, and return the folder.

        Args:
            force: whether another run that the folder holds is replaced; its page and its labels are deleted too.

        Raises:
            UsageError: the folder holds another run, or cannot be written, or the run has a value that JSON cannot
            hold.
        """
        folder = _arguments.path(folder, "folder")
        gone = refuse_another(folder, self, _arguments.truth(force, "force"))
        try:
            replace_files(folder, files_of(self) | gone)
        except OSError as error:
            raise unsaved("run", folder, error) from error
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """
        Return the run saved in a folder.

        Raises:
            BadStore: the folder holds no run, or a damaged one.
        """
        folder = _arguments.path(folder, "folder")
        while True:
            before = version(folder, FILES)
            try:
                loaded = cls._read(folder)
            except BadStore:
                if version(folder, FILES) == before:
                    raise
            else:
                if version(folder, FILES) == before:  # else it was replaced while it was read: parts of two
                    return loaded

    @classmethod
    def _read(cls, folder: Path) -> Self:
        try:
            files = {name: current(folder, name) for name in FILES}
            asked = read_document(files["spec.json"], _FORMATTED)
            if (number := asked.pop("format")) != FORMAT:
                raise BadStore(f"the run in {folder} has format {number}, not {FORMAT}; run it again")
            spec = _spec_in(asked, files["spec.json"])
            manifest = read_document(files["manifest.json"], MANIFEST)
            if spec.warm_up and "warm_up" not in manifest:
                raise DamagedStore(f"{files['manifest.json']}: warm_up is not there")
            tables = [_table_in(files, name, spec) for name in _TABLES]
            if not len(tables[0]):
                raise DamagedStore(f"{files['record.parquet']} has no row")
            if spec.rates and "risk_free" not in tables[0].column_names:
                raise DamagedStore(f"{files['record.parquet']} lacks the risk-free returns that it was run with")
            has_lines = is_there(files[_LINES])
            lines = Lines(with_times_of(tables[0], read_lines(files[_LINES])) if has_lines else None)
            extremes = _table_in(files, "extremes", spec) if is_there(files[_EXTREMES]) else None
            if extremes is not None and len(extremes) != len(tables[3]):
                raise DamagedStore(f"{files[_EXTREMES]} has {len(extremes):,} rows for {len(tables[3]):,} trades")
            costs = _cost_table_in(files[_COSTS]) if is_there(files[_COSTS]) else None
        except FileNotFoundError as error:
            raise BadStore(f"{folder} holds no run ({error.filename} is not there); see: backtest runs ls") from error
        except NotADirectoryError as error:
            raise BadStore(f"{folder} holds no run (it is not a folder); see: backtest runs ls") from error
        except (OSError, DamagedStore) as error:
            raise BadStore(f"the run in {folder} cannot be read ({reason(error)}); run it again") from error
        return cls(
            spec, tables[0], tables[1], tables[2], tables[3], manifest, lines, called(folder), extremes, None, costs
        )


def computed_once(run: RunRecord, name: str, make: Callable[[], _T]) -> _T:
    """Return something that depends on a run alone: computed on first use, and cached with the run."""
    kept = vars(run).setdefault("_computed", {})
    if name not in kept:
        kept[name] = make()
    found: _T = kept[name]
    return found


def called(folder: Path) -> str:
    """Return a folder's display name: its path below the nearest `runs` above, or its own name."""
    *above, name = Path(os.path.abspath(folder)).parts  # noqa: PTH100 - a link keeps its own name
    place = next((n for n in range(len(above) - 1, -1, -1) if above[n] == "runs"), len(above) - 1)
    return "/".join([*above[place + 1 :], name])


_PAID = keyed({"currency": TEXT, "amounts": mapped(NUMBER), "how": TEXT}, {"doubts": list_of(TEXT)}, ANYTHING)
_OF_SPLITS = either(
    "ratios with their source, or the limits of the fee",
    keyed({"ratios": mapped(NUMBER), "from": TEXT}, more=ANYTHING),
    keyed({"minimum": NUMBER, "cap": NUMBER}, more=ANYTHING),
)
_PRODUCT = either(
    "a definition with its standing, or neither",
    keyed({"definition": TEXT, "standing": TEXT}, more=ANYTHING),
    keyed({}, {"standing": one_of("published")}, ANYTHING),
)


def _series_key(value: Any, key: str) -> None:
    TEXT(value, key)
    try:
        Series.parse(value)
    except UsageError as error:
        raise Misfit(f"{key} is no series ({error})") from error


def _member(value: Any, key: str) -> None:
    list_of(ANYTHING)(value, key)
    if len(value) != 4:
        raise Misfit(f"{key} has {len(value)} values, not a series, two dates and a return")
    _series_key(value[0], f"{key}[0]")
    for place in (1, 2):
        if value[place] != "":
            DAY(value[place], f"{key}[{place}]")


def _by_series(inner: Shape) -> Shape:
    """Return the shape of an object whose keys are series and whose values fit a shape."""
    values = mapped(inner)

    def shape(value: Any, key: str) -> None:
        values(value, key)
        for name in value:
            _series_key(name, f"a key of {key}")

    return shape


MANIFEST = keyed(
    {},
    {
        "series": mapped(keyed({}, {"rows_sha256": TEXT, "bars": WHOLE, "from": MOMENT, "to": MOMENT}, ANYTHING)),
        "splits": _by_series(_OF_SPLITS),
        "strategy": mapped(TEXT),
        "modules": mapped(TEXT),
        "market": keyed({}, dict.fromkeys(_COUNTED, WHOLE), ANYTHING),
        "warm_up": keyed({"bars": WHOLE}, more=ANYTHING),
        "packages": mapped(TEXT),
        "costs": keyed({}, {"rates": mapped(ANYTHING), "products": _by_series(_PRODUCT)}, ANYTHING),
        "interest": keyed(
            {"rates": TEXT, "sha256": TEXT, "booked": NUMBER, "accrued": NUMBER}, {"outside": mapped(TEXT)}, ANYTHING
        ),
        "account": keyed(
            {"name": TEXT, "sha256": TEXT, "rates": mapped(mapped(ANYTHING)), "least_equity": NUMBER}, more=ANYTHING
        ),
        "borrow": _by_series(keyed({"days": WHOLE, "taken_from_before": WHOLE, "first": list_of(TEXT)}, more=ANYTHING)),
        "dividends": keyed({"name": TEXT, "sha256": TEXT, "series": mapped(_PAID)}, more=ANYTHING),
        "universe": keyed(
            {
                "name": TEXT,
                "sha256": TEXT,
                "rows": list_of(_member),
                "without_bars": mapped(WHOLE),
                "absent": list_of(TEXT),
                "sold": mapped(TEXT),
            },
            dict.fromkeys(("members", "member_days"), WHOLE),
            ANYTHING,
        ),
        "fill_bars": mapped(keyed(dict.fromkeys(("days", "without"), WHOLE), more=ANYTHING)),
        "currencies": keyed(
            {"base": TEXT, "prices": mapped(TEXT)},
            {"rates": mapped(list_of(keyed({"series": _series_key}, more=ANYTHING)))},
            ANYTHING,
        ),
        **dict.fromkeys(("python", "platform", "backtest_sha256"), TEXT),
    },
    ANYTHING,
)
"""What is read of a manifest, here, where runs are measured, and where baselines are compared."""


_FORMATTED = keyed({"format": WHOLE}, more=ANYTHING)


def _table_in(files: Mapping[str, Path], name: str, spec: RunSpec) -> pa.Table:
    from backtest.runs.kept_tables import columns_of_runs, read_run_table

    return read_run_table(files[f"{name}.parquet"], columns_of_runs(len(spec.series))[name], spec.series)


def _spec_in(asked: Any, path: Path) -> RunSpec:
    try:
        return kept_spec(asked)
    except Misfit as error:
        raise DamagedStore(f"{path}: {error}") from error


def _cost_table_in(path: Path) -> CostTable:
    from backtest.runs.cost_table import cost_table_of

    try:
        return cost_table_of(read_document(path, mapped(ANYTHING)))
    except Misfit as error:
        raise DamagedStore(f"{path}: {error}") from error


def keep_cost_table(run: RunRecord, folder: Path) -> None:
    """
    Write the table of a run at other costs into the folder of the saved run.

    Raises:
        UsageError: the folder cannot be written.
    """
    try:
        replace_files(folder, {_COSTS: files_of(run)[_COSTS]})
    except OSError as error:
        raise unsaved("costs", folder, error, "check who owns the folder") from error


def files_of(run: RunRecord) -> dict[str, Content | None]:
    """
    Return the files of a saved run for `replace_files`; None for one that the folder should not have.

    Raises:
        UsageError: the run has a value that JSON cannot hold.
    """
    texts = {"spec.json": {"format": FORMAT, **run.spec.flat}, "manifest.json": run.manifest}
    tables = {f"{name}.parquet": table for name, table in zip(_TABLES, _tables_of(run), strict=True)}
    lines, extremes = run.lines.table, run.extremes_table
    return {
        **{name: f"{json_text(content)}\n".encode() for name, content in texts.items()},
        **{name: partial(_write_table, table) for name, table in tables.items()},
        _LINES: None if lines is None else partial(write_lines, lines),
        _EXTREMES: None if extremes is None else partial(_write_table, extremes),
        _COSTS: None if run.cost_table is None else f"{json_text(run.cost_table.to_dict())}\n".encode(),
    }


def refuse_another(folder: Path, run: RunRecord | None, force: bool) -> dict[str, Content | None]:
    """
    Refuse a folder that holds another run, which a write would replace.

    Args:
        run: the run to write; None for another page, which replaces only the page.
        force: whether to replace another run in the folder.

    Returns:
        The files to delete with the replaced run, its page and its labels, for `replace_files`.

    Raises:
        UsageError: it holds another run, and `force` is not set; or it cannot be read.
    """
    try:
        return _displaced(folder, run, force)
    except OSError as error:
        raise unsaved("page" if run is None else "run", folder, error) from error


def _displaced(folder: Path, run: RunRecord | None, force: bool) -> dict[str, Content | None]:
    if not current(folder, "spec.json").exists():
        return {}
    try:
        other = RunRecord.load(folder)
        words = RunRecord.__repr__(other)
    except BacktestError:
        other, words = None, "which cannot be read"
    if run is not None and other is not None and other.name == run.name:
        return {}
    if not force:
        replaced = "its page" if run is None else "that run"
        raise UsageError(
            f"{folder} holds another run, {words}; name another folder, or replace {replaced} with --force, in Python "
            "force=True"
        )
    return {} if run is None else dict.fromkeys(beside_in(folder))


def beside_in(folder: Path) -> list[str]:
    """Return the names of a run's further files; a folder with such a name is not ours."""
    found = {name: current(folder, name) for name in BESIDE}
    return [name for name, path in found.items() if is_there(path) and (path.is_symlink() or not path.is_dir())]


def is_kept_in(run: RunRecord, folder: Path) -> bool:
    """Return whether a folder already holds this run."""
    try:
        kept = RunRecord.load(folder)
    except BadStore:
        return False
    own, other = ([*_tables_of(one), one.lines.table, one.extremes_table] for one in (run, kept))
    pairs = zip(own, other, strict=True)
    texts = [json_text([one.spec.flat, one.manifest]) for one in (run, kept)]
    costs = [one.cost_table and one.cost_table.to_dict() for one in (run, kept)]  # NaN equals no other
    return texts[0] == texts[1] and costs[0] == costs[1] and all(_same_table(*pair) for pair in pairs)


def _tables_of(run: RunRecord) -> tuple[pa.Table, ...]:
    return run.record, run.orders_table, run.fills_table, run.trades_table


def _write_table(table: pa.Table, handle: IO[bytes]) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, handle, compression="zstd", write_page_checksum=True)


def _same_table(one: pa.Table | None, other: pa.Table | None) -> bool:
    if one is None or other is None:
        return one is other
    if one.equals(other, check_metadata=True):
        return True
    # What is not defined is NaN, which equals no other.
    return bool(one.schema.equals(other.schema, check_metadata=True) and one.to_pandas().equals(other.to_pandas()))


def _frame(record: pa.Table, columns: list[str]) -> pd.DataFrame:
    frame: pd.DataFrame = record.select(["time", *columns]).to_pandas().set_index("time")
    return frame
