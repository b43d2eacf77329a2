"""Cerebros that are wrong on purpose, each in one small thing: the suite must tell every one of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import backtrader as bt

Stock = bt.brokers.BackBroker
Mutant = type[bt.Cerebro]


def broker(**methods: Any) -> Mutant:
    """Return a Cerebro whose broker has these methods."""
    wrong = type("WrongBroker", (Stock,), methods)

    class WithBroker(bt.Cerebro):
        def __init__(self):
            super().__init__()
            self.broker = wrong()

    return WithBroker


def runs(before: Callable[[Any, list[Any]], None]) -> Mutant:
    """Return a Cerebro that does this to itself and its strategies before the first bar."""

    class Prepared(bt.Cerebro):
        def _runonce(self, runstrats):
            before(self, runstrats)
            super()._runonce(runstrats)

        def _runnext(self, runstrats):
            before(self, runstrats)
            super()._runnext(runstrats)

    return Prepared


def each(wrong: Callable[[Any], None]) -> Mutant:
    """Return a Cerebro that does this to each strategy before the first bar."""
    return runs(lambda cerebro, strategies: [wrong(strategy) for strategy in strategies] and None)


def ended(after: Callable[[Any], None]) -> Mutant:
    """Return a Cerebro that does this to each strategy after the last bar."""

    class Ended(bt.Cerebro):
        def _runonce(self, runstrats):
            super()._runonce(runstrats)
            for strategy in runstrats:
                after(strategy)

    return Ended


def silenced(name: str) -> Mutant:
    """Return a Cerebro that never calls this method of a strategy."""
    return each(lambda strategy: setattr(strategy, name, lambda *args, **words: None))


# -- orders ------------------------------------------------------------------------------------------------------


def fill_at_close(self, order, popen, phigh, plow):
    if order.data.datetime[0] > order.created.dt:
        self._execute(order, ago=0, price=order.data.close[0])


def fill_market_at_once(self, order, popen, phigh, plow):
    self._execute(order, ago=0, price=popen)


def fill_limit_late(self, order, popen, phigh, plow, plimit):
    if len(order.data) > order.plen + 1:
        Stock._try_exec_limit(self, order, popen, phigh, plow, plimit)


def slip_sells_from_the_low(self, order, popen, phigh, plow, plimit):
    if order.isbuy() or plimit > popen:
        Stock._try_exec_limit(self, order, popen, phigh, plow, plimit)
        return
    price = self._slip_down(max(plow, plimit), popen, doslip=self.p.slip_open, lim=True)
    self._execute(order, ago=0, price=price)


def trail_before_the_try(self, order, popen, phigh, plow, pcreated, pclose):
    if order.exectype == bt.Order.StopTrail:
        order.trailadjust(pclose)
    Stock._try_exec_stop(self, order, popen, phigh, plow, order.created.price, pclose)


def close_without_the_annotated(self, order, pclose):
    order.pannotated = None
    Stock._try_exec_close(self, order, pclose)


def stop_limit_always_inside_the_bar(self, order, popen, phigh, plow, pclose, pcreated, plimit):
    Stock._try_exec_stoplimit(self, order, popen, phigh, plow, pclose, pcreated, plimit)
    if order.alive() and order.triggered and plow <= plimit <= phigh:
        self._execute(order, ago=0, price=plimit)


def never_expire(self):
    for order in self.pending:
        order.valid = None
    Stock.next(self)


def forget_the_group(self, order):
    self._ocol.pop(self._ocos[order.ref], None)


def newest_first(self):
    self.pending.reverse()
    Stock.next(self)


def exact_price(self, order, *args, **words):
    result = Stock._execute(self, order, *args, **words)
    if words.get("ago") is not None and order.status == bt.Order.Completed and len(order.executed.exbits) == 1:
        order.executed.price = order.executed.exbits[0].price
        self.notifs[-1].executed.price = order.executed.price
    return result


def margin_without_notice(self, order):
    if order.status != bt.Order.Margin:
        Stock.notify(self, order)


def the_order_itself(self, order):
    self.notifs.append(order)


# -- cash and value ----------------------------------------------------------------------------------------------


def one_ulp_more(self):
    before = self.cash
    Stock.next(self)
    if self.cash != before:
        self.cash = math.nextafter(self.cash, math.inf)


def accept_everything(self):
    while self.submitted:
        self.submit_accept(self.submitted.popleft())


def check_at_the_open(self, order, ago=None, price=None, **words):
    if ago is None and order.exectype == bt.Order.Market:
        order.created.price = order.data.open[0]
    return Stock._execute(self, order, ago=ago, price=price, **words)


def forgive_the_batch(self):
    while self.submitted:
        waiting, self.submitted = self.submitted, copy.copy(self.submitted)
        waiting.clear()
        rest = list(self.submitted)
        self.submitted.clear()
        for order in rest:
            self.submitted.append(order)
            Stock.check_submitted(self)


def stale_value(self, datas=None, mkt=False, lever=False):
    if datas is not None or mkt or lever:
        return Stock.get_value(self, datas, mkt, lever)
    told, self.later = getattr(self, "later", self._value), self._value
    return told


def keep_the_base(self):
    bases = {data: kept.adjbase for data, kept in self.positions.items()}
    Stock.next(self)
    for data, kept in self.positions.items():
        if kept and bases.get(data):
            kept.adjbase = bases[data]


def no_interest(self):
    for scheme in self.comminfo.values():
        scheme._creditrate = 0.0
    Stock.next(self)


def lazy_dates(self):
    dates = {data: kept.datetime for data, kept in self.positions.items() if kept}
    Stock.next(self)
    for data, kept in self.positions.items():
        kept.datetime = dates.get(data, kept.datetime)


def whole_cash(self):
    Stock.next(self)
    if self.cash == int(self.cash or 0):
        self.cash = int(self.cash)


def no_entry_for_asking(self, data):
    return self.positions[data] if data in self.positions else bt.Position()


def abs_of_one(self, datas=None, mkt=False, lever=False):
    value = Stock.get_value(self, datas, mkt, lever)
    return abs(value) if datas is not None and len(datas) == 1 else value


# -- the loop ----------------------------------------------------------------------------------------------------


def one_bar_early(strategy):
    strategy._minperiods = [max(1, period - 1) for period in strategy._minperiods]


def no_nextstart(strategy):
    strategy.nextstart = strategy.next


def no_ticks(cerebro, strategies):
    for data in cerebro.datas:
        data._tick_fill = lambda force=False: None


def late_stamps(strategy):
    forward = strategy._oncepost
    strategy._oncepost = lambda dt: forward(dt - 1e-9)


def never_cleared(strategy):
    strategy.clear = lambda: None


def last_bit(strategy):
    for one in strategy.getindicators()[:1]:
        line = one if isinstance(one, bt.linebuffer.LineBuffer) else one.lines[0]
        line.array[-1] = math.nextafter(line.array[-1], math.inf)


def unequal_volume(strategy):
    strategy.data.volume.array[0] += 1


def still_indicators(strategy):
    for one in strategy.getindicators():
        one.advance = lambda size=1: None


class Unstoppable(bt.Cerebro):
    """Goes on when it is asked to stop."""

    def runstop(self):
        """Do nothing."""


class Deaf(bt.Cerebro):
    """Loses every seventh notification of an order."""

    def _brokernotify(self):
        self._broker.next()
        notes = self._broker.notifs
        for note in [note for note in notes if note.ref % 7 == 6 and note.status == bt.Order.Accepted]:
            notes.remove(note)
        for note in list(notes):
            notes.popleft()
            note.owner._addnotification(note, quicknotify=self.p.quicknotify)


class Forgiving(bt.Cerebro):
    """Lets no exception out."""

    def run(self, **words):
        """Return nothing where Backtrader raises."""
        try:
            return super().run(**words)
        except ValueError:
            return []


class Lockstep(bt.Cerebro):
    """Moves all feeds at every step, whatever their stamps."""

    def _runonce(self, runstrats):
        for strategy in runstrats:
            strategy._once()
            strategy.reset()
        while any(len(data) < data.buflen() for data in self.datas):
            for data in self.datas:
                if len(data) < data.buflen():
                    data.advance()
            self._brokernotify()
            for strategy in runstrats:
                strategy._oncepost(max(data.datetime[0] for data in self.datas))


MUTANTS: Mapping[str, Mutant] = {
    "market orders fill at the close": broker(_try_exec_market=fill_at_close),
    "market orders fill whatever the stamp": broker(_try_exec_market=fill_market_at_once),
    "limits fill a bar late": broker(_try_exec_limit=fill_limit_late),
    "sells slip from the low": broker(_try_exec_limit=slip_sells_from_the_low),
    "trailing stops move before the try": broker(_try_exec_stop=trail_before_the_try),
    "close orders forget the closing bar": broker(_try_exec_close=close_without_the_annotated),
    "stop limits always fill inside the bar": broker(_try_exec_stoplimit=stop_limit_always_inside_the_bar),
    "orders never expire": broker(next=never_expire),
    "groups are forgotten": broker(_ococheck=forget_the_group),
    "brackets are forgotten": broker(_bracketize=lambda self, order, cancel=False: None),
    "the newest order goes first": broker(next=newest_first),
    "executed price is the fill's own": broker(_execute=exact_price),
    "refusals are not told": broker(notify=margin_without_notice),
    "the order itself is handed out": broker(notify=the_order_itself),
    "one ulp more of cash": broker(next=one_ulp_more),
    "no check before acceptance": broker(check_submitted=accept_everything),
    "the check takes the open": broker(_execute=check_at_the_open),
    "each order of a batch has all the cash": broker(check_submitted=forgive_the_batch),
    "value is that of the bar before": broker(get_value=stale_value, getvalue=stale_value),
    "adjustment base stays": broker(next=keep_the_base),
    "interest is forgotten": broker(next=no_interest),
    "a position's date stays": broker(next=lazy_dates),
    "cash stays a whole number": broker(next=whole_cash),
    "asking for a position leaves nothing": broker(getposition=no_entry_for_asking),
    "value of one feed is unsigned": broker(get_value=abs_of_one, getvalue=abs_of_one),
    "next is called a bar early": each(one_bar_early),
    "prenext is not called": silenced("prenext"),
    "nextstart is not called": each(no_nextstart),
    "stop is not called": silenced("stop"),
    "trades are not told": silenced("notify_trade"),
    "cash is not told": silenced("notify_cashvalue"),
    "the fund is not told": silenced("notify_fund"),
    "timers are not told": silenced("notify_timer"),
    "next_open is not called": silenced("next_open"),
    "analyzers are not called": silenced("_next_analyzers"),
    "observers are not called": silenced("_next_observers"),
    "ticks are missing": runs(no_ticks),
    "the strategy's stamps differ in a bit": each(late_stamps),
    "orders are told again and again": each(never_cleared),
    "the last value of an indicator differs in a bit": ended(last_bit),
    "a volume differs": ended(unequal_volume),
    "indicators stand still": each(still_indicators),
    "it cannot be stopped": Unstoppable,
    "a notification is lost": Deaf,
    "exceptions stay inside": Forgiving,
    "feeds move in lockstep": Lockstep,
}
