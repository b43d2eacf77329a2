"""A random case for each number: bars, feeds, broker, indicators, and a strategy that does whatever comes to mind."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from datetime import date, time, timedelta
from typing import Any

import backtrader as bt
from parity_indicators import INDICATORS
from parity_markets import Bar, market, ours, pandas, pandas_with_columns, quick_rows, with_columns
from parity_owned import LINES, MAKES, Nosy, Notes, Sees
from parity_strategies import HOOKS, LOOKS, watcher
from parity_trading import ready

from backtest.engine.account.commissions import COSTS

Chance = random.Random
Order = bt.Order
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def case(seed: int) -> Callable[[type[bt.Cerebro]], Any]:
    """Return what makes the Cerebro of this number; the same one each time."""

    def build(make: type[bt.Cerebro]) -> Any:
        chance = Chance(seed)
        cerebro = ready(make, **modes(chance))
        add_feeds(cerebro, chance)
        set_broker(cerebro.broker, chance)
        lines = LINES if chance.random() < 0.3 else ()
        add_lookers(cerebro, chance, bool(lines))
        for _ in range(2 if chance.random() < 0.1 else 1):
            add_strategy(cerebro, chance, lines)
        return cerebro

    return build


# -- the run -----------------------------------------------------------------------------------------------------


def modes(chance: Chance) -> dict[str, Any]:
    """Return options of Cerebro: mostly none, since the usual way is the one to be made faster."""
    modes = [
        {"runonce": False},
        {"preload": False},
        {"exactbars": 1},
        {"exactbars": -1},
        {"exactbars": -2},
        {"stdstats": True},
        {"stdstats": True, "oldbuysell": True, "oldtrades": True},
        {"tradehistory": True},
        {"quicknotify": True},
        {"cheat_on_open": True},
        {"cheat_on_open": True, "broker_coo": False},
        {"oldsync": True},
        {"objcache": True},
        {"lookahead": 2},
        {"live": True},
        {"tz": "US/Eastern"},
    ]
    return chance.choice(modes) if chance.random() < 0.25 else {}


def add_feeds(cerebro: Any, chance: Chance) -> None:
    """Add one to four feeds, of one step or of several, often of unequal length."""
    steps = chance.choice([[DAY], [DAY], [HOUR], [MINUTE], [DAY, HOUR], [HOUR, MINUTE]])
    # Few bars take little time, and most of what can differ shows in them.
    longest = chance.choice([1, 5, 20, 40, 60, 120] if chance.random() < 0.15 else [18, 24])
    for number in range(chance.choice([1, 1, 1, 1, 1, 2, 2, 3])):
        step = steps[number % len(steps)]
        count = longest if chance.random() < 0.6 else chance.randint(longest // 2, longest) or 1
        bars = market(chance.randrange(10**9), count, step, **wildness(chance))
        if number and chance.random() < 0.4:
            bars = late_or_ended(bars, chance)
        add_feed(cerebro, feed(chance, bars, step), f"d{number}", chance)


def late_or_ended(bars: list[Bar], chance: Chance) -> list[Bar]:
    """Return the bars of a series that begins later than others, ends sooner, or both."""
    begin, end = (chance.choice([0, len(bars) // 4, len(bars) // 2]) for _ in range(2))
    return bars[begin : len(bars) - end] or bars


def wildness(chance: Chance) -> dict[str, float]:
    wild = {"tick": chance.choice([0.0, 0.01, 0.25, 1.0]), "start": chance.choice([2.0, 50.0, 50.0, 431.7])}
    for name, likely in (("flat", 0.3), ("jump", 0.1), ("void", 0.2), ("same", 0.2), ("gap", 0.4)):
        wild[name] = chance.choice([0.0, likely])
    return wild | {"hole": 0.05 if chance.random() < 0.05 else 0.0}


def feed(chance: Chance, bars: list[Bar], step: timedelta) -> Any:
    frame = {DAY: bt.TimeFrame.Days}.get(step, bt.TimeFrame.Minutes)
    words: dict[str, Any] = {"timeframe": frame, "compression": 60 if step == HOUR else 1}
    if chance.random() < 0.1:
        words["fromdate"] = bars[0].time + (bars[-1].time - bars[0].time) * chance.uniform(0, 0.4)
    if chance.random() < 0.1:
        words["todate"] = bars[0].time + (bars[-1].time - bars[0].time) * chance.uniform(0.3, 1.1)
    if chance.random() < 0.1:
        words["sessionend"] = (bars[0].time + chance.randint(0, 600) * MINUTE).time()
    if chance.random() < 0.05:
        words["tz"] = "US/Eastern"
    kind = chance.random()
    if kind < 0.06 and len(bars) < 50:
        return (pandas_with_columns if chance.random() < 0.3 else pandas)(bars, **words)
    if kind > 0.88:
        return with_columns(bars, **words)
    if kind < 0.3 and step != MINUTE:
        return ours(bars, "AAPL/1day" if step == DAY else "AAPL/1hour", **words)
    return quick_rows(bars, **words)


def add_feed(cerebro: Any, feed: Any, name: str, chance: Chance) -> None:
    kind = chance.random()
    if kind > 0.06:
        cerebro.adddata(feed, name=name)
    if kind > 0.09:
        return
    # That of a feed which is there itself too is a copy of it: the usual way to a second time frame.
    add = cerebro.replaydata if 0.03 < kind < 0.06 else cerebro.resampledata
    name = name if kind < 0.06 else f"{name} coarse"
    daily = feed.p.timeframe == bt.TimeFrame.Days
    add(feed, name=name, timeframe=bt.TimeFrame.Weeks if daily else bt.TimeFrame.Days, compression=1)


# -- the broker --------------------------------------------------------------------------------------------------


class StampDuty(bt.CommInfoBase):
    """Charges sales more than purchases, and something at least: what a user writes."""

    params = (("stocklike", True), ("commtype", bt.CommInfoBase.COMM_PERC), ("duty", 0.001), ("least", 5.0))

    def _getcommission(self, size, price, pseudoexec):
        rate = self.p.commission + (self.p.duty if size < 0 else 0.0)
        return max(abs(size) * price * rate, self.p.least)


SCHEMES: list[Callable[[Any], Any]] = [
    lambda broker: broker.setcommission(0.001),
    lambda broker: broker.setcommission(0.0),
    lambda broker: broker.setcommission(1.5, commtype=bt.CommInfoBase.COMM_FIXED, stocklike=True),
    lambda broker: broker.setcommission(2.0, margin=40.0, mult=5.0),
    lambda broker: broker.setcommission(2.0, automargin=2, mult=3.0, name="d0"),
    lambda broker: broker.setcommission(0.001, leverage=3.0, stocklike=True),
    lambda broker: broker.setcommission(0.001, interest=0.09, interest_long=True),
    lambda broker: broker.setcommission(0.001, interest=0.3),
    lambda broker: broker.addcommissioninfo(COSTS["ib-fixed"].make()),
    lambda broker: broker.addcommissioninfo(StampDuty(commission=0.03)),
]
SWITCHES: list[Callable[[Any], Any]] = [
    lambda broker: broker.set_checksubmit(False),
    lambda broker: broker.set_shortcash(False),
    lambda broker: broker.set_int2pnl(False),
    lambda broker: broker.set_fundmode(True, 50.0),
    lambda broker: broker.set_coc(True),
    lambda broker: broker.set_coo(True),
    lambda broker: broker.set_eosbar(True),
    lambda broker: broker.set_filler(bt.broker.fillers.FixedSize(size=4)),
    lambda broker: broker.set_filler(lambda order, price, ago: min(2, abs(order.executed.remsize))),
    lambda broker: broker.set_filler(lambda order, price, ago: min(7, abs(order.executed.remsize))),
]


def set_broker(broker: Any, chance: Chance) -> None:
    broker.setcash(chance.choice([10_000, 10_000.0, 500, 1_234.56, 100_000, 1_000_000]))
    if chance.random() < 0.7:
        chance.choice(SCHEMES)(broker)
    if chance.random() < 0.25:
        slip(broker, chance)
    if chance.random() < 0.2:
        chance.choice(SWITCHES)(broker)


def slip(broker: Any, chance: Chance) -> None:
    switches = {name: chance.random() < 0.5 for name in ("slip_open", "slip_limit", "slip_match", "slip_out")}
    if chance.random() < 0.5:
        broker.set_slippage_perc(chance.choice([0.001, 0.02]), **switches)
    else:
        broker.set_slippage_fixed(chance.choice([0.05, 1.0]), **switches)


# -- those who look on -------------------------------------------------------------------------------------------


class Account(bt.Analyzer):
    """Notes the account after each bar, or takes all bars at once from a lean run; shown if it ends well."""

    def start(self):
        self.noted, self.rows = [], []

    def next(self):
        broker = self.strategy.broker
        sizes = [broker.positions[data].size if data in broker.positions else 0 for data in self.datas]
        closes = [data.close[0] if len(data) else float("nan") for data in self.datas]
        self.noted.append((self.strategy.datetime[0], broker.getvalue(), broker.getcash(), *sizes, *closes))

    def take(self, history):
        columns = history.stamps, history.equity, history.cash, *history.positions, *history.closes
        self.noted = list(zip(*columns, strict=True))

    def stop(self):
        self.rows = [tuple(map(float, row)) for row in self.noted]

    def get_analysis(self):
        return {"rows": self.rows}


ANALYZERS: list[tuple[Any, dict[str, Any]]] = [
    (bt.analyzers.TradeAnalyzer, {}),
    (bt.analyzers.DrawDown, {}),
    (bt.analyzers.TimeReturn, {"timeframe": bt.TimeFrame.Days}),
    (bt.analyzers.Transactions, {}),
    (bt.analyzers.PositionsValue, {"headers": True, "cash": True}),
    (bt.analyzers.GrossLeverage, {}),
    (bt.analyzers.SQN, {}),
    (bt.analyzers.TimeDrawDown, {"timeframe": bt.TimeFrame.Weeks}),
]
OBSERVERS = [bt.observers.DrawDown, bt.observers.Value, bt.observers.Cash, bt.observers.TimeReturn, bt.observers.Trades]


class HalfOfCash(bt.Sizer):
    """Buys for half of the cash and sells what is held: what a user writes."""

    def _getsizing(self, comminfo, cash, data, isbuy):
        held = self.broker.getposition(data).size
        return int(cash * 0.5 / (data.close[0] or 1.0)) % 1000 if isbuy or not held else abs(held)


SIZERS: list[tuple[Any, dict[str, Any]]] = [
    (bt.sizers.FixedSize, {"stake": 3}),
    (bt.sizers.AllInSizer, {}),
    (bt.sizers.PercentSizer, {"percents": 35}),
    (bt.sizers.FixedReverser, {"stake": 2}),
    (HalfOfCash, {}),
]


def add_lookers(cerebro: Any, chance: Chance, owning: bool) -> None:
    """Add analyzers, observers, sizers, timers, writers: mostly none of them; some look at a strategy's own lines."""
    if chance.random() < 0.3:
        cerebro.addanalyzer(Account)
    if owning and chance.random() < 0.2:
        cerebro.addanalyzer(Notes)
    if owning and chance.random() < 0.2:
        cerebro.addobserver(Sees)
    if chance.random() < 0.2:
        for analyzer, words in chance.sample(ANALYZERS, chance.randint(1, 3)):
            cerebro.addanalyzer(analyzer, **words)
    if chance.random() < 0.08:
        cerebro.addobserver(chance.choice(OBSERVERS))
    if chance.random() < 0.3:
        sizer, words = chance.choice(SIZERS)
        cerebro.addsizer(sizer, **words)
    if chance.random() < 0.01:
        cerebro.add_timer(bt.timer.SESSION_START, strats=True, cheat=chance.random() < 0.5)
    if chance.random() < 0.01:
        cerebro.addwriter(bt.WriterFile, csv=True, out=io.StringIO())


# -- the strategy ------------------------------------------------------------------------------------------------


def add_strategy(cerebro: Any, chance: Chance, lines: tuple[str, ...]) -> None:
    """Add a strategy with some of the HOOKS, lines of its own, indicators, and a head of its own."""
    hooks = {"next"} | {name for name in HOOKS if chance.random() < 0.4}
    if chance.random() < 0.05:
        hooks = set()
    plan = Plan(chance.randrange(10**9), lines)
    strategy = watcher(*sorted(hooks), lines=lines, eager=chance.random() < 0.1)
    cerebro.addstrategy(strategy, make=plan.make, look=plan.look, act=plan.act, odd=plan.odd)


class Plan:
    """What a random strategy does, bar by bar; it goes by its own chances and by what it sees."""

    def __init__(self, seed: int, lines: tuple[str, ...] = ()):
        self.chance = chance = Chance(seed)
        self.lines = lines
        self.writes = bool(lines) and chance.random() < 0.5
        self.nosy = bool(lines) and chance.random() < 0.15
        self.odd = chance.choice(ODD) if chance.random() < 0.2 else None
        self.indicators = chance.choice([0, 0, 1, 1, 2, 4])
        self.often = chance.choice([0.0, 0.02, 0.1, 0.1, 0.3, 0.6])
        self.curious = chance.choice([0, 0, 1, 3, len(LOOKS)])
        self.places = {name for name in HOOKS if name == "next" or chance.random() < 0.15}
        self.end = chance.choice([stop_the_run, fail]) if chance.random() < 0.06 else None
        self.end_at = (chance.choice(["init", "start", "next", "next", "notify_order", "stop"]), chance.randint(1, 40))
        self.orders: list[Any] = []

    def make(self, strategy: Any) -> list[Any]:
        if self.nosy:
            strategy.broker.addcommissioninfo(Nosy(strategy=strategy))
        made = [self.makes()(strategy, self.chance.choice(strategy.datas), self.chance) for _ in range(self.indicators)]
        return [*made, *odd_indicators(strategy, self.odd)]

    def makes(self) -> Any:
        """Return what makes an indicator: one over the strategy's own lines or of its clock, more often than not."""
        kind = self.chance.random()
        if self.lines and kind < 0.6:
            return self.chance.choice(MAKES)
        return self.chance.choice(REDUCES) if kind > 0.95 else self.chance.choice(INDICATORS)

    def look(self, strategy: Any) -> list[Any]:
        names = self.chance.sample(sorted(LOOKS), self.curious)
        return [(name, LOOKS[name](strategy, data)) for name in names for data in strategy.datas if len(data)]

    def act(self, strategy: Any, where: str) -> None:
        if self.writes and where in ("next", "prenext") and self.chance.random() < 0.7:
            strategy.lines.own[0] = strategy.data.close[0] + len(strategy) if len(strategy.data) else 0.5
        if isinstance(self.odd, date) and len(strategy) and strategy.datetime.date() < self.odd:
            return
        if self.end and where == self.end_at[0] and len(strategy) >= self.end_at[1] * (where == "next"):
            self.end(strategy)
        if where in self.places and where != "init" and self.chance.random() < self.often and len(self.orders) < 200:
            data = self.chance.choice(strategy.datas)
            if len(data):
                self.chance.choice(ACTIONS)(strategy, data, self)

    def size(self) -> float | None:
        return self.chance.choice([None, 1, 1, 2, 5, 10, 25, 100, 0.5, 3.7])

    def near(self, data: Any) -> float:
        """Return a price about the market's: one that was seen, or one up to a few percent off."""
        seen = self.chance.choice([data.close, data.open, data.high, data.low])[0]
        away: float = self.chance.choice([0.0, 0.0, 0.005, -0.005, 0.02, -0.02, 0.1, -0.1])
        return float(seen * (1 + away))

    def words(self, data: Any) -> dict[str, Any]:
        """Return the words of an order: its type with prices, and sometimes validity, number and group."""
        words = self.chance.choice(TYPES)(self, data)
        if self.chance.random() < 0.3:
            words["valid"] = self.valid(data)
        if self.chance.random() < 0.2:
            words["tradeid"] = self.chance.randint(1, 2)
        if self.chance.random() < 0.1 and self.orders:
            words["oco"] = self.chance.choice(self.orders)
        if self.chance.random() < 0.05:
            words["remark"] = "here"
        return words

    def valid(self, data: Any) -> Any:
        now = data.datetime.datetime()
        days = timedelta(days=self.chance.choice([0, 1, 2, 5]))
        offered = [0, 3, 2.5, days, HOUR, now + days, (now + days).date(), now - DAY, data.datetime[0] + 1.5]
        return self.chance.choice(offered)


ODD: list[Any] = [
    bt.ind.SMA,
    bt.ind.MovAv.EMA,
    (2, 3, 5),
    {"fast": 2, 7: "slow"},
    date(2024, 1, 9),
    time(15, 30),
    timedelta(days=2),
    lambda line: line > 1.0,
    [bt.ind.RSI, {"period": 3, "safediv": True}],
    float("nan"),
]


def odd_indicators(strategy: Any, odd: Any) -> list[Any]:
    """Return what a strategy makes of a parameter that is neither a number nor a text."""
    data = strategy.data
    if isinstance(odd, type):
        return [odd(data, period=3)]
    if isinstance(odd, tuple):
        return [bt.ind.EMA(data, period=period) for period in odd]
    if isinstance(odd, list):
        return [odd[0](data, **odd[1])]
    return [odd(data.close)] if callable(odd) else []


def reduce_by(function: Callable[[Any, Any], Any], *lines: Callable[[Any], Any], **words: Any) -> Any:
    """Return what makes a bt.Reduce of lines of a feed."""

    def make(strategy: Any, data: Any, chance: Chance) -> Any:
        return bt.Reduce(function, *(line(data) for line in lines), **words)

    return make


REDUCES = [
    reduce_by(lambda one, other: one + other, lambda data: data.close, lambda data: data.open),
    reduce_by(max, lambda data: data.close, lambda data: data.open, lambda data: data.high(-1)),
    reduce_by(lambda one, other: one * 0.5 + other, lambda data: data.close, initializer=1.0),
]


def stop_the_run(strategy: Any) -> None:
    strategy.env.runstop()


def fail(strategy: Any) -> None:
    raise ValueError(f"no more after {len(strategy)} bars with {strategy.broker.getvalue()}")


TYPES: list[Callable[[Plan, Any], dict[str, Any]]] = [
    lambda plan, data: {},
    lambda plan, data: {"exectype": Order.Market, "price": plan.near(data)},
    lambda plan, data: {"exectype": Order.Close},
    lambda plan, data: {"exectype": Order.Limit, "price": plan.near(data)},
    lambda plan, data: {"exectype": Order.Stop, "price": plan.near(data)},
    lambda plan, data: {"exectype": Order.StopLimit, "price": plan.near(data), "plimit": plan.near(data)},
    lambda plan, data: {"exectype": Order.StopTrail, "trailamount": plan.near(data) * 0.02},
    lambda plan, data: {"exectype": Order.StopTrail, "trailpercent": 0.015, "price": plan.near(data)},
    lambda plan, data: {
        "exectype": Order.StopTrailLimit,
        "price": plan.near(data),
        "plimit": plan.near(data),
        "trailpercent": 0.01,
    },
]


def order(strategy: Any, data: Any, plan: Plan) -> None:
    give = plan.chance.choice([strategy.buy, strategy.sell])
    keep(plan, give(data=data, size=plan.size(), **plan.words(data)))


def target(strategy: Any, data: Any, plan: Plan) -> None:
    way = plan.chance.choice(["size", "value", "percent"])
    aim = {"size": [0, 5, -5, 20], "value": [0.0, 300.0, -450.0, 2_000.0], "percent": [0.0, 0.1, -0.3, 0.9]}[way]
    words = plan.words(data) if plan.chance.random() < 0.4 else {}
    keep(plan, getattr(strategy, f"order_target_{way}")(data=data, target=plan.chance.choice(aim), **words))


def close(strategy: Any, data: Any, plan: Plan) -> None:
    keep(plan, strategy.close(data=data, size=plan.chance.choice([None, None, 2])))


def cancel(strategy: Any, data: Any, plan: Plan) -> None:
    if plan.orders:
        found = plan.chance.choice(plan.orders)
        strategy.note("cancel", found.ref, found.alive(), strategy.cancel(found))


def bracket(strategy: Any, data: Any, plan: Plan) -> None:
    way = plan.chance.choice(["buy_bracket", "sell_bracket"])
    stop = {"stopexec": Order.StopTrail, "stopargs": {"trailpercent": 0.02}} if plan.chance.random() < 0.2 else {}
    prices = {"price": plan.near(data), "limitprice": plan.near(data), "stopprice": plan.near(data)}
    kind = plan.chance.choice([Order.Market, Order.Limit, Order.Stop])
    keep(plan, getattr(strategy, way)(data=data, size=plan.size(), exectype=kind, **prices, **stop))


def family(strategy: Any, data: Any, plan: Plan) -> None:
    parent = strategy.buy(data=data, size=3, transmit=False, exectype=Order.Limit, price=plan.near(data))
    sent = plan.chance.random() < 0.9
    keep(plan, [parent, strategy.sell(data=data, size=3, parent=parent, transmit=sent, **TYPES[4](plan, data))])


def several(strategy: Any, data: Any, plan: Plan) -> None:
    for _ in range(plan.chance.randint(2, 12)):
        order(strategy, data, plan)


def cash(strategy: Any, data: Any, plan: Plan) -> None:
    strategy.broker.add_cash(plan.chance.choice([250, -100.5]))


def ask(strategy: Any, data: Any, plan: Plan) -> None:
    name = plan.chance.choice(sorted(LOOKS))
    strategy.note("asked", name, LOOKS[name](strategy, data))


def change(strategy: Any, data: Any, plan: Plan) -> None:
    if plan.chance.random() < 0.1:
        plan.chance.choice(SWITCHES + SCHEMES)(strategy.broker)


def keep(plan: Plan, given: Any) -> None:
    plan.orders += [one for one in (given if isinstance(given, list) else [given]) if one is not None]


ACTIONS: list[Callable[[Any, Any, Plan], None]] = [order] * 8 + [
    target,
    target,
    close,
    close,
    cancel,
    cancel,
    bracket,
    family,
    several,
    cash,
    ask,
    ask,
    change,
]
