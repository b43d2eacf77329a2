"""
Findings about stored bars: what is missing, and what looks wrong but may be correct.

Bars that are certainly invalid are never stored (`market/checks.py`); here the rest is listed, and nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np

from backtest.errors import BadBars
from backtest.market import arrays
from backtest.market.calendars import exact, fallback, known_dates
from backtest.market.checks import (
    RATES,
    bar_values,
    check_answer,
    missing_sessions,
    outside,
    seconds,
    session_edges,
)
from backtest.market.hours import Hours
from backtest.market.series import Series
from backtest.market.session_days import session_days
from backtest.market.span import Span, union

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.store.manifest import Answer

Level = Literal["damage", "reject", "conflict", "hole", "warn", "note"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # `fromtimestamp` fails on Windows for what is earlier
_DAY, _MICRO = 86_400, 1_000_000  # seconds; and microseconds a second
_AT_A_TIME = 1_000_000  # bars whose sessions are looked up at once: of 50,000,000 an array is 400 MB
_ASKED = (
    "ib"  # a source with a schedule of its own, which a download asks about bars outside of the calendar's sessions
)
_SPIKE, _SPIKES = 0.08, 40  # a step inside a session: at least, and times the usual step
_TICKS = 5  # smaller steps do not count, however large in percent of a small price
_FROZEN, _FROZEN_DAYS = 30, 5  # equal bars in a row
_THIN = 0.1  # of bars that repeat the one before: then an instrument seldom trades, and no feed is frozen
_THREEFOLD = 3.0  # overnight; real news moved AAPL to 0.53 of its price on 2000-09-29, and wrong units by ten
_NEAR = (0.005, 0.03)  # how near a ratio is to that of a split: four usual nights, within these bounds
_NIGHTS = 4
_LONG_AGO = 7 * _DAY  # bars farther apart are not compared
# 5:4 and 4:3 are left out: so far prices move by themselves (META fell to 0.756 on 2022-02-03).
_SPLITS = {"3:2": 3 / 2, "5:2": 5 / 2, **{f"{n}:1": float(n) for n in (*range(2, 11), 12, 15, 20, 25, 30, 40, 50, 100)}}
_SPLIT_KINDS = ("STK", "FUND", "CFD")
_LEAPING = ("OPT", "FOP", "WAR")  # prices that can correctly double in a minute


@dataclass(frozen=True, slots=True)
class Finding:
    """
    What a check found, where, and what it is called in messages.

    Levels: damage (a file differs from what was written), reject (bars that would be refused today), conflict (a
    quarantined answer that still disagrees), hole (a session without a bar that is not confirmed empty), warn (may be
    correct), note (nothing to do).
    """

    check: str
    level: Level
    text: str
    at: datetime | None = None  # the first bar or session
    count: int = 1  # bars, sessions or files
    path: str = ""


def inspect_bars(
    bars: pa.Table, series: Series, hours: Hours, answers: Sequence[Answer] | None = None
) -> list[Finding]:
    """
    Return what is missing from the bars of a series, and what looks wrong in them, in the order of the checks.

    Args:
        answers: the answered requests; without them every session counts as requested, and none as confirmed empty.
    """
    if not len(bars):
        return []
    return [
        *_refused(bars, series, hours, answers or ()),
        *_rule(bars, series, hours),
        *_missing_sessions(bars, series, hours, answers),
        *_missing_at_the_ends(bars, series, hours, answers or ()),
        *_missing_minutes(bars, series, hours),
        *_nights(bars, series, hours),
        *_spikes(bars, series, hours),
        *_frozen(bars, series),
    ]


def likely_splits(bars: pa.Table, series: Series, hours: Hours) -> list[Finding]:
    """Return what `inspect_bars` finds of splits for which the prices are not adjusted, without its other checks."""
    if not len(bars) or series.instrument.kind not in _SPLIT_KINDS:
        return []
    return [one for one in _nights(bars, series, hours) if one.check == "split"]


def session_bars(bars: pa.Table, series: Series, hours: Hours) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Return start, end (seconds since 1970) and number of bars of each session from the first bar's to the last bar's.

    Empty for weeks and months.
    """
    stamps = seconds(bars)
    starts, ends = session_edges(series, hours, series.regular_hours, stamps)
    if not len(stamps) or not len(starts) or series.size.seconds > _DAY:
        nothing = np.array([], np.int64)
        return nothing, nothing, nothing
    chosen = slice(np.searchsorted(ends, stamps[0], side="right"), np.searchsorted(starts, stamps[-1], side="right"))
    starts, ends = starts[chosen], ends[chosen]
    return starts, ends, np.searchsorted(stamps, ends) - np.searchsorted(stamps, starts)


def expected_bars(series: Series, hours: Hours, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the minimum number of bars of each complete session; 1 if it is unknown."""
    if series.size.daily or not series.regular_hours:
        return np.ones(len(starts), np.int64)
    # Hours may begin at the half or at the full one.
    return np.where(_known(starts, hours), np.maximum((ends - starts) // series.size.seconds, 1), 1)


def session_dates(starts: np.ndarray, series: Series, hours: Hours) -> np.ndarray:
    """Return the dates of sessions, datetime64[D], given the seconds since 1970 at which they start."""
    return session_days(starts.astype("datetime64[s]").astype("datetime64[us]"), series, hours)


def sessions_inside(spans: Iterable[Span], starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return which of the sessions are entirely within the spans."""
    joined = union(spans)
    if not joined:
        return np.zeros(len(starts), bool)
    firsts, lasts = (np.array([getattr(one, name).timestamp() for one in joined]) for name in ("start", "end"))
    row = np.searchsorted(firsts, starts, side="right") - 1
    return np.asarray((row >= 0) & (lasts[np.maximum(row, 0)] >= ends))


# --- missing


def _refused(bars: pa.Table, series: Series, hours: Hours, answers: Sequence[Answer]) -> Iterator[Finding]:
    odd = outside(bars, series, hours)
    if odd.any() and any(answer.source == _ASKED for answer in answers):
        at, count = _moment(seconds(bars)[odd][0]), int(np.count_nonzero(odd))
        text = (
            f"{count:,} bars lie outside of the calendar's sessions, the first at {at:%Y-%m-%d %H:%M}Z; IB's schedule "
            "includes them"
        )
        yield Finding("hours", "warn", text, at, count)
        bars = bars.filter(~odd)
    try:
        check_answer(bars, series, hours)
    except BadBars as error:
        yield Finding("rules", "reject", str(error))


def _known(starts: np.ndarray, hours: Hours) -> np.ndarray:
    """Return which sessions are on dates that the calendar covers."""
    dates = known_dates(hours)
    if dates is None:
        return np.zeros(len(starts), bool)
    days = starts.astype("datetime64[s]").astype("datetime64[D]")
    return np.asarray((days >= np.datetime64(dates[0])) & (days <= np.datetime64(dates[1])))


def _rule(bars: pa.Table, series: Series, hours: Hours) -> Iterator[Finding]:
    """Yield the rule by which sessions are counted without a calendar."""
    first, last = (bars["time"][row].as_py() for row in (0, -1))
    if rule := fallback(hours, first.date(), last.date()):
        yield Finding("calendar", "note", f"sessions are assumed: {rule}", first)


def _missing_sessions(
    bars: pa.Table, series: Series, hours: Hours, answers: Sequence[Answer] | None
) -> Iterator[Finding]:
    starts, ends, counts = session_bars(bars, series, hours)
    empty = counts == 0
    said_empty = sessions_inside([one.span for one in answers or () if not one.bars], starts, ends)
    asked = (
        np.ones(len(starts), bool) if answers is None else sessions_inside([one.span for one in answers], starts, ends)
    )
    # Holidays of forex and futures are not in our calendars, nor are those of other exchanges at all times.
    known = _known(starts, hours)
    levels: tuple[tuple[Level, np.ndarray], ...] = (("hole", known), ("warn", ~known))
    for level, chosen in levels:
        for first, last in _runs(empty & ~said_empty & asked & chosen):
            found = starts[first : last + 1]
            yield _hole(level, found, session_dates(found, series, hours), "not confirmed empty by the source")
    for first, last in _runs(empty & ~said_empty & ~asked):
        found = starts[first : last + 1]
        yield _hole("warn", found, session_dates(found, series, hours), "never requested")


def _missing_at_the_ends(bars: pa.Table, series: Series, hours: Hours, answers: Sequence[Answer]) -> Iterator[Finding]:
    """Yield the sessions or weeks before the first bar and after the last that an answer with bars should have had."""
    known = [one.span for one in answers if not one.bars]
    first, after = _moment(seconds(bars)[0]), _moment(seconds(bars)[-1] + 1)
    between = [Span(first, after)] if series.size.seconds <= _DAY else []  # weeks and months are looked at here alone
    for covered in union(one.span for one in answers if one.bars):
        for part in covered.minus(between):
            for missing in missing_sessions(series, hours, bars, part):
                for hole in missing.minus(known):
                    starts, ends = session_edges(series, hours, series.regular_hours)
                    rows = np.flatnonzero((starts >= hole.start.timestamp()) & (ends <= hole.end.timestamp()))
                    if len(rows):
                        why = "the answer for these dates has other bars"
                        # What is before the first bar may be before a listing: only the source knows.
                        level: Level = (
                            "hole"
                            if exact(hours, hole.start.date(), hole.end.date()) and hole.start >= first
                            else "warn"
                        )
                        yield _hole(level, starts[rows], session_dates(starts[rows], series, hours), why)


def _hole(level: Level, starts: np.ndarray, dates: np.ndarray, why: str) -> Finding:
    days = f"{dates[0]}" + (f" to {dates[-1]}" if len(dates) > 1 else "")
    what = "1 session has" if len(dates) == 1 else f"{len(dates):,} sessions have"
    return Finding("sessions", level, f"{what} no bar, {days}: {why}", _moment(starts[0]), len(dates))


def _missing_minutes(bars: pa.Table, series: Series, hours: Hours) -> Iterator[Finding]:
    starts, ends, counts = session_bars(bars, series, hours)
    expected = expected_bars(series, hours, starts, ends)
    for row in np.flatnonzero((counts > 0) & (counts < expected)):
        missing, (day,) = int(expected[row] - counts[row]), session_dates(starts[row : row + 1], series, hours)
        what = f"{missing:,} of {expected[row]:,} bars missing on {day}"
        yield Finding("minutes", "warn", what, _moment(starts[row]), missing)


# --- prices


def _nights(bars: pa.Table, series: Series, hours: Hours) -> Iterator[Finding]:
    """Yield openings far from the previous close: by the ratio of a split, or by a factor of more than three."""
    if series.instrument.kind in _LEAPING or series.prices in RATES:
        return
    times, opens, closes = arrays.numbers(bars["time"]), bar_values(bars, "open"), bar_values(bars, "close")
    rows = np.flatnonzero(_opens_session(times, series, hours)) + 1
    near = times[rows] // _MICRO - times[rows - 1] // _MICRO <= max(_LONG_AGO, 2 * series.size.seconds)
    rows = rows[near & (opens[rows] > 0) & (closes[rows - 1] > 0)]
    steps = np.log(opens[rows] / closes[rows - 1])
    usual = float(np.median(np.abs(steps))) if len(steps) else 0.0
    near_by = min(max(_NIGHTS * usual, _NEAR[0]), _NEAR[1])
    for row, step in zip(rows, steps, strict=True):
        if abs(step) < np.log(1.4):
            continue
        name = _split(abs(step), near_by) if series.instrument.kind in _SPLIT_KINDS else ""
        if name or abs(step) > np.log(_THREEFOLD):
            yield _night(_moment(times[row] // _MICRO), float(np.exp(step)), name)


def _opens_session(times: np.ndarray, series: Series, hours: Hours) -> np.ndarray:
    """Return for each bar but the first, by their times in microseconds, whether it opens a session; daily bars do."""
    opens = np.ones(len(times) - 1, bool)
    for part in arrays.blocks(0 if series.size.daily else len(opens), _AT_A_TIME):
        days = session_days(times[part.start : part.stop + 1].view("datetime64[us]"), series, hours)
        opens[part] = days[1:] != days[:-1]
    return opens


def _split(step: float, near_by: float) -> str:
    return next((name for name, ratio in _SPLITS.items() if abs(step - np.log(ratio)) < near_by), "")


def _night(at: datetime, ratio: float, split: str) -> Finding:
    moved = f"{at:%Y-%m-%d} opens at {ratio:.4g} times the previous close"
    if not split:
        return Finding("jump", "warn", f"{moved}: wrong units?", at)
    name = split if ratio < 1 else ":".join(reversed(split.split(":")))
    return Finding("split", "warn", f"{moved}, as after a split of {name}", at)


def _spikes(bars: pa.Table, series: Series, hours: Hours) -> Iterator[Finding]:
    """Yield the bars that are far from the previous one within a session; adjacent ones are one finding."""
    if series.size.daily or len(bars) < 2 or series.instrument.kind in _LEAPING or series.prices in RATES:
        return
    times, closes = arrays.numbers(bars["time"]), bar_values(bars, "close")
    before, high, low = closes[:-1], bar_values(bars, "high")[1:], bar_values(bars, "low")[1:]
    moves = np.maximum(np.abs(high - before), np.abs(low - before))
    steps = moves / (before if low.min() > 0 and before[0] > 0 else np.median(np.abs(closes)) or 1.0)
    within = ~_opens_session(times, series, hours)
    limit = max(_SPIKES * float(np.median(steps[within])), _SPIKE) if within.any() else np.inf
    for first, _ in _runs(within & (steps > limit) & (moves > _TICKS * _tick(closes))):
        at = _moment(times[first + 1] // _MICRO)
        yield Finding("spike", "warn", f"a step of {steps[first]:.3g} times the price at {at:%Y-%m-%d %H:%M:%S}Z", at)


def _tick(closes: np.ndarray) -> float:
    moves = np.abs(np.diff(closes))
    moved = moves[moves > 0]
    return float(moved.min()) if len(moved) else 0.0


def _frozen(bars: pa.Table, series: Series) -> Iterator[Finding]:
    """Yield runs of equal bars; those without volume only if the instrument trades continuously."""
    if series.prices in RATES:
        return  # a rate stays the same until somebody changes it
    stamps, volume = seconds(bars), np.nan_to_num(bar_values(bars, "volume"))
    same = np.ones(len(stamps) - 1, bool)
    for name in ("open", "high", "low", "close"):
        values = bar_values(bars, name)
        same &= values[1:] == values[:-1]
    same &= volume[1:] == volume[:-1]
    wanted = _FROZEN_DAYS if series.size.daily else _FROZEN
    found = [(first, last) for first, last in _runs(same) if last - first + 2 >= wanted]
    others = same.sum() - sum(last - first + 1 for first, last in found)
    for first, last in found:
        if volume[first] > 0 or others <= _THIN * len(same):
            at, count = _moment(stamps[first]), int(last - first + 2)
            yield Finding("frozen", "warn", f"{count:,} equal bars from {at:%Y-%m-%d %H:%M}Z", at, count)


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Return the first and last place of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(first), int(after) - 1) for first, after in zip(edges[::2], edges[1::2], strict=True)]


def _moment(stamp: int) -> datetime:
    return _EPOCH + timedelta(seconds=int(stamp))
