"""`Periods`: how many periods a year has, by bar size and calendar; annual figures use them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from backtest.errors import UsageError
from backtest.market.calendars import fallback, sessions
from backtest.market.hours import ALWAYS, FOREX, Hours, Session
from backtest.market.series import Series

# Calendar -> its mean sessions per year from 2005 to 2024, rounded: tests/market/test_periods.py counts them
# again in exchange_calendars. Those of hours.WEEKS are missing: their holidays are not known.
SESSIONS_A_YEAR = {
    FOREX: 260, ALWAYS: 365, "CMES": 258, "IEPA": 258, "XAMS": 256, "XASX": 253, "XBOM": 246, "XBRU": 256, "XBUD": 250,
    "XCSE": 250, "XDUB": 254, "XETR": 254, "XEUR": 255, "XFRA": 254, "XHEL": 251, "XHKG": 246, "XJSE": 250, "XKRX": 247,
    "XLIS": 256, "XLON": 253, "XMAD": 255, "XMEX": 252, "XMIL": 254, "XNYS": 252, "XOSL": 251, "XPAR": 256, "XPRA": 251,
    "XSES": 251, "XSHG": 243, "XSTO": 251, "XSTU": 255, "XSWX": 251, "XTAI": 245, "XTKS": 245, "XTSE": 251, "XWAR": 250,
    "XWBO": 250,
}  # fmt: skip
_OF_BARS = {"week": (52.0, "weeks"), "month": (12.0, "months")}
_UNITS = ("sessions", "weeks", "months")
_NEW_YORK = 252.0  # where no count is known
_TYPICAL = (date(2024, 3, 4), date(2024, 3, 15))  # two weeks in which few exchanges have a holiday


@dataclass(frozen=True, slots=True)
class Periods:
    """
    The number of periods per year, their name, and the series they come from, if that is not obvious.

    Written "252 sessions", "52 weeks", or "365 sessions of BTC-CRYPTO-PAXOS-USD/1day".
    """

    count: float
    unit: str = "sessions"
    whose: str = ""

    @classmethod
    def parse(cls, text: str) -> Periods:
        """
        Return the periods from the text that `str` gives.

        Raises:
            UsageError: the text has another form.
        """
        numbers, _, whose = text.partition(" of ")
        count, _, unit = numbers.partition(" ")
        try:
            found = cls(float(count), unit, whose)
        except ValueError:
            found = cls(math.nan)
        if not 0 < found.count < math.inf or unit not in _UNITS:
            raise UsageError(
                f"{text!r} is not a number of periods per year; write, for example, 252 sessions, 52 weeks or 12 months"
            )
        return found

    @property
    def words(self) -> str:
        """The periods by which a figure is annualised, in words."""
        return f"{self.count:g} {self.unit} per year{self.whose and f' of {self.whose}'}"

    def __str__(self) -> str:
        return f"{self.count:g} {self.unit}{self.whose and f' of {self.whose}'}"


def periods_of(series: Sequence[Series], hours: Sequence[Hours]) -> Periods:
    """
    Return the periods per year of a run on some series: those of the one that `clock_of` names.

    Args:
        hours: the hours of each series.
    """
    place = clock_of(series, hours)
    count, unit = _own(series[place], hours[place])
    if unit == "sessions" and hours[place].calendar not in SESSIONS_A_YEAR:
        return Periods(count, unit, f"New York, because those of {series[place].instrument.exchange} are unknown")
    return Periods(count, unit, series[place].short if several_clocks(series, hours) else "")


def clock_of(series: Sequence[Series], hours: Sequence[Hours]) -> int:
    """
    Return the position of the series whose sessions measure a run: the one with the most periods per year.

    Ties are broken by the name of the calendar, then by longer sessions, shorter bars, and the series' own name, so
    that the order of the series does not matter.
    """
    return min(range(len(series)), key=lambda n: (*_rank(series[n], hours[n]), *_detail(series[n])))


def of_that_clock(series: Sequence[Series], hours: Sequence[Hours]) -> list[int]:
    """Return the positions of the series with the same sessions as the one that `clock_of` names, itself too."""
    place = clock_of(series, hours)
    return [n for n in range(len(series)) if _rank(series[n], hours[n]) == _rank(series[place], hours[place])]


def several_clocks(series: Sequence[Series], hours: Sequence[Hours]) -> bool:
    """Return whether series differ in their calendars, or mix bars of a session with longer ones."""
    return len({_rank(one, its) for one, its in zip(series, hours, strict=True)}) > 1


def bars_a_year(series: Series, hours: Hours) -> float:
    """
    Return the bars per year of a series: its sessions, weeks or months, or the bars within its sessions.

    Raises:
        UsageError: bars are shorter than a session, and the length of sessions is unknown.
    """
    count, _ = _own(series, hours)
    if series.size.daily:
        return count
    if rule := fallback(hours, *_TYPICAL):  # whole days
        raise UsageError(
            f"no calendar is known for the hours of {series.instrument} ({rule}), nor how many bars of "
            f"{series.size.label} it has per year; run on daily bars, or choose another size of orders"
        )
    found = sorted(_bars_in(one, series.size.seconds) for one in sessions(hours, *_TYPICAL, series.regular_hours))
    return count * found[len(found) // 2]


def _own(series: Series, hours: Hours) -> tuple[float, str]:
    return _OF_BARS.get(series.size.period, (float(SESSIONS_A_YEAR.get(hours.calendar, _NEW_YORK)), "sessions"))


def _rank(series: Series, hours: Hours) -> tuple[float, str]:
    return -_own(series, hours)[0], hours.calendar


def _detail(series: Series) -> tuple[bool, int, str]:
    return series.regular_hours, series.size.seconds, series.key


def _bars_in(session: Session, seconds: int) -> int:
    """Return how many bars by the clock a session has, without its breaks."""
    starts = [session.open, *(pause.end for pause in session.breaks)]
    ends = [*(pause.start for pause in session.breaks), session.close]
    return len(
        {
            number
            for start, end in zip(starts, ends, strict=True)
            for number in range(int(start.timestamp() // seconds), math.ceil(end.timestamp() / seconds))
        }
    )
