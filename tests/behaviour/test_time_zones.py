"""Nothing needs the system's database of time zones: Windows has none, and slim images leave it out."""

from __future__ import annotations

import ast
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from backtest.emulator import protocol
from backtest.market import checks
from backtest.market.bars import table_of
from backtest.market.series import Series
from backtest.store.tables import by_date, by_period

ROOT = Path(__file__).parents[2]
# Arrow's functions that load it, for times without a zone and for UTC as well.
OF_ARROW = {
    "assume_timezone", "ceil_temporal", "day", "day_of_week", "day_of_year", "floor_temporal", "hour", "is_dst",
    "is_leap_year", "iso_calendar", "iso_week", "iso_year", "local_timestamp", "microsecond", "millisecond", "minute",
    "month", "nanosecond", "quarter", "round_temporal", "second", "strftime", "subsecond", "us_week", "us_year", "week",
    "year", "year_month_day",
}  # fmt: skip
WITHOUT = """
import os, sys
from datetime import date
from pathlib import Path
folder = Path(sys.argv[1])
assert not os.listdir("/usr/share/zoneinfo")
sys.path.insert(0, "tests/support")
from market import store_with
from backtest.cli.app import main
from backtest.sources.connect import connect
from backtest.downloads.downloader import download
from backtest.store.store import Store

made = store_with(folder / "made", {
    "AAPL/1min": ("2024-03-07", "2024-03-12"), "AAPL/30secs": ("2024-03-07", "2024-03-08"),
    "EUR-CASH/1hour": ("2024-03-07", "2024-03-12"), "AAPL/1day": ("2024-03-07", "2024-03-12"),
})
kept = Store(folder / "kept")
served = [one for one in made.series() if one.size.seconds >= 60]  # IB keeps bars of fewer for half a year
with connect(f"emulator:{folder / 'made'}") as source:
    report = download(kept, source, served, (date(2024, 3, 7), date(2024, 3, 8)))
assert not report.ended_by, report
for one in served:
    assert kept.read(one).equals(made.read(one, (date(2024, 3, 7), date(2024, 3, 8)))), one
frame = made.read("AAPL/1min").to_pandas()
frame["time"] = frame["time"].dt.tz_convert("America/New_York").dt.tz_localize(None)
(folder / "csv").mkdir()
frame.to_csv(folder / "csv" / "MSFT.csv", index=False)

def call(*words):
    try:
        main(list(words))
    except SystemExit as ended:
        assert not ended.code, (words, ended.code)

os.chdir(folder)
call("import", "csv/MSFT.csv", "MSFT/1min", "--tz", "America/New_York", "--store", "kept")
call("pin", "--store", "kept", "AAPL/1min", "MSFT/1min")
call("pin", "--check", "--store", "kept")
call("run", "sma_cross", "AAPL/1min", "--set", "fast=2", "--set", "slow=5", "--store", "kept", "--out", "ran")
call("report", "ran")
print("all of it")
"""


@pytest.mark.slow
def test_no_function_of_arrows_that_loads_the_database_is_called():
    called = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.attr}"
        for folder in ("backtest", "strategies", "notebooks")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in OF_ARROW
        if isinstance(node.value, ast.Name) and node.value.id in ("pc", "compute")
    ]

    assert called == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can hide a folder from one process")
def test_all_works_where_the_system_has_no_time_zones(tmp_path):
    hide = ["unshare", "--mount", "--map-root-user", "sh", "-c", 'mount -t tmpfs none /usr/share/zoneinfo && exec "$@"']
    if subprocess.run([*hide, "sh", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets no process have mounts of its own")

    ran = subprocess.run(
        [*hide, "sh", sys.executable, "-c", WITHOUT, str(tmp_path)],
        capture_output=True, text=True, cwd=ROOT, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip

    assert (ran.returncode, ran.stdout.splitlines()[-1:]) == (0, ["all of it"]), ran.stderr[-3000:]


@pytest.mark.parametrize(
    ("unit", "names"),
    [
        ("D", ["1969-12-31", "1970-01-01", "2024-02-29", "2024-03-01"]),
        ("M", ["1969-12", "1970-01", "2024-02", "2024-03"]),
        ("Y", ["1969", "1970", "2024"]),
    ],
)
def test_bars_are_cut_at_the_dates_of_utc(unit, names):
    moments = [datetime(1969, 12, 31, 23, 59, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC),
               datetime(2024, 2, 29, 23, 59, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)]  # fmt: skip
    bars = table_of([(moment, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1) for moment in moments])

    parts = list(by_date(pa.concat_tables([bars.slice(0, 3), bars.slice(3)]), unit))

    assert [name for name, _ in parts] == names
    assert [row for _, part in parts for row in part["time"].to_pylist()] == moments


def test_a_table_without_bars_has_no_dates():
    empty = table_of([])

    assert list(by_date(empty, "M")) == []
    assert by_period(empty, Series.parse("AAPL/1min")) == {}


@pytest.mark.parametrize("version", [173, 174])
def test_the_emulator_writes_a_time_as_its_zones_clock_shows_it(version):
    moments = [datetime(1969, 12, 31, 14, 30, tzinfo=UTC), datetime(2024, 3, 8, 14, 30, tzinfo=UTC),
               datetime(2024, 3, 11, 13, 30, tzinfo=UTC)]  # fmt: skip  # the clocks went forward between the last two
    bars = table_of([(moment, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1) for moment in moments])

    texts = protocol.stamp_texts(bars, False, 1, "America/New_York", version).to_pylist()

    days = ["19691231", "20240308", "20240311"]
    assert texts == [f"{day} 09:30:00 America/New_York" if version >= 174 else f"{day}  09:30:00" for day in days]


def test_the_emulator_writes_the_stamps_of_days_and_of_seconds():
    bars = table_of([(datetime(2024, 3, 8, tzinfo=UTC), 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1)])

    assert protocol.stamp_texts(bars, True, 2, "America/New_York", 176).to_pylist() == ["20240308"]
    assert protocol.stamp_texts(bars, False, 2, "America/New_York", 176).to_pylist() == ["1709856000"]


def test_a_finding_before_1970_says_its_date():
    assert checks._moment(-86_400) == datetime.combine(date(1969, 12, 31), datetime.min.time(), UTC)
