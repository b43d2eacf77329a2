"""Bars as files, written so that `bars_of` reads the same bars from them."""

from __future__ import annotations

import csv
import io
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from backtest.errors import NoBars, UsageError
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.sources.files.folder import ENDINGS
from backtest.store.replacement import replace_file

if TYPE_CHECKING:
    import pyarrow as pa


def span_of_bars(bars: pa.Table, series: Series) -> Span:
    """
    Return the span from the first bar to the end of the last, by dates for daily bars.

    Raises:
        NoBars: there is no bar.
    """
    if not len(bars):
        raise NoBars(f"the file holds no bars of {series.short}; name one that does")
    first, last = (bars["time"][n].as_py() for n in (0, -1))
    if series.size.daily:
        return Span.of_dates(first.date(), last.date())
    return Span(first, last + timedelta(seconds=series.size.seconds))


def write_bars(bars: pa.Table, path: str | Path, series: Series, overwrite: bool = False) -> None:
    """
    Write bars to a CSV or Parquet file, by its ending; `bars_of` reads the same bars from it.

    Raises:
        UsageError: the file has another ending, or exists and may not be overwritten.
    """
    import pyarrow.parquet as pq

    target = Path(path)
    ending = _ending(target)
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists; name another file, or add --force to replace it")
    write = partial(pq.write_table, bars) if ending == ".parquet" else partial(_write_csv, bars, series)
    replace_file(target, write, named=True)


def _write_csv(bars: pa.Table, series: Series, file: IO[bytes]) -> None:
    handle = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(handle, lineterminator="\n")
    writer.writerow(bars.column_names)
    for batch in bars.to_batches(max_chunksize=10_000):
        rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
        writer.writerows([_written(row[0], series), *row[1:]] for row in rows)  # floats as repr: read back the same
    handle.detach()  # which writes what is left, and leaves the file open


def _written(moment: datetime, series: Series) -> str:
    text = moment.isoformat().replace("+00:00", "Z")
    return text[:10] if series.size.daily else text


def _ending(path: Path) -> str:
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise UsageError(f"{path} ends in {ending or 'nothing'!r}; name a file that ends in {' or '.join(ENDINGS)}")
    return ending
