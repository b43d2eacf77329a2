"""
`IbSource`: bars from TWS, IB Gateway or the emulator through ib_insync.

Its successor ib_async has the same names and is used if it is installed. The source can be called from any thread, and
blocks: each public method runs a coroutine on the bridge's thread, the only one that touches shared state.
"""

from __future__ import annotations

import functools
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from backtest._clock import Clock, utc_now
from backtest._suggest import there_are
from backtest.errors import (
    Busy,
    GivenUp,
    LinkLost,
    NoData,
    PacingViolation,
    Refused,
    SourceError,
    TooLong,
    Unanswered,
    UsageError,
)
from backtest.market.bars import within
from backtest.market.calendars import bar_start, sessions
from backtest.market.hours import Session as TradingSession
from backtest.market.hours import hours_of
from backtest.market.ib_limits import LEGACY, PRACTICAL, SMALL_BAR_SECONDS, WINDOW_SECONDS
from backtest.market.series import ContractDetails, Instrument, Series
from backtest.market.span import Span
from backtest.sources.base import Patience, Source
from backtest.sources.ib import contracts, requests
from backtest.sources.ib.address import GatewayAddress, exposure_once
from backtest.sources.ib.error_codes import may_be_pacing
from backtest.sources.ib.event_loop import Bridge
from backtest.sources.ib.lookup import ContractLookup
from backtest.sources.ib.pacing import Ask, Flow
from backtest.sources.ib.session import GatewaySession, link_lost
from backtest.sources.ib.shared_state import State

if TYPE_CHECKING:
    import pyarrow as pa

LIMITS = {"practical": PRACTICAL, "legacy": LEGACY}

_T = TypeVar("_T")
_WEEK = timedelta(days=7)
_EVENING = timedelta(days=1)  # on which the first session may have opened
_BREAKS = 10  # of the connection during one request that helps to plan, before it is done without
_ROUNDING = 1e-6  # seconds
_LONG_WAIT = 10.0  # seconds of a wait for the budget from which on users are notified
_SILENCES = 3  # requests in a row without an answer, after which the gateway is to be restarted
_SCHEDULE_VERSION, _SCHEDULE_DAYS = 165, 365  # the server version that knows schedules, days a call
_AGAIN_SECONDS = 7 * 86_400.0  # after which more is asked for again than a gateway once refused
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PATIENT = Patience()
_log = logging.getLogger(__name__)


class IbSource(Source):
    """
    A connection to TWS, IB Gateway or the emulator; read-only. It may be used by many threads at once.

    Args:
        client_id: the first one to try; if it is in use, the next ones are tried.
        state: a folder that keeps the budget, the learnt request lengths and the head timestamps, shared by all
            programs that name it; None to keep them in this object.
        limits: the initial maximum length of requests: "practical" or "legacy".
        time_scale: how much faster than the clock the windows of the limits pass, as the emulator's may.
        clock: the clock, for bars that IB serves only up to now.
        on_close: called when the source is closed.

    Raises:
        UsageError: the host or the port cannot be one, or the folder cannot be written.
        NoConnection: nothing is listening, or the handshake failed.
    """

    name = "ib"

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 7497,
        client_id: int = 1,
        *,
        patience: Patience = _PATIENT,
        state: Path | None = None,
        limits: str = "practical",
        time_scale: float = 1.0,
        clock: Clock = utc_now,
        on_close: Callable[[], object] = lambda: None,
    ) -> None:
        address = GatewayAddress(host, port)
        self._patience, self._time_scale, self._clock, self._on_close = patience, time_scale, clock, on_close
        self._base = _steps(limits)
        self._state = State(state / _state_name(host, port) if state else None, time_scale)
        self._flow = Flow()
        self._growing: defaultdict[str, set[Series]] = defaultdict(set)  # series that request more than learnt, by kind
        self._silent: dict[Series, float] = {}  # seconds for which a series was not answered, since it last was
        self._heads: dict[tuple[Instrument, str], datetime | None] = {}
        self._silences = self._in_a_row = 0  # requests without an answer, violations
        self._waiting_until = 0.0  # the end of a wait of which users were notified
        self.requests = self.violations = 0  # bar requests sent, and violations of the pacing
        self._bridge = Bridge()
        try:
            self._session = self._bridge.call(_connected(address, client_id, patience))
        except BaseException:
            self._bridge.close()
            raise
        self._lookup = ContractLookup(self._session, patience)
        if exposure := exposure_once(address):
            _log.warning(exposure)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect; calls under way in other threads end with LinkLost; closing twice does nothing."""
        if self._bridge.close(self._session.close):
            self._on_close()

    def stop(self) -> None:
        """Let pending requests finish; calls that have not sent theirs raise Stopped, and so do later ones."""
        self._bridge.tell(self._session.stop)

    @property
    def server_version(self) -> int:
        """The version of the protocol that the gateway speaks, 0 without a connection."""
        return self._session.server_version

    @property
    def waiting_for(self) -> str:
        """Why a call is waiting to send, such as a used-up budget; "" if no call waits."""
        return self._session.waiting_for

    @property
    def outage(self) -> str:
        """Why no request can be served at the moment: no connection, no link to IB, a broken data farm; else ""."""
        link = self._session.link
        return link.why_not("history") or link.why_not("contracts")

    def now(self) -> datetime:
        """Return the gateway's time, UTC."""
        return self._bridge.call(self._session.time_there())

    def qualify(self, instrument: Instrument) -> ContractDetails:
        """
        Return what IB says of the instrument.

        Raises:
            UnknownContract: IB knows no such instrument; the text lists similar ones.
            AmbiguousContract: several fit; the text lists them.
        """
        return self._bridge.call(self._lookup.qualified(instrument))[1]

    def know(self, instrument: Instrument, details: ContractDetails) -> None:
        """Use IB's earlier details of an instrument instead of a request; without a contract number, request them."""
        self._lookup.know(instrument, details)

    def near(self, text: str) -> list[str]:
        """Return the instruments that IB finds by a symbol or a name, best first; none if it finds none."""
        return self._bridge.call(self._lookup.near(text))

    def step(self, series: Series) -> str:
        """Return the maximum length of one request: from the table, or a smaller one learnt from this gateway."""
        return self._learnt(series)[0]

    def refuse(self, series: Series, span: Span, now: datetime) -> None:
        """Raise UsageError for bars that IB never serves, before any request."""
        requests.refuse_impossible(series, span, now)

    def seconds_for(self, series: Series, windows: Sequence[Span]) -> float:
        """Return how long it takes to fetch the windows, roughly, at IB's pacing."""
        return requests.seconds_for(series, windows)

    def windows(self, series: Series, gap: Span) -> list[Span]:
        """Return the fewest windows that IB serves which cover the gap."""
        hours, (step, at) = hours_of(series.instrument), self._learnt(series)
        found = requests.windows(series, hours, gap, {series.size.label: step})
        most = self._base[series.size.label]
        if len(found) < 2 or step == most or self._clock().timestamp() < at + _AGAIN_SECONDS:
            return found
        trying = self._growing[_kind(series)]
        if at and trying - {series}:
            return found  # one series finds it out for all, but for the steps of 0.1.0, which may be far too small
        trying.add(series)
        return requests.growing_windows(series, hours, gap, step, most)

    def learn(self, series: Series, window: Span) -> list[Span]:
        """
        Learn that a window was too long, and return smaller ones, or the window itself if it cannot be divided.

        A refusal of a longer request than the learnt length teaches nothing: of many concurrent series only the first
        does.
        """
        step, hours = self.step(series), hours_of(series.instrument)
        refused = requests.duration(series, hours, window, self._clock())
        smaller = [window]
        if requests.seconds_of(refused, series.size) > requests.seconds_of(step, series.size):
            smaller = requests.windows(series, hours, window, {series.size.label: step})
        if smaller == [window]:
            found, smaller = self._smaller(series, window)
            if found is None:
                return smaller
            step = found
            _log.info("learnt a smaller step", extra={"series": str(series), "step": step})
        self._state.learn(self._session.identity, _kind(series), step, self._clock().timestamp())
        return smaller

    def _learnt(self, series: Series) -> tuple[str, float]:
        """Return the maximum length of one request, and when it was learnt."""
        size, most = series.size, self._base[series.size.label]
        step, at = self._state.learnt(self._session.identity, _kind(series), size.label) or (most, 0.0)
        return requests.shorter(most, step, size), at

    def _outgrown(self, series: Series, duration: str) -> None:
        """Learn that a request longer than the learnt step was served; the next plan tries an even longer one."""
        if series not in self._growing[_kind(series)]:
            return
        step, seconds = self.step(series), requests.seconds_of
        if seconds(duration, series.size) > seconds(step, series.size):
            served = requests.shorter(duration, self._base[series.size.label], series.size)
            self._state.learn(self._session.identity, _kind(series), served, 0.0)
            _log.info("learnt a larger step", extra={"series": str(series), "step": served})

    def halve(self, series: Series, window: Span) -> list[Span]:
        """Return smaller windows for one that was not answered, or the window itself if it cannot be divided."""
        return self._smaller(series, window)[1]

    def _smaller(self, series: Series, window: Span) -> tuple[str | None, list[Span]]:
        if requests.open_ended(series):
            return None, [window]
        size, hours, smaller = series.size.label, hours_of(series.instrument), [window]
        asked = requests.duration(series, hours, window, self._clock())
        step: str | None = requests.shorter(self.step(series), asked, series.size)
        while smaller == [window] and step and (step := requests.halved(step, series.size)):
            smaller = requests.windows(series, hours, window, {size: step})
        return (None, [window]) if step is None or smaller == [window] else (step, smaller)

    def fetch(self, series: Series, window: Span) -> pa.Table:
        """
        Return the bars of a window from `windows`; wait for the gateway, its link or the budget if necessary.

        Bars outside of trading hours, next to the window, are returned too: they reveal that an answer has wrong times.

        Raises:
            NoData: IB says that it has no bars there.
            Refused: IB answered with another error code; its subclasses say which.
            Unanswered: no answer came in time, which says nothing about whether there are bars. GivenUp: for a long
                time.
            LinkLost: the request was lost; repeat it.
            NoConnection: an outage lasted longer than the patience.
            Stopped: `stop` was called before the request was sent.
        """
        # What takes time to compute is computed here: the loop's thread serves every caller.
        hours = hours_of(series.instrument)
        duration, end = self._duration(series, window), requests.end_text(series, hours, window)
        answer = self._bridge.call(self._fetch(series, window, duration, end))  # "N D" reaches further back than asked
        self._doubt_head(series, window, answer)
        wrong = within(answer, requests.with_closed_hours(series, hours, window))
        bars = within(answer, window)
        return wrong if len(wrong) > len(bars) + 1 else bars  # a single one has just begun

    def provenance(self, series: Series, window: Span) -> dict[str, str]:
        """Return how the window is requested, by which client library, and the protocol version of the gateway."""
        client, hours = contracts.client_library(), hours_of(series.instrument)
        return {
            "vendor": "Interactive Brokers",
            "end": requests.end_text(series, hours, window),
            "duration": self._duration(series, window),
            "format_date": "2",
            "server_version": str(self.server_version),
            "client": client.__name__,
            "client_version": client.__version__,
        }

    def _duration(self, series: Series, window: Span) -> str:
        """Return the length to request; a week more if a window begins with the first bar, to verify that it does."""
        head, hours = self._heads.get((series.instrument, series.prices)), hours_of(series.instrument)
        if head and not requests.open_ended(series) and abs(head - window.start) < 2 * _EVENING:
            wider = Span(window.start - _WEEK, window.end)
            window = wider if len(self.windows(series, wider)) == 1 else window
        return requests.duration(series, hours, window, self._clock())

    def head(self, series: Series) -> datetime | None:
        """Return when the first bar of the instrument's prices starts, UTC, as a hint; None if IB does not say."""
        return self._bridge.call(self._head(series))

    def first(self, series: Series, now: datetime) -> datetime | None:
        """
        Return when the first bar of a series that IB serves starts, UTC; None if IB does not say.

        For bars of 30 seconds or less, that is the oldest bar that IB still keeps.
        """
        head = self.head(series)
        if head and series.size.seconds <= SMALL_BAR_SECONDS:
            return max(head, requests.oldest_small_bar(now) + timedelta(days=1))
        return head

    def sessions(
        self, instrument: Instrument, since: date, until: date, regular_hours: bool = True
    ) -> list[TradingSession] | None:
        """Return IB's sessions from one date to another, both included; None if IB does not say."""
        return self._bridge.call(self._sessions(instrument, since, until, regular_hours))

    async def _fetch(self, series: Series, window: Span, duration: str, end: str) -> pa.Table:
        try:
            contract, _ = await self._lookup.qualified(series.instrument)
        except Unanswered as error:
            self._wait_no_longer(series, self._patience.answer, error)
            raise
        return await self._lookup.believed(
            series.instrument, lambda: self._bars(contract, series, window, duration, end), known=True
        )

    async def _bars(self, contract: Any, series: Series, window: Span, duration: str, end: str) -> pa.Table:
        what = f"{duration} of {series.short} up to {end or 'now'}"
        paced = series.size.seconds <= SMALL_BAR_SECONDS
        number = await self._turn(_ask(contract, series.prices, f"{series} {duration} {end}") if paced else None)
        self.requests += 1
        request, began = self.requests, self._session.time()
        seconds = self._patience.answer + self._flow.seconds_for(_expected_bars(series, window))
        seconds = min(seconds, self._patience.silence - self._silent.get(series, 0.0))
        overdue = f"no answer yet to {what}; waiting for it for {seconds:.0f} s"
        try:
            with self._session.saying(overdue, seconds / 2):
                bars: list[Any] = await self._session.ask(
                    _send_bars(contract, series, duration, end), what, seconds, cancel=_cancel
                )
            if not bars:
                raise Unanswered(f"no bars and no response for {what}")
        except Unanswered as error:
            waited = self._session.time() - began
            reason = await self._unanswered(error, number, paced, waited)
            if isinstance(reason, Unanswered):
                self._wait_no_longer(series, min(seconds, waited), reason)
            raise reason from error
        except Refused as error:
            self._refused(series, number, paced, error)
            raise
        finally:
            self._ended(number)
        self._outgrown(series, duration)
        table = contracts.table(bars)
        self._answered(series, request, number, paced, len(table), self._session.time() - began)
        return table

    async def _turn(self, ask: Ask | None) -> int:
        """Wait until the next request may be sent, and return its number in the flow; send it at once."""
        while True:
            await self._session.ready()
            if not self._flow.may(ask is not None):
                await self._session.news(self._patience.outage, "as many requests are open as the gateway accepts")
            elif ask and (seconds := self._state.book(ask, time.time())):
                level = logging.WARNING if self._is_to_be_told(seconds) else logging.INFO
                _log.log(level, "waiting for the request budget", extra={"seconds": round(seconds, 3)})
                await self._session.pause(seconds, "the request budget is used up")
            else:
                return self._flow.sent(ask is not None)

    def _is_to_be_told(self, seconds: float) -> bool:
        """Return whether to report a wait: only a long one, and once for all calls that wait at a time."""
        now = self._session.time()
        if seconds < _LONG_WAIT or now < self._waiting_until:
            return False
        self._waiting_until = now + seconds
        return True

    def _ended(self, number: int) -> None:
        self._flow.ended(number)
        self._session.tell()

    def _answered(self, series: Series, request: int, number: int, paced: bool, bars: int, seconds: float) -> None:
        self._silences = self._in_a_row = 0
        self._silent.pop(series, None)
        if not paced:
            self._flow.answered(number, seconds, bars)
        words = {"request": request, "series": str(series), "bars": bars, "seconds": round(seconds, 3)}
        _log.info("bars came", extra=words)

    def _refused(self, series: Series, number: int, paced: bool, error: Refused) -> None:
        self._silent.pop(series, None)
        if isinstance(error, PacingViolation):
            self._violated(number)
        elif isinstance(error, Busy):
            self._flow.congested(number)
        elif paced and may_be_pacing(error):
            self._hold()

    def _wait_no_longer(self, series: Series, seconds: float, error: Unanswered) -> None:
        """Count the seconds that a series spent without an answer; raise GivenUp when its time is used up."""
        silent, most = self._silent.pop(series, 0.0) + seconds, self._patience.silence
        if silent >= most - _ROUNDING:
            raise GivenUp(
                f"{error} {series.short} is given up for now: none of its requests was answered in {most:.0f} s"
            ) from error
        self._silent[series] = silent
        _log.warning("%s: no answer for %.0f s; given up after %.0f s", series.short, silent, most)

    async def _unanswered(self, error: Unanswered, number: int, paced: bool, seconds: float) -> Exception:
        """Return the error to raise if no answer came, after checking whether the gateway is still alive."""
        self._silences += 1
        if not paced:
            self._flow.congested(number)
        if await self._session.deaf():
            return link_lost()
        advice = " TWS or IB Gateway should be restarted." if self._silences >= _SILENCES else ""
        return Unanswered(
            f"{error} in {seconds:.0f} s, which does not mean that there are none; "
            f"stored bars are kept, run this again to resume.{advice}"
        )

    def _violated(self, number: int) -> None:
        """Send no paced request for a while, which doubles with each successive violation."""
        self.violations += 1
        self._flow.congested(number)
        _log.warning("the gateway counts more requests than we do", extra={"code": 162, "seconds": self._hold()})

    def _hold(self) -> float:
        """Send no paced request for a number of seconds."""
        seconds: float = min(self._patience.answer * 2**self._in_a_row, WINDOW_SECONDS / self._time_scale)
        self._in_a_row += 1
        self._state.block(time.time() + seconds)
        return seconds

    async def _head(self, series: Series) -> datetime | None:
        key, name = (series.instrument, series.prices), self._head_name(series)
        if key not in self._heads and name and (known := self._state.head(name, time.time())) is not None:
            self._heads[key] = _EPOCH + timedelta(seconds=known)
        if key not in self._heads:
            contract, _ = await self._lookup.qualified(series.instrument)
            try:
                head: datetime = await self._repeated(
                    series.instrument, lambda: self._asked_head(contract, series), failures=0
                )
                if head == _EPOCH or head > self._clock():
                    raise Unanswered(f"the head timestamp {head:%Y-%m-%d} stands for none")
                self._heads[key] = head
                if name:
                    self._state.learn_head(name, head.timestamp(), time.time())
            except (LinkLost, Refused, Unanswered) as error:
                _log.info("no head timestamp", extra={"series": str(series), "reason": str(error)})
                self._heads[key] = await self._first_day(contract, series)
        return self._heads[key]

    def _head_name(self, series: Series) -> str:
        """Return the key of a head timestamp in the state; "" if the login is unknown."""
        # Another gateway may listen at this port tomorrow, such as the emulator.
        return f"{self._session.login} {series.instrument} {series.prices}" if self._session.login else ""

    def _doubt_head(self, series: Series, window: Span, answer: pa.Table) -> None:
        """Search for the first bar again if an answer reaches further back than the head timestamp."""
        import pyarrow.compute as pc

        head = self._heads.get((series.instrument, series.prices))
        if head is None or not len(answer):
            return
        first = pc.min(answer["time"]).as_py().astimezone(UTC)
        if first < min(window.start, head - 2 * _EVENING):
            _log.info("the head timestamp is later than a bar", extra={"series": str(series), "bar": str(first)})
            self._bridge.call(self._find_head(series, first))

    async def _find_head(self, series: Series, seen: datetime) -> None:
        contract, _ = await self._lookup.qualified(series.instrument)
        head = min(await self._first_day(contract, series) or seen, seen)
        self._heads[series.instrument, series.prices] = head
        if name := self._head_name(series):
            self._state.learn_head(name, head.timestamp(), time.time())

    async def _asked_head(self, contract: Any, series: Series) -> datetime:
        number = await self._turn(_ask(contract, series.prices, f"head of {series.instrument} {series.prices}"))
        try:
            moment: datetime = await self._session.ask(
                lambda client, number: client.reqHeadTimeStamp(number, contract, series.prices, False, 2),
                f"the head timestamp of {series.short}",
                self._patience.answer,
                cancel=lambda client, number: client.cancelHeadTimeStamp(number),
                cancel_answered=True,  # it counts as open until then
            )
        except PacingViolation:
            self._violated(number)
            raise
        finally:
            self._ended(number)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)

    async def _first_day(self, contract: Any, series: Series) -> datetime | None:
        """Return when the session of the first bar opened, by requests for long bars; None if they do not show it."""
        long, now = requests.in_long_bars(series), self._clock()
        hours, first, empty = hours_of(series.instrument), None, 0
        until = bar_start(long, hours, now)  # a window is never cut within a bar
        left = self.windows(long, Span(until - requests.ALL_YEARS, until))
        while left and empty < 2:  # "no data" is said again before it is believed
            window = left[-1]
            words = requests.duration(long, hours, window, now), requests.end_text(long, hours, window)
            ask = functools.partial(self._bars, contract, long, window, *words)
            try:
                table = await self._repeated(series.instrument, ask)
            except NoData:
                empty += 1
            except TooLong:
                if self.learn(long, window) == [window]:
                    return None
                left = [part for one in left for part in self.windows(long, one)]
            except (LinkLost, Refused, Unanswered):
                return None
            else:
                left.pop()
                first, empty = _opening(long, min(table["time"].to_pylist()).astimezone(UTC)), 0
        return first

    async def _repeated(self, instrument: Instrument, work: Callable[[], Awaitable[_T]], failures: int = 1) -> _T:
        """Return the result of the work; repeat it if it was interrupted, sent too early, or failed in certain ways."""
        left: dict[type[SourceError], int] = {LinkLost: _BREAKS, Busy: _BREAKS, SourceError: failures}
        pause = self._patience.backoff
        while True:
            try:
                return await self._lookup.believed(instrument, work, known=True)
            except SourceError as caught:
                dead = isinstance(caught, Unanswered) and await self._session.deaf()
                error = link_lost() if dead else caught
                kind = next(kind for kind in left if isinstance(error, kind))
                if not error.retry or not left[kind]:
                    raise error from caught
                left[kind] -= 1
                _log.info("asking again", extra={"instrument": str(instrument), "reason": str(error)})
            if kind is not LinkLost:
                await self._session.pause(pause, "the gateway has just refused a request")
                pause = min(2 * pause, self._patience.backoff_most)

    async def _sessions(
        self, instrument: Instrument, since: date, until: date, regular_hours: bool
    ) -> list[TradingSession] | None:
        contract, _ = await self._lookup.qualified(instrument)
        found: dict[datetime, TradingSession] = {}
        last = until
        while last >= since:
            part = await self._schedule(contract, instrument, since, last, regular_hours)
            if part is None:
                return None
            found |= {session.open: session for session in part if since <= session.day <= until}
            earlier = [session.day for session in part if session.day <= last]
            last = min(earlier) - timedelta(days=1) if earlier else date.min
        return [found[opening] for opening in sorted(found)]

    async def _schedule(
        self, contract: Any, instrument: Instrument, since: date, until: date, regular_hours: bool
    ) -> list[TradingSession] | None:
        """Return at most the sessions of the last year; an empty list if there are none, None if IB does not say."""
        try:
            return await self._repeated(
                instrument, lambda: self._asked_schedule(contract, instrument, since, until, regular_hours)
            )
        except (LinkLost, Refused, Unanswered, ValueError, KeyError, AttributeError) as error:
            _log.info("no schedule", extra={"instrument": str(instrument), "reason": str(error)})
            return None

    async def _asked_schedule(
        self, contract: Any, instrument: Instrument, since: date, until: date, regular_hours: bool
    ) -> list[TradingSession] | None:
        days = min(_SCHEDULE_DAYS, (until - since).days + 2)
        end = f"{until + timedelta(days=1):%Y%m%d}-00:00:00"
        number = await self._turn(None)
        try:
            if self._session.server_version < _SCHEDULE_VERSION:
                return None
            answer = await self._session.ask(
                lambda client, number: client.reqHistoricalData(
                    number, contract, end, f"{days} D", "1 day", "SCHEDULE", regular_hours, 1, False, []
                ),
                f"the schedule of {instrument}",
                self._patience.answer,
                cancel=_cancel,
            )
            return contracts.sessions_of(answer)
        except NoData:
            return []
        finally:
            self._ended(number)


async def _connected(address: GatewayAddress, client_id: int, patience: Patience) -> GatewaySession:
    session = GatewaySession(address, client_id, patience)
    await session.connect()
    return session


def _steps(limits: str) -> Mapping[str, str]:
    if limits not in LIMITS:
        raise UsageError(f"unknown limits {limits!r}; {there_are(limits, LIMITS)}")
    return LIMITS[limits]


def _opening(series: Series, first: datetime) -> datetime:
    """Return when the session of a bar opens: it may be on the evening before."""
    if not series.size.daily:
        return first
    found = sessions(hours_of(series.instrument), first.date(), first.date(), regular_hours=False)
    return found[0].open if found else first - _EVENING


def _state_name(host: str, port: int) -> str:
    return f"gateway-{'127.0.0.1' if host == 'localhost' else host.replace(':', '_')}-{port}.json"


def _kind(series: Series) -> str:
    """Return the kind of request and the class of contract, for which a gateway has a limit."""
    hours = "regular hours" if series.regular_hours else "all hours"
    return f"{series.size.label}, {series.prices}, {series.instrument.kind}, {hours}"


def _ask(contract: Any, prices: str, request: str) -> Ask:
    # As text: the state is a file. BID_ASK counts twice.
    return Ask(
        f"{contract.conId} {request}", f"{contract.conId}@{contract.exchange} {prices}", 1 + (prices == "BID_ASK")
    )


def _send_bars(contract: Any, series: Series, duration: str, end: str) -> Callable[[Any, int], object]:
    words: tuple[Any, ...] = (
        end,
        duration,
        contracts.wire_size(series),
        series.prices,
        series.regular_hours,
        2,
        False,
        [],
    )
    return lambda client, number: client.reqHistoricalData(number, contract, *words)


def _cancel(client: Any, number: int) -> None:
    client.cancelHistoricalData(number)


def _expected_bars(series: Series, window: Span) -> float:
    return (window.end - window.start).total_seconds() / series.size.seconds
