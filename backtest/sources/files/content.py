"""The content of a file, however it is packed: lines of text, or typed columns."""

from __future__ import annotations

import bz2
import contextlib
import csv
import gzip
import io
import json
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import IO, Any

from backtest.errors import UsageError, quoted

_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"),  # begins as that of UTF-16 does
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
)
# Where a text is not UTF-8, the first of these in which its header has the most known words.
_ENCODINGS = ("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "gb18030", "shift_jis", "euc_kr", "big5", "latin-1")
_UNREADABLE = {
    b"\xd0\xcf\x11\xe0": "an Excel file in the old .xls format; save it as .xlsx or CSV",
    b"\x89HDF": "an HDF5 file; write it as Parquet, by frame.to_parquet(...)",
    b"\x80\x04": "a pickle, which is never opened; write it as Parquet, by frame.to_parquet(...)",
    b"\x80\x05": "a pickle, which is never opened; write it as Parquet, by frame.to_parquet(...)",
    b"SQLite": "an SQLite database; export its table as CSV",
    b"ORC": "an ORC file; write it as Parquet or CSV",
    b"%PDF": "a PDF; save the table as CSV or .xlsx",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; decompress it first",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
    b"Rar!": "a RAR archive; unpack it first",
}
_PACKED: dict[bytes, tuple[str, Callable[[Any], Any]]] = {
    b"\x1f\x8b": ("gzip", gzip.open),
    b"BZh": ("bzip2", bz2.open),
    b"\xfd7zXZ": ("xz", lzma.open),
}
# At most: bytes that one unpacks to, of prices 4 to 40, and bytes beside that.
_UNPACKED_FOR_A_BYTE, _LITTLE = 200, 50_000_000
_DEEPEST = 3  # archives in one another
_AT_A_TIME = 1 << 20  # bytes that are unpacked
_TABLES_IN_ZIP = (".csv", ".txt", ".tsv", ".parquet", ".json", ".dat", ".xlsx")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x19\x1b-\x1f\x7f]")  # but tabs, ends of lines and pages, and DOS's end of file
_ROWS_FOR_A_BYTE, _FEW_ROWS = 16, 100_000  # at most: rows of a Parquet file for each of its bytes, and beside that
_MOST_CELLS = 1 << 24  # of a sheet: a million rows, as many as Excel takes, of 16 columns
_SCALARS = (str, int, float, bool, type(None))
_FEWEST = 4  # columns of a table of JSON's lists


@dataclass(frozen=True, slots=True)
class LinesOfFile:
    """A text file: its lines, the number of the first one, their name in messages, and notes on how they were read."""

    lines: list[str]
    first: int = 1
    unit: str = "line"
    how: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ColumnsOfFile:
    """A file or frame with typed columns: their names, values, notes on how they were read, and symbols."""

    names: list[str]
    columns: list[Any]
    how: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()


def content_of(path: Path, known_words: Callable[[str], int]) -> LinesOfFile | ColumnsOfFile:
    """
    Return the content of a file, by its first bytes, not by its name.

    Args:
        known_words: returns how many known column names a text contains, to choose an encoding.

    Raises:
        UsageError: there is no such file, or it is empty or holds no table.
    """
    if not path.is_file():
        raise UsageError(f"no file {quoted(path)}; name a CSV, Excel, JSON or Parquet file with one bar per row")
    data = path.read_bytes()
    return _of_bytes(data, str(path), known_words, _Room(len(data) * _UNPACKED_FOR_A_BYTE + _LITTLE))


@dataclass(slots=True)
class _Room:
    """The bytes that may still be unpacked, and the archives that may be nested: few bytes can expand to any size."""

    left: int
    depth: int = 0

    def unpacked(self, packed: IO[bytes], what: str) -> bytes:
        """Return the content of an archive; raise UsageError if it is too large."""
        parts = []
        while part := packed.read(_AT_A_TIME):
            parts.append(part)
            self.take(len(part), what)
        return b"".join(parts)

    def take(self, count: int, what: str) -> None:
        """Count unpacked bytes."""
        self.left -= count
        if self.left < 0:
            raise UsageError(
                f"{what} unpacks to more than {_UNPACKED_FOR_A_BYTE} bytes for each of its own, which bars never do; "
                "unpack it, look at it, and name the file with bars"
            )

    def enter(self, what: str) -> None:
        """Enter an archive."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise UsageError(f"{what} contains nested archives; unpack it, and name the file with bars")


def _of_bytes(data: bytes, what: str, known_words: Callable[[str], int], room: _Room) -> LinesOfFile | ColumnsOfFile:
    if not data.strip():
        raise UsageError(f"{what} is empty ({len(data)} bytes); name a file with one bar per row")
    for mark, (name, opened) in _PACKED.items():
        if data.startswith(mark):
            room.enter(what)
            try:
                with opened(io.BytesIO(data)) as packed:
                    inner = room.unpacked(packed, what)
            except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
                raise UsageError(f"{what} cannot be unpacked by {name} ({error}); download it again") from error
            return _of_bytes(inner, what, known_words, room)
    if data.startswith(b"PK\x03\x04"):
        return _of_zip(data, what, known_words, room)
    if data.startswith(b"PAR1"):
        return _of_parquet(data, what)
    if data.startswith((b"ARROW1", b"FEA1")):
        return _of_feather(data, what, room)
    if data.startswith(b"\xff\xff\xff\xff"):
        return _of_stream(data, what, room)
    for mark, why in _UNREADABLE.items():
        if data.startswith(mark):
            raise UsageError(f"{what} is {why}")
    text, how = _text_of(data, what, known_words)
    begins = text.lstrip()[:1]
    if begins and begins in "{[" and (found := _of_json(text, what)):
        return found
    if re.match(r"\s*<(!doctype|html|table|\?xml)", text[:200], re.IGNORECASE):
        raise UsageError(f"{what} is a page of HTML or XML, not a table; save the table as CSV or .xlsx")
    return LinesOfFile(re.split(r"\r\n|\r|\n", text.rstrip("\x1a")), how=how)


# --- packed and typed


def _of_zip(data: bytes, what: str, known_words: Callable[[str], int], room: _Room) -> LinesOfFile | ColumnsOfFile:
    room.enter(what)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
            if "xl/workbook.xml" in names:
                room.take(sum(one.file_size for one in archive.infolist()), what)  # none gives more than it says
                return _of_excel(data, what)
            tables = [name for name in names if name.lower().endswith(_TABLES_IN_ZIP)]
            sheets = [name for name in tables if not name.lower().endswith(".txt")]  # archives often include a report
            chosen = next((some for some in (sheets, tables, names) if len(some) == 1), None)
            if chosen is None:
                listed = ", ".join(names[:5]) or "none"
                raise UsageError(f"{what} holds {len(names)} files ({listed}); unpack it, and name the one with bars")
            with archive.open(chosen[0]) as packed:
                inner = room.unpacked(packed, what)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, zlib.error, EOFError, OSError, ValueError) as error:
        raise UsageError(f"{what} cannot be unpacked as zip ({error}); download it again, or unpack it") from error
    return _of_bytes(inner, what, known_words, room)


def _of_parquet(data: bytes, what: str) -> ColumnsOfFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)
        names, rows = file.schema_arrow.names, file.metadata.num_rows
        _check_rows(rows, data, what)
        # What is not a column of bars, and may stand for any size, is not decoded: it is named, and that is all.
        plain = [one.name for one in file.schema_arrow if not pa.types.is_nested(one.type)]
        table = file.read(columns=None if len(plain) == len(names) else plain, use_threads=False)
        if table.num_columns != len(plain):
            raise ValueError("two columns have one name")
        columns, none = iter(table.columns), pa.chunked_array([pa.nulls(rows, pa.list_(pa.int8()))])
        return ColumnsOfFile(
            names, [none if pa.types.is_nested(one.type) else next(columns) for one in file.schema_arrow]
        )
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UsageError(f"{what} cannot be read as Parquet ({str(error)[:200]}); write it again") from error


def _check_rows(rows: int, data: bytes, what: str) -> None:
    if rows > _FEW_ROWS + len(data) * _ROWS_FOR_A_BYTE:
        raise UsageError(
            f"{what} says that its {len(data):,} bytes are {rows:,} rows, which is impossible for bars; write it again"
        )


def _of_feather(data: bytes, what: str, room: _Room) -> ColumnsOfFile:
    import pyarrow as pa
    from pyarrow import feather

    try:
        if data.startswith(b"ARROW1"):
            _check_batches(data, len("ARROW1") + 2, what, room)
        table = feather.read_table(pa.BufferReader(data), use_threads=False)
        return ColumnsOfFile(table.column_names, table.columns)
    except (pa.ArrowException, OSError, UnicodeDecodeError, struct.error) as error:
        raise UsageError(f"{what} cannot be read as Feather ({error}); write it again") from error


def _of_stream(data: bytes, what: str, room: _Room) -> ColumnsOfFile:
    import pyarrow as pa

    try:
        _check_batches(data, 0, what, room)
        table = pa.ipc.open_stream(pa.BufferReader(data)).read_all()
        return ColumnsOfFile(table.column_names, table.columns)
    except (pa.ArrowException, OSError, UnicodeDecodeError, struct.error) as error:
        raise UsageError(f"{what} cannot be read as a stream of Arrow ({error}); write it again") from error


def _check_batches(data: bytes, start: int, what: str, room: _Room) -> None:
    """Count the rows of the batches of Arrow messages, and their uncompressed bytes, before any is decompressed."""
    import pyarrow as pa

    rows, messages = 0, pa.ipc.MessageReader.open_stream(pa.BufferReader(data).read_buffer()[start:])
    with contextlib.suppress(StopIteration):
        while True:
            message = messages.read_next_message()
            if message.type in ("record batch", "dictionary"):
                count, size = _batch_of(message)
                rows += count
                room.take(size, what)
    _check_rows(rows, data, what)


def _batch_of(message: Any) -> tuple[int, int]:
    """
    Return the rows of an Arrow message, and the uncompressed size of its buffers.

    Source: Arrow's Message.fbs. A compressed buffer begins with its uncompressed size, 8 bytes; -1 means that it is not
    compressed.
    """
    text, body = message.metadata.to_pybytes(), message.body
    batch = _inner(text, _inner(text, 0, None), 2)
    if message.type == "dictionary":
        batch = _inner(text, batch, 1)
    length = _field(text, batch, 0)
    count = struct.unpack_from("<q", text, length)[0] if length else 0
    if not _field(text, batch, 3):  # nothing is packed
        return count, 0
    buffers = _inner(text, batch, 2)
    (many,) = struct.unpack_from("<I", text, buffers)
    size = 0
    for place, packed in struct.iter_unpack("<qq", text[buffers + 4 : buffers + 4 + 16 * many]):
        if packed >= 8:
            size += max(*struct.unpack_from("<q", body, place), 0)
    return count, size


def _field(text: bytes, table: int, number: int) -> int:
    """Return the offset of a field of a flatbuffer table; 0 if it is absent."""
    listed = table - struct.unpack_from("<i", text, table)[0]
    (size,) = struct.unpack_from("<H", text, listed)
    offset = struct.unpack_from("<H", text, listed + 4 + 2 * number)[0] if 4 + 2 * number < size else 0
    return table + offset if offset else 0


def _inner(text: bytes, table: int, number: int | None) -> int:
    """Return the offset of the table or vector to which a field refers; without a field, that of the root."""
    place = 0 if number is None else _field(text, table, number)
    return place + int(struct.unpack_from("<I", text, place)[0])


def _of_excel(data: bytes, what: str) -> LinesOfFile:
    try:
        import openpyxl
    except ImportError as error:
        raise UsageError(
            f"{what} is an Excel file, which needs openpyxl: pip install 'ib-backtest[excel]'; or save it as CSV"
        ) from error
    try:
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        sheets = [(sheet.title, _rows_of(sheet, what)) for sheet in book.worksheets]
        book.close()
    except UsageError:
        raise
    except Exception as error:  # openpyxl and its XML parser raise many kinds of errors for broken files
        raise UsageError(f"{what} cannot be read as Excel ({error}); save it again, or as CSV") from error
    filled = [(title, rows) for title, rows in sheets if sum(any(cell is not None for cell in row) for row in rows) > 1]
    if not filled:
        raise UsageError(f"{what} has no sheet with rows; name a file with one bar per row")
    title, rows = max(filled, key=lambda pair: len(pair[1]))
    how = (f"sheet {title!r}",) if len(filled) > 1 else ()
    return LinesOfFile(_lines_of(rows), unit="row", how=how)


def _rows_of(sheet: Any, what: str) -> list[list[Any]]:
    """Return the rows of a sheet, all of equal width; raise UsageError for a cell far away from all others."""
    sheet.reset_dimensions()  # else each row comes as wide as the file says that the sheet is
    rows, width = [], 0
    for row in sheet.iter_rows(values_only=True):
        rows.append(list(row))
        width = max(width, len(row))
        if len(rows) * width > _MOST_CELLS:
            raise UsageError(
                f"{what} has a sheet of more than {_MOST_CELLS:,} cells ({sheet.title!r}, whose row {len(rows):,} has "
                f"{width:,} columns); delete what lies outside of the table, or save it as CSV"
            )
    return [[*row, *[None] * (width - len(row))] for row in rows]


# --- text


def _text_of(data: bytes, what: str, known_words: Callable[[str], int]) -> tuple[str, tuple[str, ...]]:
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "")
    if not encoding and len(data) > 3 and b"\x00" in data[:4]:  # UTF-16 of Windows without its byte order mark
        encoding = "utf-16-be" if data[0] == 0 else "utf-16-le"
    for name in (encoding,) if encoding else ("utf-8",):
        try:
            text = data.decode(name)
        except UnicodeDecodeError:
            continue
        return _plain(text, what), (("UTF-16",) if name.startswith("utf-16") else ())
    decoded = []
    for name in () if encoding else _ENCODINGS:
        try:
            decoded.append((name, data.decode(name)))
        except UnicodeDecodeError:
            continue
    if not decoded:
        raise UsageError(f"{what} is neither text nor a known kind of table; save it as CSV in UTF-8")
    name, text = max(decoded, key=lambda pair: known_words(pair[1][:4000]))  # the first of the best
    return _plain(text, what), (f"text in {name}",)


def _plain(text: str, what: str) -> str:
    head = text[:100_000]
    if len(_CONTROLS.findall(head)) > len(head) / 1000:
        raise UsageError(f"{what} is neither text nor a known kind of table; name a CSV, Excel, JSON or Parquet file")
    return text


def _lines_of(rows: Iterable[Iterable[Any]]) -> list[str]:
    """Return rows of cells as lines of CSV; an empty row is an empty line."""
    lines = []
    for row in rows:
        buffer = io.StringIO()
        cells = [_cell(value) for value in row]
        if any(cells):
            csv.writer(buffer, lineterminator="").writerow(cells)
        lines.append(buffer.getvalue())
    return lines


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(" ")
    if isinstance(value, date):
        return value.isoformat()
    return re.sub(r"[\r\n]+", " ", str(value))


# --- JSON


def _of_json(text: str, what: str) -> LinesOfFile | None:
    """Return the largest table in a JSON document, or in one document per line; None if it is not JSON."""
    try:
        value = json.loads(text, parse_float=str, parse_int=str)  # as text: a price keeps all its digits
    except (ValueError, RecursionError):
        try:
            value = [json.loads(line, parse_float=str, parse_int=str) for line in text.splitlines() if line.strip()]
        except (ValueError, RecursionError):
            return None
    rows, headed = _table_in(value)
    if not rows:
        raise UsageError(f"{what} is JSON without a list of bars; write a list of records, or CSV")
    return LinesOfFile(_lines_of(rows), first=0 if headed else 1, unit="record")


def _table_in(value: Any) -> tuple[list[list[Any]], bool]:
    """Return the rows of the largest table in a JSON value, and whether the first row has names."""
    if isinstance(value, list):
        records = [one for one in value if isinstance(one, dict)]
        if records and len(records) == len(value) and any(_is_flat(_flat(one)) for one in records):
            flat = [_flat(one) for one in records]
            if len(records) == 1 and len((inner := _table_in(records[0]))[0]) > 2:
                return inner
            names = list(dict.fromkeys(name for one in flat for name in one))
            return [names, *([one.get(name) for name in names] for one in flat)], True
        if value and all(isinstance(one, list) and all(isinstance(cell, _SCALARS) for cell in one) for one in value):
            return value, False
        return max((_table_in(one) for one in value), key=lambda pair: len(pair[0]), default=([], False))
    if not isinstance(value, dict):
        return [], False
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):  # pandas, orient="split"
        index = value.get("index") or [None] * len(value["data"])
        if all(isinstance(one, list) for one in value["data"]) and len(index) == len(value["data"]):
            head = ["", *map(str, value["columns"])]
            return [head, *([key, *one] for key, one in zip(index, value["data"], strict=True))], True
    return max(
        (_of_columns(value), _of_keys(value), *(_table_in(one) for one in value.values())),
        key=lambda pair: len(pair[0]),
    )


def _of_columns(value: dict[str, Any]) -> tuple[list[list[Any]], bool]:
    """Return the table of the lists of equal length below a value, each a column."""
    lists: dict[str, list[Any]] = {}

    def collect(name: str, one: Any) -> None:
        if isinstance(one, dict):
            for key, inner in one.items():
                collect(key, inner)
        elif isinstance(one, list) and one and all(isinstance(cell, _SCALARS) for cell in one):
            lists.setdefault(name, one)
        elif isinstance(one, list) and len(one) == 1:  # Yahoo's quotes are a list of one
            collect(name, one[0])

    collect("", value)
    longest = max((len(one) for one in lists.values()), default=0)
    chosen = {name: one for name, one in lists.items() if len(one) == longest}
    if len(chosen) < _FEWEST:
        return [], False
    return [list(chosen), *map(list, zip(*chosen.values(), strict=True))], True


def _of_keys(value: dict[str, Any]) -> tuple[list[list[Any]], bool]:
    """Return the table of records by their times, or of columns by their names, which have the same keys."""
    inner = {key: _flat(one) for key, one in value.items() if isinstance(one, dict)}
    if len(inner) < len(value) or not inner or not all(_is_flat(one) for one in inner.values()):
        return [], False
    names = list(dict.fromkeys(name for one in inner.values() for name in one))
    if all(re.fullmatch(r"[^\W\d_][\w. ]*", key) for key in inner) and len(names) > 1:  # columns by name
        head = ["", *inner]
        return [head, *([name, *(one.get(name) for one in inner.values())] for name in names)], True
    return [["time", *names], *([key, *(one.get(name) for name in names)] for key, one in inner.items())], True


def _flat(record: dict[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in record.items():
        name = f"{before}{key}"
        flat.update(_flat(value, f"{name}.") if isinstance(value, dict) else {name: value})
    return flat


def _is_flat(record: dict[str, Any]) -> bool:
    return len(record) >= _FEWEST and all(isinstance(value, _SCALARS) for value in record.values())
