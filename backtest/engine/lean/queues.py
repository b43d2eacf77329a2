"""`QueueingBroker`: a lean broker for feeds with different times, whose orders wait by feed; hot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import backtrader as bt

from backtest.engine.lean.broker import LeanBroker
from backtest.engine.lean.lines import Cursor
from backtest.engine.lean.orders import CANCELED, LIMIT, MARKET, STOP, STOP_LIMIT, named_as_its_base

_Stock: Any = bt.brokers.BackBroker
_MATCHED = (LIMIT, STOP, STOP_LIMIT)  # filled by the prices of a bar and nothing else
_State = tuple[int, int, Any, Any, Any, Any, Any]


@named_as_its_base
class QueueingBroker(LeanBroker):
    """
    A lean broker that does not try an order again before its feed has moved.

    Backtrader tries it at each step, to no effect: a market order fills only in a bar later than the order, and a limit
    or a stop that did not fill in a bar does not fill at the next try in the same bar. A feed that has ended has no
    further bars. So these orders wait in `parked`, by the cursor of their feed. Code that reads the pending orders
    finds them in Backtrader's order. That is the order of their references, as long as orders are accepted in that
    order, and none is parked after one that was not.
    """

    parked: dict[Cursor, dict[int, Any]]
    _parked_at: dict[int, Cursor]  # by their references
    _cursors: int  # how many there are
    _settings: Mapping[str, Any]  # the broker's settings when the last order was parked
    _tried: dict[int, _State]  # how limits and stops were when they were last tried, by their references
    _in_turn: bool  # whether orders were accepted by their references, so that they can be parked
    _last: int  # the reference of the one that was accepted last
    _at_hand: int  # of the one that is being tried
    _inside: bool  # whether Backtrader's own code reads the pending orders

    @classmethod
    def engage(cls, broker: Any, clock: Any, *options: Any, cursors: int = 1, **named: Any) -> None:
        """
        Turn a broker into one of these, in place.

        Args:
            cursors: how many cursors the feeds have.
        """
        waiting = [order.ref for order in broker.pending]
        broker.parked, broker._parked_at, broker._cursors, broker._settings = {}, {}, cursors, {}
        broker._tried = {}
        broker._in_turn, broker._last = waiting == sorted({*waiting}), max(waiting, default=0)
        broker._at_hand, broker._inside = 0, True
        super().engage(broker, clock, *options, **named)
        broker._inside = False

    def release(self) -> None:
        """Become Backtrader's own broker again."""
        self._bring_back_all()
        super().release()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Be pickled and copied as Backtrader's own broker."""
        self._bring_back_all()
        return super().__reduce_ex__(protocol)

    @property
    def pending(self) -> Any:
        """All waiting orders; once any code reads them, orders are no longer parked."""
        if not self._inside:
            self._bring_back_all()
            self._in_turn = False
        return self.__dict__["pending"]

    def has_due(self, feeds: Iterable[Cursor]) -> bool:
        """Return whether parked orders are due when these feeds advance."""
        return self._is_changed() or not self.parked.keys().isdisjoint(feeds)

    def get_orders_open(self, safe: bool = False) -> list[Any]:
        """Return the waiting orders, or copies of them."""
        waiting = self._in_order()
        return [order.clone() for order in waiting] if safe else waiting

    def submit_accept(self, order: Any) -> None:
        """Accept an order, which is pending from then on."""
        if order.ref <= self._last:
            self._bring_back_all()
            self._in_turn = False
        self._last = order.ref
        with self._looking():
            super().submit_accept(order)

    def cancel(self, order: Any, bracket: bool = False) -> Any:
        """Cancel an order, and return whether it was pending."""
        if self.parked and (ref := getattr(order, "ref", None)) in self._parked_at:
            cursor = self._parked_at.pop(ref)
            self.__dict__["pending"].appendleft(self.parked[cursor].pop(ref))  # from where it is taken at once
            if not self.parked[cursor]:
                del self.parked[cursor]
        with self._looking():
            return super().cancel(order, bracket)

    def _check_group(self, order: Any) -> None:
        if order.status != CANCELED:  # else it went with the one at hand
            self._at_hand = order.ref
        if self._ocol.get(self._ocos.get(self._ocos[order.ref])):
            self._bring_back_all()
        with self._looking():
            super()._check_group(order)

    def _bracketize(self, order: Any, cancel: bool = False) -> None:
        self._at_hand = order.ref  # its group may have been of one, and not been looked at
        super()._bracketize(order, cancel)

    def _try_pending(self) -> None:
        if self.parked:
            moved = [*self.parked] if self._is_changed() else [one for one in self.movers if one in self.parked]
            self._bring_back([order for cursor in moved for order in self.parked.pop(cursor).values()])
        if self._in_turn and len(self.movers) < self._cursors and not (self.p.coc or self.p.coo):
            self._park()
        super()._try_pending()

    def _park(self) -> None:
        """Take those orders out of the queue that wait for their feeds to move."""
        queue: Any = self.__dict__["pending"]
        waits = _waits_for_its_feed if all(order.exectype == MARKET for order in queue) else self._waits_with_others()
        waiting = [order for order in queue if waits(order)]
        if not waiting:
            return
        self._settings = dict(vars(self.p))
        for order in waiting:
            cursor = order.data.lines.lines[0]._cursor
            self.parked.setdefault(cursor, {})[order.ref] = order
            self._parked_at[order.ref] = cursor
        others = [order for order in queue if order.ref not in self._parked_at]
        queue.clear()
        queue.extend(others)

    def _waits_with_others(self) -> Callable[[Any], bool]:
        """Return a function that says whether an order waits, if there are limits and stops."""
        before, self._tried, moved = self._tried, {}, {*self.movers}
        if self.by_sessions or self.p.filler is not None:
            return _waits_for_its_feed

        def waits(order: Any) -> bool:
            if order.exectype == MARKET:
                return _waits_for_its_feed(order)
            cursor = order.data.lines.lines[0]._cursor
            if order.exectype not in _MATCHED or not order._active or cursor in moved:
                return False
            state = _state(order, cursor)
            if before.get(order.ref) == state:
                return True
            self._tried[order.ref] = state
            return False

        return waits

    def _is_changed(self) -> bool:
        """Return whether a setting of the broker has changed since orders were parked."""
        return bool(self.parked) and vars(self.p) != self._settings

    def _bring_back_all(self) -> None:
        every = [order for group in self.parked.values() for order in group.values()]
        self.parked.clear()
        self._bring_back(every)

    def _bring_back(self, orders: list[Any]) -> None:
        """Return orders that are no longer parked to their places in the queue."""
        if not orders:
            return
        for order in orders:
            del self._parked_at[order.ref]
        queue, merged = self.__dict__["pending"], self._merged(orders)
        queue.clear()
        queue.extend(merged)

    def _in_order(self) -> list[Any]:
        return self._merged([order for group in self.parked.values() for order in group.values()])

    def _merged(self, more: list[Any]) -> list[Any]:
        """Return the queue with more orders; during an iteration, those up to the current one come after None."""
        queue: list[Any] = [*self.__dict__["pending"]]
        if not more:
            return queue
        mark = next((place for place, order in enumerate(queue) if order is None), None)
        if mark is None:
            return sorted([*queue, *more], key=_reference)
        ahead = [order for order in more if order.ref > self._at_hand]
        behind = [order for order in more if order.ref <= self._at_hand]
        return [
            *sorted([*queue[:mark], *ahead], key=_reference),
            None,
            *sorted([*queue[mark + 1 :], *behind], key=_reference),
        ]

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Let Backtrader's own code read the pending orders."""
        before, self._inside = self._inside, True
        try:
            yield
        finally:
            self._inside = before


def _waits_for_its_feed(order: Any) -> bool:
    """Return whether it is a market order and its feed has no bar later than the order."""
    return bool(order.exectype == MARKET and order.data.datetime[0] <= order.created.dt)


def _state(order: Any, cursor: Cursor) -> _State:
    """Return everything that decides whether a limit or a stop fills in a bar, and that a try changes."""
    made, executed = order.created, order.executed
    return cursor.at, order.status, executed.remsize, made.price, made.pricelimit, order.triggered, order.valid


def _reference(order: Any) -> int:
    number: int = order.ref
    return number
