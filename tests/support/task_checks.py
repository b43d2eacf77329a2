"""What `tasks` should read from the page of a run: the same from its tables."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from backtest import RunResult, Series
from backtest.report.attribution import attribution


def check_trade(result: RunResult, seen: dict[str, Any]) -> None:
    """Fail unless the chart is at the entry of the worst trade, on candles, with its net profit and the averages."""
    worst = int(result.trades["net"].idxmin())
    trade = result.trades.iloc[worst]
    row, rows = result.equity.index.get_loc(trade["entry"]), len(result.equity)
    size = 2 ** seen["level"]
    told = min(row - row % size + size, rows) - 1  # the last of the bars that are drawn as one

    assert (seen["trade"], seen["bar"], seen["candles"]) == (worst, row, True)
    assert seen["in_sight"], "its profit is below the window"
    assert f"Trade {worst + 1}: " in seen["told"]
    assert f"net {money(trade['net'])}" in seen["told"]
    assert seen["view"][0] <= row <= seen["view"][1]
    place = [Series.parse(name).short for name in result.spec.series].index(Series.parse(trade["series"]).short)
    closes = record_of(result, f"close.{place}")
    averages = dict(match.groups() for one in seen["legend"] if (match := re.fullmatch(r"SMA \((\d+)\) (.*)", one)))
    assert len(averages) == 2, seen["legend"]
    for period, text in averages.items():
        average, shown = closes.iloc[: told + 1].tail(int(period)).mean(), text.replace(",", "").replace("−", "-")
        assert abs(float(shown) / average - 1) < 1e-6, (period, shown, average)


def check_month(result: RunResult, seen: dict[str, Any]) -> None:
    """Fail unless the month with the deepest fall is in view, and all that was held at its trough is told."""
    sessions, position = record_of(result, "session"), [record_of(result, f"position.{n}") for n in _places(result)]
    equity = pd.Series(result.account.equity)
    trough = pd.Timestamp(result.account.days[int(np.argmin(equity / equity.cummax())) - 1])
    days = pd.to_datetime(sessions)
    row = int(np.flatnonzero(days == trough)[-1])
    month = np.flatnonzero((days.dt.year == trough.year) & (days.dt.month == trough.month))

    assert seen["view"][0] <= month[0] < month[-1] < seen["view"][1]
    assert seen["view"][1] - seen["view"][0] < 1.3 * len(month) + 10
    held = [f"{name} {size(own.iloc[row])}" for name, own in zip(result.series, position, strict=True) if own.iloc[row]]
    if len(result.series) > 1:
        assert f"Held: {', '.join(held) or 'nothing'}" in seen["told"]
    else:
        assert seen["position"].endswith(size(position[0].iloc[row]))


def check_loss(result: RunResult, seen: list[str]) -> None:
    """Fail unless that is the part of the result that is the least."""
    least = min(attribution(result).shares, key=lambda share: share.total)
    name = ["", least.side] if least.series is None else [result.series[least.series], least.side]

    assert seen == [*(name if least.series is not None else name[::-1]), money(least.total / 100).lstrip("+")]


def record_of(result: RunResult, name: str) -> pd.Series:
    return result.record[name].to_pandas()


def money(value: float) -> str:
    return f"{value:+,.2f}".replace("-", "−")


def size(value: float) -> str:
    return f"{value:,.8f}".rstrip("0").rstrip(".").replace("-", "−")


def _places(result: RunResult) -> range:
    return range(len(result.series))
