"""Position sizes for strategies that leave them open: `SIZERS`."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import backtrader as bt
import numpy as np

from backtest._suggest import did_you_mean
from backtest.engine.account.commissions import read_number
from backtest.engine.execution import in_steps, smallest_size
from backtest.errors import UsageError

SESSIONS = 252.0
_YEAR = 365  # days, within which gaps are remembered
_LARGEST_GAP = 0.2  # the largest gap to prepare for: a larger one, such as of a reverse split, teaches nothing


class _Sizer(bt.Sizer):
    """
    What all sizers have in common: an order against an open position closes it, and no purchase exceeds the cash.

    The size is that fraction of the account, `exposure`, that can be bought at the current close, including commission.
    The account can still pay for it, with commission, if the next bar opens above the close by the largest gap of the
    last year. The cost of other purchases submitted at the same bar counts as spent.

    Attributes:
        asked: how often it was called.
        nothing: how often the money did not suffice for the smallest size.
    """

    params: Any = (("cap", 0.95),)
    asked = 0
    nothing = 0

    def __init__(self) -> None:
        super().__init__()
        self._gaps: dict[Any, _Gaps] = {}

    def _getsizing(self, comminfo: Any, cash: float, data: Any, isbuy: bool) -> float:
        self.asked += 1
        held = self.broker.getposition(data).size
        if held and (held > 0) != isbuy:
            return abs(held) if held % 1 else int(abs(held))
        money, step = self.broker.getvalue() * min(max(self.exposure(data), 0.0), self.p.cap), smallest_size(data)
        size = affordable(comminfo, money, data.close[0], step)
        if isbuy:
            size = min(size, affordable(comminfo, cash - self._promised(), self._at_worst(data), step))
        self.nothing += money > 0 and not size
        return size

    def _promised(self) -> float:
        """Return the cost of the purchases that were submitted at this bar and wait for the next."""
        given = [one for one in getattr(self.broker, "submitted", ()) if one.isbuy() and one.exectype in _AT_MARKET]
        return sum(
            _paid(self.broker.getcommissioninfo(one.data), one.executed.remsize, self._at_worst(one.data))
            for one in given
        )

    def _at_worst(self, data: Any) -> float:
        """Return the highest price to expect for a purchase that is submitted now."""
        slips = bool(getattr(getattr(self.broker, "slippage", None), "kind", ""))  # never beyond the high
        close: float = data.close[0]
        if self.broker.p.coc:
            return float(data.high[0]) if slips else close
        return close * (1 + self._gaps.setdefault(data, _Gaps(slips)).largest(data))

    def exposure(self, data: Any) -> float:
        """Return the fraction of the account that the position should have."""
        raise NotImplementedError


class Shares(_Sizer):
    """A fixed number of shares, at any price."""

    params = (("amount", 1.0),)

    def _getsizing(self, comminfo: Any, cash: float, data: Any, isbuy: bool) -> float:
        self.asked += 1
        return in_steps(self.p.amount, smallest_size(data))


class Percent(_Sizer):
    """A percentage of the account."""

    params = (("amount", 95.0), ("cap", 1.0))

    def exposure(self, data: Any) -> float:
        """Return the fraction."""
        return float(self.p.amount / 100)


class Volatility(_Sizer):
    """The size that gives the account an annual volatility, estimated from the latest bars."""

    params: Any = (("amount", 0.1), ("window", 60), ("bars_a_year", SESSIONS))  # or of each series, by its name

    def exposure(self, data: Any) -> float:
        """Return the fraction; 0 while there are too few bars."""
        returns = _past_returns(data, self.p.window)
        deviation = returns.std(ddof=1) if len(returns) > 1 else math.nan
        bars = self.p.bars_a_year
        a_year = bars[data._name] if isinstance(bars, Mapping) else bars
        return float(self.p.amount / (deviation * math.sqrt(a_year))) if deviation > 0 else 0.0


class Kelly(_Sizer):
    """
    A fraction of the Kelly bet: mean over variance of the returns of the latest bars.

    Source: Thorp (2006), "The Kelly Criterion in Blackjack, Sports Betting, and the Stock Market", section 7.
    """

    params = (("amount", 0.5), ("window", 252))

    def exposure(self, data: Any) -> float:
        """Return the fraction; 0 while there are too few bars, or if the mean is below 0."""
        returns = _past_returns(data, self.p.window)
        variance = returns.var(ddof=1) if len(returns) > 1 else math.nan
        return float(self.p.amount * returns.mean() / variance) if variance > 0 else 0.0


def _past_returns(data: Any, window: int) -> np.ndarray:
    """Return the last returns from close to close, up to the current bar; none if there are too few."""
    closes = np.array(data.close.get(size=window + 1) if len(data) > window else [])
    returns: np.ndarray = closes[1:] / closes[:-1] - 1
    return returns


class _Gaps:
    """How far bars open above the previous close, or reach above it, within the last year of a feed."""

    def __init__(self, to_high: bool) -> None:
        self._line, self._seen = "high" if to_high else "open", 1
        self._largest: deque[tuple[float, float]] = deque()  # times and gaps: none is followed by a larger one

    def largest(self, data: Any) -> float:
        """Return the largest gap as a fraction of the close before, from 0 to `_LARGEST_GAP`."""
        fresh, known = len(data) - self._seen, self._largest
        if fresh > 0:
            self._seen = len(data)
            stamps, reached = data.datetime.get(size=fresh), getattr(data, self._line).get(size=fresh)
            closes = data.close.get(ago=-1, size=fresh)
            for stamp, price, before in zip(stamps, reached, closes, strict=True):
                gap = price / before - 1 if before > 0 and price > 0 else 0.0
                while known and not known[-1][1] > gap:
                    known.pop()
                known.append((stamp, gap))
        while known and known[0][0] < data.datetime[0] - _YEAR:
            known.popleft()
        return min(max(known[0][1], 0.0), _LARGEST_GAP) if known else 0.0


_AT_MARKET = (bt.Order.Market, bt.Order.Close)


def affordable(comminfo: Any, money: float, price: float, step: float = 1) -> float:
    """Return the largest size that the money can pay for at a price, with commission, in whole steps."""
    if not (money > 0 and price > 0):
        return 0
    least, most = 0, int(money / comminfo.getoperationcost(step, price))
    while least < most:
        middle = (least + most + 1) // 2
        paid = _paid(comminfo, middle * step, price) <= money
        least, most = (middle, most) if paid else (least, middle - 1)
    return in_steps(least * step, step, nearest=True)


def _paid(comminfo: Any, size: float, price: float) -> float:
    paid: float = comminfo.getoperationcost(size, price) + comminfo.getcommission(size, price)
    return paid


SIZERS = {"shares": Shares, "percent": Percent, "volatility": Volatility, "kelly": Kelly}


@dataclass(frozen=True, slots=True)
class Sizing:
    """A sizer and its numbers; none if the strategy sets sizes itself."""

    sizer: type[_Sizer] | None = None
    amount: float = 0.0
    cap: float | None = None

    @classmethod
    def parse(cls, text: str) -> Sizing:
        """
        Read "shares:100", "percent:95", "volatility:0.10" or "kelly:0.5".

        All but "shares:" accept a cap, the largest fraction of the account: "kelly:0.5:0.3".

        Raises:
            UsageError: it is none of these, or "shares:" with a cap.
        """
        if not text:
            return cls()
        kind, *words = text.split(":")
        example = "write shares:100, percent:95, volatility:0.10, or kelly:0.5 (with a cap: kelly:0.5:0.3)"
        if kind not in SIZERS or not 1 <= len(words) <= 2:
            raise UsageError(f"unknown size {text!r}; {example}{did_you_mean(kind, SIZERS)}")
        if SIZERS[kind] is Shares and len(words) == 2:
            raise UsageError(
                f"the size {text!r} has a cap, which a fixed number of shares does not take; write shares:{words[0]}, "
                "or a size that depends on the account, such as percent:95:0.5"
            )
        amount, *cap = (read_number(word, f"the size {text!r}", example) for word in words)
        return cls(SIZERS[kind], amount, cap[0] if cap else None)

    @property
    def by_the_year(self) -> bool:
        """Whether the sizer needs the number of bars per year of each series."""
        return self.sizer is Volatility

    def set_up(self, cerebro: Any, bars_a_year: Mapping[str, float] | None = None) -> None:
        """
        Set up a Cerebro.

        Args:
            bars_a_year: bars per year by the name of the feed, for sizers `by_the_year`.

        Raises:
            UsageError: it is a fractional number of shares.
        """
        if self.sizer is Shares:
            for feed in cerebro.datas:
                step = smallest_size(feed)
                if self.amount <= 0 or in_steps(self.amount, step) != self.amount:
                    what = "must be above 0 and a multiple" if self.amount <= 0 else "is not a multiple"
                    raise UsageError(
                        f"the size shares:{self.amount:g} {what} of {step:g}, the smallest size of "
                        f"{feed._name}; write shares:{max(in_steps(self.amount, step), step):g}"
                    )
        if self.sizer is not None:
            more: dict[str, Any] = {} if self.cap is None else {"cap": self.cap}
            if self.by_the_year and bars_a_year is not None:
                more["bars_a_year"] = bars_a_year
            cerebro.addsizer(self.sizer, amount=self.amount, **more)

    def check_asked(self, strategy: Any, name: str, orders: int) -> None:
        """
        Refuse a run in which the strategy never used the sizer.

        Raises:
            UsageError: the strategy submitted orders, but none of them left its size open.
        """
        if (
            self.sizer is not None and orders and not getattr(strategy.getsizer(), "asked", 0)
        ):  # it may have set another sizer
            raise UsageError(
                f"{name} sets the size of each order itself, so the requested size had no effect; remove the "
                "requested size, or let the strategy place orders without a size (bundled strategies: --set invest=0)"
            )
