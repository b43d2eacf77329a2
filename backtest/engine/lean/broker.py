"""`LeanBroker`: Backtrader's simulated broker, with the same orders and fills in less time; hot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any

import backtrader as bt
from backtrader.order import BuyOrder, OrderExecutionBit, SellOrder
from backtrader.position import Position

from backtest.engine.account.commissions import bill_of
from backtest.engine.account.converted import Converted, converting, converts_any
from backtest.engine.lean.orders import (
    CLOSE,
    COMPLETED,
    CREATED,
    LIMIT,
    MARKET,
    PARTIAL,
    STOP,
    STOP_TRAIL,
    LeanPosition,
    after,
    clone,
    named_as_its_base,
    new_order,
    stock_position,
)
from backtest.engine.sessions import given, waits

_Stock: Any = bt.brokers.BackBroker
# What a commission model must leave as it is, so that cash and value move only with fills: no interest, no margin.
_STILL = ("getvaluesize", "profitandloss", "cashadjust", "get_credit_interest", "_get_credit_interest", "get_leverage")
# What the broker computes from closes at the end of each bar, and here only when it is read.
_RECKONED = ("_value", "_valuemkt", "_valuelever", "_valuemktlever", "_leverage", "_unrealized", "_fundval")

_PLAIN = {float, int, type(None)}  # of which a history of floats can be made, the same to the last bit


def is_still(model: Any) -> bool:
    """Return whether a commission model leaves cash unchanged between fills, as that of a plain stock does."""
    if type(model) is Converted:  # as the model inside: the value moves with the rate, the cash does not
        return model.cash is None and is_still(model.inner)
    base = bt.CommInfoBase
    own = any(getattr(type(model), name) is not getattr(base, name) or name in vars(model) for name in _STILL)
    # _creditrate is the daily interest; Backtrader stores it nowhere else.
    return bool(not own and model.stocklike and model._creditrate == 0)


def _reckoned(name: str) -> Any:
    def look(self: Any) -> Any:
        if self.stale:
            self.settle()
        return self.__dict__[name]

    def put(self: Any, value: Any) -> None:
        self.__dict__[name] = value

    return property(look, put)


def _unsettling(name: str) -> Any:
    """Return Backtrader's method, which changes the account between fills; then Backtrader processes each bar."""
    method = getattr(_Stock, name)

    def unsettling(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.unsettle()
        return method(self, *args, **kwargs)

    return unsettling


_OWN = ("stale", "credited", "clock", "step", "bar", "early", "movers", "booked", "ranks", "fills", "cashes",
        "sessions", "resent", "restless", "by_sessions", "parked",
        "_parked_at", "_cursors", "_settings", "_in_turn", "_last", "_at_hand", "_inside", "_tried")  # fmt: skip


@named_as_its_base
class LeanBroker(_Stock):
    """
    A `BackBroker` during a lean run: it becomes one by `engage` and is itself again after `release`.

    While only fills change cash and positions, `next` need not be called on bars without orders: the value is computed
    when it is read. If `restless` is set, something else changes them, and Backtrader's own code processes each bar.
    """

    restless: bool
    stale: bool
    credited: bool
    clock: Any
    flows: Any = None  # whom to notify when cash is set; see `engine.cash_flows`
    rules: Any = None  # of the account, if it has others than Backtrader's; see `account.margin`
    step: int  # the last one at which `next` was called
    bar: int  # the current step, if code may run before the strategy advances
    early: bool  # whether code runs before `next` at that step
    movers: tuple[Any, ...]
    booked: dict[Any, None]  # the feeds of fills since interest was last credited
    ranks: dict[Any, int]  # the places of the positions' feeds
    fills: list[tuple[int, Any, Any, float]]
    cashes: list[tuple[int, float]]
    sessions: dict[Any, Any]
    resent: set[int]
    by_sessions: bool
    parked: Mapping[Any, Any] = MappingProxyType({})  # orders that wait apart: see `queues.QueueingBroker`

    @classmethod
    def engage(cls, broker: Any, clock: Any, priced: bool, watched: bool = False, *, by_sessions: bool = False) -> None:
        """
        Turn a broker into a lean one, in place, since strategies keep references to it.

        Args:
            clock: the clock, whose `at` is the step of the run.
            priced: whether every bar has a close.
            watched: whether any code may read the account after a bar has begun and before `next` has been called.
            by_sessions: whether feeds know their sessions, or have bars that replace missing ones.
        """
        kind: Any = cls
        broker.__class__ = converting(kind) if converts_any(broker) else kind
        broker.by_sessions = by_sessions
        broker.stale, broker.credited, broker.clock = False, False, clock
        broker.step, broker.movers, broker.booked, broker.ranks = 0, (), {}, {}
        broker.bar, broker.early = 0, False
        broker.fills, broker.cashes, broker.sessions = [], [(0, broker.cash)], {}
        sent = Counter(order.ref for order in (*broker.submitted, *broker.pending))
        broker.resent = {ref for ref, times in sent.items() if times > 1}
        broker.restless = broker.p.shortcash is not True or not priced or watched
        broker.restless |= not all(map(is_still, broker.comminfo.values()))
        broker.restless |= any(broker.positions.values()) or bool(broker._cash_addition)

    def release(self) -> None:
        """Become Backtrader's own broker again."""
        self.unsettle()
        for name in _OWN:
            self.__dict__.pop(name, None)
        self.__class__ = _Stock

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle and copy as Backtrader's own broker."""
        if self.stale:
            self.settle()
        if not self.restless and self.clock.at > self.step:
            self._credit()
        return object.__new__, (_Stock,), {name: kept for name, kept in vars(self).items() if name not in _OWN}

    def unsettle(self) -> None:
        """Use Backtrader's own methods from now on: something changes the account between fills."""
        if self.restless:
            return  # Backtrader computes it at the end of a bar; here, later cash would count too early
        if self.stale:
            self.settle()
        if self.clock.at > self.step:  # bars have passed without `next`
            self._credit()
        self._stock_positions()
        self.restless = True

    def break_off(self) -> None:
        """Leave the state that Backtrader leaves if an exception interrupts a bar."""
        if self.restless:
            return
        if self.stale:
            self._settle_before()
        for data, position in self.positions.items():
            if type(position) is not LeanPosition:
                continue
            ago = -1 if data.lines.lines[0]._cursor in self.movers else 0
            touched, base = position._touched == self.step, position._base
            stock_position(position)
            if position.size:
                position.adjbase = base if touched else data.close[ago]
                if not self.credited:
                    position.datetime = data.datetime.datetime(ago)
        self.restless = True

    def _settle_before(self) -> None:
        """Compute the value of the account at the closes of the last processed bar."""
        for cursor in self.movers:
            cursor.at -= 1
        self.settle()
        for cursor in self.movers:
            cursor.at += 1

    def _stock_positions(self) -> None:
        for position in self.positions.values():
            stock_position(position)

    def _credit(self) -> None:
        positions, ranks = self.positions, self.ranks
        for data in islice(positions, len(ranks), None):
            ranks[data] = len(ranks)
        # In the order of the positions; those that are not filled have theirs since the bar after their last fill.
        for data in sorted(self.booked, key=ranks.__getitem__):
            if positions[data].size:
                self.d_credit[data] += 0.0  # the interest of what was open before this bar, which is none
        self.booked.clear()

    # What Backtrader keeps up to date bar by bar.
    _value, _valuemkt, _valuelever, _valuemktlever, _leverage, _unrealized, _fundval = map(_reckoned, _RECKONED)

    @property
    def cash(self) -> float:
        """The cash, which strategies may also set."""
        found: float = self.__dict__["cash"]
        return found

    @cash.setter
    def cash(self, cash: float) -> None:
        self.unsettle()
        if self.flows is not None:
            self.flows.heard(cash)
        self.__dict__["cash"] = cash

    set_cash = setcash = _unsettling("set_cash")
    add_cash = _unsettling("add_cash")
    setcommission = _unsettling("setcommission")
    addcommissioninfo = _unsettling("addcommissioninfo")
    set_shortcash = _unsettling("set_shortcash")
    set_fund_history = _unsettling("set_fund_history")
    add_order_history = _unsettling("add_order_history")

    def receive(self, money: float, after: bool) -> None:
        """
        Add money that positions have earned.

        Args:
            after: whether it arrives at a bar that has been processed; otherwise before the next bar, at whose step it
                counts.
        """
        if not after and self.stale:
            self.settle()  # of the bar before, to which it does not belong
        if self.rules is not None:
            self.rules.due = 0  # with other cash a margin call is due at another step
            if not after:
                self.rules.received(money)
        self.__dict__["cash"] += money
        if self.restless:
            if after:
                _Stock._get_value(self)
            return
        self.cashes.append((self.step if after else self.clock.at + 1, self.__dict__["cash"]))
        self.stale |= after

    def settle(self) -> None:
        """Compute the value of the account at this bar's closes."""
        self.stale = False
        _Stock._get_value(self)

    def _get_value(self, datas: Any = None, lever: bool = False) -> Any:
        if datas is not None and len(datas) != 1:
            self.unsettle()  # Backtrader puts the value of several datas in place of the account's
        return _Stock._get_value(self, datas, lever)

    def next(self) -> None:
        """Process a bar: check submitted orders, try pending ones."""
        if self.p.filler is not None:
            self.unsettle()  # a strategy changed it during the run
        if self.restless:
            self.stale = False  # Backtrader computes it at the end
            if self.rules is not None:
                self.rules.begin_bar(self)
            _Stock.next(self)
            if self.rules is not None:
                self.rules.end_bar(self)
            return
        self.credited = False
        while self._toactivate:
            self._toactivate.popleft().activate()
        if self.p.checksubmit and self.submitted:
            self.check_submitted()
        self._credit()
        self.credited = True
        self.__dict__["cash"] -= 0.0  # which makes a float of it
        if self.rules is not None and self.p.coc:
            self.rules.begin_bar(self)  # nothing was charged for the night
            self.rules.fill_at_close(self)
        self._try_pending()
        self.stale = True
        if self.__dict__["cash"] != self.cashes[-1][1]:
            self.cashes.append((self.step, self.__dict__["cash"]))
        if self.rules is not None:
            self.rules.end_bar(self)

    def _process_order_history(self) -> None:  # of a restless one, before it tries what is pending
        _Stock._process_order_history(self)
        if self.rules is not None and self.p.coc:
            self.rules.fill_at_close(self)

    def _try_pending(self) -> None:
        pending: Any = self.__dict__["pending"]
        pending.append(None)  # once round: an order given from here on waits for the next bar
        while (order := pending.popleft()) is not None:
            if order.exectype != MARKET and order.expire():
                self.notify(order)
                self._ococheck(order)
                self._bracketize(order, cancel=True)
            elif not order._active:
                pending.append(order)
            else:
                self._try_exec(order)
                if order.status <= PARTIAL:  # alive
                    pending.append(order)
                elif order.status == COMPLETED:
                    self._bracketize(order)

    def _try_exec(self, order: Any) -> None:
        if self.by_sessions and waits(order, self.p.coc):
            return
        # The bar itself: of preloaded data, each tick_ attribute equals it.
        data, kind = order.data, order.exectype
        opened = data.open[0]
        if kind == MARKET:
            self._try_exec_market(order, opened, data.high[0], data.low[0])
        elif kind == CLOSE:
            self._try_exec_close(order, data.close[0])
        elif kind == LIMIT:
            self._try_exec_limit(order, opened, data.high[0], data.low[0], order.created.price)
        elif kind in (STOP, STOP_TRAIL):
            self._try_exec_stop(order, opened, data.high[0], data.low[0], order.created.price, data.close[0])
        else:
            _Stock._try_exec(self, order)

    # --- orders

    def buy(self, owner: Any, data: Any, size: Any, *args: Any, **kwargs: Any) -> Any:
        """Create a buy order and submit it."""
        return self._give(BuyOrder, owner, data, size, *args, **kwargs)

    def sell(self, owner: Any, data: Any, size: Any, *args: Any, **kwargs: Any) -> Any:
        """Create a sell order and submit it."""
        return self._give(SellOrder, owner, data, size, *args, **kwargs)

    def _give(
        self,
        kind: Any,
        owner: Any,
        data: Any,
        size: Any,
        price: Any = None,
        plimit: Any = None,
        exectype: Any = None,
        valid: Any = None,
        tradeid: Any = 0,
        oco: Any = None,
        trailamount: Any = None,
        trailpercent: Any = None,
        parent: Any = None,
        transmit: Any = True,
        histnotify: Any = False,
        _checksubmit: Any = True,
        **info: Any,
    ) -> Any:
        if not _PLAIN.issuperset(map(type, (size, price, plimit, trailamount, trailpercent))):
            self.unsettle()  # a line, whose value changes with the bars, or a number of numpy's
        order = new_order(
            kind,
            self.sessions,
            owner=owner,
            data=data,
            size=size,
            price=price,
            pricelimit=plimit,
            exectype=exectype,
            valid=valid,
            tradeid=tradeid,
            trailamount=trailamount,
            trailpercent=trailpercent,
            parent=parent,
            transmit=transmit,
            histnotify=histnotify,
        )
        if info:
            order.addinfo(**info)
        self._ocoize(order, oco)
        return self.submit(order, check=_checksubmit)

    def notify(self, order: Any) -> None:
        """Store a clone of an order in its current state, for its owner."""
        self.notifs.append(clone(order))

    def submit(self, order: Any, check: Any = True) -> Any:
        """Submit an order; at once if it has no parent and need not wait for children."""
        if self.by_sessions:
            given(order, self.p.coc)
        if order.parent is not None or not order.transmit or order.status != CREATED:
            return _Stock.submit(self, order, check)
        self._pchildren[order.ref].append(order)
        return _Stock.transmit(self, order, check)

    def transmit(self, order: Any, check: Any = True) -> Any:
        """Send an order, possibly again: each transmitted child sends its parent and the children before it."""
        if order.status != CREATED:
            self.resent.add(order.ref)
        return _Stock.transmit(self, order, check)

    def check_submitted(self) -> None:
        """Accept what the cash can pay for, one order after the other, at the prices at which they were submitted."""
        if self.rules is not None:
            self.rules.check_submitted(self)
            return
        if self.p.coo:
            _Stock.check_submitted(self)
            return
        cash = self.cash
        held: dict[Any, list[Any]] = {}
        while self.submitted:
            order = self.submitted.popleft()
            if self._take_children(order) is None:
                continue
            data = order.data
            position = self.positions[data]
            cash, *held[data] = self._pretend(order, cash, *held.get(data, (position.size, position.price)))
            if cash >= 0.0:
                self.submit_accept(order)
                continue
            order.margin()
            self.notify(order)
            self._ococheck(order)
            self._bracketize(order, cancel=True)

    def _pretend(self, order: Any, cash: float, size: Any, paid: float) -> tuple[float, Any, float]:
        """Return cash, size and price of a position as if the order filled at the price it was given at."""
        data, price = order.data, order.created.price
        model = self.getcommissioninfo(data)
        opening_model = model if data._compensate is None else self.getcommissioninfo(data._compensate)
        size, paid, opened, closed = after(size, paid, order.executed.remsize, price)
        bill = bill_of(model, order) if order.executed.size or (opened and closed) else None
        if closed:
            cash += self._worth(model, -closed, price)[1] + 0
            cash -= model.getcommission(closed, price)
        if opened:
            cash -= self._worth(model, opened, price)[1]
            cash -= opening_model.getcommission(opened, price)
        if bill is not None:
            bill.end()
        return cash, size, paid

    def _worth(self, model: Any, size: Any, price: float) -> tuple[float, float]:
        """Return the value of a size at a price, and the cash that it ties up or releases."""
        value = model.getvaluesize(size, price) if self.p.shortcash else model.getoperationcost(size, price)
        return value, value / model.get_leverage() if value > 0 else value

    # --- fills

    def _execute(
        self, order: Any, ago: Any = None, price: Any = None, cash: Any = None, position: Any = None, dtcoc: Any = None
    ) -> Any:
        once = (price is None and ago is not None) or self._is_charged_once(order)
        bill = None if once else bill_of(self.getcommissioninfo(order.data), order)
        try:
            return self._fill(order, ago, price, cash, position, dtcoc)
        finally:
            if bill is not None:
                bill.end()

    def _is_charged_once(self, order: Any) -> bool:
        """Return whether an order is charged once, for all of it, so that a bill has nothing to add up."""
        if self.restless or order.executed.size or self.rules is not None or self.p.filler is not None:
            return False
        held, size = self.positions[order.data].size, order.executed.remsize
        return bool(held * size >= 0 or abs(size) <= abs(held))  # not a reversal, which closes and opens

    def _fill(self, order: Any, ago: Any, price: Any, cash: Any, position: Any, dtcoc: Any) -> Any:
        data = order.data
        if self.restless or ago is None or self.p.filler is not None or data._compensate is not None:
            if self.rules is not None and ago is not None:
                from backtest.engine.account.margin.enforcement import execute_by_rules

                return execute_by_rules(self, order, ago, price, dtcoc)
            return _Stock._execute(self, order, ago, price, cash, position, dtcoc)
        if price is None:
            return None  # slipped out of the bar
        model, position = self.getcommissioninfo(data), self.positions[data]
        paid = position.price
        psize, pprice, opened, closed = after(position.size, paid, order.executed.remsize, price)
        pnl = model.profitandloss(-closed, paid, price)
        cash = self.__dict__["cash"]
        closedvalue = closedcomm = openedvalue = openedcomm = 0.0
        if closed:
            closedvalue, freed = self._worth(model, -closed, paid)
            closedcomm = model.getcommission(closed, price)
            cash += freed + pnl * model.stocklike
            cash -= closedcomm
            if self.rules is not None:
                self.rules.sold(self, order, cash - self.__dict__["cash"])
            self.__dict__["cash"] = cash
        wanted = opened
        if opened:
            openedvalue, bound = self._worth(model, opened, price)
            openedcomm = model.getcommission(opened, price)
            cash -= bound
            cash -= openedcomm
            if self.rules.refuses(self, order, price, psize, opened, cash) if self.rules is not None else cash < 0.0:
                opened, openedvalue, openedcomm = 0, 0.0, 0.0
            else:
                self.__dict__["cash"] = cash
        if size := closed + opened:
            model.confirmexec(size, price)
            self._book(position, data, size, price, opened)
            if closed and self.p.int2pnl:
                closedcomm += self.d_credit.pop(data, 0.0)
            stamp = dtcoc or data.datetime[ago]
            bit = OrderExecutionBit(stamp, size, price, closed, closedvalue, closedcomm,
                                    opened, openedvalue, openedcomm, pnl, psize, pprice)  # fmt: skip
            order.executed.addbit(bit)
            order.executed.margin = model.margin
            order.status = PARTIAL if order.executed.remsize else COMPLETED
            order.comminfo = model
            self.notify(order)
            self._ococheck(order)
        if wanted and not opened:
            if self.rules is not None:
                self.rules.mark(order)
            else:
                order.margin()
            self.notify(order)
            self._ococheck(order)
            self._bracketize(order, cancel=True)
        return None

    def _book(self, position: Any, data: Any, size: Any, price: float, opened: Any) -> None:
        if type(position) is Position:  # until its first fill; from then on it moves with the bars
            position.__class__ = LeanPosition
        position._data = data
        if opened:
            position._base, position._touched = price, self.step
        elif position._touched != self.step:
            position._base = self._close_before(data)
        position.update(size, price, data.datetime[0])
        self.booked[data] = None
        self.fills.append((self.step, data, position.size, position.price))

    def forget(self) -> None:
        """Release orders that are finished and reported: each takes seven kilobytes."""
        untold = {order.ref for order in self.notifs}
        self.orders[:] = [one for one in self.orders if one.status <= PARTIAL or one.ref in untold]
        for ref in [ref for ref, group in self._pchildren.items() if not group]:
            del self._pchildren[ref]  # which it creates again when it needs it

    def _close_before(self, data: Any) -> float:
        """Return the data's close at the end of the step before, which last adjusted an open position."""
        moved = data.lines.lines[0]._cursor in self.movers
        close: float = data.close[-1 if moved else 0]
        return close

    def _ococheck(self, order: Any) -> None:
        # Backtrader walks all pending orders though the group is of one order, which is not among them any more:
        # unless it was sent again, and is there twice.
        leader = self._ocos.get(self._ocos[order.ref])
        if self._ocol.get(leader) == [order.ref] and order.ref not in self.resent:
            del self._ocol[leader]
        else:
            self._check_group(order)

    def _check_group(self, order: Any) -> None:
        _Stock._ococheck(self, order)
