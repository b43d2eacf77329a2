"""Orders that wait for feeds that stand still: Backtrader's Cerebro and ours, which tries them when a feed moves."""

import backtrader as bt
import pytest
from parity_queues import BY_PRICE, ENDED, LONG, MARKETS, buy_all, each_bar, waiting
from parity_strategies import QUIET
from parity_trading import assert_lean_and_same, trading


@pytest.mark.parametrize("seed", range(3))
def test_orders_wait_as_in_backtrader(seed):
    assert_lean_and_same(waiting(seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 10))
def test_more_orders_wait_as_in_backtrader(seed):
    assert_lean_and_same(waiting(seed))


KINDS = {
    "market": {}, "limit": {"exectype": bt.Order.Limit, "price": 1.0},
    "stop": {"exectype": bt.Order.Stop, "price": 999.0},
    "stop-limit": {"exectype": bt.Order.StopLimit, "price": 999.0, "plimit": 998.0},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_orders_of_an_ended_feed_are_tried_no_more(kind):
    """What is pending inside is what is tried; an order of the feed that has ended is not among it."""
    seen = []

    def look_at_the_queue(strategy):
        queue = vars(strategy.broker)["pending"]
        seen.append((len(queue), len(strategy.broker.get_orders_open())))

    steps = {12: lambda strategy: strategy.buy(data=strategy.datas[1], size=1, **KINDS[kind]), 30: look_at_the_queue}

    assert_lean_and_same(trading(steps, LONG, ENDED, eyes=QUIET))

    assert seen == [(1, 1), (0, 1)]  # Backtrader's own, then ours


@pytest.mark.parametrize("seed", range(2))
def test_orders_at_a_price_wait_as_in_backtrader(seed):
    assert_lean_and_same(waiting(seed, BY_PRICE))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 10))
def test_more_orders_at_a_price_wait_as_in_backtrader(seed):
    assert_lean_and_same(waiting(seed, BY_PRICE))


def test_who_looks_at_what_is_pending_sees_all_from_then_on():
    """A queue that a strategy keeps is to show what Backtrader's shows."""

    def keep(strategy):
        strategy.kept = strategy.broker.pending

    def tell(strategy):
        strategy.note("kept", [order.ref for order in strategy.kept])

    assert_lean_and_same(trading({**each_bar(buy_all), 14: keep, 20: tell, 21: tell, 33: tell}, *MARKETS, eyes=QUIET))
