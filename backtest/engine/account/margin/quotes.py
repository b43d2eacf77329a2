"""`Quotes`: prices and rates as known at a moment, for an account with several currencies."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import backtrader as bt
import numpy as np

from backtest.engine.account.converted import Converted, PresentRow
from backtest.engine.account.currencies import KnownMoments


class Quotes:
    """
    What the feeds of a run were quoted at, each at its own hours, and what its currencies were worth.

    Bars of one date open and close at other moments in Tokyo and New York. An order is judged at the moment of its
    fill: by the open of a bar that had opened by then, else by the close before, and by the rates known then.
    """

    def __init__(self, known: KnownMoments, models: Mapping[Any, Any], row: PresentRow) -> None:
        self._row, self._rows = row, _whole(known.rows)
        self._every = _whole(known.every)
        times = dict(zip(models, known.times, strict=True))
        self._stamps = {data: array("d", one.stamps.tobytes()) for data, one in times.items()}
        self._opens = {data: _whole(one.opens) for data, one in times.items()}
        self._closes = {data: _whole(one.closes) for data, one in times.items()}
        self._models = [model for model in models.values() if type(model) is Converted]
        self._rates = [array("d", known.rates[model.currency].tobytes()) for model in self._models]
        self._dollars = None if known.dollars is None else array("d", known.dollars.tobytes())
        self._moment, self._opens_now = 0, False
        self._opened_in, self._opened_at = -1, (0, False)  # the row in which something was opened, and when at last

    @contextmanager
    def before(self) -> Iterator[None]:
        """Be at the close of the row before the present one, when orders were given."""
        with self._at(self._rows[max(self._row.number() - 1, 0)], opening=False):
            yield

    @contextmanager
    def filling(self, order: Any) -> Iterator[None]:
        """
        Be at the moment at which an order is filled: when its bar opened, of one at the close when it closed.

        What a broker filled before it in the same row may have opened later: it is there, and so its price is known.
        """
        data, opening = order.data, order.exectype != bt.Order.Close
        moments = self._opens[data] if opening else self._closes[data]
        moment = moments[self._place(data)], opening
        if self._opened_in == self._row.number():
            moment = max(moment, self._opened_at)
        with self._at(*moment):
            yield

    def opened(self) -> None:
        """Take note that an order opens something at the moment."""
        self._opened_in, self._opened_at = self._row.number(), (self._moment, self._opens_now)

    @contextmanager
    def now(self) -> Iterator[None]:
        """Be at the close of the present row."""
        with self._at(self._rows[self._row.number()], opening=False):
            yield

    @property
    def dollar(self) -> float:
        """What a US dollar is worth at the moment."""
        return 1.0 if self._dollars is None else self._dollars[self._known()]

    def price(self, data: Any) -> float:
        """Return the price of a feed that is known at the moment."""
        place, ago, opens = self._place(data), 0, self._opens[data]
        latest = self._moment if self._opens_now else self._moment - 1  # at a close nobody knows the next open
        while place + ago > 0 and opens[place + ago] > latest:
            ago -= 1
        line = data.close if self._closes[data][place + ago] <= self._moment else data.open
        return float(line[ago])

    @contextmanager
    def _at(self, moment: int, opening: bool) -> Iterator[None]:
        self._moment, self._opens_now = moment, opening
        place = self._known()
        before = [model.take_rate(rates[place]) for model, rates in zip(self._models, self._rates, strict=True)]
        try:
            yield
        finally:
            for model, rate in zip(self._models, before, strict=True):
                model.take_rate(rate)

    def _known(self) -> int:
        return bisect_right(self._every, self._moment) - 1

    def _place(self, data: Any) -> int:
        """Return the place of the present bar of a feed among all of its bars."""
        return bisect_right(self._stamps[data], data.datetime[0]) - 1


def _whole(moments: np.ndarray) -> array[int]:
    return array("q", moments.astype("datetime64[us]").astype(np.int64).tobytes())
