"""
Check that the machine learning strategy finds nothing where there is nothing to find.

    python tests/soak/luck.py [--seeds 100] [--series AAPL/1day]

Each seed shuffles the labels that the models are trained on, so that anything they find is chance. All seeds are the
trials of one search: the deflated Sharpe ratio must be below 0.95 for at least 95 of 100 seeds. It is that of the
returns less beta times the market's: a strategy earns the market's return merely by being invested, whatever it has
learnt.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np

from backtest.api import RunResult, run
from backtest.market.bars import table_of
from backtest.market.calendars import sessions
from backtest.market.hours import hours_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.metrics.sharpe_tests import deflated_sharpe, moments
from backtest.store.store import Store

SURE = 0.95


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--seeds", type=int, default=100)
    words.add_argument("--series", default="AAPL/1day")
    asked = words.parse_args()
    store = Store(Path(__file__).resolve().parents[2] / "data" / "sample")
    found = probabilities(store, asked.series, range(1, asked.seeds + 1))
    lucky = sum(one < SURE for one in found)
    print(f"{lucky} of {asked.seeds} are luck; the highest deflated Sharpe ratio is {max(found):.3f}")
    sys.exit(lucky < SURE * asked.seeds)


def probabilities(store: Store, series: str, seeds: Iterable[int]) -> list[float]:
    """Return the deflated Sharpe ratio of each seed's run, with all runs as the trials."""
    params = {"model": "descent", "refit": 126}
    runs = [run("machine_learning", series, store=store, params={**params, "shuffled": seed}) for seed in seeds]
    known = [moments(_beyond_the_market(one)) for one in runs]
    deviation = float(np.std([one.ratio for one in known], ddof=1))
    return [float(deflated_sharpe(*one, len(known), deviation)) for one in known]


def _beyond_the_market(result: RunResult) -> np.ndarray:
    """Return the daily returns less beta times the market's."""
    returns = result.returns.to_numpy()
    closes = result.closes.iloc[:, 0].to_numpy()
    market = np.concatenate([[0.0], closes[1:] / closes[:-1] - 1])
    beta = np.cov(returns, market)[0, 1] / market.var(ddof=1)
    return returns - beta * market


def wandering(folder: Path, bars: int, seed: int) -> Store:
    """Return a store with a random walk as AAPL/1day: no bar predicts the next."""
    chance, series = np.random.default_rng(seed), Series.parse("AAPL/1day")
    until = (_DAY + timedelta(days=math.ceil(bars * 1.5))).date()
    first = sessions(hours_of(series.instrument), _DAY.date(), until)[:bars]
    close = 100 * np.exp(np.cumsum(chance.normal(0, 0.01, bars)))
    opened = np.concatenate([[100.0], close[:-1]])
    rows = [
        (_midnight(session.day), one, max(one, two), min(one, two), two, 1e6, None, None)
        for session, one, two in zip(first, opened.tolist(), close.tolist(), strict=True)
    ]
    store = Store(folder)
    store.write(series, Span(rows[0][0], rows[-1][0] + timedelta(days=1)), table_of(rows))
    return store


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


_DAY = datetime(2005, 1, 3, tzinfo=UTC)

if __name__ == "__main__":
    main()
