"""`run`: the event loop around Backtrader, and the recorder that takes from it all that a result needs."""

from __future__ import annotations

import importlib.metadata
import platform
from array import array
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import backtrader as bt
import numpy as np

from backtest import arrays
from backtest.bars import Series, Span, rows_digest
from backtest.calendars import sessions, sessions_a_year, span_of_sessions
from backtest.cerebro import Cerebro
from backtest.costs import COSTS
from backtest.errors import BacktestError, StrategyError, UsageError
from backtest.feed import ArrowFeed, replay
from backtest.pins import check as check_pins
from backtest.remote import open_store
from backtest.result import RunResult, RunSpec, round_trips
from backtest.store import Store
from backtest.strategy import Strategy, explain, load, parameters

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.cerebro import History

_EPOCH = 719_163  # 1970-01-01 as Backtrader counts days
_PACKAGES = ("ib-backtest", "backtrader", "pyarrow", "numpy", "pandas")


def run(
    strategy: str | Path | type[Any],
    series: Series | str | Iterable[Series | str],
    *,
    store: Store | str | Path,
    span: Span | tuple[date | None, date | None] | None = None,
    params: Mapping[str, Any] | None = None,
    cash: float = 100_000.0,
    costs: str = "ib-fixed",
    benchmark: str = "",
    risk_free: float = 0.0,
    pins: str | Path = "",
) -> RunResult:
    """
    Run a strategy over stored bars and return what it left.

    An order given at the close of a bar fills at the next one. Backtrader refuses an order (status Margin) that the
    cash cannot pay at the close it was given at, or at the price it would fill at.

    Args:
        strategy: a `bt.Strategy` class, or "file.py:Name".
        series: one series or several; the first one is the strategy's `data`.
        span: which bars, by their stamps; a pair of dates means the sessions known by them, both included.
        params: the strategy's own parameters; the rest keep their defaults.
        costs: a name in COSTS.
        benchmark: a series to compare with; buy and hold of the run's own series if not given.
        risk_free: return of cash a year, for the ratios; 0.02 is 2 %.
        pins: a file that `backtest pin` made: no other bars than those are run on; without a span, all of them.

    Raises:
        UsageError: a name or a number is off.
        NoBars: the store lacks the bars.
        StrategyError: the strategy raised; the text says where, the cause is chained.
    """
    found = load(strategy)
    wanted = _all_series(series)
    _check_numbers(cash, costs, risk_free)
    opened = store if isinstance(store, Store) else open_store(store)
    read = [*wanted, *_all_series(benchmark or [])]
    if pins:
        span = check_pins(opened, pins, read, span)
    bars = _read(opened, read, span)
    spec = RunSpec(
        found.name,
        tuple(map(str, wanted)),
        *_dates(span),
        parameters(found, params or {}),
        float(cash),
        costs,
        str(Series.parse(benchmark)) if benchmark else "",
        float(risk_free),
        sessions_a_year(wanted[0].instrument),
    )
    manifest, compared = _manifest(found, bars), bars.get(Series.parse(benchmark)) if benchmark else None
    feeds = [replay(bars.pop(one), one, single=True) for one in wanted]  # which hold the only references
    recorder = _simulate(found, spec, feeds)
    record = _record(recorder, wanted, spec, compared)
    order_rows, fill_rows = _order_tables(recorder.all_orders(), wanted)
    return RunResult(spec, record, order_rows, fill_rows, round_trips(fill_rows, record), manifest)


class Recorder(bt.Analyzer):
    """Takes equity, cash, positions and closes after each bar, and every order."""

    def start(self) -> None:
        """Begin with nothing."""
        self.told: dict[int, Any] = {}
        self.stamps: Any = array("d")
        self.equity: Any = array("d")
        self.cash: Any = array("d")
        self.positions: list[Any] = [array("d") for _ in self.datas]
        self.closes: list[Any] = [array("d") for _ in self.datas]

    def notify_order(self, order: Any) -> None:
        """Keep the newest state of an order."""
        self.told[order.ref] = order

    def all_orders(self) -> list[Any]:
        """Return every order, in the order of creation."""
        # The broker's own list has the final states, but none while a strategy has checksubmit off.
        broker = self.strategy.broker
        kept = {order.ref: order for order in [*broker.pending, *broker.orders]}
        return [order for _, order in sorted({**self.told, **kept}.items())]

    def take(self, history: History) -> None:
        """Take all bars at once, after a run in the lean loop, which does not call `next` then."""
        self.stamps, self.equity, self.cash = history.stamps, history.equity, history.cash
        self.positions, self.closes = history.positions, history.closes

    def next(self) -> None:
        """Take one row; Backtrader calls this for bars of the warm-up too."""
        broker = self.strategy.broker
        self.stamps.append(self.strategy.datetime[0])
        self.equity.append(broker.getvalue())
        self.cash.append(broker.getcash())
        for data, positions, closes in zip(self.datas, self.positions, self.closes, strict=True):
            positions.append(broker.getposition(data).size)
            closes.append(data.close[0] if len(data) else float("nan"))


def _all_series(series: Series | str | Iterable[Series | str]) -> list[Series]:
    given = [series] if isinstance(series, Series | str) else list(series)
    if len(set(map(str, given))) < len(given):
        raise UsageError(f"a series is named twice in {', '.join(map(str, given))}; name each once")
    return [Series.parse(one) if isinstance(one, str) else one for one in given]


def _check_numbers(cash: float, costs: str, risk_free: float) -> None:
    if not (np.isfinite(cash) and cash > 0):
        raise UsageError(f"cash is {cash}; it must be more than 0")
    if not -1 < risk_free < 1:
        raise UsageError(f"the risk-free rate is {risk_free} a year; write 0.02 for 2 %")
    if costs not in COSTS:
        raise UsageError(f"no costs {costs!r}; there are {', '.join(COSTS)}")


def _read(store: Store, series: list[Series], span: Any) -> dict[Series, pa.Table]:
    if not series:
        raise UsageError("no series to run on; name at least one, such as AAPL/1day")
    return {one: store.read(one, _span(one, span)) for one in series}


def _span(series: Series, span: Any) -> Span | None:
    if span is None or isinstance(span, Span):
        return span
    since, until = span
    if since is None and until is None:
        return None
    return span_of_sessions(series, since or date(1900, 1, 1), until or date(2100, 1, 1))


def _dates(span: Any) -> tuple[str, str]:
    if span is None:
        return "", ""
    since, until = (span.start, span.end) if isinstance(span, Span) else span
    return since.isoformat() if since else "", until.isoformat() if until else ""


def _simulate(strategy: Strategy, spec: RunSpec, feeds: list[ArrowFeed]) -> Recorder:
    cerebro, fewest = Cerebro(stdstats=False), min(len(feed.p.dataname) for feed in feeds)
    cerebro.forgets = True
    for feed in feeds:
        cerebro.adddata(feed)
    cerebro.broker.setcash(spec.cash)
    cerebro.broker.addcommissioninfo(COSTS[spec.costs].make())
    cerebro.addanalyzer(Recorder, _name="recorder")
    cerebro.addstrategy(strategy.cls, **spec.params)
    try:
        (ran,) = cerebro.run()
    except BacktestError:
        raise
    except IndexError as error:
        # Backtrader's vectorised indicators run off the end of bars that are fewer than their period.
        raise StrategyError(
            f"{explain(error, strategy)}; does it look further back than the {fewest} bars there are?"
        ) from error
    except Exception as error:
        raise StrategyError(f"{explain(error, strategy)}; mend it and run again") from error
    recorder: Recorder = ran.analyzers.recorder
    return recorder


def _record(recorder: Recorder, series: list[Series], spec: RunSpec, compared: pa.Table | None) -> pa.Table:
    import pyarrow as pa

    if not len(recorder.stamps):
        shortest = min(data.buflen() for data in recorder.datas)
        raise UsageError(f"{spec.name} never saw a bar: it waits for more than the {shortest} there are")
    times = _times(np.asarray(recorder.stamps), series)
    columns: dict[str, Any] = {
        "time": arrays.stamps(times),
        "session": arrays.days(_session_days(times, series)),
        "equity": arrays.floats(recorder.equity),
        "cash": arrays.floats(recorder.cash),
    }
    for n in range(len(series)):
        columns[f"position.{n}"] = arrays.floats(recorder.positions[n])
        columns[f"close.{n}"] = arrays.floats(recorder.closes[n])
    if spec.benchmark:
        benchmark = Series.parse(spec.benchmark)
        columns["benchmark"] = arrays.floats(_as_of(times, compared, benchmark))
    return pa.table(columns)


def _times(stamps: np.ndarray, series: list[Series]) -> np.ndarray:
    """Return Backtrader's numbers as datetime64[us]; a run on daily bars is told by dates."""
    days = np.floor(stamps)
    seconds = 0 if all(one.size.daily for one in series) else np.round((stamps - days) * 86_400)
    whole: np.ndarray = ((days - _EPOCH) * 86_400 + seconds).astype("datetime64[s]").astype("datetime64[us]")
    return whole


def _session_days(times: np.ndarray, series: list[Series]) -> np.ndarray:
    """Return the date of the exchange's session that each bar belongs to, by the first series' calendar."""
    if all(one.size.daily for one in series):
        return times.astype("datetime64[D]")
    first, last = (times[n].astype(datetime) for n in (0, -1))
    around = timedelta(days=7)
    found = sessions(series[0].instrument, first.date() - around, last.date() + around, series[0].regular_hours)
    closes = np.array([session.close.astimezone(UTC).replace(tzinfo=None) for session in found], "datetime64[us]")
    days = np.array([session.day for session in found], "datetime64[D]")
    found_days: np.ndarray = days[np.minimum(np.searchsorted(closes, times), len(days) - 1)]
    return found_days


def _as_of(times: np.ndarray, bars: pa.Table, series: Series) -> np.ndarray:
    from backtest.feed import close_stamps

    closed = _times(close_stamps(bars, series.size), [series])
    closes = arrays.numbers(bars["close"])
    rows = np.searchsorted(closed, times, side="right") - 1
    return np.where(rows >= 0, closes[np.maximum(rows, 0)], np.nan)


def _order_tables(orders: list[Any], series: list[Series]) -> tuple[pa.Table, pa.Table]:
    import pyarrow as pa

    first = min((order.ref for order in orders), default=0)  # Backtrader counts on from run to run
    order_columns = _order_columns(orders, first, series)
    fills = [(order, bit) for order in orders for bit in order.executed.exbits if bit.size]
    fills.sort(key=lambda fill: (fill[1].dt, fill[0].ref))
    fill_columns = _fill_columns(fills, first, series)
    return pa.table(order_columns, _order_schema()), pa.table(fill_columns, _fill_schema())


def _order_columns(orders: list[Any], first: int, series: list[Series]) -> dict[str, pa.Array]:
    filled = [order.executed for order in orders]
    present = np.array([fill.size != 0 for fill in filled], bool)
    return {
        "ref": arrays.whole([order.ref - first + 1 for order in orders]),
        "series": arrays.texts([order.data._name for order in orders]),
        "side": arrays.texts(["buy" if order.isbuy() else "sell" for order in orders]),
        "kind": arrays.texts([order.getordername() for order in orders]),
        "size": arrays.floats([order.created.size for order in orders]),
        "created": arrays.stamps(_times(np.array([order.created.dt for order in orders]), series)),
        "status": arrays.texts([order.getstatusname() for order in orders]),
        "filled": arrays.floats([fill.size for fill in filled]),
        "price": arrays.floats([fill.price for fill in filled]),
        "costs": arrays.floats([fill.comm for fill in filled]),
        "closed": arrays.stamps(_times(np.array([fill.dt or 0.0 for fill in filled]), series), present),
    }


def _fill_columns(fills: list[tuple[Any, Any]], first: int, series: list[Series]) -> dict[str, pa.Array]:
    return {
        "ref": arrays.whole([order.ref - first + 1 for order, _ in fills]),
        "time": arrays.stamps(_times(np.array([bit.dt for _, bit in fills]), series)),
        "series": arrays.texts([order.data._name for order, _ in fills]),
        "size": arrays.floats([bit.size for _, bit in fills]),
        "price": arrays.floats([bit.price for _, bit in fills]),
        "costs": arrays.floats([bit.comm for _, bit in fills]),
    }


def _order_schema() -> pa.Schema:
    import pyarrow as pa

    stamp, number, text = pa.timestamp("us", tz="UTC"), pa.float64(), pa.string()
    columns = {"ref": pa.int64(), "series": text, "side": text, "kind": text, "size": number, "created": stamp,
               "status": text, "filled": number, "price": number, "costs": number, "closed": stamp}  # fmt: skip
    return pa.schema(columns)


def _fill_schema() -> pa.Schema:
    import pyarrow as pa

    number = pa.float64()
    columns = {"ref": pa.int64(), "time": pa.timestamp("us", tz="UTC"), "series": pa.string(), "size": number,
               "price": number, "costs": number}  # fmt: skip
    return pa.schema(columns)


def _manifest(strategy: Strategy, bars: dict[Series, pa.Table]) -> dict[str, Any]:
    return {
        "strategy": {"name": strategy.name, "sha256": strategy.source},
        "series": {
            str(one): {
                "rows_sha256": rows_digest(table),
                "bars": len(table),
                "from": _moment(table["time"][:1]),
                "to": _moment(table["time"][-1:]),
            }
            for one, table in bars.items()
        },
        "packages": {name: _version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def _moment(time: pa.ChunkedArray) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(arrays.numbers(time)[0]))).isoformat()


@cache  # a lookup reads files of the environment, which a run does not change
def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
