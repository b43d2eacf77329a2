"""`Cerebro`: Backtrader's, with the same results to the last bit in less time; hot."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from itertools import chain, groupby, islice, repeat
from typing import Any

import backtrader as bt
import numpy as np
from backtrader.indicator import Indicator
from backtrader.linebuffer import LineActions, LineBuffer
from backtrader.lineiterator import LineIterator
from backtrader.lineseries import LineSeries, LineSeriesStub
from backtrader.trade import Trade

from backtest._garbage import seldom_collected
from backtest.engine.account.converted import Converted
from backtest.engine.lean.broker import LeanBroker
from backtest.engine.lean.clock import FeedClock, feed_stamps
from backtest.engine.lean.history import History, Walked
from backtest.engine.lean.indicators import once
from backtest.engine.lean.lines import Coupling, Cursor, is_plain, quick_indicators
from backtest.engine.lean.signals import forget_finished, has_signals, lean_signals
from backtest.engine.lean.timers import ring, watched_timers
from backtest.engine.sessions import know_any
from backtest.market.arrays import MANY

# What the loop does instead of the strategy and the feeds; a class that overrides one of these uses Backtrader's loop.
_MOVES = ("_oncepost", "_oncepost_open", "_notify", "_addnotification", "_getminperstatus", "clear", "forward",
          "_next_observers", "_next_analyzers", "_once", "reset", "__len__")  # fmt: skip
_FEED_MOVES = ("__len__", "advance", "advance_peek", "_tick_nullify", "_tick_fill", "home")
_MOVES_BY_BAR = ("_next", "_clk_update", "_next_open")
_FEED_MOVES_BY_BAR = ("next", "rewind", "haslivedata", "do_qcheck", "get_notifications", "_check", "_last")
_LISTENS = ("notify_cashvalue", "notify_fund")
_MANY = 1000  # orders: eight megabytes
_STEPS = ("_next", "_prenext", "_nextstart", "next", "prenext", "nextstart")


class Cerebro(bt.Cerebro):
    """
    A drop-in replacement for `bt.Cerebro`: the same orders, fills, notifications, values and order of calls.

    Plain runs (preloaded feeds, `runonce`, one strategy, Backtrader's own broker) use the fast loop; unusual setups
    use Backtrader's.

    Attributes:
        forgets: whether the fast loop frees objects that are no longer read: finished orders and trades that were
            reported, and the internals of Backtrader's own indicators.
        lean: whether the last run used the fast loop.
        why_not: the reason if it did not.
        history: the account of a run in the fast loop, bar by bar; otherwise None.
        payouts: payments into cash between bars, if any: see `account.payouts`.
        walker: a function of the strategy that runs all bars in place of the loop, or returns None.
    """

    knows = "1.9.78.123"  # the Backtrader whose private parts this file, broker.py, orders.py and lines.py know
    forgets = False
    lean = False
    why_not = ""
    history: History | None = None
    payouts: Any = None
    walker: Callable[[Any], Walked | None] | None = None

    def run(self, **kwargs: Any) -> Any:
        """Run as `bt.Cerebro.run` does."""
        self.lean, self.why_not, self.history = False, "", None
        try:
            return super().run(**kwargs)
        finally:
            if not self.lean:
                self.why_not = self.why_not or "it does not preload bars and run indicators once"
                import logging

                logging.getLogger(__name__).info("this run uses Backtrader's own loop: %s", self.why_not)

    def _runonce(self, runstrats: list[Any]) -> None:
        # The one method that all preloaded runs of Backtrader call; set-up, results and clean-up stay Backtrader's.
        self.why_not = _why_not(self, runstrats)
        if self.why_not:
            super()._runonce(runstrats)
            return
        self.lean = True
        _LeanRun(self, runstrats[0]).run()

    def _runnext(self, runstrats: list[Any]) -> None:
        # An indicator such as HeikinAshi sends runs through here; a run set to go bar by bar gets Backtrader's loop.
        asked = self._dorunonce or not self.p.runonce or not self._dopreload or self._exactbars
        asked = asked or self.p.live or self._dolive
        if not asked:
            self.why_not = _why_not(self, runstrats) or next(_reasons_by_bar(self, runstrats[0]), "")
        if asked or self.why_not:
            super()._runnext(runstrats)
            return
        self.lean = True
        _LeanRun(self, runstrats[0], by_bar=True).run()


def _share_stamps(strategy: Any, clock: FeedClock) -> None:
    """Let a strategy that moved with a single clock have the line of its stamps in common with it, in memory once."""
    line = strategy.lines.datetime
    if len(clock.cursors) == 1 and np.array_equal(line.array, clock.stamps):
        line.array = clock.stamps


# --- which runs are plain


def _why_not(cerebro: Any, strategies: list[Any]) -> str:
    """Return why a run is to take Backtrader's own loop; "" if it need not."""
    if bt.__version__ != cerebro.knows:
        return f"Backtrader {bt.__version__} is installed, but only {cerebro.knows} is supported"
    found = [
        (len(strategies) != 1, "it runs several strategies"),
        (cerebro._dooptimize, "it optimises"),
        (cerebro.p.quicknotify, "it notifies at once"),
        (bool(cerebro.runwriters or cerebro.stores), "it has writers or stores"),
        (cerebro._event_stop, "it is stopped before its first bar"),
    ]
    reasons = [reason for applies, reason in found if applies]
    return next(chain(reasons, _broker_reasons(cerebro.broker), _reasons(strategies[0]), _feed_reasons(cerebro)), "")


def _broker_reasons(broker: Any) -> Iterator[str]:
    stock = bt.brokers.BackBroker
    if type(broker) is not stock or any(
        callable(getattr(stock, name, None)) for name in vars(broker) if name != "params"
    ):
        yield "its broker is not Backtrader's own"
        return
    if broker.p.filler is not None:
        yield "its broker fills by volume"
    if broker._userhist or broker._fundhist:
        yield "its broker has a history of orders or funds"


def _reasons(strategy: Any) -> Iterator[str]:
    known = bt.SignalStrategy if has_signals(strategy) else bt.Strategy
    own = [name for name in _MOVES if getattr(type(strategy), name) is not getattr(known, name)]
    if own or any(name in vars(strategy) for name in _MOVES):
        yield f"the strategy has its own {', '.join(own)}"
    if list(map(id, strategy.datas)) != list(map(id, strategy.cerebro.datas)):
        yield "the strategy has feeds of its own"
    if strategy._oldsync or not all(is_plain(line) and not line.bindings for line in strategy.lines.lines):
        yield "the lines of the strategy are bound"
    if "datetime" not in strategy.lines.getlinealiases():
        yield "the strategy has no line of stamps"


def _feed_reasons(cerebro: Any) -> Iterator[str]:
    datas = cerebro.datas
    if len(set(map(id, datas))) < len(datas):
        yield "a feed is there twice"
    for data in datas:
        if any(getattr(type(data), name) is not getattr(bt.feed.AbstractDataBase, name) for name in _FEED_MOVES):
            yield f"the feed {data._name} has its own way to move"
        if data._compensate is not None or not all(map(is_plain, data.lines.lines)):
            yield f"the feed {data._name} has lines of its own, or compensates another"
        if not np.isfinite(feed_stamps(data)).all() or (len(datas) > 1 and (np.diff(feed_stamps(data)) < 0).any()):
            yield f"the stamps of {data._name} do not rise"


def _reasons_by_bar(cerebro: Any, strategy: Any) -> Iterator[str]:
    """Yield why a run that an indicator forces to go bar by bar has to use Backtrader's own loop."""
    if any(getattr(type(strategy), name) is not getattr(bt.Strategy, name) for name in _MOVES_BY_BAR):
        yield "the strategy has its own way to move bar by bar"
    for data in cerebro.datas:
        if any(getattr(type(data), name) is not getattr(bt.feed.AbstractDataBase, name) for name in _FEED_MOVES_BY_BAR):
            yield f"the feed {data._name} has its own way to move"
        if data._filters or data._ffilters:
            yield f"the feed {data._name} has filters, which may look at each bar again"


def _priced(data: Any) -> bool:
    """Return whether each bar has a close: a missing one makes the account's value NaN, even without a position."""
    if not hasattr(data.lines, "close"):
        return False  # Backtrader raises as soon as there is a position, even a flat one
    return bool(data.buflen() and np.isfinite(np.frombuffer(data.lines.close.array)).all())


# --- the loop


class _LeanRun:
    """
    One run of one strategy; all decisions that do not depend on a bar's numbers are made before the loop.

    Args:
        by_bar: whether Backtrader would run it bar by bar, so that indicators grow with the strategy.
    """

    def __init__(self, cerebro: Cerebro, strategy: Any, by_bar: bool = False) -> None:
        self.cerebro, self.strategy, self.broker = cerebro, strategy, cerebro.broker
        every = [*strategy.analyzers, *strategy._slave_analyzers]
        self.bulk = [one for one in strategy.analyzers if hasattr(one, "take")]
        busy = [one for one in strategy.analyzers if one in self.bulk or not _idle(one, _STEPS)]
        noting = busy.index(self.bulk[0]) if self.bulk else len(busy)  # code that runs before or after may add cash
        self.analyzers = [one for one in busy[:noting] if one not in self.bulk]
        self.analyzers_after = [one for one in busy[noting:] if one not in self.bulk]
        self.listeners = [one for one in every if one not in self.bulk and not _idle(one, _LISTENS)]
        self.hearers = [one for one in every if not _idle(one, ("notify_order", "notify_trade"))]
        self.tells_cash = bool(self.listeners) or not _unchanged(strategy, bt.Strategy, _LISTENS)
        self.many = _MANY
        self.nosy = not all(map(_is_ours, self.broker.comminfo.values()))
        self.observes = bool(strategy._lineiterators[LineIterator.ObsType])
        self.signals = has_signals(strategy)
        self.timers, self.early_timers = watched_timers(cerebro._timers), watched_timers(cerebro._timerscheat)
        self.opens = bool(cerebro.p.cheat_on_open)
        self.cheats = bool(self.early_timers) or self.opens  # whether code runs before the broker
        self.by_bar = by_bar
        self.late: list[Any] = []  # indicators that check their clocks themselves
        self.looks_behind = False
        self.moves: list[Callable[[], object]] = []  # of indicators, in order, in a run bar by bar
        self.groups: list[tuple[int, Coupling, list[Any]]] = []  # of those done at once, each with its place in moves

    def run(self) -> None:
        """Compute the indicators, couple all lines to the clock, walk, and leave everything as Backtrader would."""
        clock = FeedClock(self.cerebro.datas)
        coupling = Coupling(growing=self.by_bar)
        self.history = History(clock, self.broker, self.cerebro.datas)
        if self.by_bar:
            self._couple_by_bar(coupling, clock)
        else:
            once(self.strategy, sparing=self.cerebro.forgets and not _shares_lines())
            self.strategy.reset()
            self._couple(coupling, clock)
        datas = self.cerebro.datas
        walked = self.cerebro.walker(self.strategy) if self.cerebro.walker and self._is_quiet() else None
        engage: Any = LeanBroker.engage
        if len(clock.cursors) > 1:  # otherwise each bar advances all feeds, and no order waits for one
            from backtest.engine.lean.queues import QueueingBroker

            engage = partial(QueueingBroker.engage, cursors=len(clock.cursors))
        engage(self.broker, clock.own, all(map(_priced, datas)), self.cheats, by_sessions=know_any(datas))
        if self.broker.rules is not None:
            stamps = np.frombuffer(clock.stamps, count=clock.steps).copy()
            self.broker.rules.watch(self.history.closes_by_step(), stamps)
        watching = _watched(self.strategy._lineiterators, self._made)
        try:
            if walked is not None:
                self._leave(clock, walked)
            else:
                with seldom_collected(), quick_indicators(coupling.quick), watching, lean_signals(self.strategy):
                    self._walk(clock)
                self.history.close(clock.own.at + 1)
        finally:
            self._release()
            coupling.undo()
            self.broker.release()
        if self.cerebro.forgets and clock.steps >= MANY:
            _share_stamps(self.strategy, clock)
        if walked is None:
            self.history.expand()
        self.cerebro.history = self.history
        for one in self.bulk:
            one.take(self.history)

    def _couple(self, coupling: Coupling, clock: FeedClock) -> None:
        """Couple feeds, strategy and indicators; indicators that follow none of these check for new bars themselves."""
        self._couple_own(coupling, clock)
        follows: dict[int, Cursor] = {}
        for data, cursor in clock.cursor_of.items():
            follows.update(dict.fromkeys(map(id, (data, *data.lines.lines)), clock.follower_of[cursor]))
        follows.update(dict.fromkeys(map(id, (self.strategy, *self.strategy.lines.lines)), clock.behind))
        looked_at: set[int] = set()
        alike = _move_alike(self.strategy)
        for indicator in self.strategy._lineiterators[LineIterator.IndType]:
            clock_id, lines = _clock_of(indicator), _lines_of(indicator)
            followed, ids = follows.get(clock_id), {id(indicator), *map(id, lines)}
            if not alike or followed is None or ids & looked_at or not all(map(is_plain, lines)):
                self.late.append(indicator)
                looked_at.add(clock_id)  # a later one must not have advanced when this one reads it
                continue
            coupling.couple(indicator, followed)
            follows.update(dict.fromkeys(ids, followed))
            self.looks_behind |= followed is clock.behind

    def _couple_own(self, coupling: Coupling, clock: FeedClock) -> None:
        for data, cursor in clock.cursor_of.items():
            coupling.couple_feed(data, cursor)
        coupling.couple(self.strategy, clock.own)

    def _couple_by_bar(self, coupling: Coupling, clock: FeedClock) -> None:
        """Compute at once what can be, and let each indicator advance in its turn, after the strategy."""
        indicators = self.strategy._lineiterators[LineIterator.IndType]
        at_once = _at_once(indicators, self.cerebro.datas) if len(clock.cursors) == 1 else set()
        self._couple_own(coupling, clock)
        for done, group in groupby(indicators, lambda indicator: id(indicator) in at_once):
            if done:
                self.moves.append(self._group(list(group)))
            else:
                self.moves.extend(indicator._next for indicator in group)

    def _group(self, indicators: list[Any]) -> Callable[[], None]:
        """Couple indicators that have all their values, and return the cursors that move them."""
        cursor, coupling = Cursor(), Coupling(growing=True)
        cursor.release = self._release
        for indicator in indicators:
            coupling.couple_growing(indicator, cursor)
        self.groups.append((len(self.moves), coupling, indicators))
        return cursor.step

    def _release(self) -> None:
        """Return all indicators to Backtrader, which then appends to their lines bar by bar."""
        for place, coupling, indicators in self.groups:
            coupling.undo()
            self.moves[place] = partial(_next_of, indicators)
        self.groups.clear()

    def _made(self, indicator: Any) -> None:
        """Make an indicator created during the run check by itself too, or advance in its turn."""
        if self.by_bar:
            self.moves.append(indicator._next)
        else:
            self.late.append(indicator)

    def _walk(self, clock: FeedClock) -> None:
        minimums: dict[Cursor, int] = {}
        for data, minimum in zip(self.strategy.datas, self.strategy._minperiods, strict=True):
            cursor = clock.cursor_of[data]
            minimums[cursor] = max(minimum, minimums.get(cursor, minimum))
        before, just = clock.phases(minimums)
        steps: Iterator[Any] = enumerate(zip(clock.movers(), clock.stamps, strict=False))
        if self.cerebro.payouts is not None:
            steps = chain.from_iterable(self._paid_between(steps, clock))
        if self.broker.rules is not None:
            steps = self._ruled(steps, self.broker.rules)
        for phase, name, status in (
            (islice(steps, before), "prenext", 1),
            (islice(steps, just), "nextstart", 0),
            (steps, "next", -1),
        ):
            self._go(clock, self._go_plainly(clock, phase, name), name, status)
        if self.by_bar and not self.cerebro._event_stop:
            self.cerebro._datanotify()

    def _is_quiet(self) -> bool:
        """Return whether at each bar only the broker and the strategy act, and observers that read all bars at once."""
        busy = (self.nosy, self.timers, self.cheats, self.by_bar, self.late, self.observes, self.tells_cash)
        others = [one for one in self.hearers if one not in self.bulk]
        rules = getattr(self.broker, "rules", None)
        others += [*self.analyzers, *self.analyzers_after, *self.listeners]
        return not any(busy) and not others and rules is None and self.cerebro.payouts is None

    def _leave(self, clock: FeedClock, walked: Walked) -> None:
        """Leave feeds, indicators and strategy in the state after the loop, if another engine has run the bars."""
        for cursor in clock.cursors:
            rows = clock.row(cursor)
            cursor.at = clock.follower_of[cursor].at = clock.steps - 1 if isinstance(rows, slice) else int(rows[-1])
        clock.own.at = clock.steps - 1
        clock.behind.at = clock.steps - 2 if self.looks_behind else clock.behind.at
        self.strategy.lines.datetime.array.extend(clock.stamps[: clock.steps])
        for line in self.strategy.lines.lines:
            if line is not self.strategy.lines.datetime:
                line.array.extend(repeat(float("nan"), clock.steps))
        assert self.history is not None
        self.history.take(walked)

    def _paid_between(self, steps: Iterator[Any], clock: FeedClock) -> Iterator[Iterator[Any]]:
        """Yield the steps in stretches; between them something is paid before the next step begins."""
        payouts, stamps, done = self.cerebro.payouts, np.frombuffer(clock.stamps, count=clock.steps), 0
        for step in np.unique(np.searchsorted(stamps, payouts.stamps)).tolist():
            yield islice(steps, step - done)
            done = step
            if step < clock.steps and not self.cerebro._event_stop:
                payouts.pay(self.broker, clock.stamps[step], self.history)
        yield steps

    def _ruled(self, steps: Iterator[Any], rules: Any) -> Iterator[Any]:
        """Yield the steps, and run the broker at those at which its account may be short of margin."""
        activating = self.broker._toactivate
        for step in steps:
            if step[0] >= rules.due:
                activating.append(_NOTHING)
            yield step

    def _is_plain(self, clock: FeedClock) -> bool:
        """Return whether one cursor moves all feeds, and only the broker and the strategy act at a bar."""
        busy = (
            *(self.nosy, self.looks_behind, self.timers, self.cheats, self.by_bar, self.late, self.moves),
            *(self.observes, self.analyzers, self.analyzers_after),
            *(len(clock.cursors) > 1, len(self.strategy.lines.lines) > 1),
        )
        return not any(busy)

    def _go_plainly(self, clock: FeedClock, steps: Any, name: str) -> Any:
        """Do what `_go` does for a plain run; return the remaining steps if an indicator was created during the run."""
        if not self._is_plain(clock):
            return steps
        # All notifications come from the broker: without it, none is pending.
        cerebro, strategy, broker, late, tells_cash = (
            self.cerebro,
            self.strategy,
            self.broker,
            self.late,
            self.tells_cash,
        )
        submitted, pending, activating, notes = broker.submitted, broker.pending, broker._toactivate, broker.notifs
        (feed,), own, add_stamp = clock.cursors, clock.own, strategy.lines.datetime.array.append
        follower, call = clock.follower_of[feed], operator.methodcaller(name)
        for step, moved in steps:
            if cerebro._event_stop:
                return ()
            if late:
                return chain([(step, moved)], steps)
            feed.at = step
            if submitted or pending or activating or broker.restless or not step:
                if self._works(step, moved[0][0], notes):
                    return ()
            else:
                broker.stale = True
            tells = bool(notes)
            if tells:
                self._deliver(notes)
            follower.at = own.at = step
            add_stamp(moved[1])
            if tells_cash or (tells and (strategy._orderspending or strategy._tradespending)):
                self._tell()
            call(strategy)
            if broker.restless:
                self.history.note(step)
            if tells and (strategy._orderspending or strategy._tradespending):
                self._clear()
        return ()

    def _works(self, step: int, feeds: Any, notes: Any) -> bool:
        """Run the broker for a bar, and return whether the run was stopped, for example by a commission scheme."""
        broker = self.broker
        broker.step, broker.movers = step, feeds
        try:
            broker.next()
        except BaseException:
            broker.break_off()
            raise
        stopped = bool(self.cerebro._event_stop)
        if stopped:
            self._deliver(notes)
        return stopped

    def _clear(self) -> None:
        """Forget what was reported."""
        self.strategy.clear()
        if self.cerebro.forgets:
            self._forget()

    def _go(self, clock: FeedClock, steps: Any, name: str, status: int) -> None:
        # Inlined, since this is all that happens on most bars: what is not needed is not even called.
        cerebro, strategy, broker = self.cerebro, self.strategy, self.broker
        submitted, pending, activating = broker.submitted, vars(broker)["pending"], broker._toactivate
        notes, parked = broker.notifs, broker.parked
        analyzers, observes, late, tells_cash = self.analyzers, self.observes, self.late, self.tells_cash
        analyzers_after = self.analyzers_after
        own, behind, looks_behind, nosy = clock.own, clock.behind, self.looks_behind, self.nosy
        add_stamp = strategy.lines.datetime.array.append
        more_lines = [line for line in strategy.lines.lines if line is not strategy.lines.datetime]
        call, step_of = operator.methodcaller(name), operator.methodcaller(f"_{name}")
        timers, cheats, by_bar, moves, datas = self.timers, self.cheats, self.by_bar, self.moves, cerebro.datas
        waits = bool(timers) or cheats or by_bar
        for step, ((feeds, followers), stamp) in steps:
            if cerebro._event_stop:
                return
            if by_bar:
                for data in datas:
                    if data.notifs:
                        cerebro._datanotify()
                if cerebro._event_stop:
                    return
            due = parked and broker.has_due(feeds)
            if nosy and broker.stale and (submitted or pending or activating or due):
                broker.settle()
            for cursor in feeds:
                cursor.at += 1
            if waits:
                broker.bar = step
                if cheats and self._cheat(stamp):
                    return
            if submitted or pending or activating or due or broker.restless or not step:
                if self._works(step, feeds, notes):
                    return
            else:
                broker.stale = True
            if notes:
                self._deliver(notes)
            if waits:
                if cerebro._event_stop:
                    return
                strategy._minperstatus = status
                if timers:
                    ring(timers, stamp, strategy)
            for cursor in followers:
                cursor.at += 1
            if looks_behind:
                behind.at = own.at
            for indicator in late:
                if len(indicator._clock) > len(indicator):
                    indicator.advance()
            own.at += 1
            add_stamp(stamp)
            for line in more_lines:
                line.array.append(float("nan"))
            for move in moves:
                move()
            if strategy._orderspending or strategy._tradespending or tells_cash:
                self._tell()
            call(strategy)
            for analyzer in analyzers:
                step_of(analyzer)
            if broker.restless:
                self.history.note(step)
            for analyzer in analyzers_after:
                step_of(analyzer)
            if observes:
                strategy._next_observers(status, once=not by_bar)
            if strategy._orderspending or strategy._tradespending:
                self._clear()

    def _cheat(self, stamp: float) -> bool:
        """Run what acts before the broker, and return whether the run ends before the broker."""
        self.broker.early = True
        ring(self.early_timers, stamp, self.strategy)
        if self.opens:
            self.strategy._oncepost_open()
        self.broker.early = False
        return bool(self.opens and self.cerebro._event_stop)

    def _forget(self) -> None:
        strategy, orders = self.strategy, self.broker.orders
        strategy._orders.clear()  # three clones an order
        if len(orders) < self.many:
            return
        self.broker.forget()
        for trades in chain.from_iterable(one.values() for one in strategy._trades.values()):
            del trades[:-1]
        self.many = _MANY + 2 * len(orders)

    def _deliver(self, notes: Any) -> None:
        """Notify owners of changes to their orders, as `Cerebro._brokernotify` does."""
        strategy = self.strategy
        while notes:
            order = notes.popleft()
            owner = order.__dict__.get("owner", order.p.owner)  # order.owner, in less time
            if owner is None or owner is strategy:
                _hear(strategy, order)
            else:
                owner._addnotification(order, quicknotify=self.cerebro.p.quicknotify)

    def _tell(self) -> None:
        """Notify the strategy and the analyzers, as `Strategy._notify` does."""
        strategy = self.strategy
        if self.signals:
            forget_finished(strategy)
        for order in strategy._orderspending:
            if order.exectype != order.Historical or order.histnotify:
                strategy.notify_order(order)
            for analyzer in self.hearers:
                analyzer._notify_order(order)
        for trade in strategy._tradespending:
            strategy.notify_trade(trade)
            for analyzer in self.hearers:
                analyzer._notify_trade(trade)
        if self.tells_cash:
            self._tell_cash()

    def _tell_cash(self) -> None:
        strategy, broker = self.strategy, self.broker
        cash, value, fund_value, shares = broker.getcash(), broker.getvalue(), broker.fundvalue, broker.fundshares
        strategy.notify_cashvalue(cash, value)
        strategy.notify_fund(cash, value, fund_value, shares)
        for analyzer in self.listeners:
            analyzer._notify_cashvalue(cash, value)
            analyzer._notify_fund(cash, value, fund_value, shares)


class _Nothing:
    """A stand-in for an order to be activated, so that the broker does its work."""

    def activate(self) -> None:
        """Do nothing."""


_NOTHING = _Nothing()


def _hear(strategy: Any, order: Any) -> None:
    """Keep an order's news until the strategy is notified, with its trades: `Strategy._addnotification`."""
    if not order.p.simulated:
        strategy._orderspending.append(order)
    if not order.executed.size:
        return
    trades = strategy._trades[order.data][order.tradeid]
    trade = trades[-1] if trades else _new_trade(strategy, order, trades)
    pending = strategy._tradespending
    for bit in order.executed.iterpending():
        if bit.closed:
            trade.update(order, bit.closed, bit.price, bit.closedvalue, bit.closedcomm, bit.pnl, order.comminfo)
            if trade.isclosed:
                pending.append(copy(trade))
        if bit.opened:
            if trade.isclosed:
                trade = _new_trade(strategy, order, trades)
            trade.update(order, bit.opened, bit.price, bit.openedvalue, bit.openedcomm, bit.pnl, order.comminfo)
            if trade.isclosed:  # an order of another tradeid had closed what this one opens
                pending.append(copy(trade))
        if trade.justopened:
            pending.append(copy(trade))


def _new_trade(strategy: Any, order: Any, trades: list[Any]) -> Any:
    trade = Trade(data=order.data, tradeid=order.tradeid, historyon=strategy._tradehistoryon)
    trades.append(trade)
    return trade


def _is_ours(model: Any) -> bool:
    """Return whether a commission scheme is known not to read the account while the broker works."""
    inner = model.inner if type(model) is Converted else model
    return type(inner).__module__.startswith(("backtrader.", "backtest."))


def _shares_lines() -> bool:
    """Return whether equal indicators and operations are shared objects: `objcache`."""
    return bool(LineActions._acacheuse or Indicator._icacheuse)


def _next_of(indicators: list[Any]) -> None:
    for indicator in indicators:
        indicator._next()


def _at_once(indicators: list[Any], datas: list[Any]) -> set[int]:
    """Compute the indicators at once that give the same values that way, and return their ids; none if one fails."""
    from backtest.engine.lean.equivalence import Equivalents

    equivalents = Equivalents(datas)
    found = [indicator for indicator in indicators if equivalents.take(indicator)]
    try:
        for indicator in found:
            once(indicator)
    except Exception:  # noqa: BLE001 - it is to come out at its bar
        for indicator in found:
            _empty(indicator)
        return set()
    return set(map(id, found))


def _empty(indicator: Any) -> None:
    for line in [indicator] if isinstance(indicator, LineBuffer) else indicator.lines.lines:
        line.reset()
    for child in getattr(indicator, "_lineiterators", {}).get(LineIterator.IndType, ()):
        _empty(child)


def _clock_of(indicator: Any) -> int:
    clock = indicator._clock
    return id(clock.lines.lines[0] if isinstance(clock, LineSeriesStub) else clock)


def _lines_of(indicator: Any) -> list[Any]:
    return [indicator] if isinstance(indicator, LineBuffer) else indicator.lines.lines


def _move_alike(strategy: Any) -> bool:
    """Return whether all indicators advance as Backtrader's own do, and share no lines."""
    indicators = strategy._lineiterators[LineIterator.IndType]
    lines = [line for owner in (*strategy.datas, strategy, *indicators) for line in _lines_of(owner)]
    return len(set(map(id, lines))) == len(lines) and all(map(_moves_plainly, indicators))


def _moves_plainly(indicator: Any) -> bool:
    base = LineBuffer if isinstance(indicator, LineBuffer) else LineSeries
    plain = base.advance, bt.Indicator.advance
    own = "advance" in vars(indicator) or type(indicator).advance not in plain
    known = base if isinstance(indicator, LineBuffer) else Indicator  # which is ours while another run lasts
    return not own and type(indicator).__len__ is known.__len__


class _Watched(list[Any]):
    """The indicators of a strategy, as a list that reports one created during the run."""

    def __init__(self, indicators: list[Any], made: Callable[[Any], None]) -> None:
        super().__init__(indicators)
        self._made = made

    def append(self, indicator: Any) -> None:
        super().append(indicator)
        self._made(indicator)


@contextmanager
def _watched(iterators: dict[int, list[Any]], made: Callable[[Any], None]) -> Iterator[None]:
    iterators[LineIterator.IndType] = _Watched(iterators[LineIterator.IndType], made)
    try:
        yield
    finally:
        iterators[LineIterator.IndType] = list(iterators[LineIterator.IndType])


def _unchanged(thing: Any, base: Any, names: tuple[str, ...]) -> bool:
    return all(getattr(type(thing), name) is getattr(base, name) and name not in vars(thing) for name in names)


def _idle(analyzer: Any, names: tuple[str, ...]) -> bool:
    """Return whether an analyzer and all below it leave these methods as the base class has them: empty."""
    private = tuple(f"_{name}" for name in names if not name.startswith("_"))
    return _unchanged(analyzer, bt.Analyzer, (*names, *private)) and all(
        _idle(one, names) for one in analyzer._children
    )
