"""Cash that a strategy sets, adds or takes out is no return: returns are those of the money that was there."""

import ast
import inspect
import textwrap
from collections import deque
from copy import copy, deepcopy
from datetime import UTC, date, datetime

import backtrader as bt
import numpy as np
import pytest

from backtest.api import RunResult, run
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.metrics.account import without_flows
from backtest.metrics.measurement import measure
from backtest.report.run_page import write_report
from backtest.research.out_of_sample.walk_forward import walk_forward
from backtest.store.store import Store
from backtest.validity.cost_stress import break_even_costs, cost_cases

# The lean loop, Backtrader's own with its own broker, and with ours.
LOOPS = ({}, {"volume_cap": 1.0}, {"slippage": "0.0"})


@pytest.fixture
def store(tmp_path):
    """Return a store of ten days that open at 10, 11, 12 ... and close half a dollar higher."""
    rows = [
        (datetime(2024, 1, 1 + n, tzinfo=UTC), 10.0 + n, 11.0 + n, 9.0 + n, 10.5 + n, 1e6, None, None)
        for n in range(10)
    ]
    made = Store(tmp_path / "bars")
    made.write(Series.parse("AAPL/1day"), Span.of_dates(date(2024, 1, 1), date(2024, 1, 10)), table_of(rows))
    return made


def strategy(**methods):
    """Return a strategy class of these methods."""
    return type("Made", (bt.Strategy,), {"__module__": __name__, **methods})


def at(bar, act):
    """Return a `next` that acts at a bar, the first is 1."""
    return lambda self: act(self) if len(self) == bar else None


def assign(self):
    self.broker.cash = 50_000


def increase(self):
    self.broker.cash += 7


def look_at_once(self):
    self.broker.add_cash(400)
    self.broker.getvalue([self.data])


IDLE = {
    "set_cash in __init__": strategy(__init__=lambda self: self.broker.set_cash(50_000)),
    "setcash in start": strategy(start=lambda self: self.broker.setcash(250_000)),
    "add_cash in __init__": strategy(__init__=lambda self: self.broker.add_cash(5_000)),
    "set_cash in next": strategy(next=at(4, lambda self: self.broker.set_cash(50_000))),
    "set_cash at each bar": strategy(next=lambda self: self.broker.set_cash(1_000 * len(self))),
    "add_cash in next": strategy(next=at(4, lambda self: self.broker.add_cash(123.25))),
    "add_cash below zero": strategy(next=lambda self: self.broker.add_cash(-1_000)),
    "add_cash at the last bar": strategy(next=at(10, lambda self: self.broker.add_cash(5_000))),
    "cash itself": strategy(next=at(4, assign)),
    "cash itself, increased": strategy(next=increase),
    "all of it": strategy(next=at(4, lambda self: self.broker.set_cash(0))),
    "taken at once": strategy(next=at(4, look_at_once)),
    "in notify_cashvalue": strategy(notify_cashvalue=lambda self, cash, value: self.broker.set_cash(cash + 10)),
    "in prenext": strategy(
        __init__=lambda self: setattr(self, "sma", bt.ind.SMA(period=5)),
        prenext=at(2, lambda self: self.broker.set_cash(9_000)),
    ),
    "in stop": strategy(stop=lambda self: self.broker.set_cash(1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("asked", LOOPS, ids=["lean", "stock", "ours"])
@pytest.mark.parametrize("kind", IDLE.values(), ids=IDLE)
def test_a_strategy_that_only_moves_cash_earns_nothing(store, kind, asked):
    result = run(kind, "AAPL/1day", store=store, **asked)

    assert result.returns.tolist() == [0.0] * 10
    assert result.stats["total_return"] == 0
    assert result.stats["max_drawdown"] == 0


class Invests(bt.Strategy):
    """Holds fifty shares from the second bar on, and moves cash at the fourth."""

    way = "set"

    def next(self):
        if len(self) == 1:
            self.buy(size=50)
        if len(self) == 4 and self.way == "set":
            self.broker.set_cash(self.broker.getcash() + 1125)
        if len(self) == 4 and self.way == "add":
            self.broker.add_cash(1125)


class Adds(Invests):
    way = "add"


class Holds(Invests):
    way = ""


@pytest.mark.parametrize("asked", LOOPS, ids=["lean", "stock", "ours"])
def test_what_is_earned_is_earned_by_the_money_that_is_there(store, asked):
    asked = {"store": store, "cash": 1000, "costs": "none", **asked}

    given, added, held = (run(kind, "AAPL/1day", **asked) for kind in (Invests, Adds, Holds))

    # 50 shares at 11: 1,025 at the close of the second bar, 1,125 at that of the fourth, then 1,125 more: 2,250. They
    # end at 19.5: 450 + 1,125 + 975 = 2,550. What is added comes in with the fifth bar, after its close: 1,175 + 1,125.
    assert given.record["equity"].to_pylist()[2:5] == [1075, 2250, 2300]
    assert given.record["flow"].to_pylist() == [0, 0, 0, 1125, 0, 0, 0, 0, 0, 0]
    assert given.stats["total_return"] == pytest.approx(1.125 * 2550 / 2250 - 1, abs=1e-15)
    assert added.record["equity"].to_pylist()[3:5] == [1125, 2300]
    assert added.record["flow"].to_pylist() == [0, 0, 0, 0, 1125, 0, 0, 0, 0, 0]
    assert added.stats["total_return"] == pytest.approx(1.175 * 2550 / 2300 - 1, abs=1e-15)
    assert held.stats["total_return"] == pytest.approx(0.425, abs=1e-15)
    assert "flow" not in held.record.column_names


def test_a_copy_of_the_broker_tells_nobody(store):
    class Copies(Invests):
        def next(self):
            if len(self) == 2:
                twin = copy(self.broker)
                twin._cash_addition = deepcopy(self.broker._cash_addition)
                assert deepcopy(self.broker.flows) is None
                assert type(twin._cash_addition) is deque
            super().next()

    result = run(Copies, "AAPL/1day", store=store, cash=1000)

    assert result.record["flow"].to_pylist() == [0, 0, 0, 1125, 0, 0, 0, 0, 0, 0]


def test_what_a_run_rests_on_says_what_was_added(store):
    added, held = (run(kind, "AAPL/1day", store=store, cash=1000) for kind in (Adds, Holds))

    assert "1,000.00 USD at the start, +1,125.00 added by the strategy, not counted as a return." in added.stats.basis
    assert held.stats.basis.endswith("1,000.00 USD at the start.")


def test_shares_of_the_account_are_those_of_the_money_in_it(store):
    added, held = (run(kind, "AAPL/1day", store=store, cash=1000) for kind in (Adds, Holds))
    mean = np.mean([1000, *added.record["equity"].to_pylist()])

    assert added.stats["cost_drag"] == pytest.approx(1 / mean / (10 / 252))
    assert added.stats["turnover"] < held.stats["turnover"]


def test_a_kept_run_has_the_same_numbers(store, tmp_path):
    result = run(Invests, "AAPL/1day", store=store, cash=1000)

    again = RunResult.load(result.save(tmp_path / "run"))

    assert measure(again).to_dict() == result.stats.to_dict()


@pytest.mark.slow
def test_a_page_says_what_the_cash_at_the_start_became(store, tmp_path):
    page = write_report(run(Invests, "AAPL/1day", store=store, cash=1000), tmp_path / "page").read_text()

    assert "1,000 USD became 1,274" in page  # 1,124 with the dollar of costs, times 2,549 / 2,249


def test_interest_on_cash_is_a_return(store):
    result = run(strategy(), "AAPL/1day", store=store, cash_rate=0.1)

    assert result.stats["total_return"] > 0
    assert "flow" not in result.record.column_names


def test_interest_beside_added_cash_stays_a_return(store):
    asked = {"store": store, "cash_rate": 0.1}

    plain, added = (run(kind, "AAPL/1day", **asked) for kind in (strategy(), IDLE["add_cash in next"]))

    # Not equal: what idle cash earns is paid up to two bars later, when the account has the added cash already.
    assert added.stats["total_return"] == pytest.approx(plain.stats["total_return"], rel=1e-3)


class Plain(bt.Strategy):
    params = (("first", 1),)

    def next(self):
        if not self.position:
            self.buy(size=100 * self.p.first)


class Moves(Plain):
    def __init__(self):
        self.broker.set_cash(50_000 - 250)
        self.broker.add_cash(250)


def test_cash_that_is_set_before_the_first_bar_is_the_cash_at_the_start(store):
    plain, moved = (run(kind, "AAPL/1day", store=store, cash=cash) for kind, cash in ((Plain, 50_000), (Moves, 90_000)))

    assert moved.returns.tolist() == pytest.approx(plain.returns.tolist(), abs=1e-15)
    assert moved.equity.tolist() == plain.equity.tolist()


def test_a_window_has_no_return_from_cash_that_came_before_it(store, tmp_path):
    asked = {"store": store, "train": 4, "test": 3, "rank": "total_return", "costs": "none"}

    plain, moved = (
        walk_forward(kind, "AAPL/1day", {"first": [1, 2]}, folder=tmp_path / kind.__name__, cash=cash, **asked)
        for kind, cash in ((Plain, 50_000), (Moves, 90_000))
    )

    assert moved.returns.tolist() == pytest.approx(plain.returns.tolist(), abs=1e-15)
    assert plain.returns.any()


class AtTheOpen(bt.Strategy):
    """Sets cash before the broker's turn, as well as after it."""

    def __init__(self):
        self.cerebro.p.cheat_on_open = True
        self.broker.set_coo(True)

    def next_open(self):
        if len(self) in (1, 4):
            self.broker.set_cash(self.broker.getcash() + 500)

    def next(self):
        if len(self) == 1:
            self.buy(size=50)


class ByTimer(bt.Strategy):
    def __init__(self):
        self.add_timer(bt.timer.SESSION_START, cheat=True)

    def notify_timer(self, timer, when, *args, **kwargs):
        self.broker.set_cash(self.broker.getcash() + 500)


def test_cash_that_comes_before_the_brokers_turn_counts_once(store):
    asked = {"store": store, "cash": 1000, "costs": "none"}

    opened, timed = (run(kind, "AAPL/1day", **asked) for kind in (AtTheOpen, ByTimer))

    assert opened.record["flow"].to_pylist() == [0, 500, 0, 0, 500, 0, 0, 0, 0, 0]
    # 50 shares at 11 on the second day, and 500 with it: 525 + 1,000; then 50 a day, and 500 more with the fifth.
    assert opened.equity.tolist() == [1000, 1525, 1575, 1625, 2175, 2225, 2275, 2325, 2375, 2425]
    assert timed.returns.tolist() == pytest.approx([0.0] * 10)
    assert timed.record["flow"].to_pylist() == [500.0] * 10


@pytest.mark.slow
def test_trades_in_other_orders_are_shares_of_the_account_that_there_was(store):
    class Trades(bt.Strategy):
        params = (("cash", 0),)

        def __init__(self):
            if self.p.cash:
                self.broker.set_cash(self.p.cash)

        def next(self):
            self.close() if self.position else self.buy(size=100)

    told, given = (
        run(Trades, "AAPL/1day", store=store, cash=cash, params={"cash": asked}).validity.orders
        for cash, asked in ((10_000, 0), (40_000, 10_000))
    )

    assert [one.drawdown for one in given] == [pytest.approx(one.drawdown) for one in told]
    assert [one.end for one in given] == [pytest.approx([4 * money for money in one.end]) for one in told]


def test_other_costs_leave_what_was_added_as_it_was(store):
    result = run(Invests, "AAPL/1day", store=store, cash=1000)

    free, same, _ = cost_cases(result)

    assert same.total_return == result.stats["total_return"]
    # Without the dollar that the purchase costs: 1,125 before the flow and 2,550 of 2,250 after it.
    assert free.total_return == pytest.approx(1.125 * 2550 / 2250 - 1)
    assert break_even_costs(result) == pytest.approx(1 + (2549 - 1000 - 1125))


def test_flows_are_taken_out_by_the_chain_of_the_parts_between_them():
    equity = np.array([110.0, 160.0, 80.0, 88.0])
    flows = np.array([0.0, 50.0, -80.0, 0.0])

    grown = without_flows(equity, flows, 100.0)

    # +10 %; 110 stays 110 before 50 come in; 160 stays 160 before 80 go; 80 becomes 88.
    assert grown.tolist() == pytest.approx([110.0, 110.0, 110.0, 121.0])


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_returns_do_not_depend_on_the_unit_of_money(scale):
    random = np.random.default_rng(1)
    equity, flows = random.uniform(50, 150, 40), random.choice([0.0, 0.0, 5.0, -5.0], 40)

    grown = without_flows(equity, flows, 100.0)

    assert without_flows(scale * equity, scale * flows, scale * 100.0) == pytest.approx(scale * grown)


def test_what_is_earned_by_an_account_without_money_has_no_return():
    assert np.isnan(without_flows(np.array([0.0, 5.0]), np.array([-100.0, 0.0]), 100.0)[1])


# --- the private parts of Backtrader that are relied on


def test_only_trading_setting_and_adding_move_the_cash_of_backtraders_broker():
    tree = ast.parse(textwrap.dedent(inspect.getsource(bt.brokers.BackBroker)))
    moving = {
        function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and node.attr == "cash" and isinstance(node.ctx, ast.Store)
        if isinstance(node.value, ast.Name) and node.value.id == "self"
    }

    assert moving == {"init", "set_cash", "next", "_execute", "_get_value"}


def test_what_is_added_waits_in_a_queue_until_the_value_is_asked_for():
    broker = bt.brokers.BackBroker()

    broker.add_cash(5)

    assert list(broker._cash_addition) == [5]
    assert broker._get_value() == 10_005
    assert not broker._cash_addition


def test_a_strategy_waits_in_a_list_of_one_with_its_arguments_and_loops_notify_by_one_method():
    cerebro = bt.Cerebro()

    cerebro.addstrategy(Holds, 1, a=2)

    assert cerebro.strats == [[(Holds, (1,), {"a": 2})]]
    assert callable(cerebro._brokernotify)
    assert callable(cerebro._runnext)
