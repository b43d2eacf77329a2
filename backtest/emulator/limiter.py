"""IB's pacing as the gateway enforces it on all connections together, by the numbers of market/ib_limits.py."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from backtest.emulator.protocol import BarsRequest, HeadRequest
from backtest.errors import UsageError
from backtest.market.ib_limits import (
    BURST_REQUESTS,
    BURST_SECONDS,
    IDENTICAL_SECONDS,
    MESSAGES_A_SECOND,
    OPEN_REQUESTS,
    SMALL_BAR_SECONDS,
    WINDOW_REQUESTS,
    WINDOW_SECONDS,
)
from backtest.market.series import BarSize


@dataclass(frozen=True, slots=True)
class _Passed:
    """A paced request: when it came, and as how many it counts."""

    at: float
    request: BarsRequest | HeadRequest
    weight: int


class Limiter:
    """
    Counts of recent messages and requests.

    Args:
        time_scale: how much faster than the clock the windows pass; 100 makes ten minutes six seconds.
        strict: whether anything is ever refused.
        now: returns the time in seconds.
    """

    def __init__(self, time_scale: float = 1.0, strict: bool = True, now: Callable[[], float] = time.monotonic) -> None:
        self._scale, self._strict, self._now = time_scale, strict, now
        self._messages: deque[float] = deque()
        self._passed: deque[_Passed] = deque()

    def too_many_messages(self) -> bool:
        """Count a message and return whether it exceeds the rate per second."""
        now = self._now() * self._scale
        while self._messages and self._messages[0] <= now - 1.0:
            self._messages.popleft()
        self._messages.append(now)
        return self._strict and len(self._messages) > MESSAGES_A_SECOND

    def too_many_open(self, others: int) -> bool:
        """Return whether the maximum of open historical requests is already reached."""
        return self._strict and others >= OPEN_REQUESTS

    def violated(self, request: BarsRequest | HeadRequest) -> bool:
        """Count a request of a paced kind, refused or not, and return whether it breaks a rule."""
        if not _paced(request):
            return False
        now = self._now() * self._scale
        while self._passed and self._passed[0].at <= now - WINDOW_SECONDS:
            self._passed.popleft()
        new = _Passed(now, replace(request, req_id=0), 2 if request.prices == "BID_ASK" else 1)
        self._passed.append(new)
        return self._strict and (self._repeated(new) or self._bursting(new) or self._over_budget())

    def _repeated(self, new: _Passed) -> bool:
        recent = [old for old in self._passed if old.at > new.at - IDENTICAL_SECONDS]
        return any(old.request == new.request for old in recent[:-1])

    def _bursting(self, new: _Passed) -> bool:
        recent = [old for old in self._passed if old.at > new.at - BURST_SECONDS]
        return sum(_same_ticks(old.request, new.request) for old in recent) >= BURST_REQUESTS

    def _over_budget(self) -> bool:
        return sum(old.weight for old in self._passed) > WINDOW_REQUESTS


def _paced(request: BarsRequest | HeadRequest) -> bool:
    if isinstance(request, HeadRequest):
        return True
    try:
        return BarSize.parse(request.size).seconds <= SMALL_BAR_SECONDS
    except UsageError:
        return False  # refused as no bar size, before anything is asked for


def _same_ticks(one: BarsRequest | HeadRequest, other: BarsRequest | HeadRequest) -> bool:
    # The exchange is part of the contract.
    return one.contract == other.contract and one.prices == other.prices
