"""`next_orders`: the orders of a strategy at the open after the last stored bar. It places nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from backtest import _arguments
from backtest._notebook import html_lines, html_table
from backtest.api import RunResult, run, takes_frames
from backtest.engine.code.strategy import load_strategy
from backtest.engine.open_orders import OpenOrder, watched_to_the_end
from backtest.market.calendars import bar_start, sessions
from backtest.market.hours import Hours
from backtest.market.series import Series, several_series
from backtest.metrics.measurement import notes_of
from backtest.runs.spec import RunOptions, takes_run_options
from backtest.store.reader import Reader, hours_in
from backtest.store.store import store_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_MOMENT = "write a time-zone-aware datetime, such as datetime(2024, 1, 2, tzinfo=UTC)"
_AHEAD = timedelta(days=40)  # within which there is a session, and a month of bars begins


@dataclass(frozen=True, slots=True)
class AssumedPosition:
    """The position of a strategy in a series after the last bar, as if all its orders since the start had been real."""

    series: str
    size: float  # shares or contracts, negative if short
    close: float  # of the last bar
    last: datetime  # the opening of its own last bar, UTC; the date of a daily bar


@dataclass(frozen=True, slots=True)
class NextOrders:
    """The orders of a strategy for the next bar, and the account that they assume."""

    strategy: str
    orders: tuple[OpenOrder, ...]  # those given at the last bar, and older ones that are still open
    positions: tuple[AssumedPosition, ...]
    equity: float
    cash: float
    currency: str
    since: date  # the first session of the run that the position comes from
    cash_at_start: float
    last: datetime  # the close of the last bar, UTC; the date of a daily bar
    opens: datetime | None  # when the bar after it opens by the calendar; the date of a daily bar; None: not known
    notes: tuple[str, ...] = ()  # what kept the strategy from ordering, one sentence each

    @property
    def daily(self) -> bool:
        """Whether all bars are daily or longer, so that times are dates."""
        return all(Series.parse(one.series).size.daily for one in self.positions)

    @property
    def assumes(self) -> str:
        """The position that the orders assume, in a sentence."""
        held = [f"{one.size:+,.10g} {one.series} at {one.close:,.10g}" for one in self.positions if one.size]
        return (
            f"Assumed at the close of {self.when(self.last)}: {'; '.join(held) or 'no position'}; equity "
            f"{self.equity:,.2f} {self.currency}, cash {self.cash:,.2f}, as if all orders of the strategy since "
            f"{self.since} had been real and it had started with {self.cash_at_start:,.2f} {self.currency}."
        )

    def is_late(self, now: datetime) -> bool:
        """
        Return whether the open for which the orders are meant has passed, so that newer bars should be downloaded.

        Raises:
            UsageError: the argument is not a time with a zone.
        """
        if _arguments.instance(now, "now", datetime, _MOMENT).tzinfo is None:
            _arguments.refuse("now", now.isoformat(), _MOMENT)
        if self.opens is None:
            return False
        return self.opens.date() < now.date() if self.daily else self.opens < now

    def when(self, moment: datetime | None) -> str:
        """
        Return a time as text: the date of a daily bar, otherwise the time with its zone.

        Raises:
            UsageError: the argument is not a time.
        """
        if moment is None:
            return "a time that is not known"
        _arguments.instance(moment, "moment", datetime, _MOMENT)
        return f"{moment:%Y-%m-%d}" if self.daily else f"{moment:%Y-%m-%d %H:%M}Z"

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON's types; times are ISO 8601, UTC."""
        found = _plain(asdict(self))
        return {**found, "placed": False, "assumes": self.assumes}

    def to_frame(self) -> pd.DataFrame:
        """Return a row per order."""
        import pandas as pd

        return pd.DataFrame([asdict(order) for order in self.orders], columns=list(OpenOrder.__slots__))

    def _repr_html_(self) -> str:
        heads = ["Order", "Series", "Side", "Size", "Kind", "Price", "Given"]
        rows = [
            [
                str(one.number), one.series, one.side, f"{one.size:,.10g}", one.kind,
                ", ".join(f"{price:,.10g}" for price in (one.price, one.limit) if price is not None),
                self.when(one.given),
            ]
            for one in self.orders
        ]  # fmt: skip
        return html_table(heads, rows) + html_lines(str(self), *self.notes)

    def __str__(self) -> str:
        count = len(self.orders)
        orders = f"{count:,} order{'s' * (count != 1)}" if count else "no order"
        return f"{self.strategy}: {orders} at the open of {self.when(self.opens)}. {self.assumes}"


@takes_frames
@takes_run_options
def next_orders(
    strategy: str | Path | type[Any],
    series: Series | str | Iterable[Series | str] | Mapping[str, Any] | pd.DataFrame | pa.Table,
    *,
    store: Reader | str | Path | None = None,
    span: Any = None,
    start: date | str | None = None,
    end: date | str | None = None,
    params: Mapping[str, Any] | None = None,
    pins: str | Path = "",
    warm_up: int | str = "",
    tz: str = "",
    **asked: Unpack[RunOptions],
) -> NextOrders:
    """
    Return the orders a strategy would place at the open after the last stored bar, and the position it assumes.

    The strategy runs over the stored bars as in `run`; the result has the orders submitted at the last close, and older
    ones that are still open. No order is placed. Orders that depend on the next bar itself, such as those of a
    timer or of `next_open`, are not known yet and not included.

    Args:
        strategy: this and all following arguments are as in `run`.

    Raises:
        UsageError, NoBars, StrategyError: as `run` does.
    """
    loaded, opened = load_strategy(strategy), store_of(store)
    wanted = [opened.named(one) for one in several_series(series)]
    found: list[OpenOrder] = []
    watched = watched_to_the_end(loaded, wanted, found.extend)
    result = run(
        watched, wanted, store=opened, span=span, start=start, end=end, params=params, pins=pins, warm_up=warm_up,
        lines=False, **asked,
    )  # fmt: skip
    return _answer(result, tuple(found), [Series.parse(key) for key in result.spec.series], opened)


def _answer(result: RunResult, orders: tuple[OpenOrder, ...], series: list[Series], store: Reader) -> NextOrders:
    record = result.record
    last: datetime = record["time"][-1].as_py()
    row = {name: record[name][-1].as_py() for name in record.column_names}
    positions = [
        AssumedPosition(
            one.short, row[f"position.{n}"], row[f"close.{n}"],
            datetime.fromisoformat(result.manifest["series"][one.key]["to"]),
        )
        for n, one in enumerate(series)
    ]  # fmt: skip
    opens = [_next_bar(one, hours_in(store, one), last) for one in series]
    return NextOrders(
        result.spec.name, orders, tuple(positions), row["equity"], row["cash"], result.currency,
        record["session"][0].as_py(), result.spec.cash, last, min((one for one in opens if one), default=None),
        (*notes_of(result), *_of_laggards(_still_belonging(positions, result))),
    )  # fmt: skip


def _next_bar(series: Series, hours: Hours, last: datetime) -> datetime | None:
    """Return when the bar after a run's last one opens by the calendar; the date of a daily or longer one."""
    for session in sessions(hours, last.date(), (last + _AHEAD).date(), series.regular_hours):
        if series.size.daily:
            stamp = datetime(session.day.year, session.day.month, session.day.day, tzinfo=UTC)
            if bar_start(series, hours, stamp) > bar_start(series, hours, last):
                return stamp
        elif last < session.close:
            return max(last, session.open)  # the last bar's close, where the session goes on
    return None


def _still_belonging(positions: Sequence[AssumedPosition], result: RunResult) -> tuple[AssumedPosition, ...]:
    """Return the positions without names that have left the run's universe: their bars are not missing."""
    newest = max(one.last for one in positions).date()
    rows = [(Series.parse(key).short, last) for key, _, last, _ in result.manifest.get("universe", {}).get("rows", ())]
    kept = {name for name, last in rows if not last or date.fromisoformat(last) >= newest}
    gone = {name for name, _ in rows} - kept
    return tuple(one for one in positions if one.series not in gone)


def _of_laggards(positions: tuple[AssumedPosition, ...]) -> list[str]:
    """Return which series end before the others: an order for one of them would use an old price."""
    newest = max(one.last for one in positions)
    return [
        f"{one.series} ends with {one.last:%Y-%m-%d}, before the others; update it first."
        for one in positions
        if one.last.date() < newest.date()
    ]


def _plain(value: Any) -> Any:
    """Return plain data with its times as texts."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value.isoformat() if isinstance(value, date) else value
