"""The interactive chart of a run alone: in a notebook cell, or as a page."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

from backtest import _arguments
from backtest.errors import unsaved
from backtest.store.replacement import replace_file

_HEIGHT = 1010  # pixels in a notebook


@dataclass(frozen=True, slots=True)
class ChartView:
    """
    The interactive chart of a run: a notebook shows it, `save` writes it as a page that loads nothing from the network.

    Attributes:
        title: the title of the page.
        html: the page.
    """

    title: str
    html: str

    def save(self, file: str | Path) -> Path:
        """
        Write the chart as an HTML file, and return its path.

        Raises:
            UsageError: the file cannot be written.
        """
        path = _arguments.path(file, "file", "write the path of a file")
        try:
            replace_file(path, self.html.encode(), folders=True, named=True)
        except OSError as error:
            raise unsaved("chart", path, error, "name another file") from error
        return path

    def __repr__(self) -> str:
        return f"Chart of {self.title}; .save(FILE) writes it as a page"

    def _repr_html_(self) -> str:
        # In a frame, so that neither its styles nor its scripts meet those of the notebook.
        return (
            f'<iframe title="{escape(repr(self))}" srcdoc="{escape(self.html)}" '
            f'style="width: 100%; height: {_HEIGHT}px; border: 0"></iframe>'
        )
