"""Arrow columns as numpy arrays and back, by their buffers: Arrow's own methods import pandas, 0.4 seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest._system import return_freed_memory

if TYPE_CHECKING:
    import pyarrow as pa

MANY = 2_000_000  # bars from which on memory matters more than the time to allocate and free it
_FEW_TEXTS = 5_000
BLOCK = 2**16  # rows that are computed at once: of 10,000,000 an array is 80 MB


def numbers(column: pa.ChunkedArray | pa.Array, missing: Any = None) -> np.ndarray:
    """
    Return a column of fixed width as an array, without a copy if it is one chunk without nulls.

    Args:
        column: numbers unchanged; timestamps and dates as whole numbers of their unit.
        missing: the value for null; by default NaN for floats, 0 for everything else.
    """
    import pyarrow as pa

    if not isinstance(column, pa.ChunkedArray):
        return _part(column, missing)
    parts = [_part(chunk, missing) for chunk in column.chunks]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.zeros(0, _kind(column.type))


def valid(column: pa.Array) -> np.ndarray:
    """Return which values of an array are not null."""
    bits = column.buffers()[0]
    if bits is None or not column.null_count:
        return np.full(len(column), not column.null_count)
    packed = np.frombuffer(bits, np.uint8)
    flags = np.unpackbits(packed, bitorder="little", count=column.offset + len(column))
    return flags[column.offset :].astype(bool)


def rows_by_text(texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the positions of each text, in order; the texts in the order in which they first appear."""
    codes, names = numbered(texts)
    return dict(zip(names, rows_by_number(codes, len(names)), strict=True))


def numbered(texts: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Return the number of each text, and the distinct texts in the order of their numbers, as they first appear."""
    places: dict[str, int] = {}
    return np.array([places.setdefault(text, len(places)) for text in texts], np.int64), list(places)


def numbered_column(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Return `numbered` of a column of texts; of many of them Python makes no objects."""
    if len(column) < _FEW_TEXTS or column.null_count:  # a run with few orders does not import Arrow's functions
        return numbered(column.to_pylist())
    coded = column.combine_chunks().dictionary_encode()
    return numbers(coded.indices).astype(np.int64), coded.dictionary.to_pylist()


def marked(column: pa.ChunkedArray, text: str) -> np.ndarray:
    """Return which texts of a column are this one."""
    codes, names = numbered_column(column)
    return np.asarray(np.array([name == text for name in names], bool)[codes])


def rows_by_number(numbers: np.ndarray, count: int) -> list[np.ndarray]:
    """Return the positions of each whole number below a count, in order."""
    ends = np.cumsum(np.bincount(numbers, minlength=count))
    return np.split(np.argsort(numbers, kind="stable"), ends[:-1]) if count else []


def merged(parts: Sequence[np.ndarray]) -> np.ndarray:
    """
    Return the distinct values of sorted arrays, sorted.

    It takes less time than `np.unique`, which hashes the values and imports `numpy.ma` when it is first called.
    """
    every = np.sort(np.concatenate(parts), kind="stable") if len(parts) > 1 else parts[0]
    return np.asarray(every[np.append(True, every[1:] != every[:-1])]) if len(every) else every


def blocks(count: int, size: int = BLOCK) -> Iterator[slice]:
    """Yield the slices of so many rows, in order, of this size and a shorter last one."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def sum_in_blocks(start: int, stop: int, values: Callable[[slice], np.ndarray]) -> np.ndarray:
    """
    Return the sums of rows that are computed a part at a time, equal to those of whole arrays to the last bit.

    numpy adds an array up in two halves, the first a multiple of 8 long, and these again, until they are short. So does
    this; a test compares both.

    Args:
        values: returns the values of a part, shape (..., rows), contiguous.
    """
    if stop - start <= BLOCK:
        return np.asarray(values(slice(start, stop)).sum(axis=-1))
    half = (stop - start) // 2
    middle = start + half - half % 8
    return np.asarray(sum_in_blocks(start, middle, values) + sum_in_blocks(middle, stop, values))


def release_memory() -> None:
    """Return the memory that Arrow and the C library reserve for later tables to the system."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    return_freed_memory()


@contextmanager
def allocated_by_system() -> Iterator[None]:
    """
    Let Arrow allocate from the system in this block, for tables of gigabytes.

    Such memory returns to the system when it is freed. Arrow's own allocator, which is faster, keeps memory that ended
    threads have allocated.
    """
    import pyarrow as pa

    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def floats(values: Any, present: np.ndarray | None = None) -> pa.Array:
    """Return numbers as an Arrow array of float64; null where they are not present."""
    import pyarrow as pa

    return _array(pa.float64(), np.asarray(values, np.float64), present)


def integers(values: Any) -> pa.Array:
    """Return whole numbers as an Arrow array of int64."""
    import pyarrow as pa

    return _array(pa.int64(), np.asarray(values, np.int64))


def nulls(count: int, kind: Any) -> pa.Array:
    """Return nulls of a type of 64 bits, which take no memory: the system provides it only for what is written."""
    import pyarrow as pa

    return pa.Array.from_buffers(
        kind, count, [pa.py_buffer(np.zeros(-(-count // 8), np.uint8)), pa.py_buffer(np.zeros(count))]
    )


def stamps(values: np.ndarray, present: np.ndarray | None = None) -> pa.Array:
    """Return datetime64[us], UTC, as Arrow timestamps; null where they are not present."""
    import pyarrow as pa

    return _array(pa.timestamp("us", tz="UTC"), values.astype("datetime64[us]", copy=False).view(np.int64), present)


def days(values: np.ndarray) -> pa.Array:
    """Return datetime64[D] as Arrow dates."""
    import pyarrow as pa

    return _array(pa.date32(), values.astype("datetime64[D]", copy=False).view(np.int64).astype(np.int32))


def texts(values: Sequence[str]) -> pa.Array:
    """Return texts as an Arrow array."""
    import pyarrow as pa

    encoded = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), len(encoded), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))])


def texts_by_number(numbers: np.ndarray, names: Sequence[str]) -> pa.Array:
    """Return the name of each number as an Arrow array of texts: few names, of which each is encoded once."""
    import pyarrow as pa

    encoded = [name.encode() for name in names]
    lengths = np.array(list(map(len, encoded)), np.int32)[numbers]
    ends = np.cumsum(np.append(0, lengths), dtype=np.int32)
    width = int(lengths.max(initial=0))
    if width and (lengths == width).all():  # as texts of one width they need no objects
        joined = np.array([name[:width] for name in encoded], f"S{width}")[numbers].tobytes()
    else:
        joined = b"".join(map(encoded.__getitem__, numbers.tolist()))
    return pa.Array.from_buffers(pa.string(), len(numbers), [None, pa.py_buffer(ends), pa.py_buffer(joined)])


def has_column(table: pa.Table, name: str) -> bool:
    """Return whether a table has a column, also for wide tables, where Arrow's list of names is slow."""
    return bool(table.schema.get_field_index(name) >= 0)


def with_columns(table: pa.Table, columns: Mapping[str, pa.Array]) -> pa.Table:
    """Return a table with these columns, which replace those of the same name or are appended, at once if wide."""
    import pyarrow as pa

    before = dict(zip(table.column_names, table.columns, strict=True))
    return pa.table({**before, **columns})


def _array(kind: Any, values: np.ndarray, present: np.ndarray | None = None) -> pa.Array:
    import pyarrow as pa

    bits = None if present is None else pa.py_buffer(np.packbits(present, bitorder="little"))
    return pa.Array.from_buffers(kind, len(values), [bits, pa.py_buffer(np.ascontiguousarray(values))])


def _part(chunk: pa.Array, missing: Any) -> np.ndarray:
    kind = _kind(chunk.type)
    if not len(chunk):
        return np.zeros(0, kind)
    values = np.frombuffer(chunk.buffers()[1], kind, len(chunk), chunk.offset * kind.itemsize)
    if not chunk.null_count:
        return values
    stand_in = missing if missing is not None else np.nan if kind.kind == "f" else 0
    return np.where(valid(chunk), values, np.array(stand_in, kind))


_kinds: dict[int, np.dtype[Any]] = {}  # by Arrow's number of the type: its name takes as long as reading a column


def _kind(arrow: pa.DataType) -> np.dtype[Any]:
    if arrow.id not in _kinds:
        width = arrow.bit_width // 8
        _kinds[arrow.id] = np.dtype(f"f{width}" if str(arrow) in ("double", "float") else f"i{width}")
    return _kinds[arrow.id]
