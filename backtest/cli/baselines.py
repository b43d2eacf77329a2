"""Commands about baselines."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from backtest.cli.options import RUNS, STORE, JsonOption, RunArgument, StoreOption
from backtest.cli.run_tables import give_baselines, give_reproduced, give_saved
from backtest.cli.terminal import say
from backtest.errors import UsageError


class BaselineAction(StrEnum):
    """What `baseline` does."""

    save = "save"
    check = "check"
    diff = "diff"
    accept = "accept"


def baseline(
    action: Annotated[
        BaselineAction,
        typer.Argument(
            metavar="ACTION",
            help="save: save a run as a baseline; check: run it again; diff: show all changes; accept: accept them.",
        ),
    ],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Runs to save, or baselines. Default: all.")
    ] = None,
    folder: Annotated[str, typer.Option(help="Folder of the baselines; commit it.")] = "strategies/baselines",
    name: Annotated[str, typer.Option("--name", help="Name of the saved baseline. Default: the strategy's name.")] = "",
    markdown: Annotated[
        str, typer.Option("--markdown", help="Write a Markdown summary, such as for a pull request, to this file.")
    ] = "",
    jobs: Annotated[int, typer.Option(min=1, help="For check and diff: number of processes.")] = 1,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """
    Regression-test strategies: show which results changed, the order and date at which they first differ, and why.
    Exit code 1 if any changed.

    Example: backtest baseline save SmaCross-AAPL --folder baselines --store sample
    """
    from backtest.api import RunResult
    from backtest.baselines.drift import accept_kept, check_kept, save_runs
    from backtest.baselines.drift import markdown as summary
    from backtest.runs.kept import locate
    from backtest.store.replacement import replace_file
    from backtest.store.store import open_store

    if jobs > 1 and action not in (BaselineAction.check, BaselineAction.diff):
        raise UsageError(f"--jobs {jobs} only applies to check and diff, and this is {action.value}; leave it out")
    target = open_store(store)
    if action is BaselineAction.save:
        if not names:
            raise UsageError("no run to save; name one; to list them: backtest runs ls")
        paths = save_runs([RunResult.load(locate(RUNS, one)) for one in names], folder, target, name)
        give_saved(paths, as_json)
        return
    if action is BaselineAction.accept:
        judgements = accept_kept(names or [], folder, target)
    else:
        judgements = check_kept(names or [], folder, target, jobs)
    give_baselines(judgements, action is BaselineAction.diff, as_json)
    if markdown:
        replace_file(markdown, summary(judgements).encode(), named=True)
    if not all(judgement.fine for judgement in judgements):
        say("error: results changed; if this is intended, accept them: backtest baseline accept")
        raise typer.Exit(1)


def reproduce(
    run_name: RunArgument,
    strategy: Annotated[str, typer.Option(help="file.py:Name, if the file is no longer at its original path.")] = "",
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """
    Run a saved run again and compare the results; if they differ, show the first difference, its date, and why.

    Exit code 0: the results are equal. 1: they differ, or the run now fails.

    Example: backtest reproduce SmaCross-AAPL --store sample
    """
    from backtest.api import RunResult
    from backtest.baselines.drift import reproduce as run_again
    from backtest.runs.kept import locate
    from backtest.store.store import open_store

    result = RunResult.load(locate(RUNS, run_name))
    judgement = run_again(result, result.label, open_store(store), strategy)
    give_reproduced(judgement, as_json)
    if not judgement.fine:
        raise typer.Exit(1)
