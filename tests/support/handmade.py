"""A small result made by hand, for the tests of what is measured and shown of a run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from backtest.api import RunResult
from backtest.runs.round_trips import round_trips
from backtest.runs.spec import spec_of

AAPL = "AAPL-STK-SMART-USD/1day/TRADES/rth"
STAMP = pa.timestamp("us", tz="UTC")


def day(number: int) -> date:
    """Return the n-th day of the tests' calendar: 2024-01-01 is day 0, and weekends are days too."""
    return date(2024, 1, 1) + timedelta(days=number)


def moment(number: int) -> datetime:
    """Return the time of the bar of the n-th day."""
    return datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=number)


def fill(number: int, size: float, price: float, costs: float = 0.0, series: str = AAPL) -> dict[str, Any]:
    """Return a fill on the n-th day."""
    return {"ref": 1, "time": moment(number), "series": series, "size": size, "price": price, "costs": costs}


def result_of(
    equity: Sequence[float],
    fills: Sequence[dict[str, Any]] = (),
    *,
    days: Sequence[date] | None = None,
    closes: Sequence[float] | None = None,
    cash: float = 100.0,
    manifest: dict[str, Any] | None = None,
    statuses: Sequence[str] = (),
    **spec: Any,
) -> RunResult:
    """Return a run on daily bars with this equity after each bar; positions follow from the fills, and not orders."""
    count = len(equity)
    record = pa.table(
        {
            "time": pa.array([moment(n) for n in range(count)], STAMP),
            "session": pa.array(days or [day(n) for n in range(count)], pa.date32()),
            "equity": pa.array(equity, pa.float64()),
            "cash": pa.array([cash] * count, pa.float64()),
            "position.0": pa.array([_held(fills, n) for n in range(count)], pa.float64()),
            "close.0": pa.array(closes or equity, pa.float64()),
        }
    )
    fill_rows = pa.Table.from_pylist(list(fills), _FILLS)
    asked = spec_of({"strategy": "trend.py:Trend", "series": (AAPL,), "cash": cash, **spec})
    orders = pa.Table.from_pylist(
        [{"ref": n + 1, "series": AAPL, "created": moment(n), "status": status} for n, status in enumerate(statuses)],
        _ORDERS,
    )
    return RunResult(asked, record, orders, fill_rows, round_trips(fill_rows, record), manifest or {})


def _held(fills: Sequence[dict[str, Any]], number: int) -> float:
    return float(sum(one["size"] for one in fills if one["time"] <= moment(number)))


_FILLS = pa.schema(
    [
        ("ref", pa.int64()),
        ("time", STAMP),
        ("series", pa.string()),
        ("size", pa.float64()),
        ("price", pa.float64()),
        ("costs", pa.float64()),
    ]
)
_ORDERS = pa.schema(
    [
        ("ref", pa.int64()),
        *((name, pa.string()) for name in ("series", "side", "kind")),
        ("size", pa.float64()),
        ("created", STAMP),
        ("status", pa.string()),
        *((name, pa.float64()) for name in ("filled", "price", "costs")),
        ("closed", STAMP),
    ]
)
