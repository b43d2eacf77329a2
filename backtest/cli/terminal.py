"""How words and tables look in a terminal: people's words on stderr, results on stdout, 80 columns."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.text import Text

_WIDTH = 80
_CONTROLS = {n: f"\\x{n:02x}" for n in (*range(32), *range(127, 160)) if chr(n) not in "\n\t"}


def say(text: str) -> None:
    """Tell people something: stderr."""
    print(_harmless(text), file=sys.stderr, flush=True)


def give(text: str) -> None:
    """Give a result: stdout."""
    print(_harmless(text), flush=True)


def give_json(value: dict[str, Any]) -> None:
    """Give a result for machines."""
    give(json.dumps(value, indent=1, allow_nan=False))


def give_table(columns: tuple[str, ...], rows: list[list[str]]) -> None:
    """Give a table; columns of numbers are set to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0, collapse_padding=True)
    for n, name in enumerate(columns):
        right = bool(rows) and all(row[n][:1] in "-–0123456789" for row in rows) and "-" not in rows[0][n][1:]
        # Where the width is short, the first column is folded: it names a thing, and cut off it would name none.
        table.add_column(name, justify="right" if right else "left", no_wrap=n > 0, overflow="fold")
    for row in rows:
        table.add_row(*map(unmarked, row))
    Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False).print(table)


def unmarked(text: str) -> Text:
    """Return the text as it is: square brackets in it are no marks for rich."""
    from rich.text import Text

    return Text(_harmless(text), overflow="fold")


def wrapped(text: str) -> str:
    """Return the text in lines of 80 columns."""
    import textwrap

    return textwrap.fill(text, _WIDTH, break_on_hyphens=False)


def width() -> int:
    """Return the columns there are: those of the terminal, 80 where there is none."""
    import shutil

    return max(shutil.get_terminal_size().columns, 40) if sys.stdout.isatty() else _WIDTH


def _harmless(text: str) -> str:
    """Return the text with its control characters to be read: a stranger's name could move the cursor by them."""
    return text.translate(_CONTROLS)
