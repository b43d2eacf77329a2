"""One browser for all tests of the pages."""

from __future__ import annotations

from collections.abc import Iterator

import browser
import pytest


@pytest.fixture(scope="session")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Tab]:
    """Yield a tab of a browser."""
    with browser.started(tmp_path_factory.mktemp("browser")) as tab:
        yield tab
