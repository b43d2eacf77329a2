"""
`Filling`: the download of one series, from its gaps to its report.

Stored bars are not requested again, except that a seam older than a few hours is read again together with the first
window beyond it, which reveals splits and late corrections without a further request. If the price jumps where two
windows of a download meet, or those before and after an interruption, the session beside the jump is requested once
more before the window is stored, so that a split during the download does not leave two scales.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from backtest.downloads import gaps, revisions
from backtest.downloads.report import Options, Progress, SeriesReport
from backtest.downloads.retry import NotTrue, ask
from backtest.downloads.revisions import Resolution
from backtest.errors import (
    AmbiguousContract,
    BacktestError,
    BadBars,
    Conflict,
    DataError,
    NoBars,
    NoData,
    SourceError,
    TooLong,
    UnknownContract,
    UsageError,
)
from backtest.market.bars import check_bars, extra_of, schema, with_extra, within
from backtest.market.calendars import bar_start, exact, whole_bars
from backtest.market.checks import (
    BarChange,
    check_answer,
    compare_bars,
    doubted,
    in_session,
    outside,
    seldom_trades,
    shifted,
    trades_in,
    twins,
)
from backtest.market.hours import Hours, StatedHours, hours_of
from backtest.market.series import ContractDetails, Series
from backtest.market.span import Span, union
from backtest.store.reader import hours_in

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.sources.base import Source
    from backtest.store.manifest import Answer, Manifest
    from backtest.store.store import Store

_DEAD = 3  # windows in a row that are never served, before the series is given up
_SCALES = 3  # rescaled answers within a download, each of which re-downloads the series
_MANY = 20  # windows from which on another request, to check the first one again, adds a twentieth or less
_HALVINGS = 3  # of a window that is not answered, before its source is given up
_AROUND = timedelta(days=4)  # a long weekend: the schedule is asked for with the sessions on both sides
_ROUNDS = 3  # of repairs, where each brings bars
_SHOWN = 5  # spans in a message
_log = logging.getLogger(__name__)


class _Rescaled(Exception):
    """Stored prices or volumes and fresh ones differ by one ratio; the series has to be read again."""

    def __init__(self, difference: BarChange) -> None:
        super().__init__(f"{difference.ratio or difference.unit:.6g}")
        self.difference = difference


class Filling:
    """
    The download of one series: `fill` runs it, `report` returns the outcome.

    Args:
        span: the requested span; only bars that are finished as of `now` are fetched.
        tell: called with a Progress after each window.
        stop: when set, no further window is requested.
    """

    def __init__(
        self,
        store: Store,
        source: Source,
        series: Series,
        span: Span,
        now: datetime,
        options: Options,
        tell: Callable[[Progress], object],
        stop: threading.Event,
    ) -> None:
        self._store, self._source, self._series = store, source, series
        self._hours = hours_in(store, series)
        self._span = whole_bars(series, self._hours, span)
        self._now, self._options, self._tell, self._stop = now, options, tell, stop
        self._wanted: Span | None = None
        self._requested = now  # the current window
        self._rows_before = 0
        self._done = self._planned = self._requests = self._quarantined = 0
        self._revisions: list[datetime] = []
        self._errors: list[str] = []
        self._notes: list[str] = []
        self._rolled = ""  # the old and the new contract of a continuous future
        self._exit_code = 0
        self._unanswered: list[Span] = []  # windows halved since the last answer
        self._learnt = False
        self._given_up: list[tuple[Span, str]] = []
        self._dead = 0  # of them since the last answer
        self._kept: list[Span] = []  # windows that brought bars
        self._comparing = False  # whether to compare the current window
        self._late: list[Span] = []  # ends of windows whose bars the vendor may deliver late
        self._quiet: list[Span] = []  # last days that the vendor reported as empty
        self._found: list[Span] = []  # holes found in the generation below
        self._looked_at = -1
        self._vague = False  # whether neither our calendar nor the source's knows the sessions
        self._last_day: date | None = None  # of a contract that has expired

    def fill(self) -> None:
        """
        Fetch and store what is missing.

        Raises:
            BacktestError: the series could not be filled; what was stored stays.
            OSError: the store cannot be written.
        """
        try:
            self._start()
            try:
                self._fill_gaps()
            except _Rescaled as found:
                why = revisions.scale_text(found.difference)
                _log.info(why, extra={"series": str(self._series), "ratio": str(found)})
                self._read_again(why)
        except BacktestError as error:
            self._errors.insert(0, str(error))
            self._exit_code = max(self._exit_code, error.exit_code)
            raise

    def report(self) -> SeriesReport:
        """Return the outcome, also after `fill` has raised."""
        try:
            manifest = self._store.manifest_or_empty(self._series)
        except BacktestError:
            return SeriesReport(self._series, "failed", errors=tuple(self._errors), exit_code=self._exit_code)
        segments = manifest.segments
        missing = union(self._missing()) if self._wanted else [self._span]
        given_up = [text for window, text in self._given_up if any(window.common(gap) for gap in missing)]
        errors: tuple[str, ...] = (*self._errors, *given_up)
        if self._wanted and not errors and (missing or not manifest.rows):
            errors = (missing_text(self._series, missing, self._wanted),)
        complete = not errors and not missing
        worst = max(self._exit_code, SourceError.exit_code if given_up else 0)
        ended = self._ended_on() if complete else None
        return SeriesReport(
            self._series,
            "complete" if complete else "partial" if manifest.rows else "failed",
            bars_added=manifest.rows - self._rows_before,
            bars=manifest.rows,
            requests=self._requests,
            lower_bound=self._planned,
            first=datetime.fromisoformat(segments[0].first) if segments else None,
            last=datetime.fromisoformat(segments[-1].last) if segments else None,
            gaps=tuple(missing),
            confirmed_empty=tuple(union(gaps.empty(self._wanted or self._span, manifest.answers))),
            revisions=tuple(self._revisions),
            quarantined=self._quarantined,
            errors=errors,
            notes=(*self._notes, *self._remarks(ended)),
            exit_code=0 if complete else worst or DataError.exit_code,
            ended=ended,
        )

    @property
    def span(self) -> Span:
        """The requested span, widened to whole bars."""
        return self._span

    @property
    def failures(self) -> list[str]:
        """The failures, apart from missing sessions."""
        return [*self._errors, *(text for _, text in self._given_up)]

    def planned(self) -> list[Span]:
        """Return the windows that `fill` would request if nothing failed; nothing is sent."""
        self._start()
        contract = self._store.manifest_or_empty(self._series).contract
        if contract and contract.con_id and not self._series.instrument.rolls:
            self._source.know(self._series.instrument, contract)
        holes = [] if self._series.rewritten else self._holes()  # a series that is requested as a whole
        repairs = [window for hole in holes for window in self._source.windows(self._series, hole)]
        return [*self._windows(), *repairs]

    def _start(self) -> None:
        self._rows_before = self._store.manifest_or_empty(self._series).rows
        span = self._span_to_the_last_day()
        try:
            self._source.refuse(self._series, span, self._now)
        except UsageError:
            if not self._last_day or not self._rows_before or self._unanswered_in(span):
                raise  # otherwise all its bars were stored in time
        self._wanted = self._source.finished(self._series, span, self._now)
        if self._wanted is None:
            raise UsageError(
                f"{self._series.short} has no finished bar in {span}; the source's clock says "
                f"{self._now:%Y-%m-%d %H:%M}Z"
            )

    def _span_to_the_last_day(self) -> Span:
        """Return the requested span, for an expired contract up to its last trade date; note that date."""
        manifest = self._store.manifest_or_empty(self._series)
        last = gaps.last_trade_date(self._series.instrument, manifest.contract)
        if last is None or self._now < gaps.day_after(last):
            return self._span
        self._last_day = last
        if self._span.start >= gaps.day_after(last):
            if manifest.rows:
                return gaps.days_between(
                    gaps.day_after(last) - gaps.MICROSECOND, gaps.day_after(last) - gaps.MICROSECOND
                )
            raise UsageError(f"{self._series.short} expired on {last}; request sessions up to then")
        return Span(self._span.start, min(self._span.end, gaps.day_after(last)))

    def _unanswered_in(self, span: Span) -> bool:
        return bool(gaps.unanswered(span, self._store.manifest_or_empty(self._series).answers))

    def _recognise(self) -> None:
        """
        Look up the contract behind the instrument's name, if the last look-up was long ago.

        Raises:
            Conflict: the name now means a contract other than the one whose bars are stored.
        """
        instrument, manifest = self._series.instrument, self._store.manifest_or_empty(self._series)
        stored = manifest.contract
        if stored is None or not stored.con_id:
            return
        if instrument.rolls:
            self._source.know(instrument, ContractDetails())  # it may have rolled since it was asked for
        elif not manifest.answers or any(gaps.fresh(answer, self._now) for answer in manifest.answers):
            self._source.know(instrument, stored)
            return
        try:
            found = self._source.qualify(instrument)
        except (UnknownContract, AmbiguousContract) as error:
            self._source.know(instrument, stored)  # a number outlives a name
            self._notes.append(
                f"{instrument} no longer identifies one contract ({error}); bars are requested for "
                f"contract {stored.con_id} ({stored.name}), as before; was it renamed?"
            )
        except SourceError as error:
            if not error.retry:
                raise
            self._source.know(instrument, stored)  # too little to doubt the answer
        else:
            self._compare_contracts(stored, found)

    def _compare_contracts(self, stored: ContractDetails, found: ContractDetails) -> None:
        text = revisions.other_contract(self._series.instrument, stored, found)
        if not text:
            return
        if self._series.instrument.rolls:
            self._rolled = revisions.roll_text(self._series.instrument, stored, found)
            self._notes.append(self._rolled)
            return
        if not self._options.accept_revision:
            raise Conflict(
                f"{text}; the stored bars were kept and nothing was requested; if it is the same company, use "
                "--accept-revision, otherwise download into another store"
            )
        self._notes.append(text)

    def _fill_gaps(self) -> None:
        windows = self._windows()
        self._planned = len(windows)
        if windows or self._holes():
            self._recognise()
        empty = self._ask_all(windows)
        if len(self._kept) >= _MANY and self._series.instrument.kind in revisions.SPLIT:
            self._compare_again(_stored(self._store, self._series, self._kept[0]), -1)
        for window in self._in_session(self._not_before_head(empty)):
            if window.minus(gaps.empty(window, self._answers())):
                self._confirm_empty(window, "asked twice")
            else:
                self._note_empty(window, "said again on a later day")
        self._repair()

    def _repair(self) -> None:
        """Request what answers lacked once more, in other windows, and note what is still missing."""
        if self._series.rewritten:
            for hole in self._in_session(self._after_head(self._holes())) if self._kept else ():
                self._note_empty(hole, "asked again")  # with the whole
            return
        asked: list[Span] = []
        within: list[Span] | None = None
        for _ in range(_ROUNDS):
            fuller = []
            for window in self._repairs(within):
                rows = self._rows
                asked += [window] if self._confirm_empty(window, "a repair") else []
                fuller += [window] if self._rows > rows else []
            within = fuller  # what these still lack may come with a shorter window
        for hole in self._holes():
            for part in filter(None, (hole.common(window) for window in asked)):
                self._note_empty(part, "asked again, and in another window")

    def _repairs(self, within: Sequence[Span] | None) -> list[Span]:
        """Return the windows for what answers lacked, or those for the whole range between if these are fewer."""
        lacking = self._lacking()
        if within is not None:
            lacking = [part for hole in lacking for window in within if (part := hole.common(window))]
        lacking = self._in_session(self._after_head(lacking)) if lacking else []
        if not lacking:
            return []
        holes = gaps.asked_at_once(self._series, self._hours, lacking)
        windows = [window for hole in holes for window in self._source.windows(self._series, hole)]
        whole = self._source.windows(self._series, Span(holes[0].start, max(hole.end for hole in holes)))
        return whole if len(whole) < len(windows) else windows

    @property
    def _rows(self) -> int:
        return self._store.manifest_or_empty(self._series).rows

    def _lacking(self) -> list[Span]:
        assert self._wanted is not None  # _start has run
        late = [part for end in self._late for part in gaps.unanswered(end, self._answers())]
        return [*self._holes(), *(part for part in late if self._source.windows(self._series, part))]

    def _after_head(self, holes: list[Span]) -> list[Span]:
        """Return the missing sessions that may have bars; note those before the source's own first bar."""
        first = self._first_stored()
        early = [hole for hole in holes if first and hole.end <= first]
        head = self._head() if early else None
        if head is None:
            return holes
        opening = gaps.first_session(self._series, self._hours, head)
        for hole in early:
            if hole.start < opening and (before := hole.common(Span(hole.start, opening))):
                self._note_empty(before, f"not in the answer ({gaps.BEFORE_HEAD} {head:%Y-%m-%d %H:%M}Z)")
        return [*(hole for hole in holes if hole not in early), *self._holes_in(early)]

    def _not_before_head(self, windows: list[Span]) -> list[Span]:
        """Return the windows that may have bars; note those before the source's own first one."""
        first = self._first_stored()
        early = [window for window in windows if first is None or window.end <= first]
        head = self._head() if early else None
        before = [window for window in early if head and window.end <= head]
        for window in before:
            self._note_empty(window, f"no data ({gaps.BEFORE_HEAD} {head:%Y-%m-%d %H:%M}Z)")
        return [window for window in windows if window not in before]

    def _head(self) -> datetime | None:
        """Return the time of the source's first bar, if known and not disproved by an older stored bar."""
        head, first = self._source.head(self._series), self._first_stored()
        wrong = head and first and gaps.first_session(self._series, self._hours, head) > first
        return None if wrong else head

    def _first_stored(self) -> datetime | None:
        segments = self._store.manifest_or_empty(self._series).segments
        return datetime.fromisoformat(segments[0].first) if segments else None

    def _holes_in(self, spans: list[Span]) -> list[Span]:
        return [common for hole in self._holes() for span in spans if (common := hole.common(span))]

    def _in_session(self, holes: list[Span]) -> list[Span]:
        """Return the holes in which the source's schedule has sessions; note those that only our calendar has."""
        newest = sorted(holes, reverse=True)
        checked = [hole for hole in newest if exact(self._hours, hole.start.date(), hole.end.date())]
        left = [hole for hole in newest if hole not in checked]
        while left:
            until = left[0].end.date() + timedelta(days=1)  # an evening may belong to the next day's session
            year, left = gaps.newest_year(left)
            if not year:
                break  # more than a year without a bar
            since = until - gaps.YEAR - timedelta(days=1)
            schedule = self._source.sessions(self._series.instrument, since, until, self._series.regular_hours)
            self._vague = self._vague or schedule is None
            real = year if schedule is None else in_session(self._series, year, schedule)
            for hole in year:
                if hole not in real:
                    self._note_empty(hole, gaps.NO_SESSION)
            checked += real
            if len(real) == len(year):
                break  # the schedule has no more information
        return checked + left

    def _ask_all(self, windows: list[Span]) -> list[Span]:
        """Request each window, the newest first; return those that the source reported as empty."""
        left, empty = list(windows), []
        while left:
            window = left.pop()
            try:
                left.extend(self._ask(window))
            except NoData as said:
                if not self._before_the_first_bar(window, left, str(said)):
                    empty.append(window)
            except UnknownContract as error:
                self._note_gone(window, error)
                left.clear()
            except SourceError as error:
                self._give_up(window, error)
            if self._learnt:
                left, self._learnt = [part for one in left for part in self._source.windows(self._series, one)], False
            self._done += 1
        return empty

    def _give_up(self, window: Span, error: SourceError) -> None:
        """Continue without a window that is never served; raise the error if it is not due to the window."""
        self._dead += 1
        if error.scope != "window" or self._dead == _DEAD:
            raise error
        self._given_up.append((window, f"{error} (given up for now: {window})"))

    def _ask(self, window: Span) -> list[Span]:
        """Request a window and store its bars; return the smaller windows to request if it was too long."""
        self._requested = self._store.clock()
        try:
            answer = self._answer(window, may_halve=len(self._unanswered) < _HALVINGS)
        except NotTrue as error:
            ghosts = self._ghosts(error.bars)
            self._put_aside(window, error.bars.filter(ghosts), str(error))
            self._errors.append(str(error))
            answer = within(error.bars.filter(~ghosts), window)  # one unusual session says nothing about the others
            if not len(answer):
                return []
        except TooLong as error:
            return self._learn(window, error)
        if isinstance(answer, list):
            self._unanswered.append(window)
            return answer
        self._keep(window, self._fuller(window, answer) if self._series.rewritten else answer)
        self._dead = 0
        if self._unanswered:  # and now a part of it was answered: the window was too long, the gateway was not down
            self._source.learn(self._series, self._unanswered[-1])
            self._unanswered, self._learnt = [], True
        self._tell(Progress(self._series, self._done + 1, max(self._planned, self._done + 1), len(answer)))
        return []

    def _fuller(self, window: Span, bars: pa.Table) -> pa.Table:
        """
        Return an answer that is to replace stored bars; if it lacks sessions, return a second answer instead.

        Raises:
            Conflict: the second answer also lacks stored sessions that the source should still have.
        """
        lost, new = self._lacked(window, bars)
        if not lost and not self._in_session(new):
            return bars
        with contextlib.suppress(NoData, NotTrue):
            again = self._answer(window, may_halve=False)
            bars = again if not isinstance(again, list) and len(again) > len(bars) else bars
        lost, _ = self._lacked(window, bars)
        if lost and not self._options.accept_revision and not self._rolled:  # of another contract there may be less
            raise Conflict(
                f"an answer for the whole of {self._series.short} lacks stored bars: {_shown(lost)}; the stored "
                "bars were kept; the next download requests them again, and --accept-revision drops those bars"
            )
        return bars

    def _lacked(self, window: Span, bars: pa.Table) -> tuple[list[Span], list[Span]]:
        """Return the sessions that an answer lacks since the source's first bar: those stored, and those not stored."""
        known = gaps.empty(window, self._answers())
        found = gaps.lacking(self._series, self._hours, window, bars, known)
        head = self._source.head(self._series) if found else None  # which may have moved
        opening = gaps.first_session(self._series, self._hours, head) if head else window.start
        found = [hole for hole in found if hole.end > opening]
        lost = [hole for hole in found if len(_stored(self._store, self._series, hole))]
        return lost, [hole for hole in found if hole not in lost]

    def _answer(self, window: Span, may_halve: bool) -> pa.Table | list[Span]:
        return ask(
            self._source,
            self._series,
            self._hours_for,
            window,
            self._options.persistence,
            self._stop,
            self._count_request,
            may_halve=may_halve,
        )

    def _hours_for(self, bars: pa.Table) -> Hours:
        """
        Return the hours against which an answer is checked.

        Times that the calendar or the contract's hours would refuse are looked up in the source's own schedule.
        """
        instrument, hours = self._series.instrument, self._hours
        with contextlib.suppress(UsageError):  # hours that cannot be read
            hours = hours_of(instrument, self._source.qualify(instrument))
        odd = doubted(bars, self._series, hours)
        if not odd.any():
            return hours
        days = gaps.days_of_bars(bars.filter(odd))
        since, until = days[0].date() - _AROUND, days[-1].date() + _AROUND
        schedule = None
        with contextlib.suppress(SourceError):  # as if the source did not state any
            schedule = self._source.sessions(instrument, since, until, self._series.regular_hours)
        if not schedule:
            return hours
        said = StatedHours(since, until, tuple(schedule), self._series.regular_hours)
        return replace(hours, stated=(*hours.stated, said))

    def _ghosts(self, bars: pa.Table) -> np.ndarray:
        """Return which bars of an invalid answer to quarantine: all, or if only hours are wrong, those outside them."""
        hours = self._hours_for(bars)
        ghosts: np.ndarray = outside(bars, self._series, hours) | shifted(bars, self._series, hours)
        try:
            check_bars(bars, self._series)  # in order, so none of them was moved there
            check_answer(bars.filter(~ghosts), self._series, hours)
        except BadBars:
            return np.ones(len(bars), bool)
        return ghosts

    def _learn(self, window: Span, error: TooLong) -> list[Span]:
        smaller = self._source.learn(self._series, window)
        if smaller == [window]:
            raise error
        self._learnt = True
        return smaller

    def _count_request(self) -> None:
        self._requests += 1

    def _confirm_empty(self, window: Span, why: str) -> bool:
        """Request the window once more, narrowly; a second "no data" is an answer. Return whether there was one."""
        failures = len(self._errors) + len(self._given_up)
        try:
            smaller = self._ask(window)
        except NoData as said:
            self._note_empty(window, f"{said} ({why})")
            return True
        except UnknownContract as error:
            self._note_gone(window, error)
            return False
        except SourceError as error:
            self._give_up(window, error)
            return False
        for empty in self._ask_all(smaller):
            self._note_empty(empty, why)
        return len(self._errors) + len(self._given_up) == failures

    def _note_gone(self, window: Span, error: UnknownContract) -> None:
        """Note that the source no longer knows a stored contract; raise if no bars of it are stored, or recent ones."""
        manifest = self._store.manifest_or_empty(self._series)
        if not manifest.rows or not manifest.contract or not manifest.contract.con_id:
            raise error
        after = gaps.after_session(self._series, self._hours, datetime.fromisoformat(manifest.segments[-1].last))
        if after >= window.end:
            raise error
        self._notes.append(
            f"{error}; if the source repeats this on another day, {self._series.instrument} counts as ended"
        )
        self._write_empty(Span(after, window.end), f"{gaps.GONE}: {error}")

    def _note_empty(self, window: Span, text: str) -> None:
        """Note that there are no bars, except for the last days, for which the vendor may only be late."""
        segments = self._store.manifest_or_empty(self._series).segments
        last = datetime.fromisoformat(segments[-1].last) if segments else None
        shut = gaps.NO_SESSION in text
        old = window if shut else gaps.believed_empty(window, last, self._now)
        if old and self._longer_than_a_day:
            end = bar_start(self._series, self._hours, old.end)
            old = Span(old.start, end) if old.start < end else None
        self._quiet.extend(window.minus([old] if old else []))
        if old is not None:
            reason = "" if shut or gaps.BEFORE_HEAD in text else self._reason(old)
            self._write_empty(old, f"{text}; {reason}" if reason else text)

    def _reason(self, window: Span) -> str:
        """Return why an answer without bars is accepted at once; "" if it has to be requested again."""
        if self._source.believed:
            return gaps.A_FILE
        unsure = self._vague or not gaps.has_calendar(self._hours)
        if unsure and gaps.may_be_holidays(self._series, self._hours, window):
            return gaps.NOT_KNOWN
        return gaps.SELDOM if self._seldom_trades() else ""

    def _seldom_trades(self) -> bool:
        """Return whether sessions without a bar are common in the stored part of the span."""
        assert self._wanted is not None  # _start has run
        stored = _stored(self._store, self._series, self._wanted)
        return seldom_trades(self._series, self._hours, stored, self._wanted)

    def _write_empty(self, old: Span, text: str) -> None:
        contract = self._source.qualify(self._series.instrument)
        self._store.write(
            self._series,
            old,
            schema().empty_table(),
            source=self._source.name,
            text=text,
            contract=contract,
            at=self._now,
        )

    def _before_the_first_bar(self, window: Span, left: list[Span], said: str) -> bool:
        """Note the window and all before it as empty if the source's first bar is later; otherwise return False."""
        head = self._head() if left else None
        if head is None or window.end > head:
            return False
        for one in [*left, window]:
            self._note_empty(one, f"{said} (the first bar is of {head:%Y-%m-%d %H:%M}Z)")
        left.clear()
        return True

    def _keep(self, window: Span, bars: pa.Table) -> None:
        """Store an answer; if stored bars differ, decide which values to keep."""
        stored = with_extra(_stored(self._store, self._series, window), extra_of(bars))  # of others nothing is said
        cut = self._cut(stored, bars)
        stored = revisions.without(stored, cut)
        replaced = self._series.rewritten
        bars = bars if replaced else revisions.with_known(bars, stored)
        difference = compare_bars(stored, bars)
        if difference and not replaced:
            bars = self._judged(difference, stored, window, bars)
            difference = compare_bars(stored, bars)
        if not replaced:
            if not cut:  # otherwise the neighbour is a part of a week, which proves nothing
                self._check_seams(stored, bars)
            self._revisions.extend([*cut, *difference.times])
        else:
            self._kept.append(window)
        contract = self._source.qualify(self._series.instrument)
        self._store.write(
            self._series,
            self._covered(window, bars),
            bars,
            source=self._source.name,
            contract=contract,
            at=self._now,
            revise=replaced or bool(difference) or bool(cut),
            why=revisions.CUT if cut else revisions.why_revised(self._series, difference, self._rolled),
            provenance=self._provenance(window, contract),
        )
        for late in self._late:  # this answer has no bars either where the vendor reported none
            for part in gaps.empty(late, self._answers()) if late.common(window) else ():
                self._note_empty(part, "not in the answer either")

    def _provenance(self, window: Span, contract: ContractDetails) -> dict[str, str]:
        series, instrument = self._series, self._series.instrument
        return {
            "con_id": str(contract.con_id or ""),
            "local_symbol": contract.local_symbol,
            "exchange": instrument.exchange,
            "primary_exchange": contract.primary_exchange,
            "currency": instrument.currency,
            "multiplier": contract.multiplier,
            "last_trade_date": contract.last_trade_date,
            "time_zone": contract.time_zone,
            "prices": series.prices,
            "regular_hours": str(series.regular_hours).lower(),
            "bar_size": series.size.label,
            "requested": self._requested.isoformat(timespec="seconds"),
            "received": self._store.clock().isoformat(timespec="seconds"),
            **self._source.provenance(series, window),
        }

    def _covered(self, window: Span, bars: pa.Table) -> Span:
        """Return the window, without the sessions of the last days that have no bar yet: the vendor may be late."""
        last = bars["time"][-1].as_py()
        last = whole_bars(self._series, self._hours, Span(last, last + gaps.MICROSECOND)).end - gaps.MICROSECOND
        late = None if self._series.rewritten else gaps.late(self._series, self._hours, window, last, self._now)
        if not late or not self._source.windows(self._series, late):
            return window
        self._late.append(late)
        return Span(window.start, late.start)

    def _judged(self, difference: BarChange, stored: pa.Table, window: Span, bars: pa.Table) -> pa.Table:
        """Return the bars to store: those of the answer, or stored ones that prevail; raise if none may be stored."""
        last = datetime.fromisoformat(self._store.manifest_or_empty(self._series).segments[-1].last)
        settled = revisions.settled(difference.moved, gaps.days_of_bars(stored), last)
        decision = revisions.decide(difference, settled, self._options.accept_revision)
        if decision is Resolution.READ_AGAIN:
            raise _Rescaled(difference)
        if self._options.accept_revision:
            return bars
        if difference.gone:
            self._notes.append(revisions.gone_text(self._series, difference.gone))
        if decision is Resolution.TAKE:
            return revisions.with_kept(bars, stored, difference.gone)
        text = revisions.conflict_text(self._series, settled)
        self._put_aside(window, bars, text)
        self._errors.append(text)
        return revisions.with_kept(bars, stored, [*settled, *difference.gone])

    def _check_seams(self, stored: pa.Table, bars: pa.Table) -> None:
        """Request the sessions on both sides of new bars again, if they did not come with them and are in doubt."""
        new, again = revisions.others(bars, stored), revisions.common(stored, bars)
        if not len(new):
            return
        first, last = (new["time"][row].as_py() for row in (0, -1))
        manifest = self._store.manifest_or_empty(self._series)
        if not len(again) or again["time"][-1].as_py() < last:
            self._check_seam(self._beyond(manifest, last, after=True), 0, bars, manifest.answers)
        if not len(again) or again["time"][0].as_py() > first:
            self._check_seam(self._beyond(manifest, first, after=False), -1, bars, manifest.answers)
        self._kept.append(Span(first, last + gaps.MICROSECOND))

    def _check_seam(self, beyond: pa.Table, nearest: int, bars: pa.Table, answers: Sequence[Answer]) -> None:
        """Compare the nearest stored bars beyond a seam again, if they are old or may have another scale."""
        if not len(beyond):
            return
        if gaps.is_fresh(beyond["time"][nearest].as_py(), answers, self._now):
            older, newer = (bars, beyond) if nearest == 0 else (beyond, bars)
            if not revisions.is_doubtful(self._series, older, newer):
                return
        self._compare_again(beyond, nearest)

    def _beyond(self, manifest: Manifest, moment: datetime, after: bool) -> pa.Table:
        """Return stored bars after or before a moment: of a few days; if there are none, of three weeks, or all."""
        segments, bars = manifest.segments, schema().empty_table()
        if not segments:
            return bars
        first, last = (datetime.fromisoformat(text) for text in (segments[0].first, segments[-1].last))
        for part in gaps.spans_after(moment, last) if after else gaps.spans_before(moment, first):
            bars = bars if len(bars) else _stored(self._store, self._series, part)
        return bars

    def _compare_again(self, bars: pa.Table, nearest: int) -> None:
        """Request the session of the first or last of these stored bars again: by now it may have another scale."""
        if not len(bars) or self._comparing:  # a day, UTC, may have bars of two sessions, one on each side of a hole
            return
        day = gaps.days_of_bars(bars)[nearest]
        parts = self._source.windows(self._series, gaps.days_between(day, day))[nearest:][:1]
        requested, self._comparing = self._requested, True
        try:
            while parts:
                with contextlib.suppress(NoData):  # then there is nothing to compare it with
                    parts.extend(self._ask(parts.pop()))
        finally:
            self._requested, self._comparing = requested, False

    def _put_aside(self, window: Span, bars: pa.Table, why: str) -> None:
        self._store.quarantine(self._series, window, bars, why)
        self._quarantined += 1
        self._exit_code = max(self._exit_code, DataError.exit_code)

    def _read_again(self, why: str) -> None:
        """Read the whole series into a staging store, and swap it in once complete; until then the old one stays."""
        assert self._wanted is not None  # _start has run
        whole = self._whole(self._wanted)
        beside = self._store.staging()
        if beside.root.parts[-_SCALES:] == (beside.root.name,) * _SCALES:
            self._store.drop(self._series)  # so that the next download starts it again
            raise Conflict(
                f"answers for {self._series.short} changed scale {_SCALES} times; stored bars are kept, run this "
                "again tomorrow"
            )
        again = Filling(beside, self._source, self._series, whole, self._now, self._options, self._tell, self._stop)
        again.fill()
        done, failed = again.report(), again.failures
        self._requests, self._planned = self._requests + done.requests, self._planned + done.lower_bound
        self._errors.extend(failed)
        self._notes.extend(done.notes)
        if failed:
            self._exit_code = max(self._exit_code, done.exit_code)
        else:
            after = beside.read(self._series)
            before = with_extra(self._store.read(self._series), extra_of(after))  # the store keeps the others
            difference = compare_bars(before, after)
            self._revisions.extend(difference.times)
            if difference.gone:
                self._join_again(beside, before, difference)
            self._store.replace(self._series, beside, why=why, at=self._now)
            beside.drop(self._series)

    def _whole(self, wanted: Span) -> Span:
        """Return the span of everything stored and requested; of the request alone if IB serves nothing else."""
        whole = gaps.whole_span(wanted, self._store.manifest_or_empty(self._series).answers)
        try:
            self._source.refuse(self._series, whole, self._now)
        except UsageError:
            return wanted
        return whole

    def _join_again(self, beside: Store, before: pa.Table, difference: BarChange) -> None:
        """Add stored bars that the vendor no longer serves to those read again, on the new scale."""
        span = gaps.days_between(difference.gone[0], difference.gone[-1])
        lost = revisions.rescaled(before, difference.ratio, difference.unit)
        bars = revisions.with_kept(_stored(beside, self._series, span), lost, difference.gone)
        contract = self._source.qualify(self._series.instrument)
        text = revisions.lost_text(self._series, difference)
        beside.write(self._series, span, bars, source=self._source.name, text=text, contract=contract, at=self._now)
        self._notes.append(text)

    def _windows(self) -> list[Span]:
        # A weekend is not a reason to re-read its seams.
        gaps_with_bars = [gap for gap in self._gaps() if self._source.windows(self._series, gap)]
        spans = union(whole_bars(self._series, self._hours, self._with_seams(gap)) for gap in gaps_with_bars)
        return [window for span in spans for window in self._source.windows(self._series, span)]

    def _gaps(self) -> list[Span]:
        assert self._wanted is not None  # _start has run
        answers, wanted = self._answers(), self._wanted
        end = self._end()
        again = gaps.empty(wanted, answers) if self._options.recheck else self._due(end)
        if self._series.rewritten:
            again = [*again, *self._holes()]
        ended = [end.after] if end and not end.due and not self._options.recheck else []
        spans = gaps.to_ask(self._series, wanted, answers, again, ended)
        spans = union([*spans, *self._with_two_bars(wanted)])
        return union([*spans, *self._contested(wanted)]) if self._options.accept_revision else spans

    def _due(self, end: gaps.End | None) -> list[Span]:
        """Return the spans due for another request; for an ended instrument all after its last bar, or nothing."""
        assert self._wanted is not None  # _start has run
        due = gaps.due(self._series, self._hours, self._wanted, self._answers(), self._now)
        if end is None:
            return due
        tail = end.after.common(self._wanted) if end.due else None
        return [*(part for span in due for part in span.minus([end.after])), *([tail] if tail else [])]

    def _end(self) -> gaps.End | None:
        """Return the end of the instrument, if sessions without a bar follow its last one."""
        segments = self._store.manifest_or_empty(self._series).segments
        if not segments or self._wanted is None or self._source.believed:
            return None
        last = datetime.fromisoformat(segments[-1].last)
        return gaps.end_of_instrument(self._series, self._hours, last, self._wanted, self._answers(), self._now)

    def _ended_on(self) -> date | None:
        """Return the last session of an instrument that has ended."""
        segments = self._store.manifest_or_empty(self._series).segments
        if self._last_day or not segments:
            return self._last_day
        return datetime.fromisoformat(segments[-1].last).date() if self._end() else None

    def _remarks(self, ended: date | None) -> Iterator[str]:
        """Yield notes on how the series' sessions are known, where they matter."""
        if self._hours.unknown and not gaps.has_calendar(self._hours):
            yield (
                f"the sessions of {self._hours.unknown} are not known: weekdays are expected, and a few in a row "
                "without a bar count as holidays"
            )
        if ended:
            why = (
                "its last trade date" if self._last_day else "no session since has a bar; --recheck requests them again"
            )
            yield f"ended on {ended}: {why}"

    def _answers(self) -> tuple[Answer, ...]:
        return self._store.manifest_or_empty(self._series).answers

    def _with_two_bars(self, wanted: Span) -> list[Span]:
        """Return the weeks or months that are stored as several partial bars, as 0.1.0 requested them."""
        if not self._longer_than_a_day:
            return []
        stored = _stored(self._store, self._series, wanted)
        return [
            whole_bars(self._series, self._hours, Span(at, at + gaps.MICROSECOND)) for at in twins(stored, self._series)
        ]

    @property
    def _longer_than_a_day(self) -> bool:
        return self._series.size.period in ("week", "month")

    def _cut(self, stored: pa.Table, bars: pa.Table) -> list[datetime]:
        """Return the stored bars that may be parts of weeks or months that an answer has as a whole."""
        if not self._longer_than_a_day or not len(stored):
            return []
        covered = self._store.manifest_or_empty(self._series).coverage
        fresh = bars.to_pylist()
        same = {row["time"] for row in stored.to_pylist() if row in fresh}
        return [at for at in gaps.cut_bars(self._series, stored, bars, covered) if at not in same]

    def _contested(self, wanted: Span) -> list[Span]:
        """Return the spans in which a quarantined answer has other prices than the store."""
        from backtest.store.audit.verification import answers_aside

        if not self._store.manifest_or_empty(self._series).aside:
            return []
        stored = _stored(self._store, self._series, wanted)
        aside = answers_aside(self._store, self._series, self._hours)
        moved = (compare_bars(revisions.common(stored, answer), answer).moved for answer in aside)
        return [span for times in moved if times and (span := gaps.days_between(times[0], times[-1]).common(wanted))]

    def _with_seams(self, gap: Span) -> Span:
        """Return the gap together with adjacent sessions that were stored long ago, to read them again with it."""
        if self._series.rewritten:
            return gap
        answers = self._store.manifest_or_empty(self._series).answers
        beside = gaps.beside(gap, answers, self._now)
        wide = gaps.with_seams(gap, [(span, self._days(gaps.nearest_window(span, gap))) for span in beside])
        for span in gaps.beside_young(gap, answers, self._now):
            days = self._days(gaps.nearest_window(span, gap))
            wider = gaps.with_seams(wide, [(span, days[-1:] if span.end == gap.start else days[:1])])
            if len(self._source.windows(self._series, wider)) == len(self._source.windows(self._series, wide)):
                wide = wider
        return wide

    def _days(self, span: Span) -> list[datetime]:
        return gaps.days_of_bars(_stored(self._store, self._series, span))

    def _missing(self) -> Iterator[Span]:
        """Return what is still missing: windows without an answer, and sessions without a bar."""
        assert self._wanted is not None  # _start has run
        end, known = self._end(), gaps.has_calendar(self._hours)
        after = [end.after] if end else []
        # The last days of what seldom trades are asked for again on the next night, and are no reason for an alarm.
        quiet = [*self._quiet, *self._late]
        quiet = quiet if quiet and self._seldom_trades() else []
        for gap in gaps.unanswered(self._wanted, self._answers()):
            for part in gap.minus([*after, *quiet]):
                if not known or trades_in(self._series, self._hours, part):
                    yield from self._source.windows(self._series, part)
        unconfirmed = gaps.unconfirmed(self._series, self._hours, self._wanted, self._answers())
        for span in [*self._holes(), *unconfirmed]:
            yield from span.minus(after)

    def _holes(self) -> list[Span]:
        assert self._wanted is not None  # _start has run
        generation = self._store.manifest_or_empty(self._series).generation
        if generation != self._looked_at:
            stored = _stored(self._store, self._series, self._wanted)
            self._found = gaps.holes(self._series, self._hours, self._wanted, self._answers(), stored)
            self._looked_at = generation
        return list(self._found)


def missing_text(series: Series, missing: Sequence[Span], wanted: Span) -> str:
    """Return which bars are missing, and that a download on a later day requests them again."""
    if not missing:
        return f"the source has no bar of {series.short} in {wanted}; check the name and the dates"
    return (
        f"the source returned no bars of {series.short} for {_shown(missing)}; a download on a later day requests "
        "them again"
    )


def _shown(spans: Sequence[Span]) -> str:
    more = f" and {len(spans) - _SHOWN} more" if len(spans) > _SHOWN else ""
    return ", ".join(map(str, spans[:_SHOWN])) + more


def _stored(store: Store, series: Series, span: Span) -> pa.Table:
    if not store.manifest_or_empty(series).rows:
        return schema().empty_table()
    try:
        return store.read(series, span)
    except NoBars:
        return schema().empty_table()
