"""
Segments: bars as the bytes of a Parquet file, and back, with the downloads that they came from.

Any Parquet reader can open them. They may come from elsewhere: hash, columns and sizes are checked before decoding.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from backtest._resources import installed_version
from backtest.errors import DamagedStore, UsageError
from backtest.market import arrays
from backtest.market.bars import extra_of, rows_digest, schema
from backtest.store.files import read_file
from backtest.store.manifest import REPAIR, Segment

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.market.span import Span

PROVENANCE = (
    "vendor", "con_id", "local_symbol", "exchange", "primary_exchange", "currency", "multiplier", "last_trade_date",
    "time_zone", "prices", "regular_hours", "bar_size", "end", "duration", "format_date", "requested", "received",
    "server_version", "gateway_build", "gateway_time_zone", "client", "client_version", "warnings",
)  # fmt: skip
"""What a caller may say of a download; of accounts, hosts and users there is no name to say it by."""

NEWEST = 50  # downloads that a segment names
_KEY = b"ib-backtest"
_ACCOUNT = r"\b[DFIU]{1,2}[A-Z]?[0-9]{5,9}\b"  # U1234567, DU1234567 (paper), F... and DF... (advisors)
_LONGEST = 300  # characters of a value
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Measured on a month of minutes against zstd-3 with dictionaries: 103 KB for 149, decoded in 0.4 ms for 0.9.
_LAYOUT: dict[str, Any] = {
    "compression": "lz4",
    "use_dictionary": ["open", "high", "low", "close", "average"],
    "column_encoding": {
        "time": "DELTA_BINARY_PACKED",
        "volume": "BYTE_STREAM_SPLIT",
        "trades": "DELTA_BINARY_PACKED",
    },
    "write_page_checksum": True,
    "write_statistics": ["time"],
    "store_schema": False,
}
_ROW_BYTES = 64  # of a bar, decoded
_SPARE_BYTES = 1 << 20  # for what does not grow with the rows


def encode(bars: pa.Table, downloads: Sequence[Mapping[str, str]] = ()) -> bytes:
    """Return bars as a Parquet file that names the downloads they came from."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    layout = {**_LAYOUT, "use_dictionary": [*_LAYOUT["use_dictionary"], *extra_of(bars)]}
    with pq.ParquetWriter(sink, bars.schema, **layout) as writer:
        writer.write_table(bars)
        writer.add_key_value_metadata({_KEY: _downloads_to_json(downloads)})
    return _bytes(sink)


def encode_any(table: pa.Table, note: str) -> bytes:
    """Return a quarantined answer, with any columns, as a Parquet file with a note."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({"quarantine": masked(note)}), sink, compression="zstd")
    return _bytes(sink)


_THREADS = 4  # that decode; each decodes a segment of its own
_FEW = 3  # segments that are not worth a second thread
_T = TypeVar("_T")


def segment_of(period: str, bars: pa.Table, data: bytes) -> Segment:
    """Return a manifest's entry for a file of bars."""
    sha = hashlib.sha256(data).hexdigest()
    first, last = (bars["time"][row].as_py().isoformat() for row in (0, -1))
    name = f"{period}.{sha[:12]}.parquet"
    return Segment(name, len(bars), first, last, len(data), sha, rows_digest(bars), extra_of(bars))


def decode_segment(data: bytes, segment: Segment, path: Path | str, columns: Sequence[str] | None = None) -> pa.Table:
    """
    Return the bars of a file; the path is for messages.

    Args:
        columns: the columns to decode, including the time; by default all.

    Raises:
        DamagedStore: it is not the file in the manifest, or not a file of bars.
    """
    import pyarrow as pa

    if hashlib.sha256(data).hexdigest() != segment.sha256:
        raise DamagedStore(f"{path} is not what was written (its SHA-256 differs); {REPAIR}")
    try:
        file, wanted = _checked_file(data, segment), None if columns is None else list(columns)
        bars = file.read(columns=wanted, use_threads=False).replace_schema_metadata(None)
        _check_times(bars, segment)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedStore(f"{path} is not a segment of bars ({error}); {REPAIR}") from error
    return bars


def check_values(bars: pa.Table, segment: Segment, path: Path | str) -> None:
    """Raise DamagedStore unless the values have the hash in the manifest."""
    if rows_digest(bars) != segment.rows_sha256:
        raise DamagedStore(f"{path} does not hold the bars that its manifest says (their hash differs); {REPAIR}")


def downloads_of(data: bytes, path: Path | str) -> list[dict[str, str]]:
    """Return the downloads named in a file, oldest first; none in format 1."""
    import pyarrow as pa

    try:
        words = _open(data).metadata.metadata or {}
        return _downloads_of_json(words.get(_KEY, b"[]"))
    except (pa.ArrowException, OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedStore(f"{path} does not say what its bars came from ({error}); {REPAIR}") from error


def bars_in(path: Path | str, segment: Segment) -> pa.Table:
    """Return the bars of a file of the store."""
    return decode_segment(read_file(path, segment.bytes), segment, path)


def columns_in(path: Path | str, segment: Segment, columns: Sequence[str]) -> pa.Table:
    """Return some columns of a file of the store, always with the time; the whole file is checked against its hash."""
    return decode_segment(read_file(path, segment.bytes), segment, path, columns)


def downloads_in(path: Path | str, segment: Segment) -> list[dict[str, str]]:
    """Return the downloads named in a file of the store."""
    return downloads_of(read_file(path, segment.bytes), path)


def in_threads(
    use: Callable[[Path | str, Segment], _T], paths: Sequence[Path | str], segments: Sequence[Segment]
) -> list[_T]:
    """Return the results of `use` for each; hashing and decoding release Python's lock for the other threads."""
    if len(paths) <= _FEW:
        return [use(path, segment) for path, segment in zip(paths, segments, strict=True)]
    from concurrent.futures import ThreadPoolExecutor

    many = sum(segment.rows for segment in segments) >= arrays.MANY
    with (
        arrays.allocated_by_system() if many else nullcontext(),
        ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool,
    ):
        return list(pool.map(use, paths, segments))


def download_record(
    provenance: Mapping[str, str] | None, source: str, span: Span, at: datetime, rows: int
) -> dict[str, str]:
    """
    Return a segment's record of one download, with account numbers masked.

    Raises:
        UsageError: the provenance has a key that is not in `PROVENANCE`.
    """
    import pyarrow as pa

    given = dict(provenance or {})
    if unknown := sorted(set(given) - set(PROVENANCE)):
        raise UsageError(f"provenance has no {', '.join(unknown)}; it may have {', '.join(PROVENANCE)}")
    known = {
        "source": source,
        "span": f"{span.start.isoformat()}/{span.end.isoformat()}",
        "at": at.isoformat(timespec="seconds"),
        "rows": str(rows),
        "backtest": _own_version(),
        "pyarrow": pa.__version__,
    }
    return {key: _clean(str(value)) for key, value in (known | given).items() if value != ""}


def masked(text: str) -> str:
    """Return a vendor's text without account numbers."""
    return re.sub(_ACCOUNT, "(account)", text)


@cache  # a process keeps using the versions that it started with
def _own_version() -> str:
    return installed_version("ib-backtest") or "unknown"  # run from a folder that was never installed


def _clean(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in masked(text))[:_LONGEST]


def _bytes(sink: Any) -> bytes:
    data: bytes = sink.getvalue().to_pybytes()
    return data


# --- files of unknown origin


def _open(data: bytes) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # One thread, no read-ahead: Arrow's pool has been seen to abort the interpreter at exit.
    return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)


def _checked_file(data: bytes, segment: Segment) -> Any:
    """Return the opened file, if its footer states our columns and no more rows and bytes than the manifest."""
    file = _open(data)
    footer = file.metadata
    if not file.schema_arrow.equals(schema(segment.extra)):
        raise ValueError(f"it has the columns {', '.join(map(str, file.schema_arrow))}"[:300])
    if footer.num_rows != segment.rows or len(data) != segment.bytes:
        raise ValueError(f"it has {footer.num_rows} rows in {len(data)} bytes, expected {segment.rows}")
    size = sum(footer.row_group(number).total_byte_size for number in range(footer.num_row_groups))
    row = _ROW_BYTES + 8 * len(segment.extra)
    if not 0 <= size <= segment.rows * row * 2 + _SPARE_BYTES:
        raise ValueError(f"{segment.rows} rows would take {size:,} bytes")
    return file


def _check_times(bars: pa.Table, segment: Segment) -> None:
    times = arrays.numbers(bars["time"])
    ends = [_microseconds(text) for text in (segment.first, segment.last)]
    if len(bars) != segment.rows or [times[0], times[-1]] != ends:
        raise ValueError(f"its {len(bars)} bars are not those from {segment.first} to {segment.last}")
    if (times[1:] <= times[:-1]).any():
        raise ValueError("its bars are not in the order of time")


@lru_cache(maxsize=256)  # many series begin or end at the same time
def _microseconds(text: str) -> int:
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)


# --- the downloads of a segment: each says only what differs from the one before


def merged_downloads(lists: Iterable[Sequence[Mapping[str, str]]]) -> list[dict[str, str]]:
    """Return the downloads of several segments, each once, by the time of their answers."""
    unique = {tuple(sorted(one.items())): dict(one) for downloads in lists for one in downloads}
    return sorted(unique.values(), key=lambda one: one.get("at", ""))


def _downloads_to_json(downloads: Sequence[Mapping[str, str]]) -> str:
    dropped = sum(int(one.get("dropped", 0)) for one in downloads) + max(0, len(downloads) - NEWEST)
    steps, last = [], dict[str, str]()
    for one in downloads[-NEWEST:]:
        words = {key: value for key, value in one.items() if key != "dropped"}
        gone = {key: "" for key in last if key not in words}
        steps.append({key: value for key, value in words.items() if last.get(key) != value} | gone)
        last = words
    if dropped and steps:
        steps[0]["dropped"] = str(dropped)
    return json.dumps(steps, separators=(",", ":"))


def _downloads_of_json(text: bytes) -> list[dict[str, str]]:
    downloads, last = [], dict[str, str]()
    for step in json.loads(text)[:NEWEST]:
        last = {key: _text(value) for key, value in (last | dict(step)).items() if value != ""}
        downloads.append(last)
        last = {key: value for key, value in last.items() if key != "dropped"}
    return downloads


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:80]!r} stands where a text should")
    return _clean(value)
