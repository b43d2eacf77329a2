"""
`check` repeats a baseline's run and reports what moved and why; `accept` saves the current result.

A baseline has moved if its orders, equity or metrics have. If only the inputs changed and the result did not, a note
says so; that is not a failure.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from backtest._suggest import there_are
from backtest.api import RunResult
from backtest.baselines.baseline import (
    Baseline,
    Divergence,
    Drift,
    Moved,
    drift_between,
    load_baseline,
    month_digests,
    save_baseline,
)
from backtest.baselines.causes import VERDICTS, Cause, explain, repeat
from backtest.baselines.changes import Change, Scene, changes, universe_in
from backtest.errors import BacktestError, BadStore, DataError, UsageError, quoted, reason
from backtest.metrics.measurement import risk_free_of
from backtest.runs.closing_fills import booked_at_close
from backtest.runs.spec import RunSpec, check_has_strategy
from backtest.store.layout import files_in
from backtest.store.reader import Reader
from backtest.store.replacement import is_leftover

SAME, MOVED, FAILED, ACCEPTED = "same", "moved", "failed", "accepted"
_WORDS = {SAME: "unchanged"}  # in texts; JSON has the status itself

_HEADLINE = ("total_return", "cagr", "sharpe", "max_drawdown", "trades", "costs")
_SHOWN = 4  # metrics in a short text
_ORDERS = 40  # lines of differing orders in a long text
_BY_COSTS = ("costs", "cost_drag")
_BY_EXTREMES = ("adverse_excursion", "favourable_excursion")


@dataclass(frozen=True, slots=True)
class Judgement:
    """The outcome of a baseline: same, moved, failed (the run broke), or accepted; and if it moved, how and why."""

    name: str
    status: str
    old: Baseline | None = None
    new: Baseline | None = None
    difference: Drift = field(default_factory=Drift)
    causes: tuple[Cause, ...] = ()
    noted: tuple[Change, ...] = ()  # what changed without moving the result
    error: str = ""

    @property
    def fine(self) -> bool:
        """Whether a test may pass."""
        return self.status in (SAME, ACCEPTED)

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    def in_full(self) -> str:
        """Return the text with every metric that moved, and the orders that differ."""
        return "\n".join([*_lines(self, len(self.difference.metrics)), *_order_lines(self)])

    def to_dict(self) -> dict[str, Any]:
        """Return the judgement as JSON values."""
        return {
            "status": self.status,
            "error": self.error,
            "first": self.difference.first,
            "difference": asdict(self.difference),
            "causes": [asdict(cause) for cause in self.causes],
            "noted": [{"what": one.what, "told": one.told} for one in self.noted],
        }


def check(old: Baseline, name: str, scene: Scene) -> Judgement:
    """Repeat the run of a baseline with the current inputs of the scene, and return what moved and why."""
    scene = replace(scene, universe=scene.universe or universe_in(old))
    try:
        return judge(old, name, scene, repeat(scene))
    except BacktestError as error:
        return Judgement(name, FAILED, old, error=str(error))


def judge(old: Baseline, name: str, scene: Scene, result: RunResult) -> Judgement:
    """Return what moved between a baseline and a new run of the scene, and why."""
    new = Baseline.of(result, tolerances=old.tolerances)
    difference = drift_between(old, new)
    if difference.any:
        return Judgement(name, MOVED, old, new, difference, tuple(explain(old, new, scene)))
    noted = [one for one in changes(old, new, scene) if one.what != "versions"]
    return Judgement(name, SAME, old, new, noted=tuple(noted))


def check_kept(names: Iterable[str], folder: str | Path, store: Reader, jobs: int = 1) -> list[Judgement]:
    """Check the baselines in a folder, all or those named, in this number of processes."""
    paths = files(names, folder)
    if jobs == 1 or len(paths) == 1:
        return [_of_file(path, store) for path in paths]
    from backtest._processes import process_pool

    with process_pool(min(jobs, len(paths))) as pool:
        return list(pool.map(partial(_of_file, store=store), paths))


def accept_kept(names: Iterable[str], folder: str | Path, store: Reader) -> list[Judgement]:
    """Repeat the runs of the baselines in a folder, save the current results, and return what moved."""
    return [_accepted(path, store) for path in files(names, folder)]


def keep(result: RunResult, path: str | Path, store: Reader, tolerances: dict[str, float] | None = None) -> Baseline:
    """Write the baseline of a run, with the digests of its bars by month as far as the store still has them."""
    if tolerances is None:
        tolerances = load_baseline(path).tolerances if Path(path).exists() else {}
    baseline = Baseline.of(result, _months(result, store), tolerances)
    save_baseline(baseline, path)
    return baseline


def save_runs(results: Sequence[RunResult], folder: str | Path, store: Reader, name: str = "") -> list[Path]:
    """
    Save baselines of runs, named after the files of their strategies.

    Raises:
        UsageError: a baseline of that name belongs to another run (choose another name, or use `accept`), or a run
            combines others.
    """
    if name and len(results) > 1:
        raise UsageError(f"--name {name} names one baseline, but {len(results)} runs are given; give one run")
    paths = [path_of(name or default_name(result.spec), folder) for result in results]
    for result, path in zip(results, paths, strict=True):
        check_has_strategy(result.spec.strategy)
        _refuse_frame(result)
        _refuse_another(result.spec, path)
        keep(result, path, store)
    return paths


def _refuse_frame(result: RunResult) -> None:
    if result.manifest.get("frame"):
        raise UsageError(
            f"the run {result.name} was made on a frame, but a baseline needs stored bars: put them into a "
            'store with backtest.ingest(frame, "AAPL/1day", "data/bars"), run on that, and save that run'
        )


def path_of(name: str, folder: str | Path) -> Path:
    """
    Return the file of a baseline.

    Raises:
        UsageError: the name leads out of the folder, as the name of a run from elsewhere could.
    """
    if "\\" in name or name != Path(name).name:
        raise UsageError(
            f"{name!r} is not a valid baseline name, because it becomes a file name in {folder}; give another: --name "
            "NAME"
        )
    return Path(folder) / f"{name}.json"


def reproduce(result: RunResult, name: str, store: Reader, strategy: str = "") -> Judgement:
    """
    Repeat a saved run and return whether the result is equal and, if not, why.

    Raises:
        UsageError: the run used a frame, or combines other runs.
    """
    check_has_strategy(result.spec.strategy)
    _refuse_frame(result)
    old = Baseline.of(result)
    if result.extremes_table is None:  # kept by version 0.1.0, without the lows and highs
        account = booked_at_close(result.record, result.fills_table, result.orders_table, result.spec)
        old = Baseline.of(replace(result, record=account))  # the form that runs have now
        known = {name: value for name, value in old.metrics.items() if name not in _BY_EXTREMES}
        old = replace(old, metrics=known)
    if not _knows_all_costs(result):
        old = replace(old, metrics={name: value for name, value in old.metrics.items() if name not in _BY_COSTS})
    rates = risk_free_of(result) if result.spec.rates else None
    return check(old, name, Scene(result.spec, store, strategy or result.spec.strategy, risk_free=rates))


def _knows_all_costs(result: RunResult) -> bool:
    """Return whether a saved run has all of its costs: version 0.1.0 left slippage and borrow fees out."""
    asked = result.spec.brokerage
    return (not asked.slippage or "unslipped" in result.fills_table.column_names) and (
        not asked.borrow or "borrow" in result.record.column_names
    )


def files(names: Iterable[str], folder: str | Path) -> list[Path]:
    """
    Return the files of baselines by name, all in the folder or those named.

    Raises:
        UsageError: the folder has no baseline, or none of that name.
        BadStore: the folder cannot be read.
    """
    try:
        inside = [path for path in files_in(Path(folder)) if path.suffix == ".json"]
    except OSError as error:
        raise BadStore(f"the baselines in {folder} cannot be read ({reason(error)}); check who owns it") from error
    found = {path.stem: path for path in inside if not is_leftover(path.name)}
    if not found:
        raise UsageError(f"no baseline in {quoted(folder)}; make one from a saved run: backtest baseline save RUN")
    wanted = list(names) or list(found)
    for name in wanted:
        if name not in found:
            raise UsageError(f"no baseline {name!r} in {quoted(folder)}; {there_are(name, found)}")
    return [found[name] for name in wanted]


def default_name(spec: RunSpec) -> str:
    """Return the default name of a run's baseline: that of the strategy's file, or of its class."""
    file, _, name = spec.strategy.rpartition(":")
    return Path(file).stem if file.endswith(".py") else name


def markdown(judgements: Sequence[Judgement]) -> str:
    """Return a summary for a pull request."""
    counts = {status: sum(one.status == status for one in judgements) for status in (SAME, MOVED, FAILED, ACCEPTED)}
    told = ", ".join(f"{count} {_WORDS.get(status, status)}" for status, count in counts.items() if count)
    parts = [f"### Baselines: {told}"]
    for one in judgements:
        if not one.fine or one.difference.any:
            parts += [f"**{one.name}**", *_markdown_table(one), f"```text\n{one}\n```"]
    return "\n\n".join(parts) + "\n"


# --- files of baselines


def _of_file(path: Path, store: Reader) -> Judgement:
    old = load_baseline(path)
    return check(old, path.stem, Scene(old.spec, store, old.spec.strategy))


def _accepted(path: Path, store: Reader) -> Judgement:
    old = load_baseline(path)
    result = repeat(Scene(old.spec, store, old.spec.strategy, universe=universe_in(old)))
    new = keep(result, path, store, old.tolerances)
    return Judgement(path.stem, ACCEPTED, old, new, drift_between(old, new))


def _refuse_another(spec: RunSpec, path: Path) -> None:
    if not path.exists():
        return
    kept, now = load_baseline(path).spec.flat, spec.flat
    differing = {key for key, value in kept.items() if value != now.get(key)}
    if differing & {"strategy", "series", "since", "until"}:
        raise UsageError(
            f"{path} was made from another run ({', '.join(sorted(differing))} differ); save this one under another "
            "name "
            "with --name NAME, or remove the file"
        )


def _months(result: RunResult, store: Reader) -> dict[str, dict[str, str]]:
    try:
        return month_digests(result.spec, store)
    except DataError:
        return {}  # a saved run outlives its bars


# --- words


def _lines(judgement: Judgement, shown: int = _SHOWN) -> Iterator[str]:
    difference = judgement.difference
    since = f" from {difference.first} on" if difference.first else ""
    yield f"{judgement.name}: {_WORDS.get(judgement.status, judgement.status)}{since if difference.any else ''}"
    if judgement.error:
        yield f"  {judgement.error}"
    if difference.order:
        yield from _point(f"order {difference.order_number}", difference.order)
    if difference.equity:
        yield from _point("equity", difference.equity)
    if difference.metrics and judgement.old:
        yield from _metrics(difference.metrics, len(judgement.old.metrics), shown)
    yield from _why(judgement)
    for one in judgement.noted:
        yield f"  note         {one.what} changed, and the result did not: {'; '.join(one.told)}"


def _point(label: str, point: Divergence) -> Iterator[str]:
    yield f"  {label:<12} {point.date}"
    yield f"    was        {point.old or 'none'}"
    yield f"    is         {point.new or 'none'}"


def _metrics(moved: Sequence[Moved], count: int, shown: int) -> Iterator[str]:
    yield f"  metrics      {len(moved)} of {count} changed"
    for one in sorted(moved, key=lambda one: one.name not in _HEADLINE)[:shown]:
        by = f" ({one.by})" if one.by else ""
        yield f"    {one.name} {_number(one.old)} -> {_number(one.new)}{by}"
    if len(moved) > shown:
        yield f"    and {len(moved) - shown} more"


def _why(judgement: Judgement) -> Iterator[str]:
    for cause in judgement.causes:
        meaning = "" if cause.what == "chance" else f": {VERDICTS[cause.verdict]}"
        yield f"  {cause.verdict:<12} {cause.what}{meaning}"
        yield from (f"    {line}" for line in cause.told)
    if judgement.status == MOVED and not judgement.causes:
        yield (
            "  cause        none found: no recorded input changed; the strategy depends on something that is not "
            "recorded"
        )


def _order_lines(judgement: Judgement) -> list[str]:
    if not (judgement.old and judgement.new and judgement.difference.order):
        return []
    lines = list(difflib.unified_diff(judgement.old.orders, judgement.new.orders, lineterm="", n=0))[2:]
    told = [f"    {line}" for line in lines if not line.startswith("@@")]
    more = [f"    and {len(told) - _ORDERS:,} more lines"] if len(told) > _ORDERS else []
    return ["  orders", *told[:_ORDERS], *more]


def _markdown_table(judgement: Judgement) -> list[str]:
    moved = [one for one in judgement.difference.metrics if one.name in _HEADLINE] or judgement.difference.metrics[
        :_SHOWN
    ]
    rows = [f"| {one.name} | {_number(one.old)} | {_number(one.new)} | {one.by} |" for one in moved]
    return ["\n".join(["| metric | was | is | by |", "|---|--:|--:|--:|", *rows])] if rows else []


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.6g}"
