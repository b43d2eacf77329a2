"""`ask`: request a window until the source answers, with a patience that depends on the kind of refusal."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backtest.errors import BadBars, Busy, LinkLost, NoData, PacingViolation, SourceError, Stopped
from backtest.market.bars import within
from backtest.market.checks import check_answer
from backtest.market.hours import Hours
from backtest.market.series import Series
from backtest.market.span import Span

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from backtest.sources.base import Source

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Persistence:
    """How many times a window is requested, and the seconds between the requests."""

    tries: int = 4  # unanswered or refused for no known reason
    breaks: int = 10  # of the connection, for one window; as often the source may be busy
    pause: float = 5.0  # doubled with each try
    pacing_pause: float = 60.0  # doubled with each violation; the longest pause for a busy source


class NotTrue(BadBars):
    """An answer that broke the rules twice, with its bars for quarantine."""

    def __init__(self, text: str, bars: pa.Table) -> None:
        super().__init__(text)
        self.bars = bars


def ask(
    source: Source,
    series: Series,
    hours: Callable[[pa.Table], Hours],
    window: Span,
    persistence: Persistence,
    stop: threading.Event,
    asking: Callable[[], object],
    may_halve: bool,
) -> pa.Table | list[Span]:
    """
    Return the bars of a window; after two failures the halves to request instead, if it can be halved.

    `asking` is called before each request; `hours` returns the hours against which an answer is checked.

    Raises:
        NoData: the source says that it has no bars there.
        TooLong: the source says that the window is too long for one request.
        NotTrue: the answer broke the rules of a bar twice.
        SourceError: the source failed, or was given up after several requests.
        Stopped: `stop` was set.
    """
    failures = breaks = waits = untrue = tries = 0
    while True:
        if stop.is_set():
            raise Stopped("stopped on request; stored bars are kept; run this again to resume")
        asking()
        tries += 1
        try:
            bars = source.fetch(series, window)
        except LinkLost:
            breaks += 1
            if breaks > persistence.breaks:
                raise
        except Busy as error:
            if waits == persistence.breaks:
                raise
            _log.warning(
                "the source is busy; waiting", extra={**_of(series, window), "request": tries, "reason": str(error)}
            )
            stop.wait(min(persistence.pause * 2**waits, persistence.pacing_pause))
            waits += 1
        except SourceError as error:
            failures += 1
            if not error.retry or failures == persistence.tries:
                raise
            paced = isinstance(error, PacingViolation)
            stop.wait((persistence.pacing_pause if paced else persistence.pause) * 2 ** (failures - 1))
            if failures == 2 and may_halve and not paced and (halves := source.halve(series, window)) != [window]:
                _log.info("splitting a window in two", extra={**_of(series, window), "reason": str(error)})
                return halves
        else:
            why = _why_not_true(bars, series, hours(bars))
            if not why:
                return _not_empty(within(bars, window), series, window)
            untrue += 1
            _log.warning("invalid answer", extra={**_of(series, window), "request": tries, "reason": why})
            if untrue == 2:
                raise NotTrue(f"{why}; asked twice", bars)


def _of(series: Series, window: Span) -> dict[str, str]:
    return {"series": str(series), "window": str(window)}


def _why_not_true(bars: pa.Table, series: Series, hours: Hours) -> str:
    """Return which rules an answer breaks, "" for none."""
    try:
        check_answer(bars, series, hours)
    except BadBars as error:
        return str(error)
    return ""


def _not_empty(bars: pa.Table, series: Series, window: Span) -> pa.Table:
    if not len(bars):
        raise NoData(f"the answer for {series.short} reaches beyond {window} and has no bar in it")
    return bars
