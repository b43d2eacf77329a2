"""Orders and accounts: Backtrader's Cerebro and ours, compared to the last bit."""

from datetime import timedelta
from fractions import Fraction
from itertools import product

import backtrader as bt
import numpy as np
import pytest
from parity_markets import Bar, market
from parity_strategies import LOUD, QUIET
from parity_trading import BARS, OTHER, assert_same, trading

from backtest.engine.account.commissions import COSTS

Order = bt.Order
EVERY_FEW = range(2, 28, 3)


@pytest.fixture(params=[LOUD, QUIET], ids=["watched", "unwatched"])
def eyes(request):
    return request.param


def buying(**words):
    return lambda strategy: strategy.buy(**words)


def both_ways(size=10, **words):
    """Buy and sell in turn, prices given as a share of the close."""

    def step(strategy):
        asked = {
            name: value * strategy.data.close[0] if name.endswith(("price", "limit")) else value
            for name, value in words.items()
        }
        (strategy.buy if len(strategy) % 2 else strategy.sell)(size=size, **asked)

    return step


def often(step):
    return dict.fromkeys(EVERY_FEW, step)


# -- every order type --------------------------------------------------------------------------------------------


def test_market_orders_fill_at_the_next_open(eyes):
    assert_same(trading(often(both_ways()), eyes=eyes), "Completed")


def test_close_orders_fill_past_the_end_of_the_session(eyes):
    minutes = market(3, 60, timedelta(hours=3))

    assert_same(trading(often(both_ways(exectype=Order.Close)), minutes, eyes=eyes), "Completed")


@pytest.mark.slow
@pytest.mark.parametrize("away", [0.97, 0.99, 1.0, 1.01, 1.03])
def test_limit_orders_on_either_side_of_the_market(eyes, away):
    assert_same(trading(often(both_ways(exectype=Order.Limit, price=away)), eyes=eyes), "Limit")


@pytest.mark.parametrize("away", [0.97, 0.99, 1.0, 1.01, 1.03])
def test_stop_orders_on_either_side_of_the_market(eyes, away):
    assert_same(trading(often(both_ways(exectype=Order.Stop, price=away)), eyes=eyes), "Completed")


@pytest.mark.parametrize("stop", [0.98, 1.0, 1.01])
@pytest.mark.parametrize("limit", [0.98, 0.995, 1.0, 1.005, 1.02])
def test_stop_limit_orders_fill_inside_the_bar_in_some_cases_only(eyes, stop, limit):
    step = both_ways(exectype=Order.StopLimit, price=stop, plimit=limit)

    assert_same(trading(often(step), eyes=eyes), "StopLimit")


@pytest.mark.parametrize("trail", [{"trailamount": 0.5}, {"trailpercent": 0.02}, {"trailamount": 2.0}, {}], ids=str)
def test_trailing_stops_move_after_each_try(eyes, trail):
    assert_same(trading(often(both_ways(exectype=Order.StopTrail, **trail)), eyes=eyes), "StopTrail")


@pytest.mark.parametrize("limit", [0.99, 1.0, 1.01])
def test_trailing_stop_limits_carry_their_limit_along(eyes, limit):
    step = both_ways(exectype=Order.StopTrailLimit, trailamount=0.75, price=1.0, plimit=limit)

    assert_same(trading(often(step), eyes=eyes), "StopTrailLimit")


@pytest.mark.parametrize("plimit", [0.98, 1.02])
def test_a_limit_without_a_price_sets_both(eyes, plimit):
    assert_same(trading(often(both_ways(exectype=Order.Limit, plimit=plimit)), eyes=eyes), "Limit")


# -- how long an order is good -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "valid",
    [0, 0.0, 3, 2.5, timedelta(0), timedelta(days=3), timedelta(hours=30), "date", "time", "past", "number"],
    ids=str,
)
@pytest.mark.parametrize("kind", [Order.Market, Order.Limit, Order.Stop, Order.StopTrail, Order.Close])
def test_orders_expire_by_every_kind_of_validity(valid, kind):
    def step(strategy):
        now = strategy.data.datetime
        until = {
            "date": now.date() + timedelta(days=2),
            "time": now.datetime() + timedelta(days=2, hours=1),
            "past": now.datetime() - timedelta(days=1),
            "number": now[0] + 2.5,
        }.get(valid, valid)
        strategy.buy(size=1, exectype=kind, price=strategy.data.close[0] * 0.9, valid=until, trailamount=1.0)

    assert_same(trading({3: step, 9: step, 20: step}), "Accepted")


def test_expired_and_cancelled_orders_are_told_one_bar_later(eyes):
    def order(strategy):
        strategy.far = strategy.buy(exectype=Order.Limit, price=1.0)
        strategy.buy(exectype=Order.Limit, price=1.0, valid=timedelta(days=1))

    steps = {3: order, 6: lambda strategy: strategy.cancel(strategy.far)}

    assert_same(trading(steps, eyes=eyes), "Canceled", "Expired")


def test_a_cancel_at_the_last_bar_is_never_told(eyes):
    def order(strategy):
        strategy.far = strategy.buy(exectype=Order.Limit, price=1.0)

    assert_same(trading({25: order, 30: lambda strategy: strategy.cancel(strategy.far)}, eyes=eyes), "Canceled")


def test_an_order_cancelled_before_it_was_accepted_or_twice(eyes):
    def order(strategy):
        strategy.far = strategy.buy(exectype=Order.Limit, price=1.0)
        strategy.note("at once", strategy.broker.cancel(strategy.far))

    def again(strategy):
        strategy.note("again", strategy.broker.cancel(strategy.far), strategy.far.alive())

    assert_same(trading({3: order, 5: again, 6: again}, eyes=eyes), "at once", "again")


# -- orders that belong together ---------------------------------------------------------------------------------


@pytest.mark.parametrize("away", [0.005, 0.02, 0.2])
def test_one_fill_cancels_the_others_of_its_group(eyes, away):
    def step(strategy):
        close = strategy.data.close[0]
        leader = strategy.buy(exectype=Order.Limit, price=close * (1 - away))
        strategy.buy(exectype=Order.Stop, price=close * (1 + away), oco=leader)
        strategy.sell(exectype=Order.Limit, price=close * (1 + away), oco=leader)

    assert_same(trading(often(step), eyes=eyes), "Accepted")


def test_a_cancelled_leader_takes_its_group_along(eyes):
    def group(strategy):
        strategy.leader = strategy.buy(exectype=Order.Limit, price=1.0)
        strategy.second = strategy.buy(exectype=Order.Limit, price=1.1, oco=strategy.leader)
        strategy.buy(exectype=Order.Limit, price=1.2, oco=strategy.second)

    assert_same(trading({3: group, 6: lambda strategy: strategy.cancel(strategy.second)}, eyes=eyes), "Canceled")


@pytest.mark.parametrize("way", ["buy_bracket", "sell_bracket"])
@pytest.mark.parametrize("away", [0.003, 0.01, 0.05])
@pytest.mark.parametrize("entry", [Order.Market, Order.Limit, Order.Stop, Order.StopTrail])
def test_brackets_open_and_close(way, away, entry):
    def step(strategy):
        close, sign = strategy.data.close[0], 1 if way == "buy_bracket" else -1
        getattr(strategy, way)(
            size=5,
            exectype=entry,
            price=close,
            limitprice=close * (1 + sign * away),
            stopprice=close * (1 - sign * away),
            **({"trailamount": 0.5} if entry == Order.StopTrail else {}),
        )

    assert_same(trading(dict.fromkeys(range(2, 28, 6), step)), "Accepted")


def test_a_bracket_with_a_trailing_stop_and_one_without_a_limit(eyes):
    def step(strategy):
        strategy.buy_bracket(size=5, exectype=Order.Market, stopexec=Order.StopTrail, stopargs={"trailamount": 1.0})
        strategy.buy_bracket(size=5, exectype=Order.Market, limitexec=None, stopprice=strategy.data.close[0] * 0.99)

    assert_same(trading({3: step, 15: step}, eyes=eyes), "Completed")


def test_children_wait_for_their_parent_and_for_transmission(eyes):
    def step(strategy):
        close = strategy.data.close[0]
        parent = strategy.buy(exectype=Order.Limit, price=close * 0.99, transmit=False)
        strategy.sell(exectype=Order.Stop, price=close * 0.97, parent=parent, transmit=False)
        strategy.sell(exectype=Order.Limit, price=close * 1.02, parent=parent, transmit=len(strategy) != 9)

    assert_same(trading({3: step, 9: step, 15: step}, eyes=eyes), "Completed", "Canceled")


@pytest.mark.parametrize("away", [-0.02, 0.0, 0.01])
@pytest.mark.parametrize("kind", [Order.Market, Order.Limit, Order.Stop, Order.StopLimit])
@pytest.mark.parametrize("joined", [False, True])
def test_each_child_that_is_transmitted_sends_parent_and_children_again(kind, away, joined):
    def step(strategy):
        close = strategy.data.close[0]
        parent = strategy.buy(exectype=kind, price=close * (1 + away), plimit=close * 1.01, transmit=False)
        stop = strategy.sell(exectype=Order.Stop, price=close * 0.97, parent=parent)
        strategy.sell(exectype=Order.Limit, price=close * 1.02, parent=parent, **({"oco": stop} if joined else {}))

    assert_same(trading({3: step, 15: step}), "Accepted")


def test_a_parent_that_was_sent_is_sent_again_with_its_child(eyes):
    def step(strategy):
        parent = strategy.buy(exectype=Order.Limit, price=strategy.data.close[0] * 0.99)
        strategy.sell(exectype=Order.Stop, price=strategy.data.close[0] * 0.97, parent=parent)

    assert_same(trading({3: step, 15: step}, eyes=eyes), "Completed")


@pytest.mark.parametrize("again", ["submit", "transmit"])
@pytest.mark.parametrize("where", ["start", 3])
@pytest.mark.parametrize("kind", [Order.Market, Order.Limit])
def test_an_order_sent_again_is_there_twice(again, where, kind):
    def step(strategy):
        order = strategy.buy(exectype=kind, price=97.0)
        getattr(strategy.broker, again)(order)

    assert_same(trading({where: step}), "Accepted")


def test_children_of_a_parent_without_cash_are_turned_away(eyes):
    def step(strategy):
        strategy.parent = strategy.buy(size=10_000, transmit=False)
        strategy.sell(exectype=Order.Stop, price=1.0, parent=strategy.parent)

    def late(strategy):
        strategy.sell(exectype=Order.Stop, price=1.0, parent=strategy.parent)

    assert_same(trading({3: step, 6: late}, eyes=eyes), "Margin", "Rejected")


def test_a_cancelled_parent_takes_its_children_along(eyes):
    def step(strategy):
        strategy.orders = strategy.buy_bracket(price=1.0, stopprice=0.5, limitprice=2.0, exectype=Order.Limit)

    cancels = {5: lambda strategy: strategy.cancel(strategy.orders[0])}

    assert_same(trading({3: step, 12: step, **cancels, 15: lambda s: s.cancel(s.orders[2])}, eyes=eyes), "Canceled")


# -- targets, sizes, names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [{}, {"exectype": Order.Limit, "price": 49.0}, {"exectype": Order.Stop, "price": 51.0}]
)
@pytest.mark.parametrize("way", ["size", "value", "percent"])
def test_targets_are_reached_from_any_position(eyes, way, words):
    targets = {"size": [5, -5, 0, 12], "value": [900.0, -400.0, 0.0, 2_000.0], "percent": [0.3, -0.2, 0.0, 0.9]}[way]
    steps = {
        n: lambda strategy, target=target: getattr(strategy, f"order_target_{way}")(target=target, **words)
        for n, target in zip(range(3, 28, 3), targets * 3, strict=False)
    }

    assert_same(trading(steps, eyes=eyes), "Accepted")


def test_closing_a_position_with_and_without_words(eyes):
    steps = {
        3: buying(size=7),
        6: lambda strategy: strategy.close(),
        9: lambda strategy: strategy.close(),
        12: buying(size=9),
        15: lambda strategy: strategy.close(size=4),
        18: lambda strategy: strategy.close(exectype=Order.Limit, price=strategy.data.close[0]),
        21: lambda strategy: strategy.order_target_percent(target=0.0, exectype=Order.Limit, price=40.0),
    }

    assert_same(trading(steps, eyes=eyes), "Completed")


@pytest.mark.parametrize(
    ("sizer", "words"),
    [
        (bt.sizers.FixedSize, {"stake": 3}),
        (bt.sizers.FixedSize, {"stake": 9, "tranches": 3}),
        (bt.sizers.FixedReverser, {"stake": 4}),
        (bt.sizers.FixedSizeTarget, {"stake": 6}),
        (bt.sizers.PercentSizer, {"percents": 30}),
        (bt.sizers.PercentSizerInt, {"percents": 30}),
        (bt.sizers.AllInSizer, {}),
        (bt.sizers.AllInSizerInt, {}),
    ],
)
def test_sizers_see_the_same_cash_and_position(eyes, sizer, words):
    def prepare(cerebro):
        cerebro.addsizer(sizer, **words)
        cerebro.broker.setcommission(0.001)

    steps = {
        3: buying(),
        6: buying(),
        9: lambda s: s.sell(),
        12: lambda s: s.sell(),
        15: lambda s: s.close(),
        18: buying(),
    }

    assert_same(trading(steps, eyes=eyes, prepare=prepare), "Accepted")


def test_a_sizer_changed_on_the_way_and_sizes_of_nought(eyes):
    def change(strategy):
        strategy.setsizer(bt.sizers.PercentSizer(percents=50))

    steps = {3: buying(), 4: change, 5: buying(), 7: buying(size=0), 8: lambda s: s.note(s.getsizing(isbuy=False))}

    assert_same(trading(steps, eyes=eyes), "Completed")


def test_trades_are_kept_apart_by_their_number(eyes):
    steps = {
        3: buying(size=5, tradeid=1),
        5: buying(size=3, tradeid=2),
        8: lambda strategy: strategy.sell(size=8, tradeid=1),
        11: lambda strategy: strategy.close(tradeid=2),
        13: lambda strategy: strategy.sell(size=4),
        16: lambda strategy: strategy.buy(size=8),
    }

    assert_same(trading(steps, eyes=eyes, tradehistory=True), "Completed")
    assert_same(trading(steps, eyes=eyes), "Completed")


def test_orders_carry_words_of_their_own(eyes):
    def ask(strategy):
        order = strategy.buy(size=2, name="entry", level=3.5)
        order.addinfo(later="yes")

    assert_same(trading({3: ask, 9: ask}, eyes=eyes), "'entry'", "'yes'")


def test_hundreds_of_orders_at_one_bar(eyes):
    def many(strategy):
        close = strategy.data.close[0]
        for n in range(300):
            kind = [Order.Market, Order.Limit, Order.Stop][n % 3]
            (strategy.buy if n < 150 else strategy.sell)(
                size=8 + n % 5, exectype=kind, price=close * (1 + (n - 150) / 5_000)
            )

    bars = [bar._replace(open=bar.open * 9) for bar in BARS[:12]]

    assert_same(trading({4: many}, bars, eyes=eyes), "Completed", "Margin")


ODD = {
    "line": lambda data: data.close,
    "feed": lambda data: data,
    "single": lambda data: np.float32(data.close[0]),
    "whole": lambda data: np.int64(data.close[0]),
}


@pytest.mark.parametrize("number", ODD)
@pytest.mark.parametrize("kind", [Order.Market, Order.Limit, Order.Stop, Order.StopLimit])
def test_prices_that_are_lines_or_of_other_kinds_of_numbers(kind, number):
    def step(strategy):
        price = ODD[number](strategy.data)
        (strategy.sell if len(strategy) % 2 else strategy.buy)(size=3, exectype=kind, price=price, plimit=price)

    assert_same(trading(often(step)), "Completed")


@pytest.mark.parametrize("size", [np.float32(1.1), np.int8(100), np.float64(0.3), True, Fraction(1, 3)], ids=repr)
@pytest.mark.parametrize("kind", [Order.Market, Order.Limit])
def test_sizes_of_other_kinds_of_numbers(kind, size):
    assert_same(trading(often(both_ways(size, exectype=kind, price=1.0))), "Completed")


# -- when orders are given ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["init", "start", "prenext", "nextstart", "notify_order", "notify_trade", "stop"])
def test_orders_given_anywhere(eyes, where):
    def once(strategy):
        if not getattr(strategy, "given", False):
            strategy.given = True
            strategy.buy(size=2)

    steps = {where: once, 9: buying(size=1), 12: lambda s: s.close(), "prenext": once if where == "prenext" else None}
    steps = {key: step for key, step in steps.items() if step}
    if where in ("prenext", "nextstart"):
        steps[3] = steps.pop(where) if where == "prenext" else steps[where]

    assert_same(trading(steps, eyes=eyes, indicators=lambda s: [bt.ind.SMA(s.data, period=5)]))


def test_orders_of_one_bar_answer_to_those_before(eyes):
    """An order given in notify_order, at the bar of its fill, is checked and filled one bar later."""

    def answer(strategy):
        if strategy.told[-1].status == Order.Completed and len(strategy) < 25:
            strategy.sell(size=2) if strategy.position.size > 0 else strategy.buy(size=3)

    assert_same(trading({3: buying(size=1), "notify_order": answer}, eyes=eyes), "Completed")


# -- cash --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("cash", [100, 499, 500.0, 1_000, 2_345.67])
@pytest.mark.parametrize("checksubmit", [True, False])
def test_orders_are_refused_for_want_of_cash(eyes, cash, checksubmit):
    def batch(strategy):
        for size in (4, 48, 1, 16):
            strategy.buy(size=size)
        strategy.sell(size=90)
        strategy.buy(size=60, exectype=Order.Limit, price=strategy.data.close[0] * 0.98)

    def prepare(cerebro):
        cerebro.broker.setcash(cash)
        cerebro.broker.set_checksubmit(checksubmit)
        cerebro.broker.setcommission(0.002)

    assert_same(trading(often(batch), eyes=eyes, prepare=prepare), "Margin")


def test_a_reversal_may_close_and_be_refused_its_opening(eyes):
    opens = [100.0, 100.0, 100.0, 100.0, 390.0, 390.0, 390.0, 390.0]
    bars = [Bar(bar.time, one, one + 1, one - 1, one, 9.0, 0.0) for bar, one in zip(BARS, opens, strict=False)]
    steps = {2: lambda strategy: strategy.sell(size=2), 4: buying(size=30)}

    def prepare(cerebro):
        cerebro.broker.setcash(5_000.0)

    assert_same(trading(steps, bars, eyes=eyes, prepare=prepare), "Partial", "Margin")


def test_cash_added_taken_and_set_on_the_way(eyes):
    steps = {
        3: lambda s: s.broker.add_cash(500),
        5: buying(size=3),
        8: lambda s: s.broker.add_cash(-250.5),
        9: lambda s: s.note(s.broker.getvalue([s.data]), s.broker.getcash()),
        12: lambda s: s.broker.set_cash(777),
        13: lambda s: s.note(s.broker.getvalue(), s.broker.startingcash),
        15: lambda s: s.broker.add_cash(0.1),
    }

    assert_same(trading(steps, eyes=eyes), "Completed")


def test_cash_that_is_taken_pays_for_the_next_bar_even_where_a_filler_decides(eyes):
    def take_and_buy(strategy):
        strategy.broker.add_cash(-9_500)
        strategy.buy(size=30)

    def fill_all(strategy):
        strategy.broker.set_filler(lambda order, price, ago: abs(order.executed.remsize))

    assert_same(trading({2: fill_all, 3: take_and_buy, 6: take_and_buy}, eyes=eyes), "Completed", "Margin")


@pytest.mark.parametrize("shortcash", [True, False])
@pytest.mark.parametrize("int2pnl", [True, False])
def test_shorting_and_its_interest(eyes, shortcash, int2pnl):
    def prepare(cerebro):
        cerebro.broker.set_shortcash(shortcash)
        cerebro.broker.set_int2pnl(int2pnl)
        cerebro.broker.setcommission(0.001, interest=0.07, interest_long=True)

    steps = {3: lambda s: s.sell(size=20), 9: lambda s: s.close(), 12: buying(size=40), 20: lambda s: s.sell(size=70)}

    assert_same(trading(steps, eyes=eyes, prepare=prepare), "Completed")


def test_interest_of_short_positions_only(eyes):
    def prepare(cerebro):
        cerebro.broker.setcommission(interest=0.2)

    steps = {3: lambda s: s.sell(size=20), 9: lambda s: s.close(), 12: buying(size=40), 20: lambda s: s.sell(size=70)}

    assert_same(trading(steps, eyes=eyes, prepare=prepare), "Completed")


SCHEMES = {
    "percent": {"commission": 0.0015},
    "percent as written": {
        "commission": 0.15,
        "percabs": False,
        "commtype": bt.CommInfoBase.COMM_PERC,
        "stocklike": True,
    },
    "fixed": {"commission": 1.5, "commtype": bt.CommInfoBase.COMM_FIXED, "stocklike": True},
    "futures": {"commission": 2.0, "margin": 400.0, "mult": 10.0},
    "futures by multiple": {"commission": 2.0, "automargin": 5, "mult": 10.0},
    "futures by price": {"commission": 2.0, "automargin": -1, "mult": 10.0},
    "leverage": {"commission": 0.001, "leverage": 4.0, "stocklike": True},
    "leveraged futures": {"commission": 2.0, "margin": 400.0, "mult": 10.0, "leverage": 2.0},
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_commission_schemes(eyes, scheme):
    def prepare(cerebro):
        cerebro.broker.setcommission(**SCHEMES[scheme])

    steps = {
        3: buying(size=3),
        6: buying(size=2),
        9: lambda s: s.sell(size=9),
        15: lambda s: s.close(),
        20: buying(size=1),
    }

    assert_same(trading(steps, eyes=eyes, prepare=prepare), "Completed")


@pytest.mark.parametrize("name", COSTS)
def test_our_own_costs(eyes, name):
    def prepare(cerebro):
        cerebro.broker.addcommissioninfo(COSTS[name].make())

    assert_same(trading(often(both_ways(30)), eyes=eyes, prepare=prepare), "Completed")


@pytest.mark.slow
def test_a_scheme_for_each_feed_and_one_changed_on_the_way(eyes):
    def prepare(cerebro):
        cerebro.broker.setcommission(0.001)
        cerebro.broker.setcommission(2.0, margin=100.0, mult=5.0, name="d1")

    steps = {
        4: lambda s: (s.buy(size=3), s.buy(data=s.data1, size=2)),
        9: lambda s: s.broker.setcommission(0.05),
        12: lambda s: (s.sell(size=5), s.sell(data=s.data1, size=5)),
        14: lambda s: s.broker.setcommission(9.0, margin=50.0, mult=2.0, name="d1"),
        17: lambda s: (s.close(), s.close(data=s.data1)),
    }

    assert_same(trading(steps, BARS, OTHER, eyes=eyes, prepare=prepare), "Completed")


def test_a_scheme_written_by_the_user(eyes):
    class Odd(bt.CommInfoBase):
        params = (("stocklike", True), ("commtype", bt.CommInfoBase.COMM_PERC))

        def getsize(self, price, cash):
            return cash // price - 1

        def getoperationcost(self, size, price):
            return abs(size) * price * 1.01

        def profitandloss(self, size, price, newprice):
            return size * (newprice - price) * 0.99

        def _getcommission(self, size, price, pseudoexec):
            return abs(size) * 0.07 + 0.3 * (not pseudoexec)

    def prepare(cerebro):
        cerebro.broker.addcommissioninfo(Odd())
        cerebro.addsizer(bt.sizers.AllInSizer)

    steps = {3: buying(), 9: lambda s: s.close(), 12: lambda s: s.sell(size=5), 15: buying(size=8)}

    assert_same(trading(steps, eyes=eyes, prepare=prepare), "Completed")


# -- slippage, fillers and the broker's other switches -----------------------------------------------------------


SLIPPAGES = (("perc", 0.004), ("perc", 0.05), ("fixed", 0.3))
SLIPS = ("slip_open", "slip_limit", "slip_match", "slip_out")


def slippages():
    """Return each slippage with all settings of its switches; of a setting two of the three are left to soak."""
    found = []
    for setting in product([True, False], repeat=len(SLIPS)):
        for number, way in enumerate(SLIPPAGES):
            marks = () if number == sum(setting) % len(SLIPPAGES) else pytest.mark.soak
            on = "-".join(name for name, given in zip(SLIPS, setting, strict=True) if given)
            found.append(pytest.param(way, setting, marks=marks, id=f"{way[0]}-{way[1]}-{on or 'none'}"))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("way", "setting"), slippages())
def test_slippage(way, setting):
    def prepare(cerebro):
        switches = dict(zip(SLIPS, setting, strict=True))
        getattr(cerebro.broker, f"set_slippage_{way[0]}")(way[1], **switches)

    def step(strategy):
        close, give = strategy.data.close[0], (strategy.buy, strategy.sell)[len(strategy) % 2]
        give(size=2)
        give(size=3, exectype=Order.Limit, price=close * 1.005)
        give(size=3, exectype=Order.Limit, price=close * 0.995)
        give(size=1, exectype=Order.Stop, price=close)
        give(size=1, exectype=Order.StopLimit, price=close, plimit=close * 1.002)

    assert_same(trading(often(step), prepare=prepare), "Completed")


@pytest.mark.parametrize(
    "filler",
    [
        bt.broker.fillers.FixedSize(size=3),
        bt.broker.fillers.FixedBarPerc(perc=0.5),
        bt.broker.fillers.BarPointPerc(minmov=0.25, perc=2.0),
        lambda order, price, ago: 2,
    ],
)
def test_orders_filled_in_parts(eyes, filler):
    thin = market(5, 30, tick=0.25)

    assert_same(
        trading(often(both_ways(20)), thin, eyes=eyes, prepare=lambda c: c.broker.set_filler(filler)), "Partial"
    )


SWITCHES = {
    "cheat on close": lambda broker: broker.set_coc(True),
    "cheat on open": lambda broker: broker.set_coo(True),
    "fund mode": lambda broker: broker.set_fundmode(True, 10.0),
    "end of session bar": lambda broker: broker.set_eosbar(True),
    "no check": lambda broker: broker.set_checksubmit(False),
    "no short cash": lambda broker: broker.set_shortcash(False),
    "slippage": lambda broker: broker.set_slippage_perc(0.01),
    "filler": lambda broker: broker.set_filler(lambda order, price, ago: min(3, abs(order.executed.remsize))),
    "new commission": lambda broker: broker.setcommission(0.01),
}


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("bar", [0, 10])
def test_switches_of_the_broker_thrown_before_or_amid_the_run(eyes, switch, bar):
    throw = SWITCHES[switch]
    steps = often(both_ways(8)) | ({bar: lambda strategy: throw(strategy.broker)} if bar else {})

    assert_same(trading(steps, eyes=eyes, prepare=lambda c: None if bar else throw(c.broker)), "Completed")


def test_cheating_on_close_is_up_to_each_order(eyes):
    def step(strategy):
        strategy.buy(size=2, coc=False)
        strategy.buy(size=3)

    assert_same(trading({3: step, 9: step}, eyes=eyes, prepare=lambda c: c.broker.set_coc(True)), "Completed")


def test_positions_gain_an_entry_when_somebody_asks_and_a_missing_close_shows_in_the_value(eyes):
    hole = [bar._replace(close=float("nan")) if n in (5, 6) else bar for n, bar in enumerate(OTHER)]
    value = dict.fromkeys(range(5, 12), lambda strategy: strategy.note("value", strategy.broker.getvalue()))
    steps = value | {3: buying(size=2), 4: lambda s: s.getposition(s.data1), 12: lambda s: s.close()}

    assert_same(trading(steps, BARS, hole, eyes=eyes), "nan")


def test_feeds_that_compensate_each_other(eyes):
    def prepare(cerebro):
        cerebro.datas[1].compensate(cerebro.datas[0])

    steps = {4: buying(size=3), 8: lambda s: s.sell(data=s.data1, size=3), 12: lambda s: s.sell(data=s.data1, size=2)}

    assert_same(trading(steps, BARS, OTHER, eyes=eyes, prepare=prepare), "Completed")


def test_orders_and_fund_values_given_as_history(eyes):
    days = [bar.time for bar in BARS]
    orders = [(days[3], 5, 50.0), (days[8].date(), -8, 51.0), (days[12].strftime("%Y-%m-%d"), 3, 49.0)]

    def prepare(cerebro):
        cerebro.add_order_history(orders, notify=True)

    assert_same(trading({15: buying(size=1)}, eyes=eyes, prepare=prepare), "Historical")
    assert_same(
        trading(
            {15: buying(size=1)},
            eyes=eyes,
            prepare=lambda cerebro: cerebro.set_fund_history([(days[0], 100.0, 5000.0), (days[9], 101.5, 6000.0)]),
            runonce=False,
        ),
        "Completed",
    )


def test_a_broker_of_the_users_own(eyes):
    class Generous(bt.brokers.BackBroker):
        def _try_exec_market(self, order, popen, phigh, plow):
            self._execute(order, ago=0, price=plow)

        def getvalue(self, datas=None):
            return 1.0 + super().getvalue(datas)

    def prepare(cerebro):
        cerebro.broker = Generous(cash=5_000.0)

    assert_same(trading(often(both_ways()), eyes=eyes, prepare=prepare), "Completed")


def test_methods_of_the_broker_replaced_by_the_user(eyes):
    def prepare(cerebro):
        stock = cerebro.broker.buy
        cerebro.broker.buy = lambda *args, **words: stock(*args, **words | {"size": 2 * words["size"]})
        cerebro.broker.getcash = lambda: 123.0

    def step(strategy):
        strategy.broker.buy(strategy, strategy.data, size=1)
        strategy.note(strategy.broker.getcash())

    assert_same(trading({3: step, 9: step}, eyes=eyes, prepare=prepare), "Completed")
