"""The findings of `verify` in the files of a store, for the tests that damage them."""

from __future__ import annotations

from pathlib import Path

from backtest.errors import DataError
from backtest.store.audit.verification import verify


def complaints(root: Path) -> list[str]:
    """Return a line for each file that is damaged or left over, with its path."""
    try:
        found = [one for verdict in verify(root) for one in verdict.findings]
    except DataError as error:
        return [str(error)]
    return [f"{one.path}: {one.text}" for one in found if one.level in ("damage", "note")]
