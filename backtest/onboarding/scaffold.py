"""`scaffold`: create a project folder from a template, whose tests pass as it is."""

from __future__ import annotations

import keyword
import re
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from backtest._resources import bundled
from backtest._suggest import did_you_mean
from backtest.api import run
from backtest.baselines.drift import keep
from backtest.engine.code.imports import is_shared
from backtest.engine.code.strategy import load_strategy
from backtest.errors import UsageError
from backtest.market.series import Series
from backtest.store.pins import add
from backtest.store.replacement import finish, is_leftover, staged
from backtest.store.store import Store


@dataclass(frozen=True, slots=True)
class Template:
    """The start of a project: a bundled strategy, the series that it trades, its idea in a few words."""

    strategy: str
    series: tuple[str, ...]
    idea: str


TEMPLATES = {
    "trend": Template("sma_cross", ("IBM/1day",), "one series and two averages"),
    "pairs": Template("pairs", ("AAPL/1day", "MSFT/1day"), "two series against each other"),
    "rotation": Template(
        "cross_sectional_momentum",
        ("AAPL/1day", "GOOG/1day", "IBM/1day", "MSFT/1day"),
        "the strongest of several series",
    ),
}
SERIES = ("AAPL/1day", "GOOG/1day", "IBM/1day", "MSFT/1day")  # the bars of a new folder

_FILES = Path(__file__).parent / "templates"  # a folder per template, and `every` for the files that all have
_LOCK = Path("data.lock")
_YOURS = """\
This file started as `{strategy}` and is yours to change. `params` holds the parameters, `__init__` sets up the
indicators, and `next`, which is called at each bar's close, decides when to buy and sell.
`tests/test_strategies.py` defines the behaviour: change the rule there first, or accept the new results."""


def scaffold(folder: str | Path, template: str = "trend") -> list[Path]:
    """
    Create a folder with a strategy of the same name, its tests, bars and baseline, a notebook and a CI workflow.

    Returns:
        The files, relative to the folder, without those of the store.

    Raises:
        UsageError: the folder is not empty, Python cannot import its name, or there is no such template.
    """
    target, chosen = Path(folder), _template(template)
    name = target.resolve().name
    _check_name(name)
    texts = {path.replace("my_strategy", name): text for path, text in _texts(name, template, chosen)}
    files = sorted([*map(Path, texts), _LOCK, _baseline(name)])
    if not (finish(target) and all((target / path).exists() for path in files)):  # else a killed process made all
        _check_empty(target)
        with staged(target) as begun:
            for path, text in texts.items():
                (begun / path).parent.mkdir(parents=True, exist_ok=True)
                (begun / path).write_text(text, encoding="utf-8")
            _accept(begun, name, chosen)
    return [target / path for path in files]


def _template(name: str) -> Template:
    if name in TEMPLATES:
        return TEMPLATES[name]
    has = ", ".join(f"{key} ({one.idea})" for key, one in TEMPLATES.items())
    raise UsageError(f"no template {name!r}; choose from {has}{did_you_mean(name, TEMPLATES)}")


def _check_name(name: str) -> None:
    good = _good_name(name)
    if _is_taken(name):
        raise UsageError(f"{name!r} is the name of an installed package; call it {good}, or something else")
    if name != good:
        raise UsageError(f"{name!r} cannot be imported as a strategy's file; call it {good}")


def _good_name(name: str) -> str:
    """Return the nearest valid module name: lower-case letters, digits and underscores, not a Python keyword."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    good = re.sub(r"[^a-z0-9]+", "_", words).strip("_")
    if not good or keyword.iskeyword(good) or keyword.iskeyword(_class_name(good)) or _is_taken(good):
        return f"{good}_strategy".strip("_")
    return good if good[0].isalpha() else f"strategy_{good}"


def _is_taken(name: str) -> bool:
    """Return whether a file of this name would hide a module from the strategy's tests."""
    if name in (*sys.stdlib_module_names, "backtest"):
        return True
    spec = PathFinder.find_spec(name, [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *sys.path])
    return spec is not None and is_shared(spec)


def _class_name(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def _check_empty(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a new folder")
    if folder.exists() and any(path.name != ".git" and not is_leftover(path.name) for path in folder.iterdir()):
        raise UsageError(f"{folder} is not empty, and existing files are never overwritten; name a new folder")


def _texts(name: str, template: str, chosen: Template) -> Iterator[tuple[str, str]]:
    """Yield path and text of each file that has a template, the strategy's first."""
    source = (bundled("strategies") / f"{chosen.strategy}.py").read_text("utf-8")
    yield f"strategies/{name}.py", _own(source, name, chosen.strategy)
    words = {
        "my_strategy": name,
        "MyStrategy": _class_name(name),
        "MY_SERIES": str(list(chosen.series)),
        "MY/SERIES": " ".join(chosen.series),
    }
    for folder in (_FILES / "every", _FILES / template):
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"):
            text = path.read_text("utf-8")
            for word, meant in words.items():
                text = text.replace(word, meant)
            yield path.relative_to(folder).as_posix(), text


def _own(source: str, name: str, strategy: str) -> str:
    """Return the source of a strategy under another name, with a note on what to change."""
    old = load_strategy(strategy).cls.__name__
    first, _, rest = source.partition("\n")
    idea = first.strip('"')
    return f'"""\n{idea}\n\n{_YOURS.format(strategy=strategy)}\n"""\n' + re.sub(rf"\b{old}\b", _class_name(name), rest)


def _accept(folder: Path, name: str, chosen: Template) -> None:
    """Add bars, pins and a baseline to a folder."""
    store = Store(folder / "data" / "bars")
    for one in map(Series.parse, SERIES):
        _copy(one, store)
    add(store, folder / _LOCK, store.series())
    result = run(load_strategy(f"strategies/{name}.py", folder), list(chosen.series), store=store, lines=False)
    keep(result, folder / _baseline(name), store)


def _baseline(name: str) -> Path:
    return Path("strategies") / "baselines" / f"{name}.json"


def _copy(series: Series, store: Store) -> None:
    """Write the sample's bars of a series, under the dates and with the contract that the sample has."""
    sample = Store(bundled("sample"))
    manifest = sample.manifest(series)
    for answer in manifest.answers:
        store.write(
            series,
            answer.span,
            sample.read(series, answer.span),
            source=answer.source,
            text=answer.text,
            contract=manifest.contract,
            at=answer.at,
        )
