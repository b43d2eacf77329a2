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
    The prices of a run's feeds, each at its own hours, and the exchange rates.

    Bars of one date open and close at different moments in Tokyo and New York. An order is checked at the moment of its
    fill: by the open of a bar that has opened by then, otherwise by the close before, and by the rates known then.
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
        """Move to the close of the previous row, when orders were submitted."""
        with self._at(self._rows[max(self._row.number() - 1, 0)], opening=False):
            yield

    @contextmanager
    def filling(self, order: Any) -> Iterator[None]:
        """
        Move to the moment of an order's fill: the opening of its bar, or for an order at the close, its close.

        If the broker has already opened a position in the same row at a later moment, that moment counts.
        """
        data, opening = order.data, order.exectype != bt.Order.Close
        moments = self._opens[data] if opening else self._closes[data]
        moment = moments[self._place(data)], opening
        if self._opened_in == self._row.number():
            moment = max(moment, self._opened_at)
        with self._at(*moment):
            yield

    def opened(self) -> None:
        """Note that an order opens a position at the current moment."""
        self._opened_in, self._opened_at = self._row.number(), (self._moment, self._opens_now)

    @contextmanager
    def now(self) -> Iterator[None]:
        """Move to the close of the current row."""
        with self._at(self._rows[self._row.number()], opening=False):
            yield

    @property
    def dollar(self) -> float:
        """The value of a US dollar at the current moment."""
        return 1.0 if self._dollars is None else self._dollars[self._known()]

    def price(self, data: Any) -> float:
        """Return the price of a feed that is known at the current moment."""
        place, ago, opens = self._place(data), 0, self._opens[data]
        latest = self._moment if self._opens_now else self._moment - 1  # at a close the next open is not known
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
        """Return the position of a feed's current bar among all of its bars."""
        return bisect_right(self._stamps[data], data.datetime[0]) - 1


def _whole(moments: np.ndarray) -> array[int]:
    return array("q", moments.astype("datetime64[us]").astype(np.int64).tobytes())
