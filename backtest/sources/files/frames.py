"""Frames of pandas, polars and Arrow as named columns, whatever their index and column levels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backtest.errors import UsageError
from backtest.sources.files.content import ColumnsOfFile
from backtest.sources.files.headings import meanings_of
from backtest.sources.files.times import kind_of

_EXAMPLE = "write a pandas or polars data frame, or a pyarrow table, with one bar per row"


def columns_of_frame(frame: Any) -> ColumnsOfFile:
    """
    Return the columns of a frame, and those of its index if it has a name or holds times.

    Raises:
        UsageError: it is not a data frame.
    """
    import pandas as pd
    import pyarrow as pa

    if isinstance(frame, pd.Series):
        raise UsageError(f"a pandas Series has one column, but a bar needs four; {_EXAMPLE}")
    if isinstance(frame, pd.DataFrame):
        return _of_pandas(frame)
    if isinstance(frame, pa.RecordBatch):
        frame = pa.Table.from_batches([frame])
    if hasattr(frame, "collect") and hasattr(frame, "lazy"):  # polars, not read yet
        frame = frame.collect()
    if not isinstance(frame, pa.Table) and hasattr(frame, "to_arrow"):
        frame = frame.to_arrow()
    if not isinstance(frame, pa.Table) and hasattr(frame, "__arrow_c_stream__"):
        frame = pa.table(frame)
    if isinstance(frame, pa.Table):
        return ColumnsOfFile(list(frame.column_names), [plain_column(column) for column in frame.columns])
    if isinstance(frame, Mapping):
        try:
            return _of_pandas(pd.DataFrame(dict(frame)))
        except (ValueError, TypeError) as error:
            raise UsageError(f"the columns do not form a frame ({error}); {_EXAMPLE}") from error
    if getattr(getattr(frame, "dtype", None), "names", None) or (
        isinstance(frame, list) and frame and all(isinstance(row, Mapping) for row in frame)
    ):
        return _of_pandas(pd.DataFrame(frame))  # records, of numpy or of Python
    raise UsageError(f"{type(frame).__name__} is not a data frame; {_EXAMPLE}")


def is_frame(given: Any) -> bool:
    """Return whether an object is a frame, not the name of a series or a list of names."""
    import sys

    kinds = tuple(
        kind
        for module, name in (("pandas", "DataFrame"), ("pyarrow", "Table"), ("pyarrow", "RecordBatch"))
        if module in sys.modules and (kind := getattr(sys.modules[module], name, None))
    )
    marks = ("__arrow_c_stream__", "to_arrow", "collect_schema")  # of Arrow's kind, of polars, of polars not read yet
    return isinstance(given, kinds) or any(hasattr(given, mark) for mark in marks)


def plain_column(column: Any) -> Any:
    """Return an Arrow column without dictionaries or special text types."""
    import pyarrow as pa

    chunked = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    if pa.types.is_dictionary(chunked.type):
        chunked = chunked.cast(chunked.type.value_type)
    if pa.types.is_large_string(chunked.type) or str(chunked.type) == "string_view":
        chunked = chunked.cast(pa.string())
    return chunked


def in_one(column: Any) -> Any:
    """Return a column of numbers or times as one chunk, so that what reads it need not join the chunks again."""
    import pyarrow as pa

    fixed = pa.types.is_primitive(column.type)  # texts may be too long for one chunk
    return pa.chunked_array([column.combine_chunks()]) if fixed and column.num_chunks > 1 else column


def _of_pandas(frame: Any) -> ColumnsOfFile:
    import pandas as pd

    names, symbols = _names(frame)
    columns = [_column(frame.iloc[:, place]) for place in range(len(names))]
    index = frame.index
    levels = [index.get_level_values(n) for n in range(index.nlevels)]
    for level in reversed(levels):
        values = _column(level.to_series().reset_index(drop=True))
        timed = isinstance(level, pd.DatetimeIndex | pd.PeriodIndex) or (
            not isinstance(level, pd.RangeIndex) and kind_of(values) not in ("", "serial")
        )
        if timed or level.name is not None:
            named = str(level.name) if level.name is not None else "time"
            names.insert(0, "time" if timed and not _is_time(named) else named)
            columns.insert(0, values)
            symbols.insert(0, "")
    return ColumnsOfFile(names, columns, symbols=tuple(symbols) if any(symbols) else ())


def _is_time(name: str) -> bool:
    return any(meaning.ours == "time" for meaning in meanings_of(name))


def _names(frame: Any) -> tuple[list[str], list[str]]:
    """Return the names of the columns and, with a level of prices and one of symbols, the symbol of each."""
    if frame.columns.nlevels == 1:
        return [str(name) for name in frame.columns], [""] * len(frame.columns)
    levels = [[str(word) for word in frame.columns.get_level_values(n)] for n in range(frame.columns.nlevels)]
    best = max(levels, key=lambda words: sum(bool(meanings_of(word)) for word in words))
    others = [words for words in levels if words is not best]
    return list(best), ["" if word == "nan" else word for word in others[0]]


def _column(values: Any) -> Any:
    """Return a column of pandas as one of Arrow; of mixed types as text, which is read like that of a file."""
    import pandas as pd
    import pyarrow as pa

    if isinstance(values.dtype, pd.PeriodDtype):
        values = values.dt.to_timestamp(how="end").dt.normalize()
    if isinstance(values.dtype, pd.SparseDtype):
        values = values.sparse.to_dense()
    try:
        return plain_column(pa.chunked_array([pa.array(values, from_pandas=True)]))
    except (pa.ArrowException, TypeError, ValueError):
        texts = [None if value is None or value is pd.NaT else str(value) for value in values]
        return pa.chunked_array([pa.array(texts, pa.string())])
