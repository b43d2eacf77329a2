"""The manifest of a series: which segments it has, and what was asked and answered; as JSON that hashes itself."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from backtest.bars import ContractDetails, Series, Span, union
from backtest.errors import DamagedStore

FORMAT = 1
REPAIR = "restore it from a backup, or remove the folder of the series and download it again"


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
class Manifest:
    """What a series consists of; `generation` counts its commits."""

    series: str
    generation: int = 0
    contract: ContractDetails | None = None
    segments: tuple[Segment, ...] = ()
    answers: tuple[Answer, ...] = ()
    archived: tuple[Segment, ...] = ()

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


def to_bytes(manifest: Manifest) -> bytes:
    """Return the manifest as JSON, and a last line with the SHA-256 of all before it."""
    record = asdict(manifest)
    for answer in record["answers"]:
        answer["span"] = [answer["span"]["start"], answer["span"]["end"]]
    body = json.dumps({"format": FORMAT, **record}, indent=1, default=datetime.isoformat) + "\n"
    return f"{body}#sha256 {hashlib.sha256(body.encode()).hexdigest()}\n".encode()


def of_bytes(data: bytes, path: Path, series: Series) -> Manifest:
    """
    Return the manifest that the bytes of a file say; the path is for messages.

    Raises:
        DamagedStore: the bytes are not what was written, or are another series' manifest.
    """
    body, mark, digest = data.rpartition(b"#sha256 ")
    if not mark or hashlib.sha256(body).hexdigest().encode() != digest.strip():
        raise DamagedStore(f"{path} is not what was written (its SHA-256 differs); {REPAIR}")
    record = json.loads(body)
    if record["series"] != str(series):
        raise DamagedStore(f"{path} belongs to {record['series']}, not to {series}; {REPAIR}")
    return Manifest(
        record["series"],
        record["generation"],
        ContractDetails(**record["contract"]) if record["contract"] else None,
        tuple(Segment(**segment) for segment in record["segments"]),
        tuple(_answer_of(answer) for answer in record["answers"]),
        tuple(Segment(**segment) for segment in record["archived"]),
    )


def _answer_of(record: dict[str, Any]) -> Answer:
    start, end = (datetime.fromisoformat(text) for text in record["span"])
    return Answer(
        Span(start, end),
        record["bars"],
        datetime.fromisoformat(record["at"]),
        record["source"],
        record["text"],
    )


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
