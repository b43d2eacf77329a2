"""When the next historical request may be sent, by IB's pacing rules, and how many may be open at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from itertools import count

from backtest.market.ib_limits import (
    BURST_REQUESTS,
    BURST_SECONDS,
    IDENTICAL_SECONDS,
    OPEN_REQUESTS,
    WINDOW_REQUESTS,
    WINDOW_SECONDS,
)

MARGIN = 0.25  # seconds added to each wait: one request may reach a busy gateway sooner than the one before

_START, _MOST = 4, 12  # requests at once; parallel ones are slower than single ones on some gateways
_QUICK_SECONDS = 0.5  # never considered slow, whatever was measured
_SLOWER = 3.0  # times the best measured: the gateway is saturated
_FIXED_BARS = 1000  # an answer without bars costs a gateway about as much as this many bars
_RATES = (100.0, 1000.0, 4000.0)  # bars per second: lowest, initial, highest (20,000 hourly bars took 34 s)
_MEASURED_BARS = 500  # fewer say nothing about the rate


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as the pacing rules see it: its identity, its contract, and how often it counts."""

    request: Hashable  # equal for identical requests
    line: Hashable  # equal for the same contract, exchange and kind of price
    weight: int = 1  # BID_ASK counts twice


@dataclass(slots=True)
class Budget:
    """
    The paced requests of the last ten minutes; unpaced ones are not included.

    Times are seconds on any clock that never goes back, passed in by the caller; so is `margin`.
    """

    margin: float = MARGIN
    blocked_until: float = 0.0
    _spent: deque[tuple[float, Ask]] = field(default_factory=deque)

    def __iter__(self) -> Iterator[tuple[float, Ask]]:
        return iter(self._spent)

    def delay(self, ask: Ask, now: float) -> float:
        """Return the seconds to wait before the request may be sent; 0 for none."""
        self._forget(now)
        free_at = max(self.blocked_until, self._identical(ask), self._burst(ask), self._window(ask))
        return max(0.0, free_at - now)

    def spend(self, ask: Ask, now: float) -> None:
        """Note that the request is sent now; a refused one counts too."""
        self._spent.append((now, ask))

    def block(self, until: float) -> None:
        """Send nothing before a time: the gateway counted more requests than we did."""
        self.blocked_until = max(self.blocked_until, until)

    def _forget(self, now: float) -> None:
        while self._spent and self._spent[0][0] <= now - WINDOW_SECONDS - self.margin:
            self._spent.popleft()

    def _identical(self, ask: Ask) -> float:
        times = [at for at, spent in self._spent if spent.request == ask.request]
        return times[-1] + IDENTICAL_SECONDS + self.margin if times else 0.0

    def _burst(self, ask: Ask) -> float:
        times = [at for at, spent in self._spent if spent.line == ask.line for _ in range(spent.weight)]
        return self._free_at(times, BURST_REQUESTS - 1, ask.weight, BURST_SECONDS)

    def _window(self, ask: Ask) -> float:
        times = [at for at, spent in self._spent for _ in range(spent.weight)]
        return self._free_at(times, WINDOW_REQUESTS, ask.weight, WINDOW_SECONDS)

    def _free_at(self, times: list[float], allowed: int, weight: int, seconds: float) -> float:
        """Return when `weight` more fit, with at most `allowed` within the seconds; 0 if they fit already."""
        over = len(times) + weight - allowed
        return times[over - 1] + seconds + self.margin if over > 0 else 0.0


@dataclass(slots=True)
class Flow:
    """
    How many requests may be open at once: one more after a round of quick answers, half after a slow one.

    Requests that the budget paces count as open, but do not wait for others and do not measure the gateway's speed.
    """

    limit: int = _START
    rate: float = _RATES[1]  # bars per second, as measured recently
    _open: dict[int, bool] = field(default_factory=dict)  # the requests under way by number, and whether paced
    _numbers: Iterator[int] = field(default_factory=count)
    _best: float = float("inf")  # seconds per bar
    _quick: int = 0  # answers since the limit changed
    _settled: int = 0  # requests from this number on were sent under the present limit

    def may(self, paced: bool = False) -> bool:
        """Return whether one more request may be sent."""
        if len(self._open) >= OPEN_REQUESTS:
            return False
        return paced or sum(not other for other in self._open.values()) < self.limit

    def sent(self, paced: bool = False) -> int:
        """Count a request as open, and return its number."""
        number = next(self._numbers)
        self._open[number] = paced
        return number

    def ended(self, number: int) -> None:
        """Count a request as no longer open."""
        self._open.pop(number, None)

    def answered(self, number: int, seconds: float, bars: int) -> None:
        """Learn the gateway's speed from an answer."""
        if bars >= _MEASURED_BARS and seconds > 0:
            least, _, most = _RATES
            self.rate = min(most, max(least, 0.8 * self.rate + 0.2 * bars / seconds))
        a_bar = seconds / (bars + _FIXED_BARS)
        slow = seconds > _QUICK_SECONDS and a_bar > _SLOWER * self._best
        self._best = min(self._best, a_bar)
        if slow:
            self.congested(number)
        else:
            self._grow()

    def congested(self, number: int) -> None:
        """Halve the limit after a slow answer or none; once for all requests sent under the earlier limit."""
        if number >= self._settled:
            self.limit, self._quick, self._settled = max(1, self.limit // 2), 0, next(self._numbers)

    def seconds_for(self, bars: float) -> float:
        """Return how long this many bars should take."""
        return bars / self.rate

    def _grow(self) -> None:
        self._quick += 1
        if self._quick >= self.limit and self.limit < _MOST:
            self.limit, self._quick = self.limit + 1, 0
