"""Orders that wait for feeds that stand still: Backtrader's Cerebro and ours, which tries them when a feed moves."""

import pytest
from parity_queues import ENDED, LONG, MARKETS, buy_all, each_bar, waiting
from parity_strategies import QUIET
from parity_trading import assert_lean_and_same, trading


@pytest.mark.parametrize("seed", range(3))
def test_orders_wait_as_in_backtrader(seed):
    assert_lean_and_same(waiting(seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 10))
def test_more_orders_wait_as_in_backtrader(seed):
    assert_lean_and_same(waiting(seed))


def test_orders_of_an_ended_feed_are_tried_no_more():
    """What is pending inside is what is tried; an order of the feed that has ended is not among it."""
    seen = []

    def look_at_the_queue(strategy):
        queue = vars(strategy.broker)["pending"]
        seen.append((len(queue), len(strategy.broker.get_orders_open())))

    steps = {12: lambda strategy: strategy.buy(data=strategy.datas[1], size=1), 30: look_at_the_queue}

    assert_lean_and_same(trading(steps, LONG, ENDED, eyes=QUIET))

    assert seen == [(1, 1), (0, 1)]  # Backtrader's own, then ours


def test_who_looks_at_what_is_pending_sees_all_from_then_on():
    """A queue that a strategy keeps is to show what Backtrader's shows."""

    def keep(strategy):
        strategy.kept = strategy.broker.pending

    def tell(strategy):
        strategy.note("kept", [order.ref for order in strategy.kept])

    assert_lean_and_same(trading({**each_bar(buy_all), 14: keep, 20: tell, 21: tell, 33: tell}, *MARKETS, eyes=QUIET))
