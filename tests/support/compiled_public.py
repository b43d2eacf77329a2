"""
The public strategies that the compiled engine is measured on, frozen before there was a translator.

Drawn by a rule: of the strategies in docs/public-strategies.md that are equal and give orders, every third one in order
of the SHA-256 of "FILE'S SHA-256 CLASS". The list holds names, hashes and constructs; sources are not part of this
repository.
"""

from __future__ import annotations

import csv
from hashlib import sha256
from typing import NamedTuple

from places import ROOT

LIST = ROOT / "tests" / "support" / "compiled_public.csv"
PAGE = ROOT / "docs" / "public-strategies.md"
EACH = 3


class Row(NamedTuple):
    """A strategy class of a public file, and what the file uses, by the names of `public_strategies.CONSTRUCTS`."""

    repository: str
    path: str
    cls: str
    digest: str
    constructs: str


def frozen() -> list[Row]:
    """Return the rows of the list."""
    with LIST.open(encoding="utf-8", newline="") as file:
        return [Row(**row) for row in csv.DictReader(file)]


def trading() -> list[tuple[str, str, str, str]]:
    """Return repository, path, class and hash of all that are equal and give orders, in order of hash."""
    rows = [row.strip("| ").split(" | ") for row in PAGE.read_text("utf-8").split("## The strategies")[1].splitlines()]
    found = [row for row in rows if len(row) == 7 and row[6].startswith("equal") and row[4] not in ("0", "orders")]
    return sorted(((row[0], row[1], row[2], row[3]) for row in found), key=place)


def place(row: tuple[str, ...]) -> str:
    return sha256(f"{row[3]} {row[2]}".encode()).hexdigest()
