"""
What a download has to ask for: what was never answered, with the seams beside it, and sessions that have no bar.

Pure functions of plain data; spans and answers go in, spans come out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from backtest.market.checks import missing_sessions, periods
from backtest.market.span import Span, union

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.market.hours import Hours
    from backtest.market.series import Series
    from backtest.store.manifest import Answer

YEAR = timedelta(days=364)  # one request of a schedule
_SEAM = 5  # sessions re-read at a seam
_FRESH = timedelta(hours=6)  # an answer this young is doubted for a reason only: its seam costs no request more
_LATE = timedelta(days=4)  # a long weekend: so late may the vendor be
_DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)  # in which times of bars are kept
_LOOKED_AT = timedelta(days=20)  # of what is stored beside a gap: five sessions lie in it, holidays or not


def to_ask(series: Series, wanted: Span, answers: Sequence[Answer], recheck: bool) -> list[Span]:
    """
    Return the spans to ask for: what was not answered yet; by `recheck` also what was said to be empty.

    History that changes at each dividend cannot be appended to: it is asked for whole, with all that is stored.
    """
    spans = unanswered(wanted, answers)
    if recheck:
        spans = union([*spans, *empty(wanted, answers)])
    return [whole_span(wanted, answers)] if spans and series.rewritten else spans


def unanswered(wanted: Span, answers: Sequence[Answer]) -> list[Span]:
    """Return the parts of a span that nobody has answered for."""
    return wanted.minus(answer.span for answer in answers)


def empty(wanted: Span, answers: Sequence[Answer]) -> list[Span]:
    """Return the parts of a span that were said to have no bars."""
    return [common for answer in answers if not answer.bars and (common := wanted.common(answer.span))]


def whole_span(wanted: Span, answers: Sequence[Answer]) -> Span:
    """Return the shortest span that has all that is wanted and all that was answered."""
    parts = union([wanted, *(answer.span for answer in answers)])
    return Span(parts[0].start, parts[-1].end)


def holes(series: Series, hours: Hours, wanted: Span, answers: Sequence[Answer], bars: pa.Table) -> list[Span]:
    """Return the sessions without a bar, between the first bar and the last, that nobody said to be empty."""
    known = empty(wanted, answers)
    return [part for hole in missing_sessions(series, hours, bars, wanted) for part in hole.minus(known)]


def cut_bars(series: Series, stored: pa.Table, answer: pa.Table, covered: Sequence[Span]) -> list[datetime]:
    """
    Return the stamps of stored weeks or months that may be a part of one which an answer has whole.

    They have another stamp than there, or share their week with another bar, or were not asked for as a whole.
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
    """Split spans, the newest first, at a year before the end of the newest; return the younger and the older ones."""
    since = spans[0].end - YEAR
    return [span for span in spans if span.start >= since], [span for span in spans if span.start < since]


def fresh(answer: Answer, now: datetime) -> bool:
    """Return whether an answer is too young to be doubted."""
    return answer.at > now - _FRESH


def beside(gap: Span, answers: Sequence[Answer], now: datetime) -> list[Span]:
    """Return the spans of bars that touch a gap and have been stored for long."""
    old = [answer.span for answer in answers if answer.bars and not fresh(answer, now)]
    return [span for span in old if span.end == gap.start or span.start == gap.end]


def beside_young(gap: Span, answers: Sequence[Answer], now: datetime) -> list[Span]:
    """Return the spans of bars that touch a gap and have been stored lately, as before a download was stopped."""
    young = [answer.span for answer in answers if answer.bars and fresh(answer, now)]
    return [span for span in young if span.end == gap.start or span.start == gap.end]


def is_fresh(moment: datetime, answers: Sequence[Answer], now: datetime) -> bool:
    """Return whether the bar of a moment came with an answer that is too young to be doubted."""
    return any(moment in answer.span and fresh(answer, now) for answer in answers)


def nearest_window(stored: Span, gap: Span) -> Span:
    """Return the part of a span beside a gap in which the sessions of the seam lie."""
    if stored.end == gap.start:
        return Span(max(stored.start, stored.end - _LOOKED_AT), stored.end)
    return Span(stored.start, min(stored.end, stored.start + _LOOKED_AT))


def spans_after(moment: datetime, last: datetime) -> list[Span]:
    """Return where to look for the first bar after a moment: nearer and nearer to the last one there is."""
    after = moment + MICROSECOND
    return [Span(after, end) for end in (after + _LATE, after + _LOOKED_AT, last + MICROSECOND) if last > moment]


def spans_before(moment: datetime, first: datetime) -> list[Span]:
    """Return where to look for the last bar before a moment: nearer and nearer to the first one there is."""
    return [Span(start, moment) for start in (moment - _LATE, moment - _LOOKED_AT, first) if first < moment]


def with_seams(gap: Span, stored: Iterable[tuple[Span, Sequence[datetime]]]) -> Span:
    """
    Return a gap and the seams beside it, to be read again with it.

    Args:
        stored: the spans beside the gap, each with those of its sessions that lie nearest: midnights, in order.
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


def late(window: Span, last: datetime, now: datetime) -> Span | None:
    """
    Return the end of a window that the vendor may only be late with: the last days, from the day after the last bar.

    None where the bars reach the end of the window, or it ended long ago.
    """
    end = _midnight(last) + _DAY
    return Span(end, window.end) if end < window.end and window.end > now - _LATE else None


def believed_empty(window: Span, now: datetime) -> Span | None:
    """Return the part of an empty window that the vendor is not merely late with; None for the last days."""
    until = now - _LATE
    return Span(window.start, min(window.end, until)) if window.start < until else None


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
