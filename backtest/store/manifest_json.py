"""
Manifests as JSON that contains its own hash, and back.

A manifest may come from elsewhere with a valid hash: so every value is checked, whatever the hash says.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from backtest.errors import BadStore, DamagedStore, UsageError
from backtest.market.extra import problem_of
from backtest.market.series import ContractDetails, Series
from backtest.market.span import Span
from backtest.store.manifest import (
    CHANGED_LINES,
    EXTRA_FORMAT,
    FORMAT,
    FORMATS,
    LARGEST_SEGMENT,
    MOST_ROWS,
    NAME_LENGTHS,
    REPAIR,
    Answer,
    Manifest,
    Revision,
    Segment,
    in_order,
    period_unit,
)

_T = TypeVar("_T")
_SMALL, _SMALLEST = 64 * 1024, 4 * 1024  # bytes of a manifest that is kept, and of one of which thousands are kept


def to_bytes(manifest: Manifest) -> bytes:
    """Return the manifest as JSON of the newest format, with a last line that holds the SHA-256 of the rest."""
    record = {
        "format": EXTRA_FORMAT if manifest.extra else FORMAT,
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
    if said := [[*_pair(one.span), one.since.isoformat()] for one in manifest.answers if one.since]:
        record["empty_since"] = said  # beside the answers: a version that does not know it reads them as before
    if manifest.extra:
        record["extra"] = list(manifest.extra)
    body = "{\n" + ",\n".join(f"{json.dumps(key)}: {_lines(value)}" for key, value in record.items()) + "\n}\n"
    return f"{body}#sha256 {hashlib.sha256(body.encode()).hexdigest()}\n".encode()


def _contract_record(contract: ContractDetails) -> dict[str, Any]:
    # Later fields are omitted if they are unknown, so that an older manifest keeps its bytes.
    return {name: value for name, value in asdict(contract).items() if value != "" or name not in _LATER}


def _lines(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return json.dumps(value)
    return "[\n" + ",\n".join(json.dumps(item) for item in value) + "\n]"


def _row(one: Segment) -> list[Any]:
    first, last = (text.removesuffix(_UTC) for text in (one.first, one.last))
    row = [one.period, one.rows, first, last, one.bytes, one.sha256, one.rows_sha256]
    return [*row, list(one.extra)] if one.extra else row


def _revision_row(one: Revision) -> list[Any]:
    replaced = [_row(segment) for segment in one.replaced]
    return [one.number, one.at.isoformat(), one.bars, one.source, one.why, list(one.periods), replaced]


def _pair(span: Span) -> tuple[str, str]:
    return span.start.isoformat(), span.end.isoformat()


def of_bytes(data: bytes, path: Path | str, series: Series) -> Manifest:
    """
    Return the manifest in these bytes; the path is for messages.

    Raises:
        DamagedStore: the bytes differ from what was written, or are not a valid manifest of this series.
        BadStore: their format is unknown to this version.
    """
    body, whole = _hashed(data)
    if not whole:
        if _hashed(unix_lines(data))[1]:
            raise DamagedStore(f"{path} {CHANGED_LINES}")
        raise DamagedStore(f"{path} is not what was written (its SHA-256 differs); {REPAIR}")
    try:
        return _parser(len(body))(body, series.key)
    except _UnknownFormat as error:
        raise BadStore(f"{path} has {error}; install a newer ib-backtest") from error
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, UsageError) as error:
        raise DamagedStore(f"{path} has invalid content for a manifest of {series} ({error}); {REPAIR}") from error


def _hashed(data: bytes) -> tuple[bytes, bool]:
    """Return the part of a manifest before its hash, and whether the hash matches."""
    body, mark, digest = data.rpartition(b"#sha256 ")
    return body, bool(mark) and digest == f"{hashlib.sha256(body).hexdigest()}\n".encode()


def unix_lines(data: bytes) -> bytes:
    """Return the bytes of a text with Unix line ends, as in a store."""
    return data.replace(b"\r\n", b"\n")


class _UnknownFormat(Exception):
    pass


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")


def _manifest_in(body: bytes, series: str) -> Manifest:
    # As `json.loads`, which makes a decoder for each text.
    return _manifest_of(_DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass")), series)


_DECODER = json.JSONDecoder(parse_constant=_refused)


# A download reads each manifest some thirty times, and parsing it takes ten times as long as reading and hashing it.
_known_manifest = lru_cache(maxsize=64)(_manifest_in)
_known_small_manifest = lru_cache(maxsize=2048)(_manifest_in)  # runs over hundreds of series read theirs each time


def _parser(size: int) -> Callable[[bytes, str], Manifest]:
    if size > _SMALL:
        return _manifest_in
    return _known_small_manifest if size <= _SMALLEST else _known_manifest


def _manifest_of(record: Any, series: str) -> Manifest:
    number = _int(_dict(record)["format"])
    if number not in FORMATS:
        raise _UnknownFormat(f"format {number}, but this version reads formats up to {FORMATS[-1]}")
    if number == EXTRA_FORMAT and "extra" not in record:  # its writer means something else by that number
        raise _UnknownFormat(f"format {number} without extra columns, which this version does not know")
    if record["series"] != series:
        raise ValueError(f"it belongs to {_text(record['series'])[:200]}")
    return _checked(_of_format_1(record) if number == 1 else _of_format_2(record), Series.parse(series))


def _of_format_1(record: dict[str, Any]) -> Manifest:
    return Manifest(
        _text(record["series"]),
        _int(record["generation"]),
        _contract_of(record["contract"]),
        _each(record["segments"], lambda one: _segment_of(*_values(one, Segment, ("extra",)))),
        _each(record["answers"], lambda one: _answer_of(*_list(one["span"]), *_values(one, Answer, ("since",))[1:])),
        earlier=_each(record["archived"], lambda one: _segment_of(*_values(one, Segment, ("extra",)))),
    )


def _of_format_2(record: dict[str, Any]) -> Manifest:
    return Manifest(
        _text(record["series"]),
        _int(record["generation"]),
        _contract_of(record["contract"]),
        _each(record["segments"], lambda one: _segment_of_row(*_list(one))),
        _answers_since(_each(record["answers"], lambda one: _answer_of(*_list(one))), record.get("empty_since", [])),
        _each(record["revisions"], lambda one: _revision_of(*_list(one))),
        _int(record["pruned"]),
        _each(record["earlier"], lambda one: _segment_of_row(*_list(one))),
        _each(record.get("aside", []), _aside_of),
        _extra_of(record["extra"]) if record["format"] == EXTRA_FORMAT else (),
    )


def _segment_of_row(
    period: Any, rows: Any, first: Any, last: Any, size: Any, sha256: Any, rows_sha256: Any, extra: Any = None
) -> Segment:
    # What a format says twice can differ: the name and the zone follow from the rest.
    name = f"{period}.{sha256[:12]}.parquet"
    segment = _segment_of(name, rows, first + _UTC, last + _UTC, size, sha256, rows_sha256)
    return segment if extra is None else replace(segment, extra=_extra_of(extra))


def _extra_of(names: Any) -> tuple[str, ...]:
    found = _each(names, _text)
    if not found or problem_of(found):
        raise ValueError(problem_of(found) or "a list of extra columns names none")
    return found


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


def _answers_since(answers: tuple[Answer, ...], said: Any) -> tuple[Answer, ...]:
    since = {(_moment(start), _moment(end)): _moment(first) for start, end, first in map(_list, _list(said))}
    return tuple(one if one.bars else replace(one, since=since.get((one.span.start, one.span.end))) for one in answers)


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
    length = NAME_LENGTHS[period_unit(series)]
    for one in (*manifest.segments, *manifest.archived):
        if {one.first[:length] or "all", one.last[:length] or "all"} != {one.period}:
            raise ValueError(f"{one.file} is not a period of {series.size.label}, or has bars of another one")
        if not set(one.extra) <= set(manifest.extra):
            raise ValueError(f"{one.file} has the extra columns {', '.join(one.extra)[:200]}, which the series lacks")
    for segments in (manifest.segments, *(revision.replaced for revision in manifest.revisions)):
        for one, after in pairwise(segments):
            if one.last >= after.first:
                raise ValueError(f"{one.file} does not end before {after.file} starts")
    return manifest


_UTC = "+00:00"
_SEGMENT_NAME = re.compile(r"(all|[0-9]{4}(-[0-9]{2}){0,2})\.[0-9a-f]{12}\.parquet")
# Contract fields that manifests of 0.1.0 lack.
_LATER = ("contract_month", "trading_hours", "liquid_hours", "price_magnifier")
_SHA256 = re.compile(r"[0-9a-f]{64}")
ANSWER_NAME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\.[0-9a-f]{12}\.parquet")  # of an answer in quarantine


def _each(items: Any, make: Callable[[Any], _T]) -> tuple[_T, ...]:
    return tuple(make(item) for item in _list(items))


def _values(record: Any, kind: type, later: Sequence[str] = ()) -> list[Any]:
    names = [field.name for field in fields(kind) if field.name not in later]
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
    # Otherwise a foreign text could control the terminal that shows it.
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in value)


def _moment(text: Any) -> datetime:
    moment = datetime.fromisoformat(_text(text))
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment
