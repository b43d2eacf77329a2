"""What a notebook displays: tables and sentences as HTML, and progress bars."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


def html_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of texts."""
    lines = [_row("th", heads), *(_row("td", row) for row in rows)]
    return f"<table>{''.join(lines)}</table>"


def html_lines(*texts: str) -> str:
    """Return a paragraph in small type for each text that is not empty."""
    return "".join(f"<p><small>{_escaped(text)}</small></p>" for text in texts if text)


def in_notebook() -> bool:
    """Return whether this process is a notebook's kernel, not a script, a test or IPython's prompt."""
    ipython = sys.modules.get("IPython")
    running = ipython.get_ipython() if ipython is not None else None
    return hasattr(running, "kernel")


@dataclass(frozen=True, slots=True)
class Done:
    """The progress of some work, for a bar."""

    done: float
    total: int
    kept: int = 0
    failed: int = 0


@contextmanager
def progress_bar(tell: Callable[[Any], None] | None, what: str) -> Iterator[Callable[[Any], None] | None]:
    """
    Yield the callable that reports progress: the caller's own, or a bar in a notebook; otherwise None.

    The bar accepts records such as `Done`, and appears with the first one.
    """
    if tell is not None or not in_notebook():
        yield tell
        return
    bar = _Bar(what)
    try:
        yield bar
    finally:
        bar.close()


class _Bar:
    """A progress bar of tqdm: a widget if the notebook supports widgets, otherwise text."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._bar: Any = None

    def __call__(self, progress: Any) -> None:
        if self._bar is None or progress.done < self._bar.n:  # the next round of a search starts again
            self.close()
            self._bar = _tqdm()(total=progress.total, unit=f" {self._what}", initial=progress.kept)
        if progress.failed:
            self._bar.set_postfix(failed=progress.failed, refresh=False)
        self._bar.update(progress.done - self._bar.n)

    def close(self) -> None:
        """Close the bar in its current state."""
        if self._bar is not None:
            self._bar.close()


def _tqdm() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # widgets are not installed: a text bar suffices
        from tqdm.auto import tqdm
    return tqdm


def _row(cell: str, words: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{cell}>{_escaped(word)}</{cell}>" for word in words) + "</tr>"


def _escaped(text: str) -> str:
    from html import escape  # imports a table of 2,231 entities, which only notebooks need

    return escape(text)
