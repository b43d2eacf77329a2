"""The checks of incoming bars: valid or not, different from stored ones or not, sessions missing or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from backtest.errors import BadBars
from backtest.market.bars import COLUMNS, check_bars, check_unset, extra_of, unset_prices, with_extra
from backtest.market.calendars import (
    after_the_close,
    exact,
    fallback,
    known_dates,
    rough,
    sessions,
    utc_offset,
    week_of,
    whole_bars,
)
from backtest.market.extra import united
from backtest.market.hours import WEEKEND_SESSIONS, Hours, Session, StatedHours
from backtest.market.series import Series
from backtest.market.span import Span, union

if TYPE_CHECKING:
    import pyarrow as pa

_FIVE_MINUTES, _HALF_HOUR, _DAY, _WEEK = 300, 1800, 86_400, 604_800  # seconds
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # `fromtimestamp` fails on Windows for what is earlier
_NIGHT = 14_400  # between sessions; breaks are shorter
_MINUTES = 1440  # a day
_SELDOM, _FEW_RUNS = 0.08, 4  # gaps per session that are usual, and gaps that are no pattern yet
_WHOLE, _FULL = 0.95, 0.01  # of a session: as much is there beside a cut; as little is missing of the others
_QUARTER, _TIMES_USUAL, _ENOUGH = 0.25, 5, 5  # a quarter of sessions have shorter stretches; sessions to know that
_CUTS = 3  # of a session, at most: one with more stretches without a trade is a quiet one
_MOSTLY = 0.75  # of a session: what lasts as long is a whole one
_HALF = 0.5  # of sessions that lack the same
_LONG = 3  # bars: as many without a trade are rare where the rest of a session is full
_MICRO = 1_000_000  # microseconds per second
_NO_HOURS = Hours("", "")  # weeks and months are of dates, whatever the exchange
_NINETEEN_SEVENTY, _MIDNIGHT = date(1970, 1, 1), time()
_THURSDAY = 3  # the weekday of 1970-01-01
_USUAL = date(1990, 1, 1), date(2035, 12, 31)  # most bars are in these years: no other sessions are computed
_LONGEST = date(1900, 1, 1), date(2100, 1, 1)
TOLERANCE = 0.005  # of a price: a vendor may correct it this far at any time
_CENT = 0.01
_DECIMALS = range(9)  # of prices as vendors write them
_FACTOR = 1e-5  # of a price: that of a split has six digits or more
_MOST = 0.75
_BIT = 1 + 1e-9  # a sum of decimals is not exact
_NEAR = 0.2  # of the ratio of two units is that of all volumes together
_UNITS = (100.0, 0.01, 10.0, 0.1, 1000.0, 0.001)  # lots of 100 to shares and back, as IB's settings have it; and others
RATES = ("HISTORICAL_VOLATILITY", "OPTION_IMPLIED_VOLATILITY", "FEE_RATE")  # no prices
# The price of something owned is above zero, and that of an option without a bid exactly zero. Any price may
# be below zero for futures (crude oil did on 2020-04-20, calendar spreads do), indices (of breadth) and CFDs on them.
_POSITIVE = ("STK", "CASH", "CRYPTO", "BOND", "FUND", "WAR", "CMDTY")
_NOT_NEGATIVE = ("OPT", "FOP")
# Their sessions begin at odd minutes: forex at 17:15, gold at 08:20; and end late: options on SPX, and VIX, at 16:15.
_OTHER_HOURS = ("CASH", "CMDTY", "FUT", "CONTFUT", "OPT", "FOP", "IND", "CFD")
_NEW_YORK = "XNYS"
_NO_SATURDAY = ("CASH", "CMDTY")  # closed from Friday, 17:00 in New York, to Sunday evening, so all Saturday in UTC
_SATURDAY = 2 * _DAY  # 1970-01-03, the first Saturday since the epoch
# From when on it is Saturday in the westernmost zone with an exchange, and how long until Monday in the easternmost:
# without a zone only this is known to be a weekend.
_WEEKEND, _WEEKEND_LASTS = _SATURDAY + 10 * 3600, 25 * 3600


@dataclass(frozen=True, slots=True)
class BarChange:
    """
    How a new answer differs from the stored bars in the same span.

    `times` are the stored bars that differ or are missing from it, `gone` the missing ones, and `moved` those whose
    prices differ by more than TOLERANCE. `ratio` is the common ratio of new to old prices, if there is one, as after a
    split, and `unit` that of volumes, if prices have none.
    """

    times: tuple[datetime, ...] = ()
    ratio: float | None = None
    unit: float | None = None
    moved: tuple[datetime, ...] = ()
    gone: tuple[datetime, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.times)


def check_answer(bars: pa.Table, series: Series, hours: Hours) -> None:
    """
    Raise BadBars for an invalid answer: prices in range, rules of a bar, grid, positive, open exchange.

    Sessions are checked for regular hours of listed markets; hours of forex and futures are only approximately known.
    Where no calendar is known, the days of the week are checked.
    """
    check_unset(bars, series)
    check_bars(bars, series)
    grid = _grid(series, hours) * _MICRO
    off_grid = _in_parts(bars, lambda part: _microseconds(part) % grid != 0)
    if off_grid.any():
        raise BadBars(f"bars of {series.short} are not on the grid of {series.size.label}: {_named(bars, off_grid)}")
    if second := twins(bars, series):
        named = ", ".join(f"{moment:%Y-%m-%d}" for moment in second[:3])
        raise BadBars(
            f"{len(second)} bars of {series.short} share their {series.size.period} with the bar before, such as "
            f"{named}: each covers only a part of it; download those dates again to get whole bars"
        )
    too_low = _too_low(bars, series)
    if too_low.any():
        what = "not positive" if series.instrument.kind in _POSITIVE else "negative"
        raise BadBars(f"prices of {series.short} are {what}: {_named(bars, too_low)}")
    ghosts = outside(bars, series, hours)
    if ghosts.any():
        days = [bars["time"][int(row)].as_py().date() for row in np.flatnonzero(ghosts)[[0, -1]]]
        rule = fallback(hours, *days)
        raise BadBars(
            f"bars of {series.short} lie outside of the exchange's sessions{f' ({rule})' if rule else ''}: "
            f"{_named(bars, ghosts)}"
        )


def outside(bars: pa.Table, series: Series, hours: Hours) -> np.ndarray:
    """Return which bars are outside all sessions: by the stated hours, otherwise by the calendar, as far as known."""
    return _in_parts(bars, lambda part: _outside(part, series, hours))


def _outside(bars: pa.Table, series: Series, hours: Hours) -> np.ndarray:
    found = _outside_the_calendar(bars, series, replace(hours, stated=()) if hours.stated else hours)
    for stated in hours.stated:
        if stated.regular_hours == series.regular_hours and stated.sessions and series.size.seconds <= _DAY:
            covered, within = _by_statement(seconds(bars), series, hours, stated)
            found[covered] = ~within[covered]
    return found


def shifted(bars: pa.Table, series: Series, hours: Hours) -> np.ndarray:
    """
    Return which bars belong to sessions that are too early or too late as a whole, as by the clock of another zone.

    Those are full sessions whose first or last bars are outside the hours; also the first or last session of an answer
    beside such a session, since the answer may contain only a part of it.
    """
    ghosts = outside(bars, series, hours)
    if series.size.daily or not ghosts.any():
        return np.zeros(len(bars), bool)
    stamps = seconds(bars)
    opens, closes = session_edges(series, hours, series.regular_hours, stamps)
    overnight = opens[1:] - closes[:-1] > _NIGHT  # a schedule may have a morning and an afternoon as two sessions
    opens, closes = opens[np.append(True, overnight)], closes[np.append(overnight, True)]
    edges = [0, *np.flatnonzero(np.diff(stamps) > _NIGHT) + 1, len(stamps)]
    lasted = np.array([stamps[end - 1] - stamps[start] for start, end in pairwise(edges)])
    places = np.minimum(np.searchsorted(closes, stamps[edges[:-1]], side="right"), len(closes) - 1)
    session = closes[places] - opens[places]
    odd = np.array([ghosts[start] or ghosts[end - 1] for start, end in pairwise(edges)])
    odd &= (lasted < session) & (lasted + series.size.seconds >= _MOSTLY * session)
    odd[0] |= odd[1:2].any()
    odd[-1] |= odd[-2:-1].any()
    return np.repeat(odd, np.diff(edges))


def doubted(bars: pa.Table, series: Series, hours: Hours) -> np.ndarray:
    """
    Return which bars to check against the vendor's schedule.

    Those are bars outside the hours; and if a calendar has only approximate hours, bars at a time of day at which the
    instrument never trades by the hours stated for other days, as in the daily break of a future.
    """
    found = outside(bars, series, hours)
    stated = [one for one in hours.stated if one.regular_hours == series.regular_hours and one.sessions]
    if exact(hours) or series.size.daily or not stated or not len(bars):
        return found
    return np.asarray(found | ~_at_a_stated_time(seconds(bars), series, hours, stated[-1]))


def periods(bars: pa.Table, series: Series) -> list[Span]:
    """Return the week or month of each bar, from its Monday or its first day to the next."""
    every = ((moment, moment + timedelta(microseconds=1)) for moment in bars["time"].to_pylist())
    return [whole_bars(series, _NO_HOURS, Span(*pair)) for pair in every]


def twins(bars: pa.Table, series: Series) -> list[datetime]:
    """Return the bars that share a week or month with another bar: each covers a part of it."""
    if series.size.seconds <= _DAY or not len(bars):
        return []
    every = periods(bars, series)
    times = bars["time"].to_pylist()
    return [moment for moment, (period, after) in zip(times[1:], pairwise(every), strict=True) if period == after]


def compare_bars(stored: pa.Table, fresh: pa.Table) -> BarChange:
    """
    Return how an answer differs from stored bars; what only the answer has does not count.

    That applies to bars, and to numbers in an extra column in which the stored bar has none. A different number there
    counts like a different price.

    A ratio has to fit most of the bars that differ, and these have to be all bars compared, or all before or from some
    moment: a vendor rescales the bars before a split, and a split between two answers leaves two scales. Prices may
    deviate from it by their last decimal, since they are rounded, and single bars by more, since they may have been
    corrected as well.
    """
    import pyarrow.compute as pc

    if not len(stored):
        return BarChange()
    extra = united([extra_of(stored), extra_of(fresh)])
    stored, fresh = with_extra(stored, extra), with_extra(fresh, extra)
    again = fresh.filter(pc.is_in(fresh["time"], value_set=stored["time"].combine_chunks()))
    if again.equals(stored):
        return BarChange()
    common = stored.filter(pc.is_in(stored["time"], value_set=again["time"].combine_chunks()))
    old, new = (np.column_stack([bar_values(table, name) for name in COLUMNS[1:]]) for table in (common, again))
    other = np.zeros(len(common), bool)
    for name in extra:
        had, has = (bar_values(table, name) for table in (common, again))
        other |= (had != has) & ~np.isnan(had)
    same = ((old == new) | (np.isnan(old) & np.isnan(new))).all(axis=1) & ~other
    known = ~unset_prices(common)  # what 0.1.0 accepted as a price has no ratio; any other is better
    lost = stored.filter(pc.invert(pc.is_in(stored["time"], value_set=again["time"].combine_chunks())))
    ratio = _ratio(old[known, :4], new[known, :4])
    return BarChange(
        tuple(sorted([*_times(common, ~same), *_times(lost)])),
        ratio,
        _unit(old[:, 4], new[:, 4]) if ratio is None else None,
        tuple(_times(common.filter(known), _moved(old[known, :4], new[known, :4]) | other[known])),
        tuple(_times(lost.filter(~unset_prices(lost)))),
    )


def missing_sessions(series: Series, hours: Hours, bars: pa.Table, span: Span) -> list[Span]:
    """Return the sessions in the span without a bar, or weeks or months with a session; neighbours are joined."""
    starts, ends, counts = _counted(series, hours, bars, span)
    empty = np.flatnonzero(counts == 0)
    runs = np.split(empty, np.flatnonzero(np.diff(empty) > 1) + 1) if len(empty) else []
    return [Span(_moment(starts[run[0]]), _moment(ends[run[-1]])) for run in runs]


def seldom_trades(series: Series, hours: Hours, bars: pa.Table, span: Span) -> bool:
    """Return whether sessions without a bar are common between the first and the last bar in the span."""
    if not len(bars) or series.size.seconds > _DAY:
        return False
    stamps = seconds(bars)
    within = Span(max(span.start, _moment(stamps[0] - _DAY)), min(span.end, _moment(stamps[-1] + _DAY)))
    _, _, counts = _counted(series, hours, bars, within)
    runs = np.count_nonzero(np.diff(np.concatenate([[False], counts == 0]).astype(np.int8)) == 1)
    return bool(runs > max(_FEW_RUNS, _SELDOM * len(counts)))


def missing_stretches(series: Series, hours: Hours, bars: pa.Table, span: Span) -> list[Span]:
    """
    Return the missing parts of sessions in the span that have some of their bars, in order.

    A minute without a trade has no bar. So a part counts as missing only if the rest of its session is complete, except
    for two more parts, and if it is several times longer than usual gaps in other sessions; one or two bars count only
    if few sessions lack any. For a series of all hours, only regular hours are checked. The result is empty without a
    known calendar, and for daily and longer bars.
    """
    if series.size.daily:
        return []
    size, stamps, parts = series.size.seconds, seconds(bars), _parts(hours)
    parts = parts[:, (parts[0] >= span.start.timestamp()) & (parts[1] <= span.end.timestamp())]
    rows, stops = np.searchsorted(stamps, parts[0]), np.searchsorted(stamps, parts[1])
    if series.regular_hours:
        some = np.isin(parts[3], parts[3][stops > rows])  # of the others the whole session is missing
        parts, rows, stops = parts[:, some], rows[some], stops[some]
    if not (stops > rows).any():
        return []
    starts, ends, offsets, _ = parts
    found = [
        _between(starts[part], ends[part], stamps[rows[part] : stops[part]], size, offsets[part])
        for part in range(len(starts))
    ]
    lengths = [after - before for before, after in found]
    longest = np.array([length.max(initial=0) for length in lengths], float)
    lost = np.array([length.sum() for length in lengths], float)
    share = lost / (ends - starts)
    few, rare = len(longest) <= 2, np.count_nonzero(longest) <= max(1, _QUARTER * len(longest))
    usual = 0.0 if few else float(np.quantile(longest, _QUARTER))
    least = max(_FIVE_MINUTES, size) if few or size < _FIVE_MINUTES else 1  # the first bar of a session may be shorter
    least = max(least, 0 if rare else _LONG * size)
    thinned = (share > 1 - _WHOLE) & (np.median(share) <= _FULL) & (len(share) >= _ENOUGH)
    others = 1 - float(np.median(share[stops > rows]))
    habits = _habits(found, starts, ends, least)
    missing = []
    for part in np.flatnonzero(thinned | (longest >= least)):
        before, after = found[part]
        session = float(ends[part] - starts[part])
        gone = _gone(lengths[part], session, max(_TIMES_USUAL * usual, least), _WHOLE)
        if thinned[part]:
            gone = np.ones(len(before), bool)
        elif stops[part] == rows[part]:
            gone &= others >= _WHOLE
        elif not gone.any() and others >= _HALF:  # in sessions of a few bars, three stretches are almost all
            odd = [pair not in habits for pair in zip(before - starts[part], after - ends[part], strict=True)]
            gone = _gone(lengths[part], session, least, 1 - _FULL) & np.array(odd)
        missing += [Span(_moment(start), _moment(end)) for start, end in zip(before[gone], after[gone], strict=True)]
    return missing


def _gone(lengths: np.ndarray, session: float, enough: float, whole: float) -> np.ndarray:
    """Return which gaps of a session count as missing: the long ones, if without the three longest it is complete."""
    long = lengths >= enough
    cuts = float(np.sort(lengths[long])[-_CUTS:].sum())
    return long if lengths.sum() - cuts <= (1 - whole) * (session - cuts) else np.zeros(len(lengths), bool)


def _habits(
    found: Sequence[tuple[np.ndarray, np.ndarray]], starts: np.ndarray, ends: np.ndarray, least: float
) -> set[tuple[int, int]]:
    """Return the gaps that many sessions have, as when trading begins later, by distance from both session ends."""
    counts = Counter(
        (int(start) - int(starts[part]), int(end) - int(ends[part]))
        for part, (before, after) in enumerate(found)
        for start, end in zip(before, after, strict=True)
        if end - start >= least
    )
    return {pair for pair, count in counts.items() if count >= max(_ENOUGH, _HALF * len(found))}


def trades_in(series: Series, hours: Hours, span: Span) -> bool:
    """Return whether a session of regular hours overlaps the span, by the calendar; False without a calendar."""
    starts, ends = session_edges(series, hours)
    since, until = span.start.timestamp(), span.end.timestamp()
    return bool(np.searchsorted(starts, until) > np.searchsorted(ends, since, side="right"))


def in_session(series: Series, spans: Iterable[Span], schedule: Iterable[Session]) -> list[Span]:
    """Return the spans in which a schedule has a session."""
    open_spans = [part for session in schedule for part in _open_spans(series, session)]
    return [span for span in spans if any(span.common(one) for one in open_spans)]


def _open_spans(series: Series, session: Session) -> list[Span]:
    if series.size.daily:
        return [Span.of_dates(session.day, session.day)]
    return Span(session.open, session.close).minus(session.breaks)


def session_edges(
    series: Series, hours: Hours, regular_hours: bool = True, stamps: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """
    Return the starts and ends of a series' sessions, in seconds since 1970; for daily bars those of the dates.

    Args:
        stamps: ascending seconds that the sessions have to surround; by default the sessions from 1990 to 2035.
    """
    first, last = (_epoch(day) for day in _USUAL)
    usual = stamps is None or not len(stamps) or (first + _WEEK <= stamps[0] and stamps[-1] <= last - _WEEK)
    return _edges(hours, regular_hours, series.size.daily, *(_USUAL if usual else _LONGEST))


def clock_edges(hours: Hours, regular_hours: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Return when sessions open and close, in seconds since 1970, in the order of `session_edges`."""
    return _edges(hours, regular_hours, False, *_USUAL)


def _in_parts(bars: pa.Table, flags: Callable[[pa.Table], np.ndarray]) -> np.ndarray:
    """Return what a function says of each bar, which does not depend on the others; of many bars a part at a time."""
    if len(bars) <= _AT_A_TIME:
        return flags(bars)
    return np.concatenate([flags(bars.slice(first, _AT_A_TIME)) for first in range(0, len(bars), _AT_A_TIME)])


def seconds(bars: pa.Table) -> np.ndarray:
    """Return the timestamps of bars in whole seconds since 1970."""
    return _microseconds(bars) // _MICRO


def bar_values(bars: pa.Table, name: str) -> np.ndarray:
    """Return a column as float64, NaN for null."""
    return np.asarray(bars[name].to_numpy(), float)


def _counted(series: Series, hours: Hours, bars: pa.Table, span: Span) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return start, end and number of bars of each session, week or month in the span."""
    stamps = seconds(bars)
    starts, ends = session_edges(series, hours, series.regular_hours, stamps)
    if series.size.seconds > _DAY:
        starts, ends = _period_edges(series, starts)
    inside = (starts >= span.start.timestamp()) & (ends <= span.end.timestamp())
    starts, ends = starts[inside], ends[inside]
    return starts, ends, np.searchsorted(stamps, ends) - np.searchsorted(stamps, starts)


def _period_edges(series: Series, days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts and ends of the weeks or months that contain the days, without duplicates."""
    dates = days.astype("datetime64[s]").astype("datetime64[D]")
    if series.size.period == "week":
        days_in = (dates.astype(np.int64) + _THURSDAY) % 7
        firsts = np.unique(dates - days_in.astype("timedelta64[D]"))
        edges = firsts, firsts + np.timedelta64(7, "D")
    else:
        months = np.unique(dates.astype("datetime64[M]"))
        edges = months.astype("datetime64[D]"), (months + np.timedelta64(1, "M")).astype("datetime64[D]")
    starts, ends = (edge.astype("datetime64[s]").astype(np.int64) for edge in edges)
    return starts, ends


def _between(start: int, end: int, stamps: np.ndarray, size: int, offset: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts and ends of gaps within a session, of one bar or more each."""
    clock = size - offset  # bars end on the clock of the exchange, and the last with the session
    before = np.concatenate([[start], (stamps + offset) // size * size + clock])  # the first may start within its grid
    after = np.concatenate([stamps, [end]])
    missing = (after > before) & (np.minimum((before + offset) // size * size + clock, end) <= after)
    return before[missing], after[missing]


@lru_cache
def _parts(hours: Hours) -> np.ndarray:
    """
    Return the parts of regular sessions, which breaks divide, one per column.

    The rows are the start, the end, the offset of the exchange's clock, all in seconds, and the session.
    """
    if not (exact(hours) or rough(hours)):
        return np.zeros((4, 0), np.int64)  # a rule of weekdays knows no session to the minute
    parts = [
        (part.start.timestamp(), part.end.timestamp(), utc_offset(hours, part.start), number)
        for number, session in enumerate(sessions(hours, *_USUAL))
        for part in Span(session.open, session.close).minus(session.breaks)
    ]
    return np.array(parts, np.int64).T


@lru_cache
def _edges(hours: Hours, regular_hours: bool, daily: bool, since: date, until: date) -> tuple[np.ndarray, np.ndarray]:
    """Return the seconds at which the bars of each session start and end; of a daily bar those of its date."""
    found = sessions(hours, since, until, regular_hours)
    if daily:
        days = np.array([session.day for session in found], "datetime64[s]").astype(np.int64)
        return days, days + _DAY
    opens, closes = (np.array([getattr(one, name).timestamp() for one in found]) for name in ("open", "close"))
    return opens.astype(np.int64), closes.astype(np.int64)


def _times(bars: pa.Table, rows: np.ndarray | None = None) -> list[datetime]:
    times: list[datetime] = (bars["time"] if rows is None else bars["time"].filter(rows)).to_pylist()
    return times


def _moved(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return which bars have a price that differs by more than the tolerance and by more than its last decimal."""
    allowed = np.maximum(np.abs(old) * TOLERANCE, min(_step(old), _CENT))
    return np.asarray((np.abs(new - old) > allowed * _BIT).any(axis=1))


def _ratio(old: np.ndarray, new: np.ndarray) -> float | None:
    """Return the common ratio of new to old prices, both with a row per bar; None if there is none, or it is 1."""
    positive = (old > 0).all(axis=1) & (new > 0).all(axis=1)
    old, new = old[positive], new[positive]
    other = ~_fits(old, new, 1.0)
    if not other.any():
        return None
    ratio = float(np.median(new[other] / old[other]))
    alone = bool(old[0].max() > old[0].min())  # four numbers that are not the same have no ratio by chance
    return ratio if _is_scale(_fits(old, new, ratio), other, alone) else None


def _fits(old: np.ndarray, new: np.ndarray, ratio: float) -> np.ndarray:
    """Return which bars fit a ratio of new to old prices, within the rounding of prices and ratio."""
    allowed = _step(new) + _step(old) * ratio + np.abs(new) * _FACTOR
    return np.asarray((np.abs(new - old * ratio) <= allowed * _BIT).all(axis=1))


def _unit(old: np.ndarray, new: np.ndarray) -> float | None:
    """Return the ratio of new to old volumes, if it is that of two units of volume."""
    known = ~np.isnan(old) & ~np.isnan(new)
    old, new = old[known], new[known]
    for unit in _UNITS:
        fits = np.abs(new - old * unit) <= max(1.0, unit) * _BIT  # the larger unit was rounded, or cut
        changed = fits & (old != new)
        ratio = new[changed].sum() / old[changed].sum() if old[changed].sum() > 0 else np.nan
        if abs(ratio / unit - 1) < _NEAR and _is_scale(fits, np.asarray(old != new)):
            return unit
    return None


def _is_scale(fits: np.ndarray, other: np.ndarray, alone: bool = False) -> bool:
    """
    Return whether bars have another scale.

    Args:
        fits: which bars fit a ratio.
        other: which bars differ at all.
        alone: whether the oldest bar suffices, since a vendor may rescale the bars before a split days later.
    """
    rescaled = np.flatnonzero(fits & other)
    enough = len(rescaled) >= min(2, len(fits)) or (alone and rescaled.tolist() == [0])
    if 2 * len(rescaled) <= np.count_nonzero(other) or not enough:
        return False
    explained = fits | other
    return bool(explained[: rescaled[-1] + 1].all() or explained[rescaled[0] :].all())


def _step(prices: np.ndarray) -> float:
    """
    Return the value of the last decimal of most prices; single corrected ones may have more decimals.

    For large prices it is up to a thousandth of them, since yen have no cents; for others up to a cent.
    """
    if not prices.size:
        return _CENT
    steps = (10.0**-decimals for decimals in _DECIMALS)
    whole = (step for step in steps if (np.abs(prices / step - np.round(prices / step)) < 1e-4).mean() > _MOST)
    return min(next(whole, 10.0 ** -_DECIMALS[-1]), max(_CENT, float(np.median(np.abs(prices))) / 1000))


def _outside_the_calendar(bars: pa.Table, series: Series, hours: Hours) -> np.ndarray:
    """Return which bars start outside all sessions, as far as the exchange's sessions are known."""
    stamps = seconds(bars)
    if series.instrument.kind in _NO_SATURDAY and series.size.seconds <= _DAY:
        return (stamps - _SATURDAY) % _WEEK < _DAY
    checked = series.size.period == "session" if series.size.daily else series.regular_hours
    if not checked or not len(stamps):
        return np.zeros(len(stamps), bool)
    known = _known(stamps, hours)
    outside = np.zeros(len(stamps), bool)
    outside[~known] = _out_of_week(stamps[~known], series, hours)
    if known.any():
        starts, ends = session_edges(series, hours, stamps=stamps)
        late = after_the_close(series, hours).total_seconds()
        row = np.searchsorted(starts, stamps, side="right") - 1
        outside |= known & ((row < 0) | (stamps >= ends[np.maximum(row, 0)] + late))
    if outside.any() and hours.calendar in WEEKEND_SESSIONS:
        days, last = WEEKEND_SESSIONS[hours.calendar]
        outside &= ~(np.isin(_weekdays(stamps, series, hours), days) & (stamps < _epoch(last) + _DAY))
    return np.asarray(outside)


def _known(stamps: np.ndarray, hours: Hours) -> np.ndarray:
    """Return which timestamps are on dates whose sessions are known to the minute."""
    dates = known_dates(hours)
    if dates is None:
        return np.zeros(len(stamps), bool)
    first, last = (_epoch(day) for day in dates)
    return np.asarray((stamps >= first) & (stamps < last + _DAY))


def _out_of_week(stamps: np.ndarray, series: Series, hours: Hours) -> np.ndarray:
    """Return which bars start on days of the week without a session, by the rule for dates without a calendar."""
    week = week_of(hours)
    other = not series.size.daily and (
        week is None or week.begins > _MIDNIGHT or series.instrument.kind in _OTHER_HOURS
    )
    if week is None or other or rough(hours):
        return np.zeros(len(stamps), bool)
    if not series.size.daily and not hours.zone:
        return np.asarray((stamps - _WEEKEND) % _WEEK < _WEEKEND_LASTS)
    weekdays, outside = _weekdays(stamps, series, hours), np.zeros(len(stamps), bool)
    for since, days in week.days:
        outside = np.where(stamps >= _epoch(since), ~np.isin(weekdays, days), outside)
    return outside


def _weekdays(stamps: np.ndarray, series: Series, hours: Hours) -> np.ndarray:
    """Return the weekday on which each bar starts, 0 for Monday; for daily bars that of their date."""
    if series.size.daily or not hours.zone:
        return np.asarray((stamps // _DAY + 3) % 7)  # 1970-01-01 was a Thursday
    import pandas as pd

    return np.asarray(pd.to_datetime(stamps, unit="s", utc=True).tz_convert(hours.zone).day_of_week)


def _epoch(day: date) -> int:
    """Return the seconds from 1970 to the midnight of a date."""
    return (day - _NINETEEN_SEVENTY).days * _DAY


def _by_statement(
    stamps: np.ndarray, series: Series, hours: Hours, stated: StatedHours
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each bar whether the stated hours cover its time, and whether it is in a stated session."""
    if series.size.daily:
        days = np.array([one.day for one in stated.sessions], "datetime64[D]").astype(np.int64) * _DAY
        edges = np.array([stated.since, stated.until], "datetime64[D]").astype(np.int64) * _DAY
        return (stamps >= edges[0]) & (stamps <= edges[1]), np.isin(stamps, days)
    starts, ends = _stated_edges(stated)
    overnight = np.append(starts[1:] - ends[:-1] > _NIGHT, True)
    ends = ends + np.where(overnight, after_the_close(series, hours).total_seconds(), 0)
    row = np.searchsorted(starts, stamps + series.size.seconds, side="left") - 1  # a bar may begin before its session
    return (stamps >= starts[0]) & (stamps < ends[-1]), (row >= 0) & (stamps < ends[np.maximum(row, 0)])


def _stated_edges(stated: StatedHours) -> tuple[np.ndarray, np.ndarray]:
    """Return the seconds since 1970 at which trading begins and ends, without breaks."""
    spans = [part for one in stated.sessions for part in Span(one.open, one.close).minus(one.breaks)]
    starts, ends = (np.array([getattr(span, name).timestamp() for span in union(spans)]) for name in ("start", "end"))
    return starts, ends


def _at_a_stated_time(stamps: np.ndarray, series: Series, hours: Hours, stated: StatedHours) -> np.ndarray:
    """Return which bars contain a time of day, on the exchange's clock, at which any stated day has trading."""
    starts, ends = _stated_edges(stated)
    trades = np.zeros(2 * _MINUTES, bool)
    for start, end in zip(_local(starts, hours), _local(starts, hours) + (ends - starts), strict=True):
        first = int(start % _DAY) // 60
        minutes = np.arange(first, first + min(int(end - start) // 60, _MINUTES)) % _MINUTES
        trades[minutes] = trades[minutes + _MINUTES] = True
    before = np.concatenate([[0], np.cumsum(trades)])
    minute = (_local(stamps, hours) % _DAY).astype(np.int64) // 60
    return np.asarray(before[minute + max(series.size.seconds // 60, 1)] > before[minute])


def _local(stamps: np.ndarray, hours: Hours) -> np.ndarray:
    """Return moments on the exchange's clock, in seconds; its offset changes only at full hours."""
    full, row = np.unique(stamps // 3600, return_inverse=True)
    return np.asarray(stamps + np.array([utc_offset(hours, _moment(int(hour) * 3600)) for hour in full])[row])


def _grid(series: Series, hours: Hours) -> int:
    """Return the seconds at whose multiples bars start: an hourly bar may start with its session, at 09:30."""
    if series.size.daily:
        return _DAY
    other = series.instrument.kind in _OTHER_HOURS or hours.calendar != _NEW_YORK  # Mumbai opens at 03:45 UTC
    return min(series.size.seconds, _FIVE_MINUTES if other else _HALF_HOUR)


def _too_low(bars: pa.Table, series: Series) -> np.ndarray:
    low, kind = bar_values(bars, "low"), series.instrument.kind
    if kind in _POSITIVE and series.prices not in RATES:
        return low <= 0
    return low < 0 if kind in _NOT_NEGATIVE and series.prices not in RATES else np.zeros(len(low), bool)


def _microseconds(bars: pa.Table) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    return np.asarray(pc.cast(bars["time"], pa.int64()).to_numpy())


def _moment(seconds: int) -> datetime:
    return _EPOCH + timedelta(seconds=int(seconds))


def _named(bars: pa.Table, wrong: np.ndarray) -> str:
    rows = np.flatnonzero(wrong)
    shown = ", ".join(f"{bars['time'][int(row)].as_py():%Y-%m-%d %H:%M:%S}Z" for row in rows[:3])
    return shown + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")


# --- one bar at a time


@dataclass(frozen=True, slots=True)
class ImpossibleBar:
    """An invalid bar: its row, the reason with the values, and whether its timestamp is the problem."""

    row: int
    text: str
    outside: bool = False


def impossible_bars(bars: pa.Table, series: Series, hours: Hours) -> list[ImpossibleBar]:
    """
    Return the bars for which `check_answer` would refuse the answer, in order, each with its first reason.

    Times are ascending, without duplicates.
    """
    if len(bars) <= _AT_A_TIME or series.size.seconds > _DAY:  # a week is compared with the one before
        return _impossible(bars, series, hours)
    return [
        replace(one, row=one.row + first)
        for first in range(0, len(bars), _AT_A_TIME)
        for one in _impossible(bars.slice(first, _AT_A_TIME), series, hours)
    ]


_AT_A_TIME = 1_000_000  # bars, each of which takes 58 bytes in the arrays


def _impossible(bars: pa.Table, series: Series, hours: Hours) -> list[ImpossibleBar]:
    prices = {name: bar_values(bars, name) for name in COLUMNS[1:5]}
    known = np.nan_to_num(np.stack(list(prices.values())), nan=0.0, posinf=np.inf, neginf=-np.inf)
    _, high, low, _ = known
    missing = np.isnan(np.stack(list(prices.values()))).any(axis=0)
    positive = series.instrument.kind in _POSITIVE
    cents = _too_low(bars, series) & ~missing
    again = np.isin(seconds(bars), [int(moment.timestamp()) for moment in twins(bars, series)])
    endless = np.zeros(len(bars), bool)
    for name in ("volume", "average", *extra_of(bars)):
        endless |= np.isinf(bar_values(bars, name))
    volume, off_grid = bar_values(bars, "volume"), _microseconds(bars) % (_grid(series, hours) * _MICRO) != 0
    reasons: list[tuple[np.ndarray, Callable[[int], str]]] = [
        (missing, lambda row: f"has no {_first_missing(prices, row)}"),
        (unset_prices(bars) | np.isinf(known).any(axis=0), lambda row: f"prices {_four(known, row)} are implausible"),
        (cents, lambda row: f"prices {_four(known, row)} are {'not positive' if positive else 'negative'}"),
        (high < known.max(axis=0), lambda row: f"high {high[row]:g} is below {_beyond(known, row, 1)}"),
        (low > known.min(axis=0), lambda row: f"low {low[row]:g} is above {_beyond(known, row, 2)}"),
        (np.nan_to_num(volume) < 0, lambda row: f"volume {volume[row]:g} is negative"),
        (endless, lambda row: "has a number that is not finite"),
        (again, lambda row: f"its {series.size.period} has an earlier bar: each covers only a part of it"),
        (off_grid, lambda row: f"its time is off the grid of {series.size.label}"),
    ]
    found: dict[int, ImpossibleBar] = {}
    for mask, words in reasons:
        for row in np.flatnonzero(mask):
            found.setdefault(int(row), ImpossibleBar(int(row), words(int(row))))
    for row in np.flatnonzero(outside(bars, series, hours)):
        found.setdefault(
            int(row), ImpossibleBar(int(row), _closed(bars["time"][int(row)].as_py(), series, hours), outside=True)
        )
    return [found[row] for row in sorted(found)]


def _first_missing(prices: dict[str, np.ndarray], row: int) -> str:
    return next(name for name, values in prices.items() if np.isnan(values[row]))


def _four(known: np.ndarray, row: int) -> str:
    return ", ".join(f"{value:g}" for value in known[:, row])


def _beyond(known: np.ndarray, row: int, own: int) -> str:
    """Return the prices of a bar that its high (1) lies below or its low (2) above, with their names."""
    values = known[:, row]
    other = [n for n in range(4) if n != own and (values[n] > values[own] if own == 1 else values[n] < values[own])]
    return " and ".join(f"{COLUMNS[n + 1]} {values[n]:g}" for n in other)


def _closed(moment: datetime, series: Series, hours: Hours) -> str:
    rule = fallback(hours, moment.date(), moment.date())
    by = f" ({rule})" if rule else f" ({hours.calendar})" if hours.calendar else ""
    if series.size.daily:
        day = f"{moment:%Y-%m-%d}, a {moment:%A},"
        return f"lies outside of the exchange's sessions{by}: {day} has no session"
    local = moment + timedelta(seconds=utc_offset(hours, moment)) if hours.zone else moment
    where = f"in {hours.zone}" if hours.zone else "UTC"
    return f"lies outside of the exchange's sessions{by}: {local:%Y-%m-%d %H:%M} {where}, a {local:%A}"
