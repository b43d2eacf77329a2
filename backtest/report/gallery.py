"""`write_gallery`: the kept runs of a folder as a table to sort and search, with links to their pages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from backtest import _arguments
from backtest.errors import UsageError
from backtest.market.series import few
from backtest.metrics.account import growth_of_cash
from backtest.metrics.listing import Listed, listed
from backtest.metrics.table import METRICS
from backtest.report.rendering import own_script, rendered, typeset
from backtest.runs.kept import kept
from backtest.runs.record import RunRecord
from backtest.store.replacement import replace_file

_METRICS = ("total_return", "cagr", "sharpe", "max_drawdown", "trades")
_WIDTH, _HEIGHT, _POINTS = 120, 28, 80  # of the line of equity: pixels, and points of it


def write_gallery(root: str | Path, folder: str | Path = "") -> Path:
    """
    Write a page that lists all runs kept in a folder and below it, the newest first, and return its path.

    Args:
        folder: of the page, as index.html; `root` itself if not given.

    Raises:
        UsageError: no run is kept there, or the page cannot be written.
    """
    root = _arguments.path(root, "root")
    page = (root if folder == "" else _arguments.path(folder, "folder")) / "index.html"
    if (page.parent / "spec.json").exists():
        raise UsageError(f"{page.parent} holds a run, whose page {page} is; name another folder for the list of runs")
    rows = listed(kept(root)) if root.is_dir() else []
    if not rows:
        raise UsageError(f"{root} holds no run; make one: backtest run STRATEGY SERIES")
    content = {
        "place": root.name or root.resolve().name,
        "heads": [METRICS[name].label for name in _METRICS],
        "runs": list(_shown(rows, page.parent)),
        "lost": [(row.kept.name, row.error) for row in rows if row.spec is None],
        "script": own_script("table.js"),
    }
    try:
        replace_file(page, rendered("gallery.html", content).encode(), folders=True)
    except OSError as error:
        raise UsageError(f"no list of runs can be written into {page} ({error}); name another folder") from error
    return page


def _shown(rows: list[Listed], beside: Path) -> Iterator[dict[str, Any]]:
    for row in rows:
        if row.spec is None or row.stats is None:
            continue
        yield {
            "name": row.kept.name,
            "link": _link(row.kept.folder / "index.html", beside),
            "strategy": row.strategy,
            "series": few(row.series),
            "differs": row.difference.words,
            "metrics": [typeset(row.stats.text(name)) for name in _METRICS],
            "line": sparkline(growth_of_cash(RunRecord.load(row.kept.folder))),
            "tags": ", ".join(row.labels.tags),
            "note": row.labels.note,
            "kept": f"{row.kept.at:%Y-%m-%d %H:%M}",
        }


def _link(page: Path, beside: Path) -> str:
    """Return how a page is reached from a folder; "" where there is none."""
    if not page.exists():
        return ""
    return quote(Path(os.path.relpath(page.resolve(), beside.resolve())).as_posix())


def sparkline(values: np.ndarray) -> str:
    """Return a line of values as an SVG element, from the first to the last in the extremes of equal parts."""
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return ""
    starts = np.unique(np.linspace(0, len(known), _POINTS // 2, endpoint=False).astype(int))
    lows, highs = np.minimum.reduceat(known, starts), np.maximum.reduceat(known, starts)
    points = np.concatenate([known[:1], np.column_stack([lows, highs]).ravel(), known[-1:]])
    low, high = points.min(), points.max()
    across = np.linspace(1, _WIDTH - 1, len(points))
    down = _HEIGHT - 2 - (points - low) / ((high - low) or 1.0) * (_HEIGHT - 4)
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
    return (
        f'<svg class="spark" width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="Equity from {known[0]:,.0f} to {known[-1]:,.0f}"><polyline points="{path}"/></svg>'
    )
