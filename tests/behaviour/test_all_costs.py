"""Costs are all costs: commissions, fees, slippage, spread, impact, and borrowed shares, of open positions too."""

from datetime import UTC, datetime, timedelta

import backtrader as bt
import numpy as np
import pytest

from backtest import Series, Span, Store, run
from backtest.market.bars import table_of
from backtest.metrics.account import costs_until
from backtest.validity.cost_stress import break_even_costs, cost_cases

FIRST = datetime(2024, 1, 1, tzinfo=UTC)


class Steps(bt.Strategy):
    """Give orders at the bars that are named, such as "1:100 3:-100": the number of the bar, and the size."""

    params = (("at", ""),)

    def next(self):
        steps = dict(map(int, step.split(":")) for step in self.p.at.split())
        if size := steps.get(len(self), 0):
            self.buy(size=size) if size > 0 else self.sell(size=-size)


def store_of(folder, closes, width=1.0, series="AAPL/1day"):
    """Return a store with a bar a calendar day, which opens and closes at its price, and is so much wider."""
    rows = [(FIRST + timedelta(days=n), p, p + width, p - width, p, 10_000.0, None, None)
            for n, p in enumerate(map(float, closes))]  # fmt: skip
    store = Store(folder)
    store.write(Series.parse(series), Span(FIRST, FIRST + timedelta(days=len(rows))), table_of(rows))
    return store


# 100 shares bought at 100 and sold at 110.
@pytest.mark.parametrize(
    ("slippage", "paid"),
    [
        ("0.05", 100 * 0.05 * 2),
        ("5bp", 100 * 0.0005 * (100 + 110)),
        ("impact:0.1", 100 * 0.1 * 0.1 * (100 + 110)),
        ("", 0),
    ],
)
def test_slippage_is_in_the_costs(tmp_path, slippage, paid):
    store = store_of(tmp_path, [100, 100, 110, 110, 110], width=5.0)
    asked = {"store": store, "params": {"at": "1:100 3:-100"}, "slippage": slippage}

    free, charged = run(Steps, "AAPL/1day", **asked, costs="none"), run(Steps, "AAPL/1day", **asked)

    assert free.stats["costs"] == pytest.approx(paid)
    assert charged.stats["costs"] == pytest.approx(paid + 2.0)
    assert free.equity.iloc[-1] == pytest.approx(100_000 + 1_000 - paid)
    assert ("unslipped" in free.fills_table.column_names) == bool(slippage)


def test_the_spread_is_in_the_costs(tmp_path):
    store = store_of(tmp_path, [100] * 5)
    store_of(tmp_path, [99.9] * 5, series="AAPL/1day/BID")
    store_of(tmp_path, [100.1] * 5, series="AAPL/1day/ASK")

    result = run(Steps, "AAPL/1day", store=store, params={"at": "1:100 3:-100"}, slippage="spread", costs="none")

    assert result.stats["costs"] == pytest.approx(20.0)


def test_slippage_that_the_bar_clips_is_what_it_was(tmp_path):
    closes_only = store_of(tmp_path / "closes", [100, 100, 110, 110], width=0.0)
    narrow = store_of(tmp_path / "narrow", [100, 100, 110, 110], width=0.25)
    asked = {"params": {"at": "1:100 3:-100"}, "costs": "none", "slippage": "1bp"}

    none = run(Steps, "AAPL/1day", store=closes_only, **asked)
    some = run(Steps, "AAPL/1day", store=narrow, **asked | {"slippage": "money:0.5"})
    all_of_it = run(Steps, "AAPL/1day", store=narrow, **asked)

    assert none.stats["costs"] == 0.0
    assert (
        "In 2 of 2 fills the bar was too narrow for the full slippage; total slippage was 0.00 USD" in none.stats.basis
    )
    assert some.stats["costs"] == pytest.approx(100 * 0.25 * 2)
    assert "total slippage was 50.00 USD" in some.stats.basis
    assert "had no room" not in all_of_it.stats.basis


# Short 365 shares at 100: ten dollars a day, from the day after the fill.
def test_borrow_fees_of_open_positions_are_in_the_costs(tmp_path):
    store = store_of(tmp_path, [100] * 9)
    asked = {"store": store, "costs": "none", "borrow": "0.1"}

    still_open = run(Steps, "AAPL/1day", **asked, params={"at": "1:-365"})
    partly = run(Steps, "AAPL/1day", **asked, params={"at": "1:-365 3:73"})

    assert still_open.stats["costs"] == pytest.approx(70.0)
    assert still_open.record["borrow"].to_pylist() == pytest.approx([0, 0, *[10.0] * 7])
    assert partly.stats["costs"] == pytest.approx(2 * 10 + 5 * 8)
    assert partly.fills["borrow"].tolist() == pytest.approx([0, 4])
    for result in (still_open, partly):
        assert result.equity.iloc[-1] == pytest.approx(100_000 - result.stats["costs"])


def test_a_run_at_no_costs_is_the_run_without_any(tmp_path):
    rng = np.random.default_rng(7)
    store = store_of(tmp_path, 100 + rng.normal(0, 1, 60).cumsum(), width=3.0)
    asked = {"store": store, "params": {"at": "1:-300 9:500 20:-400 33:100 50:-50"}}
    costs = {"slippage": "5bp", "borrow": "0.1"}

    dear, free = run(Steps, "AAPL/1day", **asked, **costs), run(Steps, "AAPL/1day", **asked, costs="none")

    at_none, as_it_was = cost_cases(dear, (0.0, 1.0))
    assert at_none.total_return == pytest.approx(free.stats["total_return"], abs=1e-12)
    assert as_it_was.total_return == dear.stats["total_return"]
    assert (np.array(dear.equity) + costs_until(dear)).tolist() == pytest.approx(free.equity.tolist())
    assert costs_until(dear)[-1] == pytest.approx(dear.stats["costs"])


def test_break_even_is_of_all_costs(tmp_path):
    store = store_of(tmp_path, [100, 100, 110, 110, 110], width=5.0)

    result = run(Steps, "AAPL/1day", store=store, params={"at": "1:100 3:-100"}, slippage="0.5", costs="none")

    assert break_even_costs(result) == pytest.approx(10.0)  # 1,000 gained, 100 paid


def test_kept_and_loaded_the_costs_are_the_same(tmp_path):
    store = store_of(tmp_path / "bars", [100] * 9)
    asked = {"params": {"at": "1:-365 3:73"}, "borrow": "0.1", "slippage": "0.05"}

    result = run(Steps, "AAPL/1day", store=store, **asked)

    kept = type(result).load(result.save(tmp_path / "run"))
    assert kept.stats["costs"] == result.stats["costs"] == pytest.approx(1.825 + 1.0 + 0.05 * 438 + 60.0)


def test_without_slippage_and_loans_the_tables_are_as_ever(tmp_path):
    result = run(Steps, "AAPL/1day", store=store_of(tmp_path, [100] * 5), params={"at": "1:100"})

    assert result.fills_table.column_names == ["ref", "time", "series", "size", "price", "costs"]
    assert "borrow" not in result.record.column_names
