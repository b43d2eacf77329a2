"""Hundreds of random cases, the same with Backtrader and with us; and wrong Cerebros, each of which they tell."""

from datetime import timedelta
from functools import cache
from itertools import chain

import backtrader as bt
import pytest
from parity_check import Cerebro, difference, difference_of, outcome
from parity_markets import market
from parity_mutants import MUTANTS
from parity_random import case
from parity_trading import trading

pytestmark = pytest.mark.slow

TRIED = range(300)  # cases, among which a wrong Cerebro must be told; `make soak PART=parity` tries 20,000
SHARE = 100

# For those that few random cases come upon.
AIMED = {
    "sells slip from the low": trading(
        {4: lambda strategy: strategy.sell(exectype=bt.Order.Limit, price=strategy.data.close[0] * 0.8)},
        prepare=lambda cerebro: cerebro.broker.set_slippage_perc(0.1),
    ),
    "timers are not told": trading({}, prepare=lambda cerebro: cerebro.add_timer(bt.timer.SESSION_START, strats=True)),
    "next_open is not called": trading({}, cheat_on_open=True),
    "close orders forget the closing bar": trading(
        dict.fromkeys(range(3, 50, 5), lambda strategy: strategy.buy(exectype=bt.Order.Close)),
        market(3, 60, timedelta(hours=3)),
    ),
    "interest is forgotten": trading(
        {3: lambda strategy: strategy.sell()}, prepare=lambda cerebro: cerebro.broker.setcommission(interest=0.1)
    ),
}

stock = cache(lambda seed: outcome(case(seed), bt.Cerebro))


@pytest.mark.parametrize("first", TRIED[::SHARE])
def test_random_cases_do_not_differ(first):
    found = {seed: difference_of(stock(seed), outcome(case(seed), Cerebro)) for seed in range(first, first + SHARE)}

    assert {seed: text for seed, text in found.items() if text} == {}


def test_what_a_run_lets_go_of_is_missed_by_no_strategy():
    class Forgetting(Cerebro):
        forgets = True  # as in `backtest run`

    def seen(outcome_of_case):
        left = outcome_of_case["broker"]["account"], [one["analyzers"] for one in outcome_of_case["strategies"]]
        return repr((outcome_of_case["log"], outcome_of_case["ended"], left))

    tried = range(2_000, 2_100)

    assert [seed for seed in tried if seen(stock(seed)) != seen(outcome(case(seed), Forgetting))] == []


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_cerebro_is_told(name):
    aimed = [difference(AIMED[name], MUTANTS[name])] if name in AIMED else []
    random_ones = (difference_of(stock(seed), outcome(case(seed), MUTANTS[name])) for seed in TRIED)

    assert any(chain(aimed, random_ones))


def test_a_right_cerebro_is_not():
    class Other(bt.Cerebro):
        pass

    assert {difference_of(stock(seed), outcome(case(seed), Other)) for seed in TRIED[:40]} == {""}


def test_the_cases_reach_every_status_and_type_of_order():
    told = [note[3] for seed in TRIED for note in stock(seed)["log"] if note[1] == "order"]
    seen = {state for order in told for state in next(part for part in order if isinstance(part, tuple))[3:]}

    assert seen == {*bt.Order.ExecTypes, *bt.Order.Status} - {"Historical", "Created"}
