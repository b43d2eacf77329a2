"""
What becomes of an answer that differs from what is stored: other values, another scale, another contract.

Pure functions of plain data. A vendor corrects the bars of the last sessions; older ones have settled.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backtest.market.checks import BarChange
    from backtest.market.series import ContractDetails, Instrument, Series

_UNSETTLED = 3  # the last sessions, which the vendor may still correct: there the new value wins
RESCALED = "prices were rescaled, as by a split"
_CORRECTED = "the vendor has corrected bars"
_REPLACED = "replaced whole"
_DAY = timedelta(days=1)


class Resolution(Enum):
    """What to do with an answer that differs from the stored bars which it repeats."""

    TAKE = "store its values in place of the old ones"
    KEEP = "keep the stored bars, and put the answer aside"
    READ_AGAIN = "read the whole series again: its prices have another scale"


def decide(difference: BarChange, settled: Sequence[datetime], accept: bool) -> Resolution:
    """
    Return what to do with an answer that differs.

    Args:
        settled: which of the bars that differ had settled.
        accept: whether the user takes the vendor's new values, whatever they are.
    """
    if accept:
        return Resolution.TAKE
    if difference.ratio is not None:
        return Resolution.READ_AGAIN
    return Resolution.KEEP if settled else Resolution.TAKE


def settled(times: Sequence[datetime], days: Sequence[datetime], last: datetime) -> list[datetime]:
    """
    Return which of the bars at these times the vendor should change no more: those before the last sessions.

    Args:
        days: those on which the compared bars start, as midnights, in order.
        last: when the last bar of the whole series starts; if that is on a later day, all have settled.
    """
    if days[-1] + _DAY <= last:
        return list(times)
    return [moment for moment in times if moment < days[-_UNSETTLED:][0]]


def conflict_text(series: Series, settled: Sequence[datetime]) -> str:
    """Return the words for bars that had settled and are different in a new answer."""
    return (
        f"{len(settled)} stored bars of {series.short} are different in a new answer, the first at {settled[0]}; they "
        "had settled, so they were kept and the answer is in quarantine; to take the new values, run this again with "
        "--accept-revision"
    )


def why_revised(series: Series, difference: BarChange) -> str:
    """Return the words for the revision that storing an answer makes; "" where it differs in nothing."""
    if not difference:
        return ""
    return _REPLACED if series.rewritten else _CORRECTED


def other_contract(instrument: Instrument, stored: ContractDetails, found: ContractDetails) -> str:
    """Return the words for a name that means another contract than the one whose bars are stored; "" where not."""
    if found.con_id in (0, stored.con_id):
        return ""
    return f"{instrument} was contract {stored.con_id} ({stored.name}) and is now {found.con_id} ({found.name})"
