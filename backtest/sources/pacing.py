"""The request budget: when the next historical request may be sent without breaking IB's pacing rules."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from backtest.sources.limits import (
    BURST_REQUESTS,
    BURST_SECONDS,
    IDENTICAL_SECONDS,
    WINDOW_REQUESTS,
    WINDOW_SECONDS,
)

_MARGIN = 0.05  # seconds added to each wait: the gateway's clock reads later than ours


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as the pacing rules see it: what it is, what it is about, and how often it counts."""

    request: Hashable  # equal for identical requests
    line: Hashable  # equal for the same contract, exchange and kind of price
    weight: int = 1  # BID_ASK counts twice


@dataclass(slots=True)
class Budget:
    """
    The paced requests of the last ten minutes; those that are not paced never get here.

    Times are seconds on any clock that never goes back, passed in by the caller.
    """

    _spent: deque[tuple[float, Ask]] = field(default_factory=deque)

    def delay(self, ask: Ask, now: float) -> float:
        """Return the seconds to wait before the request may be sent; 0 for at once."""
        self._forget(now)
        free_at = max(self._identical(ask), self._burst(ask), self._window(ask))
        return max(0.0, free_at - now)

    def spend(self, ask: Ask, now: float) -> None:
        """Note that the request is sent now; a refused one counts too."""
        self._spent.append((now, ask))

    def _forget(self, now: float) -> None:
        while self._spent and self._spent[0][0] <= now - WINDOW_SECONDS - _MARGIN:
            self._spent.popleft()

    def _identical(self, ask: Ask) -> float:
        times = [at for at, spent in self._spent if spent.request == ask.request]
        return times[-1] + IDENTICAL_SECONDS + _MARGIN if times else 0.0

    def _burst(self, ask: Ask) -> float:
        times = [at for at, spent in self._spent if spent.line == ask.line for _ in range(spent.weight)]
        return _free_at(times, BURST_REQUESTS - 1, ask.weight, BURST_SECONDS)

    def _window(self, ask: Ask) -> float:
        times = [at for at, spent in self._spent for _ in range(spent.weight)]
        return _free_at(times, WINDOW_REQUESTS, ask.weight, WINDOW_SECONDS)


def _free_at(times: list[float], allowed: int, weight: int, seconds: float) -> float:
    """Return when `weight` more fit, with at most `allowed` within the seconds; 0 if they fit already."""
    over = len(times) + weight - allowed
    return times[over - 1] + seconds + _MARGIN if over > 0 else 0.0
