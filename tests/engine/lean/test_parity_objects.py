"""What a strategy holds in a lean run shows itself as Backtrader's own: type, text, attributes, pickles and copies."""

import copy
import itertools
import pickle
import re
from datetime import date, datetime, timedelta
from functools import partial

import backtrader as bt
import pytest
from parity_check import Cerebro
from parity_markets import market, rows

BARS, OTHER = market(3, 40), market(4, 40)


class OwnIndicator(bt.Indicator):
    lines = ("own", "second")

    def __init__(self):
        self.average = bt.ind.SMA(self.data, period=3)

    def next(self):
        self.lines.own[0] = self.average[0] + 1


class OwnItems(bt.Indicator):
    """An indicator that finds its values in a way of its own."""

    lines = ("own",)

    def __getitem__(self, ago):
        return -super().__getitem__(ago)

    def next(self):
        self.lines.own[0] = self.data[0]


THINGS = {
    "order": lambda strategy: strategy.order,
    "pending order": lambda strategy: strategy.pending,
    "stop order": lambda strategy: strategy.trailing,
    "told order": lambda strategy: strategy.told,
    "clone of an order": lambda strategy: strategy.order.clone(),
    "what was ordered": lambda strategy: strategy.order.created,
    "what was filled": lambda strategy: strategy.order.executed,
    "clone of what was filled": lambda strategy: strategy.order.executed.clone(),
    "fill": lambda strategy: (strategy.order.executed.exbits or [None])[0],
    "info of an order": lambda strategy: strategy.order.info,
    "params of an order": lambda strategy: strategy.order.p,
    "trade": lambda strategy: strategy.trade,
    "kept trades": lambda strategy: strategy._trades,
    "position": lambda strategy: strategy.position,
    "position in another feed": lambda strategy: strategy.getposition(strategy.data1),
    "position that is never held": lambda strategy: strategy.getposition(strategy.data2),
    "position kept from the start": lambda strategy: strategy.kept,
    "clone of a position": lambda strategy: strategy.position.clone(),
    "positions": lambda strategy: strategy.broker.positions,
    "broker": lambda strategy: strategy.broker,
    "commission": lambda strategy: strategy.broker.getcommissioninfo(strategy.data),
    "sizer": lambda strategy: strategy.getsizer(),
    "strategy": lambda strategy: strategy,
    "feed": lambda strategy: strategy.data,
    "lines of a feed": lambda strategy: strategy.data.lines,
    "line": lambda strategy: strategy.data.close,
    "stamps": lambda strategy: strategy.datetime,
    "average": lambda strategy: strategy.average,
    "crossover": lambda strategy: strategy.cross,
    "own indicator": lambda strategy: strategy.own,
    "indicator with items of its own": lambda strategy: strategy.items,
    "lines of an indicator": lambda strategy: strategy.own.lines,
    "line of an indicator": lambda strategy: strategy.own.lines.own,
    "operation": lambda strategy: strategy.operation,
    "logic": lambda strategy: strategy.logic,
    "analyzer": lambda strategy: strategy.analyzers.drawdown,
}
# Of these `type` gives another class of the same name, which derives from Backtrader's: see docs/design.md.
DERIVED = {
    *("broker", "lines of a feed", "line", "stamps", "lines of an indicator", "line of an indicator"),
    *("operation", "logic", "position", "position in another feed", "position kept from the start"),
}
MOMENTS = (6, 12, 20, 30)
SHOWN = {}  # not in the strategy, which is copied


class Shows(bt.Strategy):
    """Trade, and note how things look now and then."""

    params = (("things", ()), ("look", None))

    def __init__(self):
        self.order, self.trade, self.told = None, None, None
        self.pending, self.trailing = None, None
        self.average, self.own, self.items = bt.ind.SMA(period=3), OwnIndicator(), OwnItems()
        self.cross = bt.ind.CrossOver(self.data.close, self.average)
        self.operation = self.data.close - self.data.open
        self.logic = bt.And(self.data.close > self.data.open, self.data.close > self.average)
        self.kept = self.getposition(self.data)

    def notify_order(self, order):
        self.told = order

    def notify_trade(self, trade):
        self.trade = trade

    def next(self):
        bar, Order = len(self), bt.Order
        if bar == 4:
            self.order = self.buy(size=3, why="so")
            self.pending = self.buy(size=1, exectype=Order.Limit, price=1.0, valid=self.data.datetime.date())
            self.trailing = self.sell(self.data1, size=2, exectype=Order.StopTrail, trailamount=0.01)
        if bar == 15:
            self.order = self.sell(size=3)
            self.pending = self.sell(size=1, exectype=Order.StopLimit, price=1.0, plimit=1.0)
        if bar == 25:
            self.order = self.sell(size=2)
            self.pending = self.buy(size=1, exectype=Order.Close)
        if bar in MOMENTS:
            SHOWN.update({(bar, name): self.p.look(THINGS[name](self)) for name in self.p.things})


def ran(make, look, things=tuple(THINGS)):
    bt.order.OrderBase.refbasis, bt.Trade.refbasis = itertools.count(1), itertools.count(1)
    cerebro = make(stdstats=False)
    for bars in (BARS, OTHER, OTHER):
        cerebro.adddata(rows(bars))
    cerebro.addanalyzer(bt.analyzers.DrawDown)
    cerebro.addstrategy(Shows, things=things, look=look)
    SHOWN.clear()
    cerebro.run()
    assert make is bt.Cerebro or cerebro.lean
    return dict(SHOWN)


def both(look, things=tuple(THINGS)):
    return [ran(make, look, things) for make in (bt.Cerebro, Cerebro)]


def without_addresses(text):
    return re.sub(r"0x[0-9a-fA-F]+", "0x", text)


def text(thing):
    return without_addresses(repr(thing)), without_addresses(str(thing))


def classes(thing):
    return list(dict.fromkeys(f"{cls.__module__}.{cls.__qualname__} {cls.__name__}" for cls in type(thing).__mro__))


def attributes(thing):
    """Return the public attributes of a thing: plain values as text, of what else there is the name of its class."""
    names = [name for name in dir(thing) if not name.startswith("_")]
    if isinstance(thing, bt.feed.AbstractDataBase):
        names += [f"tick_{name}" for name in (*thing.getlinealiases(), "last")]
    return {name: value(thing, name) for name in names}


def value(thing, name):
    try:
        found = getattr(thing, name)
    except Exception as error:  # noqa: BLE001 - whatever is raised is what it shows
        return repr(error)
    if isinstance(found, int | float | str | datetime | date | timedelta | None):
        return repr(found)
    return "a function" if callable(found) and not isinstance(found, bt.lineroot.LineRoot) else type(found).__name__


def differences(stock, ours):
    return {key: (stock[key], ours.get(key)) for key in stock if stock[key] != ours.get(key)}


@pytest.mark.parametrize("look", [text, classes])
def test_things_have_the_text_and_the_classes_that_they_have_in_backtrader(look):
    stock, ours = both(look)

    assert differences(stock, ours) == {}
    assert len(stock) == len(THINGS) * len(MOMENTS)


def test_things_are_of_the_class_that_their_name_says():
    stock, ours = both(type)

    inexact = {name for bar, name in stock if ours[bar, name] is not stock[bar, name]}

    assert inexact == DERIVED
    assert all(issubclass(ours[key], stock[key]) for key in stock)
    assert ours[6, "order"] is bt.order.BuyOrder
    assert ours[20, "average"] is bt.ind.SMA


def test_things_have_the_public_attributes_that_they_have_in_backtrader():
    stock, ours = both(attributes)

    assert {key: lacking for key in stock if (lacking := differences(stock[key], ours[key]))} == {}


PLAIN = [
    name for name in THINGS if "position" in name or name in ("what was ordered", "what was filled", "fill", "trade")
]


def held(thing):
    return [without_addresses(f"{name}={kept!r}") for name, kept in getattr(thing, "__dict__", {}).items()]


def test_plain_things_hold_what_they_hold_in_backtrader_in_the_same_order():
    stock, ours = both(held, PLAIN)

    assert differences(stock, ours) == {}
    assert len(stock[12, "position"]) == 8


# An order of Backtrader's numbers itself by itertools.count, whose copies Python 3.12 warns of.
COPIES = pytest.mark.filterwarnings("ignore:Pickle, copy, and deepcopy support:DeprecationWarning")


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))


def made_again(thing, way):
    made = way(thing)
    return {"type": type(made), "text": text(made), "values": values_of(made), **attributes(made)}


def values_of(thing):
    """Return the lengths and values of lines, and what a broker has."""
    if isinstance(thing, bt.brokers.BackBroker):
        positions = [sorted(vars(position).items()) for position in thing.positions.values()]
        return repr([thing.getvalue(), thing.getcash(), thing.get_leverage(), positions, dict(thing.d_credit).values()])
    if isinstance(thing, bt.lineroot.LineRoot):
        return repr([(len(line), line[0], line.array) for line in thing.lines])
    return ""


@COPIES
@pytest.mark.slow
@pytest.mark.parametrize("way", [pickled, copy.copy, copy.deepcopy])
def test_things_can_be_pickled_and_copied_and_are_then_backtraders_own(way):
    stock, ours = both(partial(made_again, way=way))

    assert {key: lacking for key in stock if (lacking := differences(stock[key], ours[key]))} == {}


@COPIES
def test_a_position_an_order_and_an_average_can_be_pickled():
    stock, ours = both(partial(made_again, way=pickled), ["position", "order", "average"])

    assert ours[20, "position"] == stock[20, "position"]
    assert {key: lacking for key in stock if (lacking := differences(stock[key], ours[key]))} == {}


def test_indicators_of_all_runs_have_their_own_methods_again_after_a_lean_run():
    classes = (bt.Indicator, bt.ind.SMA, bt.ind.CrossOver, bt.feed.AbstractDataBase)
    before = [dict(vars(cls)) for cls in classes]

    ran(Cerebro, len, ["average"])
    with pytest.raises(ZeroDivisionError):
        ran(Cerebro, divide, ["average"])

    assert [dict(vars(cls)) for cls in classes] == before
    assert not {"__getitem__", "__len__", "_place_in_run"} & {name for members in before for name in members}


def test_a_run_with_backtraders_indicators_alone_leaves_the_base_of_all_others_as_it_is():
    seen = set()

    class Looks(bt.Strategy):
        def __init__(self):
            self.average = bt.ind.SMA(period=3)

        def next(self):
            seen.update(cls.__name__ for cls in (bt.Indicator, bt.ind.SMA) if "__getitem__" in vars(cls))

    cerebro = Cerebro(stdstats=False)
    cerebro.adddata(rows(BARS))
    cerebro.addstrategy(Looks)
    cerebro.run()

    assert cerebro.lean
    assert seen == {bt.ind.SMA.__name__}


def divide(thing):
    assert vars(bt.Indicator)["__len__"](thing) == len(thing)
    return 1 / 0


def test_a_run_of_backtraders_own_within_a_lean_run_is_as_ever():
    expected = ran(bt.Cerebro, values, ["average", "own indicator", "indicator with items of its own"])
    within = []

    class Nests(bt.Strategy):
        def next(self):
            if len(self) == 5:
                within.append(ran(bt.Cerebro, values, ["average", "own indicator", "indicator with items of its own"]))

    cerebro = Cerebro(stdstats=False)
    cerebro.adddata(rows(BARS))
    cerebro.addstrategy(Nests)
    cerebro.run()

    assert cerebro.lean
    assert within == [expected]


def values(indicator):
    return indicator[0], indicator[-1], len(indicator)


@pytest.mark.parametrize("name", ["average", "own indicator", "indicator with items of its own", "operation", "line"])
def test_values_and_lengths_are_read_as_in_backtrader(name):
    stock, ours = both(values, [name])

    assert ours == stock
