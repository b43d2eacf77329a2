"""
Whatever goes wrong on the wire, a download ends complete and true, or says why not and lies about nothing.

Each row is a script of faults and what a careful user wants to come of it. After each, the law: what is stored is true,
what is missing is said to be, and the next download without faults ends with the content of an undisturbed one.
"""

import faulthandler
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from faulty_downloads import (
    BROKEN,
    BUSY,
    CUTS,
    DAILY,
    FINAL,
    HMDS,
    IMPATIENT,
    KEIN_DATA,
    LATER,
    MINUTES,
    MUTES,
    NO_DATA,
    PACED,
    PASSING,
    PATIENT,
    QUICK,
    SPANISH,
    TOO_LONG,
    UNKNOWN,
    Job,
    on,
)
from market import span_of_sessions, store_with
from rawclient import RawClient

from backtest.downloads.downloader import DownloadReport, download, plan_download
from backtest.downloads.retry import Persistence
from backtest.emulator.faults import Faults
from backtest.emulator.server import Gateway
from backtest.errors import NoBars, NoConnection
from backtest.market.bars import table_of
from backtest.market.calendars import time_zone
from backtest.market.hours import hours_of
from backtest.market.series import BarSize, ContractDetails, Series
from backtest.market.span import Span, union
from backtest.sources.base import Patience
from backtest.sources.connect import connect
from backtest.sources.ib.source import IbSource
from backtest.store.audit.verification import SeriesAudit, verify
from backtest.store.store import Store

pytestmark = pytest.mark.slow

FOREX = Series.parse("EUR-CASH/15mins")
MONTH = Job(DAILY, date(2012, 12, 3), date(2012, 12, 28), "practical")  # one window; halved 13 days, then 6, 6 and 1
SESSIONS = Job(MINUTES, date(2024, 3, 7), date(2024, 3, 12))  # four windows, over a change of the clocks
LISTED = Series.parse("MSFT/1min")  # of it there are no days, so the head timestamp is that of its minutes
LISTING = Job(LISTED, date(2024, 2, 28), date(2024, 3, 6))  # three windows, and three before the first bar
TWELVE_YEARS = Job(DAILY, date(2001, 1, 2), date(2012, 12, 31))
TWELVE_SESSIONS = Job(MINUTES, date(2024, 3, 4), date(2024, 3, 19))
QUOTES = Job(FOREX, date(2024, 3, 4), date(2024, 3, 8), "practical")  # bars without a volume
UNTRUE = ("nan", "huge", "high", "infinity", "minus", "zero", "crossed", "off_grid")
DOLLARS, CHRISTMAS = Series.parse("EUR-CASH/1hour"), (date(2023, 12, 25), date(2024, 1, 1))
HOLIDAYS = Job(DOLLARS, date(2023, 12, 18), date(2024, 1, 5), "practical", CHRISTMAS)  # one window with two holes
YOUNG = Job(LISTED, date(2021, 1, 4), date(2024, 3, 15), "practical")  # listed in March 2024
TWELVE_YEARS_AT_ONCE = replace(TWELVE_YEARS, limits="practical")
SESSIONS_AT_ONCE = replace(TWELVE_SESSIONS, limits="practical")
# Other sizes, hours and kinds of instruments; each is one window.
WEEKS = Job(Series.parse("AAPL/1week"), date(2012, 6, 4), date(2012, 9, 28), "practical")
HOURLY = Job(Series.parse("AAPL/1hour"), date(2024, 3, 4), date(2024, 3, 15), "practical")  # the clocks change
FOURS = Job(Series.parse("AAPL/4hours"), date(2024, 3, 4), date(2024, 3, 15), "practical")
HALF_DAY = Job(Series.parse("IBM/5mins"), date(2023, 11, 20), date(2023, 11, 28), "practical")  # 24 November
EVENINGS = Job(Series.parse("IBM/15mins/TRADES/all"), date(2023, 11, 20), date(2023, 11, 28), "practical")
BREAKS_AT_NOON = Job(Series.parse("7203-STK-TSEJ-JPY/5mins"), date(2024, 3, 4), date(2024, 3, 15), "practical")
GLOBEX = Job(
    Series.parse("ES-FUT-CME-USD-20240621/15mins/TRADES/all"), date(2024, 3, 4), date(2024, 3, 15), "practical"
)
EUROS = Job(Series.parse("GBP-CASH/30mins"), date(2024, 3, 4), date(2024, 3, 15), "practical")
COINS = Job(Series.parse("BTC-CRYPTO/1hour"), date(2024, 3, 4), date(2024, 3, 15), "practical")
OTHERS = (WEEKS, HOURLY, FOURS, HALF_DAY, EVENINGS, BREAKS_AT_NOON, GLOBEX, EUROS, COINS)
JOBS = (
    MONTH,
    SESSIONS,
    LISTING,
    TWELVE_YEARS,
    TWELVE_SESSIONS,
    HOLIDAYS,
    YOUNG,
    TWELVE_YEARS_AT_ONCE,
    SESSIONS_AT_ONCE,
    QUOTES,
    *OTHERS,
)
ALWAYS = 10_000
NEXT_DAY = LATER + timedelta(days=1)
TRIES, BREAKS = 4, 3
# Requests: twice for 26 days, twice for 13, to the end for the single day, twice for 6, to the end for each 3.
HALVED = 2 + 2 + TRIES + 2 + 2 * TRIES
SHORT = replace(PATIENT, answer=0.4, connect=1.5, outage=0.4)  # for outages that do not end
MISSING = "returned no bars of"
CANNOT_BE_HAD = (
    MISSING,
    "subscribe",
    "another kind",
    "can never be served",
    "check symbol",
    "name one",
    "request less",
)
UNANSWERED = "does not mean that there are none"


@dataclass(frozen=True)
class Row:
    """A script of faults, and what is to come of a download under it."""

    name: str
    script: tuple[dict[str, Any], ...]
    status: str
    requests: int  # of bars, as the gateway counts them
    said: str = ""  # a word of the first error
    exit_code: int = 0
    quarantined: int = 0
    job: Job = MONTH
    patience: Patience = PATIENT
    tries: int = TRIES


def at(do: str, nth: int = 1, times: int = 1, **words: Any) -> dict[str, Any]:
    """Return a fault of a connection."""
    return {"when": {"connection": nth, "times": times}, "do": do, **words}


def complete(name: str, *script: dict[str, Any], requests: int, **words: Any) -> Row:
    return Row(name, script, "complete", requests, **words)


def failed(name: str, *script: dict[str, Any], requests: int, said: str, exit_code: int = 0, **words: Any) -> Row:
    return Row(name, script, "failed", requests, said, exit_code or code_of(said), **words)


def partial(name: str, *script: dict[str, Any], requests: int, said: str, exit_code: int = 0, **words: Any) -> Row:
    return Row(name, script, "partial", requests, said, exit_code or code_of(said), **words)


def code_of(said: str) -> int:
    """Return 3 where bars are missing or cannot be had, 4 where trying again in minutes may help."""
    return 3 if said.startswith(CANNOT_BE_HAD) else 4


def both(name: str, more: int, **words: Any) -> Iterator[Row]:
    """Yield the rows of a fault that strikes once, which costs so many requests more: the only window, one of four."""
    yield complete(f"{name}, once", on(**words), requests=1 + more)
    yield complete(f"{name}, once in the middle", on(nth=2, **words), requests=4 + more, job=SESSIONS)


# --- every fault of the emulator


def harmless() -> Iterator[Row]:
    for name, words in {
        "twice": {"do": "twice"},
        "garbage": {"do": "garbage"},
        "unfinished": {"do": "unfinished"},
        "delay": {"do": "delay", "seconds": 0.05},
        "lost, 1102": {"do": "lost", "seconds": 0.05, "code": 1102},
        "notice 2103": {"do": "notice", "code": 2103},
        "notice 2104": {"do": "notice", "code": 2104},
        "notice 2106": {"do": "notice", "code": 2106},
    }.items():
        yield from both(name, 0, **words)
        yield complete(f"{name}, always", on(times=ALWAYS, **words), requests=4, job=SESSIONS)


def untrue() -> Iterator[Row]:
    for name, words in {
        **{f"bad {value}": {"do": "bad", "value": value} for value in UNTRUE},
        "duplicate": {"do": "duplicate"},
        "disorder": {"do": "disorder"},
    }.items():
        said = {"said": "asked twice", "exit_code": 3}
        yield from both(name, 1, **words)
        yield failed(f"{name}, always", on(times=ALWAYS, **words), requests=2, quarantined=1, **said)
        yield failed(
            f"{name}, always, four windows",
            on(times=ALWAYS, **words),
            requests=8,
            quarantined=4,
            job=SESSIONS,
            **said,
        )
        yield partial(
            f"{name}, twice for one window",
            on(nth=2, times=2, **words),
            requests=6,  # the last is a repair, whose answer is true
            quarantined=1,
            job=SESSIONS,
            **said,
        )


def shifted() -> Iterator[Row]:
    """Yield bars an hour late: once; and always, of several sessions a window and of one, none of which is stored."""
    late: dict[str, Any] = {"do": "shift", "seconds": 3600}
    told: dict[str, Any] = {"said": "lie outside of the exchange's sessions", "exit_code": 3}
    yield from list(both("an hour late", 1, **late))[1:]
    for job, windows in ((SESSIONS_AT_ONCE, 1), (SESSIONS, 4), (HOURLY, 1), (BREAKS_AT_NOON, 1)):
        name = f"{job.series}, {windows} windows, an hour late, always"
        yield failed(name, on(times=ALWAYS, **late), requests=2 * windows, quarantined=windows, job=job, **told)


def unset() -> Iterator[Row]:
    """Yield IB's words for "no such number" in the place of a volume, an average and a count that it does not have."""
    yield complete("unset", on("unset"), requests=1, job=QUOTES)
    yield complete("unset, always", on("unset", times=ALWAYS), requests=1, job=QUOTES)
    yield complete("unset, and a price", on("unset"), on("bad", value="huge"), requests=2, job=QUOTES)


def unanswered() -> Iterator[Row]:
    for name, words in {
        "silence": {"do": "silence"},
        "foreign": {"do": "foreign"},
        "bad text": {"do": "bad", "value": "text"},
    }.items():
        yield complete(f"{name}, once", on(**words), requests=2, patience=IMPATIENT)
        yield failed(f"{name}, always", on(times=ALWAYS, **words), requests=HALVED, said=UNANSWERED, patience=IMPATIENT)
    # Twice 0.43 s, and what is left of a second; nobody is asked for contract details before the window's own time.
    brief = replace(IMPATIENT, silence=1.0)
    given_up = {"said": "AAPL/1day is given up for now: none of its requests was answered in 1 s", "patience": brief}
    yield failed("silence, given up in a stated time", on("silence", times=ALWAYS), requests=3, **given_up)
    late = on("delay", times=ALWAYS, seconds=9)
    yield failed("delay, given up in a stated time", late, requests=3, **given_up)
    mute = on("silence", times=ALWAYS, kind="details")
    yield failed("details: silence, given up in a stated time", mute, requests=0, **given_up)
    # A day of minutes may take longer than the second.
    yield partial(
        "silence after the first answer, given up in a stated time", on("silence", 2, times=ALWAYS), requests=2,
        said="AAPL/1min is given up", patience=brief, job=SESSIONS,
    )  # fmt: skip
    yield complete("silence, once in the middle", on("silence", 3), requests=5, patience=IMPATIENT, job=SESSIONS)
    yield from both("empty", 1, do="empty")
    yield failed("empty, always", on("empty", times=ALWAYS), requests=HALVED, said="no bars and no response")
    yield complete("delay longer than the patience", on("delay", seconds=1.5), requests=2, patience=IMPATIENT)
    yield failed(
        "delay longer than the patience, always", on("delay", times=ALWAYS, seconds=9), requests=2,
        said=UNANSWERED, patience=IMPATIENT, tries=2,
    )  # fmt: skip


def broken() -> Iterator[Row]:
    words: dict[str, Any] = {"said": "connection to the gateway broke", "requests": BREAKS + 1}
    for size in (0, 1, 4, 5, 25, 600, -3):  # the last is inside the last bar
        yield complete(f"drop at {size}, once", on("drop", bytes=size), requests=2)
        yield failed(f"drop at {size}, always", on("drop", times=ALWAYS, bytes=size), **words)
    for size in (0, 600, 20_000):
        yield complete(f"drop at {size}, once in the middle", on("drop", 2, bytes=size), requests=5, job=SESSIONS)
    yield complete("drop after the answer", on("drop", bytes=10**6), requests=1)
    yield complete("drop after each answer", on("drop", times=ALWAYS, bytes=10**6), requests=4, job=SESSIONS)
    yield from both("lost, 1101", 1, do="lost", seconds=0.05, code=1101)
    yield failed("lost, 1101, always", on("lost", times=ALWAYS, seconds=0.02, code=1101), **words)
    yield from both("refuse", 1, do="refuse", seconds=0.1)
    yield failed("refuse, always", on("refuse", times=ALWAYS, seconds=0.02), **words)
    deaf = replace(IMPATIENT, connect=1.0)
    yield complete("length, once", on("length"), requests=2, patience=deaf)
    yield failed("length, always", on("length", times=ALWAYS), patience=deaf, **words)


def farms() -> Iterator[Row]:
    down = on("notice", code=2105)
    never = {"said": "farm ushmds is broken", "patience": SHORT}
    yield complete("farm broken after the last window", down, requests=1)
    yield complete("farm broken and back, 2106", down, on("notice", code=2106), requests=4, job=SESSIONS)
    yield complete("market farm broken and back", on("notice", code=2103), on("notice", code=2104), requests=1)
    yield complete(
        "farm broken, back with the link", down, on("lost", seconds=0.05, code=1102), requests=4, job=SESSIONS
    )
    yield complete(
        "farm broken and back, each time", on("notice", times=ALWAYS, code=2105),
        on("notice", times=ALWAYS, code=2106), requests=4, job=SESSIONS,
    )  # fmt: skip
    yield partial("farm broken for ever", down, requests=1, job=SESSIONS, **never)
    yield failed("farm broken from the start", at("notice", times=ALWAYS, code=2105), requests=0, **never)
    yield failed("farm broken before the first bars", on("notice", kind="details", code=2105), requests=0, **never)


def connections() -> Iterator[Row]:
    for name, words in {
        "taken": {"do": "taken"},
        "delay": {"do": "delay", "seconds": 0.05},
        "lost, 1101": {"do": "lost", "seconds": 0.05, "code": 1101},
        "lost, 1102": {"do": "lost", "seconds": 0.05, "code": 1102},
        "notice 2103": {"do": "notice", "code": 2103},
        "notice 2104": {"do": "notice", "code": 2104},
        "notice 2106": {"do": "notice", "code": 2106},
    }.items():
        yield complete(f"first connection: {name}", at(**words), requests=1)
    gone = {"status": "no connection", "requests": 0, "exit_code": 4, "patience": SHORT}
    yield Row("first connection: refuse", (at("refuse", seconds=0.1),), said="closed the connection", **gone)
    yield Row("first connection: silence", (at("silence"),), said="did not finish the handshake", **gone)
    yield Row("first connection: delay", (at("delay", seconds=5),), said="did not finish the handshake", **gone)
    yield Row("every connection: taken", (at("taken", times=ALWAYS),), said="are all in use", **gone)
    drop = on("drop", bytes=100)
    for name, words in {
        "taken": {"do": "taken"},
        "taken five times": {"do": "taken", "times": 5},
        "refuse": {"do": "refuse", "seconds": 0.1},
        "delay": {"do": "delay", "seconds": 0.05},
        "lost, 1101": {"do": "lost", "seconds": 0.05, "code": 1101},
        "lost, 1102": {"do": "lost", "seconds": 0.05, "code": 1102},
    }.items():
        yield complete(f"second connection: {name}", drop, at(nth=2, **words), requests=2)
    yield complete(
        "second connection: silence", drop, at("silence", 2), requests=2, patience=replace(SHORT, outage=3.0)
    )
    for name, said, words in (
        ("taken", "in use", {"do": "taken"}),
        ("refuse", "closed the connection", {"do": "refuse", "seconds": 0.05}),
        ("silence", "did not finish the handshake", {"do": "silence"}),
        ("notice 2105", "farm ushmds is broken", {"do": "notice", "code": 2105}),
        ("lost, 1101", "no link to IB", {"do": "lost", "seconds": 9, "code": 1101}),
    ):
        fault = at(nth=2, times=ALWAYS, **words)
        yield failed(f"every later connection: {name}", drop, fault, requests=1, said=said, patience=SHORT)


def other_requests() -> Iterator[Row]:
    """Yield what goes wrong with requests for contracts and first bars, which a download needs too."""
    none = {"do": "error", "kind": "details", "code": 200, "text": "No security definition has been found"}
    for name, words in {
        "silence": {"do": "silence"},
        "foreign": {"do": "foreign"},
        "drop": {"do": "drop", "bytes": 40},
        "twice": {"do": "twice"},
        "garbage": {"do": "garbage"},
        "lost, 1101": {"do": "lost", "seconds": 0.05, "code": 1101},
        "lost, 1102": {"do": "lost", "seconds": 0.05, "code": 1102},
        "refuse": {"do": "refuse", "seconds": 0.1},
    }.items():
        yield complete(f"details: {name}", on(kind="details", **words), requests=1, patience=IMPATIENT)
    silent = {"requests": 0, "said": "no response for contract details", "patience": IMPATIENT}
    yield failed("details: silence, always", on("silence", times=ALWAYS, kind="details"), **silent)
    yield failed("details: 200", on(**none), requests=0, said="check symbol")
    yield complete(
        "details: 200 after the link was lost", on("lost", kind="details", seconds=0.05, code=1101),
        on(nth=2, **none), requests=1,
    )  # fmt: skip
    yield complete(
        "details: 200 while a farm is broken", at("notice", code=2105), on(**none),
        on("lost", 2, kind="details", seconds=0.05, code=1102), requests=1,
    )  # fmt: skip
    error = {"do": "error", "code": 162, "text": f"{HMDS}No head timestamp"}
    for name, words in {"silence": {"do": "silence"}, "drop": {"do": "drop", "bytes": 7}, "error": error}.items():
        # Where there is no head, a year of days is asked for, and the one before twice.
        requests = 4 if name == "drop" else 4 + 3
        script, patience = on(kind="head", **words), replace(PATIENT, answer=0.3)
        yield complete(f"head: {name}", script, requests=requests, job=LISTING, patience=patience)


def heads() -> Iterator[Row]:
    """
    Yield what goes wrong with the head timestamp where three years, of 37 windows, lie before the first bar.

    Two windows have bars, and one is said to be empty; where there is no head, one request for all daily bars tells it.
    """
    one, none = {"job": YOUNG}, {"do": "error", "code": 200, "text": "No security definition has been found"}
    query_failed = {"do": "error", "code": 162, "text": f"{HMDS}Query failed"}
    yield complete("years before a listing", requests=3, **one)
    for name, words in {
        "drop": {"do": "drop", "bytes": 7},
        "lost, 1101": {"do": "lost", "seconds": 0.05, "code": 1101},
        "refuse": {"do": "refuse", "seconds": 0.1},
        "200": none,
        "busy": {"do": "error", "code": BUSY[0][0], "text": BUSY[0][1]},
    }.items():
        yield complete(f"head before a listing: {name}", on(kind="head", **words), requests=3, **one)
    for name, words in {
        "silence": {"do": "silence"},
        "error": query_failed,
        "no head": {"do": "error", "code": 162, "text": f"{HMDS}No head timestamp"},
        "200": none,
        "pacing": {"do": "error", "code": PACED[1][0], "text": PACED[1][1]},
    }.items():
        patience = replace(PATIENT, answer=0.6) if name in ("silence", "pacing") else PATIENT
        script = on(times=ALWAYS, kind="head", **words)
        yield complete(f"head before a listing: {name}, always", script, requests=4, patience=patience, **one)
    script = on(times=ALWAYS, kind="head", **query_failed), on(nth=4, **TOO_LONG_ERROR)
    # 68 years, the younger half, the older half twice
    yield complete("head before a listing: error, and daily bars too long", *script, requests=3 + 4, **one)


def wrong_heads() -> Iterator[Row]:
    """Yield head timestamps that are not true: three windows have bars, and three before them have none."""
    for kind, since, requests in (
        ("a later bar", "20240305-14:30:00", 9),  # which proves it wrong; three windows are asked twice
        ("an older session", "20240229-14:30:00", 3 + 2 * 2 + 1),  # two may have bars, and the third lies before it
    ):
        head = on("head", kind="head", times=ALWAYS, since=since)
        yield partial(f"head, of {kind}", head, requests=requests, said=MISSING, job=LISTING)


def limits() -> Iterator[Row]:
    """Yield what gateways that serve less at once make of it: a few refusals, then the largest windows they serve."""
    for code, text in TOO_LONG[::3]:
        too_long = {"do": "error", "code": code, "text": text}
        year = on(times=ALWAYS, longer="1 Y", **too_long)
        # Refused: 13 years, 6 and 3; served: the last two days, and twelve times a year.
        yield complete(f"{code} {_brief(text)}, beyond a year", year, requests=3 + 13, job=TWELVE_YEARS_AT_ONCE)
        session = on(times=ALWAYS, longer="3 D", **too_long)
        # Refused: 12 sessions and 6; served: four times three.
        yield complete(f"{code} {_brief(text)}, beyond 3 sessions", session, requests=2 + 4, job=SESSIONS_AT_ONCE)


def schedules() -> Iterator[Row]:
    """Yield what goes wrong with the schedule that says whether holes in the bars are days without a session."""
    query_failed = {"do": "error", "code": 162, "text": f"{HMDS}Query failed"}
    none = {"do": "error", "code": 200, "text": "No security definition has been found for the request"}
    for name, words in {
        "drop": {"do": "drop", "bytes": 40},
        "lost, 1101": {"do": "lost", "seconds": 0.05, "code": 1101},
        "lost, 1102": {"do": "lost", "seconds": 0.05, "code": 1102},
        "refuse": {"do": "refuse", "seconds": 0.1},
        "silence": {"do": "silence"},
        "error": query_failed,
        "200": none,
        "busy": {"do": "error", "code": BUSY[0][0], "text": BUSY[0][1]},
    }.items():
        yield complete(
            f"schedule: {name}", on(kind="schedule", **words), requests=1, job=HOLIDAYS, patience=IMPATIENT
        )  # fmt: skip
    # The holes are then asked for again, both at once, and are empty.
    refused = on(times=ALWAYS, kind="schedule", **query_failed)
    yield complete("schedule: error, always", refused, requests=2, job=HOLIDAYS)
    cut = on("drop", times=ALWAYS, kind="schedule", bytes=40)
    yield complete("schedule: drop, always", cut, requests=2, job=HOLIDAYS)


# --- every row of the table of codes (ib.md 1.7)

MUTE = [  # these end no request: the answer may still come; where it does not, the request is unanswered
    (110, "The price does not conform to the minimum price variation"),
    (162, f"{HMDS}API historical data query cancelled: 7"),
    (162, f"{SPANISH}Consulta de datos históricos de la API cancelada: 7"),
    (165, f"{HMDS}HMDS server connection was successful."),
    (202, "Order Canceled - reason:"),
    (366, "No historical data query found for ticker id:7"),
    (1102, "Connectivity between IB and Trader Workstation has been restored - data maintained."),
    (2103, "Market data farm connection is broken:usfarm"),
    (2104, "Market data farm connection is OK:usfarm"),
    (2106, "HMDS data farm connection is OK:ushmds"),
    (2107, "HMDS data farm connection is inactive but should be available upon demand.ushmds"),
    (2108, "Market data farm connection is inactive but should be available upon demand.usfarm"),
    (2109, "Order Event Warning:Attribute 'Outside Regular Trading Hours' is ignored"),
    (2119, "Market data farm is connecting:usfarm"),
    (2157, "Sec-def data farm connection is broken:secdefnj"),
    (2158, "Sec-def data farm connection is OK:secdefnj"),
    (2174, "Warning: You submitted request with date-time attributes without explicit time zone."),
    (10167, "Requested market data is not subscribed. Displaying delayed market data."),
    (10187, "Failed to request historical ticks:No data"),
    (10189, "Failed to request tick-by-tick data:No market data permissions for NASDAQ STK"),
    (10225, "Bust event occurred, current subscription is deactivated. Please resubscribe real-time bars."),
]
DOWN = [
    (1100, "Connectivity between IB and Trader Workstation has been lost.", "code 1100"),
    (2105, "HMDS data farm connection is broken:ushmds", "farm ushmds is broken"),
    (2110, "Connectivity between Trader Workstation and server is broken.", "code 2110"),
]
TOO_LONG_ERROR = {"do": "error", "code": TOO_LONG[0][0], "text": TOO_LONG[0][1]}
BACK_ANEW = {"do": "error", "code": 1101, "text": "Connectivity between IB and TWS has been restored - data lost."}


def codes() -> Iterator[Row]:
    for code, text, said in FINAL:
        script = {"do": "error", "code": code, "text": text}
        name = f"{code} {_brief(text)}"
        yield failed(f"{name}, always", on(times=ALWAYS, **script), requests=1, said=said)
    for code, text, said in FINAL[::6]:
        script, name = {"do": "error", "code": code, "text": text}, f"{code} {_brief(text)}"
        yield partial(f"{name}, once in the middle", on(nth=2, **script), requests=2, said=said, job=SESSIONS)
    for code, text, said in PASSING:
        yield from _until(code, text, 1, HALVED, said)
    for code, text in PACED:
        yield from _until(code, text, 1, TRIES, "too many requests within ten minutes")
    for code, text in BUSY:
        yield from _until(code, text, 1, BREAKS + 1, "open requests too")
    for code, text in TOO_LONG:
        yield from _until(code, text, 2, 3, "request less")  # 26 days, 13, 1
    for code, text in BROKEN:
        yield from _until(code, text, 1, BREAKS + 1, "is not connected")
    for code, text in MUTE:
        mute = {"do": "error", "code": code, "text": text}
        yield complete(f"{code} {_brief(text)}, once", on(**mute), requests=2, patience=IMPATIENT)
    for code, text in MUTE[1:7]:
        yield from list(_until(code, text, 1, 2, UNANSWERED, patience=IMPATIENT, tries=2))[1:]
    for code, text, said in DOWN:
        script = {"do": "error", "code": code, "text": text}
        yield failed(f"{code} for ever", on(**script), requests=1, said=said, patience=SHORT)
    yield complete("1101, once", on(**BACK_ANEW), requests=2)
    yield failed("1101, always", on(times=ALWAYS, **BACK_ANEW), requests=HALVED, said="no bars and no response")
    yield complete("162 no data, once", on(**NO_DATA), requests=2)
    yield complete("162 no data, once in the middle", on(nth=2, **NO_DATA), requests=5, job=SESSIONS)
    yield complete("162 no data in German, once", on(**KEIN_DATA), requests=2)
    yield failed("162 no data in German, always", on(times=ALWAYS, **KEIN_DATA), requests=2, said=MISSING)
    yield failed("162 no data, always", on(times=ALWAYS, **NO_DATA), requests=2, said=MISSING)
    yield partial(
        "162 no data, twice for one window", on(nth=2, **NO_DATA), on(nth=5, **NO_DATA), requests=5,
        said=MISSING, job=SESSIONS,
    )  # fmt: skip


def lacking() -> Iterator[Row]:
    """Yield answers that lack bars: once, which another window brings; and always, which is told."""
    for place in ("first", "middle", "last"):
        for bars in (1, 5):  # of 26, of which eight are before what is asked for
            cut = on("cut", place=place, bars=bars + 8 * (place == "first"))
            yield complete(f"cut, {bars} {place}, once", cut, requests=2)
        for bars in (6, 40, 200):
            cut = on("cut", nth=2, place=place, bars=bars)
            yield complete(f"cut, {bars} minutes {place}, once", cut, requests=5, job=SESSIONS)
            cut = on("cut", place=place, bars=bars)
            yield complete(f"cut, {bars} quarters {place}, once", cut, requests=2, job=QUOTES)
    # As by a gateway that serves 2,000 bars at once, the newest ones.
    least = on("cut", place="first", bars=2680), on("cut", nth=2, place="first", bars=680)
    yield complete("cut to 2,000 bars each time", *least, requests=3, job=SESSIONS_AT_ONCE)
    for name, since, until in DAYS:
        lack = on("lack", times=ALWAYS, since=f"{since}-00:00:00", until=f"{until}-00:00:00")
        yield partial(f"lacks {name}", lack, requests=2, said=MISSING)
    for name, day, since, until in STRETCHES:
        lack = on("lack", times=ALWAYS, since=f"{day}-{since}:00", until=f"{day}-{until}:00")
        yield partial(f"lacks {name} of minutes", lack, requests=5, said=MISSING, job=SESSIONS)


def lacking_others() -> Iterator[Row]:
    """Yield answers that lack bars, of other sizes, hours and kinds of instruments."""
    for job, bars in zip(OTHERS, (1, 2, 1, 12, 0, 12, 8, 8, 3), strict=True):  # evenings may be quiet
        name = str(job.series).split("/TRADES")[0]
        for place in ("middle", "last") if bars else ():
            yield complete(
                f"cut, {bars} {place} of {name}, once", on("cut", place=place, bars=bars), requests=2, job=job
            )
    for job, since, until in LACKS:
        lack = on("lack", times=ALWAYS, since=f"{since}:00", until=f"{until}:00")
        yield partial(f"lacks {since} of {job.series}", lack, requests=2, said=MISSING, job=job)

    refused = on("error", times=ALWAYS, kind="schedule", code=162, text=f"{HMDS}Query failed")
    for job, since, until in NO_HOLIDAYS:
        lack = on("lack", times=ALWAYS, since=f"{since}:00", until=f"{until}:00")
        name = f"lacks {since} of {job.series}, and no schedule says that it traded"
        yield partial(name, lack, refused, requests=2, said=MISSING, job=job)


NO_HOLIDAYS = (
    (GLOBEX, "20240308-15:00", "20240308-17:00"), (GLOBEX, "20240305-23:00", "20240307-23:00"),
    (EUROS, "20240307-15:00", "20240307-18:00"), (EUROS, "20240304-22:15", "20240307-22:00"),
)  # fmt: skip
LACKS = (
    (WEEKS, "20120604-00:00", "20120609-00:00"), (WEEKS, "20120709-00:00", "20120714-00:00"),
    (WEEKS, "20120917-00:00", "20120929-00:00"),
    (HOURLY, "20240304-14:30", "20240304-15:00"), (HOURLY, "20240311-15:00", "20240311-16:00"),
    (HOURLY, "20240315-19:00", "20240315-20:00"),
    (FOURS, "20240304-14:30", "20240304-17:00"), (FOURS, "20240315-16:00", "20240315-20:00"),
    (HALF_DAY, "20231124-17:00", "20231124-18:00"), (HALF_DAY, "20231124-14:30", "20231124-18:00"),
    (EVENINGS, "20231124-16:00", "20231124-18:00"), (EVENINGS, "20231122-14:30", "20231122-21:00"),
    (BREAKS_AT_NOON, "20240306-03:30", "20240306-06:00"), (BREAKS_AT_NOON, "20240315-05:00", "20240315-06:00"),
    (GLOBEX, "20240308-15:00", "20240308-17:00"), (GLOBEX, "20240311-13:00", "20240311-16:00"),
    (EUROS, "20240307-15:00", "20240307-18:00"), (EUROS, "20240310-21:00", "20240311-02:00"),
    (COINS, "20240309-03:00", "20240309-06:00"), (COINS, "20240310-00:00", "20240311-00:00"),
)  # fmt: skip
DAYS = (
    ("the first session", "20121203", "20121204"), ("the first two", "20121203", "20121205"),
    ("one in the middle", "20121211", "20121212"), ("a week", "20121210", "20121215"),
    ("the last session", "20121228", "20121229"), ("the last week", "20121221", "20121229"),
)  # fmt: skip
STRETCHES = (
    ("the end of a morning", "20240308", "16:30", "17:00"),
    ("the first session", "20240307", "14:30", "21:00"), ("the first hour", "20240307", "14:30", "15:30"),
    ("forty minutes", "20240308", "16:00", "16:40"), ("the last minutes", "20240311", "19:50", "20:00"),
    ("a session", "20240311", "13:30", "20:00"), ("the last hour", "20240312", "19:00", "20:00"),
)  # fmt: skip


def doubted() -> Iterator[Row]:
    """Yield 200 where it may be false: for a known contract once, and until an outage is over for a while."""
    none = {"do": "error", "code": 200, "text": "No security definition has been found for the request"}
    lost = on("lost", seconds=0.05, code=1101)
    for code, text, said in UNKNOWN:
        script = {"do": "error", "code": code, "text": text}
        yield complete(f"200 {_brief(text)}, once", on(**script), requests=2)
        yield complete(f"200 {_brief(text)}, once in the middle", on(nth=2, **script), requests=5, job=SESSIONS)
        yield failed(f"200 {_brief(text)}, always", on(times=ALWAYS, **script), requests=2, said=said)
    for code in (1101, 1102):
        script = on(**none), on("lost", seconds=0.05, code=code)
        yield complete(f"200 just before the link is lost, {code}", *script, requests=2)
    yield complete("200 just before the socket breaks", on(**none), on("refuse", seconds=0.05), requests=2)
    yield complete("200 after the link was lost", lost, on(nth=2, **none), requests=3)
    yield complete("200 after a broken socket", on("drop", bytes=9), on(nth=2, **none), requests=3)
    yield complete("200 while the link is down", on("lost", seconds=0.05, code=1102), on(**none), requests=2)
    yield complete("200 while a farm is broken", on("notice", code=2105), on(**none),
                   on("notice", 2, code=2106), on("lost", seconds=0.05, code=1102), requests=2)  # fmt: skip
    yield failed(
        "200 after the link was lost, always", lost, on(nth=2, times=ALWAYS, **none), requests=3, said="check symbol"
    )


def _until(code: int, text: str, extra: int, always: int, said: str, **words: Any) -> Iterator[Row]:
    """Yield the rows of a code that asking again, `extra` requests more, gets over."""
    script, name = {"do": "error", "code": code, "text": text}, f"{code} {_brief(text)}"
    yield complete(f"{name}, once", on(**script), requests=1 + extra, **words)
    yield failed(f"{name}, always", on(times=ALWAYS, **script), requests=always, said=said, **words)


def _brief(text: str) -> str:
    return text.removeprefix(HMDS)[:30].strip()


def at_once() -> Iterator[Row]:
    """Yield two faults of one request."""
    nan = on("bad", value="nan")
    yield complete("garbage and a bad price", on("garbage"), nan, requests=2)
    yield complete("nothing and a bad price", on("empty"), nan, requests=2)
    yield complete("a drop of a bad price", on("drop", bytes=900), nan, requests=2)
    yield complete("a bad price, twice", on("twice"), nan, requests=2)


ROWS = [
    row
    for rows in (
        harmless, untrue, shifted, unset, unanswered, broken, farms, connections, other_requests, heads, wrong_heads,
        limits, schedules, codes, lacking, lacking_others, doubted, at_once,
    )
    for row in rows()
]  # fmt: skip


# --- a download under a script, and the law


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """End everything, with the stacks of all threads, where a test hangs."""
    faulthandler.dump_traceback_later(300, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="module")
def vendor(sample: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return what the gateway serves: twelve sessions of minutes, and thirteen years of days."""
    bars = {
        str(MINUTES): ("2024-03-04", "2024-03-19"),
        str(FOREX): ("2024-03-04", "2024-03-08"),
        str(DOLLARS): ("2023-12-18", "2024-01-05"),
        str(LISTED): ("2024-03-04", "2024-03-15"),
        **{str(job.series): (f"{job.since}", f"{job.until}") for job in OTHERS[3:]},
    }
    store = store_with(tmp_path_factory.mktemp("vendor"), bars)
    _shut(store, DOLLARS, CHRISTMAS)
    span = Span.of_dates(date(2000, 3, 1), date(2013, 3, 1))
    store.write(DAILY, span, sample.read(DAILY, span), contract=sample.manifest(DAILY).contract)
    for job in OTHERS[:3]:  # which the gateway makes of smaller bars
        made = Store(tmp_path_factory.mktemp("made"))
        with serving(store, job, PATIENT) as (source, _):
            assert download(made, source, job.series, (job.since, job.until)).complete
        store.write(job.series, made.manifest(job.series).coverage[0], made.read(job.series))
    return store


def _shut(store: Store, series: Series, days: tuple[date, ...]) -> None:
    """Take the bars of some days out of a store, as where the exchange was shut."""
    first, bars = store.manifest(series).coverage[0], store.read(series)
    gone = [span_of_sessions(series, day, day) for day in days]
    kept = [not any(day.start <= moment < day.end for day in gone) for moment in bars["time"].to_pylist()]
    store.write(series, first, bars.filter(pa.array(kept)), revise=True)


@pytest.fixture(scope="module")
def undisturbed(vendor: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Job, tuple[IbSource, str]]]:
    """Yield, for each job, a source of the next day, without faults, and the content of a store that it filled."""
    found = {}
    with ExitStack() as opened:
        for job in JOBS:
            source, _ = opened.enter_context(serving(vendor, job, PATIENT, later=NEXT_DAY))
            store = Store(tmp_path_factory.mktemp("undisturbed"))
            assert download(store, source, job.series, (job.since, job.until)).complete
            found[job] = source, store.manifest(job.series).content
        yield found


@contextmanager
def serving(
    vendor: Store, job: Job, patience: Patience, *script: dict[str, Any], later: timedelta = LATER
) -> Iterator[tuple[IbSource, Gateway]]:
    now = datetime.combine(job.until, time(), UTC) + later
    with (
        Gateway(vendor, clock=lambda: now, faults=Faults.of(list(script)), time_scale=100, shut=job.shut) as gateway,
        connect(
            f"{gateway.address}?limits={job.limits}", patience=patience, time_scale=100, clock=lambda: now
        ) as source,
    ):
        yield source, gateway


def run(
    vendor: Store, store: Store, job: Job, patience: Patience, *script: dict[str, Any], tries: int = TRIES
) -> DownloadReport:
    persistence = Persistence(tries=tries, breaks=BREAKS, pause=0.001, pacing_pause=0.001)
    with serving(vendor, job, patience, *script) as (source, gateway):
        report = download(store, source, job.series, (job.since, job.until), persistence=persistence)
        assert gateway.violations == 0
        return report


def assert_honest(report: DownloadReport, store: Store, vendor: Store, job: Job) -> None:
    """Check that nothing false is stored, and that each missing bar lies in what the report calls a gap or empty."""
    (one,) = report.series
    true, stored = true_bars(vendor, job), bars_of(store, job.series)
    said = union([*one.gaps, *one.confirmed_empty])

    assert {**true, **stored} == true
    assert one.bars == len(stored)
    assert [moment for moment in true.keys() - stored if not any(gap.start <= moment < gap.end for gap in said)] == []


@cache
def true_bars(vendor: Store, job: Job) -> dict[datetime, tuple[Any, ...]]:
    return bars_of(vendor, job.series, span_of_sessions(job.series, job.since, job.until))


def bars_of(store: Store, series: Series, span: Span | None = None) -> dict[datetime, tuple[Any, ...]]:
    try:
        bars = store.read(series, span)
    except NoBars:
        return {}
    # Moments without a zone are made several times faster than with one.
    stamps = [moment.replace(tzinfo=UTC) for moment in bars["time"].cast(pa.timestamp("us")).to_pylist()]
    columns = [
        column.to_pylist() for name, column in zip(bars.column_names, bars.columns, strict=True) if name != "time"
    ]
    return dict(zip(stamps, zip(stamps, *columns, strict=True), strict=True))


def assert_mended(store: Store, job: Job, undisturbed: dict[Job, tuple[IbSource, str]]) -> None:
    """Check that a download of the next day without faults ends with the content of one that never saw any."""
    source, content = undisturbed[job]
    report = download(store, source, job.series, (job.since, job.until))

    assert (report.series[0].status, report.series[0].errors) == ("complete", ())
    assert store.manifest(job.series).content == content


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name.replace(" ", "-")) for row in ROWS])
def test_a_download_under_faults(row, vendor, undisturbed, tmp_path, caplog):
    store, script = Store(tmp_path), _with_sizes(row.script, vendor)

    if row.status == "no connection":
        with pytest.raises(NoConnection, match=row.said):
            run(vendor, store, row.job, row.patience, *script)
    else:
        report = run(vendor, store, row.job, row.patience, *script, tries=row.tries)
        (one,) = report.series
        came = (one.status, report.requests, one.quarantined, report.exit_code)
        assert came == (row.status, row.requests, row.quarantined, row.exit_code), one.errors
        assert row.said in " ".join(one.errors)
        assert_honest(report, store, vendor, row.job)
        assert one.status != "complete" or store.manifest(row.job.series).content == undisturbed[row.job][1]

    assert_mended(store, row.job, undisturbed)
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


def test_volumes_averages_and_counts_that_are_unset_are_null_and_prices_as_they_are(vendor, tmp_path):
    store = Store(tmp_path)

    report = run(vendor, store, MONTH, PATIENT, on("unset", times=ALWAYS))

    asked = span_of_sessions(MONTH.series, MONTH.since, MONTH.until)
    assert report.complete
    assert store.read(DAILY).select(range(5)).equals(vendor.read(DAILY, asked).select(range(5)))
    assert [store.read(DAILY)[name].null_count for name in ("volume", "average", "trades")] == [
        report.series[0].bars
    ] * 3


def _with_sizes(script: tuple[dict[str, Any], ...], vendor: Store) -> list[dict[str, Any]]:
    """Return the script, in which fewer than no bytes are counted from the end of the answer for the month."""
    if not any(fault.get("bytes", 0) < 0 for fault in script):
        return list(script)
    with Gateway(vendor) as gateway, RawClient(gateway.port) as client:
        client.ask_bars(7, end="20121229-00:00:00", duration="26 D")
        length = 4 + sum(len(field.encode()) + 1 for field in client.answer(7))
    return [{**fault, "bytes": length + fault["bytes"]} if "bytes" in fault else fault for fault in script]


# --- nights: what the vendor says of bars that are stored


@dataclass(frozen=True)
class Night:
    """A download up to a session, on the day after it, and what is to come of it."""

    until: date
    script: tuple[dict[str, Any], ...] = ()
    status: str = "complete"
    requests: int = 1
    revised: int = 0  # stored bars
    said: str = ""  # in the first error
    accept: bool = False


@dataclass(frozen=True)
class Story:
    """Nights, and the faults in what is stored in the end: those of a vendor that goes on to say so."""

    name: str
    nights: tuple[Night, ...]
    truth: tuple[dict[str, Any], ...] = ()


SINCE, FRIDAY, MONDAY, TUESDAY = date(2012, 11, 1), date(2012, 12, 14), date(2012, 12, 17), date(2012, 12, 18)
STORED = 31  # sessions from the first to Friday
A_WORD_MORE = {"said": "--accept-revision", "status": "partial"}


def always(do: str, **words: Any) -> dict[str, Any]:
    return on(do, times=ALWAYS, **words)


def stories() -> Iterator[Story]:
    first = Night(FRIDAY)
    for bar in (2, 4, 5, 6):  # of six: the last of them is new, and two have settled
        for column, add in (("volume", 1), ("high", 1)):
            revised = on("revise", bar=bar, column=column, add=add)
            yield Story(
                f"revised {column} of bar {bar}", (first, Night(MONDAY, (revised,), revised=1)), ((bar, column, add),)
            )
    moved, later = (on("revise", bar=bar, column="high", add=50) for bar in (5, 6))
    conflict = Night(MONDAY, (moved,), **A_WORD_MORE)
    yield Story("a settled price that moved", (first, conflict))
    yield Story(
        "a settled price that moved, and then one share more",
        (first, conflict, Night(TUESDAY, (on("revise", bar=3, column="volume", add=1),), revised=1)),
        ((3, "volume", 1),),
    )
    yield Story(
        "a settled price that moved, accepted on the next night",
        (
            first,
            conflict,
            Night(TUESDAY, (later,), revised=1, accept=True),
        ),
        ((6, "high", 50),),
    )
    yield Story(
        "a settled price and a volume",
        (first, replace(conflict, script=(moved, on("revise", bar=6, column="volume", add=1)), revised=1)),
        ((6, "volume", 1),),
    )
    for accept in (False, True):
        words: dict[str, Any] = {"requests": 2, "revised": STORED, "accept": accept}
        name = ", accepting" if accept else ""
        for ratio in (0.25, 0.95, 10.0):
            split = always("rescale", ratio=ratio)
            yield Story(f"a split by {ratio}{name}", (first, Night(MONDAY, (split,), **words)), (("rescale", ratio),))
            revised = on("revise", bar=4, column="high", add=1)
            yield Story(
                f"a split by {ratio} and a bar revised{name}",
                (first, Night(MONDAY, (split, revised), **words)),
                (("rescale", ratio),),
            )
        for ratio in (0.01, 100):
            unit = always("recount", ratio=ratio)
            yield Story(f"volumes times {ratio}{name}", (first, Night(MONDAY, (unit,), **words)), (("recount", ratio),))


@pytest.mark.parametrize("story", [pytest.param(story, id=story.name.replace(" ", "-")) for story in stories()])
def test_nights(story, vendor, tmp_path):
    store = Store(tmp_path)

    for night in story.nights:
        report = on_the_night(vendor, store, night)
        (one,) = report.series
        came = (one.status, report.requests, len(one.revisions), report.exit_code)
        assert came == (night.status, night.requests, night.revised, 3 if night.said else 0), one.errors
        assert night.said in " ".join(one.errors)
        assert one.last == datetime.combine(night.until, time(), UTC)

    true = vendor.read(DAILY, span_of_sessions(DAILY, SINCE, night.until))
    assert store.read(DAILY).to_pylist() == changed(true.to_pylist(), *story.truth)


# A split or another unit between two requests of one download, from the nth on: of minutes, a session a request.
SCALES = (("rescale", 0.25), ("rescale", 1.5), ("rescale", 0.9), ("recount", 0.01))
BETWEEN = [(do, ratio, nth) for do, ratio in SCALES for nth in (2, 3, 4)]


@pytest.mark.parametrize(("do", "ratio", "nth"), BETWEEN)
def test_a_split_between_two_requests_leaves_one_scale(do, ratio, nth, vendor, tmp_path):
    store = Store(tmp_path)

    report = run(vendor, store, SESSIONS, PATIENT, on(do, nth, ALWAYS, ratio=ratio))

    assert (report.series[0].status, report.exit_code) == ("complete", 0)
    assert report.requests == nth + 1 + 4  # those before it and the first after it, one that is compared, all again
    true = vendor.read(MINUTES, span_of_sessions(MINUTES, SESSIONS.since, SESSIONS.until))
    assert prices_and_volumes(store.read(MINUTES).to_pylist()) == prices_and_volumes(
        changed(true.to_pylist(), (do, ratio))
    )


def prices_and_volumes(bars: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(bar[name] for name in ("time", "open", "high", "low", "close", "volume")) for bar in bars]


def test_a_split_too_small_to_jump_shows_when_a_long_download_ends(tmp_path):
    future = store_with(tmp_path / "future", {str(MINUTES): ("2024-02-20", "2024-03-19")})
    job, store = Job(MINUTES, date(2024, 2, 20), date(2024, 3, 19)), Store(tmp_path / "bars")

    report = run(future, store, job, PATIENT, on("rescale", 12, ALWAYS, ratio=0.995))

    assert report.complete
    assert report.requests == 21 + 1 + 21 + 1
    assert prices_and_volumes(store.read(MINUTES).to_pylist()) == prices_and_volumes(
        changed(future.read(MINUTES).to_pylist(), ("rescale", 0.995))
    )


@pytest.mark.parametrize("ratio", [0.25, 1.5])
def test_a_split_between_a_stop_and_going_on_within_the_hour_leaves_one_scale(ratio, vendor, tmp_path):
    store, newest = Store(tmp_path), replace(SESSIONS, since=date(2024, 3, 11))
    run(vendor, store, newest, PATIENT)

    report = run(vendor, store, SESSIONS, PATIENT, on("rescale", times=ALWAYS, ratio=ratio))

    assert (report.complete, report.requests) == (True, 1 + 1 + 4)
    true = vendor.read(MINUTES, span_of_sessions(MINUTES, SESSIONS.since, SESSIONS.until))
    assert prices_and_volumes(store.read(MINUTES).to_pylist()) == prices_and_volumes(
        changed(true.to_pylist(), ("rescale", ratio))
    )


@pytest.mark.parametrize("ratio", [0.25, 0.97])
@pytest.mark.parametrize(("since", "until"), [(MONTH.since, date(2012, 12, 14)), (date(2012, 12, 14), MONTH.until)])
def test_a_session_beside_is_read_again_where_that_costs_no_request(ratio, since, until, vendor, tmp_path):
    store = Store(tmp_path)
    run(vendor, store, replace(MONTH, since=since, until=until), PATIENT)

    report = run(vendor, store, MONTH, PATIENT, on("rescale", times=ALWAYS, ratio=ratio))

    assert (report.complete, report.requests) == (True, 1 + 1)
    true = vendor.read(DAILY, span_of_sessions(DAILY, MONTH.since, MONTH.until))
    assert store.read(DAILY).to_pylist() == changed(true.to_pylist(), ("rescale", ratio))


# --- bars that a request, or the moment of it, cuts


@dataclass(frozen=True)
class Cut:
    """Downloads of a series, each up to a moment of the gateway's clock, from a gateway that cuts bars where asked."""

    text: str
    since: str
    until: str
    asked: tuple[tuple[str, str, str], ...]  # first and last session, and when
    last: str  # the start of the last bar that is stored in the end, by the clock of the exchange


SPRING = ("2024-03-04", "2024-03-07")
WEEKS = (
    Cut("AAPL/1week", "2024-01-02", "2024-03-28", (("2024-01-10", "2024-02-21", "2024-04-10T12:00"),), "2024-02-23"),
    Cut(
        "AAPL/1week", "2024-01-02", "2024-03-28",
        (("2024-01-10", "2024-02-21", "2024-02-22T12:00"), ("2024-01-10", "2024-03-06", "2024-03-07T12:00")),
        "2024-03-01",
    ),
    Cut(
        "AAPL/1month", "2023-10-02", "2024-03-28",
        (("2023-12-13", "2024-01-10", "2024-01-11T12:00"), ("2023-11-15", "2024-02-14", "2024-03-01T12:00")),
        "2024-02-29",
    ),
    Cut(
        "ES-FUT-CME-USD-202406/1week", "2024-02-05", "2024-03-28",
        (("2024-02-14", "2024-03-06", "2024-03-11T00:00"),), "2024-03-08",
    ),
    Cut(
        "EUR-CASH/1week", "2024-02-05", "2024-03-28",
        (("2024-02-14", "2024-03-06", "2024-03-10T23:00"),), "2024-03-01",
    ),
)  # fmt: skip


def hours(text: str, dates: tuple[str, str], last: str, *moments: str) -> Cut:
    return Cut(text, *dates, tuple((*dates, moment) for moment in moments), last)


HOURS = (
    # Bars of two hours in New York begin at 09:30, 10:00, 12:00, 14:00: in UTC at 15:00, 17:00, 19:00 in winter.
    hours("AAPL/2hours", SPRING, "2024-03-07T10:00", "2024-03-07T18:00"),
    hours("AAPL/2hours", ("2024-03-11", "2024-03-14"), "2024-03-14T10:00", "2024-03-14T17:00"),
    hours("AAPL/3hours", SPRING, "2024-03-07T12:00", "2024-03-07T20:50"),
    hours("AAPL/3hours", SPRING, "2024-03-07T15:00", "2024-03-07T21:31"),
    hours("AAPL/4hours", ("2024-07-01", "2024-07-03"), "2024-07-03T12:00", "2024-07-03T17:31"),  # a half-day
    hours("AAPL/4hours/TRADES/all", SPRING, "2024-03-07T08:00", "2024-03-07T20:10"),
    hours("AAPL/8hours", SPRING, "2024-03-06T09:30", "2024-03-07T20:59"),
    hours("AAPL/8hours", SPRING, "2024-03-07T09:30", "2024-03-08T02:00"),
    hours("ES-FUT-CME-USD-202406/4hours", SPRING, "2024-03-07T08:00", "2024-03-07T16:00", "2024-03-07T19:00"),
    hours("VOD-STK-LSE-GBP/1hour", SPRING, "2024-03-07T15:00", "2024-03-07T16:20"),
    hours("RELIANCE-STK-NSE-INR/1hour", SPRING, "2024-03-07T09:15", "2024-03-07T05:10"),  # half past, in UTC
)


@pytest.mark.parametrize("cut", [pytest.param(cut, id=f"{cut.text} at {cut.asked[-1][2]}") for cut in WEEKS + HOURS])
def test_no_bar_is_stored_as_far_as_it_had_grown(cut, tmp_path):
    series, store = Series.parse(cut.text), Store(tmp_path / "bars")
    smaller = replace(series, size=BarSize.parse("1day" if series.size.daily else "5mins"))
    upstream = store_with(tmp_path / "vendor", {str(smaller): (cut.since, cut.until)})

    for since, until, at in cut.asked:
        now = datetime.fromisoformat(f"{at}+00:00")
        with (
            Gateway(upstream, clock=lambda at=now: at, faults=Faults.of([always("clip")])) as gateway,
            connect(gateway.address) as source,
        ):
            report = download(store, source, series, (date.fromisoformat(since), date.fromisoformat(until)))
        assert report.complete, report.series[0].errors

    true = whole_bars_of(upstream, series, cut)
    stored = bars_of(store, series)
    first = min(stored)
    assert stored == {moment: bar for moment, bar in true.items() if first <= moment <= max(stored)}
    zone = UTC if series.size.daily else ZoneInfo(time_zone(hours_of(series.instrument)))
    assert max(stored).astimezone(zone).replace(tzinfo=None) == datetime.fromisoformat(cut.last)


def whole_bars_of(upstream: Store, series: Series, cut: Cut) -> dict[datetime, tuple[Any, ...]]:
    """Return the bars of a series as a gateway that is asked for all of them long after has them."""
    now, store = datetime(2025, 6, 2, 12, tzinfo=UTC), Store(upstream.root.parent / "true")
    with Gateway(upstream, clock=lambda: now) as gateway, connect(gateway.address) as source:
        download(store, source, series, (date.fromisoformat(cut.since), date.fromisoformat(cut.until)))
    return bars_of(store, series)


def test_a_week_that_is_stored_in_two_parts_is_told_and_made_whole(tmp_path):
    """As 0.1.0 left them: half a week as the end of what was asked, and the other half as the start of the next."""
    cut = Cut("AAPL/1week", "2024-01-02", "2024-03-22", (), "")
    weekly, store = Series.parse(cut.text), Store(tmp_path / "bars")
    upstream = store_with(tmp_path / "vendor", {str(DAILY): (cut.since, cut.until)})
    true = [row for row in whole_bars_of(upstream, weekly, cut).values() if date(2024, 2, 5) <= row[0].date()]
    friday = next(row for row in true if row[0].date() == date(2024, 2, 23))
    halves = [
        (datetime(2024, 2, 21, tzinfo=UTC), *friday[1:5], 7.0, *friday[6:]),
        (friday[0], *[99.0] * 4, 3.0, 99.0, 5),
    ]
    rows = sorted([*(row for row in true if row is not friday), *halves])
    store.write(weekly, Span.of_dates("2024-02-05", cut.until), table_of(rows), source="ib")

    told = [finding.text for finding in audit_of(store, weekly).findings if finding.level == "reject"]
    with Gateway(upstream, clock=lambda: datetime(2024, 4, 10, 12, tzinfo=UTC)) as gateway:
        report = download(store, gateway.address, weekly, start="2024-02-05", end=cut.until).series[0]
    again = audit_of(store, weekly)

    assert ["2024-02-23" in text and "download" in text for text in told] == [True]
    assert (report.status, report.requests, len(report.revisions)) == ("complete", 1, 2)
    assert list(bars_of(store, weekly).values()) == true
    assert [finding.text for finding in again.findings if finding.level == "reject"] == []
    assert store.read(weekly, revision=1).num_rows == len(rows)


def audit_of(store: Store, series: Series) -> SeriesAudit:
    *_, audit = verify(store.root, [series])
    return audit


# --- hours of products, auctions and odd sessions


@dataclass(frozen=True)
class Market:
    """An instrument with its trading hours of each day, by its own clock, and bars at odd times."""

    text: str
    zone: str
    daily: tuple[str, ...]  # ranges of a day as IB writes them; one that ends before it begins begins a day before
    ghosts: tuple[str, ...] = ()  # bars that no session has
    auctions: tuple[str, ...] = ()  # bars shortly after the close
    said: bool = True  # whether the contract has its hours
    until: str = "2359"  # when its day is over


NIKKEI, DAX = "NK-FUT-SGX-JPY-202406", "DAX-FUT-EUREX-EUR-202406"
MARKETS = (
    Market(f"{NIKKEI}/30mins", "Asia/Singapore", ("0730-1430", "1500-0500")),
    Market(f"{NIKKEI}/30mins/TRADES/all", "Asia/Singapore", ("0730-1430", "1500-0500")),
    Market(f"{NIKKEI}/30mins", "Asia/Singapore", ("0730-1430",), said=False),
    Market(f"{DAX}/30mins/TRADES/all", "Europe/Berlin", ("0100-2200",)),
    Market(f"{DAX}/30mins/TRADES/all", "Europe/Berlin", ("0100-2200",), said=False),
    Market(f"{DAX}/30mins", "Europe/Berlin", ("0100-2200",)),
    Market("HSI-FUT-HKFE-HKD-202406/30mins", "Asia/Hong_Kong", ("0900-1200", "1300-1630")),
    Market("DAX-IND-EUREX-EUR/30mins", "Europe/Berlin", ("0900-1800",), said=False),
    Market("VOD-STK-LSE-GBP/5mins", "Europe/London", ("0800-1630",), auctions=("1630", "1635")),
    Market("VOD-STK-LSE-GBP/1hour", "Europe/London", ("0800-1630",)),
    Market("SAP-STK-IBIS-EUR/5mins", "Europe/Berlin", ("0900-1730",), auctions=("1735",), said=False),
    Market("VIX-IND-CBOE-USD/5mins", "America/New_York", ("0930-1600",), auctions=("1605", "1610"), said=False),
    Market("ES-FUT-CME-USD-202406/30mins", "America/Chicago", ("1700-1600",), ghosts=("1600", "1630"), until="1700"),
    Market("ES-FUT-CME-USD-202406/5mins/TRADES/all", "America/Chicago", ("1700-1600",), ghosts=("1625",), until="1700"),
    Market(
        "ZC-FUT-CBOT-USD-202405/15mins", "America/Chicago", ("1900-0745", "0830-1320"), ghosts=("0800",), until="1700"
    ),
)
MONDAY_4, THURSDAY_7 = date(2024, 3, 4), date(2024, 3, 7)


@pytest.mark.parametrize(
    "market", [pytest.param(m, id=f"{m.text}{'' if m.said else ' by the calendar'}") for m in MARKETS]
)
def test_bars_in_the_hours_of_the_product_are_taken_and_no_others(market, tmp_path):
    series, store = Series.parse(market.text), Store(tmp_path / "bars")
    true, ghosts, upstream = vendor_of(market, series, tmp_path)

    now = datetime(2024, 3, 20, 12, tzinfo=UTC)
    with Gateway(upstream, clock=lambda: now) as gateway, connect(gateway.address) as source:
        report = download(store, source, series, (MONDAY_4, THURSDAY_7), persistence=QUICK_RETRY)

    (one,) = report.series
    stored = bars_of(store, series)
    assert (one.status, one.quarantined, report.exit_code) == (("partial", 1, 3) if ghosts else ("complete", 0, 0)), one
    assert set(stored) & ghosts == set()
    zone = ZoneInfo(market.zone)
    days = Span(at_clock(MONDAY_4, "0000", zone), at_clock(THURSDAY_7, market.until, zone))
    assert {moment for moment in true if moment in days} - set(stored) == set()
    assert set(stored) <= true


QUICK_RETRY = Persistence(pause=0.001, pacing_pause=0.001)


def vendor_of(market: Market, series: Series, folder: Path) -> tuple[set[datetime], set[datetime], Store]:
    """Return the stamps of the true bars of thirty days, those of ghosts on one of them, and a store with all."""
    zone, step = ZoneInfo(market.zone), timedelta(seconds=series.size.seconds)
    true: set[datetime] = set()
    texts = []
    for day in (date(2024, 2, 29) + n * timedelta(days=1) for n in range(30)):
        if day.weekday() > 4:
            texts.append(f"{day:%Y%m%d}:CLOSED")
            continue
        ranges = []
        for text in market.daily:
            opens, closes = (datetime.combine(day, clock_of(part), zone) for part in text.split("-"))
            opens -= timedelta(days=(opens > closes))
            ranges.append(f"{opens:%Y%m%d:%H%M}-{closes:%Y%m%d:%H%M}")
            start = opens.astimezone(UTC)
            while start < closes.astimezone(UTC):
                true.add(start)
                start += step - timedelta(seconds=start.timestamp() % step.total_seconds())
        true |= {at_clock(day, clock, zone) for clock in market.auctions}
        texts.append(",".join(ranges))
    ghosts = {at_clock(date(2024, 3, 6), clock, zone) for clock in market.ghosts}
    details = ContractDetails(con_id=4711, time_zone=market.zone)
    if market.said:
        details = replace(details, trading_hours=";".join(texts), liquid_hours=";".join(texts))
    rows = [(moment, 10.0, 10.0, 10.0, 10.0, 5.0, 10.0, 1) for moment in sorted(true | ghosts)]
    upstream = Store(folder / "vendor")
    whole = Span(datetime(2024, 2, 28, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC))
    upstream.write(series, whole, table_of(rows), contract=details)
    return true, ghosts, upstream


def at_clock(day: date, clock: str, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, clock_of(clock), zone).astimezone(UTC)


def clock_of(text: str) -> time:
    return time(int(text[:2]), int(text[2:]))


ROLLING = Series.parse("ES-CONTFUT-CME-USD/1day")
ROLLS = (date(2024, 3, 14), date(2024, 3, 15), date(2024, 3, 18))


@pytest.mark.parametrize("same_hour", [False, True])
def test_a_continuous_future_is_replaced_whole_at_each_roll_and_says_so(same_hour, tmp_path):
    """The contract's number is another on each night, and so are all prices; or an hour after a download."""
    store, names = Store(tmp_path / "bars"), ("ESH4", "ESM4", "ESU4")
    reports = []

    for number, (name, until) in enumerate(zip(names, ROLLS, strict=True), 1):
        future = rolled(tmp_path / name, number, name)
        now = datetime.combine(ROLLS[0] if same_hour else until, time(12 + number), UTC) + timedelta(days=1)
        since = date(2024, 3, 7 - number) if same_hour else date(2024, 3, 4)
        with Gateway(future, clock=lambda at=now: at) as gateway, connect(gateway.address) as source:
            plan_download(store, source, ROLLING, (since, until))
            reports.append(download(store, source, ROLLING, (since, ROLLS[0] if same_hour else until)).series[0])

    assert [(one.status, one.requests, one.exit_code) for one in reports] == [("complete", 1, 0)] * 3
    assert [one.notes for one in reports] == [
        (),
        ("ES-CONTFUT-CME-USD rolled from contract 1 (ESH4) to 2 (ESM4)",),
        ("ES-CONTFUT-CME-USD rolled from contract 2 (ESM4) to 3 (ESU4)",),
    ]
    assert store.manifest(ROLLING).contract.con_id == 3
    last = span_of_sessions(ROLLING, since, ROLLS[0] if same_hour else ROLLS[2])
    assert store.read(ROLLING).equals(future.read(ROLLING, last))
    assert [revision.why for revision in store.revisions(ROLLING)] == [
        f"replaced whole; {one.notes[0]}" for one in reports[1:]
    ]


def test_a_continuous_future_is_replaced_by_a_contract_of_less_history(tmp_path):
    store, reports = Store(tmp_path / "bars"), []

    for number, since in enumerate((date(2024, 3, 1), date(2024, 3, 8)), 1):
        future, until = rolled(tmp_path / f"{number}", number, f"ES{number}", since), ROLLS[number - 1]
        now = datetime.combine(until, time(12), UTC) + timedelta(days=1)
        with Gateway(future, clock=lambda at=now: at) as gateway, connect(gateway.address) as source:
            reports.append(download(store, source, ROLLING, (date(2024, 3, 4), until)).series[0])

    assert [(one.status, one.requests, one.exit_code) for one in reports] == [("complete", 1, 0)] * 2
    assert store.read(ROLLING).equals(future.read(ROLLING, Span.of_dates(date(2024, 3, 8), ROLLS[1])))


def rolled(folder: Path, number: int, name: str, since: date = date(2024, 3, 1)) -> Store:
    """Return what the gateway serves of a continuous future whose front contract has a number."""
    bars = store_with(folder / "made", {str(ROLLING): ("2024-03-01", "2024-03-22")}, seed=number)
    store = Store(folder / "named")
    span = span_of_sessions(ROLLING, since, date(2024, 3, 22))
    details = ContractDetails(number, local_symbol=name, name="E-mini S&P 500", time_zone="America/Chicago")
    store.write(ROLLING, span, bars.read(ROLLING, span), contract=details)
    return store


def on_the_night(vendor: Store, store: Store, night: Night) -> DownloadReport:
    now = datetime.combine(night.until, time(12), UTC) + timedelta(days=1)
    persistence = Persistence(tries=TRIES, breaks=BREAKS, pause=0.001, pacing_pause=0.001)
    with (
        Gateway(vendor, clock=lambda: now, faults=Faults.of(list(night.script)), time_scale=100) as gateway,
        connect(gateway.address, patience=PATIENT, time_scale=100) as source,
    ):
        asked = (SINCE, night.until)
        return download(store, source, DAILY, asked, persistence=persistence, accept_revision=night.accept)


def changed(bars: list[dict[str, Any]], *changes: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Return what a vendor's bars become by a split, in another unit, or by a number added to one from the end."""
    for change in changes:
        match change:
            case ("rescale", ratio):
                for bar in bars:
                    bar.update({name: round(bar[name] * ratio, 2) for name in ("open", "high", "low", "close")})
                    bar["volume"] /= ratio
            case ("recount", ratio):
                for bar in bars:
                    bar["volume"] = float(int(bar["volume"] * ratio))
            case (place, column, add):
                bars[-place][column] += add
    return bars


# --- many series at once

STOCKS = [Series.parse(f"{symbol}/1day") for symbol in ("AAPL", "GOOG", "IBM", "MSFT")]
SPAN = (date(2009, 1, 2), date(2012, 12, 31))


def test_a_limit_is_learnt_once_for_all_series_and_tried_again_later(sample, tmp_path):
    year = on(times=ALWAYS, longer="1 Y", **TOO_LONG_ERROR)
    soon, later = (datetime(2013, 3, day, tzinfo=UTC) for day in (1, 9))
    requests = []
    for now, script in ((soon, [year]), (soon, [year]), (later, [year]), (later, [])):
        with (
            Gateway(sample, clock=lambda now=now: now, faults=Faults.of(script)) as gateway,
            connect(gateway.address, state=tmp_path / "state", clock=lambda now=now: now) as source,
        ):
            _one_address(tmp_path / "state", gateway.port)
            store = Store(tmp_path / f"{len(requests)}")
            assert download(store, source, STOCKS, SPAN, persistence=Persistence(pause=0.001)).complete
        requests.append(source.requests)

    # Four years of four series are 4 x 4 windows. Each may be refused 4 years and 2 before one has learnt better;
    # a week later one of them tries two years once.
    assert 4 * 4 + 2 <= requests[0] <= 4 * 4 + 4 * 2
    assert requests[1] == 4 * 4
    assert requests[2] == 4 * 4 + 1
    assert requests[3] == 4 * 4  # which has just been learnt again


def _one_address(folder: Path, port: int) -> None:
    """Give what was learnt at another port to the gateway at this one."""
    for kept in folder.glob("*.json"):
        kept.rename(folder / f"gateway-127.0.0.1-{port}.json")


# --- chance


@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(5, 30))])
def test_whatever_happens_by_chance_the_next_download_mends_it(seed, vendor, undisturbed, tmp_path, caplog):
    chance, store = Random(seed), Store(tmp_path)
    job = (TWELVE_SESSIONS, TWELVE_YEARS)[seed % 2]
    faults = [*chance.choices(QUICK, k=chance.randint(3, 6)), chance.choice(CUTS)]
    if job == TWELVE_YEARS and chance.random() < 0.5:  # where an answer is not waited for as long
        faults[0] = chance.choice(MUTES)
    script = [on(nth=chance.randint(1, 16), times=chance.choice((1, 1, 1, 2, 3)), **fault) for fault in faults]

    report = run(vendor, store, job, IMPATIENT, *script)

    assert report.complete or (report.exit_code and any(one.errors for one in report.series))
    assert_honest(report, store, vendor, job)
    assert_mended(store, job, undisturbed)
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
