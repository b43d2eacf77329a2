"""Write the pages of `docs/reference` that are made from the code: `python docs/reference.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from making.commands import commands_page
from making.ib import ib_page
from making.metrics import metrics_page
from making.tables import tables_page

FOLDER = Path(__file__).parent / "reference"
PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands_page,
    "metrics.md": metrics_page,
    "tables.md": tables_page,
    "ib-errors.md": ib_page,
}


def main() -> None:
    """Write every page."""
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
