"""What a command shows while it works: its progress, and its log records."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from backtest.cli.terminal import harmless, say, shortened, unmarked
from backtest.errors import UsageError

if TYPE_CHECKING:
    from backtest._clock import Clock
    from backtest.downloads.report import Progress
    from backtest.market.series import Series
    from backtest.research.search.sweeps import SweepProgress
    from backtest.store.audit.verification import SeriesAudit

_LINE_SECONDS = 30.0  # between two lines of progress where there is no terminal


@contextmanager
def progress(count: int, waiting_for: Callable[[], str], clock: Clock) -> Iterator[Callable[[Progress], None]]:
    """
    Yield a function that shows the progress of series: live on a terminal, elsewhere a line now and then.

    `waiting_for` returns why no request is being sent at the moment, such as a used-up request budget.
    """
    from rich.console import Console

    if not sys.stderr.isatty():
        yield _Tally(count, waiting_for, say, _LINE_SECONDS, clock)
        return
    with Console(stderr=True).status("connected") as status:
        yield _Tally(count, waiting_for, status.update, 0.1, clock)


class _Tally:
    """Adds up the progress of the series and shows it, with a minimum number of seconds between updates."""

    def __init__(
        self,
        count: int,
        waiting_for: Callable[[], str],
        show: Callable[[str], object],
        seconds: float,
        clock: Clock,
    ) -> None:
        self._count, self._waiting_for, self._show = count, waiting_for, show
        self._seconds, self._clock = timedelta(seconds=seconds), clock
        self._shares: dict[Series, float] = {}
        self._requests = self._bars = 0
        self._began = self._shown = clock()
        self._lock = threading.Lock()

    def __call__(self, progress: Progress) -> None:
        with self._lock:
            self._shares[progress.series] = progress.done / progress.windows
            self._requests += 1
            self._bars += progress.bars
            now = self._clock()
            if now - self._shown >= self._seconds:
                self._shown = now
                self._show(self._text(progress))

    def _text(self, progress: Progress) -> str:
        share, seconds = sum(self._shares.values()) / self._count, (self._shown - self._began).total_seconds()
        done = sum(one == 1 for one in self._shares.values())
        left = seconds / share - seconds if share else 0
        time_left = _time_left(left)
        return (
            f"{done:,} of {self._count:,} series, {self._requests:,} requests, {self._bars:,} bars "
            f"({self._bars / max(seconds, 0.1):,.0f} per second), about {time_left} left; "
            f"{progress.series.short} {progress.done} of {progress.windows}"
            + (f"; waiting: {why}" if (why := self._waiting_for()) else "")
        )


@contextmanager
def sweeping(clock: Clock, what: str = "trials") -> Iterator[Callable[[SweepProgress], None]]:
    """Yield a function that shows the progress of a sweep: live on a terminal, elsewhere a line now and then."""
    from rich.console import Console

    if not sys.stderr.isatty():
        yield _Seldom(_LINE_SECONDS, clock, what)
        return
    with Console(stderr=True).status("begun") as status:
        yield lambda progress: status.update(_sweep_text(progress, clock(), what))


class _Seldom:
    """Reports the progress of a sweep, with a minimum number of seconds between reports."""

    def __init__(self, seconds: float, clock: Clock, what: str) -> None:
        self._seconds, self._clock, self._said = timedelta(seconds=seconds), clock, clock()
        self._what = what

    def __call__(self, progress: SweepProgress) -> None:
        now = self._clock()
        if now - self._said >= self._seconds:
            self._said = now
            say(_sweep_text(progress, now, self._what))


def _sweep_text(progress: SweepProgress, now: datetime, what: str) -> str:
    failed = f", {progress.failed:,} failed" if progress.failed else ""
    before = f" ({progress.kept:,} already saved)" if progress.kept else ""
    return (
        f"{progress.done:,} of {progress.total:,} {what}{before}{failed}, about {_time_left(progress.left)} left "
        f"(until {(now + timedelta(seconds=progress.left)).astimezone():%H:%M})"
    )


def _time_left(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"


def watched(verdicts: Iterator[SeriesAudit]) -> list[SeriesAudit]:
    """Return the verdicts, and meanwhile show the progress on a terminal."""
    from rich.console import Console

    if not sys.stderr.isatty():
        return list(verdicts)
    seen: list[SeriesAudit] = []
    with Console(stderr=True).status("verifying") as status:
        for one in verdicts:
            seen.append(one)
            bars = sum(each.bars for each in seen)
            status.update(unmarked(f"{len(seen) - 1:,} series, {bars:,} bars verified: {one.series}"))
    return seen


def start_logging(log_format: str) -> None:
    """Send the package's log records to stderr, as text or as JSON lines."""
    if log_format not in ("text", "json"):
        raise UsageError(f"--log-format {log_format!r} is unknown; write text or json")
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines() if log_format == "json" else _TextLines())
    logger = logging.getLogger("backtest")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO if log_format == "json" else logging.WARNING)
    logger.propagate = False


_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields that were given with a record, such as the series, the reason and the request."""
    return {key: value for key, value in vars(record).items() if key not in _KNOWN}


class _TextLines(logging.Formatter):
    """One line per record: its message and, after a colon, its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = ", ".join(
            f"{key.replace('_', ' ')} {' '.join(str(value).split())}" for key, value in _fields(record).items()
        )
        return harmless(shortened(": ".join(filter(None, (record.getMessage(), fields)))))


class _JsonLines(logging.Formatter):
    """One JSON object per record: time in UTC, level, logger, message, and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="seconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        return json.dumps(
            {name: shortened(value) if isinstance(value, str) else value for name, value in line.items()}, default=str
        )
