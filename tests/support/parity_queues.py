"""Feeds that stand still or end while others go on, and a strategy that gives, cancels and looks at orders for them."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import backtrader as bt
from parity_markets import market
from parity_strategies import QUIET
from parity_trading import trading

LONG = market(7, 36, tick=0.25)
ENDED = LONG[:9]
HOLEY = [bar for number, bar in enumerate(market(7, 36, tick=0.25, start=20.0)) if number % 5 not in (2, 3)]
MARKETS = LONG, ENDED, HOLEY


def each_bar(act: Callable[[Any], None]) -> Mapping[int, Callable[[Any], None]]:
    return dict.fromkeys(range(2, 36), act)


def buy_all(strategy: Any) -> None:
    for data in strategy.datas:
        strategy.buy(data=data, size=1)


def waiting(seed: int, actions: Sequence[Any] = ()) -> Any:
    """Return what makes a Cerebro that does with each feed what chance says, and now and then something rare."""

    def act(strategy: Any) -> None:
        chance, given = vars(strategy).setdefault("plan", (random.Random(seed), []))
        for data in strategy.datas:
            for _ in range(chance.choice([0, 0, 1, 1, 2])):
                chance.choice(actions or ACTIONS)(strategy, data, chance, given)
        if chance.random() < 0.1:
            RARE[seed % len(RARE)](strategy, chance.choice(strategy.datas), chance, given)

    return trading(each_bar(act), *MARKETS, eyes=QUIET)


def at_market(strategy: Any, data: Any, chance: random.Random, given: list[Any]) -> None:
    given.append(chance.choice([strategy.buy, strategy.sell])(data=data, size=chance.randint(1, 4)))


def at_limit(strategy: Any, data: Any, chance: random.Random, given: list[Any]) -> None:
    price = data.close[0] * chance.uniform(0.9, 1.1)
    given.append(strategy.buy(data=data, size=1, exectype=bt.Order.Limit, price=price))


def at_a_price(strategy: Any, data: Any, chance: random.Random, given: list[Any]) -> None:
    """Give an order of any kind near the last price of its feed, some in its last bar, some for a few days."""
    kind = chance.choice([bt.Order.Limit, bt.Order.Stop, bt.Order.StopLimit, bt.Order.StopTrail, bt.Order.Close])
    price = data.close[0] * chance.choice([0.97, 0.99, 1.0, 1.0, 1.01, 1.03])
    words: dict[str, Any] = {"price": price} if kind not in (bt.Order.StopTrail, bt.Order.Close) else {}
    words |= {"plimit": price * chance.choice([0.98, 1.0, 1.02])} if kind == bt.Order.StopLimit else {}
    words |= {"trailamount": chance.choice([0.25, 1.0])} if kind == bt.Order.StopTrail else {}
    words |= (
        {"valid": strategy.datetime.date(0) + timedelta(days=chance.randint(1, 9))} if chance.random() < 0.2 else {}
    )
    words |= {"oco": given[-1]} if given and chance.random() < 0.2 and given[-1].alive() else {}
    give = chance.choice([strategy.buy, strategy.sell])
    given.append(give(data=data, size=chance.randint(1, 3), exectype=kind, **words))


def slip(strategy: Any, data: Any, chance: random.Random, given: list[Any]) -> None:
    strategy.broker.set_slippage_perc(chance.choice([0.0, 0.01]), slip_limit=chance.random() < 0.5)


def bracket(strategy: Any, data: Any, chance: random.Random, given: list[Any]) -> None:
    near = data.close[0]
    given += strategy.buy_bracket(
        data=data, size=1, exectype=bt.Order.Market, limitprice=near * 1.03, stopprice=near * 0.97
    )


def group(strategy: Any, data: Any, chance: random.Random, given: list[Any]) -> None:
    """Give orders of which one is to be filled, over several feeds."""
    first = strategy.buy(data=strategy.datas[2], size=1)
    others = [strategy.buy(data=other, size=1, oco=first) for other in (data, strategy.datas[1])]
    limit = strategy.sell(data=strategy.datas[0], exectype=bt.Order.Limit, price=1.0, size=1, oco=first)
    given += [first, *others, limit]


def family(strategy: Any, data: Any, chance: random.Random, given: list[Any]) -> None:
    """Give a child before its parent is sent, with another order between the two."""
    parent = strategy.buy(data=data, size=1, transmit=False)
    given += [parent, strategy.buy(data=strategy.datas[1], size=1), strategy.sell(data=data, size=1, parent=parent)]


def cancel(strategy: Any, data: Any, chance: random.Random, given: list[Any]) -> None:
    if given:
        strategy.cancel(chance.choice(given))


def look(strategy: Any, data: Any, chance: random.Random, given: list[Any]) -> None:
    waiting = strategy.broker.get_orders_open(safe=chance.random() < 0.3)
    strategy.note("open", [order and order.ref for order in waiting])


def look_inside(strategy: Any, data: Any, chance: random.Random, given: list[Any]) -> None:
    strategy.note("pending", [order.ref for order in strategy.broker.pending])


def copied(strategy: Any, data: Any, chance: random.Random, given: list[Any]) -> None:
    strategy.note("copied", [order.ref for order in copy.copy(strategy.broker).pending])


def cheat(strategy: Any, data: Any, chance: random.Random, given: list[Any]) -> None:
    chance.choice([strategy.broker.set_coc, strategy.broker.set_coo])(chance.random() < 0.5)


ACTIONS = [*[at_market] * 6, at_limit, bracket, cancel, cancel]
BY_PRICE = [*[at_a_price] * 8, at_market, bracket, cancel, cancel, slip]
RARE = [look, group, copied, cheat, family, look_inside]
