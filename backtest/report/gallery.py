"""`write_gallery`: the runs, sweeps and walk-forwards in a folder, as a table to sort and search, with links."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from backtest import _arguments
from backtest.errors import DamagedStore, UsageError, unsaved
from backtest.market.series import Series, few
from backtest.metrics.account import growth_of_cash
from backtest.metrics.listing import Listed, listed
from backtest.metrics.table import METRICS
from backtest.report.rendering import own_script, rendered, typeset, way_to
from backtest.runs.differences import differences
from backtest.runs.kept import Kept, kept
from backtest.runs.record import FILES, LABELS, RunRecord
from backtest.store.documents import ANYTHING, NUMBER, TEXT, either, keyed, list_of, mapped, one_of, read_document
from backtest.store.replacement import is_leftover, replace_file, version

SWEEP, BEST, WALK_FORWARD = "sweep.json", "best", "walk_forward.json"  # as research/ keeps them
_METRICS = ("total_return", "cagr", "sharpe", "max_drawdown", "trades")
_WIDTH, _HEIGHT, _POINTS = 120, 28, 80  # of the line of equity: pixels, and points of it
_SWEEP_SHAPE = keyed({"keys": list_of(TEXT)}, more=ANYTHING)
_WALK_SHAPE = keyed(
    {
        "strategy": TEXT,
        "series": list_of(TEXT),
        "steps": list_of(ANYTHING),
        "headline": mapped(either("a number, or null", NUMBER, one_of(None))),
        "equity": list_of(NUMBER),
    },
    more=ANYTHING,
)


@dataclass(frozen=True)
class GalleryRow:
    """
    A row of the gallery.

    Attributes:
        kind: "run", "sweep" or "walk-forward".
        folder: the folder whose index.html is its page.
        texts: the text of each metric in the table.
        line: the line of its equity, as an SVG element.
        error: why it cannot be read; then it has only its name.
    """

    name: str
    kind: str
    folder: Path
    at: datetime
    strategy: str = ""
    series: str = ""
    differs: str = ""
    texts: tuple[str, ...] = ("–",) * len(_METRICS)
    line: str = ""
    tags: str = ""
    note: str = ""
    error: str = ""


class Gallery:
    """The runs, sweeps and walk-forwards in a folder, read again if they changed since the last time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[Path, tuple[tuple[object, ...], Listed, str]] = {}  # of each run: its version, row and line

    @property
    def version(self) -> str:
        """A value that changes with every run, sweep, walk-forward and label that is added, removed or changed."""
        folders = [*(run.folder for run in self._runs()), *self._folders_with(SWEEP, WALK_FORWARD)]
        versions = [(str(folder), *_version(folder)) for folder in folders]
        return hashlib.sha256(repr(sorted(versions, key=repr)).encode()).hexdigest()[:16]

    @property
    def rows(self) -> list[GalleryRow]:
        """One row for each, newest first; a sweep is represented by its best run."""
        found = [*self._of_runs(), *self._of_walks()]
        return sorted(found, key=lambda row: (row.at, row.name), reverse=True)

    def folder_of(self, name: str) -> Path | None:
        """Return the folder of a run, a sweep or a walk-forward by its name below the root; None if there is none."""
        known = {run.name: run.folder for run in self._runs()}
        for folder in self._folders_with(SWEEP, WALK_FORWARD):
            known[folder.relative_to(self.root).as_posix()] = folder
        return known.get(name)

    def _runs(self) -> list[Kept]:
        return kept(self.root) if self.root.is_dir() else []

    def _folders_with(self, *documents: str) -> list[Path]:
        found = {path.parent for name in documents for path in self.root.rglob(name)}
        return sorted(one for one in found if not any(map(is_leftover, one.relative_to(self.root).parts)))

    def _of_runs(self) -> Iterator[GalleryRow]:
        runs = self._runs()
        self._known = {run.folder: self._read(run) for run in runs}
        rows = [self._known[run.folder][1:] for run in runs]
        told = iter(differences([(row.spec, row.seen) for row, _ in rows if row.spec is not None]))
        for row, line in rows:
            yield self._of_run(row if row.spec is None else replace(row, difference=next(told)), line)

    def _read(self, run: Kept) -> tuple[tuple[object, ...], Listed, str]:
        now, known = _version(run.folder), self._known.get(run.folder)
        if known is not None and known[0] == now:
            return known
        (row,) = listed([run])
        return now, row, "" if row.spec is None else sparkline(growth_of_cash(RunRecord.load(run.folder)))

    def _of_run(self, row: Listed, line: str) -> GalleryRow:
        folder, name = row.kept.folder, row.kept.name
        trials = _trials(folder.parent) if folder.name == BEST else 0
        kind = "sweep" if trials else "run"
        if trials:
            folder, name = folder.parent, folder.parent.relative_to(self.root).as_posix()
        if row.spec is None or row.stats is None:
            return GalleryRow(name, kind, folder, row.kept.at, error=row.error)
        differs = f"best of {trials:,} trials: {row.difference.words}" if trials else row.difference.words
        texts = tuple(typeset(row.stats.text(name)) for name in _METRICS)
        return GalleryRow(
            name, kind, folder, row.kept.at, row.strategy, few(row.series), differs.removesuffix(": "), texts, line,
            ", ".join(row.labels.tags), row.labels.note,
        )  # fmt: skip

    def _of_walks(self) -> Iterator[GalleryRow]:
        for folder in self._folders_with(WALK_FORWARD):
            path = folder / WALK_FORWARD
            name, at = folder.relative_to(self.root).as_posix(), datetime.fromtimestamp(path.stat().st_mtime, UTC)
            try:
                walk = read_document(path, _WALK_SHAPE)
                series = few([Series.parse(key).short for key in walk["series"]])
            except (DamagedStore, UsageError) as error:
                yield GalleryRow(name, "walk-forward", folder, at, error=str(error))
                continue
            numbers = [walk["headline"].get(metric) for metric in _METRICS]
            texts = tuple(typeset(METRICS[name].text(one)) for name, one in zip(_METRICS, numbers, strict=True))
            steps = f"{len(walk['steps']):,} steps, out of sample"
            line = sparkline(np.array(walk["equity"], float))
            yield GalleryRow(name, "walk-forward", folder, at, walk["strategy"], series, steps, texts, line)


def write_gallery(root: str | Path, folder: str | Path = "") -> Path:
    """
    Write a page that lists everything saved in a folder and below it, newest first, and return its path.

    Args:
        folder: the folder for the page, index.html; by default `root`.

    Raises:
        UsageError: nothing is saved there, or the page cannot be written.
    """
    root = _arguments.path(root, "root")
    page = (root if folder == "" else _arguments.path(folder, "folder")) / "index.html"
    if (page.parent / "spec.json").exists():
        raise UsageError(f"{page.parent} holds a run, whose page {page} is; name another folder for the list of runs")
    gallery = Gallery(root)
    rows = gallery.rows if root.is_dir() else []
    if not rows:
        raise UsageError(f"{root} holds no run; make one: backtest run STRATEGY SERIES")
    pages = {row.name: row.folder / "index.html" for row in rows}
    links = {name: way_to(own, page.parent) if own.exists() else "" for name, own in pages.items()}
    try:
        replace_file(page, gallery_page(root, rows, links).encode(), folders=True)
    except OSError as error:
        raise unsaved("list of runs", page, error) from error
    return page


def gallery_page(root: Path, rows: list[GalleryRow], links: Mapping[str, str], served: bool = False) -> str:
    """
    Return the page that lists these rows, HTML.

    Args:
        links: the link from each name to its page, "" if there is none.
        served: whether the page checks for changes from time to time, and can compare runs.
    """
    content = {
        "place": root.name or root.resolve().name,
        "heads": [METRICS[name].label for name in _METRICS],
        "rows": [row for row in rows if not row.error],
        "differing": any(row.differs for row in rows),
        "tagged": any(row.tags for row in rows),
        "noted": any(row.note for row in rows),
        "kinds": sorted({row.kind for row in rows}),
        "links": links,
        "lost": [(row.name, row.error) for row in rows if row.error],
        "script": own_script("table.js", *(["served.js"] if served else [])),
        "served": served,
    }
    return rendered("gallery.html", content)


def _version(folder: Path) -> tuple[object, ...]:
    return version(folder, (*FILES, LABELS, SWEEP, WALK_FORWARD))


def _trials(folder: Path) -> int:
    """Return how many trials the sweep in a folder has; 0 if there is none that can be read."""
    try:
        return len(read_document(folder / SWEEP, _SWEEP_SHAPE)["keys"])
    except (OSError, DamagedStore):
        return 0


def sparkline(values: np.ndarray) -> str:
    """Return a line of values as an SVG element, from the first to the last through the extremes of equal parts."""
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return ""
    points = thinned_line(known)
    low, high = points.min(), points.max()
    across = np.linspace(1, _WIDTH - 1, len(points))
    down = _HEIGHT - 2 - (points - low) / ((high - low) or 1.0) * (_HEIGHT - 4)
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
    return (
        f'<svg class="spark" width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="Equity from {known[0]:,.0f} to {known[-1]:,.0f}"><polyline points="{path}"/></svg>'
    )


def thinned_line(values: np.ndarray) -> np.ndarray:
    """Return the first value, the extremes of equal parts, and the last one."""
    starts = np.unique(np.linspace(0, len(values), _POINTS // 2, endpoint=False).astype(int))
    lows, highs = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    return np.concatenate([values[:1], np.column_stack([lows, highs]).ravel(), values[-1:]])
