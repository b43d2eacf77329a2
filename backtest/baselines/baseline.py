"""
`Baseline`: the saved results of a run, as a text file to commit, and how another run differs from them.

    strategies/baselines/sma_cross.json
        spec, inputs      the settings of the run, and its manifest
        months            eight digits of the hash of each series' bars per month, twelve per year
        tolerances        relative, by the name of a metric, "equity" or "orders"; 1e-9 for everything else
        metrics           every number of `measure`
        orders            every order, one per line, up to 1,000; the hash of all of them
        equity            hash of every bar's equity, chained from year to year; equity at the end of each session

Numbers are kept to nine significant digits, metrics to twelve: the last bits differ between machines. A session
without a number has the equity of the one before.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backtest.api import RunResult
from backtest.engine.account.borrowing import fee_series
from backtest.errors import BadStore, DamagedStore, UsageError, quoted
from backtest.market import arrays
from backtest.market.calendars import span_asked
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.runs.record import MANIFEST
from backtest.runs.spec import RunSpec, kept_spec
from backtest.store import documents
from backtest.store.documents import Misfit, read_document
from backtest.store.pins import take
from backtest.store.reader import Reader, hours_in
from backtest.store.replacement import replace_file

if TYPE_CHECKING:
    import pyarrow as pa


FOLDER = "strategies/baselines"
TOLERANCE = 1e-9  # relative: rounding errors are smaller, a cent in a million is larger

_FORMAT = 1
_LISTED = 1000  # orders; for a strategy that submits more, a hash shows whether the rest is the same
_FILLED = ("filled", "price", "costs")
_ZERO = 1e-12  # metrics below this are rounding errors: alphas of 1e-17 and -3e-18 both count as 0


@dataclass(frozen=True, slots=True)
class Baseline:
    """The results of a run that another one is compared with; see the head of this file."""

    spec: RunSpec
    inputs: dict[str, Any]
    metrics: dict[str, float | None]
    orders: tuple[str, ...]  # the first thousand
    order_count: int
    order_chain: str
    years: dict[str, str]  # number of bars and chained hash
    sessions: dict[str, str]  # equity by date
    months: dict[str, dict[str, str]] = field(default_factory=dict)
    tolerances: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        result: RunResult,
        months: Mapping[str, dict[str, str]] | None = None,
        tolerances: Mapping[str, float] | None = None,
    ) -> Baseline:
        """Return the baseline of a run."""
        lines = _order_lines(result.orders_table)
        rounded = {name: None if value is None else float(f"{value:.12g}") for name, value in _metrics(result)}
        return cls(
            result.spec, _inputs(result.manifest), rounded, lines[:_LISTED], len(lines), _hash("\n".join(lines)),
            _years(result.record), _sessions(result.record), dict(months or {}), dict(tolerances or {}),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where two runs first differ: the date (or year), and the values then and now; "" for none."""

    date: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Moved:
    """A metric beyond its tolerance; None if it is undefined."""

    name: str
    old: float | None
    new: float | None

    @property
    def by(self) -> str:
        """How far it moved, in percent of the old value."""
        if not self.old or self.new is None:
            return ""
        return f"{(self.new - self.old) / abs(self.old) * 100:+.3g} %"


@dataclass(frozen=True, slots=True)
class Drift:
    """How a run differs from a baseline: the metrics that moved, the first order and the first equity that differ."""

    metrics: tuple[Moved, ...] = ()
    order: Divergence | None = None
    order_number: int = 0
    equity: Divergence | None = None

    @property
    def any(self) -> bool:
        """Whether anything differs."""
        return bool(self.metrics or self.order or self.equity)

    @property
    def first(self) -> str:
        """The date from which the runs differ, "" if only metrics do."""
        return min((point.date for point in (self.order, self.equity) if point and point.date), default="")


def drift_between(old: Baseline, new: Baseline) -> Drift:
    """Return how a new run differs from a baseline, within its tolerances."""
    number, order = _first_order(old, new)
    return Drift(tuple(_moved(old, new)), order, number, _first_equity(old, new))


def month_digests(spec: RunSpec, store: Reader) -> dict[str, dict[str, str]]:
    """Return the first digits of each month's hash of every series that a run reads, twelve a year; "-" for no bar."""
    every = series_of_run(spec)
    spans = ((series, span_asked(series, hours_in(store, series), spec.span_read)) for series in every)
    return {series.key: _digests(store, series, span) for series, span in spans}


def series_of_run(spec: RunSpec) -> list[Series]:
    """Return all series that a run reads, including those of borrow fees; dividends are stored separately."""
    own = [Series.parse(key) for key in spec.series]
    beside = [Series.parse(spec.benchmark)] if spec.benchmark else []
    return [*own, *beside, *fee_series(spec.brokerage.borrow, own).values()]


def load_baseline(path: str | Path) -> Baseline:
    """
    Return the baseline in a file.

    Raises:
        UsageError: there is no such file.
        BadStore: a later version wrote it.
        DamagedStore: it was not written by `save_baseline`; the text names the key.
    """
    try:
        asked = read_document(Path(path), _FORMATTED, links=True)
        if asked["format"] != _FORMAT:
            raise BadStore(
                f"{path} has format {asked['format']}, but this version reads format {_FORMAT}; upgrade ib-backtest"
            )
        _SHAPE(asked, "")
        return _of_record(asked)
    except FileNotFoundError:
        raise UsageError(f"no baseline {quoted(path)}; make one from a saved run: backtest baseline save RUN") from None
    except (Misfit, DamagedStore) as error:
        raise DamagedStore(
            f"{path} is not a baseline ({error}); restore it, or save it again: backtest baseline save RUN"
        ) from error


def save_baseline(baseline: Baseline, path: str | Path) -> None:
    """Write a baseline into a file, one line per number, so that equal ones have equal bytes."""
    text = json.dumps(_record(baseline), indent=1, allow_nan=False)
    replace_file(path, f"{text}\n".encode(), folders=True)


# --- what a baseline keeps of a run


def _inputs(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest without the commit, as old code is found by its hash, and with notes of any length hashed."""
    kept = {key: value for key, value in manifest.items() if key not in ("git", "notes")}
    if "notes" in manifest:
        kept["notes"] = _hash(json.dumps(manifest["notes"], sort_keys=True, default=str))
    return kept


def _metrics(result: RunResult) -> Iterator[tuple[str, float | None]]:
    for name, value in result.stats.to_dict().items():
        yield name, value if value is not None and math.isfinite(value) else None


def _order_lines(orders: pa.Table) -> tuple[str, ...]:
    columns = {name: orders[name].to_pylist() for name in ("series", "side", "kind", "size", "status", *_FILLED)}
    short = {key: Series.parse(key).short_key for key in {*columns["series"]}}
    columns["series"] = [short[key] for key in columns["series"]]
    for name in ("created", "closed"):  # Arrow imports pandas to make datetimes of them
        columns[name] = [_stamp(time) for time in arrays.numbers(orders[name], missing=-1).tolist()]
    return tuple(_order_line(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True))


def _order_line(row: Mapping[str, Any]) -> str:
    asked = f"{row['created']} {row['side']} {_digits(row['size'])} {row['series']} {row['kind']} {row['status']}"
    if not row["closed"]:
        return asked
    filled, price, costs = (_digits(row[name]) for name in _FILLED)
    return f"{asked} {row['closed']} {filled} at {price} costs {costs}"


def _years(record: pa.Table) -> dict[str, str]:
    """Return for each year of sessions the number of bars, and a hash of time and equity of all bars up to its end."""
    lines: dict[str, list[str]] = {}
    times = arrays.numbers(record["time"]).tolist()
    equity = arrays.numbers(record["equity"]).tolist()
    for day, time, value in zip(record["session"].to_pylist(), times, equity, strict=True):
        lines.setdefault(f"{day.year:04}", []).append(f"{time} {_digits(value)}\n")
    chain, years = "", {}
    for year, told in lines.items():
        chain = _hash(chain + "".join(told))
        years[year] = f"{len(told)} {chain}"
    return years


def _sessions(record: pa.Table) -> dict[str, str]:
    days, equity = record["session"].to_pylist(), arrays.numbers(record["equity"]).tolist()
    last = dict(zip(days, equity, strict=True))  # the last bar of each
    return {day.isoformat(): _digits(value) for day, value in last.items()}


def _stamp(microseconds: int) -> str:
    moment = datetime(1970, 1, 1) + timedelta(microseconds=microseconds)  # noqa: DTZ001  all are UTC
    return "" if microseconds < 0 else moment.isoformat().removesuffix("T00:00:00")


def _digits(number: float) -> str:
    # Twelve digits first: 100012.53125 and its neighbour, half-way between two of nine digits, then go the same way.
    return f"{float(f'{number + 0.0:.12g}'):.9g}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _digests(store: Reader, series: Series, span: Span | None) -> dict[str, str]:
    months = take(store, series, span).months
    years = sorted({name[:4] for name in months})
    numbers = [f"{number:02}" for number in range(1, 13)]
    named = {year: [months.get(f"{year}-{number}") for number in numbers] for year in years}
    return {year: " ".join(one.digest[:8] if one else "-" for one in every) for year, every in named.items()}


# --- how two baselines differ


def _moved(old: Baseline, new: Baseline) -> Iterator[Moved]:
    for name, value in old.metrics.items():
        now = new.metrics.get(name)
        if not _near(value, now, old.tolerances.get(name, TOLERANCE)):
            yield Moved(name, value, now)


def _near(old: float | None, new: float | None, tolerance: float) -> bool:
    if old is None or new is None:
        return old is new
    return math.isclose(old, new, rel_tol=tolerance, abs_tol=_ZERO)


def _first_order(old: Baseline, new: Baseline) -> tuple[int, Divergence | None]:
    """Return the number of the first order that differs, and what it was and is; 0 and None for none."""
    tolerance = old.tolerances.get("orders", 0.0)
    for number, (was, now) in enumerate(zip_longest(old.orders, new.orders, fillvalue=""), 1):
        if not _like(was, now, tolerance):
            return number, Divergence(_parting(was, now), was, now)
    same = (old.order_count, old.order_chain) == (new.order_count, new.order_chain)
    if same or (tolerance and old.order_count == new.order_count):
        return 0, None
    counts = (f"{one.order_count:,} orders in all" for one in (old, new))
    return min(old.order_count, new.order_count, _LISTED) + 1, Divergence("", *counts)


def _parting(was: str, now: str) -> str:
    """Return the date from which two orders differ: that of their fills, if they were submitted alike."""
    words = [line.split() for line in (was, now) if line]
    alike = len(words) == 2 and words[0][:5] == words[1][:5]  # date, side, size, series, kind
    fills = [one[6] for one in words if len(one) > 6]
    return min(fills if alike and fills else [one[0] for one in words])[:10]


def _like(was: str, now: str, tolerance: float) -> bool:
    if was == now or not tolerance:
        return was == now
    pairs = zip_longest(was.split(), now.split(), fillvalue="")
    return all(one == other or _near_texts(one, other, tolerance) for one, other in pairs)


def _near_texts(one: str, other: str, tolerance: float) -> bool:
    try:
        return _near(float(one), float(other), tolerance)
    except ValueError:
        return False


def _first_equity(old: Baseline, new: Baseline) -> Divergence | None:
    tolerance = old.tolerances.get("equity", 0.0)
    for day in sorted({*old.sessions, *new.sessions}):
        was, now = old.sessions.get(day, ""), new.sessions.get(day, "")
        if was != now and not _near_texts(was, now, tolerance):
            return Divergence(day, was, now)
    if tolerance:
        return None
    for year in sorted({*old.years, *new.years}):
        was, now = old.years.get(year, ""), new.years.get(year, "")
        if was != now:
            return Divergence(year, f"within sessions, {was}", f"within sessions, {now}")
    return None


# --- the file


def _record(one: Baseline) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "spec": _sorted(one.spec.flat),
        "tolerances": one.tolerances,
        "metrics": _sorted(one.metrics),
        "orders": {"count": one.order_count, "sha256": one.order_chain, "lines": list(one.orders)},
        "equity": {"years": one.years, "sessions": dict(_by_month(one.sessions.items()))},
        "inputs": _sorted(one.inputs),
        "months": one.months,
    }


def _sorted(value: Any) -> Any:
    return json.loads(json.dumps(value, sort_keys=True, allow_nan=False))


_FORMATTED = documents.keyed({"format": documents.WHOLE}, more=documents.ANYTHING)
_NUMBER = documents.either("a NUMBER or null", documents.NUMBER, documents.one_of(None))
_BARS = documents.keyed(
    {"rows_sha256": documents.TEXT, "from": documents.MOMENT, "to": documents.MOMENT}, more=documents.ANYTHING
)
_SHAPE = documents.keyed(
    {
        "format": documents.WHOLE,
        "spec": documents.mapped(documents.ANYTHING),
        "tolerances": documents.mapped(documents.NUMBER),
        "metrics": documents.mapped(_NUMBER),
        "orders": documents.keyed(
            {"count": documents.WHOLE, "sha256": documents.TEXT, "lines": documents.list_of(documents.TEXT)}
        ),
        "equity": documents.keyed(
            {"years": documents.mapped(documents.TEXT), "sessions": documents.mapped(documents.TEXT)}
        ),
        "inputs": documents.every(
            MANIFEST, documents.keyed({}, {"series": documents.mapped(_BARS)}, documents.ANYTHING)
        ),
        "months": documents.mapped(documents.mapped(documents.TEXT)),
    }
)


def _of_record(record: dict[str, Any]) -> Baseline:
    orders, equity = record["orders"], record["equity"]
    for month in equity["sessions"]:
        documents.DAY(f"{month}-01", "equity.sessions")
    return Baseline(
        kept_spec(record["spec"]), record["inputs"], record["metrics"],
        tuple(orders["lines"]), orders["count"], orders["sha256"],
        equity["years"], dict(_by_day(equity["sessions"])), record["months"], record["tolerances"],
    )  # fmt: skip


def _by_month(sessions: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    months: dict[str, list[str]] = {}
    before = ""
    for day, value in sessions:
        months.setdefault(day[:7], []).append(day[8:] if value == before else f"{day[8:]}={value}")
        before = value
    return ((month, " ".join(words)) for month, words in months.items())


def _by_day(months: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    before = ""
    for month in sorted(months):
        for word in months[month].split():
            day, _, value = word.partition("=")
            before = value or before
            yield f"{month}-{day}", before
