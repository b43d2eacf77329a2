"""
Faults that the gateway simulates, from a script in JSON: a list of entries, each a `when` and a `do`.

    [{"when": {"request": 3, "symbol": "AAPL"}, "do": "drop", "bytes": 400},
     {"when": {"connection": 2}, "do": "taken"}]

`when` counts from 1: the n-th historical request of a `kind` (bars, head, schedule, details or any; bars by default),
of a `symbol` if one is given, of a duration `longer` than one such as "1 Y", or the n-th connection. From there on the
fault applies `times` times, by default once. Seconds are real seconds, whatever the time scale. Several faults of one
request apply in the order of the script, a drop last; a lost link or a refusal after an error follows when the error
has been sent.

    "do": "drop", "bytes": 400             send the first bytes of the answer, then close the socket
    "do": "silence"                        never answer (a connection: not even the handshake)
    "do": "error", "code": 162, "text": "Query failed"            send this instead of the answer
    "do": "delay", "seconds": 2            answer later
    "do": "refuse", "seconds": 5           close all connections and accept none for a while, as in a restart
    "do": "lost", "seconds": 3, "code": 1102   send 1100, then 1102 and the pending answers; or 1101 without them
    "do": "notice", "code": 2105           send 2103, 2104, 2105 or 2106 to every client, then answer
    "do": "duplicate"                      each bar twice
    "do": "twice"                          the whole answer twice
    "do": "disorder"                       the last bar first
    "do": "empty"                          an answer without bars
    "do": "cut", "place": "first", "bars": 40    the first 40 bars are not in the answer; or the "middle" or "last" ones
    "do": "lack", "since": "20240308-15:00:00", "until": "20240308-15:40:00"    no answer has bars of that time, UTC:
                                           one without other bars is error 162, no data
    "do": "head", "since": "20240308-14:30:00"    the head timestamp is that moment, UTC, of a request of kind head
    "do": "unfinished"                     one more bar, which has barely begun
    "do": "clip"                           bars as the ends of the request cut them: half a week of one that ends on a
                                           Wednesday; if they can be built from stored smaller bars
    "do": "bad", "value": "nan"            a bar in the middle is invalid: nan, huge (IB's unset number as each price),
                                           high (as its high alone), infinity, minus (-1), zero, crossed (high below
                                           low), off_grid (a stamp between two bars), text
    "do": "unset"                          volume, average and count of each bar are IB's value for "unset"
    "do": "rescale", "ratio": 0.25         prices and averages times the ratio, volumes divided by it, as after a split
    "do": "shift", "seconds": 3600         bars shorter than a day are this much later, as by the clock of another zone
    "do": "recount", "ratio": 0.01         volumes in another unit: times the ratio, cut to whole numbers
    "do": "revise", "bar": 4, "column": "volume", "add": 1    the fourth bar from the end has one share more
    "do": "garbage"                        a frame of noise in front of the answer
    "do": "length"                         a frame that claims two billion bytes, instead of the answer
    "do": "foreign"                        the answer to a request that was never made
    "do": "taken"                          (of a connection) error 326, the client id is in use
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

from backtest._clock import utc_now
from backtest._suggest import there_are
from backtest.emulator.protocol import error, framed
from backtest.errors import DamagedStore, UsageError
from backtest.store.documents import bytes_of, document_in

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # `fromtimestamp` fails on Windows for what is earlier
_KINDS = ("bars", "head", "schedule", "details", "any")
_VALUES = ("nan", "huge", "high", "infinity", "minus", "zero", "crossed", "off_grid", "text")
_PLACES = ("first", "middle", "last")
_NO_DATA = "Historical Market Data Service error message:HMDS query returned no data: by a script"
_COLUMNS = ("open", "high", "low", "close", "volume", "average", "trades")
_UNSET = "1.7976931348623157E308"  # a price, or an average
_UNSET_VOLUMES = ("2147483647", "170141183460469231731687303715884105727", "9223372036854775807", _UNSET)
_NOTICES = (2103, 2104, 2105, 2106)
_NEEDS: dict[str, tuple[str, ...]] = {
    "drop": ("bytes",), "silence": (), "error": ("code", "text"), "delay": ("seconds",), "refuse": ("seconds",),
    "lost": ("seconds", "code"), "notice": ("code",), "duplicate": (), "twice": (), "disorder": (), "empty": (),
    "unfinished": (), "cut": ("place", "bars"), "lack": ("since", "until"), "head": ("since",), "clip": (),
    "bad": ("value",), "unset": (), "shift": ("seconds",), "rescale": ("ratio",), "recount": ("ratio",),
    "revise": ("bar", "column", "add"), "garbage": (), "length": (), "foreign": (), "taken": (),
}  # fmt: skip
_DURATION = re.compile(r"(\d{1,6}) ([SDWMY])")
_SECONDS = {"S": 1, "D": 86_400, "W": 7 * 86_400, "M": 30 * 86_400, "Y": 365 * 86_400}
_OF_CONNECTIONS = ("silence", "delay", "refuse", "lost", "notice", "taken")
_CODES = {"lost": (1101, 1102), "notice": _NOTICES}
_TYPES: dict[str, type | tuple[type, ...]] = {
    "bytes": int, "seconds": (int, float), "code": int, "text": str, "value": str, "ratio": (int, float), "bar": int,
    "column": str, "add": (int, float), "place": str, "bars": int, "since": str, "until": str,
}  # fmt: skip


_LARGEST = 1 << 24  # bytes of a script


@dataclass(frozen=True, slots=True)
class Fault:
    """One entry of a script; `do` determines which of the fields after `times` apply."""

    do: str
    trigger: str  # "request" or "connection"
    nth: int = 1
    kind: str = "bars"
    symbol: str = ""
    longer: str = ""
    times: int = 1
    bytes: int = 0
    seconds: float = 0.0
    code: int = 0
    text: str = ""
    value: str = ""
    ratio: float = 1.0
    bar: int = 1
    column: str = ""
    add: float = 0.0
    place: str = ""
    bars: int = 0
    since: str = ""
    until: str = ""


class Faults:
    """A running script: it counts the requests and connections that each fault has seen."""

    def __init__(self, script: Sequence[Fault] = ()) -> None:
        self._script = tuple(script)
        self._seen = [0] * len(self._script)

    @classmethod
    def load(cls, path: str | Path) -> Faults:
        """
        Return the script in a JSON file.

        Raises:
            UsageError: the file cannot be read, or an entry is invalid; the text names both.
        """
        try:
            entries = document_in(bytes_of(Path(path), _LARGEST, links=True))
        except (OSError, ValueError, DamagedStore) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"{path} cannot be read as a JSON file of faults ({why}); name another") from error
        return cls.of(entries, str(path))

    @classmethod
    def of(cls, entries: Any, name: str = "the script of faults") -> Faults:
        """
        Return the script in JSON values.

        Raises:
            UsageError: an entry is invalid.
        """
        if not isinstance(entries, list):
            raise UsageError(f'{name} is not a list of entries such as {{"when": {{"request": 1}}, "do": "silence"}}')
        return cls([_fault(entry, f"{name}, entry {number}") for number, entry in enumerate(entries, 1)])

    def of_request(self, kind: str, symbol: str, duration: str = "") -> list[Fault]:
        """Count a request and return the faults to apply to it."""
        return self._due(
            lambda fault: (
                fault.trigger == "request"
                and fault.kind in (kind, "any")
                and fault.symbol in ("", symbol)
                and (not fault.longer or _seconds(duration) > _seconds(fault.longer))
            )
        )

    def of_connection(self) -> list[Fault]:
        """Count a connection and return the faults to apply to it."""
        return self._due(lambda fault: fault.trigger == "connection")

    def _due(self, meant: Callable[[Fault], bool]) -> list[Fault]:
        due = []
        for place, fault in enumerate(self._script):
            if meant(fault):
                self._seen[place] += 1
                if fault.nth <= self._seen[place] < fault.nth + fault.times:
                    due.append(fault)
        return due


def spoilt(fault: Fault, frames: list[bytes], version: int) -> list[bytes]:
    """Return the frames of an answer with a fault applied; faults that do not concern the bytes change nothing."""
    match fault.do:
        case "twice":
            return frames * 2
        case "garbage":
            return [framed(b"%noise%\0\xfe\xff\0"), *frames]
        case "length":
            return [(2_000_000_000).to_bytes(4, "big") + b"17\0"]
        case "foreign":
            return [_foreign(frame, version) for frame in frames]
        case "head":
            return [_with_head(frame, fault.since) for frame in frames]
    return [_with_rows(frame, version, fault) for frame in frames]


# --- reading a script


def _fault(entry: Any, place: str) -> Fault:
    if not isinstance(entry, dict) or not isinstance(entry.get("when"), dict):
        raise UsageError(f'{place} is not like {{"when": {{"request": 1}}, "do": "silence"}}')
    do, when = entry.get("do"), entry["when"]
    if not isinstance(do, str) or do not in _NEEDS:
        raise UsageError(f"{place} says do {do!r}; {there_are(str(do), _NEEDS)}")
    given = {name: value for name, value in entry.items() if name not in ("when", "do")}
    _check_names(given, _NEEDS[do], place)
    _check_values(do, given, place)
    return Fault(do, **_trigger(do, when, place), **given)


def _seconds(duration: str) -> int:
    """Return the length of a duration in seconds; 0 for a request without one."""
    found = _DURATION.fullmatch(duration)
    return int(found[1]) * _SECONDS[found[2]] if found else 0


def _check_names(given: dict[str, Any], needed: tuple[str, ...], place: str) -> None:
    if set(given) != set(needed):
        found = ", ".join(map(repr, given)) or "nothing"
        raise UsageError(f"{place} has {found} beside when and do; needed: {', '.join(needed)}")


def _check_values(do: str, given: dict[str, Any], place: str) -> None:
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, _TYPES[name]):
            raise UsageError(f"{place} has {name} {value!r}; write {'a string' if _TYPES[name] is str else 'a number'}")
        if not isinstance(value, str) and given[name] < 0:
            raise UsageError(f"{place} has {name} {value!r}; write 0 or more")
    if do in _CODES and given["code"] not in _CODES[do]:
        raise UsageError(f"{place} has code {given['code']}; choose from {', '.join(map(str, _CODES[do]))}")
    for name in ("since", "until"):
        if name in given and _moment(given[name]) is None:
            raise UsageError(f"{place} has {name} {given[name]!r}; write it as 20240308-15:00:00, UTC")
    for name, known in (("value", _VALUES), ("column", _COLUMNS), ("place", _PLACES)):
        if name in given and given[name] not in known:
            raise UsageError(f"{place} has {name} {given[name]!r}; choose from {', '.join(known)}")
    for name in ("ratio", "bar"):
        if name in given and not given[name]:
            raise UsageError(f"{place} has {name} 0; write a number above 0")


def _moment(text: str) -> datetime | None:
    """Return a moment such as 20240308-15:00:00, UTC; None if it is not one."""
    try:
        return datetime.strptime(text, "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _trigger(do: str, when: dict[str, Any], place: str) -> dict[str, Any]:
    trigger = "connection" if "connection" in when else "request"
    allowed = {"connection", "times"} if trigger == "connection" else {"request", "kind", "symbol", "longer", "times"}
    if not set(when) <= allowed:
        raise UsageError(
            f"{place} has a when of {', '.join(map(repr, when))}; the keys that can be combined are "
            f"{', '.join(sorted(allowed))}"
        )
    if (trigger == "connection" and do not in _OF_CONNECTIONS) or (trigger == "request" and do == "taken"):
        raise UsageError(f"{place}: {do} cannot be triggered by a {trigger}")
    numbers = [when.get(trigger, 1), when.get("times", 1)]
    kind = when.get("kind", "bars")
    known = isinstance(kind, str) and kind in _KINDS
    if any(type(number) is not int or number < 1 for number in numbers) or not known:
        raise UsageError(f"{place} has a when of {when}; numbers count from 1, kinds are {', '.join(_KINDS)}")
    words = {"kind": kind, "symbol": str(when.get("symbol", "")), "longer": str(when.get("longer", ""))}
    if words["longer"] and not _DURATION.fullmatch(words["longer"]):
        raise UsageError(f'{place} has longer {words["longer"]!r}; write a duration such as "1 Y" or "1800 S"')
    return {"trigger": trigger, "nth": numbers[0], "times": numbers[1], **words}


# --- bars on the wire


def _foreign(frame: bytes, version: int) -> bytes:
    fields = frame[4:-1].split(b"\0")
    place = 2 if fields[0] in (b"52", b"4") or (fields[0] == b"17" and version < 124) else 1
    if not b"".join(fields[place : place + 1]).isdigit():
        return frame  # of another fault
    fields[place] = b"%d" % (int(fields[place]) + 100_000)
    return framed(b"\0".join(fields) + b"\0")


def _with_head(frame: bytes, since: str) -> bytes:
    fields = frame[4:-1].decode().split("\0")
    if fields[0] != "88":
        return frame
    moment = _moment(since)
    fields[-1] = f"{moment.timestamp():.0f}" if moment and fields[-1].isdigit() else since
    return framed("".join(f"{field}\0" for field in fields).encode())


def _with_rows(frame: bytes, version: int, fault: Fault) -> bytes:
    if not frame[4:].startswith(b"17\0"):
        return frame
    fields = frame[4:-1].decode().split("\0")
    start = 3 if version >= 196 else 5 if version >= 124 else 6
    width = 8 if version >= 124 else 9
    rows = [fields[place : place + width] for place in range(start, len(fields), width)]
    rows, before = _changed(fault, rows) if rows else rows, rows
    if fault.do == "lack" and before and not rows:
        number = int(fields[1] if version >= 124 else fields[2])
        return error(number, 162, _NO_DATA, version, utc_now())
    head = [*fields[: start - 1], str(len(rows))]
    return framed("".join(f"{field}\0" for field in [*head, *(field for row in rows for field in row)]).encode())


def _changed(fault: Fault, rows: list[list[str]]) -> list[list[str]]:
    match fault.do:
        case "duplicate":
            return [row for row in rows for _ in range(2)]
        case "disorder":
            return rows[::-1]
        case "empty":
            return []
        case "cut":
            start = {"first": 0, "middle": (len(rows) - fault.bars) // 2, "last": len(rows) - fault.bars}[fault.place]
            return [*rows[: max(start, 0)], *rows[max(start, 0) + fault.bars :]]
        case "lack":
            return [row for row in rows if not fault.since <= f"{_time(row[0]):%Y%m%d-%H:%M:%S}" < fault.until]
        case "unfinished":
            return [*rows, _unfinished(rows)]
        case "bad":
            middle = len(rows) // 2
            return [*rows[:middle], _bad(fault.value, rows[middle]), *rows[middle + 1 :]]
        case "shift":
            step = timedelta(seconds=fault.seconds)
            return [row if len(row[0]) == 8 else [_moved(row[0], step), *row[1:]] for row in rows]
        case "rescale":
            return [_rescaled(row, fault.ratio) for row in rows]
        case "recount":
            return [[*row[:5], _number(int(float(row[5]) * fault.ratio), row[5]), *row[6:]] for row in rows]
        case "revise" if fault.bar <= len(rows):
            return [*rows[: -fault.bar], _revised(rows[-fault.bar], fault), *rows[len(rows) - fault.bar + 1 :]]
        case "unset":
            volumes = cycle(_UNSET_VOLUMES)
            return [[*row[:5], next(volumes), _UNSET, *row[7:-1], _UNSET_VOLUMES[0]] for row in rows]
    return rows


def _unfinished(rows: list[list[str]]) -> list[str]:
    last, before = rows[-1], rows[-2] if len(rows) > 1 else rows[-1]
    step = _time(last[0]) - _time(before[0]) or timedelta(days=1)
    return [_moved(last[0], step), *[last[4]] * 4, "1", last[4], *last[7:-1], "1"]


def _rescaled(row: list[str], ratio: float) -> list[str]:
    prices = [repr(round(float(price) * ratio, 2)) for price in row[1:5]]  # to a cent
    volume, average = _number(float(row[5]) / ratio, row[5]), _number(float(row[6]) * ratio, row[6])
    return [row[0], *prices, volume, average, *row[7:]]


def _revised(row: list[str], fault: Fault) -> list[str]:
    place = len(row) - 1 if fault.column == "trades" else 1 + _COLUMNS.index(fault.column)
    return [*row[:place], _number(float(row[place]) + fault.add, row[place]), *row[place + 1 :]]


def _number(number: float, old: str) -> str:
    """Return a number as text, whole ones as IB writes them; -1, which means "none", stays."""
    return old if float(old) == -1 else str(int(number)) if number == int(number) else repr(number)


def _bad(value: str, row: list[str]) -> list[str]:
    match value:
        case "nan" | "infinity" | "text":
            return [*row[:4], {"nan": "nan", "infinity": "Infinity", "text": "abc"}[value], *row[5:]]
        case "huge":
            return [row[0], *[_UNSET] * 4, *row[5:]]
        case "high":
            return [*row[:2], _UNSET, *row[3:]]
        case "minus" | "zero":
            return [row[0], *["-1" if value == "minus" else "0"] * 4, *row[5:]]
        case "crossed":
            return [*row[:2], repr(float(row[3]) - 1), *row[3:]]
    to_saturday = timedelta(days=(5 - _time(row[0]).weekday()) % 7)
    return [_moved(row[0], to_saturday if len(row[0]) == 8 else timedelta(seconds=7)), *row[1:]]


def _time(stamp: str) -> datetime:
    if stamp.isdigit() and len(stamp) != 8:
        return _EPOCH + timedelta(seconds=int(stamp))
    words = stamp.split()
    clock = words[1] if len(words) > 1 else "00:00:00"
    return datetime.strptime(f"{words[0]} {clock}", "%Y%m%d %H:%M:%S").replace(tzinfo=UTC)


def _moved(stamp: str, step: timedelta) -> str:
    later = _time(stamp) + step
    if stamp.isdigit():
        return f"{later:%Y%m%d}" if len(stamp) == 8 else str(int(later.timestamp()))
    return re.sub(r"^\d{8}( +)[\d:]{8}", lambda found: f"{later:%Y%m%d}{found[1]}{later:%H:%M:%S}", stamp)
