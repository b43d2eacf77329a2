"""How much to buy: `SIZERS`, for strategies that leave it open."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import backtrader as bt
import numpy as np

from backtest._suggest import did_you_mean
from backtest.engine.account.commissions import read_number
from backtest.errors import UsageError

SESSIONS = 252.0


class _Sizer(bt.Sizer):
    """
    What all have in common: an order against an open position closes it, and no purchase costs more than there is.

    The share of the account that `exposure` wishes for is bought at the present close; commission comes out of it.
    """

    params: Any = (("cap", 0.95),)
    asked = 0

    def _getsizing(self, comminfo: Any, cash: float, data: Any, isbuy: bool) -> int:
        self.asked += 1
        held = self.broker.getposition(data).size
        if held and (held > 0) != isbuy:
            return int(abs(held))
        money = self.broker.getvalue() * min(max(self.exposure(data), 0.0), self.p.cap)
        return affordable(comminfo, min(money, cash) if isbuy else money, data.close[0])

    def exposure(self, data: Any) -> float:
        """Return the share of the account that the position should be worth."""
        raise NotImplementedError


class Shares(_Sizer):
    """So many shares, whatever they cost."""

    params = (("amount", 1.0),)

    def _getsizing(self, comminfo: Any, cash: float, data: Any, isbuy: bool) -> int:
        self.asked += 1
        return int(self.p.amount)


class Percent(_Sizer):
    """So many percent of the account."""

    params = (("amount", 95.0), ("cap", 1.0))

    def exposure(self, data: Any) -> float:
        """Return the share."""
        return float(self.p.amount / 100)


class Volatility(_Sizer):
    """As much as moves the account with a volatility a year, by the returns of the last bars."""

    params: Any = (("amount", 0.1), ("window", 60), ("bars_a_year", SESSIONS))  # or of each series, by its name

    def exposure(self, data: Any) -> float:
        """Return the share; 0 while there are too few bars."""
        returns = _past_returns(data, self.p.window)
        deviation = returns.std(ddof=1) if len(returns) > 1 else math.nan
        bars = self.p.bars_a_year
        a_year = bars[data._name] if isinstance(bars, Mapping) else bars
        return float(self.p.amount / (deviation * math.sqrt(a_year))) if deviation > 0 else 0.0


class Kelly(_Sizer):
    """
    A fraction of what Kelly's rule would bet: mean over variance of the last bars' returns.

    Source: Thorp (2006), "The Kelly Criterion in Blackjack, Sports Betting, and the Stock Market", section 7.
    """

    params = (("amount", 0.5), ("window", 252))

    def exposure(self, data: Any) -> float:
        """Return the share; 0 while there are too few bars, and where the mean is below 0."""
        returns = _past_returns(data, self.p.window)
        variance = returns.var(ddof=1) if len(returns) > 1 else math.nan
        return float(self.p.amount * returns.mean() / variance) if variance > 0 else 0.0


def _past_returns(data: Any, window: int) -> np.ndarray:
    """Return the last returns from close to close, up to the present bar; none where there are fewer than asked for."""
    closes = np.array(data.close.get(size=window + 1) if len(data) > window else [])
    returns: np.ndarray = closes[1:] / closes[:-1] - 1
    return returns


def affordable(comminfo: Any, money: float, price: float) -> int:
    """Return the most whole shares that money pays at a price, the commission included."""
    if not (money > 0 and price > 0):
        return 0
    least, most = 0, int(money / comminfo.getoperationcost(1, price))
    while least < most:
        middle = (least + most + 1) // 2
        paid = comminfo.getoperationcost(middle, price) + comminfo.getcommission(middle, price) <= money
        least, most = (middle, most) if paid else (least, middle - 1)
    return least


SIZERS = {"shares": Shares, "percent": Percent, "volatility": Volatility, "kelly": Kelly}


@dataclass(frozen=True, slots=True)
class Sizing:
    """A sizer and its numbers; none where the strategy says how much itself."""

    sizer: type[_Sizer] | None = None
    amount: float = 0.0
    cap: float | None = None

    @classmethod
    def parse(cls, text: str) -> Sizing:
        """
        Read "shares:100", "percent:95", "volatility:0.10" or "kelly:0.5"; a cap on the share after it: "kelly:0.5:0.3".

        Raises:
            UsageError: it is none of them.
        """
        if not text:
            return cls()
        kind, *words = text.split(":")
        example = "write shares:100, percent:95, volatility:0.10, or kelly:0.5 (with a cap: kelly:0.5:0.3)"
        if kind not in SIZERS or not 1 <= len(words) <= 2:
            raise UsageError(f"no size {text!r}; {example}{did_you_mean(kind, SIZERS)}")
        amount, *cap = (read_number(word, f"the size {text!r}", example) for word in words)
        return cls(SIZERS[kind], amount, cap[0] if cap else None)

    @property
    def by_the_year(self) -> bool:
        """Whether the sizer needs to know how many bars of each series a year has."""
        return self.sizer is Volatility

    def set_up(self, cerebro: Any, bars_a_year: Mapping[str, float] | None = None) -> None:
        """
        Tell a Cerebro.

        Args:
            bars_a_year: of each series by the name of its feed, for those `by_the_year`.
        """
        if self.sizer is not None:
            more: dict[str, Any] = {} if self.cap is None else {"cap": self.cap}
            if self.by_the_year and bars_a_year is not None:
                more["bars_a_year"] = bars_a_year
            cerebro.addsizer(self.sizer, amount=self.amount, **more)

    def check_asked(self, strategy: Any, name: str, orders: int) -> None:
        """
        Refuse a run in which the sizer had no say.

        Raises:
            UsageError: there were orders, and none of them left its size open.
        """
        if (
            self.sizer is not None and orders and not getattr(strategy.getsizer(), "asked", 0)
        ):  # it may have set another sizer
            raise UsageError(
                f"{name} gives each order a size of its own, so that the size asked for had no say; leave it out, or "
                "let the strategy leave the size open (of those that come along: --set invest=0)"
            )
