"""
Downloads: requests, pacing and throughput, measured at the other end, an emulator that enforces IB's limits.

Run:  python tests/benchmarks/downloads.py [--series 500] [--years 20] [--minute-years 10]

Prints, for one series of minute bars and for many daily series: requests over their lower bound (the fewest requests of
the practical table in market/ib_limits.py, counted on the exchange's calendar), for a clean run, a run with holes to
repair, a run with a broken connection, and a second run; pacing violations; and the throughput of the daily job
over that of a bare ib_insync loop that fetches the same bars and saves nothing. Bars are compared before timing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from backtest.downloads.downloader import DownloadReport, download
from backtest.market.bars import schema
from backtest.market.calendars import sessions, span_of_sessions
from backtest.market.hours import hours_of
from backtest.market.series import Instrument, Series
from backtest.market.span import Span
from backtest.sources.connect import connect
from backtest.sources.ib.requests import windows
from backtest.store.store import Store

UNTIL = date(2025, 12, 31)
MINUTES = Series.parse("AAPL/1min")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--series", type=int, default=500)
    words.add_argument("--years", type=int, default=20)
    words.add_argument("--minute-years", type=int, default=10)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = daily(Path(folder) / "daily", asked.series, asked.years)
        rows += minutes(Path(folder) / "minutes", asked.minute_years)
    print("\n| job | result |\n|---|---|")
    print("\n".join(f"| {job} | {result} |" for job, result in rows))


def minutes(folder: Path, years: int) -> Iterator[tuple[str, str]]:
    """Yield the requests of one long job: clean, again, with holes, with a broken connection."""
    since = date(UNTIL.year - years + 1, 1, 2)
    span = span_of_sessions(MINUTES, hours_of(MINUTES.instrument), since, UNTIL)
    upstream = Store(folder / "upstream")
    upstream.write(MINUTES, span, minute_bars(since))
    bound = len(windows(MINUTES, hours_of(MINUTES.instrument), span))
    name = f"1 min, {years} years ({upstream.manifest(MINUTES).rows:,} bars)"
    with serving(upstream) as (address, log):
        report = fill(Store(folder / "clean"), address, [MINUTES], since)
        equal(Store(folder / "clean"), upstream, [MINUTES])
        yield f"{name}, clean: requests / lower bound", ratio(asked(log), bound)
        before = asked(log)
        fill(Store(folder / "clean"), address, [MINUTES], since)
        yield f"{name}, second run: requests", f"{asked(log) - before}"
        yield f"{name}: violations", f"{violations(log)}, seen by the client {report.violations}"
    faults = [{"when": {"request": 5}, "do": "drop", "bytes": 5000}]
    with serving(upstream, faults) as (address, log):
        fill(Store(folder / "broken"), address, [MINUTES], since)
        equal(Store(folder / "broken"), upstream, [MINUTES])
        yield f"{name}, one disconnect: requests more", f"{asked(log) - bound}"
    holes = Store(folder / "holes")
    holes.write(MINUTES, span, without_days(upstream.read(MINUTES)))
    with serving(holes) as (address, log):
        fill(Store(folder / "repaired"), address, [MINUTES], since, exit_code=3)  # not confirmed before another day
        yield f"{name}, 10 sessions missing: requests / lower bound", ratio(asked(log), bound)


def daily(folder: Path, count: int, years: int) -> list[tuple[str, str]]:
    """Return the requests, and the throughput, of many daily series."""
    since = date(UNTIL.year - years + 1, 1, 2)
    series = [Series.parse(f"S{n:03}/1day") for n in range(count)]
    upstream = Store(folder / "upstream")
    bars = daily_bars(since)
    for one in series:
        upstream.write(one, Span.of_dates(since, UNTIL), bars)
    with serving(upstream) as (address, log):
        fill(Store(folder / "fifth"), address, series[: count // 5], since)
        fifth, before = peak(), asked(log)
        started = time.perf_counter()
        fill(Store(folder / "bars"), address, series, since)
        ours = time.perf_counter() - started
        requests = asked(log) - before
        memory = f"{fifth} MB after {count // 5} series, {peak()} MB after {count}"
        equal(Store(folder / "bars"), upstream, series)
        fill(Store(folder / "bars"), address, series, since)
        again = asked(log) - requests - before
        bare = bare_loop(address, series, years, len(bars))
        name = f"{count} series x {years} years daily"
        return [
            (f"{name}: requests / lower bound", ratio(requests, count)),
            (f"{name}, second run: requests", f"{again}"),
            (f"{name}: violations", f"{violations(log)}"),
            (f"{name}: peak memory", memory),
            (f"{name}: throughput / bare ib_insync loop", f"{bare / ours:.2f}"),
        ]


def bare_loop(address: str, series: list[Series], years: int, expected: int) -> float:
    """Return the seconds that plain ib_insync takes to fetch the same bars, one series after the other."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    from ib_insync import IB, Stock

    client = IB()
    client.connect("127.0.0.1", int(address.rpartition(":")[2]), 9, readonly=True)
    started = time.perf_counter()
    for one in series:
        contract = Stock(one.instrument.symbol, "SMART", "USD")
        client.qualifyContracts(contract)
        end = f"{UNTIL:%Y%m%d}-23:59:59"
        bars = client.reqHistoricalData(contract, end, f"{years} Y", "1 day", "TRADES", True, 2)
        assert abs(len(bars) - expected) < 5, len(bars)
    seconds = time.perf_counter() - started
    client.disconnect()
    loop.run_until_complete(asyncio.sleep(0.01))  # for the socket that has just hung up
    asyncio.set_event_loop(None)
    loop.close()
    return seconds


@contextmanager
def serving(store: Store, faults: list[dict[str, object]] | None = None) -> Iterator[tuple[str, Path]]:
    """Run the emulator in a process of its own; yield its address and its log."""
    log = store.root.parent / f"{store.root.name}.log"
    log.unlink(missing_ok=True)
    script = log.with_suffix(".faults")
    script.write_text(json.dumps(faults or []))
    words = ["emulator", "--store", str(store.root), "--port", "0", "--log", str(log), "--faults", str(script)]
    with subprocess.Popen([sys.executable, "-m", "backtest", *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        address = process.stdout.readline().split()[-1]
        try:
            yield f"ib://{address}", log
        finally:
            process.terminate()


def fill(store: Store, address: str, series: list[Series], since: date, exit_code: int = 0) -> DownloadReport:
    with connect(address) as source:
        report = download(store, source, series, (since, UNTIL))
    assert report.exit_code == exit_code, [one.errors for one in report.series if one.errors][:3]
    return report


def equal(store: Store, upstream: Store, series: list[Series]) -> None:
    assert all(store.manifest(one).content == upstream.manifest(one).content for one in series)


def asked(log: Path) -> int:
    """Return the requests for bars that the emulator has received."""
    return sum(json.loads(line)["kind"] == "bars" for line in log.read_text().splitlines())


def violations(log: Path) -> int:
    return sum("pacing" in line or json.loads(line)["code"] == 100 for line in log.read_text().splitlines())


def peak() -> int:
    """Return the peak memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def ratio(requests: int, bound: int) -> str:
    return f"{requests} / {bound} = {requests / bound:.3f}"


def minute_bars(since: date) -> pa.Table:
    opens = [(s.open, s.close) for s in sessions(hours_of(Instrument("AAPL")), since, UNTIL)]
    spans = [np.arange(int(a.timestamp()), int(b.timestamp()), 60) for a, b in opens]
    return made_up(np.concatenate(spans) * 1_000_000)


def daily_bars(since: date) -> pa.Table:
    days = [s.day for s in sessions(hours_of(Instrument("AAPL")), since, UNTIL)]
    return made_up(np.array(days, "datetime64[us]").astype(np.int64))


def made_up(stamps: np.ndarray) -> pa.Table:
    chance = np.random.default_rng(7)
    close = np.round(100 * np.exp(np.cumsum(chance.normal(0, 0.0005, len(stamps)))), 2)
    high, low = np.round(close + 0.05, 2), np.round(close - 0.05, 2)
    volume = chance.integers(1, 90_000, len(stamps)).astype(float)
    columns = [close, high, low, close, volume, close, chance.integers(1, 900, len(stamps))]
    time_column = pa.array(stamps, pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC"))
    return pa.Table.from_arrays([time_column, *map(pa.array, columns)], schema=schema())


def without_days(bars: pa.Table) -> pa.Table:
    """Return the bars without ten sessions in the middle."""
    days = pc.floor_temporal(bars["time"], unit="day")
    every = pc.unique(days)
    step = math.floor(len(every) / 11)
    gone = every.take(pa.array([step * n for n in range(1, 11)]))
    return bars.filter(pc.invert(pc.is_in(days, gone)))


if __name__ == "__main__":
    assert datetime.now(UTC).date() > UNTIL
    main()
