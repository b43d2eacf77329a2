"""
What to do with an answer that differs from stored bars: other values, another scale, another contract.

Pure functions of plain data. They first check whether all prices, or all volumes, have another scale. A vendor corrects
the bars of the last sessions; older ones have settled, and their prices should no longer change.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from backtest.market.bars import COLUMNS, PRICES, known_counts
from backtest.market.checks import RATES, TOLERANCE, bar_values, seconds
from backtest.store.manifest import RESCALED

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.market.checks import BarChange
    from backtest.market.series import ContractDetails, Instrument, Series

_UNSETTLED = 3  # the last sessions, which the vendor may still correct: there the new value wins
RECOUNTED = "volumes are counted in another unit, such as shares instead of lots of 100"
_CORRECTED = "the vendor has corrected bars"
CUT = "weeks or months were stored in parts"
_REPLACED = "replaced whole"
_COUNTS = COLUMNS[5:]
_DAY = timedelta(days=1)
SPLIT = ("STK", "FUND", "CFD")  # kinds whose past is rescaled
_JUMP, _LEAST_JUMP, _MOST_JUMP = 0.04, 0.01, 0.2  # of a price, as a logarithm
_TIMES, _FEW = 6, 5  # the median overnight change; about one night in a hundred in real data is above
_RECOUNTED = 30
_SECONDS_A_DAY = 86_400


class Resolution(Enum):
    """What to do with an answer that differs from the stored bars that it repeats."""

    TAKE = "store its values in place of the old ones"
    KEEP = "keep the stored bars whose prices had settled, store the others, and quarantine the answer"
    READ_AGAIN = "read the whole series again: its prices or volumes have another scale"


def decide(difference: BarChange, settled: Sequence[datetime], accept: bool) -> Resolution:
    """
    Return what to do with an answer that differs.

    Args:
        settled: which bars had settled, among those whose prices changed.
        accept: whether the user accepts the vendor's new values; without effect if their scale changed.
    """
    if difference.ratio is not None or difference.unit is not None:
        return Resolution.READ_AGAIN
    return Resolution.KEEP if settled and not accept else Resolution.TAKE


def settled(times: Sequence[datetime], days: Sequence[datetime], last: datetime) -> list[datetime]:
    """
    Return which of the bars at these times have settled: those before the last sessions.

    Args:
        days: the days on which the compared bars start, as midnights, in order.
        last: the start of the last bar of the whole series; if that is on a later day, all have settled.
    """
    if days[-1] + _DAY <= last:
        return list(times)
    return [moment for moment in times if moment < days[-_UNSETTLED:][0]]


def is_doubtful(series: Series, older: pa.Table, newer: pa.Table) -> bool:
    """
    Return whether successive bars may have two scales: whether the price jumps between them as at a split.

    The threshold is six times the usual overnight change in these bars, but at least 1 % and at most 20 %, or 4 % if
    they have few nights. Another sign is a factor of 30 in volume, as from shares to lots.
    """
    if series.instrument.kind not in SPLIT or series.prices in RATES:
        return False
    close, open_ = bar_values(older, "close")[-1], bar_values(newer, "open")[0]
    if min(close, open_) <= 0:
        return False
    nights = np.concatenate([_nights(older), _nights(newer)])
    limit = _JUMP if len(nights) < _FEW else float(np.clip(_TIMES * np.median(nights), _LEAST_JUMP, _MOST_JUMP))
    volumes = [_median_volume(bars) for bars in (older, newer)]
    recounted = min(volumes) > 0 and max(volumes) / min(volumes) > _RECOUNTED
    return bool(abs(np.log(open_ / close)) > limit or recounted)


def _nights(bars: pa.Table) -> np.ndarray:
    """Return how far the price moves from the last close of each day to the next open, in logarithms."""
    days = np.flatnonzero(np.diff(seconds(bars) // _SECONDS_A_DAY))
    opens, closes = bar_values(bars, "open")[days + 1], bar_values(bars, "close")[days]
    positive = (opens > 0) & (closes > 0)
    return np.asarray(np.abs(np.log(opens[positive] / closes[positive])))


def _median_volume(bars: pa.Table) -> float:
    volumes = bar_values(bars, "volume")
    known = volumes[~np.isnan(volumes)]
    return float(np.median(known)) if len(known) else 0.0


def others(answer: pa.Table, stored: pa.Table) -> pa.Table:
    """Return the bars of an answer that are not stored."""
    import pyarrow.compute as pc

    return answer.filter(pc.invert(pc.is_in(answer["time"], value_set=stored["time"].combine_chunks())))


def common(stored: pa.Table, answer: pa.Table) -> pa.Table:
    """Return the stored bars that an answer has, too."""
    import pyarrow.compute as pc

    return stored.filter(pc.is_in(stored["time"], value_set=answer["time"].combine_chunks()))


def without(bars: pa.Table, times: Sequence[datetime]) -> pa.Table:
    """Return the bars except those at some times."""
    return bars.filter([moment not in times for moment in bars["time"].to_pylist()]) if times else bars


def rescaled(bars: pa.Table, ratio: float | None, unit: float | None) -> pa.Table:
    """Return bars on another scale: prices and averages times a ratio, volumes divided by it or times a unit."""
    import pyarrow.compute as pc

    factors = dict.fromkeys((*PRICES, "average"), ratio or 1.0) | {"volume": unit or 1 / (ratio or 1.0)}
    for place, name in enumerate(bars.column_names):
        if name in factors:
            bars = bars.set_column(place, bars.schema.field(name), pc.multiply(bars[name], factors[name]))
    return bars


def with_kept(answer: pa.Table, stored: pa.Table, kept: Sequence[datetime]) -> pa.Table:
    """Return an answer with the stored bars at some times instead of its own."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not kept:
        return answer
    times = pa.array(kept, answer["time"].type)
    rest = answer.filter(pc.invert(pc.is_in(answer["time"], times)))
    old = known_counts(stored.filter(pc.is_in(stored["time"], times)))
    return pa.concat_tables([rest, old]).sort_by("time").combine_chunks()


def with_known(answer: pa.Table, stored: pa.Table) -> pa.Table:
    """Return an answer with the stored volumes, averages and counts instead of placeholders."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = [name for name in _COUNTS if answer[name].null_count]
    if not names or not len(stored):
        return answer
    rows = pc.index_in(answer["time"], stored["time"].combine_chunks())
    known = known_counts(stored)
    for name in names:
        place, old = answer.schema.get_field_index(name), known[name].combine_chunks().take(rows.combine_chunks())
        column = pc.coalesce(answer[name].combine_chunks(), old)
        answer = answer.set_column(place, answer.schema.field(name), pa.chunked_array([column]))
    return answer


def conflict_text(series: Series, settled: Sequence[datetime]) -> str:
    """Return the note on settled bars that have other prices in a new answer."""
    return (
        f"{len(settled)} stored bars of {series.short} are different in a new answer, the first at {settled[0]}; they "
        f"had settled, and prices moved by more than {TOLERANCE:.1%}, so they were kept and the answer is in "
        "quarantine; other bars were stored; to take the new values, run this again with --accept-revision"
    )


def gone_text(series: Series, gone: Sequence[datetime]) -> str:
    """Return the note on stored bars that a new answer lacks."""
    return f"{len(gone)} stored bars of {series.short} are not in a new answer, the first at {gone[0]}; they were kept"


def lost_text(series: Series, difference: BarChange) -> str:
    """Return the note on stored bars that are no longer served when their series is read on another scale."""
    scale = f"prices times {difference.ratio:.6g}" if difference.ratio else ""
    scale = f"volumes times {difference.unit:g}" if difference.unit else scale
    return (
        f"{len(difference.gone)} stored bars of {series.short} are no longer served, the first at "
        f"{difference.gone[0]}; they were kept, {scale or 'unchanged'}"
    )


def scale_text(difference: BarChange) -> str:
    """Return the reason for the revision that reading a series again makes."""
    return RESCALED if difference.ratio is not None else RECOUNTED


def why_revised(series: Series, difference: BarChange, rolled: str = "") -> str:
    """Return the reason for the revision that storing an answer makes; "" if it changes nothing."""
    if not difference:
        return ""
    return "; ".join(filter(None, (_REPLACED, rolled))) if series.rewritten else _CORRECTED


def other_contract(instrument: Instrument, stored: ContractDetails, found: ContractDetails) -> str:
    """Return the error for a name that now means a contract other than the stored one; "" if it does not."""
    if found.con_id in (0, stored.con_id):
        return ""
    return f"{instrument} was contract {stored.con_id} ({stored.name}) and is now {found.con_id} ({found.name})"


def roll_text(instrument: Instrument, stored: ContractDetails, found: ContractDetails) -> str:
    """Return the note on a continuous future whose contract has changed since the last time."""
    old, new = (f"{one.con_id} ({one.local_symbol or one.name})" for one in (stored, found))
    return f"{instrument} rolled from contract {old} to {new}"
