"""
`Filling`: one series on its way into the store, from its gaps to its report.

What is stored is not asked for again, but a seam that is older than a few hours is re-read together with the first
window beyond it: that shows splits and late corrections at no request more.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from backtest.downloads.report import Options, Progress, SeriesReport
from backtest.downloads.retry import NotTrue, ask
from backtest.errors import (
    AmbiguousContract,
    BacktestError,
    Conflict,
    DataError,
    NoBars,
    NoData,
    SourceError,
    TooLong,
    UnknownContract,
    UsageError,
)
from backtest.market.bars import schema
from backtest.market.calendars import exact
from backtest.market.checks import Difference, compare, in_session, missing_sessions
from backtest.market.series import Series
from backtest.market.span import Span, union

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.market.series import ContractDetails
    from backtest.sources.base import Source
    from backtest.store.manifest import Answer
    from backtest.store.store import Store

SEAM = 5  # sessions re-read at a seam
UNSETTLED = 3  # the last of them, which the vendor may still correct: there the new value wins
_FRESH = timedelta(hours=6)  # a seam this young is not re-read
_DEAD = 3  # windows in a row that are never served, before the series is given up
_HALVINGS = 3  # of a window that is not answered, before its source is given up
_DAY = timedelta(days=1)
_LATE = timedelta(days=4)  # a long weekend
_YEAR = timedelta(days=364)  # one request of a schedule
_log = logging.getLogger(__name__)


class _Rescaled(Exception):
    """Stored prices and fresh ones differ by one ratio; the series has to be read anew."""


class Filling:
    """
    Fills one series; `fill` does it, `report` tells what came of it.

    Args:
        span: what is asked for; of it only finished bars are fetched, as of `now`.
        tell: is given a Progress after each window.
        stop: when set, no further window is asked for.
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
        self._store, self._source, self._series, self._span = store, source, series, span
        self._now, self._options, self._tell, self._stop = now, options, tell, stop
        self._wanted: Span | None = None
        self._requested = now  # the window under way
        self._rows_before = 0
        self._done = self._planned = self._requests = self._quarantined = 0
        self._revisions: list[datetime] = []
        self._errors: list[str] = []
        self._notes: list[str] = []
        self._exit_code = 0
        self._unanswered: list[Span] = []  # windows halved since the last answer
        self._learnt = False
        self._given_up: list[tuple[Span, str]] = []
        self._dead = 0  # of them since the last answer

    def fill(self) -> None:
        """
        Fetch and store what is missing.

        Raises:
            BacktestError: the series could not be filled; what was stored stays.
            OSError: the store cannot be written.
        """
        try:
            self._start()
            self._fill_gaps()
        except _Rescaled as ratio:
            _log.info("prices were rescaled", extra={"series": str(self._series), "ratio": str(ratio)})
            self._read_anew()
        except BacktestError as error:
            self._errors.insert(0, str(error))
            self._exit_code = self._exit_code or error.exit_code
            raise

    def report(self) -> SeriesReport:
        """Return what came of it, also after `fill` has raised."""
        try:
            manifest = self._store.manifest_or_empty(self._series)
        except BacktestError:
            return SeriesReport(self._series, "failed", errors=tuple(self._errors), exit_code=self._exit_code)
        segments = manifest.segments
        gaps = union(self._open_gaps()) if self._wanted else [self._span]
        given_up = [text for window, text in self._given_up if any(window.common(gap) for gap in gaps)]
        errors = (*self._errors, *given_up)
        complete = not errors and not gaps
        return SeriesReport(
            self._series,
            "complete" if complete else "partial" if manifest.rows else "failed",
            bars_added=manifest.rows - self._rows_before,
            bars=manifest.rows,
            requests=self._requests,
            lower_bound=self._planned,
            first=datetime.fromisoformat(segments[0].first) if segments else None,
            last=datetime.fromisoformat(segments[-1].last) if segments else None,
            gaps=tuple(gaps),
            confirmed_empty=tuple(union(_empty(manifest.answers, self._wanted or self._span))),
            revisions=tuple(self._revisions),
            quarantined=self._quarantined,
            errors=errors,
            notes=tuple(self._notes),
            exit_code=0 if complete else self._exit_code or (SourceError if given_up else DataError).exit_code,
        )

    def planned(self) -> list[Span]:
        """Return the windows that `fill` would ask for, were nothing to go wrong; nothing is sent."""
        self._start()
        contract = self._store.manifest_or_empty(self._series).contract
        if contract and contract.con_id:
            self._source.know(self._series.instrument, contract)
        repairs = [window for hole in self._holes() for window in self._source.windows(self._series, hole)]
        return [*self._windows(), *repairs]

    def _start(self) -> None:
        self._rows_before = self._store.manifest_or_empty(self._series).rows
        self._source.refuse(self._series, self._span, self._now)
        self._wanted = self._source.finished(self._series, self._span, self._now)
        if self._wanted is None:
            raise UsageError(
                f"{self._series.short} has no finished bar in {self._span}; at the source it is "
                f"{self._now:%Y-%m-%d %H:%M}Z"
            )

    def _recognise(self) -> None:
        """
        Ask what the instrument's name means, where that was last asked long ago.

        Raises:
            Conflict: it means another contract than the one whose bars are stored.
        """
        instrument, manifest = self._series.instrument, self._store.manifest_or_empty(self._series)
        stored = manifest.contract
        if stored is None or not stored.con_id:
            return
        if max((answer.at for answer in manifest.answers), default=self._now) > self._now - _FRESH:
            self._source.know(instrument, stored)
            return
        try:
            found = self._source.qualify(instrument)
        except (UnknownContract, AmbiguousContract) as error:
            self._source.know(instrument, stored)  # a number outlives a name
            self._notes.append(
                f"{instrument} is no longer the name of one contract ({error}); the bars asked for are those of "
                f"contract {stored.con_id} ({stored.name}), as before; was it renamed?"
            )
        except SourceError as error:
            if not error.retry:
                raise
            self._source.know(instrument, stored)  # too little to doubt it for
        else:
            self._compare_contracts(stored, found)

    def _compare_contracts(self, stored: ContractDetails, found: ContractDetails) -> None:
        if found.con_id in (0, stored.con_id):
            return
        text = (
            f"{self._series.instrument} was contract {stored.con_id} ({stored.name}) and is now {found.con_id} "
            f"({found.name})"
        )
        if not self._options.accept_revision:
            raise Conflict(
                f"{text}; the stored bars were kept and nothing was asked for; if it is the same business, go on with "
                "--accept-revision, else download into another store"
            )
        self._notes.append(text)

    def _fill_gaps(self) -> None:
        windows = self._windows()
        self._planned = len(windows)
        if windows or self._holes():
            self._recognise()
        empty = self._ask_all(windows)
        for window in empty:
            self._confirm_empty(window, "asked twice")
        for hole in self._in_session(self._holes()):
            for window in self._source.windows(self._series, hole):
                self._confirm_empty(window, "a repair")

    def _in_session(self, holes: list[Span]) -> list[Span]:
        """Return the holes that the source's own schedule has sessions in; note the others, which our calendar made."""
        left = sorted(holes, reverse=True)
        checked: list[Span] = []
        while left and not exact(self._series.instrument):
            until, before = left[0].end.date(), left[0].end - _YEAR
            year, left = [one for one in left if one.start >= before], [one for one in left if one.start < before]
            schedule = self._source.sessions(self._series.instrument, until - _YEAR, until, self._series.regular_hours)
            real = year if schedule is None else in_session(self._series, year, schedule)
            for hole in year:
                if hole not in real:
                    self._note_empty(hole, "no session in the source's schedule")
            checked += real
            if len(real) == len(year):
                break  # the schedule knows no better
        return checked + left

    def _ask_all(self, windows: list[Span]) -> list[Span]:
        """Ask for each window, the newest first; return those that were said to be empty."""
        left, empty = list(windows), []
        while left:
            window = left.pop()
            try:
                left.extend(self._ask(window))
            except NoData as said:
                if not self._before_the_first_bar(window, left, str(said)):
                    empty.append(window)
            except SourceError as error:
                self._give_up(window, error)
            if self._learnt:
                left, self._learnt = [part for one in left for part in self._source.windows(self._series, one)], False
            self._done += 1
        return empty

    def _give_up(self, window: Span, error: SourceError) -> None:
        """Go on without a window that is never served; raise where it is not the window's fault."""
        self._dead += 1
        if error.scope != "window" or self._dead == _DEAD:
            raise error
        self._given_up.append((window, f"{error} (given up for now: {window})"))

    def _ask(self, window: Span) -> list[Span]:
        """Ask for a window and keep its bars; return the smaller windows to ask for where it was too long."""
        self._requested = self._store.clock()
        try:
            answer = ask(
                self._source,
                self._series,
                window,
                self._options.persistence,
                self._stop,
                self._count_request,
                may_halve=len(self._unanswered) < _HALVINGS,
            )
        except NotTrue as error:
            self._put_aside(window, error.bars, str(error))
            return []
        except TooLong as error:
            return self._learn(window, error)
        if isinstance(answer, list):
            self._unanswered.append(window)
            return answer
        self._keep(window, answer)
        self._dead = 0
        if self._unanswered:  # and now a part of it was: it was too long, and not the gateway that was dead
            self._source.learn(self._series, self._unanswered[-1])
            self._unanswered, self._learnt = [], True
        self._tell(Progress(self._series, self._done + 1, max(self._planned, self._done + 1), len(answer)))
        return []

    def _learn(self, window: Span, error: TooLong) -> list[Span]:
        smaller = self._source.learn(self._series, window)
        if smaller == [window]:
            raise error
        self._learnt = True
        return smaller

    def _count_request(self) -> None:
        self._requests += 1

    def _confirm_empty(self, window: Span, why: str) -> None:
        """Ask once more, and narrowly; "none" said again is an answer."""
        try:
            smaller = self._ask(window)
        except NoData as said:
            self._note_empty(window, f"{said} ({why})")
            return
        except SourceError as error:
            self._give_up(window, error)
            return
        for empty in self._ask_all(smaller):
            self._note_empty(empty, why)

    def _note_empty(self, window: Span, text: str) -> None:
        """Note that there are no bars; not of the last days, for which the vendor may only be late."""
        if window.start >= self._now - _LATE:
            return
        old = Span(window.start, min(window.end, self._now - _LATE))
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
        """Note as empty the window and all before it, where the source's first bar is younger; else return False."""
        head = self._source.head(self._series) if left else None
        if head is None or window.end > head:
            return False
        for one in [*left, window]:
            self._note_empty(one, f"{said} (the first bar is of {head:%Y-%m-%d %H:%M}Z)")
        left.clear()
        return True

    # --- an answer, and the stored bars that it repeats

    def _keep(self, window: Span, bars: pa.Table) -> None:
        """Store an answer; where stored bars are different, decide whose values hold."""
        stored = _stored(self._store, self._series, window)
        difference = compare(stored, bars)
        replaced = self._series.rewritten
        if difference and not replaced:
            self._judge(difference, stored, window, bars)
            self._revisions.extend(difference.times)
        contract = self._source.qualify(self._series.instrument)
        self._store.write(
            self._series,
            self._covered(window, bars),
            bars,
            source=self._source.name,
            contract=contract,
            at=self._now,
            revise=replaced or bool(difference),
            why="" if not difference else "replaced whole" if replaced else "the vendor has corrected bars",
            provenance=self._provenance(window, contract),
        )

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
        end = _midnight(bars["time"][-1].as_py()) + _DAY
        late = window.end > self._now - _LATE and end < window.end and not self._series.rewritten
        return Span(window.start, end) if late and self._source.windows(self._series, Span(end, window.end)) else window

    def _judge(self, difference: Difference, stored: pa.Table, window: Span, bars: pa.Table) -> None:
        """Return where the new values are to be taken; raise where not."""
        if self._options.accept_revision:
            return
        if difference.ratio is not None:
            raise _Rescaled(f"{difference.ratio:.6g}")
        since = self._unsettled_since(stored)
        settled = [moment for moment in difference.times if moment < since]
        if settled:
            text = (
                f"{len(settled)} stored bars of {self._series.short} are different in a new answer, the first at "
                f"{settled[0]}; they had settled, so they were kept and the answer is in quarantine; to take the new "
                "values, run this again with --accept-revision"
            )
            self._put_aside(window, bars, text)
            raise Conflict(self._errors.pop())

    def _unsettled_since(self, stored: pa.Table) -> datetime:
        days = sorted({_midnight(moment) for moment in stored["time"].to_pylist()})
        last = datetime.fromisoformat(self._store.manifest_or_empty(self._series).segments[-1].last)
        return days[-UNSETTLED:][0] if days[-1] == _midnight(last) else datetime.max.replace(tzinfo=UTC)

    def _put_aside(self, window: Span, bars: pa.Table, why: str) -> None:
        self._store.quarantine(self._series, window, bars, why)
        self._quarantined += 1
        self._exit_code = self._exit_code or DataError.exit_code
        self._errors.append(why)

    def _read_anew(self) -> None:
        """Read the whole series into a store beside, and swap it in when it is complete; until then the old holds."""
        assert self._wanted is not None  # _start has run
        parts = union([*self._store.manifest_or_empty(self._series).coverage, self._wanted])
        whole, beside = Span(parts[0].start, parts[-1].end), self._store.staging()
        anew = Filling(beside, self._source, self._series, whole, self._now, self._options, self._tell, self._stop)
        anew.fill()
        done = anew.report()
        self._requests, self._planned = self._requests + done.requests, self._planned + done.lower_bound
        self._errors.extend(done.errors)
        if not done.errors:
            before = _stored(self._store, self._series, whole)
            self._revisions.extend(compare(before, beside.read(self._series)).times)
            self._store.replace(self._series, beside, why="prices were rescaled, as by a split", at=self._now)
            beside.drop(self._series)

    # --- what is missing, and the seams

    def _windows(self) -> list[Span]:
        return [
            window
            for gap in self._gaps()
            if self._source.windows(self._series, gap)  # a weekend is no reason to re-read its seams
            for window in self._source.windows(self._series, self._with_seams(gap))
        ]

    def _gaps(self) -> list[Span]:
        assert self._wanted is not None  # _start has run
        manifest = self._store.manifest_or_empty(self._series)
        gaps = self._wanted.minus(manifest.coverage)
        if self._options.recheck:
            gaps = union([*gaps, *_empty(manifest.answers, self._wanted)])
        if gaps and self._series.rewritten:
            # History that changes at each dividend cannot be appended to: it is replaced whole.
            parts = union([self._wanted, *manifest.coverage])
            return [Span(parts[0].start, parts[-1].end)]
        return gaps

    def _with_seams(self, gap: Span) -> Span:
        """Return the gap and the sessions beside it that have been stored for long, to be read again with it."""
        if self._series.rewritten:
            return gap
        start, end, long_ago = gap.start, gap.end, self._now - _FRESH
        for answer in self._store.manifest_or_empty(self._series).answers:
            if not answer.bars or answer.at > long_ago:
                continue
            if answer.span.end == gap.start:
                days = self._days(Span(max(answer.span.start, answer.span.end - 20 * _DAY), answer.span.end))
                start = max(answer.span.start, days[-SEAM:][0]) if days else start
            if answer.span.start == gap.end:
                days = self._days(Span(answer.span.start, min(answer.span.end, answer.span.start + 20 * _DAY)))
                end = min(answer.span.end, days[:SEAM][-1] + _DAY) if days else end
        return Span(start, end)

    def _days(self, span: Span) -> list[datetime]:
        return sorted({_midnight(moment) for moment in _stored(self._store, self._series, span)["time"].to_pylist()})

    def _open_gaps(self) -> Iterator[Span]:
        assert self._wanted is not None  # _start has run
        for gap in self._wanted.minus(self._store.manifest_or_empty(self._series).coverage):
            yield from self._source.windows(self._series, gap)
        yield from self._holes()

    def _holes(self) -> list[Span]:
        """Return the sessions without a bar, between the first bar and the last, that nobody said to be empty."""
        assert self._wanted is not None  # _start has run
        if self._series.rewritten:
            return []  # it is replaced whole, or not at all
        known = _empty(self._store.manifest_or_empty(self._series).answers, self._wanted)
        missing = missing_sessions(self._series, _stored(self._store, self._series, self._wanted), self._wanted)
        return [part for hole in missing for part in hole.minus(known)]


def _stored(store: Store, series: Series, span: Span) -> pa.Table:
    if not store.manifest_or_empty(series).rows:
        return schema().empty_table()
    try:
        return store.read(series, span)
    except NoBars:
        return schema().empty_table()


def _empty(answers: Iterable[Answer], wanted: Span) -> list[Span]:
    return [common for answer in answers if not answer.bars and (common := wanted.common(answer.span))]


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
