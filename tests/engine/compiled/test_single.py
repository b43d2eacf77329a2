"""A single run by the compiled engine leaves what the event engine leaves, to the last bit."""

import random
from datetime import date, time

import backtrader as bt
import pytest
from compiled_check import named, set_up_of
from compiled_random import Chance
from parity_markets import market, quick_rows
from places import ROOT

from backtest import run
from backtest.api import prepared
from backtest.engine.compiled.loop import Loop
from backtest.engine.compiled.single import walk_one
from backtest.engine.lean.cerebro import Cerebro
from backtest.engine.recorder import Recorder
from backtest.engine.simulation import simulate
from backtest.errors import UsageError

SPAN = (date(2003, 1, 2), date(2003, 9, 30))
PAIR = ["AAPL/1day", "IBM/1day"]
TABLES = ("record", "orders_table", "fills_table", "trades_table", "extremes_table")


def both(sample, strategy, series, *, numba=False, **asked):
    """Return what a run leaves by the compiled engine and by the event engine, and which engine the first was."""
    request, loop = prepared(strategy, series, store=sample, span=SPAN, **asked), Loop("compiled", numba=numba)
    return simulate(*request, loop=loop), simulate(*request), loop


def differing(one, other):
    """Return the names of what differs between two records."""
    found = [name for name in TABLES if not getattr(one, name).equals(getattr(other, name))]
    found += [] if one.lines.table.equals(other.lines.table) else ["lines"]
    return found + ([] if (one.spec, one.manifest) == (other.spec, other.manifest) else ["manifest"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "series", "costs"),
    [
        (f"{ROOT}/strategies/bollinger.py", ["AAPL/1day"], "ib-fixed"),
        (f"{ROOT}/strategies/sma_cross.py", PAIR, "bp:5"),
        (f"{ROOT}/strategies/random_baseline.py", ["AAPL/1day"], "2x:ib-fixed"),
        (Chance, PAIR, "ib-tiered"),
    ],
)
def test_all_that_a_run_leaves_is_the_same(sample, strategy, series, costs):
    compiled, event, loop = both(sample, strategy, series, costs=costs)

    assert loop.words == "compiled (numpy)"
    assert differing(compiled, event) == []
    assert len(event.orders_table) >= 5


@pytest.mark.slow
def test_orders_that_fill_at_the_close_at_which_they_are_given_are_the_same(sample):
    compiled, event, loop = both(sample, Chance, PAIR, cash=3000.0, fills="this-close")

    assert loop.words == "compiled (numpy)"
    assert differing(compiled, event) == []
    orders = {order["ref"]: order for order in event.orders_table.to_pylist()}
    assert any(fill["time"] == orders[fill["ref"]]["created"] for fill in event.fills_table.to_pylist())
    assert {"Margin", "Canceled", "Expired"} <= {order["status"] for order in orders.values()}


@pytest.mark.soak
def test_by_numba_it_is_the_same_too(sample):
    for fills in ("next-bar", "this-close"):
        compiled, event, loop = both(sample, Chance, PAIR, numba=True, fills=fills)

        assert loop.words == "compiled (numba)"
        assert differing(compiled, event) == []


class Stumbles(bt.Strategy):
    """Draws at each bar, and gives more orders at one than there is room to tell of."""

    def __init__(self):
        self.chance, self.heard = random.Random(7), 0

    def notify_order(self, order):
        self.heard += 1

    def next(self):
        if self.chance.random() < 0.3:
            self.buy(size=1 + self.heard % 3)
        if len(self) == 60:
            for _ in range(30):
                self.buy(size=1)


@pytest.mark.slow
def test_a_run_in_which_something_is_odd_is_made_by_the_event_engine_as_if_nothing_had_been(sample):
    compiled, event, loop = both(sample, Stumbles, PAIR[:1])

    assert loop.words == "event engine: it does something unexpected in a bar"
    assert differing(compiled, event) == []
    assert len(event.orders_table) > 20


class Prints(bt.Strategy):
    def next(self):
        print(self.data.close[0])


class Sums(bt.Strategy):
    def stop(self):
        print(self.broker.getvalue())


class Rings(bt.Strategy):
    def start(self):
        self.add_timer(time(10))


@pytest.mark.parametrize(
    ("strategy", "more", "said"),
    [
        (Prints, {}, r"test_single\.py:\d+: it prints, which a compiled run does not"),
        (Sums, {}, r"stop\(\) reads results of the run"),
        (Rings, {}, "something beside the strategy acts at each bar"),
        (f"{ROOT}/strategies/sma_cross.py", {"slippage": "5bp"}, "the compiled engine does not support slippage"),
        (f"{ROOT}/strategies/sma_cross.py", {"warm_up": "auto"}, "a run with a warm-up is not compiled"),
        (f"{ROOT}/strategies/sma_cross.py", {"size": "percent:50"}, "the compiled engine does not support size"),
    ],
)
def test_what_a_compiled_run_would_leave_out_is_refused(sample, strategy, more, said):
    with pytest.raises(UsageError, match=f"the run cannot be compiled: .*{said}.*; leave out --engine compiled"):
        both(sample, strategy, PAIR[:1], **more)


def test_the_engine_is_told_and_none_is_where_there_is_nothing_to_choose(sample):
    asked = {"store": sample, "span": SPAN}

    assert run(f"{ROOT}/strategies/sma_cross.py", PAIR, engine="event", **asked).made_by == "event engine"
    assert run(f"{ROOT}/strategies/sma_cross.py", PAIR, **asked).made_by == ""
    with pytest.raises(UsageError, match="choose from compiled, event"):
        run(f"{ROOT}/strategies/sma_cross.py", PAIR, engine="numba", **asked)


@pytest.mark.parametrize(
    ("asked", "bars", "numba", "wanted"),
    [
        ("", 499_999, True, False),
        ("", 500_000, True, True),
        ("", 10_000_000, True, True),
        ("", 10_000_001, True, False),
        ("compiled", 10_000_001, True, True),
        ("", 500_000, False, False),
        ("event", 500_000, True, False),
    ],
)
def test_a_run_of_many_bars_that_fit_into_memory_is_compiled_by_itself_with_numba(asked, bars, numba, wanted):
    assert Loop(asked, numba=numba).wants(bars) is wanted


@pytest.mark.slow
def test_orders_off_the_tick_are_counted_alike():
    counts = []
    for walker in (None, lambda strategy: walk_one(strategy, "numpy")[0]):
        cerebro = Cerebro(stdstats=False)
        for feed in named([quick_rows(market(3, 90, tick=0.01))]):
            cerebro.adddata(feed)
        set_up_of("none")(cerebro)
        cerebro.addanalyzer(Recorder, _name="recorder", ticks={cerebro.datas[0]._name: 0.03})
        cerebro.addstrategy(Chance, seed=5)
        cerebro.walker = walker
        recorder = cerebro.run()[0].analyzers.recorder
        recorder.orders([])
        counts.append((recorder.off_tick, cerebro.history.walked is not None))

    assert counts[0][0] == counts[1][0] > 2
    assert [walked for _, walked in counts] == [False, True]
