"""One browser for all tests of the pages, and one run of thirteen years whose page several look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import browser
import pytest
from places import ROOT

from backtest import RunResult, run
from backtest.report.run_page import write_report


@pytest.fixture(scope="session")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Tab]:
    """Yield a tab of a browser."""
    with browser.started(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


@pytest.fixture(scope="session")
def long_run() -> RunResult:
    """Return a run on two series of the sample."""
    return run(ROOT / "strategies" / "sma_cross.py", ["AAPL/1day", "IBM/1day"], store=ROOT / "data" / "sample")


@pytest.fixture(scope="session")
def long_page(tmp_path_factory: pytest.TempPathFactory, long_run: RunResult) -> Path:
    """Return the page of that run."""
    return write_report(long_run, tmp_path_factory.mktemp("years"))
