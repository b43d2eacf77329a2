"""`Recorder`: a run's account and orders as arrays; hot."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import backtrader as bt
import numpy as np

from backtest import _arguments
from backtest.engine.execution import held_size
from backtest.engine.lean.clock import feed_stamps
from backtest.errors import StrategyError, UsageError
from backtest.market import arrays
from backtest.market.series import Series
from backtest.market.session_days import days_of_moments, of_one_clock, session_days
from backtest.runs.closing_fills import filled_at_close

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.engine.account.bookings import Balances
    from backtest.engine.account.currencies import Exchange
    from backtest.engine.lean.history import History, Walked
    from backtest.market.hours import Hours
    from backtest.runs.spec import RunSpec

_EPOCH = 719_163  # 1970-01-01 as Backtrader counts days
_DAY = 86_400  # seconds
_BLOCK = 2**16  # stamps that are converted at once: of 10,000,000 an array is 80 MB
_PARTIAL = bt.Order.Partial  # the last of the states in which an order can still be filled
_ORDER_COLUMNS, _FILL_COLUMNS = 11, 6
_AT_A_PRICE = (bt.Order.Limit, bt.Order.Stop, bt.Order.StopLimit)
_OFF = 1e-6  # ticks


class Recorder(bt.Analyzer):
    """
    Records equity, cash, positions and closes after each bar, and every order.

    A finished order becomes a row of numbers at once: Backtrader's own object takes seven kilobytes.
    """

    params: Any = (("ticks", {}),)  # the smallest step of the price by the feed's name, where it is known
    flows: np.ndarray | None = None  # money that the strategy added with each bar, if it added or took out any

    def start(self) -> None:
        """Start empty."""
        self._alive: dict[int, Any] = {}
        self._over = _OrderRows(self.p.ticks)
        self.stamps: Any = array("d")
        self.equity: Any = array("d")
        self.cash: Any = array("d")
        self.positions: list[Any] = [array("d") for _ in self.datas]
        self.closes: list[Any] = [array("d") for _ in self.datas]

    def notify_order(self, order: Any) -> None:
        """Store the latest state of an order."""
        if order.status <= _PARTIAL:  # alive
            self._alive[order.ref] = order
        else:
            self._alive.pop(order.ref, None)
            self._over.add(order)

    def take(self, history: History) -> None:
        """Read all bars at once after a run in the lean loop, which does not call `next`."""
        self.stamps, self.equity, self.cash = history.stamps, history.equity, history.cash
        self.positions, self.closes = history.positions, history.closes
        if history.walked is not None:
            self._over.take(history.walked, [data._name for data in self.datas])

    def next(self) -> None:
        """Record one row; Backtrader calls this for bars of the warm-up too."""
        broker = self.strategy.broker
        self.stamps.append(self.strategy.datetime[0])
        self.equity.append(broker.getvalue())
        self.cash.append(broker.getcash())
        for data, positions, closes in zip(self.datas, self.positions, self.closes, strict=True):
            positions.append(held_size(broker, data))
            closes.append(data.close[0] if len(data) and hasattr(data.lines, "close") else float("nan"))

    def since(self, row: int) -> Balances:
        """Return the state of the account after each bar from a row on."""
        from backtest.engine.account.bookings import Balances

        sizes, closes = ([np.array(one[row:]) for one in every] for every in (self.positions, self.closes))
        return Balances(np.array(self.stamps[row:]), np.array(self.cash[row:]), sizes, closes)

    def orders(self, series: list[Series]) -> tuple[pa.Table, pa.Table]:
        """Return a table of all orders in the order of creation, and one of their fills by time."""
        # The end of an order in the last bar is not notified. The broker's own list has the final states, but not while
        # a strategy has checksubmit off.
        broker = self.strategy.broker
        last = {order.ref: order for order in [*broker.pending, *broker.orders]}
        for order in {**self._alive, **last}.values():
            self._over.add(order)
        return self._over.tables(series)

    @property
    def off_tick(self) -> int:
        """How many orders named a price that is not a multiple of the tick of their contract."""
        return self._over.off_tick

    @property
    def first_order(self) -> int:
        """The number that Backtrader, which counts across runs, gave to the first order; 0 without any."""
        return self._over.first


class _OrderRows:
    """Orders and fills as rows of numbers, all of them float64: references and places in lists are far below 2**53."""

    def __init__(self, ticks: Mapping[str, float]) -> None:
        self._ticks, self.off_tick = ticks, 0
        self._names: dict[str, int] = {}
        self._refs: set[int] = set()
        self._orders, self._fills = array("d"), array("d")

    def add(self, order: Any) -> None:
        """Add an order and its fills, if it is not included yet."""
        ref, created, filled = order.ref, order.created, order.executed
        if ref in self._refs:
            return
        if not is_kind(order.exectype):
            raise StrategyError(unknown_kind(order.exectype))
        self._refs.add(ref)
        name = self._names.setdefault(order.data._name, len(self._names))
        if self._ticks:
            self.off_tick += _is_off(order, self._ticks.get(order.data._name, 0.0))
        self._orders.extend((ref, name, order.isbuy(), int(order.exectype), order.status, created.size, created.dt,
                             filled.size, _paid(filled.price), filled.comm, filled.dt or 0.0))  # fmt: skip
        for bit in filled.exbits:
            if bit.size:
                self._fills.extend((ref, name, bit.dt, bit.size, _paid(bit.price), bit.comm))

    def take(self, walked: Walked, names: list[str]) -> None:
        """Take all orders and fills of a run."""
        orders, prices = walked.orders, walked.prices
        self._names = {name: number for number, name in enumerate(names)}
        self._refs = set(range(1, len(orders) + 1))
        self._orders, self._fills = array("d", orders.tobytes()), array("d", walked.fills.tobytes())
        for name, tick in self._ticks.items():
            own = (orders[:, 1] == self._names.get(name, -1)) & np.isin(orders[:, 3], _AT_A_PRICE)
            ticks = prices[own] / tick
            self.off_tick += int((np.abs(ticks - np.rint(ticks)) > _OFF).any(axis=1).sum())

    @property
    def first(self) -> int:
        """The lowest reference, 0 without any."""
        return min(self._refs, default=0)

    def tables(self, series: list[Series]) -> tuple[pa.Table, pa.Table]:
        """Return the table of the orders by ref, which begins at 1, and that of the fills by time."""
        orders, fills = _rows(self._orders, _ORDER_COLUMNS), _rows(self._fills, _FILL_COLUMNS)
        for rows in (orders, fills):
            rows[:, 0] -= self.first - 1
        return order_tables(orders, fills, list(self._names), series)


def order_tables(
    orders: np.ndarray, fills: np.ndarray, names: list[str], series: list[Series]
) -> tuple[pa.Table, pa.Table]:
    """
    Return the table of orders by ref, and that of their fills by time.

    Args:
        orders: one row per order, as `Recorder` keeps them: ref, position in names, whether it buys, kind, status,
            size, timestamp, filled size with its price and costs, and the timestamp of its end.
        fills: one row per fill: ref, position in names, timestamp, size, price, costs.
        names: the names of the feeds.
    """
    import pyarrow as pa

    by_ref, by_time = np.argsort(orders[:, 0], kind="stable"), np.lexsort((fills[:, 0], fills[:, 2]))
    order_columns = _order_columns(_columns(orders[by_ref], whole=5), names, series)
    fill_columns = _fill_columns(_columns(fills[by_time], whole=2), names, series)
    return pa.table(order_columns, _order_schema()), pa.table(fill_columns, _fill_schema())


def _order_columns(columns: list[np.ndarray], names: list[str], series: list[Series]) -> dict[str, pa.Array]:
    ref, name, buys, kind, status, size, created, filled, price, costs, closed = columns
    return {
        "ref": arrays.integers(ref),
        "series": arrays.texts_by_number(name, names),
        "side": arrays.texts_by_number((buys != 0).astype(np.int64), ["sell", "buy"]),
        "kind": arrays.texts_by_number(kind, bt.Order.ExecTypes),
        "size": arrays.floats(size),
        "created": arrays.stamps(bar_times(created, series)),
        "status": arrays.texts_by_number(status, bt.Order.Status),
        "filled": arrays.floats(filled),
        "price": arrays.floats(price),
        "costs": arrays.floats(costs),
        "closed": arrays.stamps(bar_times(closed, series), filled != 0),
    }


def _fill_columns(columns: list[np.ndarray], names: list[str], series: list[Series]) -> dict[str, pa.Array]:
    ref, name, stamp, size, price, costs = columns
    return {
        "ref": arrays.integers(ref),
        "time": arrays.stamps(bar_times(stamp, series)),
        "series": arrays.texts_by_number(name, names),
        "size": arrays.floats(size),
        "price": arrays.floats(price),
        "costs": arrays.floats(costs),
    }


def _rows(numbers: Any, count: int) -> np.ndarray:
    """Return rows of numbers that follow each other."""
    return np.frombuffer(numbers).reshape(-1, count).copy()


def _columns(rows: np.ndarray, whole: int) -> list[np.ndarray]:
    """Return the columns of rows, of which the first ones are whole numbers."""
    return [column.astype(np.int64) if n < whole else column for n, column in enumerate(rows.T)]


def _paid(price: Any) -> float:
    """Return the price of a fill; of a line, its value at the bar of the fill, which is the current one."""
    paid: float = price[0] if isinstance(price, bt.LineRoot) else price
    return paid


def _is_off(order: Any, tick: float) -> bool:
    """Return whether an order names a price, as a limit or a stop, that is not a multiple of a tick."""
    if not tick or order.exectype not in _AT_A_PRICE:
        return False  # a trailing stop moves by itself
    prices = [one for one in (order.created.price, order.created.pricelimit) if isinstance(one, Real) and one]
    return any(abs(float(one) / tick - round(float(one) / tick)) > _OFF for one in prices)


def is_kind(exectype: Any) -> bool:
    """Return whether an order can have a kind; Backtrader numbers them, and compares the numbers."""
    return isinstance(exectype, Real) and exectype in range(len(bt.Order.ExecTypes))


def unknown_kind(exectype: Any) -> str:
    """Return the error about an unknown kind of order."""
    kinds = ", ".join(f"bt.Order.{name}" for name in bt.Order.ExecTypes)
    return (
        f"exectype={_arguments.shown(exectype)} is not an order type, so the order would never be filled; choose from "
        f"{kinds}"
    )


class SessionClock(NamedTuple):
    """The series whose sessions measure a run, and its hours: see `periods.clock_of`."""

    series: Series
    hours: Hours
    days: np.ndarray | None = None  # its sessions with a bar, datetime64[D], where series have several clocks


class KnownRows:
    """
    The columns of an account that depend on the bars alone, cached from the last run.

    Runs on the same bars usually have the same rows: code that makes many such runs keeps one of these.
    """

    def __init__(self) -> None:
        self._last: tuple[np.ndarray, dict[str, Any]] = np.zeros(0), {}  # one thing, as runs may be in threads

    def of(self, stamps: np.ndarray, made: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the columns for the rows' timestamps, computed if the last run had others."""
        known, columns = self._last
        if not columns or not np.array_equal(stamps, known):
            columns = made()
            self._last = stamps.copy(), columns
        return columns


def account_table(
    recorder: Recorder,
    series: list[Series],
    clock: SessionClock,
    spec: RunSpec,
    compared: tuple[pa.Table, Hours] | None,
    known: KnownRows | None = None,
    exchange: Exchange | None = None,
) -> pa.Table:
    """
    Return the account after each bar: time, session, equity, cash, position and close of each series, and flows.

    Args:
        clock: the series whose sessions the bars belong to.
        compared: the bars of the benchmark with its hours, if there is one.
        known: the columns of an earlier run on the same bars.
        exchange: the exchange rates, if not all prices are in the account's currency; then rate.n is money of the
            account per unit of price of the n-th series, and the benchmark is converted.

    Raises:
        UsageError: the strategy never saw a bar.
    """
    import pyarrow as pa

    if not len(recorder.stamps):
        shortest = min(data.buflen() for data in recorder.datas)
        raise UsageError(f"{spec.name} never saw a bar: it needs more than the {shortest} there are")
    stamps = np.asarray(recorder.stamps)
    of_bars = (known or KnownRows()).of(
        stamps, partial(_of_bars, stamps, recorder.datas, series, clock, spec, compared, exchange)
    )
    columns: dict[str, Any] = {
        "time": of_bars["time"],
        "session": of_bars["session"],
        "equity": arrays.floats(recorder.equity),
        "cash": arrays.floats(recorder.cash),
    }
    for n in range(len(series)):
        columns[f"position.{n}"] = arrays.floats(recorder.positions[n])
        columns[f"close.{n}"] = arrays.floats(recorder.closes[n])
        if f"rate.{n}" in of_bars:
            columns[f"rate.{n}"] = of_bars[f"rate.{n}"]
    if compared is not None:
        columns["benchmark"] = of_bars["benchmark"]
    if recorder.flows is not None:
        columns["flow"] = arrays.floats(recorder.flows)
    return pa.table(columns)


def _of_bars(
    stamps: np.ndarray,
    datas: list[Any],
    series: list[Series],
    clock: SessionClock,
    spec: RunSpec,
    compared: tuple[pa.Table, Hours] | None,
    exchange: Exchange | None,
) -> dict[str, Any]:
    """Return the columns of an account that depend on the bars alone."""
    times = bar_times(stamps, series)
    days = _days_of_rows(stamps, times, datas, series, clock)
    columns = {"time": arrays.stamps(times), "session": arrays.days(days)}
    if compared is not None:
        by_dates = all(one.size.daily for one in series)
        factors = exchange.benchmark if exchange is not None else None
        beside = _beside(times, days, by_dates, Series.parse(spec.benchmark), *compared, factors=factors)
        columns["benchmark"] = arrays.floats(beside)
    if exchange is not None:
        columns |= {f"rate.{n}": arrays.floats(exchange.factors(n, stamps)) for n in exchange.conversions}
    return columns


def bar_times(stamps: np.ndarray, series: list[Series]) -> np.ndarray:
    """Return Backtrader's numbers as datetime64[us]; a run on daily bars has dates."""
    return times_of_stamps(stamps, all(one.size.daily for one in series))


def times_of_stamps(stamps: np.ndarray, by_dates: bool) -> np.ndarray:
    """Return Backtrader's numbers as datetime64[us], those of dates or of moments."""
    whole = np.empty(len(stamps), "datetime64[us]")
    for start in range(0, len(stamps), _BLOCK):
        part = stamps[start : start + _BLOCK]
        days = np.floor(part)
        seconds = 0 if by_dates else np.round((part - days) * 86_400)
        whole[start : start + _BLOCK] = ((days - _EPOCH) * 86_400 + seconds).astype("datetime64[s]")
    return whole


def _days_of_rows(
    stamps: np.ndarray, times: np.ndarray, datas: list[Any], series: list[Series], clock: SessionClock
) -> np.ndarray:
    """
    Return the ascending dates of the sessions of each row's bar, by the series that measures the run.

    A row is identified only by its timestamp, a bar's opening plus its size; if series have several sizes, the bar is
    looked up. Of bars that end together, the shortest determines the session.

    Args:
        times: the times of the timestamps.
    """
    sizes = {0 if one.size.daily else one.size.seconds for one in series}
    if sizes == {0}:
        own = session_days(times, clock.series, clock.hours)
        return own if clock.days is None else of_one_clock(own, clock.days)
    if len(sizes) == 1:
        return days_of_moments(times, clock.series, clock.hours, before=np.timedelta64(max(sizes), "s"))
    opened, daily = times.copy(), np.zeros(len(stamps), bool)
    for n in sorted(range(len(series)), key=lambda n: -series[n].size.seconds):
        rows, size = _rows_of(datas[n], stamps), series[n].size
        opened[rows] = times[rows] - np.timedelta64(size.seconds, "s")
        daily[rows] = size.daily
    days = (np.floor(stamps).astype(np.int64) - _EPOCH).astype("datetime64[D]")
    if not daily.all():
        days[~daily] = days_of_moments(opened[~daily], clock.series, clock.hours)
        days[daily] = of_one_clock(days[daily], np.unique(days[~daily]))
    return np.maximum.accumulate(days)


def _rows_of(data: Any, stamps: np.ndarray) -> np.ndarray:
    """Return the rows at which a feed has a bar."""
    own = feed_stamps(data)
    own = own[: np.searchsorted(own, stamps[-1], side="right")]  # a run may be stopped
    return np.searchsorted(stamps, own)


def with_rates_of_fills(
    fills: pa.Table, orders: pa.Table, datas: list[Any], series: list[Series], exchange: Exchange
) -> pa.Table:
    """
    Return the fills with `rate`, the money of the account per unit of price at which each was booked: see `Converting`.

    Args:
        datas: the feeds, in the order of the series.
    """
    rates, by_name = np.ones(len(fills)), arrays.rows_by_text(fills["series"].to_pylist())
    closing, filled = filled_at_close(fills, orders), arrays.numbers(fills["time"])
    by_dates = all(one.size.daily for one in series)
    for n, conversion in exchange.conversions.items():
        own = by_name.get(datas[n]._name, np.zeros(0, np.int64))
        known = times_of_stamps(conversion.stamps, by_dates).astype(np.int64)
        places = np.searchsorted(known, filled[own], side="right") - 1
        booked = np.where(closing[own], conversion.closing[places], conversion.opening[places])
        rates[own] = booked * conversion.unit.share
    return fills.append_column("rate", arrays.floats(rates))


def _beside(
    times: np.ndarray,
    days: np.ndarray,
    by_dates: bool,
    series: Series,
    bars: pa.Table,
    hours: Hours,
    factors: np.ndarray | None = None,
) -> np.ndarray:
    """
    Return the benchmark's close for each row, NaN if there is no new one since the previous row.

    The last row of a session is compared with the last bar of the benchmark's session of that date, whatever the bar
    sizes; an earlier row with the last complete bar.

    Args:
        days: the session of each row.
        by_dates: whether the times of the rows are dates.
        factors: the factors that convert each close into money of the account.
    """
    opened, closes = arrays.numbers(bars["time"]).astype("datetime64[us]"), arrays.numbers(bars["close"])
    closes = closes if factors is None else closes * factors
    own = session_days(opened, series, hours)
    by_session = np.searchsorted(own, days, side="right")
    if by_dates:
        complete = np.searchsorted(own, times.astype("datetime64[D]"), side="right")
    else:
        closed = opened + np.timedelta64(_DAY if series.size.daily else series.size.seconds, "s")
        complete = np.minimum(np.searchsorted(closed, times, side="right"), by_session)
    rows = np.maximum.accumulate(np.where(np.append(days[1:] != days[:-1], True), by_session, complete)) - 1
    return np.where(np.diff(rows, prepend=-1) > 0, closes[np.maximum(rows, 0)], np.nan)


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
