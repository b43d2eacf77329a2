"""The inputs of a run: bars, code, models, costs, versions; never a path, a user, a host or a secret."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backtest._resources import installed_version, own_source
from backtest.engine.account.commissions import Costs
from backtest.engine.account.schedules import costs_for, row_of
from backtest.engine.code.imports import (
    ImportSpace,
    came_along,
    changed,
    imported_names,
    package_of,
    reached,
    source_digest,
)
from backtest.engine.code.reach import reach_of
from backtest.engine.code.strategy import Strategy, live_parameters
from backtest.market import arrays
from backtest.market.bars import rows_digest
from backtest.market.series import Series
from backtest.runs.parameters import names_in
from backtest.store.reader import Reader, are_of_frames

if TYPE_CHECKING:
    import pyarrow as pa

    from backtest.runs.spec import RunSpec

_PACKAGES = ("ib-backtest", "backtrader", "pyarrow", "numpy", "pandas")
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}  # others are mostly named as they are imported
_MISSING = "not installed"
_SECONDS = 10  # seconds that git may take, such as on a network disk


def describe(spec: RunSpec, bars: Mapping[Series, pa.Table], store: Reader, costs: Costs) -> dict[str, Any]:
    """Return the manifest of a run as JSON values, without its code; empty entries are omitted."""
    found = {
        "series": {one.key: _bars(table) for one, table in bars.items()},
        "store": {one.key: _stored(store, one) for one in bars},
        "costs": {**describe_costs(costs), **_by_product(spec, costs)},
        "frame": are_of_frames(store) or None,  # whose bars only the caller has
        "seed": spec.flat["params"].get("seed"),  # a run draws nothing by itself
        "backtest_sha256": own_source(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    return {key: value for key, value in found.items() if value not in ({}, None)}


def describe_rates(told: Mapping[str, Any], bars: Mapping[Series, pa.Table], store: Reader) -> dict[str, Any]:
    """Return the manifest's entry on exchange rates, which includes the bars that were used."""
    return {
        "currencies": dict(told),
        "series": {one.key: _bars(table) for one, table in bars.items()},
        "store": {one.key: _stored(store, one) for one in bars},
    }


def describe_code(strategy: Strategy, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest's entry on a strategy's code; after the run, which may import more."""
    home, modules = source_file(strategy), module_files(strategy, params)
    code = [file for file in (home, *modules.values()) if file and file.is_file()]
    found = {
        "strategy": {"name": strategy.name, "sha256": strategy.source},
        "modules": module_hashes(strategy, params),
        "git": _commit(code) if home else {},
        "packages": {name: _version(name) for name in (*_PACKAGES, *_packages(code))},
    }
    return {key: value for key, value in found.items() if value != {}}


def module_files(strategy: Strategy, params: Mapping[str, Any] | None = None) -> dict[str, Path]:
    """
    Return the modules that a strategy imports, directly or indirectly, without those of packages.

    This includes modules that it imports only while it runs, as far as its text names them, and those of classes and
    functions among its parameters.
    """
    home, space = source_file(strategy), strategy.space
    beside = _space_beside(home.parent if home else Path.cwd(), Path.cwd())
    locate = space.located if space is not None else partial(_located, beside=beside)
    loaded = {name: file for name, (file, _) in space.sources.items()} if space else dict(strategy.files)
    for name in _modules_named(params or {}):
        loaded |= {one: file for one, (file, _) in locate(name).items()}
    package = space.package if space else _package(strategy)
    found = reached(home, package, locate, {name: file for name, file in loaded.items() if file != home})
    known = {name: file for name, file in found.items() if file.is_file() or (space and name in space.sources)}
    if home and came_along(str(home)):
        return known
    return {name: file for name, file in known.items() if not came_along(str(file))}


def module_hashes(strategy: Strategy, params: Mapping[str, Any] | None = None) -> dict[str, str]:
    """
    Return the SHA-256 of each of `module_files`: of the loaded source, if there is one.

    A parameter that was typed at a prompt or in a notebook has its own entry, by its name.
    """
    loaded = strategy.space.sources if strategy.space else {}
    found = {
        name: loaded[name][1] if name in loaded else _hash(file, changed(file))
        for name, file in module_files(strategy, params).items()
    }
    typed = {one.name: one for one in names_in(list((params or {}).values())) if _is_typed(one.name)}
    live = live_parameters(strategy, typed)
    return dict(sorted((found | {name: reach_of(thing).digest for name, thing in live.items()}).items()))


def _is_typed(name: str) -> bool:
    """Return whether the object of a name was typed at a prompt or in a notebook, or is in the running script."""
    module = name.partition(":")[0]
    if ":" not in name or module == "" or module.partition(".")[0] in sys.stdlib_module_names - {"__main__"}:
        return False
    loaded = sys.modules.get(module)
    return module == "__main__" or (loaded is not None and getattr(loaded, "__file__", None) is None)


def _modules_named(params: Mapping[str, Any]) -> list[str]:
    """Return the modules of the classes and functions among parameters."""
    modules = [one.name.partition(":")[0] for one in names_in(list(params.values())) if ":" in one.name]
    return [name for name in dict.fromkeys(modules) if name not in ("", "__main__")]


def source_file(strategy: Strategy) -> Path | None:
    """Return the file that defines a strategy; None for one typed at a prompt."""
    if strategy.space and strategy.space.home:
        return Path(str(strategy.space.home.__file__))
    file = getattr(sys.modules.get(strategy.cls.__module__), "__file__", None)
    return Path(file) if file and Path(file).is_file() else None


def describe_costs(row: Costs) -> dict[str, Any]:
    """Return the description of costs, with their date and rates."""
    words = {key: value for key, value in asdict(row).items() if isinstance(value, str | int | float)}
    return {**words, "rates": rates(row.make())}


def _by_product(spec: RunSpec, costs: Costs) -> dict[str, Any]:
    """Return the charges of each series, if they differ from those that the costs' name gives for US stocks."""
    products = {}
    for series in map(Series.parse, spec.series):
        if (row := row_of(costs, series)) is not None:
            told = {"source": row.source, "standing": row.standing}
            products[series.key] = describe_costs(costs_for(costs, series)) | told
    return {"products": products} if products else {}


def rates(commission: Any) -> dict[str, Any]:
    """Return the parameters of a Backtrader commission that are numbers or texts."""
    every = commission.p._getkwargs() if hasattr(commission, "p") else {}
    return {key: value for key, value in sorted(every.items()) if isinstance(value, str | int | float)}


# --- bars


def _bars(table: pa.Table) -> dict[str, Any]:
    time = table["time"]
    first, last = (_moment(int(arrays.numbers(time.slice(at, 1))[0])) for at in (0, len(time) - 1))
    return {"rows_sha256": rows_digest(table), "bars": len(table), "from": first, "to": last}


@lru_cache(maxsize=256)  # many series begin or end at the same time
def _moment(microseconds: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)).isoformat()


def _stored(store: Reader, series: Series) -> dict[str, Any]:
    manifest = store.manifest(series)
    revision = manifest.pruned + len(manifest.revisions)
    return {"revision": revision, "answered": "; ".join(map(str, manifest.coverage))}


# --- code


def _packages(code: Sequence[Path]) -> list[str]:
    """Return the further installed packages that a strategy's files import."""
    tops = {name.partition(".")[0] for file in code for name in imported_names(file, "", changed(file))}
    named = {_DISTRIBUTIONS.get(top, top) for top in tops - sys.stdlib_module_names - {"backtest"}}
    return sorted(name for name in named - {*_PACKAGES} if _version(name) != _MISSING)


def _package(strategy: Strategy) -> str:
    return getattr(sys.modules.get(strategy.cls.__module__), "__package__", None) or ""


def _located(name: str, beside: ImportSpace) -> dict[str, tuple[Path, str]]:
    """Return file and package of the modules that a name refers to, loaded or not, in a class from Python."""
    file = _local_file(name)
    return {name: (file, package_of(name, file))} if file else beside.located(name)


@lru_cache(maxsize=64)
def _space_beside(folder: Path, root: Path) -> ImportSpace:
    """Return the space that finds modules, not loaded yet, of a class from Python; it loads none of them."""
    return ImportSpace(folder / "__main__.py", root)


def _local_file(name: str) -> Path | None:
    """Return the file of a loaded module, unless it belongs to Python, an installed package, or this package."""
    file, top = getattr(sys.modules.get(name), "__file__", None), name.partition(".")[0]
    if not file or not file.endswith(".py") or top == "backtest" or top in sys.stdlib_module_names:
        return None
    return None if came_along(file) or not Path(file).is_file() else Path(file)


@cache
def _hash(file: Path, changed: tuple[int, int]) -> str:
    return source_digest(file.read_bytes())


@cache  # the environment, which a run does not change
def _version(name: str) -> str:
    if known := _versions().get(_plain(name)):
        return known
    return installed_version(name) or _MISSING


@cache
def _versions() -> dict[str, str]:
    """
    Return the versions of installed packages, from the names of pip's metadata folders.

    `importlib.metadata` knows more, but parses an e-mail header for each package: a fortieth of the time of a first
    run.
    """
    found: dict[str, str] = {}
    for folder in filter(os.path.isdir, sys.path):
        for entry in (one.name for one in os.scandir(folder)):
            name, _, version = entry.removesuffix(".dist-info").partition("-")
            if entry.endswith(".dist-info"):
                found.setdefault(_plain(name), version)
    return found


def _plain(name: str) -> str:
    """Return the normalised name of a distribution: by PEP 503, and as it appears in folder names."""
    return name.lower().replace("-", "_").replace(".", "_")


# --- git


def _commit(code: Sequence[Path]) -> dict[str, Any]:
    """Return the commit of the repository of these files, and whether they differ from it; nothing without git."""
    if not code or came_along(str(code[0])):
        return {}
    root = next((folder for folder in code[0].resolve().parents if (folder / ".git").exists()), None)
    if root is None:
        return {}
    inside = [str(file.resolve()) for file in code if root in file.resolve().parents]
    return dict(_status(root, tuple(inside), _state(root, code)))


def _state(root: Path, files: Sequence[Path]) -> tuple[tuple[int, int], ...]:
    """Return the times of the last commit, the index and the files: as long as they stay, so does the answer."""
    marks = [root / ".git" / name for name in ("logs/HEAD", "HEAD", "index")]
    return tuple(changed(one) for one in (*marks, *files) if one.exists())


@cache  # git takes 10 ms, a run may take 40
def _status(root: Path, files: tuple[str, ...], state: tuple[tuple[int, int], ...]) -> tuple[tuple[str, Any], ...]:
    said = git(root, "status", "--porcelain=v2", "--branch", "--untracked-files=all", "--", *files)
    lines = said.decode(errors="replace").splitlines()
    commit = [line.split()[-1] for line in lines if line.startswith("# branch.oid ")]
    dirty = any(not line.startswith("#") for line in lines)
    return (("commit", commit[0]), ("dirty", dirty)) if commit and commit[0] != "(initial)" else ()


def git(root: Path, *words: str) -> bytes:
    """Return the output of git in a folder; nothing if it fails or is not installed."""
    import subprocess

    # A repository's own settings could name programs to start; and a query must not write the index.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", *words]
    try:
        return subprocess.run(command, cwd=root, capture_output=True, timeout=_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return b""
