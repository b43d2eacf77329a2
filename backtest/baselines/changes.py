"""The inputs that changed since a baseline was saved, and how to revert each."""

from __future__ import annotations

import contextlib
import difflib
import functools
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backtest.baselines.baseline import Baseline, month_digests, series_of_run
from backtest.engine import provenance
from backtest.engine.account.commissions import COSTS, Costs
from backtest.engine.account.dividends import Dividends, DividendTable
from backtest.engine.account.margin.tables import MarginTable
from backtest.engine.code.imports import source_digest
from backtest.engine.code.strategy import file_and_class, load_strategy
from backtest.market.calendars import span_asked
from backtest.market.extra import united
from backtest.market.series import Series
from backtest.market.span import Span
from backtest.market.universe import Membership, Universe
from backtest.runs.spec import RunSpec
from backtest.store.reader import Reader, bars_as_known, bars_of_then, hours_in
from backtest.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

_MOMENT = timedelta(microseconds=1)  # the resolution of a timestamp
_SHOWN = 6  # lines of what changed
_COMMITS = 200  # commits that are searched for an old source


@dataclass(frozen=True, slots=True)
class Scene:
    """The inputs of a run: its spec, the store, the strategy as `api.run` accepts it, and other costs if any."""

    spec: RunSpec
    store: Reader
    strategy: str | Path | type[Any]
    costs: Costs | None = None  # instead of those that the spec names
    risk_free: Any = None  # the return of cash in each session, if the run was given one
    dividends: DividendTable | None = None  # the dividends paid, if the spec includes them
    account: MarginTable | None = None  # its rates, where the spec names a file of them
    universe: Universe | None = None  # the members, if the spec has a universe


_PutBack = Callable[[contextlib.ExitStack, Scene], Scene]


@dataclass(frozen=True, slots=True)
class Change:
    """An input that changed, how it changed, and the function that restores it, if that is possible."""

    what: str
    told: tuple[str, ...]
    put_back: _PutBack | None = None


def changes(old: Baseline, new: Baseline, scene: Scene) -> list[Change]:
    """Return the changed inputs among those that a baseline records; nothing is run."""
    found = (_parameters(old, new), _data(old, new, scene), _rates(old, new), _dividends(old, new))
    more = (
        _interest(old, new),
        _universe(old, new),
        _account(old, new),
        _code(old, new, scene),
        _costs(old, new),
        _notes(old, new),
        _versions(old, new),
    )
    return [one for one in (*found, *more) if one]


def _parameters(old: Baseline, new: Baseline) -> Change | None:
    before, now = (_plain(one.spec) for one in (old, new))
    told = tuple(f"{name}: {_word(before.get(name))} -> {_word(now.get(name))}" for name in _differing(before, now))
    return Change("parameters", told, functools.partial(_with_spec, old)) if told else None


def _plain(spec: RunSpec) -> dict[str, Any]:
    """Return a spec as JSON restores it, without the strategy's name: a moved file counts as the same."""
    record = json.loads(json.dumps(spec.flat))
    del record["strategy"]
    if "universe" in record:
        record["universe"] = "given"  # a different universe is reported separately
    params = record.pop("params")
    return {**params, **{f"{name} of the run" if name in params else name: value for name, value in record.items()}}


def _with_spec(old: Baseline, stack: contextlib.ExitStack, scene: Scene) -> Scene:
    spec, dividends = replace(old.spec, strategy=scene.spec.strategy), scene.dividends or dividends_in(old)
    account, universe = scene.account or account_in(old), scene.universe or universe_in(old)
    return replace(scene, spec=spec, dividends=dividends, account=account, universe=universe)


def dividends_in(one: Baseline) -> DividendTable | None:
    """Return the dividends in the run of a baseline; None if it had none."""
    return DividendTable.read(one.inputs["dividends"]) if "dividends" in one.inputs else None


def universe_in(one: Baseline) -> Universe | None:
    """Return the universe of a baseline's run; None if it had none."""
    return Universe.read(one.inputs["universe"]) if "universe" in one.inputs else None


def _universe(old: Baseline, new: Baseline) -> Change | None:
    before, now = universe_in(old), universe_in(new)
    if before is None or now is None or before.digest == now.digest:
        return None
    then, today = ({_stretch(row) for row in one.rows} for one in (before, now))
    told = [f"{line} was removed" for line in sorted(then - today)] + [
        f"{line} was added" for line in sorted(today - then)
    ]
    return Change("universe", _some(told), functools.partial(_with_universe, before))


def _stretch(row: Membership) -> str:
    lost = "" if row.delisting_return is None else f", delisting return {row.delisting_return:g}"
    return f"{row.series.short} {row.first or 'the beginning'} to {row.last or 'today'}{lost}"


def _with_universe(universe: Universe, stack: contextlib.ExitStack, scene: Scene) -> Scene:
    return replace(scene, universe=universe)


def _dividends(old: Baseline, new: Baseline) -> Change | None:
    before, now = dividends_in(old), dividends_in(new)
    if before is None or now is None or before.digest == now.digest:
        return None
    told = [
        f"{Series.parse(key).short} {day}: {_word(was)} -> {_word(is_now)}"
        for key in sorted({*before.of_series, *now.of_series})
        for day, was, is_now in _amounts(before.of_series.get(key), now.of_series.get(key))
        if was != is_now
    ]
    return Change("dividends", _some(told), functools.partial(_with_dividends, before))


def _interest(old: Baseline, new: Baseline) -> Change | None:
    before, now = (one.inputs.get("interest", {}) for one in (old, new))
    if not before or not now or before["sha256"] == now["sha256"]:
        return None
    return Change("interest", (f"the benchmark rates changed: {before['rates']} -> {now['rates']}",))


def account_in(one: Baseline) -> MarginTable | None:
    """Return the account of a baseline's run; None if it had only Backtrader's rules."""
    return MarginTable.read(one.inputs["account"]) if "account" in one.inputs else None


def _account(old: Baseline, new: Baseline) -> Change | None:
    before, now = account_in(old), account_in(new)
    if before is None or now is None or before.name != now.name or before.digest == now.digest:
        return None  # another name is a change of a parameter
    rates = [one.document["rates"] for one in (before, now)]
    told = [
        f"{product}: {_word(rates[0].get(product))} -> {_word(rates[1].get(product))}" for product in _differing(*rates)
    ]
    return Change("account", _some(told), functools.partial(_with_account, before))


def _with_account(account: MarginTable, stack: contextlib.ExitStack, scene: Scene) -> Scene:
    return replace(scene, account=account)


def _amounts(before: Dividends | None, now: Dividends | None) -> Iterator[tuple[str, float | None, float | None]]:
    """Yield each ex-date of either with the amount of then and of now."""
    then, today = (dict(zip(one.days, one.amounts, strict=True)) if one else {} for one in (before, now))
    return ((day, then.get(day), today.get(day)) for day in sorted({*then, *today}))


def _with_dividends(dividends: DividendTable, stack: contextlib.ExitStack, scene: Scene) -> Scene:
    return replace(scene, dividends=dividends)


def _data(old: Baseline, new: Baseline, scene: Scene) -> Change | None:
    before, now = (one.inputs.get("series", {}) for one in (old, new))
    keys = [key for key in before if key in now and before[key]["rows_sha256"] != now[key]["rows_sha256"]]
    if (old.spec.since, old.spec.until) != (new.spec.since, new.spec.until):
        keys = [
            key for key in keys if bars_as_known(scene.store, Series.parse(key), before[key]) is None
        ]  # otherwise only the requested dates differ
    if not keys:
        return None
    formerly = {key: bars_of_then(scene.store, Series.parse(key), before[key]) for key in keys}
    told = [line for key in keys for line in _told_of_bars(old, scene, key, formerly[key])]
    if any(bars is None for bars in formerly.values()):
        return Change("data", _some(told))
    return Change("data", _some(told), functools.partial(_with_bars, formerly, tuple(now)))


def _rates(old: Baseline, new: Baseline) -> Change | None:
    """Return the change if other series than before convert money; changed bars of the same series count as data."""
    before, now = _pairs(old), _pairs(new)
    if before == now or not before or old.spec.base_currency != new.spec.base_currency:
        return None
    words = [" and ".join(Series.parse(key).short for key in keys) or "nothing" for keys in (before, now)]
    return Change("rates", (" -> ".join(words),), functools.partial(_with_bars, {}, before))


def _pairs(one: Baseline) -> tuple[str, ...]:
    """Return the keys of the currency pairs that converted the money of a run."""
    rates = one.inputs.get("currencies", {}).get("rates", {})
    return tuple(dict.fromkeys(leg["series"] for legs in rates.values() for leg in legs))


def _told_of_bars(old: Baseline, scene: Scene, key: str, before: pa.Table | None) -> Iterator[str]:
    series = Series.parse(key)
    if before is not None:
        asked = span_asked(series, hours_in(scene.store, series), scene.spec.span_read)
        if key not in (*scene.spec.series, scene.spec.benchmark):  # a currency pair, of which only the closes count
            first, last = (datetime.fromisoformat(old.inputs["series"][key][name]) for name in ("from", "to"))
            asked = Span(first, last + _MOMENT)
        now = scene.store.read(series, asked)
        yield from (f"{series.short} {line}" for line in _bar_changes(before, now))
        return
    then, today = old.months.get(key, {}), month_digests(scene.spec, scene.store).get(key, {})
    months = [month for year in sorted({*then, *today}) for month in _months(year, then, today)]
    where = f" in {', '.join(_some(months))}" if months else ""
    yield (
        f"{series.short} has bars other than those of the baseline{where}; no revision in {scene.store.name} has the "
        "old ones"
    )


def _months(year: str, then: Mapping[str, str], today: Mapping[str, str]) -> Iterator[str]:
    pairs = zip(*((one.get(year, "- " * 12)).split() for one in (then, today)), strict=True)
    return (f"{year}-{number:02}" for number, (was, now) in enumerate(pairs, 1) if was != now)


def _bar_changes(before: pa.Table, now: pa.Table) -> Iterator[str]:
    """Yield a line for each bar that is gone, was added, or has another value."""
    old, new = ({row["time"]: row for row in table.to_pylist()} for table in (before, now))
    names = united([before.column_names, now.column_names])
    for time in sorted({*old, *new}):
        when = time.replace(tzinfo=None).isoformat().removesuffix("T00:00:00")
        if time not in new:
            yield f"{when} was removed"
        elif time not in old:
            yield f"{when} was added"
        else:
            pairs = [(name, old[time].get(name), new[time].get(name)) for name in names]
            cells = [f"{name} {_word(was)} -> {_word(is_now)}" for name, was, is_now in pairs if was != is_now]
            if cells:
                yield f"{when} {', '.join(cells)}"


def _with_bars(
    formerly: Mapping[str, pa.Table], pairs: Sequence[str], stack: contextlib.ExitStack, scene: Scene
) -> Scene:
    store = Store(stack.enter_context(tempfile.TemporaryDirectory()))
    traded = series_of_run(scene.spec)
    for series in dict.fromkeys([*traded, *map(Series.parse, pairs)]):
        bars = formerly.get(series.key)
        if bars is None and series not in traded:
            bars = scene.store.read(series)
        elif bars is None:
            bars = scene.store.read(series, span_asked(series, hours_in(scene.store, series), scene.spec.span_read))
        first, last = (bars["time"][n].as_py() for n in (0, -1))
        store.write(series, Span(first, last + _MOMENT), bars)
    return replace(scene, store=store)


def _code(old: Baseline, new: Baseline, scene: Scene) -> Change | None:
    before, now = _sources(old), _sources(new)
    names = _differing(before, now)
    if not names:
        return None
    if isinstance(scene.strategy, type):
        return Change("code", (f"{', '.join(names)}; a strategy in a file can be reverted from git",))
    found = _files(scene, before)
    missing = [name for name in before if name not in found]
    if missing:
        return Change("code", (f"{', '.join(names)}; git has no old source of {', '.join(missing)}",))
    told = [line for name in names if name in before for line in _diff(name, found[name], _files_of_now(scene))]
    space = load_strategy(scene.strategy).space
    return Change("code", _some(told), functools.partial(_with_files, found, space.package if space else ""))


def _sources(one: Baseline) -> dict[str, str]:
    """Return the hash of the strategy's file and of each module that it imports."""
    strategy = one.inputs.get("strategy", {}).get("sha256", "")
    return {_STRATEGY: strategy, **one.inputs.get("modules", {})}


_STRATEGY = "the strategy's file"  # no module can be called so


@dataclass(frozen=True, slots=True)
class _File:
    name: str  # in its folder
    text: bytes


def _files_of_now(scene: Scene) -> dict[str, Path]:
    found = load_strategy(scene.strategy)
    home = provenance.source_file(found)
    return {_STRATEGY: home, **provenance.module_files(found)} if home else {}


def _files(scene: Scene, hashes: Mapping[str, str]) -> dict[str, _File]:
    """Return the old source of the strategy and its modules, from the disk or from git, as far as there is one."""
    now = _files_of_now(scene)
    home = now[_STRATEGY].parent
    files = {}
    for name, digest in hashes.items():
        path = now.get(name) or home.joinpath(*name.split(".")).with_suffix(".py")
        text = _source_of_then(path, digest)
        if text is not None:
            files[name] = _File(path.name, text)
    return files


def _source_of_then(path: Path, digest: str) -> bytes | None:
    if path.is_file() and _is(path.read_bytes(), digest):
        return path.read_bytes()
    log = provenance.git(path.parent, "log", f"--max-count={_COMMITS}", "--format=%H", "--", path.name)
    for commit in log.decode().split():
        text = provenance.git(path.parent, "show", f"{commit}:./{path.name}")
        if _is(text, digest):
            return text
    return None


def _is(text: bytes, digest: str) -> bool:
    # 0.1.0 hashed the bytes as they are, so that only a file with Windows line endings has a different hash.
    return digest in (source_digest(text), hashlib.sha256(text).hexdigest())


def _diff(name: str, before: _File, now: Mapping[str, Path]) -> Iterator[str]:
    yield f"{before.name}:" if name == _STRATEGY else f"{name}:"
    old = before.text.decode(errors="replace").splitlines()
    new = now[name].read_text("utf-8", errors="replace").splitlines() if name in now else []
    lines = list(difflib.unified_diff(old, new, lineterm="", n=0))[2:]
    yield from (line for line in lines if not line.startswith("@@"))


def _with_files(found: Mapping[str, _File], package: str, stack: contextlib.ExitStack, scene: Scene) -> Scene:
    """Write the files into a separate folder: a strategy finds the modules beside it before any others."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    places = {}
    for name, file in found.items():
        parts = package.split(".") * bool(package) if name == _STRATEGY else name.split(".")
        parts = parts if name == _STRATEGY or file.name == "__init__.py" else parts[:-1]
        place = places[name] = folder.joinpath(*parts, file.name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.text)
    _, cls = file_and_class(str(scene.strategy))
    return replace(scene, strategy=f"{places[_STRATEGY]}{':' if cls else ''}{cls}")


def _costs(old: Baseline, new: Baseline) -> Change | None:
    before, now = (_flat(one.inputs.get("costs", {})) for one in (old, new))
    if old.spec.brokerage.costs != new.spec.brokerage.costs or not before:
        return None  # another name is a change of a parameter
    told = tuple(f"{name}: {_word(before.get(name))} -> {_word(now.get(name))}" for name in _differing(before, now))
    rates = old.inputs["costs"].get("rates", {})
    movable = told and _commission(old.spec.brokerage.costs, rates) is not None
    return Change("costs", told, functools.partial(_with_rates, rates) if movable else None) if told else None


def _flat(costs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is charged, by name; a definition only describes it, and a release may reword it."""
    products = {key: _flat(one) for key, one in costs.get("products", {}).items()}
    others = {key: value for key, value in costs.items() if key not in ("rates", "definition", "products")}
    return {**others, **costs.get("rates", {}), **({"products": products} if products else {})}


def _commission(name: str, rates: Mapping[str, Any]) -> Any:
    """Return the commission of a row of COSTS with these rates; None if it does not accept them."""
    try:
        made = type(COSTS[name].make())(**rates)
    except (KeyError, TypeError):
        return None
    return made if provenance.rates(made) == rates else None


def _with_rates(rates: Mapping[str, Any], stack: contextlib.ExitStack, scene: Scene) -> Scene:
    name = scene.spec.brokerage.costs
    row = COSTS[name]
    kind = type(row.make())
    return replace(scene, costs=replace(row, make=lambda: kind(**rates)))


def _notes(old: Baseline, new: Baseline) -> Change | None:
    same = old.inputs.get("notes") == new.inputs.get("notes")
    return (
        None if same else Change("notes", ("what the strategy records about itself, such as the hashes of its models",))
    )


def _versions(old: Baseline, new: Baseline) -> Change | None:
    before, now = ({**one.inputs.get("packages", {}), **_machine(one)} for one in (old, new))
    told = [f"{name} {before.get(name, 'unknown')} -> {now.get(name, 'unknown')}" for name in _differing(before, now)]
    if old.inputs.get("backtest_sha256") != new.inputs.get("backtest_sha256"):
        told.append("the code of ib-backtest itself")
    return Change("versions", tuple(told)) if told else None


def _machine(one: Baseline) -> dict[str, str]:
    return {name: one.inputs[name] for name in ("python", "platform") if name in one.inputs}


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]


def _some(lines: Sequence[str]) -> tuple[str, ...]:
    more = [f"and {len(lines) - _SHOWN:,} more"] if len(lines) > _SHOWN else []
    return (*lines[:_SHOWN], *more)


def _word(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else "none" if value is None else str(value)
