"""The operations outside a store that are killed and failed: runs, pages, sweeps, baselines, pins, exports."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
from operations import DAILY, OTHER, Operation, State, command, quick_folder, write

from backtest.baselines.baseline import load_baseline
from backtest.errors import BadStore
from backtest.metrics.listing import run_summary_of
from backtest.metrics.measurement import Measured
from backtest.report import figures
from backtest.report.figures import FIGURES
from backtest.research.search.sweeps import Sweep
from backtest.research.search.trials import Trials
from backtest.runs.kept import Kept, kept, read_summary
from backtest.runs.record import SUMMARY
from backtest.store.pins import load_pins
from backtest.store.publishing import publish
from backtest.store.replacement import DECIDED, is_leftover
from backtest.store.store import Store

STRATEGY = """
import backtrader as bt

class Hold(bt.Strategy):
    params = dict(size=10)

    def __init__(self):
        self.average = bt.ind.SMA(period=2)

    def next(self):
        if not self.position:
            self.buy(size=self.p.size)
"""
_GONE = ".gone"
_SCRATCH = ("__pycache__", "bars")  # of nobody's concern, and the store, which was there before


def files(root: Path) -> State:
    """
    Return the content of each relevant file, by its path; raise if a run, a baseline or pins cannot be read.

    The summary of a run is left out, as it holds times and may be missing; one that is used must agree with the run.
    """
    there = {path.relative_to(root): path for path in sorted(root.rglob("*")) if path.is_file()}
    counted = {place.as_posix(): path for place, path in there.items() if not _set_aside(place)}
    for place, path in there.items():
        if DECIDED in place.parts and not _unfinished(place):
            above = Path(*(part for part in place.parts if part != DECIDED)).as_posix()
            if place.name.endswith(_GONE):
                counted.pop(above.removesuffix(_GONE), None)
            else:
                counted[above] = path
    for run in kept(root / "runs"):
        _check_summary(run)
    for name, path in counted.items():
        if name.startswith("baselines/"):
            load_baseline(path)
        if name.endswith(".lock"):
            load_pins(path)
    return {name: _digest(path) for name, path in counted.items() if path.name != SUMMARY}


def left(root: Path) -> list[str]:
    """Return the leftovers: unfinished files, files not yet moved to their place, and empty folders."""
    below = [path for path in root.rglob("*") if "bars" not in path.relative_to(root).parts]
    unfinished = [path for path in below if is_leftover(path.name) or path.name == DECIDED]
    # That of the runs stays, be it empty.
    empty = [path for path in below if path.is_dir() and not any(path.iterdir()) and path != root / "runs"]
    return sorted({path.relative_to(root).as_posix() for path in (*unfinished, *empty)})


def each_file(left: State, before: State, after: State) -> bool:
    """Return whether each file by itself is as before or as after, where no reader reads several together."""
    return all(left.get(name) in (before.get(name), after.get(name)) for name in {*left, *before, *after})


def sweep_of(root: Path) -> State:
    """Return a finished sweep with its trials; nothing for one that can be resumed."""
    kept_trials = Trials(root / "runs" / "grid").read(returns=True)
    try:
        found = Sweep.load(root / "runs" / "grid")
    except BadStore as error:
        if "stopped before its end" in str(error) or "holds no sweep" in str(error):
            return {}
        raise
    numbers = {key: (trial.params, trial.metrics, trial.returns.tolist()) for key, trial in kept_trials.items()}
    return {"asked": found.asked, "best": files(root / "runs" / "grid" / "best"), "trials": _text(numbers)}


def some_trials(left: State, before: State, after: State) -> bool:
    """Return whether the sweep can be read and has its earlier trials, and perhaps some of the later ones."""
    known, all_of_them = (json.loads(one["trials"]) if one else {} for one in (before, after))
    here = json.loads(left["trials"]) if left else {}
    return known.items() <= here.items() <= all_of_them.items() if left else not before


def _check_summary(run: Kept) -> None:
    true, said = run_summary_of(Measured.load(run.folder)), read_summary(run.folder, run.state)
    if said is not None and _text(asdict(said)) != _text(asdict(true)):
        raise AssertionError(f"the summary in {run.folder} is not of this run, and it is believed")


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _unfinished(place: Path) -> bool:
    return any(is_leftover(part) or part in _SCRATCH for part in place.parts)


def _set_aside(place: Path) -> bool:
    return _unfinished(place) or DECIDED in place.parts


# --- what is done


def _project(root: Path) -> None:
    root.mkdir()
    (root / "hold.py").write_text(STRATEGY)
    write(root / "bars", DAILY, "2024-01-02", "2024-03-28")
    write(root / "bars", OTHER, "2024-01-02", "2024-03-28")


def _doing(*words: str) -> Callable[[Path], None]:
    """Return a function that runs a command in the folder."""

    def act(root: Path) -> None:
        with contextlib.chdir(root):
            command(*words)

    return act


def _pictured(root: Path) -> None:
    """Write the figures of a run, and a PDF by Matplotlib: no browser can be found, which would be slow."""
    before = os.environ["PATH"]
    os.environ["PATH"] = ""
    try:
        _doing("report", "one", "--png", "png", "--pdf", "one.pdf")(root)
    finally:
        os.environ["PATH"] = before


@contextlib.contextmanager
def drawn_empty() -> Iterator[None]:
    """
    Draw nothing in figures, which takes most of the time of a page: the calls that write stay the same.

    A picture contains noise, so that the file is as large. Only two figures are drawn, since more make no other calls.
    """
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    noise = np.random.default_rng(7).integers(0, 256, (140, 140, 4), np.uint8)

    def draw(_: Figure, renderer: object) -> None:
        if isinstance(renderer, RendererAgg):
            renderer.draw_image(renderer.new_gc(), 0, 0, noise)

    def place(*_: object) -> None:
        pass

    two = {name: FIGURES[name] for name in ("equity", "price")}
    with (
        mock.patch.object(Figure, "draw", draw),
        mock.patch.object(ConstrainedLayoutEngine, "execute", place),
        mock.patch.object(figures, "FIGURES", two),
    ):
        yield


def _having(*acts: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return a function that makes a project in which some things were done; each start is made once per process."""

    def before(root: Path) -> None:
        shutil.copytree(_made(acts), root)

    return before


@cache
def _made(acts: tuple[Callable[[Path], object], ...]) -> Path:
    root = Path(tempfile.mkdtemp(dir=_templates().name)) / "made"
    if not acts:
        _project(root)
        return root
    *earlier, last = acts
    shutil.copytree(_made(tuple(earlier)), root)
    last(root)
    return root


def clear() -> None:
    """Remove the starts that this process made."""
    _made.cache_clear()
    if _templates.cache_info().currsize:
        _templates().cleanup()
        _templates.cache_clear()


@cache
def _templates() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(dir=quick_folder())


_STORE = ("--store", "bars")
_RUN = _doing("run", "hold.py", "AAPL/1day", *_STORE, "--out", "runs/one", "--no-lines", "--force")
_OTHER_RUN = _doing("run", "hold.py", "AAPL/1day", *_STORE, "--out", "runs/one", "--set", "size=20")
_REPORT = _doing("report", "one")
_TAG = _doing("runs", "tag", "one", "best")
_SWEEP = _doing("sweep", "hold.py", "AAPL/1day", *_STORE, "--grid", "size=1,2", "--out", "runs/grid")
_WALK = _doing("validate", "runs/grid", "--walk-forward", "20/10", "--bootstrap", "10", *_STORE)
_SAVE = _doing("baseline", "save", "one", "--folder", "baselines", *_STORE)
_ACCEPT = _doing("baseline", "accept", "--folder", "baselines", *_STORE)
_PIN = _doing("pin", "AAPL/1day", *_STORE)
_EXPORT = _doing("export", "AAPL/1day", "bars.csv", "--force", *_STORE)


def _changed(root: Path) -> None:
    (root / "hold.py").write_text(STRATEGY.replace("size=10", "size=30"))


def _more_bars(root: Path) -> None:
    write(root / "bars", DAILY, "2024-04-01", "2024-04-05")


def _remove(root: Path) -> None:
    """Remove the run; it may be gone already, if a killed removal had finished."""
    with contextlib.chdir(root):
        if Path("runs/one").exists():
            command("runs", "rm", "one")


def _new(root: Path) -> None:
    """Make a folder; it may be complete already, if a killed process had finished and removed its lock."""
    folder = root / "my_own"
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    if not names or any(is_leftover(name) or name == DECIDED for name in names):
        _doing("new", "my_own")(root)


def project_with_all(root: Path) -> None:
    """Make a project with two saved runs, a page, a sweep, a baseline, pins, a file of bars, and a published store."""
    more = ("run", "hold.py", "AAPL/1day", *_STORE, "--out", "runs/two", "--set", "size=20")
    _having(_RUN, _doing(*more), _REPORT, _SWEEP, _SAVE, _PIN, _EXPORT, _publish)(root)


def _publish(root: Path) -> None:
    publish(Store(root / "bars"), (root / "public").as_uri())


WRITERS = tuple(
    Operation(name, before, act, state=state, left=left, between=between)
    for name, before, act, state, between in (
        ("run", _project, _RUN, files, None),
        ("run onto another", _having(_OTHER_RUN, _REPORT, _TAG), _RUN, files, None),
        ("report", _having(_RUN), _REPORT, files, None),
        ("report again", _having(_OTHER_RUN, _REPORT), _REPORT, files, None),
        ("report elsewhere", _having(_RUN), _doing("report", "one", "--out", "page"), files, None),
        ("report as pictures", _having(_RUN, _REPORT), _pictured, files, each_file),
        ("sweep", _project, _SWEEP, sweep_of, None),
        ("walk-forward", _having(_SWEEP), _WALK, sweep_of, some_trials),
        ("baseline save", _having(_RUN), _SAVE, files, None),
        ("baseline accept", _having(_RUN, _SAVE, _changed), _ACCEPT, files, None),
        ("pin", _project, _PIN, files, None),
        ("pin more", _having(_PIN, _more_bars), _doing("pin", "--update", *_STORE), files, None),
        ("export", _project, _EXPORT, files, None),
        ("export again", _having(_EXPORT, _more_bars), _EXPORT, files, None),
        ("runs rm", _having(_RUN, _REPORT), _remove, files, None),
        ("runs tag", _having(_RUN, _REPORT), _TAG, files, None),
        ("runs note", _having(_RUN, _TAG), _doing("runs", "note", "one", "to be looked at"), files, None),
        ("new", Path.mkdir, _new, files, None),
    )
)  # fmt: skip
