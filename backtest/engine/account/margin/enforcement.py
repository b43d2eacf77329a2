"""
`MarginAccount` and `CashAccount`: the rules of an account, which its broker has as `rules`.

`LeanBroker` consults it, and in Backtrader's own loops `RuledBroker` does; both decide alike. It checks an order on
submission, at the prices known then, and again on execution. At the close of each bar it compares equity with the
requirements of the positions; if equity is short, it submits market orders that fill first at the next open.

With fills on smaller bars, it checks at the close of each smaller bar, and reduces positions at the open of the next
one.

With fills at the close at which orders are submitted, which Backtrader makes as the next bar begins, it checks these
orders first, as of that close, and then equity after them.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import date
from functools import cache
from operator import itemgetter
from types import new_class
from typing import Any, NamedTuple

import backtrader as bt
import numpy as np

from backtest.engine.account.borrowing import fill_at_last_close, is_at_last_close
from backtest.engine.account.commissions import bill_of
from backtest.engine.account.margin.quotes import Quotes
from backtest.engine.account.margin.requirements import Held, Rates, buying_power, excess_liquidity, liquidation
from backtest.engine.account.margin.settlement import settlement_day
from backtest.runs.round_trips import CALL

_STOCK: Any = bt.brokers.BackBroker
_FIRST_BARS, _LONGER = 64, 4  # bars searched for a margin call at first, and the factor by which that number grows
_BLOCK = 64  # bars per block whose minimum is known in advance
_NEAR = 1e-9  # of equity: a bar this close to a margin call is checked with the broker's own numbers
_AT_MARKET = (bt.Order.Market, bt.Order.Close)
SHORT_SALE = "short sale"  # the beginning of the reason of such an order


@dataclass(frozen=True, slots=True)
class Ruled:
    """
    The properties of a feed that an account needs.

    Attributes:
        multiplier: the value of one point of the price, in the feed's own currency.
        step: the smallest tradable size.
        stamps: the timestamps of its bars.
        days: the session of each bar, counted as by `date.toordinal`; () if not needed.
        converted: its commission model, if that converts money.
    """

    rates: Rates
    multiplier: float = 1.0
    step: float = 1.0
    stamps: Sequence[float] = ()
    days: Sequence[int] = ()
    converted: Any = None

    @property
    def rate(self) -> float:
        """Money of the account per unit of the feed's currency, as known at the account's current moment."""
        return 1.0 if self.converted is None else float(self.converted.rate)


class _Account:
    """
    What both kinds of accounts do with orders.

    Args:
        quotes: the prices and rates known at each moment, if there are several currencies.

    Attributes:
        reasons: why orders were refused, or submitted by the account itself, by their references.
        due: the step of a lean run from which the broker has to check for a margin call.
    """

    def __init__(self, feeds: Mapping[Any, Ruled], quotes: Quotes | None = None) -> None:
        self.feeds, self._quotes = feeds, quotes
        self._overnight = 0.0  # cash received since the last close, such as dividends less the borrow fee
        self._cash = 0.0  # before that fee is taken
        self.reasons: dict[int, str] = {}
        self.due = math.inf

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _nobody, ()  # a copy of the broker decides nothing

    def check_submitted(self, broker: Any) -> None:
        """Accept what the account allows, one order after the other, at the prices at which they were submitted."""
        if self._quotes is None:
            self._check_submitted(broker)
            return
        with self._quotes.before():
            self._check_submitted(broker)

    def _check_submitted(self, broker: Any) -> None:
        self._cash = broker.cash
        pretended: _Pretended | None = None
        while broker.submitted:
            order = broker.submitted.popleft()
            if broker._take_children(order) is None:
                continue
            if pretended is None and not broker.submitted and _only_closes(order, broker):
                broker.submit_accept(order)  # alone, and never refused
                return
            pretended = pretended or _Pretended(
                broker, self._quotes, overnight=self._overnight if broker.p.coc else 0.0
            )
            reason = self._judge(broker, order, pretended)
            if not reason:
                broker.submit_accept(order)
                continue
            self.reasons[order.ref] = reason
            self.mark(order)
            broker.notify(order)
            broker._ococheck(order)
            broker._bracketize(order, cancel=True)

    def refused_of(self, broker: Any) -> set[int]:
        """Return the references of submitted orders that would be refused at the next bar."""
        pretended, refused = _Pretended(broker, self._quotes, over=True), set[int]()
        with nullcontext() if self._quotes is None else self._quotes.now():
            for order in broker.submitted:
                orphan = order.parent is not None and order.parent.ref in refused
                if orphan or self._judge(broker, order, pretended):
                    refused.add(order.ref)
        return refused

    def refuses(self, broker: Any, order: Any, price: float, size: float, opened: float, cash: float) -> bool:
        """
        Return whether the opening part of a fill is not allowed, and record the reason.

        Args:
            size: the size of the position including the fill.
            opened: the part of the fill that opens a position.
            cash: the cash after the fill.
        """
        if self._quotes is None:
            reason = self._reason(broker, order, price, size, opened, cash)
        else:
            with self._moment_of(broker, order, self._quotes):
                reason = self._reason(broker, order, price, size, opened, cash)
                if not (reason or is_at_last_close(broker, order)):
                    self._quotes.opened()
        if reason:
            self.reasons[order.ref] = reason
        return bool(reason)

    def _moment_of(self, broker: Any, order: Any, quotes: Quotes) -> AbstractContextManager[None]:
        """Move to the moment at which a fill is checked: for a fill at this close, that of its submission."""
        return quotes.before() if is_at_last_close(broker, order) else quotes.filling(order)

    def mark(self, order: Any) -> None:
        """Set the status and the reason of a refused order."""
        reason = self.reasons[order.ref]
        order.addinfo(reason=reason)
        if reason.startswith(SHORT_SALE):
            order.reject()
        else:
            order.margin()

    def received(self, money: float) -> None:
        """Note money received between the last close and the current bar."""
        self._overnight += money

    def sold(self, broker: Any, order: Any, proceeds: float) -> None:
        """Note the proceeds of a fill that closed a position."""

    def begin_bar(self, broker: Any) -> None:
        """Note the cash before a bar is processed."""
        self._cash = broker.cash

    def fill_at_close(self, broker: Any) -> None:
        """Fill orders at the previous close, before anything else happens at the current bar."""
        self._overnight += broker.cash - self._cash
        fill_at_last_close(broker, broker.pending)

    def end_bar(self, broker: Any) -> None:
        """Do what the account does at the close of a bar."""
        self._overnight, self.due = 0.0, math.inf

    def watch(self, closes: Mapping[Any, np.ndarray], stamps: np.ndarray) -> None:
        """Store the closes of each feed by the steps of a lean run, and the timestamps of the steps."""

    def _judge(self, broker: Any, order: Any, pretended: _Pretended) -> str:
        """
        Return why a submitted order is not allowed; "" if it is.

        For later orders, a market order counts as filled; a limit or a stop does not, since it may never fill. The
        exits of a bracket wait for the position that they close, and are checked on execution.
        """
        if order.parent is not None:
            return ""
        change = _change(broker, order, pretended)
        reason = self._judged(broker, order, change, pretended) if change.opened else ""
        if not reason and order.exectype in _AT_MARKET:
            pretended.take(order.data, change)
        return reason

    def _judged(self, broker: Any, order: Any, change: _Change, pretended: _Pretended) -> str:
        raise NotImplementedError

    def _reason(self, broker: Any, order: Any, price: float, size: float, opened: float, cash: float) -> str:
        raise NotImplementedError


_SETTLED = itemgetter(0)


class CashAccount(_Account):
    """
    An account that lends nothing: no short sales, and the proceeds of a sale are spendable only once settled.

    Sales date from the session of their bar.
    """

    def __init__(self, feeds: Mapping[Any, Ruled], days: Sequence[int], quotes: Quotes | None = None) -> None:
        super().__init__(feeds, quotes)
        self._days = days  # on which trades settle
        self._sales: list[tuple[int, float]] = []  # the day on which each settles, in order, and its money

    def sold(self, broker: Any, order: Any, proceeds: float) -> None:
        """Note the proceeds of a fill that closed a position."""
        if proceeds > 0:
            insort(self._sales, (settlement_day(self._day(broker, order), self._days), proceeds), key=_SETTLED)

    def _judged(self, broker: Any, order: Any, change: _Change, pretended: _Pretended) -> str:
        cash = pretended.spendable + min(change.cash, 0.0)  # the sale at the same time has not settled
        day = self._day(broker, order)
        if pretended.over and not is_at_last_close(broker, order):
            # Its bar comes on the next day on which anything settles.
            day = self._days[min(bisect_right(self._days, day), len(self._days) - 1)]
        return self._words(order.data, change.size, change.opened, cash, change.price, day)

    def _reason(self, broker: Any, order: Any, price: float, size: float, opened: float, cash: float) -> str:
        cash -= self._overnight if is_at_last_close(broker, order) else 0.0
        return self._words(order.data, size, opened, cash, price, self._day(broker, order))

    def _words(self, data: Any, size: float, opened: float, cash: float, price: float, day: int) -> str:
        if size < 0:
            return f"{SHORT_SALE}: a cash account can only sell what it holds, and would be short {-size:,.10g}"
        # An order for the previous close may be checked after one for a later bar, so each is checked by its own day.
        unsettled = self._sales[bisect_right(self._sales, day, key=_SETTLED) :]
        waiting = sum(money for _, money in unsettled)
        if cash - waiting >= 0:
            return ""
        needed = opened * price * self.feeds[data].multiplier * self.feeds[data].rate
        if not cash >= 0:
            return f"cash: the order needs {needed:,.2f} plus costs, {-cash:,.2f} more than the account has"
        last = date.fromordinal(unsettled[-1][0])
        return (
            f"settled cash: the order needs {needed:,.2f} plus costs, {waiting - cash:,.2f} more than has settled; "
            f"{waiting:,.2f} will settle by {last}"
        )

    def _day(self, broker: Any, order: Any) -> int:
        feed = self.feeds[order.data]
        stamp = order.created.dt if is_at_last_close(broker, order) else order.data.datetime[0]
        return feed.days[min(bisect_left(feed.stamps, stamp), len(feed.days) - 1)]


class MarginAccount(_Account):
    """
    An account that lends as much as its rates allow, and reduces positions when equity is below their requirements.

    Args:
        least_equity: the equity below which it lends nothing, in US dollars.
        currency: the currency of its money, for messages.
    """

    def __init__(
        self, feeds: Mapping[Any, Ruled], least_equity: float, currency: str, quotes: Quotes | None = None
    ) -> None:
        super().__init__(feeds, quotes)
        self._least_in_dollars, self._currency = least_equity, currency
        self._closes: Mapping[Any, np.ndarray] = {}
        self._rates: Mapping[Any, np.ndarray] = {}  # of those whose money is converted
        self._lows: dict[Any, _Lows] = {}
        self._steps, self._ahead = 0, _FIRST_BARS
        self._searched: tuple[float, tuple[tuple[int, float], ...]] = 0.0, ()
        self._selling: list[Any] = []  # orders of its own that are under way

    def watch(self, closes: Mapping[Any, np.ndarray], stamps: np.ndarray) -> None:
        """Store the closes of each feed by the steps of a lean run, and the timestamps of the steps."""
        self._closes = closes
        self._rates = {
            data: own.converted.factors_at(stamps) / own.converted.unit
            for data, own in self.feeds.items()
            if own.converted is not None
        }
        self._steps, self._lows = min(map(len, closes.values()), default=0), {}

    @property
    def _least(self) -> float:
        """The minimum equity, in money of the account."""
        return self._least_in_dollars * (1.0 if self._quotes is None else self._quotes.dollar)

    def _judged(self, broker: Any, order: Any, change: _Change, pretended: _Pretended) -> str:
        data, equity = order.data, pretended.cash_before - pretended.fees - change.commission
        for one, position in broker.positions.items():
            if position.size:
                equity += _worth(broker, one, position.size, pretended.price(one))
        sizes = {**pretended.sizes, data: change.size - change.opened}
        required, short = 0.0, change.size < 0
        for one, size in sizes.items():
            if size:
                required += self._initial(one, size, pretended.price(one))
                short |= size < 0
        required += self._initial(data, change.opened, change.price)
        return self._words(data, change.size, equity, required, short or pretended.cash + change.cash < 0)

    def _reason(self, broker: Any, order: Any, price: float, size: float, opened: float, cash: float) -> str:
        data, before = order.data, is_at_last_close(broker, order)
        cash -= self._overnight if before else 0.0
        equity = cash + _worth(broker, data, size, price, size - opened)
        required, short = self._initial(data, size, price), size < 0
        for other, position in broker.positions.items():
            if other is not data and position.size:
                known = self._close_before(other, broker) if before else self._price(other, broker)
                equity += _worth(broker, other, position.size, known)
                required += self._initial(other, position.size, known)
                short |= position.size < 0
        return self._words(data, size, equity, required, short or cash < 0)

    def _words(self, data: Any, size: float, equity: float, required: float, borrows: bool) -> str:
        rates = self.feeds[data].rates
        if size < 0 and math.isnan(rates.initial_short):
            return f"{SHORT_SALE}: the account has no rate for it"
        if not equity >= required:  # or one of them is not known
            return (
                f"initial margin: all positions would require {required:,.2f} {self._currency}, and equity is "
                f"{equity:,.2f}{'' if rates.by_contract else f', which buys {buying_power(equity, rates):,.2f} in all'}"
            )
        if borrows and equity < (least := self._least):
            return (
                f"minimum equity: borrowing and selling short require {least:,.2f} {self._currency}, and "
                f"equity is {equity:,.2f}"
            )
        return ""

    def _initial(self, data: Any, size: float, price: float) -> float:
        feed = self.feeds[data]
        return feed.rates.initial(size, price * feed.multiplier) * feed.rate if size else 0.0

    def fill_at_close(self, broker: Any) -> None:
        """Fill orders at the previous close, then compare equity with the requirements of the positions."""
        super().fill_at_close(broker)
        cash = broker.cash - self._overnight
        if held := self._held(broker, cash):
            with nullcontext() if self._quotes is None else self._quotes.before():
                self._look(broker, held, cash, {data: self._close_before(data, broker) for data, _ in held})

    def end_bar(self, broker: Any) -> None:
        """Compare equity with the requirements of the positions at the close, and reduce these if it is lower."""
        self._overnight, self.due = 0.0, math.inf
        cash = broker.cash
        if not (held := self._held(broker, cash)):
            return
        watched = bool(self._closes) and not broker.restless
        if watched and not self._selling and self._is_long_alone(held):
            due = self._next_due(broker.step, cash, held)
            if due > broker.step:  # otherwise it is checked exactly
                self.due = due
                return
        is_short = self._look(broker, held, cash, {data: data.close[0] for data, _ in held}, sells=not broker.p.coc)
        if watched:
            later = is_short and broker.p.coc  # orders at this close come first: the check follows at the next bar
            self.due = broker.step + 1 if later else self._next_due(broker.step + 1, cash, held)

    def look_within(self, broker: Any, prices: Mapping[Any, np.ndarray], moments: np.ndarray) -> int | None:
        """
        Reduce the positions at the first of some moments at which equity is too low; return its index.

        Args:
            prices: the prices of feeds at each moment; for other feeds the last known price counts.
            moments: the moments, in microseconds since 1970, UTC.
        """
        cash = broker.cash
        if not (held := self._held(broker, cash)):
            return None
        every = {data: prices.get(data, np.full(len(moments), self._price(data, broker))) for data, _ in held}
        equity, required = np.full(len(moments), cash), np.zeros(len(moments))
        for data, size in held:
            nothing, one = (_worth(broker, data, size, price) for price in (0.0, 1.0))
            equity += nothing + (one - nothing) * every[data]
            feed, left = self.feeds[data], np.full(len(moments), size + self._under_way(data))
            required += feed.rates.maintenance_by_bar(left, every[data] * feed.multiplier) * feed.rate
        for place in np.flatnonzero(~(equity - required >= _NEAR * np.abs(equity))).tolist():
            at = f" at {str(moments[place].astype('datetime64[us]').astype('datetime64[s]')).replace('T', ' ')} UTC"
            if self._look(broker, held, cash, {data: float(own[place]) for data, own in every.items()}, at=at):
                return int(place)
        return None

    def _held(self, broker: Any, cash: float) -> list[tuple[Any, float]]:
        """Return the positions that may be short of margin."""
        if self._selling:
            self._selling = [order for order in self._selling if order.alive()]
        held = [(data, position.size) for data, position in broker.positions.items() if position.size]
        return [] if cash >= 0 and self._lends_nothing(held) else held

    def _look(
        self, broker: Any, held: Sequence[tuple[Any, float]], cash: float, prices: Mapping[Any, float],
        sells: bool = True, at: str = "",
    ) -> bool:  # fmt: skip
        """
        Return whether equity is below the requirements of the positions, and if so reduce them.

        Args:
            at: the moment, for messages, if it is within a bar.
        """
        worth = required = 0.0
        for data, size in held:
            worth += _worth(broker, data, size, prices[data])
        equity = cash + worth
        left = [(data, size + self._under_way(data)) for data, size in held] if self._selling else held
        for data, size in left:
            required += self._maintenance(data, size, prices[data])
        if not excess_liquidity(equity, required) < 0:
            return False
        if sells:
            self._sell(broker, left, equity, required, prices, at)
        return True

    def _price(self, data: Any, broker: Any) -> float:
        if (within := _within(data, broker)) is not None:
            return within
        return _known(data, broker) if self._quotes is None else self._quotes.price(data)

    def _close_before(self, data: Any, broker: Any) -> float:
        return _close_before(data, broker) if self._quotes is None else self._quotes.price(data)

    def _lends_nothing(self, held: Sequence[tuple[Any, float]]) -> bool:
        for data, size in held:
            rates = self.feeds[data].rates
            if not (size > 0 and not rates.by_contract and rates.maintenance_long <= 1):
                return False
        return True

    def _under_way(self, data: Any) -> float:
        return float(sum(order.executed.remsize for order in self._selling if order.data is data))

    def _maintenance(self, data: Any, size: float, price: float) -> float:
        feed = self.feeds[data]
        return feed.rates.maintenance(size, price * feed.multiplier) * feed.rate if size else 0.0

    def _sell(
        self,
        broker: Any,
        held: Sequence[tuple[Any, float]],
        equity: float,
        required: float,
        prices: Mapping[Any, float],
        at: str,
    ) -> None:
        positions = [
            Held(size, self._maintenance(data, size, prices[data]) / abs(size) if size else 0.0, self.feeds[data].step)
            for data, size in held
        ]
        owner = broker.cerebro.runningstrats[0]
        reason = (
            f"{CALL}{at}: equity {equity:,.2f} {self._currency}, maintenance margin {required:,.2f}; to be filled "
            "first at the next open"
        )
        for (data, _), size in zip(held, liquidation(positions, required - equity), strict=True):
            if not size:
                continue
            give = broker.buy if size > 0 else broker.sell
            order = give(owner, data, abs(size), exectype=bt.Order.Market, _checksubmit=False, reason=reason)
            self.reasons[order.ref] = reason
            self._selling.append(order)
            if broker.p.coc or at:
                _give_before(order, broker)
            broker.pending.remove(order)
            broker.pending.appendleft(order)  # before what the strategy still has open

    def _next_due(self, begin: int, cash: float, held: Sequence[tuple[Any, float]]) -> float:
        """
        Return the first step at which a margin call is near if positions and cash do not change.

        It searches a block of bars, which grows while nothing changes; without a result it returns the step after the
        block.
        """
        known = cash, tuple([(id(data), size) for data, size in held])  # feeds compare their values
        self._ahead = _FIRST_BARS if known != self._searched else self._ahead * _LONGER
        self._searched = known
        end = min(begin + self._ahead, self._steps)
        first = self._first_near(begin, end, cash, held)
        return first if first < self._steps else math.inf

    def _first_near(self, begin: int, end: int, cash: float, held: Sequence[tuple[Any, float]]) -> int:
        """Return the first step, from one to before another, at which a margin call is near, the other for none."""
        if self._is_long_alone(held):
            (data, size), feed = held[0], self.feeds[held[0][0]]
            kept = size * feed.multiplier * (1 - feed.rates.maintenance_long)  # of each point of the price
            return self._lows_of(data).first(begin, end, -cash * (1 + _NEAR) / kept if kept > 0 else math.inf)
        equity, required = np.full(end - begin, cash), np.zeros(end - begin)
        for data, size in held:
            feed, rates = self.feeds[data], self._rates_of(data, begin, end)
            prices = self._closes[data][begin:end] * feed.multiplier
            equity += size * prices * rates
            required += feed.rates.maintenance_by_bar(np.full(end - begin, size), prices) * rates
        near = ~(equity - required >= _NEAR * np.abs(equity))
        return begin + int(near.argmax()) if near.any() else end

    def _is_long_alone(self, held: Sequence[tuple[Any, float]]) -> bool:
        return len(held) == 1 and held[0][1] > 0 and not self.feeds[held[0][0]].rates.by_contract

    def _lows_of(self, data: Any) -> _Lows:
        if data not in self._lows:
            self._lows[data] = _Lows(self._closes[data] * self._rates_of(data, 0, self._steps))
        return self._lows[data]

    def _rates_of(self, data: Any, begin: int, end: int) -> Any:
        """Return money of the account per unit of a feed's currency at each step from one to before another."""
        return self._rates[data][begin:end] if data in self._rates else 1.0


class _Lows:
    """The price of a share at each step, and the minimum of each block of steps: most blocks are never searched."""

    def __init__(self, worths: np.ndarray) -> None:
        self._worths = worths
        self._lows = np.minimum.reduceat(worths, np.arange(0, len(worths), _BLOCK)).tolist()

    def first(self, begin: int, end: int, least: float) -> int:
        """Return the first step, from one to before another, that is not above an amount, the other for none."""
        for block in range(begin // _BLOCK, -(-end // _BLOCK)):
            if not self._lows[block] > least:  # or one is not known
                start, stop = max(begin, block * _BLOCK), min(end, (block + 1) * _BLOCK)
                near = ~(self._worths[start:stop] > least)
                if near.any():
                    return start + int(near.argmax())
        return end


class _Change(NamedTuple):
    """What a submitted order would do: to the position, to the cash, and at which price."""

    size: float  # after it
    opened: float
    cash: float  # cash that it brings after its commission
    commission: float
    price: float


def _change(broker: Any, order: Any, pretended: _Pretended) -> _Change:
    data, wanted, price = order.data, order.executed.remsize, order.created.price
    held = pretended.sizes.get(data, 0.0)
    if price is None or not math.isfinite(price):
        price = pretended.price(data)
    closed = 0.0 if held * wanted >= 0 else math.copysign(min(abs(held), abs(wanted)), wanted)
    opened, model = wanted - closed, broker.getcommissioninfo(data)
    bill = bill_of(model, order)
    commission = model.getcommission(closed, price) if closed else 0.0
    if opened:
        commission += model.getcommission(opened, price)
    if bill is not None:
        bill.end()
    cash = -model.getvaluesize(wanted, price) if model.stocklike else 0.0
    return _Change(held + wanted, opened, cash - commission, commission, price)


def _give_before(order: Any, broker: Any) -> None:
    """Date an order as if submitted at the previous close, so that it can fill at the current bar's open."""
    order.addinfo(coc=False)
    if _begins(order.data, broker):
        order.created.dt, order.created.pclose = order.data.datetime[-1], order.data.close[-1]


def _only_closes(order: Any, broker: Any) -> bool:
    held = broker.positions[order.data].size if order.data in broker.positions else 0
    wanted = order.executed.remsize
    return bool(held * wanted < 0 and abs(wanted) <= abs(held))


class _Pretended:
    """
    The account as if all orders submitted so far had filled at the prices at which they were submitted.

    Args:
        over: whether the current bar is over, so that the orders are for the next one.
        overnight: money received after the close at which the orders were submitted.
    """

    def __init__(self, broker: Any, quotes: Quotes | None = None, over: bool = False, overnight: float = 0.0) -> None:
        self.over, self._broker, self._quotes = over, broker, quotes
        self.cash = self.spendable = self.cash_before = broker.cash - overnight
        self.fees = 0.0
        self.sizes = {data: position.size for data, position in broker.positions.items() if position.size}

    def price(self, data: Any) -> float:
        """Return the price of a feed that was known when orders were submitted: its last close."""
        if self.over:
            return float(data.close[0])
        return _close_before(data, self._broker) if self._quotes is None else self._quotes.price(data)

    def take(self, data: Any, change: _Change) -> None:
        """Count an order as filled."""
        self.cash += change.cash
        self.spendable += min(change.cash, 0.0)
        self.fees += change.commission
        self.sizes[data] = change.size


def _known(data: Any, broker: Any) -> float:
    """Return the price of a feed that is known while the broker works: of a bar that has just begun, its open."""
    price: float = data.open[0] if _begins(data, broker) else data.close[0]
    return price


def _within(data: Any, broker: Any) -> float | None:
    """Return the price of a feed by the smaller bars on which orders fill, None if there are none."""
    known = getattr(broker, "price_within", None)
    return None if known is None else known(data)


def _close_before(data: Any, broker: Any) -> float:
    """Return the last close of a feed before the bar that the broker is processing."""
    price: float = data.close[-1 if _begins(data, broker) else 0]
    return price


def _begins(data: Any, broker: Any) -> bool:
    """Return whether a feed has a bar of its own at the current bar of the run."""
    datas = broker.cerebro.datas
    return bool(len(datas) == 1 or data.datetime[0] == max(one.datetime[0] for one in datas if len(one)))


def _worth(broker: Any, data: Any, size: float, price: float, before: float | None = None) -> float:
    """
    Return the part of equity in a position at a price.

    Args:
        before: for contracts, how much of the position was settled up to its last adjustment; None for all of it.
    """
    if not size:
        return 0.0
    model = broker.getcommissioninfo(data)
    worth: float = model.getvaluesize(size, price)
    if model.stocklike:
        return worth
    settled = size if before is None else before
    if settled:
        worth += model.cashadjust(settled, broker.positions[data].adjbase, price)
    return worth


def _nobody() -> None:
    return None


class RuledBroker(_STOCK):
    """A broker of Backtrader's loops that applies the rules of an account, and otherwise behaves as Backtrader's."""

    rules: Any
    partial = False  # whether it does only a part of a bar's work

    def check_submitted(self) -> None:
        """Accept what the account allows."""
        self.rules.check_submitted(self)

    def next(self) -> None:
        """Process a bar, and do what the account does at its close."""
        self.rules.begin_bar(self)
        super().next()
        if not self.partial:
            self.rules.end_bar(self)

    def _process_order_history(self) -> None:  # the last thing that Backtrader does before it tries what is pending
        super()._process_order_history()
        if self.p.coc:
            self.rules.fill_at_close(self)

    def _execute(
        self, order: Any, ago: Any = None, price: Any = None, cash: Any = None, position: Any = None, dtcoc: Any = None
    ) -> Any:
        return execute_by_rules(self, order, ago, price, dtcoc)


def execute_by_rules(broker: Any, order: Any, ago: int, price: Any, dtcoc: Any) -> None:
    """Fill an order by the arithmetic of Backtrader's broker, as far as the rules of the account allow it to open."""
    if price is None:
        return
    data, model, filler = order.data, broker.getcommissioninfo(order.data), broker.p.filler
    wanted = order.executed.remsize
    if filler is not None:
        wanted = filler(order, price, ago) * (1 if order.isbuy() else -1)
    position = broker.positions[data]
    paid = position.price
    size, average, opened, closed = position.pseudoupdate(wanted, price)
    gained = model.profitandloss(-closed, paid, price)
    cash = broker.cash
    closed_value = closed_costs = opened_value = opened_costs = 0.0
    if closed:
        closed_value = model.getvaluesize(-closed, paid)
        freed = closed_value / model.get_leverage() if closed_value > 0 else closed_value
        cash += freed + gained * model.stocklike
        closed_costs = model.getcommission(closed, price)
        cash -= closed_costs
        cash += model.cashadjust(-closed, position.adjbase, price)
        broker.rules.sold(broker, order, cash - broker.cash)
        vars(broker)["cash"] = cash  # straight, as no money came in: see `engine.cash_flows`
    refused = False
    if opened:
        opened_value = model.getvaluesize(opened, price)
        cash -= opened_value / model.get_leverage() if opened_value > 0 else opened_value
        opened_costs = model.getcommission(opened, price)
        cash -= opened_costs
        refused = broker.rules.refuses(broker, order, price, size, opened, cash)
        if refused:
            opened, opened_value, opened_costs = 0, 0.0, 0.0
        else:
            if abs(size) > abs(opened):
                cash += model.cashadjust(size - opened, position.adjbase, price)
            position.adjbase = price
            vars(broker)["cash"] = cash
    if filled := closed + opened:
        model.confirmexec(filled, price)
        position.update(filled, price, data.datetime.datetime())
        if closed and broker.p.int2pnl:
            closed_costs += broker.d_credit.pop(data, 0.0)
        order.execute(dtcoc or data.datetime[ago], filled, price, closed, closed_value, closed_costs, opened,
                      opened_value, opened_costs, model.margin, gained, size, average)  # fmt: skip
        order.addcomminfo(model)
        broker.notify(order)
        broker._ococheck(order)
    if refused:
        broker.rules.mark(order)
        broker.notify(order)
        broker._ococheck(order)
        broker._bracketize(order, cancel=True)


def keep_rules(broker: Any) -> None:
    """Make a broker of Backtrader's loops apply its rules, in place; the broker of a lean run does so itself."""
    kind: Any = type(broker)
    if getattr(broker, "rules", None) is not None and not issubclass(kind, RuledBroker):
        broker.__class__ = RuledBroker if kind is _STOCK else _ruled(kind)


@cache  # Backtrader keeps each class that is ever made
def _ruled(kind: Any) -> Any:
    return new_class(kind.__name__, (kind, RuledBroker), exec_body=lambda body: body.update(__module__=__name__))
