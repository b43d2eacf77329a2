"""Pages from templates, formatted numbers, and our scripts inside a page."""

from __future__ import annotations

import json
import os
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from backtest.errors import UsageError, unsaved
from backtest.store.replacement import replace_file

if TYPE_CHECKING:
    from jinja2 import Environment

    from backtest.validity.verdict import Verdict

GROUP_TITLES = {
    "return": "Returns",
    "risk": "Risk",
    "drawdown": "Drawdowns",
    "benchmark": "Relative to buy and hold",
    "activity": "Activity",
    "trades": "Trades and costs",
    "": "Your own metrics",
}

_MINUS = re.compile(r"(?<![\w-])-(?=[\d.])")  # of a number, not of a date, a word or a name


def rendered(template: str, content: dict[str, Any]) -> str:
    """Return a page from a template."""
    return _templates().get_template(template).render(content)


@cache  # which keeps what it compiled: that takes longer than to fill it in
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("backtest.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_page_beside(text: str, folder: Path, whose: str) -> Path:
    """
    Write a page, HTML, as index.html into a folder that holds no run, and return its path.

    Args:
        whose: the owner of the page in an error: "that of the sweep".

    Raises:
        UsageError: the folder cannot be written, or holds a run.
    """
    page = folder / "index.html"
    if (folder / "spec.json").exists():
        raise UsageError(f"{folder} holds a run, whose page {page} is; name another folder for {whose}")
    try:
        replace_file(page, text.encode(), folders=True)
    except OSError as error:
        raise unsaved("page", folder, error) from error
    return page


def typeset(text: str) -> str:
    """Return a text with proper minus signs, and with units kept beside their numbers."""
    return _MINUS.sub("−", text).replace(" %", "\N{NO-BREAK SPACE}%")


def shown_verdict(found: Verdict) -> dict[str, Any]:
    """Return a verdict for a page: its text and reasons as sentences, and whether no fault was found."""
    words = [typeset(text[:1].upper() + text[1:]) + "." for text in (found.words, *found.reasons)]
    return {"words": words[0], "reasons": words[1:], "good": found.good}


def way_to(page: Path, folder: Path) -> str:
    """Return the relative link from a page in a folder to another page."""
    try:
        return quote(Path(os.path.relpath(page.resolve(), folder.resolve())).as_posix())
    except ValueError:  # it is on another drive of Windows
        return page.resolve().as_uri()


def own_script(*names: str) -> str:
    """Return our scripts one after another, in a form that can be embedded in a page."""
    folder = files("backtest.report").joinpath("templates", "scripts")
    return in_page("\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names))


def in_page(script: str) -> str:
    """Return a script in which nothing ends the page element that holds it."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def json_in_page(value: Any) -> str:
    """Return plain data as JSON that can be embedded in a script of a page."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
