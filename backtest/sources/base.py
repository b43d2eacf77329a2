"""`Source`: the interface of a source of bars; `Patience`: how long to wait for each kind of answer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from backtest.errors import UsageError
from backtest.market.calendars import after_the_close, bar_start, sessions
from backtest.market.hours import Session, hours_of
from backtest.market.series import ContractDetails, Instrument, Series
from backtest.market.span import Span

if TYPE_CHECKING:
    import pyarrow as pa

_DAY = timedelta(days=1)
_SETTLING = timedelta(minutes=30)  # after a close, until its daily bar is taken


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for each kind of answer, in seconds."""

    answer: float = 60.0  # an answer, in addition to the time for its bars
    silence: float = 900.0  # total wait for a series that is never answered
    connect: float = 10.0  # a connection, the time, a search
    outage: float = 10_800.0  # the gateway to come back: longer than the nightly reset
    backoff: float = 1.0  # before the second try to connect; doubled with each
    backoff_most: float = 60.0
    belief: float = 60.0  # before "no such instrument" is believed: after an outage, or of a contract that was known


class Source(Protocol):
    """
    The interface of a source of bars; every call blocks, and raises if it fails: an empty answer is never a failure.

    It also has the vendor's rules: `refuse`, `finished`, `seconds_for` and `first`. A subclass inherits the rules of a
    folder of files, and has to define everything else.
    """

    name: str  # what the store notes as the bars' origin
    requests: int  # bar requests sent so far
    violations: int  # of the vendor's pacing, so far
    believed: bool = False  # whether spans that it does not have are never requested again, as for a file

    @property
    @abstractmethod
    def waiting_for(self) -> str:
        """Why no request is being sent, such as a used-up request budget; "" if nothing waits."""

    @abstractmethod
    def now(self) -> datetime:
        """Return the source's time in UTC; bars that end later are not finished."""

    @abstractmethod
    def know(self, instrument: Instrument, details: ContractDetails) -> None:
        """Use earlier details of an instrument instead of requesting them again, if they have a contract number."""

    @abstractmethod
    def qualify(self, instrument: Instrument) -> ContractDetails:
        """Return the source's details of the instrument; raise UnknownContract or AmbiguousContract."""

    def refuse(self, series: Series, span: Span, now: datetime) -> None:
        """Raise UsageError for bars that the vendor never serves, before any request."""
        return  # a file may hold any

    def finished(self, series: Series, span: Span, now: datetime) -> Span | None:
        """
        Return the part of the span whose bars are complete; None if there is none yet.

        A daily bar is complete half an hour after the close of its session, a weekly or monthly one when the next has
        begun. A shorter bar is complete at the next multiple of its size on the exchange's clock, or half an hour after
        a close that cuts it short.
        """
        if span.end <= now - 32 * _DAY:
            return span
        end = _finished_until(series, now)
        return span.common(Span(min(span.start, end - _DAY), end))

    def seconds_for(self, series: Series, windows: Sequence[Span]) -> float:
        """Return roughly how long it takes to fetch the windows."""
        return 0.0  # a file is read at once

    @abstractmethod
    def windows(self, series: Series, gap: Span) -> list[Span]:
        """Return the spans to fetch, one request each, that cover the gap."""

    @abstractmethod
    def halve(self, series: Series, window: Span) -> list[Span]:
        """Return smaller windows for one that was not answered, or the window itself if it cannot be divided."""

    @abstractmethod
    def learn(self, series: Series, window: Span) -> list[Span]:
        """Note that a window was too long, and return smaller ones, or the window itself if it cannot be divided."""

    @abstractmethod
    def fetch(self, series: Series, window: Span) -> pa.Table:
        """
        Return the bars in the window; raise NoData if the source says that there are none.

        If an answer also has bars outside of trading hours, next to the window, a source may return them too: they
        reveal that the answer is wrong.
        """

    @abstractmethod
    def provenance(self, series: Series, window: Span) -> Mapping[str, str]:
        """Return what the store records of a request and its source, by the names in `segments.PROVENANCE`."""

    @abstractmethod
    def head(self, series: Series) -> datetime | None:
        """Return when the instrument's first bar starts, as a hint; None if the source does not say."""

    def first(self, series: Series, now: datetime) -> datetime | None:
        """Return when the first bar of a series that the source serves starts; None if the source does not say."""
        return self.head(series)

    @abstractmethod
    def sessions(self, instrument: Instrument, since: date, until: date, regular_hours: bool) -> list[Session] | None:
        """Return the exchange's sessions from one date to another, both included; None if the source does not say."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    @abstractmethod
    def __enter__(self) -> Self:
        """Return the source itself."""

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close the source."""


def estimated_bars(series: Series, windows: Sequence[Span]) -> int:
    """Return roughly how many bars the windows have: stocks in regular hours, others 23 hours on five days a week."""
    week = 5 * (6.5 if series.regular_hours and series.instrument.kind == "STK" else 23) * 3600
    share = 5 * 86_400 / 604_800 if series.size.daily else week / 604_800
    return round(sum((one.end - one.start).total_seconds() for one in windows) * share / series.size.seconds)


def _finished_until(series: Series, now: datetime) -> datetime:
    hours = hours_of(series.instrument)
    start = bar_start(series, hours, now)  # of the bar under way
    today = now.astimezone(UTC).date()
    try:
        lately = sessions(hours, today - 10 * _DAY, today + _DAY, series.regular_hours)
    except UsageError:  # the calendar is not known
        return start
    closed = [session for session in lately if session.close + _SETTLING <= now]
    if series.size.period == "session":
        last = closed[-1].day if closed else today - 10 * _DAY
        return datetime(last.year, last.month, last.day, tzinfo=UTC) + _DAY
    if series.size.daily:
        under_way = any(session.day < start.date() for session in lately if session not in closed)
        return bar_start(series, hours, start - _DAY) if under_way else start
    late = after_the_close(series, hours)
    return max([start, *(session.close + late for session in closed)])  # the close cuts the last bar short
