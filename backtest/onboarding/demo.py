"""`run_demo`: the whole workflow on the sample, from the emulator to the pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from backtest._clock import Clock, utc_now
from backtest._resources import bundled
from backtest.api import RunResult, run
from backtest.downloads.downloader import DownloadReport, download
from backtest.market.series import Series
from backtest.report.gallery import write_gallery
from backtest.report.run_page import write_report
from backtest.sources.connect import connect
from backtest.store.store import Store

SERIES = ("AAPL/1day", "GOOG/1day", "IBM/1day", "MSFT/1day")
STRATEGIES = ("buy_and_hold", "sma_cross")
SINCE, UNTIL = date(2000, 3, 1), date(2013, 3, 1)


@dataclass(frozen=True, slots=True)
class Demo:
    """The results of the demo: the download's report, a result and a page per run, and the page that lists them."""

    report: DownloadReport
    results: list[RunResult]
    pages: list[Path]
    gallery: Path


def run_demo(
    out: Path, store_folder: str, *, tell: Callable[[str], object] = lambda _: None, clock: Clock = utc_now
) -> Demo:
    """Download the sample's series through the emulator, run every strategy on each, write the pages."""
    store = Store(store_folder, clock)
    series = [Series.parse(text) for text in SERIES]
    tell(f"Downloading daily bars of {len(SERIES)} stocks from the emulator, {SINCE} to {UNTIL} ...")
    with connect(f"emulator:{bundled('sample')}", clock=clock) as source:
        report = download(store, source, series, (SINCE, UNTIL))
    if report.ended_by:
        raise report.ended_by
    added = sum(one.bars_added for one in report.series)
    tell(
        f"{added:,} bars downloaded into {store.root} with {report.requests} requests."
        if report.requests
        else f"Nothing to download: {store.root} has all {sum(one.bars for one in report.series):,} bars."
    )
    results = [run(strategy, one, store=store) for strategy in STRATEGIES for one in series]
    tell(f"{len(results)} runs done; writing their pages ...")
    pages = [write_report(result, out / result.name, force=True) for result in results]
    return Demo(report, results, pages, write_gallery(out))
