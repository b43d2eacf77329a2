"""The fixture `backtest_regression`, which checks strategies against their baselines in any test suite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from backtest.api import RunResult
    from backtest.store.reader import Reader

# Nothing is imported before a test requests the fixture, since every start of pytest loads this module.
_ACCEPTED = "backtest_accepted"  # a property of the test, which other processes pass on too
_CHECKED = pytest.StashKey[dict[str, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("backtest", "baselines of strategies")
    group.addoption("--backtest-accept", action="store_true", help="accept the current results as baselines")
    group.addoption("--backtest-store", metavar="DIR", default="", help="folder or URL of the bars")
    parser.addini("backtest_store", "folder or URL of the bars, relative to the project root", default="data/bars")
    parser.addini("backtest_baselines", "folder of the baselines", default="strategies/baselines")


def pytest_configure(config: pytest.Config) -> None:
    """Start with no baseline checked."""
    config.stash[_CHECKED] = {}


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print which baselines were accepted."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name == _ACCEPTED:
                terminalreporter.write_line(f"baseline accepted: {value}")


@pytest.fixture
def backtest_regression(request: pytest.FixtureRequest) -> BacktestRegression:
    """Check strategies against baselines: `backtest_regression.check("strategies/x.py", "AAPL/1day", fast=10)`."""
    return BacktestRegression(request.config, request.node.user_properties)


class BacktestRegression:
    """The value of the fixture, with one method, `check`."""

    def __init__(self, config: pytest.Config, properties: list[tuple[str, object]]) -> None:
        self._config, self._properties = config, properties

    def check(
        self, strategy: str | Path | type[Any], /, *series: str, name: str = "", store: str | Path = "", **words: Any
    ) -> None:
        """
        Run a strategy, and fail if the result differs from its baseline; with --backtest-accept, save the baseline.

        Paths are relative to the root of the project, wherever pytest was started; the working directory does not
        change.

        Args:
            strategy: a file, "file.py:Name", or a class.
            series: one series or several.
            name: the name of the baseline; by default that of the strategy's file.
            store: folder or URL of the bars; by default the one in pytest's settings.
            words: arguments of `backtest.run` (cash, costs, span, params, ...), `since` and `until` as YYYY-MM-DD; any
                other is a parameter of the strategy, and so is one that the strategy has a parameter of.
        """
        from backtest.errors import BacktestError

        try:
            told = self._told(strategy, series, name, store, words)
        except BacktestError as error:
            told = str(error)
        if told:
            pytest.fail(told, pytrace=False)

    def _told(self, strategy: Any, series: Any, name: str, store: Any, words: dict[str, Any]) -> str:
        """Return the failure as text."""
        from backtest.api import run
        from backtest.baselines.drift import default_name, keep, path_of
        from backtest.engine.code.strategy import load_strategy
        from backtest.store.store import open_store

        place = store or self._config.getoption("--backtest-store") or self._config.getini("backtest_store")
        opened = open_store(place if "://" in str(place) else self._path(place))
        loaded = load_strategy(strategy, self._config.rootpath)
        asked = _arguments(loaded, words)
        if asked.get("pins"):
            asked["pins"] = self._path(asked["pins"])
        result = run(loaded, series, store=opened, **{**asked, "lines": False})
        path = path_of(name or default_name(result.spec), self._path(self._config.getini("backtest_baselines")))
        self._claim(path.stem, result.spec.key)
        if self._config.getoption("--backtest-accept"):
            keep(result, path, opened)
            self._properties.append((_ACCEPTED, self._shown(path)))
            return ""
        return self._compared(result, path, self._found(strategy), opened)

    def _path(self, path: str | Path) -> Path:
        """Return a path relative to the root of the project, as short as possible from the working directory."""
        whole = self._config.rootpath / path
        return whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole

    def _shown(self, path: Path) -> str:
        """Return a path as seen from the root of the project."""
        whole = path.absolute()
        root = self._config.rootpath
        return (whole.relative_to(root) if whole.is_relative_to(root) else path).as_posix()

    def _found(self, strategy: Any) -> Any:
        """Return a strategy by a path that is valid from here too, if it is a file below the root of the project."""
        if isinstance(strategy, type):
            return strategy
        from backtest.engine.code.strategy import file_and_class

        file, cls = file_and_class(str(strategy))
        path = self._path(file)
        return f"{path}{':' if cls else ''}{cls}" if path.is_file() else strategy

    def _compared(self, result: RunResult, path: Path, strategy: Any, store: Reader) -> str:
        from backtest.baselines.baseline import load_baseline
        from backtest.baselines.changes import Scene
        from backtest.baselines.drift import judge

        if not path.exists():
            return f"no baseline {self._shown(path)} yet; if the current result is right, {_CURE}"
        judgement = judge(load_baseline(path), path.stem, Scene(result.spec, store, strategy), result)
        return "" if judgement.fine else f"{judgement}\nIf this is intended, {_CURE}"

    def _claim(self, name: str, key: str) -> None:
        from backtest.errors import UsageError

        checked = self._config.stash[_CHECKED]
        if checked.setdefault(name, key) != key:
            raise UsageError(f"two checks of different runs share the baseline {name!r}; give one of them another name")


_CURE = "accept it and commit the file: pytest --backtest-accept"


def _arguments(strategy: Any, words: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `run`; parameters of the strategy, and names that `run` does not know, go to `params`."""
    from inspect import signature

    from backtest.api import run
    from backtest.engine.code.strategy import load_strategy

    known = signature(run).parameters.keys() - load_strategy(strategy).defaults.keys()
    since, until = (words.pop(name, None) for name in ("since", "until"))
    asked = {name: value for name, value in words.items() if name in known}
    if since or until:
        asked["span"] = (since or None, until or None)
    others = {name: value for name, value in words.items() if name not in known}
    return {**asked, "params": {**asked.get("params", {}), **others}}
