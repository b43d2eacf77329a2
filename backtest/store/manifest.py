"""
The manifest of a series: which segments it has and had, and what was asked and answered; as JSON that hashes itself.

It may come from a stranger, who can hash as well: so every value is checked, whatever the hash says.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from backtest import _arguments
from backtest.errors import BadStore, DamagedStore, NoBars, UsageError
from backtest.market.bars import ContractDetails, Series, Span, union

FORMAT = 2
FORMATS = (1, 2)  # that can be read
REPAIR = "restore it from a backup, or remove the folder of the series and download it again"
LARGEST = 64 << 20  # bytes of a manifest; one of ten years of minutes has 30,000
LARGEST_SEGMENT = 256 << 20  # bytes of a segment
MOST_ROWS = 4_000_000  # of a segment; a month of seconds has 2.7 million
_NAME_LENGTHS = {"day": 10, "month": 7, "year": 4, "": 0}  # of 2024-03-28
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of bars: its name, rows, first and last stamp, size in bytes, hash of the file and of its values."""

    file: str
    rows: int
    first: str
    last: str
    bytes: int
    sha256: str
    rows_sha256: str

    @property
    def period(self) -> str:
        """The period that the file covers, such as 2024-03."""
        return self.file.split(".")[0]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a vendor answered when asked for a span: how many bars (0: it says there are none), when, and by whom."""

    span: Span
    bars: int
    at: datetime
    source: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Revision:
    """
    A change of bars that were stored: when it came, from whom, why, and how many bars it changed or removed.

    `replaced` are the segments, now in the archive, that `periods` had before; kept for the first change of a period
    since the revision, be it an append, so that the series can be read as it was.
    """

    number: int
    at: datetime
    bars: int
    source: str = ""
    why: str = ""
    periods: tuple[str, ...] = ()
    replaced: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """
    What a series consists of; `generation` counts its commits, `pruned` the revisions that were given up.

    `earlier` are archived segments of format 1, which did not say of which revision they are; `aside` the files of
    answers in quarantine, sorted.
    """

    series: str
    generation: int = 0
    contract: ContractDetails | None = None
    segments: tuple[Segment, ...] = ()
    answers: tuple[Answer, ...] = ()
    revisions: tuple[Revision, ...] = ()
    pruned: int = 0
    earlier: tuple[Segment, ...] = ()
    aside: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """How many bars the series has."""
        return sum(segment.rows for segment in self.segments)

    @property
    def content(self) -> str:
        """SHA-256 of the values of all bars: equal for equal bars, whatever wrote the files."""
        return hashlib.sha256("\n".join(segment.rows_sha256 for segment in self.segments).encode()).hexdigest()

    @property
    def coverage(self) -> list[Span]:
        """The spans that were asked for and answered."""
        return union(answer.span for answer in self.answers)

    @property
    def archived(self) -> tuple[Segment, ...]:
        """The segments that are kept in the archive."""
        replaced = [segment for revision in self.revisions for segment in revision.replaced]
        return tuple({segment.file: segment for segment in [*self.earlier, *replaced]}.values())

    def before(self, number: int) -> tuple[Segment, ...]:
        """
        Return the segments as they were before a revision.

        Raises:
            NoBars: there is no such revision, or it was pruned.
        """
        number = _arguments.whole(number, "the number of a revision")
        segments = {segment.period: segment for segment in self.segments}
        for revision in reversed(self.revisions):
            segments = {period: one for period, one in segments.items() if period not in revision.periods}
            segments |= {segment.period: segment for segment in revision.replaced}
            if revision.number == number:
                return in_order(segments.values())
        known = ", ".join(str(revision.number) for revision in self.revisions) or "none"
        pruned = " (it was pruned)" if 1 <= number <= self.pruned else ""
        raise NoBars(f"{self.series} has no revision {number}{pruned}; there are: {known}")


def period_unit(series: Series) -> str:
    """Return how much time a segment covers, so that it has 2,000 to 30,000 bars of a liquid instrument; "": all."""
    seconds = series.size.seconds
    if seconds < 60:
        return "day"
    if seconds < 600:
        return "month"
    return "year" if seconds < 86_400 else ""


def period_of(series: Series, moment: datetime) -> str:
    """Return the name of the period whose segment holds a bar."""
    return moment.isoformat()[: _NAME_LENGTHS[period_unit(series)]] or "all"


def in_order(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """Return the segments by time."""
    return tuple(sorted(segments, key=lambda segment: segment.first))


def remembering(old: Manifest, changed: Iterable[str]) -> tuple[Revision, ...]:
    """Return the revisions, the last of which keeps the old segments of these periods, if it has none of them yet."""
    if not old.revisions:
        return ()
    last = old.revisions[-1]
    fresh = tuple(period for period in changed if period not in last.periods)
    lost = tuple(segment for segment in old.segments if segment.period in fresh)
    return (*old.revisions[:-1], replace(last, periods=last.periods + fresh, replaced=last.replaced + lost))


def recorded(answers: tuple[Answer, ...], new: Answer) -> tuple[Answer, ...]:
    """Return the answers with the new one; runs of answers with bars are kept as one, so the ledger stays short."""
    kept = [a for a in answers if not (new.span.start <= a.span.start and a.span.end <= new.span.end)]
    merged: list[Answer] = []
    for answer in sorted([*kept, new], key=lambda a: a.span):
        last = merged[-1] if merged else None
        if last and last.bars and answer.bars and last.source == answer.source and last.span.end >= answer.span.start:
            whole = Span(last.span.start, max(last.span.end, answer.span.end))
            merged[-1] = Answer(whole, last.bars + answer.bars, max(last.at, answer.at), answer.source, answer.text)
        else:
            merged.append(answer)
    return tuple(merged)


# --- to bytes: an item a line, so that a change of one segment is a change of one line


def to_bytes(manifest: Manifest) -> bytes:
    """Return the manifest as JSON of the newest format, and a last line with the SHA-256 of all before it."""
    record = {
        "format": FORMAT,
        "series": manifest.series,
        "generation": manifest.generation,
        "contract": _contract_record(manifest.contract) if manifest.contract else None,
        "segments": [_row(segment) for segment in manifest.segments],
        "answers": [[*_pair(one.span), one.bars, one.at.isoformat(), one.source, one.text] for one in manifest.answers],
        "revisions": [_revision_row(revision) for revision in manifest.revisions],
        "pruned": manifest.pruned,
        "earlier": [_row(segment) for segment in manifest.earlier],
    }
    if manifest.aside:
        record["aside"] = list(manifest.aside)
    body = "{\n" + ",\n".join(f"{json.dumps(key)}: {_lines(value)}" for key, value in record.items()) + "\n}\n"
    return f"{body}#sha256 {hashlib.sha256(body.encode()).hexdigest()}\n".encode()


def _contract_record(contract: ContractDetails) -> dict[str, Any]:
    # What came later is left out where nothing is known of it: a manifest of then stays the same bytes.
    return {name: value for name, value in asdict(contract).items() if value != "" or name not in _LATER}


def _lines(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return json.dumps(value)
    return "[\n" + ",\n".join(json.dumps(item) for item in value) + "\n]"


def _row(one: Segment) -> list[Any]:
    first, last = (text.removesuffix(_UTC) for text in (one.first, one.last))
    return [one.period, one.rows, first, last, one.bytes, one.sha256, one.rows_sha256]


def _revision_row(one: Revision) -> list[Any]:
    replaced = [_row(segment) for segment in one.replaced]
    return [one.number, one.at.isoformat(), one.bars, one.source, one.why, list(one.periods), replaced]


def _pair(span: Span) -> tuple[str, str]:
    return span.start.isoformat(), span.end.isoformat()


# --- of bytes: nothing is believed


def of_bytes(data: bytes, path: Path | str, series: Series) -> Manifest:
    """
    Return the manifest that the bytes of a file say; the path is for messages.

    Raises:
        DamagedStore: the bytes are not what was written, or no manifest of this series can say that.
        BadStore: they are of a format that this version does not know.
    """
    body, mark, digest = data.rpartition(b"#sha256 ")
    if not mark or digest != f"{hashlib.sha256(body).hexdigest()}\n".encode():
        raise DamagedStore(f"{path} is not what was written (its SHA-256 differs); {REPAIR}")
    try:
        return _manifest_of(json.loads(body, parse_constant=_refused), series.key)
    except _UnknownFormat as error:
        raise BadStore(f"{path} has {error}; install a newer ib-backtest") from error
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, UsageError) as error:
        raise DamagedStore(f"{path} says what no manifest of {series} can say ({error}); {REPAIR}") from error


class _UnknownFormat(Exception):
    pass


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _manifest_of(record: Any, series: str) -> Manifest:
    number = _int(_dict(record)["format"])
    if number not in FORMATS:
        raise _UnknownFormat(f"format {number}, this version knows {FORMAT}")
    if record["series"] != series:
        raise ValueError(f"it belongs to {_text(record['series'])[:200]}")
    return _checked(_of_format_1(record) if number == 1 else _of_format_2(record), Series.parse(series))


def _of_format_1(record: dict[str, Any]) -> Manifest:
    return Manifest(
        _text(record["series"]),
        _int(record["generation"]),
        _contract_of(record["contract"]),
        _each(record["segments"], lambda one: _segment_of(*_values(one, Segment))),
        _each(record["answers"], lambda one: _answer_of(*_list(one["span"]), *_values(one, Answer)[1:])),
        earlier=_each(record["archived"], lambda one: _segment_of(*_values(one, Segment))),
    )


def _of_format_2(record: dict[str, Any]) -> Manifest:
    return Manifest(
        _text(record["series"]),
        _int(record["generation"]),
        _contract_of(record["contract"]),
        _each(record["segments"], lambda one: _segment_of_row(*_list(one))),
        _each(record["answers"], lambda one: _answer_of(*_list(one))),
        _each(record["revisions"], lambda one: _revision_of(*_list(one))),
        _int(record["pruned"]),
        _each(record["earlier"], lambda one: _segment_of_row(*_list(one))),
        _each(record.get("aside", []), _aside_of),
    )


def _segment_of_row(period: Any, rows: Any, first: Any, last: Any, size: Any, sha256: Any, rows_sha256: Any) -> Segment:
    # What a format says twice can differ: the name and the zone follow from the rest.
    return _segment_of(f"{period}.{sha256[:12]}.parquet", rows, first + _UTC, last + _UTC, size, sha256, rows_sha256)


def _segment_of(file: Any, rows: Any, first: Any, last: Any, size: Any, sha256: Any, rows_sha256: Any) -> Segment:
    for text in (file, first, last, sha256, rows_sha256):
        if not isinstance(text, str):
            raise TypeError(f"{str(text)[:80]!r} stands where a text should")
    # A name is a base name of ours, or nothing: it never leads out of the folder.
    if not (_SEGMENT_NAME.fullmatch(file) and _SHA256.fullmatch(sha256) and _SHA256.fullmatch(rows_sha256)):
        raise ValueError(f"no segment is named {file[:80]!r} and hashed {sha256[:80]!r}, {rows_sha256[:80]!r}")
    if file.split(".")[1] != sha256[:12] or not (1 <= _int(rows) <= MOST_ROWS and 1 <= _int(size) <= LARGEST_SEGMENT):
        raise ValueError(f"{file} cannot have {rows} rows in {size} bytes with the hash {sha256}")
    if not (first.endswith(_UTC) and last.endswith(_UTC) and _moment(first) <= _moment(last)):
        raise ValueError(f"{file} cannot reach from {first[:80]!r} to {last[:80]!r}")
    return Segment(file, rows, first, last, size, sha256, rows_sha256)


def _answer_of(start: Any, end: Any, bars: Any, at: Any, source: Any, text: Any) -> Answer:
    return Answer(Span(_moment(start), _moment(end)), _int(bars), _moment(at), _text(source), _text(text))


def _revision_of(number: Any, at: Any, bars: Any, source: Any, why: Any, periods: Any, replaced: Any) -> Revision:
    kept = _each(replaced, lambda one: _segment_of_row(*_list(one)))
    names = _each(periods, _text)
    if len(set(names)) != len(names) or not {segment.period for segment in kept} <= set(names):
        raise ValueError(f"revision {number} keeps other periods than it changed")
    return Revision(_int(number), _moment(at), _int(bars), _text(source), _text(why), names, in_order(kept))


def _aside_of(name: Any) -> str:
    if not ANSWER_NAME.fullmatch(_text(name)):
        raise ValueError(f"no answer in quarantine is named {name[:80]!r}")
    return str(name)


def _contract_of(record: Any) -> ContractDetails | None:
    if record is None:
        return None
    values = _values({**dict.fromkeys(_LATER, ""), **_dict(record)}, ContractDetails)
    for value, field in zip(values, fields(ContractDetails), strict=True):
        wanted = {"int": (int,), "float": (int, float), "str": (str,)}[str(field.type)]
        if type(value) not in wanted or (isinstance(value, float) and not math.isfinite(value)):
            raise TypeError(f"{field.name} of the contract is {str(value)[:80]!r}")
    cleaned: list[Any] = [_text(value) if isinstance(value, str) else value for value in values]
    return ContractDetails(*cleaned)


def _checked(manifest: Manifest, series: Series) -> Manifest:
    """Return the manifest if its parts fit together."""
    numbers = [revision.number for revision in manifest.revisions]
    if numbers != list(range(manifest.pruned + 1, manifest.pruned + 1 + len(numbers))):
        raise ValueError(f"the revisions after {manifest.pruned} are numbered {numbers[:20]}")
    length = _NAME_LENGTHS[period_unit(series)]
    for one in (*manifest.segments, *manifest.archived):
        if {one.first[:length] or "all", one.last[:length] or "all"} != {one.period}:
            raise ValueError(f"{one.file} is no period of {series.size.label}, or has bars of another one")
    for segments in (manifest.segments, *(revision.replaced for revision in manifest.revisions)):
        for one, after in pairwise(segments):
            if one.last >= after.first:
                raise ValueError(f"{one.file} does not end before {after.file} starts")
    return manifest


_UTC = "+00:00"
_SEGMENT_NAME = re.compile(r"(all|[0-9]{4}(-[0-9]{2}){0,2})\.[0-9a-f]{12}\.parquet")
_LATER = ("contract_month",)  # fields of a contract that manifests of 0.1.0 lack
_SHA256 = re.compile(r"[0-9a-f]{64}")
ANSWER_NAME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\.[0-9a-f]{12}\.parquet")  # of an answer in quarantine


def _each(items: Any, make: Callable[[Any], _T]) -> tuple[_T, ...]:
    return tuple(make(item) for item in _list(items))


def _values(record: Any, kind: type) -> list[Any]:
    names = [field.name for field in fields(kind)]
    if set(_dict(record)) != set(names):
        raise ValueError(f"a {kind.__name__.lower()} has {', '.join(names)}, not {', '.join(map(repr, record))[:200]}")
    return [record[name] for name in names]


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{str(value)[:80]!r} stands where names and values should")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{str(value)[:80]!r} stands where a list should")
    return value


def _int(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise TypeError(f"{str(value)[:80]!r} stands where a number should")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:80]!r} stands where a text should")
    if value.isprintable():
        return value
    # Else a stranger's text could steer the terminal that shows it.
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in value)


def _moment(text: Any) -> datetime:
    moment = datetime.fromisoformat(_text(text))
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment
