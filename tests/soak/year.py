"""
Download sixty series every night for a year, with every fault of vendor and gateway: the store ends correct.

Run:  python tests/soak/year.py [--seed 1] [--years 1] [--nights 300] [--jobs 2] [--kinds split,roll] [--few]

Each night is what a timer would run: one download of all series, without a repair option. A seed decides which night
has which problem, and so which exit code and messages the night must have; see KINDS. At the end each series has the
bars that the vendor has by then, bar for bar. The vendor's bars are made here, from the calendars of exchange_calendars
alone: no code of the package decides which bars there should be.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import re
import socket
import sys
import tempfile
import time as clock
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import exchange_calendars
import numpy as np
import pyarrow as pa
from faulty_downloads import HMDS, NO_DATA, on
from operations import quick_folder

from backtest.downloads.downloader import DownloadReport, download
from backtest.downloads.report import SeriesReport
from backtest.downloads.retry import Persistence
from backtest.emulator.faults import Faults
from backtest.emulator.server import Gateway
from backtest.errors import BacktestError, NoBars, NoData
from backtest.market.bars import schema
from backtest.market.series import ContractDetails, Series, series_of
from backtest.market.span import Span
from backtest.sources.base import Patience, Source
from backtest.sources.connect import connect
from backtest.store.manifest import Manifest, Segment
from backtest.store.store import Store

if TYPE_CHECKING:
    from backtest.store.reader import Reader

Downloader = Callable[[Store, Source, Sequence[str], date], DownloadReport]
Moment = int  # seconds since 1970, UTC

NEW_YORK, CHICAGO = ZoneInfo("America/New_York"), ZoneInfo("America/Chicago")
START, NIGHTS = date(2024, 3, 1), 300  # over both changes of the clocks and four half days, to Christmas
FEW_START, FEW_NIGHTS = date(2024, 11, 21), 10  # over Thanksgiving, with the half day after it
AT = time(5)  # UTC, on the morning after: New York has closed, Globex and forex trade on, Sydney trades
BEFORE = timedelta(days=45)  # the first night asks for
_SHORT_RUN = 60  # nights; in fewer each kind happens once
_ROOM = 8  # nights between two problems of an instrument
ALWAYS = 1_000_000
PATIENT = Patience(answer=60.0, connect=60.0, outage=60.0, backoff=0.01, backoff_most=0.05, belief=0.5)
SHORT = replace(PATIENT, outage=0.4)  # for outages that do not end
DEAF = replace(PATIENT, answer=5.0)  # for what is never answered; what is, comes in that time on a busy machine too
PERSISTENCE = Persistence(tries=4, breaks=5, pause=0.001, pacing_pause=0.001)
_HOUR = 3600
_DAY = timedelta(days=1)


# --- the series


@dataclass(frozen=True)
class Line:
    """A series, what its bars look like, and the calendar of its exchange, by its name in exchange_calendars."""

    spelling: str
    calendar: str
    level: float = 100.0
    tick: float = 0.01
    kind: str = ""  # of problem without which the series is left out

    @property
    def series(self) -> Series:
        return series_of(self.spelling)

    @property
    def symbol(self) -> str:
        return self.series.instrument.symbol

    @property
    def splits(self) -> bool:
        return self.series.instrument.kind == "STK" and self.series.prices == "TRADES"


def _stocks(names: str, size: str, *, calendar: str = "XNYS", more: str = "", **words: Any) -> list[Line]:
    return [
        Line(f"{name}{more}/{size}", calendar, 20.0 + 9 * place, **words) for place, name in enumerate(names.split())
    ]


LINES = (
    *_stocks("AA BB CC DD EE FF GG HH II JJ KK LL MM NN OO PP QQ RR", "1day"),
    *_stocks("BARC VODA", "1day", calendar="XLON", more="-STK-LSE-GBP"),
    *_stocks("BHP", "1day", calendar="XASX", more="-STK-ASX-AUD"),
    *_stocks("DIV", "1day/ADJUSTED_LAST"),
    *_stocks("WA WB WC", "1week"),
    *_stocks("AA", "1week"),
    *_stocks("MO", "1month"),
    *_stocks("HA HB HC HD", "1hour"),
    *_stocks("AA", "1hour"),
    *_stocks("TWO", "2hours"),
    *_stocks("FOUR", "4hours"),
    *_stocks("MA MB MC", "30mins"),
    *_stocks("THIN", "30mins/TRADES/all", kind="thin"),
    *_stocks("MD ME BB", "5mins"),
    *_stocks("MF MG", "1min"),
    *(Line(f"{name}-CASH/1day", "24/5", level, 0.00005) for name, level in (("EUR", 1.1), ("GBP", 1.3))),
    Line("AUD-CASH/1day", "24/5", 0.7, 0.00005),
    Line("CHF-CASH/1hour", "24/5", 1.2, 0.00005),
    Line("NZD-CASH/15mins", "24/5", 0.6, 0.00005),
    *(Line(f"ES-FUT-CME-USD-2024{day}/1day", "CMES", 5000.0, 0.25) for day in ("0315", "0621", "0920", "1220")),
    Line("SGD-CASH/4hours", "24/5", 1.3, 0.00005, kind="long_hours"),
    Line("MNQ-FUT-CME-USD-20241220/8hours/TRADES/all", "CMES", 18000.0, 0.25, kind="long_hours"),
    Line("NQ-FUT-CME-USD-20241220/1hour/TRADES/all", "CMES", 18000.0, 0.25),
    *(Line(f"{name}-CONTFUT-CME-USD/1day", "CMES", level, 0.25) for name, level in (("RTY", 2000.0), ("MES", 5000.0))),
    Line("SPX-IND-CBOE/1day", "XNYS", 5000.0),
    Line("NDX-IND-NASDAQ/1hour", "XNYS", 18000.0),
    Line("VIX-IND-CBOE/1day", "XNYS", 15.0),
)  # fmt: skip
FEW = (
    "AA/1day", "BB/1day", "CC/1day", "DD/1day", "EE/1day", "FF/1day", "GG/1day", "HH/1day", "II/1day", "JJ/1day",
    "KK/1day", "LL/1day", "MM/1day", "NN/1day", "OO/1day",
    "BHP-STK-ASX-AUD/1day", "DIV/1day/ADJUSTED_LAST", "AA/1week", "HA/1hour", "MA/30mins", "THIN/30mins/TRADES/all",
    "MD/5mins", "EUR-CASH/1day", "NZD-CASH/15mins", "ES-FUT-CME-USD-20241220/1day", "RTY-CONTFUT-CME-USD/1day",
    "MES-CONTFUT-CME-USD/1day", "SPX-IND-CBOE/1day",
)  # fmt: skip


# --- what can happen


@dataclass(frozen=True)
class Kind:
    """
    A kind of problem: the exit code of its series on its nights, the expected report, and what is allowed for a while.

    Args:
        code: the exit code on the nights on which it lasts.
        said: a pattern that the errors and notes of the series have to match on the first of them.
        told: what the report of the first night must have: "revisions", "gaps" where bars are missing, "" nothing.
        later: exit codes on the `tail` nights after it; afterwards it is 0 again.
        nights: how long it lasts at most.
        yearly: how often it happens in 300 nights.
        fits: whether it can happen to a series.
        everything: whether it happens to all series at once.
        any_code: exit codes that its nights may have instead of `code`.
        slow: whether it takes too long for the run over a few nights.
    """

    code: int = 0
    said: str = ""
    told: str = ""
    later: frozenset[int] = frozenset({0})
    tail: int = 0
    nights: int = 1
    yearly: int = 6
    fits: Callable[[Line], bool] = lambda line: True
    everything: bool = False
    any_code: frozenset[int] = frozenset()
    slow: bool = False


def _daily_stock(line: Line) -> bool:
    return line.splits and line.spelling.endswith("/1day") and line.calendar == "XNYS"


def _short(line: Line) -> bool:
    """Return whether it has a new bar on most nights and can be requested in parts."""
    return not line.series.rewritten and line.series.size.seconds <= 86_400 and line.series.instrument.kind != "FUT"


def _counted(line: Line) -> bool:
    """Return whether its bars have volumes, too."""
    return _short(line) and line.series.instrument.kind not in ("CASH", "IND")


def _minutes(line: Line) -> bool:
    return line.series.size.seconds <= 300 and line.splits


def _long(line: Line) -> bool:
    return line.series.size.seconds > 86_400


def _of_new_york(line: Line) -> bool:
    return line.calendar == "XNYS"


def _regular(line: Line) -> bool:
    """Return whether the sessions of its bars are known to the minute."""
    return _short(line) and line.calendar == "XNYS" and not line.kind


def _regular_or_weekly(line: Line) -> bool:
    return _regular(line) or (line.spelling.endswith("/1week") and line.calendar == "XNYS")


_RESOLVED = frozenset({0, 3})
KINDS = {
    # What the vendor does to the past.
    "split": Kind(told="revisions", yearly=12, fits=lambda line: line.splits),
    "late_split": Kind(yearly=4, fits=lambda line: line.splits and _short(line)),
    "revised": Kind(told="revisions", yearly=20, fits=_counted),
    "corrected": Kind(told="revisions", yearly=10, fits=_short),
    "unit": Kind(told="revisions", yearly=2, fits=_daily_stock),
    "dividend": Kind(yearly=3, fits=lambda line: line.series.prices == "ADJUSTED_LAST"),
    "roll": Kind(said="rolled", yearly=6, fits=lambda line: line.series.instrument.rolls),
    "blip": Kind(3, "accept-revision", yearly=5, fits=_daily_stock),  # a settled price is another for a night
    "moved": Kind(3, "accept-revision", yearly=2, later=_RESOLVED, tail=6, fits=_daily_stock),  # or for ever
    # What goes wrong and is gone after a while, without a word.
    "hiccup": Kind(yearly=60, fits=_short),
    "unset": Kind(yearly=6, fits=_counted),
    # What is told, with an exit code, and is over by itself.
    "bad": Kind(3, "asked twice", yearly=8, fits=_short),
    "cut_end": Kind(3, told="gaps", later=_RESOLVED, tail=9, nights=3, yearly=12, fits=_regular),
    "empty": Kind(3, told="gaps", later=_RESOLVED, tail=9, nights=3, yearly=10, fits=_regular),
    "cut_inside": Kind(3, told="gaps", later=_RESOLVED, tail=2, yearly=6, fits=_minutes),
    "cut_start": Kind(3, told="gaps", later=_RESOLVED, tail=2, yearly=3, fits=_regular_or_weekly),  # the first night
    "hole": Kind(3, told="gaps", later=_RESOLVED, tail=2, yearly=2, fits=_regular_or_weekly),  # the first night
    "empty_first": Kind(3, told="gaps", later=_RESOLVED, tail=2, yearly=3, fits=_regular_or_weekly),  # the first night
    "cut_whole": Kind(3, "lacks stored bars", yearly=3, fits=lambda line: line.series.rewritten),  # and kept
    "permission": Kind(3, "subscri", nights=6, yearly=4, fits=_daily_stock),
    "listing": Kind(3, "check symbol|no security", nights=20, yearly=2, fits=_daily_stock),  # unknown so far
    "false_200": Kind(yearly=4, fits=_daily_stock),  # of a contract that is known
    "mute": Kind(4, "does not mean that there are none", yearly=1, fits=_daily_stock, slow=True),  # never an answer
    # What ends: all futures do, IB knows a stock no more, or knows it and has no bars any more.
    "expired": Kind(yearly=0, fits=lambda line: line.series.instrument.kind == "FUT"),
    "delisted": Kind(3, later=_RESOLVED, any_code=_RESOLVED, tail=45, yearly=2, fits=_daily_stock),
    "suspended": Kind(3, later=_RESOLVED, any_code=_RESOLVED, tail=45, yearly=2, fits=_daily_stock),
    # Of all series at once.
    "shut": Kind(any_code=_RESOLVED, tail=9, later=_RESOLVED, yearly=1, everything=True, fits=_of_new_york),
    "off": Kind(nights=3, yearly=2, everything=True),  # this machine
    "down": Kind(4, yearly=4, everything=True),
    "link": Kind(4, yearly=3, everything=True),
    "farm": Kind(4, yearly=3, everything=True),
    "elsewhere": Kind(4, yearly=3, everything=True),
    # What is no problem, and must not be told.
    "thin": Kind(yearly=0, fits=lambda line: line.kind == "thin"),  # no bar on some evenings, half days that end early
    "long_hours": Kind(yearly=0, fits=lambda line: line.kind == "long_hours"),  # bars that are under way at night
    "short_week": Kind(yearly=0, fits=_long),  # a week or a month that ends with a holiday
}  # fmt: skip
OUTAGES = ("down", "link", "farm", "elsewhere")
FIRST_NIGHT = ("cut_start", "hole", "empty_first")
ENDS = ("delisted", "suspended")
ALONE = (*ENDS, "listing", "moved")  # after which nothing else may happen to a series
HICCUPS: tuple[dict[str, Any], ...] = (
    {"do": "drop", "bytes": 0}, {"do": "drop", "bytes": 300}, {"do": "twice"}, {"do": "garbage"}, {"do": "unfinished"},
    {"do": "lost", "seconds": 0.03, "code": 1101}, {"do": "lost", "seconds": 0.03, "code": 1102},
    {"do": "refuse", "seconds": 0.03}, {"do": "duplicate"}, {"do": "disorder"}, {"do": "empty"},
    {"do": "notice", "code": 2103}, {"do": "notice", "code": 2106}, {"do": "delay", "seconds": 0.05},
    *({"do": "bad", "value": value} for value in ("nan", "huge", "high", "minus", "zero", "crossed", "off_grid")),
    {"do": "error", "code": 162, "text": f"{HMDS}Query failed"},
    {"do": "error", "code": 162, "text": f"{HMDS}Historical data request pacing violation"},
    {"do": "error", "code": 504, "text": "Not connected"},
    NO_DATA,
)  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """A problem of a series, or of all, from night to night, both included; `ratio` and `place` depend on its kind."""

    kind: str
    spelling: str  # "" for all series
    first: int
    last: int
    ratio: float = 1.0
    place: int = 0  # which bar, counted from the end of what there is on the first night
    fault: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        nights = f"night {self.first}" if self.first == self.last else f"nights {self.first} to {self.last}"
        return f"{self.kind} of {self.spelling or 'all'} on {nights}"


# --- what the vendor has


@dataclass
class Bars:
    """The bars of a series as arrays, before any split: when each starts and ends, and its session."""

    times: np.ndarray
    over: np.ndarray  # when a bar is known to be whole
    days: np.ndarray  # datetime64[D]
    prices: np.ndarray  # open, high, low, close in columns, not rounded
    within: np.ndarray  # where the average lies between low and high
    volumes: np.ndarray
    trades: np.ndarray

    def only(self, rows: np.ndarray) -> Bars:
        return Bars(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def made(line: Line, seed: str, since: date, until: date) -> Bars:
    """Return made-up bars from the first to the last date."""
    starts, over, days = _times(line, since, until)
    chance = np.random.default_rng(zlib.crc32(f"{seed} {line.spelling}".encode()))
    count = len(starts)
    step = 0.012 * min(2.0, (line.series.size.seconds / 23_400) ** 0.5)
    closes = line.level * np.exp(np.cumsum(chance.normal(0, step, count)))
    opens = np.concatenate([[line.level], closes[:-1]]) * np.exp(chance.normal(0, step / 4, count))
    highs = np.maximum(opens, closes) * (1 + np.abs(chance.normal(0, step / 2, count)))
    lows = np.minimum(opens, closes) * (1 - np.abs(chance.normal(0, step / 2, count)))
    volumes = chance.integers(10_000, 900_000, count).astype(float)
    trades = chance.integers(10, 900, count)
    bars = Bars(
        starts, over, days, np.column_stack([opens, highs, lows, closes]), chance.random(count), volumes, trades
    )
    if line.kind != "thin":
        return bars
    regular = {session[0]: session for session in sessions("XNYS", since, until)}
    inside = np.array([_in(start, regular[day.item()]) for start, day in zip(starts, days, strict=True)])
    return bars.only(inside | (chance.random(count) < 0.5))


def _in(start: Moment, session: tuple[date, Moment, Moment]) -> bool:
    return session[1] <= start < session[2]


@lru_cache
def sessions(calendar: str, since: date, until: date) -> list[tuple[date, Moment, Moment]]:
    """Return the sessions of an exchange: the date, when it opens and when it closes."""
    if calendar == "24/5":  # from 17:15 in New York on the evening before to 17:00
        days = [since + number * _DAY for number in range((until - since).days + 1)]
        return [
            (day, _moment(day - _DAY, time(17, 15), NEW_YORK), _moment(day, time(17), NEW_YORK))
            for day in days
            if day.weekday() < 5
        ]
    schedule = exchange_calendars.get_calendar(calendar, start="2023-01-01").schedule
    rows = schedule.loc[str(since) : str(until), ["open", "close"]]
    return [
        (day.date(), int(opens.timestamp()), int(closes.timestamp()))
        for day, opens, closes in rows.itertuples(name=None)
    ]


def _moment(day: date, at: time, zone: Any) -> Moment:
    return int(datetime.combine(day, at, zone).timestamp())


def _times(line: Line, since: date, until: date) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    known = sessions(line.calendar, since, until)
    size, expiry = line.series.size, line.series.instrument.expiry
    if expiry:
        last = datetime.strptime(expiry, "%Y%m%d").date()  # noqa: DTZ007 - a date has no zone
        known = [session for session in known if session[0] <= last]
    if size.seconds > 86_400:
        rows = [*_periods(known, weekly=size.seconds < 2_000_000)]
    elif size.seconds == 86_400:
        rows = [(_moment(day, time(), UTC), closes + _HOUR // 2, day) for day, _, closes in known]
    else:
        if line.kind == "thin":
            known = [_extended(session) for session in known]
        zone = CHICAGO if line.calendar == "CMES" else NEW_YORK
        rows = [row for session in known for row in _clocked(session, size.seconds, zone)]
    starts, over, days = zip(*rows, strict=True)
    return np.array(starts, np.int64), np.array(over, np.int64), np.array(days, "datetime64[D]")


def _extended(session: tuple[date, Moment, Moment]) -> tuple[date, Moment, Moment]:
    """Return the session from 04:00 to 20:00 in New York, to 17:00 on a half day."""
    day, _, closes = session
    half = closes < _moment(day, time(16), NEW_YORK)
    return day, _moment(day, time(4), NEW_YORK), _moment(day, time(17 if half else 20), NEW_YORK)


def _clocked(session: tuple[date, Moment, Moment], size: int, zone: ZoneInfo) -> Iterator[tuple[Moment, Moment, date]]:
    """Yield the bars of a session: the first starts with it, the others at multiples of the size by local time."""
    day, start, closes = session
    while start < closes:
        local = datetime.fromtimestamp(start, zone)
        past = (local.hour * 3600 + local.minute * 60) % size
        end = min(start + size - past, closes)
        yield start, end, day
        start = end


def _periods(known: list[tuple[date, Moment, Moment]], weekly: bool) -> Iterator[tuple[Moment, Moment, date]]:
    """Yield weeks or months, stamped with their last session; each is complete when the next has begun."""
    last: dict[date, date] = {}
    for day, *_ in known:
        following = day + (7 - day.weekday()) * _DAY if weekly else (day.replace(day=1) + 32 * _DAY).replace(day=1)
        last[following] = day
    for following, day in last.items():
        yield _moment(day, time(), UTC), _moment(following, time(), UTC), day


class World:
    """
    What the vendor has on each night, and what goes wrong, all determined by the seed.

    Args:
        kinds: the kinds of problems that happen.
        at_once: how many series one download has; a small one sends so few messages that none has to wait.
    """

    def __init__(
        self, seed: int, start: date, nights: int, kinds: frozenset[str], lines: Sequence[Line], at_once: int = 1_000
    ) -> None:
        self.start, self.nights, self.kinds, self.at_once = start, nights, kinds, at_once
        self.since = start - BEFORE
        self._seed = seed
        self.lines = {line.spelling: line for line in lines if not line.kind or line.kind in kinds}
        if "expired" not in kinds:  # while they do, the night may be told as another
            for spelling, line in [*self.lines.items()]:
                if (
                    line.series.instrument.kind == "FUT"
                    and line.series.instrument.expiry < f"{self.day(nights):%Y%m%d}"
                ):
                    del self.lines[spelling]
        until = start + (nights + 20) * _DAY
        self._bars = {line.spelling: made(line, f"{seed}", self.since - 40 * _DAY, until) for line in lines}
        self._kept: dict[str, tuple[Any, pa.Table]] = {}
        self.problems: list[Problem] = []
        self._plan(Random(seed))
        self._of = {spelling: [p for p in self.problems if p.spelling == spelling] for spelling in self.lines}

    # --- time

    def day(self, night: int) -> date:
        """Return the session after which a night's download runs."""
        return self.start + night * _DAY

    def now(self, night: int) -> datetime:
        return datetime.combine(self.day(night) + _DAY, AT, UTC)

    # --- problems

    def _plan(self, chance: Random) -> None:
        few = self.nights < _SHORT_RUN
        latest = self.nights - (3 if few else 14)  # no new problem on the nights after it
        taken = self._plan_outages(chance, latest)
        for name in sorted(KINDS, key=self._narrow):
            if name not in self.kinds or KINDS[name].everything or (few and KINDS[name].slow):
                continue
            for _ in range(min(1, KINDS[name].yearly) if few else round(KINDS[name].yearly * self.nights / NIGHTS)):
                self._plan_one(name, chance, taken, latest)
        self.problems.sort(key=lambda problem: problem.first)

    def _narrow(self, name: str) -> tuple[bool, bool, int]:
        """Return a sort key that puts first the kinds that fit fewer places."""
        fitting = sum(KINDS[name].fits(line) for line in self.lines.values())
        return name not in ALONE, name not in FIRST_NIGHT, fitting

    def _plan_outages(self, chance: Random, latest: int) -> set[int]:
        """Plan the problems of all series, at most one in a few nights; return the nights that they take."""
        wanted = [name for name, kind in KINDS.items() if kind.everything and name in self.kinds]
        names = [name for name in wanted for _ in range(round(KINDS[name].yearly * self.nights / NIGHTS))]
        if self.nights < _SHORT_RUN:
            names = [chance.choice(outages)] if (outages := [name for name in wanted if name in OUTAGES]) else []
        taken: set[int] = set()
        for name in names:
            free = [night for night in range(2, latest) if night not in taken and self._trades("XNYS", night)]
            night = chance.choice(free)
            last = night + chance.randint(1, KINDS[name].nights) - 1
            taken |= {night} if self.nights < _SHORT_RUN else {*range(night - 1, last + 2)}
            self.problems.append(Problem(name, "", night, last))
        return taken

    def _plan_one(self, name: str, chance: Random, taken: set[int], latest: int) -> None:
        """Plan a problem of a kind at a place and time where nothing else happens, if there is one."""
        kind = KINDS[name]
        fitting = [spelling for spelling, line in self.lines.items() if kind.fits(line)]
        for _ in range(300 if fitting else 0):
            spelling, first = chance.choice(fitting), chance.randint(1, latest)
            last = first + (chance.randint(1, kind.nights) if self.nights >= _SHORT_RUN else min(kind.nights, 2)) - 1
            if name in FIRST_NIGHT:
                first, last = 0, last - first
            elif name == "listing":
                first, last = 0, chance.randint(1, min(kind.nights, latest))
                if not self._brings(spelling, last + 1):
                    continue
            elif {*range(first, last + 1)} & taken or not self._brings(spelling, first):
                continue
            if self._is_free(name, spelling, first, last):
                self.problems.append(self._detailed(Problem(name, spelling, first, last), chance))
                return

    def _is_free(self, name: str, spelling: str, first: int, last: int) -> bool:
        """Return whether nothing else happens to the instrument of a series around these nights."""
        symbol = self.lines[spelling].symbol
        others = [p for p in self.problems if p.spelling and self.lines[p.spelling].symbol == symbol]
        series = [one for one, line in self.lines.items() if line.symbol == symbol]
        if others and (self.nights < _SHORT_RUN or {name, *(p.kind for p in others)} & {*ALONE}):
            return False
        if len(series) > 1 and name not in ("split", "revised", "hiccup"):
            return False
        if not all(self._brings(one, first, self.nights - 1) for one in series):
            return False  # one of them would not be asked for again
        return all(
            last + KINDS[name].tail + _ROOM < p.first or p.last + KINDS[p.kind].tail + _ROOM < first for p in others
        )

    def _detailed(self, problem: Problem, chance: Random) -> Problem:
        match problem.kind:
            case "split" | "late_split":
                return replace(problem, ratio=chance.choice((0.5, 0.25, 0.2, 0.1, 2 / 3, 5.0, 10.0, 1 / 1.1)))
            case "dividend":
                return replace(problem, ratio=1 - chance.choice((0.004, 0.01, 0.03)))
            case "blip" | "moved":
                return replace(problem, ratio=1.5, place=chance.choice((4, 5)))
            case "hiccup":
                fault = chance.choice(HICCUPS)
                thin = self.lines[problem.spelling].kind == "thin"  # of whose evenings it is not known when they end
                return replace(problem, fault={"do": "twice"} if thin and fault["do"] == "unfinished" else fault)
            case "bad":
                value = chance.choice(("nan", "high", "minus", "zero", "crossed"))
                return replace(problem, fault={"do": "bad", "value": value})
        return replace(problem, place=chance.randint(2, 4))

    def _trades(self, calendar: str, night: int) -> bool:
        return bool(sessions(calendar, self.day(night), self.day(night)))

    def _brings(self, spelling: str, night: int, until: int = 0) -> bool:
        """Return whether a series gets a bar on a night, or on one of the nights up to another."""
        before, after = (self.now(number).timestamp() for number in (night - 1, until or night))
        over = self._bars[spelling].over
        return bool(((over > before) & (over <= after)).any())

    def ended(self, spelling: str, night: int) -> str:
        """Return why no request may be sent for a series on a night; "" if one may."""
        expiry = self.lines[spelling].series.instrument.expiry
        if expiry and "expired" in self.kinds and f"{self.day(night - 5):%Y%m%d}" >= expiry:
            return f"its last trade date, {expiry}"
        ends = [p for p in self._of[spelling] if p.kind in ENDS and night > p.last + KINDS[p.kind].tail]
        return str(ends[0]) if ends else ""

    # --- bars

    def shut(self) -> list[date]:
        """Return the days on which the exchange is closed although its calendar has a session."""
        return [self.day(problem.first) for problem in self.problems if problem.kind == "shut"]

    def table(self, spelling: str, night: int, lasting: bool = False) -> pa.Table:
        """
        Return the vendor's bars of a series on a night, including later ones.

        Args:
            lasting: leave out what is temporary, and what the store must not accept.
        """
        line = self.lines[spelling]
        effects = [p for p in self.problems if p.first <= night and self._touches(p, spelling)]
        passing = [p for p in effects if (night <= p.last or p.kind == "moved") and not lasting]
        state = [(str(p), night > p.first) for p in effects], night if passing else 0
        kept = self._kept.get(f"{spelling} {lasting}")
        if kept and kept[0] == state:
            return kept[1]
        table = self._table(line, night, effects, passing)
        self._kept[f"{spelling} {lasting}"] = state, table
        return table

    def _touches(self, problem: Problem, spelling: str) -> bool:
        """Return whether a problem concerns a series; a split concerns all series of the instrument."""
        if problem.kind == "split":
            return self.lines[problem.spelling].symbol == self.lines[spelling].symbol
        return problem.spelling == spelling

    def _table(self, line: Line, night: int, effects: list[Problem], passing: list[Problem]) -> pa.Table:
        bars = self._front(line, effects)
        prices, volumes = bars.prices.copy(), bars.volumes.copy()
        scale, unit = np.ones(len(bars.times)), 1.0
        rows = np.ones(len(bars.times), bool)
        for p in effects:
            row = self._row(bars, p) if p.place else 0
            match p.kind:
                case "split":
                    scale *= p.ratio
                case "late_split":
                    newer = bars.days >= np.datetime64(self.day(p.first))
                    scale *= np.where(newer | (night > p.first), p.ratio, 1.0)
                case "dividend":
                    scale *= np.where(bars.days < np.datetime64(self.day(p.first)), p.ratio, 1.0)
                case "revised":
                    volumes[row] += 100.0
                case "corrected":
                    prices[row, 1] += max(0.0008 * prices[row, 1], line.tick / scale[row])  # low ones by a tick
                case "unit":
                    unit *= 100.0
                case "delisted" | "suspended":
                    rows &= bars.days < np.datetime64(self.day(p.first))
                case "listing":
                    rows &= bars.days > np.datetime64(self.day(p.last))
        for p in passing:
            row = self._row(bars, p) if p.place else 0
            match p.kind:
                case "blip" | "moved":
                    prices[row, 1] *= p.ratio
                case _:
                    rows &= self._left(bars, p)
        if self.lines[line.spelling].calendar == "XNYS":
            for day in self.shut():
                rows &= bars.days != np.datetime64(day)
        return _table_of(line, bars.only(rows), (prices * scale[:, None])[rows], np.rint(volumes / scale * unit)[rows])

    def _front(self, line: Line, effects: list[Problem]) -> Bars:
        """Return the bars of a series; for a continuous future, those of its current contract."""
        rolls = sum(p.kind == "roll" for p in effects)
        if not rolls:
            return self._bars[line.spelling]
        until = self.start + (self.nights + 20) * _DAY
        return made(line, f"{self._seed} contract {rolls}", self.since - 40 * _DAY, until)

    def _left(self, bars: Bars, problem: Problem) -> np.ndarray:
        """Return which bars remain of a series whose answers are truncated."""
        every = np.ones(len(bars.times), bool)
        first = np.datetime64(self.day(problem.first))
        match problem.kind:
            case "cut_end":
                return bars.days < first
            case "empty" | "empty_first":
                return ~every
            case "cut_start":
                return bars.days >= np.datetime64(self.since + 20 * _DAY)
            case "hole":
                days = np.unique(bars.days[bars.days > np.datetime64(self.since + 15 * _DAY)])[:2]
                return ~np.isin(bars.days, days)
            case "cut_whole":
                days = np.unique(bars.days[bars.days >= np.datetime64(self.since)])[5:9]
                return ~np.isin(bars.days, days)
            case "cut_inside":
                today = np.flatnonzero(bars.days == first)
                return ~np.isin(np.arange(len(every)), today[len(today) // 3 : len(today) // 2])
        return every

    def _row(self, bars: Bars, problem: Problem) -> int:
        """Return the last bar of the n-th session from the end of those before the first night."""
        known = bars.days[bars.over <= self.now(problem.first - 1).timestamp()]
        day = np.unique(known)[-problem.place]
        return int(np.flatnonzero(bars.days == day)[-1])

    def missing(self, problem: Problem) -> list[date]:
        """Return the days whose bars should be served on the first night of a problem, and are not."""
        bars = self._bars[problem.spelling]
        wanted = (bars.over <= self.now(problem.first).timestamp()) & (bars.days >= np.datetime64(self.since))
        if problem.kind == "empty":
            wanted &= bars.over > self.now(problem.first - 1).timestamp()
        return [day.item() for day in np.unique(bars.days[wanted & ~self._left(bars, problem)])]

    def truth(self, spelling: str, night: int) -> pa.Table:
        """Return the bars that a store should have after a night."""
        table = self.table(spelling, night, lasting=True)
        bars = self._bars[spelling]
        known = bars.times[(bars.over <= self.now(night).timestamp()) & (bars.days >= np.datetime64(self.since))]
        times = table["time"].cast(pa.int64()).to_numpy() // 1_000_000
        return table.filter(pa.array(np.isin(times, known)))

    def listed(self, spelling: str, night: int) -> bool:
        """Return whether IB knows the contract on a night."""
        kinds = [p for p in self._of[spelling] if p.kind in ("listing", "delisted")]
        return all(night > p.last if p.kind == "listing" else night < p.first for p in kinds)

    def contract(self, spelling: str, night: int) -> ContractDetails:
        line = self.lines[spelling]
        rolls = sum(p.kind == "roll" and p.first <= night for p in self._of[spelling])
        number = 1_000 + [*self.lines].index(next(one for one in self.lines if self.lines[one].symbol == line.symbol))
        if line.series.instrument.kind == "FUT":
            number = 5_000 + int(line.series.instrument.expiry[4:])
        name = f"{line.symbol} {rolls}" if rolls else line.symbol
        return ContractDetails(number + 10_000 * rolls, name=name)


def _table_of(line: Line, bars: Bars, prices: np.ndarray, volumes: np.ndarray) -> pa.Table:
    rounded = np.round(np.round(prices / line.tick) * line.tick, 5)
    count, kind = len(bars.times), line.series.instrument.kind
    averages = rounded[:, 2] + (rounded[:, 1] - rounded[:, 2]) * bars.within
    numbers: list[Any] = [volumes, averages, bars.trades]
    if kind == "CASH":
        numbers = [[None] * count] * 3
    elif kind == "IND":
        numbers = [np.zeros(count), np.zeros(count), np.zeros(count, np.int64)]
    columns = [bars.times * 1_000_000, *rounded.T, *numbers]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema(), strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema())


class Vendor:
    """What the vendor has on a night, as the emulator reads it."""

    name = "vendor"

    def __init__(self, world: World, night: int) -> None:
        self._world, self._night = world, night
        self._spellings = {
            line.series: spelling for spelling, line in world.lines.items() if world.listed(spelling, night)
        }

    def series(self) -> list[Series]:
        return sorted(self._spellings, key=lambda one: one.key)

    def named(self, series: Series | str) -> Series:
        return series_of(series)

    def manifest(self, series: Series | str) -> Manifest:
        series = series_of(series)
        if series not in self._spellings:
            raise NoBars(f"no {series}")
        spelling = self._spellings[series]
        table = self._world.table(spelling, self._night)
        whole = self._world.table(spelling, self._night, lasting=True)  # what the head timestamp is of
        contract = self._world.contract(spelling, self._night)
        first, last = (whole["time"][place].as_py().isoformat() for place in (0, -1))
        return Manifest(
            series.key, 1, contract, (Segment("all.1", len(table), first, last, 0, "", ""),) if len(table) else ()
        )

    def read(self, series: Series | str, span: Span | None = None, *, revision: int | None = None) -> pa.Table:
        assert revision is None
        table = self._world.table(self._spellings[series_of(series)], self._night)
        if span is None:
            return table
        times = table["time"].cast(pa.int64()).to_numpy()
        first, last = np.searchsorted(times, [int(moment.timestamp() * 1e6) for moment in (span.start, span.end)])
        return table.slice(first, last - first)


# --- a night


def careful(store: Store, source: Source, spellings: Sequence[str], since: date) -> DownloadReport:
    """Download as a timer does: no end date, no options."""
    return download(store, source, list(spellings), start=since, persistence=PERSISTENCE)


def _believing(store: Store, source: Source, spellings: Sequence[str], since: date) -> DownloadReport:
    """Download, and treat an unanswered request as "no bars"."""
    report = careful(store, source, spellings, since)
    for one in report.series:
        for gap in one.gaps:
            store.write(one.series, gap, schema().empty_table(), source="believing")
    return _all_is_well(report)


def _seamless(store: Store, source: Source, spellings: Sequence[str], since: date) -> DownloadReport:
    """Download what is not stored, and never request stored bars again."""
    reports = []
    for series in map(series_of, spellings):
        wanted = source.finished(series, Span.of_dates(since, source.now().date()), source.now())
        windows = [part for gap in store.gaps(series, wanted) for part in source.windows(series, gap)] if wanted else []
        for window in windows:
            with suppress(NoData):
                bars = source.fetch(series, window)
                store.write(series, window, bars, contract=source.qualify(series.instrument))
        reports.append(SeriesReport(series, "complete"))
    return DownloadReport(tuple(reports), 0, 0, 0.0)


def _accepting(store: Store, source: Source, spellings: Sequence[str], since: date) -> DownloadReport:
    """Download, and accept whatever the vendor reports about old bars."""
    return download(store, source, list(spellings), start=since, persistence=PERSISTENCE, accept_revision=True)


def _hushed(store: Store, source: Source, spellings: Sequence[str], since: date) -> DownloadReport:
    """Download, and report success whatever happens."""
    return _all_is_well(careful(store, source, spellings, since))


def _all_is_well(report: DownloadReport) -> DownloadReport:
    return replace(report, series=tuple(SeriesReport(one.series, "complete") for one in report.series))


CARELESS: dict[str, Downloader] = {
    "believing": _believing, "seamless": _seamless, "accepting": _accepting, "hushed": _hushed,
}  # fmt: skip


@dataclass
class Outcome:
    """The outcome of a night: its exit code, the reports by spelling, and the number of pacing violations."""

    code: int
    reports: dict[str, SeriesReport] = field(default_factory=dict)
    violations: int = 0


def play(world: World, night: int, store: Store, downloader: Downloader, calm: bool = False) -> Outcome:
    """Run the downloads of a night; `calm` repeats them without the night's outages."""
    spellings = [*world.lines]
    parts = [spellings[first : first + world.at_once] for first in range(0, len(spellings), world.at_once)]
    outcomes = [_play(world, night, store, downloader, part, calm) for part in parts]
    return Outcome(
        max(outcome.code for outcome in outcomes),
        {spelling: report for outcome in outcomes for spelling, report in outcome.reports.items()},
        sum(outcome.violations for outcome in outcomes),
    )


def _play(world: World, night: int, store: Store, downloader: Downloader, spellings: list[str], calm: bool) -> Outcome:
    problems = [p for p in world.problems if p.first <= night <= p.last and not (calm and p.kind in OUTAGES)]
    kinds = {p.kind for p in problems}
    if "down" in kinds:
        return _deserted(world, store, downloader, spellings)
    now, script = world.now(night), [fault for p in problems for fault in _faults(world, p)]
    vendor: Reader = Vendor(world, night)
    patience = SHORT if kinds & {"link", "farm"} else DEAF if "mute" in kinds else PATIENT
    with (
        Gateway(vendor, clock=lambda: now, faults=Faults.of(script), time_scale=100, shut=world.shut()) as gateway,
        connect(gateway.address, patience=patience, time_scale=100, clock=lambda: now) as source,
    ):
        report = downloader(store, source, spellings, world.since)
        known = {world.lines[spelling].series: spelling for spelling in spellings}
        return Outcome(report.exit_code, {known[one.series]: one for one in report.series}, gateway.violations)


def _deserted(world: World, store: Store, downloader: Downloader, spellings: list[str]) -> Outcome:
    """Run the download while nothing is listening."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    try:
        with connect(f"ib://127.0.0.1:{port}", patience=SHORT) as source:
            return Outcome(downloader(store, source, spellings, world.since).exit_code)
    except BacktestError as error:
        return Outcome(error.exit_code)


def _faults(world: World, problem: Problem) -> list[dict[str, Any]]:
    """Return the entries of a fault script that a problem needs."""
    symbol = world.lines[problem.spelling].symbol if problem.spelling else ""
    if problem.kind == "hiccup":
        return [_of(symbol, on(**problem.fault))]
    if problem.kind in ("bad", "unset"):
        return [_of(symbol, on(**(problem.fault or {"do": "unset"}), times=ALWAYS))]
    if problem.kind == "mute":
        return [_of(symbol, on("silence", times=ALWAYS))]
    if problem.kind == "permission":
        text = f"{HMDS}No market data permissions for NASDAQ STK"
        return [_of(symbol, on("error", times=ALWAYS, code=162, text=text))]
    if problem.kind == "false_200":
        text = "No security definition has been found for the request"
        return [_of(symbol, on("error", code=200, text=text))]
    if problem.kind == "link":
        return [on("error", times=ALWAYS, code=1100, text="Connectivity between IB and TWS has been lost.")]
    if problem.kind == "farm":
        return [{"when": {"connection": 1, "times": ALWAYS}, "do": "notice", "code": 2105}]
    if problem.kind == "elsewhere":
        text = "No market data during competing live session"
        return [on("error", times=ALWAYS, code=10197, text=text)]
    return []


def _of(symbol: str, fault: dict[str, Any]) -> dict[str, Any]:
    return fault | {"when": fault["when"] | {"symbol": symbol}}


# --- what should come of it


def judge(world: World, night: int, outcome: Outcome, calm: bool = False) -> list[str]:
    """Return what is wrong with how a night ended, or with its repetition after an outage."""
    wrong = [f"{outcome.violations} violations of the pacing"] if outcome.violations else []
    whole = [p for p in world.problems if p.kind in OUTAGES and p.first == night and not calm]
    if whole:
        return wrong + ([] if outcome.code == 4 else [f"{whole[0]}: exit code {outcome.code}, not 4"])
    if missing := [spelling for spelling in world.lines if spelling not in outcome.reports]:
        return [*wrong, f"nothing is said of {', '.join(missing)}"]
    codes = {report.exit_code for report in outcome.reports.values()}
    if outcome.code != max(codes):
        wrong.append(f"exit code {outcome.code} where those of the series are {sorted(codes)}")
    for spelling, report in outcome.reports.items():
        wrong += [f"{spelling}: {text}" for text in _wrong(world, night, spelling, report)]
    return wrong


def _wrong(world: World, night: int, spelling: str, report: SeriesReport) -> Iterator[str]:
    allowed, problem = _allowed(world, night, spelling)
    said = " ".join([*report.errors, *report.notes])
    if report.exit_code not in allowed:
        codes = " or ".join(map(str, sorted(allowed)))
        why = said[:300] or ", ".join(map(str, report.gaps[:2]))
        yield f"exit code {report.exit_code}, not {codes}, by {problem or 'nothing'}: {report.status} {why}"
    if report.exit_code and not said and not report.gaps:
        yield f"exit code {report.exit_code} without a word"
    if problem is None or night != problem.first:
        if problem is None and (ended := world.ended(spelling, night)) and report.requests:
            yield f"{report.requests} requests though it has ended, by {ended}"
        return
    kind = KINDS[problem.kind]
    if kind.said and not re.search(kind.said, said, re.IGNORECASE):
        yield f"nothing like {kind.said!r} is said of {problem}: {said[:300]!r}"
    if kind.told == "revisions" and not report.revisions:
        yield f"no revision is told, by {problem}"
    if kind.told == "gaps":
        untold = [day for day in world.missing(problem) if not _tells(report, day)]
        if untold:
            yield f"{len(untold)} sessions are missing and not told, the first {untold[0]}, by {problem}"


def _allowed(world: World, night: int, spelling: str) -> tuple[frozenset[int], Problem | None]:
    """Return the exit codes that a series may have on a night, and the problem that allows them."""
    line = world.lines[spelling]
    for p in sorted(world.problems, key=lambda p: not p.spelling):
        kind = KINDS[p.kind]
        if (p.spelling != spelling and not (kind.everything and kind.fits(line))) or p.kind in (*OUTAGES, "off"):
            continue
        if p.first <= night <= p.last:
            return kind.any_code or frozenset({kind.code}), p
        if p.last < night <= p.last + kind.tail:
            return kind.later, p
    return frozenset({0}), None


def _tells(report: SeriesReport, day: date) -> bool:
    """Return whether a report says that the session of a day is missing."""
    start = datetime.combine(day, time(), UTC)
    around = Span(start, start + _DAY)
    return any(gap.common(around) for gap in report.gaps) or f"{day}" in " ".join(report.errors)


def differences(world: World, night: int, store: Store) -> Iterator[str]:
    """Yield how the store differs from the truth after a night."""
    for spelling in world.lines:
        true = world.truth(spelling, night).to_pylist()
        try:
            stored = store.read(spelling).to_pylist()
        except NoBars:
            stored = []
        if stored == true:
            continue
        old, new = ({row["time"]: row for row in rows} for rows in (true, stored))
        lost, more = sorted(old.keys() - new), sorted(new.keys() - old)
        other = [moment for moment in old.keys() & new if old[moment] != new[moment]]
        parts = [
            f"{len(some)} {what}, the first {min(some)}"
            for what, some in (("lost", lost), ("too many", more), ("not the same", other))
            if some
        ]
        happened = "; ".join(str(p) for p in world.problems if p.spelling == spelling)
        yield f"{spelling}: {'; '.join(parts)} of {len(true)} bars ({happened})"


@dataclass
class Year:
    """The outcome of all nights: how often each code, how many problems of each kind, and what was wrong."""

    codes: Counter[int] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def run(
    folder: Path,
    seed: int,
    *,
    start: date = START,
    nights: int = NIGHTS,
    kinds: frozenset[str] = frozenset(KINDS),
    lines: Sequence[Line] = LINES,
    at_once: int = 1_000,
    downloader: Downloader = careful,
    tell: Callable[[str], object] = lambda _: None,
) -> Year:
    """Run the nights of a seed on a store in a folder."""
    world, year, store = World(seed, start, nights, kinds, lines, at_once), Year(), Store(folder)
    year.problems = Counter(problem.kind for problem in world.problems)
    again = Random(f"again {seed}")
    for night in range(nights):
        if any(p.kind == "off" and p.first <= night <= p.last for p in world.problems):
            continue
        outcome = play(world, night, store, downloader)
        year.codes[outcome.code] += 1
        wrong = judge(world, night, outcome)
        if outcome.code == 4 and again.random() < 0.5:  # as a timer does some minutes later
            wrong += judge(world, night, play(world, night, store, downloader, calm=True), calm=True)
        for text in wrong:
            year.wrong.append(f"seed {seed}, night {night} ({world.day(night)}): {text}")
            tell(year.wrong[-1])
    for text in differences(world, nights - 1, store):
        year.wrong.append(f"seed {seed}, in the end: {text}")
        tell(year.wrong[-1])
    return year


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--years", type=int, default=1, help="seeds, one after the other")
    words.add_argument("--nights", type=int, default=NIGHTS)
    words.add_argument("--jobs", type=int, default=2)
    words.add_argument("--kinds", default="", help="kinds of problems, separated by commas; default: all")
    words.add_argument("--few", action="store_true", help="run the few nights of make test")
    asked = words.parse_args()
    kinds = frozenset(asked.kinds.split(",")) if asked.kinds else frozenset(KINDS)
    if unknown := kinds - {*KINDS}:
        words.error(f"no kinds {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    began, seeds = clock.monotonic(), range(asked.seed, asked.seed + asked.years)
    with ProcessPoolExecutor(asked.jobs, multiprocessing.get_context("spawn")) as pool:
        years = [*pool.map(_year, seeds, [asked.nights] * len(seeds), [kinds] * len(seeds), [asked.few] * len(seeds))]
    wrong = [text for year in years for text in year.wrong]
    codes, problems = (
        sum(counters, Counter()) for counters in zip(*((y.codes, y.problems) for y in years), strict=True)
    )
    print(f"problems: {', '.join(f'{count} {kind}' for kind, count in sorted(problems.items()))}")
    ends = ", ".join(f"{count} with {code}" for code, count in sorted(codes.items()))
    print(f"{sum(codes.values())} nights ({ends}) in {clock.monotonic() - began:.0f} s: {len(wrong)} failures")
    raise SystemExit(bool(wrong))


def _year(seed: int, nights: int, kinds: frozenset[str], few: bool) -> Year:
    logging.disable(logging.CRITICAL)
    words: dict[str, Any] = few_nights() if few else {"nights": nights}
    with tempfile.TemporaryDirectory(dir=quick_folder()) as folder:
        return run(Path(folder), seed, kinds=kinds, tell=lambda text: print(text, flush=True), **words)


def few_nights() -> dict[str, Any]:
    """Return the arguments of a run over ten nights of some series, one of each sort."""
    return {
        "start": FEW_START,
        "nights": FEW_NIGHTS,
        "lines": [line for line in LINES if line.spelling in FEW],
        "at_once": 10,
    }


if __name__ == "__main__":
    main()
