"""Arguments and options that several commands share, and their defaults."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from backtest import _arguments
from backtest._resources import bundled
from backtest.errors import UsageError
from backtest.runs.spec import Brokerage


def stored_series(ctx: typer.Context) -> list[str]:
    """Return the series in the folder that --store names."""
    from backtest.market.series import Series

    root, found = Path(ctx.params.get("store") or ""), []
    for bars in root.glob("[!.]*/*/*/*/bars"):
        with suppress(UsageError):  # not a store; `backtest verify` reports it
            series = Series.parse(bars.parent.relative_to(root).as_posix())
            # bash splits completions at spaces, so a spelling that needs quotes is offered escaped.
            found.append(series.short if series.quoted == series.short else series.short_key)
    return sorted(found)


def strategies() -> list[str]:
    """Return the bundled strategies, and the Python files here and in strategies/."""
    ours = [path.stem for path in bundled("strategies").glob("*.py")]
    return sorted(ours) + sorted(
        path.as_posix() for folder in (".", "strategies") for path in Path(folder).glob("*.py")
    )


def kept_runs(root: str) -> list[str]:
    """Return the names of the runs in a folder."""
    from backtest.runs.kept import kept

    return sorted(run.name for run in kept(root))


def templates() -> list[str]:
    """Return the templates of `backtest new`."""
    folders = (Path(__file__).parents[1] / "onboarding" / "templates").iterdir()
    return sorted(path.name for path in folders if path.name != "every")


STORE = "data/bars"
RUNS = "runs"


def runs_here() -> list[str]:
    """Return the names of the saved runs, for a shell to complete."""
    return kept_runs(RUNS)


StrategyArgument = Annotated[
    str,
    typer.Argument(
        metavar="STRATEGY", help="file.py:Name, or the name of a bundled strategy.", autocompletion=strategies
    ),
]
RunArgument = Annotated[
    str,
    typer.Argument(metavar="RUN", help="Folder of a saved run, or its name in runs/.", autocompletion=runs_here),
]
SeriesArgument = Annotated[
    list[str],
    typer.Argument(metavar="SERIES", help="One series or several, such as AAPL/1day.", autocompletion=stored_series),
]
ListedSeriesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="SERIES",
        help="Series such as AAPL/1day, or @FILE, a list with one series per line or a universe file.",
        autocompletion=stored_series,
    ),
]
AnySeriesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SERIES",
        help="Series such as AAPL/1day. Default: all series in the store.",
        autocompletion=stored_series,
    ),
]
StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="BACKTEST_STORE",
        help="Store to read: a folder, s3://BUCKET/PREFIX, or sample (the bundled bars).",
    ),
]
WrittenStoreOption = Annotated[str, typer.Option("--store", envvar="BACKTEST_STORE", help="Folder of the store.")]
SourceOption = Annotated[
    str,
    typer.Option(
        "--source", envvar="BACKTEST_SOURCE", help="ib://HOST:PORT[?client_id=N], emulator:FOLDER or csv:FOLDER."
    ),
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Strategy parameter, such as fast=10 or average=bt.ind.EMA. Repeatable."),
]
SinceOption = Annotated[str, typer.Option("--since", help="First session, YYYY-MM-DD.")]
UntilOption = Annotated[str, typer.Option("--until", help="Last session (inclusive), YYYY-MM-DD.")]
CashOption = Annotated[float, typer.Option("--cash", help="Initial cash.")]
BenchmarkOption = Annotated[str, typer.Option("--benchmark", help="Benchmark series.", autocompletion=stored_series)]
PeriodsOption = Annotated[
    float,
    typer.Option(
        "--periods", min=0, help="Periods per year for annualising; 0 derives them from bar size and calendar."
    ),
]
RiskFreeOption = Annotated[float, typer.Option("--risk-free", help="Annual risk-free rate; 0.02 is 2 %.")]
LockOption = Annotated[str, typer.Option("--lock", help="Lock file with the pins; commit it.")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace another run saved in the --out folder, including its page and labels.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


# A decorator of commands that take `**brokerage: Unpack[BrokerageOptions]`: an option for each field of `Brokerage`.
takes_brokerage = _arguments.spelled_out(
    {one.name: Annotated[type(one.default), typer.Option(help=one.metadata["words"])] for one in fields(Brokerage)},
    {one.name: one.default for one in fields(Brokerage)},
    evaluate=True,
)


def state_folder() -> Path:
    """Return the folder that keeps request budgets and learnt limits between commands."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ib-backtest"


def environment() -> dict[str, str]:
    """Return a copy of the environment, for a program that a command starts."""
    return dict(os.environ)
