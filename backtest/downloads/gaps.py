"""
What a download has to request: spans without an answer, the seams beside them, and sessions without a bar.

An answer without bars is accepted at once if there is a reason to (`is_believed`). If the exchange was open, the answer
counts only when the source repeats it on another day; the span is requested again a day, a week and a month after the
first such answer.

Pure functions of plain data: they take spans and answers, and return spans.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from backtest.market.calendars import bar_start, rough
from backtest.market.checks import clock_edges, missing_sessions, missing_stretches, periods, session_edges, trades_in
from backtest.market.span import Span, union

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.market.hours import Hours
    from backtest.market.series import ContractDetails, Instrument, Series
    from backtest.store.manifest import Answer

YEAR = timedelta(days=364)  # one request of a schedule
_SEAM = 5  # sessions re-read at a seam
_FRESH = timedelta(hours=6)  # an answer this recent is doubted only for a reason: its seam causes no extra request
_LATE = timedelta(days=4)  # a long weekend: the vendor may be this late
_DATE = len("YYYYMMDD")
_DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)  # the unit of stored times
AGAIN = (timedelta(days=1), timedelta(days=7), timedelta(days=30))  # after "none" was first said
_EARLY = timedelta(hours=4)  # a nightly run may start this much earlier than the previous one
_ENDED = 5  # sessions without a bar after the last one, before an instrument is taken to have ended
_HOLIDAYS = 1  # consecutive sessions of forex and futures without a trade, as at Christmas
_HOLIDAY_WEEKS = 10  # consecutive sessions of other exchanges, as at the lunar new year
BEFORE_HEAD = "the first bar is of"
NO_SESSION = "no session in the source's schedule"
NOT_KNOWN = "whether there was a session is not known"
SELDOM = "it does not trade in each session"
A_FILE = "a file has what it has"
GONE = "the contract is not known any more"
_REASONS = (BEFORE_HEAD, NO_SESSION, NOT_KNOWN, SELDOM, A_FILE)  # reasons to believe that there are no bars
_LOOKED_AT = timedelta(days=20)  # stored days beside a gap to look at: they include five sessions, holidays or not


def to_ask(
    series: Series, wanted: Span, answers: Sequence[Answer], again: Sequence[Span] = (), ended: Sequence[Span] = ()
) -> list[Span]:
    """
    Return the spans to request: those never answered, and those to request again.

    A history that changes with each dividend cannot be extended: it is requested as a whole, with everything stored.

    Args:
        ended: the span after the end of the instrument.
    """
    spans = unanswered(wanted, answers)
    if again:
        spans = union([*spans, *again])
    spans = [part for span in spans for part in span.minus(ended)]
    return [whole_span(wanted, answers)] if spans and series.rewritten else spans


def due(series: Series, hours: Hours, wanted: Span, answers: Sequence[Answer], now: datetime) -> list[Span]:
    """Return the spans without bars in an open exchange that are due for another request."""
    return [
        common
        for answer in _doubtful(series, hours, wanted, answers)
        if _is_due(answer.first_said, answer.at, now) and (common := wanted.common(answer.span))
    ]


def unconfirmed(series: Series, hours: Hours, wanted: Span, answers: Sequence[Answer]) -> list[Span]:
    """Return the spans without bars in an open exchange that the source reported on one day only."""
    return [
        common
        for answer in _doubtful(series, hours, wanted, answers)
        if not _on_another_day(answer.first_said, answer.at) and (common := wanted.common(answer.span))
    ]


def is_believed(answer: Answer) -> bool:
    """Return whether there is a reason to accept an answer without bars at once."""
    return any(reason in answer.text for reason in _REASONS)


@dataclass(frozen=True, slots=True)
class End:
    """The end of an instrument: the time after its last bar, and whether to request that once more."""

    after: Span
    due: bool


def end_of_instrument(
    series: Series, hours: Hours, last: datetime, wanted: Span, answers: Sequence[Answer], now: datetime
) -> End | None:
    """
    Return the end of an instrument, if sessions without a bar after its last one are confirmed on another day.

    Five such sessions are enough, or fewer if the source no longer knows the contract. None if it has not ended.
    """
    tail = [answer for answer in answers if not answer.bars and answer.span.start > last and not is_believed(answer)]
    if not tail or wanted.end <= tail[0].span.start:
        return None
    first, until = tail[0].span.start, tail[-1].span.end
    since, at = min(answer.first_said for answer in tail), max(answer.at for answer in tail)
    known = [answer.span for answer in answers]
    whole = not any(trades_in(series, hours, part) for part in Span(last, until).minus(known))
    enough = any(GONE in answer.text for answer in tail) or _sessions(series, hours, Span(first, until)) >= _ENDED
    if not (whole and enough and _on_another_day(since, at)):
        return None
    return End(Span(first, max(until, wanted.end)), _is_due(since, at, now))


def _doubtful(series: Series, hours: Hours, wanted: Span, answers: Sequence[Answer]) -> list[Answer]:
    empties = [answer for answer in answers if not answer.bars and not is_believed(answer)]
    return [one for one in empties if (common := wanted.common(one.span)) and trades_in(series, hours, common)]


def _is_due(since: datetime, at: datetime, now: datetime) -> bool:
    return any(at < since + pause - _EARLY <= now for pause in AGAIN)


def _on_another_day(since: datetime, at: datetime) -> bool:
    return at >= since + AGAIN[0] - _EARLY


def _sessions(series: Series, hours: Hours, span: Span) -> int:
    starts, _ = session_edges(series, hours)
    return int(np.count_nonzero((starts >= span.start.timestamp()) & (starts < span.end.timestamp())))


def unanswered(wanted: Span, answers: Sequence[Answer]) -> list[Span]:
    """Return the parts of a span without an answer."""
    return wanted.minus(answer.span for answer in answers)


def empty(wanted: Span, answers: Sequence[Answer]) -> list[Span]:
    """Return the parts of a span that were reported to have no bars."""
    return [common for answer in answers if not answer.bars and (common := wanted.common(answer.span))]


def whole_span(wanted: Span, answers: Sequence[Answer]) -> Span:
    """Return the shortest span that covers everything requested and answered."""
    parts = union([wanted, *(answer.span for answer in answers)])
    return Span(parts[0].start, parts[-1].end)


def holes(series: Series, hours: Hours, wanted: Span, answers: Sequence[Answer], bars: pa.Table) -> list[Span]:
    """
    Return the sessions without a bar, and the gaps within sessions, that were not reported empty.

    Before the first bar and after the last, only answered sessions count: the others still have to be requested.
    """
    stamps = bars["time"]
    inside = [Span(stamps[0].as_py(), stamps[-1].as_py() + MICROSECOND)] if len(bars) else []
    open_ = [part for gap in unanswered(wanted, answers) for part in gap.minus(inside)]
    return lacking(series, hours, wanted, bars, [*empty(wanted, answers), *open_])


def lacking(series: Series, hours: Hours, span: Span, bars: pa.Table, known: Sequence[Span]) -> list[Span]:
    """Return the sessions of a span without a bar, and the gaps within sessions, except those known to be empty."""
    missing = [*missing_sessions(series, hours, bars, span), *missing_stretches(series, hours, bars, span)]
    return [part for hole in sorted(missing) for part in hole.minus(known) if trades_in(series, hours, part)]


def asked_at_once(series: Series, hours: Hours, spans: Iterable[Span]) -> list[Span]:
    """Return the spans to request, joined if they are parts of one session or have none between them."""
    starts, _ = session_edges(series, hours, series.regular_hours)
    found: list[Span] = []
    for span in sorted(spans):
        before = found[-1] if found else None
        if before and before.end < span.start and trades_in(series, hours, Span(before.end, span.start)):
            moments = [(before.end - MICROSECOND).timestamp(), span.start.timestamp()]
            places = np.searchsorted(starts, moments, side="right")
            before = before if places[0] == places[1] else None
        if before:
            found[-1] = Span(before.start, max(before.end, span.end))
        else:
            found.append(span)
    return found


def has_calendar(hours: Hours) -> bool:
    """Return whether the sessions are known, be it by a rule of weekdays or from the vendor."""
    return bool(hours.calendar or hours.stated)


def may_be_holidays(series: Series, hours: Hours, span: Span) -> bool:
    """Return whether missing bars may be a few days without a session that no calendar lists."""
    starts, ends = session_edges(series, hours, series.regular_hours)
    whole = int(np.count_nonzero((starts >= span.start.timestamp()) & (ends <= span.end.timestamp())))
    return 0 < whole <= (_HOLIDAYS if rough(hours) else _HOLIDAY_WEEKS)


def first_session(series: Series, hours: Hours, head: datetime) -> datetime:
    """
    Return the start of the first session in which an instrument may have a bar, by its head timestamp.

    If it began to trade during that session, return the time at which the first bar may start.
    """
    starts, _ = session_edges(series, hours, series.regular_hours)
    _, closes = clock_edges(hours, series.regular_hours)
    place = int(np.searchsorted(closes, head.timestamp(), side="right"))
    opening = datetime.fromtimestamp(int(starts[place]), UTC) if place < len(starts) else head
    return opening if series.size.daily else max(opening, bar_start(series, hours, head))


def last_trade_date(instrument: Instrument, contract: ContractDetails | None) -> date | None:
    """Return the last trade date of a contract; None if it does not expire, or the date is unknown."""
    text = (
        instrument.expiry if len(instrument.expiry) == _DATE else contract.last_trade_date[:_DATE] if contract else ""
    )
    if instrument.rolls or not instrument.expiry or not re.fullmatch(r"[0-9]{8}", text):
        return None
    return datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC).date()


def day_after(day: date) -> datetime:
    """Return the midnight, in UTC, after a day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + _DAY


def after_session(series: Series, hours: Hours, moment: datetime) -> datetime:
    """Return the end of the session in which a bar starts, or of its day without a calendar."""
    starts, ends = session_edges(series, hours, series.regular_hours)
    place = int(np.searchsorted(starts, moment.timestamp(), side="right")) - 1
    end = datetime.fromtimestamp(int(ends[place]), UTC) if place >= 0 else moment
    return end if end > moment else _midnight(moment) + _DAY


def cut_bars(series: Series, stored: pa.Table, answer: pa.Table, covered: Sequence[Span]) -> list[datetime]:
    """
    Return the timestamps of stored weeks or months that may be parts of bars that an answer has whole.

    Their timestamp differs from the one in the answer, or another bar is in the same week, or they were not requested
    as a whole.
    """
    whole = dict(zip(periods(answer, series), answer["time"].to_pylist(), strict=True))
    found = list(zip(periods(stored, series), stored["time"].to_pylist(), strict=True))
    alone = Counter(period for period, _ in found)
    return [
        moment
        for period, moment in found
        if period in whole and (moment != whole[period] or alone[period] > 1 or period.minus(covered))
    ]


def newest_year(spans: Sequence[Span]) -> tuple[list[Span], list[Span]]:
    """Split spans, newest first, a year before the end of the newest; return the later and the earlier ones."""
    since = spans[0].end - YEAR
    return [span for span in spans if span.start >= since], [span for span in spans if span.start < since]


def fresh(answer: Answer, now: datetime) -> bool:
    """Return whether an answer is too recent to be doubted."""
    return answer.at > now - _FRESH


def beside(gap: Span, answers: Sequence[Answer], now: datetime) -> list[Span]:
    """Return the spans of bars next to a gap that have been stored for long."""
    old = [answer.span for answer in answers if answer.bars and not fresh(answer, now)]
    return [span for span in old if span.end == gap.start or span.start == gap.end]


def beside_young(gap: Span, answers: Sequence[Answer], now: datetime) -> list[Span]:
    """Return the spans of bars next to a gap that were stored recently, as before an interruption."""
    young = [answer.span for answer in answers if answer.bars and fresh(answer, now)]
    return [span for span in young if span.end == gap.start or span.start == gap.end]


def is_fresh(moment: datetime, answers: Sequence[Answer], now: datetime) -> bool:
    """Return whether the bar at a moment came with an answer that is too recent to be doubted."""
    return any(moment in answer.span and fresh(answer, now) for answer in answers)


def nearest_window(stored: Span, gap: Span) -> Span:
    """Return the part of a span next to a gap that has the sessions of the seam."""
    if stored.end == gap.start:
        return Span(max(stored.start, stored.end - _LOOKED_AT), stored.end)
    return Span(stored.start, min(stored.end, stored.start + _LOOKED_AT))


def spans_after(moment: datetime, last: datetime) -> list[Span]:
    """Return where to look for the first bar after a moment, in steps towards the last bar there is."""
    after = moment + MICROSECOND
    return [Span(after, end) for end in (after + _LATE, after + _LOOKED_AT, last + MICROSECOND) if last > moment]


def spans_before(moment: datetime, first: datetime) -> list[Span]:
    """Return where to look for the last bar before a moment, in steps towards the first bar there is."""
    return [Span(start, moment) for start in (moment - _LATE, moment - _LOOKED_AT, first) if first < moment]


def with_seams(gap: Span, stored: Iterable[tuple[Span, Sequence[datetime]]]) -> Span:
    """
    Return a gap with the seams beside it, to be read again with it.

    Args:
        stored: the stored spans beside the gap, each with its nearest sessions, as midnights in order.
    """
    start, end = gap.start, gap.end
    for span, sessions in stored:
        if sessions and span.end == gap.start:
            start = max(span.start, sessions[-_SEAM:][0])
        elif sessions:
            end = min(span.end, sessions[:_SEAM][-1] + _DAY)
    return Span(start, end)


def days_of_bars(bars: pa.Table) -> list[datetime]:
    """Return the days on which bars start, each as its midnight, UTC, in order."""
    return sorted({_midnight(moment) for moment in bars["time"].to_pylist()})


def days_between(first: datetime, last: datetime) -> Span:
    """Return the days on which bars start, from the first to the last, both included."""
    return Span(_midnight(first), _midnight(last) + _DAY)


def late(series: Series, hours: Hours, window: Span, last: datetime, now: datetime) -> Span | None:
    """
    Return the end of a window in which the vendor may only be late: the last days, from the day after the last bar.

    None if the bars reach the end of the window, if it ended long ago, or if only an evening is left, in which there
    may be no trades.
    """
    end = _midnight(last) + _DAY
    if end >= window.end or window.end <= now - _LATE:
        return None
    left = Span(end, window.end)
    return left if trades_in(series, hours, left) or not has_calendar(hours) else None


def believed_empty(window: Span, last: datetime | None, now: datetime) -> Span | None:
    """
    Return the part of an empty window in which the vendor cannot be merely late; None for the last days.

    Before the last stored bar the vendor is not late.
    """
    if last is not None and window.end <= last:
        return window
    until = now - _LATE
    return Span(window.start, min(window.end, until)) if window.start < until else None


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
