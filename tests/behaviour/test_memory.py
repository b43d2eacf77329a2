"""Long jobs keep to so many bytes of memory per bar, in processes of their own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backtest.market import arrays

PEAK = """
import pathlib

def peak():
    (line,) = [one for one in pathlib.Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
"""
IMPORT = (
    PEAK
    + """
import sys
from backtest.downloads.ingestion import plan_intake
from backtest.market.series import Series
from backtest.sources.files.reading import FileOptions, read_table
from backtest.store.store import Store

def bars_of(path):
    return plan_intake(read_table(path), Series.parse("BTC-CRYPTO-PAXOS-USD/5secs"), Store("store"), FileOptions()).new

bars_of("few.parquet")  # which imports what is needed
before, bars = peak(), bars_of("many.parquet")
print(bars, (peak() - before) / bars)
"""
)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_file_is_read_for_an_import_in_little_more_memory_than_its_bars_take(tmp_path):
    count = 3_000_000
    write_bars(tmp_path / "few.parquet", 1000)
    write_bars(tmp_path / "many.parquet", count)

    told = subprocess.run([sys.executable, "-c", IMPORT], cwd=tmp_path, capture_output=True, text=True, check=True)

    bars, a_bar = told.stdout.split()
    assert int(bars) == count
    assert float(a_bar) < 120, a_bar  # 48 its six columns, 8 the numbers of rows, 30 what is checked at once


def write_bars(path: Path, count: int) -> None:
    """Write bars of five seconds around the clock to a Parquet file, whose columns come in many chunks."""
    price = 100 + np.arange(count) % 1000 / 8
    times = np.datetime64("2003-01-01", "us") + np.arange(count) * np.timedelta64(5, "s")
    prices = dict.fromkeys(("open", "high", "low", "close", "volume"), arrays.floats(price))
    pq.write_table(pa.table({"time": arrays.stamps(times), **prices}), path)
