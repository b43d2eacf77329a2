"""A case for each wrong lean loop that few random cases come upon, aimed at what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import time, timedelta
from typing import Any

import backtrader as bt
from parity_check import Build
from parity_indicators import Nested
from parity_markets import market, rows
from parity_owned import (
    Ends,
    Mixed,
    Nosy,
    Notes,
    charging,
    clocked_by_a_later,
    made,
    make_late,
    of_class,
    owning,
    trade,
)
from parity_queues import waiting
from parity_random import Account, fail, stop_the_run
from parity_strategies import LOUD, QUIET
from parity_trading import BARS, OTHER, ready, trading, watched


class Waits(bt.Observer):
    """Tells the bars before the longest period from the others."""

    lines = ("phase",)

    def prenext(self):
        self.lines.phase[0] = -1.0

    def next(self):
        self.lines.phase[0] = 1.0


def inside(strategy: Any) -> list[Any]:
    """Return an indicator over one that is inside of another, which nobody moves, and one that moves as it likes."""
    nested = Nested(strategy.data)
    return [nested, bt.ind.SMA(nested.fast, period=2), *made("its own way to move")(strategy)[0]]


def in_and_out(strategy: Any) -> None:
    strategy.buy(size=2)
    strategy.sell(size=2)


def value_of_all(strategy: Any) -> None:
    strategy.note(strategy.broker.getvalue(strategy.datas[1:] * 2), strategy.broker.getvalue())


def hold(strategy: Any) -> None:
    for data in strategy.datas:
        (strategy.buy if len(strategy) % 8 < 5 else strategy.sell)(data=data, size=3)


def accounted(cerebro: Any) -> None:
    cerebro.addanalyzer(Account)


def seldom(strategy: Any, where: str) -> None:
    """Trade now and then, and look at nothing in between; the commission scheme asks for the value of the account."""
    if where == "init" or len(strategy) % 4 == 0:
        charging(Nosy)(strategy, where)


def group(strategy: Any) -> None:
    near = strategy.data.close[0]
    first = strategy.buy(exectype=bt.Order.Limit, price=near * 1.05)
    for away in (0.5, 0.6):
        strategy.buy(exectype=bt.Order.Limit, price=near * away, oco=first)


def late_average(strategy: Any) -> None:
    strategy.made.append(bt.ind.SMA(strategy.data, period=3))


def buy_at_the_average(strategy: Any) -> None:
    strategy.buy(exectype=bt.Order.Limit, price=strategy.made[0])


def early_session(make: type[bt.Cerebro]) -> Any:
    """Return a Cerebro with orders of kind Close, given after the session's end and before."""
    cerebro = ready(make, rows(market(3, 60, timedelta(hours=3)), sessionend=time(12, 0)))
    return watched(cerebro, LOUD, dict.fromkeys(range(3, 50, 5), lambda s: s.buy(exectype=bt.Order.Close)))


AIMED: Mapping[str, Build] = {
    "orders whose feed moves wait on": waiting(9),
    "orders come back behind all others": waiting(0),
    "orders that are not accepted in turn are parked": waiting(4),
    "indicators move before the broker works": owning(made("an average"), act=charging(Nosy)),
    "the strategy moves before the broker works": owning(made("an average"), act=charging(Nosy)),
    "the value is that of the bar that is about to come": owning(made("an average"), act=seldom, look=None),
    "the strategy moves before late indicators": owning(
        lambda strategy: [*made("an average")(strategy), *made("its own way to move")(strategy)]
    ),
    "late indicators stand still": owning(inside),
    "those that move in their own way are led": owning(inside),
    "indicators that are made in mid-run stand still": owning(made("an average"), act=make_late),
    "an indicator finds that a later one has moved": owning(clocked_by_a_later),
    "the stamps are the first line": of_class(Mixed, BARS),
    "it goes on when it is stopped": trading({9: stop_the_run}, BARS, OTHER),
    "a plain run goes on when it is stopped": trading({9: stop_the_run}),
    "a plain run leaves late indicators where they are": trading({9: late_average}),
    "indicators of a plain run move before the broker works": trading(
        dict.fromkeys(range(5, 25, 3), buy_at_the_average), indicators=lambda s: [bt.ind.SMA(s.data, period=3)]
    ),
    "the account of a plain run is not noted": trading(
        {3: hold, 9: lambda strategy: strategy.broker.add_cash(250), 14: hold}, eyes=QUIET, prepare=accounted
    ),
    "it goes on when a commission scheme stops it": owning(
        made("an average"), act=charging(Ends, way=stop_the_run), prepare=lambda cerebro: None
    ),
    "an exception of the broker finds the work done": owning(made("an average"), act=charging(Ends, way=fail)),
    "observers always hear that the period is over": trading(
        {}, prepare=lambda cerebro: cerebro.addobserver(Waits), indicators=lambda s: [bt.ind.SMA(s.data, period=6)]
    ),
    "analyzers are called before the strategy": owning(
        made("an average"),
        act=lambda strategy, where: where == "next" and strategy.lines.own.set(float(len(strategy))),
        prepare=lambda cerebro: cerebro.addanalyzer(Notes),
    ),
    "the account is noted after all analyzers": trading(
        {3: hold, 9: lambda strategy: strategy.broker.add_cash(250)},
        eyes=QUIET,
        prepare=lambda cerebro: [accounted(cerebro), cerebro.addanalyzer(bt.analyzers.PositionsValue)],
    ),
    "analyzers hear of no trade": trading(
        {3: in_and_out, 9: hold, 15: hold}, prepare=lambda cerebro: cerebro.addanalyzer(bt.analyzers.TradeAnalyzer)
    ),
    "analyzers hear of no cash": trading(
        dict.fromkeys(range(3, 20, 4), hold),
        eyes=QUIET,
        prepare=lambda cerebro: cerebro.addanalyzer(bt.analyzers.DrawDown),
    ),
    "a bar without a close leaves the account still": trading(
        dict.fromkeys(range(3, 30, 4), hold), market(5, 30, hole=0.3), eyes=QUIET, prepare=accounted
    ),
    "short sales bring their cash": trading(
        {3: lambda strategy: strategy.sell(size=5)},
        eyes=QUIET,
        prepare=lambda cerebro: [accounted(cerebro), cerebro.broker.set_shortcash(False)],
    ),
    "interest is forgotten": trading(
        {3: lambda strategy: strategy.sell()}, prepare=lambda cerebro: cerebro.broker.setcommission(interest=0.1)
    ),
    "margins are forgotten": trading(
        {3: hold}, prepare=lambda cerebro: cerebro.broker.setcommission(2.0, margin=40.0, mult=5.0)
    ),
    "an opened position is adjusted to the close": trading(dict.fromkeys(range(3, 20, 4), in_and_out)),
    "the check forgets the commission": trading(
        {3: lambda strategy: strategy.buy(size=10_000 // strategy.data.close[0])},
        prepare=lambda cerebro: cerebro.broker.setcommission(0.05),
    ),
    "the value of several feeds leaves the account alone": trading({3: hold, 9: value_of_all}, BARS, OTHER, eyes=QUIET),
    "a limit without a price takes the close": trading(
        {5: lambda strategy: strategy.buy(exectype=bt.Order.Limit, plimit=strategy.data.close[0] * 0.98)}
    ),
    "nothing is raised by a division by nought": trading(
        {}, market(3, 30, flat=0.5), indicators=lambda s: [s.data.close / (s.data.high - s.data.low)]
    ),
    "a crossing forgets what was below": trading(
        {}, market(3, 60), indicators=lambda s: [bt.ind.CrossOver(s.data, bt.ind.SMA(s.data, period=3))]
    ),
    "equity is a plain sum": trading(
        dict.fromkeys(range(3, 30, 4), hold),
        BARS,
        OTHER,
        eyes=QUIET,
        prepare=lambda cerebro: [
            accounted(cerebro),
            cerebro.broker.setcommission(0.001, leverage=3.0, stocklike=True),
        ],
    ),
    "the first fill of a bar counts": trading(
        dict.fromkeys(range(3, 30, 3), in_and_out), eyes=QUIET, prepare=accounted
    ),
    "cash is noted a bar late": trading(dict.fromkeys(range(3, 30, 4), hold), eyes=QUIET, prepare=accounted),
    "what was noted begins a bar late": trading(
        {3: hold, 9: lambda strategy: strategy.broker.add_cash(250), 14: hold}, eyes=QUIET, prepare=accounted
    ),
    "groups are forgotten": trading({3: group, 9: group}),
    "a day's order ends with its bar": trading(
        {3: lambda s: s.buy(exectype=bt.Order.Limit, price=1.0, valid=timedelta())}, market(3, 40, timedelta(hours=1))
    ),
    "a session ends on the day before": early_session,
    "own lines keep their last value": owning(
        made("an average"),
        act=lambda strategy, where: [
            trade(strategy, where),
            where == "next" and len(strategy) % 3 == 0 and strategy.lines.own.set(float(len(strategy))),
        ],
    ),
}
