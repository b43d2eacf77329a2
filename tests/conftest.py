"""Stores and gateways that several tests use."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pages
import pytest
from blank import blank_figures
from hypothesis import HealthCheck, settings
from market import store_with

from backtest.cli.app import main
from backtest.emulator.server import Gateway
from backtest.report import figures
from backtest.store.store import Store

# The same examples on every machine and in every run, however busy it is; others with --hypothesis-profile=search.
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("search", settings.get_profile("same"), derandomize=False, max_examples=2000)
settings.load_profile("same")


def pytest_collectstart() -> None:
    """Collect no garbage until all tests are collected: what is made stays, and walking it took half of the time."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Keep modules and tests, hundreds of thousands of objects, out of each later collection of garbage."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)  # of what the tests make themselves
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep budgets and learnt limits of the tests' commands away from those of whoever runs them."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("XDG_CACHE_HOME")
    if before is not None:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(scope="session")
def sample() -> Store:
    """Return the sample of the repository: daily bars of AAPL, GOOG, IBM and MSFT, 2000-03-01 to 2013-03-01."""
    return Store(Path(__file__).parents[1] / "data" / "sample")


@pytest.fixture(scope="session")
def intraday(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return a made-up market of minutes: the change to daylight saving in March 2024, and a half-day in July."""
    return store_with(
        tmp_path_factory.mktemp("intraday"),
        {
            "AAPL/1min": ("2024-03-04", "2024-03-15"),
            "AAPL/1min/TRADES/all": ("2024-03-04", "2024-03-15"),
            "MSFT/1min/TRADES/all": ("2024-07-01", "2024-07-05"),
            "EUR-CASH/1min": ("2024-03-04", "2024-03-15"),
            "ES-FUT-CME-USD-202406/1min": ("2024-03-08", "2024-03-12"),
        },
    )


@pytest.fixture
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pages have one static figure, a blank one, where they are written and it is not about these."""
    monkeypatch.setattr(figures, "FIGURES", blank_figures())


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that calls the command line in this process, for exit code, stdout and stderr."""

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def gateway(sample: Store) -> Iterator[Gateway]:
    """Yield a running gateway on the sample."""
    with Gateway(sample) as running:
        yield running


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pages.Desk]:
    """Yield where readers do what pages say."""
    with pages.desk(tmp_path_factory.mktemp("pages")) as ready:
        yield ready
