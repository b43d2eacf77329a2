"""Words that no text of ours has, since the field has a plainer one for each: a test looks for them in all texts."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

from places import ROOT

# What is looked for, by what a native writer of the field writes in its place.
WORST = {
    r"told": "identified, printed, reported, notified",
    r"reckon(?:s|ed|ing)?": "compute",
    r"mend(?:s|ed|ing)?": "fix, repair",
    r"anew": "again",
    r"spares?": "set X instead of passing Y",
    r"put back": "reverted, restored",
    r"ever got": "in the folder",
    r"for ever": "always, without end",
    r"nobody gets": "not achievable",
    r"(?:sessions|weeks) a year(?=, risk)": "sessions per year",
    r"(?:is|are) off\b(?=[.;|])": "invalid",
    r"for want of": "for lack of",
    r"by the alphabet": "in alphabetical order",
    r"in its midst": "within it",
    r"kept runs?": "saved run",
    r"comes? along": "bundled, included",
    r"came of": "the outcome, the result",
    r"anybody's": "any",
    r"put (?:aside|right)": "quarantined; repaired, fixed",
    r"all else": "everything else",
    r"that which": "what, the one that",
    r"(?:row|line|column) a (?:bar|day|fill|line|month|number|run|series|session|trade|year)": "row per bar",
}
_WORDS = re.compile(rf"(?<![\w.\-/`])({'|'.join(WORST)})(?![\w\-/`])", re.IGNORECASE)
_PAGES = ("*.md", "docs/**/*.md", "strategies/*.md", "data/*.md", "backtest/**/*.md", ".github/**/*.md")
_QUOTES_OTHERS = ("docs/public-strategies.md",)


def worst(text: str) -> list[str]:
    """Return the words of a text that it should not have."""
    return [found[0] for found in _WORDS.finditer(text)]


def texts() -> Iterator[tuple[str, str]]:
    """Yield each text that a user reads, with its place: strings and docstrings of the code, pages, notebooks."""
    for folder in ("backtest", "strategies"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield from _strings(path)
    for path in sorted({path for pattern in _PAGES for path in ROOT.glob(pattern)}):
        if _place(path) not in _QUOTES_OTHERS:
            yield _place(path), path.read_text("utf-8")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            yield _place(path), "".join(cell["source"])
    for path in sorted((ROOT / "backtest").rglob("*.html")):
        yield _place(path), re.sub(r"<[^>]*>|\{%.*?%\}|\{\{.*?\}\}", " ", path.read_text("utf-8"), flags=re.DOTALL)


def _strings(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the strings of a module that are words and no names."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield f"{_place(path)}:{node.lineno}", node.value


def _place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()
