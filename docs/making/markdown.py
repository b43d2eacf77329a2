"""Pages, paragraphs and tables as Markdown."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable
from typing import Any

WIDTH = 110
MADE = "Made by `python docs/reference.py`; what is edited here is lost."
# What would begin a list, a heading or a quotation in front of a line.
_MARKER = re.compile(r"^(\s*\d*)([-+*#>.)])(?= )")


def page(title: str, *parts: str) -> str:
    """Return a page of parts with an empty line between."""
    return "\n\n".join([f"# {title}", MADE, *filter(None, parts)]) + "\n"


def paragraph(text: str, first: str = "", later: str = "") -> str:
    """Return a text in lines of the page, none of which can be read as the beginning of a list or a heading."""
    lines = textwrap.wrap(
        " ".join(text.split()),
        WIDTH,
        initial_indent=first,
        subsequent_indent=later,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join([*lines[:1], *(_MARKER.sub(r"\1\\\2", line) for line in lines[1:])])


def bullets(texts: Iterable[str]) -> str:
    """Return a list."""
    return "\n".join(paragraph(text, "- ", "  ") for text in texts)


def table(*rows: Iterable[str]) -> str:
    """Return a table, the first row of which is its head."""
    head, *body = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |".replace("  ", " ") for row in (head, ["---"] * len(head), *body))


def fenced(text: str, language: str = "") -> str:
    """Return a block of code."""
    return f"```{language}\n{text}\n```"


def anchor(heading: str) -> str:
    """Return the address of a heading within its page, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def linked(heading: str, words: str = "") -> str:
    """Return a link to a heading of the same page."""
    return f"[{words or heading}](#{anchor(heading)})"


def plain(text: str) -> str:
    """Return a text in which no sign means a tag or emphasis."""
    return re.sub(r"([<*])", r"\\\1", text)


def sentence(text: str) -> str:
    """Return the text with a capital letter in front and a full stop at its end."""
    return text[:1].upper() + text[1:].rstrip(".") + "."


def summary(thing: Any) -> str:
    """Return the first sentence of a docstring."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())
