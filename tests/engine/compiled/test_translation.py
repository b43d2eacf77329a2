"""What of a strategy's code is compiled does the same as in the event engine, and what is not is refused by name."""

import random
import re

import backtrader as bt
import pytest
from compiled_check import differences, set_up_of
from compiled_strategies_of_tests import STRATEGIES, feeds

from backtest.engine.compiled.trials import run_trials

SLOW = {"dated", "guards", "collects", "alternatives", "reckons", "limits"}
ROWS = [pytest.param(*row[1:], id=row[0], marks=[pytest.mark.slow] * (row[0] in SLOW)) for row in STRATEGIES]


@pytest.mark.parametrize(("cls", "count", "params"), ROWS)
def test_compiled_code_does_the_same(cls, count, params):
    outcomes, differing = differences(cls, params, feeds(count), set_up_of("percent"))

    assert (outcomes.why_not, outcomes.left, differing) == ("", {}, {})
    assert len(outcomes.fills) >= 4


class KeepsANote(bt.Strategy):
    """Keeps an order as it was notified, whose status never changes."""

    order = None

    def notify_order(self, order):
        self.order = order

    def next(self):
        if self.order is None or self.order.status == 4:
            self.buy()


class SharedChance(bt.Strategy):
    """Draws from a generator that all trials share."""

    def next(self):
        if random.random() < 0.5:
            self.buy()


class KeepsALine(bt.Strategy):
    """Keeps a line, which moves on, where it means its value."""

    def next(self):
        if not self.position:
            self.paid = self.data.close
            self.buy()
        elif self.data.close[0] > self.paid * 1.01:
            self.close()


class PricedByALine(bt.Strategy):
    """Gives a line as a price: Backtrader reads it anew at each bar."""

    def next(self):
        self.buy(exectype=bt.Order.Limit, price=self.data.low)


class Calls(bt.Strategy):
    """Calls what nobody knows."""

    def next(self):
        if sorted([3, 1, 2])[0] < self.data.close[0]:
            self.buy(size=max([self.position.size, 1], key=abs))


class AsksOfCosts(bt.Strategy):
    """Asks the costs for more than what a unit is worth."""

    def next(self):
        self.buy(size=self.broker.getcommissioninfo(self.data).getsize(self.data.close[0], 1e4))


class TwoUnits(bt.Strategy):
    """Asks what two units are worth."""

    def next(self):
        if self.broker.getcommissioninfo(self.data).profitandloss(2, 0.0, self.data.close[0]) < 500.0:
            self.buy()


class AsksCerebro(bt.Strategy):
    """Has a timer that rings for all strategies."""

    def __init__(self):
        self.cerebro.add_timer(bt.Timer.SESSION_START, strats=True)

    def next(self):
        self.buy()


class RingsEarly(bt.Strategy):
    """Has a timer that rings before the broker acts."""

    def __init__(self):
        self.add_timer(bt.Timer.SESSION_START, cheat=True)

    def notify_timer(self, timer, when, *args, **kwargs):
        self.buy()


class AsksTimer(bt.Strategy):
    """Asks when its timer was to ring."""

    def start(self):
        self.add_timer(bt.Timer.SESSION_START)

    def notify_timer(self, timer, when):
        self.buy(size=when.hour)


class KeepsList(bt.Strategy):
    """Keeps prices in a list."""

    def __init__(self):
        self.prices = []

    def next(self):
        self.prices.append(self.data.close[0])
        if len(self.prices) > 3:
            self.buy()


class TellsTrades(bt.Strategy):
    """Has trades apart by numbers."""

    def next(self):
        self.buy(tradeid=len(self) % 2)


class SendsLater(bt.Strategy):
    """Decides in the run whether an order is sent."""

    def next(self):
        self.buy(transmit=self.data.close[0] > 20)


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (AsksCerebro, "__init__() uses self.cerebro."),
        (RingsEarly, "it has a timer that rings before the broker acts"),
        (AsksTimer, "the time that notify_timer() is given is used"),
        (KeepsList, "a number in the list self.prices"),
        (TellsTrades, "buy(tradeid=...)"),
        (SendsLater, "transmit that is not known before the run"),
        (AsksOfCosts, "it calls getsize() of the costs"),
        (TwoUnits, "it calls profitandloss() of the costs"),
        (KeepsANote, "status of an order as it was notified is used"),
        (SharedChance, "random() is called"),
        (KeepsALine, "a line is kept"),
        (PricedByALine, "a line is kept, or given to an order"),
        (Calls, "max() is called"),
    ],
)
def test_what_is_not_compiled_is_named_with_its_line(cls, said):
    why_not = run_trials(cls, [{}], feeds(1)(), set_up_of("none")).why_not

    assert said in why_not
    line = int(re.search(r":(\d+)", why_not)[1])
    with open(__file__, encoding="utf-8") as file:  # noqa: PTH123 - of this file
        text = file.read().splitlines()[line - 1]
    words = ("self.order.status == 4", "random.random", "max(", "self.paid =", "price=", "getcommissioninfo")
    words += ("def notify_timer", "when.hour")
    assert any(word in text for word in (*words, "add_timer", "self.prices.append", "tradeid", "transmit="))


class Hoards(bt.Strategy):
    """Keeps more orders in a list than there is room for."""

    def __init__(self):
        self.orders = []

    def next(self):
        self.orders.append(self.buy())
        if len(self.orders) > 20:
            self.close()


def test_a_trial_whose_list_of_orders_grows_too_long_is_left_to_the_event_engine():
    outcomes = run_trials(Hoards, [{}], feeds(1)(), set_up_of("none"))

    assert (outcomes.why_not, outcomes.left) == ("", {0: "it does something unexpected in a bar"})
